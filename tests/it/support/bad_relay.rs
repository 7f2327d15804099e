//! A misbehaving relay: it speaks SMTP correctly, except where its script says otherwise.
//!
//! Unlike aiosmtpd, it can send any bytes: a reply before the command, two replies, no reply, half a reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Longer than any timeout in a test.
const FOR_EVER: Duration = Duration::from_secs(30);

/// What the relay does at a step, instead of the regular behaviour.
#[derive(Debug, Clone)]
pub(crate) enum Habit {
    /// Sends this, and continues.
    Say(String),
    /// Sends this and closes the connection.
    SayAndClose(String),
    /// Sends this, and nothing more.
    SayAndStall(String),
    /// Closes the connection.
    Close,
    /// Accepts the mail, and closes the connection.
    KeepAndClose,
    /// Accepts the mail, sends this and continues.
    KeepAndSay(String),
    /// Accepts the mail, sends this and closes the connection.
    KeepSayAndClose(String),
}

/// A habit, and the step at which it applies.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// `CONNECT`, a verb, `RCPT SLOW` (to a domain that begins with `slow.`), `TEXT` (the first line of a text was read), `DOT`.
    pub(crate) step: &'static str,
    /// The number of the server's step of this name, from 1; 0 for every step.
    pub(crate) at: usize,
    /// The behaviour.
    pub(crate) habit: Habit,
}

/// The relay's extensions in the EHLO reply.
pub(crate) const OFFERS: &str = "250-bad.example\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS";

/// The server; it ends with its tasks when dropped.
pub(crate) struct BadRelay {
    /// Its port on loopback.
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
    rules: Rules,
    _tasks: JoinSet<()>,
}

type Rules = Arc<Mutex<Vec<Rule>>>;

/// The recorded input of the relay.
#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    steps: HashMap<&'static str, usize>,
    kept: Vec<String>,
    hellos: Vec<String>,
    logins: Vec<String>,
}

impl BadRelay {
    /// A relay with these habits.
    pub(crate) async fn start(rules: Vec<Rule>) -> Self {
        Self::with_room_for(usize::MAX, rules).await
    }

    /// A relay that accepts this many connections at once, and rejects others as Postfix does.
    pub(crate) async fn with_room_for(most: usize, rules: Vec<Rule>) -> Self {
        // A small receive buffer shows early that data is not read.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, rules) = (Arc::<Mutex<Seen>>::default(), Arc::new(Mutex::new(rules)));
        let mut tasks = JoinSet::new();
        let (all, shared) = (Arc::clone(&seen), Arc::clone(&rules));
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                all.lock().unwrap().connections += 1;
                while sessions.try_join_next().is_some() {}
                if sessions.len() >= most {
                    const FULL: &[u8] =
                        b"421 4.7.0 bad.example Error: too many connections from 127.0.0.1\r\n";
                    drop(socket.write_all(FULL).await);
                    continue;
                }
                let session = Session {
                    stream: BufReader::new(socket),
                    rules: Arc::clone(&shared),
                    seen: Arc::clone(&all),
                };
                sessions.spawn(session.run());
            }
        });
        Self {
            port,
            seen,
            rules,
            _tasks: tasks,
        }
    }

    /// Replaces its habits.
    pub(crate) fn becomes(&self, rules: Vec<Rule>) {
        *self.rules.lock().unwrap() = rules;
    }

    /// The number of connections that were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// The names of its clients in EHLO, in order.
    pub(crate) fn hellos(&self) -> Vec<String> {
        self.seen.lock().unwrap().hellos.clone()
    }

    /// The AUTH PLAIN responses, in order.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.seen.lock().unwrap().logins.clone()
    }

    /// The recipients of the accepted mails, in order.
    pub(crate) fn kept(&self) -> Vec<String> {
        self.seen.lock().unwrap().kept.clone()
    }
}

struct Session {
    stream: BufReader<TcpStream>,
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
}

/// The session is over.
struct Over;

