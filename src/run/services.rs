//! What a job's steps need, in three parts: each step takes the part that it needs.
//!
//! The fourth part, which records links and deliveries, is [`crate::deliver::DeliveryLedger`].

use std::sync::Arc;

use crate::deliver::notice::Notices;
use crate::deliver::{Mailer, Sender};
use crate::error::JobError;
use crate::job::{Bucket, ConnectionName, Via};
use crate::keyring::{Keyring, Purpose};
use crate::links::connection::{AssumedRole, Connection, Connections};
use crate::links::listing::GatherError;
use crate::links::portal::{OF_PORTAL, PortalSigner};
use crate::links::{LinkSigner, SignError, UrlSigner};
use crate::media;
use crate::plan::{Plan, PlanError, Policy};
use crate::portal_token::PortalKeys;
use crate::render::{MailSettings, Templates};
use directory::Location;
use presign::cloudfront;

/// What signs links, and the rules for it.
#[derive(Debug, Clone)]
pub struct Signing {
    /// The stores, their credentials, and the hosts of links.
    pub connections: Arc<Connections>,
    /// The installation's secret.
    pub keyring: Keyring,
    /// The rules for jobs.
    pub policy: Arc<Policy>,
}

/// What renders mails and pages.
#[derive(Debug, Clone)]
pub struct Presenting {
    /// The templates.
    pub templates: Arc<Templates>,
    /// The language, the sender and the size limit of mails.
    pub mail: Arc<MailSettings>,
    /// Which pictures of galleries are loaded.
    pub pictures: media::PictureSettings,
    /// Which pictures of galleries get renditions.
    pub renditions: media::RenditionSettings,
    /// The directory of long listings and lists in progress.
    pub spool_dir: Location,
}

/// Where the bodies of messages are that are too long for the queue.
#[derive(Debug, Clone)]
pub struct Payloads {
    /// The connection that reads them, where the configuration has one for it.
    pub connection: Option<ConnectionName>,
    /// The buckets from which a body may be read.
    pub buckets: Arc<[Bucket]>,
}

impl Payloads {
    /// The connection that reads bodies from a bucket; `None` if none may be read there.
    pub fn connection_of(&self, bucket: &Bucket) -> Option<&ConnectionName> {
        let connection = self.connection.as_ref();
        connection.filter(|_| self.buckets.contains(bucket))
    }
}

/// The part that sends mails.
#[derive(Debug, Clone)]
pub struct Sending {
    /// How mails leave: relays or an outbox.
    pub mailer: Mailer,
    /// The sender, and the headers of its mails.
    pub sender: Sender,
    /// Notices about recipients that a job did not reach.
    pub notices: Notices,
}

impl Signing {
    /// The connection of that name.
    pub fn connection(&self, name: &ConnectionName) -> Result<&Connection, JobError> {
        self.connections.get(name).ok_or_else(|| {
            let known: Vec<&str> = self
                .connections
                .keys()
                .map(ConnectionName::as_str)
                .collect();
            JobError::UnknownConnection {
                name: name.to_string(),
                known: known.join(", "),
            }
        })
    }

    /// The role whose credentials sign the links of a connection, if it assumes one.
    pub(crate) fn role(&self, connection: &ConnectionName) -> Option<AssumedRole<'_>> {
        self.connections.get(connection)?.assumed_role()
    }

    /// The signer of the links to a plan's objects; of the portal's links, one for links of the same length.
    pub async fn link_signer(&self, plan: &Plan) -> Result<LinkSigner, JobError> {
        if plan.via == Via::S3 {
            return self.published_link_signer(plan, &plan.bucket).await;
        }
        if let Some(portal) = &plan.portal {
            // The records that real links point to are not made yet: these have the same length.
            let keys = PortalKeys::new(&self.keyring);
            return Ok(self.portal_signer(PortalSigner::to_measure(keys, Arc::clone(&portal.url))));
        }
        let connection = self.connection(&plan.connection)?;
        let Some(distribution) = &connection.distribution else {
            return Err(PlanError::NoCloudfront {
                connection: plan.connection.clone(),
                place: format!("s3://{}/", plan.bucket),
            }
            .into());
        };
        let signing = distribution
            .signing(
                cloudfront::UrlPolicy::until(plan.lifetime.expires_at),
                plan.whole_prefix(),
            )
            .map_err(SignError::from)?;
        Ok(LinkSigner {
            url_signer: UrlSigner::CloudFront(signing),
            access_key_id: Arc::clone(distribution.signer.key_pair_id()),
            link_ids: self.keyring.deriver(Purpose::LinkId),
        })
    }

    /// The signer of an audience's links of the portal.
    pub fn portal_signer(&self, signer: PortalSigner) -> LinkSigner {
        LinkSigner {
            url_signer: UrlSigner::Portal(Box::new(signer)),
            access_key_id: OF_PORTAL.into(),
            link_ids: self.keyring.deriver(Purpose::LinkId),
        }
    }

    /// The signer of the links to a plan's published pages: always S3's, since a distribution is in front of the
    /// objects only.
    pub async fn published_link_signer(
        &self,
        plan: &Plan,
        bucket: &Bucket,
    ) -> Result<LinkSigner, JobError> {
        let connection = self.connection(&plan.connection)?;
        let region = connection
            .store
            .region(bucket)
            .await
            .map_err(GatherError::Store)?;
        let signer = connection.signer_of(&plan.job.id);
        let (presigner, access_key_id) = signer
            .presigner(bucket, region.as_deref(), plan.lifetime, plan.expiry_guard)
            .await?;
        Ok(LinkSigner {
            url_signer: UrlSigner::S3(Box::new(presigner)),
            access_key_id,
            link_ids: self.keyring.deriver(Purpose::LinkId),
        })
    }
}
