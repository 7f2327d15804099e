//! A relay: how it is reached, how fast it is served, and what became of a mail that it was given.
//!
//! The dialogue is ours ([`dialogue`], on [`wire`]). lettre's transport has no deadline beyond connecting (its issue
//! 1027), parks connections whose exchange was cut, so that replies are then off by one (measured: a 454 after the dot was
//! reported as sent), and does not tell whether the dot had left when something broke. Here every step has a
//! deadline, a connection is kept only after an exchange that ended in order, only 250 after the dot is "accepted", and
//! what breaks before the dot was not sent, for certain.

mod brake;
mod dialogue;
pub(crate) mod hello;
mod login;
mod pool;
mod refusals;
mod reply;
mod tls;
mod transaction;
mod trouble;
mod verdict;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

pub(super) use transaction::{DeferralScope, Sent, Transaction};
pub use trouble::{RelayError, Trouble};
pub use verdict::DeferralKind;

use super::Letter;
use crate::clock::Clock;
use crate::config::SmtpConfig;
use crate::config_error::ConfigError;
use crate::edge::health::{Edge, EdgeKind, FailureKind, RequestNumber};
use crate::environment::Environment;
use crate::progress::Progress;
use crate::rate_limit::RateLimiter;
use brake::{AdaptiveRate, Slowed};
use dialogue::{Cause, Dialogue, DialogueStep, Failure};
use hello::Hello;
use login::{Login, Logins};
use pool::RelayPool;
use refusals::{Addressee, Refusals};
use reply::{Reply, ReplyLine};
use verdict::{ReplyVerdict, judge};
use wire::Trust;

/// How long a mail's connection may stay silent until it counts no more among those that are allowed: the next mail gets
/// another.
const ANOTHER_CONNECTION: Duration = Duration::from_secs(10);

/// How long a mail waits for a reply before its text when another connection was answered meanwhile: its own may have died. The
/// mail's next attempt has the whole deadline, since a relay may take long over one address.
const OVERTAKEN: Duration = Duration::from_secs(18);

/// How often it is looked whether a mail was overtaken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many mails are remembered that were.
const MAX_OVERTAKEN: usize = 10_000;

/// How long ago a relay that is not asked anew has answered, before a job begins.
const HEARD_LATELY: Duration = Duration::from_secs(1);

/// After how long mails that wait in vain before their recipients are named have the relay looked at.
const LOOKED_AFTER: Duration = Duration::from_secs(3);

/// How long a relay that failed in the middle of mails is left to mails.
const LEFT_TO_MAILS: Duration = Duration::from_secs(20);

/// The longest pause of a relay that a mail waits for in its place; for a longer one its job goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a job whose mail got no connection stays away.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// A relay's reply of one line as it may be logged: its words, and its numbers alone. For the fuzz targets.
#[doc(hidden)]
pub fn read_reply(line: &[u8]) -> Option<(String, String)> {
    let ReplyLine { code, words, .. } = ReplyLine::parse(line)?;
    let reply = Reply {
        code,
        lines: vec![words],
        ..Reply::default()
    };
    // Whatever it says, it can be judged.
    let _verdicts = [DialogueStep::Rcpt, DialogueStep::Dot].map(|step| judge(step, &reply));
    Some((reply.words(), reply.numbers()))
}

/// A relay and the connections to it that are kept.
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
    limiter: RateLimiter,
    brake: AdaptiveRate,
    edge: Edge,
    last_failure: Mutex<Option<LastFailure>>,
    refusals: Refusals,
    /// Whose mails were overtaken once.
    overtaken: Mutex<HashSet<Addressee>>,
    /// How many mails it has accepted.
    accepted: AtomicU64,
    pool: RelayPool,
    progress: Progress,
    clock: Clock,
}

/// How a relay failed last.
#[derive(Debug)]
struct LastFailure {
    trouble: Trouble,
    /// Whether the connection was ready for a mail before.
    in_mail: bool,
    at: Instant,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({})", self.place())
    }
}

