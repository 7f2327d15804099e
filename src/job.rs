//! A job, parsed and validated: which objects are handed out, to whom, and how.
//!
//! A message's text becomes a [`Job`] here, once, or an error that names the field. A `Job`
//! that exists has valid names, valid addresses and exactly one source; later steps do not check them again.
//! Whether the job is *allowed* is decided in [`crate::plan`].

pub mod address;
mod date_distance;
pub mod email;
pub mod envelope;
mod file_name;
pub mod glob;
mod json;
pub mod list;
pub mod list_id;
pub mod message;
pub mod occurrence;
pub mod parts;
pub mod phrase;
pub mod place;
pub mod pointer;
pub mod recipient;
pub mod session_name;
pub mod sns;
mod vars;
pub mod wire;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

pub use email::EmailOrder;
pub use file_name::FileName;
pub use glob::Globs;
pub use list_id::ListId;
pub use message::{FilledMessage, ReaderMessage};
pub use parts::PartOf;
pub use phrase::{Phrase, PhraseScope};
pub use place::{Bucket, ConnectionName, JobId, Key, ListName, Prefix, RelayName, TemplateName};
pub use recipient::{Locale, Recipient};
pub use wire::{
    ContentDisposition, ManifestFormat, OnDoubt, OpenMode, Order, Overflow, SignIn, Via,
    Visibility, WhenEmpty,
};

use crate::bounds::MAX_KEYS;
use crate::quantity::{Size, Span};
use occurrence::Occurrence;
use sns::SubscriptionNotice;

/// The largest message body that is read, in bytes: what SQS carries at most.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The longest that S3 lets a link live.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
pub const MAX_S3_EXPIRES_IN: Span = Span::days(7);

/// The longest that a link of the portal can live: ten years.
pub const MAX_PORTAL_EXPIRES_IN: Span = Span::days(3660);

/// Why a message is not a job.
#[derive(Debug, thiserror::Error)]
pub enum ParseJobError {
    /// It is longer than any message that a queue delivers.
    #[error("the message has {length} bytes; a job may have at most {MAX_BODY_BYTES}")]
    TooLarge {
        /// How many bytes it has.
        length: usize,
    },
    /// Not JSON at all.
    #[error("the message is not JSON")]
    NotJson {
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON that would take too much memory.
    #[error("the message has more than {limit} {what}: remove some, or make several jobs of it")]
    TooMuch {
        /// How many it may have.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// JSON, but not an object.
    #[error("the message is JSON, but not an object: a job looks like {{\"v\":1,\"id\":…}}")]
    NotAnObject,
    /// The version of the format is missing.
    #[error("the job has no version: write \"v\": {}", wire::VERSION)]
    NoVersion,
    /// The version of the format is not supported.
    #[error(
        "the job's version \"v\" is {found}: this program reads version {0}, so write \"v\": {0}",
        wire::VERSION
    )]
    Version {
        /// What the field has: a number, or the kind of value.
        found: String,
    },
    /// A field of the job itself that is missing or unknown.
    #[error("the job cannot be read: {reason}")]
    Shape {
        /// What is wrong and what would be right.
        reason: String,
        /// The same with the value, for a terminal.
        said: String,
    },
    /// A field with a value that the format does not accept.
    #[error("the job's field {field} cannot be read: {reason}")]
    Unreadable {
        /// The field's path, such as `links.expires_in`.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
        /// The same with the value, for a terminal.
        said: String,
    },
    /// A field that is wrong, missing or unknown.
    #[error("the job's field {field} {reason}")]
    Field {
        /// The field's path, such as `email.to[1].address`.
        field: String,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// A notice of SNS about a subscription of the queue.
    #[error("{0}")]
    OfSns(SubscriptionNotice),
    /// An event of S3 that no `[[on_event]]` rule turns into a job.
    #[error(
        "no [[on_event]] rule of the configuration matches the event {event} for s3://{bucket}/{key}"
    )]
    NoRule {
        /// The event's name.
        event: String,
        /// The bucket it happened in.
        bucket: String,
        /// The object it happened to.
        key: String,
    },
    /// A pointer of the extended client of SQS, to a bucket that no configuration names.
    #[error(
        "the message's body is an object of the bucket {bucket}, where the extended client of SQS put it: name that bucket in queue.payload_buckets"
    )]
    Pointer {
        /// The bucket.
        bucket: Bucket,
    },
    /// A pointer that names no object.
    #[error(
        "the message is a pointer of the extended client of SQS without a valid s3BucketName and s3Key"
    )]
    LostPointer,
    /// The object of a pointer that is no job's text.
    #[error("the message's body, an object of the bucket {bucket}, is {reason}")]
    Payload {
        /// The bucket.
        bucket: Bucket,
        /// What it is, and what would be right.
        reason: &'static str,
    },
    /// A `CloudEvent` that names no object of a store.
    #[error(
        "the message is a CloudEvent of the type {kind}, whose data names no bucket and key: only events of object stores become jobs"
    )]
    NoObject {
        /// Its type, printable.
        kind: String,
    },
    /// More events than S3 puts into one message.
    #[error(
        "the message has {count} events: at most {} are allowed in one message",
        envelope::MAX_RECORDS
    )]
    TooManyRecords {
        /// How many.
        count: usize,
    },
    /// An event with a text that S3 cannot have written.
    #[error(
        "the event's {field} has {length} bytes: at most {} are allowed",
        crate::bounds::MAX_EVENT_TEXT_BYTES
    )]
    LongEvent {
        /// The field.
        field: &'static str,
        /// How many bytes it has.
        length: usize,
    },
    /// An event that lacks what every event of its kind has.
    #[error("the event has no {field}")]
    Event {
        /// The missing field.
        field: &'static str,
    },
}

