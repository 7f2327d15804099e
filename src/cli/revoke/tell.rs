//! What `revoke`, `restore` and `extend` say to people.

use handout::config::Config;
use handout::ledger::portal::{ChangeKind, ChangeTarget, LinkChange};
use handout::store::s3::REVOKED_TAG;
use handout::text::{agreeing, shell_word};

use super::super::terminal::complain;
use super::super::{say, say_lines};
use super::ChangeReport;
use super::apply::{ProbeReport, TagProof, TagReport};
use super::means::{Means, MeansPlan, StoreKind};
use super::plan::{AnsweredBy, LinkGroup};
use super::policy::{self, Arns};

/// How many commands of a means are printed for people.
const MAX_COMMANDS: usize = 10;

/// Prints the result of a change. `may_change` is whether the configuration lets `revoke` change the ledger.
pub(super) fn tell(
    report: &ChangeReport<'_>,
    may_change: bool,
    config: &Config,
) -> anyhow::Result<()> {
    let has_others = report
        .plan
        .groups
        .iter()
        .any(|group| group.key.answered_by != AnsweredBy::Portal);
    let has_portal = config.portal.public_url.is_some() || config.portal.listen.is_some();
    if report.in_ledger && !may_change {
        complain("nothing is changed: revoke.apply in the configuration does not have \"ledger\"");
    }
    if report.in_ledger && (has_portal || !has_others) {
        let is_dry = report.dry_run || !may_change;
        let of_portal = if has_others || !report.is_known {
            " at the portal"
        } else {
            ""
        };
        say(sentence(report.change, report.unchanged, is_dry) + of_portal)?;
    }
    for line in report.residue.sentences() {
        say(line)?;
    }
    let groups = report.plan.groups.iter();
    for group in groups.filter(|group| group.key.answered_by != AnsweredBy::Portal) {
        say("")?;
        tell_group(group, report.tags.is_some())?;
    }
    if let Some(tags) = report.tags {
        say("")?;
        tell_tags(report.change, tags, config)?;
    }
    Ok(())
}

fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

fn tell_group(group: &LinkGroup, is_tagged: bool) -> anyhow::Result<()> {
    let key = &group.key;
    let signed_by = match (&key.session, &key.role) {
        (Some(session), Some(role)) => {
            format!(
                "the session {session} of the role {}",
                policy::role_name(role)
            )
        }
        (_, Some(role)) => format!("sessions of the role {}", policy::role_name(role)),
        (_, None) => format!("the key {}", key.signer),
    };
    let answered_by = match key.answered_by {
        AnsweredBy::CloudFront => "CloudFront",
        AnsweredBy::S3 | AnsweredBy::Portal => "S3",
    };
    say(format_args!(
        "{} of {answered_by} to {} in s3://{}, of {}, signed by {signed_by} (connections.{}), until {}",
        counted(group.links, "link", "links"),
        counted(group.objects as u64, "object", "objects"),
        key.bucket,
        counted(group.recipients as u64, "recipient", "recipients"),
        key.connection,
        group.expires_at
    ))?;
    if key.answered_by == AnsweredBy::S3 {
        say(
            "  A link of S3 cannot be revoked alone: no policy sees its parameters. The means, the smallest first:",
        )?;
    }
    for (index, means) in group.means.iter().enumerate() {
        tell_means(index + 1, means, group, is_tagged)?;
    }
    Ok(())
}

fn tell_means(
    number: usize,
    means: &MeansPlan,
    group: &LinkGroup,
    is_tagged: bool,
) -> anyhow::Result<()> {
    let others = match means.others.links {
        0 => "no other link dies".to_owned(),
        links => format!(
            "{} of {} that {} not meant {} too",
            counted(links, "link", "links"),
            counted(means.others.recipients as u64, "recipient", "recipients"),
            agreeing(links, "is", "are"),
            agreeing(links, "dies", "die")
        ),
    };
    say(format_args!(
        "  {number}. {}, {}: {others}",
        means.sentence(group),
        means.effect
    ))?;
    if let Some(note) = means.note {
        say(format_args!("     {note}"))?;
    }
    if means.means == Means::Tag && (means.allowed || is_tagged) {
        match number {
            1 if is_tagged => {}
            1 => say("     --apply does it")?,
            _ => say("     --apply --larger does it")?,
        }
        return Ok(());
    }
    for command in means.commands.iter().take(MAX_COMMANDS) {
        say(format_args!("     $ {command}"))?;
    }
    let left = means.commands.len().saturating_sub(MAX_COMMANDS);
    if left > 0 {
        say(format_args!(
            "     and {} like these: --json prints all",
            counted(left as u64, "command", "commands")
        ))?;
    }
    Ok(())
}

