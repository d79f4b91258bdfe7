//! Starts `misbehaves` as a sub-agent, once for each behavior that its input names.

use agenthost_sdk::join_all;

agenthost_sdk::plugin!(path = "wit/starts");

async fn run(input: Plan) -> Result<Vec<String>, Failure> {
    let start = async |behaviour| match misbehaves::run(behaviour).await {
        Ok(text) => format!("ok: {text}"),
        Err(failure) => format!("{failure:?}"),
    };
    if input.first_only {
        let mut starts: Vec<_> = input
            .behaviours
            .into_iter()
            .map(|behaviour| Box::pin(start(behaviour)))
            .collect();
        let first = std::future::poll_fn(|cx| {
            starts
                .iter_mut()
                .map(|start| start.as_mut().poll(cx))
                .find(std::task::Poll::is_ready)
                .unwrap_or(std::task::Poll::Pending)
        });
        return Ok(vec![first.await]);
    }
    if input.in_turn {
        let mut texts = Vec::new();
        for behaviour in input.behaviours {
            texts.push(start(behaviour).await);
        }
        return Ok(texts);
    }
    Ok(join_all(input.behaviours.into_iter().map(start)).await)
}
