//! The report of a job, as in its `done` record and its result.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit::record::Pseudonyms;
use crate::job::list::BadRow;
use crate::job::{Job, Recipient};
use crate::ledger::status::last_done;
use crate::ledger::{Outcome, Record};

/// How many places and recipients a result names; more of them are only counted.
pub(crate) const MAX_REPORTED: usize = 100;

/// The report of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct JobReport {
    /// Whether the whole job had been done before.
    #[serde(skip_deserializing)]
    pub done_before: bool,
    /// How often the job had been reopened: the number of its `done`.
    #[serde(skip)]
    pub reopenings: u32,
    /// Whether the job was skipped, because a later event of the same key had been served.
    pub superseded: bool,
    /// How many links were made at the last attempt.
    pub links: u64,
    /// How many objects could not be linked.
    pub unavailable: u64,
    /// How many of them do not exist.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// How many pictures should have got renditions at the last attempt and have none: their pages show the pictures themselves.
    #[serde(skip_serializing_if = "is_zero")]
    pub pictures_without_renditions: u64,
    /// Until when the links of the last attempt work.
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// Mails that the relay accepted.
    pub accepted: u64,
    /// Mails that the relay rejected.
    pub rejected: u64,
    /// Mails with an unknown outcome, which are not sent again.
    pub unknown: u64,
    /// Recipients to whom nothing was sent, since they are suppressed.
    #[serde(skip_serializing_if = "is_zero")]
    pub suppressed: u64,
    /// Recipients without a mail that was accepted; at most a hundred.
    pub without_mail: Vec<WithoutMail>,
    /// How many files the shortest of the last attempt's mails shows, if mails lead to fewer than all files
    /// (`email.overflow = "summarize"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<u64>,
    /// Where pages are; at most a hundred.
    pub galleries: Vec<String>,
    /// Where lists are; at most a hundred.
    pub manifests: Vec<String>,
    /// Where ZIPs are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zips: Vec<String>,
    /// What the recipients of a job in parts came to, of which each has a part of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<PartsReport>,
}

/// How many recipients a report of a job in parts names for each reason; more of them are only counted.
pub(crate) const MAX_NAMED_PARTS: usize = 20;

/// The recipients of a job in parts, besides those in the counts of mails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct PartsReport {
    /// How many recipients the job has.
    pub recipients: u64,
    /// How many have no files, and so got no mail (`from.when_empty = "skip"`).
    pub empty: u64,
    /// The ids of the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_files: Vec<String>,
    /// How many have a part that was rejected: a rule does not allow it, or there are no files (`from.when_empty = "refuse"`).
    pub refused: u64,
    /// The first of them, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<RefusedPart>,
    /// How many rows of the list repeat the address of an earlier row.
    pub repeated: u64,
    /// How many rows of the list are no recipients.
    pub bad_rows: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<BadRow>,
}

/// A recipient whose part of a job was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RefusedPart {
    /// The recipient's id.
    pub rid: String,
    /// Where the job names the recipient, as in [`WithoutMail`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The address, where `audit.recipients` is `"clear"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    pub reason: String,
}

impl PartsReport {
    /// Counts a recipient without files.
    pub(crate) fn count_empty(&mut self, rid: &str) {
        self.empty += 1;
        push_bounded(&mut self.without_files, [rid.to_owned()], MAX_NAMED_PARTS);
    }

    /// Counts a recipient whose part was rejected.
    pub(crate) fn refuse(&mut self, rid: &str, reason: String) {
        self.refused += 1;
        let refused = RefusedPart {
            rid: rid.to_owned(),
            recipient: None,
            to: None,
            reason,
        };
        push_bounded(&mut self.reasons, [refused], MAX_NAMED_PARTS);
    }

    fn add(&mut self, other: Self) {
        self.recipients += other.recipients;
        self.empty += other.empty;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.bad_rows += other.bad_rows;
        push_bounded(
            &mut self.without_files,
            other.without_files,
            MAX_NAMED_PARTS,
        );
        push_bounded(&mut self.reasons, other.reasons, MAX_NAMED_PARTS);
        push_bounded(&mut self.rows, other.rows, MAX_NAMED_PARTS);
    }
}

/// Adds as many as there is room for.
fn push_bounded<T>(all: &mut Vec<T>, more: impl IntoIterator<Item = T>, most: usize) {
    let room = most.saturating_sub(all.len());
    all.extend(more.into_iter().take(room));
}

