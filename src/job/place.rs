//! Names in S3 and of jobs, each with its own type, so that the compiler finds two that are swapped.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounds::MAX_PUBLISH_DIR_BYTES;
use crate::keyring::nonce;

/// S3's limit for a key, in bytes of UTF-8.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
pub const MAX_KEY_BYTES: usize = 1024;

/// Our limit for a job's id, in bytes: it is printed in every log line and table.
pub const MAX_JOB_ID_BYTES: usize = 256;

/// Suffixes that are reserved for other resources, and what they are: their links have other hosts, or `SigV4A` signatures.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
const ALIASES: [(&str, &str); 4] = [
    (".mrap", "a multi-region access point"),
    ("--ol-s3", "an object lambda access point"),
    ("--op-s3", "an access point on Outposts"),
    ("--table-s3", "a table bucket"),
];

/// Why a text is not a valid name; the message says what is valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("is empty: give {0}")]
    Empty(&'static str),
    /// More bytes than the name may have.
    #[error("has {length} bytes: at most {limit} are allowed")]
    TooLong {
        /// How many bytes it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A control character, shown escaped.
    #[error("holds the control character {0:?}, which no mail or page can carry")]
    Control(char),
    /// An access point or another ARN in place of a bucket's name.
    #[error("is an ARN: only bucket names are linked, not access points or object lambdas")]
    Arn,
    /// A directory bucket of S3 Express.
    #[error("is a directory bucket: its sessions end after five minutes, and every link with them")]
    Directory,
    /// Another suffix that AWS reserves for resources other than buckets.
    #[error("is the alias of {0}, for which links cannot be signed: name the bucket itself")]
    Alias(&'static str),
    /// A character that this kind of name cannot have.
    #[error("holds the character {found:?}: {allowed}")]
    Character {
        /// The character.
        found: char,
        /// What may stand there.
        allowed: &'static str,
    },
}

/// Reads a name from a text, without a copy on the way: a list of a million objects has a million keys.
struct Parse<T>(PhantomData<T>);

impl<T: FromStr<Err = NameError>> Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse(PhantomData))
            }
        }
    };
}

text_type! {
    /// The name of a relay in the configuration.
    RelayName
}

impl RelayName {
    fn check(text: &str) -> Result<(), NameError> {
        let allowed = "a relay's name has letters, digits, '-' and '_'";
        check_characters(text, "the relay's name", 64, allowed, |c| {
            matches!(c, '-' | '_')
        })
    }
}

impl Default for RelayName {
    /// The relay of `[mail.smtp]`.
    fn default() -> Self {
        Self("default".into())
    }
}

text_type! {
    /// A bucket's name. Capitals and underscores are allowed: old buckets and other S3 servers have them.
    Bucket
}

impl Bucket {
    fn check(text: &str) -> Result<(), NameError> {
        if text.starts_with("arn:") {
            return Err(NameError::Arn);
        }
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
        if text.ends_with("--x-s3") {
            return Err(NameError::Directory);
        }
        let alias = ALIASES.iter().find(|(suffix, _)| text.ends_with(suffix));
        if let Some((_, what)) = alias {
            return Err(NameError::Alias(what));
        }
        let allowed = "a bucket's name has letters, digits, '.', '-' and '_'";
        check_characters(text, "the bucket's name", 255, allowed, |c| {
            matches!(c, '.' | '-' | '_')
        })
    }
}

text_type! {
    /// An object's key: 1 to 1,024 bytes of UTF-8, and any characters that a listing may return.
    Key
}

impl Key {
    fn check(text: &str) -> Result<(), NameError> {
        check_length(text, "the object's key", MAX_KEY_BYTES)
    }

    /// The last segment, which is the file's name to a reader. Empty for a folder marker (`photos/`).
    pub fn file_name(&self) -> &str {
        let slash = memchr::memrchr(b'/', self.0.as_bytes());
        &self.0[slash.map_or(0, |slash| slash + 1)..]
    }

