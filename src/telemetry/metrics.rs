//! The counters in Prometheus's text format. <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::Write;

use crate::audit::retention::RetentionCounts;
use crate::edge::health::{Edge, Edges, FailureKind};
use crate::feedback_intake::FeedbackCounts;
use crate::intake::IntakeCounts;
use crate::portal::PortalCounts;
use crate::progress::Snapshot;
use crate::scheduler::{LATENESS_BUCKETS, ScheduleCounts};

/// A counter's name, its help text, and its samples by label.
type Family<'a> = (&'a str, &'a str, &'a [(&'a str, u64)]);

/// Writes the counters in Prometheus's text format. The number of label values is bounded: results, never names.
pub fn text(
    counts: &Snapshot,
    edges: &Edges,
    portal: Option<&PortalCounts>,
    schedules: Option<&ScheduleCounts>,
    intake: Option<&IntakeCounts>,
    retention: Option<&RetentionCounts>,
    feedback: Option<&FeedbackCounts>,
) -> String {
    let families: [Family<'_>; 9] = [
        (
            "handout_jobs_total",
            "Messages settled, by what became of them.",
            &[
                ("{result=\"done\"}", counts.jobs_done),
                ("{result=\"retried\"}", counts.jobs_retried),
                ("{result=\"parked\"}", counts.jobs_parked),
            ],
        ),
        (
            "handout_mails_total",
            "Mails, by what became of them; unknown ones need a person.",
            &[
                ("{result=\"accepted\"}", counts.mails_accepted),
                ("{result=\"rejected\"}", counts.mails_rejected),
                ("{result=\"unknown\"}", counts.mails_unknown),
                ("{result=\"deferred\"}", counts.mails_deferred),
                ("{result=\"suppressed\"}", counts.mails_suppressed),
            ],
        ),
        (
            "handout_relay_slowdowns_total",
            "Times that a relay said it was given too much, and was given less from then on.",
            &[("", counts.slowdowns)],
        ),
        (
            "handout_doubts_total",
            "Mails that may or may not have left.",
            &[("", counts.doubts)],
        ),
        (
            "handout_doubts_answered_total",
            "Doubts that on_doubt or resolve_cmd answered; what is left is held for a person.",
            &[
                ("{answer=\"sent\"}", counts.doubts_sent),
                ("{answer=\"resend\"}", counts.doubts_resent),
            ],
        ),
        (
            "handout_links_issued_total",
            "Links signed and recorded.",
            &[("", counts.links_issued)],
        ),
        (
            "handout_folder_markers_total",
            "Objects that only stand for a folder, and were ignored.",
            &[
                ("{source=\"event\"}", counts.markers_in_events),
                ("{source=\"listing\"}", counts.markers_listed),
            ],
        ),
        (
            "handout_events_without_object_total",
            "Jobs of events that found no object: it was gone when their turn came.",
            &[("", counts.events_without_object)],
        ),
        (
            "handout_queue_answers_total",
            "Answers of the queue, empty ones included.",
            &[("", counts.polls)],
        ),
    ];
    let mut text = String::new();
    for (name, help, samples) in families {
        write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n")
            .expect("writing to a string does not fail");
        for (labels, value) in samples {
            writeln!(text, "{name}{labels} {value}").expect("writing to a string does not fail");
        }
    }
    gauges(&mut text, counts);
    if let Some(portal) = portal {
        of_server(
            &mut text,
            &portal.families(),
            ("portal", portal.connections()),
        );
    }
    if let Some(intake) = intake {
        of_server(
            &mut text,
            &intake.families(),
            ("intake", intake.connections()),
        );
    }
    if let Some(schedules) = schedules {
        of_schedules(&mut text, schedules);
    }
    if let Some(retention) = retention {
        of_retention(&mut text, retention);
    }
    if let Some(feedback) = feedback {
        text.push_str(&feedback.text());
    }
    of_edges(&mut text, edges);
    text
}

fn gauges(text: &mut String, counts: &Snapshot) {
    let gauges = [
        (
            "handout_jobs_in_flight",
            "Jobs that are worked now.",
            counts.jobs_in_flight,
        ),
        (
            "handout_oldest_job_seconds",
            "For how long the oldest of them has been worked.",
            counts.oldest_job_secs,
        ),
    ];
    for (name, help, value) in gauges {
        writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
        )
        .expect("writing to a string does not fail");
    }
}

/// A counter's name, its help text, and its samples by label, as a server collects them.
type CollectedFamily = (&'static str, &'static str, Vec<(&'static str, u64)>);

/// The counters of a server, and its connections.
fn of_server(text: &mut String, families: &[CollectedFamily], (server, connections): (&str, u64)) {
    for (name, help, samples) in families {
        write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n")
            .expect("writing to a string does not fail");
        for (labels, value) in samples {
            writeln!(text, "{name}{labels} {value}").expect("writing to a string does not fail");
        }
    }
    let name = format!("handout_{server}_connections");
    writeln!(
        text,
        "# HELP {name} Connections to the {server}.\n# TYPE {name} gauge\n{name} {connections}"
    )
    .expect("writing to a string does not fail");
}

/// What became of sealed segments of the audit log.
fn of_retention(text: &mut String, retention: &RetentionCounts) {
    let [compressed, archived, removed, failures] = retention.snapshot();
    write!(
        text,
        "# HELP handout_audit_segments_total Sealed segments of the audit log, by what was done with them.\n\
         # TYPE handout_audit_segments_total counter\n\
         handout_audit_segments_total{{step=\"compressed\"}} {compressed}\n\
         handout_audit_segments_total{{step=\"archived\"}} {archived}\n\
         handout_audit_segments_total{{step=\"removed\"}} {removed}\n\
         # HELP handout_audit_retention_failures_total Steps of the retention that failed, and segments that stay since something is wrong.\n\
         # TYPE handout_audit_retention_failures_total counter\n\
         handout_audit_retention_failures_total {failures}\n"
    )
    .expect("writing to a string does not fail");
}

/// What schedules have done. Their labels are names from the configuration.
fn of_schedules(text: &mut String, schedules: &ScheduleCounts) {
    let schedules = schedules.snapshot();
    if schedules.is_empty() {
        return;
    }
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("writing to a string does not fail");
    };
    let last = "handout_schedule_last_fired_timestamp_seconds";
    line(format_args!(
        "# HELP {last} The last occurrence of a schedule whose job was put on the queue.\n# TYPE {last} gauge"
    ));
    for (name, count) in &schedules {
        if let Some(at) = count.last {
            line(format_args!("{last}{{name=\"{name}\"}} {}", at.as_second()));
        }
    }
    let lateness = "handout_schedule_lateness_seconds";
    line(format_args!(
        "# HELP {lateness} How long after its time this process put the job of an occurrence on the queue.\n# TYPE {lateness} histogram"
    ));
    for (name, count) in &schedules {
        let mut sum = 0;
        for (bound, more) in LATENESS_BUCKETS.iter().zip(count.by_lateness) {
            sum += more;
            line(format_args!(
                "{lateness}_bucket{{name=\"{name}\",le=\"{bound}\"}} {sum}"
            ));
        }
        let all: u64 = count.by_lateness.iter().sum();
        let late = count.late.as_secs_f64();
        line(format_args!(
            "{lateness}_bucket{{name=\"{name}\",le=\"+Inf\"}} {all}\n{lateness}_sum{{name=\"{name}\"}} {late}\n{lateness}_count{{name=\"{name}\"}} {all}"
        ));
    }
}

/// The health of the edges. Their labels are names from the configuration, so they are few.
fn of_edges(text: &mut String, edges: &Edges) {
    let write = |text: &mut String, name: &str, labels: &str, value: u64| {
        writeln!(text, "{name}{{{labels}}} {value}").expect("writing to a string does not fail");
    };
    let label = |edge: &Edge| format!("edge=\"{}\"", edge.label());
    text.push_str("# HELP handout_edge_up Whether a store, queue, relay or source of credentials answers.\n# TYPE handout_edge_up gauge\n");
    for edge in edges.iter() {
        write(
            text,
            "handout_edge_up",
            &label(&edge),
            u64::from(edge.trouble().is_none()),
        );
    }
    text.push_str("# HELP handout_edge_errors_total Requests to an edge that failed, by how.\n# TYPE handout_edge_errors_total counter\n");
    for edge in edges.iter() {
        for kind in FailureKind::ALL {
            let labels = format!("{},kind=\"{}\"", label(&edge), kind.as_str());
            write(text, "handout_edge_errors_total", &labels, edge.count(kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::health::EdgeKind;

    #[test]
    fn every_sample_has_its_help_and_type() {
        let counts = Snapshot {
            jobs_done: 3,
            links_issued: 12,
            ..Snapshot::default()
        };
        let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
        edge.failed(FailureKind::Timeout, "");
        edge.failed(FailureKind::Timeout, "");
        let text = text(
            &counts,
            &Edges::from_iter([edge]),
            None,
            None,
            None,
            None,
            None,
        );
        assert!(
            text.contains("\nhandout_edge_up{edge=\"relay:default\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "\nhandout_edge_errors_total{edge=\"relay:default\",kind=\"timeout\"} 2\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "# TYPE handout_jobs_total counter\nhandout_jobs_total{result=\"done\"} 3\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nhandout_links_issued_total 12\n"), "{text}");
    }
}
