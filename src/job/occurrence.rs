//! Which of two events for one key is the later: S3 delivers them in any order.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::JobId;
use crate::keyring::sha256_hex;

/// The most digits of a sequencer; S3's have 18 so far.
const MAX_DIGITS: usize = 64;

/// An event's place among those of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Under which name the ledger keeps what was served of this key by this rule.
    pub series: JobId,
    /// The later event has the greater one.
    pub sequencer: Sequencer,
    /// When it happened, as the event says.
    pub at: Timestamp,
}

/// What S3 counts the events of a key with.
///
/// Hexadecimal digits, of which shorter ones are filled up with zeros at the right.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequencer(String);

impl Sequencer {
    /// Reads one; `None` for what is no number, as some servers send it, and says nothing of the order.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = (1..=MAX_DIGITS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| Self(format!("{:0<MAX_DIGITS$}", text.to_ascii_uppercase())))
    }

    /// As it is kept: texts in this form are in the order of the events.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Occurrence {
    /// The event with this sequencer, for a key of a bucket; the rule and the kind of event tell jobs apart. `None` if it does not say
    /// when it happened, or with which sequencer.
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

    /// What the ledger keeps of it once it is served, at `now`: an event that says that it happened later is not believed.
    pub fn to_body(&self, job: &JobId, now: Timestamp) -> Value {
        json!({ "job": job, "at": self.at.min(now) })
    }

    /// Whether it is older than the one that was served with that sequencer, by sequencer and time: the sequencer alone would let one forged message, with the
    /// greatest there is, keep back whatever happens to the key from then on.
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
