//! What `handout ledger show` says of a job in parts: the counts of its recipients, and the first without a mail.

use handout::distribute::{PartsSoFar, is_in_parts, parts_so_far, refused_part};
use handout::job::JobId;
use handout::ledger::people::words_behind_name;
use handout::ledger::status::{ReportedMails, last_done};
use handout::ledger::{Kind, Ledger, Record, reported_mails_of};
use handout::report::{JobReport, RefusedPart, WithoutMail};
use handout::text::{counted, shell_argument};
use serde::Serialize;

/// What the recipients of a job in parts came to so far, and what mail systems reported of the accepted mails.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct ShownParts {
    #[serde(flatten)]
    report: JobReport,
    /// How many of the accepted mails were delivered, as far as mail systems reported it.
    delivered: u64,
    /// How many of them bounced, or their recipient complained.
    bounced: u64,
    /// How many recipients have a mail under way.
    under_way: u64,
    /// How many others wait for their mail.
    open: u64,
    #[serde(skip)]
    chunks: u32,
}

impl ShownParts {
    /// The parts of a job; `None` if it is not in parts.
    pub(super) async fn of(
        ledger: &dyn Ledger,
        job: &JobId,
        of_job: &[Record],
    ) -> anyhow::Result<Option<Self>> {
        let Some(so_far) = parts_so_far(ledger, job, of_job).await? else {
            return Ok(None);
        };
        let reported = reported_mails_of(job, true, ledger).await?;
        let ReportedMails { delivered, bounced } = reported;
        let PartsSoFar {
            report,
            chunks,
            under_way,
            open,
        } = so_far;
        Ok(Some(Self {
            report,
            delivered,
            bounced,
            under_way,
            open,
            chunks,
        }))
    }

    /// The counts, and a line for each of the first recipients without a mail, with the columns of other recipients.
    pub(super) fn lines(&self, job: &JobId) -> Vec<String> {
        let Self {
            report,
            delivered,
            bounced,
            under_way,
            open,
            chunks,
        } = self;
        let named = report.parts.clone().unwrap_or_default();
        let counts = format!(
            "in parts: {} in {}; so far {} accepted (of these, mail systems reported {delivered} as delivered and {bounced} as bounced), {} rejected, {} in doubt, {} suppressed, {} without files, {} whose part was rejected, {under_way} under way, {open} open. `handout ledger show -- {}` shows one part",
            counted(named.recipients, "recipient"),
            counted(u64::from(*chunks), "chunk"),
            report.accepted,
            report.rejected,
            report.unknown,
            report.suppressed,
            named.empty,
            named.refused,
            shell_argument(&format!("{job}.part.RID"))
        );
        let mails = report.without_mail.iter().map(mail_line);
        let without = named.without_files.iter();
        let without = without.map(|rid| format!("{rid}\twithout files\t-\t-\t-"));
        let refused = named.reasons.iter();
        let refused = refused.map(|RefusedPart { rid, reason, .. }| {
            format!("{rid}\tits part was rejected\t-\t-\t{reason}")
        });
        let lines = std::iter::once(counts).chain(mails).chain(without);
        lines.chain(refused).collect()
    }
}

fn mail_line(without: &WithoutMail) -> String {
    let WithoutMail { rid, outcome, .. } = without;
    let code = outcome.code().map(|code| code.to_string());
    let code = code.as_deref().unwrap_or("-");
    let words = outcome.words();
    let words = words.strip_prefix(code).map_or(words, str::trim_start);
    let words = words_behind_name(words);
    format!("{rid}\t{}\t-\t{code}\t{words}", outcome.for_people())
}

/// Why the ledger has no records of an id, if it is that of a part of a job that is known.
pub(super) async fn why_unknown(
    ledger: &dyn Ledger,
    part: &JobId,
) -> anyhow::Result<Option<String>> {
    let Some((whole, rid)) = part.whole().zip(part.recipient_of_part()) else {
        return Ok(None);
    };
    let of_whole = ledger.records_of(&whole, "").await?;
    if !is_in_parts(&of_whole)? {
        return Ok(None);
    }
    Ok(Some(match refused_part(&of_whole, rid)? {
        Some(reason) => format!("{part}: the part was rejected: {reason}"),
        None => format!(
            "{part}: no mail was begun. The part waits for its turn, it was rejected, or the job has no such recipient: `handout ledger show -- {}` counts them",
            shell_argument(whole.as_str())
        ),
    }))
}

/// When a job was begun, and when it was done last; of records of older versions, the latter is not known.
pub(super) fn instants(of_job: &[Record]) -> (Option<&str>, Option<&str>) {
    let plan = of_job.iter().find(|record| record.kind == Kind::Plan);
    let done = last_done(of_job);
    (
        plan.and_then(|plan| plan.body["begun_at"].as_str()),
        done.and_then(|done| done.body["at"].as_str()),
    )
}
