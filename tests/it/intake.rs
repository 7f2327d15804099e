//! The intake: jobs and events by HTTP, into a real daemon, by raw requests and by curl.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use handout::config::OnEventConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::conformance::{make_queue, sqs_client_at};
use crate::daemon::{Daemon, daemon_log};
use crate::liveness::{add_connection, far_job};
use crate::support::docs::page;
use crate::support::line::Line;
use crate::support::servers::Parts;
use crate::support::world::{World, email_job, free_address};
use crate::support::{get, until};

const TOKEN: &str = "correct-horse-battery-staple-0123456789";

/// An installation with an intake, an object, and a rule for the events of `reports`.
fn intake_world() -> World {
    let mut world = World::new().object("in/a.pdf", "x");
    let token = world.dir.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let rule = world.dir.path().join("on-event.json");
    let job = json!({
        "v": 1, "id": "upload",
        "from": { "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] },
        "email": { "to": ["ann@acme.example"], "subject": "{{event.key}} has arrived" },
    });
    fs::write(&rule, job.to_string()).unwrap();
    world.config.intake.listen = Some(free_address());
    world.config.intake.token_file = Some(token);
    world.config.on_event = vec![OnEventConfig {
        bucket: "reports".to_owned(),
        key: "in/**".to_owned(),
        events: vec!["ObjectCreated:*".to_owned()],
        job_file: rule,
    }];
    world
}

/// An answer as it came.
#[derive(Debug)]
struct IntakeReply {
    status: u16,
    head: String,
    body: Value,
}

impl IntakeReply {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        Self {
            status: head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .unwrap_or_else(|| panic!("no answer: {text:?}")),
            head: head.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|found| found.starts_with(line))
    }

    fn error(&self) -> &str {
        self.body["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// Calls an intake.
#[derive(Debug, Clone)]
struct Caller {
    address: SocketAddr,
    headers: String,
}

impl Caller {
    fn of(world: &World) -> Self {
        Self {
            address: world.config.intake.listen.unwrap(),
            headers: format!("authorization: Bearer {TOKEN}\r\n"),
        }
    }

    /// The same with other headers, each with its line end.
    fn with(&self, headers: &str) -> Self {
        Self {
            headers: headers.to_owned(),
            ..self.clone()
        }
    }

    /// The head of a request, with the length of its body.
    fn head(&self, line: &str, length: usize) -> String {
        let headers = &self.headers;
        format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        )
    }

    /// Sends a request as it is; `None` if no connection was made or nothing came back.
    async fn try_raw(&self, request: &str) -> Option<IntakeReply> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        (!answer.is_empty()).then(|| IntakeReply::parse(&answer))
    }

    async fn ask(&self, line: &str, body: &str) -> IntakeReply {
        let request = self.head(line, body.len()) + body;
        let answered = self.try_raw(&request).await;
        answered.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    async fn post(&self, path: &str, body: &Value) -> IntakeReply {
        self.ask(&format!("POST {path}"), &body.to_string()).await
    }

    async fn state(&self, id: &str) -> IntakeReply {
        self.ask(&format!("GET /jobs/{id}"), "").await
    }

    /// Waits until a job has a state.
    async fn until_state(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} to be {state}"), async || {
            let told = self.state(id).await.body;
            (told["state"] == state).then_some(told)
        })
        .await
    }
}

async fn metrics(daemon: &Daemon) -> String {
    let text = get(&format!("http://{}/metrics", daemon.http)).await.1;
    String::from_utf8(text).unwrap()
}

/// A world whose daemon serves the intake, and a caller with its token.
async fn served() -> (World, PathBuf, Daemon, Caller) {
    let world = intake_world();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    (world, config, daemon, caller)
}

