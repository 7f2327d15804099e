//! What recipients get: mails without a subject, pages in a directory that a web server serves, links that have ended.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::presigning::PresigningConfig;
use base64ct::{Base64, Encoding as _};
use handout::assemble::connection::{EMBEDDED_REGION, embedded_sites};
use handout::keyring::Keyring;
use presign::disposition::passive_type;
use serde_json::json;

use crate::support::program;
use crate::support::servers::browser_or_skip;
use crate::support::world::{World, email_job};

#[tokio::test]
async fn a_mail_without_a_subject_says_what_it_is_about_from_whom_and_when_and_no_id() {
    let mut world = World::new().object("2026/11/23/a.pdf", "text");
    let cases = [
        ("plain", "2026/11/23/", json!(null)),
        ("titled", "", json!("Two days")),
    ];
    for (id, prefix, title) in &cases {
        let mut job = email_job(&format!("id-{id}"));
        job["from"]["prefix"] = json!(prefix);
        job["scheduled_at"] = json!("2026-11-23T06:00:00Z");
        job["email"].as_object_mut().unwrap().remove("subject");
        job["gallery"] = json!({ "title": title, "publish": { "bucket": "published" } });
        world = world.job(&job);
    }
    world.run().await;
    let mails = world.mails();
    let mut subjects: Vec<&str> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    for subject in &subjects {
        assert!(
            subject.contains("23 Nov 2026") && !subject.contains("id-"),
            "{subject}"
        );
    }
    assert!(
        subjects
            .iter()
            .any(|subject| subject.starts_with("Two days: ")),
        "{subjects:?}"
    );
    for mail in &mails {
        let heading = mail
            .html
            .split("<h1")
            .nth(1)
            .unwrap()
            .split("</h1>")
            .next()
            .unwrap();
        assert!(!heading.contains("id-"), "{heading}");
    }
}

#[tokio::test]
async fn a_mail_links_the_page_in_a_directory_that_a_web_server_serves() {
    let world = World::new().object("a.pdf", "text").object("b.pdf", "text");
    let pages = world.dir.path().join("pages");
    let mut world = world.configured(|config| {
        let served = pages.display().to_string();
        let base = "https://galleries.acme.example/of%20us".to_owned();
        config.publish.base_urls = [(served, base)].into();
    });
    let below = pages.join("Größen & mehr");
    for (id, place) in [("root", &pages), ("below", &below)] {
        let mut job = email_job(id);
        job["gallery"] = json!({ "publish": { "dir": place } });
        job["manifest"] = json!({ "publish": { "dir": place } });
        world = world.job(&job);
    }
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mails = world.mails();
    for (id, folder) in [("root", ""), ("below", "Gr%C3%B6%C3%9Fen%20%26%20mehr/")] {
        let mail = mails
            .iter()
            .find(|mail| mail.subject.ends_with(id))
            .unwrap();
        let base = format!("https://galleries.acme.example/of%20us/{folder}");
        for (file, place) in [
            ("index.html", if id == "root" { &pages } else { &below }),
            ("manifest.csv", if id == "root" { &pages } else { &below }),
        ] {
            let linked = mail.hrefs.iter().find(|href| href.ends_with(file));
            let linked = linked.unwrap_or_else(|| panic!("{id} {file}: {:?}", mail.hrefs));
            let rest = linked
                .strip_prefix(&base)
                .unwrap_or_else(|| panic!("{linked}"));
            assert_eq!(rest.split('/').count(), 2, "{rest}");
            assert!(place.join(rest).is_file(), "{rest}");
        }
        assert!(
            !mail.html.contains("X-Amz-Signature"),
            "an invitation lists no files"
        );
    }
}

