//! Merges the project's file over the operator's own.
//!
//! The project's file overrides the operator's entry by entry, but only as far as it is stricter: if both set something
//! that bounds a run, and the project's value allows more, the operator's stays in force until the lift is accepted
//! (see [`trust`](super::trust)). So a project cannot raise a limit, a grant or a rate that the operator wrote down,
//! keep more in the journal, or replace a plugin that the operator chose. A limit that the operator's file does not
//! mention is bounded by its default in the same way. Everything else that the operator's file does not mention may be
//! set by the project.
//!
//! In this module, `yours` are the operator's values, `theirs` the project's.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::compile::RawCompile;
use super::file::{Layer, RawGrant, RawJournal, RawProvider, RawRun};
use super::origin::Origins;
use super::trust::lifts::{Lift, TrustedLift};
use crate::dirs::{DirGrant, DirQuota};
use crate::settings::{
    BodyRetention, LOG_BYTES, MAX_RUN_BYTES, MaxTokensField, RegistryConfig, RequestField, SubAgent,
};
use agenthost_core::limits::units::show_bytes;
use agenthost_core::limits::{Cap, DEFAULT_CONCURRENT_TASKS, DEFAULT_RUN_MEMORY, Limits, LimitsPatch};

/// The lifts that take effect.
pub(super) enum Accepted {
    /// These lifts.
    Some(Vec<TrustedLift>),
    /// All of them, to show what the file asks for.
    All,
}

/// Both files merged, with the lifts that the project's file asks for.
pub(super) struct Merged {
    pub(super) layer: Layer,
    pub(super) lifts: Vec<Lift>,
}

/// Merges `upper` over `lower`.
pub(super) fn merge(lower: Layer, upper: Layer, accepted: &Accepted) -> Merged {
    let lower_origins = lower.origins.clone();
    let mut origins = lower.origins;
    let mut merger = Merger {
        accepted,
        upper_origins: upper.origins.clone(),
        lifts: Vec::new(),
    };
    let mut providers = lower.providers;
    let mut kept = Vec::new();
    for (name, over) in upper.providers {
        let under = providers.remove(&name).unwrap_or_default();
        let same_key = over.key.is_some() && over.key == under.key;
        // The fields of another kind mean nothing to this one.
        let keeps = over.kind.is_none_or(|kind| kind.keeps_settings(&name, under.kind));
        if !keeps {
            forget(&mut origins, &format!("providers.{name}."));
        } else if same_key {
            // The project's file repeats the operator's key, so the operator's entry remains the origin.
            kept.extend(["key-env", "key-file"].map(|key| format!("providers.{name}.{key}")));
        } else if over.key.is_some() {
            origins.remove(&format!("providers.{name}.key-env"));
            origins.remove(&format!("providers.{name}.key-file"));
        }
        let merged = match keeps {
            true => {
                let over = merger.provider(&name, over, &under);
                over_fields(over, under)
            }
            false => over,
        };
        providers.insert(name, merged);
    }
    for name in upper.prices.keys() {
        forget(&mut origins, &format!("prices.{name}."));
    }
    for name in upper.schedules.keys() {
        forget(&mut origins, &format!("schedules.{name}."));
    }
    // An entry of the upper file replaces these two lists, so their places in the lower file no longer apply.
    for name in upper.grants.keys() {
        for key in ["dirs", "server-tools"] {
            origins.remove(&format!("grants.{name}.{key}"));
        }
    }
    let price_floors = lower.prices.clone();
    let granted = lower.grants.iter();
    let granted = granted.map(|(plugin, grant)| (plugin.clone(), grant.server_tools.clone()));
    let own_server_tools = granted.collect();
    origins.extend(upper.origins);
    for entry in kept {
        origins.extend(lower_origins.get(&entry).map(|origin| (entry, origin.clone())));
    }
    let layer = Layer {
        models: over_entries(lower.models, upper.models),
        providers,
        limits: merger.limits("limits", lower.limits, upper.limits, &Limits::task_default()),
        reply_tokens: merger.most("limits.reply-tokens", lower.reply_tokens, upper.reply_tokens),
        run: merger.run(lower.run, upper.run),
        // Both apply, each to what it counts, so the project's can only narrow.
        allowance: lower.allowance,
        project_allowance: upper.allowance,
        // Resolved from both files before they are merged.
        compile: RawCompile::default(),
        journal: merger.journal(lower.journal, upper.journal),
        own_server_tools,
        grants: merger.entries("grants", lower.grants, upper.grants, Merger::grant),
        sub_agents: merger.entries(
            "sub-agents",
            lower.sub_agents,
            upper.sub_agents,
            |merger, entry, yours, theirs| merger.same(entry, yours, theirs, show_sub_agent),
        ),
        prices: over_entries(lower.prices, upper.prices),
        price_floors,
        registries: merger.entries(
            "registries",
            lower.registries,
            upper.registries,
            |merger, entry, yours, theirs| merger.same(entry, yours, theirs, show_registry),
        ),
        // All policies apply, whichever file names them.
        policies: [lower.policies, upper.policies].concat(),
        // The operator has to accept each schedule of a project's file, so it replaces none unnoticed.
        schedules: over_entries(lower.schedules, upper.schedules),
        origins,
    };
    let mut lifts = merger.lifts;
    lifts.sort_by(|a, b| a.trusted.entry.cmp(&b.trusted.entry));
    let mut layer = layer;
    for lift in lifts.iter().filter(|lift| !lift.accepted) {
        let entry = &lift.trusted.entry;
        match lower_origins.get(entry) {
            Some(origin) => layer.origins.insert(entry.clone(), origin.clone()),
            // The default applies.
            None => layer.origins.remove(entry),
        };
    }
    Merged { layer, lifts }
}

