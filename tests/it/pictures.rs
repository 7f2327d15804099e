//! What the first bytes of pictures tell: real files of many encoders, and files that lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use handout::media::{Picture, PictureFormat};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use crate::support::servers::{Browser, browser_or_skip};

/// The first bytes that are asked for.
const HEAD: usize = 64 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// The size in which each file is shown, as another program reads it.
fn expected() -> BTreeMap<String, (u32, u32)> {
    let text = fs::read_to_string(folder().join("expected.json")).unwrap();
    let all: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let side = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    all.into_iter()
        .map(|(name, one)| (name, (side(&one["width"]), side(&one["height"]))))
        .collect()
}

fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let size = Picture::read(bytes).map(|picture| (picture.width, picture.height));
    size.filter(|size| *size != (0, 0))
}

/// The bytes of a small picture.
fn thumbnail(bytes: &[u8]) -> Option<Vec<u8>> {
    let uri = Picture::read(bytes)?.thumbnail?;
    let encoded = uri.strip_prefix("data:image/jpeg;base64,").unwrap();
    assert!(uri.len() <= 8 * 1024, "{} bytes", uri.len());
    Some(Base64::decode_vec(encoded).unwrap())
}

#[test]
fn every_format_has_the_size_that_another_program_reads() {
    let expected = expected();
    let mut endings: Vec<&str> = expected
        .keys()
        .filter_map(|name| name.split('.').nth(1))
        .collect();
    endings.sort_unstable();
    endings.dedup();
    assert_eq!(
        endings,
        ["apng", "avif", "gif", "heic", "jpg", "png", "webp"]
    );
    for (name, (width, height)) in &expected {
        assert_eq!(size(&fixture(name)), Some((*width, *height)), "{name}");
    }
}

#[test]
fn a_file_that_is_cut_off_has_its_size_or_none() {
    for name in expected().keys() {
        let bytes = fixture(name);
        let whole = size(&bytes);
        for length in 0..bytes.len() {
            let cut = size(&bytes[..length]);
            assert!(
                cut.is_none() || cut == whole,
                "{name}, {length} bytes: {cut:?}"
            );
        }
    }
}

