//! A relay: how it is reached, its rate, and the outcome of each mail.
//!
//! The dialogue is our own ([`dialogue`], on [`wire`]). lettre's transport has no deadline beyond connecting (its issue
//! 1027), keeps connections whose exchange was cut, so that replies are then off by one (measured: a 454 after the end
//! of DATA was reported as sent), and does not report whether the end of DATA had left when the connection broke. Here
//! every step has a deadline, and a connection is kept only after an exchange that ended in order. Only 250 after the
//! end of DATA is "accepted". A mail whose connection breaks before the end of DATA was certainly not sent.

mod adaptive_rate;
mod dialogue;
mod failures;
pub(crate) mod hello;
mod login;
mod overtaken;
mod pool;
mod refusals;
mod reply;
mod tls;
mod transaction;
mod trouble;
mod verdict;
mod wire;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adaptive_rate::AdaptiveRate;
use dialogue::{Cause, Dialogue, DialogueStep, Failure};
use hello::Hello;
use lettre::Address;
use lettre::address::Envelope;
use login::{Login, Logins};
use overtaken::{JobHash, OvertakenMails};
use pool::RelayPool;
use refusals::{Addressee, Refusals};
use reply::{Reply, ReplyLine};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
pub(super) use transaction::{DeferralScope, Sent, Transaction};
pub use trouble::{RelayError, Trouble};
pub use verdict::DeferralKind;
use verdict::{ReplyVerdict, judge};
use wire::Trust;

use super::Letter;
use crate::bounds::MAIL_HOLDS_CONNECTION;
use crate::clock::Clock;
use crate::config::SmtpConfig;
use crate::config_error::ConfigError;
use crate::edge::health::{Edge, EdgeKind, RequestNumber};
use crate::edge::names::AddressTurn;
use crate::environment::Environment;
use crate::progress::Progress;
use crate::quantity::Rate;
use crate::rate_limit::RateLimiter;

/// How long a mail's connection may be silent before it no longer counts towards the limit of connections: the next
/// mail may open another.
const ANOTHER_CONNECTION: Duration = MAIL_HOLDS_CONNECTION;

/// How long a mail waits for a reply before its text while another connection gets replies: its own connection may be
/// dead. The mail's next attempt has the whole deadline, since a relay may take long over one address.
const OVERTAKEN: Duration = Duration::from_secs(18);

/// The same for a mail that began to wait in a silence of the relay that is over, from its end.
const LEFT_BEHIND: Duration = Duration::from_secs(3);

/// How often a mail that waits for a reply is checked for that.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How recent an answer of the relay must be for a job to begin without a new check.
const HEARD_LATELY: Duration = Duration::from_secs(1);

/// How long mails wait without a reply, before their recipients are named, until the relay is probed.
const LOOKED_AFTER: Duration = Duration::from_secs(3);

/// How long a relay that failed in the middle of mails is tried by mails alone.
const LEFT_TO_MAILS: Duration = Duration::from_secs(20);

/// The longest pause of a relay that a mail waits for in its slot; for a longer pause its job goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a job waits whose mail hung, see [`Edge::until_it_hangs`].
const HUNG_PAUSE: Duration = Duration::from_secs(15);

/// How long a job waits whose mail got no connection.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// A relay's one-line reply in the forms that may be logged: its text, and its codes alone. For the fuzz targets.
#[doc(hidden)]
pub fn read_reply(line: &[u8]) -> Option<(String, String)> {
    let ReplyLine { code, words, .. } = ReplyLine::parse(line)?;
    let reply = Reply {
        code,
        lines: vec![words],
        ..Reply::default()
    };
    // Every reply can be judged.
    let _verdicts = [DialogueStep::Rcpt, DialogueStep::Dot].map(|step| judge(step, &reply));
    Some((reply.words(), reply.numbers()))
}

/// A hash of the domains of a mail's recipients.
pub(crate) fn domains_hash<'a>(domains: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    domains.for_each(|domain| domain.to_ascii_lowercase().hash(&mut hasher));
    hasher.finish()
}

/// A relay and the kept connections to it.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<RelayInner>,
}

