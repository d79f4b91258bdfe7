//! A machine of its own for one test: home, working directory and environment that no other test sees.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agenthost::Host;
use agenthost::config::{Config, Env};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::Server;
use crate::terminal::{ClosedScreen, Keyboard, Screen};

/// After this a run counts as hung: far longer than any test's work takes on a busy machine.
const HUNG: Duration = Duration::from_mins(2);

/// Directories that are removed with it, and the variables that a run gets; nothing else is inherited but what finds
/// Rust's toolchain.
#[derive(Debug)]
pub struct TestEnv {
    root: TempDir,
    binary: PathBuf,
    vars: BTreeMap<String, String>,
}

/// How a run of the command line came out.
#[derive(Debug)]
pub struct Output {
    /// The exit code; 128 plus the signal's number if a signal ended it.
    pub code: i32,
    /// The contents of stdout.
    pub stdout: String,
    /// The contents of stderr.
    pub stderr: String,
}

/// A run that is in progress.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl TestEnv {
    /// An empty machine with the command line `binary`.
    ///
    /// # Panics
    ///
    /// When no directory can be made.
    pub fn new(binary: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::Builder::new().prefix("agenthost-test-").tempdir().unwrap();
        for dir in ["home", "work", "config", "state", "cache", "data", "tmp"] {
            let path = root.path().join(dir);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let dir = |name: &str| root.path().join(name).display().to_string();
        let user_home = std::env::home_dir().unwrap_or_default();
        let kept = |name: &str, otherwise: &str| {
            std::env::var(name).unwrap_or_else(|_| user_home.join(otherwise).display().to_string())
        };
        let mut vars = BTreeMap::from([
            ("HOME", dir("home")),
            ("XDG_CONFIG_HOME", dir("config")),
            ("XDG_STATE_HOME", dir("state")),
            ("XDG_CACHE_HOME", dir("cache")),
            ("XDG_DATA_HOME", dir("data")),
            ("TMPDIR", dir("tmp")),
            // A test that has no server runs with made-up answers.
            ("AGENTHOST_OFFLINE_MODELS", "1".to_owned()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("CARGO_HOME", kept("CARGO_HOME", ".cargo")),
            ("RUSTUP_HOME", kept("RUSTUP_HOME", ".rustup")),
        ]);
        if let Ok(toolchain) = std::env::var("RUSTUP_TOOLCHAIN") {
            vars.insert("RUSTUP_TOOLCHAIN", toolchain);
        }
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self {
            root,
            binary: binary.into(),
            vars,
        }
    }

    /// The same, with `fast` and `strong` at `server`.
    #[must_use]
    pub fn with(self, server: &Server) -> Self {
        self.config(&server.config())
    }

    /// The same, with this `agenthost.toml` in the working directory.
    #[must_use]
    pub fn config(self, toml: &str) -> Self {
        self.write("agenthost.toml", toml);
        self
    }

    /// The same, with the variable `name`.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same, without the variable `name`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.vars.remove(name);
        self
    }

    /// The same, with compiled plugins kept below `dir` instead of on this machine alone.
    #[must_use]
    pub fn cache(self, dir: &str) -> Self {
        self.var("XDG_CACHE_HOME", dir)
    }

    /// The same, with crates below `dir` that its user trusts.
    ///
    /// # Panics
    ///
    /// If trusting fails.
    #[must_use]
    pub fn trusting(self, dir: &str) -> Self {
        let trusted = self.run(["trust", dir]);
        assert_eq!(trusted.code, 0, "{trusted}");
        self
    }

    /// Runs the command line with an empty stdin and a limit in KiB on the size of each file that it writes: as on a
    /// full disk, but without filling one.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub fn run_with_file_limit<S: AsRef<str>>(&self, kib: u32, args: impl IntoIterator<Item = S>) -> Output {
        let mut shell = Command::new("sh");
        // A write beyond the limit fails instead of ending the process.
        shell.args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2),
        ]);
        shell.arg(&self.binary);
        self.spawn(shell, args, None).finish()
    }

    /// Has a shell run what a person types in `dir`, with the command line on the PATH as `agenthost`; all output is on
    /// stdout, as on a terminal. `before` is the exit code of the previous command. Returns the directory that it ends
    /// in.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub fn shell(&self, dir: &Path, command: &str, before: i32) -> (Output, PathBuf) {
        let bin = self.root.path().join("bin");
        if !bin.exists() {
            std::fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(&self.binary, bin.join("agenthost")).unwrap();
        }
        let place = self.root.path().join("tmp/ends-in");
        let script = format!(
            "exec 2>&1; PATH={bin:?}:$PATH; cd {dir:?} || exit; (exit {before})\n{command}\ncode=$?; pwd > {place:?}; exit $code"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        // It may be cargo that is typed, for the first time on a busy machine.
        let output = self.spawn(shell, None::<&str>, None).finish_within(HUNG * 5);
        let ends_in = std::fs::read_to_string(place).unwrap();
        (output, PathBuf::from(ends_in.trim_end()))
    }

    /// Writes a file, named from the working directory, readable for this user alone.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.cwd().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The working directory.
    pub fn cwd(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// The directory in which the command line keeps compiled plugins.
    pub fn compiled(&self) -> PathBuf {
        Path::new(&self.vars["XDG_CACHE_HOME"]).join("agenthost/compiled")
    }

    /// `text` with what differs from run to run replaced by words.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.cwd().display().to_string(), "[work]")
            .replace(&self.root.path().display().to_string(), "[root]")
    }

    /// Runs the command line with an empty stdin.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.start(args, None).finish()
    }

    /// Runs the command line with `stdin` piped in.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub fn piped<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, stdin: &str) -> Output {
        self.start(args, Some(stdin)).finish()
    }

    /// Starts the command line.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, stdin: Option<&str>) -> Running {
        self.spawn(Command::new(&self.binary), args, stdin)
    }

    /// Runs the command line on a terminal of its own, 100 columns wide and with an empty stdin: the exit code, and what
    /// was written to the terminal.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub fn on_terminal<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> (i32, String) {
        let (code, screen) = self.start_on_terminal(100, 40, args).finish();
        (code, screen.written)
    }

    /// Starts the command line on a terminal of its own of this size, with an empty stdin.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_on_terminal<S: AsRef<str>>(
        &self,
        columns: u16,
        rows: u16,
        args: impl IntoIterator<Item = S>,
    ) -> OnTerminal {
        self.attach(Keyboard::Missing, (columns, rows), args)
    }

    /// Starts the command line on a terminal of its own with a person at it: 100 columns wide, and its stdin too.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_with_keyboard<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> OnTerminal {
        self.attach(Keyboard::Attached, (100, 40), args)
    }

    fn attach<S: AsRef<str>>(
        &self,
        keyboard: Keyboard,
        (columns, rows): (u16, u16),
        args: impl IntoIterator<Item = S>,
    ) -> OnTerminal {
        let mut command = Command::new(&self.binary);
        command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        command.env_clear().envs(&self.vars).env("TERM", "xterm-256color");
        command.current_dir(self.cwd());
        let screen = Screen::attach(&mut command, columns, rows, keyboard);
        let child = command.spawn().unwrap();
        // Its ends of the terminal.
        drop(command);
        let empty = || std::thread::spawn(String::new);
        let running = Running {
            child,
            stdout: empty(),
            stderr: empty(),
        };
        OnTerminal { running, screen }
    }

    fn spawn<S: AsRef<str>>(
        &self,
        mut command: Command,
        args: impl IntoIterator<Item = S>,
        stdin: Option<&str>,
    ) -> Running {
        command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        command.env_clear().envs(&self.vars).current_dir(self.cwd());
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if let Some(text) = stdin {
            // A command that does not read stdin closes it.
            let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        }
        let (stdout, stderr) = (
            collect(child.stdout.take().unwrap()),
            collect(child.stderr.take().unwrap()),
        );
        Running { child, stdout, stderr }
    }

    /// The surroundings as the library sees them.
    pub fn surroundings(&self) -> Env {
        Env::new(self.vars.clone(), self.cwd(), Some(self.root.path().join("home")))
    }

    /// A host with the configuration at the working directory.
    ///
    /// # Panics
    ///
    /// When the configuration is wrong or the machine refuses.
    pub fn host(&self) -> Host {
        let config = Config::load(&self.surroundings()).unwrap();
        Host::builder()
            .config(config)
            .cache_dir(self.compiled())
            .build()
            .unwrap()
    }
}