#[tokio::test]
async fn a_job_that_is_posted_is_accepted_mailed_once_and_its_state_is_told() {
    let world = intake_world();
    let config = world.written();
    let daemon = Daemon::start(&config, &[("HANDOUT_LOG", "debug")]).await;
    let caller = Caller::of(&world);
    assert_eq!(caller.state("daily").await.status, 404);
    let accepted = caller.post("/jobs", &email_job("daily/1 ü")).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(
        (&accepted.body["job"], &accepted.body["checked"]),
        (&json!("daily/1 ü"), &json!(true))
    );
    let location = "/jobs/daily%2F1%20%C3%BC";
    assert!(
        accepted.has(&format!("location: {}", location.to_lowercase())),
        "{accepted:?}"
    );
    let path = location.strip_prefix("/jobs/").unwrap();
    let done = caller.until_state(path, "done").await;
    assert_eq!(done["mails"]["accepted"], 1, "{done}");
    assert_eq!(done["links"], 1, "{done}");
    // What is sent twice is one job.
    let again = caller.post("/jobs", &email_job("daily/1 ü")).await;
    assert_eq!(again.status, 202);
    until("the second message", async || {
        let done = "handout_jobs_total{result=\"done\"} 2";
        metrics(&daemon).await.contains(done).then_some(())
    })
    .await;
    assert_eq!(world.mails().len(), 1);
    let text = metrics(&daemon).await;
    for line in [
        "handout_intake_requests_total{result=\"accepted\"} 2",
        "handout_intake_requests_total{result=\"unauthorized\"} 0",
        "handout_links_issued_total 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let log = daemon_log(&config);
    for secret in [TOKEN, "ann@acme.example", "X-Amz-Signature"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_done_is_refused_with_the_sentence_of_preview() {
    let (world, config, daemon, caller) = served().await;
    let changed = |pointer: &str, value: Value| {
        let mut job = email_job("wrong");
        *job.pointer_mut(pointer).unwrap() = value;
        job
    };
    for (job, word) in [
        (changed("/from/bucket", json!("other")), "no [[allow]] rule"),
        (
            changed("/email/to", json!(["eve@evil.example"])),
            "do not let it go to the recipient",
        ),
        (
            changed("/from/prefix", json!("1999/")),
            "there are no objects to hand out",
        ),
        (changed("/id", Value::Null), "id"),
        (json!([1]), "not an object"),
    ] {
        let refused = caller.post("/jobs", &job).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.error().contains(word), "{refused:?}");
        let file = world.dir.path().join("wrong.json");
        fs::write(&file, job.to_string()).unwrap();
        let mut preview = std::process::Command::new(crate::support::program());
        preview.args(["job", "submit"]).arg(file);
        let preview = preview.arg("--config").arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&preview.stderr).into_owned();
        assert!(
            said.contains(refused.error()),
            "{said} is not what {refused:?} says"
        );
    }
    let mut without_id = email_job("x");
    without_id.as_object_mut().unwrap().remove("id");
    let refused = caller.post("/jobs", &without_id).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let not_json = caller.ask("POST /jobs", "{").await;
    assert!(not_json.error().contains("not JSON"), "{not_json:?}");
    assert_eq!(world.waiting().await, 0);
    // A value that the sentence leaves out goes to the caller alone.
    let mut job = email_job("wrong");
    job["email"]["to"] = json!(["eve evil.example"]);
    let refused = caller.post("/jobs", &job).await;
    assert_eq!(refused.status, 400);
    daemon.stops(&config).await;
    let log = daemon_log(&config);
    assert!(log.contains("the intake refused a request"), "{log}");
    assert!(!log.contains("evil.example"), "{log}");
}

#[tokio::test]
async fn a_wrong_token_is_refused_limited_and_never_limits_a_right_one() {
    let (world, config, daemon, caller) = served().await;
    let job = email_job("daily");
    let missing = caller.with("").post("/jobs", &job).await;
    assert_eq!(missing.status, 401);
    assert!(
        missing.has("www-authenticate: bearer realm=\"handout\""),
        "{missing:?}"
    );
    let wrong = caller.with(&format!("authorization: Bearer {TOKEN}x\r\n"));
    for path in ["/jobs", "/events", "/nowhere"] {
        let refused = wrong.post(path, &job).await;
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.has("www-authenticate: bearer realm=\"handout\", error"));
    }
    assert_eq!(wrong.state("daily").await.status, 401);
    let mut limited = None;
    for _ in 0..30 {
        let refused = wrong.post("/jobs", &job).await;
        if refused.status == 429 {
            limited = Some(refused);
            break;
        }
    }
    assert!(limited.unwrap().has("retry-after: "));
    let mut lower = caller.clone();
    lower.headers = lower.headers.replace("Bearer", "bearer");
    assert_eq!(lower.post("/jobs", &job).await.status, 202);
    // A new token is beside the old one, and then alone.
    let token_file = world.config.intake.token_file.clone().unwrap();
    let fresh = "another-token-of-this-intake-9876543210";
    fs::write(&token_file, format!("{fresh}\n")).unwrap();
    let renewed = caller.with(&format!("authorization: Bearer {fresh}\r\n"));
    until("the new token", async || {
        (caller.state("daily").await.status != 200).then_some(())
    })
    .await;
    assert_eq!(renewed.state("daily").await.status, 200);
    fs::write(&token_file, "weak").unwrap();
    until("the error", async || {
        daemon_log(&config)
            .contains("could not replace the tokens")
            .then_some(())
    })
    .await;
    assert_eq!(renewed.state("daily").await.status, 200);
    daemon.stops(&config).await;
    let log = daemon_log(&config);
    assert!(!log.contains(TOKEN) && !log.contains(fresh), "{log}");
}

