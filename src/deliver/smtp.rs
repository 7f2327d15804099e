//! A relay, spoken to verb by verb.
//!
//! lettre's own transport is not used: its timeout covers the connecting alone (lettre issue 1027), and a
//! connection whose exchange was cut goes back into its pool, where replies are then off by one (measured: a 454
//! after the dot was reported as sent). Here every exchange has a deadline, a connection is kept only after an
//! exchange that ended in order, and only 250 after the dot is "accepted".

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ConfigError, Environment, Secret, SmtpConfig, Tls};
use crate::failpoint::{self, Failpoint};
use crate::ledger::Outcome;
use crate::throttle::Throttle;

/// How long each step may take: RFC 5321, section 4.5.3.2.
const CONNECT: Duration = Duration::from_secs(60);
/// For each of the relay's addresses: one that swallows packets must not keep the next from its turn.
const CONNECT_EACH: Duration = Duration::from_secs(10);
const COMMAND: Duration = Duration::from_secs(5 * 60);
const DATA: Duration = Duration::from_secs(2 * 60);
const AFTER_DOT: Duration = Duration::from_secs(10 * 60);
/// A connection that was kept must answer at once, or it is dropped and another made.
const STILL_THERE: Duration = Duration::from_secs(10);

/// The verb whose refusal is about the recipient.
const RCPT: &str = "RCPT";

/// Replies that ask for a login or for TLS, or find the sequence of verbs wrong: never about one mail.
const fn is_about_login(code: u16) -> bool {
    matches!(code, 503 | 530 | 534 | 535 | 538)
}

/// Why a relay could not be used. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the relay {host} {trouble}")]
pub struct RelayError {
    /// The relay's host and port.
    pub host: String,
    /// What was wrong.
    pub trouble: Trouble,
}

/// What can be wrong with a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, or one that broke, or no answer in time.
    Unreachable {
        /// During which step.
        step: &'static str,
        /// What the network said.
        words: String,
    },
    /// It does not offer STARTTLS, or its certificate is not trusted.
    Insecure {
        /// What is wrong.
        words: String,
    },
    /// It does not take the user name and password.
    Login {
        /// Its words.
        words: String,
    },
    /// It refuses whatever we send: 5yz to something that is not about this mail.
    Refuses {
        /// During which step.
        step: &'static str,
        /// The reply code.
        code: u16,
        /// Its words.
        words: String,
    },
    /// It takes no mail now: 4yz.
    NotNow {
        /// During which step.
        step: &'static str,
        /// The reply code, if there was one.
        code: Option<u16>,
        /// Its words.
        words: String,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { step, words } => write!(
                f,
                "could not be reached or did not answer in time ({step}): {words}"
            ),
            Self::Insecure { words } => write!(
                f,
                "does not offer a connection that can be trusted: {words}; see mail.smtp.tls and mail.smtp.ca_file"
            ),
            Self::Login { words } => write!(
                f,
                "does not take the user name and password of mail.smtp: {words}"
            ),
            Self::Refuses { step, code, words } => {
                write!(
                    f,
                    "refuses what we send ({step}: {code} {words}); see mail.from and mail.smtp"
                )
            }
            Self::NotNow {
                step,
                code: Some(code),
                words,
            } => write!(f, "takes no mail now ({step}: {code} {words})"),
            Self::NotNow {
                step,
                code: None,
                words,
            } => write!(f, "takes no mail now ({step}: {words})"),
        }
    }
}

impl RelayError {
    /// The relay took the mail's text and then said "not now".
    pub(super) fn not_sent(host: String, code: Option<u16>, words: String) -> Self {
        let trouble = Trouble::NotNow {
            step: "after the mail's text",
            code,
            words,
        };
        Self { host, trouble }
    }

    /// The relay took the mail's text and said nothing.
    pub(super) fn no_reply(host: String) -> Self {
        let trouble = Trouble::Unreachable {
            step: "after the mail's text",
            words: "no reply came".to_owned(),
        };
        Self { host, trouble }
    }

    /// Whether waiting will not repair it.
    pub const fn needs_a_person(&self) -> bool {
        matches!(
            self.trouble,
            Trouble::Login { .. } | Trouble::Insecure { .. } | Trouble::Refuses { .. }
        )
    }
}

/// Why a mail was not taken up.
#[derive(Debug)]
pub(super) enum OpenError {
    /// This mail will never be taken: 5yz.
    Rejected { code: u16, words: String },
    /// The relay cannot be used now.
    Relay(RelayError),
}

/// A relay and the connections to it that are kept.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    host: String,
    port: u16,
    tls: Tls,
    parameters: TlsParameters,
    credentials: Option<Credentials>,
    hello: ClientId,
    throttle: Throttle,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({}:{})", self.inner.host, self.inner.port)
    }
}

