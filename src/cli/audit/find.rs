//! `handout audit find`: prints the lines that answer a question, and whose a link is.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use directory::Location;
use handout::audit::find::{LinkQuery, find};
use handout::audit::record::Pseudonyms;
use handout::audit::source::LogSource;
use handout::audit::table;
use handout::audit::verify::{bytes_to_verify, verify_remembered};
use handout::clock;
use handout::config::{Config, LedgerKind};
use handout::environment::Environment;
use handout::job::Recipient;
use handout::keyring::Keyring;
use handout::links::LINK_ID;
use handout::links::portal::token_in;
use presign::explain::Explainer;
use presign::{signature_in, wrapping};

use super::super::arguments::JsonLinesArgs;
use super::super::exit::CommandError;
use super::super::terminal::{TerminalLines, complain};
use super::super::{ConfigArgs, exit};
use super::archive::{ArchiveArgs, ReadArchive, tell_unread};
use super::whose::{IssuedTo, Whose};
use super::{TimeArgs, could_not_read, holds_no_log, own_log};

/// The maximum length of a text from stdin.
const MAX_BYTES: u64 = 256 * 1024;

/// The largest log that is verified before a person is named by it, in bytes: it takes a second or so.
const MAX_VERIFIED_BYTES: u64 = 256 * 1024 * 1024;

pub(super) const HELP: &str = "\
Examples:
  handout audit find --recipient ann@acme.example --since 2026-11-01
  handout audit find --object s3://acme-reports/2026/11/23/a.pdf --csv
  handout audit find --url -   < leaked-url.txt      which line issued this link, and to whom
  handout audit find --url - /mnt/worker-1/audit /mnt/worker-2/audit   < leaked-url.txt

--url takes the link as a mail system has passed it on: replaced by Safe Links, Proofpoint or another service, escaped, broken into lines, or in the middle of a text. Whose the link is stands on stderr, and as \"to\" in the line, if the log, the configuration (rules without a wildcard, jobs of events) or the ledger (mails that were begun) has the address. If the log is damaged, or has more than 256 MiB and was therefore not verified, stderr says that too. With --json, stdout has the lines, and stderr no sentence about the recipient.";

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("question").required(true).multiple(true))]
pub(crate) struct FindArgs {
    /// The logs' directories, for several workers [default: the configuration's]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// A link that this installation issued, or `-` to read it from stdin, which keeps the URL out of the shell history.
    #[arg(long, value_name = "URL|-", group = "question")]
    url: Option<String>,
    /// A link's id: the value of its x-handout parameter.
    #[arg(long, value_name = "ID", group = "question")]
    link_id: Option<String>,
    /// A recipient's address.
    #[arg(long, value_name = "ADDRESS", group = "question", value_parser = Recipient::parse)]
    recipient: Option<Recipient>,
    /// An object.
    #[arg(long, alias = "key", value_name = "s3://BUCKET/KEY", group = "question", value_parser = object)]
    object: Option<(String, String)>,
    /// A job's id.
    #[arg(long, value_name = "JOB", group = "question")]
    job: Option<String>,
    #[command(flatten)]
    time: TimeArgs,
    /// Prints a table for a spreadsheet.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    form: JsonLinesArgs,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

pub(in crate::cli) fn object(place: &str) -> Result<(String, String), String> {
    let parts = place
        .strip_prefix("s3://")
        .and_then(|place| place.split_once('/'));
    let (bucket, key) = parts.ok_or("it is not of the form s3://BUCKET/KEY")?;
    Ok((bucket.to_owned(), key.to_owned()))
}

/// What the arguments ask for.
struct Question {
    query: LinkQuery,
    /// The id in a link, by which it is searched if no line has its signature.
    link_id: Option<String>,
}

/// Prints the lines that match.
pub(super) async fn find_lines(
    arguments: &FindArgs,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let keyring = Keyring::open(&config.secret_key_file())?;
    let names = Pseudonyms::new(&keyring, false);
    let portal = config.portal_url()?;
    let question = arguments.question(portal.as_deref(), &names)?;
    let opening = ReadArchive::of(&arguments.archive, config, environment);
    let archive = Box::pin(opening).await?;
    let logs = Logs::of(&arguments.dirs, config, &archive);
    let asks_whose = arguments.url.is_some() || arguments.link_id.is_some();
    let count = match asks_whose {
        true => {
            let matches = matches_of_link(question, arguments.url.is_some(), &logs)?;
            let whose = Whose::new(config, arguments.recipient.as_ref(), names);
            let count = arguments
                .tell_whose(&matches.lines, whose, environment)
                .await?;
            for place in matches.places {
                tokio::task::block_in_place(|| arguments.tell_trust(place, environment))?;
            }
            count
        }
        false => {
            let mut lines = FoundLines::begin(arguments.csv)?;
            logs.search(&question.query, |line| lines.print(line))?;
            lines.end()?
        }
    };
    archive.close().await;
    logs.tell_unread();
    if count > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    complain(logs.without_match(config));
    Ok(exit::FOUND.into())
}

/// The lines that issued a link: by its signature, or by its id if the signature was changed or cut.
fn matches_of_link(question: Question, is_url: bool, logs: &Logs) -> anyhow::Result<Matches<'_>> {
    let Question { mut query, link_id } = question;
    let mut matches = logs.collect(&query)?;
    if query.link.is_none() && query.link_id.is_some() && is_url && !matches.lines.is_empty() {
        complain(
            "the link has no signature, and anyone can write an id into a URL: these lines are of the link that was issued with this id",
        );
    }
    if matches.lines.is_empty()
        && query.link.is_some()
        && let Some(id) = link_id
    {
        (query.link, query.link_id) = (None, Some(id));
        matches = logs.collect(&query)?;
        // The links to the renditions of a page share a line, which has their id.
        let is_of_renditions = |line: &String| line.contains(r#""ev":"renditions""#);
        if !matches.lines.is_empty() && !matches.lines.iter().all(is_of_renditions) {
            complain(
                "no line has the signature of this link; these have its id: the link was changed, or signed with another secret",
            );
        }
    }
    Ok(matches)
}

/// The lines that match, and the logs that have them.
#[derive(Default)]
struct Matches<'a> {
    lines: Vec<String>,
    places: Vec<&'a LogSource>,
}

