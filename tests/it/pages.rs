//! What a person sees, in a real browser: galleries of every size, and the mails of a demo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use handout::assemble::Opened;
use handout::config::RevokeMeans;
use serde_json::{Value, json};

use crate::support::files::{sample, told_by};
use crate::support::servers::browser_or_skip;
use crate::support::world::{World, email_job};
use crate::support::{get, hrefs, program, until};

/// Names as a press office has them, and one that a spreadsheet would run.
const TWELVE: [(&str, &str); 12] = [
    (
        "Day 1/Ann's night sky ✨.jpg",
        "gallery/Day 1/Ann's night sky ✨.jpg",
    ),
    ("Day 1/Music box 🎵.mp3", "gallery/Day 1/Music box 🎵.mp3"),
    (
        "Day 1/Nebel über den Hügeln.jpg",
        "gallery/Day 1/Nebel über den Hügeln.jpg",
    ),
    (
        "Day 1/Sunrise over the lake.jpg",
        "gallery/Day 1/Sunrise over the lake.jpg",
    ),
    (
        "Day 2/Ballons über Südtirol 🎈.jpg",
        "gallery/Day 2/Ballons über Südtirol 🎈.jpg",
    ),
    (
        "Day 2/Dunes + long shadows.jpg",
        "gallery/Day 2/Dunes + long shadows.jpg",
    ),
    (
        "Day 2/Panorama – Alpenglühen.jpg",
        "gallery/Day 2/Panorama – Alpenglühen.jpg",
    ),
    (
        "Day 2/Zeitraffer – dawn in 3 s.mp4",
        "gallery/Day 2/Zeitraffer – dawn in 3 s.mp4",
    ),
    ("Logo (transparent).png", "gallery/Logo (transparent).png"),
    ("Papers/=1+1;＝2.csv", "reports/orders 2026-11-23.csv"),
    ("Papers/Raw/IMG_2034.heic", "gallery/Logo (transparent).png"),
    (
        "Papers/it's (final).pdf",
        "reports/Delivery report 2026-11-23.pdf",
    ),
];

/// Puts real files under `prefix`: the twelve, or photos of ten days.
fn fill(world: &World, prefix: &str, count: usize) {
    let put = |key: &str, source: &Path| {
        let path = world.bucket("reports").join(prefix).join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A link where it can be one: ten thousand copies would be half a gigabyte.
        if fs::hard_link(source, &path).is_err() {
            fs::copy(source, &path).unwrap();
        }
    };
    if count == TWELVE.len() {
        TWELVE
            .iter()
            .for_each(|(key, source)| put(key, &sample(source)));
        return;
    }
    let photos: Vec<PathBuf> = TWELVE
        .iter()
        .filter(|(key, _)| key.ends_with(".jpg"))
        .map(|(_, source)| sample(source))
        .collect();
    for number in 0..count {
        let day = number * 10 / count.max(10) + 1;
        put(
            &format!("Day {day:02}/IMG_{number:05}.jpg"),
            &photos[number % photos.len()],
        );
    }
}

/// A gallery of `count` files and the mail that leads to it.
fn gallery_job(world: &World, count: usize) -> Value {
    let mut job = email_job(&format!("gallery-{count}"));
    job["from"]["prefix"] = json!(format!("{count}/"));
    job["from"]["when_empty"] = json!("deliver");
    job["links"] = json!({ "disposition": "inline", "expires_in": "7d" });
    let place = match count {
        0 => json!({ "dir": world.dir.path().join("pages") }),
        _ => json!({ "bucket": "published", "prefix": "g/" }),
    };
    job["gallery"] = json!({ "title": format!("{count} pictures"), "publish": place });
    job
}

/// The links of a job by its audit lines, which is where every link of a page must be.
fn audited(world: &World, count: usize) -> BTreeSet<String> {
    let lines = world.audit_of("issue").into_iter();
    lines
        .filter(|line| line["job"] == format!("gallery-{count}"))
        .map(|line| line["link_id"].as_str().unwrap().to_owned())
        .collect()
}

