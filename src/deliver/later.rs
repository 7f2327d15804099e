//! Who was told "later" by a relay, and when they are asked for again.
//!
//! Only in memory: a process that forgets asks too early and is told "later" once more. So it rests on nothing, and
//! another worker's word is not needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::smtp::Kind;
use crate::edge::random;
use crate::job::JobId;

/// The first wait: greylisting turns away who comes back within five minutes; elsewhere less will do.
const AFTER_GREYLISTING: Duration = Duration::from_secs(5 * 60);
const AFTER_OTHER: Duration = Duration::from_secs(60);

/// The longest wait; each is twice the one before.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How many are remembered; as many as one job may have.
const MOST: usize = 10_000;

/// A recipient of a job: the job, and the recipient's id.
type Who = (JobId, String);

/// Who is to be served later.
#[derive(Debug, Clone, Default)]
pub(super) struct Later {
    waits: Arc<Mutex<HashMap<Who, Wait>>>,
}

#[derive(Debug)]
struct Wait {
    times: u32,
    until: Instant,
}

impl Later {
    fn waits(&self) -> MutexGuard<'_, HashMap<Who, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long there is no use in asking for somebody.
    pub(super) fn left(&self, job: &JobId, rid: &str) -> Option<Duration> {
        let waits = self.waits();
        let until = waits.get(&(job.clone(), rid.to_owned()))?.until;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Somebody was told "later"; how long they wait, with up to a quarter more so that not all come back together.
    pub(super) fn put_off(&self, job: &JobId, rid: &str, kind: Kind) -> Duration {
        let mut waits = self.waits();
        let who = (job.clone(), rid.to_owned());
        if waits.len() >= MOST && !waits.contains_key(&who) {
            let now = Instant::now();
            waits.retain(|_, wait| wait.until > now);
        }
        if waits.len() >= MOST && !waits.contains_key(&who) {
            waits.clear();
        }
        let wait = waits.entry(who).or_insert(Wait {
            times: 0,
            until: Instant::now(),
        });
        let after = wait_after(kind, wait.times).mul_f64(1.0 + 0.25 * random());
        wait.times += 1;
        wait.until = Instant::now() + after;
        after
    }

    /// Somebody has an end.
    pub(super) fn forget(&self, job: &JobId, rid: &str) {
        self.waits().remove(&(job.clone(), rid.to_owned()));
    }
}

fn wait_after(kind: Kind, times: u32) -> Duration {
    let first = match kind {
        Kind::Greylisted => AFTER_GREYLISTING,
        Kind::Other => AFTER_OTHER,
    };
    first.saturating_mul(1 << times.min(10)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greylisting_waits_five_minutes_first_and_every_wait_is_longer() {
        let minutes =
            |kind| [0, 1, 2, 3, 4, 99].map(|times| wait_after(kind, times).as_secs() / 60);
        assert_eq!(minutes(Kind::Greylisted), [5, 10, 20, 40, 60, 60]);
        assert_eq!(minutes(Kind::Other), [1, 2, 4, 8, 16, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_put_off_waits_and_the_others_do_not() {
        let (later, job) = (Later::default(), "job".parse().unwrap());
        let first = later.put_off(&job, "ann", Kind::Greylisted);
        assert!((300.0..=375.0).contains(&first.as_secs_f64()), "{first:?}");
        assert_eq!(later.left(&job, "ann"), Some(first));
        assert_eq!(later.left(&job, "bo"), None);
        tokio::time::sleep(first).await;
        assert_eq!(later.left(&job, "ann"), None);
        assert!(later.put_off(&job, "ann", Kind::Greylisted) > first);
        later.forget(&job, "ann");
        assert_eq!(later.left(&job, "ann"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (later, job) = (Later::default(), "job".parse().unwrap());
        for n in 0..MOST + 5 {
            later.put_off(&job, &n.to_string(), Kind::Other);
        }
        assert!(later.waits().len() <= MOST);
    }
}
