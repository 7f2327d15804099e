//! Stores that list as a tree, as `SeaweedFS`: what is in a folder precedes every name that begins with the folder's.

use std::collections::BTreeSet;
use std::process::Command;

use handout::config::ConnectionConfig;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::conformance::s3_client_with;
use crate::support::answering::{answering, date};
use crate::support::program;
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};

/// The folder's objects precede the others in the listing, and three of the others precede them in the order of bytes.
fn keys(count: usize) -> BTreeSet<String> {
    let folders = (0..count).map(|number| format!("2026/{:02}/{number:05}.pdf", number % 12));
    let beside = [
        "2026 b.pdf",
        "2026-archive/old.pdf",
        "2026.pdf",
        "2026/11.pdf",
        "2026/11 x.pdf",
    ];
    let beside = beside.into_iter().map(ToOwned::to_owned);
    folders.chain(beside).collect()
}

/// An answer to a listing in the order of a tree, a hundred keys a page.
fn answer(keys: &BTreeSet<String>, request: &str) -> String {
    let query = request.split(' ').nth(1).unwrap_or_default();
    let parameter = |name: &str| {
        let pairs = query
            .split(['?', '&'])
            .filter_map(|pair| pair.split_once('='));
        let value = pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next();
        value.map(presign::percent::decode_lossy)
    };
    let path = |key: &str| key.split('/').map(ToOwned::to_owned).collect::<Vec<_>>();
    let after = parameter("continuation-token").or_else(|| parameter("start-after"));
    let after = path(&after.unwrap_or_default());
    let mut listed: Vec<&String> = keys.iter().filter(|key| path(key) > after).collect();
    listed.sort_by_key(|key| path(key));
    let next = listed.get(100).and(listed.get(99));
    let next = next.map(|last| format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    let objects = listed.iter().take(100).map(|key| {
        format!("<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>")
    });
    format!(
        "<ListBucketResult><IsTruncated>{}</IsTruncated>{}{}</ListBucketResult>",
        next.is_some(),
        objects.collect::<String>(),
        next.unwrap_or_default()
    )
}

/// A world whose connection `tree` asks this store.
fn world(url: String) -> World {
    let mut world = World::new();
    let secret = world.dir.path().join("secret");
    std::fs::write(&secret, "secret-of-tests").unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(url),
        region: Some("eu-west-1".to_owned()),
        access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_access_key_file: Some(secret),
        path_style: Some(true),
        ..ConnectionConfig::default()
    };
    world
        .config
        .connections
        .insert("tree".to_owned(), connection);
    world.config.allow[0].connection = "tree".to_owned();
    world
}

/// The keys of the list that a job makes, in its order.
async fn handed_out(mut world: World, from: &Value) -> (World, Vec<String>) {
    let pages = world.dir.path().join("pages");
    let mut job = email_job("tree");
    job["from"] = from.clone();
    job["from"]["connection"] = json!("tree");
    job["from"]["bucket"] = json!("reports");
    job["manifest"] = json!({ "format": "jsonl", "publish": { "dir": pages } });
    job["email"]["overflow"] = json!("summarize");
    world = world.job(&job);
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let folder = std::fs::read_dir(&pages)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let list = std::fs::read_to_string(folder.join("manifest.jsonl")).unwrap();
    let key = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let keys = list.lines().map(key).collect();
    (world, keys)
}

/// What `handout check` says of the bucket.
fn checked(world: &World) -> String {
    let mut check = Command::new(program());
    check
        .env_clear()
        .arg("check")
        .arg("--config")
        .arg(world.written());
    let output = check.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("s3://reports") && line.contains("listed"));
    line.unwrap_or(&text).to_owned()
}

