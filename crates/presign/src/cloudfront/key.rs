//! The private keys that CloudFront accepts, in PEM.
//!
//! CloudFront accepts SHA-1 or SHA-256 with RSA PKCS#1 v1.5 or with ECDSA on P-256. aws-lc-rs, which serves TLS, verifies SHA-1
//! but does not sign with it, so this module uses the `rsa` and `p256` crates. Both sign deterministically (RFC 8017, RFC 6979):
//! the same input always gives the same URL.

use std::fmt;

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::DecodePrivateKey as _;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::pem::blocks;

/// The smallest RSA key that CloudFront accepts.
const MIN_RSA_BITS: u32 = 2048;

/// The hash algorithm of the signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// The default of CloudFront when the URL names no algorithm.
    #[default]
    Sha1,
    /// Named in the URL. CloudFront supports it since April 2026.
    Sha256,
}

/// A private key whose public key is registered with CloudFront.
pub struct PrivateKey(KeyKind);

enum KeyKind {
    Rsa(Box<rsa::PrivateKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            KeyKind::Rsa(_) => "Rsa",
            KeyKind::P256(_) => "P256",
        };
        f.debug_tuple(kind).field(&"****").finish()
    }
}

/// Why a text is not a usable signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// The text contains no PEM private key.
    #[error(
        "has no private key in it: it must be PEM that begins with \"-----BEGIN PRIVATE KEY-----\", or the same with RSA or EC"
    )]
    NotThere,
    /// The key is encrypted with a passphrase.
    #[error("is encrypted: decrypt it with `openssl pkcs8 -in KEY -out DECRYPTED`")]
    Encrypted,
    /// The key is malformed.
    #[error("is damaged: the text between its first and last line is not a key")]
    Damaged,
    /// The type of the key or its curve is not supported.
    #[error("is neither RSA nor ECDSA on the curve P-256, and CloudFront accepts no others")]
    Unsupported,
    /// The RSA key is too short.
    #[error("has {0} bits: CloudFront takes RSA keys of {MIN_RSA_BITS} and more")]
    Short(u32),
}

impl PrivateKey {
    /// Reads the first private key of a PEM text: PKCS#8, PKCS#1 (`RSA`) or SEC1 (`EC`).
    pub fn from_pem(pem: &str) -> Result<Self, PrivateKeyError> {
        let block = blocks(pem)
            .find(|block| block.label.ends_with("PRIVATE KEY"))
            .ok_or(PrivateKeyError::NotThere)?;
        // OpenSSL's older encryption format is marked by a header, not by the label.
        if block.label.starts_with("ENCRYPTED") || block.body.contains("ENCRYPTED") {
            return Err(PrivateKeyError::Encrypted);
        }
        let der = block.der().ok_or(PrivateKeyError::Damaged)?;
        match block.label {
            "RSA PRIVATE KEY" => Self::rsa(rsa::PrivateKey::from_pkcs1_der(&der).ok()),
            "EC PRIVATE KEY" => Self::p256(p256::SecretKey::from_sec1_der(&der).ok()),
            "PRIVATE KEY" => match p256::SecretKey::from_pkcs8_der(&der) {
                Ok(key) => Self::p256(Some(key)),
                Err(_) => Self::rsa(rsa::PrivateKey::from_pkcs8_der(&der).ok()),
            },
            _ => Err(PrivateKeyError::Unsupported),
        }
    }

    fn rsa(key: Option<rsa::PrivateKey>) -> Result<Self, PrivateKeyError> {
        let key = key.ok_or(PrivateKeyError::Unsupported)?;
        let bits = key.n().bit_width();
        if bits < MIN_RSA_BITS {
            return Err(PrivateKeyError::Short(bits));
        }
        Ok(Self(KeyKind::Rsa(Box::new(key))))
    }

    fn p256(key: Option<p256::SecretKey>) -> Result<Self, PrivateKeyError> {
        let key = key.ok_or(PrivateKeyError::Unsupported)?;
        Ok(Self(KeyKind::P256(Box::new(key.into()))))
    }

    /// `RSA-2048` or `ECDSA P-256`.
    pub(super) fn kind(&self) -> String {
        match &self.0 {
            KeyKind::Rsa(key) => format!("RSA-{}", key.n().bit_width()),
            KeyKind::P256(_) => "ECDSA P-256".to_owned(),
        }
    }

