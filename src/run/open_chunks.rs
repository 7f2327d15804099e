//! What the chunks of jobs in parts came to that are not done: a later delivery of the job goes on there.
//!
//! They are in memory only. A process without them reads the records of each part of such a chunk again, which is as right, and costs a
//! request to the ledger for each.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::job::JobId;
use crate::report::{JobReport, PartsReport};

/// Of how many jobs the open chunks are kept. Few jobs have thousands of recipients at the same time.
const MAX_JOBS: usize = 32;

/// A chunk with recipients who have no final status yet.
#[derive(Debug, Default)]
pub struct OpenChunk {
    /// What its other recipients came to.
    pub report: JobReport,
    /// The same, in numbers of parts.
    pub counts: PartsReport,
    /// The domain of each recipient who waits, by the recipient's id.
    pub waiting: BTreeMap<String, String>,
}

#[derive(Debug)]
struct OpenJob {
    round: u32,
    chunks: BTreeMap<u32, OpenChunk>,
    kept_at: Instant,
}

/// The open chunks of jobs, as far as this process served them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct OpenChunks {
    by_job: Arc<Mutex<HashMap<JobId, OpenJob>>>,
}

impl OpenChunks {
    fn by_job(&self) -> MutexGuard<'_, HashMap<JobId, OpenJob>> {
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the open chunks of a job, by their numbers; none if the job was reopened since, which gives recipients another mail.
    pub fn take(&self, job: &JobId, round: u32) -> BTreeMap<u32, OpenChunk> {
        let kept = self.by_job().remove(job);
        let kept = kept.filter(|kept| kept.round == round);
        kept.map(|kept| kept.chunks).unwrap_or_default()
    }

    /// Keeps the open chunks of a job in its `round`th serving after the first. The job that was served longest ago makes room.
    pub fn keep(&self, job: &JobId, round: u32, chunks: BTreeMap<u32, OpenChunk>) {
        if chunks.is_empty() {
            return;
        }
        let mut by_job = self.by_job();
        if by_job.len() >= MAX_JOBS
            && let Some((oldest, _)) = by_job.iter().min_by_key(|(_, kept)| kept.kept_at)
        {
            let oldest = oldest.clone();
            by_job.remove(&oldest);
        }
        let kept_at = Instant::now();
        let kept = OpenJob {
            round,
            chunks,
            kept_at,
        };
        by_job.insert(job.clone(), kept);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn open_chunks_are_of_one_serving_and_of_few_jobs() {
        let open = OpenChunks::default();
        let job = |n: usize| format!("job-{n}").parse::<JobId>().unwrap();
        let chunks = || BTreeMap::from([(7, OpenChunk::default())]);
        open.keep(&job(0), 0, chunks());
        assert_eq!(open.take(&job(0), 0).len(), 1);
        assert_eq!(open.take(&job(0), 0).len(), 0, "once");
        open.keep(&job(0), 0, chunks());
        assert_eq!(open.take(&job(0), 1).len(), 0, "it was reopened");
        for n in 0..=MAX_JOBS {
            open.keep(&job(n), 0, chunks());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(open.take(&job(0), 0).len(), 0);
        assert_eq!(open.take(&job(1), 0).len(), 1);
        assert_eq!(open.take(&job(MAX_JOBS), 0).len(), 1);
    }
}
