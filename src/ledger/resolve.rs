//! An operator's decision about a mail: the answer to a doubt, or another attempt after a rejection.

use jiff::Timestamp;
use serde_json::json;

use super::{
    Answer, Created, JobRecords, Kind, Ledger, LedgerError, Outcome, RecipientStatus, Record,
    Verdict,
};
use crate::job::JobId;
use crate::ledger::status::{is_done, record_of, reopenings, understand};
use crate::ledger::status_of;

/// The result of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// The answer is recorded.
    Recorded,
    /// There was no doubt to answer: this is the recipient's status.
    NoDoubt(RecipientStatus),
    /// The job or the recipient is unknown.
    Unknown,
}

/// Records an operator's answer to the doubt about one recipient of a job.
///
/// An answer that allows another mail reopens the job: its next delivery runs although the job was done, and delivers
/// to recipients without a final status. A job that is not done yet is reopened too, since a worker may be about to
/// record `done` without having read the answer. An answer whose process died before the reopening can be repeated.
pub async fn resolve(
    ledger: &dyn Ledger,
    job: &JobId,
    rid: &str,
    answer: Answer,
    by: &str,
    now: Timestamp,
) -> Result<Resolved, LedgerError> {
    let records = ledger.records_of(job, rid).await?;
    if records.is_empty() {
        return Ok(Resolved::Unknown);
    }
    let n = match status_of(&records)? {
        RecipientStatus::InDoubt { n, .. } => n,
        RecipientStatus::Ready { n } if answer == Answer::ResendOk && is_owed(&records, n)? => {
            if !is_reopened(&ledger.records_of(job, "").await?) {
                reopen(ledger, job, by, now).await?;
            }
            return Ok(Resolved::Recorded);
        }
        other => return Ok(Resolved::NoDoubt(other)),
    };
    let verdict = Record::new(
        job,
        rid,
        n,
        Kind::Verdict,
        Verdict::new(answer, by).to_body(),
    );
    if let Created::Theirs(_) = ledger.create(verdict).await? {
        let records = ledger.records_of(job, rid).await?;
        return Ok(Resolved::NoDoubt(status_of(&records)?));
    }
    if answer == Answer::ResendOk {
        reopen(ledger, job, by, now).await?;
    }
    Ok(Resolved::Recorded)
}

/// The result of a request for another attempt at the recipients that a job did not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    /// So many recipients get a mail with the job's next delivery.
    Asked(usize),
    /// Every recipient has the mail, or will get it anyway.
    NoneFailed,
    /// The job is unknown.
    Unknown,
}

/// Allows another attempt for every recipient whose mail was rejected or is in doubt, and reopens the job.
///
/// A recipient who was allowed an attempt before and has not had it is counted too, so the request can be repeated
/// after a crash before the job was on its way. A job that is open by a reopening already is not reopened once more.
pub async fn resend(
    ledger: &dyn Ledger,
    job: &JobId,
    by: &str,
    now: Timestamp,
) -> Result<Resent, LedgerError> {
    let job_records = JobRecords::new(ledger.records(job).await?);
    if job_records.of("").is_empty() {
        return Ok(Resent::Unknown);
    }
    let (mut asked, mut allowed_before) = (0, 0);
    for rid in job_records.recipients() {
        let n = match status_of(job_records.of(rid))? {
            RecipientStatus::InDoubt { n, .. }
            | RecipientStatus::Final {
                n,
                outcome: Outcome::Rejected { .. },
            } => n,
            RecipientStatus::Ready { n } => {
                allowed_before += usize::from(is_owed(job_records.of(rid), n)?);
                continue;
            }
            RecipientStatus::InFlight { .. } | RecipientStatus::Final { .. } => continue,
        };
        let verdict = Verdict::new(Answer::ResendOk, by).to_body();
        let verdict = Record::new(job, rid, n, Kind::Verdict, verdict);
        if ledger.create(verdict).await? == Created::Ours {
            asked += 1;
        }
    }
    if asked > 0 || (allowed_before > 0 && !is_reopened(job_records.of(""))) {
        reopen(ledger, job, by, now).await?;
    }
    Ok(match asked + allowed_before {
        0 => Resent::NoneFailed,
        all => Resent::Asked(all),
    })
}

/// Whether a job is open by a reopening.
fn is_reopened(of_job: &[Record]) -> bool {
    reopenings(of_job) > 0 && !is_done(of_job)
}

