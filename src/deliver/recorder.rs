//! The ledger of deliveries: the records decide, and the audit log has a line for each.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::known::KnownOutcomes;
use crate::audit::{AuditLog, AuditRecord, Issued, RecordError, record};
use crate::clock::Clock;
use crate::failpoint::{self, Failpoint};
use crate::job::{JobId, OnDoubt, Recipient};
use crate::ledger::lease::Owner;
use crate::ledger::people::Suppressed;
use crate::ledger::resolve::reopen_after_late;
use crate::ledger::resolver::{DoubtQuestion, Resolver, ResolverReply};
use crate::ledger::status::record_of;
use crate::ledger::status_of;
use crate::ledger::{
    Answer, Created, JobRecords, Kind, Ledger, LedgerError, MAX_DOUBTS, Outcome, RecipientStatus,
    Record, Verdict,
};
use crate::progress::Progress;
use crate::text::chain;

/// The longest pause between tries to record an outcome: the tries last a minute and a half in all.
const MAX_PAUSE: Duration = Duration::from_secs(50);

/// The pause between tries to write to a full disk what has already happened.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Where records of deliveries are kept.
#[derive(Debug, Clone)]
pub struct DeliveryLedger {
    /// The records of what was done.
    pub ledger: Arc<dyn Ledger>,
    /// The lines of who was given what.
    pub audit: AuditLog,
    /// The links of unfinished jobs that have their lines in the audit log.
    pub issued: Issued,
    /// The pseudonyms of recipients in both.
    pub names: record::Pseudonyms,
    /// The program that resolves doubts before `on_doubt` applies.
    pub resolver: Option<Resolver>,
    /// The outcomes of this process's attempts that the ledger did not take.
    pub known: KnownOutcomes,
    /// This process.
    pub owner: Owner,
    /// Counts doubts.
    pub progress: Progress,
    /// The clock.
    pub clock: Clock,
    /// The id of the recipient that gets all mails instead, in a rehearsal.
    pub rehearsed_to: Option<String>,
    /// How many recipients a rehearsal is for, if a number is wanted.
    pub rehearsed: Option<usize>,
}

/// Which record of an attempt's outcome is its owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concluded {
    /// The outcome itself.
    First,
    /// The late one: another worker had recorded the outcome as unknown.
    Late,
}

/// Which run of the job made the attempt whose outcome is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutcomeOf {
    /// This one. Another worker may have ended the job meanwhile.
    ThisRun,
    /// An earlier one. This run goes on with the recipient, so the job is open.
    EarlierRun,
}

/// An attempt to deliver to a recipient, whose right is ours or requested.
#[derive(Debug, Clone, Copy)]
pub struct AttemptRecord<'a> {
    /// The job.
    pub job: &'a JobId,
    /// The recipient's id.
    pub rid: &'a str,
    /// The recipient's canonical address, for a ledger that may have it.
    pub to: &'a str,
    /// The attempt's number.
    pub n: u32,
    /// The mail's Message-ID.
    pub message_id: &'a str,
}

/// The number of the last attempt at a recipient, if its outcome may be missing, or may be a doubt that was decided.
const fn last_attempt(status: &RecipientStatus) -> Option<u32> {
    match status {
        RecipientStatus::InFlight { n } | RecipientStatus::InDoubt { n, .. } => Some(*n),
        RecipientStatus::Ready { n } => n.checked_sub(1),
        RecipientStatus::Final { .. } => None,
    }
}

impl DeliveryLedger {
    /// The recipient's id.
    pub fn rid(&self, recipient: &Recipient) -> String {
        self.names.recipient_id(&recipient.canonical_address())
    }

