//! `handout job preview`: writes what a job would send to files, and prints its numbers.

mod parts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use directory::Directory;
use handout::assemble;
use handout::assemble::{OpenError, Services, Serving};
use handout::audit::record::Pseudonyms;
use handout::clock;
use handout::config::{Config, LedgerKind, QueueKind, ResultsConfig, Transport};
use handout::environment::Environment;
use handout::error::JobError;
use handout::job::{EmailOrder, Recipient};
use handout::keyring::Keyring;
use handout::ledger::people::PeopleRecords;
use handout::links::Unavailable;
use handout::person_token::PersonKeys;
use handout::plan::Audience;
use handout::plan::{self, Bound, KeptOut, PlanError, Refusal};
use handout::preview::{Preview, PreviewedMail};
use handout::render::MailSettings;
use handout::run::JobRun;
use handout::text::{chain, counted};
use serde::Serialize;
use serde_json::json;

use super::{JobArgs, run_of_body};
use crate::cli::arguments::{JsonArgs, count};
use crate::cli::schemas::OutputSchema;
use crate::cli::{say, say_json};

/// How much of a mail's HTML Gmail shows, in bytes; the rest is hidden behind a link.
const GMAIL_CLIPS_AT: usize = 102_000;

/// The maximum number of listed objects without a link, and of listed recipients that the rules deny.
const LISTED: usize = 100;

/// The maximum number of gallery pages that are written.
const MAX_PAGES: usize = 3;

/// The maximum length of the part of a file name that is derived from an address, in bytes.
const MAX_SLUG_BYTES: usize = 60;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 1: the job would be rejected. Of a job in parts, that is so if none of the previewed recipients would get a mail, and the part of one at least would be rejected.

Examples:
  handout job preview job.json --out preview
  firefox $(handout job preview job.json --paths | grep -m 1 html)
  handout job preview job.json --json | jq '.mails[] | select(.more > 0)'")]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    output: PreviewOutput,
}

/// What a preview writes and prints.
#[derive(Debug, Args)]
pub(crate) struct PreviewOutput {
    /// The directory for the mails and pages.
    #[arg(long, value_name = "DIR", default_value = "preview")]
    out: PathBuf,
    /// The number of recipients whose mails are rendered; the others are only checked against the rules.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count)]
    mails: usize,
    /// Prints only the paths of the written files, one per line.
    #[arg(long, alias = "open", conflicts_with = "json")]
    paths: bool,
    #[command(flatten)]
    form: JsonArgs,
}

