//! Explains a signed URL: what it opens, which key signed it, when it ends, and why it may fail.
//!
//! No request is sent: a URL is read as its server would read it. The signature cannot be verified without the secret. Signatures
//! and session tokens are never shown.

mod cloudfront;
mod location;
mod providers;
mod query;
mod s3;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::percent::decode_lossy;
use crate::request::CustomParameter;
use crate::wrapping::{self, Unwrapping};

pub use location::{BucketAndKey, KnownServer, UrlLocation, UrlStyle};

use query::{Parameters, Parts, shown, shown_name, without_secrets};

/// The maximum line length of RFC 5322.
const MAX_LINE: usize = 998;
/// The limit of old proxies and browsers, in bytes.
const MAX_FOR_OLD_CLIENTS: usize = 2_048;
/// The limit of most servers and of CloudFront, in bytes.
const MAX_FOR_SERVERS: usize = 8_192;

/// How many findings are kept: each parameter of a URL can cause one.
const MAX_FINDINGS: usize = 50;

/// Damage that mail programs, pages and clipboards do.
const LINE_BREAK: &str = "a line break is in it: a mail program or a terminal cut it in two";
const HTML: &str = "it has \"&amp;\" where \"&\" belongs: it was copied out of a page's source";
const QUOTED_PRINTABLE: &str =
    "it has \"=3D\" where \"=\" belongs: it was copied out of a mail's source";

/// The signature scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureScheme {
    /// `X-Amz-…` parameters.
    SigV4,
    /// `AWSAccessKeyId`, `Expires` and `Signature`.
    SigV2,
    /// CloudFront's `Expires`, with a canned policy that CloudFront rebuilds from the URL.
    CloudFrontCanned,
    /// CloudFront's `Policy`, a custom policy in the URL.
    CloudFrontCustom,
    /// No known signature.
    Unsigned,
}

/// The type of the key that signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// The access key of an IAM user: valid until it is deactivated or deleted.
    LongTerm,
    /// The access key of temporary credentials: valid until the session ends.
    Temporary,
    /// A public key in a CloudFront key group.
    CloudFrontKey,
    /// A key of the account's root user, from before there were key groups.
    CloudFrontAccountKey,
    /// Not an access key of AWS, or of an unknown type.
    Other,
}

/// The key that signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedBy {
    /// The key's id. It is not secret.
    pub key_id: String,
    /// The type.
    pub credential: CredentialKind,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The URL does not work, or no longer works.
    Wrong,
    /// The URL may fail, or may permit more than intended.
    Risk,
    /// Information without effect on the URL.
    Note,
}

/// A finding about a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UrlFinding {
    /// Its severity.
    pub severity: Severity,
    /// A sentence for people.
    pub text: String,
}

/// The content of a signed URL, and what was found about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The type.
    pub scheme: SignatureScheme,
    /// What the URL opens, if it can be parsed.
    pub opens: Option<UrlLocation>,
    /// The key that signed the URL.
    pub signed_by: Option<SignedBy>,
    /// When the URL was signed, or from when it works.
    pub starts_at: Option<Timestamp>,
    /// The end that the URL states.
    pub ends_at: Option<Timestamp>,
    /// The latest possible end, if it is earlier than the stated one: no session lasts longer than 36 hours.
    pub ends_at_latest: Option<Timestamp>,
    /// Whether the URL has expired.
    pub is_over: bool,
    /// The region in the signature.
    pub region: Option<String>,
    /// The only network from which it works.
    pub network: Option<String>,
    /// The resource of a custom policy.
    pub resource: Option<String>,
    /// The `Content-Disposition` that the URL requests.
    pub disposition: Option<String>,
    /// The `Content-Encoding` that the URL requests.
    pub content_encoding: Option<String>,
    /// The `Content-Type` that the URL requests.
    pub content_type: Option<String>,
    /// The version that the URL is pinned to.
    pub version_id: Option<String>,
    /// The value of the caller's own parameter.
    pub link_id: Option<String>,
    /// The URL's length in bytes.
    pub length: usize,
    /// The length of the session token within it.
    pub token_length: usize,
    /// The findings, the most severe first.
    pub findings: Vec<UrlFinding>,
}

