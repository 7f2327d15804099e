//! What jobs may ask for: the `[[allow]]` rules of the configuration.
//!
//! A queue message is untrusted. Everything is denied unless an `[[allow]]` rule permits it, and one rule must permit the
//! whole job: rules for two customers never combine to a mail with the files of one customer to the other.

use std::path::PathBuf;
use std::sync::Arc;

use globset::GlobMatcher;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::lists::{ListError, RecipientList};
use super::{ExpiryGuard, Objects, PublishTarget};
use crate::job::envelope::EventRule;
use crate::job::glob;
use crate::job::{
    Bucket, ConnectionName, ContentDisposition, EmailOrder, FileName, Job, ListName, OnDoubt,
    OpenMode, Prefix, Recipient, RelayName, SignIn, Via,
};
use crate::quantity::Span;
use crate::text::charset::TextCharset;
use crate::text::percent;

/// What to do about objects that cannot be linked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnlinkable {
    /// Leave them out and name them in the mail, the page and the list.
    #[default]
    Skip,
    /// Reject the job.
    Refuse,
}

/// The name of files where a job gives none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultName {
    /// As the `Content-Disposition` that is stored with the file says.
    Stored,
}

/// How links are made where a job does not say it.
#[derive(Debug, Clone, Copy)]
pub struct LinkDefaults {
    /// How long a link is valid.
    pub expires_in: Span,
    /// What to do when it cannot be valid for so long.
    pub expiry_guard: ExpiryGuard,
    /// What a browser does with the file.
    pub disposition: ContentDisposition,
    /// The name under which files are saved, if it is the stored one.
    pub filename: Option<DefaultName>,
    /// The charset of texts that are shown and whose own is not known.
    pub text_charset: TextCharset,
    /// Whether each recipient gets links of their own.
    pub per_recipient: bool,
    /// What to do about objects that cannot be linked.
    pub on_unlinkable: OnUnlinkable,
    /// Whether a link opens the version that was current when it was made.
    pub pin_version: bool,
    /// Whether each listed object is checked with a HEAD request before it is linked.
    pub preflight: bool,
}

/// What jobs may ask for, and the defaults.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The rules; the first that permits a job applies.
    pub rules: Vec<AllowRule>,
    /// The defaults.
    pub links: LinkDefaults,
    /// How an in-doubt delivery is resolved.
    pub on_doubt: OnDoubt,
    /// Links on one page of a gallery.
    pub page_size: usize,
    /// The time zone of jobs that name none.
    pub time_zone: TimeZone,
    /// The domain of the sender, to which replies may always go.
    pub sender_domain: String,
    /// The rules by which events start jobs: nothing may be published where they match.
    pub triggers: Vec<EventRule>,
    /// The place of a page that the job did not ask for, if the job's rule names no bucket.
    pub default_publish: Option<PublishTarget>,
    /// The directories that a web server serves, and the URL of each, with a slash at its end.
    pub base_urls: Vec<(PathBuf, String)>,
    /// What jobs may ask of the portal, if there is one.
    pub portal: Option<PortalRules>,
    /// The lists of recipients.
    pub lists: Vec<RecipientList>,
}

/// What jobs may ask of the portal, and the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalRules {
    /// The URL of the portal, without a slash at its end.
    pub url: Arc<str>,
    /// How visitors sign in at least.
    pub sign_in: SignIn,
    /// What a link answers first, where a job does not say it.
    pub open: OpenMode,
    /// The address that pages name for questions.
    pub contact: Option<String>,
    /// Whether visitors can sign in at an OIDC issuer.
    pub has_oidc: bool,
    /// Whether a visitor who signed in sees the files of all jobs.
    pub my_files: bool,
    /// Whether files pass through the portal.
    pub streams: bool,
}

/// An `[[allow]]` rule; its conditions apply together.
#[derive(Debug, Clone)]
pub struct AllowRule {
    /// The connection that signs.
    pub connection: ConnectionName,
    /// The bucket of the objects.
    pub bucket: Bucket,
    /// The prefix of their keys.
    pub prefix: Prefix,
    /// The allowed recipients, as patterns for the canonical address.
    pub recipients: Vec<GlobMatcher>,
    /// The lists of recipients that jobs may use. Each recipient of a list must be allowed besides.
    pub lists: Vec<ListName>,
    /// Where replies may go besides the recipients and the sender's own domain.
    pub reply_to: Vec<GlobMatcher>,
    /// The allowed relays of mails; the first is the default of jobs that name none.
    pub relays: Vec<RelayName>,
    /// Where pages and lists may be published.
    pub publish: Vec<PublishRule>,
    /// Which services may answer the links.
    pub via: Vec<Via>,
    /// How visitors of the portal sign in at least.
    pub sign_in: SignIn,
    /// The longest lifetime of a link.
    pub max_expires_in: Span,
    /// The most links of one job.
    pub max_links: u64,
}

