//! Policies: who may publish which names, the maximum that a plugin may be granted, and whether an unsigned or unvetted
//! plugin may run.
//!
//! A policy consists of any number of files (`agenthost-policy.toml` of a project, one of its team, or both). They do
//! not replace each other: if one file refuses something, it is refused; the smallest limits apply; and only model
//! names and tools of providers that all files allow are allowed. A setting that a file leaves out has no effect, and a default applies only
//! if no file has the setting. A refusal names the rule and its place.
//!
//! A policy judges a plugin whose bytes are available. It fetches nothing, and it narrows no grant itself; that is up
//! to the caller.

mod file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use self::file::ServerToolRule;
use self::file::{Denied, File, Rule, Rules, Signer};
use super::asks::Asks;
use super::error::{PolicyError, PolicyRule, Refusal};
use super::signature::{self, PublicKey, Signature, Verified};
use super::vetted::Vetted;
use agenthost_config::{Env, Origin as Place};
use agenthost_core::limits::Limits;
use agenthost_core::llm::ServerToolGrants;
use agenthost_core::printable::shell_word;
use agenthost_plugin::Plugin;

/// The name of a project's policy file.
pub const POLICY_FILE: &str = "agenthost-policy.toml";

/// The combined policy of all files that apply.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    files: Vec<File>,
}

/// The origin of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A registry.
    Reference {
        /// The plugin's place in the registry.
        place: String,
    },
    /// A file or a crate on this machine.
    Path(PathBuf),
    /// The program itself, under this name. The rules for files apply.
    BuiltIn(String),
}

/// A plugin to be judged before it runs.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// The bytes of its component.
    pub bytes: &'a [u8],
    /// Its origin.
    pub origin: Origin,
    /// Its signatures, unchecked.
    pub signatures: &'a [String],
    /// The entries of the vet files for its digest; `None` if the plugin need not be vetted yet, because it is vetted
    /// later.
    pub vetted: Option<&'a [&'a Vetted]>,
}

impl Candidate<'_> {
    /// Returns whether it comes from a registry. For a file of this machine, and for a part of the program, a
    /// missing signature is the usual case and not worth a note.
    fn is_foreign(&self) -> bool {
        matches!(self.origin, Origin::Reference { .. })
    }
}

/// A crate to be judged before it is built, as far as its files allow.
#[derive(Debug, Clone)]
pub struct CrateCandidate {
    /// The crate's directory.
    pub dir: PathBuf,
    /// The plugin's `namespace:name`; `None` if the crate's WIT does not declare it.
    pub name: Option<String>,
    /// `true` if the built plugin could turn out to be signed.
    pub may_be_signed: bool,
    /// `true` if the built plugin could turn out to be vetted.
    pub may_be_vetted: bool,
}

/// The terms under which a plugin may run.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDecision {
    /// The signer who may publish the plugin and signed it, by the name in the policy; `None` if there is none.
    pub signer: Option<(String, PublicKey)>,
    /// The people who vetted it.
    pub vetted_by: Vec<String>,
    /// Human-readable notes on what is missing but not required.
    pub notes: Vec<String>,
    /// The maximum limits that it may be granted.
    pub max: Limits,
    /// The model names that it may be granted; `None` means any.
    pub models: Option<BTreeSet<String>>,
    /// The ceilings for tools of providers, of which each applies; empty means any.
    pub server_tools: Vec<ServerToolRule>,
}

/// The maximum that the `[max]` sections of all files leave to a plugin.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PolicyMax {
    /// The limits; those that are not set have no maximum.
    pub limits: Limits,
    /// The model names; `None` means any.
    pub models: Option<BTreeSet<String>>,
    /// The ceilings for tools of providers, of which each applies; empty means any.
    pub server_tools: Vec<ServerToolRule>,
}

impl PolicyMax {
    /// Returns the tools that all ceilings leave, with the narrowest bounds; `None` if no policy sets a ceiling.
    ///
    /// ```
    /// use agenthost_registry::policy::Policy;
    ///
    /// assert_eq!(Policy::default().max("acme:competitor").server_tools(), None);
    /// ```
    pub fn server_tools(&self) -> Option<ServerToolGrants> {
        let ceilings = self.server_tools.iter().map(|rule| rule.tools.clone());
        ceilings.reduce(|one, other| one.within(&other))
    }
}

