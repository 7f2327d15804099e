//! Tests of events and the jobs that they become.

use serde_json::json;

use super::*;
use crate::bounds::MAX_EVENT_TEXT_BYTES;

/// A message with all its jobs made.
#[derive(Debug)]
struct Whole {
    jobs: Vec<Job>,
    unwanted: usize,
    refused: Vec<ParseJobError>,
    test_event: bool,
}

fn open(body: &str, rules: &[EventRule]) -> Result<Whole, ParseJobError> {
    let opened = super::open(body, rules)?;
    let mut whole = Whole {
        jobs: Vec::new(),
        unwanted: opened.unwanted,
        refused: opened.refused,
        test_event: opened.test_event,
    };
    for order in opened.jobs {
        match order.open() {
            Ok(job) => whole.jobs.push(job),
            Err(error) => whole.refused.push(error),
        }
    }
    match (whole.jobs.is_empty(), whole.refused.is_empty()) {
        (true, false) => Err(whole.refused.remove(0)),
        _ => Ok(whole),
    }
}

/// A large job file is in memory only once for all events of a message.
#[test]
fn the_events_of_a_message_share_their_rules_job_file_until_each_is_made() {
    let records: Vec<Value> = (0..MAX_RECORDS)
        .map(|n| notification(&format!("incoming/{n}.pdf"), "1")["Records"][0].clone())
        .collect();
    let rules = rules();
    let opened = super::open(&json!({ "Records": records }).to_string(), &rules).unwrap();
    assert_eq!(opened.jobs.len(), MAX_RECORDS);
    for order in &opened.jobs {
        let PendingJob::Event(order) = order else {
            panic!("{order:?}");
        };
        let shared = rules
            .iter()
            .any(|rule| Arc::ptr_eq(&rule.template, &order.template));
        assert!(shared, "{order:?}");
    }
}

use globset::Glob;

fn rules() -> Vec<EventRule> {
    let template = json!({
        "v": 1,
        "id": "upload",
        "from": { "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] },
        "email": { "to": ["ann@acme.example"], "subject": "New: {{object.name}} {{event.key}}" },
        "vars": { "when": "{{event.time}}" }
    });
    vec![EventRule {
        bucket: "uploads".parse().unwrap(),
        key: Glob::new("incoming/**").unwrap().compile_matcher(),
        events: vec![EventName::Created],
        template: Arc::new(template),
    }]
}

fn notification(key: &str, sequencer: &str) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.3", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-23T18:40:00Z",
        "s3": { "bucket": { "name": "uploads" }, "object": { "key": key, "sequencer": sequencer, "size": 3 } }
    }] })
}

fn only_job(body: &Value) -> Job {
    let mut opened = open(&body.to_string(), &rules()).unwrap();
    assert_eq!(opened.jobs.len(), 1);
    opened.jobs.remove(0)
}

fn key_of(job: &Job) -> String {
    match &job.from.selection {
        crate::job::Selection::Keys(keys) => keys[0].to_string(),
        _ => panic!("a rule with keys gave a prefix"),
    }
}

#[test]
fn a_notification_becomes_a_job_with_the_decoded_key() {
    let job = only_job(&notification("incoming/red+flower%2B%C3%BC.jpg", "0055"));
    assert_eq!(key_of(&job), "incoming/red flower+ü.jpg");
    assert_eq!(job.vars["when"], "2026-11-23T18:40:00Z");
}

#[test]
fn the_same_event_is_the_same_job_however_it_is_wrapped() {
    let bare = notification("incoming/a.pdf", "0055");
    let sns = json!({ "Type": "Notification", "TopicArn": "arn:x", "MessageId": "1", "Message": bare.to_string() });
    let doubly = Value::String(bare.to_string());
    let ids = [&bare, &sns, &doubly].map(|body| only_job(body).id);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], only_job(&notification("incoming/a.pdf", "0056")).id);
}

