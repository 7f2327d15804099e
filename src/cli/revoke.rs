//! `handout revoke`, `restore` and `extend`: changes to links of the portal, which every portal notices within a second.

mod residue;

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use handout::assemble::{self, OpenedLedger, PROGRAM};
use handout::audit::AuditLog;
use handout::audit::find::LinkQuery;
use handout::audit::portal as lines;
use handout::audit::portal::ChangedFields;
use handout::bounds::MAX_WHY_BYTES;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::failpoint::{self, Failpoint};
use handout::job::{Bucket, JobId, Recipient};
use handout::ledger::portal::{ChangeKind, ChangeTarget, LinkChange};
use handout::links::portal::token_in;
use handout::portal_access::{LinkFacts, LinkIndex, RecipientLinks, RevokedLinks};
use handout::portal_token::JobRef;
use handout::quantity::Span;
use handout::text::chain;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use self::residue::{Residue, each_line};
use super::terminal::complain;
use super::{ConfigArgs, exit, say, say_json};

/// The maximum length of a link from stdin.
const MAX_BYTES: u64 = 64 * 1024;

/// By how much the clocks of machines that change links may differ.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);

pub(super) const EXAMPLES: &str = "\
Every portal of the ledger refuses the links within portal.revocation_check (1 s), and an open that begins after the command
returned does so with revocation_check = \"0s\" at once. Links that were signed before go on until they end; the command says how
many this machine's audit log has, and until when. Links with links.via = \"s3\" or \"cloudfront\" cannot be revoked one by one.

Examples:
  handout revoke job acme-daily-2026-11-23 --why \"wrong month\"
  handout revoke recipient ann@acme.example --job acme-daily-2026-11-23
  handout revoke object s3://acme-reports/2026/11/a.pdf --dry-run
  handout revoke link - < url.txt
  handout revoke sessions ann@acme.example
  handout restore job acme-daily-2026-11-23";