#[test]
fn a_size_that_cannot_be_true_is_not_known() {
    // Where a file has its width, in how many bytes.
    let places = [("plain.png", 16, 4), ("baseline.jpg", 0, 0)];
    for (name, at, length) in places {
        let mut bytes = fixture(name);
        let at = match at {
            // After the frame's marker, length and precision, and the height.
            0 => {
                bytes
                    .windows(2)
                    .position(|pair| pair == [0xFF, 0xC0])
                    .unwrap()
                    + 7
            }
            at => at,
        };
        let length = length.max(2);
        bytes[at..at + length].fill(0);
        assert_eq!(size(&bytes), None, "{name} of width 0");
        if length == 4 {
            bytes[at..at + length].fill(0xFF);
            assert_eq!(size(&bytes), None, "{name} of the greatest width");
            bytes[at..at + length].copy_from_slice(&[0x7F; 4]);
            assert_eq!(size(&bytes), None, "{name} of a huge width");
        }
    }
    let mut gigantic = fixture("plain.png");
    gigantic[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert_eq!(size(&gigantic), None, "65,536 × 65,536");
}

// ── EXIF ──

/// An entry of a directory: tag, type, count, value.
type Entry = (u16, u16, u32, u32);

const ORIENTATION: u16 = 0x0112;

/// A directory in the order of Motorola; a SHORT's value stands in the upper half.
fn directory(entries: &[Entry], next: u32) -> Vec<u8> {
    let mut bytes = u16::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
    for (tag, kind, count, value) in entries {
        bytes.extend([tag.to_be_bytes(), kind.to_be_bytes()].concat());
        bytes.extend([count.to_be_bytes(), value.to_be_bytes()].concat());
    }
    bytes.extend(next.to_be_bytes());
    bytes
}

/// The plain JPEG with EXIF of these bytes after its head.
fn jpeg_with(exif: &[u8]) -> Vec<u8> {
    let body = [b"Exif\0\0MM\0*\0\0\0\x08", exif].concat();
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    let rest = &fixture("baseline.jpg")[2..];
    [b"\xFF\xD8\xFF\xE1".as_slice(), &length, &body, rest].concat()
}

#[test]
fn odd_exif_turns_nothing_and_hides_no_size() {
    let upright = Some((37, 23));
    let turned = Some((23, 37));
    let short = |value: u32| (ORIENTATION, 3, 1, value << 16);
    let with = |entries: &[Entry], next| size(&jpeg_with(&directory(entries, next)));
    assert_eq!(with(&[short(6)], 0), turned);
    for odd in [
        (ORIENTATION, 4, 1, 6),
        short(0),
        short(9),
        short(0xFFFF),
        (ORIENTATION, 2, 1, 6 << 16),
        (ORIENTATION, 0xFFFF, 1, 6 << 16),
        (ORIENTATION, 3, 2, 6 << 16),
        (ORIENTATION, 3, u32::MAX, 6 << 16),
        (ORIENTATION, 3, 0, 6 << 16),
    ] {
        assert_eq!(with(&[odd], 0), upright, "{odd:?}");
    }
    // The next directory is this one; is beyond the end; is at the very end.
    for next in [8, 0xFFFF, u32::MAX, 26] {
        assert_eq!(with(&[short(6)], next), turned, "next at {next}");
    }
    let cases: [&[u8]; 5] = [b"", b"\0\0", b"\xFF\xFF", b"\0\x05junk", &[0xFF; 5000]];
    for junk in cases {
        assert_eq!(size(&jpeg_with(junk)), upright);
    }
    // Only the first counts, as in browsers.
    let twice = jpeg_with(&directory(&[short(6)], 0));
    let first = &jpeg_with(&directory(&[short(1)], 0))[2..];
    let end = first.len() - (fixture("baseline.jpg").len() - 2);
    let twice = [&twice[..2], &first[..end], &twice[2..]].concat();
    assert_eq!(size(&twice), upright);
}

#[test]
fn exif_tells_the_size_of_a_photo_whose_frame_lies_behind_it() {
    let exif = [
        directory(&[(ORIENTATION, 3, 1, 6 << 16), (0x8769, 4, 1, 38)], 0),
        directory(&[(0xA002, 3, 1, 4000 << 16), (0xA003, 4, 1, 3000)], 0),
    ];
    let photo = jpeg_with(&exif.concat());
    assert_eq!(
        size(&photo),
        Some((23, 37)),
        "the frame counts if it is there"
    );
    let end = photo.len() - (fixture("baseline.jpg").len() - 2);
    // A profile that goes on beyond the first bytes.
    let filler = [b"\xFF\xE2\xFF\xFF".as_slice(), &[0; 0xFFFD]].concat();
    let long = [&photo[..end], &filler, &photo[end..]].concat();
    assert_eq!(size(&long[..HEAD]), Some((3000, 4000)));
    assert_eq!(size(&long), Some((23, 37)));
    let odd = [&photo[..end], b"odd"].concat();
    assert_eq!(size(&odd), None, "an odd end is no cut");
}

#[test]
fn fill_bytes_and_unknown_segments_are_passed_over() {
    let rest = &fixture("baseline.jpg")[2..];
    let odd = [
        b"\xFF\xD8\xFF\xFF\xFF\xFF\xE7\0\x04ab\xFF\xFF\xFE\0\x02",
        rest,
    ]
    .concat();
    assert_eq!(size(&odd), Some((37, 23)));
    for broken in [
        b"\xFF\xD8\xFF\xE7\0\0".as_slice(),
        b"\xFF\xD8\xFF\xE7\0\x01",
        b"\xFF\xD8\xFFab",
    ] {
        assert_eq!(size(&[broken, rest].concat()), None);
    }
}

// ── The camera's small picture ──

#[test]
fn the_small_picture_is_a_picture_and_nothing_else() {
    let camera = fixture("camera.jpg");
    for told in ["secret artist", "secret comment", "GPS", "Maker"] {
        let told = told.as_bytes();
        let is_told = |bytes: &[u8]| bytes.windows(told.len()).any(|part| part == told);
        assert!(
            told == b"GPS" || is_told(&camera),
            "the file itself tells it"
        );
        assert!(!is_told(&thumbnail(&camera).unwrap()));
    }
    let small = thumbnail(&camera).unwrap();
    let markers: Vec<u8> = small
        .windows(2)
        .filter(|pair| pair[0] == 0xFF && pair[1] != 0)
        .map(|pair| pair[1])
        .collect();
    assert!(
        markers
            .iter()
            .all(|marker| matches!(marker, 0xD8 | 0xDB | 0xC0 | 0xC4 | 0xDA | 0xD9)),
        "{markers:02x?}"
    );
    assert_eq!(size(&small), Some((160, 120)));
    assert_eq!((markers[0], *markers.last().unwrap()), (0xD8, 0xD9));
}

#[test]
fn the_small_picture_of_a_turned_one_is_turned_too() {
    let turned = fixture("camera-turned.jpg");
    assert_eq!(size(&turned), Some((360, 480)));
    assert_eq!(size(&thumbnail(&turned).unwrap()), Some((120, 160)));
    let (upright, turned) = (
        thumbnail(&fixture("camera.jpg")).unwrap(),
        thumbnail(&turned).unwrap(),
    );
    assert_eq!(
        turned.len(),
        upright.len() + 36,
        "by EXIF that says nothing else"
    );
    assert!(turned.ends_with(&upright[2..]));
}

/// The camera's file with one change to its small picture: `change` gets the bytes from its start to the file's end.
fn camera_with(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = fixture("camera.jpg");
    let starts = bytes
        .windows(3)
        .rposition(|part| part == [0xFF, 0xD8, 0xFF]);
    let at = starts.unwrap();
    change(&mut bytes[at..]);
    bytes
}

#[test]
fn an_odd_small_picture_is_left_out_and_the_size_stays() {
    fn marker(bytes: &mut [u8], marker: u8) -> &mut [u8] {
        let at = bytes
            .windows(2)
            .position(|pair| pair == [0xFF, marker])
            .unwrap();
        &mut bytes[at..]
    }
    type Change = fn(&mut [u8]);
    let changes: [(&str, Change); 10] = [
        ("it does not begin", |bytes| bytes[1] = 0xD9),
        ("no quantization", |bytes| {
            while bytes.windows(2).any(|pair| pair == [0xFF, 0xDB]) {
                marker(bytes, 0xDB)[1] = 0xFE;
            }
        }),
        ("lossless", |bytes| marker(bytes, 0xC0)[1] = 0xC3),
        ("of twelve bits", |bytes| marker(bytes, 0xC0)[4] = 12),
        ("too high", |bytes| marker(bytes, 0xC0)[5] = 9),
        ("of another shape", |bytes| marker(bytes, 0xC0)[6] = 20),
        ("of four colours", |bytes| marker(bytes, 0xC0)[9] = 4),
        ("a length that lies", |bytes| marker(bytes, 0xC0)[2] = 0x7F),
        ("Adobe's colours", |bytes| marker(bytes, 0xFE)[1] = 0xEE),
        ("a marker that nobody knows", |bytes| {
            marker(bytes, 0xFE)[1] = 0xF0;
        }),
    ];
    for (what, change) in changes {
        let odd = camera_with(change);
        assert_ne!(odd, fixture("camera.jpg"), "{what}: changed");
        let picture = Picture::read(&odd).unwrap();
        assert_eq!(
            (picture.width, picture.height, picture.thumbnail),
            (480, 360, None),
            "{what}"
        );
    }
}

#[test]
fn a_small_picture_beyond_the_end_is_left_out() {
    let (offset, length) = ((0x0201, 4, 1, 50), (0x0202, 4, 1, 1000));
    for (offset, length) in [
        (offset, length),
        ((0x0201, 4, 1, u32::MAX), length),
        (offset, (0x0202, 4, 1, u32::MAX)),
        ((0x0201, 4, 1, 0), (0x0202, 4, 1, 0)),
    ] {
        let exif = [directory(&[], 14), directory(&[offset, length], 14)].concat();
        let picture = Picture::read(&jpeg_with(&exif)).unwrap();
        assert_eq!((picture.width, picture.thumbnail), (37, None));
    }
}

// ── As Chromium shows them ──

/// The plain PNG with a chunk before another.
fn png_with(chunk: &[u8], before: &[u8]) -> Vec<u8> {
    png_of(&fixture("plain.png"), chunk, before)
}

fn png_of(png: &[u8], chunk: &[u8], before: &[u8]) -> Vec<u8> {
    let kind = png.windows(4).position(|part| part == before).unwrap();
    let (begin, rest) = png.split_at(kind - 4);
    [begin, chunk, rest].concat()
}

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length, kind, data, &sum.sum().to_be_bytes()].concat()
}

