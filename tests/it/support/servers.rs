//! Third-party servers, started for a test on a free port and ended with it.
//!
//! `make test` prepares them. Without them, the tests that need them report that and pass, or fail where `REQUIRE_PARTS` is set,
//! as in CI.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reports that a test was skipped, and how to enable it.
pub(crate) fn skipped(test: &str) {
    is_missing(test, "run make test");
}

/// Reports which part is missing that a test needs.
///
/// # Panics
/// With `REQUIRE_PARTS` in the environment.
pub(crate) fn is_missing(test: &str, reason: &str) {
    assert!(
        std::env::var_os("REQUIRE_PARTS").is_none(),
        "{test}: a part is missing, and REQUIRE_PARTS is set: {reason}"
    );
    skipped_for(test, reason);
}

/// Reports that a test is skipped for want of a privilege, or because another command runs it.
#[expect(clippy::print_stderr, reason = "a skipped test must not be silent")]
pub(crate) fn skipped_for(test: &str, reason: &str) {
    eprintln!("{test}: skipped: {reason}");
}

/// The third-party software that `make test` prepared.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    venv: PathBuf,
}

impl Parts {
    /// The third-party servers, or a report that the test is skipped.
    #[expect(
        clippy::disallowed_methods,
        reason = "how make test tells the suite what it prepared"
    )]
    pub(crate) fn or_skip(test: &str) -> Option<Self> {
        match std::env::var("TEST_VENV") {
            Ok(venv) => Some(Self { venv: venv.into() }),
            Err(_) => {
                skipped(test);
                None
            }
        }
    }

    /// A program of the prepared Python environment.
    pub(crate) fn tool(&self, name: &str) -> Command {
        Command::new(self.venv.join("bin").join(name))
    }

    /// The interpreter of the prepared Python environment.
    pub(crate) fn python(&self) -> PathBuf {
        self.venv.join("bin/python")
    }

    /// A script of `tests/servers`.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = self.tool("python");
        command.arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/servers")
                .join(name),
        );
        command
    }

    /// Starts a server that says `ready <port>`.
    pub(crate) fn start(&self, script: &str, arguments: &[&str]) -> Server {
        let mut command = self.script(script);
        Server::start(command.args(arguments), Ending::Killed).expect("the server starts")
    }

    /// Starts postfix for mails to a domain; `None`, with the reason on stderr, if it cannot run.
    pub(crate) fn postfix_or_skip(
        &self,
        test: &str,
        dir: &Path,
        domain: &str,
        refused: &[&str],
    ) -> Option<Server> {
        let dir = dir.to_string_lossy();
        self.other_or_skip(test, "postfix.py", &[&[&*dir, domain], refused].concat())
    }

    /// Mounts what hangs on a directory; `None`, with the reason on stderr, where this user mounts nothing.
    pub(crate) fn hung_mount_or_skip(&self, test: &str, place: &Path) -> Option<Server> {
        let mount = self.start_other("hung_mount.py", &[&place.to_string_lossy()]);
        if mount.is_none() {
            skipped_for(test, "it needs root and /dev/fuse");
        }
        mount
    }

    /// Starts a server that only the whole of `make peers` prepares; `None`, with the reason on stderr, if it is not there.
    pub(crate) fn server_of_peers(
        &self,
        test: &str,
        script: &str,
        arguments: &[&str],
    ) -> Option<Server> {
        let server = self.start_other(script, arguments);
        if server.is_none() {
            skipped_for(test, "run make peers");
        }
        server
    }

    /// Starts an optional server (nginx, versitygw); `None`, with the reason on stderr, if it cannot run.
    pub(crate) fn other_or_skip(
        &self,
        test: &str,
        script: &str,
        arguments: &[&str],
    ) -> Option<Server> {
        let server = self.start_other(script, arguments);
        if server.is_none() {
            is_missing(test, "see the line above");
        }
        server
    }

    fn start_other(&self, script: &str, arguments: &[&str]) -> Option<Server> {
        let mut command = self.script(script);
        Server::start(command.args(arguments), Ending::Asked)
    }

    /// The result of Python's mail parser.
    pub(crate) fn parse_mails(&self, paths: &[PathBuf]) -> Vec<serde_json::Value> {
        let output = run(self.script("parse_mail.py").args(paths));
        match serde_json::from_slice(&output).unwrap() {
            serde_json::Value::Array(mails) => mails,
            mail => vec![mail],
        }
    }

    /// A certificate authority and a server's certificate, made in `dir`.
    pub(crate) fn make_ca(&self, dir: &Path) {
        self.make_ca_for(dir, "localhost");
    }

    /// The same for a server with an additional name.
    pub(crate) fn make_ca_for(&self, dir: &Path, name: &str) {
        assert!(
            self.script("make_ca.py")
                .arg(dir)
                .arg(name)
                .status()
                .unwrap()
                .success()
        );
    }
}

/// Runs a program that must succeed; returns its output.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The browser that `make test` prepared.
#[expect(
    clippy::disallowed_methods,
    reason = "how make test tells the suite what it prepared"
)]
pub(crate) fn browser_or_skip(test: &str) -> Option<Browser> {
    match (std::env::var("TEST_NODE"), std::env::var("TEST_BROWSER")) {
        (Ok(node), Ok(_)) => Some(Browser { node: node.into() }),
        _ => {
            skipped(test);
            None
        }
    }
}

/// Headless Chromium behind a script.
pub(crate) struct Browser {
    node: PathBuf,
}

impl Browser {
    /// A script of `tests/browser`.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new("node");
        command.env("TEST_NODE", &self.node).arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/browser")
                .join(name),
        );
        command
    }

    /// Starts a server of `tests/browser` that says `ready <port>`.
    pub(crate) fn start(&self, script: &str, arguments: &[&str]) -> Server {
        let mut command = self.script(script);
        Server::start(command.args(arguments), Ending::Killed).expect("the server starts")
    }

    /// Opens a page, takes a screenshot, and returns the browser's errors.
    pub(crate) fn shoot(&self, url: &str, picture: &Path, arguments: &[&str]) -> serde_json::Value {
        let output = self
            .script("shot.mjs")
            .arg(url)
            .arg(picture)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// At once: SIGKILL leaves nothing of it.
    Killed,
    /// By closing its standard input, since it has to end child processes first.
    Asked,
}

/// The exit code of a server that cannot run on this machine.
const CANNOT: i32 = 69;

/// A running server, which ends with the test.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    ending: Ending,
    /// Its port on loopback.
    pub(crate) port: u16,
}

impl Server {
    /// Starts it; `None` if it cannot run here.
    fn start(command: &mut Command, ending: Ending) -> Option<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(port) = line.trim().strip_prefix("ready ") else {
            let status = child.wait().unwrap();
            assert_eq!(
                status.code(),
                Some(CANNOT),
                "the server says that it is ready"
            );
            return None;
        };
        Some(Self {
            child,
            stdin,
            ending,
            port: port.parse().unwrap(),
        })
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if self.ending == Ending::Killed {
            drop(self.child.kill());
        }
        // A server that ends child processes kills them after a timeout of its own.
        drop(self.child.wait());
    }
}
