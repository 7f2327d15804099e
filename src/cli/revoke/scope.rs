//! What a target means: links of the portal, which the ledger knows, and links that only the audit log knows.

use handout::assemble::OpenedLedger;
use handout::audit::find::LinkQuery;
use handout::clock;
use handout::config::Config;
use handout::distribute::part_or_job;
use handout::job::JobId;
use handout::ledger::portal::{ChangeKind, ChangeTarget};
use handout::links::LINK_ID;
use handout::links::portal::{OF_PORTAL, token_in};
use handout::portal_access::{LinkFacts, LinkIndex, RecipientLinks};
use presign::explain::Explainer;
use presign::{signature_in, wrapping};
use serde::Deserialize;

use super::super::exit::CommandError;
use super::plan::RevocationPlan;
use super::read_log::ReadLog;
use super::tagged::TagBook;
use super::{Wanted, facts_of, known_job, link_text, tag_target};

/// What the line of a revocation says of the one link that it is about, where that is known.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RevokedLinkFacts {
    pub(super) job: Option<String>,
    /// The recipient's id.
    pub(super) rid: Option<String>,
    pub(super) bucket: Option<String>,
    /// The key; none for a page, and for renditions.
    pub(super) key: Option<String>,
}

/// The links that a command is about.
pub(super) struct MeantLinks {
    /// The target of the change, and of its line.
    pub(super) target: ChangeTarget,
    /// Of one link: what its line says of it.
    pub(super) link: RevokedLinkFacts,
    /// Whether the ledger is changed: not for a job without links of the portal, or a link of S3.
    pub(super) in_ledger: bool,
    /// The same links in the audit log.
    pub(super) query: LinkQuery,
    /// What the audit log says of them, if it was read already.
    pub(super) plan: Option<RevocationPlan>,
}

#[derive(Deserialize)]
struct LinkLine {
    ev: String,
    #[serde(default)]
    link_id: String,
    #[serde(default)]
    access_key_id: String,
    #[serde(flatten)]
    about: RevokedLinkFacts,
}

impl RevokedLinkFacts {
    /// What the ledger knows of a link of the portal.
    fn of_portal(facts: &LinkFacts) -> Self {
        let object = facts.object();
        Self {
            job: Some(facts.job.job.to_string()),
            rid: Some(facts.rid.clone()),
            bucket: object.map(|_| facts.bucket.to_string()),
            key: object.map(|object| object.key.to_string()),
        }
    }
}

impl MeantLinks {
    /// Links that the ledger knows.
    pub(super) fn of_portal(target: ChangeTarget) -> Self {
        Self {
            query: query_of(&target),
            target,
            link: RevokedLinkFacts::default(),
            in_ledger: true,
            plan: None,
        }
    }

    /// What the arguments mean.
    pub(super) async fn of(
        wanted: Wanted,
        kind: ChangeKind,
        (config, opened, log): (&Config, &OpenedLedger, &ReadLog),
    ) -> anyhow::Result<Self> {
        let target = match wanted {
            Wanted::Target(target) => target,
            Wanted::Recipient(recipient, job) => ChangeTarget::Recipient {
                rid: recipient.rid(&opened.names),
                job,
            },
            Wanted::Sessions(recipient) => ChangeTarget::Sessions {
                rid: recipient.rid(&opened.names),
            },
            Wanted::Link(link) => return Self::of_link(&link, config, opened, log).await,
        };
        let meant = Self::of_portal(target);
        let known = match &meant.target {
            ChangeTarget::Sessions { .. } if !opened.is_there => {
                return Err(CommandError::Found(
                    "no job was started on this machine, so that no visitor has signed in here: run the command on a machine of the portal".to_owned(),
                )
                .into());
            }
            _ if !opened.is_there => Err(no_link_known()),
            ChangeTarget::Job { job } => known_job(job, opened).await.map(drop),
            ChangeTarget::Recipient {
                rid,
                job: Some(job),
            } => known_recipient(job, rid, opened).await,
            _ => Ok(()),
        };
        match known {
            Ok(()) => Ok(meant),
            Err(unknown) => meant.without_ledger(kind, config, log, unknown),
        }
    }

    /// The same for links that the ledger does not know. Without any in the audit log, they are unknown.
    fn without_ledger(
        self,
        kind: ChangeKind,
        config: &Config,
        log: &ReadLog,
        unknown: anyhow::Error,
    ) -> anyhow::Result<Self> {
        let target = tag_target(&self.target);
        let is_tagged = || Ok(!TagBook::read(log)?.objects_of(&target).is_empty());
        let (plan, is_known) = match kind {
            ChangeKind::Restored => (None, is_tagged()),
            ChangeKind::Revoked | ChangeKind::Moved { .. } => {
                let plan = RevocationPlan::of(&self.query, config, log, clock::system())?;
                let is_known = !plan.groups.is_empty();
                (Some(plan), Ok::<_, anyhow::Error>(is_known))
            }
        };
        match is_known? {
            true => Ok(Self {
                in_ledger: false,
                plan,
                ..self
            }),
            false => {
                log.tell_unread();
                Err(unknown)
            }
        }
    }

    /// A link by its id.
    fn of_link_id(link_id: String, opened: &OpenedLedger, log: &ReadLog) -> anyhow::Result<Self> {
        let meant = Self::of_portal(ChangeTarget::Link { link_id });
        // An id that this machine's log does not have may be of another machine's portal.
        let lines = lines_of(&meant.query, log)?;
        if lines.is_empty() && !opened.is_there {
            log.tell_unread();
            return Err(no_link_known());
        }
        let in_ledger = lines.is_empty() || lines.iter().any(LinkLine::is_of_portal);
        let link = lines.into_iter().next().map(|line| line.about);
        Ok(Self {
            in_ledger,
            link: link.unwrap_or_default(),
            ..meant
        })
    }

