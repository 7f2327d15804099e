//! The attacker may change, add and remove any file of the log's directory, and knows the format; the key and the state
//! directory are out of reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use handout::audit::log::Writer;
use handout::audit::note::SigningKey;
use handout::audit::remembered::Memory;
use handout::audit::verify::{VerifyReport, verify_remembered};
use handout::audit::{AuditLog, AuditRecord, AuditSettings};
use handout::clock;

use super::{copy, files, key, lines, record, scratch, segment_of_the_open_stream, stream};

pub(super) struct Log {
    state: tempfile::TempDir,
    pub(super) settings: AuditSettings,
}

impl Log {
    pub(super) fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// Two streams that ended, over several segments, and one whose process was killed.
    pub(super) async fn new() -> Self {
        let state = scratch();
        let dir = state.path().join("audit");
        fs::create_dir(&dir).unwrap();
        let mut settings = AuditSettings::new(&dir, key());
        settings.rotate_size = "2KB".parse().unwrap();
        settings.memory = Some(Memory::new(state.path(), &dir));
        stream(&settings, 4, 6).await;
        stream(&settings, 1, 3).await;
        let (log, writer) = AuditLog::open(&settings, "test", clock::system).unwrap();
        log.append((0..3).map(record).collect()).await.unwrap();
        kill(&settings, log, writer).await;
        Self { state, settings }
    }

    pub(super) fn verified(&self) -> VerifyReport {
        verified(&self.settings)
    }

    /// What the start says: nothing if it goes on.
    pub(super) fn start(&self) -> Option<String> {
        match AuditLog::open(&self.settings, "test", clock::system) {
            Ok((log, writer)) => {
                drop(log);
                writer.close();
                None
            }
            Err(error) => {
                assert!(error.is_damage(), "it ends with 65: {error}");
                Some(error.to_string())
            }
        }
    }

    /// The last segment of the stream whose process was killed.
    pub(super) fn open_segment(&self) -> String {
        let (path, _) = segment_of_the_open_stream(self.dir());
        path.file_name().unwrap().to_string_lossy().into_owned()
    }
}