struct Merger<'a> {
    accepted: &'a Accepted,
    upper_origins: Origins,
    lifts: Vec<Lift>,
}

impl Merger<'_> {
    /// Records a lift, and returns whether it was accepted. Otherwise `yours` applies.
    fn lifts(&mut self, entry: &str, yours: String, theirs: String) -> bool {
        self.lifts_beyond(entry, yours, theirs, None)
    }

    /// Like `lifts`, but if the lift is not accepted, `both` applies: the part of `theirs` that `yours` allows.
    fn lifts_beyond(&mut self, entry: &str, yours: String, theirs: String, both: Option<String>) -> bool {
        let trusted = TrustedLift {
            entry: entry.to_owned(),
            yours,
            theirs,
        };
        let accepted = match self.accepted {
            Accepted::All => true,
            Accepted::Some(known) => known.contains(&trusted),
        };
        self.lifts.push(Lift {
            origin: self.upper_origins.get(entry).cloned(),
            trusted,
            both,
            accepted,
        });
        accepted
    }

    /// Returns `theirs` if it is set and allows no more than `yours`, or if the lift is accepted; otherwise `yours`.
    fn hold<T>(
        &mut self,
        entry: &str,
        yours: Option<T>,
        theirs: Option<T>,
        allows_more: impl Fn(&T, &T) -> bool,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        self.hold_default(entry, yours, None, theirs, allows_more, show)
    }

    /// Like `hold`, but if `yours` is `None`, `theirs` is compared with `usual`.
    fn hold_default<T>(
        &mut self,
        entry: &str,
        yours: Option<T>,
        usual: Option<T>,
        theirs: Option<T>,
        allows_more: impl Fn(&T, &T) -> bool,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let Some(theirs) = theirs else {
            return yours;
        };
        let whose = if yours.is_some() { "" } else { "default " };
        let more = match yours.as_ref().or(usual.as_ref()) {
            Some(most) if allows_more(&theirs, most) => Some(format!("{whose}{}", show(most))),
            _ => None,
        };
        match more.is_none_or(|most| self.lifts(entry, most, show(&theirs))) {
            true => Some(theirs),
            false => yours,
        }
    }

    /// Returns the smaller number, or `theirs` if the lift is accepted.
    fn most<T: Ord + Display>(&mut self, entry: &str, yours: Option<T>, theirs: Option<T>) -> Option<T> {
        self.most_default(entry, yours, None, theirs)
    }

    /// Like `most`, but if `yours` is `None`, `theirs` is compared with `usual`.
    fn most_default<T: Ord + Display>(
        &mut self,
        entry: &str,
        yours: Option<T>,
        usual: Option<T>,
        theirs: Option<T>,
    ) -> Option<T> {
        self.hold_default(
            entry,
            yours,
            usual,
            theirs,
            |theirs, yours| theirs > yours,
            ToString::to_string,
        )
    }

    /// Returns `yours` unless `theirs` is equal or the lift is accepted.
    fn same<T: PartialEq>(&mut self, entry: &str, yours: T, theirs: T, show: impl Fn(&T) -> String) -> T {
        match theirs == yours || self.lifts(entry, show(&yours), show(&theirs)) {
            true => theirs,
            false => yours,
        }
    }

    fn cap<T: Ord>(
        &mut self,
        entry: &str,
        yours: Option<Cap<T>>,
        usual: Option<T>,
        theirs: Option<Cap<T>>,
        show: impl Fn(&T) -> String,
    ) -> Option<Cap<T>> {
        let more = |theirs: &Cap<T>, yours: &Cap<T>| match (theirs, yours) {
            (Cap::Unlimited, Cap::At(_)) => true,
            (Cap::At(theirs), Cap::At(yours)) => theirs > yours,
            (_, Cap::Unlimited) => false,
        };
        let show = |cap: &Cap<T>| match cap {
            Cap::At(value) => show(value),
            Cap::Unlimited => "none".to_owned(),
        };
        self.hold_default(entry, yours, usual.map(Cap::At), theirs, more, show)
    }

    /// Merges two tables of limits. A limit that `yours` does not set is compared with `usual`.
    fn limits(&mut self, table: &str, yours: LimitsPatch, theirs: LimitsPatch, usual: &Limits) -> LimitsPatch {
        let entry = |key: &str| format!("{table}.{key}");
        LimitsPatch {
            tokens: self.cap(
                &entry("tokens"),
                yours.tokens,
                usual.tokens,
                theirs.tokens,
                u64::to_string,
            ),
            cost: self.cap(&entry("cost"), yours.cost, usual.cost, theirs.cost, ToString::to_string),
            calls: self.cap(&entry("calls"), yours.calls, usual.calls, theirs.calls, u64::to_string),
            fuel: self.cap(&entry("fuel"), yours.fuel, usual.fuel, theirs.fuel, u64::to_string),
            memory: self.cap(&entry("memory"), yours.memory, usual.memory, theirs.memory, |bytes| {
                show_bytes(*bytes)
            }),
            timeout: self.cap(
                &entry("timeout"),
                yours.timeout,
                usual.timeout,
                theirs.timeout,
                |time: &Duration| format!("{time:?}"),
            ),
            tasks: self.cap(&entry("tasks"), yours.tasks, usual.tasks, theirs.tasks, u64::to_string),
            depth: self.cap(&entry("depth"), yours.depth, usual.depth, theirs.depth, u32::to_string),
        }
    }

    fn run(&mut self, mut yours: RawRun, mut theirs: RawRun) -> RawRun {
        let most = yours.limits.memory.take();
        let asked = theirs.limits.memory.take();
        let mut limits = self.limits("run.limits", yours.limits, theirs.limits, &Limits::none());
        let (memory, memory_within_default) = self.run_memory(most, asked);
        limits.memory = memory;
        RawRun {
            strict_tokens: self.hold(
                "run.strict-tokens",
                yours.strict_tokens,
                theirs.strict_tokens,
                |theirs, yours| *yours && !*theirs,
                bool::to_string,
            ),
            max_concurrent_tasks: self.most_default(
                "run.max-concurrent-tasks",
                yours.max_concurrent_tasks,
                Some(DEFAULT_CONCURRENT_TASKS),
                theirs.max_concurrent_tasks,
            ),
            log_bytes: self.most_default("run.log-bytes", yours.log_bytes, Some(LOG_BYTES), theirs.log_bytes),
            limits,
            memory_within_default,
        }
    }

    /// Returns the memory limit of a run, and whether the machine's default bounds it as well. That default varies with
    /// the machine and over time, so only a limit above it on every machine is a lift.
    fn run_memory(&mut self, yours: Option<Cap<u64>>, theirs: Option<Cap<u64>>) -> (Option<Cap<u64>>, bool) {
        let entry = "run.limits.memory";
        let Some(theirs) = theirs.filter(|_| yours.is_none()) else {
            return (self.cap(entry, yours, None, theirs, |bytes| show_bytes(*bytes)), false);
        };
        let shown = match theirs {
            Cap::At(bytes) if bytes <= DEFAULT_RUN_MEMORY => return (Some(theirs), true),
            Cap::At(bytes) => show_bytes(bytes),
            Cap::Unlimited => "none".to_owned(),
        };
        match self.lifts(entry, "default for this machine".to_owned(), shown) {
            true => (Some(theirs), false),
            false => (None, false),
        }
    }

    fn journal(&mut self, yours: RawJournal, theirs: RawJournal) -> RawJournal {
        let kept = |bodies: &BodyRetention| match bodies {
            BodyRetention::None => 0,
            BodyRetention::Replies => 1,
            BodyRetention::All => 2,
        };
        let show = |bodies: &BodyRetention| {
            match bodies {
                BodyRetention::None => "none",
                BodyRetention::Replies => "replies",
                BodyRetention::All => "all",
            }
            .to_owned()
        };
        RawJournal {
            // Recording runs that the operator wants unrecorded is as bad as the reverse.
            enabled: self.hold(
                "journal.enabled",
                yours.enabled,
                theirs.enabled,
                |theirs, yours| theirs != yours,
                bool::to_string,
            ),
            // `check_journal` has verified that a project's journal is below the project's folder.
            file: theirs.file.or(yours.file),
            bodies: self.hold(
                "journal.bodies",
                yours.bodies,
                theirs.bodies,
                |theirs, yours| kept(theirs) > kept(yours),
                show,
            ),
            // A plugin that came with the project could fill the disk, so the default bounds the project's value.
            max_run_bytes: self.cap(
                "journal.max-run-bytes",
                yours.max_run_bytes,
                Some(MAX_RUN_BYTES),
                theirs.max_run_bytes,
                |bytes| show_bytes(*bytes),
            ),
        }
    }

    /// Merges the rates and bounds of a provider that is in both files.
    fn provider(&mut self, name: &str, theirs: RawProvider, yours: &RawProvider) -> RawProvider {
        let entry = |key: &str| format!("providers.{name}.{key}");
        RawProvider {
            requests_per_minute: self.most(
                &entry("requests-per-minute"),
                yours.requests_per_minute,
                theirs.requests_per_minute,
            ),
            tokens_per_minute: self.most(
                &entry("tokens-per-minute"),
                yours.tokens_per_minute,
                theirs.tokens_per_minute,
            ),
            max_concurrency: self.most(&entry("max-concurrency"), yours.max_concurrency, theirs.max_concurrency),
            initial_concurrency: self.most(
                &entry("initial-concurrency"),
                yours.initial_concurrency,
                theirs.initial_concurrency,
            ),
            retries: self.most(&entry("retries"), yours.retries, theirs.retries),
            // A server that does not know the field's name would not limit its output.
            max_tokens_field: self.hold(
                &entry("max-tokens-field"),
                yours.max_tokens_field,
                theirs.max_tokens_field,
                |theirs, yours| theirs != yours,
                |field| match field {
                    MaxTokensField::MaxCompletionTokens => "max-completion-tokens".to_owned(),
                    MaxTokensField::MaxTokens => "max-tokens".to_owned(),
                },
            ),
            ..theirs
        }
    }

    fn grant(&mut self, entry: &str, yours: RawGrant, theirs: RawGrant) -> RawGrant {
        let models = match (yours.models, theirs.models) {
            (Some(yours), Some(theirs)) => {
                let show = |names: &[String]| format!("[{}]", names.join(", "));
                let (shown, asked) = (show(&yours), show(&theirs));
                let (within, more): (Vec<_>, Vec<_>) = theirs.iter().cloned().partition(|name| yours.contains(name));
                let both = Some(show(&within));
                let lifted = !more.is_empty() && self.lifts_beyond(&format!("{entry}.models"), shown, asked, both);
                Some(if lifted { theirs } else { within })
            }
            (yours, theirs) => theirs.or(yours),
        };
        // Several directories below one of the operator's share its quota.
        let mut left = yours.dirs.clone();
        let covered = |dir: &DirGrant| {
            let may = |own: &&mut DirGrant| {
                dir.host.starts_with(&own.host) && (!dir.write || (own.write && is_within(dir.quota, own.quota)))
            };
            let own = left.iter_mut().find(may);
            own.is_some_and(|own| {
                if dir.write {
                    own.quota = without(own.quota, dir.quota);
                }
                true
            })
        };
        let (mut dirs, more): (Vec<DirGrant>, Vec<DirGrant>) = theirs.dirs.into_iter().partition(covered);
        let show = |dirs: &[DirGrant]| {
            let texts: Vec<_> = dirs.iter().map(ToString::to_string).collect();
            format!("[{}]", texts.join(", "))
        };
        if !more.is_empty() {
            let both = Some(show(&dirs));
            if self.lifts_beyond(&format!("{entry}.dirs"), show(&yours.dirs), show(&more), both) {
                dirs.extend(more);
            }
        }
        // As for directories, tools that the project's entry does not name are not granted.
        let (own, asked) = (yours.server_tools, theirs.server_tools);
        let server_tools = match own.covers(&asked) {
            true => asked,
            false => {
                let within = asked.within(&own);
                let shown = match own.is_empty() {
                    true => "entry without tools".to_owned(),
                    false => own.to_string(),
                };
                let both = Some(within.to_string());
                match self.lifts_beyond(&format!("{entry}.server-tools"), shown, asked.to_string(), both) {
                    true => asked,
                    false => within,
                }
            }
        };
        RawGrant {
            models,
            limits: self.limits(&format!("{entry}.limits"), yours.limits, theirs.limits, &Limits::none()),
            dirs,
            server_tools,
        }
    }

    /// Merges a section; `both` merges the entries that are in both files.
    fn entries<V>(
        &mut self,
        section: &str,
        yours: BTreeMap<String, V>,
        theirs: BTreeMap<String, V>,
        both: impl Fn(&mut Self, &str, V, V) -> V,
    ) -> BTreeMap<String, V> {
        let mut merged = yours;
        for (name, theirs) in theirs {
            let value = match merged.remove(&name) {
                Some(yours) => both(self, &format!("{section}.{name}"), yours, theirs),
                None => theirs,
            };
            merged.insert(name, value);
        }
        merged
    }
}