/// A mail's turn: the relay may be given one, on a connection that is ours.
#[derive(Debug)]
pub struct RelayPermit<'a> {
    relay: &'a Relay,
    slot: ConnectionSlot,
}

/// The right to a connection; given back early by a connection that is silent for long.
type ConnectionSlot = Option<OwnedSemaphorePermit>;

/// Why a mail was not taken up.
#[derive(Debug)]
pub(super) enum RelayOpenError {
    /// This mail will never be taken: 5yz.
    Never { code: u16, words: String },
    /// This mail may be taken later: 4yz.
    Later {
        kind: DeferralKind,
        code: u16,
        words: String,
    },
    /// The relay takes nothing now or refuses us, or that is about this mail alone: nobody can tell from one.
    Unclear {
        code: u16,
        words: String,
        error: RelayError,
    },
    /// The relay cannot be used now.
    Relay(RelayError),
}

impl Relay {
    /// A relay as a section of the configuration describes it; `from_domain` is that of `mail.from`. Nothing is connected yet.
    pub fn new(
        section: &str,
        config: &SmtpConfig,
        from_domain: &str,
        environment: &Environment,
        progress: Progress,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        let logins = match (&config.username, &config.password_file) {
            (Some(username), Some(file)) => {
                Some(Logins::open(section, username, file, environment)?)
            }
            _ => None,
        };
        let subject = format!("the relay {}:{} ({section})", config.host, config.port);
        let name = section.rsplit('.').next().filter(|name| *name != "smtp");
        let edge = Edge::new(EdgeKind::Relay, name.unwrap_or("default"), subject);
        Ok(Self {
            inner: Arc::new(RelayInner {
                trust: tls::trust(section, config)?,
                logins,
                hello: Hello::new(config.hello.as_deref(), from_domain),
                limiter: RateLimiter::new(config.rate),
                brake: AdaptiveRate::new(),
                edge,
                last_failure: Mutex::default(),
                refusals: Refusals::default(),
                overtaken: Mutex::default(),
                accepted: AtomicU64::new(0),
                pool: RelayPool::new(config.connections),
                section: section.to_owned(),
                config: config.clone(),
                progress,
                clock,
            }),
        })
    }

    /// The relay's host and port.
    pub fn place(&self) -> String {
        let SmtpConfig { host, port, .. } = &self.inner.config;
        format!("{host}:{port}")
    }

