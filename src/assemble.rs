//! Builds the services for jobs: opens every edge of the configuration once.

mod audit;
mod changes;
pub mod connection;
mod dkim;
mod ledgers;
mod mail;
#[cfg(feature = "embedded")]
mod people;
mod queues;
mod reload;
mod schedules;
mod services;
mod state_dir;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use directory::{Location, is_away, is_full};

pub use self::ledgers::{
    OpenedLedger, open_ledger, open_ledger_or_empty, open_or_make_ledger, open_sqlite_ledger,
    s3_ledger,
};
use self::ledgers::{ledger_edge, names, open_database};
pub use self::mail::{brand, locale, mail_settings};
use self::mail::{mailer, pictures, renditions};
pub use self::queues::{feedback_queue, open_queue, open_sqlite_queue, results, sqs_queue};
use self::queues::{queue_edge, taken_over};
pub use self::state_dir::private_dir;
use self::state_dir::{fresh_spool, in_time, lock_state_dir};
use crate::audit::retention::RetentionSettings;
use crate::audit::{ArchiveBucket, AuditLog, Issued, RecordError, log::Writer};
use crate::clock::Clock;
use crate::config::{Config, LedgerKind, QueueKind};
use crate::config_error::ConfigError;
use crate::database::{Database, DatabaseError};
use crate::deliver::notice::Notices;
use crate::deliver::{DeliveryLedger, KnownOutcomes, Mailer, Sender};
use crate::edge::health::Edge;
use crate::environment::Environment;
use crate::job::RelayName;
use crate::job::envelope::EventRule;
use crate::keyring::{Keyring, KeyringError};
use crate::ledger::lease::Owner;
use crate::ledger::people::PeopleRecords;
use crate::ledger::resolver::Resolver;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::timed::TimedLedger;
use crate::ledger::{Ledger, LedgerError};
use crate::links::connection::{Connection, Connections};
use crate::mail_trial::Tried;
use crate::progress::Progress;
use crate::queue::Queue;
use crate::queue::sqlite::SqliteQueue;
use crate::render::{TemplateError, Templates};
use crate::run::delivery::Deliveries;
use crate::run::open_chunks::OpenChunks;
use crate::run::{Payloads, Presenting, Sending, Signing};
use crate::schedule::ScheduledJob;
#[cfg(feature = "embedded")]
use presign::ServerUrl;

pub use self::changes::Changes;
use self::changes::ConfigReading;
pub use self::reload::look_at_files;
pub use self::services::Services;

/// The maximum size of a mail's HTML, in bytes: Gmail clips at about 102 KB.
const HTML_BUDGET_BYTES: usize = 90_000;

/// How long a shutdown waits for downloads from the embedded endpoint.
#[cfg(feature = "embedded")]
const LAST_DOWNLOADS: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the services could not be opened. Each variant has its exit code.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The templates cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The secret cannot be read or created.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] RecordError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger's file does not exist: no job was ever started here.
    #[error(
        "there is no ledger yet: {} does not exist, so no job was started here; run the command on the machine and with the configuration (state_dir) of the jobs",
        path.display()
    )]
    NoLedger {
        /// The file.
        path: PathBuf,
    },
    /// A directory could not be created or locked.
    #[error("could not prepare {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The state directory could not be created or entered.
    #[error(
        "could not prepare the state directory {}: set state_dir in the configuration, or XDG_STATE_HOME, to a place that can be written",
        path.display()
    )]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// Another process uses the same state directory.
    #[error(
        "another handout works in {}: one at a time may; use `handout job submit` to give it a job",
        path.display()
    )]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// The embedded endpoint could not be started.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Embedded(#[from] localstore::EndpointError),
}

impl OpenError {
    /// Whether the error may pass without a change to the configuration: an unreachable store, a full disk, a database that
    /// another process holds, a metadata service that does not answer.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Ledger(LedgerError::Store(error)) => error.fact.may_pass(),
            Self::Audit(RecordError::Open { source, .. } | RecordError::Write { source, .. }) => {
                is_full(source) || is_away(source)
            }
            Self::Directory { source, .. }
            | Self::StateDir { source, .. }
            | Self::Keyring(KeyringError::Io { source, .. }) => is_full(source) || is_away(source),
            Self::Database(error) => error.is_full() || error.is_busy(),
            Self::Config(ConfigError::NoRegion { .. } | ConfigError::Late { .. }) => true,
            _ => false,
        }
    }
}

