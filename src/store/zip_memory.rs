//! The memory for the bytes of files on their way into ZIPs. All jobs of a connection share it, so that a store that is silent keeps
//! the memory of its own jobs alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::MAX_ZIP_MEMORY_BYTES;

/// The unit in which memory is taken.
const UNIT: u64 = 1 << 20;

const UNITS: u32 = (MAX_ZIP_MEMORY_BYTES / UNIT) as u32;

/// The memory for the ZIPs of a connection. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct ZipMemory(Arc<Semaphore>);

/// Room for some bytes, until it is dropped.
#[derive(Debug)]
pub struct ZipRoom {
    _units: OwnedSemaphorePermit,
}

impl Default for ZipMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UNITS as usize)))
    }
}

impl ZipMemory {
    /// Waits for room for `bytes`; for more than there is, it is all of it. Those who wait are served in order.
    pub async fn room(&self, bytes: u64) -> ZipRoom {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(UNITS);
        let taking = Arc::clone(&self.0).acquire_many_owned(units.min(UNITS));
        let taken = taking.await;
        ZipRoom {
            _units: taken.expect("the semaphore is never closed"),
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
        let first = room(MAX_ZIP_MEMORY_BYTES - 2 * UNIT).unwrap();
        let small = room(1).unwrap();
        assert!(room(2 * UNIT).is_none());
        drop(small);
        assert!(room(2 * UNIT).is_some());
        drop(first);
        let all = room(u64::MAX).unwrap();
        assert!(room(1).is_none());
        drop(all);
    }
}
