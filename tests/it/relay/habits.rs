//! A relay with some sixty bad habits, one row each: what becomes of three mails, what the ledger says, and whether the
//! connection is used again.

use std::sync::Arc;

use futures_util::StreamExt;
use handout::audit::note::SigningKey;
use handout::audit::record::Pseudonyms;
use handout::audit::{AuditLog, AuditSettings, Issued};
use handout::clock;
use handout::config::{MailConfig, SmtpConfig, Tls};
use handout::deliver::smtp::Trouble;
use handout::deliver::{
    DeliverError, DeliveryAttempt, DeliveryLedger, DeliveryResult, KnownOutcomes, Letter, Mailer,
    Relays, RetryWindow, deliver,
};
use handout::environment::Environment;
use handout::error::JobError;
use handout::job::{JobId, OnDoubt, Recipient, RelayName};
use handout::keyring::Keyring;
use handout::ledger::lease::Owner;
use handout::ledger::memory::MemoryLedger;
use handout::ledger::{JobRecords, Kind, Ledger, Outcome};
use handout::progress::Progress;
use handout::quantity::Span;
use lettre::address::Envelope;

use crate::support::bad_relay::{BadRelay, Habit, OFFERS, Rule};

/// Larger than what two sockets keep for each other: a text that nobody reads is felt.
const BIG: usize = 8 << 20;

/// How many rows are played at once: each has its deadlines, which a busy machine must not use up.
const AT_ONCE: usize = 12;

/// One bad habit and what must come of it.
struct Row {
    habit: &'static str,
    rules: Vec<Rule>,
    tls: Tls,
    logs_in: bool,
    text_bytes: usize,
    /// What becomes of the mails to Ann, Bo and Cy, one after the other.
    turns: &'static str,
    /// What the ledger says of them; `-` for nothing.
    ledger: &'static str,
    /// How many connections are made. One: the first is used again.
    connections: usize,
}

impl Row {
    fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    fn logs_in(mut self) -> Self {
        self.logs_in = true;
        self
    }

    fn big(mut self) -> Self {
        self.text_bytes = BIG;
        self
    }

    fn and(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }
}

fn row(
    habit: &'static str,
    rule: Rule,
    turns: &'static str,
    ledger: &'static str,
    connections: usize,
) -> Row {
    Row {
        habit,
        rules: vec![rule],
        tls: Tls::None,
        logs_in: false,
        text_bytes: 1000,
        turns,
        ledger,
        connections,
    }
}

fn rule(step: &'static str, at: usize, habit: Habit) -> Rule {
    Rule { step, at, habit }
}

fn say(step: &'static str, at: usize, text: &str) -> Rule {
    rule(step, at, Habit::Say(text.to_owned()))
}

fn say_and_close(step: &'static str, at: usize, text: &str) -> Rule {
    rule(step, at, Habit::SayAndClose(text.to_owned()))
}

fn close(step: &'static str, at: usize) -> Rule {
    rule(step, at, Habit::Close)
}

fn stall(step: &'static str, at: usize) -> Rule {
    rule(step, at, Habit::SayAndStall(String::new()))
}

const HELO_REFUSED: &str = "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname";
const DAILY_LIMIT: &str = "550 5.4.5 Daily user sending limit exceeded";

const ALL: &str = "accepted accepted accepted";
const ANN_WAITS: &str = "- accepted accepted";
const BO_WAITS: &str = "accepted - accepted";

