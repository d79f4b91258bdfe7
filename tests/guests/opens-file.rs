//! Tries to read a file; a host must refuse to load it.

agenthost_sdk::plugin!(
    inline = r#"
/// Tries to read a file.
package guests:opens-file@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  /// Takes a path.
  run: async func(input: string) -> result<string, failure>;
}

world opens-file {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: String) -> Result<String, Failure> {
    std::fs::read_to_string(input).map_err(|error| Failure::failed(error.to_string()))
}
