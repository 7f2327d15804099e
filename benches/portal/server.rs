//! A server in a process of its own: Handout's portal or a peer. Its CPU and its memory are read from `/proc`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A server that ends with this value.
pub(crate) struct Server {
    child: Child,
    _stdin: Option<ChildStdin>,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a peer, which prints `ready <port>`.
    pub(crate) fn peer(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line
            .trim()
            .strip_prefix("ready ")
            .unwrap_or_else(|| panic!("{line:?}"));
        Self {
            port: port.parse().unwrap(),
            child,
            _stdin: stdin,
        }
    }

    /// Starts a program that listens on a known port, and waits until it does.
    pub(crate) fn listening(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let server = Self {
            child: child.unwrap(),
            _stdin: None,
            port,
        };
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        for _ in 0..600 {
            if listens() {
                return server;
            }
            pause(Duration::from_millis(100));
        }
        panic!("the portal does not listen on {port}");
    }

    /// The CPU time of all its threads: proc(5), `utime` and `stime`, in hundredths of a second.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|text| text.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Its memory, in MiB: proc(5), `VmRSS`.
    pub(crate) fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bench without a runtime waits for a process"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A port of loopback that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
