//! What the recipients of a job in parts came to so far, each of them counted.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::chunks::{last_of_chunk, read_chunk};
use super::recipients::FrozenList;
use super::{MAX_CHUNKS, frozen};
use crate::job::JobId;
use crate::ledger::status::{is_done, reopenings};
use crate::ledger::{JobRecords, Ledger, LedgerError, Outcome, RecipientStatus, Record, status_of};
use crate::report::{JobReport, PartsReport};

/// How many parts are looked at together.
const AT_ONCE: usize = 16;

/// What the recipients of a job in parts came to so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartsSoFar {
    /// What those came to who have a final status, or a mail in doubt.
    pub report: JobReport,
    /// How many chunks they are in.
    pub chunks: u32,
    /// How many have a mail under way: it was begun, and has no outcome.
    pub under_way: u64,
    /// How many others wait for their mail.
    pub open: u64,
}

/// Whether a job is in parts, by the records of the whole job.
///
/// # Errors
/// A record cannot be read.
pub fn is_in_parts(records: &[Record]) -> Result<bool, LedgerError> {
    Ok(frozen(records)?.is_some())
}

/// What the recipients of a job in parts came to so far, by the records of the whole job; `None` for a job that is not in parts.
///
/// The record of a chunk counts its parts. The parts of a chunk without one, and of one that is served again, are read one by one: a
/// hundred recipients of which one waits for a slow relay would count as none.
///
/// # Errors
/// The ledger does not answer, or a record cannot be read.
pub async fn parts_so_far(
    ledger: &dyn Ledger,
    job: &JobId,
    records: &[Record],
) -> Result<Option<PartsSoFar>, LedgerError> {
    let Some(list) = frozen(records)? else {
        return Ok(None);
    };
    let mut so_far = PartsSoFar {
        report: JobReport {
            parts: Some(list.report()),
            ..JobReport::default()
        },
        chunks: list.chunks,
        ..PartsSoFar::default()
    };
    let round = reopenings(records);
    for number in 0..list.chunks {
        let last = last_of_chunk(records, number);
        let chunk = last.map(read_chunk).transpose()?;
        let is_of_round = last.is_some_and(|last| last.n / MAX_CHUNKS == round);
        match chunk {
            Some(chunk) if is_of_round || chunk.failed() == 0 => so_far.report.add(chunk),
            Some(_) | None => so_far.count_chunk(&list, number, (ledger, job)).await?,
        }
    }
    so_far.open = list
        .recipients
        .saturating_sub(so_far.ended() + so_far.under_way);
    Ok(Some(so_far))
}

impl PartsSoFar {
    fn ended(&self) -> u64 {
        let report = &self.report;
        let parts = report.parts.as_ref();
        let without = parts.map_or(0, |parts| parts.empty + parts.refused);
        report.accepted + report.rejected + report.unknown + report.suppressed + without
    }

