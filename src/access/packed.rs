//! Rows of a slot as bytes: a part, which has all clients that its rows name, so that it goes with its slot and nothing else has to be kept.
//!
//! Numbers are in LEB128, and those that are 0 are left out. Parts are not changed: what is read later is another part of the same slot,
//! and the counts of both add up in any order.

use std::collections::HashMap;

use super::book::begin_of;
use super::client::client_id;
use super::identity::Mangling;
use super::row::AccessCounts;

/// A part that does not have the form of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rows of a slot do not have the form of rows")]
pub(super) struct DamagedPart;

/// How many numbers a row may have.
const NUMBERS: usize = 18;

/// The bit of a row with an open, and that of one with ranges.
const HAS_OPEN: u64 = 1 << NUMBERS;
const HAS_RANGES: u64 = 1 << (NUMBERS + 1);

/// The numbers of a row, those that are rarely 0 first. A number that is mostly the same as another is written as its difference from it.
fn numbers_of(counts: &AccessCounts) -> [u64; NUMBERS] {
    [
        counts.whole,
        counts.longest,
        counts.parts,
        counts.bytes ^ counts.longest,
        counts.size ^ counts.longest,
        counts.requests.wrapping_sub(1),
        counts.last.wrapping_sub(counts.first).cast_unsigned(),
        counts.short,
        counts.peeks,
        counts.heads,
        counts.unchanged,
        counts.late,
        counts.died,
        counts.mangled,
        counts.denied,
        counts.gone,
        counts.failed,
        counts.mangling.0.into(),
    ]
}

fn counts_of(first: i64, numbers: [u64; NUMBERS]) -> AccessCounts {
    let [
        whole,
        longest,
        parts,
        bytes,
        size,
        requests,
        lasts,
        short,
        peeks,
        heads,
        unchanged,
        late,
        died,
        mangled,
        denied,
        gone,
        failed,
        mangling,
    ] = numbers;
    AccessCounts {
        first,
        last: first.wrapping_add(lasts.cast_signed()),
        requests: requests.wrapping_add(1),
        whole,
        short,
        longest,
        parts,
        peeks,
        bytes: bytes ^ longest,
        size: size ^ longest,
        heads,
        unchanged,
        late,
        died,
        mangled,
        denied,
        gone,
        failed,
        mangling: Mangling(u8::try_from(mangling).unwrap_or_default()),
        ranges: Vec::new(),
    }
}

/// Makes a part. An agent is added before its clients, and a client before its rows.
#[derive(Debug)]
pub(super) struct PartWriter {
    begin: i64,
    agents: Vec<u8>,
    agent_count: u32,
    clients: Vec<u8>,
    client_count: u32,
    rows: Vec<u8>,
    row: Vec<u8>,
}

impl PartWriter {
    pub(super) const fn new(slot: i64) -> Self {
        Self {
            begin: begin_of(slot),
            agents: Vec::new(),
            agent_count: 0,
            clients: Vec::new(),
            client_count: 0,
            rows: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Adds what a client calls itself, and returns its number.
    pub(super) fn agent(&mut self, agent: &str) -> u32 {
        push(&mut self.agents, agent.len() as u64);
        self.agents.extend_from_slice(agent.as_bytes());
        self.agent_count += 1;
        self.agent_count - 1
    }

    /// Adds a client with the number of its agent, and returns its number.
    pub(super) fn client(&mut self, net: Option<&str>, agent: u32) -> u32 {
        push(&mut self.clients, agent.into());
        push(&mut self.clients, net.map_or(0, |net| net.len() as u64 + 1));
        self.clients
            .extend_from_slice(net.unwrap_or_default().as_bytes());
        self.client_count += 1;
        self.client_count - 1
    }

    /// Adds a row.
    pub(super) fn row(&mut self, (link, open): (u64, u64), client: u32, counts: &AccessCounts) {
        let row = &mut self.row;
        row.clear();
        push(row, client.into());
        let numbers = numbers_of(counts);
        let mut present = 0;
        for (number, bit) in numbers.iter().zip(0_u32..) {
            present |= u64::from(*number != 0) << bit;
        }
        present |= if open == 0 { 0 } else { HAS_OPEN };
        present |= if counts.ranges.is_empty() {
            0
        } else {
            HAS_RANGES
        };
        push(row, present);
        push(row, counts.first.wrapping_sub(self.begin).cast_unsigned());
        for number in numbers.into_iter().filter(|number| *number != 0) {
            push(row, number);
        }
        if open != 0 {
            row.extend_from_slice(&open.to_le_bytes());
        }
        if !counts.ranges.is_empty() {
            push(row, counts.ranges.len() as u64);
            for (first, last) in &counts.ranges {
                push(row, *first);
                push(row, last.wrapping_sub(*first));
            }
        }
        self.rows.extend_from_slice(&link.to_le_bytes());
        push(&mut self.rows, self.row.len() as u64);
        self.rows.extend_from_slice(&self.row);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let room = self.agents.len() + self.clients.len() + self.rows.len() + 10;
        let mut part = Vec::with_capacity(room);
        push(&mut part, self.agent_count.into());
        part.extend_from_slice(&self.agents);
        push(&mut part, self.client_count.into());
        part.extend_from_slice(&self.clients);
        part.extend_from_slice(&self.rows);
        part
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_byte(number));
}

const fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// A row of a part.
#[derive(Debug)]
pub(super) struct PackedRow<'a> {
    pub(super) link: u64,
    pub(super) open: u64,
    pub(super) net: Option<&'a str>,
    pub(super) agent: &'a str,
    pub(super) counts: AccessCounts,
}

/// Reads a part.
#[derive(Debug)]
pub(super) struct PartReader<'a> {
    begin: i64,
    clients: Vec<(Option<&'a str>, &'a str)>,
    rows: PartBytes<'a>,
}

