//! The jobs at an edge: which of them may ask it, and which have to give their slots back.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::requests::GIVEN_WAY;
use super::{Activity, Edge, EdgeKind, FailureKind, Outage};

/// How long one job (the scout) may try a silent edge, beyond the share of slots of the jobs that wait for the edge. A store is probed
/// besides.
const SCOUTING_TIME: Duration = Duration::from_secs(10);

/// The time at an edge after which a job counts as long.
const LONG_JOB: Duration = Duration::from_secs(4);

/// How long an edge must have been down for the jobs that wait for it to give their slots back.
pub(super) const LONG_OUTAGE: Duration = Duration::from_secs(25);

/// How often a job that waits is asked whether it may keep its slot.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The waiting time of a job after which it is logged.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// A job's time at an edge. A job lists and publishes at its store and mails at its relay, one at a time. The time at a slow
/// store does not count for the relay, which other jobs need.
#[derive(Debug)]
pub(super) struct Stay {
    /// The hash of the job's id. The parts of a job have that of the whole: they share its slot.
    owner: u64,
    began: Instant,
    /// Since when it is at the edge, if it is there now.
    since: Option<Instant>,
    /// How long it was there in its earlier stays.
    spent: Duration,
    /// How many of its mails are under way.
    mails: usize,
}

impl Stay {
    fn new(kind: EdgeKind, owner: u64) -> Self {
        let began = Instant::now();
        Self {
            owner,
            began,
            since: (kind != EdgeKind::Relay).then_some(began),
            spent: Duration::ZERO,
            mails: 0,
        }
    }

    fn has_mails(&mut self, mails: usize, kind: EdgeKind) {
        self.mails = mails;
        let is_here = (kind == EdgeKind::Relay) == (mails > 0);
        match (is_here, self.since) {
            (true, None) => self.since = Some(Instant::now()),
            (false, Some(since)) => {
                self.spent += since.elapsed();
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Since when the job is at the edge, if it takes long there.
    fn long_since(&self) -> Option<Instant> {
        let since = self.since?;
        (self.spent + since.elapsed() >= LONG_JOB).then_some(since)
    }

    /// Whether it may still turn out to be a short job.
    fn is_young(&self) -> bool {
        self.began.elapsed() < LONG_JOB
    }
}

/// How many of the jobs that wait for an edge may ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The edge is up: all may.
    All,
    /// The edge is down and may be tried: one job may.
    One,
    /// The edge is paused, or another job is trying it.
    Nothing,
}

/// A job that needs an edge, until it is dropped.
#[derive(Debug)]
pub struct JobAtEdge {
    edge: Edge,
    number: u64,
    /// The job's id; of a part, that of the whole job.
    job: String,
    began: Instant,
    is_scout: bool,
    /// Whether its long wait was logged.
    is_told: AtomicBool,
}

impl Drop for JobAtEdge {
    fn drop(&mut self) {
        let mut activity = self.edge.activity();
        activity.jobs.remove(&self.number);
        for scout in &mut activity.scouts {
            if scout.is_some_and(|(scout, _)| scout == self.number) {
                *scout = None;
            }
        }
        let owner = owner_of(&self.job);
        let has_others = activity.jobs.values().any(|stay| stay.owner == owner);
        drop(activity);
        // If the job ended before it asked the edge, its trial is free for another job. Other parts of it may be at their mails.
        let mut state = self.edge.state();
        if !has_others && state.trial.as_ref().is_some_and(|(by, _)| *by == self.job) {
            state.trial = None;
        }
    }
}

/// A mail of a job is under way until this is dropped: meanwhile the job is at its relay and not at its store.
#[derive(Debug)]
pub struct Mailing<'a>(&'a [JobAtEdge]);

impl<'a> Mailing<'a> {
    /// A mail begins.
    pub fn begin(at: &'a [JobAtEdge]) -> Self {
        at.iter().for_each(|at| at.mails(|mails| mails + 1));
        Self(at)
    }
}

impl Drop for Mailing<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|at| at.mails(|mails| mails - 1));
    }
}

impl JobAtEdge {
    fn mails(&self, count: impl Fn(usize) -> usize) {
        let kind = self.edge.kind();
        if let Some(stay) = self.edge.activity().jobs.get_mut(&self.number) {
            stay.has_mails(count(stay.mails), kind);
        }
    }

    /// Whether the job is at this edge now and counts as long there.
    fn takes_long(&self) -> bool {
        let activity = self.edge.activity();
        let stay = activity.jobs.get(&self.number);
        stay.is_some_and(|stay| stay.long_since().is_some())
    }

