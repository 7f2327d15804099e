//! Addresses that a mail server reads as more than a mailbox, through the whole program and a real mail server.

use std::fs;

use handout::config::{Tls, Transport};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::servers::Parts;
use crate::support::until;
use crate::support::world::{World, email_job};

/// Local parts that some mail server reads as a route, a command, a file or a quotation.
const ROUTES: [&str; 14] = [
    "victim%evil.example",
    "evil.example!victim",
    "victim%evil.example%other.example",
    "\"victim@evil.example\"",
    "\"victim%evil.example\"",
    "\"evil.example!victim\"",
    "@evil.example:victim",
    "-oQ/tmp/x",
    "|id",
    "/etc/passwd",
    "a/b",
    "${run{id}}",
    "victim％evil.example",
    "`id`",
];

fn job_to(id: &str, field: &str, address: &str) -> Value {
    let mut job = email_job(id);
    job["email"][field] = match field {
        "reply_to" => json!(address),
        _ => json!([address]),
    };
    job
}

#[tokio::test]
async fn a_route_is_let_in_by_no_wildcard_and_no_field() {
    let mut world = World::new()
        .configured(|config| {
            config.mail.from = "Reports <reports@acme.example>".to_owned();
            config.allow[0].recipients = vec!["*@acme.example".to_owned(), "*".to_owned()];
        })
        .object("a.pdf", "x");
    let mut count = 0;
    for local in ROUTES {
        for field in ["to", "cc", "reply_to"] {
            count += 1;
            let address = format!("{local}@acme.example");
            world = world.job(&job_to(&format!("job-{count}"), field, &address));
        }
    }
    world.run().await;
    assert!(world.mails().is_empty());
    let parked = world.parked().await;
    assert_eq!(parked.len(), count);
    for reason in parked {
        assert!(
            !reason.contains("evil") && !reason.contains("victim"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_route_is_let_in_by_the_rule_that_names_it() {
    let mut world = World::new()
        .configured(|config| {
            config.allow[0].recipients = vec![
                "*@acme.example".to_owned(),
                "Hall%floor2@ACME.example".to_owned(),
            ];
        })
        .object("a.pdf", "x")
        .job(&job_to("named", "to", "hall%floor2@acme.example"))
        .job(&job_to("other", "to", "hall%floor3@acme.example"));
    world.run().await;
    let to: Vec<String> = world.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["hall%floor2@acme.example"]);
    assert_eq!(world.parked().await.len(), 1);
}

#[tokio::test]
async fn a_quoted_local_part_is_one_person_in_all_its_spellings() {
    let mut world = World::new()
        .configured(|config| {
            config.allow[0].recipients = vec![
                "*@acme.example".to_owned(),
                "\"r/d, west\"@other.example".to_owned(),
            ];
        })
        .object("a.pdf", "x");
    let people = [
        "\"da.me..\"@acme.example",
        "\"D\\a.me..\"@acme.example",
        "Dame <\"da.me..\"@ACME.example>",
        "\"ann\"@acme.example",
        "ann@acme.example",
        "West <\"R/D, West\"@other.example>",
    ];
    let mut job = email_job("all");
    job["email"]["to"] = json!(people);
    world = world.job(&job);
    world.run().await;
    let mut to: Vec<String> = world.mails().into_iter().map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(
        to,
        [
            "\"R/D, West\"@other.example",
            "\"da.me..\"@acme.example",
            "ann@acme.example"
        ],
        "{:?}",
        world.parked().await
    );
}

#[tokio::test]
async fn one_bad_address_is_named_by_its_place_and_not_by_its_text() {
    let mut world = World::new().object("a.pdf", "x");
    let table = [
        "secret..x@acme.example",
        "\"secret@acme.example",
        "Secret \"x..\"@acme.example",
        "\"se|cret\"@acme.example",
    ];
    for (index, bad) in table.iter().enumerate() {
        let mut job = email_job(&format!("job-{index}"));
        job["email"]["to"] = json!(["ann@acme.example", "\"da.me..\"@acme.example", bad]);
        world = world.job(&job);
    }
    world.run().await;
    assert!(world.mails().is_empty());
    let mut parked = world.parked().await;
    parked.sort();
    insta::assert_snapshot!(parked.join("\n"), @r#"
    the [[allow]] rules for s3://reports/ do not let it go to the recipient s…@acme.example (email.to[2])
    the job's field email.to[2] has ' ' before its "@", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox
    the job's field email.to[2] has '"' before its "@", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox
    the job's field email.to[2] has a "." first or last before its "@", or two in a row: put that part into quotation marks, as in '"ann..b"@acme.example'
    "#);
}

#[tokio::test]
async fn capitals_are_those_of_ascii() {
    let mut world = World::new()
        .configured(|config| {
            let rules = ["kim@ACME.example", "susi@acme.example"];
            config.allow[0].recipients = rules.map(ToOwned::to_owned).to_vec();
        })
        .object("a.pdf", "x");
    for (index, address) in ["\u{212a}im", "\u{17f}usi", "su\u{17f}i", "\u{130}an"]
        .iter()
        .enumerate()
    {
        let address = format!("{address}@acme.example");
        world = world.job(&job_to(&format!("job-{index}"), "to", &address));
    }
    world = world.job(&job_to("ascii", "to", "KIM@Acme.Example"));
    world.run().await;
    assert_eq!(world.parked().await.len(), 4);
    let to: Vec<String> = world.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["KIM@Acme.Example"]);
}

#[tokio::test]
async fn a_domain_that_is_no_host_name_reaches_no_relay() {
    let mut world = World::new()
        .configured(|config| config.allow[0].recipients = vec!["*".to_owned()])
        .object("a.pdf", "x");
    let domains = [
        "acme#.example",
        "acme%evil.example",
        "ac`me.example",
        "ac_me.example",
        "[1.2.3.4]",
        "1.2.3.4",
        "acme＃.example",
    ];
    for (index, domain) in domains.iter().enumerate() {
        world = world.job(&job_to(
            &format!("job-{index}"),
            "to",
            &format!("ann@{domain}"),
        ));
    }
    world.run().await;
    assert!(world.mails().is_empty());
    assert_eq!(world.parked().await.len(), domains.len());
}

/// Hands postfix one envelope and a short mail.
async fn hand_over(port: u16, recipient: &str) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let recipient = format!("RCPT TO:<{recipient}>");
    for command in [
        "HELO x.example",
        "MAIL FROM:<>",
        &recipient,
        "DATA",
        "Subject: x\r\n\r\nx\r\n.",
        "QUIT",
    ] {
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .await
            .unwrap();
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with(['2', '3']), "{command}: {line}");
    }
}

/// Postfix, with `mydestination` and all else as Debian has it, routes what the program refuses, and delivers inside what it lets through.
#[tokio::test]
async fn a_real_mail_server_delivers_inside_what_is_let_through() {
    const TEST: &str = "a_real_mail_server_delivers_inside";
    let Some(parts) = Parts::or_skip(TEST) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("postfix");
    fs::create_dir(&dir).unwrap();
    let Some(server) = parts.postfix_or_skip(TEST, &dir, "acme.example", &[]) else {
        return;
    };
    let port = server.port;
    let inside = [
        "ann",
        "o'neil",
        "a+b",
        "r&d",
        "x=y",
        "a_b-c.d",
        "a--b",
        "\u{f6}rg",
        "\"da.me..\"",
        "\".ann\"",
    ];
    let mut world = World::new()
        .configured(move |config| {
            config.mail.transport = Transport::Smtp;
            config.mail.from = "Reports <reports@sender.example>".to_owned();
            let smtp = &mut config.mail.smtp;
            (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), port, Tls::None);
        })
        .object("a.pdf", "x");
    for (index, local) in ROUTES.iter().enumerate() {
        world = world.job(&job_to(
            &format!("out-{index}"),
            "to",
            &format!("{local}@acme.example"),
        ));
    }
    let mut job = email_job("inside");
    job["email"]["to"] = inside
        .iter()
        .map(|local| format!("{local}@acme.example"))
        .collect();
    world = world.job(&job);
    world.run().await;
    assert_eq!(world.parked().await.len(), ROUTES.len());
    let log = || fs::read_to_string(dir.join("log")).unwrap();
    let sent = until("postfix to deliver", async || {
        let log = log();
        (log.matches("status=sent").count() >= inside.len()).then_some(log)
    })
    .await;
    for local in inside {
        assert!(
            sent.contains(&format!("to=<{local}@acme.example>")),
            "{local}: {sent}"
        );
    }
    assert!(
        !sent.contains("evil") && !sent.contains("bounced"),
        "{sent}"
    );

    // The exploit, handed over by hand: it is postfix that leads it outside.
    hand_over(port, "victim%evil.example@acme.example").await;
    hand_over(port, "evil.example!bang@acme.example").await;
    until("postfix to route it", async || {
        let log = log();
        ["to=<victim@evil.example>", "to=<bang@evil.example>"]
            .iter()
            .all(|to| log.contains(to))
            .then_some(())
    })
    .await;
    drop(server);
}
