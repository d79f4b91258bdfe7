//! Every error about a configuration file, word for word.

use std::fs;
use std::os::unix::fs::symlink;

use super::super::scratch::Scratch;
use agenthost_core::error::{Classify as _, ErrorClass};

fn complaint(project: &str) -> String {
    Scratch::project(project).complaint()
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    symlink("agenthost.toml", scratch.path("project/agenthost.toml")).unwrap();
    assert!(
        scratch
            .complaint()
            .starts_with("cannot read agenthost.toml: Too many levels of symbolic links")
    );
    let scratch = Scratch::new();
    symlink("nowhere", scratch.path("project/agenthost.toml")).unwrap();
    assert_eq!(
        scratch.complaint(),
        "cannot read agenthost.toml: No such file or directory (os error 2)"
    );
    let scratch = Scratch::new();
    symlink("/dev/zero", scratch.path("project/agenthost.toml")).unwrap();
    assert_eq!(
        scratch.complaint(),
        "cannot read agenthost.toml: it is not a regular file"
    );
    let scratch = Scratch::project(&"#".repeat((1 << 20) + 1));
    assert_eq!(
        scratch.complaint(),
        "cannot read agenthost.toml: it is larger than 1 MiB"
    );
    let scratch = Scratch::new();
    fs::write(scratch.path("project/agenthost.toml"), [0xff]).unwrap();
    assert_eq!(
        scratch.complaint(),
        "cannot read agenthost.toml: stream did not contain valid UTF-8"
    );
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("home/.config/agenthost/config.toml")).unwrap();
    assert_eq!(
        scratch.complaint(),
        "cannot read /home/.config/agenthost/config.toml: it is not a regular file"
    );
    assert_eq!(scratch.load_error().class(), ErrorClass::Config);
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, expected) in [
        (
            "[modles]",
            "agenthost.toml:1: unknown key `modles` at the top level\nDid you mean `models`?",
        ),
        (
            "\n\n[providers.x]\nkind = \"openai\"\nbase_url = \"http://a\"",
            "agenthost.toml:5: unknown key `base_url` in [providers.x]\nDid you mean `base-url`?",
        ),
        (
            "zebra = 1",
            "agenthost.toml:1: unknown key `zebra` at the top level\n\
             The known keys here are models, providers, limits, run, allowance, compile, journal, grants, sub-agents, prices, registries, policy, schedules.",
        ),
        (
            "[limits]\ntime = 5",
            "agenthost.toml:2: unknown key `time` in [limits]\n\
             The known keys here are tokens, cost, calls, fuel, memory, timeout, tasks, depth, reply-tokens.",
        ),
        (
            "[limits]\ntoken = 5",
            "agenthost.toml:2: unknown key `token` in [limits]\nDid you mean `tokens`?",
        ),
        (
            "[run]\nstrict-token = 5",
            "agenthost.toml:2: unknown key `strict-token` in [run]\nDid you mean `strict-tokens`?",
        ),
        (
            "[run.limits]\ntimeout = \"5m\"",
            "agenthost.toml:2: `timeout` in [run.limits]: bounds a task, not what a run spends\nWrite it under [limits]; a task's sub-tasks are within it.",
        ),
        (
            "[run.limits]\nreply-tokens = 1\ntokns = 1",
            "agenthost.toml:2: unknown key `reply-tokens` in [run.limits]\nThe known keys here are tokens, cost, calls, fuel, memory, timeout, tasks, depth.",
        ),
        (
            "[grants.\"a:b\"]\nmodel = []",
            "agenthost.toml:2: unknown key `model` in [grants.\"a:b\"]\nDid you mean `models`?",
        ),
        (
            "[grants.\"a:b\".limits]\ncall = 1",
            "agenthost.toml:2: unknown key `call` in [grants.\"a:b\".limits]\nDid you mean `calls`?",
        ),
        (
            "[prices.\"a/b\"]\ninputs = 1",
            "agenthost.toml:2: unknown key `inputs` in [prices.\"a/b\"]\nDid you mean `input`?",
        ),
    ] {
        assert_eq!(complaint(text), expected);
    }
}