#[tokio::test]
async fn what_is_too_large_too_slow_or_at_no_path_has_its_status() {
    let (_world, config, daemon, caller) = served().await;
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    let refused = caller.ask("POST /jobs", &large).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    let chunked = format!(
        "POST /jobs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{}\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        caller.headers,
        large.len()
    );
    assert_eq!(caller.try_raw(&chunked).await.unwrap().status, 413);
    let most = large.replacen('x', "", 2);
    assert_eq!(most.len(), 1024 * 1024);
    assert_eq!(caller.ask("POST /jobs", &most).await.status, 400);
    for (line, status, allow) in [
        ("GET /jobs", 405, "allow: post"),
        ("DELETE /jobs/daily", 405, "allow: get, head"),
        ("GET /", 404, ""),
        ("POST /metrics", 404, ""),
    ] {
        let answered = caller.ask(line, "").await;
        assert_eq!(answered.status, status, "{line}");
        assert!(answered.has(allow), "{answered:?}");
    }
    let packed = caller.with(&format!("{}content-encoding: gzip\r\n", caller.headers));
    assert_eq!(packed.post("/jobs", &json!({})).await.status, 415);
    // A slow body ends in time, and does not hold others up meanwhile.
    let mut slow = TcpStream::connect(caller.address).await.unwrap();
    let began = Instant::now();
    let head = caller.head("POST /jobs", 100);
    slow.write_all(format!("{head}{{").as_bytes())
        .await
        .unwrap();
    assert_eq!(caller.post("/jobs", &email_job("daily")).await.status, 202);
    assert!(began.elapsed() < Duration::from_secs(10));
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert_eq!(IntakeReply::parse(&answer).status, 408, "{answer}");
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(15)..Duration::from_secs(30)).contains(&took),
        "{took:?}"
    );
    daemon.stops(&config).await;
}

