//! A connection that works: a store, what signs links to its objects, and where they open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::front::Distribution;
use super::signer::Signer;
use crate::job::ConnectionName;
use crate::rate_limit::RateLimiter;
use crate::store::ObjectStore;
use crate::store::s3::S3Store;

/// A connection that works.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its objects.
    pub store: Arc<dyn ObjectStore>,
    /// The same without a limit to the rate, for the ledger.
    pub s3: S3Store,
    /// Signs links to them, at the server that recipients reach.
    pub signer: Signer,
    /// Signs for the server that the program itself asks, where links name another.
    pub(crate) own_signer: Option<Signer>,
    /// The distribution in front of its bucket, if there is one.
    pub front: Option<Arc<Distribution>>,
    /// The role whose credentials sign, if it takes one on.
    pub role: Option<Arc<str>>,
    /// How many links it may sign.
    pub link_rate: RateLimiter,
}

/// All connections, by name.
pub type Connections = BTreeMap<ConnectionName, Connection>;
