//! The registry: all streams and their states, in a signed note.
//!
//! A chain proves the lines of a stream, but not that the stream is complete: if it is cut at a line's end, it is a valid
//! shorter chain; if its files are removed, no chain is left. So every stream is registered before its first line, and its
//! last state is saved: while it is written, as its checkpoint `<stream>.checkpoint`, at most a second after a line; when it
//! has ended, in the registry itself, `streams.note`. Neither is ever ahead of the lines on the disk, so a crash leaves at
//! most a state that is too old, and the next start brings it up to date.
//!
//! A note is replaced as a whole and cannot be cut: without the key, an attacker can only put back an earlier copy of the
//! registry. That is detected by a state that is stored elsewhere: the line that `handout audit verify` prints, or a
//! checkpoint.

use std::collections::BTreeMap;
use std::io;

use super::chain::ChainHead;
use super::checkpoint::{Checkpoint, is_log_id, root, spelled};
use super::directory::LogDirectory;
use super::note::{BadNote, PublicKey, SigningKey};
use super::remembered::Memory;
use super::tree::{Hash, Tree};
use crate::keyring::{nonce, sha256_hex};

/// The registry's file, in the log's directory.
pub const REGISTRY: &str = "streams.note";

/// The first line of its text.
const ORIGIN: &str = "handout/streams";

/// The same in the copy that an archive has.
const ARCHIVE_ORIGIN: &str = "handout/archive";

/// The state of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RegistryEntry {
    /// It is being written, or was interrupted: its last state is in a file of its own.
    Open,
    /// Its process stopped after this number of lines, with this root, since another process changed its files: no line may
    /// follow.
    Stopped {
        /// How many lines.
        lines: u64,
        /// The root over them.
        root: Hash,
    },
    /// It did not end, its files were changed, and the operator accepted the loss.
    Lost,
    /// It ended with this number of lines and this root.
    Closed {
        /// How many lines.
        lines: u64,
        /// The root over them.
        root: Hash,
    },
}

impl RegistryEntry {
    /// Whether the next start has to end it.
    pub(super) const fn is_unended(&self) -> bool {
        matches!(self, Self::Open | Self::Stopped { .. })
    }
}

/// The first segments of a stream, which were removed after `audit.keep`: how the chain was at their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemovedRecord {
    /// How many segments, from the first on.
    pub(super) segments: u32,
    /// How many lines they had.
    pub(super) lines: u64,
    /// Whether each of them was seen in the archive, whole, before it was removed.
    pub(super) is_archived: bool,
    /// The chain at their end; `None` if nothing of the stream is left, whose end its entry has.
    pub(super) end: Option<ChainHead>,
    /// What had been removed before the last removal began. A kill leaves segments of the last removal, which are checked from there.
    pub(super) before: Option<RemovedBefore>,
}

/// The segments of a stream that were gone before its last removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemovedBefore {
    /// How many segments, from the first on.
    pub(super) segments: u32,
    /// The chain at their end.
    pub(super) end: ChainHead,
}

/// A chain in the spelling of the registry, without its number of lines.
fn spelled_head(head: &ChainHead) -> String {
    let peaks: Vec<String> = head.tree().peaks().iter().map(spelled).collect();
    format!("{} {}", spelled(&head.prev()), peaks.join(","))
}

/// The chain of a stream after a number of lines, from its spelling.
fn parse_head(stream: &str, lines: u64, prev: &str, peaks: &str) -> Option<ChainHead> {
    let peaks = peaks.split(',').map(root).collect::<Option<Vec<Hash>>>()?;
    let tree = Tree::resume(lines, peaks)?;
    Some(ChainHead::resume(stream, root(prev)?, tree))
}

impl RemovedBefore {
    fn line(&self, stream: &str) -> String {
        let Self { segments, end } = self;
        let (lines, head) = (end.len(), spelled_head(end));
        format!("{stream} removed-before {segments} {lines} {head}\n")
    }

    fn parse(stream: &str, state: &str) -> Option<Self> {
        let [segments, lines, prev, peaks] = state.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Self {
            segments: segments.parse().ok().filter(|segments| *segments > 0)?,
            end: parse_head(stream, lines.parse().ok()?, prev, peaks)?,
        })
    }
}

impl RemovedRecord {
    fn line(&self, stream: &str) -> String {
        let Self {
            segments,
            lines,
            is_archived,
            end,
            before,
        } = self;
        let place = match is_archived {
            true => "archived",
            false => "expired",
        };
        let end = match end {
            None => "all".to_owned(),
            Some(head) => spelled_head(head),
        };
        let before = before.as_ref().map(|before| before.line(stream));
        format!(
            "{stream} removed {segments} {lines} {place} {end}\n{}",
            before.unwrap_or_default()
        )
    }

