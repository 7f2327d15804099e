//! What a session with a relay has around the mail: the login, the sender's address, further headers, QUIT.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::about_us::{handout, job_for, job_run, world};
use super::read_json;
use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::servers::{Parts, Server};
use crate::support::until;
use crate::support::world::World;

/// A relay (aiosmtpd) with a log of its dialogue.
struct Sink {
    dir: tempfile::TempDir,
    server: Server,
}

impl Sink {
    fn start(parts: &Parts, options: &[&str], script: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (mails, rules, log) = (path("mails"), path("script.json"), path("log"));
        fs::write(&rules, script.to_string()).unwrap();
        let arguments = ["--maildir", &mails, "--script", &rules, "--log", &log];
        let server = parts.start("smtp_sink.py", &[&arguments[..], options].concat());
        Self { dir, server }
    }

    /// The verbs of each session, in order, and the reply to the last.
    fn sessions(&self) -> Vec<(String, String)> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let mut sessions = BTreeMap::<u64, (String, String)>::new();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            let session = line["session"].as_u64().unwrap();
            let (verbs, reply) = sessions.entry(session).or_default();
            *verbs = format!("{verbs} {}", text("verb"));
            *reply = text("reply");
        }
        sessions.into_values().collect()
    }

    /// The number of the last mail, its text and its envelope.
    fn mails(&self) -> Vec<(String, Value)> {
        let path = |n: usize, kind: &str| self.dir.path().join(format!("mails/{n}.{kind}"));
        let numbers = (1..).take_while(|n| path(*n, "json").exists());
        let mail = |n| {
            let text = fs::read_to_string(path(n, "eml")).unwrap();
            (text, read_json(&path(n, "json")))
        };
        numbers.map(mail).collect()
    }
}

