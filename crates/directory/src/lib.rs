//! Directories held by descriptor: every file is opened relative to its directory, and symbolic links are not followed.
//!
//! A privileged process works in directories that a less privileged user may write. A name there may be a symbolic link, a hard
//! link or a FIFO that the other user planted. A name is therefore one component, opened with `O_NOFOLLOW` and `O_NONBLOCK`
//! (`open(2)`). An opened file must be a regular file with one link and an expected owner before it is read, changed or given
//! away. Folders below are entered one component at a time, in the same way.
//!
//! The path of a directory that the operator names is trusted: symbolic links in it are followed, as in `/var/lib` on another
//! disk. A folder that the program derives from such a path ([`Location::below`]) is entered without following links. The
//! program's own directory ([`Directory::make_own`]) is entered through a link only if root or the process's user owns the link.
//!
//! A file that another process may read is written as a [`Draft`]: it gets its name once it is complete and synced.
//!
//! ```
//! use directory::Directory;
//!
//! # fn main() -> std::io::Result<()> {
//! # let state = tempfile::tempdir()?;
//! let directory = Directory::private(state.path())?;
//! directory.replace("cursor", b"42", 0o600)?;
//! assert_eq!(directory.read_bounded("cursor", 16)?, b"42");
//!
//! // A link that another user planted is an error, and its target stays as it is.
//! std::os::unix::fs::symlink("/etc/passwd", state.path().join("planted"))?;
//! assert!(directory.read("planted").is_err());
//! # Ok(())
//! # }
//! ```
//!
//! Errors are [`std::io::Error`]. A refusal has the kind [`InvalidInput`](std::io::ErrorKind::InvalidInput), and its text names
//! the path, the reason and what to do.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The flags for opening files: links are not followed, and a FIFO does not block.
const SAFE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The flags for opening directories.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The maximum number of links on the way to a directory, the same as in the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// The timeout of a lock: a program holds it for milliseconds, but another user may hold it for ever.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The path of a directory: a path of the operator, in which links are followed, or a folder derived from it, which is entered
/// without following links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Arc<LocationInner>);

#[derive(Debug, PartialEq, Eq)]
struct LocationInner {
    path: PathBuf,
    /// The operator's part of the path; `None` if all of it is.
    base: Option<PathBuf>,
}

impl Location {
    /// A folder of the program below its own directory.
    pub fn below(base: &Path, folder: &str) -> Self {
        Self(Arc::new(LocationInner {
            path: base.join(folder),
            base: Some(base.to_owned()),
        }))
    }

    /// Opens the directory.
    pub fn open(&self) -> io::Result<Directory> {
        match self.derived() {
            Some((base, folder)) => Directory::own(base, MAX_LINKS)?.enter_existing(folder),
            None => Directory::open(self),
        }
    }

    /// Opens the directory, and creates missing parts of its path with `mode`, masked by the umask.
    pub fn make(&self, mode: u32) -> io::Result<Directory> {
        match self.derived() {
            Some((base, folder)) => Directory::private(base)?.enter(folder, mode),
            None => Directory::make(self, mode),
        }
    }

    /// Opens the directory, and creates it with `mode` if it does not exist: it may have been removed since the program began.
    pub fn open_or_make(&self, mode: u32) -> io::Result<Directory> {
        match self.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(mode),
            opened => opened,
        }
    }

    fn derived(&self) -> Option<(&Path, &Path)> {
        let base = self.0.base.as_deref()?;
        Some((base, self.strip_prefix(base).ok()?))
    }
}

