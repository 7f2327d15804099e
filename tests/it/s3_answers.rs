//! What S3 says beside its answers: the time, and where a bucket is.
//!
//! A server that answers with headers of our choice stands in for AWS here: no server at hand has another clock, or
//! buckets in several regions.

use std::sync::{Arc, Mutex};

use handout::links::Unlinkable;
use handout::links::listing::{Entry, GatherError, Listing, list};
use handout::plan::policy::{AllowRule, LinkDefaults, Policy};
use handout::plan::{self, ExpiryGuard, OnUnlinkable, SignerFacts};
use handout::render::Templates;
use handout::stop::Stop;
use handout::store::s3::S3Store;
use handout::store::{ObjectStore, Versions};
use jiff::SignedDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::world::email_job;

const LISTING: &str = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a.pdf</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>";

/// Answers every request with a listing, a date, and, for HEAD, a region; remembers what it was asked.
async fn server(date: String, region: Option<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0
            {}
            let head = String::from_utf8_lossy(&bytes).into_owned();
            let (status, body) = match (head.starts_with("HEAD"), region) {
                (true, Some(_)) => ("301 Moved Permanently", ""),
                (true, None) => ("200 OK", ""),
                (false, _) => ("200 OK", LISTING),
            };
            let region = region.map_or_else(String::new, |region| {
                format!("x-amz-bucket-region: {region}\r\n")
            });
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nDate: {date}\r\n{region}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            seen.lock().unwrap().push(head);
            drop(stream.write_all(answer.as_bytes()).await);
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(serve);
    (url, heads)
}

fn date(ahead: SignedDuration) -> String {
    let at = handout::clock::system().checked_add(ahead).unwrap();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
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

async fn listed(store: &dyn ObjectStore, preflight: bool) -> Result<Listing, GatherError> {
    let policy = Policy {
        rules: vec![AllowRule {
            connection: "local".parse().unwrap(),
            bucket: "reports".parse().unwrap(),
            prefix: "".parse().unwrap(),
            recipients: vec![globset::Glob::new("*").unwrap().compile_matcher()],
            reply_to: Vec::new(),
            publish: Vec::new(),
            max_expires_in: "7d".parse().unwrap(),
            max_links: 10,
        }],
        links: LinkDefaults {
            expires_in: "1h".parse().unwrap(),
            expiry_guard: ExpiryGuard::Refuse,
            disposition: handout::job::Disposition::Attachment,
            per_recipient: true,
            on_unlinkable: OnUnlinkable::Skip,
            pin_version: false,
            preflight,
        },
        on_doubt: handout::config::OnDoubt::Resend,
        page_size: 1000,
        sender_domain: "sender.example".to_owned(),
        triggers: Vec::new(),
    };
    let job = Arc::new(handout::job::Job::parse(&email_job("x").to_string()).unwrap());
    let templates = Templates::load(None).unwrap();
    let now = handout::clock::system();
    let plan = plan::draw(&job, &policy, &templates, &SignerFacts::default(), now).unwrap();
    let spool = tempfile::tempdir().unwrap();
    list(&plan, store, spool.path(), &Stop::default()).await
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
            text.contains(words) && text.contains("3") && text.contains("set the clock"),
            "{text}"
        );
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
            .list(&bucket, "", Versions::Floating, None)
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

/// A store that answers HEAD for some objects as S3 does when they cannot be read.
#[tokio::test]
async fn what_the_credentials_cannot_read_is_found_when_each_object_is_looked_at() {
    use handout::store::Fact;
    use handout::store::memory::MemoryStore;
    let store = MemoryStore::new(1000);
    for key in ["a.pdf", "b.pdf", "c.pdf", "d.pdf"] {
        store.insert("reports", key, b"x", jiff::Timestamp::UNIX_EPOCH);
    }
    store.unreadable("reports", "b.pdf", Fact::Rejected);
    store.unreadable("reports", "c.pdf", Fact::Denied);
    assert_eq!(
        listed(&store, false).await.unwrap().linkable,
        4,
        "a listing does not tell"
    );
    let looked_at = listed(&store, true).await.unwrap();
    assert_eq!((looked_at.linkable, looked_at.unavailable), (2, 2));
    let left_out: Vec<Entry> = looked_at
        .page(0)
        .unwrap()
        .unwrap()
        .into_iter()
        .filter(|entry| matches!(entry, Entry::Unavailable(..)))
        .collect();
    let expected = [
        ("b.pdf", Unlinkable::CustomerKey),
        ("c.pdf", Unlinkable::Forbidden),
    ];
    assert_eq!(
        left_out,
        expected.map(|(key, reason)| Entry::Unavailable(key.to_owned(), reason))
    );
}
