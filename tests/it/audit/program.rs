//! The same by the program: killed while it writes, beside others, on a full disk, and asked about what it wrote.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use handout::audit::note::PublicKey;
use handout::audit::verify::{VerifyReport, verify};
use handout::config::Config;
use handout::environment::Environment;
use handout::keyring::Keyring;
use serde_json::{Value, json};

use super::{assert_whole, files};
use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};
use crate::support::{get, program, until};

const TOKEN: &str = "FwoGZXIvYXdzEXAMPLETOKENoBWq/+==";

/// `handout` with credentials in its environment, and nothing else of ours.
fn handout(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env(
            "AWS_SECRET_ACCESS_KEY",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        )
        .env("AWS_REGION", "eu-west-1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// `handout presign` for keys that come by stdin.
fn presign(config: &Path) -> Command {
    let config = config.to_string_lossy();
    let mut command = handout(&[
        "presign",
        "--keys-from",
        "-",
        "s3://acme-reports",
        "--config",
        &config,
    ]);
    command.stdin(Stdio::piped());
    command
}

fn keys(count: usize) -> String {
    (0..count)
        .map(|key| format!("exports/{key}.csv\n"))
        .collect()
}

/// Presigns so many keys, and ends.
fn presigned(config: &Path, count: usize) -> Output {
    let mut child = presign(config).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = keys(count);
    let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn asked(config: &Path, arguments: &[&str]) -> Output {
    let config = config.to_string_lossy();
    let arguments = [&["audit"], arguments, &["--config", &config]].concat();
    handout(&arguments).output().unwrap()
}

fn key_of(config: &Config) -> PublicKey {
    let keyring = Keyring::open(&config.secret_key_file()).unwrap();
    let key = config.checkpoint_key(&keyring, &Environment::default());
    key.unwrap().public()
}

fn verified(config: &Config) -> VerifyReport {
    verify(config.audit_dir(), Some(&key_of(config))).unwrap()
}

/// The links' identities, as they stand in URLs.
fn identities(urls: &str) -> Vec<String> {
    let identity = |url: &str| crate::support::link_id(url).to_owned();
    urls.lines().map(identity).collect()
}

fn recorded(world: &World) -> std::collections::BTreeSet<String> {
    let lines = world.audit_of("issue").into_iter();
    lines
        .map(|line| line["link_id"].as_str().unwrap().to_owned())
        .collect()
}

/// kill -9 while groups are being committed: whatever was printed has its line, and the next start mends the rest.
#[test]
fn a_process_that_is_killed_while_it_commits_has_printed_no_link_without_its_line() {
    let world = World::new();
    let config = world.written();
    for round in 0..4 {
        let mut child = presign(&config).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeding = std::thread::spawn(move || {
            // Until the process is gone.
            while stdin.write_all(keys(1000).as_bytes()).is_ok() {}
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        for _ in 0..(1 + round * 700) {
            out.read_line(&mut printed).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        feeding.join().unwrap();
        // What had left the process when it died was printed too, up to the last whole line.
        let mut rest = String::new();
        while out.read_line(&mut rest).unwrap() > 0 {
            if rest.ends_with('\n') {
                printed.push_str(&rest);
            }
            rest.clear();
        }
        stdout(&presigned(&config, 1));
        let report = verified(&world.config);
        assert_whole(&report);
        assert_eq!(report.open, 0);
        assert_eq!(world.audit_of("recover").len(), round + 1);
        let recorded = recorded(&world);
        for identity in identities(&printed) {
            assert!(
                recorded.contains(&identity),
                "round {round}: {identity} has no line"
            );
        }
    }
}

#[tokio::test]
async fn a_daemon_and_many_commands_write_into_one_directory() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let commands: Vec<Child> = (0..6)
        .map(|_| {
            let mut child = presign(&config).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(keys(300).as_bytes()).unwrap();
            child
        })
        .collect();
    submit(&config, &email_job("daily"));
    assert_whole(&verified(&world.config));
    for command in commands {
        let urls = stdout(&command.wait_with_output().unwrap());
        assert_eq!(urls.lines().count(), 300);
    }
    until("the mail", async || world.mails().pop()).await;
    let living = verified(&world.config);
    assert_whole(&living);
    assert_eq!((living.streams, living.open), (7, 1));
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0));
    let report = verified(&world.config);
    assert_whole(&report);
    assert_eq!((report.streams, report.open), (7, 0));
    assert_eq!(world.audit_of("issue").len(), 6 * 300 + 1);
}

/// A limit on the size of files fails a write as a full disk does, for real and everywhere.
#[test]
fn a_write_that_fails_ends_the_program_with_74_and_prints_no_link_without_its_line() {
    let world = World::new();
    let config = world.written();
    // Files of 400 blocks of 512 bytes; the signal that comes with the limit is ignored, so that the write fails.
    let mut limited = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    limited.args(["-c", script]).arg(program());
    let presign = presign(&config);
    limited.args(presign.get_args());
    let variables = presign
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    limited
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = limited.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || drop(stdin.write_all(keys(5000).as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains("nothing more is handed out"), "{said}");
    // With room again, the next start ends what broke off.
    stdout(&presigned(&config, 1));
    assert_whole(&verified(&world.config));
    let recorded = recorded(&world);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.lines().count() < 5000);
    for identity in identities(&printed) {
        assert!(recorded.contains(&identity), "{identity} has no line");
    }
}

#[tokio::test]
async fn a_nearly_full_disk_stops_receiving_and_says_so_until_there_is_room() {
    let world = World::new()
        .object("a.pdf", "x")
        .configured(|config| config.audit.min_free = "8000000GB".parse().unwrap());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("daily"));
    until("the sentence", async || {
        daemon_log(&config)
            .contains("no message is received until there is room again")
            .then_some(())
    })
    .await;
    let (status, text) = get(&format!("http://{}/ready", daemon.http)).await;
    assert_eq!(status, 503);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("audit.min_free is 8000000GB"), "{text}");
    assert_eq!(get(&format!("http://{}/live", daemon.http)).await.0, 200);
    assert_eq!((world.waiting().await, world.mails().len()), (1, 0));
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0));
    assert_eq!(
        daemon_log(&config)
            .matches("until there is room again")
            .count(),
        1,
        "it is said once"
    );

    let world = world.configured(|config| config.audit.min_free = "1KB".parse().unwrap());
    let _daemon = Daemon::start(&world.written(), &[]).await;
    until("the mail", async || world.mails().pop()).await;
}

