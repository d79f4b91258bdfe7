//! Writes into directories in many ways, and returns how far each got.

use std::fs::{self, File};
use std::io::{Error, Seek, SeekFrom, Write};

agenthost_sdk::plugin!(path = "wit/writes-files");

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
