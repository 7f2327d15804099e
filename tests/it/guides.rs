//! What a user copies out of README and docs: each part of a configuration loads, each JSON is what it claims to be.
//! `page_links` has the links between pages, `references` the generated ones.

use std::fs;

use handout::config::Config;
use handout::environment::Environment;
use handout::job::Job;
use handout::results::JobResult;
use jiff::civil::Date;
use serde_json::Value;
use toml::Table;

use crate::support::docs::{Page, page, pages};

/// The blocks of all pages in one language, each with the page that it is from.
fn blocks(language: &str) -> Vec<(String, String)> {
    let of_page = |page: Page| {
        page.blocks(language)
            .into_iter()
            .map(move |block| (page.name(), block))
    };
    pages().into_iter().flat_map(of_page).collect()
}

/// Whatever a guide leaves out since the reader has it: the connections that its rules name.
const REST: &str = r#"
[connections.reports]
region = "eu-west-1"
[[allow]]
connection = "reports"
bucket = "acme-uploads"
recipients = ["*@acme.example"]
"#;

/// Puts what is in one table over another.
fn lay(over: Table, table: &mut Table) {
    for (key, value) in over {
        match (value, table.get_mut(&key)) {
            (toml::Value::Table(over), Some(toml::Value::Table(table))) => lay(over, table),
            (value, _) => drop(table.insert(key, value)),
        }
    }
}

#[test]
fn every_part_of_a_configuration_in_the_guides_loads() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("jobs")).unwrap();
    let job = r#"{ "v": 1, "id": "upload", "from": { "connection": "reports", "bucket": "acme-uploads", "keys": ["{{event.key}}"] }, "email": { "to": ["ann@acme.example"] } }"#;
    fs::write(dir.path().join("jobs/on-upload.json"), job).unwrap();
    let file = dir.path().join("config.toml");
    let environment = Environment::default();
    let parts = blocks("toml");
    assert!(parts.len() >= 9, "{}", parts.len());
    for (page, part) in parts {
        let over: Table = part
            .parse()
            .unwrap_or_else(|error| panic!("{page}: {error}: {part}"));
        let mut table: Table = REST.parse().unwrap();
        lay(over, &mut table);
        fs::write(&file, table.to_string()).unwrap();
        let loaded = Config::load(Some(&file), &environment);
        assert!(loaded.is_ok(), "{page}: {}: {part}", loaded.unwrap_err());
    }
}

#[test]
fn every_json_of_the_guides_is_a_job_a_result_or_a_policy() {
    let (mut jobs, mut policies) = (0, 0);
    for (page, block) in blocks("json") {
        let value: Value =
            serde_json::from_str(&block).unwrap_or_else(|error| panic!("{page}: {error}: {block}"));
        if value.get("outcome").is_some() {
            is_result(&page, &value);
            continue;
        }
        if value.get("Statement").is_none() {
            // An event's are filled in before its job is read.
            let job = block.replace("{{event.bucket}}", "acme-uploads");
            Job::parse(&job).unwrap_or_else(|error| panic!("{page}: {error}: {block}"));
            jobs += 1;
            continue;
        }
        assert_eq!(value["Version"], "2012-10-17", "{page}");
        for statement in value["Statement"].as_array().unwrap() {
            let is_deny = page == "docs/links/leaked.md";
            let effect = if is_deny { "Deny" } else { "Allow" };
            assert_eq!(statement["Effect"], effect, "{page}");
            let listed = |field: &str| match &statement[field] {
                Value::String(one) => vec![one.clone()],
                many => serde_json::from_value(many.clone()).unwrap(),
            };
            assert!(
                listed("Resource")
                    .iter()
                    .all(|resource| resource.starts_with("arn:aws:")),
                "{page}"
            );
            let is_known = |action: &String| {
                ["s3:", "sqs:", "kms:"]
                    .iter()
                    .any(|of| action.starts_with(of))
            };
            assert!(listed("Action").iter().all(is_known), "{page}");
        }
        policies += 1;
    }
    assert!(
        jobs >= 3 && policies >= 2,
        "{jobs} jobs, {policies} policies"
    );
}

