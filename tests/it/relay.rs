//! Real SMTP to a real server, well-behaved and not.

mod about_us;
mod habits;
mod passwords;
mod sessions;

use std::fs;
use std::path::Path;
use std::process::Command;

use handout::clock;
use handout::config::{Tls, Transport};
use handout::ledger::lease::Owner;
use handout::ledger::notices::NoticeRecords;
use handout::ledger::{Created, Kind, Record};
use serde_json::{Value, json};

use crate::support::program;
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job, free_address, run_until_settled};

/// A relay with a certificate of its own authority, where handout may log in.
struct Relay {
    parts: Parts,
    dir: tempfile::TempDir,
    server: Server,
}

impl Relay {
    fn start(parts: &Parts, options: &[&str], script: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        parts.make_ca(dir.path());
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        fs::write(dir.path().join("script.json"), script.to_string()).unwrap();
        fs::write(dir.path().join("password"), "correct horse\n").unwrap();
        let (maildir, script, certificate, key) = (
            path("mail"),
            path("script.json"),
            path("server.pem"),
            path("server.key"),
        );
        let mut arguments = vec!["--maildir", &maildir, "--script", &script];
        let tls = if options.contains(&"--implicit-tls") {
            "--implicit-tls"
        } else {
            "--starttls"
        };
        if !options.contains(&"--plain") {
            arguments.extend([
                tls,
                &certificate,
                &key,
                "--auth",
                "handout",
                "correct horse",
            ]);
        }
        let server = parts.start("smtp_sink.py", &arguments);
        Self {
            parts: parts.clone(),
            dir,
            server,
        }
    }