/// A recipient without a mail that was accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WithoutMail {
    /// The recipient's id, as in the audit log and the ledger.
    pub rid: String,
    /// Where the job names the recipient, such as `email.to[3]`: counted from 0, without repeated addresses. None of a recipient of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The address, where `audit.recipients` is `"clear"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The outcome of the mail, with the relay's text.
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl JobReport {
    /// How many recipients have no accepted mail, although they should have one.
    pub fn failed(&self) -> u64 {
        let refused = self.parts.as_ref().map_or(0, |parts| parts.refused);
        self.rejected + self.unknown + refused
    }

    /// Adds the report of a part of the job, or of several parts.
    pub(crate) fn add(&mut self, other: Self) {
        self.links += other.links;
        self.unavailable += other.unavailable;
        self.missing += other.missing;
        self.pictures_without_renditions += other.pictures_without_renditions;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.suppressed += other.suppressed;
        // The earliest end: all links work until then.
        self.expires_at = self.expires_at.into_iter().chain(other.expires_at).min();
        self.shown = self.shown.into_iter().chain(other.shown).min();
        push_bounded(&mut self.without_mail, other.without_mail, MAX_REPORTED);
        push_bounded(&mut self.galleries, other.galleries, MAX_REPORTED);
        push_bounded(&mut self.manifests, other.manifests, MAX_REPORTED);
        push_bounded(&mut self.zips, other.zips, MAX_REPORTED);
        if let Some(parts) = other.parts {
            self.parts.get_or_insert_default().add(parts);
        }
    }

    /// The recipients without a mail, and the outcome of their mails: addresses, or ids where the job does not name the recipient,
    /// who is of a list.
    pub fn in_clear(
        &self,
        job: &Job,
        rid: impl Fn(&Recipient) -> String,
    ) -> Vec<(String, Outcome)> {
        let people = job.email.iter().flat_map(|email| email.recipients());
        let by_rid: HashMap<String, String> = people
            .map(|reader| (rid(reader), reader.address.to_string()))
            .collect();
        let told = self.without_mail.iter().map(|without| {
            let known = by_rid.get(&without.rid).unwrap_or(&without.rid);
            (known.clone(), without.outcome.clone())
        });
        told.collect()
    }

    /// The same report for the author of the job, with the places at which the job names recipients without a mail. The author has their
    /// addresses; the report, which is passed on, has them only where the audit log has them.
    #[must_use]
    pub fn with_places(&self, job: &Job, names: &Pseudonyms) -> Self {
        let mut report = self.clone();
        let refused = report
            .parts
            .iter_mut()
            .flat_map(|parts| &mut parts.reasons)
            .map(|part| (&part.rid, &mut part.recipient, &mut part.to));
        let mailed = report.without_mail.iter_mut();
        let mailed = mailed.map(|without| (&without.rid, &mut without.recipient, &mut without.to));
        let mut all = mailed.chain(refused).peekable();
        // Most jobs reach all: no id is computed for them.
        if all.peek().is_none() {
            drop(all);
            return report;
        }
        let email = job.email.iter();
        let placed = email.flat_map(|email| {
            let to = (0_u32..)
                .zip(&email.to)
                .map(|(at, person)| ("to", at, person));
            let cc = (0_u32..)
                .zip(&email.cc)
                .map(|(at, person)| ("cc", at, person));
            to.chain(cc)
        });
        let by_rid: HashMap<String, (&str, u32, &Recipient)> = placed
            .map(|place| (names.recipient_id(&place.2.canonical_address()), place))
            .collect();
        for (rid, recipient, to) in all {
            if let Some((field, at, person)) = by_rid.get(rid) {
                *recipient = Some(format!("email.{field}[{at}]"));
                *to = names.in_clear(Some(person));
            }
        }
        report
    }

    /// There was nothing left to do: the report of the `done` record.
    pub(crate) fn before(records: &[Record]) -> Self {
        let done = last_done(records);
        let told = done.and_then(|done| serde_json::from_value(done.body.clone()).ok());
        Self {
            done_before: true,
            reopenings: done.map_or(0, |done| done.n),
            ..told.unwrap_or_default()
        }
    }

    pub(crate) fn count(&mut self, outcome: &Outcome, rid: impl FnOnce() -> String) {
        match outcome {
            Outcome::Accepted { .. } => {
                self.accepted += 1;
                return;
            }
            Outcome::Rejected { .. } => self.rejected += 1,
            Outcome::Unknown { .. } => self.unknown += 1,
            Outcome::Suppressed { .. } => self.suppressed += 1,
            // Not final: such a result is an error, and the job comes back.
            Outcome::NotSent { .. } => return,
        }
        if self.without_mail.len() < MAX_REPORTED {
            self.without_mail.push(WithoutMail {
                rid: rid(),
                recipient: None,
                to: None,
                outcome: outcome.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;

    #[test]
    fn recipients_without_a_mail_are_named_by_their_places_and_in_clear_if_the_log_has_them_so() {
        let job = r#"{ "v": 1, "id": "daily", "from": { "connection": "c", "bucket": "b-1", "prefix": "" },
            "email": { "to": ["ann@acme.example", "Ann@acme.example", "bo@acme.example"], "cc": ["cy@acme.example"] } }"#;
        let job = Job::parse(job).unwrap();
        let keyring = Keyring::new([7; 32]);
        for clear in [false, true] {
            let names = Pseudonyms::new(&keyring, clear);
            let mut report = JobReport::default();
            assert_eq!(report.with_places(&job, &names), report);
            let outcome = Outcome::Suppressed {
                words: String::new(),
            };
            for address in ["bo@acme.example", "eve@acme.example"] {
                report.count(&outcome, || names.recipient_id(address));
            }
            let parts = report.parts.get_or_insert_default();
            parts.refuse(&names.recipient_id("cy@acme.example"), "no".to_owned());
            let told = serde_json::to_value(report.with_places(&job, &names)).unwrap();
            let (bo, eve) = (&told["without_mail"][0], &told["without_mail"][1]);
            let cy = &told["parts"]["reasons"][0];
            assert_eq!(
                (&bo["recipient"], &cy["recipient"]),
                (&"email.to[1]".into(), &"email.cc[0]".into()),
                "{told}"
            );
            assert_eq!(bo["to"] == "bo@acme.example", clear, "{told}");
            assert_eq!(cy["to"] == "cy@acme.example", clear, "{told}");
            assert!(clear || !told.to_string().contains('@'), "{told}");
            let unknown = eve["recipient"].is_null() && eve["to"].is_null();
            assert!(unknown, "a recipient of a list: {told}");
        }
    }
}