/// Leaves both directories as a process does that is killed: nothing of the log's end is in them.
async fn kill(settings: &AuditSettings, log: AuditLog, writer: Writer) {
    // The state of a stream is kept a second behind its lines; what comes after it and is cut does not show.
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    let memory = settings.memory.as_ref().unwrap().path();
    let dirs = [&*settings.dir, memory];
    let before = dirs.map(files);
    drop(log);
    writer.close();
    for (dir, before) in dirs.into_iter().zip(before) {
        for name in files(dir).keys() {
            fs::remove_file(dir.join(name)).unwrap();
        }
        for (name, bytes) in before {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

fn verified(settings: &AuditSettings) -> VerifyReport {
    verify_remembered(
        &settings.dir,
        Some(&key().public()),
        settings.memory.as_ref(),
    )
    .unwrap()
}

/// The lines of a segment as the attacker would have them: changed, and chained anew.
fn rechained(name: &str, text: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let stream = name.split('.').next().unwrap();
    let mut head = handout::audit::chain::ChainHead::new(stream);
    let mut out = String::new();
    for line in lines(text) {
        let line = String::from_utf8(line).unwrap();
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        let (event, at) = (
            fields["ev"].as_str().unwrap(),
            fields["ts"].as_str().unwrap(),
        );
        // What stands between the stream and the hash; nothing, in some lines.
        let begin = line.find(&format!("\"stream\":\"{stream}\"")).unwrap() + stream.len() + 11;
        let own = &line[begin..line.find(",\"prev\":").unwrap()];
        let own = change(own.strip_prefix(',').unwrap_or(own));
        let record = AuditRecord {
            event: event.to_owned().leak(),
            fields: own.into(),
        };
        head.append(&record, at, &mut out);
    }
    out.into_bytes()
}

#[tokio::test]
async fn a_log_is_not_laundered_by_taking_its_registry_away() {
    let log = Log::new().await;
    assert!(log.verified().problems.is_empty());
    let launder = |log: &Log, version: &str| {
        for (name, bytes) in files(log.dir()) {
            let path = log.dir().join(&name);
            if name.ends_with(".note") || name.ends_with(".checkpoint") {
                fs::remove_file(path).unwrap();
            } else if name.ends_with(".0001.jsonl") {
                let text = rechained(&name, &bytes, |fields| {
                    fields.replace("\"j\"", "\"forged\"")
                });
                let text = String::from_utf8(text)
                    .unwrap()
                    .replace("{\"v\":2", version);
                fs::write(path, text).unwrap();
            }
        }
    };
    for version in ["{\"v\":2", "{\"v\":1", "{\"v\":3"] {
        let log = Log::new().await;
        launder(&log, version);
        let said = log.start().expect("the start ends with 65");
        assert!(said.contains("is missing"), "{said}");
        assert!(!log.verified().problems.is_empty());
        // Nor where what was remembered went with the state directory.
        fs::remove_dir_all(log.settings.memory.as_ref().unwrap().path()).unwrap();
        assert!(log.start().is_some());
        assert!(!log.verified().problems.is_empty());
    }
}

#[tokio::test]
async fn a_log_that_was_emptied_or_put_back_is_missed() {
    let log = Log::new().await;
    let before = scratch();
    copy(log.dir(), before.path());
    assert_eq!(log.start(), None, "what broke off is ended");
    assert!(log.verified().problems.is_empty());
    // The whole directory as it was yesterday.
    let empty = || {
        for name in files(log.dir()).keys() {
            fs::remove_file(log.dir().join(name)).unwrap();
        }
    };
    empty();
    copy(before.path(), log.dir());
    let said = log.start().expect("an older state is damage");
    assert!(
        said.contains("is older than the one that was written last"),
        "{said}"
    );
    assert!(
        said.contains("audit-memory-"),
        "it names what to remove: {said}"
    );
    assert!(!log.verified().problems.is_empty());
    // Nothing at all.
    empty();
    assert!(log.start().expect("it is missed").contains("is missing"));
    assert!(!log.verified().problems.is_empty());
    // An operator who restored a backup says so.
    copy(before.path(), log.dir());
    fs::remove_dir_all(log.settings.memory.as_ref().unwrap().path()).unwrap();
    assert_eq!(log.start(), None);
    assert!(log.verified().problems.is_empty());
}

#[tokio::test]
async fn each_file_that_is_removed_replaced_cut_or_added_is_found() {
    let log = Log::new().await;
    let all = files(log.dir());
    // What is only locked is no evidence.
    let is_evidence = |name: &str| name != ".lock" && !name.ends_with(".live");
    for (name, bytes) in all.iter().filter(|(name, _)| is_evidence(name)) {
        for how in [
            "removed",
            "emptied",
            "cut",
            "of another stream",
            "hidden by a link",
        ] {
            let path = log.dir().join(name);
            match how {
                "removed" => fs::remove_file(&path).unwrap(),
                "emptied" => fs::write(&path, "").unwrap(),
                "cut" => {
                    let mut lines = lines(bytes);
                    lines.pop();
                    fs::write(&path, lines.concat()).unwrap();
                }
                "of another stream" => {
                    let other = all.keys().find(|other| {
                        *other != name && Path::new(other).extension() == path.extension()
                    });
                    let Some(other) = other else { continue };
                    fs::write(&path, &all[other]).unwrap();
                }
                _ => {
                    let kept = log.state.path().join("elsewhere");
                    fs::rename(&path, &kept).unwrap();
                    symlink(&kept, &path).unwrap();
                }
            }
            let key = key().public();
            let report = verify_remembered(log.dir(), Some(&key), None);
            let found = report.map_or(true, |report| !report.problems.is_empty());
            assert!(found, "{name} {how}");
            drop(fs::remove_file(&path));
            fs::write(&path, bytes).unwrap();
        }
    }
    assert!(log.verified().problems.is_empty(), "all is as it was");
    let foreign = SigningKey::from_seed(&[9; 32]);
    let elsewhere = scratch();
    stream(&AuditSettings::new(elsewhere.path(), foreign), 1, 3).await;
    let (name, bytes) = files(elsewhere.path())
        .into_iter()
        .find(|(name, _)| name.ends_with(".jsonl"))
        .unwrap();
    fs::write(log.dir().join(name), bytes).unwrap();
    assert!(
        !log.verified().problems.is_empty(),
        "a stream that is not registered"
    );
}

/// FIFOs, links, sparse files and endless lines: a sentence, at once and in bounded memory.
#[tokio::test]
async fn files_that_are_none_end_no_reader() {
    let plant = |log: &Log, what: &str| {
        let path = log.dir().join("20200101T000000Z-00000000.0001.jsonl");
        match what {
            "a FIFO" => assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            ),
            "a directory" => fs::create_dir(&path).unwrap(),
            "a sparse file" => fs::File::create(&path).unwrap().set_len(8 << 30).unwrap(),
            "a link" => symlink("/dev/zero", &path).unwrap(),
            _ => fs::write(&path, "x".repeat(1 << 20)).unwrap(),
        }
    };
    for what in [
        "a FIFO",
        "a directory",
        "a sparse file",
        "a link",
        "a long line",
    ] {
        let log = Log::new().await;
        plant(&log, what);
        let verified = verify_remembered(log.dir(), Some(&key().public()), None);
        assert!(
            verified.is_err() || !verified.unwrap().problems.is_empty(),
            "{what}"
        );
        let found = handout::audit::find::find(
            log.dir(),
            &handout::audit::find::LinkQuery::default(),
            |_| Ok(()),
        );
        assert!(found.is_err(), "{what}");
        let tailed = handout::audit::tail::Tail::of(log.dir(), 10);
        assert!(tailed.is_err(), "{what}");
        // A start reads what it has to end, and this is none of its streams; it may say no, and does not hang.
        drop(AuditLog::open(&log.settings, "test", clock::system));
    }
    // In the place of the stream that broke off.
    for what in ["a FIFO", "a sparse file", "a link"] {
        let log = Log::new().await;
        let path = log.dir().join(log.open_segment());
        fs::remove_file(&path).unwrap();
        plant(&log, what);
        fs::rename(
            log.dir().join("20200101T000000Z-00000000.0001.jsonl"),
            &path,
        )
        .unwrap();
        assert!(
            AuditLog::open(&log.settings, "test", clock::system).is_err(),
            "{what}"
        );
    }
}

/// A link at a name that the program writes leads to no file of another's.
#[tokio::test]
async fn no_link_is_followed_by_what_writes() {
    for planted in [".lock", "streams.note", "streams.note.draft"] {
        let log = Log::new().await;
        let target = log.state.path().join("target");
        fs::write(&target, "root's").unwrap();
        let path = log.dir().join(planted);
        drop(fs::remove_file(&path));
        symlink(&target, &path).unwrap();
        drop(AuditLog::open(&log.settings, "test", clock::system));
        assert_eq!(fs::read_to_string(&target).unwrap(), "root's", "{planted}");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&target, &path).unwrap();
        drop(AuditLog::open(&log.settings, "test", clock::system));
        assert_eq!(
            fs::read_to_string(&target).unwrap(),
            "root's",
            "{planted}, a hard link"
        );
    }
}

/// The state of yesterday beside a stream whose lines after it are new, chained anew and without checkpoints.
#[tokio::test]
async fn lines_are_not_signed_after_a_state_that_was_put_back() {
    let state = scratch();
    let dir = state.path().join("audit");
    fs::create_dir(&dir).unwrap();
    let mut settings = AuditSettings::new(&dir, key());
    settings.memory = Some(Memory::new(state.path(), &dir));
    let (log, writer) = AuditLog::open(&settings, "test", clock::system).unwrap();
    let early = files(&dir)
        .into_iter()
        .find(|(name, _)| name.ends_with(".checkpoint"))
        .unwrap();
    log.append((0..9).map(record).collect()).await.unwrap();
    kill(&settings, log, writer).await;
    fs::write(dir.join(&early.0), &early.1).unwrap();
    let (path, bytes) = segment_of_the_open_stream(&dir);
    let name = path.file_name().unwrap().to_string_lossy();
    let forged = rechained(&name, &bytes, |fields| {
        fields.replace("\"j\"", "\"forged\"")
    });
    fs::write(&path, forged).unwrap();
    let forgotten = verify_remembered(&dir, Some(&key().public()), None).unwrap();
    assert!(
        forgotten.problems.is_empty(),
        "the directory alone does not show it"
    );
    assert!(
        !verified(&settings).problems.is_empty(),
        "what is remembered does"
    );
    let error = AuditLog::open(&settings, "test", clock::system).unwrap_err();
    assert!(error.is_damage(), "{error}");
}

/// What is appended to a stream by a party that knows the format and lacks the key.
fn forged(text: &[u8], name: &str, count: usize) -> String {
    let stream = name.split('.').next().unwrap();
    let mut head = handout::audit::chain::ChainHead::new(stream);
    lines(text)
        .iter()
        .for_each(|line| assert!(head.check(line).is_ok()));
    let mut out = String::new();
    let record = AuditRecord {
        event: "issue",
        fields: "\"job\":\"forged\"".to_owned().into(),
    };
    for _ in 0..count {
        head.append(&record, "2026-11-23T00:00:00.000Z", &mut out);
    }
    out
}

fn append(path: &Path, text: &str) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, [&bytes, text.as_bytes()].concat()).unwrap();
}