    /// A world whose mails go through this relay.
    fn world(&self) -> World {
        let ca = self.dir.path().join("ca.pem");
        let password = self.dir.path().join("password");
        let port = self.server.port;
        World::new()
            .object("a b.pdf", "x")
            .configured(move |config| {
                config.mail.transport = Transport::Smtp;
                config.mail.from = "Reports <reports@sender.example>".to_owned();
                let smtp = &mut config.mail.smtp;
                (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), port, Tls::Starttls);
                (smtp.username, smtp.password_file) = (Some("handout".to_owned()), Some(password));
                smtp.ca_file = Some(ca);
            })
    }

    /// The mails that the relay took, as an independent parser reads them, with their envelopes.
    fn mails(&self) -> Vec<(Value, Value)> {
        let maildir = self.dir.path().join("mail");
        let mut paths: Vec<_> = fs::read_dir(maildir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
        paths.sort();
        paths
            .iter()
            .map(|path| (self.parse(path), read_json(&path.with_extension("json"))))
            .collect()
    }

    fn parse(&self, path: &Path) -> Value {
        let output = run(self.parts.script("parse_mail.py").arg(path));
        serde_json::from_slice(&output).unwrap()
    }
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_mail_arrives_over_starttls_and_reads_well() {
    let Some(parts) = Parts::or_skip("a_mail_arrives_over_starttls") else {
        return;
    };
    let relay = Relay::start(&parts, &[], &json!([]));
    let mut job = email_job("daily");
    job["email"]["to"] = json!([{ "address": "ann@acme.example", "name": "Änn \"Bell\"" }]);
    job["email"]["reply_to"] = json!("Desk <desk@sender.example>");
    job["email"]["subject"] = json!("Täglicher Bericht 🎉");
    let mut world = relay.world().job(&job);
    world.run().await;
    let mails = relay.mails();
    let [(mail, envelope)] = mails.as_slice() else {
        panic!("{} mails, parked {:?}", mails.len(), world.parked().await)
    };
    assert_eq!(
        (&envelope["tls"], &envelope["authenticated"]),
        (&json!(true), &json!(true)),
        "{envelope}"
    );
    assert_eq!(
        (&envelope["from"], &envelope["to"]),
        (
            &json!("reports@sender.example"),
            &json!(["ann@acme.example"])
        )
    );
    assert_eq!(mail["subject"], "Täglicher Bericht 🎉");
    assert_eq!(mail["defects"], json!([]));
    assert!(mail["max_line_octets"].as_u64().unwrap() <= 998);
    assert_eq!(mail["hrefs"].as_array().unwrap().len(), 1);
    assert!(
        mail["text"]
            .as_str()
            .unwrap()
            .contains(mail["hrefs"][0].as_str().unwrap()),
        "both parts have the same link"
    );
    let ledger = world.audit_of("outcome");
    assert_eq!(
        (&ledger[0]["outcome"], &ledger[0]["code"]),
        (&json!("accepted"), &json!(250))
    );
}

#[tokio::test]
async fn implicit_tls_works_too() {
    let Some(parts) = Parts::or_skip("implicit_tls_works_too") else {
        return;
    };
    let relay = Relay::start(&parts, &["--implicit-tls"], &json!([]));
    let mut world = relay
        .world()
        .configured(|config| config.mail.smtp.tls = Tls::Implicit)
        .job(&email_job("daily"));
    world.run().await;
    assert_eq!(relay.mails().len(), 1);
}

#[tokio::test]
async fn one_refused_recipient_does_not_keep_the_others_waiting() {
    let Some(parts) = Parts::or_skip("one_refused_recipient") else {
        return;
    };
    let relay = Relay::start(
        &parts,
        &[],
        &json!([
            { "verb": "RCPT", "match": "gone@", "reply": "550 5.1.1 <gone@acme.example>: no such user" },
            { "verb": "DOT", "match": "spam@", "reply": "554 5.7.1 looks like spam" },
        ]),
    );
    let mut job = email_job("daily");
    job["email"]["to"] = json!([
        "ann@acme.example",
        "gone@acme.example",
        "spam@acme.example",
        "bo@acme.example"
    ]);
    let mut world = relay.world().job(&job);
    world.run().await;
    assert_eq!(relay.mails().len(), 2);
    assert_eq!(world.waiting().await, 0, "a refusal is an end");
    let mut outcomes: Vec<String> = world
        .audit_of("outcome")
        .iter()
        .map(|line| format!("{} {}", line["outcome"].as_str().unwrap(), line["code"]))
        .collect();
    outcomes.sort();
    assert_eq!(
        outcomes,
        [
            "accepted 250",
            "accepted 250",
            "rejected 550",
            "rejected 554"
        ]
    );
}

/// What the relay says → how many mails it has after one run, and what the job then waits for.
#[tokio::test]
async fn whatever_the_relay_does_nothing_is_lost_and_only_a_doubt_is_sent_again() {
    let Some(parts) = Parts::or_skip("whatever_the_relay_does") else {
        return;
    };
    // A connection that is there before the mail, and is gone then, is replaced once: so it is gone twice.
    let habits = [
        (
            "greylisted",
            json!({ "verb": "RCPT", "reply": "451 4.7.1 try later", "times": 1 }),
        ),
        (
            "throttled after the text",
            json!({ "verb": "DOT", "reply": "454 4.7.0 Throttling failure", "times": 1 }),
        ),
        (
            "busy at DATA",
            json!({ "verb": "DATA", "reply": "452 4.3.1 full", "times": 1 }),
        ),
        (
            "gone at MAIL",
            json!({ "verb": "MAIL", "action": "abort", "times": 2 }),
        ),
        (
            "gone at RCPT",
            json!({ "verb": "RCPT", "action": "abort", "times": 2 }),
        ),
        (
            "gone at DATA",
            json!({ "verb": "DATA", "action": "abort", "times": 2 }),
        ),
        (
            "gone after the text",
            json!({ "verb": "DOT", "action": "abort", "times": 1 }),
        ),
        (
            "closing",
            json!({ "verb": "CONNECT", "reply": "421 4.3.2 closing", "times": 1 }),
        ),
        (
            "taken, and the reply lost",
            json!({ "verb": "DOT", "action": "abort-after-store", "times": 1 }),
        ),
    ];
    for (what, rule) in habits {
        let relay = Relay::start(&parts, &[], &json!([rule]));
        let mut world = relay.world().job(&email_job("daily"));
        world.run().await;
        let lost_reply = what == "taken, and the reply lost";
        assert_eq!(
            relay.mails().len(),
            usize::from(lost_reply),
            "{what}: after the first attempt"
        );
        assert_eq!(
            world.waiting().await,
            1,
            "{what}: the job comes back: {:?}",
            world.parked().await
        );
        // The message is hidden for its back-off; the same job submitted again is the same job.
        world = world.job(&email_job("daily"));
        world.run().await;
        let mails = relay.mails();
        assert_eq!(
            mails.len(),
            1 + usize::from(lost_reply),
            "{what}: after the second attempt"
        );
        let ids: std::collections::HashSet<_> = mails
            .iter()
            .map(|(mail, _)| mail["headers"]["message-id"].to_string())
            .collect();
        assert_eq!(
            ids.len(),
            1,
            "{what}: the same mail has the same Message-ID"
        );
        world = world.job(&email_job("daily"));
        world.run().await;
        assert_eq!(
            relay.mails().len(),
            mails.len(),
            "{what}: what is done stays done"
        );
    }
}

#[tokio::test]
async fn a_refusal_that_is_about_us_is_unusable_end() {
    let Some(parts) = Parts::or_skip("a_refusal_that_is_about_us") else {
        return;
    };
    for rule in [
        json!({ "verb": "MAIL", "reply": "550 5.7.60 sender not authorised", "times": 1 }),
        json!({ "verb": "RCPT", "reply": "530 5.7.0 Authentication required", "times": 1 }),
    ] {
        let relay = Relay::start(&parts, &[], &json!([rule]));
        let mut world = relay.world().job(&email_job("daily"));
        world.run().await;
        assert_eq!(
            (world.waiting().await, world.audit_of("outcome").len()),
            (1, 0),
            "{rule}"
        );
        world = world.job(&email_job("daily"));
        world.run().await;
        assert_eq!(relay.mails().len(), 1, "{rule}");
    }
}

#[tokio::test]
async fn a_relay_that_says_later_ever_so_often_gets_the_mail_in_the_end() {
    let Some(parts) = Parts::or_skip("a_relay_that_says_later") else {
        return;
    };
    let rule = json!([{ "verb": "DOT", "reply": "454 4.7.0 Throttling failure", "times": 7 }]);
    let relay = Relay::start(&parts, &[], &rule);
    let mut world = relay.world();
    for _ in 0..8 {
        assert_eq!(relay.mails().len(), 0);
        world = world.job(&email_job("daily"));
        world.run().await;
    }
    assert_eq!(relay.mails().len(), 1);
}

#[tokio::test]
async fn with_hold_a_doubt_is_not_sent_again() {
    use handout::config::OnDoubt;
    let Some(parts) = Parts::or_skip("with_hold") else {
        return;
    };
    let rule = json!([{ "verb": "DOT", "action": "abort-after-store", "times": 1 }]);
    let relay = Relay::start(&parts, &[], &rule);
    let mut world = relay
        .world()
        .configured(|config| config.ledger.on_doubt = OnDoubt::Hold)
        .job(&email_job("daily"));
    world.run().await;
    world = world.job(&email_job("daily"));
    world.run().await;
    assert_eq!(relay.mails().len(), 1);
    assert_eq!(world.waiting().await, 0);
    assert_eq!(world.audit_of("outcome")[0]["outcome"], "unknown");
}

#[tokio::test]
async fn a_relay_that_cannot_be_trusted_or_logged_into_gets_no_mail() {
    let Some(parts) = Parts::or_skip("a_relay_that_cannot_be_trusted") else {
        return;
    };
    let relay = Relay::start(&parts, &[], &json!([]));
    let other_ca = relay.dir.path().join("other-ca.pem");
    let wrong = relay.dir.path().join("wrong");
    fs::write(&wrong, "wrong\n").unwrap();
    let mut untrusted = relay
        .world()
        .configured(move |config| config.mail.smtp.ca_file = Some(other_ca))
        .job(&email_job("a"));
    untrusted.run().await;
    assert_eq!(untrusted.waiting().await, 1);
    let mut stranger = relay
        .world()
        .configured(move |config| config.mail.smtp.password_file = Some(wrong))
        .job(&email_job("b"));
    stranger.run().await;
    assert_eq!(stranger.waiting().await, 1);
    assert_eq!(relay.mails().len(), 0);
    let plain = Relay::start(&parts, &["--plain"], &json!([]));
    let mut unencrypted = plain.world().job(&email_job("c"));
    unencrypted.run().await;
    assert_eq!(
        (plain.mails().len(), unencrypted.waiting().await),
        (0, 1),
        "STARTTLS is required"
    );
}

/// The addresses to which the relay took mails, in order.
fn takers(relay: &Relay) -> Vec<String> {
    let to = |(_, envelope): (Value, Value)| envelope["to"][0].as_str().unwrap().to_owned();
    let mut takers: Vec<String> = relay.mails().into_iter().map(to).collect();
    takers.sort();
    takers
}

fn job_for(id: &str, to: &[&str]) -> Value {
    let mut job = email_job(id);
    job["email"]["to"] = json!(to);
    job
}

/// Runs `handout job resend --failed -- ID`; whether it did something, and what it said.
fn resend(world: &World, id: &str) -> (bool, String) {
    let output = Command::new(program())
        .args(["job", "resend", "--failed", "--config"])
        .arg(world.written())
        .args(["--", id])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said + &wrong)
}

