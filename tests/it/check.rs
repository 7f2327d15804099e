//! `handout check` tells the truth: what would make a job fail is found, named, and ends with 1.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use handout::config::{Tls, Transport};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conformance::{create_bucket, make_queue, s3_client, sqs_client};
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::faulty::{Faults, FaultyProxy};
use crate::support::program;
use crate::support::servers::Parts;
use crate::support::world::World;

mod buckets;
mod events;
mod local;
mod queues;

/// Keys that moto takes.
pub(crate) const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "id"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

/// What `check` prints about a world: its exit code, and each line as `verdict what: result`.
pub(crate) struct Checked {
    code: Option<i32>,
    lines: Vec<String>,
}

impl Checked {
    /// Runs `check` with variables of its own.
    pub(crate) fn of(world: &World, variables: &[(&str, &str)]) -> Self {
        let output = command(world, variables, &["--json"]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = told["findings"].as_array().unwrap().iter();
        let lines = findings.map(|finding| {
            let verdict = match (&finding["ok"], &finding["warning"]) {
                (Value::Bool(false), _) => "FAIL",
                (_, Value::Bool(true)) => "warn",
                _ => "ok",
            };
            let text = |field: &str| finding[field].as_str().unwrap().to_owned();
            format!("{verdict} {}: {}", text("what"), text("result"))
        });
        Self {
            code: output.status.code(),
            lines: lines.collect(),
        }
    }

    /// What failed, and that the exit code says whether anything did.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let failed = self.lines.iter().filter(|line| line.starts_with("FAIL "));
        let failed: Vec<&str> = failed.map(String::as_str).collect();
        assert_eq!(self.code, Some(i32::from(!failed.is_empty())), "{failed:?}");
        failed
    }

    /// The lines about something and its parts.
    pub(crate) fn lines_about(&self, what: &str) -> Vec<&str> {
        let about = |line: &&str| {
            let (_, rest) = line.split_once(' ').unwrap();
            rest.strip_prefix(what)
                .is_some_and(|rest| rest.starts_with([':', '.']))
        };
        self.lines
            .iter()
            .map(String::as_str)
            .filter(about)
            .collect()
    }

    /// The line about something.
    pub(crate) fn line(&self, what: &str) -> &str {
        let about = |line: &&String| {
            line.split_once(' ')
                .unwrap()
                .1
                .starts_with(&format!("{what}: "))
        };
        let line = self.lines.iter().find(about);
        line.unwrap_or_else(|| panic!("no line about {what}: {:#?}", self.lines))
    }
}

fn command(world: &World, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let config = world.written();
    Command::new(program())
        .args(["check", "--config", &config.to_string_lossy()])
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

/// A connection that signs with what a process of AWS's profiles prints: a session that ends in some minutes.
fn with_session(world: World, minutes: u64) -> (World, String) {
    let end = jiff::Timestamp::from_second(
        i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + minutes * 60).unwrap(),
    );
    let credentials = json!({
        "Version": 1, "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret", "SessionToken": "token",
        "Expiration": end.unwrap().to_string(),
    });
    let file = world.dir.path().join("credentials.json");
    fs::write(&file, credentials.to_string()).unwrap();
    let profiles = world.dir.path().join("profiles");
    let process = format!(
        "[profile session]\ncredential_process = cat {}\n",
        file.display()
    );
    fs::write(&profiles, process).unwrap();
    let world = world.configured(|config| {
        let session = "region = \"eu-west-1\"\nprofile = \"session\"\n";
        let session = toml::from_str(session).unwrap();
        config.connections.insert("session".to_owned(), session);
    });
    (world, profiles.to_string_lossy().into_owned())
}

