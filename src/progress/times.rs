//! How long the steps of jobs take: histograms in seconds, for metrics.
//!
//! A step is observed once for a batch, a mail or a request, never for each link: an observation takes a lock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// A step whose duration is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedStep {
    /// An attempt at a job after which every recipient has a final status.
    JobDone,
    /// Another attempt at a job.
    JobFailed,
    /// The listing of a job's objects.
    List,
    /// The signatures of a batch of links.
    Sign,
    /// The audit lines of a batch of links, until they are durable.
    Record,
    /// The text of a mail.
    RenderMail,
    /// The pages and lists of a batch of links.
    RenderPages,
    /// One mail, from the first command to a relay to the recorded outcome.
    Deliver,
    /// A request for records of the ledger.
    LedgerRead,
    /// A new record of the ledger.
    LedgerCreate,
}

const STEPS: usize = TimedStep::LedgerCreate as usize + 1;

/// A histogram's name, its help text, its bounds in seconds, and its samples by the values of one label.
struct TimedFamily {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
    label: &'static str,
    steps: &'static [(&'static str, TimedStep)],
}

const FAMILIES: [TimedFamily; 7] = [
    TimedFamily {
        name: "handout_job_duration_seconds",
        help: "Attempts at jobs, from the parsed message to the end, by what became of them.",
        bounds: &[
            0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
        ],
        label: "result",
        steps: &[
            ("done", TimedStep::JobDone),
            ("failed", TimedStep::JobFailed),
        ],
    },
    TimedFamily {
        name: "handout_list_duration_seconds",
        help: "Listings of the objects of a job.",
        bounds: &[
            0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
        ],
        label: "",
        steps: &[("", TimedStep::List)],
    },
    TimedFamily {
        name: "handout_sign_duration_seconds",
        help: "Signatures of a batch of links.",
        bounds: &[
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0,
        ],
        label: "",
        steps: &[("", TimedStep::Sign)],
    },
    TimedFamily {
        name: "handout_record_duration_seconds",
        help: "Audit lines of a batch of links, until they are durable.",
        bounds: &[
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
        ],
        label: "",
        steps: &[("", TimedStep::Record)],
    },
    TimedFamily {
        name: "handout_render_duration_seconds",
        help: "Renderings: of a mail, and of the pages and lists of a batch of links.",
        bounds: &[
            0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
        ],
        label: "what",
        steps: &[
            ("mail", TimedStep::RenderMail),
            ("pages", TimedStep::RenderPages),
        ],
    },
    TimedFamily {
        name: "handout_deliver_duration_seconds",
        help: "Mails, from the first command to the relay to the recorded outcome.",
        bounds: &[
            0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
        ],
        label: "",
        steps: &[("", TimedStep::Deliver)],
    },
    TimedFamily {
        name: "handout_ledger_request_duration_seconds",
        help: "Requests to the ledger of deliveries.",
        bounds: &[
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ],
        label: "operation",
        steps: &[
            ("read", TimedStep::LedgerRead),
            ("create", TimedStep::LedgerCreate),
        ],
    },
];

/// A histogram as `/metrics` shows it: its samples by the values of one label, which has no name if there is one sample.
#[derive(Debug, Clone)]
pub struct HistogramFamily {
    /// Its name.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// The label.
    pub label: &'static str,
    /// The samples.
    pub samples: Vec<(&'static str, Histogram)>,
}

/// The histograms of all steps. Clones observe together.
#[derive(Clone)]
pub struct StepTimes(Arc<[Histogram; STEPS]>);

impl fmt::Debug for StepTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepTimes")
    }
}

impl Default for StepTimes {
    fn default() -> Self {
        let of_step = |index: usize| {
            let family = FAMILIES
                .iter()
                .find(|family| family.steps.iter().any(|(_, step)| *step as usize == index));
            Histogram::new(
                family
                    .map_or(&[][..], |family| family.bounds)
                    .iter()
                    .copied(),
            )
        };
        Self(Arc::new(std::array::from_fn(of_step)))
    }
}

impl StepTimes {
    /// Observes a step that took so long.
    pub fn observe(&self, step: TimedStep, took: Duration) {
        self.0[step as usize].observe(took.as_secs_f64());
    }

    /// The histograms.
    pub fn families(&self) -> Vec<HistogramFamily> {
        let families = FAMILIES.iter().map(|family| HistogramFamily {
            name: family.name,
            help: family.help,
            label: family.label,
            samples: family
                .steps
                .iter()
                .map(|(value, step)| (*value, self.0[*step as usize].clone()))
                .collect(),
        });
        families.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_one_histogram_whose_bounds_rise() {
        for index in 0..STEPS {
            let of_step = FAMILIES.iter().flat_map(|family| family.steps);
            let count = of_step.filter(|(_, step)| *step as usize == index).count();
            assert_eq!(count, 1, "step {index}");
        }
        for family in &FAMILIES {
            assert!(family.bounds.is_sorted(), "{}", family.name);
            assert_eq!(family.label.is_empty(), family.steps.len() == 1);
            assert!(family.name.ends_with("_duration_seconds"));
        }
    }
}
