//! A language that no mail can be written in is told, and not English without a word.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::program;
use crate::support::world::{World, email_job};

fn run(world: &World, arguments: &[&str]) -> Output {
    let mut handout = Command::new(program());
    handout.args(arguments).arg("--config").arg(world.written());
    handout.output().unwrap()
}

fn preview(world: &World, job: &Value) -> Output {
    let (file, out) = (
        world.dir.path().join("job.json"),
        world.dir.path().join("out"),
    );
    fs::write(&file, job.to_string()).unwrap();
    let arguments = [
        "job",
        "preview",
        file.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    run(world, &arguments)
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

fn world(locale: &str) -> World {
    World::new()
        .object("a.pdf", "x")
        .configured(|config| config.mail.locale = locale.to_owned())
}

#[test]
fn a_language_of_the_configuration_that_there_is_not_is_refused_with_the_list() {
    for locale in ["it", "zh-Hant", "pt-BR", "nb"] {
        for command in [&["check"][..], &["run"][..]] {
            let output = run(&world(locale), command);
            assert!(!output.status.success(), "{locale}");
            let told = told(&output);
            assert!(told.contains("mail.locale is"), "{locale}: {told}");
            assert!(told.contains("ar, de, en, es, fr, ja"), "{locale}: {told}");
        }
        let output = preview(&world(locale), &email_job("x"));
        assert_eq!(output.status.code(), Some(78), "{locale}");
    }
}

#[test]
fn a_language_of_a_recipient_that_there_is_not_is_refused_with_the_field_and_the_list() {
    for (list, locale) in [("to", "it"), ("cc", "zh-Hant"), ("to", "pt")] {
        let mut job = email_job("x");
        job["email"][list] =
            json!(["cy@acme.example", { "address": "bo@acme.example", "locale": locale }]);
        let output = preview(&world("en"), &job);
        assert_eq!(output.status.code(), Some(1), "{locale}");
        let told = told(&output);
        let field = format!("the job's field email.{list}[1].locale is {locale:?}");
        assert!(told.contains(&field), "{told}");
        assert!(told.contains("ar, de, en, es, fr, ja"), "{told}");
    }
}

#[test]
fn a_region_or_capitals_make_no_other_language_and_ones_own_words_make_one() {
    for locale in ["de-AT", "DE", "en-GB", "ar-EG", "ja-JP", "es-419"] {
        let mut job = email_job("x");
        job["email"]["to"] = json!([{ "address": "bo@acme.example", "locale": locale }]);
        for world in [world("en"), world(locale)] {
            let output = preview(&world, &job);
            assert!(output.status.success(), "{locale}: {}", told(&output));
        }
    }
    let world = world("it");
    let strings = world.dir.path().join("templates/strings");
    fs::create_dir_all(&strings).unwrap();
    let english = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/strings/en.toml");
    let italian = fs::read_to_string(english)
        .unwrap()
        .replace("Hello", "Buongiorno");
    fs::write(strings.join("it.toml"), italian).unwrap();
    let dir = world.dir.path().join("templates");
    let world = world.configured(|config| config.templates.dir = Some(dir));
    let output = preview(&world, &email_job("x"));
    assert!(output.status.success(), "{}", told(&output));
    let mail = fs::read_to_string(world.dir.path().join("out/mail-0001-ann_acme.example.txt"));
    assert!(mail.unwrap().starts_with("Buongiorno Ann Bell,"));
}

#[tokio::test]
async fn a_job_with_a_language_that_there_is_not_is_parked_and_mails_nobody() {
    let mut job = email_job("x");
    job["email"]["to"] =
        json!(["ann@acme.example", { "address": "bo@acme.example", "locale": "it" }]);
    let mut world = world("en").job(&job);
    world.run().await;
    assert!(world.mails().is_empty());
    assert!(world.parked().await[0].contains("email.to[1].locale"));
}
