//! Why a sign-in at an OpenID provider was refused: for the log, and for the reader.

use std::time::Duration;

use super::token::TokenFault;
use crate::edge::EdgeError;
use crate::job::address::AddressError;

/// Why a sign-in was refused. The texts are for the log: they have no claim, code, token or address.
#[derive(Debug, thiserror::Error)]
pub enum OidcRefusal {
    /// No issuer of the configuration has this name.
    #[error("no [[portal.oidc]] has the name that the request has")]
    UnknownIssuer,
    /// The provider does not answer, or not with what it has to.
    #[error("the OpenID provider could not be asked")]
    Unavailable {
        /// When a further attempt makes sense.
        retry_after: Duration,
        /// What failed. Nothing, if the provider was not asked again so soon after a failure.
        source: Option<ProviderError>,
    },
    /// The browser sent no state: cookies are off, or the sign-in began in another browser.
    #[error("the callback has no cookie of a sign-in that began in this browser")]
    NoState,
    /// The cookie was made by another installation, or changed.
    #[error("the cookie of the sign-in is not one of this installation")]
    ForgedState,
    /// The sign-in took too long, or the cookie is of a sign-in that ended.
    #[error("the sign-in began more than {} min ago", super::state::STATE_LIVES_FOR.as_secs() / 60)]
    StateExpired,
    /// The callback is of another sign-in than the cookie: an attack by login CSRF, or two tabs.
    #[error("the callback belongs to another sign-in than the cookie of this browser")]
    StateMismatch,
    /// The query has no code, a parameter twice, or is too long.
    #[error("the callback's query is not the answer of an OpenID provider")]
    MalformedCallback,
    /// The callback names another issuer than the one that was asked, or none although it should (RFC 9207, section 2.4).
    #[error("the callback does not come from the issuer that was asked")]
    OtherIssuer,
    /// The reader, or the provider for them, declined.
    #[error("the OpenID provider ended the sign-in with {0}")]
    Declined(DeclinedCode),
    /// The provider does not accept the code: it was used before, or has expired.
    #[error("the OpenID provider does not accept the code: it was used before, or has expired")]
    CodeRejected,
    /// The provider does not accept this client.
    #[error(
        "the OpenID provider does not accept this client: compare client_id, client_secret_file and the redirect URI with what is registered there"
    )]
    ClientRejected,
    /// The provider answered with an error that no retry cures.
    #[error("the OpenID provider's {endpoint} answered with the status {status}")]
    EndpointRejected {
        /// Which endpoint.
        endpoint: OidcEndpoint,
        /// The status of HTTP.
        status: u16,
    },
    /// The answer of an endpoint is not what the specification says.
    #[error("the answer of the OpenID provider's {0} has not the form that OpenID Connect says")]
    MalformedAnswer(OidcEndpoint),
    /// The ID token is not accepted.
    #[error("the ID token was refused")]
    Token(#[source] TokenFault),
    /// Neither the ID token nor the userinfo endpoint has the claim.
    #[error(
        "the OpenID provider gives no claim with an address: let it give the configured claim to this client"
    )]
    NoAddress,
    /// The claim is not an address.
    #[error("the claim with the address has no valid address")]
    Address(#[source] AddressError),
    /// The provider does not say that it verified the address.
    #[error(
        "the OpenID provider does not say that it verified the address: it has to give the claim email_verified, or the one that belongs to the configured claim"
    )]
    Unverified,
    /// The address is of a domain for which this issuer does not speak.
    #[error("the address is of a domain that is not among the issuer's domains")]
    ForeignDomain,
}

/// An endpoint of an OpenID provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidcEndpoint {
    /// `/.well-known/openid-configuration`.
    Metadata,
    /// `jwks_uri`.
    Keys,
    /// `token_endpoint`.
    Token,
    /// `userinfo_endpoint`.
    Userinfo,
}

