//! The Merkle tree over a stream's lines, as RFC 6962 section 2.1 has it.
//!
//! A leaf's data is the 32 bytes of its line's SHA-256, which is also the next line's `prev`: a line is hashed once for
//! both, and a leaf costs one block more. Only the roots of the tree's complete subtrees are stored, one for each bit that
//! is set in its size.

use sha2::{Digest, Sha256};

/// The prefixes of a leaf and of a node, so that neither can be taken for the other.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// A tree that grows on its right side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// The roots of the complete subtrees, the largest first.
    peaks: Vec<Hash>,
}

impl Tree {
    /// A tree of so many leaves, from the roots of its complete subtrees, the largest first.
    pub(super) fn resume(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == usize::try_from(size.count_ones()).ok()?).then_some(Self { size, peaks })
    }

    /// The roots of its complete subtrees, the largest first.
    pub(super) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// How many leaves it has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, data: &Hash) {
        let mut hash = leaf(data);
        // Each set bit at the low end is a subtree of the size of its right neighbour: the two are merged.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("each set bit has its subtree");
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The hash over all leaves; for a tree without leaves, the hash of the empty text.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Sha256::digest([]).into();
        };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

fn leaf(data: &Hash) -> Hash {
    let mut text = [LEAF; 33];
    text[1..].copy_from_slice(data);
    Sha256::digest(text).into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut text = [NODE; 65];
    text[1..33].copy_from_slice(left);
    text[33..].copy_from_slice(right);
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of the RFC, word for word: split at the largest power of two below the size.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => leaf(one),
            _ => {
                let split = (leaves.len() - 1).ilog2();
                let (left, right) = leaves.split_at(1 << split);
                node(&defined(left), &defined(right))
            }
        }
    }

    #[test]
    fn the_root_is_the_one_of_the_rfc_for_every_size() {
        let leaves: Vec<Hash> = (0..130_u8).map(|n| Sha256::digest([n]).into()).collect();
        let mut tree = Tree::default();
        for size in 0..leaves.len() {
            assert_eq!(tree.root(), defined(&leaves[..size]), "of {size} leaves");
            tree.push(&leaves[size]);
        }
        assert_eq!(tree.size(), 130);
    }
}