    fn parse(stream: &str, state: &str) -> Option<Self> {
        let parts: Vec<&str> = state.split(' ').collect();
        let (segments, lines, place, end) = match parts[..] {
            [segments, lines, place, "all"] => (segments, lines, place, None),
            [segments, lines, place, prev, peaks] => (segments, lines, place, Some((prev, peaks))),
            _ => return None,
        };
        let lines: u64 = lines.parse().ok()?;
        let end = match end {
            None => None,
            Some((prev, peaks)) => Some(parse_head(stream, lines, prev, peaks)?),
        };
        Some(Self {
            segments: segments.parse().ok().filter(|segments| *segments > 0)?,
            lines,
            is_archived: match place {
                "archived" => true,
                "expired" => false,
                _ => return None,
            },
            end,
            before: None,
        })
    }
}

/// All streams that were ever opened in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    /// The key under which the log is signed.
    pub(super) key: PublicKey,
    /// The random id of the log: it differs from that of other logs with the same key.
    pub(super) log: String,
    /// How often it was saved.
    pub(super) generation: u64,
    /// The streams by name, which is also by age.
    pub(super) streams: BTreeMap<String, RegistryEntry>,
    /// What was removed of them, because it was kept long enough.
    pub(super) removed: BTreeMap<String, RemovedRecord>,
    /// In the copy that an archive has: how many segments of each stream the archive was seen to have, from the first on. `None` in a
    /// log's directory.
    pub(super) shipped: Option<BTreeMap<String, u32>>,
}

impl Registry {
    /// The registry of an empty directory.
    pub(super) fn new(key: PublicKey) -> Self {
        Self {
            key,
            log: nonce(),
            generation: 0,
            streams: BTreeMap::new(),
            removed: BTreeMap::new(),
            shipped: None,
        }
    }

    /// The signed copy for an archive that was seen to have so many segments of each stream.
    pub(super) fn archive_note(
        &self,
        mut shipped: BTreeMap<String, u32>,
        key: &SigningKey,
    ) -> String {
        // The record of a removal says the same of what was removed.
        shipped.retain(|stream, segments| {
            let removed = self.removed.get(stream);
            *segments > removed.map_or(0, |removed| removed.segments)
        });
        let copy = Self {
            shipped: Some(shipped),
            ..self.clone()
        };
        key.sign(&copy.text())
    }

    /// Reads a directory's registry and checks it: with the pinned key, or else with the key that it names itself, which
    /// detects damage, but not forgery.
    pub(super) fn load(
        dir: &LogDirectory,
        pinned: Option<&PublicKey>,
    ) -> io::Result<Option<Result<Self, BadNote>>> {
        let note = dir.read_note(REGISTRY)?;
        Ok(note.map(|note| {
            let named = || note.lines().nth(1)?.parse().ok();
            let key = pinned.copied().or_else(named).ok_or(BadNote)?;
            Self::parse(key.open(&note)?)
                .filter(|registry| registry.key == key)
                .ok_or(BadNote)
        }))
    }

    /// Replaces the saved registry, and remembers its generation outside the log's directory. A crash in between leaves
    /// a registry that is newer than the remembered generation, never an older one.
    pub(super) fn save(
        &mut self,
        directory: &LogDirectory,
        memory: Option<&Memory>,
        key: &SigningKey,
    ) -> io::Result<()> {
        self.generation += 1;
        directory.replace(REGISTRY, key.sign(&self.text()).as_bytes())?;
        memory.map_or(Ok(()), |memory| memory.keep(self, key))
    }

    /// The hash of its text, which is remembered with the generation.
    pub(super) fn hash(&self) -> String {
        sha256_hex(self.text().as_bytes())
    }

