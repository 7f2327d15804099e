//! Seals: which lines the process itself wrote, for the start that finds them after the process died.
//!
//! The chain's hashes need no key, so who may write to the log can chain lines of their own to its end, and the last
//! signed state is up to a second behind the lines. A signature for each group would cost more than its write. So the last
//! line of each group carries a code under a secret key, over the line and the hash of the one before, which is over
//! all lines before. A start takes lines in up to the last seal and sets aside what comes after it: a group that was torn,
//! of which no link ever left, or lines of another hand.
//!
//! A seal says something to the holder of the key alone. To others it is a field of the line, under the chain and the
//! checkpoints like all others.

use std::fmt;

use presign::hex::push_hex;
use presign::midstate::{MacMidstate, Midstate};

use super::note::SigningKey;
use super::tree::Hash;

/// A seal comes after so many lines of a group at the latest: what is set aside stays small.
pub(super) const SEAL_LINES: u64 = 64;

/// The length of a seal in bytes: half of an HMAC-SHA256, as RFC 2104 allows (section 5).
const LENGTH: usize = 16;

/// What stands before and after it in its line.
const BEFORE: &str = ",\"seal\":\"";
const AFTER: &str = "\"";

/// How long the end of a line is, from the quotation mark before `prev` on: `,"prev":"sha256:`, 64 digits, `"}` and a newline.
const PREV: usize = 16 + 64 + 3;

/// What makes and checks seals; prints as stars.
#[derive(Clone)]
pub struct SealKey {
    mac: MacMidstate,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(****)")
    }
}

impl SealKey {
    /// The key that belongs to a log's signing key.
    pub fn of(key: &SigningKey) -> Self {
        // A signature of Ed25519 is the same each time (RFC 8032, 5.1.6), and this one is never shown. It cannot be that of
        // a note, which ends with a newline.
        let secret = Midstate::hash(&key.sign_raw(b"handout/seal/1"));
        Self {
            mac: MacMidstate::new(&secret),
        }
    }

    fn code(&self, line: &[u8], prev: &Hash) -> [u8; LENGTH] {
        let mut mac = self.mac;
        mac.update(line);
        mac.update(prev);
        mac.finish().as_chunks().0[0]
    }

    /// Appends the seal of the line that begins at `from`, after all its own fields.
    pub(super) fn seal(&self, out: &mut String, from: usize, prev: &Hash) {
        let code = self.code(&out.as_bytes()[from..], prev);
        out.push_str(BEFORE);
        push_hex(&code, out);
        out.push_str(AFTER);
    }

    /// Whether a line with its newline, after one with the hash `prev`, has the seal that belongs to it; nothing if it has none.
    pub(super) fn check(&self, line: &[u8], prev: &Hash) -> Option<bool> {
        let end = line.len().checked_sub(PREV)?;
        let rest = line[..end].strip_suffix(AFTER.as_bytes())?;
        let (rest, spelled) = rest.split_at_checked(rest.len().checked_sub(2 * LENGTH)?)?;
        let sealed = rest.strip_suffix(BEFORE.as_bytes())?;
        let mut code = String::new();
        push_hex(&self.code(sealed, prev), &mut code);
        Some(code.as_bytes() == spelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditRecord;
    use crate::audit::chain::ChainHead;

    #[test]
    fn every_byte_of_a_sealed_line_and_of_what_is_before_it_counts() {
        let key = SealKey::of(&SigningKey::from_seed(&[7; 32]));
        let record = |fields: &str| AuditRecord {
            event: "issue",
            fields: fields.to_owned().into(),
        };
        for fields in ["", "\"key\":\"a\\\",\\\"seal\\\":\\\"\""] {
            let (mut head, mut text) = (ChainHead::new("s"), String::new());
            head.append(&record(fields), "t", &mut text);
            assert_eq!(key.check(text.as_bytes(), &[0; 32]), None);
            let prev = head.prev();
            text.clear();
            head.append_sealed(&record(fields), "t", &key, &mut text);
            assert_eq!(key.check(text.as_bytes(), &prev), Some(true));
            assert_eq!(key.check(text.as_bytes(), &[1; 32]), Some(false));
            let other = SealKey::of(&SigningKey::from_seed(&[8; 32]));
            assert_eq!(other.check(text.as_bytes(), &prev), Some(false));
            for at in 0..text.len() - PREV {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1;
                assert_ne!(key.check(&changed, &prev), Some(true), "byte {at}");
            }
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
