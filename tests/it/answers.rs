//! An answer is not silence: what a store answers is told with its status, its code and its words, and is no outage where it
//! is none.

use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handout::config::ConnectionConfig;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::answering::{Answer, LISTING, Requests, answering, date, header};
use crate::support::program;
use crate::support::world::{World, email_job};

/// Keys for a server that looks at none.
const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "id"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

/// A world whose connection `r` says that `url` is in eu-west-1.
pub(crate) fn world_at(url: &str) -> World {
    World::new().configured(|config| {
        let connection = ConnectionConfig {
            region: Some("eu-west-1".to_owned()),
            endpoint_url: Some(url.to_owned()),
            ..ConnectionConfig::default()
        };
        config.connections.insert("r".to_owned(), connection);
        let mut rule = config.allow[0].clone();
        rule.connection = "r".to_owned();
        config.allow.push(rule);
    })
}

/// A mail job for what is in the bucket `reports` of the connection `r`.
pub(crate) fn job_of_r(id: &str) -> Value {
    let mut job = email_job(id);
    job["from"]["connection"] = json!("r");
    job
}

/// Runs one job with variables of its own.
pub(crate) async fn run(world: &World, job: &Value, variables: &[(&str, &str)]) -> Output {
    let config = world.written();
    let file = world.dir.path().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let mut command = Command::new(program());
    command
        .args(["job", "run", &file.to_string_lossy(), "--config"])
        .arg(config)
        .envs(KEYS)
        .envs(variables.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // The server is a task of this runtime.
    let ran = tokio::task::spawn_blocking(move || command.output());
    ran.await.unwrap().unwrap()
}

/// What `job run` says when every request is answered so: its exit code and its last line.
async fn said(answer: Answer) -> String {
    let (url, _) = answering(date(SignedDuration::ZERO), move |_| answer.clone()).await;
    told(&run(&world_at(&url), &job_of_r("j"), &[]).await)
}

/// An exit code and the last line on the terminal.
pub(crate) fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.trim_end().lines().last().unwrap_or_default();
    format!("{}: {line}", output.status.code().unwrap())
}