    /// Signs a message: PKCS#1 v1.5 for RSA, DER for ECDSA. `None` if the key cannot sign, which is not expected of a parsed key.
    pub(super) fn sign(&self, message: &[u8], hash: HashAlgorithm) -> Option<Vec<u8>> {
        match (&self.0, hash) {
            (KeyKind::Rsa(key), HashAlgorithm::Sha1) => key.pkcs1v15_sign::<Sha1>(message).ok(),
            (KeyKind::Rsa(key), HashAlgorithm::Sha256) => key.pkcs1v15_sign::<Sha256>(message).ok(),
            (KeyKind::P256(key), HashAlgorithm::Sha1) => der(key, &Sha1::digest(message)),
            (KeyKind::P256(key), HashAlgorithm::Sha256) => der(key, &Sha256::digest(message)),
        }
    }
}

fn der(key: &p256::ecdsa::SigningKey, digest: &[u8]) -> Option<Vec<u8>> {
    let signature: p256::ecdsa::Signature = key.sign_prehash(digest).ok()?;
    Some(signature.to_der().as_bytes().to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cloudfront) const RSA_PKCS1: &str =
        include_str!("../../tests/fixtures/rsa-pkcs1.pem");
    pub(in crate::cloudfront) const P256_SEC1: &str =
        include_str!("../../tests/fixtures/p256-sec1.pem");
    const RSA_PKCS8: &str = include_str!("../../tests/fixtures/rsa-pkcs8.pem");
    const P256_PKCS8: &str = include_str!("../../tests/fixtures/p256-pkcs8.pem");

    fn refusal(pem: &str) -> String {
        PrivateKey::from_pem(pem).map_or_else(|error| error.to_string(), |key| format!("{key:?}"))
    }

    #[test]
    fn a_key_is_the_same_in_each_of_its_forms() {
        for (one, other) in [(RSA_PKCS1, RSA_PKCS8), (P256_SEC1, P256_PKCS8)] {
            let sign = |pem, hash| PrivateKey::from_pem(pem).unwrap().sign(b"x", hash).unwrap();
            for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
                assert_eq!(sign(one, hash), sign(other, hash));
            }
            assert_ne!(
                sign(one, HashAlgorithm::Sha1),
                sign(one, HashAlgorithm::Sha256)
            );
        }
    }

    #[test]
    fn line_ends_and_indentation_do_not_matter() {
        let crlf = RSA_PKCS8.replace('\n', "\r\n");
        let indented = RSA_PKCS8.replace('\n', "\n    ");
        let one_line = RSA_PKCS8.replace('\n', " ");
        for pem in [crlf, indented, one_line] {
            assert_eq!(refusal(&pem), r#"Rsa("****")"#);
        }
    }

    #[test]
    fn what_is_no_key_says_what_it_is() {
        let public = include_str!("../../tests/fixtures/rsa-public.pem");
        let body = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let legacy = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,6F1B8C2D5E3A4F708192A3B4C5D6E7F8\n\nAAAA";
        let table = [
            ("nothing", String::new()),
            ("public", public.to_owned()),
            ("cut", RSA_PKCS8[..200].to_owned()),
            ("Ed25519", block("PRIVATE KEY", body)),
            ("encrypted", block("ENCRYPTED PRIVATE KEY", body)),
            ("legacy", block("RSA PRIVATE KEY", legacy)),
            ("not base 64", block("PRIVATE KEY", "MC4C*")),
            ("another kind", block("OPENSSH PRIVATE KEY", body)),
            (
                "wrong label",
                P256_PKCS8.replace(" PRIVATE", " RSA PRIVATE"),
            ),
        ]
        .map(|(name, pem)| format!("{name}: {}", refusal(&pem)));
        insta::assert_snapshot!(table.join("\n"), @r#"
        nothing: has no private key in it: it must be PEM that begins with "-----BEGIN PRIVATE KEY-----", or the same with RSA or EC
        public: has no private key in it: it must be PEM that begins with "-----BEGIN PRIVATE KEY-----", or the same with RSA or EC
        cut: has no private key in it: it must be PEM that begins with "-----BEGIN PRIVATE KEY-----", or the same with RSA or EC
        Ed25519: is neither RSA nor ECDSA on the curve P-256, and CloudFront accepts no others
        encrypted: is encrypted: decrypt it with `openssl pkcs8 -in KEY -out DECRYPTED`
        legacy: is encrypted: decrypt it with `openssl pkcs8 -in KEY -out DECRYPTED`
        not base 64: is damaged: the text between its first and last line is not a key
        another kind: is neither RSA nor ECDSA on the curve P-256, and CloudFront accepts no others
        wrong label: is neither RSA nor ECDSA on the curve P-256, and CloudFront accepts no others
        "#);
    }
}