#[test]
fn a_job_of_several_keeps_a_message_that_brings_no_other() {
    let mut several = notification("incoming/a.pdf", "0055");
    for other in [
        notification("elsewhere/b.pdf", "0056"),
        notification("incoming/c.pdf", "0057"),
    ] {
        let records = several["Records"].as_array_mut().unwrap();
        records.push(other["Records"][0].clone());
    }
    let sns =
        json!({ "Type": "Notification", "TopicArn": "arn:x", "Message": several.to_string() });
    let jobs = open(&sns.to_string(), &rules()).unwrap().jobs;
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        let again = open(&job.message, &rules()).unwrap();
        assert_eq!((again.jobs.len(), again.unwanted), (1, 0));
        assert_eq!(again.jobs[0].id, job.id);
        assert_eq!(again.jobs[0].body_sha256, job.body_sha256);
    }
    let one = notification("incoming/a.pdf", "0055").to_string();
    assert_eq!(&*open(&one, &rules()).unwrap().jobs[0].message, one);
}

#[test]
fn an_event_that_makes_no_job_keeps_no_other_from_making_one() {
    let odd = [
        notification("incoming/%07.pdf", "1"),
        json!({ "Records": [{ "eventName": "ObjectCreated:Put" }] }),
        notification(&"k".repeat(2000), "2"),
    ];
    let of = |bodies: &[&Value]| {
        let records: Vec<&Value> = bodies.iter().map(|body| &body["Records"][0]).collect();
        open(&json!({ "Records": records }).to_string(), &rules())
    };
    let good = notification("incoming/a.pdf", "3");
    let opened = of(&[&odd[0], &odd[1], &good, &odd[2]]).unwrap();
    assert_eq!((opened.jobs.len(), opened.unwanted), (1, 0));
    assert_eq!(opened.jobs[0].id, only_job(&good).id);
    let alone = odd
        .each_ref()
        .map(|odd| of(&[odd]).unwrap_err().to_string());
    let mut refused: Vec<String> = opened.refused.iter().map(ToString::to_string).collect();
    // A job that cannot be built fails when it is worked.
    refused.rotate_right(1);
    assert_eq!(refused, alone);
    assert_eq!(of(&[&odd[1], &odd[0]]).unwrap_err().to_string(), alone[1]);
}

/// A record of a notification, changed at some places.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut body = notification("incoming/a.pdf", "0055AED6DCD90281E5");
    let record = &mut body["Records"][0];
    record["s3"]["object"]["eTag"] = json!("d41d8cd98f00b204e9800998ecf8427e");
    for (path, value) in changes {
        let mut at = &mut *record;
        for name in path.split('.') {
            at = &mut at[name];
        }
        *at = value.clone();
    }
    body
}

