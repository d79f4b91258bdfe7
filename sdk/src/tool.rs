//! Functions that a model may call: their description, the check of their arguments, and their results as text.
//!
//! A tool is code of the plugin and widens nothing: it can only do what the plugin can do anyway. An invalid call and a
//! failed one are results that the model reads, never errors of the plugin. Left out: the conversation around the calls,
//! which is [`Prompt::run`](crate::Prompt::run).

mod arguments;

use std::fmt::{self, Debug, Display, Formatter};
use std::pin::Pin;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::extension::{ToolCall, ToolResult};
use crate::schema::{Parameters, Place};

/// The result of a call: the output as text, or the reason why there is none.
type Text = Result<String, String>;
type Call = dyn Fn(&Value) -> Pin<Box<dyn Future<Output = Text>>>;

/// A function that a model may call, for [`Prompt::tool`](crate::Prompt::tool).
///
/// A clone is the same tool: it shares the function.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use agenthost_sdk::prelude::*;
/// use agenthost_sdk::serde_json::json;
/// use agenthost_sdk::testing::{Host, Reply};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Product {
///     /// The article number, such as `A-12`.
///     number: String,
/// }
///
/// async fn answer(question: &str, stock: BTreeMap<String, u32>) -> Result<String, Failure> {
///     let in_stock = Tool::new::<Product>("in_stock", "Returns how many pieces are in stock.", async move |product| {
///         stock.get(&product.number).copied().ok_or("unknown article number")
///     });
///     Ok(Prompt::new("Answer the question.").data("question", question).tool(in_stock).run(5).await?.text())
/// }
///
/// let host = Host::new().model("fast", [
///     Reply::tool_call("in_stock", json!({"number": "A-12"})),
///     Reply::text("Three."),
/// ]);
/// let stock = BTreeMap::from([("A-12".to_owned(), 3)]);
/// assert_eq!(host.run(answer("How many A-12?", stock)), Ok("Three.".to_owned()));
/// assert_eq!(host.requests()[1].tool_results()[0].content, "3");
/// ```
#[derive(Clone)]
pub struct Tool {
    /// The name that the model calls the tool by.
    name: String,
    /// A longer name, for a prompt that has another tool with the same name.
    long_name: Option<String>,
    description: String,
    /// The JSON Schema of the arguments, an object.
    parameters: Rc<Value>,
    strict: bool,
    call: Rc<Call>,
}

impl Tool {
    /// Creates a tool with this name, a description for the model, and the function that runs when the model calls it.
    ///
    /// The name has 1 to 64 letters, digits, `-` and `_`. The JSON Schema of `Args` describes the arguments, with the
    /// doc comments of the type as descriptions; an `Args` that is not an object is sent as the object
    /// `{"input": …}`, and `()` as no arguments. Arguments that are not an `Args` never reach the function: the model
    /// reads the reason and may try again.
    ///
    /// The function's output reaches the model as it is if it is a text, and as JSON otherwise. An error reaches the
    /// model as its text.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// #[derive(Deserialize, JsonSchema)]
    /// struct Division {
    ///     dividend: i64,
    ///     divisor: i64,
    /// }
    ///
    /// let divide = Tool::new::<Division>("divide", "Divides integers.", |division: Division| async move {
    ///     division.dividend.checked_div(division.divisor).ok_or("division by zero")
    /// });
    /// let call = |dividend, divisor| Reply::tool_call("divide", json!({"dividend": dividend, "divisor": divisor}));
    /// let host = Host::new().model("fast", [call(7, 0), call(7, 2), Reply::text("3")]);
    /// host.run(Prompt::new("What is 7 / 0, or else 7 / 2?").tool(divide).run(3)).unwrap();
    /// let results: Vec<String> = host.requests()[2].tool_results().into_iter().map(|result| result.content).collect();
    /// assert_eq!(results, ["division by zero", "3"]);
    /// ```
    pub fn new<Args: DeserializeOwned + JsonSchema + 'static>(
        name: impl Into<String>,
        description: impl Into<String>,
        run: impl ToolFunction<Args>,
    ) -> Tool {
        Tool::with_parameter::<Args>("input", name, description, run)
    }

    /// As [`new`](Tool::new), with the name of the member for arguments that are not an object.
    pub(crate) fn with_parameter<Args: DeserializeOwned + JsonSchema + 'static>(
        parameter: &str,
        name: impl Into<String>,
        description: impl Into<String>,
        run: impl ToolFunction<Args>,
    ) -> Tool {
        let Parameters { schema, place } = Parameters::of::<Args>(parameter);
        let function = Rc::new((run, place));
        Tool {
            name: name.into(),
            long_name: None,
            description: description.into(),
            parameters: Rc::new(schema),
            strict: false,
            call: Rc::new(move |arguments| {
                let (function, arguments) = (Rc::clone(&function), arguments.clone());
                Box::pin(async move {
                    let (run, place): &(_, Place) = &function;
                    run(arguments::read(&arguments, place)?).await.into_text()
                })
            }),
        }
    }

    /// Changes the name that the model calls the tool by.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// let now = Tool::new::<()>("now", "Returns the time in UTC.", async |()| "12:00".to_owned());
    /// let there = now.clone().named("now_in_tokyo").described("Returns the time in Tokyo.");
    /// let request = Prompt::new("Is it night in Tokyo?").tool(now).tool(there).into_request();
    /// assert_eq!(request.tools(), ["now", "now_in_tokyo"]);
    /// ```
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Tool {
        self.name = name.into();
        self.long_name = None;
        self
    }

    /// Changes the description for the model.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// let now = Tool::new::<()>("now", "", async |()| "12:00".to_owned()).described("Returns the time in UTC.");
    /// let options = Prompt::new("What time is it?").tool(now).into_request().options;
    /// assert!(options[0].1.contains("in UTC"));
    /// ```
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Tool {
        self.description = description.into();
        self
    }

    /// Asks the provider to keep the arguments to their schema while the model writes them, if it supports that. Invalid
    /// calls become rarer; they go back to the model as without it.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// let double = Tool::new::<i64>("double", "Doubles.", async |number| Ok::<_, String>(number * 2)).strict();
    /// let options = Prompt::new("What is 4 + 4?").tool(double).into_request().options;
    /// assert!(options[0].1.contains(r#""strict":true"#));
    /// ```
    #[must_use]
    pub fn strict(mut self) -> Tool {
        self.strict = true;
        self
    }

    /// Runs the function for a call of the model, for a loop with [`Prompt::answered`](crate::Prompt::answered). An invalid
    /// call and an error are results, too.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::Host;
    /// use agenthost_sdk::ToolCall;
    ///
    /// let double = Tool::new::<i64>("double", "Doubles.", async |number| Ok::<_, String>(number * 2));
    /// let call = ToolCall { id: "call-1".into(), name: "double".into(), arguments: json!({"input": 4}) };
    /// let result = Host::new().run(async move { double.answer(&call).await });
    /// assert_eq!((result.content.as_str(), result.is_error), ("8", false));
    /// ```
    pub async fn answer(&self, call: &ToolCall) -> ToolResult {
        match (self.call)(&call.arguments).await {
            Ok(output) => ToolResult::new(call, output),
            Err(reason) => ToolResult::error(call, reason),
        }
    }

    /// Sets the name for prompts in which another tool has the same name.
    pub(crate) fn with_long_name(mut self, name: String) -> Tool {
        self.long_name = Some(name);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn long_name(&self) -> Option<&str> {
        self.long_name.as_deref()
    }

    /// The element of the option `tools`.
    pub(crate) fn definition(&self) -> Value {
        let mut definition =
            json!({"name": self.name, "description": self.description, "parameters": *self.parameters});
        if let (true, Some(members)) = (self.strict, definition.as_object_mut()) {
            members.insert("strict".to_owned(), Value::Bool(true));
        }
        definition
    }
}

