//! A fast parser of answers as S3 writes them: elements without attributes, one after the other, and texts with named
//! references.
//!
//! A listing of a million objects is 300 MB. An answer that uses more of XML is left, from the beginning, to the reader of
//! all XML. The tests compare the two.

use std::borrow::Cow;

use super::{ListingAnswer, ObjectDraft, ROOT};
use crate::store::MAX_PAGE;

/// How S3 writes the quotes around an entity tag.
const QUOTE: &str = "&quot;";

/// The entity references that XML predefines.
const REFERENCES: [(&str, char); 5] = [
    (QUOTE, '"'),
    ("&amp;", '&'),
    ("&apos;", '\''),
    ("&lt;", '<'),
    ("&gt;", '>'),
];

/// Parses an answer; `None` if it is not plain, or not valid.
pub(super) fn read(xml: &[u8]) -> Option<ListingAnswer<'_>> {
    let xml = std::str::from_utf8(xml).ok()?;
    // XML normalizes it to another line end.
    if memchr::memchr(b'\r', xml.as_bytes()).is_some() {
        return None;
    }
    let mut cursor = XmlCursor {
        rest: inside_of_root(xml)?,
    };
    let mut answer = ListingAnswer {
        objects: Vec::with_capacity(MAX_PAGE),
        ..ListingAnswer::default()
    };
    loop {
        match cursor.tag()? {
            XmlTag::Open("Contents") => answer.objects.push(object(&mut cursor)?),
            XmlTag::Open(name) => {
                let text = unescaped(cursor.raw_text(name)?)?;
                answer.set(name.as_bytes(), &text).ok()?;
            }
            XmlTag::Close(ROOT) => return Some(answer),
            XmlTag::Close(_) => return None,
        }
    }
}

/// The text after the opening tag of a page.
fn inside_of_root(xml: &str) -> Option<&str> {
    let declared = xml.strip_prefix("<?xml ");
    let root = match declared {
        Some(rest) => rest.split_once("?>")?.1.trim_ascii_start(),
        None => xml,
    };
    let (attributes, inside) = root
        .strip_prefix('<')?
        .strip_prefix(ROOT)?
        .split_once('>')?;
    // The first `>` may be inside quotes and so not end the tag; and a tag that ends with a slash is empty.
    let is_whole = attributes.matches('"').count().is_multiple_of(2)
        && !attributes.contains(['\'', '<'])
        && !attributes.ends_with('/');
    let is_plain = attributes.is_empty() || attributes.starts_with(' ');
    (is_plain && is_whole).then_some(inside)
}

fn object<'x>(cursor: &mut XmlCursor<'x>) -> Option<ObjectDraft<'x>> {
    let mut object = ObjectDraft::default();
    loop {
        let name = match cursor.tag()? {
            XmlTag::Open(name) => name,
            XmlTag::Close("Contents") => return Some(object),
            XmlTag::Close(_) => return None,
        };
        let mut raw = cursor.raw_text(name)?;
        if name == "ETag" {
            // The quotes are removed here, so that no copy of the text is needed later.
            let inside = raw.strip_prefix(QUOTE);
            raw = inside
                .and_then(|raw| raw.strip_suffix(QUOTE))
                .unwrap_or(raw);
        }
        object.set(name.as_bytes(), unescaped(raw)?).ok()?;
    }
}

enum XmlTag<'x> {
    Open(&'x str),
    Close(&'x str),
}

/// The rest of the answer.
struct XmlCursor<'x> {
    rest: &'x str,
}

impl<'x> XmlCursor<'x> {
    /// The next tag; only white space may precede it.
    fn tag(&mut self) -> Option<XmlTag<'x>> {
        let inside = self.rest.trim_ascii_start().strip_prefix('<')?;
        let (is_close, inside) = match inside.strip_prefix('/') {
            Some(inside) => (true, inside),
            None => (false, inside),
        };
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric();
        let length = inside.bytes().position(|byte| !is_of_name(&byte))?;
        let (name, after) = inside.split_at(length);
        self.rest = after.strip_prefix('>').filter(|_| length > 0)?;
        Some(match is_close {
            true => XmlTag::Close(name),
            false => XmlTag::Open(name),
        })
    }

    /// The text up to the closing tag of `name`, not unescaped.
    fn raw_text(&mut self, name: &str) -> Option<&'x str> {
        let end = memchr::memchr(b'<', self.rest.as_bytes())?;
        let (raw, after) = self.rest.split_at(end);
        let after = after.strip_prefix("</")?.strip_prefix(name)?;
        self.rest = after.strip_prefix('>')?;
        Some(raw)
    }
}