#[tokio::test]
async fn requests_above_the_rate_are_told_when_to_come_back() {
    let mut world = intake_world();
    world.config.intake.rate = "30/m".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answered = caller.state("daily").await;
        assert!(answered.status == 404 || answered.has("retry-after: "));
        statuses.push(answered.status);
    }
    assert_eq!(statuses[0], 404);
    assert!(statuses.contains(&429), "{statuses:?}");
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_locked_queue_is_answered_with_503_in_time_and_never_with_202() {
    let (world, config, daemon, caller) = served().await;
    assert_eq!(caller.post("/jobs", &email_job("first")).await.status, 202);
    caller.until_state("first", "done").await;
    let lock = rusqlite::Connection::open(world.config.database_file()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let late = caller.post("/jobs", &email_job("second")).await;
    assert_eq!(late.status, 503, "{late:?}");
    assert!(late.has("retry-after: "), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{late:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    // As a caller does.
    let again = until("the queue", async || {
        let again = caller.post("/jobs", &email_job("second")).await;
        (again.status == 202).then_some(again)
    })
    .await;
    assert_eq!(again.body["job"], "second");
    caller.until_state("second", "done").await;
    assert_eq!(world.mails().len(), 2);
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_queue_of_sqs_takes_jobs_and_while_it_is_gone_they_are_answered_with_503() {
    let Some(parts) = Parts::or_skip("a_queue_of_sqs_takes_jobs") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client_at(&moto.url());
    let url = make_queue(&client, "jobs").await;
    let mut world = intake_world();
    world.config.queue.kind = handout::config::QueueKind::Sqs;
    world.config.queue.url = Some(url.clone());
    world.config.queue.endpoint_url = Some(moto.url());
    world.config.queue.region = Some("eu-west-1".to_owned());
    let config = world.written();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let daemon = Daemon::start(&config, &keys).await;
    let caller = Caller::of(&world);
    for _ in 0..2 {
        assert_eq!(caller.post("/jobs", &email_job("daily")).await.status, 202);
    }
    caller.until_state("daily", "done").await;
    assert_eq!(world.mails().len(), 1);
    drop(moto);
    let began = Instant::now();
    let gone = caller.post("/jobs", &email_job("later")).await;
    assert_eq!(gone.status, 503, "{gone:?}");
    assert!(gone.has("retry-after: "), "{gone:?}");
    assert!(began.elapsed() < Duration::from_secs(15));
    until("the outage", async || {
        let gone = caller.post("/events", &notification("in/a.pdf", "2")).await;
        assert_eq!(gone.status, 503);
        gone.error()
            .contains("the queue does not answer since")
            .then_some(())
    })
    .await;
    drop(daemon);
}

#[tokio::test]
async fn a_daemon_that_is_killed_after_202_does_the_job_when_it_is_back() {
    let world = intake_world();
    let config = world.written();
    for number in 0..3 {
        let id = format!("job-{number}");
        let daemon = Daemon::start(&config, &[]).await;
        let caller = Caller::of(&world);
        let accepted = caller.post("/jobs", &email_job(&id)).await;
        daemon.signal("KILL");
        assert_eq!(accepted.status, 202);
        drop(daemon);
        let daemon = Daemon::start(&config, &[]).await;
        caller.until_state(&id, "done").await;
        daemon.stops(&config).await;
        assert_eq!(world.mails().len(), number + 1);
    }
}

#[tokio::test]
async fn a_stop_lets_an_answer_end_and_tells_others_to_come_back() {
    let mut world = intake_world();
    world.config.queue.grace_period = "20s".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    assert_eq!(caller.post("/jobs", &email_job("first")).await.status, 202);
    caller.until_state("first", "done").await;
    // The answer waits for the database, and so does the worker.
    let lock = rusqlite::Connection::open(world.config.database_file()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let slow = caller.clone();
    let mut answering = JoinSet::new();
    answering.spawn(async move { slow.post("/jobs", &email_job("second")).await });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    daemon.signal("TERM");
    let refused = until("the refusal", async || {
        let request = caller.head("POST /jobs", 2) + "{}";
        let answered = caller.try_raw(&request).await?;
        (answered.status == 503).then_some(answered)
    })
    .await;
    assert!(refused.has("retry-after: "), "{refused:?}");
    assert!(refused.error().contains("is stopping"), "{refused:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    let answered = answering.join_next().await.unwrap().unwrap();
    assert_eq!(answered.status, 202);
    let (code, took) = daemon.end().await;
    assert_eq!(code, Some(0), "{}", daemon_log(&config));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let daemon = Daemon::start(&config, &[]).await;
    caller.until_state("second", "done").await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_job_that_is_parked_says_why_also_after_a_restart() {
    let world = intake_world();
    let rule = world.dir.path().join("on-event.json");
    let mut job: Value = serde_json::from_str(&fs::read_to_string(&rule).unwrap()).unwrap();
    job["from"]["when_empty"] = json!("refuse");
    fs::write(&rule, job.to_string()).unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    let event = notification("in/gone.pdf", "1");
    let taken = caller.post("/events", &event).await;
    assert_eq!(taken.status, 202, "{taken:?}");
    let id = taken.body["jobs"][0].as_str().unwrap();
    let parked = caller.until_state(id, "parked").await;
    let reason = parked["reason"].as_str().unwrap();
    assert_eq!(world.parked().await, [reason]);
    daemon.stops(&config).await;
    let daemon = Daemon::start(&config, &[]).await;
    assert_eq!(caller.state(id).await.body, parked);
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_job_that_no_worker_has_begun_is_queued() {
    let mut world = intake_world();
    // No message is received with so little room for the log.
    world.config.audit.min_free = "8000000GB".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    assert_eq!(caller.post("/jobs", &email_job("daily")).await.status, 202);
    let told = caller.state("daily").await;
    assert_eq!(
        (told.status, told.body),
        (200, json!({ "job": "daily", "state": "queued" }))
    );
    assert_eq!(world.waiting().await, 1);
    daemon.stops(&config).await;
}

/// A job of an id that another job has is answered at once, and not parked after a 202.
#[tokio::test]
async fn a_job_under_the_id_of_another_job_is_refused_and_a_done_one_is_said_to_be_done() {
    let (world, config, daemon, caller) = served().await;
    let first = caller.post("/jobs", &email_job("daily")).await;
    assert_eq!(
        (first.status, &first.body["done_before"]),
        (202, &json!(false)),
        "{first:?}"
    );
    caller.until_state("daily", "done").await;
    let mut other = email_job("daily");
    other["email"]["subject"] = json!("Another");
    let refused = caller.post("/jobs", &other).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        refused
            .error()
            .contains("the job id daily was used before for another job"),
        "{refused:?}"
    );
    assert!(refused.has("location: /jobs/daily"), "{refused:?}");
    // What the job handed out may be gone when its caller sends it again.
    fs::remove_file(world.bucket("reports").join("in/a.pdf")).unwrap();
    let again = caller.post("/jobs", &email_job("daily")).await;
    assert_eq!(
        (again.status, &again.body["done_before"]),
        (202, &json!(true)),
        "{again:?}"
    );
    until("the second message", async || {
        let done = "handout_jobs_total{result=\"done\"} 2";
        metrics(&daemon).await.contains(done).then_some(())
    })
    .await;
    assert_eq!(world.mails().len(), 1);
    assert!(world.parked().await.is_empty());
    let text = metrics(&daemon).await;
    let line = "handout_intake_requests_total{result=\"refused\"} 1";
    assert!(text.contains(line), "{text}");
    daemon.stops(&config).await;
}

/// What mail systems reported after the end of a job is in its state, as `handout ledger show` has it.
#[tokio::test]
async fn the_state_of_a_job_counts_bounces_and_suppressed_recipients() {
    let world = intake_world().configured(|config| {
        config.mail.bounce_address = Some("bounces@sender.example".to_owned());
    });
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    let command = |words: &[&str], stdin: &[u8]| {
        let output = crate::feedback::handout(&world, words, stdin);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    };
    let add = ["suppression", "add", "bo@acme.example", "--reason", "asked"];
    command(&add, b"");
    let mut job = email_job("first");
    job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
    assert_eq!(caller.post("/jobs", &job).await.status, 202);
    let done = caller.until_state("first", "done").await;
    let mails = json!({
        "accepted": 1, "delivered": 0, "bounced": 0, "rejected": 0, "unknown": 0, "suppressed": 1,
    });
    assert_eq!(done["mails"], mails, "{done}");
    let sender = crate::feedback::envelope_sender(&world, "first");
    command(&["feedback", "-"], &crate::feedback::dsn(&world, &sender));
    let told = caller.state("first").await.body;
    assert_eq!(told["mails"]["bounced"], 1, "{told}");
    assert_eq!(told["mails"]["accepted"], 1, "{told}");
    assert_eq!(told["recipients"], Value::Null, "{told}");
    daemon.stops(&config).await;
}

/// The state of a job in parts has the numbers of its recipients.
#[tokio::test]
async fn the_state_of_a_job_in_parts_counts_its_recipients() {
    let world = intake_world().configured(|config| {
        config.mail.bounce_address = Some("bounces@sender.example".to_owned());
    });
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    let mut job = email_job("parts");
    job["from"]["prefix"] = json!("{{recipient.vars.place}}/");
    job["from"]["when_empty"] = json!("skip");
    let person = |name: &str, place: &str| json!({ "address": format!("{name}@acme.example"), "vars": { "place": place } });
    job["email"]["to"] = json!([person("ann", "in"), person("bo", "nothing")]);
    assert_eq!(caller.post("/jobs", &job).await.status, 202);
    let done = caller.until_state("parts", "done").await;
    assert_eq!(
        done["recipients"],
        json!({ "all": 2, "empty": 1, "refused": 0 }),
        "{done}"
    );
    let counts = |told: &Value| {
        let mails = &told["mails"];
        (
            mails["accepted"].clone(),
            mails["delivered"].clone(),
            mails["bounced"].clone(),
        )
    };
    assert_eq!(counts(&done), (json!(1), json!(0), json!(0)), "{done}");
    // What is reported of a part counts for the job.
    let rid = crate::feedback::rid(&world, "ann@acme.example");
    let sender = crate::feedback::envelope_sender(&world, &format!("parts.part.{rid}"));
    let bounce = crate::feedback::dsn(&world, &sender);
    let taken = crate::feedback::handout(&world, &["feedback", "-"], &bounce);
    assert!(taken.status.success());
    let told = caller.state("parts").await.body;
    assert_eq!(counts(&told), (json!(1), json!(0), json!(1)), "{told}");
    let show = ["ledger", "show", "parts"];
    let shown = crate::feedback::handout(&world, &show, b"");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(
            "1 accepted (of these, mail systems reported 0 as delivered and 1 as bounced)"
        ),
        "{shown}"
    );
    let json = crate::feedback::handout(&world, &[&show[..], &["--json"]].concat(), b"");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let parts = &json["parts"];
    assert_eq!(
        (&parts["accepted"], &parts["delivered"], &parts["bounced"]),
        (&json!(1), &json!(0), &json!(1)),
        "{json}"
    );
    daemon.stops(&config).await;
}

/// A notification of S3.
fn notification(key: &str, sequencer: &str) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
        "eventTime": "2026-11-23T06:00:00.000Z", "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": { "name": "reports" },
            "object": { "key": key.replace(' ', "+"), "size": 1, "eTag": "abc", "sequencer": sequencer },
        },
    }] })
}

