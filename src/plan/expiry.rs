//! The real lifetime of a link.
//!
//! A presigned URL expires with the credentials that signed it, even where its `X-Amz-Expires` names a later time. The SDKs sign it without
//! a warning. This module computes the real end before anything is signed, and the mail, the page and the audit line say
//! that end.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html#PresignedUrl-Expiration>

use jiff::{SignedDuration, Timestamp};
use presign::cloudfront::LAST_SECOND;
use serde::{Deserialize, Serialize};

use crate::job::{MAX_PORTAL_EXPIRES_IN, MAX_S3_EXPIRES_IN};
use crate::quantity::Span;

/// How far a signature is dated back, so that a server whose clock is a little behind ours accepts it at once.
const BACK_DATED: Span = Span::seconds(60);

/// The clock skew from which on it is taken into account. A `Date` header has whole seconds only and takes a moment to
/// arrive; a smaller skew is covered by dating back.
const NOTICED_SKEW: SignedDuration = SignedDuration::from_secs(5);

/// How long links may always be handed out, even past half of their lifetime: to sign them again would take as long again.
const HANDED_OUT_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The shortest session that STS makes. Credentials with less time left are near their end, and their source renews them soon.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const MIN_SESSION: SignedDuration = SignedDuration::from_mins(15);

/// What to do when a link cannot be valid for as long as was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExpiryGuard {
    /// Reject the job and say what to change.
    #[default]
    Refuse,
    /// Sign the link and print the real, earlier end everywhere.
    Clamp,
    /// Print the requested end, even if it is wrong; for tests.
    Ignore,
}

/// What limits the lifetime of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The job or the configuration: as long as was asked.
    Asked,
    /// The signing credentials end earlier.
    Credentials,
    /// The limit of the `[[allow]]` rule.
    Policy,
    /// The limit of S3 itself.
    S3,
    /// The last instant that CloudFront supports.
    Cloudfront,
    /// The longest lifetime of the portal's links.
    Portal,
    /// The lifecycle of the bucket deletes the first of the files.
    Lifecycle,
}

/// When the signing credentials end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialsEnd {
    /// Never: a long-term key.
    #[default]
    Never,
    /// At an instant.
    At(Timestamp),
    /// They belong to a session whose end is not known.
    Unknown,
}

impl CredentialsEnd {
    /// Whether they are certain to last until `instant`.
    pub fn reaches(self, instant: Timestamp) -> bool {
        match self {
            Self::Never => true,
            Self::At(end) => end >= instant,
            Self::Unknown => false,
        }
    }
}

/// The service that verifies a link, which limits its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// S3: seven days at most, and not longer than the credentials.
    S3(CredentialsEnd),
    /// CloudFront: up to the last instant that it supports. Its key is valid until an operator removes it.
    CloudFront,
    /// The portal: as long as the rule permits, since each open is signed with the credentials of its time.
    Portal,
}

impl Issuer {
    /// The longest lifetime of a link that is signed at `now`, and what limits it.
    fn most(self, now: Timestamp) -> (Span, Bound, Limit) {
        match self {
            Self::S3(_) => (MAX_S3_EXPIRES_IN, Bound::S3, Limit::S3),
            Self::CloudFront => {
                let left = LAST_SECOND.saturating_sub(now.as_second());
                let left = Span::seconds(u64::try_from(left).unwrap_or_default());
                (left, Bound::Cloudfront, Limit::CloudFront)
            }
            Self::Portal => (MAX_PORTAL_EXPIRES_IN, Bound::Portal, Limit::Portal),
        }
    }

    /// How far links are dated back, and the longest lifetime in a signature, in seconds.
    const fn dating(self) -> (Span, u64) {
        match self {
            Self::S3(_) => (BACK_DATED, MAX_S3_EXPIRES_IN.as_secs()),
            // Its links have no start time.
            Self::CloudFront | Self::Portal => (Span::seconds(0), u64::MAX),
        }
    }

    const fn credentials_end(self) -> CredentialsEnd {
        match self {
            Self::S3(end) => end,
            Self::CloudFront | Self::Portal => CredentialsEnd::Never,
        }
    }
}

/// The lifetime of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The instant in the signature.
    pub signed_at: Timestamp,
    /// The seconds in the signature, counted from `signed_at`.
    pub signed_for_secs: u64,
    /// When the link really expires; mails, pages and audit lines say this instant.
    pub expires_at: Timestamp,
    /// What limits it.
    pub bound: Bound,
    /// Until when the link may be handed out, by this machine's clock: later, a mail would have links that expire
    /// soon.
    pub fresh_until: Timestamp,
}