impl std::fmt::Display for OidcEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Metadata => "metadata document",
            Self::Keys => "key set",
            Self::Token => "token endpoint",
            Self::Userinfo => "userinfo endpoint",
        })
    }
}

/// Why an OpenID provider could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A request failed.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// An endpoint answered with another status than 200.
    #[error("the {endpoint} answered with the status {status}")]
    Status {
        /// Which endpoint.
        endpoint: OidcEndpoint,
        /// The status of HTTP.
        status: u16,
        /// The pause that it asks for.
        retry_after: Option<Duration>,
    },
    /// An answer is not what the specification says.
    #[error("the {endpoint} {reason}")]
    Answer {
        /// Which endpoint.
        endpoint: OidcEndpoint,
        /// What is wrong, as the end of a sentence.
        reason: &'static str,
    },
}

/// The code of an error with which a provider sends the browser back. Codes that no specification has are not repeated.
///
/// <https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1>,
/// <https://openid.net/specs/openid-connect-core-1_0.html#AuthError>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclinedCode(&'static str);

impl std::fmt::Display for DeclinedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl DeclinedCode {
    const KNOWN: [&str; 12] = [
        "access_denied",
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "request_not_supported",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
    ];

    /// The code, if a specification has it.
    pub(super) fn of(code: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| *known == code);
        Self(known.unwrap_or("an unknown error code"))
    }
}

/// What a reader is told about a refusal. Each has a page in the languages of the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidcNotice {
    /// The sign-in has to begin again: it took too long, or this browser did not begin it.
    BeginAgain,
    /// The reader declined, or the provider did not let them in.
    Declined,
    /// The account is a valid one, but not one with which these files may be opened.
    OtherAccount,
    /// The provider does not answer now.
    TryLater {
        /// When a further attempt makes sense.
        retry_after: Duration,
    },
    /// The operator has to repair something.
    AskOperator,
}

impl OidcNotice {
    /// The word by which templates know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeginAgain => "begin_again",
            Self::Declined => "declined",
            Self::OtherAccount => "other_account",
            Self::TryLater { .. } => "try_later",
            Self::AskOperator => "ask_operator",
        }
    }

    /// The status of HTTP of its page.
    pub const fn status(self) -> u16 {
        match self {
            Self::BeginAgain => 400,
            Self::Declined | Self::OtherAccount => 403,
            Self::TryLater { .. } => 503,
            Self::AskOperator => 502,
        }
    }

    /// The sentence in English.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BeginAgain => {
                "This sign-in has ended or was started in another browser. Please sign in again."
            }
            Self::Declined => "You were not signed in. You can try again.",
            Self::OtherAccount => {
                "You are signed in with an account that cannot be used here. Please use the account with the address to which the mail was sent."
            }
            Self::TryLater { .. } => {
                "The sign-in service does not answer at the moment. Please try again in a few minutes."
            }
            Self::AskOperator => {
                "The sign-in service is not set up correctly for this site. Please tell the sender of the files."
            }
        }
    }
}

impl OidcRefusal {
    /// What the reader is told.
    pub const fn notice(&self) -> OidcNotice {
        match self {
            Self::NoState
            | Self::ForgedState
            | Self::StateExpired
            | Self::StateMismatch
            | Self::MalformedCallback
            | Self::OtherIssuer
            | Self::CodeRejected => OidcNotice::BeginAgain,
            Self::Declined(_) => OidcNotice::Declined,
            Self::Unavailable { retry_after, .. } => OidcNotice::TryLater {
                retry_after: *retry_after,
            },
            Self::Unverified | Self::ForeignDomain | Self::Address(_) => OidcNotice::OtherAccount,
            Self::Token(fault) => match fault.may_pass() {
                true => OidcNotice::BeginAgain,
                false => OidcNotice::AskOperator,
            },
            Self::UnknownIssuer
            | Self::ClientRejected
            | Self::EndpointRejected { .. }
            | Self::MalformedAnswer(_)
            | Self::NoAddress => OidcNotice::AskOperator,
        }
    }
}
