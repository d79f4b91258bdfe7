//! Content that must not leak from one place to another: memory, keys, headers, compiled code.

use std::path::{Path, PathBuf};

use super::super::component;
use super::super::run::{Measured, Program};
use super::super::watch::watch;
use super::{PATIENCE, WITH, good, looked_at, machine, run};
use crate::server::{Reply, Server};

/// Line breaks in every text that a guest can pass to a provider.
pub(super) fn headers_injected(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let server = Server::start(|_| Reply::text("fine"));
    let machine = machine(program, "complete-injects", &server.config());
    let (watched, _) = run(&machine, "x", &[]);
    looked_at(&mut measured, &watched);
    let seen = server.seen();
    let injected = seen.iter().filter(|request| {
        let header = request
            .headers
            .iter()
            .any(|(name, value)| name.contains("x-evil") || value.contains("X-Evil"));
        header || !request.path.ends_with("/chat/completions")
    });
    let injected = injected.count();
    measured.figure("requests", seen.len() as f64);
    measured.figure("injected", injected as f64);
    measured.expect(!seen.is_empty(), || format!("no request came: {}", watched.output));
    measured.expect(injected == 0, || {
        format!("{injected} requests have a header of the guest")
    });
    measured.ended = format!("{} requests", seen.len());
    measured
}

/// Redirects of every kind to another server, with a key.
pub(super) fn redirect(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let trap = Server::start(|_| Reply::text("trapped"));
    for status in [301, 302, 303, 307, 308] {
        for to in [
            trap.url(),
            "http://169.254.169.254/latest/meta-data".into(),
            "http://[::ffff:169.254.169.254]/".into(),
        ] {
            let server = Server::start(move |_| Reply::raw(status, "").header("location", &to));
            let machine = machine(program, "complete-once", &server.config());
            let (watched, _) = run(&machine, "", &["--timeout", "5s"]);
            looked_at(&mut measured, &watched);
            measured.expect(watched.output.code != 0, || {
                format!("a redirect of status {status} was a reply")
            });
            measured.expect(server.count() > 0, || format!("no request came: {}", watched.output));
        }
    }
    measured.figure("redirects", 15.0);
    measured.figure("trapped", trap.count() as f64);
    measured.expect(trap.count() == 0, || {
        format!("{} requests reached the other server", trap.count())
    });
    measured.ended = "no redirect was followed".into();
    measured
}

/// Sub-tasks that look through memory that should be theirs alone, and leave it full, in a few slots of the pool.
pub(super) fn canary(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let machine = machine(program, "crowd", "[run]\nmax-concurrent-tasks = 12\n");
    let (watched, report) = run(
        &machine,
        &"s".repeat(300),
        &[&WITH[..], &["--fuel", "none", "--tasks", "none"]].concat(),
    );
    looked_at(&mut measured, &watched);
    let good = good(&report).len();
    measured.figure("reuses", good as f64);
    measured.figure("hits", 300.0 - good as f64);
    measured.expect(good == 300, || {
        format!(
            "{good} of 300 tasks found their memory empty; exit code {}",
            watched.output.code
        )
    });
    measured.ended = format!("exit {}, {good} tasks", watched.output.code);
    measured
}

/// A byte of the compiled plugin is changed, at places spread over all of it: it is compiled again each time.
pub(super) fn image_tampered(program: &Program) -> Measured {
    const PLACES: usize = 40;
    let mut measured = Measured::default();
    let machine = program.machine();
    machine.write("guest.wasm", component::component("loop-post-return"));
    let compile = || {
        watch(
            machine.start(
                ["run", "guest.wasm", "--fuel", "1M", "--json", "--input", "\"x\""],
                None,
            ),
            PATIENCE,
        )
    };
    let first = compile();
    let entry = files(&machine.compiled())
        .into_iter()
        .max_by_key(|path| path.metadata().map_or(0, |data| data.len()));
    let Some(entry) = entry else {
        measured.misses.push(format!("nothing was kept: {}", first.output));
        return measured;
    };
    let good = std::fs::read(&entry).unwrap();
    let mut loaded = 0;
    for place in 0..PLACES {
        let mut bad = good.clone();
        bad[place * (good.len() - 1) / (PLACES - 1)] ^= 1 << (place % 8);
        std::fs::write(&entry, &bad).unwrap();
        let watched = compile();
        looked_at(&mut measured, &watched);
        measured.expect(watched.output.code == first.output.code, || {
            format!("place {place}: {}", watched.output)
        });
        // A plugin that was compiled again is also written again.
        loaded += usize::from(std::fs::read(&entry).unwrap() == bad);
    }
    measured.figure("flipped", PLACES as f64);
    measured.figure("loaded", loaded as f64);
    measured.expect(loaded == 0, || format!("{loaded} changed images were loaded"));
    measured.ended = format!("{PLACES} changed images, {loaded} loaded");
    measured
}

/// A server that repeats the key in every answer: no output and no file contains it.
pub(super) fn key_echoed(program: &Program) -> Measured {
    const KEY: &str = "sk-canary-4f1b2c9d8e7a6053";
    let mut measured = Measured::default();
    let (mut replies, mut places, mut hits) = (0_usize, 0_usize, 0_usize);
    for status in [200, 400, 401, 402, 403, 404, 413, 429, 500, 529] {
        for body in [
            format!(
                "{{\"type\":\"error\",\"error\":{{\"type\":\"{KEY}\",\"message\":\"your key is {KEY}\"}},\"request_id\":\"{KEY}\"}}"
            ),
            format!("raw {KEY}"),
        ] {
            let server = Server::start(move |_| {
                Reply::raw(status, body.clone())
                    .header("request-id", KEY)
                    .header("retry-after-ms", "1")
            });
            let machine = program
                .machine()
                .config(&server.anthropic_config())
                .var("ANTHROPIC_API_KEY", KEY);
            machine.write("guest.wasm", component::component("complete-once"));
            let (watched, _) = run(&machine, "", &["-vv", "--timeout", "5s"]);
            looked_at(&mut measured, &watched);
            let sent = server
                .seen()
                .iter()
                .any(|request| request.header("x-api-key") == Some(KEY));
            measured.expect(sent, || format!("the key was not sent: {}", watched.output));
            let texts = [
                watched.output.stdout.clone().into_bytes(),
                watched.output.stderr.clone().into_bytes(),
            ];
            let files = files(machine.cwd().parent().unwrap())
                .into_iter()
                .filter_map(|path| std::fs::read(path).ok());
            for text in texts.into_iter().chain(files) {
                places += 1;
                hits += usize::from(text.windows(KEY.len()).any(|part| part == KEY.as_bytes()));
            }
            replies += 1;
        }
    }
    measured.figure("replies", replies as f64);
    measured.figure("places", places as f64);
    measured.figure("hits", hits as f64);
    measured.expect(hits == 0, || {
        format!("the key is in {hits} of {places} outputs and files")
    });
    measured.ended = format!("{replies} replies, {hits} hits");
    measured
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
