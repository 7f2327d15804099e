//! Tests of what a scrape answers.

use std::collections::BTreeSet;

use super::*;
use crate::edge::health::{Edge, EdgeKind};
use crate::feedback::{FeedbackVerdict, IgnoredReport};
use crate::progress::times::TimedStep;
use crate::progress::{JobEnd, QueueDepth};

fn measured() -> ScrapedParts {
    let progress = Progress::default();
    progress.settled(JobEnd::Done);
    progress.issued(12);
    progress
        .times()
        .observe(TimedStep::JobDone, Duration::from_millis(300));
    progress.doubt_is_open("job", "ann");
    progress.saw_queue(Some(QueueDepth {
        waiting: 3,
        in_flight: 1,
        oldest: Some(Duration::from_secs(90)),
    }));
    let relay = Edge::new(EdgeKind::Relay, "default", "the relay");
    relay.failed(FailureKind::Timeout, "");
    relay.failed(FailureKind::Timeout, "");
    let credentials = Edge::new(EdgeKind::Credentials, "reports", "the source");
    credentials.gave_until("2030-01-01T00:00:00Z".parse().ok());
    ScrapedParts {
        progress,
        edges: Edges::from_iter([relay, credentials]),
        portal: Some(PortalCounts::default()),
        intake: Some(IntakeCounts::default()),
        retention: Some(RetentionCounts::default()),
        feedback: Some(FeedbackCounts::default()),
        schedules: Some(ScheduleCounts::default()),
        spans: SpanCounts::default(),
    }
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line}\n{text}");
}

#[test]
fn a_client_that_asks_for_nothing_gets_the_text_format() {
    let text = measured().text(MetricsFormat::Text);
    for line in [
        "# TYPE handout_jobs_total counter",
        "handout_jobs_total{result=\"done\"} 1",
        "handout_links_issued_total 12",
        "handout_edge_up{edge=\"relay:default\"} 0",
        "handout_edge_errors_total{edge=\"relay:default\",kind=\"timeout\"} 2",
        "handout_job_duration_seconds_bucket{result=\"done\",le=\"0.25\"} 0",
        "handout_job_duration_seconds_bucket{result=\"done\",le=\"0.5\"} 1",
        "handout_job_duration_seconds_bucket{result=\"done\",le=\"+Inf\"} 1",
        "handout_job_duration_seconds_count{result=\"failed\"} 0",
        "handout_mails_in_doubt 1",
        "handout_queue_messages{state=\"waiting\"} 3",
        "handout_queue_oldest_message_age_seconds 90",
        "handout_credentials_end_timestamp_seconds{edge=\"credentials:reports\"} 1893456000",
    ] {
        has(&text, line);
    }
    // A family without samples has its help, so that it can be found.
    has(&text, "# TYPE handout_feedback_events_total counter");
    // An increase from no sample to one is none for a rate.
    for verdict in FeedbackVerdict::ALL {
        let label = format!("verdict=\"{}\"", verdict.as_str());
        has(
            &text,
            &format!("handout_feedback_events_total{{{label}}} 0"),
        );
    }
    for reason in IgnoredReport::ALL {
        let label = format!("ignored=\"{}\"", reason.as_str());
        has(
            &text,
            &format!("handout_feedback_events_total{{{label}}} 0"),
        );
    }
    assert!(!text.contains("# EOF"));
}

#[test]
fn open_metrics_has_the_same_samples() {
    let text = measured().text(MetricsFormat::Text);
    let open = measured().text(MetricsFormat::OpenMetrics);
    assert!(open.ends_with("# EOF\n"), "{open}");
    has(&open, "# TYPE handout_jobs counter");
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&text), names(&open));
}

#[test]
fn every_name_follows_the_conventions() {
    let text = measured().text(MetricsFormat::Text);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for of_family in types {
        let (name, kind) = of_family.split_once(' ').unwrap();
        assert!(name.starts_with("handout_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} {kind}");
        if kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name}");
        }
    }
}

#[test]
fn the_format_is_the_one_that_the_client_names() {
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let accepted = MetricsFormat::accepted;
    assert_eq!(accepted(prometheus), MetricsFormat::OpenMetrics);
    for text in [
        "",
        "*/*",
        "text/plain",
        "text/plain, application/openmetrics-text;q=0",
        "application/openmetrics-text; version=2.0.0",
        "application/json",
        ";,;=",
    ] {
        assert_eq!(accepted(text), MetricsFormat::Text, "{text}");
    }
}
