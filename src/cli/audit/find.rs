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
use presign::explain::{Explainer, Explanation, UrlLocation};
use presign::{signature_in, wrapping};
use serde::Deserialize;

use super::super::arguments::{JsonLinesArgs, NamedRecipient, named_recipient};
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
    /// A recipient's address, or id.
    #[arg(long, value_name = "ADDRESS|ID", group = "question", value_parser = named_recipient)]
    recipient: Option<NamedRecipient>,
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
    /// What the URL says that it opens.
    opens: Option<UrlLocation>,
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
            let whose = Whose::new(config, arguments.asked(), names);
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
    let others = match config.ledger.kind == LedgerKind::S3 && logs.sources.len() == 1 {
        true => "; each worker has a log of its own: name the directories of all",
        false => "",
    };
    complain(format_args!("{}{others}", logs.without_match()));
    Ok(exit::FOUND.into())
}

/// Prints the lines that match in copies of logs, on a machine without the installation's configuration.
pub(super) fn find_in_copies(arguments: &FindArgs) -> anyhow::Result<ExitCode> {
    let logs = Logs {
        sources: arguments
            .dirs
            .iter()
            .map(Location::from)
            .map(LogSource::from)
            .collect(),
        are_named: true,
    };
    let mut lines = FoundLines::begin(arguments.csv)?;
    logs.search(&arguments.query_of_names(), |line| lines.print(line))?;
    let count = lines.end()?;
    logs.tell_unread();
    if count == 0 {
        complain(logs.without_match());
        return Ok(exit::FOUND.into());
    }
    complain(
        "there is no configuration here, so these lines were not verified, and recipients are known by their ids alone: before you rely on the lines, run `handout audit verify --public-key KEY DIR`",
    );
    Ok(ExitCode::SUCCESS)
}

/// The lines that issued a link: by its signature, or by its id if the signature was changed or cut.
fn matches_of_link(question: Question, is_url: bool, logs: &Logs) -> anyhow::Result<Matches<'_>> {
    let Question {
        mut query,
        link_id,
        opens,
    } = question;
    let mut matches = logs.collect(&query)?;
    if query.link.is_none() && query.link_id.is_some() && is_url && !matches.lines.is_empty() {
        complain(
            "the link has no signature, and anyone can write an id into a URL: these lines are of the link that was issued with this id",
        );
        tell_other_object(opens.as_ref(), &matches.lines);
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
            tell_other_object(opens.as_ref(), &matches.lines);
        }
    }
    Ok(matches)
}

/// Says on stderr if a URL opens another object than the lines with its id are about.
fn tell_other_object(opens: Option<&UrlLocation>, lines: &[String]) {
    let line = lines
        .first()
        .and_then(|line| serde_json::from_str(line).ok());
    let object: Option<IssuedObject> = line;
    let (Some(opens), Some(object)) = (opens, object) else {
        return;
    };
    // Elsewhere the host may be a distribution's, or the bucket be in another part of the URL.
    let is_bucket_known = opens.host.contains(".amazonaws.com") || opens.connection.is_some();
    let is_same = |bucket: &Option<String>, key: &str| {
        // A distribution's path may lack the first folders of the key, and its host names no bucket.
        let before = object.key.strip_suffix(key);
        let is_key = before.is_some_and(|before| before.is_empty() || before.ends_with('/'));
        let bucket = bucket.as_ref().filter(|_| is_bucket_known);
        is_key && bucket.is_none_or(|bucket| *bucket == object.bucket)
    };
    let otherwise = opens.otherwise.as_ref();
    if is_same(&opens.bucket, &opens.key)
        || otherwise.is_some_and(|other| is_same(&other.bucket, &other.key))
    {
        return;
    }
    complain(format_args!(
        "the URL opens another object, {}: its id was issued with a link to s3://{}/{}",
        opens.in_words(),
        object.bucket,
        object.key
    ));
}

/// The object of a line that issued a link.
#[derive(Debug, Deserialize)]
struct IssuedObject {
    bucket: String,
    key: String,
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

    /// The recipient that is asked for by an address.
    fn asked(&self) -> Option<&Recipient> {
        self.recipient.as_ref()?.address()
    }

    /// Whether copies of the logs answer the question: addresses and signatures stand in a log under the installation's key.
    pub(super) fn is_of_copies(&self) -> bool {
        !self.dirs.is_empty()
            && self.url.is_none()
            && self.asked().is_none()
            && self.archive.archive.is_none()
            && !self.config.is_named()
    }

    /// The part of the question that the arguments answer alone.
    fn query_of_names(&self) -> LinkQuery {
        LinkQuery {
            link_id: self.link_id.clone(),
            link: None,
            rid: match &self.recipient {
                Some(NamedRecipient::Id(rid)) => Some(rid.clone()),
                Some(NamedRecipient::Address(_)) | None => None,
            },
            job: self.job.clone(),
            object: self.object.clone(),
            since: self.time.since,
            until: self.time.until,
        }
    }

    fn question(&self, portal: Option<&str>, names: &Pseudonyms) -> anyhow::Result<Question> {
        let LinkParts {
            fingerprint: link,
            link_id: in_url,
            opens,
        } = match self.url.as_deref() {
            Some("-") => LinkParts::of(&read()?, portal, names)?,
            Some(url) => LinkParts::of(url, portal, names)?,
            None => LinkParts::default(),
        };
        let recipient = self.recipient.as_ref();
        let link_id = self.link_id.clone();
        let query = LinkQuery {
            link_id: link_id.or_else(|| in_url.clone().filter(|_| link.is_none())),
            link,
            rid: recipient.map(|recipient| recipient.rid(names)),
            ..self.query_of_names()
        };
        let link_id = in_url.filter(|_| self.link_id.is_none());
        Ok(Question {
            query,
            link_id,
            opens,
        })
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

/// What the first signed link in a text says of itself. One of fingerprint and id is there.
#[derive(Debug, Default)]
struct LinkParts {
    /// The fingerprint of its signature.
    fingerprint: Option<String>,
    link_id: Option<String>,
    opens: Option<UrlLocation>,
}

impl LinkParts {
    fn of(text: &str, portal: Option<&str>, names: &Pseudonyms) -> anyhow::Result<Self> {
        // The token of a link of the portal takes the place of a signature, in the spelling of mails.
        if let Some(token) = portal.and_then(|portal| token_in(text.trim(), portal)) {
            let token = token.to_ascii_lowercase();
            return Ok(Self {
                fingerprint: Some(names.fingerprint(&token)),
                ..Self::default()
            });
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
        let Explanation { link_id, opens, .. } = explainer.explain(url, clock::system());
        if fingerprint.is_none() && link_id.is_none() {
            let reason = match wrapping::service_of(text) {
                Some(service) => format!(
                    "--url: {service} has replaced the link and does not show the original: open it, and give the address to which it leads"
                ),
                None => "--url has no signature in it: give the whole link".to_owned(),
            };
            return Err(CommandError::Usage(reason).into());
        }
        Ok(Self {
            fingerprint,
            link_id,
            opens,
        })
    }
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

    fn without_match(&self) -> String {
        let places = self.sources.iter();
        let places: Vec<String> = places.map(|it| it.place.display().to_string()).collect();
        format!("no line matches in {}", places.join(", "))
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
