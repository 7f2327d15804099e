//! What a job may ask: the `[[allow]]` rules of the configuration.
//!
//! A queue message is untrusted. Nothing is allowed that no rule allows, and one rule must allow the whole job:
//! two rules for two customers never add up to a mail of one's files to the other.

use std::path::PathBuf;

use globset::GlobMatcher;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{ExpiryGuard, Objects, PublishTarget};
use crate::job::envelope::EventRule;
use crate::job::glob;
use crate::job::{
    Bucket, ConnectionName, ContentDisposition, EmailOrder, Job, OnDoubt, Prefix, Recipient,
    RelayName,
};
use crate::quantity::Span;

/// What to do about objects that cannot be linked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnlinkable {
    /// Leave them out and say so in the mail, the page and the list.
    #[default]
    Skip,
    /// Refuse the job.
    Refuse,
}

/// How links are made where a job does not say it.
#[derive(Debug, Clone, Copy)]
pub struct LinkDefaults {
    /// How long a link works.
    pub expires_in: Span,
    /// What to do when it cannot live so long.
    pub expiry_guard: ExpiryGuard,
    /// What a browser does with it.
    pub disposition: ContentDisposition,
    /// Whether each recipient gets links of their own.
    pub per_recipient: bool,
    /// What to do about objects that cannot be linked.
    pub on_unlinkable: OnUnlinkable,
    /// Whether a link gives what was there when it was made.
    pub pin_version: bool,
    /// Whether each listed object is looked at before it is linked.
    pub preflight: bool,
}

/// What jobs may ask, and what they get when they ask nothing.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The rules; the first that allows a job is the one that counts.
    pub rules: Vec<AllowRule>,
    /// The defaults.
    pub links: LinkDefaults,
    /// What to do when nobody knows whether a mail left.
    pub on_doubt: OnDoubt,
    /// Links on one page of a gallery.
    pub page_size: usize,
    /// The time zone of jobs that name none.
    pub time_zone: TimeZone,
    /// The domain of the sender, to which answers may always go.
    pub sender_domain: String,
    /// Where an event starts a job: nothing may be published there.
    pub triggers: Vec<EventRule>,
    /// Where a page goes that no job asked for, if the job's rule names no bucket.
    pub default_publish: Option<PublishTarget>,
}

/// One rule: together, what a job may ask.
#[derive(Debug, Clone)]
pub struct AllowRule {
    /// Who signs.
    pub connection: ConnectionName,
    /// From which bucket.
    pub bucket: Bucket,
    /// Under which prefix.
    pub prefix: Prefix,
    /// To whom; matched against the canonical address.
    pub recipients: Vec<GlobMatcher>,
    /// Where answers may go besides the recipients and the sender's own domain.
    pub reply_to: Vec<GlobMatcher>,
    /// Through which relays mails may go; the first is that of jobs that name none.
    pub relays: Vec<RelayName>,
    /// Where pages and lists may go.
    pub publish: Vec<PublishRule>,
    /// The longest that a link may live.
    pub max_expires_in: Span,
    /// The most links of one job.
    pub max_links: u64,
}

/// A place where pages and lists may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishRule {
    /// Below a prefix of a bucket: `s3://bucket/prefix`.
    Bucket(Bucket, String),
    /// In or below a directory: `dir:/srv/galleries`.
    Dir(PathBuf),
}

/// Those whom a rule keeps out of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// Which of the `[[allow]]` rules, from 0.
    pub rule: usize,
    /// What the rule is about.
    pub place: String,
    /// Whom it does not let in.
    pub recipients: Vec<Recipient>,
}

