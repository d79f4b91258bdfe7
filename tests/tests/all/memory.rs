//! The memory that the tasks of a run hold together is bounded, and the operator sees by what.

use serde_json::json;

use crate::{guest, machine, run_json};

#[test]
fn a_task_that_passes_the_memory_of_its_run_is_told_so() {
    let machine = machine().config("[run.limits]\nmemory = \"8MiB\"");
    let document = machine
        .run(run_json(&guest("misbehaves"), &json!("grow-memory"), &[]))
        .json(3);
    let failure = &document["outcome"]["failure"];
    assert_eq!(
        (&failure["class"], &failure["limit"]),
        (&json!("exhausted"), &json!("memory"))
    );
    assert_eq!(
        failure["message"],
        "the run's memory limit (8 MiB, as configured) is reached"
    );
    let own = machine.run(run_json(
        &guest("misbehaves"),
        &json!("grow-memory"),
        &["--memory", "4MiB"],
    ));
    let own = own.json(3)["outcome"]["failure"]["message"].clone();
    assert_eq!(own, "the task needed more memory than its limit (limit: 4 MiB)");
}

#[test]
fn a_sub_task_without_room_is_refused_and_its_parent_goes_on() {
    let config = format!(
        "[sub-agents]\n\"guests:misbehaves\" = \"{}\"\n[run.limits]\nmemory = \"2MiB\"\n",
        guest("misbehaves")
    );
    let machine = machine().config(&config);
    let plan = json!({"behaviours": ["ok", "ok", "ok"], "in-turn": false, "first-only": false});
    let document = machine.run(run_json(&guest("starts"), &plan, &[])).json(0);
    let told = document["outcome"]["ok"].as_array().unwrap();
    assert!(told.iter().all(|text| text != "ok: fine"), "{told:?}");
    assert!(told[0].as_str().unwrap().contains("Memory"), "{told:?}");
    for task in document["tasks"].as_array().unwrap().iter().skip(1) {
        let message = task["outcome"]["failure"]["message"].as_str().unwrap();
        assert!(message.starts_with("the run's memory limit (2 MiB"), "{message}");
    }
}

#[test]
fn doctor_shows_what_bounds_a_run() {
    let shown = |config: &str| {
        let machine = machine();
        // In the operator's own file: a project's does not raise it.
        machine.write("../config/agenthost/config.toml", config);
        let document = machine.run(["doctor", "--json"]).json(0);
        let checks = document["checks"].as_array().unwrap();
        let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap().clone();
        (check("memory of a run"), check("core dumps"))
    };
    let (memory, cores) = shown("");
    let found = memory["found"].as_str().unwrap();
    assert!(
        found.contains("half of what was available") || found.contains("for the tasks that may be alive"),
        "{found}"
    );
    assert!(found.contains("are available now"), "{found}");
    assert_eq!((&cores["state"], &cores["found"]), (&json!("ok"), &json!("off")));
    let (memory, _) = shown("[run.limits]\nmemory = \"3GiB\"");
    assert!(
        memory["found"].as_str().unwrap().starts_with("3 GiB, as configured"),
        "{memory}"
    );
    let (memory, _) = shown("[run.limits]\nmemory = \"none\"");
    assert_eq!(memory["state"], "warn");
    let open = machine().var("AGENTHOST_CORE_DUMPS", "1").run(["doctor"]);
    assert!(open.stdout.contains("a core of this program can hold keys"), "{open}");
}
