//! The names of the files in a ZIP, which Windows, macOS and Linux can unpack. Pure.
//!
//! Names are relative, have `/` between folders, and are composed (NFC). What a system forbids or takes for a device is replaced
//! as in the name of a single download. Two names that are one on a system that folds case are told apart by a number.
//! <https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file>

use std::collections::{HashMap, HashSet};

use presign::disposition::{clean_name, file_extension};

use crate::text::forms::composed;
use crate::text::{is_invisible, is_printable};

/// The longest path, in characters, as far as the name of the file can be shortened: Explorer has room for 260, and the folder in
/// which a ZIP is unpacked takes some of them.
const MAX_PATH_CHARS: usize = 200;

/// The length to which a file's name is shortened at most, in characters.
const MIN_NAME_CHARS: usize = 60;

/// The path of a file: the folders of `folder`, which is relative to the job's prefix, and its name.
pub(crate) fn path(folder: &str, file_name: &str) -> String {
    let mut folders = folder
        .split(['/', '\\'])
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .peekable();
    // A drive of Windows: `C:/data/report.pdf`.
    if folders.peek().is_some_and(|part| is_drive(part)) {
        folders.next();
    }
    let mut path = String::new();
    for part in folders {
        path.push_str(&component(part));
        path.push('/');
    }
    let room = MAX_PATH_CHARS.saturating_sub(path.chars().count());
    path.push_str(&shortened(&component(file_name), room.max(MIN_NAME_CHARS)));
    path
}

fn is_drive(part: &str) -> bool {
    matches!(part.as_bytes(), [letter, b':'] if letter.is_ascii_alphabetic())
}

/// One folder or file of a path.
fn component(text: &str) -> String {
    // Invisible characters join letters and emojis; the others of these have no place in a line.
    let shown = |c: char| match is_printable(c) || is_invisible(c) || c.is_control() {
        true => c,
        false => '_',
    };
    let name: String = composed(text).chars().map(shown).collect();
    clean_name(&name)
}

/// A file's name of at most `room` characters, with its extension.
fn shortened(name: &str, room: usize) -> String {
    let length = name.chars().count();
    if length <= room {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    let keep = room.saturating_sub(length - stem.chars().count());
    let stem: String = stem.chars().take(keep).collect();
    format!("{}{extension}", stem.trim_end_matches([' ', '.']))
}

/// A file's name without its extension, and the extension with its dot.
fn split(name: &str) -> (&str, &str) {
    match file_extension(name) {
        Some(extension) => name.split_at(name.len() - extension.len() - 1),
        None => (name, ""),
    }
}

/// The form in which systems that fold case compare names.
fn folded(path: &str) -> String {
    composed(&path.to_uppercase().to_lowercase()).into_owned()
}

/// Gives each file of a ZIP a path that no other file or folder has.
#[derive(Debug, Default)]
pub(crate) struct UniquePaths {
    /// The folders and the files so far, folded.
    taken: HashSet<String>,
    /// The next number for a path that is asked for again.
    next: HashMap<String, u32>,
}

impl UniquePaths {
    /// Notes the folders of a path. A file of that name would keep the folder from being made.
    pub(crate) fn add_folders(&mut self, path: &str) {
        let folded = folded(path);
        // From the innermost: where one is known, so are those above it.
        let ends: Vec<usize> = folded.match_indices('/').map(|(at, _)| at).collect();
        for end in ends.into_iter().rev() {
            if !self.taken.insert(folded[..end].to_owned()) {
                break;
            }
        }
    }

    /// The path itself, or with a number before its extension if it is taken. All folders must be known.
    pub(crate) fn unique(&mut self, path: String) -> String {
        let wanted = folded(&path);
        if self.taken.insert(wanted.clone()) {
            return path;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let slash = if folder.is_empty() { "" } else { "/" };
        let (stem, extension) = split(name);
        let mut number = self.next.get(&wanted).copied().unwrap_or(2);
        loop {
            let numbered = format!("{folder}{slash}{stem} ({number}){extension}");
            number += 1;
            if self.taken.insert(folded(&numbered)) {
                self.next.insert(wanted, number);
                return numbered;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unique(paths: &[&str]) -> Vec<String> {
        let mut unique = UniquePaths::default();
        paths.iter().for_each(|path| unique.add_folders(path));
        paths
            .iter()
            .map(|path| unique.unique((*path).to_owned()))
            .collect()
    }

    #[test]
    fn a_path_is_relative_and_every_system_can_make_it() {
        for (folder, name, expected) in [
            ("", "a.pdf", "a.pdf"),
            ("2026/11", "a b.pdf", "2026/11/a b.pdf"),
            ("/etc", "passwd", "etc/passwd"),
            ("../../etc/./x", "passwd", "etc/x/passwd"),
            ("C:/Users", "a.pdf", "Users/a.pdf"),
            ("a\\b", "c\\d.pdf", "a/b/c_d.pdf"),
            ("a:b<c>", "\"x|y?*.pdf", "a_b_c_/_x_y__.pdf"),
            ("con/aux.x", "NUL.tar.gz", "_con/_aux.x/_NUL.tar.gz"),
            ("a. /b.", "c. ", "a/b/c"),
            ("...", "..", "file/file"),
            (
                "U\u{308}ber",
                "a\u{202e}b\u{2028}c.pdf",
                "\u{dc}ber/a_b_c.pdf",
            ),
            ("写真", "山 🎉.jpg", "写真/山 🎉.jpg"),
        ] {
            assert_eq!(path(folder, name), expected, "{folder} {name}");
        }
    }

    #[test]
    fn a_long_name_is_shortened_and_keeps_its_extension() {
        let folder = ["f".repeat(60), "g".repeat(60)].join("/");
        let shortened = path(&folder, &format!("{}.tar.gz", "n".repeat(140)));
        assert_eq!(shortened.chars().count(), MAX_PATH_CHARS);
        assert!(shortened.ends_with("n.tar.gz"), "{shortened}");
        let deep = path(
            &["f".repeat(100), "g".repeat(100)].join("/"),
            &"n".repeat(140),
        );
        let (_, name) = deep.rsplit_once('/').unwrap();
        assert_eq!(name.len(), MIN_NAME_CHARS);
    }

    #[test]
    fn names_that_are_one_on_some_system_are_told_apart() {
        for (paths, expected) in [
            (
                &["a.pdf", "A.PDF", "a.pdf"][..],
                &["a.pdf", "A (2).PDF", "a (2).pdf"][..],
            ),
            (
                &["x/a", "X/A", "x/A (2)"],
                &["x/a", "X/A (2)", "x/A (2) (2)"],
            ),
            (&["a", "a/b", "A/B"], &["a (2)", "a/b", "A/B (2)"]),
            (&["a/b/c", "a/b", "a"], &["a/b/c", "a/b (2)", "a (2)"]),
            (&["Stra\u{df}e", "STRASSE"], &["Stra\u{df}e", "STRASSE (2)"]),
            (&["x.tar.gz", "x.tar.gz"], &["x.tar.gz", "x (2).tar.gz"]),
        ] {
            // The first case finds `a (2).pdf` taken by `A (2).PDF`.
            let found = unique(paths);
            let folded: HashSet<String> = found.iter().map(|path| folded(path)).collect();
            assert_eq!(folded.len(), paths.len(), "{found:?}");
            if paths[0] != "a.pdf" {
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn ten_thousand_files_of_one_name_take_no_longer_than_others() {
        let paths = vec!["same.jpg"; 10_000];
        let found = unique(&paths);
        assert_eq!(found[9_999], "same (10000).jpg");
    }
}