impl From<&Path> for Location {
    fn from(named: &Path) -> Self {
        Self::from(named.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(named: &PathBuf) -> Self {
        Self::from(named.clone())
    }
}

impl AsRef<Path> for Location {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl From<PathBuf> for Location {
    /// A directory that the operator named.
    fn from(path: PathBuf) -> Self {
        Self(Arc::new(LocationInner { path, base: None }))
    }
}

impl From<&Self> for Location {
    fn from(other: &Self) -> Self {
        other.clone()
    }
}

impl Deref for Location {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0.path
    }
}

/// A directory, held by its descriptor.
#[derive(Debug)]
pub struct Directory {
    handle: File,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory whose path the operator names.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The parent of a bare name.
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let handle = rustix::fs::open(path, FOLDER, Mode::empty())?;
        let (handle, path) = (File::from(handle), path.to_owned());
        Ok(Self { handle, path })
    }

    /// Opens a directory whose path the operator names, and creates missing parts with `mode`, masked by the umask.
    pub fn make(path: &Path, mode: u32) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(error);
                };
                Self::make(parent, mode)?.step(Path::new(name), mode)
            }
            opened => opened,
        }
    }

    /// Opens or creates a directory that only its owner may enter. A link at its name must belong to root or the process's user.
    pub fn private(path: &Path) -> io::Result<Self> {
        let directory = Self::make_own(path)?;
        tighten(&directory.handle, 0o700)?;
        Ok(directory)
    }

    /// Opens the program's own directory, or creates it for its owner alone. A link at its name must belong to root or the
    /// process's user.
    pub fn make_own(path: &Path) -> io::Result<Self> {
        match Self::own(path, MAX_LINKS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path, 0o700),
            opened => opened,
        }
    }

    /// Whether root or the process's user owns it, so that no other user prepared it.
    pub fn is_ours(&self) -> io::Result<bool> {
        let (owner, _) = self.owner()?;
        Ok([0, rustix::process::geteuid().as_raw()].contains(&owner))
    }

    /// Opens or creates a child folder that only its owner may enter, and whose files the program may remove.
    pub fn private_below(&self, folder: &str) -> io::Result<Self> {
        let shown = Path::new(folder);
        let directory = self.enter(shown, 0o700)?;
        // The owner of a directory can rename another folder in it, such as one of root's, to a name of the program's.
        let (owner, ours) = (directory.owner()?.0, rustix::process::geteuid());
        let is_made_here = owner == ours.as_raw() && !ours.is_root();
        if owner != self.owner()?.0 && !is_made_here {
            return Err(self.refusal(shown, "belongs to another user than its directory"));
        }
        tighten(&directory.handle, 0o700)?;
        Ok(directory)
    }

    /// Opens the program's own directory. Another user may own it, but must not redirect the program by a link.
    fn own(path: &Path, links: usize) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Self::open(path);
        };
        let parent = Self::open(parent)?;
        let shown = Path::new(name);
        // The link itself is held, so that the checked link is the one that is read.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = rustix::fs::openat(&parent.handle, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&there)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return parent.descend(shown, FOLDER);
        }
        let ours = rustix::process::geteuid().as_raw();
        if ![0, ours].contains(&stat.st_uid) || links == 0 {
            return Err(parent.refusal(shown, "is a symbolic link of another user's"));
        }
        let target = rustix::fs::readlinkat(&there, "", Vec::new())?;
        let target = parent.path.join(OsStr::from_bytes(target.as_bytes()));
        Self::own(&target, links - 1)
    }

    /// Another descriptor of the same directory.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self {
            handle: self.handle.try_clone()?,
            path: self.path.clone(),
        })
    }

    fn owner(&self) -> io::Result<(u32, u32)> {
        let metadata = self.handle.metadata()?;
        Ok((metadata.uid(), metadata.gid()))
    }

    /// Whether it was removed: it has no name any more, and no file can be made in it.
    pub fn is_removed(&self) -> io::Result<bool> {
        Ok(self.handle.metadata()?.nlink() == 0)
    }

    /// Its path when it was opened; for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Enters a folder below, and creates missing parts with `mode`, masked by the umask.
    pub fn enter(&self, below: &Path, mode: u32) -> io::Result<Self> {
        let mut at = self.again()?;
        for component in below.components() {
            let Component::Normal(name) = component else {
                return Err(self.refusal(below, "is not a path below it"));
            };
            at = at.step(Path::new(name), mode)?;
        }
        Ok(at)
    }

    /// Enters an existing folder below.
    pub fn enter_existing(&self, below: &Path) -> io::Result<Self> {
        self.walk(below, FOLDER)
    }

    /// Enters an existing folder below only to look up its content: search permission on the folders suffices. The result cannot
    /// be synced.
    pub fn pass(&self, below: &Path) -> io::Result<Self> {
        self.walk(below, FOLDER.union(OFlags::PATH))
    }

    fn walk(&self, below: &Path, flags: OFlags) -> io::Result<Self> {
        let mut at = None;
        for component in below.components() {
            let Component::Normal(name) = component else {
                return Err(self.refusal(below, "is not a path below it"));
            };
            at = Some(
                at.as_ref()
                    .unwrap_or(self)
                    .descend(Path::new(name), flags)?,
            );
        }
        match at {
            Some(at) => Ok(at),
            None => self.again(),
        }
    }

    /// Enters a child folder, and creates it if it is missing.
    pub fn step(&self, name: &Path, mode: u32) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return self.descend(name, FOLDER),
            Err(error) => return Err(error.into()),
        }
        let made = self.descend(name, FOLDER)?;
        // Another user may have replaced the folder meanwhile: by a third user's, or by one of ours with files in it.
        let is_ours = made.owner()?.0 == rustix::process::geteuid().as_raw();
        if is_ours && made.entries()?.next().is_none() {
            self.give(&made.handle)?;
        }
        Ok(made)
    }

    fn descend(&self, name: &Path, flags: OFlags) -> io::Result<Self> {
        let flags = flags | OFlags::NOFOLLOW;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty());
        let handle = File::from(handle.map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => {
                self.refusal(name, "is not a directory, or is a symbolic link")
            }
            other => other.into(),
        })?);
        let path = self.path.join(name);
        Ok(Self { handle, path })
    }

    /// The names of its content, unordered.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        self.entries()?.map(|entry| Ok(entry?.0)).collect()
    }

    /// Its content, unordered: names with file types. A symbolic link is reported as a link, and its target is not looked at.
    pub fn entries(
        &self,
    ) -> io::Result<impl Iterator<Item = io::Result<(OsString, FileType)>> + '_> {
        // A separate descriptor has a separate read position.
        let entries = Dir::new(rustix::fs::openat(
            &self.handle,
            ".",
            FOLDER,
            Mode::empty(),
        )?)?;
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
            entry => self.kind_of(entry).transpose(),
        }))
    }

    fn kind_of(&self, entry: Result<DirEntry, Errno>) -> io::Result<Option<(OsString, FileType)>> {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        let kind = match entry.file_type() {
            // Some file systems do not return the type with the name.
            FileType::Unknown => match self.stat(&name)? {
                Some(stat) => FileType::from_raw_mode(stat.st_mode),
                None => return Ok(None),
            },
            known => known,
        };
        Ok(Some((name, kind)))
    }

    /// The modification time of a regular file with one link and an expected owner; `None` if there is none.
    pub fn modified(&self, name: &str) -> io::Result<Option<SystemTime>> {
        self.inspect(name)?;
        let stat = self.stat(name)?;
        Ok(stat.map(|stat| {
            let seconds = Duration::from_secs(stat.st_mtime.try_into().unwrap_or(0));
            SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(stat.st_mtime_nsec)
        }))
    }

    /// The metadata of a name, if it exists; a link is not followed.
    pub fn stat(&self, name: impl AsRef<Path>) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => Ok(Some(stat?)),
        }
    }

    /// Opens a regular file of any owner for reading, for example in a copy.
    pub fn read_any(&self, name: &str) -> io::Result<File> {
        self.opened(name, OFlags::RDONLY)
    }

    /// Opens a file to read it.
    pub fn read(&self, name: &str) -> io::Result<File> {
        self.existing(name, OFlags::RDONLY)
    }

    /// Reads a whole file of at most `max` bytes.
    pub fn read_bounded(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(name)?.take(max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(self.refusal(Path::new(name), &format!("is larger than {max} bytes")));
        }
        Ok(bytes)
    }

    /// Creates a new file, and gives it to the directory's owner.
    pub fn create_new(&self, name: &str, mode: u32) -> io::Result<File> {
        self.create(name, OFlags::RDWR, mode)
    }

    /// Opens a file for appending, and creates it if it is missing.
    pub fn append(&self, name: &str, mode: u32) -> io::Result<File> {
        self.open_or_create(name, OFlags::RDWR | OFlags::APPEND, mode)
    }

    /// Opens the file of a lock without taking the lock, and creates it if it is missing.
    pub fn lock_file(&self, name: &str, mode: u32) -> io::Result<File> {
        self.open_or_create(name, OFlags::RDWR, mode)
    }

    /// Replaces the content of a file, atomically and durably.
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut draft = self.draft(mode)?;
        draft.write_all(bytes)?;
        draft.keep(name)
    }

    /// Creates an unnamed file, which gets a name once it is complete; `mode` is masked by the umask. On a file system without
    /// unnamed files it has the name of a draft, which a killed process leaves behind.
    pub fn draft(&self, mode: u32) -> io::Result<Draft> {
        let (file, name) = match self.unnamed(mode)? {
            Some(file) => (file, None),
            None => {
                let (file, name) = self.named(mode)?;
                (file, Some(name))
            }
        };
        let draft = Draft {
            mode: file.metadata()?.permissions(),
            directory: self.again()?,
            file,
            name,
        };
        tighten(&draft.file, 0o600)?;
        Ok(draft)
    }

    /// A file with the name of a draft, which its process holds.
    fn named(&self, mode: u32) -> io::Result<(File, String)> {
        loop {
            let name = draft_name(HELD)?;
            let file = self.create_new(&name, mode)?;
            if file.try_lock().is_err() {
                self.remove(&name)?;
                let name = draft_name(UNHELD)?;
                return Ok((self.create_new(&name, mode)?, name));
            }
            // Another process may have found it before it was held, and swept it.
            if self.has_file(&name)? {
                return Ok((file, name));
            }
        }
    }

    /// Removes the drafts that killed processes left in this directory, and returns how many.
    ///
    /// A living process holds a lock on its draft. Where a file system has no locks, and for drafts of earlier versions, the age decides: a
    /// day. Files of other names and of other users stay, and so does what is no regular file.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn sweep_drafts(&self) -> io::Result<usize> {
        let mut swept = 0;
        for entry in self.entries()? {
            let (name, kind) = entry?;
            let Some(name) = name.to_str().filter(|name| is_draft_name(name)) else {
                continue;
            };
            // A draft that cannot be looked at stays: another process may have removed it, or it belongs to another user.
            if kind.is_file() && self.is_abandoned(name).unwrap_or(false) {
                self.remove(name)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn is_abandoned(&self, name: &str) -> io::Result<bool> {
        let file = self.opened(name, OFlags::RDWR)?;
        let found = file.metadata()?;
        let user = rustix::process::geteuid();
        // What root makes in the directory of another user is given to them.
        let is_own = found.uid() == user.as_raw()
            || (user.is_root() && found.uid() == self.handle.metadata()?.uid());
        if !is_own {
            return Ok(false);
        }
        match file.try_lock() {
            Ok(()) if name.ends_with(HELD) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let age = found.modified()?.elapsed();
        Ok(age.is_ok_and(|age| age >= ABANDONED_AFTER))
    }

    /// A file that disappears with its process; `None` if the file system does not support unnamed files, or the process has no
    /// `/proc` through which to name it.
    fn unnamed(&self, mode: u32) -> io::Result<Option<File>> {
        if !Path::new(OPEN_FILES).exists() {
            return Ok(None);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, ".", flags, Mode::from_raw_mode(mode)) {
            Ok(handle) => {
                let file = File::from(handle);
                self.give(&file)?;
                Ok(Some(file))
            }
            // open(2): the file system or the kernel does not support the flag.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates an unnamed file, which disappears with its handle.
    pub fn scratch(&self) -> io::Result<File> {
        let draft = self.draft(0o600)?;
        draft.file.try_clone()
    }

    /// Renames a file, and replaces an existing file of that name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.component(from)?;
        self.component(to)?;
        let renamed = rustix::fs::renameat(&self.handle, from, &self.handle, to);
        renamed.map_err(|error| self.refused(to, error))
    }

    /// Moves a file into a folder of the same file system, and replaces an existing file of that name.
    pub fn move_to(&self, from: &str, folder: &Self, to: &str) -> io::Result<()> {
        self.component(from)?;
        folder.component(to)?;
        Ok(rustix::fs::renameat(
            &self.handle,
            from,
            &folder.handle,
            to,
        )?)
    }

    /// Gives a file another name in a folder of the same file system; fails if the name is taken.
    pub fn link_to(&self, from: &str, folder: &Self, to: &str) -> io::Result<()> {
        self.component(from)?;
        folder.component(to)?;
        let empty = AtFlags::empty();
        Ok(rustix::fs::linkat(
            &self.handle,
            from,
            &folder.handle,
            to,
            empty,
        )?)
    }

    /// Whether a name is a regular file.
    pub fn has_file(&self, name: &str) -> io::Result<bool> {
        let stat = self.stat(name)?;
        Ok(stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file()))
    }

    /// Removes a file, if it exists.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.component(name)?;
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed.map_err(|error| self.refused(name, error)),
        }
    }

    /// The kernel's error when a directory is in the place of a file.
    fn refused(&self, name: &str, error: Errno) -> io::Error {
        match error {
            Errno::ISDIR | Errno::NOTEMPTY => self.refusal(Path::new(name), NOT_REGULAR),
            other => other.into(),
        }
    }

    /// Syncs the directory, which makes its names durable.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn open_or_create(&self, name: &str, flags: OFlags, mode: u32) -> io::Result<File> {
        match self.create(name, flags, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.existing(name, flags)
            }
            created => created,
        }
    }

    fn create(&self, name: &str, flags: OFlags, mode: u32) -> io::Result<File> {
        self.component(name)?;
        let flags = flags | SAFE | OFlags::CREATE | OFlags::EXCL;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(mode))?;
        let file = File::from(handle);
        self.give(&file)?;
        Ok(file)
    }

    fn existing(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let file = self.opened(name, flags)?;
        let metadata = file.metadata()?;
        let (links, owner) = (metadata.nlink(), metadata.uid());
        self.expect(Path::new(name), true, links, owner)?;
        Ok(file)
    }

    fn opened(&self, name: &str, flags: OFlags) -> io::Result<File> {
        self.component(name)?;
        let shown = Path::new(name);
        let handle = rustix::fs::openat(&self.handle, name, flags | SAFE, Mode::empty());
        let file = File::from(handle.map_err(|error| match error {
            Errno::LOOP => self.refusal(shown, "is a symbolic link"),
            // A FIFO without a reader, or a socket; a directory that is opened for writing.
            Errno::NXIO | Errno::ISDIR => self.refusal(shown, NOT_REGULAR),
            other => other.into(),
        })?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(self.refusal(shown, NOT_REGULAR)),
        }
    }

    /// Inspects a file that a library opens by its path, and creates it if it is missing.
    ///
    /// An existing file is not opened: closing it would release the POSIX locks that this process holds on it.
    pub fn inspect_or_create(&self, name: &str, mode: u32) -> io::Result<()> {
        match self.create_new(name, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.inspect(name),
            created => created.map(drop),
        }
    }

    /// Inspects a file that a library opens by its path, if it exists.
    pub fn inspect(&self, name: &str) -> io::Result<()> {
        self.component(name)?;
        let Some(stat) = self.stat(name)? else {
            return Ok(());
        };
        let shown = Path::new(name);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Err(self.refusal(shown, "is a symbolic link")),
            kind => self.expect(shown, kind.is_file(), stat.st_nlink, stat.st_uid),
        }
    }

    /// The number of links is a `u32` on arm64.
    fn expect(
        &self,
        shown: &Path,
        is_file: bool,
        links: impl Into<u64>,
        owner: u32,
    ) -> io::Result<()> {
        if !is_file {
            return Err(self.refusal(shown, NOT_REGULAR));
        }
        // None if it was just removed, as SQLite removes its log at the last close.
        if links.into() > 1 {
            return Err(self.refusal(shown, "has another name, a hard link"));
        }
        let ours = rustix::process::geteuid().as_raw();
        if ![self.owner()?.0, ours, 0].contains(&owner) {
            return Err(self.refusal(shown, "belongs to another user than its directory"));
        }
        Ok(())
    }

    /// Gives a file or folder that was just created here to the directory's owner, if the process may.
    fn give(&self, made: &File) -> io::Result<()> {
        let metadata = made.metadata()?;
        let (user, group) = self.owner()?;
        if (metadata.uid(), metadata.gid()) == (user, group) {
            return Ok(());
        }
        match fchown(made, Some(user), Some(group)) {
            // Only root may; another user who writes here has group permissions.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            given => given,
        }
    }

    fn component(&self, name: &str) -> io::Result<()> {
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(only)), None) if only == name => Ok(()),
            _ => Err(self.refusal(Path::new(name), "is not the name of a file")),
        }
    }

    fn refusal(&self, name: &Path, why: &str) -> io::Error {
        let path = self.path.join(name);
        let advice = "remove it, or use another directory";
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} {why}: {advice}", path.display()),
        )
    }
}

