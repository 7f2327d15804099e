//! What a person sees, in a real browser: the gallery and the mail of a demo.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::servers::{Browser, browser_or_skip};
use crate::support::{hrefs, program, until};

/// A demo that keeps its links alive; ended with the test.
struct Demo {
    child: Child,
    dir: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        let child = command
            .args(["demo", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let demo = Self { child, dir };
        until("the demo's mails", async || {
            (demo.mails().len() == 4).then_some(())
        })
        .await;
        demo
    }

    fn mails(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("outbox")) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        // An .eml is written after its page.
        let whole =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "eml"));
        whole
            .map(|path| path.with_extension("html").to_string_lossy().into_owned())
            .collect()
    }

    fn gallery(&self) -> String {
        let pages = self
            .mails()
            .into_iter()
            .map(|path| fs::read_to_string(path).unwrap());
        pages
            .flat_map(|page| hrefs(&page))
            .find(|href| href.contains("/index.html?"))
            .unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn complaints(seen: &Value) -> Vec<String> {
    let lists = ["console_errors", "csp_violations", "failed_requests"];
    let mut all: Vec<String> = lists
        .iter()
        .flat_map(|list| seen[list].as_array().unwrap())
        .map(ToString::to_string)
        .collect();
    if seen["broken_images"] != 0 {
        all.push(format!("broken images: {}", seen["broken_images"]));
    }
    all
}

#[tokio::test]
async fn gallery_and_mails_open_in_a_browser_without_a_complaint() {
    let Some(browser) = browser_or_skip("gallery_and_mails_open_in_a_browser") else {
        return;
    };
    let demo = Demo::start().await;
    let pictures = demo.dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    let shoot = |browser: &Browser, url: &str, name: &str, arguments: &[&str]| {
        let seen = browser.shoot(url, &pictures.join(name), arguments);
        assert_eq!(complaints(&seen), Vec::<String>::new(), "{name}");
        seen
    };
    let gallery = demo.gallery();
    for (name, arguments) in [
        ("gallery.png", ["--width", "1200", "--full"].as_slice()),
        ("gallery-dark.png", &["--width", "1200", "--dark"]),
        ("gallery-phone.png", &["--mobile"]),
        ("gallery-no-js.png", &["--width", "1200", "--no-js"]),
    ] {
        let seen = shoot(&browser, &gallery, name, arguments);
        assert_eq!(seen["title"], "Two days in the mountains", "{name}");
        assert!(seen["images"].as_u64().unwrap() >= 7, "{name}: {seen}");
    }
    for mail in demo.mails() {
        let url = format!("file://{mail}");
        for arguments in [
            ["--width", "1000", "--full"].as_slice(),
            &["--width", "320"],
        ] {
            let seen = shoot(&browser, &url, "mail.png", arguments);
            let width = if arguments.contains(&"320") {
                320
            } else {
                1000
            };
            assert!(
                seen["scroll_width"].as_u64().unwrap() <= width,
                "nothing stands out at {width}: {seen}"
            );
        }
    }
}
