//! The portal's HTTP side: short links that are signed when they are opened.
//!
//! [`crate::portal_access`] decides what a link opens and records it; this module speaks HTTP. It accepts connections
//! (`server`, `room`, `tls`), understands a request (`visitor`, `client`, `cookies`), decides between page and file
//! (`decision`), and answers (`link`, `list`, `sign_in`, `mine`, `answer`). Nothing of a request is repeated in an answer or a
//! log line, and no instance holds a state that another would miss: tickets, sessions and challenges are in the browser.

mod answer;
mod client;
mod code;
mod cookies;
mod counts;
mod decision;
mod desk;
mod form;
mod limits;
mod link;
mod list;
mod mine;
pub mod oidc;
mod room;
mod routes;
mod server;
mod session;
mod settings;
mod sign_in;
mod ticket;
mod tls;
mod visitor;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

pub use self::counts::{PortalCounts, PortalFamily};
use self::code::MailCodes;
use self::desk::CodeRequest;
use self::limits::PortalLimits;
pub use self::server::bind;
use self::server::ServedRoutes;
use self::session::Sessions;
use self::settings::PortalSettings;
use self::ticket::Tickets;
pub use self::tls::TlsFiles;
use self::tls::PortalTls;
use crate::assemble::Services;
use crate::audit::record::Pseudonyms;
use crate::bounds::MAX_WAITING_CODES;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::job::Recipient;
use crate::portal_access::{PortalAccess, Visit};
use crate::portal_token::PortalKeys;
use crate::render::portal::ShownIssuer;
use crate::run::{Presenting, Sending};

/// What requests are answered with. A reload replaces it; a request keeps what it began with.
#[derive(Debug)]
struct PortalServices {
    access: PortalAccess,
    presenting: Presenting,
    sending: Sending,
    names: Pseudonyms,
    keys: PortalKeys,
    settings: PortalSettings,
    issuers: Vec<ShownIssuer>,
    clock: Clock,
}

impl PortalServices {
    fn of(config: &Config, services: &Services) -> Result<Self, ConfigError> {
        todo!()
    }

    /// The recipient id of an address.
    fn recipient_id(&self, recipient: &Recipient) -> String {
        self.names.recipient_id(&recipient.canonical_address())
    }

    /// The origins at which the links of a visit's job open.
    async fn origins(&self, visit: &Visit) -> Vec<String> {
        let _ = visit;
        Vec::new()
    }

    fn shown_issuers(&self) -> Vec<ShownIssuer> {
        self.issuers.clone()
    }
}

/// A portal, for all its connections. Clones are the same portal.
#[derive(Debug, Clone)]
pub struct Portal {
    services: Arc<RwLock<Arc<PortalServices>>>,
    limits: Arc<PortalLimits>,
    tickets: Tickets,
    sessions: Sessions,
    codes: MailCodes,
    desk: Sender<CodeRequest>,
    counts: PortalCounts,
}

/// A portal before it is served: its connections and its mails.
#[derive(Debug)]
pub struct PortalServer {
    portal: Portal,
    requests: Receiver<CodeRequest>,
    tls: Option<PortalTls>,
}

impl Portal {
    fn services(&self) -> Arc<PortalServices> {
        Arc::clone(&self.services.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The counters.
    pub fn counts(&self) -> PortalCounts {
        self.counts.clone()
    }

    /// Answers later requests with the services of a new configuration.
    ///
    /// # Errors
    /// The key that has a wrong value; nothing is changed.
    pub fn reload(&self, config: &Config, services: &Services) -> Result<(), ConfigError> {
        let renewed = Arc::new(PortalServices::of(config, services)?);
        *self.services.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }
}

impl PortalServer {
    /// A portal of a configuration.
    ///
    /// # Errors
    /// The key that is missing or has a wrong value.
    pub fn new(config: &Config, services: &Services) -> Result<Self, ConfigError> {
        let services_now = PortalServices::of(config, services)?;
        let tls = services_now.settings.tls.clone().map(PortalTls::open).transpose()?;
        let keyring = &services.signing.keyring;
        let (desk, requests) = mpsc::channel(MAX_WAITING_CODES);
        Ok(Self {
            portal: Portal {
                tickets: Tickets::new(keyring),
                sessions: Sessions::new(keyring),
                codes: MailCodes::new(keyring),
                limits: Arc::new(PortalLimits::new()),
                counts: PortalCounts::default(),
                services: Arc::new(RwLock::new(Arc::new(services_now))),
                desk,
            },
            requests,
            tls,
        })
    }

    /// A handle for reloads and counters.
    pub fn portal(&self) -> Portal {
        self.portal.clone()
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
        } = self;
        let (codes, counts) = (portal.codes.clone(), portal.counts.clone());
        let served = ServedRoutes {
            room: counts.room.clone(),
            router: routes::router(portal),
            tls,
        };
        let (served, ()) = tokio::join!(
            server::serve(listener, served, stop),
            desk::mail_codes(requests, codes, counts)
        );
        served
    }
}
