//! DKIM signatures (RFC 6376), with RSA or Ed25519 (RFC 8463), relaxed/relaxed.
//!
//! Our own code, on the library that TLS uses: lettre's feature brings an `rsa` crate with a timing leak
//! (RUSTSEC-2023-0071), and mail-auth brings a resolver and parsers of six formats. This module signs what was just
//! written here and verifies nothing, which leaves a page of canonicalisation.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use presign::pem;
use sha2::{Digest, Sha256};

use super::headers::{Header, Headers};

/// The headers that are signed if present. Headers that relays add or change (`Received`, `Return-Path`) are not among
/// them.
const SIGNED: [&str; 13] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
];

/// The headers that are named once more than they are present, so that another one cannot be added on the way (RFC
/// 6376, 5.4.2).
const SEALED: [&str; 6] = ["From", "To", "Cc", "Subject", "Reply-To", "Content-Type"];

/// Where lines are folded, in bytes.
const LINE_BYTES: usize = 72;

/// The longest string in a TXT record, in bytes; a record has several (RFC 1035, section 3.3).
const TXT_STRING_BYTES: usize = 255;

/// Signs mails for a domain; its key prints as stars.
pub struct DkimSigner {
    domain: String,
    selector: String,
    key: Key,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for DkimSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, ****)", self.record_name())
    }
}

/// Why a text is not a usable signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DkimKeyError {
    /// The text is not PEM, or is PEM of something else.
    #[error(
        "has no private key in it: it must be PEM, as `openssl genpkey -algorithm ed25519` and `openssl genpkey -algorithm rsa` write it"
    )]
    NotThere,
    /// A key that needs a passphrase.
    #[error("is encrypted: decrypt it with `openssl pkcs8 -in KEY -out DECRYPTED`")]
    Encrypted,
    /// Damaged, another kind of key, or a short one.
    #[error(
        "is damaged, or neither Ed25519 nor RSA of 2048 to 8192 bits: verifiers accept no other keys (RFC 8301, RFC 8463)"
    )]
    Unsupported,
}

impl Key {
    /// Reads the first private key of a PEM text: PKCS#8, or PKCS#1 (`RSA`).
    fn from_pem(text: &str) -> Result<Self, DkimKeyError> {
        let block = pem::blocks(text).find(|block| block.label.ends_with("PRIVATE KEY"));
        let block = block.ok_or(DkimKeyError::NotThere)?;
        // OpenSSL's older encryption is marked in a header, not in the label.
        if block.label.starts_with("ENCRYPTED") || block.body.contains("ENCRYPTED") {
            return Err(DkimKeyError::Encrypted);
        }
        let der = block.der().ok_or(DkimKeyError::Unsupported)?;
        if block.label == "RSA PRIVATE KEY" {
            let key = RsaKeyPair::from_der(&der);
            return key.map(Self::Rsa).map_err(|_| DkimKeyError::Unsupported);
        }
        Ed25519KeyPair::from_pkcs8(&der)
            .map(Self::Ed25519)
            .or_else(|_| RsaKeyPair::from_pkcs8(&der).map(Self::Rsa))
            .map_err(|_| DkimKeyError::Unsupported)
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519-sha256",
            Self::Rsa(_) => "rsa-sha256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            // Over the hash in place of the message: RFC 8463, section 3.
            Self::Ed25519(key) => key.sign(&Sha256::digest(message)).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .expect("a key of 2048 bits and more has room for the padded hash");
                signature
            }
        }
    }
}

impl DkimSigner {
    /// A signer with the private key of a PEM text.
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, DkimKeyError> {
        Ok(Self {
            domain: domain.to_owned(),
            selector: selector.to_owned(),
            key: Key::from_pem(pem)?,
        })
    }

