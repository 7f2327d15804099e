//! The plan of a job, or the reason why the job is rejected.
//!
//! [`build`] is pure: it takes the job, the configuration's policy, the state of the signing credentials and the current
//! instant, and returns a [`Plan`] or a [`PlanError`]. When a job is rejected, nothing has been listed, signed or sent.

mod archive;
mod audience;
pub mod expiry;
pub mod lists;
mod origin_scope;
mod overflow;
pub mod policy;
mod topic;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use archive::ZipPlan;
pub use audience::Audience;
pub use expiry::{Aged, Bound, CredentialsEnd, ExpiryGuard, Issuer, Lifetime, Limit, Shortfall};
pub use origin_scope::{OriginScope, ResponseOverrides};
pub use overflow::Shortage;
pub use policy::{AllowRule, KeptOut, LinkDefaults, OnUnlinkable, Policy, PortalRules, Refusal};

use crate::bounds::{
    MAX_FILLED_NAME_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_LINES, MAX_SUBJECT_BYTES, MAX_TITLE_BYTES,
};
use crate::job::phrase::PhraseError;
use crate::job::place::{self, MAX_KEY_BYTES, NameError};
use crate::job::{
    Bucket, ConnectionName, ContentDisposition, EmailOrder, FileName, FilledMessage, Filter,
    GalleryOrder, Job, Key, Locale, ManifestFormat, OnDoubt, OpenMode, Order, Phrase, PhraseScope,
    Prefix, PublishTo, ReaderMessage, Recipient, RelayName, Selection, SignIn, TemplateName, Via,
    WhenEmpty,
};
use crate::text::charset::TextCharset;

/// How many objects a job in an order other than `key` may have without a limit, since they are sorted in memory.
pub const MAX_SORTED_OBJECTS: usize = 100_000;

/// The plan of a job.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The job.
    pub job: Arc<Job>,
    /// The time zone of its dates and times, unless a recipient has another.
    pub time_zone: TimeZone,
    /// The connection that signs.
    pub connection: ConnectionName,
    /// The bucket.
    pub bucket: Bucket,
    /// Which of its objects; phrases are filled in.
    pub objects: Objects,
    /// The prefix of all keys that the job's rule allows.
    pub allowed: Prefix,
    /// Where jobs publish pages, lists and ZIP files inside of what is listed: prefixes whose files no listing hands out.
    pub published_within: Vec<String>,
    /// In which order.
    pub order: Order,
    /// At most so many.
    pub limit: Option<u64>,
    /// What to do when no object matches.
    pub when_empty: WhenEmpty,
    /// What to do about objects that cannot be linked.
    pub on_unlinkable: OnUnlinkable,
    /// Which service answers the links to the objects: S3 or CloudFront.
    pub via: Via,
    /// Whether links ask for a name and a type; if not, files that could run scripts are not linked.
    pub overrides: ResponseOverrides,
    /// The lifetime of the links.
    pub lifetime: Lifetime,
    /// What to do when they cannot be valid for as long as was asked.
    pub expiry_guard: ExpiryGuard,
    /// What a browser does with the file.
    pub disposition: ContentDisposition,
    /// The name under which an object is saved, if it is not its own.
    pub filename: Option<FileName>,
    /// The charset of texts that are shown and whose own is not known.
    pub text_charset: TextCharset,
    /// Whether each recipient gets links of their own.
    pub per_recipient: bool,
    /// Whether a link opens the version that was current when it was made.
    pub pin_version: bool,
    /// Whether each listed object is checked with a HEAD request before it is linked.
    pub preflight: bool,
    /// How an in-doubt delivery is resolved.
    pub on_doubt: OnDoubt,
    /// The relay of its mails.
    pub relay: RelayName,
    /// The most links that the job may make.
    pub max_links: u64,
    /// The page.
    pub gallery: Option<GalleryPlan>,
    /// The list.
    pub manifest: Option<ManifestPlan>,
    /// The ZIP of all files.
    pub zip: Option<ZipPlan>,
    /// The portal, if it answers the links.
    pub portal: Option<PortalPlan>,
}

