//! Tests of `listing.rs`.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::bucket::Condition;
use crate::create_bucket;
use crate::description::Description;

fn bucket_of(site: &Path, keys: &BTreeSet<String>) -> Bucket {
    create_bucket(site, "bucket").unwrap();
    let bucket = Bucket::open(&site.canonicalize().unwrap(), "bucket")
        .unwrap()
        .unwrap();
    for key in keys {
        let draft = bucket.draft().unwrap();
        let nothing = Description::default();
        bucket
            .publish(key, draft, &nothing, &Condition::Absent, &Mutex::new(()))
            .unwrap();
    }
    bucket
}

/// All pages, with the invariants of each page.
fn all(
    bucket: &Bucket,
    prefix: &str,
    delimiter: Option<&str>,
    limit: usize,
    start: Option<&str>,
    folders: usize,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = start.map(|start| Mark::after(start, prefix, delimiter));
    loop {
        let query = ListingQuery {
            prefix,
            delimiter,
            after,
            limit,
            folders,
        };
        let page = list(bucket, &query).unwrap();
        let mut entries: Vec<String> = page
            .objects
            .into_iter()
            .map(|(key, _)| key)
            .chain(page.groups)
            .collect();
        entries.sort();
        let is_full = entries.len() == limit || page.next.is_none();
        assert!(entries.len() <= limit && (is_full || folders < usize::MAX));
        found.extend(entries);
        let Some(next) = page.next else { return found };
        after = Mark::from_token(&next.token());
        assert_eq!(after.as_ref(), Some(&next));
    }
}

/// A simple model of S3's listing.
fn model(
    keys: &BTreeSet<String>,
    prefix: &str,
    delimiter: Option<&str>,
    start: Option<&str>,
) -> Vec<String> {
    let is_group = |start: &str| group(start, prefix, delimiter) == Some(start);
    let behind = keys.iter().filter(|key| {
        start.is_none_or(|start| {
            key.as_str() > start && !(is_group(start) && key.starts_with(start))
        })
    });
    let mut found: Vec<String> = behind
        .filter_map(|key| {
            let rest = key.strip_prefix(prefix)?;
            let group =
                delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
            Some(group.map_or(key.clone(), |end| key[..prefix.len() + end].to_owned()))
        })
        .collect();
    found.dedup();
    found
}

fn short_key() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "-", "0", "/", "/", "//", ".", "..", "%", "%=", "\u{e9}", "\0",
    ]);
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn pages_of_any_size_are_the_listing_of_the_model(
        keys in prop::collection::btree_set(short_key(), 1..40),
        prefix in prop::sample::select(vec!["", "a", "a/", "/", "//", ".", "b/a", "%"]),
        delimiter in prop::sample::select(vec![None, Some("/"), Some("-"), Some("a"), Some("//")]),
        start in prop::option::of(short_key()),
        limit in 1_usize..8,
    ) {
        let site = tempfile::tempdir().unwrap();
        let bucket = bucket_of(site.path(), &keys);
        let expected = model(&keys, prefix, delimiter, start.as_deref());
        for folders in [1, 3, usize::MAX] {
            let found = all(&bucket, prefix, delimiter, limit, start.as_deref(), folders);
            prop_assert_eq!(&found, &expected, "{} folders", folders);
        }
        prop_assert_eq!(all(&bucket, "", None, limit, None, usize::MAX), Vec::from_iter(keys));
    }
}

#[test]
fn a_page_ends_where_the_next_begins_even_in_a_folder_larger_than_the_window() {
    let site = tempfile::tempdir().unwrap();
    let bucket = bucket_of(site.path(), &BTreeSet::new());
    let folder = site.path().join("bucket");
    let keys: BTreeSet<String> = (0..2 * WINDOW)
        .map(|i| format!("{:05}", i * 7919 % 100_003))
        .collect();
    for key in &keys {
        std::fs::write(folder.join(key), "").unwrap();
    }
    let keys: Vec<String> = keys.into_iter().collect();
    assert_eq!(all(&bucket, "", None, 700, None, usize::MAX), keys);
    // A listing that needs two windows.
    let query = ListingQuery {
        prefix: "",
        delimiter: None,
        after: None,
        limit: keys.len(),
        folders: FOLDERS,
    };
    assert_eq!(list(&bucket, &query).unwrap().objects.len(), keys.len());
}

#[test]
fn a_page_ends_after_so_many_folders_without_an_object() {
    let site = tempfile::tempdir().unwrap();
    let keys = BTreeSet::from(["a".to_owned(), "z/z".to_owned()]);
    let bucket = bucket_of(site.path(), &keys);
    for number in 0..10 {
        let folder = format!("m/{number}/below");
        std::fs::create_dir_all(
            bucket
                .folder(Path::new(""))
                .unwrap()
                .unwrap()
                .path()
                .join(folder),
        )
        .unwrap();
    }
    for delimiter in [None, Some("/")] {
        let (mut after, mut pages, mut met) = (None, 0, Vec::new());
        loop {
            let query = ListingQuery {
                prefix: "",
                delimiter,
                after,
                limit: 1000,
                folders: 3,
            };
            let page = list(&bucket, &query).unwrap();
            pages += 1;
            met.extend(page.objects.into_iter().map(|(key, _)| key));
            met.extend(page.groups);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let last = if delimiter.is_none() { "z/z" } else { "z/" };
        assert_eq!(met, ["a", last]);
        assert!((7..=9).contains(&pages), "{pages}");
    }
}

#[test]
fn a_token_that_is_not_ours_is_refused() {
    for token in ["", "k1", "kzz", "x61", "k+1", "k\u{e9}", "kff"] {
        assert_eq!(Mark::from_token(token), None, "{token}");
    }
    assert_eq!(
        Mark::from_token("g612f"),
        Some(Mark::Group("a/".to_owned()))
    );
}
