//! An open connection: a store, and the signer of links to its objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::distribution::Distribution;
use super::signer::Signer;
use crate::job::ConnectionName;
use crate::rate_limit::RateLimiter;
use crate::store::ObjectStore;
use crate::store::s3::S3Store;
use crate::store::zip_memory::ZipMemory;

/// An open connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The same store without a rate limit, for the ledger.
    pub s3: S3Store,
    /// Signs links, for the server that recipients reach.
    pub signer: Signer,
    /// Signs for the server that the program itself uses, where links name a different one.
    pub(crate) own_signer: Option<Signer>,
    /// The distribution in front of its bucket, if there is one.
    pub distribution: Option<Arc<Distribution>>,
    /// The role whose credentials sign, if the connection assumes one.
    pub role: Option<Arc<str>>,
    /// The rate limit of its links.
    pub link_rate: RateLimiter,
    /// The memory for its ZIPs.
    pub zip_memory: ZipMemory,
}

/// All connections, by name.
pub type Connections = BTreeMap<ConnectionName, Connection>;
