//! Which links a revocation is about, and what else dies with each means, by this machine's audit log.
//!
//! The log is read twice: for the links that are meant, and for all others that still work. No policy of S3 sees the parameters of
//! a request, so that one link of S3 alone cannot be revoked: each means has a radius, which is counted here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use handout::audit::find::LinkQuery;
use handout::config::Config;
use handout::job::JobId;
use handout::links::portal::OF_PORTAL;
use jiff::Timestamp;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::means::{MeansPlan, means_of};
use super::read_log::ReadLog;
use super::tagged::TaggedObject;

/// The most objects that are tagged one by one.
const MAX_OBJECTS: usize = 1000;

/// The most keys that a statement of a policy names; more are denied by their common prefix.
pub(super) const MAX_NAMED: usize = 100;

/// The most ids of links that are put into a key value store. A store has 5 MB, and a request puts 50.
const MAX_LINK_IDS: usize = 10_000;

/// What answers links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AnsweredBy {
    /// The portal.
    Portal,
    /// S3, or a store that speaks it.
    S3,
    /// A distribution.
    CloudFront,
}

/// What links have in common, for a means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
pub(super) struct GroupKey {
    pub(super) answered_by: AnsweredBy,
    pub(super) connection: String,
    pub(super) bucket: String,
    /// The id of the key that signed, or of the key pair.
    pub(super) signer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    /// The job's own session of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
}

/// Live links of the target that share a signer and a bucket.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct LinkGroup {
    #[serde(flatten)]
    pub(super) key: GroupKey,
    pub(super) links: u64,
    pub(super) recipients: usize,
    pub(super) objects: usize,
    /// When the last of them ends.
    #[schemars(with = "String")]
    pub(super) expires_at: Timestamp,
    /// The name of `expires_at` in earlier versions.
    #[schemars(with = "String")]
    until: Timestamp,
    /// The means that reach them, the smallest first.
    pub(super) means: Vec<MeansPlan>,
    #[serde(skip)]
    pub(super) reach: LinkReach,
}

/// What a group's links open.
#[derive(Debug, Default)]
pub(super) struct LinkReach {
    /// Keys, and the versions that links are pinned to.
    pub(super) keys: BTreeMap<String, BTreeSet<Option<String>>>,
    /// Prefixes of renditions, whose line names no key.
    pub(super) prefixes: BTreeSet<String>,
    /// The ids of links, for a key value store.
    pub(super) link_ids: BTreeSet<String>,
    /// What all keys begin with.
    pub(super) common: Option<String>,
    /// Whether there are more objects than [`MAX_OBJECTS`].
    pub(super) is_cut: bool,
    /// Whether there are more links than [`MAX_LINK_IDS`].
    pub(super) are_ids_cut: bool,
    pub(super) recipients: HashSet<u64>,
}

impl LinkReach {
    fn add(&mut self, line: &PlanLine<'_>) {
        self.recipients.insert(short(&line.rid));
        match &self.common {
            None => self.common = Some(line.place().to_owned()),
            Some(common) => {
                let end = common_length(common, line.place());
                self.common = Some(common[..end].to_owned());
            }
        }
        if !self.link_ids.contains(&*line.link_id) {
            match self.link_ids.len() < MAX_LINK_IDS {
                true => drop(self.link_ids.insert(line.link_id.to_string())),
                false => self.are_ids_cut = true,
            }
        }
        let version = line.version.as_deref().map(ToOwned::to_owned);
        if line.key.is_none() {
            self.prefixes.insert(line.place().to_owned());
        } else if let Some(versions) = self.keys.get_mut(line.place()) {
            versions.insert(version);
        } else if self.keys.len() < MAX_OBJECTS {
            self.keys
                .insert(line.place().to_owned(), BTreeSet::from([version]));
        } else {
            self.is_cut = true;
        }
    }

    /// Whether another link opens an object that would be tagged.
    fn shares_version(&self, line: &PlanLine<'_>) -> bool {
        let versions = self.keys.get(line.place());
        versions.is_some_and(|versions| {
            // A link that is pinned to no version opens the current one, which may be any.
            line.version.is_none()
                || versions.contains(&None)
                || versions.contains(&line.version.as_deref().map(ToOwned::to_owned))
        })
    }

    /// Whether a statement of a policy names each object. It names their common prefix otherwise.
    pub(super) fn are_named(&self) -> bool {
        !self.is_cut && self.keys.len() + self.prefixes.len() <= MAX_NAMED
    }

