//! Jobs in parts: each recipient gets what lies under their own prefix or key, once, also from a list that changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use handout::config::{OnBadRow, RecipientListConfig};
use handout::job::JobId;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::support::world::{World, email_job};
use crate::support::{program, until};

/// A job whose prefix names the recipient.
fn weekly(to: &Value) -> Value {
    let mut job = email_job("weekly");
    job["from"]["prefix"] = json!("customers/{{recipient.vars.customer}}/");
    job["email"]["subject"] = json!("{{job.id}} for {{recipient.vars.customer}}");
    job["email"]["to"] = to.clone();
    job
}

fn person(name: &str, customer: &str) -> Value {
    json!({ "address": format!("{name}@acme.example"), "vars": { "customer": customer } })
}

/// An installation that writes results, with the files of three customers.
fn world() -> World {
    let world = World::new()
        .object("customers/1/a.pdf", "one")
        .object("customers/12/b.pdf", "twelve")
        .object("customers/12/c.pdf", "twelve")
        .object("customers/2/d.pdf", "two")
        .object("secret/e.pdf", "secret");
    let results = world.dir.path().join("results.jsonl");
    world.configured(|config| {
        config.results.file = Some(results);
        config.allow[0].prefix = "customers/".to_owned();
    })
}

fn with_list(world: World, file: &str, text: &str, on_bad_row: OnBadRow) -> World {
    let path = world.dir.path().join(file);
    fs::write(&path, text).unwrap();
    world.configured(|config| {
        config.allow[0].lists = vec!["customers".to_owned()];
        config.list = vec![RecipientListConfig {
            name: "customers".to_owned(),
            source: Some(path),
            connection: None,
            format: None,
            on_bad_row,
            recipients: Vec::new(),
        }];
    })
}

