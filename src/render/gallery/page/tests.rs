//! Tests of `render/gallery/page.rs`.

use super::super::super::samples::*;
use super::*;

#[test]
fn a_link_is_of_an_origin_and_not_of_one_that_begins_alike() {
    let origin = "https://a.example".to_owned();
    for (url, is_of_it) in [
        ("https://a.example/k?x=1", true),
        ("https://a.example:8443/k", false),
        ("https://a.example.evil.example/k", false),
        ("https://b.example/k", false),
    ] {
        assert_eq!(is_of(url, Some(&origin)), is_of_it, "{url}");
    }
    assert!(!is_of("https://a.example/k", None));
}

fn page(keys: &[&str]) -> GalleryPage {
    let mut page = GalleryPage::default();
    for key in keys {
        page.add(&link(key, 1), None, None, 1, "photos/");
    }
    page.lay_out();
    page
}

fn picture(width: u32, height: u32, thumbnail: Option<String>) -> Picture {
    Picture {
        width,
        height,
        format: PictureFormat::Displayed,
        thumbnail,
    }
}

#[test]
fn a_heading_leads_to_the_folders_above_it() {
    let page = page(&[
        "photos/a/1.jpg",
        "photos/a/b//c/2.jpg",
        "photos/3.jpg",
        "photos/1/2/3/4/5/6/7/8/9/4.jpg",
    ]);
    let told: Vec<String> = page
        .folders
        .iter()
        .map(|folder| {
            let crumbs = folder.trail.iter().map(|crumb| {
                let section = crumb.section.map(|at| format!(" (section {at})"));
                crumb.name.clone() + &section.unwrap_or_default()
            });
            crumbs.collect::<Vec<_>>().join(" / ")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
        a
        a (section 0) / b / c

        … / 2 / 3 / 4 / 5 / 6 / 7 / 8 / 9
        ");
}

#[test]
fn a_file_that_no_browser_displays_is_a_card_and_that_of_a_phone_says_so() {
    let of = |name: &str, format| {
        let mut page = GalleryPage::default();
        let picture = Picture {
            format,
            ..picture(4, 3, None)
        };
        page.add(&link(name, 1), Some(&picture), None, 1, "photos/");
        let folder = page.folders.remove(0);
        let card = folder.files.first().map(|item| item.note);
        (folder.photos.len(), card)
    };
    let heic = Some(Some("note_heic"));
    for (name, format, told) in [
        ("photos/a.jpg", PictureFormat::Displayed, (1, None)),
        ("photos/a.jfif", PictureFormat::Displayed, (1, None)),
        ("photos/a.jpg", PictureFormat::Heic, (0, heic)),
        ("photos/a.heic", PictureFormat::Heic, (0, heic)),
        ("photos/a.jpg", PictureFormat::Other, (0, Some(None))),
    ] {
        assert_eq!(of(name, format), told, "{name} {format:?}");
    }
}

#[test]
fn every_shape_has_a_class_of_that_shape_in_the_style_sheet() {
    let style = include_str!("../../../../templates/partials/gallery.css.hbs");
    for shape in SHAPES {
        let class = format!(".r{shape}{{--r:{}}}", f64::from(shape) / 20.0);
        assert!(style.contains(&class), "{class}");
    }
}

#[test]
fn a_shape_is_the_nearest_and_never_beyond_what_there_is() {
    let shape = |width, height| {
        let mut page = GalleryPage::default();
        page.add(
            &link("photos/a.jpg", 1),
            Some(&picture(width, height, None)),
            None,
            1,
            "photos/",
        );
        page.folders[0].photos[0].shape()
    };
    let told = [
        (1200, 800),
        (800, 1200),
        (4000, 3000),
        (1, 100_000),
        (u32::MAX, 1),
        (0, 10),
        (10, 0),
    ]
    .map(|(width, height)| shape(width, height));
    assert_eq!(
        told,
        [Some(30), Some(13), Some(27), Some(8), Some(60), None, None]
    );
}

#[test]
fn small_pictures_are_carried_until_the_page_is_heavy() {
    let mut page = GalleryPage::default();
    let data = |base64: &str| Some(format!("{THUMBNAIL}{base64}"));
    let heavy = "A".repeat(MAX_THUMBNAIL_BYTES / 2);
    for thumbnail in [
        data(&heavy),
        data("A\" onload=\"x"),
        Some("data:image/svg+xml;base64,AAAA".to_owned()),
        data(&heavy),
        data("AAAA"),
    ] {
        page.add(
            &link("photos/a.jpg", 1),
            Some(&picture(3, 2, thumbnail)),
            None,
            1,
            "photos/",
        );
    }
    let carried = page.folders[0]
        .photos
        .iter()
        .map(|item| item.thumbnail.as_ref().map_or(0, String::len));
    assert_eq!(
        carried.collect::<Vec<_>>(),
        [heavy.len(), 0, 0, heavy.len(), 0]
    );
}
