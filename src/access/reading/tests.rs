//! A file is read on from where the last read ended, and never twice.

use std::io::Write;

use super::super::book::AccessBook;
use super::super::join::{ClientPrivacy, ReadCounts};
use super::super::known::{KnownLinks, KnownReader};
use super::*;
use crate::config::AddressDetail;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn known() -> KnownLinks {
    let mut reader = KnownReader::new();
    let line =
        format!(r#"{{"v":2,"ev":"issue","job":"j","bucket":"b","key":"k.pdf","link_id":"{ID}"}}"#);
    reader.add(line.as_bytes()).unwrap();
    reader.finish()
}

fn line(id: usize) -> String {
    format!(
        "o b [23/Nov/2026:10:00:07 +0000] 198.51.100.7 r ID{id} REST.GET.OBJECT k.pdf \"GET /k.pdf?x-handout={ID}&Signature=1 HTTP/1.1\" 200 - 9 9 1 1 \"-\" \"curl/8\" - H SigV4 C QueryString h T - - r\n"
    )
}

fn read(path: &Path, book: &mut AccessBook) -> (FileOutcome, ReadCounts) {
    let known = known();
    let privacy = ClientPrivacy {
        detail: AddressDetail::None,
        now: 1_795_428_007,
        since: i64::MIN,
    };
    let mut joiner = Joiner::new(&known, &[], privacy, book);
    let outcome = read_file(path, &mut joiner).unwrap();
    // What is held counts, too.
    let again = read_file(path, &mut joiner).unwrap();
    assert_eq!(again, FileOutcome::Known);
    joiner.write().unwrap();
    (outcome, joiner.counts())
}

#[test]
fn what_is_added_to_a_file_is_read_and_the_rest_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access");
    let mut book = AccessBook::open(folder.path()).unwrap();
    let torn = line(3);
    let (begin, end) = torn.split_at(40);
    std::fs::write(&path, line(1) + &line(2) + begin).unwrap();
    let (outcome, counts) = read(&path, &mut book);
    assert_eq!(
        (outcome, counts.lines, counts.joined),
        (FileOutcome::Read, 2, 2)
    );
    assert_eq!(read(&path, &mut book).0, FileOutcome::Known);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all((end.to_owned() + &line(4)).as_bytes())
        .unwrap();
    let (_, counts) = read(&path, &mut book);
    assert_eq!((counts.lines, counts.joined, counts.doubles), (2, 2, 0));
    // Another file under the same name is read from its beginning.
    std::fs::write(&path, line(5) + &line(6) + &line(7) + &line(8) + &line(9)).unwrap();
    let (_, counts) = read(&path, &mut book);
    assert_eq!((counts.lines, counts.joined), (5, 5));
    // The rotated and compressed copy of what was read adds nothing.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all((line(5) + &line(1)).as_bytes()).unwrap();
    let rotated = folder.path().join("access.1.gz");
    std::fs::write(&rotated, gzip.finish().unwrap()).unwrap();
    let (_, counts) = read(&rotated, &mut book);
    assert_eq!((counts.lines, counts.joined, counts.doubles), (2, 0, 2));
}

#[test]
fn a_gzip_that_was_cut_keeps_nothing_of_its_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.gz");
    let mut book = AccessBook::open(folder.path()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all((line(5) + &line(1)).as_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let known = known();
    let privacy = ClientPrivacy {
        detail: AddressDetail::None,
        now: 0,
        since: i64::MIN,
    };
    let mut joiner = Joiner::new(&known, &[], privacy, &mut book);
    let error = read_file(&path, &mut joiner).unwrap_err().to_string();
    assert!(error.contains("access.gz"), "{error}");
    std::fs::write(&path, &whole).unwrap();
    let (outcome, counts) = read(&path, &mut book);
    assert_eq!((outcome, counts.joined), (FileOutcome::Read, 2));
}

#[test]
fn events_of_cloudtrail_are_evidence_and_are_read_once() {
    use std::collections::HashSet;

    use super::super::identity::request_hash;

    let folder = tempfile::tempdir().unwrap();
    let mut book = AccessBook::open(folder.path()).unwrap();
    let event = |id: &str| {
        format!(
            r#"{{"eventName":"GetObject","eventTime":"2026-11-23T10:00:09Z","requestID":"{id}","requestParameters":{{"bucketName":"b","key":"k.pdf","x-handout":"{ID}"}},"additionalEventData":{{"AuthenticationMethod":"QueryString","x-amz-id-2":"H"}},"more":"{}"}}"#,
            "x".repeat(crate::bounds::MAX_LOG_LINE_BYTES)
        )
    };
    let file = |ids: &[&str]| {
        let events: Vec<String> = ids.iter().map(|id| event(id)).collect();
        format!(
            "{{\"Records\":[{},{{\"eventName\":\"PutObject\"}}]}}",
            events.join(",")
        )
    };
    let plain = folder.path().join("trail.json");
    std::fs::write(&plain, file(&["ID1", "ID2"])).unwrap();
    let (_, counts) = read(&plain, &mut book);
    assert_eq!((counts.lines, counts.trail, counts.malformed), (3, 2, 0));
    assert_eq!(counts.joined, 0, "an event is no open");
    assert_eq!(read(&plain, &mut book).0, FileOutcome::Known);
    let compressed = folder.path().join("trail.json.gz");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(file(&["ID2", "ID3"]).as_bytes()).unwrap();
    std::fs::write(&compressed, gzip.finish().unwrap()).unwrap();
    assert_eq!(read(&compressed, &mut book).1.trail, 2);
    let mut ids = HashSet::new();
    book.trail(None, None, |request| {
        assert!(
            ids.insert(request.id),
            "an event that is there twice is one"
        );
        Ok(())
    })
    .unwrap();
    let expected = ["ID1", "ID2", "ID3"].map(|id| request_hash(id, "H").unwrap());
    assert_eq!(ids, HashSet::from(expected));

    // The access log arrives later, and has one of them.
    let log = folder.path().join("access");
    std::fs::write(&log, line(2)).unwrap();
    read(&log, &mut book);
    let compared = |key| trail::compared(&book, [("b", key)].into_iter(), (None, None)).unwrap();
    assert_eq!((compared("k.pdf"), compared("other.pdf")), ((3, 1), (0, 0)));
    let torn = folder.path().join("torn.json");
    std::fs::write(&torn, file(&["ID4"]).trim_end_matches("]}")).unwrap();
    let (_, counts) = read(&torn, &mut book);
    assert_eq!((counts.trail, counts.malformed), (1, 1));
    book.forget(1_795_428_007 + 512, 1_795_428_007).unwrap();
    book.trail(None, None, |_| panic!("it is kept")).unwrap();
}
