//! A stream that fails when the client does not read.
//!
//! Every holder of a link can start a download. A client that then reads nothing would hold a connection and an open file
//! indefinitely, and both are limited. hyper has a timeout for requests, but not for responses.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bounds::PACE_PERIOD;

/// The recent throughput of a connection, in both directions.
#[derive(Default)]
pub(crate) struct MovedResponse(Mutex<Period>);

/// The bytes of the current period, and of the previous one.
#[derive(Default)]
struct Period {
    began: Option<Instant>,
    before: usize,
    now: usize,
}

impl MovedResponse {
    pub(crate) fn add(&self, bytes: usize) {
        self.with(|period| period.now += bytes);
    }

    /// The bytes of the last [`PACE_PERIOD`] to twice that time.
    pub(crate) fn lately(&self) -> usize {
        self.with(|period| period.before + period.now)
    }

    fn with<T>(&self, of: impl FnOnce(&mut Period) -> T) -> T {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let began = *period.began.get_or_insert(now);
        let age = now - began;
        if age >= 2 * PACE_PERIOD {
            *period = Period {
                began: Some(now),
                ..Period::default()
            };
        } else if age >= PACE_PERIOD {
            *period = Period {
                began: Some(began + PACE_PERIOD),
                before: period.now,
                now: 0,
            };
        }
        of(&mut period)
    }
}

/// The pause that separates series of writes: between two requests, no data is pending for the client.
const PAUSE: Duration = Duration::from_secs(1);

/// Forwards all data, and fails a write when the client accepts less than `least` bytes within `patience` while data is pending.
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    least: usize,
    /// Starts with the first pending write.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The bytes accepted since then, and the time of the last of them.
    taken: usize,
    taken_at: Option<Instant>,
    moved: Arc<MovedResponse>,
}

impl<S> Patient<S> {
    pub(crate) fn new(
        stream: S,
        patience: Duration,
        least: usize,
        moved: Arc<MovedResponse>,
    ) -> Self {
        Self {
            stream,
            moved,
            patience,
            least,
            deadline: None,
            taken: 0,
            taken_at: None,
        }
    }

    /// Checks the deadline while the stream is not ready.
    fn bound<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        bytes: impl Fn(&T) -> usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = written {
            let bytes = done.as_ref().map_or(0, bytes);
            self.taken += bytes;
            self.moved.add(bytes);
            self.taken_at = Some(Instant::now());
            return Poll::Ready(done);
        }
        let paused = |at: Instant| at.elapsed() > PAUSE;
        if self.taken_at.take().is_some_and(paused) {
            self.deadline = None;
        }
        loop {
            let patience = self.patience;
            let deadline = self.deadline.get_or_insert_with(|| {
                self.taken = 0;
                Box::pin(sleep_until(Instant::now() + patience))
            });
            ready!(deadline.as_mut().poll(context));
            if self.taken < self.least {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client stopped reading, or reads too slowly",
                )));
            }
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved.add(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(written, |written| *written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound(written, |written| *written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(flushed, |()| 0, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(ended, |()| 0, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_stops_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours, PATIENCE, 1, Arc::default());
        let begin = Instant::now();
        let error = patient.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(
            (error.kind(), begin.elapsed()),
            (io::ErrorKind::TimedOut, PATIENCE)
        );
        assert_eq!(theirs.read(&mut [0; 64]).await.unwrap(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_takes_a_byte_now_and_then_is_given_up_and_pauses_are_not_counted() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours, PATIENCE, 32, Arc::default());
        patient.write_all(&[0; 16]).await.unwrap();
        assert_eq!(theirs.read(&mut [0; 16]).await.unwrap(), 16);
        tokio::time::sleep(2 * PATIENCE).await;
        let begin = Instant::now();
        let mut reader = tokio::task::JoinSet::new();
        reader.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(theirs.read(&mut [0; 1]).await);
            }
        });
        let error = patient.write_all(&[0; 640]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), PATIENCE);
        reader.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours, PATIENCE, 1, Arc::default());
        let mut reader = tokio::task::JoinSet::new();
        reader.spawn(async move {
            let mut total = 0;
            while total < 64 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                total += theirs.read(&mut [0; 16]).await.unwrap();
            }
        });
        patient.write_all(&[0; 64]).await.unwrap();
        reader.join_all().await;
    }
}