/// Explains URLs, with additional knowledge of servers and parameters.
///
/// ```
/// use presign::explain::{Explainer, SignatureScheme};
///
/// let url = "https://acme.s3.eu-central-1.amazonaws.com/a.pdf?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1&Signature=x";
/// let explanation = Explainer::default().explain(url, "2026-11-23T12:00:00Z".parse()?);
/// assert_eq!(explanation.scheme, SignatureScheme::SigV2);
/// assert!(explanation.is_over && explanation.is_wrong());
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Explainer<'a> {
    /// Servers outside AWS, about which more is known than a URL states.
    pub servers: &'a [KnownServer],
    /// The parameter whose value is the caller's own id of a URL.
    pub custom: Option<CustomParameter>,
}

impl Explainer<'_> {
    /// Explains a URL at an instant. Any text is accepted.
    pub fn explain(&self, url: &str, now: Timestamp) -> Explanation {
        explain(self, url, now)
    }
}

fn explain(known: &Explainer<'_>, url: &str, now: Timestamp) -> Explanation {
    let servers = known.servers;
    let text = wrapping::bounded(url);
    let found = wrapping::signed_url(text);
    let url = found.as_ref().map_or(text, |(url, _)| url.as_str());
    let mut explanation = Explanation::of_nothing(url.len());
    if let Some((_, steps)) = &found {
        explanation.look_at_steps(steps);
    }
    explanation.look_for_damage(url);
    let Some(parts) = Parts::of(url) else {
        explanation.wrong("this is not a URL: it must begin with https:// or http:// and a host");
        return explanation.finished();
    };
    let parameters = Parameters::of(parts.query);
    let parameter = |name: &str| parameters.get(name).map(ToOwned::to_owned);
    explanation.disposition = parameter("response-content-disposition");
    explanation.content_encoding = parameter("response-content-encoding");
    explanation.content_type = parameter("response-content-type");
    explanation.version_id = parameter("versionId");
    explanation.link_id = known.custom.and_then(|custom| parameter(custom.name()));
    if parameters.0.iter().any(|p| p.name.starts_with("X-Amz-")) {
        explanation.opens = Some(location::at_s3(&parts, servers));
        s3::explain_v4(&mut explanation, &parameters, now);
    } else if parameters.has("AWSAccessKeyId") {
        explanation.opens = Some(location::at_s3(&parts, servers));
        s3::explain_v2(&mut explanation, &parameters);
    } else if cloudfront::is_meant(&parameters) {
        cloudfront::explain(&mut explanation, &parts, &parameters);
    } else if parameters.has("X-Goog-Signature") {
        explanation.opens = Some(location::at_s3(&parts, servers));
        explanation.wrong("it is signed for Google Cloud Storage, in its own way, which S3 and this program do not read");
    } else {
        explanation.opens = Some(location::at_s3(&parts, servers));
        explanation.wrong(match wrapping::service_of(text) {
            Some(service) => format!("{service} has replaced the link and does not show the original: open it, and explain the address to which it leads"),
            None => "it has no known signature: no X-Amz-Signature, no AWSAccessKeyId, no Key-Pair-Id".to_owned(),
        });
    }
    explanation.look_at_place(&parts);
    explanation.look_at_parameters(&parameters);
    explanation.look_at_length();
    explanation.look_at_clock(now);
    explanation.finished()
}

impl Explanation {
    const fn of_nothing(length: usize) -> Self {
        Self {
            scheme: SignatureScheme::Unsigned,
            opens: None,
            signed_by: None,
            starts_at: None,
            ends_at: None,
            ends_at_latest: None,
            is_over: false,
            region: None,
            network: None,
            resource: None,
            disposition: None,
            content_encoding: None,
            content_type: None,
            version_id: None,
            link_id: None,
            length,
            token_length: 0,
            findings: Vec::new(),
        }
    }

