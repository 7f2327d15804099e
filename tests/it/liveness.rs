//! When dependencies hang: real daemons, real sockets, faults in between. The daemon goes on with what it can, says what is
//! wrong, and stops when it is told.

use std::fs;
use std::path::Path;
use std::time::Duration;

use handout::assemble::connection::embedded_sites;
use handout::config::{AllowConfig, ConnectionConfig, LedgerKind, QueueKind, Transport};
use handout::keyring::Keyring;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::line::{Line, Mode};
use crate::support::world::{World, email_job};
use crate::support::{get, until};

/// A world whose connection `far` is the same endpoint as `local`, at the end of a line.
pub(crate) async fn with_a_line() -> (World, Line) {
    let mut world = World::new().object("a.pdf", "x");
    let line = Line::start(world.config.embedded.listen).await;
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    add_connection(
        &mut world,
        "far",
        &line.url(),
        &site.access_key_id,
        &site.secret_access_key,
    );
    (world, line)
}

pub(crate) fn add_connection(world: &mut World, name: &str, url: &str, id: &str, secret: &str) {
    let file = world.dir.path().join(format!("{name}-secret"));
    fs::write(&file, secret).unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(url.to_owned()),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some(id.to_owned()),
        secret_access_key_file: Some(file),
        ..ConnectionConfig::default()
    };
    world.config.connections.insert(name.to_owned(), connection);
    let rule = AllowConfig {
        connection: name.to_owned(),
        ..world.config.allow[0].clone()
    };
    world.config.allow.push(rule);
}

/// Puts the ledger into a bucket of the connection `far`.
pub(crate) fn with_ledger_at_far(world: &mut World) {
    localstore::create_bucket(&world.dir.path().join("buckets"), "ledger").unwrap();
    let ledger = &mut world.config.ledger;
    ledger.kind = LedgerKind::S3;
    ledger.connection = Some("far".to_owned());
    ledger.bucket = Some("ledger".to_owned());
}

/// A job of the connection `far`.
pub(crate) fn far_job(id: &str) -> Value {
    let mut job = email_job(id);
    job["from"]["connection"] = json!("far");
    job
}

/// What `/ready` says.
pub(crate) async fn ready(http: &str) -> (u16, String) {
    let (status, body) = get(&format!("http://{http}/ready")).await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

pub(crate) async fn is_ready(http: &str) {
    until("readiness", async || {
        (ready(http).await.0 == 200).then_some(())
    })
    .await;
}

/// Waits for the mail of a job.
pub(crate) async fn mailed(world: &World, id: &str) {
    let subject = format!("Report {id}");
    until(id, async || {
        let mails = world.mails();
        mails
            .iter()
            .any(|mail| mail.subject == subject)
            .then_some(())
    })
    .await;
}

pub(crate) fn lines_with(config: &Path, words: &str) -> usize {
    daemon_log(config)
        .lines()
        .filter(|line| line.contains(words))
        .count()
}

#[tokio::test]
async fn a_store_that_falls_silent_is_said_once_and_its_jobs_go_when_it_is_back() {
    let (world, line) = with_a_line().await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &far_job("before"));
    mailed(&world, "before").await;
    line.becomes(Mode::Silent);
    for number in 0..6 {
        submit(&config, &far_job(&format!("waits-{number}")));
    }
    let said = until("the sentence of /ready", async || {
        let (status, said) = ready(&daemon.http).await;
        (status == 503).then_some(said)
    })
    .await;
    assert!(
        said.contains("(connections.far) has not answered since 20"),
        "{said}"
    );
    let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("\nhandout_edge_up{edge=\"store:far\"} 0\n"),
        "{metrics}"
    );
    assert_eq!(get(&format!("http://{}/live", daemon.http)).await.0, 200);
    submit(&config, &email_job("beside"));
    mailed(&world, "beside").await;

    line.becomes(Mode::Open);
    let back = Instant::now();
    is_ready(&daemon.http).await;
    submit(&config, &far_job("new"));
    mailed(&world, "new").await;
    for number in 0..6 {
        mailed(&world, &format!("waits-{number}")).await;
    }
    let took = back.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?} after its return");
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0));
    assert_eq!(
        lines_with(&config, "has not answered since"),
        1,
        "{}",
        daemon_log(&config)
    );
    assert_eq!(lines_with(&config, "(connections.far) is back"), 1);
    assert_eq!(world.parked().await, Vec::<String>::new());
}

