//! Tests of `links/ranges.rs`.

use super::*;
use crate::store::Storage;
use jiff::Timestamp;
use proptest::prelude::*;
use std::cell::RefCell;
use std::ops::Bound;

fn object(key: &str) -> ObjectMeta {
    ObjectMeta {
        key: key.parse().unwrap(),
        size_bytes: 1,
        etag: String::new(),
        version: None,
        modified: Timestamp::UNIX_EPOCH,
        storage: Storage::Ready,
        stored: None,
    }
}

/// The answer of a store whose pages have `size` keys.
fn page(keys: &BTreeSet<String>, cursor: Cursor<'_>, size: usize) -> Page {
    let after = match cursor {
        Cursor::Start => "",
        Cursor::After(key) | Cursor::Token(key) => key,
    };
    let rest = keys.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
    let mut some: Vec<ObjectMeta> = rest.take(size + 1).map(|key| object(key)).collect();
    let has_more = some.len() > size;
    some.truncate(size);
    let last = some.last().map(|object| object.key.to_string());
    Page {
        continuation_token: last.filter(|_| has_more),
        objects: some,
    }
}

/// The result of a listing.
#[derive(Debug, Default)]
struct Listed {
    keys: Vec<String>,
    requests: usize,
    /// How many answers were waited for, one after the other: answers of concurrent requests arrive together.
    rounds: usize,
    /// The most pages that were buffered.
    ahead: usize,
}

fn list(keys: &BTreeSet<String>, prefix: &str, at_once: usize, size: usize) -> Listed {
    let (mut ranges, mut listed) = (Ranges::new(prefix, at_once), Listed::default());
    loop {
        let asks = ranges.asks();
        let set_aside: usize = ranges.ranges.iter().map(|range| range.pages.len()).sum();
        listed.ahead = listed.ahead.max(set_aside);
        assert!(ranges.in_flight <= at_once);
        listed.requests += asks.len();
        listed.rounds += usize::from(!asks.is_empty());
        for ask in asks {
            if let Cursor::After(place) = ask.cursor() {
                assert!(
                    place.starts_with(prefix),
                    "{place:?} is not under {prefix:?}"
                );
                assert!(
                    place.len() <= MAX_KEY_BYTES,
                    "{place:?} is too long for a key"
                );
            }
            let answer = page(keys, ask.cursor(), size);
            ranges.answer(ask.range, answer).unwrap();
        }
        loop {
            match ranges.pop().unwrap() {
                Popped::Page(page) => {
                    listed
                        .keys
                        .extend(page.into_iter().map(|o| o.key.to_string()));
                }
                Popped::NotYet => break,
                Popped::End => return listed,
            }
        }
    }
}

fn numbered(count: usize, spell: impl Fn(usize) -> String) -> BTreeSet<String> {
    (0..count).map(spell).collect()
}