impl ParseJobError {
    fn field(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Field {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// What the reason leaves out and the reader of the message itself may see: where a subscription is confirmed.
    pub fn for_readers(&self) -> Option<&str> {
        match self {
            Self::OfSns(notice) => notice.url.as_deref(),
            _ => None,
        }
    }

    /// The reason with the rejected value, for the terminal at which the job was typed.
    ///
    /// The value may be an address or a link. The error itself, which goes to logs and results, does not repeat it.
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Shape { said, .. } | Self::Unreadable { said, .. } => Some(said),
            _ => None,
        }
    }
}

/// An order to hand out links.
#[derive(Debug, Clone)]
pub struct Job {
    /// The idempotency key.
    pub id: JobId,
    /// The instant that the job is about.
    pub scheduled_at: Option<Timestamp>,
    /// The time zone of its dates and times, where the job says it.
    pub time_zone: Option<TimeZone>,
    /// Which objects.
    pub from: ObjectSource,
    /// How their links are made, where the job says it.
    pub links: LinkWishes,
    /// The mails.
    pub email: Option<EmailOrder>,
    /// The page.
    pub gallery: Option<GalleryOrder>,
    /// The list.
    pub manifest: Option<ManifestOrder>,
    /// The ZIP of all files.
    pub zip: Option<ZipOrder>,
    /// How an in-doubt delivery is resolved, where the job says it.
    pub on_doubt: Option<OnDoubt>,
    /// Values for templates and phrases.
    pub vars: Map<String, Value>,
    /// Who gets its mails instead of its recipients, if it is a rehearsal.
    pub rehearsal: Option<Rehearsal>,
    /// The fields of the event from which the job was made.
    pub event: Option<Map<String, Value>>,
    /// The job that this one is a part of, if it is the part of one recipient.
    pub part: Option<PartOf>,
    /// The event's position in the order of events of its key, where it has one.
    pub occurrence: Option<Occurrence>,
    /// SHA-256 of the job's JSON: the same id with another body is another job under a taken name.
    pub body_sha256: String,
    /// The message that brought it, unchanged: it is kept so that the job can be sent again to recipients it did not reach.
    pub message: Arc<str>,
}

/// A rehearsal of a job.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// Who gets all mails.
    pub to: Recipient,
    /// How many recipients it is for, the first of them. Without a number, a job in parts has its
    /// [usual](Self::USUAL_RECIPIENTS) ones and another job all.
    pub recipients: Option<usize>,
}

impl Rehearsal {
    /// How many recipients a job in parts is rehearsed with, unless another number is wanted.
    pub const USUAL_RECIPIENTS: usize = 10;
    /// The most of them: all mails go to one address.
    pub const MAX_RECIPIENTS: usize = 100;
}

