//! The message itself: its headers, who stands in them, its signatures, and the way through a real mail server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use handout::config::{DkimConfig, RecipientNames, Tls, Transport};
use handout::deliver::Sender;
use handout::job::{Job, Recipient};
use handout::keyring::Keyring;
use handout::render::RenderedMail;
use serde_json::{Value, json};

use crate::hostile::put_all;
use crate::support::servers::{Parts, run};
use crate::support::world::{World, email_job};
use crate::support::{get, hostile, link_id, program, until};

/// The key of RFC 8463, appendix A.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
const RSA: &str = include_str!("../../crates/presign/tests/fixtures/rsa-pkcs8.pem");

/// The letters in the outbox.
fn letters(world: &World) -> Vec<PathBuf> {
    files(&world.config.outbox_dir(), |name| name.ends_with(".eml"))
}

fn files(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| wanted(&path.file_name().unwrap().to_string_lossy()));
    paths.sort();
    paths
}

/// The addresses of a header of a parsed mail.
fn addresses(mail: &Value, header: &str) -> Vec<String> {
    let people = mail["people"][header].as_array().unwrap();
    let address = |person: &Value| person[1].as_str().unwrap().to_owned();
    people.iter().map(address).collect()
}

/// A letter to somebody of that name about that subject.
fn letter(name: &str, subject: &str) -> Option<Vec<u8>> {
    let mut job = email_job("hostile");
    job["email"] = json!({
        "to": [{ "address": "ann@acme.example", "name": name }],
        "cc": [{ "address": "cleo@acme.example", "name": name }],
        "reply_to": "Desk <desk@sender.example>",
    });
    let job = Job::parse(&job.to_string()).ok()?;
    let sender = Sender::new(
        Recipient::parse("Reports <reports@sender.example>").unwrap(),
        Keyring::new([1; 32]),
    );
    let mail = RenderedMail {
        subject: subject.to_owned(),
        text: format!("{subject}\n"),
        html: "<p>x</p>".to_owned(),
        logo: None,
    };
    let reader = &job.email.as_ref().unwrap().to[0];
    let at = "2026-11-23T18:40:00Z".parse().unwrap();
    Some(sender.letter(&job, reader, mail, at).bytes)
}

#[test]
fn every_hostile_name_and_subject_arrives_as_it_was_meant() {
    let Some(parts) = Parts::or_skip("every_hostile_name_and_subject") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut refused = Vec::new();
    for word in hostile::words() {
        let name: String = word.chars().take(60).collect();
        let name = name.trim();
        match letter(name, &word) {
            Some(bytes) => {
                let path = dir.path().join(format!("{:03}.eml", expected.len()));
                fs::write(&path, bytes).unwrap();
                expected.push((path, name.to_owned(), word));
            }
            None => refused.push(word),
        }
    }
    assert_eq!(
        refused,
        ["invoice\u{202E}fdp.exe"],
        "a name that lies is refused"
    );
    let paths: Vec<PathBuf> = expected.iter().map(|(path, ..)| path.clone()).collect();
    let mails = parts.parse_mails(&paths);
    assert!(mails.len() > 50);
    for (mail, (_, name, subject)) in mails.iter().zip(&expected) {
        assert_eq!(mail["subject"], **subject);
        assert_eq!(mail["people"]["to"], json!([[name, "ann@acme.example"]]));
        assert_eq!(mail["people"]["cc"], json!([[name, "cleo@acme.example"]]));
        assert_eq!(mail["defects"], json!([]), "{subject}");
        assert_eq!(mail["headers"]["bcc"], Value::Null, "{subject}");
        let names: Vec<&String> = mail["headers"].as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 12, "{subject}: {names:?}");
        assert!(mail["max_line_octets"].as_u64().unwrap() <= 998);
        assert_eq!(
            (&mail["bare_line_endings"], &mail["eight_bit"]),
            (&json!(0), &json!(false))
        );
    }
}

