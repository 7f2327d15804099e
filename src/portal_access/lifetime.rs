//! How long the signed link of an open works.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use presign::disposition::passive_type;

use crate::job::MAX_S3_EXPIRES_IN;
use crate::plan::{Bound, CredentialsEnd, Lifetime};

/// The window to which the signing instant of files that a browser shows is rounded down: within it, a file has the same URL, so
/// that the browser's cache has it.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// How long links to pictures and other files that are shown work.
const SHOWN_FOR: Duration = Duration::from_secs(3600);

/// How far a signature is dated back, for a server whose clock is a little behind.
const BACK_DATED: SignedDuration = SignedDuration::from_secs(60);

/// The least that credentials must last for a link.
const LEAST_LEFT: SignedDuration = SignedDuration::from_secs(60);

/// How long signed links work, by the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedLifetimes {
    pub(super) signed_for: Duration,
    /// In bytes a second.
    pub(super) slowest: u64,
    pub(super) media_for: Duration,
}

/// The use of a signed link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkUse {
    /// The file is saved.
    Saved {
        /// Its size.
        size_bytes: u64,
    },
    /// A browser shows it at once.
    Shown,
    /// A browser asks for parts of it as long as it is shown: video, audio, a PDF.
    Played,
}

impl LinkUse {
    /// The use of a file of this name.
    pub(super) fn of(name: &str, size_bytes: u64, is_shown: bool) -> Self {
        match passive_type(name).filter(|_| is_shown) {
            Some(kind) if is_played(kind) => Self::Played,
            Some(_) => Self::Shown,
            None => Self::Saved { size_bytes },
        }
    }
}

/// Whether a page can show a file of this type as it is: a picture, a video, a sound.
pub(super) fn is_embedded(media_type: &str) -> bool {
    ["image/", "video/", "audio/"]
        .iter()
        .any(|kind| media_type.starts_with(kind))
}

fn is_played(media_type: &str) -> bool {
    media_type.starts_with("video/")
        || media_type.starts_with("audio/")
        || media_type.starts_with("application/pdf")
}

impl SignedLifetimes {
    fn length(&self, of: LinkUse) -> SignedDuration {
        let length = match of {
            LinkUse::Saved { size_bytes } => {
                let download = Duration::from_secs(size_bytes / self.slowest.max(1));
                self.signed_for.max(download)
            }
            LinkUse::Shown => self.signed_for.max(SHOWN_FOR),
            LinkUse::Played => self.signed_for.max(self.media_for),
        };
        let most = MAX_S3_EXPIRES_IN.as_duration() - Duration::from_secs(3600);
        SignedDuration::try_from(length.min(most))
            .unwrap_or(SHOWN_FOR.try_into().unwrap_or_default())
    }

    /// Until when credentials should last for a link that is signed at `now`.
    pub(super) fn needed_until(&self, of: LinkUse, now: Timestamp) -> Timestamp {
        now + self.length(of)
    }

    /// The lifetime of a link that is signed at `now` by the store's clock. `None` if the credentials end too soon.
    pub(super) fn lifetime(
        &self,
        of: LinkUse,
        end: CredentialsEnd,
        now: Timestamp,
    ) -> Option<Lifetime> {
        let signed_at = match of {
            LinkUse::Saved { .. } => floor(now, 1) - BACK_DATED,
            LinkUse::Shown | LinkUse::Played => floor(now, WINDOW.as_secs()),
        };
        let spare = match of {
            LinkUse::Saved { .. } => BACK_DATED,
            LinkUse::Shown | LinkUse::Played => WINDOW,
        };
        let asked = signed_at + self.length(of) + spare;
        let (expires_at, bound) = match end {
            CredentialsEnd::At(end) if floor(end, 1) < asked => (floor(end, 1), Bound::Credentials),
            CredentialsEnd::At(_) | CredentialsEnd::Never | CredentialsEnd::Unknown => {
                (asked, Bound::Asked)
            }
        };
        if bound == Bound::Credentials && expires_at.duration_since(now) < LEAST_LEFT {
            return None;
        }
        let signed_for = expires_at.duration_since(signed_at).as_secs();
        Some(Lifetime {
            signed_at,
            signed_for_secs: u64::try_from(signed_for).unwrap_or_default(),
            expires_at,
            bound,
            fresh_until: expires_at,
        })
    }
}

/// The instant rounded down to a multiple of so many seconds.
fn floor(instant: Timestamp, seconds: i64) -> Timestamp {
    let second = instant.as_second();
    Timestamp::from_second(second - second.rem_euclid(seconds)).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: SignedLifetimes = SignedLifetimes {
        signed_for: Duration::from_secs(900),
        slowest: 1_000_000,
        media_for: Duration::from_secs(6 * 3600),
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn minutes(of: LinkUse, now: Timestamp) -> i64 {
        let lifetime = LIFETIMES.lifetime(of, CredentialsEnd::Never, now).unwrap();
        lifetime.expires_at.duration_since(now).as_secs() / 60
    }

    #[test]
    fn a_link_lives_by_the_size_and_the_use_of_the_file() {
        let now = at("2026-11-29T12:14:59Z");
        for (name, size, is_shown, expected) in [
            ("a.csv", 10, false, 15),
            ("a.zip", 9_000_000_000, false, 150),
            ("a.zip", u64::MAX, false, 7 * 24 * 60 - 60),
            ("a.jpg", 10, true, 60),
            ("a.jpg", 10, false, 15),
            ("a.mp4", 10, true, 6 * 60),
            ("a.pdf", 10, true, 6 * 60),
            ("a.html", 10, true, 15),
        ] {
            let of = LinkUse::of(name, size, is_shown);
            assert_eq!(minutes(of, now), expected, "{name} {of:?}");
        }
    }

    #[test]
    fn what_is_shown_has_one_url_in_a_quarter_of_an_hour() {
        let lifetime = |now| {
            let never = CredentialsEnd::Never;
            LIFETIMES.lifetime(LinkUse::Shown, never, at(now)).unwrap()
        };
        let first = lifetime("2026-11-29T12:15:00Z");
        let last = lifetime("2026-11-29T12:29:59Z");
        assert_eq!(first, last);
        assert_ne!(first, lifetime("2026-11-29T12:30:00Z"));
        assert!(
            first.expires_at >= at("2026-11-29T13:29:59Z"),
            "an hour is left"
        );
    }

    #[test]
    fn a_link_never_outlives_its_credentials_and_needs_a_minute_of_them() {
        let now = at("2026-11-29T12:00:00Z");
        let of = LinkUse::Saved { size_bytes: 1 };
        let with = |end| LIFETIMES.lifetime(of, CredentialsEnd::At(at(end)), now);
        let soon = with("2026-11-29T12:05:00.7Z").unwrap();
        assert_eq!(soon.expires_at, at("2026-11-29T12:05:00Z"));
        assert_eq!(soon.bound, Bound::Credentials);
        assert_eq!(with("2026-11-29T12:00:59Z"), None);
        let late = with("2026-11-29T14:00:00Z").unwrap();
        assert_eq!(late.expires_at, at("2026-11-29T12:15:00Z"));
    }
}
