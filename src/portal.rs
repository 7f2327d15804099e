//! The portal's HTTP side: short links that are signed when they are opened.
//!
//! [`crate::portal_access`] decides what a link opens and records it; this module speaks HTTP. [`crate::serving`] accepts
//! connections. This module bounds a request (`server`), understands it (`visitor`, `client`, `cookies`), decides between page and file
//! (`decision`), and answers (`link`, `list`, `sign_in`, `issuers`, `mine`, `answer`). Nothing of a request is repeated in an
//! answer or a log line, and no instance holds a state that another would miss: tickets, sessions and challenges are in the
//! browser.

mod answer;
mod client;
mod code;
mod cookies;
mod counts;
mod decision;
mod desk;
mod form;
mod issuers;
mod leave;
mod limits;
mod link;
mod list;
mod mine;
pub mod oidc;
mod reach;
mod repeated;
mod routes;
mod server;
mod session;
mod settings;
mod sign_in;
mod stream;
mod stream_places;
mod ticket;
mod visitor;
mod zip_stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::code::MailCodes;
pub use self::counts::PortalCounts;
use self::desk::CodeRequest;
use self::limits::PortalLimits;
use self::oidc::OidcIssuers;
pub use self::reach::is_portal_at;
use self::repeated::PortalLines;
use self::server::PortalRequests;
use self::session::SessionCookies;
use self::settings::PortalSettings;
use self::stream_places::StreamPlaces;
use self::ticket::Tickets;
use crate::assemble::Services;
use crate::audit::AuditLog;
use crate::bounds::MAX_WAITING_CODES;
use crate::cancellation::Cancellation;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::edge::health::EdgeKind;
use crate::environment::Environment;
use crate::keyring::Keyring;
use crate::ledger::people::PeopleRecords;
use crate::ledger::portal::PortalLedger;
use crate::links::connection::Connections;
use crate::person_token::PersonKeys;
use crate::portal_access::{AccessServices, PortalAccess};
use crate::run::{Presenting, Sending};
use crate::serving::{self, Drain, ServedConnections, ServerTls};

/// What requests are answered with. A reload replaces it; a request keeps what it began with.
#[derive(Debug)]
struct PortalServices {
    access: PortalAccess,
    connections: Arc<Connections>,
    presenting: Presenting,
    sending: Sending,
    settings: PortalSettings,
    issuers: OidcIssuers,
    keyring: Keyring,
    people: PeopleRecords,
    person_keys: PersonKeys,
    audit: AuditLog,
    clock: Clock,
}

impl PortalServices {
    fn of(
        config: &Config,
        services: &Services,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let settings = PortalSettings::of(config)?;
        let (signing, recording) = (&services.signing, &services.recording);
        let issuers = OidcIssuers::new(
            &config.portal.oidc,
            &settings.origin,
            &signing.keyring,
            environment,
        )?;
        let access = PortalAccess::new(AccessServices {
            config: &config.portal,
            keyring: &signing.keyring,
            names: &recording.names,
            records: PortalLedger::new(recording.ledger.portal_records(), &signing.keyring),
            connections: Arc::clone(&signing.connections),
            audit: recording.audit.clone(),
        });
        Ok(Self {
            access,
            connections: Arc::clone(&signing.connections),
            presenting: services.presenting.clone(),
            sending: services.sending.clone(),
            settings,
            issuers,
            keyring: signing.keyring.clone(),
            people: services
                .people
                .clone()
                .unwrap_or_else(|| PeopleRecords::of(&*recording.ledger)),
            person_keys: PersonKeys::new(&signing.keyring),
            audit: recording.audit.clone(),
            clock: services.clock,
        })
    }
}

/// A portal, for all its connections. Clones are the same portal.
#[derive(Debug, Clone)]
pub struct Portal {
    services: watch::Sender<Arc<PortalServices>>,
    limits: Arc<PortalLimits>,
    streams: StreamPlaces,
    lines: Arc<PortalLines>,
    tickets: Tickets,
    sessions: SessionCookies,
    codes: MailCodes,
    desk: Sender<CodeRequest>,
    counts: PortalCounts,
}

/// A portal before it is served: its connections and its mails.
#[derive(Debug)]
pub struct PortalServer {
    portal: Portal,
    requests: Receiver<CodeRequest>,
    tls: Option<ServerTls>,
    /// How long requests that are being answered, and mails with codes, may take after the stop.
    grace: Duration,
}

