//! `handout health`: asks the running daemon whether it is ready, where no HTTP client is at hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use handout::environment::Environment;
use handout::quantity::Span;
use handout::text::chain;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::arguments::{JsonArgs, time_limit};
use super::exit::{FOUND, SUCCESS, UNAVAILABLE};
use super::schemas::OutputSchema;
use super::terminal::complain;
use super::{ConfigArgs, say, say_json};

/// Examples in the command's help.
pub(crate) const EXAMPLES: &str = "\
Exit codes: 0 ready (or alive), 1 not, 69 no answer.

Examples:
  handout health                        as a readiness probe: what /ready says
  handout health --live                 as a liveness probe: what /live says";

/// The longest answer that is read, in bytes: it has a sentence for each dependency that is down.
const MAX_ANSWER: u64 = 256 * 1024;

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Asks whether the process is alive, in place of whether it is ready.
    #[arg(long)]
    live: bool,
    /// How long the answer may take: "5s", or a number of seconds.
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = time_limit)]
    timeout: Span,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub(crate) async fn health(
    arguments: &HealthArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let listen = arguments.config.load(environment)?.http.listen;
    let path = match arguments.live {
        true => "/live",
        false => "/ready",
    };
    let (report, code) = match asked(listen, path, arguments.timeout.as_duration()).await {
        Ok((is_well, said)) => (
            HealthReport {
                state: match is_well {
                    true => "ok",
                    false => "down",
                },
                lines: said.trim_end().lines().map(str::to_owned).collect(),
            },
            match is_well {
                true => SUCCESS,
                false => FOUND,
            },
        ),
        Err(error) => (
            HealthReport {
                state: "no_answer",
                lines: vec![chain(&*error)],
            },
            UNAVAILABLE,
        ),
    };
    if arguments.form.json {
        say_json(&report)?;
    } else if code == UNAVAILABLE {
        report.lines.iter().for_each(complain);
    } else {
        report.lines.iter().try_for_each(say)?;
    }
    Ok(code.into())
}

/// What the daemon answered, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct HealthReport {
    /// `ok`, `down` or `no_answer`.
    state: &'static str,
    /// The words of the daemon, or why there are none.
    lines: Vec<String>,
}

/// Whether the daemon says that it is well, and its words.
async fn asked(listen: SocketAddr, path: &str, within: Duration) -> anyhow::Result<(bool, String)> {
    let answer = tokio::time::timeout(within, ask(reachable(listen), path)).await;
    let answer = answer.unwrap_or_else(|_| {
        let waited = within.as_secs();
        Err(std::io::Error::other(format!(
            "no answer within {waited} s"
        )))
    });
    let answer = answer.with_context(|| {
        format!(
            "could not ask {path} at {listen}: check that the daemon runs with this http.listen"
        )
    })?;
    match parsed(&answer) {
        // Outages with which the daemon goes on stand below.
        Some((200, said)) if said.lines().next() == Some("ok") => Ok((true, said.to_owned())),
        Some((503, said)) => Ok((false, said.to_owned())),
        Some((status, _)) if status != 200 => bail!(
            "{listen} answered {path} with the status {status}: another program may listen there"
        ),
        Some(_) | None => bail!("{listen} gave an answer to {path} that is not the daemon's"),
    }
}

/// The address at which this machine reaches a listener on all addresses.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The status and the text of an answer whose end is the end of its connection.
fn parsed(answer: &[u8]) -> Option<(u16, &str)> {
    let (head, body) = str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    Some((status.parse().ok()?, body))
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![OutputSchema::of::<HealthReport>("health", "handout health")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_this_machine() {
        let table = [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ];
        for (listen, asked) in table {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn an_answer_that_is_cut_or_of_another_protocol_is_none() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(parsed(answer), Some((503, "no\n")));
        for answer in [
            &b"220 relay.example ESMTP\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 \r\n\r\n",
            b"",
            b"\xff\xfe\r\n\r\n",
        ] {
            assert_eq!(parsed(answer), None);
        }
    }
}
