//! Detects whether files have changed since they were read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

/// The metadata that identifies a version of a file.
///
/// Symbolic links are followed: Kubernetes updates a mounted secret by pointing a link to another directory. The change time of
/// the inode (ctime) is compared as well as the modification time, which `cp -p` and `rsync -t` reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// The stamps of several files; a missing file has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    /// Inspects the files. A file system that hangs blocks the thread.
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| Stamp::of(path)).collect())
    }

    /// As [`Self::of`], on a thread that may block. A caller that stops waiting keeps the handle and waits for it the next time,
    /// so that few threads hang.
    pub(crate) fn looking(paths: Vec<PathBuf>) -> JoinHandle<Self> {
        tokio::task::spawn_blocking(move || Self::of(&paths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    #[tokio::test]
    async fn every_way_to_exchange_a_file_is_seen_and_a_second_look_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let secret = vec![at("secret")];
        let mut seen = Stamps::of(&secret);
        let mut changed = |what: &str| {
            let now = Stamps::of(&secret);
            assert_ne!(std::mem::replace(&mut seen, now.clone()), now, "{what}");
            assert_eq!(Stamps::of(&secret), now, "{what}: a second look");
        };
        fs::write(at("secret"), "one").unwrap();
        changed("it appears");
        fs::write(at("other"), "two").unwrap();
        fs::rename(at("other"), at("secret")).unwrap();
        changed("another file is renamed over it");
        let modified = fs::metadata(at("secret")).unwrap().modified().unwrap();
        // The clock of a file system ticks every few milliseconds.
        tokio::time::sleep(Duration::from_millis(20)).await;
        fs::write(at("secret"), "six").unwrap();
        let file = fs::File::options().write(true).open(at("secret")).unwrap();
        file.set_modified(modified).unwrap();
        changed("it is written in place, with the size and the time that it had");
        fs::remove_file(at("secret")).unwrap();
        changed("it is gone");
        for version in ["..v1", "..v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("secret"), "same").unwrap();
        }
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/secret", at("secret")).unwrap();
        changed("it is mounted as Kubernetes mounts it");
        symlink("..v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        changed("Kubernetes exchanges it");
    }
}
