//! `GET /jobs/ID`: what became of a job.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Intake;
use super::answer::{COME_BACK, IntakeAnswer};
use super::counts::IntakeCount;
use crate::bounds::MAX_INTAKE_ANSWER_TIME;
use crate::job::JobId;
use crate::ledger::status::{ReportedMails, is_done, last_done};
use crate::ledger::{Ledger, LedgerError, reported_mails_of};
use crate::queue::{MessagePlace, QueueError};
use crate::report::JobReport;
use crate::text::chain;

/// How long the records of all recipients may take: a large job in a bucket has many, and its state is told without them.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);

/// Why the state of a job is not known.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Intake {
    /// The state of a job; 404 for one that is not known.
    pub(super) async fn state(&self, id: &str) -> Result<IntakeAnswer, IntakeAnswer> {
        self.0.rate.pass(1).await;
        let unknown = || {
            let told = json!({ "job": id, "state": "unknown" });
            IntakeAnswer::done(StatusCode::NOT_FOUND, told, IntakeCount::Answered)
        };
        let Ok(job) = id.parse::<JobId>() else {
            return Ok(unknown());
        };
        let told = match timeout(MAX_INTAKE_ANSWER_TIME, self.state_of(&job)).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => return Err(IntakeAnswer::unavailable(chain(&error), COME_BACK)),
            Err(_) => {
                let sentence = "the ledger did not answer in time: ask again";
                return Err(IntakeAnswer::unavailable(sentence, COME_BACK));
            }
        };
        Ok(told.map_or_else(unknown, |told| {
            IntakeAnswer::done(StatusCode::OK, told, IntakeCount::Answered)
        }))
    }

    async fn state_of(&self, job: &JobId) -> Result<Option<Value>, StateError> {
        let ledger = self.current().services.recording.ledger;
        let records = ledger.records_of(job, "").await?;
        if is_done(&records) {
            let report = last_done(&records).map(|done| done.body.clone());
            let report = report.and_then(|body| serde_json::from_value(body).ok());
            let report: JobReport = report.unwrap_or_default();
            let reported = reported(job, &report, &*ledger).await;
            return Ok(Some(done(job, &report, reported)));
        }
        let mut parked = None;
        let mut is_on_queue = false;
        for message in self.0.records.messages_of(job).await? {
            match self.0.queue.place(&message.message).await? {
                Some(MessagePlace::Parked { reason }) => parked = Some(reason),
                Some(MessagePlace::Gone) => {}
                // A queue of others does not say where one message is.
                Some(MessagePlace::OnQueue) | None => is_on_queue = true,
            }
        }
        let was_begun = !records.is_empty();
        Ok(match (parked, was_begun) {
            (Some(reason), _) if !is_on_queue => {
                Some(json!({ "job": job, "state": "parked", "reason": reason }))
            }
            (_, true) => Some(json!({ "job": job, "state": "open" })),
            (_, false) if is_on_queue => Some(json!({ "job": job, "state": "queued" })),
            (_, false) => None,
        })
    }
}

/// What mail systems reported of the mails; `None` where the records of all recipients cannot be read in time.
async fn reported(job: &JobId, report: &JobReport, ledger: &dyn Ledger) -> Option<ReportedMails> {
    if report.accepted == 0 {
        return Some(ReportedMails::default());
    }
    let reading = reported_mails_of(job, report.parts.is_some(), ledger);
    timeout(REPORTED_WITHIN, reading).await.ok()?.ok()
}

fn done(job: &JobId, report: &JobReport, reported: Option<ReportedMails>) -> Value {
    let recipients = report.parts.as_ref().map(|parts| {
        json!({
            "all": parts.recipients,
            "empty": parts.empty,
            "refused": parts.refused,
        })
    });
    let mut told = json!({
        "job": job,
        "state": "done",
        "links": report.links,
        "expires_at": report.expires_at,
        "mails": {
            "accepted": report.accepted,
            "rejected": report.rejected,
            "unknown": report.unknown,
            "suppressed": report.suppressed,
        },
    });
    if let Some(ReportedMails { delivered, bounced }) = reported {
        told["mails"]["delivered"] = Value::from(delivered);
        told["mails"]["bounced"] = Value::from(bounced);
    }
    if let Some(recipients) = recipients {
        told["recipients"] = recipients;
    }
    told
}