struct RelayInner {
    config: SmtpConfig,
    section: String,
    trust: Trust,
    logins: Option<Logins>,
    hello: Hello,
    /// The address in MAIL FROM, in place of the sender's.
    envelope_from: Option<Address>,
    /// Additional headers, as lines.
    headers: String,
    limiter: RateLimiter,
    adaptive_rate: AdaptiveRate,
    edge: Edge,
    last_failure: Mutex<Option<LastFailure>>,
    refusals: Refusals,
    /// The mails that gave up their connection once while another connection got replies.
    overtaken: Mutex<OvertakenMails>,
    /// The address with which the next connection begins.
    addresses: AddressTurn,
    /// How many mails the relay has accepted.
    accepted: AtomicU64,
    pool: RelayPool,
    progress: Progress,
    clock: Clock,
}

/// The last failure of a relay.
#[derive(Debug)]
struct LastFailure {
    trouble: Trouble,
    /// Whether it failed at a mail, after the handshake.
    in_mail: bool,
    at: Instant,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({})", self.place())
    }
}

/// The permit for one mail: the relay may be given one, on a connection that is ours.
#[derive(Debug)]
pub struct RelayPermit<'a> {
    relay: &'a Relay,
    slot: ConnectionSlot,
    job: JobHash,
}

/// The right to a connection; given back early if the connection is silent for long.
type ConnectionSlot = Option<OwnedSemaphorePermit>;

/// Why a mail was not announced successfully.
#[derive(Debug)]
pub(super) enum RelayOpenError {
    /// This mail will never be accepted: 5xx.
    Never { code: u16, words: String },
    /// This mail may be accepted later: 4xx.
    Later {
        kind: DeferralKind,
        code: u16,
        words: String,
    },
    /// The relay accepts nothing now, rejects us, or rejects this mail alone: a single reply does not show which.
    Unclear {
        code: u16,
        words: String,
        error: RelayError,
    },
    /// The relay cannot be used now.
    Relay(RelayError),
}

impl Relay {
    /// A relay of a section of the configuration; `from_domain` is the domain of `mail.from`. This opens no connection.
    pub fn new(
        section: &str,
        config: &SmtpConfig,
        from_domain: &str,
        environment: &Environment,
        progress: Progress,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        let logins = config
            .login(section)?
            .map(|(username, source)| Logins::open(section, &username, source, environment));
        let subject = format!("the relay {}:{} ({section})", config.host, config.port);
        let name = section.rsplit('.').next().filter(|name| *name != "smtp");
        let edge = Edge::new(EdgeKind::Relay, name.unwrap_or("default"), subject);
        Ok(Self {
            inner: Arc::new(RelayInner {
                trust: tls::trust(section, config)?,
                logins: logins.transpose()?,
                envelope_from: config.reverse_path(section)?,
                headers: config.header_lines(section)?,
                hello: Hello::new(config.hello.as_deref(), from_domain),
                limiter: RateLimiter::new(config.rate),
                adaptive_rate: AdaptiveRate::new(),
                edge,
                last_failure: Mutex::default(),
                refusals: Refusals::default(),
                overtaken: Mutex::default(),
                addresses: AddressTurn::default(),
                accepted: AtomicU64::new(0),
                pool: RelayPool::new(config.connections),
                section: section.to_owned(),
                config: config.clone(),
                progress,
                clock,
            }),
        })
    }

    /// This relay with the limiter of what its section was before a change: jobs that began before it go on with the former relay, and the
    /// server takes so many mails from both together. Another server has a limit of its own.
    pub(super) fn limited_as(mut self, former: &Self) -> Self {
        if self.place() == former.place()
            && let Some(inner) = Arc::get_mut(&mut self.inner)
        {
            inner.limiter = former.inner.limiter.clone();
        }
        self
    }

    /// Changes the rate, for all jobs.
    pub(super) fn set_rate(&self, rate: Rate) {
        self.inner.limiter.set_rate(rate);
    }

    /// The relay's host and port.
    pub fn place(&self) -> String {
        let SmtpConfig { host, port, .. } = &self.inner.config;
        format!("{host}:{port}")
    }