#[test]
fn two_events_are_one_when_everything_that_tells_them_apart_is_the_same() {
    let restored = |until: &str| {
        changed(&[
            ("eventName", json!("ObjectRestore:Completed")),
            ("s3.object.sequencer", json!("")),
            (
                "glacierEventData.restoreEventData.lifecycleRestorationExpiryTime",
                json!(until),
            ),
        ])
    };
    let of_version = |version: &str, sequencer: &str| {
        changed(&[
            ("s3.object.versionId", json!(version)),
            ("s3.object.sequencer", json!(sequencer)),
        ])
    };
    let nothing = [
        ("s3.object.sequencer", Value::Null),
        ("s3.object.eTag", Value::Null),
    ];
    let timed = |time: &str| changed(&[&nothing[..], &[("eventTime", json!(time))]].concat());
    let mut rules = rules();
    rules[0].events = ["ObjectCreated:*", "ObjectRestore:*"]
        .map(|name| name.parse().unwrap())
        .into();
    let id = |body: &Value| open(&body.to_string(), &rules).unwrap().jobs.remove(0).id;
    for (what, a, b) in [
        (
            "two restorations",
            restored("2026-06-08T00:00:00.000Z"),
            restored("2026-11-08T00:00:00.000Z"),
        ),
        (
            "a restoration and the creation",
            restored("2026-06-08T00:00:00.000Z"),
            changed(&[]),
        ),
        (
            "two uploads without versions",
            of_version("null", "0A"),
            of_version("null", "0B"),
        ),
        (
            "two versions with a constant sequencer",
            of_version("v1", "0A"),
            of_version("v2", "0A"),
        ),
        (
            "another content",
            changed(&[]),
            changed(&[("s3.object.eTag", json!("ff"))]),
        ),
        (
            "another time",
            changed(&[]),
            changed(&[("eventTime", json!("2026-11-27T18:40:00Z"))]),
        ),
        (
            "another time and nothing else",
            timed("2026-11-23T18:40:00Z"),
            timed("2026-11-23T18:40:01Z"),
        ),
        (
            "another way",
            changed(&[]),
            changed(&[("eventName", json!("ObjectCreated:Copy"))]),
        ),
    ] {
        assert_ne!(id(&a), id(&b), "{what}");
    }
    for (what, body) in [
        (
            "with a version that is none",
            changed(&[("s3.object.versionId", json!("null"))]),
        ),
        (
            "with an empty version",
            changed(&[("s3.object.versionId", json!(""))]),
        ),
        (
            "with quotes",
            changed(&[(
                "s3.object.eTag",
                json!("\"D41D8CD98F00B204E9800998ECF8427E\""),
            )]),
        ),
        (
            "with milliseconds",
            changed(&[("eventTime", json!("2026-11-23T18:40:00.712Z"))]),
        ),
        (
            "with an offset",
            changed(&[("eventTime", json!("2026-11-23T19:40:00+01:00"))]),
        ),
        (
            "with another case",
            changed(&[("s3.object.sequencer", json!("0055aed6dcd90281e5"))]),
        ),
    ] {
        assert_eq!(id(&changed(&[])), id(&body), "{what}");
    }
    let bridged = json!({
        "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z",
        "detail": {
            "bucket": { "name": "uploads" },
            "object": { "key": "incoming/a.pdf", "sequencer": "0055AED6DCD90281E5", "etag": "d41d8cd98f00b204e9800998ecf8427e" },
            "reason": "PutObject"
        }
    });
    assert_eq!(id(&changed(&[])), id(&bridged), "by way of EventBridge");
}

#[test]
fn event_bridge_keys_are_taken_as_they_are() {
    let job = only_job(&json!({
        "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z",
        "detail": { "bucket": { "name": "uploads" }, "object": { "key": "incoming/a+b%20c.pdf", "sequencer": "1" } }
    }));
    assert_eq!(key_of(&job), "incoming/a+b%20c.pdf");
}

#[test]
fn braces_in_a_key_stay_what_they_are() {
    let job = only_job(&notification("incoming/%7B%7Bvars.secret%7D%7D.pdf", "1"));
    assert_eq!(key_of(&job), "incoming/{{vars.secret}}.pdf");
    let subject = job.email.unwrap().subject.unwrap();
    let scope = PhraseScope {
        event: job.event.as_ref(),
        object: Some(&"x/y.pdf".parse().unwrap()),
        ..PhraseScope::default()
    };
    assert_eq!(
        subject.fill(&scope, 1000).unwrap(),
        "New: y.pdf incoming/{{vars.secret}}.pdf"
    );
}

#[test]
fn what_minio_sends_is_the_same_job_as_what_s3_sends() {
    let mut minio = notification("incoming%2Fa+b.pdf", "17C3A5");
    minio["EventName"] = json!("s3:ObjectCreated:Put");
    minio["Key"] = json!("uploads/incoming/a b.pdf");
    minio["Records"][0]["eventName"] = json!("s3:ObjectCreated:Put");
    minio["Records"][0]["eventSource"] = json!("minio:s3");
    let job = only_job(&minio);
    assert_eq!(key_of(&job), "incoming/a b.pdf");
    assert_eq!(
        job.id,
        only_job(&notification("incoming/a+b.pdf", "17C3A5")).id
    );
}

