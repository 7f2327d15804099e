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
async fn a_recipient_gets_three_codes_in_a_quarter_of_an_hour_and_twelve_in_a_day() {
    let ledger = ledger();
    let code = async |scope, rid: &str, quarter| {
        let code = ledger.record_code(scope, rid, quarter, "c");
        code.await.unwrap()
    };
    for k in 0..CODES_A_QUARTER {
        assert_eq!(code(LINK, "aa", 7).await, CodeSlot::Taken(k));
    }
    assert_eq!(code(LINK, "aa", 7).await, CodeSlot::Full);
    assert_eq!(code(LINK, "bb", 7).await, CodeSlot::Taken(0));
    // A stranger who knows the address and has no link uses up none of them.
    assert_eq!(code(CodeScope::Mine, "aa", 7).await, CodeSlot::Taken(0));
    let mut mailed = CODES_A_QUARTER;
    for quarter in 8..96 {
        mailed += u32::from(code(LINK, "aa", quarter).await != CodeSlot::Full);
    }
    assert_eq!(mailed, CODES_A_DAY);
    assert_eq!(
        code(LINK, "aa", 96).await,
        CodeSlot::Taken(0),
        "the next day"
    );
}

const LINK: CodeScope = CodeScope::Link;

#[tokio::test]
async fn a_challenge_has_five_tries_and_a_right_code_is_used_once() {
    let ledger = ledger();
    let tried = async |challenge: &str| {
        let tried = ledger.take_try(LINK, challenge, "aa", 7);
        tried.await.unwrap()
    };
    ledger.record_code(LINK, "aa", 7, "one").await.unwrap();
    for _ in 0..TRIES_A_CHALLENGE {
        assert_eq!(tried("one").await, TrySlot::Taken);
    }
    assert_eq!(tried("one").await, TrySlot::Full);
    assert_eq!(tried("a/b").await, TrySlot::Full);
    assert!(ledger.use_code("one").await.unwrap());
    assert!(!ledger.use_code("one").await.unwrap());
    // A code that no mail has opens nothing, and its tries are those of another challenge.
    for _ in 0..TRIES_A_CHALLENGE {
        assert_eq!(tried("unsent").await, TrySlot::Blind);
    }
    assert_eq!(tried("unsent").await, TrySlot::Full);
    let names = ledger.records.names("tried/aa/", None, 99).await.unwrap();
    assert_eq!(names.len(), 5, "only tries at mailed codes count");
}

#[tokio::test]
async fn new_codes_do_not_give_a_recipient_more_than_thirty_tries_in_a_day() {
    let ledger = ledger();
    let mut taken = 0;
    for number in 0..12 {
        let (quarter, challenge) = (number, format!("c{number}"));
        let code = ledger.record_code(LINK, "aa", quarter, &challenge);
        let is_mailed = code.await.unwrap() != CodeSlot::Full;
        // All at once, as on many instances.
        let tries = (0..8).map(|_| ledger.take_try(LINK, &challenge, "aa", quarter));
        let slots = futures_util::future::join_all(tries).await;
        let slots = slots.into_iter().map(Result::unwrap);
        let of_challenge = slots.filter(|slot| *slot == TrySlot::Taken).count();
        assert!(is_mailed || of_challenge == 0, "{number}");
        taken += of_challenge;
    }
    assert_eq!(taken, TRIES_A_DAY as usize);
    ledger.record_code(LINK, "aa", 96, "next").await.unwrap();
    let next_day = ledger.take_try(LINK, "next", "aa", 96).await.unwrap();
    assert_eq!(next_day, TrySlot::Taken);
}

fn change(number: u8) -> LinkChange {
    LinkChange {
        kind: ChangeKind::Revoked,
        target: ChangeTarget::Job {
            job: format!("job-{number}").parse().unwrap(),
        },
        by: "operator".to_owned(),
        why: None,
        refs: Vec::new(),
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
    let first = PortalJob::sample();
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

impl PortalJob {
    /// A record for tests.
    pub(in crate::ledger) fn sample() -> Self {
        Self {
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
            is_gallery: false,
            template: "gallery".parse().unwrap(),
            contact: None,
            prefix: "2026/".to_owned(),
            page_size: 1000,
            time_zone: "UTC".to_owned(),
            renditions: None,
            zips: PortalZips::default(),
        }
    }
}
