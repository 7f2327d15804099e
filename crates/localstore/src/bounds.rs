//! How much a client may take of the endpoint: connections, requests, bytes and time.
//!
//! With a file for each answer, all of them are far below the 1,024 open files that a process gets by default.

use std::time::Duration;

/// Connections without a signed request: of more, the one that waited longest is closed.
pub(crate) const MAX_WAITING: usize = 128;

/// Requests by links that are answered at once: one more takes the slot of an answer that is read too slowly, or is told to
/// slow down.
pub(crate) const MAX_LINKS: usize = 192;

/// Requests by one link that are answered at once: one more is told to slow down. A browser or a download manager opens six to
/// sixteen.
pub(crate) const MAX_SAME_LINK: usize = 16;

/// How long the pace of a connection is looked at.
///
/// The kernel takes megabytes for a client at once, and then nothing for a
/// few seconds, although the client reads.
pub(crate) const PACE_PERIOD: Duration = Duration::from_secs(5);

/// What a client must move in [`PACE_PERIOD`] to keep its slot for certain while all are taken: 128 KiB a second.
pub(crate) const MIN_PACE_BYTES: usize = 640 << 10;

/// Requests of the daemon that are answered at once: more wait. No link takes one of these slots.
pub(crate) const MAX_OWN_REQUESTS: usize = 32;

/// The longest head of a request, in bytes: a link with a session token takes 5 KB, and S3
/// itself stops at 8 KB of headers.
pub(crate) const MAX_HEAD_BYTES: usize = 32 << 10;

/// How long the head of a request may take, and the pause between two requests of a connection.
pub(crate) const MAX_HEAD_TIME: Duration = Duration::from_secs(15);

/// What a client must take while [`MAX_WRITE_STALL`] passes and bytes wait for it: 1 KiB a
/// second.
pub(crate) const MIN_WRITTEN_BYTES: usize = 60 << 10;

/// How long a client may take nothing, or next to nothing, of what is sent.
pub(crate) const MAX_WRITE_STALL: Duration = Duration::from_secs(60);
