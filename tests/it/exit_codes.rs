//! The exit codes and the JSON of commands: a script decides by them.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::program;
use crate::support::world::{World, email_job};

fn handout(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

/// A world's configuration as a file.
fn config_of(world: &World) -> String {
    let path = world.dir.path().join("config.toml");
    fs::write(&path, toml::to_string(&world.config).unwrap()).unwrap();
    path.to_string_lossy().into_owned()
}

/// The exit code and the words of a command.
fn asked(config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = handout(&[arguments, &["--config", config]].concat());
    let words = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&words).into_owned(),
    )
}

#[tokio::test]
async fn an_unknown_name_is_1_a_wrong_argument_64_and_a_lacking_configuration_78() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let config = config_of(&world);
    let job = world.dir.path().join("job.json");
    fs::write(&job, b"\xff\xfe{\0}\0").unwrap();
    let no_mail = world.dir.path().join("no-mail.json");
    let mut order = email_job("no-mail");
    order.as_object_mut().unwrap().remove("email");
    fs::write(&no_mail, order.to_string()).unwrap();
    let (job, no_mail) = (job.to_string_lossy(), no_mail.to_string_lossy());
    let id = "0".repeat(32);
    let table: &[(&[&str], i32)] = &[
        (&["revoke", "job", "weekly"], 1),
        (&["extend", "weekly", "--by", "1d"], 1),
        (
            &[
                "revoke",
                "link",
                "https://b.s3.amazonaws.com/k?X-Amz-Signature=00",
            ],
            1,
        ),
        (&["schedule", "next", "weekly"], 1),
        (&["schedule", "run", "weekly"], 1),
        (&["ledger", "show", "weekly"], 1),
        (&["ledger", "resolve", "daily", &id, "sent"], 1),
        (&["job", "run", &job], 1),
        (
            &["job", "run", &no_mail, "--rehearse", "me@acme.example"],
            1,
        ),
        (&["suppression", "add", "ann", "--reason", "x"], 64),
        (&["suppression", "show", "--rid", "12"], 64),
        (&["ledger", "resolve", "daily", "ann@", "sent"], 64),
        (
            &["audit", "find", "--url", "https://b.s3.amazonaws.com/k"],
            64,
        ),
        (&["audit", "verify", "--public-key", "neither"], 64),
        (&["job", "parked", "--limit", "0"], 64),
        (&["portal"], 78),
        (&["audit", "verify", "--archive"], 78),
        (
            &["revoke", "standing-deny", "s3://b", "--connection", "other"],
            78,
        ),
    ];
    for (arguments, code) in table {
        let (found, words) = asked(&config, arguments);
        assert_eq!(found, Some(*code), "{arguments:?}: {words}");
    }
    let (_, words) = asked(&config, &["suppression", "add", "ann", "--reason", "x"]);
    assert!(
        words.contains("the address ann "),
        "what was typed: {words}"
    );
}

#[test]
fn a_port_that_is_in_use_is_73() {
    let mut world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    world.config.http.listen = taken.local_addr().unwrap();
    world.config.portal.listen = Some(crate::support::world::free_address());
    world.config.portal.public_url = Some("https://files.acme.example".to_owned());
    let config = config_of(&world);
    for command in ["run", "portal"] {
        let (code, words) = asked(&config, &[command]);
        assert_eq!(code, Some(73), "{command}: {words}");
    }
}

#[test]
fn a_directory_without_a_log_is_not_whole() {
    let world = World::new();
    let config = config_of(&world);
    let empty = world.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = empty.to_string_lossy();
    let (code, words) = asked(&config, &["audit", "verify", &empty]);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("holds no audit log"), "{words}");
    // A fresh installation has no line yet.
    fs::create_dir_all(world.config.audit_dir()).unwrap();
    for _before_and_after_the_secret in 0..2 {
        let (code, words) = asked(&config, &["audit", "verify"]);
        assert_eq!(code, Some(0), "{words}");
        assert!(words.contains("no audit log yet"), "{words}");
        asked(&config, &["audit", "key"]);
    }
}

#[tokio::test]
async fn a_failure_with_a_mail_on_stdin_is_75_and_with_a_maildir_its_own() {
    let mut world = World::new();
    world.run().await;
    let config = config_of(&world);
    let missing = world.dir.path().join("none");
    let (code, words) = asked(&config, &["feedback", &missing.to_string_lossy()]);
    assert_eq!(code, Some(74), "{words}");
    let (code, words) = asked("/nonexistent/config.toml", &["feedback", "-"]);
    assert_eq!(code, Some(75), "{words}");
}

#[tokio::test]
async fn what_json_is_asked_for_is_json() {
    let mut world = World::new()
        .object("a.pdf", "x")
        .job(&email_job("daily"))
        .message("no job");
    world.run().await;
    let config = config_of(&world);
    let job = world.dir.path().join("job.json");
    fs::write(&job, email_job("later").to_string()).unwrap();
    let out = world.dir.path().join("preview");
    let (job, out) = (job.to_string_lossy(), out.to_string_lossy());
    let table: &[&[&str]] = &[
        &["job", "preview", &job, "--out", &out],
        &["job", "submit", &job],
        &["job", "parked"],
        &["job", "parked", "--requeue", "all"],
        &[
            "job",
            "parked",
            "--prune",
            "--older-than",
            "30d",
            "--dry-run",
        ],
        &["job", "resend", "daily", "--failed"],
        &["ledger", "show"],
        &["ledger", "show", "daily"],
        &["ledger", "show", "--doubts"],
        &["ledger", "prune", "--older-than", "90d", "--dry-run"],
        &["ledger", "resolve", "daily", "ann@acme.example", "sent"],
        &["suppression", "add", "cy@acme.example", "--reason", "asked"],
        &[
            "suppression",
            "remove",
            "cy@acme.example",
            "--reason",
            "asked",
        ],
        &["suppression", "list"],
        &["config", "show"],
        &["audit", "verify"],
        &["audit", "retain"],
        &["opens", "daily"],
        &["health"],
        &["revoke", "job", "daily", "--dry-run"],
    ];
    for arguments in table {
        let words = [*arguments, &["--json", "--config", &config]].concat();
        let output = handout(&words);
        let told: Result<Value, _> = serde_json::from_slice(&output.stdout);
        assert!(
            told.is_ok(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if arguments[0] == "revoke" {
            let told = told.unwrap();
            assert_eq!((told.get("nonce"), told.get("refs")), (None, None));
        }
    }
}
