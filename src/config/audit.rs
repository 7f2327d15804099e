//! Validation of `[audit]`.

use super::Config;
use crate::config_error::ConfigError;
use crate::job::{Bucket, ConnectionName};
use crate::quantity::Span;

/// The minimum segment size: smaller segments would produce too many files in a busy log.
const MIN_ROTATE_SIZE: u64 = 1_000_000;

/// The longest prefix of the archive: S3's limit of a key, less the names below it.
const MAX_PREFIX: usize = 512;

/// Where the audit log is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditArchivePlace {
    /// The connection to its bucket.
    pub connection: ConnectionName,
    /// The bucket.
    pub bucket: Bucket,
    /// The beginning of its keys; empty, or with a slash at its end.
    pub prefix: String,
}

impl Config {
    pub(super) fn check_audit(&self) -> Result<(), ConfigError> {
        if self.audit.rotate_size.as_bytes() < MIN_ROTATE_SIZE {
            return Err(ConfigError::value(
                "audit.rotate_size",
                format!("is {}: it must be at least 1MB", self.audit.rotate_size),
            ));
        }
        for (key, span) in [
            ("audit.keep", self.audit.keep),
            ("audit.archive_lock", self.audit.archive_lock),
        ] {
            if let Some(span) = span.filter(|span| *span < Span::days(1)) {
                let reason = format!("is {span}: it must be at least 1d");
                return Err(ConfigError::value(key, reason));
            }
        }
        let Some(place) = self.audit_archive()? else {
            let stray = [
                (
                    "archive_connection",
                    self.audit.archive_connection.is_some(),
                ),
                ("archive_lock", self.audit.archive_lock.is_some()),
            ];
            return match stray.into_iter().find(|(_, is_given)| *is_given) {
                None => Ok(()),
                Some((field, _)) => Err(ConfigError::value(
                    format!("audit.{field}"),
                    "belongs to an archive: give audit.archive too",
                )),
            };
        };
        self.check_apart(&place)
    }

    /// The archive of the audit log, if there is one.
    ///
    /// # Errors
    /// It is not `s3://BUCKET/PREFIX`, or its connection is unknown or has to be named.
    pub fn audit_archive(&self) -> Result<Option<AuditArchivePlace>, ConfigError> {
        let Some(place) = &self.audit.archive else {
            return Ok(None);
        };
        self.archive_at("audit.archive", place).map(Some)
    }

    /// The archive at a place, which `key` of the configuration or an argument names.
    ///
    /// # Errors
    /// As for [`Config::audit_archive`].
    pub fn archive_at(&self, key: &str, place: &str) -> Result<AuditArchivePlace, ConfigError> {
        let wrong = |reason: String| ConfigError::value(key, reason);
        let path = place.strip_prefix("s3://").ok_or_else(|| {
            wrong(format!(
                "is {place:?}: write s3://BUCKET or s3://BUCKET/PREFIX"
            ))
        })?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()/".contains(c);
        if prefix.len() > MAX_PREFIX || !prefix.chars().all(is_plain) {
            return Err(wrong(format!(
                "has the prefix {prefix:?}: write at most {MAX_PREFIX} letters, digits and -_./"
            )));
        }
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(AuditArchivePlace {
            connection: self.archive_connection()?,
            bucket: bucket
                .parse()
                .map_err(|error| ConfigError::value(key, error))?,
            prefix,
        })
    }

    fn archive_connection(&self) -> Result<ConnectionName, ConfigError> {
        let named = self.audit.archive_connection.as_deref();
        self.connection_or_only("audit.archive_connection", named, "writes audit.archive")
    }

    /// Checks that no rule lets a job read or write the archive: a job could otherwise hand out or forge audit lines.
    fn check_apart(&self, place: &AuditArchivePlace) -> Result<(), ConfigError> {
        let meets = |bucket: &str, prefix: &str| {
            bucket == place.bucket.as_str()
                && (prefix.starts_with(&place.prefix) || place.prefix.starts_with(prefix))
        };
        let is_met_by = |target: &String| {
            let target = target.strip_prefix("s3://");
            target.is_some_and(|target| {
                let (bucket, prefix) = target.split_once('/').unwrap_or((target, ""));
                meets(bucket, prefix)
            })
        };
        let of_rule = self.allow.iter().position(|rule| {
            meets(&rule.bucket, &rule.prefix) || rule.publish.iter().any(is_met_by)
        });
        let by = match of_rule {
            Some(index) => format!("the rule allow[{index}] opens to jobs"),
            None if self.gallery.default_publish.as_ref().is_some_and(is_met_by) => {
                "gallery.default_publish opens to jobs".to_owned()
            }
            None => return Ok(()),
        };
        let reason = format!(
            "is s3://{}/{}, which {by}: give the archive a bucket or a prefix of its own",
            place.bucket, place.prefix
        );
        Err(ConfigError::value("audit.archive", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check_audit().unwrap_err().to_string()
    }

    #[test]
    fn segments_are_not_tiny_and_kept_for_a_day_at_least() {
        assert_eq!(
            said(|config| config.audit.rotate_size = "10KB".parse().unwrap()),
            "the configuration's audit.rotate_size is 10KB: it must be at least 1MB"
        );
        assert_eq!(
            said(|config| config.audit.keep = Some(Span::hours(23))),
            "the configuration's audit.keep is 23h: it must be at least 1d"
        );
    }

    #[test]
    fn an_archive_has_a_place_and_a_connection_and_is_apart_from_jobs() {
        let mut config = Config::default();
        config.audit.archive = Some("s3://acme-audit/handout".to_owned());
        let place = config.audit_archive().unwrap().unwrap();
        assert_eq!(
            (
                place.connection.as_str(),
                place.bucket.as_str(),
                &*place.prefix
            ),
            ("local", "acme-audit", "handout/")
        );
        let archive = |config: &mut Config, place: &str| {
            config.audit.archive = Some(place.to_owned());
        };
        insta::assert_snapshot!(
            [
                said(|config| archive(config, "acme-audit")),
                said(|config| archive(config, "s3://acme-audit/a b")),
                said(|config| config.audit.archive_lock = Some(Span::days(365))),
                said(|config| {
                    archive(config, "s3://acme-audit");
                    config.audit.archive_connection = Some("other".to_owned());
                }),
                said(|config| {
                    archive(config, "s3://acme-audit/audit");
                    config.gallery.default_publish = Some("s3://acme-audit/".to_owned());
                }),
            ]
            .join("\n"),
            @r#"
        the configuration's audit.archive is "acme-audit": write s3://BUCKET or s3://BUCKET/PREFIX
        the configuration's audit.archive has the prefix "a b": write at most 512 letters, digits and -_./
        the configuration's audit.archive_lock belongs to an archive: give audit.archive too
        the configuration's audit.archive_connection is "other", which is not a connection; configured: local
        the configuration's audit.archive is s3://acme-audit/audit/, which gallery.default_publish opens to jobs: give the archive a bucket or a prefix of its own
        "#
        );
    }
}
