//! Judges whether an answer is the store's own, and what it says about the store.

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};

use super::{KeyOrigin, RequestTerms};
use crate::bounds::{MAX_ANSWER_BYTES, MAX_JUDGED_BYTES, MAX_STORE_WORDS_BYTES};
use crate::edge::answer::{OF_REGION, element, is_unknown_request};
use crate::edge::health::FailureKind;
use crate::edge::{ErrorKind, kind_of_code};
use crate::redact::redacted;

/// Why an answer is not the store's own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::edge) struct Foreign(pub(in crate::edge) String);

/// The properties of a request that decide what the answer means.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedRequest {
    pub(super) is_head: bool,
    /// Whether a range of an object is requested, whose bytes may be anything.
    pub(super) is_range: bool,
    pub(super) is_probe: bool,
    pub(super) names_a_key: bool,
    /// Whether objects or their versions are listed.
    pub(super) is_listing: bool,
    /// Whether it fills a packet, and its size is Handout's own.
    pub(super) is_large: bool,
    /// Whether it reads or writes a record of the ledger, whose key is Handout's own.
    pub(super) of_ledger: Option<LedgerAccess>,
}

/// How a request uses the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerAccess {
    Read,
    Write,
    /// A write under a condition, which 412 answers if it does not hold.
    ConditionalWrite,
}

impl AskedRequest {
    pub(super) fn by(request: &HttpRequest, keys: KeyOrigin) -> Self {
        let terms = RequestTerms::of(request);
        Self {
            is_head: request.method() == "HEAD",
            is_range: request.headers().contains_key("range"),
            is_probe: terms.is_probe,
            names_a_key: terms.names_a_key,
            is_listing: request.method() == "GET" && is_listing(request.uri()),
            is_large: keys == KeyOrigin::OfLedger && terms.is_large(request),
            of_ledger: (keys == KeyOrigin::OfLedger).then_some(match request.method() {
                "PUT" if is_conditional(request) => LedgerAccess::ConditionalWrite,
                "PUT" => LedgerAccess::Write,
                _ => LedgerAccess::Read,
            }),
        }
    }
}

fn is_conditional(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key("if-none-match") || headers.contains_key("if-match")
}

/// Whether a URL asks for a listing: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>
pub(super) fn is_listing(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or(pair));
    names.any(|name| matches!(name, "list-type" | "versions"))
}

/// How much of a body shows whether it is an HTML page, in bytes.
const PAGE_BYTES: usize = 64;

/// How much of a body shows whether it is a listing or a store's error, and whether a listing was cut short, in bytes.
const LISTING_BYTES: usize = 1024;
const END_BYTES: usize = 256;

/// Decides whether an answer is the store's own or that of a load balancer or proxy in front of it.
///
/// Except for HEAD, each error of S3 has an XML body with a code, and no request here expects an HTML page:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
pub(super) struct Judge {
    status: u16,
    must: Must,
    seen: Vec<u8>,
    /// The last bytes of a listing, without the whitespace at the end of each chunk.
    last: Vec<u8>,
    /// Whether the whole body was received.
    is_complete: bool,
}

/// What a body must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Nothing,
    BeNoPage,
    BeListing,
    HaveCode,
}

impl Judge {
    /// Accepts every body.
    pub(super) fn trusting(status: u16) -> Self {
        Self {
            status,
            must: Must::Nothing,
            seen: Vec::new(),
            last: Vec::new(),
            is_complete: false,
        }
    }

    /// Judges an answer without a body, and decides for other answers what the body must contain.
    pub(super) fn of(answer: &HttpResponse, asked: AskedRequest) -> Result<Self, Foreign> {
        let status = answer.status().as_u16();
        let headers = answer.headers();
        // A redirect of S3 may be its headers alone.
        let is_redirect = status < 400 && headers.contains_key("x-amz-bucket-region");
        let is_error = (300..500).contains(&status) && !is_redirect;
        let judge = Self {
            must: match is_error {
                _ if asked.is_head => Must::Nothing,
                true => Must::HaveCode,
                false if status < 300 && asked.is_listing => Must::BeListing,
                false if status < 300 && !asked.is_range => Must::BeNoPage,
                false => Must::Nothing,
            },
            ..Self::trusting(status)
        };
        let is_page = || {
            let media_type = headers.get("content-type").unwrap_or_default();
            media_type.starts_with("text/html")
                && !headers.iter().any(|(name, _)| name.starts_with("x-amz"))
        };
        match asked.is_head && is_error && is_page() {
            true => Err(judge.foreign()),
            false => Ok(judge),
        }
    }

