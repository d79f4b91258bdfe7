use super::*;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn usage(input: u64, cached_input: u64, cache_write_input: u64, output: u64) -> Usage {
    Usage {
        input,
        cached_input,
        cache_write_input,
        output,
        reasoning_output: 0,
        searches: 0,
    }
}

#[test]
fn the_embedded_table_is_dated_sourced_and_has_the_known_models() {
    let table = PriceTable::parse(BUILTIN).unwrap();
    assert_eq!(table.as_of().len(), 10);
    assert_eq!(PriceTable::builtin().as_of(), table.as_of());
    assert!(
        table
            .builtin
            .values()
            .flat_map(BTreeMap::values)
            .all(|price| price.source().is_some())
    );
    let price = |kind: &str, model: &str| table.price(kind, kind, model).cloned();
    let rates = |model: &str, kind: &str| price(kind, model).unwrap().rates;
    let all = |input, output, cache_read, cache_write| Rates {
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h: 2 * input,
    };
    assert_eq!(
        rates("claude-haiku-5-5", "anthropic"),
        all(100_000, 500_000, 10_000, 125_000)
    );
    assert_eq!(
        rates("claude-sonnet-5-5", "anthropic"),
        all(2_000_000, 10_000_000, 100_000, 2_500_000)
    );
    assert_eq!(
        rates("claude-opus-5-5", "anthropic"),
        all(4_000_000, 20_000_000, 200_000, 5_000_000)
    );
    assert_eq!(rates("gpt-6-luna", "openai"), all(100_000, 500_000, 10_000, 125_000));
    assert_eq!(
        rates("gpt-6-sol", "openai"),
        all(2_000_000, 10_000_000, 200_000, 2_500_000)
    );
    let haiku = price("anthropic", "claude-haiku-5-5");
    for dated in [
        "claude-haiku-5-5-20261001",
        "claude-haiku-5-5-latest",
        "claude-haiku-5-5-2026-10-01",
    ] {
        assert_eq!(price("anthropic", dated), haiku, "{dated}");
    }
    for other in [
        "claude-haiku-5",
        "claude-haiku-5-5-pro",
        "claude-haiku-5-5-1",
        "claude-haiku-5-5-",
        "claude",
        "",
        "gpt-6-luna",
    ] {
        assert_eq!(price("anthropic", other), None, "{other}");
    }
    assert_eq!(price("script", "claude-haiku-5-5"), None);
    assert_eq!(
        price("offline", "anything").unwrap().worst(u64::MAX, u64::MAX),
        Usd::ZERO
    );
}

#[test]
fn the_operators_prices_come_first() {
    let text = r#"
        "anthropic/claude-haiku-5-5" = { input = 0.2, output = "1.00" }
        "local/llama-4" = { input = 0, output = 0 }
    "#;
    let table = PriceTable::builtin()
        .with_overrides(toml::from_str::<BTreeMap<String, Price>>(text).unwrap())
        .unwrap();
    let cost = |kind: &str, name: &str, model: &str| {
        table
            .price(kind, name, model)
            .map(|price| price.cost(&usage(1_000_000, 0, 0, 1_000_000)))
    };
    assert_eq!(cost("anthropic", "anthropic", "claude-haiku-5-5"), Some(usd("1.20")));
    assert_eq!(
        cost("anthropic", "anthropic", "claude-haiku-5-5-20261001"),
        Some(usd("1.20"))
    );
    // Another provider of the same kind keeps the embedded price, with its long-context step.
    assert_eq!(cost("anthropic", "work", "claude-haiku-5-5"), Some(usd("3")));
    assert_eq!(cost("openai", "local", "llama-4"), Some(Usd::ZERO));
    assert_eq!(cost("openai", "local", "llama-5"), None);
    for key in ["claude", "/claude", "anthropic/"] {
        let error = PriceTable::builtin()
            .with_overrides([(key.to_owned(), Price::default())])
            .unwrap_err();
        assert!(error.to_string().contains(key) && error.hint().is_some());
    }
}

