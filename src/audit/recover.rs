//! Recovery at a start: interrupted streams are ended, and the registry is brought up to date.
//!
//! A killed process, or a power cut, leaves a stream without its last line, perhaps with a torn group. The links of a torn
//! group never left: links leave only after the sync of their whole group. So all bytes after the last seal are cut, kept in
//! a separate file and recorded. They may be forged, and never become part of the stream. Any other change of the files is
//! evidence, and is left as it is.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::compressed::SegmentFile;
use super::course::{Course, set_aside};
use super::directory::{
    Contents, Life, LogDirectory, Segments, TOO_LONG, is_too_long, read_line, read_tail,
    segment_name, torn_name,
};
use super::log::{AuditSettings, RecordError, open_failed};
use super::record::{checkpoint, recovered};
use super::registry::{Registry, RegistryEntry};
use super::remembered;
use super::seal::SealKey;
use super::segment::Segment;
use super::stream::{WriterContext, ended, spelled};
use crate::bounds::MAX_TORN_BYTES;
use crate::clock::Clock;
use crate::keyring::sha256_hex;
use crate::text::{agreeing, counted};

/// Reads the registry, which the caller has locked, and ends interrupted streams. The returned registry is not yet saved.
pub(super) fn recover(means: &WriterContext) -> Result<Registry, RecordError> {
    let dir = means.directory.path();
    let there = contents(means)?;
    let mut registry = registry(means, &there)?;
    let unended =
        |(stream, entry): (&String, &RegistryEntry)| entry.is_unended().then(|| stream.clone());
    let unended: Vec<String> = registry.streams.iter().filter_map(unended).collect();
    let mut over = Vec::new();
    for stream in unended {
        let life = means.directory.life(&stream);
        let Life::Dead(_buried) = life.map_err(|source| cannot_mend(dir, source))? else {
            continue;
        };
        let end = end(means, &registry, &stream, &there.streams)?;
        registry.streams.insert(stream.clone(), end);
        over.push(stream);
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

fn contents(means: &WriterContext) -> Result<Contents, RecordError> {
    let dir = &means.directory;
    dir.contents()
        .map_err(|source| open_failed(dir.path(), source))
}

/// The registry; a new one where there is no log yet.
pub(super) fn registry(means: &WriterContext, there: &Contents) -> Result<Registry, RecordError> {
    let dir = means.directory.path();
    let damaged = |reason: String| RecordError::Registry {
        path: dir.display().to_string(),
        reason,
    };
    let failed = |source| open_failed(dir, source);
    let key = means.key.public();
    let read = Registry::load(&means.directory, Some(&key)).map_err(failed)?;
    let read = read.transpose().map_err(|_| {
        damaged("was changed, or is signed with another key than this installation's".to_owned())
    })?;
    if let Some(memory) = &means.memory {
        let judged = memory.judge(read.as_ref(), &key);
        let judged = judged.map_err(|source| open_failed(memory.path(), source))?;
        judged.map_or(Ok(()), |reason| Err(damaged(reason)))?;
    }
    match read {
        Some(registry) if registry.shipped.is_some() => Err(damaged(
            "is the copy that an archive has: put back the log's own, or begin a new directory"
                .to_owned(),
        )),
        Some(registry) => Ok(registry),
        None if has_lines(&means.directory, there).map_err(failed)? => Err(damaged(
            "is missing, but the directory has lines of a log".to_owned(),
        )),
        None => Ok(Registry::new(key)),
    }
}

/// Whether any segment has a byte in it: an empty segment is from an interrupted start.
fn has_lines(directory: &LogDirectory, there: &Contents) -> io::Result<bool> {
    for (_, name) in there.streams.values().flatten() {
        if there.compressed.contains(name) || directory.read(name)?.metadata()?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(!there.strangers.is_empty())
}

/// Ends a stream whose process has died.
fn end(
    means: &WriterContext,
    registry: &Registry,
    stream: &str,
    there: &BTreeMap<String, Segments>,
) -> Result<RegistryEntry, RecordError> {
    let mut broken = read_through(means, registry, stream, there)?;
    if !broken.course.over {
        let (name, number) = (broken.name.clone(), broken.number);
        broken
            .mend(means)
            .map_err(|source| cannot_mend(&means.directory.path_of(&name), source))?;
        tracing::warn!(
            stream,
            segment = number,
            set_aside = broken.torn.len(),
            "closed a stream that an earlier process left open"
        );
    }
    Ok(ended(&broken.course.head))
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

fn last_state(
    means: &WriterContext,
    registry: &Registry,
    stream: &str,
) -> Result<Checkpoint, RecordError> {
    let dir = &means.directory;
    let state = remembered::last_state(dir, means.memory.as_ref(), registry, stream);
    match state.map_err(|source| open_failed(dir.path(), source))? {
        Some(Ok(state)) => Ok(state),
        Some(Err(_)) | None => Err(damaged(
            dir,
            stream,
            &segment_name(stream, 1),
            1,
            "the last state of the stream is missing, or was changed".to_owned(),
        )),
    }
}

fn damaged(dir: &LogDirectory, stream: &str, name: &str, line: u64, reason: String) -> RecordError {
    RecordError::Damaged {
        path: dir.path_of(name).display().to_string(),
        stream: stream.to_owned(),
        line,
        reason,
    }
}

/// A stream that was read up to the last line that its own process is known to have written.
struct Broken<'a> {
    course: Course<'a>,
    name: String,
    number: u32,
    /// How many bytes of the last segment are lines of the process, and the bytes after them.
    whole: u64,
    torn: Vec<u8>,
}

fn read_through<'a>(
    means: &'a WriterContext,
    registry: &'a Registry,
    stream: &str,
    there: &BTreeMap<String, Segments>,
) -> Result<Broken<'a>, RecordError> {
    let dir = &means.directory;
    let first = segment_name(stream, 1);
    let removed = registry.removed.get(stream);
    // Of an interrupted removal some may be left.
    let is_left =
        |(number, _): &&(u32, String)| removed.is_none_or(|removed| *number > removed.segments);
    let segments = there.get(stream).into_iter().flatten().filter(is_left);
    let segments: &Segments = &segments.cloned().collect();
    if segments.is_empty() {
        let reason = "the stream is registered, but its files are missing".to_owned();
        return Err(damaged(dir, stream, &first, 1, reason));
    }
    let state = match registry.streams.get(stream) {
        Some(RegistryEntry::Stopped { lines, root }) => Checkpoint {
            log: registry.log.clone(),
            stream: stream.to_owned(),
            lines: *lines,
            root: *root,
        },
        _ => last_state(means, registry, stream)?,
    };
    let is_stopped = matches!(
        registry.streams.get(stream),
        Some(RegistryEntry::Stopped { .. })
    );
    let seal = SealKey::of(&means.key);
    let end = removed.and_then(|removed| Some((removed.segments, removed.end.clone()?)));
    let (key, log) = (Some(registry.key), Some(&*registry.log));
    let mut course = match end {
        Some((number, head)) => Course::resume(dir, key, log, number, head),
        None => Course::new(dir, stream, key, log),
    };
    // The last line of the process: its segment, and how many bytes of the segment end with it.
    let mut own = (course.clone(), 0, 0_u64);
    let mut line = Vec::new();
    let mut length = 0;
    for (index, (number, name)) in segments.iter().enumerate() {
        let path = dir.path_of(name);
        let failed = |source| open_failed(&path, source);
        let is_last = index + 1 == segments.len();
        // The last segment was being written, so that it is plain.
        let file = match is_last {
            true => dir
                .read(name)
                .and_then(|file| SegmentFile::plain(file, path.clone())),
            false => dir.segment(name),
        };
        let file = file.map_err(failed)?;
        length = file.length();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let (mut lines, mut whole) = (0, 0);
        let begun = course.begin(*number);
        begun.map_err(|reason| damaged(dir, stream, name, 1, reason))?;
        while read_line(&mut reader, &mut line).map_err(failed)? > 0 {
            lines += 1;
            let damaged = |reason: String| damaged(dir, stream, name, lines, reason);
            if is_last && (is_too_long(&line) || !line.ends_with(b"\n")) {
                let tail = read_tail(&mut reader, &mut line).map_err(failed)?;
                tail.map_err(damaged)?;
                break;
            }
            if is_too_long(&line) {
                return Err(damaged(TOO_LONG.to_owned()));
            }
            let prev = course.head.prev();
            course.line(&line).map_err(damaged)?;
            whole += line.len() as u64;
            let is_own = match course.head.len().cmp(&state.lines) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal if course.state() == state => true,
                std::cmp::Ordering::Equal => {
                    let reason = "it, or a line before it, differs from what was signed";
                    return Err(damaged(reason.to_owned()));
                }
                std::cmp::Ordering::Greater if is_stopped => {
                    let reason = "it was added after the stream had been stopped because of a change by another process";
                    return Err(damaged(reason.to_owned()));
                }
                std::cmp::Ordering::Greater => match seal.check(&line, &prev) {
                    Some(false) => {
                        return Err(damaged(
                            "its seal was not made by the stream's process".to_owned(),
                        ));
                    }
                    is_sealed => is_sealed.is_some(),
                },
            };
            if is_own {
                own = (course.clone(), index, whole);
            }
        }
    }
    let read = course.head.len();
    let (course, index, mut whole) = own;
    let last = segments.len() - 1;
    let (number, name) = segments[last].clone();
    if read < state.lines {
        let reason = format!(
            "the stream had {}, but only {read} {} left",
            counted(state.lines, "line"),
            agreeing(read, "is", "are")
        );
        return Err(damaged(dir, stream, &name, 1, reason));
    }
    if index < last {
        if index + 1 < last || !course.has_rotated() {
            let reason = "the segment before it has lines that the stream's process did not write"
                .to_owned();
            return Err(damaged(dir, stream, &name, 1, reason));
        }
        whole = 0;
    }
    let extra = length - whole.min(length);
    let has_end = course.over || (course.has_rotated() && index == last);
    if extra > 0 && (is_stopped || has_end || extra > MAX_TORN_BYTES) {
        let reason = format!("{extra} bytes after it were not written by the stream's process");
        let lines = course.lines();
        return Err(damaged(dir, stream, &name, lines, reason));
    }
    let torn = tail(dir, &name, whole);
    let torn = torn.map_err(|source| open_failed(&dir.path_of(&name), source))?;
    Ok(Broken {
        course,
        name,
        number,
        whole,
        torn,
    })
}

