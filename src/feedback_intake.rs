//! Takes bounces, complaints and deliveries in: finds the recipient and the job of an event, and records what it means.
//!
//! An event is settled when its records are durable, so one that comes again after a crash changes nothing. The records are made before
//! anything else that follows: the next job refuses a suppressed recipient, whether or not a result could be sent.

mod counts;
mod lines;
mod taken;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::assemble::Services;
use crate::audit::{AuditSettings, RecordError, record};
use crate::clock::Clock;
use crate::deliver::Sender;
use crate::feedback::{
    FeedbackEvent, FeedbackRead, FeedbackSource, FeedbackVerdict, IgnoredReport,
};
use crate::job::{JobId, Recipient};
use crate::keyring::Keyring;
use crate::ledger::people::{PeopleRecords, PersonDetail, PersonKind, PersonRecord, standing};
use crate::ledger::status::MailReport;
use crate::ledger::{Created, Kind, Ledger, LedgerError, Record};
use crate::person_token::{FoundToken, PersonKeys, PersonTag};
use crate::results::{FeedbackResult, JobResult, Results, ResultsError};

pub use counts::{FeedbackCounts, FeedbackEnd};
use lines::FeedbackLines;
pub use taken::CommandReports;
pub use worker::FeedbackWorker;

/// How many of the latest jobs an event may be about.
const KNOWN_JOBS: usize = 10_000;

/// How long after its instant an event can arrive: relays give up after five days, and SES reports late bounces within one.
const MAX_DELAY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How many tags are remembered that are of no known job.
const MAX_UNKNOWN: usize = 10_000;

/// How many senders are remembered: that of the configuration, and those that reloads replaced, whose mails still bounce.
const MAX_SENDERS: usize = 8;

/// How often the list of jobs is read again at the most, for a job that is not in it.
const JOBS_KNOWN_FOR: Duration = Duration::from_secs(1);

