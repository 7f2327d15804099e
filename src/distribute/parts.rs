//! A job in parts: its recipients are frozen once, and each gets a part of the job, which runs as a job of its own.
//!
//! The job's plan names the frozen recipients, so that a list which changes between two deliveries changes nothing. The id of a part
//! follows from the recipient, and the part's own records keep it from being done twice. The parts run in the order of their chunks. The
//! record of a chunk says what its parts came to: a later delivery of the job does not look at them again.

mod chunks;
mod recipients;
mod resend;
mod so_far;

use futures_util::future::BoxFuture;
use serde_json::json;

use self::chunks::Chunks;
pub(crate) use self::recipients::first_parts;
use self::recipients::{FrozenList, freeze};
pub use self::recipients::{
    MAX_CHECKED_ROWS, addresses_in_list, all_bad_rows, count_recipients, recipient_of_job,
};
pub(super) use self::resend::doubtful_parts;
pub use self::resend::{part_or_job, reopen_whole, resend_parts};
pub use self::so_far::{PartsSoFar, is_in_parts, parts_so_far, refused_part};
use super::edges::{begin, under_lease};
use super::enter_and_run;
use super::finish::{Ending, comes_too_late, finish, supersede};
use super::state::check_body;
use crate::assemble::Services;
use crate::deliver::DeliverError;
use crate::error::{FailureClass, JobError};
use crate::failpoint::{self, Failpoint};
use crate::ledger::status::{is_done, record_of, reopenings};
use crate::ledger::{Created, Kind, LedgerError, Record};
use crate::links::listing::GatherError;
use crate::report::JobReport;
use crate::run::JobRun;

/// The most chunks of a job: the number of a chunk's record tells chunk and reopening.
const MAX_CHUNKS: u32 = 2048;

/// Runs a job in parts.
pub(super) async fn distribute_parts(
    run: &JobRun,
    services: &Services,
) -> Result<JobReport, JobError> {
    let ledger = &services.recording.ledger;
    let down = || ledger.edges().into_iter().find_map(|edge| edge.outage());
    let audit = || services.recording.audit.edge().outage();
    let ran = async {
        let beginning = begin(run, false, services).await?;
        let records = &beginning.records;
        if let Some(first) = record_of(records, 0, Kind::Plan) {
            check_body(&run.job, first)?;
        }
        if is_done(records) {
            return Ok(JobReport::before(records));
        }
        let work = Box::pin(work(run, beginning.is_new, services));
        under_lease(run, beginning.hold, services, work).await
    };
    let ran: Result<JobReport, JobError> = Box::pin(ran).await;
    ran.map_err(|error| error.or_outage(audit().or_else(down)))
}

/// Runs the parts that are not done, and records the end of the job if all are. No other process runs it meanwhile.
async fn work(run: &JobRun, is_new: bool, services: &Services) -> Result<JobReport, JobError> {
    let ledger = &services.recording.ledger;
    let mut records = match is_new {
        true => Vec::new(),
        // Read under the lease: another worker may have gone on until now.
        false => ledger.records_of(&run.job.id, "").await?,
    };
    let mut are_new = false;
    let list = match record_of(&records, 0, Kind::Plan) {
        Some(first) => FrozenList::of(first)?,
        None if comes_too_late(run, services).await? => return supersede(run, services).await,
        None => {
            let started = start(run, services).await?;
            are_new = started.is_first;
            if is_new && !are_new {
                // The job was not new after all.
                records = ledger.records_of(&run.job.id, "").await?;
            }
            started.list
        }
    };
    let round = reopenings(&records);
    let mut report = JobReport {
        reopenings: round,
        parts: Some(list.report()),
        ..JobReport::default()
    };
    let template = run.job.without_recipients();
    let chunks = Chunks::new(run, &list, &records, round, services);
    chunks.serve(&template, are_new).await;
    let (served, waiting) = chunks.end()?;
    report.add(served);
    if let Some(error) = waiting {
        return Err(error);
    }
    let ending = Ending {
        is_certain: false,
        has_pages: true,
    };
    finish(run, &report, ending, services).await?;
    Ok(report)
}

/// The recipients of a job whose plan exists now.
struct Started {
    list: FrozenList,
    /// Whether this run created the plan: then none of the parts was begun.
    is_first: bool,
}