/// The keys of the links that `presign --recursive` prints.
fn linked_by_presign(url: &str) -> BTreeSet<String> {
    let mut presign = Command::new(program());
    presign
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
        .args([
            "presign",
            "--no-audit",
            "--path-style",
            "--region",
            "eu-west-1",
        ])
        .args(["--endpoint-url", url, "--recursive", "s3://reports/2026"]);
    let output = presign.output().unwrap();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{wrong}");
    let text = String::from_utf8(output.stdout).unwrap();
    let key = |link: &str| {
        let path = link.strip_prefix(&format!("{url}/reports/")).unwrap();
        presign::percent::decode_lossy(path.split('?').next().unwrap())
    };
    let keys: Vec<String> = text.lines().map(key).collect();
    let each: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(keys.len(), each.len(), "no object twice");
    each
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lists_as_a_tree_hands_out_every_object_once_and_in_order() {
    let keys = keys(5_000);
    let store = keys.clone();
    let answer = move |request: &str| {
        let text: &'static str = Box::leak(answer(&store, request).into_boxed_str());
        ("200 OK", String::new(), text)
    };
    let (url, _) = answering(date(SignedDuration::ZERO), answer).await;
    for from in [
        json!({ "prefix": "" }),
        json!({ "prefix": "2026" }),
        json!({ "prefix": "2026/" }),
    ] {
        let prefix = from["prefix"].as_str().unwrap();
        let expected: Vec<&String> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        let (_, found) = handed_out(world(url.clone()), &from).await;
        assert!(found.iter().eq(expected), "{prefix}: {}", found.len());
    }
    let limited = json!({ "prefix": "2026", "limit": 4 });
    let (_, found) = handed_out(world(url.clone()), &limited).await;
    assert!(found.iter().eq(keys.iter().take(4)), "{found:?}");
    let linked = {
        let url = url.clone();
        let linked = tokio::task::spawn_blocking(move || linked_by_presign(&url));
        linked.await.unwrap()
    };
    assert_eq!(linked, keys, "presign --recursive links each once");
    let world = world(url);
    let said = tokio::task::spawn_blocking(move || checked(&world))
        .await
        .unwrap();
    assert!(
        said.contains("does not list in the order of the keys' bytes"),
        "{said}"
    );
}

/// What a limited listing begins with cannot be known from such a store's first page.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_list_of_a_tree_begins_right_where_the_store_takes_no_place_to_begin_at() {
    let keys = keys(300);
    let store = keys.clone();
    let answer = move |request: &str| {
        if request.contains("start-after=") {
            let error = "<Error><Code>InvalidArgument</Code><Message>start-after</Message></Error>";
            return ("400 Bad Request", String::new(), error);
        }
        let text: &'static str = Box::leak(answer(&store, request).into_boxed_str());
        ("200 OK", String::new(), text)
    };
    let (url, _) = answering(date(SignedDuration::ZERO), answer).await;
    let limited = json!({ "prefix": "2026", "limit": 4 });
    let (_, found) = handed_out(world(url), &limited).await;
    assert!(found.iter().eq(keys.iter().take(4)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_hands_out_every_object_once_and_in_order() {
    let test = "seaweedfs_hands_out_every_object_once";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_string_lossy().into_owned();
    let Some(server) = parts.server_of_peers(test, "weed.py", &[&place]) else {
        return;
    };
    let client = s3_client_with(
        &server.url(),
        "eu-west-1",
        "AKIAIOSFODNN7EXAMPLE",
        "secret-of-tests",
    );
    client
        .create_bucket()
        .bucket("reports")
        .send()
        .await
        .unwrap();
    let keys = keys(2_100);
    let keys_at_once: Vec<&String> = keys.iter().collect();
    for some in keys_at_once.chunks(16) {
        let puts = some.iter().map(|key| {
            let put = client.put_object().bucket("reports").key(key.as_str());
            put.body(b"x".to_vec().into()).send()
        });
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
    }
    // Since 4.5 or so it lists in the order of bytes, which `handout check` then does not remark upon.
    let (_, found) = handed_out(world(server.url()), &json!({ "prefix": "" })).await;
    assert!(found.iter().eq(&keys), "{} of {}", found.len(), keys.len());
}
