//! The order of events for the same key: S3 delivers them in any order.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::JobId;
use crate::keyring::sha256_hex;

/// The most digits of a sequencer; S3's have 18 so far.
const MAX_DIGITS: usize = 64;

/// An event's position in the order of events of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// The name of the ledger's record of the last event that this rule served for this key.
    pub series: JobId,
    /// The later event has the greater sequencer.
    pub sequencer: Sequencer,
    /// When it happened, as the event says.
    pub at: Timestamp,
}

/// The sequencer by which S3 orders the events of a key.
///
/// Hexadecimal digits; the shorter of two is padded with zeros at the right before they are compared.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequencer(String);

impl Sequencer {
    /// Parses a sequencer. `None` for a text that is not a number, as some servers send it: it defines no order.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = (1..=MAX_DIGITS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| Self(format!("{:0<MAX_DIGITS$}", text.to_ascii_uppercase())))
    }

    /// The stored form: texts in this form sort in the order of the events.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Occurrence {
    /// The event with this sequencer, for a key of a bucket; the rule and the kind of event tell jobs apart. `None` for an event
    /// without a time or a sequencer.
    pub(super) fn new(
        (rule, kind): (&str, &str),
        (bucket, key): (&str, &str),
        sequencer: &str,
        at: &str,
    ) -> Option<Self> {
        let (sequencer, at) = (Sequencer::parse(sequencer)?, at.parse().ok()?);
        let of = sha256_hex([rule, kind, bucket, key].join("\n").as_bytes());
        let series = format!("served-{}", &of[..32]).parse();
        Some(Self {
            series: series.expect("a hash makes an id"),
            sequencer,
            at,
        })
    }

    /// The ledger's record of a served event. Its time is at most `now`: an event that claims a later time is not believed.
    pub fn to_body(&self, job: &JobId, now: Timestamp) -> Value {
        json!({ "job": job, "at": self.at.min(now) })
    }

    /// Whether it is older than the served event with that sequencer. Its sequencer must be smaller and its time not later: by the
    /// sequencer alone, one forged message with the greatest sequencer would suppress all later events of the key.
    pub fn is_older_than(&self, served: &str, body: &Value) -> bool {
        let at: Option<Timestamp> = body["at"].as_str().and_then(|at| at.parse().ok());
        served > self.sequencer.as_str() && at.is_some_and(|at| at >= self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_event_has_the_greater_sequencer_however_long_it_is() {
        let order = |a: &str, b: &str| {
            let (a, b) = (Sequencer::parse(a).unwrap(), Sequencer::parse(b).unwrap());
            assert_eq!(a.cmp(&b), a.as_str().cmp(b.as_str()));
            a.cmp(&b)
        };
        use std::cmp::Ordering::{Equal, Greater, Less};
        assert_eq!(order("0055AED6DCD90281E5", "0055AED6DCD90281E6"), Less);
        assert_eq!(order("0055AED6DCD90281E5", "0055aed6dcd90281e5"), Equal);
        assert_eq!(order("0055", "005500"), Equal);
        assert_eq!(order("0056", "0055AED6DCD90281E5"), Greater);
        for text in ["", "x", "0x1", "-1", &"0".repeat(65)] {
            assert_eq!(Sequencer::parse(text), None, "{text:?}");
        }
    }
}