impl Relay {
    /// A relay as the configuration describes it. Nothing is connected yet.
    pub fn new(config: &SmtpConfig, environment: &Environment) -> Result<Self, ConfigError> {
        let mut parameters = TlsParameters::builder(config.host.clone());
        if let Some(path) = &config.ca_file {
            let refuse = |reason: String| {
                ConfigError::value(
                    "mail.smtp.ca_file",
                    format!("names {}, {reason}", path.display()),
                )
            };
            let pem = std::fs::read(path)
                .map_err(|error| refuse(format!("which cannot be read: {error}")))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|_| refuse("which is not a PEM certificate".to_owned()))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let parameters = parameters.build().map_err(|error| {
            ConfigError::value("mail.smtp.tls", format!("cannot be set up: {error}"))
        })?;
        let credentials = match (&config.username, &config.password_file) {
            (Some(username), Some(path)) => {
                let password = Secret::read("mail.smtp.password_file", path, environment)?;
                Some(Credentials::new(
                    username.clone(),
                    password.expose().to_owned(),
                ))
            }
            _ => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                host: config.host.clone(),
                port: config.port,
                tls: config.tls,
                parameters,
                credentials,
                hello: ClientId::default(),
                throttle: Throttle::new(config.rate),
                slots: Arc::new(Semaphore::new(config.connections)),
                idle: Mutex::default(),
            }),
        })
    }

    /// The relay's host and port.
    pub(super) fn place(&self) -> String {
        self.inner.place()
    }

    /// Connects, secures the connection and logs in, and says goodbye: whether the relay can be used.
    pub async fn probe(&self) -> Result<(), RelayError> {
        let mut connection = self.inner.connect().await?;
        drop(tokio::time::timeout(STILL_THERE, connection.quit()).await);
        Ok(())
    }

    /// Asks the relay to take a mail, up to its "go on" before the text.
    pub(super) async fn open(&self, envelope: &Envelope) -> Result<Transaction<'_>, OpenError> {
        let slot = Arc::clone(&self.inner.slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        self.inner.throttle.pass(1).await;
        let mut connection = self.inner.connection().await.map_err(OpenError::Relay)?;
        let utf8 = !is_ascii(envelope);
        if utf8
            && !connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
        {
            self.inner.keep(connection);
            let words =
                "the address is not ASCII, and the relay does not offer SMTPUTF8".to_owned();
            return Err(OpenError::Rejected { code: 553, words });
        }
        let parameters = if utf8 {
            vec![MailParameter::SmtpUtfEight]
        } else {
            Vec::new()
        };
        let mail = Mail::new(envelope.from().cloned(), parameters);
        self.inner
            .ask("MAIL", COMMAND, connection.command(mail))
            .await?;
        for recipient in envelope.to() {
            self.inner
                .ask(
                    RCPT,
                    COMMAND,
                    connection.command(Rcpt::new(Address::clone(recipient), Vec::new())),
                )
                .await?;
        }
        let ready = self
            .inner
            .ask("DATA", DATA, connection.command(Data))
            .await?;
        if !ready.has_code(354) {
            let words = format!("DATA was answered with {}", words(&ready));
            let trouble = Trouble::Unreachable {
                step: "DATA",
                words,
            };
            return Err(OpenError::Relay(self.inner.error(trouble)));
        }
        Ok(Transaction {
            relay: &self.inner,
            connection,
            _slot: slot,
        })
    }
}

impl Inner {
    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn error(&self, trouble: Trouble) -> RelayError {
        RelayError {
            host: self.place(),
            trouble,
        }
    }

    /// A connection that was kept and still answers, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, RelayError> {
        while let Some(mut kept) = self.take() {
            let alive = tokio::time::timeout(STILL_THERE, kept.command(Noop)).await;
            if alive.is_ok_and(|reply| reply.is_ok()) {
                return Ok(kept);
            }
        }
        self.connect().await
    }

    fn take(&self) -> Option<AsyncSmtpConnection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, RelayError> {
        let implicit = (self.tls == Tls::Implicit).then(|| self.parameters.clone());
        let address = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(CONNECT_EACH),
            &self.hello,
            implicit,
            None,
        );
        // The deadline covers the greeting and EHLO too, which lettre's own does not.
        let mut connection = self.reach("connecting", CONNECT, connecting).await?;
        if self.tls == Tls::Starttls {
            if !connection.can_starttls() {
                let words = "it does not offer STARTTLS".to_owned();
                return Err(self.error(Trouble::Insecure { words }));
            }
            let securing = connection.starttls(self.parameters.clone(), &self.hello);
            self.reach("STARTTLS", COMMAND, securing).await?;
        }
        if let Some(credentials) = &self.credentials {
            let logging_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials);
            match tokio::time::timeout(COMMAND, logging_in).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.is_permanent() || error.is_client() => {
                    return Err(self.error(Trouble::Login {
                        words: clean(&error.to_string()),
                    }));
                }
                Ok(Err(error)) => return Err(self.error(not_reached("AUTH", &error))),
                Err(_) => return Err(self.error(too_late("AUTH"))),
            }
        }
        Ok(connection)
    }

    /// A step before any mail: whatever goes wrong is the relay's trouble.
    async fn reach<T>(
        &self,
        step: &'static str,
        deadline: Duration,
        exchange: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, RelayError> {
        match tokio::time::timeout(deadline, exchange).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.error(not_reached(step, &error))),
            Err(_) => Err(self.error(too_late(step))),
        }
    }

    /// A verb about one mail: 5yz is about this mail, everything else about the relay.
    async fn ask(
        &self,
        step: &'static str,
        deadline: Duration,
        exchange: impl Future<Output = Result<Response, lettre::transport::smtp::Error>>,
    ) -> Result<Response, OpenError> {
        match tokio::time::timeout(deadline, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) if error.is_permanent() => {
                let code = code_of(&error).unwrap_or(550);
                let words = clean(&error.to_string());
                // What is said to RCPT is about the recipient; to MAIL or DATA, or about a login, it is about us.
                if step == RCPT && !is_about_login(code) {
                    return Err(OpenError::Rejected { code, words });
                }
                Err(OpenError::Relay(self.error(Trouble::Refuses {
                    step,
                    code,
                    words,
                })))
            }
            Ok(Err(error)) => Err(OpenError::Relay(self.error(not_reached(step, &error)))),
            Err(_) => Err(OpenError::Relay(self.error(too_late(step)))),
        }
    }
}

