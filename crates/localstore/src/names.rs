//! Maps keys to file paths, and file names to keys.
//!
//! An operator puts `2026/11/a b.pdf` into a bucket's folder and expects the key `2026/11/a b.pdf`: a segment of a key is the
//! name of a file or folder, unchanged. But a key may be any 1 to 1,024 bytes of UTF-8, and some segments cannot be file names:
//! an empty one (`//`, a leading or trailing `/`), `.` and `..`, a NUL, more than 255 bytes, and the one reserved name. These are
//! *encoded*:
//!
//! | on disk             | means                                                                              |
//! |---------------------|------------------------------------------------------------------------------------|
//! | `%~TEXT`            | the segment `TEXT`, which cannot be a file name                                    |
//! | `%=TEXT` (a file)   | the last segment `TEXT`, when a *folder* has that name already (`a` beside `a/b`)  |
//! | `%+TEXT` (a folder) | the first part of a segment that is too long; the rest is the name inside          |
//!
//! where `TEXT` writes `%` as `%25` and NUL as `%00`. One rule keeps this injective and preserves the operator's names: **a name
//! stands for itself unless it is the encoding of a segment that cannot be a file name.** So `100% done.pdf`, `report%20x.pdf`
//! and `%~notes` stand for themselves, because `notes` needs no encoding. A name like `%~..` is an encoding, and the key `%~..`
//! is in turn encoded as `%~%25~..`. A name that breaks the table (a folder `%=a`) is not part of any key: it is neither listed
//! nor found.
//!
//! This module does not access the disk. Names are compared by bytes: as in S3, NFC and NFD are two keys, so the file system must
//! distinguish them (and `a` from `A`), as those of Linux do.

use std::borrow::Cow;
use std::path::PathBuf;

/// Longest key in bytes. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
pub(crate) const MAX_KEY: usize = 1024;

/// The reserved folder of a bucket; no object has this name, at any depth.
pub(crate) const RESERVED: &str = ".handout";

/// The maximum length of a file name in bytes: `NAME_MAX` of Linux and of every file system in use there.
const MAX_NAME: usize = 255;

const SPELLED: &str = "%~";
const BESIDE: &str = "%=";
const PART: &str = "%+";

/// The maximum length of a part, and the minimum: a cut moves back by up to three bytes to keep characters whole.
const MAX_PART: usize = MAX_NAME - PART.len();
const MIN_PART: usize = MAX_PART - 3;

/// The two possible places of a key's file, relative to the bucket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamePlaces {
    /// The default place.
    pub(crate) usual: PathBuf,
    /// The place if the usual one is a folder.
    pub(crate) beside: PathBuf,
}

/// The meaning of the name of a file or folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NameReading<'a> {
    /// A segment of a key.
    Segment(Cow<'a, str>),
    /// The last segment of a key whose usual name may be taken by a folder.
    Beside(String),
    /// The beginning of a segment that continues in the names inside.
    Part(String),
}

/// The possible places of the file of `key`.
pub(crate) fn places(key: &str) -> NamePlaces {
    let (folders, file) = key
        .rsplit_once('/')
        .map_or((None, key), |(f, file)| (Some(f), file));
    let folder = folders.map(folder).unwrap_or_default();
    let place = |names: Vec<String>| {
        folder
            .iter()
            .map(PathBuf::from)
            .chain(names.into_iter().map(PathBuf::from))
            .collect()
    };
    NamePlaces {
        usual: place(name(file)),
        beside: place(spell(BESIDE, file)),
    }
}

/// The place of the folder with the keys that begin with `prefix` and a `/`.
pub(crate) fn folder(prefix: &str) -> PathBuf {
    prefix.split('/').flat_map(name).collect()
}

/// The usual place of a segment in its folder.
pub(crate) fn segment(text: &str) -> PathBuf {
    name(text).iter().collect()
}

/// The place of a last segment in its folder if the usual one is a folder.
pub(crate) fn beside(text: &str) -> PathBuf {
    spell(BESIDE, text).iter().collect()
}

/// Decodes the name of a file or folder; `None` if it is not part of any key.
///
/// `before` is the text of the enclosing parts, and is empty in an ordinary folder.
pub(crate) fn read<'a>(before: &str, name: &'a str) -> Option<NameReading<'a>> {
    read_spelled(before, name).or_else(|| {
        let stands = before.is_empty() && stands(name);
        stands.then_some(NameReading::Segment(Cow::Borrowed(name)))
    })
}

fn read_spelled(before: &str, name: &str) -> Option<NameReading<'static>> {
    let (sigil, spelling) = name.split_at_checked(SPELLED.len())?;
    if ![SPELLED, BESIDE, PART].contains(&sigil) {
        return None;
    }
    let text = format!("{before}{}", unquote(spelling)?);
    match sigil {
        SPELLED if !stands(&text) => Some(NameReading::Segment(Cow::Owned(text))),
        BESIDE => Some(NameReading::Beside(text)),
        PART if spelling.len() >= MIN_PART => Some(NameReading::Part(text)),
        _ => None,
    }
}

