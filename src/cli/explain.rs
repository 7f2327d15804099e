//! `handout explain`: shows what a signed URL opens, how long it lives and why it fails.

mod portal;

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use handout::assemble::connection;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::links::LINK_ID;
use jiff::Timestamp;
use presign::explain::{Explainer, Explanation};
use serde::Serialize;

use super::arguments::JsonArgs;
use super::schemas::OutputSchema;
use super::{ConfigArgs, exit, say_json, say_lines};

/// The maximum length of a text from stdin.
const MAX_BYTES: u64 = 256 * 1024;

pub(super) const EXAMPLES: &str = "\
Examples:
  handout explain - < url.txt           from stdin, which keeps the URL out of the shell history
  handout explain --json 'https://acme-reports.s3.eu-west-1.amazonaws.com/a.pdf?X-Amz-Algorithm=…'

The first signed URL in the text is explained: a link that a mail system has replaced, escaped or broken into lines is read as it was. No server is contacted. With a configuration, the hosts and paths of its endpoints are recognised. The signature and the session token are never printed. A link of the portal is looked up in the ledger: whose it is, until when, and whether it was revoked.";

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
    let code = match explanation.is_wrong() {
        true => exit::FOUND.into(),
        false => ExitCode::SUCCESS,
    };
    if arguments.form.json {
        say_json(&ExplainReport {
            expires_at: explanation.ends_at,
            explanation,
        })?;
        return Ok(code);
    }
    say_lines(explanation.in_words(now))?;
    Ok(code)
}

/// What is said of a signed URL, as `--json` prints it.
#[derive(Debug, Serialize)]
struct ExplainReport {
    #[serde(flatten)]
    explanation: Explanation,
    /// The end that the URL states, as other commands call it.
    expires_at: Option<Timestamp>,
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
