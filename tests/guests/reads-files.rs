//! Reads a file, or writes one first, and returns what the file holds or the system's error.

agenthost_sdk::plugin!(path = "wit/reads-files");

async fn run(input: Access) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    for _ in 1..input.times.unwrap_or(1) {
        std::fs::read(&input.path).map_err(failed)?;
    }
    if let Some(text) = &input.write_text {
        std::fs::write(&input.path, text).map_err(failed)?;
    }
    std::fs::read_to_string(&input.path).map_err(failed)
}
