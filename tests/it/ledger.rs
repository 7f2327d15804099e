//! The ledger: one suite for every place where it can be kept, also when that place fails; and what it keeps from happening.

use std::sync::Arc;
use std::time::Duration;

use handout::assemble::Opened;
use handout::clock;
use handout::config::{ConnectionConfig, LedgerKind, OnDoubt, Tls, Transport};
use handout::database::Database;
use handout::error::{FailureClass, JobError};
use handout::job::occurrence::Sequencer;
use handout::job::{JobId, Recipient};
use handout::keyring::sha256_hex;
use handout::ledger::lease::{self, LEASE, LeaseTerms, Leases, Owner};
use handout::ledger::memory::MemoryLedger;
use handout::ledger::picture_cache::PictureCache;
use handout::ledger::portal::PortalCreated;
use handout::ledger::s3::S3Ledger;
use handout::ledger::sqlite::SqliteLedger;
use handout::ledger::{Created, Kind, Ledger, Record};
use handout::queue::sqs::SqsQueue;
use handout::text::chain;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::conformance::{create_bucket, s3_client};
use crate::support::answering::{answering, date};
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::faulty::{Faults, FaultyProxy};
use crate::support::servers::{Parts, Server};
use crate::support::until;
use crate::support::world::{World, email_job, options, run_until_settled};

const STRANGE: &str = "../job/with a strange id: ü!";

fn job(id: &str) -> JobId {
    id.parse().unwrap()
}

/// Everything that is true of a ledger, wherever it is kept and however often its answers are lost.
async fn a_ledger_is_a_ledger(ledger: Arc<dyn Ledger>) {
    records_are_created_once(&*ledger).await;
    one_of_those_who_race_wins(&ledger).await;
    only_later_events_are_read(&*ledger).await;
    pages_come_back(&*ledger).await;
    what_the_portal_records_stays(&*ledger).await;
    what_is_known_of_a_recipient_is_for_all_jobs(&*ledger).await;
    what_is_reported_of_parts_is_found_by_their_job(&*ledger).await;
    if let Some(picture_cache) = ledger.picture_cache() {
        what_is_on_the_shelf_comes_back(picture_cache).await;
    }
    if let Some(leases) = ledger.leases() {
        a_lease_is_taken_over_what_was_seen(leases).await;
        one_of_those_who_race_for_a_lease_wins(&ledger).await;
    }
}

async fn only_later_events_are_read(ledger: &dyn Ledger) {
    let series = job("served-0123456789abcdef0123456789abcdef");
    let sequencer = |text: &str| Sequencer::parse(text).unwrap();
    for text in ["0055", "0055AED6DCD90281E5", "0055AED6DCD90281E6", "01"] {
        let record = Record::new(
            &series,
            sequencer(text).as_str(),
            0,
            Kind::Served,
            json!({}),
        );
        assert_eq!(ledger.create(record).await.unwrap(), Created::Ours);
    }
    // A job that has taken the name of the series.
    let intent = Record::new(&series, &"F".repeat(64), 0, Kind::Intent, json!({}));
    ledger.create(intent).await.unwrap();
    for (text, later) in [
        (
            "00",
            &["0055", "0055AED6DCD90281E5", "0055AED6DCD90281E6", "01"][..],
        ),
        ("0055AED6DCD90281E5", &["0055AED6DCD90281E6", "01"]),
        ("01", &[]),
    ] {
        let records = ledger
            .served_after(&series, &sequencer(text))
            .await
            .unwrap();
        let mut rids: Vec<String> = records.into_iter().map(|record| record.rid).collect();
        rids.sort();
        let wanted: Vec<_> = later
            .iter()
            .map(|text| sequencer(text).as_str().to_owned())
            .collect();
        assert_eq!(rids, wanted, "after {text}");
    }
}

async fn records_are_created_once(ledger: &dyn Ledger) {
    let job = job(STRANGE);
    let record = |rid, n, kind, body| Record::new(&job, rid, n, kind, body);
    let first = record("ann", 0, Kind::Intent, json!({ "by": "first" }));
    assert_eq!(ledger.create(first.clone()).await.unwrap(), Created::Ours);
    assert_eq!(
        ledger.create(first.clone()).await.unwrap(),
        Created::Ours,
        "whoever asks again with the same nonce is the one who created it"
    );
    let second = record("ann", 0, Kind::Intent, json!({ "by": "second" }));
    assert_eq!(
        ledger.create(second).await.unwrap(),
        Created::Theirs(first.clone())
    );
    let others = [
        record("", 0, Kind::Plan, json!({ "body_sha256": "x" })),
        record("", 1, Kind::Reopened, json!({})),
        record("", 0, Kind::Done, json!(null)),
        record("", 1, Kind::Done, json!({})),
        record("ann", 0, Kind::Outcome, json!(null)),
        record("ann", 0, Kind::Late, json!({})),
        record("ann", 0, Kind::Verdict, json!({})),
        record("ann", 12, Kind::Intent, json!({})),
        record("annabel", 0, Kind::Intent, json!({})),
    ];
    for other in &others {
        assert_eq!(ledger.create(other.clone()).await.unwrap(), Created::Ours);
    }
    let mut all = ledger.records(&job).await.unwrap();
    assert_eq!(all.len(), 10);
    for record in others.iter().chain([&first]) {
        assert!(all.contains(record), "unchanged: {record:?}");
    }
    all.retain(|record| record.rid == "ann");
    let mut of_ann = ledger.records_of(&job, "ann").await.unwrap();
    let by_key = |record: &Record| (record.n, record.kind.as_str());
    all.sort_by_key(by_key);
    of_ann.sort_by_key(by_key);
    assert_eq!((of_ann.len(), &of_ann), (5, &all));
    assert_eq!(ledger.records_of(&job, "").await.unwrap().len(), 4);
    assert!(
        ledger
            .records(&"../job".parse().unwrap())
            .await
            .unwrap()
            .is_empty()
    );
    assert!(ledger.records_of(&job, "bo").await.unwrap().is_empty());
    assert_eq!(ledger.jobs(10).await.unwrap(), std::slice::from_ref(&job));
}

