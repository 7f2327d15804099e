//! `handout revoke`, `restore` and `extend`: changes to links of the portal, which every portal notices within a second, and means
//! against links that S3 and CloudFront answer.

mod apply;
mod aws;
mod means;
mod plan;
mod policy;
mod read_log;
mod residue;
mod scope;
mod standing;
mod tagged;
mod tell;

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use handout::assemble::{self, OpenedLedger};
use handout::audit::find::LinkQuery;
use handout::audit::portal as lines;
use handout::audit::portal::ChangedFields;
use handout::bounds::MAX_WHY_BYTES;
use handout::clock;
use handout::config::{Config, RevokeMeans};
use handout::distribute;
use handout::environment::Environment;
use handout::failpoint::{self, Failpoint};
use handout::job::{Bucket, JobId};
use handout::ledger::portal::{ChangeKind, ChangeTarget, LinkChange};
use handout::links::portal::token_in;
use handout::portal_access::{LinkFacts, LinkIndex, RevokedLinks};
use handout::portal_token::JobRef;
use handout::quantity::Span;
use handout::text::{agreeing, chain, counted};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use self::apply::{TagReport, Tagging};
use self::plan::{AnsweredBy, RevocationPlan};
use self::read_log::ReadLog;
use self::residue::Residue;
use self::scope::{MeantLinks, RevokedLinkFacts};
use self::standing::StandingArgs;
use self::tagged::{OF_LINK, OF_OBJECT, TagBook, TagTarget};
use super::arguments::{JsonArgs, NamedRecipient, instant, named_recipient, time_limit};
use super::audit::{ArchiveArgs, append_line};
use super::exit::CommandError;
use super::schemas::OutputSchema;
use super::terminal::complain;
use super::{ConfigArgs, exit, say_json};

/// The maximum length of a link from stdin.
const MAX_BYTES: u64 = 64 * 1024;

/// The longest name of the one who asks, in bytes.
const MAX_ASKER_BYTES: usize = 64;

/// By how much the clocks of machines that change links may differ.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);

pub(super) const EXAMPLES: &str = "\
Links of the portal: every portal of the ledger refuses them within portal.revocation_check (1 s). With revocation_check = \"0s\", each open that begins after the command returned is refused. Links that were signed before go on until they end; the command says how many this machine's audit log has, and until when.

Links of S3 and CloudFront: the command finds those of the target that still work, and prints the means against them, the smallest first, with how many other links die with each, and the commands for a shell. --apply tags the objects (handout-revoked=true) if revoke.apply in the configuration has \"tag\", and opens a link of its own until it is refused. The tag works where the policy of the bucket has the standing Deny. One link of S3 alone cannot be revoked: S3 has no policy that sees the parameters of a link.

Exit code 0: no link of the target that this machine knows of opens any more. Exit code 1: links of S3 and CloudFront go on, or were tagged and the command did not see a link of its own open before the tag and refused after it; the audit log could not be read; no link of the target is known; or it was revoked before. With --dry-run: 0 if there are links to revoke.

Examples:
  handout revoke job acme-daily-2026-11-23 --reason \"wrong month\"
  handout revoke recipient ann@acme.example --job acme-daily-2026-11-23
  handout revoke object s3://acme-reports/2026/11/a.pdf --dry-run
  handout revoke object s3://acme-reports/2026/11/a.pdf --apply
  handout revoke link - < url.txt
  handout revoke sessions ann@acme.example
  handout revoke standing-deny s3://acme-reports
  handout restore job acme-daily-2026-11-23";

/// What is revoked.
#[derive(Debug, Subcommand)]
pub(crate) enum RevokeCommand {
    #[command(flatten)]
    Links(RevokeTarget),
    /// Prints the statement that a bucket's policy needs before objects can be revoked by their tag.
    StandingDeny(StandingArgs),
}

