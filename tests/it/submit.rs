//! `handout job submit` looks at a job as `handout job preview` does, before it puts it on the queue.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::program;
use crate::support::world::{World, email_job, free_address};

fn submit(world: &World, job: &Value, more: &[&str]) -> Output {
    let file = world.dir.path().join("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let mut handout = Command::new(program());
    handout.args(["job", "submit"]).arg(&file);
    handout.arg("--config").arg(world.written()).args(more);
    handout.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What is wrong with a job, and a word of the sentence about it.
fn wrong_jobs() -> Vec<(&'static str, Value, &'static str)> {
    let changed = |pointer: &str, value: Value| {
        let mut job = email_job("wrong");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        job.pointer_mut(parent).unwrap()[field] = value;
        job
    };
    vec![
        (
            "bucket",
            changed("/from/bucket", json!("other")),
            "no [[allow]] rule",
        ),
        (
            "recipient",
            changed("/email/to", json!(["eve@evil.example"])),
            "do not let it go to the recipient",
        ),
        (
            "template",
            changed("/email/template", json!("reprot")),
            "names the template \"reprot\"",
        ),
        (
            "name",
            changed("/email/subject", json!("For {{costumer}}")),
            "uses {{costumer}}",
        ),
        (
            "prefix",
            changed("/from/prefix", json!("{{year}}/")),
            "uses {{year}}",
        ),
        (
            "time",
            changed("/links", json!({ "expires_in": "7d" })),
            "links.expires_in",
        ),
        (
            "place",
            changed("/gallery", json!({ "publish": { "bucket": "elsewhere" } })),
            "do not let it be published to",
        ),
        (
            "connection",
            changed("/from/connection", json!("remote")),
            "remote",
        ),
        (
            "relay",
            changed("/email/relay", json!("bulk")),
            "through the relay bulk",
        ),
        (
            "nothing there",
            changed("/from/prefix", json!("1999/")),
            "there are no objects to hand out",
        ),
        ("doubt", changed("/on_doubt", json!("resend")), "on_doubt"),
    ]
}

#[tokio::test]
async fn a_job_that_could_not_be_done_is_not_submitted() {
    let world = World::new().object("a.pdf", "x").configured(|config| {
        config.allow[0].max_expires_in = "1d".parse().unwrap();
        config.ledger.on_doubt = handout::config::OnDoubt::Hold;
    });
    for (number, (what, job, word)) in wrong_jobs().into_iter().enumerate() {
        let output = submit(&world, &job, &[]);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(word),
            "{what}: {}",
            stderr(&output)
        );
        assert_eq!(world.waiting().await, number as u64, "{what}");
        let unchecked = submit(&world, &job, &["--no-check"]);
        assert!(unchecked.status.success(), "{what}: {}", stderr(&unchecked));
    }
    assert_eq!(world.waiting().await, wrong_jobs().len() as u64);
}

/// A job that was done before is put on the queue as asked, and the command says that nothing will be sent.
#[tokio::test]
async fn a_job_that_was_done_before_is_named_by_submit() {
    let world = World::new().object("a.pdf", "x");
    let again = email_job("again");
    let other = email_job("other");
    let report = |output: &Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
    let first = submit(&world, &again, &["--json"]);
    assert_eq!(
        report(&first)["done_before"],
        json!([]),
        "{}",
        stderr(&first)
    );
    let file = world.dir.path().join("job.json");
    let mut run = Command::new(program());
    run.args(["job", "run"]).arg(&file);
    let ran = run.arg("--config").arg(world.written()).output().unwrap();
    assert!(ran.status.success(), "{}", stderr(&ran));

    let second = submit(&world, &again, &["--json"]);
    assert!(second.status.success(), "{}", stderr(&second));
    assert_eq!(report(&second)["done_before"], json!(["again"]));
    assert!(
        stderr(&second).contains("again was done before"),
        "{}",
        stderr(&second)
    );
    let third = submit(&world, &other, &["--json"]);
    assert_eq!(report(&third)["done_before"], json!([]));
    assert!(
        !stderr(&third).contains("done before"),
        "{}",
        stderr(&third)
    );
    let unasked = submit(&world, &again, &["--json", "--no-check"]);
    assert_eq!(report(&unasked)["done_before"], json!([]));
    assert_eq!(world.waiting().await, 4);
}

/// The worker would park it.
#[tokio::test]
async fn another_job_under_the_id_of_a_done_one_is_not_submitted() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let mut other = email_job("daily");
    other["email"]["subject"] = json!("Another");
    let refused = submit(&world, &other, &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("the job id daily was used before for another job"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(world.waiting().await, 0);
    let unchecked = submit(&world, &other, &["--no-check"]);
    assert!(unchecked.status.success(), "{}", stderr(&unchecked));
    assert_eq!(world.waiting().await, 1);
}

#[tokio::test]
async fn a_mail_template_that_misses_a_variable_of_the_job_is_found_by_submit() {
    let world = World::new().object("a.pdf", "x");
    let templates = world.dir.path().join("templates/email/dear");
    fs::create_dir_all(&templates).unwrap();
    for (file, text) in [
        ("subject.txt.hbs", "Ready"),
        ("body.txt.hbs", "{{vars.customer}}"),
        (
            "body.html.hbs",
            "<p>{{vars.customer}}{{#each files}}<a href=\"{{link url}}\">x</a>{{/each}}</p>",
        ),
    ] {
        fs::write(templates.join(file), text).unwrap();
    }
    let dir = world.dir.path().join("templates");
    let world = world.configured(|config| config.templates.dir = Some(dir));
    let mut job = email_job("dear");
    job["email"]["template"] = json!("dear");
    job["email"]["overflow"] = json!("summarize");
    let output = submit(&world, &job, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("email/dear/body"),
        "{}",
        stderr(&output)
    );
    job["vars"] = json!({ "customer": "ACME" });
    let output = submit(&world, &job, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(world.waiting().await, 1);
}

#[tokio::test]
async fn a_job_that_its_event_would_start_is_looked_at_too() {
    let world = World::new().object("in/a.pdf", "x");
    let rule = world.dir.path().join("rule.json");
    let mut template = email_job("upload");
    template["from"] =
        json!({ "connection": "local", "bucket": "reports", "keys": ["{{event.key}}"] });
    template["email"]["subject"] = json!("{{event.foldr}}");
    fs::write(&rule, template.to_string()).unwrap();
    let world = world.configured(|config| {
        config.on_event.push(handout::config::OnEventConfig {
            bucket: "reports".to_owned(),
            key: "in/**".to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: rule,
        });
    });
    let event = json!({ "Records": [{
        "eventName": "ObjectCreated:Put", "eventTime": "2026-11-23T12:00:00Z",
        "s3": { "bucket": { "name": "reports" }, "object": { "key": "in/a.pdf", "sequencer": "01" } },
    }] });
    let output = submit(&world, &event, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("{{event.foldr}}"),
        "{}",
        stderr(&output)
    );
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn a_store_that_is_down_cannot_be_asked_and_the_sentence_names_the_way_around() {
    let address = free_address();
    let world = World::new().configured(|config| {
        let remote = handout::config::ConnectionConfig {
            endpoint_url: Some(format!("http://{address}")),
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key_file: Some(config.state_dir.with_file_name("secret")),
            ..handout::config::ConnectionConfig::default()
        };
        config.connections.insert("remote".to_owned(), remote);
        config.allow[0].connection = "remote".to_owned();
    });
    fs::write(
        world.dir.path().join("secret"),
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
    .unwrap();
    let mut job = email_job("remote");
    job["from"]["connection"] = json!("remote");
    let output = submit(&world, &job, &[]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--no-check"),
        "{}",
        stderr(&output)
    );
    assert_eq!(world.waiting().await, 0);
    assert!(submit(&world, &job, &["--no-check"]).status.success());
    assert_eq!(world.waiting().await, 1);
}
