//! Rules, gaps, folds and instants of schedules.

use super::*;
use crate::clock::bundled_time_zone;

fn schedule(timing: Timing, zone: &str) -> Schedule {
    Schedule {
        name: "test".parse().unwrap(),
        timing,
        zone: bundled_time_zone(zone).unwrap(),
        zone_name: zone.to_owned(),
        catch_up: CatchUp::Latest,
        within: Span::hours(12),
        delay: Span::seconds(0),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The occurrences of a rule in a zone from an instant on, in local time with the offset.
fn next(rule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let timing = match rule.strip_prefix("every ") {
        Some(span) => Timing::every(span.parse().unwrap()).unwrap(),
        None => Timing::cron(rule).unwrap(),
    };
    let schedule = schedule(timing, zone);
    let mut from = at(from);
    let mut found = Vec::new();
    for _ in 0..count {
        let Some(next) = schedule.next_after(from) else {
            break;
        };
        assert!(next > from, "{rule} {zone}: {next} is not after {from}");
        let local = next.to_zoned_datetime(schedule.zone.clone());
        found.push(local.strftime("%m-%d %H:%M%:z").to_string());
        from = next;
    }
    found
}

/// A rule, a zone, an instant, and the occurrences after it.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// Compares all rows, so that one run shows every difference.
fn agree(table: &[Row]) {
    let differing = table.iter().filter_map(|(rule, zone, from, expected)| {
        let found = next(rule, zone, from, expected.len());
        (found != *expected).then(|| format!("{rule} in {zone}: {found:?}, not {expected:?}"))
    });
    let differing: Vec<String> = differing.collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn fixed_times_are_due_once_on_every_day_whatever_the_clocks_do() {
    // (rule, zone, from, the occurrences)
    let table: &[Row] = &[
        // Spring and autumn in Berlin: 02:30 does not exist, and exists twice.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["03-29 03:00+02:00", "03-30 02:30+02:00"],
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["10-25 02:30+02:00", "10-26 02:30+01:00"],
        ),
        (
            "0 7 * * MON-FRI",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            &["03-30 07:00+02:00", "03-31 07:00+02:00"],
        ),
        (
            "0 7 * * MON-FRI",
            "Europe/Berlin",
            "2026-10-23T12:00:00Z",
            &["10-26 07:00+01:00"],
        ),
        (
            "0 3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["03-29 03:00+02:00", "03-30 03:00+02:00"],
        ),
        // A list of times is each of them, and two of them may fall together.
        (
            "30 2,14 * * *",
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            &["03-29 03:00+02:00", "03-29 14:30+02:00"],
        ),
        (
            "0 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            &["03-29 03:00+02:00", "03-30 02:00+02:00"],
        ),
        (
            "0,30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T20:00:00Z",
            &[
                "10-25 02:00+02:00",
                "10-25 02:30+02:00",
                "10-26 02:00+01:00",
            ],
        ),
        // America.
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T20:00:00Z",
            &["03-08 03:00-04:00", "03-09 02:30-04:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T20:00:00Z",
            &["11-01 01:30-04:00", "11-02 01:30-05:00"],
        ),
        // The gap is at midnight: the day begins at one.
        (
            "0 0 * * *",
            "America/Santiago",
            "2026-09-05T12:00:00Z",
            &["09-06 01:00-03:00", "09-07 00:00-03:00"],
        ),
        (
            "0 0 * * *",
            "America/Santiago",
            "2026-04-03T12:00:00Z",
            &["04-04 00:00-03:00", "04-05 00:00-04:00"],
        ),
        (
            "30 23 * * *",
            "America/Santiago",
            "2026-04-04T12:00:00Z",
            &["04-04 23:30-03:00", "04-05 23:30-04:00"],
        ),
        (
            "15 0 * * *",
            "America/Havana",
            "2026-03-07T12:00:00Z",
            &["03-08 01:00-04:00", "03-09 00:15-04:00"],
        ),
        (
            "15 0 * * *",
            "America/Havana",
            "2024-11-02T12:00:00Z",
            &["11-03 00:15-04:00", "11-04 00:15-05:00"],
        ),
        (
            "0 0 * * *",
            "Asia/Beirut",
            "2026-03-28T12:00:00Z",
            &["03-29 01:00+03:00", "03-30 00:00+03:00"],
        ),
        (
            "0 0 * * *",
            "Africa/Cairo",
            "2026-04-23T12:00:00Z",
            &["04-24 01:00+03:00", "04-25 00:00+03:00"],
        ),
        // Half an hour.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            &["10-04 02:30+11:00", "10-05 02:15+11:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T10:00:00Z",
            &["04-05 01:45+11:00", "04-06 01:45+10:30"],
        ),
        // Morocco goes back for Ramadan and forth after it.
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2026-02-14T12:00:00Z",
            &["02-15 02:30+01:00", "02-16 02:30+00:00"],
        ),
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2026-03-21T12:00:00Z",
            &["03-22 03:00+01:00", "03-23 02:30+01:00"],
        ),
        // A day that does not exist, and one that exists twice.
        (
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00Z",
            &["12-29 09:00-10:00", "12-31 09:00+14:00"],
        ),
        (
            "0 9 30 * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00Z",
            &["01-30 09:00+14:00"],
        ),
        (
            "0 9 * * *",
            "Pacific/Kwajalein",
            "1993-08-20T00:00:00Z",
            &["08-20 09:00-12:00", "08-22 09:00+12:00"],
        ),
        // Zones without a change, with odd offsets, and one that gave the change up.
        (
            "0 7 * * *",
            "Asia/Kolkata",
            "2026-03-28T12:00:00Z",
            &["03-29 07:00+05:30"],
        ),
        (
            "0 7 * * *",
            "Asia/Kathmandu",
            "2026-03-28T12:00:00Z",
            &["03-29 07:00+05:45"],
        ),
        (
            "0 7 * * *",
            "Pacific/Chatham",
            "2026-09-25T20:00:00Z",
            &["09-27 07:00+13:45"],
        ),
        (
            "0 7 * * *",
            "UTC",
            "2026-03-28T12:00:00Z",
            &["03-29 07:00+00:00"],
        ),
        (
            "0 2 * * *",
            "America/Sao_Paulo",
            "2026-11-01T12:00:00Z",
            &["11-02 02:00-03:00"],
        ),
        (
            "0 12 * * *",
            "Asia/Almaty",
            "2024-02-28T12:00:00Z",
            &["02-29 12:00+06:00", "03-01 12:00+05:00"],
        ),
        // Leap days, ends of months, the n-th weekday.
        (
            "0 8 29 2 *",
            "Europe/Berlin",
            "2026-01-01T00:00:00Z",
            &["02-29 08:00+01:00"],
        ),
        (
            "0 8 L * *",
            "Europe/Berlin",
            "2026-02-01T00:00:00Z",
            &["02-28 08:00+01:00", "03-31 08:00+02:00"],
        ),
        (
            "0 8 * * MON#1",
            "Europe/Berlin",
            "2026-02-01T00:00:00Z",
            &["02-02 08:00+01:00", "03-02 08:00+01:00"],
        ),
        (
            "0 8 1 */3 *",
            "Europe/Berlin",
            "2026-02-01T00:00:00Z",
            &["04-01 08:00+02:00", "07-01 08:00+02:00"],
        ),
    ];
    agree(table);
}