    /// Whether a finding says that the URL does not work.
    pub fn is_wrong(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Wrong)
    }

    /// The limits of its lifetime that the URL does not state, until it has expired.
    fn real_end(&self) -> Option<String> {
        let credential = self.signed_by.as_ref()?.credential;
        let end = self.ends_at.filter(|_| !self.is_over)?;
        let latest = match credential {
            CredentialKind::Temporary => {
                format!(", at the latest {:.0}", self.ends_at_latest.unwrap_or(end))
            }
            _ => String::new(),
        };
        Some(format!("{}{latest}", credential.real_end()))
    }

    fn wrong(&mut self, text: impl Into<String>) {
        self.find(Severity::Wrong, text.into());
    }

    fn risk(&mut self, text: impl Into<String>) {
        self.find(Severity::Risk, text.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.find(Severity::Note, text.into());
    }

    fn find(&mut self, severity: Severity, text: String) {
        self.findings.push(UrlFinding { severity, text });
    }

    /// Sorts findings by severity and removes secrets from all texts: a damaged URL may contain them in unexpected places.
    fn finished(mut self) -> Self {
        self.findings.sort_by_key(|finding| finding.severity);
        if let Some(others @ 1..) = self.findings.len().checked_sub(MAX_FINDINGS) {
            self.findings.truncate(MAX_FINDINGS);
            self.note(format!("{others} more findings are left out"));
        }
        let location = self.opens.iter_mut().flat_map(|location| {
            let (other_bucket, other_key) = match &mut location.otherwise {
                Some(BucketAndKey { bucket, key }) => (bucket.as_mut(), Some(key)),
                None => (None, None),
            };
            [
                Some(&mut location.host),
                location.bucket.as_mut(),
                Some(&mut location.key),
                location.region.as_mut(),
                other_bucket,
                other_key,
            ]
        });
        let own = [
            self.signed_by.as_mut().map(|by| &mut by.key_id),
            self.region.as_mut(),
            self.network.as_mut(),
            self.resource.as_mut(),
            self.disposition.as_mut(),
            self.content_encoding.as_mut(),
            self.content_type.as_mut(),
            self.version_id.as_mut(),
            self.link_id.as_mut(),
        ];
        for text in location.chain(own).flatten() {
            *text = without_secrets(text);
        }
        for finding in &mut self.findings {
            finding.text = without_secrets(&finding.text);
        }
        self
    }

    /// Says what was done to a text to find the URL in it. What a service has wrapped arrives undamaged.
    fn look_at_steps(&mut self, steps: &[Unwrapping]) {
        let is_wrapped = steps
            .iter()
            .any(|step| matches!(step, Unwrapping::Service(_)));
        for step in steps {
            match step {
                Unwrapping::Service(name) => self.note(format!(
                    "{} has replaced it by a link of its own; this is about the original",
                    shown_name(name)
                )),
                Unwrapping::Around => self.note("the text around it was left out"),
                Unwrapping::LineBreak if is_wrapped => {}
                Unwrapping::LineBreak => self.wrong(LINE_BREAK),
                Unwrapping::Html if is_wrapped => {}
                Unwrapping::Html => self.wrong(HTML),
                Unwrapping::QuotedPrintable if is_wrapped => {}
                Unwrapping::QuotedPrintable => self.wrong(QUOTED_PRINTABLE),
            }
        }
    }

    /// Checks for damage that mails, pages and clipboards do to URLs.
    fn look_for_damage(&mut self, url: &str) {
        if url.contains(['\r', '\n']) {
            self.wrong(LINE_BREAK);
        }
        if url.contains("&amp;") {
            self.wrong(HTML);
        }
        if url.contains("X-Amz-Algorithm=3D") || url.contains("Expires=3D") {
            self.wrong(QUOTED_PRINTABLE);
        }
        let must_be_escaped = |c: char| {
            !c.is_ascii()
                || (c != '\r' && c != '\n' && c.is_ascii_control())
                || " \"<>\\^`{|}".contains(c)
        };
        if url.contains(must_be_escaped) {
            self.risk("it has characters that must be percent-encoded; clients disagree about what to send");
        }
    }

    fn look_at_place(&mut self, parts: &Parts<'_>) {
        if self
            .opens
            .as_ref()
            .is_some_and(|location| location.otherwise.is_some())
        {
            self.note("its server is unknown, so its bucket is in the host or in the path: a connection with this endpoint_url says which");
        }
        if parts.has_user {
            self.wrong(
                "it has a user name before its host: clients send that as another kind of authorization",
            );
        }
        if parts.has_fragment {
            self.risk("the part after # never reaches the server: a # in a key is written %23");
        }
        match parts.scheme.to_ascii_lowercase().as_str() {
            "https" => {}
            "http" if parts.is_loopback() => {}
            "http" => self.risk("it is http: a listener on the network path can open it too"),
            _ => self.wrong("its scheme is neither https nor http"),
        }
        let Some(location) = self.opens.clone() else {
            return;
        };
        if location
            .key
            .split('/')
            .any(|part| matches!(part, "." | ".."))
        {
            self.risk("its key has \".\" or \"..\" as a folder: browsers take that out and ask for another object");
        }
        if location.key.is_empty() && self.scheme != SignatureScheme::Unsigned {
            self.note("it opens no object: its path has no key");
        }
        let has_parameters = |text: &str| {
            ["?", "&"]
                .iter()
                .any(|mark| text.contains(&format!("{mark}X-Amz-")))
        };
        if has_parameters(&location.key) || has_parameters(&decode_lossy(&location.key)) {
            self.wrong(
                "its parameters are in its path: the ? before them was escaped or lost on the way",
            );
        }
        if parts.path.contains('+') {
            self.risk(
                "a bare + is in its path, which some servers take for a space: write %2B or %20",
            );
        }
        let is_dotted = location
            .bucket
            .as_ref()
            .is_some_and(|bucket| bucket.contains('.'));
        if location.style == UrlStyle::VirtualHost && is_dotted && parts.scheme == "https" {
            self.risk("its bucket has a dot: no certificate of S3 is valid for that host, so use path style");
        }
    }

    fn look_at_parameters(&mut self, parameters: &Parameters<'_>) {
        for name in parameters.duplicates() {
            self.risk(format!(
                "the parameter {} is there twice: servers differ in which they take",
                shown_name(name)
            ));
        }
        let has_plus = parameters.0.iter().any(|p| p.raw_value.contains('+'));
        if has_plus && self.scheme != SignatureScheme::Unsigned {
            self.risk(
                "a bare + is in its query, which some servers take for a space: write %2B or %20",
            );
        }
        // S3 answers 400 InvalidArgument to it.
        let is_latin1 = |text: &String| text.chars().all(|c| u32::from(c) < 0x100);
        if self
            .disposition
            .as_ref()
            .is_some_and(|text| !is_latin1(text))
        {
            self.wrong("its response-content-disposition is not ISO-8859-1: S3 refuses it, use filename*=UTF-8''…");
        }
    }

    fn look_at_length(&mut self) {
        let length = self.length;
        if length > MAX_FOR_SERVERS {
            let text = format!(
                "it has {length} bytes: servers take {MAX_FOR_SERVERS}, and CloudFront no more"
            );
            match self.scheme {
                SignatureScheme::CloudFrontCanned | SignatureScheme::CloudFrontCustom => {
                    self.wrong(text);
                }
                SignatureScheme::SigV4 | SignatureScheme::SigV2 | SignatureScheme::Unsigned => {
                    self.risk(text);
                }
            }
        } else if length > MAX_FOR_OLD_CLIENTS {
            self.risk(format!(
                "it has {length} bytes: some clients and proxies take only {MAX_FOR_OLD_CLIENTS}"
            ));
        } else if length > MAX_LINE {
            self.note(format!(
                "it has {length} bytes: a mail's line takes {MAX_LINE}, so the mail must be encoded"
            ));
        }
    }

    fn look_at_clock(&mut self, now: Timestamp) {
        if let Some(start) = self.starts_at.filter(|start| *start > now) {
            self.wrong(format!("it begins in the future, {}", when(start, now)));
        }
        let end = [self.ends_at, self.ends_at_latest]
            .into_iter()
            .flatten()
            .min();
        self.is_over = end.is_some_and(|end| end <= now);
        if let Some(end) = end.filter(|end| *end <= now) {
            self.wrong(format!("it is over: it ended {}", when(end, now)));
        }
    }
}

