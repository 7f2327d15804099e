//! A recipient's status, computed from the records; pure, and the `recip` of the model.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Answer, Kind, LedgerError, Outcome, Record, Verdict};
use crate::feedback::FeedbackVerdict;

/// How many doubts about one recipient are resolved automatically with another attempt.
///
/// Attempts that were certainly not sent do not count: the queue's receive count bounds those.
pub const MAX_DOUBTS: usize = 5;

/// The status of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientStatus {
    /// Attempt `n` may be made by the process that creates its intent.
    Ready {
        /// The attempt.
        n: u32,
    },
    /// An attempt was begun and has no outcome.
    InFlight {
        /// The attempt.
        n: u32,
    },
    /// The outcome of attempt `n` is unknown and has no verdict. Nothing is sent until there is one.
    InDoubt {
        /// The attempt.
        n: u32,
        /// How many attempts at this recipient are unknown, this one included.
        doubts: usize,
    },
    /// The status is final, and nothing more will be sent.
    Final {
        /// The attempt that gave the final status.
        n: u32,
        /// The final outcome.
        outcome: Outcome,
    },
}

/// The records of a job, by recipient.
#[derive(Debug, Clone, Default)]
pub struct JobRecords {
    by_rid: HashMap<String, Vec<Record>>,
}

impl JobRecords {
    /// Groups a job's records.
    pub fn new(records: Vec<Record>) -> Self {
        let mut by_rid: HashMap<String, Vec<Record>> = HashMap::new();
        for record in records {
            by_rid.entry(record.rid.clone()).or_default().push(record);
        }
        Self { by_rid }
    }

    /// Groups a job's records, with those of the whole job as they were read before.
    ///
    /// A listing of many pages is no snapshot: its last page may have a `reopened` whose verdict was recorded behind its first page. With
    /// that reopening the job would count as done without its recipient. An earlier `reopened` is followed by all of its verdicts.
    pub fn after(of_job: &[Record], mut records: Vec<Record>) -> Self {
        records.retain(|record| !record.rid.is_empty());
        records.extend_from_slice(of_job);
        Self::new(records)
    }

    /// The records of one recipient; of the whole job for the empty id.
    pub fn of(&self, rid: &str) -> &[Record] {
        self.by_rid.get(rid).map_or(&[], Vec::as_slice)
    }

    /// The recipients that have records, in order.
    pub fn recipients(&self) -> Vec<&str> {
        let mut rids: Vec<&str> = self.by_rid.keys().map(String::as_str).collect();
        rids.retain(|rid| !rid.is_empty());
        rids.sort_unstable();
        rids
    }
}

/// The record of one kind about one attempt.
pub fn record_of(records: &[Record], n: u32, kind: Kind) -> Option<&Record> {
    records
        .iter()
        .find(|record| record.n == n && record.kind == kind)
}

/// Computes a recipient's status from its records.
pub fn status_of(records: &[Record]) -> Result<RecipientStatus, LedgerError> {
    let status = status_of_attempts(records)?;
    let RecipientStatus::Ready { n } = status else {
        return Ok(status);
    };
    let Some(suppressed) = record_of(records, n, Kind::Suppressed) else {
        return Ok(status);
    };
    let words = suppressed.body["words"].as_str().unwrap_or_default();
    let outcome = Outcome::Suppressed {
        words: words.to_owned(),
    };
    Ok(RecipientStatus::Final { n, outcome })
}

/// The status by the attempts that were made.
fn status_of_attempts(records: &[Record]) -> Result<RecipientStatus, LedgerError> {
    let attempts = records
        .iter()
        .filter(|record| record.kind == Kind::Intent)
        .map(|intent| intent.n);
    let Some(n) = attempts.max() else {
        return Ok(RecipientStatus::Ready { n: 0 });
    };
    let Some(outcome) = outcome_of(records, n)? else {
        return Ok(RecipientStatus::InFlight { n });
    };
    if let Outcome::NotSent { .. } = outcome {
        return Ok(RecipientStatus::Ready { n: n + 1 });
    }
    let verdict = record_of(records, n, Kind::Verdict);
    if let Outcome::Rejected { .. } = outcome
        && let Some(verdict) = verdict
        && understand(verdict)?.verdict == Answer::ResendOk
    {
        return Ok(RecipientStatus::Ready { n: n + 1 });
    }
    let Outcome::Unknown { .. } = outcome else {
        return Ok(RecipientStatus::Final { n, outcome });
    };
    let Some(verdict) = verdict else {
        let mut doubts = 0;
        for intent in records.iter().filter(|record| record.kind == Kind::Intent) {
            let outcome = outcome_of(records, intent.n)?;
            doubts += usize::from(matches!(outcome, Some(Outcome::Unknown { .. })));
        }
        return Ok(RecipientStatus::InDoubt { n, doubts });
    };
    let Verdict { verdict, by } = understand(verdict)?;
    Ok(match verdict {
        Answer::ResendOk => RecipientStatus::Ready { n: n + 1 },
        Answer::WasSent => RecipientStatus::Final {
            n,
            outcome: Outcome::Accepted {
                words: format!("it was sent, according to {by}"),
            },
        },
    })
}