/// A place where pages and lists may be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishRule {
    /// Below a prefix of a bucket: `s3://bucket/prefix`.
    Bucket(Bucket, String),
    /// In or below a directory: `dir:/srv/galleries`.
    Dir(PathBuf),
}

/// The recipients of a job that a rule does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// The index of the `[[allow]]` rule, from 0.
    pub rule: usize,
    /// The rule's bucket and prefix.
    pub place: String,
    /// The recipients that it does not allow.
    pub recipients: Vec<Recipient>,
}

/// Why the rules do not allow a job. It is a decision of the configuration and not a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule is for the place.
    #[error(
        "no [[allow]] rule of the configuration lets connection {connection} hand out {place}; add one if this is wanted"
    )]
    Source {
        /// The connection.
        connection: ConnectionName,
        /// The bucket and the prefix or key.
        place: String,
    },
    /// The rules for the place do not allow this recipient. The address is masked.
    #[error(
        "the [[allow]] rules for {place} do not let it go to the recipient {masked} (email.{list}[{index}])"
    )]
    Recipient {
        /// The bucket and the prefix or key.
        place: String,
        /// The job's list with the recipient.
        list: &'static str,
        /// The recipient's index in that list.
        index: usize,
        /// The address, masked.
        masked: String,
    },
    /// The rules for the place do not allow the address of a rehearsal. The address is masked.
    #[error(
        "the [[allow]] rules for {place} do not let a rehearsal go to {masked} (rehearsal.to): name the address in the rule's recipients, or stop the daemon and use `handout job run --rehearse`, which needs no rule"
    )]
    Rehearsal {
        /// The bucket and the prefix or key.
        place: String,
        /// The address, masked.
        masked: String,
    },
    /// The rules for the place do not allow the list.
    #[error(
        "the [[allow]] rules for {place} do not let its recipients come from the list {list} (email.to.list): name it in the rule's lists"
    )]
    List {
        /// The bucket and the prefix or key.
        place: String,
        /// The list.
        list: ListName,
    },
    /// The rules for the recipients do not allow this address for replies. The address is masked.
    #[error(
        "the [[allow]] rules for {place} do not let answers go to {masked} (email.reply_to): answers quote live links"
    )]
    ReplyTo {
        /// The bucket and the prefix or key.
        place: String,
        /// The address, masked.
        masked: String,
    },
    /// The rules for the recipients do not allow this relay.
    #[error(
        "the [[allow]] rules for {place} do not let its mails go through the relay {relay} (email.relay); configured: {known}"
    )]
    Relay {
        /// The bucket and the prefix or key.
        place: String,
        /// The relay.
        relay: String,
        /// The relays that are allowed.
        known: String,
    },
    /// The rules for the place do not allow links that this service answers.
    #[error(
        "the [[allow]] rules for {place} do not let {via} answer its links (links.via); allowed: {known}"
    )]
    Via {
        /// The bucket and the prefix or key.
        place: String,
        /// The service.
        via: &'static str,
        /// The services that are allowed.
        known: String,
    },
    /// The rule asks for a sign-in, and the job for links that open without.
    #[error(
        "the [[allow]] rule for {place} asks for a sign-in ({least:?}), which only the portal asks for, and links by {via} open for everyone who has them: give the job \"links\": {{\"via\": \"portal\"}}"
    )]
    ViaWithoutSignIn {
        /// The bucket and the prefix or key.
        place: String,
        /// The service.
        via: &'static str,
        /// What the rule asks for.
        least: &'static str,
    },
    /// The job asks for links of the portal, and the configuration has no portal.
    #[error(
        "the job's field links.via asks for the portal, and there is none: set portal.public_url in the configuration"
    )]
    NoPortal,
    /// The job asks for a weaker sign-in than the rule or the portal.
    #[error(
        "the job's links.sign_in is {asked:?}, and its [[allow]] rule or portal.sign_in asks for {least:?}: a job may ask for more, not for less"
    )]
    SignIn {
        /// What the job asks for.
        asked: &'static str,
        /// What is asked at least.
        least: &'static str,
    },
    /// The job asks for a sign-in at an OIDC issuer, and the configuration has none.
    #[error("the job's links.sign_in is \"oidc\", and the configuration has no [[portal.oidc]]")]
    NoOidc,
    /// The job leaves the ZIP to the portal, through which no files pass.
    #[error(
        "the job's field zip.publish is missing, and only with portal.deliver = \"stream\" the portal makes ZIPs as they are downloaded: name a bucket in zip.publish"
    )]
    NoStreams,
    /// No visitor could sign in to the links.
    #[error(
        "links of this job ask for a sign-in, and the job has no recipients who could sign in: name them in email.to"
    )]
    SignInOfNobody,
    /// The job asks to resend in-doubt mails where the configuration holds them.
    #[error(
        "the job's on_doubt is \"resend\", and the configuration's ledger.on_doubt \"hold\": a job may set only the stricter value"
    )]
    OnDoubt,
    /// The published object would itself start a job.
    #[error(
        "publishing to {target} would trigger an [[on_event]] rule, and the job of that rule would publish and trigger it again"
    )]
    Loop {
        /// Where it was to be published.
        target: String,
    },
    /// The rules for the place do not allow publishing there.
    #[error("the [[allow]] rules for {place} do not let it be published to {target}")]
    Publish {
        /// The bucket and the prefix or key.
        place: String,
        /// Where it was to be published.
        target: String,
    },
    /// More links than the rule allows.
    #[error(
        "the job makes more than {limit} links, the most that its [[allow]] rule permits (max_links)"
    )]
    TooManyLinks {
        /// How many it may make.
        limit: u64,
    },
    /// No object matches, and the job requires one.
    #[error("there are no objects to hand out under {place} (from.when_empty = \"refuse\")")]
    Empty {
        /// Where no object was found.
        place: String,
    },
    /// An object cannot be linked, and the configuration says that all must be.
    #[error("{place} cannot be linked: {reason} (on_unlinkable = \"refuse\")")]
    Unlinkable {
        /// The object.
        place: String,
        /// Why.
        reason: String,
    },
    /// Too many objects for an order that needs all of them at once.
    #[error(
        "{place} has more than {limit} objects, too many for from.order = {order:?}: use \"key\", or a tighter prefix"
    )]
    TooManyToSort {
        /// Where they are.
        place: String,
        /// How many can be sorted.
        limit: usize,
        /// The order.
        order: String,
    },
}