/// A missing signature or a missing review.
#[derive(Clone, Copy)]
enum Lack {
    Unsigned,
    Unvetted,
}

/// The combined ruling of all files.
struct Ruling {
    allow: bool,
    section: &'static str,
    key: &'static str,
    /// The place of the strictest rule; `None` for the default.
    place: Option<Place>,
    /// The file to change, for display.
    file: String,
}

impl Ruling {
    /// Returns the rule, which refuses.
    fn rule(&self) -> PolicyRule {
        PolicyRule {
            section: self.section,
            key: self.key,
            place: self.place.clone(),
            file: self.file.clone(),
        }
    }

    /// Describes the rule, which allows.
    fn permission(&self) -> String {
        let place = match &self.place {
            Some(place) => place.to_string(),
            None => "the default, as no policy file says otherwise".to_owned(),
        };
        format!("[{}] {} = \"allow\" ({place})", self.section, self.key)
    }
}

impl Policy {
    /// Combines all `files`. Without any, the defaults apply: plugins from a registry must be signed and vetted, files
    /// on this machine need not be. Relative paths are relative to `env`'s working directory.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config), with the line, if a file cannot be read or is invalid.
    pub(super) fn load(env: &Env, files: &[PathBuf]) -> Result<Self, PolicyError> {
        let files = files.iter().map(|path| file::read(env, env.cwd().join(path)));
        Ok(Self {
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the names of the files that were read, for display.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.shown.as_str())
    }

    /// Returns the absolute paths of the vet files that count; some may not exist yet.
    pub fn vet_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in self.files.iter().flat_map(|file| &file.vetted) {
            if !found.contains(path) {
                found.push(path.clone());
            }
        }
        found
    }

    /// Returns the keys of all signers.
    pub fn keys(&self) -> Vec<PublicKey> {
        let signers = self.files.iter().flat_map(|file| &file.signers);
        let keys: BTreeSet<_> = signers.map(|signer| signer.key).collect();
        keys.into_iter().collect()
    }

    /// Decides whether `candidate` may run, and with what maximum.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if it may not run, if a signature of a known signer does
    /// not verify, or if a vet file describes it incorrectly.
    pub fn judge(&self, candidate: &Candidate<'_>) -> Result<PolicyDecision, PolicyError> {
        let (plugin, name) = (candidate.plugin, &candidate.plugin.id.name);
        for denial in self.files.iter().flat_map(|file| &file.deny) {
            if denial.what.covers(plugin) {
                return Err(refused(
                    plugin,
                    Refusal::Denied {
                        entry: denial.what.to_string(),
                        place: denial.place.clone(),
                    },
                ));
            }
        }
        let mut notes = Vec::new();
        let verified = signature::check(candidate.signatures, &self.keys(), plugin, candidate.bytes)?;
        let signer = self.signer(candidate, &verified, &mut notes)?;
        let vetted_by = match candidate.vetted {
            Some(entries) => self.vetted(candidate, entries, &mut notes)?,
            None => Vec::new(),
        };
        // Without a policy, the operator has not asked for notes either.
        if self.files.is_empty() {
            notes.clear();
        }
        let PolicyMax {
            limits,
            models,
            server_tools,
        } = self.max(name);
        Ok(PolicyDecision {
            signer,
            vetted_by,
            notes,
            max: limits,
            models,
            server_tools,
        })
    }

    /// Returns the maximum that a plugin of this name may be granted.
    ///
    /// ```
    /// use agenthost_registry::policy::Policy;
    ///
    /// let max = Policy::default().max("acme:competitor");
    /// assert_eq!((max.limits.tokens, max.models), (None, None));
    /// ```
    pub fn max(&self, name: &str) -> PolicyMax {
        let mut max = PolicyMax::default();
        let bounds = self.files.iter().flat_map(|file| &file.bounds);
        for bound in bounds.filter(|bound| bound.names.matches(name)) {
            max.limits = max.limits.narrowed_by(&bound.limits);
            max.models = match (max.models.take(), &bound.models) {
                (Some(one), Some(other)) => Some(one.intersection(other).cloned().collect()),
                (one, other) => one.or_else(|| other.clone()),
            };
            max.server_tools.extend(bound.server_tools.clone());
        }
        max
    }

