//! One suite for each edge, played by everything that claims to be one: memory, SQLite, and the real SDK against a server.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use handout::clock;
use handout::database::Database;
use handout::job::{Bucket, JobId};
use handout::ledger::sqlite::SqliteLedger;
use handout::ledger::{Kind, Ledger, Record};
use handout::queue::memory::MemoryQueue;
use handout::queue::sqlite::SqliteQueue;
use handout::queue::sqs::SqsQueue;
use handout::queue::{ErrorKind, Parked, Queue};
use handout::store::memory::MemoryStore;
use handout::store::s3::S3Store;
use handout::store::{Body, Content, Cursor, ObjectStore, StoreError, Versions};
use jiff::Timestamp;

use crate::support::faulty::{Faults, FaultyProxy};
use crate::support::servers::{Parts, Server};
use crate::support::world::World;
use crate::support::{hostile, until};

pub(crate) const HELD: Duration = Duration::from_secs(30);
pub(crate) const NOW: Duration = Duration::ZERO;

// ── Queue ──

pub(crate) async fn a_queue_is_a_queue(queue: Arc<dyn Queue>) {
    assert!(queue.receive(10, HELD, NOW).await.unwrap().is_empty());
    let id = queue.submit("first").await.unwrap();
    let received = until("the first message", async || {
        queue.receive(10, HELD, NOW).await.unwrap().pop()
    })
    .await;
    assert_eq!(
        (
            received.id.as_str(),
            received.body.as_str(),
            received.receive_count
        ),
        (id.as_str(), "first", 1)
    );
    assert!(
        queue.receive(10, HELD, NOW).await.unwrap().is_empty(),
        "a received message is hidden"
    );

    queue
        .extend(&received.receipt, Duration::ZERO)
        .await
        .unwrap();
    let again = until("the message again", async || {
        queue.receive(10, HELD, NOW).await.unwrap().pop()
    })
    .await;
    assert_eq!((again.id.as_str(), again.receive_count), (id.as_str(), 2));
    assert_ne!(again.receipt, received.receipt, "each receipt is its own");

    queue.extend(&again.receipt, HELD).await.unwrap();
    queue.delete(&again.receipt).await.unwrap();
    assert!(
        queue.receive(10, HELD, NOW).await.unwrap().is_empty(),
        "a deleted message is gone"
    );

    let waiting = {
        let queue = Arc::clone(&queue);
        async move {
            queue
                .receive(10, HELD, Duration::from_secs(10))
                .await
                .unwrap()
        }
    };
    let submitting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        queue.submit("late").await.unwrap();
    };
    let began = tokio::time::Instant::now();
    let (late, ()) = tokio::join!(waiting, submitting);
    assert_eq!(
        late[0].body, "late",
        "a waiting receive wakes when a message comes"
    );
    assert!(began.elapsed() < Duration::from_secs(9));

    for number in 0..5 {
        queue.submit(&format!("many {number}")).await.unwrap();
    }
    let mut bodies = Vec::new();
    until("five messages", async || {
        let some = queue.receive(2, HELD, NOW).await.unwrap();
        assert!(some.len() <= 2, "no more than asked for");
        bodies.extend(some.into_iter().map(|message| message.body));
        (bodies.len() >= 5).then_some(())
    })
    .await;
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies, ["many 0", "many 1", "many 2", "many 3", "many 4"]);
}

/// What SQS promises and moto does not keep: a receipt is void once the message was received again.
pub(crate) async fn an_old_receipt_is_void(queue: Arc<dyn Queue>) {
    queue.submit("x").await.unwrap();
    let first = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
    queue.extend(&first.receipt, Duration::ZERO).await.unwrap();
    let second = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
    assert_eq!(
        queue.delete(&first.receipt).await.unwrap_err().fact,
        ErrorKind::NotFound
    );
    assert_eq!(
        queue.extend(&first.receipt, HELD).await.unwrap_err().fact,
        ErrorKind::NotFound
    );
    queue.delete(&second.receipt).await.unwrap();
}

fn sqlite_queue(dir: &tempfile::TempDir) -> Arc<SqliteQueue> {
    let database = Database::open(&dir.path().join("handout.sqlite")).unwrap();
    Arc::new(SqliteQueue::new(database, clock::system))
}

