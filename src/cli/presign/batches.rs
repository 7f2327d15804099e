//! From batches of keys to printed links: each batch is signed, recorded, and then printed.

use std::cell::Cell;
use std::sync::Arc;

use handout::assemble::OpenError;
use handout::assemble::connection::{Direct, OF_ENVIRONMENT};
use handout::audit;
use handout::audit::record::{Context, LinkKind};
use handout::clock;
use handout::error::JobError;
use handout::job::{Bucket, Via};
use handout::links::connection::AssumedRole;
use handout::links::direct::{self, LinkOptions};
use handout::links::signer::SignerError;
use handout::links::{Link, Links, SignError, UrlSigner};
use handout::plan::expiry::{Issuer, asked_until, lifetime};
use handout::plan::{CredentialsEnd, Lifetime};
use jiff::Timestamp;
use presign::cloudfront::UrlPolicy;
use serde_json::json;

use super::PresignArgs;
use super::errors::{PresignError, advice};
use super::found::ListingProgress;
use super::keys::{KeyBatch, Keys, RECORDED, UNRECORDED};
use super::recording::PresignBooks;
use crate::cli::terminal;

/// The state of the batches from keys to printed links.
pub(super) struct PresignDesk<'a> {
    pub(super) arguments: &'a PresignArgs,
    pub(super) options: LinkOptions,
    pub(super) direct: Direct,
    pub(super) recording: Option<PresignBooks>,
    pub(super) progress: ListingProgress,
    /// Whether links may end before the printed expiry, with the signing session: this is reported once.
    pub(super) may_end_early: Cell<bool>,
}

