//! The rules for events.

use std::io;

use handout::config::Config;
use handout::job::envelope::{self, EventRule};
use serde_json::json;

use super::report::{Outcome, Report};

/// Each rule's job file is made into a job with a made-up event, so that a mistake in it shows now.
pub(super) fn check(config: &Config, report: &Report) -> io::Result<()> {
    let rules = match config.event_rules() {
        Ok(rules) => rules,
        Err(error) => return report.tell("event rules", Err(error.into())),
    };
    for (index, rule) in rules.iter().enumerate() {
        report.tell(format!("on_event[{index}]"), makes_a_job(rule))?;
    }
    Ok(())
}

fn makes_a_job(rule: &EventRule) -> Outcome {
    let event = json!({
        "source": "aws.s3", "detail-type": "Object Created", "time": "2026-01-01T00:00:00Z",
        "detail": { "bucket": { "name": rule.bucket }, "object": { "key": "sample.pdf", "sequencer": "1" } },
    });
    let any_key = globset::Glob::new("**")
        .expect("the pattern is one")
        .compile_matcher();
    let rule = EventRule {
        key: any_key,
        ..rule.clone()
    };
    envelope::open(&event.to_string(), &[rule])?;
    Ok("makes a job".to_owned())
}
