//! Keys that a job names and that are not there, or are there in another Unicode form.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::program;
use crate::support::world::{World, email_job};

/// `ü` as macOS writes it in names, and as people type it.
const STORED: &str = "U\u{308}berblick/Pru\u{308}fung.pdf";
const TYPED: &str = "\u{dc}berblick/Pr\u{fc}fung.pdf";

async fn issued(from: &Value, rule: &str) -> Vec<String> {
    let mut job = email_job("forms");
    job["from"] = from.clone();
    job["from"]["connection"] = json!("local");
    job["from"]["bucket"] = json!("reports");
    let mut world = World::new()
        .object(STORED, "x")
        .object("other.pdf", "y")
        .job(&job);
    world.config.allow[0].prefix = rule.to_owned();
    world.run().await;
    let lines = world.audit_of("issue").into_iter();
    lines
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_key_typed_in_another_form_is_the_file_that_looks_the_same() {
    let asked = [
        json!({ "keys": [TYPED] }),
        json!({ "keys": [TYPED, STORED] }),
        json!({ "keys": [STORED] }),
        json!({ "prefix": "\u{dc}berblick/" }),
        json!({ "prefix": "", "include": ["**/Pr\u{fc}*.pdf"] }),
    ];
    for from in asked {
        assert_eq!(issued(&from, "").await, [STORED], "{from}");
    }
    let stored = "U\u{308}";
    // Only what the rule allows, byte for byte.
    assert_eq!(issued(&json!({ "keys": [TYPED] }), "\u{dc}").await, [""; 0]);
    assert_eq!(issued(&json!({ "prefix": stored }), stored).await, [STORED]);
}

#[tokio::test]
async fn a_missing_key_of_a_job_is_counted_and_told_and_ends_the_command_with_1() {
    let world = World::new().object("a.pdf", "x");
    let mut job = email_job("missing");
    job["from"] =
        json!({ "connection": "local", "bucket": "reports", "keys": ["a.pdf", "b.pdf", "c.pdf"] });
    let file = world.dir.path().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let config = world.written();
    let output = tokio::task::spawn_blocking(move || {
        let mut run = Command::new(program());
        run.env_clear()
            .args(["job", "run"])
            .arg(file)
            .arg("--config")
            .arg(config);
        run.output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("missing      2 of these do not exist"),
        "{said}"
    );
    assert_eq!(world.mails().len(), 1, "the rest is delivered");
    let said = world.audit_of("issue");
    assert_eq!(said.len(), 1);
}
