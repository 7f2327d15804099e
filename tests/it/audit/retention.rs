//! Retention: segments are compressed, archived and removed, also by runs that are interrupted, and all lines are still proved and found.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handout::audit::record::Pseudonyms;
use handout::audit::verify::{VerifyReport, verify};
use handout::audit::{AuditLog, AuditRecord, AuditSettings};
use handout::clock::{self, Clock};
use handout::config::{Config, ConnectionConfig};
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::plan::Audience;
use handout::quantity::Span;
use jiff::Timestamp;
use serde_json::Value;

use super::{Files, assert_whole, files};
use crate::conformance::{create_bucket, s3_client};
use crate::daemon::Daemon;
use crate::full_disk::SmallDisk;
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job};
use crate::support::{get, program, until};

/// A day long ago.
pub(super) fn long_ago() -> Timestamp {
    "2026-01-05T10:00:00Z".parse().unwrap()
}

pub(super) fn settings(config: &Config) -> AuditSettings {
    let keyring = Keyring::open(&config.secret_key_file()).unwrap();
    let settings = config.audit_settings(&keyring, &Environment::default());
    AuditSettings {
        rotate_size: "2KB".parse().unwrap(),
        ..settings.unwrap()
    }
}

fn names(config: &Config) -> Pseudonyms {
    Pseudonyms::new(&Keyring::open(&config.secret_key_file()).unwrap(), false)
}

/// A line that concerns a recipient.
pub(super) fn line(config: &Config, job: &str, audience: &str, key: usize) -> AuditRecord {
    let rid = names(config).recipient_id(audience);
    AuditRecord {
        event: "issue",
        fields: format!("\"job\":\"{job}\",\"rid\":\"{rid}\",\"bucket\":\"b\",\"key\":\"{key}\"")
            .into(),
    }
}

/// A stream of several segments, written at an instant.
pub(super) async fn stream(config: &Config, at: Clock, audience: &str, lines: usize) {
    groups(config, &settings(config), at, audience, (lines, 1)).await;
}

/// A stream of a number of groups of so many lines.
async fn groups(
    config: &Config,
    settings: &AuditSettings,
    at: Clock,
    audience: &str,
    (groups, lines): (usize, usize),
) {
    let (log, writer) = AuditLog::open(settings, "test", at).unwrap();
    let job = format!("job-of-{audience}");
    for group in 0..groups {
        let keys = (0..lines).map(|key| line(config, &job, audience, group * lines + key));
        log.append(keys.collect()).await.unwrap();
    }
    drop(log);
    writer.close();
}

/// A world whose log has two old streams, of Ann and of Bob, and a new one of Ann.
pub(super) async fn world(change: impl FnOnce(&mut Config)) -> (World, PathBuf) {
    let mut world = World::new();
    change(&mut world.config);
    fs::create_dir_all(&world.config.state_dir).unwrap();
    stream(&world.config, long_ago, "ann@acme.example", 20).await;
    stream(&world.config, long_ago, "bob@acme.example", 20).await;
    stream(&world.config, clock::system, "ann@acme.example", 12).await;
    let written = world.written();
    (world, written)
}

pub(super) fn asked(config: &Path, arguments: &[&str], failpoint: Option<&str>) -> Output {
    let mut command = Command::new(program());
    command
        .arg("audit")
        .args(arguments)
        .arg("--config")
        .arg(config);
    if let Some(place) = failpoint {
        command.env("HANDOUT_FAILPOINT", place);
    }
    command.output().unwrap()
}

