//! Fails, in the class that its input names.

agenthost_sdk::plugin!(
    inline = r#"
/// Fails, in the class that its input names.
package guests:fails@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  run: async func(input: failure) -> result<string, failure>;
}

world fails {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Failure) -> Result<String, Failure> {
    Err(input)
}