#[tokio::test]
async fn a_variable_that_would_begin_a_header_refuses_the_job() {
    let mut job = email_job("forged");
    job["email"]["subject"] = json!("Report for {{customer}}");
    job["vars"] = json!({ "customer": "ACME\r\nBcc: evil@x.example" });
    let mut world = World::new().object("a.pdf", "x").job(&job);
    world.run().await;
    assert_eq!(world.mails().len(), 0);
    insta::assert_snapshot!(world.parked().await.join("\n"), @r"the job's field email.subject, filled in, holds the control character '\r', which no mail or page can carry");
}

#[tokio::test]
async fn every_link_of_a_mail_has_its_line_in_its_readers_name() {
    let Some(parts) = Parts::or_skip("every_link_of_a_mail_has_its_line") else {
        return;
    };
    let mut job = email_job("linked");
    job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
    job["email"]["cc"] = json!(["cleo@acme.example"]);
    job["email"]["template"] = json!("report");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    job["manifest"] = json!({ "publish": { "bucket": "published", "prefix": "m/" } });
    let mut world = World::new()
        .configured(|config| config.audit.recipients = RecipientNames::Clear)
        .job(&job);
    put_all(&world, &hostile::keys()).await;
    world.run().await;
    let audit = world.audit();
    let has_line = |id: &str, reader: &str| {
        audit.iter().any(|line| {
            let is_issued = ["issue", "gallery", "manifest"]
                .map(Value::from)
                .contains(&line["ev"]);
            is_issued && line["link_id"] == id && line["to"] == reader
        })
    };
    let mails = parts.parse_mails(&letters(&world));
    assert_eq!(mails.len(), 3);
    for mail in &mails {
        let reader = &addresses(mail, "to")[0];
        let in_text = mail["text"].as_str().unwrap().split_whitespace();
        let in_text = in_text.filter(|word| word.starts_with("http"));
        let in_html = mail["hrefs"].as_array().unwrap().iter();
        let urls: Vec<&str> = in_html
            .map(|url| url.as_str().unwrap())
            .chain(in_text)
            .collect();
        assert!(urls.len() > 20, "{} links", urls.len());
        for url in urls {
            let id = link_id(url);
            assert!(has_line(id, reader), "{reader}: a link without its line");
        }
        assert_eq!(mail["defects"], json!([]));
    }
}

#[tokio::test]
async fn those_in_cc_get_their_own_mail_and_are_seen_by_all() {
    let Some(parts) = Parts::or_skip("those_in_cc") else {
        return;
    };
    let mut job = email_job("seen");
    job["email"] = json!({
        "to": ["Änn <ann@acme.example>", "bo@acme.example"],
        "cc": ["Cleo <cleo@acme.example>", "bo@acme.example"],
    });
    let mut all = job.clone();
    all["id"] = json!("all");
    all["email"]["visibility"] = json!("to");
    let mut world = World::new().object("a.pdf", "x").job(&job).job(&all);
    world.run().await;
    let mails = parts.parse_mails(&letters(&world));
    let mut seen: Vec<String> = mails
        .iter()
        .map(|mail| {
            let list = |header| addresses(mail, header).join(" ");
            let job = &mail["headers"]["x-handout-job"][0];
            format!(
                "{}: To {}; Cc {}",
                job.as_str().unwrap(),
                list("to"),
                list("cc")
            )
        })
        .collect();
    seen.sort();
    insta::assert_snapshot!(seen.join("\n"), @r"
    all: To ann@acme.example bo@acme.example; Cc cleo@acme.example
    all: To ann@acme.example bo@acme.example; Cc cleo@acme.example
    all: To ann@acme.example bo@acme.example; Cc cleo@acme.example
    seen: To ann@acme.example; Cc cleo@acme.example
    seen: To bo@acme.example; Cc cleo@acme.example
    seen: To cleo@acme.example; Cc
    ");
    let links: std::collections::HashSet<_> = mails.iter().map(|mail| &mail["hrefs"][0]).collect();
    assert_eq!(links.len(), 6, "each has a link of their own");
    assert_eq!(
        world.audit_of("outcome").len(),
        6,
        "each has an outcome of their own"
    );
}

#[tokio::test]
async fn a_rule_counts_for_those_in_cc_too() {
    let mut job = email_job("leak");
    job["email"]["cc"] = json!(["cleo@acme.example", "eve@evil.example"]);
    let mut world = World::new().object("a.pdf", "x").job(&job);
    world.run().await;
    assert_eq!(world.mails().len(), 0);
    insta::assert_snapshot!(world.parked().await.join("\n"), @"the [[allow]] rules for s3://reports/ do not let it go to the recipient e…@evil.example (email.cc[1])");
}

#[tokio::test]
async fn a_domain_in_its_own_script_is_the_same_person_by_both_spellings() {
    let Some(parts) = Parts::or_skip("a_domain_in_its_own_script") else {
        return;
    };
    let to = |id: &str, address: &str| {
        let mut job = email_job(id);
        job["email"]["to"] = json!([address]);
        job
    };
    let mut world = World::new()
        .configured(|config| {
            config.allow[0].recipients = vec!["*@bücher.example".to_owned()];
            config.audit.recipients = RecipientNames::Clear;
        })
        .object("a.pdf", "x")
        .job(&to("one", "ann@bücher.example"))
        .job(&to("two", "ann@xn--bcher-kva.example"));
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    let lines = world.audit_of("outcome");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["rid"], lines[1]["rid"]);
    for mail in parts.parse_mails(&letters(&world)) {
        assert_eq!(addresses(&mail, "to"), ["ann@xn--bcher-kva.example"]);
        assert_eq!(
            (&mail["eight_bit"], &mail["defects"]),
            (&json!(false), &json!([]))
        );
    }
}

