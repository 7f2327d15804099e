//! Whether a store lists in the order of the keys' bytes.

use crate::job::Bucket;
use crate::store::{Cursor, ErrorKind, ObjectMeta, ObjectStore, StoreError, Versions};

/// Whether the first page of a listing and one more request show that the store lists in the order of the keys' bytes.
///
/// A store that keeps folders lists `2026/a.pdf` before `2026.pdf`. Asked for what follows `2026.`, it leaves out `2026/a.pdf`,
/// which follows by its bytes. A page without a folder makes no request: it shows by itself. A store that rejects the request, or
/// begins elsewhere, does not show its order. One that ignores the place is only found out if its first page begins before it.
///
/// # Errors
/// The store's.
pub async fn is_of_bytes(
    store: &dyn ObjectStore,
    bucket: &Bucket,
    prefix: &str,
    page: &[ObjectMeta],
) -> Result<bool, StoreError> {
    let folder = page.iter().find_map(|object| {
        let path = object.key.as_str().strip_prefix(prefix)?;
        let (folder, _) = path.split_once('/')?;
        Some(format!("{prefix}{folder}."))
    });
    let Some(place) = folder else {
        return Ok(true);
    };
    let follows = |object: &&ObjectMeta| object.key.as_str() > place.as_str();
    let expected = page.iter().find(follows).map(|object| &object.key);
    let cursor = Cursor::After(&place);
    let answer = store.list(bucket, prefix, Versions::Floating, cursor).await;
    let answer = match answer {
        Err(error) if error.fact == ErrorKind::Rejected => return Ok(false),
        answer => answer?,
    };
    Ok(answer.objects.first().map(|object| &object.key) == expected)
}
