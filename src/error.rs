//! Every way in which a job can fail, and the one judgement of each.
//!
//! Steps raise errors. Only [`JobError::class`] decides what an error means, and only [`disposition`] decides what
//! happens to the message. Both name every case, so that a new error has to be judged.

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new error must be judged, not swallowed"
)]

use std::io;
use std::time::Duration;

use directory::{is_away, is_full};

use crate::archive::{ArchiveError, ZipError};
use crate::audit::RecordError;
use crate::cancellation::Stopped;
use crate::deliver::DeliverError;
use crate::edge::health::{Edge, EdgeKind, Outage};
use crate::edge::{EdgeError, ErrorKind};
use crate::job::{Bucket, ParseJobError};
use crate::ledger::LedgerError;
use crate::links::SignError;
use crate::links::listing::GatherError;
use crate::links::saved::SavedError;
use crate::links::signer::SignerError;
use crate::plan::lists::ListError;
use crate::plan::{Aged, PlanError};
use crate::render::RenderError;
use crate::results::ResultsError;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The message is not a job.
    #[error(transparent)]
    Parse(#[from] ParseJobError),
    /// The body of the message is an object of a store, and could not be read.
    #[error(
        "could not read the body of the message, which its sender put into an object of {bucket}"
    )]
    Payload {
        /// The bucket.
        bucket: Bucket,
        /// The error of the store.
        source: EdgeError,
    },
    /// The job is not allowed, or cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The recipients of its list are not known.
    #[error(transparent)]
    List(#[from] ListError),
    /// Its id belongs to another job.
    #[error("the job id {id} was used before for another job: give this one an id of its own")]
    Conflict {
        /// The id.
        id: String,
    },
    /// It names a connection that the configuration does not have.
    #[error("unknown connection {name} in the job's field from.connection; configured: {known}")]
    UnknownConnection {
        /// The name.
        name: String,
        /// The connections that there are.
        known: String,
    },
    /// Its objects could not be listed.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// A signer for its links was not available.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// One of its links could not be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Its audit lines could not be made durable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A ZIP of its files could not be made.
    #[error(transparent)]
    Zip(ZipError),
    /// A mail or a page could not be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A mail or a page could not be delivered.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// A dependency is down, and is tried again after its pause.
    #[error(transparent)]
    Down(#[from] Outage),
    /// The relay is down, and a mail to another recipient is to try it for some time: the last one to this recipient failed there.
    #[error("the relay is down, and a mail to another recipient is to try it first")]
    Spared {
        /// The outage.
        #[source]
        outage: Box<Outage>,
        /// For how long.
        after: Duration,
    },
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Another living worker has the job.
    #[error("another worker is at the job; it is looked at again later")]
    Busy {
        /// How long its lease remains valid.
        left: Duration,
    },
    /// An operator's verdict came during the run: there is more to do.
    #[error("the job was reopened while it was worked; it goes on")]
    Reopened,
    /// Other jobs make renditions, in all places of the jobs that do.
    #[error(
        "the job waits: the {places} jobs that may make renditions of pictures at once are others; it comes back by itself, and queue.max_in_flight decides how many there may be"
    )]
    RenditionsBusy {
        /// How many may.
        places: usize,
    },
    /// The job's result could not be sent.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Some recipients were not served yet, the others were.
    #[error("{count} of the job's recipients could not be served yet: {first}")]
    Deferred {
        /// Their number.
        count: usize,
        /// How long to wait at least before the next try.
        at_least: Duration,
        /// The error of the first of them.
        #[source]
        first: Box<Self>,
    },
    /// Its links aged too far during the run.
    #[error(transparent)]
    Aged(#[from] Aged),
    /// The run was cancelled.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The process died too often while it worked the message.
    #[error(
        "the process ended {deaths} times while it worked this message, which may have caused it: look at what the message asks for, and at the memory of the machine, before it is put back"
    )]
    Poison {
        /// The number of deaths.
        deaths: u32,
    },
    /// A step panicked, which is a bug.
    #[error("a step of the job panicked; please report this with the log around it")]
    Panicked,
}

