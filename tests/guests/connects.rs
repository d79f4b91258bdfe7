//! Tries to connect to an address; a host must refuse to load it.

use std::net::TcpStream;

agenthost_sdk::plugin!(path = "wit/connects");

async fn run(input: String) -> Result<String, Failure> {
    match TcpStream::connect(input) {
        Ok(_) => Ok("connected".to_owned()),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}
