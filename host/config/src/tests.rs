use std::collections::BTreeSet;
use std::time::Duration;

use super::scratch::Scratch;
use super::*;
use agenthost_core::limits::Limits;

mod complaints;
mod errors;

fn models(config: &Config) -> Vec<String> {
    config
        .models()
        .iter()
        .map(|(name, chain)| {
            let chain: Vec<String> = chain.iter().map(ModelRef::to_string).collect();
            format!("{name} = {}", chain.join(" "))
        })
        .collect()
}

#[test]
fn nothing_at_all_is_offline() {
    let config = Scratch::new().load();
    assert_eq!(models(&config), ["fast = offline/fast", "strong = offline/strong"]);
    assert!(config.is_offline_default());
    assert_eq!(config.limits(), &Limits::task_default());
    assert_eq!(config.reply_tokens(), 8_192);
    assert_eq!(
        config.run(),
        &RunConfig {
            strict_tokens: false,
            max_concurrent_tasks: None,
            log_bytes: 65_536,
            limits: Limits::none(),
            memory: None,
            memory_within_default: false,
        }
    );
    assert_eq!(
        config.journal(),
        &JournalConfig {
            enabled: true,
            file: None,
            bodies: BodyRetention::All,
            max_run_bytes: Some(1 << 30),
        }
    );
    assert_eq!(
        (config.project_file(), config.user_file(), config.origin("models.fast")),
        (None, None, None)
    );
    assert_eq!(config.provider("offline").unwrap().kind, ProviderKind::Offline);
    assert_eq!(config.provider("offline").unwrap().address, None);
}

#[test]
fn a_vendors_key_chooses_the_models() {
    let anthropic = Scratch::new()
        .var("ANTHROPIC_API_KEY", "k")
        .var("OPENAI_API_KEY", "k")
        .load();
    assert_eq!(
        models(&anthropic),
        [
            "fast = anthropic/claude-haiku-5-5",
            "strong = anthropic/claude-opus-5-5"
        ]
    );
    assert!(!anthropic.is_offline_default());
    let openai = Scratch::new()
        .var("ANTHROPIC_API_KEY", "")
        .var("OPENAI_API_KEY", "k")
        .load();
    assert_eq!(
        models(&openai),
        ["fast = openai/gpt-6-luna", "strong = openai/gpt-6-sol"]
    );
}

#[test]
fn models_that_are_configured_are_all_there_is() {
    let scratch = Scratch::project("[models]\nfast = \"offline/x\"").var("ANTHROPIC_API_KEY", "k");
    assert_eq!(models(&scratch.load()), ["fast = offline/x"]);
    assert!(!scratch.load().is_offline_default());
}

#[test]
fn a_model_splits_at_the_first_slash_and_may_be_a_chain() {
    let text = "[models]\na = \"openai/org/model/v1\"\nb = [\"anthropic/x\", \"openai/y\"]";
    assert_eq!(
        models(&Scratch::project(text).load()),
        ["a = openai/org/model/v1", "b = anthropic/x openai/y"]
    );
}

