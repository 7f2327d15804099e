//! The values of the command line, and which of them go together.

use std::str::FromStr;
use std::sync::Arc;

use clap::CommandFactory;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use handout::assemble::connection::Direct;
use handout::clock;
use handout::config::Config;
use handout::job::glob::Globs;
use handout::job::{Bucket, ContentDisposition, FileName, Filter, Via};
use handout::keyring::Purpose;
use handout::links::direct::{Identity, LinkOptions};
use handout::plan::{Audience, ExpiryGuard, ResponseOverrides};
use handout::quantity::Span;
use jiff::Timestamp;
use presign::disposition::is_passive;
use presign::{ServerUrl, ServerUrlError};

use super::PresignArgs;
use super::recording::PresignBooks;
use crate::cli::Cli;

/// The characters of a link id besides letters and digits.
const LINK_ID_MARKS: [char; 4] = ['-', '_', '.', '~'];

/// The maximum length of a link id: longer links are broken by mail programs.
const MAX_LINK_ID_BYTES: usize = 64;

pub(super) fn usage(wrong: &str) -> clap::Error {
    Cli::command().error(ErrorKind::ValueValidation, wrong)
}

/// A bucket, and usually a key in it.
#[derive(Debug, Clone)]
pub(super) struct ObjectPlace {
    pub(super) bucket: Bucket,
    /// The key, or with `--recursive` the prefix of keys.
    pub(super) key: String,
}

impl FromStr for ObjectPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text
            .strip_prefix("s3://")
            .ok_or("it is not of the form s3://BUCKET/KEY")?;
        let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
        let bucket = bucket
            .parse()
            .map_err(|error| format!("the bucket {error}"))?;
        Ok(Self {
            bucket,
            key: key.to_owned(),
        })
    }
}

pub(super) fn expires_in(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    match span.as_secs() {
        0 => Err("a link needs a second at least".to_owned()),
        _ => Ok(span),
    }
}

pub(super) fn via() -> impl TypedValueParser<Value = Via> {
    PossibleValuesParser::new(["s3", "cloudfront"]).map(|value| match value.as_str() {
        "cloudfront" => Via::Cloudfront,
        _ => Via::S3,
    })
}

pub(super) fn guard() -> impl TypedValueParser<Value = ExpiryGuard> {
    PossibleValuesParser::new(["refuse", "clamp", "ignore"]).map(|value| match value.as_str() {
        "clamp" => ExpiryGuard::Clamp,
        "ignore" => ExpiryGuard::Ignore,
        _ => ExpiryGuard::Refuse,
    })
}

pub(super) fn server_url(text: &str) -> Result<String, ServerUrlError> {
    ServerUrl::parse(text).map(|_| text.to_owned())
}

pub(super) fn media_type(text: &str) -> Result<String, String> {
    // The value becomes a response header.
    let is_plain = |c: char| matches!(c, ' '..='~');
    match text.contains('/') && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("it is not a media type, such as \"application/pdf\"".to_owned()),
    }
}

pub(super) fn link_id(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || LINK_ID_MARKS.contains(&c);
    match (1..=MAX_LINK_ID_BYTES).contains(&text.len()) && text.chars().all(is_allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "an identity has 1 to {MAX_LINK_ID_BYTES} letters, digits, '-', '_', '.' and '~'"
        )),
    }
}

impl PresignArgs {
    /// Checks combinations of options.
    pub(super) fn check(&self) -> Result<(), clap::Error> {
        let several = self.keys_from.is_some() || self.recursive || self.places.len() > 1;
        let lists_keys = self.keys_from.is_some() || self.recursive;
        let wants_policy = self.not_before.is_some() || self.from_network.is_some();
        let is_past = |begin: Timestamp| begin <= clock::system();
        // A stored Content-Disposition may say inline, now or when the link is opened.
        let may_be_shown = self.inline || matches!(self.filename, Some(FileName::Stored));
        let mut shown_type = self.content_type.iter().filter(|_| may_be_shown);
        let wrong = if self.keys_from.is_some() && self.recursive {
            "--keys-from reads the keys and --recursive lists them: give one of the two"
        } else if self.keys_from.is_some() && self.places.len() > 1 {
            "--keys-from takes one bucket"
        } else if self.keys_from.is_some() && !self.places[0].key.is_empty() {
            "--keys-from takes a bucket without a key: the keys are the lines, whole"
        } else if !lists_keys && self.places.iter().any(|place| place.key.is_empty()) {
            "a bucket is named without a key: write s3://BUCKET/KEY, give the keys by --keys-from, or link every object by --recursive"
        } else if self.version_id.is_some() && several {
            "--version-id is one object's: name one"
        } else if self.via == Via::Cloudfront && self.connection.is_none() {
            "--via cloudfront needs the --connection whose distribution it is"
        } else if self.via == Via::S3 && wants_policy {
            "--not-before and --from-network are for CloudFront only: S3 has no such links; give --via cloudfront"
        } else if self.not_before.is_some_and(is_past) {
            "--not-before is in the past: leave it out, and the links work at once"
        } else if shown_type.any(|text| !is_passive(text)) {
            "--inline and --filename stored do not allow this --content-type: it could run scripts in the browser and read other objects of the bucket"
        } else {
            return Ok(());
        };
        Err(usage(wrong))
    }