    /// Whether another link opens an object that a statement about these names.
    fn shares_key(&self, line: &PlanLine<'_>) -> bool {
        if !self.are_named() {
            let common = self.common.as_deref().unwrap_or_default();
            return line.place().starts_with(common);
        }
        self.keys.contains_key(line.place())
            || self
                .prefixes
                .iter()
                .any(|prefix| line.place().starts_with(prefix.as_str()))
    }
}

fn common_length(one: &str, other: &str) -> usize {
    let same = one.bytes().zip(other.bytes());
    let length = same.take_while(|(one, other)| one == other).count();
    one.floor_char_boundary(length)
}

/// The first 64 bits of a recipient's id.
fn short(rid: &str) -> u64 {
    let digits = rid.get(..16).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or_default()
}

/// Links that are not meant, and die with a means.
#[derive(Debug, Default, Clone, Serialize, schemars::JsonSchema)]
pub(super) struct OtherLinks {
    pub(super) links: u64,
    pub(super) recipients: usize,
    #[serde(skip)]
    seen: HashSet<u64>,
}

impl OtherLinks {
    fn add(&mut self, line: &PlanLine<'_>) {
        self.links += 1;
        self.seen.insert(short(&line.rid));
        self.recipients = self.seen.len();
    }
}

/// What would die with each means of a group.
#[derive(Debug, Default)]
pub(super) struct Radius {
    pub(super) tag: OtherLinks,
    pub(super) keys: OtherLinks,
    pub(super) session: OtherLinks,
    pub(super) role: OtherLinks,
    pub(super) signer: OtherLinks,
    pub(super) bucket: OtherLinks,
}

/// The fields of a line that are read.
#[derive(Debug, Deserialize)]
struct PlanLine<'a> {
    #[serde(borrow)]
    ev: Cow<'a, str>,
    #[serde(borrow, default)]
    job: Cow<'a, str>,
    #[serde(borrow, default)]
    rid: Cow<'a, str>,
    #[serde(borrow, default)]
    connection: Cow<'a, str>,
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    bucket: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    prefix: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    link_id: Cow<'a, str>,
    #[serde(borrow, default)]
    access_key_id: Cow<'a, str>,
    expires_at: Option<Timestamp>,
}

impl PlanLine<'_> {
    /// The key, or the prefix of renditions.
    fn place(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.prefix)
    }

    /// Whether the line is of links to objects; links that the portal signed for visitors count if `opened`.
    fn is_of_links(&self, opened: bool) -> bool {
        match &*self.ev {
            "issue" | "gallery" | "manifest" | "zip" | "renditions" => true,
            "opened" | "probe" => opened,
            _ => false,
        }
    }

    fn is_meant(&self, query: &LinkQuery) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let is_object = query.object.as_ref().is_none_or(|(bucket, key)| {
            *bucket == self.bucket && self.key.as_deref() == Some(key.as_str())
        });
        let is_of_job = query
            .job
            .as_deref()
            .is_none_or(|job| job == self.job || is_part_of(&self.job, job));
        is_of_job && is(&query.rid, &self.rid) && is(&query.link_id, &self.link_id) && is_object
    }

    fn answered_by(&self, config: &Config) -> AnsweredBy {
        if self.access_key_id == OF_PORTAL {
            return AnsweredBy::Portal;
        }
        let connection = config.connections.get(&*self.connection);
        let front = connection.and_then(|connection| connection.cloudfront.as_ref());
        // The connection can have another distribution by now, or none.
        let is_of_front = is_key_pair(&self.access_key_id)
            || front.is_some_and(|front| front.key_pair_id == self.access_key_id);
        match is_of_front {
            true => AnsweredBy::CloudFront,
            false => AnsweredBy::S3,
        }
    }

    fn group(&self, config: &Config) -> GroupKey {
        let answered_by = self.answered_by(config);
        let of_s3 = |text: &Option<Cow<'_, str>>| {
            let text = text.as_deref().filter(|_| answered_by == AnsweredBy::S3);
            text.map(ToOwned::to_owned)
        };
        let (role, session) = (of_s3(&self.role), of_s3(&self.session));
        // Each session of a role has keys of its own, which nothing can name.
        let signer = match &role {
            Some(_) => String::new(),
            None => self.access_key_id.to_string(),
        };
        GroupKey {
            answered_by,
            connection: self.connection.to_string(),
            bucket: self.bucket.to_string(),
            signer,
            role,
            session,
        }
    }
}

