//! ZIPs by links of the portal: one in a bucket, one that the portal makes as it is read, and what closes them.

use std::path::Path;

use handout::config::PortalDelivery;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::portal::{OpenPortal, Visitor, portal_job, portal_world};
use crate::support::servers::Parts;
use crate::support::world::{SeenMail, World};
use crate::support::zips::{Judged, only_file};
use crate::support::{answer, program};

/// A world that has mailed the files of one job to two recipients, with a ZIP of all.
async fn mailed(world: World, links: Value, zip: Value) -> (World, Vec<SeenMail>) {
    let mut job = portal_job("shoot", links);
    job["from"]["prefix"] = json!("2026/");
    job["email"]["to"] = json!(["Ann Bell <ann@acme.example>", "bob@acme.example"]);
    job["gallery"] = json!({ "title": "Harbour" });
    job["zip"] = zip;
    let mut world = world
        .object("2026/a.csv", "a,b\n")
        .object("2026/day 1/Süd.txt", &"0123456789".repeat(70_000))
        .object("2026/empty", "")
        .job(&job);
    world.run().await;
    let mails = world.mails();
    assert_eq!(mails.len(), 2, "{:?}", world.parked().await);
    (world, mails)
}

/// The link to the page of all files, and the one to the ZIP.
fn links(mail: &SeenMail) -> (String, String) {
    let page = mail.hrefs.iter().find(|url| url.contains("/j/")).unwrap();
    // The mail of a gallery links the page and the ZIP, and no file.
    let zip = mail.hrefs.iter().find(|url| url.contains("/d/")).unwrap();
    (page.clone(), zip.clone())
}

fn judge(parts: &Parts, dir: &Path, zip: &[u8]) -> Judged {
    let (file, unpacked) = (dir.join("got.zip"), dir.join("unpacked"));
    std::fs::write(&file, zip).unwrap();
    let judged = Judged::of(parts, &file, Some(&unpacked));
    assert_eq!(judged.names(), ["a.csv", "day 1/Süd.txt", "empty"]);
    assert_eq!(std::fs::read(unpacked.join("a.csv")).unwrap(), b"a,b\n");
    judged
}

fn said(world: &World, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(program());
    let output = command.args(arguments).arg("--config").arg(world.written());
    let output = output.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[tokio::test]
async fn a_zip_in_a_bucket_is_a_link_of_the_portal_on_the_page_and_in_the_mail() {
    let Some(parts) = Parts::or_skip("a_zip_in_a_bucket_is_a_link") else {
        return;
    };
    let zip = json!({ "publish": { "bucket": "published", "prefix": "zips/" } });
    let world = portal_world(|portal| {
        portal.revocation_check = handout::quantity::Span::seconds(0);
    });
    let world = world.configured(|config| {
        config.allow[0].max_expires_in = handout::quantity::Span::days(90);
    });
    let (world, mails) = mailed(world, json!({ "expires_in": "60d" }), zip).await;
    let portal = OpenPortal::serve(&world).await;
    let (page, link) = links(&mails[0]);
    assert_ne!(links(&mails[1]).1, link, "each has a link of their own");
    assert!(mails[0].html.contains("All 3 files, "), "{}", mails[0].html);
    let lines = world.audit_of("zip");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["access_key_id"], "portal");
    let stored = only_file(&world.bucket("published"), ".zip");

    let reader = Visitor::default();
    let shown = reader.open(&page).await;
    assert!(shown.body.contains("All 3 files, "), "{}", shown.body);
    let token = link.rsplit('/').next().unwrap();
    let href = format!("/d/{token}?t=");
    let (_, rest) = shown.body.split_once(&href).unwrap();
    let ticket = rest.split('"').next().unwrap();
    let opened = reader
        .open(&portal.url(&format!("/d/{token}?t={ticket}")))
        .await;
    assert_eq!(opened.status, 302, "{opened:?}");
    let location = opened.header("location");
    assert!(location.contains("/published/zips/"), "{location}");
    assert!(
        location.contains("response-content-disposition=attachment"),
        "{location}"
    );
    let (status, _, bytes) = answer(location).await;
    assert_eq!(status, 200);
    assert!(bytes == std::fs::read(&stored).unwrap());
    let judged = judge(&parts, world.dir.path(), &bytes);
    assert_eq!(lines[0]["directory_sha256"], judged.0["directory_sha256"]);
    let opens = world.audit_of("opened");
    assert_eq!(opens.len(), 1);
    assert_eq!(opens[0]["link_id"], lines[0]["link_id"]);
    assert_eq!(opens[0]["key"], lines[0]["key"]);

    // Its own page has the button.
    let own = Visitor::default();
    let shown = own.open(&link).await;
    assert!(shown.body.contains("Harbour.zip"), "{}", shown.body);
    let form = format!("ticket={}", shown.field("ticket"));
    assert_eq!(own.submit(&link, &form).await.status, 303);

    // The link alone, and a file of the ZIP.
    let explained = said(&world, &["explain", &link]);
    assert!(explained.contains("/Harbour.zip"), "{explained}");
    said(&world, &["revoke", "link", &link]);
    assert_eq!(reader.open(&link).await.status, 410);
    assert!(!reader.open(&page).await.body.contains("All 3 files, "));
    let other = links(&mails[1]).1;
    assert_eq!(reader.open(&other).await.status, 200);
    let object = "s3://reports/2026/a.csv";
    said(&world, &["revoke", "object", object]);
    assert_eq!(reader.open(&other).await.status, 410);
    said(&world, &["restore", "object", object]);
    assert_eq!(reader.open(&other).await.status, 200);
    portal.close().await;
}