/// Which objects are handed out.
#[derive(Debug, Clone)]
pub struct ObjectSource {
    /// The connection that signs.
    pub connection: ConnectionName,
    /// The bucket.
    pub bucket: Bucket,
    /// Which of its objects.
    pub selection: Selection,
    /// In which order.
    pub order: Order,
    /// At most so many.
    pub limit: Option<u64>,
    /// What to do when no object matches.
    pub when_empty: WhenEmpty,
}

/// Which objects of a bucket.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All objects under a prefix that pass the filter.
    Prefix(Phrase, Filter),
    /// Objects with these keys.
    Keys(Vec<Key>),
    /// Objects with keys that name the recipient.
    KeysOfRecipient(Vec<Phrase>),
}

/// Which of the listed objects belong to the job.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A key must match at least one of these, if there are any.
    pub include: Option<Globs>,
    /// A key must match none of these.
    pub exclude: Globs,
    /// Only objects changed after this.
    pub modified_after: Option<Timestamp>,
}

impl Filter {
    /// Whether every object passes.
    pub fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty() && self.modified_after.is_none()
    }

    /// Whether an object passes; `path` is its key without the prefix.
    pub fn accepts(&self, path: &str, modified: Timestamp) -> bool {
        self.include
            .as_ref()
            .is_none_or(|include| include.is_match(path))
            && !self.exclude.is_match(path)
            && self.modified_after.is_none_or(|after| modified > after)
    }

    /// The most work that [`Self::accepts`] may be, see [`MAX_PATTERN_WORK`](crate::bounds::MAX_PATTERN_WORK).
    pub fn work(&self, path: &str) -> u64 {
        let globs = self.include.iter().chain([&self.exclude]);
        globs.map(|globs| globs.work(path)).sum()
    }
}

/// How links are made, where the job says it.
#[derive(Debug, Clone, Default)]
pub struct LinkWishes {
    /// How long a link works.
    pub expires_in: Option<Span>,
    /// What a browser does with the file.
    pub disposition: Option<ContentDisposition>,
    /// The name under which the file is saved.
    pub filename: Option<FileName>,
    /// Who answers the link: S3, CloudFront or the portal.
    pub via: Via,
    /// Whether each recipient gets links of their own.
    pub per_recipient: Option<bool>,
    /// How a visitor of the portal signs in.
    pub sign_in: Option<SignIn>,
    /// What a link of the portal answers first.
    pub open: Option<OpenMode>,
}

/// The page of a job.
#[derive(Debug, Clone)]
pub struct GalleryOrder {
    /// The page's title.
    pub title: Option<Phrase>,
    /// The message to the page's readers.
    pub message: Option<ReaderMessage>,
    /// The template.
    pub template: TemplateName,
    /// Where the page goes; `None` with links of the portal, which serves the page itself.
    pub publish: Option<PublishTo>,
    /// The bucket of the renditions that the portal's page shows.
    pub renditions: Option<PublishTo>,
}

/// The list of a job.
#[derive(Debug, Clone)]
pub struct ManifestOrder {
    /// In which form.
    pub format: ManifestFormat,
    /// Where the list goes.
    pub publish: PublishTo,
}

/// The ZIP of a job.
#[derive(Debug, Clone)]
pub struct ZipOrder {
    /// Its name.
    pub name: Option<Phrase>,
    /// Where it goes; `None` with links of the portal, which makes it as it is downloaded.
    pub publish: Option<PublishTo>,
    /// The most bytes of one ZIP.
    pub split: Option<Size>,
}

/// Where a page or a list is put.
#[derive(Debug, Clone)]
pub enum PublishTo {
    /// A bucket of the job's connection.
    Bucket(Bucket, Phrase),
    /// A directory of this machine.
    Dir(PathBuf),
}

impl Job {
    /// The values of the names in its phrases, except those of a recipient and an object. Dates are in `time_zone`.
    pub fn scope<'a>(&'a self, time_zone: &'a TimeZone) -> PhraseScope<'a> {
        PhraseScope {
            vars: Some(&self.vars),
            // The author of the job knows its own id, and not those of its parts.
            job: Some(self.part.as_ref().map_or(&self.id, |part| &part.job)),
            recipient: self
                .part
                .as_ref()
                .and(self.email.as_ref())
                .and_then(|email| email.to.first()),
            scheduled_at: self.scheduled_at,
            time_zone: Some(time_zone),
            event: self.event.as_ref(),
            ..PhraseScope::default()
        }
    }

