//! Bounces, complaints and leaving, with real parts: SQS of moto, a real SMTP server, daemons that are killed, and a portal that is served.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use handout::config::{Tls, Transport};
use handout::keyring::{Keyring, Purpose};
use handout::person_token::{PersonKeys, PersonTokenKind};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::check::KEYS;
use crate::conformance::{make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::docs::page;
use crate::support::portal::{Visitor, portal_world};
use crate::support::servers::{Parts, Server};
use crate::support::world::{SeenMail, World, email_job};
use crate::support::{get, program, until};

const ANN: &str = "ann@acme.example";

/// The longest time from an event to the next job that refuses.
const SOON: Duration = Duration::from_secs(5);

pub(crate) fn handout(world: &World, words: &[&str], stdin: &[u8]) -> Output {
    let mut handout = Command::new(program());
    handout.args(words).arg("--config").arg(world.written());
    let mut child = handout
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn keyring(world: &World) -> Keyring {
    Keyring::open(&world.config.secret_key_file()).unwrap()
}

pub(crate) fn rid(world: &World, address: &str) -> String {
    keyring(world).id(Purpose::RecipientId, &[address.as_bytes()])
}

/// The envelope sender of a job's mail.
pub(crate) fn envelope_sender(world: &World, job: &str) -> String {
    let keys = PersonKeys::new(&keyring(world));
    let rid = rid(world, ANN);
    let token = keys.spell(PersonTokenKind::Bounce, &rid, keys.job_tag(job));
    format!("bounces+{}@sender.example", token.unwrap())
}

/// An event of SES about a job's mail, as the corpus has it.
fn ses_event(world: &World, name: &str, job: &str) -> String {
    let path = format!("tests/fixtures/feedback/ses/{name}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("bounces+").unwrap();
    let token = rest.split('@').next().unwrap().to_owned();
    let sender = format!("bounces+{token}@sender.example");
    text.replace(&sender, &envelope_sender(world, job))
}

/// A world with a feedback queue of moto.
async fn with_feedback(moto: &Server) -> (World, aws_sdk_sqs::Client, String) {
    let client = sqs_client(moto);
    let url = make_queue(&client, "feedback").await;
    let (endpoint, queue) = (moto.url(), url.clone());
    let world = World::new().object("a.pdf", "x").configured(move |config| {
        config.mail.bounce_address = Some("bounces@sender.example".to_owned());
        config.feedback.queue_url = Some(queue);
        config.feedback.endpoint_url = Some(endpoint);
        config.feedback.region = Some("eu-west-1".to_owned());
        config.results.file = Some(config.state_dir.join("results.jsonl"));
    });
    (world, client, url)
}

async fn send(client: &aws_sdk_sqs::Client, url: &str, body: &str) {
    let sent = client.send_message().queue_url(url).message_body(body);
    sent.send().await.unwrap();
}

/// How many events are on the queue, hidden ones included.
async fn left(client: &aws_sdk_sqs::Client, url: &str) -> u64 {
    use aws_sdk_sqs::types::QueueAttributeName as Name;
    let names = [
        Name::ApproximateNumberOfMessages,
        Name::ApproximateNumberOfMessagesNotVisible,
    ];
    let asked = client
        .get_queue_attributes()
        .queue_url(url)
        .set_attribute_names(Some(names.to_vec()));
    let told = asked.send().await.unwrap().attributes.unwrap();
    told.values()
        .map(|count| count.parse::<u64>().unwrap())
        .sum()
}

async fn metric(daemon: &Daemon, line: &str) -> bool {
    let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
    String::from_utf8_lossy(&metrics)
        .lines()
        .any(|known| known == line)
}

fn results(world: &World) -> Vec<Value> {
    let path = world.config.results.file.clone().unwrap();
    let lines = fs::read_to_string(path).unwrap_or_default();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn after_a_bounce_the_next_job_refuses_its_recipient_within_five_seconds() {
    let Some(parts) = Parts::or_skip("after_a_bounce_the_next_job_refuses") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let (world, client, url) = with_feedback(&moto).await;
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    submit(&config, &email_job("first"));
    until("the first mail", async || {
        (world.mails().len() == 1).then_some(())
    })
    .await;

    // What is no event of SES is counted and deleted, a job too.
    send(&client, &url, &email_job("planted").to_string()).await;
    // Accepted becomes delivered.
    let delivery = ses_event(&world, "delivered--event-delivery.sns.json", "first");
    send(&client, &url, &delivery).await;
    until("the delivery", async || {
        metric(
            &daemon,
            "handout_feedback_events_total{verdict=\"delivered\"} 1",
        )
        .await
        .then_some(())
    })
    .await;
    let shown = said(&handout(&world, &["ledger", "show", "first"], b""));
    assert!(shown.contains("delivered at attempt 0"), "{shown}");

    let bounce = ses_event(&world, "hard--event-bounce-general.raw.json", "first");
    let sender = envelope_sender(&world, "first");
    let other = if sender[8..].starts_with('0') {
        '1'
    } else {
        '0'
    };
    let forged = bounce.replace(&sender, &format!("bounces+{other}{}", &sender[9..]));
    let forged = forged.replace("-feed", "-forged");
    let sent_at = Instant::now();
    send(&client, &url, &bounce).await;
    // The same once more, and one with a forged token.
    send(&client, &url, &bounce).await;
    send(&client, &url, &forged).await;
    until("the bounce", async || {
        (!world.audit_of("feedback").is_empty()).then_some(())
    })
    .await;
    until("a job that refuses", async || {
        let id = format!("next-{}", sent_at.elapsed().as_millis());
        submit(&config, &email_job(&id));
        (!world.audit_of("suppressed").is_empty()).then_some(())
    })
    .await;
    let took = sent_at.elapsed();
    assert!(took <= SOON, "{took:?}");
    // Mails that were on their way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mails = world.mails().len();
    submit(&config, &email_job("last"));
    until("the last job", async || {
        let done = results(&world)
            .into_iter()
            .find(|result| result["job"] == "last");
        done.filter(|done| done["suppressed"] == 1)
    })
    .await;
    assert_eq!(world.mails().len(), mails, "nothing was sent");
    until("an empty queue", async || {
        (left(&client, &url).await == 0).then_some(())
    })
    .await;
    assert!(
        world.audit().iter().all(|line| line["job"] != "planted"),
        "it is no queue of jobs"
    );

    let forged = "handout_feedback_events_total{ignored=\"forged\"} 1";
    assert!(metric(&daemon, forged).await, "the token is forged");
    let suppressed = &world.audit_of("suppressed")[0];
    assert_eq!(suppressed["rid"], rid(&world, ANN));
    assert!(
        suppressed["reason"]
            .as_str()
            .unwrap()
            .contains("bounced for good")
    );
    let late = results(&world);
    let late = late
        .iter()
        .find(|result| result["outcome"] == "feedback")
        .unwrap();
    assert_eq!(
        (&late["job"], &late["feedback"]["verdict"]),
        (&json!("first"), &json!("hard"))
    );
    assert_eq!(late["feedback"]["status"], "5.1.1");
    let shown = said(&handout(&world, &["ledger", "show", "first"], b""));
    assert!(shown.contains("bounced at attempt 0"), "{shown}");
    let listed = said(&handout(&world, &["suppression", "list", "--json"], b""));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        listed["suppressed"].as_array().unwrap().len(),
        1,
        "one record of two events: {listed}"
    );

    // An operator lifts it, and the next job mails again.
    let lifted = [
        "suppression",
        "remove",
        ANN,
        "--reason",
        "the mailbox works again",
    ];
    assert!(said(&handout(&world, &lifted, b"")).contains("not suppressed any more"));
    until("a mail after the lift", async || {
        let id = format!("lifted-{}", sent_at.elapsed().as_millis());
        submit(&config, &email_job(&id));
        tokio::time::sleep(Duration::from_millis(500)).await;
        (world.mails().len() > mails).then_some(())
    })
    .await;
    daemon.stops(&config).await;
}

/// An event of SES about a job's mail, so many minutes ago.
fn ses_event_ago(world: &World, name: &str, job: &str, minutes: i64) -> String {
    let mut event: Value = serde_json::from_str(&ses_event(world, name, job)).unwrap();
    let at = handout::clock::system() - jiff::SignedDuration::from_mins(minutes);
    for part in ["bounce", "delivery"] {
        if let Some(part) = event.get_mut(part) {
            part["timestamp"] = json!(at.to_string());
            part["feedbackId"] = json!(format!("{name} {job}"));
        }
    }
    event.to_string()
}

#[tokio::test]
async fn a_soft_bounce_that_is_older_than_the_delivery_changes_no_state_in_either_order() {
    let Some(parts) = Parts::or_skip("a_soft_bounce_that_is_older_than_the_delivery") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let (world, client, url) = with_feedback(&moto).await;
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let soft = |job, minutes| {
        let name = "soft--event-bounce-transient-general.raw.json";
        ses_event_ago(&world, name, job, minutes)
    };
    let delivered = |job, minutes| {
        let name = "delivered--event-delivery.raw.json";
        ses_event_ago(&world, name, job, minutes)
    };
    for (job, events, state, told) in [
        (
            "late-bounce",
            [delivered("late-bounce", 10), soft("late-bounce", 20)],
            "delivered",
            0,
        ),
        (
            "late-delivery",
            [soft("late-delivery", 20), delivered("late-delivery", 10)],
            "delivered",
            1,
        ),
        (
            "real-bounce",
            [delivered("real-bounce", 20), soft("real-bounce", 10)],
            "bounced",
            1,
        ),
    ] {
        let before = world.mails().len();
        submit(&config, &email_job(job));
        until("the mail", async || {
            (world.mails().len() > before).then_some(())
        })
        .await;
        for event in &events {
            send(&client, &url, event).await;
            until("the event", async || {
                (left(&client, &url).await == 0).then_some(())
            })
            .await;
        }
        let shown = said(&handout(&world, &["ledger", "show", job], b""));
        assert!(shown.contains(&format!("{state} at attempt 0")), "{shown}");
        let results = results(&world).into_iter();
        let feedback = results.filter(|result| result["outcome"] == "feedback");
        let of_job = feedback.filter(|result| result["job"] == job);
        assert_eq!(of_job.count(), told, "{job}");
    }
    // All soft bounces but the last have a later delivery.
    let shown = said(&handout(&world, &["suppression", "show", ANN], b""));
    assert_eq!(shown.matches("\tsoft\t").count(), 3, "{shown}");
    assert_eq!(shown.matches("\tdelivered\t").count(), 3, "{shown}");
    daemon.stops(&config).await;
}

/// A form as it is sent: every byte that is no letter or digit is spelled out.
fn form(fields: &[(&str, &str)]) -> String {
    let spelled = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        });
        bytes.collect()
    };
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", spelled(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// Asks SNS of moto, which finds the service in the scope of a signature and checks none.
async fn sns(moto: &Server, fields: &[(&str, &str)]) -> String {
    let scope = "AWS4-HMAC-SHA256 Credential=testing/20261123/eu-west-1/sns/aws4_request, SignedHeaders=host, Signature=0";
    let headers = [
        ("authorization", scope),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let fields = [&[("Version", "2010-03-31")], fields].concat();
    let visitor = Visitor::default();
    let answer = visitor
        .ask(Method::POST, &moto.url(), &headers, &form(&fields))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// A topic to which the queue is subscribed, with raw delivery or the envelope of SNS.
async fn topic_to(moto: &Server, client: &aws_sdk_sqs::Client, url: &str, raw: bool) -> String {
    use aws_sdk_sqs::types::QueueAttributeName as Name;
    let made = sns(moto, &[("Action", "CreateTopic"), ("Name", "ses-events")]).await;
    let (_, rest) = made.split_once("<TopicArn>").unwrap();
    let topic = rest.split('<').next().unwrap().to_owned();
    let asked = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(Name::QueueArn);
    let told = asked.send().await.unwrap().attributes.unwrap();
    let raw = raw.to_string();
    let fields = [
        ("Action", "Subscribe"),
        ("TopicArn", &*topic),
        ("Protocol", "sqs"),
        ("Endpoint", &*told[&Name::QueueArn]),
        ("Attributes.entry.1.key", "RawMessageDelivery"),
        ("Attributes.entry.1.value", &*raw),
    ];
    sns(moto, &fields).await;
    topic
}

#[tokio::test]
async fn an_event_that_is_published_to_a_topic_suppresses_with_raw_delivery_and_without() {
    let Some(parts) = Parts::or_skip("an_event_that_is_published_to_a_topic") else {
        return;
    };
    for raw in [false, true] {
        let moto = parts.start("moto.py", &[]);
        let (world, client, url) = with_feedback(&moto).await;
        let mut world = world.job(&email_job("first"));
        world.run().await;
        let topic = topic_to(&moto, &client, &url, raw).await;
        let bounce = ses_event(&world, "hard--event-bounce-general.raw.json", "first");
        let published = [
            ("Action", "Publish"),
            ("TopicArn", &*topic),
            ("Message", &*bounce),
        ];
        sns(&moto, &published).await;
        // What is on the queue before the daemon takes it.
        let looked = client.receive_message().queue_url(&url);
        let looked = looked.visibility_timeout(0).send().await.unwrap();
        let body = looked.messages()[0].body().unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["Type"] == "Notification", !raw, "{body}");
        assert_eq!(body["eventType"] == "Bounce", raw, "{body}");

        let config = world.written();
        let daemon = Daemon::start(&config, &KEYS).await;
        until("the bounce", async || {
            (left(&client, &url).await == 0).then_some(())
        })
        .await;
        submit(&config, &email_job("second"));
        until("a job that refuses", async || {
            let mut results = results(&world).into_iter();
            results.find(|result| result["job"] == "second" && result["suppressed"] == 1)
        })
        .await;
        assert_eq!(world.mails().len(), 1, "the second job sends no mail");
        let reports = world.audit_of("feedback");
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!(
            (&reports[0]["rid"], &reports[0]["job"]),
            (&json!(rid(&world, ANN)), &json!("first"))
        );
        daemon.stops(&config).await;
    }
}

async fn mail_to(world: &World, address: &str) -> SeenMail {
    until("the mail", async || {
        let mut mails = world.mails().into_iter();
        mails.find(|mail| mail.to == address)
    })
    .await
}

/// An event of SES about a mail without a token, by its Message-ID.
fn bounce_by_message_id(mail: &SeenMail) -> String {
    let (_, rest) = mail.eml.split_once("Message-ID: <").unwrap();
    let id = rest.split('>').next().unwrap();
    let recipient = json!({ "emailAddress": mail.to, "action": "failed", "status": "5.1.1" });
    json!({
        "eventType": "Bounce",
        "bounce": {
            "bounceType": "Permanent", "bounceSubType": "General", "feedbackId": id,
            "timestamp": handout::clock::system().to_string(), "bouncedRecipients": [recipient],
        },
        "mail": {
            "messageId": "0100", "source": "bounces@relay.example",
            "headers": [{ "name": "Message-ID", "value": format!("<{id}>") }],
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_sender_that_a_reload_changes_is_known_to_the_feedback_queue_beside_the_earlier_one() {
    let Some(parts) = Parts::or_skip("a_sender_that_a_reload_changes") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let (world, client, url) = with_feedback(&moto).await;
    let mut world = world.configured(|config| {
        config.mail.bounce_address = None;
        config.mail.from = "Reports <reports@first.example>".to_owned();
    });
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let job_to = |id: &str, address: &str| {
        let mut job = email_job(id);
        job["email"]["to"] = json!([address]);
        job
    };
    submit(&config, &job_to("early", ANN));
    let early = mail_to(&world, ANN).await;
    world.config.mail.from = "Reports <reports@second.example>".to_owned();
    world.written();
    daemon.signal("HUP");
    until("the reload", async || {
        daemon_log(&config)
            .contains("configuration reloaded")
            .then_some(())
    })
    .await;
    submit(&config, &job_to("late", "bo@acme.example"));
    let late = mail_to(&world, "bo@acme.example").await;
    for (mail, domain, job) in [
        (&late, "@second.example>", "late"),
        (&early, "@first.example>", "early"),
    ] {
        let event = bounce_by_message_id(mail);
        assert!(event.contains(domain), "{event}");
        send(&client, &url, &event).await;
        until("the bounce", async || {
            (left(&client, &url).await == 0).then_some(())
        })
        .await;
        let shown = said(&handout(&world, &["ledger", "show", job], b""));
        assert!(shown.contains("bounced at attempt 0"), "{shown}");
    }
    daemon.stops(&config).await;
}

/// A process that dies between record and deletion leaves the event to the next one, which finds the record.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_daemon_that_is_killed_between_record_and_deletion_records_an_event_once() {
    let Some(parts) = Parts::or_skip("a_daemon_that_is_killed_between_record_and_deletion") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let (world, client, url) = with_feedback(&moto).await;
    let config = world.written();
    let first = Daemon::start(&config, &KEYS).await;
    submit(&config, &email_job("first"));
    until("the first mail", async || {
        (world.mails().len() == 1).then_some(())
    })
    .await;
    first.stops(&config).await;
    let complaint = ses_event(&world, "complaint--event-abuse.eventbridge.json", "first");
    send(&client, &url, &complaint).await;
    let variables = [KEYS[0], KEYS[1], ("HANDOUT_FAILPOINT", "feedback-recorded")];
    let killed = Daemon::launch(&config, &variables);
    assert_eq!(killed.end().await.0, None, "it is killed by a signal");
    assert_eq!(left(&client, &url).await, 1, "it is not deleted");
    let again = Daemon::start(&config, &KEYS).await;
    until("the deletion", async || {
        (left(&client, &url).await == 0).then_some(())
    })
    .await;
    let shown = said(&handout(
        &world,
        &["suppression", "show", ANN, "--json"],
        b"",
    ));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["records"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["records"][0]["kind"], "complaint");
    again.stops(&config).await;
}

/// A report of a mail server, as the corpus has it, to the envelope sender of a job's mail.
pub(crate) fn dsn(world: &World, sender: &str) -> Vec<u8> {
    let path = "tests/fixtures/feedback/mail/hard--postfix-no-user.eml";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (_, rest) = text.split_once("To: bounces+").unwrap();
    let token = rest.split('@').next().unwrap().to_owned();
    let known = format!("bounces+{token}@sender.example");
    assert_ne!(known, envelope_sender(world, "first"));
    text.replace(&known, sender).into_bytes()
}

#[tokio::test]
async fn a_report_to_the_envelope_sender_of_a_real_mail_suppresses_and_a_forged_one_does_not() {
    let Some(parts) = Parts::or_skip("a_report_to_the_envelope_sender") else {
        return;
    };
    let mails = tempfile::tempdir().unwrap();
    let dir = mails.path().to_string_lossy().into_owned();
    let relay = parts.start("smtp_sink.py", &["--maildir", &dir]);
    let mut world = World::new().object("a.pdf", "x").configured(|config| {
        config.mail.transport = Transport::Smtp;
        config.mail.from = "Reports <reports@sender.example>".to_owned();
        config.mail.bounce_address = Some("bounces@sender.example".to_owned());
        config.results.file = Some(config.state_dir.join("results.jsonl"));
        let smtp = &mut config.mail.smtp;
        (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), relay.port, Tls::None);
    });
    world = world.job(&email_job("first"));
    world.run().await;
    let envelopes = || -> Vec<String> {
        let files = fs::read_dir(mails.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let json = files.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
        let senders = json.map(|path| {
            let envelope: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            envelope["from"].as_str().unwrap().to_owned()
        });
        senders.collect()
    };
    let sender = envelope_sender(&world, "first");
    assert_eq!(envelopes(), std::slice::from_ref(&sender));

    // A stranger's token, and a reply of a person on holiday.
    let lines = world.audit().len();
    let (user, domain) = sender.split_once('@').unwrap();
    let last = if user.ends_with('0') { "g" } else { "0" };
    let forged = format!("{}{last}@{domain}", &user[..user.len() - 1]);
    let mut without_id = String::from_utf8(dsn(&world, &forged)).unwrap();
    without_id = without_id.replace("<ddb2", "<0000");
    let end = said(&handout(&world, &["feedback", "-"], without_id.as_bytes()));
    assert_eq!(end.trim(), "forged");
    let vacation = format!(
        "From: Ann <{ANN}>\r\nTo: {sender}\r\nAuto-Submitted: auto-replied\r\n\r\n550 5.1.1 away\r\n"
    );
    let end = said(&handout(&world, &["feedback", "-"], vacation.as_bytes()));
    assert_eq!(end.trim(), "auto_reply");
    assert_eq!(
        world.audit().len(),
        lines,
        "what is no report of ours has no line and no stream"
    );
    let shown = handout(&world, &["suppression", "show", ANN], b"");
    assert_eq!(shown.status.code(), Some(1), "nothing is known of her");

    // The real one comes from a Maildir, and a mail server has changed its case.
    let maildir = world.dir.path().join("Maildir");
    fs::create_dir_all(maildir.join("new")).unwrap();
    let report = dsn(&world, &sender.to_ascii_uppercase());
    for name in ["1.host", "2.host"] {
        fs::write(maildir.join("new").join(name), &report).unwrap();
    }
    let path = maildir.to_string_lossy().into_owned();
    let taken = said(&handout(&world, &["feedback", &path], b""));
    assert!(
        taken.contains("hard\t1.host") && taken.contains("2 mails taken"),
        "{taken}"
    );
    assert!(maildir.join("cur/1.host:2,S").exists());
    let told: Vec<Value> = results(&world)
        .into_iter()
        .filter(|result| result["outcome"] == "feedback")
        .collect();
    assert_eq!(told.len(), 2, "each report makes a result: {told:?}");
    assert_eq!(told[0]["message"], told[1]["message"]);
    assert_eq!(
        (&told[0]["job"], &told[0]["feedback"]["verdict"]),
        (&json!("first"), &json!("hard"))
    );
    let reports = world.audit_of("feedback");
    assert_eq!(reports.len(), 2, "a line for each mail: {reports:?}");
    for line in &reports {
        assert_eq!(
            (
                &line["rid"],
                &line["job"],
                &line["verdict"],
                &line["source"]
            ),
            (
                &json!(rid(&world, ANN)),
                &json!("first"),
                &json!("hard"),
                &json!("dsn")
            )
        );
    }
    let verified = said(&handout(&world, &["audit", "verify"], b""));
    assert!(verified.contains("whole"), "{verified}");
    assert_eq!(fs::read_dir(maildir.join("new")).unwrap().count(), 0);
    let shown = said(&handout(&world, &["suppression", "show", ANN], b""));
    assert_eq!(shown.matches("\thard\t").count(), 1, "{shown}");
    assert!(shown.contains("5.1.1") && !shown.contains(ANN), "{shown}");
    world = world.job(&email_job("second"));
    world.run().await;
    assert_eq!(envelopes().len(), 1, "the second job sends no mail");
    let preview = world.dir.path().join("second.json");
    fs::write(&preview, email_job("third").to_string()).unwrap();
    let out = world.dir.path().join("preview");
    let words = [
        "job",
        "preview",
        preview.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let shown = said(&handout(&world, &words, b""));
    assert!(shown.contains("suppressed"), "{shown}");
}

/// Reports that the command takes are in the counters of the daemon beside it, by which alerts fire.
#[tokio::test]
async fn what_the_command_takes_is_counted_once_by_the_daemon() {
    let world = World::new().object("a.pdf", "x").configured(|config| {
        config.mail.bounce_address = Some("bounces@sender.example".to_owned());
        config.results.file = Some(config.state_dir.join("results.jsonl"));
    });
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("first"));
    until("the mail", async || {
        (!world.mails().is_empty()).then_some(())
    })
    .await;
    let sender = envelope_sender(&world, "first");
    let (user, domain) = sender.split_once('@').unwrap();
    let last = if user.ends_with('0') { "g" } else { "0" };
    let forged = format!("{}{last}@{domain}", &user[..user.len() - 1]);
    let forged = String::from_utf8(dsn(&world, &forged)).unwrap();
    let forged = forged.replace("<ddb2", "<0000");
    let end = said(&handout(&world, &["feedback", "-"], forged.as_bytes()));
    assert_eq!(end.trim(), "forged");
    let maildir = world.dir.path().join("Maildir/new");
    fs::create_dir_all(&maildir).unwrap();
    for name in ["1.host", "2.host"] {
        fs::write(maildir.join(name), dsn(&world, &sender)).unwrap();
    }
    let path = maildir.parent().unwrap().to_string_lossy().into_owned();
    let taken = said(&handout(&world, &["feedback", &path], b""));
    assert!(taken.contains("2 mails taken"), "{taken}");
    let hard = "handout_feedback_events_total{verdict=\"hard\"} 2";
    let bad = "handout_feedback_events_total{ignored=\"forged\"} 1";
    until("the counters", async || {
        (metric(&daemon, hard).await && metric(&daemon, bad).await).then_some(())
    })
    .await;
    let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
    let metrics = String::from_utf8(metrics).unwrap();
    let silent = "handout_feedback_last_event_timestamp_seconds ";
    assert!(
        !metrics.lines().any(|line| line.starts_with(silent)),
        "no queue is silent, since there is none: {metrics}"
    );
    // A daemon that starts again counts nothing twice, and what came meanwhile once.
    daemon.stops(&config).await;
    let end = said(&handout(&world, &["feedback", "-"], forged.as_bytes()));
    assert_eq!(end.trim(), "forged");
    let daemon = Daemon::start(&config, &[]).await;
    until("the counter", async || {
        metric(&daemon, bad).await.then_some(())
    })
    .await;
    assert!(!metric(&daemon, hard).await);
    daemon.stops(&config).await;
}

/// The user as whom the daemon and its commands run beside a mail server.
const SERVICE: (&str, u32) = ("nobody", 65_534);

/// Makes all below a directory the service's.
fn give(path: &Path) {
    chown(path, Some(SERVICE.1), Some(SERVICE.1)).unwrap();
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// The command of the service of pipe(8) that the page prints, for this program and configuration.
fn piped(program: &Path, config: &Path) -> String {
    let blocks = page("docs/mail/bounces.md").blocks("text");
    let service = blocks.iter().find(|block| block.contains("pipe")).unwrap();
    let (_, command) = service.split_once("argv=").unwrap();
    let command = command.lines().next().unwrap();
    let named = ["/usr/local/bin/handout", "/etc/handout/config.toml"];
    assert!(named.iter().all(|name| command.contains(name)), "{command}");
    let command = command.replace(named[0], &program.to_string_lossy());
    command.replace(named[1], &config.to_string_lossy())
}

/// Debian's postfix takes two mails, bounces one of them, and its report suppresses this recipient and no other.
#[tokio::test]
async fn what_a_real_mail_server_bounces_suppresses_its_recipient_alone() {
    const TEST: &str = "what_a_real_mail_server_bounces";
    let Some(parts) = Parts::or_skip(TEST) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("postfix");
    fs::create_dir(&dir).unwrap();
    let mut world = World::new().object("a.pdf", "x");
    // The service may enter no directory of the one who tests. The program keeps its owner.
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let own = home.path().join("handout");
    if fs::hard_link(program(), &own).is_err() {
        fs::copy(program(), &own).unwrap();
    }
    let config = world.written();
    let bounces = format!(
        "bounces@sender.example=|{} {}",
        SERVICE.0,
        piped(&own, &config)
    );
    let gone = format!("{ANN}=bounce");
    let Some(server) = parts.postfix_or_skip(TEST, &dir, "acme.example", &[&gone, &bounces]) else {
        return;
    };
    let port = server.port;
    world = world.configured(|config| {
        config.mail.transport = Transport::Smtp;
        config.mail.from = "Reports <reports@sender.example>".to_owned();
        config.mail.bounce_address = Some("bounces@sender.example".to_owned());
        let smtp = &mut config.mail.smtp;
        (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), port, Tls::None);
    });
    world.written();
    for id in ["first", "second"] {
        let mut job = email_job(id);
        job["email"]["to"] = json!([ANN, "bo@acme.example"]);
        fs::write(world.dir.path().join(id), job.to_string()).unwrap();
    }
    give(world.dir.path());
    let handout = |words: &[&str]| {
        let mut command = Command::new(&own);
        command.args(words).arg("--config").arg(&config);
        let command = command.current_dir(world.dir.path());
        command.uid(SERVICE.1).gid(SERVICE.1).output().unwrap()
    };
    let ran = said(&handout(&["job", "run", "first", "--json"]));
    let result: Value = serde_json::from_str(&ran).unwrap();
    assert_eq!(result["accepted"], 2, "accepted is not delivered: {result}");

    let shown = until("the report to come back", async || {
        let shown = handout(&["suppression", "show", ANN]);
        shown.status.success().then(|| said(&shown))
    })
    .await;
    assert!(
        shown.contains("\thard\t") && shown.contains("5.1.1"),
        "{shown}"
    );
    let listed = said(&handout(&["suppression", "list"]));
    let suppressed: Vec<&str> = listed.lines().collect();
    assert!(
        suppressed.len() == 1 && suppressed[0].contains(&rid(&world, ANN)),
        "{listed}"
    );
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert!(
        log.contains("status=bounced") && log.contains("sender non-delivery notification"),
        "{log}"
    );

    let ran = said(&handout(&["job", "run", "second", "--json"]));
    let result: Value = serde_json::from_str(&ran).unwrap();
    assert_eq!(result["accepted"], 1, "{result}");
    let without = result["without_mail"].as_array().unwrap();
    assert!(
        without.len() == 1
            && without[0]["rid"] == rid(&world, ANN)
            && without[0]["outcome"] == "suppressed",
        "{result}"
    );
    let state = said(&handout(&["ledger", "show", "first"]));
    assert!(state.contains("bounced"), "{state}");
    until("postfix to deliver", async || {
        let inbox = fs::read_dir(dir.join("inbox/new")).ok()?;
        (inbox.count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_report_about_a_mail_of_a_job_in_parts_finds_its_part() {
    let Some(parts) = Parts::or_skip("a_report_about_a_mail_of_a_job_in_parts") else {
        return;
    };
    let mails = tempfile::tempdir().unwrap();
    let dir = mails.path().to_string_lossy().into_owned();
    let relay = parts.start("smtp_sink.py", &["--maildir", &dir]);
    let mut job = email_job("weekly");
    job["from"]["prefix"] = json!("customers/{{recipient.vars.customer}}/");
    job["email"]["to"] = json!([{ "address": ANN, "vars": { "customer": "1" } }]);
    let mut world = World::new()
        .object("customers/1/a.pdf", "x")
        .configured(|config| {
            config.mail.transport = Transport::Smtp;
            config.mail.from = "Reports <reports@sender.example>".to_owned();
            config.allow[0].prefix = "customers/".to_owned();
            let smtp = &mut config.mail.smtp;
            (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), relay.port, Tls::None);
        })
        .job(&job);
    world.run().await;
    let mail = fs::read_to_string(mails.path().join("1.eml")).unwrap();
    let id = mail.split("Message-ID: <").nth(1).unwrap();
    let id = id.split('>').next().unwrap();
    // Without an envelope sender of its own, the report has the Message-ID alone.
    let report = String::from_utf8(dsn(&world, "reports@sender.example")).unwrap();
    let known = report.split("Message-ID: <").last().unwrap();
    let known = known.split('>').next().unwrap().to_owned();
    let report = report.replace(&known, id);
    let end = said(&handout(&world, &["feedback", "-"], report.as_bytes()));
    assert_eq!(end.trim(), "hard");
    let part = format!("weekly.part.{}", rid(&world, ANN));
    let shown = said(&handout(&world, &["ledger", "show", &part], b""));
    assert!(shown.contains("bounced"), "{shown}");
    let shown = said(&handout(&world, &["suppression", "show", ANN], b""));
    assert!(shown.contains(&part), "{shown}");
}

#[tokio::test]
async fn leaving_by_one_click_is_about_one_list_and_scanners_change_nothing() {
    let world = portal_world(|portal| {
        // Mail programs take https alone; a proxy in front would end it.
        let listen = portal.listen.unwrap();
        portal.public_url = Some(format!("https://localhost:{}", listen.port()));
    })
    .object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let job = |id: &str, list: &str| {
        let mut job = email_job(id);
        job["email"]["list_id"] = json!(list);
        job
    };
    submit(&config, &job("first", "daily.sender.example"));
    until("the first mail", async || {
        (world.mails().len() == 1).then_some(())
    })
    .await;
    let eml = world.mails()[0].eml.replace("\r\n ", " ");
    assert!(
        eml.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"),
        "{eml}"
    );
    let (_, rest) = eml
        .split_once("List-Unsubscribe: <https://localhost:")
        .unwrap();
    let path = rest.split('>').next().unwrap().split_once('/').unwrap().1;
    let url = format!("http://{}/{path}", world.config.portal.listen.unwrap());

    // Scanners: GET, HEAD, and a POST without the words.
    let reader = Visitor::default();
    let page = reader.open(&url).await;
    assert_eq!((page.status, page.header("set-cookie")), (200, ""));
    assert!(page.body.contains("Leave the list"), "{}", page.body);
    assert_eq!(reader.ask(Method::HEAD, &url, &[], "").await.status, 200);
    assert_eq!(reader.ask(Method::POST, &url, &[], "").await.status, 200);
    let german = reader
        .get(&url, &[("accept", "text/html"), ("accept-language", "de")])
        .await;
    assert!(
        german.body.contains("Verteiler verlassen"),
        "{}",
        german.body
    );
    let nothing = handout(&world, &["suppression", "show", ANN], b"");
    assert_eq!(nothing.status.code(), Some(1));

    // A wrong token is answered alike.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let wrong = format!("{}x", &url[..url.len() - 1]);
    let answer = reader
        .ask(Method::POST, &wrong, &[form], "List-Unsubscribe=One-Click")
        .await;
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
    let parts = ("content-type", "multipart/form-data; boundary=b");
    let left = reader.ask(Method::POST, &url, &[parts], multipart).await;
    assert_eq!((answer.status, &answer.body), (left.status, &left.body));
    assert_eq!(
        (
            left.status,
            left.header("location"),
            left.header("set-cookie")
        ),
        (200, "", "")
    );
    // Once more, by the button.
    let again = reader.submit(&url, "List-Unsubscribe=One-Click").await;
    assert!(
        again.body.contains("You have left the list"),
        "{}",
        again.body
    );

    submit(&config, &job("second", "daily.sender.example"));
    until("the refusal", async || {
        (!world.audit_of("suppressed").is_empty()).then_some(())
    })
    .await;
    submit(&config, &job("third", "weekly.sender.example"));
    submit(&config, &email_job("fourth"));
    until("mails of others", async || {
        (world.mails().len() == 3).then_some(())
    })
    .await;
    assert_eq!(world.audit_of("suppressed").len(), 1);
    let left = world.audit_of("feedback");
    assert_eq!(left.len(), 1, "three requests are one record: {left:?}");
    assert_eq!(
        (&left[0]["verdict"], &left[0]["source"]),
        (&json!("left"), &json!("portal"))
    );
    let listed = said(&handout(&world, &["suppression", "list"], b""));
    assert!(
        listed.contains("left") && listed.contains("list "),
        "{listed}"
    );
    daemon.stops(&config).await;
}

#[test]
fn an_operator_suppresses_and_lifts_with_a_reason() {
    let world = World::new();
    let none = handout(&world, &["suppression", "list"], b"");
    assert!(!none.status.success(), "there is no ledger yet");
    // A suppression may stand before the first job.
    let no_reason = handout(&world, &["suppression", "add", ANN], b"");
    assert_eq!(no_reason.status.code(), Some(64));
    let added = ["suppression", "add", ANN, "--reason", "asked by telephone"];
    assert!(said(&handout(&world, &added, b"")).contains("is suppressed from now on"));
    let listed = said(&handout(&world, &["suppression", "list"], b""));
    assert!(
        listed.starts_with(&rid(&world, ANN)) && listed.contains("operator"),
        "{listed}"
    );
    let shown = said(&handout(&world, &["suppression", "show", ANN], b""));
    assert!(shown.contains("asked by telephone"), "{shown}");
    let by_id = [
        "suppression",
        "remove",
        "--rid",
        &rid(&world, ANN),
        "--reason",
        "x",
    ];
    said(&handout(&world, &by_id, b""));
    assert!(said(&handout(&world, &["suppression", "list"], b"")).contains("No recipient"));
}

#[test]
fn what_a_person_changed_has_an_audit_line_without_an_address() {
    let world = World::new();
    let reason = format!("asked by {ANN} (telephone)");
    let add = ["suppression", "add", ANN, "--reason", &reason];
    said(&handout(&world, &add, b""));
    let remove = ["suppression", "remove", ANN, "--reason", "works again"];
    let told = said(&handout(&world, &remove, b""));
    assert!(
        told.contains("is not suppressed any more (since "),
        "a word is not said twice: {told}"
    );
    let found = said(&handout(
        &world,
        &["audit", "find", "--recipient", ANN],
        b"",
    ));
    assert!(!found.contains(ANN), "{found}");
    let mut lines: Vec<Value> = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Streams of one second have no order among their names.
    lines.sort_by_key(|line| line["ts"].to_string());
    let facts = lines
        .iter()
        .map(|line| (&line["ev"], &line["change"], &line["reason"]))
        .collect::<Vec<_>>();
    assert_eq!(
        facts,
        [
            (
                &json!("suppression"),
                &json!("added"),
                &json!("asked by (address) (telephone)")
            ),
            (
                &json!("suppression"),
                &json!("lifted"),
                &json!("works again")
            ),
        ]
    );
    assert!(lines.iter().all(|line| line["rid"] == rid(&world, ANN)));
    assert!(lines.iter().all(|line| line["by"].is_string()));
    said(&handout(&world, &["audit", "verify"], b""));
    // A change that is refused has no line.
    let not_left = [
        "suppression",
        "remove",
        ANN,
        "--list",
        "weekly.acme.example",
        "--reason",
        "x",
    ];
    assert!(!handout(&world, &not_left, b"").status.success());
    assert_eq!(world.audit_of("suppression").len(), 2);
}