#[test]
fn a_session_that_ends_before_links_do_is_a_failure_that_says_what_to_change() {
    let (mut world, profiles) = with_session(World::new(), 340);
    let variables = [("AWS_CONFIG_FILE", profiles.as_str())];
    let checked = Checked::of(&world, &variables);
    let failures = checked.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let line = failures[0];
    assert!(
        line.starts_with("FAIL connections.session: jobs ask for 1d (links.expires_in) and the credentials end at ")
            && line.contains("in 5h 39m: ask for 5h or less, set links.expiry_guard = \"clamp\""),
        "{line}"
    );
    // What the sentence proposes helps.
    world.config.links.expires_in = "5h".parse().unwrap();
    assert_eq!(Checked::of(&world, &variables).failures(), [""; 0]);
    world.config.links.expires_in = "24h".parse().unwrap();
    for guard in ["clamp", "ignore"] {
        world.config.links.expiry_guard = serde_json::from_value(json!(guard)).unwrap();
        let checked = Checked::of(&world, &variables);
        assert_eq!(checked.failures(), [""; 0]);
        assert!(
            checked.line("connections.session").starts_with("warn "),
            "{guard}"
        );
    }
}

#[test]
fn a_bucket_of_a_rule_that_is_missing_is_a_failure() {
    let world = World::new().configured(|config| {
        let mut other = config.allow[0].clone();
        other.bucket = "missing".to_owned();
        config.allow.push(other);
    });
    let checked = Checked::of(&world, &[]);
    insta::assert_snapshot!(checked.failures().join("\n"), @"FAIL s3://missing: could not list s3://missing/: it does not exist: NoSuchBucket: The specified bucket does not exist");
}

#[test]
fn the_key_of_a_distribution_is_named() {
    let world = World::new().configured(|config| {
        let key = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/crates/presign/tests/fixtures/rsa-pkcs8.pem"
        );
        let fronted = r#"
            region = "eu-west-1"
            access_key_id = "AKIDEXAMPLE"
            secret_access_key_file = "secret"
            [cloudfront]
            domain = "files.acme.example"
            key_pair_id = "K1TESTKEY"
            private_key_file = "KEY"
        "#;
        let fronted = toml::from_str(&fronted.replace("\"KEY\"", &format!("{key:?}"))).unwrap();
        config.connections.insert("fronted".to_owned(), fronted);
    });
    let credentials = world.dir.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("secret"), "x").unwrap();
    let credentials = credentials.to_string_lossy();
    let checked = Checked::of(&world, &[("CREDENTIALS_DIRECTORY", &credentials)]);
    insta::assert_snapshot!(checked.line("connections.fronted.cloudfront"), @"ok connections.fronted.cloudfront: links to https://files.acme.example are signed with key K1TESTKEY (RSA-2048 with SHA-1) and can live until 2038; whether a key group has that key shows only when a link is opened");
}

/// A world whose queue is in SQS.
fn with_queue(endpoint: &str, url: &str) -> World {
    World::new().configured(|config| {
        config.queue.kind = handout::config::QueueKind::Sqs;
        config.queue.url = Some(url.to_owned());
        config.queue.endpoint_url = Some(endpoint.to_owned());
        config.queue.region = Some("eu-west-1".to_owned());
    })
}

