//! The name under which a link is saved, as others read it: Python's parsers and a browser.

use std::io::Write;
use std::process::{Command, Stdio};

use presign::disposition::{DispositionType, clean_name, push_content_disposition};
use serde_json::Value;

use crate::hostile::put_all;
use crate::support::hostile;
use crate::support::program;
use crate::support::servers::{Parts, browser_or_skip};
use crate::support::world::{World, email_job};

/// File names as keys end with them.
fn names() -> Vec<String> {
    let keys = hostile::keys()
        .into_iter()
        .chain(hostile::UNLINKABLE.map(ToOwned::to_owned));
    keys.map(|key| key.rsplit('/').next().unwrap().to_owned())
        .collect()
}

/// Gives `input` to a command and reads one JSON value from each line of its answer.
fn answers(command: &mut Command, input: &str) -> Vec<Value> {
    let text = printed(command, input);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Gives `input` to a command and reads its answer.
fn printed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn others_find_the_intended_name_in_the_header() {
    let Some(parts) = Parts::or_skip("others_find_the_intended_name") else {
        return;
    };
    let names: Vec<String> = names().iter().map(|name| clean_name(name)).collect();
    for (disposition, word) in [
        (DispositionType::Attachment, "attachment"),
        (DispositionType::Inline, "inline"),
    ] {
        let mut headers = String::new();
        for name in &names {
            push_content_disposition(disposition, name, &mut headers);
            headers.push('\n');
        }
        let found = answers(&mut parts.script("parse_disposition.py"), &headers);
        assert_eq!(found.len(), names.len());
        for (name, found) in names.iter().zip(&found) {
            assert_eq!(
                (&found["disposition"], &found["exact"]),
                (&Value::from(word), &Value::from(name.as_str()))
            );
            let plain = found["plain"].as_str().unwrap();
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            assert!(
                plain.is_ascii() && (!extension.is_ascii() || plain.ends_with(extension)),
                "{name}: {plain}"
            );
        }
    }
}

#[tokio::test]
async fn a_browser_opens_every_link_to_what_it_says() {
    let Some(browser) = browser_or_skip("a_browser_opens_every_link") else {
        return;
    };
    let world = World::new();
    let keys = hostile::keys();
    put_all(&world, &keys).await;
    let config = world.written();
    let opened = world.open().await;
    let mut presign = Command::new(program());
    let arguments = [
        "presign",
        "--connection",
        "local",
        "--no-audit",
        "--keys-from",
        "-",
    ];
    presign
        .args(arguments)
        .arg("--config")
        .arg(config)
        .arg("s3://reports");
    let lines = keys.join("\n");
    let saved = tokio::task::spawn_blocking(move || {
        let urls = printed(&mut presign, &lines);
        answers(&mut browser.script("download.mjs"), &urls)
    });
    let saved = saved.await.unwrap();
    opened.close().await;
    assert_eq!(saved.len(), keys.len());
    for (saved, key) in saved.iter().zip(&keys) {
        assert_eq!(
            saved["text"],
            key.as_str(),
            "each object has its key for a text"
        );
    }
}

#[tokio::test]
async fn a_browser_saves_a_link_under_the_intended_name() {
    let Some(browser) = browser_or_skip("a_browser_saves_a_link") else {
        return;
    };
    let keys = [
        "a b+c.pdf",
        "Umsatz Q3 – Süd.pdf",
        "日本語 🎉.pdf",
        "C++ & Rust 12%.pdf",
        "it's (1) [2].pdf",
        "report%20x.pdf",
        "semi;colon=x, comma.pdf",
        "page.html",
    ];
    let mut world = World::new();
    for key in keys {
        world = world.object(key, "x");
    }
    world = world.job(&email_job("names"));
    world.run().await;
    let hrefs = world.mails()[0].hrefs.clone();
    let opened = world.open().await;
    let urls = hrefs.join("\n");
    let found =
        tokio::task::spawn_blocking(move || answers(&mut browser.script("download.mjs"), &urls));
    let mut found: Vec<String> = found
        .await
        .unwrap()
        .iter()
        .map(|saved| saved["name"].as_str().unwrap().to_owned())
        .collect();
    opened.close().await;
    let mut wanted = keys.map(ToOwned::to_owned);
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}
