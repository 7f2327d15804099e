//! "Whose link is this?": `handout audit find --url -` and `handout explain -`, whatever a mail system made of the link.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use handout::assemble;
use handout::clock;
use handout::config::{OnEventConfig, RecipientNames};
use handout::job::Job;
use handout::links::saved;
use serde_json::{Value, json};

use crate::support::program;
use crate::support::world::{World, email_job};

/// A command of the program with a text on its stdin.
fn asked(arguments: &[&str], text: &str) -> Output {
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks whose a link is: the line, and what is said to people.
fn whose(config: &Path, text: &str, more: &[&str]) -> (Value, String) {
    let config = config.to_string_lossy();
    let arguments = ["audit", "find", "--config", &config, "--url", "-"];
    let output = asked(&[&arguments[..], more].concat(), text);
    let said = words(&output.stderr);
    assert!(output.status.success(), "{text}: {said}");
    let line = words(&output.stdout);
    (
        serde_json::from_str(line.lines().next().unwrap()).unwrap(),
        said,
    )
}

/// A world with a mail to Ann that was sent.
async fn sent(change: impl FnOnce(&mut World)) -> (World, PathBuf, String) {
    let mut world = World::new().object("2026/q3.pdf", "x");
    change(&mut world);
    let mut world = world.job(&email_job("daily"));
    world.run().await;
    let config = world.written();
    let link = world.mails()[0].hrefs[0].clone();
    (world, config, link)
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    presign::percent::push_query(text, &mut encoded);
    encoded
}

/// A user who may write to the log, and has no key, blames another recipient.
#[tokio::test]
async fn a_forged_line_is_not_shown_as_if_the_program_had_written_it() {
    let (world, config, link) = sent(|_| {}).await;
    let (line, said) = whose(&config, &link, &[]);
    assert!(!said.contains("DAMAGED"), "{said}");
    let log = world.config.audit_dir();
    let segment = fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .unwrap();
    let before = fs::read_to_string(&segment).unwrap();
    let rid = line["rid"].as_str().unwrap();
    fs::write(&segment, before.replace(rid, "someoneelse")).unwrap();
    for more in [&[][..], &["--json"], &["--csv"]] {
        let config = config.to_string_lossy();
        let arguments = ["audit", "find", "--config", &config, "--url", &link];
        let output = asked(&[&arguments[..], more].concat(), "");
        let said = words(&output.stderr);
        assert!(
            said.contains("is DAMAGED (") && said.contains("may be forged"),
            "{said}"
        );
    }
    // Another installation's log is verified without its key.
    fs::write(&segment, before).unwrap();
    let other = World::new();
    let other_config = other.written();
    let copy = log.to_string_lossy();
    let (_, said) = whose(&other_config, &link, &[&copy]);
    assert!(said.contains("--public-key"), "{said}");
}

#[tokio::test]
async fn a_leaked_link_says_whose_it_is_where_log_configuration_or_ledger_knows() {
    let told = "the link was made for ann@acme.example, in the job daily";
    let ann = json!("ann@acme.example");

    let (_world, config, link) = sent(|world| {
        world.config.allow[0].recipients = vec!["Ann@acme.example".to_owned()];
    })
    .await;
    let (line, said) = whose(&config, &link, &[]);
    assert_eq!(line["to"], ann, "a rule names her");
    assert!(said.contains(told), "{said}");
    let (line, said) = whose(&config, &link, &["--json"]);
    assert_eq!((&line["to"], said.as_str()), (&ann, ""), "for programs");
    let csv = ["audit", "find", "--csv", "--url", &link, "--config"];
    let csv = Command::new(program())
        .args(csv)
        .arg(&config)
        .output()
        .unwrap();
    assert!(words(&csv.stdout).contains(",\"ann@acme.example\","));

    let (_world, config, link) = sent(|world| {
        world.config.audit.recipients = RecipientNames::Clear;
    })
    .await;
    let (line, said) = whose(&config, &link, &[]);
    assert_eq!(line["to"], ann, "the log names her");
    assert!(said.contains(told), "{said}");

    let (_world, config, link) = sent(|world| {
        let file = world.dir.path().join("on-upload.json");
        fs::write(&file, email_job("upload").to_string()).unwrap();
        world.config.on_event = vec![OnEventConfig {
            bucket: "reports".to_owned(),
            key: "incoming/**".to_owned(),
            events: vec!["ObjectCreated:*".to_owned()],
            job_file: file,
        }];
    })
    .await;
    assert_eq!(
        whose(&config, &link, &[]).0["to"],
        ann,
        "a job of events names her"
    );

    let (world, config, link) = sent(|_| {}).await;
    let (line, said) = whose(&config, &link, &[]);
    assert_eq!(line["to"], ann, "the ledger names her");
    assert!(said.contains(told), "{said}");
    let shown = Command::new(program())
        .args(["ledger", "show", "daily", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let shown = words(&shown.stdout);
    assert!(
        shown.contains("accepted at attempt 0\t2") && shown.ends_with("\tann@acme.example\n"),
        "{shown}"
    );

    // The ledger has forgotten the mail; then it keeps the message, as of a job that did not reach everybody.
    let database = rusqlite::Connection::open(world.config.database_file()).unwrap();
    database.execute("DELETE FROM record", []).unwrap();
    drop(database);
    let (line, said) = whose(&config, &link, &[]);
    assert_eq!(line.get("to"), None);
    let rid = line["rid"].as_str().unwrap();
    assert!(
        said.contains(&format!(
            "made for the recipient {rid} of the job daily, whose address is neither"
        )),
        "{said}"
    );
    let asked_for = whose(
        &config,
        &link,
        &["--recipient", "Ann Bell <ann@acme.example>"],
    );
    assert_eq!(asked_for.0["to"], ann);
    let ledger = assemble::open_sqlite_ledger(&world.config, clock::system).unwrap();
    let job = Job::parse(&email_job("daily").to_string()).unwrap();
    saved::save_message(&job, &ledger).await.unwrap();
    drop(ledger);
    let (line, said) = whose(&config, &link, &[]);
    assert_eq!(line["to"], ann, "the kept message names her");
    assert!(said.contains(told), "{said}");
}

#[tokio::test]
async fn a_link_that_all_recipients_share_says_so() {
    let mut shared = email_job("daily");
    shared["links"] = json!({ "per_recipient": false });
    let mut world = World::new().object("a.pdf", "x").job(&shared);
    world.run().await;
    let link = world.mails()[0].hrefs[0].clone();
    let (_, said) = whose(&world.written(), &link, &[]);
    assert!(
        said.contains("made for all recipients of the job daily"),
        "{said}"
    );
}

#[tokio::test]
async fn a_link_is_recognized_whatever_a_mail_system_made_of_it() {
    let (_world, config, link) = sent(|_| {}).await;
    let inner = encoded(&link);
    let safe_link = format!(
        "https://eur01.safelinks.protection.outlook.com/?url={inner}&data=05%7C02&reserved=0"
    );
    let quoted = safe_link.replace('&', "&amp;").replace('=', "=3D");
    let texts = [
        format!("<{link}>"),
        format!("Ann, see {link}. Bob"),
        link.replace('&', "&amp;"),
        safe_link.clone(),
        safe_link.replace('&', "&amp;"),
        format!(
            "<a href=3D\"{}=\r\n{}\">q3</a>",
            &quoted[..70],
            &quoted[70..]
        ),
        format!("https://www.google.com/url?q={inner}&source=gmail"),
        format!("https://linkprotect.cudasvc.com/url?a={inner}&c=E,1,x"),
        format!("https://protect-eu.mimecast.com/r?url={inner}&domain=x"),
        format!(
            "https://urldefense.com/v3/__{}__;{}!!x!y$",
            link.replace('%', "*"),
            {
                use base64ct::{Base64UrlUnpadded, Encoding};
                Base64UrlUnpadded::encode_string("%".repeat(link.matches('%').count()).as_bytes())
            }
        ),
        format!("{}\r\n{}\r\n", &link[..76], &link[76..]),
    ];
    let config_path = config.to_string_lossy().into_owned();
    for text in &texts {
        let (line, _) = whose(&config, text, &["--json"]);
        assert_eq!(line["key"], "2026/q3.pdf", "{text}");
        let explained = asked(&["explain", "-", "--json", "--config", &config_path], text);
        let explained: Value = serde_json::from_str(&words(&explained.stdout)).unwrap();
        assert_eq!(
            (&explained["opens"]["bucket"], &explained["opens"]["key"]),
            (&json!("reports"), &json!("2026/q3.pdf")),
            "{text}"
        );
        assert_eq!(explained["link_id"], line["link_id"], "{text}");
    }

    // Cut in its signature, a link is still found by its id, and this is said.
    let (before, _) = link.split_at(link.find("X-Amz-Signature=").unwrap() + 40);
    let (line, said) = whose(&config, before, &[]);
    assert_eq!(line["key"], "2026/q3.pdf");
    assert!(
        said.contains("no line has the signature of this link; these have its id"),
        "{said}"
    );

    assert!(!said.contains("another object"), "{said}");

    // Its id in the URL of another object proves nothing of that one.
    let id = line["link_id"].as_str().unwrap();
    let written = |place: &str| format!("https://{place}?x-handout={id}");
    for (place, told) in [
        (
            "acme.s3.eu-central-1.amazonaws.com/2026/q4.pdf",
            "another object, s3://acme/2026/q4.pdf: its id was issued with a link to s3://reports/2026/q3.pdf",
        ),
        ("reports.s3.eu-central-1.amazonaws.com/2026/q3.pdf", ""),
        ("d111111abcdef8.cloudfront.net/q3.pdf", ""),
    ] {
        let (_, said) = whose(&config, &written(place), &[]);
        assert!(
            said.contains("the link has no signature"),
            "{place}: {said}"
        );
        assert!(said.contains(told), "{place}: {said}");
        assert_eq!(
            said.contains("another object"),
            !told.is_empty(),
            "{place}: {said}"
        );
    }

    for (text, told) in [
        (
            "https://protect-eu.mimecast.com/s/AbC?domain=acme.example",
            "Mimecast has replaced the link",
        ),
        ("https://acme.example/a.pdf", "no signature in it"),
    ] {
        let output = asked(
            &["audit", "find", "--config", &config_path, "--url", "-"],
            text,
        );
        assert!(!output.status.success());
        assert!(
            words(&output.stderr).contains(told),
            "{}",
            words(&output.stderr)
        );
    }
}

#[tokio::test]
async fn with_several_workers_all_logs_that_are_given_are_searched() {
    let (first, config, own_link) = sent(|_| {}).await;
    let secret = first.config.secret_key_file();
    let (second, _, link) = sent(|world| {
        fs::create_dir_all(&world.config.state_dir).unwrap();
        fs::copy(&secret, world.config.secret_key_file()).unwrap();
    })
    .await;
    let config_path = config.to_string_lossy().into_owned();
    let elsewhere = asked(
        &["audit", "find", "--config", &config_path, "--url", "-"],
        &link,
    );
    assert_eq!(
        (elsewhere.status.code(), elsewhere.stdout.len()),
        (Some(1), 0)
    );
    let told = words(&elsewhere.stderr);
    assert!(
        told.contains("no line matches in ") && !told.contains("X-Amz"),
        "{told}"
    );
    let logs =
        [&first, &second].map(|world| world.config.audit_dir().to_string_lossy().into_owned());
    for link in [&own_link, &link] {
        let (line, _) = whose(&config, link, &[&logs[0], &logs[1]]);
        assert_eq!(line["key"], "2026/q3.pdf");
    }
    // Both logs are counted together, and their directories need no configuration.
    let stats = Command::new(program())
        .args(["audit", "stats", "--json"])
        .args(&logs)
        .current_dir(first.dir.path())
        .env_clear()
        .output()
        .unwrap();
    let counted: Vec<Value> = words(&stats.stdout)
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    assert_eq!(counted.len(), 1, "{}", words(&stats.stderr));
    assert_eq!(counted[0]["links"], 2);
    let no_log = first.bucket("reports").to_string_lossy().into_owned();
    let arguments = [
        "audit",
        "find",
        "--config",
        &config_path,
        "--job",
        "daily",
        &no_log,
    ];
    let told = words(&asked(&arguments, "").stderr);
    assert!(told.contains("holds no audit log"), "{told}");
}

/// A copy of a log answers what needs no key, on a machine that has neither the configuration nor the secret.
#[tokio::test]
async fn a_copy_of_a_log_is_searched_without_a_configuration() {
    let (world, config, link) = sent(|_| {}).await;
    let (line, _) = whose(&config, &link, &["--json"]);
    let id = line["link_id"].as_str().unwrap();
    let log = world.config.audit_dir();
    let elsewhere = tempfile::tempdir().unwrap();
    let find = |question: &[&str]| {
        let mut command = Command::new(program());
        command.args(["audit", "find"]).args(question).arg(&log);
        command.current_dir(&elsewhere).env_clear();
        command.env("HOME", elsewhere.path()).output().unwrap()
    };
    let object = format!(
        "s3://{}/{}",
        line["bucket"].as_str().unwrap(),
        line["key"].as_str().unwrap()
    );
    for question in [
        ["--link-id", id],
        ["--object", &object],
        ["--job", line["job"].as_str().unwrap()],
    ] {
        let output = find(&question);
        assert!(
            output.status.success(),
            "{question:?}: {}",
            words(&output.stderr)
        );
        assert!(words(&output.stdout).contains(id), "{question:?}");
        assert!(
            words(&output.stderr).contains("these lines were not verified"),
            "{}",
            words(&output.stderr)
        );
    }
    // A table has each fact, too.
    let table = words(&find(&["--job", "daily", "--csv"]).stdout);
    assert!(table.contains(",\"accepted\",250,"), "{table}");
    let unknown = find(&["--link-id", "00000000000000000000000000000000"]);
    assert_eq!(unknown.status.code(), Some(1));
    // Addresses and signatures stand in the log under the installation's key.
    let keyed = find(&["--recipient", "ann@acme.example"]);
    assert_eq!(keyed.status.code(), Some(78), "{}", words(&keyed.stderr));
}
