//! The job as JSON: the fields of format version 1. Values are validated in [`super`].
//!
//! Unknown fields are errors: a misspelt `exclude` would otherwise hand out the objects that it should exclude. The
//! schema that `handout schema` prints is derived from these types.

mod mistakes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bounds::{MAX_MESSAGE_BYTES, MAX_MESSAGE_LANGUAGES};
use crate::quantity::{Size, Span};

pub use mistakes::from_value;

/// The version of the format that this program reads.
pub const VERSION: u64 = 1;

/// A job: what to hand out, to whom, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Job")]
pub struct JobFields {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub v: u64,
    /// The idempotency key: a job with an id that was done already is not done again.
    #[schemars(length(min = 1, max = 256))]
    pub id: String,
    /// The instant that the job is about (RFC 3339): `{{date}}` and the like in its phrases. A scheduler gives the
    /// instant it was scheduled for, so that a job that runs late, or is delivered again, is about the same day.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub scheduled_at: Option<Timestamp>,
    /// The time zone of the dates in its phrases and of the times in its mails and pages, such as `Europe/Berlin`; the
    /// configuration's (`mail.time_zone`) when left out.
    pub time_zone: Option<String>,
    /// Which objects.
    pub from: From,
    /// How their links are made.
    #[serde(default)]
    pub links: LinksFields,
    /// The mails, if any.
    pub email: Option<Email>,
    /// The page of all links, if any.
    pub gallery: Option<GalleryFields>,
    /// The list of all links for programs, if any.
    pub manifest: Option<ManifestFields>,
    /// One ZIP of all files, if any.
    pub zip: Option<ZipFields>,
    /// What to do about an in-doubt delivery: an attempt after which the mail may have left; the configuration's
    /// `ledger.on_doubt` when left out. A job can be stricter than the configuration (`hold`), and never laxer.
    pub on_doubt: Option<OnDoubt>,
    /// Values for templates and phrases.
    #[serde(default)]
    pub vars: Map<String, Value>,
    /// Makes the job a rehearsal: each of its mails goes to one address, and none to its recipients.
    pub rehearsal: Option<RehearsalFields>,
}

/// A rehearsal: who gets all mails of the job.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rehearsal")]
pub struct RehearsalFields {
    /// The address. A rule must allow it as it must allow each recipient.
    pub to: String,
    /// How many recipients it is for, the first of them. When left out, a job in parts is rehearsed with ten, and another job with all.
    #[schemars(range(min = 1, max = 100))]
    pub recipients: Option<usize>,
}

/// What to do about an in-doubt delivery: an attempt after which the mail may have left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDoubt {
    /// Send the mail again with the same Message-ID: delivered at least once.
    #[default]
    Resend,
    /// Wait for an operator's decision: delivered at most once.
    Hold,
}

/// Which objects are handed out: those under `prefix`, or those named in `keys`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// The name of a connection in the configuration.
    pub connection: String,
    /// The bucket.
    pub bucket: String,
    /// The prefix of the objects' keys; names in braces are filled in. If it names the recipient, as in
    /// `customers/{{recipient.vars.customer}}/`, each recipient gets what lies under their own prefix.
    pub prefix: Option<String>,
    /// The objects' keys, literally. If one of them names the recipient, as in `{{recipient.vars.customer}}.pdf`, names in braces are
    /// filled in, and each recipient gets the files under their own keys.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    pub keys: Vec<String>,
    /// Globs, relative to the prefix; a key must match at least one.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs, relative to the prefix; a key that matches any is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Only objects changed after this instant (RFC 3339).
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub modified_after: Option<Timestamp>,
    /// In which order.
    #[serde(default)]
    pub order: Order,
    /// The maximum number of objects; the first in the order are taken.
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
    /// What to do when no object matches. Left out, it is `refuse`, and `skip` for the job of an event: the object of an upload may
    /// be gone when its turn comes, as temporary files of other programs are.
    pub when_empty: Option<WhenEmpty>,
}

