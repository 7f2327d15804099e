//! What follows from the records of a recipient, and how they are kept.

use super::*;
use crate::ledger::memory::MemoryLedger;

const DAY: i64 = 24 * 60 * 60;

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + days * DAY).unwrap()
}

fn record(days: i64, kind: PersonKind, tag: Option<&str>) -> PersonRecord {
    PersonRecord {
        at: at(days),
        kind,
        tag: tag.map(ToOwned::to_owned),
        id: format!("{days}{kind}"),
    }
}

fn kind_at(records: &[PersonRecord], list: Option<&str>, days: i64) -> Option<PersonKind> {
    let now = standing(records, list, at(days));
    // In any order, and each twice.
    let mut other: Vec<PersonRecord> = records.iter().rev().cloned().collect();
    other.extend(records.iter().cloned());
    assert_eq!(standing(&other, list, at(days)), now);
    now.map(|suppressed| suppressed.kind)
}

#[test]
fn what_is_for_good_lasts_until_an_operator_lifts_it() {
    use PersonKind::{ByRelay, Complaint, Delivered, Hard, Lifted, Operator};
    assert_eq!(kind_at(&[], None, 0), None);
    for kind in [Hard, ByRelay, Complaint, Operator] {
        let mut records = vec![record(0, kind, None), record(1, Delivered, None)];
        assert_eq!(
            kind_at(&records, None, 4000),
            Some(kind),
            "a delivery does not free"
        );
        records.push(record(5, Lifted, None));
        assert_eq!(kind_at(&records, None, 6), None);
        records.push(record(6, kind, None));
        assert_eq!(kind_at(&records, None, 7), Some(kind));
    }
}

#[test]
fn soft_bounces_of_three_jobs_over_three_days_suppress_for_a_time_that_doubles() {
    use PersonKind::{Delivered, Soft};
    let soft = |day, job| record(day, Soft, Some(job));
    assert_eq!(
        kind_at(&[soft(0, "a"), soft(1, "b"), soft(2, "c")], None, 2),
        None,
        "too soon"
    );
    assert_eq!(
        kind_at(&[soft(0, "a"), soft(1, "b"), soft(5, "b")], None, 5),
        None,
        "two jobs"
    );
    let unknown = [
        record(0, Soft, None),
        record(2, Soft, None),
        record(9, Soft, None),
    ];
    assert_eq!(
        kind_at(&unknown, None, 9),
        None,
        "of unknown jobs, one at the least"
    );
    let mut records = vec![soft(0, "a"), soft(1, "b"), soft(3, "c")];
    assert_eq!(kind_at(&records, None, 3), Some(Soft));
    assert_eq!(kind_at(&records, None, 9), Some(Soft));
    assert_eq!(kind_at(&records, None, 10), None, "seven days");
    records.extend([soft(11, "d"), soft(12, "e"), soft(14, "f")]);
    assert_eq!(kind_at(&records, None, 27), Some(Soft));
    assert_eq!(kind_at(&records, None, 28), None, "fourteen days");
    records.push(record(15, Delivered, None));
    assert_eq!(kind_at(&records, None, 15), None, "a delivery ends it");
    let longest = (0..20).flat_map(|n| {
        let day = n * 100;
        [soft(day, "a"), soft(day + 1, "b"), soft(day + 3, "c")]
    });
    let longest: Vec<PersonRecord> = longest.collect();
    assert_eq!(kind_at(&longest, None, 1903 + 59), Some(Soft));
    assert_eq!(
        kind_at(&longest, None, 1903 + 60),
        None,
        "sixty days at the most"
    );
}

#[test]
fn leaving_a_list_is_about_that_list_alone() {
    let records = [record(0, PersonKind::Left, Some("daily"))];
    assert_eq!(kind_at(&records, Some("daily"), 1), Some(PersonKind::Left));
    assert_eq!(kind_at(&records, Some("weekly"), 1), None);
    assert_eq!(kind_at(&records, None, 1), None);
}

