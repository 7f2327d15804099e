//! The secret of the installation, and the keys and ids that are derived from it.
//!
//! Link ids, recipient ids, Message-IDs, the audit log's fingerprints and the embedded endpoint's keys must be
//! the same on every attempt and after every restart, and must reveal nothing to an outsider. Each is the HMAC-SHA256
//! of what it names, under the key of its purpose.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use directory::Directory;
use presign::hex::{hex, hex_of};
use presign::midstate::MacMidstate;
use sha2::{Digest, Sha256};

use crate::bounds::MAX_SECRET;
use crate::mounted;

/// The length of the secret, in bytes.
const SECRET_LENGTH: usize = 32;

/// What a derived value is for. Each purpose has a separate key, so that values of two purposes cannot be confused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The identity signed into a link.
    LinkId,
    /// A recipient's id in the ledger and the audit log.
    RecipientId,
    /// A link's fingerprint in the audit log, made from its signature.
    LinkFingerprint,
    /// A mail's Message-ID.
    MessageId,
    /// The unguessable name of a published page or manifest.
    PublishedName,
    /// The embedded endpoint's keys for a connection.
    EmbeddedCredentials,
    /// The owner of a shared ledger.
    Ledger,
    /// The key that signs the audit log's checkpoints, where the configuration names no other.
    CheckpointKey,
    /// The tag of a portal token.
    PortalTag,
    /// The mask over the content of a portal token.
    PortalMask,
    /// The short reference of a job in portal tokens and records.
    PortalJob,
    /// The key that seals what the portal's records say of people.
    PortalPeople,
    /// The portal's session cookies.
    PortalSession,
    /// The portal's page tickets.
    PortalTicket,
    /// The portal's codes by mail, and their challenges.
    PortalCode,
    /// The state of a sign-in at an OIDC issuer.
    PortalOidc,
    /// The code of the tokens by which bounces and requests to leave name a recipient.
    PersonToken,
    /// The short reference of a job or a list in them.
    PersonTag,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::LinkId => "link-id",
            Self::RecipientId => "recipient-id",
            Self::LinkFingerprint => "link-fingerprint",
            Self::MessageId => "message-id",
            Self::PublishedName => "published-name",
            Self::EmbeddedCredentials => "embedded-credentials",
            Self::Ledger => "ledger",
            Self::CheckpointKey => "checkpoint-key",
            Self::PortalTag => "portal-tag",
            Self::PortalMask => "portal-mask",
            Self::PortalJob => "portal-job",
            Self::PortalPeople => "portal-people",
            Self::PortalSession => "portal-session",
            Self::PortalTicket => "portal-ticket",
            Self::PortalCode => "portal-code",
            Self::PortalOidc => "portal-oidc",
            Self::PersonToken => "person-token",
            Self::PersonTag => "person-tag",
        }
    }
}

/// Why the secret could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file could not be read or made.
    #[error(
        "could not read or create the secret {}: name another by secret_key_file, or another state_dir, in the configuration",
        path.display()
    )]
    Io {
        /// The secret's file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file exists, but does not have the format of a secret.
    #[error(
        "the secret {} has {length} bytes instead of {SECRET_LENGTH}, which may be spelled in hexadecimal digits or in base64: {}",
        path.display(),
        remedy(path)
    )]
    Damaged {
        /// The secret's file.
        path: PathBuf,
        /// How many bytes it has.
        length: usize,
    },
}

/// What to do about a secret without the format of one.
fn remedy(path: &Path) -> &'static str {
    match mounted::given_for(path) {
        Some(_) => {
            "set the variable to the installation's secret, as `base64 secret.key` prints it"
        }
        None => {
            "restore it from a backup, or remove it to start with a new one (older link ids will then not be found)"
        }
    }
}

/// The installation's secret; prints as stars.
#[derive(Clone)]
pub struct Keyring {
    secret: [u8; SECRET_LENGTH],
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(****)")
    }
}

impl Keyring {
    /// A keyring over a secret that the caller has.
    pub const fn new(secret: [u8; SECRET_LENGTH]) -> Self {
        Self { secret }
    }

