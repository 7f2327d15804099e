//! What `check` says of this machine: what the daemon would find at its start, or at its first job.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use handout::config::QueueKind;

use super::Checked;
use crate::daemon::Daemon;
use crate::support::world::{World, email_job};

/// The one failure of a world.
fn failure(world: &World) -> String {
    let checked = Checked::of(world, &[]);
    let failures = checked.failures();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    let place = world.dir.path().to_string_lossy().into_owned();
    failures[0].replace(&place, "…")
}

fn line(world: &World, what: &str) -> String {
    let place = world.dir.path().to_string_lossy().into_owned();
    Checked::of(world, &[]).line(what).replace(&place, "…")
}

#[test]
fn an_outbox_and_an_audit_log_that_cannot_be_written_are_failures() {
    let mut world = World::new();
    insta::assert_snapshot!(line(&world, "mail"), @"ok mail: nothing is sent: mails go to …/state/outbox, which is created in …/state when it is needed");
    insta::assert_snapshot!(line(&world, "audit log"), @"ok audit log: …/state/audit is created in …/state when it is needed");
    let file = world.dir.path().join("file");
    fs::write(&file, "").unwrap();
    world.config.mail.outbox_dir = Some(file.join("outbox"));
    insta::assert_snapshot!(failure(&world), @"FAIL mail: …/file/outbox cannot be written: Not a directory (os error 20)");
    world.config.mail.outbox_dir = None;
    world.config.audit.dir = Some(file);
    insta::assert_snapshot!(failure(&world), @"FAIL audit log: …/file cannot be written: Not a directory (os error 20)");
}

#[test]
fn an_audit_log_whose_disk_has_no_room_or_whose_key_is_another_is_a_failure() {
    let mut world = World::new();
    world.config.audit.min_free = "8000000GB".parse().unwrap();
    let full = failure(&world);
    assert!(
        full.contains("MB left, and audit.min_free is 8000000GB"),
        "{full}"
    );
    world.config.audit.min_free = "1MB".parse().unwrap();
    world.config.audit.checkpoint_key_file = Some(world.dir.path().join("missing"));
    let missing = failure(&world);
    assert!(
        missing.starts_with("FAIL audit log: the configuration's audit.checkpoint_key_file names "),
        "{missing}"
    );
}

#[tokio::test]
async fn a_log_that_a_start_would_not_write_to_is_a_failure() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("first"));
    world.run().await;
    assert!(line(&world, "audit log").starts_with("ok "));
    // Another secret signs with another key.
    fs::remove_file(world.config.secret_key_file()).unwrap();
    let told = failure(&world);
    assert!(
        told.contains("is signed with another key; a start ends with 65"),
        "{told}"
    );
}

#[tokio::test]
async fn an_address_that_another_program_has_is_a_failure_and_one_that_the_daemon_has_is_none() {
    let world = World::new().object("a.pdf", "x");
    for (key, address) in [
        ("http.listen", world.config.http.listen),
        ("embedded.listen", world.config.embedded.listen),
    ] {
        assert_eq!(line(&world, key), format!("ok {key}: {address} is free"));
        let other = TcpListener::bind(address).unwrap();
        assert_eq!(
            failure(&world),
            format!(
                "FAIL {key}: {address} is in use by another program: end it, or name another port"
            )
        );
        drop(other);
    }
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let checked = Checked::of(&world, &[]);
    assert_eq!(checked.failures(), [""; 0]);
    for key in ["http.listen", "embedded.listen"] {
        assert!(
            checked
                .line(key)
                .ends_with("is in use by the handout that runs here")
        );
    }
    drop(daemon);
}

#[test]
fn an_address_that_this_machine_does_not_have_is_a_failure() {
    let mut world = World::new();
    // TEST-NET-1 (RFC 5737).
    world.config.http.listen = "192.0.2.1:9464".parse().unwrap();
    let told = failure(&world);
    assert!(
        told.starts_with("FAIL http.listen: cannot listen on 192.0.2.1:9464: "),
        "{told}"
    );
}

#[test]
fn a_program_for_doubts_that_cannot_be_run_is_a_failure() {
    let mut world = World::new();
    let program = world.dir.path().join("resolve");
    world.config.ledger.resolve_cmd = Some(program.clone());
    let write = |path: &Path, text: &str, mode| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut told = vec![failure(&world)];
    write(&program, "#!/bin/sh\necho hold\n", 0o644);
    told.push(failure(&world));
    write(&program, "#!/usr/bin/nonesuch -e\n", 0o755);
    told.push(failure(&world));
    fs::remove_file(&program).unwrap();
    fs::create_dir(&program).unwrap();
    told.push(failure(&world));
    fs::remove_dir(&program).unwrap();
    write(&program, "#!/bin/sh\necho hold\n", 0o755);
    told.push(line(&world, "ledger.resolve_cmd"));
    insta::assert_snapshot!(told.join("\n"), @r"
    FAIL ledger.resolve_cmd: …/resolve cannot be found: No such file or directory (os error 2): in-doubt deliveries would not be resolved by it
    FAIL ledger.resolve_cmd: …/resolve cannot be executed (chmod +x): in-doubt deliveries would not be resolved by it
    FAIL ledger.resolve_cmd: …/resolve names /usr/bin/nonesuch, which is not there: in-doubt deliveries would not be resolved by it
    FAIL ledger.resolve_cmd: …/resolve is not a file: in-doubt deliveries would not be resolved by it
    ok ledger.resolve_cmd: …/resolve can be executed
    ");
}

#[test]
fn a_file_of_results_that_takes_no_lines_is_a_failure_and_a_check_makes_none() {
    let mut world = World::new();
    let file = world.dir.path().join("results.jsonl");
    world.config.results.file = Some(file.clone());
    insta::assert_snapshot!(line(&world, "results"), @"ok results: are lines of …/results.jsonl");
    assert!(!file.exists());
    fs::create_dir(&file).unwrap();
    insta::assert_snapshot!(failure(&world), @"FAIL results: …/results.jsonl does not accept lines: …/results.jsonl is not a regular file: remove it, or use another directory");
    world.config.results.file = Some(world.dir.path().join("missing/results.jsonl"));
    insta::assert_snapshot!(failure(&world), @"FAIL results: …/missing/results.jsonl does not accept lines: No such file or directory (os error 2)");
}

#[test]
fn a_ledger_that_is_no_database_is_a_failure_where_the_queue_is_elsewhere() {
    let mut world = World::new();
    fs::create_dir(&world.config.state_dir).unwrap();
    fs::write(world.config.database_file(), "no database ".repeat(1000)).unwrap();
    world.config.queue.kind = QueueKind::Sqs;
    world.config.queue.url =
        Some("https://sqs.eu-west-1.amazonaws.com/123456789012/jobs".to_owned());
    world.config.queue.endpoint_url = Some("http://127.0.0.1:9".to_owned());
    let checked = Checked::of(&world, &super::KEYS);
    let failures = checked.failures();
    assert!(
        failures
            .iter()
            .any(|line| line.starts_with("FAIL ledger: ")),
        "{failures:#?}"
    );
}