#[test]
fn a_long_listing_is_cut_whatever_its_keys_look_like() {
    let day = |n: usize| {
        format!(
            "2026/{:02}/{:02}/{:05}.csv",
            n / 2800,
            n / 100 % 28,
            n % 100
        )
    };
    let shapes = [
        (
            "numbers",
            "p/",
            numbered(50_000, |n| format!("p/{n:08}.jpg")),
        ),
        ("counted", "p/", numbered(50_000, |n| format!("p/{n}.jpg"))),
        ("days", "", numbered(30_000, day)),
        (
            "hashes",
            "h/",
            numbered(50_000, |n| {
                format!("h/{}", crate::keyring::sha256_hex(&n.to_le_bytes()))
            }),
        ),
        (
            "kana",
            "写真/",
            numbered(50_000, |n| {
                let kana =
                    |n: usize| char::from_u32(0x30a1 + u32::try_from(n % 80).unwrap()).unwrap();
                format!("写真/{}{}{}", kana(n / 6400), kana(n / 80), kana(n))
            }),
        ),
    ];
    let mut table = String::new();
    for (name, prefix, keys) in shapes {
        let listed = list(&keys, prefix, 8, 100);
        assert!(listed.keys.iter().eq(&keys), "{name}");
        let one = list(&keys, prefix, 1, 100);
        assert_eq!(one.rounds, keys.len().div_ceil(100), "{name}");
        let Listed {
            rounds,
            requests,
            ahead,
            ..
        } = listed;
        assert!(requests <= 2 * one.requests + 2 * SPARE_GUESSES, "{name}");
        assert!(ahead <= AHEAD_IN_ALL + 8, "{name}: {ahead}");
        table += &format!(
            "{name}: {rounds} answers instead of {}, {requests} requests\n",
            one.rounds
        );
        assert!(rounds * 2 < one.rounds, "{table}");
    }
    insta::assert_snapshot!(table, @r"
        numbers: 121 answers instead of 500, 681 requests
        counted: 158 answers instead of 500, 688 requests
        days: 77 answers instead of 300, 500 requests
        hashes: 103 answers instead of 500, 614 requests
        kana: 109 answers instead of 500, 622 requests
        ");
}

#[test]
fn a_short_listing_costs_what_it_did() {
    let keys = numbered(100, |n| format!("{n:03}"));
    assert_eq!(list(&keys, "", 8, 100).requests, 1);
    let keys = numbered(150, |n| format!("{n:03}"));
    assert_eq!(
        list(&keys, "", 8, 100).requests,
        3,
        "two pages, and a guess"
    );
}

/// Lists a store whose answer to a place is `answer`'s, until the listing ends or is void.
fn listed_from(answer: impl Fn(Cursor<'_>) -> Page) -> Result<Vec<String>, GatherError> {
    let (mut ranges, mut found) = (Ranges::new("", 8), Vec::new());
    loop {
        for ask in ranges.asks() {
            ranges.answer(ask.range, answer(ask.cursor()))?;
        }
        match ranges.pop()? {
            Popped::Page(page) => found.extend(page.into_iter().map(|o| o.key.to_string())),
            Popped::NotYet => {}
            Popped::End => return Ok(found),
        }
    }
}

#[test]
fn a_store_that_begins_elsewhere_than_it_was_asked_is_found_out() {
    let keys = numbered(1000, |n| format!("{n:04}"));
    let listed = |ignored: &str| {
        listed_from(|cursor| match cursor {
            Cursor::After(_) if ignored == "place" => page(&keys, Cursor::Start, 10),
            Cursor::After(place) if ignored == "next" => {
                page(&keys, Cursor::After(&format!("{place}~")), 10)
            }
            cursor => page(&keys, cursor, 10),
        })
    };
    assert!(listed("").unwrap().iter().eq(&keys));
    for ignored in ["place", "next"] {
        let error = listed(ignored).unwrap_err();
        assert!(matches!(error, GatherError::OutOfOrder { .. }), "{error}");
    }
}

/// The answer of a store that lists as a tree: what is in a folder precedes all names that begin with the folder's.
fn page_of_tree(keys: &BTreeSet<String>, cursor: Cursor<'_>, size: usize) -> Page {
    let after = match cursor {
        Cursor::Start => "",
        Cursor::After(key) | Cursor::Token(key) => key,
    };
    let path = |key: &str| key.split('/').map(ToOwned::to_owned).collect::<Vec<_>>();
    let mut rest: Vec<&String> = keys.iter().filter(|key| path(key) > path(after)).collect();
    rest.sort_by_key(|key| path(key));
    let token = rest.get(size).and(rest.get(size - 1));
    Page {
        continuation_token: token.map(|key| (*key).clone()),
        objects: rest.iter().take(size).map(|key| object(key)).collect(),
    }
}

#[test]
fn keys_as_long_as_keys_may_be_are_cut_nowhere_behind_them() {
    let prefix = "p".repeat(MAX_KEY_BYTES - 4);
    let keys = numbered(2000, |n| format!("{prefix}{n:04}"));
    let listed = list(&keys, &prefix, 8, 10);
    assert!(listed.keys.iter().eq(&keys));
    assert!(listed.rounds < 150, "{}", listed.rounds);
}

#[test]
fn a_store_that_refuses_guessed_places_is_listed_page_by_page() {
    let keys = numbered(1000, |n| format!("{n:04}"));
    // Refused requests return before the others, or after them.
    for is_late in [false, true] {
        let (mut ranges, mut found, mut refused) = (Ranges::new("", 8), Vec::new(), 0);
        loop {
            let mut asks = ranges.asks();
            asks.sort_by_key(|ask| matches!(ask.cursor(), Cursor::After(_)) == is_late);
            for ask in asks {
                match ask.cursor() {
                    Cursor::After(_) => {
                        assert!(ranges.give_up(ask.range));
                        refused += 1;
                    }
                    cursor => ranges.answer(ask.range, page(&keys, cursor, 10)).unwrap(),
                }
            }
            match ranges.pop().unwrap() {
                Popped::Page(page) => found.extend(page.into_iter().map(|o| o.key.to_string())),
                Popped::NotYet => {}
                Popped::End => break,
            }
        }
        assert!(found.iter().eq(&keys));
        assert!((1..8).contains(&refused), "{refused}");
    }
    let mut ranges = Ranges::new("", 8);
    let first = ranges.asks().remove(0).range;
    assert!(!ranges.give_up(first), "its place was not guessed");
}

#[test]
fn pages_of_long_keys_are_fewer_ahead() {
    let prefix = "p".repeat(MAX_KEY_BYTES - 8);
    let keys = numbered(60_000, |n| format!("{prefix}{n:08}"));
    let listed = list(&keys, &prefix, 8, 1000);
    assert!(listed.keys.iter().eq(&keys));
    let page = 1000 * (size_of::<ObjectMeta>() + MAX_KEY_BYTES);
    assert!(
        listed.ahead * page <= MAX_BYTES_AHEAD + 9 * page,
        "{}",
        listed.ahead
    );
}

#[test]
fn a_page_out_of_order_is_an_error() {
    let mut ranges = Ranges::new("", 8);
    let asked = ranges.asks().remove(0).range;
    let page = Page {
        objects: vec![object("b"), object("a")],
        continuation_token: None,
    };
    let error = ranges.answer(asked, page).unwrap_err();
    assert!(matches!(error, GatherError::OutOfOrder { .. }), "{error}");
}

proptest! {
    #[test]
    fn what_comes_and_goes_meanwhile_neither_doubles_nor_hides_the_rest(
        stay in proptest::collection::btree_set("[a-d]{1,5}", 1..200),
        changes in proptest::collection::vec(("[a-d]{1,5}!", any::<bool>()), 0..60),
        size in 1_usize..20,
    ) {
        let (keys, changes) = (RefCell::new(stay.clone()), RefCell::new(changes.into_iter()));
        let listed = listed_from(|cursor| {
            let answer = page(&keys.borrow(), cursor, size);
            match changes.borrow_mut().next() {
                Some((key, true)) => drop(keys.borrow_mut().insert(key)),
                Some((key, false)) => drop(keys.borrow_mut().remove(&key)),
                None => {}
            }
            answer
        });
        // A change just where two ranges meet makes the listing void, and all is listed again.
        if let Ok(found) = listed {
            prop_assert!(found.is_sorted_by(|a, b| a < b), "{:?}", found);
            let found: BTreeSet<String> = found.into_iter().collect();
            prop_assert!(found.is_superset(&stay));
        }
    }

    #[test]
    fn nothing_is_hidden_by_a_store_that_lists_as_a_tree(
        keys in proptest::collection::btree_set("[ab]{1,2}[ /.-]{0,1}[ab0-9]{1,2}(/[ab]| [ab]){0,1}", 1..200),
        size in 1_usize..20,
    ) {
        match listed_from(|cursor| page_of_tree(&keys, cursor, size)) {
            Ok(found) => prop_assert!(found.iter().eq(&keys), "{:?}", found),
            Err(error) => {
                let is_void = matches!(error, GatherError::OutOfOrder { .. });
                prop_assert!(is_void, "{}", error);
            }
        }
    }

    #[test]
    fn each_key_is_listed_once_and_in_order(
        keys in proptest::collection::btree_set("[a-c/é🎉\u{7}\n ~]{1,6}|//.{1,4}|\\PC{1,3}", 0..300),
        at_once in 1_usize..10,
        size in 1_usize..20,
    ) {
        let listed = list(&keys, "", at_once, size);
        prop_assert!(listed.keys.iter().eq(&keys), "{:?}", listed);
    }
}