#[tokio::test]
async fn the_operator_is_told_once_of_those_who_were_refused() {
    let Some(parts) = Parts::or_skip("the_operator_is_told_once") else {
        return;
    };
    let rule = json!([{ "verb": "RCPT", "match": "gone@", "reply": "550 5.1.1 <gone@acme.example>: no such user 'gone' here, Gloria" }]);
    let relay = Relay::start(&parts, &[], &rule);
    let gone = "Gloria Gone <gone@acme.example>";
    let job = job_for("daily", &["ann@acme.example", gone]);
    let mut world = relay
        .world()
        .configured(|config| config.mail.notify = Some("ops@sender.example".to_owned()))
        .job(&job)
        .job(&email_job("harmless"));
    world.run().await;
    // The message comes again, as messages do.
    world = world.job(&job);
    world.run().await;
    let mut told = relay.mails();
    told.retain(|(_, envelope)| envelope["to"][0] == "ops@sender.example");
    let [(notice, _)] = told.as_slice() else {
        panic!("{} notices", told.len())
    };
    assert_eq!(
        notice["headers"]["auto-submitted"],
        json!(["auto-generated"])
    );
    assert_eq!(notice["subject"], "1 of 2 mails failed or in doubt: daily");
    let text = notice["text"].as_str().unwrap();
    assert!(text.contains("gone@acme.example"), "{text}");
    assert!(
        text.contains("550 5.1.1 (address) no such user (hidden) here, (hidden)"),
        "{text}"
    );
    assert!(
        text.contains("handout job resend --failed -- 'daily'"),
        "{text}"
    );
    assert!(!text.contains("ann@acme.example"), "{text}");
}