    /// What the relay is told in EHLO.
    pub fn hello(&self) -> String {
        self.inner.hello.to_string()
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<LastFailure>> {
        let last = self.inner.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the relay's health.
    pub fn edge(&self) -> &Edge {
        &self.inner.edge
    }

    /// Whether a connection without a mail may tell that the relay is well: not soon after a failure in the middle of a mail,
    /// and not where it refuses mails.
    pub fn can_be_probed(&self) -> bool {
        if self.inner.refusals.last_one() {
            return false;
        }
        let last = self.last_failure();
        let is_left_to_mails =
            |last: &LastFailure| last.in_mail && last.at.elapsed() < LEFT_TO_MAILS;
        !last.as_ref().is_some_and(is_left_to_mails)
    }

    /// Connects, secures the connection, logs in and says goodbye: whether the relay can be used. One that failed in the middle
    /// of mails must answer to the beginning of a mail, too.
    pub async fn probe(&self) -> Result<(), RelayError> {
        let under_way = self.inner.edge.asked(DialogueStep::Connect.at_edge());
        let mut dialogue = match self.connect(under_way.number()).await {
            Ok(dialogue) => dialogue,
            Err(failure) if self.is_full(&failure) => {
                // It is there, and the mails that have its connections say the rest.
                self.got_as_far_as(failure.step);
                return Ok(());
            }
            Err(failure) => return Err(self.failed(&failure, None)),
        };
        let failed_in_mail = self
            .last_failure()
            .as_ref()
            .is_some_and(|last| last.in_mail);
        // A relay that greets may be silent to the beginning of a mail: its greeting is no answer to the mails that wait there.
        let silent_at = self.inner.edge.silent_at(LOOKED_AFTER);
        let is_silent_at_mail = silent_at.is_some_and(|step| step == DialogueStep::Mail.at_edge());
        if failed_in_mail || is_silent_at_mail {
            let begun = dialogue.begin_and_take_back().await;
            // Some relays refuse the null reverse-path; one that says so answers.
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

    /// Whether mails wait in vain at a step that a connection without a mail can come to: those connections may be dead, and
    /// the relay well.
    pub fn is_silent_before_rcpt(&self) -> bool {
        let silent_at = self.inner.edge.silent_at(LOOKED_AFTER);
        silent_at.is_some_and(|step| step.rank <= DialogueStep::Mail.at_edge().rank)
    }

    /// Makes sure that the relay takes connections, before anything is done for a mail: it has answered a moment ago, or it does
    /// now, here or to another. The connection is kept for the mail.
    ///
    /// What it answers here is no news of a relay that fails in the middle of mails, so only a failure is reported.
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
                // A connection got its reply and this one did not, which may be a kept one that has died, like others.
                self.inner.pool.forget();
                return Ok(());
            }
            // As for a mail: a connection that is silent for long keeps none from others.
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

    /// Has a kept connection answer, or makes one.
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

    /// The right to a connection; fails where all are busy for long.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, RelayError> {
        let slot = tokio::time::timeout(PATIENCE, self.inner.pool.slot()).await;
        slot.map_err(|_| self.busy())
    }

    /// Waits until the relay may be given one more mail of a job.
    pub async fn turn(&self, by: &str) -> Result<RelayPermit<'_>, RelayError> {
        let slot = self.slot().await?;
        self.may_be_tried(by)?;
        while let Some(pause) = self.inner.brake.pause() {
            if pause > PATIENCE {
                return Err(self.paused(pause));
            }
            tokio::time::sleep(pause).await;
        }
        self.inner.limiter.pass(self.inner.brake.cost()).await;
        Ok(RelayPermit {
            relay: self,
            slot: Some(slot),
        })
    }

    /// Fails if there is no use in waiting for the relay now.
    pub(super) fn may_be_tried(&self, by: &str) -> Result<(), RelayError> {
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
        match self.inner.brake.pause() {
            Some(pause) if pause > PATIENCE => Err(self.paused(pause)),
            Some(_) | None => Ok(()),
        }
    }

    /// How many mails it has accepted since the program began.
    pub(super) fn accepted(&self) -> u64 {
        self.inner.accepted.load(Ordering::Relaxed)
    }

    /// Makes a connection. Where the relay refuses the login, the password's file is read again, and what it gives is tried once if
    /// it is another.
    async fn connect(&self, request: RequestNumber) -> Result<Dialogue, Failure> {
        let Some(logins) = &self.inner.logins else {
            return self.begin(None, request).await;
        };
        let login = logins.now().await;
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
            ..
        } = &*self.inner;
        let begun = Dialogue::begin(config, trust, login, hello, (edge, request));
        let mut dialogue = begun.await?;
        dialogue.counts(self.inner.pool.count());
        Ok(dialogue)
    }

    /// Whether a connection was turned away because others of ours are there. These serve then: slowing down would not help, and
    /// each complaint doubles a pause in which nothing is sent.
    fn is_full(&self, failure: &Failure) -> bool {
        let is_full = !failure.step.is_of_a_mail()
            && self.inner.pool.is_open()
            && matches!(&failure.cause, Cause::Said(reply) if verdict::is_of_connections(reply));
        if is_full && let Some(most) = self.inner.pool.is_full(self.inner.config.connections) {
            tracing::warn!(
                relay = self.place(),
                connections = most,
                words = failure.words(),
                "the relay takes no more connections; it is served with those that it has taken"
            );
        }
        is_full
    }

