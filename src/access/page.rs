//! A report as a page of HTML, to be filed: one file without scripts, links or pictures.

use std::fmt::Write;

use jiff::Timestamp;

use super::opens::{OpensReport, OpensRow};
use super::person::OpenedBy;
use super::verdict::OpenVerdict;
use crate::text::csv::{heading, push_text};
use crate::text::html::escape;
use crate::text::{counted, printable};

/// What stands above the table.
#[derive(Debug, Clone)]
pub struct ReportHead<'a> {
    /// What was asked, in words.
    pub question: &'a str,
    /// When.
    pub at: Timestamp,
    /// The program and its version.
    pub program: &'a str,
}

const STYLE: &str = "\
:root{color-scheme:light}body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;margin:2rem auto;max-width:76rem;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}\
caption{text-align:left;padding:.4rem 0}th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #8a8a8a}\
td.key,tbody th{overflow-wrap:anywhere;min-width:16rem}dt{font-weight:600}dd{margin:0 0 .5rem}@media print{body{margin:0;max-width:none}.wide{overflow:visible}}";

/// The longest text of a cell, in bytes.
const MAX_SHOWN: usize = 8 * 1024;

/// Writes the page.
pub fn html(report: &OpensReport, head: &ReportHead<'_>) -> String {
    let mut page = String::new();
    page.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n");
    write_to(
        &mut page,
        format_args!(
            "<title>Who opened what: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
            shown(head.question)
        ),
    );
    write_to(
        &mut page,
        format_args!(
            "<h1>Who opened what</h1>\n<p>{}. Made on {} by {}.</p>\n",
            shown(head.question),
            instant(head.at),
            shown(head.program)
        ),
    );
    page.push_str("<h2>Summary</h2>\n<ul>\n");
    for line in summary(report) {
        write_to(&mut page, format_args!("<li>{}</li>\n", shown(&line)));
    }
    page.push_str("</ul>\n<h2 id=\"opens\">Opens</h2>\n<div class=\"wide\" role=\"region\" aria-labelledby=\"opens\" tabindex=\"0\">\n<table>\n<caption>A row for each recipient and file. Times are UTC.</caption>\n<thead><tr>");
    let rows: Vec<[String; 10]> = report.rows.iter().map(html_cells).collect();
    // A column in which no row says anything takes room from the names of the files.
    let columns: Vec<usize> = (0..HTML_COLUMNS.len())
        .filter(|column| rows.is_empty() || rows.iter().any(|cells| !cells[*column].is_empty()))
        .collect();
    for column in &columns {
        let name = HTML_COLUMNS[*column];
        write_to(&mut page, format_args!("<th scope=\"col\">{name}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for cells in &rows {
        page.push_str("<tr>");
        for column in &columns {
            let cell = &cells[*column];
            match column {
                0 => write_to(&mut page, format_args!("<th scope=\"row\">{cell}</th>")),
                1 => write_to(&mut page, format_args!("<td class=\"key\">{cell}</td>")),
                _ => write_to(&mut page, format_args!("<td>{cell}</td>")),
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n<h2>How to read this</h2>\n<dl>\n");
    for (word, meaning) in MEANINGS {
        write_to(
            &mut page,
            format_args!("<dt>{word}</dt><dd>{meaning}</dd>\n"),
        );
    }
    page.push_str("</dl>\n</main>\n</body>\n</html>\n");
    page
}

const HTML_COLUMNS: [&str; 10] = [
    "Recipient",
    "File",
    "Arrived",
    "Opened by",
    "Evidence",
    "First",
    "Last",
    "Downloads",
    "Machines",
    "Clients",
];

/// A row of the page's table, as HTML.
fn html_cells(row: &OpensRow) -> [String; 10] {
    let clients = [row.networks.join(", "), row.clients.join(", ")].join(" ");
    [
        shown(whose(row)),
        shown(&format!("s3://{}/{}", row.bucket, row.key)),
        shown(&arrived(row)),
        row.by.map_or("", OpenedBy::words).to_owned(),
        shown(&row.evidence.join("; ")),
        row.first.map(instant).unwrap_or_default(),
        row.last.map(instant).unwrap_or_default(),
        row.downloads.to_string(),
        row.machine_opens.to_string(),
        shown(clients.trim()),
    ]
}

const MEANINGS: [(&str, &str); 12] = [
    (
        "complete",
        "One answer had all bytes of the file, or the ranges that were sent cover it.",
    ),
    (
        "probably complete",
        "The answers together had as many bytes as the file. S3 does not log which bytes they were.",
    ),
    (
        "partly",
        "Fewer bytes than the file has. The percentage is an upper bound.",
    ),
    (
        "broken off",
        "An answer began with the whole file and ended before it.",
    ),
    (
        "looked at",
        "A few bytes, the headers, or the answer that the client has the file already.",
    ),
    (
        "handed out",
        "The portal handed out a link. No access log that was read has a request by it.",
    ),
    (
        "refused",
        "All requests were refused, for the reason that is named.",
    ),
    ("person", "The visitor had signed in."),
    (
        "likely person",
        "A button was pressed after its page was shown, or a browser opened the link long after the mail, from one network.",
    ),
    ("unknown", "The evidence says nothing."),
    (
        "likely machine",
        "The behaviour of a scanner of mails: too soon after the mail, too many links, or networks, at once.",
    ),
    (
        "machine",
        "The client says that it is one, or asked for headers alone.",
    ),
];

/// The summary, a line for each statement.
pub fn summary(report: &OpensReport) -> Vec<String> {
    let mut lines = Vec::new();
    let coverage = &report.coverage;
    let by = |class: OpenedBy| report.classes().get(&class).copied().unwrap_or_default();
    let machines: u64 = report.rows.iter().map(|row| row.machine_opens).sum();
    let where_seen = match coverage.files {
        0 => " at the portal, and of the others it is not known",
        _ => "",
    };
    lines.push(format!(
        "{} of {} {} opened{where_seen}: by a person {}, likely a person {}, unknown {}, by machines alone {}",
        coverage.opened,
        counted(coverage.links, "link"),
        if coverage.opened == 1 { "was" } else { "were" },
        by(OpenedBy::Person),
        by(OpenedBy::LikelyPerson),
        by(OpenedBy::Unknown),
        by(OpenedBy::LikelyMachine) + by(OpenedBy::Machine),
    ));
    lines.push(match machines {
        1 => "1 open of a machine is left out of the downloads".to_owned(),
        _ => format!("{machines} opens of machines are left out of the downloads"),
    });
    if coverage.handed_out > 0 {
        lines.push(format!(
            "the portal handed out {}, and the access logs have {} of them",
            counted(coverage.handed_out, "link"),
            coverage.handed_out_seen
        ));
    }
    if coverage.trail > 0 {
        lines.push(format!(
            "CloudTrail has {} by presigned URLs for these files, and the access logs have {} of them as requests by links",
            counted(coverage.trail, "request"),
            coverage.trail_seen
        ));
    }
    match (coverage.logs_from, coverage.logs_until) {
        (Some(from), Some(until)) => lines.push(format!(
            "the access logs that were read have requests by links from {} to {}, in {}",
            instant(from),
            instant(until),
            counted(coverage.files, "file")
        )),
        _ => lines.push(match coverage.files {
            0 => "no access log was read: run `handout access read` first".to_owned(),
            1 => "1 file of access logs was read, and it has no request by a link".to_owned(),
            files => {
                format!("{files} files of access logs were read, and none has a request by a link")
            }
        }),
    }
    let count = |name: &str| coverage.lines.get(name).copied().unwrap_or_default();
    let left_out = [
        ("unknown", "id", "that this audit log does not have"),
        ("forged", "id", "of another file"),
        ("unsigned", "id", "without a signature"),
        ("malformed", "line", "in another format"),
    ];
    let left_out: Vec<String> = left_out
        .iter()
        .filter(|(name, ..)| count(name) > 0)
        .map(|(name, thing, words)| format!("{} {words}", counted(count(name), thing)))
        .collect();
    if !left_out.is_empty() {
        lines.push(format!("left out: {}", left_out.join(", ")));
    }
    lines
}

/// The recipient of a row.
pub fn whose(row: &OpensRow) -> &str {
    row.to.as_deref().unwrap_or(&row.rid)
}

/// What arrived, with its percentage or the reason.
pub fn arrived(row: &OpensRow) -> String {
    let mut words = row.verdict.word().to_owned();
    if let Some(percent) = row.percent {
        words.push_str(&format!(", at most {percent} %"));
    }
    match (row.verdict, row.refused) {
        (OpenVerdict::Refused, Some(reason)) => words.push_str(&format!(": {}", reason.words())),
        (_, Some(reason)) => words.push_str(&format!(
            "; {} refused: {}",
            counted(row.refusals, "time"),
            reason.words()
        )),
        (_, None) => {}
    }
    words
}

/// An instant to the second.
pub fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

const COLUMNS: [&str; 19] = [
    "job",
    "rid",
    "to",
    "bucket",
    "key",
    "size",
    "verdict",
    "percent",
    "by",
    "evidence",
    "refused",
    "refusals",
    "downloads",
    "machine_opens",
    "requests",
    "bytes",
    "first",
    "last",
    "clients",
];

/// The first row of a table for a spreadsheet.
pub fn csv_heading() -> String {
    heading(&COLUMNS)
}

/// A row of such a table.
pub fn csv_row(row: &OpensRow) -> String {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let text = |text: &str| {
        let mut cell = String::new();
        push_text(text, &mut cell);
        cell
    };
    let at = |at: Option<Timestamp>| text(&at.map(|at| at.to_string()).unwrap_or_default());
    let cells = [
        text(&row.job),
        text(&row.rid),
        text(row.to.as_deref().unwrap_or_default()),
        text(&row.bucket),
        text(&row.key),
        number(row.size),
        text(row.verdict.word()),
        number(row.percent),
        text(row.by.map_or("", OpenedBy::words)),
        text(&row.evidence.join("; ")),
        text(
            row.refused
                .map_or("", super::verdict::RefusedBecause::words),
        ),
        number(Some(row.refusals)),
        number(Some(row.downloads)),
        number(Some(row.machine_opens)),
        number(Some(row.requests)),
        number(Some(row.bytes)),
        at(row.first),
        at(row.last),
        text(
            [row.networks.join(", "), row.clients.join(", ")]
                .join(" ")
                .trim(),
        ),
    ];
    cells.join(",") + "\r\n"
}

/// Text for HTML, without characters that cannot be seen: keys are a sender's, and clients name themselves.
fn shown(text: &str) -> String {
    escape(&printable(text, MAX_SHOWN))
}

fn write_to(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a string does not fail");
}
