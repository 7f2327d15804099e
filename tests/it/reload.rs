//! SIGHUP: the configuration is read again while the daemon works.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::servers::Parts;
use crate::support::until;
use crate::support::world::{SeenMail, World, email_job};

const READ: &str = "configuration reloaded";
const REFUSED: &str = "could not reload the configuration; the previous one stays in use";

fn job_to(id: &str, address: &str) -> Value {
    let mut job = email_job(id);
    job["email"]["to"] = json!([address]);
    job
}

async fn mail_of(world: &World, config: &Path, id: &str) -> SeenMail {
    let subject = format!("Report {id}");
    until(
        &format!("{id}'s mail\n{}", daemon_log(config)),
        async || {
            let mut mails = world.mails().into_iter();
            mails.find(|mail| mail.subject == subject)
        },
    )
    .await
}

/// Signals, and waits for the n-th line that says what came of it.
async fn reload(daemon: &Daemon, config: &Path, words: &str) -> String {
    let told = || daemon_log(config).matches(words).count();
    let before = told();
    daemon.signal("HUP");
    until("the line", async || (told() > before).then_some(())).await;
    let log = daemon_log(config);
    log.lines()
        .rfind(|line| line.contains(words))
        .unwrap()
        .to_owned()
}

/// A file that is being written, or was cut by a full disk, is a valid configuration without rules.
#[tokio::test]
async fn a_reload_that_would_leave_no_rule_changes_nothing() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let text = fs::read_to_string(&config).unwrap();
    let daemon = Daemon::start(&config, &[]).await;
    let head = text.split_once("[[allow]]").unwrap().0;
    for cut in ["", head] {
        fs::write(&config, cut).unwrap();
        let line = reload(&daemon, &config, REFUSED).await;
        assert!(cut.is_empty() || line.contains("has no rule"), "{line}");
    }
    fs::write(&config, &text).unwrap();
    submit(&config, &email_job("still"));
    mail_of(&world, &config, "still").await;
    reload(&daemon, &config, READ).await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn rules_templates_and_job_files_are_read_again_at_sighup_and_the_log_says_what_changed() {
    let mut world = World::new().object("a.pdf", "x");
    let templates = world.dir.path().join("templates");
    fs::create_dir_all(templates.join("email/report")).unwrap();
    let body = templates.join("email/report/body.txt.hbs");
    fs::write(&body, "FIRST {{#each files}}{{url}}{{/each}}").unwrap();
    world.config.templates.dir = Some(templates);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &job_to("early", "eve@new.example"));
    until("the refusal", async || world.parked().await.pop()).await;
    submit(&config, &email_job("first"));
    assert!(
        mail_of(&world, &config, "first")
            .await
            .eml
            .contains("FIRST")
    );

    fs::write(&body, "SECOND {{#each files}}{{url}}{{/each}}").unwrap();
    let rule = &mut world.config.allow[0];
    rule.recipients.push("*@new.example".to_owned());
    world.written();
    let line = reload(&daemon, &config, READ).await;
    assert!(
        line.contains("[[allow]], the contents of templates.dir"),
        "{line}"
    );
    submit(&config, &job_to("second", "eve@new.example"));
    assert!(
        mail_of(&world, &config, "second")
            .await
            .eml
            .contains("SECOND")
    );
    let line = reload(&daemon, &config, READ).await;
    assert!(line.contains("no changes applied"), "{line}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0), "{}", daemon_log(&config));
}

