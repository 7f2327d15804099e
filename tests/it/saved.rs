//! What people save: the name, the extension and the bytes, by Chromium, curl, wget and aria2. The store is versitygw, which verifies
//! each link.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_s3::primitives::ByteStream;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::conformance::s3_client_with;
use crate::public_endpoints::Stored;
use crate::support::servers::{Browser, Parts, browser_or_skip, skipped};
use crate::support::world::{World, email_job};

/// Text in `Shift_JIS`, which is no UTF-8.
const JAPANESE: &[u8] = b"\x93\xfa\x96\x7b\x8c\xea";

/// An object with the headers that an upload program gave it.
struct Upload {
    key: &'static str,
    bytes: Vec<u8>,
    content_type: Option<&'static str>,
    disposition: Option<&'static str>,
    encoding: Option<&'static str>,
}

impl Upload {
    fn new(key: &'static str, bytes: &[u8]) -> Self {
        Self {
            key,
            bytes: bytes.to_vec(),
            content_type: None,
            disposition: None,
            encoding: None,
        }
    }

    fn content_type(self, content_type: &'static str) -> Self {
        Self {
            content_type: Some(content_type),
            ..self
        }
    }

    fn disposition(self, disposition: &'static str) -> Self {
        Self {
            disposition: Some(disposition),
            ..self
        }
    }

