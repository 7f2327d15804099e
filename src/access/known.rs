//! The ids of links and opens that this installation issued, from its audit log, in 16 bytes each.
//!
//! An access log may have any id: a stranger can request an URL with an id of their own. Only an id of the audit log counts, and only
//! in a request for the key that its line names.

use std::io;

use memchr::memmem::Finder;

use super::identity::{ANY_KEY, LinkKey, NO_KEY, is_key, key_hash, stir};
use crate::audit::find::{LinkQuery, find};
use crate::audit::source::LogSource;
use crate::bounds::MAX_KNOWN_LINKS;

/// An id and the hash of its key, in 12 bytes side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KnownId {
    /// The upper and the lower half of the id, [`stirred`](stir).
    id: [u32; 2],
    key: u32,
}

impl KnownId {
    /// A place without an id.
    const NONE: Self = Self {
        id: [0; 2],
        key: NO_KEY,
    };

    fn new(id: u64, key: u32) -> Self {
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or_default();
        let id = [half(id >> 32), half(id)];
        Self { id, key }
    }

    fn id(self) -> u64 {
        u64::from(self.id[0]) << 32 | u64::from(self.id[1])
    }
}

/// How many places there are for each three ids.
const PLACES: u64 = 4;

/// Ids in their order, each at the place where it belongs among all 64-bit numbers, or at the first one behind it that is not taken.
///
/// Each line of a log looks for one among millions, and waits for memory: the place is computed, and what is looked at is side by side.
#[derive(Debug, Default)]
struct IdTable {
    places: Vec<KnownId>,
    count: usize,
}

impl IdTable {
    fn new(mut entries: Vec<(u64, u32)>) -> Self {
        // The text of an id may be chosen, such as a number that counts up: stirred, ids are spread evenly.
        for (id, _) in &mut entries {
            *id = stir(*id);
        }
        entries.sort_unstable();
        entries.dedup();
        let count = entries.len();
        let width = width_of(count);
        let mut places = Vec::with_capacity(usize::try_from(width).unwrap_or(count) + count / 16);
        for (id, key) in entries {
            let place = place_of(id, width);
            if places.len() < place {
                places.resize(place, KnownId::NONE);
            }
            places.push(KnownId::new(id, key));
        }
        Self { places, count }
    }

    /// The hashes of the keys of an id; none for an unknown id.
    fn keys_of(&self, id: u64) -> impl Iterator<Item = u32> + Clone {
        let id = stir(id);
        let near = self.places[self.first_place(id)..].iter();
        near.take_while(move |known| known.key != NO_KEY && known.id() <= id)
            .filter(move |known| known.id() == id)
            .map(|known| known.key)
    }

    /// The first place where a stirred id may be.
    fn first_place(&self, id: u64) -> usize {
        place_of(id, width_of(self.count)).min(self.places.len())
    }

    /// Has the memory of all ids fetched at once: each is waited for about as long as the rest of its line takes.
    fn fetch(&self, ids: impl Iterator<Item = u64>) {
        let keys = ids.map(|id| {
            let place = self.first_place(stir(id));
            self.places.get(place).map_or(NO_KEY, |known| known.key)
        });
        std::hint::black_box(keys.fold(0, |all, key| all ^ key));
    }
}

/// How many places there are at least for ids.
const fn width_of(count: usize) -> u64 {
    (count as u64).saturating_mul(PLACES) / 3
}

fn place_of(id: u64, width: u64) -> usize {
    let place = (u128::from(id) * u128::from(width)) >> 64;
    usize::try_from(place).unwrap_or_default()
}

/// The links and opens of an audit log.
#[derive(Debug, Default)]
pub struct KnownLinks {
    links: IdTable,
    opens: IdTable,
}

/// What is known of the ids of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuedIds {
    /// They were issued for the key of the request.
    Issued,
    /// They were issued for another key: the request is forged.
    OfAnotherKey,
    /// They were not issued here.
    Unknown,
}

