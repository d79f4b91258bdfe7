//! `agenthost doctor`: checks whether everything that a run or a build needs is there. Changes nothing, and asks a server
//! only with `--online`.

mod check;
mod online;

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use self::check::{Check, CheckStatus, Report};
use super::batch::{cost_allowance, counts, unpriced_hint};
use super::cache_dir::cache_dir;
use super::global::Global;
use super::hints::hint;
use super::host::{builder, host};
use super::output::{Printer, counted, exit};
use super::registry;
use super::table::thousands;
use super::terminal::{Style, Styled, indented};
use agenthost::Host;
use agenthost::allowance;
use agenthost::config::trust::crates::CrateBuild;
use agenthost::config::{Config, Env, ModelRef, ProviderConfig, ProviderKind};
use agenthost::error::{Classify as _, Error, ErrorClass, Result, with_causes};
use agenthost::gate::{self, Holder, Sharing};
use agenthost::limits::{LimitKind, units};
use agenthost::plugin::build;
use agenthost::price::PriceTable;
use agenthost::printable::one_line;
use agenthost::providers::script::Script;
use agenthost::sandbox::advisories::{self, Severity};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Send one small request to each mapped model, and show what comes back. It costs a few tokens
    #[arg(long)]
    online: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn doctor(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let mut report = Report {
        format: 1,
        version: env!("CARGO_PKG_VERSION"),
        checks: Vec::new(),
    };
    toolchain(&mut report, env);
    match global.config(env) {
        Ok(config) => {
            configuration(&mut report, &config, env);
            plugins(&mut report, &config, env);
            // A host that cannot be built is among the checks already.
            if args.online
                && let Ok(host) = host(config, env, None)
            {
                online::probe(&mut report, &host).await;
            }
        }
        Err(error) => report.failed("configuration", &error),
    }
    engine(&mut report);
    core_dumps(&mut report);
    shared_limits(&mut report, env.state_dir().as_deref());
    let failed = report.checks.iter().any(|check| check.state == CheckStatus::Fail);
    if args.json {
        printer.data(&report)?;
    } else {
        for Check {
            name,
            state,
            found,
            hint,
            ..
        } in &report.checks
        {
            let mark = match state {
                CheckStatus::Ok => (Style::Good, "ok  "),
                CheckStatus::Warn => (Style::Warning, "warn"),
                CheckStatus::Fail => (Style::Bad, "FAIL"),
            };
            let mut line = Styled::default();
            line.add(mark.0, mark.1)
                .push(format!(" {:<22} {}", one_line(name), indented(found, 28)));
            if let Some(hint) = hint {
                line.push(format!("\n     {:<22} hint: {}", "", indented(hint, 34)));
            }
            printer.text(line)?;
        }
    }
    Ok(ExitCode::from(if failed { exit::USAGE } else { exit::DONE }))
}

fn toolchain(report: &mut Report, env: &Env) {
    const INSTALL: &str = "Only building plugins needs Rust; install it with rustup.";
    // A toolchain file or a configuration of an untrusted project must not decide what runs as `rustc`.
    let trusted = CrateBuild::of(env, env.cwd())
        .and_then(|build| build.is_trusted(env))
        .unwrap_or(false);
    let dir = if trusted { env.cwd() } else { Path::new("/") };
    for tool in ["cargo", "rustc"] {
        match build::tool_version(tool, dir) {
            Ok(version) => report.add(tool, CheckStatus::Ok, version, None),
            Err(_) => report.add(tool, CheckStatus::Warn, "not found", Some(INSTALL)),
        }
    }
    match build::target_installed(dir) {
        Ok(true) => report.add(build::TARGET, CheckStatus::Ok, "installed", None),
        Ok(false) => report.add(
            build::TARGET,
            CheckStatus::Warn,
            "not installed",
            Some("The first build adds it with rustup; `rustup target add wasm32-wasip2` does it now."),
        ),
        Err(_) => report.add(
            build::TARGET,
            CheckStatus::Warn,
            "cannot tell without rustc",
            Some(INSTALL),
        ),
    }
}

