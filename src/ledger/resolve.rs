//! A person's answer to a doubt.

use serde_json::json;

use super::standing::reopenings;
use super::{Answer, Created, Kind, Ledger, LedgerError, Record, Standing, Verdict, standing};
use crate::job::JobId;

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// It stands.
    Recorded,
    /// There was nothing to answer: this is where the recipient stands.
    NoDoubt(Standing),
    /// The job or the recipient is not known.
    Unknown,
}

/// Records a person's answer to the doubt about one recipient of a job.
///
/// An answer that allows another mail reopens the job: its next delivery is worked, though it was done, and serves those
/// who have no end. It is reopened even if it is not done yet, since somebody may be about to call it done who has not
/// seen the answer.
pub async fn resolve(
    ledger: &dyn Ledger,
    job: &JobId,
    rid: &str,
    answer: Answer,
    by: &str,
) -> Result<Resolved, LedgerError> {
    let records = ledger.records_of(job, rid).await?;
    if records.is_empty() {
        return Ok(Resolved::Unknown);
    }
    let n = match standing(&records)? {
        Standing::Doubt { n, .. } => n,
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
        return Ok(Resolved::NoDoubt(standing(&records)?));
    }
    if answer == Answer::ResendOk {
        reopen(ledger, job, by).await?;
    }
    Ok(Resolved::Recorded)
}

async fn reopen(ledger: &dyn Ledger, job: &JobId, by: &str) -> Result<(), LedgerError> {
    let next = reopenings(&ledger.records_of(job, "").await?) + 1;
    // One that another has made just now will do as well.
    let reopened = Record::new(job, "", next, Kind::Reopened, json!({ "by": by }));
    ledger.create(reopened).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Outcome;
    use crate::ledger::memory::MemoryLedger;
    use crate::ledger::standing::is_done;

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
        let sent = resolve(&ledger, &job, "ann", Answer::WasSent, "operator").await;
        assert_eq!(sent.unwrap(), Resolved::Recorded);
        assert!(!is_open(&ledger, &job).await);

        let (ledger, job) = doubt_of_a_done_job().await;
        let resend = resolve(&ledger, &job, "ann", Answer::ResendOk, "operator").await;
        assert_eq!(resend.unwrap(), Resolved::Recorded);
        assert!(is_open(&ledger, &job).await);
        let records = ledger.records_of(&job, "ann").await.unwrap();
        assert_eq!(standing(&records).unwrap(), Standing::Free { n: 1 });
    }

    #[tokio::test]
    async fn the_first_answer_stands_and_what_is_no_doubt_is_said() {
        let (ledger, job) = doubt_of_a_done_job().await;
        for (answer, wanted) in [(Answer::WasSent, true), (Answer::ResendOk, false)] {
            let resolved = resolve(&ledger, &job, "ann", answer, "operator")
                .await
                .unwrap();
            assert_eq!(resolved == Resolved::Recorded, wanted);
        }
        assert!(!is_open(&ledger, &job).await);
        let stranger = resolve(&ledger, &job, "bo", Answer::WasSent, "operator").await;
        assert_eq!(stranger.unwrap(), Resolved::Unknown);
    }
}
