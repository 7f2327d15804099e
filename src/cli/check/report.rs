//! What the looks of `handout check` found, told as soon as it is known.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handout::text::chain;
use serde::Serialize;
use serde_json::json;

use super::super::{say, say_json};

/// How long a look at something outside may take. What is asked has deadlines of its own, whose sentences say more; this is
/// the bound of all steps together.
const WITHIN: Duration = Duration::from_secs(30);

/// The width of the column of names; a longer name moves its own line only.
const NAMES: usize = 32;

/// Why something does not work.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a look found: a sentence if it works, an error if it does not.
pub(super) type CheckOutcome = Result<String, BoxError>;

/// What was looked at, and what came of it.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    /// Whether the operator should look at it although everything works.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    result: String,
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

    /// Tells that something works, or that it does not.
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

    /// Tells what the operator should look at although everything works.
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

    /// Looks at something outside, and tells what came of it within [`WITHIN`].
    pub(super) fn look<'a>(
        &'a self,
        what: impl Into<String> + 'a,
        looking: impl Future<Output = CheckOutcome> + 'a,
    ) -> impl Future<Output = io::Result<()>> + 'a {
        let looking = bounded(looking);
        async move { self.tell(what, looking.await.unwrap_or_else(Err)) }
    }

    /// Prints what is printed at the end, and says whether everything works.
    pub(super) fn end(self) -> io::Result<bool> {
        let findings = self
            .findings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if self.json {
            say_json(&json!({ "findings": findings }))?;
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

/// The outcome of a look that has to end within [`WITHIN`].
///
/// # Errors
/// A sentence when it does not end.
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
