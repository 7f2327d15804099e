//! Tests of `portal_access/revocations.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::keyring::Keyring;
use crate::ledger::Ledger;
use crate::ledger::memory::MemoryLedger;
use crate::ledger::portal::{PortalCreated, PortalRecords};

/// Records that count reads, and can fail.
#[derive(Debug)]
struct Watched {
    records: Arc<dyn PortalRecords>,
    reads: AtomicUsize,
    is_down: AtomicBool,
    /// How many seconds a read takes.
    takes: AtomicUsize,
}

#[async_trait]
impl PortalRecords for Watched {
    async fn create(&self, name: &str, body: Vec<u8>) -> Result<PortalCreated, LedgerError> {
        self.records.create(name, body).await
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err(silent());
        }
        let takes = self.takes.load(Ordering::SeqCst) as u64;
        tokio::time::sleep(Duration::from_secs(takes)).await;
        self.records.read(name).await
    }

    async fn names(
        &self,
        below: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, LedgerError> {
        self.records.names(below, after, limit).await
    }
}

struct World {
    watched: Arc<Watched>,
    ledger: PortalLedger,
}

impl World {
    fn new() -> Self {
        let watched = Arc::new(Watched {
            records: MemoryLedger::default().portal_records(),
            reads: AtomicUsize::new(0),
            is_down: AtomicBool::new(false),
            takes: AtomicUsize::new(0),
        });
        let records: Arc<Watched> = Arc::clone(&watched);
        Self {
            watched,
            ledger: PortalLedger::new(records, &Keyring::new([7; 32])),
        }
    }

    fn revocations(&self, check_age: u64) -> Revocations {
        let (check_age, stale_max) = (Duration::from_secs(check_age), Duration::from_secs(30));
        Revocations::new(self.ledger.clone(), check_age, stale_max)
    }

    async fn change(&self, kind: ChangeKind) {
        let change = LinkChange {
            kind,
            target: target(),
            by: "operator".to_owned(),
            why: None,
            refs: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            nonce: crate::keyring::nonce(),
        };
        self.ledger.add_change(0, &change).await.unwrap();
    }

    fn reads(&self) -> usize {
        self.watched.reads.swap(0, Ordering::SeqCst)
    }
}

fn target() -> ChangeTarget {
    ChangeTarget::Job {
        job: "daily".parse().unwrap(),
    }
}

async fn is_revoked(revocations: &Revocations) -> Result<bool, LedgerError> {
    revocations.ask(|links| links.of(&target()).is_some()).await
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_seen_within_a_second_and_a_restored_link_opens_again() {
    let world = World::new();
    let revocations = world.revocations(1);
    assert!(!is_revoked(&revocations).await.unwrap());
    world.change(ChangeKind::Revoked).await;
    assert!(
        !is_revoked(&revocations).await.unwrap(),
        "the check is young"
    );
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert!(is_revoked(&revocations).await.unwrap());
    world.change(ChangeKind::Restored).await;
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert!(!is_revoked(&revocations).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn with_zero_seconds_no_open_misses_a_revocation_that_returned() {
    let world = World::new();
    let revocations = world.revocations(0);
    assert!(!is_revoked(&revocations).await.unwrap());
    tokio::time::advance(Duration::from_millis(1)).await;
    world.change(ChangeKind::Revoked).await;
    assert!(is_revoked(&revocations).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn opens_at_once_share_a_check_and_a_young_check_costs_nothing() {
    let world = World::new();
    let revocations = world.revocations(1);
    let opens = (0..100).map(|_| is_revoked(&revocations));
    futures_util::future::join_all(opens).await;
    assert_eq!(world.reads(), 1);
    is_revoked(&revocations).await.unwrap();
    assert_eq!(world.reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_for_a_while_and_then_nothing_opens() {
    let world = World::new();
    let revocations = world.revocations(1);
    is_revoked(&revocations).await.unwrap();
    world.watched.is_down.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(29)).await;
    assert!(!is_revoked(&revocations).await.unwrap());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(is_revoked(&revocations).await.is_err());
    world.reads();
    assert!(is_revoked(&revocations).await.is_err());
    assert_eq!(world.reads(), 0, "a failed check is shared");
    world.watched.is_down.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!is_revoked(&revocations).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_and_a_damaged_record_open_nothing() {
    let world = World::new();
    world.change(ChangeKind::Revoked).await;
    world.watched.is_down.store(true, Ordering::SeqCst);
    assert!(is_revoked(&world.revocations(1)).await.is_err());
    world.watched.is_down.store(false, Ordering::SeqCst);
    let revocations = world.revocations(1);
    assert!(is_revoked(&revocations).await.unwrap());
    let damaged = world.watched.create("gone/000000000001", b"?".to_vec());
    damaged.await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(is_revoked(&revocations).await.is_err(), "no outage");
    assert!(
        is_revoked(&revocations).await.is_err(),
        "nor for the opens that follow"
    );
    let hole = world.watched.create("gone/000000000003", b"?".to_vec());
    hole.await.unwrap();
    assert!(is_revoked(&world.revocations(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn very_many_changes_are_read_from_a_slow_ledger_check_by_check() {
    let world = World::new();
    for number in 0..250_u64 {
        let kind = match number {
            249 => ChangeKind::Revoked,
            _ => ChangeKind::Restored,
        };
        world.change(kind).await;
    }
    // A look for bundles and two rounds of reads: a check has no time for a hundred records.
    world.watched.takes.store(3, Ordering::SeqCst);
    let revocations = world.revocations(1);
    let mut checks = 0;
    let is_revoked = loop {
        checks += 1;
        match is_revoked(&revocations).await {
            Ok(is_revoked) => break is_revoked,
            Err(error) => assert!(may_pass(&error), "{error}"),
        }
        assert!(
            checks < 20,
            "no check goes on where the one before it ended"
        );
        tokio::time::advance(FAILED_FOR * 2).await;
    };
    assert!(is_revoked && checks > 1, "{checks}");
}

#[test]
fn a_revoked_job_closes_its_parts_and_a_revoked_part_no_other() {
    let (weekly, reference): (JobId, _) = ("weekly".parse().unwrap(), JobRef([0; 8]));
    let (ann, bo) = ("0a".repeat(16), "0b".repeat(16));
    let change = |kind: ChangeKind, target: ChangeTarget| LinkChange {
        kind,
        target,
        by: "operator".to_owned(),
        why: None,
        refs: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
        nonce: crate::keyring::nonce(),
    };
    let is_closed = |links: &RevokedLinks, rid: &str| {
        let part = weekly.part(rid);
        links.link(&part, reference, rid, None, "id").is_some()
    };
    let whole = || ChangeTarget::Job {
        job: weekly.clone(),
    };
    let mut links = RevokedLinks::default();
    links.apply(change(ChangeKind::Revoked, whole()));
    assert!(is_closed(&links, &ann) && is_closed(&links, &bo));
    links.apply(change(ChangeKind::Restored, whole()));
    assert!(!is_closed(&links, &ann));
    for target in [
        ChangeTarget::Job {
            job: weekly.part(&ann),
        },
        ChangeTarget::Recipient {
            rid: ann.clone(),
            job: Some(weekly.clone()),
        },
    ] {
        let mut links = RevokedLinks::default();
        links.apply(change(ChangeKind::Revoked, target));
        assert!(is_closed(&links, &ann) && !is_closed(&links, &bo));
    }
}
