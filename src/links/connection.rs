//! An open connection: a store, and the signer of links to its objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::distribution::Distribution;
use super::sessions::JobSessions;
use super::signer::Signer;
use crate::job::{ConnectionName, JobId};
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
    /// The sessions of jobs, if each job has its own.
    pub(crate) sessions: Option<JobSessions>,
    /// The rate limit of its links.
    pub link_rate: RateLimiter,
    /// The memory for its ZIPs.
    pub zip_memory: ZipMemory,
}

impl Connection {
    /// The signer of a job's links: with a session of the job's own, if the connection says so.
    pub fn signer_of(&self, job: &JobId) -> Signer {
        match &self.sessions {
            Some(sessions) => self.signer.with_source(sessions.of(job.as_str())),
            None => self.signer.clone(),
        }
    }

    /// The role whose credentials sign, as audit lines have it.
    pub(crate) fn assumed_role(&self) -> Option<AssumedRole<'_>> {
        Some(AssumedRole {
            arn: self.role.as_deref()?,
            has_job_sessions: self.sessions.is_some(),
        })
    }
}

/// A role whose credentials sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssumedRole<'a> {
    /// Its ARN.
    pub arn: &'a str,
    /// Whether each job has a session of its own.
    pub has_job_sessions: bool,
}

/// All connections, by name.
pub type Connections = BTreeMap<ConnectionName, Connection>;
