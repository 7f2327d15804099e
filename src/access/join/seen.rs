//! Which requests were seen before, by slots of about four minutes.

use std::collections::HashSet;

use super::super::book::{AccessBook, BookError, RowKey};
use super::super::row::AccessCounts;
use super::AsTheyAre;

/// How many requests of a slot wait until its ids are read. Late lines are few in each of many slots, and one look at the ids of a slot is
/// enough for all of them.
const MAX_WAITING: usize = 64;

/// A request that may have been seen before.
#[derive(Debug)]
pub(super) struct WaitingRequest {
    id: u64,
    pub(super) key: RowKey,
    pub(super) counts: AccessCounts,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It was not seen before.
    New,
    /// It was.
    Double,
    /// The database has ids of its slot that were not read.
    Unsure,
}

/// The ids of the requests of a slot.
#[derive(Debug)]
pub(super) struct SeenSlot {
    slot: i64,
    /// Those that are held, and all of the database if `is_loaded`.
    ids: HashSet<u64, AsTheyAre>,
    /// Those that the database does not have, once none waits.
    new: Vec<u64>,
    waiting: Vec<WaitingRequest>,
    is_loaded: bool,
}

impl SeenSlot {
    pub(super) fn new(slot: i64, book: &AccessBook) -> Result<Self, BookError> {
        Ok(Self {
            slot,
            ids: HashSet::default(),
            new: Vec::new(),
            waiting: Vec::new(),
            is_loaded: !book.has_seen(slot)?,
        })
    }

    /// Sees a request.
    pub(super) fn see(&mut self, id: u64) -> Sight {
        if !self.ids.insert(id) {
            return Sight::Double;
        }
        self.new.push(id);
        match self.is_loaded {
            true => Sight::New,
            false => Sight::Unsure,
        }
    }

    /// Keeps a request until [`resolve`](Self::resolve).
    pub(super) fn keep(&mut self, id: u64, key: RowKey, counts: AccessCounts) {
        self.waiting.push(WaitingRequest { id, key, counts });
    }

    pub(super) const fn has_many_waiting(&self) -> bool {
        self.waiting.len() > MAX_WAITING
    }

    /// Returns the requests that waited and are new, and the number of the others. With `keeps_ids`, the ids of the database stay in memory;
    /// returns their number, too.
    pub(super) fn resolve(
        &mut self,
        book: &AccessBook,
        keeps_ids: bool,
    ) -> Result<(Vec<WaitingRequest>, u64, usize), BookError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok((waiting, 0, 0));
        }
        let known = book.seen(self.slot)?;
        let doubles: HashSet<u64> = known
            .iter()
            .filter(|id| self.ids.contains(id))
            .copied()
            .collect();
        let all = waiting.len();
        waiting.retain(|request| !doubles.contains(&request.id));
        self.new.retain(|id| !doubles.contains(id));
        let held = match keeps_ids {
            true => known.len(),
            false => 0,
        };
        if keeps_ids {
            self.ids.extend(known);
            self.is_loaded = true;
        }
        let doubled = (all - waiting.len()) as u64;
        Ok((waiting, doubled, held))
    }

    /// The slot, and its ids that the database does not have.
    pub(super) fn into_new(self) -> (i64, Vec<u64>) {
        (self.slot, self.new)
    }
}
