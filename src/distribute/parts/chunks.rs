//! The chunks of a job in parts: their parts run several at once, and a record says what each chunk came to.
//!
//! The next chunk begins as soon as no part of the last one can, so that a slow domain of one holds no recipient of another: its recipients
//! are set aside, and come when all chunks were gone through.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tracing::Instrument as _;

use super::recipients::FrozenList;
use super::{MAX_CHUNKS, damaged, ends_all, is_rejection, run_part};
use crate::assemble::Services;
use crate::audit::record::{self, AuditRecord};
use crate::bounds::MAX_ATTEMPTS;
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::job::{Job, JobId, Recipient, Rehearsal};
use crate::ledger::{Created, Kind, LedgerError, Record};
use crate::report::{JobReport, PartsReport};
use crate::run::JobRun;
use crate::run::lanes::{LaneGroup, Lanes};
use crate::text::chain;

/// How many chunks may have recipients who were set aside: what their other parts came to stays in memory.
const MAX_SET_ASIDE: usize = 256;

/// A recipient of a chunk.
struct WaitingPart {
    chunk: u32,
    rid: String,
    recipient: Recipient,
}

/// How a part ended.
enum PartEnd {
    /// The job of its own ran.
    Ran(JobId, Box<Result<JobReport, JobError>>),
    /// The rate of its domain delays it.
    Paced(JobError),
    /// It was not begun, since it would meet the error of another.
    LeftOut,
}

/// The chunks of a job that are not done.
pub(super) struct Chunks<'a> {
    run: &'a JobRun,
    list: &'a FrozenList,
    /// The job's records.
    records: &'a [Record],
    /// How often the job was reopened.
    round: u32,
    services: &'a Services,
    /// Whether a part met an error that the others would meet too.
    is_over: AtomicBool,
    progress: Mutex<ChunksProgress>,
}

#[derive(Default)]
struct ChunksProgress {
    /// The number of the next chunk.
    next: u32,
    /// The chunks that were begun.
    open: BTreeMap<u32, OpenChunk>,
    /// The chunks whose recipients were set aside, once all were begun.
    last: Option<VecDeque<u32>>,
    /// What the chunks that are done came to.
    report: JobReport,
    /// Why recipients wait for a later delivery of the job.
    waiting: Option<JobError>,
    /// What ended the run, apart from its parts.
    ended_by: Option<JobError>,
}

/// What the parts of a chunk came to so far.
#[derive(Default)]
struct OpenChunk {
    /// How many parts are under way, or wait for a lane.
    left: usize,
    /// The recipients who were set aside.
    set_aside: BTreeSet<String>,
    /// Whether a part was left out, since all would meet the same error.
    is_cut: bool,
    report: JobReport,
    counts: PartsReport,
    failed: Vec<JobError>,
    lines: Vec<AuditRecord>,
}

