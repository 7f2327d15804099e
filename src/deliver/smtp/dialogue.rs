//! The dialogue with a relay, verb by verb: RFC 5321 and its extensions for TLS (3207), logins (4954) and UTF-8 (6531).
//!
//! Each verb has a deadline. A dialogue that failed is over and its owner drops it. The exception is a negative reply
//! in good order, after which [`Dialogue::reset`] begins anew.
//!
//! A connection that is dropped between two commands ends with QUIT (RFC 5321, section 4.1.1.10), whatever ended it. Its
//! reply is not waited for: no mail depends on it, and a relay that is silent must not delay the next mail.

mod auth;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use lettre::address::Envelope;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::hello::Hello;
use super::login::Login;
use super::pool::Counted;
use super::reply::Reply;
use super::wire::{Trust, Wire, WireError};
use crate::config::{Deadlines, SmtpConfig, Tls};
use crate::edge::health::{self, Edge, RequestNumber};
use crate::edge::names::{self, AddressTurn};
use crate::failpoint::{self, Failpoint};
use crate::redact::Secrets;

/// For each of the relay's addresses: an address that drops packets must not use up the time of the next.
const CONNECT_EACH: Duration = Duration::from_secs(10);

/// A kept connection must answer within this, or another is opened.
const STILL_THERE: Duration = Duration::from_secs(10);

/// How long to wait for the reason of a relay that interrupted a text.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of a text is sent under one deadline, in bytes.
const PIECE: usize = 32 * 1024;

/// A step of the dialogue, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DialogueStep {
    Connect,
    Greeting,
    Ehlo,
    Starttls,
    Auth,
    Noop,
    Rset,
    Mail,
    Rcpt,
    Data,
    /// The mail's text, before its end.
    Text,
    /// The `.` line that ends the text: end of DATA.
    Dot,
}

impl DialogueStep {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Starttls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Noop => "NOOP",
            Self::Rset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Text => "in the mail's text",
            Self::Dot => "after the mail's text",
        }
    }

    /// The same step in the terms of the relay's edge. The check of a kept connection comes after the login.
    pub(super) const fn at_edge(self) -> health::Step {
        let rank = match self {
            Self::Connect => 0,
            Self::Greeting => 1,
            Self::Ehlo => 2,
            Self::Starttls => 3,
            // 4 and 5 are `HANDSHAKE` and `EHLO_OVER_TLS`; a login has up to three replies.
            Self::Auth => 6,
            Self::Noop | Self::Rset => 9,
            Self::Mail => 10,
            Self::Rcpt => 11,
            Self::Data => 12,
            Self::Text => 13,
            Self::Dot => 14,
        };
        health::Step {
            rank,
            name: self.as_str(),
        }
    }

    /// Whether the step comes after the handshake, on a connection that is ready for a mail.
    pub(super) const fn is_of_a_mail(self) -> bool {
        matches!(
            self,
            Self::Mail | Self::Rcpt | Self::Data | Self::Text | Self::Dot
        )
    }
}

/// The end of STARTTLS, and the greeting that follows, in the terms of the relay's edge. The relay has replied to
/// STARTTLS and to an EHLO before: such replies on other connections do not show that it gets further.
const HANDSHAKE: health::Step = health::Step {
    rank: 4,
    name: "the TLS handshake",
};
const EHLO_OVER_TLS: health::Step = health::Step {
    rank: 5,
    name: "EHLO",
};

impl fmt::Display for DialogueStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: DialogueStep,
    pub(super) cause: Cause,
    /// When the step began.
    pub(super) began: Instant,
}

impl Failure {
    /// Whether another address of the relay may do better: it failed before the login.
    const fn is_of_address(&self) -> bool {
        matches!(
            self.step,
            DialogueStep::Connect
                | DialogueStep::Greeting
                | DialogueStep::Ehlo
                | DialogueStep::Starttls
        )
    }

    pub(super) fn now(step: DialogueStep, cause: Cause) -> Self {
        Self {
            step,
            cause,
            began: Instant::now(),
        }
    }

