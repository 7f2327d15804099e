//! The ids of links and opens that this installation issued, from its audit log, in 16 bytes each.
//!
//! An access log may have any id: a stranger can request an URL with an id of their own. Only an id of the audit log counts, and only
//! in a request for the key that its line names.

use std::io;

use memchr::memmem::Finder;

use super::identity::{LinkKey, is_key, key_hash};
use crate::audit::find::{LinkQuery, find};
use crate::audit::source::LogSource;
use crate::bounds::MAX_KNOWN_LINKS;

/// The hash of a key that fits each key: of links to renditions, which share an id.
const ANY_KEY: u32 = 0;

/// Ids in their order, and the first place of each beginning.
#[derive(Debug, Default)]
struct IdTable {
    ids: Vec<u64>,
    keys: Vec<u32>,
    /// The first place of each value of the upper `bits` bits, and the end.
    starts: Vec<u32>,
    bits: u32,
}

impl IdTable {
    fn new(mut entries: Vec<(u64, u32)>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let bits = usize::BITS - entries.len().leading_zeros();
        let bits = bits.clamp(1, 28);
        let mut starts = vec![0_u32; (1 << bits) + 1];
        for (id, _) in &entries {
            starts[beginning(*id, bits) + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        Self {
            ids: entries.iter().map(|(id, _)| *id).collect(),
            keys: entries.iter().map(|(_, key)| *key).collect(),
            starts,
            bits,
        }
    }

    /// The hashes of the keys of an id; empty for an unknown id.
    fn keys_of(&self, id: u64) -> &[u32] {
        if self.starts.is_empty() {
            return &[];
        }
        let at = beginning(id, self.bits);
        let (from, to) = (self.starts[at] as usize, self.starts[at + 1] as usize);
        let ids = &self.ids[from..to];
        let first = ids.iter().position(|known| *known == id);
        let Some(first) = first else { return &[] };
        let count = ids[first..]
            .iter()
            .take_while(|known| **known == id)
            .count();
        &self.keys[from + first..from + first + count]
    }
}

fn beginning(id: u64, bits: u32) -> usize {
    usize::try_from(id >> (u64::BITS - bits)).unwrap_or_default()
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
        self.links.ids.len() + self.opens.ids.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
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

fn known_in(hashes: &[u32], key: &str, origin_paths: &[String]) -> IssuedIds {
    if hashes.is_empty() {
        return IssuedIds::Unknown;
    }
    let is_it = |key: &str| {
        hashes
            .iter()
            .any(|hash| *hash == ANY_KEY || is_key(key, *hash))
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
        let entries: Vec<(u64, u32)> = (0..10_000_u64)
            .map(|number| (super::super::identity::mix(7, &number.to_le_bytes()), 1))
            .collect();
        let table = IdTable::new(entries.clone());
        assert!(entries.iter().all(|(id, _)| table.keys_of(*id) == [1]));
        assert!(
            entries
                .iter()
                .all(|(id, _)| table.keys_of(id + 1).is_empty())
        );
        assert!(IdTable::default().keys_of(1).is_empty());
    }
}
