//! Lines of access logs: the text of S3, the text and JSON of CloudFront, and the JSON of CloudWatch.
//!
//! All of it is outside data that strangers influence: a client chooses its target, its Referer and its User-Agent, and S3 escapes no
//! quotation mark in them. A line that does not fit its format is counted and never guessed.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/sal-cw-log-format.html>
//! <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html>

mod cloudfront;
mod json;
mod s3;
mod time;

use std::borrow::Cow;

use memchr::memmem::Finder;

pub use self::cloudfront::Columns;
pub(in crate::access) use self::time::{of_iso, of_signature};

/// A request that a store answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest<'a> {
    /// When, in seconds since 1970. S3 logs the arrival of the request, CloudFront the end of the answer.
    pub at: i64,
    /// The ids that the store gave the request. A line that is delivered twice has them twice.
    pub ids: (Cow<'a, str>, Cow<'a, str>),
    /// The address of the client, as the store saw it.
    pub address: Cow<'a, str>,
    /// What was asked.
    pub asked: Asked,
    /// The bucket, where the log names it.
    pub bucket: Option<Cow<'a, str>>,
    /// The key as the log spells it: S3 encodes it twice. CloudFront has a path instead.
    pub key: Cow<'a, str>,
    /// The query of the target, without `?`.
    pub query: Cow<'a, str>,
    /// The HTTP status; 0 where the client left before it.
    pub status: u16,
    /// S3's error code; empty without one.
    pub error: Cow<'a, str>,
    /// How many bytes of the object were sent. Of CloudFront the heads are included.
    pub bytes: u64,
    /// The size of the object, where the log has it.
    pub size: Option<u64>,
    /// The first and the last byte of the range that was sent, where the log has it.
    pub range: Option<(u64, u64)>,
    /// Whether the log says that the client left early.
    pub broke_off: bool,
    /// What the client calls itself.
    pub user_agent: Cow<'a, str>,
    /// How the request was signed.
    pub signed: RequestSigning,
}

/// What a request asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// The bytes of an object.
    Get,
    /// The headers of an object.
    Head,
    /// Something else: a listing, an upload, a preflight.
    #[default]
    Other,
}

/// How a request was signed, as far as the log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequestSigning {
    /// In its query, as links are.
    Query,
    /// Nothing is logged about it.
    #[default]
    Unknown,
    /// In its header, or not at all: no link was used, and its ids prove nothing.
    NoLink,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "most lines are requests by links, and a box for each costs more than the room"
)]
pub enum AccessLine<'a> {
    /// A request that names an id of a link.
    Request(LogRequest<'a>),
    /// A request without an id, a comment, or an empty line.
    Other,
    /// It does not fit the format of the file.
    Malformed,
}

/// The mark of an id in a target. A line without it says nothing of links.
const MARK: &[u8] = b"x-handout";

/// The format of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Not known before its first line.
    #[default]
    Unknown,
    /// The text of S3.
    S3,
    /// The text of CloudFront, with the columns of its `#Fields`.
    CloudFront(Columns),
    /// An object a line, of CloudFront or CloudWatch.
    Json,
}

/// Reads the lines of one file, in their order.
#[derive(Debug, Clone)]
pub struct LogParser {
    format: LogFormat,
    finder: Finder<'static>,
}

impl Default for LogParser {
    fn default() -> Self {
        Self::new()
    }
}

impl LogParser {
    /// A parser for a file that is read from its beginning.
    pub fn new() -> Self {
        Self {
            format: LogFormat::Unknown,
            finder: Finder::new(MARK),
        }
    }

    /// What is known of the format, to go on in the same file.
    pub const fn format(&self) -> &LogFormat {
        &self.format
    }

    /// Reads a line without its end.
    pub fn read<'a>(&mut self, line: &'a [u8]) -> AccessLine<'a> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(first) = line.first() else {
            return AccessLine::Other;
        };
        let is_open = matches!(self.format, LogFormat::Unknown | LogFormat::CloudFront(_));
        if *first == b'#' && is_open {
            if let Some(columns) = Columns::of_heading(line) {
                self.format = LogFormat::CloudFront(columns);
            }
            return AccessLine::Other;
        }
        if *first == b'{' && self.format == LogFormat::Unknown {
            self.format = LogFormat::Json;
        }
        if self.format == LogFormat::Unknown {
            self.format = match memchr::memchr_iter(b'\t', line).count() >= cloudfront::MIN_TABS {
                true => LogFormat::CloudFront(Columns::usual()),
                false => LogFormat::S3,
            };
        }
        if self.finder.find(line).is_none() {
            return AccessLine::Other;
        }
        // What is no UTF-8 is in a field that a client chose; the fields that count are ASCII.
        match std::str::from_utf8(line) {
            Ok(text) => self.read_text(text),
            Err(_) => match self.read_text(&String::from_utf8_lossy(line)) {
                AccessLine::Request(request) => AccessLine::Request(request.into_owned()),
                AccessLine::Other => AccessLine::Other,
                AccessLine::Malformed => AccessLine::Malformed,
            },
        }
    }

    fn read_text<'a>(&self, line: &'a str) -> AccessLine<'a> {
        let found = match &self.format {
            LogFormat::S3 => s3::request(line),
            LogFormat::CloudFront(columns) => columns.request(line),
            LogFormat::Json | LogFormat::Unknown => return json::read(line, &self.finder),
        };
        of_links(found, &self.finder)
    }
}

/// A request whose target has an id, and no other.
fn of_links<'a>(found: Option<LogRequest<'a>>, mark: &Finder<'_>) -> AccessLine<'a> {
    match found {
        None => AccessLine::Malformed,
        Some(request) if request.asked == Asked::Other => AccessLine::Other,
        Some(request) if mark.find(request.query.as_bytes()).is_none() => AccessLine::Other,
        Some(request) => AccessLine::Request(request),
    }
}

impl LogRequest<'_> {
    /// The same without a reference to the line.
    fn into_owned(self) -> LogRequest<'static> {
        fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        LogRequest {
            at: self.at,
            ids: (owned(self.ids.0), owned(self.ids.1)),
            address: owned(self.address),
            asked: self.asked,
            bucket: self.bucket.map(owned),
            key: owned(self.key),
            query: owned(self.query),
            status: self.status,
            error: owned(self.error),
            bytes: self.bytes,
            size: self.size,
            range: self.range,
            broke_off: self.broke_off,
            user_agent: owned(self.user_agent),
            signed: self.signed,
        }
    }
}

#[cfg(test)]
mod tests;