/// Replaces references by their characters; `None` if a reference is unknown.
fn unescaped(raw: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr::memchr(b'&', raw.as_bytes()) else {
        return Some(Cow::Borrowed(raw));
    };
    let (mut text, mut rest) = (raw[..first].to_owned(), &raw[first..]);
    while !rest.is_empty() {
        let known = REFERENCES.iter().find(|(name, _)| rest.starts_with(name));
        let (name, character) = known?;
        text.push(*character);
        rest = &rest[name.len()..];
        let plain = memchr::memchr(b'&', rest.as_bytes()).unwrap_or(rest.len());
        text.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{plain_instant, read_any};
    use super::*;

    /// Whether both readers agree about an answer that this one can read.
    fn agree(xml: &str) -> bool {
        let Some(ours) = read(xml.as_bytes()) else {
            return false;
        };
        let theirs = read_any(xml.as_bytes()).unwrap().unwrap();
        match (ours.page(), theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours.objects, theirs.objects, "{xml}");
                assert_eq!(ours.continuation_token, theirs.continuation_token, "{xml}");
            }
            (ours, theirs) => assert_eq!(ours.err(), theirs.err(), "{xml}"),
        }
        true
    }

    /// An answer as S3 gives it, around some of its elements.
    fn answer(inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Name>b</Name><KeyCount>1</KeyCount><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>\
             <Contents><Key>a+b%2Bc&amp;d</Key><LastModified>2026-11-23T05:12:09.000Z</LastModified><ETag>&quot;d41d8&quot;</ETag>\
             <ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>7</Size><StorageClass>DEEP_ARCHIVE</StorageClass></Contents>\
             {inside}</ListBucketResult>"
        )
    }

    #[test]
    fn an_answer_of_s3_is_plain() {
        assert!(agree(&answer("")));
        assert!(agree(&answer("<Contents><Key>z</Key></Contents>\n  ")));
        assert!(agree("<ListBucketResult></ListBucketResult>"));
        assert!(agree(&answer("<Contents><Size>1</Size></Contents>")));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_other() {
        for inside in [
            "<Contents/>",
            "<Contents><Key/></Contents>",
            "<Contents><Key>&#x26;</Key></Contents>",
            "<Contents><Key><![CDATA[a]]></Key></Contents>",
            "<Contents><Key>a</Key><Owner><ID>Key</ID></Owner></Contents>",
            "<Contents a=\"b\"><Key>a</Key></Contents>",
            "<Contents><!-- c --><Key>a</Key></Contents>",
            "<Contents><s:Key>a</s:Key></Contents>",
            "<Contents><Key>a\r\nb</Key></Contents>",
            "<Contents>text<Key>a</Key></Contents>",
            "<Contents><Key>a</Size></Contents>",
            "<Contents><Size>many</Size></Contents>",
            "<Contents><Key>a",
        ] {
            assert!(read(answer(inside).as_bytes()).is_none(), "{inside}");
        }
        for root in ["", " a='>'", " a=\">\"", "s", "/", " /"] {
            let xml = format!("<ListBucketResult{root}></ListBucketResult>");
            assert_eq!(read(xml.as_bytes()).is_some(), root.is_empty(), "{xml}");
        }
        assert!(read(b"<ListBucketResult>\xff</ListBucketResult>").is_none());
    }

    #[test]
    fn only_instants_that_are_some_are_plain() {
        for text in [
            "2026-11-23T05:12:09.999Z",
            "1970-01-01T00:00:00.000Z",
            "9999-01-01T00:00:00.000Z",
            "2024-02-29T23:59:59.000Z",
        ] {
            let theirs: jiff::Timestamp = text.parse().unwrap();
            let ours = plain_instant(text.as_bytes()).unwrap();
            assert_eq!(ours.as_second(), theirs.as_second(), "{text}");
        }
        for text in [
            "2026-13-23T05:12:09.000Z",
            "2026-02-30T05:12:09.000Z",
            "2026-11-23T24:00:00.000Z",
            "2026-11-23T05:12:60.000Z",
            "1969-12-31T23:59:59.500Z",
            "2026-11-23T05:12:09Z",
            "2026-11-23t05:12:09.000Z",
            "",
        ] {
            assert_eq!(plain_instant(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_reads_what_the_reader_of_all_xml_reads(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("<Contents>"), Just("</Contents>"), Just("<Key>"), Just("</Key>"), Just("<ETag>"), Just("</ETag>"),
                    Just("<Size>1</Size>"), Just("<Key>k</Key>"), Just("<Key>a</Key>"), Just("<Key>"), Just("&quot;"), Just("\""),
                    Just("&amp;"), Just("a"), Just(" "), Just("ü"), Just("<IsTruncated>true</IsTruncated>"),
                    Just("<NextContinuationToken>t&lt;</NextContinuationToken>"), Just("<StorageClass>GLACIER</StorageClass>"),
                ],
                0..12,
            ),
        ) {
            agree(&answer(&parts.concat()));
        }

        #[test]
        fn keys_and_tags_are_what_they_are(key in "\\PC{0,20}", tag in "[\"a&]{0,6}") {
            let escaped = |text: &str| quick_xml::escape::escape(text).into_owned();
            let xml = answer(&format!("<Contents><Key>{}</Key><ETag>{}</ETag></Contents>", escaped(&key), escaped(&tag)));
            prop_assert!(agree(&xml));
        }
    }
}
