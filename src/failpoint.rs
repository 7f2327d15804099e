//! Named places at which a test kills the process, as a crash would; `make crash` uses them.
//!
//! `HANDOUT_FAILPOINT=intended:3` in the environment of a debug build sends it SIGKILL when it reaches that place for the
//! third time. Only debug builds have failpoints, which are also the builds that tests use. In a release build [`pass`] is
//! empty, and the variable is rejected like every other that is not a configuration key.

/// A place in the work after which a crash leaves a different state behind, in the order in which a job reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A message was received, and is not parsed yet.
    Received,
    /// This worker has the lease on the job; only where several workers share a ledger.
    Leased,
    /// The objects are known.
    Listed,
    /// The job's id belongs to its body and to these objects.
    Planned,
    /// An upload for a ZIP was started and recorded.
    ZipBegun,
    /// A part of a ZIP was copied.
    ZipCopied,
    /// A part of a ZIP was uploaded.
    ZipUploaded,
    /// A ZIP has all its parts, and is not complete yet.
    ZipFilled,
    /// A batch of links is signed, and not recorded yet.
    Signed,
    /// The audit lines of a batch are on the disk.
    Recorded,
    /// The pages and lists of an audience are where their readers find them.
    Published,
    /// The relay replied 354 to DATA.
    GoAhead,
    /// The intent is recorded; none of the text is sent yet.
    Intended,
    /// Half of the text is sent.
    HalfSent,
    /// The relay's reply to the end of DATA is read, and not recorded yet.
    Replied,
    /// The outcome is in the ledger.
    Concluded,
    /// The outcome is in the audit log too.
    Told,
    /// An attempt that a dead process left is recorded as unknown, and its doubt is not resolved yet.
    Doubted,
    /// The doubt is resolved: the mail will be sent again.
    Decided,
    /// Every recipient has a final status.
    Served,
    /// The job is recorded as done; the message is not deleted yet.
    Done,
    /// The message is deleted.
    Deleted,
    /// A refusal is in the audit log; its message is not parked yet.
    Refused,
    /// The worker was told to stop, and jobs are in flight.
    Draining,
    /// A segment of the audit log has its last line, after a checkpoint; the next segment does not exist yet.
    Rotating,
    /// The next segment exists; the stream's saved state is that of before.
    Rotated,
    /// A link of the portal is to be opened: it is not revoked, and the visitor may open it.
    OpenAdmitted,
    /// The signed link of an open exists, and is not recorded yet.
    OpenSigned,
    /// The audit line of an open is on the disk; the redirect is not written yet.
    OpenRecorded,
    /// The audit line of a page of the portal is on the disk; the page is not written yet.
    ViewRecorded,
    /// A try at a code has its slot; what the try came to is not recorded yet.
    TryTaken,
    /// A code is used up; the session that it gives is not recorded yet.
    CodeUsed,
    /// A change to links, such as a revocation, is in the ledger; its audit line is not written yet.
    ChangeCreated,
    /// An object has the tag that revokes its links; the audit line is not written yet.
    ObjectTagged,
    /// The message of a schedule's job is on the queue, and its record does not exist yet.
    ScheduleSent,
    /// A segment of the audit log is compressed and read back; its compressed form has no name yet.
    SegmentDrafted,
    /// Both forms of the segment exist.
    SegmentCompressed,
    /// A compressed segment was put into the archive, and is not verified there yet.
    SegmentShipped,
    /// The registry records that segments were removed; they are still there.
    RemovalRecorded,
    /// The last of these segments is removed.
    RemovalBegun,
    /// A bounce or complaint is recorded; its event is not deleted yet.
    FeedbackRecorded,
    /// The recipients of a job in parts are stored, and its plan does not name them yet.
    Frozen,
    /// Some recipients of a job in parts have a final status, which is not recorded for the job yet.
    ChunkServed,
}

#[cfg(debug_assertions)]
pub use armed::{VARIABLE, arm};

/// Passes a place; kills the process if a test has armed it.
#[cfg(debug_assertions)]
pub fn pass(point: Failpoint) {
    armed::pass(point);
}