/// The reason for refusing a FIFO, a directory or a device.
const NOT_REGULAR: &str = "is not a regular file";

/// Takes the lock of a file, or fails after [`LOCK_PATIENCE`] if another process holds it.
pub fn lock(file: &File, what: &Path) -> io::Result<()> {
    take(what, || file.try_lock())
}

/// Like [`lock`], shared with other readers.
pub fn lock_shared(file: &File, what: &Path) -> io::Result<()> {
    take(what, || file.try_lock_shared())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lock of a file is waited for by a thread, as its file is read and written"
)]
fn take(what: &Path, lock: impl Fn() -> Result<(), TryLockError>) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..LOCK_PATIENCE.as_millis() / PAUSE.as_millis() {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
    let (what, waited) = (what.display(), LOCK_PATIENCE.as_secs());
    let sentence = format!(
        "{what} is locked by another process for more than {waited} s: end that process (`fuser {what}` shows it), then try again"
    );
    Err(io::Error::new(io::ErrorKind::TimedOut, sentence))
}

/// The directory of a file, and the file's name there.
pub fn split(path: &Path) -> io::Result<(&Path, &str)> {
    match (path.parent(), path.file_name().and_then(OsStr::to_str)) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => {
            let sentence = format!("{} is not the name of a file", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, sentence))
        }
    }
}

