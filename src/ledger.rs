//! What was already done: the records that make "once" true.
//!
//! All safety rests on records that are created and never changed. Whoever created the *intent* `i.<n>` of a
//! recipient has the right to attempt `n` of that mail, and nobody else ever has; the *outcome* `o.<n>` says what
//! became of it. An intent without an outcome, left behind by a process that died, is a *doubt*: the mail may or
//! may not have left. A doubt is recorded as `unknown`, counted, and decided by `on_doubt`.
//!
//! ```text
//! plan      which job this id belongs to: the hash of its body
//! i.<n>     INTENT   after the audit lines are durable, before the mail's last byte
//! o.<n>     OUTCOME  accepted | rejected | not_sent | unknown
//! v.<n>     VERDICT  resend_ok: attempt n may be followed by another, though it is unknown
//! done      every recipient has an end: the message may be deleted
//! ```

pub mod memory;
pub mod sqlite;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::database::DatabaseError;
use crate::job::JobId;

/// How many doubts about one recipient are answered with another attempt. Attempts that were not sent, for certain, do not
/// count: how often those are made is bounded by the queue's receipts.
pub const MAX_DOUBTS: usize = 5;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Which body the job's id belongs to.
    Plan,
    /// The right to an attempt.
    Intent,
    /// What became of an attempt.
    Outcome,
    /// A decision about an attempt that is unknown.
    Verdict,
    /// Every recipient has an end.
    Done,
}

impl Kind {
    /// The word under which a store keeps it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Intent => "i",
            Self::Outcome => "o",
            Self::Verdict => "v",
            Self::Done => "done",
        }
    }

    /// The kind that a store keeps under `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Plan,
            Self::Intent,
            Self::Outcome,
            Self::Verdict,
            Self::Done,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == word)
    }
}

/// A record: created once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The job.
    pub job: JobId,
    /// The recipient's id; empty for what belongs to the whole job.
    pub rid: String,
    /// The attempt at this recipient, from 0.
    pub n: u32,
    /// What it says.
    pub kind: Kind,
    /// Random, and different for every attempt to create a record: tells ours from another's.
    pub nonce: String,
    /// The particulars.
    pub body: Value,
}

impl Record {
    /// A record with a nonce of its own.
    pub fn new(job: &JobId, rid: &str, n: u32, kind: Kind, body: Value) -> Self {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
        Self {
            job: job.clone(),
            rid: rid.to_owned(),
            n,
            kind,
            nonce: crate::keyring::hex(&nonce),
            body,
        }
    }
}

/// Who created a record first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// We did, now.
    Ours,
    /// Somebody did before; this is what stands there.
    Theirs(Record),
}

/// Why the ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error("could not {action} the ledger")]
    Database {
        /// `write to` or `read`.
        action: &'static str,
        /// What it said.
        source: DatabaseError,
    },
    /// A record is there, but cannot be understood.
    #[error(
        "the ledger's record {kind}.{n} of the job {job} cannot be read: restore the database from a backup"
    )]
    Damaged {
        /// The job.
        job: String,
        /// The record's kind.
        kind: String,
        /// The record's attempt.
        n: u32,
    },
}

/// Keeps records. Every method returns after what it did is durable.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Creates a record unless one of its job, recipient, attempt and kind exists. Never changes one.
    async fn create(&self, record: Record) -> Result<Created, LedgerError>;

    /// All records of a job.
    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError>;

    /// The records of a job that belong to one recipient; to the whole job when `rid` is empty.
    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError>;

    /// The jobs that have records, the latest first, at most `limit`.
    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError>;
}

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The relay took it: 250 after the dot.
    Accepted {
        /// The relay's words, which often hold its id for the mail.
        words: String,
    },
    /// The relay will never take it: 5yz.
    Rejected {
        /// The reply code.
        code: u16,
        /// The relay's words.
        words: String,
    },
    /// It was not sent, for certain: 4yz after the dot, or no dot.
    NotSent {
        /// The reply code, if there was a reply.
        code: Option<u16>,
        /// The relay's words, or ours.
        words: String,
    },
    /// The dot was sent and no reply came, or the process died in between.
    Unknown {
        /// What is known about it.
        words: String,
    },
}

impl Outcome {
    /// The word for it in lines, tables and metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::NotSent { .. } => "not_sent",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The relay's reply code, if there is one.
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Accepted { .. } => Some(250),
            Self::Rejected { code, .. } => Some(*code),
            Self::NotSent { code, .. } => *code,
            Self::Unknown { .. } => None,
        }
    }
}

