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