#[tokio::test]
async fn a_mail_without_room_is_given_its_page_in_a_directory_that_a_web_server_serves() {
    let mut world = World::new().job(&email_job("many"));
    for number in 0..300 {
        world = world.object(&format!("{number}.pdf"), "text");
    }
    let pages = world.dir.path().join("pages").display().to_string();
    let mut world = world.configured(|config| {
        config.allow[0].publish = vec![format!("dir:{pages}")];
        config.publish.base_urls = [(pages.clone(), "https://g.acme.example/".to_owned())].into();
    });
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mail = world.mails().remove(0);
    let linked = mail
        .hrefs
        .iter()
        .any(|href| href.starts_with("https://g.acme.example/"));
    assert!(linked, "{:?}", mail.hrefs);
}

#[test]
fn a_base_url_that_a_mail_cannot_link_is_refused() {
    let world = World::new();
    for (dir, url) in [
        ("/srv/galleries", "http://galleries.acme.example/"),
        ("/srv/galleries", "ftp://galleries.acme.example/"),
        ("/srv/galleries", "https://galleries.acme.example/?x=1"),
        ("galleries", "https://galleries.acme.example/"),
    ] {
        let mut config = world.config.clone();
        config.publish.base_urls = [(dir.to_owned(), url.to_owned())].into();
        let error = config.policy().unwrap_err().to_string();
        assert!(error.contains("publish.base_urls"), "{url}: {error}");
    }
}

/// What curl gets, with these headers: the status, the type and the text.
async fn fetched(url: &str, headers: &[&str]) -> (String, String) {
    let mut curl = tokio::process::Command::new("curl");
    curl.args([
        "--silent",
        "--write-out",
        "\n%{http_code} %{content_type}",
        url,
    ]);
    for header in headers {
        curl.args(["--header", header]);
    }
    let output = curl.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

// The browser waits for the endpoint on another thread.
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_link_of_the_embedded_endpoint_is_a_page_for_people_and_xml_for_programs() {
    let world = World::new().object("a.pdf", "text");
    let opened = world.open().await;
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(EMBEDDED_REGION))
        .endpoint_url(world.config.embedded.public_url.clone())
        .force_path_style(true)
        .credentials_provider(Credentials::new(
            site.access_key_id,
            site.secret_access_key,
            None,
            None,
            "test",
        ));
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let sign = async |key: &str, age: u64| {
        let object = fs::metadata(world.bucket("reports").join("a.pdf")).unwrap();
        let start: SystemTime = object.modified().unwrap() - Duration::from_secs(age);
        let life = PresigningConfig::builder()
            .start_time(start)
            .expires_in(Duration::from_secs(60));
        let get = client.get_object().bucket("reports").key(key);
        let link = get.presigned(life.build().unwrap()).await.unwrap();
        link.uri().to_owned()
    };
    let browsers = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let (ended, works, gone) = (
        sign("a.pdf", 90).await,
        sign("a.pdf", 0).await,
        sign("gone.pdf", 0).await,
    );
    let changed = works.replace("a.pdf", "b.pdf");
    for (link, status, title) in [
        (&ended, "403", "Diese Links sind abgelaufen"),
        (&changed, "403", "Dieser Link funktioniert nicht"),
        (&gone, "404", "Dieser Link funktioniert nicht"),
    ] {
        let (code, page) = fetched(
            link,
            &[browsers, "Accept-Language: de-CH,de;q=0.9,en;q=0.5"],
        )
        .await;
        assert_eq!(code, format!("{status} text/html; charset=utf-8"), "{page}");
        assert!(
            page.contains(title) && page.contains("<html lang=\"de\""),
            "{page}"
        );
        assert!(page.contains("mailto:"), "{page}");
        for program in [
            &[][..],
            &["Accept: */*"],
            &["Accept: image/avif,image/webp,*/*;q=0.8"],
        ] {
            let (code, xml) = fetched(link, program).await;
            assert!(
                code.starts_with(status) && xml.contains("<Error>"),
                "{code}: {xml}"
            );
        }
    }
    let (code, text) = fetched(&works, &[browsers]).await;
    assert!(code.starts_with("200") && text == "text", "{code}: {text}");
    if let Some(browser) = browser_or_skip("an_ended_link_of_the_embedded_endpoint") {
        let picture = world.dir.path().join("ended.png");
        for options in [&["--width", "320"][..], &["--width", "1280", "--dark"]] {
            let seen = browser.shoot(&ended, &picture, options);
            assert_eq!(seen["title"], "These links have expired", "{seen}");
            assert!(
                seen["scroll_width"].as_u64() <= seen["width"].as_u64(),
                "{seen}"
            );
            assert_eq!(seen["csp_violations"], json!([]), "{seen}");
        }
    }
    opened.close().await;
}

