//! Fails with an error of its own type.

agenthost_sdk::plugin!(path = "wit/own-error");

async fn run(input: u32) -> Result<String, Mistake> {
    Err(Mistake {
        code: input,
        reason: "as asked".to_owned(),
    })
}