#[tokio::test]
async fn the_queue_in_memory_is_a_queue() {
    a_queue_is_a_queue(Arc::new(MemoryQueue::default())).await;
    an_old_receipt_is_void(Arc::new(MemoryQueue::default())).await;
}

#[tokio::test]
async fn the_queue_in_a_file_is_a_queue_and_survives_its_process() {
    let dir = tempfile::tempdir().unwrap();
    a_queue_is_a_queue(sqlite_queue(&dir)).await;
    let dir = tempfile::tempdir().unwrap();
    an_old_receipt_is_void(sqlite_queue(&dir)).await;
    sqlite_queue(&dir).submit("kept").await.unwrap();
    let reopened = sqlite_queue(&dir);
    let message = reopened.receive(1, HELD, NOW).await.unwrap().remove(0);
    assert_eq!(message.body, "kept");
    assert_eq!(
        reopened.park(&message, "because").await.unwrap(),
        Parked::Aside
    );
    assert_eq!(reopened.waiting().await.unwrap(), 0);
    let parked = reopened.parked(0, 10).await.unwrap();
    assert_eq!(
        (parked[0].body.as_str(), parked[0].reason.as_str()),
        ("kept", "because")
    );
    assert_eq!(reopened.unpark(Some(&parked[0].id)).await.unwrap(), 1);
    assert_eq!(
        reopened.receive(1, HELD, NOW).await.unwrap()[0].receive_count,
        1
    );
}

pub(crate) fn sqs_client(server: &Server) -> aws_sdk_sqs::Client {
    sqs_client_at(&server.url())
}

pub(crate) fn sqs_client_at(url: &str) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(aws_sdk_sqs::config::Credentials::new(
            "id", "secret", None, None, "test",
        ));
    aws_sdk_sqs::Client::from_conf(config.build())
}

/// Makes a queue and returns its URL.
pub(crate) async fn make_queue(client: &aws_sdk_sqs::Client, name: &str) -> String {
    let made = client.create_queue().queue_name(name).send().await;
    made.unwrap().queue_url.unwrap()
}

pub(crate) async fn a_fifo_queue_says_which_group_a_message_is_of(client: &aws_sdk_sqs::Client) {
    use aws_sdk_sqs::types::QueueAttributeName::FifoQueue;
    let made = client
        .create_queue()
        .queue_name("ordered.fifo")
        .attributes(FifoQueue, "true")
        .send();
    let url = made.await.unwrap().queue_url.unwrap();
    let queue = SqsQueue::new(client.clone(), url.clone()).with_parked(client.clone(), url.clone());
    queue.submit("alone").await.unwrap();
    let alone = queue.receive(10, HELD, NOW).await.unwrap().remove(0);
    assert!(alone.group.is_some(), "a group of its own");
    queue.delete(&alone.receipt).await.unwrap();
    for number in 0..3 {
        let send = client.send_message().queue_url(&url).message_group_id("a");
        let body = format!("in-order-{number}");
        let send = send.message_deduplication_id(&body).message_body(&body);
        send.send().await.unwrap();
    }
    let received = queue.receive(10, HELD, NOW).await.unwrap();
    let seen: Vec<_> = received
        .iter()
        .map(|message| (message.group.as_deref(), message.body.as_str()))
        .collect();
    let expected = ["in-order-0", "in-order-1", "in-order-2"].map(|body| (Some("a"), body));
    assert_eq!(seen, expected);
    // Set aside within the group: here into the same queue, behind the others.
    assert_eq!(queue.park(&received[0], "no").await.unwrap(), Parked::Aside);
}

