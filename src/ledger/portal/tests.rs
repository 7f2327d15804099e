//! Tests of `ledger/portal.rs`.

use super::changes::change_name;
use super::*;
use crate::keyring::nonce;
use crate::ledger::Ledger;
use crate::ledger::memory::MemoryLedger;

fn ledger() -> PortalLedger {
    PortalLedger::new(
        MemoryLedger::default().portal_records(),
        &Keyring::new([7; 32]),
    )
}

const REFERENCE: JobRef = JobRef([1; 8]);

#[tokio::test]
async fn people_come_back_and_their_names_are_sealed() {
    let ledger = ledger();
    let ann = PortalPerson {
        rid: "00".to_owned(),
        locale: Some("de".to_owned()),
        time_zone: None,
        name: Some("Ann Bell".to_owned()),
        file_names: None,
    };
    let people = [ann.clone(), PortalPerson { name: None, ..ann }];
    ledger.keep_people(REFERENCE, 0, &people).await.unwrap();
    let found = ledger.people(REFERENCE, 0).await.unwrap();
    assert_eq!(found.as_deref(), Some(&people[..]));
    assert_eq!(ledger.people(REFERENCE, 1).await.unwrap(), None);
    let body = ledger.records.read(&people_name(REFERENCE, 0)).await;
    let body = String::from_utf8(body.unwrap().unwrap()).unwrap();
    assert!(!body.contains("Ann"), "{body}");
    let other = PortalLedger::new(Arc::clone(&ledger.records), &Keyring::new([8; 32]));
    assert!(matches!(
        other.people(REFERENCE, 0).await,
        Err(LedgerError::Unreadable { .. })
    ));
}

#[tokio::test]
async fn a_recipient_gets_three_codes_in_a_quarter_of_an_hour() {
    let ledger = ledger();
    for k in 0..CODES_A_QUARTER {
        assert_eq!(
            ledger.record_code("aa", 7).await.unwrap(),
            CodeSlot::Taken(k)
        );
    }
    assert_eq!(ledger.record_code("aa", 7).await.unwrap(), CodeSlot::Full);
    assert_eq!(
        ledger.record_code("aa", 8).await.unwrap(),
        CodeSlot::Taken(0)
    );
    assert_eq!(
        ledger.record_code("bb", 7).await.unwrap(),
        CodeSlot::Taken(0)
    );
}

#[tokio::test]
async fn a_challenge_has_five_tries_and_a_right_code_is_used_once() {
    let (ledger, day) = (ledger(), jiff::civil::date(2026, 11, 29));
    let tried = async |challenge: &str, tried| {
        ledger
            .record_try(challenge, "aa", day, tried)
            .await
            .unwrap()
    };
    for _ in 0..TRIES_A_CHALLENGE {
        assert_eq!(tried("one", CodeTry::Failed).await, TryOutcome::Recorded);
    }
    assert_eq!(tried("one", CodeTry::Failed).await, TryOutcome::Full);
    assert_eq!(tried("one", CodeTry::Used).await, TryOutcome::Full);
    assert_eq!(tried("two", CodeTry::Used).await, TryOutcome::Recorded);
    assert_eq!(tried("two", CodeTry::Used).await, TryOutcome::UsedBefore);
    assert_eq!(tried("a/b", CodeTry::Used).await, TryOutcome::Full);
}

#[tokio::test]
async fn new_codes_do_not_give_a_recipient_more_than_thirty_failed_tries_in_a_day() {
    let (ledger, day) = (ledger(), jiff::civil::date(2026, 11, 29));
    for number in 0..TRIES_A_DAY {
        let challenge = format!("c{}", number / TRIES_A_CHALLENGE);
        let tried = ledger.record_try(&challenge, "aa", day, CodeTry::Failed);
        assert_eq!(tried.await.unwrap(), TryOutcome::Recorded, "{number}");
    }
    let right = ledger.record_try("new", "aa", day, CodeTry::Used);
    assert_eq!(right.await.unwrap(), TryOutcome::Full);
    let next_day = ledger.record_try("new", "aa", day.tomorrow().unwrap(), CodeTry::Used);
    assert_eq!(next_day.await.unwrap(), TryOutcome::Recorded);
}

fn change(number: u8) -> LinkChange {
    LinkChange {
        kind: ChangeKind::Revoked,
        target: ChangeTarget::Job {
            job: format!("job-{number}").parse().unwrap(),
        },
        by: "operator".to_owned(),
        why: None,
        at: Timestamp::UNIX_EPOCH,
        nonce: nonce(),
    }
}

