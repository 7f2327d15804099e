//! What a signed URL says of itself: what it opens, who signed it, how long it lives, and why it may fail.
//!
//! Nothing is asked of anybody: a link is read as its server would read it. The signature cannot be checked without
//! the secret; it is never shown, and neither is a session token.

mod cloudfront;
mod location;
mod query;
mod s3;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::percent::decode_lossy;
use crate::request::CustomParameter;

pub use location::{KnownServer, UrlLocation, UrlStyle};

use query::{Parameters, Parts, shown, shown_name, without_secrets};

/// RFC 5322's longest line.
const LONGEST_LINE: usize = 998;
/// What old proxies and browsers took.
const LONGEST_FOR_OLD_CLIENTS: usize = 2_048;
/// What most servers take, and all that CloudFront does.
const LONGEST_FOR_SERVERS: usize = 8_192;

/// Which kind of signature a URL has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureScheme {
    /// `X-Amz-…` parameters.
    SigV4,
    /// `AWSAccessKeyId`, `Expires` and `Signature`.
    SigV2,
    /// CloudFront's `Expires`, with a policy that it makes up from the URL.
    CloudFrontCanned,
    /// CloudFront's `Policy`, which stands in the URL.
    CloudFrontCustom,
    /// None that we know.
    Unsigned,
}

/// What kind of key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// An IAM user's key: it works until somebody takes it away.
    LongTerm,
    /// A session's: it dies with the session.
    Temporary,
    /// A public key in a CloudFront key group.
    CloudFrontKey,
    /// A key of the account's root user, from before there were key groups.
    CloudFrontAccountKey,
    /// Not one of AWS's, or none that we know.
    Other,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedBy {
    /// The key's id, which is no secret.
    pub key_id: String,
    /// Its kind.
    pub credential: CredentialKind,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The link does not work, or does not any more.
    Wrong,
    /// It may fail, or do more than was meant.
    Risk,
    /// Good to know.
    Note,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UrlFinding {
    /// How bad it is.
    pub severity: Severity,
    /// A sentence.
    pub text: String,
}

/// What a URL says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its kind.
    pub scheme: SignatureScheme,
    /// What it opens, if it is a URL at all.
    pub opens: Option<UrlLocation>,
    /// Who signed it.
    pub signed_by: Option<SignedBy>,
    /// When it was signed, or from when it works.
    pub starts_at: Option<Timestamp>,
    /// When it ends by its own words.
    pub ends_at: Option<Timestamp>,
    /// When it has ended for certain, if that is earlier: no session lasts longer than 36 hours.
    pub ends_at_latest: Option<Timestamp>,
    /// Whether it is over.
    pub is_over: bool,
    /// The region in the signature.
    pub region: Option<String>,
    /// The one network from which it works.
    pub network: Option<String>,
    /// The resource of a custom policy.
    pub resource: Option<String>,
    /// The `Content-Disposition` that it requests for.
    pub disposition: Option<String>,
    /// The `Content-Type` that it requests for.
    pub content_type: Option<String>,
    /// The version that it is pinned to.
    pub version_id: Option<String>,
    /// The value of the caller's own parameter.
    pub link_id: Option<String>,
    /// The URL's length in bytes.
    pub length: usize,
    /// How many of them are a session token.
    pub token_length: usize,
    /// What was found, the worst first.
    pub findings: Vec<UrlFinding>,
}

/// Explains URLs, with what is known beside them.
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
    /// Servers that are not AWS's, of which more is known than a URL says.
    pub servers: &'a [KnownServer],
    /// The parameter whose value is the caller's own id of a link.
    pub custom: Option<CustomParameter>,
}

impl Explainer<'_> {
    /// Explains a URL at an instant. Whatever the text is, an explanation comes out.
    pub fn explain(&self, url: &str, now: Timestamp) -> Explanation {
        explain(self, url, now)
    }
}