#[tokio::test]
async fn other_jobs_start_while_a_slow_domain_a_huge_job_and_a_silent_store_have_theirs() {
    let silent = Line::silent().await;
    let relay = BadRelay::start(Vec::new()).await;
    let mut world = World::new();
    add_connection(&mut world, "far", &silent.url(), "id", "secret");
    through(&mut world, relay.port);
    world.config.mail.domain_rates =
        [("slow.acme.example".to_owned(), "1/m".parse().unwrap())].into();
    for rule in &mut world.config.allow {
        rule.recipients.push("*@slow.acme.example".to_owned());
    }
    for number in 0..2000 {
        world = world.object(&format!("{number}.pdf"), "x");
    }
    let config = world.written();
    let mut huge = email_job("huge");
    let crowd: Vec<String> = (0..60).map(|n| format!("crowd-{n}@acme.example")).collect();
    huge["email"]["to"] = json!(crowd);
    let small = |id: &str, to: &str| {
        let mut job = email_job(id);
        job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["1.pdf"] });
        job["email"]["to"] = json!([to]);
        job
    };
    let mut before = vec![huge];
    for number in 0..8 {
        before.push(far_job(&format!("silent-{number}")));
        let id = format!("slow-{number}");
        before.push(small(&id, &format!("{id}@slow.acme.example")));
    }
    world.submit(&before).await;
    let daemon = Daemon::start(&config, &[]).await;
    until("the first mail to the slow domain", async || {
        relay
            .kept()
            .iter()
            .any(|to| to.contains("@slow."))
            .then_some(())
    })
    .await;
    let others: Vec<Value> = (0..4)
        .map(|n| small(&format!("other-{n}"), &format!("other-{n}@acme.example")))
        .collect();
    let began = Instant::now();
    world.submit(&others).await;
    until("the other jobs", async || {
        let kept = relay.kept();
        (kept.iter().filter(|to| to.contains("other-")).count() == 4).then_some(())
    })
    .await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(20),
        "the other jobs took {took:?}"
    );
    daemon.stops(&config).await;
    assert!(
        relay
            .kept()
            .iter()
            .filter(|to| to.contains("@slow."))
            .count()
            < 3
    );
}

/// A job in parts of 260 recipients, of whom four of the first hundred are of a slow domain; its id, and how many others there are.
fn job_in_parts() -> (Value, usize) {
    let to = |n: usize| {
        let domain = if n % 25 == 7 && n < 100 {
            "slow.acme.example"
        } else {
            "acme.example"
        };
        json!({ "address": format!("p{n}@{domain}"), "vars": { "file": "1" } })
    };
    let mut job = email_job("parts");
    job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["{{recipient.vars.file}}.pdf"] });
    job["email"]["to"] = (0..260).map(to).collect();
    (job, 256)
}

/// How many mails to slow domains, and to others, the relay has accepted.
fn kept(relay: &BadRelay) -> (usize, usize) {
    let kept = relay.kept();
    let slow = kept.iter().filter(|to| to.contains("@slow.")).count();
    (slow, kept.len() - slow)
}

/// The value of a metric, by its name and labels.
async fn metric(http: &str, name: &str) -> f64 {
    let (_, text) = get(&format!("http://{http}/metrics")).await;
    let text = String::from_utf8(text).unwrap();
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).expect("the metric")
}

async fn deferred(http: &str) -> bool {
    metric(http, "handout_mails_total{result=\"deferred\"}").await > 0.0
}

async fn reads_of_the_ledger(http: &str) -> f64 {
    let name = "handout_ledger_request_duration_seconds_count{operation=\"read\"}";
    metric(http, name).await
}