    /// Reads a job from the text of a message.
    pub fn parse(body: &str) -> Result<Self, ParseJobError> {
        Self::of(body, json::parse(body)?)
    }

    /// Reads a job from the text of a message and its JSON.
    fn of(body: &str, json: Value) -> Result<Self, ParseJobError> {
        let body_sha256 = crate::keyring::sha256_hex(body.as_bytes());
        let wire = wire::from_value(json)?;
        refuse_placeholders(&wire.id)?;
        let job = Self::from_wire(wire, None, body_sha256)?;
        Ok(Self {
            message: body.into(),
            ..job
        })
    }

    fn from_wire(
        wire: wire::JobFields,
        event: Option<Map<String, Value>>,
        body_sha256: String,
    ) -> Result<Self, ParseJobError> {
        let is_empty = wire.email.is_none() && wire.gallery.is_none() && wire.manifest.is_none();
        if is_empty && wire.zip.is_none() {
            let reason = "is missing: a job needs at least one of email, gallery, manifest and zip";
            return Err(ParseJobError::field("email", reason));
        }
        let links = link_wishes(&wire.links)?;
        let via = links.via;
        let gallery = wire
            .gallery
            .map(|gallery| gallery_order(gallery, links.via));
        let job = Self {
            id: own_id(&wire.id)?,
            scheduled_at: wire.scheduled_at,
            time_zone: wire.time_zone.as_deref().map(time_zone).transpose()?,
            from: source(wire.from, event.is_some())?,
            links,
            email: wire.email.map(email::order).transpose()?,
            gallery: gallery.transpose()?,
            manifest: wire.manifest.map(manifest_order).transpose()?,
            zip: wire.zip.map(|zip| zip_order(zip, via)).transpose()?,
            on_doubt: wire.on_doubt,
            vars: vars::checked("vars", wire.vars)?,
            rehearsal: wire.rehearsal.map(rehearsal).transpose()?,
            event,
            part: None,
            occurrence: None,
            body_sha256,
            message: Arc::from(""),
        };
        if job.rehearsal.is_some() && job.email.is_none() {
            let reason = "is set, and the job has no email, so there is no mail to rehearse";
            return Err(ParseJobError::field("rehearsal", reason));
        }
        parts::check(&job)?;
        Ok(job)
    }
}

fn rehearsal(wire: wire::RehearsalFields) -> Result<Rehearsal, ParseJobError> {
    let recipients = wire.recipients;
    let most = Rehearsal::MAX_RECIPIENTS;
    if let Some(wrong) = recipients.filter(|number| !(1..=most).contains(number)) {
        let reason = format!("is {wrong}: give 1 to {most}");
        return Err(ParseJobError::field("rehearsal.recipients", reason));
    }
    let to = wire::RecipientFields::Short(wire.to);
    Ok(Rehearsal {
        to: email::recipient("rehearsal.to", to)?,
        recipients,
    })
}

/// Rejects an id with an unfilled placeholder: it would be the same each time, and the second job with this id would be
/// taken for the first.
fn refuse_placeholders(id: &str) -> Result<(), ParseJobError> {
    let placeholders = ["{{", "}}", "<aws.scheduler."];
    match placeholders
        .into_iter()
        .find(|placeholder| id.contains(placeholder))
    {
        None => Ok(()),
        Some(placeholder) => {
            let reason = format!(
                "holds {placeholder:?}: placeholders in an id are not replaced; write the date or instant itself, such as \"weekly-2026-11-23\""
            );
            Err(ParseJobError::field("id", reason))
        }
    }
}

fn time_zone(name: &str) -> Result<TimeZone, ParseJobError> {
    recipient::time_zone(name).map_err(|error| ParseJobError::field("time_zone", error))
}

