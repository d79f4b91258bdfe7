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
