//! What is put into buckets that want something of a PUT: an encryption, a checksum.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use base64ct::{Base64, Encoding};
use handout::clock;
use handout::config::Encryption;
use handout::ledger::s3::S3Ledger;
use handout::store::s3::{Puts, S3Store};
use handout::store::{Body, Content, ObjectStore};
use jiff::SignedDuration;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::answers::{job_of_r, run, told, world_at};
use crate::conformance::{create_bucket, s3_client};
use crate::support::answering::{Answer, LISTING, Requests, answering, date, header};
use crate::support::program;
use crate::support::servers::{Parts, Server};
use crate::support::world::World;

const KMS_KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/reports";
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
const WANTS_CHECKSUM: &str = "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters</Message></Error>";

const CONTENT: Content = Content {
    media_type: "text/csv",
    cache_control: "private, no-store",
    encoding: None,
};

/// A store that answers its PUTs as `put` says, and lists one object.
async fn store(put: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (String, Requests) {
    answering(date(SignedDuration::ZERO), move |request| {
        match request.starts_with("PUT ") {
            true => put(request),
            false => ("200 OK", String::new(), LISTING),
        }
    })
    .await
}

fn taken() -> Answer {
    ("200 OK", "ETag: \"1\"\r\n".to_owned(), "")
}

fn puts(requests: &Requests) -> Vec<String> {
    let requests = requests.lock().unwrap();
    let puts = requests
        .iter()
        .filter(|request| request.starts_with("PUT "));
    puts.cloned().collect()
}

/// A job with a page and a list.
fn publishing() -> Value {
    let mut job = job_of_r("j");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    job["manifest"] = json!({ "publish": { "bucket": "published", "prefix": "m/" } });
    job
}

/// A world at a store, whose connection `r` encrypts so.
fn encrypting(url: &str, sse: Option<Encryption>, key: Option<&str>) -> World {
    world_at(url).configured(|config| {
        let connection = config.connections.get_mut("r").unwrap();
        connection.sse = sse;
        connection.sse_kms_key_id = key.map(str::to_owned);
    })
}

/// A store whose bucket policy denies what does not ask for this encryption.
async fn with_policy(sse: &'static str) -> (String, Requests) {
    store(
        move |request| match header(request, "x-amz-server-side-encryption") == Some(sse) {
            true => taken(),
            false => ("403 Forbidden", String::new(), DENIED),
        },
    )
    .await
}

#[tokio::test]
async fn pages_and_lists_are_refused_by_a_bucket_policy_that_wants_encryption_until_sse_is_set() {
    for (wanted, sse, key) in [
        ("AES256", Encryption::Aes256, None),
        ("aws:kms", Encryption::Kms, None),
        ("aws:kms", Encryption::Kms, Some(KMS_KEY)),
        ("aws:kms:dsse", Encryption::KmsDsse, Some("alias/reports")),
    ] {
        let (url, requests) = with_policy(wanted).await;
        let refused = told(&run(&encrypting(&url, None, None), &publishing(), &[]).await);
        let words = "AccessDenied: Access Denied; if the bucket's policy requires encryption, set connections.r.sse";
        assert!(refused.contains(words), "{refused}");
        let other = match sse {
            Encryption::Aes256 => Encryption::Kms,
            _ => Encryption::Aes256,
        };
        let refused = told(&run(&encrypting(&url, Some(other), None), &publishing(), &[]).await);
        assert!(refused.contains("connections.r.sse asks for "), "{refused}");

        requests.lock().unwrap().clear();
        let world = encrypting(&url, Some(sse), key);
        let output = run(&world, &publishing(), &[]).await;
        assert!(output.status.success(), "{}", told(&output));
        let puts = puts(&requests);
        assert!(puts.len() >= 2, "{puts:#?}");
        for put in &puts {
            let named = header(put, "x-amz-server-side-encryption-aws-kms-key-id");
            assert_eq!(named, key, "{put}");
        }
    }
}

/// What `handout check` says about the bucket that is published to.
async fn checked(world: &World) -> String {
    let mut command = Command::new(program());
    command
        .args(["check", "--config"])
        .arg(world.written())
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find(|line| line.contains("publish s3://published/") && !line.contains("local"));
    line.unwrap_or(&text).to_owned()
}

#[tokio::test]
async fn check_puts_with_the_same_encryption_and_names_sse_where_the_bucket_refuses() {
    let (url, requests) = store(
        |request| match header(request, "x-amz-server-side-encryption") {
            Some("aws:kms") => (
                "412 Precondition Failed",
                String::new(),
                "<Error><Code>PreconditionFailed</Code></Error>",
            ),
            _ => ("403 Forbidden", String::new(), DENIED),
        },
    )
    .await;
    let refused = checked(&encrypting(&url, None, None)).await;
    let hint = "if the bucket's policy requires encryption, set connections.r.sse";
    assert!(refused.contains(hint), "{refused}");
    requests.lock().unwrap().clear();
    let taken = checked(&encrypting(&url, Some(Encryption::Kms), Some(KMS_KEY))).await;
    assert!(taken.contains("takes what r publishes"), "{taken}");
    let puts = puts(&requests);
    let named = header(&puts[0], "x-amz-server-side-encryption-aws-kms-key-id");
    assert_eq!(named, Some(KMS_KEY), "{puts:#?}");
}

/// The body of a PUT has the MD5 that its header says.
fn has_its_md5(put: &str) -> bool {
    let body = put.split_once("\r\n\r\n").unwrap().1;
    let sum = Base64::encode_string(&Md5::digest(body.as_bytes()));
    header(put, "content-md5") == Some(sum.as_str())
}

#[tokio::test]
async fn a_bucket_with_object_lock_gets_content_md5_from_its_first_refusal_on() {
    let (url, requests) = store(|request| match header(request, "content-md5") {
        Some(_) => taken(),
        None => ("400 Bad Request", String::new(), WANTS_CHECKSUM),
    })
    .await;
    let output = run(&world_at(&url), &publishing(), &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    let puts = puts(&requests);
    let (with, without): (Vec<_>, Vec<_>) = puts
        .iter()
        .partition(|put| header(put, "content-md5").is_some());
    assert_eq!(without.len(), 1, "the first only: {puts:#?}");
    assert!(with.len() >= 2, "{puts:#?}");
    let lists = with
        .iter()
        .filter(|put| header(put, "content-encoding").is_none());
    assert!(lists.clone().count() > 0, "{puts:#?}");
    for list in lists {
        assert!(has_its_md5(list), "{list}");
    }
}

#[tokio::test]
async fn a_bucket_that_asks_for_a_checksum_whatever_it_is_sent_is_asked_twice_and_no_more() {
    let (url, requests) = store(|_| ("400 Bad Request", String::new(), WANTS_CHECKSUM)).await;
    let said = told(&run(&world_at(&url), &publishing(), &[]).await);
    assert!(said.contains("Content-MD5"), "{said}");
    assert_eq!(puts(&requests).len(), 2, "{said}");
}

/// A client as a connection to another server has it.
fn sparing(url: &str) -> Builder {
    s3_client(url)
        .config()
        .to_builder()
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

#[tokio::test]
async fn parts_in_a_bucket_with_object_lock_have_content_md5_and_no_trailer() {
    let begun =
        "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
    let ended =
        "<CompleteMultipartUploadResult><ETag>\"e-2\"</ETag></CompleteMultipartUploadResult>";
    let (url, requests) = answering(date(SignedDuration::ZERO), move |request| {
        match request.split(' ').next().unwrap() {
            "PUT" if header(request, "content-md5").is_some() => taken(),
            "PUT" => ("400 Bad Request", String::new(), WANTS_CHECKSUM),
            "POST" if request.contains("?uploads") => ("200 OK", String::new(), begun),
            _ => ("200 OK", String::new(), ended),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.csv");
    std::fs::write(&path, vec![b'x'; 5 * 1024 * 1024 + 9]).unwrap();
    let client = aws_sdk_s3::Client::from_conf(sparing(&url).build());
    let encrypted = Puts::new(
        "connections.r",
        Some(Encryption::Kms),
        Some(KMS_KEY.to_owned()),
    );
    let store = S3Store::new(client)
        .with_largest_put(6)
        .with_puts(encrypted);
    let (bucket, key) = ("locked".parse().unwrap(), "list.csv".parse().unwrap());
    store
        .put(&bucket, &key, Body::File(path), CONTENT)
        .await
        .unwrap();
    let parts = puts(&requests);
    assert_eq!(parts.len(), 3, "the first part twice");
    for part in &parts[1..] {
        assert!(has_its_md5(part));
    }
    for part in &parts {
        assert_eq!(header(part, "x-amz-trailer"), None);
        assert_eq!(header(part, "content-encoding"), None);
    }
    let requests = requests.lock().unwrap();
    let begin = requests.iter().find(|request| request.contains("?uploads"));
    let begin = begin.unwrap();
    assert_eq!(
        header(begin, "x-amz-server-side-encryption"),
        Some("aws:kms")
    );
    assert_eq!(header(begin, "x-amz-checksum-algorithm"), None);
}

/// A file of twelve million bytes, which a store with these limits takes in three parts.
fn large_file(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("large.zip");
    let bytes: Vec<u8> = (0..12_000_000_u32)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect();
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

/// Puts a file at once and in parts, with and without checksums, and reads both back.
async fn whole_and_in_parts_come_back(of_server: Builder, sse: Option<Encryption>) {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = large_file(dir.path());
    let bucket = "published".parse().unwrap();
    for calculation in [
        RequestChecksumCalculation::WhenRequired,
        RequestChecksumCalculation::WhenSupported,
    ] {
        let config = of_server.clone().request_checksum_calculation(calculation);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        for (name, largest) in [("whole.zip", u64::MAX), ("parts.zip", 6_000_000)] {
            let store = S3Store::new(client.clone())
                .with_largest_put(largest)
                .with_puts(Puts::new("connections.r", sse, None));
            let case = format!("{name} {calculation:?}");
            let key = name.parse().unwrap();
            let put = store.put(&bucket, &key, Body::File(path.clone()), CONTENT);
            put.await.unwrap_or_else(|error| {
                panic!("{case}: {}", handout::text::chain(&error));
            });
            let object = client.get_object().bucket("published").key(name);
            let object = object.send().await.unwrap();
            assert_eq!(object.content_encoding(), None, "{case}");
            assert_eq!(object.content_type(), Some("text/csv"), "{case}");
            let encrypted = object.server_side_encryption().map(|sse| sse.as_str());
            assert_eq!(encrypted, sse.map(|_| "AES256"), "{case}");
            let read = object.body.collect().await.unwrap().into_bytes();
            assert!(read == bytes, "{case}");
        }
    }
}

/// A client for a server that looks at signatures.
fn verified(server: &Server) -> Builder {
    let credentials = aws_sdk_s3::config::Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "secret-of-tests",
        None,
        None,
        "test",
    );
    sparing(&server.url())
        .region(aws_sdk_s3::config::Region::new("eu-west-1"))
        .credentials_provider(credentials)
}

#[tokio::test]
async fn a_large_file_comes_back_from_versitygw_as_it_was_with_no_encoding_of_its_own() {
    let test = "a_large_file_comes_back_from_versitygw";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&*dir.path().to_string_lossy(), "eu-west-1"];
    let Some(server) = parts.other_or_skip(test, "versitygw.py", &arguments) else {
        return;
    };
    std::fs::create_dir_all(dir.path().join("objects/published")).unwrap();
    whole_and_in_parts_come_back(verified(&server), None).await;
}

#[tokio::test]
async fn a_large_file_comes_back_from_minio_as_it_was_and_encrypted_where_sse_is_set() {
    let test = "a_large_file_comes_back_from_minio";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let arguments = [&*dir.path().to_string_lossy(), "eu-west-1"];
    // It takes ten minutes to build: `make peers` prepares it, and CI goes without.
    let Some(server) = parts.server_of_peers(test, "minio.py", &arguments) else {
        return;
    };
    let client = aws_sdk_s3::Client::from_conf(verified(&server).build());
    create_bucket(&client, "published").await;
    whole_and_in_parts_come_back(verified(&server), None).await;
    whole_and_in_parts_come_back(verified(&server), Some(Encryption::Aes256)).await;
}

#[tokio::test]
async fn the_ledger_and_large_files_are_encrypted_as_their_connection_says() {
    let Some(parts) = Parts::or_skip("the_ledger_and_large_files_are_encrypted") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    for bucket in ["ledger", "published"] {
        create_bucket(&client, bucket).await;
    }
    whole_and_in_parts_come_back(sparing(&moto.url()), Some(Encryption::Aes256)).await;

    let kms = Puts::new(
        "connections.r",
        Some(Encryption::Kms),
        Some(KMS_KEY.to_owned()),
    );
    let bucket = "ledger".parse().unwrap();
    let ledger = S3Ledger::new(&client, bucket, "l/".to_owned(), clock::system).with_puts(kms);
    ledger.probe("fingerprint").await.unwrap();
    let head = client.head_object().bucket("ledger").key("l/ledger");
    let head = head.send().await.unwrap();
    assert_eq!(head.server_side_encryption().unwrap().as_str(), "aws:kms");
    assert_eq!(head.ssekms_key_id(), Some(KMS_KEY));
}

#[tokio::test]
async fn the_ledger_works_in_a_bucket_with_object_lock() {
    let Some(parts) = Parts::or_skip("the_ledger_works_in_a_bucket_with_object_lock") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    let locked = client.create_bucket().bucket("ledger");
    locked
        .object_lock_enabled_for_bucket(true)
        .send()
        .await
        .unwrap();
    let retention = aws_sdk_s3::types::DefaultRetention::builder()
        .mode(aws_sdk_s3::types::ObjectLockRetentionMode::Governance)
        .days(1);
    let rule = aws_sdk_s3::types::ObjectLockRule::builder().default_retention(retention.build());
    let configuration = aws_sdk_s3::types::ObjectLockConfiguration::builder()
        .object_lock_enabled(aws_sdk_s3::types::ObjectLockEnabled::Enabled)
        .rule(rule.build());
    let locking = client
        .put_object_lock_configuration()
        .bucket("ledger")
        .object_lock_configuration(configuration.build());
    locking.send().await.unwrap();
    let plain = aws_sdk_s3::Client::from_conf(sparing(&moto.url()).build());
    let refused = plain.put_object().bucket("ledger").key("x").send().await;
    assert!(refused.is_err(), "moto asks for a checksum there");
    let bucket = "ledger".parse().unwrap();
    let ledger = S3Ledger::new(&plain, bucket, String::new(), clock::system);
    ledger.probe("fingerprint").await.unwrap();
}
