//! What each parser of outside bytes guarantees for every input.
//!
//! Each function reads bytes as one parser does and asserts what its callers rely on. libFuzzer calls them in `targets/`, and the test suite
//! with the committed corpora, from `tests/it/fuzz.rs`, which has this file for a module.

use std::fs;
use std::io::Cursor;
use std::sync::LazyLock;

use handout::access::identity::TargetIds;
use handout::access::lines::{LogLines, RawLine};
use handout::access::parse::{AccessLine, LogParser};
use handout::audit::chain::{ChainHead, LineHead};
use handout::audit::checkpoint::Checkpoint;
use handout::audit::find::{LinkQuery, find};
use handout::audit::note::{PublicKey, SigningKey};
use handout::audit::seal::SealKey;
use handout::audit::tail::Tail;
use handout::audit::verify::verify;
use handout::feedback::{FeedbackRead, report, ses};
use handout::job::envelope::{self, EventRule};
use handout::job::glob::{self, Slashes};
use handout::job::phrase::Phrase;
use handout::job::place::MAX_KEY_BYTES;
use handout::job::{Job, Key, ListId, PhraseScope, Recipient};
use handout::ledger::status::{is_done, last_done, outcome_of};
use handout::ledger::status_of;
use handout::ledger::{JobRecords, RecipientStatus, Record};
use handout::links::LINK_ID;
use handout::links::lines::Lines;
use handout::links::linkable::obstacle_in_name;
use handout::media::{Picture, PictureFormat, rendition};
use handout::quantity::{Rate, Size, Span};
use presign::disposition::clean_name;
use presign::explain::Explainer;
use serde_json::{Value, json};

/// A parser's name, which is its target's and its corpus's, and what must hold for it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("access_log", access_log),
    ("address", address),
    ("audit_line", audit_line),
    ("audit_log", audit_log),
    ("envelope", envelope),
    ("explain", explained),
    ("feedback", feedback),
    ("glob", pattern),
    ("job", job),
    ("keys", keys),
    ("ledger", ledger),
    ("listing", listing),
    ("note", note),
    ("phrase", phrase),
    ("picture", picture),
    ("quantity", quantity),
    ("rendition", rendition),
    ("reply", reply),
    #[cfg(feature = "embedded")]
    ("scope", scope),
];

/// The key that signs what is to be read behind a signature: a fuzzer makes none itself.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[7; 32]));

/// The text of most targets; other bytes are not theirs.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Two texts out of one: up to the first NUL, and behind it.
fn two(text: &str) -> (&str, &str) {
    text.split_once('\0').unwrap_or((text, ""))
}

/// Access logs: a request has an id in its own target, a status and an instant, and each line is read as it is without the others.
pub fn access_log(data: &[u8]) {
    let mut lines = LogLines::new(data).expect("bytes in memory are read");
    let mut parser = LogParser::new();
    // A gzip may be broken at any byte.
    while let Ok(Some(line)) = lines.next(true) {
        let RawLine::Whole(line) = line else { continue };
        let AccessLine::Request(request) = parser.read(line) else {
            continue;
        };
        assert!(request.query.contains("x-handout"));
        assert!(request.at < 253_402_300_800 && request.status < 1_000 || !line.starts_with(b"o "));
        let ids = TargetIds::of_query(&request.query);
        assert!(ids.mangling.0 < 16);
        let mut again = parser.clone();
        assert_eq!(again.read(line), AccessLine::Request(request));
    }
}

/// Recipients and the ids of lists: what is read is one of both spelled canonically, and can end no line of a mail.
pub fn address(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(recipient) = Recipient::parse(text) {
        let address = recipient.address.to_string();
        assert!(recipient.address.domain().is_ascii());
        assert!(!address.contains(char::is_control), "{address:?}");
        let canonical = recipient.canonical_address();
        let again = Recipient::from_parts(&canonical, recipient.name.as_deref());
        assert_eq!(again.map(|again| again.canonical_address()), Ok(canonical));
    }
    if let Ok(list) = text.parse::<ListId>() {
        assert!(list.id().is_ascii());
        let again: Result<ListId, _> = list.id().parse();
        assert_eq!(again.as_ref().map(ListId::id), Ok(list.id()));
    }
}

