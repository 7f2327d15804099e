//! Links that name another server than the program asks: stores behind a proxy, a public URL with a path.
//!
//! The proxy is nginx. The store behind it is versitygw or the embedded endpoint, which both verify each signature.

use std::path::Path;
use std::process::{Command, Output};

use handout::config::ConnectionConfig;
use serde_json::{Value, json};

use crate::conformance::{create_bucket, s3_client};
use crate::daemon::{Daemon, daemon_log};
use crate::liveness::add_connection;
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job};
use crate::support::{get, hrefs, program, published_text, until};

/// A store that verifies signatures, with an object, and the world whose connection `store` asks it.
pub(crate) struct Stored {
    pub(crate) world: World,
    pub(crate) store: Server,
}

impl Stored {
    pub(crate) fn new(parts: &Parts, test: &str) -> Option<Self> {
        let mut world = World::new();
        let dir = world.dir.path().join("store");
        let store = parts.other_or_skip(test, "versitygw.py", &[&text(&dir), "eu-west-1"])?;
        for bucket in ["reports", "published"] {
            std::fs::create_dir_all(dir.join("objects").join(bucket)).unwrap();
        }
        std::fs::write(dir.join("objects/reports/q3 report.pdf"), "the report").unwrap();
        let secret = world.dir.path().join("secret");
        std::fs::write(&secret, "secret-of-tests").unwrap();
        let connection = ConnectionConfig {
            endpoint_url: Some(store.url()),
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key_file: Some(secret),
            ..ConnectionConfig::default()
        };
        world
            .config
            .connections
            .insert("store".to_owned(), connection);
        world.config.allow[0].connection = "store".to_owned();
        Some(Self { world, store })
    }