#[test]
fn wrong_values_name_their_place() {
    for (text, expected) in [
        (
            "a = ",
            "agenthost.toml:1: string values must be quoted, expected literal string\nWrite [SECTION] on a line of its own, and below it lines such as key = \"text\", key = 5 or key = [\"a\", \"b\"].",
        ),
        (
            "[limits]\ncalls = 5\n[models",
            "agenthost.toml:3: unclosed table, expected `]`\nWrite [SECTION] on a line of its own, and below it lines such as key = \"text\", key = 5 or key = [\"a\", \"b\"].",
        ),
        ("[limits]\ncalls = 5\ncalls = 6", "agenthost.toml:3: duplicate key"),
        (
            "models = 1",
            "agenthost.toml:1: `models`: expected a table, found integer",
        ),
        (
            "[models]\nFast = \"a/b\"",
            "agenthost.toml:2: `Fast` in [models]: `Fast` is not a model name; write 1 to 64 of a-z, 0-9 and -",
        ),
        (
            "[models]\nfast = 1",
            "agenthost.toml:2: `fast` in [models]: expected a string or a list of strings, found integer\nWrite one model in quotes, or a list of models that are tried in turn.",
        ),
        (
            "[models]\nfast = []",
            "agenthost.toml:2: `fast` in [models]: the list is empty\nWrite one model in quotes, or a list of models that are tried in turn.",
        ),
        (
            "[models]\nfast = [1]",
            "agenthost.toml:2: `fast` in [models]: expected a list of strings, found array\nWrite one model in quotes, or a list of models that are tried in turn.",
        ),
        (
            "[models]\nfast = [\n\"offline/a\",\n\"offline\"]",
            "agenthost.toml:4: `fast` in [models]: `offline` is not a model; write provider/model, such as anthropic/claude-haiku-5-5\nWrite one model in quotes, or a list of models that are tried in turn.",
        ),
        (
            "[models]\nfast = \"/a\"",
            "agenthost.toml:2: `fast` in [models]: `/a` is not a model; write provider/model, such as anthropic/claude-haiku-5-5\nWrite one model in quotes, or a list of models that are tried in turn.",
        ),
        (
            "[models]\n\nfast = [\"offline/a\", \"offline/b\", \"offline/a\"]",
            "agenthost.toml:3: `fast` in [models]: the list names `offline/a` twice\n\
             Name each model once; what another attempt can help is tried again anyway.",
        ),
        (
            "[providers]\nx = 1",
            "agenthost.toml:2: `x` in [providers]: expected a table, found integer",
        ),
        (
            "[providers.\"a/b\"]",
            "agenthost.toml:1: `a/b` in [providers]: `a/b` is not a provider name; write 1 to 64 of a-z, 0-9 and -",
        ),
        (
            "[providers.x]\nkind = \"open\"",
            "agenthost.toml:2: `kind` in [providers.x]: `open` is not a kind of provider; write anthropic, openai, openai-responses, offline or script",
        ),
        (
            "[providers.x]\nkind = true",
            "agenthost.toml:2: `kind` in [providers.x]: expected a string, found boolean",
        ),
        (
            "[providers.openai]\nrequests-per-minute = 0",
            "agenthost.toml:2: `requests-per-minute` in [providers.openai]: it must be at least 1\nWrite how many requests a minute may have; leave it out for no such limit.",
        ),
        (
            "[providers.openai]\nmax-tokens-field = \"x\"",
            "agenthost.toml:2: `max-tokens-field` in [providers.openai]: `x` is not known; write max-completion-tokens or max-tokens",
        ),
        (
            "[providers.openai]\nstructured-output = \"x\"",
            "agenthost.toml:2: `structured-output` in [providers.openai]: `x` is not known; write auto, schema, json-object or prompt",
        ),
        (
            "[providers.openai]\nsilence = 0",
            "agenthost.toml:2: `silence` in [providers.openai]: `0` is not a positive time\nWrite how long an answer may pause once it has begun, such as \"30s\".",
        ),
        (
            "[providers.openai]\nkey-env = \"sk-secret\"",
            "agenthost.toml:2: `key-env` in [providers.openai]: this is not the name of an environment variable; write letters, digits and _",
        ),
        (
            "[providers.openai]\nkey-env = \"A\"\nkey-file = \"b\"",
            "agenthost.toml:3: `key-file` in [providers.openai]: there is a `key-env` too; write one of them",
        ),
        (
            "[providers.openai]\napi-key = \"sk-secret\"",
            "agenthost.toml:2: `api-key` in [providers.openai]: a key must not be in this file\n\
             Name where it is: key-env = \"A_VARIABLE\", or key-file = \"a file only you can read\".",
        ),
        (
            "[providers.openai]\nkey-file = \"\"",
            "agenthost.toml:2: `key-file` in [providers.openai]: the path is empty",
        ),
        (
            "[limits]\ntokens = 1.5",
            "agenthost.toml:2: `tokens` in [limits]: `1.5` is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T); or none for no limit",
        ),
        (
            "[limits]\ntokens = 0x10",
            "agenthost.toml:2: `tokens` in [limits]: `0x10` is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T); or none for no limit",
        ),
        (
            "[limits]\ntimeout = [1]",
            "agenthost.toml:2: `timeout` in [limits]: expected a number or a string, found array",
        ),
        (
            "[limits]\nreply-tokens = 0",
            "agenthost.toml:2: `reply-tokens` in [limits]: it must be at least 1",
        ),
        (
            "[limits]\nreply-tokens = \"5G\"",
            "agenthost.toml:2: `reply-tokens` in [limits]: `5G` is too large; the most is 4294967295",
        ),
        (
            "[run]\nstrict-tokens = 1",
            "agenthost.toml:2: `strict-tokens` in [run]: expected true or false, found integer",
        ),
        (
            "[run]\nlog-bytes = \"64K\"",
            "agenthost.toml:2: `log-bytes` in [run]: `64K` is not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, such as 64MiB",
        ),
        (
            "[run]\nlimits.cost = nan",
            "agenthost.toml:2: `cost` in [run.limits]: `nan` is not an amount in US dollars; write a plain number with at most 12 decimals, such as 0.5; or none for no limit",
        ),
        (
            "[grants.competitor]",
            "agenthost.toml:1: `competitor` in [grants]: `competitor` is not a plugin; write namespace:name without a version, such as demo:competitor",
        ),
        (
            "[sub-agents]\n\"a:b@0.1.0\" = \"x\"",
            "agenthost.toml:2: `a:b@0.1.0` in [sub-agents]: `a:b@0.1.0` is not a plugin; write namespace:name without a version, such as demo:competitor",
        ),
        (
            "[grants.\"a:b\"]\nmodels = \"fast\"",
            "agenthost.toml:2: `models` in [grants.\"a:b\"]: expected a list of strings, found string",
        ),
        (
            "[grants.\"a:b\"]\ndirs = [\"data\"]",
            "agenthost.toml:2: `dirs` in [grants.\"a:b\"]: `data` is not a directory; write HOST::GUEST, or HOST::GUEST:rw to let it write",
        ),
        (
            "[grants.\"a:b\"]\n\ndirs = [\n  \"x::/x\",\n  \"y::/../x\"\n]",
            "agenthost.toml:5: `dirs` in [grants.\"a:b\"]: `y::/../x`: the guest's path is `/../x`; write an absolute one without `.`, `..` and a slash at its end, such as /data",
        ),
        (
            "[grants.\"a:b\"]\ndirs = [\"x::/x\", \"y::/x\"]",
            "agenthost.toml:2: `dirs` in [grants.\"a:b\"]: two directories are called /x",
        ),
        (
            "[grants.\"a:b\"]\nserver-tools = 1",
            "agenthost.toml:2: `server-tools` in [grants.\"a:b\"]: expected a table or a list of strings, found integer\nWrite server-tools = { web-search = { max-uses = 5, allowed-domains = [\"example.com\"] } }, or server-tools = [\"web-search\"] for the defaults.",
        ),
        (
            "[grants.\"a:b\"]\n\nserver-tools = [\"web-search\",\n\"web-serch\"]",
            "agenthost.toml:4: `server-tools` in [grants.\"a:b\"]: `web-serch` is not a tool of a provider; the nearest is `web-search`\nWrite server-tools = { web-search = { max-uses = 5, allowed-domains = [\"example.com\"] } }, or server-tools = [\"web-search\"] for the defaults.",
        ),
        (
            "[grants.\"a:b\"]\nserver-tools = [\"web-fetch\", \"web-fetch\"]",
            "agenthost.toml:2: `server-tools` in [grants.\"a:b\"]: the list names `web-fetch` twice",
        ),
        (
            "[grants.\"a:b\".server-tools]\nshell = {}",
            "agenthost.toml:2: `shell` in [grants.\"a:b\".server-tools]: `shell` is not a tool of a provider; the known ones are web-search and web-fetch\nWrite server-tools = { web-search = { max-uses = 5, allowed-domains = [\"example.com\"] } }, or server-tools = [\"web-search\"] for the defaults.",
        ),
        (
            "[grants.\"a:b\".server-tools]\nweb-search = true",
            "agenthost.toml:2: `web-search` in [grants.\"a:b\".server-tools]: expected a table, found boolean\nWrite server-tools = { web-search = { max-uses = 5, allowed-domains = [\"example.com\"] } }, or server-tools = [\"web-search\"] for the defaults.",
        ),
        (
            "[grants.\"a:b\".server-tools.web-search]\nmax-use = 5",
            "agenthost.toml:2: unknown key `max-use` in [grants.\"a:b\".server-tools.web-search]\nDid you mean `max-uses`?",
        ),
        (
            "[grants.\"a:b\".server-tools.web-search]\nmax-uses = 0",
            "agenthost.toml:2: `max-uses` in [grants.\"a:b\".server-tools.web-search]: `0` is not a number from 1 to 100",
        ),
        (
            "[grants.\"a:b\".server-tools.web-search]\nmax-uses = \"5G\"",
            "agenthost.toml:2: `max-uses` in [grants.\"a:b\".server-tools.web-search]: `5G` is not a number from 1 to 100",
        ),
        (
            "[grants.\"a:b\".server-tools.web-search]\nallowed-domains = [\n\"a.com\",\n\"https://b.com\"]",
            "agenthost.toml:4: `allowed-domains` in [grants.\"a:b\".server-tools.web-search]: \"https://b.com\" is not a domain; write it without scheme and path, such as \"example.com\"",
        ),
        (
            "[grants.\"a:b\".server-tools.web-search]\nallowed-domains = []",
            "agenthost.toml:2: `allowed-domains` in [grants.\"a:b\".server-tools.web-search]: the list is empty\n\
             Name the domains, or leave the key out: without it, the tool may use all domains.",
        ),
        (
            "[grants.\"a:b\"]\nserver-tools = { web-fetch = { allowed-domains = [\"a.com\"], blocked-domains = [\"b.com\"] } }",
            "agenthost.toml:2: `web-fetch` in [grants.\"a:b\".server-tools]: `allowed-domains` and `blocked-domains` exclude each other",
        ),
        (
            "[prices.x]",
            "agenthost.toml:1: `x` in [prices]: `x` is not a model; write provider/model, such as anthropic/claude-haiku-5-5",
        ),
        (
            "[prices.\"a/b\"]\ninput = -1",
            "agenthost.toml:2: `input` in [prices.\"a/b\"]: `-1` is not an amount in US dollars; write a plain number with at most 12 decimals, such as 0.5",
        ),
        (
            "[prices.\"a/b\"]\nsearch-tokens = 1.5",
            "agenthost.toml:2: `search-tokens` in [prices.\"a/b\"]: `1.5` is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T)",
        ),
        (
            "[prices.\"a/b\"]\nlong-context = 5",
            "agenthost.toml:2: `long-context` in [prices.\"a/b\"]: expected a table, found integer\n\
             Write long-context = { above = 100_000, input = 0.50, output = 2.50 }, with prices in USD per million tokens.",
        ),
        (
            "[prices.\"a/b\"]\n\nlong-context = { above = \"100k\", input = 1 }",
            "agenthost.toml:3: `long-context` in [prices.\"a/b\"]: it needs `above`, `input` and `output`\n\
             Write long-context = { above = 100_000, input = 0.50, output = 2.50 }, with prices in USD per million tokens.",
        ),
        (
            "[prices.\"a/b\".long-context]\nabove = 0",
            "agenthost.toml:2: `above` in [prices.\"a/b\".long-context]: it must be at least 1",
        ),
        (
            "[prices.\"a/b\".long-context]\ncache-write-2h = 1",
            "agenthost.toml:2: unknown key `cache-write-2h` in [prices.\"a/b\".long-context]\nDid you mean `cache-write-1h`?",
        ),
    ] {
        let found = complaint(text);
        assert_eq!(found, expected);
        assert!(!found.contains("sk-secret"));
    }
}

