//! Servers that others wrote, as child processes that listen on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::server::{Reply, Request, Server};

/// The longest wait for a start or for answers: far longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// A request of this age is not about to end.
const JUST_BEGUN: Duration = Duration::from_millis(50);

/// A server; it is killed when this is dropped.
pub struct ForeignServer {
    command: Box<dyn Fn(u16) -> Command + Send>,
    port: u16,
    child: Child,
    /// The directory of the log.
    dir: TempDir,
}

impl ForeignServer {
    /// Starts the command for a free port, and waits until it listens there.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(command: impl Fn(u16) -> Command + Send + 'static) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(command(port), dir.path().join("log"));
        let mut server = Self {
            command: Box::new(command),
            port,
            child,
            dir,
        };
        server.listens();
        server
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Ends it at once, as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port after [`Self::kill`], and waits until it listens there.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_again(&mut self) {
        self.child = spawn((self.command)(self.port), self.dir.path().join("log"));
        self.listens();
    }

    /// The body at `path`, if the server answers with the status 200.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
    }

    /// Waits until it answers at `path` with the status 200.
    ///
    /// # Panics
    ///
    /// If it ends, or does not answer.
    pub fn wait_for(&mut self, path: &str) {
        self.wait("it does not answer", |server| server.get(path).is_some());
    }

    /// Waits until it answers at `path` with the status 200, or ends. Returns its status if it ended, and stops it.
    ///
    /// # Panics
    ///
    /// If it does neither.
    pub fn ended_before(mut self, path: &str) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if self.get(path).is_some() {
                return None;
            }
            assert!(start.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn listens(&mut self) {
        self.wait("it does not listen", |server| {
            TcpStream::connect(server.address()).is_ok()
        });
    }

    fn wait(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !ready(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "{what}: {ended:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for ForeignServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server behind a recording proxy.
pub struct ProxiedServer {
    /// The server itself.
    pub server: ForeignServer,
    /// The proxy, to which clients connect.
    pub proxy: Server,
}

impl ProxiedServer {
    /// Puts a proxy in front of `server`.
    pub fn new(server: ForeignServer) -> Self {
        let upstream = server.address();
        let proxy = Server::start(move |_| Reply::forwarded(upstream));
        Self { server, proxy }
    }

    /// Waits until `count` requests were answered, kills the server while it works on another one, and starts it again. In
    /// between, for a second and the time of the start, clients find nothing at the address.
    ///
    /// # Panics
    ///
    /// If the requests do not come, or the server does not start.
    pub fn crash_after(&mut self, count: usize) {
        let start = Instant::now();
        loop {
            let seen = self.proxy.seen();
            let answered = seen.iter().filter(|request| request.status == Some(200)).count();
            let begun = |request: &Request| request.ended.is_none() && request.arrived.elapsed() < JUST_BEGUN;
            if answered >= count && seen.iter().any(begun) {
                break;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{answered} of {count} requests were answered"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.proxy.close();
        self.server.kill();
        std::thread::sleep(Duration::from_secs(1));
        self.server.start_again();
        self.proxy.open();
    }
}

fn spawn(mut command: Command, log: PathBuf) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
