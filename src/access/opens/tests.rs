//! Who opened what, from an audit log and access logs.

use std::fmt::Write as _;

use super::*;
use crate::access::join::{ClientPrivacy, Joiner};
use crate::access::known::KnownLinks;
use crate::access::parse::LogParser;
use crate::config::AddressDetail;

const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

/// An audit log and access logs in the making. The mails are accepted at 10:00.
struct Scene {
    audit: String,
    log: String,
    requests: u32,
}

fn id(number: u32) -> String {
    format!("{number:016x}{:016x}", 7)
}

impl Scene {
    fn new() -> Self {
        Self {
            audit: String::new(),
            log: String::new(),
            requests: 0,
        }
    }

    fn line(&mut self, at: &str, ev: &str, fields: &str) {
        writeln!(self.audit, "{{\"v\":2,\"ev\":\"{ev}\",\"seq\":0,\"ts\":\"2026-11-23T{at}.000Z\",\"stream\":\"s\",{fields},\"prev\":\"x\"}}").unwrap();
    }

    /// A link of `rid` to `f<number>.pdf` with 100,000 bytes.
    fn link(&mut self, number: u32, rid: &str) {
        let fields = format!(
            r#""job":"j","rid":"{rid}","bucket":"b","key":"f{number}.pdf","size":100000,"link_id":"{}""#,
            id(number)
        );
        self.line("09:59:00", "issue", &fields);
    }

