use super::*;

fn report(file: &str) -> Vec<(String, CheckStatus, String)> {
    let dir = std::env::temp_dir().join(format!(
        "agenthost-doctor-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("agenthost.toml"), file).unwrap();
    let env = Env::new(
        [("OPENAI_API_KEY".to_owned(), "k".to_owned())].into(),
        dir.clone(),
        None,
    );
    let config = Config::load(&env).unwrap();
    let mut report = Report {
        format: 1,
        version: "",
        checks: Vec::new(),
    };
    configuration(&mut report, &config, &env);
    std::fs::remove_dir_all(dir).unwrap();
    report
        .checks
        .into_iter()
        .map(|check| (check.name, check.state, check.found))
        .collect()
}

fn states(report: &[(String, CheckStatus, String)], prefix: &str) -> Vec<(String, &'static str)> {
    report
        .iter()
        .filter(|(name, _, _)| name.starts_with(prefix))
        .map(|(name, state, _)| {
            let state = match state {
                CheckStatus::Ok => "ok",
                CheckStatus::Warn => "warn",
                CheckStatus::Fail => "fail",
            };
            (name.clone(), state)
        })
        .collect()
}

#[test]
fn a_chain_fails_only_where_none_of_it_works() {
    let report = report(
        r#"
        [models]
        first = ["anthropic/a", "openai/b"]
        second = ["openai/b", "anthropic/a"]
        neither = ["anthropic/a", "anthropic/b"]
        [providers.openai]
        requests-per-minute = 600
        tokens-per-minute = "2M"
        max-concurrency = 16
        "#,
    );
    let named = |name: &str, state| (name.to_owned(), state);
    assert_eq!(
        states(&report, "model "),
        [
            named("model first", "warn"),
            named("model first, then", "ok"),
            named("model neither", "fail"),
            named("model neither, then", "warn"),
            named("model second", "ok"),
            named("model second, then", "warn"),
        ]
    );
    let (_, _, found) = &report[2];
    assert!(
        found.starts_with("openai/b: key from ")
            && found.ends_with(", price unknown, 600 requests a minute, 2,000,000 tokens a minute, 16 at once"),
        "{found}"
    );
    let limits = report.iter().find(|(name, _, _)| name == "limits of a task").unwrap();
    assert_eq!(
        limits.2,
        "tokens 200,000, cost none, calls 100, fuel 20 G, memory 64 MiB, time 5 min, tasks 100, depth 5"
    );
}

#[test]
fn the_kind_of_a_service_is_named_and_chat_at_openai_gets_a_hint() {
    let found = |file: &str| {
        let report = report(&format!("[models]\na = \"openai/gpt-6-luna\"\n{file}"));
        let (_, state, found) = report.into_iter().find(|(name, ..)| name == "model a").unwrap();
        assert!(state == CheckStatus::Ok, "{found}");
        found
    };
    let (responses, chat) = (found(""), found("[providers.openai]\nkind = \"openai\""));
    assert!(
        responses.ends_with("at https://api.openai.com/v1 (openai-responses)"),
        "{responses}"
    );
    assert!(chat.ends_with("at https://api.openai.com/v1 (openai)"), "{chat}");
    let hint = |file: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agenthost.toml"), file).unwrap();
        let config = Config::load(&Env::new([].into(), dir.path(), None)).unwrap();
        chat_hint("openai", config.provider("openai").unwrap())
    };
    assert!(hint("[providers.openai]\nkind = \"openai\"").is_some_and(|hint| hint.contains("openai-responses")));
    assert!(hint("[providers.openai]\nkind = \"openai\"\nbase-url = \"https://api.openai.com/v1/\"").is_some());
    assert_eq!(hint(""), None);
    assert_eq!(
        hint("[providers.openai]\nbase-url = \"https://api.openai.com/v1\""),
        None
    );
    assert_eq!(hint("[providers.openai]\nbase-url = \"http://localhost:1/v1\""), None);
}

#[test]
fn a_wrong_price_is_named_once_and_as_that() {
    let report = report("[models]\na = \"offline/a\"\n[prices.\"offline/a\"]\ninput = 1");
    let failed: Vec<_> = report
        .iter()
        .filter(|(_, state, _)| *state == CheckStatus::Fail)
        .collect();
    assert_eq!(failed.len(), 1);
    let (name, _, found) = failed[0];
    assert_eq!(name, "prices");
    assert!(
        found.ends_with("agenthost.toml:3: [prices.\"offline/a\"]: a price needs both `input` and `output`"),
        "{found}"
    );
}

#[test]
fn numbers_are_grouped() {
    for (text, shown) in [
        ("1", "1"),
        ("100", "100"),
        ("1000", "1,000"),
        ("1234567", "1,234,567"),
        ("64 MiB", "64 MiB"),
    ] {
        assert_eq!(thousands(text), shown);
    }
}

#[test]
fn each_open_advisory_says_whether_this_host_is_affected() {
    let mut report = Report {
        format: 1,
        version: "",
        checks: Vec::new(),
    };
    engine(&mut report);
    let (engine, rows) = report.checks.split_first().unwrap();
    let open = advisories::open();
    assert_eq!(rows.len(), open.len());
    let affect = rows.iter().filter(|row| row.affected == Some(true)).count();
    assert_eq!(engine.state == CheckStatus::Warn, affect > 0, "{}", engine.found);
    for (row, advisory) in rows.iter().zip(&open) {
        assert_eq!(
            (&row.name, row.affected),
            (&advisory.id, Some(advisory.affects_this_host()))
        );
        assert_eq!(row.state == CheckStatus::Warn, advisory.affects_this_host());
        let verdict = if advisory.affects_this_host() {
            "affects"
        } else {
            "does not affect"
        };
        assert!(
            row.found
                .starts_with(&format!("{verdict} this host: {}", advisory.why())),
            "{}",
            row.found
        );
        let document = serde_json::to_value(row).unwrap();
        assert_eq!(document["affected"], advisory.affects_this_host());
        let link = document["link"].as_str().unwrap();
        assert!(
            link.starts_with("https://") && link.ends_with(&advisory.id) && row.found.ends_with(link),
            "{}",
            row.found
        );
        assert!(row.found.contains("; severity "), "{}", row.found);
        assert!(!row.found.contains("not recorded"), "{}", row.found);
    }
}
