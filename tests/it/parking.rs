//! Messages that cannot be done: where they go, what is said, and what they keep.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::MessageAttributeValue;
use handout::assemble;
use handout::clock;
use handout::config::OnEventConfig;
use handout::queue::sqlite::SqliteQueue;
use handout::queue::sqs::SqsQueue;
use handout::queue::{Message, Parked, Queue, QueueError, Receipt};
use handout::traceparent::TraceParent;
use serde_json::{Value, json};

use crate::conformance::{HELD, NOW, make_queue, sqs_client};
use crate::support::log::Log;
use crate::support::servers::Parts;
use crate::support::world::{World, email_job, run_until_settled};

/// A queue without a place for parked messages: what comes back comes at once.
#[derive(Debug)]
struct LeavingQueue(SqliteQueue);

#[async_trait]
impl Queue for LeavingQueue {
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        self.0.receive(max, visibility, wait).await
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError> {
        self.0.delete(receipt).await
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), QueueError> {
        self.0.extend(receipt, visibility).await
    }

    async fn release(&self, receipt: &Receipt, _after: Duration) -> Result<(), QueueError> {
        self.0.release(receipt, Duration::ZERO).await
    }

    fn parks(&self) -> bool {
        false
    }

    async fn park(&self, _message: &Message, _reason: &str) -> Result<Parked, QueueError> {
        Ok(Parked::LeftToRedrive)
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
async fn a_message_that_is_left_to_the_redrive_policy_is_said_to_be_so_and_once() {
    let world = World::new().object("a.pdf", "x");
    let mut opened = world.open().await;
    let queue = assemble::open_sqlite_queue(&world.config, clock::system).unwrap();
    opened.queue = Arc::new(LeavingQueue(queue));
    let mut refused = email_job("refused");
    refused["from"]["bucket"] = json!("elsewhere");
    for body in ["no job".to_owned(), refused.to_string()] {
        opened.queue.submit(&body).await.unwrap();
    }
    let (log, guard) = Log::of_thread(tracing::Level::INFO);
    run_until_settled(&opened, 12).await;
    drop(guard);
    let counts = opened.services.progress.snapshot();
    opened.close().await;
    let log = log.text();
    let told = log.matches("job cannot be done; its message is left to the queue's redrive policy");
    assert_eq!(told.count(), 2, "{log}");
    assert!(!log.contains("job parked"), "{log}");
    assert_eq!(counts.jobs_parked, 2, "each counts once");
    assert!(counts.jobs_retried >= 10);
    assert_eq!(world.audit_of("refused").len(), 2);
}

#[tokio::test]
async fn a_message_that_is_parked_says_so() {
    let mut world = World::new().message("no job");
    let (log, guard) = Log::of_thread(tracing::Level::INFO);
    world.run().await;
    drop(guard);
    assert_eq!(log.text().matches("job parked").count(), 1);
}

fn attribute(data_type: &str) -> aws_sdk_sqs::types::builders::MessageAttributeValueBuilder {
    MessageAttributeValue::builder().data_type(data_type)
}

#[tokio::test]
async fn what_a_sender_wrote_beside_a_message_is_kept_when_it_is_parked_and_put_back() {
    let Some(parts) = Parts::or_skip("what_a_sender_wrote_beside_a_message") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "jobs").await;
    let aside = make_queue(&client, "aside").await;
    let queue =
        SqsQueue::new(client.clone(), url.clone()).with_parked(client.clone(), aside.clone());
    let all_of = async |url: &str| {
        let received = client
            .receive_message()
            .queue_url(url)
            .message_attribute_names("All");
        let received = received.send().await.unwrap().messages.unwrap();
        let message = received.into_iter().next().unwrap();
        let delete = client.delete_message().queue_url(url);
        let receipt = message.receipt_handle.unwrap();
        delete.receipt_handle(receipt).send().await.unwrap();
        let mut seen: Vec<String> = message
            .message_attributes
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| {
                let text = value
                    .string_value
                    .unwrap_or_else(|| format!("{:?}", value.binary_value.unwrap()));
                match name.as_str() {
                    "handout-message-id" => name,
                    _ => format!("{name} {} {text}", value.data_type),
                }
            })
            .collect();
        seen.sort();
        seen.join("\n")
    };
    let send = client.send_message().queue_url(&url).message_body("no job");
    let bytes = attribute("Binary.gif").binary_value(Blob::new([0, 255]));
    send.message_attributes(
        "tenant",
        attribute("String").string_value("acme").build().unwrap(),
    )
    .message_attributes(
        "ExtendedPayloadSize",
        attribute("Number").string_value("300000").build().unwrap(),
    )
    .message_attributes("picture", bytes.build().unwrap())
    .send()
    .await
    .unwrap();
    let received = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
    assert_eq!(received.attributes[0].name, "ExtendedPayloadSize");
    assert_eq!(
        queue.park(&received, "because").await.unwrap(),
        Parked::Aside
    );
    let listed = queue.parked().unwrap().look(10).await.unwrap();
    assert_eq!(listed[0].reason, "because");
    assert_eq!(queue.parked().unwrap().put_back(None).await.unwrap(), 1);