    /// All before the last `/`, or nothing.
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

text_type! {
    /// A prefix of keys; an empty prefix is the whole bucket.
    Prefix
}

impl Prefix {
    fn check(text: &str) -> Result<(), NameError> {
        if text.is_empty() {
            return Ok(());
        }
        check_length(text, "a prefix", MAX_KEY_BYTES)?;
        refuse_control(text)
    }
}

text_type! {
    /// A job's id, which is its idempotency key.
    JobId
}

/// What stands between a job's id and the recipient's id in the id of a part.
const PART: &str = ".part.";

/// The length of a recipient's id.
const RID_BYTES: usize = 32;

/// Our limit for the id of a job in parts, in bytes: the ids of its parts are longer.
pub const MAX_ID_IN_PARTS_BYTES: usize = MAX_JOB_ID_BYTES - PART.len() - RID_BYTES;

impl JobId {
    /// The id of a recipient's part of the job. It depends on the recipient alone, so that each delivery of the job makes the
    /// same parts.
    pub fn part(&self, rid: &str) -> Self {
        Self(format!("{self}{PART}{rid}").into())
    }

    /// The job that the id is a part of, if it is the id of a part.
    pub fn whole(&self) -> Option<Self> {
        let (whole, rid) = self.0.rsplit_once(PART)?;
        let is_rid = rid.len() == RID_BYTES && rid.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_rid && !whole.is_empty()).then(|| Self(whole.into()))
    }

    /// The id of the recipient whose part of a job it is, if it is the id of a part.
    pub fn recipient_of_part(&self) -> Option<&str> {
        self.whole()?;
        Some(self.0.rsplit_once(PART)?.1)
    }

    /// The id of a rehearsal of the job. Each rehearsal is a job of its own, so that nothing of it is recorded for the job.
    pub fn of_rehearsal(&self, at: Timestamp) -> Self {
        let end = format!(
            ".rehearsal.{}.{}",
            at.strftime("%Y%m%dT%H%M%SZ"),
            &nonce()[..8]
        );
        let most = MAX_ID_IN_PARTS_BYTES - end.len();
        let begin = &self.0[..self.0.floor_char_boundary(most.min(self.0.len()))];
        Self(format!("{begin}{end}").into())
    }

    fn check(text: &str) -> Result<(), NameError> {
        check_length(
            text,
            "an id that is the same for the same job",
            MAX_JOB_ID_BYTES,
        )?;
        refuse_control(text)
    }
}

text_type! {
    /// The name of a `[connections.NAME]` table of the configuration.
    ConnectionName
}

impl ConnectionName {
    fn check(text: &str) -> Result<(), NameError> {
        let allowed = "a connection's name has letters, digits, '-' and '_'";
        check_characters(text, "a connection's name", 64, allowed, |c| {
            matches!(c, '-' | '_')
        })
    }
}

text_type! {
    /// The name of a list of recipients in the configuration.
    ListName
}

impl ListName {
    fn check(text: &str) -> Result<(), NameError> {
        let allowed = "a list's name has letters, digits, '-' and '_'";
        check_characters(text, "a list's name", 64, allowed, |c| {
            matches!(c, '-' | '_')
        })
    }
}

text_type! {
    /// The name of a template that the operator installed.
    TemplateName
}

impl TemplateName {
    fn check(text: &str) -> Result<(), NameError> {
        let allowed = "a template's name has letters, digits, '-' and '_'";
        check_characters(text, "a template's name", 64, allowed, |c| {
            matches!(c, '-' | '_')
        })
    }
}

fn check_length(text: &str, what: &'static str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty(what)),
        length if length > limit => Err(NameError::TooLong { length, limit }),
        _ => Ok(()),
    }
}

/// Rejects a directory that is too long, or that has characters which cannot be displayed.
pub(super) fn check_directory(text: &str) -> Result<(), NameError> {
    check_length(text, "a directory", MAX_PUBLISH_DIR_BYTES)?;
    refuse_control(text)
}

/// Rejects control characters in a name that a job gives.
pub(crate) fn refuse_control(text: &str) -> Result<(), NameError> {
    match text.chars().find(|c| c.is_control()) {
        Some(found) => Err(NameError::Control(found)),
        None => Ok(()),
    }
}

fn check_characters(
    text: &str,
    what: &'static str,
    limit: usize,
    allowed: &'static str,
    extra: fn(char) -> bool,
) -> Result<(), NameError> {
    check_length(text, what, limit)?;
    match text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !extra(*c))
    {
        Some(found) => Err(NameError::Character { found, allowed }),
        None => Ok(()),
    }
}

