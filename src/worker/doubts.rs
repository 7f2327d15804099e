//! How many mails are in doubt, for metrics: read from the ledger at the start and once a minute, and never by a job.
//!
//! The worker that finds a doubt counts it at once. The ledger is searched for those of before the start and of other workers, and asked
//! whether the known ones have a verdict, which an operator gives by a command of another process.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use crate::assemble::Services;
use crate::distribute::{MAX_JOBS_SEARCHED, has_no_doubts, open_doubts};
use crate::job::JobId;
use crate::ledger::status::is_done;
use crate::ledger::{Ledger, LedgerError, RecipientStatus, status_of};
use crate::progress::{DoubtName, Progress};
use crate::text::chain;

/// How long after the start the ledger is searched first, and how often the known doubts are looked at.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(60);

/// How often the ledger is searched again, for the doubts of other workers. S3 bills each request.
const SEARCH_EVERY: Duration = Duration::from_secs(15 * 60);

/// How many jobs and doubts are read together.
const AT_ONCE: usize = 8;

/// How many known doubts are looked at in a minute. While more are open, each has its turn.
const MAX_LOOKED_AT: usize = 100;

/// Counts the mails in doubt, for as long as the future is polled. A ledger that is down is not asked, and the last count stays.
pub(super) async fn watch(services: &Services) -> Infallible {
    let (ledger, progress) = (&*services.recording.ledger, &services.progress);
    let mut search = DoubtSearch::default();
    let mut searched: Option<Instant> = None;
    let mut last = None;
    sleep(FIRST).await;
    loop {
        if !ledger.edges().iter().any(|edge| edge.is_failing()) {
            let is_due = searched.is_none_or(|at| at.elapsed() >= SEARCH_EVERY);
            let asked = async {
                close_answered(ledger, progress, &mut last).await?;
                if is_due {
                    search.search(ledger, progress).await?;
                    searched = Some(Instant::now());
                }
                Ok::<_, LedgerError>(())
            };
            // On the heap: it would make the worker's future larger.
            if let Err(error) = Box::pin(asked).await {
                tracing::warn!(
                    error = chain(&error),
                    "could not count the mails in doubt; retrying in a minute"
                );
            }
        }
        sleep(EVERY).await;
    }
}

