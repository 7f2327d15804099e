//! The load: a few connections that ask one path after another, in a process of its own, so that its CPU is not counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What is asked for, and how.
pub(crate) struct Load {
    pub(crate) port: u16,
    /// The paths, which the connections take turns at.
    pub(crate) paths: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    /// Requests a second in all; without it, each connection asks as soon as it has an answer.
    pub(crate) rate: Option<f64>,
}

/// What a connection saw.
#[derive(Default)]
struct Seen {
    statuses: BTreeMap<u16, u64>,
    /// How long each answer took, from when it was due.
    took: Vec<Duration>,
    bytes: u64,
}

/// Runs the load and prints what was seen as JSON.
pub(crate) fn run(load: Load) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let load = Arc::new(load);
    let (seen, took) = runtime.block_on(async {
        let began = Instant::now();
        let mut connections = JoinSet::new();
        for index in 0..load.connections {
            let load = Arc::clone(&load);
            connections.spawn(async move { ask(&load, index, began).await });
        }
        let mut all = Seen::default();
        for seen in connections.join_all().await {
            all.took.extend(seen.took);
            all.bytes += seen.bytes;
            for (status, count) in seen.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
        }
        (all, began.elapsed())
    });
    let mut took_each = seen.took;
    took_each.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a position in a list"
        )]
        let position = (took_each.len() as f64 * share) as usize;
        let found = took_each.get(position.min(took_each.len().saturating_sub(1)));
        found.map_or(0.0, |took| took.as_secs_f64() * 1e3)
    };
    println!(
        "{}",
        json!({
            "requests": took_each.len(),
            "seconds": took.as_secs_f64(),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "bytes": seen.bytes,
            "statuses": seen.statuses,
        })
    );
}

async fn ask(load: &Load, index: usize, began: Instant) -> Seen {
    let mut stream = connect(load.port).await;
    let mut seen = Seen::default();
    let mut buffer = Vec::with_capacity(64 * 1024);
    let end = began + Duration::from_secs_f64(load.seconds);
    let every = load.rate.map(|rate| {
        let connections = f64::from(u32::try_from(load.connections).unwrap());
        Duration::from_secs_f64(connections / rate)
    });
    let share = u32::try_from(index).unwrap();
    let mut due =
        began + every.unwrap_or_default() * share / u32::try_from(load.connections).unwrap();
    let mut next = index;
    loop {
        match every {
            Some(every) => {
                sleep_until(due).await;
                due += every;
            }
            None => due = Instant::now(),
        }
        let from = every.map_or(due, |every| due - every);
        if from >= end {
            return seen;
        }
        let path = &load.paths[next % load.paths.len()];
        next += load.connections;
        // A network of its own for each request, as a proxy names it: the portal limits what a network may try.
        let [_, _, high, low] = u32::try_from(next % 65_536).unwrap().to_be_bytes();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: files.acme.example\r\nX-Forwarded-For: 10.{high}.{low}.1\r\nAccept: text/html\r\n\r\n"
        );
        // A server that was busy may have closed a connection that it took for idle.
        let (status, bytes, is_last) = loop {
            if stream.write_all(request.as_bytes()).await.is_ok()
                && let Some(answer) = read_answer(&mut stream, &mut buffer).await
            {
                break answer;
            }
            stream = connect(load.port).await;
        };
        *seen.statuses.entry(status).or_default() += 1;
        seen.bytes += bytes;
        seen.took.push(from.elapsed());
        if is_last {
            stream = connect(load.port).await;
        }
    }
}

async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads an answer with a length, or in chunks: its status, its bytes, and whether the connection ends with it. `None` if the
/// connection has ended before it.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(u16, u64, bool)> {
    buffer.clear();
    let head = loop {
        let count = stream.read_buf(buffer).await.unwrap_or(0);
        if count == 0 && buffer.is_empty() {
            return None;
        }
        assert!(count > 0, "the connection ended within an answer");
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = std::str::from_utf8(&buffer[..head]).unwrap();
    let text = text.to_ascii_lowercase();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let header = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let is_last = header("connection") == Some("close");
    if header("transfer-encoding") == Some("chunked") {
        while !buffer.ends_with(b"\r\n0\r\n\r\n") {
            assert!(stream.read_buf(buffer).await.unwrap() > 0);
        }
    } else {
        let length: usize = header("content-length").map_or(0, |text| text.parse().unwrap());
        while buffer.len() < head + length {
            assert!(stream.read_buf(buffer).await.unwrap() > 0);
        }
    }
    Some((status, buffer.len() as u64, is_last))
}
