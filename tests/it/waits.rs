//! What waits for a queue or a relay that is not well gives its slot back, says so, and goes on within seconds: the results
//! queue, the queue of parked messages, the queue itself, and relays that turn connections away.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use handout::assemble::connection::embedded_sites;
use handout::config::{OnBadRow, QueueKind, RecipientListConfig};
use handout::keyring::Keyring;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conformance::{make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::{
    add_connection, far_job, is_ready, lines_with, mailed, ready, through, with_a_line,
};
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::faulty::{Faults, FaultyProxy};
use crate::support::line::{Line, Mode};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};
use crate::support::{get, until};

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "id"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

/// How long a new job may wait for a slot while others wait for what is silent: a slot is held for ten seconds at most.
const SLOT: Duration = Duration::from_secs(18);

/// How long a new job may wait while others wait for an answer that never comes: they give their slots back after about four seconds, and
/// without that after ten.
const GIVEN_BACK: Duration = Duration::from_secs(8);

/// How soon jobs go on after a denial of everything has ended: a probe finds that out, and shows them.
const AFTER_A_DENIAL: Duration = Duration::from_secs(30);

/// Waits until `/ready` says this; how long it took.
async fn said(http: &str, words: &str) -> Duration {
    let began = Instant::now();
    until(words, async || {
        let (status, said) = ready(http).await;
        (status == 503 && said.contains(words)).then_some(())
    })
    .await;
    began.elapsed()
}

async fn metrics(http: &str) -> String {
    let (_, text) = get(&format!("http://{http}/metrics")).await;
    String::from_utf8(text).unwrap()
}

/// How many messages wait in a queue.
async fn waiting(client: &aws_sdk_sqs::Client, url: &str) -> u64 {
    let name = QueueAttributeName::ApproximateNumberOfMessages;
    let asked = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(name.clone());
    let attributes = asked.send().await.unwrap().attributes.unwrap();
    attributes[&name].parse().unwrap()
}

fn from_sqs(world: &mut World, url: &str, endpoint_url: &str) {
    world.config.queue.kind = QueueKind::Sqs;
    world.config.queue.url = Some(url.to_owned());
    world.config.queue.endpoint_url = Some(endpoint_url.to_owned());
    world.config.queue.region = Some("eu-west-1".to_owned());
}

