//! Renditions: what they show beside the browser's own picture, and galleries that have them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use handout::audit::record::Pseudonyms;
use handout::keyring::Keyring;
use handout::media::rendition::{RenditionImage, make};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use presign::signature_in;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::files::{files_below, told_by};
use crate::support::servers::{Browser, browser_or_skip};
use crate::support::world::{World, email_job, run_until_settled};
use crate::support::{program, published_text};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/renditions")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn data_uri(bytes: &[u8]) -> String {
    // A browser decides by the bytes and not by the type.
    format!("data:image/jpeg;base64,{}", Base64::encode_string(bytes))
}

/// Asks a browser; see `tests/browser/renditions.mjs`.
async fn look(browser: &Browser, asked: &Value) -> Value {
    told_by(browser.script("renditions.mjs"), asked).await
}

/// The JPEG with an EXIF orientation after its first marker.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif = b"\xFF\xE1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    let value = [orientation, 0, 0, 0, 0, 0, 0];
    [&jpeg[..2], exif, &value, &jpeg[2..]].concat()
}

#[tokio::test]
async fn renditions_look_as_a_browser_shows_their_pictures() {
    let Some(browser) = browser_or_skip("renditions_look_as_a_browser_shows") else {
        return;
    };
    let mut pictures = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        pictures.insert(name.clone(), fixture(&name));
    }
    for orientation in 1..=8 {
        let name = format!("turned-{orientation}.jpg");
        pictures.insert(name, turned(&fixture("progressive.jpg"), orientation));
    }
    let mut pairs = Vec::new();
    let mut left = Vec::new();
    for (name, bytes) in &pictures {
        let Ok(made) = make(bytes, &|| false) else {
            left.push(name.as_str());
            continue;
        };
        let mut pair = |what: &str, image: &RenditionImage| {
            pairs.push(json!({
                "name": format!("{name} {what}"),
                "picture": data_uri(bytes),
                "rendition": data_uri(&image.jpeg),
            }));
        };
        pair("small", &made.small);
        if let Some(large) = &made.large {
            pair("large", large);
        }
    }
    assert_eq!(
        left,
        [
            "clear.gif",
            "clear.png",
            "clear.webp",
            "gamma.png",
            "inks.jpg",
            "make.py",
        ],
        "transparent, of other colours, or no picture"
    );
    let seen = look(&browser, &json!({ "alike": pairs })).await;
    let seen = seen["alike"].as_object().unwrap();
    assert_eq!(seen.len(), pairs.len());
    for (name, told) in seen {
        let number = |what: &str| told[what].as_f64().unwrap_or(f64::INFINITY);
        let is_alike = number("mean") < 2.5 && number("most") < 12.0;
        assert!(is_alike, "{name}: {told}");
    }
}

/// A job of all objects for one recipient, with a page in a bucket.
fn job(id: &str) -> Value {
    let mut job = email_job(id);
    job["gallery"] =
        json!({ "title": "Shoot", "publish": { "bucket": "published", "prefix": "galleries/" } });
    job
}

fn put(world: &World, key: &str, bytes: &[u8]) {
    let path = world.bucket("reports").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The files below the place of pages whose names end so.
fn published(world: &World, ending: &str) -> Vec<PathBuf> {
    files_below(&world.bucket("published").join("galleries"), ending)
}

/// The links to renditions on a page, in the order of the page and each once.
fn rendition_links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    for part in page.split('"') {
        for url in part.split(' ') {
            let is_rendition = url.contains("-640.jpg?") || url.contains("-2048.jpg?");
            let url = url.replace("&amp;", "&");
            if is_rendition && !links.contains(&url) {
                links.push(url);
            }
        }
    }
    links
}

fn with_renditions() -> World {
    let mut world = World::new().configured(|config| config.gallery.renditions = true);
    world.config.gallery.rendition_threads = 2;
    for (key, name) in [
        ("a/halved.jpg", "halved.jpg"),
        ("a/p3.jpg", "p3.jpg"),
        ("b/animated.gif", "animated.gif"),
        ("b/clear.png", "clear.png"),
        ("b/inks.jpg", "inks.jpg"),
        ("b/plain.png", "plain.png"),
    ] {
        put(&world, key, &fixture(name));
    }
    put(&world, "c/cut.jpg", &fixture("halved.jpg")[..100_000]);
    put(&world, "c/text.jpg", b"no picture");
    put(&world, "c/notes.pdf", b"%PDF-1.4");
    world
}

