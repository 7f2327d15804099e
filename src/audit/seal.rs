//! Seals: they show a later start which lines a process itself wrote before it died.
//!
//! The chain's hashes need no key, so a user with write access to the log can chain forged lines to its end, and the last
//! signed state is up to a second behind the lines. A signature for each group would cost more than its write. So the last
//! line of each group has a code under a secret key, over the line and the hash of the line before, which covers all
//! earlier lines. A start accepts lines up to the last seal and sets aside the rest: a torn group, of which no link ever
//! left, or forged lines.
//!
//! Only the holder of the key can check a seal. For other readers it is a field of the line, which the chain and the
//! checkpoints cover like all fields.

use std::fmt;

use presign::hex::push_hex;
use presign::midstate::{MacMidstate, Midstate};

use super::note::SigningKey;
use super::tree::Hash;

/// The most lines of a group without a seal, so that little is set aside.
pub(super) const SEAL_LINES: u64 = 64;

/// The length of a seal in bytes: half of an HMAC-SHA256, as RFC 2104 allows (section 5).
const LENGTH: usize = 16;

/// The text before and after it in its line.
const BEFORE: &str = ",\"seal\":\"";
const AFTER: &str = "\"";

/// How long the end of a line is, from the quotation mark before `prev` on: `,"prev":"sha256:`, 64 digits, `"}` and a newline.
const PREV: usize = 16 + 64 + 3;

/// Makes and checks seals; prints as stars.
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
        // Ed25519 signatures are deterministic (RFC 8032, 5.1.6), and this one is never shown. It cannot be the signature of
        // a note, since a note ends with a newline.
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

    /// Whether the seal of a line with its newline, after a line with the hash `prev`, is right; `None` if it has no seal.
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