/// What links are meant.
#[derive(Debug, Subcommand)]
pub(crate) enum RevokeTarget {
    /// All links of a job.
    Job {
        /// The job's id.
        #[arg(value_name = "JOB")]
        id: JobId,
        #[command(flatten)]
        how: TargetArgs,
    },
    /// All links of a recipient, in one job or in all.
    Recipient {
        /// The address, or the recipient's id.
        #[arg(value_name = "ADDRESS|ID", value_parser = named_recipient)]
        address: NamedRecipient,
        /// The job; all jobs without it.
        #[arg(long, value_name = "JOB")]
        job: Option<JobId>,
        #[command(flatten)]
        how: TargetArgs,
    },
    /// All links to an object.
    Object {
        /// The object.
        #[arg(value_name = "s3://BUCKET/KEY", value_parser = object)]
        place: (Bucket, String),
        #[command(flatten)]
        how: TargetArgs,
    },
    /// One link: of one recipient to one object, or to the page of a job.
    Link {
        /// The link, its id as audit lines have it, or `-` to read the link from stdin, which keeps it out of the shell history.
        #[arg(value_name = "URL|ID|-")]
        link: String,
        #[command(flatten)]
        how: TargetArgs,
    },
    /// The sign-ins of a recipient until now; the links stay. `restore` makes them count again.
    #[command(mut_args(without_stores))]
    Sessions {
        /// The address, or the recipient's id.
        #[arg(value_name = "ADDRESS|ID", value_parser = named_recipient)]
        address: NamedRecipient,
        #[command(flatten)]
        how: TargetArgs,
    },
}

/// How links of a target are changed.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Tags the objects of links that S3 answers, or takes the tags off, if revoke.apply in the configuration has "tag".
    #[arg(long, conflicts_with = "dry_run")]
    apply: bool,
    /// Tags objects although a means that revokes fewer other links exists.
    #[arg(long, requires = "apply")]
    larger: bool,
    /// How long the command tests with a link of its own whether tagged objects are refused.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = time_limit)]
    probe_for: Span,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// How a change is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArgs {
    /// The reason, for the audit log.
    #[arg(long, alias = "why", value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Who asks for it, for the audit log [default: the user]
    #[arg(long, value_name = "NAME", value_parser = asker)]
    asked_by: Option<String>,
    /// Changes nothing, and prints what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub(crate) struct ExtendArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The new end, such as 2026-12-31T18:00:00Z, or a day (UTC), such as 2026-12-31; it may be earlier than the present one.
    #[arg(long, value_name = "TIME", group = "end", value_parser = instant)]
    until: Option<Timestamp>,
    /// How much later than now the links end, such as 30d.
    #[arg(long, value_name = "SPAN", group = "end", value_parser = time_limit)]
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

fn reason(text: &str) -> Result<String, String> {
    match text.len() > MAX_WHY_BYTES {
        true => Err(format!("at most {MAX_WHY_BYTES} bytes are allowed")),
        false => Ok(text.to_owned()),
    }
}

fn asker(name: &str) -> Result<String, String> {
    match name.trim().is_empty() || name.len() > MAX_ASKER_BYTES {
        true => Err(format!("give a name of 1 to {MAX_ASKER_BYTES} bytes")),
        false => Ok(handout::text::printable(name.trim(), MAX_ASKER_BYTES).into_owned()),
    }
}

/// The options of stores: a restoration opens no link of its own.
pub(super) fn without_probing(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| match argument.get_id().as_str() {
        "larger" | "probe_for" => argument.hide(true),
        _ => argument,
    })
}

/// No object has a sign-in.
fn without_stores(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "apply" | "larger" | "probe_for" => argument.hide(true),
        _ => argument,
    }
}

/// A change as reports have it: the record of the ledger without its nonce and its references.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ReportedChange<'a> {
    #[serde(flatten)]
    kind: &'a ChangeKind,
    #[serde(flatten)]
    target: &'a ChangeTarget,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// The name of `reason` in earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[schemars(with = "String")]
    at: Timestamp,
    /// The new end of a moved job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

impl<'a> ReportedChange<'a> {
    fn of(change: &'a LinkChange) -> Self {
        let reason = change.why.as_deref();
        Self {
            kind: &change.kind,
            target: &change.target,
            by: &change.by,
            why: reason,
            reason,
            at: change.at,
            expires_at: match change.kind {
                ChangeKind::Moved { until } => Some(until),
                ChangeKind::Revoked | ChangeKind::Restored => None,
            },
        }
    }
}

