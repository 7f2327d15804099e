//! The chunks of a job in parts: their parts run several at once, and a record says what each chunk came to.
//!
//! The next chunk begins as soon as no part of the last one can, so that a slow domain of one holds no recipient of another: its recipients
//! are set aside, and come when all chunks were gone through. So do those whose domain has a rate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::Instrument as _;

use super::recipients::FrozenList;
use super::{MAX_CHUNKS, damaged, ends_all, is_rejection, run_part};
use crate::assemble::Services;
use crate::audit::record::{self, AuditRecord};
use crate::bounds::MAX_ATTEMPTS;
use crate::deliver::{DeliverError, PacedBy};
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::job::{Job, JobId, Recipient, Rehearsal};
use crate::ledger::{Created, Kind, LedgerError, Record};
use crate::report::JobReport;
use crate::run::JobRun;
use crate::run::lanes::{LaneGroup, Lanes};
use crate::run::open_chunks::OpenChunk;
use crate::text::chain;

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
    lanes: Arc<Lanes>,
    /// Whether the run has ended, and no further part begins.
    is_over: AtomicBool,
    progress: Mutex<ChunksProgress>,
}

#[derive(Default)]
struct ChunksProgress {
    /// The number of the next chunk.
    next: u32,
    /// The chunks that were begun, here or in an earlier delivery of the job to this process.
    begun: BTreeMap<u32, BegunChunk>,
    /// The chunks whose recipients were set aside, once all were begun.
    last: Option<VecDeque<u32>>,
    /// What the chunks that are done came to.
    report: JobReport,
    /// What ended the run: an error that the parts that were left out would meet too.
    ended_by: Option<JobError>,
}

/// What the parts of a chunk came to so far.
#[derive(Default)]
struct BegunChunk {
    open: OpenChunk,
    /// How many parts are under way, or wait for a lane.
    left: usize,
    /// The recipients who were set aside.
    set_aside: BTreeSet<String>,
    /// Why recipients wait for a later delivery of the job.
    failed: Vec<JobError>,
    /// The recipients whose parts were rejected, and their domains: the rules may be others in a later delivery.
    rejected: Vec<RejectedPart>,
}

