//! The manifest, the list of all links for programs and spreadsheets, as a stream of bytes.

use std::fmt;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::audit::AuditedLinks;
use crate::job::ManifestFormat;
use crate::links::{Link, Unavailable, Unlinkable};
use crate::plan::Lifetime;
use crate::text::csv::{heading, push_text};

/// The columns of the table, and the fields of each object.
const COLUMNS: [&str; 8] = [
    "key",
    "name",
    "size_bytes",
    "modified",
    "expires_at",
    "link_id",
    "url",
    "unavailable",
];

/// Instants in the table are written as in RFC 3339.
const INSTANTS: DateTimePrinter = DateTimePrinter::new();

/// A manifest in progress.
pub struct Manifest {
    format: ManifestFormat,
    expires_at: Timestamp,
    /// The same, as the table writes it.
    expires: String,
    /// The buffer of the current batch.
    text: String,
}

/// Written by hand: the buffer holds links.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("format", &self.format)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Manifest {
    /// Starts a manifest, and returns its first bytes.
    pub fn begin(format: ManifestFormat, lifetime: Lifetime) -> (Self, Vec<u8>) {
        let manifest = Self {
            format,
            expires_at: lifetime.expires_at,
            expires: lifetime.expires_at.to_string(),
            text: String::new(),
        };
        let head = match format {
            ManifestFormat::Csv => heading(&COLUMNS),
            ManifestFormat::Jsonl | ManifestFormat::Urls | ManifestFormat::Aria2 => String::new(),
        };
        (manifest, head.into_bytes())
    }

    /// Writes a batch.
    pub fn push(&mut self, links: &AuditedLinks) -> &[u8] {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        for link in links.links() {
            match self.format {
                ManifestFormat::Csv => self.push_row(link, &mut text),
                ManifestFormat::Jsonl => push_line(&self.entry(link), &mut text),
                ManifestFormat::Urls => {
                    text.push_str(link.url.expose());
                    text.push('\n');
                }
                // https://aria2.github.io/manual/en/html/aria2c.html#input-file
                ManifestFormat::Aria2 => {
                    for part in [link.url.expose(), "\n  out=", &link.name, "\n"] {
                        text.push_str(part);
                    }
                }
            }
        }
        for missed in links.unavailable() {
            match self.format {
                ManifestFormat::Csv => push_missed_row(missed, &mut text),
                ManifestFormat::Jsonl => {
                    push_line(
                        &Gap {
                            key: &missed.key,
                            unavailable: missed.reason,
                        },
                        &mut text,
                    );
                }
                // Lists for download programs contain only downloadable objects.
                ManifestFormat::Urls | ManifestFormat::Aria2 => {}
            }
        }
        self.text = text;
        self.text.as_bytes()
    }

    fn push_row(&self, link: &Link, text: &mut String) {
        push_text(link.key().as_str(), text);
        text.push(',');
        push_text(&link.name, text);
        // None of the remaining fields can begin a formula or contain a quotation mark: a number, instants, digits, a URL.
        text.push(',');
        text.push_str(itoa::Buffer::new().format(link.object.size_bytes));
        text.push_str(",\"");
        let modified = &link.object.modified;
        let spelled = INSTANTS.print_timestamp(modified, &mut *text);
        spelled.expect("a text takes all");
        for part in [
            "\",\"",
            &self.expires,
            "\",\"",
            &link.id,
            "\",\"",
            link.url.expose(),
            "\",\r\n",
        ] {
            text.push_str(part);
        }
    }

    fn entry<'l>(&self, link: &'l Link) -> ManifestEntry<'l> {
        ManifestEntry {
            key: link.key().as_str(),
            name: &link.name,
            size_bytes: link.object.size_bytes,
            modified: link.object.modified,
            expires_at: self.expires_at,
            link_id: &link.id,
            url: link.url.expose(),
        }
    }
}

/// A line of JSON for a link; the field names are [`COLUMNS`].
#[derive(Serialize)]
struct ManifestEntry<'a> {
    key: &'a str,
    name: &'a str,
    size_bytes: u64,
    modified: Timestamp,
    expires_at: Timestamp,
    link_id: &'a str,
    url: &'a str,
}

/// A line of JSON for an object that has no link.
#[derive(Serialize)]
struct Gap<'a> {
    key: &'a str,
    unavailable: Unlinkable,
}

fn push_line(entry: &impl Serialize, text: &mut String) {
    *text += &serde_json::to_string(entry).expect("texts, numbers and instants are JSON");
    text.push('\n');
}