#[tokio::test]
async fn events_of_each_kind_become_jobs_once_and_what_no_rule_wants_is_ignored() {
    let world = intake_world()
        .object("in/b.pdf", "x")
        .object("in/c.pdf", "x")
        .object("in/d.pdf", "x")
        .object("in/e.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    let s3 = notification("in/a.pdf", "0055AED6DCD90281E5");
    let mut minio = notification("in/b.pdf", "17A5E7A8");
    minio["EventName"] = json!("s3:ObjectCreated:Put");
    minio["Key"] = json!("reports/in/b.pdf");
    minio["Records"][0]["eventName"] = json!("s3:ObjectCreated:Put");
    minio["Records"][0]["s3"]["object"]["key"] = json!("in%2Fb.pdf");
    let bridge = json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Object Created",
        "source": "aws.s3", "time": "2026-11-23T06:00:00Z", "region": "eu-west-1",
        "detail": {
            "version": "0", "bucket": { "name": "reports" },
            "object": { "key": "in/c.pdf", "size": 1, "etag": "abc", "sequencer": "0055AED6DCD90281E6" },
            "reason": "PutObject",
        },
    });
    let cloud = json!({
        "specversion": "1.0", "type": "com.acme.object.created", "source": "//acme", "id": "1",
        "time": "2026-11-23T06:00:00Z", "data": { "bucket": "reports", "name": "in/d.pdf" },
    });
    let mut ids = Vec::new();
    for event in [&s3, &minio, &bridge, &cloud] {
        let taken = caller.post("/events", event).await;
        assert_eq!(taken.status, 202, "{taken:?}");
        let again = caller.post("/events", event).await;
        assert_eq!(again.body["jobs"], taken.body["jobs"]);
        ids.push(taken.body["jobs"][0].as_str().unwrap().to_owned());
    }
    // A CloudEvent whose attributes are headers.
    let binary = caller.with(&format!(
        "{}ce-specversion: 1.0\r\nce-type: com.acme.object.created\r\nce-source: //acme\r\nce-id: 2\r\nce-time: 2026-11-23T06:00:00Z\r\ncontent-type: application/json\r\n",
        caller.headers
    ));
    let data = json!({ "bucket": "reports", "name": "in/e.pdf" });
    let taken = binary.post("/events", &data).await;
    assert_eq!(taken.status, 202, "{taken:?}");
    ids.push(taken.body["jobs"][0].as_str().unwrap().to_owned());
    for id in &ids {
        caller.until_state(id, "done").await;
    }
    let mut subjects: Vec<String> = world.mails().into_iter().map(|mail| mail.subject).collect();
    subjects.sort();
    let expected = ["a", "b", "c", "d", "e"].map(|name| format!("in/{name}.pdf has arrived"));
    assert_eq!(subjects, expected);

    let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "reports" });
    let mut marker = notification("in/", "1");
    marker["Records"][0]["s3"]["object"]["size"] = json!(0);
    for event in [&notification("elsewhere.pdf", "1"), &marker, &test] {
        let ignored = caller.post("/events", event).await;
        assert_eq!(ignored.status, 200, "{ignored:?}");
        assert!(ignored.body["ignored"].is_string(), "{ignored:?}");
    }
    let text = metrics(&daemon).await;
    for line in [
        "handout_intake_ignored_events_total{reason=\"no_rule\"} 1",
        "handout_intake_ignored_events_total{reason=\"folder_marker\"} 1",
        "handout_intake_ignored_events_total{reason=\"test\"} 1",
        "handout_intake_requests_total{result=\"ignored\"} 3",
        "handout_jobs_total{result=\"parked\"} 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // What cannot be read, and what is at the wrong path.
    let broken = json!({ "Records": [{ "eventName": "ObjectCreated:Put" }] });
    assert_eq!(caller.post("/events", &broken).await.status, 400);
    let job = caller.post("/events", &email_job("x")).await;
    assert!(job.error().contains("post it to /jobs"), "{job:?}");
    let event = caller.post("/jobs", &s3).await;
    assert!(event.error().contains("post it to /events"), "{event:?}");
    // The second message of an event ends as soon as the first is done.
    until("an empty queue", async || {
        (world.waiting().await == 0).then_some(())
    })
    .await;
    assert_eq!(world.mails().len(), 5);
    daemon.stops(&config).await;
}

