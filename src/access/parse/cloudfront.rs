//! CloudFront's text: values between tabs, whose order the `#Fields` of the file give.

use std::borrow::Cow;

use super::{Asked, LogRequest, RequestSigning, time};
use crate::text::percent::decode;

/// The fewest tabs of a line without `#Fields` that is taken for CloudFront's.
pub(super) const MIN_TABS: usize = 20;

/// The fields that are read.
const NAMES: [&str; 17] = [
    "date",
    "time",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs-uri-stem",
    "sc-status",
    "cs(User-Agent)",
    "cs-uri-query",
    "x-edge-result-type",
    "x-edge-request-id",
    "x-edge-detailed-result-type",
    "sc-content-len",
    "sc-range-start",
    "sc-range-end",
    "x-edge-response-result-type",
    "timestamp",
];

/// The order of the fields of the standard log, for files without `#Fields`.
const USUAL: &str = "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end";

/// Where the fields are in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns([Option<u16>; NAMES.len()]);

impl Columns {
    /// The columns of a heading `#Fields: …`; `None` for another comment.
    pub(super) fn of_heading(line: &[u8]) -> Option<Self> {
        let fields = line.strip_prefix(b"#Fields:")?;
        Some(Self::of(&String::from_utf8_lossy(fields)))
    }

    pub(super) fn usual() -> Self {
        Self::of(USUAL)
    }

    fn of(fields: &str) -> Self {
        let mut columns = [None; NAMES.len()];
        for (place, field) in (0..).zip(fields.split_ascii_whitespace()) {
            if let Some(index) = NAMES.iter().position(|name| *name == field) {
                columns[index] = Some(place);
            }
        }
        Self(columns)
    }

    pub(super) fn request<'a>(&self, line: &'a str) -> Option<LogRequest<'a>> {
        let mut found = [None; NAMES.len()];
        let mut count = 0_u16;
        for (place, value) in (0_u16..).zip(line.split('\t')) {
            count = count.saturating_add(1);
            if let Some(index) = self.0.iter().position(|column| *column == Some(place)) {
                found[index] = Some(value);
            }
        }
        // A line that ends early lacks fields that its heading has.
        if self.0.iter().flatten().any(|column| *column >= count) {
            return None;
        }
        of_fields(|name| {
            let index = NAMES.iter().position(|known| *known == name)?;
            found[index].map(Cow::Borrowed)
        })
    }
}

/// The request of named fields, of the text or of JSON.
pub(super) fn of_fields<'a>(
    field: impl Fn(&str) -> Option<Cow<'a, str>>,
) -> Option<LogRequest<'a>> {
    let known = |name: &str| field(name).filter(|value| !matches!(&**value, "-" | ""));
    let number = |name: &str| known(name).and_then(|value| value.parse::<u64>().ok());
    let at = match (known("date"), known("time")) {
        (Some(date), Some(time)) => time::of_date_and_time(&date, &time)?,
        _ => {
            let at = known("timestamp")?;
            let at = at
                .split('.')
                .next()
                .unwrap_or_default()
                .parse::<i64>()
                .ok()?;
            // Version 2 may have milliseconds.
            if at > 100_000_000_000 { at / 1000 } else { at }
        }
    };
    let status: u16 = known("sc-status")?.parse().ok()?;
    let range = number("sc-range-start").zip(number("sc-range-end"));
    let result = known("x-edge-detailed-result-type")
        .or_else(|| known("x-edge-response-result-type"))
        .or_else(|| known("x-edge-result-type"))
        .unwrap_or_default();
    let is_whole = status == 200;
    let bytes = number("sc-bytes").unwrap_or_default();
    let length = number("sc-content-len");
    let broke_off = status == 0
        || matches!(
            &*result,
            "ClientCommError" | "ClientHungUpRequest" | "OriginCommError"
        )
        || is_whole && length.is_some_and(|length| bytes < length);
    Some(LogRequest {
        at,
        ids: (known("x-edge-request-id")?, Cow::Borrowed("")),
        address: known("c-ip").unwrap_or_default(),
        asked: match &*known("cs-method")? {
            "GET" => Asked::Get,
            "HEAD" => Asked::Head,
            _ => Asked::Other,
        },
        bucket: None,
        key: known("cs-uri-stem").unwrap_or_default(),
        query: known("cs-uri-query").unwrap_or_default(),
        status,
        error: Cow::Borrowed(""),
        // A complete answer has the length that its header says. The bytes of the log include the heads.
        bytes: match (is_whole && !broke_off, length, range) {
            (true, Some(length), _) => length,
            (_, _, Some((first, last))) if last >= first && !broke_off => last - first + 1,
            // The client lacks at least the last byte; the bytes of the heads do not count.
            (_, _, Some((first, last))) if last >= first => bytes.min(last - first),
            _ => bytes,
        },
        size: length.filter(|_| is_whole),
        range: range.filter(|(first, last)| first <= last && !broke_off),
        broke_off,
        user_agent: match known("cs(User-Agent)") {
            // It is encoded, in practice twice.
            Some(agent) if agent.contains('%') => Cow::Owned(decode(&decode(&agent)).into_owned()),
            agent => agent.unwrap_or_default(),
        },
        signed: RequestSigning::Unknown,
    })
}
