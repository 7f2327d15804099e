//! The worker and its queue: order within a group, what it tells those who wait for a job.

use std::sync::Arc;

use handout::config::{AllowConfig, ConnectionConfig};
use handout::queue::Queue;
use handout::queue::memory::MemoryQueue;
use handout::tools::Opened;
use serde_json::{Value, json};

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

/// The lines that were written about jobs' ends, without what differs from run to run.
fn told(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.dir.path().join("results.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|mut line: Value| {
            for field in ["at", "expires_at"] {
                if let Some(value) = line.get_mut(field) {
                    let _: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
                    *value = json!("…");
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
    {"accepted":1,"at":"…","done_before":false,"expires_at":"…","galleries":[],"job":"told","links":1,"manifests":["…"],"message":"1","outcome":"done","rejected":0,"unavailable":0,"unknown":0,"v":1,"without_mail":[]}
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
    assert_eq!(told(&world).len(), 1);
    assert_eq!(world.mails().len(), 1);
}
