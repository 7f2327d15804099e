//! How a file is presented: its name, whether it is saved or shown, and the headers that its link asks of the store.
//!
//! What is saved is what the name says. So the name keeps the extension of the object, or gets that of its type; a file whose
//! name says that it is compressed is not decompressed on the way; a text is shown in its own charset. What the store is known
//! to have (by a HEAD request) is not written over.

use std::borrow::Cow;

use presign::disposition::{
    clean_name, file_extension, is_compressed, is_passive, passive_type, with_extension_for,
    with_extension_of,
};

use crate::job::{ContentDisposition, FileName, Key};
use crate::store::StoredHeaders;
use crate::text::charset::{Charset, TextCharset};

/// The type of a file that a browser must save, whatever its bytes are.
const SAVED_TYPE: &str = "application/octet-stream";

/// The coding of bytes that are delivered as they are stored.
const AS_STORED: &str = "identity";

/// What links of a kind ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PresentationOptions<'a> {
    /// The name of the file, already filled in.
    pub(super) name: RequestedName<'a>,
    /// What a browser does with the file.
    pub(super) disposition: ContentDisposition,
    /// The media type that the store sends, instead of the object's own.
    pub(super) content_type: Option<&'a str>,
    /// The charset of texts whose own is not known.
    pub(super) text_charset: TextCharset,
}

/// The name that is wished for a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum RequestedName<'a> {
    /// The stored name where it is known, else the last segment of the key.
    Own,
    /// The store's own `Content-Disposition` is left as it is.
    Stored,
    /// This name, with the file's extension.
    Given(&'a str),
}

impl<'a> RequestedName<'a> {
    /// The name of a job or an option; `given` is its phrase, filled in.
    pub(super) const fn new(name: Option<&FileName>, given: Option<&'a str>) -> Self {
        match (name, given) {
            (Some(FileName::Stored), _) => Self::Stored,
            (Some(FileName::Phrase(_)) | None, Some(given)) => Self::Given(given),
            (Some(FileName::Phrase(_)) | None, None) => Self::Own,
        }
    }
}

/// A file as its link presents it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Presentation<'a> {
    /// The name under which the file is saved, as far as it is known.
    pub(super) name: String,
    /// What a browser does with the file, as far as it is known.
    pub(super) disposition: ContentDisposition,
    /// Whether the link names the file; if not, the stored `Content-Disposition` does.
    pub(super) is_named: bool,
    /// The type that the link asks for.
    pub(super) content_type: Option<Cow<'a, str>>,
    /// The coding that the link asks for.
    pub(super) content_encoding: Option<&'static str>,
}

/// Presents an object; `stored` is what is known of its headers.
pub(super) fn present<'a>(
    key: &Key,
    stored: Option<&StoredHeaders>,
    options: &PresentationOptions<'a>,
) -> Presentation<'a> {
    let stored_type = stored.and_then(|stored| stored.content_type.as_deref());
    let name = name(key, stored, options, stored_type);
    let is_named = !matches!(options.name, RequestedName::Stored);
    // A file that could run scripts is saved, whatever was asked; see `passive_type`.
    let passive = passive_type(&name);
    let may_be_shown = options.content_type.map_or(passive.is_some(), is_passive);
    let wished = match stored.filter(|_| !is_named) {
        Some(stored) => stored.disposition.unwrap_or(ContentDisposition::Inline),
        None => options.disposition,
    };
    let disposition = match may_be_shown {
        true => wished,
        false => ContentDisposition::Attachment,
    };
    // What is stored may be no valid disposition, and may be another one when the link is opened: then the type alone decides.
    let is_known_to_be_saved = is_named && disposition == ContentDisposition::Attachment;
    let content_type = match (options.content_type, passive) {
        (Some(given), _) => Some(Cow::Borrowed(given)),
        (None, _) if is_known_to_be_saved => None,
        (None, Some(passive)) => shown_type(passive, stored_type, options.text_charset),
        // Without a disposition in the link, the type alone makes the browser save the file.
        (None, None) => Some(SAVED_TYPE.into()),
    };
    Presentation {
        disposition,
        is_named,
        content_type,
        content_encoding: is_compressed(&name).then_some(AS_STORED),
        name,
    }
}

fn name(
    key: &Key,
    stored: Option<&StoredHeaders>,
    options: &PresentationOptions<'_>,
    stored_type: Option<&str>,
) -> String {
    let (own, stored_name) = (
        key.file_name(),
        stored.and_then(|stored| stored.file_name.as_deref()),
    );
    let name: Cow<'_, str> = match options.name {
        RequestedName::Own | RequestedName::Stored => stored_name.unwrap_or(own).into(),
        RequestedName::Given(text) => {
            let name = with_extension_of(text.to_owned(), own);
            match stored_name {
                Some(stored) if file_extension(own).is_none() => with_extension_of(name, stored),
                _ => name,
            }
            .into()
        }
    };
    let media_type = options.content_type.or(stored_type);
    match media_type {
        Some(media_type) if !name.is_empty() => {
            clean_name(&with_extension_for(name.into_owned(), media_type))
        }
        _ => clean_name(&name),
    }
}

/// The type under which a file is shown: one that cannot run scripts, with the charset of its text. `None` if the stored type
/// is left as it is.
fn shown_type(
    passive: &'static str,
    stored: Option<&str>,
    charset: TextCharset,
) -> Option<Cow<'static, str>> {
    // Types without a charset are not texts, or are always UTF-8.
    let Some((essence, _)) = passive.split_once(';') else {
        return Some(passive.into());
    };
    if let Some(known) = stored.and_then(charset_of) {
        return Some(format!("{essence}; charset={known}").into());
    }
    match (charset, stored) {
        (TextCharset::Of(charset), _) if charset == Charset::UTF_8 => Some(passive.into()),
        (TextCharset::Of(charset), _) => Some(format!("{essence}; charset={charset}").into()),
        (TextCharset::Stored, Some(stored)) if !is_passive(stored) => Some(essence.into()),
        (TextCharset::Stored, _) => None,
    }
}

/// The charset in a media type, if it is one that browsers know.
fn charset_of(media_type: &str) -> Option<Charset> {
    let mut parameters = media_type.split(';').skip(1);
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"').parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An uploader chooses the stored headers, and may replace them until the link is opened.
    #[test]
    fn a_file_that_could_run_scripts_is_saved_with_any_stored_disposition() {
        let options = PresentationOptions {
            name: RequestedName::Stored,
            disposition: ContentDisposition::Inline,
            content_type: None,
            text_charset: TextCharset::default(),
        };
        let dispositions = [
            None,
            Some(ContentDisposition::Attachment),
            Some(ContentDisposition::Inline),
        ];
        for disposition in dispositions {
            for (key, expected) in [
                ("page.html", SAVED_TYPE),
                ("drawing.SVG", SAVED_TYPE),
                ("report.pdf", "application/pdf"),
                ("photo.jpg", "image/jpeg"),
            ] {
                let stored = StoredHeaders {
                    disposition,
                    content_type: Some("text/html".to_owned()),
                    ..StoredHeaders::default()
                };
                let presented = present(&key.parse().unwrap(), Some(&stored), &options);
                assert!(!presented.is_named);
                let given = presented.content_type.as_deref();
                assert_eq!(given, Some(expected), "{key} {disposition:?}");
            }
        }
    }
}
