//! Each request counts once, for the link that it names, in any order of the files.

use std::collections::BTreeMap;

use super::*;
use crate::access::book::RowKey;
use crate::access::known::KnownReader;
use crate::access::parse::LogParser;
use crate::access::row::AccessCounts;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn known() -> KnownLinks {
    let mut reader = KnownReader::new();
    let line = format!(
        r#"{{"v":2,"ev":"issue","job":"j","bucket":"b","key":"k.pdf","size":9,"link_id":"{ID}"}}"#
    );
    reader.add(line.as_bytes()).unwrap();
    let line = format!(
        r#"{{"v":2,"ev":"opened","job":"j","bucket":"b","key":"k.pdf","link_id":"{ID}","open":"AAAAAAAAAAE"}}"#
    );
    reader.add(line.as_bytes()).unwrap();
    reader.finish()
}

struct Said<'a> {
    id: &'a str,
    minute: u32,
    key: &'a str,
    query: String,
    status: u16,
    sent: u64,
    address: &'a str,
    agent: &'a str,
    how: &'a str,
}

impl Default for Said<'_> {
    fn default() -> Self {
        Self {
            id: "A",
            minute: 0,
            key: "k.pdf",
            query: format!("x-handout={ID}&Signature=1"),
            status: 200,
            sent: 9,
            address: "198.51.100.7",
            agent: "curl/8",
            how: "QueryString",
        }
    }
}

impl Said<'_> {
    fn line(&self) -> String {
        let Self {
            id,
            minute,
            key,
            query,
            status,
            sent,
            address,
            agent,
            how,
        } = self;
        format!(
            "o b [23/Nov/2026:10:{minute:02}:07 +0000] {address} r {id} REST.GET.OBJECT {key} \"GET /{key}?{query} HTTP/1.1\" {status} - {sent} 9 1 1 \"-\" \"{agent}\" - H SigV4 C {how} h TLSv1.3 - - r"
        )
    }
}

/// What is kept after files with these lines, each written by itself.
fn kept(
    files: &[Vec<String>],
    detail: AddressDetail,
) -> (ReadCounts, Vec<(RowKey, AccessCounts)>, AccessBook) {
    let known = known();
    let mut book = AccessBook::in_memory().unwrap();
    let privacy = ClientPrivacy {
        detail,
        now: 1_795_428_007,
        since: i64::MIN,
    };
    let mut joiner = Joiner::new(&known, &[], privacy, &mut book);
    for file in files {
        let mut parser = LogParser::new();
        for line in file {
            joiner.take(parser.read(line.as_bytes())).unwrap();
        }
        joiner.write().unwrap();
    }
    let counts = joiner.counts();
    let rows = rows_of(&book).into_iter();
    (
        counts,
        rows.map(|(key, (counts, _))| (key, counts)).collect(),
        book,
    )
}

/// The rows with their clients, those of the same key as one.
fn rows_of(book: &AccessBook) -> BTreeMap<RowKey, (AccessCounts, (Option<String>, String))> {
    let mut rows = BTreeMap::new();
    let all = |_| true;
    book.rows(None, None, all, |row| {
        let client = (row.net.map(str::to_owned), row.agent.to_owned());
        let known = rows.entry(row.key);
        let known = known.or_insert_with(|| (AccessCounts::default(), client));
        known.0.add(&row.counts);
    })
    .unwrap();
    rows
}

#[test]
fn a_request_counts_once_in_any_order_of_its_files() {
    let line = |id, minute, sent| {
        Said {
            id,
            minute,
            sent,
            ..Said::default()
        }
        .line()
    };
    let (one, two, three) = (line("A", 0, 9), line("B", 1, 4), line("C", 20, 9));
    let in_order = kept(
        &[vec![one.clone(), two.clone()], vec![three.clone()]],
        AddressDetail::Full,
    );
    let late = kept(
        &[
            vec![three.clone()],
            vec![two.clone(), two.clone()],
            vec![one.clone()],
            vec![one, three, two],
        ],
        AddressDetail::Full,
    );
    assert_eq!(in_order.1, late.1);
    assert_eq!((in_order.0.joined, in_order.0.doubles), (3, 0));
    assert_eq!((late.0.joined, late.0.doubles), (3, 4));
    assert_eq!(
        late.2
            .totals()
            .unwrap()
            .iter()
            .find(|(name, _)| name == "joined")
            .unwrap()
            .1,
        3
    );
}