/// How the portal answers the links of a job.
#[derive(Debug, Clone)]
pub struct PortalPlan {
    /// The URL of the portal, without a slash at its end.
    pub url: Arc<str>,
    /// How a visitor signs in.
    pub sign_in: SignIn,
    /// What a link answers first.
    pub open: OpenMode,
    /// The address that pages name for questions.
    pub contact: Option<String>,
    /// The title of the page with all files, if it has one.
    pub title: Option<String>,
    /// What the job says to the readers of that page.
    pub message: Option<FilledMessage>,
    /// Whether that page is a gallery, and no plain list.
    pub is_gallery: bool,
    /// The template of that page.
    pub template: TemplateName,
    /// How many files that page shows at once.
    pub page_size: usize,
    /// Whether mails link that page.
    pub is_page_linked: bool,
    /// The bucket of the renditions that it shows, if it shows some.
    pub renditions: Option<PublishTarget>,
    /// Whether a recipient who signed in finds the job among the files of all jobs.
    pub lists_files: bool,
}

/// Which objects of a bucket.
#[derive(Debug, Clone)]
pub enum Objects {
    /// All objects under a prefix that pass the filter.
    Under(Prefix, Filter),
    /// Objects with these keys.
    Named(Vec<Key>),
}

/// The page that will be published.
#[derive(Debug, Clone)]
pub struct GalleryPlan {
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Its template.
    pub template: TemplateName,
    /// Where it goes.
    pub place: PublishTarget,
    /// Links on one page.
    pub page_size: usize,
}

/// The list that will be published.
#[derive(Debug, Clone)]
pub struct ManifestPlan {
    /// In which form.
    pub format: ManifestFormat,
    /// Where it goes.
    pub place: PublishTarget,
}

/// What a job publishes.
struct PublishedPlaces {
    gallery: Option<GalleryPlan>,
    manifest: Option<ManifestPlan>,
    zip: Option<ZipPlan>,
}

/// Where something is published; phrases are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishTarget {
    /// Below a prefix of a bucket.
    Bucket(Bucket, Prefix),
    /// In a directory of this machine.
    Dir {
        /// The directory that the job names.
        asked: PathBuf,
        /// The allowed directory of the configuration, which is the same or above it: symbolic links below it are not followed.
        allowed: PathBuf,
        /// The URL under which a web server serves the directory that the job names, with a slash at its end.
        url: Option<String>,
    },
}

impl PublishTarget {
    /// Whether a mail can link what is published there.
    pub const fn is_linked(&self) -> bool {
        matches!(self, Self::Bucket(..) | Self::Dir { url: Some(_), .. })
    }
}

impl std::fmt::Display for PublishTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bucket(bucket, prefix) => write!(f, "s3://{bucket}/{prefix}"),
            Self::Dir { asked, .. } => write!(f, "dir:{}", asked.display()),
        }
    }
}

/// The state of the signing services that a plan depends on.
#[derive(Debug, Clone, Default)]
pub struct SignerFacts {
    /// When the credentials for S3 end.
    pub credentials_end: CredentialsEnd,
    /// The scope of CloudFront links, if any can be signed.
    pub origin_scope: Option<OriginScope>,
    /// How far the store's clock is ahead of ours, if it is known: links are dated by the store's clock.
    pub skew: Option<SignedDuration>,
}

impl SignerFacts {
    /// The time by the clock of the service that verifies the links when it is `now` here.
    pub fn time_there(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(expiry::noticed(self.skew))
            .unwrap_or(now)
    }
}