fn holds_forged_lines(dir: &Path) -> bool {
    let segments = files(dir).into_iter();
    let mut segments = segments.filter(|(name, _)| name.ends_with(".jsonl"));
    segments.any(|(_, text)| String::from_utf8_lossy(&text).contains("forged"))
}

#[tokio::test]
async fn lines_that_were_added_to_a_dead_stream_are_set_aside_or_stop_the_start() {
    let log = Log::new().await;
    let (path, bytes) = segment_of_the_open_stream(log.dir());
    let more = forged(&bytes, &log.open_segment(), 3);
    append(&path, &more);
    assert_eq!(log.start(), None);
    assert!(!holds_forged_lines(log.dir()), "they are in no stream");
    let torn = fs::read_to_string(path.with_extension("torn")).unwrap();
    assert_eq!(torn, more, "they are evidence");
    assert!(log.verified().problems.is_empty());

    let last = |log: &Log| {
        let (path, bytes) = segment_of_the_open_stream(log.dir());
        (path, bytes, log.open_segment())
    };
    let with_a_seal = |log: &Log| {
        let (path, bytes, name) = last(log);
        let line = forged(&bytes, &name, 1);
        let seal = format!(",\"seal\":\"{}\",\"prev\"", "0".repeat(32));
        append(&path, &line.replace(",\"prev\"", &seal));
    };
    let too_many = |log: &Log| {
        let (path, bytes, name) = last(log);
        append(&path, &forged(&bytes, &name, 1500));
    };
    let in_another_segment = |log: &Log| {
        let (_, bytes, name) = last(log);
        let (stream, rest) = name.split_once('.').unwrap();
        let number: u32 = rest[..4].parse().unwrap();
        let next = log.dir().join(format!("{stream}.{:04}.jsonl", number + 1));
        fs::write(next, forged(&bytes, &name, 1)).unwrap();
    };
    let under_another_name = |log: &Log| {
        let (path, _, name) = last(log);
        fs::rename(path, log.dir().join(name.replace(".000", "."))).unwrap();
    };
    let attacks: [&dyn Fn(&Log); 4] = [
        &with_a_seal,
        &too_many,
        &in_another_segment,
        &under_another_name,
    ];
    for (number, attack) in attacks.into_iter().enumerate() {
        let log = Log::new().await;
        attack(&log);
        let before = files(log.dir());
        for _ in 0..2 {
            assert!(log.start().is_some(), "attack {number}");
        }
        assert_eq!(
            files(log.dir()),
            before,
            "attack {number}: the evidence stays"
        );
        // A seal says something to the holder of the key alone.
        assert!(
            number == 0 || !log.verified().problems.is_empty(),
            "attack {number}"
        );
    }
}

