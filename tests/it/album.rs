//! Galleries whose pictures are looked at: once for a job, not again for the next, and never at the cost of the job.

use std::fs;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use handout::assemble::Opened;
use handout::config::LedgerKind;
use handout::job::{Bucket, Key};
use handout::media::Picture;
use handout::store::multipart::Multipart;
use handout::store::{
    Body, Content, Cursor, EdgeError, ErrorKind, ObjectMeta, ObjectStore, Page, StoreError,
    Versions,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::conformance::s3_client;
use crate::support::published_text;
use crate::support::servers::browser_or_skip;
use crate::support::world::{World, run_until_settled};

/// A store that writes down of which objects the beginning was asked for, and refuses if it is told to.
#[derive(Debug)]
struct Watched {
    store: Arc<dyn ObjectStore>,
    asked: Arc<Mutex<Vec<String>>>,
    refuses: bool,
    /// Puts nothing before a far picture was looked at.
    waits: Option<Arc<Far>>,
}

/// A picture, and whether it was looked at.
#[derive(Debug)]
struct Far {
    key: &'static str,
    looked_at: watch::Sender<bool>,
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a wrapper must not forget a method"
)]
#[async_trait]
impl ObjectStore for Watched {
    async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        versions: Versions,
        cursor: Cursor<'_>,
    ) -> Result<Page, StoreError> {
        self.store.list(bucket, prefix, versions, cursor).await
    }

    async fn head(&self, bucket: &Bucket, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.store.head(bucket, key).await
    }

    async fn beginning(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.asked.lock().unwrap().push(object.key.to_string());
        if self.refuses {
            return Err(EdgeError {
                action: format!("read the beginning of s3://{bucket}/{}", object.key),
                fact: ErrorKind::Denied,
                answer: None,
                source: "told to refuse".into(),
            });
        }
        let bytes = self.store.beginning(bucket, object, most).await;
        if let Some(far) = self
            .waits
            .as_ref()
            .filter(|far| far.key == object.key.as_str())
        {
            // It is looked at last, when nothing else of its page or those before needs a turn.
            sleep(Duration::from_millis(300)).await;
            sleep(Duration::from_millis(1)).await;
            far.looked_at.send_replace(true);
        }
        bytes
    }

    async fn range(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.store.range(bucket, object, range).await
    }

    async fn stored_crc32(
        &self,
        bucket: &Bucket,
        object: &ObjectMeta,
    ) -> Result<Option<u32>, StoreError> {
        self.store.stored_crc32(bucket, object).await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        self.store.multipart()
    }

    async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        body: Body,
        content: Content,
    ) -> Result<(), StoreError> {
        if let Some(far) = &self.waits {
            let mut looked_at = far.looked_at.subscribe();
            let looked_at = looked_at.wait_for(|looked_at| *looked_at);
            let in_time = timeout(Duration::from_secs(8), looked_at).await;
            in_time
                .map_err(|_| EdgeError {
                    action: format!("put s3://{bucket}/{key}"),
                    fact: ErrorKind::Rejected,
                    answer: None,
                    source: "the far picture was not looked at meanwhile".into(),
                })?
                .unwrap();
        }
        self.store.put(bucket, key, body, content).await
    }

    async fn region(&self, bucket: &Bucket) -> Result<Option<String>, StoreError> {
        self.store.region(bucket).await
    }

    fn skew(&self) -> Option<SignedDuration> {
        self.store.skew()
    }

    async fn probe(&self, bucket: &Bucket, prefix: &str) -> Result<(), StoreError> {
        self.store.probe(bucket, prefix).await
    }
}

/// The keys whose beginnings were asked for.
type Asked = Arc<Mutex<Vec<String>>>;

/// Puts a watch before the store of the only connection.
fn watch(opened: &mut Opened, refuses: bool) -> Asked {
    watch_and_wait(opened, refuses, None)
}

fn watch_and_wait(opened: &mut Opened, refuses: bool, waits: Option<&'static str>) -> Asked {
    let waits = waits.map(|key| {
        let looked_at = watch::Sender::new(false);
        Arc::new(Far { key, looked_at })
    });
    let asked = Asked::default();
    let mut connections = (*opened.services.signing.connections).clone();
    for connection in connections.values_mut() {
        connection.store = Arc::new(Watched {
            store: Arc::clone(&connection.store),
            asked: Arc::clone(&asked),
            refuses,
            waits: waits.clone(),
        });
    }
    opened.services.signing.connections = Arc::new(connections);
    asked
}