    /// A recipient's status, by the job's records. A doubt that a dead process left is recorded and resolved here.
    ///
    /// No other place resolves it, so a crash between a doubt and its verdict leaves no mail unsent. An attempt of this process whose outcome
    /// the ledger did not take is no doubt: its outcome is recorded now.
    ///
    /// # Errors
    /// The ledger or the audit log could not be written.
    pub async fn look<E>(
        &self,
        job: &JobId,
        job_records: &JobRecords,
        recipient: &Recipient,
        on_doubt: OnDoubt,
    ) -> Result<RecipientStatus, E>
    where
        E: From<LedgerError> + From<RecordError>,
    {
        let rid = self.rid(recipient);
        let mut records = job_records.of(&rid).to_vec();
        let mut found = status_of(&records)?;
        if let Some(n) = last_attempt(&found)
            && self
                .conclude_known::<E>(job, recipient, n, &records)
                .await?
        {
            records = self.ledger.records_of(job, &rid).await?;
            found = status_of(&records)?;
        }
        if let RecipientStatus::InFlight { n } = found {
            records.push(self.doubt(job, &rid, n).await?);
            found = status_of(&records)?;
        }
        if let RecipientStatus::InDoubt { n, doubts } = found
            && let Some(verdict) = self.decide(job, &rid, n, doubts, &records, on_doubt).await
        {
            let answer = verdict.verdict;
            let verdict = Record::new(job, &rid, n, Kind::Verdict, verdict.to_body());
            let (nonce, stands) = (verdict.nonce.clone(), self.create_or_read(verdict).await?);
            failpoint::pass(Failpoint::Decided);
            if stands.nonce == nonce {
                match answer {
                    Answer::WasSent => self.progress.resolved_as_sent(),
                    Answer::ResendOk => self.progress.resolved_for_resend(),
                }
            }
            records.push(stands);
            found = status_of(&records)?;
        }
        if let RecipientStatus::InDoubt { .. } = found {
            self.progress.doubt_is_open(job.as_str(), &rid);
        }
        Ok(found)
    }

    /// Records that the outcome of an attempt is unknown. Its owner is dead: the job's lease is ours, or the ledger's
    /// directory is locked. An owner that is alive after all keeps the right to the attempt, and its outcome is
    /// recorded as late.
    async fn doubt(&self, job: &JobId, rid: &str, n: u32) -> Result<Record, LedgerError> {
        tracing::warn!(job.id = %job, rid, n, "delivery in doubt: its process ended before the outcome was recorded");
        let words = "the process ended between its intent and its outcome".to_owned();
        let mut body = Outcome::Unknown { words }.to_body();
        body["at"] = json!((self.clock)());
        body["by"] = json!(self.owner.as_str());
        let unknown = Record::new(job, rid, n, Kind::Outcome, body);
        let nonce = unknown.nonce.clone();
        let stands = self.create_or_read(unknown).await?;
        failpoint::pass(Failpoint::Doubted);
        if stands.nonce == nonce {
            self.progress.doubted();
        }
        Ok(stands)
    }

    /// Resolves a doubt: the resolver's answer first, then `on_doubt`. `None` if it is held for an operator.
    async fn decide(
        &self,
        job: &JobId,
        rid: &str,
        n: u32,
        doubts: usize,
        records: &[Record],
        on_doubt: OnDoubt,
    ) -> Option<Verdict> {
        let reply = self.ask_resolver(job, rid, n, records).await;
        let verdict = match (reply, on_doubt) {
            (Some(ResolverReply::Sent), _) => Some(Verdict::new(Answer::WasSent, "resolve_cmd")),
            (Some(ResolverReply::Resend), _) => Some(Verdict::new(Answer::ResendOk, "resolve_cmd")),
            (None, OnDoubt::Resend) if doubts < MAX_DOUBTS => {
                Some(Verdict::new(Answer::ResendOk, "on_doubt"))
            }
            (Some(ResolverReply::Hold), _) | (None, OnDoubt::Resend | OnDoubt::Hold) => None,
        };
        let (answer, by) = match &verdict {
            Some(Verdict { verdict, by }) => match verdict {
                Answer::WasSent => ("sent", by.as_str()),
                Answer::ResendOk => ("resend", by.as_str()),
            },
            None => ("hold", ""),
        };
        tracing::warn!(job.id = %job, rid, n, answer, by, "in-doubt delivery resolved");
        verdict
    }

    async fn ask_resolver(
        &self,
        job: &JobId,
        rid: &str,
        n: u32,
        records: &[Record],
    ) -> Option<ResolverReply> {
        let intent = &record_of(records, n, Kind::Intent)?.body;
        let question = DoubtQuestion {
            job,
            rid,
            message_id: intent["message_id"].as_str().unwrap_or_default(),
            intended_at: intent["at"].as_str().unwrap_or_default(),
        };
        self.resolver.as_ref()?.ask(&question).await
    }

    /// Creates a record, and returns the record that exists then.
    async fn create_or_read(&self, record: Record) -> Result<Record, LedgerError> {
        Ok(match self.ledger.create(record.clone()).await? {
            Created::Ours => record,
            Created::Theirs(first) => first,
        })
    }