#[test]
fn intervals_are_skipped_in_a_gap_and_repeated_in_a_fold() {
    let table: &[Row] = &[
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            &["03-29 03:00+02:00", "03-29 03:30+02:00"],
        ),
        (
            "every 30m",
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            &["03-29 03:00+02:00", "03-29 03:30+02:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            &[
                "10-25 02:30+02:00",
                "10-25 02:00+01:00",
                "10-25 02:30+01:00",
                "10-25 03:00+01:00",
            ],
        ),
        (
            "every 30m",
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            &[
                "10-25 02:30+02:00",
                "10-25 02:00+01:00",
                "10-25 02:30+01:00",
                "10-25 03:00+01:00",
            ],
        ),
        (
            "every 6h",
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            &[
                "03-29 00:00+01:00",
                "03-29 06:00+02:00",
                "03-29 12:00+02:00",
            ],
        ),
        (
            "every 6h",
            "Europe/Berlin",
            "2026-10-24T20:00:00Z",
            &["10-25 00:00+02:00", "10-25 06:00+01:00"],
        ),
        (
            "every 2h",
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            &["03-29 04:00+02:00"],
        ),
        (
            "every 24h",
            "America/Santiago",
            "2026-09-05T12:00:00Z",
            &["09-07 00:00-03:00"],
        ),
        (
            "every 15m",
            "Australia/Lord_Howe",
            "2026-10-03T15:15:00Z",
            &["10-04 02:30+11:00", "10-04 02:45+11:00"],
        ),
        (
            "every 15m",
            "Australia/Lord_Howe",
            "2026-04-04T14:30:00Z",
            &[
                "04-05 01:45+11:00",
                "04-05 01:30+10:30",
                "04-05 01:45+10:30",
                "04-05 02:00+10:30",
            ],
        ),
        (
            "every 12h",
            "Pacific/Apia",
            "2011-12-29T12:00:00Z",
            &["12-29 12:00-10:00", "12-31 00:00+14:00"],
        ),
        (
            "every 12h",
            "America/Havana",
            "2024-11-02T17:00:00Z",
            &[
                "11-03 00:00-04:00",
                "11-03 00:00-05:00",
                "11-03 12:00-05:00",
            ],
        ),
        (
            "0 1-4 * * *",
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            &[
                "03-29 01:00+01:00",
                "03-29 03:00+02:00",
                "03-29 04:00+02:00",
            ],
        ),
    ];
    agree(table);
}