    /// Counts the parts of a chunk, each by its own records.
    async fn count_chunk(
        &mut self,
        list: &FrozenList,
        number: u32,
        (ledger, job): (&dyn Ledger, &JobId),
    ) -> Result<(), LedgerError> {
        let recipients = match list.chunk(number, job, ledger).await {
            Ok(recipients) => recipients,
            // The page of an old job may have expired in a bucket: its recipients count as open.
            Err(LedgerError::Unreadable { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let read = recipients.into_iter().map(|(rid, _)| async move {
            let records = ledger.records(&job.part(&rid)).await?;
            Ok::<_, LedgerError>((rid, JobRecords::new(records)))
        });
        let mut read = stream::iter(read).buffered(AT_ONCE);
        while let Some((rid, records)) = read.try_next().await? {
            self.count(&rid, &records)?;
        }
        Ok(())
    }

    /// Counts a part by its records.
    fn count(&mut self, rid: &str, records: &JobRecords) -> Result<(), LedgerError> {
        let name = || rid.to_owned();
        match status_of(records.of(rid))? {
            RecipientStatus::Final { outcome, .. } => self.report.count(&outcome, name),
            RecipientStatus::InDoubt { .. } => self.report.count(&Outcome::held(), name),
            RecipientStatus::InFlight { .. } => self.under_way += 1,
            RecipientStatus::Ready { .. } if is_done(records.of("")) => {
                let parts = self.report.parts.get_or_insert_default();
                parts.count_empty(rid);
            }
            RecipientStatus::Ready { .. } => {}
        }
        Ok(())
    }
}

/// Why a part of a job has no records, as far as the job's records have it: it was rejected before it began.
///
/// # Errors
/// A record cannot be read.
pub fn refused_part(records: &[Record], rid: &str) -> Result<Option<String>, LedgerError> {
    let Some(list) = frozen(records)? else {
        return Ok(None);
    };
    for number in 0..list.chunks {
        let chunk = last_of_chunk(records, number).map(read_chunk).transpose()?;
        let parts: PartsReport = chunk.and_then(|chunk| chunk.parts).unwrap_or_default();
        let refused = parts.reasons.into_iter().find(|part| part.rid == rid);
        if let Some(refused) = refused {
            return Ok(Some(refused.reason));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::Kind;
    use crate::ledger::memory::MemoryLedger;

    fn rid(n: u32) -> String {
        format!("{n:032x}")
    }

    async fn put(ledger: &MemoryLedger, job: &JobId, rid: &str, n: u32, kind: Kind, body: Value) {
        let record = Record::new(job, rid, n, kind, body);
        ledger.create(record).await.unwrap();
    }

    /// A job whose first chunk has a record, and whose second has six recipients.
    async fn open_job() -> (MemoryLedger, JobId) {
        let (ledger, job) = (MemoryLedger::default(), "weekly".parse::<JobId>().unwrap());
        let page: Vec<Value> = (1..=6)
            .map(|n| json!([rid(n), { "address": format!("p{n}@acme.example") }]))
            .collect();
        let page = serde_json::to_vec(&page).unwrap();
        ledger.keep_page(&job, "pages", 1, page).await.unwrap();
        let list = json!({
            "listing": "pages", "chunks": 2, "recipients": 106, "repeated": 0, "bad_rows": 0, "rows": [],
        });
        put(
            &ledger,
            &job,
            "",
            0,
            Kind::Plan,
            json!({ "recipients": list }),
        )
        .await;
        let mut chunk = JobReport {
            accepted: 98,
            ..JobReport::default()
        };
        let parts = chunk.parts.get_or_insert_default();
        parts.count_empty(&rid(100));
        parts.refuse(&rid(101), "no rule allows it".to_owned());
        let chunk = serde_json::to_value(&chunk).unwrap();
        put(&ledger, &job, "", 0, Kind::Chunk, chunk).await;
        (ledger, job)
    }

    #[tokio::test]
    async fn each_part_of_a_chunk_without_a_record_is_counted() {
        let (ledger, job) = open_job().await;
        let outcomes = [
            json!({ "outcome": "accepted", "words": "250" }),
            json!({ "outcome": "rejected", "code": 550, "words": "no" }),
            json!({ "outcome": "unknown", "words": "" }),
        ];
        for (n, outcome) in (1..).zip(outcomes) {
            let part = job.part(&rid(n));
            put(&ledger, &part, &rid(n), 0, Kind::Intent, json!({})).await;
            put(&ledger, &part, &rid(n), 0, Kind::Outcome, outcome).await;
        }
        put(
            &ledger,
            &job.part(&rid(4)),
            &rid(4),
            0,
            Kind::Intent,
            json!({}),
        )
        .await;
        put(&ledger, &job.part(&rid(5)), "", 0, Kind::Done, json!({})).await;
        let records = ledger.records_of(&job, "").await.unwrap();
        let so_far = parts_so_far(&ledger, &job, &records)
            .await
            .unwrap()
            .unwrap();
        let report = &so_far.report;
        let mails = (report.accepted, report.rejected, report.unknown);
        assert_eq!(mails, (99, 1, 1));
        let parts = report.parts.as_ref().unwrap();
        assert_eq!((parts.empty, parts.refused), (2, 1));
        assert_eq!(parts.without_files, [rid(100), rid(5)]);
        assert_eq!((so_far.chunks, so_far.under_way, so_far.open), (2, 1, 1));
        let why = refused_part(&records, &rid(101)).unwrap();
        assert_eq!(why.as_deref(), Some("no rule allows it"));
        assert_eq!(refused_part(&records, &rid(5)).unwrap(), None);
    }

    #[tokio::test]
    async fn a_chunk_that_is_served_again_is_counted_by_its_parts_and_one_without_its_page_is_open()
    {
        let (ledger, job) = open_job().await;
        put(&ledger, &job, "", 1, Kind::Reopened, json!({})).await;
        let records = ledger.records_of(&job, "").await.unwrap();
        let so_far = parts_so_far(&ledger, &job, &records)
            .await
            .unwrap()
            .unwrap();
        // The first chunk has a rejected part, and its page is gone.
        assert_eq!((so_far.report.accepted, so_far.open), (0, 106));
        assert!(is_in_parts(&records).unwrap());
        assert!(!is_in_parts(&[]).unwrap());
        assert_eq!(parts_so_far(&ledger, &job, &[]).await.unwrap(), None);
    }
}