#[tokio::test]
async fn sqs_is_a_queue_and_parks_with_the_reason() {
    let Some(parts) = Parts::or_skip("sqs_is_a_queue") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let make = async |name| make_queue(&client, name).await;
    let (url, parked_url) = (make("jobs").await, make("parked").await);
    a_queue_is_a_queue(Arc::new(SqsQueue::new(client.clone(), url))).await;
    a_fifo_queue_says_which_group_a_message_is_of(&client).await;

    let queue = SqsQueue::new(client.clone(), make("other").await)
        .with_parked(client.clone(), parked_url.clone());
    queue.submit("bad").await.unwrap();
    let message = queue.receive(1, HELD, NOW).await.unwrap().remove(0);
    assert_eq!(
        queue.park(&message, "line one\nline two").await.unwrap(),
        Parked::Aside
    );
    assert_eq!(queue.waiting().await.unwrap(), 0);
    let answer = client
        .receive_message()
        .queue_url(parked_url)
        .message_attribute_names("All")
        .send()
        .await
        .unwrap();
    let parked = answer.messages.unwrap().remove(0);
    assert_eq!(parked.body.as_deref(), Some("bad"));
    let reason = parked.message_attributes.unwrap()["handout-reason"]
        .string_value
        .clone();
    assert_eq!(reason.as_deref(), Some("line oneline two"));

    let missing = SqsQueue::new(client, format!("{}/123456789012/missing", moto.url()));
    let error = missing.receive(1, HELD, NOW).await.unwrap_err();
    assert_eq!(error.fact, ErrorKind::NotFound);
    assert!(
        error.to_string().ends_with("/missing: it does not exist"),
        "{error}"
    );
}

// ── Object store ──

/// `prepare` has made the bucket `reports`, and there is no bucket `missing`.
pub(crate) async fn a_store_is_a_store(store: &dyn ObjectStore, mut keys: Vec<String>) {
    let bucket = "reports".parse().unwrap();
    let content = Content {
        media_type: "text/plain",
        cache_control: "no-store",
        encoding: None,
    };
    assert!(
        store
            .list(&bucket, "", Versions::Floating, Cursor::Start)
            .await
            .unwrap()
            .objects
            .is_empty()
    );
    for key in &keys {
        store
            .put(
                &bucket,
                &key.parse().unwrap(),
                Body::Bytes(key.clone().into_bytes()),
                content,
            )
            .await
            .unwrap();
    }
    keys.sort();
    let listed = store
        .list(&bucket, "", Versions::Floating, Cursor::Start)
        .await
        .unwrap();
    let listed_keys: Vec<String> = listed
        .objects
        .iter()
        .map(|object| object.key.to_string())
        .collect();
    assert_eq!(
        listed_keys, keys,
        "the listing is in the order of the keys and has them as they are"
    );
    for object in &listed.objects {
        assert_eq!(object.size_bytes, object.key.as_str().len() as u64);
        let head = store.head(&bucket, &object.key).await.unwrap();
        assert_eq!(
            (head.size_bytes, &head.etag),
            (object.size_bytes, &object.etag)
        );
    }
    let below = store
        .list(&bucket, "a/", Versions::Floating, Cursor::Start)
        .await
        .unwrap()
        .objects;
    assert!(
        below
            .iter()
            .all(|object| object.key.as_str().starts_with("a/"))
            && !below.is_empty()
    );

    let fact = store
        .head(&bucket, &"gone".parse().unwrap())
        .await
        .unwrap_err()
        .fact;
    assert_eq!(fact, ErrorKind::NotFound);
    let missing = "missing".parse().unwrap();
    let error = store
        .list(&missing, "", Versions::Floating, Cursor::Start)
        .await
        .unwrap_err();
    assert_eq!(
        (error.fact, error.to_string().as_str()),
        (
            ErrorKind::NotFound,
            "could not list s3://missing/: it does not exist"
        )
    );
    assert_eq!(
        store.probe(&missing, "").await.unwrap_err().fact,
        ErrorKind::NotFound
    );
    store.probe(&bucket, "reports/").await.unwrap();
    only_the_beginning_is_read(store, &bucket).await;
}

async fn only_the_beginning_is_read(store: &dyn ObjectStore, bucket: &Bucket) {
    let content = Content {
        media_type: "text/plain",
        cache_control: "no-store",
        encoding: None,
    };
    let key = "beginning".parse().unwrap();
    let put = async |text: &str| {
        let body = Body::Bytes(text.as_bytes().to_vec());
        store.put(bucket, &key, body, content).await.unwrap();
    };
    put("0123456789").await;
    let object = store.head(bucket, &key).await.unwrap();
    for (most, read) in [(4, "0123"), (10, "0123456789"), (99, "0123456789")] {
        let bytes = store.beginning(bucket, &object, most).await.unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), read);
    }
    put("changed since").await;
    let changed = store.beginning(bucket, &object, 4).await.unwrap_err();
    assert_eq!(changed.fact, ErrorKind::Rejected, "{changed:?}");
}

