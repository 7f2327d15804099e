//! What a provider says about itself: its endpoints. <https://openid.net/specs/openid-connect-discovery-1_0.html>

use hyper::Uri;
use serde::Deserialize;

use crate::config::load::is_loopback;

/// The longest URL of an endpoint, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// The endpoints of a provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProviderMetadata {
    pub(super) authorization: String,
    pub(super) token: String,
    pub(super) userinfo: Option<String>,
    pub(super) keys: String,
    /// Whether callbacks always have the parameter `iss` (RFC 9207, section 3).
    pub(super) announces_issuer: bool,
}

/// Where the metadata of an issuer is (OpenID Connect Discovery, section 4.1).
pub(super) fn location(issuer: &str) -> String {
    format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    )
}

impl ProviderMetadata {
    /// Reads the metadata of an issuer; `has_secret` says whether this client logs in at the token endpoint.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn parse(body: &[u8], issuer: &str, has_secret: bool) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            authorization_endpoint: String,
            token_endpoint: String,
            userinfo_endpoint: Option<String>,
            jwks_uri: String,
            response_types_supported: Option<Vec<String>>,
            code_challenge_methods_supported: Option<Vec<String>>,
            token_endpoint_auth_methods_supported: Option<Vec<String>>,
            #[serde(default)]
            authorization_response_iss_parameter_supported: bool,
        }
        let document: Document = serde_json::from_slice(body)
            .map_err(|_| "is not JSON with the endpoints that OpenID Connect Discovery demands")?;
        if document.issuer != issuer {
            return Err(
                "names another issuer than the configuration: write portal.oidc.issuer exactly as the provider does",
            );
        }
        let lacks = |list: &Option<Vec<String>>, word: &str| {
            list.as_ref()
                .is_some_and(|list| !list.iter().any(|known| known == word))
        };
        if lacks(&document.response_types_supported, "code") {
            return Err("does not support the response type code");
        }
        if lacks(&document.code_challenge_methods_supported, "S256") {
            return Err("does not support PKCE with S256");
        }
        let methods = &document.token_endpoint_auth_methods_supported;
        if has_secret && lacks(methods, "client_secret_basic") {
            return Err("does not support client_secret_basic: configure it there for this client");
        }
        let may_be_plain = issuer.starts_with("http://");
        let checked = |url: String| match is_endpoint(&url, may_be_plain) {
            true => Ok(url),
            false => Err("has an endpoint that is not an https URL"),
        };
        Ok(Self {
            authorization: checked(document.authorization_endpoint)?,
            token: checked(document.token_endpoint)?,
            userinfo: document.userinfo_endpoint.map(checked).transpose()?,
            keys: checked(document.jwks_uri)?,
            announces_issuer: document.authorization_response_iss_parameter_supported,
        })
    }
}

/// Whether a text is the URL of an endpoint: `https`, or `http` on this machine if the issuer is there too.
pub(super) fn is_endpoint(text: &str, may_be_plain: bool) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_safe = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => may_be_plain && is_loopback(host),
        Some(_) | None => false,
    };
    is_safe
        && !host.is_empty()
        && !authority.as_str().contains('@')
        && !text.contains('#')
        && text.len() <= MAX_URL_BYTES
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://login.acme.example/tenant";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://login.acme.example/authorize?tenant=1",
            "token_endpoint": "https://token.acme.example/token",
            "jwks_uri": "https://login.acme.example/keys",
            "response_types_supported": ["code", "id_token"],
        })
    }

    fn parse(
        change: impl FnOnce(&mut Value),
        has_secret: bool,
    ) -> Result<ProviderMetadata, &'static str> {
        let mut document = document();
        change(&mut document);
        ProviderMetadata::parse(document.to_string().as_bytes(), ISSUER, has_secret)
    }

    #[test]
    fn the_metadata_is_below_the_issuer() {
        let expected = "https://a.example/t/.well-known/openid-configuration";
        assert_eq!(location("https://a.example/t"), expected);
        assert_eq!(location("https://a.example/t/"), expected);
    }

    #[test]
    fn metadata_with_the_least_and_with_more_is_read() {
        let least = parse(|_| {}, true).unwrap();
        assert_eq!(least.token, "https://token.acme.example/token");
        assert!(!least.announces_issuer && least.userinfo.is_none());
        let more = parse(
            |document| {
                document["authorization_response_iss_parameter_supported"] = json!(true);
                document["code_challenge_methods_supported"] = json!(["plain", "S256"]);
                document["token_endpoint_auth_methods_supported"] = json!(["client_secret_basic"]);
                document["userinfo_endpoint"] = json!("https://login.acme.example/me");
            },
            true,
        );
        assert!(more.unwrap().announces_issuer);
    }

    #[test]
    fn metadata_that_cannot_be_used_is_refused() {
        let with = |name: &'static str, value: Value| {
            parse(|document| document[name] = value, true).unwrap_err()
        };
        assert!(with("issuer", json!(format!("{ISSUER}/"))).starts_with("names another issuer"));
        assert!(with("response_types_supported", json!(["id_token"])).contains("type code"));
        assert!(with("code_challenge_methods_supported", json!(["plain"])).contains("PKCE"));
        let methods = "token_endpoint_auth_methods_supported";
        assert!(with(methods, json!(["private_key_jwt"])).contains("client_secret_basic"));
        assert!(parse(|document| document[methods] = json!(["none"]), false).is_ok());
        for url in [
            "http://login.acme.example/keys",
            "http://127.0.0.1/keys",
            "file:///etc/passwd",
            "/keys",
            "https://user@login.acme.example/keys",
            "https://login.acme.example/keys#fragment",
            "",
        ] {
            assert!(with("jwks_uri", json!(url)).contains("https URL"), "{url}");
        }
        assert!(with("token_endpoint", json!(null)).contains("is not JSON"));
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for (url, is_allowed) in [
            ("http://127.0.0.1:4000/token", true),
            ("http://localhost/token", true),
            ("http://[::1]:4000/token", true),
            ("http://192.0.2.1/token", false),
            ("http://localhost.evil.example/token", false),
        ] {
            assert_eq!(is_endpoint(url, true), is_allowed, "{url}");
            assert!(!is_endpoint(url, false));
        }
    }
}