#[tokio::test]
async fn changes_have_an_order_and_a_missing_one_is_damage() {
    let ledger = ledger();
    for number in 0..3 {
        // Another process may have added some since.
        let ordinal = ledger.add_change(0, &change(number)).await.unwrap();
        assert_eq!(ordinal, u64::from(number));
    }
    let all = ledger.changes().await.unwrap();
    let jobs = all.iter().map(|change| match &change.target {
        ChangeTarget::Job { job } => job.to_string(),
        _ => String::new(),
    });
    assert_eq!(jobs.collect::<Vec<_>>(), ["job-0", "job-1", "job-2"]);
    assert_eq!(ledger.change(3).await.unwrap(), None);
    let beyond = to_json(&change(9));
    ledger
        .records
        .create(&change_name(4), beyond)
        .await
        .unwrap();
    assert!(matches!(
        ledger.changes().await,
        Err(LedgerError::Unreadable { key }) if key == change_name(3)
    ));
}

#[tokio::test]
async fn a_hundred_changes_are_bundled_by_the_first_reader_and_say_the_same() {
    let (short, ledger) = (ledger(), ledger());
    let mut made = Vec::new();
    for number in 0..=u8::MAX {
        let change = change(number);
        ledger.add_change(number.into(), &change).await.unwrap();
        made.push(change);
    }
    assert_eq!(ledger.changes().await.unwrap(), made);
    let bundles = ledger.records.names("bundle/", None, 9).await.unwrap();
    assert_eq!(bundles, ["000000000000", "000000000001"]);
    assert_eq!(ledger.changes().await.unwrap(), made);

    // The records are still asked for their names, so a missing one is damage with a bundle too.
    let beyond = to_json(&change(9));
    let name = change_name(258);
    ledger.records.create(&name, beyond).await.unwrap();
    assert!(ledger.changes().await.is_err());

    // A bundle that lacks changes is damage.
    for number in 0..100 {
        short
            .add_change(number.into(), &change(number))
            .await
            .unwrap();
    }
    let body = to_json(&vec![change(0)]);
    short
        .records
        .create("bundle/000000000000", body)
        .await
        .unwrap();
    assert!(matches!(
        short.changes().await,
        Err(LedgerError::Unreadable { key }) if key == "bundle/000000000000"
    ));
}

#[tokio::test]
async fn a_day_has_one_key_and_a_recipient_finds_the_latest_jobs_first() {
    let ledger = ledger();
    let day = jiff::civil::date(2026, 11, 29);
    let key = ledger.day_key(day).await.unwrap();
    assert_eq!(ledger.day_key(day).await.unwrap(), key);
    assert_ne!(ledger.day_key(day.tomorrow().unwrap()).await.unwrap(), key);
    for (second, reference) in [(5, [1; 8]), (70, [2; 8]), (6, [3; 8])] {
        let at = Timestamp::from_second(second).unwrap();
        ledger.keep_mine("aa", JobRef(reference), at).await.unwrap();
    }
    let mine = ledger.mine("aa", 2).await.unwrap();
    assert_eq!(mine, [JobRef([2; 8]), JobRef([3; 8])]);
    assert_eq!(ledger.mine("bb", 2).await.unwrap(), []);
}

#[tokio::test]
async fn the_first_record_of_a_job_counts() {
    let ledger = ledger();
    let first = PortalJob {
        v: 1,
        job: "daily".parse().unwrap(),
        connection: "reports".parse().unwrap(),
        bucket: "acme-reports".parse().unwrap(),
        listing: "abc".to_owned(),
        objects: 1,
        people: 1,
        per_recipient: true,
        begun_at: Timestamp::UNIX_EPOCH,
        ends_at: Timestamp::UNIX_EPOCH,
        sign_in: SignIn::None,
        open: OpenMode::Page,
        disposition: ContentDisposition::Attachment,
        file_names: PortalFileNames::Own,
        text_charset: TextCharset::default(),
        title: None,
        message: None,
        template: "gallery".parse().unwrap(),
        contact: None,
        prefix: "2026/".to_owned(),
        page_size: 1000,
        time_zone: "UTC".to_owned(),
    };
    let second = PortalJob {
        ends_at: Timestamp::MAX,
        ..first.clone()
    };
    let created = ledger.create_job(REFERENCE, first.clone()).await.unwrap();
    assert_eq!(created, first);
    let again = ledger.create_job(REFERENCE, second).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(ledger.job(REFERENCE).await.unwrap(), Some(first));
    let daily = "daily".parse().unwrap();
    assert_eq!(ledger.references(&daily).await.unwrap(), [REFERENCE]);
}