/// Writes a file beside the configuration; its path.
fn beside(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A world whose relay wants a login of `reports@sender.example` with a password.
fn with_password(port: u16) -> World {
    let mut world = world(port);
    let password = beside(&world, "password", "correct horse\n");
    let smtp = &mut world.config.mail.smtp;
    smtp.username = Some("reports@sender.example".to_owned());
    smtp.password_file = Some(password);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_ends_with_quit() {
    let Some(parts) = Parts::or_skip("every_session_ends_with_quit") else {
        return;
    };
    let login = ["--auth", "reports@sender.example", "correct horse"];
    for (what, options, rule) in [
        ("an accepted mail", &[][..], json!([])),
        (
            "a rejected recipient",
            &[],
            json!([{ "verb": "RCPT", "reply": "550 5.1.1 no such user" }]),
        ),
        (
            "a sender that is rejected",
            &[],
            json!([{ "verb": "MAIL", "reply": "550 5.7.1 sender rejected" }]),
        ),
        (
            "a mail that is deferred after its text",
            &[],
            json!([{ "verb": "DOT", "reply": "451 4.3.0 try later" }]),
        ),
        (
            "a rejected login",
            &login,
            json!([{ "verb": "AUTH", "reply": "535 5.7.8 wrong" }]),
        ),
        (
            "no login that we have",
            &[&login[..], &["--offer", "AUTH CRAM-MD5"]].concat(),
            json!([]),
        ),
        (
            "a name that is rejected",
            &[],
            json!([{ "verb": "EHLO", "reply": "550 5.7.1 who are you" }]),
        ),
    ] {
        let sink = Sink::start(&parts, options, &rule);
        let world = match options {
            [] => world(sink.server.port),
            _ => with_password(sink.server.port),
        };
        let config = world.written();
        let to = ["ann@acme.example", "bo@acme.example"];
        for command in ["job run", "check"] {
            match command {
                "check" => drop(handout(&config, &["check"])),
                _ => drop(job_run(&config, &job_for("daily", &to), &[])),
            }
            until("the end of the sessions", async || {
                let sessions = sink.sessions();
                assert!(!sessions.is_empty(), "{what}, {command}");
                let is_over = |(verbs, reply): &(String, String)| {
                    verbs.ends_with(" QUIT") && reply.starts_with("221")
                };
                sessions.iter().all(is_over).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_quits_when_it_stops_and_when_sighup_replaces_the_relay() {
    let Some(parts) = Parts::or_skip("a_daemon_quits") else {
        return;
    };
    let sinks = [(); 2].map(|()| Sink::start(&parts, &[], &json!([])));
    let mut world = world(sinks[0].server.port);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let is_over = |sink: &Sink| {
        let sessions = sink.sessions();
        let is_over = |(verbs, _): &(String, String)| verbs.ends_with(" QUIT");
        sessions.iter().all(is_over).then_some(sessions.len())
    };
    for (number, sink) in sinks.iter().enumerate() {
        if number > 0 {
            world.config.mail.smtp.port = sink.server.port;
            world.written();
            daemon.signal("HUP");
            until("the end of the old relay's sessions", async || {
                is_over(&sinks[0])
            })
            .await;
        }
        submit(
            &config,
            &job_for(&format!("job-{number}"), &["ann@acme.example"]),
        );
        until("the mail", async || (sink.mails().len() == 1).then_some(())).await;
        assert_eq!(
            is_over(sink),
            None,
            "the connection is kept for the next mail"
        );
    }
    daemon.stops(&config).await;
    until("the end of the sessions", async || is_over(&sinks[1])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_counts_the_quit_and_no_lost_connection() {
    const TEST: &str = "postfix_counts_the_quit";
    let Some(parts) = Parts::or_skip(TEST) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("postfix");
    fs::create_dir(&dir).unwrap();
    let refused = ["bo@acme.example=550 5.1.1 no such user"];
    let Some(server) = parts.postfix_or_skip(TEST, &dir, "acme.example", &refused) else {
        return;
    };
    let world = world(server.port);
    let job = job_for("daily", &["ann@acme.example", "bo@acme.example"]);
    let (code, told, wrong) = job_run(&world.written(), &job, &[]);
    assert_eq!(code, Some(1), "{told}{wrong}");
    let log = || fs::read_to_string(dir.join("log")).unwrap();
    let log = until("postfix to log the end", async || {
        let log = log();
        let (begun, ended) = (log.matches("]: connect from"), log.matches("]: disconnect"));
        (begun.count() == ended.count()).then_some(log)
    })
    .await;
    // The test looked whether postfix is there, and closed the connection without a word.
    let ends = log.lines().filter(|line| line.contains("]: disconnect"));
    let ends: Vec<&str> = ends.filter(|line| line.contains(" ehlo=")).collect();
    assert!(!ends.is_empty(), "{log}");
    for end in ends {
        assert!(end.contains(" quit=1 "), "{log}");
    }
    let lost = log.matches("lost connection after");
    assert_eq!(
        lost.count(),
        log.matches("lost connection after CONNECT").count(),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ways_to_log_in_on_all_lines_of_a_relay_count() {
    let Some(parts) = Parts::or_skip("the_ways_to_log_in_on_all_lines") else {
        return;
    };
    for offers in [
        &["AUTH GSSAPI NTLM", "AUTH=LOGIN"][..],
        &["AUTH=PLAIN LOGIN"],
        &["AUTH CRAM-MD5", "auth Plain"],
        &["AUTH", "AUTH  NTLM  LOGIN "],
    ] {
        let mut options = vec!["--auth", "reports@sender.example", "correct horse"];
        options.extend(offers.iter().flat_map(|offer| ["--offer", offer]));
        let sink = Sink::start(&parts, &options, &json!([]));
        let world = with_password(sink.server.port);
        let job = job_for("daily", &["ann@acme.example"]);
        let (code, told, wrong) = job_run(&world.written(), &job, &[]);
        assert_eq!(code, Some(0), "{offers:?}: {told}{wrong}");
        assert_eq!(sink.mails()[0].1["authenticated"], true, "{offers:?}");
    }
}

/// A program that prints what is in the file `token` beside it, and refuses any other user.
fn token_program(world: &World) -> PathBuf {
    let here = world.dir.path().display();
    let text = format!("#!/bin/sh\n[ \"$1\" = reports@sender.example ] && cat {here}/token\n");
    let program = beside(world, "print-token", &text);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_takes_tokens_alone_gets_one_from_a_file_or_a_program() {
    let Some(parts) = Parts::or_skip("a_relay_that_takes_tokens_alone") else {
        return;
    };
    // Tokens of Microsoft Entra ID have about 2,000 bytes, which do not fit into the line of a command.
    let long = "eyJ0eXAi.".repeat(250);
    for token in ["ya29.a0-short_one", &long] {
        let options = ["--token", "reports@sender.example", token];
        let sink = Sink::start(&parts, &options, &json!([]));
        for (number, source) in ["file", "program"].iter().enumerate() {
            let mut world = world(sink.server.port);
            let file = beside(&world, "token", &format!("{token}\n"));
            let program = token_program(&world);
            let smtp = &mut world.config.mail.smtp;
            smtp.username = Some("reports@sender.example".to_owned());
            match *source {
                "file" => smtp.token_file = Some(file),
                _ => smtp.token_cmd = Some(program),
            }
            let job = job_for("daily", &["ann@acme.example"]);
            let config = world.written();
            let (code, told, wrong) = job_run(&config, &job, &[]);
            assert_eq!(code, Some(0), "{source}: {told}{wrong}");
            let mails = sink.mails();
            assert_eq!(mails.len(), number + 1, "{source}");
            assert_eq!(mails[number].1["authenticated"], true, "{source}");
            let (_, told, _) = handout(&config, &["check"]);
            assert!(told.contains("can be used"), "{source}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_offers_oauthbearer_alone_gets_the_token_so() {
    let Some(parts) = Parts::or_skip("a_relay_that_offers_oauthbearer_alone") else {
        return;
    };
    let long = "eyJ0eXAi.".repeat(250);
    for (user, token) in [
        ("reports@sender.example", "short"),
        ("a=b,c@sender.example", &long),
    ] {
        for (sent, code, acknowledgement) in [(token, 0, None), ("wrong", 1, Some("b'\\\\x01'"))] {
            let options = ["--token", user, token, "--offer", "AUTH OAUTHBEARER"];
            let sink = Sink::start(&parts, &options, &json!([]));
            let mut world = world(sink.server.port);
            let file = beside(&world, "token", sent);
            let smtp = &mut world.config.mail.smtp;
            smtp.username = Some(user.to_owned());
            smtp.token_file = Some(file);
            let config = world.written();
            let (ended, told, wrong) =
                job_run(&config, &job_for("daily", &["ann@acme.example"]), &[]);
            assert_eq!(ended == Some(0), code == 0, "{told}{wrong}");
            assert_eq!(sink.mails().len(), usize::from(code == 0));
            let dialogue = fs::read_to_string(sink.dir.path().join("log")).unwrap();
            assert!(!dialogue.contains("XOAUTH2"), "{dialogue}");
            let told = dialogue
                .lines()
                .find(|line| line.contains("the response to the reason"));
            assert_eq!(told.is_some(), acknowledgement.is_some(), "{dialogue}");
            if let (Some(told), Some(right)) = (told, acknowledgement) {
                assert!(told.contains(right), "{told}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_renewed_is_used_by_the_next_session_without_sighup() {
    let Some(parts) = Parts::or_skip("a_token_that_is_renewed") else {
        return;
    };
    let options = ["--token", "reports@sender.example", "second"];
    let sink = Sink::start(&parts, &options, &json!([]));
    let mut world = world(sink.server.port);
    let token = beside(&world, "token", "first\n");
    let program = token_program(&world);
    let smtp = &mut world.config.mail.smtp;
    smtp.username = Some("reports@sender.example".to_owned());
    smtp.token_cmd = Some(program);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &job_for("daily", &["ann@acme.example"]));
    until("the rejection", async || {
        let log = daemon_log(&config);
        log.contains("535 5.7.8").then_some(())
    })
    .await;
    fs::write(&token, "second\n").unwrap();
    until("the mail", async || (sink.mails().len() == 1).then_some(())).await;
    daemon.stops(&config).await;
    let log = daemon_log(&config);
    assert!(!log.contains("first") && !log.contains("second"), "{log}");
    // The reason of the rejection was taken note of, as the protocol wants it.
    let dialogue = fs::read_to_string(sink.dir.path().join("log")).unwrap();
    assert!(
        dialogue.contains("the response to the reason\", \"reply\": \"b''"),
        "{dialogue}"
    );
}

/// What `handout check` says about the relay.
fn checked(config: &Path) -> String {
    let (_, told, _) = handout(config, &["check"]);
    let mut lines = told.lines();
    let line = lines.find(|line| line.contains(" mail.smtp "));
    let words = line.unwrap_or(&told).split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_work_is_told_with_what_the_relay_offers() {
    let Some(parts) = Parts::or_skip("a_login_that_cannot_work") else {
        return;
    };
    let password = ["--auth", "reports@sender.example", "correct horse"];
    let token = ["--token", "reports@sender.example", "right"];
    let with_token = |port, text: &str| {
        let mut world = world(port);
        let file = beside(&world, "token", text);
        world.config.mail.smtp.username = Some("reports@sender.example".to_owned());
        world.config.mail.smtp.token_file = Some(file);
        world
    };
    let with_program = |port, script: &str| {
        let mut world = world(port);
        let program = beside(&world, "print-token", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        world.config.mail.smtp.username = Some("reports@sender.example".to_owned());
        world.config.mail.smtp.token_cmd = Some(program);
        world
    };
    let sink = |options: &[&str], offers: &[&str]| {
        let offers = offers.iter().flat_map(|offer| ["--offer", offer]);
        let options: Vec<&str> = options.iter().copied().chain(offers).collect();
        Sink::start(&parts, &options, &json!([]))
    };
    let (passwords, tokens) = (sink(&password, &[]), sink(&token, &[]));
    let challenges = sink(&password, &["AUTH CRAM-MD5", "AUTH=NTLM"]);
    let nothing = sink(&[], &[]);
    let said = |world: World, sink: &Sink| {
        let place = format!("127.0.0.1:{}", sink.server.port);
        checked(&world.written()).replace(&place, "mx:587")
    };
    let port = |sink: &Sink| sink.server.port;
    let table = [
        said(with_password(port(&tokens)), &tokens),
        said(with_password(port(&challenges)), &challenges),
        said(with_password(port(&nothing)), &nothing),
        said(with_token(port(&passwords), "right"), &passwords),
        said(with_token(port(&tokens), "wrong"), &tokens),
        said(
            with_program(port(&tokens), "echo not logged in >&2; exit 3"),
            &tokens,
        ),
        said(
            with_program(port(&tokens), "echo right; echo and more"),
            &tokens,
        ),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    FAIL mail.smtp the relay mx:587 does not accept the login of mail.smtp: it does not offer AUTH PLAIN or LOGIN, which a password needs, but OAUTHBEARER, XOAUTH2; for a token, give token_file or token_cmd in place of password_file
    FAIL mail.smtp the relay mx:587 does not accept the login of mail.smtp: it does not offer AUTH PLAIN or LOGIN, which a password needs, but CRAM-MD5, NTLM
    FAIL mail.smtp the relay mx:587 does not accept the login of mail.smtp: it does not offer AUTH PLAIN or LOGIN, which a password needs, nor any other AUTH
    FAIL mail.smtp the relay mx:587 does not accept the login of mail.smtp: it does not offer AUTH XOAUTH2 or OAUTHBEARER, which a token needs, but LOGIN, PLAIN; for a password, give password_file
    FAIL mail.smtp the relay mx:587 does not accept the login of mail.smtp: 535 5.7.8
    FAIL mail.smtp the relay mx:587 cannot be logged in to: mail.smtp.token_cmd ended with exit status: 3: not logged in
    FAIL mail.smtp the relay mx:587 cannot be logged in to: mail.smtp.token_cmd printed no token: it must be one word of printable ASCII
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_gets_its_headers_and_bounces_have_their_own_address() {
    let Some(parts) = Parts::or_skip("a_relay_gets_its_headers") else {
        return;
    };
    let sink = Sink::start(&parts, &[], &json!([]));
    let mut world = world(sink.server.port);
    let smtp = &mut world.config.mail.smtp;
    smtp.envelope_from = Some("Bounces+x@bücher.example".to_owned());
    let headers = [
        ("X-SES-CONFIGURATION-SET", "reports"),
        ("X-PM-Message-Stream", "outbound"),
    ];
    smtp.headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let to = ["ann@acme.example", "\"da.me..\"@acme.example"];
    let (code, told, wrong) = job_run(&world.written(), &job_for("daily", &to), &[]);
    assert_eq!(code, Some(0), "{told}{wrong}");
    let mails = sink.mails();
    assert_eq!(mails.len(), to.len());
    // The quotation marks are part of the address, in the envelope and in the header.
    let dialogue = fs::read_to_string(sink.dir.path().join("log")).unwrap();
    assert!(
        dialogue.contains(r#""TO:<\"da.me..\"@acme.example>""#),
        "{dialogue}"
    );
    let quoted = "\r\nTo: \"da.me..\"@acme.example\r\n";
    assert!(mails.iter().any(|(mail, _)| mail.contains(quoted)));
    for (mail, envelope) in &mails {
        assert_eq!(envelope["from"], "Bounces+x@xn--bcher-kva.example");
        let head = mail.split("\r\n\r\n").next().unwrap();
        for (name, value) in headers {
            assert!(head.contains(&format!("{name}: {value}\r\n")), "{head}");
        }
        assert!(
            head.contains("\r\nFrom: Reports <reports@sender.example>\r\n"),
            "{head}"
        );
        assert!(!head.contains("Bounces"), "{head}");
    }
}
