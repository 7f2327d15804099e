//! The limits for clients of the endpoint: connections, requests, bytes and time.
//!
//! With one file for each answer, all limits stay far below 1,024, the default limit of open files of a process.

use std::time::Duration;

/// The maximum number of connections without a signed request; a further one closes the longest-waiting one.
pub(crate) const MAX_WAITING: usize = 128;

/// The maximum number of link requests that are answered at once. A further one takes the slot of an answer that is read too
/// slowly, or receives `SlowDown`.
pub(crate) const MAX_LINKS: usize = 192;

/// The maximum number of requests by one link that are answered at once; a further one receives `SlowDown`. A browser or a
/// download manager opens six to sixteen.
pub(crate) const MAX_SAME_LINK: usize = 16;

/// The period over which a connection's throughput is measured.
///
/// The kernel buffers megabytes for a client at once, and then accepts nothing for a few seconds, although the client reads.
pub(crate) const PACE_PERIOD: Duration = Duration::from_secs(5);

/// The number of bytes in [`PACE_PERIOD`] that protects a client's slot while all are taken: 128 KiB a second.
pub(crate) const MIN_PACE_BYTES: usize = 640 << 10;

/// The maximum number of daemon requests that are answered at once; further ones wait. Links cannot take these slots.
pub(crate) const MAX_OWN_REQUESTS: usize = 32;

/// The maximum size of a request's head, in bytes: a link with a session token takes 5 KB, and S3 itself limits headers to 8 KB.
pub(crate) const MAX_HEAD_BYTES: usize = 32 << 10;

/// The maximum duration of a request's head, and of the pause between two requests of a connection.
pub(crate) const MAX_HEAD_TIME: Duration = Duration::from_secs(15);

/// The minimum number of bytes that a client must accept within [`MAX_WRITE_STALL`] while data is pending: 1 KiB a second.
pub(crate) const MIN_WRITTEN_BYTES: usize = 60 << 10;

/// How long a client may accept less than [`MIN_WRITTEN_BYTES`] of pending data.
pub(crate) const MAX_WRITE_STALL: Duration = Duration::from_secs(60);

/// The most lines of the access log that wait for the disk.
pub(crate) const MAX_LOG_LINES_WAITING: usize = 4_096;

/// The length after which another file of the access log begins, in bytes.
pub(crate) const MAX_LOG_FILE_BYTES: usize = 16 << 20;
