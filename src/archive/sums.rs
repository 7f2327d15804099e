//! The checksum of a file, or of its last bytes, by reading them.

use super::{ArchiveError, ArchiveWork, ZipError, layout};
use crate::store::ObjectMeta;

/// How much of a file is read at a time where only its checksum is needed.
const SUMMED_AT_ONCE: u64 = 8 << 20;

/// The checksum of an object's bytes from an offset on, in the state in which it was listed.
pub(super) async fn read_sum(
    work: &ArchiveWork<'_>,
    object: &ObjectMeta,
    from: u64,
) -> Result<u32, ArchiveError> {
    let (mut at, mut crc32) = (from, 0);
    while at < object.size_bytes {
        work.stop.check()?;
        let end = (at + SUMMED_AT_ONCE).min(object.size_bytes);
        let _room = work.room(end - at).await?;
        let bytes = work.store.range(&work.plan.bucket, object, at..end).await?;
        let length = end - at;
        let of_bytes = tokio::task::spawn_blocking(move || layout::crc32(&bytes));
        let of_bytes = of_bytes.await.map_err(|_| ZipError::Contradiction)?;
        crc32 = layout::joined(crc32, of_bytes, length);
        at = end;
    }
    Ok(crc32)
}
