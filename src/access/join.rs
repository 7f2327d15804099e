//! Joins requests of access logs with the links of the audit log, each request once.

mod seen;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use self::seen::{SeenSlot, Sight};
use super::book::{AccessBook, Batch, BookError, FileMark, RowKey, slot_of};
use super::client::kept_address;
use super::identity::{TargetIds, TrailRequest, mix, request_hash};
use super::known::{IssuedIds, KnownLinks};
use super::parse::{AccessLine, LogRequest, RequestSigning};
use super::row::AccessCounts;
use crate::bounds::{
    MAX_HELD_ACCESS_ROWS, MAX_HELD_CLIENTS, MAX_HELD_FILE_MARKS, MAX_HELD_REQUEST_IDS,
    MAX_LOGGED_AGENT_BYTES, MIN_NEW_REQUEST_IDS,
};
use crate::config::AddressDetail;
use crate::text::printable;

/// A hasher of numbers that are hashes already.
#[derive(Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = mix(self.0, bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type AsTheyAre = BuildHasherDefault<AsItIs>;

/// How many lines were of what kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct ReadCounts {
    /// All lines.
    pub lines: u64,
    /// Requests by links of this installation.
    pub joined: u64,
    /// Requests that another line had already.
    pub doubles: u64,
    /// Requests with an id that the audit log does not have.
    pub unknown: u64,
    /// Requests with an id that was issued for another key.
    pub forged: u64,
    /// Requests with an id, and without the signature of a link.
    pub unsigned: u64,
    /// Lines that do not fit their format, or are too long.
    pub malformed: u64,
    /// Requests that are older than what is kept.
    pub old: u64,
    /// Requests by presigned URLs that CloudTrail has: evidence of what access logs lost, and no opens.
    pub trail: u64,
}

impl ReadCounts {
    fn totals(&self) -> Vec<(&'static str, u64)> {
        let Self {
            lines,
            joined,
            doubles,
            unknown,
            forged,
            unsigned,
            malformed,
            old,
            trail,
        } = *self;
        vec![
            ("lines", lines),
            ("joined", joined),
            ("doubles", doubles),
            ("unknown", unknown),
            ("forged", forged),
            ("unsigned", unsigned),
            ("malformed", malformed),
            ("old", old),
            ("trail", trail),
        ]
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.joined += other.joined;
        self.doubles += other.doubles;
        self.unknown += other.unknown;
        self.forged += other.forged;
        self.unsigned += other.unsigned;
        self.malformed += other.malformed;
        self.old += other.old;
        self.trail += other.trail;
    }
}

/// What is kept of clients.
#[derive(Debug, Clone, Copy)]
pub struct ClientPrivacy {
    /// How much of an address is kept.
    pub detail: AddressDetail,
    /// Now, in seconds since 1970.
    pub now: i64,
    /// Requests before this instant are not kept, in seconds since 1970.
    pub since: i64,
}

/// Joins the lines of any number of files.
#[derive(Debug)]
pub struct Joiner<'a> {
    known: &'a KnownLinks,
    origin_paths: &'a [String],
    privacy: ClientPrivacy,
    book: &'a mut AccessBook,
    rows: HashMap<RowKey, AccessCounts>,
    seen: HashMap<i64, SeenSlot>,
    /// How many ids are held: those of the database that were read, and new ones.
    held_ids: usize,
    new_ids: usize,
    /// How many requests wait in slots.
    waiting: usize,
    /// The ids of clients, by a hash of what the log says.
    clients: HashMap<u64, i64, AsTheyAre>,
    new_clients: Vec<(i64, Option<String>, String)>,
    day_keys: HashMap<i64, Option<[u8; 32]>>,
    trail: Vec<TrailRequest>,
    /// How far the files were read from which comes what is held.
    marks: Vec<(String, FileMark)>,
    counts: ReadCounts,
    written: ReadCounts,
}

impl<'a> Joiner<'a> {
    /// A joiner that writes into `book`.
    pub fn new(
        known: &'a KnownLinks,
        origin_paths: &'a [String],
        privacy: ClientPrivacy,
        book: &'a mut AccessBook,
    ) -> Self {
        Self {
            known,
            origin_paths,
            privacy,
            book,
            rows: HashMap::new(),
            seen: HashMap::new(),
            held_ids: 0,
            new_ids: 0,
            waiting: 0,
            clients: HashMap::default(),
            new_clients: Vec::new(),
            day_keys: HashMap::new(),
            trail: Vec::new(),
            marks: Vec::new(),
            counts: ReadCounts::default(),
            written: ReadCounts::default(),
        }
    }