    /// Logs, once, that the job has waited for long although no request has failed.
    pub fn tell_of_long_wait(&self) {
        if let Some(silence) = self.edge.silence(LONG_WAIT)
            && !self.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                job.id = self.job,
                edge = self.edge.kind().as_str(),
                edge.name = self.edge.name(),
                "a job has waited for {} s: {silence}",
                LONG_WAIT.as_secs()
            );
        }
    }

    /// Why the job has to give its slot back, if it has to: the edge has been down for long, or it is silent and older jobs that
    /// wait for it hold their share of the slots. The job that tries the edge keeps its slot. At a replaced edge no job waits:
    /// nothing tries that edge any more, and its share would add to the share of the new edge.
    pub fn gives_way(&self, share: usize) -> Option<Outage> {
        let edge = &self.edge;
        if edge.inner.is_replaced.load(Ordering::Relaxed) {
            return self.waits();
        }
        if edge.is_tried_by(&self.job)
            || self.is_scout && self.began.elapsed() < edge.activity().scouting_time(edge.kind())
        {
            return None;
        }
        let lasting = edge.outage().filter(|_| edge.down_for() >= LONG_OUTAGE);
        let occupied = || edge.occupied(self.number).filter(|_| self.takes_long());
        lasting.or_else(occupied).or_else(|| {
            let older = edge.activity().others_before(self.number);
            edge.crowded(older, share)
        })
    }

    /// Waits for what a job asks of the edge, as long as the job may keep its slot, see [`gives_way`](Self::gives_way).
    ///
    /// # Errors
    /// Why its slot is given back; the request is dropped.
    pub async fn while_it_may<T>(
        &self,
        share: usize,
        asking: impl Future<Output = T>,
    ) -> Result<T, Outage> {
        let needed = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Some(outage) = self.gives_way(share) {
                    return outage;
                }
            }
        };
        tokio::select! {
            answer = asking => Ok(answer),
            outage = needed => Err(outage),
        }
    }

    /// The edge's outage, if it is down.
    pub fn outage(&self) -> Option<Outage> {
        self.edge.outage()
    }

    /// The denial of all requests to the edge, if there is one.
    pub fn denial(&self) -> Option<Outage> {
        self.edge.denial()
    }

    /// The edge's outage, or its silence, if it is down or silent.
    pub fn waits(&self) -> Option<Outage> {
        self.edge.waits()
    }
}

/// The hash of a job's id.
fn owner_of(job: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    job.hash(&mut hasher);
    hasher.finish()
}

impl Activity {
    /// The jobs that began before one of this number, without the other parts of its job.
    fn before(&self, number: u64) -> impl Iterator<Item = &Stay> {
        let owner = self.jobs.get(&number).map(|stay| stay.owner);
        let before = self.jobs.range(..number).map(|(_, stay)| stay);
        before.filter(move |stay| Some(stay.owner) != owner)
    }

    /// How many jobs began before one of this number: each holds a slot, however many of its parts are at the edge.
    fn others_before(&self, number: u64) -> usize {
        let owners = self.before(number).map(|stay| stay.owner);
        owners.collect::<BTreeSet<_>>().len()
    }

    /// How long a scout may try the edge. A relay that is silent after its greeting is tried by mails alone, so the next scout decides how
    /// late its return is noticed.
    fn scouting_time(&self, kind: EdgeKind) -> Duration {
        match kind == EdgeKind::Relay {
            true => self.silent_from(kind),
            false => SCOUTING_TIME,
        }
    }

    /// Whether a scout is trying the edge. A scout without a result in time waits like other jobs: its connection may have died
    /// while the edge is up.
    fn has_scout(&self, kind: EdgeKind) -> bool {
        self.has_scout_as(Scout::Any, kind)
    }

    fn has_scout_as(&self, role: Scout, kind: EdgeKind) -> bool {
        let scout = self.scouts[role as usize];
        scout.is_some_and(|(_, since)| since.elapsed() < self.scouting_time(kind))
    }

    /// The role that a job beyond the share may have, if it may have one.
    fn scout_role(&self, names: &[u64], kind: EdgeKind) -> Option<Scout> {
        if !self.has_scout(kind) {
            return Some(Scout::Any);
        }
        let is_free = !self.has_scout_as(Scout::OtherName, kind);
        (is_free && self.may_answer_about(names)).then_some(Scout::OtherName)
    }
}

/// The jobs beyond the share that try a silent edge, at most one of each.
#[derive(Debug, Clone, Copy)]
enum Scout {
    /// Any job.
    Any,
    /// A job that asks about another name than those that wait: an edge that is silent about one name may answer others, and many jobs
    /// of that name may wait before the first of another.
    OtherName,
}

