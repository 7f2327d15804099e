//! Dates in jobs: whose midnight counts, and which texts are filled in.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::program;
use crate::support::world::{World, email_job};

/// Late in the evening by UTC, and the next day in Tokyo.
const EVENING: &str = "2026-11-23T22:00:00Z";

/// A world with a folder for each of the two days, and with Tokyo's clock where jobs name none.
fn tokyo() -> World {
    World::new()
        .object("2026/11/23/old.pdf", "x")
        .object("2026/11/24/new.pdf", "x")
        .configured(|config| config.mail.time_zone = "Asia/Tokyo".to_owned())
}

fn job(id: &str) -> Value {
    let mut job = email_job(id);
    job["scheduled_at"] = json!(EVENING);
    job["from"]["prefix"] = json!("{{year}}/{{month}}/{{day}}/");
    job["email"]["subject"] = json!("Report of {{date}}");
    job
}

fn preview(world: &World, job: &Value) -> Output {
    let file = world.dir.path().join("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let mut handout = Command::new(program());
    handout.args(["job", "preview"]).arg(&file);
    handout.arg("--out").arg(world.dir.path().join("preview"));
    handout
        .arg("--config")
        .arg(world.written())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn folder_and_subject_are_of_the_day_that_it_is_in_the_time_zone_of_the_mail() {
    let mut world = tokyo().job(&job("tokyo"));
    world.run().await;
    let mail = world.mails().remove(0);
    assert_eq!(mail.subject, "Report of 2026-11-24");
    assert!(mail.html.contains("new.pdf") && !mail.html.contains("old.pdf"));
}

#[tokio::test]
async fn a_job_can_have_a_time_zone_of_its_own_and_its_mail_tells_the_time_by_it() {
    let mut order = job("berlin");
    order["time_zone"] = json!("Europe/Berlin");
    let mut world = tokyo().job(&order);
    world.run().await;
    let mail = world.mails().remove(0);
    assert_eq!(mail.subject, "Report of 2026-11-23");
    assert!(mail.html.contains("old.pdf"));
    assert!(mail.html.contains(" CET"), "{}", mail.html);
}

#[tokio::test]
async fn utc_can_be_named() {
    let mut order = job("utc");
    order["from"]["prefix"] = json!("{{utc.year}}/{{utc.month}}/{{utc.day}}/");
    order["email"]["subject"] = json!("{{date}} is {{utc.date}}");
    order["links"] = json!({ "filename": "{{utc.date}} {{object.name}}" });
    order["gallery"] = json!({ "title": "{{date}}", "publish": { "bucket": "published", "prefix": "{{year}}-{{day}}/" } });
    let mut world = tokyo().job(&order);
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mail = world.mails().remove(0);
    assert_eq!(mail.subject, "2026-11-24 is 2026-11-23");
    assert!(world.bucket("published").join("2026-24").is_dir());
}

/// The folder of a recipient's own zone would be another for each: there is one listing.
#[tokio::test]
async fn a_recipients_time_zone_changes_their_times_and_not_the_jobs_dates() {
    let mut order = job("apart");
    order["email"]["to"] = json!([
        "ann@acme.example",
        { "address": "bo@acme.example", "time_zone": "America/New_York" },
    ]);
    let mut world = tokyo().job(&order);
    world.run().await;
    let mails = world.mails();
    assert!(
        mails
            .iter()
            .all(|mail| mail.subject == "Report of 2026-11-24")
    );
    assert!(mails[0].html.contains(" JST"));
    assert!(mails[1].html.contains(" EST"));
}

#[tokio::test]
async fn an_event_in_the_evening_is_of_the_next_day_where_the_job_says_so() {
    let world = World::new().object("in/a.pdf", "x");
    let rule = world.dir.path().join("rule.json");
    let mut template = email_job("upload");
    template["time_zone"] = json!("Asia/Tokyo");
    template["from"] =
        json!({ "connection": "local", "bucket": "reports", "keys": ["{{event.key}}"] });
    template["email"]["subject"] = json!("{{date}} {{utc.date}} {{event.time}}");
    fs::write(&rule, template.to_string()).unwrap();
    let event = json!({ "Records": [{
        "eventName": "ObjectCreated:Put", "eventTime": EVENING,
        "s3": { "bucket": { "name": "reports" }, "object": { "key": "in/a.pdf", "sequencer": "01" } },
    }] });
    let mut world = world
        .configured(|config| {
            config.on_event.push(handout::config::OnEventConfig {
                bucket: "reports".to_owned(),
                key: "in/**".to_owned(),
                events: vec!["ObjectCreated:*".to_owned()],
                job_file: rule,
            });
        })
        .message(&event.to_string());
    world.run().await;
    assert_eq!(
        world.mails()[0].subject,
        format!("2026-11-24 2026-11-23 {EVENING}")
    );
}

#[test]
fn an_id_that_was_to_be_filled_in_is_refused_and_the_sentence_says_what_to_write() {
    for id in [
        "weekly-{{date}}",
        "weekly-{{ year }}-{{week}}",
        "{{customer}}",
        "weekly-}}",
        "daily-<aws.scheduler.scheduled-time>",
    ] {
        let output = preview(&tokyo(), &job(id));
        assert_eq!(output.status.code(), Some(1), "{id}");
        let told = stderr(&output);
        assert!(told.contains("the job's field id holds"), "{id}: {told}");
        assert!(told.contains("weekly-2026-11-23"), "{id}: {told}");
    }
    for id in ["weekly-{1}", "a}b{c", "daily-2026-11-23T06:00:00Z"] {
        let output = preview(&tokyo(), &job(id));
        assert!(output.status.success(), "{id}: {}", stderr(&output));
    }
}

#[test]
fn a_date_without_an_instant_names_the_field_that_it_is_of() {
    for name in ["date", "year", "month", "day", "utc.date", "utc.day"] {
        let mut order = email_job("none");
        order["email"]["subject"] = json!(format!("Of {{{{{name}}}}}"));
        let told = stderr(&preview(&tokyo(), &order));
        assert!(
            told.contains(&format!(
                "uses {{{{{name}}}}}, which is a part of scheduled_at"
            )),
            "{told}"
        );
    }
}

#[test]
fn a_time_zone_that_is_none_is_refused_by_its_field() {
    let mut order = job("mars");
    order["time_zone"] = json!("Mars/Base");
    let output = preview(&tokyo(), &order);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the job's field time_zone"),
        "{}",
        stderr(&output)
    );
}
