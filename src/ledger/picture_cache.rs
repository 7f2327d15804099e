//! A cache beside the ledger, for what can be computed again.
//!
//! Correctness does not depend on it. The cache may drop entries, and a caller that finds none computes the value
//! itself. Entries never change, since their name covers the state of what they describe.

use std::fmt;

use async_trait::async_trait;

use super::LedgerError;
use crate::keyring::sha256_hex;

/// How many entries are stored as one bundle, on average, where each request has its price.
const ABOUT_TOGETHER: u8 = 64;

/// Stores small texts under the SHA-256, in hexadecimal digits, of what they describe.
#[async_trait]
pub trait PictureCache: Send + Sync + fmt::Debug {
    /// The entry of each name, in the order of the names.
    async fn recall(&self, names: &[String]) -> Result<Vec<Option<String>>, LedgerError>;

    /// Stores texts under their names. A cache may bundle some of them, and then finds them only for callers that ask
    /// for the same names together.
    async fn keep(&self, things: &[(String, String)]) -> Result<(), LedgerError>;
}

/// Entries that are stored as one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The SHA-256 of their names.
    pub(super) name: String,
    /// The positions of its members among all names.
    pub(super) members: Vec<usize>,
}

/// Divides names into bundles, in the same order. Each name itself decides whether it ends a bundle, so that a name
/// more or less changes only its own bundle.
pub(super) fn bundles<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Bundle> {
    let mut names: Vec<(usize, &str)> = names.enumerate().collect();
    names.sort_unstable_by_key(|(_, name)| *name);
    let together = names.chunk_by(|(_, name), _| !is_last(name));
    let bundle = |members: &[(usize, &str)]| {
        let all: String = members.iter().map(|(_, name)| *name).collect();
        Bundle {
            name: sha256_hex(all.as_bytes()),
            members: members.iter().map(|(at, _)| *at).collect(),
        }
    };
    together.map(bundle).collect()
}

/// Whether a name ends a bundle: one in so many does.
fn is_last(name: &str) -> bool {
    let end = name.len().saturating_sub(2);
    let byte = name
        .get(end..)
        .and_then(|digits| u8::from_str_radix(digits, 16).ok());
    byte.is_some_and(|byte| byte % ABOUT_TOGETHER == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(numbers: impl Iterator<Item = u32>) -> Vec<String> {
        numbers
            .map(|number| sha256_hex(&number.to_be_bytes()))
            .collect()
    }

    fn of(names: &[String]) -> Vec<Bundle> {
        bundles(names.iter().map(String::as_str))
    }

    #[test]
    fn each_name_is_in_one_bundle_and_few_are_large() {
        let names = names(0..1000);
        let bundles = of(&names);
        let mut members: Vec<usize> = bundles
            .iter()
            .flat_map(|bundle| bundle.members.clone())
            .collect();
        members.sort_unstable();
        assert_eq!(members, (0..1000).collect::<Vec<_>>());
        assert!((8..40).contains(&bundles.len()), "{}", bundles.len());
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn one_more_changes_one_bundle_and_another_order_none() {
        let mut some = names(0..1000);
        let before = of(&some);
        some.reverse();
        let reversed: Vec<String> = of(&some).into_iter().map(|bundle| bundle.name).collect();
        assert_eq!(
            reversed,
            before
                .iter()
                .map(|bundle| bundle.name.clone())
                .collect::<Vec<_>>()
        );
        some.extend(names(1000..1001));
        let changed = of(&some);
        let kept = changed
            .iter()
            .filter(|bundle| reversed.contains(&bundle.name));
        // A name that ends a bundle divides one into two.
        assert!(
            kept.count() + 2 >= changed.len(),
            "one bundle, or one in two"
        );
    }
}
