//! Many links: long listings in parts, pages that are stored compressed, lists that other programs read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use flate2::read::GzDecoder;
use futures_util::{StreamExt, stream};
use handout::assemble::Services;
use handout::cancellation::Cancellation;
use handout::clock;
use handout::config::{Config, ConnectionConfig};
use handout::distribute::distribute;
use handout::job::Job;
use handout::links::listing::{self, Entry, Listing};
use handout::plan::{self, CredentialsEnd, SignerFacts};
use handout::progress::Progress;
use handout::run::JobRun;
use handout::store::{Cursor, ObjectStore, Versions};
use serde_json::{Value, json};

use crate::conformance::{create_bucket, s3_client};
use crate::hostile::put_all;
use crate::support::servers::{Parts, Server, browser_or_skip, skipped};
use crate::support::world::{World, email_job};
use crate::support::{answer, get, hostile, hrefs};

/// A job for everything in `reports`, with a page and a list.
fn bulk_job(id: &str, from: &Value) -> Value {
    let mut from = from.clone();
    from["connection"] = json!("local");
    from["bucket"] = json!("reports");
    json!({
        "v": 1,
        "id": id,
        "from": from,
        "gallery": { "publish": { "bucket": "published", "prefix": "g/" } },
        "manifest": { "format": "csv", "publish": { "bucket": "published", "prefix": "m/" } },
    })
}

fn run(job: &Value) -> JobRun {
    JobRun {
        job: Arc::new(Job::parse(&job.to_string()).unwrap()),
        message_id: None,
        attempt: 1,
        now: clock::system(),
        stop: Cancellation::default(),
        trace: None,
        delivery: handout::run::delivery::Delivery::unnoted(),
        lanes: None,
    }
}

/// The keys that a job gets, in order.
async fn listed(services: &Services, from: &Value) -> Vec<String> {
    let run = run(&bulk_job("listed", from));
    let facts = SignerFacts {
        credentials_end: CredentialsEnd::Never,
        ..SignerFacts::default()
    };
    let plan = plan::build(
        &run.job,
        &services.signing.policy,
        &*services.presenting.templates,
        &facts,
        run.now,
    );
    let (plan, progress) = (plan.unwrap(), Progress::default());
    let store = &*services.signing.connection(&plan.connection).unwrap().store;
    let listing = listing::list(
        &plan,
        store,
        &services.presenting.spool_dir,
        &run.stop,
        &progress,
    );
    let keys = keys_of(&listing.await.unwrap());
    assert!(progress.snapshot().objects_found >= keys.len() as u64);
    keys
}

fn keys_of(listing: &Listing) -> Vec<String> {
    let pages = (0..).map_while(|number| listing.page(number).unwrap());
    let key = |entry| match entry {
        Entry::Linkable(object) => object.key.to_string(),
        Entry::Unavailable(key, _) => key,
    };
    pages.flatten().map(key).collect()
}

/// All keys of a bucket, one page after the other.
async fn page_by_page(store: &dyn ObjectStore) -> Vec<String> {
    let bucket = "reports".parse().unwrap();
    let (mut keys, mut token) = (Vec::new(), None::<String>);
    loop {
        let cursor = token.as_deref().map_or(Cursor::Start, Cursor::Token);
        let page = store.list(&bucket, "", Versions::Floating, cursor);
        let page = page.await.unwrap();
        keys.extend(page.objects.into_iter().map(|o| o.key.to_string()));
        token = page.continuation_token;
        if token.is_none() {
            return keys;
        }
    }
}

