//! A local S3 endpoint: serves directories as buckets, so that signed links work without an AWS account.
//!
//! A [`Site`] is a directory with one folder for each bucket, and the key that signs for it. One [`Endpoint`] serves all sites:
//! the access key of a request selects its site. An operator may put files into the folders by hand; the file `2026/11/a b.pdf`
//! has the key `2026/11/a b.pdf`.
//!
//! It supports the part of S3 that Handout and the holders of links need: `GetObject` and `HeadObject` with ranges, conditions
//! and overrides, `PutObject` with `If-None-Match: *` and `If-Match`, `ListObjectsV2`, `HeadBucket` and `ListBuckets`, and the
//! tags of objects. An object with the tag `handout-revoked=true` is denied to all. Every request must be signed; every other
//! operation returns `NotImplemented`. Buckets are created by the operator, or by
//! [`create_bucket`].
//!
//! The path of a request:
//!
//! 1. `service`: connections; `room` limits their number, and `patience` closes those that do not read;
//!    `people` makes pages of errors for browsers; `access_log` writes a line for each
//! 2. `scope`: checks of a signature before it is computed, as `claim` and `query` read it; `below`: the host and the path that
//!    it covers; then s3s computes it; `rejection`: the words of errors
//! 3. `objects`: the operations of links, with the `conditions` of HTTP; `backend`: the other operations
//! 4. `bucket`: complete files in their places; `names` maps keys to places, `description` stores headers and `tags`, `upload`
//!    receives bytes, and `listing` sorts keys

mod access_log;
mod backend;
mod below;
mod bounds;
mod bucket;
mod claim;
mod conditions;
mod description;
mod listing;
mod names;
mod objects;
mod patience;
mod people;
mod query;
mod rejection;
mod room;
mod scope;
mod service;
mod tags;
mod upload;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use presign::ServerUrl;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::people::{LinkTrouble, TroublePages};

use self::access_log::{AccessLog, AccessLogWriter};
use self::below::PublicUrl;
use self::bucket::Bucket;
use self::people::PagesSlot;
use self::scope::Sites;
use self::service::Service;

/// Whether a request passes the checks before its signature is computed; `None` if it is not an HTTP request. For the fuzz
/// targets.
#[doc(hidden)]
pub fn passes_scope(site: Site, uri: &str, headers: &[(&str, &str)]) -> Option<bool> {
    let mut request = hyper::Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    let sites = Sites::new(vec![site]).ok()?;
    Some(sites.admit(&parts, claim::now()).is_ok())
}

/// The target of log events: the module of the program that the endpoint was before it became a crate. Filters keep working.
const LOG_TARGET: &str = "handout::embedded";

/// A directory of buckets, and the key that signs for it.
#[derive(Clone)]
pub struct Site {
    /// The access key id. It selects the site of a request.
    pub access_key_id: String,
    /// The secret that signs; it is never printed.
    pub secret_access_key: String,
    /// The region that requests must be signed for.
    pub region: String,
    /// Contains one folder for each bucket.
    pub directory: PathBuf,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            access_key_id,
            secret_access_key: _,
            region,
            directory,
        } = self;
        f.debug_struct("Site")
            .field("access_key_id", access_key_id)
            .field("secret_access_key", &"****")
            .field("region", region)
            .field("directory", directory)
            .finish()
    }
}

/// Why an endpoint did not start.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Another process listens there.
    #[error(
        "{address} is in use by another program, perhaps another Handout: stop it, or set `listen` in [embedded] to a free address"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses to listen on the address.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The directory of a site does not exist, or is not accessible.
    #[error(
        "could not open the directory {directory:?} of a connection: it must exist and be readable"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The access log could not be opened.
    #[error(
        "could not open the access log in {directory:?}: name another directory by `access_log` in [embedded], or leave it out"
    )]
    AccessLog {
        /// The directory.
        directory: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Two sites share an access key, which must select the site of a request.
    #[error(
        "two connections with a directory share the access key {access_key_id:?}: give each its own"
    )]
    SharedAccessKey {
        /// The access key.
        access_key_id: String,
    },
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A running S3 endpoint. Dropping it stops it immediately; see [`shutdown`](Self::shutdown).
pub struct Endpoint {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    pages: PagesSlot,
    /// The single task that accepts connections; each connection is a child task of it.
    task: JoinSet<()>,
    /// The thread of the access log.
    log: Option<AccessLogWriter>,
}

