//! Jobs that may not be called done yet: what could not be written, and whom a person's word came late for.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use handout::clock;
use handout::config::OnDoubt;
use handout::job::{JobId, Recipient};
use handout::keyring::sha256_hex;
use handout::ledger::portal::PortalRecords;
use handout::ledger::resolve::{Resent, resend};
use handout::ledger::{Created, Kind, Ledger, LedgerError, Record};
use serde_json::{Value, json};

use crate::support::world::{World, email_job, run_until_settled};

#[tokio::test]
async fn a_mail_that_the_outbox_has_no_room_for_goes_out_after_the_repair() {
    let world = World::new().object("a.pdf", "x");
    let opened = world.open().await;
    let outbox = world.config.outbox_dir();
    fs::remove_dir_all(&outbox).unwrap();
    let job = email_job("daily").to_string();
    opened.queue.submit(&job).await.unwrap();
    run_until_settled(&opened, 1).await;
    let now = opened.services.progress.snapshot();
    assert_eq!((now.jobs_done, now.jobs_retried), (0, 1));
    fs::create_dir(&outbox).unwrap();
    // The message is hidden for its back-off; the same job submitted again is the same job.
    opened.queue.submit(&job).await.unwrap();
    run_until_settled(&opened, 2).await;
    let outcomes = world.audit_of("outcome").into_iter();
    let outcomes: Vec<Value> = outcomes.map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["not_sent", "accepted"]);
    assert_eq!(world.mails().len(), 1);
    opened.close().await;
}

/// A ledger whose operator asks for another attempt at the worst moment: just before a job is first called done.
#[derive(Debug)]
struct WithOperator(Arc<dyn Ledger>);

#[async_trait]
impl Ledger for WithOperator {
    async fn create(&self, record: Record) -> Result<Created, LedgerError> {
        if (record.kind, record.n) == (Kind::Done, 0) {
            let asked = resend(&*self.0, &record.job, "operator", clock::system()).await?;
            assert_eq!(asked, Resent::Asked(1));
        }
        self.0.create(record).await
    }

    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        self.0.records(job).await
    }

    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError> {
        self.0.records_of(job, rid).await
    }

    fn portal_records(&self) -> Arc<dyn PortalRecords> {
        self.0.portal_records()
    }

    async fn reports_of_parts(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        self.0.reports_of_parts(job).await
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        self.0.jobs(limit).await
    }

    async fn keep_page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
        page: Vec<u8>,
    ) -> Result<(), LedgerError> {
        self.0.keep_page(job, listing, number, page).await
    }

    async fn page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        self.0.page(job, listing, number).await
    }

    async fn forget_pages(&self, job: &JobId) -> Result<(), LedgerError> {
        self.0.forget_pages(job).await
    }
}

#[tokio::test]
async fn whoever_is_marked_while_the_job_ends_still_gets_the_mail() {
    let world = World::new()
        .object("a.pdf", "x")
        .configured(|config| config.ledger.on_doubt = OnDoubt::Hold);
    let mut opened = world.open().await;
    let (job, text) = ("daily".parse().unwrap(), email_job("daily").to_string());
    let recording = &mut opened.services.recording;
    let ann = recording.rid(&Recipient::parse("ann@acme.example").unwrap());
    for (rid, kind, body) in [
        (
            "",
            Kind::Plan,
            json!({ "body_sha256": sha256_hex(text.as_bytes()) }),
        ),
        (&*ann, Kind::Intent, json!({})),
    ] {
        let record = Record::new(&job, rid, 0, kind, body);
        recording.ledger.create(record).await.unwrap();
    }
    recording.ledger = Arc::new(WithOperator(Arc::clone(&recording.ledger)));
    opened.queue.submit(&text).await.unwrap();
    run_until_settled(&opened, 1).await;
    let now = opened.services.progress.snapshot();
    assert_eq!(
        (now.jobs_done, now.jobs_retried),
        (0, 1),
        "its message stays"
    );
    opened.queue.submit(&text).await.unwrap();
    run_until_settled(&opened, 2).await;
    assert_eq!(world.mails().len(), 1);
    opened.close().await;
}
