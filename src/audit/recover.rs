//! The start: what broke off is ended, and the registry brought up to date.
//!
//! A process that is killed, or a machine that loses power, leaves a stream without its last line, perhaps with a torn
//! one. A torn line belongs to links that never left: they leave only after the sync of their whole line. So it is cut,
//! kept aside and recorded. Everything else that is not as it was written is evidence, and is left as it is.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RecordError;
use super::chain::Head;
use super::checkpoint::Checkpoint;
use super::directory::{
    Segments, TOO_LONG, is_too_long, open_to_read, read_line, segment_name, streams,
};
use super::log::open_failed;
use super::record::{checkpoint, recovered};
use super::registry::{Entry, Registry};
use super::remembered;
use super::segment::Segment;
use super::stream::{Means, ended, spelled};
use crate::bounds::MAX_TORN_BYTES;
use crate::keyring::sha256_hex;

/// Reads the registry, which the caller has locked, and ends what broke off. The registry that is returned is not yet saved.
pub(super) fn recover(means: &Means) -> Result<Registry, RecordError> {
    let dir = means.directory.path();
    let there = streams(dir).map_err(|source| open_failed(dir, source))?;
    let mut registry = registry(means, &there)?;
    let mut over = Vec::new();
    let unended = |(_, entry): &(&String, &mut Entry)| !matches!(entry, Entry::Closed { .. });
    for (stream, entry) in registry.streams.iter_mut().filter(unended) {
        let Some(segments) = there.get(stream) else {
            // Said at every start and by every verification; nothing that could be done here would make it better.
            tracing::error!(stream, "a stream of the audit log is missing");
            continue;
        };
        if let Some(end) = end(means, stream, segments, entry)? {
            *entry = end;
            over.push(stream.clone());
        }
    }
    if !over.is_empty() {
        let saved = registry.save(&means.directory, means.memory.as_ref(), &means.key);
        saved.map_err(|source| open_failed(dir, source))?;
    }
    for stream in over {
        means
            .forget_state(&stream)
            .map_err(|source| open_failed(dir, source))?;
    }
    Ok(registry)
}

/// The registry; a new one where there is no log yet.
fn registry(means: &Means, there: &BTreeMap<String, Segments>) -> Result<Registry, RecordError> {
    let dir = means.directory.path();
    let damaged = |reason: String| RecordError::Registry {
        path: dir.display().to_string(),
        reason,
    };
    let key = means.key.public();
    let kept = match &means.memory {
        Some(memory) => {
            let kept = memory.generation(&key);
            let kept = kept.map_err(|source| open_failed(memory.path(), source))?;
            kept.map(|generation| (generation, memory.path()))
        }
        None => None,
    };
    let read = Registry::load(dir, Some(&key));
    match (read.map_err(|source| open_failed(dir, source))?, kept) {
        (Some(Err(_)), _) => Err(damaged(
            "was changed, or is signed with another key than this installation's".to_owned(),
        )),
        (Some(Ok(registry)), Some((generation, memory))) if registry.generation < generation => {
            Err(damaged(format!(
                "is older than the one that was written last (generation {} of {generation}, as {} says): it, or the whole directory, was put back to an earlier state. If you restored a backup, remove that directory",
                registry.generation,
                memory.display()
            )))
        }
        (Some(Ok(registry)), _) => Ok(registry),
        (None, Some((_, memory))) => Err(damaged(format!(
            "is missing, and {} says that there was one",
            memory.display()
        ))),
        (None, None) if has_lines(there).map_err(|source| open_failed(dir, source))? => {
            Err(damaged("is missing beside lines of a log".to_owned()))
        }
        (None, None) => Ok(Registry::new(key)),
    }
}