impl Policy {
    /// The time zone of a job's dates and times.
    pub fn time_zone<'a>(&'a self, job: &'a Job) -> &'a TimeZone {
        job.time_zone.as_ref().unwrap_or(&self.time_zone)
    }

    /// The name under which a job has its files saved, if it is not their own.
    pub(super) fn filename(&self, job: &Job) -> Option<FileName> {
        let default = self
            .links
            .filename
            .map(|DefaultName::Stored| FileName::Stored);
        job.links.filename.clone().or(default)
    }

    /// Finds the rule that permits the whole job.
    pub(super) fn allow<'a>(
        &self,
        job: &Job,
        objects: &Objects,
        places: &(impl Iterator<Item = &'a PublishTarget> + Clone),
    ) -> Result<&AllowRule, Refusal> {
        let place = describe(&job.from.bucket, objects);
        if let Some(target) = places.clone().find(|target| self.triggers_itself(target)) {
            return Err(Refusal::Loop {
                target: target.to_string(),
            });
        }
        let mut nearest = Refusal::Source {
            connection: job.from.connection.clone(),
            place: place.clone(),
        };
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.allows_source(job, objects))
        {
            match rule.objection(job, &place, &self.sender_domain, places.clone()) {
                None => return Ok(rule),
                Some(objection) => nearest = objection,
            }
        }
        Err(nearest)
    }

    /// The list that a job names, if a rule for its bucket lets jobs use it: it is read before a part of the job is planned.
    ///
    /// # Errors
    /// No such rule has the list, or the configuration has no such list.
    pub fn list(&self, job: &Job, name: &ListName) -> Result<&RecipientList, ListError> {
        let bucket = &job.from.bucket;
        let mut rules = self
            .rules
            .iter()
            .filter(|rule| rule.connection == job.from.connection && rule.bucket == *bucket);
        if !rules.any(|rule| rule.lists.contains(name)) {
            return Err(ListError::Refused(Refusal::List {
                place: format!("s3://{bucket}"),
                list: name.clone(),
            }));
        }
        let found = self.lists.iter().find(|list| list.name == *name);
        found.ok_or_else(|| ListError::Unknown { list: name.clone() })
    }

    /// The relay of a job that names none, if it is known before the plan is made: all rules about its bucket have the same.
    pub fn usual_relay(&self, job: &Job) -> Option<RelayName> {
        let about = |rule: &&AllowRule| {
            rule.connection == job.from.connection && rule.bucket == job.from.bucket
        };
        let mut relays = self
            .rules
            .iter()
            .filter(about)
            .map(|rule| rule.relays.first());
        let usual = relays.next()?;
        let agree = relays.all(|relay| relay == usual);
        agree.then(|| usual.cloned().unwrap_or_default())
    }

    /// The recipients that the rules for a job's source do not allow, rule by rule; empty if a single rule allows all of them.
    pub(super) fn kept_out(&self, job: &Job, objects: &Objects) -> Vec<KeptOut> {
        let people: Vec<&Recipient> = job.email.iter().flat_map(EmailOrder::recipients).collect();
        let mut verdicts = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.allows_source(job, objects) {
                continue;
            }
            let strangers = people.iter().filter(|person| !rule.allows_reader(person));
            let recipients: Vec<Recipient> = strangers.copied().cloned().collect();
            if recipients.is_empty() {
                return Vec::new();
            }
            verdicts.push(KeptOut {
                rule: index,
                place: format!("s3://{}/{}", rule.bucket, rule.prefix),
                recipients,
            });
        }
        verdicts
    }

    /// The place of a page that the job did not ask for: the first bucket in which the rule allows publishing, or else the first
    /// directory that a web server serves, or else the configuration's default. Other directories are not used, since a mail
    /// cannot link their files.
    pub(super) fn spare_place(&self, rule: &AllowRule) -> Option<PublishTarget> {
        let buckets = rule.publish.iter().filter_map(PublishRule::bucket);
        let dirs = rule.publish.iter().filter_map(PublishRule::dir);
        let dirs = dirs.map(|place| self.addressed(place));
        let dirs = dirs.filter(PublishTarget::is_linked);
        let mut places = buckets.chain(dirs).chain(self.default_publish.clone());
        places.find(|place| !self.triggers_itself(place))
    }

    /// The place with the URL of its directory, if a web server serves that or a directory above it; of several, the nearest.
    pub(super) fn addressed(&self, place: PublishTarget) -> PublishTarget {
        let PublishTarget::Dir { asked, allowed, .. } = place else {
            return place;
        };
        let served = self.base_urls.iter();
        let above = served.filter_map(|(dir, base)| Some((base, asked.strip_prefix(dir).ok()?)));
        let nearest = above.min_by_key(|(_, below)| below.components().count());
        let url = nearest.map(|(base, below)| {
            let folders = below.iter().map(|folder| folder.to_string_lossy());
            let folders = folders.map(|folder| percent::encode(&folder, b"") + "/");
            base.clone() + &folders.collect::<String>()
        });
        PublishTarget::Dir {
            asked,
            allowed,
            url,
        }
    }

    /// Whether a page put there would be an event that starts a job.
    pub(crate) fn triggers_itself(&self, target: &PublishTarget) -> bool {
        let published = [
            "index.html",
            "page-1.html",
            "manifest.csv",
            "manifest.jsonl",
            "urls.txt",
            "aria2.txt",
        ];
        self.triggers_by(target, &published)
    }

    /// The prefixes below the one that a job lists in which jobs may publish. A job that names such a prefix, or one inside of it, means it.
    pub(super) fn published_within(&self, bucket: &Bucket, objects: &Objects) -> Vec<String> {
        let Objects::Under(listed, _) = objects else {
            return Vec::new();
        };
        let rules = self.rules.iter().flat_map(|rule| &rule.publish);
        let places = rules.filter_map(PublishRule::bucket);
        let places = places.chain(self.default_publish.clone());
        let below = places.filter_map(|place| match place {
            PublishTarget::Bucket(of, prefix) if of == *bucket => Some(prefix.to_string()),
            _ => None,
        });
        let listed = listed.as_str();
        let mut below: Vec<String> = below
            .filter(|prefix| prefix.len() > listed.len() && prefix.starts_with(listed))
            .collect();
        below.sort_unstable();
        below.dedup();
        below
    }

    /// Whether a file of one of these names, put there, would be an event that starts a job.
    pub(super) fn triggers_by(&self, target: &PublishTarget, names: &[&str]) -> bool {
        let PublishTarget::Bucket(bucket, prefix) = target else {
            return false;
        };
        let folder = "0".repeat(32);
        let keys = names.iter().map(|name| format!("{prefix}{folder}/{name}"));
        let keys: Vec<String> = keys.collect();
        self.triggers
            .iter()
            .any(|rule| rule.bucket == *bucket && keys.iter().any(|key| rule.key.is_match(key)))
    }

    /// The portal of an allowed job, and how its visitors sign in.
    pub(super) fn portal(
        &self,
        job: &Job,
        rule: &AllowRule,
    ) -> Result<(&PortalRules, SignIn), Refusal> {
        let portal = self.portal.as_ref().ok_or(Refusal::NoPortal)?;
        let least = portal.sign_in.max(rule.sign_in);
        let sign_in = job.links.sign_in.unwrap_or(least);
        if sign_in < least {
            return Err(Refusal::SignIn {
                asked: sign_in.word(),
                least: least.word(),
            });
        }
        if sign_in == SignIn::Oidc && !portal.has_oidc {
            return Err(Refusal::NoOidc);
        }
        if sign_in != SignIn::None && job.email.is_none() {
            return Err(Refusal::SignInOfNobody);
        }
        Ok((portal, sign_in))
    }

    /// Rejects a ZIP that only the portal could make, unless files pass through it.
    pub(super) fn check_streams(&self) -> Result<(), Refusal> {
        match self.portal.as_ref().is_some_and(|portal| portal.streams) {
            true => Ok(()),
            false => Err(Refusal::NoStreams),
        }
    }

    /// The requested lifetime of links: the job's, or the default within the rule's limit.
    pub(super) fn expires_in(&self, job: &Job, rule: &AllowRule) -> Span {
        job.links
            .expires_in
            .unwrap_or_else(|| self.links.expires_in.min(rule.max_expires_in))
    }
}