impl Endpoint {
    /// Binds `listen` (port 0 means any free port) and serves the sites.
    pub async fn start(listen: SocketAddr, sites: Vec<Site>) -> Result<Self, EndpointError> {
        Self::start_with(listen, sites, PublicUrl::default(), None).await
    }

    /// The same for links that name another URL, at which a proxy passes requests on to the endpoint. It must leave the `Host`
    /// header unchanged. A path of the URL, such as `/files`, may be stripped from a request, or kept.
    pub async fn start_behind(
        listen: SocketAddr,
        sites: Vec<Site>,
        public_url: &ServerUrl,
    ) -> Result<Self, EndpointError> {
        Self::start_with(listen, sites, PublicUrl::new(public_url), None).await
    }

    /// The same with an access log in a directory, in the format of S3.
    pub async fn start_logged(
        listen: SocketAddr,
        sites: Vec<Site>,
        public_url: &ServerUrl,
        access_log: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        Self::start_with(listen, sites, PublicUrl::new(public_url), access_log).await
    }

    async fn start_with(
        listen: SocketAddr,
        sites: Vec<Site>,
        public_url: PublicUrl,
        access_log: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        let sites: Vec<Site> = sites
            .into_iter()
            .map(real_directory)
            .collect::<Result<_, _>>()?;
        for site in &sites {
            if let Err(error) = remove_abandoned_drafts(&site.directory) {
                let directory = site.directory.display();
                tracing::warn!(target: LOG_TARGET, %error, %directory, "could not remove uploads that were never finished");
            }
        }
        let sites = Sites::new(sites)
            .map_err(|access_key_id| EndpointError::SharedAccessKey { access_key_id })?;
        let (listener, address) = bind(listen).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => EndpointError::AddressInUse { address: listen },
            _ => EndpointError::Listen {
                address: listen,
                source,
            },
        })?;
        let opened = access_log.map(|directory| {
            AccessLog::open(directory).map_err(|source| EndpointError::AccessLog {
                directory: directory.to_owned(),
                source,
            })
        });
        let (log, writer) = opened.transpose()?.unzip();
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        let pages = PagesSlot::default();
        let service = Service::new(sites, public_url, Arc::clone(&pages), log.map(Arc::new));
        task.spawn(service::serve(listener, service, stopped));
        Ok(Self {
            address,
            stop,
            pages,
            task,
            log: writer,
        })
    }

    /// Tells people in browsers by these pages what is wrong with a link; before, they get S3's XML as programs do. The first
    /// pages stay.
    pub fn tell_people_by(&self, pages: Arc<dyn TroublePages>) {
        let _told_already = self.pages.set(pages);
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests in progress finish for at most `grace`, then cuts them.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        // Cancelled, the task drops its connections; an interrupted upload leaves only a draft, which is removed.
        if tokio::time::timeout(grace, self.task.join_next())
            .await
            .is_err()
        {
            self.task.shutdown().await;
        }
        if let Some(log) = self.log {
            // The last lines are written before the program ends.
            drop(tokio::task::spawn_blocking(move || log.finish()).await);
        }
    }
}

async fn bind(listen: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Resolves the symbolic links in a site's path, which the operator controls; links below it are not followed.
fn real_directory(site: Site) -> Result<Site, EndpointError> {
    let opened =
        fs::canonicalize(&site.directory).and_then(|real| fs::read_dir(&real).map(|_| real));
    match opened {
        Ok(directory) => Ok(Site { directory, ..site }),
        Err(source) => Err(EndpointError::Directory {
            directory: site.directory,
            source,
        }),
    }
}

fn remove_abandoned_drafts(directory: &Path) -> io::Result<()> {
    for name in bucket::names_in(directory)? {
        if let Some(bucket) = Bucket::open(directory, &name)? {
            bucket.remove_abandoned_drafts()?;
        }
    }
    Ok(())
}

/// Creates the folder of a bucket; an existing one is left unchanged.
///
/// The name must be valid in S3: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>.
pub fn create_bucket(directory: &Path, bucket: &str) -> io::Result<()> {
    if !s3s::path::check_bucket_name(bucket) {
        let text = format!(
            "{bucket:?} cannot be the name of a bucket: 3 to 63 of a-z, 0-9, \"-\" and \".\""
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    fs::create_dir_all(directory.join(bucket))?;
    File::open(directory)?.sync_all()
}