/// The result, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ChangeReport<'a> {
    #[serde(flatten)]
    reported: ReportedChange<'a>,
    #[serde(skip)]
    change: &'a LinkChange,
    /// The number of the change in the ledger; none if nothing was changed.
    ordinal: Option<u64>,
    /// Whether it was so before.
    unchanged: bool,
    dry_run: bool,
    /// Whether the ledger has links that it is about.
    in_ledger: bool,
    /// What works on.
    residue: &'a Residue,
    /// The links of S3 and CloudFront, and the means against them.
    plan: &'a RevocationPlan,
    /// Whether the audit log could be read for them.
    is_known: bool,
    /// What was done at stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a TagReport>,
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![OutputSchema::of::<ChangeReport<'static>>(
        "revoke",
        "handout revoke job",
    )]
}

/// Revokes links.
pub(super) async fn revoke(
    command: RevokeCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        RevokeCommand::Links(target) => change(target, ChangeKind::Revoked, environment).await,
        RevokeCommand::StandingDeny(arguments) => standing::print(&arguments, environment),
    }
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
    let config = how.change.config.load(environment)?;
    let opening = assemble::open_ledger_or_empty(&config, environment, clock::system);
    with_ledger(&config, Box::pin(opening).await?, async |config, opened| {
        let log = ReadLog::open(&how.archive, (config, opened), environment).await?;
        let sources = (config, opened, &log);
        let meant = Box::pin(MeantLinks::of(wanted, kind, sources)).await?;
        let code = Box::pin(make(meant, kind, &how, sources, environment)).await;
        log.close().await;
        code
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
    let config = how.config.load(environment)?;
    let opened = assemble::open_ledger(&config, environment, clock::system).await?;
    with_ledger(&config, opened, async |config, opened| {
        may_end_at(&job, until, config, opened).await?;
        let meant = MeantLinks::of_portal(ChangeTarget::Job { job });
        let kind = ChangeKind::Moved { until };
        let how = TargetArgs {
            apply: false,
            larger: false,
            probe_for: Span::seconds(0),
            archive: ArchiveArgs::default(),
            change: how.clone(),
        };
        let log = ReadLog::open(&how.archive, (config, opened), environment).await?;
        let sources = (config, opened, &log);
        Box::pin(make(meant, kind, &how, sources, environment)).await
    })
    .await
}

/// Checks that a job has links of the portal.
async fn known_job(job: &JobId, opened: &OpenedLedger) -> anyhow::Result<Vec<JobRef>> {
    let known = opened.portal().references(job).await?;
    match !known.is_empty() || is_in_parts(job, opened).await? {
        true => Ok(known),
        false => Err(CommandError::Found(format!(
            "the ledger has no links of the portal for a job {job}; `handout ledger show` lists the jobs"
        ))
        .into()),
    }
}

/// Whether each recipient of a job has a part of it: a change to the job is one to all of its parts.
async fn is_in_parts(job: &JobId, opened: &OpenedLedger) -> anyhow::Result<bool> {
    let records = opened.ledger.records_of(job, "").await?;
    Ok(distribute::is_in_parts(&records)?)
}

/// Checks that the rules permit links of a job until an instant: a job that is sent now could not ask for more.
async fn may_end_at(
    job: &JobId,
    until: Timestamp,
    config: &Config,
    opened: &OpenedLedger,
) -> anyhow::Result<()> {
    if is_in_parts(job, opened).await? {
        return Err(CommandError::Found(format!(
            "the job {job} is in parts, each with rules of its own: extend the part of a recipient, {job}.part.RID"
        ))
        .into());
    }
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
        if until > latest.max(record.ends_at) {
            return Err(CommandError::Found(format!(
                "the [[allow]] rules for s3://{}/{} permit links of this job until {latest} at the latest (max_expires_in)",
                record.bucket, record.prefix
            ))
            .into());
        }
    }
    Ok(())
}

/// What a command means, before the ledger is asked.
enum Wanted {
    Target(ChangeTarget),
    Recipient(NamedRecipient, Option<JobId>),
    Sessions(NamedRecipient),
    Link(String),
}

