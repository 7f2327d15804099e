//! What `check` says of `[[on_event]]` rules: jobs of events that nobody has sent yet are looked at as `job submit` does.

use std::fs;

use handout::config::{Config, OnEventConfig};
use serde_json::{Value, json};

use super::Checked;
use crate::support::world::World;

/// The job file of a rule that works in a world.
fn job() -> Value {
    json!({
        "v": 1,
        "id": "upload",
        "from": { "connection": "local", "bucket": "reports", "keys": ["{{event.key}}"] },
        "email": { "to": ["ann@acme.example"], "subject": "{{event.key}}" },
    })
}

/// A world with a rule for events of `reports`.
fn world(key: &str, job: &Value, change: impl FnOnce(&mut Config)) -> World {
    let world = World::new();
    let file = world.dir.path().join("on-upload.json");
    fs::write(&file, job.to_string()).unwrap();
    world.configured(|config| {
        config.on_event.push(OnEventConfig {
            bucket: "reports".to_owned(),
            key: key.to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: file,
        });
        change(config);
    })
}

/// A job file in which a field is another.
fn with(pointer: &str, value: Value) -> Value {
    let mut job = job();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    job.pointer_mut(parent).unwrap()[field] = value;
    job
}

#[test]
fn an_event_rule_whose_jobs_can_be_done_works_although_nothing_was_uploaded_yet() {
    let of_prefix =
        json!({ "connection": "local", "bucket": "reports", "prefix": "{{event.key}}" });
    for (key, job, tried) in [
        ("**", job(), "s3://reports/example"),
        ("in/**/*.pdf", job(), "s3://reports/in/example.pdf"),
        (
            "in/[0-9]/{a,b}.csv",
            with("/from", of_prefix),
            "s3://reports/in/0/a.csv",
        ),
    ] {
        let checked = Checked::of(&world(key, &job, |_| ()), &[]);
        assert_eq!(checked.failures(), [""; 0], "{key}");
        let line = checked.line("on_event[0]");
        let expected = format!("makes of an event for {tried} can be done");
        assert!(
            line.starts_with("ok ") && line.ends_with(&expected),
            "{line}"
        );
    }
}

/// What is wrong, the job file, the configuration, and words of the sentence.
type Case = (&'static str, Value, fn(&mut Config), &'static str);

#[test]
fn an_event_rule_whose_jobs_would_be_refused_is_a_failure_that_says_why() {
    let none = |_: &mut Config| ();
    let daily = |config: &mut Config| config.links.expires_in = "1h".parse().unwrap();
    let table: [Case; 12] = [
        (
            "template",
            with("/email/template", json!("reprot")),
            none,
            "names the template \"reprot\", which is not installed",
        ),
        (
            "page template",
            with(
                "/gallery",
                json!({ "template": "galery", "publish": { "bucket": "published" } }),
            ),
            none,
            "names the template \"galery\"",
        ),
        (
            "connection",
            with("/from/connection", json!("remote")),
            none,
            "remote",
        ),
        (
            "bucket",
            with("/from/bucket", json!("elsewhere")),
            none,
            "no [[allow]] rule of the configuration lets connection local hand out s3://elsewhere/",
        ),
        (
            "recipient",
            with("/email/to", json!(["eve@evil.example"])),
            none,
            "do not let it go to the recipient",
        ),
        (
            "answers",
            with("/email/reply_to", json!("eve@evil.example")),
            none,
            "do not let answers go to",
        ),
        (
            "place",
            with(
                "/manifest",
                json!({ "format": "csv", "publish": { "dir": "/srv" } }),
            ),
            none,
            "do not let it be published to dir:/srv",
        ),
        (
            "relay",
            with("/email/relay", json!("bulk")),
            none,
            "through the relay bulk",
        ),
        (
            "name",
            with("/email/subject", json!("{{customer}}")),
            none,
            "uses {{customer}}",
        ),
        (
            "language",
            with(
                "/email/to",
                json!([{ "address": "ann@acme.example", "locale": "tlh" }]),
            ),
            none,
            "which is not an installed language",
        ),
        (
            "time",
            with("/links", json!({ "via": "cloudfront" })),
            daily,
            "has no distribution in front of",
        ),
        (
            "doubt",
            with("/on_doubt", json!("resend")),
            |config| config.ledger.on_doubt = handout::config::OnDoubt::Hold,
            "on_doubt is \"resend\"",
        ),
    ];
    for (what, job, change, words) in table {
        let checked = Checked::of(&world("in/*.pdf", &job, change), &[]);
        let failures = checked.failures();
        let start = "FAIL on_event[0]: the job that ";
        assert!(
            failures.len() == 1 && failures[0].starts_with(start) && failures[0].contains(words),
            "{what}: {failures:#?}"
        );
        assert!(
            failures[0]
                .contains("makes of an event for s3://reports/in/example.pdf cannot be done: "),
            "{failures:?}"
        );
    }
}