/// A part that gets no mail from the job.
struct RejectedPart {
    rid: String,
    domain: String,
    reason: String,
    line: AuditRecord,
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
        let open = services.open_chunks.take(&run.job.id, round);
        let begun = open.into_iter().map(|(number, open)| {
            let begun = BegunChunk {
                open,
                ..BegunChunk::default()
            };
            (number, begun)
        });
        let progress = ChunksProgress {
            begun: begun.collect(),
            ..ChunksProgress::default()
        };
        Self {
            run,
            list,
            records,
            round,
            services,
            lanes: Arc::new(Lanes::new(services.at_once)),
            is_over: AtomicBool::new(false),
            progress: Mutex::new(progress),
        }
    }

    fn progress(&self) -> MutexGuard<'_, ChunksProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_rehearsal(&self) -> bool {
        self.services.recording.rehearsed_to.is_some()
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
        let next = async || match self.next_group().await {
            Ok(group) => group,
            Err(error) => {
                self.ends_by(error);
                None
            }
        };
        let work = |part: WaitingPart| self.serve_part(part, template, are_new);
        let set_aside = |part: WaitingPart| {
            let mut progress = self.progress();
            let begun = progress.begun.entry(part.chunk).or_default();
            begun.left -= 1;
            begun.set_aside.insert(part.rid);
        };
        self.lanes
            .run_groups(next, domain_of, set_aside, work, |()| {})
            .await;
    }

    /// What the chunks came to that are done, and why recipients wait for a later delivery of the job, which begins with them.
    ///
    /// # Errors
    /// What ended the run before all chunks were gone through.
    pub(super) fn end(self) -> Result<(JobReport, Option<JobError>), JobError> {
        let is_rehearsal = self.is_rehearsal();
        let progress = self.progress.into_inner();
        let progress = progress.unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, mut open) = (None, BTreeMap::new());
        for (number, mut begun) in progress.begun {
            let failed = JobError::deferred(std::mem::take(&mut begun.failed));
            waiting = match failed {
                Some(failed) => Some(JobError::together(waiting, failed)),
                None => waiting,
            };
            open.insert(number, begun.into_open());
        }
        assert!(
            open.is_empty() || waiting.is_some() || progress.ended_by.is_some(),
            "recipients wait without a cause"
        );
        if !is_rehearsal {
            let kept = &self.services.open_chunks;
            kept.keep(&self.run.job.id, self.round, open);
        }
        match progress.ended_by {
            Some(error) => Err(error),
            None => Ok((progress.report, waiting)),
        }
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
        if self.is_rehearsal() {
            let most = self.services.recording.rehearsed;
            recipients.truncate(most.unwrap_or(Rehearsal::USUAL_RECIPIENTS));
        }
        let mut progress = self.progress();
        let is_last_turn = progress.last.is_some();
        match progress.begun.get_mut(&chunk) {
            Some(begun) if is_last_turn => {
                recipients.retain(|(rid, _)| begun.set_aside.contains(rid));
                begun.set_aside.clear();
            }
            Some(begun) => recipients.retain(|(rid, _)| begun.open.waiting.contains_key(rid)),
            None => {
                let begun = progress.begun.entry(chunk).or_default();
                let domain = |recipient: &Recipient| recipient.address.domain().to_owned();
                let waiting = recipients
                    .iter()
                    .map(|(rid, recipient)| (rid.clone(), domain(recipient)));
                begun.open.waiting = waiting.collect();
            }
        }
        progress.begun.entry(chunk).or_default().left += recipients.len();
        drop(progress);
        let parts = recipients.into_iter().map(|(rid, recipient)| WaitingPart {
            chunk,
            rid,
            recipient,
        });
        Ok(Some(LaneGroup {
            items: parts.collect(),
            are_set_aside: !is_last_turn,
        }))
    }

    /// The number of the next chunk with recipients who can be served.
    fn next_chunk(&self) -> Result<Option<u32>, JobError> {
        let mut progress = self.progress();
        let most = if self.is_rehearsal() {
            1
        } else {
            self.list.chunks
        };
        while progress.next < most {
            let number = progress.next;
            progress.next += 1;
            if let Some(served) = last_of_chunk(self.records, number) {
                let chunk = read_chunk(served)?;
                // A job that was reopened goes to the recipients whom it did not reach.
                if served.n / MAX_CHUNKS == self.round || chunk.failed() == 0 {
                    progress.begun.remove(&number);
                    progress.report.add(chunk);
                    continue;
                }
            }
            match progress.begun.get_mut(&number) {
                // Nothing of it needs to be read.
                Some(begun) if self.paced_for(begun.open.waiting.values()).is_some() => {
                    begun.set_aside = begun.open.waiting.keys().cloned().collect();
                }
                Some(_) | None => return Ok(Some(number)),
            }
        }
        let ChunksProgress { last, begun, .. } = &mut *progress;
        let last = last.get_or_insert_with(|| {
            let with_slow = begun
                .iter()
                .filter(|(_, begun)| !begun.set_aside.is_empty());
            with_slow.map(|(number, _)| *number).collect()
        });
        while let Some(number) = last.pop_front() {
            let Some(begun) = begun.get_mut(&number) else {
                continue;
            };
            let domain = |rid: &String| begun.open.waiting.get(rid);
            let Some(after) = self.paced_for(begun.set_aside.iter().filter_map(domain)) else {
                return Ok(Some(number));
            };
            for rid in std::mem::take(&mut begun.set_aside) {
                let domain = begun.open.waiting.get(&rid);
                begun
                    .failed
                    .push(paced(domain.map_or("", String::as_str), after));
            }
        }
        Ok(None)
    }

    /// How long the rates of these domains let no mail pass, if that is so for each of them.
    fn paced_for<'b>(&self, domains: impl Iterator<Item = &'b String>) -> Option<Duration> {
        let waits = domains.map(|domain| self.lanes.paced_for(domain));
        waits.min().flatten()
    }

    /// Runs a part, and records its chunk if it is the last of it.
    async fn serve_part(&self, part: WaitingPart, template: &Job, is_new: bool) {
        let WaitingPart {
            chunk,
            rid,
            recipient,
        } = part;
        let domain = recipient.address.domain().to_owned();
        let ran = if self.is_over.load(Ordering::Relaxed) {
            PartEnd::LeftOut
        } else if let Some(paced) = self.paced(&recipient, is_new) {
            PartEnd::Paced(paced)
        } else {
            let run = JobRun {
                job: Arc::new(template.part(&rid, recipient)),
                // The links of the last part are as young as those of the first.
                now: (self.services.clock)(),
                stop: self.run.stop.child(),
                lanes: Some(Arc::clone(&self.lanes)),
                ..self.run.clone()
            };
            let span =
                tracing::info_span!("part", job.id = %run.job.id, recipient.rid = rid.as_str());
            let ran = run_part(&run, is_new, self.services).instrument(span).await;
            match ran.map_err(of_one_recipient) {
                Err(error) if ends_all(&error) => {
                    self.ends_by(error);
                    PartEnd::LeftOut
                }
                Err(error) if paced_by_domain(&error).is_some() => PartEnd::Paced(error),
                ran => PartEnd::Ran(run.job.id.clone(), Box::new(ran)),
            }
        };
        if let PartEnd::Paced(error) = &ran
            && let Some(after) = paced_by_domain(error)
        {
            // Other recipients of the job come first.
            self.lanes.counts_as_paced(&domain, after);
        }
        let done = {
            let mut progress = self.progress();
            let is_last_turn = progress.last.is_some();
            let begun = progress.begun.entry(chunk).or_default();
            match ran {
                PartEnd::Ran(id, ran) => {
                    let part = (rid.as_str(), domain);
                    begun.add(part, &id, self.run.message_id.as_deref(), *ran);
                }
                PartEnd::Paced(error) if is_last_turn => begun.failed.push(error),
                PartEnd::Paced(_) => drop(begun.set_aside.insert(rid)),
                PartEnd::LeftOut => {}
            }
            begun.left -= 1;
            let is_done = begun.left == 0 && begun.open.waiting.is_empty();
            is_done.then(|| progress.begun.remove(&chunk)).flatten()
        };
        if let Some(done) = done
            && let Err(error) = Box::pin(self.chunk_ended(chunk, done)).await
        {
            self.ends_by(error);
        }
    }

    /// Why the rate of the recipient's domain lets no mail pass soon, if so. Of a part that may have run before, that is known only where
    /// another part of this run met it: the mail of a part that is done does not wait for a rate.
    fn paced(&self, recipient: &Recipient, is_new: bool) -> Option<JobError> {
        let domain = recipient.address.domain();
        if let Some(after) = self.lanes.paced_for(domain) {
            return Some(paced(domain, after));
        }
        let sending = &self.services.sending;
        let receiver = sending.sender.receiver(recipient);
        let paced = is_new.then(|| sending.mailer.domain_paced(receiver));
        Some(paced?.err()?.into())
    }

    /// Records what a chunk came to: every recipient has a final status.
    async fn chunk_ended(&self, number: u32, chunk: BegunChunk) -> Result<(), JobError> {
        let OpenChunk {
            mut report,
            mut counts,
            ..
        } = chunk.open;
        let mut lines = Vec::with_capacity(chunk.rejected.len());
        for part in chunk.rejected {
            counts.refuse(&part.rid, part.reason);
            lines.push(part.line);
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

impl BegunChunk {
    /// A part has ended.
    fn add(
        &mut self,
        (rid, domain): (&str, String),
        part: &JobId,
        message: Option<&str>,
        ran: Result<JobReport, JobError>,
    ) {
        match ran {
            Ok(of_part) => {
                let ended = of_part.accepted + of_part.rejected + of_part.unknown;
                if ended + of_part.suppressed == 0 {
                    self.open.counts.count_empty(rid);
                }
                self.open.report.add(of_part);
            }
            Err(error) if is_rejection(&error) => {
                let reason = chain(&error);
                let line = record::refused(Some(part.as_str()), message, &reason);
                self.rejected.push(RejectedPart {
                    rid: rid.to_owned(),
                    domain,
                    reason,
                    line,
                });
            }
            Err(error) => {
                self.failed.push(error);
                return;
            }
        }
        self.open.waiting.remove(rid);
    }

    /// What a later delivery of the job goes on with. Parts that were rejected have no record, and run again.
    fn into_open(mut self) -> OpenChunk {
        let rejected = self.rejected.into_iter();
        let waiting = rejected.map(|part| (part.rid, part.domain));
        self.open.waiting.extend(waiting);
        self.open
    }
}

/// The error of a part: it has one recipient, and the error is about them.
fn of_one_recipient(error: JobError) -> JobError {
    match error {
        JobError::Deferred { first, .. } => *first,
        error => error,
    }
}

/// The error of a recipient for whose domain the rate lets no mail pass for so long.
fn paced(domain: &str, after: Duration) -> JobError {
    let masked = format!("***@{domain}");
    let by = PacedBy::DomainRate;
    DeliverError::Paced { masked, after, by }.into()
}

/// How long the rate of a recipient's domain lets no mail pass, if that is the error.
fn paced_by_domain(error: &JobError) -> Option<Duration> {
    if let JobError::Deliver(DeliverError::Paced { after, by, .. }) = error {
        return (*by == PacedBy::DomainRate).then_some(*after);
    }
    None
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
