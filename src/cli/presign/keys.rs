//! Reads the keys to link, in batches of one bucket: from the command line, from the lines of a file, or from a listing.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::iter::Peekable;
use std::path::Path;
use std::vec::IntoIter;

use anyhow::Context;
use handout::job::{Bucket, Key};
use handout::links::lines::Lines;
use handout::links::linkable::{Unlinkable, obstacle_in_name};
use presign::disposition::is_active;

use super::found::FoundKeys;

/// The batch size with an audit log: one sync of the log for each batch.
pub(super) const RECORDED: usize = 4096;

/// The batch size without an audit log: a batch that fits into the processor's cache is faster.
pub(super) const UNRECORDED: usize = 256;

/// How many of the keys without a link are reported individually.
const TOLD: usize = 10;

/// Keys of one bucket that can be linked.
pub(super) struct KeyBatch {
    pub(super) bucket: Bucket,
    pub(super) keys: Vec<Key>,
}

/// Keys that were named and cannot be linked.
pub(super) struct RefusedKeys {
    saving: Saving,
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

/// The source of keys.
pub(super) struct Keys<'a> {
    source: KeySource<'a>,
    refused: RefusedKeys,
}

/// Whether links can request that a file is saved instead of displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saving {
    /// They can.
    Possible,
    /// They cannot, so files that could run scripts are not linked.
    Impossible,
}

enum KeySource<'a> {
    Named(Peekable<IntoIter<(Bucket, String)>>),
    Lines(Bucket, Lines),
    Found(Box<FoundKeys<'a>>),
}

impl<'a> Keys<'a> {
    pub(super) fn named(places: Vec<(Bucket, String)>) -> Self {
        Self::of(KeySource::Named(places.into_iter().peekable()))
    }

    /// Keys from the lines of a file, or of stdin for `-`.
    pub(super) fn from_lines(bucket: Bucket, path: &Path) -> anyhow::Result<Self> {
        let input: Box<dyn Read> = match path == Path::new("-") {
            true => Box::new(io::stdin()),
            false => {
                let file = File::open(path);
                Box::new(
                    file.with_context(|| format!("could not read the keys in {}", path.display()))?,
                )
            }
        };
        Ok(Self::of(KeySource::Lines(bucket, Lines::new(input))))
    }

    /// Keys that a store lists.
    pub(super) fn found(keys: FoundKeys<'a>) -> Self {
        Self::of(KeySource::Found(Box::new(keys)))
    }

    /// The keys without a link.
    pub(super) fn into_refused(self) -> RefusedKeys {
        self.refused
    }

    fn of(source: KeySource<'a>) -> Self {
        Self {
            source,
            refused: RefusedKeys::default(),
        }
    }

    /// The same keys, for links that can or cannot request that a file is saved.
    pub(super) fn with_saving(mut self, saving: Saving) -> Self {
        self.refused.saving = saving;
        self
    }

    /// The next keys that can be linked, at most `most` from a file; `None` at the end.
    ///
    /// Available lines are returned without waiting for further ones.
    pub(super) async fn next_batch(&mut self, most: usize) -> anyhow::Result<Option<KeyBatch>> {
        let refused = &mut self.refused;
        let batch = match &mut self.source {
            KeySource::Named(places) => {
                let Some((bucket, _)) = places.peek() else {
                    return Ok(None);
                };
                let bucket = bucket.clone();
                let mut keys = Vec::new();
                while let Some((_, key)) = places.next_if(|(next, _)| *next == bucket) {
                    keys.extend(
                        refused.sort_out(key.as_bytes(), || format!("s3://{bucket}/{key}")),
                    );
                }
                KeyBatch { bucket, keys }
            }
            KeySource::Found(found) => return found.next_page(refused).await,
            KeySource::Lines(bucket, lines) => {
                let mut keys = Vec::with_capacity(most);
                loop {
                    let Some(line) = lines.next().context("could not read the keys")? else {
                        match keys.is_empty() {
                            true => return Ok(None),
                            false => break,
                        }
                    };
                    let number = line.number;
                    keys.extend(refused.sort_out(line.text, || format!("line {number}")));
                    if keys.len() == most || (!keys.is_empty() && !lines.has_another()) {
                        break;
                    }
                }
                KeyBatch {
                    bucket: bucket.clone(),
                    keys,
                }
            }
        };
        Ok(Some(batch))
    }
}

