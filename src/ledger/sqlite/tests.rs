//! What the SQLite ledger forgets, and what it keeps.

use jiff::Timestamp;

use super::*;
use crate::keyring::Keyring;
use crate::ledger::portal::{
    ChangeKind, ChangeTarget, LinkChange, PortalJob, PortalLedger, PortalPerson,
};
use crate::portal_token::JobRef;

const DAY: i64 = 24 * 60 * 60;

fn first_day() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn day_29() -> Timestamp {
    Timestamp::from_second(29 * DAY).unwrap()
}

fn day_31() -> Timestamp {
    Timestamp::from_second(31 * DAY).unwrap()
}

fn ledger(folder: &tempfile::TempDir) -> SqliteLedger {
    let database = Database::open(&folder.path().join("handout.sqlite")).unwrap();
    SqliteLedger::new(database, first_day)
}

async fn rows(ledger: &SqliteLedger) -> i64 {
    let count = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM shelf", [], |row| row.get(0))
    };
    ledger.database.call(count).await.unwrap()
}

#[tokio::test]
async fn the_shelf_forgets_what_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(&folder);
    let thing = |name: &str| (name.to_owned(), "known".to_owned());
    first.keep(&[thing("a")]).await.unwrap();
    let at = |clock| SqliteLedger::new(first.database.clone(), clock);
    let name = ["a".to_owned()];
    assert!(at(day_29).recall(&name).await.unwrap()[0].is_some());
    assert_eq!(at(day_31).recall(&name).await.unwrap(), [None]);
    at(day_29).keep(&[thing("b")]).await.unwrap();
    assert_eq!(rows(&first).await, 2);
    at(day_31).keep(&[thing("c")]).await.unwrap();
    assert_eq!(rows(&first).await, 2, "the first is gone");
}

#[tokio::test]
async fn codes_and_keys_of_days_are_forgotten_and_revocations_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(&folder);
    let names = ["code/aa/1/0", "day/1970-01-01", "gone/000000000000"];
    for name in names {
        PortalRecords::create(&first, name, vec![0; 32])
            .await
            .unwrap();
    }
    let kept = PortalLedger::new(first.portal_records(), &Keyring::new([7; 32]));
    let left = async || {
        let mut left = Vec::new();
        for name in names {
            left.push(PortalRecords::read(&first, name).await.unwrap().is_some());
        }
        left
    };
    kept.forget_old(day_29(), first_day()).await.unwrap();
    assert_eq!(left().await, [false, true, true]);
    kept.forget_old(day_31(), day_29()).await.unwrap();
    assert_eq!(left().await, [false, false, true]);
}

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(day * DAY).unwrap()
}

fn moved(job: &PortalJob, until: Timestamp, refs: Vec<JobRef>) -> LinkChange {
    LinkChange {
        kind: ChangeKind::Moved { until },
        target: ChangeTarget::Job {
            job: job.job.clone(),
        },
        by: "operator".to_owned(),
        why: None,
        refs,
        at: first_day(),
        nonce: until.to_string(),
    }
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten_except_when_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(&folder);
    let kept = PortalLedger::new(first.portal_records(), &Keyring::new([7; 32]));
    // Two jobs end at day 10; the end of the second was moved to day 40.
    let [ended, extended] = [JobRef([1; 8]), JobRef([2; 8])];
    for (reference, id) in [(ended, "ended"), (extended, "extended")] {
        let job = PortalJob {
            job: id.parse().unwrap(),
            ends_at: at(10),
            ..PortalJob::sample()
        };
        let ann = PortalPerson {
            rid: "aa".to_owned(),
            locale: None,
            time_zone: None,
            name: Some("Ann".to_owned()),
            file_names: None,
        };
        kept.keep_people(reference, 0, &[ann]).await.unwrap();
        kept.keep_objects(reference, 0, b"[]".to_vec())
            .await
            .unwrap();
        for page in 0..2 {
            let rows = b"[]".to_vec();
            kept.keep_renditions(reference, page, rows.clone())
                .await
                .unwrap();
            kept.keep_zip_files(reference, (0, page), rows)
                .await
                .unwrap();
        }
        kept.keep_mine("aa", reference, at(10)).await.unwrap();
        let job = kept.create_job(reference, job).await.unwrap();
        if reference == extended {
            let change = moved(&job, at(40), vec![extended]);
            kept.add_change(0, &change).await.unwrap();
        }
    }
    let seen = async |reference| {
        (
            kept.people(reference, 0).await.unwrap().is_some(),
            kept.objects(reference, 0).await.unwrap().is_some(),
            kept.job(reference).await.unwrap().is_some(),
        )
    };
    assert_eq!(kept.forget_ended(at(10)).await.unwrap(), 0, "it ends now");
    assert_eq!(kept.forget_ended(at(39)).await.unwrap(), 1);
    assert_eq!(seen(ended).await, (false, false, true));
    let below = format!("job/{ended}/");
    let left = first.portal_records().names(&below, None, 100).await;
    assert_eq!(left.unwrap(), ["job"], "no other record is left");
    assert_eq!(seen(extended).await, (true, true, true));
    assert_eq!(kept.mine("aa", 9).await.unwrap(), [extended]);
    assert_eq!(
        kept.references(&"ended".parse().unwrap()).await.unwrap(),
        []
    );
    assert_eq!(kept.forget_ended(at(39)).await.unwrap(), 0, "once");
    assert_eq!(kept.changes().await.unwrap().len(), 1);
}