    fn accepted(&mut self, rid: &str) {
        let fields =
            format!(r#""job":"j","rid":"{rid}","n":0,"outcome":"accepted","message_id":"<m>""#);
        self.line("10:00:00", "outcome", &fields);
    }

    fn opened(&mut self, number: u32, rid: &str, at: &str, open: &str, more: &str) {
        let fields = format!(
            r#""job":"j","rid":"{rid}","bucket":"b","key":"f{number}.pdf","link_id":"{}","open":"{open}","how":"button"{more}"#,
            id(number)
        );
        self.line(at, "opened", &fields);
    }

    fn request(
        &mut self,
        number: u32,
        at: &str,
        open: Option<&str>,
        answer: (&str, &str, u64),
        from: (&str, &str),
    ) {
        self.requests += 1;
        let (how, status, sent) = answer;
        let open = open
            .map(|open| format!("&x-handout-open={open}"))
            .unwrap_or_default();
        writeln!(
            self.log,
            "o b [23/Nov/2026:{at} +0000] {} r R{} REST.{how}.OBJECT f{number}.pdf \"{how} /f{number}.pdf?x-handout={}{open}&Expires=1795435200&Signature=1 HTTP/1.1\" {status} {sent} 100000 1 1 \"-\" \"{}\" - H SigV4 C QueryString h T - - r",
            from.0, self.requests, id(number), from.1
        )
        .unwrap();
    }

    fn report(&self, question: &OpensQuestion) -> OpensReport {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s.0001.jsonl"), &self.audit).unwrap();
        let places = [LogSource::from(folder.path())];
        let known = KnownLinks::of_logs(&places).unwrap();
        let mut book = AccessBook::in_memory().unwrap();
        let privacy = ClientPrivacy {
            detail: AddressDetail::Network,
            now: 0,
            since: i64::MIN,
        };
        let mut joiner = Joiner::new(&known, &[], privacy, &mut book);
        let mut parser = LogParser::new();
        for line in self.log.lines() {
            joiner.take(parser.read(line.as_bytes())).unwrap();
        }
        joiner.write().unwrap();
        answer(&places, &book, question).unwrap()
    }

    fn job(&self, all: bool) -> OpensReport {
        let query = LinkQuery {
            job: Some("j".to_owned()),
            ..LinkQuery::default()
        };
        self.report(&OpensQuestion {
            query,
            all,
            ..OpensQuestion::default()
        })
    }
}

fn rows(report: &OpensReport) -> String {
    let line = |row: &OpensRow| {
        format!(
            "{} {}: {} by {} ({}), {} downloads, {} machines\n",
            row.rid,
            row.key,
            crate::access::page::arrived(row),
            row.by.map_or("no visitor", OpenedBy::words),
            row.evidence.join("; "),
            row.downloads,
            row.machine_opens
        )
    };
    report.rows.iter().map(line).collect()
}

#[test]
fn a_scanner_and_a_person_are_told_apart() {
    let home = ("198.51.100.7", CHROME);
    let mut scene = Scene::new();
    for number in 1..=7 {
        scene.link(number, "ann");
    }
    scene.accepted("ann");
    for number in 1..=4 {
        scene.request(
            number,
            "10:00:22",
            None,
            ("GET", "200 -", 100_000),
            ("203.0.113.9", CHROME),
        );
    }
    // An hour later: whole, in ranges, begun, looked at.
    scene.request(1, "11:00:00", None, ("GET", "200 -", 100_000), home);
    scene.request(2, "11:02:00", None, ("GET", "200 -", 60_000), home);
    scene.request(2, "11:03:00", None, ("GET", "206 -", 40_000), home);
    scene.request(3, "11:04:00", None, ("GET", "206 -", 40_000), home);
    scene.request(5, "11:05:00", None, ("HEAD", "200 -", 0), home);
    scene.request(6, "12:30:00", None, ("GET", "403 AccessDenied", 300), home);
    insta::assert_snapshot!(rows(&scene.job(true)), @r"
    ann f1.pdf: complete by likely person (60 min after the mail, by a browser, from one network), 1 downloads, 1 machines
    ann f2.pdf: probably complete by likely person (62 min after the mail, by a browser, from one network), 1 downloads, 1 machines
    ann f3.pdf: partly, at most 40 % by likely person (64 min after the mail, by a browser, from one network), 1 downloads, 1 machines
    ann f4.pdf: complete by likely machine (22 s after the mail was accepted; 4 links of the mail within 5 s), 0 downloads, 1 machines
    ann f5.pdf: looked at by machine (only headers were asked for), 0 downloads, 1 machines
    ann f6.pdf: refused: the link had ended by no visitor (), 0 downloads, 0 machines
    ann f7.pdf: not opened by no visitor (), 0 downloads, 0 machines
    ");
    let coverage = scene.job(false).coverage;
    assert_eq!((coverage.links, coverage.opened), (7, 5));
}

#[test]
fn the_portal_proves_what_it_handed_out_and_logs_show_what_arrived() {
    let home = ("198.51.100.7", CHROME);
    let mut scene = Scene::new();
    for number in 1..=4 {
        scene.link(number, "bob");
    }
    scene.accepted("bob");
    scene.opened(
        1,
        "bob",
        "10:00:10",
        "AAAAAAAAAAE",
        r#","signed_in":"code","ua":"x""#,
    );
    scene.request(
        1,
        "10:00:11",
        Some("AAAAAAAAAAE"),
        ("GET", "200 -", 100_000),
        home,
    );
    let seen = format!(r#","after_page_ms":4000,"sec_fetch":"site=same-origin","ua":"{CHROME}""#);
    scene.opened(2, "bob", "10:20:10", "AAAAAAAAAAI", &seen);
    // A phone resumes the download from two networks: one download.
    scene.request(
        2,
        "10:20:11",
        Some("AAAAAAAAAAI"),
        ("GET", "200 -", 70_000),
        home,
    );
    scene.request(
        2,
        "11:40:11",
        Some("AAAAAAAAAAI"),
        ("GET", "206 -", 30_000),
        ("203.0.113.9", CHROME),
    );
    scene.opened(3, "bob", "10:30:00", "AAAAAAAAAAM", r#","ua":"Barracuda""#);
    scene.opened(
        4,
        "bob",
        "10:30:00",
        "AAAAAAAAAAQ",
        &format!(r#","purpose":"prefetch","ua":"{CHROME}""#),
    );
    let report = scene.job(true);
    insta::assert_snapshot!(rows(&report), @r#"
    bob f1.pdf: complete by person (signed in by code), 1 downloads, 0 machines
    bob f2.pdf: probably complete by likely person (the button was pressed 4 s after its page), 1 downloads, 0 machines
    bob f3.pdf: handed out by machine (the client calls itself "barracuda"), 0 downloads, 1 machines
    bob f4.pdf: handed out by machine (the browser fetched it in advance), 0 downloads, 1 machines
    "#);
    assert_eq!(
        (report.coverage.handed_out, report.coverage.handed_out_seen),
        (4, 2)
    );
}

#[test]
fn a_question_of_time_finds_the_links_that_were_opened_then() {
    let home = ("198.51.100.7", CHROME);
    let mut scene = Scene::new();
    scene.link(1, "ann");
    scene.link(2, "ann");
    scene.accepted("ann");
    scene.request(1, "11:00:00", None, ("GET", "200 -", 100_000), home);
    scene.request(2, "15:00:00", None, ("GET", "200 -", 100_000), home);
    let since = Some("2026-11-23T14:00:00Z".parse().unwrap());
    let report = scene.report(&OpensQuestion {
        since,
        ..OpensQuestion::default()
    });
    assert_eq!(report.rows.len(), 1);
    assert_eq!(
        (report.rows[0].key.as_str(), report.rows[0].by),
        ("f2.pdf", Some(OpenedBy::LikelyPerson)),
        "{:?}",
        report.rows[0]
    );
    let query = LinkQuery {
        object: Some(("b".to_owned(), "f1.pdf".to_owned())),
        ..LinkQuery::default()
    };
    let report = scene.report(&OpensQuestion {
        query,
        ..OpensQuestion::default()
    });
    assert_eq!(
        (report.rows.len(), report.rows[0].by),
        (1, Some(OpenedBy::LikelyPerson))
    );
}

#[test]
fn a_page_escapes_what_strangers_wrote() {
    let mut scene = Scene::new();
    scene.link(1, "ann");
    scene.accepted("ann");
    scene.request(
        1,
        "11:00:00",
        None,
        ("GET", "200 -", 100_000),
        ("198.51.100.7", "<script>alert(1)</script> =HYPERLINK(1)"),
    );
    let report = scene.job(true);
    let head = crate::access::page::ReportHead {
        question: "job <j>",
        at: Timestamp::UNIX_EPOCH,
        program: "handout",
    };
    let page = crate::access::page::html(&report, &head);
    assert!(
        !page.contains("<script")
            && page.contains("&lt;script&gt;")
            && page.contains("job &lt;j&gt;"),
        "{page}"
    );
    let row = crate::access::page::csv_row(&report.rows[0]);
    assert_eq!(
        row.matches("\",").count() + 1,
        row.matches("\"").count().div_ceil(2),
        "{row}"
    );
}
