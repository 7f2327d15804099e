//! Tags the objects of links, records each in the audit log, and tries whether links are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use handout::assemble::PROGRAM;
use handout::assemble::connection::{ProbeOutcome, RevocationAccess, revocation_access};
use handout::audit::AuditLog;
use handout::audit::portal as lines;
use handout::audit::portal::ChangedFields;
use handout::clock;
use handout::config::Config;
use handout::environment::Environment;
use handout::failpoint::{self, Failpoint};
use handout::job::Bucket;
use handout::keyring::Keyring;
use handout::text::chain;
use serde::Serialize;

use super::super::terminal::complain;
use super::means::Means;
use super::plan::RevocationPlan;
use super::read_log::ReadLog;
use super::scope::RevokedLinkFacts;
use super::tagged::{TagBook, TagTarget, TaggedObject};

/// How many objects of a bucket are opened before they are tagged, to find one that opens: some can have the tag already.
const MAX_TRIED: usize = 20;

/// An object, and what became of a link to it before it was tagged.
type OpenedBefore<'a> = (&'a TaggedObject, anyhow::Result<ProbeOutcome>);

/// Why a refusal proves nothing: the object had the tag.
const HAD_TAG: &str = "it was refused before this command too, and the object had the tag already, so that a refusal now proves nothing";

/// Why a refusal proves nothing: something else refuses the link.
const NEVER_OPENED: &str = "it was refused before this command too, and the object did not have the tag, so that links of this connection to it never opened: its identity may not read the object (s3:GetObject), or another policy denies it. What the tag does to links of another identity is not known";

/// Why a refusal proves nothing: nothing is there.
const NOT_THERE: &str =
    "the object, or this version of it, was not there before this command either";

/// What was done at stores.
#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
pub(super) struct TagReport {
    /// How many objects got the tag, or lost it.
    pub(super) changed: u64,
    /// How many had it before, or had lost it.
    pub(super) unchanged: u64,
    /// How many got the line that a command that was killed did not write.
    pub(super) recorded: u64,
    /// How many links of the target S3 and CloudFront still answer, since their objects are not tagged.
    pub(super) untouched: u64,
    /// Objects that could not be tagged, and why.
    pub(super) failed: Vec<FailedTag>,
    /// Whether links are refused, for an object of each bucket.
    pub(super) probes: Vec<ProbeReport>,
    /// The objects whose tags were changed.
    #[serde(skip)]
    changed_objects: BTreeSet<TaggedObject>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct FailedTag {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) reason: String,
}

/// What a link of the command's own shows of the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TagProof {
    /// It opened before the object had the tag, and is refused now.
    Refused,
    /// It opens, although the object has the tag: the standing Deny is missing.
    StillOpens,
    /// It was refused before, and the object had the tag then.
    HadTag,
    /// It was refused before, and the object had no tag then: the connection's identity may not read it, or another policy denies it.
    NeverOpened,
    /// The object was not there before.
    NotThere,
    /// There was no answer that says so.
    Unknown,
}

/// What became of a link of the command's own.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct ProbeReport {
    pub(super) connection: String,
    pub(super) bucket: String,
    pub(super) key: String,
    /// What it shows.
    pub(super) proof: TagProof,
    /// After how many seconds it was refused; none if it was not.
    pub(super) refused_after_s: Option<f64>,
    /// Why it is not known to be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// The objects that the plan tags: where no other means kills fewer links, or wherever the tag is a means if `larger`.
pub(super) fn objects_of(plan: &RevocationPlan, larger: bool) -> BTreeSet<TaggedObject> {
    let mut objects = BTreeSet::new();
    for group in &plan.groups {
        let mut means = group.means.iter().take(if larger { usize::MAX } else { 1 });
        if !means.any(|means| means.means == Means::Tag) {
            continue;
        }
        for (key, versions) in &group.reach.keys {
            let of = |version: &Option<String>| TaggedObject {
                connection: group.key.connection.clone(),
                bucket: group.key.bucket.clone(),
                key: key.clone(),
                version: version.clone(),
            };
            objects.extend(versions.iter().map(of));
        }
    }
    objects
}

