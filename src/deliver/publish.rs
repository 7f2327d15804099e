//! Pages and lists, put where their readers find them: into a bucket, or into a directory.
//!
//! In a bucket, pages are compressed: a thousand links are alike, and every browser takes `Content-Encoding: gzip`. In a
//! directory they are not, so that they open with a double click; nor are lists anywhere, so that `wget -i` reads them.
//!
//! The name of what a job publishes is derived with the installation's secret: nobody can guess it, and the same
//! job publishes under the same name again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::{Compression, GzBuilder};

use super::DeliverError;
use super::outbox::{Readers, persist, write_whole};
use crate::job::{Bucket, JobId, Key};
use crate::keyring::{Keyring, Purpose};
use crate::links::Audience;
use crate::plan::Place;
use crate::store::{Body, Content, ObjectStore};

/// A page of links is for the holder of its link alone: no cache on the way may keep it.
const NO_CACHE: &str = "private, no-store";

/// How hard pages are compressed: a page is alike in itself, and the fastest level finds most of that. `cargo bench --bench bulk`
/// shows what the others cost and save.
const COMPRESSION: Compression = Compression::fast();

/// Publishes what a job made for one audience.
#[derive(Debug, Clone)]
pub struct Publisher {
    store: Arc<dyn ObjectStore>,
    place: Place,
    folder: String,
}

impl Publisher {
    /// A publisher to `place`; `what` tells pages from lists.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        place: Place,
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
        }
    }

    /// The bucket and key of a file, when it goes into a bucket.
    pub fn object(&self, file_name: &str) -> Option<(Bucket, Key)> {
        match &self.place {
            Place::Bucket(bucket, prefix) => {
                let key = format!("{prefix}{}/{file_name}", self.folder);
                // A prefix of nearly 1,024 bytes leaves no room for a name; the store then says so.
                Some((bucket.clone(), key.parse().ok()?))
            }
            Place::Dir(_) => None,
        }
    }

    /// Where a file goes, in words.
    pub fn describe(&self, file_name: &str) -> String {
        match &self.place {
            Place::Bucket(bucket, prefix) => {
                format!("s3://{bucket}/{prefix}{}/{file_name}", self.folder)
            }
            Place::Dir(dir) => dir.join(&self.folder).join(file_name).display().to_string(),
        }
    }

    /// Puts a whole page and returns the size of what was put, in bytes.
    pub async fn put_page(
        &self,
        file_name: &str,
        html: String,
        media_type: &'static str,
    ) -> Result<u64, DeliverError> {
        match &self.place {
            Place::Dir(dir) => {
                let path = dir.join(&self.folder).join(file_name);
                let size = html.len() as u64;
                self.blocking(path.clone(), move || {
                    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
                    write_whole(&path, html.as_bytes(), Readers::Everybody)
                })
                .await?;
                Ok(size)
            }
            Place::Bucket(..) => {
                // A page takes a few milliseconds: other work goes on meanwhile.
                let place = PathBuf::from(self.describe(file_name));
                let compress = move || compressed(html.as_bytes());
                let bytes = self.blocking(place, compress).await?;
                let size = bytes.len() as u64;
                let body = Body::Bytes(bytes);
                self.put_object(file_name, body, media_type, Some("gzip"))
                    .await?;
                Ok(size)
            }
        }
    }

    /// Begins a file that is written piece by piece; `spool_dir` keeps it until it is whole.
    pub async fn begin(
        &self,
        file_name: &'static str,
        spool_dir: &Path,
    ) -> Result<Draft, DeliverError> {
        let dir = match &self.place {
            Place::Dir(dir) => dir.join(&self.folder),
            Place::Bucket(..) => spool_dir.to_owned(),
        };
        let made = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || {
                fs::create_dir_all(&dir)?;
                tempfile::NamedTempFile::new_in(&dir)
            }
        });
        let file = made
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let file = file.map_err(|source| DeliverError::File { path: dir, source })?;
        Ok(Draft {
            publisher: self.clone(),
            file,
            file_name,
        })
    }

    async fn put_object(
        &self,
        file_name: &str,
        body: Body,
        media_type: &'static str,
        encoding: Option<&'static str>,
    ) -> Result<(), DeliverError> {
        let Some((bucket, key)) = self.object(file_name) else {
            let source = io::Error::new(
                io::ErrorKind::InvalidFilename,
                "the prefix leaves no room for a name",
            );
            return Err(DeliverError::File {
                path: self.describe(file_name).into(),
                source,
            });
        };
        let content = Content {
            media_type,
            cache_control: NO_CACHE,
            encoding,
        };
        self.store
            .put(&bucket, &key, body, content)
            .await
            .map_err(DeliverError::Publish)
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

/// Compresses a text; the same text gives the same bytes, since neither time nor name is in them.
fn compressed(text: &[u8]) -> io::Result<Vec<u8>> {
    let room = Vec::with_capacity(text.len() / 8);
    let mut encoder = GzBuilder::new().mtime(0).write(room, COMPRESSION);
    encoder.write_all(text)?;
    encoder.finish()
}

/// A file on its way to be published; it is not there before it is whole.
#[derive(Debug)]
pub struct Draft {
    publisher: Publisher,
    file: tempfile::NamedTempFile,
    file_name: &'static str,
}

impl Draft {
    /// Appends a piece.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DeliverError> {
        let path = self.file.path().to_owned();
        self.file
            .write_all(bytes)
            .map_err(|source| DeliverError::File { path, source })
    }

    /// Publishes the whole and returns its size, in bytes.
    pub async fn finish(self, media_type: &'static str) -> Result<u64, DeliverError> {
        let Self {
            publisher,
            file,
            file_name,
        } = self;
        let length = file.as_file().metadata().map(|metadata| metadata.len());
        let length = length.map_err(|source| DeliverError::File {
            path: file.path().to_owned(),
            source,
        })?;
        match &publisher.place {
            Place::Dir(dir) => {
                let path = dir.join(&publisher.folder).join(file_name);
                publisher
                    .blocking(path.clone(), move || {
                        persist(file, &path, Readers::Everybody)
                    })
                    .await?;
            }
            Place::Bucket(..) => {
                let body = Body::File(file.path().to_owned());
                publisher
                    .put_object(file_name, body, media_type, None)
                    .await?;
            }
        }
        Ok(length)
    }
}
