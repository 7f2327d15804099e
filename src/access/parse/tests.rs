//! The corpus of `tests/fixtures/access`: real shapes, forged ones and broken ones.

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/access");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// What is read of each line of a file.
fn told(name: &str) -> Vec<String> {
    let mut parser = LogParser::new();
    let text = fixture(name);
    let line = |line: &str| match parser.read(line.as_bytes()) {
        AccessLine::Other => "other".to_owned(),
        AccessLine::Malformed => "malformed".to_owned(),
        AccessLine::Request(request) => {
            let ids = super::super::identity::TargetIds::of_query(&request.query);
            format!(
                "{:?} {} {} {} of {:?} {:?} link {} at {} by {} {:?} key {} {:?}{}{}",
                request.asked,
                request.status,
                request.error,
                request.bytes,
                request.size,
                request.range,
                ids.link.is_some(),
                request.at,
                request.address,
                request.signed,
                request.key,
                request.user_agent,
                if request.broke_off { " broke off" } else { "" },
                if request.ids.0.is_empty() {
                    " without an id"
                } else {
                    ""
                },
            )
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn each_shape_is_read_as_far_as_it_is_certain() {
    let mut table = String::new();
    let names = fixture("s3.names");
    for (name, told) in names.lines().zip(told("s3.log")) {
        writeln!(table, "{name}: {told}").unwrap();
    }
    for file in [
        "cloudfront-v1.log",
        "cloudfront-reversed.log",
        "cloudfront-v2.json",
        "cloudwatch.json",
        "cloudtrail.json",
    ] {
        for (number, told) in told(file).iter().enumerate() {
            writeln!(table, "{file} {}: {told}", number + 1).unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/access/expected.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}

#[test]
fn what_a_client_says_of_itself_is_no_request() {
    let names = fixture("s3.names");
    for (name, told) in names.lines().zip(told("s3.log")) {
        if name.contains("forged referer") || name.contains("forged user agent with") {
            assert_eq!(told, "other", "{name}");
        }
        if name.contains("forged end") {
            assert!(
                told.starts_with("Get 200  5000 of Some(5000)"),
                "{name}: {told}"
            );
        }
        if name.contains("cut in")
            || name.contains("cut after")
            || name.contains("wrong")
            || name == "not a log"
        {
            assert_eq!(told, "malformed", "{name}");
        }
    }
}

/// A line with texts that a client chooses.
fn line(target: &str, referer: &str, agent: &str) -> String {
    format!(
        "o b [23/Nov/2026:10:00:07 +0000] 198.51.100.7 r ID REST.GET.OBJECT k \"GET {target} HTTP/1.1\" 200 - 5 9 1 1 \"{referer}\" \"{agent}\" - H SigV4 C QueryString h TLSv1.3 - - r"
    )
}

proptest! {
    #[test]
    fn no_referer_and_no_user_agent_changes_what_was_sent(
        referer in "[ -~]{0,40}|\" 200 - 99 99 1 1 \"|x HTTP/1\\.1\" 403 AccessDenied 1 ",
        agent in "[ -~]{0,40}|a\" 200 - 99 99 1 1 \"-\" \"b|x HTTP/1\\.1\" 403 AccessDenied 1 ",
    ) {
        let line = line("/k?x-handout=1", &referer, &agent);
        let mut parser = LogParser::new();
        let AccessLine::Request(request) = parser.read(line.as_bytes()) else {
            panic!("{line}");
        };
        prop_assert_eq!((request.status, request.bytes, request.size), (200, 5, Some(9)));
        prop_assert_eq!(&*request.query, "x-handout=1");
        prop_assert_eq!((&*request.ids.0, &*request.ids.1), ("ID", "H"));
        prop_assert_eq!(request.signed, RequestSigning::Query);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut parser = LogParser::new();
        for line in lines {
            let marked = [b"#Fields: date time\tx-handout".as_slice(), &line].concat();
            let (_, _) = (parser.read(&line), ());
            parser.read(&marked);
        }
    }
}
