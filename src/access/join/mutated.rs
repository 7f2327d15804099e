//! Ten thousand lines of a file that did not arrive whole, with what clients may write into them and with what breaks on the way: none
//! panics, and none becomes a complete download.

use serde_json::json;

use super::*;
use crate::access::known::KnownReader;
use crate::access::parse::LogParser;
use crate::access::row::AccessCounts;
use crate::access::verdict::OpenVerdict;

const ID: &str = "0123456789abcdef0123456789abcdef";

/// The size of the file. No line says that as many bytes were sent.
const SIZE: u64 = 9_000;

/// How many lines are made.
const LINES: usize = 10_000;

/// What a client may write: what ends fields, what looks like fields, ids, and letters.
const WORDS: [&str; 22] = [
    "\"",
    "\\",
    "%22",
    "%2522",
    "&",
    "=",
    "-",
    "{",
    "}",
    ",",
    ":",
    "a",
    "9000",
    "200",
    "206",
    "é",
    "\u{7f}",
    "HTTP/1.1\"",
    "&amp;",
    "=3D",
    "x-handout=ffffffffffffffffffffffffffffffff",
    "Signature=1",
];

/// The same with spaces, which a target cannot have.
const PHRASES: [&str; 6] = [
    " ",
    "\" 200 - 9000 9000 1 1 \"",
    " HTTP/1.1\" 200 - 9000 9000 1 1 ",
    "\" \"",
    "\" - H SigV4 C QueryString h TLSv1.3 - - r",
    "\"sc-content-len\":\"9000\"",
];

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    /// What a client writes where no space can be.
    fn words(&mut self) -> String {
        let count = self.below(6);
        (0..count).map(|_| WORDS[self.below(WORDS.len())]).collect()
    }

    /// What a client writes where a space can be.
    fn phrases(&mut self) -> String {
        let count = self.below(5);
        let phrase = |dice: &mut Self| match dice.below(2) {
            0 => PHRASES[dice.below(PHRASES.len())].to_owned(),
            _ => dice.words(),
        };
        (0..count).map(|_| phrase(self)).collect()
    }

    /// A text with some bytes changed, added or left out; no digit is among them.
    fn broken(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            let letter = b"\" -[]\\/\0\xff?A\t\r"[self.below(13)];
            match self.below(3) {
                0 => bytes[at] = letter,
                1 => bytes.insert(at, letter),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    }
}

/// A line of S3: what the store writes of the answer stays, all else is changed.
fn of_s3(dice: &mut Dice, id: usize) -> Vec<u8> {
    const ANSWERS: [&str; 6] = [
        "206 - 4000 9000",
        "200 - 5000 9000",
        "206 - 8999 9000",
        "403 AccessDenied 388 9000",
        "304 - - 9000",
        "200 - - 9000",
    ];
    let answer = ANSWERS[dice.below(ANSWERS.len())];
    let begin = format!(
        "o b [23/Nov/2026:10:00:07 +0000] 198.51.100.7 r ID{id} REST.GET.OBJECT k.pdf \"GET /k.pdf?x-handout={ID}&Signature=1"
    );
    let mut line = match dice.below(2) {
        0 => dice.broken(&begin),
        _ => begin.into_bytes(),
    };
    line.extend(dice.words().bytes());
    line.extend(format!(" HTTP/1.1\" {answer} 1 1 ").bytes());
    line.extend(format!("\"{}\" \"{}\"", dice.phrases(), dice.phrases()).bytes());
    line.extend(dice.broken(" - H SigV4 C QueryString h TLSv1.3 - - r"));
    line
}

/// The answers of CloudFront: bytes with heads, status, result, length, range.
const OF_FRONT: [[&str; 6]; 4] = [
    ["1500", "206", "Hit", "1024", "0", "1023"],
    // The heads make more than the file of what broke off before its end.
    ["9300", "206", "ClientCommError", "9000", "0", "8999"],
    ["900", "200", "ClientCommError", "9000", "-", "-"],
    ["0", "000", "ClientCommError", "-", "-", "-"],
];

/// A line of CloudFront's text, in the usual order of the fields.
fn of_cloudfront(dice: &mut Dice, id: usize) -> Vec<u8> {
    let [bytes, status, result, length, first, last] = OF_FRONT[dice.below(OF_FRONT.len())];
    let mut free = || dice.phrases().replace('\t', "");
    let (referer, agent, query, host) = (free(), free(), free(), free());
    let others = "-\t".repeat(7);
    format!(
        "2026-11-23\t10:00:07\tFRA56-P3\t{bytes}\t198.51.100.7\tGET\t{host}\t/k.pdf\t{status}\t{referer}\t{agent}\tx-handout={ID}&Signature=1{query}\t-\tHit\tID{id}\t{others}Hit\t-\t-\t-\t-\t-\t{result}\t-\t{length}\t{first}\t{last}"
    )
    .into_bytes()
}