/// Keys that make several pages, and among them those that have broken other programs.
fn many_keys() -> Vec<String> {
    let plain = (0..2_400).map(|number| format!("2026/{:02}/{number:05}.pdf", number % 12));
    let hostile = hostile::keys()
        .into_iter()
        .chain(hostile::UNLINKABLE.map(ToOwned::to_owned));
    let mut keys: Vec<String> = plain.chain(hostile).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn a_long_listing_of_the_embedded_endpoint_is_the_same_in_parts() {
    let mut world = World::new();
    let (plain, odd): (Vec<_>, Vec<_>) = many_keys()
        .into_iter()
        .partition(|key| key.starts_with("2026/"));
    for key in &plain {
        world = world.object(key, "x");
    }
    put_all(&world, &odd).await;
    let opened = world.open().await;
    let store = &opened
        .services
        .signing
        .connection(&"local".parse().unwrap())
        .unwrap()
        .store;
    let keys = many_keys();
    assert_eq!(page_by_page(&**store).await, keys);
    assert_eq!(
        listed(&opened.services, &json!({ "prefix": "" })).await,
        keys
    );
    let below = listed(&opened.services, &json!({ "prefix": "2026/" })).await;
    assert_eq!(below, plain);
    let limited = json!({ "prefix": "", "limit": 1_500 });
    assert!(listed(&opened.services, &limited).await.len() >= 1_500);
    opened.close().await;
}

/// A world whose bucket is in moto.
fn beside(moto: &Server) -> World {
    let world = World::new();
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    world.configured(|config| in_moto(config, moto, secret))
}

fn in_moto(config: &mut Config, moto: &Server, secret: std::path::PathBuf) {
    let connection = ConnectionConfig {
        endpoint_url: Some(moto.url()),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("id".to_owned()),
        secret_access_key_file: Some(secret),
        ..ConnectionConfig::default()
    };
    config.connections.insert("local".to_owned(), connection);
}

#[tokio::test]
async fn a_long_listing_of_s3_is_the_same_in_parts() {
    let Some(parts) = Parts::or_skip("a_long_listing_of_s3") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    create_bucket(&client, "reports").await;
    // moto routes no path with a line break in it.
    let mut keys = many_keys();
    keys.retain(|key| !key.contains('\n'));
    let puts = stream::iter(&keys).map(|key| {
        let put = client.put_object().bucket("reports").key(key);
        async { put.send().await.unwrap() }
    });
    puts.buffer_unordered(16).for_each(async |_| ()).await;
    let world = beside(&moto);
    let opened = world.open().await;
    let store = &opened
        .services
        .signing
        .connection(&"local".parse().unwrap())
        .unwrap()
        .store;
    assert_eq!(page_by_page(&**store).await, keys);
    assert_eq!(
        listed(&opened.services, &json!({ "prefix": "" })).await,
        keys
    );
    opened.close().await;
}

/// A mail job with a page and a list.
fn published_job(id: &str, format: &str) -> Value {
    let mut job = email_job(id);
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    job["manifest"] =
        json!({ "format": format, "publish": { "bucket": "published", "prefix": "m/" } });
    job
}

/// The link in Ann's mail to something that was published.
fn link_in_mail(world: &World, to: &str) -> String {
    let mail = world.mails().remove(0);
    let link = mail.hrefs.into_iter().find(|href| href.contains(to));
    link.unwrap_or_else(|| panic!("the mail has no link to {to}"))
}

fn gunzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

/// The links of a page to what is called so, each once.
fn links_to(page: &str, what: &str) -> BTreeSet<String> {
    let links = hrefs(page).into_iter();
    links.filter(|link| link.contains(what)).collect()
}

#[tokio::test]
async fn pages_are_stored_compressed_and_every_link_of_them_opens() {
    let mut world = World::new().job(&published_job("pages", "csv"));
    for number in 0..1_203 {
        world = world.object(&format!("{number:04}.txt"), "x");
    }
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    assert_eq!(world.audit_of("issue").len(), 1_203);
    assert_eq!(world.audit_of("gallery").len(), 3, "an index and two pages");

    let opened = world.open().await;
    let (status, headers, body) = answer(&link_in_mail(&world, "/index.html?")).await;
    assert_eq!(status, 200);
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("cache-control", "private, no-store"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(body[4..8], [0; 4], "no time is in it");
    let pages = links_to(&gunzipped(&body), "/page-");
    assert_eq!(pages.len(), 2);
    let mut seen = 0;
    for page in &pages {
        let body = answer(page).await.2;
        let page = gunzipped(&body);
        let (stored, shown) = (body.len(), page.len());
        assert!(stored * 4 < shown, "{stored} of {shown}");
        assert!(!links_to(&page, "/index.html?").is_empty());
        let links = links_to(&page, ".txt?");
        seen += links.len();
        for link in links.iter().step_by(100) {
            assert_eq!(get(link).await.0, 200);
        }
    }
    assert_eq!(seen, 1_203);
    let list = answer(&link_in_mail(&world, "/manifest.csv?")).await;
    assert!(!list.1.contains_key("content-encoding"));
    opened.close().await;
}

#[tokio::test]
async fn a_compressed_page_opens_in_a_browser() {
    let Some(browser) = browser_or_skip("a_compressed_page_opens") else {
        return;
    };
    let mut world = World::new()
        .object("a.pdf", "x")
        .job(&published_job("seen", "csv"));
    world.run().await;
    let opened = world.open().await;
    let link = link_in_mail(&world, "/index.html?");
    let picture = world.dir.path().join("page.png");
    let shot = tokio::task::spawn_blocking(move || browser.shoot(&link, &picture, &[]));
    let seen = shot.await.unwrap();
    assert_eq!(seen["title"], "Report seen", "{seen}");
    assert_eq!(seen["console_errors"], json!([]));
    opened.close().await;
}

#[tokio::test]
async fn a_page_in_a_directory_is_the_page_itself() {
    let world = World::new().object("a.pdf", "x");
    let dir = format!("{}", world.dir.path().join("pages").display());
    let mut job = bulk_job("directory", &json!({ "prefix": "" }));
    job["gallery"] = json!({ "publish": { "dir": dir } });
    let opened = world.open().await;
    let delivered = distribute(&run(&job), &opened.services).await.unwrap();
    let page = fs::read_to_string(&delivered.galleries[0]).unwrap();
    assert!(page.starts_with("<!"), "{page}");
    opened.close().await;
}

#[tokio::test]
async fn publishing_again_for_the_same_job_gives_the_same_bytes_and_names() {
    let Some(parts) = Parts::or_skip("publishing_again") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    for bucket in ["reports", "published"] {
        create_bucket(&client, bucket).await;
    }
    for number in 0..7 {
        let put = client.put_object().bucket("reports");
        put.key(format!("{number}.pdf")).send().await.unwrap();
    }
    let run = run(&bulk_job("again", &json!({ "prefix": "" })));
    let mut published = Vec::new();
    let secret = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // Nothing is known of the first attempt but the installation's secret.
        let world = beside(&moto).configured(|config| {
            config.gallery.page_size = 3;
            config.secret_key_file = Some(secret.path().join("secret.key"));
        });
        let opened = world.open().await;
        distribute(&run, &opened.services).await.unwrap();
        opened.close().await;
        let listed = client.list_objects_v2().bucket("published");
        let objects = listed.send().await.unwrap().contents.unwrap();
        let named = objects
            .into_iter()
            .map(|o| (o.key.unwrap(), o.e_tag.unwrap()));
        published.push(named.collect::<Vec<_>>());
    }
    assert_eq!(published[0].len(), 5, "an index, three pages and a list");
    assert_eq!(published[0], published[1]);
    let page = client.head_object().bucket("published");
    let page = page.key(&published[0][0].0).send().await.unwrap();
    assert_eq!(page.content_encoding.as_deref(), Some("gzip"));
}

#[tokio::test]
async fn a_table_is_read_by_python_and_holds_no_formula() {
    let Some(parts) = Parts::or_skip("a_table_is_read_by_python") else {
        return;
    };
    let mut keys = hostile::keys();
    let formulas = [
        "x;=cmd|' /C calc'!A1",
        "＝1+1",
        "x; \"=1",
        "a;@b;+c;-d",
        "x|=1",
        " =1",
    ];
    keys.extend(formulas.map(|key| format!("{key}.csv")));
    let mut world = World::new().job(&published_job("table", "csv"));
    put_all(&world, &keys).await;
    world.run().await;
    let opened = world.open().await;
    let (_, _, table) = answer(&link_in_mail(&world, "/manifest.csv?")).await;
    opened.close().await;
    let rows = read_by_python(&parts, &table, ",");
    assert!(rows.iter().all(|row| row.len() == 8), "{rows:?}");
    assert!(rows[1..].iter().all(|row| row[2].parse::<u64>().is_ok()));
    for separator in [",", ";", "\t", "|"] {
        for cell in read_by_python(&parts, &table, separator).iter().flatten() {
            let begin = cell.trim_start_matches(|c: char| c == '"' || c.is_whitespace());
            assert!(
                !begin.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
                    && !cell.starts_with(['\t', '\r']),
                "{separator:?}: {cell}"
            );
        }
    }
    let bare = |text: &String| text.replace('\'', "");
    keys.sort();
    assert!(
        rows[1..]
            .iter()
            .map(|row| bare(&row[0]))
            .eq(keys.iter().map(bare))
    );
}

fn read_by_python(parts: &Parts, table: &[u8], separator: &str) -> Vec<Vec<String>> {
    let mut python = parts.script("read_csv.py");
    let mut python = python
        .arg(separator)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(table).unwrap();
    let read = python.wait_with_output().unwrap();
    assert!(read.status.success());
    serde_json::from_slice(&read.stdout).unwrap()
}

/// The files below a folder, by their paths, with their texts.
fn below(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(folder).into_iter().flatten() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = below(&path).into_iter();
            found.extend(inner.map(|(file, text)| (format!("{name}/{file}"), text)));
        } else {
            found.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    found
}

/// The commands that docs/jobs/manifests.md prints.
#[tokio::test]
async fn programs_save_what_a_list_names_under_the_right_names() {
    let keys = [
        "a.txt",
        "b c.txt",
        "ü.txt",
        "d%2F&e=f.txt",
        "Größen/a.txt",
        "Größen/x/y.txt",
    ];
    let flat = ["a.txt", "b c.txt", "ü.txt", "d%2F&e=f.txt", "y.txt"];
    let ways = [
        (
            "urls",
            "urls.txt",
            "wget",
            "--quiet --content-disposition --input-file",
            "--directory-prefix",
        ),
        (
            "aria2",
            "aria2.txt",
            "aria2c",
            "--quiet --no-conf --input-file",
            "--dir",
        ),
    ];
    for (format, list_name, program, options, into) in ways {
        let mut world = World::new().job(&published_job(format, format));
        for name in keys {
            world = world.object(name, name);
        }
        world.run().await;
        let opened = world.open().await;
        let (_, _, urls) = answer(&link_in_mail(&world, &format!("/{list_name}?"))).await;
        let list = world.dir.path().join("list");
        fs::write(&list, urls).unwrap();
        let dir = world.dir.path().join(program);
        let mut fetch = Command::new(program);
        fetch
            .env("LC_ALL", "C.UTF-8")
            .args(options.split(' '))
            .args([list.as_os_str(), OsStr::new(into), dir.as_os_str()]);
        let fetched = tokio::task::spawn_blocking(move || fetch.status());
        let Ok(status) = fetched.await.unwrap() else {
            skipped(&format!("programs_save_what_a_list_names: {program}"));
            continue;
        };
        assert!(status.success(), "{program}");
        let saved = below(&dir);
        match format {
            "aria2" => {
                let own: BTreeMap<String, String> =
                    keys.map(|key| (key.to_owned(), key.to_owned())).into();
                assert_eq!(saved, own, "{program}");
            }
            // wget knows no folders, and gives the second of a name another.
            _ => {
                let names: Vec<&str> = flat
                    .into_iter()
                    .filter(|name| !saved.contains_key(*name))
                    .collect();
                assert_eq!(
                    (names, saved.len()),
                    (vec![], keys.len()),
                    "{program}: {saved:?}"
                );
            }
        }
        opened.close().await;
    }
}
