//! The end of a job: its records, and the notice about recipients that it did not reach.

use serde_json::json;

use crate::assemble::Services;
use crate::deliver::notice::{Notice, NoticeEnd};
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::job::occurrence::Occurrence;
use crate::ledger::notices::NoticeRecords;
use crate::ledger::{Created, Kind, Record};
use crate::links::saved;
use crate::report::JobReport;
use crate::run::JobRun;
use crate::text::chain;

/// Whether a later event of the same key was served: the object of this event does not exist any more.
pub(super) async fn comes_too_late(run: &JobRun, services: &Services) -> Result<bool, JobError> {
    let Some(occurrence) = &run.job.occurrence else {
        return Ok(false);
    };
    let ledger = &services.recording.ledger;
    // A key that changes every minute has a hundred thousand records; those of later events are few.
    let served = ledger.served_after(&occurrence.series, &occurrence.sequencer);
    let mut served = served.await?.into_iter();
    Ok(served.any(|record| occurrence.is_older_than(&record.rid, &record.body)))
}

/// Ends a job that comes too late, for good.
pub(super) async fn supersede(run: &JobRun, services: &Services) -> Result<JobReport, JobError> {
    let delivered = JobReport {
        superseded: true,
        ..JobReport::default()
    };
    conclude(run, &delivered, services).await?;
    Ok(delivered)
}

/// What a run knows about the end of its job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// Whether no verdict can have come: this run created the plan, and its own outcome for each recipient is `accepted`. A verdict is
    /// about a doubt or a rejection. It is the `done-clean` of the model.
    pub(super) is_certain: bool,
    /// Whether the ledger may have pages of the job.
    pub(super) has_pages: bool,
}

/// Records that every recipient has a final status: only after this may the message be deleted.
pub(super) async fn finish(
    run: &JobRun,
    delivered: &JobReport,
    ending: Ending,
    services: &Services,
) -> Result<(), JobError> {
    let (job, ledger) = (&run.job.id, &services.recording.ledger);
    let is_rehearsal = services.recording.rehearsed_to.is_some();
    // What a rehearsal leaves behind must not make the job itself late, or be sent to its recipients.
    if let Some(occurrence) = run.job.occurrence.as_ref().filter(|_| !is_rehearsal) {
        let Occurrence {
            series, sequencer, ..
        } = occurrence;
        let body = occurrence.to_body(job, run.now);
        let served = Record::new(series, sequencer.as_str(), 0, Kind::Served, body);
        ledger.create(served).await?;
    }
    failpoint::pass(Failpoint::Served);
    // The message of a part is that of its job.
    if delivered.failed() > 0 && !is_rehearsal && run.job.part.is_none() {
        saved::save_message(&run.job, &**ledger).await?;
    }
    conclude(run, delivered, services).await?;
    failpoint::pass(Failpoint::Done);
    // A verdict may have come after the records were read; its recipients were not served yet.
    if !ending.is_certain && !ledger.is_done(job).await? {
        return Err(JobError::Reopened);
    }
    // Recipients without a mail may still get one, which has the same objects.
    if ending.has_pages
        && delivered.failed() == 0
        && let Err(error) = ledger.forget_pages(job).await
    {
        tracing::warn!(job.id = %job, error = chain(&error), "could not delete a job's stored object list");
    }
    Ok(())
}

async fn conclude(
    run: &JobRun,
    delivered: &JobReport,
    services: &Services,
) -> Result<(), JobError> {
    let mut body = serde_json::to_value(delivered).expect("what was delivered is plain data");
    // For people: no record tells when it was created.
    body["at"] = json!((services.clock)());
    let done = Record::new(&run.job.id, "", delivered.reopenings, Kind::Done, body);
    services.recording.ledger.create(done).await?;
    services.recording.issued.forget(&run.job.id);
    services.tried.forget(&run.job.id);
    Ok(())
}

/// Notifies the operator of the recipients that a job did not reach; once for each `done`. A notice that a killed process owed is sent by the
/// job's next delivery.
pub(super) async fn notify(
    run: &JobRun,
    delivered: &JobReport,
    services: &Services,
) -> Result<(), JobError> {
    let (job, ledger) = (&run.job.id, &services.recording.ledger);
    let n = delivered.reopenings;
    let owner = &services.recording.owner;
    let records = NoticeRecords::of(&**ledger);
    let body = NoticeRecords::body(owner, run.now);
    let notified = Record::new(job, "", n, Kind::Notified, body);
    if let Created::Theirs(begun) = ledger.create(notified).await?
        && !records.is_owed(&begun, owner, run.now).await?
    {
        return Ok(());
    }
    let notice = Notice {
        job,
        n,
        accepted: delivered.accepted,
        failed: delivered.failed(),
        named: delivered.in_clear(&run.job, |reader| services.recording.rid(reader)),
        at: run.now,
    };
    let (notices, mailer) = (&services.sending.notices, &services.sending.mailer);
    match notices.tell(&notice, mailer).await? {
        NoticeEnd::Sent => Ok(records.sent(job, n, run.now).await?),
        NoticeEnd::HeldBack => Ok(()),
    }
}