impl RevokeTarget {
    fn parts(self) -> (Wanted, TargetArgs) {
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
    config: &Config,
    opened: OpenedLedger,
    command: impl AsyncFnOnce(&Config, &OpenedLedger) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let result = command(config, &opened).await;
    opened.close().await;
    result
}

/// The text of a link, from stdin if the argument says so.
fn link_text(link: &str) -> anyhow::Result<String> {
    match link {
        "-" => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .take(MAX_BYTES)
                .read_to_end(&mut bytes)
                .context("could not read the link from stdin")?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        }
        link => Ok(link.trim().to_owned()),
    }
}

/// What a link of the portal is for.
pub(super) async fn facts_of(
    url: &str,
    config: &Config,
    opened: &OpenedLedger,
) -> anyhow::Result<LinkFacts> {
    let portal = config.portal_url()?;
    let portal = portal.ok_or_else(|| {
        CommandError::Config(
            "this is no link of S3 or CloudFront, and portal.public_url is not set: name the portal's address there, or give the whole link, or its id".to_owned(),
        )
    })?;
    let token = token_in(url, &portal).ok_or_else(|| {
        CommandError::Usage(format!(
            "this is no link of the portal at {portal}: give the whole link, or its id"
        ))
    })?;
    let index = LinkIndex::new(&opened.keyring, &opened.names, opened.portal());
    let token = index.read(token);
    let token = token.map_err(|_| {
        CommandError::Found(
            "the token of the link is changed, or of another installation".to_owned(),
        )
    })?;
    Ok(index.facts(token).await?)
}

/// A change at the ledger, or what it would be.
struct LedgerChange {
    change: LinkChange,
    ordinal: Option<u64>,
    unchanged: bool,
}

/// Makes a change, records it in the audit log, and says what works on.
async fn make(
    meant: MeantLinks,
    kind: ChangeKind,
    how: &TargetArgs,
    (config, opened, log): (&Config, &OpenedLedger, &ReadLog),
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let is_revoked = matches!(kind, ChangeKind::Revoked);
    // A user who may not write the record may see what it would be.
    let may_change = !is_revoked || config.revoke.allows(RevokeMeans::Ledger);
    let is_dry = how.change.dry_run || !may_change || !meant.in_ledger;
    let MeantLinks {
        target,
        link,
        in_ledger,
        query,
        plan,
    } = meant;
    let made = in_the_ledger(
        (target, &link),
        kind,
        (&how.change, is_dry),
        (config, opened, log),
        environment,
    )
    .await?;
    // Behind the change, which must not wait for the log; and a log that cannot be read stops no revocation.
    let looked_up = match (is_revoked, plan) {
        (false, _) => Some(Default::default()),
        (true, plan) => looked_up(&made.change, &query, plan, config, log),
    };
    let is_known = looked_up.is_some();
    let (residue, plan) = looked_up.unwrap_or_default();
    let tagging = Tagging {
        config,
        log,
        keyring: &opened.keyring,
        environment,
        target: &tag_target(&made.change.target),
        link: &link,
        by: &made.change.by,
        why: how.change.reason.as_deref(),
    };
    let tags = Box::pin(at_stores(
        &tagging,
        kind,
        how,
        (&plan, residue.copies.links),
    ))
    .await?;
    let report = ChangeReport {
        reported: ReportedChange::of(&made.change),
        change: &made.change,
        ordinal: made.ordinal,
        unchanged: made.unchanged,
        dry_run: how.change.dry_run,
        in_ledger,
        residue: &residue,
        plan: &plan,
        is_known,
        tags: tags.as_ref(),
    };
    if how.change.form.json {
        say_json(&report)?;
    } else {
        tell::tell(&report, may_change, config)?;
    }
    let is_proven = match &tags {
        Some(tags) => tags.is_proven(),
        // Links that S3 and CloudFront answer go on.
        None => !(is_revoked && (plan.is_of_stores() || residue.copies.links > 0)),
    };
    let is_of_link = !is_revoked
        || residue.lines > 0
        || !in_ledger
        || is_in_ledger(&made.change, opened).await?;
    if is_revoked && is_known && !is_of_link {
        let recorded = match is_dry {
            true => "",
            false => " The revocation is recorded, for links of other machines",
        };
        complain(format_args!(
            "neither the ledger nor this machine's audit log has a link of it: is it a typing error?{recorded}"
        ));
    }
    if how.change.dry_run {
        let has_links = is_known && is_of_link;
        return Ok(match has_links && may_change {
            true => ExitCode::SUCCESS,
            false => exit::FOUND.into(),
        });
    }
    let has_tagged = tags
        .as_ref()
        .is_some_and(|tags| tags.changed > 0 || tags.recorded > 0);
    let has_changed = has_tagged || in_ledger && may_change && !made.unchanged;
    Ok(match is_known && is_proven && is_of_link && has_changed {
        true => ExitCode::SUCCESS,
        false => exit::FOUND.into(),
    })
}

