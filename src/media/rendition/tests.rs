//! Renditions of real files, of files that lie, and of damaged ones.

use std::fs;
use std::path::Path;

use super::raster::{Channels, RowReducer};
use super::*;
use crate::media::jpeg::facts;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/renditions");
    fs::read(folder.join(name)).unwrap()
}

fn made(bytes: &[u8]) -> Result<MadeRenditions, RenditionError> {
    make(bytes, &|| false)
}

fn sizes(made: &MadeRenditions) -> [Option<(u32, u32)>; 2] {
    let size = |image: &RenditionImage| (image.width, image.height);
    [Some(size(&made.small)), made.large.as_ref().map(size)]
}

#[test]
fn each_format_has_renditions_that_show_as_much_as_the_picture() {
    let (small, large) = (Some((640, 427)), Some((720, 480)));
    for (name, wanted) in [
        ("baseline.jpg", [small, large]),
        ("progressive.jpg", [small, large]),
        ("full-colour.jpg", [small, large]),
        ("restarts.jpg", [small, large]),
        ("grey.jpg", [small, large]),
        ("srgb.jpg", [small, large]),
        ("adobe-rgb.jpg", [small, large]),
        ("p3.jpg", [small, large]),
        ("halved.jpg", [Some((640, 426)), Some((2002, 1334))]),
        ("plain.png", [small, large]),
        ("tall.png", [Some((67, 640)), Some((201, 1926))]),
        ("sixteen.png", [small, large]),
        ("interlaced.png", [small, large]),
        ("p3.png", [small, large]),
        ("turned.png", [Some((427, 640)), Some((480, 720))]),
        ("plain.gif", [small, large]),
        ("animated.gif", [small, None]),
        ("lossless.webp", [small, large]),
    ] {
        let bytes = fixture(name);
        let made = made(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(sizes(&made), wanted, "{name}");
        for image in std::iter::once(&made.small).chain(&made.large) {
            let facts = facts(FileHead::new(&image.jpeg)).unwrap();
            assert_eq!(facts.stored.width, image.width, "{name}");
            assert_eq!(facts.orientation, Orientation::UPRIGHT, "{name}");
            assert!(image.jpeg.len() < bytes.len(), "{name}");
        }
    }
}

#[test]
fn what_a_jpeg_cannot_show_is_left_to_the_browser() {
    for (name, wanted) in [
        (
            "inks.jpg",
            "the picture has four inks (CMYK), which a rendition cannot keep",
        ),
        (
            "gamma.png",
            "the picture has a gamma of its own, which a rendition cannot keep",
        ),
        ("clear.png", "the picture is transparent"),
        ("clear.webp", "the picture is transparent"),
        ("clear.gif", "the picture is transparent"),
        ("make.py", "the file is no JPEG, PNG, GIF or WebP"),
    ] {
        let error = made(&fixture(name)).unwrap_err();
        assert_eq!(error.to_string(), wanted, "{name}");
    }
}

#[test]
fn a_rendition_keeps_a_profile_unless_it_is_that_of_srgb_and_no_exif() {
    let has = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    let picture = fixture("baseline.jpg");
    assert!(has(&picture, b"Exif") && has(&picture, b"Maker"));
    for (name, is_kept) in [
        ("baseline.jpg", false),
        ("srgb.jpg", false),
        ("adobe-rgb.jpg", true),
        ("p3.jpg", true),
        ("p3.png", true),
    ] {
        let made = made(&fixture(name)).unwrap();
        for image in std::iter::once(&made.small).chain(&made.large) {
            assert_eq!(has(&image.jpeg, b"ICC_PROFILE\0"), is_kept, "{name}");
            assert!(!has(&image.jpeg, b"Exif") && !has(&image.jpeg, b"Maker"));
        }
    }
}

/// A small PNG with a profile of this length.
fn with_profile(length: usize) -> Vec<u8> {
    let mut profile = vec![0; length];
    profile[16..20].copy_from_slice(b"RGB ");
    profile[36..40].copy_from_slice(b"acsp");
    let mut info = ::png::Info::with_size(1000, 800);
    info.color_type = ::png::ColorType::Rgb;
    info.bit_depth = ::png::BitDepth::Eight;
    info.icc_profile = Some(profile.into());
    let mut bytes = Vec::new();
    let writer = ::png::Encoder::with_info(&mut bytes, info).unwrap();
    let mut writer = writer.write_header().unwrap();
    writer.write_image_data(&vec![200; 3 * 1000 * 800]).unwrap();
    drop(writer);
    bytes
}

/// A profile that unpacks to a hundred megabytes is not unpacked.
#[test]
fn the_memory_that_a_profile_takes_is_bounded() {
    assert!(made(&with_profile(1000)).is_ok());
    let long = RenditionError::Colours("a long colour profile");
    assert_eq!(made(&with_profile(100_000)).unwrap_err(), long);
    assert!(made(&with_profile(100 << 20)).is_ok());
}

/// The colour in the middle of a corner of a rendition: across and down from 0 to 1.
fn corner(image: &RenditionImage, across: u32, down: u32) -> [u8; 3] {
    let mut decoder = jpeg_decoder::Decoder::new(&image.jpeg[..]);
    let pixels = decoder.decode().unwrap();
    let x = (image.width - 1) * (1 + 8 * across) / 10;
    let y = (image.height - 1) * (1 + 8 * down) / 10;
    let at = 3 * (y * image.width + x) as usize;
    pixels[at..at + 3].try_into().unwrap()
}

/// The corners from left to right and from top to bottom, each by a letter.
fn corners(image: &RenditionImage) -> String {
    let letter = |[red, green, blue]: [u8; 3]| match (red > 128, green > 128, blue > 128) {
        (true, false, false) => 'r',
        (false, true, false) => 'g',
        (false, false, true) => 'b',
        (true, true, true) => 'w',
        _ => '?',
    };
    let places = [(0, 0), (1, 0), (0, 1), (1, 1)];
    places
        .map(|(across, down)| letter(corner(image, across, down)))
        .iter()
        .collect()
}

#[test]
fn a_rendition_is_upright() {
    let picture = fixture("progressive.jpg");
    for (number, wanted) in [
        (1, "rgbw"),
        (2, "grwb"),
        (3, "wbgr"),
        (4, "bwrg"),
        (5, "rbgw"),
        (6, "brwg"),
        (7, "wgbr"),
        (8, "gwrb"),
    ] {
        let exif = [
            b"\xFF\xE1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
            &[number, 0, 0, 0, 0, 0, 0],
        ];
        let turned = [&picture[..2], &exif.concat(), &picture[2..]].concat();
        let made = made(&turned).unwrap();
        assert_eq!(corners(&made.small), wanted, "orientation {number}");
        assert_eq!(
            corners(&made.large.unwrap()),
            wanted,
            "orientation {number}"
        );
    }
}

#[test]
fn a_picture_that_lies_about_its_size_is_not_decoded() {
    let mut png = fixture("plain.png");
    png[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let sum = {
        let mut crc = flate2::Crc::new();
        crc.update(&png[12..29]);
        crc.sum().to_be_bytes()
    };
    png[29..33].copy_from_slice(&sum);
    assert_eq!(made(&png), Err(RenditionError::Pixels(900_000_000)));

    let mut jpeg = fixture("progressive.jpg");
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC2])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x2E, 0xE0, 0x2E, 0xE0]);
    let error = made(&jpeg).unwrap_err();
    assert!(matches!(error, RenditionError::Memory(_)), "{error}");
    jpeg[frame + 5..frame + 9].fill(0xFF);
    let error = made(&jpeg).unwrap_err();
    assert!(matches!(error, RenditionError::Malformed(_)), "{error}");

    let mut gif = fixture("plain.gif");
    gif[6..10].fill(0xFF);
    assert_eq!(made(&gif), Err(RenditionError::Pixels(65_535 * 65_535)));
}