#[test]
fn chromium_plays_what_a_gallery_plays() {
    let Some(browser) = browser_or_skip("chromium_plays_what_a_gallery_plays") else {
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/media");
    let mut players = String::new();
    let mut names = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let Some(media_type) = passive_type(&name).filter(|_| !name.ends_with(".md")) else {
            continue;
        };
        let kind = media_type.split('/').next().unwrap();
        let bytes = Base64::encode_string(&fs::read(file.path()).unwrap());
        players += &format!("<{kind} src='data:{media_type};base64,{bytes}'></{kind}>");
        names.push(name);
    }
    assert_eq!(names.len(), 6, "{names:?}");
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    // A player may be ready before its handler is set.
    let script = "const left = new Set(document.querySelectorAll('video, audio'));\
        const ready = (one) => { left.delete(one); document.title = left.size; };\
        for (const one of left) one.readyState < 3 ? (one.oncanplay = () => ready(one)) : ready(one);";
    fs::write(
        &page,
        format!("<!doctype html><title>x</title>{players}<script>{script}</script>"),
    )
    .unwrap();
    let url = format!("file://{}", page.display());
    let seen = browser.shoot(&url, &dir.path().join("page.png"), &["--title", "0"]);
    assert_eq!(
        (&seen["title"], &seen["broken_media"]),
        (&json!("0"), &json!(0)),
        "{seen}"
    );
}

/// Files as programs of Windows write them.
#[test]
fn a_byte_order_mark_is_no_part_of_a_key_a_job_or_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let marked = |text: &str| [b"\xEF\xBB\xBF", text.as_bytes()].concat();
    fs::create_dir_all(dir.path().join("buckets/reports")).unwrap();
    write("buckets/reports/a.pdf", b"text");
    let config = "state_dir = \"state\"\n[connections.local]\ndirectory = \"buckets\"\n[embedded]\nlisten = \"127.0.0.1:0\"\n\
        [[allow]]\nconnection = \"local\"\nbucket = \"reports\"\nrecipients = [\"*@acme.example\"]\n";
    let config = write("config.toml", &marked(config));
    let job = email_job("marked").to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(program())
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "eu-west-1")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let config = config.to_str().unwrap();
    let job_file = write("job.json", &marked(&job));
    let (is_done, told) = run(&[
        "job",
        "preview",
        job_file.to_str().unwrap(),
        "--config",
        config,
    ]);
    assert!(is_done, "{told}");
    let utf_16: Vec<u8> = "\u{feff}{}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let job_file = write("job-16.json", &utf_16);
    let (is_done, told) = run(&[
        "job",
        "preview",
        job_file.to_str().unwrap(),
        "--config",
        config,
    ]);
    assert!(!is_done && told.contains("UTF-16"), "{told}");
    let keys = write("keys.txt", &marked("a.pdf\r\nb.pdf\r\n"));
    let keys = keys.to_str().unwrap();
    let (is_done, told) = run(&["presign", "s3://reports", "--keys-from", keys, "--no-audit"]);
    assert!(
        is_done && told.contains("/a.pdf?") && told.contains("/b.pdf?"),
        "{told}"
    );
    assert!(!told.contains("%EF%BB%BF"), "{told}");
}