/// Why a job is rejected.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The configuration does not allow what the job asks.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The links could not be valid for as long as they would promise.
    #[error(transparent)]
    Shortfall(#[from] Shortfall),
    /// A phrase of the job could not be filled in.
    #[error("the job's field {field} {source}")]
    Phrase {
        /// Which field.
        field: &'static str,
        /// Why.
        source: PhraseError,
    },
    /// A phrase was filled in, but does not make a name.
    #[error("the job's field {field}, filled in, {source}")]
    Name {
        /// Which field.
        field: &'static str,
        /// Why.
        source: NameError,
    },
    /// A prefix that browsers and some servers rewrite to another.
    #[error("the job's field {field} has \".\" or \"..\" as a folder, which browsers change")]
    DotSegments {
        /// Which field.
        field: &'static str,
    },
    /// A message has too many lines.
    #[error(
        "the job's field {field} has {lines} lines when it is filled in: at most {MAX_MESSAGE_LINES} are allowed"
    )]
    LongMessage {
        /// Which field.
        field: &'static str,
        /// How many lines.
        lines: usize,
    },
    /// The job names a template that is not installed.
    #[error(
        "the job's field {field} names the template {name:?}, which is not installed; installed: {known}"
    )]
    Template {
        /// Which field.
        field: &'static str,
        /// The name.
        name: String,
        /// The templates that are installed.
        known: String,
    },
    /// The templates do not have a recipient's language.
    #[error(
        "the job's field {field} is {:?}, which is not an installed language; installed: {known}; add a language in [templates] dir",
        .locale.as_str()
    )]
    Locale {
        /// Which field.
        field: String,
        /// The language.
        locale: Locale,
        /// The languages that there are.
        known: String,
    },
    /// The job asks for CloudFront links, which the connection cannot sign.
    #[error(
        "the job's field links.via asks for cloudfront, and connection {connection} has no distribution in front of {place}: use \"s3\", or see [connections.{connection}.cloudfront]"
    )]
    NoCloudfront {
        /// The connection.
        connection: ConnectionName,
        /// What it should open.
        place: String,
    },
    /// The links to the page or the list could not be valid for as long as the links on it.
    #[error(
        "links.expires_in asks for {}, but {}, and links to pages and lists in a bucket are always signed for S3, also with links.via; publish to a directory, ask for less, or set expiry_guard = \"clamp\" to print the real end",
        .0.asked, .0.limit
    )]
    Published(Shortfall),
    /// The mails have no room for all files, and there is no place for a page of all.
    #[error(
        "a mail of this job shows {} of its {} files and links neither a gallery nor a list of the others: publish a gallery or a manifest in a bucket, name a bucket in publish of the job's [[allow]] rule or in [gallery] default_publish, or set email.overflow to \"summarize\"",
        .0.shown, .0.links
    )]
    NoRoom(Shortage),
    /// The mails have no room for all files, and their template does not link the page or the list with all of them.
    #[error(
        "the mail template {template:?} shows {} of the job's {} files and links neither their page nor their list: let it show gallery_url or manifest_url, or set email.overflow to \"summarize\"",
        .shortage.shown, .shortage.links
    )]
    Unlinked {
        /// The template.
        template: String,
        /// How many files it shows.
        shortage: Shortage,
    },
}

impl PlanError {
    /// Whether the signing credentials have expired, or expire so soon that their source is about to renew them: then the job can
    /// be planned.
    pub(crate) const fn is_of_credentials(&self) -> bool {
        match self {
            Self::Shortfall(shortfall) | Self::Published(shortfall) => {
                shortfall.limit.may_be_renewed()
            }
            _ => false,
        }
    }
}

/// The templates that are installed, by name.
pub trait Installed {
    /// The names of the mail templates.
    fn emails(&self) -> Vec<&str>;
    /// The names of the page templates.
    fn galleries(&self) -> Vec<&str>;
    /// The tags of the languages.
    fn languages(&self) -> Vec<&str>;
}

/// Whether the templates have a locale's language: `pt-BR`, or `pt`. Without this check the mail would silently be in English.
pub(crate) fn speaks(languages: &[&str], locale: &Locale) -> bool {
    let language = locale.language().to_ascii_lowercase();
    let is_own = |tag: &&str| *tag == locale.as_str() || **tag == language;
    languages.iter().any(is_own)
}

/// Makes the plan of a job at `now`.
pub fn build(
    job: &Arc<Job>,
    policy: &Policy,
    installed: &impl Installed,
    signer: &SignerFacts,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    build_with(job, policy, installed, signer, None, now)
}