/// Returns whether a quota is no larger than another.
fn is_within(quota: DirQuota, most: DirQuota) -> bool {
    let within = |number: Option<u64>, most: Option<u64>| most.is_none_or(|most| number.is_some_and(|n| n <= most));
    within(quota.bytes, most.bytes) && within(quota.files, most.files)
}

/// Returns the rest of a quota.
fn without(quota: DirQuota, taken: DirQuota) -> DirQuota {
    let left = |number: Option<u64>, taken: Option<u64>| Some(number?.saturating_sub(taken.unwrap_or_default()));
    DirQuota {
        bytes: left(quota.bytes, taken.bytes),
        files: left(quota.files, taken.files),
    }
}

fn show_sub_agent(sub_agent: &SubAgent) -> String {
    match sub_agent {
        SubAgent::Path(path) => path.display().to_string(),
        SubAgent::Reference(text) => text.clone(),
    }
}

fn show_registry(registry: &RegistryConfig) -> String {
    match registry {
        RegistryConfig::Oci(place) => place.clone(),
        RegistryConfig::Dir(dir) => dir.display().to_string(),
    }
}

fn over_entries<K: Ord, V>(mut lower: BTreeMap<K, V>, upper: BTreeMap<K, V>) -> BTreeMap<K, V> {
    lower.extend(upper);
    lower
}