    /// The name that is sent in EHLO.
    pub fn hello(&self) -> String {
        self.inner.hello.to_string()
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<LastFailure>> {
        let last = self.inner.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay's health.
    pub fn edge(&self) -> &Edge {
        &self.inner.edge
    }

    /// Whether a connection without a mail can show that the relay is well. It cannot soon after a failure in the
    /// middle of a mail, or while the relay rejects mails.
    pub fn can_be_probed(&self) -> bool {
        if self.inner.refusals.last_one() {
            return false;
        }
        let last = self.last_failure();
        let is_left_to_mails =
            |last: &LastFailure| last.in_mail && last.at.elapsed() < LEFT_TO_MAILS;
        !last.as_ref().is_some_and(is_left_to_mails)
    }

    /// Connects, secures the connection, logs in and quits: whether the relay can be used. A relay that failed in the
    /// middle of mails must also reply to the beginning of a mail.
    pub async fn probe(&self) -> Result<(), RelayError> {
        let under_way = self.inner.edge.asked(DialogueStep::Connect.at_edge());
        let mut dialogue = match self.connect(under_way.number()).await {
            Ok(dialogue) => dialogue,
            Err(failure) if self.is_full(&failure) => {
                // The relay is there; the mails that hold its connections report the rest.
                self.got_as_far_as(failure.step);
                return Ok(());
            }
            Err(failure) => return Err(self.failed(&failure, None)),
        };
        let failed_in_mail = self
            .last_failure()
            .as_ref()
            .is_some_and(|last| last.in_mail);
        // A relay that greets may be silent to the beginning of a mail: its greeting does not answer the mails that
        // wait there.
        let silent_at = self.inner.edge.silent_at(LOOKED_AFTER);
        let is_silent_at_mail = silent_at.is_some_and(|step| step == DialogueStep::Mail.at_edge());
        if failed_in_mail || is_silent_at_mail {
            let begun = dialogue.begin_and_take_back().await;
            // Some relays reject the null reverse-path; such a rejection is an answer, too.
            if let Err(failure) = begun
                && !matches!(failure.cause, Cause::Said(_))
            {
                return Err(self.failed(&failure, None));
            }
        }
        drop(under_way);
        dialogue.quit().await;
        self.got_as_far_as(DialogueStep::Noop);
        Ok(())
    }

    /// Closes the connections that no mail used for a minute.
    pub fn close_idle(&self) {
        self.inner.pool.close_idle();
    }

    /// Ends its connections when their mails are done, since a new configuration has another relay in its place.
    pub(super) fn retire(&self) {
        self.inner.pool.retire();
    }

    /// Whether both are one relay, with the same connections.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether mails get no reply at a step that a connection without a mail can reach: their connections may be dead,
    /// and the relay well.
    pub fn is_silent_before_rcpt(&self) -> bool {
        let silent_at = self.inner.edge.silent_at(LOOKED_AFTER);
        silent_at.is_some_and(|step| step.rank <= DialogueStep::Mail.at_edge().rank)
    }

    /// Checks that the relay accepts connections, before any work for a mail: it has answered a moment ago, or it
    /// answers now, here or on another connection. The connection is kept for the mail.
    ///
    /// An answer here is no sign of recovery for a relay that fails in the middle of mails, so only a failure is
    /// reported.
    pub(crate) async fn reach(&self) -> Result<(), RelayError> {
        let lately = Instant::now().checked_sub(HEARD_LATELY);
        if lately.is_some_and(|lately| self.replied_since(lately)) {
            return Ok(());
        }
        let mut slot = Some(self.slot().await?);
        let began = Instant::now();
        let mut asking = std::pin::pin!(self.ask());
        loop {
            tokio::select! {
                asked = &mut asking => return asked,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.replied_since(began) {
                // Another connection got its reply and this one did not: it may be a kept one that is dead, and others
                // may be, too.
                self.inner.pool.forget();
                return Ok(());
            }
            // As for a mail: a connection that is silent for long must not take the place of another.
            if began.elapsed() >= ANOTHER_CONNECTION {
                drop(slot.take());
            }
        }
    }

    /// Whether a connection that is ready for a mail got a reply since an instant.
    fn replied_since(&self, instant: Instant) -> bool {
        self.inner
            .edge
            .replied_since(DialogueStep::Noop.at_edge(), instant)
    }

    /// Checks a kept connection, or opens one.
    async fn ask(&self) -> Result<(), RelayError> {
        let RelayInner { edge, pool, .. } = &*self.inner;
        let under_way = edge.asked(DialogueStep::Connect.at_edge());
        let dialogue = match pool.take_asked().await {
            Some(kept) => kept,
            None => match self.connect(under_way.number()).await {
                Ok(dialogue) => dialogue,
                Err(failure) if self.is_full(&failure) => return Ok(()),
                Err(failure) => return Err(self.failed(&failure, None)),
            },
        };
        pool.keep(dialogue);
        Ok(())
    }

    /// The right to a connection; fails if all are busy for long.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, RelayError> {
        let slot = tokio::time::timeout(PATIENCE, self.inner.pool.slot()).await;
        slot.map_err(|_| self.busy())
    }

    /// Waits until the relay may be given one more mail of a job.
    pub async fn turn(&self, by: &str) -> Result<RelayPermit<'_>, RelayError> {
        let slot = self.slot().await?;
        self.may_be_tried(by)?;
        while let Some(pause) = self.inner.adaptive_rate.pause() {
            if pause > PATIENCE {
                return Err(self.paused(pause));
            }
            tokio::time::sleep(pause).await;
        }
        self.inner
            .limiter
            .pass(self.inner.adaptive_rate.cost())
            .await;
        Ok(RelayPermit {
            relay: self,
            slot: Some(slot),
            job: JobHash::of(by),
        })
    }

    /// Fails if the relay cannot be used soon.
    pub(super) fn may_be_tried(&self, by: &str) -> Result<(), RelayError> {
        if let Some(pause) = self.inner.adaptive_rate.pause()
            && pause > PATIENCE
        {
            return Err(self.paused(pause));
        }
        if let Err(outage) = self.inner.edge.may_be_tried(by) {
            let trouble = self
                .last_failure()
                .as_ref()
                .map(|last| last.trouble.clone());
            let trouble = trouble.unwrap_or_else(|| Trouble::Unreachable {
                step: "before",
                words: outage.words.clone(),
            });
            return Err(RelayError {
                left: outage.left,
                ..self.trouble(trouble)
            });
        }
        Ok(())
    }

    /// How many mails the relay has accepted since the program started.
    pub(super) fn accepted(&self) -> u64 {
        self.inner.accepted.load(Ordering::Relaxed)
    }

    /// Opens a connection. If the relay rejects the login, the password's file is read again, and a changed login is
    /// tried once.
    async fn connect(&self, request: RequestNumber) -> Result<Dialogue, Failure> {
        let Some(logins) = &self.inner.logins else {
            return self.begin(None, request).await;
        };
        let login = logins.now().await;
        let login = login.map_err(|words| {
            let words = format!("{} {words}", logins.key());
            Failure::now(DialogueStep::Auth, Cause::NoLogin(words))
        })?;
        let refused = match self.begin(Some(&login), request).await {
            Err(failure) if failure.refuses_the_login() => failure,
            begun => return begun,
        };
        match logins.other_than(&login).await {
            Some(other) => self.begin(Some(&other), request).await,
            None => Err(refused),
        }
    }

    async fn begin(
        &self,
        login: Option<&Login>,
        request: RequestNumber,
    ) -> Result<Dialogue, Failure> {
        let RelayInner {
            config,
            trust,
            hello,
            edge,
            addresses,
            ..
        } = &*self.inner;
        let begun = Dialogue::begin((config, addresses), trust, login, hello, (edge, request));
        let mut dialogue = begun.await?;
        dialogue.counts(self.inner.pool.count());
        Ok(dialogue)
    }
}

impl<'a> RelayPermit<'a> {
    /// The relay of the permit.
    pub(super) const fn relay(&self) -> &'a Relay {
        self.relay
    }