#[test]
fn an_event_rule_for_keys_that_no_rule_allows_is_told_apart_from_one_for_too_many_keys() {
    let below = |config: &mut Config| config.allow[0].prefix = "2026/".to_owned();
    let refused =
        "no [[allow]] rule of the configuration lets connection local hand out s3://reports/";
    let none = Checked::of(&world("incoming/**", &job(), below), &[]);
    assert_eq!(none.failures().len(), 1);
    assert!(none.failures()[0].contains(&format!("{refused}incoming/example")));
    let some = Checked::of(&world("**/*.pdf", &job(), below), &[]);
    assert_eq!(some.failures(), [""; 0]);
    let line = some.line("on_event[0]");
    assert!(
        line.starts_with("warn ") && line.contains(refused),
        "{line}"
    );
    assert!(
        line.contains("that of an event for s3://reports/2026/example.pdf can be done"),
        "{line}"
    );
    // A prefix of the rule's own is no matter of chance.
    let all = Checked::of(&world("2026/**/*.pdf", &job(), below), &[]);
    assert!(all.line("on_event[0]").starts_with("ok "));
    // What else is wrong is told of the key that a rule allows.
    let wrong = with("/email/template", json!("nope"));
    let checked = Checked::of(&world("**/*.pdf", &wrong, below), &[]);
    assert!(checked.failures()[0].contains("names the template \"nope\""));
}

#[test]
fn a_mail_template_that_misses_a_variable_of_an_events_job_is_a_failure() {
    let world = world("**", &with("/email/template", json!("dear")), |_| ());
    let template = world.dir.path().join("templates/email/dear");
    fs::create_dir_all(&template).unwrap();
    for (file, text) in [
        ("subject.txt.hbs", "Ready"),
        (
            "body.txt.hbs",
            "{{vars.customer}} {{#each files}}{{url}}{{/each}}",
        ),
        (
            "body.html.hbs",
            "<p>{{vars.customer}}</p>{{#each files}}<a href=\"{{link url}}\">x</a>{{/each}}",
        ),
    ] {
        fs::write(template.join(file), text).unwrap();
    }
    let world = world.configured(|config| {
        config.templates.dir = Some(config.state_dir.with_file_name("templates"));
    });
    let checked = Checked::of(&world, &[]);
    let failures = checked.failures();
    assert!(
        failures.len() == 1 && failures[0].contains("customer"),
        "{failures:?}"
    );
}

#[test]
fn an_event_rule_that_promises_more_than_the_credentials_hold_is_a_failure() {
    let long = with("/links", json!({ "expires_in": "6d" }));
    let world = world("**", &long, |config| {
        config.allow[0].max_expires_in = "1d".parse().unwrap();
    });
    let checked = Checked::of(&world, &[]);
    let failures = checked.failures();
    assert!(
        failures.len() == 1 && failures[0].contains("links.expires_in asks for 6d"),
        "{failures:?}"
    );
}
