//! The commands, as somebody types them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use handout::queue::Queue;
use handout::queue::sqs::SqsQueue;
use serde_json::{Value, json};

use crate::conformance::{HELD, NOW, make_queue, sqs_client};
use crate::support::program;
use crate::support::servers::Parts;
use crate::support::world::{World, email_job, free_address};

fn handout(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

/// A demo in a directory, on a port of its own: others run at the same time, and its links must outlive the first.
fn demo(dir: &Path, address: SocketAddr) -> Output {
    Command::new(program())
        .args(["demo", "--once", "--dir"])
        .arg(dir)
        .env("HANDOUT_EMBEDDED__LISTEN", address.to_string())
        .env("HANDOUT_EMBEDDED__PUBLIC_URL", format!("http://{address}"))
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A world's configuration and a job, as files.
fn files(world: &World, job: &Value) -> (String, String) {
    let path = |name: &str| world.dir.path().join(name).to_string_lossy().into_owned();
    let (config, file) = (path("config.toml"), path("job.json"));
    fs::write(&config, toml::to_string(&world.config).unwrap()).unwrap();
    fs::write(&file, job.to_string()).unwrap();
    (config, file)
}

#[test]
fn the_demo_makes_links_that_open_mails_to_look_at_and_a_log_that_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (out, address) = (dir.path().join("out"), free_address());
    for run in ["first", "second"] {
        let output = demo(&out, address);
        let text = stdout(&output);
        assert!(text.ends_with("All good.\n"), "{run}: {text}");
        assert!(
            text.contains(" of 21 links open, with the right bytes") || run == "second",
            "{text}"
        );
    }
    let count = |folder: &str, extension: &str| {
        let entries = fs::read_dir(out.join(folder)).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == extension)
            })
            .count()
    };
    assert_eq!(
        count("outbox", "eml"),
        8,
        "two people, a gallery and an upload, twice"
    );
    assert_eq!(count("audit", "jsonl"), 2);
    let config = out.join("config.toml").to_string_lossy().into_owned();
    let verified = stdout(&handout(&["audit", "verify", "--config", &config]));
    assert!(verified.ends_with("whole\n"), "{verified}");
}

#[test]
fn a_demo_whose_port_another_program_has_says_so_and_works_again_when_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let usual = || {
        let mut command = Command::new(program());
        command.args(["demo", "--once", "--dir"]).arg(&out);
        command.output().unwrap()
    };
    assert!(stdout(&usual()).ends_with("All good.\n"));
    let written = fs::read_to_string(out.join("config.toml")).unwrap();
    let written: toml::Table = written.parse().unwrap();
    let listen = written["embedded"]["listen"].as_str().unwrap();
    let other = std::net::TcpListener::bind(listen).unwrap();
    let taken = usual();
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert_eq!(taken.status.code(), Some(73), "{said}");
    assert!(
        said.contains(&format!(
            "another program listens on {listen}, which the links of this demo name: end that program, or make another demo with --out"
        )),
        "{said}"
    );
    drop(other);
    assert!(stdout(&usual()).ends_with("All good.\n"));

    // On another address the older links are not opened; the new ones are.
    let told = stdout(&demo(&out, free_address()));
    assert!(
        told.contains("42 links of earlier runs name another address"),
        "{told}"
    );
    assert!(
        told.contains("21 of 21 links open") && told.ends_with("All good.\n"),
        "{told}"
    );
    // Nor does a mail of then that was removed stand in the way.
    for entry in fs::read_dir(out.join("outbox")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "html") && !path.ends_with("index.html") {
            fs::remove_file(path).unwrap();
            break;
        }
    }
    let removed = demo(&out, free_address());
    assert_eq!(
        removed.status.code(),
        Some(1),
        "its links have lines and are seen nowhere"
    );
}