#[tokio::test]
async fn the_intake_ends_tls_with_its_own_certificate() {
    let Some(parts) = Parts::or_skip("the_intake_ends_tls") else {
        return;
    };
    let mut world = intake_world();
    let dir = world.dir.path().to_owned();
    parts.make_ca(&dir);
    world.config.intake.tls_cert_file = Some(dir.join("server.pem"));
    world.config.intake.tls_key_file = Some(dir.join("server.key"));
    let config = world.written();
    let checked = std::process::Command::new(crate::support::program())
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("intake.token_file"), "{checked}");
    // It ends in a week.
    assert!(
        checked.contains("warn  intake.tls_cert_file              ends at"),
        "{checked}"
    );
    let daemon = Daemon::start(&config, &[]).await;
    let job = dir.join("job.json");
    fs::write(&job, email_job("daily").to_string()).unwrap();
    let port = world.config.intake.listen.unwrap().port();
    let answered = tokio::process::Command::new("curl")
        .args(["-si", "--cacert"])
        .arg(dir.join("ca.pem"))
        .args(["-H", &format!("Authorization: Bearer {TOKEN}")])
        .arg("--data-binary")
        .arg(format!("@{}", job.display()))
        .arg(format!("https://localhost:{port}/jobs"))
        .output()
        .await
        .unwrap();
    let answered = String::from_utf8_lossy(&answered.stdout).into_owned();
    assert!(answered.starts_with("HTTP/1.1 202"), "{answered}");
    until("the mail", async || world.mails().pop()).await;
    daemon.stops(&config).await;
}

