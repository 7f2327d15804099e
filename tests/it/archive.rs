//! One ZIP of a job's files: made inside real stores or as a file, opened by the programs that people have, linked and recorded
//! for each recipient, and continued after a kill.

use std::path::PathBuf;
use std::process::{Command, Output};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use base64ct::{Base64, Encoding};
use handout::config::ConnectionConfig;
use serde_json::{Value, json};

use crate::conformance::{create_bucket, s3_client_with};
use crate::support::servers::{Parts, Server, run};
use crate::support::world::{World, email_job};
use crate::support::zips::{Judged, only_file};
use crate::support::{get, hostile, program};

const REGION: &str = "us-east-1";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "secret-of-tests";

const MIB: usize = 1 << 20;

fn zip_job(id: &str, zip: Value) -> Value {
    let mut job = email_job(id);
    job["email"]["to"] = json!(["Ann Bell <ann@acme.example>", "bob@acme.example"]);
    job["zip"] = zip;
    job
}

fn in_bucket() -> Value {
    json!({ "publish": { "bucket": "published", "prefix": "zips/" } })
}

#[tokio::test]
async fn a_zip_in_a_directory_opens_with_every_program_and_has_the_files() {
    let Some(parts) = Parts::or_skip("a_zip_in_a_directory") else {
        return;
    };
    let mut world = World::new()
        .object("shoot/a.txt", "first")
        .object("shoot/day 1/Süd.txt", "second")
        .object("shoot/day 1/A.txt", "third")
        .object("shoot/day 1/a.txt", "fourth")
        .object("shoot/empty", "");
    let pages = world.dir.path().join("pages");
    let mut job = zip_job(
        "dir",
        json!({ "name": "Zürich: 1/2.zip", "publish": { "dir": pages } }),
    );
    job["from"]["prefix"] = json!("shoot/");
    world = world.job(&job);
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let zip = only_file(&pages, ".zip");
    assert_eq!(zip.file_name().unwrap(), "Zürich_ 1_2.zip");
    let unpacked = world.dir.path().join("unpacked");
    let judged = Judged::of(&parts, &zip, Some(&unpacked));
    assert_eq!(
        judged.names(),
        [
            "a.txt",
            "day 1/A.txt",
            "day 1/Süd.txt",
            "day 1/a (2).txt",
            "empty"
        ]
    );
    for (name, text) in [
        ("a.txt", "first"),
        ("day 1/Süd.txt", "second"),
        ("day 1/A.txt", "third"),
        ("day 1/a (2).txt", "fourth"),
        ("empty", ""),
    ] {
        assert_eq!(std::fs::read_to_string(unpacked.join(name)).unwrap(), text);
    }
    // No web server serves the directory: the mails do not link it.
    let mails = world.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().all(|mail| !mail.html.contains("(ZIP)")));
    let published = world.audit_of("published");
    assert_eq!(published.len(), 2);
    assert_eq!(published[0]["place"], json!(zip.display().to_string()));
}