#[test]
fn prices_are_exact_or_refused() {
    let price = |text: &str| toml::from_str::<Price>(text);
    assert_eq!(price("input = 0.000001\noutput = 0").unwrap().rates.input, 1);
    for wrong in [
        "input = 0.0000001\noutput = 0",
        "input = -1\noutput = 0",
        "input = nan\noutput = 0",
        "input = 1",
        "input = 1\noutput = 1\ncache = 1",
        "input = 1\noutput = 1\nlong-context = { above = 1, input = 1 }",
        "input = 1\noutput = 1\ncache-write-1h = 0.0000001",
    ] {
        assert!(price(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_call_costs_what_its_tokens_cost() {
    let table = PriceTable::builtin();
    let haiku = table.price("anthropic", "anthropic", "claude-haiku-5-5").unwrap();
    // 700 at 0.10, 2,000 at 0.01, 300 at 0.125 and 50 at 0.50, per million.
    assert_eq!(
        haiku.cost(&usage(3_000, 2_000, 300, 50)).pico(),
        70_000_000 + 20_000_000 + 37_500_000 + 25_000_000
    );
    assert_eq!(haiku.cost(&usage(100_000, 0, 0, 1)).pico(), 100_000 * 100_000 + 500_000);
    assert_eq!(
        haiku.cost(&usage(100_001, 0, 0, 1)).pico(),
        100_001 * 500_000 + 2_500_000
    );
    // More cached than there was: nothing is left at the plain price, and nothing wraps.
    assert_eq!(haiku.cost(&usage(10, 20, 0, 0)).pico(), 20 * 10_000);
    assert_eq!(haiku.cost(&usage(u64::MAX, 0, 0, u64::MAX)).pico(), u64::MAX);
}

#[test]
fn a_search_costs_what_the_price_says_and_a_project_lowers_neither_that_nor_its_tokens() {
    let table = PriceTable::builtin();
    for (kind, provider, model) in [
        ("anthropic", "anthropic", "claude-haiku-5-5"),
        ("openai-responses", "openai", "gpt-6-luna"),
    ] {
        let price = table.price(kind, provider, model).unwrap();
        let searched = Usage {
            searches: 3,
            ..usage(1_000, 0, 0, 10)
        };
        let cost = price.cost(&searched).pico() - price.cost(&usage(1_000, 0, 0, 10)).pico();
        assert_eq!(cost, usd("0.03").pico(), "{model}");
        assert_eq!((price.search(), price.search_tokens()), (usd("0.01"), 10_000));
        assert_eq!(price.with_hour_writes().search(), price.search());
        assert_eq!(price.searches(u64::MAX).pico(), u64::MAX, "it does not overflow");
    }
    assert_eq!(
        table.price("openai-responses", "openai", "gpt-6-sol"),
        table.price("openai", "openai", "gpt-6-sol"),
        "both wires"
    );
    assert_eq!(table.price("offline", "offline", "any").unwrap().search(), Usd::ZERO);

    let own = "[prices.\"anthropic/claude-haiku-5-5\"]\ninput = 50\noutput = 50\n";
    let searches = |project: &str, user: &str| {
        let (table, _dir) = priced(project, user);
        let price = table.price("anthropic", "anthropic", "claude-haiku-5-5").unwrap();
        (price.search().to_string(), price.search_tokens(), table.notes().len())
    };
    let set = |search: &str, tokens: &str| format!("{own}search = {search}\nsearch-tokens = {tokens}\n");
    for (project, user, expected) in [
        (own.to_owned(), "", ("$0.01", 10_000, 0)),
        (set("0.02", "\"20k\""), "", ("$0.02", 20_000, 0)),
        (set("0", "5"), "", ("$0.01", 10_000, 1)),
        (set("0", "0"), &set("0.5", "50"), ("$0.50", 50, 1)),
        (String::new(), &set("0", "0"), ("$0.00", 0, 0)),
    ] {
        let (search, tokens, notes) = searches(&project, user);
        assert_eq!((search.as_str(), tokens, notes), expected, "{project} over {user}");
    }
    let read = |text: &str| toml::from_str::<Price>(&format!("input = 1\noutput = 1\n{text}"));
    assert_eq!(read("search = 0.025").unwrap().search(), usd("0.025"));
    assert!(read("search = -1").is_err() && read("search-tokens = -1").is_err());
}

#[test]
fn the_worst_case_is_never_below_the_cost() {
    let table = PriceTable::builtin();
    for (kind, models) in &table.builtin {
        for model in models.keys() {
            let price = table.price(kind, kind, model).unwrap();
            for input in [0, 1, 99_999, 100_000, 100_001, 272_000, 272_001, 1_000_000] {
                let worst = price.worst(input, 1_000);
                let hour = price.with_hour_writes();
                let hour_worst = hour.worst(input, 1_000);
                for used in [input, input / 2, input.min(100_000), input.min(100_001)] {
                    for (cached, written) in [(0, 0), (used, 0), (0, used), (used / 3, used / 3)] {
                        let cost = price.cost(&usage(used, cached, written, 1_000));
                        assert!(cost <= worst, "{model} {input} {used}: {cost} > {worst}");
                        let cost = hour.cost(&usage(used, cached, written, 1_000));
                        assert!(
                            cost <= hour_worst,
                            "{model} {input} {used}, for an hour: {cost} > {hour_worst}"
                        );
                    }
                }
            }
        }
    }
    let haiku = table.price("anthropic", "anthropic", "claude-haiku-5-5").unwrap();
    assert_eq!(haiku.worst(100_000, 0), usd("0.0125"));
    assert_eq!(haiku.worst(100_001, 0).pico(), 100_001 * 625_000);
}

#[test]
fn an_hour_in_the_cache_costs_more() {
    let table = PriceTable::builtin();
    let haiku = table.price("anthropic", "anthropic", "claude-haiku-5-5").unwrap();
    let hour = haiku.with_hour_writes();
    assert_eq!(hour.source(), haiku.source());
    // 700 at 0.10, 2,000 at 0.01, 300 at 0.20 and 50 at 0.50, per million; only the writes differ.
    let cost = hour.cost(&usage(3_000, 2_000, 300, 50)).pico();
    assert_eq!(cost, 70_000_000 + 20_000_000 + 60_000_000 + 25_000_000);
    assert_eq!(
        hour.cost(&usage(3_000, 2_000, 0, 50)),
        haiku.cost(&usage(3_000, 2_000, 0, 50))
    );
    assert_eq!(
        hour.cost(&usage(200_000, 0, 200_000, 0)),
        usd("0.2"),
        "twice the price of the step"
    );
    assert_eq!(hour.worst(100_000, 0), usd("0.02"));
}

#[test]
fn a_configured_price_is_read_as_the_table_is() {
    let config = |input: &str, output: &str, cache: [Option<&str>; 3]| {
        let [cache_read, cache_write, cache_write_1h] = cache.map(|text| text.map(usd));
        RatesConfig {
            input: Some(usd(input)),
            output: Some(usd(output)),
            cache_read,
            cache_write,
            cache_write_1h,
        }
    };
    for (price, text) in [
        (
            PriceConfig {
                rates: config("1", "2", [None; 3]),
                long_context: Some((100_000, config("2", "3", [None; 3]))),
                ..PriceConfig::default()
            },
            "input = 1\noutput = 2\nlong-context = { above = 100_000, input = 2, output = 3 }",
        ),
        (
            PriceConfig {
                rates: config("1", "2", [Some("0.1"), Some("1.5"), Some("1.75")]),
                long_context: Some((9, config("2", "3", [Some("0.2"), Some("2.5"), Some("3.5")]))),
                search: Some(usd("0.05")),
                search_tokens: Some(7),
            },
            "input = 1\noutput = 2\ncache-read = 0.1\ncache-write = 1.5\ncache-write-1h = 1.75\nsearch = 0.05\nsearch-tokens = 7\n\
             long-context = { above = 9, input = 2, output = 3, cache-read = 0.2, cache-write = 2.5, cache-write-1h = 3.5 }",
        ),
    ] {
        assert_eq!(Price::custom(&price), Ok(toml::from_str(text).unwrap()), "{text}");
    }
    let exact = |rates, step| {
        Price::custom(&PriceConfig {
            rates,
            long_context: Some((1, step)),
            ..PriceConfig::default()
        })
    };
    assert_eq!(
        exact(
            config("1", "2", [None; 3]),
            config("1", "2", [None, None, Some("0.0000001")])
        )
        .unwrap_err(),
        "`long-context`: `cache-write-1h`: a price for a million tokens has at most six decimals"
    );
    assert_eq!(
        exact(RatesConfig::default(), RatesConfig::default()).unwrap_err(),
        "a price needs both `input` and `output`"
    );
}

#[test]
fn the_most_that_tokens_can_cost_is_no_less_than_any_split() {
    let price = |text: &str| toml::from_str::<Price>(text).unwrap();
    let stepped = "input = 1\noutput = 5\nlong-context = { above = 100, input = 4, output = 6 }";
    for text in [
        "input = 1\noutput = 5",
        "input = 8\noutput = 5\ncache-write = 9",
        stepped,
    ] {
        let price = price(text);
        for tokens in [0, 1, 99, 100, 101, 102, 250, 1_000] {
            let most = price.most(tokens);
            let splits = (0..=tokens).map(|input| price.worst(input, tokens - input));
            assert_eq!(Some(most), splits.max(), "{tokens} of {text}");
            // Two calls cost no more than one.
            let halves = price.most(tokens / 2).saturating_add(price.most(tokens - tokens / 2));
            assert!(halves <= most, "{tokens} of {text}");
        }
    }
    assert_eq!(
        price(stepped).most(u64::MAX).pico(),
        u64::MAX,
        "and it does not overflow"
    );
}

/// Returns the table of these files.
fn priced(project: &str, user: &str) -> (PriceTable, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("home/.config/agenthost")).unwrap();
    std::fs::write(dir.path().join("agenthost.toml"), project).unwrap();
    std::fs::write(dir.path().join("home/.config/agenthost/config.toml"), user).unwrap();
    let env = agenthost_config::Env::new([].into(), dir.path(), Some(dir.path().join("home")));
    (PriceTable::of(&Config::load(&env).unwrap()).unwrap(), dir)
}

#[test]
fn a_project_makes_no_model_cheaper_than_it_is_known_to_be() {
    let free = |models: &[&str]| {
        let entry = |model: &&str| format!("[prices.\"{model}\"]\ninput = 0\noutput = 0\n");
        models.iter().map(entry).collect::<String>()
    };
    let project = free(&[
        "anthropic/claude-haiku-5-5",
        "anthropic/claude-opus-5-5-20261001",
        "anthropic/another-name-of-something",
        "cheap/claude-opus-5-5",
        "own/small",
        "local/small",
        "local/priced-20261001",
    ]) + "[providers.cheap]\nkind = \"anthropic\"\n[providers.own]\nkind = \"openai\"\nbase-url = \"http://localhost:1/v1\"\n";
    let user = "[providers.local]\nkind = \"openai\"\nbase-url = \"http://localhost:1/v1\"\n\
                [prices.\"local/priced\"]\ninput = 3\noutput = 15\n";
    let (table, _dir) = priced(&project, user);
    let input = |kind: &str, provider: &str, model: &str| {
        let price = table.price(kind, provider, model).unwrap();
        price.cost(&usage(1_000, 0, 0, 0))
    };
    let haiku = input("anthropic", "anthropic", "claude-haiku-5-5");
    assert!(haiku >= usd("0.0001"), "{haiku}");
    assert_eq!(
        input("anthropic", "anthropic", "claude-opus-5-5-20261001"),
        usd("0.004")
    );
    assert_eq!(
        input("anthropic", "cheap", "claude-opus-5-5"),
        usd("0.004"),
        "whatever the provider is called"
    );
    assert!(
        input("anthropic", "anthropic", "another-name-of-something") >= usd("0.004"),
        "it may be the dearest"
    );
    assert_eq!(
        input("openai", "local", "priced-20261001"),
        usd("0.003"),
        "the operator's price is the least"
    );
    assert_eq!(
        input("openai", "own", "small"),
        Usd::ZERO,
        "at its own address the project prices what nobody knows"
    );
    let dearest = input("openai", "local", "small");
    assert!(
        dearest >= usd("0.002"),
        "the operator's gateway may serve any model: {dearest}"
    );
    assert_eq!(table.notes().len(), 6, "{:?}", table.notes());

    // A higher price applies, and the operator's own file can set any price.
    let (table, _dir) = priced(
        "[prices.\"anthropic/claude-haiku-5-5\"]\ninput = 50\noutput = 50\n",
        &free(&["anthropic/claude-opus-5-5"]),
    );
    let cost = |model: &str| {
        table
            .price("anthropic", "anthropic", model)
            .unwrap()
            .cost(&usage(1_000, 0, 0, 0))
    };
    assert_eq!(
        (cost("claude-haiku-5-5"), cost("claude-opus-5-5")),
        (usd("0.05"), Usd::ZERO)
    );
    assert!(table.notes().is_empty(), "{:?}", table.notes());
}
