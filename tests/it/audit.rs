//! The audit log: nothing in it can be changed unseen, nothing that breaks it off loses a line, and nothing in it opens a file.

mod archive_alone;
mod attacker;
mod life;
mod program;
mod retention;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use handout::audit::note::SigningKey;
use handout::audit::verify::{VerifyReport, verify};
use handout::audit::{AuditLog, AuditRecord, AuditSettings};
use handout::clock;

/// The files of a log by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A directory in memory, where there is one: what is tested is not the disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn settings(dir: &Path) -> AuditSettings {
    AuditSettings::new(dir, key())
}

fn record(number: usize) -> AuditRecord {
    AuditRecord {
        event: "issue",
        fields: format!("\"job\":\"j\",\"number\":{number}").into(),
    }
}

fn files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    named.collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

fn verified(dir: &Path) -> VerifyReport {
    verify(dir, Some(&key().public())).unwrap()
}

#[track_caller]
fn assert_whole(report: &VerifyReport) {
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

async fn stream(settings: &AuditSettings, groups: usize, lines: usize) {
    let (log, writer) = AuditLog::open(settings, "test", clock::system).unwrap();
    for _ in 0..groups {
        log.append((0..lines).map(record).collect()).await.unwrap();
    }
    drop(log);
    writer.close();
}

/// A log with everything in it: one stream that broke off with a torn line, one over several
/// segments, and several that ended in order.
async fn eventful_log(dir: &Path) {
    let mut settings = settings(dir);
    settings.rotate_size = "2KB".parse().unwrap();
    stream(&settings, 4, 6).await;
    for _ in 0..6 {
        stream(&settings, 1, 3).await;
    }
    // A process that is killed while it writes leaves its files as they are at that moment.
    let broken = scratch();
    let (log, writer) = AuditLog::open(&settings, "test", clock::system).unwrap();
    log.append((0..3).map(record).collect()).await.unwrap();
    copy(dir, broken.path());
    drop(log);
    writer.close();
    for name in files(dir).keys() {
        fs::remove_file(dir.join(name)).unwrap();
    }
    copy(broken.path(), dir);
    let (path, mut bytes) = segment_of_the_open_stream(dir);
    bytes.extend_from_slice(b"{\"v\":2,\"ev\":\"issue\",\"se");
    fs::write(path, bytes).unwrap();
    stream(&settings, 1, 2).await;
}

/// The last segment of the one stream that has not ended: its state is in a file of its own.
fn segment_of_the_open_stream(dir: &Path) -> (PathBuf, Vec<u8>) {
    let files = files(dir);
    let mut open = files
        .keys()
        .filter_map(|name| name.strip_suffix(".checkpoint"));
    let stream = open.next().unwrap();
    let is_its = |name: &&String| name.starts_with(stream) && name.ends_with(".jsonl");
    let name = files.keys().rfind(is_its).unwrap();
    (dir.join(name), files[name].clone())
}

/// Numbers that look random and are the same in each run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }
}

const TAMPERINGS: [&str; 14] = [
    "flip a bit",
    "change a byte",
    "drop a line",
    "double a line",
    "swap two lines",
    "move a line",
    "splice bytes",
    "splice a line of another file",
    "cut at a byte",
    "cut at a line's end",
    "shuffle the lines",
    "remove a segment",
    "remove a stream",
    "exchange two files",
];

