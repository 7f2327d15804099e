//! Messages that are too long for a queue: the extended client of SQS puts them into an object.

use std::fs;
use std::process::Command;
use std::time::Duration;

use aws_sdk_sqs::types::MessageAttributeValue;
use handout::config::ConnectionConfig;
use handout::queue::sqs::SqsQueue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conformance::{make_queue, sqs_client};
use crate::daemon::Daemon;
use crate::support::answering::answering_raw;
use crate::support::line::{Line, Mode};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job, run_until_settled};
use crate::support::{get, program, until};

/// A world that reads bodies from the bucket `payloads`.
fn world() -> World {
    let world = World::new().object("a.pdf", "x");
    localstore::create_bucket(&world.dir.path().join("buckets"), "payloads").unwrap();
    world.configured(|config| config.queue.payload_buckets = vec!["payloads".to_owned()])
}

/// Puts a body into the bucket, and returns the message that points to it, as the client for Java writes it.
fn put(world: &World, key: &str, body: impl AsRef<[u8]>) -> Value {
    let path = world.dir.path().join("buckets/payloads").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, body).unwrap();
    pointer("payloads", key)
}

fn pointer(bucket: &str, key: &str) -> Value {
    let place = json!({ "s3BucketName": bucket, "s3Key": key });
    json!(["software.amazon.payloadoffloading.PayloadS3Pointer", place])
}

#[tokio::test]
async fn a_job_that_is_too_long_for_the_queue_is_read_from_its_bucket() {
    let world = world();
    let long = format!("{}{}", email_job("long"), " ".repeat(900_000));
    let bare = put(&world, "2026/1", long);
    let through_sns = put(&world, "2", email_job("through-sns").to_string());
    let through_sns = json!({
        "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:jobs", "Message": through_sns.to_string()
    });
    let mut world = world.job(&bare).job(&through_sns);
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    assert_eq!(world.mails().len(), 2);
    let object = world.dir.path().join("buckets/payloads/2026/1");
    assert!(object.exists(), "the sender's lifecycle rule deletes it");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_parked_with_the_reason() {
    let world = world();
    let long = put(&world, "long", vec![b' '; 1024 * 1024 + 1]);
    let bytes = put(&world, "bytes", [b'{', 0xff]);
    let empty = put(&world, "empty", "");
    let nested = put(&world, "nested", pointer("payloads", "long").to_string());
    let mut world = world
        .job(&long)
        .job(&bytes)
        .job(&empty)
        .job(&nested)
        .job(&pointer("payloads", "gone"))
        .job(&pointer("reports", "a.pdf"))
        .job(&pointer("No Bucket", "a.pdf"));
    world.run().await;
    let mut reasons = world.parked().await;
    reasons.sort();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    could not read the body of the message, which its sender put into an object of payloads: could not get the metadata of s3://payloads/gone: it does not exist: NotFound
    the message has 1048577 bytes; a job may have at most 1048576
    the message is a pointer of the extended client of SQS without a valid s3BucketName and s3Key
    the message is not JSON: EOF while parsing a value at line 1 column 0
    the message's body is an object of the bucket reports, where the extended client of SQS put it: name that bucket in queue.payload_buckets
    the message's body, an object of the bucket payloads, is a pointer itself: let the message point to the job
    the message's body, an object of the bucket payloads, is not UTF-8: write the job as JSON in UTF-8
    ");
    assert!(world.mails().is_empty());
}

/// The attributes that the client for Python writes stay with the message, so that it can be put back.
#[tokio::test]
async fn a_pointer_of_sqs_is_worked_and_a_parked_one_keeps_its_attribute() {
    let Some(parts) = Parts::or_skip("a_pointer_of_sqs_is_worked") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "jobs").await;
    let aside = make_queue(&client, "aside").await;
    let queue =
        SqsQueue::new(client.clone(), url.clone()).with_parked(client.clone(), aside.clone());
    let world = world();
    let good = put(&world, "good", email_job("good").to_string());
    for message in [good, pointer("payloads", "gone")] {
        let size = MessageAttributeValue::builder().data_type("Number");
        let send = client.send_message().queue_url(&url);
        let send = send.message_body(message.to_string());
        let send = send.message_attributes(
            "ExtendedPayloadSize",
            size.string_value("300000").build().unwrap(),
        );
        send.send().await.unwrap();
    }
    let mut opened = world.open().await;
    opened.queue = std::sync::Arc::new(queue);
    run_until_settled(&opened, 2).await;
    assert_eq!(opened.queue.waiting().await.unwrap(), 0);
    opened.close().await;
    assert_eq!(world.mails().len(), 1);
    let received = client.receive_message().queue_url(&aside);
    let received = received.message_attribute_names("All").send().await;
    let parked = received.unwrap().messages.unwrap().remove(0);
    assert_eq!(
        parked.body.unwrap(),
        pointer("payloads", "gone").to_string()
    );
    let attributes = parked.message_attributes.unwrap();
    let size = attributes["ExtendedPayloadSize"].string_value.as_deref();
    assert_eq!(size, Some("300000"));
    assert!(
        attributes["handout-reason"]
            .string_value
            .as_deref()
            .unwrap()
            .contains("payloads")
    );
}

