//! Schedules: each occurrence is one job, also where a process is killed between its steps.

use std::fs;
use std::process::{Command, Output};

use handout::config::ScheduleConfig;
use handout::ledger::schedules::ScheduleRecords;
use handout::queue::Queue;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::support::program;
use crate::support::world::{World, email_job, run_until_settled};

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
    crate::support::until("the job of the occurrence", async || {
        (waiting() > 0).then_some(())
    })
    .await;
    // The second message is settled, too.
    crate::support::until("an empty queue", async || {
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
