//! Tries to read a file; a host must refuse to load it.

agenthost_sdk::plugin!(path = "wit/opens-file");

async fn run(input: String) -> Result<String, Failure> {
    std::fs::read_to_string(input).map_err(|error| Failure::failed(error.to_string()))
}
