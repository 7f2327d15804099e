//! A bucket: a folder whose regular files are its objects.
//!
//! The module guarantees:
//!
//! - **Nothing outside of the folder is read, written, removed or listed.** A symbolic link below a bucket is neither an object
//!   nor a folder. Every operation (stat, open, create, rename, remove) is relative to a folder that is held by its descriptor
//!   and was entered from the bucket one component at a time, without following links.
//! - **An object is whole or absent.** Bytes are written to a draft in the same file system, synced, and then given their name in
//!   one step, which replaces an existing object only if the request permits it.
//!
//! The reserved folder of a bucket holds the drafts and the descriptions. The file system must support `rename` and hard links,
//! and a bucket must be on one file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use directory::Directory;
use presign::hex::hex;
use rustix::fs::FileType;

use crate::description::Description;
use crate::names::{self, NamePlaces, NameReading};

/// Where uploads are written until they are whole.
const DRAFTS: &str = "drafts";

/// The prefix of a draft's name; the rest is random.
const DRAFT: &str = "put-";

/// The usual mode of new files and folders: the umask decides who may read them.
const FILE_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o777;

/// The age at which a draft counts as abandoned by a dead process; every upload is shorter.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often an operation is retried when a file is replaced concurrently; each retry means that another writer made progress.
const ATTEMPTS: usize = 8;

/// The size, the modification time and the version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// In whole seconds, as in HTTP and S3.
    pub(crate) modified: SystemTime,
    /// Derived from size, inode and change time in nanoseconds.
    ///
    /// A listing has an `ETag` for each object, so it must be available without reading the file. A replaced file has another
    /// inode, a modified one another time. S3 itself only states that the `ETag` "reflects changes only to the contents"; the
    /// hyphens keep clients from interpreting it as an MD5. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>
    pub(crate) etag: String,
}

impl Stat {
    fn new(stat: &rustix::fs::Stat) -> Self {
        let (size, seconds) = (stat.st_size, stat.st_mtime);
        let etag = format!(
            "{size:x}-{:x}-{seconds:x}-{:x}",
            stat.st_ino, stat.st_mtime_nsec
        );
        // The file's owner can set times that an answer cannot represent.
        let seconds = seconds.clamp(0, jiff::Timestamp::MAX.as_second());
        let since_epoch = Duration::from_secs(seconds.cast_unsigned());
        Self {
            size: size.try_into().unwrap_or(0),
            modified: SystemTime::UNIX_EPOCH + since_epoch,
            etag,
        }
    }

    fn of_open(file: &File) -> io::Result<Self> {
        Ok(Self::new(&rustix::fs::fstat(file)?))
    }

    /// Inspects a regular file below a folder; `None` if it is missing, not a regular file, or behind a symbolic link.
    pub(crate) fn of_file(folder: &Directory, place: &Path) -> io::Result<Option<Self>> {
        let stat = look_at(folder, place)?;
        let file = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Ok(file.as_ref().map(Self::new))
    }
}

/// An open object.
pub(crate) struct Object {
    pub(crate) file: File,
    pub(crate) stat: Stat,
    pub(crate) description: Description,
}

/// The condition on the existing object for a replacement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Anything,
    Absent,
    Present,
    Version(String),
}

/// Why a draft did not become an object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("the present object is not the one that was expected")]
    Condition,
    #[error("there is no object to replace")]
    NoSuchKey,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An existing bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    root: Directory,
}

impl Bucket {
    /// Opens a bucket below the directory of a site, whose path has no symbolic links.
    pub(crate) fn open(directory: &Path, name: &str) -> io::Result<Option<Self>> {
        let root = Directory::open(directory).and_then(|site| site.enter_existing(Path::new(name)));
        Ok(absent_is_none(root)?.map(|root| Self { root }))
    }

    /// A folder in the bucket, if it exists and no symbolic link leads to it.
    pub(crate) fn folder(&self, folder: &Path) -> io::Result<Option<Directory>> {
        absent_is_none(self.root.pass(folder))
    }

