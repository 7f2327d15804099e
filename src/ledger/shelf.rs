//! What was found out and can be found out again: kept beside the ledger for as long as there is room.
//!
//! Nothing rests on it. A shelf may forget, and whoever finds nothing there looks for himself; nothing that is on it is
//! ever changed, since its name says of what state of what it tells.

use std::fmt;

use async_trait::async_trait;

use super::LedgerError;
use crate::keyring::sha256_hex;

/// How many things are kept as one, on the average, where each request has its price.
const ABOUT_TOGETHER: u8 = 64;

/// Keeps small texts under the SHA-256, in hexadecimal digits, of what they tell of.
#[async_trait]
pub trait PictureCache: Send + Sync + fmt::Debug {
    /// What is kept under each of some names, in their order.
    async fn recall(&self, names: &[String]) -> Result<Vec<Option<String>>, LedgerError>;

    /// Keeps texts under their names. A shelf may keep some of them as one, and has them then only for those who ask for
    /// the same together.
    async fn keep(&self, things: &[(String, String)]) -> Result<(), LedgerError>;
}

/// Things that are kept as one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The SHA-256 of their names.
    pub(super) name: String,
    /// Where they stand among all, in the order of their names.
    pub(super) members: Vec<usize>,
}

/// Parts names into bundles. Which names are the last of a bundle say the names themselves, so that one more or one less
/// changes the bundle that it is in and no other; in what order they come is the same.
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
        // A name that ends a bundle parts one into two.
        assert!(
            kept.count() + 2 >= changed.len(),
            "one bundle, or one in two"
        );
    }
}
