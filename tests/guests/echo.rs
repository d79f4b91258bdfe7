//! Returns its input: one record with a value of every kind.

agenthost_sdk::plugin!(path = "wit/echo");

async fn run(input: Everything) -> Result<Everything, Failure> {
    Ok(input)
}
