//! A job in parts: its recipients are frozen once, and each gets a part of the job, which runs as a job of its own.
//!
//! The job's plan names the frozen recipients, so that a list which changes between two deliveries changes nothing. The id of a part
//! follows from the recipient, and the part's own records keep it from being done twice. The parts run chunk by chunk. The record of
//! a chunk says what its parts came to: a later delivery of the job does not look at them again.

mod recipients;
mod resend;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use serde_json::json;
use tracing::Instrument as _;

pub(crate) use self::recipients::first_parts;
use self::recipients::{FrozenList, freeze};
pub use self::recipients::{MAX_CHECKED_ROWS, all_bad_rows, count_recipients};
pub(super) use self::resend::doubtful_parts;
pub use self::resend::{part_or_job, parts_so_far, reopen_whole, resend_parts};
use super::edges::{begin, under_lease};
use super::enter_and_run;
use super::finish::{Ending, comes_too_late, finish, supersede};
use super::state::check_body;
use crate::assemble::Services;
use crate::audit::record;
use crate::bounds::MAX_ATTEMPTS;
use crate::deliver::DeliverError;
use crate::error::{FailureClass, JobError};
use crate::failpoint::{self, Failpoint};
use crate::job::{Job, Recipient, Rehearsal};
use crate::ledger::status::{is_done, record_of, reopenings};
use crate::ledger::{Created, Kind, LedgerError, Record};
use crate::report::{JobReport, PartsReport};
use crate::run::JobRun;
use crate::run::lanes::Lanes;
use crate::text::chain;

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
    let is_rehearsal = services.recording.rehearsed_to.is_some();
    let template = run.job.without_recipients();
    let mut waiting: Option<JobError> = None;
    for number in 0..list.chunks {
        let before = last_of_chunk(&records, number);
        if let Some(served) = before {
            let chunk = read_chunk(served)?;
            // A job that was reopened goes to the recipients whom it did not reach.
            if served.n / MAX_CHUNKS == round || chunk.failed() == 0 {
                report.add(chunk);
                continue;
            }
        }
        let n = round.saturating_mul(MAX_CHUNKS).saturating_add(number);
        let n = n.min(MAX_ATTEMPTS - 1);
        run.stop.check()?;
        let mut recipients = list.chunk(number, &run.job.id, &**ledger).await?;
        if is_rehearsal {
            let most = services.recording.rehearsed;
            recipients.truncate(most.unwrap_or(Rehearsal::USUAL_RECIPIENTS));
        }
        let served = serve(run, &template, recipients, are_new, services).await?;
        match served {
            ChunkEnd::Served(chunk) => {
                failpoint::pass(Failpoint::ChunkServed);
                report.add(record_chunk(run, n, *chunk, services).await?);
            }
            ChunkEnd::Waiting { failed, is_over } => {
                waiting = Some(JobError::together(waiting, failed));
                if is_over {
                    break;
                }
            }
        }
        if is_rehearsal {
            break;
        }
    }
    if let Some(error) = waiting {
        return Err(match error {
            JobError::Deferred { first, .. } if ends_all(&first) => *first,
            error => error,
        });
    }
    let ending = Ending {
        is_certain: false,
        has_pages: true,
    };
    finish(run, &report, ending, services).await?;
    Ok(report)
}