#[tokio::test]
async fn hostile_names_can_be_unpacked() {
    let Some(parts) = Parts::or_skip("hostile_names_can_be_unpacked") else {
        return;
    };
    let Some((store, mut world)) = Moto::start(&parts).await else {
        return;
    };
    let keys = hostile::keys();
    for key in keys.iter().map(String::as_str).chain(["a/../b.pdf"]) {
        store.put(key, key.as_bytes().to_vec()).await;
    }
    let output = run_job(&mut world, &zip_job("odd", in_bucket()), &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    let (_, zip) = store.zip(&world).await;
    let unpacked = world.dir.path().join("unpacked");
    let judged = Judged::of(&parts, &zip, Some(&unpacked));
    let names = judged.names();
    assert_eq!(
        names.len(),
        keys.len() + 1,
        "each file, and what is not included"
    );
    assert_eq!(names.last(), Some(&"NOT INCLUDED.txt"));
    let note = std::fs::read_to_string(unpacked.join("NOT INCLUDED.txt")).unwrap();
    assert!(note.contains("a/../b.pdf: its key has"), "{note}");
    let mail = &world.mails()[0].html;
    assert!(mail.contains("1 file is not in the ZIP"), "{mail}");
}

#[tokio::test]
async fn each_recipient_gets_a_link_of_their_own_and_a_line_that_says_what_it_opens() {
    let Some(parts) = Parts::or_skip("each_recipient_gets_a_link") else {
        return;
    };
    let mut world = World::new()
        .object("2026/q3.pdf", "the third quarter")
        .object("2026/q4.pdf", "the fourth quarter");
    let mut job = zip_job("bucket", in_bucket());
    job["from"]["prefix"] = json!("2026/");
    job["gallery"] =
        json!({ "title": "Quarters", "publish": { "bucket": "published", "prefix": "g/" } });
    world = world.job(&job);
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let zip = only_file(&world.bucket("published"), ".zip");
    assert_eq!(zip.file_name().unwrap(), "Quarters.zip");
    let judged = Judged::of(&parts, &zip, None);
    assert_eq!(judged.names(), ["q3.pdf", "q4.pdf"]);

    let lines = world.audit_of("zip");
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(line["files"], 2);
        assert_eq!(line["size"], zip.metadata().unwrap().len());
        assert_eq!(line["directory_sha256"], judged.0["directory_sha256"]);
        assert!(line["key"].as_str().unwrap().ends_with("/Quarters.zip"));
    }
    assert_ne!(lines[0]["link"], lines[1]["link"]);
    assert_ne!(lines[0]["rid"], lines[1]["rid"]);

    let mut urls = Vec::new();
    for mail in world.mails() {
        assert!(mail.html.contains("All 2 files, "), "{}", mail.html);
        assert!(mail.eml.contains("All 2 files, "), "{}", mail.eml);
        let is_zip = |url: &&String| url.contains("/Quarters.zip?");
        let url = mail.hrefs.iter().find(is_zip).unwrap().clone();
        assert!(
            url.contains("response-content-disposition=attachment"),
            "{url}"
        );
        urls.push(url);
    }
    assert_ne!(urls[0], urls[1]);
    let page = std::fs::read_dir(world.bucket("published").join("g")).unwrap();
    let page = page.map(|entry| entry.unwrap().path().join("index.html"));
    for page in page {
        let html = crate::support::published_text(&page);
        assert!(html.contains("All 2 files, "), "{html}");
    }
}

#[tokio::test]
async fn a_job_is_split_by_whole_files_and_a_zip_out_of_place_is_rejected() {
    let Some(parts) = Parts::or_skip("a_job_is_split") else {
        return;
    };
    let large = "x".repeat(MIB * 3 / 4);
    let mut world = World::new()
        .object("a", &large)
        .object("b", &large)
        .object("c", &large);
    let pages = world.dir.path().join("pages");
    let elsewhere = json!({ "publish": { "bucket": "secret", "prefix": "x/" } });
    let split = json!({ "name": "all", "publish": { "dir": &pages }, "split": "1MiB" });
    world = world
        .job(&zip_job("split", split))
        .job(&zip_job("elsewhere", elsewhere));
    world.run().await;
    let parked = world.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert!(
        parked[0].contains("do not let it be published to s3://secret/x/"),
        "{parked:?}"
    );
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        let folders = std::fs::read_dir(&pages).unwrap();
        let file = format!("all {} of 3.zip", number + 1);
        let mut found = folders.map(|folder| folder.unwrap().path().join(&file));
        let zip = found.find(|path| path.exists()).unwrap();
        assert_eq!(Judged::of(&parts, &zip, None).names(), [*name]);
    }
}

// ── Stores ──

/// A store and the files in it.
struct Stored {
    client: Client,
    _server: Server,
}

/// moto: it copies parts, and says nothing of their checksums.
struct Moto;

impl Moto {
    async fn start(parts: &Parts) -> Option<(Stored, World)> {
        let server = parts.start("moto.py", &[]);
        stored(server).await
    }
}

async fn stored(server: Server) -> Option<(Stored, World)> {
    let mut world = World::new();
    let secret = world.dir.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(server.url()),
        region: Some(REGION.to_owned()),
        access_key_id: Some(KEY.to_owned()),
        secret_access_key_file: Some(secret),
        path_style: Some(true),
        ..ConnectionConfig::default()
    };
    let connections = &mut world.config.connections;
    connections.insert("store".to_owned(), connection);
    world.config.allow[0].connection = "store".to_owned();
    let client = s3_client_with(&server.url(), REGION, KEY, SECRET);
    // The judges compute the checksums, and an object has one where a test gives it one.
    let config = client.config().to_builder();
    let config = config
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let client = Client::from_conf(config.build());
    for bucket in ["reports", "published"] {
        create_bucket(&client, bucket).await;
    }
    let _server = server;
    Some((Stored { client, _server }, world))
}

