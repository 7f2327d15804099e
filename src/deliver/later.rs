//! The recipients whose mails a relay deferred, and when each is tried again.
//!
//! The waits are kept in memory only. A process that lost them tries too early and is deferred once more. So nothing
//! depends on them, and workers need not share them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::smtp::{DeferralKind, Relay};
use crate::edge::random;
use crate::job::JobId;

/// The first wait. Greylisting defers a sender that retries within five minutes; otherwise less is enough.
const AFTER_GREYLISTING: Duration = Duration::from_secs(5 * 60);
const AFTER_OTHER: Duration = Duration::from_secs(60);

/// The longest wait; each is twice the one before.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The longest wait of a recipient whose mail was rejected for a reason about us: operators repair that.
const MAX_AFTER_REFUSAL: Duration = Duration::from_secs(15 * 60);

/// How long a recipient waits after a first mail in doubt, after a second, and so on, unless the relay accepts another mail meanwhile: each
/// further one may reach them once more.
const AFTER_DOUBTS: [Duration; 4] = [
    Duration::from_secs(20),
    Duration::from_secs(2 * 60),
    Duration::from_secs(8 * 60),
    Duration::from_secs(32 * 60),
];

/// After how many failed mails to a recipient the next failure may be final: a single one may be our relay's trouble.
const OFTEN: u32 = 2;

/// How many recipients are remembered; as many as one job may have.
const MAX_KEPT: usize = 10_000;

/// A recipient of a job: the job, and the recipient's id.
type Who = (JobId, String);

/// The recipients that are retried later.
#[derive(Debug, Clone, Default)]
pub(super) struct Later {
    waits: Arc<Mutex<HashMap<Who, Wait>>>,
}

#[derive(Debug)]
struct Wait {
    times: u32,
    until: Instant,
    ends_by: WaitEnd,
    /// How many of the recipient's mails are in doubt.
    doubts: usize,
    /// How many mails the relay had accepted at the recipient's last ambiguous deferral.
    accepted: Option<u64>,
}

/// What ends a wait before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitEnd {
    /// Nothing: the mail itself was deferred.
    Time,
    /// The end of an outage of the relay since.
    Return(Instant),
    /// A mail that the relay accepted, beyond this number.
    Acceptance(u64),
}

/// The wait of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecipientWait {
    /// Because of the mail.
    Mail(Duration),
    /// Because of the relay.
    Relay(Duration),
}

impl Later {
    fn waits(&self) -> MutexGuard<'_, HashMap<Who, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until a recipient may be tried again at a relay.
    pub(super) fn left(&self, job: &JobId, rid: &str, relay: &Relay) -> Option<RecipientWait> {
        let is_back_since = |instant| relay.edge().is_back_since(instant);
        self.left_at(job, rid, is_back_since, relay.accepted())
    }

    fn left_at(
        &self,
        job: &JobId,
        rid: &str,
        is_back_since: impl Fn(Instant) -> bool,
        accepted: u64,
    ) -> Option<RecipientWait> {
        let waits = self.waits();
        let wait = waits.get(&(job.clone(), rid.to_owned()))?;
        let left = wait.until.saturating_duration_since(Instant::now());
        let (is_over, left) = match wait.ends_by {
            WaitEnd::Time => (false, RecipientWait::Mail(left)),
            WaitEnd::Return(since) => (is_back_since(since), RecipientWait::Relay(left)),
            WaitEnd::Acceptance(then) => (accepted > then, RecipientWait::Relay(left)),
        };
        let (RecipientWait::Mail(time) | RecipientWait::Relay(time)) = left;
        (!is_over && !time.is_zero()).then_some(left)
    }

    /// A recipient was deferred; returns the wait, with up to a quarter more so that retries spread out.
    pub(super) fn put_off(&self, job: &JobId, rid: &str, kind: DeferralKind) -> Duration {
        let mut waits = self.waits();
        let wait = wait_of(&mut waits, job, rid);
        let after = wait_after(kind, wait.times).mul_f64(1.0 + 0.25 * random());
        wait.times += 1;
        wait.until = Instant::now() + after;
        wait.ends_by = WaitEnd::Time;
        after
    }

    /// A recipient's mail is in doubt; `accepted` is the relay's count of accepted mails.
    pub(super) fn doubted(&self, job: &JobId, rid: &str, accepted: u64) {
        let mut waits = self.waits();
        let wait = wait_of(&mut waits, job, rid);
        let after = AFTER_DOUBTS[wait.doubts.min(AFTER_DOUBTS.len() - 1)];
        wait.doubts += 1;
        wait.until = Instant::now() + after;
        wait.ends_by = WaitEnd::Acceptance(accepted);
    }

    /// A recipient's mail was rejected for a reason about us, which was noted: other recipients of the job are served
    /// first for a while.
    pub(super) fn refused(&self, job: &JobId, rid: &str) {
        let mut waits = self.waits();
        let wait = wait_of(&mut waits, job, rid);
        let after = wait_after(DeferralKind::Other, wait.times.saturating_sub(1));
        let now = Instant::now();
        wait.until = now + after.min(MAX_AFTER_REFUSAL);
        wait.ends_by = WaitEnd::Return(now);
    }

    /// A recipient's mail was not accepted, and the reply does not show whether the recipient is the reason. `accepted`
    /// is the relay's count of accepted mails.
    pub(super) fn note(&self, job: &JobId, rid: &str, accepted: u64) {
        let mut waits = self.waits();
        let wait = wait_of(&mut waits, job, rid);
        wait.times += 1;
        wait.accepted = Some(accepted);
    }