    /// How far a file was read.
    pub fn mark(&self, name: &str) -> Result<Option<FileMark>, BookError> {
        let held = self.marks.iter().rfind(|(known, _)| known == name);
        match held {
            Some((_, mark)) => Ok(Some(*mark)),
            None => self.book.mark(name),
        }
    }

    /// What was read so far.
    pub fn counts(&self) -> ReadCounts {
        let mut counts = self.written;
        counts.add(&self.counts);
        counts
    }

    /// Takes a line that is too long to be read.
    pub const fn take_long(&mut self) {
        self.counts.lines += 1;
        self.counts.malformed += 1;
    }

    /// Takes an event of CloudTrail, with its request if it is one by a presigned URL.
    pub fn take_trail(&mut self, request: Option<TrailRequest>) {
        self.counts.lines += 1;
        match request {
            Some(request) if request.at < self.privacy.since => self.counts.old += 1,
            Some(request) => {
                self.counts.trail += 1;
                self.trail.push(request);
            }
            None => {}
        }
    }

    /// Takes a line.
    pub fn take(&mut self, line: AccessLine<'_>) -> Result<(), BookError> {
        self.counts.lines += 1;
        match line {
            AccessLine::Other => Ok(()),
            AccessLine::Malformed => {
                self.counts.malformed += 1;
                Ok(())
            }
            AccessLine::Request(request) => self.join(&request),
        }
    }

    fn join(&mut self, request: &LogRequest<'_>) -> Result<(), BookError> {
        let ids = TargetIds::of_query(&request.query);
        let Some(link) = ids.link else {
            return Ok(());
        };
        match self.known.link(link, &request.key, self.origin_paths) {
            IssuedIds::Issued => {}
            IssuedIds::OfAnotherKey => {
                self.counts.forged += 1;
                return Ok(());
            }
            IssuedIds::Unknown => {
                self.counts.unknown += 1;
                return Ok(());
            }
        }
        if request.signed == RequestSigning::NoLink || !ids.is_signed {
            self.counts.unsigned += 1;
            return Ok(());
        }
        if request.at < self.privacy.since {
            self.counts.old += 1;
            return Ok(());
        }
        let slot = slot_of(request.at);
        let open = ids.open.filter(|open| {
            self.known.open(*open, &request.key, self.origin_paths) == IssuedIds::Issued
        });
        let key = RowKey {
            slot,
            link: link.0,
            open: open.map_or(0, |open| open.0),
            client: self.client(request)?,
        };
        let counts = AccessCounts::of(request, ids.mangling, ids.ends);
        let (id, host_id) = &request.ids;
        match request_hash(id, host_id) {
            Some(id) => self.see(id, key, counts),
            // A line without ids of its request is always new.
            None => {
                self.add(key, &counts);
                Ok(())
            }
        }
    }

    fn add(&mut self, key: RowKey, counts: &AccessCounts) {
        self.counts.joined += 1;
        self.rows.entry(key).or_default().add(counts);
    }