/// Makes the plan of a job whose mails have no room for all files in the plan of [`build`]: it adds a page or a list of all
/// files that the job did not ask for.
///
/// # Errors
///
/// Those of [`build`], and [`PlanError::NoRoom`] where neither the job's rule nor the configuration has a place for it.
pub fn build_with(
    job: &Arc<Job>,
    policy: &Policy,
    installed: &impl Installed,
    signer: &SignerFacts,
    shortage: Option<Shortage>,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    // The rules are checked first: only the places that they match are filled in before that, and nothing is looked up for a
    // job that they do not allow.
    let time_zone = policy.time_zone(job);
    let scope = job.scope(time_zone);
    let objects = objects(job, &scope)?;
    let place = |field, publish: Option<&PublishTo>| {
        let filled = publish.map(|publish| fill_place(field, publish, &scope));
        filled.transpose()
    };
    let (gallery, manifest) = (job.gallery.as_ref(), job.manifest.as_ref());
    let gallery_place = place(
        "gallery.publish.prefix",
        gallery.and_then(|order| order.publish.as_ref()),
    )?;
    let manifest_place = place(
        "manifest.publish.prefix",
        manifest.map(|order| &order.publish),
    )?;
    let zip = job.zip.as_ref();
    let zip_place = place(
        "zip.publish.prefix",
        zip.and_then(|order| order.publish.as_ref()),
    )?;
    let renditions = place(
        "gallery.renditions.prefix",
        gallery.and_then(|order| order.renditions.as_ref()),
    )?;
    let places = || {
        gallery_place
            .iter()
            .chain(&renditions)
            .chain(&manifest_place)
            .chain(&zip_place)
    };
    let rule = policy.allow(job, &objects, &places())?;
    check_templates(job, installed)?;
    if job.links.via == Via::Cloudfront {
        check_reach(job, &objects, signer.origin_scope.as_ref())?;
    }
    check_recipient_phrases(job, &scope)?;
    check_messages(job, &scope)?;
    let page_title = |order: Option<&GalleryOrder>| -> Result<_, PlanError> {
        let title = order.and_then(|order| order.title.as_ref());
        let title = title.map(|title| fill("gallery.title", title, &scope, MAX_TITLE_BYTES));
        match title.transpose()? {
            None => overflow::title(job, policy),
            named => Ok(named),
        }
    };
    let portal = match job.links.via {
        Via::S3 | Via::Cloudfront => None,
        Via::Portal => {
            let (portal, sign_in) = policy.portal(job, rule)?;
            Some(PortalPlan {
                url: Arc::clone(&portal.url),
                sign_in,
                open: job.links.open.unwrap_or(portal.open),
                contact: portal.contact.clone(),
                title: page_title(gallery)?,
                message: page_message(gallery, &scope)?,
                is_gallery: gallery.is_some(),
                template: gallery.map_or_else(
                    || "gallery".parse().expect("the name is one"),
                    |order| order.template.clone(),
                ),
                page_size: policy.page_size,
                is_page_linked: gallery.is_some() || shortage.is_some(),
                renditions: renditions.map(|place| rule.confine(place)),
                lists_files: portal.my_files,
            })
        }
    };
    let gallery = gallery.zip(gallery_place);
    let gallery = gallery.map(|(order, place)| -> Result<_, PlanError> {
        Ok(GalleryPlan {
            title: page_title(Some(order))?,
            template: order.template.clone(),
            place: policy.addressed(rule.confine(place)),
            page_size: policy.page_size,
        })
    });
    let gallery = gallery.transpose()?;
    let manifest = manifest
        .zip(manifest_place)
        .map(|(order, place)| ManifestPlan {
            format: order.format,
            place: policy.addressed(rule.confine(place)),
        });
    let zip = zip.map(|order| {
        let of_page = gallery.as_ref().and_then(|page| page.title.as_deref());
        let of_portal = portal.as_ref().and_then(|page| page.title.as_deref());
        let named = (&**job, of_page.or(of_portal), objects.topic());
        let place = zip_place.map(|place| policy.addressed(rule.confine(place)));
        if place.is_none() {
            policy.check_streams()?;
        }
        ZipPlan::new(order, place, &scope, named, policy)
    });
    let zip = zip.transpose()?;
    let mut published = PublishedPlaces {
        gallery,
        manifest,
        zip,
    };
    // The portal has a page of all files for every job.
    if let Some(shortage) = shortage.filter(|_| portal.is_none()) {
        published.supplement(job, policy, rule, shortage)?;
    }
    let asked = policy.expires_in(job, rule);
    let lifetime = |issuer| {
        let (cap, guard) = (rule.max_expires_in, policy.links.expiry_guard);
        // The portal judges by this machine's clock, the others by that of their service.
        let skew = match issuer {
            Issuer::Portal => SignedDuration::ZERO,
            Issuer::S3(_) | Issuer::CloudFront => expiry::noticed(signer.skew),
        };
        let there = now.saturating_add(skew).unwrap_or(now);
        let life = expiry::lifetime(asked, issuer, cap, guard, there)?;
        Ok::<_, Shortfall>(life.here(skew))
    };
    let s3 = Issuer::S3(signer.credentials_end);
    let publishes_in_bucket = published.is_in_bucket(portal.is_some());
    let lifetime = match job.links.via {
        Via::S3 => lifetime(s3)?,
        // The mail states a single end for all links, so it must hold for all of them.
        Via::Cloudfront if publishes_in_bucket => {
            lifetime(Issuer::CloudFront)?;
            lifetime(s3).map_err(PlanError::Published)?
        }
        Via::Cloudfront => lifetime(Issuer::CloudFront)?,
        Via::Portal if publishes_in_bucket => {
            lifetime(Issuer::Portal)?;
            lifetime(s3).map_err(PlanError::Published)?
        }
        Via::Portal => lifetime(Issuer::Portal)?,
    };
    let PublishedPlaces {
        gallery,
        manifest,
        zip,
    } = published;
    let plan = Plan {
        job: Arc::clone(job),
        time_zone: time_zone.clone(),
        connection: job.from.connection.clone(),
        bucket: job.from.bucket.clone(),
        allowed: rule.prefix.clone(),
        published_within: policy.published_within(&job.from.bucket, &objects),
        objects,
        order: job.from.order,
        limit: job.from.limit,
        when_empty: job.from.when_empty,
        on_unlinkable: policy.links.on_unlinkable,
        via: job.links.via,
        overrides: match job.links.via {
            Via::S3 | Via::Portal => ResponseOverrides::Forwarded,
            Via::Cloudfront => signer
                .origin_scope
                .as_ref()
                .map_or_else(ResponseOverrides::default, |origin_scope| {
                    origin_scope.overrides
                }),
        },
        lifetime,
        expiry_guard: policy.links.expiry_guard,
        disposition: job.links.disposition.unwrap_or(policy.links.disposition),
        filename: policy.filename(job),
        text_charset: policy.links.text_charset,
        per_recipient: job
            .links
            .per_recipient
            .unwrap_or(policy.links.per_recipient),
        pin_version: policy.links.pin_version,
        preflight: policy.links.preflight,
        on_doubt: on_doubt(job, policy)?,
        relay: relay(job, rule),
        max_links: rule.max_links,
        gallery,
        manifest,
        zip,
        portal,
    };
    plan.check_named()?;
    Ok(plan)
}

