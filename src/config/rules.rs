//! Builds the policy and the event rules from `[[allow]]` and `[[on_event]]`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobMatcher;
use presign::ServerUrl;

use super::load::is_private;
use super::{AllowConfig, Config, OnEventConfig};
use crate::config_error::ConfigError;
use crate::job::address::{self, AddressError, ascii_domain, ascii_labels};
use crate::job::envelope::EventRule;
use crate::job::glob::{self, Slashes};
use crate::job::place::MAX_KEY_BYTES;
use crate::job::{Prefix, PublishTo, RelayName};
use crate::mounted;
use crate::plan::policy::{AllowRule, PublishRule};
use crate::plan::{LinkDefaults, Policy, PublishTarget};

impl Config {
    /// The limits and the defaults of jobs.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let rules = self
            .allow
            .iter()
            .enumerate()
            .map(|(index, allow)| self.allow_rule(index, allow));
        Ok(Policy {
            rules: rules.collect::<Result<_, _>>()?,
            links: LinkDefaults {
                expires_in: self.links.expires_in,
                expiry_guard: self.links.expiry_guard,
                disposition: self.links.disposition,
                filename: self.links.filename,
                text_charset: self.links.text_charset,
                per_recipient: self.links.per_recipient,
                on_unlinkable: self.links.on_unlinkable,
                pin_version: self.links.pin_version,
                preflight: self.links.preflight,
            },
            on_doubt: self.ledger.on_doubt,
            page_size: self.gallery.page_size,
            time_zone: self.time_zone()?,
            sender_domain: self.sender()?.address.domain().to_owned(),
            triggers: self.event_rules()?,
            default_publish: self.default_publish()?,
            base_urls: self.base_urls()?,
            portal: self.portal_rules()?,
            lists: self.recipient_lists()?,
        })
    }

    /// The URLs of `publish.base_urls`, each with a slash at its end.
    fn base_urls(&self) -> Result<Vec<(PathBuf, String)>, ConfigError> {
        let urls = self.publish.base_urls.iter().map(|(dir, url)| {
            let key = format!("publish.base_urls.{dir:?}");
            let wrong = |reason: String| ConfigError::value(key.clone(), reason);
            if !Path::new(dir).is_absolute() {
                return Err(wrong(
                    "is not an absolute path, as a directory in `publish` of an [[allow]] rule is"
                        .to_owned(),
                ));
            }
            let server = ServerUrl::parse(url).map_err(|error| wrong(error.to_string()))?;
            let origin = server.origin();
            if !is_private(&server) {
                return Err(wrong(format!(
                    "is {url:?}: mails and pages link https only, or http on this machine"
                )));
            }
            Ok((dir.into(), format!("{origin}{}/", server.path())))
        });
        urls.collect()
    }

    /// `gallery.default_publish` must be a bucket, since a mail links to what is published there.
    fn default_publish(&self) -> Result<Option<PublishTarget>, ConfigError> {
        let Some(target) = &self.gallery.default_publish else {
            return Ok(None);
        };
        let place = publish_rule(target).and_then(|rule| rule.bucket());
        place.map(Some).ok_or_else(|| {
            let reason = format!("is {target:?}: write \"s3://bucket/prefix\"; a mail cannot link what is in a directory");
            ConfigError::value("gallery.default_publish", reason)
        })
    }

    /// Checks the rules' job files with sample events. This finds jobs that could never be done, and jobs whose page would
    /// trigger the next event.
    pub fn check_event_rules(&self, policy: &Policy) -> Result<(), ConfigError> {
        if let Some(place) = policy.default_publish.as_ref()
            && policy.triggers_itself(place)
        {
            let reason = format!(
                "is {place}: a page there would trigger an [[on_event]] rule; publish elsewhere, or exclude it in the rule's `key`"
            );
            return Err(ConfigError::value("gallery.default_publish", reason));
        }
        for (index, rule) in policy.triggers.iter().enumerate() {
            let wrong = |reason: String| {
                let file = &self.on_event[index].job_file;
                let reason = format!("names {}: {reason}", file.display());
                ConfigError::value(format!("on_event[{index}].job_file"), reason)
            };
            let keys = rule.example_keys(std::iter::empty());
            let job = rule.example(&keys[0]);
            let job = job.map_err(|error| wrong(error.to_string()))?;
            let targets = [
                job.gallery
                    .as_ref()
                    .and_then(|order| order.publish.as_ref()),
                job.manifest.as_ref().map(|order| &order.publish),
            ];
            for target in targets.into_iter().flatten() {
                let PublishTo::Bucket(bucket, prefix) = target else {
                    continue;
                };
                let filled = prefix
                    .fill(&job.scope(policy.time_zone(&job)), MAX_KEY_BYTES)
                    .ok();
                let prefix = filled.and_then(|prefix| prefix.parse::<Prefix>().ok());
                // A prefix that the sample cannot fill is checked when a job is planned, like all prefixes.
                let Some(prefix) = prefix else { continue };
                let place = PublishTarget::Bucket(bucket.clone(), prefix);
                if policy.triggers_itself(&place) {
                    return Err(wrong(format!(
                        "what it publishes to {place} would trigger the rule again; publish elsewhere, or exclude it in `key`"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The rules that turn events into jobs.
    pub fn event_rules(&self) -> Result<Vec<EventRule>, ConfigError> {
        self.on_event
            .iter()
            .enumerate()
            .map(|(index, rule)| self.event_rule(index, rule))
            .collect()
    }

    fn allow_rule(&self, index: usize, allow: &AllowConfig) -> Result<AllowRule, ConfigError> {
        let key = |field: &str| format!("allow[{index}].{field}");
        let connection = self.known_connection(&key("connection"), &allow.connection)?;
        let patterns =
            |field: &str, patterns: &[String]| -> Result<Vec<GlobMatcher>, ConfigError> {
                let patterns = patterns.iter().enumerate().map(|(at, pattern)| {
                    address_pattern(pattern)
                        .and_then(|pattern| matcher(&pattern, Slashes::Plain))
                        .map_err(|error| ConfigError::value(key(&format!("{field}[{at}]")), error))
                });
                patterns.collect()
            };
        let publish = allow.publish.iter().enumerate().map(|(at, target)| {
            publish_rule(target).ok_or_else(|| {
                let reason = format!(
                    "is {target:?}: write \"s3://bucket/prefix\" or \"dir:/absolute/path\""
                );
                ConfigError::value(key(&format!("publish[{at}]")), reason)
            })
        });
        let known = self.mail.relays_by_name()?;
        let relays = allow.relays.iter().enumerate().map(|(at, name)| {
            let relay = name.parse::<RelayName>().ok();
            relay
                .filter(|relay| known.contains_key(relay))
                .ok_or_else(|| {
                    let known: Vec<&str> = known.keys().map(RelayName::as_str).collect();
                    let reason = format!(
                        "is {name:?}, which is not a relay; configured: {}",
                        known.join(", ")
                    );
                    ConfigError::value(key(&format!("relays[{at}]")), reason)
                })
        });
        Ok(AllowRule {
            relays: relays.collect::<Result<_, _>>()?,
            connection,
            bucket: allow
                .bucket
                .parse()
                .map_err(|error| ConfigError::value(key("bucket"), error))?,
            prefix: allow
                .prefix
                .parse()
                .map_err(|error| ConfigError::value(key("prefix"), error))?,
            recipients: patterns("recipients", &allow.recipients)?,
            lists: self.lists_of_rule(&key("lists"), &allow.lists)?,
            reply_to: patterns("reply_to", &allow.reply_to)?,
            publish: publish.collect::<Result<_, _>>()?,
            via: allow.via.clone(),
            sign_in: allow.sign_in,
            max_expires_in: allow.max_expires_in,
            max_links: allow.max_links,
        })
    }

    fn event_rule(&self, index: usize, rule: &OnEventConfig) -> Result<EventRule, ConfigError> {
        let key = |field: &str| format!("on_event[{index}].{field}");
        let path = &rule.job_file;
        let reason = |error: &dyn std::fmt::Display| {
            format!("names {}, which is not a job file: {error}", path.display())
        };
        let unreadable =
            |error: &dyn std::fmt::Display| ConfigError::value(key("job_file"), reason(error));
        let text = mounted::read_text(path)
            .map_err(|error| ConfigError::unread(key("job_file"), error, |error| reason(error)))?;
        let template: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
        if !template.is_object() {
            return Err(unreadable(&"it is not a JSON object"));
        }
        Ok(EventRule {
            bucket: rule
                .bucket
                .parse()
                .map_err(|error| ConfigError::value(key("bucket"), error))?,
            key: matcher(&rule.key, Slashes::Separate)
                .map_err(|error| ConfigError::value(key("key"), error))?,
            events: rule
                .events
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, String>>()
                .map_err(|error| ConfigError::value(key("events"), error))?,
            template: Arc::new(template),
        })
    }
}

/// Converts the domain of a pattern to ASCII, as in addresses: `*@xn--bcher-kva.example` for `*@bücher.example`.
///
/// Parts without a wildcard must be valid in an address: a whole pattern, a domain, a label of it.
fn address_pattern(pattern: &str) -> Result<String, String> {
    let (user, domain) = pattern.rsplit_once('@').unwrap_or(("", pattern));
    if glob::is_literal(pattern) && pattern.contains('@') {
        let address = address::parse(pattern).map_err(|error| error.to_string())?;
        return Ok(address.to_string());
    }
    let no_domain = || AddressError::Domain.to_string();
    let domain_in_ascii = if glob::is_literal(domain) {
        ascii_domain(domain).ok_or_else(no_domain)?
    } else {
        let labels = domain.split('.').map(|label| match label {
            label if glob::is_literal(label) => ascii_labels(label).ok_or_else(no_domain),
            label if label.is_ascii() => Ok(Cow::Borrowed(label)),
            _ => Err(
                "mixes wildcards with a domain that is not ASCII: write that domain as \"xn--…\""
                    .to_owned(),
            ),
        });
        Cow::Owned(labels.collect::<Result<Vec<_>, _>>()?.join("."))
    };
    let at = &pattern[user.len()..pattern.len() - domain.len()];
    Ok(format!("{user}{at}{domain_in_ascii}"))
}

fn matcher(pattern: &str, slashes: Slashes) -> Result<GlobMatcher, String> {
    glob::parse(pattern, slashes).map(|glob| glob.compile_matcher())
}

fn publish_rule(target: &str) -> Option<PublishRule> {
    if let Some(dir) = target.strip_prefix("dir:") {
        return Path::new(dir)
            .is_absolute()
            .then(|| PublishRule::Dir(dir.into()));
    }
    let place = target.strip_prefix("s3://")?;
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    Some(PublishRule::Bucket(bucket.parse().ok()?, prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn a_pattern_has_its_domain_in_the_spelling_of_addresses() {
        for (written, read) in [
            ("*@bücher.example", "*@xn--bcher-kva.example"),
            ("*@*.BÜCHER.example", "*@*.xn--bcher-kva.example"),
            ("jörg@acme.example", "jörg@acme.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*", "*"),
        ] {
            assert_eq!(address_pattern(written).as_deref(), Ok(read));
        }
        for wrong in ["*@büch*.example", "*@{bücher,acme}.example", "*@-ü.example"] {
            assert!(address_pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_of_the_configuration_follows_the_rule_of_all_addresses() {
        let checked = |mail: &str, recipients: &str, reply_to: &str| {
            let text = format!(
                "[mail]\nfrom = \"a@x.example\"\n{mail}\n[connections.c]\ndirectory = \"/srv\"\n\
                 [[allow]]\nconnection = \"c\"\nbucket = \"reports\"\nprefix = \"\"\nmax_expires_in = \"7d\"\n\
                 recipients = [{recipients:?}]\nreply_to = [{reply_to:?}]\n"
            );
            let config = Config::parse(&text, &Environment::default()).unwrap();
            config
                .check()
                .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
        };
        assert_eq!(checked("", "*@*.ACME.example", "*"), "fine");
        assert_eq!(checked("", "a%b@acme.example", "ann@*"), "fine");
        let table = [
            checked("", "|id@acme.example", "*"),
            checked("", "\"a\"@acme.example", "*"),
            checked("", "*@ac_me.example", "*"),
            checked("", "*@*.acme#.example", "*"),
            checked("", "*", "ann@acme.example."),
            checked("notify = \"|id@x.example\"", "*", "*"),
            checked(
                "[mail.list]\nunsubscribe_mailto = \"leave@x#.example\"",
                "*",
                "*",
            ),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        the configuration's allow[0].recipients[0] has '|' before its "@", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox
        fine
        the configuration's allow[0].recipients[0] has a domain that is not a host name: write letters, digits and "-" with dots between them, as the domain's owner registered it
        the configuration's allow[0].recipients[0] has a domain that is not a host name: write letters, digits and "-" with dots between them, as the domain's owner registered it
        the configuration's allow[0].reply_to[0] has a domain that is not a host name: write letters, digits and "-" with dots between them, as the domain's owner registered it
        the configuration's mail.notify has '|' before its "@", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox
        the configuration's mail.list.unsubscribe_mailto has a domain that is not a host name: write letters, digits and "-" with dots between them, as the domain's owner registered it
        "#);
    }
}
