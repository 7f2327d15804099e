//! What is kept of requests: counts that can be added in any order, so that late files change nothing else.

use super::identity::Mangling;
use super::parse::{Asked, LogRequest};
use crate::bounds::MAX_LOGGED_RANGES;

/// A range of a few bytes, which looks at a file: a client that asks for its type or its size.
const PEEK_BYTES: u64 = 1024;

/// The requests of one client by one link within a few minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// The first request, in seconds since 1970.
    pub first: i64,
    /// The last request.
    pub last: i64,
    /// How many requests there were.
    pub requests: u64,
    /// Answers with the whole object: 200, and as many bytes as it has.
    pub whole: u64,
    /// Answers 200 with fewer bytes, or of an object whose size the log does not have.
    pub short: u64,
    /// The most bytes of one answer 200.
    pub longest: u64,
    /// Answers with a range.
    pub parts: u64,
    /// Those of them with at most 1,024 bytes.
    pub peeks: u64,
    /// The bytes of all answers 200 and 206.
    pub bytes: u64,
    /// The size of the object; 0 if no line has it.
    pub size: u64,
    /// HEAD requests.
    pub heads: u64,
    /// Answers 304: the client has the file already.
    pub unchanged: u64,
    /// Refused since the link had ended.
    pub late: u64,
    /// Refused since the credentials that signed had ended.
    pub died: u64,
    /// Refused since the signature does not fit.
    pub mangled: u64,
    /// Refused for another reason, such as a policy that revokes the link.
    pub denied: u64,
    /// The object does not exist any more.
    pub gone: u64,
    /// Other failures, after which clients try again.
    pub failed: u64,
    /// What URLs suffered on their way.
    pub mangling: Mangling,
    /// The ranges that were sent, where the log names them, in their order and apart.
    pub ranges: Vec<(u64, u64)>,
}

impl AccessCounts {
    /// The counts of one request.
    pub fn of(request: &LogRequest<'_>, mangling: Mangling, ends: Option<i64>) -> Self {
        let mut counts = Self {
            first: request.at,
            last: request.at,
            requests: 1,
            size: request.size.unwrap_or_default(),
            ..Self::default()
        };
        match (request.status, request.asked) {
            (304, _) => counts.unchanged = 1,
            (200..300, Asked::Head) => counts.heads = 1,
            (200, _) => {
                counts.bytes = request.bytes;
                counts.longest = request.bytes;
                let is_whole = request.size.is_some_and(|size| request.bytes >= size);
                match is_whole && !request.broke_off {
                    true => counts.whole = 1,
                    false => counts.short = 1,
                }
                if request.broke_off {
                    // What is counted has heads in it, and is less than the object.
                    counts.longest = 0;
                }
            }
            (206, _) => {
                counts.parts = 1;
                counts.bytes = request.bytes;
                counts.peeks = u64::from(request.bytes <= PEEK_BYTES);
                counts.ranges.extend(request.range);
            }
            // The client left before an answer began.
            (0, _) => counts.short = 1,
            // A link is signed for GET. The signature never fits a HEAD request, which so shows that a program looked.
            (403, Asked::Head)
                if request.error == "SignatureDoesNotMatch" && mangling.words().is_none() =>
            {
                counts.heads = 1;
            }
            (400..500, _) => counts.refuse(request, mangling, ends),
            _ => counts.failed = 1,
        }
        counts
    }