    /// The DNS name under which verifiers look for the public key.
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The TXT record that gives verifiers the public key, as a zone file has it: in strings of 255 bytes at most.
    pub fn record(&self) -> String {
        let (kind, key) = match &self.key {
            Key::Ed25519(key) => ("ed25519", key.public_key().as_ref().to_vec()),
            Key::Rsa(key) => {
                let der: PublicKeyX509Der<'_> = key
                    .public_key()
                    .as_der()
                    .expect("the public half of a key that was read can be written");
                ("rsa", der.as_ref().to_vec())
            }
        };
        let record = format!("v=DKIM1; k={kind}; p={}", Base64::encode_string(&key));
        let strings = record.as_bytes().chunks(TXT_STRING_BYTES);
        let quoted = strings.map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// The signature of a mail with these headers and a body with this hash.
    pub(super) fn sign(&self, headers: &Headers, body_hash: &str, at: Timestamp) -> Header {
        let names = signed_names(headers);
        let mut value = format!(
            "v=1; a={}; c=relaxed/relaxed; d={};\r\n s={}; t={};\r\n h={};\r\n bh={body_hash};\r\n b=",
            self.key.algorithm(),
            self.domain,
            self.selector,
            at.as_second(),
            folded(&names.join(":"), ':'),
        );
        let signature = self
            .key
            .sign(signed_text(&names, headers, &value).as_bytes());
        value.push_str(&folded_base64(&Base64::encode_string(&signature)));
        Header {
            name: "DKIM-Signature",
            value,
        }
    }
}

/// The hash of a body, relaxed.
pub(super) fn body_hash(body: &str) -> String {
    Base64::encode_string(&Sha256::digest(relaxed_body(body)))
}

/// The names in `h=`: the signed headers in the order of the mail, then the sealed ones once more.
fn signed_names(headers: &Headers) -> Vec<&'static str> {
    let names = headers.iter().map(|header| header.name);
    names
        .filter(|name| SIGNED.contains(name))
        .chain(SEALED)
        .collect()
}

/// The signed text: the named headers, and the signature's own header without its signature (RFC 6376, section 3.7).
fn signed_text(names: &[&str], headers: &Headers, signature: &str) -> String {
    // From the last header of a name to the first; a name without a remaining header stands for an absent header.
    let mut unused: Vec<&Header> = headers.iter().collect();
    let mut text = String::new();
    for name in names {
        let found = unused
            .iter()
            .rposition(|header| header.name.eq_ignore_ascii_case(name));
        if let Some(found) = found {
            text.push_str(&relaxed_header(name, &unused.remove(found).value));
            text.push_str("\r\n");
        }
    }
    text + &relaxed_header("DKIM-Signature", signature)
}

/// A header on one line, with single spaces (RFC 6376, section 3.4.2).
fn relaxed_header(name: &str, value: &str) -> String {
    let words = value.split([' ', '\t', '\r', '\n']);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{}:{}", name.to_ascii_lowercase(), words.join(" "))
}

/// A body with single spaces, no space at the end of a line, and no empty line at its end (RFC 6376, section 3.4.4).
fn relaxed_body(body: &str) -> String {
    let mut relaxed = String::with_capacity(body.len());
    for line in body.split("\r\n") {
        let mut after_space = false;
        for c in line.trim_end_matches([' ', '\t']).chars() {
            let is_space = matches!(c, ' ' | '\t');
            if !is_space {
                relaxed.push(c);
            } else if !after_space {
                relaxed.push(' ');
            }
            after_space = is_space;
        }
        relaxed.push_str("\r\n");
    }
    let end = relaxed.trim_end_matches("\r\n").len();
    relaxed.truncate(end);
    if !relaxed.is_empty() {
        relaxed.push_str("\r\n");
    }
    relaxed
}

/// Folds a list after its separators.
fn folded(list: &str, separator: char) -> String {
    let mut text = String::with_capacity(list.len() + 16);
    let mut line = 0;
    for item in list.split_inclusive(separator) {
        if line + item.len() > LINE_BYTES {
            text.push_str("\r\n ");
            line = 0;
        }
        text.push_str(item);
        line += item.len();
    }
    text
}