impl AllowRule {
    fn allows_source(&self, job: &Job, objects: &Objects) -> bool {
        let allows = |key: &str| key.starts_with(self.prefix.as_str());
        self.connection == job.from.connection
            && self.bucket == job.from.bucket
            && match objects {
                Objects::Under(prefix, _) => allows(prefix.as_str()),
                Objects::Named(keys) => keys.iter().all(|key| allows(key.as_str())),
            }
    }

    /// Why the rule does not permit the job, apart from its source.
    fn objection<'a>(
        &self,
        job: &Job,
        place: &str,
        sender_domain: &str,
        mut targets: impl Iterator<Item = &'a PublishTarget>,
    ) -> Option<Refusal> {
        let list = job.part.as_ref().and_then(|part| part.list.as_ref());
        if let Some(list) = list.filter(|list| !self.lists.contains(list)) {
            return Some(Refusal::List {
                place: place.to_owned(),
                list: list.clone(),
            });
        }
        let lists = job
            .email
            .iter()
            .flat_map(|email| [("to", &email.to), ("cc", &email.cc)]);
        let people = lists.flat_map(|(list, people)| {
            let numbered = people.iter().enumerate();
            numbered.map(move |(index, recipient)| (list, index, recipient))
        });
        for (list, index, recipient) in people {
            if !self.allows_reader(recipient) {
                return Some(Refusal::Recipient {
                    place: place.to_owned(),
                    list,
                    index,
                    masked: recipient.masked(),
                });
            }
        }
        let rehearsal = job.rehearsal.as_ref().map(|rehearsal| &rehearsal.to);
        if let Some(to) = rehearsal.filter(|to| !self.allows_reader(to)) {
            return Some(Refusal::Rehearsal {
                place: place.to_owned(),
                masked: to.masked(),
            });
        }
        let reply_to = job.email.as_ref().and_then(|email| email.reply_to.as_ref());
        if let Some(reply_to) =
            reply_to.filter(|reply_to| !self.allows_answers(reply_to, sender_domain))
        {
            return Some(Refusal::ReplyTo {
                place: place.to_owned(),
                masked: reply_to.masked(),
            });
        }
        if self.sign_in != SignIn::None && job.links.via != Via::Portal {
            return Some(Refusal::ViaWithoutSignIn {
                place: place.to_owned(),
                via: job.links.via.word(),
                least: self.sign_in.word(),
            });
        }
        if !self.via.contains(&job.links.via) {
            let known: Vec<&str> = self.via.iter().map(|via| via.word()).collect();
            return Some(Refusal::Via {
                place: place.to_owned(),
                via: job.links.via.word(),
                known: known.join(", "),
            });
        }
        let asked = job.email.as_ref().map(|email| email.relay.as_ref());
        if asked.is_some_and(|asked| self.relay(asked).is_none()) {
            let known: Vec<&str> = self.relays.iter().map(RelayName::as_str).collect();
            return Some(Refusal::Relay {
                place: place.to_owned(),
                relay: asked
                    .flatten()
                    .map_or("default", RelayName::as_str)
                    .to_owned(),
                known: known.join(", "),
            });
        }
        let target = targets.find(|target| !self.publish.iter().any(|rule| rule.allows(target)))?;
        Some(Refusal::Publish {
            place: place.to_owned(),
            target: target.to_string(),
        })
    }

    /// The rule's relay of that name, or its first relay if `asked` is `None`.
    pub(super) fn relay(&self, asked: Option<&RelayName>) -> Option<&RelayName> {
        let is_asked = |relay: &&RelayName| asked.is_none_or(|asked| asked == *relay);
        self.relays.iter().find(is_asked)
    }

    fn allows_reader(&self, recipient: &Recipient) -> bool {
        names(&self.recipients, recipient)
    }

    fn allows_answers(&self, reply_to: &Recipient, sender_domain: &str) -> bool {
        let is_senders = reply_to
            .address
            .domain()
            .eq_ignore_ascii_case(sender_domain);
        (is_senders && !reply_to.must_be_named())
            || names(&self.recipients, reply_to)
            || names(&self.reply_to, reply_to)
    }
}

