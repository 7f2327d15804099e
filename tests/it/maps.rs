//! The pages for developers name files that exist, and the index of decision records is complete.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Where a name on these pages may begin: at the root, in `src`, among the templates, or in a crate.
fn places() -> Vec<PathBuf> {
    let mut places = vec![root().into(), root().join("src"), root().join("templates")];
    if root().join("crates").is_dir() {
        places.extend(files_in("crates").into_iter().map(|it| it.join("src")));
    }
    places
}

/// Whether text in backticks is the name of a file: `deliver/smtp.rs`, `tests/it/`.
fn is_file_name(span: &str) -> bool {
    let of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_file = [".rs", ".py", ".sh", ".hbs", ".md", ".toml"]
        .iter()
        .any(|end| span.len() > end.len() && span.ends_with(end));
    let is_folder = span.len() > 1 && span.ends_with('/') && !span.starts_with('.');
    (is_file || is_folder) && span.starts_with(char::is_alphabetic) && span.chars().all(of_path)
}

#[test]
fn every_file_that_a_page_for_developers_names_exists() {
    let mut pages = vec![root().join("ARCHITECTURE.md")];
    pages.extend(files_in("docs/development"));
    pages.extend(files_in("docs/adr"));
    let places = places();
    let mut count = 0;
    let mut missing = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for name in text.split('`').filter(|span| is_file_name(span)) {
            count += 1;
            if !places.iter().any(|place| place.join(name).exists()) {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(count > 200, "{count} names");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_index_of_decision_records_is_complete() {
    let index = fs::read_to_string(root().join("docs/adr/README.md")).unwrap();
    let records = files_in("docs/adr").into_iter();
    let records = records.filter(|path| !path.ends_with("README.md"));
    for (number, path) in (1..).zip(records) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let title = text.lines().next().unwrap();
        let title = title.strip_prefix(&format!("# {number}. "));
        let title =
            title.unwrap_or_else(|| panic!("{name}: the title does not begin `# {number}. `"));
        let line = format!("- [{number:04}: {title}]({name})\n");
        assert!(index.contains(&line), "the index has no line\n{line}");
    }
}
