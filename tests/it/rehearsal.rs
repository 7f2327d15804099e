//! `handout job run --rehearse`: the real mails of a job, all to one address, and nothing of it counts for the job.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::support::world::{World, email_job};
use crate::support::{program, until};

/// Those in `to` and the one in `cc`, who gets a mail of the same kind.
const PEOPLE: [&str; 4] = [
    "ann@acme.example",
    "bo@acme.example",
    "boss@acme.example",
    "cy@acme.example",
];

/// A job with a mail and links of their own for three people.
fn job() -> Value {
    let mut job = email_job("weekly");
    job["email"]["to"] = json!([PEOPLE[0], PEOPLE[1], PEOPLE[3]]);
    job["email"]["cc"] = json!([PEOPLE[2]]);
    job["email"]["reply_to"] = json!("desk@acme.example");
    job["email"]["list_id"] = json!("Reports <reports.acme.example>");
    job
}

fn run(world: &World, job: &Value, words: &[&str]) -> Output {
    let file = world.dir.path().join("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let mut handout = Command::new(program());
    handout.args(["job", "run"]).arg(file).args(words);
    handout.arg("--config").arg(world.written());
    handout.output().unwrap()
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn world() -> World {
    let world = World::new().object("a.pdf", "x").object("b.pdf", "y");
    world.configured(|config| {
        config.mail.list.unsubscribe_mailto = Some("leave@sender.example".to_owned());
    })
}

#[test]
fn a_rehearsal_sends_each_real_mail_to_one_address_and_leaves_the_job_to_be_done() {
    let world = world();
    let to_me = ["--rehearse", "Me <me@other.example>"];
    for round in 1..=2 {
        let said = stdout(&run(&world, &job(), &to_me));
        assert!(
            said.contains("4 accepted, 0 rejected, 0 in doubt"),
            "{said}"
        );
        assert!(
            said.contains("all mails went to me@other.example"),
            "{said}"
        );
        assert_eq!(
            world.mails().len(),
            4 * round,
            "a second rehearsal sends again"
        );
    }
    let mails = world.mails();
    for (person, mail) in PEOPLE.iter().zip(&mails) {
        assert_eq!(mail.to, "me@other.example");
        let headers = mail.eml.split("\r\n\r\n").next().unwrap();
        assert!(
            headers.contains("To: Me <me@other.example>\r\n"),
            "{headers}"
        );
        assert!(
            headers.contains("Reply-To: desk@acme.example\r\n"),
            "{headers}"
        );
        for name in ["Cc:", "List-Unsubscribe", "List-Id"] {
            assert!(!headers.contains(name), "{name}: {headers}");
        }
        let of_person = mails
            .iter()
            .filter(|mail| mail.subject.starts_with(&format!("[{person}] Report")));
        assert_eq!(of_person.count(), 2, "{person}: {:?}", mail.subject);
        assert_eq!(mail.hrefs.len(), 2, "real links");
    }
    // Real links have their lines, and none of the lines is about the job itself.
    let issued = world.audit_of("issue");
    assert_eq!(issued.len(), 2 * 4 * 2);
    let outcomes = world.audit_of("outcome");
    assert_eq!(outcomes.len(), 8);
    for line in issued.iter().chain(&outcomes) {
        let id = line["job"].as_str().unwrap();
        assert!(id.starts_with("weekly.rehearsal."), "{line}");
    }
    let rehearsed_to = &outcomes[0]["rehearsed_to"];
    assert!(rehearsed_to.is_string(), "{}", outcomes[0]);
    let is_to_me =
        |line: &Value| &line["rehearsed_to"] == rehearsed_to && &line["rid"] != rehearsed_to;
    assert!(outcomes.iter().all(is_to_me), "{outcomes:?}");

    let said = stdout(&run(&world, &job(), &[]));
    assert!(said.starts_with("weekly is done."), "{said}");
    let real = world.mails();
    let real: Vec<_> = real
        .iter()
        .filter(|mail| mail.to != "me@other.example")
        .collect();
    assert_eq!(real.len(), 4);
    for (person, mail) in PEOPLE.iter().zip(real) {
        assert_eq!(mail.to, *person);
        assert_eq!(mail.subject, "Report weekly");
        assert!(mail.eml.contains("List-Unsubscribe:"), "{}", mail.eml);
    }
    // Streams of one second have no order among their names.
    let outcomes = world.audit_of("outcome");
    let of_job: Vec<&Value> = outcomes
        .iter()
        .filter(|line| line["job"] == "weekly")
        .collect();
    assert_eq!(of_job.len(), 4, "{outcomes:?}");
    let is_real = |line: &&Value| line["rehearsed_to"].is_null();
    assert!(of_job.iter().all(is_real), "{of_job:?}");
}

#[test]
fn a_rehearsal_of_a_plain_job_may_be_for_its_first_recipients() {
    let world = world();
    for (number, all) in [("1", 1), ("4", 5), ("100", 9)] {
        let words = ["--rehearse", "me@acme.example", "--mails", number];
        stdout(&run(&world, &job(), &words));
        assert_eq!(world.mails().len(), all, "--mails {number}");
    }
    assert!(
        world.mails()[0]
            .subject
            .starts_with(&format!("[{}] Report", PEOPLE[0]))
    );
    // The recipients that it leaves out are judged all the same.
    let mut denied = job();
    denied["email"]["to"] = json!([PEOPLE[0], "eve@elsewhere.example"]);
    let words = ["--rehearse", "me@acme.example", "--mails", "1"];
    assert_eq!(run(&world, &denied, &words).status.code(), Some(1));
    assert_eq!(world.mails().len(), 9);
}

#[test]
fn what_the_rules_do_not_allow_is_not_rehearsed() {
    let mut job = job();
    job["email"]["to"] = json!(["eve@elsewhere.example"]);
    let world = world();
    let refused = run(&world, &job, &["--rehearse", "me@acme.example"]);
    assert!(!refused.status.success());
    assert!(world.mails().is_empty());
}

#[test]
fn a_rehearsal_without_a_mail_or_with_a_bad_address_is_refused() {
    let mut page = job();
    page.as_object_mut().unwrap().remove("email");
    page["manifest"] = json!({ "publish": { "dir": "/srv/pages" } });
    for (job, address, words) in [
        (&page, "me@acme.example", "no `email`"),
        (&job(), "me@", "--rehearse"),
        (&job(), "me@acme.example\nBcc: eve@x.example", "--rehearse"),
    ] {
        let world = world();
        let refused = run(&world, job, &["--rehearse", address]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(words), "{said}");
        assert!(world.mails().is_empty());
    }
}

/// The longest id leaves room for the end of a rehearsal's.
#[test]
fn a_job_with_the_longest_id_can_be_rehearsed() {
    let mut job = job();
    job["id"] = json!("ä".repeat(128));
    let world = world();
    stdout(&run(&world, &job, &["--rehearse", "me@acme.example"]));
    assert_eq!(world.mails().len(), 4);
}

/// A daemon has the directory for itself, and makes the rehearsal that a command puts on its queue.
#[tokio::test]
async fn a_rehearsal_is_made_by_the_daemon_that_runs() {
    let world = world();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let file = world.dir.path().join("job.json");
    fs::write(&file, job().to_string()).unwrap();
    let command = |words: &[&str], address: &str| {
        let mut handout = Command::new(program());
        handout.args(words).arg(&file).args(["--rehearse", address]);
        handout.arg("--config").arg(&config).output().unwrap()
    };
    let locked = command(&["job", "run"], "me@acme.example");
    assert_eq!(locked.status.code(), Some(73));
    let told = String::from_utf8_lossy(&locked.stderr).into_owned();
    assert!(
        told.contains("`handout job submit --rehearse ADDRESS`"),
        "{told}"
    );
    let stranger = command(&["job", "submit"], "me@other.example");
    assert_eq!(stranger.status.code(), Some(1));
    let told = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(told.contains("do not let a rehearsal go to"), "{told}");
    for round in 1..=2 {
        let said = stdout(&command(&["job", "submit"], "Me <me@acme.example>"));
        assert!(said.contains("submitted weekly.rehearsal."), "{said}");
        until("the mails", async || {
            (world.mails().len() >= 4 * round).then_some(())
        })
        .await;
    }
    let mails = world.mails();
    assert_eq!(mails.len(), 8);
    assert!(mails.iter().all(|mail| mail.to == "me@acme.example"));
    for person in PEOPLE {
        let begin = format!("[{person}] ");
        let of_person = mails.iter().filter(|mail| mail.subject.starts_with(&begin));
        assert_eq!(of_person.count(), 2, "{person}");
    }
    daemon.stops(&config).await;
    // The job itself is done as if there had been no rehearsal.
    stdout(&run(&world, &job(), &[]));
    let mails = world.mails();
    assert_eq!(mails.len(), 12);
    let to_me = mails.iter().filter(|mail| mail.to == "me@acme.example");
    assert_eq!(to_me.count(), 8);
}

/// Of a job in parts, the first are rehearsed, and the number is the operator's.
#[test]
fn a_job_in_parts_is_rehearsed_with_as_many_as_are_wanted() {
    let world = World::new().object("1/a.pdf", "x");
    let person =
        |n: usize| json!({ "address": format!("p{n}@acme.example"), "vars": { "c": "1" } });
    let mut job = email_job("parts");
    job["from"]["prefix"] = json!("{{recipient.vars.c}}/");
    job["email"]["to"] = json!((0..14).map(person).collect::<Vec<_>>());
    let to_me = ["--rehearse", "me@acme.example", "--mails"];
    stdout(&run(&world, &job, &[&to_me[..], &["12"]].concat()));
    assert_eq!(world.mails().len(), 12);
    stdout(&run(&world, &job, &to_me[..2]));
    assert_eq!(world.mails().len(), 12 + 10);
    for number in ["0", "101", "x"] {
        let refused = run(&world, &job, &[&to_me[..], &[number]].concat());
        assert_eq!(refused.status.code(), Some(64), "{number}");
    }
    let alone = run(&world, &job, &["--mails", "3"]);
    assert_eq!(alone.status.code(), Some(64));
}