/// The recipients that the rules for the job's source do not allow, rule by rule; empty if a single rule allows all of them.
pub fn kept_out(job: &Job, policy: &Policy) -> Result<Vec<KeptOut>, PlanError> {
    let scope = job.scope(policy.time_zone(job));
    Ok(policy.kept_out(job, &objects(job, &scope)?))
}

impl Plan {
    /// The values of the names in the job's phrases, except those of a recipient and an object.
    pub fn scope(&self) -> PhraseScope<'_> {
        self.job.scope(&self.time_zone)
    }

    /// The mails, if the job asks for any.
    pub fn email(&self) -> Option<&EmailOrder> {
        self.job.email.as_ref()
    }

    /// Whether a listed key is a page, a list or a ZIP file of a job, which has links or files of other recipients.
    pub(crate) fn is_published(&self, key: &str) -> bool {
        const FOLDER: usize = 32;
        self.published_within.iter().any(|prefix| {
            let name = key.strip_prefix(prefix.as_str());
            name.and_then(|name| name.split_once('/'))
                .is_some_and(|(folder, _)| {
                    folder.len() == FOLDER && folder.bytes().all(|byte| byte.is_ascii_hexdigit())
                })
        })
    }

    /// Rejects more links to named keys than the rule allows, before any of the keys is looked up.
    fn check_named(&self) -> Result<(), Refusal> {
        let Objects::Named(keys) = &self.objects else {
            return Ok(());
        };
        let limit = self.limit.unwrap_or(u64::MAX);
        let links = (keys.len() as u64).min(limit) * self.audiences().len() as u64;
        match links > self.max_links {
            true => Err(Refusal::TooManyLinks {
                limit: self.max_links,
            }),
            false => Ok(()),
        }
    }

    /// The place of a page or a list that the job did not ask for.
    pub fn supplement(&self) -> Option<&PublishTarget> {
        let gallery = self.gallery.as_ref().map(|gallery| &gallery.place);
        let manifest = self.manifest.as_ref().map(|manifest| &manifest.place);
        let gallery = gallery.filter(|_| self.job.gallery.is_none());
        gallery.or(manifest.filter(|_| self.job.manifest.is_none()))
    }

    /// What its page and its mails are about, in the job's own words: the page's title, the mail's subject, or else the folder that is handed out.
    pub fn title(&self) -> Option<&str> {
        let title = self
            .gallery
            .as_ref()
            .and_then(|gallery| gallery.title.as_deref());
        let portal = self.portal.as_ref();
        title
            .or(portal.and_then(|portal| portal.title.as_deref()))
            .or(self.objects.topic())
    }

    /// The instant that its mails are about: the one that it is scheduled for, or else that of its links.
    pub fn dated(&self) -> Timestamp {
        self.job.scheduled_at.unwrap_or(self.lifetime.signed_at)
    }

    /// The template of the mails: where the job names none, an invitation to the page if a mail can link it.
    pub fn mail_template(&self) -> &str {
        let named = self.email().and_then(|email| email.template.as_ref());
        let gallery = self.gallery.as_ref().filter(|_| self.job.gallery.is_some());
        let is_linked = gallery.is_some_and(|gallery| gallery.place.is_linked())
            || (self.portal.is_some() && self.job.gallery.is_some());
        match named {
            Some(named) => named.as_str(),
            None if is_linked => "gallery-invite",
            None => "report",
        }
    }

    /// The common part of the keys of the job's objects, which is left out of short names.
    pub fn prefix(&self) -> &str {
        match &self.objects {
            Objects::Under(prefix, _) => prefix.as_str(),
            Objects::Named(_) => "",
        }
    }

    /// The prefix, if the job hands out everything below it.
    pub fn whole_prefix(&self) -> Option<&str> {
        match &self.objects {
            Objects::Under(prefix, filter) if filter.is_empty() && self.limit.is_none() => {
                Some(prefix.as_str())
            }
            Objects::Under(..) | Objects::Named(_) => None,
        }
    }

    /// The audiences: one for each recipient, or one for all.
    pub fn audiences(&self) -> Vec<Audience> {
        match self.email() {
            Some(email) if self.per_recipient => email
                .recipients()
                .map(|recipient| Audience::Recipient(Arc::new(recipient.clone())))
                .collect(),
            _ => vec![Audience::Everyone],
        }
    }

    /// The recipients of a mail about an audience's links.
    pub fn readers(&self, audience: &Audience) -> Vec<Arc<Recipient>> {
        match (audience, self.email()) {
            (Audience::Recipient(recipient), _) => vec![Arc::clone(recipient)],
            (Audience::Everyone, Some(email)) => {
                email.recipients().cloned().map(Arc::new).collect()
            }
            (Audience::Everyone, None) => Vec::new(),
        }
    }
}