#[test]
fn the_scheduler_sends_a_job_whose_id_has_the_scheduled_time() {
    // EventBridge Scheduler puts in the instant for `<aws.scheduler.scheduled-time>` and sends the text as it then is.
    let input = r#"{ "v": 1, "id": "daily-<aws.scheduler.scheduled-time>", "scheduled_at": "<aws.scheduler.scheduled-time>",
        "from": { "connection": "local", "bucket": "reports", "prefix": "{{date}}/" }, "email": { "to": ["ann@acme.example"] } }"#;
    let sent = |time: &str| input.replace("<aws.scheduler.scheduled-time>", time);
    let opened = |body: &str| open(body, &[]).unwrap().jobs.remove(0);
    let job = opened(&sent("2026-11-23T06:00:00Z"));
    assert_eq!(job.id.as_str(), "daily-2026-11-23T06:00:00Z");
    assert_eq!(job.scheduled_at, "2026-11-23T06:00:00Z".parse().ok());
    assert_eq!(job.id, opened(&sent("2026-11-23T06:00:00Z")).id);
    assert_ne!(job.id, opened(&sent("2026-11-24T06:00:00Z")).id);
    // The placeholder is unfilled: the schedule's own text was sent to test the queue.
    let unfilled = open(input, &[]).unwrap_err();
    insta::assert_snapshot!(unfilled, @"the job's field scheduled_at cannot be read: it is not what this field takes: write it as \"2026-11-23T06:00:00Z\"");
}

#[test]
fn a_rule_names_what_must_have_happened_in_the_words_of_a_notification() {
    let of = |events: &[&str]| {
        let mut rules = rules();
        rules[0].events = events.iter().map(|name| name.parse().unwrap()).collect();
        rules
    };
    let happened = |name: &str| {
        let mut body = notification("incoming/a.pdf", "1");
        body["Records"][0]["eventName"] = json!(name);
        body.to_string()
    };
    let bridged = |detail_type: &str, reason: &str| {
        json!({
            "source": "aws.s3", "detail-type": detail_type, "time": "2026-11-23T18:40:00Z",
            "detail": { "bucket": { "name": "uploads" }, "object": { "key": "incoming/a.pdf", "sequencer": "1" },
                        "reason": reason }
        })
        .to_string()
    };
    let restored = of(&["ObjectRestore:Completed", "s3:ObjectCreated:Copy"]);
    for (body, wanted) in [
        (happened("ObjectRestore:Completed"), true),
        (happened("ObjectRestore:Post"), false),
        (happened("ObjectCreated:Copy"), true),
        (happened("ObjectCreated:Put"), false),
        (happened("ObjectRemoved:Delete"), false),
        (bridged("Object Restore Completed", ""), true),
        (bridged("Object Created", "CopyObject"), true),
        (bridged("Object Created", "PutObject"), false),
        (bridged("Object Created", "something new"), false),
        (bridged("Object Deleted", "DeleteObject"), false),
    ] {
        assert_eq!(open(&body, &restored).is_ok(), wanted, "{body}");
    }
    let any = of(&["ObjectCreated:*"]);
    assert!(open(&bridged("Object Created", "something new"), &any).is_ok());
    let refused = "ObjectRemoved:*".parse::<EventName>().unwrap_err();
    insta::assert_snapshot!(refused, @r#"is "ObjectRemoved:*"; supported: ObjectCreated:*, ObjectCreated:Put, ObjectCreated:Post, ObjectCreated:Copy, ObjectCreated:CompleteMultipartUpload, ObjectRestore:Completed"#);
}

#[test]
fn a_test_event_is_no_job_and_no_error() {
    let opened = open(
        r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"uploads"}"#,
        &[],
    )
    .unwrap();
    assert!(opened.test_event && opened.jobs.is_empty());
}