impl Stored {
    async fn put(&self, key: &str, bytes: Vec<u8>) {
        let put = self.client.put_object().bucket("reports").key(key);
        put.body(bytes.into()).send().await.unwrap();
    }

    /// The only ZIP in the bucket: its key, and its bytes in a file.
    async fn zip(&self, world: &World) -> (String, PathBuf) {
        let listed = self.client.list_objects_v2().bucket("published");
        let listed = listed.send().await.unwrap();
        let keys = listed.contents().iter().filter_map(|object| object.key());
        let zips: Vec<&str> = keys.filter(|key| key.ends_with(".zip")).collect();
        assert_eq!(zips.len(), 1, "{zips:?}");
        let got = self.client.get_object().bucket("published").key(zips[0]);
        let bytes = got.send().await.unwrap().body.collect().await.unwrap();
        let path = world.dir.path().join("got.zip");
        std::fs::write(&path, bytes.into_bytes()).unwrap();
        (zips[0].to_owned(), path)
    }

    async fn uploads(&self) -> usize {
        let uploads = self.client.list_multipart_uploads().bucket("published");
        uploads.send().await.unwrap().uploads().len()
    }
}

/// Runs a job with the program itself, which a failpoint may kill.
async fn run_job(world: &mut World, job: &Value, variables: &[(&str, &str)]) -> Output {
    let mut job = job.clone();
    job["from"]["connection"] = json!("store");
    let config = world.written();
    let file = world.dir.path().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let mut command = Command::new(program());
    command
        .args(["job", "run", &file.to_string_lossy(), "--config"])
        .arg(config)
        .envs(variables.iter().copied());
    let ran = tokio::task::spawn_blocking(move || command.output());
    ran.await.unwrap().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A checksum as headers have it.
fn base64(crc32: u32) -> String {
    Base64::encode_string(&crc32.to_be_bytes())
}

/// Files of all sizes about which a layout decides.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |length: usize, seed: u32| -> Vec<u8> {
        let numbers = (0..u32::try_from(length.div_ceil(4)).unwrap())
            .map(|n| n.wrapping_mul(2_654_435_761).wrapping_add(seed));
        let mut bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        bytes.truncate(length);
        bytes
    };
    vec![
        ("shoot/0 empty", Vec::new()),
        ("shoot/1 small.txt", b"small".to_vec()),
        ("shoot/2 vidéo +50%.mp4", bytes(12 * MIB + 3, 1)),
        ("shoot/3 Süd.raw", bytes(5 * MIB, 2)),
        ("shoot/4 large.raw", bytes(11 * MIB + 17, 3)),
        ("shoot/5 tail.txt", b"the last".to_vec()),
    ]
}

/// Runs a job over all files, and returns what the judges say and the key of the ZIP.
async fn zip_of_files(parts: &Parts, store: &Stored, world: &mut World) -> (Judged, String) {
    for (key, bytes) in files() {
        store.put(key, bytes).await;
    }
    let mut job = zip_job("parts", in_bucket());
    job["from"]["prefix"] = json!("shoot/");
    let output = run_job(world, &job, &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    judged_files(parts, store, world).await
}

async fn judged_files(parts: &Parts, store: &Stored, world: &World) -> (Judged, String) {
    let (key, zip) = store.zip(world).await;
    let unpacked = world.dir.path().join("unpacked");
    let judged = Judged::of(parts, &zip, Some(&unpacked));
    for (key, bytes) in files() {
        let name = key.strip_prefix("shoot/").unwrap();
        assert!(
            std::fs::read(unpacked.join(name)).unwrap() == bytes,
            "{name}"
        );
    }
    assert_eq!(judged.names().len(), files().len());
    assert_eq!(store.uploads().await, 0, "no upload is left");
    assert_eq!(world.mails().len(), 2);
    (judged, key)
}

#[tokio::test]
async fn a_store_that_copies_parts_without_checksums_makes_the_same_zip() {
    let Some(parts) = Parts::or_skip("a_store_that_copies_parts") else {
        return;
    };
    let Some((store, mut world)) = Moto::start(&parts).await else {
        return;
    };
    let (_, key) = zip_of_files(&parts, &store, &mut world).await;
    let head = store.client.head_object().bucket("published").key(key);
    let etag = head.send().await.unwrap().e_tag.unwrap();
    // The head of the first file, two copies of the second … : the tag of an upload ends in the number of its parts.
    assert!(etag.ends_with("-5\""), "{etag}");
}

#[tokio::test]
async fn a_store_that_knows_checksums_verifies_that_of_the_whole_zip() {
    let test = "a_store_that_knows_checksums";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&*dir.path().to_string_lossy(), REGION];
    let Some(server) = parts.other_or_skip(test, "versitygw.py", &arguments) else {
        return;
    };
    let Some((store, mut world)) = stored(server).await else {
        return;
    };
    let (judged, key) = zip_of_files(&parts, &store, &mut world).await;
    let head = store.client.head_object().bucket("published").key(key);
    let head = head
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(head.checksum_type, Some(ChecksumType::FullObject));
    let crc32 = u32::try_from(judged.0["crc32"].as_u64().unwrap()).unwrap();
    assert_eq!(head.checksum_crc32, Some(base64(crc32)));
}