    /// Reports a failed step to the edge. A relay that says something to a mail, if only "no", is there; one that turns
    /// connections away before a mail is not, however it does that.
    fn failed(&self, failure: &Failure, addressee: Option<Addressee>) -> RelayError {
        let mut error = self.error(failure);
        if let Some(addressee) = addressee
            && let Some(kind) = failure.refuses_a_mail()
        {
            self.refused_mail(kind, failure, error.trouble.clone(), addressee);
            return error;
        }
        let kind = match (&error.trouble, &failure.cause) {
            (Trouble::Paused { .. }, _) => None,
            (Trouble::NotNow { .. }, Cause::Said(reply)) if failure.turns_away(reply) => {
                Some(FailureKind::Unreachable)
            }
            (Trouble::NotNow { .. }, _) => None,
            (_, Cause::Said(_)) if failure.step.is_of_a_mail() => None,
            (Trouble::Login { .. } | Trouble::Insecure { .. }, _) => Some(FailureKind::Denied),
            (Trouble::Refuses { .. }, _) => Some(FailureKind::Refused),
            (_, Cause::Late) => Some(FailureKind::Timeout),
            _ => Some(FailureKind::Unreachable),
        };
        match kind {
            None => self.got_as_far_as(failure.step),
            Some(kind) => {
                self.down(kind, failure, error.trouble.clone());
                // Probes find out that connections are taken again, so the job comes back with the end of the pause, and not
                // as late as its receipts would have it. What fails in a mail is tried by a job, which signs its links anew.
                let outage = self.inner.edge.outage();
                let outage = outage.filter(|_| !failure.step.is_of_a_mail());
                error.left = outage.map(|outage| outage.left).unwrap_or_default();
            }
        }
        error
    }

    /// The relay refused a mail for a reason about us, or about itself.
    fn refused_mail(
        &self,
        kind: FailureKind,
        failure: &Failure,
        trouble: Trouble,
        addressee: Addressee,
    ) {
        let is_news = self.inner.refusals.add(failure.step, addressee);
        if is_news || self.inner.edge.outage().is_some() {
            self.down(kind, failure, trouble);
        }
    }

    /// A mail, or a connection, got as far as a step: the relay is up, unless it refuses mails at a later one.
    fn got_as_far_as(&self, step: DialogueStep) {
        if self.inner.refusals.pass(step) {
            self.inner.edge.answered();
        }
    }

    /// The relay took a mail.
    fn took(&self) {
        self.inner.accepted.fetch_add(1, Ordering::Relaxed);
        self.inner.brake.accepted();
        self.got_as_far_as(DialogueStep::Dot);
    }

    fn down(&self, kind: FailureKind, failure: &Failure, trouble: Trouble) {
        let Failure { step, began, .. } = failure;
        // Its connection died in an outage that is over.
        if self.inner.edge.answered_since(*began) {
            return;
        }
        *self.last_failure() = Some(LastFailure {
            trouble,
            in_mail: step.is_of_a_mail(),
            at: Instant::now(),
        });
        let words = failure.words();
        self.inner.edge.failed(kind, &format!("{step}: {words}"));
    }

    fn trouble(&self, trouble: Trouble) -> RelayError {
        RelayError {
            host: self.place(),
            section: self.inner.section.clone(),
            trouble,
            left: Duration::ZERO,
        }
    }

    fn error(&self, failure: &Failure) -> RelayError {
        if let Cause::Said(reply) = &failure.cause {
            self.apply(judge(failure.step, reply), &failure.words());
        }
        match self.inner.brake.pause() {
            Some(left) if left > PATIENCE => self.paused(left),
            Some(_) | None => self.trouble(Trouble::of(failure, self.inner.config.tls)),
        }
    }

    /// All connections have been busy for as long as a mail waits in its place.
    fn busy(&self) -> RelayError {
        let connections = self.inner.config.connections;
        let words = format!("its {connections} connections are busy");
        RelayError {
            left: BUSY_PAUSE,
            ..self.trouble(Trouble::NotNow {
                step: "waiting for a connection",
                words,
            })
        }
    }

    fn paused(&self, left: Duration) -> RelayError {
        let until = (self.inner.clock)().saturating_add(left);
        let until = until.unwrap_or(jiff::Timestamp::MAX);
        self.trouble(Trouble::Paused { left, until })
    }