    /// Opens the object of a key.
    pub(crate) fn find(&self, key: &str) -> io::Result<Option<Object>> {
        for _ in 0..ATTEMPTS {
            let NamePlaces { usual, beside } = names::places(key);
            // In this order: a file may be moved from the first place to the second, but never back.
            let file = match open_file(&self.root, &usual)? {
                None => open_file(&self.root, &beside)?,
                file => file,
            };
            let Some(file) = file else { return Ok(None) };
            let stat = Stat::of_open(&file)?;
            if let Some(description) = self.description(key, &stat.etag)? {
                return Ok(Some(Object {
                    file,
                    stat,
                    description,
                }));
            }
            // There is no description, unless the object was replaced and its description removed since it was opened.
            if self.stat(key)?.is_some_and(|now| now.etag == stat.etag) {
                return Ok(Some(Object {
                    file,
                    stat,
                    description: Description::default(),
                }));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the object is replaced faster than it can be read",
        ))
    }

    fn stat(&self, key: &str) -> io::Result<Option<Stat>> {
        let NamePlaces { usual, beside } = names::places(key);
        match Stat::of_file(&self.root, &usual)? {
            None => Stat::of_file(&self.root, &beside),
            stat => Ok(stat),
        }
    }

    /// Starts an upload.
    pub(crate) fn draft(&self) -> io::Result<UploadDraft> {
        let folder = self.reserved(Path::new(DRAFTS))?;
        let name = format!("{DRAFT}{}", nonce());
        Ok(UploadDraft {
            file: folder.create_new(&name, FILE_MODE)?,
            folder,
            name: Some(name),
        })
    }

    /// Removes the drafts of killed processes.
    pub(crate) fn remove_abandoned_drafts(&self) -> io::Result<()> {
        let place = Path::new(names::RESERVED).join(DRAFTS);
        let Some(folder) = absent_is_none(self.root.enter_existing(&place))? else {
            return Ok(());
        };
        // The file system's own clock, which also dated the other drafts.
        let now = self.draft()?.file.metadata()?.modified()?;
        let names = folder.names()?.into_iter();
        for name in names.filter_map(|name| name.into_string().ok()) {
            // Files with other names are left alone.
            let modified = name.strip_prefix(DRAFT).map(|_| folder.modified(&name));
            let Some(Ok(Some(modified))) = modified else {
                continue;
            };
            if now.duration_since(modified).unwrap_or_default() > ABANDONED_AFTER {
                folder.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Publishes a draft as the object of `key`. `turn` serializes this last step of all writers.
    pub(crate) fn publish(
        &self,
        key: &str,
        draft: UploadDraft,
        description: &Description,
        condition: &Condition,
        turn: &Mutex<()>,
    ) -> Result<Stat, PublishError> {
        make_version_distinct(&draft.file)?;
        draft.file.sync_all()?;
        let stat = Stat::of_open(&draft.file)?;
        let described = self.describe(key, &stat.etag, description)?;

        let published = {
            let _turn = turn
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            self.replace(key, draft, condition)
        };
        match published {
            Ok(PublishedObject {
                replaced,
                changed_folders,
            }) => {
                for folder in changed_folders {
                    folder.sync()?;
                }
                if let Some(replaced) = replaced.filter(|replaced| replaced.etag != stat.etag) {
                    self.forget(key, &replaced.etag)?;
                }
                Ok(stat)
            }
            Err(error) => {
                if described {
                    self.forget(key, &stat.etag)?;
                }
                Err(error)
            }
        }
    }

    fn replace(
        &self,
        key: &str,
        mut draft: UploadDraft,
        condition: &Condition,
    ) -> Result<PublishedObject, PublishError> {
        let NamePlaces { usual, beside } = names::places(key);
        for _ in 0..ATTEMPTS {
            let (place, present) = self.choose(&usual, &beside)?;
            match (condition, &present) {
                (Condition::Absent, Some(_)) => return Err(PublishError::Condition),
                (Condition::Present | Condition::Version(_), None) => {
                    return Err(PublishError::NoSuchKey);
                }
                (Condition::Version(etag), Some(present)) if *etag != present.etag => {
                    return Err(PublishError::Condition);
                }
                _ => {}
            }
            let (mut changed_folders, folder) = self.make_folders(place)?;
            // The lock covers this process; the file system operation covers other processes.
            match draft.become_object(&folder, file_name(place)?, present.is_none()) {
                Ok(()) => {
                    changed_folders.push(folder);
                    return Ok(PublishedObject {
                        replaced: present,
                        changed_folders,
                    });
                }
                // Another process was faster: with a file, or with a folder.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the object is replaced faster than it can be written",
        )
        .into())
    }

    /// Chooses the place for the file of a key, and returns what it would replace.
    fn choose<'a>(
        &self,
        usual: &'a Path,
        beside: &'a Path,
    ) -> io::Result<(&'a Path, Option<Stat>)> {
        let there = look_at(&self.root, usual)?;
        let there = there.map(|stat| (FileType::from_raw_mode(stat.st_mode), stat));
        match there {
            Some((FileType::RegularFile, stat)) => Ok((usual, Some(Stat::new(&stat)))),
            Some((FileType::Directory, _)) => Ok((beside, Stat::of_file(&self.root, beside)?)),
            Some(_) => Err(in_the_way(usual)),
            None => match Stat::of_file(&self.root, beside)? {
                Some(present) => Ok((beside, Some(present))),
                None => Ok((usual, None)),
            },
        }
    }

    /// Creates the parent folders of a place, and moves a file that has the name of one aside; returns the changed folders and
    /// the last folder.
    fn make_folders(&self, place: &Path) -> io::Result<(Vec<Directory>, Directory)> {
        let mut changed = Vec::new();
        let mut here = self.root.enter_existing(Path::new(""))?;
        // The start of the segment, and the text of its parts so far.
        let (mut segment_folder, mut before) = (here.enter_existing(Path::new(""))?, String::new());
        for name in place.parent().into_iter().flatten() {
            let reading = name.to_str().and_then(|name| names::read(&before, name));
            let reading = reading.ok_or_else(|| in_the_way(place))?;
            let name = Path::new(name);
            if let NameReading::Segment(text) = &reading
                && here.has_file(file_name(name)?)?
            {
                let beside = names::beside(text);
                let parts = beside.parent().unwrap_or(Path::new(""));
                let parts = segment_folder.enter(parts, FOLDER_MODE)?;
                here.move_to(file_name(name)?, &parts, file_name(&beside)?)?;
            }
            let is_new = here.stat(file_name(name)?)?.is_none();
            let below = here
                .step(name, FOLDER_MODE)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidInput => in_the_way(place),
                    _ => error,
                })?;
            if let NameReading::Part(text) = reading {
                before = text;
            } else {
                segment_folder = below.enter_existing(Path::new(""))?;
                before.clear();
            }
            if is_new {
                changed.push(here);
            }
            here = below;
        }
        Ok((changed, here))
    }

