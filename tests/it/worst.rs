//! The worst message of each kind, given to a daemon that runs: it goes on answering, parks the message, and ends when told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{Daemon, submit};
use crate::support::world::{World, email_job};
use crate::support::{get, until};

/// How long `/live` may take under the worst message of each kind.
const ANSWERED_IN: Duration = Duration::from_secs(1);

fn people(count: usize, domain: &str) -> Vec<String> {
    (0..count).map(|n| format!("p{n}@{domain}")).collect()
}

/// A job with one thing changed.
fn with(id: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut job = email_job(id);
    change(&mut job);
    job.to_string()
}

/// Each worst message, and words of the reason for which it is parked.
fn worst() -> Vec<(String, &'static str)> {
    let amplified = "{{a}}".repeat(204);
    let large = "x".repeat(900_000);
    let strangers = people(9_000, "evil.example");
    let repeated = |field: &str| {
        with(field, |job| {
            job["vars"] = json!({ "a": "x".repeat(16_000) });
            job.pointer_mut("/email/to").unwrap()[0] = json!("ann@acme.example");
            let publish = json!({ "dir": "/srv" });
            match field {
                "email.subject" => job["email"]["subject"] = json!(amplified),
                "links.filename" => job["links"] = json!({ "filename": amplified }),
                "from.prefix" => job["from"]["prefix"] = json!(amplified),
                _ => job["gallery"] = json!({ "title": amplified, "publish": publish }),
            }
        })
    };
    let patterns: Vec<String> = (0..900)
        .map(|n| format!("{n}{}", "a".repeat(960)))
        .collect();
    let mut names = people(8_500, "bücher.example");
    names.extend((0..1_500).map(|n| format!("p@ü{n}.example")));
    vec![
        (
            with("large", |job| {
                job["vars"] = json!({ "a": large });
                job["email"]["subject"] = json!(amplified);
                job["email"]["to"] = json!(people(3_000, "evil.example"));
            }),
            "field vars has a text of 900000 bytes",
        ),
        (
            with("refused", |job| {
                job["vars"] = json!({ "a": "x".repeat(16_000) });
                job["email"]["subject"] = json!(amplified);
                job["email"]["to"] = json!(strangers);
            }),
            "do not let it go to the recipient p…@evil.example",
        ),
        (
            repeated("email.subject"),
            "email.subject has more than 998 bytes",
        ),
        (
            repeated("links.filename"),
            "links.filename has more than 4096 bytes",
        ),
        (
            repeated("from.prefix"),
            "from.prefix has more than 1024 bytes",
        ),
        (
            with("patterns", |job| job["from"]["include"] = json!(patterns)),
            "from.include has patterns of more than 16384 bytes together",
        ),
        (
            with("wildcards", |job| {
                job["from"]["include"] = json!([
                    "*?[!a]".repeat(32),
                    "*?[!b]".repeat(32),
                    "*?[!c]".repeat(32)
                ]);
            }),
            "from.include has patterns with more than 200 wildcards together",
        ),
        (
            with("names", |job| job["email"]["to"] = json!(names)),
            "do not let it go to the recipient p…@xn--bcher-kva.example",
        ),
        (
            with("keys", |job| {
                let keys: Vec<String> = (0..100_000).map(|n| format!("z{n}")).collect();
                job["from"] = json!({ "connection": "local", "bucket": "elsewhere", "keys": keys });
            }),
            "from.keys names 100000 keys: at most 10000 are allowed",
        ),
        (
            with("strange-keys", |job| {
                let keys: Vec<String> = (0..10_000).map(|n| format!("z{n}")).collect();
                job["from"] = json!({ "connection": "local", "bucket": "elsewhere", "keys": keys });
            }),
            "hand out s3://elsewhere/z0 and 9999 more",
        ),
        (
            with("wide", |job| {
                job["vars"] = json!({ "a": vec![json!([]); 140_000] });
            }),
            "vars has more than 1000 values",
        ),
        (
            with("values", |job| {
                job["vars"] = json!({ "a": vec![0; 300_000] });
            }),
            "the message has more than 300000 values",
        ),
        (
            "[".repeat(1_000_000),
            "the message has more than 32 lists and objects inside each other",
        ),
        (
            format!("{{\"v\":1,\"{}\":1}}", "y".repeat(1_000_000)),
            "the job cannot be read: unknown field",
        ),
    ]
}

/// The time in which the daemon says that it lives.
async fn answer_time(daemon: &Daemon) -> Duration {
    let asked = Instant::now();
    assert_eq!(get(&format!("http://{}/live", daemon.http)).await.0, 200);
    asked.elapsed()
}

#[tokio::test]
async fn a_daemon_answers_while_it_works_the_worst_messages_and_parks_each() {
    let world = World::new().object("a.pdf", "x");
    let worst = worst();
    let opened = world.open().await;
    for (body, _) in &worst {
        assert!(body.len() <= 1024 * 1024, "a queue carries it");
        opened.queue.submit(body).await.unwrap();
    }
    opened.close().await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let mut times = Vec::new();
    until("each message's end", async || {
        times.push(answer_time(&daemon).await);
        (world.parked().await.len() == worst.len()).then_some(())
    })
    .await;
    let parked = world.parked().await;
    for (_, reason) in &worst {
        let told = parked
            .iter()
            .filter(|parked| parked.contains(reason))
            .count();
        assert_eq!(told, 1, "{reason}: {parked:#?}");
    }
    assert!(
        parked.iter().all(|reason| reason.len() < 1_000),
        "{parked:#?}"
    );
    // One answer may be late on a machine that has much else to do.
    times.sort();
    times.pop();
    assert!(
        times.last().is_none_or(|time| *time < ANSWERED_IN),
        "{times:?}"
    );
    submit(&config, &email_job("right"));
    until("the mail", async || world.mails().pop()).await;
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(10), "it ended after {took:?}");
}

/// A job of `count` small values in its variables.
fn amplified(id: &str, value: &Value, count: usize) -> String {
    with(id, |job| job["vars"] = json!({ "a": vec![value; count] }))
}

/// The most memory that a daemon may take for messages that are parked, whatever is in them: far less than `MemoryMax` of
/// the unit.
const MAX_MEMORY: usize = 250 << 20;

#[tokio::test]
async fn messages_of_many_small_values_take_little_memory_together() {
    let world = World::new();
    let field = json!({ "": 0 });
    let deep = (0..20).fold(json!(0), |inner, _| json!({ "": inner }));
    // Beyond the bounds, and as much as they allow.
    let bodies = (0..10).flat_map(|n| {
        let wrapped = json!(amplified("wrapped", &field, 74_000)).to_string();
        [
            amplified(&format!("flat-{n}"), &field, 116_000),
            amplified(&format!("deep-{n}"), &deep, 8_000),
            amplified(&format!("objects-{n}"), &field, 24_900),
            amplified(&format!("values-{n}"), &json!([0, 0]), 99_000),
            wrapped,
        ]
    });
    let (opened, count) = (world.open().await, 50);
    for body in bodies {
        assert!(
            body.len() <= 1024 * 1024,
            "a queue carries it: {}",
            body.len()
        );
        opened.queue.submit(&body).await.unwrap();
    }
    opened.close().await;
    let daemon = Daemon::start(&world.written(), &[]).await;
    until("each message's end", async || {
        (world.parked().await.len() == count).then_some(())
    })
    .await;
    let taken = daemon.most_memory();
    assert!(taken < MAX_MEMORY, "it took {} MiB", taken >> 20);
}