/// A job can be stricter than the configuration, but not laxer: a queue message must not cause a mail to be sent twice.
fn on_doubt(job: &Job, policy: &Policy) -> Result<OnDoubt, Refusal> {
    match (job.on_doubt, policy.on_doubt) {
        (Some(OnDoubt::Resend), OnDoubt::Hold) => Err(Refusal::OnDoubt),
        (asked, configured) => Ok(asked.unwrap_or(configured)),
    }
}

/// The relay of an allowed job: the relay that it names, or the rule's first.
fn relay(job: &Job, rule: &AllowRule) -> RelayName {
    let asked = job.email.as_ref().and_then(|email| email.relay.as_ref());
    rule.relay(asked).cloned().unwrap_or_default()
}

fn objects(job: &Job, scope: &PhraseScope<'_>) -> Result<Objects, PlanError> {
    Ok(match &job.from.selection {
        Selection::Keys(keys) => Objects::Named(keys.clone()),
        Selection::KeysOfRecipient(keys) => {
            let keys = keys.iter().map(|key| fill_key(key, scope));
            Objects::Named(keys.collect::<Result<_, _>>()?)
        }
        Selection::Prefix(prefix, filter) => {
            Objects::Under(fill_prefix("from.prefix", prefix, scope)?, filter.clone())
        }
    })
}

