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

/// What became of a request: each is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The whole object was sent.
    Whole,
    /// An answer 200 with fewer bytes, or of an object whose size the log does not have.
    Short,
    /// An answer 200 that the client left, with heads among the bytes that are counted, or one that it did not wait for.
    BrokenOff,
    /// A range was sent.
    Part,
    /// Headers alone were asked for.
    Head,
    /// The client has the file already.
    Unchanged,
    /// Refused since the link had ended.
    Late,
    /// Refused since the credentials that signed had ended.
    Died,
    /// Refused since the signature does not fit.
    Mangled,
    /// Refused for another reason.
    Denied,
    /// The object does not exist any more.
    Gone,
    /// Another failure.
    Failed,
}

/// What one request adds to the counts of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts {
    /// When, in seconds since 1970.
    pub at: i64,
    /// What became of it.
    pub outcome: RequestOutcome,
    /// What its URL suffered, if it was refused for that.
    pub mangling: Mangling,
    /// The bytes of the object that were sent.
    pub bytes: u64,
    /// The size of the object; 0 if the log does not have it.
    pub size: u64,
    /// The range that was sent, where the log names it.
    pub range: Option<(u64, u64)>,
}

impl RequestFacts {
    /// The facts of a request, by a link that ends at an instant.
    pub fn of(request: &LogRequest<'_>, mangling: Mangling, ends: Option<i64>) -> Self {
        let outcome = outcome_of(request, mangling, ends);
        let has_bytes = match request.status {
            0 => false,
            _ => matches!(
                outcome,
                RequestOutcome::Whole
                    | RequestOutcome::Short
                    | RequestOutcome::BrokenOff
                    | RequestOutcome::Part
            ),
        };
        Self {
            at: request.at,
            outcome,
            mangling: match outcome == RequestOutcome::Mangled {
                true => mangling,
                false => Mangling::default(),
            },
            bytes: if has_bytes { request.bytes } else { 0 },
            size: request.size.unwrap_or_default(),
            range: request.range.filter(|_| outcome == RequestOutcome::Part),
        }
    }
}

fn outcome_of(request: &LogRequest<'_>, mangling: Mangling, ends: Option<i64>) -> RequestOutcome {
    match (request.status, request.asked) {
        (304, _) => RequestOutcome::Unchanged,
        (200..300, Asked::Head) => RequestOutcome::Head,
        // What is counted has heads in it, and is less than the object.
        (200, _) if request.broke_off => RequestOutcome::BrokenOff,
        (200, _) => match request.size.is_some_and(|size| request.bytes >= size) {
            true => RequestOutcome::Whole,
            false => RequestOutcome::Short,
        },
        (206, _) => RequestOutcome::Part,
        // The client left before an answer began.
        (0, _) => RequestOutcome::BrokenOff,
        // A link is signed for GET. The signature never fits a HEAD request, which so shows that a program looked.
        (403, Asked::Head)
            if request.error == "SignatureDoesNotMatch" && mangling.words().is_none() =>
        {
            RequestOutcome::Head
        }
        (400..500, _) => refusal_of(request, mangling, ends),
        _ => RequestOutcome::Failed,
    }
}

fn refusal_of(request: &LogRequest<'_>, mangling: Mangling, ends: Option<i64>) -> RequestOutcome {
    let is_late = ends.is_some_and(|ends| request.at >= ends);
    match (request.status, &*request.error) {
        (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => RequestOutcome::Died,
        (_, "SignatureDoesNotMatch" | "AuthorizationQueryParametersError") => {
            RequestOutcome::Mangled
        }
        (404 | 410, _) => RequestOutcome::Gone,
        // S3 says AccessDenied for a link that has ended, too.
        (403, "AccessDenied" | "") if is_late => RequestOutcome::Late,
        (400 | 403, _) if mangling.words().is_some() => RequestOutcome::Mangled,
        (403, _) => RequestOutcome::Denied,
        _ => RequestOutcome::Failed,
    }
}

impl AccessCounts {
    /// The counts of one request.
    pub fn of(request: &LogRequest<'_>, mangling: Mangling, ends: Option<i64>) -> Self {
        let mut counts = Self::default();
        counts.add_request(&RequestFacts::of(request, mangling, ends));
        counts
    }

    /// Adds a request.
    pub fn add_request(&mut self, request: &RequestFacts) {
        self.add_times(request.at, request.at);
        self.size = self.size.max(request.size);
        self.bytes = self.bytes.saturating_add(request.bytes);
        self.mangling.0 |= request.mangling.0;
        let count = match request.outcome {
            RequestOutcome::Whole => {
                self.longest = self.longest.max(request.bytes);
                &mut self.whole
            }
            RequestOutcome::Short => {
                self.longest = self.longest.max(request.bytes);
                &mut self.short
            }
            RequestOutcome::BrokenOff => &mut self.short,
            RequestOutcome::Part => {
                if request.bytes <= PEEK_BYTES {
                    self.peeks = self.peeks.saturating_add(1);
                }
                if let Some(range) = request.range {
                    self.add_range(range);
                }
                &mut self.parts
            }
            RequestOutcome::Head => &mut self.heads,
            RequestOutcome::Unchanged => &mut self.unchanged,
            RequestOutcome::Late => &mut self.late,
            RequestOutcome::Died => &mut self.died,
            RequestOutcome::Mangled => &mut self.mangled,
            RequestOutcome::Denied => &mut self.denied,
            RequestOutcome::Gone => &mut self.gone,
            RequestOutcome::Failed => &mut self.failed,
        };
        *count = count.saturating_add(1);
        self.requests = self.requests.saturating_add(1);
    }

    /// Adds the instants of requests, before their number.
    fn add_times(&mut self, first: i64, last: i64) {
        match self.requests {
            0 => (self.first, self.last) = (first, last),
            _ => {
                self.first = self.first.min(first);
                self.last = self.last.max(last);
            }
        }
    }

    /// Adds the counts of other requests.
    pub fn add(&mut self, other: &Self) {
        self.add_times(other.first, other.last);
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
    pub(super) fn add_range(&mut self, (first, last): (u64, u64)) {
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
        self.whole > 0 || self.short > 0 || self.parts > 0 || self.heads > 0 || self.unchanged > 0
    }

    /// Whether it was refused.
    pub const fn was_refused(&self) -> bool {
        self.late > 0 || self.died > 0 || self.mangled > 0 || self.denied > 0 || self.gone > 0
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
