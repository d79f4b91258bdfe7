//! Starts a sub-agent whose error type is not `failure`, and returns how it failed.

agenthost_sdk::plugin!(path = "wit/maps-errors");

async fn run(input: ErrorType) -> Result<String, Failure> {
    Ok(match input {
        ErrorType::Text => format!("{:?}", text_error::run(1).await),
        ErrorType::ItsOwn => format!("{:?}", own_error::run(1).await),
    })
}