/// What a change of tags needs.
pub(super) struct Tagging<'a> {
    pub(super) config: &'a Config,
    pub(super) log: &'a ReadLog,
    pub(super) keyring: &'a Keyring,
    pub(super) environment: &'a Environment,
    pub(super) target: &'a TagTarget,
    pub(super) link: &'a RevokedLinkFacts,
    pub(super) by: &'a str,
    pub(super) why: Option<&'a str>,
}

/// The stores of some connections. A directory is served by this command meanwhile.
struct Stores {
    by_name: BTreeMap<String, RevocationAccess>,
    #[cfg(feature = "embedded")]
    endpoint: Option<localstore::Endpoint>,
}

impl Stores {
    async fn open(
        tagging: &Tagging<'_>,
        names: impl Iterator<Item = &str>,
    ) -> anyhow::Result<Self> {
        let Tagging {
            config,
            keyring,
            environment,
            ..
        } = tagging;
        let names: BTreeSet<&str> = names.collect();
        #[cfg(feature = "embedded")]
        let endpoint = {
            let is_directory = |name: &&str| {
                let connection = config.connections.get(*name);
                connection.is_some_and(|connection| connection.directory.is_some())
            };
            let itself = handout::assemble::Serving::Itself;
            match names.iter().any(is_directory) {
                true => handout::assemble::start_embedded(config, keyring, itself).await?,
                false => None,
            }
        };
        #[cfg(feature = "embedded")]
        let address = endpoint.as_ref().map(localstore::Endpoint::address);
        #[cfg(not(feature = "embedded"))]
        let address = None;
        let mut by_name = BTreeMap::new();
        for name in names {
            let opened = Box::pin(revocation_access(
                config,
                keyring,
                name,
                address,
                environment,
            ))
            .await?;
            by_name.insert(name.to_owned(), opened);
        }
        Ok(Self {
            by_name,
            #[cfg(feature = "embedded")]
            endpoint,
        })
    }

    async fn close(self) {
        #[cfg(feature = "embedded")]
        if let Some(endpoint) = self.endpoint {
            endpoint.shutdown(Duration::from_secs(1)).await;
        }
    }
}

