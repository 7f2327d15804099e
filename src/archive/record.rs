//! The ledger's record of an upload: another attempt at the job continues it.

use serde::{Deserialize, Serialize};

use super::ArchiveError;
use crate::job::{Bucket, JobId, Key};
use crate::ledger::{Created, Kind, Ledger, Record};
use crate::store::multipart::{PartsUpload, PartsWay};

/// The body of a record `zip.<n>`: which upload the parts of a layout go to.
#[derive(Debug, Serialize, Deserialize)]
struct UploadRecord {
    /// The layout of the ZIP, in hexadecimal.
    layout: String,
    /// The store's id of the upload.
    upload: String,
    /// Whether its parts have checksums.
    summed: bool,
}

impl UploadRecord {
    fn upload(self, bucket: &Bucket, key: &Key) -> PartsUpload {
        PartsUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            id: self.upload,
            way: match self.summed {
                true => PartsWay::Summed,
                false => PartsWay::Plain,
            },
        }
    }

    fn of(record: &Record) -> Option<Self> {
        serde_json::from_value(record.body.clone()).ok()
    }
}

/// The uploads of a job so far, and the number of the next.
pub(super) struct UploadRecords {
    records: Vec<Record>,
}

impl UploadRecords {
    /// Reads the records of a job.
    pub(super) async fn of(job: &JobId, ledger: &dyn Ledger) -> Result<Self, ArchiveError> {
        let mut records = ledger.records_of(job, "").await?;
        records.retain(|record| record.kind == Kind::Zip);
        // A ledger in a bucket reads several at once, in no order.
        records.sort_by_key(|record| record.n);
        Ok(Self { records })
    }

    /// The last upload that was started for a layout, in the way that the store takes.
    pub(super) fn last(
        &self,
        layout: &str,
        way: PartsWay,
        (bucket, key): (&Bucket, &Key),
    ) -> Option<PartsUpload> {
        let mut records = self.records.iter().rev().filter_map(UploadRecord::of);
        let record = records.find(|record| record.layout == layout)?;
        Some(record.upload(bucket, key)).filter(|upload| upload.way == way)
    }

    /// Records an upload that was started. If another process recorded one for the same layout first, that one is returned.
    pub(super) async fn record(
        &self,
        job: &JobId,
        layout: &str,
        upload: &PartsUpload,
        ledger: &dyn Ledger,
    ) -> Result<Option<PartsUpload>, ArchiveError> {
        let last = self.records.iter().map(|record| record.n + 1).max();
        let mut n = last.unwrap_or(0);
        loop {
            let body = UploadRecord {
                layout: layout.to_owned(),
                upload: upload.id.clone(),
                summed: upload.way == PartsWay::Summed,
            };
            let body = serde_json::to_value(body).expect("an upload is plain data");
            match ledger
                .create(Record::new(job, "", n, Kind::Zip, body))
                .await?
            {
                Created::Ours => return Ok(None),
                Created::Theirs(record) => match UploadRecord::of(&record) {
                    Some(theirs) if theirs.layout == layout => {
                        return Ok(Some(theirs.upload(&upload.bucket, &upload.key)));
                    }
                    Some(_) | None => n += 1,
                },
            }
        }
    }
}
