//! A job goes in; mails, pages, lists and audit lines come out.

use handout::audit::verify::verify;
use serde_json::{Value, json};

use crate::support::world::{World, email_job};
use crate::support::{get, hrefs};

fn fingerprints(world: &World) -> Vec<String> {
    world
        .audit()
        .iter()
        .filter_map(|line| line["link"].as_str().map(ToOwned::to_owned))
        .collect()
}

#[tokio::test]
async fn a_job_becomes_a_mail_whose_links_open() {
    let mut world = World::new()
        .object("2026/a b.pdf", "one")
        .object("2026/ü.csv", "two")
        .job(&email_job("daily"));
    world.run().await;
    let mails = world.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].to.as_str(), mails[0].subject.as_str()),
        ("ann@acme.example", "Report daily")
    );
    assert_eq!(mails[0].hrefs.len(), 2);
    let opened = world.open().await;
    for (href, text) in mails[0].hrefs.iter().zip(["one", "two"]) {
        assert_eq!(get(href).await, (200, text.as_bytes().to_vec()));
    }
    opened.close().await;
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn every_link_has_its_line_and_the_line_does_not_open_anything() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let issued = world.audit_of("issue");
    assert_eq!(issued.len(), 1);
    let line = &issued[0];
    assert_eq!(
        (&line["job"], &line["bucket"], &line["key"]),
        (&json!("daily"), &json!("reports"), &json!("a.pdf"))
    );
    let href = &world.mails()[0].hrefs[0];
    let signature = href
        .split("X-Amz-Signature=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let text = line.to_string();
    assert!(
        !text.contains(signature) && !text.contains("ann@acme.example") && !text.contains("http"),
        "{text}"
    );
    assert!(
        href.contains(line["link_id"].as_str().unwrap()),
        "the identity in the line is the one signed into the link"
    );
    assert_eq!(world.audit_of("outcome")[0]["outcome"], "accepted");
    let report = verify(world.config.audit_dir(), None).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[tokio::test]
async fn each_recipient_gets_links_of_their_own() {
    let mut job = email_job("daily");
    job["email"]["to"] = json!([
        "ann@acme.example",
        "bo@acme.example",
        "Ann <ANN@acme.example>"
    ]);
    let mut world = World::new().object("a.pdf", "x").job(&job);
    world.run().await;
    let mails = world.mails();
    assert_eq!(
        mails
            .iter()
            .map(|mail| mail.to.as_str())
            .collect::<Vec<_>>(),
        ["ann@acme.example", "bo@acme.example"]
    );
    assert_ne!(mails[0].hrefs, mails[1].hrefs);
    assert_eq!(world.audit_of("issue").len(), 2);
}

#[tokio::test]
async fn links_are_shared_when_the_job_says_so() {
    let mut job = email_job("daily");
    job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
    job["links"] = json!({ "per_recipient": false });
    let mut world = World::new().object("a.pdf", "x").job(&job);
    world.run().await;
    let mails = world.mails();
    assert_eq!(mails[0].hrefs, mails[1].hrefs);
    assert_eq!(world.audit_of("issue").len(), 1);
}

#[tokio::test]
async fn a_message_that_comes_twice_mails_nobody_twice() {
    let mut world = World::new()
        .object("a.pdf", "x")
        .job(&email_job("daily"))
        .job(&email_job("daily"));
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    assert_eq!(world.audit_of("outcome").len(), 1);
    // The second may have met the first in flight and wait for its turn; then it is only deleted.
    world = world.job(&email_job("daily"));
    world.run().await;
    assert_eq!(world.audit_of("outcome").len(), 1);
    assert_eq!(
        world.audit_of("issue").len(),
        1,
        "a job that is done signs nothing"
    );
}

#[tokio::test]
async fn a_taken_id_with_another_body_is_parked() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let mut other = email_job("daily");
    other["email"]["to"] = json!(["eve@acme.example"]);
    world = world.job(&other);
    world.run().await;
    insta::assert_snapshot!(world.parked().await.join("\n"), @"the job id daily was used before for another job: give this one an id of its own");
    assert_eq!(world.mails().len(), 1);
}