/// Does one thing to a log, in memory. What it did, in words.
fn tamper(files: &mut Files, numbers: &mut Numbers) -> String {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = names[numbers.below(names.len())].clone();
    let other = names[numbers.below(names.len())].clone();
    let foreign = lines(&files[&other]);
    let kind = TAMPERINGS[numbers.below(TAMPERINGS.len())];
    let bytes = files.get_mut(&name).unwrap();
    let mut text = lines(bytes);
    let (one, two) = (numbers.below(text.len()), numbers.below(text.len()));
    let (at, to) = (numbers.below(bytes.len()), numbers.below(bytes.len()));
    match kind {
        "flip a bit" => bytes[at] ^= 1 << numbers.below(8),
        "change a byte" => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
        "drop a line" => drop(text.remove(one)),
        "double a line" => text.insert(two, text[one].clone()),
        "swap two lines" => text.swap(one, two),
        "move a line" => {
            let line = text.remove(one);
            text.insert(numbers.below(text.len() + 1), line);
        }
        "splice bytes" => {
            let piece = bytes[at.min(to)..at.max(to)].to_vec();
            let place = numbers.below(bytes.len());
            drop(bytes.splice(place..place, piece));
        }
        "splice a line of another file" => {
            text.insert(one, foreign[numbers.below(foreign.len())].clone());
        }
        "cut at a byte" => bytes.truncate(at),
        "cut at a line's end" => text.truncate(one),
        "shuffle the lines" => {
            for index in (1..text.len()).rev() {
                text.swap(index, numbers.below(index + 1));
            }
        }
        "remove a segment" => drop(files.remove(&name)),
        "remove a stream" => {
            let stream = name.split('.').next().unwrap().to_owned();
            files.retain(|name, _| !name.starts_with(&stream));
        }
        "exchange two files" => {
            let mine = files[&name].clone();
            let theirs = files.insert(other.clone(), mine).unwrap();
            files.insert(name.clone(), theirs);
        }
        _ => unreachable!("it is one of the list"),
    }
    let by_line = [
        "drop",
        "double",
        "swap",
        "move",
        "splice a",
        "cut at a line",
        "shuffle",
    ];
    if by_line.iter().any(|word| kind.starts_with(word)) {
        files.insert(name.clone(), text.concat());
    }
    format!("{kind} of {name} ({at}, {one}, {two}, {other})")
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

/// Tampers `count` times with a fresh copy of the log each, and returns what was not found.
fn unfound(original: &Files, count: usize, seed: u64) -> Vec<String> {
    let dir = scratch();
    let mut numbers = Numbers(seed);
    let mut there = Files::new();
    let mut unfound = Vec::new();
    let mut tampered = 0;
    while tampered < count {
        let mut files = original.clone();
        let what = tamper(&mut files, &mut numbers);
        if files == *original {
            continue;
        }
        tampered += 1;
        for name in there.keys().chain(files.keys()) {
            match files.get(name) {
                None => drop(fs::remove_file(dir.path().join(name))),
                bytes if bytes == there.get(name) => {}
                Some(bytes) => fs::write(dir.path().join(name), bytes).unwrap(),
            }
        }
        there = files;
        if verified(dir.path()).problems.is_empty() {
            unfound.push(what);
        }
    }
    unfound
}

#[tokio::test]
async fn ten_thousand_tamperings_are_all_found() {
    const EACH: usize = 5000;
    let dir = scratch();
    eventful_log(dir.path()).await;
    assert_whole(&verified(dir.path()));
    let mut original = files(dir.path());
    original.remove(".lock");
    assert!(original.len() > 10, "{:?}", original.keys());
    let unfound = std::thread::scope(|scope| {
        let original = &original;
        let runs = [1, 2].map(|seed| scope.spawn(move || unfound(original, EACH, seed)));
        runs.map(|run| run.join().unwrap()).concat()
    });
    assert!(
        unfound.is_empty(),
        "{} were not found: {unfound:#?}",
        unfound.len()
    );
}

/// Every byte of every file once more, by itself: chance may leave one out.
#[tokio::test]
async fn every_byte_and_every_cut_counts() {
    let dir = scratch();
    let settings = settings(dir.path());
    stream(&settings, 1, 1).await;
    let mut original = files(dir.path());
    original.remove(".lock");
    for (name, bytes) in &original {
        let path = dir.path().join(name);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(
                !verified(dir.path()).problems.is_empty(),
                "byte {at} of {name}"
            );
            fs::write(&path, &bytes[..at]).unwrap();
            assert!(
                !verified(dir.path()).problems.is_empty(),
                "{name} cut at {at}"
            );
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_whole(&verified(dir.path()));
}

/// Whoever rewrites all and signs it with a key of their own is found by whoever has pinned the right one.
#[tokio::test]
async fn a_forgery_with_another_key_shows_to_whoever_pinned_the_right_one() {
    let dir = scratch();
    let mut settings = settings(dir.path());
    settings.key = SigningKey::from_seed(&[9; 32]);
    stream(&settings, 1, 3).await;
    assert_whole(&verify(dir.path(), None).unwrap());
    assert!(!verified(dir.path()).problems.is_empty());
    let empty = scratch();
    assert!(
        !verified(empty.path()).problems.is_empty(),
        "a log that is not there is none"
    );
}
