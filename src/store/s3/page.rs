//! Parses a page of a listing from S3's answer.
//!
//! The SDK makes a builder and a dozen optional texts of every object; for a million objects, that alone takes longer than
//! signing them. So the answer to a listing is parsed here, in one pass, into the needed fields. Everything else about the
//! request stays with the SDK: its signature, its retries, and its errors. The tests compare the two.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

mod plain;

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2, ListObjectsV2Output};
use aws_smithy_runtime_api::client::interceptors::context::{Output, OutputOrError};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use quick_xml::events::{BytesRef, Event};
use quick_xml::reader::Reader;

use super::{MORE_NOWHERE, check_length, listed_key, plain_etag, storage};
use crate::bounds::{MAX_ETAG_BYTES, MAX_SHOWN_VALUE_BYTES};
use crate::store::{ObjectMeta, Page, Storage};
use crate::text::printable;

/// The element around a page.
const ROOT: &str = "ListBucketResult";

/// Why an answer is not a page.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// It is not XML.
    #[error("the listing is not XML")]
    Xml(#[from] quick_xml::Error),
    /// It is not in UTF-8.
    #[error("the listing is not in UTF-8")]
    Text(#[from] quick_xml::encoding::EncodingError),
    /// It ends before its root element does.
    #[error("the listing ends in the middle")]
    Torn,
    /// It has an unknown entity reference.
    #[error("the listing has the unknown reference &{0};")]
    Reference(String),
    /// A field has a value that S3 does not send.
    #[error("the listing has the invalid {field} {text:?}")]
    Field {
        /// The element.
        field: &'static str,
        /// Its value.
        text: String,
    },
}

/// Parses the answer to a listing in place of the SDK, and keeps the page.
#[derive(Debug, Clone, Default)]
pub(super) struct PageReader {
    page: Arc<Mutex<Option<Result<Page, String>>>>,
}

impl PageReader {
    /// The page that was read last, or the error of an object in it.
    pub(super) fn take(&self) -> Result<Page, String> {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        page.take()
            .unwrap_or_else(|| Err("the answer is not a listing".to_owned()))
    }
}

impl Intercept for PageReader {
    fn name(&self) -> &'static str {
        "PageReader"
    }

    fn read_after_transmit(
        &self,
        _: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let reader = SharedResponseDeserializer::new(self.clone());
        config.interceptor_state().store_put(reader);
        Ok(())
    }
}

impl DeserializeResponse for PageReader {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        config: &ConfigBag,
    ) -> OutputOrError {
        let body = response.body().bytes().unwrap_or_default();
        let read = match response.status().is_success() {
            true => read(body).map_err(|error| OrchestratorError::response(error.into()))?,
            false => None,
        };
        let Some(page) = read else {
            return as_the_sdk_reads_it(response, config);
        };
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
        Ok(Output::erase(ListObjectsV2Output::builder().build()))
    }
}

/// Lets the SDK read an error, or an answer of another kind.
fn as_the_sdk_reads_it(response: &HttpResponse, config: &ConfigBag) -> OutputOrError {
    let layer = ListObjectsV2::new().config();
    let layer = layer.expect("the SDK's operation has a configuration");
    let theirs = layer.load::<SharedResponseDeserializer>();
    let theirs = theirs.expect("the SDK reads the answers to its operation");
    theirs.deserialize_nonstreaming_with_config(response, config)
}

/// The needed fields of an object, as they are in the answer.
#[derive(Default)]
struct ObjectDraft<'x> {
    key: Option<Cow<'x, str>>,
    size_bytes: u64,
    etag: String,
    modified: Option<Timestamp>,
    storage: Option<Storage>,
}

/// The needed fields of an answer.
#[derive(Default)]
struct ListingAnswer<'x> {
    objects: Vec<ObjectDraft<'x>>,
    token: Option<String>,
    is_truncated: bool,
    is_encoded: bool,
}

/// Parses an answer; `None` if it is of another kind, such as an error.
fn read(xml: &[u8]) -> Result<Option<Result<Page, String>>, ReadError> {
    match plain::read(xml) {
        Some(answer) => Ok(Some(answer.page())),
        None => read_any(xml),
    }
}

/// The results of the reader of plain answers and the reader of all XML.
pub(super) fn read_by_both(xml: &[u8]) -> (Option<String>, String) {
    let plain = plain::read(xml).map(|answer| format!("{:?}", Some(answer.page())));
    let any = match read_any(xml) {
        Ok(read) => format!("{read:?}"),
        Err(error) => error.to_string(),
    };
    (plain, any)
}