/// The bytes of a file from an offset on.
fn tail(dir: &LogDirectory, name: &str, from: u64) -> io::Result<Vec<u8>> {
    let mut file = dir.read(name)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MAX_TORN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Broken<'_> {
    /// Cuts the torn bytes, keeps them in a separate file, and writes the last lines.
    fn mend(&mut self, means: &WriterContext) -> io::Result<()> {
        let dir = &means.directory;
        let stream = self.course.head.stream().to_owned();
        let kept = torn_name(&self.name);
        let mut segment = if self.course.has_rotated() && self.number == self.course.number() {
            Segment::create(dir, &stream, self.number + 1)?
        } else {
            let file = dir.append_to(&self.name)?;
            // An earlier start that was killed here has already cut some bytes.
            let before = match set_aside(dir, &kept) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                read => read?,
            };
            let is_kept = before.ends_with(&self.torn);
            let torn = std::mem::replace(&mut self.torn, before);
            if !is_kept {
                self.torn.extend(torn);
                if self.torn.len() as u64 >= MAX_TORN_BYTES {
                    let sentence = format!("{} is too large", dir.path_of(&kept).display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
                }
                dir.replace(&kept, &self.torn)?;
                dir.sync()?;
            }
            file.set_len(self.whole)?;
            Segment::resume(dir.path_of(&self.name), file, self.number, self.whole)
        };
        let (at, seal) = (spelled((means.clock)()), SealKey::of(&means.key));
        let mut lines = String::new();
        let note = self.course.state().sign(&means.key);
        let record = recovered(self.torn.len(), &sha256_hex(&self.torn));
        for record in [checkpoint(&note), record] {
            let head = &mut self.course.head;
            head.append_sealed(&record, &at, &seal, &mut lines);
        }
        segment.write(lines.as_bytes())?;
        dir.sync()
    }
}