    /// A connection broke, or fell silent, in the middle of a mail's text or after it.
    fn broke(&self, failure: &Failure) {
        let kind = match failure.cause {
            Cause::Late => FailureKind::Timeout,
            _ => FailureKind::Unreachable,
        };
        let trouble = Trouble::Unreachable {
            step: failure.step.as_str(),
            words: failure.words(),
        };
        self.down(kind, failure, trouble);
    }

    /// The relay took the mail's text and then said something that is no end: its job comes back.
    pub(super) fn not_sent(&self, words: String, refusal: Option<Trouble>) -> RelayError {
        let step = DialogueStep::Dot.as_str();
        self.trouble(match self.inner.brake.pause() {
            Some(left) if left > PATIENCE => return self.paused(left),
            Some(_) | None => refusal.unwrap_or(Trouble::NotNow { step, words }),
        })
    }

    /// The relay took the mail's text and said nothing.
    pub(super) fn no_reply(&self) -> RelayError {
        let step = DialogueStep::Dot.as_str();
        let words = "no reply came".to_owned();
        self.trouble(Trouble::Unreachable { step, words })
    }

    /// Slows the whole relay down if it says so; told once, however many connections hear it.
    fn apply(&self, verdict: ReplyVerdict, words: &str) {
        let slowed = match verdict {
            ReplyVerdict::TooFast => self.inner.brake.slow_down(),
            ReplyVerdict::QuotaSpent => self.inner.brake.rest(),
            _ => None,
        };
        let Some(Slowed { pause, cost }) = slowed else {
            return;
        };
        self.inner.progress.slowed_down();
        let until = (self.inner.clock)().saturating_add(pause).ok();
        tracing::warn!(
            relay = self.place(),
            until = until.map(tracing::field::display),
            part_of_rate = format!("1/{cost}"),
            words,
            "the relay is given too much; slowing down"
        );
    }
}