    /// Records the outcome of an attempt of this process, if it is known and has no record. Whether it was.
    async fn conclude_known<E>(
        &self,
        job: &JobId,
        recipient: &Recipient,
        n: u32,
        records: &[Record],
    ) -> Result<bool, E>
    where
        E: From<LedgerError> + From<RecordError>,
    {
        let Some(intent) = record_of(records, n, Kind::Intent) else {
            return Ok(false);
        };
        let Some(outcome) = self.known.of(&intent.nonce) else {
            return Ok(false);
        };
        let attempt = AttemptRecord {
            job,
            rid: &intent.rid,
            to: &recipient.canonical_address(),
            n,
            message_id: intent.body["message_id"].as_str().unwrap_or_default(),
        };
        let recording = self.record_outcome::<E>(&attempt, &outcome, OutcomeOf::EarlierRun);
        Box::pin(recording).await?;
        self.known.forget(&intent.nonce);
        Ok(true)
    }

    /// Requests the right to an attempt; the nonce of the intent, if it is ours. If the ledger does not answer, the intent may exist, and the
    /// mail was not sent: that is remembered.
    pub(super) async fn intend(
        &self,
        attempt: &AttemptRecord<'_>,
    ) -> Result<Option<String>, LedgerError> {
        let mut body = json!({
            "message_id": attempt.message_id,
            "by": self.owner.as_str(),
            "at": (self.clock)(),
        });
        if self.ledger.is_private() {
            body["to"] = json!(attempt.to);
        }
        let intent = Record::new(attempt.job, attempt.rid, attempt.n, Kind::Intent, body);
        let nonce = intent.nonce.clone();
        match self.ledger.create(intent).await {
            Ok(created) => Ok((created == Created::Ours).then_some(nonce)),
            Err(error) => {
                let words =
                    "the ledger did not confirm the attempt, so nothing was sent".to_owned();
                self.known
                    .keep(&nonce, Outcome::NotSent { code: None, words });
                Err(error)
            }
        }
    }

    /// Records the outcome of our attempt; as late, if another worker has recorded it as unknown. If the ledger does not answer for long, the
    /// outcome is remembered by the nonce of the intent.
    pub(super) async fn conclude<E>(
        &self,
        attempt: &AttemptRecord<'_>,
        nonce: &str,
        outcome: &Outcome,
    ) -> Result<Concluded, E>
    where
        E: From<LedgerError> + From<RecordError>,
    {
        // An unknown outcome is no knowledge: the doubt without it is the same.
        if !matches!(outcome, Outcome::Unknown { .. }) {
            self.known.keep(nonce, outcome.clone());
        }
        let recording = self.record_outcome::<E>(attempt, outcome, OutcomeOf::ThisRun);
        let concluded = recording.await?;
        self.known.forget(nonce);
        Ok(concluded)
    }

    async fn record_outcome<E>(
        &self,
        attempt: &AttemptRecord<'_>,
        outcome: &Outcome,
        of: OutcomeOf,
    ) -> Result<Concluded, E>
    where
        E: From<LedgerError> + From<RecordError>,
    {
        let AttemptRecord {
            job,
            rid,
            n,
            message_id,
            ..
        } = *attempt;
        let mut body = outcome.to_body();
        body["at"] = json!((self.clock)());
        let record = |kind| Record::new(job, rid, n, kind, body.clone());
        let mut concluded = Concluded::First;
        if let Created::Theirs(_) = self.create_as(of, record(Kind::Outcome)).await? {
            concluded = Concluded::Late;
            tracing::warn!(job.id = %job, rid, n, outcome = outcome.word(), "late outcome: another worker had recorded the delivery as in doubt");
            self.create_as(of, record(Kind::Late)).await?;
            if of == OutcomeOf::ThisRun {
                self.reopen_if_not_sent(job, outcome).await;
            }
        } else if let Outcome::Unknown { .. } = outcome {
            tracing::warn!(job.id = %job, rid, n, words = outcome.words(), "delivery in doubt: the relay's final reply is missing");
            self.progress.doubted();
            self.progress.doubt_is_open(job.as_str(), rid);
        } else if let Outcome::Rejected { code, words } = outcome {
            tracing::warn!(job.id = %job, rid, n, code, words, "mail rejected");
        }
        failpoint::pass(Failpoint::Concluded);
        let (word, code) = (outcome.word(), outcome.code());
        let line = record::outcome(&record::MailOutcome {
            job: job.as_str(),
            rid,
            n,
            outcome: word,
            code,
            message_id,
            rehearsed_to: self.rehearsed_to.as_deref(),
        });
        self.tell_surely(line).await?;
        failpoint::pass(Failpoint::Told);
        Ok(concluded)
    }