/// Whether any of the patterns allows an address. An address that a mail server may route is allowed only literally.
fn names(patterns: &[GlobMatcher], recipient: &Recipient) -> bool {
    let address = recipient.canonical_address();
    let must_be_named = recipient.must_be_named();
    patterns.iter().any(|pattern| {
        pattern.is_match(&address) && (!must_be_named || glob::is_literal(pattern.glob().glob()))
    })
}

impl AllowRule {
    /// Sets the allowed directory of a place to the rule's directory that contains it; of several, to the nearest.
    pub(super) fn confine(&self, mut place: PublishTarget) -> PublishTarget {
        let PublishTarget::Dir { asked, allowed, .. } = &mut place else {
            return place;
        };
        let dirs = self.publish.iter().filter_map(|rule| match rule {
            PublishRule::Dir(dir) if asked.starts_with(dir) => Some(dir),
            PublishRule::Dir(_) | PublishRule::Bucket(..) => None,
        });
        if let Some(dir) = dirs.max_by_key(|dir| dir.components().count()) {
            allowed.clone_from(dir);
        }
        place
    }
}

impl PublishRule {
    /// The bucket and prefix of the rule, unless it is about a directory.
    pub fn bucket(&self) -> Option<PublishTarget> {
        match self {
            Self::Bucket(bucket, prefix) => {
                Some(PublishTarget::Bucket(bucket.clone(), prefix.parse().ok()?))
            }
            Self::Dir(_) => None,
        }
    }