/// Whether any segment has a byte in it: an empty one is a start's that broke off.
fn has_lines(there: &BTreeMap<String, Segments>) -> io::Result<bool> {
    for (_, path) in there.values().flatten() {
        if open_to_read(path)?.metadata()?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends a stream that nobody writes any more. `None` if somebody does.
fn end(
    means: &Means,
    stream: &str,
    segments: &Segments,
    entry: &Entry,
) -> Result<Option<Entry>, RecordError> {
    let (_, first) = &segments[0];
    let lock = open_to_read(first).map_err(|source| cannot_mend(first, source))?;
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    let state = match entry {
        Entry::Open => Some(last_state(means, stream)?),
        Entry::Closed { .. } => None,
    };
    let mut broken = read_through(stream, segments, state.as_ref())?;
    if !broken.over {
        let (path, number) = (broken.path.clone(), broken.number);
        broken
            .mend(means)
            .map_err(|source| cannot_mend(&path, source))?;
        tracing::warn!(
            stream,
            segment = number,
            "ended a stream that had broken off"
        );
    }
    Ok(Some(ended(&broken.head)))
}

fn cannot_mend(path: &Path, source: io::Error) -> RecordError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => RecordError::Foreign {
            path: path.display().to_string(),
            source: Arc::new(source),
        },
        _ => open_failed(path, source),
    }
}

fn last_state(means: &Means, stream: &str) -> Result<Checkpoint, RecordError> {
    let dir = means.directory.path();
    let state = remembered::last_state(dir, means.memory.as_ref(), stream, &means.key.public());
    match state.map_err(|source| open_failed(dir, source))? {
        Some(Ok(state)) => Ok(state),
        Some(Err(_)) | None => Err(RecordError::Registry {
            path: dir.display().to_string(),
            reason: format!("lacks the last state of the stream {stream}, or it was changed"),
        }),
    }
}

/// A stream that was read to its end.
struct Broken {
    head: Head,
    /// Whether its last line is there.
    over: bool,
    /// Whether it goes on in a segment that may not be there.
    rotated: bool,
    path: PathBuf,
    number: u32,
    /// How many bytes of the last segment are whole lines, and what comes after them.
    whole: u64,
    torn: Vec<u8>,
}

fn read_through(
    stream: &str,
    segments: &Segments,
    state: Option<&Checkpoint>,
) -> Result<Broken, RecordError> {
    let (number, path) = segments[0].clone();
    let mut broken = Broken {
        head: Head::new(stream),
        over: false,
        rotated: false,
        path,
        number,
        whole: 0,
        torn: Vec::new(),
    };
    let mut reached = state.is_none_or(|state| state.lines == 0);
    let mut line = Vec::new();
    for (number, path) in segments {
        (broken.path, broken.number, broken.whole) = (path.clone(), *number, 0);
        let failed = |source| open_failed(path, source);
        let mut reader = BufReader::with_capacity(1 << 20, open_to_read(path).map_err(failed)?);
        let mut lines = 0;
        loop {
            if read_line(&mut reader, &mut line).map_err(failed)? == 0 {
                break;
            }
            lines += 1;
            let damaged = |reason: String| RecordError::Damaged {
                path: path.display().to_string(),
                line: lines,
                reason,
            };
            let is_last = Some(path) == segments.last().map(|(_, path)| path);
            if is_too_long(&line) && is_last {
                // A power cut may leave a tail of zeros that is longer than any line.
                let most = MAX_TORN_BYTES - line.len() as u64;
                reader
                    .by_ref()
                    .take(most)
                    .read_until(b'\n', &mut line)
                    .map_err(failed)?;
            }
            let is_torn = is_last && !line.ends_with(b"\n") && (line.len() as u64) < MAX_TORN_BYTES;
            if is_too_long(&line) && !is_torn {
                return Err(damaged(TOO_LONG.to_owned()));
            }
            if is_torn {
                broken.torn.clone_from(&line);
                break;
            }
            let head = broken.head.check(&line);
            let head = head.map_err(|error| damaged(error.to_string()))?;
            broken.over = head.is_last();
            broken.rotated = head.event == "rotate";
            broken.whole += line.len() as u64;
            if let Some(state) = state.filter(|state| state.lines == broken.head.len()) {
                reached = state.root == broken.head.root();
                if !reached {
                    return Err(damaged(
                        "it, or a line before it, is another one than was signed".to_owned(),
                    ));
                }
            }
        }
    }
    if !reached {
        return Err(RecordError::Damaged {
            path: broken.path.display().to_string(),
            line: 1,
            reason: format!(
                "the stream {stream} had {} lines, and {} are left",
                state.map_or(0, |state| state.lines),
                broken.head.len()
            ),
        });
    }
    Ok(broken)
}