/// What is printed as a result is what the program would send about this job.
fn is_result(page: &str, value: &Value) {
    let field = |name: &str| value[name].clone();
    let id = serde_json::from_value(field("job")).unwrap();
    let report = serde_json::from_value(value.clone()).unwrap();
    let at = serde_json::from_value(field("at")).unwrap();
    let sent = JobResult::done(&id, value["message"].as_str().unwrap(), &report, at);
    assert_eq!(serde_json::to_value(sent).unwrap(), *value, "{page}");
}

/// What a scheduler sends, with the instant in the place of its name.
#[test]
fn the_scheduled_job_of_the_guides_is_one() {
    let blocks = blocks("jsonc");
    let scheduled = blocks
        .iter()
        .filter(|(_, block)| block.contains("<aws.scheduler."));
    let mut count = 0;
    for (page, block) in scheduled {
        let sent = block.replace("<aws.scheduler.scheduled-time>", "2026-11-23T06:00:00Z");
        Job::parse(&sent).unwrap_or_else(|error| panic!("{page}: {error}: {sent}"));
        count += 1;
    }
    assert_eq!(count, 1);
}

/// What stands in backticks and begins with the name of a section is a key of it.
#[test]
fn every_key_that_a_guide_names_is_a_key_of_the_configuration() {
    let reference = page("config.toml").text;
    let mut known = Vec::new();
    let mut section = String::new();
    for line in reference.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_start_matches('[').split(']').next().unwrap();
            section = header
                .replace("connections.reports", "connections.NAME")
                .replace("connections.local", "connections.NAME")
                .replace("mail.relays.bulk", "mail.smtp");
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            known.push(format!("{section}.{key}"));
        }
    }
    let sections = [
        "queue",
        "links",
        "mail",
        "brand",
        "ledger",
        "audit",
        "results",
        "gallery",
        "templates",
        "http",
        "embedded",
    ];
    let mut count = 0;
    for page in pages() {
        for span in page.text.split('`') {
            // `links.expiry_guard = "refuse"`
            let name = span.split(" = ").next().unwrap();
            let is_key = name.contains('.')
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
            let Some((section, _)) = name
                .split_once('.')
                .filter(|(section, _)| is_key && sections.contains(section))
            else {
                continue;
            };
            // Fields of a job, files and sections have such names too.
            let of_job = [
                "links.via",
                "links.filename",
                "links.expires_in",
                "links.disposition",
                "links.per_recipient",
                "gallery.publish",
                "gallery.message",
            ];
            let is_file = name.ends_with(".rs") || name.ends_with(".toml");
            if of_job.contains(&name) || is_file || section == name {
                continue;
            }
            let is_known = known
                .iter()
                .any(|known| known == name || known.starts_with(&format!("{name}.")));
            assert!(is_known, "{}: {name}", page.name());
            count += 1;
        }
    }
    assert!(count > 20, "{count} keys");
}

/// A block in another language would be printed without being tried.
#[test]
fn every_block_is_in_a_language_that_is_tried_or_that_is_no_input() {
    // Those of systemd are judged by tests/unit_file.sh, the one of Python is run by `webhook.rs`.
    let tried = ["sh", "toml", "json", "jsonc", "ini", "python"];
    // Rust's are doctests of their crate.
    let shown = ["text", "console", "nginx", "rust", "rust,no_run", ""];
    for page in pages() {
        for (language, block) in page.fences() {
            let is_known = tried.iter().chain(&shown).any(|known| *known == language);
            assert!(is_known, "{}: {language:?}: {block}", page.name());
        }
    }
}

/// What works today works next year: no block for the reader's use has a day that is still to come.
#[test]
fn no_printed_date_expires() {
    let today: Date = handout::clock::system().to_string()[..10].parse().unwrap();
    let mut count = 0;
    for language in ["sh", "toml", "json"] {
        for (page, block) in blocks(language) {
            for day in days(&block) {
                assert!(day <= today, "{page}: {day}");
                count += 1;
            }
        }
    }
    assert!(count > 3, "{count} dates");
}

/// All parts of a text that read as a day.
fn days(text: &str) -> impl Iterator<Item = Date> {
    let parts = (0..text.len()).filter_map(|at| text.get(at..at + 10));
    parts.filter_map(|part| part.parse().ok())
}

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").text.lines().count();
    assert!(lines <= 150, "{lines} lines");
}
