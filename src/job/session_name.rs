//! The name of a job's own session of a role.
//!
//! STS allows 2 to 64 of `[\w+=,.@-]`; a job's id may have other characters and more of them. An id that fits is the name. Every
//! other id gets a hash behind what fits of it, so that two jobs never share a session and a policy that names a session is about
//! one job. <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use sha2::{Digest, Sha256};

use super::JobId;

/// The longest name of a session, in bytes.
const MAX_NAME: usize = 64;

/// The shortest.
const MIN_NAME: usize = 2;

/// How many hexadecimal digits of the hash are in a name.
const HASH_DIGITS: usize = 16;

/// The name of the session that all jobs share.
pub const SHARED_SESSION: &str = "handout";

/// The name of the session of a job. A part of a job has that of the whole job: a policy revokes all of it, and a job of many
/// recipients takes one session.
pub fn session_name(id: &str) -> String {
    let part = id.parse::<JobId>().ok();
    if let Some(whole) = part.and_then(|part| part.whole()) {
        return session_name(whole.as_str());
    }
    let fits = (MIN_NAME..=MAX_NAME).contains(&id.len())
        && id.chars().all(is_allowed)
        && !ends_like_a_hash(id)
        && id != SHARED_SESSION;
    if fits {
        return id.to_owned();
    }
    let room = MAX_NAME - HASH_DIGITS - 1;
    let kept = id.chars().map(|c| if is_allowed(c) { c } else { '_' });
    let mut name: String = kept.take(room).collect();
    name.push('-');
    let digest = Sha256::digest(id);
    presign::hex::push_hex(&digest[..HASH_DIGITS / 2], &mut name);
    name
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | '-')
}

/// Whether an id looks like the name of another: that gets a hash too.
fn ends_like_a_hash(id: &str) -> bool {
    let end = id.rsplit_once('-').map_or("", |(_, end)| end);
    end.len() == HASH_DIGITS
        && end
            .bytes()
            .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_that_fits_is_the_name_and_others_get_a_hash() {
        assert_eq!(
            session_name("acme-daily-2026-11-23"),
            "acme-daily-2026-11-23"
        );
        insta::assert_snapshot!(session_name("acme/daily 23"), @"acme_daily_23-c94719a2ff002117");
        insta::assert_snapshot!(session_name("x"), @"x-2d711642b726b044");
        insta::assert_snapshot!(session_name(SHARED_SESSION), @"handout-757b9ab75f73e484");
    }

    #[test]
    fn the_parts_of_a_job_share_its_session() {
        for id in ["weekly", "a/b", "x"] {
            let job: JobId = id.parse().unwrap();
            let part = job.part(&"0f".repeat(16));
            assert_eq!(session_name(part.as_str()), session_name(id));
        }
    }

    #[test]
    fn two_jobs_never_share_a_name_that_sts_takes() {
        let changed = session_name("a/b");
        let long = "x".repeat(200);
        let longer = "x".repeat(201);
        let ids = [
            "a/b", "a b", "a_b", "a:b", "x", "é", "ab", &changed, &long, &longer,
        ];
        let names: HashSet<String> = ids.iter().map(|id| session_name(id)).collect();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        for name in names {
            assert!((MIN_NAME..=MAX_NAME).contains(&name.len()), "{name}");
            assert!(name.chars().all(is_allowed), "{name}");
        }
    }
}
