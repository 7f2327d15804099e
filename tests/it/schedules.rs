//! Schedules: each occurrence is one job, also where a process is killed between its steps.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use aws_sdk_sqs::types::QueueAttributeName::{
    All, ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
};
use handout::config::ScheduleConfig;
use handout::ledger::schedules::ScheduleRecords;
use handout::queue::Queue;
use serde_json::Value;

use crate::conformance::{make_queue, s3_client, sqs_client};
use crate::daemon::Daemon;
use crate::support::docs::{Page, page};
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job, free_address, run_until_settled};
use crate::support::{program, until};

/// A world with a schedule whose rule is `every`.
fn scheduled(every: &str, name: &str) -> World {
    let world = World::new().object("a.pdf", "x");
    let file = world.dir.path().join("scheduled.json");
    let mut job = email_job("none");
    job.as_object_mut().unwrap().remove("id");
    job.as_object_mut().unwrap().remove("scheduled_at");
    fs::write(&file, job.to_string()).unwrap();
    world.configured(|config| {
        config.schedule.push(ScheduleConfig {
            name: name.parse().unwrap(),
            cron: None,
            every: Some(every.parse().unwrap()),
            time_zone: Some("Europe/Berlin".to_owned()),
            job_file: file,
            catch_up: handout::schedule::CatchUp::default(),
            within: "12h".parse().unwrap(),
            spread: None,
        });
    })
}

fn handout(world: &World, words: &[&str]) -> Output {
    let mut handout = Command::new(program());
    handout.args(words).arg("--config").arg(world.written());
    handout.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn an_occurrence_by_hand_is_done_once_and_is_about_its_instant() {
    let world = scheduled("6h", "acme-daily");
    let at = [
        "schedule",
        "run",
        "acme-daily",
        "--at",
        "2026-11-26T23:00:00Z",
    ];
    for _ in 0..2 {
        let said = stdout(&handout(&world, &at));
        assert!(
            said.starts_with("submitted acme-daily.20261126T230000Z as message"),
            "{said}"
        );
    }
    // Shown as started, whichever way it was begun.
    let listed = stdout(&handout(&world, &["schedule", "list"]));
    assert!(
        listed.contains("\tlast started 2026-11-26T23:00:00Z\tnext "),
        "{listed}"
    );
    let opened = world.open().await;
    run_until_settled(&opened, 2).await;
    opened.close().await;
    let outcomes = world.audit_of("outcome");
    assert_eq!(outcomes.len(), 1, "two messages are one job");
    assert_eq!(outcomes[0]["job"], "acme-daily.20261126T230000Z");
    let next = stdout(&handout(
        &world,
        &["schedule", "next", "acme-daily", "-n", "2", "--json"],
    ));
    let next: Value = serde_json::from_str(&next).unwrap();
    assert_eq!(next["next"].as_array().unwrap().len(), 2);
    let first = &next["next"][0];
    let local = first["local"].as_str().unwrap();
    assert!(local.ends_with("+01:00") || local.ends_with("+02:00"));
    let is_same = |field: &str| {
        let at: jiff::Timestamp = first[field].as_str().unwrap().parse().unwrap();
        at == local.parse().unwrap()
    };
    assert!(is_same("occurrence") && is_same("starts_at"), "{first}");
    // Each line has the instant in the zone and in UTC; with a spread, both for the start.
    let line = ["schedule", "next", "acme-daily", "-n", "1"];
    let shown = stdout(&handout(&world, &line));
    assert_eq!(shown.trim_end().split('\t').count(), 3, "{shown}");
    let world = world.configured(|config| {
        config.schedule[0].spread = Some("5m".parse().unwrap());
    });
    let shown = stdout(&handout(&world, &line));
    let columns: Vec<&str> = shown.trim_end().split('\t').collect();
    assert_eq!(columns.len(), 5, "{shown}");
    assert!(columns[3].starts_with("starts "), "{shown}");
    for (local, utc) in [(0, 1), (3, 4)] {
        let minutes = |text: &str| text.rsplit_once(':').map(|(_, end)| end.len());
        assert_eq!(minutes(columns[local]), Some(2), "an offset: {shown}");
        assert!(columns[utc].ends_with('Z'), "{shown}");
    }
    let unknown = handout(&world, &["schedule", "next", "other"]);
    assert!(!unknown.status.success());
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("configured: acme-daily"), "{said}");
}

