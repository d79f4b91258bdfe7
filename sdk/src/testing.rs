//! A scripted host for native tests: the model's replies and the sub-agents come from the test.
//!
//! With it, `cargo test` covers the whole plugin: its requests to models, its use of the replies, its joins of
//! sub-agents, and its failures. No Wasm is built and no command is run.
//!
//! ```
//! use agenthost_sdk::llm;
//! use agenthost_sdk::prelude::*;
//! use agenthost_sdk::testing::{Host, Reply};
//!
//! agenthost_sdk::plugin!(path = "tests/wit/greeter");
//!
//! async fn run(input: Person) -> Result<String, Failure> {
//!     Ok(Prompt::new("Greet the person.").data("name", &input.name).max_tokens(100).text().await?)
//! }
//!
//! fn main() { // in a plugin, each of these is a `#[test]`
//!     let ada = Person { name: "Ada".to_owned() };
//!
//!     let host = Host::new().model("fast", [Reply::text("Hello, Ada!")]);
//!     assert_eq!(host.run(run(ada.clone())), Ok("Hello, Ada!".to_owned()));
//!     assert_eq!(host.requests()[0].text(), "Greet the person.\n<name>\nAda\n</name>");
//!     assert_eq!(host.requests()[0].max_tokens, Some(100));
//!
//!     let host = Host::new().model("fast", [Reply::error(llm::Error::Exhausted(Limit::Cost))]);
//!     assert_eq!(host.run(run(ada)), Err(Failure::Exhausted(Limit::Cost)));
//! }
//! ```
//!
//! Sub-agents are scripted by their imported function, so the compiler checks the types: see [`Host::sub_agent`].
//!
//! # Order and time
//!
//! A reply reaches the task as it does in a run: one at a time, and only while the task waits. The next one is always
//! the one with the shortest delay left, and among equals the one that was asked for first. Time is virtual:
//! [`Reply::after`] and [`sleep`] move a clock and take no time, so races and deadlines are decided the same way each
//! time.
//!
//! # Failures
//!
//! A call that the test does not script panics, which fails the test, and the message shows what to add. A task that
//! waits for an event that never comes panics, too.
//!
//! Left out: limits are not counted (a test scripts `Exhausted` instead), replies are checked only against the Rust
//! type and not against the request's schema, and crashes of sub-agents are ordinary failures
//! ([`Failure::Trapped`](crate::Failure::Trapped)). The module does not exist in a component.

mod reply;
mod sub_agent;
mod world;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

pub use crate::bindings::agenthost::plugin::shares::Share;
pub use reply::Reply;
pub use sub_agent::SubAgent;
pub use world::Progress;
pub(crate) use world::{World, key};

use crate::llm::{Allowance, Request};

/// A scripted host, and the record of the task's calls.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// use agenthost_sdk::testing::{Host, Reply};
///
/// let host = Host::new()
///     .model("fast", [Reply::text("blue"), Reply::text("green")])
///     .model("strong", [Reply::text("Blue, because it is the sky's.")]);
/// let best = host.run(async {
///     let colours = try_join_all((0..2).map(|_| Prompt::new("Name a colour.").text())).await?;
///     Prompt::new("Which is the best?").data("colours", colours.join(", ")).model("strong").text().await
/// });
/// assert!(best.unwrap().starts_with("Blue"));
/// assert!(host.requests()[2].text().contains("blue, green"));
/// ```
#[derive(Debug, Default)]
pub struct Host {
    world: Rc<World>,
}

impl Host {
    /// Creates a host without a model and without sub-agents.
    #[must_use]
    pub fn new() -> Host {
        Host::default()
    }

    /// Adds replies for the requests that name this model, in the order of the requests.
    ///
    /// ```
    /// use agenthost_sdk::Prompt;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new().model("fast", [Reply::text("blue")]);
    /// assert_eq!(host.run(Prompt::new("Name a colour.").text()), Ok("blue".to_owned()));
    /// ```
    #[must_use]
    pub fn model(self, name: &str, replies: impl IntoIterator<Item = Reply>) -> Host {
        self.world.add_replies(name, replies);
        self
    }