/// The same as JSON, or an event of CloudWatch.
fn of_json(dice: &mut Dice, id: usize) -> Vec<u8> {
    let id = format!("ID{id}");
    let [bytes, status, result, length, first, last] = OF_FRONT[dice.below(OF_FRONT.len())];
    let front = json!({
        "date": "2026-11-23", "time": "10:00:07", "sc-bytes": bytes, "c-ip": dice.phrases(), "cs-method": "GET",
        "cs-uri-stem": "/k.pdf", "sc-status": status, "cs(User-Agent)": dice.phrases(), "cs(Referer)": dice.phrases(),
        "cs-uri-query": format!("x-handout={ID}&Signature=1{}", dice.words()), "x-edge-request-id": id,
        "x-edge-detailed-result-type": result, "sc-content-len": length, "sc-range-start": first, "sc-range-end": last,
    });
    let watch = json!({
        "request_time": "2026-11-23T10:00:07.123Z", "remote_ip": dice.phrases(), "requester": "r", "request_id": id,
        "operation": "REST.GET.OBJECT", "key": "k.pdf", "http_status": 206, "bytes_sent": 4_000, "object_size": SIZE,
        "request_uri": format!("GET /k.pdf?x-handout={ID}&Signature=1{} HTTP/1.1", dice.words()),
        "user_agent": dice.phrases(), "referrer": dice.phrases(), "authentication_type": "QueryString",
    });
    let line = match dice.below(3) {
        0 => front.to_string(),
        1 => watch.to_string(),
        _ => json!({ "message": watch.to_string() }).to_string(),
    };
    line.into_bytes()
}

/// What a line alone says of the file, if it is a request.
fn verdict_of(line: &[u8], parser: &mut LogParser) -> Option<OpenVerdict> {
    let AccessLine::Request(request) = parser.read(line) else {
        return None;
    };
    let ids = TargetIds::of_query(&request.query);
    let counts = AccessCounts::of(&request, ids.mangling, ids.ends);
    Some(OpenVerdict::of(&counts, Some(SIZE)))
}

/// Makes lines of a format, judges each, and joins all of them. Returns how many were requests.
fn judged(make: fn(&mut Dice, usize) -> Vec<u8>, known: &KnownLinks) -> usize {
    let mut book = AccessBook::in_memory().unwrap();
    let privacy = ClientPrivacy {
        detail: AddressDetail::Full,
        now: 1_795_428_007,
        since: i64::MIN,
    };
    let mut joiner = Joiner::new(known, &[], privacy, &mut book);
    let (mut dice, mut parser) = (Dice(0x2026_1130_0000_0001), LogParser::new());
    let mut requests = 0;
    let count = LINES / 3 + 1;
    for id in 0..count {
        let mut line = make(&mut dice, id);
        if dice.below(8) == 0 {
            line.truncate(dice.below(line.len()));
        }
        let verdict = verdict_of(&line, &mut parser);
        requests += usize::from(verdict.is_some());
        assert!(
            verdict.is_none_or(|verdict| verdict > OpenVerdict::ProbablyComplete),
            "{verdict:?}: {}",
            String::from_utf8_lossy(&line)
        );
        joiner.take(parser.read(&line)).unwrap();
    }
    joiner.write().unwrap();
    let counts = joiner.counts();
    assert_eq!(counts.lines, count as u64);
    assert!(
        counts.joined > 0 && counts.joined <= requests as u64,
        "{counts:?}"
    );
    let all = |_| true;
    book.rows(None, None, all, |row| assert_eq!(row.counts.whole, 0))
        .unwrap();
    requests
}

#[test]
fn no_line_panics_and_none_makes_a_download_complete_that_was_not() {
    let mut reader = KnownReader::new();
    let issued = format!(
        r#"{{"v":2,"ev":"issue","job":"j","bucket":"b","key":"k.pdf","size":{SIZE},"link_id":"{ID}"}}"#
    );
    reader.add(issued.as_bytes()).unwrap();
    let known = reader.finish();
    for (name, make) in [
        ("s3", of_s3 as fn(&mut Dice, usize) -> Vec<u8>),
        ("cloudfront", of_cloudfront),
        ("json", of_json),
    ] {
        let requests = judged(make, &known);
        // Most lines are read, or the test would say nothing.
        assert!(requests > LINES / 6, "{name}: {requests}");
    }
    // A line that says so makes it complete.
    let whole = format!(
        "o b [23/Nov/2026:10:00:07 +0000] 198.51.100.7 r ID REST.GET.OBJECT k.pdf \"GET /k.pdf?x-handout={ID}&Signature=1 HTTP/1.1\" 200 - {SIZE} {SIZE} 1 1 \"-\" \"curl\" - H SigV4 C QueryString h TLSv1.3 - - r"
    );
    let verdict = verdict_of(whole.as_bytes(), &mut LogParser::new());
    assert_eq!(verdict, Some(OpenVerdict::Complete));
}