#[test]
fn a_jpeg_of_many_scans_is_not_decoded() {
    let jpeg = fixture("progressive.jpg");
    let scan = jpeg
        .windows(2)
        .position(|pair| pair == [0xFF, 0xDA])
        .unwrap();
    let end = jpeg.len() - 2;
    let next = jpeg[scan + 2..].windows(2);
    let next = scan + 2 + { next }
        .position(|pair| pair[0] == 0xFF && pair[1] != 0)
        .unwrap();
    let mut many = jpeg[..end].to_vec();
    for _ in 0..60 {
        many.extend_from_slice(&jpeg[scan..next]);
    }
    many.extend_from_slice(&jpeg[end..]);
    assert_eq!(made(&many), Err(RenditionError::Scans(64)));
}

#[test]
fn a_picture_that_is_cut_off_or_damaged_has_renditions_or_an_error() {
    for name in ["progressive.jpg", "plain.png", "plain.gif", "lossless.webp"] {
        let bytes = fixture(name);
        let mut ends = 0;
        for part in 0..12 {
            let cut = made(&bytes[..bytes.len() * part / 12]);
            ends += usize::from(cut.is_err());
            let mut damaged = bytes.clone();
            let at = bytes.len() * part / 12;
            let end = (at + 16).min(bytes.len());
            damaged[at..end].fill(0xA5);
            drop(made(&damaged));
        }
        assert!(ends > 0, "{name}");
    }
}

#[test]
fn work_that_is_cancelled_ends() {
    for name in ["plain.png", "plain.gif", "baseline.jpg", "lossless.webp"] {
        let cancelled = make(&fixture(name), &|| true);
        assert_eq!(cancelled, Err(RenditionError::Cancelled), "{name}");
    }
}

#[test]
fn rows_are_averaged_and_the_last_column_and_row_count_by_what_they_have() {
    // Five columns and three rows of 3,840 and 2,304 would be too many to write down: a factor of 2 needs a long side of 3,840.
    let (width, height) = (3841, 3);
    let mut reducer = RowReducer::new((width, height), Channels::Grey);
    for row in [10, 20, 77] {
        let mut pixels = vec![row; width as usize];
        pixels[0] = 100;
        reducer.push(&pixels);
    }
    let raster = reducer.finish().unwrap();
    assert_eq!((raster.width, raster.height), (1921, 2));
    let at = |x: usize, y: usize| raster.pixels[y * 1921 + x];
    assert_eq!((at(0, 0), at(1, 0), at(1920, 0)), (58, 15, 15));
    assert_eq!((at(0, 1), at(1, 1), at(1920, 1)), (89, 77, 77));
}
