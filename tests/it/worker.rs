//! The worker and its queue: order within a group, what it tells those who wait for a job.

use std::sync::Arc;

use handout::config::{AllowConfig, ConnectionConfig};
use handout::queue::Queue;
use handout::queue::memory::MemoryQueue;
use handout::tools::Opened;
use serde_json::json;

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
    let next = queue.receive(10, std::time::Duration::ZERO, std::time::Duration::ZERO);
    assert!(
        next.await.unwrap().is_empty(),
        "what was given back comes after what it waits for"
    );
}