fn tell_tags(change: &LinkChange, tags: &TagReport, config: &Config) -> anyhow::Result<()> {
    let (name, value) = REVOKED_TAG;
    let changed = counted(tags.changed, "object", "objects");
    let (verb, state) = match change.kind {
        ChangeKind::Restored => ("lost", "are left as they were"),
        ChangeKind::Revoked | ChangeKind::Moved { .. } => ("got", "had it"),
    };
    say(format_args!(
        "{changed} {verb} the tag {name}={value}; {} {state}",
        tags.unchanged
    ))?;
    if tags.recorded > 0 {
        say(format_args!(
            "{} got the audit line that an interrupted command had not written",
            counted(tags.recorded, "object", "objects")
        ))?;
    }
    tags.complain();
    if tags.untouched > 0 {
        complain(format_args!(
            "{} of the target go on: their objects are not tagged, see the means above",
            counted(
                tags.untouched,
                "link of S3 or CloudFront",
                "links of S3 and CloudFront"
            )
        ));
    }
    for probe in &tags.probes {
        match probe.refused_after_s {
            Some(seconds) => say(format_args!(
                "a link of this command to s3://{}/{} was refused after {seconds} s",
                probe.bucket, probe.key
            ))?,
            None => tell_open(probe, config)?,
        }
    }
    Ok(())
}

/// Says that a link was not refused, and prints what is missing.
fn tell_open(probe: &ProbeReport, config: &Config) -> anyhow::Result<()> {
    let (bucket, reason) = (&probe.bucket, probe.reason.as_deref().unwrap_or_default());
    complain(format_args!(
        "a link of this command to s3://{bucket}/{} is not known to be refused by the tag: {reason}",
        probe.key
    ));
    if matches!(
        probe.proof,
        TagProof::HadTag | TagProof::NeverOpened | TagProof::NotThere
    ) {
        // The policies do not matter: the link was refused without the tag, or with it.
        return Ok(());
    }
    let connection = config.connections.get(&probe.connection);
    match StoreKind::of(connection) {
        StoreKind::Embedded => complain(
            "the embedded endpoint refuses the object at its next request; does `handout run` listen at embedded.public_url?",
        ),
        StoreKind::Other => complain(format_args!(
            "the standing Deny is missing in the policy of the user that signs, or a root user signs: `handout revoke standing-deny s3://{bucket} --connection {} --policy` prints it",
            shell_word(&probe.connection)
        )),
        StoreKind::Aws => {
            complain("if it opens, the standing Deny is missing in the policy of the bucket:");
            let statement = policy::standing_deny(&Arns::of(connection, None), bucket);
            say_lines(serde_json::to_string_pretty(&statement)?)?;
            for command in policy::bucket_commands(bucket, &statement) {
                say(format_args!("$ {command}"))?;
            }
        }
    }
    Ok(())
}

fn sentence(change: &LinkChange, unchanged: bool, dry_run: bool) -> String {
    let what = match &change.target {
        ChangeTarget::Job { job } => format!("the links of the job {job}"),
        ChangeTarget::Recipient { rid, job: None } => {
            format!("the links of the recipient {rid} in all jobs")
        }
        ChangeTarget::Recipient {
            rid,
            job: Some(job),
        } => format!("the links of the recipient {rid} in the job {job}"),
        ChangeTarget::Object { bucket, key } => format!("the links to s3://{bucket}/{key}"),
        ChangeTarget::Link { link_id } => format!("the link {link_id}"),
        ChangeTarget::Sessions { rid } => format!("the sign-ins of the recipient {rid}"),
    };
    let would = match (unchanged, dry_run) {
        (true, _) => "already: ",
        (false, true) => "would change: ",
        (false, false) => "",
    };
    let are = match &change.target {
        ChangeTarget::Link { .. } => "is",
        _ => "are",
    };
    match change.kind {
        ChangeKind::Revoked => format!("{would}{what} {are} revoked"),
        ChangeKind::Restored => format!("{would}{what} {are} no longer revoked"),
        ChangeKind::Moved { until } => format!("{would}{what} end at {until}"),
    }
}
