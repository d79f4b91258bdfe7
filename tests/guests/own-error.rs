//! Fails with an error of its own type.

agenthost_sdk::plugin!(
    inline = r#"
/// Fails with an error of its own type.
package guests:own-error@0.1.0;

interface task {
  record mistake { code: u32, reason: string }
  run: async func(input: u32) -> result<string, mistake>;
}

world own-error {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: u32) -> Result<String, Mistake> {
    Err(Mistake {
        code: input,
        reason: "as asked".to_owned(),
    })
}
