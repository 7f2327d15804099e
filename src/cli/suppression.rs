//! `handout suppression`: who gets no mail, and why; suppressing a recipient, and lifting it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use handout::assemble::{self, OpenedLedger};
use handout::audit::record::{SuppressionChange, suppression as change_line};
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::ledger::people::{
    PeopleRecords, PersonDetail, PersonKind, PersonRecord, Suppressed, standing, words_behind_name,
};
use handout::person_token::PersonKeys;
use jiff::Timestamp;
use serde::Serialize;

use super::arguments::{JsonArgs, named_recipient, recipient_id};
use super::audit::append_line;
use super::exit::CommandError;
use super::schemas::OutputSchema;
use super::{ConfigArgs, exit, say, say_json};

#[derive(Debug, Subcommand)]
pub(crate) enum SuppressionCommand {
    /// Lists the suppressed recipients by their ids: what suppresses them, since when and until when.
    #[command(after_help = "Example:\n  handout suppression list")]
    List {
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Suppresses a recipient: no job mails the address until it is removed from the list.
    #[command(
        after_help = "Example:\n  handout suppression add ann@acme.example --reason 'asked by telephone'"
    )]
    Add(SuppressionChangeArgs),
    /// Lifts what suppresses a recipient: bounces, complaints, and what an operator said. A list that the recipient left stays left, unless
    /// --list names it.
    #[command(
        after_help = "Examples:\n  handout suppression remove ann@acme.example --reason 'the mailbox works again'\n  handout suppression remove ann@acme.example --list weekly.acme.example --reason 'asked to get it again'"
    )]
    Remove {
        #[command(flatten)]
        change: SuppressionChangeArgs,
        /// The id of a list that the recipient left and wants again (`email.list_id` of a job, or `mail.list.id`). Nothing else is lifted.
        #[arg(long, value_name = "ID")]
        list: Option<String>,
    },
    /// Shows all records of a recipient.
    #[command(after_help = "Example:\n  handout suppression show ann@acme.example")]
    Show {
        #[command(flatten)]
        person: PersonArgs,
        #[command(flatten)]
        form: JsonArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PersonArgs {
    /// The address, or the recipient's id.
    #[arg(value_name = "ADDRESS|ID")]
    address: Option<String>,
    /// The recipient's id, as in the audit log.
    #[arg(long, value_name = "ID")]
    rid: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SuppressionChangeArgs {
    #[command(flatten)]
    person: PersonArgs,
    /// The reason, which is kept with the record.
    #[arg(long, alias = "why", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

impl PersonArgs {
    /// The recipient as the command names it: an answer about an address repeats the address.
    fn typed(&self) -> &str {
        let typed = self.address.as_deref().or(self.rid.as_deref());
        typed.unwrap_or_default()
    }

    fn rid(&self, opened: &OpenedLedger) -> anyhow::Result<String> {
        if let Some(rid) = &self.rid {
            let id = recipient_id(rid).ok_or_else(|| {
                CommandError::Usage(format!(
                    "--rid {rid} is no recipient's id: an id has 32 hexadecimal digits"
                ))
            });
            return Ok(id?);
        }
        let address = self.address.as_deref().unwrap_or_default();
        let named = named_recipient(address)
            .map_err(|error| CommandError::Usage(format!("the address {address} {error}")))?;
        Ok(named.rid(&opened.names))
    }
}

/// Runs the command.
pub(super) async fn suppression(
    command: SuppressionCommand,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        SuppressionCommand::List {
            form: JsonArgs { json },
            config,
        } => list(&config.load(environment)?, environment, json).await,
        SuppressionCommand::Add(arguments) => {
            change(&arguments, PersonKind::Operator, None, environment).await
        }
        SuppressionCommand::Remove {
            change: arguments,
            list,
        } => change(&arguments, PersonKind::Lifted, list.as_deref(), environment).await,
        SuppressionCommand::Show {
            person,
            form: JsonArgs { json },
            config,
        } => show(&config.load(environment)?, environment, &person, json).await,
    }
}

async fn list(config: &Config, environment: &Environment, json: bool) -> anyhow::Result<ExitCode> {
    let opened = assemble::open_ledger(config, environment, clock::system).await?;
    let all = PeopleRecords::of(&*opened.ledger).all().await;
    opened.close().await;
    let now = clock::system();
    let mut rows = Vec::new();
    for (rid, records) in &all? {
        if let Some(suppressed) = standing(records, None, now) {
            let row = (
                rid.clone(),
                suppressed.kind,
                suppressed.since,
                suppressed.until,
                None,
            );
            rows.push(row);
        }
        for list in lists_left(records, now) {
            let left = records.iter().rfind(|record| {
                record.kind == PersonKind::Left && record.tag.as_ref() == Some(&list)
            });
            if let Some(left) = left {
                rows.push((rid.clone(), left.kind, left.at, None, Some(list)));
            }
        }
    }
    if json {
        let suppressed = rows
            .into_iter()
            .map(|(rid, kind, since, until, list)| ShownSuppressed {
                rid,
                kind,
                since,
                expires_at: until,
                until,
                list,
            });
        say_json(&SuppressionList {
            suppressed: suppressed.collect(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for (rid, kind, since, until, list) in &rows {
        let until = until.map_or_else(
            || "until it is lifted".to_owned(),
            |at| format!("until {at}"),
        );
        let list = list
            .as_ref()
            .map_or_else(String::new, |list| format!("\tlist {list}"));
        say(format_args!("{rid}\t{kind}\tsince {since}\t{until}{list}"))?;
    }
    if rows.is_empty() {
        say("No recipient is suppressed.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tags of the lists that a recipient left, each once.
fn lists_left(records: &[PersonRecord], now: Timestamp) -> BTreeSet<String> {
    let left = records
        .iter()
        .filter(|record| record.kind == PersonKind::Left);
    let lists = left.filter_map(|record| record.tag.clone());
    lists
        .filter(|list| {
            // Of the list's own records: what suppresses for all lists stands before it.
            let of_list: Vec<PersonRecord> = records
                .iter()
                .filter(|record| record.tag.as_ref() == Some(list))
                .filter(|record| matches!(record.kind, PersonKind::Left | PersonKind::Lifted))
                .cloned()
                .collect();
            standing(&of_list, Some(list), now).is_some()
        })
        .collect()
}

async fn change(
    arguments: &SuppressionChangeArgs,
    kind: PersonKind,
    list: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load(environment)?;
    config.must_suppress()?;
    // What is known of addresses before the first job is recorded before it.
    let opening = assemble::open_or_make_ledger(&config, environment, clock::system);
    let opened = Box::pin(opening).await?;
    let changed = record(arguments, kind, list, (&config, &opened), environment).await;
    opened.close().await;
    let changed = changed?;
    match arguments.form.json {
        true => say_json(&changed)?,
        false => say(&changed.words)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The suppressed recipients, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct SuppressionList {
    suppressed: Vec<ShownSuppressed>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownSuppressed {
    rid: String,
    /// What suppresses the recipient.
    kind: PersonKind,
    #[schemars(with = "String")]
    since: Timestamp,
    /// When it ends; `null` for what stands until it is lifted.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
    /// The name of `expires_at` in earlier versions.
    #[schemars(with = "Option<String>")]
    until: Option<Timestamp>,
    /// The tag of the list that the recipient left.
    list: Option<String>,
}

/// All records of a recipient, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownPerson<'a> {
    rid: &'a str,
    /// What suppresses the recipient, in words; `null` if nothing does.
    suppressed: Option<String>,
    records: Vec<ShownPersonRecord<'a>>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
struct ShownPersonRecord<'a> {
    #[schemars(with = "String")]
    at: Timestamp,
    kind: PersonKind,
    /// The tag of a list, of a record about one.
    tag: Option<String>,
    detail: &'a PersonDetail,
}

/// A change to what suppresses a recipient, as `--json` prints it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct SuppressionReport {
    rid: String,
    /// The kind of the record that was added: `operator` or `lifted`.
    kind: PersonKind,
    /// What suppressed the recipient before, in words.
    before: Option<String>,
    /// The tags of the lists that the recipient had left before.
    lists: BTreeSet<String>,
    /// The sentence for people.
    words: String,
}

async fn record(
    arguments: &SuppressionChangeArgs,
    kind: PersonKind,
    list: Option<&str>,
    (config, opened): (&Config, &OpenedLedger),
    environment: &Environment,
) -> anyhow::Result<SuppressionReport> {
    let rid = arguments.person.rid(opened)?;
    let people = PeopleRecords::of(&*opened.ledger);
    let now = clock::system();
    let tag = list.map(|list| PersonKeys::new(&opened.keyring).list_tag(list));
    let of_list = tag.map(|tag| tag.to_string());
    let records = people.of_person(&rid).await?;
    let before = standing(&records, None, now);
    let lists = lists_left(&records, now);
    if let (Some(list), Some(tag)) = (list, &of_list)
        && !lists.contains(tag)
    {
        let who = arguments.person.typed();
        let reason = format!("{who} has not left the list {list}");
        return Err(CommandError::Found(reason).into());
    }
    let by = super::revoke::by(environment);
    let reason = handout::text::printable(&arguments.reason, 300).into_owned();
    let line = change_line(&SuppressionChange {
        rid: &rid,
        change: if kind == PersonKind::Lifted {
            "lifted"
        } else {
            "added"
        },
        list: of_list.as_deref(),
        by: &by,
        reason: &reason,
    });
    // Before the change: a suppression without a line would have no author in the log.
    append_line(line, config, opened, environment).await?;
    let detail = PersonDetail {
        source: "operator".to_owned(),
        words: reason,
        by: Some(by),
        ..PersonDetail::default()
    };
    let record = PersonRecord::by_operator(now, kind, tag);
    people.add(&rid, &record, &detail).await?;
    let stay = match lists.len() {
        0 => String::new(),
        1 => "; a list that the recipient left stays left: --list lifts it".to_owned(),
        count => format!("; {count} lists that the recipient left stay left: --list lifts one"),
    };
    let words_before = before.map(|before| before.words());
    let words = match (kind, &words_before, list) {
        (PersonKind::Lifted, _, Some(list)) => {
            format!("{rid} gets the mails of the list {list} again")
        }
        (PersonKind::Lifted, Some(before), None) => {
            let before = words_behind_name(before);
            format!("{rid} is not suppressed any more ({before}){stay}")
        }
        (PersonKind::Lifted, None, None) => format!("{rid} was not suppressed{stay}"),
        _ => format!("{rid} is suppressed from now on"),
    };
    Ok(SuppressionReport {
        rid,
        kind,
        before: words_before,
        lists,
        words,
    })
}

async fn show(
    config: &Config,
    environment: &Environment,
    person: &PersonArgs,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let opened = assemble::open_ledger(config, environment, clock::system).await?;
    let shown = async {
        let rid = person.rid(&opened)?;
        let people = PeopleRecords::of(&*opened.ledger);
        let records = people.of_person(&rid).await?;
        let mut rows = Vec::new();
        for record in records {
            let detail = people.detail(&rid, &record).await?.unwrap_or_default();
            rows.push((record, detail));
        }
        anyhow::Ok((rid, rows))
    };
    let shown = shown.await;
    opened.close().await;
    let (rid, rows) = shown?;
    let records: Vec<PersonRecord> = rows.iter().map(|(record, _)| record.clone()).collect();
    let now = standing(&records, None, clock::system());
    if json {
        let records = rows.iter().map(|(record, detail)| ShownPersonRecord {
            at: record.at,
            kind: record.kind,
            tag: record.tag.clone(),
            detail,
        });
        say_json(&ShownPerson {
            rid: &rid,
            suppressed: now.as_ref().map(Suppressed::words),
            records: records.collect(),
        })?;
    } else {
        let words = now
            .as_ref()
            .map_or_else(|| "not suppressed".to_owned(), |now| now.words());
        say(format_args!("{rid}: {words}"))?;
        for list in lists_left(&records, clock::system()) {
            say(format_args!("{rid}: has left the list with the tag {list}"))?;
        }
        for (PersonRecord { at, kind, .. }, detail) in &rows {
            let job = detail.job.as_deref().unwrap_or("-");
            let status = detail.status.as_deref().unwrap_or("-");
            let (source, words) = (&detail.source, &detail.words);
            say(format_args!(
                "{at}\t{kind}\t{source}\t{job}\t{status}\t{words}"
            ))?;
        }
    }
    Ok(if rows.is_empty() {
        exit::FOUND.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![
        OutputSchema::of::<SuppressionList>("suppression-list", "handout suppression list"),
        OutputSchema::of::<ShownPerson<'static>>("suppression-show", "handout suppression show"),
        OutputSchema::of::<SuppressionReport>("suppression-change", "handout suppression add"),
    ]
}