impl<'a> Chunks<'a> {
    /// The chunks of a job, in their `round`th serving after the first.
    pub(super) fn new(
        run: &'a JobRun,
        list: &'a FrozenList,
        records: &'a [Record],
        round: u32,
        services: &'a Services,
    ) -> Self {
        Self {
            run,
            list,
            records,
            round,
            services,
            is_over: AtomicBool::new(false),
            progress: Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, ChunksProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the parts. `are_new` says that none was begun before. A part that is rejected, or has to wait, does not keep the others from their
    /// mail.
    ///
    /// A delivery is never cut off for another's failure: a mail cut off in its last step would be in doubt. As for [`run_part`], the type of the
    /// future is not a part of the type of the job's.
    pub(super) fn serve<'b>(&'b self, template: &'b Job, are_new: bool) -> BoxFuture<'b, ()> {
        Box::pin(self.serve_all(template, are_new))
    }

    async fn serve_all(&self, template: &Job, are_new: bool) {
        let lanes = &Arc::new(Lanes::new(self.services.at_once));
        let next = async || match self.next_group().await {
            Ok(group) => group,
            Err(error) => {
                self.ends_by(error);
                None
            }
        };
        let work = |part: WaitingPart| self.serve_part(part, template, lanes, are_new);
        let set_aside = |part: WaitingPart| {
            let mut progress = self.progress();
            let open = progress.open.entry(part.chunk).or_default();
            open.left -= 1;
            open.set_aside.insert(part.rid);
        };
        lanes
            .run_groups(next, domain_of, set_aside, work, |()| {})
            .await;
    }

    /// What the chunks came to that are done, and why recipients wait for a later delivery of the job.
    ///
    /// # Errors
    /// What ended the run, apart from its parts.
    pub(super) fn end(self) -> Result<(JobReport, Option<JobError>), JobError> {
        let progress = self.progress.into_inner();
        let progress = progress.unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = progress.ended_by {
            return Err(error);
        }
        let mut waiting = progress.waiting;
        for chunk in progress.open.into_values() {
            if let Some(failed) = JobError::deferred(chunk.failed) {
                waiting = Some(JobError::together(waiting, failed));
            }
        }
        // Parts are left out only after the error of one.
        let is_over = self.is_over.into_inner();
        assert!(
            !is_over || waiting.is_some(),
            "parts were left out without a cause"
        );
        Ok((progress.report, waiting))
    }

    fn ends_by(&self, error: JobError) {
        self.is_over.store(true, Ordering::Relaxed);
        self.progress().ended_by.get_or_insert(error);
    }

    /// The recipients of the next chunk, or of one whose recipients were set aside.
    async fn next_group(&self) -> Result<Option<LaneGroup<WaitingPart>>, JobError> {
        if self.is_over.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(chunk) = self.next_chunk()? else {
            return Ok(None);
        };
        self.run.stop.check()?;
        let ledger = &*self.services.recording.ledger;
        let mut recipients = self.list.chunk(chunk, &self.run.job.id, ledger).await?;
        let recording = &self.services.recording;
        if recording.rehearsed_to.is_some() {
            recipients.truncate(recording.rehearsed.unwrap_or(Rehearsal::USUAL_RECIPIENTS));
        }
        let mut progress = self.progress();
        let is_last_turn = progress.last.is_some();
        let with_slow = progress
            .open
            .values()
            .filter(|open| !open.set_aside.is_empty());
        let are_set_aside = !is_last_turn && with_slow.count() < MAX_SET_ASIDE;
        let open = progress.open.entry(chunk).or_default();
        if is_last_turn {
            recipients.retain(|(rid, _)| open.set_aside.contains(rid));
            open.set_aside.clear();
        }
        open.left += recipients.len();
        drop(progress);
        let parts = recipients.into_iter().map(|(rid, recipient)| WaitingPart {
            chunk,
            rid,
            recipient,
        });
        Ok(Some(LaneGroup {
            items: parts.collect(),
            are_set_aside,
        }))
    }

    /// The number of the next chunk that is not done.
    fn next_chunk(&self) -> Result<Option<u32>, JobError> {
        let mut progress = self.progress();
        let is_rehearsal = self.services.recording.rehearsed_to.is_some();
        let most = if is_rehearsal { 1 } else { self.list.chunks };
        while progress.next < most {
            let number = progress.next;
            progress.next += 1;
            if let Some(served) = last_of_chunk(self.records, number) {
                let chunk = read_chunk(served)?;
                // A job that was reopened goes to the recipients whom it did not reach.
                if served.n / MAX_CHUNKS == self.round || chunk.failed() == 0 {
                    progress.report.add(chunk);
                    continue;
                }
            }
            return Ok(Some(number));
        }
        let ChunksProgress { last, open, .. } = &mut *progress;
        let last = last.get_or_insert_with(|| {
            let with_slow = open.iter().filter(|(_, open)| !open.set_aside.is_empty());
            with_slow.map(|(number, _)| *number).collect()
        });
        Ok(last.pop_front())
    }

    /// Runs a part, and records its chunk if it is the last of it.
    async fn serve_part(
        &self,
        part: WaitingPart,
        template: &Job,
        lanes: &Arc<Lanes>,
        is_new: bool,
    ) {
        let WaitingPart {
            chunk,
            rid,
            recipient,
        } = part;
        let sending = &self.services.sending;
        let paced = sending
            .mailer
            .domain_paced(sending.sender.receiver(&recipient));
        let ran = if self.is_over.load(Ordering::Relaxed) {
            PartEnd::LeftOut
        } else if let Err(paced) = paced {
            // Other recipients of the job come first.
            lanes.counts_as_slow(recipient.address.domain());
            PartEnd::Paced(paced.into())
        } else {
            let run = JobRun {
                job: Arc::new(template.part(&rid, recipient)),
                // The links of the last part are as young as those of the first.
                now: (self.services.clock)(),
                stop: self.run.stop.child(),
                lanes: Some(Arc::clone(lanes)),
                ..self.run.clone()
            };
            let span =
                tracing::info_span!("part", job.id = %run.job.id, recipient.rid = rid.as_str());
            let ran = run_part(&run, is_new, self.services).instrument(span).await;
            if ran.as_ref().is_err_and(ends_all) {
                self.is_over.store(true, Ordering::Relaxed);
            }
            PartEnd::Ran(run.job.id.clone(), Box::new(ran))
        };
        let done = {
            let mut progress = self.progress();
            let is_last_turn = progress.last.is_some();
            let open = progress.open.entry(chunk).or_default();
            match ran {
                PartEnd::Ran(id, ran) => open.add(&rid, &id, self.run.message_id.as_deref(), *ran),
                PartEnd::Paced(error) if is_last_turn => open.failed.push(error),
                PartEnd::Paced(_) => drop(open.set_aside.insert(rid)),
                PartEnd::LeftOut => open.is_cut = true,
            }
            open.left -= 1;
            let is_done = open.left == 0 && open.set_aside.is_empty();
            is_done.then(|| progress.open.remove(&chunk)).flatten()
        };
        if let Some(done) = done
            && let Err(error) = Box::pin(self.chunk_ended(chunk, done)).await
        {
            self.ends_by(error);
        }
    }

    /// Records what a chunk came to, if every recipient has a final status.
    async fn chunk_ended(&self, number: u32, chunk: OpenChunk) -> Result<(), JobError> {
        let OpenChunk {
            is_cut,
            mut report,
            counts,
            failed,
            lines,
            ..
        } = chunk;
        if let Some(failed) = JobError::deferred(failed) {
            let waiting = &mut self.progress().waiting;
            *waiting = Some(JobError::together(waiting.take(), failed));
            return Ok(());
        }
        if is_cut {
            return Ok(());
        }
        // A rejection without a line would be a silent drop.
        if !lines.is_empty() {
            self.services.recording.audit.append(lines).await?;
        }
        report.parts = Some(counts);
        failpoint::pass(Failpoint::ChunkServed);
        let n = self.round.saturating_mul(MAX_CHUNKS).saturating_add(number);
        let recorded = record_chunk(self.run, n.min(MAX_ATTEMPTS - 1), report, self.services);
        let recorded = recorded.await?;
        self.progress().report.add(recorded);
        Ok(())
    }
}

impl OpenChunk {
    /// A part has ended.
    fn add(
        &mut self,
        rid: &str,
        part: &JobId,
        message: Option<&str>,
        ran: Result<JobReport, JobError>,
    ) {
        match ran {
            Ok(of_part) => {
                let ended = of_part.accepted + of_part.rejected + of_part.unknown;
                if ended + of_part.suppressed == 0 {
                    self.counts.count_empty(rid);
                }
                self.report.add(of_part);
            }
            Err(error) if is_rejection(&error) => {
                let reason = chain(&error);
                let line = record::refused(Some(part.as_str()), message, &reason);
                self.lines.push(line);
                self.counts.refuse(rid, reason);
            }
            // A part has one recipient, and the error is about them.
            Err(JobError::Deferred { first, .. }) => self.failed.push(*first),
            Err(error) => self.failed.push(error),
        }
    }
}

fn domain_of(part: &WaitingPart) -> Option<&str> {
    Some(part.recipient.address.domain())
}

/// What a chunk came to last.
pub(super) fn last_of_chunk(records: &[Record], number: u32) -> Option<&Record> {
    let is_of_chunk =
        |record: &&Record| record.kind == Kind::Chunk && record.n % MAX_CHUNKS == number;
    records
        .iter()
        .filter(is_of_chunk)
        .max_by_key(|record| record.n)
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

pub(super) fn read_chunk(record: &Record) -> Result<JobReport, LedgerError> {
    serde_json::from_value(record.body.clone()).map_err(|_| damaged(record))
}
