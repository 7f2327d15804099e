//! What is held of requests until it is written: each request by itself, and the clients once.
//!
//! Nothing is looked up for a request but its client. Which requests were seen before, and which are of one row, is found for all of them
//! at once when they are written: sorting takes less than tables do, which miss the caches.

use std::collections::HashMap;
use std::num::NonZeroU64;

use super::super::book::{AccessBook, BookError, begin_of, slot_of};
use super::super::identity::{Mangling, mix};
use super::super::packed::PartWriter;
use super::super::row::{AccessCounts, RequestFacts, RequestOutcome};
use super::AsTheyAre;
use crate::bounds::MAX_LOGGED_AGENT_BYTES;
use crate::text::printable;

/// A request by a link of this installation. It is small, since a log has many.
#[derive(Debug, Clone, Copy)]
struct HeldRequest {
    id: Option<NonZeroU64>,
    link: u64,
    open: u64,
    bytes: u64,
    size: u64,
    client: u32,
    /// The number of its range among those of its slot, from 1.
    range: u32,
    /// The second within its slot.
    second: u8,
    outcome: RequestOutcome,
    mangling: Mangling,
}

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestIds {
    /// The ids that the store gave it; a request without them is always new.
    pub(super) id: Option<NonZeroU64>,
    pub(super) link: u64,
    /// The open; 0 for a link that the portal did not hand out.
    pub(super) open: u64,
    /// The number of the client.
    pub(super) client: u32,
}

/// The requests of a slot, and their ranges.
#[derive(Debug, Default)]
struct HeldSlot {
    requests: Vec<HeldRequest>,
    ranges: Vec<(u64, u64)>,
}

impl HeldSlot {
    fn facts(&self, slot: i64, request: &HeldRequest) -> RequestFacts {
        let range = request.range.checked_sub(1);
        RequestFacts {
            at: begin_of(slot) + i64::from(request.second),
            outcome: request.outcome,
            mangling: request.mangling,
            bytes: request.bytes,
            size: request.size,
            range: range.and_then(|range| self.ranges.get(range as usize).copied()),
        }
    }
}

/// Requests by links, by their slots.
#[derive(Debug, Default)]
pub(super) struct HeldRequests {
    slots: HashMap<i64, HeldSlot, AsTheyAre>,
    count: usize,
}

impl HeldRequests {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn push(&mut self, ids: RequestIds, facts: &RequestFacts) {
        let slot = slot_of(facts.at);
        let held = self.slots.entry(slot).or_default();
        held.ranges.extend(facts.range);
        let range = match facts.range {
            Some(_) => u32::try_from(held.ranges.len()).unwrap_or_default(),
            None => 0,
        };
        let RequestIds {
            id,
            link,
            open,
            client,
        } = ids;
        held.requests.push(HeldRequest {
            id,
            link,
            open,
            bytes: facts.bytes,
            size: facts.size,
            client,
            range,
            second: u8::try_from(facts.at - begin_of(slot)).unwrap_or_default(),
            outcome: facts.outcome,
            mangling: facts.mangling,
        });
        self.count += 1;
    }

    /// Packs the requests of each slot that were not seen before, and holds none any more.
    pub(super) fn packed(
        &mut self,
        clients: &HeldClients,
        book: &AccessBook,
    ) -> Result<Vec<SlotNews>, BookError> {
        self.count = 0;
        let mut slots: Vec<(i64, HeldSlot)> = self.slots.drain().collect();
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        let mut numbers = NumbersInPart::new(clients);
        let packed = slots.into_iter().map(|(slot, held)| {
            let (new, ids) = new_in(slot, &held.requests, book)?;
            Ok(SlotNews {
                slot,
                part: match new.is_empty() {
                    true => Vec::new(),
                    false => numbers.part(slot, &held, &new),
                },
                new: new.len() as u64,
                doubles: (held.requests.len() - new.len()) as u64,
                ids,
            })
        });
        packed.collect()
    }
}