impl<'a> PartReader<'a> {
    pub(super) fn new(slot: i64, part: &'a [u8]) -> Result<Self, DamagedPart> {
        let mut bytes = PartBytes(part);
        let mut agents = Vec::new();
        for _ in 0..bytes.number()? {
            let length = bytes.number()?;
            agents.push(bytes.text(length)?);
        }
        let mut clients = Vec::new();
        for _ in 0..bytes.number()? {
            let agent = usize::try_from(bytes.number()?).ok();
            let agent = agent
                .and_then(|agent| agents.get(agent))
                .ok_or(DamagedPart)?;
            let net = match bytes.number()? {
                0 => None,
                length => Some(bytes.text(length - 1)?),
            };
            clients.push((net, *agent));
        }
        Ok(Self {
            begin: begin_of(slot),
            clients,
            rows: bytes,
        })
    }

    /// The next row of a link that is wanted.
    pub(super) fn next(
        &mut self,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> Result<Option<PackedRow<'a>>, DamagedPart> {
        while !self.rows.0.is_empty() {
            let link = self.rows.bits()?;
            let length = self.rows.number()?;
            let row = self.rows.take(length)?;
            if wanted(link) {
                return self.row(link, PartBytes(row)).map(Some);
            }
        }
        Ok(None)
    }

    fn row(&self, link: u64, mut row: PartBytes<'a>) -> Result<PackedRow<'a>, DamagedPart> {
        let client = usize::try_from(row.number()?).ok();
        let (net, agent) = client
            .and_then(|client| self.clients.get(client))
            .ok_or(DamagedPart)?;
        let present = row.number()?;
        let first = self.begin.wrapping_add(row.number()?.cast_signed());
        let mut numbers = [0; NUMBERS];
        for (number, bit) in numbers.iter_mut().zip(0_u32..) {
            if present >> bit & 1 != 0 {
                *number = row.number()?;
            }
        }
        let open = match present & HAS_OPEN {
            0 => 0,
            _ => row.bits()?,
        };
        let mut counts = counts_of(first, numbers);
        if present & HAS_RANGES != 0 {
            for _ in 0..row.number()? {
                let begin = row.number()?;
                counts.add_range((begin, begin.saturating_add(row.number()?)));
            }
        }
        Ok(PackedRow {
            link,
            open,
            net: *net,
            agent,
            counts,
        })
    }
}

/// What was not read of a part yet.
#[derive(Debug)]
struct PartBytes<'a>(&'a [u8]);

impl<'a> PartBytes<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], DamagedPart> {
        let length = usize::try_from(length).map_err(|_| DamagedPart)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DamagedPart)?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self, length: u64) -> Result<&'a str, DamagedPart> {
        std::str::from_utf8(self.take(length)?).map_err(|_| DamagedPart)
    }

    fn bits(&mut self) -> Result<u64, DamagedPart> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DamagedPart)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn number(&mut self) -> Result<u64, DamagedPart> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(DamagedPart)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DamagedPart)
    }
}

