//! Reads a file itself and has `reads-files` read it, too, and returns what each saw.

agenthost_sdk::plugin!(path = "wit/delegates-reads");

async fn run(input: String) -> Result<Views, Failure> {
    let access = reads_files::Access {
        path: input.clone(),
        write_text: None,
        times: None,
    };
    Ok(Views {
        below: reads_files::run(access).await,
        above: std::fs::read_to_string(&input).map_err(|error| error.to_string()),
    })
}