#[test]
fn the_project_goes_over_the_user_entry_by_entry() {
    let user = r#"
        limits = { tokens = 1, calls = 2, reply-tokens = 10 }
        [models]
        fast = "corp/user"
        strong = "corp/user"
        [providers.corp]
        kind = "openai"
        base-url = "https://corp.example/v1/"
        key-env = "CORP_KEY"
        requests-per-minute = 10
        max-tokens-field = "max-tokens"
        [run]
        strict-tokens = true
        log-bytes = "1KiB"
        limits.cost = 5
        [sub-agents]
        "demo:a" = "demo:a@0.1.0"
        "demo:b" = "ghcr.io/demo/b:1"
        [prices."corp/user"]
        input = 1.5
    "#;
    let project = r#"
        [models]
        fast = "corp/project"
        [providers.corp]
        requests-per-minute = "2k"
        tokens-per-minute = 90
        [limits]
        tokens = "none"
        [run]
        max-concurrent-tasks = 3
        limits.calls = 6
        [sub-agents]
        "demo:a" = "agents/a"
    "#;
    let scratch = Scratch::project(project).user(user);
    let config = scratch.load();
    assert_eq!(models(&config), ["fast = corp/project", "strong = corp/user"]);
    let corp = config.provider("corp").unwrap();
    assert_eq!(corp.kind.name(), "openai");
    assert_eq!(
        corp.kind,
        ProviderKind::OpenAi {
            max_tokens_field: MaxTokensField::MaxTokens
        }
    );
    assert_eq!(corp.address.as_ref().unwrap().url, "https://corp.example/v1");
    assert_eq!(corp.key, Some(KeySource::Variable("CORP_KEY".into())));
    assert_eq!((corp.requests_per_minute, corp.tokens_per_minute), (Some(10), Some(90)));
    assert_eq!((config.limits().tokens, config.limits().calls), (Some(1), Some(2)));
    assert_eq!(config.reply_tokens(), 10);
    let run = config.run();
    assert_eq!(
        (run.strict_tokens, run.max_concurrent_tasks, run.log_bytes),
        (true, Some(3), 1_024)
    );
    assert_eq!(
        (run.limits.calls, run.limits.cost),
        (Some(6), Some("5".parse().unwrap()))
    );
    assert_eq!(
        config.sub_agents()["demo:a"],
        SubAgent::Reference("demo:a@0.1.0".into())
    );
    assert_eq!(
        config.sub_agents()["demo:b"],
        SubAgent::Reference("ghcr.io/demo/b:1".into())
    );
    assert_eq!(
        config.prices()[&"corp/user".parse().unwrap()].rates.input,
        Some("1.5".parse().unwrap())
    );
    let origin = |entry| {
        let shown = config.origin(entry).unwrap().to_string();
        shown.replace(scratch.root().to_str().unwrap(), "")
    };
    assert_eq!(origin("models.fast"), "agenthost.toml:3");
    assert_eq!(origin("models.strong"), "/home/.config/agenthost/config.toml:5");
    assert_eq!(
        origin("providers.corp.base-url"),
        "/home/.config/agenthost/config.toml:8"
    );
    assert_eq!(
        origin("providers.corp.requests-per-minute"),
        "/home/.config/agenthost/config.toml:10"
    );
    assert_eq!(origin("providers.corp.tokens-per-minute"), "agenthost.toml:6");
    assert_eq!(
        config.origin("models.fast").unwrap().file(),
        scratch.path("project/agenthost.toml")
    );
    assert_eq!(config.origin("models.fast").unwrap().line(), 3);
}

#[test]
fn settings_of_calls_go_with_every_kind_and_are_merged_one_by_one() {
    let settings = |name: &str, more: &str| {
        format!(
            "[providers.{name}]\n{more}\nrequests-per-minute = 60\ntokens-per-minute = \"1M\"\nmax-concurrency = 8\n\
             retries = 0\nhedge-after = 1.5\nwarm-prefix = false\ntimeout = \"2m\"\n"
        )
    };
    let user = [
        settings("anthropic", ""),
        settings("openai", ""),
        settings("offline", ""),
        settings("s", "kind = \"script\"\nfile = \"x\""),
    ];
    let project = "[providers.anthropic]\nretries = 2\ntimeout = 30\n[providers.offline]\nwarm-prefix = true";
    let config = Scratch::project(project).user(&user.concat()).load();
    let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
    for (name, retries, warm, timeout) in [
        ("anthropic", 0, false, 30.0),
        ("openai", 0, false, 120.0),
        ("offline", 0, true, 120.0),
        ("s", 0, false, 120.0),
    ] {
        let provider = config.provider(name).unwrap();
        assert_eq!(
            (
                provider.requests_per_minute,
                provider.tokens_per_minute,
                provider.max_concurrency
            ),
            (Some(60), Some(1_000_000), Some(8)),
            "{name}"
        );
        assert_eq!(
            (provider.retries, provider.warm_prefix),
            (Some(retries), Some(warm)),
            "{name}"
        );
        assert_eq!(
            (provider.hedge_after, provider.timeout),
            (seconds(1.5), seconds(timeout)),
            "{name}"
        );
    }
    let unset = Scratch::new().load();
    let unset = unset.provider("anthropic").unwrap();
    assert_eq!(
        (unset.max_concurrency, unset.retries, unset.warm_prefix),
        (None, None, None)
    );
    assert_eq!((unset.hedge_after, unset.timeout), (None, None));
    assert_eq!((unset.silence, unset.structured_output), (None, StructuredOutput::Auto));
}