/// Passes a place. It does nothing in a release build.
#[cfg(not(debug_assertions))]
pub const fn pass(_point: Failpoint) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Failpoint;
    /// The variable that arms a place: `NAME` or `NAME:PASSAGE`, counted from 1.
    pub const VARIABLE: &str = "HANDOUT_FAILPOINT";

    static ARMED: OnceLock<Armed> = OnceLock::new();

    struct Armed {
        name: String,
        passages: AtomicU32,
    }

    /// Arms a place, in the format of [`VARIABLE`], so that the process is killed there.
    pub fn arm(wanted: &str) {
        let (name, passage) = wanted.split_once(':').unwrap_or((wanted, "1"));
        let armed = Armed {
            name: name.to_owned(),
            passages: AtomicU32::new(passage.parse().unwrap_or(1)),
        };
        // A second call has no effect.
        drop(ARMED.set(armed));
    }

    pub(super) fn pass(point: Failpoint) {
        let Some(armed) = ARMED.get() else { return };
        if armed.name == point.name() && armed.passages.fetch_sub(1, Ordering::SeqCst) == 1 {
            die();
        }
    }

    /// Waits in this thread for a real `kill -9`; the other threads continue until it arrives, as they do in a real crash.
    fn die() -> ! {
        let this = std::process::id().to_string();
        drop(
            std::process::Command::new("kill")
                .args(["-KILL", &this])
                .status(),
        );
        // Only reached on a machine without the command.
        std::process::abort()
    }
}

impl Failpoint {
    /// All places.
    pub const ALL: [Self; 43] = [
        Self::Received,
        Self::Leased,
        Self::Listed,
        Self::Planned,
        Self::ZipBegun,
        Self::ZipCopied,
        Self::ZipUploaded,
        Self::ZipFilled,
        Self::Signed,
        Self::Recorded,
        Self::Published,
        Self::GoAhead,
        Self::Intended,
        Self::HalfSent,
        Self::Replied,
        Self::Concluded,
        Self::Told,
        Self::Doubted,
        Self::Decided,
        Self::Served,
        Self::Done,
        Self::Deleted,
        Self::Refused,
        Self::Draining,
        Self::Rotating,
        Self::Rotated,
        Self::OpenAdmitted,
        Self::OpenSigned,
        Self::OpenRecorded,
        Self::ViewRecorded,
        Self::TryTaken,
        Self::CodeUsed,
        Self::ChangeCreated,
        Self::ObjectTagged,
        Self::ScheduleSent,
        Self::FeedbackRecorded,
        Self::SegmentDrafted,
        Self::SegmentCompressed,
        Self::SegmentShipped,
        Self::RemovalRecorded,
        Self::RemovalBegun,
        Self::Frozen,
        Self::ChunkServed,
    ];

    /// The name by which a test asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Leased => "leased",
            Self::Listed => "listed",
            Self::Planned => "planned",
            Self::ZipBegun => "zip-begun",
            Self::ZipCopied => "zip-copied",
            Self::ZipUploaded => "zip-uploaded",
            Self::ZipFilled => "zip-filled",
            Self::Signed => "signed",
            Self::Recorded => "recorded",
            Self::Published => "published",
            Self::GoAhead => "go-ahead",
            Self::Intended => "intended",
            Self::HalfSent => "half-sent",
            Self::Replied => "replied",
            Self::Concluded => "concluded",
            Self::Told => "told",
            Self::Doubted => "doubted",
            Self::Decided => "decided",
            Self::Served => "served",
            Self::Done => "done",
            Self::Deleted => "deleted",
            Self::Refused => "refused",
            Self::Draining => "draining",
            Self::Rotating => "rotating",
            Self::Rotated => "rotated",
            Self::OpenAdmitted => "open-admitted",
            Self::OpenSigned => "open-signed",
            Self::OpenRecorded => "open-recorded",
            Self::ViewRecorded => "view-recorded",
            Self::TryTaken => "try-taken",
            Self::CodeUsed => "code-used",
            Self::ChangeCreated => "change-created",
            Self::ObjectTagged => "object-tagged",
            Self::Frozen => "frozen",
            Self::ChunkServed => "chunk-served",
            Self::ScheduleSent => "schedule-sent",
            Self::SegmentDrafted => "segment-drafted",
            Self::SegmentCompressed => "segment-compressed",
            Self::SegmentShipped => "segment-shipped",
            Self::RemovalRecorded => "removal-recorded",
            Self::RemovalBegun => "removal-begun",
            Self::FeedbackRecorded => "feedback-recorded",
        }
    }
}
