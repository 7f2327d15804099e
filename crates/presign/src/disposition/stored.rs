//! What a store knows of an object's name: its `Content-Disposition`, and the extension that its type has.

use super::DispositionType;
use super::extension::{file_extension, with_extension};
use crate::percent;

/// A stored `Content-Disposition` (RFC 6266), as browsers read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDisposition {
    /// Whether the file is saved or displayed.
    pub disposition: DispositionType,
    /// The last segment of the file name, not cleaned; `filename*` before `filename`.
    pub file_name: Option<String>,
}

impl StoredDisposition {
    /// Reads the header's value. Any text is accepted; an unknown disposition means `attachment` (RFC 6266, section 4.2).
    ///
    /// ```
    /// use presign::disposition::StoredDisposition;
    ///
    /// let header = "attachment; filename=\"Umsatz S_d.pdf\"; filename*=UTF-8''Umsatz%20S%C3%BCd.pdf";
    /// let stored = StoredDisposition::read(header);
    /// assert_eq!(stored.file_name.as_deref(), Some("Umsatz Süd.pdf"));
    /// ```
    pub fn read(header: &str) -> Self {
        let mut parts = parts(header).into_iter().peekable();
        let kind = parts.next_if(|part| !part.contains('='));
        let kind = kind.unwrap_or_default();
        let (mut plain, mut extended) = (None, None);
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("filename*") {
                extended = extended.or_else(|| extended_value(value));
            } else if name.eq_ignore_ascii_case("filename") {
                plain = plain.or_else(|| plain_value(value));
            }
        }
        let name = extended.or(plain);
        // Other segments are the uploader's folders (RFC 6266, section 4.3).
        let last = |name: String| {
            name.rsplit(['/', '\\'])
                .next()
                .map(|last| last.trim().to_owned())
        };
        Self {
            disposition: match kind.trim().eq_ignore_ascii_case("inline") {
                true => DispositionType::Inline,
                false => DispositionType::Attachment,
            },
            file_name: name.and_then(last).filter(|name| !name.is_empty()),
        }
    }
}

/// The parts between semicolons that are not quoted.
fn parts(header: &str) -> Vec<&str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in header.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => {
                parts.push(&header[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&header[from..]);
    parts
}

/// RFC 8187: a charset, a language and escapes.
fn extended_value(value: &str) -> Option<String> {
    let mut parts = value.trim_matches('"').splitn(3, '\'');
    let (charset, _, escaped) = (parts.next()?, parts.next()?, parts.next()?);
    if charset.eq_ignore_ascii_case("utf-8") {
        return percent::decode(escaped);
    }
    charset
        .eq_ignore_ascii_case("iso-8859-1")
        .then(|| percent::decode_bytes(escaped))?
        .map(|bytes| bytes.into_iter().map(char::from).collect())
}

/// A token or a quoted text, of which browsers also decode escapes that many servers write there.
fn plain_value(value: &str) -> Option<String> {
    let text = match value.strip_prefix('"') {
        Some(quoted) => unquoted(quoted),
        None => value.to_owned(),
    };
    // An encoded word of RFC 2047 is no name.
    let is_name = !text.is_empty() && !text.starts_with("=?");
    is_name.then(|| percent::decode(&text).unwrap_or(text))
}

fn unquoted(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            // A backslash before another character separates folders: old browsers sent whole paths.
            '\\' => text.push(
                characters
                    .next_if(|next| matches!(next, '"' | '\\'))
                    .unwrap_or(c),
            ),
            _ => text.push(c),
        }
    }
    text
}