    fn connection(&mut self) -> &mut ConnectionConfig {
        self.world.config.connections.get_mut("store").unwrap()
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// nginx in front of a port.
fn proxy(parts: &Parts, test: &str, world: &World, port: u16, more: &[&str]) -> Option<Server> {
    let dir = world
        .dir
        .path()
        .join(format!("nginx-{}", more.join("").replace(['-', '/'], "")));
    let (dir, port) = (text(&dir), port.to_string());
    parts.other_or_skip(test, "nginx.py", &[&[dir.as_str(), &port], more].concat())
}

fn handout(world: &World, arguments: &[&str]) -> Output {
    let config = world.written();
    let mut command = Command::new(program());
    command.current_dir(world.dir.path()).env_clear();
    command.args(arguments).arg("--config").arg(config);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The line of `handout check` about links into `reports`, and the exit code.
fn checked(world: &World) -> (String, Option<i32>) {
    let output = handout(world, &["check", "--json"]);
    // As text, a sentence that was said of another bucket is not repeated.
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let finding = findings
        .iter()
        .find(|finding| finding["what"] == "links s3://reports")
        .unwrap_or_else(|| panic!("{told}"));
    let verdict = match (&finding["ok"], &finding["warning"]) {
        (Value::Bool(false), _) => "FAIL",
        (_, Value::Bool(true)) => "warn",
        _ => "ok",
    };
    let words = finding["result"].as_str().unwrap();
    (format!("{verdict} {words}"), output.status.code())
}

/// A job with a mail, a page and a list.
fn whole_job(connection: &str) -> Value {
    let mut job = email_job("whole");
    job["from"]["connection"] = json!(connection);
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "pages/" } });
    job["manifest"] = json!({ "publish": { "bucket": "published", "prefix": "lists/" } });
    job["email"]["template"] = json!("digest");
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_a_store_in_a_cluster_open_at_the_name_that_recipients_know() {
    let test = "links_of_a_store_in_a_cluster";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let Some(mut stored) = Stored::new(&parts, test) else {
        return;
    };
    let Some(nginx) = proxy(&parts, test, &stored.world, stored.store.port, &[]) else {
        return;
    };
    stored.connection().public_endpoint_url = Some(nginx.url());
    let mut world = stored.world.job(&whole_job("store"));
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let mails = world.mails();
    let links = &mails[0].hrefs;
    assert!(links.len() > 1, "{links:?}");
    for link in links {
        assert!(link.starts_with(&nginx.url()), "{link}");
        assert_eq!(get(link).await.0, 200, "{link}");
    }
    // The page and the list, which were published to the store itself.
    let published = |folder: &str| {
        let dir = world
            .dir
            .path()
            .join("store/objects/published")
            .join(folder);
        walk(&dir)
            .iter()
            .map(|path| published_text(path))
            .collect::<String>()
    };
    let (page, list) = (published("pages"), published("lists"));
    let inside = hrefs(&page);
    assert!(!inside.is_empty());
    for link in &inside {
        assert!(link.starts_with(&nginx.url()), "{link}");
    }
    assert_eq!(get(&inside[0]).await, (200, b"the report".to_vec()));
    let store = stored.store.url();
    assert!(list.contains(&nginx.url()), "{list}");
    for (text, name) in [(&page, "page"), (&list, "list"), (&mails[0].html, "mail")] {
        assert!(
            !text.contains(&store),
            "the {name} names the store's own address"
        );
    }
    // Changed in one character, a link is refused behind the proxy as well.
    let tampered = inside[0].replace("q3%20report", "q4%20report");
    assert_eq!(get(&tampered).await.0, 403);

    let found = said(&handout(&world, &["audit", "find", "--url", &inside[0]]));
    assert!(found.contains("\"key\":\"q3 report.pdf\""), "{found}");
    let explained = said(&handout(&world, &["explain", &inside[0]]));
    assert!(
        explained.contains("s3://reports/q3 report.pdf"),
        "{explained}"
    );
    assert!(
        explained.contains("a server of the configuration, connection store"),
        "{explained}"
    );
    let presigned = handout(
        &world,
        &[
            "presign",
            "--connection",
            "store",
            "s3://reports/q3 report.pdf",
        ],
    );
    let link = said(&presigned);
    assert!(link.starts_with(&nginx.url()), "{presigned:?}");
    assert_eq!(get(link.trim()).await.0, 200);
}

/// All files below a directory.
fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_a_proxy_that_changes_host_from_one_that_is_not_there_and_from_a_wrong_region()
{
    let test = "check_tells_a_proxy_that_changes_host";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let Some(mut stored) = Stored::new(&parts, test) else {
        return;
    };
    let port = stored.store.port;
    let start = |more: &[&str], stored: &Stored| proxy(&parts, test, &stored.world, port, more);
    let Some(keeps) = start(&[], &stored) else {
        return;
    };
    let changes = start(&["--host", "change"], &stored).unwrap();
    let below = start(&["--below", "/s3", "--path", "strip"], &stored).unwrap();
    let mut check = |url: String, region: &str| {
        let connection = stored.connection();
        connection.public_endpoint_url = Some(url);
        connection.region = Some(region.to_owned());
        checked(&stored.world)
    };
    let (line, code) = check(keeps.url(), "eu-west-1");
    assert!(
        line.starts_with("ok") && line.contains(&format!("open at {}", keeps.url())),
        "{line}"
    );
    assert_eq!(code, Some(0), "{line}");
    let dead = "http://127.0.0.1:9".to_owned();
    let rows = [
        (
            changes.url(),
            "eu-west-1",
            "the proxy changes Host or the path",
        ),
        (
            format!("{}/s3", below.url()),
            "eu-west-1",
            "the proxy changes Host or the path",
        ),
        (
            below.url(),
            "eu-west-1",
            "a server that is not a store answers (status 404",
        ),
        (dead, "eu-west-1", "which cannot be reached from here"),
        (
            keeps.url(),
            "us-east-1",
            "are signed for us-east-1: set the connection's region",
        ),
    ];
    for (url, region, words) in rows {
        let (line, code) = check(url.clone(), region);
        assert!(
            line.starts_with("FAIL") && line.contains(words),
            "{url}: {line}"
        );
        assert_eq!(code, Some(1), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_presign_names_the_public_endpoint_that_is_given() {
    let home = tempfile::tempdir().unwrap();
    let presign = |more: &[&str]| {
        let mut command = Command::new(program());
        command
            .current_dir(home.path())
            .env_clear()
            .env("HOME", home.path());
        command
            .env("AWS_ACCESS_KEY_ID", "AKIA")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        command
            .args(["presign", "--no-audit", "--region", "eu-west-1"])
            .args(more);
        let output = command.arg("s3://reports/q3/a b.pdf").output().unwrap();
        let place = said(&output).split('?').next().unwrap().trim().to_owned();
        (place, output.status.code())
    };
    let inside = ["--endpoint-url", "http://minio:9000"];
    let table = [
        presign(&["--public-endpoint-url", "https://files.acme.example"]),
        presign(
            &[
                &inside[..],
                &[
                    "--public-endpoint-url",
                    "https://Files.acme.example:8443/S3/",
                ],
            ]
            .concat(),
        ),
        presign(&["--public-endpoint-url", "https://files.acme.example/a/../b"]),
        presign(&["--endpoint-url", "http://127.0.0.1:9701/storage/v1/s3"]),
    ];
    let table = table.map(|(place, code)| format!("{} {place}", code.unwrap()));
    insta::assert_snapshot!(table.join("\n"), @r"
    0 https://files.acme.example/reports/q3/a%20b.pdf
    0 https://files.acme.example:8443/S3/reports/q3/a%20b.pdf
    64 
    0 http://127.0.0.1:9701/storage/v1/s3/reports/q3/a%20b.pdf
    ");
}

/// Each job with such links is parked: a mail or a page takes none.
#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_links_in_the_clear_are_taken_by_no_mail() {
    let rows = [
        ("http://127.0.0.1:9", None, false),
        ("http://minio:9", None, true),
        ("http://minio:9", Some("https://files.acme.example"), false),
        (
            "http://127.0.0.1:9",
            Some("http://files.acme.example"),
            true,
        ),
    ];
    for (endpoint, public, is_said) in rows {
        let mut world = World::new();
        add_connection(&mut world, "far", endpoint, "id", "secret");
        let connection = world.config.connections.get_mut("far").unwrap();
        connection.public_endpoint_url = public.map(ToOwned::to_owned);
        let output = handout(&world, &["check", "--json"]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = told["findings"].as_array().unwrap();
        let said = findings.iter().find(|it| it["what"] == "links of far");
        assert_eq!(said.is_some(), is_said, "{endpoint} {public:?}: {told}");
        if let Some(finding) = said {
            let words = finding["result"].as_str().unwrap();
            assert!(
                words.contains("set connections.far.public_endpoint_url")
                    && finding["warning"] == true,
                "{finding}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_the_host_of_links_is_a_choice_of_its_own() {
    let mut world = World::new();
    let secret = world.dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some("http://minio:9000".to_owned()),
        public_endpoint_url: Some("https://files.acme.example".to_owned()),
        public_path_style: Some(false),
        access_key_id: Some("AKIA".to_owned()),
        secret_access_key_file: Some(secret),
        ..ConnectionConfig::default()
    };
    world
        .config
        .connections
        .insert("store".to_owned(), connection);
    let output = handout(
        &world,
        &["presign", "--connection", "store", "s3://reports/a.pdf"],
    );
    let link = said(&output);
    assert!(
        link.starts_with("https://reports.files.acme.example/a.pdf?"),
        "{output:?}"
    );
    let explained = said(&handout(&world, &["explain", link.trim()]));
    assert!(explained.contains("s3://reports/a.pdf"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_below_a_path_is_listed_published_to_and_its_links_open() {
    let test = "a_store_below_a_path";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    for bucket in ["reports", "published"] {
        create_bucket(&client, bucket).await;
    }
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"the report");
    let put = client
        .put_object()
        .bucket("reports")
        .key("q3 report.pdf")
        .body(body);
    put.send().await.unwrap();
    let mut world = World::new();
    // moto verifies no signature; that ours are those of the SDK is tried in `signer`.
    let more = ["--below", "/storage/v1/s3", "--path", "strip"];
    let Some(nginx) = proxy(&parts, test, &world, moto.port, &more) else {
        return;
    };
    let secret = world.dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(format!("{}/storage/v1/s3", nginx.url())),
        access_key_id: Some("AKIA".to_owned()),
        secret_access_key_file: Some(secret),
        ..ConnectionConfig::default()
    };
    world
        .config
        .connections
        .insert("store".to_owned(), connection);
    world.config.allow[0].connection = "store".to_owned();
    let mut world = world.job(&whole_job("store"));
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let links = &world.mails()[0].hrefs;
    assert!(links.len() > 1);
    for link in links {
        assert!(
            link.starts_with(&format!("{}/storage/v1/s3/", nginx.url())),
            "{link}"
        );
        assert_eq!(get(link).await.0, 200, "{link}");
    }
    let explained = said(&handout(&world, &["explain", &links[0]]));
    assert!(
        explained.contains("s3://published/") || explained.contains("s3://reports/"),
        "{explained}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_url_with_a_path_opens_behind_a_proxy_that_keeps_it_and_behind_one_that_takes_it_off()
 {
    let test = "a_public_url_with_a_path";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    for path in ["keep", "strip"] {
        // A bucket with the name of the path, so that neither reading is plain.
        let mut world = World::new();
        let reports = world.bucket("reports");
        for (key, bytes) in [
            ("q3/a b+c ü%.pdf", "the report"),
            ("files/reports/x.pdf", "another"),
        ] {
            let place = reports.join(key);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, bytes).unwrap();
        }
        let port = world.config.embedded.listen.port();
        let more = ["--below", "/files", "--path", path];
        let Some(nginx) = proxy(&parts, test, &world, port, &more) else {
            return;
        };
        world.config.embedded.public_url = format!("{}/files/", nginx.url());
        let mut job = whole_job("local");
        job["id"] = json!("below");
        let config = world.written();
        world.submit(&[job]).await;
        let daemon = Daemon::start(&config, &[]).await;
        let mails = until("the mail", async || {
            Some(world.mails()).filter(|mails| !mails.is_empty())
        })
        .await;
        let page = until("the page", async || {
            let dir = world.bucket("published").join("pages");
            let files = if dir.exists() { walk(&dir) } else { Vec::new() };
            files.first().map(|path| published_text(path))
        })
        .await;
        let inside = hrefs(&page);
        assert!(inside.len() > 1, "{page}");
        for link in mails[0].hrefs.iter().chain(&inside) {
            assert!(
                link.starts_with(&format!("{}/files/", nginx.url())),
                "{link}"
            );
            assert_eq!(get(link).await.0, 200, "{path}: {link}");
            let tampered = link.replacen("X-Amz-Expires=", "X-Amz-Expires=1", 1);
            assert!(
                [400, 403].contains(&get(&tampered).await.0),
                "{path}: {tampered}"
            );
            let elsewhere = link.replacen("/files/", "/files/files/", 1);
            // Where the proxy takes the path off once, it is still there, and the object is the same.
            let expected = if path == "keep" { 403 } else { 200 };
            assert_eq!(get(&elsewhere).await.0, expected, "{path}: {elsewhere}");
        }
        let (line, code) = checked(&world);
        assert!(line.starts_with("ok"), "{path}: {line}");
        assert_eq!(code, Some(0), "{path}: {line}");
        daemon.signal("TERM");
        assert_eq!(daemon.end().await.0, Some(0), "{}", daemon_log(&config));
        // The embedded endpoint is not served any more, which is no fault of the configuration.
        let (line, code) = checked(&world);
        assert!(
            line.starts_with("warn") && line.contains("start it and check again"),
            "{line}"
        );
        assert_eq!(code, Some(0), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_the_proxy_before_the_embedded_endpoint_changes_host() {
    let test = "check_says_that_the_proxy_before_the_embedded";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let mut world = World::new().object("a.pdf", "x");
    let port = world.config.embedded.listen.port();
    let Some(nginx) = proxy(&parts, test, &world, port, &["--host", "change"]) else {
        return;
    };
    world.config.embedded.public_url = nginx.url();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let (line, code) = checked(&world);
    assert!(
        line.starts_with("FAIL") && line.contains("the proxy changes Host"),
        "{line}"
    );
    assert_eq!(code, Some(1), "{line}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0), "{}", daemon_log(&config));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_through_a_proxy_that_loses_host_says_so_to_its_reader_and_once_to_the_operator() {
    let test = "a_link_through_a_proxy_that_loses_host";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let mut world = World::new().object("a.pdf", "x");
    let address = world.config.embedded.listen;
    let Some(nginx) = proxy(&parts, test, &world, address.port(), &["--host", "change"]) else {
        return;
    };
    world.config.embedded.public_url = nginx.url();
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let presign = ["presign", "--connection", "local", "s3://reports/a.pdf"];
    let link = said(&handout(&world, &presign));
    let public = nginx.url().replacen("http://", "", 1);
    for _ in 0..3 {
        let (status, body) = get(link.trim()).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 403, "{body}");
        assert!(
            body.contains("<Code>SignatureDoesNotMatch</Code>"),
            "{body}"
        );
        let reason = format!("The link is for {public}, and the Host header was changed");
        assert!(body.contains(&reason), "{body}");
    }
    let tampered = get(&link.trim().replace("a.pdf", "b.pdf")).await;
    assert!(
        !String::from_utf8(tampered.1)
            .unwrap()
            .contains("Host header")
    );
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0));
    let log = daemon_log(&config);
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("changes the Host header"))
        .collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(
        told[0].contains(&format!("\"expected\":\"{public}\"")),
        "{told:?}"
    );
    assert!(told[0].contains("\"arrived\":\""), "{told:?}");
}