/// Whether a job is a part of another.
fn is_part_of(part: &str, job: &str) -> bool {
    let whole = part.parse::<JobId>().ok().and_then(|part| part.whole());
    whole.is_some_and(|whole| whole.as_str() == job)
}

/// Whether an id has the form of a CloudFront public key: a former one of a distribution. Keys of S3 begin with AKIA or ASIA.
fn is_key_pair(id: &str) -> bool {
    let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    id.starts_with("APKA") || (id.len() == 14 && id.starts_with('K') && id.bytes().all(is_upper))
}

/// The links that a revocation is about.
#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub(super) struct RevocationPlan {
    pub(super) groups: Vec<LinkGroup>,
}

impl RevocationPlan {
    /// Reads the audit log for the links of a query that work at `now`. `all_means` adds, for each, what else would die with it;
    /// it costs another reading of the log.
    pub(super) fn of(
        query: &LinkQuery,
        config: &Config,
        log: &ReadLog,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let reading = PlanReading {
            query,
            config,
            log,
            now,
            // Of an object, all links are meant, those too that visitors of the portal got.
            opened: query.object.is_some(),
        };
        let mut groups = reading.groups()?;
        if !groups.is_empty() {
            let radii = reading.radii(&groups)?;
            for (group, radius) in groups.iter_mut().zip(radii) {
                group.means = means_of(group, radius, config, now);
            }
        }
        Ok(Self { groups })
    }

    /// Whether there is no link of this kind.
    pub(super) fn has(&self, answered_by: AnsweredBy) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.key.answered_by == answered_by)
    }
}

impl RevocationPlan {
    /// Whether S3 or a distribution answers links.
    pub(super) fn is_of_stores(&self) -> bool {
        self.has(AnsweredBy::S3) || self.has(AnsweredBy::CloudFront)
    }

    /// How many links of S3 and distributions open an object that is not among these.
    pub(super) fn links_without(&self, objects: &BTreeSet<TaggedObject>) -> u64 {
        let is_tagged = |group: &LinkGroup| {
            let reach = &group.reach;
            let of = |key: &str, version: &Option<String>| {
                objects.iter().any(|object| {
                    (object.bucket.as_str(), object.key.as_str(), &object.version)
                        == (group.key.bucket.as_str(), key, version)
                })
            };
            !reach.is_cut
                && reach.prefixes.is_empty()
                && reach
                    .keys
                    .iter()
                    .all(|(key, versions)| versions.iter().all(|version| of(key, version)))
        };
        let groups = self.groups.iter();
        groups
            .filter(|group| group.key.answered_by != AnsweredBy::Portal && !is_tagged(group))
            .map(|group| group.links)
            .sum()
    }
}

struct PlanReading<'a> {
    query: &'a LinkQuery,
    config: &'a Config,
    log: &'a ReadLog,
    now: Timestamp,
    opened: bool,
}

