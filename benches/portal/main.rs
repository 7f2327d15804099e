//! Measures the portal: redirects with a durable audit line each, forged tokens, and pages of a thousand links.
//!
//! `cargo bench --bench portal`. The program runs as an operator runs it, with its embedded endpoint, SQLite ledger and audit log; the
//! load comes from another process. Two web applications do a part of the same work in the same run: Express with the AWS SDK and
//! better-sqlite3, and `FastAPI` with boto3 (`BENCH_NODE` and `BENCH_VENV` name what `tests/setup.sh portal-peers` prepared; `make bench`
//! sets them). Timings vary on shared machines, and load and servers share the cores: compare CPU times, and ratios within one run.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

mod load;
mod server;
mod world;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use self::load::Load;
use self::server::Server;
use self::world::{LINKS, OBJECTS, PortalWorld};

/// How long each load lasts, in seconds.
const SECONDS: f64 = 10.0;

/// How long a load runs before its measurement, in seconds.
const WARM_SECONDS: f64 = 2.0;

/// How many connections the load has, and how many readers look at pages.
const CONNECTIONS: usize = 32;
const READERS: usize = 4;

/// The offered rate at which answer times are measured, in requests a second.
const OFFERED: f64 = 1_000.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["load", port, paths, connections, seconds, rate] = arguments[..] {
        let paths = std::fs::read_to_string(paths).unwrap();
        let rate: f64 = rate.parse().unwrap();
        return load::run(Load {
            port: port.parse().unwrap(),
            paths: paths.lines().map(ToOwned::to_owned).collect(),
            connections: connections.parse().unwrap(),
            seconds: seconds.parse().unwrap(),
            rate: Some(rate).filter(|rate| *rate > 0.0),
        });
    }
    println!(
        "{LINKS} links, {CONNECTIONS} connections, {SECONDS} s each   requests/s   µs CPU each   p50 ms   p99 ms   MiB"
    );
    let ours = of_handout();
    for (name, theirs) in [
        ("Express + AWS SDK", express()),
        ("FastAPI + boto3", fastapi()),
    ] {
        let Some(theirs) = theirs else { continue };
        println!(
            "{name}: {:.1} times the CPU of a redirect, {:.1} times that of a page; Handout answers {:.1} times as many",
            theirs.redirect.cpu_us / ours.redirect.cpu_us,
            theirs.page.cpu_us / ours.page.cpu_us,
            ours.redirect.rate / theirs.redirect.rate,
        );
    }
}

/// What was measured of a server.
struct Numbers {
    redirect: Measured,
    page: Measured,
}

struct Measured {
    rate: f64,
    cpu_us: f64,
}

/// What a server is asked, and the status of every answer.
struct Asked<'a> {
    paths: &'a [String],
    status: u16,
    connections: usize,
    /// Requests a second in all; 0: as many as it answers.
    rate: f64,
}

impl<'a> Asked<'a> {
    fn redirects(paths: &'a [String]) -> Self {
        Self {
            paths,
            status: 302,
            connections: CONNECTIONS,
            rate: 0.0,
        }
    }

    fn pages(paths: &'a [String]) -> Self {
        Self {
            status: 200,
            connections: READERS,
            ..Self::redirects(paths)
        }
    }
}

fn of_handout() -> Numbers {
    let world = PortalWorld::new();
    let server = world.start();
    println!("  {:46} {:>46.0}", "Handout at the start", server.rss_mib());
    let (links, pages, forged) = (world.links(), world.pages(), world.forged());
    let redirects = Asked::redirects(&links);
    let redirect = measure("Handout, redirects", &server, &redirects);
    let offered = Asked {
        rate: OFFERED,
        ..redirects
    };
    measure("Handout, redirects as offered", &server, &offered);
    let asked = Asked::pages(&pages);
    let page = measure("Handout, pages of 1,000 links", &server, &asked);
    let forged = Asked {
        status: 404,
        ..Asked::redirects(&forged)
    };
    measure("Handout, forged tokens", &server, &forged);
    println!("  {:46} {:>46.0}", "Handout at the end", server.rss_mib());
    drop(server);
    let lines = world.recorded_opens();
    println!("  the audit log has {lines} lines of opens");
    Numbers { redirect, page }
}