fn configuration(report: &mut Report, config: &Config, env: &Env) {
    let files: Vec<_> = [config.project_file(), config.user_file()]
        .into_iter()
        .flatten()
        .collect();
    let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    let found = if files.is_empty() {
        "no file; the defaults hold".to_owned()
    } else {
        files.join(", over ")
    };
    report.add("configuration", CheckStatus::Ok, found, None);

    let own = PriceTable::of(config);
    let wrong_price = own.as_ref().err().map(|error| with_causes(error));
    let (prices, state, advice) = match &own {
        Ok(prices) => (prices, CheckStatus::Ok, None),
        Err(error) => (&PriceTable::builtin(), CheckStatus::Fail, hint(error)),
    };
    for (name, chain) in config.models() {
        models(report, config, prices, name, chain);
    }
    let found = wrong_price.clone().unwrap_or_else(|| {
        let first = match config.prices().len() {
            0 => String::new(),
            own => format!("{own} in [prices], then "),
        };
        format!("{first}the embedded table of {}", prices.as_of())
    });
    report.add("prices", state, found, advice.as_deref());
    if config.asks_for_offline_models() {
        let found = "offline models were asked for: the offline provider makes the answers up";
        report.add("models", CheckStatus::Ok, found, None);
    } else if config.is_offline_default() {
        report.add(
            "models",
            CheckStatus::Warn,
            "no key and no [models]: the offline provider makes the answers up",
            Some("Set ANTHROPIC_API_KEY or OPENAI_API_KEY, or write [models] in agenthost.toml. Without a terminal, runs are refused."),
        );
    }

    let limits = config.limits();
    let shown: Vec<_> = LimitKind::SETTABLE
        .into_iter()
        .map(|kind| {
            let value = limits.describe(kind).unwrap_or_else(|| "none".into());
            format!("{} {value}", kind.name())
        })
        .collect();
    report.add("limits of a task", CheckStatus::Ok, shown.join(", "), None);

    if let Some(state) = env.state_dir() {
        match allowance::status(config, &state, SystemTime::now()) {
            Ok(all) => all.iter().for_each(|status| {
                let state = match status.used >= status.most {
                    true => CheckStatus::Warn,
                    false => CheckStatus::Ok,
                };
                let name = format!("allowance {}", status.key);
                report.add(&name, state, super::allowance::line(status), None);
            }),
            Err(error) => report.failed("allowance", &error),
        }
    }

    match builder(env).config(config.clone()).build() {
        Ok(host) => {
            memory(report, &host);
            let (slots, bound) = host.machine().task_slots();
            report.add(
                "sub-agents at once",
                CheckStatus::Ok,
                format!("{} configured; this machine allows {slots} ({bound})", host.max_tasks()),
                None,
            );
        }
        // Reported already.
        Err(error) if wrong_price.is_some() && error.class() == ErrorClass::Config => {}
        Err(error) => report.failed("sandbox", &error),
    }
    match cache_dir(env) {
        Some(dir) => report.add("compiled plugins", CheckStatus::Ok, dir.display().to_string(), None),
        None => report.add(
            "compiled plugins",
            CheckStatus::Warn,
            "no home directory: plugins are compiled on every run",
            None,
        ),
    }
}

/// Reports the most memory that the tasks of a run may hold together.
fn memory(report: &mut Report, host: &Host) {
    let available = match host.machine().available() {
        Some(bytes) => format!("; {} are available now", units::show_bytes(bytes)),
        None => String::new(),
    };
    let found = format!("{}{available}", host.run_memory().describe());
    match host.run_memory().bytes {
        Some(_) => report.add("memory of a run", CheckStatus::Ok, found, None),
        None => report.add(
            "memory of a run",
            CheckStatus::Warn,
            found,
            Some("Remove `memory` under [run.limits] to have the machine bound it."),
        ),
    }
}

/// Reports whether keys and prompts can get into a core dump.
fn core_dumps(report: &mut Report) {
    match super::core_dumps::are_forbidden() {
        true => report.add("core dumps", CheckStatus::Ok, "off", None),
        false => report.add(
            "core dumps",
            CheckStatus::Warn,
            "on: a core of this program can hold keys and prompts",
            Some("Remove AGENTHOST_CORE_DUMPS from the environment."),
        ),
    }
}

