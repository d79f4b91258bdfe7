//! The estimate before anything is spent.

use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::{guest, machine, machine_at};

const PRICES: &str =
    "[prices.\"local/small\"]\ninput = 2\noutput = 10\n[prices.\"local/large\"]\ninput = 4\noutput = 20\n";

fn nobody_asks() -> Server {
    Server::start(|request| Reply::text(request.prompt()))
}

#[test]
fn the_worst_case_is_what_limits_and_prices_let_through() {
    let server = nobody_asks();
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let plan = machine.run(["plan", &guest("asks"), "--json"]).json(0);
    assert_eq!(plan["plugin"], "guests:asks@0.1.0");
    // 200,000 tokens, all of them output of the dearer model.
    let worst = json!({"tokens": 200_000, "calls": 100, "cost_usd": 4.0, "cost": "known", "sub_tasks": 0,
        "wall_ms": 300_000});
    assert_eq!(plan["worst"], json!({"per_item": worst, "total": worst}));
    assert_eq!(plan["models"][0]["model"], "local/small");
    assert_eq!(plan["models"][0]["worst_cost_usd"], 2.0);
    assert_eq!((&plan["sub_agents"], &plan["typical"]), (&json!([]), &json!(null)));

    let flags = [
        "plan",
        &guest("asks"),
        "--json",
        "--tokens",
        "10k",
        "--cost",
        "0.1",
        "--calls",
        "3",
        "--items",
        "4",
    ];
    let plan = machine.run(flags).json(0);
    assert_eq!(
        plan["worst"]["total"],
        json!({"tokens": 40_000, "calls": 12, "cost_usd": 0.4, "cost": "known", "sub_tasks": 0, "wall_ms": 1_200_000})
    );
    assert_eq!(server.seen().len(), 0, "nothing is asked");
}

#[test]
fn a_batch_stays_within_the_limits_of_the_run_and_a_grant_narrows_the_models() {
    let server = nobody_asks();
    let more = "[run.limits]\ntokens = \"500k\"\ncalls = 150\n[grants.\"guests:asks\"]\nmodels = [\"fast\"]\n";
    let machine = machine().config(&format!("{}{PRICES}{more}", server.config()));
    let plan = machine.run(["plan", &guest("asks"), "--json", "--items", "1k"]).json(0);
    let total = &plan["worst"]["total"];
    assert_eq!(
        (&total["tokens"], &total["calls"], &total["cost_usd"]),
        (&json!(500_000), &json!(150), &json!(5.0))
    );
    assert_eq!(plan["models"].as_array().unwrap().len(), 1);
}

#[test]
fn a_script_can_refuse_what_is_too_dear_or_unknown() {
    let server = nobody_asks();
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let asks = guest("asks");
    let fine = machine.run(["plan", &asks, "--fail-above", "4"]);
    assert_eq!((fine.code, fine.stderr.as_str()), (0, ""), "{fine}");
    let costs = |page: &str, cost: &str| {
        let words: Vec<_> = page.split_whitespace().collect();
        words.windows(2).any(|pair| pair == ["cost", cost])
    };
    assert!(costs(&fine.stdout, "$4.00"), "{fine}");
    let dear = machine.run(["plan", &asks, "--fail-above", "3.99", "--json", "--quiet"]);
    assert_eq!(dear.json(3)["above"], json!(true));
    assert!(
        dear.stderr
            .starts_with("error: the worst case costs $4.00: more than --fail-above $3.99\n"),
        "{dear}"
    );

    let unknown = machine_at(&server).run(["plan", &asks, "--fail-above", "1000"]);
    assert_eq!(unknown.code, 3, "{unknown}");
    assert!(costs(&unknown.stdout, "unknown"), "{unknown}");
    assert!(unknown.stderr.contains("a model has no known price"), "{unknown}");
    let capped = machine_at(&server).run(["plan", &asks, "--fail-above", "1", "--cost", "1"]);
    assert_eq!(capped.code, 0, "a limit on cost refuses what has no price: {capped}");
}

#[test]
fn sub_agents_are_named_and_counted() {
    let machine = machine();
    let plan = machine.run(["plan", &guest("relay"), "--json", "--tasks", "7"]).json(0);
    assert_eq!(plan["worst"]["per_item"]["sub_tasks"], 7);
    let joins = &plan["sub_agents"][0];
    assert_eq!(joins["plugin"], "guests:joins@0.1.0");
    assert_eq!(joins["sub_agents"][0]["plugin"], "guests:leaf@0.1.0");
    assert_eq!(joins["sub_agents"][0]["models"], json!(["fast", "strong"]));
    // Made up on this machine, so at no cost.
    assert_eq!(plan["worst"]["per_item"]["cost_usd"], 0.0);
    let alone = machine.run(["plan", &guest("relay"), "--json", "--depth", "0"]).json(0);
    assert_eq!(alone["worst"]["per_item"]["sub_tasks"], 0);
    let page = machine.run(["plan", &guest("relay")]);
    assert!(
        page.stdout
            .contains("\nsub-agents that may be started\n  guests:joins@0.1.0, digest "),
        "{page}"
    );
}

#[test]
fn a_plan_needs_a_plugin_and_an_input_that_fit() {
    let machine = machine();
    let said = machine
        .run(["plan", &guest("asks"), "--input", "{\"prompts\": 7}"])
        .error(2)
        .to_owned();
    assert!(said.contains("input.prompts"), "{said}");
    machine.run(["plan", "nowhere.wasm"]).error(2);
    machine.run(["plan", &guest("asks"), "--tokens", "many"]).error(2);
}
