//! The metrics in the formats of Prometheus: text, and OpenMetrics for a scraper that asks for it.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/specs/om/open_metrics_spec/>
//!
//! The values are in counters of the parts; a scrape collects them. Names of counters are written as Prometheus shows them, with `_total`:
//! the library leaves it out where OpenMetrics names a family, and writes it in each sample.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::http::Vitals;
use crate::audit::retention::RetentionCounts;
use crate::edge::health::{Edges, FailureKind};
use crate::feedback_intake::FeedbackCounts;
use crate::intake::IntakeCounts;
use crate::portal::PortalCounts;
use crate::progress::times::HistogramFamily;
use crate::progress::{CounterFamily, Progress, Snapshot};
use crate::scheduler::{LATENESS_BUCKETS, ScheduleCounts};
use crate::spans::SpanCounts;

/// A format of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// The format that a client accepts, by its `Accept`: OpenMetrics if it names it. Other clients get text.
    pub fn accepted(accept: &str) -> Self {
        let is_open_metrics = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts
                .next()
                .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            // Version 2 and later may differ; a weight of zero means "not this".
            is_named
                && parts.all(|part| match part.split_once('=') {
                    Some(("version", version)) => {
                        version.starts_with("0.") || version.starts_with("1.")
                    }
                    Some(("q", weight)) => weight.parse().is_ok_and(|weight: f64| weight > 0.0),
                    _ => true,
                })
        };
        match accept.split(',').any(is_open_metrics) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the metrics of a running program.
pub fn text(vitals: &Vitals, format: MetricsFormat) -> String {
    let Vitals {
        progress,
        edges,
        portal,
        schedules,
        intake,
        retention,
        feedback,
        spans,
        pulse: _,
        audit: _,
        database: _,
    } = vitals.clone();
    let measured = ScrapedParts {
        progress,
        edges,
        portal,
        schedules,
        intake,
        retention,
        feedback,
        spans,
    };
    measured.text(format)
}

/// What a scrape collects.
#[derive(Debug, Clone, Default)]
struct ScrapedParts {
    progress: Progress,
    edges: Edges,
    portal: Option<PortalCounts>,
    schedules: Option<ScheduleCounts>,
    intake: Option<IntakeCounts>,
    retention: Option<RetentionCounts>,
    feedback: Option<FeedbackCounts>,
    spans: SpanCounts,
}

impl ScrapedParts {
    fn text(self, format: MetricsFormat) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        let written = match format {
            MetricsFormat::Text => prometheus_text::encode(&mut text, &registry),
            MetricsFormat::OpenMetrics => text::encode(&mut text, &registry),
        };
        written.expect("writing to a string does not fail");
        text
    }
}

impl Collector for ScrapedParts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self {
            progress,
            edges,
            portal,
            schedules,
            intake,
            retention,
            feedback,
            spans,
        } = self;
        let mut families = Families(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "The version of this program; the value is 1.";
        families.gauge("handout_build_info", help, &[(&version[..], 1)])?;
        let counts = progress.snapshot();
        for family in counters(&counts) {
            families.counter(&family)?;
        }
        let in_doubt = progress
            .open_doubts()
            .map(|count| (&[][..], signed(count as u64)));
        let help = "Mails that may or may not have left, and wait for an answer; the ledger is asked each minute.";
        families.gauge("handout_mails_in_doubt", help, in_doubt.as_slice())?;
        families.of_queue(progress, &counts)?;
        for family in progress.times().families() {
            families.histogram(&family)?;
        }
        if let Some(portal) = portal {
            families.of_server("portal", &portal.families(), portal.connections())?;
            families.histogram(&portal.open_times())?;
        }
        if let Some(intake) = intake {
            families.of_server("intake", &intake.families(), intake.connections())?;
        }
        if let Some(schedules) = schedules {
            families.of_schedules(schedules)?;
        }
        if let Some(retention) = retention {
            families.of_retention(retention.snapshot())?;
        }
        if let Some(feedback) = feedback {
            families.of_feedback(feedback)?;
        }
        let [sent, dropped] = spans.snapshot();
        families.counter(&CounterFamily {
            name: "handout_spans_total",
            help: "Steps of jobs as spans for traces.url, by what became of them.",
            label: "result",
            samples: vec![("sent", sent), ("dropped", dropped)],
        })?;
        families.of_edges(edges)
    }
}

