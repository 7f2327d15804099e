//! Settling a message: it is deleted, comes back, or is parked after all records of the reason.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backlog::ShownWhen;
use super::{
    DELETING, Failed, GIVING_BACK, IN_SHADOW, LAST_CALL, UNPARKED, Worked, Worker, settle,
};
use crate::audit::record;
use crate::cancellation::{Cancellation, Stopped};
use crate::edge::health::{Edge, EdgeKind, Outage};
use crate::edge::random;
use crate::error::{Disposition, FailureClass, JobError, edge_at_least};
use crate::job::JobId;
use crate::progress::JobEnd;
use crate::queue::{ErrorKind, Message, QueueError, Receipt};
use crate::results::JobResult;
use crate::text::chain;
use crate::worker::settle::Settled;

/// How long a message is hidden whose job asked an edge that denies all requests.
const DENIED_AGAIN: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) async fn settle(
        &self,
        message: &Message,
        worked: Worked,
        stop: &Cancellation,
    ) -> Settled {
        self.gone_back.store(0, Ordering::Relaxed);
        let mut settling = std::pin::pin!(self.settle_worked(message, worked));
        match stop.or(settling.as_mut()).await {
            Ok(left) => left,
            // A silent queue must not delay the shutdown.
            Err(Stopped) => {
                let settled = tokio::time::timeout(LAST_CALL, settling).await;
                settled.unwrap_or(Settled::Staying)
            }
        }
    }

    async fn settle_worked(&self, message: &Message, worked: Worked) -> Settled {
        let failed = match worked {
            Worked::Done => return self.settle_as(message, Disposition::Delete, None).await,
            Worked::InShadow => {
                let disposition = Disposition::Retry { after: IN_SHADOW };
                return self.settle_as(message, disposition, None).await;
            }
            Worked::Failed(failed) if failed.error.is_stopped() => {
                let after = Duration::ZERO;
                return self
                    .settle_as(message, Disposition::Retry { after }, None)
                    .await;
            }
            Worked::Failed(failed) => failed,
        };
        let class = failed.error.class();
        if class == FailureClass::Disk {
            self.disk_failed.store(true, Ordering::Relaxed);
        }
        let tries = match class {
            FailureClass::Transient | FailureClass::Edge => self.failures.count(&message.id),
            FailureClass::Permanent
            | FailureClass::Policy
            | FailureClass::Deferred
            | FailureClass::Busy
            | FailureClass::Disk => message.receive_count,
        };
        let disposition = crate::error::disposition(
            class,
            tries,
            &self.options.limits,
            failed.error.at_least(),
            random(),
        );
        let disposition = match failed.error.outage() {
            Some(outage) => Disposition::Retry {
                after: self.hides(outage, &message.receipt),
            },
            None => disposition,
        };
        let spared = failed.error.spared();
        if let Disposition::Retry { after } = disposition
            && let Some(edge) = spared.and_then(|outage| self.services.edges.labelled(&outage.edge))
        {
            let early = (&edge, ShownWhen::Back);
            self.backlog.add_early(early, &message.receipt, after);
        }
        if let Disposition::Retry { after } = disposition
            && failed.error.is_denial()
            && let Some(edge) = self
                .services
                .edges
                .iter()
                .find(|edge| edge.is_denied() && failed.error.is_denial_by(edge))
        {
            let early = (&edge, ShownWhen::Allowed);
            self.backlog.add_early(early, &message.receipt, after);
        }
        let job = failed.jobs.iter().find_map(|(job, _)| job.as_ref());
        // A message that waits to be parked, or that the redrive policy has not moved yet, was logged when it came first.
        let is_told = match disposition {
            Disposition::Park => !self.refused.has(&message.id),
            // The outage was.
            Disposition::Retry { .. } if spared.is_some() => false,
            // Many jobs may wait for a domain that the relay never answers about.
            Disposition::Retry { .. } if failed.error.is_overtaken() => {
                self.tells_of_overtaken_mail(&failed.error)
            }
            Disposition::Retry { .. } | Disposition::Delete => true,
        };
        if is_told {
            let is_parked_here = self.queue.parks();
            settle::log(message, job, &failed.error, disposition, is_parked_here);
        }
        self.settle_as(message, disposition, Some(&failed)).await
    }

    /// Whether a job whose mail got no reply is logged, as one is each minute. The others are counted.
    fn tells_of_overtaken_mail(&self, error: &JobError) -> bool {
        let due = self.overtaken.due();
        if let Some(not_logged) = due.filter(|not_logged| *not_logged > 0) {
            let error = chain(error);
            tracing::warn!(
                not_logged,
                error,
                "jobs were retried whose mails got no reply"
            );
        }
        due.is_some()
    }

    /// Remembers a message that waits for an edge; returns how long to hide it.
    fn hides(&self, outage: &Outage, receipt: &Receipt) -> Duration {
        let edge = self.services.edges.labelled(&outage.edge);
        match edge.filter(|edge| edge.outage().is_none() && edge.is_denied()) {
            Some(edge) => {
                let hidden = DENIED_AGAIN.mul_f64(1.0 + 0.1 * random());
                let early = (&edge, ShownWhen::Allowed);
                self.backlog.add_early(early, receipt, hidden);
                hidden
            }
            None => self.backlog.add(outage, receipt),
        }
    }

    pub(super) async fn settle_as(
        &self,
        message: &Message,
        disposition: Disposition,
        failed: Option<&Failed>,
    ) -> Settled {
        let came_before = self.refused.has(&message.id);
        let parked = match (disposition, failed) {
            (Disposition::Park, Some(failed)) => Some(self.park(message, failed).await),
            _ => None,
        };
        let disposition = match &parked {
            Some(Err(not_yet)) => not_yet.disposition(message),
            Some(Ok(_)) | None => disposition,
        };
        self.services.progress.settled(match disposition {
            Disposition::Delete => JobEnd::Done,
            Disposition::Retry { .. } => JobEnd::Retried,
            // Each message counts once, however often it comes until the queue's redrive policy moves it.
            Disposition::Park if came_before && matches!(parked, Some(Ok(Settled::Staying))) => {
                JobEnd::Retried
            }
            Disposition::Park => JobEnd::Parked,
        });
        let settled = match parked {
            Some(Ok(left)) => Ok(left),
            Some(Err(_)) | None => {
                let edge = self.services.edges.of(EdgeKind::Queue);
                let step = match disposition {
                    Disposition::Delete => DELETING,
                    Disposition::Retry { .. } | Disposition::Park => GIVING_BACK,
                };
                let _request = edge.as_ref().map(|edge| edge.asked(step));
                let settled = settle::settle(&*self.queue, message, disposition, "").await;
                if settled.is_ok() {
                    edge.iter().for_each(|edge| edge.replied(step));
                }
                settled
            }
        };
        match settled {
            Ok(left) => {
                if left == Settled::Gone {
                    self.failures.forget(&message.id);
                    self.refused.forget(&message.id);
                    self.told.forget(&message.id);
                }
                left
            }
            Err(error) => {
                tracing::error!(
                    message.id,
                    error = chain(&error),
                    "could not settle a message; it comes back by itself"
                );
                if matches!(disposition, Disposition::Retry { .. })
                    && error.fact != ErrorKind::NotFound
                {
                    self.keep(message);
                }
                Settled::Staying
            }
        }
    }

    /// Parks a message after all records of the reason. If one of these places cannot take it now, the message is not
    /// parked yet, and gives its slot back.
    async fn park(&self, message: &Message, failed: &Failed) -> Result<Settled, NotYet> {
        self.refuse(message, failed).await?;
        let edge = self.queue.parked_edge();
        let share = self.services.share;
        let at = edge.map(|edge| edge.enter(&message.id, share));
        let at = at.transpose().map_err(JobError::Down)?;
        let mut reason = chain(&failed.error);
        if let Some(more) = failed.error.for_readers() {
            reason = format!("{reason}: {more}");
        }
        let parking = settle::settle(&*self.queue, message, Disposition::Park, &reason);
        let parking = Box::pin(parking);
        let parked = match &at {
            Some(at) => at
                .while_it_may(share, parking)
                .await
                .map_err(JobError::Down)?,
            None => parking.await,
        };
        parked.map_err(|error| match edge.and_then(Edge::outage) {
            Some(outage) => JobError::Down(outage).into(),
            None => error.into(),
        })
    }

    /// Records that a message cannot be worked: first its audit line, since a rejection without a line would be a
    /// silent drop, then its results. Each is recorded once, though the message may come again until it is gone.
    async fn refuse(&self, message: &Message, failed: &Failed) -> Result<(), JobError> {
        let each = failed.each();
        if !self.refused.has(&message.id) {
            let line = |(job, reason): &(Option<&JobId>, String)| {
                record::refused(job.map(JobId::as_str), Some(&message.id), reason)
            };
            let lines = each.iter().map(line).collect();
            let audit = &self.services.recording.audit;
            let written = audit.append(lines).await.map_err(JobError::from);
            written.map_err(|error| error.or_outage(audit.edge().outage()))?;
            self.refused.add(&message.id);
        }
        if !self.told.has(&message.id) {
            for (job, reason) in &each {
                let result = JobResult::parked(*job, &message.id, reason, (self.clock)())
                    .traced(failed.trace.or_else(|| message.traceparent()));
                self.services
                    .results
                    .tell(&result, self.services.share)
                    .await?;
            }
            self.told.add(&message.id);
        }
        Ok(())
    }
}

/// Why a message whose jobs cannot be done is not parked yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    /// The reason could not be recorded, or the queue of parked messages is down.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The queue of parked messages did not take it.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl NotYet {
    /// When the message comes again. Logged, unless an edge has logged it.
    pub(super) fn disposition(&self, message: &Message) -> Disposition {
        let (at_least, is_said) = match self {
            Self::Job(error) => (error.at_least(), error.outage().is_some()),
            Self::Queue(error) => (edge_at_least(error), false),
        };
        let after = at_least.max(UNPARKED);
        if !is_said {
            tracing::warn!(
                message.id,
                retry_in_secs = after.as_secs(),
                error = chain(self),
                "a message could not be set aside; it comes back"
            );
        }
        Disposition::Retry { after }
    }
}
