//! Sign-in at an OpenID provider: the Authorization Code flow with PKCE, for readers who have an account there.
//!
//! [`OidcIssuers::begin`] sends the browser to the provider, and [`OidcIssuers::finish`] judges how it comes back. Between the two
//! nothing is stored: a cookie has all that any instance of the portal needs ([`state`]). Metadata and keys of a provider are read
//! at the start and each hour ([`OidcIssuers::keep_current`]). A provider that does not answer stops the portal at no time; the
//! sign-in at it is refused until it does.
//!
//! <https://openid.net/specs/openid-connect-core-1_0.html>, <https://www.rfc-editor.org/rfc/rfc9700>

mod address;
mod callback;
mod keys;
mod metadata;
mod provider;
mod refusal;
mod state;
mod token;

use std::fmt;

use futures_util::future::join_all;
use jiff::Timestamp;

pub use self::address::VerifiedAddress;
use self::callback::Callback;
use self::provider::{OidcProvider, Tokens};
pub use self::refusal::{DeclinedCode, OidcEndpoint, OidcNotice, OidcRefusal, ProviderError};
pub use self::state::STATE_LIVES_FOR;
use self::state::{MAX_ISSUER_NAME_BYTES, SignInState, StateKeys};
pub use self::token::TokenFault;
use self::token::{Claims, ExpectedClaims};
use crate::bounds::MAX_RETURN_TO_BYTES;
use crate::cancellation::Cancellation;
use crate::config::{ConfigError, OidcIssuerConfig, Secret};
use crate::edge::Egress;
use crate::edge::health::Edge;
use crate::environment::Environment;
use crate::job::address::ascii_domain;
use crate::keyring::Keyring;
use crate::text::percent;

/// The name of the cookie that carries a sign-in. It lives for [`STATE_LIVES_FOR`], with `Path=/`, `Secure`, `HttpOnly` and
/// `SameSite=Lax`, and is removed when the provider has sent the browser back.
pub const OIDC_COOKIE: &str = "__Host-handout-o";

/// The path to which providers send browsers back, below the public URL of the portal.
pub const OIDC_CALLBACK_PATH: &str = "/sign-in/oidc/callback";

/// The issuers at which readers can sign in.
#[derive(Debug)]
pub struct OidcIssuers {
    issuers: Vec<OidcIssuer>,
    states: StateKeys,
}

/// One issuer: what the configuration says of it, and its provider.
#[derive(Debug)]
struct OidcIssuer {
    name: String,
    client_id: String,
    /// The domains, in ASCII.
    domains: Vec<String>,
    claim: String,
    /// The URL of [`OIDC_CALLBACK_PATH`].
    redirect_uri: String,
    provider: OidcProvider,
}

/// A sign-in that begins: where the browser goes, and what it takes along.
pub struct OidcBegin {
    /// The value of `Location`: a URL of the provider, with the secrets of this sign-in.
    pub location: String,
    /// The value of [`OIDC_COOKIE`].
    pub cookie: String,
}

impl fmt::Debug for OidcBegin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OidcBegin(****)")
    }
}

/// A sign-in that succeeded.
pub struct OidcSignIn {
    /// Whose account it is.
    pub address: VerifiedAddress,
    /// The name of the issuer.
    pub issuer: String,
    /// Where the reader goes now: the text that [`OidcIssuers::begin`] was given.
    pub return_to: String,
}

impl fmt::Debug for OidcSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("OidcSignIn");
        shown.field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A sign-in that was refused.
#[derive(thiserror::Error)]
#[error("a reader was not signed in at an OpenID provider")]
pub struct OidcFailure {
    /// Why.
    #[source]
    pub refusal: OidcRefusal,
    /// The name of the issuer, where the cookie or the request told it.
    pub issuer: Option<String>,
    /// Where the reader can begin again, where the cookie told it.
    pub return_to: Option<String>,
}

impl fmt::Debug for OidcFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcFailure")
            .field("refusal", &self.refusal)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl From<OidcRefusal> for OidcFailure {
    fn from(refusal: OidcRefusal) -> Self {
        Self {
            refusal,
            issuer: None,
            return_to: None,
        }
    }
}

impl OidcIssuers {
    /// Builds the issuers of a configuration. `public_url` is that of the portal. No provider is asked yet.
    ///
    /// # Errors
    /// A value that cannot be used, or a file that cannot be read.
    pub fn new(
        configs: &[OidcIssuerConfig],
        public_url: &str,
        keyring: &Keyring,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let redirect_uri = format!("{}{OIDC_CALLBACK_PATH}", public_url.trim_end_matches('/'));
        let mut issuers: Vec<OidcIssuer> = Vec::new();
        for config in configs {
            let issuer = OidcIssuer::new(config, redirect_uri.clone(), environment)?;
            if issuers.iter().any(|other| other.name == issuer.name) {
                let reason = format!(
                    "is {:?} twice: give each issuer a name of its own",
                    issuer.name
                );
                return Err(ConfigError::value("portal.oidc.name", reason));
            }
            issuers.push(issuer);
        }
        Ok(Self {
            issuers,
            states: StateKeys::new(keyring),
        })
    }

