//! Fails, in the class that its input names.

agenthost_sdk::plugin!(path = "wit/fails");

async fn run(input: Failure) -> Result<String, Failure> {
    Err(input)
}
