//! What `check` says of queues to which messages are only sent: those of results and of parked messages.

use handout::config::QueueKind;

use super::{Checked, KEYS, with_queue};
use crate::conformance::{make_queue, sqs_client};
use crate::support::faulty::FaultyProxy;
use crate::support::servers::Parts;
use crate::support::world::World;

#[tokio::test]
async fn a_queue_of_results_that_is_missing_or_has_another_use_is_a_failure() {
    let Some(parts) = Parts::or_skip("a_queue_of_results") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let (jobs, aside) = (
        make_queue(&client, "jobs").await,
        make_queue(&client, "aside").await,
    );
    let told = make_queue(&client, "told").await;
    let mut world = with_queue(&moto.url(), &jobs);
    world.config.queue.parked_url = Some(aside.clone());
    world.config.results.endpoint_url = Some(moto.url());
    world.config.results.region = Some("eu-west-1".to_owned());
    let line = |world: &World| {
        let checked = Checked::of(world, &KEYS);
        checked.failures();
        checked.line("results").to_owned()
    };
    world.config.results.queue_url = Some(told.clone());
    assert_eq!(line(&world), "ok results: 0 messages wait");
    world.config.results.queue_url = Some(format!("{told}-that-is-missing"));
    let missing = line(&world);
    assert!(
        missing.starts_with("FAIL ") && missing.contains("does not exist"),
        "{missing}"
    );
    world.config.results.queue_url = Some(jobs);
    assert!(line(&world).starts_with(
        "FAIL results: results.queue_url is queue.url: each result would be taken for a job"
    ));
    world.config.results.queue_url = Some(aside);
    assert!(line(&world).starts_with("FAIL results: results.queue_url is queue.parked_url"));
    // The queue of jobs may be a file.
    world.config.queue = Default::default();
    assert_eq!(world.config.queue.kind, QueueKind::Sqlite);
    world.config.results.queue_url = Some(format!("{told}-that-is-missing"));
    assert!(line(&world).starts_with("FAIL "));
}

/// The daemon sends there, and asks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_may_be_sent_to_and_not_looked_at_is_a_warning() {
    let Some(parts) = Parts::or_skip("a_queue_that_may_be_sent_to") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let (jobs, aside) = (
        make_queue(&client, "jobs").await,
        make_queue(&client, "aside").await,
    );
    let proxy = FaultyProxy::start(&moto.url(), Default::default()).await;
    let mut world = with_queue(&moto.url(), &jobs).configured(|config| {
        config.results.queue_url = Some(aside);
        config.results.endpoint_url = Some(proxy.url.clone());
        config.results.region = Some("eu-west-1".to_owned());
    });
    proxy.refuses("AmazonSQS.GetQueueAttributes", r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no identity-based policy allows the sqs:getqueueattributes action"}"#);
    let checked = Checked::of(&world, &KEYS);
    assert_eq!(checked.failures(), [""; 0]);
    let line = checked.line("results");
    assert!(
        line.starts_with("warn results: whether the queue accepts messages was not checked: ")
            && line.ends_with("grant sqs:GetQueueAttributes to check it"),
        "{line}"
    );
    // A key that the service does not know sends nothing either.
    proxy.refuses("AmazonSQS.GetQueueAttributes", r#"{"__type":"com.amazon.coral.service#InvalidClientTokenId","message":"The security token included in the request is invalid."}"#);
    world.config.queue.max_in_flight = 4;
    assert_eq!(Checked::of(&world, &KEYS).failures().len(), 1);
}
