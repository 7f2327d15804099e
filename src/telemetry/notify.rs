//! Notifies systemd: ready, alive, stopping. Without systemd, nothing is sent.

use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

use crate::progress::Progress;
use crate::text::counted;

/// The silence of the worker's loop after which it counts as stuck: the longest poll and its deadline, with a margin. Whether the
/// queue, a store or a relay answers does not affect liveness, since a restart repairs none of them: see `/ready`.
const MAX_SILENCE: Duration = Duration::from_secs(90);

/// Whether the worker makes progress. Its progress counters drive this; a timer would continue in a stuck process.
#[derive(Debug, Clone)]
pub struct Pulse {
    progress: Progress,
    last: Arc<Mutex<(u64, Instant)>>,
}

impl Pulse {
    /// A pulse that is taken from `progress`.
    pub fn of(progress: Progress) -> Self {
        Self {
            progress,
            last: Arc::new(Mutex::new((0, Instant::now()))),
        }
    }

    /// Whether there was progress lately.
    pub fn is_beating(&self) -> bool {
        let counts = self.progress.snapshot();
        // A worker that waits for disk space makes progress: a restart would not free any.
        let movement = counts.polls
            + counts.waits
            + counts.turns
            + counts.objects_found
            + counts.links_issued
            + counts.mails_accepted
            + counts.jobs_done;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if movement != last.0 {
            *last = (movement, Instant::now());
        }
        last.1.elapsed() < MAX_SILENCE
    }
}

/// Reports readiness after the first answer of the queue; does not return.
pub async fn ready_when_polled(progress: &Progress) {
    while progress.snapshot().polls == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tell(&[NotifyState::Ready]);
    std::future::pending::<()>().await;
}

/// Reports readiness.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that a reload has started. The supervisor waits for [`reloaded`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "could not tell systemd"),
    }
}

/// Reports that the reload has ended, with or without success.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Reports a regular shutdown.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds systemd's watchdog, if configured, while the worker makes progress.
pub async fn feed_watchdog(pulse: Pulse) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(limit / 3).await;
        if pulse.is_beating() {
            let counts = pulse.progress.snapshot();
            let status = format!(
                "{} done, {} parked, {}",
                counted(counts.jobs_done, "job"),
                counts.jobs_parked,
                counted(counts.links_issued, "link")
            );
            tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        }
    }
}

/// How many notifications wait for a supervisor that does not read. The first of them is usually that the daemon is ready.
const MAX_WAITING: usize = 8;

/// How long a notification is waited for, so that the last one is sent before the process ends.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// A notification, and where to report that it was sent.
type Notification = (String, SyncSender<()>);

/// Sends a notification. The socket of a supervisor that does not read blocks its sender, which is a thread of its own: the daemon
/// goes on.
fn tell(states: &[NotifyState<'_>]) {
    static SENDER: OnceLock<Option<SyncSender<Notification>>> = OnceLock::new();
    let Some(sender) = SENDER.get_or_init(sender) else {
        return;
    };
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    let (sent, is_sent) = mpsc::sync_channel(1);
    match sender.try_send((lines.join("\n"), sent)) {
        Ok(()) => drop(is_sent.recv_timeout(SENT_WITHIN)),
        Err(error) => tracing::debug!(%error, "could not tell systemd"),
    }
}

/// The thread that sends; `None` without a supervisor.
fn sender() -> Option<SyncSender<Notification>> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let (sender, waiting) = mpsc::sync_channel::<Notification>(MAX_WAITING);
    let sending = move || {
        for (text, sent) in waiting {
            if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&text)]) {
                tracing::debug!(%error, "could not tell systemd");
            }
            sent.send(()).ok();
        }
    };
    let thread = std::thread::Builder::new().name("notify".to_owned());
    thread.spawn(sending).ok().map(|_| sender)
}
