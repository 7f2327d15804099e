//! The trace that a message names: in log lines and in results.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use aws_sdk_sqs::types::MessageAttributeValue;
use handout::config::{OnEventConfig, QueueKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::conformance::{make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log};
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job, free_address};
use crate::support::{program, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const KEYS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_REGION", "eu-west-1"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// A world whose jobs come from a queue of moto, and whose results are lines of a file.
async fn world_at(server: &Server) -> (World, String) {
    let url = make_queue(&sqs_client(server), "jobs").await;
    let mut world = World::new().object("2026/a.pdf", "x");
    world.config.queue.kind = QueueKind::Sqs;
    world.config.queue.url = Some(url.clone());
    world.config.queue.parked_url = Some(make_queue(&sqs_client(server), "parked").await);
    world.config.results.file = Some(world.dir.path().join("results.jsonl"));
    (world, url)
}

async fn send(server: &Server, url: &str, body: &str, traceparent: Option<&str>) {
    let client = sqs_client(server);
    let mut sending = client.send_message().queue_url(url).message_body(body);
    if let Some(value) = traceparent {
        let attribute = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(value);
        sending = sending.message_attributes("traceparent", attribute.build().unwrap());
    }
    sending.send().await.unwrap();
}

/// The result of a job, once it is told.
async fn result_of(world: &World, is_it: impl Fn(&Value) -> bool) -> Value {
    let file = world.dir.path().join("results.jsonl");
    let told = || std::fs::read_to_string(&file).unwrap_or_default();
    let log = || daemon_log(&world.dir.path().join("config.toml"));
    let waited = tokio::time::timeout(
        std::time::Duration::from_secs(20),
        until("a result", async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let mut results = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            results.find(&is_it)
        }),
    );
    waited
        .await
        .unwrap_or_else(|_| panic!("{}\n{}", told(), log()))
}

/// The lines of a daemon's log.
fn lines(config: &Path) -> Vec<Value> {
    let text = daemon_log(config);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn line_of<'a>(lines: &'a [Value], job: &str, message: &str) -> &'a Value {
    let found = lines
        .iter()
        .find(|line| line["job.id"] == job && line["message"] == message);
    found.unwrap_or_else(|| panic!("{message} of {job}: {lines:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_message_is_in_the_lines_and_the_result_of_its_job() {
    let Some(parts) = Parts::or_skip("the_trace_of_a_message") else {
        return;
    };
    let server = parts.start("moto.py", &[]);
    let (mut world, url) = world_at(&server).await;
    let template = world.dir.path().join("event-job.json");
    std::fs::write(
        &template,
        json!({ "v": 1, "id": "of-event", "from": { "connection": "local", "bucket": "reports", "keys": ["{{event.key}}"] },
            "email": { "to": ["ann@acme.example"] } })
        .to_string(),
    )
    .unwrap();
    world.config.on_event = vec![OnEventConfig {
        bucket: "reports".to_owned(),
        key: "2026/*.pdf".to_owned(),
        events: vec!["ObjectCreated:*".to_owned()],
        job_file: template,
    }];
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let job = |id: &str| email_job(id).to_string();
    send(&server, &url, &job("traced"), Some(TRACEPARENT)).await;
    send(&server, &url, &job("untraced"), None).await;
    send(&server, &url, &job("wrong"), Some("00-zz-yy-01")).await;
    send(&server, &url, "no job", Some(OTHER)).await;
    // SNS wraps an event, and writes the attributes of its publisher into the body.
    let event = json!({ "Records": [{ "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-11-01T08:00:00.000Z",
        "eventName": "ObjectCreated:Put", "s3": { "bucket": { "name": "reports" },
            "object": { "key": "2026/a.pdf", "size": 1, "sequencer": "0055AED6DCD90281E5" } } }] });
    let wrapped = json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:uploads", "Message": event.to_string(),
        "MessageAttributes": { "traceparent": { "Type": "String", "Value": TRACEPARENT } } });
    send(&server, &url, &wrapped.to_string(), None).await;

    let traced = result_of(&world, |result| result["job"] == "traced").await;
    assert_eq!(traced["traceparent"], TRACEPARENT);
    for id in ["untraced", "wrong"] {
        let result = result_of(&world, |result| result["job"] == id).await;
        assert_eq!(result.get("traceparent"), None, "{result}");
    }
    let parked = result_of(&world, |result| result["outcome"] == "parked").await;
    assert_eq!(parked["traceparent"], OTHER);
    let is_of_event = |result: &Value| {
        result["job"]
            .as_str()
            .is_some_and(|id| id.starts_with("of-event-"))
    };
    let of_event = result_of(&world, is_of_event).await;
    assert_eq!(of_event["traceparent"], TRACEPARENT);
    daemon.stops(&config).await;

    let lines = lines(&config);
    let done = line_of(&lines, "traced", "handed out");
    assert_eq!(done["trace_id"], TRACE);
    assert!(done["message.id"].is_string(), "{done}");
    for id in ["untraced", "wrong"] {
        let done = line_of(&lines, id, "handed out");
        assert_eq!(done.get("trace_id"), None, "{done}");
        assert!(done["message.id"].is_string(), "{done}");
    }
    let done = line_of(&lines, of_event["job"].as_str().unwrap(), "handed out");
    assert_eq!(done["trace_id"], TRACE);
    let parked = lines.iter().find(|line| line["level"] == "ERROR").unwrap();
    assert_eq!(parked["trace_id"], &OTHER[3..35], "{parked}");
}

