//! What a start finds that follows a kill: the messages that the dead process had in its hands.
//!
//! The death is real: the failpoint that is armed ends the process in the middle of the work.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use handout::queue::Queue;
use handout::queue::sqs::SqsQueue;

use crate::conformance::{HELD, NOW, make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};
use crate::support::{program, until};

/// Well below `queue.visibility_timeout` (5 minutes), for which the message was hidden before.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A daemon's life up to a failpoint, where it dies.
async fn die(config: &Path, failpoint: &str) {
    let mut child = Command::new(program())
        .args(["run", "--config"])
        .arg(config)
        .env("HANDOUT_FAILPOINT", failpoint)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = until("the death", async || child.try_wait().unwrap()).await;
    assert_eq!(status.signal(), Some(9));
}

#[tokio::test]
async fn a_job_of_a_killed_daemon_is_taken_up_at_once_and_the_log_says_so() {
    // Before anything is known of the message, and in the middle of its work.
    for failpoint in ["received", "recorded"] {
        let world = World::new().object("a.pdf", "x");
        let config = world.written();
        world.submit(&[email_job("daily")]).await;
        die(&config, failpoint).await;
        assert!(world.mails().is_empty());
        let began = Instant::now();
        let daemon = Daemon::start(&config, &[]).await;
        until("the mail", async || world.mails().pop()).await;
        assert!(
            began.elapsed() < AT_ONCE,
            "{failpoint}: {:?}",
            began.elapsed()
        );
        let log = daemon_log(&config);
        assert!(
            log.contains("they are taken up at once"),
            "{failpoint}: {log}"
        );
        daemon.signal("TERM");
        assert_eq!(daemon.end().await.0, Some(0));
        assert_eq!(world.mails().len(), 1);
    }
}

#[tokio::test]
async fn a_message_that_was_given_back_for_later_is_not_taken_up_earlier() {
    let world = World::new();
    let opened = world.open().await;
    let (visibility, later) = (Duration::from_secs(300), Duration::from_secs(3600));
    for _ in 0..2 {
        opened.queue.submit("x").await.unwrap();
    }
    let both = opened.queue.receive(2, visibility, Duration::ZERO);
    let both = both.await.unwrap();
    // One is given back for later; the other is extended, as heartbeats do, and is in hand when the process dies.
    opened.queue.release(&both[0].receipt, later).await.unwrap();
    opened
        .queue
        .extend(&both[1].receipt, visibility)
        .await
        .unwrap();
    drop(opened);
    let opened = world.open().await;
    let seen = opened.queue.receive(2, visibility, Duration::ZERO);
    let ids: Vec<String> = seen
        .await
        .unwrap()
        .into_iter()
        .map(|message| message.id)
        .collect();
    assert_eq!(ids, [both[1].id.clone()]);
    opened.close().await;
}

#[tokio::test]
async fn a_clean_end_leaves_nothing_to_take_up() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    assert!(!daemon_log(&config).contains("taken up at once"));
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0));
}

#[tokio::test]
async fn a_start_on_sqs_says_how_many_messages_are_in_flight_and_until_when() {
    let Some(parts) = Parts::or_skip("messages_in_flight_of_sqs") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "jobs").await;
    let world = World::new().configured(|config| {
        config.queue.kind = handout::config::QueueKind::Sqs;
        config.queue.url = Some(url.clone());
        config.queue.endpoint_url = Some(moto.url());
        config.queue.region = Some("eu-west-1".to_owned());
    });
    let queue = SqsQueue::new(client, url);
    for _ in 0..2 {
        queue.submit(&email_job("held").to_string()).await.unwrap();
    }
    // Another process has them, or has died over them.
    let mut held = 0;
    while held < 2 {
        held += queue.receive(2, HELD, NOW).await.unwrap().len();
    }
    let config = world.written();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let daemon = Daemon::start(&config, &keys).await;
    let line = until("the line", async || {
        let log = daemon_log(&config);
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("messages are in flight"));
        line.map(ToOwned::to_owned)
    })
    .await;
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["messages"], held, "{line}");
    assert!(told["until"].is_string(), "{line}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0));
}