fn explain(known: &Explainer<'_>, url: &str, now: Timestamp) -> Explanation {
    let servers = known.servers;
    let url = url.trim();
    let mut explanation = Explanation::of_nothing(url.len());
    explanation.look_for_damage(url);
    let Some(parts) = Parts::of(url) else {
        explanation.wrong("this is no URL: it must begin with https:// or http:// and a host");
        return explanation.finished();
    };
    let parameters = Parameters::of(parts.query);
    let parameter = |name: &str| parameters.get(name).map(ToOwned::to_owned);
    explanation.disposition = parameter("response-content-disposition");
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
        explanation.wrong("there is no signature in it that we know: no X-Amz-Signature, no AWSAccessKeyId, no Key-Pair-Id");
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
            content_type: None,
            version_id: None,
            link_id: None,
            length,
            token_length: 0,
            findings: Vec::new(),
        }
    }

    /// Whether anything stands against opening it.
    pub fn is_wrong(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Wrong)
    }

    /// What is known of the end besides the URL's own words, as long as it is not over.
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

    /// The worst first, and no secret in any text: a damaged URL may have them where nobody would look.
    fn finished(mut self) -> Self {
        self.findings.sort_by_key(|finding| finding.severity);
        let location = self.opens.iter_mut().flat_map(|location| {
            [
                Some(&mut location.host),
                location.bucket.as_mut(),
                Some(&mut location.key),
                location.region.as_mut(),
            ]
        });
        let own = [
            self.signed_by.as_mut().map(|by| &mut by.key_id),
            self.region.as_mut(),
            self.network.as_mut(),
            self.resource.as_mut(),
            self.disposition.as_mut(),
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

    /// What happens to a URL on its way through mails, pages and clipboards.
    fn look_for_damage(&mut self, url: &str) {
        if url.contains(['\r', '\n']) {
            self.wrong("a line break is in it: a mail program or a terminal cut it in two");
        }
        if url.contains("&amp;") {
            self.wrong(
                "it has \"&amp;\" where \"&\" belongs: it was copied out of a page's source",
            );
        }
        if url.contains("X-Amz-Algorithm=3D") || url.contains("Expires=3D") {
            self.wrong("it has \"=3D\" where \"=\" belongs: it was copied out of a mail's source");
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
        if parts.has_user {
            self.wrong(
                "a user stands before its host: clients send that as another kind of authorization",
            );
        }
        if parts.has_fragment {
            self.risk(
                "what stands behind the # never reaches the server: a # in a key is written %23",
            );
        }
        match parts.scheme.to_ascii_lowercase().as_str() {
            "https" => {}
            "http" if parts.is_loopback() => {}
            "http" => self.risk("it is http: whoever listens on the way can open it too"),
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
            self.wrong("its parameters stand in its path: the ? before them was escaped or lost on the way");
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
        if length > LONGEST_FOR_SERVERS {
            let text = format!(
                "it has {length} bytes: servers take {LONGEST_FOR_SERVERS}, and CloudFront no more"
            );
            match self.scheme {
                SignatureScheme::CloudFrontCanned | SignatureScheme::CloudFrontCustom => {
                    self.wrong(text);
                }
                SignatureScheme::SigV4 | SignatureScheme::SigV2 | SignatureScheme::Unsigned => {
                    self.risk(text);
                }
            }
        } else if length > LONGEST_FOR_OLD_CLIENTS {
            self.risk(format!(
                "it has {length} bytes: some clients and proxies take only {LONGEST_FOR_OLD_CLIENTS}"
            ));
        } else if length > LONGEST_LINE {
            self.note(format!(
                "it has {length} bytes: a mail's line takes {LONGEST_LINE}, so the mail must be encoded"
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

/// An instant, and how far away it is.
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

    /// What is known of the end besides the URL's own words.
    const fn real_end(self) -> &'static str {
        match self {
            Self::LongTerm => "then, unless the key is disabled or loses its permission before",
            Self::Temporary => "with the session of its key, which the URL does not tell",
            Self::CloudFrontKey | Self::CloudFrontAccountKey => {
                "then, unless the key leaves its key group before"
            }
            Self::Other => "then, unless the key is taken away before",
        }
    }
}

/// The explanation at an instant, for a person.
#[derive(Debug)]
pub struct InWords<'a> {
    explanation: &'a Explanation,
    now: Timestamp,
}

impl Explanation {
    /// For a person, told at an instant.
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
    fn in_words(&self) -> String {
        match &self.bucket {
            Some(bucket) => format!("s3://{bucket}/{}", self.key),
            None => format!("/{}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessKey, Addressing, BucketUrl, ExpiresIn, PresignRequest, Presigner};
    use proptest::prelude::*;

    const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// One that stands where none belongs.
    const PLANTED: &str = "f00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabe";

    fn noon() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    const LINK_ID: CustomParameter = CustomParameter::new("x-handout");

    fn known() -> Explainer<'static> {
        Explainer {
            servers: &[],
            custom: Some(LINK_ID),
        }
    }

    fn told(url: &str) -> String {
        let text = known().explain(url, noon()).in_words(noon()).to_string();
        assert!(!text.contains(SIGNATURE), "{text}");
        text
    }

    /// A link of our own, signed four hours before noon.
    fn link(key_id: &str, token: Option<&str>, key: &str, seconds: u64) -> String {
        let target = BucketUrl::new(
            "https://s3.eu-west-1.amazonaws.com",
            "acme-reports",
            Addressing::VirtualHost,
        );
        let keys = AccessKey {
            access_key_id: key_id.into(),
            secret_access_key: "secret".into(),
            session_token: token.map(Into::into),
        };
        let signed_at = "2026-11-23T08:00:00Z".parse().unwrap();
        let presigner = Presigner::new(
            target.unwrap(),
            &keys,
            "eu-west-1",
            signed_at,
            ExpiresIn::clamped(seconds),
        );
        let url = presigner.presign(&PresignRequest {
            key,
            content_disposition: Some("attachment; filename=\"a b.pdf\""),
            content_type: None,
            version_id: Some("3HL4kqtJlcpXroDTDmJ"),
            custom: Some((LINK_ID, "0123456789abcdef0123456789abcdef")),
        });
        url.expose().to_owned()
    }

    /// The worst of what is found, without its sentence's end.
    fn findings(url: &str) -> Vec<String> {
        let explanation = known().explain(url, noon());
        let findings = explanation.findings.into_iter();
        findings
            .filter(|finding| finding.severity != Severity::Note)
            .map(|finding| finding.text)
            .collect()
    }

    #[test]
    fn a_link_of_a_long_term_key() {
        let url = link("AKIAIOSFODNN7EXAMPLE", None, "2026/11/23/a b.pdf", 86_400);
        insta::assert_snapshot!(told(&url), @r#"
        a link to S3, signature version 4
          opens        s3://acme-reports/2026/11/23/a b.pdf
          at           acme-reports.s3.eu-west-1.amazonaws.com (virtual-host style, region eu-west-1)
          signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
          for region   eu-west-1
          from         2026-11-23T08:00:00Z, 4 hours ago
          until        2026-11-24T08:00:00Z, in 20 hours
          really ends  then, unless the key is disabled or loses its permission before
          disposition  attachment; filename="a b.pdf"
          version      3HL4kqtJlcpXroDTDmJ
          link id      0123456789abcdef0123456789abcdef
          length       496 bytes
        note:  the method is signed: HEAD gets 403, so check it with GET and "Range: bytes=0-0"
        "#);
    }

    #[test]
    fn a_link_of_a_session() {
        let token = "FwoGZXIvYXdzEXAMPLE/".repeat(40);
        let url = link("ASIAIOSFODNN7EXAMPLE", Some(&token), "a.pdf", 604_800);
        let text = told(&url);
        assert!(!text.contains("FwoGZXIv"), "{text}");
        insta::assert_snapshot!(text, @r#"
        a link to S3, signature version 4
          opens        s3://acme-reports/a.pdf
          at           acme-reports.s3.eu-west-1.amazonaws.com (virtual-host style, region eu-west-1)
          signed by    ASIAIOSFODNN7EXAMPLE, a temporary key
          for region   eu-west-1
          from         2026-11-23T08:00:00Z, 4 hours ago
          until        2026-11-30T08:00:00Z, in 6 days
          really ends  with the session of its key, which the URL does not tell, at the latest 2026-11-24T20:00:00Z
          disposition  attachment; filename="a b.pdf"
          version      3HL4kqtJlcpXroDTDmJ
          link id      0123456789abcdef0123456789abcdef
          length       1384 bytes, 880 of them a session token
        risk:  it promises more than 36 hours, and no session lasts so long
        risk:  temporary credentials signed it, and it dies with their session
        note:  the method is signed: HEAD gets 403, so check it with GET and "Range: bytes=0-0"
        note:  it has 1384 bytes: a mail's line takes 998, so the mail must be encoded
        "#);
    }

    #[test]
    fn a_link_that_is_over_damaged_and_elsewhere() {
        let url = link("AKIAIOSFODNN7EXAMPLE", None, "a/../b.pdf", 3_600)
            .replace("s3.eu-west-1", "s3.us-east-1")
            .replace('&', "&amp;")
            + "&utm_source=mail";
        insta::assert_snapshot!(told(&url), @r#"
        a link to S3, signature version 4
          opens        s3://acme-reports/a/../b.pdf
          at           acme-reports.s3.us-east-1.amazonaws.com (virtual-host style, region us-east-1)
          signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
          for region   eu-west-1
          from         2026-11-23T08:00:00Z, 4 hours ago
          until        2026-11-23T09:00:00Z, 3 hours ago
          disposition  attachment; filename="a b.pdf"
          version      3HL4kqtJlcpXroDTDmJ
          link id      0123456789abcdef0123456789abcdef
          length       537 bytes
        wrong: it has "&amp;" where "&" belongs: it was copied out of a page's source
        wrong: it is signed for eu-west-1, but its host is in us-east-1
        wrong: utm_source stands behind the signature: it was appended after signing, and the link gets 403
        wrong: it is over: it ended 2026-11-23T09:00:00Z, 3 hours ago
        risk:  its key has "." or ".." as a folder: browsers take that out and ask for another object
        "#);
    }

    #[test]
    fn a_link_of_signature_version_2() {
        insta::assert_snapshot!(told("https://acme.s3.eu-central-1.amazonaws.com/a.pdf?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1795435200&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D&x-handout=1"), @r"
        a link to S3, signature version 2
          opens        s3://acme/a.pdf
          at           acme.s3.eu-central-1.amazonaws.com (virtual-host style, region eu-central-1)
          signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
          until        2026-11-23T12:00:00Z, 0 seconds ago
          link id      1
          length       158 bytes
        wrong: eu-central-1 does not take signature version 2: sign it with version 4
        wrong: it is over: it ended 2026-11-23T12:00:00Z, 0 seconds ago
        risk:  x-handout is not signed by version 2: anybody can change it
        ");
    }

    #[test]
    fn a_link_to_cloudfront_with_a_canned_policy() {
        let urls = include_str!("../tests/fixtures/openssl.txt");
        let url = urls.lines().nth(2).unwrap();
        insta::assert_snapshot!(told(url), @r#"
        a link to CloudFront, canned policy
          opens        /q3/a b+ü.pdf
          at           files.example.com (a distribution)
          signed by    K1TESTKEY, a CloudFront key
          until        2026-01-01T18:00:00Z, 325 days ago
          disposition  attachment; filename="a b.pdf"
          link id      0123456789abcdef0123456789abcdef
          length       558 bytes
        wrong: it is over: it ended 2026-01-01T18:00:00Z, 325 days ago
        note:  its response-content-disposition works only if the distribution hands it on to S3
        "#);
    }

    #[test]
    fn a_link_to_cloudfront_with_a_custom_policy() {
        let urls = include_str!("../tests/fixtures/openssl.txt");
        let moved = urls
            .lines()
            .nth(12)
            .unwrap()
            .replace("/image.jpg", "/secret.jpg");
        insta::assert_snapshot!(told(&moved), @r"
        a link to CloudFront, custom policy
          opens        /secret.jpg
          at           d111111abcdef8.cloudfront.net (a distribution)
          signed by    K1TESTKEY, a CloudFront key
          from         2025-12-31T16:53:20Z, 326 days ago
          until        2026-01-01T18:00:00Z, 325 days ago
          network      192.0.2.0/24
          policy for   https://d111111abcdef8.cloudfront.net/image.jpg
          length       759 bytes
        wrong: its policy is for another URL
        wrong: it is over: it ended 2026-01-01T18:00:00Z, 325 days ago
        ");
        let wildcard = urls.lines().nth(13).unwrap();
        let then: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        insta::assert_snapshot!(known().explain(wildcard, then).in_words(then), @r"
        a link to CloudFront, custom policy
          opens        /image.jpg
          at           d111111abcdef8.cloudfront.net (a distribution)
          signed by    K1TESTKEY, a CloudFront key
          until        2026-01-01T18:00:00Z, in 18 hours
          really ends  then, unless the key leaves its key group before
          policy for   https://d111111abcdef8.cloudfront.net/im*
          link id      1
          length       642 bytes
        risk:  its policy is for a pattern: whoever has it can open all that matches, and change its parameters
        ");
    }

    #[test]
    fn what_is_wrong_is_found() {
        let good = link("AKIAIOSFODNN7EXAMPLE", None, "a.pdf", 86_400);
        assert_eq!(findings(&good), [""; 0]);
        let signature = good.split("X-Amz-Signature=").nth(1).unwrap();
        let change = |from: &str, to: &str| findings(&good.replace(from, to)).join("; ");
        let table = [
            change("https://", "http://"),
            change("https://", ""),
            change(signature, &signature[..40]),
            change("&X-Amz-SignedHeaders=host", ""),
            change("SignedHeaders=host", "SignedHeaders=host%3Bx-amz-meta"),
            change("SignedHeaders=host", "SignedHeaders=range"),
            change("Expires=86400", "Expires=0"),
            change("Expires=86400", "Expires=700000"),
            change("Expires=86400", "Expires=a+day"),
            change("20261123", "20261124"),
            change("Date=20261123", "Date=20261124"),
            change("T080000Z", "T0800Z"),
            change("%2Feu-west-1%2F", "%2Feu-west-2%2F"),
            change(".s3.eu-west-1.", ".s3."),
            change(".s3.eu-west-1.", ".s3-website.eu-west-1."),
            change("acme-reports.s3", "acme.reports.s3"),
            change("AKIA", "ASIA"),
            change("%2Fs3%2F", "%2Fsqs%2F"),
            change("%2Faws4_request", ""),
            change("a.pdf?", "a+b.pdf?"),
            change("a%20b", "a b"),
            change("a%20b", "%E2%80%93"),
            change("x-id=GetObject", "x-id=GetObject&x-id=GetObject"),
            findings("https://example.com/a.pdf").join("; "),
            findings("").join("; "),
            findings("https://storage.googleapis.com/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=0a")
                .join("; "),
            findings(&format!(
                "{}&X-Amz-S3session-Token=t",
                link("AKIAIOSFODNN7EXAMPLE", None, "k", 86_400)
            ))
            .join("; "),
        ];
        insta::assert_snapshot!(table.join("\n"), @r"
        it is http: whoever listens on the way can open it too
        this is no URL: it must begin with https:// or http:// and a host
        its signature is not of 64 hexadecimal digits: the link was cut or changed
        X-Amz-SignedHeaders is missing: the link was cut or changed
        it works only with the header x-amz-meta, which no browser sends by itself
        its X-Amz-SignedHeaders lacks host, which S3 demands; it works only with the header range, which no browser sends by itself
        its X-Amz-Expires is 0: it never worked; it is over: it ended 2026-11-23T08:00:00Z, 4 hours ago
        its X-Amz-Expires is 700000: S3 refuses more than 604800, which is 7 days
        its X-Amz-Expires is no number of seconds; a bare + is in its query, which some servers take for a space: write %2B or %20
        it begins in the future, 2026-11-24T08:00:00Z, in 20 hours
        the days in X-Amz-Credential and X-Amz-Date differ; it begins in the future, 2026-11-24T08:00:00Z, in 20 hours
        its X-Amz-Date is no instant such as 20261123T080000Z
        it is signed for eu-west-2, but its host is in eu-west-1
        its host names no region: S3 may redirect it, and a redirected signature fails
        its host is a website endpoint, which knows no signatures
        its bucket has a dot: no certificate of S3 is valid for that host, so use path style
        a temporary key signed it, but its session token is missing
        it is signed for the service sqs, not for s3
        its X-Amz-Credential is not <key>/<date>/<region>/s3/aws4_request
        a bare + is in its path, which some servers take for a space: write %2B or %20
        it has characters that must be percent-encoded; clients disagree about what to send
        its response-content-disposition is not ISO-8859-1: S3 refuses it, use filename*=UTF-8''…
        the parameter x-id is there twice: servers differ in which they take
        there is no signature in it that we know: no X-Amz-Signature, no AWSAccessKeyId, no Key-Pair-Id
        this is no URL: it must begin with https:// or http:// and a host
        it is signed for Google Cloud Storage, in its own way, which S3 and this program do not read
        a session of a directory bucket signed it, which ends after five minutes
        ");
    }

    #[test]
    fn a_signature_in_the_wrong_place_is_not_shown_either() {
        let good = link("ASIAIOSFODNN7EXAMPLE", Some("FwoTOKEN"), "k", 86_400);
        let damaged = [
            good.replace('?', "%3F"),
            good.replace('?', "%253F"),
            good.replace('?', "&"),
            good.replace('?', "%3F")
                .replace('&', "%26")
                .replace('=', "%3D"),
            good.replace("x-handout=", "x-handout=1%26X-Amz-Signature%3D")
                .replace("X-Amz-Signature=", ""),
            good.replace("filename%3D", &format!("X-Amz-Signature%3D{PLANTED}")),
            good.replace(
                "versionId=",
                &format!("versionId=1%26x-amz-signature%3D{PLANTED}&"),
            ),
            good.replace(
                "X-Amz-Credential=",
                &format!("X-Amz-Credential=Signature%3D{PLANTED}%2F"),
            ),
            good.replace("x-id=GetObject", &format!("x-id=Signature%3D{PLANTED}")),
            good.replace("/k", &format!("/Signature={PLANTED}")),
        ];
        let signature = crate::url::signature_in(&good).unwrap();
        let mut words = String::new();
        for url in &damaged {
            let explanation = known().explain(url, noon());
            let text = explanation.in_words(noon()).to_string();
            let json = serde_json::to_string(&explanation).unwrap();
            for secret in [signature.as_str(), PLANTED, "FwoTOKEN"].map(|secret| &secret[..8]) {
                assert!(
                    !text.contains(secret) && !json.contains(secret),
                    "{url}:\n{text}"
                );
            }
            words.push_str(text.lines().nth(1).unwrap());
            words.push('\n');
            let damage = text
                .lines()
                .filter(|line| line.contains("stand in its path"));
            words.extend(damage.map(|line| format!("{line}\n")));
        }
        insta::assert_snapshot!(words, @r#"
          opens        s3://acme-reports/k?x-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
        wrong: its parameters stand in its path: the ? before them was escaped or lost on the way
          opens        s3://acme-reports/k%3Fx-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
        wrong: its parameters stand in its path: the ? before them was escaped or lost on the way
          opens        s3://acme-reports/k&x-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
        wrong: its parameters stand in its path: the ? before them was escaped or lost on the way
          opens        s3://acme-reports/k?x-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
        wrong: its parameters stand in its path: the ? before them was escaped or lost on the way
          opens        s3://acme-reports/k
          opens        s3://acme-reports/k
          opens        s3://acme-reports/k
          opens        s3://acme-reports/k
          opens        s3://acme-reports/k
          opens        s3://acme-reports/Signature=****
        "#);
    }

    #[test]
    fn what_was_appended_to_a_link_is_found() {
        let good = link("AKIAIOSFODNN7EXAMPLE", None, "a.pdf", 86_400);
        // As the SDK for JavaScript writes links: all parameters in their order, whatever belongs to the signature.
        let (head, query) = good.split_once('?').unwrap();
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.sort_unstable();
        let sorted = format!("{head}?{}", pairs.join("&"));
        // As boto3 does: the signature last, and no x-id.
        let last = good.replace("x-id=GetObject&", "");
        let table = [
            format!("{good}&response-content-type=text/html"),
            format!("{good}&versionId=1"),
            format!("{good}&x-amz-checksum-mode=ENABLED"),
            format!("{last}&response-content-type=text/html"),
            format!("{last}&utm_source=mail"),
            sorted.clone(),
            format!("{sorted}&fbclid=1"),
        ]
        .map(|url| {
            let behind = known().explain(&url, noon()).findings.into_iter();
            let behind = behind.filter(|f| f.text.contains("behind the signature"));
            let words: Vec<_> = behind
                .map(|f| format!("{:?}: {}", f.severity, f.text))
                .collect();
            words.join("; ")
        });
        insta::assert_snapshot!(table.join("\n"), @r"
        Wrong: response-content-type stands behind the signature: it was appended after signing, and the link gets 403
        Wrong: versionId stands behind the signature: it was appended after signing, and the link gets 403
        Wrong: x-amz-checksum-mode stands behind the signature: it was appended after signing, and the link gets 403
        Risk: response-content-type stands behind the signature: if it was appended after signing, the link gets 403
        Risk: utm_source stands behind the signature: if it was appended after signing, the link gets 403

        Risk: fbclid stands behind the signature: if it was appended after signing, the link gets 403
        ");
        let token = link("ASIAIOSFODNN7EXAMPLE", Some("FwoTOKEN"), "a.pdf", 86_400);
        assert!(!told(&token).contains("behind the signature"));
    }

    #[test]
    fn a_long_link_says_what_it_is_too_long_for() {
        let length = |bytes: usize| {
            let url = link("AKIAIOSFODNN7EXAMPLE", None, &"k".repeat(bytes), 86_400);
            let all = known().explain(&url, noon()).findings;
            all.iter()
                .find(|f| f.text.starts_with("it has "))
                .map(|f| f.severity)
        };
        let expected = [
            None,
            Some(Severity::Note),
            Some(Severity::Risk),
            Some(Severity::Risk),
        ];
        assert_eq!([10, 800, 2_000, 9_000].map(length), expected);
    }

    #[test]
    fn nothing_in_a_url_writes_to_the_terminal_what_it_likes() {
        let url = "https://b.s3.amazonaws.com/%1B%5B2J%0Aok%E2%80%AE?X-Amz-Credential=%1B%5B31m%2F1%2F2%2F%1B%2Faws4_request&%1B=1&%1B=1&response-content-type=%07";
        let text = told(url);
        let is_plain = |c: char| c == '\n' || (!c.is_control() && c != '\u{202E}');
        assert!(text.chars().all(is_plain), "{text:?}");
        assert!(!text.contains("\nok"), "{text}");
    }

    proptest! {
        #[test]
        fn nothing_panics(url in "\\PC{0,200}", now in any::<i32>()) {
            let now = Timestamp::from_second(now.into()).unwrap();
            let _ = known().explain(&url, now).in_words(now).to_string();
        }

        #[test]
        fn no_value_of_a_known_parameter_panics(
            host in "[a-z0-9.:@%-]{0,30}(\\.amazonaws\\.com)?",
            path in "[a-z/.%?#+ ]{0,20}",
            pairs in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                        "X-Amz-SignedHeaders", "X-Amz-Security-Token", "X-Amz-Region-Set",
                        "AWSAccessKeyId", "Expires", "Policy", "Key-Pair-Id", "Hash-Algorithm",
                        "response-content-disposition", "x-handout",
                    ]),
                    prop_oneof![
                        "\\PC{0,30}", "[0-9]{0,20}", "-?[0-9]{16,20}", "[A-Za-z0-9_~-]{0,60}", "[A-Z0-9/]{0,20}",
                        Just("20261123T080000Z".to_owned()), Just("99991231T235959Z".to_owned()),
                        Just("eyJTdGF0ZW1lbnQiOlt7fV19".to_owned()),
                        Just(format!("k%26X-Amz-Signature%3D{SIGNATURE}")),
                    ],
                ),
                0..8,
            ),
            signature in "(X-Amz-)?Signature",
        ) {
            let mut url = format!("https://{host}/{path}?");
            for (name, value) in pairs {
                url.push_str(&format!("{name}={value}&"));
            }
            url.push_str(&format!("{signature}={SIGNATURE}"));
            let explanation = known().explain(&url, noon());
            let text = explanation.in_words(noon()).to_string();
            let json = serde_json::to_string(&explanation).unwrap();
            prop_assert!(!text.contains(SIGNATURE) && !json.contains(SIGNATURE), "{}", text);
        }
    }
}