#[tokio::test]
async fn later_pictures_are_looked_at_while_a_page_is_put() {
    let mut world = World::new();
    for number in 0..2900 {
        world = world.object(&format!("{number:04}.txt"), "x");
    }
    put_picture(&world, "2500.jpg", "camera.jpg");
    let mut opened = world.open().await;
    let asked = watch_and_wait(&mut opened, false, Some("2500.jpg"));
    work(&opened, &gallery_job("far")).await;
    assert_eq!(taken(&asked), ["2500.jpg"]);
    let pages = pages(&world);
    assert_eq!(pages.len(), 2 * 4, "an index and three pages for each");
}

fn taken(asked: &Asked) -> Vec<String> {
    let mut keys = std::mem::take(&mut *asked.lock().unwrap());
    keys.sort();
    keys
}

fn put_picture(world: &World, key: &str, fixture: &str) {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");
    let path = world.bucket("reports").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(format!("{fixtures}/{fixture}"), path).unwrap();
}

/// Photos, one of them turned and one damaged, and a document.
fn photos() -> World {
    let world = World::new()
        .object("notes.pdf", "%PDF-1.7")
        .object("damaged.jpg", "not a picture")
        .object("empty.jpg", "");
    put_picture(&world, "Day 1/upright.jpg", "camera.jpg");
    put_picture(&world, "Day 1/turned.JPG", "camera-turned.jpg");
    put_picture(&world, "Day 2/small.webp", "lossy.webp");
    world
}

const PICTURES: [&str; 4] = [
    "Day 1/turned.JPG",
    "Day 1/upright.jpg",
    "Day 2/small.webp",
    "damaged.jpg",
];

fn gallery_job(id: &str) -> Value {
    json!({
        "v": 1, "id": id,
        "from": { "connection": "local", "bucket": "reports", "prefix": "" },
        "email": { "to": ["ann@acme.example", "bo@acme.example"] },
        "links": { "per_recipient": true, "disposition": "inline" },
        "gallery": { "publish": { "bucket": "published", "prefix": "galleries/" } },
    })
}

async fn work(opened: &Opened, job: &Value) {
    let before = opened.services.progress.snapshot().jobs_done;
    opened.queue.submit(&job.to_string()).await.unwrap();
    run_until_settled(opened, before + 1).await;
}

/// The pages that were published.
fn pages(world: &World) -> Vec<String> {
    fn walk(dir: &std::path::Path, pages: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, pages),
                false => pages.push(published_text(&path)),
            }
        }
    }
    let mut pages = Vec::new();
    walk(&world.bucket("published").join("galleries"), &mut pages);
    pages
}

#[tokio::test]
async fn pages_know_the_sizes_of_pictures_and_each_is_looked_at_once() {
    Box::pin(looked_at_once(photos())).await;
}

#[tokio::test]
async fn pictures_are_looked_at_once_with_a_ledger_in_s3() {
    let world = photos().configured(|config| {
        config.ledger.kind = LedgerKind::S3;
        config.ledger.connection = Some("local".to_owned());
        config.ledger.bucket = Some("ledger".to_owned());
    });
    let buckets = world.dir.path().join("buckets");
    localstore::create_bucket(&buckets, "ledger").unwrap();
    Box::pin(looked_at_once(world)).await;
}

async fn looked_at_once(world: World) {
    let mut opened = world.open().await;
    let asked = watch(&mut opened, false);
    work(&opened, &gallery_job("first")).await;
    assert_eq!(
        taken(&asked),
        PICTURES,
        "once for two recipients; no document, nothing empty"
    );
    let pages = pages(&world);
    assert_eq!(pages.len(), 2, "a page for each");
    for page in &pages {
        for size in [
            r#"width="480" height="360""#,
            r#"width="360" height="480""#,
            r#"width="37" height="23""#,
        ] {
            assert!(page.contains(size), "{size} in {page}");
        }
    }

    work(&opened, &gallery_job("second")).await;
    assert_eq!(
        taken(&asked),
        Vec::<String>::new(),
        "all is known from the job before"
    );

    put_picture(&world, "Day 2/small.webp", "lossless.webp");
    put_picture(&world, "Day 3/new.png", "plain.png");
    work(&opened, &gallery_job("third")).await;
    let again = taken(&asked);
    for changed in ["Day 2/small.webp", "Day 3/new.png"] {
        assert!(again.iter().any(|key| key == changed), "{again:?}");
    }
    opened.close().await;
    assert!(world.parked().await.is_empty());
}

#[tokio::test]
async fn only_the_new_and_the_changed_are_looked_at_again() {
    let world = photos();
    let mut opened = world.open().await;
    let asked = watch(&mut opened, false);
    work(&opened, &gallery_job("first")).await;
    taken(&asked);
    put_picture(&world, "Day 2/small.webp", "lossless.webp");
    put_picture(&world, "Day 3/new.png", "plain.png");
    work(&opened, &gallery_job("second")).await;
    assert_eq!(taken(&asked), ["Day 2/small.webp", "Day 3/new.png"]);
    opened.close().await;
}