/// Whether the embedded endpoint serves others, or only this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// On the configured address, which links point to.
    Links,
    /// On a free port, for the listings and pages of this command.
    Itself,
}

/// All opened services. [`Opened::close`] closes them in order.
#[derive(Debug)]
pub struct Opened {
    /// The services for jobs.
    pub services: Services,
    /// The queue of jobs.
    pub queue: Arc<dyn Queue>,
    /// The database of this machine, which has its queue and its ledger unless those are elsewhere.
    pub database: Database,
    /// The rules that turn events into jobs.
    pub rules: Vec<EventRule>,
    /// The schedules with their jobs.
    pub schedules: Vec<ScheduledJob>,
    /// What becomes of sealed segments of the audit log, if anything.
    pub retention: Option<RetentionSettings>,
    audit_writer: Writer,
    /// The configuration in use, for comparison on reload.
    config: Box<Config>,
    reading: ConfigReading,
    #[cfg(feature = "embedded")]
    embedded: Option<localstore::Endpoint>,
    _lock: File,
}

impl Opened {
    fn embedded_address(&self) -> Option<std::net::SocketAddr> {
        #[cfg(feature = "embedded")]
        return self.embedded.as_ref().map(localstore::Endpoint::address);
        #[cfg(not(feature = "embedded"))]
        None
    }

    /// Closes the embedded endpoint, then the audit log with its last line.
    pub async fn close(self) {
        #[cfg(feature = "embedded")]
        if let Some(embedded) = self.embedded {
            // No job is running any more. An interrupted download can be resumed.
            embedded.shutdown(LAST_DOWNLOADS).await;
        }
        drop(self.services);
        // The writer's thread ends when its last handle is dropped; joining it would block the runtime.
        let closed = tokio::task::spawn_blocking(move || self.audit_writer.close());
        drop(closed.await);
    }
}

/// How many slots jobs may hold that wait for a dependency, or that take long.
const fn share_of_slots(config: &Config) -> usize {
    match config.queue.max_in_flight / 2 {
        0 => 1,
        half => half,
    }
}

