//! The dependencies of a job: it asks each whether it may be tried, and gives its slot back if it may not.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;

use crate::assemble::Services;
use crate::cancellation::Stopped;
use crate::deliver::{DeliverError, Mailer, Relay, domains_hash};
use crate::edge::health::{Edge, EdgeKind, JobAtEdge, Outage};
use crate::error::JobError;
use crate::failpoint::{self, Failpoint};
use crate::job::{EmailOrder, Job};
use crate::ledger::Record;
use crate::ledger::lease::{self, LeaseHold, Leases, Taken};
use crate::report::JobReport;
use crate::run::JobRun;
use crate::run::delivery::Delivery;

/// How many recipients' domains tell what a job asks its relay about.
const MAX_DOMAINS: usize = 64;

/// How often a job checks whether it has to give its slot back.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs a job until it has to give its slot back: then the run stops at its next step.
pub(super) async fn until_it_gives_way(
    run: &JobRun,
    at: &[JobAtEdge],
    services: &Services,
    work: impl Future<Output = Result<JobReport, JobError>>,
) -> Result<JobReport, JobError> {
    let mut work = pin!(run.stop.cut(work));
    let outage = tokio::select! {
        worked = &mut work => return worked?,
        outage = services.gives_way(at, &run.delivery) => outage,
    };
    run.stop.cancel();
    let ended = match work.as_mut().now_or_never() {
        Some(ended) => ended,
        // A mail is between its intent and its outcome, or audit lines are written: the run waits, and others have the slot.
        None => {
            run.delivery.give_slot_back();
            work.await
        }
    };
    match ended {
        // It completed all the same.
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) if !error.is_stopped() => Err(error),
        Ok(Err(_)) | Err(Stopped) => Err(outage.into()),
    }
}

/// What a run knows of its job when it begins.
pub(super) struct Beginning<'a> {
    /// The records of the whole job.
    pub(super) records: Vec<Record>,
    /// Whether the job seems to be new, so that no records were read. The plan, which is created once, decides.
    pub(super) is_new: bool,
    /// The job's lease, if it is ours already.
    pub(super) hold: Option<LeaseHold<'a>>,
}

/// Takes the job's lease if there was none before, and reads the records of the whole job otherwise.
///
/// A small job makes few requests to a ledger in a bucket. This one finds out that the job is new, and takes its lease. `is_new` says that
/// the job is known to be new.
pub(super) async fn begin<'a>(
    run: &JobRun,
    is_new: bool,
    services: &'a Services,
) -> Result<Beginning<'a>, JobError> {
    let (job, recording) = (&run.job.id, &services.recording);
    let mut beginning = Beginning {
        records: Vec::new(),
        is_new,
        hold: None,
    };
    if let Some(leases) = leases(run, services) {
        let taking = lease::take_first(leases, job, &recording.owner);
        beginning.hold = run.stop.or(taking).await??;
        beginning.is_new |= beginning.hold.is_some();
    }
    if !beginning.is_new {
        beginning.records = run.stop.or(recording.ledger.records_of(job, "")).await??;
    }
    Ok(beginning)
}

/// The leases of the ledger, if several workers share it. A part runs under the lease of its job, and nowhere else.
fn leases<'a>(run: &JobRun, services: &'a Services) -> Option<&'a dyn Leases> {
    let leases = services.recording.ledger.leases();
    leases.filter(|_| run.job.part.is_none())
}

/// Runs a job while this process holds the job's lease; without a lease if the ledger is of one machine.
pub(super) async fn under_lease(
    run: &JobRun,
    hold: Option<LeaseHold<'_>>,
    services: &Services,
    work: impl Future<Output = Result<JobReport, JobError>>,
) -> Result<JobReport, JobError> {
    let mut hold = match (hold, leases(run, services)) {
        (Some(hold), _) => hold,
        (None, None) => return work.await,
        (None, Some(leases)) => {
            let taking = lease::take_over(leases, &run.job.id, &services.recording.owner);
            match run.stop.or(taking).await?? {
                Taken::Busy { left } => return Err(JobError::Busy { left }),
                Taken::Held(hold) => hold,
            }
        }
    };
    failpoint::pass(Failpoint::Leased);
    let worked = hold.hold_while(work, &run.stop).await;
    // A job that is done needs no lease, unless its recipients without a mail may get one.
    if !worked.as_ref().is_ok_and(|report| report.failed() == 0) {
        hold.release().await;
    }
    worked
}

