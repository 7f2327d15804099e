//! What works beside the daemon's work, also when that is blocked: the answers about its health, and signals.
//!
//! It has a thread and a runtime of its own. A library that reads a file which is a FIFO, or a disk that hangs, stops the
//! work; a supervisor must still be told so, and must still be able to end the program.

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use handout::telemetry::{self, http::Health};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::run::Signals;

/// How long a start that was told to stop is waited for.
const LAST_START: Duration = Duration::from_secs(5);

/// How long work that was told to stop is waited for after the grace period. The worker is done within ten seconds, and a
/// supervisor is told to give fifteen.
const LAST_WORK: Duration = Duration::from_secs(14);

/// The same after a second signal.
const LAST_STEP: Duration = Duration::from_secs(5);

/// The thread; it ends when this is dropped.
pub(super) struct Beside {
    told: watch::Receiver<u32>,
    reloads: watch::Receiver<u32>,
    done: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// Begins to listen for signals, and to answer where there is a listener. From the first signal on, the program ends
    /// after `grace` and a little more, whether its work has ended or not.
    pub(super) fn start(
        listener: Option<TcpListener>,
        health: Health,
        grace: Duration,
    ) -> io::Result<Self> {
        let (tell, told) = watch::channel(0);
        let (reload, reloads) = watch::channel(0);
        let done = CancellationToken::new();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        let (signals, hangups) = {
            let _entered = runtime.enter();
            (Signals::listen()?, signal(SignalKind::hangup())?)
        };
        let ended = done.clone();
        let work = async move {
            let answers = async {
                if let Some(listener) = listener
                    && let Err(error) = telemetry::http::serve(listener, health.clone()).await
                {
                    tracing::error!(%error, "could not answer on http.listen");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = ended.cancelled() => {}
                () = answers => {}
                () = count(hangups, &reload) => {}
                () = heed_signals(signals, &tell, &health, grace) => end(),
            }
        };
        let thread = std::thread::Builder::new().name("beside".to_owned());
        let thread = thread.spawn(move || runtime.block_on(work))?;
        Ok(Self {
            told,
            reloads,
            done,
            thread: Some(thread),
        })
    }

    /// How often the program was told to read its configuration again: by SIGHUP, from the first moment on.
    pub(super) fn reloads(&self) -> watch::Receiver<u32> {
        self.reloads.clone()
    }

    /// Waits until the program was told to stop so many times.
    pub(super) async fn told(&mut self, times: u32) {
        if self.told.wait_for(|told| *told >= times).await.is_err() {
            // The thread has ended, and with it the only way to be told.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.done.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Counts signals for as long as it is polled.
async fn count(mut signals: Signal, counted: &watch::Sender<u32>) {
    while signals.recv().await.is_some() {
        counted.send_modify(|count| *count += 1);
    }
    std::future::pending::<()>().await;
}

/// Tells of signals, and returns when the program should have ended.
async fn heed_signals(
    mut signals: Signals,
    tell: &watch::Sender<u32>,
    health: &Health,
    grace: Duration,
) {
    signals.next().await;
    tell.send_replace(1);
    let left = match health.is_starting() {
        true => LAST_START,
        false => grace + LAST_WORK,
    };
    if timeout(left, signals.next()).await.is_ok() {
        tell.send_replace(2);
        sleep(LAST_STEP).await;
    }
}

/// Ends the program in the middle of its work. What it did is on the disk, as when it is killed.
#[expect(clippy::exit, reason = "the main thread is blocked and cannot return")]
fn end() {
    tracing::warn!(
        "the work does not end, something in it is blocked: the program ends without it"
    );
    telemetry::flush();
    std::process::exit(0);
}