impl Edge {
    /// Admits a job that needs the edge. Fails if the edge is down, except for the job that tries it (see
    /// [`Edge::may_be_tried`]). Fails also if the edge is silent and `share` jobs wait for it already, except for one scout, since
    /// connections can die while the edge is up.
    pub fn enter(&self, by: &str, share: usize) -> Result<JobAtEdge, Outage> {
        self.enter_about(&[], by, share)
    }

    /// Like [`enter`](Self::enter), for a job that asks about these names, by their hashes. A second scout asks about another name than the
    /// jobs that wait.
    pub fn enter_about(&self, names: &[u64], by: &str, share: usize) -> Result<JobAtEdge, Outage> {
        let (jobs, number) = {
            let mut activity = self.activity();
            let number = activity.next_job;
            activity.next_job += 1;
            let stay = Stay::new(self.kind(), owner_of(by));
            activity.jobs.insert(number, stay);
            (activity.others_before(number), number)
        };
        // If this returns early, dropping it releases what it has taken.
        let mut at = JobAtEdge {
            edge: self.clone(),
            number,
            job: by.to_owned(),
            began: Instant::now(),
            is_scout: false,
            is_told: AtomicBool::new(false),
        };
        // A job that may be short does not wait for long jobs.
        if let Some(occupied) = self.occupied(number)
            && self.has_young(number)
        {
            return Err(occupied);
        }
        if let Some(crowded) = self.crowded(jobs, share) {
            let mut activity = self.activity();
            let Some(role) = activity.scout_role(names, self.kind()) else {
                drop(activity);
                return Err(crowded);
            };
            activity.scouts[role as usize] = Some((number, Instant::now()));
            at.is_scout = true;
        }
        self.may_be_tried(by)?;
        Ok(at)
    }

    /// Whether this caller is trying the edge.
    fn is_tried_by(&self, by: &str) -> bool {
        let state = self.state();
        let trial = state.trial.as_ref();
        trial.is_some_and(|(other, until)| other == by && *until > Instant::now())
    }

    /// How many of the jobs that wait for the edge may try it.
    pub fn admits(&self) -> Admission {
        let (outage, is_tried) = {
            let state = self.state();
            let trial = state.trial.as_ref();
            let is_tried = trial.is_some_and(|(_, until)| *until > Instant::now());
            (self.outage_of(&state), is_tried)
        };
        let is_silent = self.is_silent();
        match outage {
            None if self.occupied(u64::MAX).is_some() => match self.has_young(u64::MAX) {
                true => Admission::Nothing,
                false => Admission::One,
            },
            None if !is_silent => Admission::All,
            None if !self.activity().has_scout(self.kind()) => Admission::One,
            Some(outage) if outage.left.is_zero() && !is_tried => Admission::One,
            None | Some(_) => Admission::Nothing,
        }
    }

    /// The outage for a job that waits for a silent edge, if `jobs` other jobs already hold the edge's share of the slots.
    fn crowded(&self, jobs: usize, share: usize) -> Option<Outage> {
        let silence = self.silence(self.silent_from())?;
        // Of a relay, some connections stay free for scouts.
        let hanging = self.activity().hanging.share();
        let share = hanging.map_or(share, |hanging| hanging.min(share));
        (jobs >= share).then_some(silence)
    }

    /// Limits the slots that long jobs of the edge may hold, since other edges of its kind need slots too.
    pub fn limit_long_jobs(&self, most: Option<usize>) {
        self.activity().long_jobs = most;
    }

    /// The outage for a job if older long jobs hold the edge's share of the slots. Otherwise the jobs of a store that is slow, but
    /// never silent, would hold them all.
    fn occupied(&self, number: u64) -> Option<Outage> {
        let activity = self.activity();
        let most = activity.long_jobs?;
        let mut owners = BTreeSet::new();
        let older = activity.before(number);
        let mut took_long = older.filter_map(|stay| {
            let since = stay.long_since()?;
            owners.insert(stay.owner).then_some(since)
        });
        let last = took_long.nth(most.saturating_sub(1))?;
        let since = SignedDuration::try_from(last.elapsed()).ok()?;
        Some(Outage {
            edge: self.label(),
            subject: self.inner.subject.clone(),
            kind: FailureKind::Occupied,
            words: format!("{most} jobs that take long have its share of the slots"),
            since: crate::clock::system() - since,
            left: GIVEN_WAY,
        })
    }

    /// Whether any of the jobs that began before this job may be short.
    fn has_young(&self, number: u64) -> bool {
        let activity = self.activity();
        activity.before(number).any(Stay::is_young)
    }
}