/// A world that reads bodies from another store.
fn world_with_store(url: &str) -> World {
    far_from(world(), url)
}

fn far_from(world: World, url: &str) -> World {
    world.configured(|config| {
        let secret = config.state_dir.with_file_name("secret-access-key");
        fs::write(&secret, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY").unwrap();
        let far = ConnectionConfig {
            endpoint_url: Some(url.to_owned()),
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key_file: Some(secret),
            ..ConnectionConfig::default()
        };
        config.connections.insert("far".to_owned(), far);
        config.queue.payload_connection = Some("far".to_owned());
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_a_store_that_is_down_makes_the_message_wait() {
    let silent = answering_raw(|_| None).await;
    for url in ["http://127.0.0.1:1", &silent] {
        let world = world_with_store(url);
        let message = put(&world, "1", email_job("far").to_string());
        let mut world = world.job(&message);
        let began = Instant::now();
        world.run().await;
        assert_eq!(world.parked().await, Vec::<String>::new(), "{url}");
        assert_eq!(world.counted.jobs_retried, 1, "{url}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(40), "{url}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_for_the_buckets_of_long_messages() {
    let world = world().configured(|config| {
        config.queue.payload_buckets.push("missing".to_owned());
    });
    let config = world.written();
    let mut check = Command::new(program());
    let output = check.env_clear().arg("check").arg("--config").arg(config);
    let text = String::from_utf8(output.output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("payloads s3"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("ok ")
            && lines[0].ends_with("local reads the bodies of long messages there"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("FAIL") && lines[1].contains("s3://missing"),
        "{text}"
    );
}

#[test]
fn the_connection_of_long_messages_is_named_where_there_are_several() {
    let mut config = World::new().config;
    config.queue.payload_buckets = vec!["payloads".to_owned()];
    let one = config.payloads().unwrap().0;
    assert_eq!(one.unwrap().as_str(), "local");
    let another = ConnectionConfig::local("/srv/other");
    config.connections.insert("other".to_owned(), another);
    let unnamed = config.payloads().unwrap_err().to_string();
    assert!(
        unnamed.contains("queue.payload_connection is missing"),
        "{unnamed}"
    );
    config.queue.payload_connection = Some("third".to_owned());
    let unknown = config.payloads().unwrap_err().to_string();
    assert!(unknown.contains("configured: local, other"), "{unknown}");
    config.queue.payload_buckets = vec!["No Bucket".to_owned()];
    config.queue.payload_connection = Some("other".to_owned());
    let wrong = config.payloads().unwrap_err().to_string();
    assert!(wrong.contains("queue.payload_buckets"), "{wrong}");
}

/// No rule names the connection, so no job tells that its store is back.
#[tokio::test]
async fn the_store_of_long_messages_is_probed() {
    let world = world();
    let line = Line::start(world.config.embedded.listen).await;
    let world = far_from(world, &line.url());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let ready = format!("http://{}/ready", daemon.http);
    let answers = async |status: u16| {
        let what = format!("{status} of /ready");
        until(&what, async || {
            (get(&ready).await.0 == status).then_some(())
        })
        .await;
    };
    answers(200).await;
    for mode in [Mode::Silent, Mode::Refusing] {
        line.becomes(mode);
        answers(503).await;
        line.becomes(Mode::Open);
        answers(200).await;
    }
    daemon.stops(&config).await;
}
