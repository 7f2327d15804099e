//! Replies that are about us, and not about a recipient: through the whole program, with a relay of bad habits and with
//! Postfix.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use handout::config::{Tls, Transport};
use serde_json::{Value, json};

use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job, free_address};
use crate::support::{program, until};

const HELO_REFUSED: &str = "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname";
const DAILY_LIMIT: &str = "550 5.4.5 Daily user sending limit exceeded.";

fn say(step: &'static str, text: &str) -> Vec<Rule> {
    let habit = Habit::Say(text.to_owned());
    vec![Rule { step, at: 0, habit }]
}

/// A world whose mails go to a relay on this machine, without TLS.
pub(super) fn world(port: u16) -> World {
    World::new().object("a.pdf", "x").configured(move |config| {
        config.mail.transport = Transport::Smtp;
        config.mail.from = "Reports <reports@sender.example>".to_owned();
        let smtp = &mut config.mail.smtp;
        (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), port, Tls::None);
    })
}

pub(super) fn job_for(id: &str, to: &[&str]) -> Value {
    let mut job = email_job(id);
    job["email"]["to"] = json!(to);
    job
}

pub(super) fn handout(config: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program());
    let output = command.args(arguments).arg("--config").arg(config).output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Runs `handout job run` with a job; its exit code, and what it wrote to stdout and stderr.