fn all_keys() -> Vec<String> {
    hostile::keys()
        .into_iter()
        .chain(hostile::UNLINKABLE.map(ToOwned::to_owned))
        .collect()
}

#[tokio::test]
async fn the_store_in_memory_is_a_store() {
    let store = MemoryStore::new(1000);
    store.create_bucket("reports");
    a_store_is_a_store(&store, all_keys()).await;
    assert!(store.requests() > 0);
    store.insert("reports", "x", b"y", Timestamp::UNIX_EPOCH);
    assert_eq!(
        store.bytes("reports", "x").as_deref(),
        Some(b"y".as_slice())
    );
}

#[tokio::test]
async fn the_embedded_endpoint_is_a_store() {
    let world = World::new();
    let opened = world.open().await;
    let connection = opened
        .services
        .signing
        .connection(&"local".parse().unwrap())
        .unwrap();
    a_store_is_a_store(&*connection.store, all_keys()).await;
    opened.close().await;
}

pub(crate) fn s3_client(url: &str) -> aws_sdk_s3::Client {
    s3_client_with(url, "us-east-1", "id", "secret")
}

/// Keys and region count for servers that verify signatures.
pub(crate) fn s3_client_with(
    url: &str,
    region: &str,
    id: &str,
    secret: &str,
) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .region(aws_sdk_s3::config::Region::new(region.to_owned()))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(aws_sdk_s3::config::Credentials::new(
            id, secret, None, None, "test",
        ));
    aws_sdk_s3::Client::from_conf(config.build())
}

pub(crate) async fn create_bucket(client: &aws_sdk_s3::Client, bucket: &str) {
    client.create_bucket().bucket(bucket).send().await.unwrap();
}

#[tokio::test]
async fn s3_is_a_store() {
    let Some(parts) = Parts::or_skip("s3_is_a_store") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    create_bucket(&client, "reports").await;
    // moto routes no path with a line break in it.
    let keys = all_keys()
        .into_iter()
        .filter(|key| !key.contains('\n'))
        .collect();
    a_store_is_a_store(&S3Store::new(client.clone()), keys).await;

    // Pages, which only many objects make.
    create_bucket(&client, "many").await;
    for number in 0..1005 {
        client
            .put_object()
            .bucket("many")
            .key(format!("{number:05}"))
            .send()
            .await
            .unwrap();
    }
    let (store, bucket) = (S3Store::new(client), "many".parse().unwrap());
    let first = store
        .list(&bucket, "", Versions::Floating, Cursor::Start)
        .await
        .unwrap();
    assert_eq!(first.objects.len(), 1000);
    let second = store
        .list(
            &bucket,
            "",
            Versions::Floating,
            Cursor::Token(first.continuation_token.as_deref().unwrap()),
        )
        .await
        .unwrap();
    assert_eq!((second.objects.len(), second.continuation_token), (5, None));
    assert_eq!(second.objects[0].key.as_str(), "01000");
}

/// A file that is too large for one PUT of a store that takes little at once, and the bucket for it.
pub(crate) struct LongFile {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    client: aws_sdk_s3::Client,
}