    /// Refuses a crate if it is clear before the build that its result may not run: a build runs code, which is
    /// pointless for a plugin that is refused anyway. The built plugin is judged again.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the rule.
    pub fn judge_crate(&self, candidate: &CrateCandidate) -> Result<(), PolicyError> {
        let refused = |refusal| PolicyError::NotBuilt {
            dir: candidate.dir.clone(),
            refusal: Box::new(refusal),
        };
        let covers = |what: &Denied| match (what, &candidate.name) {
            (Denied::Names(pattern), Some(name)) => pattern.matches(name),
            _ => false,
        };
        let denials = self.files.iter().flat_map(|file| &file.deny);
        if let Some(denial) = denials.into_iter().find(|denial| covers(&denial.what)) {
            return Err(refused(Refusal::Denied {
                entry: denial.what.to_string(),
                place: denial.place.clone(),
            }));
        }
        let origin = Origin::Path(candidate.dir.clone());
        let unsigned = self.ruling(&origin, Lack::Unsigned);
        if !unsigned.allow && !candidate.may_be_signed {
            return Err(refused(Refusal::BuildUnsigned { rule: unsigned.rule() }));
        }
        let unvetted = self.ruling(&origin, Lack::Unvetted);
        if !unvetted.allow && !candidate.may_be_vetted {
            return Err(refused(Refusal::BuildUnvetted { rule: unvetted.rule() }));
        }
        Ok(())
    }

    /// Returns the signer. If unsigned plugins are refused, every file that has signers requires a signature by one of
    /// its own.
    fn signer(
        &self,
        candidate: &Candidate<'_>,
        verified: &[Verified],
        notes: &mut Vec<String>,
    ) -> Result<Option<(String, PublicKey)>, PolicyError> {
        let name = &candidate.plugin.id.name;
        let has = |signer: &&Signer| verified.iter().any(|verified| verified.key == signer.key);
        let ruling = self.ruling(&candidate.origin, Lack::Unsigned);
        let mut found = None;
        let files = self.files.iter().filter(|file| !file.signers.is_empty());
        let mut lacking = None;
        for file in files.clone() {
            let own = file.signers.iter().filter(has).find(|signer| signer.may_publish(name));
            match own {
                Some(signer) => found = found.or_else(|| Some((signer.name.clone(), signer.key))),
                None => lacking = lacking.or(Some(file)),
            }
        }
        if ruling.allow {
            if found.is_none() && candidate.is_foreign() {
                notes.push(format!(
                    "no signer who may publish it has signed it, which {} permits",
                    ruling.permission()
                ));
            }
            return Ok(found);
        }
        if found.is_some() && lacking.is_none() {
            return Ok(found);
        }
        Err(unsigned(candidate, &ruling, lacking, has))
    }

    /// Returns the people who vetted the plugin. If unvetted plugins are refused, every file that names vet files
    /// requires an entry in one of them.
    fn vetted(
        &self,
        candidate: &Candidate<'_>,
        entries: &[&Vetted],
        notes: &mut Vec<String>,
    ) -> Result<Vec<String>, PolicyError> {
        let plugin = candidate.plugin;
        let entries = entries.iter().filter(|entry| entry.digest == plugin.digest);
        let entries = entries.copied().collect::<Vec<_>>();
        entries.iter().try_for_each(|entry| agrees(entry, plugin))?;
        let mut who: Vec<String> = Vec::new();
        for entry in &entries {
            if !who.contains(&entry.who) {
                who.push(entry.who.clone());
            }
        }
        let ruling = self.ruling(&candidate.origin, Lack::Unvetted);
        if ruling.allow {
            if who.is_empty() && candidate.is_foreign() {
                notes.push(format!("it is not vetted, which {} permits", ruling.permission()));
            }
            return Ok(who);
        }
        let has = |path: &PathBuf| {
            entries
                .iter()
                .any(|entry| entry.file().is_some_and(|file| same(file, path)))
        };
        let mut files = self.files.iter().filter(|file| !file.vetted.is_empty());
        let lacking = files.find(|file| !file.vetted.iter().any(has));
        if lacking.is_none() && !who.is_empty() {
            return Ok(who);
        }
        let named = match &candidate.origin {
            Origin::Reference { .. } => plugin.release().map_or_else(
                || plugin.id.name.clone(),
                |version| format!("{}@{version}", plugin.id.name),
            ),
            Origin::Path(path) => shell_word(&path.to_string_lossy()).into_owned(),
            Origin::BuiltIn(name) => name.clone(),
        };
        Err(refused(
            plugin,
            Refusal::Unvetted {
                plugin: named,
                required: lacking.filter(|_| !who.is_empty()).map(|file| file.shown.clone()),
                rule: ruling.rule(),
            },
        ))
    }