fn push_missed_row(missed: &Unavailable, text: &mut String) {
    push_text(&missed.key, text);
    text.push_str(",,,,,,,");
    push_text(&missed.reason.to_string(), text);
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    #[test]
    fn a_list_does_not_print_what_is_in_it() {
        let links = audited(vec![link("a.pdf", 7)], &[]);
        let (mut manifest, _) = Manifest::begin(ManifestFormat::Urls, links.lifetime());
        let text = String::from_utf8(manifest.push(&links).to_vec()).unwrap();
        assert!(text.starts_with("https://"));
        assert!(!format!("{manifest:?}").contains("https://"));
    }

    fn written(format: ManifestFormat) -> String {
        let links = [
            "a, b/x \"y\".pdf",
            "=HYPERLINK(\"http://evil.example\")",
            "+1",
            "-1",
            "@x",
            "\t=1",
        ];
        let links = links.map(|key| {
            let mut link = link(key, 7);
            link.name = key.to_owned();
            link
        });
        let (mut manifest, mut bytes) = Manifest::begin(format, lifetime());
        bytes.extend(manifest.push(&audited(links.into(), &[("=gone", Unlinkable::Missing)])));
        let text = String::from_utf8(bytes).unwrap();
        text.replace(SIGNATURE, "[SIGNATURE]")
            .replace("https://acme-reports.s3.eu-west-1.amazonaws.com", "[HOST]")
    }

    #[test]
    fn a_table_cannot_hold_a_formula() {
        let text = written(ManifestFormat::Csv);
        assert_eq!(text.matches("\r\n").count(), 8);
        insta::assert_snapshot!(text.replace("\r\n", "\n"), @r#"
        "key","name","size_bytes","modified","expires_at","link_id","url","unavailable"
        "a, b/x ""y"".pdf","a, b/x ""y"".pdf",7,"2026-11-23T05:12:00Z","2026-11-30T17:40:00Z","00112233445566778899aabbccddeeff","[HOST]/a%2C%20b/x%20%22y%22.pdf?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]",
        "'=HYPERLINK(""http://evil.example"")","'=HYPERLINK(""http://evil.example"")",7,"2026-11-23T05:12:00Z","2026-11-30T17:40:00Z","00112233445566778899aabbccddeeff","[HOST]/%3DHYPERLINK%28%22http%3A//evil.example%22%29?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]",
        "'+1","'+1",7,"2026-11-23T05:12:00Z","2026-11-30T17:40:00Z","00112233445566778899aabbccddeeff","[HOST]/%2B1?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]",
        "'-1","'-1",7,"2026-11-23T05:12:00Z","2026-11-30T17:40:00Z","00112233445566778899aabbccddeeff","[HOST]/-1?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]",
        "'@x","'@x",7,"2026-11-23T05:12:00Z","2026-11-30T17:40:00Z","00112233445566778899aabbccddeeff","[HOST]/%40x?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]",
        "'	'=1","'	'=1",7,"2026-11-23T05:12:00Z","2026-11-30T17:40:00Z","00112233445566778899aabbccddeeff","[HOST]/%09%3D1?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]",
        "'=gone",,,,,,,"it does not exist"
        "#);
    }

    #[test]
    fn a_line_of_json_for_each_object() {
        insta::assert_snapshot!(written(ManifestFormat::Jsonl), @r#"
        {"key":"a, b/x \"y\".pdf","name":"a, b/x \"y\".pdf","size_bytes":7,"modified":"2026-11-23T05:12:00Z","expires_at":"2026-11-30T17:40:00Z","link_id":"00112233445566778899aabbccddeeff","url":"[HOST]/a%2C%20b/x%20%22y%22.pdf?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]"}
        {"key":"=HYPERLINK(\"http://evil.example\")","name":"=HYPERLINK(\"http://evil.example\")","size_bytes":7,"modified":"2026-11-23T05:12:00Z","expires_at":"2026-11-30T17:40:00Z","link_id":"00112233445566778899aabbccddeeff","url":"[HOST]/%3DHYPERLINK%28%22http%3A//evil.example%22%29?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]"}
        {"key":"+1","name":"+1","size_bytes":7,"modified":"2026-11-23T05:12:00Z","expires_at":"2026-11-30T17:40:00Z","link_id":"00112233445566778899aabbccddeeff","url":"[HOST]/%2B1?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]"}
        {"key":"-1","name":"-1","size_bytes":7,"modified":"2026-11-23T05:12:00Z","expires_at":"2026-11-30T17:40:00Z","link_id":"00112233445566778899aabbccddeeff","url":"[HOST]/-1?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]"}
        {"key":"@x","name":"@x","size_bytes":7,"modified":"2026-11-23T05:12:00Z","expires_at":"2026-11-30T17:40:00Z","link_id":"00112233445566778899aabbccddeeff","url":"[HOST]/%40x?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]"}
        {"key":"\t=1","name":"\t=1","size_bytes":7,"modified":"2026-11-23T05:12:00Z","expires_at":"2026-11-30T17:40:00Z","link_id":"00112233445566778899aabbccddeeff","url":"[HOST]/%09%3D1?X-Amz-Expires=604800&X-Amz-Signature=[SIGNATURE]"}
        {"key":"=gone","unavailable":"missing"}
        "#);
    }

    #[test]
    fn a_list_of_urls_has_only_those() {
        let text = written(ManifestFormat::Urls);
        assert!(
            text.lines().count() == 6 && text.lines().all(|line| line.starts_with("[HOST]/")),
            "{text}"
        );
    }
}
