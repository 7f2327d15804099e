//! Signed notes: a text with an Ed25519 signature, which is checked with the public key.
//! <https://c2sp.org/signed-note>
//!
//! A log signs everything under the same name, so that operators pin a single line with a public key.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64ct::{Base64, Encoding};
use presign::hex::hex;
use presign::pem;
use sha2::{Digest, Sha256};

/// The name of the key in every note.
pub const KEY_NAME: &str = "handout";

/// The specification's number for Ed25519.
const ED25519_TYPE: u8 = 1;

/// Signs notes; prints as stars.
#[derive(Clone)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(****)")
    }
}

/// Checks notes. Its text is the specification's verifier key: `handout+<key id>+<base64>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
}

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointKeyError {
    /// The text is not a private key in PEM.
    #[error(
        "is not an Ed25519 key in PEM: make one with `openssl genpkey -algorithm ed25519 -out FILE`"
    )]
    Private,
    /// The text is not a verifier key.
    #[error(
        "is not the public key of an audit log: it begins with {KEY_NAME}+, and `handout audit key` prints it"
    )]
    Public,
}

/// The note is not signed with the key, or is not a valid note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its signature is not the one of the log's key")]
pub struct BadNote;

impl SigningKey {
    /// A key from 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .expect("every 32 bytes are the seed of a key");
        Self::of(pair)
    }

    /// Reads a private key as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(text: &str) -> Result<Self, CheckpointKeyError> {
        let block = pem::blocks(text).find(|block| block.label == "PRIVATE KEY");
        let der = block
            .and_then(|block| block.der())
            .ok_or(CheckpointKeyError::Private)?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| CheckpointKeyError::Private)?;
        Ok(Self::of(pair))
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let bytes = pair.public_key().as_ref().try_into();
        let public = PublicKey {
            bytes: bytes.expect("a public key has 32 bytes"),
        };
        Self { pair, public }
    }

    /// Its public half.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The signature of bytes.
    pub(super) fn sign_raw(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }

    /// Signs a text that ends with a newline.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.public.id().to_vec();
        signature.extend(self.sign_raw(text.as_bytes()));
        format!(
            "{text}\n\u{2014} {KEY_NAME} {}\n",
            Base64::encode_string(&signature)
        )
    }
}

impl PublicKey {
    /// The first four bytes of the hash of name, type and key.
    fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(KEY_NAME);
        hash.update([b'\n', ED25519_TYPE]);
        hash.update(self.bytes);
        let hash: [u8; 32] = hash.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The text of a note with exactly this key's signature: any other line would be ignored and could be changed without
    /// detection.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, BadNote> {
        let (text, signature) = note.rsplit_once("\n\n").ok_or(BadNote)?;
        let text = &note[..=text.len()];
        let spelled = signature
            .strip_prefix("\u{2014} ")
            .and_then(|rest| rest.strip_prefix(KEY_NAME))
            .and_then(|rest| rest.strip_prefix(' '))
            .and_then(|rest| rest.strip_suffix('\n'))
            .ok_or(BadNote)?;
        let signature = Base64::decode_vec(spelled).map_err(|_| BadNote)?;
        let signature = signature.strip_prefix(&self.id()).ok_or(BadNote)?;
        UnparsedPublicKey::new(&ED25519, self.bytes)
            .verify(text.as_bytes(), signature)
            .map_err(|_| BadNote)?;
        Ok(text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = [ED25519_TYPE; 33];
        typed[1..].copy_from_slice(&self.bytes);
        let (id, key) = (hex(&self.id()), Base64::encode_string(&typed));
        write!(f, "{KEY_NAME}+{id}+{key}")
    }
}

impl FromStr for PublicKey {
    type Err = CheckpointKeyError;

    fn from_str(text: &str) -> Result<Self, CheckpointKeyError> {
        let (_, key) = text
            .strip_prefix(KEY_NAME)
            .and_then(|rest| rest.strip_prefix('+'))
            .and_then(|rest| rest.split_once('+'))
            .ok_or(CheckpointKeyError::Public)?;
        let typed = Base64::decode_vec(key).map_err(|_| CheckpointKeyError::Public)?;
        let bytes = typed
            .strip_prefix(&[ED25519_TYPE])
            .and_then(|key| key.try_into().ok());
        let key = Self {
            bytes: bytes.ok_or(CheckpointKeyError::Public)?,
        };
        // The id is derived from the key: a wrong id is a typing error.
        match key.to_string() == text {
            true => Ok(key),
            false => Err(CheckpointKeyError::Public),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_opens_with_its_key_and_with_no_other() {
        let key = SigningKey::from_seed(&[7; 32]);
        let note = key.sign("origin\n3\nroot\n");
        assert_eq!(key.public().open(&note), Ok("origin\n3\nroot\n"));
        let other = SigningKey::from_seed(&[8; 32]).public();
        assert_eq!(other.open(&note), Err(BadNote));
    }

    #[test]
    fn every_byte_of_a_note_counts() {
        let key = SigningKey::from_seed(&[7; 32]);
        let note = key.sign("origin\n3\nroot\n");
        for at in 0..note.len() {
            for bit in 0..7 {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8_lossy(&bytes);
                assert_eq!(
                    key.public().open(&changed),
                    Err(BadNote),
                    "bit {bit} of byte {at}"
                );
            }
            let cut = String::from_utf8_lossy(&note.as_bytes()[..at]);
            assert_eq!(key.public().open(&cut), Err(BadNote), "cut at {at}");
        }
        let line = note.rsplit_once("\n\n").unwrap().1.to_owned();
        assert_eq!(key.public().open(&(note + &line)), Err(BadNote));
    }

    #[test]
    fn a_public_key_is_read_as_it_is_written() {
        let key = SigningKey::from_seed(&[7; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        let slip = key.to_string().replacen("handout+", "handout+0", 1);
        for wrong in ["", "handout+", "sumdb+1234abcd+AAAA", slip.as_str()] {
            assert_eq!(
                wrong.parse::<PublicKey>(),
                Err(CheckpointKeyError::Public),
                "{wrong}"
            );
        }
    }

    /// The seed 0x17… as `openssl genpkey -algorithm ed25519` would write it.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIBcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcX
-----END PRIVATE KEY-----
";

    #[test]
    fn a_key_of_openssl_is_read() {
        let key = SigningKey::from_pem(PEM).unwrap();
        assert_eq!(key.public(), SigningKey::from_seed(&[0x17; 32]).public());
        for wrong in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert_eq!(
                SigningKey::from_pem(wrong).unwrap_err(),
                CheckpointKeyError::Private
            );
        }
    }
}