/// The counters of jobs. The number of label values is bounded: results, never names.
fn counters(counts: &Snapshot) -> [CounterFamily; 9] {
    let family = |name, help, label, samples: &[(&'static str, u64)]| CounterFamily {
        name,
        help,
        label,
        samples: samples.to_vec(),
    };
    [
        family(
            "handout_jobs_total",
            "Messages settled, by what became of them.",
            "result",
            &[
                ("done", counts.jobs_done),
                ("retried", counts.jobs_retried),
                ("parked", counts.jobs_parked),
            ],
        ),
        family(
            "handout_mails_total",
            "Mails, by what became of them; unknown ones need a person.",
            "result",
            &[
                ("accepted", counts.mails_accepted),
                ("rejected", counts.mails_rejected),
                ("unknown", counts.mails_unknown),
                ("deferred", counts.mails_deferred),
                ("suppressed", counts.mails_suppressed),
            ],
        ),
        family(
            "handout_relay_slowdowns_total",
            "Times that a relay said it was given too much, and was given less from then on.",
            "",
            &[("", counts.slowdowns)],
        ),
        family(
            "handout_doubts_total",
            "Mails that may or may not have left.",
            "",
            &[("", counts.doubts)],
        ),
        family(
            "handout_doubts_answered_total",
            "Doubts that on_doubt or resolve_cmd answered; what is left is held for a person.",
            "answer",
            &[
                ("sent", counts.doubts_sent),
                ("resend", counts.doubts_resent),
            ],
        ),
        family(
            "handout_links_issued_total",
            "Links signed and recorded.",
            "",
            &[("", counts.links_issued)],
        ),
        family(
            "handout_folder_markers_total",
            "Objects that only stand for a folder, and were ignored.",
            "source",
            &[
                ("event", counts.markers_in_events),
                ("listing", counts.markers_listed),
            ],
        ),
        family(
            "handout_events_without_object_total",
            "Jobs of events that found no object: it was gone when their turn came.",
            "",
            &[("", counts.events_without_object)],
        ),
        family(
            "handout_queue_answers_total",
            "Answers of the queue, empty ones included.",
            "",
            &[("", counts.polls)],
        ),
    ]
}

/// The labels of a sample.
type MetricLabels<'a> = &'a [(&'a str, &'a str)];

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, family: &CounterFamily) -> fmt::Result {
        let labels = |value| [(family.label, value)];
        let samples: Vec<_> = family.samples.iter().collect();
        let labelled: Vec<_> = samples.iter().map(|(value, _)| labels(*value)).collect();
        let samples: Vec<_> = samples
            .iter()
            .zip(&labelled)
            .map(|((_, count), labels)| match family.label {
                "" => (&[][..], *count),
                _ => (&labels[..], *count),
            })
            .collect();
        self.counter_of(family.name, family.help, &samples)
    }

    fn counter_of(
        &mut self,
        name: &str,
        help: &str,
        samples: &[(MetricLabels<'_>, u64)],
    ) -> fmt::Result {
        let name = name.trim_end_matches("_total");
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in samples {
            metric
                .encode_family(labels)?
                .encode_counter::<NoLabelSet, u64, f64>(count, None)?;
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: &[(MetricLabels<'_>, i64)],
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, family: &HistogramFamily) -> fmt::Result {
        let HistogramFamily {
            name,
            help,
            label,
            samples,
        } = family;
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (value, histogram) in samples {
            let labels = [(*label, *value)];
            let labels: MetricLabels<'_> = match *label {
                "" => &[],
                _ => &labels,
            };
            histogram.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What is worked and what waits.
    fn of_queue(&mut self, progress: &Progress, counts: &Snapshot) -> fmt::Result {
        let in_flight = signed(counts.jobs_in_flight);
        let help = "Jobs that are worked now.";
        self.gauge("handout_jobs_in_flight", help, &[(&[], in_flight)])?;
        let oldest = signed(counts.oldest_job_secs);
        let help = "For how long the oldest of them has been worked.";
        self.gauge("handout_oldest_job_seconds", help, &[(&[], oldest)])?;
        let depth = progress.queue_depth();
        let states = depth.map_or_else(Vec::new, |depth| {
            vec![
                ([("state", "waiting")], signed(depth.waiting)),
                ([("state", "in_flight")], signed(depth.in_flight)),
            ]
        });
        let states: Vec<_> = states
            .iter()
            .map(|(state, count)| (&state[..], *count))
            .collect();
        let help = "Messages of the queue, about; asked for once a minute.";
        self.gauge("handout_queue_messages", help, &states)?;
        let oldest = depth.and_then(|depth| depth.oldest);
        let oldest: Vec<_> = oldest
            .iter()
            .map(|age| (&[][..], signed(age.as_secs())))
            .collect();
        self.gauge(
            "handout_queue_oldest_message_age_seconds",
            "How long ago the oldest message was put on the queue, where the queue says it.",
            &oldest,
        )
    }

    /// The counters of a server, and its connections.
    fn of_server(
        &mut self,
        server: &str,
        families: &[CounterFamily],
        connections: u64,
    ) -> fmt::Result {
        for family in families {
            self.counter(family)?;
        }
        let name = format!("handout_{server}_connections");
        let help = format!("Connections to the {server}.");
        self.gauge(&name, &help, &[(&[], signed(connections))])
    }

    /// What became of sealed segments of the audit log.
    fn of_retention(&mut self, [compressed, archived, removed, failures]: [u64; 4]) -> fmt::Result {
        self.counter(&CounterFamily {
            name: "handout_audit_segments_total",
            help: "Sealed segments of the audit log, by what was done with them.",
            label: "step",
            samples: vec![
                ("compressed", compressed),
                ("archived", archived),
                ("removed", removed),
            ],
        })?;
        self.counter(&CounterFamily {
            name: "handout_audit_retention_failures_total",
            help: "Steps of the retention that failed, and segments that stay since something is wrong.",
            label: "",
            samples: vec![("", failures)],
        })
    }

    /// Bounces and complaints.
    fn of_feedback(&mut self, feedback: &FeedbackCounts) -> fmt::Result {
        let events = feedback.events();
        let labels = events.iter().map(|(is_recorded, word, count)| {
            let label = if *is_recorded { "verdict" } else { "ignored" };
            ([(label, &**word)], *count)
        });
        let labels: Vec<_> = labels.collect();
        let samples: Vec<_> = labels
            .iter()
            .map(|(labels, count)| (&labels[..], *count))
            .collect();
        self.counter_of(
            "handout_feedback_events_total",
            "Events of the feedback queue and mails that handout feedback took, by what they mean, or why they were ignored.",
            &samples,
        )?;
        let last = feedback.last();
        let last: Vec<_> = last.iter().map(|at| (&[][..], at.as_second())).collect();
        self.gauge(
            "handout_feedback_last_event_timestamp_seconds",
            "When the last event of the feedback queue came.",
            &last,
        )
    }

    /// What schedules have done. Their labels are names from the configuration.
    fn of_schedules(&mut self, schedules: &ScheduleCounts) -> fmt::Result {
        let schedules = schedules.snapshot();
        if schedules.is_empty() {
            return Ok(());
        }
        let names = schedules.keys().map(|name| [("name", name.as_str())]);
        let labels: Vec<_> = names.collect();
        let counts: Vec<_> = schedules.values().zip(&labels).collect();
        let last: Vec<_> = counts
            .iter()
            .filter_map(|(count, labels)| Some((&labels[..], count.last?.as_second())))
            .collect();
        self.gauge(
            "handout_schedule_last_fired_timestamp_seconds",
            "The last occurrence of a schedule whose job was put on the queue.",
            &last,
        )?;
        let next: Vec<_> = counts
            .iter()
            .filter_map(|(count, labels)| Some((&labels[..], count.next?.as_second())))
            .collect();
        self.gauge(
            "handout_schedule_next_timestamp_seconds",
            "When the job of a schedule's next occurrence starts; in the past while it is overdue.",
            &next,
        )?;
        let missed: Vec<_> = counts
            .iter()
            .map(|(count, labels)| (&labels[..], count.missed))
            .collect();
        self.counter_of(
            "handout_schedule_missed_total",
            "How often occurrences of a schedule were left out, since they were too old or a later one was due.",
            &missed,
        )?;
        let mut metric = self.0.encode_descriptor(
            "handout_schedule_lateness_seconds",
            "How long after its time this process put the job of an occurrence on the queue.",
            None,
            MetricType::Histogram,
        )?;
        let bounds = LATENESS_BUCKETS.map(|bound| Duration::from_secs(bound).as_secs_f64());
        for (count, labels) in counts {
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(count.by_lateness).collect();
            let all = count.by_lateness.iter().sum();
            metric
                .encode_family(labels)?
                .encode_histogram::<NoLabelSet>(count.late.as_secs_f64(), all, &buckets, None)?;
        }
        Ok(())
    }

    /// The health of the edges, and the end of credentials. Their labels are names from the configuration, so they are few.
    fn of_edges(&mut self, edges: &Edges) -> fmt::Result {
        let edges: Vec<_> = edges.iter().map(|edge| (edge.label(), edge)).collect();
        let labels: Vec<_> = edges
            .iter()
            .map(|(label, edge)| ([("edge", label.as_str())], edge))
            .collect();
        let up: Vec<_> = labels
            .iter()
            .map(|(labels, edge)| (&labels[..], i64::from(edge.trouble().is_none())))
            .collect();
        let help = "Whether a store, queue, relay or source of credentials answers.";
        self.gauge("handout_edge_up", help, &up)?;
        let kinds: Vec<_> = edges
            .iter()
            .flat_map(|(label, edge)| {
                FailureKind::ALL.map(|kind| {
                    let labels = [("edge", label.as_str()), ("kind", kind.as_str())];
                    (labels, edge.count(kind))
                })
            })
            .collect();
        let errors: Vec<_> = kinds
            .iter()
            .map(|(labels, count)| (&labels[..], *count))
            .collect();
        let help = "Requests to an edge that failed, by how.";
        self.counter_of("handout_edge_errors_total", help, &errors)?;
        let ends: Vec<_> = labels
            .iter()
            .filter_map(|(labels, edge)| Some((&labels[..], edge.expires_at()?.as_second())))
            .collect();
        self.gauge(
            "handout_credentials_end_timestamp_seconds",
            "When the credentials end that a source gave last, if they end.",
            &ends,
        )
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