    /// Reopens a job in which another worker saw a doubt about a mail that was certainly not sent: it may have held the doubt and ended the
    /// job.
    async fn reopen_if_not_sent(&self, job: &JobId, outcome: &Outcome) {
        let Outcome::NotSent { .. } = outcome else {
            return;
        };
        if let Err(error) = reopen_after_late(&*self.ledger, job, (self.clock)()).await {
            tracing::error!(job.id = %job, error = chain(&error), "could not reopen a job whose mail was not sent: `handout job resend --failed` sends it");
        }
    }

    /// Records that a recipient gets no mail of a job.
    pub async fn suppress<E>(
        &self,
        job: &JobId,
        rid: &str,
        n: u32,
        suppressed: &Suppressed,
    ) -> Result<Outcome, E>
    where
        E: From<LedgerError> + From<RecordError>,
    {
        let words = suppressed.words();
        // The line first: a record without a line would be a recipient of whom the log says nothing.
        let line = record::suppressed(&record::SuppressedRecipient {
            job: job.as_str(),
            rid,
            n,
            reason: &words,
        });
        self.tell_surely(line).await?;
        let body = json!({ "words": words, "at": (self.clock)() });
        let record = Record::new(job, rid, n, Kind::Suppressed, body);
        self.create_surely(record).await?;
        tracing::info!(job.id = %job, rid, kind = suppressed.kind.as_str(), "recipient suppressed; no mail is sent");
        Ok(Outcome::Suppressed { words })
    }

    /// Appends a line about what has already happened, and retries while the disk has no room for it.
    async fn tell_surely(&self, line: AuditRecord) -> Result<(), RecordError> {
        loop {
            match self.audit.append(vec![line.clone()]).await {
                Err(error) if error.is_full() => tokio::time::sleep(NO_ROOM_PAUSE).await,
                told => return told,
            }
        }
    }

    /// Creates a record of an outcome. That of an earlier run is remembered, and the ledger may have failed again: it is tried once.
    async fn create_as(&self, of: OutcomeOf, record: Record) -> Result<Created, LedgerError> {
        match of {
            OutcomeOf::ThisRun => self.create_surely(record).await,
            OutcomeOf::EarlierRun => self.ledger.create(record).await,
        }
    }

    /// Creates a record of what is known now and would be lost otherwise: an outcome without a record is a doubt, and a
    /// doubt may cause a second mail. So the record is retried for a while if the ledger does not answer, and until
    /// there is room if its disk is full.
    async fn create_surely(&self, record: Record) -> Result<Created, LedgerError> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.ledger.create(record.clone()).await {
                Ok(created) => return Ok(created),
                Err(error) if error.is_full() => tokio::time::sleep(NO_ROOM_PAUSE).await,
                Err(error) if pause > MAX_PAUSE => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "could not record an outcome; retrying"
                    );
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::JobError;
    use crate::keyring::Keyring;
    use crate::ledger::memory::MemoryLedger;

    pub(in crate::deliver) fn recording(
        dir: &std::path::Path,
        resolver: Option<Resolver>,
    ) -> DeliveryLedger {
        let key = crate::audit::note::SigningKey::from_seed(&[1; 32]);
        let settings = crate::audit::AuditSettings::new(dir, key);
        let (audit, _writer) = AuditLog::open(&settings, "test", crate::clock::system).unwrap();
        DeliveryLedger {
            ledger: Arc::new(MemoryLedger::default()),
            audit,
            issued: Issued::default(),
            names: record::Pseudonyms::new(&Keyring::new([1; 32]), false),
            resolver,
            known: KnownOutcomes::default(),
            owner: Owner::new(),
            progress: Progress::default(),
            clock: crate::clock::system,
            rehearsed_to: None,
            rehearsed: None,
        }
    }

    fn job() -> JobId {
        "job".parse().unwrap()
    }

    fn ann() -> Recipient {
        Recipient::parse("ann@acme.example").unwrap()
    }

    async fn put(recording: &DeliveryLedger, n: u32, kind: Kind, body: serde_json::Value) {
        let record = Record::new(&job(), &recording.rid(&ann()), n, kind, body);
        assert_eq!(
            recording.ledger.create(record).await.unwrap(),
            Created::Ours
        );
    }