/// Reads a verdict.
pub(super) fn understand(verdict: &Record) -> Result<Verdict, LedgerError> {
    serde_json::from_value(verdict.body.clone()).map_err(|_| verdict.damaged())
}

/// The outcome of an attempt. A late record of its owner stands above an outcome that another process wrote.
pub fn outcome_of(records: &[Record], n: u32) -> Result<Option<Outcome>, LedgerError> {
    let late = record_of(records, n, Kind::Late);
    let Some(record) = late.or_else(|| record_of(records, n, Kind::Outcome)) else {
        return Ok(None);
    };
    let outcome = serde_json::from_value(record.body.clone()).map_err(|_| record.damaged())?;
    Ok(Some(outcome))
}

/// Whether every recipient had a final status and no verdict came after it; from the records of the whole job.
pub fn is_done(records: &[Record]) -> bool {
    record_of(records, reopenings(records), Kind::Done).is_some()
}

/// The job's last `done` record, whatever the order of the records.
pub fn last_done(records: &[Record]) -> Option<&Record> {
    let done = records.iter().filter(|record| record.kind == Kind::Done);
    done.max_by_key(|record| record.n)
}

/// How often the job was reopened: the `n` of its present or next `done`.
pub fn reopenings(records: &[Record]) -> u32 {
    let reopened = records
        .iter()
        .filter(|record| record.kind == Kind::Reopened);
    reopened.map(|record| record.n).max().unwrap_or_default()
}

/// What a mail system reported of a mail, as a record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailReport {
    /// When it happened.
    pub at: Option<Timestamp>,
    /// Whether it is a bounce for good or a complaint, which no delivery takes back.
    pub is_firm: bool,
}

impl MailReport {
    /// The report of a record that a report made.
    pub fn of(record: &Record) -> Self {
        let at = record.body["at"].as_str();
        let verdict = serde_json::from_value::<FeedbackVerdict>(record.body["verdict"].clone());
        Self {
            at: at.and_then(|at| at.parse().ok()),
            is_firm: verdict.is_ok_and(FeedbackVerdict::suppresses),
        }
    }
}

/// What mail systems reported of an accepted mail: [`Kind::Bounced`] or [`Kind::Delivered`], if they did.
///
/// Reports arrive in any order, so their own instants decide. A bounce for good or a complaint stands above each delivery.
pub fn reported(records: &[Record]) -> Option<Kind> {
    let of_kind = |kind| {
        let reports = records.iter().filter(move |record| record.kind == kind);
        reports.map(MailReport::of)
    };
    let bounce = of_kind(Kind::Bounced).max_by_key(|bounce| (bounce.is_firm, bounce.at));
    let delivery = of_kind(Kind::Delivered).max_by_key(|delivery| delivery.at);
    match (bounce, delivery) {
        (None, None) => None,
        (Some(bounce), Some(delivery)) if bounce.is_firm || bounce.at > delivery.at => {
            Some(Kind::Bounced)
        }
        (Some(_), None) => Some(Kind::Bounced),
        (_, Some(_)) => Some(Kind::Delivered),
    }
}

/// What mail systems reported of the accepted mails of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportedMails {
    /// How many were delivered.
    pub delivered: u64,
    /// How many bounced, or their recipient complained.
    pub bounced: u64,
}