#[test]
fn a_rule_that_is_none_is_refused_with_what_would_be_right() {
    for text in [
        "",
        "0 7 * *",
        "0 7 * * MON-FRI *",
        "0 0 7 * * MON",
        "60 7 * * *",
        "0 25 * * *",
        "0 7 * * XYZ",
        "täglich",
        "0 7 * * * 2026",
    ] {
        let error = Timing::cron(text).unwrap_err();
        assert!(matches!(error, TimingError::Cron(_)), "{text:?}: {error}");
    }
    for text in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6 *"] {
        assert_eq!(
            Timing::cron(text).unwrap_err(),
            TimingError::Never,
            "{text}"
        );
    }
    for (seconds, is_good) in [
        (0, false),
        (59, false),
        (60, true),
        (300, true),
        (420, false),
        (18_000, false),
        (21_600, true),
        (86_400, true),
        (172_800, false),
    ] {
        assert_eq!(
            Timing::every(Span::seconds(seconds)).is_ok(),
            is_good,
            "{seconds}"
        );
    }
    for name in ["", "Acme", "a b", "-a", "a.b", "ä", &"a".repeat(65)] {
        assert!(name.parse::<ScheduleName>().is_err(), "{name:?}");
    }
}

#[test]
fn what_was_missed_is_caught_up_as_asked_and_within_its_age() {
    let hourly = |catch_up| Schedule {
        catch_up,
        ..schedule(Timing::every(Span::hours(1)).unwrap(), "UTC")
    };
    let due = |catch_up, after: &str, now: &str| hourly(catch_up).due(at(after), at(now));
    let (after, now) = ("2026-06-01T00:00:00Z", "2026-06-01T05:30:00Z");
    let all = due(CatchUp::All, after, now);
    assert_eq!(all.start.len(), 5);
    assert_eq!(
        (all.left_out, all.until),
        (None, Some(at("2026-06-01T05:00:00Z")))
    );
    let latest = due(CatchUp::Latest, after, now);
    assert_eq!(latest.start, [at("2026-06-01T05:00:00Z")]);
    assert_eq!(latest.left_out, Some(at("2026-06-01T01:00:00Z")));
    let none = due(CatchUp::None, after, now);
    assert_eq!(
        (none.start.len(), none.until),
        (0, Some(at("2026-06-01T05:00:00Z")))
    );
    // In time, or nearly.
    for catch_up in [CatchUp::None, CatchUp::Latest, CatchUp::All] {
        let due = due(catch_up, "2026-06-01T04:00:00Z", "2026-06-01T05:00:31Z");
        assert_eq!(due.start, [at("2026-06-01T05:00:00Z")], "{catch_up:?}");
    }
    // Nothing is early.
    assert_eq!(
        due(CatchUp::All, "2026-06-01T04:00:00Z", "2026-06-01T04:59:59Z"),
        DueOccurrences::default()
    );
    // What is older than `within` is left out, and said once: the next look begins later.
    let old = due(CatchUp::All, "2026-05-01T00:00:00Z", now);
    assert_eq!(old.left_out, Some(at("2026-05-01T01:00:00Z")));
    assert_eq!(old.start.len(), 12);
    assert_eq!(old.start[0], at("2026-05-31T18:00:00Z"));
    // Very many are caught up some at a time.
    let minutes = Schedule {
        catch_up: CatchUp::All,
        ..schedule(Timing::every(Span::minutes(1)).unwrap(), "UTC")
    };
    let mut from = at(after);
    let mut started = 0;
    loop {
        let due = minutes.due(from, at(now));
        assert!(due.start.len() <= MAX_CATCH_UP);
        started += due.start.len();
        match due.until {
            Some(until) => from = until,
            None => break,
        }
    }
    assert_eq!(started, 330);
}