#[tokio::test]
async fn a_notice_that_a_killed_process_owed_is_sent_once() {
    let Some(parts) = Parts::or_skip("a_notice_that_a_killed_process_owed") else {
        return;
    };
    let rule = json!([{ "verb": "RCPT", "match": "gone@", "reply": "550 5.1.1 no such user" }]);
    let relay = Relay::start(&parts, &[], &rule);
    let jobs = ["owed", "of-an-earlier-version"].map(|id| job_for(id, &["gone@acme.example"]));
    let mut world = relay.world().job(&jobs[0]).job(&jobs[1]);
    world.run().await;
    // Both processes were killed in the moment before the notice left.
    let opened = world.open().await;
    for (id, body) in [
        ("owed", NoticeRecords::body(&Owner::new(), clock::system())),
        ("of-an-earlier-version", json!({ "at": clock::system() })),
    ] {
        let notified = Record::new(&id.parse().unwrap(), "", 0, Kind::Notified, body);
        let ledger = &opened.services.recording.ledger;
        assert_eq!(ledger.create(notified).await.unwrap(), Created::Ours);
    }
    opened.close().await;
    world = world.configured(|config| config.mail.notify = Some("ops@sender.example".to_owned()));
    for _ in 0..2 {
        world = world.job(&jobs[0]).job(&jobs[1]);
        world.run().await;
    }
    let mut told = relay.mails();
    told.retain(|(_, envelope)| envelope["to"][0] == "ops@sender.example");
    let [(notice, _)] = told.as_slice() else {
        panic!("{} notices", told.len())
    };
    assert_eq!(notice["subject"], "1 of 1 mail failed or in doubt: owed");
}