/// A command line in progress on a terminal of its own.
pub struct OnTerminal {
    /// The process.
    pub running: Running,
    /// The terminal.
    pub screen: Screen,
}

impl OnTerminal {
    /// Waits for the end: the exit code, and the terminal.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub fn finish(self) -> (i32, ClosedScreen) {
        (self.running.finish().code, self.screen.close())
    }
}

impl Running {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Does what Ctrl-C does.
    ///
    /// # Panics
    ///
    /// If the shell is missing.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends it the signal of this name, such as `TERM`.
    ///
    /// # Panics
    ///
    /// If the shell is missing.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Returns whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as a loss of power does, and waits until it is gone. It may have come to its own end just
    /// before.
    pub fn kill(mut self) -> Output {
        let _ = self.child.kill();
        self.finish()
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// When it hangs; it is killed first.
    pub fn finish(self) -> Output {
        self.finish_within(HUNG)
    }

    /// Waits for the end, for as long as `most`.
    ///
    /// # Panics
    ///
    /// When it hangs; it is killed first.
    pub fn finish_within(mut self, most: Duration) -> Output {
        use std::os::unix::process::ExitStatusExt;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > most {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
                panic!("it hung\nstdout: {stdout}\nstderr: {stderr}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap();
        Output {
            code,
            stdout: self.stdout.join().unwrap(),
            stderr: self.stderr.join().unwrap(),
        }
    }
}

impl Output {
    /// Returns the JSON on stdout, which must be one line; the exit code must be `code`.
    ///
    /// # Panics
    ///
    /// If either is not the case.
    #[track_caller]
    pub fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{self}");
        assert_eq!(self.stdout.matches('\n').count(), 1, "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Returns the message on stderr and its hint; the exit code must be `code` and stdout must be empty.
    ///
    /// # Panics
    ///
    /// If either is not the case, or if the error or the hint is missing.
    #[track_caller]
    pub fn error(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self}");
        assert_eq!(self.stdout, "", "{self}");
        assert!(
            self.stderr.contains("error: ") && self.stderr.contains("\nhint: "),
            "{self}"
        );
        assert!(
            !self.stderr.contains("panicked") && !self.stderr.contains('\u{1b}'),
            "{self}"
        );
        &self.stderr
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code {}\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        )
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
