//! Publishes pages and lists: into a bucket, or into a directory.
//!
//! In a bucket, pages are compressed: the links of a page repeat each other, and every browser accepts
//! `Content-Encoding: gzip`. In a directory pages are plain, so that they open with a double click. Lists are plain
//! everywhere, so that `wget -i` reads them.
//!
//! The name of what a job publishes is derived from the installation's secret. It cannot be guessed, and the same job
//! publishes under the same name again.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use directory::{Directory, Location};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use presign::PresignedUrl;

use super::DeliverError;
use crate::job::{Bucket, JobId, Key};
use crate::keyring::{Keyring, Purpose};
use crate::plan::Audience;
use crate::plan::PublishTarget;
use crate::store::{Body, Content, ObjectStore, Storage};
use crate::text::percent::encode;

/// A page of links is for the holder of its own link only: shared caches must not store it.
pub(crate) const NO_CACHE: &str = "private, no-store";

/// A rendition never changes under its name: the reader's browser may keep it.
const OWN_CACHE: &str = "private, max-age=604800, immutable";

/// Published files and folders are read by a web server of another user; the umask decides for both who else may read.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// The compression level of pages. A page repeats itself, and the fastest level finds most of that.
/// `cargo bench --bench bulk` shows the cost and the gain of the other levels.
const COMPRESSION: Compression = Compression::fast();

/// Publishes what a job made for one audience.
#[derive(Debug, Clone)]
pub struct Publisher {
    store: Arc<dyn ObjectStore>,
    place: PublishTarget,
    folder: String,
    /// Whether drafts of killed processes were swept from the folder.
    is_swept: Arc<AtomicBool>,
}