impl KnownLinks {
    /// Reads the audit logs in `places`, one for each worker.
    pub fn of_logs(places: &[LogSource]) -> io::Result<Self> {
        let mut reader = KnownReader::new();
        for place in places {
            find(place, &LinkQuery::default(), |line| {
                reader.add(line.as_bytes())
            })?;
        }
        Ok(reader.finish())
    }

    /// How many links and opens there are.
    pub const fn len(&self) -> usize {
        self.links.count + self.opens.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has the memory of links fetched that are asked for after that.
    pub fn fetch(&self, links: impl Iterator<Item = LinkKey>) {
        self.links.fetch(links.map(|link| link.0));
    }

    /// Whether a link was issued for the key of a request, as its log spells the key. `origin_paths` are what distributions put in
    /// front of the path of a request.
    pub fn link(&self, link: LinkKey, key: &str, origin_paths: &[String]) -> IssuedIds {
        known_in(self.links.keys_of(link.0), key, origin_paths)
    }

    /// The same for an open.
    pub fn open(&self, open: LinkKey, key: &str, origin_paths: &[String]) -> IssuedIds {
        known_in(self.opens.keys_of(open.0), key, origin_paths)
    }
}

fn known_in(
    mut keys: impl Iterator<Item = u32> + Clone,
    key: &str,
    origin_paths: &[String],
) -> IssuedIds {
    let all = keys.clone();
    let Some(first) = keys.next() else {
        return IssuedIds::Unknown;
    };
    if first == ANY_KEY {
        return IssuedIds::Issued;
    }
    // Mostly there is one.
    let is_it = |key: &str| {
        is_key(key, |hash| {
            hash == first || all.clone().any(|known| known == hash)
        })
    };
    // CloudFront logs a path, which begins with a slash.
    let fits = is_it(key)
        || key.strip_prefix('/').is_some_and(|path| {
            is_it(path)
                || origin_paths.iter().any(|origin| {
                    let origin = origin.trim_matches('/');
                    is_it(&format!("{origin}/{path}"))
                })
        });
    match fits {
        true => IssuedIds::Issued,
        false => IssuedIds::OfAnotherKey,
    }
}

/// Collects ids from lines of an audit log.
#[derive(Debug)]
pub struct KnownReader {
    links: Vec<(u64, u32)>,
    opens: Vec<(u64, u32)>,
    link_id: Finder<'static>,
    key: Finder<'static>,
    open: Finder<'static>,
}

impl Default for KnownReader {
    fn default() -> Self {
        Self::new()
    }
}

impl KnownReader {
    /// A reader without ids.
    pub fn new() -> Self {
        Self {
            links: Vec::new(),
            opens: Vec::new(),
            link_id: Finder::new("\"link_id\":\""),
            key: Finder::new(",\"key\":\""),
            open: Finder::new(",\"open\":\""),
        }
    }

    /// Adds the ids of a line. Lines are read without parsing, as in [`find`]: these bytes cannot occur within a text.
    pub fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(link) = text_after(&self.link_id, line) else {
            return Ok(());
        };
        // A line of a tagged object has the id of a link and a key, and issues nothing.
        if is_of_change(line) {
            return Ok(());
        }
        // A page of the portal has no key, and neither has a change to links.
        let key = text_after(&self.key, line).map_or(ANY_KEY, |key| key_hash(&key));
        let is_of_page =
            key == ANY_KEY && memchr::memmem::find(line, b"\"ev\":\"renditions\"").is_none();
        if is_of_page {
            return Ok(());
        }
        self.links.push((LinkKey::of_link(&link).0, key));
        if let Some(open) = text_after(&self.open, line) {
            self.opens.push((LinkKey::of_open(&open).0, key));
        }
        if self.links.len() + self.opens.len() > 2 * MAX_KNOWN_LINKS {
            return Err(io::Error::other(format!(
                "the audit log has more than {MAX_KNOWN_LINKS} links, with which access logs cannot be joined at once"
            )));
        }
        Ok(())
    }

    /// All that was added.
    pub fn finish(self) -> KnownLinks {
        KnownLinks {
            links: IdTable::new(self.links),
            opens: IdTable::new(self.opens),
        }
    }
}