/// The identity that is signed into a link.
fn link_id(url: &str) -> Option<String> {
    let values = url
        .split(['?', '&'])
        .filter_map(|pair| pair.split_once('='));
    values
        .map(|(_, value)| value)
        .find(|value| value.len() == 32 && value.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(ToOwned::to_owned)
}

fn link_ids(seen: &Value) -> BTreeSet<String> {
    let links = seen["links"].as_array().unwrap().iter();
    links
        .map(|url| link_id(url.as_str().unwrap()).expect("every link has an identity"))
        .collect()
}

/// The address of a gallery's first page, as its mail has it.
fn first_page(world: &World, count: usize) -> String {
    let subject = format!("Report gallery-{count}");
    let mail = world
        .mails()
        .into_iter()
        .find(|mail| mail.subject == subject);
    let mut hrefs = mail.expect("the job's mail").hrefs.into_iter();
    hrefs.find(|href| href.contains("/index.html?")).unwrap()
}

/// The page of the gallery without a file: its mail has no link to it, so it lies in a directory.
fn empty_page(world: &World) -> String {
    let mut folders = fs::read_dir(world.dir.path().join("pages")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    format!("file://{}", folder.join("index.html").display())
}

/// Reads pages in a browser; see `tests/browser/gallery.mjs`.
async fn read(mut node: Command, pages: &Value) -> Value {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/screenshots/gallery");
    node.arg(pictures);
    told_by(node, pages).await
}

/// Everything that a browser or axe-core held against a page, wherever it stands in what was seen.
pub(crate) fn complaints(place: &str, seen: &Value, all: &mut Vec<String>) {
    match seen {
        Value::Object(fields) => {
            for (name, value) in fields {
                let within = format!("{place} {name}");
                match (name.as_str(), value) {
                    ("complaints", Value::Array(found)) => {
                        all.extend(found.iter().map(|what| format!("{place}: {what}")));
                    }
                    ("axe", Value::Object(judged)) => {
                        for (what, found) in judged {
                            let found = found.as_array().unwrap().iter();
                            all.extend(found.map(|rule| format!("{place} {what}: {rule}")));
                        }
                    }
                    ("sideways", Value::Bool(true)) => {
                        all.push(format!("{place}: can be pushed sideways"));
                    }
                    _ => complaints(&within, value, all),
                }
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| complaints(place, value, all)),
        _ => {}
    }
}

/// The hosts that pages asked, wherever they stand in what was seen.
fn hosts(seen: &Value, all: &mut BTreeSet<String>) {
    if let Value::Object(fields) = seen {
        for (name, value) in fields {
            match value {
                Value::Array(found) if name == "hosts" => {
                    all.extend(found.iter().map(|host| host.as_str().unwrap().to_owned()));
                }
                value => hosts(value, all),
            }
        }
    }
}

const SIZES: [usize; 5] = [0, 1, 12, 1000, 10_000];

/// A world with a gallery of each size, all published.
async fn galleries() -> (World, Opened) {
    // The pass over pictures has its own tests; here, some are known and some are not.
    let mut world = World::new().configured(|config| config.gallery.picture_limit = 100);
    for count in SIZES {
        fill(&world, &count.to_string(), count);
        let job = gallery_job(&world, count);
        world = world.job(&job);
    }
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let opened = world.open().await;
    (world, opened)
}

#[tokio::test]
async fn galleries_of_every_size_are_pages_that_everyone_can_use() {
    let Some(browser) = browser_or_skip("galleries_of_every_size") else {
        return;
    };
    let (world, opened) = galleries().await;
    let index = first_page(&world, 10_000);
    let leaves = hrefs(&String::from_utf8(get(&index).await.1).unwrap());
    assert_eq!(leaves.len(), 10, "an index of ten pages");
    let two_looks = ["desk-light", "phone-dark"];
    let pages = json!([
        { "name": "0", "url": empty_page(&world), "stories": ["look"], "looks": two_looks },
        { "name": "1", "url": first_page(&world, 1), "stories": ["glance"] },
        { "name": "12", "url": first_page(&world, 12), "stories": ["look", "plain", "keys", "swipe", "tools", "time", "fits"] },
        { "name": "1000", "url": first_page(&world, 1000), "stories": ["speed", "glance"] },
        { "name": "10000-index", "url": index, "stories": ["look", "fits"], "looks": two_looks },
        { "name": "10000-first", "url": leaves[0], "stories": ["glance"] },
        { "name": "10000-last", "url": leaves[9], "stories": ["glance"] },
    ]);
    let seen = read(browser.script("gallery.mjs"), &pages).await;

    let mut held = Vec::new();
    complaints("", &seen, &mut held);
    assert_eq!(held, Vec::<String>::new());
    let mut asked = BTreeSet::new();
    hosts(&seen, &mut asked);
    for own in ["data:", "file:"] {
        asked.remove(own);
    }
    let own = world.config.embedded.listen.to_string();
    assert_eq!(asked, BTreeSet::from([own]), "no page asks anybody else");

    for (look, told) in seen["12"]["look"].as_object().unwrap() {
        assert_eq!(
            told["loaded"], told["images"],
            "{look}: every picture is there"
        );
        assert_eq!(told["images"], 8, "{look}: seven pictures and the lightbox");
        assert_eq!(told["ended"], true, "{look}");
    }
    for (name, count) in [("1", 1), ("12", 12), ("1000", 1000)] {
        let told = &seen[name]["glance"];
        let told = if told.is_null() {
            &seen[name]["look"]["desk-light"]
        } else {
            told
        };
        assert!(told["loaded"].as_u64().unwrap() > 1, "{name}");
        assert_eq!(
            link_ids(told),
            audited(&world, count),
            "{name}: each link has its line"
        );
    }
    let all = audited(&world, 10_000);
    for name in ["10000-first", "10000-last"] {
        let ids = link_ids(&seen[name]["glance"]);
        assert!(ids.len() == 1000 && ids.is_subset(&all), "{name}");
    }
    for name in ["12", "10000-index"] {
        let out = &seen[name]["fits"]["out"];
        assert_eq!(out, &json!([]), "{name}: every menu fits at every width");
    }
    without_scripts(&seen["12"]["plain"]);
    with_the_keyboard(&seen["12"]["keys"]);
    with_a_finger(&seen["12"]["swipe"]);
    with_the_tools(&seen["12"]["tools"]).await;
    by_a_clock(&seen["12"]["time"]);
    print_speed(&seen["1000"]["speed"]);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_picture_leaves_a_sentence_and_its_link_says_that_it_was_withdrawn() {
    let Some(browser) = browser_or_skip("a_withdrawn_picture") else {
        return;
    };
    let mut world = World::new().configured(|config| {
        config.revoke.apply = vec![RevokeMeans::Ledger, RevokeMeans::Tag];
    });
    fill(&world, "12", 12);
    let job = gallery_job(&world, 12);
    world = world.job(&job);
    world.run().await;
    let config = world.written();
    let opened = world.open().await;
    let (key, _) = TWELVE
        .iter()
        .find(|(key, _)| key.ends_with(".jpg"))
        .unwrap();
    let object = format!("s3://reports/12/{key}");
    let mut revoke = Command::new(program());
    revoke.args(["revoke", "object", &object, "--apply", "--config"]);
    let revoked = revoke.arg(config).output().unwrap();
    assert!(
        revoked.status.success(),
        "{}",
        String::from_utf8_lossy(&revoked.stderr)
    );
    let pages = json!([{ "name": "12", "url": first_page(&world, 12), "stories": ["withdrawn"] }]);
    let seen = read(browser.script("gallery.mjs"), &pages).await;
    let told = &seen["12"]["withdrawn"];
    assert_eq!(told["pictures"], 6, "{told}");
    let sentence = "This picture could not be loaded. It may have been withdrawn.";
    assert_eq!(told["lost"], json!([sentence]));
    assert_eq!(told["title"], "This link was withdrawn");
    opened.close().await;
}

fn with_a_finger(told: &Value) {
    let places = ["opened", "left", "left again", "right", "a little", "down"];
    let seen = places.map(|swipe| told[swipe].as_str().unwrap_or_default());
    assert_eq!(seen, ["1 / 7", "2 / 7", "3 / 7", "2 / 7", "2 / 7", "2 / 7"]);
    assert_eq!(told["open"], 1);
}

fn without_scripts(told: &Value) {
    assert_eq!(told["tools"], 0, "nothing is offered that needs a script");
    assert_eq!(
        told["list"],
        json!({ "table": "table", "row": "table-row", "cell": "table-cell" })
    );
    assert_ne!(told["pictures"]["table"], "table");
    let steps = [&told["opened"], &told["next"], &told["closed"]];
    let told = steps.map(|step| format!("{} {}", step["row"], step["whole"]));
    assert_eq!(told, ["\"i1\" true", "\"i3\" true", "null false"]);
}

fn with_the_keyboard(told: &Value) {
    assert_eq!(
        told["way"],
        json!([
            "as-pictures",
            "find",
            "kind",
            "order",
            "summary",
            "summary",
            "p1"
        ]),
        "the way to the first picture, in the order of the page"
    );
    assert_eq!(
        told["opened"],
        json!({ "open": 1, "hash": "#i1", "place": "1 / 7" })
    );
    assert_eq!(
        told["moves"],
        json!([
            "ArrowRight 2 / 7",
            "End 7 / 7",
            "ArrowRight 1 / 7",
            "Home 1 / 7",
            "ArrowLeft 7 / 7",
            "ArrowLeft 6 / 7"
        ])
    );
    let stays = told["inside"].as_array().unwrap().iter();
    // Chromium goes through its own window on the way around.
    assert!(
        stays
            .clone()
            .all(|place| place == "inside" || place == "BODY"),
        "{stays:?}"
    );
    assert_eq!(
        told["closed"],
        json!({ "open": 0, "hash": "", "place": "6 / 7", "returned": true })
    );
    assert_eq!(
        (&told["back"]["open"], &told["deep"]),
        (&json!(0), &json!(true))
    );
}

async fn with_the_tools(told: &Value) {
    let all = told["all"].as_array().unwrap();
    assert_eq!(all.len(), 12);
    assert_eq!(
        told["found"],
        json!(["Nebel über den Hügeln.jpg", "Ballons über Südtirol 🎈.jpg"]),
        "without marks and capitals"
    );
    assert_eq!(told["count"], "2 / 12");
    assert_eq!(told["none"], json!({ "files": [], "note": true }));
    assert_eq!(told["sounds"], json!(["Music box 🎵.mp3"]));
    assert_eq!(told["order name"][0], "=1+1;＝2.csv");
    assert_eq!(told["order largest"][0], "Panorama – Alpenglühen.jpg");
    assert_eq!(&told["order"], &told["all"], "and back");
    assert_eq!(told["said"], "Copied");
    let copied = told["copied"].as_array().unwrap();
    assert_eq!((copied.len(), &copied[0]), (12, &told["copied_one"]));

    let csv = told["csv"]["text"].as_str().unwrap();
    assert_eq!(told["csv"]["name"], "12 pictures.csv");
    assert!(csv.starts_with("\u{FEFF}\"folder\",\"name\",") && csv.matches("\r\n").count() == 13);
    assert!(
        csv.contains("\"Papers\",\"'=1+1;'＝2.csv\","),
        "no cell is a formula"
    );
    fetched_by(told["sh"]["text"].as_str().unwrap()).await;
}

/// Runs the script that the page made, and looks at what it fetched.
async fn fetched_by(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("get.sh"), script).unwrap();
    let mut shell = tokio::process::Command::new("sh");
    let output = shell
        .arg("get.sh")
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (key, source) in TWELVE {
        let fetched = fs::read(folder.path().join(key)).unwrap_or_default();
        assert!(fetched == fs::read(sample(source)).unwrap(), "{key}");
    }
}

fn by_a_clock(told: &Value) {
    let seen = |when: &str| ["left", "note", "clock"].map(|part| told[when][part] == true);
    assert_eq!(
        seen("behind"),
        [false, false, true],
        "a clock that lags is not believed"
    );
    assert_eq!(seen("within"), [true, false, false]);
    assert_eq!(
        told["within"]["words"], "in 7 days",
        "a link of 7 days, a moment old"
    );
    assert_eq!(told["later"]["words"], "in 6 days");
    assert_eq!(seen("after"), [false, true, false]);
    let ask = told["after"]["ask"].as_str().unwrap();
    assert!(
        ask.starts_with("mailto:") && ask.contains("gallery-12"),
        "{ask}"
    );
}

#[expect(
    clippy::print_stderr,
    reason = "a number to look at: a busy machine must not fail the suite"
)]
fn print_speed(told: &Value) {
    eprintln!(
        "1,000 pictures answer {} ms after an empty cache was asked (goal: 1,000)",
        told["answers"]
    );
}

/// How many mails the demo sends, two of them with links of the portal.
const MAILS_OF_DEMO: usize = 6;

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
            (demo.mails().len() == MAILS_OF_DEMO).then_some(())
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
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn mails_open_in_a_browser_without_a_complaint() {
    let Some(browser) = browser_or_skip("mails_open_in_a_browser") else {
        return;
    };
    let demo = Demo::start().await;
    let picture = demo.dir.path().join("mail.png");
    for mail in demo.mails() {
        for (width, arguments) in [
            (1000, ["--width", "1000", "--full"].as_slice()),
            (320, &["--width", "320"]),
        ] {
            let seen = browser.shoot(&format!("file://{mail}"), &picture, arguments);
            let wrong = ["console_errors", "csp_violations", "failed_requests"]
                .map(|list| seen[list].to_string());
            assert_eq!(wrong, ["[]", "[]", "[]"]);
            assert_eq!(seen["broken_images"], 0);
            assert!(
                seen["scroll_width"].as_u64().unwrap() <= width,
                "nothing stands out at {width}: {seen}"
            );
        }
    }
}