    /// Writes the description of a version, if it is not empty. The version need not exist yet.
    fn describe(&self, key: &str, etag: &str, description: &Description) -> io::Result<bool> {
        if *description == Description::default() {
            return Ok(false);
        }
        let (folder, name) = Description::place(key, etag);
        description.save(&self.reserved(&folder)?, &name)?;
        Ok(true)
    }

    /// Replaces the tags of an object; `false` if it does not exist. `turn` keeps other writers of this process out.
    pub(crate) fn set_tags(
        &self,
        key: &str,
        tags: &BTreeMap<String, String>,
        turn: &Mutex<()>,
    ) -> io::Result<bool> {
        let _turn = turn
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for _ in 0..ATTEMPTS {
            let Some(object) = self.find(key)? else {
                return Ok(false);
            };
            let description = Description {
                tags: tags.clone(),
                ..object.description
            };
            let etag = &object.stat.etag;
            if !self.describe(key, etag, &description)? {
                absent_is_none(self.forget(key, etag))?;
            }
            // An object that was replaced meanwhile has a description of its own.
            if self.stat(key)?.is_some_and(|now| now.etag == *etag) {
                return Ok(true);
            }
            absent_is_none(self.forget(key, etag))?;
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the object is replaced faster than it can be tagged",
        ))
    }

    /// Reads the description of a version: it belongs to these bytes under this key.
    fn description(&self, key: &str, etag: &str) -> io::Result<Option<Description>> {
        let (folder, name) = Description::place(key, etag);
        let place = Path::new(names::RESERVED).join(folder);
        let Some(folder) = absent_is_none(self.root.enter_existing(&place))? else {
            return Ok(None);
        };
        absent_is_none(Description::load(&folder, &name))
    }

    fn forget(&self, key: &str, etag: &str) -> io::Result<()> {
        let (folder, name) = Description::place(key, etag);
        self.reserved(&folder)?.remove(&name)
    }

    /// A folder in the reserved folder, created on first use.
    fn reserved(&self, folder: &Path) -> io::Result<Directory> {
        let place = Path::new(names::RESERVED).join(folder);
        self.root.enter(&place, FOLDER_MODE)
    }
}

