//! What is known of a stream that has no end: whether its process lives, and what a write that broke off left.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use handout::audit::AuditLog;
use handout::clock;

use super::attacker::Log;
use super::{files, key};
use crate::support::program;

/// Another user, who may read the log.
const READER: u32 = 4711;

fn append(log: &Log, bytes: &[u8]) {
    let path = log.dir().join(log.open_segment());
    let whole = [fs::read(&path).unwrap(), bytes.to_vec()].concat();
    fs::write(path, whole).unwrap();
}

#[tokio::test]
async fn zeros_in_the_middle_of_what_broke_off_are_damage_and_at_its_end_they_are_not() {
    let line = br#"{"v":2,"n":"#;
    for zeros in [1, 200_000] {
        let zeros = vec![0; zeros];
        for (before, after) in [
            (&line[..], &b"x"[..]),
            (b"", b"{"),
            (line, line),
            (b"", b"}\n"),
        ] {
            let log = Log::new().await;
            append(&log, &[before, &zeros, after].concat());
            let problems = log.verified().problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(!problems[0].reason.contains("cut off"), "{problems:?}");
            let evidence = files(log.dir());
            assert!(log.start().is_some(), "{} zeros", zeros.len());
            assert_eq!(
                files(log.dir())[&log.open_segment()],
                evidence[&log.open_segment()]
            );
        }
        for before in [&line[..], b""] {
            let log = Log::new().await;
            append(&log, &[before, &zeros].concat());
            let problems = log.verified().problems;
            assert!(
                problems[0].reason.contains("the line is cut off"),
                "{problems:?}"
            );
            assert_eq!(log.start(), None);
            assert!(log.verified().problems.is_empty());
        }
    }
}

/// A file in the place of the sign of life of the stream that broke off.
fn plant(log: &Log, owner: u32, mode: u32) -> std::path::PathBuf {
    let stream = log.open_segment();
    let stream = stream.split('.').next().unwrap();
    let path = log.dir().join(format!("{stream}.live"));
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    chown(&path, Some(owner), Some(owner)).unwrap();
    path
}

#[tokio::test]
async fn a_sign_of_life_of_another_user_ends_a_start_with_65_and_makes_no_stream_look_alive() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root may give files away.
    }
    for mode in [0o600, 0o666, 0o400, 0o000] {
        let log = Log::new().await;
        let path = plant(&log, READER, mode);
        let locked = fs::File::open(&path).unwrap();
        locked.lock().unwrap();
        assert_eq!(log.verified().open, 0, "{mode:o}");
        assert!(log.start().is_some(), "{mode:o}");
        fs::remove_file(&path).unwrap();
        assert_eq!(log.start(), None, "{mode:o}");
    }
}

/// Runs the program as a user who may read the log's directory and nothing more.
fn as_reader(arguments: &[&str]) -> (Option<i32>, String) {
    let handout = program();
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            &READER.to_string(),
            "--regid",
            &READER.to_string(),
            "--clear-groups",
        ])
        .arg(handout)
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn open_to_readers(dir: &Path) {
    let readable = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    readable(dir.parent().unwrap(), 0o755);
    readable(dir, 0o755);
    for name in files(dir).keys() {
        let is_locked = name == ".lock" || name.ends_with(".live");
        readable(&dir.join(name), if is_locked { 0o600 } else { 0o644 });
    }
}

#[tokio::test]
async fn a_reader_who_may_not_look_is_told_that_it_is_not_known_whether_a_stream_is_written() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root may run the program as another user.
    }
    let log = Log::new().await;
    plant(&log, 0, 0o600);
    append(&log, b"{\"v\"");
    open_to_readers(log.dir());
    let public = key().public().to_string();
    let dir = log.dir().to_str().unwrap();
    let (code, said) = as_reader(&["audit", "verify", "--public-key", &public, dir]);
    assert!(
        said.contains("is unknown to a user who may not open"),
        "{said}"
    );
    assert!(said.contains("a line after them is cut off"), "{said}");
    assert!(said.contains("(0 still open): whole"), "{said}");
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_stream_that_was_idle_for_years_is_alive_as_long_as_its_process_is() {
    let log = Log::new().await;
    assert_eq!(log.start(), None);
    let (open, writer) = AuditLog::open(&log.settings, "test", clock::system).unwrap();
    let long_ago = std::time::UNIX_EPOCH;
    for name in files(log.dir()).keys() {
        let file = fs::File::open(log.dir().join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let report = log.verified();
    assert_eq!((report.open, report.problems.len()), (1, 0));
    assert_eq!(log.start(), None, "another start leaves it alone");
    assert_eq!(log.verified().open, 1);
    drop(open);
    writer.close();
    assert_eq!(log.verified().open, 0);
}
