//! Builds mail headers from `[mail.list]` and `[[mail.dkim]]`, and validates the keys.

use super::{Config, DkimConfig};
use crate::config::{MailingList, UnsubscribeUrl};
use crate::config_error::ConfigError;
use crate::job::Recipient;
use crate::job::address::ascii_domain;

impl Config {
    /// The mailing list of the mails, and how to unsubscribe from it.
    pub fn mailing_list(&self) -> Result<MailingList, ConfigError> {
        let list = &self.mail.list;
        let id = list.id.as_deref().map(str::parse).transpose();
        let mailto = list.unsubscribe_mailto.as_deref();
        let url = list.unsubscribe_url.as_deref();
        let list = MailingList {
            id: id.map_err(|error| ConfigError::value("mail.list.id", error))?,
            unsubscribe_mailto: mailto
                .map(unsubscribe_mailto)
                .transpose()?
                .map(|to| to.address),
            unsubscribe_url: url
                .map(UnsubscribeUrl::parse)
                .transpose()
                .map_err(|error| ConfigError::value("mail.list.unsubscribe_url", error))?,
        };
        let names_list = list
            .unsubscribe_url
            .as_ref()
            .is_some_and(UnsubscribeUrl::names_list);
        if names_list && list.id.is_none() {
            let reason = "contains {{list}}, but mail.list.id, the value of jobs without a list_id, is missing";
            return Err(ConfigError::value("mail.list.unsubscribe_url", reason));
        }
        Ok(list)
    }

    /// Validates what does not need the keys.
    pub(super) fn check_dkim(&self) -> Result<(), ConfigError> {
        let mut names = Vec::new();
        for (index, dkim) in self.mail.dkim.iter().enumerate() {
            if !dkim.selector.split('.').all(is_label) {
                let reason = format!(
                    "is {:?}: write a name of letters, digits and '-', such as \"handout1\"",
                    dkim.selector
                );
                return Err(ConfigError::value(
                    format!("mail.dkim[{index}].selector"),
                    reason,
                ));
            }
            let name = (self.dkim_domain(index, dkim)?, dkim.selector.as_str());
            if names.contains(&name) {
                let reason = format!(
                    "is {:?} , which another key has too: give each key its own selector",
                    dkim.selector
                );
                return Err(ConfigError::value(
                    format!("mail.dkim[{index}].selector"),
                    reason,
                ));
            }
            names.push(name);
        }
        Ok(())
    }

    /// The domain of a signature. It must be the sender's or a parent of it: other domains are not aligned for DMARC (RFC 7489,
    /// 3.1.1).
    pub(crate) fn dkim_domain(
        &self,
        index: usize,
        dkim: &DkimConfig,
    ) -> Result<String, ConfigError> {
        let sender = self.sender()?.address.domain().to_ascii_lowercase();
        let Some(written) = &dkim.domain else {
            return Ok(sender);
        };
        let domain = ascii_domain(written)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_aligned = sender == domain || sender.ends_with(&format!(".{domain}"));
        match is_aligned && domain.split('.').all(is_label) {
            true => Ok(domain),
            false => {
                let reason = format!(
                    "is {written:?}, and the sender's {sender:?}: write the sender's domain or a parent of it, since other signatures do not count"
                );
                Err(ConfigError::value(
                    format!("mail.dkim[{index}].domain"),
                    reason,
                ))
            }
        }
    }
}

fn unsubscribe_mailto(text: &str) -> Result<Recipient, ConfigError> {
    let wrong = |reason: String| ConfigError::value("mail.list.unsubscribe_mailto", reason);
    let address = Recipient::from_parts(text, None).map_err(|error| wrong(error.to_string()))?;
    match address.needs_smtputf8() {
        false => Ok(address),
        true => Err(wrong(
            "is not ASCII before its \"@\": some mail clients could not write to it".to_owned(),
        )),
    }
}

/// Whether a text is a DNS label.
fn is_label(label: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn check(text: &str) -> String {
        let text = format!("[mail]\nfrom = \"Reports <reports@mail.sender.example>\"\n{text}");
        let config = Config::parse(&text, &Environment::default()).unwrap();
        config
            .check()
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn a_list_is_one_that_headers_can_carry_or_refused() {
        let url = "https://sender.example/u/{{list}}/{{rid}}";
        let long = "u".repeat(900);
        let table = [
            format!("[mail.list]\nid = \"Daily <d.sender.example>\"\nunsubscribe_url = \"{url}\""),
            format!("[mail.list]\nunsubscribe_url = \"{url}\""),
            format!("[mail.list]\nunsubscribe_url = \"https://sender.example/{long}/{{{{rid}}}}\""),
            "[mail.list]\nunsubscribe_url = \"http://sender.example/{{rid}}\"".to_owned(),
            "[mail.list]\nunsubscribe_url = \"https://sender.example/u\"".to_owned(),
            "[mail.list]\nunsubscribe_mailto = \"mailto:leave@sender.example?x=1\"".to_owned(),
            "[mail.list]\nunsubscribe_mailto = \"leave@sender.example\\nBcc: x@y.example\""
                .to_owned(),
            "[mail.list]\nid = \"Daily\\r\\n <d.sender.example>\"".to_owned(),
            "[mail.list]\nid = \"Daily\"".to_owned(),
        ]
        .map(|text| check(&text));
        insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        the configuration's mail.list.unsubscribe_url contains {{list}}, but mail.list.id, the value of jobs without a list_id, is missing
        the configuration's mail.list.unsubscribe_url is too long: filled in, it may have 900 bytes, since no header can fold it
        the configuration's mail.list.unsubscribe_url is not an https URL in ASCII: write one like "https://sender.example/unsubscribe/{{rid}}"
        the configuration's mail.list.unsubscribe_url has no {{rid}} in it: without the recipient's id, an unsubscribe request does not name its recipient
        the configuration's mail.list.unsubscribe_mailto has ':' before its "@", which a mail server may read as a route, a command or a quotation: write the plain address of the mailbox
        the configuration's mail.list.unsubscribe_mailto holds the character '\n', which could forge a mail's header or hide a name
        the configuration's mail.list.id holds the character '\r', which could forge a mail's header or hide a name
        the configuration's mail.list.id is not the id of a list: write "daily.sender.example" or "Daily reports <daily.sender.example>"
        "#);
    }

    #[test]
    fn a_signature_is_the_senders_or_refused() {
        let key = "[[mail.dkim]]\nkey_file = \"dkim\"\nselector = \"s1\"\n";
        let table = [
            key.to_owned(),
            format!("{key}domain = \"Sender.example\""),
            format!("{key}domain = \"nder.example\""),
            format!("{key}domain = \"other.example\""),
            key.replace("s1", "s 1"),
            format!("{key}{key}"),
            format!("{key}{}", key.replace("s1", "s2")),
        ]
        .map(|text| check(&text));
        insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        fine
        the configuration's mail.dkim[0].domain is "nder.example", and the sender's "mail.sender.example": write the sender's domain or a parent of it, since other signatures do not count
        the configuration's mail.dkim[0].domain is "other.example", and the sender's "mail.sender.example": write the sender's domain or a parent of it, since other signatures do not count
        the configuration's mail.dkim[0].selector is "s 1": write a name of letters, digits and '-', such as "handout1"
        the configuration's mail.dkim[1].selector is "s1" , which another key has too: give each key its own selector
        fine
        "#);
    }
}
