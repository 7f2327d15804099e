//! Answers that are none: credentials that have ended, listings that are no listings, files that cannot be opened. What jobs need
//! is down then, they wait, and they are back soon after it is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handout::clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::Instant;

use crate::answers::{job_of_r, world_at};
use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::{is_ready, is_unready, mailed};
use crate::support::answering::{LISTING, answering, answering_raw, date};
use crate::support::get;
use crate::support::world::{World, email_job};

/// How long after the return of what was down its jobs may come back.
const BACK_WITHIN: Duration = Duration::from_secs(30);

fn give(file: &Path, end: Timestamp) {
    let given = json!({
        "Version": 1, "AccessKeyId": "ASIA", "SecretAccessKey": "secret",
        "SessionToken": "token", "Expiration": end.to_string(),
    });
    fs::write(file, given.to_string()).unwrap();
}

#[tokio::test]
async fn a_source_whose_credentials_have_ended_is_down_and_its_jobs_wait() {
    let (url, _) = answering(date(SignedDuration::ZERO), |_| {
        ("200 OK", String::new(), LISTING)
    })
    .await;
    let mut world = world_at(&url);
    let connection = world.config.connections.get_mut("r").unwrap();
    connection.profile = Some("reports".to_owned());
    let config = world.written();
    let (keys, profiles) = (
        world.dir.path().join("keys"),
        world.dir.path().join("profiles"),
    );
    let process = format!(
        "[profile reports]\ncredential_process = cat {}\n",
        keys.display()
    );
    fs::write(&profiles, process).unwrap();
    give(&keys, "2020-01-01T00:00:00Z".parse().unwrap());
    let variables = [("AWS_CONFIG_FILE", profiles.to_str().unwrap())];
    let daemon = Daemon::start(&config, &variables).await;
    let mut job = job_of_r("waits");
    job["links"] = json!({ "expires_in": "30m" });
    submit(&config, &job);
    is_unready(&daemon.http, "ended at 2020-01-01T00:00:00Z").await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    // At the end of a session its source may not have another yet.
    give(&keys, clock::system() + SignedDuration::from_mins(5));
    is_ready(&daemon.http).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    give(&keys, clock::system() + SignedDuration::from_hours(1));
    mailed(&world, "waits").await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn what_is_no_answer_of_a_store_is_an_outage_and_jobs_are_back_soon_after_it() {
    let slow_down = "<Error><Code>SlowDown</Code></Error>";
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    // A server that announces too few bytes, and one whose listing does not end.
    let cut = &LISTING[..LISTING.len() / 2];
    let endless: &str = (LISTING.replace("</ListBucketResult>", "") + &" ".repeat(9 << 20)).leak();
    for (status, body) in [
        ("200 OK", cut),
        ("200 OK", endless),
        ("200 OK", ""),
        ("200 OK", "{\"status\":\"starting\"}"),
        ("200 OK", slow_down),
        ("400 Bad Request", expired),
    ] {
        let is_back = Arc::new(AtomicBool::default());
        let well = Arc::clone(&is_back);
        let (url, _) = answering(date(SignedDuration::ZERO), move |_| {
            match well.load(Ordering::Relaxed) {
                true => ("200 OK", String::new(), LISTING),
                false => (status, String::new(), body),
            }
        })
        .await;
        let world = world_at(&url);
        let config = world.written();
        let keys = [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let daemon = Daemon::start(&config, &keys).await;
        for id in ["one", "two"] {
            submit(&config, &job_of_r(id));
        }
        is_unready(&daemon.http, "since").await;
        assert_eq!(
            world.parked().await,
            Vec::<String>::new(),
            "{status} {body:.60}"
        );
        is_back.store(true, Ordering::Relaxed);
        let began = Instant::now();
        for id in ["one", "two"] {
            mailed(&world, id).await;
        }
        let took = began.elapsed();
        assert!(took < BACK_WITHIN, "{status} {body:.60}: {took:?}");
        daemon.stops(&config).await;
    }
}

/// An answer of a store.
fn whole(status: &str, headers: &str, body: &str) -> String {
    let date = date(SignedDuration::ZERO);
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// What becomes of a request for a name that a proxy, or the store itself, fails.
fn failed_name(fault: &str) -> Option<String> {
    let slow_down = "<Error><Code>SlowDown</Code></Error>";
    Some(match fault {
        "throttled for minutes" => whole("503 Slow Down", "Retry-After: 300\r\n", slow_down),
        "no quorum" => whole(
            "500 Internal Server Error",
            "",
            "<Error><Code>InternalError</Code></Error>",
        ),
        "head too big for a proxy" => whole(
            "502 Bad Gateway",
            "",
            "<html><h1>502 Bad Gateway</h1></html>",
        ),
        "cut" => whole("200 OK", "", LISTING).replace("</ListBucketResult>", ""),
        "reset" => String::new(),
        _ => return None,
    })
}

#[tokio::test]
async fn a_name_that_cannot_be_read_keeps_no_other_job_from_its_store() {
    let faults = [
        "throttled for minutes",
        "no quorum",
        "head too big for a proxy",
        "cut",
        "reset",
        "silent",
    ];
    let plays = faults.map(|fault| async move {
        let url = answering_raw(move |request| {
            let line = request.lines().next().unwrap_or_default();
            match line.contains("bad") {
                true => failed_name(fault),
                false => Some(whole("200 OK", "", LISTING)),
            }
        })
        .await;
        let world = world_at(&url);
        let config = world.written();
        let keys = [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let daemon = Daemon::start(&config, &keys).await;
        for n in 0..3 {
            let mut job = job_of_r(&format!("bad-{n}"));
            job["from"]["prefix"] = json!("bad/");
            submit(&config, &job);
        }
        // Longer than a silence, two failures in a row, and the time that errors must last to count.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let (status, said) = get(&format!("http://{}/ready", daemon.http)).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(status, 200, "{fault}: {said}");
        submit(&config, &job_of_r("good"));
        mailed(&world, "good").await;
        assert_eq!(world.parked().await, Vec::<String>::new(), "{fault}");
        let log = daemon_log(&config);
        assert!(!log.contains("what needs it waits"), "{fault}: {log}");
        daemon.stops(&config).await;
    });
    futures_util::future::join_all(plays).await;
}

/// Sets how many files a process may have open.
fn limit_files(pid: u32, most: u32) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={most}:1024"))
        .status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn a_daemon_that_can_open_no_more_files_goes_on_when_it_can() {
    let mut world = World::new().object("a.pdf", "x");
    world.config.queue.max_in_flight = 80;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let jobs: Vec<_> = (0..80).map(|n| email_job(&format!("job-{n}"))).collect();
    limit_files(daemon.pid(), 40);
    world.submit(&jobs).await;
    let live = format!("http://{}/live", daemon.http);
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = tokio::time::timeout(Duration::from_secs(3), get(&live)).await;
        let (status, _) = answer.expect("/live has descriptors of its own");
        assert_eq!(status, 200);
    }
    assert!(
        daemon_log(&config).contains("oo many open files"),
        "{}",
        daemon_log(&config)
    );
    limit_files(daemon.pid(), 1024);
    for n in 0..80 {
        mailed(&world, &format!("job-{n}")).await;
    }
    assert_eq!(world.parked().await, Vec::<String>::new());
    daemon.stops(&config).await;
}
