//! Links between the pages of the project lead somewhere, and the book has each of its pages.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::support::docs::{Page, page, pages, root};

/// The targets of the links and pictures of a page, without those that are in code.
fn targets(page: &Page) -> Vec<String> {
    let prose = page.prose();
    let outside_code = prose.split('`').step_by(2);
    let text = outside_code.collect::<Vec<_>>().join("code");
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchor that a heading gets on a code host and in the book.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

fn anchors(page: &Page) -> BTreeSet<String> {
    let prose = page.prose();
    let lines = prose.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// The path below the root of the project that a target of a page names.
fn resolve(from: &Path, target: &str) -> PathBuf {
    let mut path = from.parent().unwrap().to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{}: {target}", from.display()),
            part => path.push(part),
        }
    }
    path
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for from in pages() {
        for target in targets(&from) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let path = match file {
                "" => from.path.clone(),
                file => resolve(&from.path, file),
            };
            let is_there = root().join(&path).exists();
            let has_heading = heading.is_empty()
                || is_there && anchors(&page(path.to_str().unwrap())).contains(heading);
            if !is_there || !has_heading {
                wrong.push(format!("{}: {target}", from.name()));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 100, "{count} links");
}

/// The book leaves out a page that its table of contents does not name, and links to it lead nowhere.
#[test]
fn every_page_of_the_book_is_in_its_table_of_contents_once() {
    let summary = page("docs/SUMMARY.md");
    let named: Vec<PathBuf> = targets(&summary)
        .iter()
        .map(|target| resolve(&summary.path, target))
        .collect();
    let names: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(names.len(), named.len(), "a page is named twice");
    let written = pages().into_iter().map(|page| page.path);
    let written = written.filter(|path| path.starts_with("docs") && *path != summary.path);
    let written: BTreeSet<_> = written.collect();
    assert_eq!(names, written);
}