#[test]
fn the_demo_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (out, address) = (dir.path().join("out"), free_address());
    stdout(&demo(&out, address));
    // One character of one old line: the second demo must see it and say so.
    let mut files = fs::read_dir(out.join("audit")).unwrap();
    let segment = files
        .find_map(|entry| {
            let path = entry.unwrap().path();
            path.extension()
                .is_some_and(|end| end == "jsonl")
                .then_some(path)
        })
        .unwrap();
    let text = fs::read_to_string(&segment)
        .unwrap()
        .replacen("ann", "eve", 1)
        .replacen("\"size\":", "\"size\":1", 1);
    fs::write(&segment, text).unwrap();
    let output = demo(&out, address);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_job_can_be_run_without_a_queue() {
    let world = World::new().object("a.pdf", "x");
    let (config, job) = files(&world, &email_job("now"));
    let text = stdout(&handout(&["job", "run", &job, "--config", &config]));
    assert!(
        text.starts_with("now is done.\n") && text.contains("mails        1 accepted"),
        "{text}"
    );
    let again: Value = serde_json::from_str(&stdout(&handout(&[
        "job", "run", &job, "--config", &config, "--json",
    ])))
    .unwrap();
    assert_eq!(again["done_before"], true);
    assert_eq!(world.mails().len(), 1);
}

