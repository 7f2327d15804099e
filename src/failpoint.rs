//! Named places at which a test ends the process, as a crash would: what `make crash` kills it with.
//!
//! `HANDOUT_FAILPOINT=intended:3` in the environment of a debug build sends it SIGKILL when it comes to that place for the
//! third time. Only debug builds have this, so that no second build is needed for the tests and no switch is left for
//! others: in a release build [`pass`] is empty, and the variable is refused like every other that is no key.

/// A place in the work after which a crash leaves something different behind; in the order in which a job comes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A message was received; nothing is known about it yet.
    Received,
    /// The lease on the job is ours; only where several workers share a ledger.
    Leased,
    /// The objects are known.
    Listed,
    /// The job's id belongs to its body and to these objects.
    Planned,
    /// A batch of links is signed, and not recorded.
    Signed,
    /// The lines of a batch are on the disk.
    Recorded,
    /// The pages and lists of an audience are where their readers find them.
    Published,
    /// The relay said "go on" (354).
    GoAhead,
    /// The intent is recorded; nothing of the text is sent.
    Intended,
    /// Half of the text is sent.
    HalfSent,
    /// The relay's reply to the dot is read, and not recorded.
    Replied,
    /// The outcome is in the ledger.
    Concluded,
    /// The outcome is in the audit log too.
    Told,
    /// What a dead process left is recorded as unknown, and not decided.
    Doubted,
    /// It is decided that the mail is sent again.
    Decided,
    /// Everybody has an end.
    Served,
    /// That is recorded; the message is still there.
    Done,
    /// The message is deleted.
    Deleted,
    /// A refusal is in the audit log; its message is not parked yet.
    Refused,
    /// It was told to stop, and work is in flight.
    Draining,
    /// A segment of the audit log has its last line, a checkpoint before it; the next segment is not there.
    Rotating,
    /// The next segment is there; the state beside the stream is that of before.
    Rotated,
}

#[cfg(debug_assertions)]
pub use armed::{VARIABLE, arm};

/// Comes to a place: the end, if a test wants it to be.
#[cfg(debug_assertions)]
pub fn pass(point: Failpoint) {
    armed::pass(point);
}

/// Comes to a place. Nothing happens there in a release build.
#[cfg(not(debug_assertions))]
pub const fn pass(_point: Failpoint) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Failpoint;
    /// The variable that says where to end: `NAME` or `NAME:PASSAGE`, counted from 1.
    pub const VARIABLE: &str = "HANDOUT_FAILPOINT";

    static ARMED: OnceLock<Armed> = OnceLock::new();

    struct Armed {
        name: String,
        passages: AtomicU32,
    }

    /// Ends the process at the place that is named, as [`VARIABLE`] names it.
    pub fn arm(wanted: &str) {
        let (name, passage) = wanted.split_once(':').unwrap_or((wanted, "1"));
        let armed = Armed {
            name: name.to_owned(),
            passages: AtomicU32::new(passage.parse().unwrap_or(1)),
        };
        // Armed twice is armed as the first time.
        drop(ARMED.set(armed));
    }

    pub(super) fn pass(point: Failpoint) {
        let Some(armed) = ARMED.get() else { return };
        if armed.name == point.name() && armed.passages.fetch_sub(1, Ordering::SeqCst) == 1 {
            die();
        }
    }

    /// Waits in this thread for a real `kill -9`; the other threads go on until it comes, as they do in a real crash.
    fn die() -> ! {
        let this = std::process::id().to_string();
        drop(
            std::process::Command::new("kill")
                .args(["-KILL", &this])
                .status(),
        );
        // Only a machine without the command comes here.
        std::process::abort()
    }
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Received,
        Self::Leased,
        Self::Listed,
        Self::Planned,
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
    ];

    /// The name by which a test asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Leased => "leased",
            Self::Listed => "listed",
            Self::Planned => "planned",
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
        }
    }
}