#[tokio::test]
async fn a_configuration_that_is_wrong_changes_nothing_and_one_that_is_mended_counts() {
    let mut world = World::new().object("a.pdf", "x");
    let templates = world.dir.path().join("templates");
    fs::create_dir_all(templates.join("email/own")).unwrap();
    world.config.templates.dir = Some(templates.clone());
    let config = world.written();
    let right = fs::read_to_string(&config).unwrap();
    let daemon = Daemon::start(&config, &[]).await;
    let rules_gone = right.replace("[[allow]]", "[[allowed]]");
    let misspelt = right.replace("*@acme.example", "*@[acme");
    let no_connection = right.replace("connection = \"local\"", "connection = \"elsewhere\"");
    let no_secret =
        format!("{right}\n[mail.relays.bulk]\nusername = \"u\"\npassword_file = \"/nowhere\"\n")
            .replace("transport = \"outbox\"", "transport = \"smtp\"");
    let wrong = [
        ("[[[", "is wrong"),
        (&rules_gone, "allowed"),
        (&misspelt, "allow[0].recipients[0]"),
        (&no_connection, "not a connection"),
        (
            &no_secret,
            "mail.relays.bulk.password_file names /nowhere, which cannot be read",
        ),
    ];
    for (index, (text, words)) in wrong.into_iter().enumerate() {
        fs::write(&config, text).unwrap();
        let line = reload_text(&daemon, &config).await;
        assert!(line.contains(words), "{words}: {line}");
        fs::write(&config, &right).unwrap();
        let id = format!("after-{index}");
        submit(&config, &email_job(&id));
        mail_of(&world, &config, &id).await;
    }
    fs::write(templates.join("email/own/body.html.hbs"), "{{#if}").unwrap();
    let line = reload_text(&daemon, &config).await;
    assert!(line.contains("email/own"), "{line}");
    fs::remove_dir_all(templates.join("email/own")).unwrap();
    fs::write(&config, right.replace("*@acme.example", "*@new.example")).unwrap();
    reload(&daemon, &config, READ).await;
    submit(&config, &job_to("mended", "eve@new.example"));
    mail_of(&world, &config, "mended").await;
}

