//! `handout explain`: shows what a signed URL opens, how long it lives and why it fails.

mod portal;
mod revoked;

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use handout::access::opens::RecordedRevocation;
use handout::assemble::connection;
use handout::audit::source::removed_from;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::links::LINK_ID;
use handout::text::{agreeing, counted};
use jiff::Timestamp;
use presign::explain::{Explainer, Explanation};
use serde::Serialize;

use super::arguments::JsonArgs;
use super::schemas::OutputSchema;
use super::terminal::complain;
use super::{ConfigArgs, exit, say_json, say_lines};

/// The maximum length of a text from stdin.
const MAX_BYTES: u64 = 256 * 1024;

pub(super) const EXAMPLES: &str = "\
Examples:
  handout explain - < url.txt           from stdin, which keeps the URL out of the shell history
  handout explain --json 'https://acme-reports.s3.eu-west-1.amazonaws.com/a.pdf?X-Amz-Algorithm=…'

The first signed URL in the text is explained: a link that a mail system has replaced, escaped or broken into lines is read as it was. No server is contacted. With a configuration, the hosts and paths of its endpoints are recognised. The signature and the session token are never printed. A link of the portal is looked up in the ledger: whose it is, until when, and whether it was revoked. Of a link of S3 or CloudFront that this installation issued, the revocations in this machine's audit log are printed; the exit code is 1 if its object got the tag.";

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The URL, or `-` to read it from stdin.
    #[arg(value_name = "URL|-")]
    url: String,
    #[command(flatten)]
    form: JsonArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Explains one URL.
pub(super) async fn explain(
    arguments: &ExplainArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let url = match arguments.url.as_str() {
        "-" => read()?,
        url => url.to_owned(),
    };
    let now = clock::system();
    let config = arguments.configuration(environment)?;
    if let Some(config) = &config
        && portal::is_of(&url, config)
    {
        return Box::pin(portal::explain(
            &url,
            arguments.form.json,
            config,
            environment,
        ))
        .await;
    }
    let servers = config.as_ref().map(connection::servers).unwrap_or_default();
    let explainer = Explainer {
        servers: &servers,
        custom: Some(LINK_ID),
    };
    let explanation = explainer.explain(&url, now);
    let recorded = config
        .as_ref()
        .and_then(|config| revoked::of(&explanation, config));
    let is_refused = recorded
        .as_deref()
        .is_some_and(|recorded| recorded.iter().any(revoked::is_of_store));
    let code = match explanation.is_wrong() || is_refused {
        true => exit::FOUND.into(),
        false => ExitCode::SUCCESS,
    };
    if arguments.form.json {
        say_json(&ExplainReport {
            expires_at: explanation.ends_at,
            revocations: recorded,
            explanation,
        })?;
        return Ok(code);
    }
    say_lines(explanation.in_words(now))?;
    if let Some(recorded) = recorded {
        say_lines(revoked::in_words(&recorded))?;
    }
    Ok(code)
}

/// What is said of a signed URL, as `--json` prints it.
#[derive(Debug, Serialize)]
struct ExplainReport {
    #[serde(flatten)]
    explanation: Explanation,
    /// The end that the URL states, as other commands call it.
    expires_at: Option<Timestamp>,
    /// The revocations of the link that stand; left out if this machine's audit log has no line of the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocations: Option<Vec<RecordedRevocation>>,
}

/// Says on stderr that lines of the audit log were removed, and what is not known therefore.
fn tell_removed(config: &Config, unknown: &str) {
    // A log that cannot be read has no lines either.
    let removed = removed_from(config.audit_place()).unwrap_or_default();
    if removed.segments > 0 {
        complain(format_args!(
            "{} {} removed from the audit log after audit.keep, and {unknown}: `handout audit find --archive` reads what is in the archive",
            counted(removed.segments, "segment"),
            agreeing(removed.segments, "was", "were")
        ));
    }
}

impl ExplainArgs {
    /// The configuration. One that is not named on the command line may be missing, or belong to another user.
    fn configuration(&self, environment: &Environment) -> anyhow::Result<Option<Config>> {
        match self.config.load(environment) {
            Err(error) if self.config.is_named() => Err(error),
            loaded => Ok(loaded.ok()),
        }
    }
}

/// Reads all of stdin: a link may be broken into lines, or be anywhere in a mail.
fn read() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .context("could not read the URL from stdin")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the commands print with `--json`.
pub(super) fn outputs() -> Vec<OutputSchema> {
    vec![portal::output()]
}
