//! What a link of the portal is for, by the ledger and this machine's audit log.

use std::process::ExitCode;

use handout::assemble;
use handout::audit::find::{LinkQuery, find};
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::links::portal::token_in;
use handout::portal_access::RevokedLinks;
use handout::text::counted;
use jiff::Timestamp;
use serde::Serialize;

use super::super::revoke::facts_of;
use super::super::schemas::OutputSchema;
use super::super::{exit, say_json, say_lines};

/// What a link of the portal is for.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct PortalExplanation {
    kind: &'static str,
    job: String,
    /// The recipient's id; none if all recipients share the link.
    rid: Option<String>,
    bucket: String,
    /// The object; none for the page of all.
    key: Option<String>,
    link_id: String,
    sign_in: &'static str,
    #[schemars(with = "String")]
    expires_at: Timestamp,
    /// The name of `expires_at` in earlier versions.
    #[schemars(with = "String")]
    ends_at: Timestamp,
    #[schemars(with = "Option<String>")]
    revoked_at: Option<Timestamp>,
    /// How often it was opened, by this machine's audit log.
    opened: u64,
}

/// Whether a text is a link of the configured portal.
pub(super) fn is_of(text: &str, config: &Config) -> bool {
    let portal = config.portal_url().ok().flatten();
    portal.is_some_and(|portal| token_in(text.trim(), &portal).is_some())
}

/// Explains a link of the portal; fails with exit 1 if it does not open.
pub(super) async fn explain(
    url: &str,
    is_json: bool,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let opened = assemble::open_ledger(config, environment, clock::system).await?;
    let found = async {
        let facts = facts_of(url.trim(), config, &opened).await?;
        let mut links = RevokedLinks::default();
        let changes = opened.portal().changes().await?;
        changes.into_iter().for_each(|change| links.apply(change));
        Ok::<_, anyhow::Error>((facts, links))
    };
    let found = found.await;
    opened.close().await;
    let (facts, links) = found?;
    let (ends_at, revoked_at) = facts.state(&links);
    let explanation = PortalExplanation {
        kind: "portal",
        job: facts.job.job.to_string(),
        rid: facts.person.as_ref().map(|person| person.rid.clone()),
        bucket: facts.bucket.to_string(),
        key: facts.object().map(|object| object.key.to_string()),
        opened: opens(&facts.link_id, config),
        link_id: facts.link_id,
        sign_in: facts.job.sign_in.word(),
        expires_at: ends_at,
        ends_at,
        revoked_at,
    };
    super::tell_removed(config, "opens in them are not counted");
    let now = clock::system();
    if is_json {
        say_json(&explanation)?;
    } else {
        say_lines(explanation.in_words(now))?;
    }
    Ok(match explanation.revoked_at.is_some() || ends_at <= now {
        true => exit::FOUND.into(),
        false => ExitCode::SUCCESS,
    })
}

/// How often a link was opened; an audit log that cannot be read has no opens.
fn opens(link_id: &str, config: &Config) -> u64 {
    let query = LinkQuery {
        link_id: Some(link_id.to_owned()),
        ..LinkQuery::default()
    };
    let mut count = 0;
    let found = find(config.audit_place(), &query, |line| {
        count += u64::from(line.contains("\"ev\":\"opened\""));
        Ok(())
    });
    match found {
        Ok(_) => count,
        Err(_) => 0,
    }
}

impl PortalExplanation {
    fn in_words(&self, now: Timestamp) -> String {
        let whose = match &self.rid {
            Some(rid) => format!("of the recipient {rid}"),
            None => "of all recipients".to_owned(),
        };
        let what = match &self.key {
            Some(key) => format!("s3://{}/{key}", self.bucket),
            None => "the page of all objects".to_owned(),
        };
        let state = match self.revoked_at {
            Some(at) => format!("revoked at {at}"),
            None if self.ends_at <= now => format!("ended at {}", self.ends_at),
            None => format!("opens until {}", self.ends_at),
        };
        [
            "a link of the portal".to_owned(),
            format!("  {whose}, in the job {}", self.job),
            format!("  opens: {what}"),
            format!("  sign-in: {}", self.sign_in),
            format!("  {state}"),
            format!("  link id: {}", self.link_id),
            format!(
                "  opened: {}, by the audit log of this machine",
                counted(self.opened, "time")
            ),
        ]
        .join("\n")
    }
}

/// What `handout explain` prints of a link of the portal with `--json`.
pub(super) fn output() -> OutputSchema {
    OutputSchema::of::<PortalExplanation>("explain-portal", "handout explain")
}
