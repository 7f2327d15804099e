//! Writes the operator's part of the demo: files in buckets, a configuration, and jobs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use directory::{Directory, split};
use handout::clock;
use handout::job::JobId;
use serde_json::{Value, json};

/// A sample file and its destination.
struct Sample {
    bucket: &'static str,
    key: &'static str,
    bytes: &'static [u8],
}

macro_rules! sample {
    ($bucket:literal, $key:literal, $file:literal) => {
        Sample {
            bucket: $bucket,
            key: $key,
            bytes: include_bytes!(concat!("../../../samples/", $file)),
        }
    };
}

/// Typical names: spaces, umlauts, plus signs, quotes, emoji.
const SAMPLES: [Sample; 14] = [
    sample!(
        "reports",
        "2026/11/23/Umsatz Q3 – Süd.pdf",
        "reports/Umsatz Q3 – Süd.pdf"
    ),
    sample!(
        "reports",
        "2026/11/23/Delivery report 2026-11-23.pdf",
        "reports/Delivery report 2026-11-23.pdf"
    ),
    sample!(
        "reports",
        "2026/11/23/C++ & Rust costs +12%.pdf",
        "reports/C++ & Rust costs +12%.pdf"
    ),
    sample!(
        "reports",
        "2026/11/23/orders 2026-11-23.csv",
        "reports/orders 2026-11-23.csv"
    ),
    sample!(
        "photos",
        "shoot/Logo (transparent).png",
        "gallery/Logo (transparent).png"
    ),
    sample!(
        "photos",
        "shoot/Day 1/Sunrise over the lake.jpg",
        "gallery/Day 1/Sunrise over the lake.jpg"
    ),
    sample!(
        "photos",
        "shoot/Day 1/Nebel über den Hügeln.jpg",
        "gallery/Day 1/Nebel über den Hügeln.jpg"
    ),
    sample!(
        "photos",
        "shoot/Day 1/Ann's night sky ✨.jpg",
        "gallery/Day 1/Ann's night sky ✨.jpg"
    ),
    sample!(
        "photos",
        "shoot/Day 1/Music box 🎵.mp3",
        "gallery/Day 1/Music box 🎵.mp3"
    ),
    sample!(
        "photos",
        "shoot/Day 2/Dunes + long shadows.jpg",
        "gallery/Day 2/Dunes + long shadows.jpg"
    ),
    sample!(
        "photos",
        "shoot/Day 2/Panorama – Alpenglühen.jpg",
        "gallery/Day 2/Panorama – Alpenglühen.jpg"
    ),
    sample!(
        "photos",
        "shoot/Day 2/Ballons über Südtirol 🎈.jpg",
        "gallery/Day 2/Ballons über Südtirol 🎈.jpg"
    ),
    sample!(
        "photos",
        "shoot/Day 2/Zeitraffer – dawn in 3 s.mp4",
        "gallery/Day 2/Zeitraffer – dawn in 3 s.mp4"
    ),
    sample!(
        "uploads",
        "incoming/Notizen & nächste Schritte 📝.txt",
        "reports/Notizen & nächste Schritte 📝.txt"
    ),
];

/// The folder of the buckets.
const BUCKETS: &str = "buckets";

/// The maximum size of an earlier demo's configuration that is read, in bytes; that of this demo has 1 KB.
const MAX_CONFIGURATION: u64 = 64 * 1024;

/// Where galleries and manifests are published.
const PUBLISHED: &str = "published";

/// A job of the demo.
pub(super) struct SeededJob {
    /// The message's body.
    pub(super) body: String,
}

/// The ports of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// The ports of the last run, or the usual ones.
    Usual,
    /// Any free ports.
    Any,
}

/// Which jobs the demo runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DemoJobs {
    /// Those whose links a probe can compare with the samples.
    Checked,
    /// Those of the portal, too: its links lead to pages for people.
    All,
}

/// The files and jobs of the demo.
pub(super) struct Seeded {
    /// The configuration.
    pub(super) config_file: PathBuf,
    /// The jobs to submit.
    pub(super) jobs: Vec<SeededJob>,
    /// Whether an earlier demo exists, whose links name its address.
    pub(super) goes_on: bool,
    /// The job whose links are opened.
    pub(super) report: JobId,
    /// The job whose links are revoked.
    pub(super) revoked: Option<JobId>,
}