    /// Knows what others have read of the same providers: one that does not answer during a reload goes on to sign readers in.
    pub fn know_what(&self, others: &Self) {
        for issuer in &self.issuers {
            let mut others = others.issuers.iter();
            let same = others.find(|other| other.provider.issuer() == issuer.provider.issuer());
            if let Some(other) = same {
                issuer.provider.know_what(&other.provider);
            }
        }
    }

    /// The names of the issuers, in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(|issuer| issuer.name.as_str())
    }

    /// The edge of each issuer, whose health says whether readers can sign in there.
    pub fn edges(&self) -> impl Iterator<Item = Edge> {
        self.issuers.iter().map(|issuer| issuer.provider.edge())
    }

    /// Reads the metadata and the keys of an issuer now.
    ///
    /// # Errors
    /// The provider does not answer, or cannot be used.
    pub async fn check(&self, name: &str) -> Result<(), OidcRefusal> {
        let issuer = self.issuer(name)?;
        let refreshed = issuer.provider.refresh().await;
        refreshed.map_err(OidcRefusal::from)
    }

    /// Reads the metadata and the keys of each issuer at the start and each hour, and sooner after a failure, until the work is
    /// cancelled.
    pub async fn keep_current(&self, cancellation: &Cancellation) {
        let issuers = self.issuers.iter();
        join_all(issuers.map(|issuer| issuer.provider.keep_current(cancellation))).await;
    }

    /// Begins a sign-in at an issuer. `return_to` says where the reader goes afterwards: the token of a portal link, or an empty
    /// text for the list of their files. It is never a URL.
    ///
    /// # Errors
    /// There is no such issuer, or its provider has not answered yet.
    pub async fn begin(
        &self,
        name: &str,
        return_to: &str,
        now: Timestamp,
    ) -> Result<OidcBegin, OidcFailure> {
        let issuer = self.issuer(name)?;
        let is_token = return_to.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_token || return_to.len() > MAX_RETURN_TO_BYTES {
            return Err(OidcRefusal::MalformedCallback.into());
        }
        let begun = issuer.begin(&self.states, return_to, now).await;
        begun.map_err(|refusal| OidcFailure {
            refusal,
            issuer: Some(issuer.name.clone()),
            return_to: Some(return_to.to_owned()),
        })
    }

    /// Ends a sign-in: judges the query with which the provider sent the browser back, gets the ID token and verifies it.
    ///
    /// # Errors
    /// Why the reader is not signed in.
    pub async fn finish(
        &self,
        query: &str,
        cookie: Option<&str>,
        now: Timestamp,
    ) -> Result<OidcSignIn, OidcFailure> {
        let cookie = cookie.ok_or(OidcRefusal::NoState)?;
        let state = self.states.open(cookie, now)?;
        let finished = match self.issuer(&state.issuer) {
            Ok(issuer) => issuer.finish(query, &state, now).await,
            Err(refusal) => Err(refusal),
        };
        match finished {
            Ok(address) => Ok(OidcSignIn {
                address,
                issuer: state.issuer,
                return_to: state.return_to,
            }),
            Err(refusal) => Err(OidcFailure {
                refusal,
                issuer: Some(state.issuer),
                return_to: Some(state.return_to),
            }),
        }
    }

    fn issuer(&self, name: &str) -> Result<&OidcIssuer, OidcRefusal> {
        let mut issuers = self.issuers.iter();
        let found = issuers.find(|issuer| issuer.name == name);
        found.ok_or(OidcRefusal::UnknownIssuer)
    }
}