/// What works on after a revocation, and what can be done about it; `None` and a complaint if the audit log cannot be read.
fn looked_up(
    change: &LinkChange,
    query: &LinkQuery,
    plan: Option<RevocationPlan>,
    config: &Config,
    log: &ReadLog,
) -> Option<(Residue, RevocationPlan)> {
    if matches!(change.target, ChangeTarget::Sessions { .. }) {
        return Some(Default::default());
    }
    log.tell_unread();
    let read = || {
        let residue = Residue::of(query, log, change.at)?;
        let plan = match plan {
            Some(plan) => plan,
            None => RevocationPlan::of(query, config, log, change.at)?,
        };
        Ok::<_, anyhow::Error>((residue, plan))
    };
    match read() {
        Ok(known) => Some(known),
        Err(error) => {
            complain(format_args!(
                "which links of S3 and CloudFront go on is not known, and none of them is revoked: {}",
                chain(&*error)
            ));
            None
        }
    }
}

/// Tags the objects of the plan's links, or takes the tags of a former revocation off, if that is asked for and allowed.
async fn at_stores(
    tagging: &Tagging<'_>,
    kind: ChangeKind,
    how: &TargetArgs,
    (plan, copies): (&RevocationPlan, u64),
) -> anyhow::Result<Option<TagReport>> {
    let allowed = tagging.config.revoke.allows(RevokeMeans::Tag);
    match kind {
        ChangeKind::Revoked if how.apply && plan.has(AnsweredBy::S3) => {
            if !allowed {
                complain(
                    "--apply changes no tags: revoke.apply in the configuration does not have \"tag\"",
                );
                return Ok(None);
            }
            let within = Duration::from_secs(how.probe_for.as_secs());
            let objects = apply::objects_of(plan, how.larger);
            if objects.is_empty() {
                complain(
                    "--apply tags nothing: another means kills fewer links, or the objects are too many to be tagged",
                );
                return Ok(None);
            }
            let mut report = tagging.revoke(&objects, within).await?;
            report.untouched = plan.links_without(&objects) + copies;
            Ok(Some(report))
        }
        ChangeKind::Restored => {
            let tagged = TagBook::read(tagging.log)?.objects_of(tagging.target);
            if tagged.is_empty() {
                return Ok(None);
            }
            if !how.apply || !allowed {
                complain(format_args!(
                    "{} still {} the tag handout-revoked=true: --apply takes it off, if revoke.apply in the configuration has \"tag\"",
                    counted(tagged.len() as u64, "object"),
                    agreeing(tagged.len() as u64, "has", "have")
                ));
                return Ok(None);
            }
            // An object that another revocation is about keeps its tag, and its line may be among those that were removed.
            if tagging.log.lacks_lines() {
                return Err(CommandError::Found(
                    "segments of the audit log were removed after audit.keep, and the lines of other revocations may be in them: give --archive, or take the tag handout-revoked off the objects by hand".to_owned(),
                )
                .into());
            }
            Ok(Some(tagging.restore().await?))
        }
        ChangeKind::Revoked | ChangeKind::Moved { .. } => Ok(None),
    }
}