/// Whether a line is of a revocation or a restoration. The event stands at the beginning of a line.
fn is_of_change(line: &[u8]) -> bool {
    let head = &line[..line.len().min(40)];
    [&b"\"ev\":\"revoked\""[..], b"\"ev\":\"restored\""]
        .iter()
        .any(|event| memchr::memmem::find(head, event).is_some())
}

/// The JSON text that follows a field's name.
fn text_after<'a>(name: &Finder<'_>, line: &'a [u8]) -> Option<std::borrow::Cow<'a, str>> {
    let begin = name.find(line)? + name.needle().len();
    let rest = &line[begin..];
    let mut end = 0;
    loop {
        end += memchr::memchr2(b'"', b'\\', &rest[end..])?;
        if rest[end] == b'"' {
            break;
        }
        end += 2;
        if end > rest.len() {
            return None;
        }
    }
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    match text.contains('\\') {
        false => Some(text.into()),
        true => serde_json::from_str::<String>(&format!("\"{text}\""))
            .ok()
            .map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_id_counts_for_its_own_key_alone() {
        let mut reader = KnownReader::new();
        let lines = [
            format!(
                r#"{{"v":2,"ev":"issue","job":"\"link_id\":\"x","bucket":"b","key":"a \"b\".pdf","size":3,"link_id":"{ID}"}}"#
            ),
            format!(
                r#"{{"v":2,"ev":"opened","bucket":"b","key":"c.pdf","link_id":"{}","open":"AAAAAAAAAAE"}}"#,
                ID.replace('0', "1")
            ),
            format!(
                r#"{{"v":2,"ev":"renditions","bucket":"b","prefix":"p/","link_id":"{}","count":4}}"#,
                ID.replace('0', "2")
            ),
            format!(
                r#"{{"v":2,"ev":"revoked","what":"link","link_id":"{}"}}"#,
                ID.replace('0', "3")
            ),
            format!(
                r#"{{"v":2,"ev":"revoked","what":"link","bucket":"b","key":"p/x.jpg","link_id":"{}"}}"#,
                ID.replace('0', "4")
            ),
        ];
        for line in &lines {
            reader.add(line.as_bytes()).unwrap();
        }
        let known = reader.finish();
        let link =
            |id: &str, key: &str| known.link(LinkKey::of_link(id), key, &["/site".to_owned()]);
        assert_eq!(link(ID, "a%2520%2522b%2522.pdf"), IssuedIds::Issued);
        assert_eq!(link(ID, "/a%20%22b%22.pdf"), IssuedIds::Issued);
        assert_eq!(link(ID, "other.pdf"), IssuedIds::OfAnotherKey);
        assert_eq!(link(&ID.replace('0', "2"), "p/x.jpg"), IssuedIds::Issued);
        assert_eq!(link(&ID.replace('0', "3"), "p/x.jpg"), IssuedIds::Unknown);
        assert_eq!(link(&ID.replace('0', "4"), "p/x.jpg"), IssuedIds::Unknown);
        assert_eq!(known.open(LinkKey(1), "c.pdf", &[]), IssuedIds::Issued);
        assert_eq!(known.open(LinkKey(2), "c.pdf", &[]), IssuedIds::Unknown);
    }

    #[test]
    fn many_ids_are_found_and_no_others() {
        let numbers = 0..10_000_u64;
        let ids: [Vec<u64>; 3] = [
            numbers.clone().map(|number| stir(number) & !1).collect(),
            numbers.map(|number| number * 2).collect(),
            vec![u64::MAX - 1, 0],
        ];
        for ids in ids {
            let entries = ids.iter().flat_map(|id| [(*id, 2), (*id, 1), (*id, 2)]);
            let table = IdTable::new(entries.collect());
            assert_eq!(table.count, ids.len() * 2);
            assert!(ids.iter().all(|id| table.keys_of(*id).eq([1, 2])));
            assert!(ids.iter().all(|id| table.keys_of(id + 1).count() == 0));
        }
        assert_eq!(IdTable::default().keys_of(1).count(), 0);
    }
}