/// The meaning of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// A retry cannot help: the job, a template or a bucket must be changed.
    Permanent,
    /// A retry may help.
    Transient,
    /// A decision of the configuration: nothing failed.
    Policy,
    /// A dependency is down, or asks for time: the job comes back when that is over, any number of times.
    Deferred,
    /// A request to a store, the ledger, a relay or a disk failed, and no outage is known: the job comes back later
    /// each time, and is not parked.
    Edge,
    /// Another worker has the job (`busy-wait`): nothing failed, any number of times.
    Busy,
    /// The disk under the audit log or the ledger failed: the daemon must stop receiving.
    Disk,
}

/// The shortest wait for a disk that is full.
const DISK_AT_LEAST: Duration = Duration::from_secs(15);

/// The shortest wait for an edge that failed: its pause ends within seconds.
const EDGE_AT_LEAST: Duration = Duration::from_secs(3);

/// The shortest wait for a store that fails, or hangs, at one name and answers other requests.
const NAME_AT_LEAST: Duration = Duration::from_secs(15);

/// The wait after an edge has asked to slow down or the session of the credentials has ended, and the wait after a
/// failure that operators have to repair.
const THROTTLED_AT_LEAST: Duration = Duration::from_secs(10);
const DENIED_AT_LEAST: Duration = Duration::from_secs(60);

/// The longest wait of a job whose mails are to try no relay that is down: another job may have tried it meanwhile.
const SPARED_AT_MOST: Duration = Duration::from_secs(30);

/// The wait for credentials that end too soon, while no request fails for them.
const CREDENTIALS_AT_LEAST: Duration = Duration::from_secs(15);

/// The shortest wait for recipients whom a relay deferred: each run serves the recipients whose wait is over, and they
/// are many.
const LATER_AT_LEAST: Duration = Duration::from_secs(30);

/// The wait of a job for a place among those that make renditions, which takes them seconds or minutes.
const RENDITIONS_AT_LEAST: Duration = Duration::from_secs(5);

/// How long a message is hidden whose job another worker has: the lease of a dead worker expires not much later.
const BUSY_WAIT: Duration = Duration::from_secs(30);

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is done.
    Delete,
    /// It comes back after a while.
    Retry {
        /// How long it stays hidden.
        after: Duration,
    },
    /// It is parked, with the reason, for an operator.
    Park,
}

/// When to give up, and how long to wait before.
#[derive(Debug, Clone, Copy)]
pub struct RetryLimits {
    /// After how many failures a job is parked.
    pub max_receives: u32,
    /// The wait after the first failure; doubled for each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            max_receives: 20,
            first_wait: Duration::from_secs(10),
            longest_wait: Duration::from_secs(15 * 60),
        }
    }
}