/// Before any mail: whatever goes wrong is the relay's, and nothing is marked. A table reads as one, so rustfmt leaves it alone.
#[rustfmt::skip]
fn at_the_door() -> Vec<Row> {
    let long_line = format!("220 {}", "x".repeat(5000));
    let endless = "250-more\r\n".repeat(20_000);
    vec![
        row("none", say("OTHER", 1, ""), ALL, ALL, 1),
        row("closing", say_and_close("CONNECT", 1, "421 4.3.2 closing"), "not-now accepted accepted", ANN_WAITS, 2),
        row("554 for a greeting", say("CONNECT", 1, "554 go away"), "refuses accepted accepted", ANN_WAITS, 2),
        row("no greeting", stall("CONNECT", 1), "unreachable accepted accepted", ANN_WAITS, 2),
        row("hangs up", close("CONNECT", 1), "unreachable accepted accepted", ANN_WAITS, 2),
        row("speaks HTTP", say("CONNECT", 1, "HTTP/1.1 400 Bad Request"), "unreachable accepted accepted", ANN_WAITS, 2),
        row("greets without end", say("CONNECT", 1, &long_line), "unreachable accepted accepted", ANN_WAITS, 2),
        row("greets in many lines", say("CONNECT", 1, "220-hello\r\n220-\r\n220 there"), ALL, ALL, 1),
        row("502 to EHLO", say("EHLO", 1, "502 5.5.1 what"), "refuses accepted accepted", ANN_WAITS, 2),
        row("421 to EHLO", say_and_close("EHLO", 1, "421 bye"), "not-now accepted accepted", ANN_WAITS, 2),
        row("no answer to EHLO", stall("EHLO", 1), "unreachable accepted accepted", ANN_WAITS, 2),
        row("offers without end", say("EHLO", 1, &endless), "unreachable accepted accepted", ANN_WAITS, 2),
        row("two codes in one", say("EHLO", 1, "250-a\r\n251 b"), "unreachable accepted accepted", ANN_WAITS, 2),
        row("a code alone", say("EHLO", 1, "250"), ALL, ALL, 1),
        row("bare line ends", say("EHLO", 1, "250-a\n250 b"), ALL, ALL, 1),
        row("no STARTTLS", say("EHLO", 0, "250 bad.example"), "insecure insecure insecure", "- - -", 1).tls(Tls::Starttls),
        row("STARTTLS refused", say("STARTTLS", 0, "502 5.5.1 no"), "insecure insecure insecure", "- - -", 1).tls(Tls::Starttls),
        row("STARTTLS later", say("STARTTLS", 0, "454 4.7.0 TLS not available"), "not-now not-now not-now", "- - -", 2).tls(Tls::Starttls),
        row("no TLS after STARTTLS", say("STARTTLS", 0, "220 ready\r\n250 injected"), "unreachable unreachable unreachable", "- - -", 2).tls(Tls::Starttls),
        row("closes at STARTTLS", close("STARTTLS", 0), "unreachable unreachable unreachable", "- - -", 2).tls(Tls::Starttls),
        row("no answer to STARTTLS", stall("STARTTLS", 0), "unreachable unreachable unreachable", "- - -", 2).tls(Tls::Starttls),
        row("AUTH refused", say("AUTH", 0, "535 5.7.8 wrong"), "login login login", "- - -", 1).logs_in(),
        row("no AUTH", say("EHLO", 0, "250 bad.example"), "login login login", "- - -", 1).logs_in(),
        row("an AUTH that we do not speak", say("EHLO", 0, "250-bad.example\r\n250 AUTH GSSAPI"), "login login login", "- - -", 1).logs_in(),
        row("AUTH later", say("AUTH", 1, "432 4.7.12 later"), "not-now accepted accepted", ANN_WAITS, 2).logs_in(),
        row("no answer to AUTH", stall("AUTH", 1), "unreachable accepted accepted", ANN_WAITS, 2).logs_in(),
        row("AUTH works", say("EHLO", 1, OFFERS), ALL, ALL, 1).logs_in(),
    ]
}

