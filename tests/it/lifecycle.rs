//! Files that the bucket's lifecycle deletes: the mail says the end that is true.

use std::fs;
use std::process::Command;

use handout::config::ConnectionConfig;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::answering::{answering, date};
use crate::support::program;
use crate::support::world::{World, email_job};

/// A world whose rule is about a bucket of a server.
fn remote(url: String) -> World {
    let world = World::new().configured(|config| {
        let connection = ConnectionConfig {
            endpoint_url: Some(url),
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key_file: Some(config.state_dir.with_file_name("secret")),
            ..ConnectionConfig::default()
        };
        config.connections.insert("remote".to_owned(), connection);
        config.allow[0].connection = "remote".to_owned();
    });
    let secret = world.dir.path().join("secret");
    fs::write(secret, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY").unwrap();
    world
}

/// What a preview of links for seven days says of a job for `a.pdf` and `b.pdf`, where HEAD has `x-amz-expiration` with these
/// hours from now on, and what its mail says.
async fn previewed(a_hours: i64, b_hours: i64) -> (Value, String) {
    let hours = move |request: &str| match request.contains("/a.pdf") {
        true => a_hours,
        false => b_hours,
    };
    let (url, _) = answering(date(SignedDuration::ZERO), move |request| {
        let end = date(SignedDuration::from_hours(hours(request)));
        let expiration =
            format!("x-amz-expiration: expiry-date=\"{end}\", rule-id=\"tidy%2C%22up%22\"\r\n");
        ("200 OK", expiration, "")
    })
    .await;
    let world = remote(url);
    let mut job = email_job("tidy");
    job["from"] =
        json!({ "connection": "remote", "bucket": "reports", "keys": ["a.pdf", "b.pdf"] });
    job["links"] = json!({ "expires_in": "6d" });
    let (file, out) = (
        world.dir.path().join("job.json"),
        world.dir.path().join("out"),
    );
    fs::write(&file, job.to_string()).unwrap();
    let config = world.written();
    let preview = move || {
        let mut handout = Command::new(program());
        handout.args(["job", "preview", "--json"]).arg(&file);
        handout.arg("--config").arg(config).arg("--out").arg(&out);
        (handout.output().unwrap(), out)
    };
    let (output, out) = tokio::task::spawn_blocking(preview).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let mail = fs::read_to_string(out.join("mail-0001-ann_acme.example.txt")).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), mail)
}

#[tokio::test]
async fn the_mail_says_when_the_first_file_is_deleted_and_that_this_is_sooner_than_asked() {
    let (told, mail) = previewed(96, 48).await;
    let end: jiff::Timestamp = told["expires_at"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(handout::clock::system());
    assert!((47..=48).contains(&left.as_hours()), "{told}");
    assert!(
        told["because"].as_str().unwrap().contains("lifecycle"),
        "{told}"
    );
    assert!(
        mail.contains("the first of the files are deleted then"),
        "{mail}"
    );
    assert_eq!(told["links"], 2);
}

#[tokio::test]
async fn a_lifecycle_that_is_longer_than_the_links_changes_nothing() {
    let (told, mail) = previewed(24 * 30, 24 * 7).await;
    assert_eq!(told["because"], "as asked");
    assert!(!mail.contains("sooner"), "{mail}");
}

#[tokio::test]
async fn a_file_that_is_about_to_be_deleted_is_not_linked_and_named() {
    let (told, mail) = previewed(0, 48).await;
    assert_eq!(
        (&told["links"], &told["unavailable"]),
        (&json!(1), &json!(1))
    );
    assert!(mail.contains("It is about to be deleted."), "{mail}");
}

#[tokio::test]
async fn check_warns_of_a_lifecycle_that_deletes_files_before_their_links_end() {
    let rules = "<LifecycleConfiguration>\
        <Rule><ID>short</ID><Filter><Prefix>2026/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>2</Days></Expiration></Rule>\
        <Rule><ID>some</ID><Filter><And><Prefix></Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
        <Rule><ID>old</ID><Prefix></Prefix><Status>Enabled</Status><Expiration><Days>4</Days></Expiration></Rule>\
        <Rule><ID>off</ID><Filter></Filter><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>\
        <Rule><ID>long</ID><Filter></Filter><Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule>\
        <Rule><ID>versions</ID><Filter></Filter><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>\
        </LifecycleConfiguration>";
    let (url, _) = answering(date(SignedDuration::ZERO), move |request| {
        let body = if request.contains("?lifecycle") {
            rules
        } else {
            ""
        };
        ("200 OK", String::new(), body)
    })
    .await;
    let world = remote(url);
    let config = world.written();
    let check = move || {
        let mut handout = Command::new(program());
        handout.arg("check").arg("--config").arg(config).output()
    };
    let output = tokio::task::spawn_blocking(check).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let warned = |id: &str| told.contains(&format!("the lifecycle rule {id:?} deletes"));
    let warned = ["short", "some", "old", "off", "long", "versions"].map(warned);
    assert_eq!(warned, [true, true, true, false, false, false], "{told}");
    assert!(
        told.contains("\"some\" deletes some of the objects"),
        "{told}"
    );
}