#[test]
fn a_spread_is_the_same_for_every_occurrence_and_below_its_length() {
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..50 {
        let name: ScheduleName = format!("daily-{number}").parse().unwrap();
        let delay = Schedule::delay_of(&name, Span::minutes(5));
        assert!(delay < Span::minutes(5));
        assert_eq!(delay, Schedule::delay_of(&name, Span::minutes(5)));
        seen.insert(delay);
        assert_eq!(
            Schedule::delay_of(&name, Span::seconds(0)),
            Span::seconds(0)
        );
    }
    assert!(seen.len() > 30, "{seen:?}");
    let late = Schedule {
        delay: Span::seconds(90),
        ..schedule(Timing::cron("0 7 * * *").unwrap(), "UTC")
    };
    let after = at("2026-06-01T00:00:00Z");
    assert!(late.due(after, at("2026-06-01T07:01:29Z")).start.is_empty());
    assert_eq!(
        late.due(after, at("2026-06-01T07:01:30Z")).start,
        [at("2026-06-01T07:00:00Z")]
    );
}

#[test]
fn the_job_of_an_occurrence_has_its_id_instant_and_zone() {
    let berlin = || schedule(Timing::cron("30 0 * * *").unwrap(), "Europe/Berlin");
    let text = r#"{"v":1,"from":{"connection":"local","bucket":"reports","prefix":"{{date}}/"},"manifest":{"publish":{"to":"local"}}}"#;
    let text = text.replace(
        r#","manifest":{"publish":{"to":"local"}}"#,
        r#","email":{"to":["ann@acme.example"]}"#,
    );
    let scheduled = ScheduledJob::parse(berlin(), &text).unwrap();
    let occurrence = at("2026-11-26T23:30:00Z");
    let job = Job::parse(&scheduled.body(occurrence)).unwrap();
    assert_eq!(job.id.as_str(), "test.20261126T233000Z");
    assert_eq!(job.scheduled_at, Some(occurrence));
    assert_eq!(parse_stamp("20261126T233000Z"), Some(occurrence));
    assert_eq!(parse_stamp("20261126T233000"), None);
    let zone = job.time_zone.unwrap();
    assert_eq!(
        occurrence.to_zoned_datetime(zone).date().to_string(),
        "2026-11-27"
    );
    for (text, words) in [
        ("[]", "not a JSON object"),
        ("{\"id\":\"x\"}", "\"id\""),
        ("{\"scheduled_at\":null}", "\"scheduled_at\""),
        ("{\"v\":1}", "from"),
        ("{", "not JSON"),
    ] {
        let error = ScheduledJob::parse(berlin(), text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn an_instant_is_an_occurrence_or_has_one_before_and_one_after_it() {
    let daily = schedule(Timing::cron("30 2 * * *").unwrap(), "Europe/Berlin");
    // The day on which half past two does not exist.
    let (before, gap, after) = (
        at("2026-03-28T01:30:00Z"),
        at("2026-03-29T01:00:00Z"),
        at("2026-03-30T00:30:00Z"),
    );
    for occurrence in [before, gap, after] {
        assert!(daily.is_occurrence(occurrence), "{occurrence}");
    }
    assert_eq!(daily.last_before(gap), Some(before));
    assert_eq!(daily.last_before(after), Some(gap));
    let none = at("2026-03-29T00:30:00Z");
    assert!(!daily.is_occurrence(none));
    assert_eq!(
        (daily.last_before(none), daily.next_after(none)),
        (Some(before), Some(gap))
    );
    let leap = schedule(Timing::cron("0 0 29 2 *").unwrap(), "UTC");
    let (last, next) = (at("2096-02-29T00:00:00Z"), at("2104-02-29T00:00:00Z"));
    assert_eq!(leap.last_before(next), Some(last));
    let minutes = schedule(Timing::every(Span::minutes(1)).unwrap(), "UTC");
    let now = at("2026-03-29T00:30:30Z");
    assert_eq!(minutes.last_before(now), Some(at("2026-03-29T00:30:00Z")));
}
