//! The results of jobs for programs that continue from there: one JSON message for each job.
//!
//! A result is sent after the job's `done` record, or its line of rejection, and before its message leaves the queue,
//! so that none is missing after a crash. So a result may come twice; the job's id identifies the duplicate.

mod webhook;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use directory::{Directory, is_full};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::edge::EdgeError;
use crate::edge::health::{Edge, EdgeKind, FailureKind, Outage, Step};
use crate::job::JobId;
use crate::queue::{ErrorKind, HAND_OVER, Queue, QueueError, hand_over};
use crate::report::JobReport;
use crate::text::printable_json;
use crate::text::{chain, counted};
use crate::traceparent::TraceParent;

pub use self::webhook::{Webhook, WebhookSecretError};

/// The version of the result format.
const VERSION: u32 = 1;

/// The receiver of results. A closed set: all are for production use.
#[derive(Debug, Clone, Default)]
pub enum Results {
    /// Results are not sent.
    #[default]
    Off,
    /// As messages of a queue.
    Queue {
        /// The queue.
        queue: Arc<dyn Queue>,
        /// The queue's health.
        edge: Edge,
    },
    /// As lines of a file.
    File(ResultsFile),
    /// As signed POSTs.
    Webhook(Webhook),
}

/// A file of results, one line each. It may be on a network mount whose server is down.
#[derive(Debug, Clone)]
pub struct ResultsFile {
    path: PathBuf,
    /// The file's health.
    edge: Edge,
    /// One write at a time: a write that hangs keeps one thread, and no more than one.
    turn: Arc<Semaphore>,
}

/// Why a result could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The queue did not accept it.
    #[error("the job's result could not be told: results.queue_url")]
    Queue(#[source] QueueError),
    /// The receiver did not take it.
    #[error("the job's result could not be posted: results.url")]
    Webhook(#[source] EdgeError),
    /// The queue is down, which is logged already: the result waits for it.
    #[error("the job's result waits for its queue")]
    Down(#[from] Outage),
    /// The file did not accept it.
    #[error("the job's result could not be written to {} (results.file)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum JobOutcome {
    Done,
    Parked,
    Feedback,
}

/// What a mail system reported of an accepted mail, after the job's result.
#[derive(Debug, Clone, Serialize)]
pub struct FeedbackResult<'a> {
    /// The recipient's id.
    pub rid: &'a str,
    /// What it means: `hard`, `by_relay`, `complaint`, `soft`, `mail_fault` or `rejected`.
    pub verdict: &'a str,
    /// The enhanced status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
    /// The words of the receiving server, without addresses.
    pub words: &'a str,
}

/// The end of a job.
#[derive(Debug, Clone, Serialize)]
pub struct JobResult<'a> {
    v: u32,
    /// The job; `None` for a message without a readable job.
    job: Option<&'a JobId>,
    /// The message that brought it.
    message: &'a str,
    outcome: JobOutcome,
    at: Timestamp,
    /// Why it was parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    delivered: Option<&'a JobReport>,
    /// What a mail system reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<&'a FeedbackResult<'a>>,
    /// The trace that the job's message named: the receiver goes on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
    /// The result in a sentence, for a channel that people read.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl<'a> JobResult<'a> {
    /// A job of which every recipient has a final status.
    pub const fn done(
        job: &'a JobId,
        message: &'a str,
        delivered: &'a JobReport,
        at: Timestamp,
    ) -> Self {
        Self {
            v: VERSION,
            job: Some(job),
            message,
            outcome: JobOutcome::Done,
            at,
            reason: None,
            delivered: Some(delivered),
            feedback: None,
            traceparent: None,
            text: None,
        }
    }

    /// A job that cannot be done, and that was parked.
    pub const fn parked(
        job: Option<&'a JobId>,
        message: &'a str,
        reason: &'a str,
        at: Timestamp,
    ) -> Self {
        Self {
            v: VERSION,
            job,
            message,
            outcome: JobOutcome::Parked,
            at,
            reason: Some(reason),
            delivered: None,
            feedback: None,
            traceparent: None,
            text: None,
        }
    }

    /// What a mail system reported of a mail of a job that is done.
    pub const fn feedback(
        job: &'a JobId,
        message: &'a str,
        feedback: &'a FeedbackResult<'a>,
        at: Timestamp,
    ) -> Self {
        Self {
            v: VERSION,
            job: Some(job),
            message,
            outcome: JobOutcome::Feedback,
            at,
            reason: None,
            delivered: None,
            feedback: Some(feedback),
            traceparent: None,
            text: None,
        }
    }
}