/// A mail that the relay waits for. Dropped instead of sent, its connection closes and the relay forgets it.
pub(super) struct Transaction<'a> {
    relay: &'a Inner,
    connection: AsyncSmtpConnection,
    _slot: OwnedSemaphorePermit,
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({}:{})", self.relay.host, self.relay.port)
    }
}

impl Transaction<'_> {
    /// Sends the text and its dot, and waits for the one reply that counts.
    pub(super) async fn send(mut self, bytes: &[u8]) -> Outcome {
        match tokio::time::timeout(AFTER_DOT, self.connection.message_iter(halves(bytes))).await {
            Ok(Ok(reply)) if reply.has_code(250) => {
                let words = words(&reply);
                self.relay.keep(self.connection);
                Outcome::Accepted { words }
            }
            // Any other yes is an answer to something else: the connection is out of step.
            Ok(Ok(reply)) => Outcome::Unknown {
                words: format!("the text was answered with {}", words(&reply)),
            },
            Ok(Err(error)) if error.is_transient() => {
                let outcome = Outcome::NotSent {
                    code: code_of(&error),
                    words: clean(&error.to_string()),
                };
                self.relay.keep(self.connection);
                outcome
            }
            Ok(Err(error)) if error.is_permanent() => {
                let code = code_of(&error).unwrap_or(550);
                let outcome = Outcome::Rejected {
                    code,
                    words: clean(&error.to_string()),
                };
                self.relay.keep(self.connection);
                outcome
            }
            Ok(Err(error)) => Outcome::Unknown {
                words: clean(&chain(&error)),
            },
            Err(_) => Outcome::Unknown {
                words: "no reply came in time".to_owned(),
            },
        }
    }
}

/// A text in two halves: a process can end between them.
fn halves(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    std::iter::once(first).chain(std::iter::once_with(move || {
        failpoint::pass(Failpoint::HalfSent);
        second
    }))
}

/// Whether the envelope can be told to a relay without SMTPUTF8 (RFC 6531).
fn is_ascii(envelope: &Envelope) -> bool {
    envelope
        .from()
        .into_iter()
        .chain(envelope.to())
        .all(|address| AsRef::<str>::as_ref(address).is_ascii())
}

fn not_reached(step: &'static str, error: &lettre::transport::smtp::Error) -> Trouble {
    if error.is_tls() || chain(error).contains("certificate") {
        return Trouble::Insecure {
            words: clean(&chain(error)),
        };
    }
    match code_of(error) {
        Some(code) => Trouble::NotNow {
            step,
            code: Some(code),
            words: clean(&error.to_string()),
        },
        None => Trouble::Unreachable {
            step,
            words: clean(&chain(error)),
        },
    }
}

fn too_late(step: &'static str) -> Trouble {
    Trouble::Unreachable {
        step,
        words: "no answer in time".to_owned(),
    }
}

fn code_of(error: &lettre::transport::smtp::Error) -> Option<u16> {
    error.status().map(u16::from)
}

fn words(reply: &Response) -> String {
    let text: Vec<&str> = reply.message().collect();
    clean(&format!("{} {}", reply.code(), text.join(" ")))
}

fn chain(error: &dyn std::error::Error) -> String {
    crate::error::chain(error)
}

/// A relay's words as they may be kept and logged: one line, bounded, and without the addresses it repeats.
fn clean(words: &str) -> String {
    const MOST: usize = 300;
    let hidden = words.split_whitespace().map(|word| {
        if word.contains('@') {
            "(address)"
        } else {
            word
        }
    });
    let line: Vec<&str> = hidden.collect();
    line.join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_words_lose_their_addresses_and_their_lines() {
        assert_eq!(
            clean("5.1.1 <bo@acme.example>: Recipient\r\naddress rejected"),
            "5.1.1 (address) Recipient address rejected"
        );
        assert_eq!(clean(&"x".repeat(1000)).len(), 300);
    }
}
