//! Events of other stores and services become jobs as S3's own do.

use globset::Glob;
use serde_json::{Value, json};

use crate::job::envelope::{EventName, EventRule, PendingJob, open};
use crate::job::{Job, Selection};

fn rules() -> Vec<EventRule> {
    let template = json!({
        "v": 1,
        "id": "upload",
        "from": { "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] },
        "email": { "to": ["ann@acme.example"], "subject": "{{event.name}} {{event.time}}" },
    });
    vec![EventRule {
        bucket: "uploads".parse().unwrap(),
        key: Glob::new("**").unwrap().compile_matcher(),
        events: vec![EventName::Created],
        template: template.into(),
    }]
}

fn jobs(message: &Value) -> Vec<Job> {
    let opened = open(&message.to_string(), &rules()).unwrap();
    assert!(opened.refused.is_empty(), "{:?}", opened.refused);
    let jobs = opened.jobs.into_iter().map(PendingJob::open);
    jobs.collect::<Result<_, _>>().unwrap()
}

fn key(job: &Job) -> &str {
    match &job.from.selection {
        Selection::Keys(keys) => keys[0].as_str(),
        _ => panic!("the rule names a key"),
    }
}

/// Cloudflare's own example, with another bucket.
fn r2(action: &str) -> Value {
    json!({
        "account": "3f4b7e3dcab231cbfdaa90a6a28bd548", "action": action, "bucket": "uploads",
        "object": { "key": "a b+c%20d/ü.pdf", "size": 65536, "eTag": "c846ff7a18f28c2e262116d6e8719ef0" },
        "eventTime": "2024-05-24T19:36:44.379Z"
    })
}

/// Backblaze's own example, with another bucket.
fn b2(kind: &str, name: &str) -> Value {
    json!({
        "accountId": "e85c6a500333", "bucketId": "aea8c5bc362ae55070130333", "bucketName": "uploads",
        "eventId": "db5e18ab-2ae6-4b24-bd5c-5e0d9d4b4b7d", "eventTimestamp": 1_684_793_309_123_i64,
        "eventType": kind, "eventVersion": 1, "matchedRuleName": "mySampleRule1",
        "objectName": name, "objectSize": 10_495_842, "objectVersionId": "4_zaea8c5bc362ae55070130333_f117c7bd5d6c6597c"
    })
}

fn cloud(kind: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "id": "1096434104173400", "type": kind,
        "source": "//storage.example/projects/_/buckets/uploads", "subject": "objects/a.pdf",
        "time": "2026-11-23T18:40:00.5Z", "datacontenttype": "application/json", "data": data
    })
}

fn record() -> Value {
    json!({
        "eventVersion": "2.3", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-11-23T18:40:00Z",
        "s3": { "bucket": { "name": "uploads" }, "object": { "key": "a+b.pdf", "sequencer": "0055AED6DCD90281E5", "size": 3 } }
    })
}

#[test]
fn an_upload_to_r2_is_a_job() {
    for action in ["PutObject", "CopyObject", "CompleteMultipartUpload"] {
        let job = &jobs(&r2(action))[0];
        assert_eq!(key(job), "a b+c%20d/ü.pdf", "a key that is not encoded");
    }
    let deleted = open(&r2("DeleteObject").to_string(), &rules()).unwrap_err();
    assert!(
        deleted
            .to_string()
            .contains("the event DeleteObject for s3://uploads/"),
        "{deleted}"
    );
}

#[test]
fn uploads_to_b2_are_jobs_and_its_test_event_is_none() {
    let one = |kind: &str| json!({ "events": [b2(kind, "a b.pdf")] });
    for kind in ["Upload", "MultipartUpload", "Copy", "Replica"] {
        let job = &jobs(&one(&format!("b2:ObjectCreated:{kind}")))[0];
        assert_eq!(key(job), "a b.pdf");
        assert_eq!(
            job.scheduled_at.unwrap().to_string(),
            "2023-05-22T22:08:29.123Z"
        );
    }
    let two = json!({ "events": [b2("b2:ObjectCreated:Upload", "a"), b2("b2:ObjectCreated:Upload", "b")] });
    let two = jobs(&two);
    assert_eq!([key(&two[0]), key(&two[1])], ["a", "b"]);
    for (job, name) in two.iter().zip(["a", "b"]) {
        let again: Value = serde_json::from_str(&job.message).unwrap();
        assert_eq!(again["events"].as_array().unwrap().len(), 1, "{again}");
        assert_eq!(jobs(&again)[0].id, job.id, "{name}");
    }
    let test = json!({ "events": [b2("b2:TestEvent", "")] });
    assert!(open(&test.to_string(), &rules()).unwrap().test_event);
    let beside = json!({ "events": [b2("b2:TestEvent", ""), b2("b2:ObjectCreated:Upload", "a")] });
    let beside = open(&beside.to_string(), &rules()).unwrap();
    assert_eq!((beside.test_event, beside.jobs.len()), (false, 1));
    let hidden = one("b2:HideMarkerCreated:Hide").to_string();
    assert!(open(&hidden, &rules()).is_err());
}