/// About Bo's mail, which is the second on its connection, before its text.
#[rustfmt::skip]
fn before_the_text() -> Vec<Row> {
    vec![
        row("451 to MAIL", say("MAIL", 2, "451 4.3.0 later"), "accepted not-now accepted", BO_WAITS, 1),
        row("451 to two MAILs in a row", say("MAIL", 1, "451 4.3.0 later"), "not-now not-now accepted", "- - accepted", 2).and(say("MAIL", 2, "451 4.3.0 later")),
        row("451 to each second MAIL", say("MAIL", 1, "451 4.3.0 later"), "not-now accepted not-now", "- accepted -", 1).and(say("MAIL", 3, "451 4.3.0 later")),
        row("greylisting of two in a row", say("RCPT", 1, "451 4.7.1 come back later"), "later later accepted", "- - accepted", 2).and(say("RCPT", 2, "451 4.7.1 come back later")),
        row("550 to MAIL", say("MAIL", 2, "550 5.7.60 not you"), "accepted refuses accepted", BO_WAITS, 2),
        row("no answer to MAIL", stall("MAIL", 2), ALL, ALL, 2),
        row("closes at MAIL", close("MAIL", 2), ALL, ALL, 2),
        row("421 to MAIL", say_and_close("MAIL", 2, "421 4.4.2 idle"), ALL, ALL, 2),
        row("421 while nobody asks", rule("DOT", 1, Habit::KeepSayAndClose("250 ok\r\n421 4.4.2 idle".to_owned())), ALL, ALL, 2),
        row("garbage to MAIL", say("MAIL", 2, "what?"), ALL, ALL, 2),
        row("two answers to MAIL", say("MAIL", 2, "250 ok\r\n250 ok"), ALL, ALL, 2),
        row("550 to RCPT", say("RCPT", 2, "550 5.1.1 <bo@acme.example>: no such user"), "accepted rejected accepted", "accepted rejected accepted", 1),
        row("550 to RCPT, and RSET refused", say("RCPT", 2, "550 5.1.1 no such user"), "accepted rejected accepted", "accepted rejected accepted", 2).and(say("RSET", 1, "502 no")),
        row("550 to RCPT, and RSET closes", say("RCPT", 2, "550 5.1.1 no such user"), "accepted rejected accepted", "accepted rejected accepted", 2).and(close("RSET", 1)),
        row("greylisting", say("RCPT", 2, "451 4.7.1 come back later"), "accepted later accepted", BO_WAITS, 1),
        row("mailbox full", say("RCPT", 2, "452 4.2.2 full"), "accepted later accepted", BO_WAITS, 1),
        row("disk full", say("RCPT", 2, "452 4.3.1 full"), "accepted not-now accepted", BO_WAITS, 1),
        row("454 to RCPT", say("RCPT", 2, "454 4.7.0 Throttling failure"), "accepted not-now accepted", BO_WAITS, 1),
        row("454 about one recipient", say("RCPT", 2, "454 4.7.1 access denied"), "accepted later accepted", BO_WAITS, 1),
        row("530 to RCPT", say("RCPT", 2, "530 5.7.0 log in"), "accepted login accepted", BO_WAITS, 2),
        row("251 to RCPT", say("RCPT", 2, "251 will forward"), ALL, ALL, 1),
        row("no answer to RCPT", stall("RCPT", 2), "accepted unreachable accepted", BO_WAITS, 2),
        row("closes at RCPT", close("RCPT", 2), ALL, ALL, 2),
        row("421 to RCPT", say_and_close("RCPT", 2, "421 bye"), ALL, ALL, 2),
        row("two answers to RCPT", say("RCPT", 2, "250 ok\r\n250 ok"), ALL, ALL, 2),
        row("554 to DATA, which may be about us", say("DATA", 2, "554 5.7.1 policy"), "accepted later accepted", BO_WAITS, 2),
        row("554 to DATA about the message", say("DATA", 2, "554 5.6.0 header"), "accepted rejected accepted", "accepted rejected accepted", 1),
        row("550 to RCPT, which may be about us", say("RCPT", 2, "550 no"), "accepted later accepted", BO_WAITS, 2),
        row("EHLO refused at RCPT", say("RCPT", 2, HELO_REFUSED), "accepted refuses accepted", BO_WAITS, 2),
        row("EHLO refused at RCPT, for a while", say("RCPT", 2, "450 4.7.1 <vm>: Helo command rejected: Host not found"), "accepted refuses accepted", BO_WAITS, 2),
        row("EHLO refused at each RCPT", say("RCPT", 0, HELO_REFUSED), "refuses refuses refuses", "- - -", 2),
        row("relaying refused", say("RCPT", 2, "554 5.7.1 <bo@acme.example>: Relay access denied"), "accepted refuses accepted", BO_WAITS, 2),
        row("sender refused at DATA", say("DATA", 2, "553 5.7.1 <r@s.example>: Sender address rejected: not owned by user r"), "accepted refuses accepted", BO_WAITS, 2),
        row("a daily limit at RCPT", say("RCPT", 2, DAILY_LIMIT), "accepted paused paused", "accepted - -", 1),
        row("too many an hour at MAIL", say("MAIL", 2, "550 the max emails per hour is exceeded"), "accepted paused paused", "accepted - -", 1),
        row("451 to DATA", say("DATA", 2, "451 4.7.1 later"), "accepted later accepted", BO_WAITS, 1),
        row("250 for a 354", say("DATA", 2, "250 ok"), "accepted unreachable accepted", BO_WAITS, 2),
        row("354 in many lines", say("DATA", 2, "354-go\r\n354 on"), ALL, ALL, 1),
        row("no answer to DATA", stall("DATA", 2), "accepted unreachable accepted", BO_WAITS, 2),
        row("closes at DATA", close("DATA", 2), ALL, ALL, 2),
    ]
}