impl Broken {
    /// Cuts what is torn, keeps it aside, and writes the last lines.
    fn mend(&mut self, means: &Means) -> io::Result<()> {
        let stream = self.head.stream().to_owned();
        let mut segment = if self.rotated && self.whole > 0 {
            Segment::create(&means.directory, &stream, self.number + 1)?
        } else {
            let file = means
                .directory
                .append_to(&segment_name(&stream, self.number))?;
            if !self.torn.is_empty() {
                let aside = segment_name(&stream, self.number).replace(".jsonl", ".torn");
                means.directory.replace(&aside, &self.torn)?;
                means.directory.sync()?;
                file.set_len(self.whole)?;
            }
            Segment::resume(self.path.clone(), file, self.number, self.whole)
        };
        let at = spelled((means.clock)());
        let mut lines = String::new();
        let note = Checkpoint::of(&self.head).sign(&means.key);
        self.head.append(&checkpoint(&note), &at, &mut lines);
        let record = recovered(self.torn.len(), &sha256_hex(&self.torn));
        self.head.append(&record, &at, &mut lines);
        segment.write(lines.as_bytes())?;
        means.directory.sync()
    }
}

/// Removes empty files that a start left which broke off before it had registered its stream.
pub(super) fn sweep(means: &Means, registry: &Registry) -> Result<(), RecordError> {
    let dir = means.directory.path();
    let failed = |source| open_failed(dir, source);
    for (stream, segments) in streams(dir).map_err(failed)? {
        if registry.streams.contains_key(&stream) {
            continue;
        }
        for (_, path) in segments {
            let metadata = open_to_read(&path).and_then(|file| file.metadata());
            if metadata.map_err(failed)?.len() == 0 {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                means.directory.remove(&name).map_err(failed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::audit::directory::Directory;
    use crate::audit::log::tests::{clock, record, settings};
    use crate::audit::verify::verify;
    use crate::audit::{AuditLog, Settings};

    type Files = BTreeMap<String, Vec<u8>>;

    /// A directory in memory, where there is one: what is tested is not the disk.
    fn scratch() -> tempfile::TempDir {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        }
    }

    fn means(settings: &Settings) -> Means {
        Means {
            memory: None,
            directory: Directory::open(&settings.dir).unwrap(),
            key: settings.key.clone(),
            rotate_size: settings.rotate_size.as_bytes(),
            clock,
        }
    }

    fn files(dir: &Path) -> Files {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn lay_out(files: &Files, dir: &Path) {
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    /// A directory as a killed process leaves it: a first segment, a second with three lines, and a state that was kept
    /// when the second began.
    async fn broken_off() -> (Files, String) {
        let dir = scratch();
        let mut settings = settings(dir.path());
        settings.rotate_size = "600B".parse().unwrap();
        let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
        log.append((0..3).map(record).collect()).await.unwrap();
        log.append((3..6).map(record).collect()).await.unwrap();
        let files = files(dir.path());
        drop(log);
        writer.close();
        let last = files.keys().rfind(|name| name.ends_with(".jsonl"));
        let last = last.unwrap().clone();
        assert!(last.ends_with(".0002.jsonl"), "{last}");
        (files, last)
    }

    fn whole_lines(bytes: &[u8]) -> u64 {
        bytes.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// A process can be killed, or the power fail, after any byte. The next start mends the stream and says so in it.
    #[tokio::test]
    async fn a_stream_that_broke_off_at_any_byte_is_mended_and_nothing_whole_is_lost() {
        let (files, last) = broken_off().await;
        let first_lines = whole_lines(&files[&last.replace("0002", "0001")]);
        for length in 0..files[&last].len() {
            let dir = scratch();
            let mut files = files.clone();
            files.get_mut(&last).unwrap().truncate(length);
            lay_out(&files, dir.path());
            let settings = settings(dir.path());
            recover(&means(&settings)).unwrap();
            let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
            assert!(
                report.problems.is_empty(),
                "cut at {length}: {:?}",
                report.problems
            );
            let whole = first_lines + whole_lines(&files[&last]);
            assert_eq!(
                report.lines,
                whole + 2,
                "the whole lines, a checkpoint, and what was cut"
            );
            recover(&means(&settings)).unwrap();
            let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
            assert_eq!(report.lines, whole + 2, "mended once is enough");
        }
    }

    #[tokio::test]
    async fn a_stream_that_lost_lines_of_its_kept_state_is_not_mended() {
        let (files, last) = broken_off().await;
        let first = last.replace("0002", "0001");
        let second_gone = {
            let mut files = files.clone();
            files.remove(&last);
            files.get_mut(&first).unwrap().truncate(800);
            files
        };
        let changed = |at: usize| {
            let mut files = files.clone();
            files.get_mut(&first).unwrap()[at] ^= 1;
            files
        };
        let state_gone = {
            let mut files = files.clone();
            files.retain(|name, _| !name.ends_with(".checkpoint"));
            files
        };
        for (what, files) in [
            ("cut", second_gone),
            ("a changed byte", changed(50)),
            ("another", changed(400)),
            ("the state", state_gone),
        ] {
            let dir = scratch();
            lay_out(&files, dir.path());
            let settings = settings(dir.path());
            let error = recover(&means(&settings)).unwrap_err();
            assert!(error.is_damage(), "{what}: {error}");
            assert_eq!(
                tests::files(dir.path()),
                files,
                "{what}: the evidence is as it was"
            );
            let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
            assert!(!report.problems.is_empty(), "{what}");
        }
    }

    /// A start can be killed between each two of its steps.
    #[tokio::test]
    async fn a_start_that_broke_off_before_it_was_registered_leaves_nothing_to_mend() {
        let (files, _) = broken_off().await;
        let dir = scratch();
        lay_out(&files, dir.path());
        let settings = settings(dir.path());
        let (empty, state) = (
            "20990101T000000Z-00000000.0001.jsonl",
            "20990101T000000Z-00000000.checkpoint",
        );
        fs::write(dir.path().join(empty), "").unwrap();
        fs::write(dir.path().join(state), "whatever").unwrap();
        let report = verify(dir.path(), Some(&settings.key.public())).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let registry = recover(&means(&settings)).unwrap();
        sweep(&means(&settings), &registry).unwrap();
        assert!(!dir.path().join(empty).exists());
    }

    /// The close can be killed after its last line and before the registry knows.
    #[tokio::test]
    async fn an_end_that_was_not_registered_is_registered_by_the_next_start() {
        let dir = scratch();
        let settings = settings(dir.path());
        let (log, writer) = AuditLog::open(&settings, "test", clock).unwrap();
        let before = files(dir.path());
        drop(log);
        writer.close();
        for name in before.keys().filter(|name| !name.ends_with(".jsonl")) {
            fs::write(dir.path().join(name), &before[name]).unwrap();
        }
        let lines = verify(dir.path(), None).unwrap().lines;
        let registry = recover(&means(&settings)).unwrap();
        assert!(matches!(
            registry.streams.values().next(),
            Some(Entry::Closed { lines: 3, .. })
        ));
        let report = verify(dir.path(), None).unwrap();
        assert_eq!((report.lines, report.problems.len()), (lines, 0));
    }
}