    /// Adds a request that was not seen before.
    fn see(&mut self, id: u64, key: RowKey, counts: AccessCounts) -> Result<(), BookError> {
        let slot = match self.seen.entry(key.slot) {
            std::collections::hash_map::Entry::Occupied(slot) => slot.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(SeenSlot::new(key.slot, self.book)?)
            }
        };
        self.held_ids += 1;
        self.new_ids += 1;
        match slot.see(id) {
            Sight::New => self.add(key, &counts),
            Sight::Double => self.counts.doubles += 1,
            Sight::Unsure => {
                slot.keep(id, key, counts);
                self.waiting += 1;
                if slot.has_many_waiting() {
                    self.resolve(key.slot, true)?;
                }
            }
        }
        Ok(())
    }

    /// Adds those of the requests that wait in a slot that were not seen before.
    fn resolve(&mut self, slot: i64, keeps_ids: bool) -> Result<(), BookError> {
        let Some(seen) = self.seen.get_mut(&slot) else {
            return Ok(());
        };
        let (new, doubles, held) = seen.resolve(self.book, keeps_ids)?;
        self.held_ids += held;
        self.counts.doubles += doubles;
        self.waiting = self
            .waiting
            .saturating_sub(new.len() + usize::try_from(doubles).unwrap_or(usize::MAX));
        for request in new {
            self.add(request.key, &request.counts);
        }
        Ok(())
    }

    fn client(&mut self, request: &LogRequest<'_>) -> Result<i64, BookError> {
        let day = request.at.div_euclid(86_400);
        let seed = match self.privacy.detail {
            // The hash of an address changes every day.
            AddressDetail::Keyed => day.cast_unsigned(),
            AddressDetail::None | AddressDetail::Network | AddressDetail::Full => 0,
        };
        let logged = mix(
            mix(seed, request.address.as_bytes()),
            request.user_agent.as_bytes(),
        );
        if let Some(id) = self.clients.get(&logged) {
            return Ok(*id);
        }
        let net = match self.privacy.detail {
            AddressDetail::None => None,
            AddressDetail::Keyed => {
                let key = self.day_key(day)?;
                key.and_then(|key| kept_address(&request.address, AddressDetail::Keyed, &key))
            }
            detail @ (AddressDetail::Network | AddressDetail::Full) => {
                kept_address(&request.address, detail, &[0; 32])
            }
        };
        let agent = printable(&request.user_agent, MAX_LOGGED_AGENT_BYTES).into_owned();
        let id = mix(
            mix(1, net.as_deref().unwrap_or_default().as_bytes()),
            agent.as_bytes(),
        );
        let id = id.cast_signed();
        self.clients.insert(logged, id);
        self.new_clients.push((id, net, agent));
        Ok(id)
    }

    fn day_key(&mut self, day: i64) -> Result<Option<[u8; 32]>, BookError> {
        if let Some(key) = self.day_keys.get(&day) {
            return Ok(*key);
        }
        let mut fresh = [0; 32];
        let key = match getrandom::fill(&mut fresh) {
            Ok(()) => self
                .book
                .day_key(day, self.privacy.now.div_euclid(86_400), fresh)?,
            Err(_) => None,
        };
        self.day_keys.insert(day, key);
        Ok(key)
    }

    /// Whether so much is held that it must be written.
    pub fn is_full(&self) -> bool {
        self.rows.len() + self.waiting >= MAX_HELD_ACCESS_ROWS
            // The ids of one slot may be as many: scanners fetch the links of a large mailing within a minute.
            || self.held_ids >= MAX_HELD_REQUEST_IDS && self.new_ids >= MIN_NEW_REQUEST_IDS
            || self.clients.len() >= MAX_HELD_CLIENTS
            || self.trail.len() >= MAX_HELD_REQUEST_IDS
            || self.marks.len() >= MAX_HELD_FILE_MARKS
    }

    /// Holds how far a file was read, and writes if much is held. What of many small files is held is written at once: each slot of
    /// requests is read and written once, and not once for each file.
    pub fn hold(&mut self, mark: (String, FileMark)) -> Result<(), BookError> {
        self.marks.push(mark);
        match self.is_full() {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Writes what is held, and how far the files were read from which it comes.
    pub fn write(&mut self) -> Result<(), BookError> {
        let mut slots: Vec<i64> = self.seen.keys().copied().collect();
        slots.sort_unstable();
        for slot in &slots {
            self.resolve(*slot, false)?;
        }
        let mut rows: Vec<_> = self.rows.drain().collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        let seen = slots.iter().filter_map(|slot| self.seen.remove(slot));
        let seen = seen
            .map(SeenSlot::into_new)
            .filter(|(_, new)| !new.is_empty());
        let seen = seen.collect();
        (self.held_ids, self.new_ids) = (0, 0);
        self.waiting = 0;
        let batch = Batch {
            rows,
            clients: std::mem::take(&mut self.new_clients),
            trail: std::mem::take(&mut self.trail),
            seen,
            marks: std::mem::take(&mut self.marks),
            totals: self.counts.totals(),
        };
        self.clients.clear();
        self.book.write(&batch, self.privacy.now)?;
        self.written.add(&self.counts);
        self.counts = ReadCounts::default();
        Ok(())
    }
}

#[cfg(test)]
mod mutated;
#[cfg(test)]
mod tests;
