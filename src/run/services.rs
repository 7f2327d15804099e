//! What a job's steps need, in three parts: a step takes the one that it needs.
//!
//! What records links and deliveries is the fourth: [`crate::deliver::DeliveryLedger`].

use std::sync::Arc;

use crate::deliver::notice::Notices;
use crate::deliver::{Mailer, Sender};
use crate::error::JobError;
use crate::job::{Bucket, ConnectionName, Via};
use crate::keyring::{Keyring, Purpose};
use crate::links::connection::{Connection, Connections};
use crate::links::listing::GatherError;
use crate::links::{LinkSigner, SignError, UrlSigner};
use crate::media;
use crate::plan::{Plan, PlanError, Policy};
use crate::render::{MailSettings, Templates};
use directory::Location;
use presign::cloudfront;

/// What signs links, and for whom.
#[derive(Debug, Clone)]
pub struct Signing {
    /// The stores, their keys, and where links open.
    pub connections: Arc<Connections>,
    /// The installation's secret.
    pub keyring: Keyring,
    /// What jobs may ask.
    pub policy: Arc<Policy>,
}

/// What renders mails and pages.
#[derive(Debug, Clone)]
pub struct Presenting {
    /// The templates.
    pub templates: Arc<Templates>,
    /// The language, the sender and the room of mails.
    pub mail: Arc<MailSettings>,
    /// Which pictures of galleries are looked at.
    pub pictures: media::PictureSettings,
    /// Where long listings and lists are kept while they are worked on.
    pub spool_dir: Location,
}

/// What sends mails.
#[derive(Debug, Clone)]
pub struct Sending {
    /// The way out: relays or an outbox.
    pub mailer: Mailer,
    /// The sender, and what its mails carry.
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

    /// The role whose credentials sign the links of a connection, if it takes one on.
    pub(crate) fn role(&self, connection: &ConnectionName) -> Option<&str> {
        self.connections.get(connection)?.role.as_deref()
    }

    /// What signs the links to a plan's objects.
    pub async fn link_signer(&self, plan: &Plan) -> Result<LinkSigner, JobError> {
        if plan.via == Via::S3 {
            return self.published_link_signer(plan, &plan.bucket).await;
        }
        let connection = self.connection(&plan.connection)?;
        let Some(front) = &connection.front else {
            return Err(PlanError::NoCloudfront {
                connection: plan.connection.clone(),
                place: format!("s3://{}/", plan.bucket),
            }
            .into());
        };
        let signing = front
            .signing(
                cloudfront::UrlPolicy::until(plan.lifetime.expires_at),
                plan.whole_prefix(),
            )
            .map_err(SignError::from)?;
        Ok(LinkSigner {
            url_signer: UrlSigner::CloudFront(signing),
            access_key_id: Arc::clone(front.signer.key_pair_id()),
            link_ids: self.keyring.deriver(Purpose::LinkId),
        })
    }

    /// What signs the links to what a plan publishes: S3's always, since a distribution stands before the objects.
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
        let signer = &connection.signer;
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
