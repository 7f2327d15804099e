//! Tests of `links/listing.rs`.

use jiff::Timestamp;

use serde_json::json;

use super::gathering::natural;
use std::time::Duration;

use super::*;
use crate::bounds::MAX_LEFT_OUT;
use crate::job::glob;
use crate::render::samples;
use crate::store::Storage;

fn entry(number: usize) -> Entry {
    Entry::Unavailable(format!("key-{number:07}"), Unlinkable::Missing)
}

#[test]
fn pages_come_back_from_memory_and_from_the_file_alike() {
    let folder = tempfile::tempdir().unwrap();
    let mut pages = Pages::default();
    for number in 0..10 {
        pages
            .push(
                vec![entry(number), entry(number + 100)],
                &folder.path().into(),
            )
            .unwrap();
    }
    for number in 0..10 {
        let page = [entry(number), entry(number + 100)];
        assert_eq!(pages.read(number).unwrap().unwrap(), page);
        let bytes = pages.bytes(number).unwrap().unwrap();
        assert_eq!(bytes, serde_json::to_vec(&page).unwrap());
    }
    assert_eq!(pages.read(10).unwrap(), None);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "the file has no name"
    );
}

#[test]
fn an_object_comes_back_as_it_was_kept_by_this_build_or_an_earlier_one() {
    let until = "2026-12-21T00:00:00Z".parse().unwrap();
    let object = |version: Option<&str>, storage| {
        Entry::Linkable(ObjectMeta {
            key: "a/\u{fc} \".jpg".parse().unwrap(),
            size_bytes: u64::MAX,
            etag: "d41d8".to_owned(),
            version: version.map(ToOwned::to_owned),
            modified: "2026-11-23T05:12:09Z".parse().unwrap(),
            storage,
            stored: None,
        })
    };
    let page = [
        object(None, Storage::Ready),
        object(Some("null"), Storage::Restored { until }),
        object(Some("v1"), Storage::CustomerKey),
        object(None, Storage::Archived),
        Entry::Unavailable("b".to_owned(), Unlinkable::Missing),
    ];
    let kept = serde_json::to_vec(&page).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Entry>>(&kept).unwrap(), page);

    let before = r#"[
            {"Linkable":{"key":"a/ü \".jpg","size_bytes":18446744073709551615,"etag":"d41d8","modified":"2026-11-23T05:12:09Z","storage":"ready"}},
            {"Linkable":{"key":"a/ü \".jpg","size_bytes":18446744073709551615,"etag":"d41d8","version":"null","modified":"2026-11-23T05:12:09Z",
             "storage":{"restored":{"until":"2026-12-21T00:00:00Z"}}}},
            {"Linkable":{"key":"a/ü \".jpg","size_bytes":18446744073709551615,"etag":"d41d8","version":"v1","modified":"2026-11-23T05:12:09Z",
             "storage":"customer-key"}},
            {"Linkable":{"key":"a/ü \".jpg","size_bytes":18446744073709551615,"etag":"d41d8","modified":"2026-11-23T05:12:09Z","storage":"archived"}},
            {"Unavailable":["b","UNLINKABLE"]}
        ]"#;
    let reason = serde_json::to_string(&Unlinkable::Missing).unwrap();
    let before = before.replace("\"UNLINKABLE\"", &reason);
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&before).unwrap(), page);
}

#[test]
fn what_is_left_out_is_counted_for_each_audience_that_is_told_of_it() {
    let plan = |recipients: u32, per_recipient: bool| {
        let to = (0..recipients).map(|n| format!("r{n}@acme.example"));
        let to: Vec<String> = to.collect();
        Plan {
            per_recipient,
            ..samples::plan("r/", &json!({ "email": { "to": to } }))
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = Location::from(dir.path());
    for (plan, most) in [
        (plan(1, true), MAX_LEFT_OUT),
        (plan(10, true), MAX_LEFT_OUT),
        (plan(100, false), MAX_LEFT_OUT),
        (plan(100, true), 100_000),
    ] {
        assert_eq!(Gathering::new(&plan, &dir).most_left_out(), most);
    }
    let plan = plan(10_000, true);
    let mut gathering = Gathering::new(&plan, &dir);
    let mut leave_out = |n: u64| gathering.leave_out(format!("r/{n}"), Unlinkable::Archived);
    for n in 0..1_000 {
        leave_out(n).unwrap();
    }
    let error = leave_out(1_000).unwrap_err();
    assert!(
        matches!(error, GatherError::TooMany { limit: 1_000, .. }),
        "{error}"
    );
}

/// Keys and patterns that are slow to compare: every position of a key is a new state of the matcher.
fn slow() -> (Vec<ObjectMeta>, Filter) {
    let bit = |n: u32| match n.wrapping_mul(2_654_435_761) >> 19 & 1 {
        0 => 'a',
        _ => 'b',
    };
    let object = |number: u32| {
        let part = |n: u32| (n..n + 250).map(bit).collect::<String>();
        let parts = [0, 250, 500].map(|n| part(number * 1000 + n));
        ObjectMeta {
            key: format!("p/{}", parts.join("/")).parse().unwrap(),
            size_bytes: 1,
            etag: String::new(),
            version: None,
            modified: Timestamp::UNIX_EPOCH,
            storage: Storage::Ready,
            stored: None,
        }
    };
    let patterns: Vec<String> = (60..63)
        .map(|number| format!("*a{}*c", "?".repeat(number)))
        .collect();
    let filter = Filter {
        exclude: glob::set("from.exclude", &patterns).unwrap(),
        ..Filter::default()
    };
    ((0..1000).map(object).collect(), filter)
}

#[tokio::test]
async fn long_filtering_holds_nothing_up_and_ends_when_it_is_asked_to() {
    let (objects, filter) = slow();
    let (filter, stop) = (Arc::new(filter), Cancellation::default());
    let mut filtering = std::pin::pin!(passed(objects.clone(), "p/", &filter, &stop));
    let begun = tokio::time::Instant::now();
    tokio::select! {
        biased;
        _ = &mut filtering => panic!("a page of slow keys was filtered in no time"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "the thread is free"
    );
    stop.cancel();
    assert!(matches!(filtering.await, Err(GatherError::Stopped(_))));

    let few = objects[..2].to_vec();
    let all = passed(few.clone(), "p/", &filter, &Cancellation::default()).await;
    assert_eq!(all.unwrap(), few);
}

#[test]
fn names_are_ordered_as_people_order_them() {
    let mut names = [
        "IMG_10.jpg",
        "img_9.jpg",
        "IMG_9b.jpg",
        "a",
        "",
        "IMG_010.jpg",
        "Ä",
    ];
    names.sort_by(|a, b| natural(a, b));
    assert_eq!(
        names,
        [
            "",
            "a",
            "img_9.jpg",
            "IMG_9b.jpg",
            "IMG_10.jpg",
            "IMG_010.jpg",
            "Ä"
        ]
    );
}
