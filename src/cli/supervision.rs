//! Runs beside the work, even when that is blocked: health endpoints and signals.
//!
//! It has its own thread and runtime. A library that reads a FIFO, or a disk that hangs, can block the work. A supervisor must
//! still get an answer, and must still be able to stop the program.

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use handout::telemetry::{self, http::Health};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::exit;
use super::run::Signals;

/// How long a shutdown during the start waits for the start.
const LAST_START: Duration = Duration::from_secs(5);

/// How long a shutdown waits for the work after the grace period. The worker ends within nine seconds, and what is closed after it
/// may be on a disk that hangs. Supervisors are advised to allow fifteen.
pub(super) const LAST_WORK: Duration = Duration::from_millis(9_800);

/// The same after a second signal, and for a command that waits for no mail in flight.
pub(super) const LAST_STEP: Duration = Duration::from_secs(5);

/// The thread; it ends when this is dropped.
pub(super) struct Beside {
    told: watch::Receiver<u32>,
    reloads: watch::Receiver<u32>,
    done: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// Starts listening for signals, and answering if there is a listener. After the first signal, the program ends after `grace`
    /// plus a margin, even if its work has not ended.
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
            let left = || match health.is_starting() {
                true => LAST_START,
                false => grace + LAST_WORK,
            };
            tokio::select! {
                () = ended.cancelled() => {}
                () = answers => {}
                () = count(hangups, &reload) => {}
                () = heed_signals(signals, &tell, left) => end(exit::SUCCESS),
            }
        };
        Ok(Self {
            told,
            reloads,
            done,
            thread: Some(on_thread(runtime, work)?),
        })
    }

    /// The same for a command that works once: SIGHUP, a closed terminal, ends it, too. The command ends `last` after the first signal
    /// even if a disk that hangs blocks it, with the exit code of a service that is down.
    pub(super) fn of_command(last: Duration) -> io::Result<Self> {
        let (tell, told) = watch::channel(0);
        let (_, reloads) = watch::channel(0);
        let done = CancellationToken::new();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        let signals = {
            let _entered = runtime.enter();
            Signals::listen_at_terminal()?
        };
        let ended = done.clone();
        let work = async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = heed_signals(signals, &tell, || last) => end(exit::UNAVAILABLE),
            }
        };
        Ok(Self {
            told,
            reloads,
            done,
            thread: Some(on_thread(runtime, work)?),
        })
    }

    /// Counts the requested reloads: SIGHUP is handled from the start of the program.
    pub(super) fn reloads(&self) -> watch::Receiver<u32> {
        self.reloads.clone()
    }

    /// Waits for the given number of stop signals.
    pub(super) async fn told(&mut self, times: u32) {
        if self.told.wait_for(|told| *told >= times).await.is_err() {
            // The thread has ended, so no further signal can arrive.
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

fn on_thread(
    runtime: Runtime,
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("beside".to_owned());
    thread.spawn(move || runtime.block_on(work))
}

/// Counts signals while it is polled.
async fn count(mut signals: Signal, counted: &watch::Sender<u32>) {
    while signals.recv().await.is_some() {
        counted.send_modify(|count| *count += 1);
    }
    std::future::pending::<()>().await;
}

/// Publishes signals, and returns when the program should have ended.
async fn heed_signals(
    mut signals: Signals,
    tell: &watch::Sender<u32>,
    left: impl FnOnce() -> Duration,
) {
    signals.next().await;
    tell.send_replace(1);
    if timeout(left(), signals.next()).await.is_ok() {
        tell.send_replace(2);
        sleep(LAST_STEP).await;
    }
}

/// Ends the program while work is running. Completed work is durable, as after `kill -9`.
#[expect(clippy::exit, reason = "the main thread is blocked and cannot return")]
fn end(code: u8) {
    tracing::warn!("shutdown is blocked; exiting without waiting for the work in flight");
    telemetry::flush();
    std::process::exit(code.into());
}