impl Tagging<'_> {
    /// Tags objects, writes a line for each, and tries one of each bucket for `within`. An object that has the tag and no line, as
    /// after a command that was killed, gets its line.
    pub(super) async fn revoke(
        &self,
        objects: &BTreeSet<TaggedObject>,
        within: Duration,
    ) -> anyhow::Result<TagReport> {
        let book = TagBook::read(self.log)?;
        let jobs = objects.iter().map(|object| {
            let has_line = book.has(object, self.target);
            (object, true, has_line)
        });
        let stores = Stores::open(self, objects.iter().map(|object| &*object.connection)).await?;
        // A refusal proves something where the same link opened before.
        let mut opened: BTreeMap<_, OpenedBefore<'_>> = BTreeMap::new();
        let mut tries: BTreeMap<_, usize> = BTreeMap::new();
        for object in objects {
            let of_bucket = (&object.connection, &object.bucket);
            let tried = tries.entry(of_bucket).or_default();
            let does_open = |before: &OpenedBefore<'_>| matches!(before.1, Ok(ProbeOutcome::Opens));
            if *tried < MAX_TRIED && !opened.get(&of_bucket).is_some_and(does_open) {
                *tried += 1;
                opened.insert(of_bucket, (object, opens(object, &stores).await));
            }
        }
        let mut report = self.tag(jobs.collect(), true, &stores).await?;
        let failed: BTreeSet<(&str, &str)> = report
            .failed
            .iter()
            .map(|failed| (&*failed.bucket, &*failed.key))
            .collect();
        let mut probes = Vec::new();
        for (object, before) in opened.into_values() {
            if !failed.contains(&(&*object.bucket, &*object.key)) {
                let had_tag = !report.changed_objects.contains(object);
                probes.push(probe(object, (before, had_tag), within, &stores).await);
            }
        }
        report.probes = probes;
        stores.close().await;
        Ok(report)
    }

    /// Takes the tags of a revocation off, except from objects that another revocation is about.
    pub(super) async fn restore(&self) -> anyhow::Result<TagReport> {
        let book = TagBook::read(self.log)?;
        let mut objects = book.objects_of(self.target);
        let last = objects.iter().filter(|(_, is_of_others)| !is_of_others);
        let left: BTreeSet<TaggedObject> = last
            .flat_map(|(object, _)| book.left_with(object))
            .collect();
        objects.extend(left.into_iter().map(|object| (object, false)));
        let names = objects.iter().map(|(object, _)| &*object.connection);
        let stores = Stores::open(self, names).await?;
        let jobs = objects.iter();
        let jobs = jobs.map(|(object, is_of_others)| (object, !is_of_others, false));
        let report = self.tag(jobs.collect(), false, &stores).await?;
        stores.close().await;
        Ok(report)
    }

    /// Changes the tags of objects, where that is asked for, and writes the lines that are missing.
    async fn tag(
        &self,
        objects: Vec<(&TaggedObject, bool, bool)>,
        is_revoked: bool,
        stores: &Stores,
    ) -> anyhow::Result<TagReport> {
        let mut report = TagReport::default();
        if objects.is_empty() {
            return Ok(report);
        }
        // Opened first: nothing is changed that cannot be recorded.
        let settings = self.config.audit_settings(self.keyring, self.environment)?;
        let (log, writer) = AuditLog::open(&settings, PROGRAM, clock::system)?;
        for (object, is_asked, has_line) in objects {
            let marked = match is_asked {
                true => mark(object, is_revoked, stores).await,
                false => Ok(false),
            };
            match &marked {
                Ok(true) => {
                    report.changed += 1;
                    report.changed_objects.insert(object.clone());
                }
                Ok(false) => report.unchanged += 1,
                Err(error) => {
                    report.failed.push(FailedTag {
                        bucket: object.bucket.clone(),
                        key: object.key.clone(),
                        reason: chain(&**error),
                    });
                    continue;
                }
            }
            failpoint::pass(Failpoint::ObjectTagged);
            if !has_line {
                let line = match is_revoked {
                    true => lines::revoked(&self.fields(object)),
                    false => lines::restored(&self.fields(object)),
                };
                let appended = log.append(vec![line]).await;
                appended.context("the tag is changed, and its audit line could not be written")?;
                report.recorded += u64::from(is_revoked && !matches!(marked, Ok(true)));
            }
        }
        drop(log);
        writer.close();
        Ok(report)
    }

    fn fields<'a>(&'a self, object: &'a TaggedObject) -> ChangedFields<'a> {
        ChangedFields {
            what: &self.target.what,
            job: self.target.job.as_deref().or(self.link.job.as_deref()),
            rid: self.target.rid.as_deref().or(self.link.rid.as_deref()),
            bucket: Some(&object.bucket),
            key: Some(&object.key),
            link_id: self.target.link_id.as_deref(),
            expires_at: None,
            ordinal: None,
            means: Some("tag"),
            connection: Some(&object.connection),
            version: object.version.as_deref(),
            by: self.by,
            reason: self.why,
        }
    }
}

async fn mark(object: &TaggedObject, is_revoked: bool, stores: &Stores) -> anyhow::Result<bool> {
    let bucket: Bucket = object.bucket.parse()?;
    let store = &stores.by_name[&object.connection];
    let version = object.version.as_deref();
    Ok(Box::pin(store.mark(&bucket, &object.key, version, is_revoked)).await?)
}

