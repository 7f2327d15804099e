//! The corpus of reports, and what becomes of it when it is mutilated on its way.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::keyring::Keyring;

/// The recipient and the job of all samples.
const RID: &str = "8da51195e7f9e63d58641c9b075cb103";
const MESSAGE_ID: &str = "<ddb2d0c896f5510aa906a32b3d119d14@sender.example>";

fn keys() -> PersonKeys {
    PersonKeys::new(&Keyring::new([7; 32]))
}

struct FeedbackSample {
    name: String,
    expected: String,
    bytes: Vec<u8>,
    is_ses: bool,
}

impl FeedbackSample {
    fn read(&self, bytes: &[u8]) -> FeedbackRead {
        match self.is_ses {
            true => ses::read(&String::from_utf8_lossy(bytes)),
            false => report::read(bytes),
        }
    }
}

fn corpus() -> Vec<FeedbackSample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/feedback");
    let below = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut paths = [below("ses"), below("mail")].concat();
    paths.sort();
    let samples = paths.iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        FeedbackSample {
            expected: name.split_once("--").unwrap().0.to_owned(),
            bytes: fs::read(path).unwrap(),
            is_ses: path.extension().unwrap() == "json",
            name,
        }
    });
    samples.collect()
}

#[test]
fn every_sample_is_judged_as_its_name_says_and_leads_to_its_recipient() {
    let (keys, corpus) = (keys(), corpus());
    assert!(corpus.len() >= 180, "{}", corpus.len());
    let mut wrong = Vec::new();
    for sample in &corpus {
        let told = match sample.read(&sample.bytes) {
            FeedbackRead::Ignored(reason) => format!("ignored_{}", reason.as_str()),
            FeedbackRead::Event(event) => {
                let found = match event.token(&keys) {
                    FoundToken::Ours(token) => {
                        token.rid == RID && token.tag == keys.job_tag("acme-2026-11-23")
                    }
                    FoundToken::Forged => false,
                    FoundToken::Missing => event.message_ids.iter().any(|id| id == MESSAGE_ID),
                };
                if !found {
                    wrong.push(format!("{}: leads to another recipient", sample.name));
                }
                let words = event.people.iter().map(|person| &person.words);
                for words in words {
                    assert!(!words.contains('@') && !words.contains("://"), "{words}");
                }
                assert!(event.at.is_some(), "{}", sample.name);
                event.verdict().to_string()
            }
        };
        if told != sample.expected {
            wrong.push(format!("{}: {told}", sample.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_three_wrappings_of_an_event_are_one_event() {
    let corpus = corpus();
    let ids = |wrapping: &str| -> Vec<String> {
        let of_it = corpus
            .iter()
            .filter(|sample| sample.name.ends_with(wrapping));
        let ids = of_it.map(|sample| match sample.read(&sample.bytes) {
            FeedbackRead::Event(event) => event.id,
            FeedbackRead::Ignored(reason) => panic!("{}: {}", sample.name, reason.as_str()),
        });
        ids.collect()
    };
    let raw = ids(".raw.json");
    assert_eq!(raw, ids(".sns.json"));
    assert_eq!(raw, ids(".eventbridge.json"));
    let mut different = raw.clone();
    different.sort();
    different.dedup();
    assert_eq!(
        different.len(),
        raw.len(),
        "and different events have different ids"
    );
}

/// A small generator of numbers: a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// What no digit of a status is made of.
const NOISE: &[u8] = b"zq~\0\xff\r\n\"{}[]:;<> =-@";

fn mutilate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = numbers.below(bytes.len());
        let length = 1 + numbers.below(40.min(bytes.len() - at));
        let end = (at + length).min(bytes.len());
        match numbers.below(7) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let copy = bytes[at..end].to_vec();
                let to = numbers.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            2 => bytes.truncate(at.max(bytes.len() / 2)),
            3 => bytes[at] = NOISE[numbers.below(NOISE.len())],
            4 => bytes.insert(at, NOISE[numbers.below(NOISE.len())]),
            5 => {
                for byte in &mut bytes[at..end] {
                    byte.make_ascii_uppercase();
                }
            }
            _ => {
                // A line is lost, or comes twice.
                let lines: Vec<Vec<u8>> = bytes
                    .split_inclusive(|b| *b == b'\n')
                    .map(<[u8]>::to_vec)
                    .collect();
                let line = numbers.below(lines.len());
                let twice = numbers.below(2) == 0;
                let lines = lines.into_iter().enumerate();
                *bytes = lines
                    .flat_map(|(index, text)| match (index == line, twice) {
                        (true, true) => [text.clone(), text].concat(),
                        (true, false) => Vec::new(),
                        (false, _) => text,
                    })
                    .collect();
            }
        }
    }
}

/// Whether a mutilated sample is a whole event of another kind, as SES sends it: then it means what that event means. Two samples can become one.
///
/// A complaint without a type is a complaint, and a permanent bounce without status and code is one for good (both are in the corpus). What is
/// left of the field must not stand in the text: a field that is there and cannot be read is doubtful, and judged as that.
fn is_another_event(name: &str, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let lacks = |words: &[&str]| words.iter().all(|word| !text.contains(word));
    // In the envelope of SNS, quotation marks have a backslash before them.
    let lacks_field = |field: &str| lacks(&[&format!("\"{field}\""), &format!("\"{field}\\\"")]);
    if name.starts_with("noted--event-complaint-not-spam") {
        return lacks_field("complaintFeedbackType");
    }
    name.starts_with("mail_fault--event-bounce-policy")
        && lacks_field("status")
        && (lacks_field("diagnosticCode") || lacks(&["5.7.1"]))
}

/// The numbers of the design are those of `make mutilated`.
#[test]
fn a_mutilated_report_suppresses_nobody_wrongly() {
    let (keys, corpus) = (keys(), corpus());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut events, mut suppressed, mut others) = (0, 0, 0);
    let rounds = std::env::vars()
        .find(|(name, _)| name == "MUTILATED")
        .map_or(20_000, |(_, value)| value.parse().unwrap());
    for round in 0..rounds {
        let sample = &corpus[numbers.below(corpus.len())];
        let mut bytes = sample.bytes.clone();
        mutilate(&mut bytes, &mut numbers);
        let FeedbackRead::Event(event) = sample.read(&bytes) else {
            continue;
        };
        events += 1;
        let rid = match event.token(&keys) {
            FoundToken::Ours(token) => Some(token.rid),
            FoundToken::Forged => None,
            FoundToken::Missing => event
                .message_ids
                .iter()
                .any(|id| id == MESSAGE_ID)
                .then(|| RID.to_owned()),
        };
        let (Some(rid), true) = (rid, event.verdict().suppresses()) else {
            continue;
        };
        suppressed += 1;
        assert_eq!(rid, RID);
        if is_another_event(&sample.name, &bytes) {
            others += 1;
            continue;
        }
        assert!(
            ["hard", "by_relay", "complaint"].contains(&&*sample.expected),
            "round {round}: {} became {}:\n{}",
            sample.name,
            event.verdict(),
            String::from_utf8_lossy(&bytes)
        );
    }
    assert!(
        events > rounds / 2 && suppressed > rounds / 10 && others < rounds / 1000,
        "{events} {suppressed} {others}"
    );
    println!(
        "{rounds} mutilated: {events} events, {suppressed} suppress, {others} of them as another event of SES"
    );
}