/// What a reload changes of a portal.
#[derive(Debug)]
pub struct PortalReload(watch::Sender<Arc<PortalServices>>);

impl Portal {
    fn services(&self) -> Arc<PortalServices> {
        Arc::clone(&self.services.borrow())
    }
}

impl PortalReload {
    /// Whether a configuration can be taken over.
    ///
    /// # Errors
    /// The key that has a wrong value.
    pub fn check(&self, config: &Config, environment: &Environment) -> Result<(), ConfigError> {
        let settings = PortalSettings::of(config)?;
        let keyring = self.0.borrow().keyring.clone();
        OidcIssuers::new(&config.portal.oidc, &settings.origin, &keyring, environment).map(drop)
    }

    /// Answers later requests with the services of a new configuration. The address and TLS stay: they need a restart.
    ///
    /// # Errors
    /// The key that has a wrong value; nothing is changed.
    pub fn reload(
        &self,
        config: &Config,
        services: &Services,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        let renewed = PortalServices::of(config, services, environment)?;
        renewed.issuers.know_what(&self.0.borrow().issuers);
        services
            .edges
            .exchange_kind(EdgeKind::Oidc, renewed.issuers.edges());
        self.0.send_replace(Arc::new(renewed));
        Ok(())
    }
}

impl PortalServer {
    /// A portal of a configuration.
    ///
    /// # Errors
    /// The key that is missing or has a wrong value.
    pub fn new(
        config: &Config,
        services: &Services,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let now = PortalServices::of(config, services, environment)?;
        let tls = now.settings.tls.clone().map(ServerTls::open).transpose()?;
        services
            .edges
            .exchange_kind(EdgeKind::Oidc, now.issuers.edges());
        let keyring = &services.signing.keyring;
        let (desk, requests) = mpsc::channel(MAX_WAITING_CODES);
        Ok(Self {
            portal: Portal {
                tickets: Tickets::new(keyring),
                sessions: SessionCookies::new(keyring),
                codes: MailCodes::new(keyring),
                limits: Arc::new(PortalLimits::new()),
                streams: StreamPlaces::default(),
                lines: Arc::default(),
                counts: PortalCounts::default(),
                services: watch::Sender::new(Arc::new(now)),
                desk,
            },
            requests,
            tls,
            grace: config.queue.grace_period.as_duration(),
        })
    }

    /// The counters.
    pub fn counts(&self) -> PortalCounts {
        self.portal.counts.clone()
    }

    /// A handle for reloads.
    pub fn reloads(&self) -> PortalReload {
        PortalReload(self.portal.services.clone())
    }

    /// Serves connections until `stop`; then the requests that are being answered end, and codes that were asked for are mailed.
    ///
    /// # Errors
    /// The runtime cannot watch the listener.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let Self {
            portal,
            requests,
            tls,
            grace,
        } = self;
        let (codes, counts) = (portal.codes.clone(), portal.counts.clone());
        let issuers = keep_issuers_current(portal.services.subscribe());
        let stopped = stop.clone();
        let late = async {
            stopped.cancelled().await;
            sleep(grace).await;
        };
        let mailing = async {
            // The visitor can ask for another code.
            tokio::select! {
                () = desk::mail_codes(requests, codes, counts.clone()) => {}
                () = late => {}
            }
        };
        let served = ServedConnections {
            name: "portal",
            grace,
            room: counts.room.clone(),
            answers: PortalRequests::new(routes::router(portal)),
            tls,
        };
        let serving = serving::serve(listener, served, stop, Drain::Closed);
        let serving = async { tokio::join!(serving, mailing) };
        tokio::select! {
            (served, ()) = serving => served,
            () = issuers => unreachable!("it does not end"),
        }
    }
}

/// Reads what providers publish, for the issuers of the current configuration, while it is polled.
async fn keep_issuers_current(mut services: watch::Receiver<Arc<PortalServices>>) {
    let cancellation = Cancellation::default();
    loop {
        let current = Arc::clone(&services.borrow_and_update());
        let keeping = async {
            current.issuers.keep_current(&cancellation).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = keeping => {}
            changed = services.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
        }
    }
}