#[tokio::test]
async fn no_more_are_looked_at_than_wanted_and_none_without_a_gallery() {
    let limited = photos().configured(|config| config.gallery.picture_limit = 2);
    let off = photos().configured(|config| config.gallery.picture_sizes = false);
    let mut mail = gallery_job("mail");
    mail.as_object_mut().unwrap().remove("gallery");
    for (world, job, looks) in [
        (limited, gallery_job("limited"), &PICTURES[..2]),
        (off, gallery_job("off"), &[]),
        (photos(), mail, &[]),
    ] {
        let mut opened = world.open().await;
        let asked = watch(&mut opened, false);
        work(&opened, &job).await;
        assert_eq!(taken(&asked), looks, "{}", job["id"]);
        opened.close().await;
        assert_eq!(world.mails().len(), 2);
    }
}

#[tokio::test]
async fn a_store_that_lets_nobody_read_is_asked_a_few_times_and_the_job_is_done() {
    let world = World::new();
    for number in 0..60 {
        put_picture(&world, &format!("{number:02}.png"), "plain.png");
    }
    let mut opened = world.open().await;
    let asked = watch(&mut opened, true);
    work(&opened, &gallery_job("refused")).await;
    let looks = taken(&asked).len();
    // Ten failures, and those that were under way.
    assert!((10..=18).contains(&looks), "{looks}");
    assert_eq!(world.mails().len(), 2);
    for page in pages(&world) {
        assert!(page.contains("00.png") && !page.contains(r#"width="37""#));
    }
    opened.close().await;
}

#[tokio::test]
async fn a_preview_knows_the_sizes_too() {
    let world = photos();
    let job = world.dir.path().join("job.json");
    fs::write(&job, gallery_job("preview").to_string()).unwrap();
    let out = world.dir.path().join("out");
    let ended = std::process::Command::new(crate::support::program())
        .args(["job", "preview", "--config"])
        .arg(world.written())
        .arg("--out")
        .arg(&out)
        .arg(&job)
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let page = fs::read_to_string(out.join("gallery-index.html")).unwrap();
    assert!(page.contains(r#"width="480" height="360""#), "{page}");
}

/// The small pictures are drawn by a browser, and turned as the large ones are.
#[test]
fn small_pictures_are_drawn_by_a_browser_and_turned() {
    let Some(browser) = browser_or_skip("small_pictures_are_drawn_by_a_browser") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");
    for (name, width) in [("camera.jpg", 160), ("camera-turned.jpg", 120)] {
        let bytes = fs::read(format!("{fixtures}/{name}")).unwrap();
        let uri = Picture::read(&bytes).unwrap().thumbnail.unwrap();
        let page = dir.path().join("page.html");
        let html =
            format!("<!doctype html><title>x</title><body style='margin:0'><img src='{uri}'>");
        fs::write(&page, html).unwrap();
        let url = format!("file://{}", page.display());
        let seen = browser.shoot(&url, &dir.path().join("page.png"), &["--width", "50"]);
        assert_eq!(seen["broken_images"], 0, "{name}: {seen}");
        // The picture is wider than the window, so that the page is as wide as it.
        assert_eq!(seen["scroll_width"], width, "{name}: {seen}");
    }
}

/// A server that knows no ranges, or sends more than it was asked for, is read no further than that.
#[tokio::test]
async fn no_more_is_read_than_was_asked_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let length = socket.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\netag: \"e\"\r\n\r\n";
        socket.write_all(head).await.unwrap();
        // Until nobody reads any more.
        while socket.write_all(&[7; 65536]).await.is_ok() {}
        request
    };
    let store = handout::store::s3::S3Store::new(s3_client(&url));
    let object = ObjectMeta {
        key: "a.jpg".parse().unwrap(),
        size_bytes: 1_000_000_000,
        etag: "e".to_owned(),
        version: None,
        modified: jiff::Timestamp::UNIX_EPOCH,
        storage: handout::store::Storage::Ready,
        stored: None,
    };
    let bucket = "reports".parse().unwrap();
    let reading = async {
        let bytes = store.beginning(&bucket, &object, 1000).await.unwrap();
        drop(store);
        bytes
    };
    let (request, bytes) = tokio::join!(serving, reading);
    assert_eq!(bytes, [7; 1000]);
    assert!(request.contains("range: bytes=0-999\r\n"), "{request}");
    assert!(request.contains("if-match: \"e\"\r\n"), "{request}");
}
