//! Tests of `job/phrase.rs`.

use super::*;
use serde_json::json;

fn fill(source: &str) -> Result<String, PhraseError> {
    let vars = json!({ "customer": "ACME", "year": 2026, "deep": { "er": "x" }, "list": [] });
    let key: Key = "2026/11/a b.pdf".parse().unwrap();
    let scope = PhraseScope {
        vars: vars.as_object(),
        object: Some(&key),
        ..PhraseScope::default()
    };
    source.parse::<Phrase>()?.fill(&scope, MAX_PHRASE_BYTES)
}

#[test]
fn names_are_filled_in() {
    assert_eq!(
        fill("{{customer}} - {{ object.name }}").unwrap(),
        "ACME - a b.pdf"
    );
    assert_eq!(
        fill("{{vars.year}}/{{deep.er}}/{{object.stem}}").unwrap(),
        "2026/x/a b"
    );
    assert_eq!(fill("plain } text { ok").unwrap(), "plain } text { ok");
}

#[test]
fn what_cannot_be_filled_in_is_an_error_that_says_what_can() {
    let errors = [
        "{{costumer}}",
        "{{#if x}}",
        "{{{raw}}}",
        "{{> p}}",
        "{{open",
        "{{list}}",
        "{{}}",
    ]
    .map(|source| format!("{source}: {}", fill(source).unwrap_err()));
    insta::assert_snapshot!(errors.join("\n"), @r#"
        {{costumer}}: uses {{costumer}}, which has no value here; known are: customer, deep, list, year, object.name, object.stem, object.extension, object.folder, object.key
        {{#if x}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        {{{raw}}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        {{> p}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        {{open: opens "{{" and does not close it
        {{list}}: uses {{list}}, which is not a text, a number or true/false
        {{}}: has {{…}} at its byte 2: only plain names such as {{customer}}, {{object.name}} or {{date:-1d}} can stand there, no blocks, helpers or partials
        "#);
}

#[test]
fn a_phrase_never_becomes_longer_than_its_bound() {
    let vars = json!({ "a": "x".repeat(900_000), "b": "yz", "n": 12 });
    let scope = PhraseScope {
        vars: vars.as_object(),
        ..PhraseScope::default()
    };
    let filled = |source: &str, limit| source.parse::<Phrase>().unwrap().fill(&scope, limit);
    let overlong = |limit| Err(PhraseError::Overlong { limit });
    assert_eq!(filled(&"{{a}}".repeat(204), 998), overlong(998));
    assert_eq!(filled("{{b}}{{n}}", 3), overlong(3));
    assert_eq!(filled("{{b}}{{n}}", 4).unwrap(), "yz12");
    assert_eq!(filled("{{b}}!", 2), overlong(2));
}

#[test]
fn an_error_repeats_no_value_and_no_name_that_may_be_an_address() {
    let vars = json!({ "ann@acme.example": 1, "customer": 2 });
    let scope = PhraseScope {
        vars: vars.as_object(),
        ..PhraseScope::default()
    };
    for source in [
        "{{nobody}}",
        "{{ann@acme.example}}",
        "ü {{https://x.example/?t=s}}",
    ] {
        let filled = source.parse::<Phrase>();
        let error = filled.and_then(|phrase| phrase.fill(&scope, 100));
        let error = error.unwrap_err().to_string();
        assert!(
            !error.contains("acme") && !error.contains("https"),
            "{error}"
        );
    }
}

#[test]
fn a_phrase_knows_whether_it_names_the_recipient() {
    for (source, names) in [
        ("{{recipient.name}}", true),
        ("a {{ recipient.vars.x }}", true),
        ("{{customer.recipient}} {{object.name}}", false),
        ("recipient", false),
    ] {
        assert_eq!(source.parse::<Phrase>().unwrap().names_recipient(), names);
    }
}

#[test]
fn a_date_is_the_one_that_the_job_is_about() {
    let scope = PhraseScope {
        scheduled_at: Some("2026-03-05T23:59:00Z".parse().unwrap()),
        ..PhraseScope::default()
    };
    let phrase: Phrase = "{{year}}/{{month}}/{{day}}/report-{{date}}"
        .parse()
        .unwrap();
    assert_eq!(
        phrase.fill(&scope, 1000).unwrap(),
        "2026/03/05/report-2026-03-05"
    );
    assert!(matches!(
        phrase.fill(&PhraseScope::default(), 1000),
        Err(PhraseError::NoInstant(name)) if name == "year"
    ));
}

#[test]
fn yesterday_last_month_and_the_week_are_dates_of_the_jobs_time_zone() {
    let zone = crate::clock::time_zone("Asia/Tokyo").unwrap();
    let fill = |at: &str, phrase: &str| {
        let scope = PhraseScope {
            scheduled_at: Some(at.parse().unwrap()),
            time_zone: Some(&zone),
            ..PhraseScope::default()
        };
        phrase.parse::<Phrase>().unwrap().fill(&scope, 100)
    };
    for (at, phrase, expected) in [
        ("2026-11-23T06:00:00Z", "{{date:-1d}}", "2026-11-22"),
        (
            "2026-11-23T22:00:00Z",
            "{{date:-1d}} {{utc.date:-1d}}",
            "2026-11-23 2026-11-22",
        ),
        (
            "2026-03-31T06:00:00Z",
            "{{year:-1m}}/{{month:-1m}}/{{day:-1m}}",
            "2026/02/28",
        ),
        (
            "2026-01-05T06:00:00Z",
            "{{ year:-1w }}-{{month:-1w}}",
            "2025-12",
        ),
        (
            "2026-12-31T14:00:00Z",
            "{{week_year}}-W{{week}}",
            "2026-W53",
        ),
        (
            "2026-12-31T16:00:00Z",
            "{{year}} {{week_year}}-W{{week}}",
            "2027 2026-W53",
        ),
        (
            "2026-01-01T06:00:00Z",
            "W{{week:+1w}}, W{{week}}",
            "W02, W01",
        ),
    ] {
        assert_eq!(fill(at, phrase).as_deref(), Ok(expected), "{at} {phrase}");
    }
    let at = "2026-11-23T06:00:00Z";
    assert_eq!(
        fill(at, "{{job.id:-1d}}"),
        Err(PhraseError::NotADate("job.id:-1d".to_owned()))
    );
    assert_eq!(
        fill("9999-12-30T00:00:00Z", "{{date:+9999d}}"),
        Err(PhraseError::NoSuchDate("date:+9999d".to_owned()))
    );
    let nameless = "{{date:-1d}}".parse::<Phrase>().unwrap();
    assert_eq!(
        nameless.fill(&PhraseScope::default(), 100),
        Err(PhraseError::NoInstant("date:-1d".to_owned()))
    );
    for phrase in [
        "{{date:-1y}}",
        "{{date:1d}}",
        "{{date:}}",
        "{{:-1d}}",
        "{{date:-1d:-1d}}",
    ] {
        assert_eq!(
            phrase.parse::<Phrase>(),
            Err(PhraseError::NotAName(2)),
            "{phrase}"
        );
    }
}

#[test]
fn a_date_is_that_of_the_jobs_time_zone_and_utc_is_named() {
    let filled = |at: &str, zone: &str, phrase: &str| {
        let zone = crate::clock::time_zone(zone).unwrap();
        let scope = PhraseScope {
            scheduled_at: Some(at.parse().unwrap()),
            time_zone: Some(&zone),
            ..PhraseScope::default()
        };
        phrase.parse::<Phrase>().unwrap().fill(&scope, 100).unwrap()
    };
    for (at, zone, theirs, utc) in [
        (
            "2026-11-23T22:00:00Z",
            "Asia/Tokyo",
            "2026-11-24",
            "2026-11-23",
        ),
        (
            "2026-12-31T10:00:00Z",
            "Pacific/Kiritimati",
            "2027-01-01",
            "2026-12-31",
        ),
        (
            "2027-01-01T10:59:59Z",
            "Pacific/Pago_Pago",
            "2026-12-31",
            "2027-01-01",
        ),
        // The clocks of Berlin go from 02:00 to 03:00, and back from 03:00 to 02:00.
        (
            "2026-03-28T23:30:00Z",
            "Europe/Berlin",
            "2026-03-29",
            "2026-03-28",
        ),
        (
            "2026-10-25T22:30:00Z",
            "Europe/Berlin",
            "2026-10-25",
            "2026-10-25",
        ),
        (
            "2028-02-28T15:00:00Z",
            "Asia/Tokyo",
            "2028-02-29",
            "2028-02-28",
        ),
        ("2026-11-23T22:00:00Z", "UTC", "2026-11-23", "2026-11-23"),
    ] {
        let (parts, utc_parts) = (theirs.replace('-', "/"), utc.replace('-', "/"));
        assert_eq!(
            filled(at, zone, "{{date}} {{year}}/{{month}}/{{day}}"),
            format!("{theirs} {parts}")
        );
        let phrase = "{{utc.date}} {{utc.year}}/{{utc.month}}/{{utc.day}}";
        assert_eq!(
            filled(at, zone, phrase),
            format!("{utc} {utc_parts}"),
            "{zone}"
        );
    }
}

#[test]
fn a_value_is_never_read_as_a_phrase_again() {
    let vars = json!({ "a": "{{b}}", "b": "secret" });
    let scope = PhraseScope {
        vars: vars.as_object(),
        ..PhraseScope::default()
    };
    assert_eq!(
        "{{a}}"
            .parse::<Phrase>()
            .unwrap()
            .fill(&scope, 1000)
            .unwrap(),
        "{{b}}"
    );
}

#[test]
fn a_pattern_of_names_gives_what_the_phrase_gives() {
    let vars = json!({ "customer": "AC{{ME}}" });
    let key: Key = "2026/a b.tar.gz".parse().unwrap();
    let scope = PhraseScope {
        vars: vars.as_object(),
        ..PhraseScope::default()
    };
    for source in [
        "plain",
        "{{customer}} - {{object.stem}} ({{object.folder}}).{{object.extension}}",
        "{{object.key}}{{object.name}}",
    ] {
        let phrase: Phrase = source.parse().unwrap();
        let pattern = phrase.for_objects(&scope, 100).unwrap();
        let stored = serde_json::to_string(&pattern).unwrap();
        let pattern: NamePattern = serde_json::from_str(&stored).unwrap();
        let object = Some(&key);
        let whole = phrase.fill(&PhraseScope { object, ..scope }, 100).unwrap();
        assert_eq!(pattern.fill(&key, 100).unwrap(), whole, "{stored}");
    }
    let unknown: Phrase = "{{recipient.name}}".parse().unwrap();
    assert!(unknown.for_objects(&scope, 100).is_err());
}