/// A client as it is kept.
#[derive(Debug)]
struct HeldClient {
    net: Option<Box<str>>,
    /// The number of what it calls itself.
    agent: u32,
}

/// Clients, by numbers in their order.
#[derive(Debug)]
pub(super) struct HeldClients {
    /// The seed of the hashes of clients. Clients choose their own names, and without the seed a client cannot find two that have the same hash.
    seed: u64,
    /// By a hash of what the log says.
    by_logged: HashMap<u64, u32, AsTheyAre>,
    /// By a hash of what is kept.
    by_kept: HashMap<u64, u32, AsTheyAre>,
    clients: Vec<HeldClient>,
    agents: Vec<Box<str>>,
    /// By a hash of what they call themselves.
    by_agent: HashMap<u64, u32, AsTheyAre>,
    /// By a hash of what is kept of that.
    by_shown: HashMap<u64, u32, AsTheyAre>,
}

impl HeldClients {
    pub(super) fn new() -> Self {
        Self {
            // Without random bytes, the hashes are those of any run.
            seed: getrandom::u64().unwrap_or_default(),
            by_logged: HashMap::default(),
            by_kept: HashMap::default(),
            clients: Vec::new(),
            agents: Vec::new(),
            by_agent: HashMap::default(),
            by_shown: HashMap::default(),
        }
    }

    /// How many addresses and names the log had.
    pub(super) fn len(&self) -> usize {
        self.by_logged.len()
    }

    /// The hash of what a log says of a client, on a day if that counts.
    pub(super) fn logged(&self, day: u64, address: &str, agent: &str) -> u64 {
        let seed = self.seed ^ day.rotate_left(32);
        mix(mix(seed, address.as_bytes()), agent.as_bytes())
    }

    /// The number of a client that was added.
    pub(super) fn of(&self, logged: u64) -> Option<u32> {
        self.by_logged.get(&logged).copied()
    }

    /// Adds a client, and returns its number. Several addresses may be of the same network.
    pub(super) fn add(&mut self, logged: u64, net: Option<String>, agent: &str) -> u32 {
        let of_agent = mix(self.seed, agent.as_bytes());
        let agent = *self.by_agent.entry(of_agent).or_insert_with(|| {
            let shown = printable(agent, MAX_LOGGED_AGENT_BYTES);
            // Two names may be the same when they are shown.
            let of_shown = mix(self.seed ^ 1, shown.as_bytes());
            *self.by_shown.entry(of_shown).or_insert_with(|| {
                self.agents.push(shown.into());
                number_of_last(self.agents.len())
            })
        });
        let text = net.as_deref().unwrap_or_default();
        let kept = mix(self.seed ^ u64::from(agent), text.as_bytes());
        let client = *self.by_kept.entry(kept).or_insert_with(|| {
            let net = net.map(Into::into);
            self.clients.push(HeldClient { net, agent });
            number_of_last(self.clients.len())
        });
        self.by_logged.insert(logged, client);
        client
    }
}

fn number_of_last(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX) - 1
}

/// What is written of a slot.
#[derive(Debug)]
pub(super) struct SlotNews {
    pub(super) slot: i64,
    /// The rows, packed.
    pub(super) part: Vec<u8>,
    /// The ids of the requests that have any, in their order.
    pub(super) ids: Vec<u64>,
    /// How many requests are new.
    pub(super) new: u64,
    /// How many were seen before.
    pub(super) doubles: u64,
}

/// The numbers of the requests of a slot that were not seen before, in no order, and the ids of those that have one.
fn new_in(
    slot: i64,
    of_slot: &[HeldRequest],
    book: &AccessBook,
) -> Result<(Vec<u32>, Vec<u64>), BookError> {
    let mut ids = Vec::with_capacity(of_slot.len());
    let mut new = Vec::new();
    for (request, number) in of_slot.iter().zip(0_u32..) {
        match request.id {
            Some(id) => ids.push((id.get(), number)),
            None => new.push(number),
        }
    }
    ids.sort_unstable();
    ids.dedup_by_key(|(id, _)| *id);
    book.seen_parts(slot, |seen| remove_seen(&mut ids, seen))?;
    new.extend(ids.iter().map(|(_, number)| number));
    let ids = ids.into_iter().map(|(id, _)| id).collect();
    Ok((new, ids))
}