#[test]
fn headers_and_parameters_are_checked() {
    const HINT: &str =
        "Write NAME = \"VALUE\", or NAME = { env = \"A_VARIABLE\" } for a value from an environment variable.";
    for (line, expected) in [
        (
            "headers = 1",
            format!("`headers` in [providers.openai]: expected a table, found integer\n{HINT}"),
        ),
        (
            "headers = { x-a = 1 }",
            format!("`x-a` in [providers.openai.headers]: expected a string or a table, found integer\n{HINT}"),
        ),
        (
            "headers = { x-a = {} }",
            format!("`x-a` in [providers.openai.headers]: the table has no `env`\n{HINT}"),
        ),
        (
            "headers = { x-a = { var = \"A\" } }",
            "unknown key `var` in [providers.openai.headers.x-a]\nThe known keys here are env.".to_owned(),
        ),
        (
            "headers = { x-a = { env = \"sk-secret\" } }",
            "`env` in [providers.openai.headers.x-a]: this is not the name of an environment variable; write letters, \
             digits and _"
                .to_owned(),
        ),
        (
            "headers = { \"x a\" = \"b\" }",
            "`x a` in [providers.openai.headers]: not a valid name of a header\n\
             Write letters, digits and -, such as x-portkey-provider."
                .to_owned(),
        ),
        (
            "headers = { Content-Type = \"text/plain\" }",
            "`Content-Type` in [providers.openai.headers]: the host sets this header itself\nLeave it out.".to_owned(),
        ),
        (
            "headers = { x-a = \"b\\nx-evil: 1\" }",
            "`x-a` in [providers.openai.headers]: the value has a control character, a character outside of ASCII, or a \
             blank at one end\nWrite printable ASCII characters on one line."
                .to_owned(),
        ),
        (
            "headers = { x-a = \"\" }",
            "`x-a` in [providers.openai.headers]: the value is empty\nGive it a value, or leave it out.".to_owned(),
        ),
        (
            "headers = { x-a = \"1\", X-A = \"1\" }",
            "`x-a` in [providers.openai.headers]: duplicate header; case does not matter\nWrite each header once."
                .to_owned(),
        ),
        (
            "headers = { api-key = \"sk-secret\" }",
            "`api-key` in [providers.openai.headers]: a key must not be in this file\n\
             Name the environment variable that holds it: { env = \"A_VARIABLE\" }."
                .to_owned(),
        ),
        (
            "query = { \"\" = \"b\" }",
            "`` in [providers.openai.query]: not a valid name of a query parameter\nWrite the name alone, such as api-version."
                .to_owned(),
        ),
        (
            "query = { a = \"b\\u0007\" }",
            "`a` in [providers.openai.query]: the value has a control character, or is not UTF-8\n\
             Write the value on one line, as it is before it is encoded for an address."
                .to_owned(),
        ),
        (
            "key-env = \"A\"\nheaders = { Authorization = { env = \"B\" } }",
            "`authorization` in [providers.openai.headers]: this header carries the provider's key\n\
             Leave it out, or remove `key-env` and `key-file` to send this header instead of a key."
                .to_owned(),
        ),
    ] {
        let found = complaint(&format!("[providers.openai]\n{line}"));
        let place = if line.starts_with("key-env") { 3 } else { 2 };
        assert_eq!(found, format!("agenthost.toml:{place}: {expected}"));
        assert!(!found.contains("sk-secret"));
    }
    assert_eq!(
        complaint("[providers.anthropic]\nheaders.anthropic-version = \"2023-06-01\""),
        "agenthost.toml:2: `anthropic-version` in [providers.anthropic.headers]: the host sets this header itself\nLeave it out."
    );
    for kind in ["kind = \"offline\"", "kind = \"script\"\nfile = \"a\""] {
        for key in ["headers", "query"] {
            let found = complaint(&format!("[providers.x]\n{kind}\n{key} = {{}}"));
            let says = format!("`{key}` in [providers.x] does not go with kind = ");
            assert!(
                found.contains(&says) && found.contains("\nLeave it out; only kind = "),
                "{found}"
            );
        }
    }
}