impl FindArgs {
    /// Says on stderr if a log is not known to be whole: a line that names a person may be forged.
    fn tell_trust(&self, source: &LogSource, environment: &Environment) -> anyhow::Result<()> {
        let place = &source.place;
        let dir = place.display();
        let bytes = bytes_to_verify(place).with_context(|| could_not_read(place))?;
        if bytes > MAX_VERIFIED_BYTES {
            complain(format_args!(
                "the log in {dir} was not verified, since it has {} MiB: before you rely on these lines, run `handout audit verify`",
                bytes / 1024 / 1024
            ));
            return Ok(());
        }
        let own = own_log(place, &self.config, environment)?;
        let (key, memory) = own.unzip();
        let report = verify_remembered(source, key.as_ref(), memory.as_ref());
        let report = report.with_context(|| could_not_read(place))?;
        if let Some(problem) = report.problems.first() {
            complain(format_args!(
                "the log in {dir} is DAMAGED ({} line {}: {}), so these lines may be forged: `handout audit verify` says what is wrong with it",
                problem.segment, problem.line, problem.reason
            ));
        } else if key.is_none() {
            complain(format_args!(
                "the log in {dir} is whole, but its key is not this configuration's: `handout audit verify --public-key KEY DIR` detects forgery, too"
            ));
        }
        Ok(())
    }

    fn question(&self, portal: Option<&str>, names: &Pseudonyms) -> anyhow::Result<Question> {
        let (link, in_url) = match self.url.as_deref() {
            Some("-") => parts_of_link(&read()?, portal, names)?,
            Some(url) => parts_of_link(url, portal, names)?,
            None => (None, None),
        };
        let recipient = self.recipient.as_ref();
        let query = LinkQuery {
            link_id: match link.is_none() {
                true => self.link_id.clone().or_else(|| in_url.clone()),
                false => self.link_id.clone(),
            },
            link,
            rid: recipient.map(|recipient| names.recipient_id(&recipient.canonical_address())),
            job: self.job.clone(),
            object: self.object.clone(),
            since: self.time.since,
            until: self.time.until,
        };
        let link_id = in_url.filter(|_| self.link_id.is_none());
        Ok(Question { query, link_id })
    }

    /// Prints lines about a link, with the address of its recipient, and a sentence for people; returns their number.
    async fn tell_whose(
        &self,
        lines: &[String],
        mut whose: Whose<'_>,
        environment: &Environment,
    ) -> anyhow::Result<usize> {
        let mut found = FoundLines::begin(self.csv)?;
        let mut first = None;
        for line in lines {
            let Some(issued) = IssuedTo::of(line) else {
                found.print(line)?;
                continue;
            };
            let to = whose.address(&issued, environment).await;
            found.print(&issued.line_with(line, to.as_deref()))?;
            first.get_or_insert_with(|| whose.sentence(&issued, to.as_deref()));
        }
        let count = found.end()?;
        if let Some(sentence) = first.filter(|_| !self.form.json && !self.csv) {
            complain(sentence);
        }
        Ok(count)
    }
}