    fn refuse(&mut self, request: &LogRequest<'_>, mangling: Mangling, ends: Option<i64>) {
        let is_late = ends.is_some_and(|ends| request.at >= ends);
        match (request.status, &*request.error) {
            (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => self.died = 1,
            (_, "SignatureDoesNotMatch" | "AuthorizationQueryParametersError") => self.mangled = 1,
            (404 | 410, _) => self.gone = 1,
            // S3 says AccessDenied for a link that has ended, too.
            (403, "AccessDenied" | "") if is_late => self.late = 1,
            (400 | 403, _) if mangling.words().is_some() => self.mangled = 1,
            (403, _) => self.denied = 1,
            _ => self.failed = 1,
        }
        if self.mangled > 0 {
            self.mangling = mangling;
        }
    }

    /// Adds the counts of other requests.
    pub fn add(&mut self, other: &Self) {
        match self.requests {
            0 => (self.first, self.last) = (other.first, other.last),
            _ => {
                self.first = self.first.min(other.first);
                self.last = self.last.max(other.last);
            }
        }
        for (count, more) in [
            (&mut self.requests, other.requests),
            (&mut self.whole, other.whole),
            (&mut self.short, other.short),
            (&mut self.parts, other.parts),
            (&mut self.peeks, other.peeks),
            (&mut self.bytes, other.bytes),
            (&mut self.heads, other.heads),
            (&mut self.unchanged, other.unchanged),
            (&mut self.late, other.late),
            (&mut self.died, other.died),
            (&mut self.mangled, other.mangled),
            (&mut self.denied, other.denied),
            (&mut self.gone, other.gone),
            (&mut self.failed, other.failed),
        ] {
            *count = count.saturating_add(more);
        }
        self.longest = self.longest.max(other.longest);
        self.size = self.size.max(other.size);
        self.mangling.0 |= other.mangling.0;
        for range in &other.ranges {
            self.add_range(*range);
        }
    }

    /// Adds a range and joins those that touch. Beyond the bound it is left out: what is known then is less than what was sent.
    fn add_range(&mut self, (first, last): (u64, u64)) {
        let ranges = &mut self.ranges;
        let from = ranges.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = ranges.partition_point(|(start, _)| *start <= last.saturating_add(1));
        match from < to {
            true => {
                let joined = (ranges[from].0.min(first), ranges[to - 1].1.max(last));
                ranges.splice(from..to, [joined]);
            }
            false if ranges.len() < MAX_LOGGED_RANGES => ranges.insert(from, (first, last)),
            false => {}
        }
    }

    /// How many bytes of the object the ranges cover.
    pub fn covered(&self) -> u64 {
        let length = |(first, last): &(u64, u64)| last.saturating_sub(*first).saturating_add(1);
        self.ranges.iter().map(length).fold(0, u64::saturating_add)
    }

    /// Whether any byte, or the word that nothing changed, was sent.
    pub const fn was_answered(&self) -> bool {
        self.whole + self.short + self.parts + self.heads + self.unchanged > 0
    }

    /// Whether it was refused.
    pub const fn was_refused(&self) -> bool {
        self.late + self.died + self.mangled + self.denied + self.gone > 0
    }

    /// The ranges as bytes for a database.
    pub(super) fn packed_ranges(&self) -> Option<Vec<u8>> {
        let pack = |(first, last): &(u64, u64)| [first.to_le_bytes(), last.to_le_bytes()].concat();
        (!self.ranges.is_empty()).then(|| self.ranges.iter().flat_map(pack).collect())
    }

    /// Ranges from such bytes.
    pub(super) fn unpack_ranges(&mut self, packed: &[u8]) {
        for pair in packed.chunks_exact(16) {
            let number =
                |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
            self.add_range((number(&pair[..8]), number(&pair[8..])));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_cover_what_was_sent(ranges in proptest::collection::vec((0_u64..200, 0_u64..30), 0..40)) {
            let mut counts = AccessCounts::default();
            let mut sent = [false; 256];
            for (first, length) in ranges {
                counts.add_range((first, first + length));
                for at in first..=first + length {
                    sent[usize::try_from(at).unwrap()] = true;
                }
            }
            let expected = sent.iter().filter(|sent| **sent).count();
            prop_assert_eq!(counts.covered(), expected as u64);
            prop_assert!(counts.ranges.is_sorted());
            let mut unpacked = AccessCounts::default();
            unpacked.unpack_ranges(&counts.packed_ranges().unwrap_or_default());
            prop_assert_eq!(unpacked.ranges, counts.ranges);
        }
    }

    #[test]
    fn a_head_request_with_a_link_for_get_is_a_look_and_no_damage() {
        let asked = |asked, query: &str| {
            let request = LogRequest {
                status: 403,
                error: "SignatureDoesNotMatch".into(),
                asked,
                ..LogRequest::default()
            };
            let ids = super::super::identity::TargetIds::of_query(query);
            let counts = AccessCounts::of(&request, ids.mangling, ids.ends);
            (counts.heads, counts.mangled)
        };
        assert_eq!(asked(Asked::Head, "Expires=1"), (1, 0));
        assert_eq!(asked(Asked::Get, "Expires=1"), (0, 1));
        assert_eq!(asked(Asked::Head, "a=1&amp;b=2"), (0, 1));
    }

    #[test]
    fn a_refusal_says_why() {
        let refused = |error: &'static str, status, query: &str| {
            let request = LogRequest {
                status,
                error: error.into(),
                at: 2_000,
                asked: Asked::Get,
                ..LogRequest::default()
            };
            let ids = super::super::identity::TargetIds::of_query(query);
            let counts = AccessCounts::of(&request, ids.mangling, ids.ends);
            [
                counts.late,
                counts.died,
                counts.mangled,
                counts.denied,
                counts.gone,
            ]
        };
        assert_eq!(
            refused("AccessDenied", 403, "Expires=1999"),
            [1, 0, 0, 0, 0]
        );
        assert_eq!(
            refused("AccessDenied", 403, "Expires=2001"),
            [0, 0, 0, 1, 0]
        );
        assert_eq!(
            refused("ExpiredToken", 400, "Expires=1999"),
            [0, 1, 0, 0, 0]
        );
        assert_eq!(
            refused("SignatureDoesNotMatch", 403, "Expires=1999"),
            [0, 0, 1, 0, 0]
        );
        assert_eq!(refused("AccessDenied", 403, "a=1&amp;b=2"), [0, 0, 1, 0, 0]);
        assert_eq!(refused("NoSuchKey", 404, ""), [0, 0, 0, 0, 1]);
    }
}
