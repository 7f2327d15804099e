//! The worker and its queue: order within a group, what it tells those who wait for a job.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handout::assemble::Opened;
use handout::config::{AllowConfig, ConnectionConfig, OnEventConfig};
use handout::keyring::sha256_hex;
use handout::queue::memory::MemoryQueue;
use handout::queue::{ErrorKind, Message, Parked, Queue, QueueError, Receipt};
use handout::results::Results;
use handout::traceparent::TraceParent;
use serde_json::{Value, json};

use crate::support::program;
use crate::support::world::{World, email_job, free_address, run_until_settled};

/// A world with a connection whose server does not answer, so that its jobs wait.
fn with_a_dead_connection() -> World {
    World::new().object("a.pdf", "x").configured(|config| {
        let secret = config.state_dir.with_file_name("s3-secret");
        std::fs::write(&secret, "secret").unwrap();
        let dead = ConnectionConfig {
            endpoint_url: Some(format!("http://{}", free_address())),
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key_file: Some(secret),
            ..ConnectionConfig::default()
        };
        config.connections.insert("dead".to_owned(), dead);
        let rule = AllowConfig {
            connection: "dead".to_owned(),
            ..config.allow[0].clone()
        };
        config.allow.push(rule);
    })
}

/// What was opened, with a queue in memory that has groups.
async fn with_groups(world: &World) -> (Opened, Arc<MemoryQueue>) {
    let mut opened = world.open().await;
    let queue = Arc::new(MemoryQueue::default());
    opened.queue = Arc::clone(&queue) as Arc<dyn Queue>;
    (opened, queue)
}

fn job(id: &str) -> String {
    email_job(id).to_string()
}

