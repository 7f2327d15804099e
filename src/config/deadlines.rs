//! The timeouts of each step of a dialogue with a relay.

use serde::{Deserialize, Serialize};

use crate::config_error::ConfigError;
use crate::quantity::Span;

/// The timeouts of each step.
///
/// From MAIL on, the defaults are those of RFC 5321, section 4.5.3.2. Before MAIL, nothing was sent and the relay does no work
/// for a mail, so the defaults are shorter than the five minutes of the RFC, which date from the networks of 1982.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Until a connection to any of the relay's addresses is established.
    pub connect: Span,
    /// Until the relay greets.
    pub greeting: Span,
    /// For EHLO.
    pub ehlo: Span,
    /// For STARTTLS and the TLS handshake.
    pub starttls: Span,
    /// For each line of the authentication.
    pub auth: Span,
    /// For MAIL.
    pub mail: Span,
    /// For RCPT.
    pub rcpt: Span,
    /// For DATA, until the 354 reply.
    pub data: Span,
    /// For each chunk of 32 KiB of the message to be sent.
    pub piece: Span,
    /// For the reply to the end of DATA.
    pub dot: Span,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Span::seconds(30),
            greeting: Span::seconds(30),
            ehlo: Span::seconds(30),
            starttls: Span::seconds(30),
            auth: Span::minutes(1),
            mail: Span::minutes(5),
            rcpt: Span::minutes(5),
            data: Span::minutes(2),
            piece: Span::minutes(3),
            dot: Span::minutes(10),
        }
    }
}

/// The maximum: a worker that is shutting down waits eleven minutes for a mail's last step.
const LONGEST: Span = Span::minutes(10);

impl Deadlines {
    /// Validates the timeouts of the relay in `section`.
    pub(crate) fn check(&self, section: &str) -> Result<(), ConfigError> {
        let Self {
            connect,
            greeting,
            ehlo,
            starttls,
            auth,
            mail,
            rcpt,
            data,
            piece,
            dot,
        } = *self;
        let all = [
            ("connect", connect),
            ("greeting", greeting),
            ("ehlo", ehlo),
            ("starttls", starttls),
            ("auth", auth),
            ("mail", mail),
            ("rcpt", rcpt),
            ("data", data),
            ("piece", piece),
            ("dot", dot),
        ];
        let right = Span::seconds(1)..=LONGEST;
        match all.into_iter().find(|(_, span)| !right.contains(span)) {
            None => Ok(()),
            Some((name, span)) => Err(ConfigError::value(
                format!("{section}.deadlines.{name}"),
                format!("is {span}: write \"1s\" to \"{LONGEST}\""),
            )),
        }
    }
}