impl PlanReading<'_> {
    fn groups(&self) -> anyhow::Result<Vec<LinkGroup>> {
        let mut groups: BTreeMap<GroupKey, LinkGroup> = BTreeMap::new();
        self.each_live(self.query, |line, until| {
            if !line.is_of_links(self.opened) {
                return;
            }
            let key = line.group(self.config);
            let group = groups.entry(key.clone()).or_insert_with(|| LinkGroup {
                key,
                links: 0,
                recipients: 0,
                objects: 0,
                expires_at: until,
                until,
                means: Vec::new(),
                reach: LinkReach::default(),
            });
            group.links += 1;
            group.until = group.until.max(until);
            group.expires_at = group.until;
            group.reach.add(line);
        })?;
        let mut groups: Vec<LinkGroup> = groups.into_values().collect();
        for group in &mut groups {
            group.recipients = group.reach.recipients.len();
            group.objects = group.reach.keys.len() + group.reach.prefixes.len();
        }
        Ok(groups)
    }

    fn radii(&self, groups: &[LinkGroup]) -> anyhow::Result<Vec<Radius>> {
        let mut radii: Vec<Radius> = groups.iter().map(|_| Radius::default()).collect();
        self.each_live(&LinkQuery::default(), |line, _| {
            if !line.is_of_links(true) || line.is_meant(self.query) {
                return;
            }
            let of = line.group(self.config);
            for (LinkGroup { key, reach, .. }, radius) in groups.iter().zip(&mut radii) {
                let is_signed_alike = of.answered_by == key.answered_by && of.signer == key.signer;
                // A portal signs with the key of its connection when a link is opened.
                let is_signed_later =
                    of.answered_by == AnsweredBy::Portal && of.connection == key.connection;
                if is_signed_alike && of.role == key.role || is_signed_later {
                    radius.signer.add(line);
                }
                if key.answered_by != AnsweredBy::S3 {
                    continue;
                }
                // A denied object does not open by the portal or through a distribution either.
                if of.bucket == key.bucket && reach.shares_version(line) {
                    radius.tag.add(line);
                }
                // The links that a portal signs for visitors are presigned too.
                let is_presigned = of.answered_by != AnsweredBy::CloudFront;
                if is_presigned && of.bucket == key.bucket && reach.shares_key(line) {
                    radius.keys.add(line);
                }
                if of.answered_by != AnsweredBy::S3 {
                    continue;
                }
                if of.bucket == key.bucket {
                    radius.bucket.add(line);
                }
                if of.role == key.role {
                    radius.role.add(line);
                    if of.session == key.session {
                        radius.session.add(line);
                    }
                }
            }
        })?;
        Ok(radii)
    }

    /// Each line that a query finds, of links that have not ended.
    fn each_live(
        &self,
        query: &LinkQuery,
        mut found: impl FnMut(&PlanLine<'_>, Timestamp),
    ) -> anyhow::Result<()> {
        let field = Finder::new("\"expires_at\":\"");
        let of_portal = Finder::new("\"access_key_id\":\"portal\"");
        let has_moved = self.log.has_moved();
        // Instants of the log sort as texts, to the second. Most lines of a log are of links that have ended.
        let now = self.now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.log.each_line(query, |line| {
            let Some(at) = field.find(line.as_bytes()) else {
                return;
            };
            let begin = at + field.needle().len();
            let is_ended = line
                .get(begin..begin + now.len())
                .is_none_or(|end| end < now.as_str());
            // The end of the portal's links of a job can be moved.
            if is_ended && (!has_moved || of_portal.find(line.as_bytes()).is_none()) {
                return;
            }
            let Ok(line) = serde_json::from_str::<PlanLine<'_>>(line) else {
                return;
            };
            let moved = match line.access_key_id == OF_PORTAL {
                true => self.log.moved_end(&line.job),
                false => None,
            };
            let until = moved.or(line.expires_at);
            if let Some(until) = until.filter(|until| *until > self.now) {
                found(&line, until);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::means::Means;
    use super::*;

    fn line(text: &str) -> PlanLine<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_radius_of_a_statement_is_what_it_names() {
        let lines: Vec<String> = (0..=MAX_NAMED)
            .map(|n| format!(r#"{{"ev":"issue","key":"2026/{n}.pdf","link_id":"{n}"}}"#))
            .collect();
        let other = line(r#"{"ev":"issue","key":"2026/other.pdf"}"#);
        let mut reach = LinkReach::default();
        for text in &lines[..MAX_NAMED] {
            reach.add(&line(text));
        }
        assert!(reach.are_named() && !reach.shares_key(&other));
        reach.add(&line(&lines[MAX_NAMED]));
        assert!(!reach.are_named() && reach.shares_key(&other));
        assert!(!reach.shares_key(&line(r#"{"ev":"issue","key":"2025/other.pdf"}"#)));
    }

    #[test]
    fn links_of_the_parts_of_a_job_are_meant_with_it() {
        let query = LinkQuery {
            job: Some("weekly".to_owned()),
            ..LinkQuery::default()
        };
        for (job, is_meant) in [
            ("weekly", true),
            ("weekly.part.0123456789abcdef0123456789abcdef", true),
            ("weekly.part.0123", false),
            ("weekly-2", false),
        ] {
            let text = format!(r#"{{"ev":"issue","job":"{job}"}}"#);
            assert_eq!(line(&text).is_meant(&query), is_meant, "{job}");
        }
    }

    /// The plan against the links of the job `leaked`, at noon, by a log with these lines.
    fn plan_of(lines: &[String], moved: &[(&str, &str)]) -> RevocationPlan {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s.0001.jsonl"), lines.concat()).unwrap();
        let moved = moved
            .iter()
            .map(|(job, end)| ((*job).to_owned(), end.parse().unwrap()));
        let log = ReadLog::in_directory(dir.path(), moved.collect());
        let query = LinkQuery {
            job: Some("leaked".to_owned()),
            ..LinkQuery::default()
        };
        let now = "2026-11-29T12:00:00Z".parse().unwrap();
        RevocationPlan::of(&query, &Config::default(), &log, now).unwrap()
    }

    fn issued(job: &str, key: &str, access_key_id: &str, expires_at: &str) -> String {
        let key = serde_json::json!(key);
        let rid: u64 = job.bytes().map(u64::from).sum();
        format!(
            "{{\"v\":2,\"ev\":\"issue\",\"seq\":0,\"ts\":\"2026-11-29T10:00:00.000Z\",\"stream\":\"s\",\"job\":\"{job}\",\"rid\":\"{rid:016x}\",\"connection\":\"c\",\"bucket\":\"acme-reports\",\"key\":{key},\"link_id\":\"{job}\",\"expires_at\":\"{expires_at}\",\"access_key_id\":\"{access_key_id}\",\"prev\":\"x\"}}\n"
        )
    }

    #[test]
    fn links_of_the_portal_count_until_the_end_to_which_their_job_was_moved() {
        let (ended, ahead) = ("2026-11-29T11:00:00Z", "2026-11-29T13:00:00Z");
        let lines = [
            issued("leaked", "a.pdf", "AKIAIOSFODNN7EXAMPLE", ahead),
            issued("extended", "a.pdf", "portal", ended),
            issued("shortened", "a.pdf", "portal", ahead),
            issued("as-it-was", "a.pdf", "portal", ahead),
            // No command extends a link that S3 answers.
            issued("ended", "a.pdf", "AKIAIOSFODNN7EXAMPLE", ended),
            issued("extended", "b.pdf", "portal", ended),
        ];
        let moved = [("extended", ahead), ("shortened", ended), ("ended", ahead)];
        let plan = plan_of(&lines, &moved);
        assert_eq!(plan.groups.len(), 1);
        let others = |wanted: Means| {
            let mut all = plan.groups[0].means.iter();
            let found = all.find(|means| means.means == wanted).unwrap();
            (found.others.links, found.others.recipients)
        };
        assert_eq!(others(Means::Tag), (2, 2), "extended and as-it-was");
        assert_eq!(others(Means::DenyKeys), (2, 2));
        assert_eq!(others(Means::DeactivateKey), (3, 2), "b.pdf, too");
        // Links of S3 alone are presigned with an age.
        assert_eq!(others(Means::DenyAge), (0, 0));
        // An extended job can be the target, too.
        let of_portal = plan_of(&[issued("leaked", "a.pdf", "portal", ended)], &[]);
        assert!(of_portal.groups.is_empty());
        let lines = [issued("leaked", "a.pdf", "portal", ended)];
        let extended = plan_of(&lines, &[("leaked", ahead)]);
        assert_eq!(
            extended.groups[0].expires_at,
            ahead.parse::<Timestamp>().unwrap()
        );
    }

    #[test]
    fn a_plan_names_a_key_with_the_characters_of_policies_alone() {
        let hostile = "${aws:username}/w?at*$.pdf";
        let key = "AKIAIOSFODNN7EXAMPLE";
        let ahead = "2026-11-29T13:00:00Z";
        let lines = [
            issued("leaked", hostile, key, ahead),
            issued("neighbour", "ann/what-2$.pdf", key, ahead),
        ];
        let plan = plan_of(&lines, &[]);
        let means = plan.groups[0].means.iter();
        let statements: Vec<_> = means.filter_map(|means| means.statement.as_ref()).collect();
        assert_eq!(statements.len(), 2, "of keys and of the age");
        for statement in statements {
            let of_keys = statement["Sid"].as_str().unwrap().contains("Keys");
            let expected = match of_keys {
                true => serde_json::json!([
                    "arn:aws:s3:::acme-reports/${$}{aws:username}/w${?}at${*}${$}.pdf"
                ]),
                false => serde_json::json!("arn:aws:s3:::acme-reports/*"),
            };
            assert_eq!(statement["Resource"], expected);
        }
        let mut means = plan.groups[0].means.iter();
        let of_keys = means.find(|means| means.means == Means::DenyKeys).unwrap();
        assert_eq!(of_keys.others.links, 0);
        let commands = of_keys.commands.join("\n");
        assert!(
            commands.contains("the policy must have the version 2012-10-17"),
            "{commands}"
        );
    }
}