#[test]
fn a_preview_shows_everything_and_does_nothing() {
    let world = World::new().object("a.pdf", "x").object("a/../b.pdf", "y");
    let mut order = email_job("later");
    order["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    let (config, job) = files(&world, &order);
    let out = world.dir.path().join("preview");
    let text = stdout(&handout(&[
        "job",
        "preview",
        &job,
        "--config",
        &config,
        "--out",
        &out.to_string_lossy(),
    ]));
    assert!(
        text.contains("later would make 2 links for one recipient"),
        "{text}"
    );
    for name in [
        "mail-0001-ann_acme.example.eml",
        "mail-0001-ann_acme.example.html",
        "mail-0001-ann_acme.example.txt",
        "gallery-index.html",
    ] {
        let shown = fs::read_to_string(out.join(name)).unwrap();
        assert!(
            shown.contains("example.invalid") && !shown.contains("127.0.0.1"),
            "{name}: the links open nothing"
        );
    }
    assert!(
        !world.config.outbox_dir().exists() && !world.config.audit_dir().exists(),
        "nothing was sent or recorded"
    );
    assert_eq!(fs::read_dir(world.bucket("published")).unwrap().count(), 0);
}

#[test]
fn a_refused_job_says_why_and_ends_with_1() {
    let world = World::new();
    let mut order = email_job("leak");
    order["email"]["to"] = json!(["eve@evil.example"]);
    let (config, job) = files(&world, &order);
    for command in ["run", "preview"] {
        let output = handout(&["job", command, &job, "--config", &config]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(words, @"handout: the [[allow]] rules for s3://reports/ do not let it go to the recipient e…@evil.example (email.to[0])");
        }
    }
}

#[test]
fn a_job_that_is_none_is_not_submitted() {
    let world = World::new();
    let (config, job) = files(&world, &json!({ "v": 1, "id": "x" }));
    let output = handout(&["job", "submit", &job, "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r#"handout: the job cannot be read: missing field `from`: write "from": { "connection": "reports", "bucket": "acme-reports", "prefix": "2026/" }"#);
}

#[tokio::test]
async fn parked_messages_are_listed_and_put_back() {
    let mut world = World::new().message("no job");
    world.run().await;
    let (config, _) = files(&world, &email_job("x"));
    let listed = stdout(&handout(&["job", "parked", "--config", &config]));
    assert_eq!(
        listed,
        "1\t(no job)\tthe message is not JSON: expected ident at line 1 column 2\n"
    );
    stdout(&handout(&[
        "job",
        "parked",
        "--requeue",
        "1",
        "--config",
        &config,
    ]));
    assert_eq!(world.waiting().await, 1);
    assert_eq!(
        handout(&["job", "parked", "--requeue", "9", "--config", &config])
            .status
            .code(),
        Some(1)
    );
}

#[tokio::test]
async fn parked_messages_of_sqs_are_listed_and_put_back() {
    let Some(parts) = Parts::or_skip("parked_messages_of_sqs") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let (url, parked_url) = (
        make_queue(&client, "jobs").await,
        make_queue(&client, "parked").await,
    );
    let mut world = World::new();
    world.config.queue.kind = handout::config::QueueKind::Sqs;
    world.config.queue.url = Some(url.clone());
    world.config.queue.parked_url = Some(parked_url.clone());
    world.config.queue.endpoint_url = Some(moto.url());
    world.config.queue.region = Some("eu-west-1".to_owned());
    let (config, _) = files(&world, &email_job("x"));
    let parked = |arguments: &[&str]| {
        Command::new(program())
            .args(["job", "parked", "--config", &config])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .output()
            .unwrap()
    };
    let queue = SqsQueue::new(client.clone(), url).with_parked(client, parked_url);
    let mut came_as = Vec::new();
    // More than one receive brings.
    for number in 0..14 {
        let job = email_job(&format!("job-{number}")).to_string();
        came_as.push(queue.submit(&job).await.unwrap());
        let message = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
        queue
            .park(&message, &format!("reason {number}"))
            .await
            .unwrap();
    }
    for look in ["first", "second"] {
        let listed = stdout(&parked(&[]));
        assert_eq!(listed.lines().count(), 14, "{look}: {listed}");
        assert!(listed.contains("\tjob-7\treason 7\n"), "{listed}");
    }
    let few = stdout(&parked(&["--limit", "3"]));
    assert!(few.ends_with("there may be more: raise --limit\n"), "{few}");

    let one = stdout(&parked(&["--requeue", &came_as[7]]));
    assert_eq!(
        one,
        format!("message {} is on the queue again\n", came_as[7])
    );
    let back = queue.receive(10, HELD, NOW).await.unwrap().remove(0);
    assert!(back.body.contains("job-7"), "{}", back.body);
    assert_eq!(parked(&["--requeue", &came_as[7]]).status.code(), Some(1));
    let shown = stdout(&parked(&["--limit", "1"]));
    let id = shown.split('\t').next().unwrap();
    stdout(&parked(&["--requeue", id]));
    assert_eq!(
        stdout(&parked(&["--requeue", "all"])),
        "12 messages are on the queue again\n"
    );
    assert_eq!(stdout(&parked(&[])), "No message is parked.\n");
    assert_eq!(queue.waiting().await.unwrap(), 13);
    let refused = parked(&["--prune", "--older-than", "1d"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SQS has no order"));
}

#[tokio::test]
async fn a_link_leads_back_to_its_line() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let (config, _) = files(&world, &email_job("x"));
    let href = world.mails()[0].hrefs[0].clone();
    let id = crate::support::link_id(&href).to_owned();
    let questions = [
        ["--url", &href],
        ["--link-id", &id],
        ["--recipient", "Ann <ANN@acme.example>"],
        ["--key", "s3://reports/a.pdf"],
        ["--job", "daily"],
    ];
    for [question, value] in questions {
        let found = stdout(&handout(&[
            "audit", "find", question, value, "--config", &config,
        ]));
        let line: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
        assert_eq!(line["key"], "a.pdf", "{question}");
    }
    let nobody = handout(&[
        "audit",
        "find",
        "--recipient",
        "eve@acme.example",
        "--config",
        &config,
    ]);
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(1), 0));
}

#[tokio::test]
async fn a_log_that_was_changed_is_not_whole() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let dir = world.config.audit_dir().to_string_lossy().into_owned();
    assert!(stdout(&handout(&["audit", "verify", &dir])).contains("whole"));
    let segment = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&segment).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let changes: [(&str, Vec<u8>); 4] = [
        ("a byte", {
            let mut bytes = whole.clone();
            let at = lines[0].len() + 40;
            bytes[at] ^= 1;
            bytes
        }),
        ("a line less", [lines[0], &lines[2..].concat()].concat()),
        (
            "two lines swapped",
            [lines[0], lines[2], lines[1], &lines[3..].concat()].concat(),
        ),
        (
            "a line twice",
            [lines[0], lines[1], lines[1], &lines[2..].concat()].concat(),
        ),
    ];
    for (what, bytes) in changes {
        fs::write(&segment, bytes).unwrap();
        let output = handout(&["audit", "verify", &dir]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{what}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn wrong_arguments_end_with_64_and_help_with_0() {
    assert_eq!(handout(&["job", "run"]).status.code(), Some(64));
    assert_eq!(handout(&["audit", "find"]).status.code(), Some(64));
    assert_eq!(handout(&["nonsense"]).status.code(), Some(64));
    for command in [
        vec!["--help"],
        vec!["--version"],
        vec!["job", "run", "--help"],
        vec!["demo", "--help"],
    ] {
        let output = handout(&command);
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{command:?}"
        );
    }
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let commands = [
        "demo",
        "run",
        "check",
        "job run",
        "job submit",
        "job preview",
        "job parked",
        "audit verify",
        "audit find",
        "ledger show",
        "presign",
        "explain",
        "schema",
        "completions",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = stdout(&handout(&arguments));
        assert!(help.contains("Example"), "{command}: {help}");
    }
}

#[test]
fn the_schema_is_printed_as_json() {
    let schema: Value = serde_json::from_str(&stdout(&handout(&["schema"]))).unwrap();
    assert_eq!(schema["title"], "Handout job, version 1");
    assert!(stdout(&handout(&["completions", "bash"])).contains("handout"));
}

#[test]
fn a_url_is_explained_from_an_argument_or_from_stdin_without_its_signature() {
    let urls = include_str!("../../crates/presign/tests/fixtures/openssl.txt");
    let url = urls.lines().next().unwrap();
    let output = handout(&["explain", url]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "it ended long ago: {text}");
    assert!(
        text.starts_with("a link to CloudFront, canned policy\n"),
        "{text}"
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url.txt");
    let live = url.replace("1767290400", "2147483647");
    fs::write(&file, format!("{live}\n")).unwrap();
    let output = Command::new(program())
        .args(["explain", "--json", "-"])
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let text = stdout(&output);
    let explained: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(explained["opens"]["key"], "image.jpg");
    assert_eq!(explained["ends_at"], "2038-01-19T03:14:07Z");
    assert_eq!(explained["is_over"], false);
    let signature = presign::signature_in(&live).unwrap();
    assert!(!text.contains(&signature), "{text}");

    assert_eq!(handout(&["explain"]).status.code(), Some(64));
}

#[tokio::test]
async fn parked_messages_are_counted_paged_and_forgotten() {
    let mut world = World::new();
    for number in 0..150 {
        world = world.message(&format!("no job {number}"));
    }
    world.run().await;
    let (config, _) = files(&world, &email_job("x"));
    let parked = |arguments: &[&str]| {
        stdout(&handout(
            &[&["job", "parked", "--config", &config], arguments].concat(),
        ))
    };
    let first = parked(&[]);
    assert_eq!(first.lines().count(), 101);
    assert_eq!(
        first.lines().last(),
        Some("100 of 150 parked messages; those after these: --after 100")
    );
    assert_eq!(
        parked(&["--after", "100", "--limit", "20"]).lines().count(),
        21
    );
    let young = parked(&["--prune", "--older-than", "1d"]);
    assert_eq!(young, "pruned 0 parked messages\n");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let would = parked(&["--prune", "--older-than", "1s", "--dry-run"]);
    assert_eq!(would, "would prune 150 parked messages\n");
    let old = parked(&["--prune", "--older-than", "1s"]);
    assert_eq!(old, "pruned 150 parked messages\n");
    assert_eq!(parked(&[]), "No message is parked.\n");
    let too_young = handout(&[
        "ledger",
        "prune",
        "--older-than",
        "14d",
        "--config",
        &config,
    ]);
    assert_eq!(too_young.status.code(), Some(64));
    let ledger = handout(&[
        "ledger",
        "prune",
        "--older-than",
        "15d",
        "--config",
        &config,
    ]);
    assert_eq!(stdout(&ledger), "pruned 0 jobs\n");
}

/// Characters that command a terminal, end a line or turn text around.
const HOSTILE: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{202e}gnp.exe\u{7f}\u{85}\u{2028}";

#[track_caller]
fn assert_tame(what: &str, output: &Output) {
    for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = String::from_utf8_lossy(bytes);
        let wild = text
            .chars()
            .find(|c| !matches!(c, '\n' | '\t' | '\r') && !handout::text::is_printable(*c));
        assert_eq!(wild, None, "{what}, {stream}: {text:?}");
    }
}

#[tokio::test]
async fn no_command_prints_what_commands_a_terminal() {
    let world = World::new().object("a.pdf", "x");
    let mut wild_key = email_job("wild-key");
    wild_key["from"] =
        json!({ "connection": "local", "bucket": "reports", "keys": ["\u{202e}fdp.exe"] });
    let with = |pointer: &str, value: Value| {
        let mut job = email_job("wild");
        *job.pointer_mut(pointer).unwrap() = value;
        job
    };
    let mut jobs = vec![
        with("/id", json!(HOSTILE)),
        with("/from/connection", json!(HOSTILE)),
        with("/from/bucket", json!(HOSTILE)),
        with("/from/prefix", json!(HOSTILE)),
        with("/email/to", json!([HOSTILE])),
        with("/email/subject", json!(format!("{{{{{HOSTILE}}}}}"))),
        wild_key,
    ];
    for (field, value) in [("order", HOSTILE), (HOSTILE, "x")] {
        let mut job = email_job("wild");
        job["from"][field] = json!(value);
        jobs.push(job);
    }
    // Jobs of one name would wait for each other.
    for (number, job) in jobs.iter_mut().enumerate().skip(1) {
        job["id"] = json!(format!("wild-{number}"));
    }
    let (config, job) = files(&world, &email_job("x"));
    for wild in &jobs {
        fs::write(&job, wild.to_string()).unwrap();
        for command in ["run", "submit", "preview"] {
            let output = handout(&["job", command, &job, "--config", &config]);
            assert_tame(&format!("job {command} {wild}"), &output);
        }
    }
    let event = json!({ "Records": [{
        "eventVersion": "2.1", "eventName": format!("ObjectCreated:{HOSTILE}"), "eventTime": HOSTILE,
        "s3": { "bucket": { "name": HOSTILE }, "object": { "key": format!("{HOSTILE}{}", "k".repeat(900)), "sequencer": "1" } },
    }] });
    // A queue of its own: some of the jobs above are on the other.
    let mut world = World::new().object("a.pdf", "x");
    world.config.audit.recipients = handout::config::RecipientNames::Clear;
    world = jobs.iter().fold(world, |world, job| world.job(job));
    world = world
        .job(&event)
        .job(&json!({ "v": 1, HOSTILE: HOSTILE }))
        .message(HOSTILE);
    world.run().await;
    let (config, _) = files(&world, &email_job("x"));
    let url = format!(
        "https://b.s3.amazonaws.com/{HOSTILE}?X-Amz-Algorithm={HOSTILE}&X-Amz-Credential={HOSTILE}&X-Amz-Signature={HOSTILE}"
    );
    for command in [
        &["job", "parked"][..],
        &["audit", "tail"],
        &["audit", "find"],
        &["audit", "find", "--csv"],
        &["audit", "stats"],
        &["audit", "verify"],
        &["ledger", "show"],
        &["ledger", "show", "wild-6"],
    ] {
        let output = handout(&[command, &["--config", &config]].concat());
        assert_tame(&command.join(" "), &output);
    }
    for command in [
        &["explain", &url][..],
        &["explain", "--json", &url],
        &["presign", &format!("s3://b/{HOSTILE}")],
    ] {
        assert_tame(command[0], &handout(command));
    }
    let parked = world.parked().await;
    assert_eq!(parked.len(), 12, "{parked:#?}");
    for reason in parked {
        assert!(
            reason.chars().all(handout::text::is_printable),
            "stored clean: {reason:?}"
        );
        assert!(reason.len() <= handout::bounds::MAX_REASON_BYTES);
    }
}

#[test]
fn check_names_a_secret_that_every_user_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new();
    let password = world.dir.path().join("password");
    fs::write(&password, "correct horse").unwrap();
    world.config.mail.smtp.username = Some("handout".to_owned());
    world.config.mail.smtp.password_file = Some(password.clone());
    let (config, _) = files(&world, &email_job("x"));
    let said = |mode: u32| {
        fs::set_permissions(&password, fs::Permissions::from_mode(mode)).unwrap();
        let output = handout(&["check", "--config", &config]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("secret files"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    for mode in [0o400, 0o600, 0o640, 0o440] {
        assert!(said(mode).starts_with("ok"), "{mode:o}");
    }
    let open = said(0o644);
    assert!(
        open.starts_with("warn") && open.contains("(mail.smtp.password_file)"),
        "{open}"
    );
}
