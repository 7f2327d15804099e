//! What S3 says beside its answers: the time, and where a bucket is.
//!
//! A server that answers with headers of our choice stands in for AWS here: no server at hand has another clock, or
//! buckets in several regions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use handout::cancellation::Cancellation;
use handout::job::{Bucket, Key};
use handout::links::Unlinkable;
use handout::links::listing::{Entry, GatherError, Listing, list};
use handout::plan::policy::{AllowRule, LinkDefaults, Policy};
use handout::plan::{self, ExpiryGuard, OnUnlinkable, SignerFacts};
use handout::progress::Progress;
use handout::render::Templates;
use handout::store::memory::MemoryStore;
use handout::store::s3::S3Store;
use handout::store::{
    Body, Content, Cursor, ErrorKind, ObjectMeta, ObjectStore, Page, Storage, StoreError, Versions,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::answering::{Answer, LISTING, answering, date};
use crate::support::world::email_job;

/// Answers every request with a listing, a date, and, for HEAD, a region; remembers what it was asked.
async fn server(date: String, region: Option<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
    let header = region.map_or_else(String::new, |region| {
        format!("x-amz-bucket-region: {region}\r\n")
    });
    answering(date, move |head| match (head.starts_with("HEAD"), region) {
        (true, Some(_)) => ("301 Moved Permanently", header.clone(), ""),
        (true, None) => ("200 OK", header.clone(), ""),
        (false, _) => ("200 OK", header.clone(), LISTING),
    })
    .await
}

fn client(url: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .region(aws_sdk_s3::config::Region::new("eu-west-1"))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(aws_sdk_s3::config::Credentials::new(
            "id", "secret", None, None, "test",
        ));
    aws_sdk_s3::Client::from_conf(config.build())
}

/// What a job for everything gets.
async fn listed(store: &dyn ObjectStore, preflight: bool) -> Result<Listing, GatherError> {
    let all = json!({ "prefix": "" });
    gathered(store, &all, |links| links.preflight = preflight).await
}

/// What a job gets that asks for `from`.
async fn gathered(
    store: &dyn ObjectStore,
    from: &Value,
    change: impl FnOnce(&mut LinkDefaults),
) -> Result<Listing, GatherError> {
    let mut policy = Policy {
        rules: vec![AllowRule {
            connection: "local".parse().unwrap(),
            bucket: "reports".parse().unwrap(),
            prefix: "".parse().unwrap(),
            recipients: vec![globset::Glob::new("*").unwrap().compile_matcher()],
            lists: Vec::new(),
            reply_to: Vec::new(),
            relays: vec!["default".parse().unwrap()],
            publish: Vec::new(),
            via: vec![handout::job::Via::S3],
            sign_in: handout::job::SignIn::None,
            max_expires_in: "7d".parse().unwrap(),
            max_links: 10,
        }],
        links: LinkDefaults {
            expires_in: "1h".parse().unwrap(),
            expiry_guard: ExpiryGuard::Refuse,
            disposition: handout::job::ContentDisposition::Attachment,
            per_recipient: true,
            on_unlinkable: OnUnlinkable::Skip,
            filename: None,
            text_charset: handout::text::charset::TextCharset::default(),
            pin_version: false,
            preflight: false,
        },
        on_doubt: handout::config::OnDoubt::Resend,
        page_size: 1000,
        time_zone: jiff::tz::TimeZone::UTC,
        sender_domain: "sender.example".to_owned(),
        triggers: Vec::new(),
        default_publish: None,
        base_urls: Vec::new(),
        portal: None,
        lists: Vec::new(),
    };
    change(&mut policy.links);
    let mut job = email_job("x");
    job["from"] = from.clone();
    (job["from"]["connection"], job["from"]["bucket"]) = ("local".into(), "reports".into());
    let job = Arc::new(handout::job::Job::parse(&job.to_string()).unwrap());
    let templates = Templates::load(None).unwrap();
    let now = handout::clock::system();
    let plan = plan::build(&job, &policy, &templates, &SignerFacts::default(), now).unwrap();
    let spool = tempfile::tempdir().unwrap();
    let (stop, progress) = (Cancellation::default(), Progress::default());
    list(&plan, store, &spool.path().into(), &stop, &progress).await
}

#[tokio::test]
async fn patterns_that_take_long_over_many_keys_are_refused() {
    let store = MemoryStore::new(1000);
    for n in 0..7_000 {
        let key = format!("{n:04}{}", "x".repeat(996));
        store.insert("reports", &key, b"", jiff::Timestamp::UNIX_EPOCH);
    }
    let all = |count: usize, with: &str| {
        let patterns = vec![format!("{}{with}", "y".repeat(999)); count];
        json!({ "prefix": "", "include": patterns, "when_empty": "deliver" })
    };
    let error = gathered(&store, &all(16, "*"), |_| {}).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the patterns of from.include and from.exclude take too long over so many keys: simplify them, or name a narrower from.prefix"
    );
    let class = handout::error::JobError::from(error).class();
    assert_eq!(class, handout::error::FailureClass::Permanent);
    for right in [all(8, "*"), all(16, "z")] {
        assert!(gathered(&store, &right, |_| {}).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_store_whose_clock_is_far_off_gets_no_links() {
    for (minutes, words) in [(6, "ahead of"), (-6, "behind")] {
        let (url, _) = server(date(SignedDuration::from_mins(minutes)), None).await;
        let error = listed(&S3Store::new(client(&url)), false)
            .await
            .unwrap_err();
        assert!(matches!(error, GatherError::Skew { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(words) && text.contains("set the clock"),
            "{text}"
        );
        let seconds = text.strip_prefix("the clock of S3 is ").unwrap();
        let seconds: i64 = seconds.split(' ').next().unwrap().parse().unwrap();
        // The date has whole seconds, and takes a moment to come.
        assert!((seconds - 360).abs() <= 3, "{text}");
    }
}

/// Beyond fifteen minutes S3 refuses requests, and its answer does not look like one about clocks.
#[tokio::test]
async fn a_clock_so_far_off_that_s3_refuses_requests_is_the_reason() {
    let refusal = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    let ahead = date(SignedDuration::from_mins(20));
    let (url, _) = answering(ahead, move |head| {
        let body = if head.starts_with("HEAD") {
            ""
        } else {
            refusal
        };
        ("403 Forbidden", String::new(), body)
    })
    .await;
    for from in [json!({ "prefix": "" }), json!({ "keys": ["a.pdf"] })] {
        let store = S3Store::new(client(&url));
        let error = gathered(&store, &from, |_| {}).await.unwrap_err();
        assert!(matches!(error, GatherError::Skew { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_store_whose_clock_is_a_little_off_is_no_trouble() {
    for minutes in [-4, 0, 4] {
        let (url, _) = server(date(SignedDuration::from_mins(minutes)), None).await;
        let store = S3Store::new(client(&url));
        assert_eq!(listed(&store, false).await.unwrap().linkable, 1);
        let skew = store.skew().unwrap().as_secs();
        assert!((skew - minutes * 60).abs() < 10, "{skew}");
    }
}

#[tokio::test]
async fn a_bucket_is_asked_in_its_own_region_which_is_looked_up_once() {
    let (url, heads) = server(date(SignedDuration::ZERO), Some("ap-southeast-2")).await;
    let store = S3Store::regional(client(&url));
    let bucket = "reports".parse().unwrap();
    for _ in 0..3 {
        store
            .list(&bucket, "", Versions::Floating, Cursor::Start)
            .await
            .unwrap();
    }
    assert_eq!(
        store.region(&bucket).await.unwrap().as_deref(),
        Some("ap-southeast-2")
    );
    let heads = heads.lock().unwrap();
    let asked = heads.iter().filter(|head| head.starts_with("HEAD")).count();
    assert_eq!(asked, 1, "looked up once");
    let listings: Vec<&String> = heads
        .iter()
        .filter(|head| head.starts_with("GET"))
        .collect();
    assert_eq!(listings.len(), 3);
    assert!(
        listings
            .iter()
            .all(|head| head.contains("/ap-southeast-2/s3/aws4_request")),
        "{heads:#?}"
    );
}

/// An answer to HEAD has no body; the listing's has one.
#[tokio::test]
async fn a_region_that_is_not_told_for_a_key_that_is_unknown_says_so() {
    const UNKNOWN: &str =
        "<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>";
    let refusing = |head: &str| match head.starts_with("HEAD") {
        true => ("403 Forbidden", String::new(), ""),
        false => ("403 Forbidden", String::new(), UNKNOWN),
    };
    let (url, _) = answering(date(SignedDuration::ZERO), refusing).await;
    let store = S3Store::regional(client(&url));
    let error = store.region(&"reports".parse().unwrap()).await.unwrap_err();
    assert_eq!(
        handout::text::chain(&error),
        "could not look up the region of s3://reports: the credentials do not allow it: InvalidAccessKeyId: no such key"
    );
}

#[tokio::test]
async fn whoever_looks_up_a_region_and_is_not_polled_keeps_nobody_waiting() {
    let (url, _) = server(date(SignedDuration::ZERO), Some("ap-southeast-2")).await;
    let store = S3Store::regional(client(&url));
    let bucket = "reports".parse().unwrap();
    let mut set_aside = store.region(&bucket);
    assert!(
        (&mut set_aside).now_or_never().is_none(),
        "it is on its way"
    );
    let other = timeout(Duration::from_secs(60), store.region(&bucket)).await;
    let other = other.expect("nobody waits for the first").unwrap();
    assert_eq!(other, set_aside.await.unwrap());
}

#[tokio::test]
async fn a_listing_with_more_and_no_way_to_it_is_an_error() {
    const MORE: &str = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a.pdf</Key></Contents></ListBucketResult>";
    const VERSIONS: &str = "<?xml version=\"1.0\"?><ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>";
    for (versions, body) in [(Versions::Floating, MORE), (Versions::Pinned, VERSIONS)] {
        let answer = move |_: &str| ("200 OK", String::new(), body);
        let (url, _) = answering(date(SignedDuration::ZERO), answer).await;
        let (store, bucket) = (S3Store::new(client(&url)), "reports".parse().unwrap());
        let error = store
            .list(&bucket, "", versions, Cursor::Start)
            .await
            .unwrap_err();
        assert_eq!(error.fact, ErrorKind::Rejected);
        let text = handout::text::chain(&error);
        assert!(
            text.ends_with("the listing is truncated and has no continuation token"),
            "{text}"
        );
    }
}

/// The objects of a listing that are not linked, and why.
fn left_out(listing: &Listing) -> Vec<(String, Unlinkable)> {
    let page = listing.page(0).unwrap().unwrap_or_default();
    let left_out = page.into_iter().filter_map(|entry| match entry {
        Entry::Unavailable(key, reason) => Some((key, reason)),
        Entry::Linkable(_) => None,
    });
    left_out.collect()
}

#[tokio::test]
async fn what_the_credentials_cannot_read_is_found_when_each_object_is_looked_at() {
    let store = MemoryStore::new(1000);
    for key in ["a.pdf", "b.pdf", "c.pdf", "d.pdf", "e.pdf"] {
        store.insert("reports", key, b"x", jiff::Timestamp::UNIX_EPOCH);
    }
    store.set_storage("reports", "b.pdf", Storage::CustomerKey);
    store.unreadable("reports", "c.pdf", ErrorKind::Denied);
    store.set_storage("reports", "d.pdf", Storage::Archived);
    assert_eq!(
        listed(&store, false).await.unwrap().linkable,
        5,
        "a listing does not tell"
    );
    let looked_at = listed(&store, true).await.unwrap();
    assert_eq!((looked_at.linkable, looked_at.unavailable), (2, 3));
    let expected = [
        ("b.pdf", Unlinkable::CustomerKey),
        ("c.pdf", Unlinkable::Forbidden),
        ("d.pdf", Unlinkable::Archived),
    ];
    let expected = expected.map(|(key, reason)| (key.to_owned(), reason));
    assert_eq!(left_out(&looked_at), expected);
    store.unreadable("reports", "c.pdf", ErrorKind::Rejected);
    let error = listed(&store, true).await.unwrap_err();
    insta::assert_snapshot!(error, @"could not get the metadata of s3://reports/c.pdf: the service refused the request");
}

/// What a job for one object gets if HEAD is answered like this, and GET like that.
async fn looked_at(head: Answer, get: Answer) -> String {
    let (url, _) = answering(date(SignedDuration::ZERO), move |request| {
        match request.starts_with("HEAD") {
            true => head.clone(),
            false => get.clone(),
        }
    })
    .await;
    let from = json!({ "keys": ["a.pdf"], "when_empty": "skip" });
    match gathered(&S3Store::new(client(&url)), &from, |_| {}).await {
        Ok(listing) => match left_out(&listing).pop() {
            Some((_, reason)) => format!("{reason:?}"),
            None => "linked".to_owned(),
        },
        Err(error) => handout::text::chain(&error),
    }
}

/// What a load balancer or a firewall says in a store's place.
fn page_of_another() -> Answer {
    let html = "Content-Type: text/html\r\n".to_owned();
    ("400 Bad Request", html, "<html>400 Bad Request</html>")
}

#[tokio::test]
async fn a_request_that_is_refused_in_front_of_a_store_for_a_name_in_it_is_no_outage_of_the_store()
{
    for is_back in [true, false] {
        let (url, _) = answering(date(SignedDuration::ZERO), move |request| {
            let is_probe = request.contains("list-type=2") && !request.contains("prefix=odd");
            match is_probe && is_back {
                true => ("200 OK", String::new(), LISTING),
                false if request.starts_with("HEAD") => {
                    ("400 Bad Request", page_of_another().1, "")
                }
                false => page_of_another(),
            }
        })
        .await;
        let store = S3Store::new(client(&url));
        let (bucket, key): (Bucket, Key) =
            ("reports".parse().unwrap(), "a/../../b".parse().unwrap());
        let content = Content {
            media_type: "text/html",
            cache_control: "no-store",
            encoding: None,
        };
        let put = || store.put(&bucket, &key, Body::Bytes(b"x".to_vec()), content);
        let list = |versions| store.list(&bucket, "odd", versions, Cursor::Start);
        let errors = [
            store.head(&bucket, &key).await.unwrap_err(),
            put().await.unwrap_err(),
            list(Versions::Floating).await.unwrap_err(),
            list(Versions::Pinned).await.unwrap_err(),
        ];
        for error in errors {
            let words = handout::text::chain(&error);
            assert!(words.contains("something in front of the store"), "{words}");
            let fact = match is_back {
                true => ErrorKind::Rejected,
                false => ErrorKind::Unreachable,
            };
            assert_eq!(error.fact, fact, "{words}");
        }
        assert_eq!(store.edge().outage().is_none(), is_back);
    }
}

#[tokio::test]
async fn what_s3_says_of_an_object_decides_whether_it_is_linked() {
    let ok = |headers: &str| ("200 OK", headers.to_owned(), "");
    let no = || ("400 Bad Request", String::new(), "");
    let in_days = |days: i64| {
        let date = date(SignedDuration::from_hours(24 * days));
        format!("x-amz-restore: ongoing-request=\"false\", expiry-date=\"{date}\"\r\n")
    };
    let expires_in = |hours: i64| {
        let date = date(SignedDuration::from_hours(hours));
        format!("expiry-date=\"{date}\", rule-id=\"a%2C%22b%22\"")
    };
    let glacier = "x-amz-storage-class: GLACIER\r\n";
    let error = |body| ("400 Bad Request", String::new(), body);
    let encrypted = "<Error><Code>InvalidRequest</Code><Message>The object was stored using a form of Server Side Encryption.</Message></Error>";
    let expired = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
    let forbidden = || ("403 Forbidden", String::new(), "");
    let denied = "<Error><Code>AccessDenied</Code><Message>not authorized to perform: kms:Decrypt</Message></Error>";
    let table = [
        looked_at(ok(""), ok("")).await,
        looked_at(ok(glacier), ok("")).await,
        looked_at(ok(&format!("{glacier}x-amz-restore: ongoing-request=\"true\"\r\n")), ok("")).await,
        looked_at(ok(&format!("{glacier}{}", in_days(1))), ok("")).await,
        looked_at(ok(&format!("{glacier}{}", in_days(0))), ok("")).await,
        looked_at(ok("x-amz-storage-class: INTELLIGENT_TIERING\r\n"), ok("")).await,
        looked_at(ok("x-amz-storage-class: INTELLIGENT_TIERING\r\nx-amz-archive-status: ARCHIVE_ACCESS\r\n"), ok("")).await,
        looked_at(ok(&format!("x-amz-expiration: {}\r\n", expires_in(48))), ok("")).await,
        looked_at(ok(&format!("x-amz-expiration: {}\r\n", expires_in(0))), ok("")).await,
        looked_at(ok("x-amz-expiration: expiry-date=\"soon\", rule-id=\"x\"\r\n"), ok("")).await,
        looked_at(no(), error(encrypted)).await,
        looked_at(no(), error(expired)).await,
        looked_at(no(), ok("")).await,
        looked_at(forbidden(), ("403 Forbidden", String::new(), denied)).await,
        looked_at(forbidden(), ok("")).await,
        looked_at(no(), ("416 Range Not Satisfiable", String::new(), "<Error><Code>InvalidRange</Code></Error>")).await,
        looked_at(("405 Method Not Allowed", String::new(), ""), error(encrypted)).await,
        looked_at(("404 Not Found", String::new(), ""), ok("")).await,
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    linked
    Archived
    Archived
    linked
    RestoreEnds
    linked
    Archived
    linked
    Expires
    linked
    CustomerKey
    could not get the metadata of s3://reports/a.pdf: the credentials do not allow it: ExpiredToken: The provided token has expired.
    could not get the metadata of s3://reports/a.pdf: the service refused the request: HEAD was refused with 400, and GET was not
    could not get the metadata of s3://reports/a.pdf: the credentials do not allow it: AccessDenied: not authorized to perform: kms:Decrypt
    could not get the metadata of s3://reports/a.pdf: the credentials do not allow it: HEAD was refused with 403, and GET was not
    could not get the metadata of s3://reports/a.pdf: the service refused the request: HEAD was refused with 400, and GET was not
    could not get the metadata of s3://reports/a.pdf: the service refused the request: the answer had the status 405
    Missing
    ");
}

#[tokio::test]
async fn only_objects_that_the_job_wants_are_looked_at_and_none_beyond_its_limit() {
    let store = MemoryStore::new(1000);
    for number in 0..100 {
        for end in ["pdf", "txt"] {
            let key = format!("{number:03}.{end}");
            store.insert("reports", &key, b"x", jiff::Timestamp::UNIX_EPOCH);
        }
    }
    let from = json!({ "prefix": "", "include": ["*.pdf"], "limit": 10 });
    let listing = gathered(&store, &from, |links| links.preflight = true).await;
    assert_eq!(listing.unwrap().linkable, 10);
    let looks = store.requests() - 1;
    assert!((10..20).contains(&looks), "{looks}");
}

/// Lists by counting instead of by the last key, as some servers do, while somebody adds objects.
#[derive(Debug)]
struct Restless {
    keys: Mutex<Vec<String>>,
    added: Mutex<Vec<Vec<&'static str>>>,
    sorted: bool,
}

#[async_trait]
impl ObjectStore for Restless {
    async fn list(
        &self,
        _: &Bucket,
        _: &str,
        _: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        let mut keys = self.keys.lock().unwrap();
        let from = match cursor {
            Cursor::Start => 0,
            Cursor::After(after) => keys.iter().take_while(|key| key.as_str() <= after).count(),
            Cursor::Token(token) => token.parse().unwrap(),
        };
        let objects = keys.iter().skip(from).take(3).map(|key| ObjectMeta {
            key: key.parse().unwrap(),
            size_bytes: 1,
            etag: String::new(),
            version: None,
            modified: jiff::Timestamp::UNIX_EPOCH,
            storage: Storage::Ready,
            stored: None,
        });
        let objects: Vec<ObjectMeta> = objects.collect();
        let more = from + objects.len() < keys.len();
        let added = self.added.lock().unwrap().pop().unwrap_or_default();
        keys.extend(added.into_iter().map(ToOwned::to_owned));
        if self.sorted {
            keys.sort();
        }
        Ok(Page {
            continuation_token: more.then(|| (from + objects.len()).to_string()),
            objects,
        })
    }

    async fn head(&self, _: &Bucket, _: &Key) -> Result<ObjectMeta, StoreError> {
        unreachable!("nothing is looked at")
    }

    async fn beginning(&self, _: &Bucket, _: &ObjectMeta, _: usize) -> Result<Vec<u8>, StoreError> {
        unreachable!("nothing is read")
    }

    async fn put(&self, _: &Bucket, _: &Key, _: Body, _: Content) -> Result<(), StoreError> {
        unreachable!("nothing is put")
    }

    async fn probe(&self, _: &Bucket, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The keys of the first page.
fn keys_of(listing: &Listing) -> Vec<String> {
    let page = listing.page(0).unwrap().unwrap().into_iter();
    let keys = page.map(|entry| match entry {
        Entry::Linkable(object) => object.key.to_string(),
        Entry::Unavailable(key, _) => key,
    });
    keys.collect()
}

#[tokio::test]
async fn a_listing_that_changes_while_it_is_read_yields_no_object_twice() {
    let keys = ["b", "c", "d", "e", "f", "g", "h"].map(ToOwned::to_owned);
    // Two before the second page, three before the third: each repeats what was listed.
    let added = vec![vec!["a3", "a4", "a5"], vec!["a1", "a2"]];
    let store = Restless {
        keys: Mutex::new(keys.to_vec()),
        added: Mutex::new(added),
        sorted: true,
    };
    let listing = listed(&store, false).await.unwrap();
    assert_eq!(keys_of(&listing), ["b", "c", "d", "e", "f", "g", "h"]);
}

#[tokio::test]
async fn what_a_store_lists_in_no_order_is_sorted_and_repeated_by_nobody() {
    let store = Restless {
        keys: Mutex::new(
            ["b", "d", "c", "e", "a", "d"]
                .map(ToOwned::to_owned)
                .to_vec(),
        ),
        added: Mutex::default(),
        sorted: false,
    };
    let listing = listed(&store, false).await.unwrap();
    assert_eq!(keys_of(&listing), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_folders_marker_is_no_file_whether_it_is_named_or_listed() {
    let store = MemoryStore::new(1000);
    store.insert("reports", "photos/", b"", jiff::Timestamp::UNIX_EPOCH);
    store.insert("reports", "photos/a.jpg", b"x", jiff::Timestamp::UNIX_EPOCH);
    let named = json!({ "keys": ["photos/", "photos/a.jpg"] });
    let named = gathered(&store, &named, |_| {}).await.unwrap();
    assert_eq!(named.linkable, 1);
    assert_eq!(
        left_out(&named),
        [("photos/".to_owned(), Unlinkable::Folder)]
    );
    let listed = listed(&store, false).await.unwrap();
    assert_eq!((listed.linkable, listed.unavailable), (1, 0));
}

#[tokio::test]
async fn a_version_is_linked_only_if_it_is_to_be_pinned() {
    let version = |version: &'static str| {
        let header = format!("x-amz-version-id: {version}\r\n");
        answering(date(SignedDuration::ZERO), move |_| {
            ("200 OK", header.clone(), "")
        })
    };
    for (given, pinned) in [("v1", true), ("null", true), ("v1", false)] {
        let (url, _) = version(given).await;
        let from = json!({ "keys": ["a.pdf"] });
        let store = S3Store::new(client(&url));
        let listing = gathered(&store, &from, |links| links.pin_version = pinned).await;
        let page = listing.unwrap().page(0).unwrap().unwrap();
        let [Entry::Linkable(object)] = &page[..] else {
            panic!("{page:?}");
        };
        assert_eq!(object.version.as_deref(), Some(given).filter(|_| pinned));
    }
}

/// A store's answer of our choice to every listing.
async fn listed_from(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let (url, _) = answering(date(SignedDuration::ZERO), answer).await;
    let store = S3Store::new(client(&url));
    let listed = timeout(Duration::from_secs(50), listed(&store, false)).await;
    let error = listed.expect("the listing ends").unwrap_err();
    handout::text::chain(&error)
}

fn page(objects: &str, token: &str) -> &'static str {
    let page = format!(
        "<ListBucketResult><IsTruncated>true</IsTruncated>{objects}<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
    );
    Box::leak(page.into_boxed_str())
}

#[tokio::test]
async fn a_repeated_token_is_an_error() {
    let same = page("", "again");
    let error = listed_from(move |_| ("200 OK", String::new(), same)).await;
    assert!(
        error.contains("the same continuation token twice"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_that_no_request_can_carry_is_an_error_and_no_panic() {
    let long = page("", &"t".repeat(66_000));
    let error = listed_from(move |_| ("200 OK", String::new(), long)).await;
    assert!(error.contains("has 66000 bytes: at most 4096"), "{error}");
}

#[tokio::test]
async fn pages_without_objects_have_an_end() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let error = listed_from(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        ("200 OK", String::new(), page("", &format!("t{number}")))
    })
    .await;
    assert!(error.contains("1000 pages in a row"), "{error}");
}

#[tokio::test]
async fn an_error_of_megabytes_that_repeats_a_link_is_cut_and_redacted() {
    let link = "https://reports.s3.amazonaws.com/a?X-Amz-Signature=5ec7e7 ann%40acme.example ";
    let body = format!(
        "<Error><Code>AccessDenied</Code><Message>{}</Message></Error>",
        link.repeat(20_000)
    );
    let body: &'static str = Box::leak(body.into_boxed_str());
    let error = listed_from(move |_| ("403 Forbidden", String::new(), body)).await;
    assert!(error.len() < 1_000, "{}", error.len());
    assert!(
        !error.contains("5ec7e7") && !error.contains("ann"),
        "{error}"
    );
}

#[tokio::test]
async fn a_header_of_megabytes_is_an_error() {
    let error = listed_from(|_| {
        (
            "200 OK",
            format!("x-a: {}\r\n", "a".repeat(2_000_000)),
            LISTING,
        )
    })
    .await;
    assert!(error.len() < 1_000, "{error}");
}

/// Sends a body of 3 GB, as far as it is read; counts its bytes.
async fn endless(status: &'static str) -> (String, Arc<std::sync::atomic::AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0
            {
            }
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: 3000000000\r\n\r\n<ListBucketResult>"
            );
            drop(stream.write_all(head.as_bytes()).await);
            while stream.write_all(&[b' '; 65_536]).await.is_ok() {
                counter.fetch_add(65_536, std::sync::atomic::Ordering::SeqCst);
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(serve);
    (url, sent)
}

#[tokio::test]
async fn an_answer_of_gigabytes_is_not_read() {
    for status in ["200 OK", "403 Forbidden"] {
        let (url, sent) = endless(status).await;
        let listed = listed(&S3Store::new(client(&url)), false).await;
        let error = handout::text::chain(&listed.unwrap_err());
        let sent = sent.load(std::sync::atomic::Ordering::SeqCst);
        assert!(sent < 100_000_000, "{sent} bytes were taken: {error}");
        assert!(error.contains("longer than 8388608 bytes"), "{error}");
    }
}

/// A store may send a head of many kilobytes for each of thousands of keys.
#[tokio::test]
async fn an_answer_to_head_with_a_long_etag_or_version_is_rejected() {
    let long = "e".repeat(60_000);
    for header in ["ETag: \"{}\"", "x-amz-version-id: {}"] {
        let header = format!("{}\r\n", header.replace("{}", &long));
        let (url, _) = answering(date(SignedDuration::ZERO), move |_| {
            ("200 OK", header.clone(), "")
        })
        .await;
        let (bucket, key) = ("reports".parse().unwrap(), "a.pdf".parse().unwrap());
        let store = S3Store::new(client(&url));
        let error = store.head(&bucket, &key).await.unwrap_err();
        assert_eq!(error.fact, ErrorKind::Rejected, "{error}");
        let told = handout::text::chain(&error);
        assert!(told.contains("of 60") && told.len() < 300, "{told}");
    }
}
