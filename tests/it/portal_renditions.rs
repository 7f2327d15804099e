//! The portal's page with renditions of pictures: signed on the page, or through the portal.

use handout::config::PortalDelivery;
use serde_json::json;

use crate::support::answer;
use crate::support::portal::{NAVIGATES, OpenPortal, Visitor, portal_job, portal_world};
use crate::support::world::{SeenMail, World};

/// The headers of an image of a page of the portal.
const EMBEDS: [(&str, &str); 4] = [
    ("accept", "image/*,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-dest", "image"),
];

fn picture() -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(folder.join("tests/fixtures/renditions/halved.jpg")).unwrap()
}

/// A world that has mailed a shoot of a picture and a text, with renditions.
async fn mailed(deliver: PortalDelivery) -> (World, SeenMail) {
    let mut job = portal_job("shoot", json!({}));
    job["gallery"] =
        json!({ "title": "Shoot", "renditions": { "bucket": "published", "prefix": "small/" } });
    let world = portal_world(|portal| portal.deliver = deliver);
    let mut world = world
        .configured(|config| config.gallery.renditions = true)
        .object("2026/note.txt", "a note")
        .job(&job);
    let file = world.bucket("reports").join("2026/a.jpg");
    std::fs::write(file, picture()).unwrap();
    world.run().await;
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "{:?}", world.parked().await);
    (world, mails.into_iter().next().unwrap())
}

/// The source of the only picture of a gallery, and the largest one that it offers.
fn image(page: &str) -> (String, String) {
    let (_, rest) = page.split_once("<img class=\"view\" src=\"").unwrap();
    let source = rest.split('"').next().unwrap().replace("&amp;", "&");
    let largest = rest.split_once(" srcset=\"").map(|(_, rest)| {
        let set = rest.split('"').next().unwrap().replace("&amp;", "&");
        let last = set.split(", ").last().unwrap();
        last.split(' ').next().unwrap().to_owned()
    });
    (source.clone(), largest.unwrap_or(source))
}

fn is_rendition(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xFF\xD8") && bytes.len() < picture().len()
}

#[tokio::test]
async fn a_page_of_the_portal_shows_small_pictures_by_signed_links() {
    let (world, mail) = mailed(PortalDelivery::Redirect).await;
    let portal = OpenPortal::serve(&world).await;
    let link = mail.hrefs.iter().find(|url| url.contains("/j/")).unwrap();
    let page = Visitor::default().open(link).await;
    let (source, largest) = image(&page.body);
    assert!(source.contains("-640.jpg?"), "{source}");
    assert!(largest.contains("-2048.jpg?"), "{largest}");
    for source in [source, largest] {
        assert!(source.contains("/published/small/"), "{source}");
        let (status, headers, bytes) = answer(&source).await;
        assert_eq!((status, is_rendition(&bytes)), (200, true), "{headers:?}");
    }
    let views = world.audit_of("view");
    // The picture itself, and its renditions.
    assert_eq!(views[0]["signed"], 3, "{views:?}");
    portal.close().await;
}

#[tokio::test]
async fn a_portal_that_streams_serves_the_small_picture_itself() {
    let (world, mail) = mailed(PortalDelivery::Stream).await;
    let portal = OpenPortal::serve(&world).await;
    let link = mail.hrefs.iter().find(|url| url.contains("/j/")).unwrap();
    let reader = Visitor::default();
    let page = reader.get(link, &NAVIGATES).await;
    let (source, _) = image(&page.body);
    assert!(
        source.starts_with("/d/") && source.ends_with("&s=small"),
        "{source}"
    );
    let shown = reader.get(&portal.url(&source), &EMBEDS).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let length: usize = shown.header("content-length").parse().unwrap();
    assert!(length < picture().len(), "{length}");
    let opened = world.audit_of("opened");
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["how"], "embed");
    assert!(opened[0]["key"].as_str().unwrap().starts_with("small/"));
    // The file itself is saved from the same page.
    let whole = source.trim_end_matches("&s=small");
    let saved = reader.get(&portal.url(whole), &NAVIGATES).await;
    let length: usize = saved.header("content-length").parse().unwrap();
    assert_eq!(length, picture().len());
    portal.close().await;
}
