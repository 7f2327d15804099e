//! The trace that a message names: in log lines and in results.

use std::path::Path;

use aws_sdk_sqs::types::MessageAttributeValue;
use handout::config::{OnEventConfig, QueueKind};
use serde_json::{Value, json};

use crate::conformance::{make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log};
use crate::support::servers::{Parts, Server};
use crate::support::until;
use crate::support::world::{World, email_job};

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