fn check_templates(job: &Job, installed: &impl Installed) -> Result<(), PlanError> {
    let check = |field, name: &TemplateName, known: Vec<&str>| {
        if known.contains(&name.as_str()) {
            return Ok(());
        }
        Err(PlanError::Template {
            field,
            name: name.to_string(),
            known: known.join(", "),
        })
    };
    if let Some(template) = job.email.as_ref().and_then(|email| email.template.as_ref()) {
        check("email.template", template, installed.emails())?;
    }
    if let Some(gallery) = &job.gallery {
        check("gallery.template", &gallery.template, installed.galleries())?;
    }
    check_languages(job, &installed.languages())
}

fn check_languages(job: &Job, languages: &[&str]) -> Result<(), PlanError> {
    let lists = job
        .email
        .iter()
        .flat_map(|email| [("to", &email.to), ("cc", &email.cc)]);
    for (list, people) in lists {
        for (index, person) in people.iter().enumerate() {
            if let Some(locale) = &person.locale
                && !speaks(languages, locale)
            {
                return Err(PlanError::Locale {
                    field: format!("email.{list}[{index}].locale"),
                    locale: locale.clone(),
                    known: languages.join(", "),
                });
            }
        }
    }
    Ok(())
}

/// Whether CloudFront links can open everything that the job hands out.
fn check_reach(
    job: &Job,
    objects: &Objects,
    origin_scope: Option<&OriginScope>,
) -> Result<(), PlanError> {
    let starts: Vec<&str> = match objects {
        Objects::Under(prefix, _) => vec![prefix.as_str()],
        Objects::Named(keys) => keys.iter().map(Key::as_str).collect(),
    };
    let bucket = &job.from.bucket;
    let is_covered =
        |start: &str| origin_scope.is_some_and(|origin_scope| origin_scope.covers(bucket, start));
    match starts.into_iter().find(|start| !is_covered(start)) {
        None => Ok(()),
        Some(start) => Err(PlanError::NoCloudfront {
            connection: job.from.connection.clone(),
            place: format!("s3://{bucket}/{start}"),
        }),
    }
}

/// Fills in the subject and the file name for every recipient, where they use recipient names, so that a missing value is
/// found before a link is made.
fn check_recipient_phrases(job: &Job, scope: &PhraseScope<'_>) -> Result<(), PlanError> {
    let sample: Key = "folder/sample.pdf".parse().expect("the sample is a key");
    let recipients: Vec<&Recipient> = job.email.iter().flat_map(EmailOrder::recipients).collect();
    if let Some(subject) = job.email.as_ref().and_then(|email| email.subject.as_ref()) {
        let field = "email.subject";
        for scope in scopes(subject, &recipients, scope) {
            let filled = fill(field, subject, &scope, MAX_SUBJECT_BYTES)?;
            place::refuse_control(&filled).map_err(|source| PlanError::Name { field, source })?;
        }
    }
    if let Some(filename) = job.links.filename.as_ref().and_then(FileName::phrase) {
        for scope in scopes(filename, &recipients, scope) {
            let object = Some(&sample);
            let scope = PhraseScope { object, ..scope };
            fill("links.filename", filename, &scope, MAX_FILLED_NAME_BYTES)?;
        }
    }
    Ok(())
}