/// Looks whether known doubts have a verdict, those after `last` first.
async fn close_answered(
    ledger: &dyn Ledger,
    progress: &Progress,
    last: &mut Option<DoubtName>,
) -> Result<(), LedgerError> {
    let known = progress.doubts_after(last.as_ref(), MAX_LOOKED_AT);
    *last = known.last().cloned();
    let looks = known.into_iter().map(async |name| {
        let (job, rid) = &name;
        // Names are from job ids.
        let records = match job.parse::<JobId>() {
            Ok(job) => ledger.records_of(&job, rid).await?,
            Err(_) => Vec::new(),
        };
        if !matches!(status_of(&records)?, RecipientStatus::InDoubt { .. }) {
            progress.doubt_is_closed(&name);
        }
        Ok(())
    });
    stream::iter(looks)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// What a search for doubts remembers for the next one.
#[derive(Debug, Default)]
struct DoubtSearch {
    /// The jobs whose recipients need no second look: a worker that finds a doubt later counts it itself.
    seen: HashSet<JobId>,
    /// Whether the jobs that are not done were looked at, too, once.
    is_complete: bool,
}

impl DoubtSearch {
    /// Looks through the latest jobs that were not looked through before. All records of a job that is not done are read at the start alone:
    /// its doubts are counted by the worker that has it.
    async fn search(
        &mut self,
        ledger: &dyn Ledger,
        progress: &Progress,
    ) -> Result<(), LedgerError> {
        let jobs = ledger.jobs(MAX_JOBS_SEARCHED).await?;
        let latest: HashSet<&JobId> = jobs.iter().collect();
        self.seen.retain(|job| latest.contains(job));
        let is_first = !self.is_complete;
        let unseen: Vec<&JobId> = jobs
            .iter()
            .filter(|job| !self.seen.contains(*job))
            .collect();
        let mut looks = stream::iter(unseen)
            .map(async |job| {
                let of_job = ledger.records_of(job, "").await?;
                let (is_done, is_clean) = (is_done(&of_job), has_no_doubts(&of_job));
                if !is_clean && (is_done || is_first) {
                    for doubt in open_doubts(ledger, job).await? {
                        progress.doubt_is_open(doubt.job.as_str(), &doubt.rid);
                    }
                }
                Ok::<_, LedgerError>(is_done.then(|| job.clone()))
            })
            .buffer_unordered(AT_ONCE);
        while let Some(done) = looks.try_next().await? {
            self.seen.extend(done);
        }
        drop(looks);
        self.is_complete = true;
        progress.doubts_are_searched();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::memory::MemoryLedger;
    use crate::ledger::{Answer, Kind, Outcome, Record, Verdict};

    async fn put(ledger: &MemoryLedger, job: &str, rid: &str, kind: Kind, body: Value) {
        let record = Record::new(&job.parse().unwrap(), rid, 0, kind, body);
        ledger.create(record).await.unwrap();
    }

    /// A job whose mail to Ann is in doubt; it ended with the doubt, or goes on.
    async fn in_doubt(ledger: &MemoryLedger, job: &str, is_done: bool) {
        put(ledger, job, "", Kind::Plan, json!({})).await;
        put(ledger, job, "ann", Kind::Intent, json!({})).await;
        put(ledger, job, "ann", Kind::Outcome, Outcome::held().to_body()).await;
        if is_done {
            put(ledger, job, "", Kind::Done, json!({ "unknown": 1 })).await;
        }
    }

    async fn answer(ledger: &MemoryLedger, job: &str) {
        let verdict = Verdict::new(Answer::WasSent, "operator").to_body();
        put(ledger, job, "ann", Kind::Verdict, verdict).await;
    }

    #[tokio::test]
    async fn doubts_of_before_the_start_are_counted_until_they_are_answered() {
        let (ledger, progress) = (MemoryLedger::default(), Progress::default());
        in_doubt(&ledger, "ended", true).await;
        in_doubt(&ledger, "parked", false).await;
        put(&ledger, "clean", "", Kind::Done, json!({ "unknown": 0 })).await;
        assert_eq!(progress.open_doubts(), None, "nothing is known yet");
        let (mut search, mut last) = (DoubtSearch::default(), None);
        search.search(&ledger, &progress).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(2));
        close_answered(&ledger, &progress, &mut last).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(2), "no answer was given");
        answer(&ledger, "ended").await;
        close_answered(&ledger, &progress, &mut last).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(1));
        answer(&ledger, "parked").await;
        close_answered(&ledger, &progress, &mut last).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(0));
    }

    #[tokio::test]
    async fn a_later_search_finds_the_doubts_with_which_another_worker_ended_a_job() {
        let (ledger, progress) = (MemoryLedger::default(), Progress::default());
        let mut search = DoubtSearch::default();
        search.search(&ledger, &progress).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(0));
        in_doubt(&ledger, "later", false).await;
        search.search(&ledger, &progress).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(0), "its worker counts it");
        put(&ledger, "later", "", Kind::Done, json!({ "unknown": 1 })).await;
        search.search(&ledger, &progress).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(1));
    }

    #[tokio::test]
    async fn more_doubts_than_are_looked_at_in_a_minute_have_their_turns() {
        let (ledger, progress) = (MemoryLedger::default(), Progress::default());
        let jobs: Vec<String> = (0..MAX_LOOKED_AT + 20)
            .map(|n| format!("job-{n:04}"))
            .collect();
        for job in &jobs {
            in_doubt(&ledger, job, true).await;
            progress.doubt_is_open(job, "ann");
        }
        let mut last = None;
        for job in &jobs[MAX_LOOKED_AT..] {
            answer(&ledger, job).await;
        }
        close_answered(&ledger, &progress, &mut last).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(jobs.len()));
        close_answered(&ledger, &progress, &mut last).await.unwrap();
        assert_eq!(progress.open_doubts(), Some(MAX_LOOKED_AT));
    }
}