const CURRENT: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// Posts a body to an intake, with headers that each have their line end; the status.
async fn posted(world: &World, path: &str, headers: &str, body: &Value) -> String {
    let address = world.config.intake.listen.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\nauthorization: Bearer {TOKEN}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

const TOKEN: &str = "correct-horse-battery-staple-0123456789";

/// Submits a job by the command, with options and variables.
fn submitted(config: &Path, id: &str, options: &[&str], variable: &str) -> Output {
    let file = config.with_file_name("submitted.json");
    std::fs::write(&file, email_job(id).to_string()).unwrap();
    let mut handout = Command::new(program());
    handout.args(["job", "submit", "--no-check"]).arg(&file);
    handout.arg("--config").arg(config).args(options);
    handout.env("TRACEPARENT", variable).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_and_of_a_command_goes_with_its_message() {
    let mut world = World::new().object("2026/a.pdf", "x");
    let token = world.dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let template = world.dir.path().join("event-job.json");
    let of_event = json!({ "v": 1, "id": "of-event", "from": { "connection": "local", "bucket": "reports", "keys": ["{{event.key}}"] },
        "email": { "to": ["ann@acme.example"] } });
    std::fs::write(&template, of_event.to_string()).unwrap();
    world.config.intake.listen = Some(free_address());
    world.config.intake.token_file = Some(token);
    world.config.results.file = Some(world.dir.path().join("results.jsonl"));
    world.config.on_event = vec![OnEventConfig {
        bucket: "reports".to_owned(),
        key: "2026/*.pdf".to_owned(),
        events: vec!["ObjectCreated:*".to_owned()],
        job_file: template,
    }];
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let header = format!("traceparent: {TRACEPARENT}\r\n");
    let twice = format!("{header}traceparent: {OTHER}\r\n");
    for (id, headers) in [
        ("posted", &*header),
        ("posted-without", ""),
        ("posted-wrong", "traceparent: 00-zz-yy-01\r\n"),
        ("posted-twice", &*twice),
    ] {
        let status = posted(&world, "/jobs", headers, &email_job(id)).await;
        assert_eq!(status, "202", "{id}");
    }
    // The header is the step that posted the event, and the event has the step that made it.
    let event = |key: &str| {
        json!({ "specversion": "1.0", "type": "com.acme.object.created", "source": "acme", "id": key, "time": "2026-11-01T08:00:00Z",
            "traceparent": OTHER, "data": { "bucket": "reports", "name": key } })
    };
    assert_eq!(
        posted(&world, "/events", "", &event("2026/a.pdf")).await,
        "202"
    );
    for (id, options, variable) in [
        ("option", &["--traceparent", CURRENT][..], OTHER),
        ("variable", &[], OTHER),
        ("variable-wrong", &[], "wrong"),
    ] {
        let output = submitted(&config, id, options, variable);
        assert!(output.status.success(), "{id}: {output:?}");
    }
    let wrong = submitted(&config, "refused", &["--traceparent", "00-zz-yy-01"], "");
    assert_eq!(wrong.status.code(), Some(64), "{wrong:?}");

    for (id, expected) in [
        ("posted", Some(TRACEPARENT)),
        ("posted-without", None),
        ("posted-wrong", None),
        ("posted-twice", None),
        ("option", Some(CURRENT)),
        ("variable", Some(OTHER)),
        ("variable-wrong", None),
    ] {
        let result = result_of(&world, |result| result["job"] == id).await;
        assert_eq!(result["traceparent"].as_str(), expected, "{id}");
    }
    let is_of_event = |result: &Value| {
        result["job"]
            .as_str()
            .is_some_and(|id| id.starts_with("of-event-"))
    };
    let of_event = result_of(&world, is_of_event).await;
    assert_eq!(of_event["traceparent"], OTHER);
    daemon.stops(&config).await;
    let lines = lines(&config);
    let taken = line_of(&lines, "posted", "the intake put a job on the queue");
    assert_eq!(taken["trace_id"], TRACE);
    let done = line_of(&lines, "posted", "handed out");
    assert_eq!(done["trace_id"], TRACE);
    let done = line_of(&lines, of_event["job"].as_str().unwrap(), "handed out");
    assert_eq!(done["trace_id"], &OTHER[3..35]);
}