    async fn of_link(
        link: &str,
        config: &Config,
        opened: &OpenedLedger,
        log: &ReadLog,
    ) -> anyhow::Result<Self> {
        let of_id = |link_id: String| ChangeTarget::Link { link_id };
        let is_id = link.len() == 32 && link.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_id {
            return Self::of_link_id(link.to_ascii_lowercase(), opened, log);
        }
        let text = link_text(link)?;
        let portal = config.portal_url()?;
        let is_of_portal = portal.is_some_and(|portal| token_in(&text, &portal).is_some());
        let signed = parts_of_signed(&text, opened);
        let Some((fingerprint, link_id)) = signed.filter(|_| !is_of_portal) else {
            let facts = facts_of(&text, config, opened).await?;
            return Ok(Self {
                link: RevokedLinkFacts::of_portal(&facts),
                ..Self::of_portal(of_id(facts.link_id))
            });
        };
        let by_signature = LinkQuery {
            link: fingerprint,
            ..LinkQuery::default()
        };
        let mut lines = match by_signature.link {
            Some(_) => lines_of(&by_signature, log)?,
            None => Vec::new(),
        };
        if lines.is_empty()
            && let Some(link_id) = link_id
        {
            let by_id = LinkQuery {
                link_id: Some(link_id),
                ..LinkQuery::default()
            };
            lines = lines_of(&by_id, log)?;
        }
        let Some(line) = lines.into_iter().next() else {
            log.tell_unread();
            return Err(CommandError::Found(
                "no line of this machine's audit log has this link: run the command where the link was issued, or revoke the object".to_owned(),
            )
            .into());
        };
        // The portal signed the link for a visitor: the link that was mailed is its own.
        let in_ledger = line.ev == "opened" || line.ev == "probe";
        Ok(Self {
            in_ledger,
            link: line.about,
            ..Self::of_portal(of_id(line.link_id))
        })
    }
}

/// The error for a target without a link that works, where no job was started.
fn no_link_known() -> anyhow::Error {
    CommandError::Found(
        "no job was started on this machine, and its audit log has no link of this target that still works: run the command where the links were issued, with the same configuration (state_dir)".to_owned(),
    )
    .into()
}

impl LinkLine {
    fn is_of_portal(&self) -> bool {
        self.access_key_id == OF_PORTAL || matches!(self.ev.as_str(), "opened" | "probe" | "view")
    }

    fn is_of_link(&self) -> bool {
        !matches!(self.ev.as_str(), "revoked" | "restored" | "moved") && !self.link_id.is_empty()
    }
}

fn lines_of(query: &LinkQuery, log: &ReadLog) -> anyhow::Result<Vec<LinkLine>> {
    let mut lines = Vec::new();
    log.each_line(query, |line| {
        let line = serde_json::from_str::<LinkLine>(line).ok();
        lines.extend(line.filter(LinkLine::is_of_link));
    })?;
    Ok(lines)
}

/// The fingerprint and the id of a signed link, as a mail system has passed it on; `None` if a text has neither.
fn parts_of_signed(text: &str, opened: &OpenedLedger) -> Option<(Option<String>, Option<String>)> {
    let found = wrapping::unwrap(text);
    let url = found.as_ref().map_or(text, |found| found.url.expose());
    let signature = signature_in(url);
    let fingerprint = signature.map(|signature| opened.names.fingerprint(&signature));
    let explainer = Explainer {
        servers: &[],
        custom: Some(LINK_ID),
    };
    let link_id = explainer.explain(url, clock::system()).link_id;
    let is_signed = fingerprint.is_some() || link_id.is_some();
    is_signed.then_some((fingerprint, link_id))
}

/// The lines of the audit log that are about a target.
fn query_of(target: &ChangeTarget) -> LinkQuery {
    match target {
        ChangeTarget::Job { job } => LinkQuery {
            job: Some(job.to_string()),
            ..LinkQuery::default()
        },
        ChangeTarget::Recipient { rid, job } => LinkQuery {
            rid: Some(rid.clone()),
            job: job.as_ref().map(ToString::to_string),
            ..LinkQuery::default()
        },
        ChangeTarget::Object { bucket, key } => LinkQuery {
            object: Some((bucket.to_string(), key.clone())),
            ..LinkQuery::default()
        },
        ChangeTarget::Link { link_id } => LinkQuery {
            link_id: Some(link_id.clone()),
            ..LinkQuery::default()
        },
        ChangeTarget::Sessions { rid } => LinkQuery {
            rid: Some(rid.clone()),
            ..LinkQuery::default()
        },
    }
}

/// Checks that a job has links of a recipient that can be told from those of others.
async fn known_recipient(job: &JobId, rid: &str, opened: &OpenedLedger) -> anyhow::Result<()> {
    let job = &part_or_job(&*opened.ledger, job, rid).await?;
    known_job(job, opened).await?;
    let index = LinkIndex::new(&opened.keyring, &opened.names, opened.portal());
    match index.links_of_recipient(job, rid).await? {
        RecipientLinks::ToldApart => Ok(()),
        RecipientLinks::None => {
            Err(CommandError::Found(format!("the job {job} has no such recipient")).into())
        }
        RecipientLinks::Shared => Err(CommandError::Found(format!(
            "all recipients share the links of the job {job}, which open without a sign-in: revoke the job"
        ))
        .into()),
    }
}
