//! Tests of `audit/recover.rs`.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::audit::directory::LogDirectory;
use crate::audit::log::tests::{clock, record, settings};
use crate::audit::verify::verify;
use crate::audit::{AuditLog, AuditSettings};

type Files = BTreeMap<String, Vec<u8>>;

/// A directory in memory, where available: the disk is not under test.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn means(settings: &AuditSettings) -> WriterContext {
    WriterContext {
        memory: None,
        directory: LogDirectory::make(&settings.dir).unwrap(),
        key: settings.key.clone(),
        rotate_size: settings.rotate_size.as_bytes(),
        clock,
    }
}

fn files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn lay_out(files: &Files, dir: &Path) {
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// A directory as a killed process leaves it: a first segment, a second with three lines, and a state that was saved
/// when the second began.
async fn broken_off() -> (Files, String) {
    let dir = scratch();
    let mut settings = settings(dir.path());
    settings.rotate_size = "600B".parse().unwrap();
    let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
    log.append((0..3).map(record).collect()).await.unwrap();
    log.append((3..6).map(record).collect()).await.unwrap();
    let files = files(dir.path());
    drop(log);
    writer.close();
    let last = files.keys().rfind(|name| name.ends_with(".jsonl"));
    let last = last.unwrap().clone();
    assert!(last.ends_with(".0002.jsonl"), "{last}");
    (files, last)
}

fn whole_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The lines up to the last seal, which belong to groups that may have been durable.
fn sealed_lines(bytes: &[u8]) -> u64 {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(1..);
    let is_sealed = |line: &[u8]| {
        line.ends_with(b"\n") && memchr::memmem::find(line, b",\"seal\":\"").is_some()
    };
    let sealed = lines.filter(|(line, _)| is_sealed(line));
    sealed.last().map_or(0, |(_, number)| number)
}

/// A process can be killed, or the power fail, after any byte. The next start repairs the stream and records that in it.
#[tokio::test]
async fn a_stream_that_broke_off_at_any_byte_is_mended_and_no_whole_group_is_lost() {
    let (files, last) = broken_off().await;
    let first_lines = whole_lines(&files[&last.replace("0002", "0001")]);
    assert_eq!(
        sealed_lines(&files[&last]),
        whole_lines(&files[&last]),
        "a group that was durable ends with a seal"
    );
    for length in 0..=files[&last].len() {
        let dir = scratch();
        let mut files = files.clone();
        files.get_mut(&last).unwrap().truncate(length);
        lay_out(&files, dir.path());
        let settings = settings(dir.path());
        recover(&means(&settings)).unwrap();
        let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
        assert!(
            report.problems.is_empty(),
            "cut at {length}: {:?}",
            report.problems
        );
        let whole = first_lines + sealed_lines(&files[&last]);
        assert_eq!(
            report.lines,
            whole + 2,
            "the lines of whole groups, a checkpoint, and what was cut"
        );
        let there = tests::files(dir.path());
        let torn = last.replace(".jsonl", ".torn");
        let torn = there.get(&torn).map_or(&[][..], Vec::as_slice);
        let kept = files[&last].len() - torn.len();
        assert_eq!(
            [&there[&last][..kept], torn].concat(),
            files[&last],
            "nothing is thrown away"
        );
        recover(&means(&settings)).unwrap();
        let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
        assert_eq!(report.lines, whole + 2, "mended once is enough");
    }
}

#[tokio::test]
async fn a_stream_that_lost_lines_of_its_kept_state_is_not_mended() {
    let (files, last) = broken_off().await;
    let first = last.replace("0002", "0001");
    let second_gone = {
        let mut files = files.clone();
        files.remove(&last);
        files.get_mut(&first).unwrap().truncate(800);
        files
    };
    let changed = |at: usize| {
        let mut files = files.clone();
        files.get_mut(&first).unwrap()[at] ^= 1;
        files
    };
    let state_gone = {
        let mut files = files.clone();
        files.retain(|name, _| !name.ends_with(".checkpoint"));
        files
    };
    for (what, files) in [
        ("cut", second_gone),
        ("a changed byte", changed(50)),
        ("another", changed(400)),
        ("the state", state_gone),
    ] {
        let dir = scratch();
        lay_out(&files, dir.path());
        let settings = settings(dir.path());
        let error = recover(&means(&settings)).unwrap_err();
        assert!(error.is_damage(), "{what}: {error}");
        assert_eq!(
            tests::files(dir.path()),
            files,
            "{what}: the evidence is as it was"
        );
        let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
        assert!(!report.problems.is_empty(), "{what}");
    }
}

/// A start can be killed between each two of its steps.
#[tokio::test]
async fn a_start_that_broke_off_before_it_was_registered_leaves_nothing_to_mend() {
    let (files, _) = broken_off().await;
    let dir = scratch();
    lay_out(&files, dir.path());
    let settings = settings(dir.path());
    let (empty, state) = (
        "20990101T000000Z-00000000.0001.jsonl",
        "20990101T000000Z-00000000.checkpoint",
    );
    fs::write(dir.path().join(empty), "").unwrap();
    fs::write(dir.path().join(state), "whatever").unwrap();
    let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let registry = recover(&means(&settings)).unwrap();
    sweep(&means(&settings), &registry).unwrap();
    assert!(!dir.path().join(empty).exists());
}

/// A locked file that more users may open does not count as the lock file of a stream.
#[tokio::test]
async fn a_sign_of_life_that_others_may_lock_is_none() {
    use std::os::unix::fs::PermissionsExt;
    let (files, last) = broken_off().await;
    let dir = scratch();
    lay_out(&files, dir.path());
    let live = dir.path().join(last.replace(".0002.jsonl", ".live"));
    for (mode, text) in [(0o640, ""), (0o600, "x")] {
        fs::write(&live, text).unwrap();
        fs::set_permissions(&live, fs::Permissions::from_mode(mode)).unwrap();
        let held = fs::File::open(&live).unwrap();
        held.lock_shared().unwrap();
        let settings = settings(dir.path());
        let registry = recover(&means(&settings)).unwrap();
        let is_closed = |entry: &RegistryEntry| matches!(entry, RegistryEntry::Closed { .. });
        assert!(
            registry.streams.values().all(is_closed),
            "{mode:o} {text:?}"
        );
    }
}

/// A close can be killed after its last line and before it updates the registry.
#[tokio::test]
async fn an_end_that_was_not_registered_is_registered_by_the_next_start() {
    let dir = scratch();
    let settings = settings(dir.path());
    let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
    let before = files(dir.path());
    drop(log);
    writer.close();
    for name in before.keys().filter(|name| !name.ends_with(".jsonl")) {
        fs::write(dir.path().join(name), &before[name]).unwrap();
    }
    let lines = verify(dir.path(), None).unwrap().lines;
    let registry = recover(&means(&settings)).unwrap();
    assert!(matches!(
        registry.streams.values().next(),
        Some(RegistryEntry::Closed { lines: 3, .. })
    ));
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.lines, report.problems.len()), (lines, 0));
}