impl LongFile {
    pub(crate) async fn new(client: &aws_sdk_s3::Client) -> Self {
        create_bucket(client, "published").await;
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..12_000_000_u32)
            .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8)
            .collect();
        std::fs::write(dir.path().join("list.csv"), &bytes).unwrap();
        let client = client.clone();
        Self { dir, bytes, client }
    }

    async fn put(&self, client: aws_sdk_s3::Client) -> Result<(), StoreError> {
        let content = Content {
            media_type: "text/csv",
            cache_control: "private, no-store",
            encoding: None,
        };
        let store = S3Store::new(client).with_largest_put(6_000_000);
        let (bucket, key) = ("published".parse().unwrap(), "list.csv".parse().unwrap());
        let body = Body::File(self.dir.path().join("list.csv"));
        store.put(&bucket, &key, body, content).await
    }

    fn object(&self) -> aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder {
        self.client.get_object().bucket("published").key("list.csv")
    }

    async fn parts_left(&self) -> usize {
        let uploads = self.client.list_multipart_uploads().bucket("published");
        uploads.send().await.unwrap().uploads().len()
    }

    pub(crate) async fn is_put_in_parts(&self) {
        self.put(self.client.clone()).await.unwrap();
        let there = self.object().send().await.unwrap();
        assert!(there.e_tag().unwrap().ends_with("-3\""), "three parts");
        assert_eq!(there.content_type(), Some("text/csv"));
        assert_eq!(there.cache_control(), Some("private, no-store"));
        assert!(there.body.collect().await.unwrap().into_bytes() == self.bytes);
        assert_eq!(self.parts_left().await, 0);
    }
}

/// A list of ten million links is longer than S3 takes at once; here, what is taken at once is little.
#[tokio::test]
async fn a_file_that_is_too_large_for_one_put_is_put_in_parts() {
    let Some(parts) = Parts::or_skip("a_file_that_is_too_large") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let file = LongFile::new(&s3_client(&moto.url())).await;
    let faults = Faults {
        denied: Some("partNumber=2"),
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&moto.url(), faults).await;
    let denied = file.put(s3_client(&proxy.url)).await.unwrap_err();
    assert_eq!(
        (denied.fact, denied.to_string().as_str()),
        (
            ErrorKind::Denied,
            "could not upload part 2 of s3://published/list.csv: the credentials do not allow it"
        )
    );
    assert!(file.object().send().await.is_err(), "nothing is there");
    assert_eq!(file.parts_left().await, 0, "and nothing that costs money");
    file.is_put_in_parts().await;
}