impl Lifetime {
    /// Whether the link may still be handed out at `now`, by this machine's clock.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now <= self.fresh_until
    }

    /// The same lifetime, shortened to the instant at which the bucket's lifecycle deletes the first of the objects. `now` is by
    /// this machine's clock, and `skew` is how far the store's clock is ahead.
    #[must_use]
    pub fn bounded_by(
        self,
        ends_at: Option<Timestamp>,
        now: Timestamp,
        skew: Option<SignedDuration>,
    ) -> Self {
        let Some(end) = ends_at
            .map(whole_second)
            .filter(|end| *end < self.expires_at)
        else {
            return self;
        };
        let skew = noticed(skew);
        let there = now.saturating_add(skew).unwrap_or(now);
        let signed_for = end.duration_since(self.signed_at).as_secs();
        Self {
            signed_for_secs: u64::try_from(signed_for).unwrap_or_default().max(1),
            expires_at: end,
            bound: Bound::Lifecycle,
            fresh_until: fresh_until(there, end),
            ..self
        }
        .here(skew)
    }

    /// The same lifetime with the end that was recorded when the links were first made.
    #[must_use]
    pub fn ending_at(self, end: Timestamp, now: Timestamp) -> Self {
        if end == self.expires_at {
            return self;
        }
        let signed_for = end.duration_since(self.signed_at).as_secs();
        Self {
            signed_for_secs: u64::try_from(signed_for).unwrap_or_default(),
            expires_at: end,
            fresh_until: fresh_until(now, end),
            ..self
        }
    }

    /// The same lifetime by a clock that is `skew` behind the clock by which it was computed.
    pub(super) fn here(self, skew: SignedDuration) -> Self {
        let fresh_until = self
            .fresh_until
            .saturating_sub(skew)
            .unwrap_or(self.fresh_until);
        Self {
            fresh_until,
            ..self
        }
    }
}

/// The part of a measured clock skew that counts: a skew within the error of a `Date` header is zero.
pub(crate) fn noticed(skew: Option<SignedDuration>) -> SignedDuration {
    skew.filter(|skew| skew.abs() > NOTICED_SKEW)
        .unwrap_or(SignedDuration::ZERO)
}

/// Until when credentials must be valid for links requested at `now`.
pub fn asked_until(asked: Span, now: Timestamp) -> Timestamp {
    next_second(now)
        .saturating_add(seconds(asked.as_secs()))
        .unwrap_or(Timestamp::MAX)
}

/// The links are no longer fresh enough to be handed out; they have to be signed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("half of the links' lifetime is over; signing them again")]
pub struct Aged;

/// Why links cannot be valid for as long as was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("links.expires_in asks for {asked}, but {limit}; {}", limit.advice())]
pub struct Shortfall {
    /// What was asked.
    pub asked: Span,
    /// The limit that it exceeds.
    pub limit: Limit,
}

/// The limit of a link's lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// The job's rule.
    #[error("the [[allow]] rule allows {0} at most")]
    Rule(Span),
    /// S3 itself.
    #[error("S3 allows {MAX_S3_EXPIRES_IN} at most")]
    S3,
    /// CloudFront itself.
    #[error("CloudFront counts to 2038-01-19T03:14:07Z and no further")]
    CloudFront,
    /// The portal itself.
    #[error("the portal allows {MAX_PORTAL_EXPIRES_IN} at most")]
    Portal,
    /// The credentials, which end too early.
    #[error("the signing credentials end at {0}")]
    CredentialsEnd(Timestamp),
    /// The credentials, which have expired.
    #[error("the signing credentials ended at {0}")]
    CredentialsEnded(Timestamp),
    /// The credentials, which expire so soon that their source is about to renew them.
    #[error("the signing credentials end at {0}, and their source has not renewed them yet")]
    CredentialsEnding(Timestamp),
    /// The credentials, whose end is unknown.
    #[error(
        "the signing credentials are temporary and do not say when they expire (AWS_CREDENTIAL_EXPIRATION is missing, or is not an instant)"
    )]
    CredentialsUnknown,
}

impl Limit {
    /// The limit for credentials that end too early for links requested at `now`.
    fn of_credentials(end: Timestamp, now: Timestamp) -> Self {
        let end = whole_second(end);
        match end.duration_since(now) {
            left if left < MIN_SESSION => Self::CredentialsEnding(end),
            _ => Self::CredentialsEnd(end),
        }
    }

    /// Whether renewed credentials may last long enough, so that the job itself is not the cause.
    pub(super) const fn may_be_renewed(self) -> bool {
        matches!(self, Self::CredentialsEnded(_) | Self::CredentialsEnding(_))
    }

