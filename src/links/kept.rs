//! A job's objects, kept with its plan: a job that is delivered again hands out the same ones.
//!
//! They are kept page by page, as they were listed, so that a million need no more memory than ten. Which listing counts
//! says the plan, which is created once: of two workers that list at the same time, one's pages are never read.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::listing::{self, Entry, Listing};
use crate::error::JobError;
use crate::job::{JobId, WhenEmpty};
use crate::ledger::{Ledger, nonce};
use crate::plan::policy::describe;
use crate::plan::{Plan, Refusal};
use crate::stop::Stop;
use crate::store::ObjectStore;

/// How many pages are on their way to the ledger at once.
const PAGES_AT_ONCE: usize = 4;

/// Where a job's objects are kept; part of its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The listing's name.
    pub listing: String,
    /// How many pages it has.
    pub pages: u32,
}

/// Keeps the objects of a job. They count when the job's plan says so.
pub async fn keep(
    listing: &Listing,
    job: &JobId,
    ledger: &dyn Ledger,
    stop: &Stop,
) -> Result<Kept, JobError> {
    let kept = Kept {
        listing: nonce(),
        pages: u32::try_from(listing.pages()).unwrap_or(u32::MAX),
    };
    stream::iter((0..kept.pages).map(Ok))
        .try_for_each_concurrent(PAGES_AT_ONCE, |number| {
            let name = &kept.listing;
            async move {
                stop.heed()?;
                let page = listing.page(number as usize)?.unwrap_or_default();
                let bytes = serde_json::to_vec(&page).expect("entries are plain data");
                Ok::<_, JobError>(ledger.keep_page(job, name, number, bytes).await?)
            }
        })
        .await?;
    Ok(kept)
}

/// Brings the objects of a job back, and looks at each: what has vanished since is not available. Nothing, if the ledger
/// has not kept them.
pub async fn recall(
    kept: &Kept,
    plan: &Plan,
    ledger: &dyn Ledger,
    store: &dyn ObjectStore,
    spool_dir: &Path,
    stop: &Stop,
) -> Result<Option<Listing>, JobError> {
    let mut recalled = Listing::begin(spool_dir);
    let mut pages = stream::iter(0..kept.pages)
        .map(|number| ledger.page(&plan.job.id, &kept.listing, number))
        .buffered(PAGES_AT_ONCE);
    while let Some(page) = pages.next().await {
        stop.heed()?;
        let Some(page) = page?.and_then(|bytes| serde_json::from_slice::<Vec<Entry>>(&bytes).ok())
        else {
            return Ok(None);
        };
        recalled.push(listing::look_again(page, &plan.bucket, store).await?)?;
    }
    if recalled.is_empty() && plan.when_empty == WhenEmpty::Refuse {
        let place = describe(&plan.bucket, &plan.objects);
        return Err(listing::GatherError::from(Refusal::Empty { place }).into());
    }
    Ok(Some(recalled))
}