async fn one_of_those_who_race_wins(ledger: &Arc<dyn Ledger>) {
    let job = job("race");
    for attempt in 0..4 {
        let racing = (0..12).map(|number| {
            let (ledger, job) = (Arc::clone(ledger), job.clone());
            async move {
                let record = Record::new(&job, "bo", attempt, Kind::Intent, json!(number));
                (record.clone(), ledger.create(record).await.unwrap())
            }
        });
        let created = futures_util::future::join_all(racing).await;
        let winners: Vec<&Record> = created
            .iter()
            .filter(|(_, created)| *created == Created::Ours)
            .map(|(record, _)| record)
            .collect();
        assert_eq!(winners.len(), 1, "of twelve who race, one wins");
        for (_, created) in &created {
            if let Created::Theirs(first) = created {
                assert_eq!(first, winners[0], "and everybody sees the same one");
            }
        }
    }
}

async fn pages_come_back(ledger: &dyn Ledger) {
    let job = job(STRANGE);
    let page = |number: u32| vec![u8::try_from(number).unwrap(); 1000];
    for number in [0, 1, 10] {
        ledger
            .keep_page(&job, "list", number, page(number))
            .await
            .unwrap();
        ledger
            .keep_page(&job, "list", number, page(number))
            .await
            .unwrap();
    }
    for number in [0, 1, 10] {
        let kept = ledger.page(&job, "list", number).await.unwrap();
        assert_eq!(kept, Some(page(number)));
    }
    assert_eq!(ledger.page(&job, "list", 2).await.unwrap(), None);
    assert_eq!(ledger.page(&job, "other", 0).await.unwrap(), None);
    assert_eq!(
        ledger.records(&job).await.unwrap().len(),
        10,
        "a page is no record"
    );
    ledger.forget_pages(&job).await.unwrap();
}

async fn what_the_portal_records_stays(ledger: &dyn Ledger) {
    let records = ledger.portal_records();
    let body = |text: &str| text.as_bytes().to_vec();
    let first = records.create("gone/1", body("one")).await.unwrap();
    assert_eq!(first, PortalCreated::Ours);
    let again = records.create("gone/1", body("one")).await.unwrap();
    assert_eq!(again, PortalCreated::Ours, "an answer may have been lost");
    let other = records.create("gone/1", body("two")).await.unwrap();
    assert_eq!(other, PortalCreated::Theirs(body("one")));
    assert_eq!(records.read("gone/1").await.unwrap(), Some(body("one")));
    assert_eq!(records.read("gone/2").await.unwrap(), None);
    for name in ["gone/3", "gone/2", "gone", "gone/10", "other/1"] {
        records.create(name, Vec::new()).await.unwrap();
    }
    let names = async |after, limit| records.names("gone/", after, limit).await.unwrap();
    assert_eq!(names(None, 10).await, ["1", "10", "2", "3"]);
    assert_eq!(names(None, 2).await, ["1", "10"]);
    assert_eq!(names(Some("10"), 2).await, ["2", "3"]);
    assert!(records.names("none/", None, 10).await.unwrap().is_empty());
    let racing = (0..8).map(|number| records.create("race", body(&format!("{number}"))));
    let created = futures_util::future::join_all(racing).await;
    let ours = created
        .iter()
        .filter(|created| matches!(created, Ok(PortalCreated::Ours)));
    assert_eq!(ours.count(), 1, "of eight who race, one wins");
}

/// Of the parts of a job, those with a report are read whole, and those of no other job.
async fn what_is_reported_of_parts_is_found_by_their_job(ledger: &dyn Ledger) {
    let rid = |digit: &str| digit.repeat(32);
    let whole = job("reported é/1");
    let accepted = json!({ "outcome": "accepted", "words": "250" });
    let report = json!({ "verdict": "hard", "at": "2026-11-23T06:00:00Z" });
    let other = job("reported é/1.part.x");
    for (of, digit, kind) in [
        (&whole, "a", Some(Kind::Bounced)),
        (&whole, "b", None),
        (&whole, "c", Some(Kind::Delivered)),
        (&other, "d", Some(Kind::Bounced)),
    ] {
        let rid = rid(digit);
        let part = of.part(&rid);
        for (kind, body) in [
            (Some(Kind::Intent), json!({})),
            (Some(Kind::Outcome), accepted.clone()),
            (kind, report.clone()),
        ] {
            if let Some(kind) = kind {
                let record = Record::new(&part, &rid, 0, kind, body);
                ledger.create(record).await.unwrap();
            }
        }
        let done = Record::new(&part, "", 0, Kind::Done, json!({}));
        ledger.create(done).await.unwrap();
    }
    let mut found = ledger.reports_of_parts(&whole).await.unwrap();
    found.sort_by_key(|record| (record.rid.clone(), record.kind.as_str()));
    let found: Vec<_> = found
        .iter()
        .map(|record| (record.rid.clone(), record.kind.as_str()))
        .collect();
    let wanted = [
        ("a", "b"),
        ("a", "i"),
        ("a", "o"),
        ("c", "d"),
        ("c", "i"),
        ("c", "o"),
    ];
    let wanted: Vec<_> = wanted.map(|(digit, kind)| (rid(digit), kind)).to_vec();
    assert_eq!(found, wanted);
    let mails = handout::ledger::reported_mails_of(&whole, true, ledger).await;
    let mails = mails.unwrap();
    assert_eq!((mails.delivered, mails.bounced), (1, 1));
}

