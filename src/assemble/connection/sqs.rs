//! Clients for SQS queues: region and server of each.

use std::path::Path;
use std::sync::Arc;

use aws_config::identity::IdentityCache;
use aws_credential_types::provider::SharedCredentialsProvider;
use presign::partition::EndpointVariant;

use super::origin::Configured;
use super::{Base, no_region, session_end};
use crate::config::ConnectionConfig;
use crate::config::queue_address::QueuePlace;
use crate::config_error::ConfigError;
use crate::edge::{Egress, HeedsRetryAfter, http};
use crate::environment::Environment;
use crate::links::credentials::CredentialSource;
use crate::links::credentials::doubt::OnceMore;

/// How an SQS queue is reached; settings that are left out come from the environment or the profile.
#[derive(Debug, Clone, Copy)]
pub struct SqsRoute<'a> {
    /// The queue's region.
    pub region: Option<&'a str>,
    /// Another SQS-compatible server.
    pub endpoint_url: Option<&'a str>,
    /// A profile of the AWS configuration files.
    pub profile: Option<&'a str>,
    /// A file with CA certificates that are trusted besides the system's.
    pub ca_file: Option<&'a Path>,
    /// The variant of the region's endpoint, beside the environment's settings.
    pub variant: EndpointVariant,
}

impl<'a> SqsRoute<'a> {
    /// The route to one queue: settings that the configuration leaves out are derived from the queue's URL.
    pub fn to(self, place: &'a QueuePlace) -> Self {
        Self {
            region: self.region.or(place.region.as_deref()),
            endpoint_url: self.endpoint_url.or(place.origin.as_deref()),
            variant: place.variant,
            ..self
        }
    }
}

/// An SQS client; `section` is the configuration section of its route.
pub async fn sqs_client(
    section: &str,
    route: SqsRoute<'_>,
    environment: &Environment,
) -> Result<aws_sdk_sqs::Client, ConfigError> {
    let base = Base {
        region: route.region.map(ToOwned::to_owned),
        profile: route.profile.map(ToOwned::to_owned),
        other_server: route.endpoint_url.is_some(),
        environment: environment.clone(),
        http: http::client(None, Egress::of(section, route.ca_file, environment)?),
    };
    let sdk = base.load().await;
    let Some(region) = sdk.region() else {
        return Err(no_region(section, environment));
    };
    let base = Base {
        region: Some(region.to_string()),
        ..base
    };
    let origin = Configured::new(section, base, &ConnectionConfig::default(), environment);
    let end = session_end(environment);
    let source = CredentialSource::new(section, section.to_owned(), Arc::new(origin), end);
    let mut client = aws_sdk_sqs::config::Builder::from(&sdk)
        .retry_classifier(OnceMore(source.doubt().clone()))
        .retry_classifier(HeedsRetryAfter)
        .credentials_provider(SharedCredentialsProvider::new(source))
        .identity_cache(IdentityCache::no_cache());
    if let Some(endpoint) = route.endpoint_url {
        client = client.endpoint_url(endpoint);
    }
    if route.variant.fips {
        client = client.use_fips(true);
    }
    if route.variant.dual_stack {
        client = client.use_dual_stack(true);
    }
    Ok(aws_sdk_sqs::Client::from_conf(client.build()))
}
