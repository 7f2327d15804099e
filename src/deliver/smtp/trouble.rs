//! What can be wrong with a relay, in sentences for the operator who repairs it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::dialogue::{Cause, DialogueStep, Failure};
use super::verdict::{ReplyVerdict, judge};
use super::wire::WireError;
use crate::config::Tls;

/// Why a relay could not be used. This says nothing about any mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayError {
    /// The relay's host and port.
    pub host: String,
    /// Its section of the configuration.
    pub section: String,
    /// What was wrong.
    pub trouble: Trouble,
    /// How long until it is tried again.
    pub left: Duration,
}

/// What can be wrong with a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, a broken connection, or no reply in time.
    Unreachable {
        /// The step that failed.
        step: &'static str,
        /// The network's error.
        words: String,
    },
    /// The relay does not offer STARTTLS, or its certificate is not trusted.
    Insecure {
        /// What is wrong.
        words: String,
    },
    /// There is no login for the relay: the program that prints its token failed.
    NoLogin {
        /// What went wrong.
        words: String,
    },
    /// The relay rejects the user name and what proves it, or takes no such proof.
    Login {
        /// The relay's text.
        words: String,
    },
    /// The relay rejects all of our mails: 5xx to something that is not about this mail.
    Refuses {
        /// The step that failed.
        step: &'static str,
        /// The relay's text.
        words: String,
    },
    /// The relay accepts no mail now: 4xx.
    NotNow {
        /// The step that failed.
        step: &'static str,
        /// The relay's text.
        words: String,
    },
    /// The relay did not reply about a mail, while other mails got replies.
    Overtaken {
        /// What follows from that.
        words: &'static str,
    },
    /// The relay is paused, since it was given too much.
    Paused {
        /// How long it stays paused.
        left: Duration,
        /// The end of the pause.
        until: Timestamp,
    },
}

impl std::error::Error for RelayError {}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            section,
            trouble,
            ..
        } = self;
        let relay = format_args!("the relay {host}");
        match trouble {
            Trouble::Unreachable { step, words } => write!(
                f,
                "{relay} could not be reached or did not answer in time ({step}): {words}"
            ),
            Trouble::Insecure { words } => write!(
                f,
                "{relay} does not offer a trusted TLS connection: {words}; see {section}.tls and {section}.ca_file"
            ),
            Trouble::NoLogin { words } => {
                write!(f, "{relay} cannot be logged in to: {section}.{words}")
            }
            Trouble::Login { words } => {
                write!(f, "{relay} does not accept the login of {section}: {words}")
            }
            Trouble::Refuses { step, words } => write!(
                f,
                "{relay} rejects what Handout sends ({step}: {words}); see mail.from and {section}"
            ),
            Trouble::NotNow { step, words } => {
                write!(f, "{relay} accepts no mail now ({step}: {words})")
            }
            Trouble::Overtaken { words } => write!(
                f,
                "{relay} did not reply about a mail while others got replies: {words}"
            ),
            Trouble::Paused { until, .. } => write!(
                f,
                "{relay} reached its limit and gets no mail until {until}"
            ),
        }
    }
}

impl RelayError {
    /// Whether an operator must repair it.
    pub const fn needs_a_person(&self) -> bool {
        matches!(
            self.trouble,
            Trouble::NoLogin { .. }
                | Trouble::Login { .. }
                | Trouble::Insecure { .. }
                | Trouble::Refuses { .. }
        )
    }

    /// Whether it is about one mail, and the relay replies to others.
    pub const fn is_of_mail(&self) -> bool {
        matches!(self.trouble, Trouble::Overtaken { .. })
    }

    /// Whether the mail may be the cause, as far as one failure shows. A mail that breaks in its text or after it may be in doubt: others are
    /// not to follow it.
    pub fn may_be_of_mail(&self) -> bool {
        let is_of_text = |step: &str| {
            [DialogueStep::Text, DialogueStep::Dot]
                .map(DialogueStep::as_str)
                .contains(&step)
        };
        match &self.trouble {
            Trouble::Unreachable { step, .. } => !is_of_text(step),
            Trouble::Refuses { .. } | Trouble::NotNow { .. } | Trouble::Overtaken { .. } => true,
            Trouble::Insecure { .. }
            | Trouble::NoLogin { .. }
            | Trouble::Login { .. }
            | Trouble::Paused { .. } => false,
        }
    }

