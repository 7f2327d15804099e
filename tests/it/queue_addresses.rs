//! Queues that are asked in the region and at the server that their URLs name.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use handout::config::QueueKind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::conformance::{make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log};
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job};
use crate::support::{program, until};

const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// A server that takes every message, and keeps the heads of what it was asked.
struct Recorder {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = vec![0; 16 << 10];
                let count = stream.read(&mut text).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&text[..count]).into_owned();
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(text);
                let body = "{\"MessageId\":\"m-1\"}";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Self {
            url,
            heads,
            _task: task,
        }
    }

    /// The region for which the last request was signed.
    fn region(&self) -> String {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let head = heads.last().expect("it was asked");
        let scope = head.split("Credential=").nth(1).unwrap();
        scope.split('/').nth(2).unwrap().to_owned()
    }
}

fn of_queue(url: &str, region: Option<&str>) -> World {
    let mut world = World::new().object("a.pdf", "x");
    world.config.queue.kind = QueueKind::Sqs;
    world.config.queue.url = Some(url.to_owned());
    world.config.queue.region = region.map(ToOwned::to_owned);
    world
}

/// `handout` with a configuration and variables alone.
fn handout(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let config = world.written();
    let job = world.dir.path().join("job.json");
    std::fs::write(&job, email_job("of-a-queue").to_string()).unwrap();
    let mut command = Command::new(program());
    command.current_dir(world.dir.path()).env_clear();
    command.envs(KEYS).envs(variables.iter().copied());
    command.args(arguments).arg("--config").arg(config);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_eu_west_1_is_asked_there_whatever_region_the_environment_has() {
    let server = Recorder::start().await;
    let elsewhere = ("AWS_REGION", "us-east-1");
    let endpoint = ("AWS_ENDPOINT_URL_SQS", server.url.as_str());
    let asked_in = |url: &str, key: Option<&str>, region: Option<(&str, &str)>| {
        let world = of_queue(url, key);
        let variables: Vec<_> = region.into_iter().chain([endpoint]).collect();
        let output = handout(&world, &["job", "submit", "job.json"], &variables);
        assert!(output.status.success(), "{output:?}");
        server.region()
    };
    let of_eu = "https://sqs.eu-west-1.amazonaws.com/123456789012/report-jobs";
    let legacy = "https://ap-northeast-1.queue.amazonaws.com/123456789012/report-jobs";
    let fifo = "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/report-jobs.fifo";
    let rows = [
        (of_eu, None, None, "eu-west-1"),
        (of_eu, None, Some(elsewhere), "eu-west-1"),
        (of_eu, Some("eu-north-1"), Some(elsewhere), "eu-north-1"),
        (legacy, None, Some(elsewhere), "ap-northeast-1"),
        (fifo, None, None, "cn-north-1"),
    ];
    for (url, key, region, expected) in rows {
        assert_eq!(
            asked_in(url, key, region),
            expected,
            "{url} {key:?} {region:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_at_another_server_is_asked_there_without_an_endpoint_url() {
    let server = Recorder::start().await;
    let asked = |path: &str, variables: &[(&str, &str)]| {
        let world = of_queue(&format!("{}{path}", server.url), None);
        let output = handout(&world, &["job", "submit", "job.json"], variables);
        assert!(output.status.success(), "{output:?}");
        server.region()
    };
    // ElasticMQ's two forms, and a region that the environment has for it.
    assert_eq!(asked("/queue/jobs", &[]), "us-east-1");
    assert_eq!(
        asked("/000000000000/jobs/", &[("AWS_REGION", "elasticmq")]),
        "elasticmq"
    );
    // Another server of the environment is not the queue's own.
    assert_eq!(
        asked("/queue/jobs", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]),
        "us-east-1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_names_another_server_than_the_queue_url_wins() {
    let server = Recorder::start().await;
    let mut world = of_queue("http://127.0.0.1:9/queue/jobs", None);
    world.config.queue.endpoint_url = Some(server.url.clone());
    let output = handout(&world, &["job", "submit", "job.json"], &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.region(), "us-east-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_a_region_and_the_queues_url_disagree() {
    let server = Recorder::start().await;
    let world = of_queue(
        "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
        Some("us-east-1"),
    );
    let output = handout(&world, &["check"], &[("AWS_ENDPOINT_URL_SQS", &server.url)]);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("queue.url"))
        .unwrap_or(&text);
    assert!(
        line.starts_with("warn")
            && line.contains("is in eu-west-1, and queue.region says us-east-1"),
        "{text}"
    );
}

/// Takes all messages of a queue.
async fn taken(server: &Server, url: &str) -> Vec<String> {
    let answer = sqs_client(server)
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10);
    let messages = answer.send().await.unwrap().messages.unwrap_or_default();
    messages
        .into_iter()
        .filter_map(|message| message.body)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_parked_messages_and_results_may_each_be_at_a_server_of_their_own() {
    let Some(parts) = Parts::or_skip("jobs_parked_messages_and_results") else {
        return;
    };
    let servers: Vec<Server> = (0..3).map(|_| parts.start("moto.py", &[])).collect();
    let [jobs, parked, results] = &servers[..] else {
        unreachable!()
    };
    let url = make_queue(&sqs_client(jobs), "jobs").await;
    let parked_url = make_queue(&sqs_client(parked), "parked").await;
    let results_url = make_queue(&sqs_client(results), "results").await;
    let mut world = of_queue(&url, None);
    world.config.queue.parked_url = Some(parked_url.clone());
    world.config.results.queue_url = Some(results_url.clone());
    let config = world.written();
    let sent = sqs_client(jobs)
        .send_message()
        .queue_url(&url)
        .message_body("no job");
    sent.send().await.unwrap();

    let daemon = Daemon::start(
        &config,
        &[&KEYS[..], &[("AWS_REGION", "eu-west-1")]].concat(),
    )
    .await;
    let bodies = until("the parked message", async || {
        Some(taken(parked, &parked_url).await).filter(|bodies| !bodies.is_empty())
    });
    assert_eq!(bodies.await, ["no job"]);
    let results = until("the result", async || {
        Some(taken(results, &results_url).await).filter(|bodies| !bodies.is_empty())
    })
    .await;
    let result: Value = serde_json::from_str(&results[0]).unwrap();
    assert_eq!(result["outcome"], json!("parked"));
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0), "{}", daemon_log(&config));
}
