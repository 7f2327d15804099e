//! What works on after a revocation, and until when, by this machine's audit log.

use std::collections::{BTreeSet, HashSet};

use handout::audit::find::LinkQuery;
use handout::links::portal::OF_PORTAL;
use handout::text::counted;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::read_log::ReadLog;

/// The links that still open something.
#[derive(Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(super) struct Residue {
    /// Signed links that visitors of the portal got.
    pub(super) signed: StillOpen,
    /// Links of the same job, recipient or object that S3 or CloudFront answers itself.
    pub(super) others: StillOpen,
    /// Links to ZIP files and renditions of jobs with a revoked object, which may have its bytes.
    pub(super) copies: StillOpen,
    /// Those jobs, at most [`MAX_JOBS`].
    pub(super) jobs: BTreeSet<String>,
    /// How many lines the audit log has of the target, also of links that have ended.
    #[serde(skip)]
    pub(super) lines: u64,
}

/// What lines of changes have: they show no link.
const CHANGES: [&str; 2] = [r#""ev":"revoked""#, r#""ev":"restored""#];

/// How many jobs are named.
const MAX_JOBS: usize = 20;

/// Some links, and when the last of them ends.
#[derive(Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(super) struct StillOpen {
    pub(super) links: u64,
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
    /// The name of `expires_at` in earlier versions.
    #[schemars(with = "Option<String>")]
    until: Option<Timestamp>,
}

impl StillOpen {
    fn add(&mut self, links: u64, until: Timestamp) {
        self.links += links;
        self.until = self.until.max(Some(until));
        self.expires_at = self.until;
    }
}

#[derive(Deserialize)]
struct FoundLine {
    ev: String,
    #[serde(default)]
    job: String,
    expires_at: Option<Timestamp>,
    access_key_id: Option<String>,
    signed: Option<u64>,
}

impl Residue {
    /// What works on at `now` after a revocation of the links of a query.
    pub(super) fn of(query: &LinkQuery, log: &ReadLog, now: Timestamp) -> anyhow::Result<Self> {
        let mut residue = Self::default();
        let mut jobs = HashSet::new();
        log.each_line(query, |line| {
            let is_change = CHANGES.iter().any(|event| line.contains(event));
            residue.lines += u64::from(!is_change);
            residue.add(line, now);
            if query.object.is_some()
                && let Ok(line) = serde_json::from_str::<FoundLine>(line)
                && !line.job.is_empty()
            {
                jobs.insert(line.job);
            }
        })?;
        if !jobs.is_empty() {
            // The lines of pages, ZIP files and renditions name no object.
            log.each_line(&LinkQuery::default(), |line| {
                residue.add_copy(line, &jobs, now);
            })?;
        }
        Ok(residue)
    }

    /// Adds a line without an object, of a job that has a revoked one.
    fn add_copy(&mut self, line: &str, jobs: &HashSet<String>, now: Timestamp) {
        const EVENTS: [&str; 3] = [r#""ev":"zip""#, r#""ev":"renditions""#, r#""ev":"view""#];
        if !EVENTS.iter().any(|event| line.contains(event)) {
            return;
        }
        let Ok(line) = serde_json::from_str::<FoundLine>(line) else {
            return;
        };
        // The portal closes the ZIP files of a revoked object itself.
        let is_of_portal = line.access_key_id.as_deref() == Some(OF_PORTAL);
        let until = line.expires_at.filter(|until| *until > now);
        let Some(until) = until.filter(|_| jobs.contains(&line.job)) else {
            return;
        };
        match (line.ev.as_str(), line.signed) {
            ("view", Some(signed)) if signed > 0 => self.signed.add(signed, until),
            ("zip" | "renditions", _) if !is_of_portal => {
                self.copies.add(1, until);
                if self.jobs.len() < MAX_JOBS {
                    self.jobs.insert(line.job);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, line: &str, now: Timestamp) {
        let Ok(line) = serde_json::from_str::<FoundLine>(line) else {
            return;
        };
        let Some(until) = line.expires_at.filter(|until| *until > now) else {
            return;
        };
        match line.ev.as_str() {
            "opened" | "probe" => self.signed.add(1, until),
            "view" => match line.signed {
                Some(signed) if signed > 0 => self.signed.add(signed, until),
                _ => {}
            },
            "issue" | "gallery" | "manifest" | "zip"
                if line.access_key_id.as_deref() != Some("portal") =>
            {
                self.others.add(1, until);
            }
            _ => {}
        }
    }

    /// For people.
    pub(super) fn sentences(&self) -> Vec<String> {
        let count = |links: u64| counted(links, "link");
        let mut lines = Vec::new();
        if let Some(until) = self.signed.until {
            let signed = count(self.signed.links);
            lines.push(format!(
                "{signed} that visitors got before work until {until} at the latest, by the audit log of this machine"
            ));
        }
        if let Some(until) = self.copies.until {
            let jobs: Vec<&str> = self.jobs.iter().map(String::as_str).collect();
            lines.push(format!(
                "{} to ZIP files and renditions of jobs with this object may have its bytes, and work until {until} at the latest: revoke the job ({})",
                count(self.copies.links),
                jobs.join(", ")
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_before_and_has_not_ended_works_on() {
        let mut residue = Residue::default();
        let now = "2026-11-29T12:00:00Z".parse().unwrap();
        for line in [
            r#"{"ev":"opened","expires_at":"2026-11-29T12:15:00Z"}"#,
            r#"{"ev":"opened","expires_at":"2026-11-29T11:59:59Z"}"#,
            r#"{"ev":"view","expires_at":"2026-11-29T13:00:00Z","signed":7}"#,
            r#"{"ev":"view","expires_at":"2026-11-29T14:00:00Z","signed":0}"#,
            r#"{"ev":"issue","expires_at":"2027-11-29T12:00:00Z","access_key_id":"portal"}"#,
            r#"{"ev":"issue","expires_at":"2026-12-01T12:00:00Z","access_key_id":"AKIA"}"#,
            r#"{"ev":"outcome"}"#,
            "?",
        ] {
            residue.add(line, now);
        }
        insta::assert_snapshot!(residue.sentences().join("\n"), @"8 links that visitors got before work until 2026-11-29T13:00:00Z at the latest, by the audit log of this machine");
        assert_eq!(residue.others.links, 1);
    }
}
