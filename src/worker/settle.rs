//! Settles a message, and is the one place that logs why.

use std::time::Duration;

use crate::error::{Disposition, FailureClass, JobError};
use crate::failpoint::{self, Failpoint};
use crate::job::JobId;
use crate::queue::{ErrorKind, Message, Parked, Queue, QueueError};
use crate::text::chain;

/// How often a delete is tried: a message that stays is received and worked again without effect.
const DELETE_ATTEMPTS: u32 = 3;

/// The wait before a delete is tried again.
const DELETE_PAUSE: Duration = Duration::from_millis(500);

/// How long a message stays hidden that only the queue's redrive policy can remove.
const LEFT_TO_REDRIVE: Duration = Duration::from_secs(60);

/// Logs a failed job, once, with its causes. `is_parked_here` says whether the queue parks a message, or leaves it to its redrive
/// policy.
pub fn log(
    message: &Message,
    job: Option<&JobId>,
    error: &JobError,
    disposition: Disposition,
    is_parked_here: bool,
) {
    let (id, job) = (message.id.as_str(), job.map(tracing::field::display));
    let receive_count = message.receive_count;
    let words = chain(error);
    match (error.class(), disposition) {
        (FailureClass::Disk, _) => {
            tracing::error!(
                message.id = id,
                job.id = job,
                error = words,
                "the audit log or the ledger has failed; no more messages are received"
            );
        }
        (FailureClass::Busy, _) => {
            tracing::info!(
                message.id = id,
                job.id = job,
                receive_count,
                error = words,
                "message released: another worker has the job"
            );
        }
        (_, Disposition::Retry { after }) if error.outage().is_some() => {
            tracing::debug!(
                message.id = id,
                job.id = job,
                retry_in_secs = after.as_secs(),
                error = words,
                "job deferred: a dependency is down"
            );
        }
        (_, Disposition::Retry { after }) if error.is_of_a_hanging_place() => {
            tracing::debug!(
                message.id = id,
                job.id = job,
                retry_in_secs = after.as_secs(),
                error = words,
                "job deferred: a file system does not respond"
            );
        }
        (_, Disposition::Retry { after }) if error.is_of_renditions() => {
            tracing::debug!(
                message.id = id,
                job.id = job,
                retry_in_secs = after.as_secs(),
                error = words,
                "job deferred: other jobs make renditions"
            );
        }
        (_, Disposition::Retry { after }) if error.needs_a_person() => {
            let retry_in_secs = after.as_secs();
            tracing::error!(
                message.id = id,
                job.id = job,
                receive_count,
                retry_in_secs,
                error = words,
                "job deferred: an operator must repair the cause"
            );
        }
        (_, Disposition::Retry { after }) => {
            let retry_in_secs = after.as_secs();
            tracing::warn!(
                message.id = id,
                job.id = job,
                receive_count,
                retry_in_secs,
                error = words,
                "job failed; it will be retried"
            );
        }
        (_, Disposition::Park) if !is_parked_here => {
            tracing::error!(
                message.id = id,
                job.id = job,
                receive_count,
                error = words,
                "job cannot be done; its message is left to the queue's redrive policy"
            );
        }
        (_, Disposition::Park | Disposition::Delete) => {
            tracing::error!(
                message.id = id,
                job.id = job,
                receive_count,
                error = words,
                "job parked"
            );
        }
    }
}

/// Whether a message is in the queue after it was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is gone: done, or parked.
    Gone,
    /// It will be received again.
    Staying,
}

/// Carries out the decision about a message.
pub async fn settle(
    queue: &dyn Queue,
    message: &Message,
    disposition: Disposition,
    reason: &str,
) -> Result<Settled, QueueError> {
    match disposition {
        Disposition::Delete => delete(queue, message).await?,
        Disposition::Retry { after } => {
            queue.release(&message.receipt, after).await?;
            return Ok(Settled::Staying);
        }
        Disposition::Park => {
            failpoint::pass(Failpoint::Refused);
            if queue.park(message, reason).await? == Parked::LeftToRedrive {
                queue.release(&message.receipt, LEFT_TO_REDRIVE).await?;
                return Ok(Settled::Staying);
            }
        }
    }
    Ok(Settled::Gone)
}

async fn delete(queue: &dyn Queue, message: &Message) -> Result<(), QueueError> {
    let mut attempt = 1;
    loop {
        match queue.delete(&message.receipt).await {
            Ok(()) => {
                failpoint::pass(Failpoint::Deleted);
                return Ok(());
            }
            // Another worker received it: the ledger shows that the job is done, and that worker deletes it.
            Err(error) if error.fact == ErrorKind::NotFound || attempt == DELETE_ATTEMPTS => {
                return Err(error);
            }
            Err(_) => {
                tokio::time::sleep(DELETE_PAUSE * attempt).await;
                attempt += 1;
            }
        }
    }
}