fn results(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(world.dir.path().join("results.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// The keys that each recipient's mail links.
fn linked(world: &World) -> BTreeMap<String, Vec<String>> {
    let mails = world.mails().into_iter().map(|mail| {
        let keys = mail.hrefs.iter().map(|href| {
            let path = href.split('?').next().unwrap();
            path.split("/reports/").nth(1).unwrap().to_owned()
        });
        (mail.to, keys.collect())
    });
    mails.collect()
}

fn handout(world: &World, words: &[&str]) -> Output {
    let mut handout = Command::new(program());
    handout.args(words).arg("--config").arg(world.written());
    handout.output().unwrap()
}

fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

#[tokio::test]
async fn each_recipient_gets_what_lies_under_their_own_prefix() {
    let to = json!([
        person("ann", "1"),
        person("bo", "12"),
        person("cy", "3"),
        person("dan", "2")
    ]);
    let mut job = weekly(&to);
    job["from"]["when_empty"] = json!("skip");
    job["email"]["message"] = json!("Customer {{recipient.vars.customer}}");
    let mut world = world().job(&job);
    world.run().await;
    let wanted = [
        ("ann@acme.example", vec!["customers/1/a.pdf"]),
        (
            "bo@acme.example",
            vec!["customers/12/b.pdf", "customers/12/c.pdf"],
        ),
        ("dan@acme.example", vec!["customers/2/d.pdf"]),
    ];
    let linked = linked(&world);
    assert_eq!(linked.len(), 3, "{linked:?}");
    for (to, keys) in wanted {
        assert_eq!(linked[to], keys);
    }
    assert_eq!(world.mails()[1].subject, "weekly for 12");
    assert!(world.mails()[1].html.contains("Customer 12"));
    let results = results(&world);
    assert_eq!(results.len(), 1, "one for the whole job: {results:?}");
    let result = &results[0];
    assert_eq!(
        (&result["job"], &result["outcome"]),
        (&json!("weekly"), &json!("done"))
    );
    assert_eq!(
        (&result["accepted"], &result["links"]),
        (&json!(3), &json!(4))
    );
    let parts = &result["parts"];
    assert_eq!(
        (&parts["recipients"], &parts["empty"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(parts["without_files"].as_array().unwrap().len(), 1);
    assert!(!result.to_string().contains('@'), "{result}");

    // A second delivery of the message does nothing.
    let mut world = world.job(&job);
    world.run().await;
    assert_eq!(world.mails().len(), 3);
    // Every line is found by the job, and a part by its own id.
    let found = handout(&world, &["audit", "find", "--job", "weekly"]);
    let found = said(&found);
    let lines: Vec<&str> = found
        .lines()
        .filter(|line| line.contains("\"ev\":\"issue\""))
        .collect();
    assert_eq!(lines.len(), 4, "{found}");
    let other = said(&handout(&world, &["audit", "find", "--job", "week"]));
    assert!(!other.contains("\"ev\":\"issue\""), "{other}");
    // The list of jobs is not full of parts.
    let listed = said(&handout(&world, &["ledger", "show"]));
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let shown = said(&handout(&world, &["ledger", "show", "weekly"]));
    assert!(
        shown.contains("in parts: 4 recipients in 1 chunk; so far 3 accepted")
            && shown.contains(", 1 without files,"),
        "{shown}"
    );
    assert!(
        shown.contains("weekly: done, begun at 2026-") && shown.contains(", done at 2026-"),
        "{shown}"
    );
    let empty = parts["without_files"][0].as_str().unwrap();
    assert!(
        shown.contains(&format!("{empty}\twithout files\t")),
        "{shown}"
    );
    // The part without files has a line of its own.
    let shown = said(&handout(
        &world,
        &["ledger", "show", &format!("weekly.part.{empty}")],
    ));
    let line = format!("{empty}\twithout files, so that no mail was made\t2026-");
    assert!(shown.contains(&line), "{shown}");
    let stranger = format!("weekly.part.{}", "0".repeat(32));
    let output = handout(&world, &["ledger", "show", &stranger]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no mail was begun"));
}

#[tokio::test]
async fn no_variable_of_a_recipient_leads_out_of_the_place_of_the_job() {
    let hostile = [
        "../secret",
        "1/../../secret",
        "",
        ".",
        "..",
        "1/",
        "a\\b",
        "1\u{0}",
        " 1",
        "1\u{202e}",
    ];
    let names = ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let mut to = vec![person("ann", "1")];
    to.extend(
        names
            .iter()
            .zip(hostile)
            .map(|(name, value)| person(name, value)),
    );
    to.push(json!("without@acme.example"));
    to.push(json!({ "address": "number@acme.example", "vars": { "customer": 12 } }));
    let mut world = world().job(&weekly(&json!(to)));
    world.run().await;
    let linked = linked(&world);
    let people: Vec<&str> = linked.keys().map(String::as_str).collect();
    assert_eq!(people, ["ann@acme.example", "number@acme.example"]);
    let result = &results(&world)[0];
    assert_eq!(result["parts"]["refused"], json!(hostile.len() + 1));
    let reasons = result["parts"]["reasons"].to_string();
    assert!(
        reasons.contains("contains \\\"/\\\"") && reasons.contains("is empty"),
        "{reasons}"
    );
    assert!(
        !reasons.contains("secret"),
        "no value is repeated: {reasons}"
    );
    let refused = world.audit_of("refused");
    assert_eq!(refused.len(), hostile.len() + 1);
    assert!(
        refused
            .iter()
            .all(|line| line["job"].as_str().unwrap().starts_with("weekly.part."))
    );
}

#[tokio::test]
async fn the_rules_judge_each_recipient_by_their_own_place() {
    let to = json!([person("ann", "1"), person("bo", "2"), person("cy", "12")]);
    let mut world = world().configured(|config| {
        let mut second = config.allow[0].clone();
        config.allow[0].prefix = "customers/1/".to_owned();
        config.allow[0].recipients =
            vec!["ann@acme.example".to_owned(), "cy@acme.example".to_owned()];
        second.prefix = "customers/2/".to_owned();
        second.recipients = vec!["ann@acme.example".to_owned()];
        config.allow.push(second);
    });
    world = world.job(&weekly(&to));
    world.run().await;
    assert_eq!(
        linked(&world).into_keys().collect::<Vec<_>>(),
        ["ann@acme.example"]
    );
    let parts = results(&world)[0]["parts"].clone();
    assert_eq!(parts["refused"], json!(2), "{parts}");
}

#[tokio::test]
async fn what_happens_without_files_is_as_the_job_says_for_each() {
    let to = json!([person("ann", "1"), person("bo", "none")]);
    for (when_empty, mails, refused) in [("refuse", 1, 1), ("deliver", 2, 0), ("skip", 1, 0)] {
        let mut job = weekly(&to);
        job["from"]["when_empty"] = json!(when_empty);
        let mut by_key = job.clone();
        by_key["id"] = json!("keyed");
        by_key["from"] = json!({
            "connection": "local", "bucket": "reports", "when_empty": when_empty,
            "keys": ["customers/{{recipient.vars.customer}}/a.pdf"],
        });
        let mut world = world().job(&job).job(&by_key);
        world.run().await;
        assert_eq!(world.mails().len(), 2 * mails, "{when_empty}");
        for result in results(&world) {
            assert_eq!(result["parts"]["refused"], json!(refused), "{result}");
            assert_eq!(
                result["missing"].as_u64().unwrap_or(0),
                u64::from(when_empty == "deliver" && result["job"] == "keyed")
            );
        }
    }
}

const CSV: &str = "\u{feff}address,name,vars.customer\r\n\
    ann@acme.example,\"Bell, Ann\",1\r\n\
    no address,Bo,2\r\n\
    ANN@acme.example,Ann again,2\r\n\
    dan@acme.example,Dan\r\n\
    bo@acme.example,Bo,12\r\n";

#[tokio::test]
async fn a_bad_row_stops_the_job_or_is_named_in_its_result() {
    let job = weekly(&json!({ "list": "customers" }));
    let mut world = with_list(world(), "customers.csv", CSV, OnBadRow::Stop).job(&job);
    world.run().await;
    assert!(world.mails().is_empty());
    let parked = world.parked().await;
    assert!(parked[0].contains("row 3, address: "), "{parked:?}");
    assert!(!parked[0].contains("no address"), "{parked:?}");

    let mut world = with_list(self::world(), "customers.csv", CSV, OnBadRow::Skip).job(&job);
    world.run().await;
    let linked = linked(&world);
    assert_eq!(linked.len(), 2, "{linked:?}");
    assert_eq!(linked["ann@acme.example"], ["customers/1/a.pdf"]);
    let parts = results(&world)[0]["parts"].clone();
    assert_eq!(
        (&parts["recipients"], &parts["repeated"], &parts["bad_rows"]),
        (&json!(2), &json!(1), &json!(2)),
        "{parts}"
    );
    assert_eq!(
        (&parts["rows"][0]["row"], &parts["rows"][1]["row"]),
        (&json!(3), &json!(5))
    );
}

#[tokio::test]
async fn a_recipient_is_named_by_the_id_in_each_command_and_the_address_is_found_by_it() {
    let rows = "address,vars.customer\nann@acme.example,1\nbo@acme.example,none\n";
    let mut job = weekly(&json!({ "list": "customers" }));
    job["from"]["when_empty"] = json!("skip");
    let mut world = with_list(world(), "customers.csv", rows, OnBadRow::Stop).job(&job);
    world.run().await;
    let bo = results(&world)[0]["parts"]["without_files"][0].clone();
    let bo = bo.as_str().unwrap();
    let issued = world.audit_of("issue");
    let ann = issued[0]["rid"].as_str().unwrap();
    for (words, code) in [
        (&["audit", "find", "--recipient"][..], 0),
        (&["audit", "export", "--recipient"], 0),
        (&["opens", "--all", "--recipient"], 0),
        (&["revoke", "recipient", "--dry-run"], 0),
        // Nothing suppresses her.
        (&["suppression", "show"], 1),
    ] {
        let answers = ["ann@acme.example", ann, &ann.to_ascii_uppercase()].map(|who| {
            let output = handout(&world, &[words, &[who]].concat());
            let text = said(&output).replace("ann@acme.example", ann);
            (output.status.code(), text.to_ascii_lowercase())
        });
        assert_eq!(answers[0], answers[1], "{words:?}");
        assert_eq!(answers[0], answers[2], "{words:?}");
        assert_eq!(answers[0].0, Some(code), "{words:?}: {}", answers[0].1);
    }
    let found = handout(&world, &["audit", "whose", bo, ann]);
    let text = said(&found);
    assert_eq!(found.status.code(), Some(0), "{text}");
    let line = format!("{bo}\tbo@acme.example\tlist customers\n");
    assert!(text.starts_with(&line), "{text}");

    // The list has others now, and the ledger has the mail that was begun.
    fs::write(
        world.dir.path().join("customers.csv"),
        "address\ncy@acme.example\n",
    )
    .unwrap();
    let found = handout(&world, &["audit", "whose", ann, bo, "--json"]);
    let text = said(&found);
    assert_eq!(found.status.code(), Some(1), "{text}");
    assert!(text.contains("has the address of 1 id;"), "{text}");
    let json: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(
        (&json[0]["to"], &json[0]["found_in"], &json[1]["to"]),
        (
            &json!("ann@acme.example"),
            &json!("job weekly"),
            &Value::Null
        ),
        "{text}"
    );
    let none = handout(&world, &["audit", "whose", "12"]);
    assert!(said(&none).contains("32 hexadecimal digits"));
}

#[tokio::test]
async fn a_check_reads_each_list_and_counts_its_recipients() {
    let rows = "address,vars.customer\nann@acme.example,1\nbo@acme.example,2\n";
    for (text, on_bad_row, line) in [
        (
            Some(rows),
            OnBadRow::Stop,
            "ok    list customers 2 recipients",
        ),
        (
            Some(CSV),
            OnBadRow::Skip,
            "warn  list customers 2 recipients, and rows with an address of an earlier row: 1; rows that jobs leave out, since they are no recipients: 2, the first is row 3, address: ",
        ),
        (
            Some(CSV),
            OnBadRow::Stop,
            "FAIL  list customers the list customers has a row that is no recipient",
        ),
        (
            Some("address\n"),
            OnBadRow::Stop,
            "FAIL  list customers the list customers has no recipients",
        ),
        (
            None,
            OnBadRow::Stop,
            "FAIL  list customers could not read the list customers: No such file",
        ),
    ] {
        let world = with_list(
            world(),
            "customers.csv",
            text.unwrap_or_default(),
            on_bad_row,
        );
        if text.is_none() {
            fs::remove_file(world.dir.path().join("customers.csv")).unwrap();
        }
        let checked = handout(&world, &["check"]);
        let said = said(&checked);
        let found = said.lines().find(|line| line.contains("list customers"));
        let words: Vec<&str> = found.unwrap_or(&said).split_whitespace().collect();
        let wanted: Vec<&str> = line.split_whitespace().collect();
        assert!(words.join(" ").starts_with(&wanted.join(" ")), "{said}");
        assert!(!said.contains("no address"), "{said}");
        assert_eq!(
            checked.status.success(),
            !line.starts_with("FAIL"),
            "{said}"
        );
    }
}

/// A table of a spreadsheet in a language whose separator is the semicolon.
#[test]
fn a_list_with_another_separator_is_said_to_want_commas() {
    for (text, wanted) in [
        (
            "address;vars.customer\nann@acme.example;1\n",
            "the list customers has semicolons between the columns of its header, and a list wants commas, as in \"address,name,vars.customer\"",
        ),
        (
            "address\tname\nann@acme.example\tAnn\n",
            "has tabs between the columns of its header, and a list wants commas",
        ),
        (
            "address,customer\nann@acme.example,1\n",
            "has a header whose column \"customer\" (number 2) is no column of a list",
        ),
        (
            "address,k\u{e4}ufer\nann@acme.example,1\n",
            "has a header whose column number 2 is no column of a list",
        ),
    ] {
        let world = with_list(world(), "customers.csv", text, OnBadRow::Stop);
        let said = said(&handout(&world, &["check"]));
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

/// A list that was exported wrongly has many, and a person corrects them in one go.
#[test]
fn a_check_of_one_list_prints_each_bad_row() {
    let rows: Vec<String> = (0..30).map(|n| format!("wrong{n},1")).collect();
    let text = format!(
        "address,vars.customer\nann@acme.example,1\n{}\n",
        rows.join("\n")
    );
    for on_bad_row in [OnBadRow::Skip, OnBadRow::Stop] {
        let world = with_list(world(), "customers.csv", &text, on_bad_row);
        let checked = handout(&world, &["check", "--rows", "customers"]);
        let told = said(&checked);
        let is_refused = on_bad_row == OnBadRow::Stop;
        assert_eq!(checked.status.success(), !is_refused, "{told}");
        let found = told.lines().filter(|line| line.contains(", address: "));
        assert_eq!(found.count(), 30, "{told}");
        assert!(told.contains("row 32, address: "), "{told}");
        assert!(!told.contains("wrong29"), "a row is not repeated: {told}");
    }
    let world = with_list(
        world(),
        "customers.csv",
        "address\nann@acme.example\n",
        OnBadRow::Stop,
    );
    let checked = handout(&world, &["check", "--rows", "customers"]);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("1 recipient"), "{}", said(&checked));
    let unknown = handout(&world, &["check", "--rows", "others"]);
    assert!(!unknown.status.success(), "{}", said(&unknown));
}

#[tokio::test]
async fn a_list_that_is_cut_off_or_lacks_a_quotation_mark_gives_no_recipient_the_files_of_another()
{
    let rows =
        |cut: &str| format!("address,vars.company,vars.customer\nann@acme.example,Acme,2\n{cut}");
    for (text, words) in [
        // Written half: customer 12 would get the files of customer 1.
        (
            rows("bo@acme.example,Acme,1"),
            "has no line break at its end",
        ),
        // The rows between two stray marks would be one recipient.
        (
            rows(
                "bo@acme.example,\"Acme 1,1\ncy@acme.example,Acme,3\ndan@acme.example,\"Acme 2,2\n",
            ),
            "a quotation mark may lack its counterpart",
        ),
    ] {
        for on_bad_row in [OnBadRow::Stop, OnBadRow::Skip] {
            let world = with_list(world(), "customers.csv", &text, on_bad_row);
            let file = world.dir.path().join("job.json");
            fs::write(&file, weekly(&json!({ "list": "customers" })).to_string()).unwrap();
            let run = handout(&world, &["job", "run", file.to_str().unwrap()]);
            assert!(said(&run).contains(words), "{}", said(&run));
            assert!(!run.status.success());
            assert!(world.mails().is_empty(), "{words}");
        }
    }
}

#[tokio::test]
async fn a_list_is_a_file_an_object_or_stands_in_the_configuration_and_a_rule_permits_it() {
    let job = weekly(&json!({ "list": "customers" }));
    let lines = "{\"address\":\"ann@acme.example\",\"vars\":{\"customer\":1}}\n{\"address\":\"bo@acme.example\",\"vars\":{\"customer\":\"12\"}}\n";
    let sources = [Some("s3://reports/lists/customers.jsonl".to_owned()), None];
    for source in sources {
        let entries = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let world = world()
            .object("lists/customers.jsonl", lines)
            .configured(|config| {
                config.allow[0].lists = vec!["customers".to_owned()];
                config.list = vec![RecipientListConfig {
                    name: "customers".to_owned(),
                    recipients: if source.is_none() {
                        entries.collect()
                    } else {
                        Vec::new()
                    },
                    source: source.clone().map(Into::into),
                    connection: None,
                    format: None,
                    on_bad_row: OnBadRow::Stop,
                }];
            });
        let mut world = world.job(&job);
        world.run().await;
        assert_eq!(
            linked(&world).len(),
            2,
            "{source:?}: {:?}",
            world.parked().await
        );
    }
    let mut world = with_list(world(), "customers.jsonl", lines, OnBadRow::Stop)
        .configured(|config| config.allow[0].lists.clear())
        .job(&job);
    world.run().await;
    assert!(world.mails().is_empty());
    let parked = world.parked().await;
    assert!(parked[0].contains("from the list customers"), "{parked:?}");
}

#[tokio::test]
async fn kills_in_the_middle_of_a_list_that_changes_mail_each_recipient_once() {
    const COUNT: usize = 110;
    let list = |customer: &dyn Fn(usize) -> String, first: usize| {
        let rows = (first..first + COUNT).map(|n| format!("p{n}@acme.example,{}", customer(n)));
        let rows: Vec<String> = rows.collect();
        format!("address,vars.customer\n{}\n", rows.join("\n"))
    };
    let before = list(&|n| (n % 2 + 1).to_string(), 0);
    // Others, in another order, and each with the files of another.
    let after = list(&|n| ((n + 1) % 2 + 1).to_string(), 40);
    let places = [
        "frozen",
        "planned:30",
        "intended:50",
        "concluded:99",
        "done:61",
        "chunk-served",
        "chunk-served:2",
        "served:111",
        "done:111",
    ];
    for place in places {
        let world = with_list(world(), "customers.csv", &before, OnBadRow::Stop);
        // A kill beside another mail's outcome would leave a doubt, which is another test's.
        let world = world.configured(|config| config.mail.at_once = 1);
        let config = world.written();
        world
            .submit(&[weekly(&json!({ "list": "customers" }))])
            .await;
        let mut child = Command::new(program())
            .args(["run", "--config"])
            .arg(&config)
            .env("HANDOUT_FAILPOINT", place)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = until("the death", async || child.try_wait().unwrap()).await;
        assert_eq!(status.signal(), Some(9), "{place}");
        let is_frozen = place != "frozen";
        fs::write(world.dir.path().join("customers.csv"), &after).unwrap();
        world.show_all();
        let daemon = Daemon::start(&config, &[]).await;
        until("the result", async || results(&world).pop()).await;
        daemon.signal("TERM");
        assert_eq!(daemon.end().await.0, Some(0));
        let first = if is_frozen { 0 } else { 40 };
        let mut people: Vec<String> = (first..first + COUNT)
            .map(|n| format!("p{n}@acme.example"))
            .collect();
        people.sort();
        let mails = world.mails();
        let mailed: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
        assert_eq!(mailed, people, "{place}");
        if is_frozen {
            let keys = &linked(&world)["p1@acme.example"];
            assert_eq!(keys, &["customers/2/d.pdf"], "{place}");
        }
        let parts = results(&world)[0].clone();
        assert_eq!(parts["accepted"], json!(COUNT), "{place}: {parts}");
    }
}

#[tokio::test]
async fn the_refused_get_their_mail_when_the_cause_is_gone_and_the_others_no_second() {
    let to = json!([person("ann", "1"), person("bo", "9")]);
    let mut world = world().job(&weekly(&to));
    world.run().await;
    assert_eq!(world.mails().len(), 1);
    let world = world.object("customers/9/z.pdf", "nine");
    let part = handout(&world, &["ledger", "show", "weekly"]);
    assert!(
        said(&part).contains("1 whose part was rejected"),
        "{}",
        said(&part)
    );
    let again = handout(&world, &["job", "resend", "weekly", "--failed"]);
    let words = said(&again);
    assert!(
        again.status.success() && words.contains("1 of weekly get it again"),
        "{words}"
    );
    assert_eq!(world.mails().len(), 2, "{words}");
    assert_eq!(linked(&world)["bo@acme.example"], ["customers/9/z.pdf"]);
    let none = handout(&world, &["job", "resend", "weekly", "--failed"]);
    assert!(
        said(&none).contains("no recipient of weekly was rejected"),
        "{}",
        said(&none)
    );
    let opened = world.open().await;
    let jobs = opened.services.recording.ledger.jobs(10).await.unwrap();
    assert_eq!(jobs, ["weekly".parse::<JobId>().unwrap()]);
    opened.close().await;
}

#[test]
fn a_preview_has_a_row_for_each_of_the_first_and_a_rehearsal_is_for_ten() {
    let rows: Vec<String> = (0..14)
        .map(|n| format!("p{n}@acme.example,{}", n % 3 + 1))
        .collect();
    let text = format!("address,vars.customer\n{}\nx,1\n", rows.join("\n"));
    let world = with_list(world(), "customers.csv", &text, OnBadRow::Skip);
    let file = world.dir.path().join("job.json");
    let mut job = weekly(&json!({ "list": "customers" }));
    job["from"]["when_empty"] = json!("skip");
    fs::write(&file, job.to_string()).unwrap();
    let (file, out) = (file.display().to_string(), world.dir.path().join("out"));
    let out = out.display().to_string();
    let preview = ["job", "preview", &file, "--out", &out, "--mails", "3"];
    let shown = said(&handout(&world, &preview));
    for wanted in [
        "would go to 14 recipients",
        "bad rows     1",
        "row 16, address",
        "p0@acme.example  customers/1/      1  a mail: weekly for 1",
        "p2@acme.example  customers/3/      0  no files: no mail",
        "3 of 14",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(world.mails().is_empty());
    let rehearsed = handout(
        &world,
        &["job", "run", &file, "--rehearse", "me@acme.example"],
    );
    assert!(rehearsed.status.success(), "{}", said(&rehearsed));
    let mails = world.mails();
    assert_eq!(mails.len(), 7, "three of the first ten have no files");
    assert!(mails.iter().all(|mail| mail.to == "me@acme.example"));
    let run = handout(&world, &["job", "run", &file]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(
        said(&run).contains("no files     4 recipients"),
        "{}",
        said(&run)
    );
    assert_eq!(world.mails().len(), 7 + 10);
    let submitted = handout(&world, &["job", "submit", &file]);
    assert!(submitted.status.success(), "{}", said(&submitted));
}

#[test]
fn a_preview_of_which_no_recipient_would_get_a_mail_has_the_code_of_a_rejected_job() {
    let text = "address,vars.customer\ncy@acme.example,3\ndan@acme.example,3\n";
    let world = with_list(world(), "customers.csv", text, OnBadRow::Skip);
    let file = world.dir.path().join("job.json");
    let out = world.dir.path().join("out").display().to_string();
    let preview = |when_empty: &str, to: Value| {
        let mut job = weekly(&to);
        job["from"]["when_empty"] = json!(when_empty);
        fs::write(&file, job.to_string()).unwrap();
        let file = file.display().to_string();
        handout(&world, &["job", "preview", &file, "--out", &out])
    };
    let refused = preview("refuse", json!({ "list": "customers" }));
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("refused: "), "{told}");
    let empty = preview("skip", json!({ "list": "customers" }));
    assert!(empty.status.success(), "no files are no rejection");
    let cy = json!({ "address": "cy@acme.example", "vars": { "customer": "3" } });
    let ann = json!({ "address": "ann@acme.example", "vars": { "customer": "1" } });
    let some = preview("refuse", json!([cy, ann]));
    assert!(some.status.success(), "{}", said(&some));
    // The reason of a suppressed recipient does not repeat the word before it.
    let add = ["suppression", "add", "ann@acme.example", "--reason", "x"];
    assert!(handout(&world, &add).status.success());
    let told = said(&preview("refuse", json!([ann, cy])));
    assert!(told.contains("suppressed: since "), "{told}");
}
