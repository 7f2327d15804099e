//! Joins requests of access logs with the links of the audit log, each request once.

mod held;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU64;

use self::held::{HeldClients, HeldRequests, RequestIds};
use super::book::{AccessBook, Batch, BookError, FileMark};
use super::client::kept_address;
use super::identity::{LinkKey, TargetIds, TrailRequest, mix, request_hash, stir};
use super::known::{IssuedIds, KnownLinks};
use super::parse::{AccessLine, LogRequest, RequestSigning};
use super::row::RequestFacts;
use crate::bounds::{
    MAX_HELD_CLIENTS, MAX_HELD_FILE_MARKS, MAX_HELD_REQUESTS, MAX_HELD_TRAIL_REQUESTS,
};
use crate::config::AddressDetail;

/// A hasher of numbers that are hashes already, or slots.
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

    // Slots are numbers side by side: the upper bits, by which a table tells its entries apart, must differ, too.
    fn write_i64(&mut self, number: i64) {
        self.0 = stir(number.cast_unsigned());
    }
}

/// For tables of ids, which are hashes.
pub type AsTheyAre = BuildHasherDefault<AsItIs>;

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

/// How many requests wait until their links are looked up together.
const ASKED_TOGETHER: usize = 64;

/// A request with the id of a link, which may be any.
#[derive(Debug, Clone, Copy)]
struct WaitingRequest {
    link: LinkKey,
    open: Option<LinkKey>,
    /// The length of its key.
    key: usize,
    /// Whether it has the signature of a link.
    is_signed: bool,
    id: Option<NonZeroU64>,
    client: u32,
    facts: RequestFacts,
}

/// Joins the lines of any number of files.
#[derive(Debug)]
pub struct Joiner<'a> {
    known: &'a KnownLinks,
    origin_paths: &'a [String],
    privacy: ClientPrivacy,
    book: &'a mut AccessBook,
    asked: Vec<WaitingRequest>,
    /// Their keys, one after the other.
    asked_keys: String,
    requests: HeldRequests,
    clients: HeldClients,
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
            asked: Vec::new(),
            asked_keys: String::new(),
            requests: HeldRequests::default(),
            clients: HeldClients::new(),
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
        let ids = match request.status {
            400..500 => TargetIds::of_query(&request.query),
            _ => TargetIds::of_answered(&request.query),
        };
        let Some(link) = ids.link else {
            return Ok(());
        };
        let (id, host_id) = &request.ids;
        let asked = WaitingRequest {
            link,
            open: ids.open,
            key: request.key.len(),
            is_signed: request.signed != RequestSigning::NoLink && ids.is_signed,
            id: request_hash(id, host_id).and_then(NonZeroU64::new),
            client: self.client(request)?,
            facts: RequestFacts::of(request, ids.mangling, ids.ends),
        };
        self.asked.push(asked);
        self.asked_keys.push_str(&request.key);
        if self.asked.len() >= ASKED_TOGETHER {
            self.look_up();
        }
        Ok(())
    }

    /// Looks up the links of the requests that wait for it, and holds those that count.
    fn look_up(&mut self) {
        self.known.fetch(self.asked.iter().map(|asked| asked.link));
        let mut keys = self.asked_keys.as_str();
        for asked in self.asked.drain(..) {
            let (key, rest) = keys.split_at(asked.key);
            keys = rest;
            match self.known.link(asked.link, key, self.origin_paths) {
                IssuedIds::Issued if !asked.is_signed => self.counts.unsigned += 1,
                IssuedIds::Issued if asked.facts.at < self.privacy.since => self.counts.old += 1,
                IssuedIds::Issued => {
                    let open = asked.open.filter(|open| {
                        self.known.open(*open, key, self.origin_paths) == IssuedIds::Issued
                    });
                    let ids = RequestIds {
                        id: asked.id,
                        link: asked.link.0,
                        open: open.map_or(0, |open| open.0),
                        client: asked.client,
                    };
                    self.requests.push(ids, &asked.facts);
                }
                IssuedIds::OfAnotherKey => self.counts.forged += 1,
                IssuedIds::Unknown => self.counts.unknown += 1,
            }
        }
        self.asked_keys.clear();
    }

    fn client(&mut self, request: &LogRequest<'_>) -> Result<u32, BookError> {
        let day = request.at.div_euclid(86_400);
        let seed = match self.privacy.detail {
            // The hash of an address changes every day.
            AddressDetail::Keyed => day.cast_unsigned(),
            AddressDetail::None | AddressDetail::Network | AddressDetail::Full => 0,
        };
        let logged = self
            .clients
            .logged(seed, &request.address, &request.user_agent);
        if let Some(client) = self.clients.of(logged) {
            return Ok(client);
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
        Ok(self.clients.add(logged, net, &request.user_agent))
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
        self.requests.len() >= MAX_HELD_REQUESTS
            || self.clients.len() >= MAX_HELD_CLIENTS
            || self.trail.len() >= MAX_HELD_TRAIL_REQUESTS
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
        self.look_up();
        let mut batch = Batch {
            trail: std::mem::take(&mut self.trail),
            marks: std::mem::take(&mut self.marks),
            ..Batch::default()
        };
        // What cannot be written is read again, since its files have no marks.
        let mut counts = std::mem::take(&mut self.counts);
        for slot in self.requests.packed(&self.clients, self.book)? {
            counts.joined += slot.new;
            counts.doubles += slot.doubles;
            batch.parts.push((slot.slot, slot.part));
            batch.seen.push((slot.slot, slot.ids));
        }
        batch.totals = counts.totals();
        if self.clients.len() >= MAX_HELD_CLIENTS / 2 {
            self.clients = HeldClients::new();
        }
        self.book.write(&batch, self.privacy.now)?;
        self.written.add(&counts);
        Ok(())
    }
}

#[cfg(test)]
mod mutated;
#[cfg(test)]
mod tests;
