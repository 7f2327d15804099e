//! The mails as their readers see them, and as `handout job preview` shows them before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::hostile::put_all;
use crate::support::program;
use crate::support::servers::browser_or_skip;
use crate::support::world::{World, email_job};

/// A world with three days of photos, some papers, and a name that is a page long.
fn shoot() -> World {
    let mut world = World::new();
    for day in ["Day 1 – Lake", "Day 2 – Dunes", "Day 3 – Südtirol"] {
        for n in 1..=18 {
            let key = format!("shoot/{day}/IMG_{n:04}.jpg");
            world = world.object(&key, &"x".repeat(40_000 + n * 321));
        }
    }
    let long = "A very long name that somebody thought would explain everything ".repeat(3);
    world
        .object("shoot/Contract (signed).pdf", &"x".repeat(210_000))
        .object("shoot/Costs & <rights>.xlsx", &"x".repeat(48_200))
        .object(&format!("shoot/{long}.docx"), &"x".repeat(1_234_567))
        .object("daily/Delivery report.pdf", &"x".repeat(1_234_567))
        .object("daily/Umsatz Q3 – Süd.pdf", &"x".repeat(48_200))
        .object("daily/raw/orders 2026-11-23.csv", &"x".repeat(812))
}

/// A job for people of three languages.
fn job(template: &str, prefix: &str) -> Value {
    let mut job = email_job(&format!("look-{template}"));
    job["from"]["prefix"] = prefix.into();
    job["email"] = json!({
        "to": [
            "Ann Bell <ann@acme.example>",
            { "address": "layla@acme.example", "name": "ليلى حداد", "locale": "ar" },
            { "address": "yuki@acme.example", "name": "山田 由紀", "locale": "ja" },
        ],
        "template": template,
    });
    job
}

