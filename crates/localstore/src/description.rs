//! The description of an object: the headers that were uploaded with it and are returned with it.
//!
//! A description is a small file in the reserved folder whose name is derived from the key and the version. It is written before
//! its object appears, so that readers see both. A file that is replaced by hand has no description, rather than that of its
//! predecessor.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use directory::Directory;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The maximum size of a description that is read, in bytes: S3 accepts 2 KB of metadata and 8 KB of other headers.
const LONGEST: u64 = 64 * 1024;

/// The maximum number of metadata entries of an object: clients, the daemon's included, accept a hundred headers.
const MAX_METADATA: usize = 64;

/// The last second of the year 9999, since 1970: the latest date that an answer can represent.
const LAST_SECOND: u64 = 253_402_300_799;

/// The headers of an object, unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<u64>,
    /// `x-amz-meta-*`, without that prefix.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    /// The tags of the object. A new upload has none, as in S3.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
}

/// The tag that revokes the links to an object.
const REVOKED: (&str, &str) = ("handout-revoked", "true");

impl Description {
    /// The location of a version's description: its folder in the reserved one, and its name.
    pub(crate) fn place(key: &str, etag: &str) -> (PathBuf, String) {
        // A key can be longer than a file name. 256 folders keep each of them small.
        let digest: String = Sha256::digest(key)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = Path::new("descriptions").join(&digest[..2]);
        (folder, format!("{digest}-{etag}"))
    }

    pub(crate) fn load(folder: &Directory, name: &str) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let file = folder.read_any(name)?;
        file.take(LONGEST).read_to_end(&mut bytes)?;
        let description: Self = serde_json::from_slice(&bytes)?;
        match description.can_be_sent() {
            true => Ok(description),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the description of an object was not written by this endpoint",
            )),
        }
    }

    /// Whether its values are valid in a response. All users with write access to the bucket's folder may have written it.
    pub(crate) fn can_be_sent(&self) -> bool {
        let texts = [
            &self.content_type,
            &self.content_encoding,
            &self.content_disposition,
            &self.content_language,
            &self.cache_control,
        ];
        let mut values = texts.into_iter().flatten().chain(self.metadata.values());
        let mut names = self.metadata.keys();
        values.all(|value| HeaderValue::from_str(value).is_ok())
            && names.all(|name| HeaderName::from_bytes(name.as_bytes()).is_ok())
            && self.metadata.len() <= MAX_METADATA
            && self.expires.is_none_or(|end| end <= LAST_SECOND)
    }

    /// Whether the object has the tag by which its links are revoked. The endpoint has no policies: it behaves as a bucket whose
    /// policy denies `GetObject` of such objects to all.
    pub(crate) fn is_revoked(&self) -> bool {
        let (name, value) = REVOKED;
        self.tags.get(name).is_some_and(|tag| tag == value)
    }

    pub(crate) fn save(&self, folder: &Directory, name: &str) -> io::Result<()> {
        folder.replace(name, &serde_json::to_vec(self)?, 0o666)
    }
}

/// Guesses the type of a file that was uploaded without one, by its extension.
pub(crate) fn content_type(key: &str) -> &'static str {
    // As consoles describe the markers of folders.
    if key.ends_with('/') {
        return "application/x-directory";
    }
    let extension = key.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "avif" => "image/avif",
        "bmp" => "image/bmp",
        "csv" => "text/csv; charset=utf-8",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "eml" => "message/rfc822",
        "gif" => "image/gif",
        "gz" | "tgz" => "application/gzip",
        "heic" => "image/heic",
        "htm" | "html" => "text/html; charset=utf-8",
        "ico" => "image/vnd.microsoft.icon",
        "ics" => "text/calendar; charset=utf-8",
        "jpeg" | "jpg" => "image/jpeg",
        "json" => "application/json",
        "m4a" => "audio/mp4",
        "md" => "text/markdown; charset=utf-8",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "mp4" | "m4v" => "video/mp4",
        "ods" => "application/vnd.oasis.opendocument.spreadsheet",
        "odt" => "application/vnd.oasis.opendocument.text",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "parquet" => "application/vnd.apache.parquet",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "svg" => "image/svg+xml",
        "tif" | "tiff" => "image/tiff",
        "txt" | "log" => "text/plain; charset=utf-8",
        "wav" => "audio/wav",
        "webm" => "video/webm",
        "webp" => "image/webp",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xml" => "application/xml",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let held = Directory::open(folder.path()).unwrap();
        let description = Description {
            content_type: Some("text/plain".to_owned()),
            expires: Some(1_790_000_000),
            metadata: BTreeMap::from([("customer".to_owned(), "ACME".to_owned())]),
            ..Description::default()
        };
        description.save(&held, "description").unwrap();
        assert_eq!(
            Description::load(&held, "description").unwrap(),
            description
        );
        assert!(
            !std::fs::read_to_string(folder.path().join("description"))
                .unwrap()
                .contains("null")
        );
    }

    #[test]
    fn each_version_of_each_key_has_a_description_of_its_own() {
        let places =
            [("a", "1"), ("a", "2"), ("b", "1")].map(|(key, etag)| Description::place(key, etag));
        assert!(places[0] != places[1] && places[0] != places[2] && places[1] != places[2]);
    }

    #[test]
    fn the_type_is_known_by_the_end_of_the_name() {
        for (key, expected) in [
            ("2026/Report.PDF", "application/pdf"),
            ("a.tar.gz", "application/gzip"),
            ("photos.d/IMG", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(key), expected);
        }
    }

    #[test]
    fn what_can_stand_in_no_answer_is_no_description() {
        let inside = tempfile::tempdir().unwrap();
        let folder = Directory::open(inside.path()).unwrap();
        let many: BTreeMap<String, String> = (0..=MAX_METADATA)
            .map(|number| (number.to_string(), String::new()))
            .collect();
        let many = serde_json::json!({ "metadata": many }).to_string();
        for text in [
            r#"{"content_type":"text/html\n"}"#,
            r#"{"cache_control":"a\r\nSet-Cookie: x"}"#,
            r#"{"metadata":{"a b":"c"}}"#,
            r#"{"metadata":{"a":"\u0000"}}"#,
            r#"{"expires":253402300800}"#,
            r#"{"expires":18446744073709551615}"#,
            &many,
        ] {
            std::fs::write(inside.path().join("x"), text).unwrap();
            let error = Description::load(&folder, "x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
        }
        let description = Description {
            content_type: Some("text/html; charset=utf-8".to_owned()),
            expires: Some(LAST_SECOND),
            metadata: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..Description::default()
        };
        description.save(&folder, "x").unwrap();
        assert_eq!(Description::load(&folder, "x").unwrap(), description);
    }
}