/// The expected content of a link to a key.
pub(super) fn bytes_of(bucket: &str, key: &str) -> Option<&'static [u8]> {
    SAMPLES
        .iter()
        .find(|sample| sample.bucket == bucket && sample.key == key)
        .map(|sample| sample.bytes)
}

/// Writes files, configuration and jobs below `dir`.
pub(super) fn seed(dir: &Path, ports: Ports, shown: DemoJobs) -> anyhow::Result<Seeded> {
    // Files of an earlier demo or another user under these names are replaced, not written through.
    let demo = Directory::make_own(dir)?;
    for bucket in ["reports", "photos", "uploads", PUBLISHED] {
        demo.enter(&Path::new(BUCKETS).join(bucket), 0o777)
            .with_context(|| format!("could not make the bucket {bucket}"))?;
    }
    for sample in &SAMPLES {
        let path = Path::new(BUCKETS).join(sample.bucket).join(sample.key);
        let (folder, name) = split(&path)?;
        let folder = demo.enter(folder, 0o777)?;
        // An unchanged file is kept, so that its ETag, and with it the link's id, stay the same.
        let there = folder.read_bounded(name, sample.bytes.len() as u64);
        if there.is_ok_and(|bytes| bytes == sample.bytes) {
            continue;
        }
        folder
            .replace(name, sample.bytes, 0o666)
            .with_context(|| format!("could not write {}", dir.join(&path).display()))?;
    }
    let jobs_folder = demo.enter(Path::new("jobs"), 0o700)?;
    // A job is done once, so each run of the demo needs new ids.
    let stamp = clock::system().strftime("%Y%m%dT%H%M%S").to_string();
    let mut jobs = Vec::new();
    let mut bodies = vec![
        ("report", report(&stamp)),
        ("gallery", gallery(&stamp)),
        ("event", event(&stamp)),
    ];
    let mut revoked = None;
    if shown == DemoJobs::All {
        let id = format!("demo-revoked-{stamp}");
        bodies.push((
            "portal",
            portal(&format!("demo-portal-{stamp}"), "Behind a code", "code"),
        ));
        bodies.push(("revoked", portal(&id, super::opens::BY_MISTAKE, "none")));
        revoked = Some(id.parse()?);
    }
    for (name, body) in bodies {
        let body = serde_json::to_string_pretty(&body)?;
        jobs_folder.replace(&format!("{name}.json"), body.as_bytes(), 0o600)?;
        jobs.push(SeededJob { body });
    }
    let event = serde_json::to_vec_pretty(&on_upload())?;
    jobs_folder.replace("on-upload.json", &event, 0o600)?;
    let config_file = super::config_file(dir);
    let (_, name) = split(&config_file)?;
    // An existing file that is not a configuration is replaced.
    let before = demo.read_bounded(name, MAX_CONFIGURATION);
    let before = String::from_utf8(before.unwrap_or_default()).unwrap_or_default();
    let before: toml::Table = toml::from_str(&before).unwrap_or_default();
    let goes_on = listened(&before, "embedded").is_some();
    let configuration = configuration(dir, &before, ports)?;
    demo.replace(name, configuration.as_bytes(), 0o600)?;
    Ok(Seeded {
        config_file,
        jobs,
        goes_on,
        report: format!("demo-report-{stamp}").parse()?,
        revoked,
    })
}

/// A report for two recipients, in their languages.
fn report(stamp: &str) -> Value {
    json!({
        "v": 1,
        "id": format!("demo-report-{stamp}"),
        "from": { "connection": "local", "bucket": "reports", "prefix": "2026/11/23/", "include": ["**/*.pdf", "**/*.csv"] },
        "links": { "expires_in": "24h", "filename": "{{customer}} - {{object.name}}" },
        "email": {
            "to": [
                { "address": "ann@acme.example", "name": "Ann Bell", "locale": "en" },
                { "address": "bernd@acme.example", "name": "Bernd Grün", "locale": "de" },
            ],
            "reply_to": "reports@sender.example",
            "subject": "Daily report for {{customer}}",
        },
        "manifest": { "format": "csv", "publish": { "bucket": PUBLISHED, "prefix": "manifests/" } },
        "vars": { "customer": "ACME" },
    })
}