/// Whether a segment can be a file name unchanged. This function and `read_spelled` are mutually recursive, on ever shorter
/// texts.
fn stands(segment: &str) -> bool {
    !matches!(segment, "" | "." | ".." | RESERVED)
        && segment.len() <= MAX_NAME
        && !segment.contains(['\0', '/'])
        && read_spelled("", segment).is_none()
}

/// The name of a segment: one path component, or several if it is long.
fn name(segment: &str) -> Vec<String> {
    if stands(segment) {
        vec![segment.to_owned()]
    } else {
        spell(SPELLED, segment)
    }
}

fn spell(sigil: &str, segment: &str) -> Vec<String> {
    let quoted = quote(segment);
    let mut rest = quoted.as_str();
    let mut names = Vec::new();
    while rest.len() > MAX_PART {
        let (part, after) = rest.split_at(cut(rest));
        names.push(format!("{PART}{part}"));
        rest = after;
    }
    names.push(format!("{sigil}{rest}"));
    names
}

/// The last cut position, up to the maximum length of a part, that splits neither a character nor a `%25`.
fn cut(quoted: &str) -> usize {
    let end = quoted.floor_char_boundary(MAX_PART);
    match quoted.as_bytes()[..end] {
        [.., b'%'] => end - 1,
        [.., b'%', _] => end - 2,
        _ => end,
    }
}

fn quote(text: &str) -> String {
    text.replace('%', "%25").replace('\0', "%00")
}