    /// Answers every request that names this model with the result of `reply`, once the replies of
    /// [`model`](Host::model) are used up.
    ///
    /// ```
    /// use agenthost_sdk::Prompt;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new().model_with("fast", |request| Reply::text(request.text().to_uppercase()));
    /// assert_eq!(host.run(Prompt::new("hello").text()), Ok("HELLO".to_owned()));
    /// ```
    #[must_use]
    pub fn model_with(self, name: &str, reply: impl FnMut(&Request) -> Reply + 'static) -> Host {
        self.world.set_model(name, reply);
        self
    }

    /// Replaces an imported task, identified by its function `run`, with `task`.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::testing::Host;
    ///
    /// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
    ///
    /// async fn run(guests: Vec<Person>) -> Result<Vec<String>, Failure> {
    ///     let calls = guests.into_iter().map(|guest| branch(guest.name.clone(), greeter::run(guest)));
    ///     let (done, _) = join::split(join::settled(calls).await);
    ///     Ok(done.into_iter().map(|done| done.value).collect())
    /// }
    ///
    /// fn main() {
    ///     let host = Host::new().sub_agent(greeter::run, |person| match person.name.as_str() {
    ///         "Ada" => Ok("Hello, Ada!".to_owned()),
    ///         _ => Err(Failure::failed("not invited")),
    ///     });
    ///     let guests = ["Ada", "Bob"].map(|name| Person { name: name.to_owned() });
    ///     assert_eq!(host.run(run(guests.to_vec())), Ok(vec!["Hello, Ada!".to_owned()]));
    ///     assert_eq!(host.inputs(greeter::run)[1].name, "Bob");
    /// }
    /// ```
    #[must_use]
    pub fn sub_agent<F, Kind>(self, run: F, mut task: impl FnMut(F::Input) -> F::Output + 'static) -> Host
    where
        F: SubAgent<Kind>,
    {
        self.world
            .set_sub_agent::<F, Kind>(&run, move |input| Box::pin(std::future::ready(task(input))));
        self
    }

    /// Like [`sub_agent`](Host::sub_agent), with a task that can wait for [`sleep`] or for a model.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::testing::{Host, sleep};
    ///
    /// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
    ///
    /// /// The first greeting that comes.
    /// async fn run(guests: Vec<Person>) -> Result<Vec<String>, Failure> {
    ///     let calls = guests.into_iter().map(|guest| branch(guest.name.clone(), greeter::run(guest)));
    ///     Ok(vec![join::first(calls).await?.value])
    /// }
    ///
    /// fn main() {
    ///     let host = Host::new().sub_agent_async(greeter::run, async |person| {
    ///         sleep(Duration::from_secs(if person.name == "Ada" { 9 } else { 2 })).await;
    ///         Ok(format!("Hello, {}!", person.name))
    ///     });
    ///     let guests = ["Ada", "Bob"].map(|name| Person { name: name.to_owned() });
    ///     assert_eq!(host.run(run(guests.to_vec())), Ok(vec!["Hello, Bob!".to_owned()]));
    ///     assert_eq!((host.elapsed(), host.cancelled().len()), (Duration::from_secs(2), 1));
    /// }
    /// ```
    #[must_use]
    pub fn sub_agent_async<F, Kind>(self, run: F, task: impl AsyncFn(F::Input) -> F::Output + 'static) -> Host
    where
        F: SubAgent<Kind>,
    {
        let task = Rc::new(task);
        self.world.set_sub_agent::<F, Kind>(&run, move |input| {
            let task = Rc::clone(&task);
            Box::pin(async move { task(input).await })
        });
        self
    }

    /// Answers each call of [`remaining`](crate::remaining()) with the next of these, and the last one again after
    /// that. Without it, the task has no limits.
    ///
    /// ```
    /// use agenthost_sdk::llm::Allowance;
    /// use agenthost_sdk::testing::Host;
    ///
    /// let host = Host::new().remaining([Allowance { calls: Some(3), ..Allowance::default() }]);
    /// assert_eq!(host.run(async { agenthost_sdk::remaining().calls }), Some(3));
    /// ```
    #[must_use]
    pub fn remaining(self, allowances: impl IntoIterator<Item = Allowance>) -> Host {
        self.world.add_allowances(allowances);
        self
    }

    /// Grants the plugin a [memory](crate::memory) with these documents, each a name and a JSON text. Without it, every
    /// function of the memory returns [`NotGranted`](crate::memory::Error::NotGranted).
    ///
    /// ```
    /// use agenthost_sdk::memory;
    /// use agenthost_sdk::testing::Host;
    ///
    /// let host = Host::new().memory([("count", "1")]);
    /// host.run(async {
    ///     let count: u32 = memory::get("count")?.unwrap_or(0);
    ///     memory::put("count", &(count + 1))
    /// })?;
    /// assert_eq!(host.documents()["count"], "2");
    /// # Ok::<(), memory::Error>(())
    /// ```
    #[must_use]
    pub fn memory<N: Into<String>, J: Into<String>>(self, documents: impl IntoIterator<Item = (N, J)>) -> Host {
        let documents = documents.into_iter().map(|(name, json)| (name.into(), json.into()));
        self.world.add_documents(documents);
        self
    }

    /// Returns the documents in the plugin's memory, as JSON texts by their names.
    #[must_use]
    pub fn documents(&self) -> BTreeMap<String, String> {
        self.world.documents()
    }

    /// Runs the task until it ends, and returns its output. A second call continues with the rest of the script, at the
    /// time at which the first one ended.
    ///
    /// A `run` that is not `async` is run as `host.run(async { run(input) })`.
    ///
    /// # Panics
    ///
    /// Panics on a call that is not scripted, and if the task waits for an event that never comes.
    pub fn run<T>(&self, task: impl Future<Output = T>) -> T {
        self.world.run(task)
    }

    /// Returns the model requests so far, in the order in which they were sent.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.world.requests()
    }

    /// Returns the inputs of one sub-agent's tasks so far, in the order in which they were started.
    pub fn inputs<F: SubAgent<Kind>, Kind>(&self, run: F) -> Vec<F::Input> {
        self.world.inputs::<F, Kind>(&run)
    }

    /// Returns the shares from which one sub-agent's tasks spend, in the order in which they were started: for each task
    /// a list, one within the other; an empty list if it spends from all that is left.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::testing::Host;
    ///
    /// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
    ///
    /// async fn run(guests: Vec<Person>) -> Result<Vec<String>, Failure> {
    ///     let calls = guests.into_iter().map(|guest| branch(guest.name.clone(), greeter::run(guest)));
    ///     let done = join::all(calls).split_equally().keep_back(10).await?;
    ///     Ok(done.into_iter().map(|branch| branch.value).collect())
    /// }
    ///
    /// fn main() {
    ///     let host = Host::new().sub_agent(greeter::run, |person| Ok(format!("Hello, {}!", person.name)));
    ///     let guests = ["Ada", "Bob"].map(|name| Person { name: name.to_owned() });
    ///     host.run(run(guests.to_vec())).unwrap();
    ///     let shares = host.shares(greeter::run);
    ///     assert_eq!((shares[1][0].part, shares[1][0].parts, shares[1][0].keep_back), (1, 2, 10));
    /// }
    /// ```
    pub fn shares<F: SubAgent<Kind>, Kind>(&self, run: F) -> Vec<Vec<Share>> {
        self.world.shares::<F, Kind>(&run)
    }

    /// Returns the calls of [`progress`](crate::progress()) so far.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.world.progress()
    }

    /// Returns the calls that were dropped before their reply came, in the order in which they were dropped: a model's
    /// as `model fast`, a sub-agent's as `demo:greeter@0.1.0`.
    #[must_use]
    pub fn cancelled(&self) -> Vec<String> {
        self.world.cancelled()
    }

    /// Returns the most calls, of models and sub-agents, that ran at the same time.
    #[must_use]
    pub fn most_concurrent(&self) -> usize {
        self.world.most_concurrent()
    }

    /// Returns the number of scripted replies that no request has taken.
    #[must_use]
    pub fn unused_replies(&self) -> usize {
        self.world.unused_replies()
    }

    /// Returns the virtual time that has passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.world.now()
    }
}

/// Waits for this much virtual time, in the tasks of [`Host::sub_agent_async`].
///
/// # Panics
///
/// Panics outside [`Host::run`].
pub async fn sleep(time: Duration) {
    World::current("sleep").turn("a sleep".to_owned(), Some(time)).await;
}