/// Why a job is not allowed. Nothing failed: somebody decided so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule speaks of the place.
    #[error(
        "no [[allow]] rule of the configuration lets connection {connection} hand out {place}; add one if this is wanted"
    )]
    Source {
        /// The connection.
        connection: ConnectionName,
        /// The bucket and the prefix or key.
        place: String,
    },
    /// A rule allows the place, but not this reader. The address is masked.
    #[error(
        "the [[allow]] rules for {place} do not let it go to the recipient {masked} (email.{list}[{index}])"
    )]
    Recipient {
        /// The bucket and the prefix or key.
        place: String,
        /// In which list of the job.
        list: &'static str,
        /// Which of its people.
        index: usize,
        /// The address, masked.
        masked: String,
    },
    /// A rule allows the recipients, but not that their answers go there. The address is masked.
    #[error(
        "the [[allow]] rules for {place} do not let answers go to {masked} (email.reply_to): answers quote live links"
    )]
    ReplyTo {
        /// The bucket and the prefix or key.
        place: String,
        /// The address, masked.
        masked: String,
    },
    /// A rule allows the recipients, but not that their mails go this way.
    #[error(
        "the [[allow]] rules for {place} do not let its mails go through the relay {relay} (email.relay); there are: {known}"
    )]
    Relay {
        /// The bucket and the prefix or key.
        place: String,
        /// The relay.
        relay: String,
        /// Those through which they may go.
        known: String,
    },
    /// The job would have mails sent twice where the configuration would rather have them not sent.
    #[error(
        "the job's on_doubt is \"resend\", and the configuration's ledger.on_doubt \"hold\": a job can be stricter, and not laxer"
    )]
    OnDoubt,
    /// What would be published starts a job itself.
    #[error(
        "publishing to {target} would start a job by an [[on_event]] rule, and that job another"
    )]
    Loop {
        /// Where it should have gone.
        target: String,
    },
    /// A rule allows the place, but not publishing there.
    #[error("the [[allow]] rules for {place} do not let it be published to {target}")]
    Publish {
        /// The bucket and the prefix or key.
        place: String,
        /// Where it should have gone.
        target: String,
    },
    /// More links than the rule allows.
    #[error(
        "the job makes more than {limit} links, which is all that its [[allow]] rule lets it make (max_links)"
    )]
    TooManyLinks {
        /// How many it may make.
        limit: u64,
    },
    /// There is nothing to hand out, and the job says that there must be.
    #[error("nothing is there to hand out under {place} (from.when_empty = \"refuse\")")]
    Empty {
        /// Where nothing was found.
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

    /// Finds the rule that allows the whole job.
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

    /// The relay of a job that names none, if it can be told before the plan is drawn: all rules about its bucket agree.
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

    /// Which recipients the rules for a job's source keep out, rule by rule; nothing where one rule lets all of them in.
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

    /// Where a page goes that no job asked for: the first bucket in which the rule lets pages be published, or else the
    /// configuration's default. A directory is none, since no mail can link what is in it.
    pub(super) fn spare_place(&self, rule: &AllowRule) -> Option<PublishTarget> {
        let of_rule = rule.publish.iter().filter_map(PublishRule::bucket);
        let mut places = of_rule.chain(self.default_publish.clone());
        places.find(|place| !self.triggers_itself(place))
    }

    /// Whether a page put there would be an event that starts a job.
    pub(crate) fn triggers_itself(&self, target: &PublishTarget) -> bool {
        let PublishTarget::Bucket(bucket, prefix) = target else {
            return false;
        };
        let folder = "0".repeat(32);
        let published = [
            "index.html",
            "page-1.html",
            "manifest.csv",
            "manifest.jsonl",
            "urls.txt",
        ]
        .map(|name| format!("{prefix}{folder}/{name}"));
        self.triggers.iter().any(|rule| {
            rule.bucket == *bucket && published.iter().any(|key| rule.key.is_match(key))
        })
    }

    /// How long links shall live: what the job asks, or the default as far as the rule allows it.
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

    /// What stands against the job, apart from its source.
    fn objection<'a>(
        &self,
        job: &Job,
        place: &str,
        sender_domain: &str,
        mut targets: impl Iterator<Item = &'a PublishTarget>,
    ) -> Option<Refusal> {
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
        let reply_to = job.email.as_ref().and_then(|email| email.reply_to.as_ref());
        if let Some(reply_to) =
            reply_to.filter(|reply_to| !self.allows_answers(reply_to, sender_domain))
        {
            return Some(Refusal::ReplyTo {
                place: place.to_owned(),
                masked: reply_to.masked(),
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

    /// The relay that a job gets which asks for this one, or for none in particular.
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

/// Whether one of the patterns lets an address in. One that a mail server may route is let in by its literal self alone.
fn names(patterns: &[GlobMatcher], recipient: &Recipient) -> bool {
    let address = recipient.canonical_address();
    let must_be_named = recipient.must_be_named();
    patterns.iter().any(|pattern| {
        pattern.is_match(&address) && (!must_be_named || glob::is_literal(pattern.glob().glob()))
    })
}

impl AllowRule {
    /// Notes the directory of this rule that a place is in or below; of several, the one that is nearest.
    pub(super) fn confine(&self, mut place: PublishTarget) -> PublishTarget {
        let PublishTarget::Dir { asked, allowed } = &mut place else {
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