    fn gzip(self) -> Self {
        Self {
            encoding: Some("gzip"),
            ..self
        }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A world whose store has these objects.
async fn stored(test: &str, uploads: &[Upload]) -> Option<Stored> {
    let parts = Parts::or_skip(test)?;
    let stored = Stored::new(&parts, test)?;
    std::fs::remove_file(
        stored
            .world
            .dir
            .path()
            .join("store/objects/reports/q3 report.pdf"),
    )
    .unwrap();
    let client = s3_client_with(
        &stored.store.url(),
        "eu-west-1",
        "AKIAIOSFODNN7EXAMPLE",
        "secret-of-tests",
    );
    for upload in uploads {
        let put = client.put_object().bucket("reports").key(upload.key);
        let put = put
            .body(ByteStream::from(upload.bytes.clone()))
            .set_content_type(upload.content_type.map(ToOwned::to_owned))
            .set_content_disposition(upload.disposition.map(ToOwned::to_owned))
            .set_content_encoding(upload.encoding.map(ToOwned::to_owned));
        put.send().await.unwrap();
    }
    Some(stored)
}

fn job(id: &str, links: &Value, list: Option<&str>) -> Value {
    let mut job = email_job(id);
    job["from"]["connection"] = json!("store");
    job["links"] = links.clone();
    if let Some(format) = list {
        job["manifest"] = json!({ "format": format, "publish": { "dir": "" } });
    }
    job
}

/// The links of the job's mail, in the order of the keys.
async fn links(world: World, links: &Value) -> (World, Vec<String>) {
    let mut world = world.job(&job("saved", links, None));
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let hrefs = world.mails()[0].hrefs.clone();
    (world, hrefs)
}

/// What Chromium saves: names and bytes.
async fn saved(browser: &Browser, urls: &[String]) -> BTreeMap<String, Vec<u8>> {
    let lines = seen(browser, "download.mjs", urls).await;
    let file = |line: &Value| {
        let bytes = line["bytes"].as_str().unwrap();
        let bytes = (0..bytes.len()).step_by(2);
        let hex = line["bytes"].as_str().unwrap();
        let bytes = bytes.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        (line["name"].as_str().unwrap().to_owned(), bytes.collect())
    };
    lines.iter().map(file).collect()
}

/// What Chromium shows: the texts.
async fn shown(browser: &Browser, urls: &[String]) -> Vec<String> {
    let lines = seen(browser, "text.mjs", urls).await;
    let text = |line: &Value| line["text"].as_str().unwrap().to_owned();
    lines.iter().map(text).collect()
}

async fn seen(browser: &Browser, script: &str, urls: &[String]) -> Vec<Value> {
    let (mut command, urls) = (browser.script(script), urls.join("\n"));
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(urls.as_bytes()).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Names and bytes of the files below a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

fn named(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    let files = files.iter();
    files
        .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_saved_with_the_extension_that_it_has_and_as_it_is_stored() {
    let test = "a_file_is_saved_with_the_extension_that_it_has";
    let Some(browser) = browser_or_skip(test) else {
        return;
    };
    let (table, site) = (gzip("a;b\n1;2\n"), gzip("not really a tar"));
    let uploads = [
        Upload::new("con.csv", b"1"),
        Upload::new("data.csv.gz", &table)
            .content_type("text/csv")
            .gzip(),
        Upload::new("report v1.2", b"2"),
        Upload::new("site.tar.gz", &site)
            .content_type("application/x-tar")
            .gzip(),
    ];
    let Some(stored) = stored(test, &uploads).await else {
        return;
    };
    let (world, urls) = links(stored.world, &json!({})).await;
    let expected: [(&str, &[u8]); 4] = [
        ("_con.csv", b"1"),
        ("data.csv.gz", &table),
        ("report v1.2", b"2"),
        ("site.tar.gz", &site),
    ];
    assert_eq!(saved(&browser, &urls).await, named(&expected));

    let phrase = json!({ "filename": "ACME backup" });
    let mut world = world.job(&job("named", &phrase, None));
    world.run().await;
    let mails = world.mails();
    let mail = mails
        .iter()
        .find(|mail| mail.subject == "Report named")
        .unwrap();
    let expected: [(&str, &[u8]); 4] = [
        ("ACME backup.csv", b"1"),
        ("ACME backup.csv.gz", &table),
        ("ACME backup", b"2"),
        ("ACME backup.tar.gz", &site),
    ];
    assert_eq!(saved(&browser, &mail.hrefs).await, named(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_key_says_nothing_is_saved_under_its_stored_name() {
    let test = "a_file_whose_key_says_nothing";
    let Some(browser) = browser_or_skip(test) else {
        return;
    };
    let table = gzip("a;b\n");
    let uploads = [
        Upload::new("u/1f0c", b"1")
            .content_type("application/pdf")
            .disposition(
                "attachment; filename=\"Umsatz S_d.pdf\"; filename*=UTF-8''Umsatz%20S%C3%BCd.pdf",
            ),
        Upload::new("u/2f0c", b"2").content_type("application/pdf"),
        Upload::new("u/3f0c", &table)
            .content_type("text/csv")
            .disposition("inline; filename=\"C:\\export\\all.csv.gz\"")
            .gzip(),
        Upload::new("u/4f0c", b"<script>document.title='ran'</script>").content_type("text/html"),
        Upload::new("u/5f0c", b"5").disposition("attachment; filename=\"../con\""),
        Upload::new("u/6.pdf", b"6").content_type("application/octet-stream"),
    ];
    let Some(stored) = stored(test, &uploads).await else {
        return;
    };
    let own: [(&str, &[u8]); 6] = [
        ("Umsatz Süd.pdf", b"1"),
        ("2f0c.pdf", b"2"),
        ("all.csv.gz", &table),
        ("4f0c.html", b"<script>document.title='ran'</script>"),
        ("_con", b"5"),
        ("6.pdf", b"6"),
    ];
    let looked = stored
        .world
        .configured(|config| config.links.preflight = true);
    let (world, urls) = links(looked, &json!({})).await;
    assert_eq!(saved(&browser, &urls).await, named(&own));

    // A name of the job comes first, and the extension is still the file's.
    let given = job(
        "given",
        &json!({ "filename": "ACME {{object.name}}" }),
        None,
    );
    // Without a look, the store names the files.
    let left = job("left", &json!({ "filename": "stored" }), None);
    let mut world = world.job(&given);
    world.run().await;
    world.config.links.preflight = false;
    let mut world = world.job(&left);
    world.run().await;
    let mails = world.mails();
    let of = |subject: &str| {
        &mails
            .iter()
            .find(|mail| mail.subject == subject)
            .unwrap()
            .hrefs
    };
    let given: [(&str, &[u8]); 6] = [
        ("ACME 1f0c.pdf", b"1"),
        ("ACME 2f0c.pdf", b"2"),
        ("ACME 3f0c.csv.gz", &table),
        ("ACME 4f0c.html", b"<script>document.title='ran'</script>"),
        ("ACME 5f0c", b"5"),
        ("ACME 6.pdf", b"6"),
    ];
    assert_eq!(saved(&browser, of("Report given")).await, named(&given));
    let names: Vec<String> = saved(&browser, &of("Report left")[..5])
        .await
        .into_keys()
        .collect();
    assert!(names.contains(&"Umsatz Süd.pdf".to_owned()), "{names:?}");
    assert_eq!(names.len(), 5, "all are saved, HTML too: {names:?}");
    for url in of("Report left") {
        assert!(!url.contains("response-content-disposition"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_shown_in_its_own_charset() {
    let test = "a_text_is_shown_in_its_own_charset";
    let Some(browser) = browser_or_skip(test) else {
        return;
    };
    let html = b"<script>document.title='ran'</script>";
    let uploads = [
        Upload::new("1.txt", JAPANESE).content_type("text/plain; charset=shift_jis"),
        Upload::new("2.txt", "Süd".as_bytes()).content_type("text/plain"),
        Upload::new("3.txt", html).content_type("text/html; charset=utf-8"),
    ];
    let Some(stored) = stored(test, &uploads).await else {
        return;
    };
    let inline = json!({ "disposition": "inline" });
    let looked = stored
        .world
        .configured(|config| config.links.preflight = true);
    let (world, urls) = links(looked, &inline).await;
    let html = String::from_utf8(html.to_vec()).unwrap();
    assert_eq!(shown(&browser, &urls).await, ["日本語", "Süd", &html]);

    let told = |charset: &str, world: World| {
        let charset = charset.to_owned().try_into().unwrap();
        world
            .configured(|config| {
                config.links.preflight = false;
                config.links.text_charset = charset;
            })
            .job(&job(
                &format!("in-{}", String::from(charset)),
                &inline,
                None,
            ))
    };
    let mut world = told("shift_jis", world);
    world.run().await;
    let mut world = told("stored", world);
    world.run().await;
    let mails = world.mails();
    let of = |subject: &str| {
        &mails
            .iter()
            .find(|mail| mail.subject == subject)
            .unwrap()
            .hrefs
    };
    let first = shown(&browser, &of("Report in-shift_jis")[..1]).await;
    assert_eq!(first, ["日本語"]);
    let first = shown(&browser, &of("Report in-stored")[..1]).await;
    assert_eq!(first, ["日本語"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_give_files_their_names() {
    let test = "the_documented_commands_give_files_their_names";
    let table = gzip("a;b\n");
    let uploads = [
        Upload::new("a/note.txt", b"1"),
        Upload::new("b/note.txt", b"2"),
        Upload::new("Umsatz Süd 12%.csv", b"3"),
        Upload::new("data.csv.gz", &table).gzip(),
        Upload::new("x&y=z.pdf", b"5"),
    ];
    let Some(stored) = stored(test, &uploads).await else {
        return;
    };
    let pages = stored.world.dir.path().join("pages");
    let mut world = stored.world;
    for format in ["urls", "aria2"] {
        let mut job = job(format, &json!({}), Some(format));
        job["manifest"]["publish"]["dir"] = json!(pages.join(format));
        world = world.job(&job);
    }
    world.run().await;
    assert_eq!(world.parked().await, [""; 0]);
    let list = |format: &str| {
        let folder = std::fs::read_dir(pages.join(format))
            .unwrap()
            .next()
            .unwrap();
        folder.unwrap().path().join(format!("{format}.txt"))
    };
    let expected = |notes: [&str; 2]| {
        named(&[
            (notes[0], b"1"),
            (notes[1], b"2"),
            ("Umsatz Süd 12%.csv", b"3"),
            ("data.csv.gz", &table),
            ("x&y=z.pdf", b"5"),
        ])
    };
    // As docs/jobs/manifests.md prints them.
    let guide = include_str!("../../docs/jobs/manifests.md");
    for (program, format, notes) in [
        ("wget", "urls", ["note.txt", "note.txt.1"]),
        ("aria2c", "aria2", ["a/note.txt", "b/note.txt"]),
    ] {
        let line = guide
            .lines()
            .find(|line| line.starts_with(program))
            .unwrap();
        let dir = world.dir.path().join(program);
        std::fs::create_dir(&dir).unwrap();
        let name = format!("{format}.txt");
        std::fs::copy(list(format), dir.join(&name)).unwrap();
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.env("LC_ALL", "C.UTF-8");
        let Ok(status) = tokio::task::spawn_blocking(move || command.status())
            .await
            .unwrap()
        else {
            skipped(&format!("{test}: {program}"));
            continue;
        };
        assert!(status.success(), "{program}");
        // Both lines name the directory `files`.
        assert_eq!(files(&dir.join("files")), expected(notes), "{program}");
    }
    // A single link, by its name in ASCII.
    let dir = world.dir.path().join("curl");
    std::fs::create_dir(&dir).unwrap();
    let urls = std::fs::read_to_string(list("urls")).unwrap();
    for url in urls.lines().filter(|url| !url.contains("/b/")) {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--fail", "-OJ", url])
            .current_dir(&dir);
        let status = tokio::task::spawn_blocking(move || command.status());
        assert!(status.await.unwrap().unwrap().success());
    }
    let names: Vec<String> = files(&dir).into_keys().collect();
    assert_eq!(
        names,
        ["Umsatz S_d 12_.csv", "data.csv.gz", "note.txt", "x&y=z.pdf"]
    );
}
