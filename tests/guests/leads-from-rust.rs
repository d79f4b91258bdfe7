//! Starts a leaf per prompt, with an interface written in Rust.

/// Starts a leaf per prompt.
#[agenthost_sdk::task(package = "guests:leads@0.1.0", path = "wit/joins", imports("guests:leaf@0.1.0"))]
mod leads {
    use agenthost_sdk::prelude::*;

    /// The questions for the leaves.
    struct Plan {
        prompts: Vec<String>,
    }

    async fn run(plan: Plan) -> Result<Vec<String>, Failure> {
        try_join_all(plan.prompts.into_iter().map(leaf::run)).await
    }
}