/// Freezes the recipients, and takes the job's id with them. The process that creates the plan decides who they are.
async fn start(run: &JobRun, services: &Services) -> Result<Started, JobError> {
    let (job, ledger) = (&run.job, &services.recording.ledger);
    let list = Box::pin(freeze(run, services)).await?;
    failpoint::pass(Failpoint::Frozen);
    let body = json!({
        "body_sha256": job.body_sha256,
        "begun_at": run.now,
        "recipients": list,
    });
    let plan = Record::new(&job.id, "", 0, Kind::Plan, body);
    match ledger.create(plan).await? {
        Created::Ours => {
            run.delivery.got_on();
            let (recipients, bad_rows) = (list.recipients, list.bad_rows);
            tracing::info!(job.id = %job.id, recipients, bad_rows, "the recipients of a job in parts are stored");
            Ok(Started {
                list,
                is_first: true,
            })
        }
        Created::Theirs(first) => {
            check_body(&run.job, &first)?;
            Ok(Started {
                list: FrozenList::of(&first)?,
                is_first: false,
            })
        }
    }
}

/// Runs a part as a job of its own. The type of the future is not a part of the type of the job's: the compiler's recursion ends.
fn run_part<'a>(
    part: &'a JobRun,
    is_new: bool,
    services: &'a Services,
) -> BoxFuture<'a, Result<JobReport, JobError>> {
    Box::pin(enter_and_run(part, is_new, services))
}

/// Whether an error says that the recipient gets no mail from this job, and nothing about the other recipients.
fn is_rejection(error: &JobError) -> bool {
    match error.class() {
        FailureClass::Permanent | FailureClass::Policy => true,
        FailureClass::Transient
        | FailureClass::Deferred
        | FailureClass::Edge
        | FailureClass::Busy
        | FailureClass::Disk => false,
    }
}

/// Whether the other parts would meet the error of one too: all of them need the same store, ledger, log and relay. A single failure at a
/// prefix or at a mail of the part shows nothing of others: after the next one the store or the relay is down.
fn ends_all(error: &JobError) -> bool {
    let is_of_prefix = matches!(
        error,
        JobError::Gather(GatherError::Store(_)) | JobError::Deliver(DeliverError::Publish(_))
    );
    let is_of_mail = match error {
        JobError::Deliver(DeliverError::Relay(error)) => error.may_be_of_mail(),
        error => matches!(error, JobError::Deliver(error) if error.is_of_recipient()),
    };
    let is_of_part = is_of_prefix || is_of_mail || matches!(error, JobError::Spared { .. });
    !is_of_part
        && match error.class() {
            FailureClass::Deferred | FailureClass::Edge | FailureClass::Disk => true,
            FailureClass::Transient => error.is_stopped(),
            FailureClass::Busy | FailureClass::Permanent | FailureClass::Policy => false,
        }
}

/// The recipients of a job in parts, by the records of the whole job; `None` for a job that is not in parts.
fn frozen(records: &[Record]) -> Result<Option<FrozenList>, LedgerError> {
    let plan = record_of(records, 0, Kind::Plan);
    let plan = plan.filter(|plan| plan.body.get("recipients").is_some());
    plan.map(FrozenList::of).transpose()
}

/// A record of the job that cannot be read.
fn damaged(record: &Record) -> LedgerError {
    LedgerError::Damaged {
        job: record.job.to_string(),
        kind: record.kind.as_str().to_owned(),
        n: record.n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::{Edge, EdgeKind, FailureKind};
    use crate::edge::{EdgeError, ErrorKind};

    /// One recipient's prefix fails, and the store answers others: they get their mail.
    #[test]
    fn a_failure_that_may_be_of_one_part_ends_no_other() {
        let failed = || EdgeError::new("list s3://reports/ann/", ErrorKind::Failed, "500");
        assert!(!ends_all(&GatherError::Store(failed()).into()));
        assert!(!ends_all(&DeliverError::Publish(failed()).into()));
        assert!(ends_all(&LedgerError::Store(failed()).into()));
        let edge = Edge::new(EdgeKind::Store, "reports", "the store");
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        let outage = edge.outage().unwrap();
        assert!(ends_all(&JobError::Down(outage.clone())));
        let after = std::time::Duration::ZERO;
        let outage = Box::new(outage);
        assert!(!ends_all(&JobError::Spared { outage, after }));
    }
}
