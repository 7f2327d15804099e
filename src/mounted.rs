//! Files that the operator names: secrets, keys, certificates, templates, jobs of rules. They may be on a mount whose server
//! is gone, and the kernel has no way to cancel a read of a file.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use directory::read_mounted;
use sha2::{Digest, Sha256};

use crate::bounds::{MAX_OPERATOR_FILE_BYTES, MAX_OPERATOR_FILES, MAX_OPERATOR_FOLDERS_DEPTH};
use crate::stamp::Stamps;
use crate::text::decode;

/// How long reading such a file may take.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// The files whose last read has not ended, and the places whose last step has not.
static STUCK: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Reads a text file of at most [`MAX_OPERATOR_FILE_BYTES`], without its byte order mark.
///
/// Symbolic links are followed, since mounted secrets use them. On a mount whose server is gone it fails with
/// [`io::ErrorKind::TimedOut`] after ten seconds, and at once while that read is still under way.
pub fn read_text(path: &Path) -> io::Result<String> {
    in_time(path, READ_PATIENCE, read)
}

/// Reads a file of any bytes, with the limits of [`read_text`].
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    in_time(path, READ_PATIENCE, read_whole)
}

/// The SHA-256 of a file of at most [`MAX_OPERATOR_FILE_BYTES`]; of a longer one, that of its beginning. Its deadline is that of
/// [`read_text`].
pub fn digest(path: &Path) -> io::Result<[u8; 32]> {
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
    let late = || {
        let sentence = format!(
            "{} did not respond within {} s: check its file system",
            place.display(),
            patience.as_secs()
        );
        io::Error::new(io::ErrorKind::TimedOut, sentence)
    };
    if stuck().contains(place) {
        return Err(late());
    }
    let working_at = WorkingAt {
        place: place.to_owned(),
        has_ended: Arc::default(),
    };
    let has_ended = Arc::clone(&working_at.has_ended);
    let working = tokio::task::spawn_blocking(move || {
        let _working_at = working_at;
        work()
    });
    if let Ok(done) = tokio::time::timeout(patience, working).await {
        return done.unwrap_or_else(|error| Err(io::Error::other(error)));
    }
    let mut stuck = stuck();
    if !has_ended.load(Ordering::Relaxed) {
        stuck.insert(place.to_owned());
    }
    Err(late())
}

/// Work at a place, until this is dropped; also if the work panics.
struct WorkingAt {
    place: PathBuf,
    has_ended: Arc<AtomicBool>,
}

impl Drop for WorkingAt {
    fn drop(&mut self) {
        // Both under the lock, so that a place whose work has ended is not inserted after it was removed.
        let mut stuck = stuck();
        stuck.remove(&self.place);
        self.has_ended.store(true, Ordering::Relaxed);
    }
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
        assert!(!stuck().contains(dir.path()));
    }
}