/// EXIF with entries, which a directory for the camera's own may follow.
fn tiff(entries: &[Entry]) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08", &*directory(entries, 0)].concat()
}

fn turned(orientation: u32) -> Entry {
    (ORIENTATION, 3, 1, orientation << 16)
}

/// EXIF with resolutions, each of `resolution / 10`, and the size that they are said to lead to.
fn at_resolution(x: u32, y: u32, unit: u32, size: (u32, u32), orientation: u32) -> Vec<u8> {
    // Five entries: the fractions follow them at 74, the camera's directory at 90.
    let entries = [
        turned(orientation),
        (0x011A, 5, 1, 74),
        (0x011B, 5, 1, 82),
        (0x0128, 3, 1, unit << 16),
        (0x8769, 4, 1, 90),
    ];
    let fractions = [x, 10, y, 10].map(u32::to_be_bytes).concat();
    let own = directory(&[(0xA002, 4, 1, size.0), (0xA003, 4, 1, size.1)], 0);
    [tiff(&entries), fractions, own].concat()
}

fn jpeg_of(tiff: &[u8]) -> Vec<u8> {
    jpeg_with(&tiff[8..])
}

/// The plain GIF on a screen of another size, its first frame at a place, with extensions before it.
fn gif_with(screen: (u16, u16), place: (u16, u16)) -> Vec<u8> {
    let mut bytes = fixture("plain.gif");
    let frame = 13 + 3 * (2 << (bytes[10] & 7));
    assert_eq!(bytes[frame], b',');
    let pair = |(a, b): (u16, u16)| [a.to_le_bytes(), b.to_le_bytes()].concat();
    bytes[6..10].copy_from_slice(&pair(screen));
    bytes[frame + 1..frame + 5].copy_from_slice(&pair(place));
    let extensions = b"!\xFE\x03abc\x02de\0!\xF9\x04\0\0\0\0\0".iter().copied();
    bytes.splice(frame..frame, extensions);
    bytes
}