#[tokio::test]
async fn what_a_store_answers_is_said_with_status_code_and_words() {
    let error = |status, body| (status, String::new(), body);
    let table = [
        said(error("501 Not Implemented", "<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented.</Message></Error>")).await,
        said(error("500 Internal Server Error", "<Error><Code>InternalError</Code><Message>no space left on device</Message></Error>")).await,
        said(error("507 Insufficient Storage", "<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive threshold.</Message></Error>")).await,
        said(error("500 Internal Server Error", "volume is full")).await,
        said(error("502 Bad Gateway", "<html><head><title>502 Bad Gateway</title></head></html>")).await,
        said(error("400 Bad Request", "<Error><Code>InvalidRequest</Code><Message>Invalid payload signature</Message></Error>")).await,
        said(error("505 HTTP Version Not Supported", "<Error><Code>HttpVersion</Code></Error>")).await,
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    1: handout: could not list s3://reports/: the service refused the request (status 501): NotImplemented: A header you provided implies functionality that is not implemented.
    69: handout: could not list s3://reports/: the service answered with an error (status 500): InternalError: no space left on device
    69: handout: could not list s3://reports/: the service answered with an error (status 507): XMinioStorageFull: Storage backend has reached its minimum free drive threshold.
    69: handout: could not list s3://reports/: the service answered with an error: the answer had the status 500: volume is full
    69: handout: could not list s3://reports/: the service answered with an error: the answer had the status 502: 502 Bad Gateway
    1: handout: could not list s3://reports/: the service refused the request (status 400): InvalidRequest: Invalid payload signature
    1: handout: could not list s3://reports/: the service refused the request (status 505): HttpVersion
    ");
}

/// An object's owner writes its metadata, and each entry is a header.
#[tokio::test]
async fn an_object_with_more_metadata_than_is_read_is_refused_and_no_outage() {
    let many: String = (0..150)
        .map(|number| format!("x-amz-meta-k{number}: v\r\n"))
        .collect();
    let (url, requests) = answering(date(SignedDuration::ZERO), move |_| {
        ("200 OK", many.clone(), "")
    })
    .await;
    let mut job = job_of_r("keys");
    job["from"] = json!({ "connection": "r", "bucket": "reports", "keys": ["a.pdf"] });
    let line = told(&run(&world_at(&url), &job, &[]).await);
    insta::assert_snapshot!(line, @"1: handout: could not get the metadata of s3://reports/a.pdf: the service refused the request: the head of the answer is too long: an object may have too many entries of metadata");
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_bucket_in_another_region_names_both_regions_and_ends_with_78() {
    let told = "x-amz-bucket-region: eu-central-1\r\n";
    let table = [
        said(("301 Moved Permanently", told.to_owned(), "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be addressed using the specified endpoint.</Message></Error>")).await,
        said(("301 Moved Permanently", told.to_owned(), "")).await,
        said(("307 Temporary Redirect", told.to_owned(), "<Error><Code>TemporaryRedirect</Code><Message>Please re-send this request to the specified temporary endpoint.</Message></Error>")).await,
        said(("400 Bad Request", String::new(), "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>")).await,
        said(("400 Bad Request", String::new(), "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'eu-west-1' is wrong; expecting 'garage'</Message></Error>")).await,
        said(("400 Bad Request", told.to_owned(), "<Error><Code>IllegalLocationConstraintException</Code><Message>no</Message></Error>")).await,
        said(("301 Moved Permanently", String::new(), "<Error><Code>PermanentRedirect</Code><Message>Use s3.eu-central-1.store.example.</Message></Error>")).await,
        // The same region, or no word of one: nothing is known to be elsewhere.
        said(("400 Bad Request", String::new(), "<Error><Code>AuthorizationHeaderMalformed</Code><Message>a non-empty Access Key must be provided</Message><Region>eu-west-1</Region></Error>")).await,
        said(("403 Forbidden", told.to_owned(), "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")).await,
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    78: handout: could not list s3://reports/: the bucket is in eu-central-1, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: PermanentRedirect: The bucket you are attempting to access must be addressed using the specified endpoint.
    78: handout: could not list s3://reports/: the bucket is in eu-central-1, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: the answer had the status 301
    78: handout: could not list s3://reports/: the bucket is in eu-central-1, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: TemporaryRedirect: Please re-send this request to the specified temporary endpoint.
    78: handout: could not list s3://reports/: the bucket is in eu-central-1, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: AuthorizationHeaderMalformed: The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'eu-central-1'
    78: handout: could not list s3://reports/: the bucket is in garage, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: AuthorizationHeaderMalformed: The region 'eu-west-1' is wrong; expecting 'garage'
    78: handout: could not list s3://reports/: the bucket is in eu-central-1, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: IllegalLocationConstraintException: no
    78: handout: could not list s3://reports/: the bucket is at another address, connection r says eu-west-1: correct connections.r.region, and connections.r.endpoint_url if that names a region: PermanentRedirect: Use s3.eu-central-1.store.example.
    69: handout: could not list s3://reports/: the credentials do not allow it: AuthorizationHeaderMalformed: a non-empty Access Key must be provided
    69: handout: could not list s3://reports/: the credentials do not allow it: AccessDenied: no
    ");
    // An answer to HEAD is its headers alone.
    let mut job = job_of_r("keys");
    job["from"] = json!({ "connection": "r", "bucket": "reports", "keys": ["a.pdf"] });
    for status in ["301 Moved Permanently", "400 Bad Request"] {
        let (url, _) = answering(date(SignedDuration::ZERO), move |_| {
            (status, told.to_owned(), "")
        })
        .await;
        let line = self::told(&run(&world_at(&url), &job, &[]).await);
        assert!(
            line.starts_with("78: ")
                && line.contains("the bucket is in eu-central-1, connection r says eu-west-1"),
            "{line}"
        );
    }
}

/// Answers every request so, and remembers when it was asked.
async fn timed(answer: Answer) -> (String, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let (url, _) = answering(date(SignedDuration::ZERO), move |_| {
        seen.lock().unwrap().push(Instant::now());
        answer.clone()
    })
    .await;
    (url, times)
}

const SLOW_DOWN: &str =
    "<Error><Code>ServiceUnavailable</Code><Message>Come back.</Message></Error>";

#[tokio::test]
async fn a_store_that_says_when_to_come_back_is_not_asked_before() {
    let busy = |after: &str| {
        (
            "503 Service Unavailable",
            format!("Retry-After: {after}\r\n"),
            SLOW_DOWN,
        )
    };
    let (url, times) = timed(busy("2")).await;
    let told = told(&run(&world_at(&url), &job_of_r("j"), &[]).await);
    let times = times.lock().unwrap().clone();
    assert!(times.len() > 1, "it is asked again: {told}");
    for pair in times.windows(2) {
        let waited = pair[1] - pair[0];
        assert!(waited >= Duration::from_secs(2), "{waited:?}");
    }
    // What is longer than a moment is waited for by the job, and not by its request.
    for (after, seconds) in [
        ("40", 40..=40),
        // Less what has passed until it is said.
        (&date(SignedDuration::from_secs(40)), 20..=40),
        ("31536000", 900..=900),
    ] {
        let (url, times) = timed(busy(after)).await;
        let told = self::told(&run(&world_at(&url), &job_of_r("j"), &[]).await);
        assert_eq!(times.lock().unwrap().len(), 1, "{told}");
        let words = "the service asks to slow down, and to come back in ";
        assert!(told.starts_with("69: ") && told.contains(words), "{told}");
        let (_, left) = told.split_once(words).unwrap();
        let (left, _) = left.split_once(" s").unwrap();
        let left: u32 = left.parse().unwrap();
        assert!(seconds.contains(&left), "{told}");
    }
}

/// What is put into the bucket `published` when a job publishes its list there.
async fn published(variables: &[(&str, &str)]) -> Vec<String> {
    let answer = |request: &str| match request.starts_with("PUT ") {
        true => ("200 OK", "ETag: \"1\"\r\n".to_owned(), ""),
        false => ("200 OK", String::new(), LISTING),
    };
    let (url, requests): (_, Requests) = answering(date(SignedDuration::ZERO), answer).await;
    let mut job = job_of_r("j");
    job["manifest"] = json!({ "publish": { "bucket": "published", "prefix": "m/" } });
    let output = run(&world_at(&url), &job, variables).await;
    assert!(output.status.success(), "{}", told(&output));
    let requests = requests.lock().unwrap().clone();
    requests
        .into_iter()
        .filter(|request| request.starts_with("PUT "))
        .collect()
}

#[tokio::test]
async fn a_list_is_put_to_another_server_without_a_trailer_that_it_would_keep() {
    let puts = published(&[]).await;
    assert!(!puts.is_empty());
    for put in &puts {
        assert_eq!(header(put, "content-encoding"), None, "{put}");
        assert_eq!(header(put, "x-amz-trailer"), None, "{put}");
        assert_eq!(header(put, "transfer-encoding"), None, "{put}");
        assert!(
            !header(put, "x-amz-content-sha256")
                .unwrap()
                .starts_with("STREAMING"),
            "{put}"
        );
    }
    // The environment may ask for more; that is a header, too.
    let puts = published(&[("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")]).await;
    for put in &puts {
        assert!(header(put, "x-amz-checksum-crc32").is_some(), "{put}");
        assert_eq!(header(put, "x-amz-trailer"), None, "{put}");
        assert_eq!(header(put, "content-encoding"), None, "{put}");
    }
}