#[tokio::test]
async fn a_log_that_something_else_rotates_ends_the_daemon_with_65() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let segment = segments(&world.config.audit_dir()).remove(0);
    let text = fs::read(&segment).unwrap();
    fs::write(segment.with_extension("jsonl.1"), &text).unwrap();
    fs::write(&segment, "").unwrap();
    submit(&config, &email_job("daily"));
    let (code, _) = daemon.end().await;
    assert_eq!(code, Some(65), "{}", daemon_log(&config));
    assert!(world.mails().is_empty());
    assert!(daemon_log(&config).contains("exclude it from logrotate"));
    // It does not start over a damaged log.
    let again = handout(&["run", "--config", &config.to_string_lossy()])
        .output()
        .unwrap();
    assert_eq!(
        again.status.code(),
        Some(65),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    // The stream's files brought back, the log is whole, and nothing of it was lost.
    fs::write(&segment, &text).unwrap();
    let _daemon = Daemon::start(&config, &[]).await;
    until("the mail", async || world.mails().pop()).await;
    assert_whole(&verified(&world.config));
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = files(dir)
        .into_keys()
        .filter(|name| name.ends_with(".jsonl"));
    names.map(|name| dir.join(name)).collect()
}

/// Everything that the program does, once: mails, pages, lists, a refusal, links from the command line with a session's
/// token, a kill, and the start after it. What was said on stderr.
async fn a_run_with_everything(world: &World, config: &Path) -> (String, String) {
    let daemon = Daemon::start(config, &[]).await;
    let mut job = email_job("daily");
    job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    job["manifest"] =
        json!({ "format": "csv", "publish": { "bucket": "published", "prefix": "m/" } });
    submit(config, &job);
    job["id"] = json!("refused");
    job["email"]["to"] = json!(["eve@evil.example"]);
    submit(config, &job);
    until("the mails", async || {
        (world.mails().len() == 2).then_some(())
    })
    .await;
    until("the outcomes", async || {
        (world.audit_of("outcome").len() == 2).then_some(())
    })
    .await;
    until("the refusal", async || {
        (world.audit_of("refused").len() == 1).then_some(())
    })
    .await;
    daemon.signal("KILL");
    daemon.end().await;
    let mut said = daemon_log(config);
    let end = handout::clock::system() + jiff::SignedDuration::from_hours(8);
    let mut command = presign(config);
    command.args(["--for", "ann@acme.example", "--expires-in", "1h"]);
    command
        .env("AWS_SESSION_TOKEN", TOKEN)
        .env("AWS_CREDENTIAL_EXPIRATION", end.to_string());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(keys(2500).as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (stdout(&output), said)
}

#[tokio::test]
async fn nothing_that_is_written_holds_a_signature_or_a_token() {
    let world = World::new()
        .object("a.pdf", "x")
        .object("b \"q\" ü.pdf", "y");
    let config = world.written();
    let (urls, said) = a_run_with_everything(&world, &config).await;
    assert!(urls.contains("X-Amz-Security-Token="));
    // Every link that left: in mails, on pages, in lists, on stdout.
    let mut links: Vec<String> = world
        .mails()
        .into_iter()
        .flat_map(|mail| mail.hrefs)
        .collect();
    let published = below(&world.bucket("published"));
    let texts = published
        .iter()
        .map(|path| crate::support::published_text(path));
    links.extend(texts.flat_map(|text| crate::support::hrefs(&text)));
    links.extend(urls.lines().map(ToOwned::to_owned));
    let secrets: std::collections::BTreeSet<String> = links
        .iter()
        .filter_map(|url| presign::signature_in(url))
        .chain([
            TOKEN.to_owned(),
            TOKEN.replace('/', "%2F"),
            TOKEN[..20].to_owned(),
        ])
        .collect();
    assert!(secrets.len() > 2500 + 8, "{}", secrets.len());
    let outbox = world.config.outbox_dir();
    let own = below(&world.config.state_dir).into_iter();
    let own: Vec<PathBuf> = own.filter(|path| !path.starts_with(&outbox)).collect();
    let names: Vec<String> = own.iter().map(|path| path.display().to_string()).collect();
    assert!(
        names.iter().any(|name| name.ends_with(".sqlite"))
            && names.iter().any(|name| name.ends_with(".jsonl")),
        "{names:?}"
    );
    for (name, bytes) in own
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .chain([("stderr".to_owned(), said.into_bytes())])
    {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&TOKEN[..20]), "{name} holds a token");
        // A signature is 64 hexadecimal digits: look at each such word once.
        for word in text
            .split(|c: char| !c.is_ascii_hexdigit())
            .filter(|word| word.len() >= 64)
        {
            for at in 0..=word.len() - 64 {
                assert!(
                    !secrets.contains(&word[at..at + 64]),
                    "{name} holds a signature"
                );
            }
        }
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(below(&path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn every_line_is_as_the_schema_says_and_an_unknown_field_is_not() {
    let printed = handout(&["schema", "--audit"]).output().unwrap();
    let schema: Value = serde_json::from_str(&stdout(&printed)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let world = World::new().object("a.pdf", "x").configured(|config| {
        config.audit.rotate_size = "1MB".parse().unwrap();
        config.audit.recipients = handout::config::RecipientNames::Clear;
    });
    let config = world.written();
    let _ = a_run_with_everything(&world, &config).await;
    stdout(&presigned(&config, 4000));
    let lines = world.audit();
    let mut events = std::collections::BTreeSet::new();
    for line in &lines {
        let told = validator.validate(line).map_err(|error| error.to_string());
        assert_eq!(told, Ok(()), "{line}");
        events.insert(line["ev"].as_str().unwrap().to_owned());
    }
    let all = [
        "checkpoint",
        "close",
        "gallery",
        "issue",
        "manifest",
        "open",
        "outcome",
        "published",
        "recover",
        "refused",
        "rotate",
    ];
    assert_eq!(events.iter().map(String::as_str).collect::<Vec<_>>(), all);
    for line in &lines[..30] {
        let mut more = line.clone();
        more["url"] = json!("https://…");
        assert!(!validator.is_valid(&more), "{more}");
    }
}

#[tokio::test]
async fn an_independent_implementation_verifies_the_log() {
    let Some(parts) = Parts::or_skip("an_independent_implementation_verifies_the_log") else {
        return;
    };
    let world = World::new().object("a.pdf", "x").configured(|config| {
        config.audit.rotate_size = "1MB".parse().unwrap();
    });
    let config = world.written();
    let _ = a_run_with_everything(&world, &config).await;
    stdout(&presigned(&config, 4000));
    let key = stdout(&asked(&config, &["key"]));
    let (key, dir) = (key.trim(), world.config.audit_dir());
    let check = || {
        parts
            .script("verify_audit.py")
            .arg(&dir)
            .arg(key)
            .output()
            .unwrap()
    };
    let seen: Value = serde_json::from_str(&stdout(&check())).unwrap();
    let report = verified(&world.config);
    assert_whole(&report);
    assert_eq!(
        seen,
        json!({ "streams": report.streams, "lines": report.lines, "checkpoints": report.checkpoints })
    );
    assert!(report.checkpoints > 7 && segments(&dir).len() > report.streams);
    // It can say no.
    let is_there = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        text.contains("exports/7.csv")
    };
    let segment = segments(&dir).into_iter().find(is_there).unwrap();
    let text = fs::read_to_string(&segment).unwrap();
    let text = text.replacen("exports/7.csv", "exports/8.csv", 1);
    fs::write(&segment, text).unwrap();
    assert!(!check().status.success());
}

#[test]
fn the_log_answers_questions_of_the_command_line() {
    let world = World::new();
    let config = world.written();
    let urls = stdout(&presigned(&config, 1200));
    let url = urls.lines().nth(700).unwrap();
    let found = stdout(&asked(&config, &["find", "--url", url]));
    let line: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(line["key"], "exports/700.csv");
    let id = line["link_id"].as_str().unwrap();
    assert_eq!(stdout(&asked(&config, &["find", "--link-id", id])), found);
    assert_eq!(
        stdout(&asked(
            &config,
            &[
                "find",
                "--key",
                "s3://acme-reports/exports/700.csv",
                "--json"
            ]
        )),
        found
    );
    let csv = stdout(&asked(&config, &["find", "--link-id", id, "--csv"]));
    assert_eq!(csv.lines().count(), 2);
    assert!(
        csv.lines()
            .nth(1)
            .unwrap()
            .contains(",\"acme-reports\",\"exports/700.csv\","),
        "{csv}"
    );
    let of_job = |more: &[&str]| asked(&config, &[&["find", "--job", "presign"], more].concat());
    assert_eq!(
        stdout(&of_job(&["--since", "2020-01-01"])).lines().count(),
        1200
    );
    assert_eq!(
        of_job(&["--until", "2020-01-01T00:00:00Z"]).status.code(),
        Some(1),
        "nothing is found"
    );
    assert_eq!(of_job(&["--until", "yesterday"]).status.code(), Some(64));

    let tail = stdout(&asked(&config, &["tail", "-n", "2"]));
    let events: Vec<Value> = tail
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&events[0]["ev"], &events[1]["ev"]),
        (&json!("checkpoint"), &json!("close"))
    );
    let stats = stdout(&asked(&config, &["stats", "--json"]));
    let row: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(
        (&row["bucket"], &row["links"]),
        (&json!("acme-reports"), &json!(1200))
    );
    let table = stdout(&asked(&config, &["stats"]));
    assert!(
        table.lines().nth(1).unwrap().ends_with("\t1200\t0"),
        "{table}"
    );
}

#[tokio::test]
async fn a_followed_log_prints_what_comes() {
    let world = World::new();
    let config = world.written();
    stdout(&presigned(&config, 1));
    let config_text = config.to_string_lossy();
    let mut child = handout(&["audit", "tail", "-f", "-n", "1", "--config", &config_text])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(last["ev"], "close");
    stdout(&presigned(&config, 1));
    let new = lines
        .by_ref()
        .take(4)
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let events: Vec<String> = new
        .map(|line| line["ev"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["open", "issue", "checkpoint", "close"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_log_is_verified_under_a_pinned_key() {
    let world = World::new();
    let config = world.written();
    stdout(&presigned(&config, 3));
    let key = stdout(&asked(&config, &["key"]));
    let (file, dir) = (world.dir.path().join("audit.pub"), world.config.audit_dir());
    fs::write(&file, &key).unwrap();
    let dir = dir.to_string_lossy();
    // Elsewhere, without a configuration: pinned by a file, by its text, and not at all.
    let elsewhere = tempfile::tempdir().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = handout(&[&["audit", "verify", &dir], arguments].concat());
        command
            .current_dir(elsewhere.path())
            .env("HOME", elsewhere.path())
            .env_remove("XDG_STATE_HOME")
            .output()
            .unwrap()
    };
    for pinned in [file.to_string_lossy().as_ref(), key.trim()] {
        let text = stdout(&ask(&["--public-key", pinned]));
        assert!(
            text.ends_with(": whole\n") && !text.contains("note:"),
            "{text}"
        );
    }
    let text = stdout(&ask(&[]));
    assert!(
        text.contains("give the key (--public-key)") && text.ends_with(": whole\n"),
        "{text}"
    );
    let other = handout::audit::note::SigningKey::from_seed(&[1; 32])
        .public()
        .to_string();
    assert_eq!(ask(&["--public-key", &other]).status.code(), Some(1));
    let slip = ask(&["--public-key", "handout+nothing"]);
    assert!(String::from_utf8_lossy(&slip.stderr).contains("neither a key nor a file"));
}

/// A log that is put back to an earlier state, with everything that remembers it, is told from the later one by what was kept elsewhere.
#[test]
fn the_generation_of_the_registry_grows_and_each_has_one_hash() {
    let world = World::new();
    let config = world.written();
    let dir = world.config.audit_dir();
    let registry = || -> (u64, String) {
        let report: Value =
            serde_json::from_str(&stdout(&asked(&config, &["verify", "--json"]))).unwrap();
        let hash = report["registry_sha256"].as_str().unwrap().to_owned();
        let text = stdout(&asked(&config, &["verify"]));
        let generation = report["registry_generation"].as_u64().unwrap();
        let line = format!("registry: generation {generation}, sha256:{hash} ");
        assert!(text.contains(&line), "{text}");
        (generation, hash)
    };
    stdout(&presigned(&config, 1));
    let note = fs::read(dir.join("streams.note")).unwrap();
    let first = registry();
    assert_eq!(registry(), first, "a verification changes nothing");
    stdout(&presigned(&config, 1));
    let second = registry();
    assert!(
        second.0 > first.0 && second.1 != first.1,
        "{first:?} {second:?}"
    );
    fs::write(dir.join("streams.note"), note).unwrap();
    let back = asked(&config, &["verify", "--json"]);
    let report: Value = serde_json::from_slice(&back.stdout).unwrap();
    assert_eq!(report["registry_generation"], first.0);
    assert_eq!(report["registry_sha256"], first.1);
}

/// A command that root runs leaves nothing that the daemon's user cannot read, lock and mend.
#[test]
fn what_root_writes_belongs_to_the_directorys_owner() {
    const DAEMON: u32 = 12_345;
    let world = World::new();
    let dir = world.config.audit_dir();
    fs::create_dir_all(&dir).unwrap();
    if chown(&dir, Some(DAEMON), Some(DAEMON)).is_err() {
        eprintln!("what_root_writes_belongs_to_the_directorys_owner: skipped: only root can");
        return;
    }
    let config = world.written();
    let mut child = presign(&config).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let check = |what: &str| {
        let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
        let mut count = 0;
        for entry in names {
            let metadata = entry.metadata().unwrap();
            assert_eq!(
                (metadata.uid(), metadata.gid()),
                (DAEMON, DAEMON),
                "{what}: {:?}",
                entry.file_name()
            );
            count += 1;
        }
        assert!(count >= 3, "{what}: {count}");
    };
    drop(stdin);
    child.wait().unwrap();
    check("ended");
    // A killed one, too.
    let mut child = presign(&config).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(keys(2000).as_bytes()).unwrap();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    check("killed");
}
