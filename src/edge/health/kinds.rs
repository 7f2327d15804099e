//! The kinds of dependencies and of their failures, and the sentence about an outage.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

/// The pause after the failure that made an edge count as down, and the longest pause. The pause doubles with each further
/// failure. The longest decides how late a recovery can be noticed.
pub(super) const INITIAL_PAUSE: Duration = Duration::from_secs(1);
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The pause after a refusal. An operator has to repair it, and a wrong password must not be repeated every few seconds.
const REFUSED_PAUSE: Duration = Duration::from_secs(20);

/// The pause after a source of credentials gave none that are valid. It locks no account, and its next answer may be right: a file is
/// replaced, a session begins.
const NO_CREDENTIALS_PAUSE: Duration = Duration::from_secs(4);

/// What kind of dependency an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// The S3 endpoint of a connection.
    Store,
    /// The bucket with the ledger.
    Ledger,
    /// The queue that jobs come from.
    Queue,
    /// The source of a connection's credentials.
    Credentials,
    /// An SMTP relay.
    Relay,
    /// The queue that results are sent to.
    Results,
    /// The queue of parked messages.
    Parked,
    /// The audit log, whose disk may be full.
    Audit,
    /// The bucket to which the audit log is archived.
    Archive,
    /// An OpenID provider at which readers of the portal sign in.
    Oidc,
    /// The queue that bounces and complaints come from.
    Feedback,
}

impl EdgeKind {
    /// The name in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Ledger => "ledger",
            Self::Queue => "queue",
            Self::Credentials => "credentials",
            Self::Relay => "relay",
            Self::Results => "results",
            Self::Parked => "parked",
            Self::Audit => "audit",
            Self::Archive => "archive",
            Self::Oidc => "oidc",
            Self::Feedback => "feedback",
        }
    }
}

/// How a request to an edge failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No answer, or no complete answer, within the deadline.
    Timeout,
    /// The connection failed or broke.
    Unreachable,
    /// An answer that says that the service is failing: a status of 500 and above.
    ServerError,
    /// An answer that asks to slow down.
    Throttled,
    /// An answer that rejects every request, not only this one.
    Refused,
    /// Credentials or a certificate are missing or not accepted: a retry does not help.
    Denied,
    /// A disk without room.
    Full,
    /// The clock of the service and the clock of this machine differ too much for signed requests and links.
    ClockSkew,
    /// No failed request: long jobs hold the edge's share of the slots.
    Occupied,
}

impl FailureKind {
    /// Every kind of a failed request, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Timeout,
        Self::Unreachable,
        Self::ServerError,
        Self::Throttled,
        Self::Refused,
        Self::Denied,
        Self::Full,
        Self::ClockSkew,
    ];

    /// The name in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::ServerError => "server_error",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::ClockSkew => "clock_skew",
            Self::Occupied => "occupied",
        }
    }

    /// How many failures in a row make an outage, and how long they must last.
    ///
    /// A single broken connection is not an outage, and some services answer one request in three with 503 for hours.
    pub(super) const fn outage(self, edge: EdgeKind) -> (u32, Duration) {
        match self {
            // A poll without an answer has waited as long as two other requests.
            Self::Timeout if matches!(edge, EdgeKind::Queue) => (1, Duration::ZERO),
            // A source of credentials is asked one request at a time, and all jobs of its connection wait for it.
            Self::Timeout if matches!(edge, EdgeKind::Credentials) => (1, Duration::ZERO),
            // All keys of the ledger are Handout's own, so that the next request would be rejected too.
            Self::Refused if matches!(edge, EdgeKind::Ledger) => (1, Duration::ZERO),
            Self::Denied | Self::Full | Self::ClockSkew => (1, Duration::ZERO),
            Self::Timeout | Self::Refused | Self::Unreachable => (2, Duration::ZERO),
            Self::ServerError | Self::Throttled | Self::Occupied => (2, Duration::from_secs(10)),
        }
    }

    /// How long an edge that is down is not tried after its n-th failure.
    pub(super) fn pause(self, edge: EdgeKind, failures: u32) -> Duration {
        match self {
            // No password is repeated there.
            Self::Refused if edge != EdgeKind::Ledger => REFUSED_PAUSE,
            Self::Denied if edge == EdgeKind::Credentials => NO_CREDENTIALS_PAUSE,
            Self::Denied => REFUSED_PAUSE,
            Self::Refused
            | Self::Timeout
            | Self::Unreachable
            | Self::ServerError
            | Self::Throttled
            | Self::Full
            | Self::ClockSkew
            | Self::Occupied => {
                let doublings = failures.saturating_sub(2).min(8);
                (INITIAL_PAUSE * (1 << doublings)).min(MAX_PAUSE)
            }
        }
    }
}

/// The outage of an edge, for log lines, `/ready` and a job's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Which edge, as metrics name it: `relay:default`.
    pub edge: String,
    /// The edge, as the subject of a sentence.
    pub subject: String,
    /// How requests fail.
    pub kind: FailureKind,
    /// The message of the last failure.
    pub words: String,
    /// Since when.
    pub since: Timestamp,
    /// How long the edge is still paused; zero if it may be tried.
    pub left: Duration,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, since, words) = (&self.subject, self.since, &self.words);
        let what = match self.kind {
            FailureKind::Timeout => "has not answered",
            FailureKind::Unreachable => "cannot be reached",
            FailureKind::ServerError => "answers with errors",
            FailureKind::Throttled => "asks to slow down",
            FailureKind::Refused => "refuses requests",
            FailureKind::Denied => "cannot be used",
            FailureKind::Full => "has no room",
            FailureKind::ClockSkew => "has another time than this machine",
            FailureKind::Occupied => "is occupied",
        };
        write!(f, "{subject} {what} since {since:.0}")?;
        if words.is_empty() {
            return Ok(());
        }
        write!(f, ": {words}")
    }
}

impl std::error::Error for Outage {}