#[tokio::test]
async fn a_silent_results_queue_holds_no_slots_and_every_result_comes_when_it_is_back() {
    let Some(parts) = Parts::or_skip("a_silent_results_queue") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "results").await;
    let line = Line::start(([127, 0, 0, 1], moto.port).into()).await;
    let mut world = World::new().object("a.pdf", "x");
    world.config.queue.max_in_flight = 2;
    world.config.results.queue_url = Some(url.clone());
    world.config.results.endpoint_url = Some(line.url());
    world.config.results.region = Some("eu-west-1".to_owned());
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    submit(&config, &email_job("before"));
    until("the first result", async || {
        (waiting(&client, &url).await == 1).then_some(())
    })
    .await;

    line.becomes(Mode::Silent);
    let mut refused = email_job("refused");
    refused["email"]["to"] = json!(["eve@evil.example"]);
    for job in [email_job("waits"), refused] {
        submit(&config, &job);
    }
    mailed(&world, "waits").await;
    let began = Instant::now();
    submit(&config, &email_job("new"));
    mailed(&world, "new").await;
    assert!(began.elapsed() < SLOT, "{:?}", began.elapsed());
    said(
        &daemon.http,
        "(results.queue_url) has not answered since 20",
    )
    .await;
    let text = metrics(&daemon.http).await;
    assert!(
        text.contains("\nhandout_edge_up{edge=\"results:queue\"} 0\n"),
        "{text}"
    );
    assert_eq!(world.parked().await, Vec::<String>::new(), "it waits");
    // The slots are free while the results wait.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let began = Instant::now();
    submit(&config, &email_job("later"));
    mailed(&world, "later").await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );

    line.becomes(Mode::Open);
    let back = Instant::now();
    is_ready(&daemon.http).await;
    until("every result", async || {
        let told = waiting(&client, &url).await >= 5;
        (told && world.waiting().await == 0).then_some(())
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(32),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(world.parked().await.len(), 1);
    daemon.stops(&config).await;
    for words in ["has not answered since", "job parked"] {
        let log = daemon_log(&config);
        assert_eq!(lines_with(&config, words), 1, "{words}: {log}");
    }
    assert_eq!(
        world.audit_of("refused").len(),
        1,
        "one line, however often it comes"
    );
}

/// Polls do not show it, and each job is received, and found done, until its message is deleted.
#[tokio::test]
async fn a_queue_that_denies_deletions_is_said_until_it_takes_one() {
    let Some(parts) = Parts::or_skip("a_queue_that_denies_deletions") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let url = make_queue(&client, "jobs").await;
    let proxy = FaultyProxy::start(&moto.url(), Faults::default()).await;
    let mut world = World::new().object("a.pdf", "x");
    from_sqs(&mut world, &url, &proxy.url);
    world.config.queue.visibility_timeout = "30s".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    is_ready(&daemon.http).await;
    proxy.refuses(
        "AmazonSQS.DeleteMessage",
        "{\"__type\":\"com.amazon.coral.service#AccessDeniedException\",\"message\":\"no\"}",
    );
    for number in 0..4 {
        let sent = client.send_message().queue_url(&url);
        let job = email_job(&format!("stays-{number}")).to_string();
        sent.message_body(job).send().await.unwrap();
    }
    said(
        &daemon.http,
        "(deletions of messages) cannot be used since 20",
    )
    .await;
    let text = metrics(&daemon.http).await;
    assert!(
        text.contains("\nhandout_edge_up{edge=\"queue:deletions\"} 0\n")
            && text.contains("\nhandout_edge_up{edge=\"queue:queue\"} 1\n"),
        "{text}"
    );
    assert_eq!(world.mails().len(), 4);
    proxy.refuses_nothing();
    is_ready(&daemon.http).await;
    daemon.stops(&config).await;
    assert_eq!(world.mails().len(), 4, "each is mailed once");
}

/// Submits jobs that wait for something silent, and has another job mailed beside them.
async fn another_job_is_mailed_soon(world: &World, waiting: &[Value]) {
    world.submit(waiting).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    world.submit(&[email_job("new")]).await;
    mailed(world, "new").await;
    assert!(began.elapsed() < GIVEN_BACK, "{:?}", began.elapsed());
}

#[tokio::test]
async fn results_for_a_silent_receiver_give_their_slots_back_to_other_jobs() {
    let silent = Line::silent().await;
    let mut world = World::new().object("a.pdf", "x");
    let secret = world.dir.path().join("webhook-secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    world.config.results.url = Some(silent.url());
    world.config.results.secret_file = Some(secret);
    world.config.queue.max_in_flight = 4;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let waiting: Vec<Value> = (0..8).map(|n| email_job(&format!("waits-{n}"))).collect();
    another_job_is_mailed_soon(&world, &waiting).await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_list_in_a_silent_store_gives_its_slot_back_to_other_jobs() {
    let (mut world, line) = with_a_line().await;
    world.config.queue.max_in_flight = 4;
    for rule in &mut world.config.allow {
        rule.lists = vec!["customers".to_owned()];
    }
    world.config.list = vec![RecipientListConfig {
        name: "customers".to_owned(),
        source: Some("s3://reports/customers.jsonl".into()),
        connection: Some("far".to_owned()),
        format: None,
        on_bad_row: OnBadRow::Stop,
        recipients: Vec::new(),
    }];
    let world = world.object(
        "customers.jsonl",
        "{\"address\":\"ann@acme.example\",\"vars\":{}}\n",
    );
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    line.becomes(Mode::Silent);
    let listed = |number| {
        let mut job = email_job(&format!("listed-{number}"));
        job["email"]["to"] = json!({ "list": "customers" });
        job
    };
    let waiting: Vec<Value> = (0..8).map(listed).collect();
    another_job_is_mailed_soon(&world, &waiting).await;
    line.becomes(Mode::Open);
    for number in 0..8 {
        mailed(&world, &format!("listed-{number}")).await;
    }
    daemon.stops(&config).await;
}

#[tokio::test]
async fn jobs_of_a_store_that_denied_everything_come_back_soon_after_it_allows_again() {
    let mut world = World::new().object("a.pdf", "x");
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    let faults = Faults {
        denied: Some("reports"),
        ..Faults::default()
    };
    let upstream = format!("http://{}", world.config.embedded.listen);
    let proxy = FaultyProxy::start(&upstream, faults).await;
    let (id, secret) = (&site.access_key_id, &site.secret_access_key);
    add_connection(&mut world, "far", &proxy.url, id, secret);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    let jobs: Vec<Value> = (0..6).map(|n| far_job(&format!("denied-{n}"))).collect();
    world.submit(&jobs).await;
    said(&daemon.http, "AccessDenied").await;
    // Jobs that were denied again wait for a minute.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.mails().is_empty());
    proxy.allows_all();
    let began = Instant::now();
    for job in &jobs {
        mailed(&world, job["id"].as_str().unwrap()).await;
    }
    let (took, log) = (began.elapsed(), daemon_log(&config));
    assert!(took < AFTER_A_DENIAL, "{took:?}: {log}");
    is_ready(&daemon.http).await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_silent_queue_of_parked_messages_holds_no_slots_and_each_is_parked_when_it_is_back() {
    let Some(parts) = Parts::or_skip("a_silent_queue_of_parked_messages") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let client = sqs_client(&moto);
    let (url, parked_url) = (
        make_queue(&client, "jobs").await,
        make_queue(&client, "aside").await,
    );
    let proxy = FaultyProxy::start(&moto.url(), Faults::default()).await;
    let mut world = World::new().object("a.pdf", "x");
    from_sqs(&mut world, &url, &proxy.url);
    world.config.queue.parked_url = Some(parked_url.clone());
    world.config.queue.max_in_flight = 2;
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    is_ready(&daemon.http).await;
    let send = async |job: Value| {
        let sent = client.send_message().queue_url(&url);
        sent.message_body(job.to_string()).send().await.unwrap();
    };
    proxy.answers(Some(("/aside", None)));
    for number in 0..2 {
        let mut job = email_job(&format!("refused-{number}"));
        job["email"]["to"] = json!(["eve@evil.example"]);
        send(job).await;
    }
    until("the refusals", async || {
        (lines_with(&config, "job parked") == 2).then_some(())
    })
    .await;
    let began = Instant::now();
    send(email_job("new")).await;
    mailed(&world, "new").await;
    assert!(began.elapsed() < SLOT, "{:?}", began.elapsed());
    said(&daemon.http, "(queue.parked_url) has not answered since 20").await;

    proxy.answers(None);
    let back = Instant::now();
    until("the parked messages", async || {
        (waiting(&client, &parked_url).await == 2).then_some(())
    })
    .await;
    is_ready(&daemon.http).await;
    assert!(
        back.elapsed() < Duration::from_secs(32),
        "{:?}",
        back.elapsed()
    );
    // Counted when each is gone from the queue that it came from.
    until("the count", async || {
        let text = metrics(&daemon.http).await;
        let count = "\nhandout_jobs_total{result=\"parked\"} 2\n";
        text.contains(count).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    assert_eq!(lines_with(&config, "job parked"), 2);
    assert_eq!(world.audit_of("refused").len(), 2);
}

#[tokio::test]
async fn a_queue_that_is_there_or_back_is_known_within_seconds() {
    let Some(parts) = Parts::or_skip("a_queue_that_is_there_or_back") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let url = make_queue(&sqs_client(&moto), "jobs").await;
    let line = Line::start(([127, 0, 0, 1], moto.port).into()).await;
    let mut world = World::new();
    from_sqs(&mut world, &url, &line.url());
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let began = Instant::now();
    is_ready(&daemon.http).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    for mode in [Mode::Refusing, Mode::Silent] {
        line.becomes(mode);
        said(&daemon.http, "/jobs").await;
        // It is not tried for the first time.
        tokio::time::sleep(Duration::from_secs(10)).await;
        line.becomes(Mode::Open);
        let back = Instant::now();
        is_ready(&daemon.http).await;
        // The limit is 5 s; the machine of a test has other work.
        assert!(
            back.elapsed() < Duration::from_secs(8),
            "{mode:?}: {:?}",
            back.elapsed()
        );
    }
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_queue_that_does_not_wait_is_not_asked_all_the_time() {
    let proxy = FaultyProxy::start("http://127.0.0.1:9", Faults::default()).await;
    proxy.answers(Some(("WaitTimeSeconds", Some("{}"))));
    let mut world = World::new();
    from_sqs(
        &mut world,
        &format!("{}/123456789012/jobs", proxy.url),
        &proxy.url,
    );
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    is_ready(&daemon.http).await;
    let before = proxy.counts().0;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let polls = proxy.counts().0 - before;
    assert!((3..=14).contains(&polls), "{polls} polls in six seconds");
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn an_unused_relay_that_is_silent_after_its_greeting_is_said() {
    let stalls = |step| Rule {
        step,
        at: 0,
        habit: Habit::SayAndStall(String::new()),
    };
    let greets = BadRelay::start(vec![stalls("EHLO")]).await;
    let offers = BadRelay::start(vec![stalls("AUTH")]).await;
    let mut world = World::new();
    through(&mut world, greets.port);
    let password = world.dir.path().join("password");
    std::fs::write(&password, "secret").unwrap();
    let mut other = world.config.mail.smtp.clone();
    other.port = offers.port;
    other.username = Some("handout".to_owned());
    other.password_file = Some(password);
    world.config.mail.relays.insert("bulk".to_owned(), other);
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let first = said(&daemon.http, "(mail.smtp) has not answered since 20").await;
    let second = said(&daemon.http, "(mail.relays.bulk) has not answered since 20").await;
    let took = first + second;
    assert!(took < Duration::from_secs(27), "{took:?}");
    assert!(greets.connections() > 2, "others follow the first");
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_relay_that_turns_every_connection_away_is_tried_by_one_and_not_by_each_job() {
    let step = |step, text: &str| Rule {
        step,
        at: 0,
        habit: Habit::SayAndClose(text.to_owned()),
    };
    for (rule, words) in [
        (
            step("CONNECT", "421 4.3.2 closing"),
            "greeting: 421 4.3.2 closing",
        ),
        (step("EHLO", "450 4.3.2 busy"), "EHLO: 450 4.3.2 busy"),
    ] {
        let relay = BadRelay::start(vec![rule]).await;
        let mut world = World::new().object("a.pdf", "x");
        through(&mut world, relay.port);
        world.config.queue.max_in_flight = 4;
        let config = world.written();
        let jobs: Vec<Value> = (0..20).map(|n| email_job(&format!("waits-{n}"))).collect();
        world.submit(&jobs).await;
        let daemon = Daemon::start(&config, &KEYS).await;
        let said_after = said(&daemon.http, words).await;
        assert!(said_after < Duration::from_secs(10), "{said_after:?}");
        tokio::time::sleep(Duration::from_secs(15)).await;
        let links = world.audit_of("link").len();
        let warnings = lines_with(&config, " WARN ");
        assert!(links < 16, "{words}: {links} links for 20 jobs that wait");
        assert!(warnings < 16, "{}", daemon_log(&config));

        relay.becomes(Vec::new());
        let back = Instant::now();
        is_ready(&daemon.http).await;
        assert!(
            back.elapsed() < Duration::from_secs(8),
            "{:?}",
            back.elapsed()
        );
        until("every mail", async || {
            (relay.kept().len() == 20).then_some(())
        })
        .await;
        let took = back.elapsed();
        assert!(took < Duration::from_secs(32), "{took:?}");
        daemon.stops(&config).await;
    }
}

/// The jobs of both relays list at the same store, which is one of two.
#[tokio::test]
async fn a_relay_that_is_silent_at_its_greeting_delays_no_job_of_another_relay() {
    let silent = BadRelay::start(vec![Rule {
        step: "CONNECT",
        at: 0,
        habit: Habit::SayAndStall(String::new()),
    }])
    .await;
    let well = BadRelay::start(Vec::new()).await;
    let (mut world, _line) = with_a_line().await;
    through(&mut world, silent.port);
    let mut other = world.config.mail.smtp.clone();
    other.port = well.port;
    world.config.mail.relays.insert("bulk".to_owned(), other);
    for rule in &mut world.config.allow {
        rule.relays.push("bulk".to_owned());
    }
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let crowd: Vec<Value> = (0..16).map(|n| email_job(&format!("waits-{n}"))).collect();
    world.submit(&crowd).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let began = Instant::now();
    let others: Vec<Value> = (0..4)
        .map(|n| {
            let mut job = email_job(&format!("other-{n}"));
            job["email"]["relay"] = json!("bulk");
            job
        })
        .collect();
    world.submit(&others).await;
    until("the mails through the other relay", async || {
        (well.kept().len() == 4).then_some(())
    })
    .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_relay_that_takes_one_connection_gets_every_mail_over_that() {
    let relay = BadRelay::with_room_for(1, Vec::new()).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, relay.port);
    let config = world.written();
    let jobs: Vec<Value> = (0..20).map(|n| email_job(&format!("one-{n}"))).collect();
    world.submit(&jobs).await;
    let began = Instant::now();
    let daemon = Daemon::start(&config, &KEYS).await;
    until("every mail", async || {
        (relay.kept().len() == 20).then_some(())
    })
    .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    // The first two may come at once, and neither is a connection yet.
    assert!(lines_with(&config, "slowing down") <= 1);
    assert!(lines_with(&config, "the relay takes no more connections") <= 1);
    let turned_away = relay.connections() - 1;
    assert!(turned_away < 20, "{turned_away} connections");
    daemon.stops(&config).await;
}

/// Jobs come back later each time, and nothing else would tell that the relay is well again.
#[tokio::test]
async fn a_relay_that_closes_or_puts_off_every_mail_is_said_and_all_go_when_it_is_well() {
    for (step, habit) in [
        (
            "DATA",
            Habit::SayAndClose("421 4.3.2 shutting down".to_owned()),
        ),
        (
            "MAIL",
            Habit::Say("451 4.3.0 queue file write error".to_owned()),
        ),
    ] {
        let rule = Rule { step, at: 0, habit };
        let relay = BadRelay::start(vec![rule]).await;
        let mut world = World::new().object("a.pdf", "x");
        through(&mut world, relay.port);
        let config = world.written();
        let daemon = Daemon::start(&config, &[]).await;
        for number in 0..4 {
            let mut job = email_job(&format!("waits-{number}"));
            job["email"]["to"] = json!([format!("p{number}@acme.example")]);
            submit(&config, &job);
        }
        let took = said(&daemon.http, "(mail.smtp) answers with errors").await;
        assert!(took < Duration::from_secs(30), "{step}: {took:?}");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(lines_with(&config, "what needs it waits"), 1);
        relay.becomes(Vec::new());
        let began = Instant::now();
        until("all mails", async || {
            (relay.kept().len() == 4).then_some(())
        })
        .await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(15), "{step}: {took:?}");
        is_ready(&daemon.http).await;
        assert_eq!(world.parked().await, Vec::<String>::new());
        daemon.stops(&config).await;
    }
}

/// Each mail that such a relay reads is in doubt, and may have arrived.
#[tokio::test]
async fn a_relay_that_confirms_no_mail_gets_few_of_them_and_all_go_when_it_is_well() {
    let habits = [Habit::Close, Habit::Say("354 more".to_owned())];
    let plays = habits.map(async |habit| Box::pin(confirms_no_mail(habit)).await);
    futures_util::future::join_all(plays).await;
}

async fn confirms_no_mail(habit: Habit) {
    let words = format!("{habit:?}");
    let rule = Rule {
        step: "DOT",
        at: 0,
        habit,
    };
    let relay = BadRelay::start(vec![rule]).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, relay.port);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    for number in 0..8 {
        let mut job = email_job(&format!("doubt-{number}"));
        job["email"]["to"] = json!([format!("p{number}@acme.example")]);
        submit(&config, &job);
    }
    let took = said(&daemon.http, "(mail.smtp) cannot be reached").await;
    assert!(took < Duration::from_secs(15), "{words}: {took:?}");
    tokio::time::sleep(Duration::from_secs(25)).await;
    let doubts = lines_with(&config, "delivery in doubt");
    assert!((2..=18).contains(&doubts), "{words}: {doubts} doubts");
    assert_eq!(lines_with(&config, "what needs it waits"), 1, "{words}");
    assert_eq!(lines_with(&config, "is back"), 0, "{words}");
    relay.becomes(Vec::new());
    let began = Instant::now();
    until("all mails", async || {
        (relay.kept().len() == 8).then_some(())
    })
    .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "{words}: {took:?}");
    is_ready(&daemon.http).await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    daemon.stops(&config).await;
}

/// Each complaint doubles the pause of the relay, and nothing is mailed meanwhile.
#[tokio::test]
async fn a_relay_that_asks_every_mail_to_slow_down_is_said_and_all_go_when_it_is_well() {
    let members = [
        (
            "CONNECT",
            Habit::SayAndClose("421 4.7.0 Too many concurrent SMTP connections".to_owned()),
        ),
        (
            "DOT",
            Habit::Say("454 Throttling failure: Maximum sending rate exceeded.".to_owned()),
        ),
        (
            "DOT",
            Habit::Say("454 Throttling failure: Daily message quota exceeded.".to_owned()),
        ),
    ];
    let members =
        members.map(async |(step, habit)| Box::pin(slowed_down(Rule { step, at: 0, habit })).await);
    futures_util::future::join_all(members).await;
}

async fn slowed_down(rule: Rule) {
    let words = format!("{:?}", rule.habit);
    let is_quota = words.contains("quota");
    let relay = BadRelay::start(vec![rule]).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, relay.port);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    for number in 0..4 {
        submit(&config, &email_job(&format!("slow-{number}")));
    }
    let took = said(&daemon.http, "(mail.smtp) asks to slow down").await;
    assert!(took < Duration::from_secs(30), "{words}: {took:?}");
    let failed = lines_with(&config, "it will be retried");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(lines_with(&config, "what needs it waits"), 1);
    assert_eq!(lines_with(&config, "it will be retried"), failed, "{words}");
    // A spent quota is asked about after a minute, and then after two.
    if !is_quota {
        relay.becomes(Vec::new());
        let began = Instant::now();
        until("all mails", async || {
            (relay.kept().len() == 4).then_some(())
        })
        .await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(40), "{words}: {took:?}");
        is_ready(&daemon.http).await;
        assert_eq!(lines_with(&config, "(mail.smtp) is back"), 1);
    }
    assert_eq!(world.parked().await, Vec::<String>::new());
    daemon.stops(&config).await;
}