/// What links are meant.
#[derive(Debug, Subcommand)]
pub(crate) enum RevokeTarget {
    /// All links of a job.
    Job {
        /// The job's id.
        #[arg(value_name = "ID")]
        id: JobId,
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// All links of a recipient, in one job or in all.
    Recipient {
        /// The address.
        #[arg(value_name = "ADDRESS", value_parser = Recipient::parse)]
        address: Recipient,
        /// The job; all jobs without it.
        #[arg(long, value_name = "ID")]
        job: Option<JobId>,
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// All links to an object.
    Object {
        /// The object.
        #[arg(value_name = "s3://BUCKET/KEY", value_parser = object)]
        place: (Bucket, String),
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// One link: of one recipient to one object, or to the page of a job.
    Link {
        /// The link, its id as audit lines have it, or `-` to read the link from stdin, which keeps it out of the shell history.
        #[arg(value_name = "URL|ID|-")]
        link: String,
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// The sign-ins of a recipient until now; the links stay. `restore` makes them count again.
    Sessions {
        /// The address.
        #[arg(value_name = "ADDRESS", value_parser = Recipient::parse)]
        address: Recipient,
        #[command(flatten)]
        how: ChangeArgs,
    },
}

/// How a change is made.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The reason, for the audit log.
    #[arg(long, value_name = "TEXT", value_parser = why)]
    why: Option<String>,
    /// Says what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub(crate) struct ExtendArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The new end, such as 2026-12-31T18:00:00Z; it may be earlier than the present one.
    #[arg(long, value_name = "INSTANT", group = "end")]
    until: Option<Timestamp>,
    /// How much later than now the links end, such as 30d.
    #[arg(long, value_name = "SPAN", group = "end")]
    by: Option<Span>,
    #[command(flatten)]
    how: ChangeArgs,
}

fn object(place: &str) -> Result<(Bucket, String), String> {
    let parts = place
        .strip_prefix("s3://")
        .and_then(|place| place.split_once('/'));
    let (bucket, key) = parts.ok_or("it is not of the form s3://BUCKET/KEY")?;
    let bucket = bucket.parse().map_err(|error| format!("{error}"))?;
    Ok((bucket, key.to_owned()))
}

fn why(text: &str) -> Result<String, String> {
    match text.len() > MAX_WHY_BYTES {
        true => Err(format!("at most {MAX_WHY_BYTES} bytes are allowed")),
        false => Ok(text.to_owned()),
    }
}

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
struct ChangeReport<'a> {
    #[serde(flatten)]
    change: &'a LinkChange,
    /// The number of the change in the ledger; none if nothing was changed.
    ordinal: Option<u64>,
    /// Whether it was so before.
    unchanged: bool,
    dry_run: bool,
    /// What works on.
    residue: &'a Residue,
}

/// Revokes links.
pub(super) async fn revoke(
    target: RevokeTarget,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    change(target, ChangeKind::Revoked, environment).await
}

/// Restores links.
pub(super) async fn restore(
    target: RevokeTarget,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    change(target, ChangeKind::Restored, environment).await
}

async fn change(
    target: RevokeTarget,
    kind: ChangeKind,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let (wanted, how) = target.parts();
    with_ledger(&how, environment, async |config, opened| {
        let target = match wanted {
            Wanted::Target(target) => {
                if let ChangeTarget::Job { job } = &target {
                    known_job(job, opened).await?;
                }
                target
            }
            Wanted::Recipient(recipient, job) => {
                let rid = opened.names.recipient_id(&recipient.canonical_address());
                if let Some(job) = &job {
                    known_recipient(job, &rid, opened).await?;
                }
                ChangeTarget::Recipient { rid, job }
            }
            Wanted::Sessions(recipient) => ChangeTarget::Sessions {
                rid: opened.names.recipient_id(&recipient.canonical_address()),
            },
            Wanted::Link(link) => ChangeTarget::Link {
                link_id: link_id(&link, config, opened).await?,
            },
        };
        make(target, kind, &how, config, opened, environment).await
    })
    .await
}

/// Moves the end of a job's links.
pub(super) async fn extend(
    arguments: ExtendArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let ExtendArgs {
        job,
        until,
        by,
        how,
    } = arguments;
    let until = match (until, by) {
        (Some(until), _) => until,
        (None, Some(by)) => {
            let by = SignedDuration::try_from(by.as_duration())?;
            clock::system().checked_add(by)?
        }
        (None, None) => anyhow::bail!("give --until or --by"),
    };
    with_ledger(&how, environment, async |config, opened| {
        may_end_at(&job, until, config, opened).await?;
        let target = ChangeTarget::Job { job };
        let kind = ChangeKind::Moved { until };
        make(target, kind, &how, config, opened, environment).await
    })
    .await
}

/// Checks that a job has links of the portal.
async fn known_job(job: &JobId, opened: &OpenedLedger) -> anyhow::Result<Vec<JobRef>> {
    let known = opened.portal().references(job).await?;
    anyhow::ensure!(
        !known.is_empty(),
        "the ledger has no links of the portal for a job {job}; `handout ledger show` lists the jobs"
    );
    Ok(known)
}

/// Checks that a job has links of a recipient that can be told from those of others.
async fn known_recipient(job: &JobId, rid: &str, opened: &OpenedLedger) -> anyhow::Result<()> {
    known_job(job, opened).await?;
    let index = LinkIndex::new(&opened.keyring, &opened.names, opened.portal());
    match index.links_of_recipient(job, rid).await? {
        RecipientLinks::ToldApart => Ok(()),
        RecipientLinks::None => anyhow::bail!("the job {job} has no such recipient"),
        RecipientLinks::Shared => anyhow::bail!(
            "all recipients share the links of the job {job}, which open without a sign-in: revoke the job"
        ),
    }
}

/// Checks that the rules permit links of a job until an instant: a job that is sent now could not ask for more.
async fn may_end_at(
    job: &JobId,
    until: Timestamp,
    config: &Config,
    opened: &OpenedLedger,
) -> anyhow::Result<()> {
    for reference in known_job(job, opened).await? {
        let Some(record) = opened.portal().job(reference).await? else {
            continue;
        };
        let rules = config.allow.iter().filter(|rule| {
            rule.connection == record.connection.as_str()
                && rule.bucket == record.bucket.as_str()
                && record.prefix.starts_with(&rule.prefix)
        });
        let most = rules.map(|rule| rule.max_expires_in).max();
        let most = most.map_or(SignedDuration::ZERO, |most| {
            SignedDuration::try_from(most.as_duration()).unwrap_or(SignedDuration::MAX)
        });
        let latest = clock::system().checked_add(most).unwrap_or(Timestamp::MAX);
        anyhow::ensure!(
            until <= latest.max(record.ends_at),
            "the [[allow]] rules for s3://{}/{} permit links of this job until {latest} at the latest (max_expires_in)",
            record.bucket,
            record.prefix
        );
    }
    Ok(())
}

/// What a command means, before the ledger is asked.
enum Wanted {
    Target(ChangeTarget),
    Recipient(Recipient, Option<JobId>),
    Sessions(Recipient),
    Link(String),
}

impl RevokeTarget {
    fn parts(self) -> (Wanted, ChangeArgs) {
        match self {
            Self::Job { id, how } => (Wanted::Target(ChangeTarget::Job { job: id }), how),
            Self::Recipient { address, job, how } => (Wanted::Recipient(address, job), how),
            Self::Object { place, how } => {
                let (bucket, key) = place;
                (Wanted::Target(ChangeTarget::Object { bucket, key }), how)
            }
            Self::Link { link, how } => (Wanted::Link(link), how),
            Self::Sessions { address, how } => (Wanted::Sessions(address), how),
        }
    }
}

async fn with_ledger(
    how: &ChangeArgs,
    environment: &Environment,
    command: impl AsyncFnOnce(&Config, &OpenedLedger) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let config = how.config.load(environment)?;
    let opened = assemble::open_ledger(&config, environment, clock::system).await?;
    let result = command(&config, &opened).await;
    opened.close().await;
    result
}

/// The id of a link, from the link or from itself.
async fn link_id(link: &str, config: &Config, opened: &OpenedLedger) -> anyhow::Result<String> {
    let is_id = link.len() == 32 && link.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_id {
        return Ok(link.to_ascii_lowercase());
    }
    let text = match link {
        "-" => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .take(MAX_BYTES)
                .read_to_end(&mut bytes)
                .context("could not read the link from stdin")?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        link => link.to_owned(),
    };
    Ok(facts_of(text.trim(), config, opened).await?.link_id)
}

/// What a link of the portal is for.
pub(super) async fn facts_of(
    url: &str,
    config: &Config,
    opened: &OpenedLedger,
) -> anyhow::Result<LinkFacts> {
    let portal = config.portal_url()?;
    let portal = portal.context("the configuration has no portal.public_url")?;
    let token = token_in(url, &portal).with_context(|| {
        format!("this is no link of the portal at {portal}: give the whole link, or its id")
    })?;
    let index = LinkIndex::new(&opened.keyring, &opened.names, opened.portal());
    let token = index.read(token);
    let token = token.context("the token of the link is changed, or of another installation")?;
    Ok(index.facts(token).await?)
}

/// Makes a change, records it in the audit log, and says what works on.
async fn make(
    target: ChangeTarget,
    kind: ChangeKind,
    how: &ChangeArgs,
    config: &Config,
    opened: &OpenedLedger,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let records = opened.portal();
    let changes = records.changes().await?;
    let count = changes.len() as u64;
    let is_same = |change: &&LinkChange| change.target == target && change.kind == kind;
    let standing = changes.iter().rposition(|change| is_same(&change));
    let standing = standing.map(|at| (at as u64, changes[at].clone()));
    let mut known = RevokedLinks::default();
    changes.into_iter().for_each(|change| known.apply(change));
    let refs = match &target {
        ChangeTarget::Job { job } | ChangeTarget::Recipient { job: Some(job), .. } => {
            records.references(job).await?
        }
        _ => Vec::new(),
    };
    let is_revoked = match kind {
        ChangeKind::Restored => known.of(&target).is_some(),
        ChangeKind::Revoked | ChangeKind::Moved { .. } => known.covers(&target, &refs),
    };
    let unchanged = match kind {
        // The sessions that began since the last revocation are meant too.
        ChangeKind::Revoked => is_revoked && !matches!(target, ChangeTarget::Sessions { .. }),
        ChangeKind::Restored => !is_revoked,
        ChangeKind::Moved { .. } => false,
    };
    let change = LinkChange {
        kind,
        target,
        by: by(environment),
        why: how.why.clone(),
        refs,
        at: clock::system(),
        nonce: handout::keyring::nonce(),
    };
    let mut ordinal = None;
    if let Some((standing, change)) = standing.filter(|_| unchanged && !how.dry_run) {
        // A command that was killed may have made the change without its line.
        if !is_recorded(standing, &change, config).unwrap_or_default() {
            record(&change, standing, config, opened, environment).await?;
        }
    }
    if !how.dry_run && !unchanged {
        let made = records.add_change(count, &change).await?;
        failpoint::pass(Failpoint::ChangeCreated);
        ordinal = Some(made);
        record(&change, made, config, opened, environment)
            .await
            .context("the change is made, and its audit line could not be written")?;
    }
    // Behind the change, which must not wait for the log; and a log that cannot be read stops no revocation.
    let residue = match kind {
        ChangeKind::Revoked => Residue::of(&change.target, config, change.at),
        ChangeKind::Restored | ChangeKind::Moved { .. } => Ok(Residue::default()),
    };
    if let Err(error) = &residue {
        let error = chain(&**error);
        complain(format!("what works on is not known: {error}"));
    }
    let residue = residue.unwrap_or_default();
    if how.json {
        say_json(&ChangeReport {
            change: &change,
            ordinal,
            unchanged,
            dry_run: how.dry_run,
            residue: &residue,
        })?;
    } else {
        say(sentence(&change, unchanged, how.dry_run))?;
        for line in residue.sentences() {
            say(line)?;
        }
    }
    Ok(match unchanged {
        true => exit::FOUND.into(),
        false => ExitCode::SUCCESS,
    })
}

/// Whether this machine's audit log has the line of a change. It was written after the change was asked for, so that earlier lines are
/// passed over.
fn is_recorded(ordinal: u64, change: &LinkChange, config: &Config) -> anyhow::Result<bool> {
    let mut is_recorded = false;
    let number = format!("\"ordinal\":{ordinal},");
    let query = LinkQuery {
        since: change.at.checked_sub(CLOCKS_DIFFER).ok(),
        ..LinkQuery::default()
    };
    each_line(config, &query, |line| {
        is_recorded |= line.contains(&number);
    })?;
    Ok(is_recorded)
}

/// The user who asks: the one before sudo, if there is one.
fn by(environment: &Environment) -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| environment.get(name))
        .unwrap_or("operator");
    handout::text::printable(user, 64).into_owned()
}