impl<'a> RelayPermit<'a> {
    /// The relay whose turn it is.
    pub(super) const fn relay(&self) -> &'a Relay {
        self.relay
    }

    /// Asks the relay to take a mail, up to its "go on" before the text.
    ///
    /// A kept connection that turns out to be closed, or closing, is replaced by another: nothing was sent yet.
    pub(super) async fn open(self, letter: &Letter) -> Result<Transaction<'a>, RelayOpenError> {
        let Self { relay, mut slot } = self;
        let under_way = relay.inner.edge.asked(DialogueStep::Connect.at_edge());
        let request = under_way.number();
        let addressee = Addressee::of(&letter.envelope);
        let opening = relay.open(letter, addressee, request);
        let mut opening = std::pin::pin!(opening);
        let opened = tokio::select! {
            opened = &mut opening => opened,
            () = tokio::time::sleep(ANOTHER_CONNECTION) => {
                slot = None;
                tokio::select! {
                    opened = opening => opened,
                    () = relay.overtakes(addressee, request) => Err(RelayOpenError::Relay(relay.dead_connection())),
                }
            }
        };
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
    /// Waits until another connection was answered while a mail has waited at one step for long; for ever if that has happened
    /// to the mail before.
    async fn overtakes(&self, addressee: Addressee, request: RequestNumber) {
        if self.overtaken().contains(&addressee) {
            std::future::pending::<()>().await;
        }
        let edge = &self.inner.edge;
        let is_overtaken = || {
            let since = edge.waiting_since(request);
            since.is_some_and(|since| since.elapsed() >= OVERTAKEN && edge.answered_since(since))
        };
        while !is_overtaken() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut overtaken = self.overtaken();
        if overtaken.len() >= MAX_OVERTAKEN {
            overtaken.clear();
        }
        overtaken.insert(addressee);
    }

    fn overtaken(&self) -> MutexGuard<'_, HashSet<Addressee>> {
        let overtaken = self.inner.overtaken.lock();
        overtaken.unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection got no reply while others did: nothing was sent on it, and the relay is well.
    fn dead_connection(&self) -> RelayError {
        RelayError {
            left: BUSY_PAUSE,
            ..self.trouble(Trouble::NotNow {
                step: "waiting for a reply",
                words: "other connections get theirs, so this one was given up".to_owned(),
            })
        }
    }

    async fn open(
        &self,
        letter: &Letter,
        addressee: Addressee,
        request: RequestNumber,
    ) -> Result<Dialogue, RelayOpenError> {
        loop {
            let (mut dialogue, is_kept) = match self.inner.pool.take().await {
                Some(kept) => (kept, true),
                None => match self.connect(request).await {
                    Ok(new) => (new, false),
                    Err(failure) if self.is_full(&failure) => {
                        let another = tokio::time::timeout(PATIENCE, self.inner.pool.another());
                        match another.await {
                            Ok(Some(another)) => (another, true),
                            // Those that were there have gone.
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
            if !dialogue::is_ascii(&letter.envelope) && !dialogue.takes_utf8() {
                self.inner.pool.keep(dialogue);
                return Err(no_utf8());
            }
            let failure = match dialogue.announce(letter, is_kept).await {
                Ok(()) => {
                    self.got_as_far_as(DialogueStep::Data);
                    return Ok(dialogue);
                }
                Err(failure) => failure,
            };
            let is_dead = failure.is_about_the_connection()
                // A relay may take long over a mail, but a connection that died shows nothing else.
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

impl Failure {
    /// Whether a reply ends the connection, or puts it off, before a mail: 421, or 4yz, which every other connection is told
    /// as well. What asks for a slower pace is the brake's.
    fn turns_away(&self, reply: &Reply) -> bool {
        let verdict = judge(self.step, reply);
        !self.step.is_of_a_mail() && matches!(verdict, ReplyVerdict::Closing | ReplyVerdict::NotNow)
    }

    /// Whether the relay does not take the user name and password.
    fn refuses_the_login(&self) -> bool {
        let refuses = |reply| judge(self.step, reply) == ReplyVerdict::Login;
        self.step == DialogueStep::Auth
            && matches!(&self.cause, Cause::Said(reply) if refuses(reply))
    }

    /// How a mail is refused, if that is for a reason about us, or the relay is not well: it closes, or puts off what is not
    /// about the mailbox.
    fn refuses_a_mail(&self) -> Option<FailureKind> {
        let Cause::Said(reply) = &self.cause else {
            return None;
        };
        let kind = match judge(self.step, reply) {
            ReplyVerdict::Refuses | ReplyVerdict::Login => FailureKind::Refused,
            ReplyVerdict::Closing | ReplyVerdict::NotNow => FailureKind::ServerError,
            _ => return None,
        };
        self.step.is_of_a_mail().then_some(kind)
    }

    /// Whether another connection may serve.
    fn is_about_the_connection(&self) -> bool {
        match &self.cause {
            Cause::Said(reply) => judge(self.step, reply) == ReplyVerdict::Closing,
            Cause::Unasked(_) | Cause::Wire(_) => true,
            // It has taken long enough.
            Cause::Late | Cause::Lacks(_) => false,
        }
    }
}

impl Relay {
    /// What a "no" before the text means; its connection is kept if it goes on in good order.
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
        if verdict.leaves_the_connection_usable() && dialogue.reset().await {
            self.inner.pool.keep(dialogue);
        }
        match verdict {
            ReplyVerdict::Never => RelayOpenError::Never { code, words },
            ReplyVerdict::Later(kind) => RelayOpenError::Later { kind, code, words },
            ReplyVerdict::NotNow
            | ReplyVerdict::Closing
            | ReplyVerdict::Refuses
            | ReplyVerdict::Login
                if is_about_somebody(failure.step) =>
            {
                RelayOpenError::Unclear { code, words, error }
            }
            _ => RelayOpenError::Relay(error),
        }
    }
}

/// Whether the relay knows by now for whom the mail is.
const fn is_about_somebody(step: DialogueStep) -> bool {
    matches!(step, DialogueStep::Rcpt | DialogueStep::Data)
}

fn no_utf8() -> RelayOpenError {
    RelayOpenError::Never {
        code: 553,
        words: "the address is not ASCII, and the relay does not offer SMTPUTF8".to_owned(),
    }
}