    pub(super) fn text(&self) -> String {
        use std::fmt::Write;
        let Self {
            key,
            log,
            generation,
            ..
        } = self;
        let origin = match self.shipped {
            None => ORIGIN,
            Some(_) => ARCHIVE_ORIGIN,
        };
        let mut text = format!("{origin}\n{key}\nlog {log}\ngeneration {generation}\n");
        for (stream, entry) in &self.streams {
            match entry {
                RegistryEntry::Open => writeln!(text, "{stream} open"),
                RegistryEntry::Lost => writeln!(text, "{stream} lost"),
                RegistryEntry::Stopped { lines, root } => {
                    writeln!(text, "{stream} stopped {lines} {}", spelled(root))
                }
                RegistryEntry::Closed { lines, root } => {
                    writeln!(text, "{stream} closed {lines} {}", spelled(root))
                }
            }
            .expect("writing to a string does not fail");
            if let Some(removed) = self.removed.get(stream) {
                text.push_str(&removed.line(stream));
            }
            let shipped = self.shipped.as_ref();
            if let Some(segments) = shipped.and_then(|shipped| shipped.get(stream)) {
                writeln!(text, "{stream} shipped {segments}")
                    .expect("writing to a string does not fail");
            }
        }
        text
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (origin, text) = text.split_once('\n')?;
        let shipped = match origin {
            ORIGIN => None,
            ARCHIVE_ORIGIN => Some(BTreeMap::new()),
            _ => return None,
        };
        let (key, text) = text.split_once('\n')?;
        let (log, text) = text.split_once('\n')?;
        let (generation, streams) = text.split_once('\n')?;
        let log = log.strip_prefix("log ").filter(|log| is_log_id(log))?;
        let mut registry = Self {
            key: key.parse().ok()?,
            log: log.to_owned(),
            generation: generation.strip_prefix("generation ")?.parse().ok()?,
            streams: BTreeMap::new(),
            removed: BTreeMap::new(),
            shipped,
        };
        for line in streams.lines() {
            let (stream, state) = line.split_once(' ')?;
            if let Some(state) = state.strip_prefix("removed ") {
                registry.streams.get(stream)?;
                let removed = RemovedRecord::parse(stream, state)?;
                registry.removed.insert(stream.to_owned(), removed);
                continue;
            }
            if let Some(state) = state.strip_prefix("removed-before ") {
                let before = RemovedBefore::parse(stream, state)?;
                registry.removed.get_mut(stream)?.before = Some(before);
                continue;
            }
            if let Some(segments) = state.strip_prefix("shipped ") {
                registry.streams.get(stream)?;
                let shipped = registry.shipped.as_mut()?;
                shipped.insert(stream.to_owned(), segments.parse().ok()?);
                continue;
            }
            let entry = match state.split(' ').collect::<Vec<_>>()[..] {
                ["open"] => RegistryEntry::Open,
                ["lost"] => RegistryEntry::Lost,
                ["stopped", lines, spelled] => RegistryEntry::Stopped {
                    lines: lines.parse().ok()?,
                    root: root(spelled)?,
                },
                ["closed", lines, spelled] => RegistryEntry::Closed {
                    lines: lines.parse().ok()?,
                    root: root(spelled)?,
                },
                _ => return None,
            };
            registry.streams.insert(stream.to_owned(), entry);
        }
        Some(registry)
    }
}

/// The suffix of the file with an open stream's last state.
pub(super) const STATE: &str = ".checkpoint";

/// The file of an open stream's last state.
pub(super) fn state_name(stream: &str) -> String {
    format!("{stream}{STATE}")
}

/// An open stream's last state, if it has one.
pub(super) fn state(
    dir: &LogDirectory,
    registry: &Registry,
    stream: &str,
) -> io::Result<Option<Result<Checkpoint, BadNote>>> {
    let note = dir.read_note(&state_name(stream))?;
    Ok(note.map(|note| {
        let state = Checkpoint::open(&note, &registry.key)?;
        let is_its = state.stream == stream && state.log == registry.log;
        is_its.then_some(state).ok_or(BadNote)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed(&[7; 32]);
        let mut registry = Registry::new(key.public());
        registry.streams = BTreeMap::from([
            ("a".to_owned(), RegistryEntry::Open),
            ("b".to_owned(), RegistryEntry::Lost),
            (
                "bb".to_owned(),
                RegistryEntry::Stopped {
                    lines: 5,
                    root: [4; 32],
                },
            ),
            (
                "c".to_owned(),
                RegistryEntry::Closed {
                    lines: 7,
                    root: [3; 32],
                },
            ),
        ]);
        let mut head = ChainHead::new("bb");
        let record = crate::audit::AuditRecord {
            event: "x",
            fields: String::new().into(),
        };
        for _ in 0..3 {
            head.append(&record, "t", &mut String::new());
        }
        let early = head.clone();
        for _ in 0..2 {
            head.append(&record, "t", &mut String::new());
        }
        registry.removed = BTreeMap::from([
            (
                "bb".to_owned(),
                RemovedRecord {
                    segments: 2,
                    lines: 5,
                    is_archived: false,
                    end: Some(head),
                    before: Some(RemovedBefore {
                        segments: 1,
                        end: early,
                    }),
                },
            ),
            (
                "c".to_owned(),
                RemovedRecord {
                    segments: 1,
                    lines: 7,
                    is_archived: true,
                    end: None,
                    before: None,
                },
            ),
        ]);
        let directory = LogDirectory::make(&dir.path().into()).unwrap();
        registry.save(&directory, None, &key).unwrap();
        assert_eq!(registry.generation, 1);
        for pinned in [None, Some(&key.public())] {
            let read = Registry::load(&directory, pinned).unwrap();
            assert_eq!(read, Some(Ok(registry.clone())));
        }
        let other = SigningKey::from_seed(&[8; 32]).public();
        let read = Registry::load(&directory, Some(&other)).unwrap();
        assert_eq!(read, Some(Err(BadNote)));

        // The copy of an archive is another note, and differs from what is remembered of the log's own.
        let shipped = BTreeMap::from([("bb".to_owned(), 3)]);
        let note = registry.archive_note(shipped.clone(), &key);
        directory.replace(REGISTRY, note.as_bytes()).unwrap();
        let read = Registry::load(&directory, None).unwrap().unwrap().unwrap();
        assert_eq!(read.shipped, Some(shipped));
        assert_ne!(read.hash(), registry.hash());
        assert_eq!(read.removed, registry.removed);
        let of_a_log = registry.text().replace("\nc ", "\nbb shipped 3\nc ");
        assert_eq!(Registry::parse(&of_a_log), None);
    }
}
