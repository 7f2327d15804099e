//! CloudTrail's data events, as evidence of what access logs lost.
//!
//! An event names no link: it has the object, the instant and the ids of the request. S3's access log has the same ids, so that an event
//! shows whether the log has its request. Nothing else is taken from it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/cloudtrail-logging-understanding-s3-entries.html>

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::book::{AccessBook, BookError, slot_of};
use super::identity::{TrailRequest, mix, request_hash};
use super::parse::of_iso;

/// How a file of CloudTrail begins, without spaces.
const BEGIN: &[u8] = b"{\"Records\":";

/// The name of the list of events.
const RECORDS: &str = "Records";

/// The fields of an event that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TrailEvent {
    event_time: String,
    event_name: String,
    #[serde(rename = "requestID")]
    request_id: String,
    request_parameters: Option<TrailParameters>,
    additional_event_data: Option<TrailMore>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TrailParameters {
    bucket_name: String,
    key: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TrailMore {
    #[serde(rename = "AuthenticationMethod")]
    authentication_method: String,
    #[serde(rename = "x-amz-id-2")]
    host_id: String,
}

impl TrailEvent {
    /// The request, if it is a GET by a presigned URL.
    fn request(&self) -> Option<TrailRequest> {
        let place = self.request_parameters.as_ref()?;
        let more = self.additional_event_data.as_ref()?;
        if self.event_name != "GetObject" || more.authentication_method != "QueryString" {
            return None;
        }
        Some(TrailRequest {
            at: of_iso(&self.event_time)?,
            id: request_hash(&self.request_id, &more.host_id)?,
            place: place_of(&place.bucket_name, &place.key),
        })
    }
}

/// An object in 64 bits.
fn place_of(bucket: &str, key: &str) -> u64 {
    mix(mix(0, bucket.as_bytes()), key.as_bytes())
}

/// Whether a file that begins so is one of CloudTrail: a single object with a list of events.
pub(super) fn is_trail(beginning: &[u8]) -> bool {
    let mut letters = beginning
        .iter()
        .filter(|letter| !letter.is_ascii_whitespace());
    BEGIN.iter().all(|letter| letters.next() == Some(letter))
}

/// Reads a file event by event, and calls `found` with what each says.
pub(super) fn read(
    source: impl Read,
    mut found: impl FnMut(Option<TrailRequest>),
) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_reader(BufReader::new(source));
    reader.deserialize_map(TrailFile(&mut found))
}

struct TrailFile<'a, F>(&'a mut F);

impl<'de, F: FnMut(Option<TrailRequest>)> Visitor<'de> for TrailFile<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with the list Records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                RECORDS => map.next_value_seed(TrailEvents(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct TrailEvents<'a, F>(&'a mut F);

impl<'de, F: FnMut(Option<TrailRequest>)> DeserializeSeed<'de> for TrailEvents<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Option<TrailRequest>)> Visitor<'de> for TrailEvents<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(event) = events.next_element::<TrailEvent>()? {
            (self.0)(event.request());
        }
        Ok(())
    }
}

/// How many requests by presigned URLs for some objects CloudTrail has, and how many of them the access logs have.
pub(super) fn compared<'a>(
    book: &AccessBook,
    objects: impl Iterator<Item = (&'a str, &'a str)>,
    (since, until): (Option<i64>, Option<i64>),
) -> Result<(u64, u64), BookError> {
    let places: HashSet<u64> = objects.map(|(bucket, key)| place_of(bucket, key)).collect();
    let (mut all, mut logged) = (0, 0);
    let mut slots: HashMap<i64, HashSet<u64>> = HashMap::new();
    book.trail(since, until, |request| {
        if !places.contains(&request.place) {
            return Ok(());
        }
        all += 1;
        let slot = slot_of(request.at);
        // Events come in the order of their slots.
        slots.retain(|known, _| *known >= slot - 1);
        // Both instants are the store's, and can be in slots side by side.
        let mut is_logged = false;
        for slot in slot - 1..=slot + 1 {
            let ids = match slots.entry(slot) {
                std::collections::hash_map::Entry::Occupied(ids) => ids.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(book.seen(slot)?.into_iter().collect())
                }
            };
            is_logged |= ids.contains(&request.id);
        }
        logged += u64::from(is_logged);
        Ok(())
    })?;
    Ok((all, logged))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read_all(text: &str) -> (Vec<Option<TrailRequest>>, bool) {
        let mut found = Vec::new();
        let is_whole = read(text.as_bytes(), |request| found.push(request)).is_ok();
        (found, is_whole)
    }

    #[test]
    fn a_file_is_told_by_its_beginning() {
        for (beginning, expected) in [
            ("{\"Records\":[", true),
            ("{\n  \"Records\" : [", true),
            ("{\"date\": \"2026-11-23\"", false),
            ("{\"Rec", false),
            ("", false),
        ] {
            assert_eq!(is_trail(beginning.as_bytes()), expected, "{beginning}");
        }
    }

    #[test]
    fn events_of_presigned_urls_are_requests_and_others_are_not() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/access/cloudtrail.json");
        let text = std::fs::read_to_string(path).unwrap();
        let (found, is_whole) = read_all(&text);
        assert!(is_whole);
        let expected = TrailRequest {
            at: 1_795_428_007,
            id: request_hash(
                "3E57427F3EXAMPLE",
                "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234=",
            )
            .unwrap(),
            place: place_of("acme-reports", "2026/q3.pdf"),
        };
        assert_eq!(found, [Some(expected), None]);
        let (found, is_whole) = read_all(&text[..text.len() - 9]);
        assert_eq!((found.len(), is_whole), (1, false), "a file that was cut");
    }

    #[test]
    fn an_event_without_its_object_or_its_ids_says_nothing() {
        for event in [
            "{}",
            r#"{"eventName":"GetObject","requestParameters":null,"additionalEventData":null}"#,
            r#"{"eventName":"GetObject","eventTime":"2026-11-23T10:00:07Z","requestParameters":{"bucketName":"b","key":"k"},"additionalEventData":{"AuthenticationMethod":"QueryString"}}"#,
            r#"{"eventName":"GetObject","eventTime":"noon","requestID":"A","requestParameters":{"bucketName":"b","key":"k"},"additionalEventData":{"AuthenticationMethod":"QueryString","x-amz-id-2":"H"}}"#,
        ] {
            let (found, is_whole) = read_all(&format!("{{\"Records\":[{event}],\"more\":[1]}}"));
            assert_eq!((found, is_whole), (vec![None], true), "{event}");
        }
        for bad in ["[]", "{\"Records\":{}}", "{\"Records\":[1]}", "{"] {
            assert!(!read_all(bad).1, "{bad}");
        }
    }
}
