//! How long each step of a dialogue with a relay may take.

use serde::{Deserialize, Serialize};

use crate::config_error::ConfigError;
use crate::quantity::Span;

/// How long each step may take.
///
/// From MAIL on the defaults are those of RFC 5321, section 4.5.3.2. Before it nothing was sent and a relay does no work for a
/// mail: one that is silent there is not waited for as long as the five minutes of the RFC, which are for 1982's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Until a connection is there, whichever of the relay's addresses it is to.
    pub connect: Span,
    /// Until the relay greets.
    pub greeting: Span,
    /// For EHLO.
    pub ehlo: Span,
    /// For STARTTLS, and for the handshake.
    pub starttls: Span,
    /// For each line of a login.
    pub auth: Span,
    /// For MAIL.
    pub mail: Span,
    /// For RCPT.
    pub rcpt: Span,
    /// For DATA, until the relay says "go on".
    pub data: Span,
    /// For each 32 KiB of a text to be taken.
    pub piece: Span,
    /// For the answer after the text.
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

/// The longest: a worker that is told to stop waits eleven minutes for a mail's last step.
const LONGEST: Span = Span::minutes(10);

impl Deadlines {
    /// Checks the deadlines of a relay that is described in `section`.
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