impl JobResult<'_> {
    /// The same result of a message that belongs to a trace.
    #[must_use]
    pub fn traced(self, traceparent: Option<TraceParent>) -> Self {
        Self {
            traceparent,
            ..self
        }
    }

    /// The result in one sentence, for people.
    fn sentence(&self) -> String {
        let job = self.job.map_or("a message", |job| job.as_str());
        if let Some(feedback) = self.feedback {
            let FeedbackResult { rid, verdict, .. } = feedback;
            return plain(&format!("a mail of {job} to {rid} was reported: {verdict}"));
        }
        let Some(report) = self.delivered else {
            let reason = self.reason.unwrap_or_default();
            return plain(&format!("{job} was parked: {reason}"));
        };
        let JobReport {
            accepted,
            rejected,
            unknown,
            links,
            suppressed,
            ..
        } = report;
        let suppressed = match suppressed {
            0 => String::new(),
            _ => format!(", {suppressed} suppressed"),
        };
        let (links, accepted) = (counted(*links, "link"), counted(*accepted, "mail"));
        if let Some(parts) = &report.parts {
            let (empty, refused) = (parts.empty, parts.refused);
            let recipients = counted(parts.recipients, "recipient");
            return plain(&format!(
                "{job} is done: {recipients}, {links}, {accepted} accepted, {rejected} rejected, {unknown} in doubt, {empty} without files, {refused} not allowed or refused{suppressed}"
            ));
        }
        match report.failed() {
            0 => plain(&format!(
                "{job} is done: {links}, {accepted} accepted{suppressed}"
            )),
            _ => plain(&format!(
                "{job} is done: {links}, {accepted} accepted, {rejected} rejected, {unknown} in doubt{suppressed}"
            )),
        }
    }
}

/// A sentence without markup. Ids and reasons quote keys, and a chat would take `<!channel>` or `<b>` in a key as its own.
/// <https://docs.slack.dev/messaging/formatting-message-text>
fn plain(sentence: &str) -> String {
    sentence.replace('<', "\u{2039}").replace('>', "\u{203a}")
}

impl Results {
    /// As messages of the queue at this URL.
    pub fn queue(queue: Arc<dyn Queue>, url: &str) -> Self {
        let subject = format!("the results queue {url} (results.queue_url)");
        let edge = Edge::new(EdgeKind::Results, "queue", subject);
        Self::Queue { queue, edge }
    }