fn over_fields(over: RawProvider, under: RawProvider) -> RawProvider {
    RawProvider {
        kind: over.kind.or(under.kind),
        base_url: over.base_url.or(under.base_url),
        key: over.key.or(under.key),
        requests_per_minute: over.requests_per_minute.or(under.requests_per_minute),
        tokens_per_minute: over.tokens_per_minute.or(under.tokens_per_minute),
        max_concurrency: over.max_concurrency.or(under.max_concurrency),
        initial_concurrency: over.initial_concurrency.or(under.initial_concurrency),
        retries: over.retries.or(under.retries),
        hedge_after: over.hedge_after.or(under.hedge_after),
        warm_prefix: over.warm_prefix.or(under.warm_prefix),
        timeout: over.timeout.or(under.timeout),
        silence: over.silence.or(under.silence),
        structured_output: over.structured_output.or(under.structured_output),
        file: over.file.or(under.file),
        max_tokens_field: over.max_tokens_field.or(under.max_tokens_field),
        fields: over_request_fields(over.fields, under.fields),
    }
}

/// Merges headers and parameters one by one. A field that repeats the operator's remains the operator's.
fn over_request_fields(over: Vec<RequestField>, mut under: Vec<RequestField>) -> Vec<RequestField> {
    for field in over {
        let yours = under.iter_mut().find(|yours| yours.is_namesake(&field));
        match yours {
            Some(yours) if yours.value == field.value => {}
            Some(yours) => *yours = field,
            None => under.push(field),
        }
    }
    under.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
    under
}

fn forget(origins: &mut Origins, prefix: &str) {
    origins.retain(|entry, _| !entry.starts_with(prefix));
}