#[tokio::test]
async fn a_domain_that_the_relay_is_silent_about_holds_no_other_recipient_of_a_job_in_parts() {
    let stalls = Rule {
        step: "RCPT SLOW",
        at: 0,
        habit: Habit::SayAndStall(String::new()),
    };
    let relay = BadRelay::start(vec![stalls]).await;
    let mut world = World::new().object("1.pdf", "x");
    through(&mut world, relay.port);
    world.config.mail.at_once = 8;
    world.config.mail.smtp.connections = 8;
    world.config.mail.smtp.rate = "1000/s".parse().unwrap();
    world.config.allow[0]
        .recipients
        .push("*@slow.acme.example".to_owned());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let (job, others) = job_in_parts();
    world.submit(&[job]).await;
    until("the other recipients", async || {
        (kept(&relay) == (0, others)).then_some(())
    })
    .await;
    // None of the mails to the slow domain has come to an end so far, nor the first chunk.
    assert!(!deferred(&daemon.http).await, "{}", daemon_log(&config));
    relay.becomes(Vec::new());
    until("the slow domain", async || {
        (kept(&relay) == (4, others)).then_some(())
    })
    .await;
    until("the end of the job", async || {
        (lines_with(&config, "a chunk of recipients is done") == 3).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn a_domain_with_a_rate_of_its_own_holds_no_other_recipient_of_a_job_in_parts() {
    let relay = BadRelay::start(Vec::new()).await;
    let mut world = World::new().object("1.pdf", "x");
    through(&mut world, relay.port);
    world.config.mail.smtp.rate = "1000/s".parse().unwrap();
    let rate = "4/m".parse().unwrap();
    world.config.mail.domain_rates = [("slow.acme.example".to_owned(), rate)].into();
    world.config.allow[0]
        .recipients
        .push("*@slow.acme.example".to_owned());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let (job, others) = job_in_parts();
    world.submit(&[job]).await;
    let (slow, _) = until("the other recipients", async || {
        let kept = kept(&relay);
        (kept.1 == others).then_some(kept)
    })
    .await;
    assert!(slow < 3, "{slow}");
    // The recipients of the domain have its rate, and no other part is looked at again for their sake. What looks for doubts once a minute
    // reads the ledger, too.
    let mut reads = Vec::new();
    for more in 1..=2 {
        let before = reads_of_the_ledger(&daemon.http).await;
        until("the next of the slow domain", async || {
            (kept(&relay).0 >= slow + more).then_some(())
        })
        .await;
        reads.push(reads_of_the_ledger(&daemon.http).await - before);
    }
    assert!(reads.iter().any(|reads| *reads < 60.0), "{reads:?}");
    daemon.stops(&config).await;
    assert_eq!(kept(&relay).1, others, "each once");
    // A further process knows nothing of them, and ends the job.
    let daemon = Daemon::start(&config, &[]).await;
    until("the last of the slow domain", async || {
        (kept(&relay).0 == 4).then_some(())
    })
    .await;
    until("the end of the job", async || {
        (world.waiting().await == 0).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    assert_eq!(kept(&relay), (4, others), "each once");
    // The other two were done before.
    assert_eq!(lines_with(&config, "a chunk of recipients is done"), 1);
}

/// The relay rejects the mails to the first two recipients for a reason about the sender, and counts as down. Only a mail shows that it is
/// well again, and theirs wait for it.
#[tokio::test]
async fn a_relay_that_rejected_the_first_recipients_of_a_job_in_parts_is_tried_with_the_next() {
    let refuses = Rule {
        step: "RCPT SLOW",
        at: 0,
        habit: Habit::Say("554 5.7.1 Client host rejected: access denied\r\n".to_owned()),
    };
    let relay = BadRelay::start(vec![refuses]).await;
    let mut world = World::new().object("1.pdf", "x");
    through(&mut world, relay.port);
    world.config.mail.at_once = 1;
    world.config.allow[0]
        .recipients
        .push("*@slow.acme.example".to_owned());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let (mut job, _) = job_in_parts();
    let to = |address: &str| json!({ "address": address, "vars": { "file": "1" } });
    let (ann, bo) = ("ann@slow.acme.example", "bo@slow.acme.example");
    job["email"]["to"] = json!([to(ann), to(bo), to("cy@acme.example")]);
    world.submit(&[job]).await;
    until("the outage", async || {
        (ready(&daemon.http).await.0 == 503).then_some(())
    })
    .await;
    relay.becomes(Vec::new());
    let third = until("the third recipient", async || {
        (kept(&relay).1 == 1).then_some(())
    });
    let within = tokio::time::timeout(Duration::from_secs(45), third).await;
    assert!(within.is_ok(), "{}", daemon_log(&config));
    until("the first two", async || {
        (kept(&relay) == (2, 1)).then_some(())
    })
    .await;
    daemon.stops(&config).await;
}

/// A page of the listing takes 15 s.
#[tokio::test]
async fn other_jobs_start_while_a_store_that_is_slow_and_never_silent_has_its_share() {
    let (mut world, line) = with_a_line().await;
    for number in 0..1000 {
        world = world.object(&format!("{number}.pdf"), "x");
    }
    world.config.queue.max_in_flight = 4;
    line.becomes(Mode::Slow);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let slow: Vec<Value> = (0..8).map(|n| far_job(&format!("slow-{n}"))).collect();
    world.submit(&slow).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    for number in 0..3 {
        let mut other = email_job(&format!("other-{number}"));
        other["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["1.pdf"] });
        let began = Instant::now();
        world.submit(&[other]).await;
        mailed(&world, &format!("other-{number}")).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "it took {took:?}");
    }
    assert_eq!(ready(&daemon.http).await.0, 200, "the store answers");
    assert!(
        world.mails().len() < 6,
        "the slow ones were not done before"
    );
    // Those that gave way come back, and no link has a second line.
    line.becomes(Mode::Open);
    for number in 0..8 {
        mailed(&world, &format!("slow-{number}")).await;
    }
    assert_eq!(world.mails().len(), 11);
    assert_eq!(world.parked().await, Vec::<String>::new());
    daemon.stops(&config).await;
}

#[tokio::test]
async fn sigterm_ends_the_daemon_whatever_hangs() {
    let stalls = |step: &'static str| Rule {
        step,
        at: 0,
        habit: Habit::SayAndStall(String::new()),
    };
    for step in ["CONNECT", "MAIL", "RCPT", "DATA"] {
        let relay = BadRelay::start(vec![stalls(step)]).await;
        let mut world = World::new().object("a.pdf", "x");
        through(&mut world, relay.port);
        let waits = async || (relay.connections() > 0).then_some(());
        ends_soon(world, email_job("hangs"), step, waits).await;
    }
    let (world, line) = with_a_line().await;
    line.becomes(Mode::Silent);
    ends_soon(world, far_job("hangs"), "a silent store", async || Some(())).await;
}

/// Starts a daemon, gives it a job that hangs, and tells it to stop in the middle.
async fn ends_soon(
    mut world: World,
    job: Value,
    what: &str,
    waits: impl AsyncFnMut() -> Option<()>,
) {
    world.config.queue.grace_period = "2s".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &job);
    until(what, waits).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    daemon.signal("TERM");
    let (code, took) = daemon.end().await;
    assert_eq!(code, Some(0), "{what}: {}", daemon_log(&config));
    assert!(took < Duration::from_secs(12), "{what}: {took:?}");
    assert_eq!(world.waiting().await, 1, "{what}: the job stays");
}

#[tokio::test]
async fn ready_tells_of_an_edge_that_no_job_uses() {
    // A relay that comes and goes is a line to one that is well.
    let relay = BadRelay::start(Vec::new()).await;
    let relay_line = Line::start(([127, 0, 0, 1], relay.port).into()).await;
    let (mut world, line) = with_a_line().await;
    through(&mut world, relay_line.address.port());
    with_ledger_at_far(&mut world);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    for mode in [Mode::Silent, Mode::Refusing] {
        for (line, sentences) in [
            (
                &line,
                &["the ledger in s3://ledger/", "(connections.far)"][..],
            ),
            (&relay_line, &["(mail.smtp)"][..]),
        ] {
            line.becomes(mode);
            let failed = Instant::now();
            until("the sentences of /ready", async || {
                let (status, said) = ready(&daemon.http).await;
                let all = sentences.iter().all(|sentence| said.contains(sentence));
                (status == 503 && all).then_some(())
            })
            .await;
            let told = failed.elapsed();
            line.becomes(Mode::Open);
            let back = Instant::now();
            is_ready(&daemon.http).await;
            let ready = back.elapsed();
            // The limits are 30 s and 5 s; the machine of a test has other work.
            assert!(
                told < Duration::from_secs(32) && ready < Duration::from_secs(8),
                "{mode:?} {sentences:?}: told after {told:?}, ready after {ready:?}"
            );
        }
    }
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_mail_whose_text_was_sent_is_waited_for_and_then_in_doubt() {
    let stalls = Rule {
        step: "DOT",
        at: 0,
        habit: Habit::SayAndStall(String::new()),
    };
    let relay = BadRelay::start(vec![stalls]).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, relay.port);
    world.config.queue.grace_period = "2s".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("sent"));
    until("the connection", async || {
        (relay.connections() > 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    daemon.signal("TERM");
    let (code, took) = daemon.end().await;
    let log = daemon_log(&config);
    assert_eq!(code, Some(0), "{log}");
    assert!(
        Duration::from_secs(8) < took && took < Duration::from_secs(15),
        "{took:?}: {log}"
    );
    assert!(log.contains("whose text was sent is in doubt"), "{log}");
    assert_eq!(world.waiting().await, 1, "the job stays");
}

/// Mails go through a relay on this port, without TLS.
pub(crate) fn through(world: &mut World, port: u16) {
    world.config.mail.transport = Transport::Smtp;
    world.config.mail.smtp.host = "127.0.0.1".to_owned();
    world.config.mail.smtp.port = port;
    world.config.mail.smtp.tls = handout::config::Tls::None;
}

#[tokio::test]
async fn a_start_waits_for_its_ledger_and_says_so() {
    let (mut world, line) = with_a_line().await;
    with_ledger_at_far(&mut world);
    line.becomes(Mode::Refusing);
    let config = world.written();
    let daemon = Daemon::launch(&config, &[]);
    let said = until("the sentence of /ready", async || {
        std::net::TcpStream::connect(&daemon.http).ok()?;
        let (status, said) = ready(&daemon.http).await;
        (status == 503 && said.contains("ledger")).then_some(said)
    })
    .await;
    assert!(said.starts_with("starting: could not"), "{said}");
    assert_eq!(get(&format!("http://{}/live", daemon.http)).await.0, 200);
    line.becomes(Mode::Open);
    is_ready(&daemon.http).await;
    submit(&config, &email_job("after"));
    mailed(&world, "after").await;
    daemon.stops(&config).await;

    // A signal is heeded in the middle of a start that waits.
    line.becomes(Mode::Refusing);
    let daemon = Daemon::launch(&config, &[]);
    until("the start", async || {
        std::net::TcpStream::connect(&daemon.http).ok()
    })
    .await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_queue_that_never_answers_is_said_and_an_idle_daemon_ends_at_once() {
    let silent = Line::silent().await;
    let mut world = World::new();
    world.config.queue.kind = QueueKind::Sqs;
    world.config.queue.url = Some(format!("{}/123456789012/jobs", silent.url()));
    world.config.queue.endpoint_url = Some(silent.url());
    world.config.queue.region = Some("us-east-1".to_owned());
    let config = world.written();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let daemon = Daemon::start(&config, &keys).await;
    assert_eq!(ready(&daemon.http).await.0, 503, "it has not answered yet");
    let began = Instant::now();
    until("the sentence of /ready", async || {
        let (_, said) = ready(&daemon.http).await;
        said.contains("/123456789012/jobs has not answered since")
            .then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(40));
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// Waits until `/ready` is 503 and says this.
pub(crate) async fn is_unready(http: &str, words: &str) {
    until(words, async || {
        std::net::TcpStream::connect(http).ok()?;
        let (status, said) = ready(http).await;
        (status == 503 && said.contains(words)).then_some(())
    })
    .await;
}