/// The hashes of the domains that a job names. Those of a list are not known yet.
fn domains_of(job: &Job) -> Vec<u64> {
    let recipients = job.email.iter().flat_map(EmailOrder::recipients);
    let domains: BTreeSet<&str> = recipients
        .map(|recipient| recipient.address.domain())
        .collect();
    let hash = |domain| domains_hash(std::iter::once(domain));
    domains.into_iter().take(MAX_DOMAINS).map(hash).collect()
}

impl Services {
    /// Enters the job at each of its edges. Fails if one of them is down and another job tries it.
    pub fn enter(&self, job: &Job) -> Result<Vec<JobAtEdge>, Outage> {
        if let Some(full) = self.recording.audit.edge().outage() {
            return Err(full);
        }
        let connection = self.signing.connections.get(&job.from.connection);
        let relay = job.email.as_ref().and_then(|email| self.relay(job, email));
        let share = self.share();
        // One slow store or relay of several leaves slots for the others.
        let stores = self
            .signing
            .policy
            .rules
            .iter()
            .map(|rule| &rule.connection);
        let stores = stores.collect::<BTreeSet<_>>().len();
        let relays = match &self.sending.mailer {
            Mailer::Smtp(relays) => relays.iter().count(),
            Mailer::Outbox(_) => 0,
        };
        let of_several = |count: usize| (count > 1).then_some(self.share);
        if let Some(connection) = connection {
            connection.s3.edge().limit_long_jobs(of_several(stores));
            connection.s3.edge().limit_hanging(self.share);
        }
        if let Some(relay) = relay {
            relay.edge().limit_long_jobs(of_several(relays));
            relay.limit_hanging(self.share);
        }
        let ledger = self.recording.ledger.edges().into_iter();
        let ledger = ledger.map(|edge| (edge, usize::MAX));
        let mut edges: Vec<(&Edge, usize)> = ledger
            .chain(connection.map(|connection| (connection.s3.edge(), share)))
            .chain(connection.map(|connection| (connection.signer.edge(), share)))
            .chain(relay.map(|relay| (relay.edge(), share)))
            .collect();
        // Edges in a lasting pause first: a trial of another edge would be in vain.
        edges.sort_by_key(|(edge, _)| edge.outage().is_none_or(|outage| outage.left.is_zero()));
        // The parts of a job try what is down as one: a part whose recipient is spared does not keep the others from it.
        let whole = job.id.whole();
        let by = whole.as_ref().unwrap_or(&job.id).as_str();
        let domains = domains_of(job);
        edges
            .into_iter()
            .map(|(edge, share)| match edge.kind() == EdgeKind::Relay {
                true => edge.enter_about(&domains, by, share),
                false => edge.enter(by, share),
            })
            .collect()
    }

    /// Waits until a job has to give its slot back, and returns the reason. While the job only waits for an edge, a
    /// death of the process is not counted against its message.
    pub async fn gives_way(&self, at: &[JobAtEdge], delivery: &Delivery) -> Outage {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            at.iter().for_each(JobAtEdge::tell_of_long_wait);
            delivery.waits(at.iter().any(|at| at.waits().is_some()));
            let share = self.share();
            if let Some(outage) = at.iter().find_map(|at| at.gives_way(share)) {
                return outage;
            }
        }
    }

    /// How many jobs may wait for one silent store or relay: the jobs of all silent ones have half of the slots.
    pub(super) fn share(&self) -> usize {
        let silent = self.edges.iter().filter(|edge| edge.is_silent()).count();
        (self.share / silent.max(1)).max(1)
    }

    /// The relay of a job's mails, if it is known before the plan is built.
    fn relay(&self, job: &Job, email: &EmailOrder) -> Option<&Relay> {
        let relays = match &self.sending.mailer {
            Mailer::Outbox(_) => return None,
            Mailer::Smtp(relays) => relays,
        };
        let name = match &email.relay {
            Some(name) => name.clone(),
            None => self.signing.policy.usual_relay(job)?,
        };
        relays.get(&name)
    }

    /// Checks that the relay of a job's mails accepts connections; does nothing for a job without a relay.
    pub async fn reach_relay(&self, job: &Job) -> Result<(), DeliverError> {
        let relay = job.email.as_ref().and_then(|email| self.relay(job, email));
        match relay {
            Some(relay) => Ok(relay.reach().await?),
            None => Ok(()),
        }
    }
}