#[test]
fn silence_and_structured_output_are_settings_of_a_service() {
    let user = "[providers.openai]\nsilence = \"2m\"\nstructured-output = \"json-object\"\n[providers.anthropic]\nstructured-output = \"schema\"";
    let project = "[providers.openai]\nstructured-output = \"prompt\"";
    let config = Scratch::project(project).user(user).load();
    let openai = config.provider("openai").unwrap();
    assert_eq!(
        (openai.silence, openai.structured_output),
        (Some(Duration::from_secs(120)), StructuredOutput::Prompt)
    );
    assert_eq!(
        config.provider("anthropic").unwrap().structured_output,
        StructuredOutput::Schema
    );
}

#[test]
fn a_price_is_replaced_whole() {
    let user = "[prices.\"a/b\"]\ninput = 1\noutput = 2\ncache-write-1h = 3\nsearch = 0.02\nsearch-tokens = \"20k\"\n\
                long-context = { above = \"100k\", input = 4, output = 5, cache-write-1h = 6 }";
    let price = |scratch: Scratch| scratch.load().prices()[&"a/b".parse().unwrap()].clone();
    let usd = |text: &str| Some(text.parse().unwrap());
    let RatesConfig {
        cache_read,
        cache_write,
        ..
    } = RatesConfig::default();
    let rates = |input, output, hour| RatesConfig {
        input: usd(input),
        output: usd(output),
        cache_read,
        cache_write,
        cache_write_1h: usd(hour),
    };
    let both = PriceConfig {
        rates: rates("1", "2", "3"),
        long_context: Some((100_000, rates("4", "5", "6"))),
        search: Some("0.02".parse().unwrap()),
        search_tokens: Some(20_000),
    };
    assert_eq!(price(Scratch::new().user(user)), both);
    let over = price(Scratch::project("[prices.\"a/b\"]\ninput = 7").user(user));
    assert_eq!(
        (over.rates.input, over.rates.output, over.long_context),
        (usd("7"), None, None)
    );
}

#[test]
fn another_kind_starts_a_provider_afresh() {
    let config = Scratch::project("[providers.anthropic]\nkind = \"script\"\nfile = \"answers.json\"")
        .user("[providers.anthropic]\nbase-url = \"https://corp.example\"\nkey-env = \"CORP\"\ntokens-per-minute = 7")
        .load();
    let provider = config.provider("anthropic").unwrap();
    assert_eq!(provider.kind.name(), "script");
    assert_eq!(
        (&provider.address, &provider.key, provider.tokens_per_minute),
        (&None, &None, None)
    );
    assert_eq!(config.origin("providers.anthropic.base-url"), None);
}

#[test]
fn the_nearest_file_upwards_is_the_projects() {
    let scratch = Scratch::project("[models]\na = \"offline/outer\"");
    scratch.write("project/in/agenthost.toml", "[models]\na = \"offline/inner\"");
    scratch.write("project/in/deep/down/x", "");
    let load = |cwd| Config::load(&scratch.env_in(cwd)).unwrap();
    assert_eq!(models(&load("project/in/deep/down")), ["a = offline/inner"]);
    assert_eq!(models(&load("project")), ["a = offline/outer"]);
    assert_eq!(
        load("project/in/deep").project_file(),
        Some(&*scratch.path("project/in/agenthost.toml"))
    );
}