/// Reports on the project's plugins of registries: whether its lock file, policies and vet files can be read, and which
/// plugins are still to be fetched.
fn plugins(report: &mut Report, config: &Config, env: &Env) {
    const NAME: &str = "plugins of registries";
    let project = match registry::project(config, env) {
        Ok(project) => project,
        Err(error) => return report.failed(NAME, &error),
    };
    let locked = counted(project.lock().plugins().count() as u64, "plugins");
    let away = project
        .lock()
        .plugins()
        .filter(|locked| !project.cache().has(&locked.digest));
    let away = match away.count() {
        0 => String::new(),
        away => format!(", {away} still to be fetched"),
    };
    let policies = match project.policy().files().collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "no policy file".to_owned(),
        files => format!("policy {files}"),
    };
    let vetted = project.vetted().len();
    let found = format!("{locked} locked{away}; {policies}; {vetted} vetted");
    report.add(NAME, CheckStatus::Ok, found, None);
}

/// Reports the known advisories against the engine, and whether they affect this host.
fn engine(report: &mut Report) {
    let (engine, read) = (advisories::engine(), advisories::read());
    let open = advisories::open();
    let affect = open.iter().filter(|advisory| advisory.affects_this_host()).count();
    let (state, found) = match (open.len(), affect) {
        (0, _) => (CheckStatus::Ok, "no advisory is open".to_owned()),
        (open, 0) => (CheckStatus::Ok, format!("{open} open, none of which affects this host")),
        (open, affect) => (
            CheckStatus::Warn,
            format!("{open} open, {affect} of which affect this host"),
        ),
    };
    report.add(
        "engine",
        state,
        format!("{engine}, by what was known on {read}: {found}"),
        (state == CheckStatus::Warn).then_some("Install a release of agenthost with a newer engine."),
    );
    for advisory in &open {
        let affected = advisory.affects_this_host();
        let (state, verdict) = match affected {
            true => (CheckStatus::Warn, "affects this host"),
            false => (CheckStatus::Ok, "does not affect this host"),
        };
        let severity = advisory.severity.map(Severity::word);
        let rating = advisory.rating.map(Severity::word);
        let shown = match (severity, rating) {
            (Some(severity), _) => format!("severity {severity}"),
            (None, Some(rating)) => format!("severity {rating} by our own rating"),
            (None, None) => "severity not recorded".to_owned(),
        };
        let link = advisory.link();
        let found = format!("{verdict}: {} ({}); {shown}, {link}", advisory.why(), advisory.about,);
        report.checks.push(Check {
            state,
            affected: Some(affected),
            severity,
            rating,
            link: Some(link),
            ..Check::new(&advisory.id, found)
        });
    }
}