/// A few late lines of a slot wait until its ids are read, and many have them read at once.
#[test]
fn doubles_of_earlier_files_are_found_however_many_they_are() {
    let lines = |numbers: std::ops::Range<u32>| -> Vec<String> {
        let ids = numbers.map(|number| format!("ID{number}"));
        ids.map(|id| {
            Said {
                id: &id,
                ..Said::default()
            }
            .line()
        })
        .collect()
    };
    for late in [1, 64, 65, 66, 200] {
        let files = [lines(0..150), lines(140..140 + late), lines(0..late)];
        let (counts, rows, book) = kept(&files, AddressDetail::Full);
        let all = 150.max(140 + late).max(late);
        assert_eq!(counts.joined, u64::from(all), "{late}");
        let read = 150 + 2 * late;
        assert_eq!(counts.doubles, u64::from(read - all), "{late}");
        assert_eq!(
            rows.iter().map(|row| row.1.requests).sum::<u64>(),
            u64::from(all)
        );
        let mut ids = book.seen(rows[0].0.slot).unwrap();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all as usize, "{late}: each id is kept once");
    }
}

#[test]
fn an_id_counts_only_with_its_key_and_its_signature() {
    let other = ID.replace('0', "f");
    let lines = [
        Said {
            id: "A",
            key: "other.pdf",
            ..Said::default()
        },
        Said {
            id: "B",
            query: format!("x-handout={other}&Signature=1"),
            ..Said::default()
        },
        Said {
            id: "C",
            how: "AuthHeader",
            ..Said::default()
        },
        Said {
            id: "D",
            agent: &format!("x-handout={ID}"),
            query: "a=b".to_owned(),
            ..Said::default()
        },
    ];
    let lines: Vec<String> = lines.iter().map(Said::line).collect();
    let (counts, rows, _) = kept(&[lines], AddressDetail::Full);
    assert_eq!(
        (
            counts.forged,
            counts.unknown,
            counts.unsigned,
            counts.joined,
            counts.lines
        ),
        (1, 1, 1, 0, 4)
    );
    assert_eq!(rows, []);
}

#[test]
fn an_open_is_kept_only_if_the_portal_made_it() {
    let with = |open: &str| {
        Said {
            id: open,
            query: format!("x-handout={ID}&x-handout-open={open}&Signature=1"),
            ..Said::default()
        }
        .line()
    };
    let (_, rows, _) = kept(
        &[vec![with("AAAAAAAAAAE"), with("AAAAAAAAAAI")]],
        AddressDetail::Full,
    );
    let opens: Vec<u64> = rows.iter().map(|(key, _)| key.open).collect();
    assert_eq!(opens, [0, 1]);
}

#[test]
fn an_address_is_kept_as_the_configuration_says() {
    let client = |detail| {
        let (_, _, book) = kept(&[vec![Said::default().line()]], detail);
        let (_, (_, client)) = rows_of(&book).pop_first().unwrap();
        client
    };
    assert_eq!(client(AddressDetail::None), (None, "curl/8".to_owned()));
    assert_eq!(client(AddressDetail::Network).0.unwrap(), "198.51.100.0/24");
    assert_eq!(client(AddressDetail::Full).0.unwrap(), "198.51.100.7");
    assert!(
        client(AddressDetail::Keyed)
            .0
            .unwrap()
            .starts_with("keyed:")
    );
    // The key of the day goes after a week, and what is kept by it cannot be made again.
    let (_, _, mut book) = kept(&[vec![Said::default().line()]], AddressDetail::Keyed);
    let day = 1_795_428_007 / 86_400;
    assert!(
        book.day_key(day, day, [7; 32])
            .unwrap()
            .is_some_and(|key| key != [7; 32])
    );
    book.forget(0, (day + 9) * 86_400).unwrap();
    assert_eq!(book.day_key(day, day + 9, [7; 32]).unwrap(), None);
}

#[test]
fn what_is_old_is_forgotten_with_its_clients() {
    let (_, rows, mut book) = kept(&[vec![Said::default().line()]], AddressDetail::Full);
    book.forget(rows[0].1.last + 512, 1_795_428_007).unwrap();
    assert_eq!(rows_of(&book), BTreeMap::new());
    assert!(book.seen(rows[0].0.slot).unwrap().is_empty());
}
