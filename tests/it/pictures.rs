//! What the first bytes of pictures tell: real files of many encoders, and files that lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use handout::media::Picture;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

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
    Picture::read(bytes).map(|picture| (picture.width, picture.height))
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
    let places = [
        ("plain.png", 16, 4),
        ("baseline.jpg", 0, 0),
        ("plain.gif", 6, 2),
    ];
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
    assert_eq!(with(&[(ORIENTATION, 4, 1, 6)], 0), turned, "a LONG");
    for odd in [
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