#[test]
fn a_named_file_takes_the_projects_place() {
    let scratch = Scratch::project("[models]\na = \"offline/project\"").user("[models]\nb = \"offline/user\"");
    scratch.write("project/other.toml", "[models]\nc = \"offline/other\"");
    let named = |file: &str| Config::load_from(&scratch.env(), Path::new(file));
    assert_eq!(
        models(&named("other.toml").unwrap()),
        ["b = offline/user", "c = offline/other"]
    );
    assert_eq!(
        scratch.shown(&named("missing.toml").unwrap_err()),
        "cannot read missing.toml: No such file or directory (os error 2)\n\
         Name a file that exists."
    );
}

#[test]
fn a_provider_is_where_its_vendor_is_unless_told_otherwise() {
    let scratch = Scratch::project("[providers.second]\nkind = \"anthropic\"\nkey-env = \"SECOND\"")
        .user("[providers.corp]\nkind = \"openai\"\nbase-url = \"https://corp.example/v1\"");
    let config = scratch.load();
    let address = |config: &Config, name| config.provider(name).unwrap().address.clone().unwrap();
    assert_eq!(address(&config, "anthropic").url, "https://api.anthropic.com");
    assert_eq!(address(&config, "openai").url, "https://api.openai.com/v1");
    assert_eq!(address(&config, "second").set_by, SetBy::Vendor);
    let key = |name| config.provider(name).unwrap().key.clone();
    assert_eq!(key("anthropic"), Some(KeySource::Variable("ANTHROPIC_API_KEY".into())));
    assert_eq!(key("second"), Some(KeySource::Variable("SECOND".into())));
    assert_eq!(key("corp"), None, "a vendor's key is not handed to another service");

    let scratch = scratch.var("ANTHROPIC_BASE_URL", "http://gateway.example:8080/");
    let config = scratch.load();
    for name in ["anthropic", "second"] {
        let address = address(&config, name);
        assert_eq!(address.url, "http://gateway.example:8080");
        assert_eq!(address.set_by, SetBy::Variable("ANTHROPIC_BASE_URL"));
    }
    assert_eq!(address(&config, "openai").set_by, SetBy::Vendor);
    assert_eq!(address(&config, "corp").url, "https://corp.example/v1");
}