/// Why an event could not be settled; it comes again.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// The ledger did not take or give a record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit log did not take a line.
    #[error(transparent)]
    Audit(#[from] RecordError),
    /// The result could not be sent.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// Records events.
#[derive(Debug)]
pub struct FeedbackRecorder {
    ledger: Arc<dyn Ledger>,
    people: PeopleRecords,
    keys: PersonKeys,
    /// The senders of mails, the present one first.
    senders: std::sync::RwLock<Vec<Sender>>,
    rid: Box<dyn RecipientIds>,
    lines: FeedbackLines,
    results: Results,
    jobs: Mutex<KnownJobs>,
    clock: Clock,
}

/// The ids of recipients, as the ledger has them.
trait RecipientIds: Send + Sync + std::fmt::Debug {
    fn id_of(&self, recipient: &Recipient) -> String;
}

impl RecipientIds for record::Pseudonyms {
    fn id_of(&self, recipient: &Recipient) -> String {
        self.recipient_id(&recipient.canonical_address())
    }
}

/// The latest jobs, by their tags.
#[derive(Debug, Default)]
struct KnownJobs {
    /// When the last reading began.
    read_at: Option<Instant>,
    /// The latest first.
    latest: Vec<JobId>,
    by_tag: HashMap<PersonTag, JobId>,
    /// Tags of none of the jobs, by a reading after their event: a job is there before its events.
    unknown: HashSet<PersonTag>,
}

impl KnownJobs {
    /// The job with a tag, or the part of a job that a recipient has.
    fn find(&mut self, tag: PersonTag, rid: &str, keys: &PersonKeys) -> Option<JobId> {
        if let Some(job) = self.by_tag.get(&tag) {
            return Some(job.clone());
        }
        let mut parts = self.latest.iter().map(|job| job.part(rid));
        parts.find(|part| keys.job_tag(part.as_str()) == tag)
    }

    fn replace(&mut self, latest: Vec<JobId>, begun: Instant, keys: &PersonKeys) {
        let tagged = latest
            .iter()
            .map(|job| (keys.job_tag(job.as_str()), job.clone()));
        self.by_tag = tagged.collect();
        self.latest = latest;
        self.read_at = Some(begun);
    }
}

/// Of whom an event is.
struct About {
    rid: String,
    job: Option<JobId>,
    tag: Option<PersonTag>,
}

impl FeedbackRecorder {
    /// A recorder of a daemon.
    pub fn new(services: &Services) -> Self {
        let recording = &services.recording;
        let people = services.people.clone();
        Self {
            people: people.unwrap_or_else(|| PeopleRecords::of(&*recording.ledger)),
            results: services.results.clone(),
            ..Self::with(
                FeedbackLines::daemon(recording.audit.clone()),
                Arc::clone(&recording.ledger),
                &services.signing.keyring,
                recording.names.clone(),
                services.sending.sender.clone(),
                services.clock,
            )
        }
    }

    /// A recorder of a command that runs beside a daemon. `results` takes the reports.
    ///
    /// Its audit lines are in a stream of their own, which begins with the first of them; [`FeedbackRecorder::close`] ends it.
    pub fn beside(
        (audit, results): (AuditSettings, Results),
        ledger: Arc<dyn Ledger>,
        keyring: &Keyring,
        names: record::Pseudonyms,
        sender: Sender,
        clock: Clock,
    ) -> Self {
        let lines = FeedbackLines::of_command(audit, clock);
        Self {
            results,
            ..Self::with(lines, ledger, keyring, names, sender, clock)
        }
    }

    fn with(
        lines: FeedbackLines,
        ledger: Arc<dyn Ledger>,
        keyring: &Keyring,
        names: record::Pseudonyms,
        sender: Sender,
        clock: Clock,
    ) -> Self {
        Self {
            people: PeopleRecords::of(&*ledger),
            ledger,
            keys: PersonKeys::new(keyring),
            senders: std::sync::RwLock::new(vec![sender]),
            rid: Box::new(names),
            lines,
            results: Results::Off,
            jobs: Mutex::default(),
            clock,
        }
    }

    /// Ends the command's stream of audit lines.
    pub async fn close(self) {
        self.lines.close().await;
    }

    /// Takes the sender of a new configuration. Reports about mails of earlier senders are still matched.
    pub(crate) fn renew(&self, sender: &Sender) {
        let mut senders = self
            .senders
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        senders.retain(|known| known.address() != sender.address());
        senders.insert(0, sender.clone());
        senders.truncate(MAX_SENDERS);
    }

    fn senders(&self) -> Vec<Sender> {
        let senders = self.senders.read();
        senders
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Settles what was read of a message or a mail. Durable when it returns.
    ///
    /// # Errors
    /// What is needed does not answer: the same is to be read again later.
    pub async fn settle(&self, read: &FeedbackRead) -> Result<FeedbackEnd, FeedbackError> {
        let event = match read {
            FeedbackRead::Event(event) => event,
            FeedbackRead::Ignored(reason) => return Ok(FeedbackEnd::Ignored(*reason)),
        };
        let about = match event.token(&self.keys) {
            FoundToken::Ours(token) => About {
                job: self.job_of(token.tag, &token.rid).await?,
                rid: token.rid,
                tag: Some(token.tag),
            },
            FoundToken::Forged => return Ok(FeedbackEnd::Ignored(IgnoredReport::Forged)),
            FoundToken::Missing => match self.by_message_id(event).await? {
                Some(about) => about,
                None => return Ok(FeedbackEnd::Ignored(IgnoredReport::NotOurs)),
            },
        };
        self.record(event, &about).await?;
        Ok(FeedbackEnd::Recorded(event.verdict()))
    }

    /// The job with this tag, if it is among the latest: of a job in parts, the part of the recipient.
    async fn job_of(&self, tag: PersonTag, rid: &str) -> Result<Option<JobId>, LedgerError> {
        let asked = Instant::now();
        loop {
            {
                let mut jobs = self.jobs.lock().await;
                if let Some(job) = jobs.find(tag, rid, &self.keys) {
                    return Ok(Some(job));
                }
                if jobs.unknown.contains(&tag) {
                    return Ok(None);
                }
                if jobs.read_at.is_some_and(|read_at| read_at >= asked) {
                    if jobs.unknown.len() >= MAX_UNKNOWN {
                        jobs.unknown.clear();
                    }
                    jobs.unknown.insert(tag);
                    return Ok(None);
                }
            }
            self.read_jobs_after(asked).await?;
        }
    }

    /// Reads the list of jobs, unless a reading began after `asked`. All that wait share a reading.
    async fn read_jobs_after(&self, asked: Instant) -> Result<(), LedgerError> {
        loop {
            // Without the lock: events of known jobs go on.
            let before = self.jobs.lock().await.read_at;
            if let Some(read_at) = before.filter(|read_at| *read_at < asked) {
                tokio::time::sleep_until(read_at + JOBS_KNOWN_FOR).await;
            }
            let mut jobs = self.jobs.lock().await;
            if jobs.read_at.is_some_and(|read_at| read_at >= asked) {
                return Ok(());
            }
            if jobs.read_at != before {
                continue;
            }
            let begun = Instant::now();
            let latest = self.ledger.jobs(KNOWN_JOBS).await?;
            jobs.replace(latest, begun, &self.keys);
            return Ok(());
        }
    }

    /// Finds a mail of ours by its Message-ID, which follows from job and address and cannot be guessed; and, of SES alone, by our address as
    /// its sender.
    async fn by_message_id(&self, event: &FeedbackEvent) -> Result<Option<About>, LedgerError> {
        let addresses = event
            .people
            .iter()
            .filter_map(|person| person.address.as_deref());
        let people: Vec<Recipient> = addresses
            .filter_map(|address| Recipient::parse(address).ok())
            .collect();
        if !event.message_ids.is_empty() && !people.is_empty() {
            let asked = Instant::now();
            if let Some(about) = self.sent_to(event, &people).await {
                return Ok(Some(about));
            }
            self.read_jobs_after(asked).await?;
            if let Some(about) = self.sent_to(event, &people).await {
                return Ok(Some(about));
            }
        }
        let senders = self.senders();
        let is_ours = |sender: &String| {
            Recipient::parse(sender).is_ok_and(|sender| {
                let address = sender.canonical_address();
                let mut senders = senders.iter();
                senders.any(|ours| address == ours.address().to_ascii_lowercase())
            })
        };
        // What is on the queue is believed, by its policy; a mail may come from any machine.
        let is_of_ses = event.source == FeedbackSource::Ses && event.senders.iter().any(is_ours);
        Ok(match &people[..] {
            [reader] if is_of_ses => Some(About {
                rid: self.rid.id_of(reader),
                job: None,
                tag: None,
            }),
            _ => None,
        })
    }

    /// The mail of a known job, or of a part of it, that has one of the event's Message-IDs.
    async fn sent_to(&self, event: &FeedbackEvent, people: &[Recipient]) -> Option<About> {
        let jobs = self.jobs.lock().await;
        let people: Vec<(&Recipient, String)> = people
            .iter()
            .map(|reader| (reader, self.rid.id_of(reader)))
            .collect();
        let senders = self.senders();
        let has = |job: &JobId, reader: &Recipient| {
            let mut senders = senders.iter();
            senders.any(|sender| event.message_ids.contains(&sender.message_id(job, reader)))
        };
        jobs.latest.iter().find_map(|job| {
            people.iter().find_map(|(reader, rid)| {
                let job = match has(job, reader) {
                    true => job.clone(),
                    false => Some(job.part(rid)).filter(|part| has(part, reader))?,
                };
                Some(About {
                    rid: rid.clone(),
                    tag: Some(self.keys.job_tag(job.as_str())),
                    job: Some(job),
                })
            })
        })
    }

    async fn record(&self, event: &FeedbackEvent, about: &About) -> Result<(), FeedbackError> {
        let (now, verdict) = ((self.clock)(), event.verdict());
        // The date of a mail is its sender's to choose: a clock that is years behind would put a bounce before a lift.
        let earliest = now.checked_sub(MAX_DELAY).unwrap_or(Timestamp::MIN);
        let at = event.at.unwrap_or(now).min(now).max(earliest);
        let person = event.person();
        let status = person.and_then(|person| person.status.clone());
        let words = person
            .map(|person| person.words.clone())
            .unwrap_or_default();
        let source = match event.source {
            FeedbackSource::Ses => "ses",
            FeedbackSource::Dsn => "dsn",
            FeedbackSource::Arf => "arf",
        };
        if verdict != FeedbackVerdict::Delivered {
            let line = record::feedback(&record::MailFeedback {
                rid: &about.rid,
                job: about.job.as_ref().map(JobId::as_str),
                verdict: verdict.as_str(),
                source,
                status: status.as_deref(),
                list: None,
            });
            self.lines.append(line).await?;
        }
        let detail = PersonDetail {
            source: source.to_owned(),
            job: about.job.as_ref().map(ToString::to_string),
            status: status.clone(),
            words: words.clone(),
            ..PersonDetail::default()
        };
        self.record_about_person(event, about, at, &detail).await?;
        let Some(job) = &about.job else {
            return Ok(());
        };
        let body = json!({ "verdict": verdict, "source": source, "status": status, "words": words, "at": at });
        if self
            .record_about_mail(job, &about.rid, verdict, at, body)
            .await?
        {
            self.tell(event, job, &about.rid, at, status.as_deref(), &words)
                .await?;
        }
        Ok(())
    }

    /// Records what an event means for its recipient, if it means something.
    async fn record_about_person(
        &self,
        event: &FeedbackEvent,
        about: &About,
        at: Timestamp,
        detail: &PersonDetail,
    ) -> Result<(), LedgerError> {
        let verdict = event.verdict();
        let Some(kind) = kind_of(verdict) else {
            return Ok(());
        };
        let record = PersonRecord::new(at, kind, about.tag, event.id.clone());
        let is_new = self.people.add_report(&about.rid, &record, detail).await?;
        if !is_new || !verdict.suppresses() {
            return Ok(());
        }
        // An operator may have lifted it after the event of the report.
        let records = self.people.of_person(&about.rid).await?;
        let is_suppressed = standing(&records, None, (self.clock)()).is_some();
        if is_suppressed {
            tracing::warn!(
                rid = about.rid,
                job.id = about.job.as_ref().map(tracing::field::display),
                verdict = verdict.as_str(),
                status = detail.status,
                words = detail.words,
                "a recipient is suppressed from now on; `handout suppression remove` lifts it"
            );
        } else {
            tracing::info!(
                rid = about.rid,
                verdict = verdict.as_str(),
                "an older report was recorded; the recipient is not suppressed, since an operator has lifted it"
            );
        }
        Ok(())
    }

    /// Records what an event means for the mail; whether it is a result that the mail had before.
    ///
    /// A mail has a record for its delivery and two for bounces: one that suppresses has the second place behind one that may pass.
    async fn record_about_mail(
        &self,
        job: &JobId,
        rid: &str,
        verdict: FeedbackVerdict,
        at: Timestamp,
        body: Value,
    ) -> Result<bool, LedgerError> {
        let kind = match verdict {
            FeedbackVerdict::Delivered => Kind::Delivered,
            FeedbackVerdict::Delayed | FeedbackVerdict::Noted => return Ok(false),
            FeedbackVerdict::Hard
            | FeedbackVerdict::ByRelay
            | FeedbackVerdict::Complaint
            | FeedbackVerdict::Soft
            | FeedbackVerdict::MailFault
            | FeedbackVerdict::Rejected => Kind::Bounced,
        };
        let record = Record::new(job, rid, 0, kind, body.clone());
        let created = self.ledger.create(record).await?;
        if kind == Kind::Delivered {
            return Ok(false);
        }
        if verdict.suppresses()
            && let Created::Theirs(first) = created
            && !MailReport::of(&first).is_firm
        {
            let second = Record::new(job, rid, 1, kind, body);
            self.ledger.create(second).await?;
        }
        // Reports arrive in any order. A bounce that may pass and is older than a known delivery is no news.
        if verdict != FeedbackVerdict::Soft {
            return Ok(true);
        }
        let known = self.ledger.records_of(job, rid).await?;
        let delivered = known.iter().filter(|record| record.kind == Kind::Delivered);
        Ok(!delivered
            .map(MailReport::of)
            .any(|delivery| delivery.at.is_some_and(|delivered| delivered > at)))
    }

    /// Sends a second result of a job. It may be sent twice, as every result.
    async fn tell(
        &self,
        event: &FeedbackEvent,
        job: &JobId,
        rid: &str,
        at: Timestamp,
        status: Option<&str>,
        words: &str,
    ) -> Result<(), ResultsError> {
        let feedback = FeedbackResult {
            rid,
            verdict: event.verdict().as_str(),
            status,
            words,
        };
        let message = format!("feedback-{}", event.id);
        let result = JobResult::feedback(job, &message, &feedback, at);
        self.results.tell(&result, 1).await
    }
}

/// The record about the recipient that a verdict makes, if any.
const fn kind_of(verdict: FeedbackVerdict) -> Option<PersonKind> {
    match verdict {
        FeedbackVerdict::Hard => Some(PersonKind::Hard),
        FeedbackVerdict::ByRelay => Some(PersonKind::ByRelay),
        FeedbackVerdict::Complaint => Some(PersonKind::Complaint),
        FeedbackVerdict::Soft => Some(PersonKind::Soft),
        FeedbackVerdict::Delivered => Some(PersonKind::Delivered),
        FeedbackVerdict::MailFault
        | FeedbackVerdict::Rejected
        | FeedbackVerdict::Delayed
        | FeedbackVerdict::Noted => None,
    }
}