/// The inverse of `quote`; `None` if the text is not an output of `quote`.
fn unquote(spelling: &str) -> Option<String> {
    let mut pieces = spelling.split('%');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        text.push(match code {
            "25" => '%',
            "00" => '\0',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn usual(key: &str) -> String {
        places(key).usual.to_str().unwrap().to_owned()
    }

    fn beside_of(key: &str) -> String {
        places(key).beside.to_str().unwrap().to_owned()
    }

    /// Decodes a path, name by name, as a listing does.
    fn key_of(path: &Path) -> Option<String> {
        let names: Vec<&str> = path.iter().map(|name| name.to_str().unwrap()).collect();
        let (file, folders) = names.split_last()?;
        let (mut key, mut before) = (String::new(), String::new());
        for name in folders {
            match read(&before, name)? {
                NameReading::Segment(text) => {
                    key.push_str(&text);
                    key.push('/');
                    before.clear();
                }
                NameReading::Part(text) => before = text,
                NameReading::Beside(_) => return None,
            }
        }
        match read(&before, file)? {
            NameReading::Segment(text) => Some(key + &text),
            NameReading::Beside(text) => Some(key + &text),
            NameReading::Part(_) => None,
        }
    }

    #[test]
    fn a_key_is_the_path_that_an_operator_would_type() {
        for key in [
            "2026/11/a b.pdf",
            "report%20x.pdf",
            "100% done.pdf",
            "a%2Fb.pdf",
            "%",
            "%~notes",
            "%~%2e",
            "%+short/x",
            "a+b&c=d",
            "back\\slash",
            "line\nbreak",
            "\u{1F4C4}.pdf",
            "e\u{301}/\u{e9}",
            ".hidden/..x/...",
            "-rf",
        ] {
            assert_eq!(usual(key), key);
        }
    }

    #[test]
    fn what_cannot_stand_is_spelled() {
        for (key, path) in [
            ("/a", "%~/a"),
            ("a//b", "a/%~/b"),
            ("a/", "a/%~"),
            ("/", "%~/%~"),
            (".", "%~."),
            ("../x", "%~../x"),
            ("a/../../x", "a/%~../%~../x"),
            ("./a/.", "%~./a/%~."),
            (".handout/tmp", "%~.handout/tmp"),
            ("a/.handout", "a/%~.handout"),
            ("a\0b", "%~a%00b"),
            ("%\0", "%~%25%00"),
            ("%~..", "%~%25~.."),
            ("%~%25~..", "%~%25~%2525~.."),
            ("%=a", "%~%25=a"),
            ("%=a/b", "%~%25=a/b"),
        ] {
            assert_eq!(usual(key), path, "{key:?}");
            assert_eq!(key_of(Path::new(path)).as_deref(), Some(key));
        }
    }

    #[test]
    fn a_file_beside_a_folder_of_its_name_has_a_spelling_of_its_own() {
        for (key, path) in [
            ("a", "%=a"),
            ("x/a", "x/%=a"),
            ("a/", "a/%="),
            ("50%", "%=50%25"),
        ] {
            assert_eq!(beside_of(key), path);
            assert_eq!(key_of(Path::new(path)).as_deref(), Some(key));
        }
    }

    #[test]
    fn a_long_segment_goes_on_in_the_next_name() {
        assert_eq!(usual(&"n".repeat(255)), "n".repeat(255));
        let key = "n".repeat(256);
        assert_eq!(usual(&key), format!("%+{}/%~nnn", "n".repeat(253)));
        assert_eq!(
            beside(&"n".repeat(255)),
            format!("%+{}/%=nn", "n".repeat(253))
        );
        assert_eq!(key_of(Path::new(&usual(&key))), Some(key));
    }

    #[test]
    fn a_long_segment_is_cut_between_characters() {
        for segment in [
            "\u{1F4C4}".repeat(256),
            "x%\0\u{e9}".repeat(150),
            "%".repeat(1024),
        ] {
            let path = places(&segment).usual;
            for name in &path {
                assert!(name.len() <= MAX_NAME);
            }
            assert_eq!(key_of(&path).as_ref(), Some(&segment));
        }
    }

    #[test]
    fn a_name_that_no_client_wrote_is_no_key() {
        assert_eq!(read("", RESERVED), None);
        let part = format!("%+{}", "n".repeat(253));
        assert_eq!(key_of(&Path::new(&part).join("n")), None);
        // "nn…n" with 255 bytes is a valid file name, so this encoding of it is not used.
        assert_eq!(key_of(&Path::new(&part).join("%~nn")), None);
    }

    /// Critical fragments, so that short names collide if any do.
    const PIECES: [&str; 26] = [
        "%",
        "%~",
        "%=",
        "%+",
        "%25",
        "%00",
        "%2F",
        "25",
        "00",
        "/",
        "//",
        ".",
        "..",
        "\0",
        "\\",
        "a",
        "b",
        "\u{e9}",
        "e\u{301}",
        "\u{1F4C4}",
        "\n",
        RESERVED,
        " ",
        LONG,
        "~",
        "=",
    ];

    fn hostile(pieces: Vec<&'static str>) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(pieces), 1..8).prop_map(|pieces| pieces.concat())
    }

    fn hostile_key() -> impl Strategy<Value = String> {
        hostile(PIECES.to_vec()).prop_filter("too long", |key| key.len() <= MAX_KEY)
    }

    fn hostile_name() -> impl Strategy<Value = String> {
        let pieces = PIECES
            .into_iter()
            .filter(|piece| !piece.contains(['/', '\0']));
        hostile(pieces.collect()).prop_filter("no file has it", |name| {
            name.len() <= MAX_NAME && name != "." && name != ".."
        })
    }

    const LONG: &str = concat!(
        "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll",
        "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll",
        "llllllllllllllllllllllllllllllllllllllllllllllllll"
    );

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn every_key_comes_back_from_both_of_its_places(key in hostile_key()) {
            let places = places(&key);
            prop_assert_eq!(key_of(&places.usual), Some(key.clone()));
            prop_assert_eq!(key_of(&places.beside), Some(key));
        }

        #[test]
        fn any_text_comes_back_too(key in "\\PC{1,256}") {
            prop_assume!(key.len() <= MAX_KEY);
            prop_assert_eq!(key_of(&places(&key).usual), Some(key));
        }

        #[test]
        fn no_path_leaves_the_bucket_or_enters_the_reserved_folder(key in hostile_key()) {
            let NamePlaces { usual, beside } = places(&key);
            for path in [usual, beside] {
                prop_assert!(path.as_os_str().len() < 3500, "within PATH_MAX");
                for component in path.components() {
                    let Component::Normal(name) = component else {
                        return Err(TestCaseError::fail(format!("{path:?} has {component:?}")));
                    };
                    prop_assert!(name != RESERVED && name.len() <= MAX_NAME);
                    prop_assert!(!name.to_str().unwrap().contains('\0'));
                }
            }
        }

        #[test]
        fn no_two_keys_share_a_place(keys in prop::collection::hash_set(hostile_key(), 2..40)) {
            let mut owners = HashMap::new();
            for key in &keys {
                let NamePlaces { usual, beside } = places(key);
                for path in [usual, beside] {
                    let other = owners.insert(path, key);
                    prop_assert_eq!(other, None, "{:?} too", key);
                }
            }
        }

        /// An operator's file of any name: its key leads back to the same file.
        #[test]
        fn a_name_that_is_read_is_the_name_of_its_key(name in hostile_name()) {
            match read("", &name) {
                Some(NameReading::Segment(key)) => prop_assert_eq!(usual(&key), name),
                Some(NameReading::Beside(key)) => prop_assert_eq!(beside_of(&key), name),
                Some(NameReading::Part(_)) => prop_assert!(name.len() > MIN_PART),
                None => prop_assert_eq!(name, RESERVED),
            }
        }
    }
}