/// Whether a link of the command's own opens an object before it is tagged.
async fn opens(object: &TaggedObject, stores: &Stores) -> anyhow::Result<ProbeOutcome> {
    let bucket: Bucket = object.bucket.parse()?;
    let store = &stores.by_name[&object.connection];
    let version = object.version.as_deref();
    let opening = store.opens(&bucket, &object.key, version, clock::system);
    Ok(Box::pin(opening).await?)
}

/// Tries a link of the command's own. `before` is what became of one before the tag, and whether the object had the tag then.
async fn probe(
    object: &TaggedObject,
    before: (anyhow::Result<ProbeOutcome>, bool),
    within: Duration,
    stores: &Stores,
) -> ProbeReport {
    let judged = match why_nothing_is_shown(before) {
        Some(judged) => Ok(judged),
        None => refusal(object, within, stores).await,
    };
    let (proof, after, reason) = match judged {
        Ok((proof, Ok(after))) => (proof, Some(after), None),
        Ok((proof, Err(reason))) => (proof, None, Some(reason)),
        Err(error) => (TagProof::Unknown, None, Some(chain(&*error))),
    };
    ProbeReport {
        connection: object.connection.clone(),
        bucket: object.bucket.clone(),
        key: object.key.clone(),
        proof,
        refused_after_s: after.map(|after| (after.as_secs_f64() * 100.0).round() / 100.0),
        reason,
    }
}

/// A proof with the time until a refusal, or with why there is none.
type JudgedProbe = (TagProof, Result<Duration, String>);

/// Why a link shows nothing of the tag; `None` if it opened before.
fn why_nothing_is_shown(
    (before, had_tag): (anyhow::Result<ProbeOutcome>, bool),
) -> Option<JudgedProbe> {
    let (proof, reason) = match before {
        Ok(ProbeOutcome::Opens) => return None,
        Ok(ProbeOutcome::NotThere) => (TagProof::NotThere, NOT_THERE.to_owned()),
        Ok(ProbeOutcome::Refused(_)) if had_tag => (TagProof::HadTag, HAD_TAG.to_owned()),
        Ok(ProbeOutcome::Refused(_)) => (TagProof::NeverOpened, NEVER_OPENED.to_owned()),
        Ok(ProbeOutcome::Unknown(reason)) => {
            (TagProof::Unknown, format!("before the tag, too: {reason}"))
        }
        Err(error) => (TagProof::Unknown, chain(&*error)),
    };
    Some((proof, Err(reason)))
}

/// Opens a link that opened before, until it is refused.
async fn refusal(
    object: &TaggedObject,
    within: Duration,
    stores: &Stores,
) -> anyhow::Result<JudgedProbe> {
    let bucket: Bucket = object.bucket.parse()?;
    let store = &stores.by_name[&object.connection];
    let version = object.version.as_deref();
    let probing = store.probe(&bucket, &object.key, version, within, clock::system);
    Ok(match Box::pin(probing).await? {
        ProbeOutcome::Refused(after) => (TagProof::Refused, Ok(after)),
        ProbeOutcome::Opens => (TagProof::StillOpens, Err("it still opens".to_owned())),
        ProbeOutcome::NotThere => (
            TagProof::NotThere,
            Err("the object was deleted meanwhile".to_owned()),
        ),
        ProbeOutcome::Unknown(reason) => (TagProof::Unknown, Err(reason)),
    })
}

impl TagReport {
    /// Whether links are known to be refused.
    pub(super) fn is_proven(&self) -> bool {
        let mut probes = self.probes.iter();
        self.failed.is_empty()
            && self.untouched == 0
            && probes.all(|probe| probe.proof == TagProof::Refused)
    }

    /// For people, on stderr: what went wrong.
    pub(super) fn complain(&self) {
        for failed in &self.failed {
            complain(format_args!(
                "s3://{}/{} is not tagged: {}",
                failed.bucket, failed.key, failed.reason
            ));
        }
    }
}