/// A pinned listing tells of the version that is there now; a link with it gives that one, whatever comes later.
#[tokio::test]
async fn versions_are_listed_page_by_page_and_a_deleted_object_is_not() {
    let Some(parts) = Parts::or_skip("versions_are_listed") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    let bucket = "reports".parse().unwrap();
    create_bucket(&client, "reports").await;
    let store = S3Store::new(client.clone());
    let put = async |key: &str, text: &str| {
        let body = aws_sdk_s3::primitives::ByteStream::from(text.as_bytes().to_vec());
        client
            .put_object()
            .bucket("reports")
            .key(key)
            .body(body)
            .send()
            .await
            .unwrap()
            .version_id
    };
    put("unversioned", "x").await;
    let before = store
        .list(&bucket, "", Versions::Pinned, Cursor::Start)
        .await
        .unwrap();
    assert_eq!(
        before.objects[0].version.as_deref(),
        Some("null"),
        "so that a link keeps it when the bucket gets versions, and another under its name"
    );
    let versioning = aws_sdk_s3::types::VersioningConfiguration::builder()
        .status(aws_sdk_s3::types::BucketVersioningStatus::Enabled)
        .build();
    client
        .put_bucket_versioning()
        .bucket("reports")
        .versioning_configuration(versioning)
        .send()
        .await
        .unwrap();
    put("a b", "old").await;
    let newest = put("a b", "new").await;
    put("gone", "x").await;
    client
        .delete_object()
        .bucket("reports")
        .key("gone")
        .send()
        .await
        .unwrap();
    for number in 0..1200 {
        put(&format!("many/{number:05}"), "x").await;
    }
    let mut objects = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let cursor = token.as_deref().map_or(Cursor::Start, Cursor::Token);
        let page = store
            .list(&bucket, "", Versions::Pinned, cursor)
            .await
            .unwrap();
        objects.extend(page.objects);
        token = page.continuation_token;
        if token.is_none() {
            break;
        }
    }
    let keys: std::collections::BTreeSet<&str> =
        objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(
        (keys.len(), objects.len()),
        (1202, 1202),
        "each once, over several pages"
    );
    assert!(!keys.contains("gone"));
    assert_eq!(
        objects
            .iter()
            .find(|object| object.key.as_str() == "a b")
            .unwrap()
            .version,
        newest
    );
    assert_eq!(
        store
            .head(&bucket, &"a b".parse().unwrap())
            .await
            .unwrap()
            .version,
        newest
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_a_wrong_secret_is_denied() {
    let nobody = S3Store::new(s3_client(&format!(
        "http://{}",
        crate::support::world::free_address()
    )));
    let bucket = "reports".parse().unwrap();
    assert_eq!(
        nobody
            .list(&bucket, "", Versions::Floating, Cursor::Start)
            .await
            .unwrap_err()
            .fact,
        ErrorKind::Unreachable
    );
    let world = World::new();
    let opened = world.open().await;
    let stranger = S3Store::new(s3_client(&format!(
        "http://{}",
        world.config.embedded.listen
    )));
    let error = stranger
        .list(&bucket, "", Versions::Floating, Cursor::Start)
        .await
        .unwrap_err();
    assert_eq!(
        (error.fact, error.to_string().as_str()),
        (
            ErrorKind::Denied,
            "could not list s3://reports/: the credentials do not allow it"
        )
    );
    opened.close().await;
}

#[tokio::test]
async fn the_queue_in_a_file_survives_a_clock_that_was_ahead() {
    static NOW_SECS: AtomicI64 = AtomicI64::new(2_000_000_000);
    let clock = || Timestamp::from_second(NOW_SECS.load(Ordering::Relaxed)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let database = Database::open(&dir.path().join("handout.sqlite")).unwrap();
        SqliteQueue::new(database, clock)
    };
    let queue = open();
    let bodies = async |queue: &SqliteQueue| {
        let messages = queue.receive(10, HELD, NOW).await.unwrap();
        let mut bodies: Vec<String> = messages.into_iter().map(|message| message.body).collect();
        bodies.sort();
        bodies
    };
    assert_eq!(bodies(&queue).await, Vec::<String>::new());
    // A day ahead, and back.
    NOW_SECS.fetch_add(86_400, Ordering::Relaxed);
    queue.submit("submitted ahead").await.unwrap();
    queue.submit("put off ahead").await.unwrap();
    let received = queue.receive(10, HELD, NOW).await.unwrap();
    for message in &received {
        queue
            .extend(&message.receipt, Duration::from_secs(600))
            .await
            .unwrap();
    }
    NOW_SECS.fetch_sub(86_400, Ordering::Relaxed);
    assert_eq!(bodies(&queue).await, ["put off ahead", "submitted ahead"]);
    // What is hidden by the right time stays hidden, also after a start.
    assert_eq!(bodies(&queue).await, Vec::<String>::new());
    assert_eq!(bodies(&open()).await, Vec::<String>::new());
    NOW_SECS.fetch_add(3_600, Ordering::Relaxed);
    queue.submit("ahead while no worker looks").await.unwrap();
    NOW_SECS.fetch_sub(3_600, Ordering::Relaxed);
    assert_eq!(bodies(&open()).await, ["ahead while no worker looks"]);
}

#[tokio::test]
async fn a_database_of_an_earlier_version_gets_its_new_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("handout.sqlite");
    let earlier = rusqlite::Connection::open(&file).unwrap();
    earlier
        .execute_batch(
            "CREATE TABLE message (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, \
             state TEXT NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'parked')), visible_at INTEGER NOT NULL, \
             receives INTEGER NOT NULL DEFAULT 0, receipt TEXT, enqueued_at INTEGER NOT NULL, reason TEXT); \
             INSERT INTO message (body, visible_at, enqueued_at) VALUES ('of before', 0, 0)",
        )
        .unwrap();
    drop(earlier);
    for _ in 0..2 {
        let queue = SqliteQueue::new(Database::open(&file).unwrap(), clock::system);
        assert_eq!(queue.waiting().await.unwrap(), 1);
    }
    let queue = SqliteQueue::new(Database::open(&file).unwrap(), clock::system);
    assert_eq!(
        queue.receive(1, HELD, NOW).await.unwrap()[0].body,
        "of before"
    );
}