/// An instant with its distance from now.
fn when(instant: Timestamp, now: Timestamp) -> String {
    let far = now.duration_since(instant);
    if far.is_negative() {
        format!("{instant:.0}, in {}", about(far.abs()))
    } else {
        format!("{instant:.0}, {} ago", about(far))
    }
}

/// A duration in its largest sensible unit.
fn about(far: SignedDuration) -> String {
    let (seconds, minutes, hours) = (far.as_secs(), far.as_mins(), far.as_hours());
    match hours {
        48.. => format!("{} days", hours / 24),
        2.. => format!("{hours} hours"),
        _ if minutes >= 2 => format!("{minutes} minutes"),
        _ => format!("{seconds} seconds"),
    }
}

impl SignatureScheme {
    const fn in_words(self) -> &'static str {
        match self {
            Self::SigV4 => "a link to S3, signature version 4",
            Self::SigV2 => "a link to S3, signature version 2",
            Self::CloudFrontCanned => "a link to CloudFront, canned policy",
            Self::CloudFrontCustom => "a link to CloudFront, custom policy",
            Self::Unsigned => "not a signed link",
        }
    }
}

impl CredentialKind {
    const fn in_words(self) -> &'static str {
        match self {
            Self::LongTerm => "a long-term key",
            Self::Temporary => "a temporary key",
            Self::CloudFrontKey => "a CloudFront key",
            Self::CloudFrontAccountKey => "a CloudFront key of the root user",
            Self::Other => "not a key of AWS",
        }
    }

    /// The limits of the lifetime that the URL does not state.
    const fn real_end(self) -> &'static str {
        match self {
            Self::LongTerm => "then, unless the key is disabled or loses its permission before",
            Self::Temporary => "with the session of its key, whose end is not in the URL",
            Self::CloudFrontKey | Self::CloudFrontAccountKey => {
                "then, unless the key leaves its key group before"
            }
            Self::Other => "then, unless the key is taken away before",
        }
    }
}

