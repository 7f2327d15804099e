//! What arrived of a file: from certain to refused, by rules that say no more than the log does.

use serde::Serialize;

use super::row::AccessCounts;

/// What arrived, the best first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OpenVerdict {
    /// One answer had all bytes of the file, or the ranges that were sent cover it.
    Complete,
    /// The answers together had as many bytes as the file; S3 does not log which.
    ProbablyComplete,
    /// Fewer bytes than the file has, in ranges.
    Partly,
    /// One answer began with the whole file and ended before it.
    BrokenOff,
    /// A few bytes, the headers, or the word that nothing changed.
    LookedAt,
    /// The portal handed out a link, and no log has a request by it.
    HandedOut,
    /// Nothing but refusals.
    Refused,
    /// Nothing was asked for.
    NotOpened,
}

/// Why a link was refused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedBecause {
    /// The link had ended.
    Late,
    /// The credentials that signed it had ended.
    CredentialsDied,
    /// The signature does not fit: the URL was changed on its way.
    Mangled,
    /// A policy denies it, as a revocation does.
    Denied,
    /// The object does not exist any more.
    Gone,
}

impl OpenVerdict {
    /// The word of a report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ProbablyComplete => "probably complete",
            Self::Partly => "partly",
            Self::BrokenOff => "broken off",
            Self::LookedAt => "looked at",
            Self::HandedOut => "handed out",
            Self::Refused => "refused",
            Self::NotOpened => "not opened",
        }
    }

    /// The verdict on requests for a file. `size` is the file's size in the audit log, where it is known.
    pub fn of(counts: &AccessCounts, size: Option<u64>) -> Self {
        // The log knows the object that was sent; the audit log knows the one that was listed.
        let size = match counts.size {
            0 => size,
            logged => Some(logged),
        };
        if counts.whole > 0 {
            return Self::Complete;
        }
        if let Some(size) = size {
            if counts.short > 0 && counts.longest >= size && counts.longest > 0
                || counts.covered() >= size && size > 0
            {
                return Self::Complete;
            }
            if size == 0 && counts.short > 0 {
                return Self::Complete;
            }
            if counts.bytes >= size && counts.parts > 0 {
                return Self::ProbablyComplete;
            }
        }
        if counts.parts > counts.peeks || counts.parts > 0 && counts.short > 0 {
            return Self::Partly;
        }
        if counts.short > 0 {
            return Self::BrokenOff;
        }
        if counts.was_answered() {
            return Self::LookedAt;
        }
        match counts.was_refused() {
            true => Self::Refused,
            false => Self::NotOpened,
        }
    }
}

impl RefusedBecause {
    /// The words of a report.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Late => "the link had ended",
            Self::CredentialsDied => "the credentials that signed the link had ended",
            Self::Mangled => "the signature did not fit",
            Self::Denied => "a policy denied it",
            Self::Gone => "the file was not there any more",
        }
    }

    /// Why requests were refused: the reason of most of them.
    pub fn of(counts: &AccessCounts) -> Option<Self> {
        [
            (counts.late, Self::Late),
            (counts.died, Self::CredentialsDied),
            (counts.mangled, Self::Mangled),
            (counts.denied, Self::Denied),
            (counts.gone, Self::Gone),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .max_by_key(|(count, reason)| (*count, std::cmp::Reverse(*reason)))
        .map(|(_, reason)| reason)
    }
}

/// How much of a file arrived at most, in percent.
pub fn percent(counts: &AccessCounts, size: Option<u64>) -> Option<u64> {
    let size = if counts.size > 0 { counts.size } else { size? };
    let sent = match counts.ranges.is_empty() {
        true => counts.bytes,
        false => counts.covered().max(counts.longest),
    };
    (size > 0).then(|| sent.min(size).saturating_mul(100) / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_no_more_than_the_log() {
        let of = |counts: AccessCounts| OpenVerdict::of(&counts, Some(100_000));
        let base = AccessCounts {
            requests: 1,
            ..AccessCounts::default()
        };
        let counts = |change: &dyn Fn(&mut AccessCounts)| {
            let mut counts = base.clone();
            change(&mut counts);
            of(counts)
        };
        assert_eq!(counts(&|c| c.whole = 1), OpenVerdict::Complete);
        assert_eq!(
            counts(&|c| (c.parts, c.bytes) = (3, 100_000)),
            OpenVerdict::ProbablyComplete
        );
        assert_eq!(
            counts(&|c| (c.parts, c.bytes) = (3, 99_999)),
            OpenVerdict::Partly
        );
        assert_eq!(
            counts(&|c| (c.parts, c.bytes, c.ranges) = (2, 100_000, vec![(0, 99_999)])),
            OpenVerdict::Complete
        );
        assert_eq!(
            counts(&|c| (c.parts, c.bytes, c.ranges) = (2, 120_000, vec![(0, 50_000)])),
            OpenVerdict::ProbablyComplete
        );
        assert_eq!(
            counts(&|c| (c.short, c.bytes, c.longest) = (1, 700, 700)),
            OpenVerdict::BrokenOff
        );
        assert_eq!(
            counts(&|c| (c.parts, c.peeks, c.bytes) = (2, 2, 1_025)),
            OpenVerdict::LookedAt
        );
        assert_eq!(counts(&|c| c.heads = 1), OpenVerdict::LookedAt);
        assert_eq!(counts(&|c| c.unchanged = 1), OpenVerdict::LookedAt);
        assert_eq!(
            counts(&|c| (c.late, c.mangled) = (1, 2)),
            OpenVerdict::Refused
        );
        assert_eq!(counts(&|c| c.failed = 1), OpenVerdict::NotOpened);
        let refused = AccessCounts {
            late: 1,
            mangled: 2,
            ..base
        };
        assert_eq!(RefusedBecause::of(&refused), Some(RefusedBecause::Mangled));
        let empty = AccessCounts {
            short: 1,
            ..AccessCounts::default()
        };
        assert_eq!(OpenVerdict::of(&empty, Some(0)), OpenVerdict::Complete);
    }
}