impl From<SavedError> for JobError {
    fn from(error: SavedError) -> Self {
        match error {
            SavedError::Gather(error) => error.into(),
            SavedError::Ledger(error) => error.into(),
            SavedError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl From<ArchiveError> for JobError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Zip(error) => Self::Zip(error),
            ArchiveError::Store(error) => GatherError::Store(error).into(),
            ArchiveError::Gather(error) => error.into(),
            ArchiveError::Name(error) => error.into(),
            ArchiveError::Deliver(error) => error.into(),
            ArchiveError::Ledger(error) => error.into(),
            ArchiveError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl JobError {
    /// The meaning of the error. The table of the design, row by row.
    pub fn class(&self) -> FailureClass {
        // Not later each time: the file system may be back, and the credentials be renewed, at any moment.
        if self.is_of_a_place_away() || self.is_of_ending_credentials() {
            return FailureClass::Deferred;
        }
        if self.is_of_an_edge() {
            return FailureClass::Edge;
        }
        match self {
            Self::Parse(_)
            | Self::Conflict { .. }
            | Self::UnknownConnection { .. }
            | Self::Poison { .. }
            | Self::Sign(_) => FailureClass::Permanent,
            Self::Plan(error) => match error {
                PlanError::Refused(_)
                | PlanError::Shortfall(_)
                | PlanError::Published(_)
                | PlanError::NoCloudfront { .. }
                | PlanError::NoRoom(_)
                | PlanError::Unlinked { .. } => FailureClass::Policy,
                PlanError::Phrase { .. }
                | PlanError::Name { .. }
                | PlanError::DotSegments { .. }
                | PlanError::LongMessage { .. }
                | PlanError::Template { .. }
                | PlanError::Locale { .. } => FailureClass::Permanent,
            },
            Self::List(error) => match error {
                ListError::Refused(_) => FailureClass::Policy,
                ListError::Unknown { .. } | ListError::Row { .. } | ListError::Whole { .. } => {
                    FailureClass::Permanent
                }
                ListError::Store { source, .. } => edge(source),
                // The operator's file or disk is the cause, not the job.
                ListError::File { .. } => FailureClass::Edge,
            },
            Self::Gather(error) => match error {
                GatherError::Store(error) => edge(error),
                GatherError::OutOfOrder { .. }
                | GatherError::Endless(_)
                | GatherError::TooMany { .. }
                | GatherError::TooLong => FailureClass::Permanent,
                GatherError::Refused(_) => FailureClass::Policy,
                // The operator's disk or clock is the cause, not the job.
                GatherError::Spool { .. } | GatherError::Skew { .. } => FailureClass::Edge,
                GatherError::Stopped(_) => FailureClass::Transient,
            },
            Self::Signer(error) => signer(error),
            Self::Record(error) if error.is_full() => FailureClass::Deferred,
            Self::Record(error) => match error {
                RecordError::TooLong { .. } => FailureClass::Permanent,
                RecordError::Write { .. }
                | RecordError::Closed
                | RecordError::Open { .. }
                | RecordError::Changed { .. }
                | RecordError::Foreign { .. }
                | RecordError::Registry { .. }
                | RecordError::Damaged { .. } => FailureClass::Disk,
            },
            Self::Zip(error) => match error {
                ZipError::TooManyFiles { .. }
                | ZipError::TooManyZips { .. }
                | ZipError::OtherRegion { .. } => FailureClass::Permanent,
                ZipError::Restless | ZipError::WrongSums | ZipError::Contradiction => {
                    FailureClass::Transient
                }
            },
            Self::Render(error) => match error {
                RenderError::Template { .. }
                | RenderError::Phrase { .. }
                | RenderError::TooLarge { .. } => FailureClass::Permanent,
                // The pages and the links were counted at different times: a retry makes them agree.
                RenderError::Changed { .. } | RenderError::PageLinks { .. } => {
                    FailureClass::Transient
                }
            },
            Self::Deliver(error) => match error {
                DeliverError::Publish(error) => edge(error),
                DeliverError::Relay(_)
                | DeliverError::Later { .. }
                | DeliverError::Paced { .. } => FailureClass::Deferred,
                // The job's prefix leaves no room for a name in the bucket, or in the directory.
                DeliverError::File { source, .. }
                    if source.kind() == io::ErrorKind::InvalidFilename =>
                {
                    FailureClass::Permanent
                }
                DeliverError::File { .. } => FailureClass::Transient,
                DeliverError::Taken { .. } => FailureClass::Busy,
                DeliverError::Notice { .. }
                | DeliverError::NoRelay { .. }
                | DeliverError::Exhausted { .. } => FailureClass::Permanent,
            },
            Self::Payload { source, .. } => edge(source),
            Self::Down(_) | Self::Spared { .. } | Self::RenditionsBusy { .. } => {
                FailureClass::Deferred
            }
            Self::Busy { .. } | Self::Reopened => FailureClass::Busy,
            Self::Ledger(error) => match error {
                LedgerError::Database { source, .. } if source.is_disk() => FailureClass::Disk,
                // The operator must repair a ledger that cannot be used, and then the job can be done.
                LedgerError::Store(_)
                | LedgerError::Database { .. }
                | LedgerError::ConditionalWritesUnsupported { .. }
                | LedgerError::OtherSecret { .. }
                | LedgerError::Newer { .. } => FailureClass::Deferred,
                LedgerError::Damaged { .. } | LedgerError::Unreadable { .. } => {
                    FailureClass::Permanent
                }
            },
            Self::Deferred { first, .. } => first.class(),
            // The job is done; parking it would report it as one that cannot be done.
            Self::Results(_) => FailureClass::Deferred,
            Self::Aged(_) | Self::Stopped(_) | Self::Panicked => FailureClass::Transient,
        }
    }

    /// The outage that delays the job; it was logged when it began.
    pub fn outage(&self) -> Option<&Outage> {
        if let Self::Down(outage) | Self::Results(ResultsError::Down(outage)) = self {
            Some(outage)
        } else {
            None
        }
    }

    /// The outage of the relay that no mail of this job is to try; it was logged when it began.
    pub fn spared(&self) -> Option<&Outage> {
        if let Self::Deferred { first, .. } = self {
            return first.spared();
        }
        if let Self::Spared { outage, .. } = self {
            return Some(outage);
        }
        None
    }

    /// Whether the source of the signing credentials is about to renew them.
    fn is_of_ending_credentials(&self) -> bool {
        matches!(self, Self::Plan(error) if error.is_of_credentials())
    }

    /// Whether a file system that the job needs does not respond, or its server is gone.
    fn is_of_a_place_away(&self) -> bool {
        self.of_a_file().is_some_and(is_away)
    }

    /// Whether a directory that the job needs does not respond: that was logged when it began.
    pub fn is_of_a_hanging_place(&self) -> bool {
        let source = self.of_a_file();
        source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
    }

    /// The error of the file system at a place that is the operator's, and none of the job's records.
    fn of_a_file(&self) -> Option<&io::Error> {
        match self {
            Self::Gather(GatherError::Spool { source, .. })
            | Self::List(ListError::File { source, .. })
            | Self::Deliver(DeliverError::File { source, .. }) => Some(source),
            Self::Deferred { first, .. } => first.of_a_file(),
            Self::Parse(_)
            | Self::Payload { .. }
            | Self::Plan(_)
            | Self::List(_)
            | Self::Conflict { .. }
            | Self::UnknownConnection { .. }
            | Self::Gather(_)
            | Self::Signer(_)
            | Self::Sign(_)
            | Self::Record(_)
            | Self::Zip(_)
            | Self::Render(_)
            | Self::Deliver(_)
            | Self::Down(_)
            | Self::Spared { .. }
            | Self::Ledger(_)
            | Self::Busy { .. }
            | Self::RenditionsBusy { .. }
            | Self::Reopened
            | Self::Results(_)
            | Self::Aged(_)
            | Self::Stopped(_)
            | Self::Poison { .. }
            | Self::Panicked => None,
        }
    }

    /// Whether the relay replied to others, and not about a mail of this job.
    pub fn is_overtaken(&self) -> bool {
        let error = if let Self::Deferred { first, .. } = self {
            first
        } else {
            self
        };
        matches!(error, Self::Deliver(DeliverError::Relay(error)) if error.is_of_mail())
    }

    /// Whether a request to the outside, or a write to a disk, failed for a reason that has nothing to do with the job.
    fn is_of_an_edge(&self) -> bool {
        match self {
            Self::Gather(GatherError::Store(error))
            | Self::Deliver(DeliverError::Publish(error))
            | Self::Payload { source: error, .. }
            | Self::List(ListError::Store { source: error, .. }) => {
                edge(error) == FailureClass::Edge
            }
            // The keys of the ledger are Handout's own, so that a rejected request is no fault of the job.
            Self::Gather(GatherError::Spool { .. } | GatherError::Skew { .. })
            | Self::List(ListError::File { .. })
            | Self::Ledger(LedgerError::Store(_)) => true,
            Self::Signer(error) => signer(error) == FailureClass::Edge,
            // Where the relay replies to others, the mail waits for a time of its own.
            Self::Deliver(DeliverError::Relay(error)) => !error.is_of_mail(),
            Self::Deliver(DeliverError::File { source, .. }) => is_of_disk(source),
            Self::Deferred { first, .. } => first.is_of_an_edge(),
            Self::Record(error) => error.is_full(),
            Self::Plan(error) => error.is_of_credentials(),
            Self::Gather(_)
            | Self::Deliver(_)
            | Self::Ledger(_)
            | Self::List(_)
            | Self::Parse(_)
            | Self::Conflict { .. }
            | Self::UnknownConnection { .. }
            | Self::Sign(_)
            | Self::Zip(_)
            | Self::Render(_)
            | Self::Down(_)
            | Self::Spared { .. }
            | Self::Busy { .. }
            | Self::RenditionsBusy { .. }
            | Self::Reopened
            | Self::Results(_)
            | Self::Aged(_)
            | Self::Stopped(_)
            | Self::Poison { .. }
            | Self::Panicked => false,
        }
    }

    /// The outage in place of the error that it caused: the job comes back when the outage is over, and not later and
    /// later.
    #[must_use]
    pub fn or_outage(self, outage: Option<Outage>) -> Self {
        match outage {
            Some(outage) if self.is_of_an_edge() => Self::Down(outage),
            Some(_) | None => self,
        }
    }

    /// The answer of a store or a ledger that is the cause.
    fn store_error(&self) -> Option<&EdgeError> {
        match self {
            Self::Gather(GatherError::Store(source))
            | Self::Deliver(DeliverError::Publish(source))
            | Self::Ledger(LedgerError::Store(source))
            | Self::Payload { source, .. }
            | Self::List(ListError::Store { source, .. }) => Some(source),
            Self::Deferred { first, .. } => first.store_error(),
            Self::Gather(_)
            | Self::Deliver(_)
            | Self::Ledger(_)
            | Self::List(_)
            | Self::Parse(_)
            | Self::Plan(_)
            | Self::Conflict { .. }
            | Self::UnknownConnection { .. }
            | Self::Signer(_)
            | Self::Sign(_)
            | Self::Record(_)
            | Self::Zip(_)
            | Self::Render(_)
            | Self::Down(_)
            | Self::Spared { .. }
            | Self::Busy { .. }
            | Self::RenditionsBusy { .. }
            | Self::Reopened
            | Self::Results(_)
            | Self::Aged(_)
            | Self::Stopped(_)
            | Self::Poison { .. }
            | Self::Panicked => None,
        }
    }

    /// Whether a service accepted the request and denied it.
    pub fn is_denial(&self) -> bool {
        self.store_error()
            .is_some_and(|error| error.fact == ErrorKind::Denied)
    }

    /// Whether the answer that denied the request may be this edge's.
    pub fn is_denial_by(&self, edge: &Edge) -> bool {
        if let Self::Deferred { first, .. } = self {
            return first.is_denial_by(edge);
        }
        let Some(error) = self
            .store_error()
            .filter(|error| error.fact == ErrorKind::Denied)
        else {
            return false;
        };
        let answer = error.answer.as_deref();
        let section = answer.and_then(|answer| answer.section.as_deref());
        // The answer that denied may be that of the source of credentials, and then no section is known.
        let is_of_connection =
            section.is_none_or(|section| section.strip_prefix("connections.") == Some(edge.name()));
        let is_of_ledger = matches!(self, Self::Ledger(_));
        match edge.kind() {
            EdgeKind::Ledger => is_of_ledger,
            EdgeKind::Store | EdgeKind::Credentials => is_of_connection && !is_of_ledger,
            EdgeKind::Queue
            | EdgeKind::Relay
            | EdgeKind::Results
            | EdgeKind::Parked
            | EdgeKind::Audit
            | EdgeKind::Archive
            | EdgeKind::Oidc
            | EdgeKind::Feedback => false,
        }
    }

    /// Whether the job only waits for others that make renditions.
    pub fn is_of_renditions(&self) -> bool {
        if let Self::Deferred { first, .. } = self {
            return first.is_of_renditions();
        }
        matches!(self, Self::RenditionsBusy { .. })
    }

    /// Whether the configuration names a wrong place of the bucket.
    pub fn is_of_configuration(&self) -> bool {
        self.store_error()
            .is_some_and(|error| error.fact == ErrorKind::Elsewhere)
    }

    /// Whether the run was only cancelled.
    pub fn is_stopped(&self) -> bool {
        matches!(
            self,
            Self::Stopped(_) | Self::Gather(GatherError::Stopped(_))
        )
    }

    /// Of several errors, the one that decides about their message: recipients who can still be served must be.
    pub fn most_hopeful(errors: Vec<Self>) -> Option<Self> {
        let hope = |error: &Self| match error.class() {
            // The disk first: links are handed out only after its repair, and then all of them can be.
            FailureClass::Disk => 0,
            FailureClass::Transient if error.is_stopped() => 1,
            FailureClass::Busy => 2,
            FailureClass::Deferred | FailureClass::Edge => 3,
            FailureClass::Transient => 4,
            FailureClass::Policy => 5,
            FailureClass::Permanent => 6,
        };
        errors.into_iter().min_by_key(hope)
    }

    /// How long to wait at least before the next try, according to the failed component.
    pub fn at_least(&self) -> Duration {
        match self {
            Self::Deliver(DeliverError::Relay(error)) => error.at_least(),
            Self::Deliver(DeliverError::Later { after, .. }) => (*after).max(LATER_AT_LEAST),
            Self::Deliver(DeliverError::Paced { after, .. }) => *after,
            Self::Down(outage) | Self::Results(ResultsError::Down(outage)) => {
                outage.left.max(EDGE_AT_LEAST)
            }
            Self::Spared { outage, after } => outage.left.max(*after).min(SPARED_AT_MOST),
            Self::Plan(error) if error.is_of_credentials() => CREDENTIALS_AT_LEAST,
            Self::Results(ResultsError::File { .. }) => DISK_AT_LEAST,
            // The next failure is an outage of the receiver, which has a pause of its own.
            Self::Results(ResultsError::Queue(error) | ResultsError::Webhook(error)) => {
                EDGE_AT_LEAST.max(error.left_alone())
            }
            Self::RenditionsBusy { .. } => RENDITIONS_AT_LEAST,
            Self::Gather(GatherError::Store(error))
            | Self::Deliver(DeliverError::Publish(error))
            | Self::Ledger(LedgerError::Store(error))
            | Self::Payload { source: error, .. }
            | Self::List(ListError::Store { source: error, .. }) => edge_at_least(error),
            Self::Signer(SignerError::NoCredentials { .. } | SignerError::Slow { .. }) => {
                EDGE_AT_LEAST
            }
            Self::Deferred { at_least, .. } => *at_least,
            Self::Gather(GatherError::Spool { .. }) | Self::List(ListError::File { .. }) => {
                DISK_AT_LEAST
            }
            Self::Record(error) if error.is_full() => DISK_AT_LEAST,
            Self::Ledger(error) if error.is_full() => DISK_AT_LEAST,
            Self::Deliver(DeliverError::File { source, .. }) if is_of_disk(source) => DISK_AT_LEAST,
            Self::Deliver(_)
            | Self::List(_)
            | Self::Parse(_)
            | Self::Plan(_)
            | Self::Conflict { .. }
            | Self::UnknownConnection { .. }
            | Self::Gather(_)
            | Self::Signer(_)
            | Self::Sign(_)
            | Self::Record(_)
            | Self::Zip(_)
            | Self::Render(_)
            | Self::Ledger(_)
            | Self::Busy { .. }
            | Self::Reopened
            | Self::Aged(_)
            | Self::Stopped(_)
            | Self::Poison { .. }
            | Self::Panicked => Duration::ZERO,
        }
    }

    /// Several recipients' errors as one about their job.
    pub fn deferred(failed: Vec<Self>) -> Option<Self> {
        let count = failed.len();
        let soonest = failed.iter().map(Self::at_least).min();
        Some(Self::Deferred {
            count,
            at_least: soonest.unwrap_or_default(),
            first: Box::new(Self::most_hopeful(failed)?),
        })
    }

    /// The errors of two groups of recipients as one.
    pub(crate) fn together(before: Option<Self>, more: Self) -> Self {
        match (before, more) {
            (
                Some(Self::Deferred {
                    count,
                    at_least,
                    first,
                }),
                Self::Deferred {
                    count: others,
                    at_least: sooner,
                    first: other,
                },
            ) => {
                let first = Self::most_hopeful(vec![*first, *other]);
                Self::Deferred {
                    count: count + others,
                    at_least: at_least.min(sooner),
                    first: Box::new(first.expect("of two errors there is one")),
                }
            }
            (_, more) => more,
        }
    }

    /// What the reason of a parked message may add: only who sees the message may see it.
    pub fn for_readers(&self) -> Option<&str> {
        if let Self::Parse(error) = self {
            return error.for_readers();
        }
        None
    }

    /// Whether an operator is needed: credentials and disks do not recover by themselves.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Gather(GatherError::Store(error))
            | Self::Deliver(DeliverError::Publish(error))
            | Self::Payload { source: error, .. }
            | Self::List(ListError::Store { source: error, .. }) => {
                matches!(error.fact, ErrorKind::Denied | ErrorKind::Elsewhere)
            }
            Self::Signer(_)
            | Self::List(ListError::File { .. })
            | Self::Gather(GatherError::Skew { .. })
            | Self::Poison { .. }
            | Self::Panicked => true,
            Self::Deliver(DeliverError::Relay(error)) => error.needs_a_person(),
            Self::Deferred { first, .. } => first.needs_a_person(),
            Self::Ledger(LedgerError::Store(error)) => !error.fact.may_pass(),
            Self::Results(error) => match error {
                ResultsError::Queue(error) | ResultsError::Webhook(error) => !error.fact.may_pass(),
                ResultsError::File { .. } => true,
                ResultsError::Down(_) => false,
            },
            Self::Record(_) | Self::Ledger(_) => self.class() == FailureClass::Disk,
            Self::Parse(_)
            | Self::List(_)
            | Self::Plan(_)
            | Self::Conflict { .. }
            | Self::UnknownConnection { .. }
            | Self::Gather(_)
            | Self::Sign(_)
            | Self::Zip(_)
            | Self::Render(_)
            | Self::Down(_)
            | Self::Spared { .. }
            | Self::Busy { .. }
            | Self::RenditionsBusy { .. }
            | Self::Reopened
            | Self::Aged(_)
            | Self::Stopped(_)
            | Self::Deliver(_) => false,
        }
    }
}

/// How long to wait at least before an edge is tried again: as long as it asks for, or as long as such a failure lasts.
pub(crate) fn edge_at_least(error: &EdgeError) -> Duration {
    let usual = match error.fact {
        // Such a name holds a slot for half a minute, which other jobs need.
        ErrorKind::Unreachable | ErrorKind::Silent if error.has_failed_at_name() => NAME_AT_LEAST,
        ErrorKind::Unreachable | ErrorKind::Silent | ErrorKind::Failed => EDGE_AT_LEAST,
        // The next session may start soon, without an operator, and NTP may set the clock.
        ErrorKind::Denied if error.is_of_session() || error.is_of_clock() => THROTTLED_AT_LEAST,
        ErrorKind::Throttled => THROTTLED_AT_LEAST,
        ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Elsewhere | ErrorKind::Rejected => {
            DENIED_AT_LEAST
        }
    };
    usual.max(error.left_alone())
}

fn edge(error: &EdgeError) -> FailureClass {
    match error.fact {
        ErrorKind::NotFound | ErrorKind::Rejected => FailureClass::Permanent,
        // These errors say nothing about the job, which can be done when the edge is well again: it waits.
        ErrorKind::Denied
        | ErrorKind::Throttled
        | ErrorKind::Unreachable
        | ErrorKind::Silent
        | ErrorKind::Failed
        | ErrorKind::Elsewhere => FailureClass::Edge,
    }
}

const fn signer(error: &SignerError) -> FailureClass {
    match error {
        SignerError::NoCredentials { .. } | SignerError::Slow { .. } => FailureClass::Edge,
        SignerError::Changed { .. } => FailureClass::Transient,
        SignerError::Endpoint { .. } => FailureClass::Permanent,
    }
}

/// Whether a file could not be read or written for a reason that is independent of the file: the disk is full or read-only, or its file system
/// is away.
fn is_of_disk(source: &io::Error) -> bool {
    is_full(source) || is_away(source) || source.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// What happens to the message of a job that failed so at its `tries`-th try. It comes back in `at_least` and a little
/// more, or, if that is zero, later each time.
///
/// For [`FailureClass::Transient`] and [`FailureClass::Edge`] a try is a failure: receipts during an outage or while
/// another worker has the job do not count. For the others it is a receipt.
///
/// `jitter` between 0 and 1 spreads the waits, so that simultaneous failures do not come back together.
pub fn disposition(
    class: FailureClass,
    tries: u32,
    limits: &RetryLimits,
    at_least: Duration,
    jitter: f64,
) -> Disposition {
    let jitter = jitter.clamp(0.0, 1.0);
    match class {
        FailureClass::Permanent | FailureClass::Policy => Disposition::Park,
        FailureClass::Busy => Disposition::Retry {
            after: BUSY_WAIT.mul_f64(0.5 + 0.5 * jitter),
        },
        FailureClass::Deferred if !at_least.is_zero() => Disposition::Retry {
            after: at_least.mul_f64(1.0 + 0.1 * jitter),
        },
        FailureClass::Transient if tries >= limits.max_receives => Disposition::Park,
        FailureClass::Transient
        | FailureClass::Deferred
        | FailureClass::Edge
        | FailureClass::Disk => {
            let doublings = tries.saturating_sub(1).min(16);
            let wait = limits
                .first_wait
                .saturating_mul(1 << doublings)
                .min(limits.longest_wait);
            Disposition::Retry {
                after: wait.mul_f64(0.5 + 0.5 * jitter).max(at_least),
            }
        }
    }
}

#[cfg(test)]
mod tests;