#[tokio::test]
async fn a_job_without_a_place_to_make_renditions_leaves_its_slot_to_others() {
    let world = with_renditions();
    let opened = world.open().await;
    let places = &opened.services.presenting.renditions.places;
    assert_eq!(places.most(), world.config.queue.max_in_flight / 2);
    let of_others = (0..places.most()).map(|other| places.take(&format!("other-{other}")));
    let of_others: Vec<_> = of_others.map(Option::unwrap).collect();
    let submit = |job: Value| {
        let queue = std::sync::Arc::clone(&opened.queue);
        async move { queue.submit(&job.to_string()).await.unwrap() }
    };
    submit(job("shoot")).await;
    submit(email_job("small")).await;
    run_until_settled(&opened, 2).await;
    assert_eq!((world.mails().len(), world.waiting().await), (1, 1));
    assert_eq!(published(&world, "-640.jpg").len(), 0);
    drop(of_others);
    run_until_settled(&opened, 3).await;
    assert_eq!((world.mails().len(), world.waiting().await), (2, 0));
    assert_eq!(published(&world, "-640.jpg").len(), 4);
    let again: Vec<_> = (0..places.most())
        .map(|other| places.take(&format!("other-{other}")))
        .collect();
    assert!(
        again.iter().all(Option::is_some),
        "the job has left its place"
    );
    opened.close().await;
}

#[tokio::test]
async fn a_page_shows_renditions_and_their_links_have_one_audit_line() {
    let mut world = with_renditions().job(&job("shoot"));
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    assert_eq!(published(&world, "-640.jpg").len(), 4);
    assert_eq!(
        published(&world, "-2048.jpg").len(),
        3,
        "none of an animation"
    );

    let page = published_text(&published(&world, "index.html")[0]);
    let links = rendition_links(&page);
    assert_eq!(links.len(), 7);
    for (name, is_rendered) in [
        ("halved.jpg", true),
        ("animated.gif", true),
        ("clear.png", false),
        ("inks.jpg", false),
        ("cut.jpg", false),
    ] {
        let (_, card) = page.split_once(&format!("aria-label=\"{name}\"")).unwrap();
        let (card, _) = card.split_once("</tr>").unwrap();
        assert_eq!(card.contains("class=\"view\""), is_rendered, "{name}");
        assert!(
            card.contains(&format!("%22{name}%22")) || card.contains(name),
            "{name}"
        );
    }

    let lines = world.audit_of("renditions");
    assert_eq!(lines.len(), 1);
    let schema = jsonschema::validator_for(&handout::audit::schema::schema()).unwrap();
    schema.validate(&lines[0]).unwrap();
    assert_eq!(lines[0]["count"], 7);
    assert_eq!(lines[0]["bucket"], "published");
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let names = Pseudonyms::new(&keyring, false);
    let mut digest = Sha256::new();
    for link in &links {
        let id = lines[0]["link_id"].as_str().unwrap();
        assert!(link.contains(&format!("x-handout={id}")), "one id for all");
        digest.update(names.fingerprint(&signature_in(link).unwrap()) + "\n");
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(lines[0]["links"], format!("sha256:{digest}"));

    // Each link opens its rendition, and the log names the line of any of them.
    let opened = world.open().await;
    for link in &links {
        let (status, bytes) = crate::support::get(link).await;
        assert_eq!((status, &bytes[..3]), (200, b"\xFF\xD8\xFF".as_slice()));
    }
    opened.close().await;
    let found = std::process::Command::new(program())
        .args(["audit", "find", "--url", &links[3], "--config"])
        .arg(world.written())
        .output()
        .unwrap();
    let (lines, told) = (&found.stdout, String::from_utf8_lossy(&found.stderr));
    let line: Value = serde_json::from_slice(lines).unwrap();
    assert_eq!(line["ev"], "renditions");
    assert!(
        told.contains("ann@acme.example") && !told.contains("changed"),
        "{told}"
    );
}

#[tokio::test]
async fn a_page_in_a_directory_shows_renditions_beside_it() {
    let mut world = with_renditions();
    let dir = world.dir.path().join("pages");
    let mut job = job("shoot");
    job["gallery"]["publish"] = json!({ "dir": dir });
    world = world.job(&job);
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    assert_eq!(world.audit_of("renditions"), Vec::<Value>::new());
    let mut pages = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let page = pages
        .find(|folder| folder.join("index.html").exists())
        .unwrap();
    let html = fs::read_to_string(page.join("index.html")).unwrap();
    assert!(
        html.contains("img-src &#39;self&#39; "),
        "the policy permits them"
    );
    let places = html.split("src=\"../").skip(1);
    let places: Vec<&str> = places.map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(places.len(), 4);
    for place in places {
        let bytes = fs::read(dir.join(place)).unwrap();
        assert!(bytes.starts_with(b"\xFF\xD8\xFF"));
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_job_that_runs_again_makes_no_renditions_again() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::ExitStatusExt;

    let world = World::new().configured(|config| config.gallery.renditions = true);
    put(&world, "a.jpg", &fixture("progressive.jpg"));
    put(&world, "b.gif", &fixture("animated.gif"));
    let config = world.written();
    let file = world.dir.path().join("job.json");
    fs::write(&file, job("again").to_string()).unwrap();
    let mut run = std::process::Command::new(program());
    run.args(["job", "run"]).arg(&file);
    run.arg("--config").arg(config);
    let files = || {
        let files = published(&world, ".jpg").into_iter();
        let files = files.map(|path| (fs::metadata(&path).unwrap().ino(), path));
        files.collect::<Vec<_>>()
    };

    let killed = run.env("HANDOUT_FAILPOINT", "published").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    let first = files();
    assert_eq!(first.len(), 3);
    assert!(world.mails().is_empty());
    let ran = run.env_remove("HANDOUT_FAILPOINT").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(world.mails().len(), 1);
    assert_eq!(files(), first, "no file was replaced");
}

/// A gallery of as many photos as a shoot has.
const SHOOT: usize = 48;

/// A photo of waves and grain, whose renditions have as many bytes as those of a camera's photo.
fn photo() -> Vec<u8> {
    const WIDTH: u16 = 900;
    const HEIGHT: u16 = 600;
    let mut pixels = Vec::with_capacity(usize::from(WIDTH) * usize::from(HEIGHT));
    let mut noise: u32 = 1;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = f64::from(noise >> 25) * 0.55;
            let (across, down) = (f64::from(x) / 25.0, f64::from(y) / 20.0);
            let wave = 60.0 + 50.0 * across.sin() * down.cos();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 10 and 180"
            )]
            pixels.push((wave + grain) as u8);
        }
    }
    let colours: Vec<u8> = pixels
        .iter()
        .flat_map(|&v| [v, v / 2 + 60, 240 - v / 2])
        .collect();
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 92);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let encoded = encoder.encode(&colours, WIDTH, HEIGHT, ColorType::Rgb);
    encoded.unwrap();
    jpeg
}