/// A report with links of the portal.
fn portal(id: &str, subject: &str, sign_in: &str) -> Value {
    json!({
        "v": 1,
        "id": id,
        "from": { "connection": "local", "bucket": "reports", "prefix": "2026/11/23/", "include": ["**/*.pdf"] },
        "links": { "via": "portal", "expires_in": "7d", "sign_in": sign_in },
        "email": { "to": ["Dora Ek <dora@acme.example>"], "subject": subject },
    })
}

/// A gallery, and its invitation.
fn gallery(stamp: &str) -> Value {
    json!({
        "v": 1,
        "id": format!("demo-gallery-{stamp}"),
        "from": { "connection": "local", "bucket": "photos", "prefix": "shoot/" },
        "links": { "expires_in": "7d", "disposition": "inline" },
        "email": { "to": ["Carla Núñez <carla@client.example>"], "subject": "Your photos: {{shoot}}" },
        "gallery": { "title": "{{shoot}}", "publish": { "bucket": PUBLISHED, "prefix": "galleries/" } },
        "vars": { "shoot": "Two days in the mountains" },
    })
}

/// The event that S3 sends for an upload; a rule of the configuration turns it into a job.
fn event(stamp: &str) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.3",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-23T18:40:00.000Z",
        "s3": {
            "bucket": { "name": "uploads" },
            "object": {
                "key": "incoming/Notizen+%26+n%C3%A4chste+Schritte+%F0%9F%93%9D.txt",
                "sequencer": stamp,
            },
        },
    }] })
}

/// The job for an upload.
fn on_upload() -> Value {
    json!({
        "v": 1,
        "id": "demo-upload",
        "from": { "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] },
        "links": { "expires_in": "1h" },
        "email": { "to": ["Desk <desk@acme.example>"], "subject": "New upload in {{event.bucket}}" },
    })
}

fn configuration(dir: &Path, before: &toml::Table, ports: Ports) -> anyhow::Result<String> {
    let address = |section: &str, port: u16| match (ports, listened(before, section)) {
        // The address of the last run, even if it is taken: earlier links name it.
        (Ports::Usual, Some(port)) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        (Ports::Usual, None) => free_address(port),
        (Ports::Any, _) => free_address(0),
    };
    let (s3, http) = (address("embedded", 9470)?, address("http", 9464)?);
    let portal = address("portal", 9480)?;
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let (state, buckets) = (quoted(&dir.join("state")), quoted(&dir.join(BUCKETS)));
    let (outbox, audit) = (quoted(&dir.join("outbox")), quoted(&dir.join("audit")));
    let access = quoted(&dir.join("access"));
    let recipients = "recipients = [\"*@acme.example\", \"*@client.example\"]";
    Ok(format!(
        r#"# Written by `handout demo`. `handout run --config` with this file goes on where the demo ended.
state_dir = {state}

[connections.local]
directory = {buckets}

[embedded]
listen = "{s3}"
public_url = "http://{s3}"
access_log = {access}

[mail]
from = "Reports <reports@sender.example>"
time_zone = "Europe/Berlin"
outbox_dir = {outbox}

[audit]
dir = {audit}

[http]
listen = "{http}"

[portal]
listen = "{portal}"
public_url = "http://{portal}"

[[allow]]
connection = "local"
bucket = "reports"
{recipients}
publish = ["s3://{PUBLISHED}/manifests/"]

[[allow]]
connection = "local"
bucket = "photos"
{recipients}
publish = ["s3://{PUBLISHED}/galleries/"]

[[allow]]
connection = "local"
bucket = "uploads"
prefix = "incoming/"
{recipients}

[[on_event]]
bucket = "uploads"
key = "incoming/**"
job_file = "jobs/on-upload.json"
"#
    ))
}

/// The port of a section of an earlier configuration.
fn listened(config: &toml::Table, section: &str) -> Option<u16> {
    let address: SocketAddr = config.get(section)?.get("listen")?.as_str()?.parse().ok()?;
    Some(address.port())
}

/// The usual port, or a free one if it is taken.
fn free_address(usual: u16) -> anyhow::Result<SocketAddr> {
    let usual = TcpListener::bind((Ipv4Addr::LOCALHOST, usual));
    let listener = usual.or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    Ok(listener
        .context("no port is free on this machine")?
        .local_addr()?)
}
