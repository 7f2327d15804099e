//! Which links were revoked, and when, by the lines of `handout revoke`.

use std::collections::HashMap;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::facts::OpenedLinkFacts;
use crate::access::identity::LinkKey;
use crate::audit::find::find_text;
use crate::audit::source::LogSource;
use crate::job::JobId;

/// What a revocation is about.
#[derive(Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
struct RevokedTarget {
    what: String,
    job: Option<String>,
    rid: Option<String>,
    bucket: Option<String>,
    key: Option<String>,
    link_id: Option<String>,
    /// The version that has the tag, if links are pinned to it.
    version: Option<String>,
    /// `tag`: all links to the object are revoked, also those that the line does not name.
    means: Option<String>,
}

#[derive(Deserialize)]
struct RevokedLine {
    ev: String,
    ts: Timestamp,
    by: String,
    reason: Option<String>,
    #[serde(flatten)]
    target: RevokedTarget,
}

/// A revocation that an audit log has, and that was not taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedRevocation {
    /// When its line was written.
    pub at: Timestamp,
    /// What it is about: `job`, `recipient`, `object` or `link`.
    pub what: String,
    /// How it was done: `tag`, or by the ledger, which the portal alone asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// Who asked for it.
    pub by: String,
    /// The reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The revocations that were not taken back.
#[derive(Debug, Default)]
pub(super) struct StandingRevocations(HashMap<RevokedTarget, RecordedRevocation>);

impl StandingRevocations {
    /// Reads all lines of revocations, which are few.
    pub(super) fn read(places: &[LogSource]) -> io::Result<Self> {
        let mut lines: Vec<RevokedLine> = Vec::new();
        for place in places {
            find_text(place, ",\"by\":", |line| {
                lines.extend(serde_json::from_str(line));
                Ok(())
            })?;
        }
        Ok(Self::of_lines(lines))
    }

    /// Each command has a stream of its own, and streams are read in the order of their names: the instants of the lines decide.
    fn of_lines(mut lines: Vec<RevokedLine>) -> Self {
        lines.sort_by_key(|line| line.ts);
        let mut all = Self::default();
        lines.into_iter().for_each(|line| all.add(line));
        all
    }

    fn add(&mut self, line: RevokedLine) {
        let target = line.target.without_facts();
        if line.ev == "revoked" {
            let recorded = RecordedRevocation {
                at: line.ts,
                what: target.what.clone(),
                means: target.means.clone(),
                by: line.by,
                reason: line.reason,
            };
            self.0.entry(target).or_insert(recorded);
        } else if line.ev == "restored" {
            self.0.remove(&target);
        }
    }

    /// When a link was revoked first.
    pub(super) fn of(&self, id: u64, link: &OpenedLinkFacts) -> Option<Timestamp> {
        let of_link = self.all_of(id, link).into_iter();
        of_link.map(|recorded| recorded.at).min()
    }

    /// All revocations of a link, the first one first.
    pub(super) fn all_of(&self, id: u64, link: &OpenedLinkFacts) -> Vec<&RecordedRevocation> {
        let all = self.0.iter();
        let of_link = all.filter(|(target, _)| target.covers(id, link));
        let mut found: Vec<_> = of_link.map(|(_, recorded)| recorded).collect();
        found.sort_by_key(|recorded| recorded.at);
        found
    }
}

impl RevokedTarget {
    /// The target as lines of earlier versions have it: of one link they have its id, and of what the link is for nothing, so that a
    /// revocation of then is the one that is taken back now.
    fn without_facts(mut self) -> Self {
        if self.what == "link" {
            (self.job, self.rid) = (None, None);
            if self.means.is_none() {
                (self.bucket, self.key) = (None, None);
            }
        }
        self
    }

    fn covers(&self, id: u64, link: &OpenedLinkFacts) -> bool {
        let is = |wanted: Option<&str>, found: &str| wanted == Some(found);
        let job = self.job.as_deref();
        if self.means.is_some() || self.what == "object" {
            // A link that is pinned to no version opens the current one, which may be any.
            let versions = (self.version.as_deref(), link.version.as_deref());
            let is_version = match versions {
                (Some(tagged), Some(opened)) => tagged == opened,
                _ => true,
            };
            return is_version
                && is(self.bucket.as_deref(), &link.bucket)
                && is(self.key.as_deref(), &link.key);
        }
        match self.what.as_str() {
            "job" => job.is_some_and(|job| is_of_job(job, &link.job)),
            "recipient" => {
                is(self.rid.as_deref(), &link.rid)
                    && job.is_none_or(|job| is_of_job(job, &link.job))
            }
            "link" => self
                .link_id
                .as_deref()
                .is_some_and(|link_id| LinkKey::of_link(link_id).0 == id),
            _ => false,
        }
    }
}

/// Whether a link of the job `found` is one of `job`: of the job itself, or of a part of it.
fn is_of_job(job: &str, found: &str) -> bool {
    let whole = || found.parse::<JobId>().ok().and_then(|found| found.whole());
    job == found || whole().is_some_and(|whole| whole.as_str() == job)
}