#[tokio::test]
async fn an_operator_who_cannot_be_told_is_no_reason_to_fail() {
    let Some(parts) = Parts::or_skip("an_operator_who_cannot_be_told") else {
        return;
    };
    let rule = json!([
        { "verb": "RCPT", "match": "gone@", "reply": "550 5.1.1 no such user" },
        { "verb": "RCPT", "match": "ops@", "reply": "550 5.1.1 no such user" },
    ]);
    let relay = Relay::start(&parts, &[], &rule);
    let mut world = relay
        .world()
        .configured(|config| config.mail.notify = Some("ops@sender.example".to_owned()))
        .job(&job_for("daily", &["gone@acme.example"]));
    world.run().await;
    assert_eq!((relay.mails().len(), world.waiting().await), (0, 0));
    assert!(world.parked().await.is_empty());
}

#[tokio::test]
async fn resend_serves_those_who_failed_and_nobody_else() {
    let Some(parts) = Parts::or_skip("resend_serves_those_who_failed") else {
        return;
    };
    let rule = json!([
        { "verb": "RCPT", "match": "bo@", "reply": "550 5.1.1 no such user", "times": 1 },
        { "verb": "DOT", "match": "cy@", "action": "abort-after-store", "times": 1 },
    ]);
    let relay = Relay::start(&parts, &[], &rule);
    let (ann, bo, cy) = ("ann@acme.example", "bo@acme.example", "cy@acme.example");
    let mut world = relay
        .world()
        .configured(|config| config.ledger.on_doubt = handout::config::OnDoubt::Hold)
        .job(&job_for("daily", &[ann, bo, cy]));
    world.run().await;
    assert_eq!(takers(&relay), [ann, cy]);
    let (did, said) = resend(&world, "daily");
    assert!(did && said.contains("2 of daily get it again."), "{said}");
    assert_eq!(takers(&relay), [ann, bo, cy, cy]);
    let ids = |mails: Vec<(Value, Value)>| -> std::collections::HashSet<String> {
        let of_cy = mails
            .into_iter()
            .filter(|(_, envelope)| envelope["to"][0] == cy);
        of_cy
            .map(|(mail, _)| mail["headers"]["message-id"].to_string())
            .collect()
    };
    assert_eq!(
        ids(relay.mails()).len(),
        1,
        "the same mail has the same Message-ID"
    );
    let attempts = world.audit_of("outcome");
    let second = attempts.iter().filter(|line| line["n"] == 1).count();
    assert_eq!((attempts.len(), second), (5, 2));
    let (did, said) = resend(&world, "daily");
    assert!(
        !did && said.contains("no recipient of daily was rejected"),
        "{said}"
    );
    let (did, said) = resend(&world, "unheard-of");
    assert!(!did && said.contains("knows no job unheard-of"), "{said}");
    assert_eq!(relay.mails().len(), 4);
}

#[tokio::test]
async fn where_a_daemon_works_resend_gives_it_the_job() {
    let Some(parts) = Parts::or_skip("where_a_daemon_works") else {
        return;
    };
    let rule = json!([{ "verb": "RCPT", "match": "bo@", "reply": "550 5.1.1 no", "times": 1 }]);
    let relay = Relay::start(&parts, &[], &rule);
    let mut world = relay.world().job(&job_for("daily", &["bo@acme.example"]));
    world.run().await;
    let opened = world.open().await;
    let (did, said) = resend(&world, "daily");
    assert!(did && said.contains("on the queue as message"), "{said}");
    assert_eq!(relay.mails().len(), 0);
    run_until_settled(&opened, 1).await;
    opened.close().await;
    assert_eq!(takers(&relay), ["bo@acme.example"]);
}