#[test]
fn a_cloud_event_that_names_an_object_is_a_job() {
    let google = json!({ "bucket": "uploads", "name": "a b.pdf", "size": "65536", "etag": "CLmm", "generation": "1" });
    let oss = json!({ "eventName": "ObjectCreated:PutObject", "oss": { "bucket": { "name": "uploads" }, "object": { "key": "a b.pdf", "size": 3 } } });
    let bare = json!({ "bucket": { "name": "uploads" }, "object": { "key": "a b.pdf" } });
    for event in [
        cloud("google.cloud.storage.object.v1.finalized", &google),
        cloud("com.amazonaws.s3.ObjectCreated:Put", &record()),
        cloud(
            "com.amazonaws.s3.ObjectCreated:Put",
            &json!({ "Records": [record()] }),
        ),
        cloud("oss:ObjectCreated:PutObject", &oss),
        cloud("com.acme.object.created", &bare),
    ] {
        let made = jobs(&event);
        assert_eq!(key(&made[0]), "a b.pdf", "{event}");
        assert_eq!(made[0].id, jobs(&event)[0].id);
        let mut another = event.clone();
        another["id"] = json!("another");
        assert_ne!(made[0].id, jobs(&another)[0].id, "{event}");
    }
    let by_call = |call: &str| json!({ "eventName": call, "bucket": "uploads", "name": "a b.pdf" });
    for removed in [
        cloud("google.cloud.storage.object.v1.deleted", &google),
        cloud("com.amazonaws.s3.ObjectRemoved:DeleteMarkerCreated", &bare),
        cloud(
            "com.acme.created",
            &by_call("ObjectRemoved:DeleteMarkerCreated"),
        ),
        cloud("com.acme.created", &by_call("DeleteObject")),
    ] {
        assert!(open(&removed.to_string(), &rules()).is_err(), "{removed}");
    }
}

#[test]
fn a_cloud_event_without_an_object_says_what_it_is() {
    let azure =
        json!({ "api": "PutBlob", "url": "https://acme.blob.core.windows.net/uploads/a.pdf" });
    let event = cloud("Microsoft.Storage.BlobCreated", &azure);
    let error = open(&event.to_string(), &rules()).unwrap_err();
    insta::assert_snapshot!(error, @"the message is a CloudEvent of the type Microsoft.Storage.BlobCreated, whose data names no bucket and key: only events of object stores become jobs");
    let bad = cloud("a\u{1b}[2J", &Value::Null);
    let error = open(&bad.to_string(), &rules()).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_call_that_cloudtrail_tells_is_an_event() {
    let event = json!({
        "version": "0", "id": "1", "source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "time": "2026-11-23T18:40:00Z",
        "detail": {
            "eventName": "PutObject", "requestID": "35Z2",
            "requestParameters": { "bucketName": "uploads", "key": "a b.pdf" }
        }
    });
    assert_eq!(key(&jobs(&event)[0]), "a b.pdf");
    let mut read = event;
    read["detail"]["eventName"] = json!("GetObject");
    assert!(open(&read.to_string(), &rules()).is_err());
}

#[test]
fn the_trace_of_an_event_is_a_field_of_it_or_of_its_detail() {
    let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = |event: &Value| {
        let opened = open(&event.to_string(), &rules()).unwrap();
        opened.trace.map(|trace| trace.to_string())
    };
    let object = json!({ "bucket": { "name": "uploads" }, "object": { "key": "a.pdf" } });
    let mut bridge = json!({
        "version": "0", "id": "1", "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z", "detail": object,
    });
    assert_eq!(traced(&bridge), None);
    bridge["detail"]["traceparent"] = json!("00-zz-yy-01");
    assert_eq!(traced(&bridge), None, "what is not valid is ignored");
    bridge["detail"]["traceparent"] = json!(value);
    assert_eq!(traced(&bridge).as_deref(), Some(value));
    let mut cloud = cloud(
        "com.acme.object.created",
        &json!({ "bucket": "uploads", "name": "a.pdf" }),
    );
    cloud["traceparent"] = json!(value);
    assert_eq!(traced(&cloud).as_deref(), Some(value));
    let records = json!({ "traceparent": value, "Records": [record()] });
    assert_eq!(traced(&records).as_deref(), Some(value));
}