/// The jobs whose mails were accepted, in their order.
fn served(world: &World) -> Vec<String> {
    let outcomes = world.audit_of("outcome").into_iter();
    outcomes
        .map(|line| line["job"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_messages_of_a_group_are_worked_in_their_order() {
    let world = World::new().object("a.pdf", "x");
    let (opened, queue) = with_groups(&world).await;
    for number in 0..6 {
        queue
            .submit_to_group(&job(&format!("in-order-{number}")), Some("a"))
            .unwrap();
    }
    run_until_settled(&opened, 6).await;
    opened.close().await;
    let expected: Vec<String> = (0..6).map(|number| format!("in-order-{number}")).collect();
    assert_eq!(served(&world), expected);
    assert_eq!(queue.deleted().len(), 6);
}

#[tokio::test]
async fn behind_a_message_that_stays_its_group_waits_and_others_do_not() {
    let world = with_a_dead_connection();
    let (opened, queue) = with_groups(&world).await;
    let mut dead = email_job("dead");
    dead["from"]["connection"] = json!("dead");
    queue.submit_to_group(&dead.to_string(), Some("a")).unwrap();
    queue.submit_to_group(&job("behind"), Some("a")).unwrap();
    queue.submit_to_group(&job("beside"), Some("b")).unwrap();
    queue.submit_to_group(&job("alone"), None).unwrap();
    run_until_settled(&opened, 3).await;
    opened.close().await;
    let mut served = served(&world);
    served.sort();
    assert_eq!(served, ["alone", "beside"]);
    assert_eq!(queue.waiting().await.unwrap(), 2, "nothing was lost");
    // The worker that ended shows what waited for an edge to others.
    let next = queue.receive(10, Duration::ZERO, Duration::ZERO).await;
    let bodies: Vec<String> = next.unwrap().into_iter().map(|next| next.body).collect();
    assert!(
        bodies.is_empty() || bodies == [dead.to_string(), job("behind")],
        "what was given back comes after what it waits for: {bodies:?}"
    );
}

/// The lines that were written about jobs' ends, without what differs from run to run.
fn told(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.dir.path().join("results.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|mut line: Value| {
            for field in ["at", "expires_at"] {
                if let Some(instant) = line[field].as_str() {
                    let _: jiff::Timestamp = instant.parse().unwrap();
                    line[field] = json!("…");
                }
            }
            line
        })
        .collect()
}

fn telling(world: World) -> World {
    let file = world.dir.path().join("results.jsonl");
    world.configured(|config| config.results.file = Some(file))
}

#[tokio::test]
async fn whoever_waits_is_told_of_each_end_and_again_when_the_message_comes_again() {
    let mut job = email_job("told");
    job["manifest"] =
        json!({ "format": "csv", "publish": { "bucket": "published", "prefix": "m/" } });
    let mut refused = email_job("refused");
    refused["from"]["bucket"] = json!("elsewhere");
    let mut world = telling(World::new().object("a.pdf", "x"))
        .job(&job)
        .job(&refused)
        .message("not a job");
    world.run().await;
    let mut first = told(&world);
    first.sort_by_key(|line| line["message"].to_string());
    let list = first[0]["manifests"][0].as_str().unwrap().to_owned();
    let (_, key) = list.split_once("s3://published/").unwrap();
    assert!(world.bucket("published").join(key).exists(), "{list}");
    first[0]["manifests"] = json!(["…"]);
    insta::assert_snapshot!(
        first.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"),
        @r#"
    {"accepted":1,"at":"…","done_before":false,"expires_at":"…","galleries":[],"job":"told","links":1,"manifests":["…"],"message":"1","outcome":"done","rejected":0,"superseded":false,"unavailable":0,"unknown":0,"v":1,"without_mail":[]}
    {"at":"…","job":"refused","message":"2","outcome":"parked","reason":"no [[allow]] rule of the configuration lets connection local hand out s3://elsewhere/; add one if this is wanted","v":1}
    {"at":"…","job":null,"message":"3","outcome":"parked","reason":"the message is not JSON: expected ident at line 1 column 2","v":1}
    "#
    );

    let mut world = world.job(&job);
    world.run().await;
    let mut again = told(&world).pop().unwrap();
    assert_eq!(again["done_before"], true);
    for field in ["done_before", "message", "manifests"] {
        again[field] = first[0][field].clone();
    }
    assert_eq!(again, first[0], "it is told what was done then");
    assert_eq!(world.mails().len(), 1);
}

#[tokio::test]
async fn a_message_stays_until_its_result_was_told() {
    let world = telling(World::new().object("a.pdf", "x"));
    let place = world.dir.path().join("results.jsonl");
    std::fs::create_dir(&place).unwrap();
    let mut world = world.job(&email_job("untold"));
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    assert_eq!(world.waiting().await, 1, "the message is still there");
    std::fs::remove_dir(&place).unwrap();
    // It comes again by itself after a while; here, somebody submits it again.
    let mut world = world.job(&email_job("untold"));
    world.run().await;
    // On a busy machine the first message has come again, too, and tells its end.
    assert!((1..=2).contains(&told(&world).len()));
    assert_eq!(world.mails().len(), 1);
}

/// A world in which an upload to `reports/incoming/` is mailed to Ann.
fn on_upload(change: impl FnOnce(&mut Value)) -> World {
    let mut job = email_job("upload");
    job["from"] =
        json!({ "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] });
    change(&mut job);
    let world = World::new().object("incoming/new file.pdf", "x");
    let file = world.dir.path().join("on-upload.json");
    std::fs::write(&file, job.to_string()).unwrap();
    world.configured(|config| {
        config.on_event = vec![OnEventConfig {
            bucket: "reports".to_owned(),
            key: "incoming/**".to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: file,
        }];
    })
}

fn upload(sequencer: &str) -> String {
    upload_at("2026-11-23T18:40:00Z", sequencer)
}

fn upload_at(time: &str, sequencer: &str) -> String {
    json!({ "Records": [{
        "eventVersion": "2.3", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": time,
        "s3": { "bucket": { "name": "reports" }, "object": { "key": "incoming/new+file.pdf", "sequencer": sequencer } },
    }] })
    .to_string()
}

#[tokio::test]
async fn an_event_that_makes_no_job_keeps_no_other_of_its_message_from_being_served() {
    let mut message: Value = serde_json::from_str(&upload("0055AED6DCD90281E6")).unwrap();
    let records = message["Records"].as_array_mut().unwrap();
    let mut odd = records[0].clone();
    odd["s3"]["object"]["key"] = json!("incoming/%07.pdf");
    records.insert(0, odd);
    let mut world = telling(on_upload(|_| {})).message(&message.to_string());
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    let parked = world.parked().await;
    assert_eq!(parked.len(), 1);
    assert!(parked[0].contains("control character"), "{parked:?}");
    let told = told(&world);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        (&told[0]["outcome"], &told[1]["outcome"]),
        (&json!("done"), &json!("parked"))
    );
    assert_eq!(told[1]["job"], Value::Null);
}

#[tokio::test]
async fn an_event_older_than_one_that_was_served_is_ignored() {
    let mut world = telling(on_upload(|_| {})).message(&upload("0055AED6DCD90281E6"));
    world.run().await;
    for (sequencer, mails, superseded) in [
        ("0055AED6DCD90281E5", 1, true),
        ("0055AED6DCD90281E6", 1, false),
        ("0055AED6DCD90281E7", 2, false),
        ("0055AED6DCD90281E5", 2, true),
    ] {
        world = world.message(&upload(sequencer));
        world.run().await;
        assert_eq!(world.mails().len(), mails, "after {sequencer}");
        assert_eq!(told(&world).pop().unwrap()["superseded"], superseded);
        assert_eq!(world.waiting().await, 0);
    }
}

#[tokio::test]
async fn a_job_that_takes_the_name_of_a_series_of_events_keeps_none_of_them_back() {
    let of = sha256_hex(b"upload\nObjectCreated\nreports\nincoming/new file.pdf");
    let mut world = telling(on_upload(|_| {})).job(&email_job(&format!("served-{}", &of[..32])));
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    world = world.message(&upload("0000"));
    world.run().await;
    assert_eq!(told(&world).pop().unwrap()["superseded"], false);
    assert_eq!(world.mails().len(), 2);
}

#[tokio::test]
async fn a_forged_event_keeps_back_nothing_that_happens_after_it() {
    let greatest = "F".repeat(64);
    // It says that it happened in the future, which is not believed either.
    let mut world =
        telling(on_upload(|_| {})).message(&upload_at("2999-01-01T00:00:00Z", &greatest));
    world.run().await;
    let soon = handout::clock::system() + jiff::SignedDuration::from_secs(60);
    world = world.message(&upload_at(&soon.to_string(), "0055AED6DCD90281E6"));
    world.run().await;
    assert_eq!(told(&world).pop().unwrap()["superseded"], false);
    assert_eq!(world.mails().len(), 2);
}

#[test]
fn a_rule_whose_job_cannot_be_done_or_starts_itself_is_refused_at_the_start() {
    let refusal = |change: fn(&mut Value)| {
        let world = on_upload(change);
        let output = std::process::Command::new(program())
            .args(["run", "--config"])
            .arg(world.written())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        let words = String::from_utf8(output.stderr).unwrap();
        words.replace(&world.dir.path().display().to_string(), "…")
    };
    insta::assert_snapshot!(refusal(|job| {
        job["gallery"] = json!({ "publish": { "bucket": "reports", "prefix": "incoming/pages/" } });
    }), @"handout: the configuration's on_event[0].job_file names …/on-upload.json: what it publishes to s3://reports/incoming/pages/ would trigger the rule again; publish elsewhere, or exclude it in `key`");
    insta::assert_snapshot!(refusal(|job| {
        job["manifest"] = json!({ "format": "csv", "publish": { "bucket": "{{event.bucket}}", "prefix": "incoming/{{event.key}}/" } });
    }), @"handout: the configuration's on_event[0].job_file names …/on-upload.json: what it publishes to s3://reports/incoming/incoming/example/ would trigger the rule again; publish elsewhere, or exclude it in `key`");
    insta::assert_snapshot!(refusal(|job| job["emial"] = json!({})), @"handout: the configuration's on_event[0].job_file names …/on-upload.json: the job cannot be read: unknown field, expected one of `v`, `id`, `scheduled_at`, `time_zone`, `from`, `links`, `email`, `gallery`, `manifest`, `zip`, `on_doubt`, `vars`, `rehearsal`; did you mean email?");
}

#[tokio::test]
async fn a_result_that_its_queue_refuses_keeps_no_job_from_ending_and_none_from_being_parked() {
    let world = World::new().object("a.pdf", "x");
    let mut opened = world.open().await;
    let results = Arc::new(MemoryQueue::default());
    opened.services.results = Results::queue(Arc::clone(&results) as Arc<dyn Queue>, "memory");
    results.fail_next(ErrorKind::Rejected);
    results.fail_next(ErrorKind::Rejected);
    opened.queue.submit(&job("done")).await.unwrap();
    opened
        .queue
        .submit("no job, \u{FFFF} and \u{1b}[2J")
        .await
        .unwrap();
    run_until_settled(&opened, 2).await;
    assert_eq!(
        opened.queue.waiting().await.unwrap(),
        0,
        "neither comes again"
    );
    opened.close().await;
    assert_eq!(world.mails().len(), 1);
    assert_eq!(world.parked().await.len(), 1);
}

#[tokio::test]
async fn what_is_told_has_only_characters_that_a_queue_takes() {
    let world = World::new().object("a.pdf", "x");
    let mut opened = world.open().await;
    let results = Arc::new(MemoryQueue::default());
    opened.services.results = Results::queue(Arc::clone(&results) as Arc<dyn Queue>, "memory");
    let mut hostile = email_job("hostile");
    hostile["from"]["prefix"] = json!("\u{FFFF}\u{FFFE}\u{2028}/");
    opened.queue.submit(&hostile.to_string()).await.unwrap();
    run_until_settled(&opened, 1).await;
    opened.close().await;
    let told = results
        .receive(1, Duration::from_secs(60), Duration::ZERO)
        .await
        .unwrap()
        .remove(0);
    assert!(
        told.body.chars().all(handout::text::is_printable),
        "{:?}",
        told.body
    );
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(
        (told["job"].as_str(), told["outcome"].as_str()),
        (Some("hostile"), Some("parked"))
    );
}

/// A queue that polls well, and never answers a deletion.
#[derive(Debug, Default)]
struct SilentToDeletions(MemoryQueue);

#[async_trait]
impl Queue for SilentToDeletions {
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        self.0.receive(max, visibility, wait).await
    }

    async fn delete(&self, _: &Receipt) -> Result<(), QueueError> {
        std::future::pending().await
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError> {
        self.0.extend(receipt, visibility).await
    }

    async fn park(&self, message: &Message, reason: &str) -> Result<Parked, QueueError> {
        self.0.park(message, reason).await
    }

    async fn submit_traced(
        &self,
        body: &str,
        trace: Option<TraceParent>,
    ) -> Result<String, QueueError> {
        self.0.submit_traced(body, trace).await
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        self.0.waiting().await
    }
}

#[tokio::test]
async fn messages_whose_deletion_hangs_keep_no_slot_from_others() {
    let world = World::new().object("a.pdf", "x");
    let mut opened = world.open().await;
    let queue = Arc::new(SilentToDeletions::default());
    opened.queue = Arc::clone(&queue) as Arc<dyn Queue>;
    for number in 0..24 {
        queue.submit(&job(&format!("job-{number}"))).await.unwrap();
    }
    run_until_settled(&opened, 24).await;
    assert_eq!(served(&world).len(), 24);
    opened.close().await;
}
