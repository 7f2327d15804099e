//! The ZIPs of a job, which links of the portal open.

use serde::{Deserialize, Serialize};

use super::{PortalJob, PortalLedger};
use crate::job::{Bucket, Key};
use crate::ledger::LedgerError;
use crate::portal_token::JobRef;
use crate::store::{ObjectMeta, Storage};

/// How many files of a ZIP a record has.
pub const ZIP_FILES_PAGE: usize = 1000;

/// The ZIPs of a job, in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalZips {
    /// Each ZIP.
    pub zips: Vec<PortalZip>,
    /// How many objects of the job are in none of them.
    pub left_out: u64,
}

impl PortalZips {
    /// Whether the job has none.
    pub const fn is_empty(&self) -> bool {
        self.zips.is_empty()
    }
}

/// A ZIP of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalZip {
    /// Its name.
    pub file_name: String,
    /// How many objects are in it.
    pub files: u64,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of the entries of its central directory, in hexadecimal.
    pub directory_sha256: String,
    /// Where its bytes are.
    pub place: PortalZipPlace,
}

/// Where the bytes of a ZIP are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortalZipPlace {
    /// In a bucket of the job's connection.
    Stored {
        /// The bucket.
        bucket: Bucket,
        /// The key.
        key: Key,
    },
    /// Nowhere: the portal makes them as they are read, from the objects of the job.
    Streamed {
        /// How many records list its files, [`ZIP_FILES_PAGE`] in each.
        pages: u32,
    },
}

impl PortalZip {
    /// The ZIP as an object. One that is stored nowhere has a key that no bucket has.
    pub fn object(&self, reference: JobRef, job: &PortalJob) -> (Bucket, ObjectMeta) {
        let (bucket, key) = match &self.place {
            PortalZipPlace::Stored { bucket, key } => (bucket.clone(), key.clone()),
            PortalZipPlace::Streamed { .. } => {
                let key = streamed_key(reference, &self.file_name);
                (job.bucket.clone(), key)
            }
        };
        let object = ObjectMeta {
            key,
            size_bytes: self.size_bytes,
            etag: String::new(),
            version: None,
            modified: job.begun_at,
            storage: Storage::Ready,
            stored: None,
        };
        (bucket, object)
    }

    /// The digest of its directory; zeros if the record has none.
    pub fn directory(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            let digits = self.directory_sha256.get(at..at + 2).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        digest
    }

    /// Whether it is stored nowhere.
    pub const fn is_streamed(&self) -> bool {
        matches!(self.place, PortalZipPlace::Streamed { .. })
    }
}

/// The key by which lines of the audit log name a ZIP that is stored nowhere.
fn streamed_key(reference: JobRef, file_name: &str) -> Key {
    let key = format!("portal/{reference}/{file_name}");
    let short = || format!("portal/{reference}/files.zip");
    key.parse()
        .unwrap_or_else(|_| short().parse().expect("the name is a key"))
}

impl PortalLedger {
    /// Keeps some files of a ZIP that is stored nowhere, as JSON; an existing record of the job stays.
    pub async fn keep_zip_files(
        &self,
        reference: JobRef,
        (zip, page): (usize, u32),
        files: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let name = zip_name(reference, zip, page);
        self.records.create(&name, files).await.map(drop)
    }

    /// Some files of a ZIP that is stored nowhere.
    ///
    /// # Errors
    /// The ledger does not answer, or the record is missing.
    pub async fn zip_files(
        &self,
        reference: JobRef,
        (zip, page): (usize, u32),
    ) -> Result<Vec<u8>, LedgerError> {
        let name = zip_name(reference, zip, page);
        let files = self.records.read(&name).await?;
        files.ok_or(LedgerError::Unreadable { key: name })
    }
}

fn zip_name(reference: JobRef, zip: usize, page: u32) -> String {
    format!("job/{reference}/zip/{zip}/{page:05}")
}
