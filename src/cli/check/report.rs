//! The findings of `handout check`, reported as soon as they are known.

use std::future::Future;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// How many characters tell that two causes are the same.
const CAUSE_CHARS: usize = 80;

/// The fewest characters of a cause that is not repeated: a short one says little, and another part of a sentence could have it.
const LEAST_CAUSE_CHARS: usize = 30;

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
            let result = match finding.ok {
                true => result.clone(),
                false => self.without_repetition(result),
            };
            say(format_args!("{verdict}  {what:NAMES$}  {result}"))?;
        }
        self.findings().push(finding);
        Ok(())
    }

    fn findings(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sentence about a failure; where its cause was told of an earlier failure, it names that one instead.
    fn without_repetition(&self, result: &str) -> String {
        let findings = self.findings();
        let earlier = findings.iter().filter(|finding| !finding.ok);
        let mut same = earlier.filter_map(|finding| {
            let at = same_cause(&finding.result, result)?;
            Some((at, finding.what.as_str()))
        });
        match same.next() {
            Some((0, what)) => format!("as {what}"),
            Some((at, what)) => format!("{}: as {what}", result[..at].trim_end_matches(": ")),
            None => result.to_owned(),
        }
    }
}

/// Where the cause of an earlier sentence begins in another: the parts of both are divided by colons, the cause is last.
fn same_cause(earlier: &str, result: &str) -> Option<usize> {
    let parts = earlier
        .match_indices(": ")
        .map(|(at, colon)| at + colon.len());
    let mut causes = std::iter::once(0).chain(parts).map(|at| &earlier[at..]);
    causes.find_map(|cause| {
        // A long sentence is cut at its end.
        let begin = match cause.char_indices().nth(CAUSE_CHARS) {
            Some((end, _)) => &cause[..end],
            None if cause.chars().count() < LEAST_CAUSE_CHARS => return None,
            None => cause,
        };
        result.find(begin)
    })
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

#[cfg(test)]
mod tests {
    use super::same_cause;

    #[test]
    fn a_cause_is_known_again_behind_another_sentence_and_cut() {
        let cause = "the credential provider was not enabled: no credentials found in chain. Attempted: Environment, Profile, WebIdentityToken";
        let first = format!("connection reports has no credentials to sign with: {cause}");
        let head = "could not list s3://acme-reports: ";
        assert_eq!(
            same_cause(&first, &format!("{head}{cause}")),
            Some(head.len())
        );
        assert_eq!(
            same_cause(&first, &format!("{head}{}… (528 bytes)", &cause[..90])),
            Some(head.len())
        );
        assert_eq!(same_cause(&first, &first), Some(0));
        for other in [
            "could not list s3://acme-reports: access denied",
            "no credentials found in chain",
        ] {
            assert_eq!(same_cause(&first, other), None, "{other}");
        }
        assert_eq!(
            same_cause("s3://a: access denied", "s3://b: access denied"),
            None,
            "a short cause is said of each"
        );
    }
}