#[tokio::test]
async fn what_stands_after_the_stop_of_a_daemon_that_saw_another_hand_is_never_signed() {
    let log = Log::new().await;
    assert_eq!(log.start(), None);
    let (open, writer) = AuditLog::open(&log.settings, "test", clock::system).unwrap();
    open.append((0..3).map(record).collect()).await.unwrap();
    let (path, bytes) = segment_of_the_open_stream(log.dir());
    let more = forged(&bytes, &log.open_segment(), 3);
    append(&path, &more);
    let error = open.append(vec![record(4)]).await.unwrap_err();
    assert!(error.is_damage(), "{error}");
    drop(open);
    writer.close();
    let before = files(log.dir());
    for _ in 0..2 {
        let said = log.start().expect("the start ends with 65");
        assert!(said.contains("accept-loss"), "{said}");
        assert!(!log.verified().problems.is_empty());
    }
    assert_eq!(files(log.dir()), before, "the evidence stays");
    // Torn bytes are no more the stream's.
    fs::write(&path, [&bytes[..], b"{"].concat()).unwrap();
    assert!(log.start().is_some());
    // Brought back as it was, the stream is ended.
    fs::write(&path, &bytes).unwrap();
    assert_eq!(log.start(), None);
    assert!(log.verified().problems.is_empty());
}