/// The names of the buckets in the directory of a site, in order.
pub(crate) fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Directory::open(directory)?.entries()? {
        let (name, kind) = entry?;
        let name = name.into_string().ok();
        let name = name.filter(|name| kind.is_dir() && s3s::path::check_bucket_name(name));
        names.extend(name);
    }
    names.sort_unstable();
    Ok(names)
}

struct PublishedObject {
    replaced: Option<Stat>,
    changed_folders: Vec<Directory>,
}

/// An upload in progress; it is removed unless it is published.
pub(crate) struct UploadDraft {
    folder: Directory,
    /// `None` once it is published.
    name: Option<String>,
    pub(crate) file: File,
}

impl UploadDraft {
    /// Renames the draft to the name of an object, and replaces an existing file unless `is_new`.
    fn become_object(&mut self, folder: &Directory, name: &str, is_new: bool) -> io::Result<()> {
        let Some(draft) = &self.name else {
            return Ok(());
        };
        match is_new {
            true => self.folder.link_to(draft, folder, name)?,
            false => {
                self.folder.move_to(draft, folder, name)?;
                self.name = None;
            }
        }
        Ok(())
    }
}

impl Drop for UploadDraft {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // The error that ended the draft is the one to report; a later start removes the rest.
            let _ = self.folder.remove(name);
        }
    }
}

/// The last name of a place in a bucket.
fn file_name(place: &Path) -> io::Result<&str> {
    let name = place.file_name().and_then(std::ffi::OsStr::to_str);
    name.ok_or_else(|| in_the_way(place))
}

/// Opens a regular file below a folder; `None` if it is missing, not a regular file, or behind a symbolic link.
fn open_file(folder: &Directory, place: &Path) -> io::Result<Option<File>> {
    absent_is_none(beneath(folder, place, Directory::read_any))
}

/// The metadata of a place below a folder, if it exists and is not behind a symbolic link.
fn look_at(folder: &Directory, place: &Path) -> io::Result<Option<rustix::fs::Stat>> {
    let stat = absent_is_none(beneath(folder, place, |folder, name| folder.stat(name)))?;
    Ok(stat.flatten())
}

/// Runs an operation on a name below a folder that is not behind a symbolic link.
fn beneath<T>(
    folder: &Directory,
    place: &Path,
    act: impl FnOnce(&Directory, &str) -> io::Result<T>,
) -> io::Result<T> {
    let name = file_name(place)?;
    match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => act(&folder.pass(parent)?, name),
        _ => act(folder, name),
    }
}

/// Gives a draft a timestamp that no other draft of this process has.
///
/// The clock of a file system ticks every few milliseconds. Three objects in succession within a tick could share size and time
/// and, since the third may reuse the inode of the first, the `ETag`.
fn make_version_distinct(file: &File) -> io::Result<()> {
    static DRAFTS_SO_FAR: AtomicU32 = AtomicU32::new(0);
    let nudge = DRAFTS_SO_FAR.fetch_add(1, Ordering::Relaxed) % 1_000_000;
    file.set_modified(file.metadata()?.modified()? + Duration::from_nanos(nudge.into()))
}

fn in_the_way(place: &Path) -> io::Error {
    let text = format!(
        "something that is neither a file nor a folder of the bucket has the name of {place:?}"
    );
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

/// Maps all forms of "no such file" to `None`.
pub(crate) fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    match result {
        Ok(value) => Ok(Some(value)),
        // `InvalidInput` means a symbolic link or a special file: neither an object nor a folder.
        Err(error)
            if matches!(
                error.kind(),
                NotFound | NotADirectory | InvalidFilename | InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// 128 random bits as 32 hexadecimal digits, a unique name for a draft.
fn nonce() -> String {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    hex(&nonce)
}

#[cfg(test)]
mod tests;
