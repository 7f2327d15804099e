//! Tests of `deliver.rs`.

use super::*;
use crate::cancellation::Cancellation;
use crate::error::JobError;
use crate::ledger::{JobRecords, RecipientStatus};

fn letter(recipient: &Recipient) -> Letter {
    let to = recipient.address.clone();
    Letter {
        envelope: Envelope::new(None, vec![to.clone()]).unwrap(),
        secrets: Secrets::default(),
        message_id: "<abc@sender.example>".to_owned(),
        bytes: b"Subject: x\r\n\r\nbody".to_vec(),
        summary: MailSummary {
            to,
            subject: String::new(),
            html: String::new(),
        },
    }
}

/// Reads Ann's status and delivers her mail.
async fn serve_ann(
    recording: &DeliveryLedger,
    outbox: &Outbox,
    stop: &Cancellation,
) -> Result<DeliveryResult, JobError> {
    let (job, ann) = (
        "job".parse().unwrap(),
        Recipient::parse("ann@acme.example").unwrap(),
    );
    let job_records = JobRecords::new(recording.ledger.records(&job).await?);
    let RecipientStatus::Ready { n } = recording
        .look::<JobError>(&job, &job_records, &ann, OnDoubt::Hold)
        .await?
    else {
        panic!("Ann has an end")
    };
    let delivery = DeliveryAttempt {
        job: &job,
        recipient: &ann,
        n,
        on_doubt: OnDoubt::Hold,
        patience: RetryWindow::Left,
    };
    let (mailer, way) = (Mailer::Outbox(outbox.clone()), Route::Outbox(outbox));
    deliver(&letter(&ann), &delivery, way, &mailer, recording, || {
        Ok(stop.commit()?)
    })
    .await
}

#[tokio::test]
async fn a_mail_that_could_not_be_written_is_no_end_and_is_written_after_the_repair() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recorder::tests::recording(&dir.path().join("audit"), None);
    let outbox = Outbox::open(dir.path().join("outbox")).unwrap();
    std::fs::remove_dir(outbox.dir()).unwrap();
    for _ in 0..2 {
        let failed = serve_ann(&recording, &outbox, &Cancellation::default()).await;
        assert!(
            matches!(
                failed,
                Err(JobError::Deliver(DeliverError::File { ref path, .. })) if path == outbox.dir()
            ),
            "{failed:?}"
        );
    }
    std::fs::create_dir(outbox.dir()).unwrap();
    let turn = serve_ann(&recording, &outbox, &Cancellation::default())
        .await
        .unwrap();
    assert!(matches!(
        turn,
        DeliveryResult::Ended(Outcome::Accepted { .. })
    ));
    assert!(outbox.dir().join("abc.eml").exists());
}
#[tokio::test]
async fn a_stop_between_the_go_ahead_and_the_intent_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recorder::tests::recording(&dir.path().join("audit"), None);
    let outbox = Outbox::open(dir.path().join("outbox")).unwrap();
    let stop = Cancellation::default();
    stop.cancel();
    let stopped = serve_ann(&recording, &outbox, &stop).await.unwrap_err();
    assert!(stopped.is_stopped(), "{stopped}");
    let records = recording
        .ledger
        .records(&"job".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(records, []);
}