    /// The advice for a job with this limit.
    const fn advice(self) -> &'static str {
        match self {
            Self::Rule(_) => {
                "ask for less, raise the rule's max_expires_in, or set expiry_guard = \"clamp\" to print the real end"
            }
            Self::S3 => {
                "ask for less, set expiry_guard = \"clamp\" to print the real end, or hand out by the portal or CloudFront (links.via), which have no such limit"
            }
            Self::CloudFront | Self::Portal => {
                "ask for less, or set expiry_guard = \"clamp\" to print the real end"
            }
            Self::CredentialsEnd(_) => {
                "ask for less, set expiry_guard = \"clamp\" to print the real end, or sign with credentials that last longer, such as an IAM user's key"
            }
            Self::CredentialsEnded(_) => "renew them",
            Self::CredentialsEnding(_) => {
                "the job waits for credentials that last longer; ask for less, or set expiry_guard = \"clamp\" to print the real end"
            }
            Self::CredentialsUnknown => {
                "set it to their end, as `aws configure export-credentials --format env` does, or sign with an IAM user's key"
            }
        }
    }
}

/// Computes the lifetime of links that are signed at `now`, by the clock of the service that verifies them.
///
/// `issuer` is that service; `cap` is the most that the rule allows. Links to S3 with the full seven days end a minute
/// earlier: it is the minute by which they are dated back, and without it a server whose clock is a second behind would
/// reject them at first.
pub fn lifetime(
    asked: Span,
    issuer: Issuer,
    cap: Span,
    guard: ExpiryGuard,
    now: Timestamp,
) -> Result<Lifetime, Shortfall> {
    let mut granted = asked;
    let mut bound = Bound::Asked;
    if granted > cap {
        refuse_if(guard, asked, Limit::Rule(cap))?;
        (granted, bound) = (cap, Bound::Policy);
    }
    let begin = next_second(now);
    let (most, by, limit) = issuer.most(begin);
    if granted > most {
        refuse_if(guard, asked, limit)?;
        (granted, bound) = (most, by);
    }
    let (back, most_secs) = issuer.dating();
    let signed_at = begin - seconds(back.as_secs());
    let mut signed_for_secs = (granted.as_secs() + back.as_secs()).min(most_secs);
    let mut expires_at = signed_at + seconds(signed_for_secs);
    match issuer.credentials_end() {
        CredentialsEnd::Unknown if guard != ExpiryGuard::Ignore => {
            let limit = Limit::CredentialsUnknown;
            return Err(Shortfall { asked, limit });
        }
        CredentialsEnd::At(end) if whole_second(end) <= now => {
            let limit = Limit::CredentialsEnded(whole_second(end));
            return Err(Shortfall { asked, limit });
        }
        CredentialsEnd::At(end) if end < expires_at => {
            refuse_if(guard, asked, Limit::of_credentials(end, now))?;
            if guard == ExpiryGuard::Clamp {
                (expires_at, bound) = (whole_second(end), Bound::Credentials);
                // The signature must not outlive the stated end: it may be made later with renewed credentials.
                let left = expires_at.duration_since(signed_at).as_secs();
                signed_for_secs = u64::try_from(left).unwrap_or_default();
            }
        }
        CredentialsEnd::Never | CredentialsEnd::At(_) | CredentialsEnd::Unknown => {}
    }
    Ok(Lifetime {
        signed_at,
        signed_for_secs,
        expires_at,
        bound,
        fresh_until: fresh_until(now, expires_at),
    })
}

/// Half of the lifetime, or all of it if it is short.
fn fresh_until(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let whole = expires_at.duration_since(now);
    now + (whole / 2).max(whole.min(HANDED_OUT_WITHIN))
}

fn refuse_if(guard: ExpiryGuard, asked: Span, limit: Limit) -> Result<(), Shortfall> {
    match guard {
        ExpiryGuard::Refuse => Err(Shortfall { asked, limit }),
        ExpiryGuard::Clamp | ExpiryGuard::Ignore => Ok(()),
    }
}

/// A signature has whole seconds only; the stated end must not be later than the signed one.
fn whole_second(instant: Timestamp) -> Timestamp {
    Timestamp::from_second(instant.as_second()).unwrap_or(instant)
}

/// `instant`, rounded up to a whole second, so that a lifetime counted from it is not shorter than was asked.
fn next_second(instant: Timestamp) -> Timestamp {
    let whole = whole_second(instant);
    let is_whole = whole == instant;
    Timestamp::from_second(whole.as_second() + i64::from(!is_whole)).unwrap_or(whole)
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