impl Publisher {
    /// A publisher to `place`; `what` distinguishes pages from lists.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        place: PublishTarget,
        keyring: &Keyring,
        job: &JobId,
        audience: &Audience,
        what: &str,
    ) -> Self {
        let audience = audience.canonical();
        let folder = keyring.id(
            Purpose::PublishedName,
            &[
                job.as_str().as_bytes(),
                audience.as_bytes(),
                what.as_bytes(),
            ],
        );
        Self {
            store,
            place,
            folder,
            is_swept: Arc::default(),
        }
    }

    /// The bucket and key of a file, if the target is a bucket.
    pub fn object(&self, file_name: &str) -> Option<(Bucket, Key)> {
        match &self.place {
            PublishTarget::Bucket(bucket, prefix) => {
                let key = format!("{prefix}{}/{file_name}", self.folder);
                // A prefix of nearly 1,024 bytes leaves no room for a name.
                Some((bucket.clone(), key.parse().ok()?))
            }
            PublishTarget::Dir { .. } => None,
        }
    }

    /// The URL of a file, if a web server serves the directory that it is in.
    pub fn url(&self, file_name: &str) -> Option<PresignedUrl> {
        match &self.place {
            PublishTarget::Dir { url, .. } => {
                let base = url.as_ref()?;
                let url = format!("{base}{}/{}", self.folder, encode(file_name, b""));
                // It opens the page for all who have it, as a signed one does.
                Some(PresignedUrl::new(url))
            }
            PublishTarget::Bucket(..) => None,
        }
    }

    /// The target of a file, in words.
    pub fn describe(&self, file_name: &str) -> String {
        match &self.place {
            PublishTarget::Bucket(bucket, prefix) => {
                format!("s3://{bucket}/{prefix}{}/{file_name}", self.folder)
            }
            PublishTarget::Dir { asked, .. } => {
                let path = asked.join(&self.folder).join(file_name);
                path.display().to_string()
            }
        }
    }

    /// The location of a file, relative to a page that is published in the same place.
    pub fn from_pages(&self, file_name: &str) -> String {
        format!("../{}/{file_name}", self.folder)
    }

    /// Whether a file is there and stays until `until`, as far as the bucket's lifecycle tells. A file that cannot be looked at
    /// counts as missing.
    pub async fn has(&self, file_name: &str, until: Timestamp) -> bool {
        match &self.place {
            PublishTarget::Dir { asked, allowed, .. } => {
                let (publisher, name) = (self.clone(), file_name.to_owned());
                let (asked, allowed) = (asked.clone(), allowed.clone());
                let found = self.on_disk(file_name, move || {
                    publisher.enter(&asked, &allowed)?.has_file(&name)
                });
                found.await.unwrap_or(false)
            }
            PublishTarget::Bucket(..) => {
                let Some((bucket, key)) = self.object(file_name) else {
                    return false;
                };
                match self
                    .store
                    .head(&bucket, &key)
                    .await
                    .map(|meta| meta.storage)
                {
                    Ok(Storage::Ready) => true,
                    Ok(Storage::Expires { at }) => at > until,
                    Ok(Storage::Archived | Storage::Restored { .. } | Storage::CustomerKey) => {
                        false
                    }
                    Err(_) => false,
                }
            }
        }
    }

    /// Puts a JPEG.
    pub async fn put_picture(&self, file_name: &str, jpeg: Vec<u8>) -> Result<(), DeliverError> {
        match &self.place {
            PublishTarget::Dir { .. } => self.put_file(file_name, jpeg).await,
            PublishTarget::Bucket(..) => {
                let content = Content {
                    media_type: "image/jpeg",
                    cache_control: OWN_CACHE,
                    encoding: None,
                };
                self.put_object(file_name, Body::Bytes(jpeg), content).await
            }
        }
    }

    /// Puts a file into a directory.
    async fn put_file(&self, file_name: &str, bytes: Vec<u8>) -> Result<(), DeliverError> {
        let PublishTarget::Dir { asked, allowed, .. } = &self.place else {
            return Ok(());
        };
        let (publisher, name) = (self.clone(), file_name.to_owned());
        let (asked, allowed) = (asked.clone(), allowed.clone());
        self.on_disk(file_name, move || {
            let folder = publisher.enter_to_write(&asked, &allowed)?;
            folder.replace(&name, &bytes, FILE_MODE)
        })
        .await
    }

    /// Opens the folder of a publication below a directory; symbolic links below the allowed directory are not
    /// followed.
    fn enter(&self, asked: &Path, allowed: &Path) -> io::Result<Directory> {
        let below = asked.strip_prefix(allowed).map_err(io::Error::other)?;
        Directory::make(allowed, FOLDER_MODE)?.enter(&below.join(&self.folder), FOLDER_MODE)
    }

    /// Opens the folder, and the first time removes what processes left there that were killed while they wrote.
    fn enter_to_write(&self, asked: &Path, allowed: &Path) -> io::Result<Directory> {
        let folder = self.enter(asked, allowed)?;
        if !self.is_swept.swap(true, Ordering::Relaxed) {
            match folder.sweep_drafts() {
                Ok(0) => {}
                Ok(drafts) => tracing::info!(
                    drafts,
                    "removed the drafts of a killed process from a published directory"
                ),
                // What is published is not late because of what is left.
                Err(error) => {
                    tracing::debug!(%error, "could not look for drafts of killed processes");
                }
            }
        }
        Ok(folder)
    }

    /// Puts a whole page and returns the size of what was put, in bytes.
    pub async fn put_page(
        &self,
        file_name: &str,
        html: String,
        media_type: &'static str,
    ) -> Result<u64, DeliverError> {
        match &self.place {
            PublishTarget::Dir { .. } => {
                let size = html.len() as u64;
                self.put_file(file_name, html.into_bytes()).await?;
                Ok(size)
            }
            PublishTarget::Bucket(..) => {
                // A page takes a few milliseconds; the runtime stays free for other tasks.
                let place = PathBuf::from(self.describe(file_name));
                let compress = move || compressed(html.as_bytes());
                let bytes = self.blocking(place, compress).await?;
                let size = bytes.len() as u64;
                let body = Body::Bytes(bytes);
                let content = page_content(media_type, Some("gzip"));
                self.put_object(file_name, body, content).await?;
                Ok(size)
            }
        }
    }

    /// Begins a file that is written in chunks; `spool_dir` holds it until it is complete.
    pub async fn begin(
        &self,
        file_name: &str,
        spool_dir: &Location,
    ) -> Result<ListDraft, DeliverError> {
        let (publisher, spool_dir) = (self.clone(), spool_dir.to_owned());
        let file = self.on_disk(file_name, move || match &publisher.place {
            PublishTarget::Dir { asked, allowed, .. } => {
                publisher.enter_to_write(asked, allowed)?.draft(FILE_MODE)
            }
            PublishTarget::Bucket(..) => spool_dir.open_or_make(0o700)?.draft(0o600),
        });
        let file = file.await?;
        Ok(ListDraft {
            publisher: self.clone(),
            file: Some(file),
            file_name: file_name.to_owned(),
        })
    }

    /// Reads a file that was published in a directory; `None` if there is none. `work` runs on a blocking thread.
    pub(crate) async fn read_end<T: Send + 'static>(
        &self,
        file_name: &str,
        work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, DeliverError> {
        let PublishTarget::Dir { asked, allowed, .. } = &self.place else {
            return Ok(None);
        };
        let (publisher, name) = (self.clone(), file_name.to_owned());
        let (asked, allowed) = (asked.clone(), allowed.clone());
        let read = move || {
            let folder = publisher.enter(&asked, &allowed)?;
            match folder.read(&name) {
                Ok(file) => work(&file).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.on_disk(file_name, read).await
    }

    async fn put_object(
        &self,
        file_name: &str,
        body: Body,
        content: Content,
    ) -> Result<(), DeliverError> {
        let Some((bucket, key)) = self.object(file_name) else {
            let source = io::Error::new(
                io::ErrorKind::InvalidFilename,
                "the prefix leaves no room for a name: shorten publish.prefix",
            );
            return Err(DeliverError::File {
                path: self.describe(file_name).into(),
                source,
            });
        };
        self.store
            .put(&bucket, &key, body, content)
            .await
            .map_err(DeliverError::Publish)
    }

    /// Works on the file system of the place, or on that of the spool directory, for at most ten seconds.
    async fn on_disk<T: Send + 'static>(
        &self,
        file_name: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, DeliverError> {
        let path = PathBuf::from(self.describe(file_name));
        let place = match &self.place {
            PublishTarget::Dir { allowed, .. } => allowed,
            PublishTarget::Bucket(..) => &path,
        };
        let done = crate::mounted::work_in_time(place, work).await;
        done.map_err(|source| DeliverError::File { path, source })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: PathBuf,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, DeliverError> {
        let done = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| DeliverError::File { path, source })
    }
}

/// The headers of a page or a list.
const fn page_content(media_type: &'static str, encoding: Option<&'static str>) -> Content {
    Content {
        media_type,
        cache_control: NO_CACHE,
        encoding,
    }
}

/// Compresses a text. The same text gives the same bytes: the gzip header has no time and no name.
fn compressed(text: &[u8]) -> io::Result<Vec<u8>> {
    let room = Vec::with_capacity(text.len() / 8);
    let mut encoder = GzBuilder::new().mtime(0).write(room, COMPRESSION);
    encoder.write_all(text)?;
    encoder.finish()
}

/// A file to be published; it becomes visible when it is complete.
#[derive(Debug)]
pub struct ListDraft {
    publisher: Publisher,
    /// `None` after a step on it failed.
    file: Option<directory::Draft>,
    file_name: String,
}

impl ListDraft {
    /// Appends a chunk.
    pub async fn append(&mut self, bytes: Vec<u8>) -> Result<(), DeliverError> {
        let mut file = self.take()?;
        let written = self.publisher.on_disk(&self.file_name, move || {
            file.write_all(&bytes)?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    fn take(&mut self) -> Result<directory::Draft, DeliverError> {
        self.file.take().ok_or_else(|| DeliverError::File {
            path: self.publisher.describe(&self.file_name).into(),
            source: io::Error::other("an earlier part of it was not written"),
        })
    }

    /// Writes at any place of the file, as [`ListDraft::append`] does at its end; `work` runs on a blocking thread.
    pub(crate) async fn write<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DeliverError> {
        let file = self.take()?;
        let written = self.publisher.on_disk(&self.file_name, move || {
            let written = work(file.file())?;
            Ok((file, written))
        });
        let (file, written) = written.await?;
        self.file = Some(file);
        Ok(written)
    }

    /// Publishes the complete file and returns its size, in bytes.
    pub async fn finish(mut self, media_type: &'static str) -> Result<u64, DeliverError> {
        let file = self.take()?;
        let Self {
            publisher,
            file_name,
            ..
        } = self;
        let is_in_directory = matches!(publisher.place, PublishTarget::Dir { .. });
        let name = file_name.clone();
        let finished = publisher.on_disk(&file_name, move || {
            let length = file.file().metadata()?.len();
            Ok(match is_in_directory {
                true => {
                    file.keep(&name)?;
                    (length, None)
                }
                false => (length, Some(file)),
            })
        });
        let (length, spooled) = finished.await?;
        if let Some(file) = spooled {
            let body = Body::File(file.path());
            let content = page_content(media_type, None);
            publisher.put_object(&file_name, body, content).await?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn publisher(allowed: &Path, asked: &Path) -> Publisher {
        let place = PublishTarget::Dir {
            asked: asked.to_owned(),
            allowed: allowed.to_owned(),
            url: None,
        };
        let (keyring, job) = (Keyring::new([7; 32]), "j".parse().unwrap());
        let store = Arc::new(MemoryStore::new(1000));
        Publisher::new(store, place, &keyring, &job, &Audience::Everyone, "pages")
    }

    #[tokio::test]
    async fn a_prefix_without_room_for_a_name_parks_the_job_with_its_reason() {
        let spool = tempfile::tempdir().unwrap();
        let prefix = format!("{}/", "x".repeat(1000));
        let bucket = PublishTarget::Bucket("reports".parse().unwrap(), prefix.parse().unwrap());
        let allowed = spool.path().to_owned();
        let asked = allowed.join("x".repeat(300));
        for place in [
            bucket,
            PublishTarget::Dir {
                asked,
                allowed,
                url: None,
            },
        ] {
            let publisher = Publisher {
                place,
                ..publisher(spool.path(), spool.path())
            };
            let error = page_and_list(&publisher, spool.path()).await.unwrap_err();
            let error = crate::error::JobError::from(error);
            let sentence = crate::text::chain(&error);
            assert_eq!(
                error.class(),
                crate::error::FailureClass::Permanent,
                "{sentence}"
            );
        }
    }

    async fn page_and_list(publisher: &Publisher, spool: &Path) -> Result<(), DeliverError> {
        let page = "<p>page".to_owned();
        publisher.put_page("index.html", page, "text/html").await?;
        let mut list = publisher.begin("urls.txt", &spool.into()).await?;
        list.append(b"https://example.org/".to_vec()).await?;
        assert_eq!(
            fs::metadata(list.file.as_ref().unwrap().path())
                .unwrap()
                .mode()
                & 0o777,
            0o600
        );
        list.finish("text/plain").await.map(drop)
    }

    #[tokio::test]
    async fn a_link_below_the_allowed_directory_is_refused_and_the_allowed_one_may_be_a_link() {
        let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (allowed, named) = (inside.path().join("allowed"), inside.path().join("named"));
        fs::create_dir(&allowed).unwrap();
        symlink(outside.path(), allowed.join("link")).unwrap();
        for asked in ["link", "link/deeper"] {
            let publisher = publisher(&allowed, &allowed.join(asked));
            let error = page_and_list(&publisher, inside.path()).await.unwrap_err();
            let sentence = crate::text::chain(&error);
            assert!(sentence.contains("symbolic link"), "{sentence}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        symlink(&allowed, &named).unwrap();
        for asked in ["", "a/b"] {
            let publisher = publisher(&named, &named.join(asked));
            page_and_list(&publisher, inside.path()).await.unwrap();
            let folder = named.join(asked).join(&publisher.folder);
            let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
            // The umask applies to both.
            assert_eq!(mode(&folder) & 0o666, mode(&folder.join("index.html")));
            assert_eq!(mode(&folder) & 0o666, mode(&folder.join("urls.txt")));
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        }
    }
}