#[tokio::test]
async fn an_instant_that_is_no_occurrence_is_refused_with_those_around_it() {
    let world = scheduled("6h", "acme-daily");
    for command in ["run", "preview"] {
        let at = "2026-11-27T06:30:00.5Z";
        let refused = handout(&world, &["schedule", command, "acme-daily", "--at", at]);
        assert_eq!(refused.status.code(), Some(64), "a wrong argument");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            said.contains(
                "--at 2026-11-27T06:30:00Z is no occurrence of the schedule acme-daily: \
                 the occurrence before it is 2026-11-27T05:00:00Z (Fri 2026-11-27 06:00+01:00), \
                 the one after it is 2026-11-27T11:00:00Z (Fri 2026-11-27 12:00+01:00); write one of these"
            ),
            "{said}"
        );
    }
    let opened = world.open().await;
    assert_eq!(opened.queue.waiting().await.unwrap(), 0, "nothing is sent");
    opened.close().await;
}

#[tokio::test]
async fn a_schedule_is_rehearsed_and_previewed_without_a_trace_for_its_occurrence() {
    let world = scheduled("6h", "acme-daily");
    let at = "2026-11-26T23:00:00Z";
    let to_me = ["--at", at, "--rehearse", "me@other.example"];
    let words = [&["schedule", "run", "acme-daily"][..], &to_me].concat();
    let said = stdout(&handout(&world, &words));
    assert!(
        said.contains("all mails went to me@other.example"),
        "{said}"
    );
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "{said}");
    assert_eq!(mails[0].to, "me@other.example");
    assert!(
        mails[0].subject.starts_with("[ann@acme.example]"),
        "{}",
        mails[0].subject
    );
    let outcomes = world.audit_of("outcome");
    let id = outcomes[0]["job"].as_str().unwrap().to_owned();
    assert!(
        id.starts_with("acme-daily.20261126T230000Z.rehearsal."),
        "{id}"
    );
    let out = world.dir.path().join("preview");
    let out = out.to_str().unwrap();
    let words = ["schedule", "preview", "acme-daily", "--at", at, "--json"];
    let said = stdout(&handout(&world, &[&words[..], &["--out", out]].concat()));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["job"], "acme-daily.20261126T230000Z");
    assert_eq!(report["mails"][0]["to"], "ann@acme.example");
    assert_eq!(world.mails().len(), 1, "a preview sends nothing");

    // The occurrence itself is done as if there had been no rehearsal.
    stdout(&handout(
        &world,
        &["schedule", "run", "acme-daily", "--at", at],
    ));
    let opened = world.open().await;
    run_until_settled(&opened, 1).await;
    opened.close().await;
    let to_ann = world.mails();
    let to_ann = to_ann.iter().filter(|mail| mail.to == "ann@acme.example");
    assert_eq!(to_ann.count(), 1);
}

/// The daemon of the schedule runs, as it does on the machine of an operator.
#[tokio::test]
async fn a_schedule_is_rehearsed_while_its_daemon_runs() {
    let world = scheduled("6h", "acme-daily");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let at = ["--at", "2026-11-26T23:00:00Z"];
    let to_me = [
        "schedule",
        "run",
        "acme-daily",
        "--rehearse",
        "me@acme.example",
    ];
    let said = stdout(&handout(&world, &[&to_me[..], &at].concat()));
    assert!(
        said.contains("submitted acme-daily.20261126T230000Z.rehearsal."),
        "{said}"
    );
    until("the mail", async || {
        let mails = world.mails();
        let mine = |mail: &&crate::support::world::SeenMail| mail.to == "me@acme.example";
        mails.iter().find(mine).map(|mail| {
            assert!(
                mail.subject.starts_with("[ann@acme.example]"),
                "{}",
                mail.subject
            );
        })
    })
    .await;
    daemon.stops(&config).await;
}