#[cfg(test)]
mod tests {
    use super::super::facts::MailNumber;
    use super::*;

    fn parsed(line: &str) -> RevokedLine {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn lines_of_several_streams_count_in_the_order_of_their_instants() {
        let line = |ev: &str, second: u32| {
            parsed(&format!(
                r#"{{"ev":"{ev}","ts":"2026-11-29T12:00:{second:02}.000Z","what":"job","job":"daily","by":"ann"}}"#
            ))
        };
        let standing = |lines: Vec<RevokedLine>| StandingRevocations::of_lines(lines).0.len();
        let (first, back, again) = (
            || line("revoked", 1),
            || line("restored", 2),
            || line("revoked", 3),
        );
        assert_eq!(standing(vec![again(), first(), back()]), 1);
        assert_eq!(standing(vec![back(), first()]), 0);
    }

    #[test]
    fn a_link_is_revoked_with_its_job_its_recipient_its_object_or_alone_until_that_is_taken_back() {
        let id = |digit: char| digit.to_string().repeat(32);
        let link = OpenedLinkFacts {
            mail: MailNumber(0),
            job: "daily".into(),
            rid: "r1".into(),
            to: None,
            bucket: "b".into(),
            key: "a.pdf".into(),
            size: None,
            version: Some("v1".into()),
        };
        let own = LinkKey::of_link(&id('1')).0;
        let line = |ev: &str, fields: &str| {
            format!(r#"{{"v":2,"ev":"{ev}","ts":"2026-11-29T12:00:00.000Z",{fields},"by":"ann"}}"#)
        };
        for (fields, is_revoked) in [
            (r#""what":"job","job":"daily""#.to_owned(), true),
            (r#""what":"job","job":"weekly""#.to_owned(), false),
            (r#""what":"job","job":"dail""#.to_owned(), false),
            (r#""what":"recipient","rid":"r1""#.to_owned(), true),
            (
                r#""what":"recipient","rid":"r1","job":"weekly""#.to_owned(),
                false,
            ),
            (
                r#""what":"object","bucket":"b","key":"a.pdf""#.to_owned(),
                true,
            ),
            (
                r#""what":"object","bucket":"b","key":"b.pdf""#.to_owned(),
                false,
            ),
            (format!(r#""what":"link","link_id":"{}""#, id('1')), true),
            (format!(r#""what":"link","link_id":"{}""#, id('2')), false),
            (
                format!(
                    r#""what":"link","bucket":"b","key":"a.pdf","link_id":"{}","means":"tag""#,
                    id('2')
                ),
                true,
            ),
            (
                r#""what":"job","job":"daily","bucket":"b","key":"b.pdf","means":"tag""#.to_owned(),
                false,
            ),
            (
                r#""what":"job","job":"weekly","bucket":"b","key":"a.pdf","version":"v1","means":"tag""#
                    .to_owned(),
                true,
            ),
            (
                r#""what":"job","job":"daily","bucket":"b","key":"a.pdf","version":"v2","means":"tag""#
                    .to_owned(),
                false,
            ),
            (r#""what":"sessions","rid":"r1""#.to_owned(), false),
        ] {
            let mut all = StandingRevocations::default();
            all.add(parsed(&line("revoked", &fields)));
            assert_eq!(all.of(own, &link).is_some(), is_revoked, "{fields}");
            all.add(parsed(&line("restored", &fields)));
            assert_eq!(all.of(own, &link), None, "{fields}");
        }
    }

    #[test]
    fn a_line_with_what_the_link_is_for_is_of_the_same_revocation_as_one_without() {
        let id = "1".repeat(32);
        let link = OpenedLinkFacts {
            mail: MailNumber(0),
            job: "daily".into(),
            rid: "r1".into(),
            to: None,
            bucket: "b".into(),
            key: "a.pdf".into(),
            size: None,
            version: None,
        };
        let own = LinkKey::of_link(&id).0;
        let earlier = format!(r#""what":"link","link_id":"{id}""#);
        let now = format!(
            r#""what":"link","job":"daily","rid":"r1","bucket":"b","key":"a.pdf","link_id":"{id}""#
        );
        let line = |ev: &str, fields: &str| {
            format!(
                r#"{{"ev":"{ev}","ts":"2026-11-29T12:00:00.000Z",{fields},"by":"ann","reason":"leaked"}}"#
            )
        };
        for (revoked, restored) in [(&earlier, &now), (&now, &earlier)] {
            let mut all = StandingRevocations::default();
            all.add(parsed(&line("revoked", revoked)));
            let found = all.all_of(own, &link);
            assert_eq!(found.len(), 1);
            assert_eq!(
                (found[0].by.as_str(), found[0].reason.as_deref()),
                ("ann", Some("leaked"))
            );
            all.add(parsed(&line("restored", restored)));
            assert_eq!(all.of(own, &link), None, "{restored}");
        }
    }
}