fn source(from: wire::From, is_of_event: bool) -> Result<ObjectSource, ParseJobError> {
    let selection = match (from.prefix, from.keys) {
        (Some(_), keys) if !keys.is_empty() => {
            return Err(ParseJobError::field(
                "from.keys",
                "is set together with from.prefix: give only one of them",
            ));
        }
        (Some(prefix), _) => {
            let filter = Filter {
                include: Some(glob::set("from.include", &from.include)?)
                    .filter(|globs| !globs.is_empty()),
                exclude: glob::set("from.exclude", &from.exclude)?,
                modified_after: from.modified_after,
            };
            Selection::Prefix(parse_field("from.prefix", &prefix)?, filter)
        }
        (None, keys) if keys.is_empty() => {
            return Err(ParseJobError::field(
                "from.prefix",
                "is missing: give from.prefix or from.keys",
            ));
        }
        (None, keys) => {
            if !from.include.is_empty() || !from.exclude.is_empty() || from.modified_after.is_some()
            {
                let reason = "is set together with from.keys: include, exclude and modified_after need from.prefix";
                return Err(ParseJobError::field("from.include", reason));
            }
            match keys.iter().any(|key| parts::names_recipient(key)) {
                true => Selection::KeysOfRecipient(parts::key_phrases(&keys)?),
                false => Selection::Keys(parse_keys(&keys)?),
            }
        }
    };
    if from.limit == Some(0) {
        return Err(ParseJobError::field(
            "from.limit",
            "is 0: leave it out, or give at least 1",
        ));
    }
    Ok(ObjectSource {
        connection: parse_field("from.connection", &from.connection)?,
        bucket: parse_field("from.bucket", &from.bucket)?,
        selection,
        order: from.order,
        limit: from.limit,
        when_empty: from.when_empty.unwrap_or(match is_of_event {
            true => WhenEmpty::Skip,
            false => WhenEmpty::Refuse,
        }),
    })
}

fn parse_keys(keys: &[String]) -> Result<Vec<Key>, ParseJobError> {
    if keys.len() > MAX_KEYS {
        let reason = format!(
            "names {} keys: at most {MAX_KEYS} are allowed; give from.prefix, or make several jobs of it",
            keys.len()
        );
        return Err(ParseJobError::field("from.keys", reason));
    }
    let mut parsed: Vec<Key> = Vec::with_capacity(keys.len());
    let mut seen = std::collections::HashSet::with_capacity(keys.len());
    for (index, text) in keys.iter().enumerate() {
        let field = format!("from.keys[{index}]");
        place::refuse_control(text).map_err(|error| ParseJobError::field(&field, error))?;
        if !text.is_empty() && text.trim().is_empty() {
            let reason =
                "consists of white space only, which a request cannot name: give the object's key";
            return Err(ParseJobError::field(field, reason));
        }
        let key: Key = parse_field(&field, text)?;
        if seen.insert(text) {
            parsed.push(key);
        }
    }
    Ok(parsed)
}

fn link_wishes(links: &wire::LinksFields) -> Result<LinkWishes, ParseJobError> {
    let via = links.via.unwrap_or_default();
    for (field, is_set) in [
        ("links.sign_in", links.sign_in.is_some()),
        ("links.open", links.open.is_some()),
    ] {
        if is_set && via != Via::Portal {
            let reason = "is for links of the portal: set links.via to \"portal\", or leave it out";
            return Err(ParseJobError::field(field, reason));
        }
    }
    if let Some(expires_in) = links.expires_in {
        check_expires_in(expires_in, via)
            .map_err(|reason| ParseJobError::field("links.expires_in", reason))?;
    }
    Ok(LinkWishes {
        expires_in: links.expires_in,
        disposition: links.disposition,
        filename: parse_optional("links.filename", links.filename.as_deref())?,
        via,
        per_recipient: links.per_recipient,
        sign_in: links.sign_in,
        open: links.open,
    })
}

/// Checks the lifetime that a job may ask for; S3's limit is that of its signature.
pub(crate) fn check_expires_in(expires_in: Span, via: Via) -> Result<(), String> {
    if expires_in.as_secs() == 0 {
        return Err("is 0: a link must live for at least one second".to_owned());
    }
    if via == Via::S3 && expires_in > MAX_S3_EXPIRES_IN {
        return Err(format!(
            "is {expires_in}: S3 lets a link live for {MAX_S3_EXPIRES_IN} at most"
        ));
    }
    Ok(())
}