#[test]
fn openai_at_its_own_address_has_the_responses_api() {
    let kind = |scratch: &Scratch, name: &str| scratch.load().provider(name).unwrap().kind.clone();
    let chat = |field| ProviderKind::OpenAi {
        max_tokens_field: field,
    };
    let plain = chat(MaxTokensField::MaxCompletionTokens);
    let openai = |text: &str| kind(&Scratch::new().user(text), "openai");
    assert_eq!(openai(""), ProviderKind::OpenAiResponses);
    assert_eq!(openai("[providers.openai]\nretries = 2"), ProviderKind::OpenAiResponses);
    for url in [
        "https://api.openai.com/v1",
        "https://api.openai.com/v1/",
        "https://API.openai.com:443/v1",
    ] {
        let text = format!("[providers.openai]\nbase-url = \"{url}\"");
        assert_eq!(openai(&text), ProviderKind::OpenAiResponses, "{url}");
        let by_variable = Scratch::new().var("OPENAI_BASE_URL", url).load();
        assert_eq!(
            by_variable.provider("openai").unwrap().kind,
            ProviderKind::OpenAiResponses,
            "{url}"
        );
    }
    assert_eq!(openai("[providers.openai]\nkind = \"openai\""), plain);
    assert_eq!(
        openai("[providers.openai]\nbase-url = \"https://corp.example/v1\""),
        plain
    );
    assert_eq!(
        openai("[providers.openai]\nbase-url = \"https://corp.example/v1\"\nkind = \"openai-responses\""),
        ProviderKind::OpenAiResponses
    );
    let elsewhere = Scratch::new().var("OPENAI_BASE_URL", "http://localhost:1/v1");
    assert_eq!(kind(&elsewhere, "openai"), plain);
    let config = Scratch::new()
        .user("[providers.second]\nkind = \"openai-responses\"")
        .load();
    let second = config.provider("second").unwrap();
    assert_eq!(second.kind.name(), "openai-responses");
    assert_eq!(second.address.as_ref().unwrap().url, "https://api.openai.com/v1");
    assert_eq!(second.key, Some(KeySource::Variable("OPENAI_API_KEY".into())));

    // The settings of one vendor's kinds are merged; the only one that differs is refused.
    let user = "[providers.openai]\nmax-concurrency = 7\nkey-env = \"MINE\"";
    for other in ["openai", "openai-responses"] {
        let project = format!("[providers.openai]\nkind = \"{other}\"");
        let config = Scratch::project(&project).user(user).load();
        let provider = config.provider("openai").unwrap();
        assert_eq!(
            (provider.kind.name(), provider.max_concurrency, &provider.key),
            (other, Some(7), &Some(KeySource::Variable("MINE".into())))
        );
    }
    for head in ["", "kind = \"openai-responses\"\n"] {
        let scratch = Scratch::new().user(&format!("[providers.openai]\n{head}max-tokens-field = \"max-tokens\""));
        let complaint = scratch.complaint();
        assert!(
            complaint
                .contains("`max-tokens-field` in [providers.openai] does not go with kind = \"openai-responses\"\n")
                && complaint.ends_with("add kind = \"openai\" for chat completions, which have this field."),
            "{complaint}"
        );
    }
}

#[test]
fn a_grant_only_narrows() {
    let text = r#"
        [models]
        fast = "offline/fast"
        strong = "offline/strong"
        [limits]
        tokens = 1000
        calls = "none"
        [grants."demo:a"]
        models = ["fast"]
        dirs = ["data::/data", "./x::/x:rw", ".::/abs"]
        limits = { tokens = 5000, calls = 3, timeout = "1m", memory = "none" }
        [grants."demo:b"]
    "#;
    let scratch = Scratch::project(text).user("[grants.\"demo:b\"]\nmodels = []\nlimits.tokens = 1");
    trust::accept(&scratch.env(), Path::new("agenthost.toml")).unwrap();
    let config = scratch.load();
    let a = config.grant("demo:a");
    assert_eq!(a.models, BTreeSet::from(["fast".to_owned()]));
    assert_eq!((a.limits.tokens, a.limits.calls), (Some(1_000), Some(3)));
    assert_eq!(
        (a.limits.timeout, a.limits.memory),
        (Some(Duration::from_secs(60)), Some(64 << 20))
    );
    let root = scratch.root().to_str().unwrap();
    assert_eq!(
        a.dirs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            format!("{root}/project/data::/data"),
            format!("{root}/project/x::/x:rw"),
            format!("{root}/project::/abs"),
        ]
    );
    let grant = config.grant("demo:unlisted");
    assert_eq!(grant.models.len(), 2);
    assert_eq!(&grant.limits, config.limits());
    assert!(grant.dirs.is_empty());
    let grant = config.grant("demo:b");
    assert_eq!(
        (grant.models.len(), grant.limits.tokens),
        (0, Some(1)),
        "the operator's own entry holds beside"
    );
}