    /// Reads the secret at `path`: 32 bytes, or their spelling in hexadecimal digits or in base64. Makes it, readable by its owner
    /// alone, when there is none.
    ///
    /// # Errors
    /// The file cannot be read or made, or has another content.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        let failed = |source| KeyringError::Io {
            path: path.to_owned(),
            source,
        };
        let read = match read_secret(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The file is read back: when two processes start together, the file of one of them wins.
                create_secret(path).and_then(|()| read_secret(path))
            }
            read => read,
        };
        let bytes = read.map_err(failed)?;
        let secret = secret_of(&bytes).ok_or_else(|| KeyringError::Damaged {
            path: path.to_owned(),
            length: bytes.len(),
        })?;
        Ok(Self::new(secret))
    }

    /// A deriver of values for a purpose; a caller that derives many keeps it.
    pub fn deriver(&self, purpose: Purpose) -> Deriver {
        let mut key = MacMidstate::new(&self.secret);
        key.update(b"handout/1/");
        key.update(purpose.label().as_bytes());
        Deriver {
            mac: MacMidstate::new(&key.finish()),
        }
    }

    /// Derives 128 bits from `parts` and spells them as 32 hexadecimal digits.
    pub fn id(&self, purpose: Purpose, parts: &[&[u8]]) -> String {
        self.deriver(purpose).id(parts)
    }
}

/// Derives values for one [`Purpose`]; prints as stars.
#[derive(Clone)]
pub struct Deriver {
    mac: MacMidstate,
}

impl fmt::Debug for Deriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deriver(****)")
    }
}

impl Deriver {
    /// Derives 32 bytes from `parts`; parts are length-prefixed, so that different lists do not collide.
    pub fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.after(parts).mac.finish()
    }

    /// A deriver for lists that begin with these parts: a beginning that many lists share is hashed once.
    #[must_use]
    pub fn after(&self, parts: &[&[u8]]) -> Self {
        let mut mac = self.mac;
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        Self { mac }
    }

    /// Derives 128 bits from `parts` and spells them as 32 hexadecimal digits.
    pub fn id(&self, parts: &[&[u8]]) -> String {
        let spelled = hex_of(&self.derive(parts));
        std::str::from_utf8(&spelled[..32])
            .expect("digits are ASCII")
            .to_owned()
    }
}

/// The secret in the bytes of its file. Tools that make secrets for containers write text: `openssl rand -hex 32` with a line end,
/// and Kubernetes and password managers base64.
fn secret_of(bytes: &[u8]) -> Option<[u8; SECRET_LENGTH]> {
    if let Ok(secret) = bytes.try_into() {
        return Some(secret);
    }
    let text = str::from_utf8(bytes).ok()?.trim_ascii();
    let mut secret = [0; SECRET_LENGTH];
    if text.len() == 2 * SECRET_LENGTH {
        for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).ok()?;
            // A sign would be taken for a digit.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        return Some(secret);
    }
    let text = text.trim_end_matches('=');
    let length = Base64Unpadded::decode(text, &mut secret).map(<[u8]>::len);
    let length = length.or_else(|_| Base64UrlUnpadded::decode(text, &mut secret).map(<[u8]>::len));
    (length == Ok(SECRET_LENGTH)).then_some(secret)
}

/// Reads the file, up to the size that shows that it is not a secret. Symbolic links are followed: mounted secrets are links.
fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(text) = mounted::given_for(path) {
        return Ok(text.into_bytes());
    }
    let mut bytes = Vec::with_capacity(SECRET_LENGTH);
    let file = directory::read_mounted(path)?;
    file.take(MAX_SECRET).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a new secret beside `path` and links it into place, so that the file is never partly written.
fn create_secret(path: &Path) -> io::Result<()> {
    let (parent, name) = directory::split(path)?;
    let mut secret = [0; SECRET_LENGTH];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let mut draft = Directory::make_own(parent)?.draft(0o600)?;
    draft.write_all(&secret)?;
    match draft.keep_new(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        kept => kept,
    }
}

/// 128 random bits, unique in practice, as 32 hexadecimal digits.
pub fn nonce() -> String {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    hex(&nonce)
}

