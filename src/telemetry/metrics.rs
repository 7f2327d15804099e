//! The counters as Prometheus reads them.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::Write;

use crate::progress::Snapshot;

/// A counter's name, what it counts, and its samples by label.
type Family<'a> = (&'a str, &'a str, &'a [(&'a str, u64)]);

/// Writes the counters in Prometheus's text format. Labels are bounded: results, never names.
pub fn text(counts: &Snapshot) -> String {
    let families: [Family<'_>; 7] = [
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_its_help_and_type() {
        let counts = Snapshot {
            jobs_done: 3,
            links_issued: 12,
            ..Snapshot::default()
        };
        let text = text(&counts);
        assert!(
            text.contains(
                "# TYPE handout_jobs_total counter\nhandout_jobs_total{result=\"done\"} 3\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nhandout_links_issued_total 12\n"), "{text}");
    }
}
