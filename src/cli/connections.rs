//! The connections of the configuration, for commands that read or write objects themselves.

#[cfg(feature = "embedded")]
use std::time::Duration;

use handout::assemble;
#[cfg(feature = "embedded")]
use handout::assemble::Serving;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::ConnectionName;
use handout::keyring::Keyring;
use handout::links::connection::{Connection, Connections};

/// How long the end of a command waits for the embedded endpoint.
#[cfg(feature = "embedded")]
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Connections that a command opened.
pub(in crate::cli) struct OpenConnections {
    pub(in crate::cli) connections: Connections,
    #[cfg(feature = "embedded")]
    embedded: Option<localstore::Endpoint>,
}

impl OpenConnections {
    pub(in crate::cli) async fn open(
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let keyring = Keyring::open(&config.secret_key_file())?;
        #[cfg(feature = "embedded")]
        let embedded = assemble::start_embedded(config, &keyring, Serving::Itself).await?;
        #[cfg(feature = "embedded")]
        let address = embedded.as_ref().map(localstore::Endpoint::address);
        #[cfg(not(feature = "embedded"))]
        let address = None;
        let opening = assemble::connection::open(config, &keyring, address, environment);
        Ok(Self {
            connections: Box::pin(opening).await?,
            #[cfg(feature = "embedded")]
            embedded,
        })
    }

    /// The connection of a name, or the only one; `None` if the name is unknown, or without a name there are several.
    pub(in crate::cli) fn named(
        &self,
        name: Option<&ConnectionName>,
    ) -> Option<(&ConnectionName, &Connection)> {
        match name {
            Some(name) => self.connections.get_key_value(name),
            None if self.connections.len() == 1 => self.connections.iter().next(),
            None => None,
        }
    }

    pub(in crate::cli) async fn close(self) {
        #[cfg(feature = "embedded")]
        if let Some(embedded) = self.embedded {
            embedded.shutdown(LAST_ANSWERS).await;
        }
    }
}