impl Debug for Tool {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// Tools are equal if their descriptions are and they share the function.
impl PartialEq for Tool {
    fn eq(&self, other: &Tool) -> bool {
        let said = |tool: &Tool| {
            let (name, description) = (tool.name.clone(), tool.description.clone());
            (name, tool.long_name.clone(), description, tool.strict)
        };
        said(self) == said(other) && Rc::ptr_eq(&self.call, &other.call)
    }
}

/// The function of a tool: an `async` function or closure of one argument, or a closure that returns a future.
///
/// ```
/// use agenthost_sdk::Tool;
///
/// async fn shout(text: String) -> Result<String, String> {
///     Ok(text.to_uppercase())
/// }
///
/// let mark = "!".to_owned();
/// let tools = [
///     Tool::new::<String>("shout", "Returns the text in capitals.", shout),
///     Tool::new::<String>("exclaim", "Adds a mark.", async move |text| format!("{text}{mark}")),
///     Tool::new::<String>("count", "Counts bytes.", |text: String| async move { Ok::<_, String>(text.len()) }),
/// ];
/// # assert_eq!(tools.len(), 3);
/// ```
pub trait ToolFunction<Args>: AsyncFn(Args) -> <Self as ToolFunction<Args>>::Output + 'static {
    /// The function's output.
    type Output: ToolOutput;
}

impl<Args, F, Output> ToolFunction<Args> for F
where
    F: AsyncFn(Args) -> Output + 'static,
    Output: ToolOutput,
{
    type Output = Output;
}

#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the output of a tool",
    label = "not a `Result` and not a `String`",
    note = "a tool returns a `String`, or a `Result` with a value that is `Serialize` and an error that is `Display`"
)]
/// The output of a tool: a text, or a `Result` of any value that is JSON and any error with a text.
///
/// ```
/// use agenthost_sdk::ToolOutput;
///
/// assert_eq!(Ok::<_, String>(vec![1, 2]).into_text(), Ok("[1,2]".to_owned()));
/// assert_eq!(Ok::<_, String>("as it is").into_text(), Ok("as it is".to_owned()));
/// assert_eq!(Err::<u8, _>("no such file").into_text(), Err("no such file".to_owned()));
/// ```
pub trait ToolOutput {
    /// Returns the text for the model.
    ///
    /// # Errors
    ///
    /// Returns the reason why there is no output.
    fn into_text(self) -> Result<String, String>;
}

impl ToolOutput for String {
    fn into_text(self) -> Text {
        Ok(self)
    }
}

impl<T: Serialize, E: Display> ToolOutput for Result<T, E> {
    fn into_text(self) -> Text {
        let value = self.map_err(|error| error.to_string())?;
        let json = serde_json::to_string(&value).map_err(|error| format!("the output is not JSON: {error}"))?;
        // A text needs no quotes.
        match json.starts_with('"') {
            true => serde_json::from_str(&json).map_err(|error| error.to_string()),
            false => Ok(json),
        }
    }
}