impl OidcIssuer {
    fn new(
        config: &OidcIssuerConfig,
        redirect_uri: String,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let is_of_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = !config.name.is_empty()
            && config.name.len() <= MAX_ISSUER_NAME_BYTES
            && config.name.bytes().all(is_of_name)
            && config.name != "callback";
        if !is_name {
            let reason = format!(
                "is {:?}: write 1 to {MAX_ISSUER_NAME_BYTES} small letters, digits and \"-\", and not \"callback\"",
                config.name
            );
            return Err(ConfigError::value("portal.oidc.name", reason));
        }
        let section = format!("portal.oidc.{}", config.name);
        let key = |name: &str| format!("{section}.{name}");
        let is_plain = config.issuer.starts_with("http://");
        if !metadata::is_endpoint(&config.issuer, is_plain) || config.issuer.contains('?') {
            let reason =
                "is not the URL of an issuer: write https://host, with a path if it has one";
            return Err(ConfigError::value(key("issuer"), reason));
        }
        if config.client_id.is_empty() || !config.client_id.chars().all(|c| c.is_ascii_graphic()) {
            let reason = "is empty or has spaces: write the client id that the provider gave";
            return Err(ConfigError::value(key("client_id"), reason));
        }
        if config.claim.is_empty() {
            return Err(ConfigError::value(
                key("claim"),
                "is empty: write the name of a claim, such as \"email\"",
            ));
        }
        if config.domains.is_empty() {
            let reason = "is empty: name the domains for whose addresses the issuer may speak";
            return Err(ConfigError::value(key("domains"), reason));
        }
        let ascii = |domain: &String| {
            let ascii = ascii_domain(domain).map(|ascii| ascii.to_ascii_lowercase());
            let reason =
                || format!("has {domain:?}, which is not a domain: write \"acme.example\"");
            ascii.ok_or_else(|| ConfigError::value(key("domains"), reason()))
        };
        let domains = config.domains.iter().map(ascii);
        let secret = config.client_secret_file.as_ref();
        let secret = secret.map(|path| Secret::read(&key("client_secret_file"), path, environment));
        let egress = Egress::of(&section, config.ca_file.as_deref(), environment)?;
        Ok(Self {
            name: config.name.clone(),
            client_id: config.client_id.clone(),
            domains: domains.collect::<Result<_, _>>()?,
            claim: config.claim.clone(),
            redirect_uri,
            provider: OidcProvider::new(&config.name, &config.issuer, secret.transpose()?, egress),
        })
    }

    async fn begin(
        &self,
        states: &StateKeys,
        return_to: &str,
        now: Timestamp,
    ) -> Result<OidcBegin, OidcRefusal> {
        let metadata = self.provider.metadata().await?;
        let (state, cookie) = states.begin(&self.name, return_to, now);
        let scope = match self.claim.as_str() {
            "email" => "openid email",
            _ => "openid email profile",
        };
        let query = percent::encode_form(&[
            ("response_type", "code"),
            ("response_mode", "query"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", scope),
            ("state", &state.state()),
            ("nonce", &state.nonce()),
            ("code_challenge", &state.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        let separator = if metadata.authorization.contains('?') {
            '&'
        } else {
            '?'
        };
        Ok(OidcBegin {
            location: format!("{}{separator}{query}", metadata.authorization),
            cookie,
        })
    }

    async fn finish(
        &self,
        query: &str,
        state: &SignInState,
        now: Timestamp,
    ) -> Result<VerifiedAddress, OidcRefusal> {
        let callback = Callback::parse(query)?;
        if !callback
            .state
            .as_deref()
            .is_some_and(|text| state.is_state(text))
        {
            return Err(OidcRefusal::StateMismatch);
        }
        let metadata = self.provider.metadata().await?;
        match callback.issuer.as_deref() {
            Some(issuer) if issuer == self.provider.issuer() => {}
            None if !metadata.announces_issuer => {}
            Some(_) | None => return Err(OidcRefusal::OtherIssuer),
        }
        if let Some(code) = callback.error {
            return Err(OidcRefusal::Declined(DeclinedCode::of(&code)));
        }
        let code = callback.code.ok_or(OidcRefusal::MalformedCallback)?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &state.verifier()),
        ];
        let tokens = self
            .provider
            .tokens(&metadata, &self.client_id, &fields)
            .await?;
        let claims = self.provider.verified(&tokens.id_token).await?;
        let expected = ExpectedClaims {
            issuer: self.provider.issuer(),
            client_id: &self.client_id,
            nonce: &state.nonce(),
            begun: state.begun,
            now,
        };
        token::judge(&claims, expected).map_err(OidcRefusal::Token)?;
        self.address(&claims, &tokens).await
    }

    /// The address of an account. Providers that give an access token may have the claims of a scope at the userinfo endpoint
    /// alone (OpenID Connect Core, section 5.4).
    async fn address(
        &self,
        claims: &Claims,
        tokens: &Tokens,
    ) -> Result<VerifiedAddress, OidcRefusal> {
        let of_token = address::verified(claims, &self.claim, &self.domains);
        let Err(OidcRefusal::NoAddress) = of_token else {
            return of_token;
        };
        let metadata = self.provider.metadata().await?;
        let (Some(endpoint), Some(access)) = (&metadata.userinfo, &tokens.access_token) else {
            return of_token;
        };
        let info = self.provider.userinfo(endpoint, access).await?;
        // Section 5.3.2: claims of another subject must not be used.
        if info.get("sub") != claims.get("sub") {
            return Err(OidcRefusal::Token(TokenFault::Subject));
        }
        address::verified(&info, &self.claim, &self.domains)
    }
}
