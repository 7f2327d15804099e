//! Checkpoints: how many lines a stream has and the root over all of them, as a signed note.
//! <https://c2sp.org/tlog-checkpoint>
//!
//! The origin is `handout/<stream>`: every stream is a log of its own. There are no extension lines.

use base64ct::{Base64, Encoding};

use super::chain::Head;
use super::note::{BadNote, PublicKey, SigningKey};
use super::tree::Hash;

/// What stands before the stream in an origin.
const ORIGIN: &str = "handout/";

/// What a stream was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The stream.
    pub stream: String,
    /// How many lines it had.
    pub lines: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// What a chain is now.
    pub fn of(head: &Head) -> Self {
        Self {
            stream: head.stream().to_owned(),
            lines: head.len(),
            root: head.root(),
        }
    }

    /// As a note under the key.
    pub fn sign(&self, key: &SigningKey) -> String {
        let Self {
            stream,
            lines,
            root,
        } = self;
        key.sign(&format!("{ORIGIN}{stream}\n{lines}\n{}\n", spelled(root)))
    }

    /// Reads a note that the key signed.
    pub fn open(note: &str, key: &PublicKey) -> Result<Self, BadNote> {
        Self::parse(key.open(note)?).ok_or(BadNote)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix(ORIGIN)?.split('\n');
        let read = Self {
            stream: lines.next()?.to_owned(),
            lines: lines.next()?.parse().ok()?,
            root: root(lines.next()?)?,
        };
        (lines.next() == Some("") && lines.next().is_none()).then_some(read)
    }
}

/// Spells a root.
pub(super) fn spelled(root: &Hash) -> String {
    Base64::encode_string(root)
}

/// Reads a root.
pub(super) fn root(spelled: &str) -> Option<Hash> {
    Base64::decode_vec(spelled).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed() {
        let key = SigningKey::from_seed(&[7; 32]);
        let checkpoint = Checkpoint::of(&Head::new("20261123T000000Z-01234567"));
        let note = checkpoint.sign(&key);
        assert!(
            note.starts_with("handout/20261123T000000Z-01234567\n0\n47DEQpj8"),
            "{note}"
        );
        assert_eq!(Checkpoint::open(&note, &key.public()), Ok(checkpoint));
        let other = key.sign("handout/registry\nno checkpoint\n");
        assert_eq!(Checkpoint::open(&other, &key.public()), Err(BadNote));
    }
}
