//! The audit lines of the portal: what was opened, by whom, and what was revoked.
//!
//! A line keeps evidence and no verdict: whether a visitor is a person is judged when the log is read. Forged tokens have no lines.

use jiff::Timestamp;
use serde::Serialize;

use super::record::AuditRecord;

/// What lines say of a visitor.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VisitorFields {
    /// How the visitor signed in: `code`, or `oidc:` and the issuer's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_in: Option<String>,
    /// The id of the session, as hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The recipient's id of the session, where the link is everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// How long after its page the button was pressed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_page_ms: Option<u64>,
    /// The `Sec-Fetch-*` headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sec_fetch: Option<String>,
    /// The `Sec-Purpose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Whether a part of the object was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub range: bool,
    /// The network address, as far as the configuration lets it be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// The `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ua: Option<String>,
}

/// A signed link that a visitor got.
#[derive(Debug, Serialize)]
pub struct OpenedFields<'a> {
    /// The job.
    pub job: &'a str,
    /// The recipient's id.
    pub rid: &'a str,
    /// The connection that signed.
    pub connection: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The id of the portal's link.
    pub link_id: &'a str,
    /// The id of the open, which is signed into the link.
    pub open: &'a str,
    /// How it was opened: `button`, `direct` or `embed`.
    pub how: &'a str,
    /// The fingerprint of the signed link.
    pub link: &'a str,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The id of the key that signed.
    pub access_key_id: &'a str,
    /// The visitor.
    #[serde(flatten)]
    pub visitor: VisitorFields,
}

/// A page with signed links that a visitor got.
#[derive(Debug, Serialize)]
pub struct ViewFields<'a> {
    /// The job.
    pub job: &'a str,
    /// The recipient's id.
    pub rid: &'a str,
    /// The connection that signed.
    pub connection: &'a str,
    /// The id of the page's link.
    pub link_id: &'a str,
    /// The number of the page, from 0.
    pub page: u32,
    /// How many objects it shows.
    pub objects: usize,
    /// How many signed links it has.
    pub signed: usize,
    /// The SHA-256 over the fingerprints of these links, in their order.
    pub links_sha256: &'a str,
    /// When the first of them ends.
    pub expires_at: Timestamp,
    /// The id of the key that signed.
    pub access_key_id: &'a str,
    /// The visitor.
    #[serde(flatten)]
    pub visitor: VisitorFields,
}

/// A link that did not open.
#[derive(Debug, Serialize)]
pub struct LinkRefusedFields<'a> {
    /// Why: `ended`, `revoked`, `sign_in`, `other_reader`, `object_gone` or `archived`.
    pub reason: &'a str,
    /// The job, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<&'a str>,
    /// The fingerprint of the portal's link.
    pub link: &'a str,
    /// The visitor.
    #[serde(flatten)]
    pub visitor: VisitorFields,
}

/// A sign-in, or its end, or a code for one.
#[derive(Debug, Serialize)]
pub struct SessionFields<'a> {
    /// The recipient's id.
    pub rid: &'a str,
    /// When the session ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The visitor.
    #[serde(flatten)]
    pub visitor: VisitorFields,
}

/// A change to links: revoked, restored, or their end moved.
#[derive(Debug, Serialize)]
pub struct ChangedFields<'a> {
    /// What it is about: `job`, `recipient`, `object`, `link` or `sessions`.
    pub what: &'a str,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<&'a str>,
    /// The recipient's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<&'a str>,
    /// The bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<&'a str>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The id of the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_id: Option<&'a str>,
    /// The new end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The number of the change in the ledger; none for a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u64>,
    /// How links of S3 were revoked: `tag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<&'a str>,
    /// The connection whose object has the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<&'a str>,
    /// The version that has the tag, if links are pinned to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// The user who asked for it.
    pub by: &'a str,
    /// The reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// An `opened` record.
pub fn opened(fields: &OpenedFields<'_>) -> AuditRecord {
    AuditRecord::new("opened", fields)
}

/// A `probe` record: a link for HEAD, which is no open.
pub fn probe(fields: &OpenedFields<'_>) -> AuditRecord {
    AuditRecord::new("probe", fields)
}

/// A `view` record: one line for a page, however many links it has.
pub fn view(fields: &ViewFields<'_>) -> AuditRecord {
    AuditRecord::new("view", fields)
}

/// A `refused` record of a link.
pub fn refused(fields: &LinkRefusedFields<'_>) -> AuditRecord {
    AuditRecord::new("refused", fields)
}

/// A `code` record.
pub fn code(fields: &SessionFields<'_>) -> AuditRecord {
    AuditRecord::new("code", fields)
}

/// A `signed_in` record.
pub fn signed_in(fields: &SessionFields<'_>) -> AuditRecord {
    AuditRecord::new("signed_in", fields)
}

/// A `signed_out` record.
pub fn signed_out(fields: &SessionFields<'_>) -> AuditRecord {
    AuditRecord::new("signed_out", fields)
}

/// A `revoked` record.
pub fn revoked(fields: &ChangedFields<'_>) -> AuditRecord {
    AuditRecord::new("revoked", fields)
}

/// A `restored` record.
pub fn restored(fields: &ChangedFields<'_>) -> AuditRecord {
    AuditRecord::new("restored", fields)
}

/// A `moved` record: the links of a job end at another instant.
pub fn moved(fields: &ChangedFields<'_>) -> AuditRecord {
    AuditRecord::new("moved", fields)
}