#[test]
fn a_check_says_what_a_schedule_means_and_a_wrong_one_is_refused() {
    let world = scheduled("6h", "acme-daily");
    let said = stdout(&handout(&world, &["check"]));
    assert!(said.contains("schedule acme-daily"), "{said}");
    assert!(
        said.contains("Every 6h, from midnight. In Europe/Berlin; next: "),
        "{said}"
    );
    assert!(said.contains("the next job can be done"), "{said}");

    let twice = scheduled("6h", "acme-daily").configured(|config| {
        let again = config.schedule[0].clone();
        config.schedule.push(again);
    });
    let both = scheduled("6h", "acme-daily").configured(|config| {
        config.schedule[0].cron = Some("0 7 * * *".to_owned());
    });
    let uneven = scheduled("5h", "acme-daily");
    let elsewhere = scheduled("6h", "acme-daily").configured(|config| {
        config.schedule[0].time_zone = Some("Europe/Atlantis".to_owned());
    });
    let no_file = scheduled("6h", "acme-daily").configured(|config| {
        config.schedule[0].job_file = "missing.json".into();
    });
    for (world, words) in [
        (twice, "schedule[1].name"),
        (both, "schedule[0].every"),
        (uneven, "begins anew at midnight"),
        (elsewhere, "schedule[0].time_zone"),
        (no_file, "schedule[0].job_file"),
    ] {
        let refused = handout(&world, &["check"]);
        let all = [refused.stdout.clone(), refused.stderr.clone()].concat();
        let said = String::from_utf8_lossy(&all).into_owned();
        assert!(
            !refused.status.success() && said.contains(words),
            "{words}: {said}"
        );
    }
}

