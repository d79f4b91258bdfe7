//! Writes into directories in many ways, and returns how far each got.

use std::fs::{self, File};
use std::io::{Error, Seek, SeekFrom, Write};

agenthost_sdk::plugin!(
    inline = r#"
/// Puts things into directories in many ways.
package guests:writes-files@0.1.0;

interface task {
  /// A path, and how many bytes or things.
  type much = tuple<string, u64>;

  variant step {
    /// Overwrites a file, in pieces of 64 KiB.
    write(much),
    /// Writes to the end of a file.
    append(much),
    /// Sets the size of a file.
    set-size(much),
    /// Writes one byte at that place.
    write-at(much),
    /// Makes so many empty files in a directory.
    make-files(much),
    make-directories(much),
    /// Makes so many hard links to a file, beside it.
    make-links(much),
    make-symbolic-links(much),
    remove(string),
    /// Opens a file for reading.
    open(string),
  }

  /// For each step how much of it was done, or the system's error.
  run: async func(input: list<step>) -> result<list<string>, string>;
}

world writes-files {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Vec<Step>) -> Result<Vec<String>, String> {
    Ok(input.into_iter().map(told).collect())
}

/// How much was done, and what went wrong then.
fn told(step: Step) -> String {
    let mut done = 0;
    match take(step, &mut done) {
        Ok(()) => format!("{done}"),
        Err(error) => format!("{done}: {error}"),
    }
}

fn take(step: Step, done: &mut u64) -> Result<(), Error> {
    match step {
        Step::Write((path, bytes)) => fill(File::create(path)?, bytes, done),
        Step::Append((path, bytes)) => fill(File::options().append(true).create(true).open(path)?, bytes, done),
        Step::SetSize((path, bytes)) => {
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?
                .set_len(bytes)?;
            *done = bytes;
            Ok(())
        }
        Step::WriteAt((path, place)) => {
            let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
            file.seek(SeekFrom::Start(place))?;
            fill(file, 1, done)
        }
        Step::MakeFiles(much) => each(much, done, |path| File::create_new(path).map(drop)),
        Step::MakeDirectories(much) => each(much, done, fs::create_dir),
        Step::MakeLinks((path, count)) => each((path.clone(), count), done, |link| fs::hard_link(&path, link)),
        Step::MakeSymbolicLinks((path, count)) => each((path, count), done, |link| {
            #[expect(deprecated, reason = "there is no other way on this target")]
            fs::soft_link("anywhere", link)
        }),
        Step::Remove(path) => fs::remove_file(path),
        Step::Open(path) => File::open(path).map(drop),
    }
}

fn fill(mut file: File, bytes: u64, done: &mut u64) -> Result<(), Error> {
    let piece = vec![b'x'; 64 << 10];
    while *done < bytes {
        let length = piece.len().min(usize::try_from(bytes - *done).unwrap_or(usize::MAX));
        *done += file.write(piece.get(..length).unwrap_or_default())? as u64;
    }
    Ok(())
}

fn each((path, count): Much, done: &mut u64, make: impl Fn(String) -> Result<(), Error>) -> Result<(), Error> {
    while *done < count {
        make(format!("{path}-{done}"))?;
        *done += 1;
    }
    Ok(())
}