/// A job's messages: one that is taken is kept as it came, within all bounds.
pub fn job(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match Job::parse(text) {
        Ok(job) => {
            assert_eq!(&*job.message, text);
            taken(&job);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn taken(job: &Job) {
    assert_eq!(job.id.as_str().parse().as_ref(), Ok(&job.id));
    if let Some(email) = &job.email {
        for recipient in email.recipients() {
            assert!(recipient.address.domain().is_ascii());
        }
    }
}

/// A rule for events whose job has the event's words in it wherever it may.
static RULES: LazyLock<[EventRule; 1]> = LazyLock::new(|| {
    let template = json!({
        "v": 1,
        "id": "event-{{event.key}}",
        "from": {"connection": "main", "bucket": "reports", "keys": ["{{event.key}}"]},
        "email": {"to": ["ann@acme.example"], "subject": "{{event.name}} {{event.key}}"},
    });
    [EventRule {
        bucket: "reports".parse().expect("a bucket"),
        key: glob::parse("**", Slashes::Plain)
            .expect("a pattern")
            .compile_matcher(),
        events: vec!["ObjectCreated:*".parse().expect("an event")],
        template: template.into(),
    }]
});

/// Messages as a queue gives them: jobs, and events in each wrapping that the daemon reads.
pub fn envelope(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match envelope::open(text, &*RULES) {
        Ok(opened) if opened.test_event => assert!(opened.jobs.is_empty()),
        Ok(opened) => {
            assert!(!opened.jobs.is_empty() || opened.folder_markers > 0);
            for job in opened
                .jobs
                .into_iter()
                .filter_map(|order| order.open().ok())
            {
                taken(&job);
                let again = envelope::open(&job.message, &*RULES).expect("it was one");
                let mut again = again.jobs.into_iter();
                let first = again.next().expect("it makes a job").open();
                assert_eq!(first.expect("it made one").id, job.id);
                assert!(again.next().is_none());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Bounces and complaints, as events of SES and as mails: words are kept without addresses, and what comes twice has one id.
pub fn feedback(data: &[u8]) {
    let events = text(data).map(ses::read).into_iter();
    for read in events.chain([report::read(data)]) {
        let FeedbackRead::Event(event) = read else {
            continue;
        };
        assert_eq!(event.id.len(), 16);
        assert!(!event.people.is_empty() && event.people.len() <= 50);
        for person in &event.people {
            assert!(
                person.words.len() <= 300 && !person.words.contains('@'),
                "{person:?}"
            );
            assert!(!person.words.contains(char::is_control));
        }
    }
    assert_eq!(report::read(data), report::read(data));
}

/// Phrases: as they were written, and as long as their parts when they are filled.
pub fn phrase(data: &[u8]) {
    const LONGEST: usize = 100;
    let Some((source, key)) = text(data).map(two) else {
        return;
    };
    let Ok(phrase) = source.parse::<Phrase>() else {
        return;
    };
    assert_eq!(phrase.to_string(), source);
    let vars = json!({"a": "x".repeat(LONGEST), "b": {"c": {"d": 1.5}}, "e": [], "f": true});
    let key: Option<Key> = key.parse().ok();
    let scope = PhraseScope {
        vars: vars.as_object(),
        object: key.as_ref(),
        ..PhraseScope::default()
    };
    const LIMIT: usize = 255;
    if let Ok(filled) = phrase.fill(&scope, LIMIT) {
        assert!(
            filled.len() <= LIMIT,
            "a phrase became longer than its bound"
        );
        let names = source.matches("{{").count();
        assert!(filled.len() <= source.len() + names * LONGEST.max(MAX_KEY_BYTES));
        assert_eq!(phrase.fill(&scope, LIMIT), Ok(filled));
    }
}

/// Patterns: one without a special character matches itself, in both meanings of a slash.
pub fn pattern(data: &[u8]) {
    let Some((pattern, key)) = text(data).map(two) else {
        return;
    };
    for slashes in [Slashes::Separate, Slashes::Plain] {
        let Ok(glob) = glob::parse(pattern, slashes) else {
            continue;
        };
        let matcher = glob.compile_matcher();
        matcher.is_match(key);
        if !pattern.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            assert!(matcher.is_match(pattern), "{pattern:?}");
        }
    }
}

/// Keys from a file: the lines that are there, each no longer than it needs to be; and their names for a disk.
pub fn keys(data: &[u8]) {
    // Only a newline ends a line with its carriage return.
    let without_end = |line: &'_ [u8]| match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line).to_vec(),
        None => line.to_vec(),
    };
    let whole = data.split_inclusive(|byte| *byte == b'\n');
    let whole = whole.map(without_end).filter(|line| !line.is_empty());
    let mut lines = Lines::new(Box::new(Cursor::new(data.to_vec())));
    let mut read = 0;
    for line in whole {
        let next = lines.next().expect("memory can be read");
        let next = next.expect("there is another line").text;
        assert!(next.len() <= MAX_KEY_BYTES + 3);
        match line.len() <= MAX_KEY_BYTES {
            true => assert_eq!(next, line),
            false => assert!(next.len() > MAX_KEY_BYTES),
        }
        if let Some(key) = text(next).and_then(|text| text.parse::<Key>().ok()) {
            name(&key);
        }
        read += 1;
    }
    assert!(
        lines.next().expect("memory can be read").is_none(),
        "{read}"
    );
}

fn name(key: &Key) {
    let name = clean_name(key.file_name());
    assert!(!name.is_empty() && name.len() <= 150, "{name:?}");
    assert!(!name.contains(['/', '\\', '"']) && !name.contains(char::is_control));
    assert_eq!(clean_name(&name), name);
    if obstacle_in_name(key.as_str()).is_none() {
        assert!(!key.as_str().contains(char::is_control));
    }
}

/// Listings: what the reader of plain answers takes, the reader of all XML reads alike.
pub fn listing(data: &[u8]) {
    let (plain, any) = handout::store::s3::read_listing(data);
    if let Some(plain) = plain {
        assert_eq!(plain, any);
    }
}

/// A relay's words: bounded, and without addresses, links and what commands a terminal.
pub fn reply(data: &[u8]) {
    let Some((words, numbers)) = handout::deliver::smtp::read_reply(data) else {
        return;
    };
    assert!(words.chars().count() <= 300, "{words:?}");
    for forbidden in ["://", "@"] {
        assert!(!words.contains(forbidden), "{words:?}");
    }
    assert!(!words.contains(char::is_control), "{words:?}");
    assert!(numbers.len() <= 16 && numbers.is_ascii(), "{numbers:?}");
}

/// URLs: the explanation of a URL never repeats its signature or its token.
pub fn explained(data: &[u8]) {
    const SECRET: &str = "5eC2e75eC2e75eC2e7";
    const EXPLAINER: Explainer<'_> = Explainer {
        servers: &[],
        custom: Some(LINK_ID),
    };
    let text = String::from_utf8_lossy(data);
    let now = "2026-11-23T07:00:00Z".parse().expect("an instant");
    if text.contains('%') || text.contains(&SECRET[..4]) {
        return drop(EXPLAINER.explain(&text, now).in_words(now).to_string());
    }
    for url in [
        format!("{text}&X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}"),
        format!("https://b.s3.amazonaws.com/k?{text}&Signature={SECRET}"),
    ] {
        let explanation = EXPLAINER.explain(&url, now);
        let words = explanation.in_words(now).to_string();
        let json = serde_json::to_string(&explanation).expect("plain data");
        for told in [&words, &json] {
            assert!(!told.contains(SECRET), "{url:?}: {told}");
        }
        assert!(!words.contains(|c: char| c.is_control() && c != '\n'));
    }
}

/// Lines of the audit log: the line of a refusal is one line of JSON with the reason, and continues its stream.
pub fn audit_line(data: &[u8]) {
    if let Some(head) = LineHead::parse(data) {
        assert!(data.ends_with(b"\"}\n"));
        assert!(!head.stream.contains('"') && !head.event.contains('"'));
    }
    let Some((job, reason)) = text(data).map(two) else {
        return;
    };
    let record = handout::audit::record::refused(Some(job), None, reason);
    let (mut written, mut line) = (ChainHead::new("s"), String::new());
    written.append(&record, "2026-11-23T07:00:00.000000Z", &mut line);
    assert_eq!(line.find('\n'), Some(line.len() - 1));
    let said: Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(said["ev"], "refused");
    let mut read = ChainHead::new("s");
    read.check(line.as_bytes())
        .expect("a line continues its stream");
    line.clear();
    written.append_sealed(
        &record,
        "2026-11-23T07:00:00.000000Z",
        &SealKey::of(&KEY),
        &mut line,
    );
    let sealed: Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(
        (&sealed["reason"], sealed["seal"].is_string()),
        (&said["reason"], true)
    );
    read.check(line.as_bytes())
        .expect("a sealed line continues its stream");
    assert_eq!(read.root(), written.root());
}

/// A log's directory with foreign files: the verification ends, and reports what is no log.
pub fn audit_log(data: &[u8]) {
    const STREAM: &str = "20261123T070000Z-01234567";
    let (registry, lines) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&b""[..], data),
    };
    let dir = tempfile::tempdir().expect("a directory");
    let segment = dir.path().join(format!("{STREAM}.0001.jsonl"));
    fs::write(segment, lines).expect("room on the disk");
    if let Some(registry) = text(registry).filter(|text| !text.is_empty()) {
        let note = dir.path().join("streams.note");
        fs::write(note, KEY.sign(registry)).expect("room on the disk");
    }
    let key = KEY.public();
    for pinned in [None, Some(&key)] {
        if let Ok(report) = verify(dir.path(), pinned) {
            assert!(report.lines <= lines.len() as u64);
            assert!(!report.problems.is_empty() || report.checkpoints <= report.lines);
        }
    }
    let mut found = 0;
    let count = |_: &str| {
        found += 1;
        Ok(())
    };
    drop(find(dir.path(), &LinkQuery::default(), count));
    assert!(found <= lines.len());
    if let Ok((_, last)) = Tail::of(dir.path(), 5) {
        assert!(last.len() <= 5);
    }
}

/// Signed notes, and what stands in them: nothing opens without its signature, and what is signed is read as it was written.
pub fn note(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let key = KEY.public();
    assert!(key.open(text).is_err());
    if let Ok(public) = text.parse::<PublicKey>() {
        assert_eq!(public.to_string(), text);
    }
    drop(SigningKey::from_pem(text));
    if !text.ends_with('\n') {
        return;
    }
    let signed = KEY.sign(text);
    assert_eq!(key.open(&signed), Ok(text));
    if let Ok(checkpoint) = Checkpoint::open(&signed, &key) {
        let again = checkpoint.sign(&KEY);
        assert_eq!(Checkpoint::open(&again, &key), Ok(checkpoint));
    }
    if let Some(registry) = handout::audit::rewrite_registry(text) {
        let again = handout::audit::rewrite_registry(&registry);
        assert_eq!(again.as_deref(), Some(&*registry));
    }
}

/// A picture's first bytes: a size that can be shown where a browser shows it, and a small picture that fits.
pub fn picture(data: &[u8]) {
    if let Some(picture) = Picture::read(data) {
        let is_sized = picture.width > 0 && picture.height > 0;
        assert!(is_sized || picture.format != PictureFormat::Displayed);
        if let Some(thumbnail) = picture.thumbnail {
            assert!(thumbnail.starts_with("data:image/jpeg;base64,"));
            assert!(thumbnail.len() <= 8 * 1024);
        }
    }
}

/// A whole picture: its renditions have fewer bytes and are no larger than asked for, or there is a reason why there are none.
pub fn rendition(data: &[u8]) {
    let Ok(made) = rendition::make(data, &|| false) else {
        return;
    };
    let images = std::iter::once((&made.small, rendition::SMALL_SIDE));
    let large = made
        .large
        .iter()
        .map(|large| (large, rendition::LARGE_SIDE));
    for (image, side) in images.chain(large) {
        assert!(image.jpeg.len() < data.len());
        assert!((1..=side).contains(&image.width) && (1..=side).contains(&image.height));
        let read = Picture::read(&image.jpeg).expect("a rendition is a picture");
        assert_eq!((read.width, read.height), (image.width, image.height));
        assert_eq!(read.thumbnail, None);
    }
}

/// Durations, sizes and rates: each is written as it can be read again.
pub fn quantity(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let has_sign = text.starts_with(['+', '-']);
    if let Ok(span) = text.parse::<Span>() {
        assert!(!has_sign);
        assert_eq!(span.to_string().parse(), Ok(span));
    }
    if let Ok(size) = text.parse::<Size>() {
        assert!(!has_sign);
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    if let Ok(rate) = text.parse::<Rate>() {
        assert!(!has_sign);
        assert_eq!(rate.to_string().parse(), Ok(rate));
        assert!(rate.count() > 0 && rate.burst().get() <= rate.count());
        rate.interval();
    }
    if let Ok(quantities) = serde_json::from_str::<(Span, Size, Rate)>(text) {
        let again = serde_json::to_string(&quantities).expect("plain data");
        assert_eq!(serde_json::from_str(&again).ok(), Some(quantities));
    }
}

/// A ledger's records: each set gives a recipient's standing, or an error that calls the records damaged.
pub fn ledger(data: &[u8]) {
    let Ok(records) = serde_json::from_slice::<Vec<Record>>(data) else {
        return;
    };
    let again = serde_json::to_vec(&records).expect("plain data");
    let again: Vec<Record> = serde_json::from_slice(&again).expect("what was written can be read");
    // Not their bodies: a number that no record of ours has may lose a digit.
    let names = |record: &Record| {
        (
            record.job.clone(),
            record.rid.clone(),
            record.n,
            record.kind,
        )
    };
    assert!(records.iter().map(names).eq(again.iter().map(names)));
    is_done(&records);
    last_done(&records);
    let sheet = JobRecords::new(records);
    for rid in sheet.recipients() {
        let records = sheet.of(rid);
        drop(outcome_of(records, 0));
        if let Ok(RecipientStatus::InDoubt { doubts, .. }) = status_of(records) {
            assert!((1..=records.len()).contains(&doubts));
        }
    }
}

/// Requests to the embedded endpoint: none passes that does not name our key, our region, and a signature over its host.
#[cfg(feature = "embedded")]
pub fn scope(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut lines = text.split('\n');
    let uri = format!("/bucket/key?{}", lines.next().unwrap_or_default());
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let site = localstore::Site {
        access_key_id: "AKIDONE".to_owned(),
        secret_access_key: "secret".to_owned(),
        region: "eu-west-1".to_owned(),
        directory: "/srv".into(),
    };
    if localstore::passes_scope(site, &uri, &headers) != Some(true) {
        return;
    }
    let is_header = |header: &&(&str, &str)| header.0.eq_ignore_ascii_case("authorization");
    match headers.iter().find(is_header) {
        Some((_, claim)) => {
            assert!(claim.contains("Credential=AKIDONE/"), "{claim:?}");
            assert!(claim.contains("/eu-west-1/s3/aws4_request"), "{claim:?}");
            assert!(claim.contains("host"), "{claim:?}");
        }
        None => assert!(uri.len() > "AKIDONEeu-west-1s3aws4_requesthost".len()),
    }
}