#[tokio::test]
async fn resend_goes_on_after_its_own_failure() {
    let Some(parts) = Parts::or_skip("resend_goes_on_after_its_own_failure") else {
        return;
    };
    let rule = json!([{ "verb": "RCPT", "match": "bo@", "reply": "550 5.1.1 no", "times": 1 }]);
    let relay = Relay::start(&parts, &[], &rule);
    let mut world = relay.world().job(&job_for("daily", &["bo@acme.example"]));
    world.run().await;
    let Relay { server, dir, .. } = relay;
    drop(server);
    for waiting in [1, 2] {
        let (did, said) = resend(&world, "daily");
        assert!(did && said.contains("1 of daily get it again."), "{said}");
        assert!(
            said.contains("The job failed and will be retried")
                && said.contains("on the queue as message"),
            "{said}"
        );
        assert_eq!(world.waiting().await, waiting, "a second one is harmless");
    }
    drop(dir);
}

#[tokio::test]
async fn whoever_was_told_to_come_later_is_not_asked_for_too_soon() {
    let Some(parts) = Parts::or_skip("whoever_was_told_to_come_later") else {
        return;
    };
    let rule =
        json!([{ "verb": "RCPT", "match": "bo@", "reply": "451 4.7.1 greylisted", "times": 1 }]);
    let relay = Relay::start(&parts, &[], &rule);
    let job = job_for("daily", &["ann@acme.example", "bo@acme.example"]);
    let world = relay.world();
    let opened = world.open().await;
    opened.queue.submit(&job.to_string()).await.unwrap();
    run_until_settled(&opened, 1).await;
    assert_eq!(takers(&relay), ["ann@acme.example"]);
    let links = world.audit_of("issue").len();
    opened.queue.submit(&job.to_string()).await.unwrap();
    run_until_settled(&opened, 2).await;
    opened.close().await;
    assert_eq!(
        takers(&relay),
        ["ann@acme.example"],
        "a second attempt would have been taken"
    );
    assert_eq!(
        world.audit_of("issue").len(),
        links,
        "nor is a link made for it"
    );
    let mut world = world.job(&job);
    world.run().await;
    assert_eq!(takers(&relay), ["ann@acme.example", "bo@acme.example"]);
}