    // Without ours it comes back, and is parked again with them.
    let received = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
    assert_eq!(received.attributes.len(), 3);
    queue.park(&received, "again").await.unwrap();
    insta::assert_snapshot!(all_of(&aside).await, @r"
    ExtendedPayloadSize Number 300000
    handout-message-id
    handout-reason String again
    picture Binary.gif Blob { inner: 00ff }
    tenant String acme
    ");

    // Ten is the most that there may be: the reason is among them.
    let mut send = client.send_message().queue_url(&url).message_body("no job");
    for n in 0..10 {
        let value = attribute("String").string_value("x").build().unwrap();
        send = send.message_attributes(format!("a{n}"), value);
    }
    send.send().await.unwrap();
    let received = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
    assert_eq!(queue.park(&received, "full").await.unwrap(), Parked::Aside);
    let kept = all_of(&aside).await;
    assert_eq!(kept.lines().count(), 10);
    assert!(kept.contains("handout-reason String full"), "{kept}");
}

/// A world with a rule for events of `incoming/`.
fn on_upload() -> World {
    let world = World::new().object("incoming/a.pdf", "x");
    let file = world.dir.path().join("on-upload.json");
    let mut job = email_job("upload");
    job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["{{event.key}}"] });
    std::fs::write(&file, job.to_string()).unwrap();
    world.configured(|config| {
        config.on_event = vec![OnEventConfig {
            bucket: "reports".to_owned(),
            key: "**".to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: file,
        }];
    })
}

fn event_of(key: &str, size: u64) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.3", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-23T18:40:00Z",
        "s3": { "bucket": { "name": "reports" }, "object": { "key": key, "size": size, "sequencer": "0055AED6DCD90281E6" } },
    }] })
}

#[tokio::test]
async fn events_of_folder_markers_are_ignored_and_counted() {
    let mut world = on_upload();
    for (key, size) in [
        ("incoming/", 0),
        ("incoming_%24folder%24", 0),
        ("incoming/a.pdf", 1),
    ] {
        world = world.message(&event_of(key, size).to_string());
    }
    let opened = world.open().await;
    for key in ["incoming/", "incoming/b_$folder$"] {
        opened
            .queue
            .submit(&event_of(key, 0).to_string())
            .await
            .unwrap();
    }
    run_until_settled(&opened, 2).await;
    assert_eq!(opened.services.progress.snapshot().markers_in_events, 2);
    opened.close().await;
    world.run().await;
    assert_eq!(world.mails().len(), 1, "that of the file");
    assert_eq!(world.parked().await, Vec::<String>::new());
    assert_eq!(world.audit_of("refused").len(), 0);
}

#[tokio::test]
async fn folder_markers_in_a_listing_are_left_out_and_counted() {
    let world = World::new()
        .object("2026/a.pdf", "x")
        .object("2026/q3_$folder$", "")
        .object("2026/notes_$folder$", "it has content");
    let opened = world.open().await;
    opened
        .queue
        .submit(&email_job("daily").to_string())
        .await
        .unwrap();
    run_until_settled(&opened, 1).await;
    assert_eq!(opened.services.progress.snapshot().markers_listed, 1);
    opened.close().await;
    assert_eq!(world.audit_of("issue").len(), 2);
}

#[tokio::test]
async fn a_request_of_sns_to_confirm_a_subscription_says_what_it_is_and_where_to_confirm() {
    let url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:123456789012:uploads&Token=2336412f37fb";
    let notice = json!({
        "Type": "SubscriptionConfirmation", "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b", "Token": "2336412f37fb",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:uploads",
        "Message": "You have chosen to subscribe to the topic. To confirm the subscription, visit the SubscribeURL included in this message.",
        "SubscribeURL": url, "Timestamp": "2026-11-23T18:40:00.000Z", "SignatureVersion": "1", "Signature": "x",
    });
    let mut world = World::new().message(&notice.to_string());
    let (log, guard) = Log::of_thread(tracing::Level::INFO);
    world.run().await;
    drop(guard);
    let parked = world.parked().await.remove(0);
    assert!(
        parked.starts_with("the message is no job: SNS asks to confirm the subscription of this queue to the topic arn:aws:sns:eu-west-1:123456789012:uploads")
            && parked.ends_with(url),
        "{parked}"
    );
    // The token is neither in the log nor in the audit log.
    let log = log.text();
    assert!(
        log.contains("open the SubscribeURL of the message once") && !log.contains("2336412f37fb"),
        "{log}"
    );
    let line = world.audit_of("refused").remove(0).to_string();
    assert!(
        line.contains("SNS asks to confirm") && !line.contains("2336412f37fb"),
        "{line}"
    );
}
