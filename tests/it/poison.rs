//! A message that kills the process is parked, and takes no other with it.
//!
//! The death is real: the failpoint that is armed ends the process in the middle of the work, as running out of memory does.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::daemon::Daemon;
use crate::support::world::{World, email_job};
use crate::support::{program, until};

/// A daemon's life up to a failpoint, where it dies.
async fn die(world: &World, config: &Path, failpoint: &str) {
    world.show_all();
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
async fn a_message_that_kills_the_process_three_times_is_parked_with_its_sentence() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    world.submit(&[email_job("poison")]).await;
    for _ in 0..3 {
        die(&world, &config, "listed").await;
    }
    world.submit(&[email_job("innocent")]).await;
    world.show_all();
    let daemon = Daemon::start(&config, &[]).await;
    until("the mail of the other job", async || world.mails().pop()).await;
    until("the park", async || {
        let lines = world.audit_of("refused");
        (!lines.is_empty()).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    let parked = world.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert!(
        parked[0].starts_with("the process ended 3 times while it worked this message"),
        "{parked:?}"
    );
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "the poisonous job got no further");
    assert!(
        world
            .audit_of("issue")
            .iter()
            .all(|line| line["job"] == json!("innocent"))
    );
}

#[tokio::test]
async fn a_job_that_gets_on_between_two_deaths_comes_to_its_end() {
    let mut world = World::new().object("a.pdf", "x");
    // One mail after the other: each life records one outcome, and dies.
    world.config.mail.at_once = 1;
    let config = world.written();
    let mut job = email_job("large");
    let people: Vec<String> = (0..6).map(|n| format!("p{n}@acme.example")).collect();
    job["email"]["to"] = json!(people);
    world.submit(&[job]).await;
    for _ in 0..4 {
        die(&world, &config, "concluded").await;
    }
    world.show_all();
    let daemon = Daemon::start(&config, &[]).await;
    until("everybody's mail", async || {
        (world.mails().len() == 6).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    assert_eq!(world.parked().await, Vec::<String>::new());
}