#[tokio::test]
async fn later_for_ever_is_a_no_in_the_end() {
    use handout::ledger::sqlite::SqliteLedger;
    use handout::ledger::{Kind, Ledger, Record};
    let Some(parts) = Parts::or_skip("later_for_ever_is_a_no") else {
        return;
    };
    let rule = json!([
        { "verb": "RCPT", "match": "bo@", "reply": "451 4.3.0 later" },
        { "verb": "DOT", "match": "cy@", "reply": "451 4.4.0 later" },
    ]);
    let relay = Relay::start(&parts, &[], &rule);
    let job = job_for(
        "daily",
        &["ann@acme.example", "bo@acme.example", "cy@acme.example"],
    );
    let world = relay.world();
    fs::create_dir_all(&world.config.state_dir).unwrap();
    let database = handout::database::Database::open(&world.config.database_file()).unwrap();
    let ledger = SqliteLedger::new(database, clock::system);
    let begun = json!({
        "body_sha256": handout::keyring::sha256_hex(job.to_string().as_bytes()),
        "begun_at": "2026-01-01T00:00:00Z",
    });
    let plan = Record::new(&"daily".parse().unwrap(), "", 0, Kind::Plan, begun);
    ledger.create(plan).await.unwrap();
    drop(ledger);
    let opened = world.open().await;
    let mut submitted = 0;
    let mut submit = async |job: &Value| {
        opened.queue.submit(&job.to_string()).await.unwrap();
        submitted += 1;
        run_until_settled(&opened, submitted).await;
    };
    // Nobody else is served meanwhile: as far as anybody can tell, the relay is down.
    for _ in 0..3 {
        submit(&job).await;
    }
    let rejected = || {
        let outcomes = world.audit_of("outcome").into_iter();
        let rejected = outcomes.filter(|line| line["outcome"] == "rejected");
        rejected
            .map(|line| line["code"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(rejected(), [0; 0]);
    submit(&job_for("other", &["ann@acme.example"])).await;
    submit(&job).await;
    opened.close().await;
    assert_eq!(relay.mails().len(), 2);
    assert_eq!(rejected(), [451, 451]);
}

#[tokio::test]
async fn a_job_goes_through_the_relay_that_it_names_if_its_rule_lets_it() {
    let Some(parts) = Parts::or_skip("a_job_goes_through_the_relay") else {
        return;
    };
    let (first, second) = (
        Relay::start(&parts, &[], &json!([])),
        Relay::start(&parts, &[], &json!([])),
    );
    let through = |relay: &str| {
        let mut job = email_job(relay);
        job["email"]["relay"] = json!(relay);
        job
    };
    let other = second.world().config.mail.smtp;
    let mut world = first
        .world()
        .configured(|config| {
            config.mail.relays.insert("bulk".to_owned(), other);
            config.allow[0].relays = vec!["default".to_owned(), "bulk".to_owned()];
        })
        .job(&email_job("any"))
        .job(&through("default"))
        .job(&through("bulk"))
        .job(&through("other"));
    world.run().await;
    assert_eq!((first.mails().len(), second.mails().len()), (2, 1));
    let parked = world.parked().await;
    assert!(
        parked.len() == 1
            && parked[0]
                .contains("through the relay other (email.relay); configured: default, bulk"),
        "{parked:?}"
    );
}

#[tokio::test]
async fn check_looks_at_each_relay() {
    let Some(parts) = Parts::or_skip("check_looks_at_each_relay") else {
        return;
    };
    let relay = Relay::start(&parts, &[], &json!([]));
    let world = relay.world().configured(|config| {
        let nowhere = free_address();
        let mut dead = config.mail.smtp.clone();
        (dead.host, dead.port) = (nowhere.ip().to_string(), nowhere.port());
        config.mail.relays.insert("dead".to_owned(), dead);
        let alive = config.mail.smtp.clone();
        config.mail.relays.insert("alive".to_owned(), alive);
    });
    let output = Command::new(program())
        .args(["check", "--config"])
        .arg(world.written())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = |what: &str| {
        said.lines()
            .find(|line| line.split_whitespace().nth(1) == Some(what))
            .unwrap_or_default()
    };
    assert!(line("mail.smtp").starts_with("ok"), "{said}");
    assert!(line("mail.relays.alive").starts_with("ok"), "{said}");
    let dead = line("mail.relays.dead");
    assert!(
        dead.starts_with("FAIL") && dead.contains("could not be reached"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// A message that was saved for a resend would be the job itself, and a worker would mail its recipients.
#[tokio::test]
async fn a_rehearsal_that_the_relay_rejected_is_not_resent_to_the_real_recipients() {
    let Some(parts) = Parts::or_skip("a_rehearsal_that_the_relay_rejected") else {
        return;
    };
    let rule = json!([{ "verb": "RCPT", "match": "me@", "reply": "550 5.1.1 no such user" }]);
    let relay = Relay::start(&parts, &[], &rule);
    let world = relay.world();
    let file = world.dir.path().join("rehearsed.json");
    fs::write(&file, job_for("daily", &["ann@acme.example"]).to_string()).unwrap();
    let output = Command::new(program())
        .args(["job", "run", "--rehearse", "me@acme.example", "--config"])
        .arg(world.written())
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 rejected"), "{said}");
    assert!(!said.contains("job resend"), "{said}");
    let id = said.split(' ').next().unwrap();
    assert!(id.starts_with("daily.rehearsal."), "{said}");
    let (did, said) = resend(&world, id);
    assert!(!did && said.contains("is not stored"), "{said}");
    assert_eq!((relay.mails().len(), world.waiting().await), (0, 0));
}