    /// What happened, in words that may be logged.
    pub(super) fn words(&self) -> String {
        match &self.cause {
            Cause::Said(reply) if self.step == DialogueStep::Auth => reply.numbers(),
            Cause::Unasked(Some(reply)) if self.step == DialogueStep::Auth => {
                format!("unsolicited reply: {}", reply.numbers())
            }
            cause => cause.words(),
        }
    }
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Cause {
    /// The relay sent another reply than the expected one.
    Said(Reply),
    /// The relay sent something before a command.
    Unasked(Option<Reply>),
    /// The relay did not reply in time.
    Late,
    /// The connection failed.
    Wire(WireError),
    /// The relay does not offer a required extension.
    Lacks(Cow<'static, str>),
    /// There is no login for the relay. It was not asked.
    NoLogin(String),
}

impl Cause {
    /// What happened, in words that may be logged.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Said(reply) => reply.words(),
            Self::Unasked(Some(reply)) => format!("unsolicited reply: {}", reply.words()),
            Self::Unasked(None) => {
                "it sent an unsolicited reply, or closed the connection".to_owned()
            }
            Self::Late => "no answer in time".to_owned(),
            Self::Wire(error) => super::reply::clean(&crate::text::chain(error)),
            Self::Lacks(what) => format!("it does not offer {what}"),
            Self::NoLogin(words) => words.clone(),
        }
    }
}

type RelayReply<T> = Result<T, Failure>;

/// How a mail's text ended.
#[derive(Debug)]
pub(super) enum TextEnd {
    /// The relay replied to the end of DATA.
    Answered(Reply),
    /// The end of DATA was not sent, so the mail was not sent. The cause is the relay's reply, or what failed.
    NotSent(Cause),
    /// The end of DATA was sent, and no reply came.
    NoAnswer(Cause),
}

/// How many mails in a row may be deferred on a connection. One may be greylisted, or be for a full mailbox.
const DEFERRED_AT_MOST: u32 = 2;

/// A connection that speaks SMTP.
pub(super) struct Dialogue {
    wire: Wire,
    deadlines: Deadlines,
    /// The extensions that the relay offers, in capitals.
    offers: Vec<String>,
    /// Whether the relay waits for a command, so that QUIT may follow.
    awaits_command: bool,
    used_at: Instant,
    /// How many mails in a row the relay deferred on this connection.
    deferred: u32,
    /// Records at which step this waits, and each reply.
    edge: Edge,
    /// The request that uses the connection.
    request: RequestNumber,
    /// Counts it among the connections to its relay.
    counted: Option<Counted>,
}

impl fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialogue").finish_non_exhaustive()
    }
}

impl Dialogue {
    /// Connects, greets, secures the connection and logs in. After a failure before the login, the next connection begins with another
    /// address of the relay's name.
    pub(super) async fn begin(
        (config, addresses): (&SmtpConfig, &AddressTurn),
        trust: &Trust,
        login: Option<&Login>,
        hello: &Hello,
        at: (&Edge, RequestNumber),
    ) -> RelayReply<Self> {
        let mut turn = addresses.now();
        let begun = Self::begin_at((config, addresses, &mut turn), trust, login, hello, at);
        begun.await.inspect_err(|failure| {
            if failure.is_of_address() {
                addresses.pass_over(turn, 1);
            }
        })
    }

    async fn begin_at(
        (config, addresses, turn): (&SmtpConfig, &AddressTurn, &mut u64),
        trust: &Trust,
        login: Option<&Login>,
        hello: &Hello,
        (edge, request): (&Edge, RequestNumber),
    ) -> RelayReply<Self> {
        let deadlines = config.deadlines;
        let connecting = connect(config, addresses, turn);
        let mut wire = in_time(
            DialogueStep::Connect,
            deadlines.connect.as_duration(),
            connecting,
        )
        .await?;
        let hello = hello.said_from(wire.own_address());
        if config.tls == Tls::Implicit {
            let securing = wire.secure(trust);
            let deadline = deadlines.starttls.as_duration();
            in_time(DialogueStep::Connect, deadline, securing).await?;
        }
        edge.waits_at(request, DialogueStep::Greeting.at_edge());
        let greeting = in_time(
            DialogueStep::Greeting,
            deadlines.greeting.as_duration(),
            wire.reply(),
        );
        let greeting = greeting.await?;
        let mut dialogue = Self {
            wire,
            deadlines,
            offers: Vec::new(),
            awaits_command: awaits_command(greeting.code),
            used_at: Instant::now(),
            deferred: 0,
            edge: edge.clone(),
            request,
            counted: None,
        };
        hoped(DialogueStep::Greeting, greeting, &[220])?;
        dialogue.heard(DialogueStep::Greeting.at_edge());
        dialogue.hello(&hello, DialogueStep::Ehlo.at_edge()).await?;
        if config.tls == Tls::Starttls {
            dialogue.starttls(trust).await?;
            dialogue.hello(&hello, EHLO_OVER_TLS).await?;
        }
        if let Some(login) = login {
            dialogue.log_in(login).await?;
        }
        Ok(dialogue)
    }