/// Several parts of a slot as one.
pub(super) fn merged(slot: i64, parts: &[Vec<u8>]) -> Result<Vec<u8>, DamagedPart> {
    let mut rows = Vec::new();
    for part in parts {
        let mut reader = PartReader::new(slot, part)?;
        while let Some(row) = reader.next(|_| true)? {
            rows.push((row.link, row.open, client_id(row.net, row.agent), row));
        }
    }
    rows.sort_unstable_by_key(|(link, open, client, _)| (*link, *open, *client));
    let mut writer = PartWriter::new(slot);
    let mut agents: HashMap<&str, u32> = HashMap::new();
    let mut clients: HashMap<u64, u32> = HashMap::new();
    for same in rows.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2)) {
        let (link, open, client, row) = &same[0];
        let client = *clients.entry(*client).or_insert_with(|| {
            let agent = agents.entry(row.agent);
            let agent = *agent.or_insert_with(|| writer.agent(row.agent));
            writer.client(row.net, agent)
        });
        match same.len() {
            1 => writer.row((*link, *open), client, &row.counts),
            _ => {
                let mut counts = AccessCounts::default();
                same.iter()
                    .for_each(|(_, _, _, row)| counts.add(&row.counts));
                writer.row((*link, *open), client, &counts);
            }
        }
    }
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = ((u64, u64), (Option<String>, String), AccessCounts);

    fn counts() -> impl Strategy<Value = AccessCounts> {
        let number = || prop_oneof![Just(0), 0..300_u64, any::<u64>()];
        let range = (0..1_000_u64, 0..100_u64).prop_map(|(first, length)| (first, first + length));
        (
            any::<i64>(),
            proptest::collection::vec(number(), NUMBERS),
            proptest::collection::vec(range, 0..4),
        )
            .prop_map(|(first, numbers, ranges)| {
                let mut numbers: [u64; NUMBERS] = numbers.try_into().unwrap();
                numbers[NUMBERS - 1] &= 0xff;
                let mut counts = counts_of(first, numbers);
                ranges.into_iter().for_each(|range| counts.add_range(range));
                counts
            })
    }

    fn row() -> impl Strategy<Value = Row> {
        let client = (proptest::option::of("[a-c]{1,2}"), "[x-yü]{0,2}");
        (
            (0..4_u64, prop_oneof![Just(0), any::<u64>()]),
            client,
            counts(),
        )
    }

    fn part_of(slot: i64, rows: &[Row]) -> Vec<u8> {
        let mut writer = PartWriter::new(slot);
        for (ids, (net, agent), counts) in rows {
            let agent = writer.agent(agent);
            let client = writer.client(net.as_deref(), agent);
            writer.row(*ids, client, counts);
        }
        writer.finish()
    }

    fn rows_of(slot: i64, part: &[u8]) -> Vec<Row> {
        let mut reader = PartReader::new(slot, part).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = reader.next(|_| true).unwrap() {
            let client = (row.net.map(str::to_owned), row.agent.to_owned());
            rows.push(((row.link, row.open), client, row.counts));
        }
        rows
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_again(slot in any::<i32>(), rows in proptest::collection::vec(row(), 0..8)) {
            let slot = slot.into();
            let part = part_of(slot, &rows);
            prop_assert_eq!(&rows_of(slot, &part), &rows);
            let mut reader = PartReader::new(slot, &part).unwrap();
            let mut some = 0;
            while reader.next(|link| link == 1).unwrap().is_some() {
                some += 1;
            }
            prop_assert_eq!(some, rows.iter().filter(|row| row.0.0 == 1).count());
        }

        #[test]
        fn parts_that_are_merged_say_the_same(parts in proptest::collection::vec(proptest::collection::vec(row(), 0..6), 0..4)) {
            let added = |rows: Vec<Row>| {
                let mut all = std::collections::BTreeMap::<_, AccessCounts>::new();
                for (ids, client, counts) in rows {
                    all.entry((ids, client)).or_default().add(&counts);
                }
                all
            };
            let packed: Vec<Vec<u8>> = parts.iter().map(|rows| part_of(7, rows)).collect();
            let rows = rows_of(7, &merged(7, &packed).unwrap());
            let count = rows.len();
            let rows = added(rows);
            prop_assert_eq!(count, rows.len(), "each row is there once");
            prop_assert_eq!(rows, added(parts.concat()));
        }

        #[test]
        fn damage_is_an_error_or_other_rows_and_no_panic(rows in proptest::collection::vec(row(), 0..4), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut part = part_of(7, &rows);
            let at = at.index(part.len());
            part[at] = byte;
            for part in [&part[..], &part[..at]] {
                if let Ok(mut reader) = PartReader::new(7, part) {
                    while let Ok(Some(_)) = reader.next(|_| true) {}
                }
            }
        }
    }
}