#[tokio::test]
async fn a_zip_that_is_stored_nowhere_is_made_as_it_is_read_and_can_be_resumed() {
    let Some(parts) = Parts::or_skip("a_zip_that_is_stored_nowhere") else {
        return;
    };
    let world = portal_world(|portal| {
        portal.deliver = PortalDelivery::Stream;
        portal.revocation_check = handout::quantity::Span::seconds(0);
    });
    let (world, mails) = mailed(world, json!({ "open": "direct" }), json!({})).await;
    let stored = std::fs::read_dir(world.bucket("published")).map_or(0, Iterator::count);
    assert_eq!(stored, 0, "nothing is stored");
    let lines = world.audit_of("zip");
    assert_eq!(lines.len(), 2);
    let portal = OpenPortal::serve(&world).await;
    let (page, link) = links(&mails[0]);
    let shown = Visitor::default().open(&page).await;
    assert!(shown.body.contains("All 3 files, "), "{}", shown.body);
    let (status, headers, whole) = answer(&link).await;
    assert_eq!(status, 200, "{headers:?}");
    assert_eq!(headers["content-type"], "application/zip");
    assert_eq!(headers["content-length"], whole.len().to_string().as_str());
    let disposition = headers["content-disposition"].to_str().unwrap();
    assert!(
        disposition.starts_with("attachment") && disposition.contains("Harbour.zip"),
        "{disposition}"
    );
    assert_eq!(lines[0]["size"], whole.len() as u64);
    let judged = judge(&parts, world.dir.path(), &whole);
    assert_eq!(lines[0]["directory_sha256"], judged.0["directory_sha256"]);
    assert_eq!(world.audit_of("opened").len(), 1);

    // curl resumes it, also from within a header and within the directory.
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("half");
    for at in [1, 37, 400_000, whole.len() - 5] {
        std::fs::write(&half, &whole[..at]).unwrap();
        let mut curl = tokio::process::Command::new("curl");
        let resumed = curl.args(["-fsS", "-C", "-", "-o"]).arg(&half).arg(&link);
        assert!(resumed.status().await.unwrap().success(), "{at}");
        assert!(std::fs::read(&half).unwrap() == whole, "{at}");
    }
    let reader = Visitor::default();
    let head = reader.ask(Method::HEAD, &link, &[], "").await;
    assert_eq!(head.header("content-length"), whole.len().to_string());
    let etag = head.header("etag").to_owned();
    let end = format!("bytes={}-", whole.len());
    for (range, if_range, status) in [
        ("bytes=0-0", None, 206),
        ("bytes=5-", Some(&*etag), 206),
        ("bytes=5-", Some("\"other\""), 200),
        (&*end, None, 416),
    ] {
        let mut asked = vec![("range", range)];
        asked.extend(if_range.map(|etag| ("if-range", etag)));
        assert_eq!(reader.get(&link, &asked).await.status, status, "{range}");
    }

    // A file that was changed breaks the download off.
    let file = world.bucket("reports").join("2026/day 1/Süd.txt");
    std::fs::write(file, "9876543210".repeat(70_000)).unwrap();
    let mut curl = tokio::process::Command::new("curl");
    let broken = curl.args(["-sS", "-o"]).arg(&half).arg(&link);
    assert!(!broken.status().await.unwrap().success());
    said(&world, &["revoke", "job", "shoot"]);
    assert_eq!(reader.get(&link, &[]).await.status, 410);
    let verified = said(&world, &["audit", "verify"]);
    assert!(!verified.is_empty());
    portal.close().await;
}

#[tokio::test]
async fn a_zip_that_no_portal_can_make_is_rejected() {
    let mut job = portal_job("shoot", json!({}));
    job["zip"] = json!({});
    let mut world = portal_world(|_| {}).object("2026/a.csv", "a,b\n").job(&job);
    world.run().await;
    let parked = world.parked().await;
    assert!(
        parked[0].contains("zip.publish is missing, and only with portal.deliver = \"stream\""),
        "{parked:?}"
    );
}
