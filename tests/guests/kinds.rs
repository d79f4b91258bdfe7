//! Returns its input, with an interface written in WIT; `kinds-from-rust` has the same, written in Rust.

agenthost_sdk::plugin!(path = "wit/kinds");

async fn run(input: Everything) -> Result<Everything, Failure> {
    match input.last {
        Some(failure) => Err(failure),
        None => Ok(input),
    }
}