/// A world whose mails belong to a list and are signed with two keys.
fn signed_world() -> World {
    let world = World::new();
    let dir = world.dir.path();
    let key = |name: &str, pem: &str| {
        fs::write(dir.join(name), pem).unwrap();
        DkimConfig {
            domain: Some("sender.example".to_owned()),
            selector: name.to_owned(),
            key_file: dir.join(name),
        }
    };
    let keys = vec![key("ed", ED25519), key("rsa", RSA)];
    world.object("a b.pdf", "x").configured(|config| {
        config.mail.from = "Reports <reports@mail.sender.example>".to_owned();
        config.mail.dkim = keys;
        let list = &mut config.mail.list;
        list.id = Some("Tägliche Berichte <daily.sender.example>".to_owned());
        list.unsubscribe_mailto = Some("leave@sender.example".to_owned());
        list.unsubscribe_url = Some("https://sender.example/leave/{{list}}/{{rid}}".to_owned());
    })
}

/// The records that `handout check` tells to publish, by name.
fn published(world: &World) -> Value {
    let mut check = Command::new(program());
    let output = check
        .args(["check", "--json", "--config"])
        .arg(world.written())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = told["findings"].as_array().unwrap().iter();
    let results =
        results.filter_map(|finding| finding["result"].as_str()?.strip_prefix("publish: "));
    let records = results.map(|line| {
        let (name, record) = line.split_once(". IN TXT ").unwrap();
        (name.to_owned(), Value::from(record))
    });
    Value::Object(records.collect())
}

