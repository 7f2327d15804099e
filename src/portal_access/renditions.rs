//! Renditions of pictures, as the portal's records of a job have them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::cache::RecordCache;
use super::{AccessRefusal, PortalAccess, Visit};
use crate::job::{Bucket, Key};
use crate::ledger::LedgerError;
use crate::ledger::portal::PortalRenditions;
use crate::media::{RenditionRow, StoredRenditions};
use crate::portal_token::JobRef;
use crate::store::ObjectMeta;

/// How many records are read at once.
const READS_AT_ONCE: usize = 8;

/// One of the sizes in which a page shows pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenditionSize {
    /// For lists and grids.
    Small,
    /// For one picture alone.
    Large,
}

/// The renditions of a job, by the places of their pictures in its listing.
pub(super) type RenditionMap = HashMap<u32, StoredRenditions>;

impl PortalRenditions {
    /// The rendition of this name as an object.
    pub(super) fn key(&self, file_name: &str) -> Option<Key> {
        format!("{}{file_name}", self.prefix).parse().ok()
    }
}

impl PortalAccess {
    /// The rendition of the picture of a visit; `None` if it has none, and is shown itself.
    pub(super) async fn rendition(
        &self,
        visit: &Visit,
        size: RenditionSize,
    ) -> Result<Option<(Bucket, ObjectMeta)>, AccessRefusal> {
        let (job, reference) = (&visit.job, visit.token.job);
        let (Some(place), Some(index)) = (&job.renditions, visit.token.object.index()) else {
            return Ok(None);
        };
        let renditions = self.index.cache.renditions(reference, place).await?;
        let stored = renditions.get(&index);
        let image = stored.and_then(|stored| match size {
            RenditionSize::Small => Some(&stored.small),
            RenditionSize::Large => stored.large.as_ref(),
        });
        let key = image.and_then(|image| place.key(&image.file_name));
        Ok(key.map(|key| (place.bucket.clone(), ObjectMeta::published(key))))
    }
}

impl RecordCache {
    /// The renditions of a job. They are kept once all are made: a page may be asked for before the first mail.
    pub(super) async fn renditions(
        &self,
        reference: JobRef,
        place: &PortalRenditions,
    ) -> Result<Arc<RenditionMap>, AccessRefusal> {
        if let Some(kept) = self.kept_renditions(reference) {
            return Ok(kept);
        }
        let records = self.records();
        let pages = stream::iter(0..place.pages)
            .map(|page| records.renditions(reference, page))
            .buffered(READS_AT_ONCE);
        let pages: Vec<Option<Vec<u8>>> = pages.try_collect().await?;
        let (mut map, mut bytes) = (RenditionMap::new(), 0);
        for (number, page) in pages.iter().enumerate() {
            let Some(page) = page else {
                continue;
            };
            let rows = serde_json::from_slice::<Vec<RenditionRow>>(page);
            map.extend(rows.map_err(|_| LedgerError::Unreadable {
                key: format!("job/{reference}/renditions/{number:07}"),
            })?);
            bytes += 2 * page.len();
        }
        let map = Arc::new(map);
        if pages.iter().all(Option::is_some) {
            self.keep_renditions(reference, &map, bytes);
        }
        Ok(map)
    }
}
