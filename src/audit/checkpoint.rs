//! Checkpoints: how many lines a stream has and the root over all of them, as a signed note.
//! <https://c2sp.org/tlog-checkpoint>
//!
//! The origin is `handout/<log>/<stream>`: every stream is a log of its own, and the random id of the directory's log
//! distinguishes it from streams of other directories under the same key. There are no extension lines.

use base64ct::{Base64, Encoding};

use super::chain::ChainHead;
use super::note::{BadNote, PublicKey, SigningKey};
use super::tree::Hash;

/// The beginning of an origin.
const ORIGIN: &str = "handout/";

/// The state of a stream at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The id of the log that the stream is in.
    pub log: String,
    /// The stream.
    pub stream: String,
    /// How many lines it had.
    pub lines: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The current state of a chain.
    pub fn of(log: &str, head: &ChainHead) -> Self {
        Self {
            log: log.to_owned(),
            stream: head.stream().to_owned(),
            lines: head.len(),
            root: head.root(),
        }
    }

    /// The checkpoint as a note signed by the key.
    pub fn sign(&self, key: &SigningKey) -> String {
        let Self {
            log,
            stream,
            lines,
            root,
        } = self;
        key.sign(&format!(
            "{ORIGIN}{log}/{stream}\n{lines}\n{}\n",
            spelled(root)
        ))
    }

    /// Reads a note that the key signed.
    pub fn open(note: &str, key: &PublicKey) -> Result<Self, BadNote> {
        Self::parse(key.open(note)?).ok_or(BadNote)
    }

    fn parse(text: &str) -> Option<Self> {
        let (log, rest) = text.strip_prefix(ORIGIN)?.split_once('/')?;
        let mut lines = rest.split('\n');
        let read = Self {
            log: log.to_owned(),
            stream: lines.next()?.to_owned(),
            lines: lines.next()?.parse().ok()?,
            root: root(lines.next()?)?,
        };
        let is_whole = lines.next() == Some("") && lines.next().is_none() && is_log_id(log);
        is_whole.then_some(read)
    }
}

/// Whether a text is the id of a log: 128 random bits, as hexadecimal digits.
pub(super) fn is_log_id(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 32 && text.bytes().all(is_digit)
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
        let checkpoint = Checkpoint::of(
            &"ab".repeat(16),
            &ChainHead::new("20261123T000000Z-01234567"),
        );
        let note = checkpoint.sign(&key);
        assert!(
            note.starts_with(
                "handout/abababababababababababababababab/20261123T000000Z-01234567\n0\n47DEQpj8"
            ),
            "{note}"
        );
        assert_eq!(Checkpoint::open(&note, &key.public()), Ok(checkpoint));
        let other = key.sign("handout/registry\nno checkpoint\n");
        assert_eq!(Checkpoint::open(&other, &key.public()), Err(BadNote));
    }
}