    async fn ask(
        &mut self,
        step: DialogueStep,
        deadline: Duration,
        line: &str,
        wanted: &[u16],
    ) -> RelayReply<Reply> {
        let at = step.at_edge();
        self.ask_at((step, at), deadline, line, wanted).await
    }

    /// As [`Self::ask`], at a position in the dialogue that the verb alone does not identify.
    async fn ask_at(
        &mut self,
        (step, at): (DialogueStep, health::Step),
        deadline: Duration,
        line: &str,
        wanted: &[u16],
    ) -> RelayReply<Reply> {
        self.listen(step).await?;
        self.edge.waits_at(self.request, at);
        self.awaits_command = false;
        let exchange = async {
            self.wire.send(format!("{line}\r\n").as_bytes()).await?;
            self.wire.reply().await
        };
        let reply = in_time(step, deadline, exchange).await?;
        self.awaits_command = awaits_command(reply.code);
        self.heard(at);
        hoped(step, reply, wanted)
    }

    fn heard(&mut self, at: health::Step) {
        self.used_at = Instant::now();
        if let Some(since) = self.edge.waiting_since(self.request) {
            self.edge.answered_after(since.elapsed());
        }
        self.edge.replied(at);
    }

    /// The connection is counted from now on.
    pub(super) fn counts(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// The connection is used by another request from now on.
    pub(super) fn serves(&mut self, request: RequestNumber) {
        self.request = request;
    }

    /// Fails if the relay sent something before a command: the next reply would be taken for the reply to another
    /// command.
    async fn listen(&mut self, step: DialogueStep) -> RelayReply<()> {
        if self.wire.is_quiet() {
            return Ok(());
        }
        let said = timeout(LAST_WORDS, self.wire.reply()).await;
        let cause = Cause::Unasked(said.ok().and_then(Result::ok));
        Err(Failure::now(step, cause))
    }

    async fn hello(&mut self, hello: &str, at: health::Step) -> RelayReply<()> {
        let deadline = self.deadlines.ehlo.as_duration();
        let line = format!("EHLO {hello}");
        let asked = self.ask_at((DialogueStep::Ehlo, at), deadline, &line, &[250]);
        let reply = asked.await?;
        let offers = reply.lines.iter().skip(1);
        self.offers = offers.map(|offer| offer.to_ascii_uppercase()).collect();
        Ok(())
    }

    /// The words of each line that offers an extension. A relay may offer one on several lines, and with `=` for clients
    /// of the time before RFC 2554: `250-AUTH GSSAPI NTLM`, `250-AUTH=LOGIN`.
    fn offered(&self, extension: &str) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.offers.iter().filter_map(move |offer| {
            let mut words = offer.split([' ', '\t', '=']);
            let is_offered = words.next() == Some(extension);
            is_offered.then(|| words.filter(|word| !word.is_empty()))
        })
    }

    fn is_offered(&self, extension: &str) -> bool {
        self.offered(extension).next().is_some()
    }

    async fn starttls(&mut self, trust: &Trust) -> RelayReply<()> {
        let step = DialogueStep::Starttls;
        if !self.is_offered("STARTTLS") {
            let cause = Cause::Lacks("STARTTLS".into());
            return Err(Failure::now(step, cause));
        }
        let deadline = self.deadlines.starttls.as_duration();
        self.ask(step, deadline, "STARTTLS", &[220]).await?;
        self.edge.waits_at(self.request, HANDSHAKE);
        self.awaits_command = false;
        in_time(step, deadline, self.wire.secure(trust)).await?;
        self.awaits_command = true;
        // Extensions offered before the TLS handshake are not authenticated.
        self.offers.clear();
        self.heard(HANDSHAKE);
        Ok(())
    }

