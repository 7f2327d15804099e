//! The findings of `handout check`, reported as soon as they are known.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handout::text::chain;
use serde::Serialize;

use super::super::schemas::OutputSchema;
use super::super::{say, say_json};

/// The timeout of a check of a remote service. Each step has a timeout of its own, with a more specific error; this bounds all
/// steps together.
const WITHIN: Duration = Duration::from_secs(30);

/// The width of the name column; a longer name shifts only its own line.
const NAMES: usize = 32;

/// Why something does not work.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The outcome of a check: a sentence on success, or an error.
pub(super) type CheckOutcome = Result<String, BoxError>;

/// A check with its outcome.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Finding {
    what: String,
    ok: bool,
    /// Whether the finding is a warning although everything works.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    result: String,
}

/// The findings, as `--json` prints them.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct CheckFindings<'a> {
    findings: &'a [Finding],
}

/// What `handout check` prints with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<CheckFindings<'static>>("check", "handout check")
}

/// The findings. Text is printed line by line; JSON is one object at the end.
#[derive(Debug)]
pub(super) struct CheckReport {
    json: bool,
    findings: Mutex<Vec<Finding>>,
}

impl CheckReport {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            findings: Mutex::default(),
        }
    }

    /// Reports the outcome of a check.
    pub(super) fn tell(&self, what: impl Into<String>, outcome: CheckOutcome) -> io::Result<()> {
        let ok = outcome.is_ok();
        let result = outcome.unwrap_or_else(|error| chain(&*error));
        self.add(Finding {
            what: what.into(),
            ok,
            warning: false,
            result,
        })
    }

    /// Reports a warning although everything works.
    pub(super) fn warn(
        &self,
        what: impl Into<String>,
        result: impl Into<String>,
    ) -> io::Result<()> {
        self.add(Finding {
            what: what.into(),
            ok: true,
            warning: true,
            result: result.into(),
        })
    }

    /// Runs a check of a remote service, and reports its outcome within [`WITHIN`].
    pub(super) fn look<'a>(
        &'a self,
        what: impl Into<String> + 'a,
        looking: impl Future<Output = CheckOutcome> + 'a,
    ) -> impl Future<Output = io::Result<()>> + 'a {
        let looking = bounded(looking);
        async move { self.tell(what, looking.await.unwrap_or_else(Err)) }
    }

    /// Prints the end of the report, and returns whether everything works.
    pub(super) fn end(self) -> io::Result<bool> {
        let findings = self
            .findings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if self.json {
            say_json(&CheckFindings {
                findings: &findings,
            })?;
        }
        Ok(findings.iter().all(|finding| finding.ok))
    }

    fn add(&self, finding: Finding) -> io::Result<()> {
        if !self.json {
            let Finding { what, result, .. } = &finding;
            let verdict = match (finding.ok, finding.warning) {
                (false, _) => "FAIL",
                (true, true) => "warn",
                (true, false) => "ok  ",
            };
            say(format_args!("{verdict}  {what:NAMES$}  {result}"))?;
        }
        self.findings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(finding);
        Ok(())
    }
}

/// The outcome of a check that must end within [`WITHIN`].
///
/// # Errors
/// A sentence if it does not end in time.
pub(super) fn bounded<'a, T>(
    looking: impl Future<Output = T> + 'a,
) -> impl Future<Output = Result<T, BoxError>> + 'a {
    // The futures of the SDK are large.
    let looking = Box::pin(looking);
    async move {
        let looked = tokio::time::timeout(WITHIN, looking).await;
        looked.map_err(|_| format!("did not answer within {} s", WITHIN.as_secs()).into())
    }
}
