//! Stores that want requests and links in another form than S3: Requester Pays buckets, and servers that refuse parameters that
//! they do not know.
//!
//! The store is versitygw, which verifies each signature, behind a proxy that has the demand.

use std::fs;
use std::process::Command;

use bytes::Bytes;
use handout::config::ConnectionConfig;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use crate::support::faulty::{Faults, FaultyProxy, Judge};
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job};
use crate::support::{get, hrefs, program, published_text};

/// What a world's store runs on.
type Running = (Server, FaultyProxy);

/// A world whose store, the connection `store`, has a demand.
async fn demanding(parts: &Parts, test: &str, judge: Judge) -> Option<(World, Running)> {
    let mut world = World::new();
    let dir = world.dir.path().join("store");
    let arguments = [&*dir.to_string_lossy(), "eu-west-1"];
    let store = parts.other_or_skip(test, "versitygw.py", &arguments)?;
    for bucket in ["reports", "published"] {
        fs::create_dir_all(dir.join("objects").join(bucket)).unwrap();
    }
    fs::write(dir.join("objects/reports/q3 ü+report.pdf"), "the report").unwrap();
    let faults = Faults {
        judge: Some(judge),
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&store.url(), faults).await;
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "secret-of-tests").unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(proxy.url.clone()),
        region: Some("eu-west-1".to_owned()),
        access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_access_key_file: Some(secret),
        ..ConnectionConfig::default()
    };
    let connections = &mut world.config.connections;
    connections.insert("store".to_owned(), connection);
    world.config.allow[0].connection = "store".to_owned();
    Some((world, (store, proxy)))
}

fn connection(world: &mut World) -> &mut ConnectionConfig {
    world.config.connections.get_mut("store").unwrap()
}

/// What the program prints.
fn handout(world: &World, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config");
    let output = command.arg(world.written()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What `handout check` prints about a subject.
fn checked(world: &World, subject: &str) -> String {
    let told = handout(world, &["check"]);
    let line = told.lines().find(|line| line.contains(subject));
    line.unwrap_or(&told).to_owned()
}

/// A job with two mails, and a page and a list that are published.
fn whole_job(id: &str) -> Value {
    let mut job = email_job(id);
    job["from"]["connection"] = json!("store");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "pages/" } });
    job["manifest"] = json!({ "publish": { "bucket": "published", "prefix": "lists/" } });
    job["email"]["template"] = json!("digest");
    job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
    job
}

/// The links of all mails, and those of all published pages.
fn links(world: &World) -> Vec<String> {
    let mut links: Vec<String> = world
        .mails()
        .into_iter()
        .flat_map(|mail| mail.hrefs)
        .collect();
    let pages = world.dir.path().join("store/objects/published/pages");
    for folder in fs::read_dir(pages).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            links.extend(hrefs(&published_text(&file.unwrap().path())));
        }
    }
    links.retain(|link| link.starts_with("http"));
    links
}

/// A bucket whose owner does not pay: S3 answers so to every request that does not name the requester.
fn requester_pays(request: &Request<Bytes>) -> Option<(StatusCode, &'static str)> {
    let header = request.headers().get("x-amz-request-payer");
    let query = request.uri().query().unwrap_or_default();
    let is_paid = header.is_some_and(|payer| payer == "requester")
        || query
            .split('&')
            .any(|it| it == "x-amz-request-payer=requester");
    (!is_paid).then_some((StatusCode::FORBIDDEN, "AccessDenied"))
}

/// A server that takes the parameters of S3's documentation and no others.
fn known_parameters(request: &Request<Bytes>) -> Option<(StatusCode, &'static str)> {
    const KNOWN: [&str; 13] = [
        "list-type",
        "prefix",
        "max-keys",
        "start-after",
        "continuation-token",
        "encoding-type",
        "delimiter",
        "versions",
        "versionId",
        "uploads",
        "uploadId",
        "partNumber",
        "lifecycle",
    ];
    let query = request.uri().query().unwrap_or_default();
    let mut names = query
        .split('&')
        .map(|it| it.split('=').next().unwrap_or_default());
    let is_known = |name: &str| {
        let families = ["X-Amz-", "x-amz-", "response-"];
        name.is_empty() || KNOWN.contains(&name) || families.iter().any(|it| name.starts_with(it))
    };
    let stranger = names.find(|name| !is_known(name));
    stranger.map(|_| (StatusCode::BAD_REQUEST, "InvalidArgument"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_pays_bucket_is_handed_out_and_its_links_open() {
    let test = "a_requester_pays_bucket";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let Some((mut world, _running)) = demanding(&parts, test, requester_pays).await else {
        return;
    };
    let refused = checked(&world, "s3://reports");
    assert!(refused.contains("AccessDenied"), "{refused}");
    connection(&mut world).request_payer = Some(true);
    let taken = checked(&world, "s3://reports");
    assert!(taken.contains("can be listed and read by store"), "{taken}");
    let mut world = world.job(&whole_job("whole"));
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let links = links(&world);
    assert!(links.len() > 4, "{links:?}");
    for link in &links {
        assert_eq!(get(link).await.0, 200, "{link}");
        assert_eq!(
            link.matches("&x-amz-request-payer=requester&").count(),
            1,
            "{link}"
        );
        let unpaid = link.replace("&x-amz-request-payer=requester", "");
        assert_eq!(get(&unpaid).await.0, 403, "{link}");
    }
    let key = "s3://reports/q3 ü+report.pdf";
    let presigned = handout(&world, &["presign", "--connection", "store", key]);
    assert_eq!(get(presigned.trim()).await, (200, b"the report".to_vec()));
    let explained = handout(&world, &["explain", presigned.trim()]);
    assert!(
        explained.contains("the account of the key that signed it pays"),
        "{explained}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_unknown_parameters_gets_links_without_any() {
    let test = "a_server_that_refuses_unknown_parameters";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let Some((mut world, _running)) = demanding(&parts, test, known_parameters).await else {
        return;
    };
    let key = "s3://reports/q3 ü+report.pdf";
    let presign = ["presign", "--connection", "store", key];
    let refused = handout(&world, &presign);
    assert!(refused.contains("?x-id=GetObject&"), "{refused}");
    assert_eq!(get(refused.trim()).await.0, 400);
    assert!(!handout(&world, &["check"]).contains("links of store"));
    connection(&mut world).link_parameters = Some(false);
    let mut world = world.job(&whole_job("whole"));
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let links = links(&world);
    assert!(links.len() > 4, "{links:?}");
    for link in &links {
        assert_eq!(get(link).await.0, 200, "{link}");
        assert!(
            !link.contains("x-id=") && !link.contains("x-handout="),
            "{link}"
        );
        assert!(
            link.contains(".pdf?response-content-") || !link.contains(".pdf?"),
            "{link}"
        );
    }
    let presigned = handout(&world, &presign);
    assert_eq!(get(presigned.trim()).await, (200, b"the report".to_vec()));
    let named = handout(&world, &[&presign[..], &["--link-id", "shoot-7"]].concat());
    assert!(named.contains("link_parameters = false"), "{named}");

    // What is lost, and what is not: each link has its line.
    let told = checked(&world, "links of store");
    assert!(
        told.starts_with("warn") && told.contains("whose link was opened"),
        "{told}"
    );
    let of_file = |link: &&String| link.contains("report.pdf?");
    for link in links.iter().filter(of_file) {
        let found = handout(&world, &["audit", "find", "--url", link]);
        assert!(found.contains("q3 ü+report.pdf"), "{found}");
    }
}
