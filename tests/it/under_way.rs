//! Jobs that are under way when an outage begins: what they have signed and recorded is what they hand out when they come back.

use std::collections::HashMap;
use std::time::Duration;

use handout::audit::record::Pseudonyms;
use handout::keyring::Keyring;
use presign::signature_in;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{Daemon, submit};
use crate::liveness::{is_ready, through};
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::line::{Line, Mode};
use crate::support::world::{World, email_job};
use crate::support::{hrefs, published_text, until};

/// How many audit lines each link has, by its job, its recipient and its key.
fn lines_of_links(world: &World) -> HashMap<String, usize> {
    let mut lines = HashMap::new();
    for line in world.audit() {
        if ["issue", "gallery", "manifest"].contains(&line["ev"].as_str().unwrap()) {
            let link = format!("{} {} {}", line["job"], line["rid"], line["key"]);
            *lines.entry(link).or_default() += 1;
        }
    }
    lines
}

/// A job with a page in a bucket.
fn page_job(id: &str) -> Value {
    let mut job = email_job(id);
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "galleries/" } });
    job
}

/// Plays one job at a relay with a habit at its first mail, until the mail is there; how many mails the relay was asked for.
async fn comes_back_after(step: &'static str, habit: Habit) {
    let rule = Rule { step, at: 1, habit };
    let relay = BadRelay::start(vec![rule]).await;
    let mut world = World::new().object("a.jpg", "x").object("b.pdf", "y");
    through(&mut world, relay.port);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &page_job("page"));
    until("the mail", async || (relay.kept().len() == 1).then_some(())).await;
    daemon.stops(&config).await;
    let lines = lines_of_links(&world);
    assert_eq!(
        lines.len(),
        3,
        "{step}: two objects and the page: {lines:?}"
    );
    assert!(lines.values().all(|count| *count == 1), "{step}: {lines:?}");

    // What was published by the attempt that succeeded is what the lines are about.
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let names = Pseudonyms::new(&keyring, false);
    let audited: Vec<Value> = world.audit_of("issue");
    let galleries = world.bucket("published").join("galleries");
    let folder = std::fs::read_dir(galleries)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let on_page = hrefs(&published_text(&folder.path().join("index.html")));
    assert!(on_page.len() >= 2, "{step}: {on_page:?}");
    for href in on_page {
        let fingerprint = names.fingerprint(&signature_in(&href).unwrap());
        assert!(
            audited.iter().any(|line| line["link"] == fingerprint),
            "{step}: a link without its line"
        );
    }
}

#[tokio::test]
async fn a_link_has_one_audit_line_though_the_relay_fails_after_it_was_signed() {
    let reset = || Habit::Close;
    let busy = || Habit::Say("450 4.7.0 try again later".to_owned());
    tokio::join!(
        comes_back_after("MAIL", reset()),
        comes_back_after("RCPT", reset()),
        comes_back_after("DATA", reset()),
        comes_back_after("TEXT", reset()),
        comes_back_after("MAIL", busy()),
    );
}

#[tokio::test]
async fn nothing_is_signed_for_a_relay_that_takes_no_connection() {
    let relay = BadRelay::start(Vec::new()).await;
    let line = Line::start(([127, 0, 0, 1], relay.port).into()).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, line.address.port());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    submit(&config, &email_job("before"));
    until("the mail", async || (relay.kept().len() == 1).then_some(())).await;
    for mode in [Mode::Refusing, Mode::Silent] {
        // A relay that has answered within a second is not asked anew.
        tokio::time::sleep(Duration::from_secs(2)).await;
        line.becomes(mode);
        let before = world.audit_of("issue").len();
        let id = format!("{mode:?}");
        submit(&config, &email_job(&id));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(world.audit_of("issue").len(), before, "{id}");
        line.becomes(Mode::Open);
        let mails = relay.kept().len();
        until(&id, async || (relay.kept().len() > mails).then_some(())).await;
        assert_eq!(world.audit_of("issue").len(), before + 1, "{id}");
    }
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_relay_that_was_silent_for_seconds_has_a_new_job_soon_though_connections_died() {
    let relay = BadRelay::start(Vec::new()).await;
    let line = Line::start(([127, 0, 0, 1], relay.port).into()).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, line.address.port());
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    line.becomes(Mode::Silent);
    // As many as the relay may have connections: each waits for a greeting that never comes.
    let jobs: Vec<Value> = (0..4).map(|n| email_job(&format!("hangs-{n}"))).collect();
    world.submit(&jobs).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    line.becomes(Mode::Open);
    let back = Instant::now();
    submit(&config, &email_job("new"));
    until("all mails", async || {
        (relay.kept().len() == 5).then_some(())
    })
    .await;
    let took = back.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    daemon.stops(&config).await;
}