/// Opens everything that the configuration names, and locks its state directory.
pub async fn open(
    config: &Config,
    environment: &Environment,
    clock: Clock,
    serving: Serving,
) -> Result<Opened, OpenError> {
    let state_dir = config.state_dir.clone();
    let locked = in_time(&config.state_dir, move || lock_state_dir(&state_dir));
    let (state, lock) = locked.await?;
    let secret_file = config.secret_key_file();
    let named = secret_file.clone();
    let read = in_time(&secret_file, move || Ok(Keyring::open(&named)?));
    let keyring = read.await?;
    let database = open_database(config.database_file()).await?;
    let reading = ConfigReading::aside(config).await;
    let audit_settings = config.audit_settings(&keyring, environment)?;
    let spool_dir = fresh_spool(&state, &config.state_dir)?;
    let deliveries = Deliveries::open(&state);
    let deliveries = deliveries.map_err(|source| OpenError::StateDir {
        path: config.state_dir.clone(),
        source,
    })?;
    let progress = Progress::default();
    #[cfg(feature = "embedded")]
    let embedded = start_embedded(config, &keyring, serving).await?;
    #[cfg(feature = "embedded")]
    let address = embedded.as_ref().map(localstore::Endpoint::address);
    #[cfg(not(feature = "embedded"))]
    let (address, _) = (None, serving);
    let fixed = Fixed {
        keyring: &keyring,
        progress: &progress,
        spool_dir: &spool_dir,
        address,
        clock,
    };
    // On the heap: the SDK's credential futures are large, and every command's future would include their size.
    let changeable = Box::pin(Changeable::open(config, environment, &fixed, None)).await?;
    let schedules = config.scheduled_jobs()?;
    #[cfg(feature = "embedded")]
    if let Some(embedded) = &embedded {
        embedded.tell_people_by(Arc::new(people::LinkTroublePages::of(
            &changeable.presenting,
        )));
    }
    let connections = &changeable.signing.connections;
    let queue: Arc<dyn Queue> = match config.queue.kind {
        QueueKind::Sqlite => Arc::new(taken_over(SqliteQueue::new(database.clone(), clock)).await?),
        QueueKind::Sqs => Arc::new(Box::pin(sqs_queue(config, environment)).await?),
    };
    let ledger: Arc<dyn Ledger> = match config.ledger.kind {
        LedgerKind::Sqlite => {
            let ledger = SqliteLedger::new(database.clone(), clock);
            Arc::new(match config.queue.kind {
                // The edge of the queue tells of the database.
                QueueKind::Sqlite => ledger,
                QueueKind::Sqs => ledger.told_by(ledger_edge(config)),
            })
        }
        LedgerKind::S3 => {
            let ledger = Box::pin(s3_ledger(config, connections, &keyring, clock));
            Arc::new(ledger.await?)
        }
    };
    let ledger: Arc<dyn Ledger> = Arc::new(TimedLedger::new(ledger, progress.times().clone()));
    let results = results(config, environment).await?;
    // Opened after everything that can fail because of others: each opening of the log starts a stream.
    let log_dir = audit_settings.dir.to_path_buf();
    let opening = in_time(&log_dir, move || {
        let opened = AuditLog::open(&audit_settings, PROGRAM, clock)?;
        Ok((opened, audit_settings))
    });
    let ((audit, audit_writer), audit_settings) = opening.await?;
    let retention = config.audit_retention(audit_settings, connections, clock)?;
    let resolver = config.ledger.resolve_cmd.as_ref();
    let recording = DeliveryLedger {
        ledger,
        audit,
        issued: Issued::default(),
        names: names(config, &keyring),
        resolver: resolver.map(|program| Resolver::new(program.clone())),
        known: KnownOutcomes::default(),
        owner: Owner::new(),
        progress: progress.clone(),
        clock,
        rehearsed_to: None,
        rehearsed: None,
    };
    let handed_to = results.edge().into_iter().chain(queue.parked_edge());
    let handed_to = handed_to.chain(queue.deletions_edge());
    let queue_edge = queue_edge(config);
    if config.queue.kind == QueueKind::Sqlite {
        database.report_to(queue_edge.clone());
    }
    let edges = std::iter::once(queue_edge)
        .chain(edges(
            connections,
            &*recording.ledger,
            &changeable.sending.mailer,
        ))
        .chain(handed_to.cloned())
        .chain(std::iter::once(recording.audit.edge().clone()))
        .chain(archive_edge(retention.as_ref()))
        .collect();
    let Changeable {
        signing,
        presenting,
        sending,
        at_once,
    } = changeable;
    let (connection, buckets) = config.payloads()?;
    let payloads = Payloads {
        connection,
        buckets: buckets.into(),
    };
    let suppresses = config.suppresses();
    let people = suppresses.then(|| PeopleRecords::of(&*recording.ledger));
    let services = Services {
        signing,
        recording,
        presenting,
        sending,
        at_once,
        payloads,
        results,
        people,
        progress,
        edges,
        share: share_of_slots(config),
        deliveries,
        open_chunks: OpenChunks::default(),
        tried: Tried::default(),
        clock,
    };
    Ok(Opened {
        rules: services.signing.policy.triggers.clone(),
        schedules,
        services,
        queue,
        database,
        retention,
        audit_writer,
        config: Box::new(config.clone()),
        reading,
        #[cfg(feature = "embedded")]
        embedded,
        _lock: lock,
    })
}

/// The services that a reload does not change.
struct Fixed<'a> {
    keyring: &'a Keyring,
    progress: &'a Progress,
    spool_dir: &'a Location,
    /// The address of the embedded endpoint.
    address: Option<std::net::SocketAddr>,
    clock: Clock,
}

/// The services that a reload can change while jobs run.
struct Changeable {
    signing: Signing,
    presenting: Presenting,
    sending: Sending,
    at_once: usize,
}

