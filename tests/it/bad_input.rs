//! What is wrong ends as one clear sentence, classed and settled, and never takes the worker down.

use serde_json::{Value, json};

use crate::support::world::{World, email_job};

/// A mail job with one thing changed.
fn with(id: &str, pointer: &str, value: Value) -> String {
    let mut job = email_job(id);
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    job.pointer_mut(parent).unwrap()[field] = value;
    job.to_string()
}

/// Works messages and returns the reasons for which they were parked, one a line; there must be one for each.
async fn reasons(bodies: &[String]) -> String {
    let mut world = World::new().object("a.pdf", "x");
    for body in bodies {
        world = world.message(body);
    }
    // One that is right comes last: whatever came before it, the worker is still there.
    world = world.job(&email_job("right"));
    world.run().await;
    let parked = world.parked().await;
    assert_eq!(world.mails().len(), 1, "the right job was done");
    assert_eq!(parked.len(), bodies.len(), "{parked:#?}");
    assert_eq!(
        world.audit_of("refused").len(),
        bodies.len(),
        "each has its line"
    );
    assert_eq!(world.waiting().await, 0, "none is tried again");
    parked.join("\n")
}

#[tokio::test]
async fn what_is_no_job_says_so() {
    let mut misspelt = email_job("x");
    misspelt["links"] = json!({ "exipres_in": "24h" });
    let mut deep = email_job("x");
    deep["email"]["to"] = json!([{ "adress": "ann@acme.example" }]);
    let bodies = [
        "not JSON".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"v":2,"id":"x"}"#.to_owned(),
        r#"{"v":1}"#.to_owned(),
        misspelt.to_string(),
        deep.to_string(),
        with("x", "/from/order", json!("newst")),
        "[".repeat(100_000),
        with("x", "/email", json!("ann.secret@acme.example")),
        with(
            "x",
            "/from/include",
            json!([format!("{}a{}", "{".repeat(100_000), "}".repeat(100_000))]),
        ),
    ];
    insta::assert_snapshot!(reasons(&bodies).await, @r#"
    the message is not JSON: expected ident at line 1 column 2
    the message is JSON, but not an object: a job looks like {"v":1,"id":…}
    the job has no version: write "v": 1
    the job's version "v" is 2: this program reads version 1, so write "v": 1
    the job cannot be read: missing field `id`: write "id": "daily-2026-11-23"
    the job's field links cannot be read: unknown field, expected one of `expires_in`, `disposition`, `filename`, `via`, `per_recipient`, `sign_in`, `open`; did you mean expires_in?
    the job's field email.to[0] cannot be read: unknown field, expected one of `address`, `name`, `locale`, `time_zone`, `vars`; did you mean address?
    the job's field from.order cannot be read: it is none of "key", "newest", "oldest", "largest", "name"; did you mean "newest"?
    the message has more than 32 lists and objects inside each other: remove some, or make several jobs of it
    the job's field email cannot be read: it is a text, and an object is wanted: write { "to": ["ann@acme.example"] }
    the job's field from.include[0] is a pattern of 200001 bytes: at most 1024 are allowed
    "#);
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named() {
    let mut both = email_job("x");
    both["from"]["keys"] = json!(["a.pdf"]);
    let mut neither = email_job("x");
    neither["from"] = json!({ "connection": "local", "bucket": "reports" });
    let mut nothing = email_job("x");
    nothing.as_object_mut().unwrap().remove("email");
    let mut keys = email_job("x");
    keys["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["a.pdf", ""] });
    let mut control = keys.clone();
    control["from"]["keys"] = json!(["a\nb.pdf"]);
    let mut blank = keys.clone();
    blank["from"]["keys"] = json!([" "]);
    let bodies = [
        with("", "/id", json!("")),
        with("x", "/from/bucket", json!("")),
        with("x", "/links", json!({ "expires_in": "0s" })),
        with("x", "/links", json!({ "expires_in": -5 })),
        with("x", "/links", json!({ "expires_in": "8d" })),
        with("x", "/links", json!({ "expires_in": "tomorrow" })),
        both.to_string(),
        neither.to_string(),
        nothing.to_string(),
        keys.to_string(),
        control.to_string(),
        blank.to_string(),
        with("x", "/email/to", json!([])),
        with("x", "/email/to", json!(["nobody"])),
        with(
            "x",
            "/email/to",
            json!([{ "address": "ann@acme.example", "name": "a\r\nBcc: eve@evil.example" }]),
        ),
        with("x", "/email/template", json!("../../etc/passwd")),
        with("x", "/from/include", json!(["a[.pdf"])),
        with("x", "/from/limit", json!(0)),
        with("x", "/vars", json!({ "recipient": 1 })),
        with(
            "x",
            "/gallery",
            json!({ "publish": { "dir": "relative/../path" } }),
        ),
    ];
    insta::assert_snapshot!(reasons(&bodies).await, @r#"
    the job's field id is empty: give an id that is the same for the same job
    the job's field from.bucket is empty: give the bucket's name
    the job's field links.expires_in is 0: a link must live for at least one second
    the job's field links.expires_in cannot be read: it is a number, and a duration such as "24h", or a whole number of seconds is wanted
    the job's field links.expires_in is 8d: S3 lets a link live for 7d at most
    the job's field links.expires_in cannot be read: it is not a duration: write a whole number with a unit, such as "90s", "15m", "24h" or "7d"
    the job's field from.keys is set together with from.prefix: give only one of them
    the job's field from.prefix is missing: give from.prefix or from.keys
    the job's field email is missing: a job needs at least one of email, gallery, manifest and zip
    the job's field from.keys[1] is empty: give the object's key
    the job's field from.keys[0] holds the control character '\n', which no mail or page can carry
    the job's field from.keys[0] consists of white space only, which a request cannot name: give the object's key
    the job's field email.to is empty: a mail needs at least one recipient
    the job's field email.to[0] is not an e-mail address: write "ann@acme.example" or "Ann Bell <ann@acme.example>"
    the job's field email.to[0] holds the character '\r', which could forge a mail's header or hide a name
    the job's field email.template holds the character '.': a template's name has letters, digits, '-' and '_'
    the job's field from.include[0] is not a pattern: unclosed character class; missing ']'
    the job's field from.limit is 0: leave it out, or give at least 1
    the job's field vars.recipient is a reserved name (recipient, object, job, event, vars, date, year, month, day, utc): choose another
    the job's field gallery.publish.dir is not an absolute path without ".."
    "#);
}

#[tokio::test]
async fn what_does_not_exist_or_is_not_allowed_is_named() {
    let mut missing_key = email_job("missing-key");
    missing_key["from"] =
        json!({ "connection": "local", "bucket": "reports", "keys": ["gone.pdf"] });
    let bodies = [
        with("connection", "/from/connection", json!("elsewhere")),
        with("bucket", "/from/bucket", json!("secrets")),
        with("template", "/email/template", json!("rapport")),
        with("subject", "/email/subject", json!("{{costumer}}")),
        with(
            "filename",
            "/links",
            json!({ "filename": "{{object.nam}}" }),
        ),
        with("cloudfront", "/links", json!({ "via": "cloudfront" })),
        with(
            "publish",
            "/gallery",
            json!({ "publish": { "bucket": "elsewhere", "prefix": "x/" } }),
        ),
        with("answers", "/email/reply_to", json!("eve@evil.example")),
        with(
            "dots",
            "/gallery",
            json!({ "publish": { "bucket": "published", "prefix": "galleries/../x/" } }),
        ),
        missing_key.to_string(),
    ];
    insta::assert_snapshot!(reasons(&bodies).await, @r#"
    unknown connection elsewhere in the job's field from.connection; configured: local
    no [[allow]] rule of the configuration lets connection local hand out s3://secrets/; add one if this is wanted
    the job's field email.template names the template "rapport", which is not installed; installed: digest, gallery-invite, report
    the job's field email.subject uses {{costumer}}, which has no value here; known are: recipient.name, recipient.address, recipient.locale, job.id
    the job's field links.filename uses {{object.nam}}, which has no value here; known are: recipient.name, recipient.address, recipient.locale, object.name, object.stem, object.extension, object.folder, object.key, job.id
    the job's field links.via asks for cloudfront, and connection local has no distribution in front of s3://reports/: use "s3", or see [connections.local.cloudfront]
    the [[allow]] rules for s3://reports/ do not let it be published to s3://elsewhere/x/
    the [[allow]] rules for s3://reports/ do not let answers go to e…@evil.example (email.reply_to): answers quote live links
    the job's field gallery.publish.prefix has "." or ".." as a folder, which browsers change
    there are no objects to hand out under s3://reports/gone.pdf (from.when_empty = "refuse")
    "#);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_parked_though_a_rule_allows_it() {
    let mut world = World::new().configured(|config| config.allow[0].bucket = "missing".to_owned());
    world = world.message(&with("missing", "/from/bucket", json!("missing")));
    world.run().await;
    let parked = world.parked().await.join("\n");
    assert!(
        parked.starts_with("could not list s3://missing/: it does not exist"),
        "{parked}"
    );
}

#[tokio::test]
async fn a_message_of_a_mebibyte_is_read_and_one_byte_more_is_refused() {
    let body = |length: usize| {
        let job = email_job("large").to_string();
        let padding = " ".repeat(length - job.len());
        format!("{job}{padding}")
    };
    let mut world = World::new()
        .object("a.pdf", "x")
        .message(&body(1024 * 1024))
        .message(&body(1024 * 1024 + 1));
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    insta::assert_snapshot!(world.parked().await.join("\n"), @"the message has 1048577 bytes; a job may have at most 1048576");
}

#[tokio::test]
async fn a_store_that_denies_is_tried_again_later_since_people_repair_that() {
    use handout::error::{FailureClass, JobError};
    use handout::links::listing::GatherError;
    use handout::store::{EdgeError, ErrorKind};
    let denied = |fact| {
        let action = "list s3://reports/".to_owned();
        JobError::Gather(GatherError::Store(EdgeError {
            action,
            fact,
            answer: None,
            source: "AccessDenied".into(),
        }))
    };
    assert_eq!(denied(ErrorKind::Denied).class(), FailureClass::Edge);
    assert!(denied(ErrorKind::Denied).needs_a_person());
    assert_eq!(denied(ErrorKind::Throttled).class(), FailureClass::Edge);
    assert!(!denied(ErrorKind::Throttled).needs_a_person());
    assert_eq!(denied(ErrorKind::NotFound).class(), FailureClass::Permanent);
}

/// Each key would be asked for: a message of many missing ones would hold its slot for minutes.
#[tokio::test]
async fn more_named_keys_than_the_rule_lets_a_job_link_are_refused_whether_or_not_they_are_there() {
    let job = |id: &str, keys: usize, limit: Option<u64>| {
        let keys: Vec<String> = (0..keys).map(|n| format!("gone-{n}.pdf")).collect();
        let mut job = email_job(id);
        job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": keys, "limit": limit, "when_empty": "skip" });
        job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
        job
    };
    let mut world = World::new()
        .configured(|config| config.allow[0].max_links = 10)
        .job(&job("few", 5, None))
        .job(&job("limited", 6, Some(5)))
        .job(&job("many", 6, None));
    world.run().await;
    insta::assert_snapshot!(world.parked().await.join("\n"), @"the job makes more than 10 links, the most that its [[allow]] rule permits (max_links)");
}
