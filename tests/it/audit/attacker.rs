//! The attacker may change, add and remove any file of the log's directory, and knows the format; the key and the state
//! directory are out of reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use handout::audit::log::Writer;
use handout::audit::note::SigningKey;
use handout::audit::remembered::Memory;
use handout::audit::verify::{Report, verify_remembered};
use handout::audit::{AuditLog, AuditRecord, Settings};
use handout::clock;

use super::{copy, files, key, lines, record, scratch, segment_of_the_open_stream, stream};

struct Log {
    state: tempfile::TempDir,
    settings: Settings,
}

impl Log {
    fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// Two streams that ended, over several segments, and one whose process was killed.
    async fn new() -> Self {
        let state = scratch();
        let dir = state.path().join("audit");
        fs::create_dir(&dir).unwrap();
        let mut settings = Settings::new(&dir, key());
        settings.rotate_size = "2KB".parse().unwrap();
        settings.memory = Some(Memory::new(state.path(), &dir));
        stream(&settings, 4, 6).await;
        stream(&settings, 1, 3).await;
        let (log, writer) = AuditLog::open(&settings, "test", clock::system).unwrap();
        log.append((0..3).map(record).collect()).await.unwrap();
        kill(&settings, log, writer).await;
        Self { state, settings }
    }

    fn verified(&self) -> Report {
        verified(&self.settings)
    }

    /// What the start says: nothing if it goes on.
    fn start(&self) -> Option<String> {
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
    fn open_segment(&self) -> String {
        let (path, _) = segment_of_the_open_stream(self.dir());
        path.file_name().unwrap().to_string_lossy().into_owned()
    }
}

/// Leaves both directories as a process does that is killed: nothing of the log's end is in them.
async fn kill(settings: &Settings, log: AuditLog, writer: Writer) {
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

fn verified(settings: &Settings) -> Report {
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
    let mut head = handout::audit::chain::Head::new(stream);
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
    for (name, bytes) in all.iter().filter(|(name, _)| *name != ".lock") {
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
    stream(&Settings::new(elsewhere.path(), foreign), 1, 3).await;
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
            &handout::audit::find::Question::default(),
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
    let mut settings = Settings::new(&dir, key());
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
