//! Starts a sub-agent whose error type is not `failure`, and returns how it failed.

agenthost_sdk::plugin!(
    inline = r#"
/// Starts a sub-agent whose error type is not `failure`, and returns how it failed.
package guests:maps-errors@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  enum error-type { text, its-own }
  run: async func(input: error-type) -> result<string, failure>;
}

world maps-errors {
  include agenthost:plugin/plugin@0.1.0;
  import guests:text-error/task@0.1.0;
  import guests:own-error/task@0.1.0;
  export task;
}

/// Fails with an error of its own type.
package guests:own-error@0.1.0 {
  interface task {
    record mistake { code: u32, reason: string }
    run: async func(input: u32) -> result<string, mistake>;
  }
}

/// Fails with a text; there is no such guest, only a dummy of this type.
package guests:text-error@0.1.0 {
  interface task {
    run: async func(input: u32) -> result<string, string>;
  }
}
"#
);

async fn run(input: ErrorType) -> Result<String, Failure> {
    Ok(match input {
        ErrorType::Text => format!("{:?}", text_error::run(1).await),
        ErrorType::ItsOwn => format!("{:?}", own_error::run(1).await),
    })
}