    /// Announces a mail to the relay, up to the 354 reply before the text.
    ///
    /// A kept connection that turns out to be closed, or closing, is replaced by another: no text was sent yet.
    pub(super) async fn open(self, letter: &Letter) -> Result<Transaction<'a>, RelayOpenError> {
        let Self {
            relay,
            mut slot,
            job,
        } = self;
        let domains = letter.envelope.to().iter().map(Address::domain);
        let name = domains_hash(domains);
        let edge = &relay.inner.edge;
        let under_way = edge.asked_about(name, DialogueStep::Connect.at_edge());
        let request = under_way.number();
        let addressee = Addressee::of(&letter.envelope);
        let opening = relay.open(letter, addressee, request);
        let mut opening = std::pin::pin!(opening);
        let mut hangs = std::pin::pin!(relay.hangs(name, request));
        // What is not to wait takes no connection.
        let opened = tokio::select! {
            biased;
            () = &mut hangs => return Err(RelayOpenError::Relay(relay.hung())),
            opened = &mut opening => opened,
            () = tokio::time::sleep(ANOTHER_CONNECTION) => {
                slot = None;
                tokio::select! {
                    opened = opening => opened,
                    () = hangs => return Err(RelayOpenError::Relay(relay.hung())),
                    () = relay.overtakes((addressee, job), request) => Err(RelayOpenError::Relay(relay.dead_connection())),
                }
            }
        };
        if !matches!(opened, Err(RelayOpenError::Relay(_))) {
            edge.answered_about(name);
        }
        Ok(Transaction {
            relay,
            dialogue: opened?,
            addressee,
            slot,
            _under_way: under_way,
        })
    }
}