#[tokio::test]
async fn a_stream_that_is_gone_or_changed_stops_every_start_until_its_loss_is_accepted() {
    use handout::audit::{LossError, accept_loss};
    for is_gone in [true, false] {
        let log = Log::new().await;
        let stream = log.open_segment().split('.').next().unwrap().to_owned();
        let accept = |stream: &str| accept_loss(&log.settings, clock::system, stream);
        let refused = |stream: &str| matches!(accept(stream), Err(LossError::Refused { .. }));
        assert!(refused(&stream), "it can be ended");
        assert!(refused("20200101T000000Z-00000000"), "it is not registered");
        let before = files(log.dir());
        for (name, bytes) in &before {
            if name.starts_with(&stream) && name.ends_with(".jsonl") {
                let path = log.dir().join(name);
                match is_gone {
                    true => fs::remove_file(path).unwrap(),
                    false => fs::write(path, [&bytes[..20], b"0", &bytes[21..]].concat()).unwrap(),
                }
            }
        }
        for _ in 0..2 {
            let said = log.start().expect("the start ends with 65");
            let command = format!("handout audit accept-loss {stream}");
            assert!(said.contains(&command), "{said}");
        }
        accept(&stream).unwrap();
        assert!(refused(&stream), "it was given up already");
        assert_eq!(log.start(), None);
        let problems = log.verified().problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        // The files come back: they are not taken in.
        for (name, bytes) in &before {
            if name.starts_with(&stream) {
                fs::write(log.dir().join(name), bytes).unwrap();
            }
        }
        assert_eq!(log.start(), None);
        let problems = log.verified().problems;
        assert!(problems[0].reason.contains("accept-loss"), "{problems:?}");
    }
}