fn folded_base64(digits: &str) -> String {
    let lines = digits.as_bytes().chunks(LINE_BYTES);
    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    lines.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8463, appendix A, as OpenSSL would write it.
    const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
    const RSA: &str = include_str!("../../../crates/presign/tests/fixtures/rsa-pkcs8.pem");

    /// RFC 8463, appendix A.
    #[test]
    fn the_example_of_the_rfc_has_the_signature_of_the_rfc() {
        let mut headers = Headers::default();
        headers.put("From", "Joe SixPack <joe@football.example.com>");
        headers.put("To", "Suzie Q <suzie@shopping.example.net>");
        headers.put("Subject", "Is dinner ready?");
        headers.put("Date", "Fri, 11 Jul 2003 21:00:37 -0700 (PDT)");
        headers.put(
            "Message-ID",
            "<20030712040037.46341.5F8J@football.example.com>",
        );
        let body = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
        let hash = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";
        assert_eq!(body_hash(body), hash);
        let value = format!(
            "v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n bh={hash};\r\n b="
        );
        let names = "from to subject date message-id from subject date";
        let names: Vec<&str> = names.split(' ').collect();
        let signature = Key::from_pem(ED25519)
            .unwrap()
            .sign(signed_text(&names, &headers, &value).as_bytes());
        assert_eq!(
            Base64::encode_string(&signature),
            "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
        );
    }

    /// RFC 6376, section 3.4.5.
    #[test]
    fn relaxed_is_what_the_rfc_calls_relaxed() {
        assert_eq!(relaxed_header("A", " X"), "a:X");
        assert_eq!(relaxed_header("B ".trim(), "\tY\t\r\n\tZ  "), "b:Y Z");
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(
            (relaxed_body(""), relaxed_body("\r\n\r\n")),
            (String::new(), String::new())
        );
        assert_eq!(relaxed_body("a"), "a\r\n");
    }

    #[test]
    fn a_key_says_what_to_publish() {
        let ed25519 = DkimSigner::new("sender.example", "e1", ED25519).unwrap();
        assert_eq!(ed25519.record_name(), "e1._domainkey.sender.example");
        // The public key of RFC 8463, appendix A.
        assert_eq!(
            ed25519.record(),
            "\"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\""
        );
        let rsa = DkimSigner::new("sender.example", "r1", RSA).unwrap();
        let record = rsa.record();
        let strings: Vec<&str> = record.trim_matches('"').split("\" \"").collect();
        assert!(strings.len() == 2 && strings.iter().all(|part| part.len() <= TXT_STRING_BYTES));
        // As `openssl rsa -pubout` writes it.
        let public = include_str!("../../../crates/presign/tests/fixtures/rsa-public.pem");
        let public: String = pem::blocks(public)
            .next()
            .unwrap()
            .body
            .split_whitespace()
            .collect();
        assert_eq!(strings.concat(), format!("v=DKIM1; k=rsa; p={public}"));
        assert_eq!(
            format!("{rsa:?}"),
            "Signer(r1._domainkey.sender.example, ****)"
        );
    }

    #[test]
    fn what_is_no_key_says_what_it_is() {
        let key = |pem: &str| Key::from_pem(pem).err();
        let p256 = include_str!("../../../crates/presign/tests/fixtures/p256-pkcs8.pem");
        let pkcs1 = include_str!("../../../crates/presign/tests/fixtures/rsa-pkcs1.pem");
        let public = include_str!("../../../crates/presign/tests/fixtures/rsa-public.pem");
        assert_eq!(key(pkcs1), None);
        assert_eq!(
            (key(""), key(public)),
            (Some(DkimKeyError::NotThere), Some(DkimKeyError::NotThere))
        );
        assert_eq!(key(p256), Some(DkimKeyError::Unsupported));
        assert_eq!(key(&RSA[..300]), Some(DkimKeyError::NotThere));
        assert_eq!(
            key(&RSA.replace("PRIVATE", "ENCRYPTED PRIVATE")),
            Some(DkimKeyError::Encrypted)
        );
    }
}