/// A human-readable explanation at an instant.
#[derive(Debug)]
pub struct InWords<'a> {
    explanation: &'a Explanation,
    now: Timestamp,
}

impl Explanation {
    /// Formats the explanation for people, with times relative to `now`.
    pub const fn in_words(&self, now: Timestamp) -> InWords<'_> {
        InWords {
            explanation: self,
            now,
        }
    }
}

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { explanation, now } = *self;
        f.write_str(explanation.scheme.in_words())?;
        let mut line = |name: &str, text: Option<String>| match text {
            Some(text) => write!(f, "\n  {name:<12} {}", shown(&text)),
            None => Ok(()),
        };
        if let Some(location) = &explanation.opens {
            let region = location
                .region
                .as_ref()
                .map(|region| format!(", region {region}"));
            let connection = location.connection.as_ref();
            let connection = connection.map(|name| format!(", connection {name}"));
            line("opens", Some(location.in_words()))?;
            line(
                "at",
                Some(format!(
                    "{} ({}{}{})",
                    location.host,
                    location.style.in_words(),
                    region.unwrap_or_default(),
                    connection.unwrap_or_default()
                )),
            )?;
        }
        let by = explanation.signed_by.as_ref();
        line(
            "signed by",
            by.map(|by| format!("{}, {}", by.key_id, by.credential.in_words())),
        )?;
        line("for region", explanation.region.clone())?;
        line("from", explanation.starts_at.map(|start| when(start, now)))?;
        line("until", explanation.ends_at.map(|end| when(end, now)))?;
        line("really ends", explanation.real_end())?;
        line("network", explanation.network.clone())?;
        line("policy for", explanation.resource.clone())?;
        line("disposition", explanation.disposition.clone())?;
        line("encoding", explanation.content_encoding.clone())?;
        line("type", explanation.content_type.clone())?;
        line("version", explanation.version_id.clone())?;
        line("link id", explanation.link_id.clone())?;
        let token = match explanation.token_length {
            0 => String::new(),
            length => format!(", {length} of them a session token"),
        };
        line(
            "length",
            Some(format!("{} bytes{token}", explanation.length)),
        )?;
        for finding in &explanation.findings {
            let severity = match finding.severity {
                Severity::Wrong => "wrong:",
                Severity::Risk => "risk:",
                Severity::Note => "note:",
            };
            write!(f, "\n{severity:<7}{}", finding.text)?;
        }
        Ok(())
    }
}

impl UrlLocation {
    /// The object, as `s3://BUCKET/KEY`; `/KEY` if the URL names no bucket, and both readings where it shows not which is right.
    pub fn in_words(&self) -> String {
        let place = |bucket: &Option<String>, key: &str| match bucket {
            Some(bucket) => format!("s3://{bucket}/{key}"),
            None => format!("/{key}"),
        };
        let location = place(&self.bucket, &self.key);
        match &self.otherwise {
            Some(BucketAndKey { bucket, key }) => {
                format!("{location}, or {}", place(bucket, key))
            }
            None => location,
        }
    }
}

#[cfg(test)]
mod tests;