    /// The directory of the rule, unless it is about a bucket.
    fn dir(&self) -> Option<PublishTarget> {
        match self {
            Self::Bucket(..) => None,
            Self::Dir(dir) => Some(PublishTarget::Dir {
                asked: dir.clone(),
                allowed: dir.clone(),
                url: None,
            }),
        }
    }

    fn allows(&self, place: &PublishTarget) -> bool {
        match (self, place) {
            (Self::Bucket(bucket, prefix), PublishTarget::Bucket(asked, asked_prefix)) => {
                bucket == asked && asked_prefix.as_str().starts_with(prefix.as_str())
            }
            (Self::Dir(dir), PublishTarget::Dir { asked, .. }) => asked.starts_with(dir),
            (Self::Bucket(..), PublishTarget::Dir { .. })
            | (Self::Dir(_), PublishTarget::Bucket(..)) => false,
        }
    }
}

/// Names a place for an error: `s3://bucket/prefix`, or the first of the keys.
pub(crate) fn describe(bucket: &Bucket, objects: &Objects) -> String {
    match objects {
        Objects::Under(prefix, _) => format!("s3://{bucket}/{prefix}"),
        Objects::Named(keys) => match keys.as_slice() {
            [key] => format!("s3://{bucket}/{key}"),
            [key, rest @ ..] => format!("s3://{bucket}/{key} and {} more", rest.len()),
            [] => format!("s3://{bucket}"),
        },
    }
}