/// An event is one record however often it comes, and a lift after it lets mails go again.
async fn what_is_known_of_a_recipient_is_for_all_jobs(ledger: &dyn Ledger) {
    use handout::ledger::people::{PeopleRecords, PersonDetail, PersonKind, PersonRecord};
    let (people, other) = (PeopleRecords::of(ledger), PeopleRecords::of(ledger));
    let (rid, now) = ("00112233445566778899aabbccddeeff", clock::system());
    let detail = PersonDetail {
        source: "ses".to_owned(),
        ..PersonDetail::default()
    };
    let hard = PersonRecord::new(now, PersonKind::Hard, None, "0011223344556677".to_owned());
    assert_eq!(people.suppressed(rid, None, now).await.unwrap(), None);
    assert!(people.add(rid, &hard, &detail).await.unwrap());
    assert!(!other.add(rid, &hard, &detail).await.unwrap());
    let suppressed = people.suppressed(rid, None, now).await.unwrap();
    assert_eq!(suppressed.unwrap().kind, PersonKind::Hard);
    assert_eq!(
        people.of_person(rid).await.unwrap(),
        std::slice::from_ref(&hard)
    );
    let read = people.detail(rid, &hard).await.unwrap();
    assert_eq!(read.unwrap().source, "ses");
    let lifted = PersonRecord::by_operator(now, PersonKind::Lifted, None);
    assert!(people.add(rid, &lifted, &detail).await.unwrap());
    assert_eq!(people.suppressed(rid, None, now).await.unwrap(), None);
    assert_eq!(people.all().await.unwrap().len(), 1);
}

async fn what_is_on_the_shelf_comes_back(picture_cache: &dyn PictureCache) {
    let thing = |number: u32| {
        let name = sha256_hex(&number.to_be_bytes());
        (name, format!("what is known of {number}: ü"))
    };
    let things: Vec<(String, String)> = (0..300).map(thing).collect();
    let names: Vec<String> = things.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(picture_cache.recall(&names).await.unwrap(), vec![None; 300]);
    assert_eq!(picture_cache.recall(&[]).await.unwrap(), []);
    picture_cache.keep(&things).await.unwrap();
    picture_cache.keep(&things).await.unwrap();
    picture_cache.keep(&[]).await.unwrap();
    let texts: Vec<Option<String>> = things.into_iter().map(|(_, text)| Some(text)).collect();
    assert_eq!(picture_cache.recall(&names).await.unwrap(), texts);
    // With others, and in another order.
    let more: Vec<String> = (0..301).rev().map(|number| thing(number).0).collect();
    let found = picture_cache.recall(&more).await.unwrap();
    assert_eq!(found[0], None, "the new one");
    let known: Vec<&Option<String>> = found[1..].iter().rev().collect();
    assert!(
        known
            .iter()
            .zip(&texts)
            .all(|(found, text)| found.is_none() || *found == text)
    );
    let known = known.iter().filter(|text| text.is_some()).count();
    assert!(known > 0, "a shelf may keep some together, and not all");
}

async fn a_lease_is_taken_over_what_was_seen(leases: &dyn Leases) {
    let job = job(STRANGE);
    let terms = || LeaseTerms::new(&Owner::new(), LEASE);
    assert!(leases.lease(&job).await.unwrap().is_none());
    let first = terms();
    let tag = leases.put_lease(&job, None, &first).await.unwrap().unwrap();
    let seen = leases.lease(&job).await.unwrap().unwrap();
    assert_eq!((&seen.terms, &seen.tag), (&first, &tag));
    assert!(seen.age < Duration::from_secs(30), "{:?}", seen.age);
    assert!(
        leases
            .put_lease(&job, None, &terms())
            .await
            .unwrap()
            .is_none()
    );
    let second = terms();
    let new_tag = leases
        .put_lease(&job, Some(&tag), &second)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(tag, new_tag);
    assert!(
        leases
            .put_lease(&job, Some(&tag), &terms())
            .await
            .unwrap()
            .is_none(),
        "what was seen is there no more"
    );
    assert_eq!(leases.lease(&job).await.unwrap().unwrap().terms, second);
}

async fn one_of_those_who_race_for_a_lease_wins(ledger: &Arc<dyn Ledger>) {
    let job = job("race");
    let racing = (0..8).map(|_| {
        let (ledger, job) = (Arc::clone(ledger), job.clone());
        async move {
            let terms = LeaseTerms::new(&Owner::new(), LEASE);
            let leases = ledger.leases().unwrap();
            leases.put_lease(&job, None, &terms).await.unwrap()
        }
    });
    let taken = futures_util::future::join_all(racing).await;
    assert_eq!(taken.iter().flatten().count(), 1);
}

#[tokio::test]
async fn the_ledger_in_memory_is_a_ledger() {
    a_ledger_is_a_ledger(Arc::new(MemoryLedger::default())).await;
}

#[tokio::test]
async fn the_ledger_in_a_file_is_a_ledger_and_survives_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("handout.sqlite");
    let open = || SqliteLedger::new(Database::open(&path).unwrap(), clock::system);
    a_ledger_is_a_ledger(Arc::new(open())).await;
    assert_eq!(open().records(&job(STRANGE)).await.unwrap().len(), 10);
}

/// A ledger below a prefix of its own, in the bucket `ledger` behind an endpoint.
async fn s3_ledger(client: &aws_sdk_s3::Client, prefix: &str) -> S3Ledger {
    let bucket = "ledger".parse().unwrap();
    let ledger = S3Ledger::new(client, bucket, prefix.to_owned(), clock::system);
    ledger.probe("fingerprint").await.unwrap();
    // The second start finds what the first one left.
    ledger.probe("fingerprint").await.unwrap();
    ledger
}

/// The embedded endpoint of a world with the bucket `ledger`, and the keys to it.
struct Embedded {
    world: World,
    opened: Opened,
}

impl Embedded {
    async fn start() -> Self {
        let world = World::new();
        localstore::create_bucket(&world.dir.path().join("buckets"), "ledger").unwrap();
        let opened = world.open().await;
        Self { world, opened }
    }

