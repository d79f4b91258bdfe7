//! Imported tasks as tools: the model chooses among typed sub-agents.
//!
//! Bounded by the imports: a model can start what the plugin can start, and each start is an ordinary sub-task with its
//! own sandbox and limits. Left out: imported functions without a JSON form, which only code can call.

use std::any::Any;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::prompt::Prompt;
use crate::tool::{Tool, ToolOutput};

#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task that a model can start",
    label = "not the future of an imported function `run`",
    note = "a model can start the imported function `run` of a plugin if it is `async`, takes one parameter and returns a \
            `result`, and if its types have a JSON form: no `result` and no option of an option inside",
    note = "for other functions, write a `Tool` that calls them"
)]
/// A task of an imported plugin that a model can start: the future of its function `run`, which
/// [`plugin!`](crate::plugin!) and [`task`](macro@crate::task) generate.
///
/// The type is `Run` in the module of the import, as in `greeter::Run`. The task starts when the future is first polled,
/// and is canceled if it is dropped. A function has such a future if it is `async`, takes one parameter, and if its
/// types have a JSON form in Rust: no `result` and no option of an option inside.
///
/// ```
/// use agenthost_sdk::SubTask;
/// use agenthost_sdk::prelude::*;
///
/// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
/// # async fn run(_: Vec<Person>) -> Result<Vec<String>, Failure> { Ok(vec![]) }
///
/// fn main() {
///     assert_eq!(<greeter::Run as SubTask>::PLUGIN, "demo:greeter@0.1.0");
///     assert_eq!(<greeter::Run as SubTask>::DESCRIPTION, "Greets a person by name.");
///     assert_eq!(<greeter::Run as SubTask>::PARAMETER, "input");
/// }
/// ```
pub trait SubTask: Future<Output = <Self as SubTask>::Result> + 'static {
    /// The package of the plugin, as in `demo:greeter@0.1.0`.
    const PLUGIN: &'static str;
    /// The texts of the WIT about the package (if it has none, about its world), the interface `task` and the function
    /// `run`, as paragraphs.
    const DESCRIPTION: &'static str;
    /// The name of the parameter in the WIT.
    const PARAMETER: &'static str;
    /// The task's input.
    type Input: DeserializeOwned + JsonSchema + 'static;
    /// The task's result, its failure included.
    type Result: SubTaskResult;
}

/// The result of a task that a model started.
#[doc(hidden)]
pub trait SubTaskResult {
    /// Returns the output, or the failure with its class, as text for the model.
    ///
    /// # Errors
    ///
    /// Returns the failure.
    fn into_text(self) -> Result<String, String>;
}

impl<T: Serialize, E: Serialize + 'static> SubTaskResult for Result<T, E> {
    fn into_text(self) -> Result<String, String> {
        ToolOutput::into_text(self.map_err(|error| described(&error)))
    }
}

/// The text of a failure for the model.
fn described<E: Serialize + 'static>(error: &E) -> String {
    match (error as &dyn Any).downcast_ref::<Failure>() {
        Some(failure) => {
            let text = failure.text().map_or_else(|| failure.to_string(), str::to_owned);
            format!("the sub-agent failed: {}: {text}", failure.class())
        }
        None => {
            let json = serde_json::to_string(error).unwrap_or_default();
            format!("the sub-agent failed: {json}")
        }
    }
}

impl Tool {
    /// Creates the tool that starts an imported task, identified by its function `run`; see
    /// [`Prompt::sub_agent`].
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
    /// # async fn run(_: Vec<Person>) -> Result<Vec<String>, Failure> { Ok(vec![]) }
    ///
    /// fn main() {
    ///     let tool = Tool::sub_agent(greeter::run).named("greet").described("Greets a guest.");
    ///     assert_eq!(Prompt::new("Welcome them.").tool(tool).into_request().tools(), ["greet"]);
    /// }
    /// ```
    #[must_use]
    pub fn sub_agent<R: SubTask>(run: impl Fn(R::Input) -> R + 'static) -> Tool {
        let (package, _version) = R::PLUGIN.split_once('@').unwrap_or((R::PLUGIN, ""));
        let (namespace, name) = package.split_once(':').unwrap_or(("", package));
        let start = async move |input: R::Input| Text(run(input).await.into_text());
        Tool::with_parameter::<R::Input>(R::PARAMETER, name, R::DESCRIPTION, start)
            .with_long_name(format!("{namespace}_{name}"))
    }
}

/// A result that is text already.
struct Text(Result<String, String>);

impl ToolOutput for Text {
    fn into_text(self) -> Result<String, String> {
        self.0
    }
}

impl Prompt {
    /// Offers an imported task to the model as a tool. Calling it starts the sub-task, in its own sandbox and with its
    /// own limits.
    ///
    /// The tool is named after the package (`greeter` for `demo:greeter`, or `demo_greeter` if another tool has that
    /// name), and its description has the texts of the WIT about the package, the interface and the function `run`. The
    /// arguments are the task's input; the comments of its WIT reach the model. The model reads the task's output as
    /// JSON, or as it is if it is a text; and a failure as its class and text.
    ///
    /// Instead of the function, a closure can change the input first:
    /// `sub_agent(|mut topic: competitor::Topic| { topic.questions.truncate(3); competitor::run(topic) })`.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// agenthost_sdk::plugin!(path = "tests/wit/party"); // imports `greeter`
    ///
    /// async fn run(guests: Vec<Person>) -> Result<Vec<String>, Failure> {
    ///     let names: Vec<String> = guests.into_iter().map(|guest| guest.name).collect();
    ///     let prompt = Prompt::new("Greet those whom you like.").data("guests", names.join(", "));
    ///     Ok(prompt.sub_agent(greeter::run).run_json(5).await?)
    /// }
    ///
    /// fn main() {
    ///     let call = Reply::tool_call("greeter", json!({"name": "Ada"}));
    ///     let host = Host::new()
    ///         .model("fast", [call, Reply::json(json!(["Hello, Ada!"]))])
    ///         .sub_agent(greeter::run, |person| Ok(format!("Hello, {}!", person.name)));
    ///     let guests = ["Ada", "Bob"].map(|name| Person { name: name.to_owned() });
    ///     assert_eq!(host.run(run(guests.to_vec())), Ok(vec!["Hello, Ada!".to_owned()]));
    ///     assert_eq!(host.requests()[1].tool_results()[0].content, "Hello, Ada!");
    /// }
    /// ```
    pub fn sub_agent<R: SubTask>(self, run: impl Fn(R::Input) -> R + 'static) -> Prompt {
        self.tool(Tool::sub_agent(run))
    }
}