pub(super) fn job_run(config: &Path, job: &Value, more: &[&str]) -> (Option<i32>, String, String) {
    let file = config.with_file_name("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let file = file.to_string_lossy().into_owned();
    handout(config, &[&["job", "run", &file], more].concat())
}

fn outcomes(world: &World) -> Vec<String> {
    let lines = world.audit_of("outcome").into_iter();
    lines
        .map(|line| format!("{} {}", line["outcome"].as_str().unwrap(), line["code"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_refuses_our_name_rejects_nobody_and_the_mail_leaves_after_the_repair() {
    let refusals = [
        ("RCPT", HELO_REFUSED, ""),
        (
            "RCPT",
            "554 5.7.1 <ann@acme.example>: Relay access denied",
            "",
        ),
        (
            "RCPT",
            "553 5.7.1 <reports@sender.example>: Sender address rejected: not owned by user x",
            "",
        ),
        (
            "RCPT",
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
            "",
        ),
        (
            "DATA",
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            "",
        ),
        (
            "DOT",
            "554 Message rejected: Email address is not verified.",
            "not_sent 554",
        ),
    ];
    for (step, reply, recorded) in refusals {
        let relay = BadRelay::start(say(step, reply)).await;
        let world = world(relay.port);
        let config = world.written();
        let job = job_for("daily", &["ann@acme.example"]);
        let (code, _, wrong) = job_run(&config, &job, &[]);
        assert_eq!(code, Some(69), "{reply}: {wrong}");
        assert!(
            wrong.contains("rejects what Handout sends"),
            "{reply}: {wrong}"
        );
        assert_eq!(outcomes(&world).join(" "), recorded, "{reply}");
        relay.becomes(Vec::new());
        let (code, told, wrong) = job_run(&config, &job, &[]);
        assert_eq!(code, Some(0), "{reply}: {told}{wrong}");
        assert_eq!(relay.kept(), ["ann@acme.example"], "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daily_limit_rests_the_relay_and_the_mail_leaves_when_it_is_over() {
    for (step, reply, recorded) in [
        ("RCPT", DAILY_LIMIT, ""),
        ("DOT", DAILY_LIMIT, "not_sent 550"),
        ("DOT", "552 5.2.2 Submission quota exceeded", "not_sent 552"),
        ("RCPT", "554 5.7.1 Mail send limit exceeded", ""),
    ] {
        let relay = BadRelay::start(say(step, reply)).await;
        let world = world(relay.port);
        let config = world.written();
        let job = job_for("daily", &["ann@acme.example", "bo@acme.example"]);
        let (code, _, wrong) = job_run(&config, &job, &[]);
        assert_eq!(code, Some(69), "{reply}: {wrong}");
        assert!(wrong.contains("gets no mail until"), "{reply}: {wrong}");
        assert!(
            !outcomes(&world).iter().any(|line| line != recorded),
            "{reply}"
        );
        relay.becomes(Vec::new());
        assert_eq!(job_run(&config, &job, &[]).0, Some(0), "{reply}");
        assert_eq!(relay.kept().len(), 2, "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_once_that_the_relay_refuses_us() {
    let relay = BadRelay::start(say("RCPT", HELO_REFUSED)).await;
    let world = world(relay.port).configured(|config| {
        config.http.listen = free_address();
    });
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let people = ["ann", "bo", "cy", "di", "eve", "flo"];
    for name in people {
        submit(&config, &job_for(name, &[&format!("{name}@acme.example")]));
    }
    let told = || {
        let log = daemon_log(&config);
        log.matches("refuses requests since").count()
    };
    until("the operator is told", async || (told() > 0).then_some(())).await;
    let (status, text) = crate::support::get(&format!("http://{}/ready", daemon.http)).await;
    let text = String::from_utf8(text).unwrap();
    assert!(
        status == 503 && text.contains("Helo command rejected"),
        "{status} {text}"
    );
    // Two of them have been asked for; the others wait without.
    assert!(relay.connections() <= 4, "{}", relay.connections());
    relay.becomes(Vec::new());
    until("the relay is back", async || {
        daemon_log(&config).contains("is back").then_some(())
    })
    .await;
    assert_eq!(told(), 1, "{}", daemon_log(&config));
    assert!(outcomes(&world).iter().all(|line| line == "accepted 250"));
    until("a mail leaves", async || {
        (!relay.kept().is_empty()).then_some(())
    })
    .await;
}

/// One recipient's domain is not relayed to.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_concerns_one_recipient_alone_holds_nobody_up() {
    for reply in [
        "554 5.7.1 <bo@else.example>: Relay access denied",
        "554 5.7.1 Delivery not possible",
    ] {
        let relay = BadRelay::start(vec![Rule {
            step: "RCPT",
            at: 2,
            habit: Habit::Say(reply.to_owned()),
        }])
        .await;
        let world = world(relay.port).configured(|config| config.mail.at_once = 1);
        let config = world.written();
        let people = ["ann@acme.example", "bo@acme.example", "cy@acme.example"];
        let (code, _, wrong) = job_run(&config, &job_for("daily", &people), &[]);
        assert_eq!(code, Some(69), "{reply}: {wrong}");
        assert_eq!(relay.kept(), [people[0], people[2]], "{reply}");
        assert_eq!(outcomes(&world), ["accepted 250"; 2], "{reply}");
    }
}

#[tokio::test]
async fn postfix_refuses_us_at_rcpt_and_nobody_is_rejected() {
    const TEST: &str = "postfix_refuses_us_at_rcpt";
    let Some(parts) = Parts::or_skip(TEST) else {
        return;
    };
    for (setting, to, said) in [
        (
            "smtpd_helo_restrictions=check_helo_access inline:{sender.example=reject}",
            "ann@acme.example",
            "Helo command rejected",
        ),
        (
            "smtpd_sender_restrictions=check_sender_access inline:{sender.example=reject}",
            "ann@acme.example",
            "Sender address rejected",
        ),
        (
            "smtpd_client_restrictions=reject",
            "ann@acme.example",
            "Client host rejected",
        ),
        (
            "smtpd_recipient_restrictions=reject_unauth_destination",
            "ann@else.example",
            "Relay access denied",
        ),
    ] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("postfix");
        fs::create_dir(&dir).unwrap();
        // Its virtual mailboxes are those of any domain otherwise.
        let settings = [
            setting,
            "mynetworks=192.0.2.0/24",
            "virtual_mailbox_domains=",
        ];
        let Some(server) = parts.postfix_or_skip(TEST, &dir, "acme.example", &settings) else {
            return;
        };
        let world = world(server.port).configured(|config| {
            config.mail.smtp.hello = Some("sender.example".to_owned());
            config.allow[0].recipients = vec!["*".to_owned()];
        });
        let config = world.written();
        let (code, told, wrong) = job_run(&config, &job_for("daily", &[to]), &[]);
        assert_eq!(code, Some(69), "{setting}: {told}{wrong}");
        let log = fs::read_to_string(dir.join("log")).unwrap();
        assert!(
            wrong.contains("rejects what Handout sends"),
            "{setting}: {wrong}\n{log}"
        );
        assert!(log.contains(said), "{setting}: {log}");
        assert_eq!(outcomes(&world), [""; 0], "{setting}");
    }
}

#[tokio::test]
async fn postfix_takes_our_name_where_it_wants_a_full_one() {
    const TEST: &str = "postfix_takes_our_name";
    let Some(parts) = Parts::or_skip(TEST) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("postfix");
    fs::create_dir(&dir).unwrap();
    let setting =
        "smtpd_helo_restrictions=reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname";
    let Some(server) = parts.postfix_or_skip(TEST, &dir, "acme.example", &[setting]) else {
        return;
    };
    let world = world(server.port);
    let (code, told, wrong) = job_run(
        &world.written(),
        &job_for("daily", &["ann@acme.example"]),
        &[],
    );
    assert_eq!(code, Some(0), "{told}{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_told_the_configured_name() {
    let relay = BadRelay::start(Vec::new()).await;
    for (hello, said) in [
        ("mail.acme.example", "mail.acme.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("bücher.example", "xn--bcher-kva.example"),
    ] {
        let before = relay.hellos().len();
        let world =
            world(relay.port).configured(|config| config.mail.smtp.hello = Some(hello.to_owned()));
        let config = world.written();
        assert_eq!(job_run(&config, &email_job("daily"), &[]).0, Some(0));
        assert_eq!(relay.hellos()[before..], [said]);
        let (_, told, _) = handout(&config, &["check"]);
        assert!(told.contains(&format!("EHLO {said}")), "{told}");
    }
    let world =
        world(relay.port).configured(|config| config.mail.smtp.hello = Some("vm".to_owned()));
    let (code, _, wrong) = handout(&world.written(), &["check"]);
    assert_eq!(code, Some(78), "{wrong}");
    assert!(
        wrong.contains("mail.smtp.hello is \"vm\"") && wrong.contains("fully qualified"),
        "{wrong}"
    );
}

/// The unit that is shipped hides `/proc`, and containers are called by a hash.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_called_vm_is_known_by_its_full_name_or_by_the_senders_domain() {
    let relay = BadRelay::start(Vec::new()).await;
    let world = world(relay.port);
    let config = world.written();
    let hosts = world.dir.path().join("hosts");
    for (index, (nodename, line, said)) in [
        ("vm", "127.0.0.1 localhost", "sender.example"),
        ("vm", "127.0.1.1 vm.acme.example vm", "vm.acme.example"),
        ("3f2a9c1b7d2e", "172.17.0.2 3f2a9c1b7d2e", "sender.example"),
        (
            "mx1.acme.example",
            "127.0.0.1 localhost",
            "mx1.acme.example",
        ),
        (
            "localhost.localdomain",
            "127.0.0.1 localhost",
            "sender.example",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&hosts, format!("{line}\n")).unwrap();
        let file = config.with_file_name("job.json");
        fs::write(&file, email_job(&format!("daily-{index}")).to_string()).unwrap();
        let script = "hostname \"$1\" && mount --bind \"$2\" /etc/hosts && mount -t tmpfs none /proc && exec \"$3\" job run \"$4\" --config \"$5\"";
        let output = Command::new("unshare")
            .args(["--uts", "--mount", "sh", "-c", script, "sh", nodename])
            .args([&hosts, &program(), &file, &config])
            .output();
        let output = output.unwrap();
        let before = relay.hellos();
        if before.is_empty() && !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(why.contains("Operation not permitted"), "{why}");
            eprintln!("a_host_called_vm: skipped: namespaces need root here: {why}");
            return;
        }
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{nodename}: {wrong}");
        assert_eq!(relay.hellos().last().unwrap(), said, "{nodename}, {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn job_run_names_who_was_rejected_and_why_and_ends_with_1() {
    let relay = BadRelay::start(say("RCPT", "550 5.1.1 no such user here")).await;
    let world = world(relay.port);
    let config = world.written();
    let job = job_for("daily", &["ann@acme.example", "bo@acme.example"]);
    let (code, told, log) = job_run(&config, &job, &[]);
    assert_eq!(code, Some(1), "{told}");
    for name in ["ann", "bo"] {
        let line = format!("  rejected     {name}@acme.example: 550 5.1.1 no such user here\n");
        assert!(told.contains(&line), "{told}");
    }
    assert!(
        told.contains("handout job resend --failed -- 'daily'"),
        "{told}"
    );
    assert!(!log.contains("@acme.example"), "{log}");
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("mail rejected"))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert!(
            line.contains("550 5.1.1 no such user here") && line.contains("\"rid\":\""),
            "{line}"
        );
    }

    let (code, told, _) = job_run(&config, &job, &[]);
    assert_eq!(
        code,
        Some(1),
        "it was done before, and they still have no mail: {told}"
    );
    assert!(
        told.contains("was done before") && told.contains("bo@acme.example: 550"),
        "{told}"
    );
    let (code, told, _) = job_run(&config, &job, &["--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (code, told["without_mail"].as_array().unwrap().len()),
        (Some(1), 2)
    );
    // The author of the job recognizes them by their places in it; an address is no part of a result.
    for without in told["without_mail"].as_array().unwrap() {
        let place = without["recipient"].as_str().unwrap();
        assert!(place.starts_with("email.to["), "{without}");
        assert!(without["to"].is_null(), "{without}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_shows_outcome_time_code_and_words_of_each_recipient() {
    let relay = BadRelay::start(Vec::new()).await;
    let rule = |step, at, habit| Rule { step, at, habit };
    relay.becomes(vec![
        rule(
            "RCPT",
            2,
            Habit::Say("550 5.1.1 \u{1b}[2Jno such user".to_owned()),
        ),
        rule("DOT", 2, Habit::Close),
    ]);
    let world = world(relay.port).configured(|config| {
        config.mail.at_once = 1;
        config.ledger.on_doubt = handout::config::OnDoubt::Hold;
    });
    let config = world.written();
    let job = job_for(
        "daily",
        &["ann@acme.example", "bo@acme.example", "cy@acme.example"],
    );
    let (code, told, log) = job_run(&config, &job, &[]);
    assert_eq!(code, Some(1), "{told}{log}");
    let (code, shown, _) = handout(&config, &["ledger", "show", "daily"]);
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    let find = |state: &str| {
        let line = lines.iter().find(|line| line[1] == state);
        line.unwrap_or_else(|| panic!("{state} in {shown}"))
    };
    let accepted = find("accepted at attempt 0");
    assert_eq!(accepted[3..], ["250", "2.0.0 kept", "ann@acme.example"]);
    let rejected = find("rejected at attempt 0");
    assert_eq!(rejected[3], "550");
    assert!(rejected[4].ends_with("such user"), "{rejected:?}");
    let doubtful = find("in doubt at attempt 0");
    assert_eq!(doubtful[3], "-");
    assert!(doubtful[5].starts_with('<'), "its Message-ID: {doubtful:?}");
    for line in &lines {
        assert!(line[2].parse::<jiff::Timestamp>().is_ok(), "{line:?}");
    }

    let (_, shown, _) = handout(&config, &["ledger", "show", "daily", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["job"], &shown["state"]),
        (&json!("daily"), &json!("done"))
    );
    let rows = shown["recipients"].as_array().unwrap();
    let row = rows.iter().find(|row| row["state"] == "rejected").unwrap();
    assert_eq!(
        (&row["code"], &row["outcome"]),
        (&json!(550), &json!("rejected"))
    );
    assert!(row["rid"].is_string() && row["at"].is_string(), "{row}");
    assert!(
        row["words"].as_str().unwrap().starts_with("550 5.1.1"),
        "{row}"
    );

    let (code, listed, _) = handout(&config, &["ledger", "show", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, listed.as_array().map(Vec::len)), (Some(0), Some(1)));
    let only = &listed[0];
    assert_eq!(
        (&only["job"], &only["state"]),
        (&json!("daily"), &json!("done"))
    );
    let instants = [&only["begun_at"], &only["done_at"]];
    assert!(instants.iter().all(|at| at.is_string()), "{only}");
    let (code, doubts, _) = handout(&config, &["ledger", "show", "--doubts", "--json"]);
    let doubts: Value = serde_json::from_str(&doubts).unwrap();
    assert_eq!((code, &doubts[0]["job"]), (Some(1), &json!("daily")));
    let (code, unknown, _) = handout(&config, &["ledger", "show", "nightly", "--json"]);
    let unknown: Value = serde_json::from_str(&unknown).unwrap();
    assert_eq!((code, &unknown["state"]), (Some(1), &json!("unknown")));
}