impl Relay {
    /// Waits until another connection gets a reply while the mail has waited long at one step. Never returns if that
    /// has happened to the mail before.
    async fn overtakes(&self, mail: (Addressee, JobHash), request: RequestNumber) {
        if self.overtaken().has(mail) {
            std::future::pending::<()>().await;
        }
        let edge = &self.inner.edge;
        let is_overtaken = || {
            let Some(since) = edge.waiting_since(request) else {
                return false;
            };
            let waited = since.elapsed();
            let behind = edge.left_behind_for(request);
            (waited >= OVERTAKEN && edge.answered_since(since))
                || (behind.is_some_and(|behind| behind >= LEFT_BEHIND) && edge.is_unusual(waited))
        };
        while !is_overtaken() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.overtaken().add(mail);
    }

    /// Waits until a mail must not wait any longer before its text: the relay replied to others meanwhile, and as many mails hang as may,
    /// see [`Edge::until_it_hangs`]. A relay may ask the servers of one domain for each recipient.
    async fn hangs(&self, name: u64, request: RequestNumber) {
        let edge = &self.inner.edge;
        // What waits since a silence of the relay tells nothing about its domain, unless that happens again.
        let is_of_a_silence = || edge.is_first_left_behind(request);
        let waited = || edge.overtaken_for(request).filter(|_| !is_of_a_silence());
        edge.until_it_hangs((name, Some(request)), waited).await;
    }