/// Where a recipient stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Attempt `n` may be made by whoever creates its intent.
    Free {
        /// The attempt.
        n: u32,
    },
    /// An attempt was begun and its end was never recorded.
    Busy {
        /// The attempt.
        n: u32,
    },
    /// There is an end, and nothing more will be sent.
    Terminal {
        /// The attempt that ended.
        n: u32,
        /// The end.
        outcome: Outcome,
    },
    /// Nobody knows of so many attempts whether they were sent that no other is made.
    Exhausted,
}

/// Works out where a recipient stands from the job's records; the `recip` of the model.
pub fn standing(records: &[Record], rid: &str) -> Result<Standing, LedgerError> {
    let of = |n: u32, kind: Kind| {
        records
            .iter()
            .find(|record| record.rid == rid && record.n == n && record.kind == kind)
    };
    let attempts = records
        .iter()
        .filter(|record| record.rid == rid && record.kind == Kind::Intent);
    let Some(n) = attempts.map(|intent| intent.n).max() else {
        return Ok(Standing::Free { n: 0 });
    };
    let Some(record) = of(n, Kind::Outcome) else {
        return Ok(Standing::Busy { n });
    };
    let outcome = outcome_of(record)?;
    Ok(match outcome {
        Outcome::NotSent { .. } => Standing::Free { n: n + 1 },
        Outcome::Unknown { .. } if of(n, Kind::Verdict).is_some() => {
            match records
                .iter()
                .filter(|record| record.rid == rid && record.kind == Kind::Verdict)
                .count()
            {
                doubts if doubts < MAX_DOUBTS => Standing::Free { n: n + 1 },
                _ => Standing::Exhausted,
            }
        }
        Outcome::Unknown { .. } | Outcome::Accepted { .. } | Outcome::Rejected { .. } => {
            Standing::Terminal { n, outcome }
        }
    })
}

fn outcome_of(record: &Record) -> Result<Outcome, LedgerError> {
    serde_json::from_value(record.body.clone()).map_err(|_| LedgerError::Damaged {
        job: record.job.to_string(),
        kind: record.kind.as_str().to_owned(),
        n: record.n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

    #[test]
    fn a_recipient_without_records_is_free() {
        assert_eq!(standing(&[], "ann").unwrap(), Standing::Free { n: 0 });
        let others = records(&[(0, Kind::Intent, Value::Null)]);
        assert_eq!(standing(&others, "bo").unwrap(), Standing::Free { n: 0 });
    }

    #[test]
    fn an_intent_without_an_outcome_is_never_free() {
        assert_eq!(
            standing(&records(&[(0, Kind::Intent, Value::Null)]), "ann").unwrap(),
            Standing::Busy { n: 0 }
        );
        let second = records(&[
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, not_sent()),
            (1, Kind::Intent, Value::Null),
        ]);
        assert_eq!(standing(&second, "ann").unwrap(), Standing::Busy { n: 1 });
    }

    #[test]
    fn what_was_not_sent_may_be_sent_again_and_what_is_unknown_only_after_a_verdict() {
        let again = records(&[
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, not_sent()),
        ]);
        assert_eq!(standing(&again, "ann").unwrap(), Standing::Free { n: 1 });
        let mut doubt = records(&[
            (0, Kind::Intent, Value::Null),
            (0, Kind::Outcome, unknown()),
        ]);
        assert!(matches!(
            standing(&doubt, "ann").unwrap(),
            Standing::Terminal {
                n: 0,
                outcome: Outcome::Unknown { .. }
            }
        ));
        doubt.extend(records(&[(0, Kind::Verdict, json!("resend_ok"))]));
        assert_eq!(standing(&doubt, "ann").unwrap(), Standing::Free { n: 1 });
    }

    #[test]
    fn doubts_run_out_and_what_was_not_sent_does_not() {
        let attempts = |outcome: fn() -> Value, count: u32| -> Vec<(u32, Kind, Value)> {
            let attempt = |n| {
                [
                    (n, Kind::Intent, Value::Null),
                    (n, Kind::Outcome, outcome()),
                    (n, Kind::Verdict, Value::Null),
                ]
            };
            (0..count).flat_map(attempt).collect()
        };
        assert_eq!(
            standing(&records(&attempts(unknown, 4)), "ann").unwrap(),
            Standing::Free { n: 4 }
        );
        assert_eq!(
            standing(&records(&attempts(unknown, 5)), "ann").unwrap(),
            Standing::Exhausted
        );
        let greylisted: Vec<_> = attempts(not_sent, 50)
            .into_iter()
            .filter(|(_, kind, _)| *kind != Kind::Verdict)
            .collect();
        assert_eq!(
            standing(&records(&greylisted), "ann").unwrap(),
            Standing::Free { n: 50 }
        );
    }
}