/// Opens a file of the operator for reading; links are followed, as in mounted secrets, and a FIFO does not block.
pub fn read_mounted(path: &Path) -> io::Result<File> {
    read_regular(path, SAFE.difference(OFlags::NOFOLLOW))
}

fn read_regular(path: &Path, flags: OFlags) -> io::Result<File> {
    let refused = |what: &str| {
        let sentence = format!("{} is {what}", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, sentence)
    };
    let opened = rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty());
    let file = File::from(opened.map_err(|error| match error {
        Errno::LOOP => refused("a symbolic link"),
        Errno::NXIO => refused("not a regular file"),
        other => other.into(),
    })?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused("not a regular file")),
    }
}

/// Removes the permissions beyond `mode` from an open file, if the process may: earlier versions created it with wider ones.
pub fn tighten(open: &File, mode: u32) -> io::Result<()> {
    let permissions = open.metadata()?.permissions();
    let (now, wanted) = (permissions.mode() & 0o7777, permissions.mode() & mode);
    if now == wanted {
        return Ok(());
    }
    match open.set_permissions(PermissionsExt::from_mode(wanted)) {
        // Only the owner and root may.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set,
    }
}

/// Where the kernel shows the process its open files.
const OPEN_FILES: &str = "/proc/self/fd";