    /// Whether the relay is paused until a known instant.
    pub const fn is_pause(&self) -> bool {
        matches!(self.trouble, Trouble::Paused { .. })
    }

    /// How long to wait at least before the next try.
    pub fn at_least(&self) -> Duration {
        match self.trouble {
            Trouble::Paused { left, .. } => left.max(self.left),
            Trouble::Unreachable { .. }
            | Trouble::Insecure { .. }
            | Trouble::NoLogin { .. }
            | Trouble::Login { .. }
            | Trouble::Refuses { .. }
            | Trouble::NotNow { .. }
            | Trouble::Overtaken { .. } => self.left,
        }
    }
}

impl Trouble {
    /// What a failed step says about the relay.
    pub(super) fn of(failure: &Failure, tls: Tls) -> Self {
        let (step, mut words) = (failure.step.as_str(), failure.words());
        if let Some(advice) = advice(failure, tls) {
            words = format!("{words}; {advice}");
        }
        match &failure.cause {
            Cause::Said(reply) => match judge(failure.step, reply) {
                ReplyVerdict::Login => Self::Login { words },
                ReplyVerdict::Insecure => Self::Insecure { words },
                ReplyVerdict::Refuses | ReplyVerdict::Never => Self::Refuses { step, words },
                ReplyVerdict::OutOfStep => Self::Unreachable { step, words },
                ReplyVerdict::Later(_)
                | ReplyVerdict::TooFast
                | ReplyVerdict::QuotaSpent
                | ReplyVerdict::NotNow
                | ReplyVerdict::Closing => Self::NotNow { step, words },
            },
            Cause::NoLogin(_) => Self::NoLogin { words },
            Cause::Lacks(_) if failure.step == DialogueStep::Auth => Self::Login { words },
            Cause::Lacks(_) => Self::Insecure { words },
            Cause::Wire(WireError::Network(error)) if is_tls(error) => Self::Insecure { words },
            Cause::Wire(_) | Cause::Late | Cause::Unasked(_) => Self::Unreachable { step, words },
        }
    }
}

/// What a failure suggests about `tls`: the relay may use implicit TLS where the configuration says STARTTLS, or the
/// reverse (RFC 8314, 3.3).
fn advice(failure: &Failure, tls: Tls) -> Option<&'static str> {
    match (&failure.cause, tls) {
        (Cause::Late | Cause::Wire(WireError::Closed), Tls::Starttls | Tls::None)
            if failure.step == DialogueStep::Greeting =>
        {
            Some(
                "a relay that speaks TLS from the first byte is silent in the same way, and needs tls = \"implicit\"",
            )
        }
        (Cause::Wire(WireError::Network(error)), Tls::Implicit) if is_plain_text(error) => {
            Some("the relay begins in plain text, and needs tls = \"starttls\"")
        }
        _ => None,
    }
}

fn is_plain_text(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType
        ))
    )
}

/// Whether a handshake ended with a verdict about a certificate, or about the versions and ciphers that one side
/// requires. Another failure, such as plain text or an internal error, shows a relay in trouble.
fn is_tls(error: &std::io::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(Error::AlertReceived(alert)) => matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::UnknownCA
                | Alert::ProtocolVersion
                | Alert::InsufficientSecurity
        ),
        Some(
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::PeerIncompatible(_),
        ) => true,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    #[test]
    fn a_handshake_that_breaks_is_no_verdict_about_the_relay() {
        let is_verdict = |error: Error| is_tls(&std::io::Error::other(error));
        for verdict in [
            Error::InvalidCertificate(CertificateError::Expired),
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::ProtocolVersion),
        ] {
            assert!(is_verdict(verdict.clone()), "{verdict}");
        }
        for broken in [
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::AlertReceived(AlertDescription::InternalError),
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            Error::AlertReceived(AlertDescription::CloseNotify),
            Error::DecryptError,
        ] {
            assert!(!is_verdict(broken.clone()), "{broken}");
        }
        assert!(!is_tls(&std::io::ErrorKind::ConnectionReset.into()));
    }
}
