//! Reads a file itself and has `reads-files` read it, too, and returns what each saw.

agenthost_sdk::plugin!(
    inline = r#"
/// Reads a file itself and has a sub-agent read it, too.
package guests:delegates-reads@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  /// The content of the file that each saw, or an error.
  record views {
    above: result<string, string>,
    below: result<string, string>,
  }

  /// Takes a path.
  run: async func(input: string) -> result<views, failure>;
}

world delegates-reads {
  include agenthost:plugin/plugin@0.1.0;
  import guests:reads-files/task@0.1.0;
  export task;
}

/// Reads a file, or writes one first.
package guests:reads-files@0.1.0 {
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
}
"#
);

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