/// A file in progress: only its owner may read it, and it is removed unless it is kept.
#[derive(Debug)]
pub struct Draft {
    directory: Directory,
    file: File,
    mode: Permissions,
    /// Its temporary name, if it has one.
    name: Option<String>,
}

impl Draft {
    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path under which this process reaches it meanwhile.
    pub fn path(&self) -> PathBuf {
        match &self.name {
            Some(name) => self.directory.path.join(name),
            None => Path::new(OPEN_FILES).join(self.file.as_raw_fd().to_string()),
        }
    }

    /// Gives the complete file its name, durably, and replaces an existing file of that name.
    pub fn keep(mut self, name: &str) -> io::Result<()> {
        self.directory.component(name)?;
        self.file.set_permissions(self.mode.clone())?;
        self.file.sync_all()?;
        if self.name.is_none() {
            let draft = draft_name(match self.file.try_lock() {
                Ok(()) => HELD,
                Err(_) => UNHELD,
            })?;
            self.link(&draft)?;
            self.name = Some(draft);
        }
        if let Some(draft) = &self.name {
            let folder = &self.directory.handle;
            let renamed = rustix::fs::renameat(folder, draft, folder, name);
            renamed.map_err(|error| self.directory.refused(name, error))?;
            self.name = None;
        }
        self.directory.sync()
    }

