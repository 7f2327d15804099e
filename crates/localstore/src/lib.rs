//! The S3 of one machine: directories, served as buckets on loopback, so that signed links really work without an account.
//!
//! A [`Site`] is a directory with one folder for each bucket, and the key that signs for it. One [`Endpoint`] serves
//! all sites: the access key of a request decides which of them it sees. An operator may put files into the folders by hand;
//! what lies there as `2026/11/a b.pdf` has the key `2026/11/a b.pdf`.
//!
//! It is S3 as far as Handout and the holder of a link need it: `GetObject` and `HeadObject` with ranges, conditions
//! and overrides, `PutObject` with `If-None-Match: *` and `If-Match`, `ListObjectsV2`, `HeadBucket` and `ListBuckets`.
//! Every request must be signed; everything else answers `NotImplemented`. Buckets are made by the operator, or by
//! [`create_bucket`].
//!
//! How a request travels:
//!
//! 1. `service`: connections, with `room` for their number and `patience` for those who do not read
//! 2. `scope`: what must be true of a signature before it is computed; `below`: for which path it is; then s3s computes it
//! 3. `backend`: the operations
//! 4. `bucket`: files that are whole and where they should be, with `names` for their places, `description` for
//!    their headers, `upload` for the bytes that come, and `listing` for their order

mod backend;
mod below;
mod bounds;
mod bucket;
mod description;
mod listing;
mod names;
mod patience;
mod room;
mod scope;
mod service;
mod upload;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::below::PublicPath;
use self::bucket::Bucket;
use self::scope::Sites;
use self::service::Service;

/// Whether a request passes the checks that come before its signature is computed; nothing if it is no HTTP request. For the fuzz
/// targets.
#[doc(hidden)]
pub fn passes_scope(site: Site, uri: &str, headers: &[(&str, &str)]) -> Option<bool> {
    let mut request = hyper::Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    Some(Sites::new(vec![site]).ok()?.admit(&parts).is_ok())
}

/// The target of log events: the module that the endpoint was of the program that embeds it, so that filters keep working.
const LOG_TARGET: &str = "handout::embedded";

/// A directory of buckets, and the key whose signatures open it.
#[derive(Clone)]
pub struct Site {
    /// Names the key, and so the site, in every request.
    pub access_key_id: String,
    /// Signs; it is never printed.
    pub secret_access_key: String,
    /// The region that requests must be signed for.
    pub region: String,
    /// Holds one folder for each bucket.
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
    /// Somebody else listens there.
    #[error(
        "{address} is in use by another program, perhaps another Handout: stop it, or set `listen` in [embedded] to a free address"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The directory of a site is not there, or not for us.
    #[error(
        "could not open the directory {directory:?} of a connection: it must exist and be readable"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The access key of a request could not decide.
    #[error(
        "two connections with a directory share the access key {access_key_id:?}: give each its own"
    )]
    SharedAccessKey {
        /// The access key.
        access_key_id: String,
    },
}

/// A running S3 endpoint. Dropped, it ends at once; see [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    /// The one task that accepts; the connections are tasks of its own.
    task: JoinSet<()>,
}

impl Endpoint {
    /// Binds `listen` (port 0 is any free port) and serves the sites.
    pub async fn start(listen: SocketAddr, sites: Vec<Site>) -> Result<Self, EndpointError> {
        Self::start_below(listen, sites, String::new()).await
    }

    /// The same for links whose public URL has a path, such as `/files`: a proxy may take it off a request, or leave it there.
    pub async fn start_below(
        listen: SocketAddr,
        sites: Vec<Site>,
        public_path: String,
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
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        let service = Service::new(sites, PublicPath::new(&public_path));
        task.spawn(service::serve(listener, service, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests in progress finish for at most `grace`, then cuts them.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        // Cancelled, the task drops its connections; an upload that is cut leaves nothing but a draft, which is removed.
        if tokio::time::timeout(grace, self.task.join_next())
            .await
            .is_err()
        {
            self.task.shutdown().await;
        }
    }
}

async fn bind(listen: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Resolves the symbolic links of a site's directory, which are the operator's; those below it are not followed.
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

/// Makes the folder of a bucket; one that is there already stays as it is.
///
/// The name must be one that S3 would take: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>.
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