    /// Whether a recipient's mail failed so often that the next failure may be final.
    pub(super) fn is_often(&self, job: &JobId, rid: &str) -> bool {
        let waits = self.waits();
        let wait = waits.get(&(job.clone(), rid.to_owned()));
        wait.is_some_and(|wait| wait.times >= OFTEN)
    }

    /// The same, and the relay has accepted other mails since the last failure, so it was not down.
    pub(super) fn is_often_and_others_are_taken(
        &self,
        job: &JobId,
        rid: &str,
        accepted: u64,
    ) -> bool {
        let waits = self.waits();
        let wait = waits.get(&(job.clone(), rid.to_owned()));
        wait.is_some_and(|wait| {
            wait.times >= OFTEN && wait.accepted.is_some_and(|then| accepted > then)
        })
    }

    /// A recipient has a final status.
    pub(super) fn forget(&self, job: &JobId, rid: &str) {
        self.waits().remove(&(job.clone(), rid.to_owned()));
    }
}

/// The wait of a recipient, in a bounded map: expired waits are dropped first.
fn wait_of<'a>(waits: &'a mut HashMap<Who, Wait>, job: &JobId, rid: &str) -> &'a mut Wait {
    let (who, now) = ((job.clone(), rid.to_owned()), Instant::now());
    if waits.len() >= MAX_KEPT && !waits.contains_key(&who) {
        waits.retain(|_, wait| wait.until > now);
    }
    if waits.len() >= MAX_KEPT && !waits.contains_key(&who) {
        waits.clear();
    }
    waits.entry(who).or_insert(Wait {
        times: 0,
        until: now,
        ends_by: WaitEnd::Time,
        doubts: 0,
        accepted: None,
    })
}

fn wait_after(kind: DeferralKind, times: u32) -> Duration {
    let first = match kind {
        DeferralKind::Greylisted => AFTER_GREYLISTING,
        DeferralKind::Other | DeferralKind::Doubtful => AFTER_OTHER,
    };
    first.saturating_mul(1 << times.min(10)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a recipient waits at a relay that was never down and accepted no mail.
    fn left(later: &Later, job: &JobId, rid: &str) -> Option<RecipientWait> {
        later.left_at(job, rid, |_| false, 0)
    }

    #[test]
    fn greylisting_waits_five_minutes_first_and_every_wait_is_longer() {
        let minutes =
            |kind| [0, 1, 2, 3, 4, 99].map(|times| wait_after(kind, times).as_secs() / 60);
        assert_eq!(minutes(DeferralKind::Greylisted), [5, 10, 20, 40, 60, 60]);
        assert_eq!(minutes(DeferralKind::Other), [1, 2, 4, 8, 16, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deferred_recipient_waits_and_the_others_do_not() {
        let (later, job) = (Later::default(), "job".parse().unwrap());
        let first = later.put_off(&job, "ann", DeferralKind::Greylisted);
        assert!((300.0..=375.0).contains(&first.as_secs_f64()), "{first:?}");
        assert_eq!(left(&later, &job, "ann"), Some(RecipientWait::Mail(first)));
        assert_eq!(left(&later, &job, "bo"), None);
        tokio::time::sleep(first).await;
        assert_eq!(left(&later, &job, "ann"), None);
        assert!(later.put_off(&job, "ann", DeferralKind::Greylisted) > first);
        later.forget(&job, "ann");
        assert_eq!(left(&later, &job, "ann"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn later_is_a_no_the_third_time_at_the_earliest() {
        let (later, job) = (Later::default(), "job".parse().unwrap());
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(later.is_often(&job, "ann"));
            later.put_off(&job, "ann", DeferralKind::Other);
        }
        assert_eq!(seen, [false, false, true]);
        assert!(!later.is_often(&job, "bo"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_the_relay_is_unusable_no() {
        let (later, job) = (Later::default(), "job".parse().unwrap());
        for _ in 0..9 {
            assert!(!later.is_often_and_others_are_taken(&job, "ann", 7));
            later.note(&job, "ann", 7);
        }
        assert_eq!(
            left(&later, &job, "ann"),
            None,
            "nor does anybody wait for it"
        );
        assert!(later.is_often_and_others_are_taken(&job, "ann", 8));
        later.note(&job, "bo", 7);
        assert!(!later.is_often_and_others_are_taken(&job, "bo", 8), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (later, job) = (Later::default(), "job".parse().unwrap());
        for n in 0..MAX_KEPT + 5 {
            later.put_off(&job, &n.to_string(), DeferralKind::Other);
        }
        assert!(later.waits().len() <= MAX_KEPT);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_because_of_the_relay_end_when_it_is_well() {
        let (later, job): (_, JobId) = (Later::default(), "job".parse().unwrap());
        let mut waits = Vec::new();
        for _ in 0..5 {
            later.doubted(&job, "ann", 7);
            let Some(RecipientWait::Relay(wait)) = left(&later, &job, "ann") else {
                panic!("a recipient in doubt waits");
            };
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [20, 120, 480, 1920, 1920]);
        assert_eq!(
            later.left_at(&job, "ann", |_| true, 7).map(drop),
            Some(()),
            "a probe is no mail"
        );
        assert_eq!(later.left_at(&job, "ann", |_| false, 8), None);
        later.note(&job, "bo", 7);
        later.refused(&job, "bo");
        let minute = Some(RecipientWait::Relay(AFTER_OTHER));
        assert_eq!(later.left_at(&job, "bo", |_| false, 8), minute);
        let before = Instant::now();
        assert_eq!(later.left_at(&job, "bo", |since| since <= before, 7), None);
    }
}