/// The extensions of common types. `application/octet-stream` and the like say nothing.
const EXTENSIONS: &[(&str, &str)] = &[
    ("application/epub+zip", "epub"),
    ("application/gzip", "gz"),
    ("application/json", "json"),
    ("application/msword", "doc"),
    ("application/pdf", "pdf"),
    ("application/postscript", "ps"),
    ("application/rtf", "rtf"),
    ("application/sql", "sql"),
    ("application/vnd.apache.parquet", "parquet"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.ms-outlook", "msg"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/vnd.oasis.opendocument.presentation", "odp"),
    ("application/vnd.oasis.opendocument.spreadsheet", "ods"),
    ("application/vnd.oasis.opendocument.text", "odt"),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "pptx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
    ),
    ("application/vnd.rar", "rar"),
    ("application/x-7z-compressed", "7z"),
    ("application/x-bzip2", "bz2"),
    ("application/x-gzip", "gz"),
    ("application/x-ndjson", "ndjson"),
    ("application/x-rar-compressed", "rar"),
    ("application/x-tar", "tar"),
    ("application/x-xz", "xz"),
    ("application/x-yaml", "yaml"),
    ("application/x-zip-compressed", "zip"),
    ("application/xhtml+xml", "xhtml"),
    ("application/xml", "xml"),
    ("application/yaml", "yaml"),
    ("application/zip", "zip"),
    ("application/zstd", "zst"),
    ("audio/aac", "aac"),
    ("audio/flac", "flac"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/wav", "wav"),
    ("audio/x-wav", "wav"),
    ("image/avif", "avif"),
    ("image/bmp", "bmp"),
    ("image/gif", "gif"),
    ("image/heic", "heic"),
    ("image/heif", "heif"),
    ("image/jpeg", "jpg"),
    ("image/png", "png"),
    ("image/svg+xml", "svg"),
    ("image/tiff", "tif"),
    ("image/webp", "webp"),
    ("message/rfc822", "eml"),
    ("text/calendar", "ics"),
    ("text/css", "css"),
    ("text/csv", "csv"),
    ("text/html", "html"),
    ("text/javascript", "js"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
    ("text/rtf", "rtf"),
    ("text/tab-separated-values", "tsv"),
    ("text/vcard", "vcf"),
    ("text/xml", "xml"),
    ("video/mp4", "mp4"),
    ("video/mpeg", "mpg"),
    ("video/ogg", "ogv"),
    ("video/quicktime", "mov"),
    ("video/webm", "webm"),
    ("video/x-matroska", "mkv"),
    ("video/x-msvideo", "avi"),
];

/// Adds the extension of a media type to a name that has none.
///
/// ```
/// use presign::disposition::with_extension_for;
///
/// assert_eq!(with_extension_for("7f3c9a".to_owned(), "application/pdf"), "7f3c9a.pdf");
/// assert_eq!(with_extension_for("a.pdf".to_owned(), "text/plain"), "a.pdf");
/// ```
pub fn with_extension_for(name: String, media_type: &str) -> String {
    if file_extension(&name).is_some() {
        return name;
    }
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let known = EXTENSIONS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(essence));
    match known {
        Some((_, extension)) => with_extension(name, extension),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_name_is_read_as_browsers_read_it() {
        let table = [
            "attachment; filename=\"Q3 report.pdf\"",
            "attachment; filename=Q3.pdf; size=7",
            "inline; filename=\"a; b \\\"c\\\".pdf\"",
            "attachment; filename=\"S_d.pdf\"; filename*=UTF-8''S%C3%BCd.pdf",
            "attachment; filename*=iso-8859-1'de'S%FCd.pdf; filename=x",
            "attachment; filename*=koi8-r''%C1; filename=\"x.pdf\"",
            "attachment; filename*=UTF-8''%; filename=\"x.pdf\"",
            "ATTACHMENT; FileName = \"Süd.pdf\"",
            "attachment; filename=\"C:\\docs\\a.pdf\"",
            "attachment; filename=\"../../etc/passwd\"",
            "attachment; filename=\"Q3%20report.pdf\"",
            "attachment; filename=\"100%.pdf\"",
            "attachment; filename=\"=?UTF-8?B?w7w=?=\"",
            "attachment; filename=\"\"",
            "filename=\"a.pdf\"",
            "inline",
            "x-unknown; filename=a",
            "attachment; filename=\"a.pdf",
            ";;;=",
            "",
        ]
        .map(|header| {
            let StoredDisposition {
                disposition,
                file_name,
            } = StoredDisposition::read(header);
            format!(
                "{header} => {disposition:?} {:?}",
                file_name.unwrap_or_default()
            )
        });
        insta::assert_snapshot!(table.join("\n"), @r#"
        attachment; filename="Q3 report.pdf" => Attachment "Q3 report.pdf"
        attachment; filename=Q3.pdf; size=7 => Attachment "Q3.pdf"
        inline; filename="a; b \"c\".pdf" => Inline "a; b \"c\".pdf"
        attachment; filename="S_d.pdf"; filename*=UTF-8''S%C3%BCd.pdf => Attachment "Süd.pdf"
        attachment; filename*=iso-8859-1'de'S%FCd.pdf; filename=x => Attachment "Süd.pdf"
        attachment; filename*=koi8-r''%C1; filename="x.pdf" => Attachment "x.pdf"
        attachment; filename*=UTF-8''%; filename="x.pdf" => Attachment "x.pdf"
        ATTACHMENT; FileName = "Süd.pdf" => Attachment "Süd.pdf"
        attachment; filename="C:\docs\a.pdf" => Attachment "a.pdf"
        attachment; filename="../../etc/passwd" => Attachment "passwd"
        attachment; filename="Q3%20report.pdf" => Attachment "Q3 report.pdf"
        attachment; filename="100%.pdf" => Attachment "100%.pdf"
        attachment; filename="=?UTF-8?B?w7w=?=" => Attachment ""
        attachment; filename="" => Attachment ""
        filename="a.pdf" => Attachment "a.pdf"
        inline => Inline ""
        x-unknown; filename=a => Attachment "a"
        attachment; filename="a.pdf => Attachment "a.pdf"
        ;;;= => Attachment ""
         => Attachment ""
        "#);
    }

    #[test]
    fn a_name_without_an_extension_gets_that_of_its_type() {
        for (name, media_type, expected) in [
            ("report v1.2", "application/pdf", "report v1.2.pdf"),
            ("a", "Text/Plain; charset=utf-8", "a.txt"),
            ("a", "application/octet-stream", "a"),
            ("a", "binary/octet-stream", "a"),
            ("a.TIFF", "image/png", "a.TIFF"),
        ] {
            assert_eq!(with_extension_for(name.to_owned(), media_type), expected);
        }
    }
}