    /// Fails if a mail to these domains is not to wait: as many hang as may, and one to them did lately.
    pub(super) fn may_be_asked_about<'a>(
        &self,
        domains: impl Iterator<Item = &'a str>,
    ) -> Result<(), RelayError> {
        match self.inner.edge.hangs_at(domains_hash(domains), None) {
            true => Err(self.hung()),
            false => Ok(()),
        }
    }

    /// Limits how many mails may hang, of `share` slots and of the connections.
    pub fn limit_hanging(&self, share: usize) {
        let of_connections = self.inner.config.connections / 2;
        self.inner
            .edge
            .limit_hanging(share.min(of_connections).max(1));
    }

    /// A mail got no reply while others did, and no more of such mails may wait.
    fn hung(&self) -> RelayError {
        RelayError {
            left: HUNG_PAUSE,
            ..self.trouble(Trouble::Overtaken {
                words: "the most mails that may wait like this one already do",
            })
        }
    }

    fn overtaken(&self) -> MutexGuard<'_, OvertakenMails> {
        let overtaken = self.inner.overtaken.lock();
        overtaken.unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection got no reply while others did: no text was sent on it, and the relay is well.
    fn dead_connection(&self) -> RelayError {
        RelayError {
            left: BUSY_PAUSE,
            ..self.trouble(Trouble::Overtaken {
                words: "its connection was closed, and the mail is tried on another",
            })
        }
    }

    /// The sender and the recipient in MAIL and RCPT.
    fn envelope(&self, letter: &Letter) -> Envelope {
        let Some(from) = &self.inner.envelope_from else {
            return letter.envelope.clone();
        };
        let to = letter.envelope.to().to_vec();
        Envelope::new(Some(from.clone()), to).expect("there is a recipient")
    }

    async fn open(
        &self,
        letter: &Letter,
        addressee: Addressee,
        request: RequestNumber,
    ) -> Result<Dialogue, RelayOpenError> {
        let envelope = self.envelope(letter);
        loop {
            let (mut dialogue, is_kept) = match self.inner.pool.take().await {
                Some(kept) => (kept, true),
                None => match self.connect(request).await {
                    Ok(new) => (new, false),
                    Err(failure) if self.is_full(&failure) => {
                        let another = tokio::time::timeout(PATIENCE, self.inner.pool.another());
                        match another.await {
                            Ok(Some(another)) => (another, true),
                            // The connections that were open are closed by now.
                            Ok(None) => continue,
                            Err(_) => return Err(RelayOpenError::Relay(self.busy())),
                        }
                    }
                    Err(failure) => return Err(RelayOpenError::Relay(self.failed(&failure, None))),
                },
            };
            if is_kept {
                dialogue.serves(request);
            }
            if !dialogue::is_ascii(&envelope) && !dialogue.takes_utf8() {
                self.inner.pool.keep(dialogue);
                return Err(no_utf8());
            }
            let announced = dialogue.announce(&envelope, &letter.secrets, is_kept);
            let failure = match announced.await {
                Ok(()) => {
                    self.got_as_far_as(DialogueStep::Data);
                    return Ok(dialogue);
                }
                Err(failure) => failure,
            };
            let is_dead = failure.is_about_the_connection()
                // A relay may take long over a mail, but a dead connection looks the same.
                || matches!((failure.step, &failure.cause), (DialogueStep::Mail, Cause::Late));
            if matches!(failure.cause, Cause::Late) {
                self.inner.pool.forget();
            }
            if !(is_kept && is_dead) {
                return Err(self.refused(&failure, addressee, dialogue).await);
            }
        }
    }
}

impl Relay {
    /// What a negative reply before the text means; the connection is kept if it ended in good order.
    async fn refused(
        &self,
        failure: &Failure,
        addressee: Addressee,
        mut dialogue: Dialogue,
    ) -> RelayOpenError {
        let error = self.failed(failure, Some(addressee));
        let Cause::Said(reply) = &failure.cause else {
            return RelayOpenError::Relay(error);
        };
        let (verdict, code, words) = (judge(failure.step, reply), reply.code, reply.words());
        if verdict.leaves_usable(&mut dialogue) && dialogue.reset().await {
            self.inner.pool.keep(dialogue);
        }
        match verdict {
            ReplyVerdict::Never => RelayOpenError::Never { code, words },
            ReplyVerdict::Later(kind) => RelayOpenError::Later { kind, code, words },
            ReplyVerdict::NotNow
            | ReplyVerdict::Closing
            | ReplyVerdict::Refuses
            | ReplyVerdict::Login
                if concerns_a_recipient(failure.step) =>
            {
                RelayOpenError::Unclear { code, words, error }
            }
            _ => RelayOpenError::Relay(error),
        }
    }
}

/// Whether the relay knows the mail's recipient at this step.
const fn concerns_a_recipient(step: DialogueStep) -> bool {
    matches!(step, DialogueStep::Rcpt | DialogueStep::Data)
}

fn no_utf8() -> RelayOpenError {
    RelayOpenError::Never {
        code: 553,
        words: "the address is not ASCII, and the relay does not offer SMTPUTF8".to_owned(),
    }
}
