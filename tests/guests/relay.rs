//! Hands its input to `joins`, and its output back: one level more.

agenthost_sdk::plugin!(path = "wit/relay");

async fn run(input: Plan) -> Result<Joined, String> {
    joins::run(input).await.map_err(|failure| format!("{failure:?}"))
}
