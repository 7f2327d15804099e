//! Delivered means reachable: no link is recorded as handed out that its recipient cannot get at.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::world::{World, email_job};
use crate::support::{get, hrefs, program};

/// A world with so many files in `reports`, whose names have so many letters, and no place to publish.
fn world_of(files: usize, letters: usize) -> World {
    let mut world = World::new().configured(|config| config.allow[0].publish.clear());
    for n in 0..files {
        let key = format!("2026/Q3/{}-{n:04}.pdf", "r".repeat(letters));
        world = world.object(&key, &format!("file {n}"));
    }
    world
}

/// Lets pages be published to `published` by the job's rule.
fn publishing(world: World) -> World {
    world.configured(|config| config.allow[0].publish = vec!["s3://published/auto/".to_owned()])
}

fn job(id: &str) -> Value {
    let mut job = email_job(id);
    job["from"]["prefix"] = json!("2026/Q3/");
    job
}

/// Runs a command of `handout job` on a job.
fn handout_job(world: &World, command: &str, job: &Value, more: &[&str]) -> Output {
    let file = world.dir.path().join("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let out = world.dir.path().join("preview");
    let mut handout = Command::new(program());
    handout.args(["job", command]).arg(&file);
    handout.arg("--config").arg(world.written()).args(more);
    if command == "preview" {
        handout.arg("--out").arg(out);
    }
    handout.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What opens when a person follows every link of a mail, and every link of the page that it leads to.
async fn opened_by(hrefs_of_mail: &[String]) -> HashSet<String> {
    let mut texts = HashSet::new();
    let mut to_open = hrefs_of_mail.to_vec();
    let mut seen = HashSet::new();
    while let Some(href) = to_open.pop() {
        let href = href.replace("&amp;", "&");
        if !href.starts_with("http") || !seen.insert(href.clone()) {
            continue;
        }
        let (status, body) = get(&href).await;
        assert_eq!(status, 200, "{href}");
        let text = match body.starts_with(&[0x1f, 0x8b]) {
            true => {
                let mut unzipped = String::new();
                let mut reader = flate2::read::GzDecoder::new(&body[..]);
                std::io::Read::read_to_string(&mut reader, &mut unzipped).unwrap();
                unzipped
            }
            false => String::from_utf8(body).unwrap(),
        };
        if text.contains("<html") {
            to_open.extend(hrefs(&text));
        } else if text.starts_with("file ") {
            texts.insert(text);
        } else {
            // A table of links.
            let urls = text.lines().flat_map(|line| line.split(['"', ',']));
            to_open.extend(urls.map(ToOwned::to_owned));
        }
    }
    texts
}

#[tokio::test]
async fn a_mail_about_300_files_links_a_page_from_which_all_of_them_open() {
    let mut world = publishing(world_of(300, 4)).job(&job("quarter"));
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mail = world.mails().remove(0);
    assert!(mail.html.contains("300 files"), "the mail says how many");
    let shown = mail.html.matches("rrrr-").count();
    assert!(shown >= 20, "and shows some: {shown}");
    let opened = world.open().await;
    assert_eq!(opened_by(&mail.hrefs).await.len(), 300);
    opened.close().await;
    assert_eq!(world.audit_of("issue").len(), 300);
}

#[tokio::test]
async fn long_names_fill_a_mail_with_fewer_files_and_all_open_all_the_same() {
    // Fewer than the most rows of a mail; each link takes a kilobyte.
    let mut world = publishing(world_of(120, 200)).job(&job("long"));
    world.run().await;
    let mail = world.mails().remove(0);
    let opened = world.open().await;
    assert_eq!(opened_by(&mail.hrefs).await.len(), 120);
    opened.close().await;
}

#[tokio::test]
async fn the_last_file_that_fits_needs_no_page_and_one_more_does() {
    let links_page = |files: usize| async move {
        let mut world = publishing(world_of(files, 40)).job(&job("edge"));
        world.run().await;
        let mail = world.mails().remove(0);
        let opened = world.open().await;
        assert_eq!(opened_by(&mail.hrefs).await.len(), files);
        opened.close().await;
        fs::read_dir(world.bucket("published")).unwrap().count() > 0
    };
    let (mut fits, mut too_many) = (10, 250);
    while fits + 1 < too_many {
        let files = usize::midpoint(fits, too_many);
        match Box::pin(links_page(files)).await {
            true => too_many = files,
            false => fits = files,
        }
    }
    assert!(fits > 30, "{fits}");
}

#[tokio::test]
async fn without_a_place_for_a_page_preview_run_and_the_daemon_refuse_the_job_and_name_the_ways_out()
 {
    let mut world = world_of(300, 4);
    for command in ["preview", "run"] {
        let output = handout_job(&world, command, &job("refused"), &[]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let told = stderr(&output);
        for word in [
            "of its 300 files",
            "gallery",
            "manifest",
            "publish",
            "[gallery] default_publish",
            "\"summarize\"",
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
    world = world.job(&job("refused"));
    world.run().await;
    let parked = world.parked().await;
    assert!(parked[0].contains("of its 300 files"), "{parked:?}");
    assert!(world.mails().is_empty());
    assert!(
        world.audit_of("issue").is_empty(),
        "no link is recorded as handed out"
    );
    // The id is free for the corrected job.
    let mut corrected = job("refused");
    corrected["email"]["overflow"] = json!("summarize");
    world = world.job(&corrected);
    world.run().await;
    assert_eq!(world.mails().len(), 1);
}

#[tokio::test]
async fn a_job_that_asks_for_a_summary_gets_one_and_the_result_says_how_many_files_it_shows() {
    let world = publishing(world_of(300, 4));
    let mut order = job("summary");
    order["email"]["overflow"] = json!("summarize");
    let output = handout_job(&world, "run", &order, &["--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mail = world.mails().remove(0);
    let linked = mail.hrefs.iter().filter(|href| href.contains("rrrr-"));
    assert_eq!(told["shown"], json!(linked.count()), "{told}");
    assert_eq!(told["links"], 300);
    assert_eq!(fs::read_dir(world.bucket("published")).unwrap().count(), 0);
}

#[tokio::test]
async fn the_configuration_can_name_a_place_for_all_pages() {
    let mut world = world_of(201, 4)
        .configured(|config| config.gallery.default_publish = Some("s3://published/x/".to_owned()))
        .job(&job("default"));
    world.run().await;
    let mail = world.mails().remove(0);
    let opened = world.open().await;
    assert_eq!(opened_by(&mail.hrefs).await.len(), 201);
    opened.close().await;
    assert!(world.bucket("published").join("x").is_dir());
}

#[tokio::test]
async fn a_page_in_a_directory_is_no_page_that_a_mail_links() {
    let dir_of = |world: &World| world.dir.path().join("pages").display().to_string();
    let mut world = world_of(250, 4);
    let dir = dir_of(&world);
    world.config.allow[0].publish = vec![format!("dir:{dir}")];
    let mut order = job("in-a-directory");
    order["gallery"] = json!({ "publish": { "dir": dir } });
    let output = handout_job(&world, "preview", &order, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));

    // With a bucket beside it, the mail links a list.
    world.config.allow[0]
        .publish
        .push("s3://published/lists/".to_owned());
    let mut world = world.job(&order);
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mail = world.mails().remove(0);
    let opened = world.open().await;
    assert_eq!(opened_by(&mail.hrefs).await.len(), 250);
    opened.close().await;
}

#[tokio::test]
async fn one_recipient_of_several_for_whom_the_files_do_not_fit_gets_them_all() {
    let mut order = job("mixed");
    let long = "x".repeat(16_000);
    order["email"]["to"] = json!([
        "ann@acme.example",
        { "address": "bo@acme.example", "locale": "ar", "name": "بو" },
        { "address": "cy@acme.example", "vars": { "note": long } },
    ]);
    order["email"]["template"] = json!("noted");
    let world = publishing(world_of(60, 40));
    let templates = world.dir.path().join("templates/email/noted");
    fs::create_dir_all(&templates).unwrap();
    let report = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/email/report/");
    for file in ["subject.txt.hbs", "body.txt.hbs", "body.html.hbs"] {
        let text = fs::read_to_string(format!("{report}{file}")).unwrap();
        let note = "{{#if recipient.vars.note}}{{recipient.vars.note}}{{recipient.vars.note}}{{recipient.vars.note}}{{/if}}";
        let text = match file.contains("html") {
            true => text.replace(
                "{{#if count}}",
                &format!("<p>{note}</p>\n{{{{#if count}}}}"),
            ),
            false => text,
        };
        fs::write(templates.join(file), text).unwrap();
    }
    let dir = world.dir.path().join("templates");
    let mut world = world
        .configured(|config| config.templates.dir = Some(dir))
        .job(&order);
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mails = world.mails();
    assert_eq!(mails.len(), 3);
    let opened = world.open().await;
    for mail in &mails {
        assert_eq!(opened_by(&mail.hrefs).await.len(), 60, "{}", mail.to);
    }
    opened.close().await;
}

#[tokio::test]
async fn a_template_that_shows_no_link_hands_nothing_out() {
    let world = publishing(World::new().object("2026/Q3/a.pdf", "file 1"));
    let templates = world.dir.path().join("templates/email/silent");
    fs::create_dir_all(&templates).unwrap();
    fs::write(templates.join("subject.txt.hbs"), "Ready").unwrap();
    fs::write(templates.join("body.txt.hbs"), "{{count}} files are ready.").unwrap();
    fs::write(
        templates.join("body.html.hbs"),
        "<p>{{count}} files are ready.</p>",
    )
    .unwrap();
    let dir = world.dir.path().join("templates");
    let mut order = job("silent");
    order["email"]["template"] = json!("silent");
    let mut world = world
        .configured(|config| config.templates.dir = Some(dir))
        .job(&order);
    let output = handout_job(&world, "preview", &order, &[]);
    assert!(
        stderr(&output).contains("the mail template \"silent\" shows 0 of the job's 1 files"),
        "{}",
        stderr(&output)
    );
    world.run().await;
    assert_eq!(world.parked().await.len(), 1);
    assert!(world.audit_of("issue").is_empty());
}

#[tokio::test]
async fn a_template_with_loops_in_loops_parks_its_job_soon() {
    for levels in [3, 4] {
        let mut world = World::new();
        for number in 0..300 {
            world = world.object(&format!("2026/Q3/{number}.pdf"), "x");
        }
        let folder = world.dir.path().join("templates/email/looping");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("subject.txt.hbs"), "Ready").unwrap();
        fs::write(folder.join("body.html.hbs"), "<p>Ready</p>").unwrap();
        let (each, end) = ("{{#each @root.files}}", "{{/each}}");
        let loops = format!("{}{{{{name}}}}{}", each.repeat(levels), end.repeat(levels));
        fs::write(folder.join("body.txt.hbs"), loops).unwrap();
        let dir = world.dir.path().join("templates");
        let mut order = job("looping");
        order["email"]["template"] = json!("looping");
        let mut world = world
            .configured(|config| config.templates.dir = Some(dir))
            .job(&order);
        world.run().await;
        let parked = world.parked().await.join(" ");
        let sentence = "the template email/looping/body.txt.hbs";
        assert!(parked.contains(sentence), "{levels}: {parked}");
        assert!(
            parked.contains("it takes more than 10000000 steps"),
            "{parked}"
        );
    }
}

#[tokio::test]
async fn a_page_that_would_start_a_job_by_its_event_is_no_place() {
    let world = publishing(world_of(300, 4));
    let rule = world.dir.path().join("rule.json");
    fs::write(&rule, job("event").to_string()).unwrap();
    let world = world.configured(|config| {
        config.on_event.push(handout::config::OnEventConfig {
            bucket: "published".to_owned(),
            key: "auto/**".to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: rule,
        });
    });
    let output = handout_job(&world, "preview", &job("loop"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("of its 300 files"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_default_place_that_no_mail_can_link_is_refused_at_the_start() {
    for place in ["dir:/srv/pages", "published", "s3://"] {
        let world = World::new()
            .configured(|config| config.gallery.default_publish = Some(place.to_owned()));
        let output = handout_job(&world, "preview", &email_job("x"), &[]);
        assert_eq!(
            output.status.code(),
            Some(78),
            "{place}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("gallery.default_publish"),
            "{}",
            stderr(&output)
        );
    }
}

#[tokio::test]
async fn what_jobs_publish_inside_a_place_is_not_handed_out_by_the_next_job_of_the_place() {
    let mut gallery = email_job("gallery");
    gallery["gallery"] = json!({ "publish": { "bucket": "reports", "prefix": "media/pages/" } });
    let mut within = email_job("within");
    within["from"]["prefix"] = json!("media/pages/");
    let mut world = World::new()
        .object("media/a.csv", "a,b\n")
        .configured(|config| {
            config.allow[0].publish = vec!["s3://reports/media/pages/".to_owned()];
        })
        .job(&gallery);
    world.run().await;
    world = world.job(&email_job("all")).job(&within);
    world.run().await;
    let mails = world.mails();
    let of = |job: &str| {
        let subject = format!("Report {job}");
        let mail = mails.iter().find(|mail| mail.subject == subject);
        let mail = mail.unwrap_or_else(|| panic!("no mail of {job}"));
        mail.hrefs.clone()
    };
    let all = of("all");
    assert!(all.len() == 1 && all[0].contains("/media/a.csv"), "{all:?}");
    // A job that names the place of the pages means them.
    assert!(of("within")[0].contains("/media/pages/"));
}