impl Default for RefusedKeys {
    fn default() -> Self {
        Self {
            saving: Saving::Possible,
            count: 0,
            first: Vec::new(),
        }
    }
}

impl RefusedKeys {
    /// A key that can be linked; others are counted, and reported under the name that `what` returns.
    pub(super) fn sort_out(&mut self, text: &[u8], what: impl FnOnce() -> String) -> Option<Key> {
        match linkable(text, self.saving) {
            Ok(key) => Some(key),
            Err(reason) => self.refuse(&what(), &reason),
        }
    }

    /// Counts a key that cannot be linked, and reports it if it is among the first.
    pub(super) fn refuse(&mut self, what: &str, reason: &dyn Display) -> Option<Key> {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(format!("{what}: {reason}"));
        }
        None
    }
}

fn linkable(text: &[u8], saving: Saving) -> Result<Key, String> {
    let of_key = |error: &dyn Display| format!("its key {error}");
    let text = std::str::from_utf8(text).map_err(|_| of_key(&"is not UTF-8"))?;
    let key: Key = text.parse().map_err(|error| of_key(&error))?;
    // The object is not inspected: a key with the name of a folder marker counts as one.
    let folder = text.ends_with('/').then_some(Unlinkable::Folder);
    let is_shown = saving == Saving::Impossible;
    let active = (is_shown && is_active(key.file_name())).then_some(Unlinkable::Active);
    match obstacle_in_name(text).or(folder).or(active) {
        Some(obstacle) => Err(obstacle.to_string()),
        None => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &'static [u8]) -> (Vec<String>, RefusedKeys) {
        let lines = Lines::new(Box::new(text));
        let mut keys = Keys::of(KeySource::Lines("reports".parse().unwrap(), lines));
        let mut all = Vec::new();
        while let Some(batch) = keys.next_batch(2).await.unwrap() {
            all.extend(batch.keys.into_iter().map(|key| key.to_string()));
        }
        (all, keys.refused)
    }

    #[tokio::test]
    async fn a_line_is_a_key_as_it_is_without_its_end() {
        let (keys, refused) = read(b"a b\r\n\n\r\n s3://x/%20 \nlast").await;
        assert_eq!(keys, ["a b", " s3://x/%20 ", "last"]);
        assert_eq!(refused.count, 0);
        assert_eq!(read(b"").await.0, [""; 0]);
    }

    #[tokio::test]
    async fn what_cannot_be_linked_is_told_and_does_not_stop_the_others() {
        let long = [&b"x".repeat(5000)[..], b"\nb\n"].concat();
        let text = [&b"a/../b\nt\x07\n\xff\nok\n"[..], &long, b"dir/\n"].concat();
        let (keys, refused) = read(text.leak()).await;
        assert_eq!(keys, ["ok", "b"]);
        insta::assert_snapshot!(refused.first.join("\n"), @r#"
        line 1: its key has "." or ".." as a folder, which browsers change
        line 2: its name has control characters
        line 3: its key is not UTF-8
        line 5: its key has 1030 bytes: at most 1024 are allowed
        line 7: it is a folder, not a file
        "#);
        assert_eq!(refused.count, 5);
    }

    #[tokio::test]
    async fn a_batch_has_a_limit() {
        let text: String = (0..4).map(|number| format!("{number}\n")).collect();
        let lines = Lines::new(Box::new(io::Cursor::new(text.into_bytes())));
        let mut keys = Keys::of(KeySource::Lines("reports".parse().unwrap(), lines));
        assert_eq!(keys.next_batch(3).await.unwrap().unwrap().keys.len(), 3);
        assert_eq!(keys.next_batch(3).await.unwrap().unwrap().keys.len(), 1);
        assert!(keys.next_batch(3).await.unwrap().is_none());
    }
}