/// Whether attempt `n`, which was not made yet, is allowed by a verdict, or by an outcome that came late. The job may be done all the
/// same: its process died before the reopening.
fn is_owed(records: &[Record], n: u32) -> Result<bool, LedgerError> {
    let Some(before) = n.checked_sub(1) else {
        return Ok(false);
    };
    Ok(match record_of(records, before, Kind::Verdict) {
        Some(verdict) => understand(verdict)?.verdict == Answer::ResendOk,
        None => record_of(records, before, Kind::Late).is_some(),
    })
}

/// Reopens a job, and the job in parts of which it is one, since an attempt that was in doubt was certainly not sent: a worker that held
/// the doubt may have ended the job.
pub(crate) async fn reopen_after_late(
    ledger: &dyn Ledger,
    job: &JobId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    for job in [Some(job.clone()), job.whole()].into_iter().flatten() {
        reopen(ledger, &job, "late outcome", now).await?;
    }
    Ok(())
}

/// Records that a job may be run once more.
pub(crate) async fn reopen(
    ledger: &dyn Ledger,
    job: &JobId,
    by: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let next = reopenings(&ledger.records_of(job, "").await?) + 1;
    // A reopening that another worker has just recorded is as good.
    let reopened = json!({ "by": by, "at": now });
    let reopened = Record::new(job, "", next, Kind::Reopened, reopened);
    ledger.create(reopened).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::MemoryLedger;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    async fn doubt_of_a_done_job() -> (MemoryLedger, JobId) {
        let (ledger, job) = (MemoryLedger::default(), "job".parse().unwrap());
        let unknown = Outcome::Unknown {
            words: String::new(),
        };
        for (rid, kind, body) in [
            ("", Kind::Plan, json!({})),
            ("ann", Kind::Intent, json!({})),
            ("ann", Kind::Outcome, unknown.to_body()),
            ("", Kind::Done, json!({})),
        ] {
            let record = Record::new(&job, rid, 0, kind, body);
            ledger.create(record).await.unwrap();
        }
        (ledger, job)
    }

    async fn is_open(ledger: &MemoryLedger, job: &JobId) -> bool {
        !is_done(&ledger.records_of(job, "").await.unwrap())
    }

    #[tokio::test]
    async fn resend_reopens_the_job_and_sent_does_not() {
        let (ledger, job) = doubt_of_a_done_job().await;
        let sent = resolve(&ledger, &job, "ann", Answer::WasSent, "operator", NOW).await;
        assert_eq!(sent.unwrap(), Resolved::Recorded);
        assert!(!is_open(&ledger, &job).await);

        let (ledger, job) = doubt_of_a_done_job().await;
        let resend = resolve(&ledger, &job, "ann", Answer::ResendOk, "operator", NOW).await;
        assert_eq!(resend.unwrap(), Resolved::Recorded);
        assert!(is_open(&ledger, &job).await);
        let records = ledger.records_of(&job, "ann").await.unwrap();
        assert_eq!(
            status_of(&records).unwrap(),
            RecipientStatus::Ready { n: 1 }
        );
    }

    #[tokio::test]
    async fn the_first_answer_stands_and_what_is_no_doubt_is_said() {
        let (ledger, job) = doubt_of_a_done_job().await;
        for (answer, wanted) in [(Answer::WasSent, true), (Answer::ResendOk, false)] {
            let resolved = resolve(&ledger, &job, "ann", answer, "operator", NOW)
                .await
                .unwrap();
            assert_eq!(resolved == Resolved::Recorded, wanted);
        }
        assert!(!is_open(&ledger, &job).await);
        let stranger = resolve(&ledger, &job, "bo", Answer::WasSent, "operator", NOW).await;
        assert_eq!(stranger.unwrap(), Resolved::Unknown);
    }

    #[tokio::test]
    async fn recipients_who_were_refused_or_are_in_doubt_may_be_served_again_and_no_others() {
        let (ledger, job) = doubt_of_a_done_job().await;
        let rejected = Outcome::Rejected {
            code: 550,
            words: String::new(),
        };
        let accepted = Outcome::Accepted {
            words: String::new(),
        };
        for (rid, outcome) in [("bo", rejected), ("cy", accepted)] {
            for (kind, body) in [
                (Kind::Intent, json!({})),
                (Kind::Outcome, outcome.to_body()),
            ] {
                let record = Record::new(&job, rid, 0, kind, body);
                ledger.create(record).await.unwrap();
            }
        }
        let again = async || resend(&ledger, &job, "operator", NOW).await.unwrap();
        assert_eq!(again().await, Resent::Asked(2));
        assert!(is_open(&ledger, &job).await);
        assert_eq!(again().await, Resent::Asked(2), "they still wait for it");
        let job_records = JobRecords::new(ledger.records(&job).await.unwrap());
        assert_eq!(reopenings(job_records.of("")), 1, "it is open already");
        let free = |rid| status_of(job_records.of(rid)).unwrap() == RecipientStatus::Ready { n: 1 };
        assert_eq!((free("ann"), free("bo"), free("cy")), (true, true, false));
        let stranger = "other".parse().unwrap();
        let resent = resend(&ledger, &stranger, "operator", NOW).await;
        assert_eq!(resent.unwrap(), Resent::Unknown);
    }

    #[tokio::test]
    async fn a_process_that_died_before_the_reopening_asks_again() {
        let (ledger, job) = doubt_of_a_done_job().await;
        let verdict = Verdict::new(Answer::ResendOk, "operator").to_body();
        let verdict = Record::new(&job, "ann", 0, Kind::Verdict, verdict);
        ledger.create(verdict).await.unwrap();
        assert!(!is_open(&ledger, &job).await);
        let resent = resend(&ledger, &job, "operator", NOW).await.unwrap();
        assert_eq!(resent, Resent::Asked(1));
        assert!(is_open(&ledger, &job).await);
    }

    #[tokio::test]
    async fn an_answer_whose_process_died_before_the_reopening_can_be_repeated() {
        let (ledger, job) = doubt_of_a_done_job().await;
        let verdict = Verdict::new(Answer::ResendOk, "operator").to_body();
        let verdict = Record::new(&job, "ann", 0, Kind::Verdict, verdict);
        ledger.create(verdict).await.unwrap();
        let again = async |answer| {
            let resolved = resolve(&ledger, &job, "ann", answer, "operator", NOW);
            resolved.await.unwrap()
        };
        let waits = Resolved::NoDoubt(RecipientStatus::Ready { n: 1 });
        assert_eq!(again(Answer::WasSent).await, waits, "another answer");
        assert!(!is_open(&ledger, &job).await);
        assert_eq!(again(Answer::ResendOk).await, Resolved::Recorded);
        assert!(is_open(&ledger, &job).await);
        assert_eq!(again(Answer::ResendOk).await, Resolved::Recorded);
        let of_job = ledger.records_of(&job, "").await.unwrap();
        assert_eq!(reopenings(&of_job), 1, "it is open already");
    }

    #[tokio::test]
    async fn who_was_certainly_not_mailed_although_the_job_ended_with_a_doubt_can_be_mailed() {
        let (ledger, job) = doubt_of_a_done_job().await;
        let not_sent = Outcome::NotSent {
            code: Some(451),
            words: String::new(),
        };
        let late = Record::new(&job, "ann", 0, Kind::Late, not_sent.to_body());
        ledger.create(late).await.unwrap();
        let resent = resend(&ledger, &job, "operator", NOW).await.unwrap();
        assert_eq!(resent, Resent::Asked(1));
        assert!(is_open(&ledger, &job).await);

        let part = job.part(&"a".repeat(32));
        reopen_after_late(&ledger, &part, NOW).await.unwrap();
        for job in [&part, &job] {
            let of_job = ledger.records_of(job, "").await.unwrap();
            assert!(reopenings(&of_job) > 0, "{job}");
        }
    }

    #[tokio::test]
    async fn what_was_not_sent_goes_by_itself_and_is_not_asked_for() {
        let (ledger, job) = (MemoryLedger::default(), "job".parse().unwrap());
        let not_sent = Outcome::NotSent {
            code: Some(451),
            words: String::new(),
        };
        for (rid, kind, body) in [
            ("", Kind::Plan, json!({})),
            ("ann", Kind::Intent, json!({})),
            ("ann", Kind::Outcome, not_sent.to_body()),
        ] {
            let record = Record::new(&job, rid, 0, kind, body);
            ledger.create(record).await.unwrap();
        }
        let resent = resend(&ledger, &job, "operator", NOW).await.unwrap();
        assert_eq!(resent, Resent::NoneFailed);
    }
}
