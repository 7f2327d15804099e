//! Files that the operator names: secrets, keys, certificates, templates, jobs of rules. They may be on a mount whose server
//! is gone, and the kernel has no way to cancel a read of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use directory::read_mounted;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::bounds::{MAX_OPERATOR_FILE_BYTES, MAX_OPERATOR_FILES, MAX_OPERATOR_FOLDERS_DEPTH};
use crate::stamp::Stamps;
use crate::text::decode;

/// How long reading such a file may take.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// The files whose last read has not ended.
static STUCK: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The values of environment variables that stand in place of files, by the path that stands for each.
static GIVEN: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

/// The places at which work is under way.
static PLACES: Mutex<BTreeMap<PathBuf, PlaceAtWork>> = Mutex::new(BTreeMap::new());

/// How many steps of work one place has at once. Those beyond wait for a turn, but not behind work that hangs: a place that hangs
/// leaves slots to the jobs of others.
const STEPS_AT_ONCE: usize = 4;

/// From when on a step of work may hang.
const MAY_HANG: Duration = Duration::from_millis(3500);

/// How often a step that waits for its turn looks whether it has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The work at a place.
#[derive(Debug, Default)]
struct PlaceAtWork {
    next: u64,
    /// When each step began, the oldest first.
    steps: BTreeMap<u64, Instant>,
    /// Since when the place has not responded, once a step took too long.
    hangs_since: Option<Timestamp>,
    /// Whether that was logged.
    is_told: bool,
}

/// Has the functions of this module find a text at a path that is no file's.
pub(crate) fn give(path: &Path, text: &str) {
    given().insert(path.to_owned(), text.to_owned());
}

/// The text that was given for a path.
pub(crate) fn given_for(path: &Path) -> Option<String> {
    given().get(path).cloned()
}

fn given() -> MutexGuard<'static, BTreeMap<PathBuf, String>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a text file of at most [`MAX_OPERATOR_FILE_BYTES`], without its byte order mark.
///
/// Symbolic links are followed, since mounted secrets use them. On a mount whose server is gone it fails with
/// [`io::ErrorKind::TimedOut`] after ten seconds, and at once while that read is still under way.
pub fn read_text(path: &Path) -> io::Result<String> {
    if let Some(text) = given_for(path) {
        return Ok(text);
    }
    in_time(path, READ_PATIENCE, read)
}

/// Reads a file of any bytes, with the limits of [`read_text`].
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    in_time(path, READ_PATIENCE, read_whole)
}