pub(super) fn words(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[track_caller]
pub(super) fn done(config: &Path, arguments: &[&str]) -> String {
    let output = asked(config, arguments, None);
    assert!(output.status.success(), "{arguments:?}: {}", words(&output));
    words(&output)
}

pub(super) fn verified(config: &Config) -> VerifyReport {
    let key = settings(config).key.public();
    verify(config.audit_dir(), Some(&key)).unwrap()
}

/// The lines of a recipient.
pub(super) fn found(config: &Path, more: &[&str]) -> Vec<String> {
    let find = ["find", "--recipient", "ann@acme.example", "--json"];
    let output = asked(config, &[&find[..], more].concat(), None);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

pub(super) fn named(files: &Files, end: &str) -> Vec<String> {
    let names = files.keys().filter(|name| name.ends_with(end));
    names.cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_segments_are_verified_found_and_read_like_plain_ones() {
    let (world, config) = world(|config| config.audit.compress = true).await;
    let dir = world.config.audit_dir();
    let before = (verified(&world.config), found(&config, &[]));
    let plain = files(&dir);
    assert_eq!(before.1.len(), 32);

    let said = done(&config, &["retain", "--dry-run"]);
    assert!(said.contains(": would be compressed"), "{said}");
    let mut left = files(&dir);
    left.remove(".retention.lock");
    assert!(left == plain, "a dry run changes nothing");
    let said = done(&config, &["retain"]);
    assert!(said.contains(", 0 removed, 0 with a problem"), "{said}");

    let now = files(&dir);
    assert_eq!(named(&now, ".jsonl").len(), 0);
    assert_eq!(
        named(&now, ".jsonl.zst").len(),
        named(&plain, ".jsonl").len()
    );
    // The group that may read the log reads its compressed segments, too.
    for name in named(&now, ".jsonl.zst") {
        let mode = fs::metadata(dir.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    let report = verified(&world.config);
    assert_whole(&report);
    assert_eq!(
        (report.lines, report.checkpoints, report.streams),
        (before.0.lines, before.0.checkpoints, before.0.streams)
    );
    assert_eq!(found(&config, &[]), before.1);
    // The end of the log, without following it.
    let tail = done(&config, &["tail", "-n", "3"]);
    let last: Value = serde_json::from_str(tail.lines().last().unwrap()).unwrap();
    assert_eq!(last["ev"], "close");
    assert_eq!(tail.lines().count(), 3);
    let said = done(&config, &["retain"]);
    assert!(said.starts_with("0 compressed"), "{said}");

    // Each change of a compressed segment is damage, and none is a failure to read.
    for name in named(&now, ".jsonl.zst") {
        let path = dir.join(&name);
        let whole = &now[&name];
        for at in [0, 5, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            assert!(!verified(&world.config).problems.is_empty(), "{name} {at}");
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(!verified(&world.config).problems.is_empty(), "{name} cut");
        fs::remove_file(&path).unwrap();
        assert!(!verified(&world.config).problems.is_empty(), "{name} gone");
        fs::write(&path, whole).unwrap();
    }
    assert_whole(&verified(&world.config));
}

/// The program that others have reads them too.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_come_back_by_the_program_zstd() {
    let (world, config) = world(|config| config.audit.compress = true).await;
    let dir = world.config.audit_dir();
    let plain = files(&dir);
    done(&config, &["retain"]);
    for name in named(&files(&dir), ".zst") {
        let unpacked = Command::new("zstd")
            .arg("-dcq")
            .arg(dir.join(&name))
            .output();
        let Ok(unpacked) = unpacked else {
            crate::support::servers::skipped_for("the_program_zstd", "zstd is not installed");
            return;
        };
        assert!(unpacked.status.success(), "{}", words(&unpacked));
        assert!(unpacked.stdout == plain[name.strip_suffix(".zst").unwrap()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_segments_are_removed_and_their_absence_is_known_and_no_others() {
    let (world, config) = world(|config| config.audit.keep = Some(Span::days(30))).await;
    let dir = world.config.audit_dir();
    let before = verified(&world.config);
    let said = done(&config, &["retain"]);
    let report = verified(&world.config);
    assert_whole(&report);
    assert!(report.removed_segments > 4, "{said}");
    assert_eq!(report.lines + report.removed_lines, before.lines);
    // Of the new stream all is here.
    let lines = found(&config, &[]);
    assert_eq!(lines.len(), 12, "{lines:?}");
    let told = words(&asked(
        &config,
        &["find", "--recipient", "ann@acme.example"],
        None,
    ));
    assert!(
        told.contains("without an archive: their lines are gone"),
        "{told}"
    );
    let told = done(&config, &["verify"]);
    assert!(
        told.contains(
            " were removed after audit.keep, as the registry records; without an archive"
        ),
        "{told}"
    );
    // What the registry does not say was not removed by the program.
    let kept = files(&dir);
    for name in named(&kept, ".jsonl.zst") {
        fs::remove_file(dir.join(&name)).unwrap();
        assert!(!verified(&world.config).problems.is_empty(), "{name}");
        fs::write(dir.join(&name), &kept[&name]).unwrap();
    }
    // A start goes on, and its registry still knows.
    stream(&world.config, clock::system, "ann@acme.example", 3).await;
    let later = verified(&world.config);
    assert_whole(&later);
    assert_eq!(later.removed_segments, report.removed_segments);
    // A line in place of those that were removed is found out.
    let gone = fs::read_to_string(dir.join("streams.note")).unwrap();
    let stream = gone
        .lines()
        .find_map(|line| line.split_once(" removed "))
        .unwrap()
        .0;
    let forged = dir.join(format!("{stream}.0002.jsonl"));
    fs::write(&forged, "{}\n").unwrap();
    assert!(!verified(&world.config).problems.is_empty());
    let refused = asked(&config, &["retain"], None);
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    assert!(forged.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_nothing_and_the_next_run_goes_on() {
    for (place, passage) in [
        ("segment-drafted", 2),
        ("segment-compressed", 2),
        ("removal-recorded", 1),
        ("removal-begun", 1),
    ] {
        let (world, config) = world(|config| config.audit.keep = Some(Span::days(30))).await;
        let all = verified(&world.config).lines;
        let armed = format!("{place}:{passage}");
        let killed = asked(&config, &["retain"], Some(&armed));
        assert_eq!(killed.status.code(), None, "{place}: {}", words(&killed));
        let report = verified(&world.config);
        assert_whole(&report);
        // Nothing is gone that the registry does not count.
        assert!(report.lines + report.removed_lines >= all, "{place}");
        let dir = world.config.audit_dir();
        let names = files(&dir);
        let both = named(&names, ".jsonl")
            .iter()
            .any(|name| names.contains_key(&format!("{name}.zst")));
        assert_eq!(both, place == "segment-compressed", "{place}: {names:?}");
        assert_eq!(found(&config, &["--since", "2026-02-01"]).len(), 12);
        done(&config, &["retain"]);
        let report = verified(&world.config);
        assert_whole(&report);
        assert_eq!(report.lines + report.removed_lines, all, "{place}");
        assert_eq!(named(&files(&dir), ".jsonl").len(), 0);
        assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_forms_that_differ_are_reported_and_both_stay() {
    let (world, config) = world(|config| config.audit.compress = true).await;
    let dir = world.config.audit_dir();
    let killed = asked(&config, &["retain"], Some("segment-compressed"));
    assert_eq!(killed.status.code(), None);
    let both = named(&files(&dir), ".zst");
    assert_eq!(both.len(), 1);
    let plain = dir.join(both[0].strip_suffix(".zst").unwrap());
    let text = fs::read_to_string(&plain).unwrap();
    fs::write(&plain, text.replace("\"key\":\"1\"", "\"key\":\"7\"")).unwrap();
    let refused = asked(&config, &["retain"], None);
    assert_eq!(refused.status.code(), Some(1));
    let said = words(&refused);
    assert!(said.contains("have different lines: both stay"), "{said}");
    assert!(plain.exists() && dir.join(&both[0]).exists());
    let problems = verified(&world.config).problems;
    assert!(
        problems[0].reason.contains("has other lines"),
        "{problems:?}"
    );
    // Put back as it was, it goes on.
    fs::write(&plain, text).unwrap();
    done(&config, &["retain"]);
    assert!(!plain.exists());
    assert_whole(&verified(&world.config));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_not_removed_as_if_it_were_old() {
    let (world, config) = world(|config| config.audit.keep = Some(Span::days(30))).await;
    let dir = world.config.audit_dir();
    let name = named(&files(&dir), ".0002.jsonl").remove(0);
    let text = fs::read_to_string(dir.join(&name)).unwrap();
    fs::write(
        dir.join(&name),
        text.replacen("\"bucket\":\"b\"", "\"bucket\":\"c\"", 1),
    )
    .unwrap();
    let refused = asked(&config, &["retain"], None);
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    // It stays, compressed, and so does all that follows it in its stream.
    let stream = name.split('.').next().unwrap();
    let left = named(&files(&dir), ".zst");
    let left: Vec<_> = left
        .iter()
        .filter(|left| left.starts_with(stream))
        .collect();
    assert!(left.iter().any(|left| left.starts_with(&name)), "{left:?}");
    assert!(!left.iter().any(|left| left.contains(".0001.")), "{left:?}");
    assert!(!verified(&world.config).problems.is_empty());
}

/// A world whose log is archived in moto.
pub(super) async fn archiving(parts: &Parts, locked: bool) -> (Server, World, PathBuf) {
    let server = parts.start("moto.py", &[]);
    let client = s3_client(&server.url());
    match locked {
        false => create_bucket(&client, "acme-audit").await,
        true => {
            let create = client.create_bucket().bucket("acme-audit");
            create
                .object_lock_enabled_for_bucket(true)
                .send()
                .await
                .map(drop)
                .unwrap();
        }
    }
    let url = server.url();
    let (world, written) = world(|config| {
        let secret = config.state_dir.with_file_name("secret-of-moto");
        fs::write(&secret, "secret-of-tests").unwrap();
        let connection = ConnectionConfig {
            endpoint_url: Some(url),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key_file: Some(secret),
            ..ConnectionConfig::default()
        };
        config.connections.insert("moto".to_owned(), connection);
        config.audit.keep = Some(Span::days(30));
        config.audit.archive = Some("s3://acme-audit/handout".to_owned());
        config.audit.archive_connection = Some("moto".to_owned());
        config.audit.archive_lock = locked.then(|| Span::days(365));
    })
    .await;
    (server, world, written)
}

pub(super) async fn objects(server: &Server) -> Vec<String> {
    let client = s3_client(&server.url());
    let listed = client.list_objects_v2().bucket("acme-audit").send().await;
    let listed = listed.unwrap();
    let keys = listed.contents().iter().filter_map(|object| object.key());
    keys.map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_segments_are_removed_only_after_they_were_verified_there_and_still_prove_and_are_found()
 {
    let Some(parts) = Parts::or_skip("archived_segments_are_removed") else {
        return;
    };
    let (server, world, config) = archiving(&parts, false).await;
    let all = (verified(&world.config).lines, found(&config, &[]));
    // Killed after the first object was put: it is there, and nothing was removed.
    let killed = asked(&config, &["retain"], Some("segment-shipped"));
    assert_eq!(killed.status.code(), None, "{}", words(&killed));
    assert_eq!(objects(&server).await.len(), 1);
    assert_eq!(verified(&world.config).lines, all.0);

    let said = done(&config, &["retain"]);
    assert!(
        said.contains(": archived") && said.contains(": removed"),
        "{said}"
    );
    let report = verified(&world.config);
    assert_whole(&report);
    assert!(report.removed_segments > 4, "{said}");
    assert_eq!(found(&config, &[]).len(), 12);
    assert_eq!(found(&config, &["--archive"]), all.1);
    let told = done(&config, &["verify", "--archive", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["lines"], all.0, "{told}");
    let said = done(&config, &["retain"]);
    assert!(
        said.starts_with("0 compressed, 0 archived, 0 removed"),
        "{said}"
    );

    // Downloaded, it is verified alone, and beside the directory.
    let keys = objects(&server).await;
    let client = s3_client(&server.url());
    let copy = tempfile::tempdir().unwrap();
    let log = keys[0].split('/').nth(1).unwrap().to_owned();
    for key in &keys {
        let object = client.get_object().bucket("acme-audit").key(key);
        let bytes = object.send().await.unwrap().body.collect().await.unwrap();
        let path = copy.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes.into_bytes()).unwrap();
    }
    let folder = format!("--archive={}", copy.path().join("handout").display());
    done(&config, &["verify", &folder]);
    assert_eq!(found(&config, &[&folder]), all.1);
    let alone = copy.path().join("handout").join(&log);
    let key = settings(&world.config).key.public();
    let report = verify(&alone, Some(&key)).unwrap();
    assert_whole(&report);
    assert_eq!(report.lines, all.0);

    // Who changes or removes an object of the archive is found out, by those who read it.
    let first = keys
        .iter()
        .find(|key| key.ends_with(".0001.jsonl.zst"))
        .unwrap();
    let put = client.put_object().bucket("acme-audit").key(first);
    let other = fs::read(
        copy.path()
            .join(keys.iter().rfind(|key| key.ends_with(".zst")).unwrap()),
    );
    put.body(other.unwrap().into()).send().await.unwrap();
    let damaged = asked(&config, &["verify", "--archive"], None);
    assert_eq!(damaged.status.code(), Some(1), "{}", words(&damaged));
    let deleted = client.delete_object().bucket("acme-audit").key(first);
    deleted.send().await.unwrap();
    let damaged = words(&asked(&config, &["verify", "--archive"], None));
    assert!(
        damaged.contains("is not in the archive, which had it"),
        "{damaged}"
    );
    done(&config, &["verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_has_differently_is_never_removed_and_what_it_gets_is_locked() {
    let Some(parts) = Parts::or_skip("what_the_archive_has_differently") else {
        return;
    };
    let (server, world, config) = archiving(&parts, true).await;
    let dir = world.config.audit_dir();
    let note = fs::read_to_string(dir.join("streams.note")).unwrap();
    let log = note
        .lines()
        .find_map(|line| line.strip_prefix("log "))
        .unwrap();
    let name = named(&files(&dir), ".0001.jsonl").remove(0);
    let key = format!("handout/{log}/{name}.zst");
    let client = s3_client(&server.url());
    let put = client.put_object().bucket("acme-audit").key(&key);
    put.body(b"not these lines".to_vec().into())
        .send()
        .await
        .unwrap();
    let refused = asked(&config, &["retain"], None);
    let said = words(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the archive has another file s3://acme-audit/handout/"),
        "{said}"
    );
    assert!(dir.join(format!("{name}.zst")).exists(), "{said}");
    assert_whole(&verified(&world.config));
    // The other old stream went, and its objects are locked.
    let keys = objects(&server).await;
    let locked = keys.iter().rfind(|key| key.ends_with(".zst")).unwrap();
    let head = client.head_object().bucket("acme-audit").key(locked);
    let head = head.send().await.unwrap();
    let until = head.object_lock_retain_until_date().unwrap().secs();
    let days = (until - clock::system().as_second()) / 86_400;
    assert!((364..=365).contains(&days), "{days}");
    assert_eq!(head.object_lock_mode().unwrap().as_str(), "GOVERNANCE");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_line_of_a_recipient_from_all_logs_and_the_archive() {
    let Some(parts) = Parts::or_skip("an_export_has_every_line") else {
        return;
    };
    let (_server, world, config) = archiving(&parts, false).await;
    // Links that all recipients of one of Ann's jobs share, and those of a job of others.
    let everyone = Audience::Everyone.canonical();
    let (log, writer) = AuditLog::open(&settings(&world.config), "test", clock::system).unwrap();
    for job in ["job-of-ann@acme.example", "job-of-carol@acme.example"] {
        let record = line(&world.config, job, &everyone, 0);
        log.append(vec![record]).await.unwrap();
    }
    drop(log);
    writer.close();
    // The log of another worker, under the same secret.
    let other = world.dir.path().join("other-audit");
    let mut beside = world.config.clone();
    beside.audit.dir = Some(other.clone());
    stream(&beside, clock::system, "ann@acme.example", 5).await;
    done(&config, &["retain"]);

    let dir = world.config.audit_dir();
    let dirs = [&*dir.to_string_lossy(), &*other.to_string_lossy()];
    let export = ["export", "--recipient", "ann@acme.example"];
    let output = asked(&config, &[&export[..], &dirs].concat(), None);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 20 + 12 + 5 + 1, "{said}");
    assert!(
        lines
            .iter()
            .all(|line| line["job"] == "job-of-ann@acme.example")
    );
    assert!(
        said.contains("38 lines of 2 logs concern the recipient; the logs are whole"),
        "{said}"
    );
    let without_opens = "opens of links of S3 and CloudFront are not among the lines: no access log was read on this machine";
    assert!(said.contains(without_opens), "{said}");
    let table = done(&config, &[&export[..], &["--csv"]].concat());
    assert!(table.contains("\"ts\",\"ev\","), "{table}");
    let json = asked(&config, &[&export[..], &["--json"], &dirs].concat(), None);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["lines"].as_array().unwrap().len(), 38);
    assert_eq!(
        (&json["opens"]["included"], &json["whole"], &json["logs"]),
        (&Value::from(false), &Value::from(true), &Value::from(2))
    );
    let reason = json["opens"]["reason"].as_str().unwrap();
    assert!(reason.contains("access.sqlite does not exist"), "{reason}");
    // Where access logs were read, the command that prints them is named.
    fs::write(world.config.state_dir.join("access.sqlite"), "").unwrap();
    let output = asked(&config, &export, None);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("`handout opens --recipient=ann@acme.example --all --json` prints them"),
        "{said}"
    );
    let none = asked(
        &config,
        &["export", "--recipient", "eve@acme.example"],
        None,
    );
    assert_eq!(none.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_does_it_by_itself_and_counts_it() {
    let (world, config) = world(|config| config.audit.keep = Some(Span::days(30))).await;
    let daemon = Daemon::start(&config, &[]).await;
    let url = format!("http://{}/metrics", world.config.http.listen);
    let count = |text: &str, step: &str| {
        let name = format!("handout_audit_segments_total{{step=\"{step}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
        line.parse::<u32>().ok()
    };
    let text = until("the retention", async || {
        let text = String::from_utf8(get(&url).await.1).ok()?;
        (count(&text, "removed")? > 4).then_some(text)
    })
    .await;
    assert!(count(&text, "compressed").unwrap() > 0, "{text}");
    assert!(
        text.contains("\nhandout_audit_retention_failures_total 0\n"),
        "{text}"
    );
    drop(daemon);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let report = verified(&world.config);
    assert!(report.removed_segments > 4);
}

/// The disk has room for the registry, and for no compressed segment: what is old goes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_compression_is_an_outage_that_does_not_stop_removals() {
    let mut world = World::new();
    let place = world.dir.path().join("log");
    let Some(disk) = SmallDisk::mount(&place, 4) else {
        return;
    };
    let config = &mut world.config;
    fs::create_dir_all(&config.state_dir).unwrap();
    config.audit.dir = Some(place.clone());
    config.audit.keep = Some(Span::days(30));
    let mut settings = settings(config);
    settings.rotate_size = "20KB".parse().unwrap();
    groups(config, &settings, long_ago, "ann@acme.example", (10, 30)).await;
    settings.rotate_size = "1GB".parse().unwrap();
    groups(
        config,
        &settings,
        clock::system,
        "bob@acme.example",
        (60, 100),
    )
    .await;
    let written = world.written();
    disk.fill(40);
    let full = asked(&written, &["retain"], None);
    let said = words(&full);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!said.contains(" 0 removed"), "{said}");
    let report = verified(&world.config);
    assert_whole(&report);
    assert!(report.removed_segments > 2, "{said}");
    assert_eq!(named(&files(&place), ".jsonl").len(), 1, "{said}");
    disk.make_room();
    done(&written, &["retain"]);
    assert_eq!(named(&files(&place), ".jsonl").len(), 0);
    assert_whole(&verified(&world.config));
}

/// Whether the clock of the test below has come to today.
static IS_TODAY: AtomicBool = AtomicBool::new(false);

fn moving() -> Timestamp {
    match IS_TODAY.load(Ordering::Relaxed) {
        true => clock::system(),
        false => long_ago(),
    }
}

/// The beginning of a stream is removed while its process still writes; it goes on, it ends, or it is killed, and is ended by a start.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_beginning_goes_on_and_is_mended_and_verified_by_others() {
    let (world, config) = world(|config| config.audit.keep = Some(Span::days(30))).await;
    let (log, writer) = AuditLog::open(&settings(&world.config), "test", moving).unwrap();
    let ann = |number| line(&world.config, "j", "ann@acme.example", number);
    for number in 0..20 {
        log.append(vec![ann(number)]).await.unwrap();
    }
    IS_TODAY.store(true, Ordering::Relaxed);
    for number in 20..40 {
        log.append(vec![ann(number)]).await.unwrap();
    }
    done(&config, &["retain"]);
    let dir = world.config.audit_dir();
    let note = fs::read_to_string(dir.join("streams.note")).unwrap();
    let is_partial = |line: &&str| line.contains(" removed ") && !line.ends_with(" all");
    assert_eq!(note.lines().filter(is_partial).count(), 1, "{note}");
    assert_whole(&verified(&world.config));
    log.append((40..60).map(ann).collect()).await.unwrap();
    // As a kill leaves it, with a torn line.
    let broken = tempfile::tempdir().unwrap();
    super::copy(&dir, broken.path());
    let (open, mut bytes) = super::segment_of_the_open_stream(broken.path());
    bytes.extend_from_slice(b"{\"v\":2,\"ev\":");
    fs::write(open, bytes).unwrap();
    drop(log);
    writer.close();
    let report = verified(&world.config);
    assert_whole(&report);
    let mut mended = AuditSettings {
        dir: broken.path().into(),
        ..settings(&world.config)
    };
    mended.memory = None;
    groups(
        &world.config,
        &mended,
        clock::system,
        "bob@acme.example",
        (1, 1),
    )
    .await;
    let after = verify(broken.path(), Some(&mended.key.public())).unwrap();
    assert_whole(&after);
    assert_eq!(after.removed_lines, report.removed_lines);

    let Some(parts) = Parts::or_skip("a_stream_that_lost_its_beginning") else {
        return;
    };
    for (dir, report) in [(&*dir, report), (broken.path(), after)] {
        let judged = parts
            .script("verify_audit.py")
            .arg(dir)
            .arg(mended.key.public().to_string())
            .output()
            .unwrap();
        assert!(judged.status.success(), "{}", words(&judged));
        let seen: Value = serde_json::from_slice(&judged.stdout).unwrap();
        assert_eq!(seen["lines"], report.lines, "{seen}");
        assert_eq!(seen["checkpoints"], report.checkpoints, "{seen}");
    }
}

/// The number that the documentation names: a job's links and mails, as the worker records them.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_real_log_takes_at_most_110_bytes() {
    let mut world = World::new().configured(|config| config.audit.compress = true);
    for number in 0..40 {
        let key = format!("2026/11/23/report-{number}.pdf");
        world = world.object(&key, &format!("the report {number}"));
    }
    let mut job = email_job("daily");
    let to: Vec<String> = (0..40)
        .map(|number| format!("reader-{number}@acme.example"))
        .collect();
    job["email"]["to"] = to.into();
    let mut world = world.job(&job);
    world.run().await;
    let lines = verified(&world.config).lines;
    assert!(lines > 1600, "{lines}");
    let dir = world.config.audit_dir();
    let plain: usize = files(&dir)
        .iter()
        .filter(|(name, _)| name.ends_with(".jsonl"))
        .map(|(_, bytes)| bytes.len())
        .sum();
    done(&world.written(), &["retain"]);
    let files = files(&dir);
    let compressed = named(&files, ".zst");
    let compressed: usize = compressed.iter().map(|name| files[name].len()).sum();
    let lines = usize::try_from(lines).unwrap();
    println!(
        "{lines} lines: {} bytes a line, compressed {:.1}",
        plain / lines,
        compressed as f64 / lines as f64
    );
    assert!(compressed / lines < 110, "{compressed} for {lines} lines");
    assert!(plain / lines > 500, "{plain}");
}