/// The order of the objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// By key, as S3 lists; streamed, so that the number of objects is not bounded by memory.
    #[default]
    Key,
    /// The last changed first.
    Newest,
    /// The last changed last.
    Oldest,
    /// The largest first.
    Largest,
    /// By file name, numbers by their value.
    Name,
}

/// What to do when no object matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// Park the job: files were expected.
    Refuse,
    /// Deliver a mail that says that there are no files.
    Deliver,
    /// Do nothing; the job is done.
    Skip,
}

/// How links are made; what is left out is taken from the configuration.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Links")]
pub struct LinksFields {
    /// How long a link works: `"90s"`, `"15m"`, `"24h"`, `"7d"`, or a number of seconds.
    pub expires_in: Option<Span>,
    /// What a browser does with the file.
    pub disposition: Option<ContentDisposition>,
    /// The name under which the file is saved; names in braces are filled in. `"stored"`: as the `Content-Disposition` that
    /// is stored with the file says.
    pub filename: Option<String>,
    /// The service that answers the link.
    pub via: Option<Via>,
    /// Whether each recipient gets links of their own.
    pub per_recipient: Option<bool>,
    /// For links of the portal: how a visitor signs in. A job can ask for more than its rule, not for less.
    pub sign_in: Option<SignIn>,
    /// For links of the portal: what a link answers first.
    pub open: Option<OpenMode>,
}

/// What a browser does with a linked file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Disposition")]
pub enum ContentDisposition {
    /// The browser saves the file.
    #[default]
    Attachment,
    /// The browser shows the file if it can. Types that can run scripts are saved in either case.
    Inline,
}

impl std::convert::From<ContentDisposition> for presign::disposition::DispositionType {
    fn from(disposition: ContentDisposition) -> Self {
        match disposition {
            ContentDisposition::Attachment => Self::Attachment,
            ContentDisposition::Inline => Self::Inline,
        }
    }
}

/// The service that answers a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// S3 itself.
    #[default]
    S3,
    /// A CloudFront distribution.
    Cloudfront,
    /// The portal, which signs a link when it is opened.
    Portal,
}

impl Via {
    /// The word of jobs and rules.
    pub const fn word(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Cloudfront => "cloudfront",
            Self::Portal => "portal",
        }
    }
}

/// How a visitor of the portal signs in. A later value is stricter.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SignIn {
    /// Not at all: the link suffices.
    #[default]
    None,
    /// By a code or by OIDC.
    Any,
    /// By a code that is mailed to the recipient's address.
    Code,
    /// At an OIDC issuer.
    Oidc,
}

impl SignIn {
    /// The word of jobs and rules.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Any => "any",
            Self::Code => "code",
            Self::Oidc => "oidc",
        }
    }
}

/// What a link of the portal answers first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OpenMode {
    /// A page with a button, which programs that follow the links of mails do not press.
    #[default]
    Page,
    /// The file at once.
    Direct,
}

/// The mails of a job.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The recipients, or a list of the configuration. Each gets a separate mail.
    pub to: ToFields,
    /// More recipients, whom every mail shows in `Cc`. Each gets a separate mail, as those in `to` do.
    #[serde(default)]
    pub cc: Vec<RecipientFields>,
    /// Whom a mail shows as its recipients.
    #[serde(default)]
    pub visibility: Visibility,
    /// The list that the mails belong to (RFC 2919), such as `Daily reports <daily.sender.example>`; the
    /// configuration's when left out.
    pub list_id: Option<String>,
    /// The address for replies.
    pub reply_to: Option<String>,
    /// The subject; names in braces are filled in. When left out, the template makes one of the title, the sender and the date.
    pub subject: Option<String>,
    /// A message to the recipients, in paragraphs of plain text; names in braces are filled in.
    pub message: Option<MessageFields>,
    /// The template's name; `gallery-invite` when left out beside a gallery that the mail can link, else `report`.
    pub template: Option<String>,
    /// The name of a relay in the configuration; the first that the job's rule allows when left out.
    pub relay: Option<String>,
    /// What to do when a mail has no room for all files.
    #[serde(default)]
    pub overflow: Overflow,
}