impl Session {
    async fn run(mut self) {
        // The tests observe the end of a connection from the client's side.
        drop(self.talk().await);
    }

    async fn talk(&mut self) -> Result<(), Over> {
        self.step("CONNECT", "220 bad.example", "").await?;
        let mut to = String::new();
        loop {
            let line = self.line().await?;
            let verb = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let name = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    self.seen.lock().unwrap().hellos.push(name);
                    self.step("EHLO", OFFERS, "").await?
                }
                "STARTTLS" => self.step("STARTTLS", "220 ready", "").await?,
                "AUTH" => {
                    let said = line.rsplit(' ').next().unwrap_or_default().to_owned();
                    self.seen.lock().unwrap().logins.push(said);
                    self.step("AUTH", "235 welcome", "").await?
                }
                "MAIL" => self.step("MAIL", "250 ok", "").await?,
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    let step = match to.contains("@slow.") {
                        true => "RCPT SLOW",
                        false => "RCPT",
                    };
                    self.step(step, "250 ok", "").await?
                }
                "DATA" => {
                    let said = self.step("DATA", "354 go on", "").await?;
                    if said.starts_with("354") {
                        self.text(&to).await?;
                    }
                    said
                }
                "RSET" => self.step("RSET", "250 ok", "").await?,
                "NOOP" => self.step("NOOP", "250 ok", "").await?,
                "QUIT" => self.step("QUIT", "221 bye", "").await?,
                _ => self.step("OTHER", "500 what", "").await?,
            };
        }
    }

    async fn text(&mut self, to: &str) -> Result<(), Over> {
        let mut line = self.line().await?;
        self.step("TEXT", "", to).await?;
        while line != "." {
            line = self.line().await?;
        }
        if self.habit_at("DOT", false).is_none() {
            self.keep(to);
        }
        self.step("DOT", "250 2.0.0 kept", to).await?;
        Ok(())
    }

    async fn line(&mut self) -> Result<String, Over> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) | Err(_) => Err(Over),
            Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    fn keep(&self, to: &str) {
        self.seen.lock().unwrap().kept.push(to.to_owned());
    }

    /// The habit at this step; the step is counted if `counts`.
    fn habit_at(&self, step: &'static str, counts: bool) -> Option<Habit> {
        let mut seen = self.seen.lock().unwrap();
        let count = seen.steps.entry(step).or_default();
        let now = *count + 1;
        *count += usize::from(counts);
        let applies = |rule: &&Rule| rule.step == step && (rule.at == 0 || rule.at == now);
        let rules = self.rules.lock().unwrap();
        rules.iter().find(applies).map(|rule| rule.habit.clone())
    }

    /// Performs the regular action of a step, or that of the script; returns what was sent.
    async fn step(&mut self, step: &'static str, usual: &str, to: &str) -> Result<String, Over> {
        let (text, after) = match self.habit_at(step, true) {
            None => (usual.to_owned(), After::GoOn),
            Some(Habit::Say(text)) => (text, After::GoOn),
            Some(Habit::SayAndClose(text)) => (text, After::Close),
            Some(Habit::SayAndStall(text)) => (text, After::Stall),
            Some(Habit::Close) => (String::new(), After::Close),
            Some(Habit::KeepAndClose) => {
                self.keep(to);
                (String::new(), After::Close)
            }
            Some(Habit::KeepAndSay(text)) => {
                self.keep(to);
                (text, After::GoOn)
            }
            Some(Habit::KeepSayAndClose(text)) => {
                self.keep(to);
                (text, After::Close)
            }
        };
        if !text.is_empty() {
            let bytes = format!("{text}\r\n").into_bytes();
            self.stream.write_all(&bytes).await.map_err(|_| Over)?;
        }
        match after {
            After::GoOn => Ok(text),
            After::Close => Err(Over),
            After::Stall => {
                tokio::time::sleep(FOR_EVER).await;
                Err(Over)
            }
        }
    }
}

enum After {
    GoOn,
    Close,
    Stall,
}
