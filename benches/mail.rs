//! Measures sending to a relay: mails a second on one connection and on eight, CPU for each, and whether the 40 ms of a delayed
//! acknowledgement occur.
//!
//! `cargo bench --bench mail`. The relay is a separate process on loopback, which replies at once and stores nothing. For
//! comparison, the same dialogue is also run by hand with Nagle's algorithm.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use handout::clock;
use handout::config::{MailConfig, SmtpConfig, Tls};
use handout::deliver::{Letter, MailSummary, Mailer, Relays};
use handout::environment::Environment;
use handout::job::{Recipient, RelayName};
use handout::ledger::Outcome;
use handout::progress::Progress;
use lettre::address::Envelope;
use tokio::time::Instant;

/// A mail of a report with a few files.
const MAIL_BYTES: usize = 20_000;

/// Mails of each measurement.
const MAILS: usize = 5000;

fn main() {
    if std::env::args().any(|argument| argument == "--sink") {
        return sink();
    }
    let sink = Sink::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!("{MAILS} mails of {MAIL_BYTES} bytes, no TLS");
    for connections in [1, 8] {
        runtime.block_on(measure(sink.port, connections));
    }
    for nodelay in [true, false] {
        by_hand(sink.port, nodelay);
    }
}

/// Sends mails over a number of connections concurrently.
async fn measure(port: u16, connections: usize) {
    let mailer = mailer(port, connections);
    let to = Recipient::parse("ann@acme.example").unwrap();
    let (job, relay) = ("bench".parse().unwrap(), RelayName::default());
    let letter = letter(&to);
    let (began, cpu) = (Instant::now(), cpu());
    let mut slowest = Duration::ZERO;
    let sending = (0..MAILS).map(|_| async {
        let way = mailer.turn(&relay, &job, &to).await.unwrap();
        let began = Instant::now();
        let outcome = way.send_unrecorded(&letter).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        began.elapsed()
    });
    let mut sending =
        std::pin::pin!(futures_util::stream::iter(sending).buffer_unordered(connections));
    while let Some(took) = sending.next().await {
        slowest = slowest.max(took);
    }
    let (took, cpu) = (began.elapsed(), self::cpu() - cpu);
    println!(
        "{connections} connections: {:>6.0} mails/s, {:>4.0} µs of CPU each, the slowest {:.1} ms",
        MAILS as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / MAILS as f64,
        slowest.as_secs_f64() * 1e3,
    );
}

fn mailer(port: u16, connections: usize) -> Mailer {
    let mail = MailConfig {
        smtp: SmtpConfig {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Tls::None,
            connections,
            rate: "1000000/s".parse().unwrap(),
            ..SmtpConfig::default()
        },
        ..MailConfig::default()
    };
    let (environment, progress) = (Environment::default(), Progress::default());
    Mailer::Smtp(Relays::new(&mail, &environment, &progress, clock::system).unwrap())
}

fn letter(to: &Recipient) -> Letter {
    let from = "reports@sender.example".parse().unwrap();
    Letter {
        secrets: handout::redact::Secrets::of_recipient(&to.address, to.name.as_deref()),
        envelope: Envelope::new(Some(from), vec![to.address.clone()]).unwrap(),
        message_id: "<1@sender.example>".to_owned(),
        bytes: text(),
        summary: MailSummary {
            to: to.address.clone(),
            subject: String::new(),
            html: String::new(),
        },
    }
}

fn text() -> Vec<u8> {
    let line = format!("{}\r\n", "x".repeat(74));
    line.repeat(MAIL_BYTES / line.len()).into_bytes()
}

/// The dialogue as plain blocking writes: the text and the end of DATA in separate writes, as in a careless client.
fn by_hand(port: u16, nodelay: bool) {
    const FEW: u32 = 100;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(nodelay).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut reply = || replies.read_line(&mut String::new()).unwrap();
    reply();
    let text = text();
    let began = Instant::now();
    for _ in 0..FEW {
        for line in [
            "MAIL FROM:<a@b.example>\r\n",
            "RCPT TO:<a@b.example>\r\n",
            "DATA\r\n",
        ] {
            stream.write_all(line.as_bytes()).unwrap();
            reply();
        }
        for half in text.chunks(text.len() / 2 + 1) {
            stream.write_all(half).unwrap();
        }
        stream.write_all(b".\r\n").unwrap();
        reply();
    }
    let each = began.elapsed() / FEW;
    println!(
        "by hand, TCP_NODELAY {}: {:.2} ms a mail",
        if nodelay { "on " } else { "off" },
        each.as_secs_f64() * 1e3
    );
}

/// User and system time of this process, in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The relay, as a process whose CPU is not counted.
struct Sink {
    child: Child,
    port: u16,
}

impl Sink {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--sink")
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self { child, port }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn sink() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    // Until the parent process is gone.
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut in_text = false;
    drop(stream.write_all(b"220 sink\r\n"));
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).unwrap_or_default() == 0 {
            return;
        }
        let reply: &[u8] = match (in_text, line.as_slice()) {
            (true, b".\r\n") => b"250 kept\r\n",
            (true, _) => continue,
            (false, b"DATA\r\n") => b"354 go on\r\n",
            (false, _) => b"250 ok\r\n",
        };
        in_text = reply.starts_with(b"354");
        if stream.write_all(reply).is_err() {
            return;
        }
    }
}
