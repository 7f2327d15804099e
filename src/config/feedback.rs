//! `[feedback]` and `mail.bounce_address`: where bounces and complaints come from.

use std::path::PathBuf;

use lettre::Address;
use serde::{Deserialize, Serialize};

use super::{Config, LedgerKind, MailConfig};
use crate::config::queue_address::QueueAddress;
use crate::config_error::ConfigError;
use crate::job::address;
use crate::person_token::PERSON_TOKEN_LETTERS;

/// The longest local part (RFC 5321, section 4.5.3.1.1), in bytes.
const MAX_LOCAL_PART: usize = 64;

/// What is left of it for the part before the `+`.
const MAX_BEFORE_TOKEN: usize = MAX_LOCAL_PART - PERSON_TOKEN_LETTERS - 1;

/// Bounces, complaints and deliveries, as mail systems report them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedbackConfig {
    /// The URL of an SQS queue with events of SES. It must not be the queue of jobs.
    pub queue_url: Option<String>,
    /// That queue's region, if it differs from the one in the URL.
    pub region: Option<String>,
    /// The server of the queue, if it differs from the one in the URL.
    pub endpoint_url: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file with CA certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether suppressed recipients are refused, where the ledger is in a bucket and neither this queue, `mail.bounce_address` nor the
    /// portal is configured.
    pub suppress: bool,
}

impl Config {
    /// Whether each job looks for suppressed recipients. A ledger in a bucket needs the right to list the records of people for it.
    pub fn suppresses(&self) -> bool {
        self.ledger.kind == LedgerKind::Sqlite
            || self.feedback.suppress
            || self.feedback.queue_url.is_some()
            || self.mail.bounce_address.is_some()
            || self.portal.public_url.is_some()
    }

    /// Checks that jobs look for suppressed recipients, before one is recorded.
    ///
    /// # Errors
    /// They would not look, so that the record would change nothing.
    pub fn must_suppress(&self) -> Result<(), ConfigError> {
        if self.suppresses() {
            return Ok(());
        }
        let reason = "is false: with a ledger in a bucket, jobs look for suppressed recipients only where it is true, or feedback.queue_url, mail.bounce_address or the portal is set";
        Err(ConfigError::value("feedback.suppress", reason))
    }

    /// The address in whose local part the token of a recipient is put.
    ///
    /// # Errors
    /// It is no address, has a `+`, is too long for a token, or a relay has an envelope sender of its own.
    pub fn bounce_address(&self) -> Result<Option<Address>, ConfigError> {
        const KEY: &str = "mail.bounce_address";
        let Some(text) = &self.mail.bounce_address else {
            return Ok(None);
        };
        let wrong = |reason: String| Err(ConfigError::value(KEY, reason));
        let address = address::parse(text).map_err(|error| ConfigError::value(KEY, error))?;
        let user = address.user();
        let is_plain = user
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_plain {
            return wrong("has other characters than letters, digits, \".\", \"_\" and \"-\" before its \"@\": write an address such as \"bounces@sender.example\"".to_owned());
        }
        if user.len() > MAX_BEFORE_TOKEN {
            return wrong(format!(
                "has {} bytes before its \"@\": at most {MAX_BEFORE_TOKEN} leave room for the token that is added",
                user.len()
            ));
        }
        for (name, relay) in self.mail.relays_by_name()? {
            if relay.envelope_from.is_some() {
                let section = MailConfig::section_of(&name);
                return wrong(format!(
                    "stands beside {section}.envelope_from, which sets the envelope sender of that relay: give one of them"
                ));
            }
        }
        Ok(Some(address))
    }

    /// The URL below which the portal's links to leave a list are; `None` where mail programs would not take them (RFC 8058 asks for https).
    pub fn leave_url(&self) -> Option<String> {
        let url = self.portal.public_url.as_ref()?;
        url.starts_with("https://")
            .then(|| url.trim_end_matches('/').to_owned())
    }

    pub(super) fn check_feedback(&self) -> Result<(), ConfigError> {
        self.bounce_address()?;
        let FeedbackConfig {
            queue_url,
            region,
            endpoint_url,
            profile,
            ca_file,
            ..
        } = &self.feedback;
        let Some(url) = queue_url else {
            let of_queue = [
                ("region", region.is_some()),
                ("endpoint_url", endpoint_url.is_some()),
                ("profile", profile.is_some()),
                ("ca_file", ca_file.is_some()),
            ];
            return match of_queue.into_iter().find(|(_, is_given)| *is_given) {
                Some((field, _)) => Err(ConfigError::value(
                    format!("feedback.{field}"),
                    "belongs to a queue: give queue_url too",
                )),
                None => Ok(()),
            };
        };
        let others = [
            ("queue.url", &self.queue.url),
            ("queue.parked_url", &self.queue.parked_url),
            ("results.queue_url", &self.results.queue_url),
        ];
        let address = |url: &str| QueueAddress::parse(url).ok();
        let wanted = address(url);
        let same = others.into_iter().find(|(_, other)| {
            other.as_deref() == Some(url)
                || wanted.is_some() && other.as_deref().and_then(address) == wanted
        });
        match same {
            // What is on the queue of jobs commands this program.
            Some((key, _)) => Err(ConfigError::value(
                "feedback.queue_url",
                format!("is {key}: give feedback a queue of its own"),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn check(text: &str) -> String {
        let config = Config::parse(text, &Environment::default()).unwrap();
        config
            .check()
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn a_bounce_address_has_room_for_a_token_and_feedback_a_queue_of_its_own() {
        let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012";
        let table = [
            "[mail]\nbounce_address = \"bounces@sender.example\"".to_owned(),
            "[mail]\nbounce_address = \"bounces+x@sender.example\"".to_owned(),
            "[mail]\nbounce_address = \"undelivered-mail-of-reports@sender.example\"".to_owned(),
            "[mail]\nbounce_address = \"bounces@sender.example\"\n[mail.smtp]\nenvelope_from = \"b@sender.example\"".to_owned(),
            format!("[feedback]\nqueue_url = \"{queue}/feedback\""),
            format!("[feedback]\nqueue_url = \"{queue}/jobs\"\n[queue]\nkind = \"sqs\"\nurl = \"{queue}/jobs\""),
            "[feedback]\nregion = \"eu-west-1\"".to_owned(),
            "[feedback]\nqueue_url = \"nonsense\"".to_owned(),
        ]
        .map(|text| check(&text));
        insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        the configuration's mail.bounce_address has other characters than letters, digits, ".", "_" and "-" before its "@": write an address such as "bounces@sender.example"
        the configuration's mail.bounce_address has 27 bytes before its "@": at most 18 leave room for the token that is added
        the configuration's mail.bounce_address stands beside mail.smtp.envelope_from, which sets the envelope sender of that relay: give one of them
        fine
        the configuration's feedback.queue_url is queue.url: give feedback a queue of its own
        the configuration's feedback.region belongs to a queue: give queue_url too
        the configuration's feedback.queue_url is not the URL of a queue: write it in full, as `aws sqs get-queue-url --queue-name NAME` prints it, such as https://sqs.eu-west-1.amazonaws.com/123456789012/NAME
        "#);
    }
}