/// Hashes bytes with SHA-256 and spells the result as 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_same_name_gives_the_same_id_and_another_purpose_another() {
        let keyring = Keyring::new([7; 32]);
        let id = keyring.id(Purpose::LinkId, &[b"job", b"key"]);
        assert_eq!(id, keyring.id(Purpose::LinkId, &[b"job", b"key"]));
        assert_ne!(id, keyring.id(Purpose::RecipientId, &[b"job", b"key"]));
        assert_ne!(id, keyring.id(Purpose::LinkId, &[b"jobk", b"ey"]));
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn ids_are_what_they_were_in_the_first_version() {
        let id = Keyring::new([7; 32]).id(Purpose::LinkId, &[b"job", b"key"]);
        insta::assert_snapshot!(id, @"8ac527b2162f90d946e25e7dd6392cac");
    }

    #[test]
    fn the_secret_is_made_once_and_read_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/secret.key");
        let first = Keyring::open(&path).unwrap();
        let second = Keyring::open(&path).unwrap();
        assert_eq!(first.secret, second.secret);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(format!("{first:?}"), "Keyring(****)");
    }

    #[test]
    fn what_begins_alike_is_derived_alike() {
        let deriver = Keyring::new([7; 32]).deriver(Purpose::LinkId);
        let parts: [&[u8]; 5] = [b"job", b"everyone", b"bucket", b"a/b.jpg", b"etag"];
        let whole = deriver.id(&parts);
        for cut in 0..=parts.len() {
            let (first, rest) = parts.split_at(cut);
            assert_eq!(deriver.after(first).id(rest), whole, "{cut}");
        }
        // Link ids must not change between releases.
        assert_eq!(whole, "ec8c69c187639f677a761f60f3ccca59");
    }

    #[test]
    fn a_secret_may_be_spelled_in_digits_or_in_base64_and_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let secret: [u8; 32] = std::array::from_fn(|at| 251 - 4 * u8::try_from(at).unwrap());
        let digits = hex(&secret);
        let url = Base64UrlUnpadded::encode_string(&secret);
        let base64 = base64ct::Base64::encode_string(&secret);
        assert!(base64.contains(['+', '/']), "the alphabets differ");
        let spelled = [
            secret.to_vec(),
            digits.clone().into_bytes(),
            format!("{}\n", digits.to_uppercase()).into_bytes(),
            format!("{base64}\r\n").into_bytes(),
            base64.trim_end_matches('=').as_bytes().to_vec(),
            format!(" {url} ").into_bytes(),
        ];
        for bytes in spelled {
            fs::write(&path, &bytes).unwrap();
            let read = Keyring::open(&path).unwrap().secret;
            assert_eq!(read, secret, "{}", String::from_utf8_lossy(&bytes));
        }
        let wrong = [
            format!("+{}", &digits[1..]),
            digits[2..].to_owned(),
            format!("{digits}00"),
            format!("{url}AA"),
            url[..42].to_owned(),
            format!("{}!", &url[..42]),
            String::new(),
        ];
        for text in wrong {
            fs::write(&path, &text).unwrap();
            assert!(Keyring::open(&path).is_err(), "{text}");
        }
    }

    #[test]
    fn a_damaged_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        fs::write(&path, b"short").unwrap();
        assert!(
            Keyring::open(&path)
                .unwrap_err()
                .to_string()
                .contains("has 5 bytes instead of 32")
        );
    }

    #[test]
    fn a_mounted_secret_is_read_through_its_link_and_no_other_kind_of_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mounted, path) = (
            folder.path().join("..data"),
            folder.path().join("secret.key"),
        );
        std::os::unix::fs::symlink(&mounted, &path).unwrap();
        assert!(Keyring::open(&path).is_err());
        assert!(!mounted.exists(), "nothing is made through a link");
        fs::write(&mounted, [7; 32]).unwrap();
        assert_eq!(Keyring::open(&path).unwrap().secret, [7; 32]);
        fs::remove_file(&mounted).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(&mounted).status();
        assert!(fifo.unwrap().success());
        assert!(Keyring::open(&path).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