/// What to do when a mail has no room for all files, and links no page or list that has the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Publish a page of all files and link it; a job without a place to publish it is rejected.
    #[default]
    Publish,
    /// Show as many as fit, and count the others.
    Summarize,
}

/// Whom a mail shows as its recipients, besides those in `cc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Only the recipient of the mail.
    #[default]
    Individual,
    /// All recipients in `to`.
    To,
}

/// The recipients of a job: named in it, or in a list of the configuration.
#[derive(Debug, Clone)]
pub enum ToFields {
    /// In the job.
    Named(Vec<RecipientFields>),
    /// In a list.
    List(ListFields),
}

/// A list of recipients, as in `{ "list": "customers" }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RecipientList")]
pub struct ListFields {
    /// The name of a `[[list]]` of the configuration.
    pub list: String,
}

impl<'de> Deserialize<'de> for ToFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ToFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ToFields, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(ToFields::Named)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToFields, A::Error> {
                ListFields::deserialize(MapAccessDeserializer::new(map)).map(ToFields::List)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for ToFields {
    fn schema_name() -> Cow<'static, str> {
        "Recipients".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let recipient = generator.subschema_for::<RecipientFields>();
        let list = generator.subschema_for::<ListFields>();
        json_schema!({
            "description": "The recipients, such as [\"ann@acme.example\"], or a list of the configuration, such as { \"list\": \"customers\" }.",
            "anyOf": [{ "type": "array", "minItems": 1, "items": recipient }, list],
        })
    }
}

/// A recipient: `"Ann Bell <ann@acme.example>"`, or an object with more fields.
#[derive(Debug, Clone)]
pub enum RecipientFields {
    /// An address, with or without a name.
    Short(String),
    /// An address with a language and variables.
    Full(FullRecipient),
}

/// A recipient as an object.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullRecipient {
    /// The address alone.
    pub address: String,
    /// The person's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The mail's language, such as `de` or `pt-BR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The time zone of the times in the mail, such as `Europe/Berlin`; the job's when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Values for this recipient's mail.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub vars: Map<String, Value>,
}

impl FullRecipient {
    /// About how many bytes it takes as JSON.
    pub(crate) fn size_bytes(&self) -> usize {
        let vars = self.vars.iter().map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.len(),
                value => value.to_string().len(),
            };
            name.len() + value
        });
        self.address.len() + self.name.as_ref().map_or(0, String::len) + vars.sum::<usize>()
    }
}