/// Counts what mail systems reported of the accepted mails of a job.
///
/// # Errors
/// A record cannot be read.
pub fn reported_mails(records: &JobRecords) -> Result<ReportedMails, LedgerError> {
    let mut mails = ReportedMails::default();
    for rid in records.recipients() {
        let of_recipient = records.of(rid);
        let status = status_of(of_recipient)?;
        let RecipientStatus::Final {
            outcome: Outcome::Accepted { .. },
            ..
        } = status
        else {
            continue;
        };
        match reported(of_recipient) {
            Some(Kind::Bounced) => mails.bounced += 1,
            Some(_) => mails.delivered += 1,
            None => {}
        }
    }
    Ok(mails)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::MAX_ATTEMPTS;
    use crate::job::JobId;
    use serde_json::{Value, json};

    fn records(kinds: &[(u32, Kind, Value)]) -> Vec<Record> {
        let job: JobId = "job".parse().unwrap();
        kinds
            .iter()
            .map(|(n, kind, body)| Record::new(&job, "ann", *n, *kind, body.clone()))
            .collect()
    }

    fn not_sent() -> Value {
        json!({ "outcome": "not_sent", "code": 451, "words": "later" })
    }

    fn unknown() -> Value {
        json!({ "outcome": "unknown", "words": "" })
    }

    fn accepted() -> Value {
        json!({ "outcome": "accepted", "words": "250" })
    }

    fn verdict(answer: Answer) -> Value {
        Verdict::new(answer, "operator").to_body()
    }

    #[test]
    fn a_reopening_that_was_recorded_while_the_records_were_read_is_not_seen() {
        let job: JobId = "job".parse().unwrap();
        let of_job = |n, kind| Record::new(&job, "", n, kind, json!({}));
        let before = [of_job(0, Kind::Plan), of_job(0, Kind::Done)];
        // The last page of a listing, whose first page lacks the verdict about Ann.
        let mut listed = records(&[(0, Kind::Intent, json!({})), (0, Kind::Outcome, unknown())]);
        listed.extend(before.clone());
        listed.push(of_job(1, Kind::Reopened));
        let job_records = JobRecords::after(&before, listed);
        assert_eq!(job_records.of(""), before);
        assert_eq!(reopenings(job_records.of("")), 0);
        assert_eq!(job_records.of("ann").len(), 2);
    }

    #[test]
    fn a_recipient_without_records_is_free() {
        assert_eq!(status_of(&[]).unwrap(), RecipientStatus::Ready { n: 0 });
        let job_records = JobRecords::new(records(&[(0, Kind::Intent, Value::Null)]));
        assert_eq!(
            status_of(job_records.of("bo")).unwrap(),
            RecipientStatus::Ready { n: 0 },
            "another's records are another's"
        );
        assert_eq!(job_records.recipients(), ["ann"]);
    }

    #[test]
    fn an_intent_without_an_outcome_is_never_free() {
        assert_eq!(
            status_of(&records(&[(0, Kind::Intent, Value::Null)])).unwrap(),
            RecipientStatus::InFlight { n: 0 }
        );
        let second = records(&[
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, not_sent()),
            (1, Kind::Intent, Value::Null),
        ]);
        assert_eq!(
            status_of(&second).unwrap(),
            RecipientStatus::InFlight { n: 1 }
        );
    }

    #[test]
    fn a_suppressed_recipient_is_final_unless_an_attempt_was_made() {
        let suppressed = (0, Kind::Suppressed, json!({ "words": "left" }));
        let outcome = Outcome::Suppressed {
            words: "left".to_owned(),
        };
        let all = vec![suppressed.clone()];
        assert_eq!(
            status_of(&records(&all)).unwrap(),
            RecipientStatus::Final { n: 0, outcome }
        );
        let all = [suppressed, (0, Kind::Intent, Value::Null)];
        assert_eq!(
            status_of(&records(&all)).unwrap(),
            RecipientStatus::InFlight { n: 0 },
            "the attempt of another worker counts"
        );
    }

    #[test]
    fn what_was_not_sent_may_be_sent_again_and_what_is_unknown_only_after_a_verdict() {
        let again = records(&[
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, not_sent()),
        ]);
        assert_eq!(status_of(&again).unwrap(), RecipientStatus::Ready { n: 1 });
        let doubt = [
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, unknown()),
        ];
        assert_eq!(
            status_of(&records(&doubt)).unwrap(),
            RecipientStatus::InDoubt { n: 0, doubts: 1 }
        );
        let answered = |answer| {
            let mut all = doubt.to_vec();
            all.push((0, Kind::Verdict, verdict(answer)));
            status_of(&records(&all)).unwrap()
        };
        assert_eq!(answered(Answer::ResendOk), RecipientStatus::Ready { n: 1 });
        assert!(matches!(
            answered(Answer::WasSent),
            RecipientStatus::Final {
                n: 0,
                outcome: Outcome::Accepted { .. }
            }
        ));
    }

    #[test]
    fn a_record_whose_attempt_has_none_after_it_is_not_read() {
        let mut record = records(&[(MAX_ATTEMPTS - 1, Kind::Intent, Value::Null)]).remove(0);
        let read = |record: &Record| -> Result<Record, _> {
            serde_json::from_value(serde_json::to_value(record).unwrap())
        };
        assert_eq!(read(&record).unwrap(), record);
        for n in [MAX_ATTEMPTS, u32::MAX] {
            record.n = n;
            assert!(read(&record).is_err(), "{n}");
        }
    }

    #[test]
    fn what_was_rejected_is_an_end_until_a_person_wants_another_attempt() {
        let rejected = json!({ "outcome": "rejected", "code": 550, "words": "no" });
        let mut all = vec![(0, Kind::Intent, Value::Null), (0, Kind::Outcome, rejected)];
        assert!(matches!(
            status_of(&records(&all)).unwrap(),
            RecipientStatus::Final { n: 0, .. }
        ));
        all.push((0, Kind::Verdict, verdict(Answer::ResendOk)));
        assert_eq!(
            status_of(&records(&all)).unwrap(),
            RecipientStatus::Ready { n: 1 }
        );
        all.push((0, Kind::Late, accepted()));
        assert!(
            matches!(
                status_of(&records(&all)).unwrap(),
                RecipientStatus::Final { n: 0, .. }
            ),
            "what was accepted is not sent again"
        );
    }

    #[test]
    fn what_the_owner_learnt_late_stands_above_what_another_wrote() {
        let late = |body| {
            let all = [
                (0, Kind::Intent, Value::Null),
                (0, Kind::Outcome, unknown()),
                (0, Kind::Verdict, verdict(Answer::ResendOk)),
                (0, Kind::Late, body),
            ];
            status_of(&records(&all)).unwrap()
        };
        assert!(
            matches!(late(accepted()), RecipientStatus::Final { n: 0, .. }),
            "no second mail, though one was allowed"
        );
        assert_eq!(late(not_sent()), RecipientStatus::Ready { n: 1 });
        assert_eq!(late(unknown()), RecipientStatus::Ready { n: 1 });
    }

    #[test]
    fn doubts_are_counted_and_what_was_not_sent_is_none() {
        let mut all = Vec::new();
        for n in 0..4 {
            let outcome = if n == 1 { not_sent() } else { unknown() };
            all.push((n, Kind::Intent, Value::Null));
            all.push((n, Kind::Outcome, outcome));
            if n < 3 {
                all.push((n, Kind::Verdict, verdict(Answer::ResendOk)));
            }
        }
        assert_eq!(
            status_of(&records(&all)).unwrap(),
            RecipientStatus::InDoubt { n: 3, doubts: 3 }
        );
    }

    #[test]
    fn a_job_that_was_reopened_is_done_at_its_next_done() {
        let mut all = vec![(0, Kind::Plan, Value::Null), (0, Kind::Done, Value::Null)];
        assert!(is_done(&records(&all)));
        all.push((1, Kind::Reopened, Value::Null));
        assert!(!is_done(&records(&all)));
        all.push((1, Kind::Done, Value::Null));
        assert!(is_done(&records(&all)));
        all.reverse();
        assert_eq!(last_done(&records(&all)).unwrap().n, 1, "in any order");
    }

    #[test]
    fn what_mail_systems_reported_is_in_the_order_of_their_own_instants() {
        let report = |n, kind, verdict: &str, minute: u32| {
            let at = format!("2026-11-23T06:{minute:02}:00Z");
            (n, kind, json!({ "verdict": verdict, "at": at }))
        };
        let (soft, hard) = (
            report(0, Kind::Bounced, "soft", 20),
            report(1, Kind::Bounced, "hard", 5),
        );
        let delivered = |minute| report(0, Kind::Delivered, "delivered", minute);
        for (reports, expected) in [
            (vec![], None),
            (vec![delivered(30)], Some(Kind::Delivered)),
            (vec![soft.clone()], Some(Kind::Bounced)),
            (vec![delivered(10), soft.clone()], Some(Kind::Bounced)),
            (vec![delivered(20), soft.clone()], Some(Kind::Delivered)),
            (vec![delivered(30), soft.clone()], Some(Kind::Delivered)),
            (vec![delivered(30), soft, hard], Some(Kind::Bounced)),
        ] {
            let mut all = records(&reports);
            assert_eq!(reported(&all), expected, "{reports:?}");
            all.reverse();
            assert_eq!(reported(&all), expected, "in any order: {reports:?}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_said_to_be_damaged() {
        let damaged = records(&[
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, json!({ "outcome": "perhaps" })),
        ]);
        assert!(
            status_of(&damaged)
                .unwrap_err()
                .to_string()
                .contains("o.0 of the job job")
        );
    }
}
