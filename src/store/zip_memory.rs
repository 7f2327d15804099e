//! The memory for the bytes of files on their way into ZIPs.
//!
//! All jobs of a connection share it. A store that is silent keeps the memory of its own connection alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::MAX_ZIP_MEMORY_MIB;

const MIB: u64 = 1 << 20;

/// The memory for the ZIPs of a connection. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct ZipMemory(Arc<Semaphore>);

/// Room for some bytes, until it is dropped.
#[derive(Debug)]
pub struct ZipRoom {
    _mib: OwnedSemaphorePermit,
}

impl Default for ZipMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_ZIP_MEMORY_MIB as usize)))
    }
}

impl ZipMemory {
    /// Waits for room for `bytes`; for more than there is, it is all of it. Those who wait are served in order.
    pub async fn room(&self, bytes: u64) -> ZipRoom {
        let mib = u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX);
        let taking = Arc::clone(&self.0).acquire_many_owned(mib.min(MAX_ZIP_MEMORY_MIB));
        let taken = taking.await;
        ZipRoom {
            _mib: taken.expect("the semaphore is never closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn jobs_wait_for_room_and_no_part_is_too_large() {
        let memory = ZipMemory::default();
        let room = |bytes| memory.room(bytes).now_or_never();
        let first = room(u64::from(MAX_ZIP_MEMORY_MIB - 2) * MIB).unwrap();
        let small = room(1).unwrap();
        assert!(room(2 * MIB).is_none());
        drop(small);
        assert!(room(2 * MIB).is_some());
        drop(first);
        let all = room(u64::MAX).unwrap();
        assert!(room(1).is_none());
        drop(all);
    }
}
