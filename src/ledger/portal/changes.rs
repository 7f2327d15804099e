//! Changes to links: a log of records with ordinals, in which the first to create an ordinal has it.

use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PortalCreated, PortalLedger, to_json};
use crate::job::{Bucket, JobId};
use crate::ledger::LedgerError;
use crate::portal_token::JobRef;

/// How many records are read at once.
const READS_AT_ONCE: usize = 64;

/// How many changes a bundle has: a start reads a request for each hundred changes, and at most 99 single ones.
const CHANGES_A_BUNDLE: u64 = 100;

/// What a change to links is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ChangeTarget {
    /// All links of a job.
    Job {
        /// The job.
        #[schemars(with = "String")]
        job: JobId,
    },
    /// All links of a recipient, of one job or of all.
    Recipient {
        /// The recipient's id.
        rid: String,
        /// The job; all jobs without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        job: Option<JobId>,
    },
    /// All links to an object.
    Object {
        /// The bucket.
        #[schemars(with = "String")]
        bucket: Bucket,
        /// The key.
        key: String,
    },
    /// One link, by its id.
    Link {
        /// The link id.
        link_id: String,
    },
    /// The sessions of a recipient that began before the change.
    Sessions {
        /// The recipient's id.
        rid: String,
    },
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChangeKind {
    /// The links do not open any more.
    Revoked,
    /// The links open again.
    Restored,
    /// The links of a job end at another instant.
    Moved {
        /// The new end.
        #[schemars(with = "String")]
        until: Timestamp,
    },
}

/// A change to links, in the order of their ordinals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    /// What it does.
    #[serde(flatten)]
    pub kind: ChangeKind,
    /// What it is about.
    #[serde(flatten)]
    pub target: ChangeTarget,
    /// The user who asked for it.
    pub by: String,
    /// The reason, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The records of the job that are meant, where a job is named. A job that later takes an id which the ledger has
    /// forgotten is another job. All records with the id, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<JobRef>,
    /// When it was asked for.
    pub at: Timestamp,
    /// Random: it tells our record from another's.
    pub nonce: String,
}

impl PortalLedger {
    /// How many changes to links there are.
    ///
    /// # Errors
    /// A missing ordinal is damage: what it revoked would open.
    pub async fn change_count(&self) -> Result<u64, LedgerError> {
        let names = self.records.all_names("gone/").await?;
        let expected = (0..).map(change_name);
        for (name, expected) in names.iter().zip(expected) {
            if format!("gone/{name}") != expected {
                return Err(LedgerError::Unreadable { key: expected });
            }
        }
        Ok(names.len() as u64)
    }

    /// All changes to links, in their order.
    ///
    /// # Errors
    /// As for [`Self::change_count`] and [`Self::read_changes`].
    pub async fn changes(&self) -> Result<Vec<LinkChange>, LedgerError> {
        let mut changes = Vec::new();
        let all = 0..self.change_count().await?;
        self.read_changes(all, |change| changes.push(change))
            .await?;
        Ok(changes)
    }

    /// Reads the changes of these ordinals, and gives each to `take` in their order.
    ///
    /// If it is dropped before its end, another call may continue behind the last change that was taken. So very many changes are
    /// read from a slow ledger, too, in the short time that an open has.
    ///
    /// # Errors
    /// A record is missing or damaged, or the ledger does not answer.
    pub async fn read_changes(
        &self,
        ordinals: Range<u64>,
        mut take: impl FnMut(LinkChange),
    ) -> Result<(), LedgerError> {
        let Range {
            start: mut next,
            end,
        } = ordinals;
        while next < end {
            if next.is_multiple_of(CHANGES_A_BUNDLE) {
                let whole = next / CHANGES_A_BUNDLE..end / CHANGES_A_BUNDLE;
                let stored = stream::iter(whole)
                    .map(|bundle| self.bundle(bundle))
                    .buffered(READS_AT_ONCE / 8);
                let mut stored = std::pin::pin!(stored);
                while let Some(Some(changes)) = stored.try_next().await? {
                    next += CHANGES_A_BUNDLE;
                    changes.into_iter().for_each(&mut take);
                }
            }
            let rest = (next / CHANGES_A_BUNDLE + 1) * CHANGES_A_BUNDLE;
            let rest = rest.min(end);
            self.read_singles(next..rest, &mut take).await?;
            next = rest;
        }
        Ok(())
    }

    /// Reads the changes of these ordinals, each from its own record. The first reader of those of a bundle makes it; the records
    /// stay.
    async fn read_singles(
        &self,
        ordinals: Range<u64>,
        take: &mut impl FnMut(LinkChange),
    ) -> Result<(), LedgerError> {
        let Range { start, end } = ordinals;
        let bundle = start / CHANGES_A_BUNDLE;
        let is_bundle = start.is_multiple_of(CHANGES_A_BUNDLE) && end - start == CHANGES_A_BUNDLE;
        let singles = stream::iter(start..end)
            .map(async |ordinal| {
                let name = change_name(ordinal);
                let change = self.get::<LinkChange>(&name).await?;
                change.ok_or(LedgerError::Unreadable { key: name })
            })
            .buffered(READS_AT_ONCE);
        let (mut singles, mut bundled) = (std::pin::pin!(singles), Vec::new());
        while let Some(change) = singles.try_next().await? {
            if is_bundle {
                bundled.push(change.clone());
            }
            take(change);
        }
        // The changes are known without it, so an error is left to the next start.
        if is_bundle
            && let Err(error) = self
                .records
                .create(&bundle_name(bundle), to_json(&bundled))
                .await
        {
            tracing::debug!(%error, "a bundle of changes to links could not be written");
        }
        Ok(())
    }

    /// The changes of a bundle, if it was made.
    async fn bundle(&self, bundle: u64) -> Result<Option<Vec<LinkChange>>, LedgerError> {
        let name = bundle_name(bundle);
        let Some(changes) = self.get::<Vec<LinkChange>>(&name).await? else {
            return Ok(None);
        };
        match changes.len() as u64 == CHANGES_A_BUNDLE {
            true => Ok(Some(changes)),
            false => Err(LedgerError::Unreadable { key: name }),
        }
    }

    /// The change with this ordinal, if it was made.
    pub async fn change(&self, ordinal: u64) -> Result<Option<LinkChange>, LedgerError> {
        self.get(&change_name(ordinal)).await
    }

    /// The changes from an ordinal on, up to the first that was not made, at most as many as are read at once.
    pub async fn changes_from(&self, first: u64) -> Result<Vec<LinkChange>, LedgerError> {
        let made = stream::iter(first..first + READS_AT_ONCE as u64)
            .map(|ordinal| self.change(ordinal))
            .buffered(READS_AT_ONCE);
        let made: Vec<Option<LinkChange>> = made.try_collect().await?;
        Ok(made.into_iter().map_while(|change| change).collect())
    }

    /// Adds a change behind the last one and returns its ordinal; `from` is an ordinal that is not above it, such as the number
    /// of changes that are known. When it returns, every check that begins later finds the change.
    pub async fn add_change(&self, from: u64, change: &LinkChange) -> Result<u64, LedgerError> {
        let body = to_json(change);
        for ordinal in from.. {
            let created = self
                .records
                .create(&change_name(ordinal), body.clone())
                .await?;
            if created == PortalCreated::Ours {
                return Ok(ordinal);
            }
        }
        unreachable!("there is a free ordinal")
    }
}

fn bundle_name(bundle: u64) -> String {
    format!("bundle/{bundle:012}")
}

pub(super) fn change_name(ordinal: u64) -> String {
    format!("gone/{ordinal:012}")
}
