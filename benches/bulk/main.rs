//! Measures a million links: the cost of an object at each stage of a job, and the memory of the whole job.
//!
//! `cargo bench --bench bulk`. A separate process simulates S3, and its work is not counted. Everything else is real: signatures,
//! the audit log and its syncs, the ledger, pages and manifests, the PUT requests. A Python script with boto3 and Jinja2 does the
//! same work in the same run (`TEST_VENV` names its environment; `make bench` sets it). Timings vary on shared machines: compare
//! the CPU times, and ratios within one run.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

mod measure;
mod server;
mod work;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

/// The numbers of objects of the jobs.
const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// The number of objects for measuring the stages one by one.
const STAGED: u64 = 200_000;

/// The number of objects for Python: more would take over half a minute.
const PEER: u64 = 10_000;

/// The slow store: the delay of each answer, in milliseconds, and the number of objects.
const SLOW_MS: u64 = 50;
const SLOW: u64 = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", objects, delay] => {
            server::serve(objects.parse().unwrap(), delay.parse().unwrap());
        }
        ["stages", endpoint, objects] => work::stages(endpoint, objects.parse().unwrap()),
        ["job", endpoint, objects] => work::job(endpoint, objects.parse().unwrap()),
        ["list", endpoint, way] => work::list(endpoint, way == "split"),
        _ => all(),
    }
}

fn all() {
    println!("stages, {STAGED} objects        µs CPU an object");
    let ours = of_child("stages", STAGED, 0, "");
    for stage in ours["stages"].as_array().unwrap() {
        let (name, cost) = (stage[0].as_str().unwrap(), stage[1].as_f64().unwrap());
        println!("  {name:36} {cost:>6.2}");
    }
    println!("  {:36} {:>6.2}", "all", ours["all"].as_f64().unwrap());
    println!("whole jobs            µs CPU an object    seconds    MiB at most");
    for size in SIZES {
        let job = of_child("job", size, 0, "");
        println!(
            "  {size:>9} objects {:>20.2} {:>10.2} {:>14.1}",
            job["cpu"].as_f64().unwrap(),
            job["seconds"].as_f64().unwrap(),
            job["peak_mib"].as_f64().unwrap()
        );
    }
    slow_store();
    peer(ours["all"].as_f64().unwrap());
}

/// The duration of a listing when each answer is delayed.
fn slow_store() {
    let seconds = |way| {
        of_child("list", SLOW, SLOW_MS, way)["seconds"]
            .as_f64()
            .unwrap()
    };
    let (one, split) = (seconds("one"), seconds("split"));
    println!(
        "listing {SLOW} objects at {SLOW_MS} ms an answer: {one:.2} s page by page, {split:.2} s split, {:.1} times as fast",
        one / split
    );
}

/// The same work in Python.
#[expect(
    clippy::disallowed_methods,
    reason = "how make bench tells what it prepared"
)]
fn peer(ours: f64) {
    let Ok(venv) = std::env::var("TEST_VENV") else {
        println!("boto3 + Jinja2: skipped: run make bench");
        return;
    };
    let server = Server::start(PEER, 0);
    let output = Command::new(format!("{venv}/bin/python"))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/peers/bulk.py"
        ))
        .args([&server.endpoint, &PEER.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let theirs = answer["all"].as_f64().unwrap();
    println!(
        "boto3 + Jinja2, {PEER} objects: {theirs:.0} µs CPU an object, {:.0} times ours ({})",
        theirs / ours,
        answer["stages"]
    );
}

/// The measurements of a child process with a server of its own.
fn of_child(what: &str, objects: u64, delay: u64, way: &str) -> Value {
    let server = Server::start(objects, delay);
    let last = match way {
        "" => objects.to_string(),
        way => way.to_owned(),
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args([what, &server.endpoint, &last])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{what} said {text:?}"))
}

/// The server, in a separate process; it ends when its standard input is closed.
struct Server {
    child: Child,
    _stdin: ChildStdin,
    endpoint: String,
}

impl Server {
    fn start(objects: u64, delay: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &objects.to_string(), &delay.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().strip_prefix("ready ").unwrap();
        Self {
            child,
            _stdin: stdin,
            endpoint: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