#[test]
fn settings_of_calls_are_checked() {
    const COUNT: &str = "is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T)";
    const DURATION: &str = "is not a duration; write seconds, or numbers with h, m, s or ms, such as 90s or 1h30m";
    const NUMBER: &str = "expected a number or a string, found";
    for (key, hint, wrong) in [
        (
            "initial-concurrency",
            "Write how many requests may be in flight at the start, such as 4.",
            &[("0", "it must be at least 1".to_owned())][..],
        ),
        (
            "max-concurrency",
            "Write how many requests to one model may be in flight, such as 64.",
            &[
                ("0", "it must be at least 1".to_owned()),
                ("-1", format!("`-1` {COUNT}")),
                ("1.5", format!("`1.5` {COUNT}")),
                (
                    "4294967296",
                    "`4294967296` is too large; the most is 4294967295".to_owned(),
                ),
                ("true", format!("{NUMBER} boolean")),
            ][..],
        ),
        (
            "retries",
            "Write how many attempts may follow the first, such as 4; 0 for none.",
            &[
                ("-1", format!("`-1` {COUNT}")),
                ("\"none\"", format!("`none` {COUNT}")),
                ("\"5G\"", "`5G` is too large; the most is 4294967295".to_owned()),
                ("[4]", format!("{NUMBER} array")),
            ],
        ),
        (
            "hedge-after",
            "Write after what time without an answer a second attempt starts, such as \"20s\"; leave it out for none.",
            &[
                ("0", "`0` is not a positive time".to_owned()),
                ("-5", format!("`-5` {DURATION}")),
                ("\"9000h\"", "`9000h` is too long; the most is 8760h".to_owned()),
                ("false", format!("{NUMBER} boolean")),
            ],
        ),
        (
            "warm-prefix",
            "Write false to send requests that share a long prefix all at once.",
            &[
                ("0", "expected true or false, found integer".to_owned()),
                ("\"no\"", "expected true or false, found string".to_owned()),
            ],
        ),
        (
            "timeout",
            "Write how long the first byte of an answer may take, such as \"2m\".",
            &[
                ("\"0s\"", "`0s` is not a positive time".to_owned()),
                ("-0.5", format!("`-0.5` {DURATION}")),
                ("99999999999", "`99999999999` is too long; the most is 8760h".to_owned()),
                ("{}", format!("{NUMBER} table")),
            ],
        ),
        (
            "tokens-per-minute",
            "Write how many tokens a minute may have; leave it out for no such limit.",
            &[("\"lots\"", format!("`lots` {COUNT}"))],
        ),
    ] {
        for (value, says) in wrong {
            assert_eq!(
                complaint(&format!("[providers.offline]\n{key} = {value}")),
                format!("agenthost.toml:2: `{key}` in [providers.offline]: {says}\n{hint}")
            );
        }
    }
}

