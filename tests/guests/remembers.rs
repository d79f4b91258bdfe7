//! Reads and writes the documents of its memory, step by step, and returns what each step gave.

use agenthost_sdk::bindings::agenthost::plugin::memory as host;
use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Reads and writes documents.
package guests:remembers@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  variant step {
    get(string),
    /// Name and JSON text.
    put(tuple<string, string>),
    remove(string),
    %list(string),
    /// Adds one to the number in a document, or fails.
    count(string),
    /// Writes so many documents of so many bytes whose names begin with the text, until one is refused.
    fill(tuple<string, u64, u64>),
    /// Writes the reply to this prompt as a document of this name.
    ask(tuple<string, string>),
    /// Computes without end.
    spin,
  }

  /// For each step what it gave, or its error.
  run: async func(input: list<step>) -> result<list<string>, failure>;
}

world remembers {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Vec<Step>) -> Result<Vec<String>, Failure> {
    let mut told = Vec::new();
    for step in input {
        told.push(take(step).await?.unwrap_or_else(|error| format!("{error:?}")));
    }
    Ok(told)
}

async fn take(step: Step) -> Result<Result<String, memory::Error>, Failure> {
    let done = || "done".to_owned();
    Ok(match step {
        Step::Get(name) => host::get(&name).map(|json| json.unwrap_or_else(|| "none".to_owned())),
        Step::Put((name, json)) => host::put(&name, &json).map(|()| done()),
        Step::Remove(name) => memory::remove(&name).map(|()| done()),
        Step::List(prefix) => memory::list(&prefix).map(|names| names.join(" ")),
        Step::Count(name) => Ok(count(&name)?),
        Step::Fill((prefix, documents, bytes)) => Ok(fill(&prefix, documents, bytes)),
        Step::Ask((name, prompt)) => {
            let reply = Prompt::new(prompt).max_tokens(100).text().await?;
            memory::put(&name, &reply)?;
            Ok(reply)
        }
        Step::Spin => loop {
            std::hint::black_box(0);
        },
    })
}

fn count(name: &str) -> Result<String, memory::Error> {
    let count = memory::get::<u32>(name)?.unwrap_or(0) + 1;
    memory::put(name, &count)?;
    Ok(count.to_string())
}

fn fill(prefix: &str, documents: u64, bytes: u64) -> String {
    let text = "x".repeat(usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(2));
    for written in 0..documents {
        if let Err(error) = memory::put(&format!("{prefix}{written}"), &text) {
            return format!("{written}: {error:?}");
        }
    }
    documents.to_string()
}