/// What a chunk came to last.
fn last_of_chunk(records: &[Record], number: u32) -> Option<&Record> {
    let is_of_chunk =
        |record: &&Record| record.kind == Kind::Chunk && record.n % MAX_CHUNKS == number;
    records
        .iter()
        .filter(is_of_chunk)
        .max_by_key(|record| record.n)
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

/// The end of a run over a chunk.
enum ChunkEnd {
    /// Every recipient has a final status.
    Served(Box<JobReport>),
    /// Some of its recipients wait for a later delivery of the job.
    Waiting {
        /// Why.
        failed: JobError,
        /// Whether the other chunks would wait for the same.
        is_over: bool,
    },
}

/// Runs the parts of a chunk, several at once. `are_new` says that none was begun before. A part that is rejected, or has to wait, does not keep the others from their mail.
///
/// A delivery is never cut off for another's failure: a mail cut off in its last step would be in doubt.
async fn serve(
    run: &JobRun,
    template: &Job,
    recipients: Vec<(String, Recipient)>,
    are_new: bool,
    services: &Services,
) -> Result<ChunkEnd, JobError> {
    let is_over = &AtomicBool::new(false);
    let lanes = &Arc::new(Lanes::new(services.at_once));
    let work = |(rid, recipient): (String, Recipient)| async move {
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        let part = JobRun {
            job: Arc::new(template.part(&rid, recipient)),
            // The links of the last part are as young as those of the first.
            now: (services.clock)(),
            stop: run.stop.child(),
            lanes: Some(Arc::clone(lanes)),
            ..run.clone()
        };
        let span = tracing::info_span!("part", job.id = %part.job.id, recipient.rid = rid.as_str());
        let ran = run_part(&part, are_new, services).instrument(span).await;
        if ran.as_ref().is_err_and(ends_all) {
            is_over.store(true, Ordering::Relaxed);
        }
        Some((rid, part, ran))
    };
    let mut report = JobReport::default();
    let mut counts = PartsReport::default();
    let (mut failed, mut lines) = (Vec::new(), Vec::new());
    let end = |end: Option<(String, JobRun, Result<JobReport, JobError>)>| {
        let Some((rid, part, ran)) = end else {
            return;
        };
        match ran {
            Ok(of_part) => {
                let ended = of_part.accepted + of_part.rejected + of_part.unknown;
                if ended + of_part.suppressed == 0 {
                    counts.count_empty(&rid);
                }
                report.add(of_part);
            }
            Err(error) if is_rejection(&error) => {
                let reason = chain(&error);
                let (id, message) = (part.job.id.as_str(), run.message_id.as_deref());
                lines.push(record::refused(Some(id), message, &reason));
                counts.refuse(&rid, reason);
            }
            // A part has one recipient, and the error is about them.
            Err(JobError::Deferred { first, .. }) => failed.push(*first),
            Err(error) => failed.push(error),
        }
    };
    lanes.run(recipients, domain_of, work, end).await;
    if let Some(failed) = JobError::deferred(failed) {
        return Ok(ChunkEnd::Waiting {
            failed,
            is_over: is_over.load(Ordering::Relaxed),
        });
    }
    // A rejection without a line would be a silent drop.
    if !lines.is_empty() {
        services.recording.audit.append(lines).await?;
    }
    report.parts = Some(counts);
    Ok(ChunkEnd::Served(Box::new(report)))
}

fn domain_of((_, recipient): &(String, Recipient)) -> Option<&str> {
    Some(recipient.address.domain())
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

/// Whether the other parts would meet the error too: all of them need the same store, ledger, log and relay.
fn ends_all(error: &JobError) -> bool {
    let first = match error {
        JobError::Deferred { first, .. } => first,
        error => error,
    };
    let is_of_recipient = matches!(
        first,
        JobError::Deliver(DeliverError::Later { .. } | DeliverError::Taken { .. })
    );
    !is_of_recipient
        && match first.class() {
            FailureClass::Deferred | FailureClass::Edge | FailureClass::Disk => true,
            FailureClass::Transient => first.is_stopped(),
            FailureClass::Busy | FailureClass::Permanent | FailureClass::Policy => false,
        }
}

/// Records what the parts of a chunk came to. The record of another process that ran them stands.
async fn record_chunk(
    run: &JobRun,
    n: u32,
    chunk: JobReport,
    services: &Services,
) -> Result<JobReport, JobError> {
    let body = serde_json::to_value(&chunk).expect("what was delivered is plain data");
    let record = Record::new(&run.job.id, "", n, Kind::Chunk, body);
    let (accepted, failed) = (chunk.accepted, chunk.failed());
    match services.recording.ledger.create(record).await? {
        Created::Ours => {
            tracing::info!(job.id = %run.job.id, chunk = n, accepted, failed, "a chunk of recipients is done");
            Ok(chunk)
        }
        Created::Theirs(record) => Ok(read_chunk(&record)?),
    }
}

fn read_chunk(record: &Record) -> Result<JobReport, LedgerError> {
    serde_json::from_value(record.body.clone()).map_err(|_| damaged(record))
}

/// A record of the job that cannot be read.
fn damaged(record: &Record) -> LedgerError {
    LedgerError::Damaged {
        job: record.job.to_string(),
        kind: record.kind.as_str().to_owned(),
        n: record.n,
    }
}