impl PresignDesk<'_> {
    pub(super) async fn hand_out(&self, keys: &mut Keys<'_>) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let most = match self.recording {
            Some(_) => RECORDED,
            None => UNRECORDED,
        };
        while let Some(batch) = keys.next_batch(most).await? {
            if batch.keys.is_empty() {
                continue;
            }
            let count = batch.keys.len();
            let links = self.sign(batch).await?;
            text.clear();
            match &self.recording {
                // The lines are durable before a link is printed.
                Some(recording) => {
                    let links = audit::record(links, &self.context(recording), &recording.log)
                        .await
                        .map_err(OpenError::Audit)?;
                    self.spell(links.links(), links.lifetime(), &mut text)?;
                }
                None => self.spell(&links.links, links.lifetime, &mut text)?,
            }
            self.progress
                .print(count, || terminal::write_exactly(&text))?;
        }
        Ok(())
    }

    /// Signs a batch. Each has its own signing time: keys may arrive slowly, and all links must live as long as requested.
    async fn sign(&self, batch: KeyBatch) -> anyhow::Result<Links> {
        let KeyBatch { bucket, keys } = batch;
        let (hand, access_key_id, lifetime) = match self.arguments.via {
            Via::S3 => self.hand_of_s3(&bucket).await?,
            Via::Cloudfront => self.hand_of_cloudfront(&bucket)?,
            Via::Portal => anyhow::bail!("links of the portal belong to a job: submit one"),
        };
        let links = direct::sign(&self.options, &bucket, keys, &hand, access_key_id, lifetime);
        Ok(links.map_err(|error| match error {
            SignError::FileName(error) => PresignError::Filename(error),
            SignError::CloudFront(error) => PresignError::CloudFront(error),
        })?)
    }

    async fn hand_of_s3(&self, bucket: &Bucket) -> anyhow::Result<(UrlSigner, Arc<str>, Lifetime)> {
        let now = clock::system();
        let signer = &self.direct.signer;
        let asked = self.arguments.expires_in;
        let end = signer.credentials_end(asked_until(asked, now)).await;
        let end = end.map_err(|error| self.without_credentials(error))?;
        let lifetime = self.lifetime(Issuer::S3(end), now)?;
        self.warn_of_an_early_end(end, lifetime);
        let region = match &self.direct.regions {
            Some(store) => store
                .region(bucket)
                .await
                .map_err(PresignError::NoRegionFound)?,
            None => None,
        };
        let guard = self.arguments.expiry_guard;
        let signing = signer
            .presigner(bucket, region.as_deref(), lifetime, guard)
            .await;
        let (presigner, access_key_id) = signing.map_err(JobError::Signer)?;
        Ok((UrlSigner::S3(Box::new(presigner)), access_key_id, lifetime))
    }

    /// Warns, once, that the session ends or may end before the printed expiry.
    fn warn_of_an_early_end(&self, end: CredentialsEnd, lifetime: Lifetime) {
        if end.reaches(lifetime.expires_at) {
            return;
        }
        let why = match end {
            CredentialsEnd::At(end) => format!("end at {end}"),
            CredentialsEnd::Never | CredentialsEnd::Unknown => {
                "do not say when they expire".to_owned()
            }
        };
        if !self.may_end_early.replace(true) {
            terminal::complain(format_args!(
                "the signing credentials are temporary and {why}: the links end with the session, also before their own end"
            ));
        }
    }

    fn hand_of_cloudfront(
        &self,
        bucket: &Bucket,
    ) -> anyhow::Result<(UrlSigner, Arc<str>, Lifetime)> {
        let now = clock::system();
        let begin = self.arguments.not_before;
        let distribution = self.direct.distribution.as_ref().filter(|distribution| {
            let behind = distribution.origin_scope.bucket.as_ref();
            behind.is_none_or(|behind| behind == bucket)
        });
        let distribution = distribution.ok_or_else(|| PresignError::NoCloudFront {
            connection: self.connection().to_owned(),
            bucket: bucket.clone(),
        })?;
        let lifetime = self.lifetime(Issuer::CloudFront, begin.unwrap_or(now))?;
        let mut policy = UrlPolicy::until(lifetime.expires_at);
        if let Some(begin) = begin {
            policy = policy.starting(begin);
        }
        if let Some(network) = self.arguments.from_network {
            policy = policy.from_network(network);
        }
        let signing = distribution.signing(policy, None);
        let hand = UrlSigner::CloudFront(signing.map_err(PresignError::CloudFront)?);
        Ok((
            hand,
            Arc::clone(distribution.signer.key_pair_id()),
            lifetime,
        ))
    }

    /// There is no rule, so the requested lifetime is the limit.
    fn lifetime(&self, issuer: Issuer, begin: Timestamp) -> Result<Lifetime, PresignError> {
        let (asked, guard) = (self.arguments.expires_in, self.arguments.expiry_guard);
        lifetime(asked, issuer, asked, guard, begin).map_err(|shortfall| PresignError::TooShort {
            advice: advice(shortfall.limit, guard),
            shortfall,
        })
    }

    fn connection(&self) -> &str {
        self.arguments
            .connection
            .as_deref()
            .unwrap_or(OF_ENVIRONMENT)
    }

    /// Adds advice for programs without a configuration of credentials.
    fn without_credentials(&self, error: SignerError) -> anyhow::Error {
        match error {
            SignerError::NoCredentials { source, .. } if self.arguments.connection.is_none() => {
                PresignError::NoCredentials(source).into()
            }
            SignerError::NoCredentials { .. }
            | SignerError::Slow { .. }
            | SignerError::Changed { .. }
            | SignerError::Endpoint { .. } => JobError::Signer(error).into(),
        }
    }

    fn context<'a>(&'a self, recording: &'a PresignBooks) -> Context<'a> {
        Context {
            job: direct::JOB,
            connection: self.connection(),
            role: recording.role.as_deref().map(|arn| AssumedRole {
                arn,
                has_job_sessions: false,
            }),
            message_id: None,
            attempt: 1,
            kind: LinkKind::Named,
            names: &recording.names,
        }
    }

    fn spell(
        &self,
        links: &[Link],
        lifetime: Lifetime,
        text: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        for link in links {
            if self.arguments.form.json {
                let line = json!({
                    "url": link.url.expose(),
                    "bucket": link.bucket,
                    "key": link.object.key,
                    "expires_at": lifetime.expires_at,
                    "bound": lifetime.bound,
                    "may_end_early": self.may_end_early.get(),
                    "link_id": Some(&link.id).filter(|id| !id.is_empty()),
                });
                serde_json::to_writer(&mut *text, &line)?;
            } else {
                text.extend_from_slice(link.url.expose().as_bytes());
            }
            text.push(b'\n');
        }
        Ok(())
    }
}