/// The commands of the guide, in a shell, with the address of this test.
#[tokio::test]
async fn the_guide_s_commands_post_a_job_and_ask_for_its_state() {
    let world = intake_world();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let guide = page("docs/jobs/intake.md").text;
    let address = world.config.intake.listen.unwrap();
    let dir: PathBuf = world.dir.path().join("guide");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("intake-token"), format!("{TOKEN}\n")).unwrap();
    fs::write(
        dir.join("job.json"),
        email_job("acme-daily-2026-11-23").to_string(),
    )
    .unwrap();
    let scripts: Vec<&str> = guide
        .split("\n```sh\n")
        .skip(1)
        .filter_map(|block| block.split("\n```").next())
        .filter(|block| block.contains("curl "))
        .collect();
    assert!(scripts.len() >= 2, "{scripts:?}");
    let run = async |script: &str| {
        let script = script.replace("http://127.0.0.1:9490", &format!("http://{address}"));
        let output = tokio::process::Command::new("sh")
            .args(["-ec", &script])
            .current_dir(&dir)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let posted = run(scripts[0]).await;
    let accepted: Value = serde_json::from_str(posted.trim()).unwrap();
    assert_eq!(accepted["job"], "acme-daily-2026-11-23", "{posted}");
    let done = until("the end", async || {
        let told = run(scripts[1]).await;
        told.contains("\"done\"").then_some(told)
    })
    .await;
    assert!(done.contains("\"accepted\":1"), "{done}");
    daemon.stops(&config).await;
}

/// A store that accepts requests and answers none takes the turns of its own jobs alone.
#[tokio::test]
async fn jobs_of_one_store_are_accepted_while_another_is_silent() {
    let mut world = intake_world();
    let silent = Line::silent().await;
    add_connection(&mut world, "far", &silent.url(), "id", "secret");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let caller = Caller::of(&world);
    let mut far = JoinSet::new();
    for number in 0..8 {
        let caller = caller.clone();
        far.spawn(async move {
            let job = far_job(&format!("far-{number}"));
            caller.post("/jobs", &job).await
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let near = caller.post("/jobs", &email_job("near")).await;
    assert_eq!(near.status, 202, "{near:?}");
    let mut answers = Vec::new();
    while let Some(answer) = far.try_join_next() {
        answers.push(answer.unwrap());
    }
    assert!(
        answers.len() < 8,
        "those that wait for the store came first"
    );
    answers.extend(far.join_all().await);
    for answer in answers {
        // The queue has them; their check could not be made.
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    daemon.stops(&config).await;
}