#[test]
fn an_address_must_be_plain() {
    for (address, expected) in [
        ("api.example", "this is not an address"),
        ("ftp://a.example", "this is not an http address"),
        (
            "https://user:pass@a.example",
            "the address must not carry a user name or password",
        ),
        (
            "https://a.example?x=1",
            "the address must not carry a query or fragment",
        ),
        ("https://a.example/#x", "the address must not carry a query or fragment"),
    ] {
        assert_eq!(
            complaint(&format!("[providers.openai]\nbase-url = \"{address}\"")),
            format!(
                "agenthost.toml:2: `base-url` in [providers.openai]: {expected}; write http(s)://HOST[:PORT][/PATH]"
            )
        );
    }
    assert_eq!(
        Scratch::new().var("OPENAI_BASE_URL", "nonsense").complaint(),
        "the environment variable OPENAI_BASE_URL: this is not an address; write http(s)://HOST[:PORT][/PATH]\n\
         Correct the variable, or unset it."
    );
}

#[test]
fn what_takes_both_files_to_tell() {
    for (text, expected) in [
        (
            "[models]\nfast = \"antropic/x\"",
            "agenthost.toml:2: `fast` in [models] names the unknown provider `antropic`\n\
             Did you mean `anthropic`? The known providers are anthropic, offline, openai.",
        ),
        (
            "[models]\nfast = [\"offline/x\", \"zebra/x\"]\n[providers.corp]\nkind = \"offline\"",
            "agenthost.toml:2: `fast` in [models] names the unknown provider `zebra`\n\
             The known providers are anthropic, corp, offline, openai.",
        ),
        (
            "[grants.\"a:b\"]\nmodels = [\"fsat\"]",
            "agenthost.toml:2: `models` in [grants.\"a:b\"] names the unknown model `fsat`\n\
             Did you mean `fast`? The known models are fast, strong.",
        ),
        (
            "\n[providers.corp]\nbase-url = \"https://a.example\"",
            "agenthost.toml:2: [providers.corp] has no `kind`\n\
             Add kind = \"anthropic\", \"openai\", \"openai-responses\", \"offline\" or \"script\".",
        ),
        (
            "[providers.corp]\nkind = \"script\"",
            "agenthost.toml:1: [providers.corp] has no `file`\nAdd file = \"…\" with the answers that the script gives.",
        ),
        (
            "[providers.offline]\nkey-env = \"A\"",
            "agenthost.toml:2: `key-env` in [providers.offline] does not go with kind = \"offline\"",
        ),
        (
            "[providers.anthropic]\nmax-tokens-field = \"max-tokens\"",
            "agenthost.toml:2: `max-tokens-field` in [providers.anthropic] does not go with kind = \"anthropic\"",
        ),
        (
            "[providers.anthropic]\nstructured-output = \"json-object\"",
            "agenthost.toml:2: `structured-output` in [providers.anthropic] is json-object, which kind = \"anthropic\" does not have\nWrite auto, schema or prompt.",
        ),
        (
            "[providers.offline]\nstructured-output = \"prompt\"",
            "agenthost.toml:2: `structured-output` in [providers.offline] does not go with kind = \"offline\"",
        ),
        (
            "[providers.openai]\nfile = \"x\"",
            "agenthost.toml:2: `file` in [providers.openai] does not go with kind = \"openai-responses\"",
        ),
        (
            "[providers.x]\nkind = \"script\"\nfile = \"x\"\nbase-url = \"http://localhost\"",
            "agenthost.toml:4: `base-url` in [providers.x] does not go with kind = \"script\"",
        ),
    ] {
        assert_eq!(complaint(text), expected);
    }
}