/// Parses an answer in any XML.
fn read_any(xml: &[u8]) -> Result<Option<Result<Page, String>>, ReadError> {
    let mut reader = Reader::from_reader(xml);
    // An empty element is read like an element with an empty text.
    reader.config_mut().expand_empty_elements = true;
    let mut answer = ListingAnswer::default();
    let (mut depth, mut text) = (0_u32, String::new());
    let mut object: Option<ObjectDraft<'_>> = None;
    loop {
        match reader.read_event()? {
            Event::Start(tag) => {
                depth += 1;
                text.clear();
                match (depth, tag.local_name().as_ref()) {
                    (1, name) if name != ROOT.as_bytes() => return Ok(None),
                    (2, b"Contents") => object = Some(ObjectDraft::default()),
                    _ => {}
                }
            }
            Event::Text(part) => text.push_str(&part.xml10_content()?),
            Event::CData(part) => text.push_str(&part.xml10_content()?),
            Event::GeneralRef(reference) => text.push(character(&reference)?),
            Event::End(tag) => {
                let name = tag.local_name();
                match (depth, &mut object) {
                    (2, object) => match object.take() {
                        Some(object) => answer.objects.push(object),
                        None => answer.set(name.as_ref(), &text)?,
                    },
                    (3, Some(object)) => {
                        let text = std::mem::take(&mut text);
                        object.set(name.as_ref(), text.into())?;
                    }
                    _ => {}
                }
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(answer.page()));
                }
            }
            Event::Eof => return Err(ReadError::Torn),
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => {}
        }
    }
}

/// An instant, in S3's spelling or any other of RFC 3339.
fn instant(text: &str) -> Result<Timestamp, ReadError> {
    match plain_instant(text.as_bytes()) {
        Some(instant) => Ok(instant),
        None => parsed("LastModified", text),
    }
}

/// `2026-11-23T05:12:09.000Z`, which is S3's only spelling, without its fraction.
fn plain_instant(text: &[u8]) -> Option<Timestamp> {
    let (date, time) = text.split_first_chunk::<11>()?;
    let [c1, c2, y1, y2, b'-', m1, m2, b'-', d1, d2, b'T'] = date else {
        return None;
    };
    let [h1, h2, b':', n1, n2, b':', s1, s2, b'.', f1, f2, f3, b'Z'] = time else {
        return None;
    };
    let digit = |byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(digit as i8)
    };
    let two = |tens, ones| Some(digit(tens)? * 10 + digit(ones)?);
    [f1, f2, f3]
        .into_iter()
        .try_for_each(|f| digit(f).map(drop))?;
    let year = i16::from(two(c1, c2)?) * 100 + i16::from(two(y1, y2)?);
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    let time = DateTime::new(year, month, day, hour, minute, second, 0);
    // Before 1970, a fraction would be rounded in the other direction.
    let time = time.ok().filter(|_| year >= 1970)?;
    Offset::UTC.to_timestamp(time).ok()
}

fn parsed<T: FromStr>(field: &'static str, text: &str) -> Result<T, ReadError> {
    text.parse().map_err(|_| ReadError::Field {
        field,
        text: printable(text, MAX_SHOWN_VALUE_BYTES).into_owned(),
    })
}

fn character(reference: &BytesRef<'_>) -> Result<char, ReadError> {
    if let Some(character) = reference.resolve_char_ref()? {
        return Ok(character);
    }
    let name = reference.decode()?;
    match &*name {
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        _ => Err(ReadError::Reference(
            printable(&name, MAX_SHOWN_VALUE_BYTES).into_owned(),
        )),
    }
}

impl ListingAnswer<'_> {
    fn set(&mut self, name: &[u8], text: &str) -> Result<(), ReadError> {
        match name {
            b"NextContinuationToken" => self.token = Some(text.to_owned()),
            b"IsTruncated" => self.is_truncated = parsed("IsTruncated", text)?,
            b"EncodingType" => self.is_encoded = text == "url",
            _ => {}
        }
        Ok(())
    }

    fn page(self) -> Result<Page, String> {
        let token = self.token.filter(|token| !token.is_empty());
        if self.is_truncated && token.is_none() {
            return Err(MORE_NOWHERE.to_owned());
        }
        let objects = self.objects.into_iter();
        let objects: Result<_, _> = objects.map(|object| object.meta(self.is_encoded)).collect();
        Ok(Page {
            objects: objects?,
            continuation_token: token.filter(|_| self.is_truncated),
        })
    }
}

impl<'x> ObjectDraft<'x> {
    fn set(&mut self, name: &[u8], text: Cow<'x, str>) -> Result<(), ReadError> {
        match name {
            b"Key" => self.key = Some(text),
            b"Size" => self.size_bytes = parsed("Size", &text)?,
            b"ETag" => self.etag = plain_etag(Some(&text)),
            b"LastModified" => self.modified = Some(instant(&text)?),
            b"StorageClass" => self.storage = Some(storage(Some(&text))),
            _ => {}
        }
        Ok(())
    }

    fn meta(self, is_encoded: bool) -> Result<ObjectMeta, String> {
        // To the second, which is the precision of HEAD.
        check_length("listing", "ETag", &self.etag, MAX_ETAG_BYTES)?;
        let second = self.modified.map(Timestamp::as_second).unwrap_or_default();
        Ok(ObjectMeta {
            key: listed_key(self.key.as_deref(), is_encoded)?,
            size_bytes: self.size_bytes,
            etag: self.etag,
            version: None,
            modified: Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH),
            storage: self.storage.unwrap_or(Storage::Ready),
            stored: None,
        })
    }
}

#[cfg(test)]
mod tests;
