//! The imported functions that a test can script.

use std::marker::PhantomData;

/// The function `run` of an imported task, as [`plugin!`](crate::plugin!) and [`task`](macro@crate::task) bring it into
/// scope.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// use agenthost_sdk::testing::{Host, SubAgent};
///
/// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
/// # async fn run(_: Vec<Person>) -> Result<Vec<String>, Failure> { Ok(vec![]) }
///
/// /// A host on which every task of the sub-agent fails.
/// fn failing<T: 'static, Kind>(run: impl SubAgent<Kind, Output = Result<T, Failure>>) -> Host {
///     Host::new().sub_agent(run, |_| Err(Failure::Cancelled))
/// }
///
/// fn main() {
///     let ada = Person { name: "Ada".to_owned() };
///     assert_eq!(failing(greeter::run).run(greeter::run(ada)), Err(Failure::Cancelled));
/// }
/// ```
///
/// The parameter distinguishes functions that are `async` from those that are not, and is inferred. A function that is
/// not `async` and takes anything but a reference cannot be scripted.
pub trait SubAgent<Kind>: 'static {
    /// The task's input.
    type Input: Clone + 'static;
    /// The task's result, its failure included.
    type Output: 'static;
}

/// The kind of a function that is `async`.
#[doc(hidden)]
pub struct Async<F>(PhantomData<F>);

/// The kind of a function that is not `async`.
#[doc(hidden)]
pub struct NotAsync<F>(PhantomData<F>);

impl<F, Input, Run> SubAgent<Async<fn(Input) -> Run>> for F
where
    F: Fn(Input) -> Run + 'static,
    Input: Clone + 'static,
    Run: Future,
    Run::Output: 'static,
{
    type Input = Input;
    type Output = Run::Output;
}

impl<F, Input, Output> SubAgent<NotAsync<fn(&Input) -> Output>> for F
where
    F: Fn(&Input) -> Output + 'static,
    Input: ToOwned + ?Sized,
    Input::Owned: Clone + 'static,
    Output: 'static,
{
    type Input = Input::Owned;
    type Output = Output;
}
