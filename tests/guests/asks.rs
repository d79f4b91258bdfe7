//! Makes one model call per prompt, all at once or one after the other, and returns the texts and the errors.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Asks a model, several times.
package guests:asks@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  enum mode { parallel, sequential }

  record questions {
    /// One model call each.
    prompts: list<string>,
    mode: mode,
    /// The model asked for; `fast` without it.
    model: option<string>,
    max-tokens: option<u32>,
    /// The text before every prompt.
    system: option<string>,
    /// Fail with the first error instead of returning it.
    strict: option<bool>,
  }

  /// One per prompt, in the order of the prompts.
  record answer {
    text: option<string>,
    /// The error's case, such as `exhausted`.
    error: option<string>,
    /// The error's text.
    message: option<string>,
  }

  run: async func(input: questions) -> result<list<answer>, failure>;
}

world asks {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Questions) -> Result<Vec<Answer>, Failure> {
    let calls = input.prompts.into_iter().map(|prompt| {
        let mut prompt = Prompt::new(prompt);
        if let Some(model) = &input.model {
            prompt = prompt.model(model);
        }
        if let Some(system) = &input.system {
            prompt = prompt.system(system);
        }
        if let Some(tokens) = input.max_tokens {
            prompt = prompt.max_tokens(tokens);
        }
        prompt.text()
    });
    let answers = match input.mode {
        Mode::Parallel => join_all(calls).await,
        Mode::Sequential => {
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await);
            }
            answers
        }
    };
    match input.strict {
        Some(true) => Ok(answers
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(Ok)
            .map(answer)
            .collect()),
        _ => Ok(answers.into_iter().map(answer).collect()),
    }
}

fn answer(result: Result<String, llm::Error>) -> Answer {
    match result {
        Ok(text) => Answer {
            text: Some(text),
            error: None,
            message: None,
        },
        Err(error) => Answer {
            text: None,
            error: Some(case(&error).to_owned()),
            message: Some(error.to_string()),
        },
    }
}

fn case(error: &llm::Error) -> &str {
    match error {
        llm::Error::Other(_) => "other",
        error => error.class(),
    }
}