/// Previews a job with more arguments.
fn preview(world: &World, job: &Value, more: &[&str]) -> Output {
    let config = world.written();
    let file = world
        .dir
        .path()
        .join(format!("{}.json", job["id"].as_str().unwrap()));
    fs::write(&file, job.to_string()).unwrap();
    let mut command = Command::new(program());
    command.args(["job", "preview"]).arg(&file);
    command
        .arg("--config")
        .arg(config)
        .args(more)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn the_three_mails_read_well_on_a_phone_and_in_the_dark() {
    let Some(browser) = browser_or_skip("the_three_mails_read_well_on_a_phone_and_in_the_dark")
    else {
        return;
    };
    let world = shoot();
    let mut invite = job("gallery-invite", "shoot/");
    invite["gallery"] = json!({
        "title": "Three days in the mountains",
        "publish": { "bucket": "published", "prefix": "g/" },
    });
    let jobs = [job("report", "daily/"), job("digest", "shoot/"), invite];
    let mut mails = Vec::new();
    for job in &jobs {
        let name = job["email"]["template"].as_str().unwrap();
        let out = world.dir.path().join(name);
        let written = words(&preview(
            &world,
            job,
            &["--open", "--out", &path_text(&out)],
        ));
        let pages = written.lines().filter(|path| {
            path.ends_with(".html")
                && Path::new(path)
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("mail-")
        });
        for (language, page) in ["en", "ar", "ja"].into_iter().zip(pages) {
            mails.push(format!("{name}-{language}={page}"));
        }
    }
    assert_eq!(mails.len(), 9);
    // Kept, to be looked at.
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/screenshots/mails");
    let output = browser
        .script("mails.mjs")
        .arg(&pictures)
        .args(&mails)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let seen: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(seen["complaints"], json!([]));
    assert_eq!(seen["pictures"], 9 * (3 * 2 + 1));
}

#[tokio::test]
async fn a_mail_about_a_gallery_is_an_invitation_unless_the_job_says_otherwise() {
    let gallery = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    let mut invite = email_job("invite");
    invite["gallery"] = gallery.clone();
    let mut report = email_job("report");
    report["gallery"] = gallery;
    report["email"]["template"] = "report".into();
    let mut world = World::new().object("a.pdf", "x").object("b.pdf", "y");
    let mut page_elsewhere = email_job("elsewhere");
    page_elsewhere["gallery"] = json!({ "publish": { "dir": world.dir.path().join("pages") } });
    for job in [&invite, &report, &page_elsewhere] {
        world = world.job(job);
    }
    world.run().await;
    let links = |id: &str| -> Vec<usize> {
        let mails = world.mails().into_iter();
        let about = mails.filter(|mail| mail.subject == format!("Report {id}"));
        about.map(|mail| mail.hrefs.len()).collect()
    };
    assert_eq!(links("invite"), [1], "the gallery alone");
    assert_eq!(links("report"), [3], "the gallery and both files");
    assert_eq!(links("elsewhere"), [2], "no mail can link that page");
}

#[test]
fn a_preview_of_a_thousand_recipients_makes_as_many_mails_as_it_is_asked() {
    let world = shoot();
    let mut order = job("digest", "shoot/");
    let people: Vec<String> = (0..1000).map(|n| format!("p{n}@acme.example")).collect();
    order["email"]["to"] = json!(people);
    order["scheduled_at"] = json!("2026-11-23T06:00:00Z");
    let out = world.dir.path().join("preview");
    let output = preview(&world, &order, &["--mails", "3", "--out", &path_text(&out)]);
    let text = words(&output).replace(&path_text(&out), "[OUT]");
    let lines = text.lines().filter(|line| !line.contains("until"));
    // How long a link is depends on the port of the moment.
    let text: Vec<String> = lines
        .map(|line| match line.split_once(" %  ") {
            Some((before, after)) => {
                let (start, subject) = (before.trim_end_matches(char::is_numeric), after.trim());
                let (size, subject) = subject.split_once("  ").unwrap();
                assert!(size.parse::<u32>().is_ok_and(|size| size > 1000), "{line}");
                format!("{} [%] [bytes] {subject}", start.trim_end())
            }
            None => line.to_owned(),
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    look-digest would make 57 links for each of 1000 recipients
      recipient        files  counted  of HTML        mail  subject
      p0@acme.example     57        0 [%] [bytes] shoot: 57 files – Handout, 23 Nov 2026
      p1@acme.example     57        0 [%] [bytes] shoot: 57 files – Handout, 23 Nov 2026
      p2@acme.example     57        0 [%] [bytes] shoot: 57 files – Handout, 23 Nov 2026
      mails        3 of 1000; --mails 1000 makes all of them
      pages        0
    Look at [OUT]. The links there are examples and open nothing.
    "#);
    let names: BTreeSet<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 9, "{names:?}");
}

#[tokio::test]
async fn a_preview_for_scripts_prints_paths_or_json_and_nothing_else() {
    let world = shoot();
    put_all(&world, &["shoot/a/../b.pdf".to_owned()]).await;
    let order = job("report", "shoot/");
    let out = path_text(&world.dir.path().join("preview"));
    let printed = words(&preview(&world, &order, &["--open", "--out", &out]));
    let paths: Vec<PathBuf> = printed.lines().map(PathBuf::from).collect();
    assert_eq!(paths.len(), 9);
    assert!(paths.iter().all(|path| path.is_file()), "{printed}");

    let told: Value =
        serde_json::from_str(&words(&preview(&world, &order, &["--json", "--out", &out]))).unwrap();
    assert_eq!(told["links"], 57);
    assert_eq!(
        told["not_linked"][0]["key"], "shoot/a/../b.pdf",
        "what cannot be linked is named: {told}"
    );
    for mail in told["mails"].as_array().unwrap() {
        let files = |field: &str| mail[field].as_u64().unwrap();
        assert!(
            files("shown") > 40 && files("shown") + files("more") == 57,
            "{mail}"
        );
        assert_eq!(mail["clipped"], false);
        let html = fs::read_to_string(mail["files"][0].as_str().unwrap()).unwrap();
        let bytes = mail["html_bytes"].as_u64().unwrap();
        assert!(bytes >= html.len() as u64 && bytes <= 90_000, "{mail}");
        let letter = fs::metadata(mail["files"][2].as_str().unwrap()).unwrap();
        assert_eq!(mail["letter_bytes"], letter.len());
    }
}

/// A preview that is shorter than the mail would hide that the mail does not fit.
#[tokio::test]
async fn the_mails_of_a_preview_are_as_long_as_those_that_are_sent() {
    let order = {
        let mut order = email_job("long");
        order["from"]["prefix"] = "daily/".into();
        order
    };
    let mut world = shoot().job(&order);
    let out = path_text(&world.dir.path().join("preview"));
    let told: Value =
        serde_json::from_str(&words(&preview(&world, &order, &["--json", "--out", &out]))).unwrap();
    let previewed = fs::read_to_string(told["mails"][0]["files"][0].as_str().unwrap()).unwrap();
    world.run().await;
    let sent = world.mails().remove(0).html;
    let (sent, previewed) = (sent.len(), previewed.len());
    assert!(
        previewed.abs_diff(sent) * 20 < sent,
        "sent {sent}, previewed {previewed}"
    );
}

#[test]
fn a_preview_says_whom_each_rule_keeps_out() {
    let world = World::new().object("a.pdf", "x").configured(|config| {
        let mut narrow = config.allow[0].clone();
        narrow.recipients = vec!["bo@acme.example".to_owned()];
        config.allow.push(narrow);
    });
    let mut order = email_job("leak");
    order["email"]["to"] = json!(["ann@acme.example", "eve@evil.example", "bo@acme.example"]);
    let output = preview(&world, &order, &[]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout), @r"
    leak would be rejected
      allow[0]     s3://reports/ is not for eve@evil.example
      allow[1]     s3://reports/ is not for ann@acme.example, eve@evil.example
    ");
    let output = preview(&world, &order, &["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["rules"][0]["recipients"], json!(["eve@evil.example"]));
}