    pub(super) fn see(&mut self, bytes: &[u8]) {
        let most = match self.must {
            Must::BeNoPage => PAGE_BYTES,
            Must::BeListing => LISTING_BYTES,
            Must::Nothing if self.status < 300 => 0,
            Must::Nothing | Must::HaveCode => MAX_JUDGED_BYTES,
        };
        let room = most.saturating_sub(self.seen.len());
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.must == Must::BeListing {
            let bytes = bytes.trim_ascii_end();
            self.last
                .extend_from_slice(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
            let too_many = self.last.len().saturating_sub(END_BYTES);
            self.last.drain(..too_many);
        }
    }

    /// Records that the whole body was received.
    pub(super) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Why more of a body of this many bytes is not read: no listing of S3 is so long. It has at most a thousand keys of
    /// 1,024 bytes each. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
    pub(super) fn too_long(&self, bytes: u64) -> Option<NoListing> {
        let is_too_long = self.must == Must::BeListing && bytes > MAX_ANSWER_BYTES as u64;
        is_too_long.then(|| {
            NoListing(format!(
                "the listing is longer than {MAX_ANSWER_BYTES} bytes"
            ))
        })
    }

    /// The text of an element of an error.
    fn element(&self, name: &str) -> Option<&str> {
        element(std::str::from_utf8(&self.seen).ok()?, name)
    }

    /// The code of an error. The beginning of an object does not count: a page of the ledger holds keys, which senders choose.
    fn code(&self) -> Option<&str> {
        let is_error = self.status >= 300 || root(&self.seen) == b"Error";
        self.element("Code").filter(|_| is_error)
    }

    /// Why the body is not the store's, once it can be decided.
    pub(super) fn refuses(&self, is_end: bool) -> Option<Foreign> {
        let is_foreign = match self.must {
            Must::Nothing => false,
            Must::BeNoPage | Must::BeListing => {
                let text = self.seen.trim_ascii_start();
                let begins = |with: &[u8]| {
                    let begin = text.get(..with.len());
                    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(with))
                };
                begins(b"<!doctype html") || begins(b"<html")
            }
            Must::HaveCode => is_end && self.code().is_none() && !self.is_bare_412(),
        };
        is_foreign.then(|| self.foreign())
    }

    /// Why the answer to a listing request is not a listing: it is the store's error, not an answer of S3, or was cut short.
    pub(super) fn lacks_listing(&self) -> Option<NoListing> {
        if self.must != Must::BeListing {
            return None;
        }
        if !is_listing_element(root(&self.seen)) {
            return Some(NoListing(self.words_of_failure()));
        }
        let is_cut = self.is_complete && !ends_listing(&self.last);
        is_cut.then(|| NoListing("the end of the listing is missing".to_owned()))
    }

    /// Whether the store says that its disk is full, which no probe finds: <https://www.rfc-editor.org/rfc/rfc4918#section-11.5>
    pub(super) const fn is_of_the_disk(&self) -> bool {
        self.status == 507
    }

    /// The message of a complete answer that is a failure of the edge.
    pub(super) fn words_of_outage(&self) -> String {
        match self.lacks_listing() {
            Some(NoListing(words)) => words,
            None => self.words_of_failure(),
        }
    }

    /// Garage 2.5 sends only this for a condition that does not hold, and the RFC does not require a body.
    /// <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.13>
    fn is_bare_412(&self) -> bool {
        self.status == 412 && self.seen.is_empty()
    }

    fn foreign(&self) -> Foreign {
        let status = self.status;
        let what = match self.must {
            Must::BeNoPage | Must::BeListing => "is a page of HTML",
            Must::HaveCode | Must::Nothing => "has no error code of S3",
        };
        Foreign(format!(
            "the answer with the status {status} {what}: something in front of the store has answered in its place"
        ))
    }

    /// The answer's message, for a report.
    pub(super) fn words(&self) -> String {
        let code = self.code().map(ToOwned::to_owned);
        code.unwrap_or_else(|| format!("status {}", self.status))
    }

    /// The message of a failing service: a full disk is recognized only by this text.
    pub(super) fn words_of_failure(&self) -> String {
        let parts = [self.code(), self.element("Message")].into_iter().flatten();
        let said = parts.collect::<Vec<_>>().join(": ");
        match said.is_empty() {
            true if self.must == Must::BeListing => {
                format!("status {}, and no listing in the answer", self.status)
            }
            true => format!("status {}", self.status),
            false => format!(
                "status {}: {}",
                self.status,
                redacted(&said, MAX_STORE_WORDS_BYTES)
            ),
        }
    }
}

/// Why the answer to a listing request is not a listing.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not a listing of S3: {0}")]
pub(super) struct NoListing(String);

/// Whether the name of an element is that of a listing.
fn is_listing_element(name: &[u8]) -> bool {
    matches!(name, b"ListBucketResult" | b"ListVersionsResult")
}

/// Whether a text ends with the end of a listing: `</ListBucketResult>`, or `<ListBucketResult/>`.
fn ends_listing(text: &[u8]) -> bool {
    let tag = text.rsplit(|byte| *byte == b'<').next().unwrap_or_default();
    let Some(tag) = tag.strip_suffix(b">") else {
        return false;
    };
    let name = tag.strip_prefix(b"/").or_else(|| tag.strip_suffix(b"/"));
    name.is_some_and(|name| is_listing_element(local_name(name)))
}