#[tokio::test]
async fn what_no_rule_allows_is_refused_with_a_line_and_parked() {
    let mut job = email_job("leak");
    job["email"]["to"] = json!(["ann@acme.example", "eve@evil.example"]);
    let mut world = World::new().object("a.pdf", "x").job(&job);
    world.run().await;
    assert!(world.mails().is_empty());
    let parked = world.parked().await;
    insta::assert_snapshot!(parked.join("\n"), @"the [[allow]] rules for s3://reports/ do not let it go to the recipient e…@evil.example (email.to[1])");
    let refused = world.audit_of("refused");
    assert_eq!(
        (refused.len(), &refused[0]["reason"]),
        (1, &json!(parked[0]))
    );
    assert!(world.audit_of("issue").is_empty());
}

#[tokio::test]
async fn a_gallery_is_published_under_a_name_nobody_can_guess_and_every_link_on_it_is_audited() {
    let mut job = email_job("shoot");
    job["gallery"] =
        json!({ "title": "Shoot", "publish": { "bucket": "published", "prefix": "galleries/" } });
    let mut world = World::new()
        .object("day 1/a.jpg", "x")
        .object("b.pdf", "y")
        .job(&job);
    world.run().await;
    let mail = world.mails().remove(0);
    let gallery = mail
        .hrefs
        .iter()
        .find(|href| href.contains("index.html"))
        .expect("the mail links the gallery")
        .clone();
    let opened = world.open().await;
    let (status, page) = get(&gallery).await;
    assert_eq!(status, 200);
    let page = String::from_utf8(page).unwrap();
    let names = handout::audit::record::Pseudonyms::new(&opened.services.signing.keyring, false);
    let known = fingerprints(&world);
    let on_page = hrefs(&page);
    assert!(on_page.len() >= 2, "{page}");
    for href in on_page.iter().chain(&mail.hrefs) {
        let signature = presign::signature_in(href).expect("every link is signed");
        assert!(
            known.contains(&names.fingerprint(&signature)),
            "a link has no line"
        );
        assert_eq!(get(href).await.0, 200);
    }
    opened.close().await;
    assert_eq!(world.audit_of("gallery").len(), 1);
    let folder = std::fs::read_dir(world.bucket("published").join("galleries"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(folder.file_name().len(), 32);
}

#[tokio::test]
async fn pages_and_lists_can_go_into_a_directory() {
    let mut world = World::new().object("a.jpg", "x");
    let dir = world.dir.path().join("pages");
    let job = json!({
        "v": 1, "id": "pages",
        "from": { "connection": "local", "bucket": "reports", "prefix": "" },
        "gallery": { "publish": { "dir": dir } },
        "manifest": { "format": "jsonl", "publish": { "dir": dir } },
    });
    world = world.job(&job);
    world.run().await;
    let published: Vec<String> = world
        .audit_of("published")
        .iter()
        .map(|line| line["place"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(published.len(), 2);
    let list = published
        .iter()
        .find(|place| place.ends_with("manifest.jsonl"))
        .unwrap();
    let line: Value = serde_json::from_str(
        std::fs::read_to_string(list)
            .unwrap()
            .lines()
            .next()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(line["key"], "a.jpg");
    assert!(published.iter().any(|place| place.ends_with("index.html")));
}

#[tokio::test]
async fn many_objects_make_many_pages_and_an_index() {
    let mut world = World::new().configured(|config| config.gallery.page_size = 3);
    for number in 0..8 {
        world = world.object(&format!("{number}.txt"), "x");
    }
    let dir = world.dir.path().join("pages");
    let job = json!({
        "v": 1, "id": "pages",
        "from": { "connection": "local", "bucket": "reports", "prefix": "" },
        "gallery": { "publish": { "dir": dir } },
    });
    world = world.job(&job);
    world.run().await;
    let folder = std::fs::read_dir(&dir)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["index.html", "page-1.html", "page-2.html", "page-3.html"]
    );
}

#[tokio::test]
async fn an_event_becomes_a_job_by_a_rule_of_the_configuration() {
    let mut world = World::new().object("incoming/new file.pdf", "x");
    let template = world.dir.path().join("on-upload.json");
    let mut job = email_job("upload");
    job["from"] =
        json!({ "connection": "local", "bucket": "{{event.bucket}}", "keys": ["{{event.key}}"] });
    std::fs::write(&template, job.to_string()).unwrap();
    world = world.configured(|config| {
        config.on_event = vec![handout::config::OnEventConfig {
            bucket: "reports".to_owned(),
            key: "incoming/**".to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: template.clone(),
        }];
    });
    let event = json!({ "Records": [{
        "eventName": "ObjectCreated:Put", "eventTime": "2026-11-23T18:40:00Z",
        "s3": { "bucket": { "name": "reports" }, "object": { "key": "incoming/new+file.pdf", "sequencer": "1" } }
    }] });
    world = world
        .job(&event)
        .message(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"reports"}"#);
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    assert_eq!(world.audit_of("issue")[0]["key"], "incoming/new file.pdf");
    assert!(
        world.parked().await.is_empty(),
        "a test event is no mistake"
    );
}

#[tokio::test]
async fn an_upload_that_is_gone_when_its_turn_comes_is_settled_and_parked_only_where_the_rule_says_so()
 {
    for (when_empty, is_parked) in [(None, false), (Some("skip"), false), (Some("refuse"), true)] {
        for from in [
            json!({ "keys": ["{{event.key}}"] }),
            json!({ "prefix": "{{event.folder}}/" }),
        ] {
            let world = World::new();
            let template = world.dir.path().join("on-upload.json");
            let mut job = email_job("upload");
            job["from"] = from.clone();
            job["from"]["connection"] = json!("local");
            job["from"]["bucket"] = json!("{{event.bucket}}");
            if let Some(when_empty) = when_empty {
                job["from"]["when_empty"] = json!(when_empty);
            }
            std::fs::write(&template, job.to_string()).unwrap();
            let event = json!({ "Records": [{
                "eventName": "ObjectCreated:Put", "eventTime": "2026-11-23T18:40:00Z",
                "s3": { "bucket": { "name": "reports" }, "object": { "key": "incoming/.tmp-1", "sequencer": "1" } }
            }] });
            let mut world = world
                .configured(|config| {
                    config.on_event = vec![handout::config::OnEventConfig {
                        bucket: "reports".to_owned(),
                        key: "incoming/**".to_owned(),
                        events: vec!["ObjectCreated:*".to_owned()],
                        job_file: template.clone(),
                    }];
                })
                .job(&event);
            world.run().await;
            assert!(world.mails().is_empty());
            let parked = world.parked().await;
            assert_eq!(
                !parked.is_empty(),
                is_parked,
                "{when_empty:?} {from}: {parked:?}"
            );
            let counted = world.counted.events_without_object;
            assert_eq!(counted, u64::from(!is_parked), "{when_empty:?} {from}");
        }
    }
}

#[tokio::test]
async fn objects_are_chosen_ordered_and_limited() {
    let mut job = email_job("chosen");
    job["from"]["prefix"] = json!("2026/");
    job["from"]["include"] = json!(["**/*.pdf"]);
    job["from"]["exclude"] = json!(["**/draft-*"]);
    job["from"]["order"] = json!("largest");
    job["from"]["limit"] = json!(2);
    let mut world = World::new();
    for (key, text) in [
        ("2025/old.pdf", "xxxxxx"),
        ("2026/small.pdf", "x"),
        ("2026/deep/large.pdf", "xxxx"),
        ("2026/draft-a.pdf", "xxxxx"),
        ("2026/deep/draft-b.pdf", "xxxxx"),
        ("2026/middle.pdf", "xx"),
        ("2026/table.csv", "xxxxxxx"),
    ] {
        world = world.object(key, text);
    }
    world = world.job(&job);
    world.run().await;
    let keys: Vec<Value> = world
        .audit_of("issue")
        .into_iter()
        .map(|line| line["key"].clone())
        .collect();
    assert_eq!(keys, ["2026/deep/large.pdf", "2026/middle.pdf"]);
}

#[tokio::test]
async fn nothing_to_hand_out_is_refused_delivered_or_skipped_as_the_job_says() {
    let job = |when: &str| {
        let mut job = email_job(when);
        job["from"]["prefix"] = json!("nothing/");
        job["from"]["when_empty"] = json!(when);
        job
    };
    let mut world = World::new()
        .job(&job("refuse"))
        .job(&job("deliver"))
        .job(&job("skip"));
    world.run().await;
    insta::assert_snapshot!(world.parked().await.join("\n"), @r#"there are no objects to hand out under s3://reports/nothing/ (from.when_empty = "refuse")"#);
    let subjects: Vec<String> = world.mails().into_iter().map(|mail| mail.subject).collect();
    assert_eq!(subjects, ["Report deliver"]);
}

#[tokio::test]
async fn what_the_program_writes_holds_no_signature_but_in_mails_and_pages() {
    let mut world = World::new().object("a.pdf", "x").job(&email_job("daily"));
    world.run().await;
    let signature = world.mails()[0].hrefs[0]
        .split("X-Amz-Signature=")
        .nth(1)
        .unwrap()[..64]
        .to_owned();
    let mut dirs = vec![world.config.state_dir.clone()];
    let mut searched = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path == world.config.outbox_dir() {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            // The database's journal goes away by itself after the end.
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            let found = bytes
                .windows(signature.len())
                .any(|window| window == signature.as_bytes());
            assert!(!found, "{} holds a signature", path.display());
            searched += 1;
        }
    }
    assert!(searched >= 3, "database, secret and log were searched");
}

#[tokio::test]
async fn a_job_makes_no_more_links_than_its_rule_lets_it_whoever_they_are_for() {
    let mut job = email_job("crowd");
    job["email"]["to"] = json!(["a@acme.example", "b@acme.example", "c@acme.example"]);
    let mut world = World::new()
        .configured(|config| config.allow[0].max_links = 5)
        .object("a.pdf", "x")
        .object("b.pdf", "y")
        .job(&job);
    world.run().await;
    insta::assert_snapshot!(world.parked().await.join("\n"), @"the job makes more than 5 links, the most that its [[allow]] rule permits (max_links)");
    assert!(world.audit_of("issue").is_empty());
}

#[tokio::test]
async fn a_job_that_would_start_itself_is_refused() {
    let mut job = email_job("loop");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "galleries/" } });
    let mut world = World::new().object("a.pdf", "x");
    let template = world.dir.path().join("on-upload.json");
    std::fs::write(&template, job.to_string()).unwrap();
    world = world.configured(|config| {
        let rule = |key: &str| handout::config::OnEventConfig {
            bucket: "published".to_owned(),
            key: key.to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: template.clone(),
        };
        config.on_event = vec![rule("elsewhere/**"), rule("**/*.html")];
    });
    world = world.job(&job);
    world.run().await;
    insta::assert_snapshot!(world.parked().await.join("\n"), @"publishing to s3://published/galleries/ would trigger an [[on_event]] rule, and the job of that rule would publish and trigger it again");
}

#[tokio::test]
async fn links_that_grew_old_are_not_mailed_but_signed_anew() {
    use handout::distribute::distribute;
    use handout::error::{FailureClass, JobError};
    use handout::run::JobRun;
    let world = World::new().object("a.pdf", "x");
    let opened = world.open().await;
    let mut job = email_job("slow");
    job["links"] = json!({ "expires_in": "1h" });
    let job = std::sync::Arc::new(handout::job::Job::parse(&job.to_string()).unwrap());
    let run = |minutes_ago: i64| JobRun {
        job: std::sync::Arc::clone(&job),
        message_id: None,
        attempt: 1,
        now: handout::clock::system() - jiff::SignedDuration::from_mins(minutes_ago),
        stop: handout::cancellation::Cancellation::default(),
        trace: None,
        delivery: handout::run::delivery::Delivery::unnoted(),
        lanes: None,
    };
    let error = distribute(&run(40), &opened.services).await.unwrap_err();
    assert!(matches!(error, JobError::Aged(_)), "{error}");
    assert_eq!(error.class(), FailureClass::Transient);
    assert!(world.mails().is_empty());
    assert_eq!(
        distribute(&run(0), &opened.services)
            .await
            .unwrap()
            .accepted,
        1
    );
    opened.close().await;
}

/// The instant at which it was asked for first, whenever it is asked.
fn stopped_clock() -> jiff::Timestamp {
    static INSTANT: std::sync::OnceLock<jiff::Timestamp> = std::sync::OnceLock::new();
    *INSTANT.get_or_init(handout::clock::system)
}

#[tokio::test]
async fn the_shortest_links_are_handed_out_too() {
    use handout::distribute::distribute;
    use handout::run::JobRun;
    let world = World::new().object("a.pdf", "x");
    let mut opened = world.open().await;
    opened.services.clock = stopped_clock;
    for expires_in in ["1s", "60s"] {
        let mut job = email_job(expires_in);
        job["links"] = json!({ "expires_in": expires_in });
        let run = JobRun {
            job: std::sync::Arc::new(handout::job::Job::parse(&job.to_string()).unwrap()),
            message_id: None,
            attempt: 1,
            now: stopped_clock(),
            stop: handout::cancellation::Cancellation::default(),
            trace: None,
            delivery: handout::run::delivery::Delivery::unnoted(),
            lanes: None,
        };
        let delivered = distribute(&run, &opened.services).await;
        assert_eq!(delivered.unwrap().accepted, 1, "{expires_in}");
    }
    opened.close().await;
}

#[tokio::test]
async fn links_are_dated_by_the_clock_of_the_store_from_the_first_job_on() {
    use handout::distribute::distribute;
    use handout::run::JobRun;
    use handout::store::memory::MemoryStore;
    use jiff::SignedDuration;
    for minutes in [-4, 4] {
        let world = World::new();
        let mut opened = world.open().await;
        let store = MemoryStore::new(10);
        store.insert("reports", "a.pdf", b"x", jiff::Timestamp::UNIX_EPOCH);
        store.set_clock_ahead(SignedDuration::from_mins(minutes));
        let connections = std::sync::Arc::make_mut(&mut opened.services.signing.connections);
        let connection = connections.get_mut(&"local".parse().unwrap()).unwrap();
        connection.store = std::sync::Arc::new(store);
        // Twenty-nine minutes are not half of an hour, whatever the store's clock says.
        let now = handout::clock::system() - SignedDuration::from_mins(29);
        let now = jiff::Timestamp::from_second(now.as_second()).unwrap();
        for id in ["first", "second"] {
            let mut job = email_job(id);
            job["links"] = json!({ "expires_in": "1h" });
            let run = JobRun {
                job: std::sync::Arc::new(handout::job::Job::parse(&job.to_string()).unwrap()),
                message_id: None,
                attempt: 1,
                now,
                stop: handout::cancellation::Cancellation::default(),
                trace: None,
                delivery: handout::run::delivery::Delivery::unnoted(),
                lanes: None,
            };
            distribute(&run, &opened.services).await.unwrap();
            let line = world.audit_of("issue").pop().unwrap();
            let told = ["signed_at", "expires_at"].map(|name| {
                let instant: jiff::Timestamp = line[name].as_str().unwrap().parse().unwrap();
                instant.duration_since(now).as_secs()
            });
            assert_eq!(told, [minutes * 60 - 60, minutes * 60 + 3600], "{id}");
        }
        opened.close().await;
    }
}

#[tokio::test]
async fn work_that_is_told_to_stop_ends_before_its_next_mail_and_comes_back_at_once() {
    use handout::distribute::distribute;
    use handout::run::JobRun;
    let world = World::new().object("a.pdf", "x");
    let opened = world.open().await;
    let job =
        std::sync::Arc::new(handout::job::Job::parse(&email_job("stopped").to_string()).unwrap());
    let stop = handout::cancellation::Cancellation::default();
    stop.cancel();
    let run = JobRun {
        job,
        message_id: None,
        attempt: 1,
        now: handout::clock::system(),
        stop,
        trace: None,
        delivery: handout::run::delivery::Delivery::unnoted(),
        lanes: None,
    };
    let error = distribute(&run, &opened.services).await.unwrap_err();
    assert!(error.is_stopped(), "{error}");
    assert!(world.mails().is_empty());
    opened.close().await;
}
