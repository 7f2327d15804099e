//! The ledger, with all services or alone.

use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "embedded")]
use super::{LAST_DOWNLOADS, Serving, start_embedded};
use super::{OpenError, connection, private_dir};
use crate::audit::record::Pseudonyms;
use crate::clock::Clock;
use crate::config::{Config, LedgerKind, RecipientNames};
use crate::config_error::ConfigError;
use crate::database::{Database, DatabaseError};
use crate::edge::health::{Edge, EdgeKind};
use crate::environment::Environment;
use crate::keyring::{Keyring, Purpose};
use crate::ledger::portal::PortalLedger;
use crate::ledger::s3::S3Ledger;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Ledger, LedgerError};
use crate::links::connection::Connections;

/// Opens the database on a blocking thread: SQLite waits for other processes that hold it.
pub(super) async fn open_database(path: PathBuf) -> Result<Database, DatabaseError> {
    let opened = tokio::task::spawn_blocking(move || Database::open(&path)).await;
    opened.unwrap_or(Err(DatabaseError::Closed))
}

/// The edge of a ledger in the database of this machine.
pub(super) fn ledger_edge(config: &Config) -> Edge {
    let subject = format!("the ledger in {}", config.database_file().display());
    Edge::new(EdgeKind::Ledger, "ledger", subject)
}

/// The ledger in its bucket, after a check that the store supports what the ledger requires.
pub async fn s3_ledger(
    config: &Config,
    connections: &Connections,
    keyring: &Keyring,
    clock: Clock,
) -> Result<S3Ledger, OpenError> {
    let place = config.ledger_place()?;
    let connection = connections
        .get(&place.connection)
        .ok_or_else(|| ConfigError::value("ledger.connection", "names an unknown connection"))?;
    let client = connection.s3.client(&place.bucket).await;
    let client = client.map_err(LedgerError::Store)?;
    let egress = connection.s3.egress();
    let ledger = S3Ledger::through(egress, &client, place.bucket, place.prefix, clock)
        .with_puts(connection.s3.puts().clone());
    ledger
        .probe(&keyring.id(Purpose::Ledger, &[b"identity"]))
        .await?;
    Ok(ledger)
}

/// The ledger alone, for commands that read it or resolve a doubt while the daemon runs.
#[derive(Debug)]
pub struct OpenedLedger {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The names of recipients in it.
    pub names: Pseudonyms,
    /// The installation's secret.
    pub keyring: Keyring,
    /// Whether the ledger exists. One that does not is empty, and nothing is written to it.
    pub is_there: bool,
    #[cfg(feature = "embedded")]
    pub(super) embedded: Option<localstore::Endpoint>,
}

impl OpenedLedger {
    /// The records of the portal.
    pub fn portal(&self) -> PortalLedger {
        PortalLedger::new(self.ledger.portal_records(), &self.keyring)
    }

    /// Closes the connections behind it.
    pub async fn close(self) {
        #[cfg(feature = "embedded")]
        if let Some(embedded) = self.embedded {
            embedded.shutdown(LAST_DOWNLOADS).await;
        }
    }
}

/// Opens the ledger alone. A ledger in a file must exist already.
pub async fn open_ledger(
    config: &Config,
    environment: &Environment,
    clock: Clock,
) -> Result<OpenedLedger, OpenError> {
    if config.ledger.kind == LedgerKind::Sqlite {
        let ledger = open_sqlite_ledger(config, clock)?;
        let keyring = Keyring::open(&config.secret_key_file())?;
        return Ok(OpenedLedger {
            ledger: Arc::new(ledger),
            names: names(config, &keyring),
            keyring,
            is_there: true,
            #[cfg(feature = "embedded")]
            embedded: None,
        });
    }
    let keyring = Keyring::open(&config.secret_key_file())?;
    #[cfg(feature = "embedded")]
    let embedded = start_embedded(config, &keyring, Serving::Itself).await?;
    #[cfg(feature = "embedded")]
    let address = embedded.as_ref().map(localstore::Endpoint::address);
    #[cfg(not(feature = "embedded"))]
    let address = None;
    let connections = Box::pin(connection::open(config, &keyring, address, environment)).await?;
    let ledger = s3_ledger(config, &connections, &keyring, clock).await?;
    Ok(OpenedLedger {
        ledger: Arc::new(ledger),
        names: names(config, &keyring),
        keyring,
        is_there: true,
        #[cfg(feature = "embedded")]
        embedded,
    })
}

/// Opens the ledger alone, or an empty one where no job was started: `handout presign` records links without a ledger.
///
/// # Errors
/// Neither the ledger nor the installation's secret exists, so that nothing was recorded here; or the ledger cannot be opened.
pub async fn open_ledger_or_empty(
    config: &Config,
    environment: &Environment,
    clock: Clock,
) -> Result<OpenedLedger, OpenError> {
    match Box::pin(open_ledger(config, environment, clock)).await {
        // Keyring::open would make a secret.
        Err(OpenError::NoLedger { .. }) if config.secret_key_file().exists() => {
            let keyring = Keyring::open(&config.secret_key_file())?;
            Ok(OpenedLedger {
                ledger: Arc::new(SqliteLedger::new(Database::in_memory()?, clock)),
                names: names(config, &keyring),
                keyring,
                is_there: false,
                #[cfg(feature = "embedded")]
                embedded: None,
            })
        }
        opened => opened,
    }
}

/// Opens the ledger alone, and makes that of a file, for a record that may stand before the first job.
pub async fn open_or_make_ledger(
    config: &Config,
    environment: &Environment,
    clock: Clock,
) -> Result<OpenedLedger, OpenError> {
    if config.ledger.kind == LedgerKind::Sqlite {
        private_dir(&config.state_dir)?;
        drop(open_database(config.database_file()).await?);
    }
    Box::pin(open_ledger(config, environment, clock)).await
}

/// The ledger in the file of this machine, which must exist already.
pub fn open_sqlite_ledger(config: &Config, clock: Clock) -> Result<SqliteLedger, OpenError> {
    if config.ledger.kind != LedgerKind::Sqlite {
        let reason = "is \"s3\": let a lifecycle rule of the bucket expire old jobs";
        return Err(ConfigError::value("ledger.kind", reason).into());
    }
    let path = config.database_file();
    if !path.exists() {
        return Err(OpenError::NoLedger { path });
    }
    Ok(SqliteLedger::new(Database::open(&path)?, clock))
}

pub(super) fn names(config: &Config, keyring: &Keyring) -> Pseudonyms {
    Pseudonyms::new(keyring, config.audit.recipients == RecipientNames::Clear)
}