    /// Records that the relay took a mail on this connection.
    pub(super) fn took(&mut self) {
        self.deferred = 0;
    }

    /// Counts a mail that the relay deferred on this connection, and returns whether another mail may follow.
    ///
    /// A balancer of connections keeps each with its server. One that is ill would defer all further mails on it, while a new connection
    /// would be well. So after [`DEFERRED_AT_MOST`] in a row the connection is closed.
    pub(super) fn may_go_on_after_a_deferral(&mut self) -> bool {
        self.deferred += 1;
        self.deferred < DEFERRED_AT_MOST
    }

    /// How long ago the last reply of the relay came.
    pub(super) fn idle(&self) -> Duration {
        self.used_at.elapsed()
    }

    /// Whether the relay accepts addresses that are not ASCII.
    pub(super) fn takes_utf8(&self) -> bool {
        self.is_offered("SMTPUTF8")
    }

    /// Whether the relay still answers.
    pub(super) async fn is_there(&mut self) -> RelayReply<()> {
        let answer = self.ask(DialogueStep::Noop, STILL_THERE, "NOOP", &[250]);
        answer.await.map(drop)
    }

    /// Resets the relay's transaction after a rejected mail; whether the connection can take another.
    pub(super) async fn reset(&mut self) -> bool {
        let answer = self.ask(DialogueStep::Rset, STILL_THERE, "RSET", &[250]);
        answer.await.is_ok()
    }

    /// Begins a mail with the null reverse-path (RFC 5321, section 4.5.5) and resets it: a relay that greets may still
    /// be unable to accept a mail.
    pub(super) async fn begin_and_take_back(&mut self) -> RelayReply<()> {
        let deadline = self.deadlines.mail.as_duration();
        self.ask(DialogueStep::Mail, deadline, "MAIL FROM:<>", &[250])
            .await?;
        self.ask(DialogueStep::Rset, STILL_THERE, "RSET", &[250])
            .await?;
        Ok(())
    }

    /// Sends QUIT, and waits for the reply.
    pub(super) async fn quit(mut self) {
        let answer = self.ask(DialogueStep::Noop, STILL_THERE, "QUIT", &[221]);
        // The connection ends in either case.
        drop(answer.await);
    }

    /// Announces a mail to the relay, up to the 354 reply. On a kept connection the first command must be answered at
    /// once, or another connection is opened.
    pub(super) async fn announce(
        &mut self,
        envelope: &Envelope,
        secrets: &Secrets,
        is_kept: bool,
    ) -> RelayReply<()> {
        self.wire.secrets = secrets.clone();
        let Deadlines {
            mail, rcpt, data, ..
        } = self.deadlines;
        let mail = match is_kept {
            true => STILL_THERE.min(mail.as_duration()),
            false => mail.as_duration(),
        };
        let from = envelope.from().map(AsRef::<str>::as_ref);
        let utf8 = if is_ascii(envelope) { "" } else { " SMTPUTF8" };
        let line = format!("MAIL FROM:<{}>{utf8}", from.unwrap_or_default());
        self.ask(DialogueStep::Mail, mail, &line, &[250]).await?;
        for to in envelope.to() {
            let line = format!("RCPT TO:<{}>", AsRef::<str>::as_ref(to));
            // 251: the relay forwards the mail. 252: the relay cannot verify the address, and takes the mail.
            self.ask(
                DialogueStep::Rcpt,
                rcpt.as_duration(),
                &line,
                &[250, 251, 252],
            )
            .await?;
        }
        self.ask(DialogueStep::Data, data.as_duration(), "DATA", &[354])
            .await?;
        Ok(())
    }

    /// Sends a mail's text, and the end of DATA unless the relay has replied before it.
    pub(super) async fn text(&mut self, text: &[u8]) -> TextEnd {
        let text = dotted(text);
        self.edge
            .waits_at(self.request, DialogueStep::Text.at_edge());
        // A process can die between the halves; the failpoint is there.
        let (first, second) = text.split_at(text.len() / 2);
        for (half, is_last) in [(first, false), (second, true)] {
            for piece in half.chunks(PIECE) {
                if let Err(cause) = self.piece(piece).await {
                    return TextEnd::NotSent(cause);
                }
            }
            if !is_last {
                failpoint::pass(Failpoint::HalfSent);
            }
        }
        // From here on only the relay knows whether the mail was accepted.
        self.edge
            .waits_at(self.request, DialogueStep::Dot.at_edge());
        let deadline = self.deadlines.dot.as_duration();
        let exchange = async {
            self.wire.send(b".\r\n").await?;
            self.wire.reply().await
        };
        match in_time(DialogueStep::Dot, deadline, exchange).await {
            Ok(reply) => {
                self.awaits_command = awaits_command(reply.code);
                self.heard(DialogueStep::Dot.at_edge());
                TextEnd::Answered(reply)
            }
            Err(failure) => TextEnd::NoAnswer(failure.cause),
        }
    }

