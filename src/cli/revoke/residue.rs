//! What works on after a revocation, and until when, by this machine's audit log.

use std::io;

use anyhow::Context;
use handout::audit::find::{LinkQuery, find};
use handout::config::Config;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The links that still open something.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Residue {
    /// Signed links that visitors of the portal got.
    pub(super) signed: StillOpen,
    /// Links of the same job, recipient or object that S3 or CloudFront answers itself.
    pub(super) others: StillOpen,
}

/// Some links, and when the last of them ends.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct StillOpen {
    links: u64,
    until: Option<Timestamp>,
}

impl StillOpen {
    fn add(&mut self, links: u64, until: Timestamp) {
        self.links += links;
        self.until = self.until.max(Some(until));
    }
}

#[derive(Deserialize)]
struct FoundLine {
    ev: String,
    expires_at: Option<Timestamp>,
    access_key_id: Option<String>,
    signed: Option<u64>,
}

/// Each line of this machine's audit log that a query finds; none before anything was recorded here.
pub(super) fn each_line(
    config: &Config,
    query: &LinkQuery,
    mut judge: impl FnMut(&str),
) -> anyhow::Result<()> {
    let place = config.audit_place();
    let found = find(&place, query, |line| {
        judge(line);
        Ok(())
    });
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => found
            .map(drop)
            .with_context(|| format!("could not read the audit log in {}", place.display())),
    }
}

impl Residue {
    /// What works on at `now` after a revocation of the links of a query.
    pub(super) fn of(query: &LinkQuery, config: &Config, now: Timestamp) -> anyhow::Result<Self> {
        let mut residue = Self::default();
        residue.add_found(query, config, now)?;
        Ok(residue)
    }

    fn add_found(
        &mut self,
        query: &LinkQuery,
        config: &Config,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        each_line(config, query, |line| self.add(line, now))
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
        let count = |links: u64| match links {
            1 => "1 link".to_owned(),
            links => format!("{links} links"),
        };
        let mut lines = Vec::new();
        if let Some(until) = self.signed.until {
            let signed = count(self.signed.links);
            lines.push(format!(
                "{signed} that visitors got before work until {until} at the latest, by the audit log of this machine"
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