/// How Hadoop's older connectors and EMR end the key of an object that stands for a folder.
/// <https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-plan-file-systems.html>
const HADOOP_MARKER: &str = "_$folder$";

/// Whether an object only stands for a folder, and has no content: consoles and S3A make `incoming/`, Hadoop and EMR
/// `incoming_$folder$`. An unknown size counts as none.
pub fn is_folder_marker(key: &str, size_bytes: Option<u64>) -> bool {
    size_bytes.unwrap_or(0) == 0 && (key.ends_with('/') || key.ends_with(HADOOP_MARKER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_knows_its_file_name_and_folder() {
        let key: Key = "2026/11/a b.pdf".parse().unwrap();
        assert_eq!((key.folder(), key.file_name()), ("2026/11", "a b.pdf"));
        let marker: Key = "photos/".parse().unwrap();
        assert_eq!((marker.folder(), marker.file_name()), ("photos", ""));
    }

    #[test]
    fn the_id_of_a_part_leads_to_its_job() {
        let (job, rid): (JobId, _) = ("weekly.part.1".parse().unwrap(), "0a".repeat(16));
        let part = job.part(&rid);
        assert_eq!(part.whole(), Some(job.clone()));
        assert_eq!(job.whole(), None);
        let longest: JobId = "j".repeat(MAX_ID_IN_PARTS_BYTES).parse().unwrap();
        assert_eq!(longest.part(&rid).as_str().len(), MAX_JOB_ID_BYTES);
        for other in [format!("a.part.{}", "x".repeat(32)), format!(".part.{rid}")] {
            assert_eq!(other.parse::<JobId>().unwrap().whole(), None, "{other}");
        }
    }

    #[test]
    fn a_directory_that_a_job_names_is_bounded() {
        assert_eq!(check_directory("/srv/galleries/Bücher"), Ok(()));
        assert_eq!(
            check_directory(&"/d".repeat(MAX_PUBLISH_DIR_BYTES / 2)),
            Ok(())
        );
        let long = "/d".repeat(100_000);
        assert!(matches!(
            check_directory(&long),
            Err(NameError::TooLong { .. })
        ));
        for odd in ["/srv/\u{0}", "/srv/\u{1b}[31m"] {
            assert!(matches!(check_directory(odd), Err(NameError::Control(_))));
        }
    }

    #[test]
    fn names_that_are_none_say_why() {
        let refusals = [
            "".parse::<Bucket>().unwrap_err().to_string(),
            "a/b".parse::<Bucket>().unwrap_err().to_string(),
            "arn:aws:s3:eu-west-1:1:accesspoint/x"
                .parse::<Bucket>()
                .unwrap_err()
                .to_string(),
            "logs--use1-az4--x-s3"
                .parse::<Bucket>()
                .unwrap_err()
                .to_string(),
            "mfzwi23gnjvgw.mrap"
                .parse::<Bucket>()
                .unwrap_err()
                .to_string(),
            "x--ol-s3".parse::<Bucket>().unwrap_err().to_string(),
            "x--op-s3".parse::<Bucket>().unwrap_err().to_string(),
            "x--table-s3".parse::<Bucket>().unwrap_err().to_string(),
            "a\nb".parse::<JobId>().unwrap_err().to_string(),
            "k".repeat(1025).parse::<Key>().unwrap_err().to_string(),
        ];
        insta::assert_snapshot!(refusals.join("\n"), @r"
        is empty: give the bucket's name
        holds the character '/': a bucket's name has letters, digits, '.', '-' and '_'
        is an ARN: only bucket names are linked, not access points or object lambdas
        is a directory bucket: its sessions end after five minutes, and every link with them
        is the alias of a multi-region access point, for which links cannot be signed: name the bucket itself
        is the alias of an object lambda access point, for which links cannot be signed: name the bucket itself
        is the alias of an access point on Outposts, for which links cannot be signed: name the bucket itself
        is the alias of a table bucket, for which links cannot be signed: name the bucket itself
        holds the control character '\n', which no mail or page can carry
        has 1025 bytes: at most 1024 are allowed
        ");
    }
}