/// The name of an element without its prefix and without what follows it in the tag.
fn local_name(tag: &[u8]) -> &[u8] {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
    let name = tag.split(ends).next().unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next().unwrap_or_default()
}

/// The name of the first element of a text, without its prefix; empty if there is none.
fn root(text: &[u8]) -> &[u8] {
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    loop {
        rest = rest.trim_ascii_start();
        let end: &[u8] = match rest {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            _ => break,
        };
        let Some(at) = rest.windows(end.len()).position(|window| window == end) else {
            return b"";
        };
        rest = &rest[at + end.len()..];
    }
    rest.strip_prefix(b"<").map_or(b"", local_name)
}

/// Whether the answer to a write says that its condition does not hold, or that another request for the same key is under way. It
/// does not show that a write would succeed.
pub(super) fn leaves_writes_open(judge: &Judge, asked: AskedRequest) -> bool {
    match (judge.status, asked.of_ledger) {
        (412, Some(LedgerAccess::ConditionalWrite)) => true,
        (409, Some(LedgerAccess::ConditionalWrite | LedgerAccess::Write)) => {
            OF_OBJECT.contains(&judge.code().unwrap_or_default())
        }
        _ => false,
    }
}

/// What a complete answer says about its edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Well,
    /// The service fails, or asks to slow down.
    Unwell(FailureKind),
    /// The service denies this request, and perhaps all.
    Denied,
}

impl Says {
    /// Judges the head of an answer.
    pub(super) fn of(answer: &HttpResponse) -> Self {
        let names_region = answer.headers().contains_key("x-amz-bucket-region");
        match answer.status().as_u16() {
            429 | 503 => Self::Unwell(FailureKind::Throttled),
            401 | 403 => Self::Denied,
            // A timeout or a temporary redirect; a redirect that names a region is about a bucket.
            408 => Self::Unwell(FailureKind::ServerError),
            302 | 307 if !names_region => Self::Unwell(FailureKind::ServerError),
            status @ 500.. if !is_unknown_request(status) => Self::Unwell(FailureKind::ServerError),
            _ => Self::Well,
        }
    }

    /// Judges the whole answer: a failing service may say so only by a code.
    pub(super) fn with_code(self, judge: &Judge, asked: AskedRequest) -> Self {
        let code = judge.code().unwrap_or_default();
        // About one object only, unless it answers a listing.
        let is_of_object =
            !asked.is_listing && (OF_OBJECT.contains(&code) || code.starts_with("KMS."));
        match kind_of_code(code) {
            Some(ErrorKind::Throttled) => Self::Unwell(FailureKind::Throttled),
            Some(ErrorKind::Failed) if !is_of_object => Self::Unwell(FailureKind::ServerError),
            _ if self.rejects_ledger(judge, asked) => Self::Unwell(FailureKind::Refused),
            Some(ErrorKind::Denied) if !is_of_object => Self::Denied,
            // The bucket of each request is in another region: the setting is wrong, and not a job.
            _ if OF_REGION.contains(&code) => Self::Denied,
            _ if judge.lacks_listing().is_some() => Self::Unwell(FailureKind::ServerError),
            _ => self,
        }
    }
}

impl Says {
    /// Whether the answer rejects a request of the ledger, whose keys and bodies are Handout's own: each further request of the same
    /// kind would be rejected too. A denial of reads is counted apart: see [`Edge::denied`](crate::edge::health::Edge::denied).
    fn rejects_ledger(self, judge: &Judge, asked: AskedRequest) -> bool {
        let code = judge.code().unwrap_or_default();
        match (asked.of_ledger, judge.status) {
            (None, _) | (Some(_), ..300) => false,
            (Some(_), _) if matches!(self, Self::Unwell(_)) => false,
            // A condition that does not hold, and a concurrent write of the same record.
            (Some(LedgerAccess::Write | LedgerAccess::ConditionalWrite), 409) => {
                !OF_OBJECT.contains(&code)
            }
            (Some(LedgerAccess::ConditionalWrite), 412) => false,
            (Some(LedgerAccess::Write | LedgerAccess::ConditionalWrite), _) => true,
            // No record has this key.
            (Some(LedgerAccess::Read), 404) => !matches!(code, "NoSuchKey" | "NotFound"),
            (Some(LedgerAccess::Read), _) => {
                self != Self::Denied && kind_of_code(code) != Some(ErrorKind::Denied)
            }
        }
    }
}

/// Codes about one object that cannot be read or written now, and not about the store.
const OF_OBJECT: [&str; 3] = [
    "OperationAborted",
    "ConditionalRequestConflict",
    "NoSuchUpload",
];
