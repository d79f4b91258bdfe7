//! Makes one model call per request, with any options and any parts, and returns how each ended.

use agenthost_sdk::llm::{Extension, Message, Part, Request, Role, complete};
agenthost_sdk::plugin!(
    inline = r#"
/// Asks a model for anything.
package guests:asks-for-anything@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record piece {
    /// `true` for a message of the model.
    from-model: bool,
    /// The kind of an extension; a text without it. `received` for an extension of an earlier reply, whose number is the
    /// text.
    kind: option<string>,
    text: string,
  }

  record call {
    options: list<tuple<string, string>>,
    schema: option<string>,
    /// Each is a message of its own.
    pieces: list<piece>,
  }

  /// The kinds of the parts of each reply, or the class of the error and its text.
  run: async func(input: list<call>) -> result<list<string>, failure>;
}

world asks-for-anything {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Vec<Call>) -> Result<Vec<String>, Failure> {
    let (mut ends, mut received) = (Vec::new(), Vec::<Extension>::new());
    for call in input {
        let earlier = |number: &str| {
            let number: usize = number.parse().unwrap_or_default();
            received.get(number % received.len().max(1)).cloned()
        };
        let message = |piece: Piece| Message {
            role: if piece.from_model {
                Role::Assistant
            } else {
                Role::User
            },
            content: vec![match piece.kind {
                Some(kind) if kind == "received" => match earlier(&piece.text) {
                    Some(extension) => Part::Extension(extension),
                    None => Part::Text(piece.text),
                },
                Some(kind) => Part::Extension(Extension { kind, json: piece.text }),
                None => Part::Text(piece.text),
            }],
        };
        let request = Request {
            model: "fast".to_owned(),
            system: None,
            messages: call.pieces.into_iter().map(message).collect(),
            max_tokens: Some(100),
            schema: call.schema,
            options: call.options,
        };
        ends.push(match complete(request).await {
            Ok(reply) => {
                received.extend(reply.content.iter().filter_map(|part| match part {
                    Part::Extension(extension) => Some(extension.clone()),
                    _ => None,
                }));
                let kinds = reply.content.iter().map(|part| match part {
                    Part::Text(_) => "text",
                    Part::Media(_) => "media",
                    Part::Extension(extension) => extension.kind.as_str(),
                });
                kinds.collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("{}: {}", error.class(), error.text().unwrap_or_default()),
        });
    }
    Ok(ends)
}