#[tokio::test]
async fn another_log_of_the_same_key_is_not_taken_for_this_one() {
    let log = Log::new().await;
    assert_eq!(log.start(), None);
    let last_year = scratch();
    let old = AuditSettings::new(last_year.path(), key());
    for _ in 0..20 {
        stream(&old, 1, 1).await;
    }
    for name in files(log.dir()).keys() {
        fs::remove_file(log.dir().join(name)).unwrap();
    }
    copy(last_year.path(), log.dir());
    let said = log.start().expect("the start ends with 65");
    assert!(said.contains("is of another log"), "{said}");
    assert!(!log.verified().problems.is_empty());
    // Nor a stream of it: its checkpoints name its log.
    let log = Log::new().await;
    let other = files(last_year.path());
    let (name, bytes) = other
        .iter()
        .find(|(name, _)| name.ends_with(".jsonl"))
        .unwrap();
    fs::write(log.dir().join(name), bytes).unwrap();
    let problems = log.verified().problems;
    let problem = problems
        .iter()
        .find(|problem| problem.segment == *name)
        .unwrap();
    assert!(
        problem.reason.contains("does not match the lines"),
        "{problem:?}"
    );
}

/// A copy of both directories goes on by itself and comes to the same generation; a memory knows a stream that the registry
/// does not.
#[tokio::test]
async fn a_registry_that_is_not_the_remembered_one_is_damage_at_the_same_generation_too() {
    let log = Log::new().await;
    let memory = log.settings.memory.as_ref().unwrap().path().to_owned();
    let (dir_before, memory_before) = (scratch(), scratch());
    copy(log.dir(), dir_before.path());
    copy(&memory, memory_before.path());
    assert_eq!(log.start(), None);
    let ours = files(log.dir());
    let remembered = files(&memory);
    let empty = |dir: &Path| {
        for name in files(dir).keys() {
            fs::remove_file(dir.join(name)).unwrap();
        }
    };
    empty(log.dir());
    empty(&memory);
    copy(dir_before.path(), log.dir());
    copy(memory_before.path(), &memory);
    assert_eq!(log.start(), None, "as many generations, other streams");
    for (name, bytes) in &remembered {
        fs::write(memory.join(name), bytes).unwrap();
    }
    let said = log.start().expect("the start ends with 65");
    assert!(
        said.contains("differs from the one that was written last"),
        "{said}"
    );
    assert!(!log.verified().problems.is_empty());

    empty(log.dir());
    ours.iter()
        .for_each(|(name, bytes)| fs::write(log.dir().join(name), bytes).unwrap());
    assert_eq!(log.start(), None);
    let registry = String::from_utf8(files(log.dir())["streams.note"].clone()).unwrap();
    let id = registry
        .lines()
        .nth(2)
        .unwrap()
        .strip_prefix("log ")
        .unwrap();
    let state = handout::audit::checkpoint::Checkpoint {
        log: id.to_owned(),
        stream: "20200101T000000Z-00000000".to_owned(),
        lines: 3,
        root: [0; 32],
    };
    let name = format!("{}.checkpoint", state.stream);
    fs::write(memory.join(name), state.sign(&key())).unwrap();
    let said = log.start().expect("the start ends with 65");
    assert!(said.contains("does not know the stream"), "{said}");
    assert!(!log.verified().problems.is_empty());
}

/// Who may only read the log keeps no writer waiting and makes no dead stream look alive.
#[tokio::test]
async fn a_lock_that_a_reader_takes_holds_nothing_up() {
    use std::os::unix::fs::PermissionsExt;
    let log = Log::new().await;
    let (open, writer) = AuditLog::open(&log.settings, "test", clock::system).unwrap();
    let mode = |name: &str| {
        let there = fs::metadata(log.dir().join(name)).unwrap();
        there.permissions().mode() & 0o777
    };
    let names = files(log.dir()).into_keys();
    let locked = names.filter(|name| name == ".lock" || name.ends_with(".live"));
    let modes: Vec<u32> = locked.map(|name| mode(&name)).collect();
    assert_eq!(modes, [0o600; 2]);
    drop(open);
    writer.close();
    let log = Log::new().await;
    let readable = files(log.dir()).into_keys();
    let readable = readable.filter(|name| name != ".lock" && !name.ends_with(".live"));
    let _kept: Vec<fs::File> = readable
        .map(|name| {
            let file = fs::File::open(log.dir().join(name)).unwrap();
            file.lock_shared().unwrap();
            file
        })
        .collect();
    let begun = tokio::time::Instant::now();
    assert_eq!(log.start(), None);
    assert!(begun.elapsed().as_secs() < 5);
    let report = log.verified();
    assert_eq!((report.open, report.problems.len()), (0, 0));
    // The owner may; it is waited for ten seconds.
    let lock = fs::File::open(log.dir().join(".lock")).unwrap();
    lock.lock_shared().unwrap();
    let error = AuditLog::open(&log.settings, "test", clock::system).unwrap_err();
    let said = handout::text::chain(&error);
    assert!(
        said.contains(".lock is locked by another process"),
        "{said}"
    );
}