impl Changeable {
    /// Opens them. Services that the changes since `old` do not affect are reused.
    async fn open(
        config: &Config,
        environment: &Environment,
        fixed: &Fixed<'_>,
        old: Option<(&Services, &Changes)>,
    ) -> Result<Self, OpenError> {
        let untouched = |sections: &[&str]| {
            let (services, changes) = old?;
            let is_touched = sections.iter().any(|section| changes.touch(section));
            (!is_touched).then_some(services)
        };
        let templates = Templates::load(config.templates.dir.as_deref())?;
        let sender = Sender::new(config.sender()?, fixed.keyring.clone())
            .with_list(config.mailing_list()?)
            .with_bounces(config.bounce_address()?)
            .with_leave_url(config.leave_url())
            .signed_by(config.dkim_signers(environment)?);
        let relay = |section: &str, name: &RelayName| {
            let (services, changes) = old?;
            // The rate alone is changed in place, so that connections and health stay.
            let is_kept = !changes.touch("mail.from") && changes.touch_at_most(section, "rate");
            let services = is_kept.then_some(services)?;
            match &services.sending.mailer {
                Mailer::Smtp(relays) => relays.get(name).cloned(),
                Mailer::Outbox(_) => None,
            }
        };
        let connection = |name: &str| {
            let section = format!("connections.{name}");
            let services = untouched(&[&section, "links.rate", "links.requests"])?;
            let mut known = services.signing.connections.iter();
            let (_, kept) = known.find(|(known, _)| known.as_str() == name)?;
            Some(kept.clone())
        };
        let kept: connection::KeptConnection<'_> = &connection;
        let Fixed {
            keyring,
            spool_dir,
            address,
            ..
        } = *fixed;
        let connections = connection::open_but(kept, config, keyring, address, environment);
        Ok(Self {
            signing: Signing {
                policy: Arc::new(config.policy()?),
                connections: Arc::new(Box::pin(connections).await?),
                keyring: keyring.clone(),
            },
            presenting: Presenting {
                mail: Arc::new(mail_settings(config, &sender, &templates)?),
                templates: Arc::new(templates),
                pictures: pictures(config),
                renditions: renditions(config),
                spool_dir: spool_dir.clone(),
            },
            sending: Sending {
                mailer: mailer(
                    config,
                    environment,
                    fixed,
                    &relay,
                    old.map(|(services, _)| &services.sending.mailer),
                )?,
                notices: Notices::new(config, &sender)?,
                sender,
            },
            at_once: config.mail.at_once,
        })
    }

    /// The services, with these as replacements.
    fn with(self, services: &Services) -> Services {
        let Self {
            signing,
            presenting,
            sending,
            at_once,
        } = self;
        Services {
            signing,
            presenting,
            sending,
            at_once,
            ..services.clone()
        }
    }
}

/// Every edge that jobs depend on, except the queue. A local directory is not an edge, but its database is: another process may
/// hold it.
fn edges(
    connections: &Connections,
    ledger: &dyn Ledger,
    mailer: &Mailer,
) -> impl Iterator<Item = Edge> {
    let relays = match mailer {
        Mailer::Smtp(relays) => relays.iter().map(|(_, relay)| relay.edge()).collect(),
        Mailer::Outbox(_) => Vec::new(),
    };
    let of_connection = |connection: &Connection| {
        [
            connection.s3.edge().clone(),
            connection.signer.edge().clone(),
        ]
    };
    let of_ledger: Vec<Edge> = ledger.edges().into_iter().cloned().collect();
    of_ledger
        .into_iter()
        .chain(connections.values().flat_map(of_connection))
        .chain(relays.into_iter().cloned())
}

/// The edge of the audit log's archive, if there is one.
fn archive_edge(retention: Option<&RetentionSettings>) -> Option<Edge> {
    let archive = retention?.archive.as_ref();
    archive.map(|archive: &ArchiveBucket| archive.store().edge().clone())
}

/// The program and its version, as the audit log names it.
pub const PROGRAM: &str = concat!("handout/", env!("CARGO_PKG_VERSION"));

/// Starts the embedded endpoint, if any connection has a directory.
#[cfg(feature = "embedded")]
pub async fn start_embedded(
    config: &Config,
    keyring: &Keyring,
    serving: Serving,
) -> Result<Option<localstore::Endpoint>, OpenError> {
    if !config.needs_embedded() {
        return Ok(None);
    }
    let listen = match serving {
        Serving::Links => config.embedded.listen,
        Serving::Itself => std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let mut sites = Vec::new();
    for site in connection::embedded_sites(config, keyring) {
        make_dir(&site.directory)?;
        sites.push(localstore::Site {
            access_key_id: site.access_key_id,
            secret_access_key: site.secret_access_key,
            region: connection::EMBEDDED_REGION.to_owned(),
            directory: site.directory,
        });
    }
    let public = ServerUrl::parse(&config.embedded.public_url);
    let public = public.map_err(|error| ConfigError::value("embedded.public_url", error))?;
    // A command's own listings are not what others open.
    let log = config.embedded.access_log.as_deref();
    let log = log.filter(|_| serving == Serving::Links);
    let endpoint = localstore::Endpoint::start_logged(listen, sites, &public, log).await?;
    Ok(Some(endpoint))
}

#[cfg(feature = "embedded")]
fn make_dir(path: &std::path::Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(path).map_err(|source| OpenError::Directory {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
