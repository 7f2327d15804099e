//! The address behind a recipient's id, where the log, the configuration or the ledger has it.

use std::collections::{HashMap, HashSet};

use handout::assemble::{self, OpenError};
use handout::audit::record::Pseudonyms;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::job::envelope::{self, EventRule};
use handout::job::{Job, JobId, Recipient};
use handout::ledger::{Kind, Ledger};
use handout::links::saved;
use handout::mounted;
use handout::plan::Audience;
use handout::text::chain;
use serde::Deserialize;
use serde_json::Value;

use super::super::terminal::complain;

/// The fields of a line about a link that say whose it is.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct IssuedTo {
    pub(in crate::cli) job: String,
    pub(in crate::cli) rid: String,
    /// The address, in a log that names recipients in clear.
    pub(in crate::cli) to: Option<String>,
}

impl IssuedTo {
    /// `None` for a line that is not about a recipient.
    pub(in crate::cli) fn of(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// The line, with the address if it has none.
    pub(in crate::cli) fn line_with(&self, line: &str, address: Option<&str>) -> String {
        match (address, line.strip_suffix('}')) {
            (Some(address), Some(fields)) if self.to.is_none() => {
                format!("{fields},\"to\":{}}}", Value::from(address))
            }
            _ => line.to_owned(),
        }
    }
}

/// The addresses that are known, by recipient id.
pub(in crate::cli) struct Whose<'a> {
    config: &'a Config,
    names: Pseudonyms,
    addresses: HashMap<String, String>,
    /// The id of links that all recipients of a job share.
    everyone: String,
    /// The job and the recipient id of which the ledger was asked.
    asked: HashSet<(String, String)>,
}

impl<'a> Whose<'a> {
    /// The addresses of the configuration, and of the recipient that is asked for.
    pub(in crate::cli) fn new(
        config: &'a Config,
        asked: Option<&Recipient>,
        names: Pseudonyms,
    ) -> Self {
        let mut whose = Self {
            everyone: names.recipient_id(&Audience::Everyone.canonical()),
            config,
            names,
            addresses: HashMap::new(),
            asked: HashSet::new(),
        };
        whose.add(asked.into_iter());
        let of_rules = config.allow.iter().flat_map(|rule| &rule.recipients);
        let of_rules: Vec<Recipient> = of_rules.filter_map(|text| parsed(text)).collect();
        whose.add(of_rules.iter());
        // A job file that cannot be read gives no address.
        let events = config.event_rules().unwrap_or_default();
        for rule in &events {
            whose.add(named_in(&rule.template).iter());
        }
        for schedule in &config.schedule {
            let text = mounted::read_text(&schedule.job_file).ok();
            let job = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let named: Vec<Recipient> = job.iter().flat_map(named_in).collect();
            whose.add(named.iter());
        }
        whose
    }

    /// The address behind an id, if the configuration has it.
    pub(in crate::cli) fn known(&self, rid: &str) -> Option<&str> {
        self.addresses.get(rid).map(String::as_str)
    }

    /// Whether a recipient id stands for all recipients of a job.
    pub(in crate::cli) fn is_everyone(&self, rid: &str) -> bool {
        rid == self.everyone
    }

    fn add<'r>(&mut self, recipients: impl Iterator<Item = &'r Recipient>) {
        for recipient in recipients {
            let address = recipient.canonical_address();
            let id = self.names.recipient_id(&address);
            self.addresses.insert(id, address);
        }
    }

    /// The address of a link's recipient, if it is known. The ledger is asked if nothing else has it.
    pub(in crate::cli) async fn address(
        &mut self,
        issued: &IssuedTo,
        environment: &Environment,
    ) -> Option<String> {
        if issued.to.is_some() || issued.rid == self.everyone {
            return issued.to.clone();
        }
        let question = (issued.job.clone(), issued.rid.clone());
        if !self.addresses.contains_key(&issued.rid) && self.asked.insert(question) {
            let recipients = self.in_ledger(&issued.job, &issued.rid, environment).await;
            self.add(recipients.iter());
        }
        self.addresses.get(&issued.rid).cloned()
    }

    /// The recipient of a mail, or all recipients of a job whose message the ledger keeps.
    async fn in_ledger(&self, job: &str, rid: &str, environment: &Environment) -> Vec<Recipient> {
        let Ok(job) = job.parse::<JobId>() else {
            return Vec::new();
        };
        let opened = match assemble::open_ledger(self.config, environment, clock::system).await {
            Ok(opened) => opened,
            Err(OpenError::NoLedger { .. }) => return Vec::new(),
            Err(error) => {
                complain(format_args!(
                    "the ledger could not be asked: {}",
                    chain(&error)
                ));
                return Vec::new();
            }
        };
        let rules = self.config.event_rules().unwrap_or_default();
        let recipients = recipients_of(&job, rid, &*opened.ledger, &rules).await;
        opened.close().await;
        recipients.unwrap_or_else(|error| {
            complain(format_args!(
                "the ledger could not be asked: {}",
                chain(&*error)
            ));
            Vec::new()
        })
    }

    /// Whose the link is, for people.
    pub(in crate::cli) fn sentence(&self, issued: &IssuedTo, address: Option<&str>) -> String {
        let IssuedTo { job, rid, .. } = issued;
        match address {
            Some(address) => format!("the link was made for {address}, in the job {job}"),
            None if *rid == self.everyone => {
                format!(
                    "the link was made for all recipients of the job {job}: it names none of them"
                )
            }
            None => format!(
                "the link was made for the recipient {rid} of the job {job}, whose address is neither in the log nor in the configuration nor in the ledger; \
                 compare with `handout audit find --recipient ADDRESS`, or keep addresses in the log with audit.recipients = \"clear\""
            ),
        }
    }
}

/// The recipient of a mail, or all recipients of a job whose message the ledger keeps.
pub(super) async fn recipients_of(
    job: &JobId,
    rid: &str,
    ledger: &dyn Ledger,
    rules: &[EventRule],
) -> anyhow::Result<Vec<Recipient>> {
    let records = ledger.records_of(job, rid).await?;
    let intents = records.iter().filter(|record| record.kind == Kind::Intent);
    let addresses = intents.filter_map(|intent| intent.body["to"].as_str());
    let named: Vec<Recipient> = addresses
        .filter_map(|to| Recipient::parse(to).ok())
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    let Some(message) = saved::message(job, ledger).await? else {
        return Ok(Vec::new());
    };
    let opened = envelope::open(&message, rules)?;
    let jobs = opened
        .jobs
        .into_iter()
        .filter_map(|order| order.open().ok());
    let found: Vec<Job> = jobs.filter(|found| found.id == *job).collect();
    let emails = found.iter().filter_map(|job| job.email.as_ref());
    Ok(emails
        .flat_map(|email| email.recipients().cloned())
        .collect())
}

/// The recipients that a job file names with plain addresses.
fn named_in(job: &Value) -> Vec<Recipient> {
    let lists = ["/email/to", "/email/cc"].into_iter();
    let entries = lists
        .filter_map(|list| job.pointer(list)?.as_array())
        .flatten();
    let texts = entries.filter_map(|entry| entry.as_str().or_else(|| entry["address"].as_str()));
    texts.filter_map(parsed).collect()
}

/// A recipient, unless the text is a pattern or has a phrase in it.
fn parsed(text: &str) -> Option<Recipient> {
    let is_plain = !text.contains(['*', '?', '[', '{']);
    is_plain.then(|| Recipient::parse(text).ok())?
}