    /// Returns the combined ruling of all files on plugins that lack something.
    fn ruling(&self, origin: &Origin, lack: Lack) -> Ruling {
        type Rulebook = fn(&File) -> &Rules;
        let (section, rules, default): (_, Rulebook, _) = match origin {
            Origin::Reference { .. } => ("references", |file| &file.references, false),
            Origin::Path(_) | Origin::BuiltIn(_) => ("paths", |file| &file.paths, true),
        };
        let (key, rule): (_, fn(&Rules) -> Option<&Rule>) = match lack {
            Lack::Unsigned => ("unsigned", |rules| rules.unsigned.as_ref()),
            Lack::Unvetted => ("unvetted", |rules| rules.unvetted.as_ref()),
        };
        let said = self.files.iter().filter_map(|file| Some((file, rule(rules(file))?)));
        let strictest = said.min_by_key(|(_, rule)| rule.allow);
        let allow = strictest.map_or(default, |(_, rule)| rule.allow);
        Ruling {
            allow,
            section,
            key,
            place: strictest.map(|(_, rule)| rule.place.clone()),
            file: strictest.map_or(POLICY_FILE, |(file, _)| &file.shown).to_owned(),
        }
    }
}

fn refused(plugin: &Plugin, refusal: Refusal) -> PolicyError {
    let release = plugin
        .release()
        .map_or_else(String::new, |release| format!(" {release}"));
    PolicyError::Refused {
        subject: format!("{}{release}", plugin.id.name),
        refusal: Box::new(refusal),
    }
}

/// Returns the error for insufficient signatures, for the file that requires one of its own signers.
fn unsigned(
    candidate: &Candidate<'_>,
    ruling: &Ruling,
    lacking: Option<&File>,
    has: impl Fn(&&Signer) -> bool,
) -> PolicyError {
    let (plugin, name) = (candidate.plugin, &candidate.plugin.id.name);
    let signers = lacking.map_or(&[][..], |file| &file.signers);
    let shown = lacking.map_or(POLICY_FILE, |file| &file.shown);
    if candidate.signatures.is_empty() {
        return refused(plugin, Refusal::Unsigned { rule: ruling.rule() });
    }
    if let Some(signer) = signers.iter().find(has) {
        let refusal = Refusal::OtherPublisher {
            name: name.clone(),
            signer: signer.name.clone(),
            publishes: signer.publishes.iter().map(ToString::to_string).collect(),
            place: signer.place.clone(),
            file: shown.to_owned(),
            rule: ruling.rule(),
        };
        return refused(plugin, refusal);
    }
    let ids = candidate
        .signatures
        .iter()
        .filter_map(|text| Signature::parse(text).ok());
    let ids = ids.map(|signature| signature.key_id()).collect::<BTreeSet<_>>();
    let refusal = Refusal::UnknownSigner {
        name: name.clone(),
        keys: ids.into_iter().collect(),
        lacking: lacking.map(|file| file.shown.clone()),
        file: shown.to_owned(),
        rule: ruling.rule(),
    };
    refused(plugin, refusal)
}

/// Checks that a vet entry describes the plugin correctly.
fn agrees(entry: &Vetted, plugin: &Plugin) -> Result<(), PolicyError> {
    let place = entry
        .place()
        .map_or_else(|| "a vet file".to_owned(), ToString::to_string);
    let wrong = |difference: String| {
        let place = place.clone();
        Err(refused(plugin, Refusal::VetDiffers { place, difference }))
    };
    if entry.plugin.to_string() != plugin.id.name {
        return wrong(format!("it is {}", entry.plugin));
    }
    if plugin
        .release()
        .is_some_and(|release| release != entry.version.to_string())
    {
        return wrong(format!("it is version {}", entry.version));
    }
    match entry.asks.changes(&Asks::of(plugin)).first() {
        Some(change) => wrong(format!("it asks for something else: {change}")),
        None => Ok(()),
    }
}

/// Returns whether two paths are the same file.
fn same(one: &Path, other: &Path) -> bool {
    one == other
        || match (one.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
}

#[cfg(test)]
mod tests;
