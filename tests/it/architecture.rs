//! The house rules that no lint knows: which words may stand in which file.

use std::fs;
use std::path::{Path, PathBuf};

/// The story: what becomes of a job. It says what happens, and leaves how to the edges.
const STORY: [&str; 10] = [
    "job.rs",
    "job/wire.rs",
    "job/envelope.rs",
    "plan.rs",
    "plan/policy.rs",
    "plan/expiry.rs",
    "links.rs",
    "render.rs",
    "distribute.rs",
    "publication.rs",
];

/// Words of the outside.
const OUTSIDE: [&str; 8] = [
    "aws_",
    "lettre::transport",
    "tokio::fs",
    "std::fs",
    "SystemTime",
    "Timestamp::now",
    "rusqlite",
    "hyper",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap()
        .to_owned()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_story_does_not_speak_of_the_outside() {
    for file in STORY {
        let text = code(&source().join(file));
        for word in OUTSIDE {
            assert!(!text.contains(word), "{file} speaks of {word}");
        }
    }
}

#[test]
fn a_signed_url_is_exposed_only_where_links_leave_or_are_printed_for_their_owner() {
    let allowed = ["links/url.rs", "render/", "cli/"];
    for path in files_below(&source()) {
        let name = path
            .strip_prefix(source())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        // The same word for a receipt or a secret, which have their own places.
        let others = [
            "queue",
            "config/audit.rs",
            "config/front.rs",
            "config/letter.rs",
            "config/load.rs",
            "connection.rs",
            "deliver/smtp",
            "links/sigv4.rs",
        ];
        if allowed
            .iter()
            .chain(&others)
            .any(|place| name.starts_with(place))
        {
            continue;
        }
        assert!(!code(&path).contains(".expose()"), "{name} exposes a URL");
    }
}

#[test]
fn anyhow_stays_in_the_command_line() {
    for path in files_below(&source()) {
        let name = path
            .strip_prefix(source())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if !name.starts_with("cli") && name != "main.rs" {
            assert!(!code(&path).contains("anyhow"), "{name} uses anyhow");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for path in files_below(&source())
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        assert!(
            fs::read_to_string(path).unwrap().starts_with("//! "),
            "{} has no first line",
            path.display()
        );
    }
}
