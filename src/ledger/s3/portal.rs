//! The records of the portal in the bucket of the ledger, below a prefix of their own.
//!
//! The ledger's objects may expire by a lifecycle rule; an expired revocation would be a link that works again. So the records
//! are not below the ledger's prefix: `ledger/` has `ledger-portal/` beside it.

use async_trait::async_trait;

use super::super::LedgerError;
use super::super::portal::{PortalCreated, PortalRecords};
use super::{Put, S3Ledger, WriteCondition};
use crate::edge::health::Edge;

/// Records below a prefix of the ledger's bucket.
#[derive(Debug, Clone)]
pub struct S3PortalRecords {
    ledger: S3Ledger,
    prefix: String,
}

impl S3PortalRecords {
    /// The records beside a ledger.
    pub(super) fn beside(ledger: &S3Ledger) -> Self {
        Self {
            ledger: ledger.clone(),
            prefix: prefix_beside(&ledger.prefix),
        }
    }

    /// Records in the ledger itself, which may expire with its others.
    pub(super) fn within(ledger: &S3Ledger) -> Self {
        Self {
            ledger: ledger.clone(),
            prefix: ledger.prefix.clone(),
        }
    }
}

/// The prefix of the portal's records beside a ledger's prefix.
pub fn prefix_beside(ledger: &str) -> String {
    match ledger.trim_end_matches('/') {
        "" => "portal/".to_owned(),
        ledger => format!("{ledger}-portal/"),
    }
}

#[async_trait]
impl PortalRecords for S3PortalRecords {
    fn edge(&self) -> Option<&Edge> {
        Some(&self.ledger.edge)
    }

    async fn create(&self, name: &str, body: Vec<u8>) -> Result<PortalCreated, LedgerError> {
        let key = format!("{}{name}", self.prefix);
        let put = self
            .ledger
            .put(&key, body.clone(), WriteCondition::Absent)
            .await;
        if let Ok(Put::Done(_)) = put {
            return Ok(PortalCreated::Ours);
        }
        // A response may have been lost, so the existing record may be ours; its body shows it.
        let Some(found) = self.ledger.get(&key).await? else {
            put?;
            return Err(self.ledger.contradicts_itself(&key));
        };
        Ok(PortalCreated::of(&body, found.bytes))
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let found = self.ledger.get(&format!("{}{name}", self.prefix)).await?;
        Ok(found.map(|found| found.bytes))
    }

    async fn names(
        &self,
        below: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, LedgerError> {
        let below = format!("{}{below}", self.prefix);
        let after = after.map(|after| format!("{below}{after}"));
        let keys = self
            .ledger
            .list(&below, false, after.as_deref(), limit)
            .await?;
        let name = |key: String| key.strip_prefix(&below).map(ToOwned::to_owned);
        Ok(keys.into_iter().filter_map(name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_beside_the_ledger_and_not_below_it() {
        for (ledger, records) in [("", "portal/"), ("a/ledger/", "a/ledger-portal/")] {
            assert_eq!(prefix_beside(ledger), records);
        }
    }
}