/// A process that is killed while it lists leaves pages that no plan names.
#[tokio::test]
async fn pages_of_a_job_that_never_had_a_plan_are_pruned_by_their_age() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(&folder);
    let later = SqliteLedger::new(first.database.clone(), day_29);
    let jobs: [JobId; 3] = ["killed", "open", "young"].map(|job| job.parse().unwrap());
    let [killed, open, young] = &jobs;
    let part: JobId = open.part(&"0".repeat(32));
    let plan = Record::new(open, "", 0, Kind::Plan, serde_json::json!({}));
    Ledger::create(&later, plan).await.unwrap();
    for job in [killed, open, &part] {
        later
            .keep_page(job, "listing", 0, b"[]".to_vec())
            .await
            .unwrap();
    }
    let last = SqliteLedger::new(first.database.clone(), day_31);
    last.keep_page(young, "listing", 0, b"[]".to_vec())
        .await
        .unwrap();
    let kept = async || {
        let mut kept = Vec::new();
        for job in [killed, open, &part, young] {
            kept.push(first.page(job, "listing", 0).await.unwrap().is_some());
        }
        kept
    };
    assert_eq!(last.prune(day_29()).await.unwrap().jobs, 0, "none is older");
    let before = at(30);
    assert_eq!(last.count_prunable(before).await.unwrap().jobs, 1);
    assert_eq!(kept().await, [true; 4]);
    assert_eq!(last.prune(before).await.unwrap().jobs, 1);
    assert_eq!(kept().await, [false, true, true, true], "the job goes on");

    // A page of an earlier version: its age counts from the first pruning on.
    let sql = "UPDATE page SET at = 0 WHERE job = 'young'";
    let set = |connection: &Connection| connection.execute(sql, []);
    first.database.call(set).await.unwrap();
    assert_eq!(last.prune(at(40)).await.unwrap().jobs, 0);
    assert!(kept().await[3]);
    assert_eq!(last.prune(at(40)).await.unwrap().jobs, 1);
    assert_eq!(kept().await, [false, true, true, false]);
}

#[tokio::test]
async fn the_shelf_holds_so_many_things_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(&folder);
    let things = |from: i64, to: i64| -> Vec<(String, String)> {
        (from..to)
            .map(|number| (format!("{number:06}"), String::new()))
            .collect()
    };
    first.keep(&things(0, SHELF_ROOM)).await.unwrap();
    let later = SqliteLedger::new(first.database.clone(), day_29);
    let new = things(SHELF_ROOM, SHELF_ROOM + 10);
    later.keep(&new).await.unwrap();
    assert_eq!(rows(&first).await, SHELF_ROOM);
    let names: Vec<String> = new.into_iter().map(|(name, _)| name).collect();
    assert!(
        later
            .recall(&names)
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
}
