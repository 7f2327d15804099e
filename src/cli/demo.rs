//! `handout demo`: everything on this machine, without an account or another program.
//!
//! It writes what an operator would write (a configuration, jobs, files in buckets), then runs the real daemon on it. Nothing is
//! simulated: the endpoint verifies signatures, the queue is durable, the audit log is chained.

mod opens;
mod portal;
mod probe;
mod seed;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use directory::Directory;
use handout::assemble;
use handout::assemble::{OpenError, Opened, Serving};
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::text::{counted, shell_word};
use handout::worker::Worker;
use localstore::EndpointError;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::run::{Signals, options};
use super::{exit, say, say_lines};

/// The timeout of the jobs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  handout demo                 writes ./handout-demo and serves its links until Ctrl-C
  handout demo --once          fetches every link it issued, tampers with them, verifies the audit log; exit 0 or 1")]
pub(crate) struct DemoArgs {
    /// The directory for buckets, mails, pages and the audit log.
    #[arg(
        long,
        alias = "dir",
        value_name = "DIR",
        default_value = "handout-demo"
    )]
    out: PathBuf,
    /// Fetches and checks every link, then exits.
    #[arg(long)]
    once: bool,
}

/// Why the demo has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// Another program uses the port.
    #[error(
        "another program listens on {0}, which the links of this demo name: end that program, or make another demo with --out"
    )]
    PortTaken(SocketAddr),
    /// A job was parked, or exceeded the timeout.
    #[error("the jobs did not finish within {} s; see the log above", PATIENCE.as_secs())]
    Unsettled,
}

/// Writes the files, runs the jobs, and shows or checks their results.
pub(super) async fn demo(
    arguments: &DemoArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let refused = |source| OpenError::Directory {
        path: arguments.out.clone(),
        source,
    };
    let demo = Directory::make_own(&arguments.out).map_err(refused)?;
    if !demo.is_ours()? {
        let why = "it belongs to another user: give the demo a directory of your own";
        return Err(refused(io::Error::new(io::ErrorKind::PermissionDenied, why)).into());
    }
    let dir = arguments.out.canonicalize()?;
    let shown = if arguments.once {
        seed::DemoJobs::Checked
    } else {
        seed::DemoJobs::All
    };
    let (seeded, config, opened) = open(&dir, shown, environment).await?;
    say(format_args!(
        "Handout runs {} in {} …",
        counted(seeded.jobs.len() as u64, "job"),
        dir.display()
    ))?;
    for job in &seeded.jobs {
        opened.queue.submit(&job.body).await?;
    }
    let settled = work(&opened, &config, seeded.jobs.len()).await?;
    if !settled {
        return Err(DemoError::Unsettled.into());
    }
    let made = probe::Made::collect(&config)?;
    tell(&dir, &made)?;
    let code = if arguments.once {
        let verdict = probe::probe(&made, &opened.services, &config).await?;
        say_lines(&verdict)?;
        if verdict.is_good() {
            ExitCode::SUCCESS
        } else {
            exit::FOUND.into()
        }
    } else {
        if let Some(job) = &seeded.revoked {
            portal::revoke(&opened.services, job).await?;
            say_lines("\nTwo mails to dora@acme.example have links of the portal:")?;
            say_lines(
                "  one asks for her address, and mails a code to the outbox; the other was revoked",
            )?;
        }
        Box::pin(opens::show(&config, &made, &seeded.report, environment)).await?;
        let stop = CancellationToken::new();
        let serving = portal::serve(&config, &opened.services, environment, stop.clone());
        let told = async {
            let tried = opens::try_revoked(&made).await;
            let told = tried.and_then(|()| Ok(tell_how_to_go_on(&dir)?));
            if told.is_ok() {
                signals.next().await;
            }
            stop.cancel();
            told
        };
        let (served, told) = tokio::join!(serving, told);
        served?;
        told?;
        ExitCode::SUCCESS
    };
    opened.close().await;
    Ok(code)
}

/// Writes the files and opens everything. A free port can be taken a moment later: then other ports are used.
async fn open(
    dir: &Path,
    shown: seed::DemoJobs,
    environment: &Environment,
) -> anyhow::Result<(seed::Seeded, Config, Opened)> {
    let mut ports = seed::Ports::Usual;
    loop {
        let seeded = seed::seed(dir, ports, shown)?;
        let config = Config::load(Some(&seeded.config_file), environment)?;
        match assemble::open(&config, environment, clock::system, Serving::Links).await {
            Ok(opened) => return Ok((seeded, config, opened)),
            Err(OpenError::Embedded(EndpointError::AddressInUse { address })) if seeded.goes_on => {
                return Err(DemoError::PortTaken(address).into());
            }
            Err(OpenError::Embedded(_)) if ports == seed::Ports::Usual => ports = seed::Ports::Any,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the daemon's worker until `count` messages are settled; returns whether they were settled in time.
async fn work(opened: &Opened, config: &Config, count: usize) -> anyhow::Result<bool> {
    let worker = Worker::new(
        Arc::clone(&opened.queue),
        opened.services.clone(),
        opened.rules.clone(),
        options(config),
        clock::system,
    );
    let progress = opened.services.progress.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let wait = async {
        let all_settled = async {
            loop {
                let now = progress.snapshot();
                if now.jobs_done + now.jobs_parked >= count as u64 {
                    return now.jobs_parked == 0;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = tokio::time::timeout(PATIENCE, all_settled)
            .await
            .unwrap_or(false);
        drop(stop);
        settled
    };
    let shutdown = async { drop(stopped.await) };
    let (settled, _) = tokio::join!(wait, worker.run(shutdown));
    Ok(settled)
}

fn tell_how_to_go_on(dir: &Path) -> io::Result<()> {
    say_lines("\nThe links work until Ctrl-C. Afterwards:")?;
    let config = config_file(dir);
    let config = config.display().to_string();
    say(format_args!(
        "  handout run --config {}",
        shell_word(&config)
    ))
}

fn config_file(dir: &Path) -> PathBuf {
    dir.join("config.toml")
}

/// Prints what the demo created, and where.
fn tell(dir: &Path, made: &probe::Made) -> anyhow::Result<()> {
    let shown = |path: &Path| path.strip_prefix(dir).unwrap_or(path).display().to_string();
    say("")?;
    for mail in &made.mails {
        say(format_args!("  mail     {:34} {}", mail.to, mail.subject))?;
    }
    for page in &made.pages {
        say(format_args!(
            "  page     {:34} {}",
            page.title,
            counted(page.hrefs.len() as u64, "link")
        ))?;
    }
    say(format_args!(
        "  audit    {:34} one line for each of {} links",
        shown(&made.audit_dir),
        made.issued
    ))?;
    say_lines("\nLook at")?;
    say(format_args!(
        "  file://{}",
        made.outbox.join("index.html").display()
    ))?;
    for mail in &made.mails {
        if let Some(gallery) = &mail.gallery {
            say(format_args!("  {gallery}"))?;
        }
    }
    Ok(())
}
