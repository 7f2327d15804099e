//! The text of S3: fields between spaces, of which three are between quotation marks that are not escaped.
//!
//! A line is read from the left to the end of the request's target, which has no space, and from the right from the last quotation
//! mark. What is between is the Referer and the User-Agent, however many quotation marks they have. Fields may be missing at the end
//! and may be added there.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};

use super::{Asked, LogRequest, RequestSigning, time};

/// The request of a line; `None` for a line that does not fit the format.
pub(super) fn request(line: &str) -> Option<LogRequest<'_>> {
    let mut left = LineFields(line);
    left.next()?; // The owner.
    let bucket = left.next()?;
    let at = time::of_s3(left.bracketed()?)?;
    let address = left.next()?;
    let requester = left.next()?;
    let request_id = left.next()?;
    let operation = left.next()?;
    let key = left.next()?;
    let target = left.target()?;
    // Any field may be unknown. The client may have left before an answer began; 0 stands for that.
    let status = match left.next()? {
        "-" => 0,
        status => status.parse().ok()?,
    };
    let error = known(left.next()?).unwrap_or_default();
    let bytes = number(left.next()?)?;
    let size = number(left.next()?)?;
    left.next()?; // The whole time.
    left.next()?; // The time to the first byte.
    let (user_agent, tail) = user_agent(left.0)?;
    let mut right = LineFields(tail);
    right.next(); // The version.
    let host_id = right.next().unwrap_or_default();
    let (_, _) = (right.next(), right.next()); // The version of the signature, and the cipher.
    let signed = match right.next() {
        Some("QueryString") => RequestSigning::Query,
        Some("AuthHeader") => RequestSigning::NoLink,
        // A request without a signature has no requester.
        _ if requester == "-" && (200..300).contains(&status) => RequestSigning::NoLink,
        _ => RequestSigning::Unknown,
    };
    Some(LogRequest {
        at,
        ids: (request_id.into(), host_id.into()),
        address: address.into(),
        asked: asked(operation),
        bucket: known(bucket).map(Cow::from),
        key: key.into(),
        query: query_of(target).into(),
        status,
        error: error.into(),
        bytes: bytes.unwrap_or_default(),
        size,
        range: None,
        broke_off: false,
        user_agent: known(user_agent).unwrap_or_default().into(),
        signed,
    })
}

/// What an operation of the log asks for.
pub(super) fn asked(operation: &str) -> Asked {
    match operation {
        "REST.GET.OBJECT" | "WEBSITE.GET.OBJECT" => Asked::Get,
        "REST.HEAD.OBJECT" | "WEBSITE.HEAD.OBJECT" => Asked::Head,
        _ => Asked::Other,
    }
}

/// The query of a request line such as `GET /a?b=c HTTP/1.1`, or of a target alone.
pub(super) fn query_of(line: &str) -> &str {
    let target = memchr(b' ', line.as_bytes()).map_or(line, |space| &line[space + 1..]);
    let target = without_version(target);
    memchr(b'?', target.as_bytes()).map_or("", |mark| &target[mark + 1..])
}

/// What stands before the last ` HTTP/`.
fn without_version(target: &str) -> &str {
    let mut spaces = memrchr_iter(b' ', target.as_bytes());
    let end = spaces.find(|space| target[space + 1..].starts_with("HTTP/"));
    end.map_or(target, |end| &target[..end])
}

/// A field's value; `-` says that it is unknown, with quotation marks too.
pub(super) fn known(field: &str) -> Option<&str> {
    (!matches!(field, "-" | "\"-\"" | "")).then_some(field)
}

/// A number, or `-`; the outer `None` for anything else.
#[expect(
    clippy::option_option,
    reason = "a field may be unknown, and it may be no number"
)]
fn number(field: &str) -> Option<Option<u64>> {
    match known(field) {
        None => Some(None),
        Some(field) => field.parse().ok().map(Some),
    }
}

/// The User-Agent, and what follows it. `rest` begins with the Referer.
fn user_agent(rest: &str) -> Option<(&str, &str)> {
    let Some(end) = memrchr(b'"', rest.as_bytes()) else {
        // Both are unknown.
        let mut fields = LineFields(rest);
        let unknown = (fields.next()?, fields.next()?);
        return (unknown == ("-", "-")).then_some(("-", fields.0));
    };
    let tail = rest[end + 1..]
        .strip_prefix(' ')
        .unwrap_or(&rest[end + 1..]);
    let both = &rest[..end];
    // The Referer ends at the first place where it may; a longer one takes from the User-Agent, which proves nothing either.
    if let Some(quoted) = both.strip_prefix('"') {
        let mut ends = memchr_iter(b'"', quoted.as_bytes());
        return match ends.find(|at| quoted[*at..].starts_with("\" \"")) {
            Some(at) => Some((&quoted[at + 3..], tail)),
            // The User-Agent is `-` without quotation marks.
            None => Some(("-", tail.strip_prefix("- ").unwrap_or(tail))),
        };
    }
    let (_, quoted) = both.split_once(" \"")?;
    Some((quoted, tail))
}

/// Fields between spaces.
struct LineFields<'a>(&'a str);

impl<'a> LineFields<'a> {
    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        // Half of the fields are short, and a search of many bytes at once takes longer to begin.
        let bytes = self.0.as_bytes();
        let near = bytes.iter().take(8).position(|byte| *byte == b' ');
        match near.or_else(|| memchr(b' ', bytes)) {
            Some(end) => {
                let field = &self.0[..end];
                self.0 = &self.0[end + 1..];
                Some(field)
            }
            None => Some(std::mem::take(&mut self.0)),
        }
    }

    /// What is between brackets.
    fn bracketed(&mut self) -> Option<&'a str> {
        let inner = self.0.strip_prefix('[')?;
        let end = memchr(b']', inner.as_bytes())?;
        self.0 = inner[end + 1..].strip_prefix(' ')?;
        Some(&inner[..end])
    }

    /// The request line: to the first ` HTTP/1.1" 200 `. A target has no space, so the client cannot write that into it.
    fn target(&mut self) -> Option<&'a str> {
        let Some(inner) = self.0.strip_prefix('"') else {
            return (self.next()? == "-").then_some("-");
        };
        let bytes = inner.as_bytes();
        let mut from = 0;
        while let Some(quote) = memchr(b'"', &bytes[from..]) {
            let end = from + quote;
            let is_end = is_status(&bytes[end + 1..]) && ends_in_version(&inner[..end]);
            if is_end || &inner[..end] == "-" {
                self.0 = inner[end + 1..].strip_prefix(' ')?;
                return Some(&inner[..end]);
            }
            from = end + 1;
        }
        None
    }
}

/// Whether bytes begin with a status, or `-`, between spaces.
fn is_status(bytes: &[u8]) -> bool {
    match bytes {
        [b' ', b'-', b' ', ..] => true,
        [b' ', a, b, c, b' ', ..] => [a, b, c].iter().all(|digit| digit.is_ascii_digit()),
        _ => false,
    }
}

/// Whether a request line ends in ` HTTP/1.1` or another version.
fn ends_in_version(line: &str) -> bool {
    let Some(space) = memrchr(b' ', line.as_bytes()) else {
        return false;
    };
    line[space + 1..]
        .strip_prefix("HTTP/")
        .is_some_and(|number| {
            !number.is_empty()
                && number
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.')
        })
}
