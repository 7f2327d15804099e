//! Tests of `render/gallery.rs`.

use base64ct::{Base64, Encoding};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::samples::*;
use super::super::syntax::inline_blocks;
use super::super::{Brand, Logo};
use super::*;
use crate::links::{Link, Unlinkable};

fn photos(page_size: usize) -> Plan {
    let over =
        json!({ "gallery": { "title": "Three days", "publish": { "dir": "/srv/galleries" } } });
    let mut plan = plan("photos/", &over);
    plan.gallery.as_mut().unwrap().page_size = page_size;
    plan
}

fn batch(keys: std::ops::Range<usize>) -> AuditedLinks {
    audited(
        keys.map(|n| link(&format!("photos/{n}.jpg"), 1000))
            .collect(),
        &[],
    )
}

#[test]
fn pages_are_named_after_how_many_there_are() {
    assert_eq!(Gallery::file_names(0, 10), ["index.html"]);
    assert_eq!(Gallery::file_names(10, 10), ["index.html"]);
    assert_eq!(
        Gallery::file_names(11, 10),
        ["index.html", "page-1.html", "page-2.html"]
    );
}

#[test]
fn a_page_is_rendered_as_soon_as_it_is_full() {
    let (plan, templates, settings) = (photos(10), templates(), settings());
    let mut gallery = Gallery::begin(
        &templates,
        &plan,
        &Audience::Everyone,
        25,
        PageLinks::Relative,
        &settings,
    )
    .unwrap();
    let names = |pages: Vec<RenderedPage>| {
        pages
            .into_iter()
            .map(|page| page.file_name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(
            gallery
                .push(
                    &batch(0..9),
                    &Pictures::default(),
                    &PageRenditions::default()
                )
                .unwrap()
        ),
        [""; 0]
    );
    assert_eq!(
        names(
            gallery
                .push(
                    &batch(9..25),
                    &Pictures::default(),
                    &PageRenditions::default()
                )
                .unwrap()
        ),
        ["page-1.html", "page-2.html"]
    );
    assert_eq!(
        names(gallery.finish().unwrap()),
        ["page-3.html", "index.html"]
    );
}

#[test]
fn pages_lead_to_each_other() {
    let pages = pages(&photos(10), &Audience::Everyone, &[&batch(0..25)]);
    let nav = |page: &RenderedPage| {
        let hrefs = hrefs(&page.html);
        hrefs
            .into_iter()
            .filter(|href| href.ends_with(".html"))
            .collect::<Vec<_>>()
    };
    let told: Vec<String> = pages
        .iter()
        .map(|page| format!("{}: {}", page.file_name, nav(page).join(" ")))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    page-1.html: index.html page-2.html
    page-2.html: index.html page-1.html page-3.html
    page-3.html: index.html page-2.html
    index.html: page-1.html page-2.html page-3.html
    ");
}

#[test]
fn signed_pages_lead_to_each_other_by_their_links() {
    let (plan, templates, settings) = (photos(10), templates(), settings());
    let urls = |count: usize| {
        (0..count)
            .map(|n| PresignedUrl::new(format!("https://out.example/{n}")))
            .collect()
    };
    let begin = |count| {
        Gallery::begin(
            &templates,
            &plan,
            &Audience::Everyone,
            15,
            PageLinks::Signed(urls(count)),
            &settings,
        )
    };
    insta::assert_snapshot!(begin(2).unwrap_err(), @"the gallery has 3 pages, but links to 2 of them");
    let mut gallery = begin(3).unwrap();
    let first = gallery
        .push(
            &batch(0..15),
            &Pictures::default(),
            &PageRenditions::default(),
        )
        .unwrap()
        .remove(0);
    let mut hrefs = hrefs(&first.html);
    hrefs.retain(|href| href.starts_with("https://out.example/"));
    assert_eq!(hrefs, ["https://out.example/0", "https://out.example/2"]);
}

#[test]
fn another_number_of_links_than_was_announced_is_an_error() {
    let (plan, templates, settings) = (photos(10), templates(), settings());
    let begin = || {
        Gallery::begin(
            &templates,
            &plan,
            &Audience::Everyone,
            3,
            PageLinks::Relative,
            &settings,
        )
        .unwrap()
    };
    insta::assert_snapshot!(begin().push(&batch(0..4), &Pictures::default(), &PageRenditions::default()).unwrap_err(), @"the gallery was planned for 3 links, but 4 were signed: the objects changed meanwhile");
    insta::assert_snapshot!(begin().finish().unwrap_err(), @"the gallery was planned for 3 links, but 0 were signed: the objects changed meanwhile");
}

#[test]
fn the_policy_names_the_hash_of_what_stands_in_the_page_and_the_hosts_of_the_links() {
    let pages = pages(&photos(10), &Audience::Everyone, &[&batch(0..12)]);
    for page in &pages {
        let policy = page
            .html
            .split("Content-Security-Policy\" content=\"")
            .nth(1)
            .unwrap();
        let policy = policy.split('"').next().unwrap().replace("&#39;", "'");
        for (element, directive) in [("style", "style-src"), ("script", "script-src")] {
            let blocks = inline_blocks(&page.html, element);
            assert_eq!(blocks.len(), 1, "{element} of {}", page.file_name);
            let inside = blocks[0]
                .split_once('>')
                .unwrap()
                .1
                .rsplit_once("</")
                .unwrap()
                .0;
            let hash = Base64::encode_string(&Sha256::digest(inside.as_bytes()));
            assert!(
                policy.contains(&format!("{directive} 'sha256-{hash}';")),
                "{policy}"
            );
        }
        assert!(
            policy.starts_with("default-src 'none'; img-src "),
            "{policy}"
        );
    }
    assert!(
        pages[0]
            .html
            .contains("img-src https://acme-reports.s3.eu-west-1.amazonaws.com data:;")
    );
}

#[test]
fn a_brand_is_on_every_page_and_its_colours_are_permitted() {
    let text = "[brand]\nname = \"Studio Nord\"\naccent = \"#ffcc00\"\nbackground = \"#fdf6e3\"\nfooter = [\"<Hafen> 3\"]\npersonal_note = false";
    let config = crate::config::Config::parse(text, &crate::environment::Environment::default());
    let logo = Logo::read(include_bytes!("../../../tests/fixtures/pictures/plain.png").to_vec());
    let settings = MailSettings {
        brand: Brand::new(&config.unwrap().brand, Some(logo.unwrap())),
        ..settings()
    };
    let (plan, templates) = (photos(10), templates());
    let ann = crate::job::Recipient::parse("Ann <ann@acme.example>").unwrap();
    let audience = Audience::Recipient(std::sync::Arc::new(ann));
    let nav = PageLinks::Relative;
    let mut gallery = Gallery::begin(&templates, &plan, &audience, 25, nav, &settings).unwrap();
    let mut pages = gallery
        .push(
            &batch(0..25),
            &Pictures::default(),
            &PageRenditions::default(),
        )
        .unwrap();
    pages.extend(gallery.finish().unwrap());
    assert_eq!(pages.len(), 4);
    for page in pages {
        let html = page.html;
        let logo = "class=\"logo\" src=\"data:image/png;base64,";
        assert_eq!(html.matches(logo).count(), 1, "{}", page.file_name);
        assert!(html.contains("&lt;Hafen&gt; 3") && !html.contains("for Ann alone"));
        let blocks = inline_blocks(&html, "style");
        assert_eq!(blocks.len(), 2);
        let policy = html.replace("&#39;", "'");
        let policy = policy.split("style-src ").nth(1).unwrap();
        let policy = policy.split(';').next().unwrap();
        assert_eq!(
            policy.matches("sha256-").count(),
            2,
            "and no other: {policy}"
        );
        for block in blocks {
            let inside = block
                .trim_start_matches("<style>")
                .trim_end_matches("</style>");
            let hash = Base64::encode_string(&Sha256::digest(inside.as_bytes()));
            assert!(policy.contains(&hash), "{inside}");
        }
    }
}

#[test]
fn a_message_stands_on_the_first_page_and_is_text() {
    let message = "Dear all,\n\n<img src=x onerror=alert(1)>\n{{customer}}";
    let over = json!({ "gallery": { "message": message, "publish": { "dir": "/srv/galleries" } } });
    let mut plan = plan("photos/", &over);
    for (page_size, first) in [(100, "index.html"), (10, "index.html")] {
        plan.gallery.as_mut().unwrap().page_size = page_size;
        let pages = pages(&plan, &Audience::Everyone, &[&batch(0..25)]);
        for page in pages {
            let shown = page.html.matches("<p dir=\"auto\">Dear all,</p><p dir=\"auto\">&lt;img src=x onerror=alert(1)&gt;<br>ACME</p>");
            assert_eq!(
                shown.count(),
                usize::from(page.file_name == first),
                "{}",
                page.file_name
            );
        }
    }
}

#[test]
fn only_what_cannot_run_scripts_is_shown_in_the_page() {
    let keys = ["a.jpg", "b.svg", "c.html", "d.mp4", "e.mp3", "f.pdf", "g"];
    let links = audited(
        keys.iter()
            .map(|key| link(&format!("photos/{key}"), 1))
            .collect(),
        &[],
    );
    let page = pages(&photos(10), &Audience::Everyone, &[&links]).remove(0);
    // The lightbox starts with an empty picture of its own.
    let sources: Vec<String> = attribute(&page.html, " src=\"")
        .iter()
        .filter(|url| !url.starts_with("data:"))
        .map(|url| {
            url.split('?')
                .next()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(sources, ["a.jpg", "d.mp4", "e.mp3"]);
}

#[test]
fn every_link_of_a_page_is_one_that_was_given() {
    let links = batch(0..9);
    let page = pages(&photos(10), &Audience::Everyone, &[&links]).remove(0);
    let given: BTreeSet<&str> = links.links().iter().map(|link| link.url.expose()).collect();
    let found = hrefs(&page.html);
    let found: BTreeSet<&str> = found
        .iter()
        .map(String::as_str)
        .filter(|href| href.starts_with("http"))
        .collect();
    assert_eq!(found, given);
}

#[test]
fn hostile_names_stay_text() {
    let keys = [
        "photos/\"><script>x</script>/\" onload=x.jpg",
        "photos/{{x}}.mp4",
        "photos/a\u{202E}b\n.pdf",
    ];
    let mut links: Vec<Link> = keys.iter().map(|key| link(key, 1)).collect();
    for link in &mut links {
        link.name = link.key().file_name().to_owned();
    }
    let links = audited(links, &[("photos/<img src=x>", Unlinkable::Missing)]);
    let page = pages(&photos(10), &Audience::Everyone, &[&links]).remove(0);
    assert_eq!(page.html.matches("<script>").count(), 1);
    assert!(!page.html.contains("<img src=x>") && !page.html.contains("\" onload"));
    assert!(page.html.contains("alt=\"&quot; onload=x.jpg\"") && page.html.contains("{{x}}.mp4"));
    assert!(page.html.contains("a\u{FFFD}b\u{FFFD}.pdf"));
}

#[test]
fn an_empty_gallery_has_a_page_of_its_own() {
    let pages = pages(
        &photos(10),
        &Audience::Everyone,
        &[&audited(Vec::new(), &[])],
    );
    assert_eq!(pages.len(), 1);
    assert!(
        pages[0].html.contains("Nothing here yet")
            && pages[0]
                .html
                .contains("img-src data:; media-src &#39;none&#39;")
    );
}

#[test]
fn another_attempt_and_the_same_links_give_the_same_bytes() {
    let make = || pages(&photos(10), &Audience::Everyone, &[&batch(0..25)]);
    assert_eq!(make(), make());
}