/// Writes the audit line, in a stream of its own: the daemon goes on writing to its own.
async fn record(
    change: &LinkChange,
    ordinal: u64,
    config: &Config,
    opened: &OpenedLedger,
    environment: &Environment,
) -> anyhow::Result<()> {
    let settings = config.audit_settings(&opened.keyring, environment)?;
    let (log, writer) = AuditLog::open(&settings, PROGRAM, clock::system)?;
    let mut fields = ChangedFields {
        what: "job",
        job: None,
        rid: None,
        bucket: None,
        key: None,
        link_id: None,
        expires_at: None,
        ordinal,
        by: &change.by,
        reason: change.why.as_deref(),
    };
    match &change.target {
        ChangeTarget::Job { job } => fields.job = Some(job.as_str()),
        ChangeTarget::Recipient { rid, job } => {
            (fields.what, fields.rid) = ("recipient", Some(rid.as_str()));
            fields.job = job.as_ref().map(JobId::as_str);
        }
        ChangeTarget::Object { bucket, key } => {
            (fields.what, fields.bucket) = ("object", Some(bucket.as_str()));
            fields.key = Some(key);
        }
        ChangeTarget::Link { link_id } => {
            (fields.what, fields.link_id) = ("link", Some(link_id.as_str()));
        }
        ChangeTarget::Sessions { rid } => {
            (fields.what, fields.rid) = ("sessions", Some(rid.as_str()));
        }
    }
    let line = match change.kind {
        ChangeKind::Revoked => lines::revoked(&fields),
        ChangeKind::Restored => lines::restored(&fields),
        ChangeKind::Moved { until } => {
            fields.expires_at = Some(until);
            lines::moved(&fields)
        }
    };
    let appended = log.append(vec![line]).await;
    drop(log);
    writer.close();
    Ok(appended?)
}

fn sentence(change: &LinkChange, unchanged: bool, dry_run: bool) -> String {
    let what = match &change.target {
        ChangeTarget::Job { job } => format!("the links of the job {job}"),
        ChangeTarget::Recipient { rid, job: None } => {
            format!("the links of the recipient {rid} in all jobs")
        }
        ChangeTarget::Recipient {
            rid,
            job: Some(job),
        } => format!("the links of the recipient {rid} in the job {job}"),
        ChangeTarget::Object { bucket, key } => format!("the links to s3://{bucket}/{key}"),
        ChangeTarget::Link { link_id } => format!("the link {link_id}"),
        ChangeTarget::Sessions { rid } => format!("the sign-ins of the recipient {rid}"),
    };
    let would = match (unchanged, dry_run) {
        (true, _) => "already: ",
        (false, true) => "would change: ",
        (false, false) => "",
    };
    let are = match &change.target {
        ChangeTarget::Link { .. } => "is",
        _ => "are",
    };
    match change.kind {
        ChangeKind::Revoked => format!("{would}{what} {are} revoked"),
        ChangeKind::Restored => format!("{would}{what} {are} no longer revoked"),
        ChangeKind::Moved { until } => format!("{would}{what} end at {until}"),
    }
}