/// Removes ids that are among others. Both are in their order, and one of them may be much longer.
fn remove_seen(ids: &mut Vec<(u64, u32)>, seen: &[[u8; 8]]) {
    let mut rest = seen;
    ids.retain(|(id, _)| {
        let is_before = |seen: &[u8; 8]| u64::from_le_bytes(*seen) < *id;
        let mut step = 1;
        while rest.get(step).is_some_and(is_before) {
            step *= 2;
        }
        let near = &rest[..rest.len().min(step)];
        rest = &rest[near.partition_point(is_before)..];
        rest.first() != Some(&id.to_le_bytes())
    });
}

/// The numbers that clients and agents have in the part that is made.
struct NumbersInPart<'a> {
    held: &'a HeldClients,
    /// The count of the part in which the client or the agent was met last, and its number there.
    clients: Vec<(u32, u32)>,
    agents: Vec<(u32, u32)>,
    part: u32,
}

impl<'a> NumbersInPart<'a> {
    fn new(held: &'a HeldClients) -> Self {
        Self {
            held,
            clients: vec![(0, 0); held.clients.len()],
            agents: vec![(0, 0); held.agents.len()],
            part: 0,
        }
    }

    /// Packs requests of a slot, by their numbers.
    fn part(&mut self, slot: i64, held: &HeldSlot, requests: &[u32]) -> Vec<u8> {
        self.part += 1;
        let mut writer = PartWriter::new(slot);
        let request = |number: u32| &held.requests[number as usize];
        let mut links: Vec<(u64, u32)> = requests
            .iter()
            .map(|number| (request(*number).link, *number))
            .collect();
        // Links first, which few requests share: more is compared for those alone.
        links.sort_unstable();
        for of_link in links.chunk_by_mut(|a, b| a.0 == b.0) {
            let row = |(_, number): (u64, u32)| (request(number).open, request(number).client);
            of_link.sort_by_key(|request| row(*request));
            for of_row in of_link.chunk_by(|a, b| row(*a) == row(*b)) {
                let mut counts = AccessCounts::default();
                for (_, number) in of_row {
                    counts.add_request(&held.facts(slot, request(*number)));
                }
                let (open, client) = row(of_row[0]);
                let client = self.client(client, &mut writer);
                writer.row((of_row[0].0, open), client, &counts);
            }
        }
        writer.finish()
    }

    fn client(&mut self, client: u32, writer: &mut PartWriter) -> u32 {
        let (part, number) = self.clients[client as usize];
        if part == self.part {
            return number;
        }
        let kept = &self.held.clients[client as usize];
        let agent = &mut self.agents[kept.agent as usize];
        if agent.0 != self.part {
            let text = &self.held.agents[kept.agent as usize];
            *agent = (self.part, writer.agent(text));
        }
        let number = writer.client(kept.net.as_deref(), agent.1);
        self.clients[client as usize] = (self.part, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_that_were_seen_are_removed(new in proptest::collection::btree_set(0..300_u64, 0..40), seen in proptest::collection::btree_set(0..300_u64, 0..200)) {
            let mut ids: Vec<(u64, u32)> = new.iter().map(|id| (*id, 7)).collect();
            let bytes: Vec<[u8; 8]> = seen.iter().map(|id| id.to_le_bytes()).collect();
            remove_seen(&mut ids, &bytes);
            let left: Vec<u64> = ids.into_iter().map(|(id, _)| id).collect();
            let expected: Vec<u64> = new.difference(&seen).copied().collect();
            prop_assert_eq!(left, expected);
        }
    }
}