    /// Gives the complete file its name, durably; fails if the name is taken.
    pub fn keep_new(self, name: &str) -> io::Result<()> {
        self.directory.component(name)?;
        self.file.set_permissions(self.mode.clone())?;
        self.file.sync_all()?;
        self.link(name)?;
        self.directory.sync()
    }

    fn link(&self, name: &str) -> io::Result<()> {
        let (path, folder) = (self.path(), &self.directory.handle);
        let linked = match &self.name {
            Some(draft) => rustix::fs::linkat(folder, draft, folder, name, AtFlags::empty()),
            None => rustix::fs::linkat(CWD, &path, folder, name, AtFlags::SYMLINK_FOLLOW),
        };
        Ok(linked?)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // The error that ended the draft is the one to report.
            let _ = rustix::fs::unlinkat(&self.directory.handle, name, AtFlags::empty());
        }
    }
}

/// The ends of the names of drafts: of those that their processes hold by a lock, and of others.
const HELD: &str = ".held.draft";
const UNHELD: &str = ".draft";

/// The age from which a draft is abandoned that no lock can show to be held.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a file has the name of a draft.
fn is_draft_name(name: &str) -> bool {
    let stem = name
        .strip_suffix(HELD)
        .or_else(|| name.strip_suffix(UNHELD));
    let digits = stem.and_then(|stem| stem.strip_prefix('.'));
    digits.is_some_and(|digits| {
        digits.len() == 16
            && digits
                .bytes()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn draft_name(end: &str) -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!(".{:016x}{end}", u64::from_le_bytes(bytes)))
}

/// Whether a write failed for lack of space or resources: on the disk, in the user's quota, by the limit of a file's size, among the open
/// files of the process or the machine, or in memory.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::OutOfMemory
    ) || has_too_many_files(error)
}

/// Whether a file system did not respond in time, or its server or disk is gone: `ENOTCONN` of FUSE, `ESTALE` and `EHOSTDOWN` of NFS, `EIO`.
/// It may come back without a change of the file.
pub fn is_away(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const GONE: [Errno; 8] = [
        Errno::NOTCONN,
        Errno::STALE,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::CONNABORTED,
        Errno::IO,
        Errno::NODEV,
        Errno::NXIO,
    ];
    let number = error.raw_os_error();
    error.kind() == io::ErrorKind::TimedOut
        || GONE.iter().any(|gone| number == Some(gone.raw_os_error()))
}

/// The exhausted resource, and what to do where the system's error text does not say.
pub fn words_of_room(error: &io::Error) -> String {
    match has_too_many_files(error) {
        true => "too many open files: raise LimitNOFILE".to_owned(),
        false => error.to_string(),
    }
}

fn has_too_many_files(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

#[cfg(test)]
mod tests;