#[tokio::test]
async fn signatures_verify_and_say_so_when_a_byte_is_changed() {
    let Some(parts) = Parts::or_skip("signatures_verify") else {
        return;
    };
    let mut job = email_job("signed");
    job["email"]["subject"] = json!("Täglicher  Bericht 🎉");
    job["email"]["cc"] = json!(["Cleo <cleo@acme.example>"]);
    job["email"]["reply_to"] = json!("desk@mail.sender.example");
    let mut world = signed_world().job(&job);
    let records = world.dir.path().join("records.json");
    fs::write(&records, published(&world).to_string()).unwrap();
    world.run().await;
    let letters = letters(&world).into_iter();
    let mut letters = letters.map(|path| fs::read_to_string(path).unwrap());
    let mail = letters
        .find(|mail| mail.contains("\r\nTo: \"Ann Bell\""))
        .unwrap();
    let changed = |from: &str, to: &str| {
        assert!(mail.contains(from), "{from}");
        mail.replacen(from, to, 1)
    };
    let variants = [
        ("as it was sent", mail.clone(), true),
        (
            "folded anew",
            changed("Auto-Submitted: auto", "Auto-Submitted:\r\n  auto"),
            true,
        ),
        (
            "handed on",
            format!("Received: from x by y; today\r\n{mail}"),
            true,
        ),
        ("another body", changed("a b.pdf", "a c.pdf"), false),
        (
            "another reader",
            changed("To: \"Ann Bell\"", "To: \"Ann Ball\""),
            false,
        ),
        (
            "another way to leave",
            changed("leave@sender", "leave@s3nder"),
            false,
        ),
        ("another post", changed("=One-Click", "=One-Clack"), false),
        (
            "a second subject",
            format!("Subject: You won\r\n{mail}"),
            false,
        ),
        (
            "a second sender",
            format!("From: ceo@sender.example\r\n{mail}"),
            false,
        ),
        (
            "a second answer",
            format!("Reply-To: eve@evil.example\r\n{mail}"),
            false,
        ),
    ];
    let mut verify = parts.script("verify_dkim.py");
    verify.arg(&records);
    for (number, (_, text, _)) in variants.iter().enumerate() {
        let path = world.dir.path().join(format!("{number}.eml"));
        fs::write(&path, text).unwrap();
        verify.arg(path);
    }
    let judged: Vec<Vec<Value>> = serde_json::from_slice(&run(&mut verify)).unwrap();
    for ((what, _, wanted), signatures) in variants.iter().zip(&judged) {
        let algorithms: Vec<_> = signatures
            .iter()
            .map(|signature| &signature["algorithm"])
            .collect();
        assert_eq!(algorithms, ["ed25519-sha256", "rsa-sha256"], "{what}");
        for signature in signatures {
            assert_eq!(
                signature["verified"] == json!(true),
                *wanted,
                "{what}: {signature}"
            );
        }
    }
    let names: Vec<&str> = judged[0][0]["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    insta::assert_snapshot!(names.join(" "), @"from to cc reply-to subject date message-id auto-submitted list-id list-unsubscribe list-unsubscribe-post mime-version content-type from to cc subject reply-to content-type");
}

#[tokio::test]
async fn a_list_is_named_and_can_be_left_with_one_click() {
    let Some(parts) = Parts::or_skip("a_list_is_named") else {
        return;
    };
    let mut weekly = email_job("weekly");
    weekly["email"]["list_id"] = json!("weekly.sender.example");
    let mut world = signed_world().job(&email_job("daily")).job(&weekly);
    world.run().await;
    let rid = world.audit_of("outcome")[0]["rid"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut told: Vec<String> = parts
        .parse_mails(&letters(&world))
        .iter()
        .map(|mail| {
            assert_eq!(mail["defects"], json!([]));
            let header = |name: &str| {
                mail["headers"][name][0]
                    .as_str()
                    .unwrap()
                    .replace(&rid, "[RID]")
            };
            ["list-id", "list-unsubscribe", "list-unsubscribe-post"]
                .map(header)
                .join("\n")
        })
        .collect();
    told.sort();
    insta::assert_snapshot!(told.join("\n\n"), @r"
    <weekly.sender.example>
    <https://sender.example/leave/weekly.sender.example/[RID]>, <mailto:leave@sender.example?subject=unsubscribe%20[RID]%20weekly.sender.example>
    List-Unsubscribe=One-Click

    Tägliche Berichte <daily.sender.example>
    <https://sender.example/leave/daily.sender.example/[RID]>, <mailto:leave@sender.example?subject=unsubscribe%20[RID]%20daily.sender.example>
    List-Unsubscribe=One-Click
    ");
}

/// Debian's postfix takes the mails and puts them into a maildir.
#[tokio::test]
async fn a_real_mail_server_delivers_every_byte() {
    const TEST: &str = "a_real_mail_server_delivers_every_byte";
    let Some(parts) = Parts::or_skip(TEST) else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("postfix");
    fs::create_dir(&dir).unwrap();
    let refused = [
        "later@acme.example=451 4.7.1 try later",
        "gone@acme.example=550 5.1.1 no such user",
    ];
    let Some(server) = parts.postfix_or_skip(TEST, &dir, "acme.example", &refused) else {
        return;
    };
    let key = format!("{}/{}.pdf", "ü".repeat(380), "日本".repeat(40));
    let mut job = email_job("real");
    job["email"]["subject"] = json!("Täglicher Bericht 🎉 {{recipient.name}}");
    let people = [
        "Änn \"Bell\"",
        "Bo, of ACME",
        "Cleo",
        "日本語",
        "Eve.E",
        "=?x?=",
        "ليلى",
    ];
    let mut to: Vec<Value> = people
        .iter()
        .enumerate()
        .map(|(n, name)| json!({ "address": format!("p{n}@acme.example"), "name": name }))
        .collect();
    to.extend(["jörg", "later", "gone"].map(|user| json!(format!("{user}@acme.example"))));
    job["email"]["to"] = json!(to);
    let port = server.port;
    let mut world = World::new()
        .configured(move |config| {
            config.mail.transport = Transport::Smtp;
            config.mail.from = "Reports <reports@sender.example>".to_owned();
            let smtp = &mut config.mail.smtp;
            (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), port, Tls::None);
            smtp.rate = "1000/s".parse().unwrap();
        })
        .job(&job);
    put_all(&world, std::slice::from_ref(&key)).await;
    world.run().await;

    let mut outcomes: Vec<String> = world
        .audit_of("outcome")
        .iter()
        .map(|line| format!("{} {}", line["outcome"].as_str().unwrap(), line["code"]))
        .collect();
    outcomes.sort();
    let accepted = people.len() + 1;
    let mut expected = vec!["accepted 250"; accepted];
    expected.push("rejected 550");
    assert_eq!(outcomes, expected, "{:?}", world.parked().await);
    assert_eq!(
        world.waiting().await,
        1,
        "the one who shall be tried later keeps the job"
    );

    let inbox = dir.join("inbox/new");
    let delivered = until("postfix to deliver", async || {
        let paths = files(&inbox, |_| true);
        (paths.len() >= accepted).then_some(paths)
    })
    .await;
    let mails = parts.parse_mails(&delivered);
    let opened = world.open().await;
    let mut names = Vec::new();
    for (mail, path) in mails.iter().zip(&delivered) {
        let [url] = mail["hrefs"].as_array().unwrap().as_slice() else {
            panic!("{mail}")
        };
        let url = url.as_str().unwrap();
        assert!(url.len() >= 4000, "{} characters", url.len());
        assert!(
            mail["text"].as_str().unwrap().contains(url),
            "both forms have the same link"
        );
        // The endpoint checks the signature over every byte of it.
        let (status, body) = get(url).await;
        assert_eq!((status, body), (200, key.clone().into_bytes()));
        let name = mail["people"]["to"][0][0].as_str().unwrap();
        if fs::read(path)
            .unwrap()
            .windows(6)
            .any(|bytes| bytes == "jörg@".as_bytes())
        {
            continue; // SMTPUTF8: what Python's parser knows of headers ends at ASCII.
        }
        names.push(name.to_owned());
        assert_eq!(mail["subject"], format!("Täglicher Bericht 🎉 {name}"));
        assert_eq!(mail["defects"], json!([]));
    }
    opened.close().await;
    names.sort();
    let mut meant = people.map(ToOwned::to_owned);
    meant.sort();
    assert_eq!(names, meant);
    let master = fs::read_to_string(dir.join("queue/pid/master.pid")).unwrap();
    let process = Path::new("/proc").join(master.trim()).join("stat");
    assert!(process.exists());
    drop(server);
    let left = fs::read_to_string(process).unwrap_or_default();
    assert!(
        left.is_empty() || left.contains(") Z "),
        "nothing of it is left: {left}"
    );
}