/// About Bo's text. Only a dot that was sent and not answered is a doubt.
#[rustfmt::skip]
fn after_the_go_ahead() -> Vec<Row> {
    let keep = |text: &str| Habit::KeepAndSay(text.to_owned());
    let stalls = |text: &str| rule("TEXT", 2, Habit::SayAndStall(text.to_owned()));
    vec![
        row("250 before the dot", say("DATA", 2, "354 go on\r\n250 kept already"), "accepted not-now accepted", "accepted not_sent accepted", 2).big(),
        row("closes in the text", close("TEXT", 2), "accepted not-now accepted", "accepted not_sent accepted", 2).big(),
        row("reads no text", stalls(""), "accepted not-now accepted", "accepted not_sent accepted", 2).big(),
        row("552 in the text", stalls("552 5.3.4 too big"), "accepted rejected accepted", "accepted rejected accepted", 2).big(),
        row("452 in the text", stalls("452 4.3.1 full"), "accepted not-now accepted", "accepted not_sent accepted", 2).big(),
        row("554 to the dot, which may be about us", say("DOT", 2, "554 5.7.1 policy"), "accepted later accepted", "accepted not_sent accepted", 2),
        row("sender refused at the dot", say("DOT", 2, "554 Message rejected: Email address is not verified."), "accepted refuses accepted", "accepted not_sent accepted", 2),
        row("sender refused at each dot", say("DOT", 0, "550 5.7.60 SMTP; Client does not have permissions to send as this sender"), "refuses refuses refuses", "not_sent not_sent -", 2),
        row("a login wanted at the dot", say("DOT", 2, "550 5.7.1 Authentication required"), "accepted login accepted", "accepted not_sent accepted", 2),
        row("a daily limit at the dot", say("DOT", 2, DAILY_LIMIT), "accepted paused paused", "accepted not_sent -", 1),
        row("a daily limit in the text", stalls(DAILY_LIMIT), "accepted paused paused", "accepted not_sent -", 1).big(),
        row("554 to the dot", say("DOT", 2, "554 5.7.1 spam"), "accepted rejected accepted", "accepted rejected accepted", 1),
        row("451 to the dot", say("DOT", 2, "451 4.7.1 later"), "accepted later accepted", "accepted not_sent accepted", 1),
        row("454 to the dot", say("DOT", 2, "454 Throttling failure: Maximum sending rate exceeded."), "accepted not-now accepted", "accepted not_sent accepted", 1),
        row("quota spent", say("DOT", 2, "454 Throttling failure: Daily message quota exceeded."), "accepted paused paused", "accepted not_sent -", 1),
        row("421 to the dot", say_and_close("DOT", 2, "421 4.3.2 closing"), "accepted not-now accepted", "accepted not_sent accepted", 2),
        row("no answer to the dot", stall("DOT", 2), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("closes at the dot", close("DOT", 2), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("250 lost", rule("DOT", 2, Habit::KeepAndClose), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("354 to the dot", say("DOT", 2, "354 go on"), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("251 to the dot", say("DOT", 2, "251 hm"), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("garbage to the dot", say("DOT", 2, "\u{1}\u{2}"), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("half an answer to the dot", say_and_close("DOT", 2, "250-kept"), "accepted unreachable accepted", "accepted unknown accepted", 2),
        row("two answers to the dot", rule("DOT", 2, keep("250 ok\r\n250 ok")), ALL, ALL, 2),
        row("250 in many lines", rule("DOT", 2, keep("250-2.0.0 kept\r\n250 really")), ALL, ALL, 1),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_with_bad_habits_loses_nothing_and_doubles_nothing() {
    let rows: Vec<Row> = [at_the_door(), before_the_text(), after_the_go_ahead()]
        .into_iter()
        .flatten()
        .collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    let playing = futures_util::stream::iter(rows.iter().map(play)).buffered(AT_ONCE);
    let seen: Vec<String> = playing.collect().await;
    let wrong: Vec<String> = rows
        .iter()
        .zip(seen)
        .filter(|(row, seen)| {
            let Row {
                turns,
                ledger,
                connections,
                ..
            } = row;
            *seen != format!("{turns} | {ledger} | {connections}")
        })
        .map(|(row, seen)| {
            let Row {
                habit,
                turns,
                ledger,
                connections,
                ..
            } = row;
            format!("{habit}:\n  wanted {turns} | {ledger} | {connections}\n  seen   {seen}")
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// When the job's patience is over, a reply that may be about us is taken for the recipient's, and a refusal of us where the
/// relay took the mails of others meanwhile.
#[tokio::test]
async fn a_reply_in_doubt_ends_with_the_patience_of_its_job_and_a_refusal_when_others_are_taken() {
    let people =
        ["ann", "bo"].map(|name| Recipient::parse(&format!("{name}@acme.example")).unwrap());
    for (reply, others_are_taken, wanted) in [
        ("550 no", false, "later later rejected"),
        ("550 no", true, "later later rejected"),
        (HELO_REFUSED, true, "refuses refuses rejected"),
        (HELO_REFUSED, false, "refuses refuses refuses"),
    ] {
        // Ann's mails come between Bo's, who is refused.
        let at = |others| if others { [1, 3, 5] } else { [1, 2, 3] };
        let rules = at(others_are_taken).map(|at| say("RCPT", at, reply));
        let row = row(reply, say("OTHER", 1, ""), "", "", 0);
        let server = BadRelay::start(rules.to_vec()).await;
        let dir = tempfile::tempdir().unwrap();
        let mailer = mailer(&row, server.port, dir.path());
        let (recording, ledger, _writer) = recording(dir.path());
        let mut seen = Vec::new();
        for round in 0..3 {
            let job: JobId = "daily".parse().unwrap();
            let turn = send(&job, &people[1], 10, RetryWindow::Over, &mailer, &recording).await;
            seen.push(word(&turn));
            if others_are_taken {
                let other: JobId = format!("other-{round}").parse().unwrap();
                let turn = send(
                    &other,
                    &people[0],
                    10,
                    RetryWindow::Left,
                    &mailer,
                    &recording,
                )
                .await;
                assert_eq!(word(&turn), "accepted");
            }
        }
        assert_eq!(seen.join(" "), wanted, "{reply}, {others_are_taken}");
        let records = ledger.records(&"daily".parse().unwrap()).await.unwrap();
        let outcome = records.iter().find(|record| record.kind == Kind::Outcome);
        let words = outcome.map(|outcome| outcome.body["words"].as_str().unwrap().to_owned());
        let is_given_up = words.is_some_and(|words| {
            words.contains("retries exhausted") && words.contains(" no") | words.contains("Helo")
        });
        assert_eq!(is_given_up, wanted.ends_with("rejected"), "{reply}");
    }
}

/// Sends three mails through a relay with a habit, and says what came of them.
async fn play(row: &Row) -> String {
    let server = BadRelay::start(row.rules.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mailer = mailer(row, server.port, dir.path());
    let (recording, ledger, _writer) = recording(dir.path());
    let job: JobId = "job".parse().unwrap();
    let (mut turns, mut said) = (Vec::new(), Vec::new());
    for name in ["ann", "bo", "cy"] {
        let recipient = Recipient::parse(&format!("{name}@acme.example")).unwrap();
        let text_bytes = if name == "bo" { row.text_bytes } else { 1000 };
        let patience = RetryWindow::Left;
        let turn = send(&job, &recipient, text_bytes, patience, &mailer, &recording).await;
        turns.push(word(&turn));
        let job_records = JobRecords::new(ledger.records(&job).await.unwrap());
        let records = job_records.of(&recording.rid(&recipient));
        let outcome = records.iter().find(|record| record.kind == Kind::Outcome);
        said.push(match outcome {
            Some(outcome) => outcome.body["outcome"].as_str().unwrap().to_owned(),
            None => "-".to_owned(),
        });
        let kept = server
            .kept()
            .iter()
            .filter(|to| to.starts_with(name))
            .count();
        assert!(kept <= 1, "{}: {name} has {kept}", row.habit);
        let accepted = said.last().unwrap() == "accepted";
        assert!(kept == 1 || !accepted, "{}: {name} was not kept", row.habit);
    }
    format!(
        "{} | {} | {}",
        turns.join(" "),
        said.join(" "),
        server.connections()
    )
}

async fn send(
    job: &JobId,
    recipient: &Recipient,
    text_bytes: usize,
    patience: RetryWindow,
    mailer: &Mailer,
    recording: &DeliveryLedger,
) -> Result<DeliveryResult, JobError> {
    let from = "reports@sender.example".parse().unwrap();
    let line = format!("{}\r\n", "x".repeat(70));
    let letter = Letter {
        envelope: Envelope::new(Some(from), vec![recipient.address.clone()]).unwrap(),
        secrets: handout::redact::Secrets::of_recipient(
            &recipient.address,
            recipient.name.as_deref(),
        ),
        message_id: format!("<1@{}>", recipient.address),
        bytes: format!("Subject: x\r\n\r\n{}", line.repeat(text_bytes / line.len())).into_bytes(),
        summary: handout::deliver::MailSummary {
            to: recipient.address.clone(),
            subject: String::new(),
            html: String::new(),
        },
    };
    let delivery = DeliveryAttempt {
        job,
        recipient,
        n: 0,
        on_doubt: OnDoubt::Resend,
        patience,
    };
    let way = mailer.turn(&RelayName::default(), job, recipient).await?;
    deliver(&letter, &delivery, way, mailer, recording, || {
        Ok(handout::cancellation::Cancellation::default().commit()?)
    })
    .await
}

fn word(turn: &Result<DeliveryResult, JobError>) -> &'static str {
    match turn {
        Ok(turn) => match turn.outcome() {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Rejected { .. } => "rejected",
            Outcome::NotSent { .. } | Outcome::Unknown { .. } | Outcome::Suppressed { .. } => {
                "no-end"
            }
        },
        Err(JobError::Deliver(DeliverError::Later { .. })) => "later",
        Err(JobError::Deliver(DeliverError::Relay(error))) => match error.trouble {
            Trouble::Unreachable { .. } => "unreachable",
            Trouble::Insecure { .. } => "insecure",
            Trouble::NoLogin { .. } => "no login",
            Trouble::Login { .. } => "login",
            Trouble::Refuses { .. } => "refuses",
            Trouble::NotNow { .. } => "not-now",
            Trouble::Overtaken { .. } => "overtaken",
            Trouble::Paused { .. } => "paused",
        },
        Err(_) => "failed",
    }
}

fn mailer(row: &Row, port: u16, dir: &std::path::Path) -> Mailer {
    let mut smtp = SmtpConfig {
        host: "127.0.0.1".to_owned(),
        port,
        tls: row.tls,
        ..SmtpConfig::default()
    };
    if row.logs_in {
        let password = dir.join("password");
        std::fs::write(&password, "correct horse\n").unwrap();
        (smtp.username, smtp.password_file) = (Some("handout".to_owned()), Some(password));
    }
    let short = Span::seconds(2);
    let deadlines = &mut smtp.deadlines;
    for deadline in [
        &mut deadlines.connect,
        &mut deadlines.greeting,
        &mut deadlines.ehlo,
        &mut deadlines.starttls,
        &mut deadlines.auth,
        &mut deadlines.mail,
        &mut deadlines.rcpt,
        &mut deadlines.data,
        &mut deadlines.piece,
        &mut deadlines.dot,
    ] {
        *deadline = short;
    }
    let mail = MailConfig {
        smtp,
        ..MailConfig::default()
    };
    let progress = Progress::default();
    let environment = Environment::default();
    Mailer::Smtp(Relays::new(&mail, &environment, &progress, clock::system).unwrap())
}

fn recording(
    dir: &std::path::Path,
) -> (
    DeliveryLedger,
    Arc<MemoryLedger>,
    handout::audit::log::Writer,
) {
    let settings = AuditSettings::new(dir.join("audit"), SigningKey::from_seed(&[1; 32]));
    let (audit, writer) = AuditLog::open(&settings, "test", clock::system).unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let recording = DeliveryLedger {
        ledger: Arc::<MemoryLedger>::clone(&ledger),
        audit,
        issued: Issued::default(),
        names: Pseudonyms::new(&Keyring::new([1; 32]), false),
        resolver: None,
        known: KnownOutcomes::default(),
        owner: Owner::new(),
        progress: Progress::default(),
        clock: clock::system,
        rehearsed_to: None,
        rehearsed: None,
    };
    (recording, ledger, writer)
}
