//! Writes a program to a list of requirements. One call of the fast model.
//!
//! Left out: running or testing the program, which a plugin cannot do.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const PROGRAMMER: &str = "You write programs that are complete, correct and easy to read. You never leave a part out \
                          silently: what you assumed or did not cover stands in the notes.";

async fn run(job: Job) -> Result<Program, Failure> {
    let mut prompt = Prompt::new("Write a program that meets the requirements and fits the files.")
        .system(PROGRAMMER)
        .data("language", &job.language)
        .data("requirements", &job.requirements);
    for file in &job.files {
        prompt = prompt.data("file-name", &file.name).data("file", &file.text);
    }
    Ok(prompt.max_tokens(8000).json().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn job() -> Job {
        Job {
            language: "Rust".to_owned(),
            requirements: "Print a poem.".to_owned(),
            files: vec![File {
                name: "src/lib.rs".to_owned(),
                text: "mod poem;".to_owned(),
            }],
        }
    }

    #[test]
    fn the_model_sees_the_whole_job() {
        let host = Host::new().model(
            "fast",
            [Reply::json(json!({"source": "fn main() {}", "notes": "No poem yet."}))],
        );
        let program = host.run(run(job())).unwrap();
        assert_eq!(
            (program.source.as_str(), program.notes.as_str()),
            ("fn main() {}", "No poem yet.")
        );
        let asked = host.requests()[0].text();
        assert!(
            ["Rust", "Print a poem.", "src/lib.rs", "mod poem;"]
                .iter()
                .all(|part| asked.contains(part)),
            "{asked}"
        );
    }

    #[test]
    fn files_that_do_not_fit_are_a_failure_of_their_own() {
        let host = Host::new().model("fast", [Reply::error(llm::Error::ContextOverflow)]);
        assert_eq!(host.run(run(job())), Err(Failure::ContextOverflow));
    }
}
