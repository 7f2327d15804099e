//! Checks the event rules: whether their jobs could be done.

use std::io;
use std::path::Path;

use handout::assemble::Services;
use handout::config::Config;
use handout::environment::Environment;
use handout::error::{FailureClass, JobError};
use handout::job::envelope::EventRule;
use handout::plan::{PlanError, Refusal};
use handout::preview::check_example;
use handout::text::chain;

use super::report::{CheckReport, bounded};
use crate::cli::job::{Previewing, run_of};

/// Builds a job from a sample event for each rule, and checks it like `handout job submit`, as if its objects existed.
pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    if config.on_event.is_empty() {
        return Ok(());
    }
    let previewing = match bounded(Previewing::open(config, environment)).await {
        Ok(Ok(previewing)) => previewing,
        Ok(Err(error)) => return report.tell("on_event", Err(error.into())),
        Err(error) => return report.tell("on_event", Err(error)),
    };
    let rules = &previewing.services.signing.policy.triggers;
    for (index, (rule, wanted)) in rules.iter().zip(&config.on_event).enumerate() {
        let what = format!("on_event[{index}]");
        let judging = judge(rule, &wanted.job_file, &previewing.services);
        match bounded(judging).await {
            Ok(EventVerdict::Works(result)) => report.tell(what, Ok(result))?,
            Ok(EventVerdict::Warns(result)) => report.warn(what, result)?,
            Ok(EventVerdict::Fails(result)) => report.tell(what, Err(result.into()))?,
            Err(error) => report.tell(what, Err(error))?,
        }
    }
    previewing.close().await;
    Ok(())
}

/// The result for the jobs of a rule's sample events, with its message.
enum EventVerdict {
    Works(String),
    /// Some jobs can be done, and some cannot.
    Warns(String),
    Fails(String),
}

/// Tries a key that matches the rule's pattern and, if no `[[allow]]` rule permits it, keys that such a rule permits.
async fn judge(rule: &EventRule, file: &Path, services: &Services) -> EventVerdict {
    let file = file.display();
    let allowed = services.signing.policy.rules.iter();
    let allowed = allowed.filter(|allowed| allowed.bucket == rule.bucket);
    let keys = rule.example_keys(allowed.map(|allowed| allowed.prefix.as_str()));
    let mut refused = None;
    for key in keys {
        let event = format!("an event for s3://{}/{key}", rule.bucket);
        let error = match (try_out(rule, &key, services).await, &refused) {
            (Ok(()), None) => {
                return EventVerdict::Works(format!(
                    "the job that {file} makes of {event} can be done"
                ));
            }
            (Ok(()), Some(refused)) => {
                return EventVerdict::Warns(format!(
                    "{refused}; that of {event} can be done: restrict the rule's `key` to permitted ones, or add an [[allow]] rule for them"
                ));
            }
            (Err(error), _) => error,
        };
        let is_of_place = matches!(
            error,
            JobError::Plan(PlanError::Refused(Refusal::Source { .. }))
        );
        let what = match error.class() {
            FailureClass::Permanent | FailureClass::Policy => "cannot be done",
            FailureClass::Transient
            | FailureClass::Deferred
            | FailureClass::Edge
            | FailureClass::Busy
            | FailureClass::Disk => "could not be tried",
        };
        let told = chain(&error);
        let told = format!("the job that {file} makes of {event} {what}: {told}");
        if !is_of_place {
            return EventVerdict::Fails(told);
        }
        refused = refused.or(Some(told));
    }
    EventVerdict::Fails(refused.unwrap_or_default())
}

async fn try_out(rule: &EventRule, key: &str, services: &Services) -> Result<(), JobError> {
    let run = run_of(rule.example(key)?);
    Box::pin(check_example(&run, services)).await
}