    /// A client for the endpoint itself, or for a proxy in front of it.
    fn client(&self, url: &str) -> aws_sdk_s3::Client {
        let config = &self.world.config;
        let keyring = handout::keyring::Keyring::open(&config.secret_key_file()).unwrap();
        let sites = handout::assemble::connection::embedded_sites(config, &keyring);
        let (id, secret) = (&sites[0].access_key_id, &sites[0].secret_access_key);
        let keys = aws_sdk_s3::config::Credentials::new(id, secret, None, None, "test");
        let config = s3_client(url)
            .config()
            .to_builder()
            .credentials_provider(keys)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    fn url(&self) -> String {
        self.world.config.embedded.public_url.clone()
    }
}

#[tokio::test]
async fn the_ledger_in_the_embedded_endpoint_is_a_ledger() {
    let embedded = Embedded::start().await;
    let ledger = s3_ledger(&embedded.client(&embedded.url()), "ledger/").await;
    a_ledger_is_a_ledger(Arc::new(ledger)).await;
    embedded.opened.close().await;
}

#[tokio::test]
async fn the_ledger_in_an_s3_of_which_a_fifth_fails_is_a_ledger() {
    let embedded = Embedded::start().await;
    let faults = Faults {
        percent: 20,
        latency_ms: 5,
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&embedded.url(), faults).await;
    let ledger = s3_ledger(&embedded.client(&proxy.url), "ledger/").await;
    a_ledger_is_a_ledger(Arc::new(ledger)).await;
    let (requests, failed, lost) = proxy.counts();
    assert!(
        failed * 12 > requests && lost * 25 > requests,
        "it failed indeed: {failed} refused and {lost} lost of {requests}"
    );
    embedded.opened.close().await;
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_ours_and_nobody_elses() {
    let embedded = Embedded::start().await;
    let proxy = FaultyProxy::start(&embedded.url(), Faults::default()).await;
    let ledger = s3_ledger(&embedded.client(&proxy.url), "").await;
    let record = || Record::new(&job("daily"), "ann", 0, Kind::Intent, json!({}));
    let ours = record();
    proxy.lose_next(2);
    assert_eq!(ledger.create(ours.clone()).await.unwrap(), Created::Ours);
    proxy.lose_next(1);
    assert_eq!(
        ledger.create(record()).await.unwrap(),
        Created::Theirs(ours)
    );
    let leases = ledger.leases().unwrap();
    proxy.lose_next(2);
    let terms = LeaseTerms::new(&Owner::new(), LEASE);
    let tag = leases.put_lease(&job("daily"), None, &terms).await.unwrap();
    proxy.lose_next(1);
    let next = LeaseTerms::new(&Owner::new(), LEASE);
    let renewed = leases.put_lease(&job("daily"), tag.as_ref(), &next).await;
    assert!(renewed.unwrap().is_some());
    assert_eq!(proxy.counts().2, 6);
    embedded.opened.close().await;
}

async fn moto_with_bucket(parts: &Parts) -> Server {
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    create_bucket(&client, "ledger").await;
    moto
}

#[tokio::test]
async fn the_ledger_in_moto_is_a_ledger_also_when_a_fifth_fails() {
    let Some(parts) = Parts::or_skip("the_ledger_in_moto") else {
        return;
    };
    let moto = moto_with_bucket(&parts).await;
    let ledger = s3_ledger(&s3_client(&moto.url()), "a/").await;
    a_ledger_is_a_ledger(Arc::new(ledger)).await;
    let faults = Faults {
        percent: 20,
        latency_ms: 5,
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&moto.url(), faults).await;
    let ledger = s3_ledger(&s3_client(&proxy.url), "b/").await;
    a_ledger_is_a_ledger(Arc::new(ledger)).await;
}

/// What garage 2.5 does, among others: it answers 200 to each of twelve that race.
#[tokio::test]
async fn a_store_that_does_not_heed_conditions_is_refused() {
    let Some(parts) = Parts::or_skip("a_store_that_does_not_heed_conditions") else {
        return;
    };
    let moto = moto_with_bucket(&parts).await;
    let careless = async |writes| {
        let faults = Faults {
            careless: writes,
            ..Faults::default()
        };
        FaultyProxy::start(&moto.url(), faults).await
    };
    // One that looks first and then writes: of those who race, several win, and whoever comes later does not.
    let racy = careless(3).await;
    let bucket = || "ledger".parse().unwrap();
    let racing = S3Ledger::new(
        &s3_client(&racy.url),
        bucket(),
        "racy/".to_owned(),
        clock::system,
    );
    let error = racing.probe("ours").await.unwrap_err().to_string();
    assert!(error.contains("If-None-Match"), "{error}");
    let proxy = careless(u32::MAX).await;
    let at = |url: &str| {
        S3Ledger::new(
            &s3_client(url),
            bucket(),
            "ledger/".to_owned(),
            clock::system,
        )
    };
    let error = at(&proxy.url).probe("ours").await.unwrap_err().to_string();
    assert!(
        error.starts_with("the ledger cannot be kept in s3://ledger/ledger/: its server accepts a write whose If-None-Match condition fails"),
        "{error}"
    );
    // Also when the first object is there already, so that nobody races.
    let error = at(&proxy.url).probe("ours").await.unwrap_err().to_string();
    assert!(error.contains("If-None-Match"), "{error}");
    at(&moto.url()).probe("ours").await.unwrap();
}

#[tokio::test]
async fn workers_with_another_secret_are_refused() {
    let embedded = Embedded::start().await;
    let client = embedded.client(&embedded.url());
    let ledger = s3_ledger(&client, "ledger/").await;
    let error = ledger.probe("another").await.unwrap_err().to_string();
    assert!(
        error.contains("belongs to workers with another secret"),
        "{error}"
    );
    // A worker of a later version was here.
    let marker = json!({ "v": 2, "secret": "fingerprint", "more": true }).to_string();
    let put = client.put_object().bucket("ledger").key("later/ledger");
    put.body(marker.into_bytes().into()).send().await.unwrap();
    let bucket = "ledger".parse().unwrap();
    let ledger = S3Ledger::new(&client, bucket, "later/".to_owned(), clock::system);
    let error = ledger.probe("fingerprint").await.unwrap_err().to_string();
    assert!(
        error.contains("has the schema version 2, and this version of Handout knows 1"),
        "{error}"
    );
    let missing = "missing".parse().unwrap();
    let ledger = S3Ledger::new(&client, missing, String::new(), clock::system);
    let error = ledger.probe("fingerprint").await.unwrap_err();
    assert_eq!(
        chain(&error),
        "could not read the ledger's s3://missing/ledger: it does not exist: NoSuchBucket: The specified bucket does not exist"
    );
    embedded.opened.close().await;
}

/// A store that contradicts itself is no reason to park a job, and no other worker.
#[tokio::test]
async fn a_store_that_rejects_a_write_for_an_object_that_it_does_not_have_has_failed() {
    let missing = "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>";
    let (url, _) = answering(date(SignedDuration::ZERO), move |request| {
        match request.starts_with("PUT") {
            true => ("412 Precondition Failed", String::new(), ""),
            false => ("404 Not Found", String::new(), missing),
        }
    })
    .await;
    let bucket = "ledger".parse().unwrap();
    let client = s3_client(&url);
    let ledger = S3Ledger::new(&client, bucket, "l/".to_owned(), clock::system);
    let record = Record::new(&job("daily"), "", 1, Kind::Intent, json!({}));
    let error = ledger.create(record).await.unwrap_err();
    assert!(
        chain(&error).contains("has no such object"),
        "{}",
        chain(&error)
    );
    assert_eq!(JobError::from(error).class(), FailureClass::Edge);
    let leases = ledger.leases().unwrap();
    let taken = lease::take_over(leases, &job("daily"), &Owner::new()).await;
    let error = taken.unwrap_err();
    assert!(
        chain(&error).contains("has no such object"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn the_latest_jobs_come_first_and_no_more_than_asked_for() {
    let embedded = Embedded::start().await;
    let ledger = s3_ledger(&embedded.client(&embedded.url()), "ledger/").await;
    for number in 0..3 {
        let plan = Record::new(&job(&format!("job-{number}")), "", 0, Kind::Plan, json!({}));
        ledger.create(plan.clone()).await.unwrap();
        ledger.create(plan).await.unwrap();
        // The list tells instants by the second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(ledger.jobs(2).await.unwrap(), [job("job-2"), job("job-1")]);
    assert_eq!(ledger.jobs(50).await.unwrap().len(), 3);
    embedded.opened.close().await;
}

// ── What it is for ──

/// A world whose ledger is in the bucket `ledger` of its own endpoint.
fn world_with_s3_ledger() -> World {
    let world = World::new().configured(|config| {
        config.ledger.kind = LedgerKind::S3;
        config.ledger.connection = Some("local".to_owned());
        config.ledger.bucket = Some("ledger".to_owned());
    });
    localstore::create_bucket(&world.dir.path().join("buckets"), "ledger").unwrap();
    world
}

fn job_for(people: &[&str]) -> Value {
    let mut job = email_job("daily");
    job["email"]["to"] = json!(people);
    job
}

/// Leaves behind what a process leaves that dies between a mail's intent and its outcome.
async fn die_after_intent(opened: &Opened, job_text: &Value, person: &str) {
    let recording = &opened.services.recording;
    let id = job(job_text["id"].as_str().unwrap());
    let rid = recording.rid(&Recipient::parse(person).unwrap());
    let body_sha256 = sha256_hex(job_text.to_string().as_bytes());
    let intent = json!({ "message_id": "<lost@sender.example>", "at": "2026-11-23T18:40:00Z" });
    for (rid, kind, body) in [
        ("", Kind::Plan, json!({ "body_sha256": body_sha256 })),
        (&rid, Kind::Intent, intent),
    ] {
        let record = Record::new(&id, rid, 0, kind, body);
        recording.ledger.create(record).await.unwrap();
    }
}

/// Delivers a job until its message is settled, and returns whom the outbox has mails for.
async fn deliver(world: &World, opened: &Opened, job: &Value) -> Vec<String> {
    let before = opened.services.progress.snapshot();
    let settled = before.jobs_done + before.jobs_parked + before.jobs_retried;
    opened.queue.submit(&job.to_string()).await.unwrap();
    run_until_settled(opened, settled + 1).await;
    world.mails().into_iter().map(|mail| mail.to).collect()
}

#[tokio::test]
async fn a_job_is_done_once_with_a_ledger_in_s3() {
    let world = world_with_s3_ledger().object("a.pdf", "x");
    let opened = world.open().await;
    let job = job_for(&["ann@acme.example", "bo@acme.example"]);
    let everybody = ["ann@acme.example", "bo@acme.example"];
    assert_eq!(deliver(&world, &opened, &job).await, everybody);
    assert_eq!(deliver(&world, &opened, &job).await, everybody);
    assert_eq!(opened.services.progress.snapshot().mails_accepted, 2);
    opened.close().await;
    for entry in walk(&world.bucket("ledger")) {
        let text = std::fs::read_to_string(&entry).unwrap();
        assert!(
            !text.contains("acme.example") && !text.contains("X-Amz"),
            "{}: {text}",
            entry.display()
        );
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = dirs.iter().flat_map(|dir| walk(dir));
    below.chain(files).collect()
}

#[tokio::test]
async fn a_job_that_a_living_worker_has_waits_and_a_given_up_one_does_not() {
    let world = world_with_s3_ledger().object("a.pdf", "x");
    let opened = world.open().await;
    let daily = job_for(&["ann@acme.example"]);
    let leases = opened.services.recording.ledger.leases().unwrap();
    let other = Owner::new();
    let terms = LeaseTerms::new(&other, LEASE);
    let tag = leases.put_lease(&job("daily"), None, &terms).await.unwrap();
    assert!(deliver(&world, &opened, &daily).await.is_empty());
    let counts = opened.services.progress.snapshot();
    assert_eq!((counts.jobs_retried, counts.jobs_done), (1, 0));
    let given_back = LeaseTerms::new(&other, Duration::ZERO);
    leases
        .put_lease(&job("daily"), tag.as_ref(), &given_back)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(deliver(&world, &opened, &daily).await, ["ann@acme.example"]);
    // A job that is done needs no lease: the next delivery finds the record and ends.
    let kept = leases.lease(&job("daily")).await.unwrap().unwrap();
    assert_eq!(kept.terms.lasts_secs, LEASE.as_secs());
    let theirs = LeaseTerms::new(&other, LEASE);
    let taken = leases
        .put_lease(&job("daily"), Some(&kept.tag), &theirs)
        .await;
    assert!(taken.unwrap().is_some());
    assert_eq!(deliver(&world, &opened, &daily).await, ["ann@acme.example"]);
    let counts = opened.services.progress.snapshot();
    assert_eq!((counts.jobs_retried, counts.jobs_done), (1, 2));
    opened.close().await;
}

#[tokio::test]
async fn a_job_that_is_not_done_gives_its_lease_back() {
    let world = world_with_s3_ledger();
    let opened = world.open().await;
    // There are no objects.
    assert!(
        deliver(&world, &opened, &job_for(&["ann@acme.example"]))
            .await
            .is_empty()
    );
    let leases = opened.services.recording.ledger.leases().unwrap();
    let released = leases.lease(&job("daily")).await.unwrap().unwrap();
    assert_eq!(released.terms.lasts_secs, 0);
    opened.close().await;
}

#[tokio::test]
async fn a_job_that_an_earlier_version_began_is_continued_with_the_objects_that_it_stored() {
    let world = world_with_s3_ledger()
        .object("a.pdf", "x")
        .object("b.pdf", "x");
    let opened = world.open().await;
    let daily = job_for(&["ann@acme.example"]);
    let ledger = &opened.services.recording.ledger;
    let stored = json!([{ "l": ["b.pdf", 1, "", null, 1_795_459_200, "ready"] }]);
    let page = serde_json::to_vec(&stored).unwrap();
    let id = job("daily");
    ledger.keep_page(&id, "listing", 0, page).await.unwrap();
    let plan = json!({
        "body_sha256": sha256_hex(daily.to_string().as_bytes()),
        "begun_at": "2026-11-23T18:40:00Z",
        "objects": { "listing": "listing", "pages": 1 },
    });
    let plan = Record::new(&id, "", 0, Kind::Plan, plan);
    ledger.create(plan).await.unwrap();
    // Neither it nor this process has the lease: the plan decides that the job is not new.
    assert_eq!(deliver(&world, &opened, &daily).await, ["ann@acme.example"]);
    let mails = world.mails();
    let links = mails[0].hrefs.iter().filter(|href| href.contains(".pdf"));
    let links: Vec<_> = links.collect();
    assert!(links.len() == 1 && links[0].contains("b.pdf"), "{links:?}");
    opened.close().await;
}

#[tokio::test]
async fn a_doubt_is_resent_or_held_as_the_stricter_of_job_and_configuration_says() {
    let table = [
        (OnDoubt::Resend, None, Ok(2)),
        (OnDoubt::Resend, Some("hold"), Ok(1)),
        (OnDoubt::Hold, None, Ok(1)),
        (OnDoubt::Hold, Some("hold"), Ok(1)),
        (
            OnDoubt::Hold,
            Some("resend"),
            Err("a job may set only the stricter value"),
        ),
    ];
    for (configured, asked, wanted) in table {
        let world = World::new()
            .object("a.pdf", "x")
            .configured(|config| config.ledger.on_doubt = configured);
        let opened = world.open().await;
        let mut job = job_for(&["ann@acme.example", "bo@acme.example"]);
        if let Some(asked) = asked {
            job["on_doubt"] = json!(asked);
        }
        die_after_intent(&opened, &job, "ann@acme.example").await;
        let mailed = deliver(&world, &opened, &job).await.len();
        let counts = opened.services.progress.snapshot();
        opened.close().await;
        match wanted {
            Ok(mails) => {
                assert_eq!(
                    (mailed, counts.doubts),
                    (mails, 1),
                    "{configured:?} {asked:?}"
                );
                assert_eq!(counts.doubts_resent, mails as u64 - 1);
            }
            Err(words) => {
                assert_eq!(mailed, 0);
                assert!(world.parked().await[0].contains(words));
            }
        }
    }
}

/// Runs the program; its exit code and what it says.
fn handout(config: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(crate::support::program())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.code(),
        text + &String::from_utf8_lossy(&output.stderr),
    )
}

/// What the operator of a held doubt does: looks, answers, submits the same job again.
#[tokio::test]
async fn a_held_doubt_is_listed_answered_and_then_sent() {
    let world = World::new()
        .object("a.pdf", "x")
        .configured(|config| config.ledger.on_doubt = OnDoubt::Hold);
    let config = world.written();
    let ledger = |arguments: &[&str]| handout(&config, &[&["ledger"], arguments].concat());
    let job = job_for(&["ann@acme.example", "bo@acme.example"]);
    let opened = world.open().await;
    let none = (Some(0), "No mail is in doubt.\n".to_owned());
    assert_eq!(ledger(&["show", "--doubts"]), none);
    for person in ["ann@acme.example", "bo@acme.example"] {
        die_after_intent(&opened, &job, person).await;
    }
    assert!(deliver(&world, &opened, &job).await.is_empty());
    let (code, doubts) = ledger(&["show", "--doubts"]);
    assert_eq!((code, doubts.lines().count()), (Some(1), 2), "{doubts}");
    assert!(
        doubts.contains("\t2026-11-23T18:40:00Z\t<lost@sender.example>"),
        "{doubts}"
    );

    let (code, words) = ledger(&["resolve", "daily", "Ann <ANN@acme.example>", "resend"]);
    assert_eq!(code, Some(0), "{words}");
    let rid = doubts.lines().find_map(|line| {
        let rid = line.split('\t').nth(1)?;
        let ann = opened
            .services
            .recording
            .rid(&Recipient::parse("ann@acme.example").unwrap());
        (rid != ann).then_some(rid)
    });
    let (code, words) = ledger(&["resolve", "daily", rid.unwrap(), "sent"]);
    assert_eq!(
        (code, words.as_str()),
        (Some(0), "recorded: nothing more is sent\n")
    );
    let (code, words) = ledger(&["resolve", "daily", "bo@acme.example", "resend"]);
    assert_eq!(code, Some(1), "the first answer stands");
    assert!(
        words.contains("the delivery is not in doubt: the mail was accepted"),
        "{words}"
    );
    assert_eq!(
        ledger(&["resolve", "daily", "zoe@acme.example", "sent"]).0,
        Some(1)
    );
    assert_eq!(ledger(&["show", "--doubts"]), none);

    assert_eq!(deliver(&world, &opened, &job).await, ["ann@acme.example"]);
    assert_eq!(deliver(&world, &opened, &job).await, ["ann@acme.example"]);
    assert_eq!(opened.services.progress.snapshot().mails_accepted, 1);
    let shown = ledger(&["show", "daily"]).1;
    assert!(
        shown.starts_with("daily: done, done at ") && shown.contains("accepted at attempt 1"),
        "{shown}"
    );
    opened.close().await;
}

/// A relay that greets and hangs up at each mail: links are signed and recorded for it, what was begun stays open, and its
/// objects are kept.
async fn a_relay_that_hangs_up() -> BadRelay {
    BadRelay::start(vec![Rule {
        step: "MAIL",
        at: 0,
        habit: Habit::Close,
    }])
    .await
}

async fn a_job_delivered_again_hands_out_what_it_did_before(world: World) {
    const OBJECTS: usize = 1100;
    let relay = a_relay_that_hangs_up().await;
    let mut world = world.configured(|config| {
        config.mail.transport = Transport::Smtp;
        config.mail.smtp.host = "127.0.0.1".to_owned();
        config.mail.smtp.port = relay.port;
        config.mail.smtp.tls = Tls::None;
    });
    for number in 0..OBJECTS {
        world = world.object(&format!("{number:04}.pdf"), "x");
    }
    let mut job = job_for(&["ann@acme.example", "bo@acme.example"]);
    job["manifest"] =
        json!({ "format": "urls", "publish": { "dir": world.dir.path().join("pages") } });
    let opened = world.open().await;
    assert!(deliver(&world, &opened, &job).await.is_empty());
    assert_eq!(opened.services.progress.snapshot().jobs_retried, 1);
    opened.close().await;
    let link_ids = |world: &World| {
        let issued = world.audit_of("issue").into_iter();
        let ids = issued.map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("rid"), text("key"), text("link_id"))
        });
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    let before = link_ids(&world);
    assert_eq!(before.len(), 2 * OBJECTS);

    std::fs::remove_file(world.bucket("reports").join("0001.pdf")).unwrap();
    let world = world
        .object("0000.new.pdf", "x")
        .configured(|config| config.mail.transport = Transport::Outbox);
    let opened = world.open().await;
    let everybody = ["ann@acme.example", "bo@acme.example"];
    assert_eq!(deliver(&world, &opened, &job).await, everybody);
    let counts = opened.services.progress.snapshot();
    assert_eq!(counts.links_issued, 2 * (OBJECTS as u64 - 1));
    opened.close().await;
    assert_eq!(
        link_ids(&world),
        before,
        "the same links, one of them not again, and none to what came later"
    );
    let html = &world.mails()[0].html;
    assert!(
        html.contains("0001.pdf") && !html.contains("0000.new.pdf"),
        "what has vanished is named, and what is new is not"
    );
}

#[tokio::test]
async fn a_job_delivered_again_hands_out_what_it_did_before_by_a_file() {
    Box::pin(a_job_delivered_again_hands_out_what_it_did_before(
        World::new(),
    ))
    .await;
}

#[tokio::test]
async fn a_job_delivered_again_hands_out_what_it_did_before_by_a_bucket() {
    let world = world_with_s3_ledger();
    Box::pin(a_job_delivered_again_hands_out_what_it_did_before(world)).await;
}

/// Two workers, each with a directory of its own, on one queue: see `docs/operating/workers.md`.
#[tokio::test]
async fn two_workers_share_a_queue_and_a_ledger_of_which_a_fifth_fails() {
    const JOBS: usize = 6;
    const PEOPLE: usize = 8;
    let Some(parts) = Parts::or_skip("two_workers_share_a_queue_and_a_ledger") else {
        return;
    };
    let moto = moto_with_bucket(&parts).await;
    let faults = Faults {
        percent: 20,
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&moto.url(), faults).await;
    let client = s3_client(&moto.url());
    create_bucket(&client, "reports").await;
    client
        .put_object()
        .bucket("reports")
        .key("a.pdf")
        .send()
        .await
        .unwrap();
    let sqs = crate::conformance::sqs_client(&moto);
    let queue = sqs.create_queue().queue_name("jobs").send().await.unwrap();
    let queue = queue.queue_url.unwrap();
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("secret"), "secret").unwrap();
    let worker = || {
        World::new().configured(|config| {
            config.secret_key_file = Some(keys.path().join("shared.key"));
            let connection = |url: &str| ConnectionConfig {
                endpoint_url: Some(url.to_owned()),
                access_key_id: Some("id".to_owned()),
                secret_access_key_file: Some(keys.path().join("secret")),
                ..ConnectionConfig::default()
            };
            config
                .connections
                .insert("local".to_owned(), connection(&moto.url()));
            config
                .connections
                .insert("ledger".to_owned(), connection(&proxy.url));
            config.ledger.kind = LedgerKind::S3;
            config.ledger.connection = Some("ledger".to_owned());
            config.ledger.bucket = Some("ledger".to_owned());
        })
    };
    let worlds = [worker(), worker()];
    let people: Vec<String> = (0..PEOPLE).map(|n| format!("p{n}@acme.example")).collect();
    // Each job twice, as queues do.
    for number in (0..JOBS).chain(0..JOBS) {
        let mut job = email_job(&format!("job-{number}"));
        job["email"]["to"] = json!(people);
        let message = sqs.send_message().queue_url(&queue);
        message.message_body(job.to_string()).send().await.unwrap();
    }
    let work = worlds.iter().map(|world| async {
        let opened = world.open().await;
        let worker = handout::worker::Worker::new(
            Arc::new(SqsQueue::new(sqs.clone(), queue.clone())),
            opened.services.clone(),
            Vec::new(),
            options(),
            clock::system,
        );
        let ledger = Arc::clone(&opened.services.recording.ledger);
        let all_done = async {
            until("the jobs' ends", async || {
                for number in 0..JOBS {
                    let records = ledger.records_of(&job(&format!("job-{number}")), "").await;
                    let is_done = |record: &Record| record.kind == Kind::Done;
                    if !records.ok()?.iter().any(is_done) {
                        return None;
                    }
                }
                Some(())
            })
            .await;
        };
        worker.run(all_done).await;
        opened.close().await;
    });
    futures_util::future::join_all(work).await;
    let mut mails: Vec<(String, String)> = worlds
        .iter()
        .flat_map(World::mails)
        .map(|mail| (mail.subject, mail.to))
        .collect();
    let count = mails.len();
    mails.sort();
    mails.dedup();
    assert_eq!((count, mails.len()), (JOBS * PEOPLE, JOBS * PEOPLE));
    let (_, failed, lost) = proxy.counts();
    assert!(failed > 20 && lost > 5, "{failed} refused, {lost} lost");
}

#[tokio::test]
async fn the_command_line_reaches_a_ledger_in_s3() {
    let world = world_with_s3_ledger().object("a.pdf", "x");
    let config = world.written();
    let (code, findings) = handout(&config, &["check"]);
    assert!(
        code == Some(0) && findings.contains("s3://ledger/ledger/ supports conditional writes"),
        "{findings}"
    );
    let opened = world.open().await;
    deliver(&world, &opened, &job_for(&["ann@acme.example"])).await;
    opened.close().await;
    let (code, shown) = handout(&config, &["ledger", "show"]);
    assert_eq!(code, Some(0));
    let columns: Vec<&str> = shown.trim_end().split('\t').collect();
    assert_eq!(columns[..2], ["done", "daily"]);
    let instants = columns[2..].iter();
    let instants = instants.map(|at| at.parse::<jiff::Timestamp>().unwrap());
    assert_eq!(instants.count(), 2, "{shown}");
    let shown = handout(&config, &["ledger", "show", "daily"]).1;
    assert!(shown.contains("accepted at attempt 0"), "{shown}");
}

#[tokio::test]
async fn a_job_that_was_refused_has_not_taken_its_id() {
    let world = World::new().object("a.pdf", "x");
    let opened = world.open().await;
    let refused = job_for(&["ann@elsewhere.example"]);
    assert!(deliver(&world, &opened, &refused).await.is_empty());
    let corrected = job_for(&["ann@acme.example"]);
    assert_eq!(
        deliver(&world, &opened, &corrected).await,
        ["ann@acme.example"]
    );
    let other = job_for(&["bo@acme.example"]);
    assert_eq!(deliver(&world, &opened, &other).await, ["ann@acme.example"]);
    opened.close().await;
    let parked = world.parked().await;
    assert_eq!(parked.len(), 2);
    assert!(
        parked[1].contains("was used before for another job"),
        "{parked:?}"
    );
}

// ── The model ──

fn model(parts: &Parts, name: &str, arguments: &[&str]) -> (bool, String) {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model");
    let path = models.join(name);
    let output = parts
        .tool("python")
        .arg(path)
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn the_protocol_holds_in_its_model_and_the_usual_mistakes_do_not() {
    let Some(parts) = Parts::or_skip("the_protocol_holds_in_its_model") else {
        return;
    };
    for name in ["ledger_model.py", "portal_model.py", "parts_model.py"] {
        for arguments in [[].as_slice(), &["--broken"]] {
            let (holds, words) = model(&parts, name, arguments);
            assert!(holds, "{words}");
        }
    }
}

/// The table in `src/ledger.rs` has every transition of the model, and every place that it names is in the code.
#[test]
fn the_models_transitions_are_in_the_code() {
    let Some(parts) = Parts::or_skip("the_models_transitions") else {
        return;
    };
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let doc = std::fs::read_to_string(source.join("ledger.rs")).unwrap();
    let rows = doc.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let rows: Vec<(&str, &str)> = rows.filter_map(|row| row.split_once("` | ")).collect();
    let listed: Vec<&str> = rows.iter().flat_map(|row| row.0.split("`, `")).collect();
    let names = model(&parts, "ledger_model.py", &["--names"]).1;
    assert_eq!(
        names.lines().collect::<std::collections::BTreeSet<_>>(),
        listed.iter().copied().collect()
    );

    let code: String = walk(&source)
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let places = rows
        .iter()
        .flat_map(|row| row.1.split('`').skip(1).step_by(2));
    let mut count = 0;
    for place in places.filter(|place| !place.ends_with(".rs")) {
        let name = place.trim_end_matches("()").rsplit("::").next().unwrap();
        let is_there = [
            format!("fn {name}("),
            format!("fn {name}<"),
            format!("    {name} {{\n"),
            format!("    {name}(Outcome),\n"),
            format!("    {name}(Record),\n"),
            format!("    {name},\n"),
            format!("enum {name} "),
        ];
        assert!(
            is_there.iter().any(|form| code.contains(form)),
            "{place} is not in the code"
        );
        count += 1;
    }
    assert!(count > 15, "{count}");
}