#[tokio::test]
async fn only_jobs_that_were_done_long_ago_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::new(
        Database::open(&dir.path().join("handout.sqlite")).unwrap(),
        || Timestamp::from_second(2_000_000_000).unwrap(),
    );
    let record = |job: &str, n: u32, kind| {
        Record::new(&job.parse().unwrap(), "", n, kind, serde_json::json!({}))
    };
    for (job, kinds) in [
        ("done", &[Kind::Plan, Kind::Done][..]),
        ("open", &[Kind::Plan]),
        ("reopened", &[Kind::Plan, Kind::Done, Kind::Reopened]),
    ] {
        for kind in kinds {
            let n = u32::from(*kind == Kind::Reopened);
            ledger.create(record(job, n, *kind)).await.unwrap();
        }
    }
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(ledger.prune(at(1_999_999_999)).await.unwrap().jobs, 0);
    assert_eq!(ledger.prune(at(2_000_000_001)).await.unwrap().jobs, 1);
    let mut left: Vec<String> = ledger
        .jobs(10)
        .await
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    left.sort();
    assert_eq!(left, ["open", "reopened"]);
}

/// The time of the ledger below, which its test moves.
static PRUNED_AT: AtomicI64 = AtomicI64::new(0);

/// A ledger and a queue in one file, as on one machine, at a time that is set.
fn one_file(dir: &Path) -> (SqliteLedger, SqliteQueue) {
    let clock = || Timestamp::from_second(PRUNED_AT.load(Ordering::Relaxed)).unwrap();
    let database = Database::open(&dir.join("handout.sqlite")).unwrap();
    let queue = SqliteQueue::new(database.clone(), clock);
    (SqliteLedger::new(database, clock), queue)
}

#[tokio::test]
async fn what_says_that_a_mail_was_sent_stays_as_long_as_a_message_may_come_again() {
    const DAY: i64 = 86_400;
    let dir = tempfile::tempdir().unwrap();
    let (ledger, queue) = one_file(dir.path());
    let whole: JobId = "weekly".parse().unwrap();
    let part = |rid: char| -> JobId {
        format!("{whole}.part.{}", rid.to_string().repeat(32))
            .parse()
            .unwrap()
    };
    let create = async |day: i64, job: &JobId, kind: Kind, n: u32| {
        PRUNED_AT.store(day * DAY, Ordering::Relaxed);
        let record = Record::new(job, "", n, kind, serde_json::json!({}));
        ledger.create(record).await.unwrap();
    };
    let prune = async |day: i64| {
        let before = Timestamp::from_second(day * DAY).unwrap();
        let pruned = ledger.prune(before).await.unwrap();
        (pruned.jobs, pruned.held_back.map(|at| at.as_second() / DAY))
    };
    let has = async |job: &JobId| !ledger.records(job).await.unwrap().is_empty();

    // A part whose last record is old stays with its whole, which was opened again.
    for job in [&part('a'), &part('b'), &whole] {
        create(0, job, Kind::Plan, 0).await;
        create(0, job, Kind::Done, 0).await;
    }
    for job in [&part('b'), &whole] {
        create(10, job, Kind::Reopened, 1).await;
    }
    assert_eq!(prune(20).await, (0, None), "it is open");
    for job in [&part('b'), &whole] {
        create(11, job, Kind::Done, 1).await;
    }
    assert_eq!(prune(5).await, (0, None), "the whole is newer");
    assert!(has(&part('a')).await);

    // A parked message, too, may come again.
    let message = async |day: i64| {
        PRUNED_AT.store(day * DAY, Ordering::Relaxed);
        queue.submit("{}").await.unwrap();
    };
    message(8).await;
    assert_eq!(
        prune(20).await,
        (0, Some(8)),
        "the message came before the last record"
    );
    assert!(has(&whole).await);
    // One that came later holds nothing of it back.
    let received = queue.receive(1, HELD, NOW).await.unwrap();
    queue.delete(&received[0].receipt).await.unwrap();
    message(15).await;
    assert_eq!(prune(20).await, (1, Some(15)), "one job, and its parts");
    for job in [&whole, &part('a'), &part('b')] {
        assert!(!has(job).await, "{job}");
    }

    // A job that was opened again before it was done the first time has one `done` for one reopening.
    create(0, &whole, Kind::Plan, 0).await;
    create(0, &whole, Kind::Reopened, 1).await;
    create(0, &whole, Kind::Done, 1).await;
    assert_eq!(prune(5).await, (1, None));
}