#[tokio::test]
async fn special_files_among_the_notes_are_problems_and_keep_nothing_from_being_judged() {
    let log = Log::new().await;
    let memory = log.settings.memory.as_ref().unwrap().path().to_owned();
    let state = files(log.dir())
        .into_keys()
        .find(|name| name.ends_with(".checkpoint"));
    let places = [
        log.dir().join("streams.note"),
        log.dir().join(state.unwrap()),
        log.dir().join(".lock"),
        memory.join("registry.note"),
    ];
    let lines = log.verified().lines;
    for place in places {
        let kept = log.state.path().join("kept");
        fs::rename(&place, &kept).unwrap();
        for what in ["FIFO", "directory"] {
            match what {
                "FIFO" => assert!(
                    Command::new("mkfifo")
                        .arg(&place)
                        .status()
                        .unwrap()
                        .success()
                ),
                _ => fs::create_dir(&place).unwrap(),
            }
            let report = log.verified();
            assert!(!report.problems.is_empty(), "{what} {}", place.display());
            assert_eq!(report.lines > 0, lines > 0);
            assert!(log.start().is_some(), "{what} {}", place.display());
            match what {
                "FIFO" => fs::remove_file(&place).unwrap(),
                _ => fs::remove_dir(&place).unwrap(),
            }
        }
        fs::rename(&kept, &place).unwrap();
    }
    assert!(log.verified().problems.is_empty());
    // A directory where a start or the daemon writes is damage, and not a disk that failed.
    let segment = log.dir().join(log.open_segment());
    append(&segment, "{\"torn");
    fs::create_dir(segment.with_extension("torn")).unwrap();
    assert!(log.start().is_some());
    fs::remove_dir(segment.with_extension("torn")).unwrap();
    assert_eq!(log.start(), None);
    let (open, writer) = AuditLog::open(&log.settings, "test", clock::system).unwrap();
    open.append(vec![record(1)]).await.unwrap();
    let (path, _) = segment_of_the_open_stream(log.dir());
    let next = path.to_string_lossy().replace(".0001.", ".0002.");
    fs::create_dir(&next).unwrap();
    let error = loop {
        if let Err(error) = open.append((0..6).map(record).collect()).await {
            break error;
        }
    };
    assert!(error.is_damage(), "{error}");
    drop(open);
    writer.close();
    fs::remove_dir(&next).unwrap();
    assert_eq!(log.start(), None);
    assert!(log.verified().problems.is_empty());
}

#[tokio::test]
async fn drafts_and_signs_of_life_of_dead_processes_are_swept() {
    let log = Log::new().await;
    let old = |name: &str| {
        let file = fs::File::create(log.dir().join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    let dead = [
        "20200101T000000Z-00000000.0001.jsonl.draft",
        ".0123456789abcdef.draft",
        "20200101T000000Z-00000000.live",
    ];
    dead.into_iter().for_each(old);
    old("notes.txt");
    fs::write(
        log.dir().join(".fedcba9876543210.draft"),
        "of a living process",
    )
    .unwrap();
    assert_eq!(log.start(), None);
    let left = files(log.dir());
    assert!(
        dead.into_iter().all(|name| !left.contains_key(name)),
        "{:?}",
        left.keys()
    );
    assert!(left.contains_key("notes.txt") && left.contains_key(".fedcba9876543210.draft"));
    assert!(!left.keys().any(|name| name.ends_with(".live")));
}
