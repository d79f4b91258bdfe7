//! A plugin under a scripted host: models and sub-agents, their order in time, and what the test learns of the task.

#![expect(clippy::unwrap_used, reason = "a test, with helpers outside of its functions")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use agenthost_sdk::join::Tie;
use agenthost_sdk::llm::{Allowance, Error, Stop};
use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::json;
use agenthost_sdk::testing::{Host, Progress, Reply, sleep};

agenthost_sdk::plugin!(path = "tests/wit/party");

async fn run(guests: Vec<Person>) -> Result<Vec<String>, Failure> {
    let calls = guests
        .iter()
        .map(|guest| branch(&guest.name, greeter::run(guest.clone())));
    let done = join::all(calls).max_concurrent(2).await?;
    Ok(done.into_iter().map(|done| done.value).collect())
}

fn person(name: &str) -> Person {
    Person { name: name.to_owned() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The sub-agents of a party, each with the seconds after which it answers.
fn slow(times: [(&'static str, u64); 4]) -> Host {
    Host::new().sub_agent_async(greeter::run, async move |guest| {
        let (_, time) = times.into_iter().find(|(name, _)| *name == guest.name).unwrap();
        sleep(seconds(time)).await;
        if time == 0 {
            Err(Failure::Cancelled)
        } else {
            Ok(guest.name)
        }
    })
}

fn branches() -> Vec<join::Branch<'static, String, Failure>> {
    ["a", "b", "c", "d"]
        .map(|name| branch(name, greeter::run(person(name))))
        .into()
}

/// The message of the panic with which `task` ends.
fn panics<T>(host: &Host, task: impl Future<Output = T>) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| host.run(task))).err().unwrap();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_task_with_sub_agents_runs_natively() {
    let host = Host::new().sub_agent(greeter::run, |guest| Ok(format!("Hello, {}!", guest.name)));
    let greetings = host.run(run(["Ada", "Bob", "Cy"].map(person).into()));
    assert_eq!(greetings.unwrap(), ["Hello, Ada!", "Hello, Bob!", "Hello, Cy!"]);
    assert_eq!(host.inputs(greeter::run), ["Ada", "Bob", "Cy"].map(person));
    assert_eq!((host.most_concurrent(), host.cancelled().len()), (2, 0));
}

#[test]
fn a_failed_sub_agent_cancels_the_others() {
    let host = slow([("a", 3), ("b", 0), ("c", 1), ("d", 1)]);
    assert_eq!(
        host.run(run(["a", "b", "c"].map(person).into())),
        Err(Failure::Cancelled)
    );
    assert_eq!(host.cancelled(), ["demo:greeter@0.1.0"]);
    assert_eq!(host.inputs(greeter::run).len(), 2);
}

#[test]
fn the_fastest_wins_and_the_others_are_cancelled() {
    let host = slow([("a", 4), ("b", 0), ("c", 2), ("d", 3)]);
    assert_eq!(host.run(join::first(branches())).unwrap().name, "c");
    assert_eq!((host.elapsed(), host.cancelled().len()), (seconds(2), 2));
}

#[test]
fn a_quorum_takes_those_that_come_first() {
    let host = slow([("a", 4), ("b", 3), ("c", 1), ("d", 2)]);
    let names: Vec<_> = host.run(join::quorum(2, branches())).unwrap();
    assert_eq!([&names[0].name, &names[1].name], ["c", "d"]);
    assert_eq!(host.elapsed(), seconds(2));

    let host = slow([("a", 0), ("b", 0), ("c", 0), ("d", 9)]);
    let unreached = host.run(join::quorum(2, branches())).unwrap_err();
    assert_eq!((unreached.failed.len(), host.elapsed()), (3, Duration::ZERO));
}

#[test]
fn a_vote_ends_once_it_is_decided() {
    let host = Host::new().model(
        "fast",
        [
            Reply::text("yes").after(seconds(3)),
            Reply::text("no").after(seconds(1)),
            Reply::text("yes").after(seconds(2)),
            Reply::never(),
            Reply::error(Error::Denied("fast".to_owned())),
        ],
    );
    let voters = ["a", "b", "c", "d", "e"].map(|name| branch(name, Prompt::new("Ship it?").text()));
    let task = async { join::vote(Tie::First, voters).await };
    assert!(panics(&host, task).contains("waits for what never comes: model fast"));

    let host = Host::new().model("fast", ["yes", "yes", "no"].map(Reply::text));
    let voters = ["a", "b", "c"].map(|name| branch(name, Prompt::new("Ship it?").text()));
    let tally = host.run(join::vote(Tie::Fail, voters)).unwrap();
    assert_eq!((tally.votes(), host.cancelled().len()), (2, 1));
}

#[test]
fn replies_of_one_time_come_in_the_order_of_the_requests() {
    let host = Host::new().model_with("fast", |request| Reply::text(request.text()));
    let order = Rc::new(std::cell::RefCell::new(Vec::new()));
    let asks = (0..40).map(|n| {
        let order = Rc::clone(&order);
        async move {
            let text = Prompt::new(n.to_string()).text().await.unwrap();
            order.borrow_mut().push(text);
        }
    });
    host.run(join_all(asks));
    let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(*order.borrow(), expected);
    assert_eq!(host.most_concurrent(), 40);
}

#[test]
fn every_error_of_a_model_can_be_scripted() {
    let errors = [
        Error::Denied("strong".to_owned()),
        Error::Exhausted(Limit::Tokens),
        Error::ContextOverflow,
        Error::Refused("no".to_owned()),
        Error::InvalidReply("no".to_owned()),
        Error::Unavailable("503".to_owned()),
        Error::InvalidRequest("no".to_owned()),
        Error::other("new", "no"),
    ];
    let host = Host::new().model("fast", errors.clone().map(Reply::error));
    for error in errors {
        assert_eq!(host.run(Prompt::new("hi").text()), Err(error));
    }
    assert_eq!(host.unused_replies(), 0);
}

#[test]
fn a_reply_can_be_cut_off_refused_or_of_the_wrong_form() {
    let replies = [
        Reply::text("{\"a\":").stop(Stop::MaxTokens),
        Reply::text("I would rather not.").stop(Stop::Refusal),
        Reply::json(json!({"not": "a list"})),
    ];
    let host = Host::new().model("fast", replies);
    let ask = || host.run(Prompt::new("hi").json::<Vec<u8>>()).unwrap_err();
    assert!(ask().to_string().contains("cut off at the output limit"));
    assert_eq!(ask(), Error::Refused("I would rather not.".to_owned()));
    assert!(matches!(ask(), Error::InvalidReply(_)));
    let request = &host.requests()[2];
    assert!(request.schema.as_ref().unwrap().contains("\"array\""));
}

#[test]
fn a_sub_agent_may_ask_a_model_and_be_one_of_the_crate() {
    let host = Host::new()
        .model_with("fast", |request| Reply::text(request.text()).after(seconds(1)))
        .sub_agent_async(greeter::run, async |guest| Ok(Prompt::new(guest.name).text().await?));
    assert_eq!(
        host.run(run(["a", "b", "c"].map(person).into())).unwrap(),
        ["a", "b", "c"]
    );
    assert_eq!(host.elapsed(), seconds(2), "two at a time");
}

#[test]
fn a_sub_agent_that_never_ends_is_named() {
    let host = Host::new().sub_agent_async(greeter::run, async |_| std::future::pending().await);
    let text = panics(&host, run(vec![person("a")]));
    assert!(text.contains("waits for what never comes: the script of `"), "{text}");
    assert!(text.contains(":greeter@"), "{text}");
    let text = panics(&Host::new(), std::future::pending::<()>());
    assert!(text.contains("something that is not of the host"), "{text}");
}

#[test]
fn limits_and_progress() {
    let left = |calls| Allowance {
        calls: Some(calls),
        ..Allowance::default()
    };
    let host = Host::new().remaining([left(2), left(1)]);
    let calls = host.run(async {
        progress(1, 3, "counting");
        progress(2, None, "still");
        [remaining(), remaining(), remaining()].map(|allowance| allowance.calls)
    });
    assert_eq!(calls, [Some(2), Some(1), Some(1)]);
    let report = |done, total, message: &str| Progress {
        done,
        total,
        message: message.to_owned(),
    };
    assert_eq!(
        host.progress(),
        [report(1, Some(3), "counting"), report(2, None, "still")]
    );
    assert_eq!(Host::new().run(async { remaining() }), Allowance::default());
}

#[test]
fn what_is_not_scripted_fails_the_test_and_says_what_to_add() {
    let host = Host::new().model("fast", [Reply::text("one")]);
    host.run(Prompt::new("hi").text()).unwrap();
    let message = panics(&host, Prompt::new("Name a colour.").text());
    assert!(
        message.contains("request 2 of the model `fast`:\nName a colour.\n"),
        "{message}"
    );
    assert!(panics(&host, Prompt::new("hi").model("strong").text()).contains("request 1 of the model `strong`"));
    let message = panics(&host, greeter::run(person("Ada")));
    assert!(
        message.contains("no task is scripted for the sub-agent `demo:greeter@0.1.0`"),
        "{message}"
    );
    assert!(panics(&host, std::future::pending::<()>()).contains("not of the host"));
    let outside = catch_unwind(remaining).unwrap_err();
    assert!(
        outside
            .downcast_ref::<String>()
            .unwrap()
            .contains("only inside agenthost"),
        "a panic leaves its host"
    );
}

#[test]
fn a_task_that_wakes_itself_goes_on_before_the_next_reply() {
    let host = Host::new().model("fast", [Reply::text("one")]);
    let turns = Cell::new(0);
    host.run(async {
        let spin = std::future::poll_fn(|cx| {
            turns.set(turns.get() + 1);
            cx.waker().wake_by_ref();
            if turns.get() < 5 {
                std::task::Poll::Pending
            } else {
                std::task::Poll::Ready(())
            }
        });
        spin.await;
        assert_eq!(host.requests().len(), 0);
        Prompt::new("hi").text().await.unwrap();
    });
    assert_eq!(turns.get(), 5);
}

#[test]
fn a_sub_agent_that_is_not_async_answers_at_once() {
    let host = Host::new().sub_agent(toast::run, |names| Ok(format!("To {}!", names.join(" and "))));
    let names = ["Ada", "Bob"].map(str::to_owned);
    assert_eq!(host.run(async { toast::run(&names) }), Ok("To Ada and Bob!".to_owned()));
    assert_eq!(host.inputs(toast::run), [names]);
}