/// Reads a text with a link in it from stdin.
fn read() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .context("could not read the link from stdin")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The fingerprint of the first signed link in a text, and its link id. One of them is there.
fn parts_of_link(
    text: &str,
    portal: Option<&str>,
    names: &Pseudonyms,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    // The token of a link of the portal takes the place of a signature, in the spelling of mails.
    if let Some(token) = portal.and_then(|portal| token_in(text.trim(), portal)) {
        let token = token.to_ascii_lowercase();
        return Ok((Some(names.fingerprint(&token)), None));
    }
    let found = wrapping::unwrap(text);
    let url = found
        .as_ref()
        .map_or(text.trim(), |found| found.url.expose());
    let fingerprint = signature_in(url).map(|signature| names.fingerprint(&signature));
    let explainer = Explainer {
        servers: &[],
        custom: Some(LINK_ID),
    };
    let link_id = explainer.explain(url, clock::system()).link_id;
    if fingerprint.is_none() && link_id.is_none() {
        let reason = match wrapping::service_of(text) {
            Some(service) => format!(
                "--url: {service} has replaced the link and does not show the original: open it, and give the address to which it leads"
            ),
            None => "--url has no signature in it: give the whole link".to_owned(),
        };
        return Err(CommandError::Usage(reason).into());
    }
    Ok((fingerprint, link_id))
}

/// The audit logs that are searched, one for each worker.
pub(super) struct Logs {
    pub(super) sources: Vec<LogSource>,
    /// Whether the arguments name them.
    pub(super) are_named: bool,
}

impl Logs {
    /// The logs in the directories that the arguments name, or the configuration's, each with its segments in the archive.
    pub(super) fn of(dirs: &[PathBuf], config: &Config, archive: &ReadArchive) -> Self {
        let places = match dirs.is_empty() {
            true => vec![config.audit_place()],
            false => dirs.iter().map(Location::from).collect(),
        };
        let sources = places.into_iter().map(|place| archive.beside(place));
        Self {
            sources: sources.collect(),
            are_named: !dirs.is_empty(),
        }
    }

    /// Says on stderr which lines were not searched, since they were removed.
    pub(super) fn tell_unread(&self) {
        self.sources.iter().for_each(tell_unread);
    }

    pub(super) fn search(
        &self,
        query: &LinkQuery,
        mut found: impl FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut sources = self.sources.iter();
        sources.try_for_each(|source| self.search_in(source, query, &mut found))
    }

    fn search_in(
        &self,
        source: &LogSource,
        query: &LinkQuery,
        found: impl FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let place = &source.place;
        let segments = find(source, query, found);
        let segments = segments.with_context(|| could_not_read(place))?;
        match segments > 0 || !self.are_named {
            true => Ok(()),
            false => Err(CommandError::Found(holds_no_log(place)).into()),
        }
    }

    fn collect(&self, query: &LinkQuery) -> anyhow::Result<Matches<'_>> {
        let mut matches = Matches::default();
        for source in &self.sources {
            let before = matches.lines.len();
            self.search_in(source, query, |line| {
                matches.lines.push(line.to_owned());
                Ok(())
            })?;
            if matches.lines.len() > before {
                matches.places.push(source);
            }
        }
        Ok(matches)
    }

    fn without_match(&self, config: &Config) -> String {
        let places = self.sources.iter();
        let places: Vec<String> = places.map(|it| it.place.display().to_string()).collect();
        let others = match config.ledger.kind == LedgerKind::S3 && self.sources.len() == 1 {
            true => "; each worker has a log of its own: name the directories of all",
            false => "",
        };
        format!("no line matches in {}{others}", places.join(", "))
    }
}

/// Lines on stdout, as JSON or as a table.
pub(super) struct FoundLines {
    out: TerminalLines,
    csv: bool,
    count: usize,
}

impl FoundLines {
    pub(super) fn begin(csv: bool) -> io::Result<Self> {
        let mut out = TerminalLines::new();
        if csv {
            out.csv(&table::heading())?;
        }
        let count = 0;
        Ok(Self { out, csv, count })
    }

    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        self.count += 1;
        match self.csv {
            true => self.out.csv(&table::row(line)?),
            false => self.out.json(line),
        }
    }

    pub(super) fn end(self) -> io::Result<usize> {
        self.out.flush()?;
        Ok(self.count)
    }
}