/// The paths of a peer: the links in an order that no cache likes, and pages.
fn peer_paths() -> (Vec<String>, Vec<String>) {
    let link = |at: u64| format!("/d/t{:020}", at * 7_919 % LINKS);
    let page = |at: u64| format!("/j/t{:020}", at * OBJECTS % (LINKS - OBJECTS));
    (
        (0..LINKS).map(link).collect(),
        (0..LINKS / OBJECTS).map(page).collect(),
    )
}

fn of_peer(name: &str, command: &mut Command) -> Numbers {
    let server = Server::peer(command);
    let (links, pages) = peer_paths();
    let redirect = format!("{name}, redirects");
    let redirect = measure(&redirect, &server, &Asked::redirects(&links));
    let page = format!("{name}, pages of 1,000 links");
    let page = measure(&page, &server, &Asked::pages(&pages));
    Numbers { redirect, page }
}

fn peer(file: &str) -> String {
    format!("{}/benches/peers/portal/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn express() -> Option<Numbers> {
    let modules = prepared("BENCH_NODE", "Express")?;
    let dir = tempfile::tempdir().unwrap();
    let mut node = Command::new("node");
    node.arg(peer("express_peer.mjs"));
    node.arg(format!("{modules}/node_modules"));
    node.arg(dir.path().join("links.db")).arg(LINKS.to_string());
    Some(of_peer("Express", node.stderr(Stdio::null())))
}

fn fastapi() -> Option<Numbers> {
    let venv = prepared("BENCH_VENV", "FastAPI")?;
    let dir = tempfile::tempdir().unwrap();
    let mut python = Command::new(format!("{venv}/bin/python"));
    python.arg(peer("fastapi_peer.py"));
    python
        .arg(dir.path().join("links.db"))
        .arg(LINKS.to_string());
    Some(of_peer("FastAPI", &mut python))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how make bench tells what it prepared"
)]
fn prepared(variable: &str, peer: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        println!("{peer}: skipped: run make bench");
    }
    found
}

/// Puts a load on a server.
fn measure(name: &str, server: &Server, asked: &Asked<'_>) -> Measured {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("paths");
    std::fs::write(&file, asked.paths.join("\n")).unwrap();
    // Connections, caches and the code of interpreters become warm.
    of_load(server, &file, asked, WARM_SECONDS);
    let before = server.cpu();
    let seen = of_load(server, &file, asked, SECONDS);
    let cpu = server.cpu() - before;
    let number = |name: &str| seen[name].as_f64().unwrap();
    let measured = Measured {
        rate: number("requests") / number("seconds"),
        cpu_us: cpu.as_secs_f64() * 1e6 / number("requests"),
    };
    println!(
        "  {name:46} {:>8.0} {:>13.1} {:>8.1} {:>8.1} {:>5.0}",
        measured.rate,
        measured.cpu_us,
        number("p50_ms"),
        number("p99_ms"),
        server.rss_mib(),
    );
    measured
}

/// What the load saw, after every answer had the status that it must have.
fn of_load(server: &Server, paths: &Path, asked: &Asked<'_>, seconds: f64) -> Value {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["load", &server.port.to_string()])
        .arg(paths)
        .arg(asked.connections.to_string())
        .args([seconds.to_string(), asked.rate.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let seen: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?}"));
    let statuses = seen["statuses"].as_object().unwrap();
    let are_right = |seen: &String| *seen == asked.status.to_string();
    assert!(statuses.keys().all(are_right), "{statuses:?}");
    seen
}