#[tokio::test]
async fn an_event_is_one_record_however_often_it_comes() {
    let ledger = MemoryLedger::default();
    let people = PeopleRecords::of(&ledger);
    let rid = "00112233445566778899aabbccddeeff";
    assert_eq!(people.suppressed(rid, None, at(1)).await.unwrap(), None);
    let hard = record(0, PersonKind::Hard, Some("0011223344556677"));
    let detail = PersonDetail {
        source: "ses".to_owned(),
        words: "550 5.1.1".to_owned(),
        ..PersonDetail::default()
    };
    assert!(people.add(rid, &hard, &detail).await.unwrap());
    // Its time may be another the second time: a report without a date.
    let again = PersonRecord {
        at: at(3),
        ..hard.clone()
    };
    assert!(!people.add(rid, &again, &detail).await.unwrap());
    assert_eq!(
        people.of_person(rid).await.unwrap(),
        std::slice::from_ref(&hard)
    );
    let told = people.detail(rid, &hard).await.unwrap().unwrap();
    assert_eq!((told.v, &*told.words), (1, "550 5.1.1"));
    let suppressed = people.suppressed(rid, None, at(1)).await.unwrap().unwrap();
    assert_eq!(suppressed.since, at(0));
    assert_eq!(people.suppressed("ff", None, at(1)).await.unwrap(), None);
    assert_eq!(people.all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn with_more_records_than_one_request_lists_each_recipient_is_asked_for() {
    let ledger = MemoryLedger::default();
    let people = PeopleRecords::of(&ledger);
    for n in 0..1001 {
        let name = name_of(&format!("{n:032x}"), &record(0, PersonKind::Hard, None));
        people.records.create(&name, Vec::new()).await.unwrap();
    }
    for (rid, is_suppressed) in [(0, true), (1000, true), (1001, false)] {
        let rid = format!("{rid:032x}");
        let now = people.suppressed(&rid, None, at(1)).await.unwrap();
        assert_eq!(now.is_some(), is_suppressed, "{rid}");
    }
}

/// Adds soft bounces of three jobs over three days, and a delivery between, in each order of arrival.
#[tokio::test]
async fn a_delivery_ends_a_soft_series_in_whatever_order_the_reports_arrive() {
    use PersonKind::{Delivered, Hard, Soft};
    let rid = "00112233445566778899aabbccddeeff";
    let jobs = ["0011223344556677", "1122334455667788", "2233445566778899"];
    let soft = |day, job: usize| record(day, Soft, Some(jobs[job]));
    let reports = [
        soft(0, 0),
        soft(2, 1),
        record(3, Delivered, Some(jobs[1])),
        soft(4, 2),
    ];
    let orders = (0..24).map(|number| {
        let mut left: Vec<usize> = (0..4).collect();
        let mut number = number;
        [6, 2, 1, 1].map(|step| {
            let taken = left.remove(number / step);
            number %= step;
            taken
        })
    });
    for order in orders {
        let people = PeopleRecords::of(&MemoryLedger::default());
        for report in order {
            // Each comes twice, as after a crash.
            for _ in 0..2 {
                let record = &reports[report];
                let detail = PersonDetail::default();
                people.add_report(rid, record, &detail).await.unwrap();
            }
        }
        let now = people.suppressed(rid, None, at(5)).await.unwrap();
        assert_eq!(now, None, "{order:?}");
        assert_eq!(people.of_person(rid).await.unwrap().len(), 4, "{order:?}");
    }
    // Without the delivery, they suppress.
    let people = PeopleRecords::of(&MemoryLedger::default());
    for report in [&reports[0], &reports[1], &reports[3]] {
        let detail = PersonDetail::default();
        people.add_report(rid, report, &detail).await.unwrap();
    }
    assert!(people.suppressed(rid, None, at(5)).await.unwrap().is_some());
    // A delivery alone is no event about the recipient, and frees from nothing that is firm.
    let people = PeopleRecords::of(&MemoryLedger::default());
    let detail = PersonDetail::default();
    let delivery = record(3, Delivered, None);
    assert!(!people.add_report(rid, &delivery, &detail).await.unwrap());
    assert_eq!(people.of_person(rid).await.unwrap(), []);
    let hard = record(1, Hard, None);
    assert!(people.add_report(rid, &hard, &detail).await.unwrap());
    assert!(people.suppressed(rid, None, at(5)).await.unwrap().is_some());
}