/// A bitmap of 3 × 2 pixels; a negative height is stored from the top.
fn bmp(height: i32) -> Vec<u8> {
    let header = [
        40,
        3,
        height.cast_unsigned(),
        24 << 16 | 1,
        0,
        24,
        0,
        0,
        0,
        0,
    ];
    let header = header.map(u32::to_le_bytes).concat();
    [b"BM\x4E\0\0\0\0\0\0\0\x36\0\0\0", &*header, &[90; 24]].concat()
}

/// An icon of these sizes, each a PNG.
fn icon(pictures: &[(u8, u8)]) -> Vec<u8> {
    let png = fixture("plain.png");
    let length = u32::try_from(png.len()).unwrap();
    let count = u16::try_from(pictures.len()).unwrap();
    let mut bytes = [0_u16, 1, count].map(u16::to_le_bytes).concat();
    for (number, (width, height)) in (0..).zip(pictures) {
        bytes.extend([*width, *height, 0, 0, 1, 0, 32, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend((6 + 16 * u32::from(count) + number * length).to_le_bytes());
    }
    pictures.iter().for_each(|_| bytes.extend(&png));
    bytes
}

/// EXIF of a JPEG behind its frame header.
fn exif_behind_the_frame() -> Vec<u8> {
    let with = jpeg_of(&tiff(&[turned(6)]));
    let plain = fixture("baseline.jpg");
    let exif = &with[2..2 + with.len() - plain.len()];
    let frame = plain.windows(2).position(|pair| pair == [0xFF, 0xC0]);
    let frame = frame.unwrap();
    let end = frame + 2 + usize::from(u16::from_be_bytes([plain[frame + 2], plain[frame + 3]]));
    [&plain[..end], exif, &plain[end..]].concat()
}

/// The same file with `change` made to the EXIF in it.
fn changed(mut file: Vec<u8>, change: impl FnOnce(&mut Vec<u8>, usize)) -> Vec<u8> {
    let at = file.windows(4).position(|part| part == b"MM\0*").unwrap();
    change(&mut file, at);
    file
}

/// Files that are shown in another size than their header says, or might be.
fn odd_files() -> Vec<(String, Vec<u8>)> {
    let turned_png = |exif: &[u8]| png_with(&chunk(b"eXIf", exif), b"IDAT");
    let both = |name: &str, exif: &[u8]| {
        [
            (format!("{name}.jpg"), jpeg_of(exif)),
            (format!("{name}.png"), turned_png(exif)),
        ]
    };
    let mut files = Vec::new();
    for orientation in 0..10 {
        files.extend(both(
            &format!("orientation {orientation}"),
            &tiff(&[turned(orientation)]),
        ));
    }
    let two_entries = |first, second| tiff(&[first, second]);
    let below = [tiff(&[(0x8769, 4, 1, 26)]), directory(&[turned(6)], 0)].concat();
    let many = [vec![(0x9999, 3, 1, 0); 1200], vec![turned(6)]].concat();
    let announces_more = |mut exif: Vec<u8>| {
        exif[9] = 3;
        exif
    };
    for (name, exif) in [
        ("a long", tiff(&[(ORIENTATION, 4, 1, 6)])),
        ("a byte", tiff(&[(ORIENTATION, 1, 1, 6 << 24)])),
        ("none", tiff(&[(ORIENTATION, 3, 0, 6 << 16)])),
        ("two", tiff(&[(ORIENTATION, 3, 2, 6 << 16)])),
        ("the first of two", two_entries(turned(6), turned(1))),
        ("the second of two", two_entries(turned(1), turned(6))),
        ("the first that is one", two_entries(turned(9), turned(6))),
        ("among the camera's own", below),
        ("behind many", tiff(&many)),
        ("fewer than announced", announces_more(tiff(&[turned(6)]))),
        ("no TIFF", b"MM\0+\0\0\0\x08".to_vec()),
        ("two resolutions", at_resolution(720, 360, 2, (37, 46), 1)),
        (
            "resolutions of a turned one",
            at_resolution(720, 360, 2, (37, 46), 6),
        ),
        (
            "a resolution that halves",
            at_resolution(1440, 1440, 2, (19, 12), 1),
        ),
        (
            "resolutions and another size",
            at_resolution(720, 360, 2, (37, 47), 1),
        ),
        (
            "resolutions in centimetres",
            at_resolution(720, 360, 3, (37, 46), 1),
        ),
        ("no resolution", at_resolution(0, 0, 2, (37, 23), 6)),
    ] {
        files.extend(both(name, &exif));
    }
    let six = chunk(b"eXIf", &tiff(&[turned(6)]));
    let one = chunk(b"eXIf", &tiff(&[turned(1)]));
    let damaged = |mut chunk: Vec<u8>| {
        *chunk.last_mut().unwrap() ^= 1;
        chunk
    };
    let prefixed = [b"Exif\0\0", &*tiff(&[turned(6)])].concat();
    let apng = fixture("animated.apng");
    for (name, bytes) in [
        ("behind the data.png", png_with(&six, b"IEND")),
        ("as in a JPEG.png", turned_png(&prefixed)),
        ("damaged.png", png_with(&damaged(six.clone()), b"IDAT")),
        (
            "damaged and whole.png",
            png_with(&[damaged(one.clone()), six.clone()].concat(), b"IDAT"),
        ),
        (
            "the first chunk.png",
            png_with(&[six.clone(), one.clone()].concat(), b"IDAT"),
        ),
        (
            "the second chunk.png",
            png_with(&[one, six.clone()].concat(), b"IDAT"),
        ),
        ("animated.png", png_of(&apng, &six, b"IDAT")),
        ("behind the frame.jpg", exif_behind_the_frame()),
        (
            "another prefix.jpg",
            changed(jpeg_of(&tiff(&[turned(6)])), |file, at| file[at - 1] = 9),
        ),
        ("a frame beyond the screen.gif", gif_with((10, 10), (0, 0))),
        ("a frame that begins later.gif", gif_with((40, 20), (5, 7))),
        ("a small frame.gif", gif_with((100, 80), (5, 7))),
        ("from below.bmp", bmp(2)),
        ("from the top.bmp", bmp(-2)),
        ("three.ico", icon(&[(16, 16), (64, 32), (32, 48)])),
        ("one.ico", icon(&[(0, 0)])),
    ] {
        files.push((name.to_owned(), bytes));
    }
    files
}

/// Files with the name of a picture that no browser displays.
fn no_pictures() -> Vec<(String, Vec<u8>)> {
    let mp4 = b"\0\0\0\x18ftypisom\0\0\0\0isommp41".to_vec();
    let tiff_file = tiff(&[(0x0100, 3, 1, 1 << 16)]);
    let webm = b"\x1A\x45\xDF\xA3\x9FB\x86\x81\x01B\xF7\x81\x01".to_vec();
    [
        ("photo.jpg", fixture("odd.heic")),
        ("thumbnail.jpg", fixture("thumbnail.heic")),
        ("video.jpg", mp4),
        ("scan.jpg", tiff_file),
        ("document.png", b"%PDF-1.7\n".to_vec()),
        (
            "error.jpg",
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".to_vec(),
        ),
        ("video.webp", webm),
        ("empty.gif", b"GIF".to_vec()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// The size in which Chromium shows each file; 0 × 0 if it does not.
fn as_chromium_shows(browser: &Browser, files: &[(String, Vec<u8>)]) -> Vec<(u32, u32)> {
    let dir = tempfile::tempdir().unwrap();
    let (page, picture) = (dir.path().join("page.html"), dir.path().join("page.png"));
    let images = files.iter().map(|(_, bytes)| {
        let encoded = Base64::encode_string(bytes);
        format!("<img src='data:image/jpeg;base64,{encoded}'>")
    });
    let script = "onload = () => document.title = JSON.stringify([...document.images].map((one) => [one.naturalWidth, one.naturalHeight]))";
    let html = format!(
        "<!doctype html><title>x</title>{}<script>{script}</script>",
        images.collect::<String>()
    );
    fs::write(&page, html).unwrap();
    let seen = browser.shoot(&format!("file://{}", page.display()), &picture, &[]);
    serde_json::from_str(seen["title"].as_str().unwrap()).unwrap()
}

#[test]
fn every_picture_has_the_size_and_the_turn_with_which_chromium_shows_it() {
    let Some(browser) = browser_or_skip("every_picture_has_the_size_and_the_turn") else {
        return;
    };
    let real = expected()
        .into_keys()
        .filter(|name| !name.ends_with(".heic"));
    let real = real.map(|name| (name.clone(), fixture(&name)));
    let files: Vec<_> = real.chain(odd_files()).collect();
    for ((name, bytes), shown) in files.iter().zip(as_chromium_shows(&browser, &files)) {
        let picture = Picture::read(bytes).unwrap();
        assert_eq!((picture.width, picture.height), shown, "{name}");
        assert_eq!(picture.format, PictureFormat::Displayed, "{name}");
    }
}

#[test]
fn a_file_that_no_browser_displays_is_no_picture_whatever_its_name() {
    let files = no_pictures();
    for (name, bytes) in &files {
        let format = Picture::read(bytes).unwrap().format;
        let is_heic = bytes.windows(4).any(|part| part == b"heic");
        let expected = if is_heic {
            PictureFormat::Heic
        } else {
            PictureFormat::Other
        };
        assert_eq!(format, expected, "{name}");
    }
    let Some(browser) = browser_or_skip("a_file_that_no_browser_displays") else {
        return;
    };
    let shown = as_chromium_shows(&browser, &files);
    assert_eq!(shown, vec![(0, 0); files.len()]);
}

// ── Whatever comes ──

#[test]
fn what_is_made_to_take_long_ends() {
    let filled = |begin: &[u8], with: &[u8]| {
        let mut bytes = begin.to_vec();
        while bytes.len() < HEAD {
            bytes.extend_from_slice(with);
        }
        bytes.truncate(HEAD);
        bytes
    };
    let heif = b"\0\0\0\x10ftypheic\0\0\0\0\0\0\xFF\xD8meta\0\0\0\0";
    for bytes in [
        filled(b"", &[0]),
        filled(b"", &[0xFF]),
        filled(b"\xFF\xD8", &[0xFF]),
        filled(b"\xFF\xD8", b"\xFF\xE1\0\x02"),
        filled(b"\xFF\xD8\xFF", b"\xE1\0\x08Exif\0\0\xFF"),
        filled(heif, b"\0\0\0\x08free"),
        filled(heif, b"\0\0\0\0iprp"),
        filled(heif, b"\0\0\0\x01iprp\0\0\0\0\0\0\0\x08"),
    ] {
        drop(Picture::read(&bytes));
    }
}

#[test]
fn no_byte_can_be_changed_so_that_reading_panics() {
    for name in expected().keys() {
        let mut bytes = fixture(name);
        for at in 0..bytes.len().min(512) {
            let was = bytes[at];
            for change in [0, 0x7F, 0xFF, was ^ 1, was.wrapping_add(1)] {
                bytes[at] = change;
                check(&bytes);
            }
            bytes[at] = was;
        }
    }
}

/// Whatever was read keeps its promises.
fn check(bytes: &[u8]) {
    let Some(picture) = Picture::read(bytes) else {
        return;
    };
    if picture.format != PictureFormat::Displayed && picture.width == 0 {
        return;
    }
    let sides = [picture.width, picture.height];
    assert!(
        sides.iter().all(|side| (1..=100_000).contains(side)),
        "{sides:?}"
    );
    assert!(u64::from(picture.width) * u64::from(picture.height) <= 1_000_000_000);
    if let Some(uri) = picture.thumbnail {
        let encoded = uri.strip_prefix("data:image/jpeg;base64,").unwrap();
        assert!(
            uri.len() <= 8192
                && Base64::decode_vec(encoded)
                    .unwrap()
                    .ends_with(&[0xFF, 0xD9])
        );
    }
}

/// A change to a file.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Cut(Index),
    Without(Index, usize),
    Twice(Index, usize),
    With(Index, Vec<u8>),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = |index: &Index, bytes: &[u8]| index.index(bytes.len());
        match self {
            Self::Byte(index, byte) => {
                let at = at(index, bytes);
                bytes[at] = *byte;
            }
            Self::Cut(index) => bytes.truncate(at(index, bytes)),
            Self::Without(index, length) => {
                let at = at(index, bytes);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Self::Twice(index, length) => {
                let at = at(index, bytes);
                let part = bytes[at..bytes.len().min(at + length)].to_vec();
                bytes.splice(at..at, part);
            }
            Self::With(index, part) => {
                let at = at(index, bytes);
                bytes.splice(at..at, part.iter().copied());
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => any::<Index>().prop_map(Change::Cut),
        2 => (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Change::Without(at, length)),
        2 => (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Change::Twice(at, length)),
        2 => (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..16))
            .prop_map(|(at, part)| Change::With(at, part)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn changed_files_are_read_or_not_known(
        name in select(expected().into_keys().collect::<Vec<_>>()),
        changes in proptest::collection::vec(change(), 1..8),
    ) {
        let mut bytes = fixture(&name);
        for change in &changes {
            change.make(&mut bytes);
        }
        check(&bytes);
    }

    #[test]
    fn any_bytes_are_read_or_not_known(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }
}
