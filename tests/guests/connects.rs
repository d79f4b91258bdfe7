//! Tries to connect to an address; a host must refuse to load it.

use std::net::TcpStream;

agenthost_sdk::plugin!(
    inline = r#"
/// Tries to connect to an address.
package guests:connects@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  /// Takes host:port.
  run: async func(input: string) -> result<string, failure>;
}

world connects {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: String) -> Result<String, Failure> {
    match TcpStream::connect(input) {
        Ok(_) => Ok("connected".to_owned()),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}