/// The SHA-256 of a file of at most [`MAX_OPERATOR_FILE_BYTES`]; of a longer one, that of its beginning. Its deadline is that of
/// [`read_text`].
pub fn digest(path: &Path) -> io::Result<[u8; 32]> {
    if let Some(text) = given_for(path) {
        return Ok(Sha256::digest(text).into());
    }
    in_time(path, READ_PATIENCE, |path| {
        let mut bytes = Vec::new();
        let file = read_mounted(path)?;
        file.take(MAX_OPERATOR_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(Sha256::digest(&bytes).into())
    })
}

/// Whether a directory is at the path, after symbolic links. Its deadline is that of [`read_text`].
pub fn is_dir(path: &Path) -> io::Result<bool> {
    in_time(path, READ_PATIENCE, |path| Ok(path.is_dir()))
}

/// The stamp of a file, which changes with it. Its deadline is that of [`read_text`].
pub(crate) fn stamp(path: &Path) -> io::Result<Stamps> {
    if given_for(path).is_some() {
        return Ok(Stamps::default());
    }
    in_time(path, READ_PATIENCE, |path| {
        Ok(Stamps::of(&[path.to_owned()]))
    })
}

/// The files below a directory, in the order of their paths. Symbolic links are followed, and hidden files are left out.
///
/// # Errors
///
/// A folder cannot be read, or not within ten seconds; there are more than [`MAX_OPERATOR_FILES`], or folders are deeper than
/// [`MAX_OPERATOR_FOLDERS_DEPTH`].
pub fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    in_time(directory, READ_PATIENCE, |directory| {
        let (mut files, mut count) = (Vec::new(), 0);
        let mut folders = vec![(directory.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let failed = |reason: &dyn std::fmt::Display, kind| {
                io::Error::new(kind, format!("{}: {reason}", folder.display()))
            };
            for entry in fs::read_dir(&folder).map_err(|error| failed(&error, error.kind()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default();
                if name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                count += 1;
                if count > MAX_OPERATOR_FILES || depth > MAX_OPERATOR_FOLDERS_DEPTH {
                    let reason = format!(
                        "it has more than {MAX_OPERATOR_FILES} files, or folders deeper than {MAX_OPERATOR_FOLDERS_DEPTH}: look for a link that leads out of it"
                    );
                    return Err(failed(&reason, io::ErrorKind::InvalidInput));
                }
                match path.is_dir() {
                    true => folders.push((path, depth + 1)),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        Ok(files)
    })
}

/// Runs a step of work on a file system on a blocking thread, for at most ten seconds.
///
/// It continues there after that, and further steps on the same place fail at once until it has ended, so that a mount whose
/// server is gone keeps few threads.
///
/// # Errors
/// The work failed; [`io::ErrorKind::TimedOut`] if it took too long.
pub async fn work_in_time<T: Send + 'static>(
    place: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    work_within(place, READ_PATIENCE, work).await
}

async fn work_within<T: Send + 'static>(
    place: &Path,
    patience: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let late = |waited: Duration| {
        let sentence = format!(
            "{} did not respond within {} s: check its file system",
            place.display(),
            waited.as_secs()
        );
        io::Error::new(io::ErrorKind::TimedOut, sentence)
    };
    let asked = Instant::now();
    let step = loop {
        match WorkingAt::begin(place) {
            StepTurn::Mine(step) => break step,
            StepTurn::Hangs => return Err(late(patience)),
            StepTurn::Later if asked.elapsed() >= patience => return Err(late(patience)),
            StepTurn::Later => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    let number = step.number;
    let working = tokio::task::spawn_blocking(move || {
        let _step = step;
        work()
    });
    if let Ok(done) = tokio::time::timeout(patience, working).await {
        return done.unwrap_or_else(|error| Err(io::Error::other(error)));
    }
    hangs(place, number);
    Err(late(patience))
}

/// A sentence for each directory that does not respond, and has not for some seconds: a busy disk may take a second over one file.
pub fn hanging() -> Vec<String> {
    hanging_for(MAY_HANG)
}

/// A sentence for each directory that has not responded for so long.
pub(crate) fn hanging_for(at_least: Duration) -> Vec<String> {
    let places = places();
    // What is spooled for a bucket is below the state directory, which the audit log watches.
    let directories = places.iter().filter(|(place, at_work)| {
        let oldest = at_work.steps.values().next();
        place.is_absolute() && oldest.is_some_and(|began| began.elapsed() >= at_least)
    });
    let hanging = directories.filter_map(|(place, at_work)| Some((place, at_work.hangs_since?)));
    hanging
        .map(|(place, since)| {
            let place = place.display();
            format!(
                "{place} has not responded since {since:.0}: check its file system; what is written there waits"
            )
        })
        .collect()
}

/// Records that the oldest step of work at a place takes too long.
pub(crate) fn does_not_respond(place: &Path) {
    let oldest = places()
        .get(place)
        .and_then(|at_work| at_work.steps.keys().next().copied());
    if let Some(number) = oldest {
        hangs(place, number);
    }
}

/// Records that a step of work took too long, unless it has ended in that moment.
fn hangs(place: &Path, number: u64) {
    let mut places = places();
    let Some(at_work) = places.get_mut(place) else {
        return;
    };
    if !at_work.steps.contains_key(&number) || at_work.hangs_since.is_some() {
        return;
    }
    at_work.hangs_since = Some(crate::clock::system());
    drop(places);
    let (place, later) = (place.to_owned(), tokio::runtime::Handle::try_current());
    match later {
        // A busy disk may take a second over one file.
        Ok(runtime) => drop(runtime.spawn(async move {
            while let Some(left) = tell_if_it_hangs(&place, number) {
                tokio::time::sleep(left).await;
            }
        })),
        Err(_) => drop(tell_if_it_hangs(&place, number)),
    }
}

/// Logs that a step of work hangs, or returns how long it may still take until it does.
fn tell_if_it_hangs(place: &Path, number: u64) -> Option<Duration> {
    let mut places = places();
    let at_work = places.get_mut(place)?;
    let left = MAY_HANG.saturating_sub(at_work.steps.get(&number)?.elapsed());
    if !left.is_zero() {
        return Some(left);
    }
    if !std::mem::replace(&mut at_work.is_told, true) {
        tracing::warn!(
            place = %place.display(),
            "a file system does not respond; what is written there waits"
        );
    }
    None
}

/// Whether a step of work may begin.
pub(crate) enum StepTurn {
    /// It may, and has begun.
    Mine(WorkingAt),
    /// When another step has ended.
    Later,
    /// The place does not respond.
    Hangs,
}

/// A step of work at a place, until this is dropped; also if the work panics.
pub(crate) struct WorkingAt {
    place: PathBuf,
    number: u64,
}

impl WorkingAt {
    /// Begins a step, if the place responds and has a turn for it.
    pub(crate) fn begin(place: &Path) -> StepTurn {
        let mut places = places();
        let at_work = places.entry(place.to_owned()).or_default();
        let oldest = at_work.steps.values().next();
        let is_full = at_work.steps.len() >= STEPS_AT_ONCE;
        if at_work.hangs_since.is_some()
            || is_full && oldest.is_some_and(|began| began.elapsed() >= MAY_HANG)
        {
            return StepTurn::Hangs;
        }
        if is_full {
            return StepTurn::Later;
        }
        let number = at_work.next;
        at_work.next += 1;
        at_work.steps.insert(number, Instant::now());
        StepTurn::Mine(Self {
            place: place.to_owned(),
            number,
        })
    }
}

impl Drop for WorkingAt {
    fn drop(&mut self) {
        let mut places = places();
        let Some(at_work) = places.get_mut(&self.place) else {
            return;
        };
        at_work.steps.remove(&self.number);
        at_work.hangs_since = None;
        let hung = std::mem::take(&mut at_work.is_told);
        if at_work.steps.is_empty() {
            places.remove(&self.place);
        }
        drop(places);
        if hung {
            tracing::info!(place = %self.place.display(), "a file system responds again");
        }
    }
}

fn places() -> MutexGuard<'static, BTreeMap<PathBuf, PlaceAtWork>> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stuck() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    STUCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a file on a thread of its own, since a read of a file cannot be cancelled.
pub(crate) fn in_time<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    read: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let late = || {
        let (path, waited) = (path.display(), patience.as_secs());
        let sentence = format!(
            "{path} was not read within {waited} s: check whether its file system responds"
        );
        io::Error::new(io::ErrorKind::TimedOut, sentence)
    };
    if stuck().contains(path) {
        return Err(late());
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let file = path.to_owned();
    let reading = std::thread::Builder::new().name("file".to_owned());
    reading.spawn(move || {
        let text = read(&file);
        let mut stuck = stuck();
        stuck.remove(&file);
        drop(sender.send(text));
    })?;
    if let Ok(text) = receiver.recv_timeout(patience) {
        return text;
    }
    let mut stuck = stuck();
    receiver.try_recv().unwrap_or_else(|_| {
        stuck.insert(path.to_owned());
        Err(late())
    })
}

fn read(path: &Path) -> io::Result<String> {
    decode(read_whole(path)?)
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = read_mounted(path)?.take(MAX_OPERATOR_FILE_BYTES + 1);
    let read = file.read_to_end(&mut bytes)?;
    match read as u64 > MAX_OPERATOR_FILE_BYTES {
        true => {
            let sentence = format!(
                "{} has more than {MAX_OPERATOR_FILE_BYTES} bytes",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, sentence))
        }
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_file_that_does_not_come_is_a_sentence_and_is_read_again_when_it_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "text").unwrap();
        let (comes, waits) = mpsc::channel::<()>();
        let patience = Duration::from_millis(50);
        let hangs = in_time(&path, patience, move |path| {
            let _closed = waits.recv();
            read(path)
        });
        let error = hangs.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            error
                .to_string()
                .contains("check whether its file system responds"),
            "{error}"
        );
        let again = read_text(&path).unwrap_err();
        assert_eq!(
            again.kind(),
            io::ErrorKind::TimedOut,
            "the first reading lasts"
        );
        let is_dir = is_dir(&path).unwrap_err();
        assert_eq!(is_dir.kind(), io::ErrorKind::TimedOut, "no thread waits");
        drop(comes);
        while let Err(error) = read_text(&path) {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            std::thread::yield_now();
        }
        assert_eq!(read_text(&path).unwrap(), "text");
    }

    #[tokio::test]
    async fn work_that_hangs_keeps_one_thread_of_its_place_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (comes, waits) = mpsc::channel::<()>();
        let patience = Duration::from_millis(50);
        let hangs = work_within(dir.path(), patience, move || {
            waits.recv().ok();
            Ok(())
        });
        let kind = |done: io::Result<()>| done.unwrap_err().kind();
        assert_eq!(kind(hangs.await), io::ErrorKind::TimedOut);
        let again = work_within(dir.path(), patience, || panic!("it must not begin"));
        assert_eq!(kind(again.await), io::ErrorKind::TimedOut);
        drop(comes);
        while work_in_time(dir.path(), || Ok(())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let panics = work_in_time(dir.path(), || panic!("as a bug would"));
        assert_eq!(kind(panics.await), io::ErrorKind::Other);
        assert!(!places().contains_key(dir.path()));
    }

    #[tokio::test]
    async fn a_place_that_hangs_is_told_and_those_that_wait_for_a_turn_leave_soon() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        let is_told = || {
            hanging_for(Duration::ZERO)
                .iter()
                .any(|said| said.starts_with(&place))
        };
        let (comes, waits) = mpsc::channel::<()>();
        let waits = std::sync::Arc::new(Mutex::new(waits));
        let patience = MAY_HANG + Duration::from_secs(2);
        let work = || {
            let waits = std::sync::Arc::clone(&waits);
            work_within(dir.path(), patience, move || {
                waits.lock().unwrap().recv().ok();
                Ok(())
            })
        };
        let crowd = async {
            let crowd = (0..STEPS_AT_ONCE).map(|_| work());
            futures_util::future::join_all(crowd).await
        };
        let another = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let began = Instant::now();
            let kind = work().await.unwrap_err().kind();
            (
                kind,
                began.elapsed() < patience - Duration::from_secs(1),
                is_told(),
            )
        };
        let (crowd, another) = tokio::join!(crowd, another);
        assert_eq!(another, (io::ErrorKind::TimedOut, true, false));
        assert!(crowd.iter().all(Result::is_err));
        assert!(is_told());
        drop(comes);
        while is_told() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        work_in_time(dir.path(), || Ok(())).await.unwrap();
    }
}