    /// Sends a chunk of the text; fails if the relay replies before the end.
    async fn piece(&mut self, piece: &[u8]) -> Result<(), Cause> {
        let deadline = self.deadlines.piece.as_duration();
        let sent = in_time(DialogueStep::Text, deadline, self.wire.send(piece)).await;
        if sent.is_ok() && self.wire.is_quiet() {
            self.edge.sent(self.request, DialogueStep::Text.at_edge());
            return Ok(());
        }
        let said = timeout(LAST_WORDS, self.wire.reply()).await;
        match (said, sent) {
            (Ok(Ok(reply)), _) => Err(Cause::Said(reply)),
            (_, Err(failure)) => Err(failure.cause),
            (Ok(Err(error)), Ok(())) => Err(Cause::Wire(error)),
            (Err(_), Ok(())) => Err(Cause::Unasked(None)),
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        if self.awaits_command && self.wire.is_quiet() {
            self.wire.send_last(b"QUIT\r\n");
        }
    }
}

/// Whether the relay waits for a command after a reply with this code. After 3yz it waits for something else; after 221
/// and 421 it closes the connection.
const fn awaits_command(code: u16) -> bool {
    !matches!(code, 221 | 300..400 | 421)
}

/// Tries the relay's addresses, beginning with the one whose turn it is. The next connection begins with the one that is found.
async fn connect(
    config: &SmtpConfig,
    addresses: &AddressTurn,
    turn: &mut u64,
) -> Result<Wire, WireError> {
    let mut last = None;
    let found = names::addresses(&config.host).await?;
    for (address, dead) in names::turned(found, *turn).into_iter().zip(0..) {
        match timeout(CONNECT_EACH, TcpStream::connect((address, config.port))).await {
            Ok(Ok(socket)) => {
                addresses.pass_over(*turn, dead);
                *turn = turn.wrapping_add(dead);
                return Ok(Wire::new(socket)?);
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(std::io::ErrorKind::TimedOut.into()),
        }
    }
    let refused = || std::io::ErrorKind::ConnectionRefused.into();
    Err(last.unwrap_or_else(refused).into())
}

async fn in_time<T>(
    step: DialogueStep,
    deadline: Duration,
    work: impl Future<Output = Result<T, WireError>>,
) -> RelayReply<T> {
    let began = Instant::now();
    let cause = match timeout(deadline, work).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => Cause::Wire(error),
        Err(_) => Cause::Late,
    };
    Err(Failure { step, cause, began })
}

fn hoped(step: DialogueStep, reply: Reply, wanted: &[u16]) -> RelayReply<Reply> {
    if wanted.contains(&reply.code) {
        return Ok(reply);
    }
    let cause = Cause::Said(reply);
    Err(Failure::now(step, cause))
}

/// Whether the envelope can be sent to a relay without SMTPUTF8 (RFC 6531).
pub(super) fn is_ascii(envelope: &Envelope) -> bool {
    envelope
        .from()
        .into_iter()
        .chain(envelope.to())
        .all(|address| AsRef::<str>::as_ref(address).is_ascii())
}

/// A text as it is sent: each line that begins with a dot gets another dot, and the text ends with a line end (RFC
/// 5321, section 4.5.2).
fn dotted(text: &[u8]) -> Vec<u8> {
    let mut dotted = Vec::with_capacity(text.len() + 64);
    let mut begins = true;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if begins && line.starts_with(b".") {
            dotted.push(b'.');
        }
        dotted.extend(line);
        begins = line.ends_with(b"\r\n");
    }
    if !begins {
        dotted.extend(b"\r\n");
    }
    dotted
}

#[cfg(test)]
mod tests;