// The proxy answers while the program runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_refuses_to_hand_out_messages_is_a_failure() {
    let Some(parts) = Parts::or_skip("a_queue_that_refuses") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "jobs").await;
    let proxy = FaultyProxy::start(&moto.url(), Default::default()).await;
    let world = with_queue(&proxy.url, &url);
    let line = |world: &World| {
        let checked = Checked::of(world, &KEYS);
        (checked.failures().len(), checked.line("queue").to_owned())
    };
    assert!(line(&world).1.starts_with("ok queue: 0 messages wait"));
    // The message that the check receives can be received at once by others.
    client
        .send_message()
        .queue_url(&url)
        .message_body("{}")
        .send()
        .await
        .unwrap();
    let (failures, told) = line(&world);
    assert_eq!(
        (failures, &told[..26]),
        (0, "ok queue: 1 message waits;"),
        "{told}"
    );
    let received = client
        .receive_message()
        .queue_url(&url)
        .send()
        .await
        .unwrap();
    assert_eq!(received.messages().len(), 1);

    for (operation, text, words) in [
        (
            "AmazonSQS.ReceiveMessage",
            r#"{"__type":"com.amazonaws.sqs#KmsAccessDenied","message":"The ciphertext refers to a key that does not exist."}"#,
            "KmsAccessDenied: The ciphertext refers",
        ),
        (
            "AmazonSQS.ReceiveMessage",
            r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"User is not authorized to perform: sqs:receivemessage"}"#,
            "AccessDeniedException: User is not authorized",
        ),
        (
            "AmazonSQS.GetQueueAttributes",
            r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#,
            "QueueDoesNotExist: The specified queue",
        ),
    ] {
        proxy.refuses(operation, text);
        let (failures, told) = line(&world);
        assert_eq!(failures, 1, "{told}");
        assert!(
            told.starts_with("FAIL queue: could not ") && told.contains(words),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_parked_url_that_cannot_work_is_a_failure_and_a_hasty_redrive_policy_a_warning() {
    let Some(parts) = Parts::or_skip("a_parked_url_that_cannot_work") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "jobs").await;
    let mut world = with_queue(&moto.url(), &url);
    let parked = |world: &World| {
        let checked = Checked::of(world, &KEYS);
        checked.failures();
        checked.line("parked messages").to_owned()
    };
    insta::assert_snapshot!(parked(&world), @"warn parked messages: queue.parked_url is not set and the queue has no redrive policy: a rejected message stays in the queue until its retention period ends; name a queue for it");
    world.config.queue.parked_url = Some(format!("{url}-that-is-missing"));
    let missing = parked(&world);
    assert!(
        missing.starts_with("FAIL ") && missing.contains("does not exist"),
        "{missing}"
    );
    world.config.queue.parked_url = Some(url.clone());
    assert!(parked(&world).starts_with("FAIL parked messages: queue.parked_url is queue.url"));
    let aside = make_queue(&client, "aside").await;
    world.config.queue.parked_url = Some(aside.clone());
    assert_eq!(parked(&world), "ok parked messages: 0 messages are parked");

    for (count, told) in [("1", "was not tried"), ("5", "after 5 receipts: waiting")] {
        let arn = "arn:aws:sqs:eu-west-1:123456789012:aside";
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": count });
        let name = aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy;
        let set = client.set_queue_attributes().queue_url(&url);
        set.attributes(name, policy.to_string())
            .send()
            .await
            .unwrap();
        client
            .send_message()
            .queue_url(&url)
            .message_body("{}")
            .send()
            .await
            .unwrap();
        let checked = Checked::of(&world, &KEYS);
        let line = checked.line("queue");
        assert!(line.starts_with("warn ") && line.contains(told), "{line}");
        let aside = world.config.queue.parked_url.take();
        let left = parked(&world);
        let receipts = if count == "1" { "receipt" } else { "receipts" };
        let moved = format!("which moves them after {count} {receipts}");
        assert!(left.starts_with("ok ") && left.ends_with(&moved), "{left}");
        world.config.queue.parked_url = aside;
        assert_eq!(checked.failures(), [""; 0]);
    }
    // The receipt that would have been the last one was not taken.
    assert_eq!(parked(&world), "ok parked messages: 0 messages are parked");
}

/// A world whose mails go through a relay on loopback.
fn with_relay(port: u16, tls: Tls) -> World {
    World::new().configured(|config| {
        config.mail.transport = Transport::Smtp;
        config.mail.smtp.host = "127.0.0.1".to_owned();
        config.mail.smtp.port = port;
        config.mail.smtp.tls = tls;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_greeting_names_the_setting_of_tls_and_the_other_lines_do_not_wait_for_it() {
    let silent = BadRelay::start(vec![Rule {
        step: "CONNECT",
        at: 0,
        habit: Habit::SayAndStall(String::new()),
    }])
    .await;
    let world = with_relay(silent.port, Tls::Starttls);
    let mut child = Command::new(program())
        .arg("check")
        .arg("--config")
        .arg(world.written())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<(Duration, String)> =
        lines.map(|line| (begun.elapsed(), line.unwrap())).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let (last, others) = lines.split_last().unwrap();
    assert!(last.0 < Duration::from_secs(40), "{last:?}");
    assert!(last.1.starts_with("FAIL  mail.smtp "), "{last:?}");
    assert!(
        last.1.contains("did not answer in time (greeting): no answer in time; a relay that speaks TLS from the first byte is silent in the same way, and needs tls = \"implicit\""),
        "{last:?}"
    );
    // They were there long before: the pipe is no terminal, and nothing is held back for it.
    assert!(others.len() > 5);
    let (before, slowest) = (last.0, others.iter().map(|(at, _)| *at).max().unwrap());
    assert!(slowest + Duration::from_secs(10) < before, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_begins_in_plain_text_and_odd_ports_name_the_setting_of_tls() {
    let plain = BadRelay::start(Vec::new()).await;
    let checked = Checked::of(&with_relay(plain.port, Tls::Implicit), &[]);
    let failures = checked.failures();
    assert!(
        failures.len() == 1
            && failures[0].contains("the relay begins in plain text, and needs tls = \"starttls\""),
        "{failures:?}"
    );
    // Named before anything is asked: no relay listens there.
    for (port, tls, wanted) in [
        (465, Tls::Starttls, "implicit"),
        (465, Tls::None, "implicit"),
        (587, Tls::Implicit, "starttls"),
        (25, Tls::Implicit, "starttls"),
    ] {
        let checked = Checked::of(&with_relay(port, tls), &[]);
        let line = checked.line("mail.smtp");
        assert!(
            line.starts_with("warn ")
                && line.contains(&format!("tls = \"{wanted}\" is its setting")),
            "{line}"
        );
    }
}

#[test]
fn a_place_to_publish_that_takes_nothing_is_a_failure_and_a_check_leaves_nothing_behind() {
    let mut world = World::new();
    let pages = world.dir.path().join("pages");
    let told = |world: &World, what: &str| Checked::of(world, &[]).line(what).to_owned();
    let bucket = "publish s3://published/";
    assert_eq!(
        told(&world, bucket),
        format!("ok {bucket}: takes what local publishes")
    );
    let left = fs::read_dir(world.bucket("published")).unwrap();
    let left = left
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != ".handout");
    assert_eq!(left.count(), 0);
    let dir = format!("dir:{}", pages.display());
    let made = told(&world, &dir);
    assert!(
        made.starts_with("ok ") && made.ends_with(" when it is needed"),
        "{made}"
    );
    assert!(!pages.exists());
    fs::create_dir(&pages).unwrap();
    assert_eq!(told(&world, &dir), format!("ok {dir}: can be written"));

    // A file in the directory's place, and a bucket that is not there.
    fs::remove_dir(&pages).unwrap();
    fs::write(&pages, "").unwrap();
    world.config.allow[0].publish[0] = "s3://missing/pages/".to_owned();
    let checked = Checked::of(&world, &[]);
    let failures = checked.failures();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[0].starts_with("FAIL publish s3://missing/pages/: could not put ")
            && failures[0].contains("NoSuchBucket"),
        "{failures:?}"
    );
    assert!(
        failures[1].starts_with(&format!("FAIL {dir}: "))
            && failures[1].contains("cannot be written"),
        "{failures:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_denies_what_is_published_is_a_failure_on_another_server() {
    let Some(parts) = Parts::or_skip("a_bucket_that_denies") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    for bucket in ["reports", "pages"] {
        create_bucket(&client, bucket).await;
    }
    let denying = |part| Faults {
        denied: Some(part),
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&moto.url(), denying("/pages/secret")).await;
    let mut world = World::new().configured(|config| {
        let elsewhere = format!("region = \"eu-west-1\"\nendpoint_url = \"{}\"\n", proxy.url);
        let elsewhere = toml::from_str(&elsewhere).unwrap();
        config.connections.insert("moto".to_owned(), elsewhere);
        config.allow[0].connection = "moto".to_owned();
        config.allow[0].publish = vec!["s3://pages/open/".to_owned()];
    });
    let checked = Checked::of(&world, &KEYS);
    assert_eq!(checked.failures(), [""; 0]);
    assert_eq!(
        checked.line("publish s3://pages/open/"),
        "ok publish s3://pages/open/: takes what moto publishes"
    );
    let listed = client
        .list_objects_v2()
        .bucket("pages")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.contents().len(), 0);
    world.config.allow[0].publish = vec!["s3://pages/secret/".to_owned()];
    let checked = Checked::of(&world, &KEYS);
    let failures = checked.failures();
    assert!(
        failures.len() == 1 && failures[0].contains("AccessDenied"),
        "{failures:?}"
    );
}