/// A process that dies between message and record leaves the occurrence to the next one, which starts it again under the same id.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_daemon_that_is_killed_between_message_and_record_starts_each_occurrence_once() {
    let world = scheduled("6h", "acme-daily");
    // The rule has been known for days, and no worker has run.
    let schedules = world.config.schedules().unwrap();
    let (opened, now) = (world.open().await, handout::clock::system());
    let days = jiff::SignedDuration::from_hours(72);
    let records = ScheduleRecords::of(&*opened.services.recording.ledger);
    let since = records.since(&schedules[0], now.checked_sub(days).unwrap());
    since.await.unwrap();
    opened.close().await;

    let config = world.written();
    let killed = Daemon::launch(&config, &[("HANDOUT_FAILPOINT", "schedule-sent")]);
    assert_eq!(killed.end().await.0, None, "it is killed by a signal");
    let again = Daemon::start(&config, &[]).await;
    let waiting = || world.audit_of("outcome").len();
    until("the job of the occurrence", async || {
        (waiting() > 0).then_some(())
    })
    .await;
    // The second message is settled, too.
    until("an empty queue", async || {
        let queue = handout::assemble::open_sqlite_queue(&world.config, handout::clock::system);
        (queue.unwrap().waiting().await.unwrap() == 0).then_some(())
    })
    .await;
    again.stops(&config).await;
    let outcomes = world.audit_of("outcome");
    assert_eq!(
        outcomes.len(),
        1,
        "of many that were missed, the latest is started, once: {outcomes:?}"
    );
    let next = schedules[0].next_after(
        outcomes[0]["job"]
            .as_str()
            .and_then(|id| handout::schedule::parse_stamp(id.rsplit_once('.')?.1))
            .unwrap(),
    );
    assert!(next.unwrap() > now, "it is the latest");
    let listed = stdout(&handout(&world, &["schedule", "list", "--json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["schedules"][0]["last"].is_string(), "{listed}");
}

/// How many customers the list of the test has.
const CUSTOMERS: usize = 20;

/// The text between the first `cat > NAME <<'END'` of a page and its `END`.
fn typed_file(page: &Page, name: &str) -> String {
    let (_, text) = page
        .text
        .split_once(&format!("cat > {name} <<'END'\n"))
        .unwrap();
    text.split_once("\nEND\n").unwrap().0.to_owned() + "\n"
}

/// The configuration of the page for one machine with its changes for SQS, for the queues and the worker of a test.
fn on_sqs(page: &Page, queues: [&str; 2]) -> toml::Table {
    let mut config: toml::Table = toml::from_str(&typed_file(page, "weekly/config.toml")).unwrap();
    let changes: toml::Table = toml::from_str(&page.blocks("toml")[0]).unwrap();
    // The embedded endpoint is that of the directory.
    config.remove("embedded").unwrap();
    config.extend(changes);
    let queue = config["queue"].as_table_mut().unwrap();
    for (name, url) in ["url", "parked_url"].into_iter().zip(queues) {
        queue.insert(name.to_owned(), url.into());
    }
    let listen = free_address().to_string();
    config.insert("http".to_owned(), toml::toml! { listen = listen }.into());
    config
}

/// AWS as moto plays it, with the buckets, the list and the reports of the page.
async fn weekly_cloud(parts: &Parts) -> (Server, [String; 2]) {
    let moto = parts.start("moto.py", &[]);
    let (s3, sqs) = (s3_client(&moto.url()), sqs_client(&moto));
    for bucket in ["acme-reports", "acme-lists", "acme-handout-ledger"] {
        s3.create_bucket().bucket(bucket).send().await.unwrap();
    }
    let put = async |bucket: &str, key: String, text: String| {
        let put = s3.put_object().bucket(bucket).key(key);
        put.body(text.into_bytes().into()).send().await.unwrap();
    };
    let mut list = "address,name,vars.customer\n".to_owned();
    for n in 1..=CUSTOMERS {
        list += &format!("customer{n}@acme.example,Customer {n},{n}\n");
        let key = format!("customers/{n}/2026-11/report.pdf");
        put("acme-reports", key, format!("for {n}")).await;
    }
    put("acme-lists", "customers.csv".to_owned(), list).await;
    let queues = [
        make_queue(&sqs, "handout").await,
        make_queue(&sqs, "handout-parked").await,
    ];
    (moto, queues)
}

/// The end of the page of weekly reports: its configuration on SQS, with three workers that each put the occurrence on the queue.
#[tokio::test]
async fn the_configuration_of_the_page_of_weekly_reports_runs_on_sqs_with_three_workers() {
    let Some(parts) = Parts::or_skip("the_configuration_of_the_page_of_weekly_reports") else {
        return;
    };
    let (moto, queues) = weekly_cloud(&parts).await;
    let page = page("docs/quick-start/weekly-reports.md");
    let dir = tempfile::tempdir().unwrap();
    let url = moto.url();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        // The URL of a queue of SQS names it.
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", &*url),
    ];
    let configs = ["one", "two", "three"].map(|name| {
        let home = dir.path().join(name);
        fs::create_dir_all(home.join("jobs")).unwrap();
        let config = home.join("config.toml");
        let text = toml::to_string(&on_sqs(&page, queues.each_ref().map(String::as_str)));
        fs::write(&config, text.unwrap()).unwrap();
        let job = typed_file(&page, "weekly/jobs/weekly.json");
        fs::write(home.join("jobs/weekly.json"), job).unwrap();
        fs::write(home.join("secret.key"), [7; 32]).unwrap();
        fs::set_permissions(home.join("secret.key"), Permissions::from_mode(0o600)).unwrap();
        config
    });
    let mut daemons = Vec::new();
    for config in &configs {
        daemons.push(Daemon::start(config, &variables).await);
    }
    for config in &configs {
        let mut run = Command::new(program());
        run.args(["schedule", "run", "weekly", "--at", "2026-11-23T06:00:00Z"]);
        let ran = run.arg("--config").arg(config).envs(variables).output();
        assert!(stdout(&ran.unwrap()).starts_with("submitted weekly.20261123T060000Z"));
    }
    let sqs = sqs_client(&moto);
    until("the queue to be empty", async || {
        let asked = sqs.get_queue_attributes().queue_url(&queues[0]);
        let answer = asked.attribute_names(All).send().await.unwrap();
        let counts = answer.attributes.unwrap();
        let of = |name| counts[&name].parse::<u64>().unwrap();
        let left = of(ApproximateNumberOfMessages) + of(ApproximateNumberOfMessagesNotVisible);
        (left == 0).then_some(())
    })
    .await;
    let mut subjects = Vec::new();
    for config in &configs {
        let outbox = config.with_file_name("state").join("outbox");
        let mails = fs::read_dir(outbox).into_iter().flatten();
        let mails = mails.map(|entry| entry.unwrap().path());
        for path in mails.filter(|path| path.extension().is_some_and(|end| end == "eml")) {
            let text = fs::read_to_string(path).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Subject: "));
            subjects.push(line.unwrap().to_owned());
        }
    }
    subjects.sort();
    let mut expected: Vec<String> = (1..=CUSTOMERS)
        .map(|n| format!("Your reports, customer {n}"))
        .collect();
    expected.sort();
    assert_eq!(subjects, expected, "each customer has one mail");
    for (daemon, config) in daemons.into_iter().zip(&configs) {
        daemon.stops(config).await;
    }
}