    async fn look(recording: &DeliveryLedger, on_doubt: OnDoubt) -> RecipientStatus {
        let job_records = JobRecords::new(recording.ledger.records(&job()).await.unwrap());
        let (job, ann) = (job(), ann());
        let looked = recording.look::<JobError>(&job, &job_records, &ann, on_doubt);
        looked.await.unwrap()
    }

    fn unknown() -> serde_json::Value {
        json!({ "outcome": "unknown", "words": "" })
    }

    #[tokio::test]
    async fn a_doubt_without_a_verdict_is_still_decided() {
        for (on_doubt, wanted) in [
            (OnDoubt::Resend, RecipientStatus::Ready { n: 1 }),
            (OnDoubt::Hold, RecipientStatus::InDoubt { n: 0, doubts: 1 }),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let recording = recording(dir.path(), None);
            put(&recording, 0, Kind::Intent, json!({})).await;
            put(&recording, 0, Kind::Outcome, unknown()).await;
            assert_eq!(look(&recording, on_doubt).await, wanted);
            assert_eq!(look(&recording, on_doubt).await, wanted, "and stays so");
        }
    }

    #[tokio::test]
    async fn an_intent_of_the_dead_is_a_doubt_and_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path(), None);
        put(&recording, 0, Kind::Intent, json!({})).await;
        let held = RecipientStatus::InDoubt { n: 0, doubts: 1 };
        assert_eq!(look(&recording, OnDoubt::Hold).await, held);
        assert_eq!(look(&recording, OnDoubt::Hold).await, held);
        assert_eq!(recording.progress.snapshot().doubts, 1);
        assert_eq!(
            look(&recording, OnDoubt::Resend).await,
            RecipientStatus::Ready { n: 1 }
        );
        assert_eq!(recording.progress.snapshot().doubts_resent, 1);
    }

    /// The ledger took the intent, and its answer, or the outcome, was lost.
    #[tokio::test]
    async fn an_outcome_that_this_process_knows_is_no_doubt() {
        let accepted = Outcome::Accepted {
            words: "250".to_owned(),
        };
        let not_sent = Outcome::NotSent {
            code: None,
            words: String::new(),
        };
        let ended = RecipientStatus::Final {
            n: 0,
            outcome: accepted.clone(),
        };
        let again = RecipientStatus::Ready { n: 1 };
        for (outcome, is_held, wanted) in [
            (accepted.clone(), false, &ended),
            (accepted, true, &ended),
            (not_sent.clone(), false, &again),
            (not_sent, true, &again),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let recording = recording(dir.path(), None);
            let intent = Record::new(&job(), &recording.rid(&ann()), 0, Kind::Intent, json!({}));
            let nonce = intent.nonce.clone();
            recording.ledger.create(intent).await.unwrap();
            if is_held {
                // Another worker took this one for dead.
                let held = RecipientStatus::InDoubt { n: 0, doubts: 1 };
                assert_eq!(look(&recording, OnDoubt::Hold).await, held);
            }
            recording.known.keep(&nonce, outcome);
            assert_eq!(look(&recording, OnDoubt::Hold).await, *wanted);
            assert_eq!(recording.known.of(&nonce), None);
            assert_eq!(
                look(&recording, OnDoubt::Hold).await,
                *wanted,
                "and stays so"
            );
        }
    }

    /// Another worker took the attempt for lost, and decided to send the mail again.
    #[tokio::test]
    async fn a_mail_that_was_accepted_is_not_sent_again_for_a_verdict() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path(), None);
        let intent = Record::new(&job(), &recording.rid(&ann()), 0, Kind::Intent, json!({}));
        let nonce = intent.nonce.clone();
        recording.ledger.create(intent).await.unwrap();
        let again = RecipientStatus::Ready { n: 1 };
        assert_eq!(look(&recording, OnDoubt::Resend).await, again);
        let outcome = Outcome::Accepted {
            words: "250".to_owned(),
        };
        recording.known.keep(&nonce, outcome.clone());
        let ended = RecipientStatus::Final { n: 0, outcome };
        assert_eq!(look(&recording, OnDoubt::Resend).await, ended);
    }

    /// The run that records what an earlier one knew serves the recipient itself: a reopening would be of a job that is open.
    #[tokio::test]
    async fn an_outcome_of_an_earlier_run_reopens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path(), None);
        let intent = Record::new(&job(), &recording.rid(&ann()), 0, Kind::Intent, json!({}));
        let nonce = intent.nonce.clone();
        recording.ledger.create(intent).await.unwrap();
        look(&recording, OnDoubt::Hold).await;
        let words = String::new();
        let not_sent = Outcome::NotSent { code: None, words };
        recording.known.keep(&nonce, not_sent);
        let again = RecipientStatus::Ready { n: 1 };
        assert_eq!(look(&recording, OnDoubt::Hold).await, again);
        let records = recording.ledger.records(&job()).await.unwrap();
        let is_late = |record: &&Record| record.kind == Kind::Late;
        assert_eq!(records.iter().filter(is_late).count(), 1);
        assert!(records.iter().all(|record| record.kind != Kind::Reopened));
    }

    #[tokio::test]
    async fn after_five_doubts_a_person_must_decide() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path(), None);
        for n in 0..4 {
            put(&recording, n, Kind::Intent, json!({})).await;
            assert_eq!(
                look(&recording, OnDoubt::Resend).await,
                RecipientStatus::Ready { n: n + 1 }
            );
        }
        put(&recording, 4, Kind::Intent, json!({})).await;
        assert_eq!(
            look(&recording, OnDoubt::Resend).await,
            RecipientStatus::InDoubt { n: 4, doubts: 5 }
        );
    }

    /// The first attempt at Ann.
    fn to_ann<'a>(job: &'a JobId, rid: &'a str) -> AttemptRecord<'a> {
        AttemptRecord {
            job,
            rid,
            to: "ann@acme.example",
            n: 0,
            message_id: "<m@x>",
        }
    }

    #[tokio::test]
    async fn an_outcome_that_comes_late_is_kept_and_believed() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path(), None);
        let (job, rid) = (job(), recording.rid(&ann()));
        let attempt = to_ann(&job, &rid);
        let nonce = recording.intend(&attempt).await.unwrap().unwrap();
        assert_eq!(recording.intend(&attempt).await.unwrap(), None, "once");
        assert_eq!(
            look(&recording, OnDoubt::Hold).await,
            RecipientStatus::InDoubt { n: 0, doubts: 1 }
        );
        let accepted = Outcome::Accepted {
            words: "250".to_owned(),
        };
        let concluded = recording
            .conclude::<JobError>(&attempt, &nonce, &accepted)
            .await;
        assert_eq!(concluded.unwrap(), Concluded::Late);
        assert_eq!(
            look(&recording, OnDoubt::Resend).await,
            RecipientStatus::Final {
                n: 0,
                outcome: accepted
            }
        );
    }

    #[tokio::test]
    async fn a_mail_that_was_not_sent_although_a_doubt_was_held_opens_the_job_again() {
        let dir = tempfile::tempdir().unwrap();
        let recording = recording(dir.path(), None);
        let (job, rid) = (job(), recording.rid(&ann()));
        let attempt = to_ann(&job, &rid);
        let nonce = recording.intend(&attempt).await.unwrap().unwrap();
        look(&recording, OnDoubt::Hold).await;
        let done = Record::new(&job, "", 0, Kind::Done, json!({}));
        recording.ledger.create(done).await.unwrap();
        assert!(recording.ledger.is_done(&job).await.unwrap());
        let not_sent = Outcome::NotSent {
            code: Some(451),
            words: String::new(),
        };
        let concluded = recording
            .conclude::<JobError>(&attempt, &nonce, &not_sent)
            .await;
        assert_eq!(concluded.unwrap(), Concluded::Late);
        assert!(!recording.ledger.is_done(&job).await.unwrap());
        assert_eq!(
            look(&recording, OnDoubt::Hold).await,
            RecipientStatus::Ready { n: 1 }
        );
    }

    #[tokio::test]
    async fn the_resolver_is_asked_before_on_doubt() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("resolve");
        std::fs::write(&program, "#!/bin/sh\n[ \"$3\" = '<m@x>' ] && echo sent\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let recording = recording(&dir.path().join("audit"), Some(Resolver::new(program)));
        put(
            &recording,
            0,
            Kind::Intent,
            json!({ "message_id": "<m@x>" }),
        )
        .await;
        assert!(matches!(
            look(&recording, OnDoubt::Resend).await,
            RecipientStatus::Final {
                n: 0,
                outcome: Outcome::Accepted { .. }
            }
        ));
    }
}