#[test]
fn paths_are_relative_to_the_file_they_stand_in() {
    let scratch = Scratch::project("[providers.s]\nkind = \"script\"\nfile = \"./answers.json\"\n[sub-agents]\n\"a:a\" = \"../a.wasm\"\n\"a:b\" = \"~/b\"\n\"a:c\" = \"./d:e\"")
        .user("[providers.openai]\nkey-file = \"openai.key\"\n[sub-agents]\n\"a:z\" = \"z.wasm\"");
    let config = scratch.load();
    let file = scratch.path("project/answers.json");
    assert_eq!(config.provider("s").unwrap().kind, ProviderKind::Script { file });
    let key = scratch.path("home/.config/agenthost/openai.key");
    assert_eq!(config.provider("openai").unwrap().key, Some(KeySource::File(key)));
    let agent = |name: &str| config.sub_agents()[name].clone();
    assert_eq!(agent("a:a"), SubAgent::Path(scratch.path("project/../a.wasm")));
    assert_eq!(agent("a:b"), SubAgent::Path(scratch.path("home/b")));
    assert_eq!(agent("a:c"), SubAgent::Path(scratch.path("project/d:e")));
    assert_eq!(
        agent("a:z"),
        SubAgent::Path(scratch.path("home/.config/agenthost/z.wasm"))
    );
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", Scratch::new().var("ANTHROPIC_API_KEY", "sk-secret").load());
    assert!(
        text.contains("ANTHROPIC_API_KEY") && !text.contains("sk-secret"),
        "{text}"
    );
}

#[test]
fn a_journal_is_set_key_by_key() {
    let scratch = Scratch::project("[journal]\nbodies = \"replies\"\nfile = \"log/runs.db\"")
        .user("[journal]\nenabled = false\nbodies = \"none\"\nmax-run-bytes = \"2MiB\"");
    assert_eq!(
        scratch.load().journal(),
        &JournalConfig {
            enabled: false,
            file: Some(scratch.path("project/log/runs.db")),
            bodies: BodyRetention::None,
            max_run_bytes: Some(2 << 20),
        }
    );
}

#[test]
fn a_projects_journal_stays_in_its_folder() {
    for outside in ["../runs.db", "/var/tmp/runs.db", "~/runs.db", "a/../../runs.db"] {
        let scratch = Scratch::project(&format!("[journal]\nfile = \"{outside}\""));
        assert_eq!(
            scratch.complaint(),
            "agenthost.toml:2: `file` in [journal] lies outside the folder of a project's file\nName a file below the \
             folder, or set it in your own file."
        );
    }
    let own = Scratch::new().user("[journal]\nfile = \"~/runs.db\"");
    assert_eq!(own.load().journal().file, Some(own.path("home/runs.db")));
}

#[test]
fn a_providers_section_is_named_with_its_place_and_without_the_home_directory() {
    let scratch = Scratch::project("[providers.openai]\nretries = 1\nkey-env = \"A\"")
        .user("[providers.corp]\nkind = \"openai\"\nbase-url = \"http://127.0.0.1:1\"");
    let config = scratch.load();
    for (provider, key, shown) in [
        ("openai", "key-env", "[providers.openai] (agenthost.toml:3)"),
        ("openai", "base-url", "[providers.openai] (agenthost.toml:1)"),
        (
            "corp",
            "base-url",
            "[providers.corp] (~/.config/agenthost/config.toml:3)",
        ),
        ("anthropic", "base-url", "[providers.anthropic]"),
    ] {
        assert_eq!(config.provider_section(provider, key), shown);
    }
}

/// A message names the entry that applies, and not the one that it replaces.
#[test]
fn an_entry_that_drops_a_granted_tool_is_the_one_to_change() {
    let user = "[grants.\"demo:scan\"]\nserver-tools = [\"web-search\"]";
    let project = "[models]\nfast = \"offline/fast\"\n[grants.\"demo:scan\"]\nmodels = [\"fast\"]";
    let config = Scratch::project(project).user(user).load();
    assert!(config.grant("demo:scan").server_tools.is_empty());
    let section = config.grant_section("demo:scan", "server-tools");
    assert_eq!(section, "[grants.\"demo:scan\"] (agenthost.toml:3)");
}
