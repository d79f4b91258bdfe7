//! The expansion of `task`. Native, hence without a host.

use agenthost_sdk::schemars::schema_for;
use agenthost_sdk::serde_json::{json, to_value};

/// Asks a helper.
#[agenthost_sdk::task(
    package = "forms:asks@0.1.0",
    path = "tests/wit/forms",
    imports("forms:helper@0.2.0")
)]
mod asks {
    use agenthost_sdk::prelude::*;

    /// The author's own, beside the helper's.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Hint {
        pub(super) hints: Vec<helper::Hint>,
    }

    /// Has no derives, and needs none.
    pub(super) enum Way {
        Short,
        Long,
    }

    pub(super) struct Question {
        pub(super) hint: Hint,
        pub(super) way: Way,
    }

    pub(super) async fn run(Question { hint, way }: Question) -> Result<Hint, Failure> {
        match way {
            Way::Short => Ok(hint),
            Way::Long => {
                let [first, ..] = hint.hints.as_slice() else {
                    return Err(Failure::failed("no hint"));
                };
                let hints = helper::run(first.clone()).await?;
                Ok(Hint { hints })
            }
        }
    }

    pub(super) fn hint() -> Hint {
        let text = "h".to_owned();
        Hint {
            hints: vec![helper::Hint { text }],
        }
    }
}

/// With an error type of its own, and every name that the bindings use too.
#[agenthost_sdk::task]
mod own {
    pub(super) enum Mistake {
        Odd,
        Plugin(Plugin),
    }

    pub(super) struct Plugin {
        pub(super) value: Option<Rt>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(u16)]
    pub(super) enum Rt {
        One,
        Two,
    }

    pub(super) fn run(n: u8) -> Result<(), Mistake> {
        match n {
            0 => Ok(()),
            1 => Err(Mistake::Odd),
            2 => Err(Mistake::Plugin(Plugin { value: Some(Rt::One) })),
            _ => Err(Mistake::Plugin(Plugin { value: Some(Rt::Two) })),
        }
    }
}

#[test]
fn an_error_type_is_a_type_like_others() {
    assert!(own::run(0).is_ok() && matches!(own::run(1), Err(own::Mistake::Odd)));
    let Err(own::Mistake::Plugin(plugin)) = own::run(2) else {
        unreachable!()
    };
    assert_eq!(plugin.value, Some(own::Rt::One));
}

#[test]
fn run_is_an_ordinary_function_with_the_authors_types() {
    let question = asks::Question {
        hint: asks::hint(),
        way: asks::Way::Short,
    };
    let mut run = Box::pin(asks::run(question));
    let polled = run
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(polled, std::task::Poll::Ready(Ok(asks::hint())));
    // The bindings need `Clone`, so the macro derives it.
    assert!(matches!(asks::Way::Long.clone(), asks::Way::Long));
}

#[test]
fn the_authors_derives_hold_types_of_a_sub_agent() {
    assert_eq!(to_value(asks::hint()).unwrap(), json!({"hints": [{"text": "h"}]}));
    let schema = schema_for!(asks::Hint).to_value();
    assert_eq!(schema["description"], "The author's own, beside the helper's.");
}