/// Removes the files of dead processes that had not registered their streams or renamed their drafts yet.
pub(super) fn sweep(means: &WriterContext, registry: &Registry) -> Result<(), RecordError> {
    let dir = &means.directory;
    let failed = |source| open_failed(dir.path(), source);
    for (stream, segments) in contents(means)?.streams {
        if registry.streams.contains_key(&stream) {
            continue;
        }
        for (_, name) in segments {
            // A compressed form has bytes.
            let Some(metadata) = dir.plain_facts(&name).map_err(failed)? else {
                continue;
            };
            if metadata.len() == 0 {
                dir.remove(&name).map_err(failed)?;
            }
        }
    }
    if let Some(memory) = &means.memory {
        for stream in memory.streams().map_err(failed)? {
            if registry
                .streams
                .get(&stream)
                .is_none_or(|entry| !entry.is_unended())
            {
                memory.forget_state(&stream).map_err(failed)?;
            }
        }
    }
    dir.sweep().map_err(failed)
}

/// Why the loss of a stream was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// There is no loss to accept.
    #[error("the loss of the stream {stream} was not accepted: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// The state of the stream.
        reason: &'static str,
    },
    /// The log cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Accepts the loss of a stream that did not end and whose files were changed, so that a start continues without it.
///
/// It stays in the registry, and every verification names it. An error is returned for a stream that is not registered, has
/// ended, is being written, or can be ended by a start.
pub fn accept_loss(settings: &AuditSettings, clock: Clock, stream: &str) -> Result<(), LossError> {
    let failed = |source| open_failed(&settings.dir, source);
    let means = settings.means(clock)?;
    let dir = &means.directory;
    let _lock = dir.lock().map_err(failed)?;
    let there = contents(&means)?;
    let mut registry = registry(&means, &there)?;
    let refused = |reason: &'static str| {
        let stream = stream.to_owned();
        Err(LossError::Refused { stream, reason })
    };
    match registry.streams.get(stream) {
        None => {
            return refused(
                "it is not registered: `handout audit verify` names those that are damaged",
            );
        }
        Some(entry) if !entry.is_unended() => {
            return refused("it is closed or abandoned, so it does not prevent a start");
        }
        Some(_) => {}
    }
    if let Life::Alive = dir.life(stream).map_err(failed)? {
        return refused("it is being written: stop its process first");
    }
    match read_through(&means, &registry, stream, &there.streams) {
        Ok(_) => return refused("it is not damaged: the next start closes it"),
        Err(error) if !error.is_damage() => return Err(error.into()),
        Err(_) => {}
    }
    registry
        .streams
        .insert(stream.to_owned(), RegistryEntry::Lost);
    let saved = registry.save(dir, means.memory.as_ref(), &means.key);
    saved.map_err(failed)?;
    Ok(means.forget_state(stream).map_err(failed)?)
}

#[cfg(test)]
mod tests;