fn gallery_order(gallery: wire::GalleryFields, via: Via) -> Result<GalleryOrder, ParseJobError> {
    const FIELD: &str = "gallery.publish";
    const RENDITIONS: &str = "gallery.renditions";
    let wrong = |reason: &str| Err(ParseJobError::field(FIELD, reason));
    match (&gallery.publish, via) {
        (Some(_), Via::Portal) => {
            return wrong(
                "is set together with links.via = \"portal\": the portal serves the page itself; leave it out",
            );
        }
        (None, Via::S3 | Via::Cloudfront) => {
            return wrong(
                "is missing: write \"publish\": { \"bucket\": \"acme-pages\", \"prefix\": \"q3/\" }, or let the portal serve the page (links.via)",
            );
        }
        _ => {}
    }
    let renditions = gallery.renditions;
    let renditions = renditions.map(|place| publish_to(RENDITIONS, place));
    let renditions = renditions.transpose()?;
    match (&renditions, via) {
        (Some(_), Via::S3 | Via::Cloudfront) => {
            let reason = "is for links of the portal: a published page has its renditions beside it; leave it out";
            return Err(ParseJobError::field(RENDITIONS, reason));
        }
        (Some(PublishTo::Dir(_)), Via::Portal) => {
            let reason =
                "names a directory, and the portal reads renditions from a bucket: name a bucket";
            return Err(ParseJobError::field(RENDITIONS, reason));
        }
        _ => {}
    }
    Ok(GalleryOrder {
        title: parse_optional("gallery.title", gallery.title.as_deref())?,
        message: message::parse("gallery.message", gallery.message)?,
        template: parse_field("gallery.template", &gallery.template)?,
        publish: gallery
            .publish
            .map(|publish| publish_to(FIELD, publish))
            .transpose()?,
        renditions,
    })
}

fn manifest_order(manifest: wire::ManifestFields) -> Result<ManifestOrder, ParseJobError> {
    Ok(ManifestOrder {
        format: manifest.format,
        publish: publish_to("manifest.publish", manifest.publish)?,
    })
}

/// The smallest size at which ZIPs are split.
const MIN_SPLIT: Size = Size::mebibytes(1);

fn zip_order(zip: wire::ZipFields, via: Via) -> Result<ZipOrder, ParseJobError> {
    const FIELD: &str = "zip.publish";
    if zip.publish.is_none() && via != Via::Portal {
        let reason = "is missing: write \"publish\": { \"bucket\": \"acme-out\", \"prefix\": \"zips/\" }, or let the portal make the ZIP as it is downloaded (links.via)";
        return Err(ParseJobError::field(FIELD, reason));
    }
    if let Some(split) = zip.split
        && split < MIN_SPLIT
    {
        let reason = format!("is {split}: give at least {MIN_SPLIT}");
        return Err(ParseJobError::field("zip.split", reason));
    }
    Ok(ZipOrder {
        name: parse_optional("zip.name", zip.name.as_deref())?,
        publish: zip
            .publish
            .map(|publish| publish_to(FIELD, publish))
            .transpose()?,
        split: zip.split,
    })
}

fn publish_to(field: &str, publish: wire::Publish) -> Result<PublishTo, ParseJobError> {
    match (publish.bucket, publish.dir) {
        (Some(bucket), None) => Ok(PublishTo::Bucket(
            parse_field(&format!("{field}.bucket"), &bucket)?,
            parse_field(
                &format!("{field}.prefix"),
                &publish.prefix.unwrap_or_default(),
            )?,
        )),
        (None, Some(dir)) => {
            let path = PathBuf::from(&dir);
            let plain = path.components().all(|part| {
                matches!(
                    part,
                    std::path::Component::RootDir | std::path::Component::Normal(_)
                )
            });
            let field = format!("{field}.dir");
            if !path.is_absolute() || !plain {
                let reason = "is not an absolute path without \"..\"";
                return Err(ParseJobError::field(field, reason));
            }
            place::check_directory(&dir).map_err(|error| ParseJobError::field(field, error))?;
            Ok(PublishTo::Dir(path))
        }
        _ => Err(ParseJobError::field(
            field,
            "needs either a bucket (with a prefix) or a dir",
        )),
    }
}

/// The id of a job. That of a part belongs to the job that it is a part of.
fn own_id(text: &str) -> Result<JobId, ParseJobError> {
    let id: JobId = parse_field("id", text)?;
    match id.whole() {
        None => Ok(id),
        Some(_) => Err(ParseJobError::field(
            "id",
            "has the form of a part of another job: leave out \".part.\" or the 32 digits behind it",
        )),
    }
}

fn parse_field<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<T, ParseJobError> {
    text.parse()
        .map_err(|error| ParseJobError::field(field, error))
}

fn parse_optional<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, ParseJobError> {
    text.map(|text| parse_field(field, text)).transpose()
}