    /// As lines of a file.
    pub fn file(path: PathBuf) -> Self {
        let subject = format!("the results file {} (results.file)", path.display());
        Self::File(ResultsFile {
            path,
            edge: Edge::new(EdgeKind::Results, "file", subject),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// The health of the receiver of results.
    pub const fn edge(&self) -> Option<&Edge> {
        match self {
            Self::Queue { edge, .. }
            | Self::File(ResultsFile { edge, .. })
            | Self::Webhook(Webhook { edge, .. }) => Some(edge),
            Self::Off => None,
        }
    }

    /// A result as it is sent. One that is posted has a sentence besides: services for chats show the field `text`.
    fn json_of(&self, result: &JobResult<'_>) -> String {
        let json = match self {
            Self::Webhook(_) => serde_json::to_string(&JobResult {
                text: Some(result.sentence()),
                ..result.clone()
            }),
            Self::Off | Self::Queue { .. } | Self::File(_) => serde_json::to_string(result),
        };
        json.expect("a result is plain data")
    }

    /// Sends a result. Returns when it is durable, or when it is rejected for good, which is logged. Fails at once
    /// while the queue is down, except for the message that tries it, and if `share` messages wait for it in silence.
    pub async fn tell(&self, result: &JobResult<'_>, share: usize) -> Result<(), ResultsError> {
        let text = || printable_json(&self.json_of(result)).into_owned();
        match self {
            Self::Off => Ok(()),
            Self::Queue { queue, edge } => {
                let at = edge.enter(result.message, share)?;
                let text = text();
                let sending = hand_over(edge, || queue.waiting(), queue.submit(&text));
                let sending = Box::pin(sending);
                match at.while_it_may(share, sending).await? {
                    // The queue rejects this result, and would reject it again.
                    Err(error) if error.fact == ErrorKind::Rejected => {
                        lost(result, &ResultsError::Queue(error));
                        Ok(())
                    }
                    Err(error) => Err(match edge.outage() {
                        Some(outage) => outage.into(),
                        None => ResultsError::Queue(error),
                    }),
                    Ok(_) => Ok(()),
                }
            }
            Self::Webhook(webhook) => {
                let edge = &webhook.edge;
                let at = edge.enter(result.message, share)?;
                let _under_way = edge.asked(Step::only("a result"));
                let posted = tokio::time::timeout(HAND_OVER, webhook.post(result, text()));
                let posted = Box::pin(posted);
                let posted = at.while_it_may(share, posted).await?;
                match posted.unwrap_or_else(|_| Err(webhook::late())) {
                    Ok(()) => {
                        edge.answered();
                        Ok(())
                    }
                    // The receiver rejects this result, and would reject it again.
                    Err(error) if error.fact == ErrorKind::Rejected => {
                        edge.answered();
                        lost(result, &ResultsError::Webhook(error));
                        Ok(())
                    }
                    Err(error) => {
                        error.report_to(edge);
                        Err(match edge.outage() {
                            Some(outage) => outage.into(),
                            None => ResultsError::Webhook(error),
                        })
                    }
                }
            }
            Self::File(file) => {
                let edge = &file.edge;
                let at = edge.enter(result.message, share)?;
                let appended = file.append(text() + "\n");
                match at.while_it_may(share, appended).await? {
                    Ok(()) => {
                        edge.answered();
                        Ok(())
                    }
                    Err(source) => {
                        edge.failed(failure_of(&source), &source.to_string());
                        let path = file.path.clone();
                        Err(match edge.outage() {
                            Some(outage) => outage.into(),
                            None => ResultsError::File { path, source },
                        })
                    }
                }
            }
        }
    }
}

impl ResultsFile {
    /// Appends a line, within [`HAND_OVER`].
    async fn append(&self, line: String) -> io::Result<()> {
        let _under_way = self.edge.asked(Step::only("a line"));
        let written = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await;
            let path = self.path.clone();
            let writing = tokio::task::spawn_blocking(move || {
                // A write that timed out continues there, and later writes wait for it.
                let _turn = turn;
                append(&path, &line)
            });
            writing
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        let late = || {
            let words = format!("no line was written within {} s", HAND_OVER.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, words)
        };
        let written = tokio::time::timeout(HAND_OVER, written).await;
        written.unwrap_or_else(|_| Err(late()))
    }
}

/// What an error of a file means for its edge.
fn failure_of(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::TimedOut => FailureKind::Timeout,
        _ if is_full(error) => FailureKind::Full,
        _ => FailureKind::Denied,
    }
}

/// Logs that a result is lost.
fn lost(result: &JobResult<'_>, error: &ResultsError) {
    tracing::error!(
        message.id = result.message,
        job.id = result.job.map(tracing::field::display),
        error = chain(error),
        "a job's result is lost; the audit log has what became of the job"
    );
}

/// One write for each line: lines of several jobs do not mix.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let (parent, name) = directory::split(path)?;
    // The lines hold reasons and recipients. An operator who wants other readers creates the file first.
    let mut file = Directory::open(parent)?.append(name, 0o600)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::memory::MemoryQueue;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn while_the_queue_is_down_one_message_at_a_time_tries_it() {
        let queue = Arc::new(MemoryQueue::default());
        let results = Results::queue(Arc::clone(&queue) as Arc<dyn Queue>, "sqs");
        let now = Timestamp::UNIX_EPOCH;
        let tell = async |message| {
            let result = JobResult::parked(None, message, "no", now);
            results.tell(&result, 2).await
        };
        for _ in 0..2 {
            queue.fail_next(ErrorKind::Unreachable);
        }
        assert!(matches!(tell("a").await, Err(ResultsError::Queue(_))));
        let Err(ResultsError::Down(outage)) = tell("a").await else {
            panic!("the second in a row makes an outage");
        };
        assert!(matches!(tell("b").await, Err(ResultsError::Down(_))));
        tokio::time::sleep(outage.left).await;
        let edge = results.edge().unwrap();
        let trial = edge.enter("a", 2).unwrap();
        assert!(matches!(tell("b").await, Err(ResultsError::Down(_))));
        drop(trial);
        assert_eq!(queue.waiting().await.unwrap(), 0);
        tell("a").await.unwrap();
        tell("b").await.unwrap();
        assert_eq!(queue.waiting().await.unwrap(), 2);
    }

    #[test]
    fn a_sentence_for_a_chat_has_no_markup_of_a_key() {
        let now = Timestamp::UNIX_EPOCH;
        let reason = "there is no object <!channel>.pdf";
        let result = JobResult::parked(None, "a", reason, now);
        assert_eq!(
            result.sentence(),
            "a message was parked: there is no object \u{2039}!channel\u{203a}.pdf"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_to_a_mount_that_hangs_holds_a_slot_for_seconds_and_keeps_one_thread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let results = Results::file(path.clone());
        let Results::File(file) = &results else {
            panic!("it is a file");
        };
        let now = Timestamp::UNIX_EPOCH;
        let tell = async || {
            let result = JobResult::parked(None, "a", "no", now);
            results.tell(&result, 2).await
        };
        // A write that hangs.
        let hangs = file.turn.acquire().await.unwrap();
        for _ in 0..2 {
            let began = tokio::time::Instant::now();
            assert!(tell().await.is_err());
            assert_eq!(began.elapsed(), HAND_OVER);
        }
        let said = file.edge.outage().unwrap().to_string();
        assert!(
            said.contains("(results.file) has not answered since"),
            "{said}"
        );
        let began = tokio::time::Instant::now();
        let Err(ResultsError::Down(outage)) = tell().await else {
            panic!("it is known by now");
        };
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(hangs);
        tokio::time::sleep(outage.left).await;
        tell().await.unwrap();
        assert_eq!(file.edge.outage(), None);
        assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_line_goes_into_a_file_of_ones_own_and_through_no_link() {
        let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (target, path) = (
            outside.path().join("target"),
            inside.path().join("results.jsonl"),
        );
        symlink(&target, &path).unwrap();
        let sentence = append(&path, "x\n").unwrap_err().to_string();
        assert!(sentence.contains("is a symbolic link"), "{sentence}");
        assert!(!target.exists());
        fs::remove_file(&path).unwrap();
        append(&path, "1\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // The operator gave a group read access.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        append(&path, "2\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
    }
}
