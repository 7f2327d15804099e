//! SHA-256 and HMAC with a common prefix: the prefix of many texts is hashed once, and the state is copied for each.
//!
//! ```
//! use presign::midstate::MacMidstate;
//!
//! let mut common = MacMidstate::new(b"key");
//! common.update(b"2026-11-23\n");
//! let code = |text: &str| {
//!     let mut mac = common;
//!     mac.update(text.as_bytes());
//!     mac.finish()
//! };
//! assert_ne!(code("a"), code("b"));
//! ```
//!
//! Compare codes in constant time (the `subtle` crate, `aws-lc-rs`): `==` returns at the first byte that differs.
//!
//! The compression function is `sha2`'s, which uses the processor's own instructions where available. This module adds the buffer
//! around it: `hmac` and `digest` copy, erase and restart three hash states for each URL, which costs as much as a quarter of the
//! hashing itself. The tests compare both for every length.

use sha2::block_api::compress256;

/// The block size of SHA-256, in bytes.
const BLOCK: usize = 64;

/// The offset of the message length, in bits, in the final block.
const LENGTH_AT: usize = BLOCK - 8;

/// The initial state of SHA-256 (FIPS 180-4, 5.3.3).
const FIRST: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A SHA-256 state that can be copied after a common prefix.
#[derive(Clone, Copy)]
pub struct Midstate {
    state: [u32; 8],
    /// Input that does not fill a block yet.
    pending: [u8; BLOCK],
    /// The total input, in bytes.
    length: usize,
}

/// The hashed input may be a key, so it is not printed.
impl std::fmt::Debug for Midstate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Midstate(****)")
    }
}

impl Default for Midstate {
    fn default() -> Self {
        Self::new()
    }
}

impl Midstate {
    /// A hash of no input.
    pub const fn new() -> Self {
        Self {
            state: FIRST,
            pending: [0; BLOCK],
            length: 0,
        }
    }

    /// The SHA-256 of a whole text.
    pub fn hash(text: &[u8]) -> [u8; 32] {
        let mut hash = Self::new();
        hash.update(text);
        hash.finish()
    }

    /// Adds input.
    #[inline]
    pub fn update(&mut self, mut bytes: &[u8]) {
        let held = self.length % BLOCK;
        self.length += bytes.len();
        if held > 0 {
            let missing = BLOCK - held;
            if bytes.len() < missing {
                self.pending[held..held + bytes.len()].copy_from_slice(bytes);
                return;
            }
            let (head, rest) = bytes.split_at(missing);
            self.pending[held..].copy_from_slice(head);
            compress256(&mut self.state, &[self.pending]);
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        if !blocks.is_empty() {
            compress256(&mut self.state, blocks);
        }
        self.pending[..rest.len()].copy_from_slice(rest);
    }

    /// The hash of all input.
    #[inline]
    pub fn finish(mut self) -> [u8; 32] {
        let held = self.length % BLOCK;
        self.pending[held] = 0x80;
        self.pending[held + 1..].fill(0);
        if held >= LENGTH_AT {
            compress256(&mut self.state, &[self.pending]);
            self.pending = [0; BLOCK];
        }
        let bits = 8 * self.length as u64;
        self.pending[LENGTH_AT..].copy_from_slice(&bits.to_be_bytes());
        compress256(&mut self.state, &[self.pending]);
        spelled(&self.state)
    }
}

/// An HMAC-SHA-256 (RFC 2104) with a key and an optional common prefix, which can be copied.
#[derive(Clone, Copy)]
pub struct MacMidstate {
    inner: Midstate,
    outer: Midstate,
}

/// The state is as secret as the key.
impl std::fmt::Debug for MacMidstate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacMidstate(****)")
    }
}

impl MacMidstate {
    /// An HMAC under a key, of no input.
    pub fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        if key.len() > BLOCK {
            block[..32].copy_from_slice(&Midstate::hash(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let keyed = |pad: u8| {
            let mut hash = Midstate::new();
            hash.update(&block.map(|byte| byte ^ pad));
            hash
        };
        Self {
            inner: keyed(0x36),
            outer: keyed(0x5c),
        }
    }

    /// Adds input.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The authentication code of all input.
    #[inline]
    pub fn finish(mut self) -> [u8; 32] {
        self.outer.update(&self.inner.finish());
        self.outer.finish()
    }
}

fn spelled(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (four, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *four = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    proptest! {
        #[test]
        fn it_is_sha2_and_hmac_however_the_text_is_cut(
            key in proptest::collection::vec(any::<u8>(), 0..150),
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6),
        ) {
            let whole = parts.concat();
            let (mut hash, mut mac) = (Midstate::new(), MacMidstate::new(&key));
            for part in &parts {
                hash.update(part);
                mac.update(part);
            }
            prop_assert_eq!(hash.finish(), <[u8; 32]>::from(Sha256::digest(&whole)));
            let theirs = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(&whole).finalize();
            prop_assert_eq!(mac.finish(), <[u8; 32]>::from(theirs.into_bytes()));
        }
    }

    #[test]
    fn every_length_around_a_block_is_padded_right() {
        let text = [b'x'; 200];
        for length in 0..text.len() {
            assert_eq!(
                Midstate::hash(&text[..length]),
                <[u8; 32]>::from(Sha256::digest(&text[..length])),
                "{length}"
            );
        }
    }
}