/// versitygw 1.8 returns the checksum of the whole source for a part of it, if the source has one. The ZIP is right all the same.
#[tokio::test]
async fn a_store_whose_checksums_of_copies_are_wrong_makes_the_same_zip() {
    let test = "a_store_whose_checksums_of_copies_are_wrong";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&*dir.path().to_string_lossy(), REGION];
    let Some(server) = parts.other_or_skip(test, "versitygw.py", &arguments) else {
        return;
    };
    let Some((store, mut world)) = stored(server).await else {
        return;
    };
    for (key, bytes) in files() {
        let put = store.client.put_object().bucket("reports").key(key);
        let put = put.checksum_crc32(base64(crc32fast::hash(&bytes)));
        put.body(bytes.into()).send().await.unwrap();
    }
    let mut job = zip_job("wrong", in_bucket());
    job["from"]["prefix"] = json!("shoot/");
    let output = run_job(&mut world, &job, &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    let (_, key) = judged_files(&parts, &store, &world).await;
    let head = store.client.head_object().bucket("published").key(key);
    let head = head.checksum_mode(ChecksumMode::Enabled);
    // It was made without checksums in the end.
    assert_eq!(head.send().await.unwrap().checksum_crc32, None);
}

#[tokio::test]
async fn minio_takes_no_checksums_with_copies_and_makes_the_same_zip() {
    let test = "minio_takes_no_checksums_with_copies";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&*dir.path().to_string_lossy(), REGION];
    let Some(server) = parts.server_of_peers(test, "minio.py", &arguments) else {
        return;
    };
    let Some((store, mut world)) = stored(server).await else {
        return;
    };
    zip_of_files(&parts, &store, &mut world).await;
}

