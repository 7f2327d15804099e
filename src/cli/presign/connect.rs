//! Who signs, and what lists the objects: a connection of the configuration, or the environment.

use std::sync::Arc;

use handout::assemble::connection::{self, Direct, NoRegion};
use handout::config::{Config, ConnectionConfig};
use handout::edge::Egress;
use handout::environment::Environment;
use handout::store::ObjectStore;

use super::PresignArgs;
use super::errors::PresignError;

impl PresignArgs {
    /// The configuration for audit log and connections; `None` if neither is needed.
    pub(super) fn config(&self, environment: &Environment) -> anyhow::Result<Option<Config>> {
        if self.config.is_named() || self.connection.is_some() {
            return Ok(Some(self.config.load(environment)?));
        }
        if self.no_audit {
            return Ok(None);
        }
        let config = self.config.load_or_of_user(environment)?;
        Ok(Some(config.ok_or(PresignError::NoState)?))
    }

    pub(super) async fn direct(
        &self,
        config: Option<&Config>,
        environment: &Environment,
    ) -> anyhow::Result<Direct> {
        let mut direct = match (&self.connection, config) {
            (Some(name), Some(config)) => connection::direct(config, name, environment).await?,
            (Some(_) | None, _) => self.environment_direct(environment).await?,
        };
        direct.regions = direct.regions.filter(|_| self.find_region);
        Ok(direct)
    }

    async fn environment_direct(&self, environment: &Environment) -> anyhow::Result<Direct> {
        let wanted = ConnectionConfig {
            region: self.region.clone(),
            endpoint_url: self.endpoint_url.clone(),
            public_endpoint_url: self.public_endpoint_url.clone(),
            path_style: self.path_style.then_some(true),
            profile: self.profile.clone(),
            ..ConnectionConfig::default()
        };
        let last_resort = self.find_region.then_some("us-east-1");
        let egress = Egress::of_environment(environment)?;
        let direct =
            connection::environment_direct(&wanted, last_resort, environment, egress).await;
        Ok(direct.map_err(|NoRegion| PresignError::NoRegion)?)
    }
}

/// The store that lists the objects, and the embedded endpoint that serves it, if it is a directory.
pub(super) struct ListedStore {
    pub(super) store: Arc<dyn ObjectStore>,
    #[cfg(feature = "embedded")]
    endpoint: Option<localstore::Endpoint>,
}

impl ListedStore {
    /// Opens the store of a connection. The daemon need not run: a directory is served by this command meanwhile.
    pub(super) async fn open(
        direct: &Direct,
        config: Option<&Config>,
        name: &str,
    ) -> anyhow::Result<Self> {
        match (&direct.store, config) {
            (Some(store), _) => Ok(Self {
                store: Arc::clone(store),
                #[cfg(feature = "embedded")]
                endpoint: None,
            }),
            (None, Some(config)) => Self::of_directory(config, name).await,
            // Only a connection of a configuration has a directory.
            (None, None) => Err(connection::no_embedded(name).into()),
        }
    }

    #[cfg(feature = "embedded")]
    async fn of_directory(config: &Config, name: &str) -> anyhow::Result<Self> {
        let keyring = handout::keyring::Keyring::open(&config.secret_key_file())?;
        let itself = handout::assemble::Serving::Itself;
        let endpoint = handout::assemble::start_embedded(config, &keyring, itself).await?;
        let address = endpoint.as_ref().map(localstore::Endpoint::address);
        let store = address.and_then(|it| connection::embedded_store(config, &keyring, name, it));
        Ok(Self {
            store: store.ok_or(connection::no_embedded(name))?,
            endpoint,
        })
    }

    #[cfg(not(feature = "embedded"))]
    async fn of_directory(_config: &Config, name: &str) -> anyhow::Result<Self> {
        Err(connection::no_embedded(name).into())
    }

    pub(super) async fn close(self) {
        #[cfg(feature = "embedded")]
        if let Some(endpoint) = self.endpoint {
            endpoint.shutdown(std::time::Duration::ZERO).await;
        }
    }
}