/// Reports which processes of this user share rate limits, by the files in the state directory: a line for each key
/// that is in use, or whose file has a fault.
fn shared_limits(report: &mut Report, state: Option<&Path>) {
    const NAME: &str = "shared rate limits";
    const GONE: &str =
        "They ended without saying so and hold nothing back; the next process that uses the key forgets them.";
    let Some(dir) = state.map(|state| state.join(gate::SHARED)) else {
        let found = "no home directory: every process keeps rate limits for itself";
        report.add(NAME, CheckStatus::Warn, found, None);
        return;
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut shown = false;
    for Sharing {
        path,
        live,
        stale,
        locked,
    } in gate::inspect(&dir, now)
    {
        shown |= locked || !live.is_empty() || !stale.is_empty();
        let path = path.display();
        if locked {
            report.add(
                NAME,
                CheckStatus::Warn,
                format!("{path} cannot be locked: another process holds it, or it is not yours"),
                Some(
                    "Runs go by what each knows itself until then; end the process that holds it, or delete the file.",
                ),
            );
        }
        if !live.is_empty() {
            let found = format!(
                "{}, in {path}",
                holders(&live, "process uses a key", "processes use a key")
            );
            report.add(NAME, CheckStatus::Ok, found, None);
        }
        if !stale.is_empty() {
            let found = format!(
                "{}, in {path}",
                holders(&stale, "process is gone", "processes are gone")
            );
            report.add(NAME, CheckStatus::Warn, found, Some(GONE));
        }
    }
    if !shown {
        let found = format!("no process uses a key now; files in {}", dir.display());
        report.add(NAME, CheckStatus::Ok, found, None);
    }
}

/// Returns a phrase such as `2 processes use a key (pid 4711 with 3 requests in flight, 4712 with none)`.
fn holders(holders: &[Holder], one: &str, many: &str) -> String {
    let what = if holders.len() == 1 { one } else { many };
    let each: Vec<_> = holders
        .iter()
        .map(|holder| match holder.in_flight {
            0 => format!("{} with none", holder.pid),
            n => format!("{} with {} in flight", holder.pid, counted(u64::from(n), "requests")),
        })
        .collect();
    format!("{} {what} (pid {})", holders.len(), each.join(", "))
}

/// Reports the models behind a name, in the order in which they are tried. A problem with one of them is a failure only
/// if no other can replace it.
fn models(report: &mut Report, config: &Config, prices: &PriceTable, name: &str, chain: &[ModelRef]) {
    let known = chain
        .iter()
        .filter_map(|model| Some((model, config.provider(&model.provider)?)));
    let looked: Vec<_> = known
        .map(|(model, provider)| (model, provider, key(config, &model.provider, provider)))
        .collect();
    let works = looked.iter().any(|(_, _, (state, _, _))| *state == CheckStatus::Ok);
    for (at, (model, provider, (mut state, key, mut hint))) in looked.into_iter().enumerate() {
        let kind = provider.kind.name();
        let price = match prices.price(kind, &model.provider, &model.model) {
            Some(_) => "",
            None => ", price unknown",
        };
        if let Some(setting) = &cost_allowance(config)
            && !price.is_empty()
            && state == CheckStatus::Ok
            && counts(config, model)
        {
            state = CheckStatus::Warn;
            hint = unpriced_hint(setting, model).into();
        }
        report.add(
            if at == 0 {
                format!("model {name}")
            } else {
                format!("model {name}, then")
            },
            if state == CheckStatus::Fail && (works || at > 0) {
                CheckStatus::Warn
            } else {
                state
            },
            format!("{model}: {key}{price}{}", rates(provider)),
            hint.as_deref(),
        );
    }
}

/// Returns the operator's limits on calls to the provider.
fn rates(provider: &ProviderConfig) -> String {
    let set = [
        (provider.requests_per_minute, " requests a minute"),
        (provider.tokens_per_minute, " tokens a minute"),
        (provider.max_concurrency.map(u64::from), " at once"),
    ];
    let shown = |(value, unit): (Option<u64>, &str)| Some(format!(", {}{unit}", thousands(&value?.to_string())));
    set.into_iter().filter_map(shown).collect()
}

/// Returns whether the provider's key is there, and where; never the key.
fn key(config: &Config, name: &str, provider: &ProviderConfig) -> (CheckStatus, String, Option<String>) {
    match &provider.kind {
        ProviderKind::Offline | ProviderKind::Code { .. } => return (CheckStatus::Ok, "offline".into(), None),
        ProviderKind::Script { file } => {
            return match Script::load(file) {
                Ok(_) => (CheckStatus::Ok, format!("script {}", file.display()), None),
                Err(error) => (
                    CheckStatus::Fail,
                    with_causes(&error),
                    error
                        .hint()
                        .or_else(|| Some("Correct `file` of the provider.".to_owned())),
                ),
            };
        }
        ProviderKind::Anthropic | ProviderKind::OpenAi { .. } | ProviderKind::OpenAiResponses => {}
    }
    let address = provider
        .address
        .as_ref()
        .map_or("the vendor's address", |address| address.url.as_str());
    let kind = provider.kind.name();
    let key = config.key(name).and_then(|key| config.fields(name).map(|_| key));
    let fields: String = provider.fields.iter().map(|field| format!(", {field}")).collect();
    match (key, &provider.key) {
        (Ok(Some(_)), Some(source)) => (
            CheckStatus::Ok,
            format!("key from {source}, at {address} ({kind}){fields}"),
            chat_hint(name, provider),
        ),
        (Ok(_), _) => (CheckStatus::Ok, format!("no key, at {address} ({kind}){fields}"), None),
        (Err(error), _) => {
            let error = Error::from(error);
            (CheckStatus::Fail, with_causes(&error), hint(&error))
        }
    }
}

/// Advises against chat completions at OpenAI's own address: its current models do not take tools there.
fn chat_hint(name: &str, provider: &ProviderConfig) -> Option<String> {
    let is_chat = matches!(provider.kind, ProviderKind::OpenAi { .. });
    (is_chat && provider.is_at_vendor()).then(|| {
        format!("For tools and web search, write kind = \"openai-responses\" under [providers.{name}], or no kind for `openai`.")
    })
}

#[cfg(test)]
mod tests;