// By hand, since serde's untagged enums answer "data did not match any variant" and name no field.
impl<'de> Deserialize<'de> for RecipientFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RecipientFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"Ann Bell <ann@acme.example>\", or an object with an \"address\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RecipientFields, E> {
                Ok(RecipientFields::Short(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RecipientFields, A::Error> {
                FullRecipient::deserialize(MapAccessDeserializer::new(map))
                    .map(RecipientFields::Full)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RecipientFields {
    fn schema_name() -> Cow<'static, str> {
        "Recipient".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<FullRecipient>();
        json_schema!({
            "description": "An address such as \"Ann Bell <ann@acme.example>\", or an object that says more.",
            "anyOf": [{ "type": "string" }, full],
        })
    }
}

/// A message: one text, or a text for each of some languages.
#[derive(Debug, Clone)]
pub enum MessageFields {
    /// The same text for all.
    One(String),
    /// By the tag of its language.
    Languages(BTreeMap<String, String>),
}

impl<'de> Deserialize<'de> for MessageFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = MessageFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object with a text for each language such as {\"en\": \"…\", \"de\": \"…\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MessageFields, E> {
                Ok(MessageFields::One(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MessageFields, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(MessageFields::Languages)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for MessageFields {
    fn schema_name() -> Cow<'static, str> {
        "Message".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json!({ "type": "string", "minLength": 1, "maxLength": MAX_MESSAGE_BYTES });
        json_schema!({
            "description": "Plain text; an empty line ends a paragraph. Or an object with a text for each language, such as {\"en\": \"…\", \"de\": \"…\"}: a reader gets that of their language, or else of `mail.locale`, or else the first by tag.",
            "anyOf": [
                text,
                { "type": "object", "minProperties": 1, "maxProperties": MAX_MESSAGE_LANGUAGES, "additionalProperties": text },
            ],
        })
    }
}

/// The page of all links.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Gallery")]
pub struct GalleryFields {
    /// The page's title; names in braces are filled in.
    pub title: Option<String>,
    /// A message to the readers of the page, in paragraphs of plain text; names in braces are filled in, those of a recipient not.
    pub message: Option<MessageFields>,
    /// The template's name.
    #[serde(default = "GalleryFields::default_template")]
    pub template: String,
    /// Where the page goes; left out with links of the portal, which serves the page itself.
    pub publish: Option<Publish>,
    /// With links of the portal: the bucket for copies of its pictures in two sizes (`gallery.renditions` in the configuration).
    /// Without it, the page shows the pictures themselves.
    pub renditions: Option<Publish>,
}

impl GalleryFields {
    fn default_template() -> String {
        "gallery".to_owned()
    }
}

/// The list of all links, for programs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Manifest")]
pub struct ManifestFields {
    /// In which form.
    #[serde(default)]
    pub format: ManifestFormat,
    /// Where the list goes.
    pub publish: Publish,
}

/// The form of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ManifestFormat {
    /// A table for spreadsheets (RFC 4180).
    #[default]
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// One URL a line, for `wget --content-disposition -i`.
    Urls,
    /// The same with the folder and the name to save each under, for `aria2c -i`.
    Aria2,
}

/// One ZIP of all files, which each recipient gets a link to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Zip")]
pub struct ZipFields {
    /// The name of the ZIP; names in braces are filled in. When left out, it is the title of the page, the subject of the mail
    /// or the folder.
    pub name: Option<String>,
    /// Where the ZIP goes. Left out with links of the portal, the portal makes it as it is downloaded (`portal.deliver = "stream"`).
    pub publish: Option<Publish>,
    /// The most bytes of one ZIP, such as `"50GB"`: more files make several ZIPs of whole files.
    pub split: Option<Size>,
}

/// Where a page or a list is put: a bucket of the job's connection, or a directory of this machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The bucket.
    pub bucket: Option<String>,
    /// The prefix of the key; names in braces are filled in.
    pub prefix: Option<String>,
    /// A directory, in place of a bucket.
    pub dir: Option<String>,
}

/// The JSON Schema of the format, as `handout schema` prints it.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(JobFields);
    schema.insert("title".to_owned(), "Handout job, version 1".into());
    // The portal serves the page of its links itself.
    let via_portal = json!({
        "required": ["links"],
        "properties": { "links": {
            "type": "object",
            "required": ["via"],
            "properties": { "via": { "const": "portal" } },
        } },
    });
    let is_null = json!({ "type": "null" });
    schema.insert("if".to_owned(), via_portal);
    schema.insert(
        "then".to_owned(),
        json!({ "properties": { "gallery": { "properties": { "publish": is_null } } } }),
    );
    schema.insert(
        "else".to_owned(),
        json!({ "properties": {
            "gallery": { "if": { "type": "object" }, "then": {
                "required": ["publish"],
                "properties": { "publish": { "type": "object" }, "renditions": is_null },
            } },
            "links": { "properties": { "sign_in": is_null, "open": is_null } },
        } }),
    );
    schema
}
