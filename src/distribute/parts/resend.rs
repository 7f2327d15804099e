//! Another attempt at the recipients whom a job in parts did not reach.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::chunks::{last_of_chunk, read_chunk};
use super::frozen;
use crate::job::JobId;
use crate::ledger::resolve::{Resent, reopen, resend};
use crate::ledger::status::is_done;
use crate::ledger::{Ledger, LedgerError, Record};

/// How many parts are looked at together.
const AT_ONCE: usize = 16;

/// The parts of a job that may have a mail in doubt; none for a job that is not in parts.
///
/// # Errors
/// The ledger does not answer, or a record cannot be read.
pub(in crate::distribute) async fn doubtful_parts(
    ledger: &dyn Ledger,
    job: &JobId,
    records: &[Record],
) -> Result<Vec<JobId>, LedgerError> {
    let mut parts = Vec::new();
    let Some(list) = frozen(records)? else {
        return Ok(parts);
    };
    for number in 0..list.chunks {
        let chunk = last_of_chunk(records, number).map(read_chunk).transpose()?;
        if chunk.is_none_or(|chunk| chunk.unknown > 0) {
            let recipients = list.chunk(number, job, ledger).await?;
            parts.extend(recipients.iter().map(|(rid, _)| job.part(rid)));
        }
    }
    Ok(parts)
}

/// The part that the ledger's records of a recipient belong to, if the job is in parts; else the job.
///
/// # Errors
/// The ledger does not answer, or a record cannot be read.
pub async fn part_or_job(
    ledger: &dyn Ledger,
    job: &JobId,
    rid: &str,
) -> Result<JobId, LedgerError> {
    let records = ledger.records_of(job, "").await?;
    Ok(match frozen(&records)? {
        Some(_) => job.part(rid),
        None => job.clone(),
    })
}

/// Reopens the job of a part that is to be sent again.
///
/// # Errors
/// The ledger does not answer.
pub async fn reopen_whole(
    ledger: &dyn Ledger,
    part: &JobId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let Some(whole) = part.whole() else {
        return Ok(());
    };
    // Also a job that is not done: a chunk that has its record is not served again in this round.
    reopen(ledger, &whole, "operator", now).await
}

/// Asks for another attempt at each part that was rejected, whose mail was rejected or is in doubt, and reopens the job; `None` for
/// a job that is not in parts.
///
/// # Errors
/// The ledger does not answer, or its recipients are not stored any more.
pub async fn resend_parts(
    ledger: &dyn Ledger,
    job: &JobId,
    now: Timestamp,
) -> Result<Option<Resent>, LedgerError> {
    let records = ledger.records_of(job, "").await?;
    let Some(list) = frozen(&records)? else {
        return Ok(None);
    };
    let mut asked = 0;
    for number in 0..list.chunks {
        let Some(chunk) = last_of_chunk(&records, number) else {
            continue;
        };
        if read_chunk(chunk)?.failed() == 0 {
            continue;
        }
        let recipients = list.chunk(number, job, ledger).await?;
        let parts = recipients.into_iter().map(|(rid, _)| async move {
            let part = job.part(&rid);
            Ok::<_, LedgerError>(match resend(ledger, &part, "operator", now).await? {
                Resent::Asked(count) => count,
                // The part was rejected before it began.
                Resent::Unknown => 1,
                // Or between its plan and its end.
                Resent::NoneFailed => usize::from(!is_done(&ledger.records_of(&part, "").await?)),
            })
        });
        let counts = stream::iter(parts).buffer_unordered(AT_ONCE);
        let counts: Vec<usize> = counts.try_collect().await?;
        asked += counts.into_iter().sum::<usize>();
    }
    if asked == 0 {
        return Ok(Some(Resent::NoneFailed));
    }
    // Also a job that is not done: a chunk that has its record is not served again in this round.
    reopen(ledger, job, "operator", now).await?;
    Ok(Some(Resent::Asked(asked)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::memory::MemoryLedger;
    use crate::ledger::status::reopenings;
    use crate::ledger::{Kind, Outcome};
    use crate::report::JobReport;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    const RID: &str = "0123456789abcdef0123456789abcdef";

    /// A job of two chunks, of which the first has its record: one of its mails was not accepted.
    async fn open_job(part: &[(&str, Kind, Value)]) -> (MemoryLedger, JobId) {
        let (ledger, job) = (MemoryLedger::default(), "weekly".parse::<JobId>().unwrap());
        let page = json!([[RID, { "address": "ann@acme.example" }]]);
        let page = serde_json::to_vec(&page).unwrap();
        ledger.keep_page(&job, "pages", 0, page).await.unwrap();
        let recipients = json!({
            "listing": "pages", "chunks": 2, "recipients": 2, "repeated": 0, "bad_rows": 0, "rows": [],
        });
        let chunk = JobReport {
            rejected: 1,
            ..JobReport::default()
        };
        let chunk = serde_json::to_value(&chunk).unwrap();
        let of_job = [
            ("", Kind::Plan, json!({ "recipients": recipients })),
            ("", Kind::Chunk, chunk),
        ];
        for (rid, kind, body) in of_job {
            let record = Record::new(&job, rid, 0, kind, body);
            ledger.create(record).await.unwrap();
        }
        for (rid, kind, body) in part {
            let record = Record::new(&job.part(RID), rid, 0, *kind, body.clone());
            ledger.create(record).await.unwrap();
        }
        (ledger, job)
    }

    async fn resent(ledger: &MemoryLedger, job: &JobId) -> (Option<Resent>, u32) {
        let resent = resend_parts(ledger, job, NOW).await.unwrap();
        let records = ledger.records_of(job, "").await.unwrap();
        (resent, reopenings(&records))
    }

    #[tokio::test]
    async fn a_job_that_is_still_open_is_reopened_since_its_chunk_has_a_record() {
        let rejected = Outcome::Rejected {
            code: 550,
            words: String::new(),
        };
        let (ledger, job) = open_job(&[
            ("", Kind::Plan, json!({})),
            (RID, Kind::Intent, json!({})),
            (RID, Kind::Outcome, rejected.to_body()),
            ("", Kind::Done, json!({})),
        ])
        .await;
        assert_eq!(resent(&ledger, &job).await, (Some(Resent::Asked(1)), 1));
        reopen_whole(&ledger, &job.part(RID), NOW).await.unwrap();
        let records = ledger.records_of(&job, "").await.unwrap();
        assert_eq!(reopenings(&records), 2);
    }

    #[tokio::test]
    async fn a_part_that_was_refused_behind_its_plan_is_asked_for() {
        let (ledger, job) = open_job(&[("", Kind::Plan, json!({}))]).await;
        assert_eq!(resent(&ledger, &job).await, (Some(Resent::Asked(1)), 1));
        let accepted = Outcome::Accepted {
            words: String::new(),
        };
        let (ledger, job) = open_job(&[
            ("", Kind::Plan, json!({})),
            (RID, Kind::Intent, json!({})),
            (RID, Kind::Outcome, accepted.to_body()),
            ("", Kind::Done, json!({})),
        ])
        .await;
        assert_eq!(resent(&ledger, &job).await, (Some(Resent::NoneFailed), 0));
    }
}