#[tokio::test]
async fn a_shoot_is_seen_soon_and_its_files_are_saved_under_their_names() {
    let Some(browser) = browser_or_skip("a_shoot_is_seen_soon") else {
        return;
    };
    let mut world = World::new().configured(|config| config.gallery.renditions = true);
    world.config.gallery.rendition_threads = 2;
    let photo = photo();
    let small = make(&photo, &|| false).unwrap().small.jpeg.len();
    assert!(
        (40_000..75_000).contains(&small),
        "{small} bytes are not those of a photo"
    );
    for number in 0..SHOOT {
        // Every fifth is upright.
        let orientation = if number % 5 == 4 { 6 } else { 1 };
        put(
            &world,
            &format!("IMG_{number:04}.jpg"),
            &turned(&photo, orientation),
        );
    }
    let mut job = job("shoot");
    job["links"] = json!({ "disposition": "attachment", "expires_in": "7d" });
    world = world.job(&job);
    world.run().await;
    let opened = world.open().await;
    let mail = world.mails().remove(0);
    let mut hrefs = mail.hrefs.into_iter();
    let url = hrefs.find(|href| href.contains("/index.html?")).unwrap();
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/screenshots/renditions");
    let asked = json!({ "page": { "url": url, "pictures": pictures } });
    let seen = look(&browser, &asked).await;
    opened.close().await;
    let page = &seen["page"];
    println!("{page:#}");
    for (device, most_bytes) in [("desk", 1_500_000.0), ("phone", 600_000.0)] {
        let told = &page[device];
        assert!(
            told["bytes"].as_f64().unwrap() <= most_bytes,
            "{device}: {told}"
        );
        assert_eq!(told["complaints"], json!([]), "{device}");
        assert_eq!(told["largest_is_picture"], true, "{device}: {told}");
        assert!(
            told["top"].as_f64().unwrap() < told["screen"].as_f64().unwrap(),
            "{device}: {told}"
        );
        // What browsers call good; how much moves depends on when scripts arrive.
        assert!(told["moved"].as_f64().unwrap() < 0.1, "{device}: {told}");
        // How soon is printed: the time of a busy machine decides nothing.
        assert!(told["first"].is_number(), "{device}: {told}");
        // Of an upright photo of 900 pixels, the large rendition is hardly larger, and a phone may choose it.
        let first = if device == "desk" { SHOOT } else { 4 };
        let asked = told["pictures"].as_array().unwrap();
        let is_rendition = |name: &&Value| name.as_str().unwrap().ends_with("-640.jpg");
        assert!(
            asked.iter().take(first).all(|name| is_rendition(&name)),
            "{device}: {asked:?}"
        );
    }
    assert_eq!(page["widths"]["out"], json!([]));
    assert_eq!(page["widths"]["axe"], json!({ "list": [], "pictures": [] }));
    let lightbox = &page["lightbox"];
    assert_eq!(lightbox["complaints"], json!([]));
    assert_eq!(lightbox["shown"]["width"], 900, "{lightbox}");
    assert_eq!(lightbox["fromLightbox"], json!(["IMG_0000.jpg"]));
    assert_eq!(lightbox["fromCard"], json!(["IMG_0001.jpg"]));
    assert_eq!(lightbox["offered"], "Download selected (3)");
    let chosen = ["IMG_0000.jpg", "IMG_0002.jpg", "IMG_0003.jpg"];
    assert_eq!(lightbox["fromSelection"], json!(chosen));
    assert_eq!(lightbox["left"], false);
    let missing = &page["missing"];
    assert_eq!(missing["grid"], "IMG_0000.jpg", "{missing}");
    assert_eq!(missing["box"], "IMG_0000.jpg");
    assert_eq!(missing["failed"], false);
}