    /// Whether the links omit response overrides, so that files are served as S3 stores them.
    pub(super) fn comes_as_kept(&self, direct: &Direct) -> bool {
        let distribution = direct.distribution.as_ref();
        let distribution = distribution.filter(|_| self.via == Via::Cloudfront);
        distribution.is_some_and(|distribution| {
            distribution.origin_scope.overrides == ResponseOverrides::Omitted
        })
    }

    /// Rejects a link id for links that have none.
    pub(super) fn check_link_id(&self, config: Option<&Config>) -> Result<(), clap::Error> {
        let connection = self.connection.as_ref();
        let connection = connection.and_then(|name| config?.connections.get(name));
        let has_none = connection.is_some_and(|it| it.link_parameters == Some(false));
        match self.link_id.is_some() && has_none && self.via == Via::S3 {
            true => Err(usage(
                "--link-id would not be in the link: link_parameters = false in the connection",
            )),
            false => Ok(()),
        }
    }

    /// Rejects options that such links cannot express.
    pub(super) fn check_as_kept(&self) -> Result<(), clap::Error> {
        match self.filename.is_some() || self.content_type.is_some() || self.inline {
            true => Err(usage(
                "--filename, --content-type and --inline do not reach S3 here: response_overrides = false in the connection's cloudfront",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn options(
        &self,
        config: Option<&Config>,
        recording: Option<&PresignBooks>,
    ) -> LinkOptions {
        let identity = match (&self.link_id, recording) {
            (Some(id), _) => Identity::Given(id.clone()),
            (None, Some(recording)) => {
                Identity::Derived(recording.keyring.deriver(Purpose::LinkId))
            }
            (None, None) => Identity::None,
        };
        let recipient = self.recipient.clone().map(Arc::new);
        LinkOptions {
            filename: self.filename.clone(),
            disposition: match self.inline {
                true => ContentDisposition::Inline,
                false => ContentDisposition::Attachment,
            },
            content_type: self.content_type.clone(),
            text_charset: config
                .map(|config| config.links.text_charset)
                .unwrap_or_default(),
            version_id: self.version_id.clone(),
            identity,
            audience: recipient.map_or(Audience::Everyone, Audience::Recipient),
        }
    }

    /// The objects that are named.
    pub(super) fn named(&self) -> Vec<(Bucket, String)> {
        let places = self.places.iter();
        places
            .map(|place| (place.bucket.clone(), place.key.clone()))
            .collect()
    }

    /// Which of the listed keys are linked.
    pub(super) fn filter(&self) -> Result<Filter, clap::Error> {
        let include = globs("--include", &self.include)?;
        Ok(Filter {
            include: Some(include).filter(|globs| !globs.is_empty()),
            exclude: globs("--exclude", &self.exclude)?,
            modified_after: None,
        })
    }
}

/// Patterns of keys below the prefix.
fn globs(option: &str, patterns: &[String]) -> Result<Globs, clap::Error> {
    let patterns: Vec<String> = patterns.iter().map(|text| in_any_folder(text)).collect();
    let globs = Globs::parse(option, &patterns);
    globs.map_err(|error| usage(&error.to_string()))
}

/// As in rsync and rclone: a pattern without a slash is for names in every folder, and a slash at the beginning is for the folder
/// of the prefix itself.
fn in_any_folder(pattern: &str) -> String {
    match pattern.strip_prefix('/') {
        Some(anchored) => anchored.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
    }
}