#[test]
fn an_event_of_a_folder_marker_is_no_job_and_no_error() {
    let bridged = |key: &str| {
        json!({
            "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T18:40:00Z",
            "detail": { "bucket": { "name": "uploads" }, "object": { "key": key, "size": 0, "sequencer": "1" } }
        })
    };
    let sized = |key: &str, size: u64| {
        let mut body = notification(key, "1");
        body["Records"][0]["s3"]["object"]["size"] = json!(size);
        body
    };
    let mut unsized_marker = notification("incoming/", "1");
    let object = &mut unsized_marker["Records"][0]["s3"]["object"];
    object.as_object_mut().unwrap().remove("size");
    for marker in [
        sized("incoming/", 0),
        sized("incoming/2026/", 0),
        sized("incoming_%24folder%24", 0),
        sized("incoming/2026_$folder$", 0),
        sized("elsewhere/", 0),
        bridged("incoming/"),
        bridged("incoming_$folder$"),
        unsized_marker,
    ] {
        let opened = super::open(&marker.to_string(), &rules()).unwrap();
        assert_eq!(
            (opened.jobs.len(), opened.folder_markers),
            (0, 1),
            "{marker}"
        );
    }
    let content = open(&sized("incoming/a_$folder$", 3).to_string(), &rules()).unwrap();
    assert_eq!(content.jobs.len(), 1, "it has content");
    // Beside others it changes nothing.
    let mut several = sized("incoming/", 0);
    for other in [sized("incoming/a.pdf", 3), sized("elsewhere/a.pdf", 3)] {
        let records = several["Records"].as_array_mut().unwrap();
        records.push(other["Records"][0].clone());
    }
    let opened = super::open(&several.to_string(), &rules()).unwrap();
    let counts = (opened.jobs.len(), opened.folder_markers, opened.unwanted);
    assert_eq!(counts, (1, 1, 1));
    several["Records"].as_array_mut().unwrap().remove(1);
    assert!(
        super::open(&several.to_string(), &rules()).is_err(),
        "no rule wants the other"
    );
}

#[test]
fn an_event_with_a_text_that_s3_cannot_have_written_is_rejected() {
    let long = "x".repeat(MAX_EVENT_TEXT_BYTES + 1);
    for pointer in [
        "/Records/0/s3/object/key",
        "/Records/0/s3/object/sequencer",
        "/Records/0/s3/bucket/name",
        "/Records/0/eventTime",
        "/Records/0/eventName",
    ] {
        let mut body = notification("incoming/a.pdf", "1");
        *body.pointer_mut(pointer).unwrap() = json!(long);
        let error = open(&body.to_string(), &rules()).unwrap_err().to_string();
        assert!(
            error.ends_with("has 1025 bytes: at most 1024 are allowed"),
            "{error}"
        );
    }
}

#[test]
fn an_event_without_a_rule_or_without_a_key_is_an_error() {
    let unwanted = open(&notification("elsewhere/a.pdf", "1").to_string(), &rules()).unwrap_err();
    insta::assert_snapshot!(unwanted, @"no [[on_event]] rule of the configuration matches the event ObjectCreated:Put for s3://uploads/elsewhere/a.pdf");
    let keyless = open(
        r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"sequencer":"1"}}}]}"#,
        &rules(),
    );
    insta::assert_snapshot!(keyless.unwrap_err(), @"the event has no /s3/bucket/name");
    assert!(open(r#"{"Records":[]}"#, &rules()).is_err());
    let removed = notification("incoming/a.pdf", "1")
        .to_string()
        .replace("ObjectCreated:Put", "ObjectRemoved:Delete");
    assert!(open(&removed, &rules()).is_err());
}
