//! Reads a file, or writes one first, and returns what the file holds or the system's error.

agenthost_sdk::plugin!(
    inline = r#"
/// Reads a file, or writes one first.
package guests:reads-files@0.1.0;

interface task {
  record access {
    path: string,
    /// The text to write before reading.
    write-text: option<string>,
    /// How often to read, once without it.
    times: option<u32>,
  }

  /// The content of the file, or the system's error.
  run: async func(input: access) -> result<string, string>;
}

world reads-files {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

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