/// Fills in the messages, those to recipients for each of them, so that a missing value and a long text are found before a link is
/// made.
fn check_messages(job: &Job, scope: &PhraseScope<'_>) -> Result<(), PlanError> {
    let recipients: Vec<&Recipient> = job.email.iter().flat_map(EmailOrder::recipients).collect();
    let to_recipients = job.email.as_ref().and_then(|email| email.message.as_ref());
    let on_page = job.gallery.as_ref().and_then(|page| page.message.as_ref());
    let check = |field, text: &Phrase, scope: &PhraseScope<'_>| {
        let filled = fill(field, text, scope, MAX_MESSAGE_BYTES)?;
        let lines = filled.lines().count();
        match lines > MAX_MESSAGE_LINES {
            true => Err(PlanError::LongMessage { field, lines }),
            false => Ok(()),
        }
    };
    for text in to_recipients.into_iter().flat_map(ReaderMessage::texts) {
        for scope in scopes(text, &recipients, scope) {
            check("email.message", text, &scope)?;
        }
    }
    for text in on_page.into_iter().flat_map(ReaderMessage::texts) {
        check("gallery.message", text, scope)?;
    }
    Ok(())
}

/// The message of a page of the portal, for readers who come when the job is over.
fn page_message(
    order: Option<&GalleryOrder>,
    scope: &PhraseScope<'_>,
) -> Result<Option<FilledMessage>, PlanError> {
    let message = order.and_then(|order| order.message.as_ref());
    let filled = message.map(|message| message.filled(scope)).transpose();
    filled.map_err(|source| PlanError::Phrase {
        field: "gallery.message",
        source,
    })
}

/// The scopes that give a phrase different texts: one for each recipient, or a single one.
fn scopes<'a>(
    phrase: &Phrase,
    recipients: &'a [&Recipient],
    scope: &'a PhraseScope<'_>,
) -> impl Iterator<Item = PhraseScope<'a>> {
    let told_apart = match phrase.names_recipient() {
        true => recipients,
        false => &recipients[..recipients.len().min(1)],
    };
    let without = recipients.is_empty().then_some(None);
    let people = told_apart.iter().map(|recipient| Some(*recipient));
    people.chain(without).map(|recipient| PhraseScope {
        recipient,
        ..*scope
    })
}

fn fill(
    field: &'static str,
    phrase: &Phrase,
    scope: &PhraseScope<'_>,
    limit: usize,
) -> Result<String, PlanError> {
    phrase
        .fill(scope, limit)
        .map_err(|source| PlanError::Phrase { field, source })
}

fn fill_prefix(
    field: &'static str,
    prefix: &Phrase,
    scope: &PhraseScope<'_>,
) -> Result<Prefix, PlanError> {
    fill_in_place(field, prefix, scope)?
        .parse()
        .map_err(|source| PlanError::Name { field, source })
}

/// Fills in a key that names the recipient.
fn fill_key(key: &Phrase, scope: &PhraseScope<'_>) -> Result<Key, PlanError> {
    let field = "from.keys";
    fill_in_place(field, key, scope)?
        .parse()
        .map_err(|source| PlanError::Name { field, source })
}

/// Fills in a prefix or a key. The values of a recipient cannot lead out of the recipient's place.
fn fill_in_place(
    field: &'static str,
    phrase: &Phrase,
    scope: &PhraseScope<'_>,
) -> Result<String, PlanError> {
    let scope = PhraseScope {
        is_place: true,
        ..*scope
    };
    let filled = fill(field, phrase, &scope, MAX_KEY_BYTES)?;
    match filled
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
    {
        true => Err(PlanError::DotSegments { field }),
        false => Ok(filled),
    }
}

fn fill_place(
    field: &'static str,
    publish: &PublishTo,
    scope: &PhraseScope<'_>,
) -> Result<PublishTarget, PlanError> {
    match publish {
        PublishTo::Bucket(bucket, prefix) => Ok(PublishTarget::Bucket(
            bucket.clone(),
            fill_prefix(field, prefix, scope)?,
        )),
        PublishTo::Dir(dir) => Ok(PublishTarget::Dir {
            asked: dir.clone(),
            // The rule that allows the job is not known yet.
            allowed: dir.clone(),
            url: None,
        }),
    }
}