/// The target as the lines of tags have it.
fn tag_target(target: &ChangeTarget) -> TagTarget {
    let mut fields = TagTarget::default();
    let what = match target {
        ChangeTarget::Job { job } => {
            fields.job = Some(job.to_string());
            "job"
        }
        ChangeTarget::Recipient { rid, job } => {
            fields.rid = Some(rid.clone());
            fields.job = job.as_ref().map(ToString::to_string);
            "recipient"
        }
        ChangeTarget::Object { bucket, key } => {
            fields.object = Some((bucket.to_string(), key.clone()));
            OF_OBJECT
        }
        ChangeTarget::Link { link_id } => {
            fields.link_id = Some(link_id.clone());
            OF_LINK
        }
        ChangeTarget::Sessions { .. } => "sessions",
    };
    what.clone_into(&mut fields.what);
    fields
}

/// Makes a change in the ledger, unless it is so already or nothing is to be changed.
async fn in_the_ledger(
    (target, link): (ChangeTarget, &RevokedLinkFacts),
    kind: ChangeKind,
    (how, is_dry): (&ChangeArgs, bool),
    (config, opened, log): (&Config, &OpenedLedger, &ReadLog),
    environment: &Environment,
) -> anyhow::Result<LedgerChange> {
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
        by: how.asked_by.clone().unwrap_or_else(|| by(environment)),
        why: how.reason.clone(),
        refs,
        at: clock::system(),
        nonce: handout::keyring::nonce(),
    };
    let mut ordinal = None;
    if let Some((standing, change)) = standing.filter(|_| unchanged && !is_dry) {
        // A command that was killed may have made the change without its line.
        if !is_recorded(standing, &change, log).unwrap_or_default() {
            record((&change, link), standing, config, opened, environment).await?;
        }
    }
    if !is_dry && !unchanged {
        let made = records.add_change(count, &change).await?;
        failpoint::pass(Failpoint::ChangeCreated);
        ordinal = Some(made);
        record((&change, link), made, config, opened, environment)
            .await
            .context("the change is made, and its audit line could not be written")?;
    }
    Ok(LedgerChange {
        change,
        ordinal,
        unchanged,
    })
}

/// Whether the ledger has links of the portal that a change is about, where it can be asked by their recipient or job.
async fn is_in_ledger(change: &LinkChange, opened: &OpenedLedger) -> anyhow::Result<bool> {
    Ok(match &change.target {
        ChangeTarget::Job { .. } | ChangeTarget::Recipient { job: Some(_), .. } => true,
        ChangeTarget::Recipient { rid, job: None } | ChangeTarget::Sessions { rid } => {
            !opened.portal().mine(rid, 1).await?.is_empty()
        }
        ChangeTarget::Object { .. } | ChangeTarget::Link { .. } => false,
    })
}

/// Whether this machine's audit log has the line of a change. It was written after the change was asked for, so that earlier lines are
/// passed over.
fn is_recorded(ordinal: u64, change: &LinkChange, log: &ReadLog) -> anyhow::Result<bool> {
    let mut is_recorded = false;
    let number = format!("\"ordinal\":{ordinal},");
    let query = LinkQuery {
        since: change.at.checked_sub(CLOCKS_DIFFER).ok(),
        ..LinkQuery::default()
    };
    log.each_line(&query, |line| {
        is_recorded |= line.contains(&number);
    })?;
    Ok(is_recorded)
}

/// The user who asks: the one before sudo, if there is one.
pub(super) fn by(environment: &Environment) -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| environment.get(name))
        .unwrap_or("operator");
    handout::text::printable(user, MAX_ASKER_BYTES).into_owned()
}

/// Writes the audit line of a change.
async fn record(
    (change, link): (&LinkChange, &RevokedLinkFacts),
    ordinal: u64,
    config: &Config,
    opened: &OpenedLedger,
    environment: &Environment,
) -> anyhow::Result<()> {
    let mut fields = ChangedFields {
        what: "job",
        job: None,
        rid: None,
        bucket: None,
        key: None,
        link_id: None,
        expires_at: None,
        ordinal: Some(ordinal),
        means: None,
        connection: None,
        version: None,
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
            (fields.job, fields.rid) = (link.job.as_deref(), link.rid.as_deref());
            (fields.bucket, fields.key) = (link.bucket.as_deref(), link.key.as_deref());
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
    append_line(line, config, opened, environment).await
}