async fn reload_text(daemon: &Daemon, config: &Path) -> String {
    reload(daemon, config, REFUSED).await
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_taken_over() {
    let mut world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let state_dir = world.config.state_dir.clone();
    world.config.state_dir = "/nowhere/at/all".into();
    world.config.queue.max_in_flight = 2;
    world.config.links.expires_in = "2h".parse().unwrap();
    world.config.connections.insert(
        "more".to_owned(),
        handout::config::ConnectionConfig::local(world.dir.path().join("more")),
    );
    world.written();
    let line = reload(&daemon, &config, "need a restart").await;
    let keys = "connections.more.directory, queue.max_in_flight, state_dir";
    assert!(line.contains(keys), "{line}");
    until("the rest", async || {
        daemon_log(&config)
            .contains("links.expires_in")
            .then_some(())
    })
    .await;
    world.config.state_dir = state_dir;
    world.written();
    submit(&config, &email_job("after"));
    mail_of(&world, &config, "after").await;
    let end = world.audit_of("issue")[0]["expires_at"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>();
    let left = end.unwrap().duration_since(handout::clock::system());
    assert!(left.as_secs() <= 2 * 60 * 60 + 60, "{left}");
    let line = reload(&daemon, &config, "need a restart").await;
    assert!(
        line.contains("queue.max_in_flight") && !line.contains("state_dir"),
        "{line}"
    );
}

#[tokio::test]
async fn a_sighup_during_the_start_is_remembered_and_many_of_them_kill_nothing() {
    let mut world = World::new().object("a.pdf", "x");
    let config = world.written();
    drop(handout::assemble::open_sqlite_queue(&world.config, handout::clock::system).unwrap());
    let database = rusqlite::Connection::open(world.config.database_file()).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let daemon = Daemon::launch(&config, &[]);
    until("the start", async || {
        std::net::TcpStream::connect(&daemon.http).ok()
    })
    .await;
    world.config.allow[0].recipients = vec!["*@new.example".to_owned()];
    world.written();
    for _ in 0..20 {
        daemon.signal("HUP");
    }
    database.execute_batch("COMMIT").unwrap();
    until("the reload", async || {
        daemon_log(&config).contains(READ).then_some(())
    })
    .await;
    submit(&config, &job_to("late", "eve@new.example"));
    mail_of(&world, &config, "late").await;
    daemon.signal("TERM");
    daemon.signal("HUP");
    let (code, took) = daemon.end().await;
    assert_eq!(code, Some(0), "{}", daemon_log(&config));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Of a relay, the certificate authority and the password are other files' contents.
#[tokio::test]
async fn a_relays_password_and_certificate_authority_are_read_again() {
    let Some(parts) = Parts::or_skip("a_relays_password_and_certificate_authority_are_read_again")
    else {
        return;
    };
    let mut world = World::new().object("a.pdf", "x");
    let path = |name: &str| world.dir.path().join(name);
    parts.make_ca(world.dir.path());
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let (mail, certificate, key) = (
        text(path("mail")),
        text(path("server.pem")),
        text(path("server.key")),
    );
    let options = [
        "--maildir",
        &mail,
        "--starttls",
        &certificate,
        &key,
        "--auth",
        "handout",
        "right",
    ];
    let relay = parts.start("smtp_sink.py", &options);
    fs::write(path("password"), "wrong\n").unwrap();
    fs::copy(path("other-ca.pem"), path("authority.pem")).unwrap();
    let (password_file, ca_file) = (path("password"), path("authority.pem"));
    let right = path("ca.pem");
    world.config.mail.transport = handout::config::Transport::Smtp;
    world.config.mail.from = "Handout <handout@acme.example>".to_owned();
    let smtp = &mut world.config.mail.smtp;
    (smtp.host, smtp.port) = ("localhost".to_owned(), relay.port);
    smtp.username = Some("handout".to_owned());
    (smtp.password_file, smtp.ca_file) = (Some(password_file.clone()), Some(ca_file.clone()));
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("waits"));
    until("the outage", async || {
        daemon_log(&config).contains("(mail.smtp)").then_some(())
    })
    .await;
    fs::copy(right, &ca_file).unwrap();
    fs::write(&password_file, "right\n").unwrap();
    let line = reload(&daemon, &config, READ).await;
    for key in ["ca_file", "password_file"] {
        assert!(
            line.contains(&format!("the contents of mail.smtp.{key}")),
            "{line}"
        );
    }
    let mailed = async || {
        until("the mail", async || {
            let mails = fs::read_dir(&mail).ok()?;
            (mails.count() > 0).then_some(())
        })
        .await;
    };
    // The job may be under way again before it was seen to wait.
    tokio::select! {
        () = world.show_what_is_put_back() => mailed().await,
        () = mailed() => {}
    }
}

#[tokio::test]
async fn a_brand_is_taken_over_at_sighup_and_a_logo_that_cannot_be_used_changes_nothing() {
    let mut world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("before"));
    let before = mail_of(&world, &config, "before").await;
    assert!(!before.html.contains("Studio Nord"));

    let logo = world.dir.path().join("logo.png");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/brand/logo.png");
    fs::copy(fixture, &logo).unwrap();
    world.config.brand.name = Some("Studio Nord".to_owned());
    world.config.brand.logo_file = Some(logo.clone());
    world.written();
    let line = reload(&daemon, &config, READ).await;
    assert!(line.contains("brand.logo_file, brand.name"), "{line}");
    submit(&config, &email_job("after"));
    let after = mail_of(&world, &config, "after").await;
    assert!(
        after.html.contains("Sent by Studio Nord.") && after.eml.contains("Content-ID: <logo.")
    );

    fs::write(&logo, "GIF89a").unwrap();
    let line = reload(&daemon, &config, REFUSED).await;
    assert!(
        line.contains("brand.logo_file") && line.contains("convert it to PNG"),
        "{line}"
    );
    submit(&config, &email_job("still"));
    let still = mail_of(&world, &config, "still").await;
    assert!(still.eml.contains("Content-ID: <logo."));
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0), "{}", daemon_log(&config));
}
