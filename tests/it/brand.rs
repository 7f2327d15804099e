//! The sender in mails and on pages: a name, a logo, colours, a footer, and messages of jobs. And the first page of many.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::check::Checked;
use crate::support::files::{sample, told_by};
use crate::support::portal::{OpenPortal, Visitor, portal_job, portal_world};
use crate::support::program;
use crate::support::servers::{Parts, browser_or_skip};
use crate::support::world::{World, email_job};

const FOOTER: [&str; 2] = [
    "Studio Nord GmbH · Hafenstraße 3 · 20457 Hamburg",
    "studio-nord.example",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A world whose mails and pages are those of a studio.
fn studio(logo: &str, accent: &str, background: Option<&str>) -> World {
    of_studio(World::new(), logo, accent, background)
}

fn of_studio(world: World, logo: &str, accent: &str, background: Option<&str>) -> World {
    world.configured(|config| {
        config.brand.name = Some("Studio Nord".to_owned());
        config.brand.logo_file = Some(fixture(logo));
        config.brand.accent = Some(accent.parse().unwrap());
        config.brand.background = background.map(|colour| colour.parse().unwrap());
        config.brand.footer = FOOTER.map(ToOwned::to_owned).to_vec();
        config.brand.personal_note = false;
    })
}

fn put(world: &World, key: &str, source: &Path) {
    let path = world.bucket("reports").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(source, path).unwrap();
}

const PICTURES: [&str; 6] = [
    "gallery/Day 1/Nebel über den Hügeln.jpg",
    "gallery/Day 2/Dunes + long shadows.jpg",
    "gallery/Day 1/Ann's night sky ✨.jpg",
    "gallery/Day 2/Panorama – Alpenglühen.jpg",
    "gallery/Day 1/Sunrise over the lake.jpg",
    "gallery/Day 2/Ballons über Südtirol 🎈.jpg",
];

/// Puts pictures of all shapes into one folder.
fn shoot(world: &World, folder: &str, count: usize) {
    for (number, source) in PICTURES.iter().cycle().take(count).enumerate() {
        put(
            world,
            &format!("{folder}/IMG_{number:04}.jpg"),
            &sample(source),
        );
    }
}

/// A shoot for readers of three languages, with a message and a gallery.
fn job(id: &str, template: &str, prefix: &str) -> Value {
    let message = json!({
        "en": "the pictures of Saturday are ready. <b>All</b> of them are yours for {{weeks}} weeks.\n\nWith best wishes from the harbour,\nJule & Tom",
        "de": "die Bilder vom Samstag sind fertig.\n\nHerzliche Grüße,\nJule & Tom",
        "ar": "صور يوم السبت جاهزة.\n\nمع أطيب التحيات،\nجوله وتوم",
        "ja": "土曜日の写真ができました。\n\nどうぞお楽しみください。\nジュレとトム",
    });
    let mut job = email_job(id);
    job["from"]["prefix"] = prefix.into();
    job["vars"] = json!({ "weeks": 2 });
    job["email"] = json!({
        "to": [
            "Ann Bell <ann@acme.example>",
            { "address": "layla@acme.example", "name": "ليلى حداد", "locale": "ar" },
            { "address": "yuki@acme.example", "name": "山田 由紀", "locale": "ja" },
        ],
        "template": template,
        "message": message,
    });
    job["gallery"] = json!({
        "title": "Ann & Bo at the harbour",
        "message": message,
        "publish": { "bucket": "published", "prefix": "g/" },
    });
    job
}

/// The pages of the mails that a preview of a job writes.
fn previewed(world: &World, job: &Value) -> Vec<String> {
    let config = world.written();
    let file = world.dir.path().join("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let out = world.dir.path().join(job["id"].as_str().unwrap());
    let output = Command::new(program())
        .args(["job", "preview", "--open"])
        .arg(&file)
        .arg("--config")
        .arg(config)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let paths = String::from_utf8(output.stdout).unwrap();
    let is_mail = |path: &&str| path.ends_with(".html") && path.contains("/mail-");
    paths
        .lines()
        .filter(is_mail)
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn the_mails_of_a_brand_read_well_on_a_phone_and_in_the_dark() {
    let Some(browser) = browser_or_skip("the_mails_of_a_brand_read_well") else {
        return;
    };
    let brands = [
        ("orange", "brand/logo.png", "#c2410c", Some("#fff7ed")),
        ("yellow", "brand/logo.svg", "#ffcc00", None),
        ("night", "brand/logo.png", "#101828", Some("#e4e7ec")),
    ];
    let mut mails = Vec::new();
    let mut worlds = Vec::new();
    for (name, logo, accent, background) in brands {
        let world = studio(logo, accent, background);
        shoot(&world, "shoot/Day 1", 4);
        shoot(&world, "shoot/Day 2", 3);
        for template in ["report", "digest", "gallery-invite"] {
            let mut job = job(&format!("{name}-{template}"), template, "shoot/");
            job["zip"] = json!({ "publish": { "bucket": "published", "prefix": "z/" } });
            let pages = previewed(&world, &job);
            assert_eq!(pages.len(), 3);
            for (language, page) in ["en", "ar", "ja"].into_iter().zip(pages) {
                let html = fs::read_to_string(&page).unwrap();
                let has_logo = html.contains("src=\"data:image/png;base64,");
                assert_eq!(has_logo, logo.ends_with("png"), "{name} {template}");
                // The colours of a brand are the same in each language.
                if language == "en" || name == "night" {
                    mails.push(format!("{name}-{template}-{language}={page}"));
                }
            }
        }
        worlds.push(world);
    }
    // Kept, to be looked at.
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/screenshots/brand");
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
    assert_eq!(seen["pictures"], mails.len() * (3 * 2 + 1));
}

#[tokio::test]
async fn a_logo_is_an_inline_part_of_each_mail() {
    let Some(parts) = Parts::or_skip("a_logo_is_an_inline_part_of_each_mail") else {
        return;
    };
    let mut world = studio("brand/logo.png", "#c2410c", None);
    shoot(&world, "shoot", 3);
    world = world.job(&job("logo", "gallery-invite", "shoot/"));
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let mails = world.mails();
    assert_eq!(mails.len(), 3);
    for (number, mail) in mails.iter().enumerate() {
        let file = world.dir.path().join(format!("{number}.eml"));
        fs::write(&file, &mail.eml).unwrap();
        let read = &parts.parse_mails(&[file])[0];
        assert_eq!(
            read["structure"],
            json!([
                "multipart/alternative",
                [
                    "text/plain",
                    ["multipart/related", ["text/html", "image/png"]]
                ]
            ])
        );
        assert_eq!(read["defects"], json!([]));
        assert_eq!(read["attachments"], json!([]), "no client lists it as one");
        let html = read["html"].as_str().unwrap();
        let id = html
            .split("src=\"cid:")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert!(mail.eml.contains(&format!("Content-ID: <{id}>\r\n")));
        for line in FOOTER {
            assert!(html.contains(line) && read["text"].as_str().unwrap().contains(line));
        }
        // What an outbox shows is a page of its own.
        assert!(mail.html.contains("src=\"data:image/png;base64,") && !mail.html.contains("cid:"));
        assert!(!html.contains("alone"));
    }
}

#[tokio::test]
async fn the_portal_shows_the_brand_and_the_message_of_the_job() {
    let Some(browser) = browser_or_skip("the_portal_shows_the_brand") else {
        return;
    };
    let brands = [
        (
            "portal-orange",
            "brand/logo.png",
            "#c2410c",
            Some("#fff7ed"),
        ),
        ("portal-yellow", "brand/logo.svg", "#ffcc00", None),
        ("portal-night", "brand/logo.png", "#101828", Some("#e4e7ec")),
    ];
    for (name, logo, accent, background) in brands {
        let mut world = of_studio(portal_world(|_| {}), logo, accent, background);
        shoot(&world, "shoot", 7);
        let mut job = job(name, "gallery-invite", "shoot/");
        job["links"] = json!({ "via": "portal", "expires_in": "7d", "disposition": "inline" });
        job["gallery"].as_object_mut().unwrap().remove("publish");
        world = world.job(&job);
        world.run().await;
        assert_eq!(world.parked().await, Vec::<String>::new());
        let portal = OpenPortal::serve(&world).await;
        let mails = world.mails();
        let list = |to: &str| {
            let mail = mails.iter().find(|mail| mail.to == to).unwrap();
            let mut links = mail.hrefs.iter();
            links.find(|url| url.contains("/j/")).unwrap().clone()
        };
        let first = Visitor::default().open(&list("ann@acme.example")).await;
        let (_, file) = first.body.split_once("href=\"/d/").unwrap();
        let file = portal.url(&format!("/d/{}", file.split('?').next().unwrap()));
        let pages = [
            ("list", list("ann@acme.example")),
            ("list-ar", list("layla@acme.example")),
            ("file", file),
            ("mine", portal.url("/mine")),
            ("unknown", portal.url("/elsewhere")),
        ];
        let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/screenshots/brand");
        let mut script: tokio::process::Command = browser.script("looks.mjs").into();
        let named = pages
            .iter()
            .map(|(page, url)| format!("{name}-{page}={url}"));
        let output = script.arg(pictures).args(named).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let seen: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(seen["complaints"], json!([]), "{name}");
        assert_eq!(seen["pictures"], pages.len() * 2 * 5);
        for (page, _) in &pages {
            let seen = &seen["seen"][format!("{name}-{page}")];
            assert!(seen["logo"].as_u64().unwrap() > 100, "{page}: {seen}");
            assert_eq!(seen["address"], FOOTER.join("\n"), "{page}");
        }
        let seen = |page: &str| &seen["seen"][format!("{name}-{page}")];
        assert_eq!(seen("list")["title"], "Ann & Bo at the harbour");
        assert_eq!(
            seen("list")["message"],
            json!([
                "the pictures of Saturday are ready. <b>All</b> of them are yours for 2 weeks.",
                "With best wishes from the harbour,\nJule & Tom"
            ])
        );
        assert_eq!(seen("list-ar")["message"][0], "صور يوم السبت جاهزة.");
        portal.close().await;
    }
}

#[tokio::test]
async fn a_portal_page_without_a_title_is_named_after_the_folder() {
    let mut world = portal_world(|_| {});
    shoot(&world, "weddings/Ann & Bo/01JD8XKQ6Z3M5N7P9R1T3V5W7Y", 1);
    let mut job = portal_job("wedding", json!({}));
    job["from"]["prefix"] = "weddings/Ann & Bo/01JD8XKQ6Z3M5N7P9R1T3V5W7Y/".into();
    job["email"].as_object_mut().unwrap().remove("subject");
    job["gallery"] = json!({});
    world = world.job(&job);
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let portal = OpenPortal::serve(&world).await;
    let mails = world.mails();
    let mut links = mails[0].hrefs.iter();
    let link = links.find(|url| url.contains("/j/")).unwrap();
    let page = Visitor::default().open(link).await;
    assert!(
        page.body.contains("<h1><bdi>Ann &amp; Bo</bdi></h1>"),
        "{page:?}"
    );
    portal.close().await;
}

#[test]
fn a_check_says_how_a_brand_is_shown() {
    let told = |world: &World| {
        let checked = Checked::of(world, &[]);
        let place = env!("CARGO_MANIFEST_DIR");
        checked.lines_about("brand").join("\n").replace(place, "…")
    };
    insta::assert_snapshot!(told(&studio("brand/logo.png", "#c2410c", None)), @r"
    ok brand: a logo of 240 × 60 px, 1401 bytes; 2 lines of footer
    warn brand.accent: links are shown in #c0400c, since text in the accent #c2410c has a contrast of 4.48:1 and needs 4.5:1 (WCAG 2.2 AA)
    ");
    insta::assert_snapshot!(told(&studio("brand/logo.svg", "#ffcc00", None)), @r"
    ok brand: a logo of 240 × 60 px, 269 bytes; 2 lines of footer
    warn brand.logo_file: mails show the name instead of the logo, since mail programs do not show SVG: use a PNG or a JPEG for both
    warn brand.accent: links are shown in #856a00, since text in the accent #ffcc00 has a contrast of 1.33:1 and needs 4.5:1 (WCAG 2.2 AA)
    ");
    insta::assert_snapshot!(told(&studio("pictures/camera.jpg", "#ffcc00", None)), @r"
    ok brand: a logo of 85 × 64 px, 3735 bytes; 2 lines of footer
    warn brand.accent: links are shown in #856a00, since text in the accent #ffcc00 has a contrast of 1.33:1 and needs 4.5:1 (WCAG 2.2 AA)
    ");
    insta::assert_snapshot!(told(&studio("brand/missing.png", "#ffcc00", None)), @"FAIL brand: the configuration's brand.logo_file names …/tests/fixtures/brand/missing.png, which cannot be read: No such file or directory (os error 2)");
    assert_eq!(told(&World::new()), "", "without a brand nothing is said");
}

#[tokio::test]
async fn a_message_that_cannot_be_filled_in_parks_the_job_before_a_link_is_made() {
    let mut world = World::new().object("a.pdf", "x");
    let mut unknown = email_job("unknown");
    unknown["email"]["message"] = json!("Dear {{recipient.nmae}}");
    let mut long = email_job("long");
    long["email"]["message"] = json!("{{lines}}");
    long["vars"] = json!({ "lines": "x\n".repeat(101) });
    let mut page = email_job("page");
    page["gallery"] = json!({ "message": { "en": "Dear {{recipient.name}}" }, "publish": { "bucket": "published" } });
    page.as_object_mut().unwrap().remove("email");
    for job in [&unknown, &long, &page] {
        world = world.job(job);
    }
    world.run().await;
    let mut reasons = world.parked().await;
    reasons.sort();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    the job's field email is missing, and gallery.message names the recipient: name the recipients in email.to
    the job's field email.message has 101 lines when it is filled in: at most 100 are allowed
    the job's field email.message uses {{recipient.nmae}}, which has no value here; known are: recipient.name, recipient.address, recipient.locale, job.id
    ");
    assert_eq!(world.audit_of("issue"), Vec::<Value>::new());
}

/// Reads pages in a browser; see `tests/browser/gallery.mjs`.
async fn read(mut node: Command, pages: &Value) -> Value {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/screenshots/brand");
    node.arg(pictures);
    told_by(node, pages).await
}

/// The address of a gallery's first page, as the mail of its job to Ann has it.
fn first_page(world: &World, job: &Value) -> String {
    let subject = job["email"]["subject"].as_str().map(ToOwned::to_owned);
    let mails = world.mails().into_iter();
    let mut mails = mails.filter(|mail| mail.to == "ann@acme.example");
    let mail = mails
        .find(|mail| {
            subject
                .as_ref()
                .is_none_or(|subject| mail.subject == *subject)
        })
        .unwrap();
    let mut hrefs = mail.hrefs.into_iter();
    hrefs.find(|href| href.contains("/index.html?")).unwrap()
}

#[tokio::test]
async fn pages_of_a_brand_have_rows_that_end_well_and_a_first_page_that_finds_every_file() {
    let Some(browser) = browser_or_skip("pages_of_a_brand") else {
        return;
    };
    let mut world = studio("brand/logo.png", "#c2410c", Some("#fff7ed"));
    world.config.gallery.page_size = 40;
    let one_page = |id: &str, count: usize| {
        let mut job = job(id, "gallery-invite", &format!("{id}/"));
        job["zip"] = json!({ "publish": { "bucket": "published", "prefix": "z/" } });
        job["email"]["subject"] = id.into();
        (job, count)
    };
    let jobs = [
        one_page("seventeen", 17),
        one_page("two", 2),
        one_page("one", 1),
        one_page("many", 100),
    ];
    for (job, count) in &jobs {
        let id = job["id"].as_str().unwrap();
        if *count < 100 {
            shoot(&world, id, *count);
        } else {
            for number in 0..*count {
                let day = number / 25 + 1;
                let name = format!("{id}/Day {day}/DSC_{number:04}.jpg");
                put(&world, &name, &fixture("pictures/camera.jpg"));
            }
            put(
                &world,
                &format!("{id}/Papers/Vertrag – Süd.pdf"),
                &sample("reports/Delivery report 2026-11-23.pdf"),
            );
        }
        world = world.job(job);
    }
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let opened = world.open().await;
    let url = |at: usize| first_page(&world, &jobs[at].0);
    // `pages.rs` looks at pages in all ways.
    let two_looks = ["desk-light", "phone-dark"];
    let pages = json!([
        { "name": "seventeen", "url": url(0), "stories": ["look", "rows", "fits"], "looks": two_looks },
        { "name": "two", "url": url(1), "stories": ["rows"] },
        { "name": "one", "url": url(2), "stories": ["rows"] },
        { "name": "many", "url": url(3), "stories": ["look", "rows", "search", "fits"], "looks": two_looks },
    ]);
    let seen = read(browser.script("gallery.mjs"), &pages).await;
    let mut held = Vec::new();
    crate::pages::complaints("", &seen, &mut held);
    assert_eq!(held, Vec::<String>::new());
    for name in ["seventeen", "many"] {
        assert_eq!(seen[name]["fits"]["out"], json!([]), "{name}");
    }
    for name in ["seventeen", "two", "one"] {
        for (width, rows) in seen[name]["rows"]["widths"].as_object().unwrap() {
            let heights: Vec<f64> = rows["heights"]
                .as_array()
                .unwrap()
                .iter()
                .map(|height| height.as_f64().unwrap())
                .collect();
            let base = rows["base"].as_f64().unwrap();
            for height in &heights {
                assert!(
                    *height <= base * 2.3,
                    "{name} {width}: {heights:?} of {base}"
                );
            }
            if let ([others @ .., last], true) = (&*heights, heights.len() > 2) {
                let tallest = others.iter().copied().fold(0.0, f64::max);
                assert!(*last <= tallest + 1.0, "{name} {width}: {heights:?}");
            }
        }
    }
    let search = &seen["many"]["search"];
    assert_eq!(
        search["covers"],
        4 + 4 + 4,
        "small pictures of each page with pictures"
    );
    assert_eq!(search["found"], json!(["Day 3/DSC_0057.jpg"]));
    assert_eq!(
        search["opened"],
        json!({ "page": "page-2.html", "lightbox": "DSC_0057.jpg" })
    );
    assert_eq!(search["without marks"], json!(["Papers/Vertrag – Süd.pdf"]));
    assert_eq!(search["many"], json!({ "count": "100", "hits": 100 }));
    assert_eq!(search["none"], true);
    opened.close().await;
}