/// The report of a preview.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct PreviewReport {
    job: String,
    links: u64,
    /// Whether each recipient gets links of their own.
    per_recipient: bool,
    recipients: usize,
    #[schemars(with = "String")]
    expires_at: jiff::Timestamp,
    /// What limits the lifetime of the links.
    bound: Bound,
    /// The same in words.
    because: &'static str,
    unavailable: u64,
    /// The first objects without a link.
    not_linked: Vec<NotLinked>,
    mails: Vec<PreviewMail>,
    /// The recipients who would get no mail, and why; `null` where the ledger could not be asked.
    suppressed: Option<Vec<SuppressedReader>>,
    /// Where a page or manifest of all files is published that the job does not request, because a mail has no room for all
    /// files.
    supplement: Option<String>,
    pages: usize,
    /// The written pages.
    page_files: Vec<PathBuf>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct SuppressedReader {
    to: String,
    reason: String,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct NotLinked {
    key: String,
    reason: String,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct PreviewMail {
    to: String,
    /// The recipient's id in logs and results; none where the secret cannot be read.
    rid: Option<String>,
    subject: String,
    /// The number of files that the mail shows, and of files that it only counts.
    shown: u64,
    more: u64,
    text_bytes: usize,
    /// In bytes after transfer encoding.
    html_bytes: usize,
    html_budget_bytes: usize,
    /// The complete message.
    letter_bytes: usize,
    /// Whether Gmail would clip it.
    clipped: bool,
    files: [PathBuf; 3],
}

/// Previews the job of a file.
pub(super) async fn show(
    arguments: &PreviewArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let body = arguments.job.read()?;
    let config = arguments.job.config.load(environment)?;
    Box::pin(show_body(&body, &config, environment, &arguments.output)).await
}

/// Writes a preview and prints a summary.
pub(in crate::cli) async fn show_body(
    body: &str,
    config: &Config,
    environment: &Environment,
    arguments: &PreviewOutput,
) -> anyhow::Result<ExitCode> {
    let run = run_of_body(body)?;
    let previewing = Previewing::open(config, environment).await?;
    if run.job.is_in_parts() {
        let shown = Box::pin(parts::show(
            &run,
            &previewing.services,
            (config, environment),
            arguments,
        ))
        .await;
        previewing.close().await;
        return shown;
    }
    let report = report(&run, &previewing.services, config, arguments).await;
    if let Err(error) = &report {
        tell_refusal(&run, &previewing.services, error, arguments)?;
    }
    previewing.close().await;
    let mut report = report?;
    let email = run.job.email.as_ref();
    let people = email.iter().flat_map(|email| email.recipients()).collect();
    report.suppressed = Box::pin(suppressed(email, people, config, environment)).await;
    if arguments.form.json {
        say_json(&report)?;
    } else if arguments.paths {
        let mails = report.mails.iter().flat_map(|mail| &mail.files);
        for path in mails.chain(&report.page_files) {
            say(path.display())?;
        }
    } else {
        tell(&report, &arguments.out)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn report(
    run: &JobRun,
    services: &Services,
    config: &Config,
    arguments: &PreviewOutput,
) -> anyhow::Result<PreviewReport> {
    let preview = Preview::begin(run, services).await?;
    let trial = preview.trial().await?;
    let files = Files::make(&arguments.out, config)?;
    let not_linked = preview.first_unavailable(LISTED)?.into_iter();
    let mut mails = Vec::new();
    for mail in trial.mails().take(arguments.mails) {
        mails.push(files.write_mail(mails.len() + 1, &mail?)?);
    }
    let mut page_files = Vec::new();
    let pages = trial.pages(MAX_PAGES).await?;
    for page in pages.into_iter().take(MAX_PAGES) {
        let name = format!("gallery-{}", page.file_name);
        page_files.push(files.write(&name, page.html.as_bytes())?);
    }
    let plan = &preview.plan;
    let audiences = plan.audiences();
    Ok(PreviewReport {
        job: run.job.id.to_string(),
        links: preview.links(),
        per_recipient: matches!(audiences[..], [Audience::Recipient(_), ..]),
        recipients: plan.email().map_or(0, |email| email.recipients().count()),
        expires_at: plan.lifetime.expires_at,
        bound: plan.lifetime.bound,
        because: because(plan.lifetime.bound),
        unavailable: preview.unavailable(),
        not_linked: not_linked.map(NotLinked::from).collect(),
        mails,
        suppressed: None,
        supplement: plan.supplement().map(ToString::to_string),
        pages: preview.page_count(),
        page_files,
    })
}

/// The recipients of a job whom the ledger suppresses; `None` if it cannot be asked, as where no job was ever run.
async fn suppressed(
    email: Option<&EmailOrder>,
    people: Vec<&Recipient>,
    config: &Config,
    environment: &Environment,
) -> Option<Vec<SuppressedReader>> {
    let email = email.filter(|_| config.suppresses())?;
    let opened = assemble::open_ledger(config, environment, clock::system)
        .await
        .ok()?;
    let default = config.mailing_list().ok().and_then(|list| list.id);
    let list = email.list_id.as_ref().or(default.as_ref());
    let list = list.map(|list| PersonKeys::new(&opened.keyring).list_tag(list.id()));
    let records = PeopleRecords::of(&*opened.ledger);
    let mut found = Some(Vec::new());
    for reader in people {
        let rid = opened.names.recipient_id(&reader.canonical_address());
        match records.suppressed(&rid, list, clock::system()).await {
            Ok(None) => {}
            Ok(Some(suppressed)) => found.iter_mut().for_each(|found| {
                found.push(SuppressedReader {
                    to: reader.address.to_string(),
                    reason: suppressed.words(),
                });
            }),
            Err(_) => {
                found = None;
                break;
            }
        }
    }
    opened.close().await;
    found
}

impl From<Unavailable> for NotLinked {
    fn from(unavailable: Unavailable) -> Self {
        Self {
            key: unavailable.key,
            reason: unavailable.reason.to_string(),
        }
    }
}

const fn because(bound: Bound) -> &'static str {
    match bound {
        Bound::Asked => "as asked",
        Bound::Credentials => "the credentials that sign end then",
        Bound::Lifecycle => "a lifecycle rule of the bucket deletes the first of the files then",
        Bound::Policy => "the [[allow]] rule allows no more",
        Bound::S3 => "S3 allows no more",
        Bound::Cloudfront => "CloudFront cannot count further",
        Bound::Portal => "the portal allows no more",
    }
}

fn tell(report: &PreviewReport, out: &Path) -> anyhow::Result<()> {
    let whose = match (report.per_recipient, report.recipients) {
        (true, 0) | (false, _) => "for all".to_owned(),
        (true, 1) => "for one recipient".to_owned(),
        (true, count) => format!("for each of {count} recipients"),
    };
    say(format_args!(
        "{} would make {} {whose}",
        report.job,
        counted(report.links, "link")
    ))?;
    say(format_args!(
        "  until        {} ({})",
        report.expires_at, report.because
    ))?;
    if report.unavailable > 0 {
        say(format_args!("  unavailable  {}", report.unavailable))?;
    }
    for NotLinked { key, reason } in &report.not_linked {
        say(format_args!("    {key}: {reason}"))?;
    }
    match report.mails.as_slice() {
        [] => {}
        [mail] => tell_mail(mail)?,
        mails => tell_mails(mails)?,
    }
    for SuppressedReader { to, reason } in report.suppressed.iter().flatten() {
        say(format_args!("  no mail      {to}: {reason}"))?;
    }
    let made = report.mails.len();
    if made < report.recipients {
        say(format_args!(
            "  mails        {made} of {}; --mails {} makes all of them",
            report.recipients, report.recipients
        ))?;
    }
    if let Some(place) = &report.supplement {
        say(format_args!(
            "  publishes    all files to {place} and links them, since a mail has no room for all"
        ))?;
    }
    say(format_args!("  pages        {}", report.pages))?;
    say(format_args!(
        "Look at {}. The links there are examples and open nothing.",
        out.display()
    ))?;
    Ok(())
}

fn tell_mail(mail: &PreviewMail) -> std::io::Result<()> {
    let risk = if mail.clipped {
        ": WOULD BE CLIPPED by Gmail"
    } else {
        ""
    };
    say(format_args!(
        "  mail         {}  {:?}",
        mail.to, mail.subject
    ))?;
    say(format_args!(
        "    {} shown, {} counted; HTML {} bytes, {} % of what fits{risk}; text {} bytes, whole mail {} bytes",
        counted(mail.shown, "file"),
        mail.more,
        mail.html_bytes,
        mail.html_bytes * 100 / mail.html_budget_bytes,
        mail.text_bytes,
        mail.letter_bytes
    ))
}

/// A table of mails, a line for each.
fn tell_mails(mails: &[PreviewMail]) -> std::io::Result<()> {
    let width = mails.iter().map(|mail| mail.to.chars().count()).max();
    let width = width.unwrap_or_default().max("recipient".len());
    let head = "files  counted  of HTML        mail";
    say(format_args!("  {:<width$}  {head}  subject", "recipient"))?;
    for mail in mails {
        let used = mail.html_bytes * 100 / mail.html_budget_bytes;
        let risk = if mail.clipped { " CLIPPED" } else { "" };
        say(format_args!(
            "  {:<width$}  {:>5}  {:>7}  {used:>5} %  {:>10}  {}{risk}",
            mail.to, mail.shown, mail.more, mail.letter_bytes, mail.subject
        ))?;
    }
    Ok(())
}

/// Lists the recipients that the rules deny, if that is why the job would be rejected; the reason itself is the command's error.
fn tell_refusal(
    run: &JobRun,
    services: &Services,
    error: &anyhow::Error,
    arguments: &PreviewOutput,
) -> anyhow::Result<()> {
    let Some(JobError::Plan(PlanError::Refused(Refusal::Recipient { .. }))) = error.downcast_ref()
    else {
        return Ok(());
    };
    let kept_out = plan::kept_out(&run.job, &services.signing.policy).unwrap_or_default();
    if arguments.form.json {
        let rules: Vec<_> = kept_out.iter().map(kept_out_as_json).collect();
        say_json(&json!({ "job": run.job.id, "refused": chain(&**error), "rules": rules }))?;
    } else if !arguments.paths {
        say(format_args!("{} would be rejected", run.job.id))?;
        for KeptOut {
            rule,
            place,
            recipients,
        } in &kept_out
        {
            say(format_args!(
                "  allow[{rule}]     {place} is not for {}",
                addresses(recipients).join(", ")
            ))?;
        }
    }
    Ok(())
}

fn kept_out_as_json(kept_out: &KeptOut) -> serde_json::Value {
    json!({
        "rule": kept_out.rule,
        "place": kept_out.place,
        "count": kept_out.recipients.len(),
        "recipients": addresses(&kept_out.recipients),
    })
}

/// The first addresses; the author of the job knows them already.
fn addresses(recipients: &[Recipient]) -> Vec<String> {
    let shown = recipients.iter().take(LISTED);
    let mut shown: Vec<String> = shown.map(|person| person.address.to_string()).collect();
    if recipients.len() > LISTED {
        shown.push(format!("and {} more", recipients.len() - LISTED));
    }
    shown
}

/// The directory that a preview is written into.
struct Files<'a> {
    out: &'a Path,
    directory: Directory,
    /// The installation's own, which a preview does not use for links.
    names: Option<Pseudonyms>,
}

impl<'a> Files<'a> {
    fn make(out: &'a Path, config: &Config) -> anyhow::Result<Self> {
        // They contain addresses and live links: another user's symbolic link must not redirect them.
        let made = Directory::make_own(out);
        let directory = made.map_err(|source| OpenError::Directory {
            path: out.to_owned(),
            source,
        })?;
        Ok(Self {
            out,
            directory,
            names: names_of(config),
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.out.join(name);
        self.directory
            .replace(name, bytes, 0o600)
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }

    fn rid(&self, recipient: &Recipient) -> Option<String> {
        let names = self.names.as_ref()?;
        Some(names.recipient_id(&recipient.canonical_address()))
    }

    fn write_mail(&self, number: usize, mail: &PreviewedMail) -> anyhow::Result<PreviewMail> {
        let address = mail.recipient.address.to_string();
        let name = format!("mail-{number:04}-{}", slug(&address));
        let built = &mail.built;
        let (text, html) = (&built.mail.text, &built.mail.html);
        let files = [
            self.write(&format!("{name}.html"), built.mail.page().as_bytes())?,
            self.write(&format!("{name}.txt"), text.as_bytes())?,
            self.write(&format!("{name}.eml"), &mail.letter.bytes)?,
        ];
        Ok(PreviewMail {
            to: address,
            rid: self.rid(&mail.recipient),
            subject: built.mail.subject.clone(),
            shown: built.shown,
            more: built.more,
            text_bytes: text.len(),
            html_bytes: built.html_bytes,
            html_budget_bytes: MailSettings::HTML_BUDGET_BYTES,
            letter_bytes: mail.letter.bytes.len(),
            clipped: built.html_bytes.max(html.len()) > GMAIL_CLIPS_AT,
            files,
        })
    }
}

/// What names recipients in this installation's logs: none before the first start, since a preview makes no secret, and none for a
/// user who may not read the secret.
fn names_of(config: &Config) -> Option<Pseudonyms> {
    let file = config.secret_key_file();
    let keyring = file.exists().then(|| Keyring::open(&file))?.ok()?;
    Some(Pseudonyms::new(&keyring, false))
}

/// An address as a part of a file name: no slash, no leading dot, no characters that a shell interprets.
fn slug(address: &str) -> String {
    let mut slug = String::new();
    for c in address.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' => slug.push(c.to_ascii_lowercase()),
            _ => slug.push('_'),
        }
    }
    slug.truncate(MAX_SLUG_BYTES);
    slug
}

/// A preview reads the store and writes nothing to the installation: its ledger and audit log are in a temporary directory.
pub(crate) struct Previewing {
    pub(crate) services: Services,
    /// Boxed: it is large, and so would be each future that holds it.
    opened: Box<assemble::Opened>,
    _scratch: tempfile::TempDir,
}

impl Previewing {
    pub(crate) async fn open(config: &Config, environment: &Environment) -> anyhow::Result<Self> {
        // The root file system of a container may be read-only, except for its volume.
        let scratch = tempfile::tempdir().or_else(|_| tempfile::tempdir_in(&config.state_dir));
        let scratch = scratch.context(
            "could not make a temporary directory: set TMPDIR or state_dir to one that can be written",
        )?;
        let mut config = config.clone();
        // A separate secret: this command runs an embedded endpoint of its own, whose keys are derived from it.
        config.secret_key_file = None;
        config.state_dir = scratch.path().to_owned();
        config.audit.dir = None;
        config.audit.checkpoint_key_file = None;
        // No mails or results are sent, and a relay's password may be readable only by the service.
        config.mail.transport = Transport::Outbox;
        config.results = ResultsConfig::default();
        config.mail.outbox_dir = None;
        config.queue.kind = QueueKind::Sqlite;
        config.ledger.kind = LedgerKind::Sqlite;
        let opened = assemble::open(&config, environment, clock::system, Serving::Itself).await?;
        Ok(Self {
            services: opened.services.clone(),
            opened: Box::new(opened),
            _scratch: scratch,
        })
    }

    pub(crate) async fn close(self) {
        drop(self.services);
        self.opened.close().await;
    }
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![
        OutputSchema::of::<PreviewReport>("job-preview", "handout job preview"),
        parts::output(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_address_makes_a_harmless_file_name() {
        assert_eq!(slug("Ann.Bell@acme.example"), "ann.bell_acme.example");
        assert_eq!(
            slug("\"../../etc/$(x)\"@a.example"),
            "_.._.._etc___x___a.example"
        );
        assert_eq!(slug(&"ü".repeat(100)), "_".repeat(60));
    }
}