// ── Kills and changes ──

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_killed_upload_is_continued_and_every_recipient_is_mailed_once() {
    let Some(parts) = Parts::or_skip("a_killed_upload_is_continued") else {
        return;
    };
    let Some((store, mut world)) = Moto::start(&parts).await else {
        return;
    };
    for (key, bytes) in files() {
        store.put(key, bytes).await;
    }
    let mut job = zip_job("killed", in_bucket());
    job["from"]["prefix"] = json!("shoot/");
    let mut before = Vec::new();
    // Each run dies later than the one before; all go on with one upload.
    for place in [
        "zip-begun",
        "zip-copied",
        "zip-uploaded",
        "zip-uploaded",
        "zip-filled",
    ] {
        let output = run_job(&mut world, &job, &[("HANDOUT_FAILPOINT", place)]).await;
        assert!(!output.status.success(), "{place}: {}", told(&output));
        assert!(world.mails().is_empty());
        let uploads = store.client.list_multipart_uploads().bucket("published");
        let uploads = uploads.send().await.unwrap();
        let [upload] = uploads.uploads() else {
            panic!("{place}: {uploads:?}");
        };
        let listed = store.client.list_parts().bucket("published");
        let listed = listed.key(upload.key().unwrap());
        let listed = listed.upload_id(upload.upload_id().unwrap());
        let found: Vec<_> = listed
            .send()
            .await
            .unwrap()
            .parts()
            .iter()
            .map(|part| (part.part_number, part.last_modified))
            .collect();
        assert!(
            found.len() >= before.len(),
            "{place}: {found:?} after {before:?}"
        );
        // What was there is not made again.
        assert!(
            before.iter().all(|part| found.contains(part)),
            "{place}: {found:?} after {before:?}"
        );
        before = found;
    }
    assert_eq!(before.len(), 5);
    let output = run_job(&mut world, &job, &[("HANDOUT_FAILPOINT", "recorded")]).await;
    assert!(!output.status.success(), "{}", told(&output));
    // The ZIP is complete; the next run finds it.
    let (key, _) = store.zip(&world).await;
    let modified = async || {
        let head = store.client.head_object().bucket("published").key(&key);
        head.send().await.unwrap().last_modified
    };
    let made = modified().await;
    let output = run_job(&mut world, &job, &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    judged_files(&parts, &store, &world).await;
    assert_eq!(modified().await, made);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_file_that_was_replaced_between_attempts_is_in_the_zip_as_it_is_now() {
    let Some(parts) = Parts::or_skip("a_file_that_was_replaced") else {
        return;
    };
    let Some((store, mut world)) = Moto::start(&parts).await else {
        return;
    };
    for (key, bytes) in files() {
        store.put(key, bytes).await;
    }
    let mut job = zip_job("changed", in_bucket());
    job["from"]["prefix"] = json!("shoot/");
    store
        .put("shoot/2 vidéo +50%.mp4", vec![b'-'; 12 * MIB + 3])
        .await;
    let output = run_job(&mut world, &job, &[("HANDOUT_FAILPOINT", "zip-copied:2")]).await;
    assert!(!output.status.success(), "{}", told(&output));
    let (key, bytes) = files().remove(2);
    store.put(key, bytes).await;
    let output = run_job(&mut world, &job, &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    let (_, zip) = store.zip(&world).await;
    let unpacked = world.dir.path().join("unpacked");
    Judged::of(&parts, &zip, Some(&unpacked));
    let found = std::fs::read(unpacked.join("2 vidéo +50%.mp4"));
    match found {
        Ok(found) => assert!(found == files()[2].1, "it is as it is now"),
        Err(_) => {
            let note = std::fs::read_to_string(unpacked.join("NOT INCLUDED.txt")).unwrap();
            assert!(note.contains("2 vidéo +50%.mp4"), "{note}");
        }
    }
}

/// versitygw copies only what is as it was listed.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_file_that_was_replaced_after_the_listing_is_left_out_and_its_upload_is_aborted() {
    let test = "a_file_that_was_replaced_after_the_listing";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&*dir.path().to_string_lossy(), REGION];
    let Some(server) = parts.other_or_skip(test, "versitygw.py", &arguments) else {
        return;
    };
    let Some((store, mut world)) = stored(server).await else {
        return;
    };
    for (key, bytes) in files() {
        store.put(key, bytes).await;
    }
    let mut job = zip_job("replaced", in_bucket());
    job["from"]["prefix"] = json!("shoot/");
    let output = run_job(&mut world, &job, &[("HANDOUT_FAILPOINT", "planned")]).await;
    assert!(!output.status.success(), "{}", told(&output));
    store
        .put("shoot/2 vidéo +50%.mp4", vec![b'-'; 12 * MIB + 3])
        .await;
    let output = run_job(&mut world, &job, &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(store.uploads().await, 0, "no upload is left");
    let (_, zip) = store.zip(&world).await;
    let unpacked = world.dir.path().join("unpacked");
    let judged = Judged::of(&parts, &zip, Some(&unpacked));
    assert_eq!(judged.names().len(), files().len());
    let note = std::fs::read_to_string(unpacked.join("NOT INCLUDED.txt")).unwrap();
    let reason = "2 vidéo +50%.mp4: it was changed or removed while the ZIP was made";
    assert!(note.contains(reason), "{note}");
    assert!(world.mails()[0].html.contains("1 file is not in the ZIP"));
}

// ── Costs ──

/// Runs a program and prints what it took, as JSON: seconds of CPU, and the most memory in KiB.
const MEASURED: &str = "
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({'cpu': used.ru_utime + used.ru_stime, 'rss': used.ru_maxrss}))
sys.exit(code)
";

/// What a ZIP of `count` files of `bytes` took: requests by kind and bytes as the store counts them, CPU and memory of the program.
async fn cost_of(parts: &Parts, count: u64, bytes: u64) -> Value {
    let arguments = [count.to_string(), bytes.to_string()];
    let arguments = arguments.each_ref().map(String::as_str);
    let server = parts.start("sparse_s3.py", &arguments);
    let counts = format!("{}/-/counts", server.url());
    let (_store, world) = stored(server).await.unwrap();
    let mut job = zip_job("costs", in_bucket());
    job["from"] = json!({ "connection": "store", "bucket": "reports", "prefix": "shoot/" });
    let file = world.dir.path().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let mut command = Command::new(parts.python());
    command.args(["-c", MEASURED]).arg(program());
    command.args(["job", "run", &file.to_string_lossy(), "--config"]);
    command.arg(world.written());
    let ran = tokio::task::spawn_blocking(move || command.output());
    let output = ran.await.unwrap().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(world.mails().len(), 2);
    let said = String::from_utf8(output.stdout).unwrap();
    let mut cost: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let (_, counted) = get(&counts).await;
    cost["store"] = serde_json::from_slice(&counted).unwrap();
    cost
}

/// Of files of 1 GB, 5 MiB each pass through here, and each takes a copy and an upload. The store verifies the whole checksum.
fn judge_cost(cost: &Value, count: u64, bytes: u64) {
    let of = |name: &str| cost["store"][name].as_u64().unwrap_or(0);
    assert!(of("zip_bytes") > count * bytes, "{cost}");
    assert!(of("bytes_read") * 10_000 <= of("zip_bytes") * 53, "{cost}");
    let writing = of("create") + of("upload_part") + of("copy_part") + of("complete");
    assert!(writing <= 2 * count + 3, "{cost}");
    assert_eq!(of("get"), count, "{cost}");
    assert_eq!((of("list_parts"), of("delete")), (0, 0), "{cost}");
}

#[tokio::test]
async fn of_large_files_half_a_percent_is_read_and_each_takes_two_writing_requests() {
    let Some(parts) = Parts::or_skip("of_large_files_half_a_percent") else {
        return;
    };
    let (count, bytes) = (10, 1_000_000_000);
    judge_cost(&cost_of(&parts, count, bytes).await, count, bytes);
}

#[tokio::test]
#[ignore = "a measurement: it moves a gigabyte, and says what CPU and memory the ZIP of a hundred files of 1 GB takes"]
async fn the_cost_of_a_hundred_files_of_a_gigabyte() {
    let Some(parts) = Parts::or_skip("the_cost_of_a_hundred_files") else {
        return;
    };
    // The first is what a job takes besides.
    for count in [1, 100] {
        let cost = cost_of(&parts, count, 1_000_000_000).await;
        println!("{cost}");
        judge_cost(&cost, count, 1_000_000_000);
    }
}

// ── Large ZIPs ──

/// The real layouts, in sparse files: no program needs to read all of their zeros.
#[tokio::test]
async fn a_file_above_four_gibibytes_and_very_many_files_are_listed_by_every_program() {
    let Some(parts) = Parts::or_skip("a_file_above_four_gibibytes") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (many, large) = (dir.path().join("many.zip"), dir.path().join("large.zip"));
    let names = (0..66_000).map(|n| (format!("{}/{n}.jpg", n / 1000), 0));
    handout::archive::sparse::write(&many, &names.collect::<Vec<_>>()).unwrap();
    let mask = u64::from(u32::MAX);
    let files = [
        ("first", 7),
        ("just below", mask - 1),
        ("at the limit", mask),
        ("beyond", 5 << 30),
        ("last", 9),
    ];
    let files = files.map(|(name, size)| (name.to_owned(), size));
    handout::archive::sparse::write(&large, &files).unwrap();
    for (zip, count) in [(many, 66_000), (large, 5)] {
        let mut script = parts.script("judge_zip.py");
        let said = run(script.arg(&zip).arg("--quick"));
        let said: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(said["names"].as_array().unwrap().len(), count);
    }
}

/// Every program reads all bytes of a file beyond 32 bits.
#[tokio::test]
#[ignore = "reads 4 GiB seven times: a minute"]
async fn a_file_above_four_gibibytes_is_read_by_every_program() {
    let Some(parts) = Parts::or_skip("a_file_above_four_gibibytes_is_read") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("large.zip");
    let files = [("first", 7), ("large", 1 << 32), ("last", 9)];
    let files = files.map(|(name, size)| (name.to_owned(), size));
    handout::archive::sparse::write(&zip, &files).unwrap();
    assert_eq!(
        Judged::of(&parts, &zip, None).names(),
        ["first", "large", "last"]
    );
}
