//! Whose account it is: the address in the claims, if the provider verified it and may speak for its domain.

use std::fmt;

use serde_json::Value;

use super::refusal::OidcRefusal;
use super::token::Claims;
use crate::job::address;

/// The address of an account, verified by its provider, in the canonical form of [`address::canonical`].
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedAddress {
    canonical: String,
}

impl fmt::Debug for VerifiedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedAddress(****)")
    }
}

impl VerifiedAddress {
    /// The canonical address, as rules, ledger and audit log have it.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

/// Reads the address from the claims.
///
/// The claim `email` needs `email_verified`. Another claim needs one of its own, such as `upn_verified` for `upn`: that
/// `email` was verified says nothing of a name that an account may choose.
/// <https://openid.net/specs/openid-connect-core-1_0.html#StandardClaims>
///
/// # Errors
/// [`OidcRefusal::NoAddress`] where the claims do not have it; another source of claims may.
pub(super) fn verified(
    claims: &Claims,
    claim: &str,
    domains: &[String],
) -> Result<VerifiedAddress, OidcRefusal> {
    let text = claims.get(claim).and_then(Value::as_str);
    let text = text.ok_or(OidcRefusal::NoAddress)?;
    let is_verified = match claims.get(&format!("{claim}_verified")) {
        Some(Value::Bool(is_verified)) => *is_verified,
        // Some providers write booleans as text.
        Some(Value::String(text)) => text == "true",
        _ => false,
    };
    if !is_verified {
        return Err(OidcRefusal::Unverified);
    }
    let parsed = address::parse(text).map_err(OidcRefusal::Address)?;
    let domain = parsed.domain();
    if !domains
        .iter()
        .any(|known| known.eq_ignore_ascii_case(domain))
    {
        return Err(OidcRefusal::ForeignDomain);
    }
    Ok(VerifiedAddress {
        canonical: address::canonical(&parsed),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: Value, claim: &str) -> Result<String, OidcRefusal> {
        let Value::Object(claims) = claims else {
            unreachable!("an object")
        };
        let domains = [
            "acme.example".to_owned(),
            "xn--bcher-kva.example".to_owned(),
        ];
        verified(&claims, claim, &domains).map(|address| address.canonical)
    }

    #[test]
    fn a_verified_address_of_one_of_the_domains_is_accepted_in_its_canonical_form() {
        for (email, verified, canonical) in [
            ("ann@acme.example", json!(true), "ann@acme.example"),
            (
                "Ann.Bell@ACME.example",
                json!(true),
                "ann.bell@acme.example",
            ),
            (
                "jo@bücher.example",
                json!("true"),
                "jo@xn--bcher-kva.example",
            ),
        ] {
            let claims = json!({"email": email, "email_verified": verified});
            assert_eq!(read(claims, "email").unwrap(), canonical);
        }
    }

    #[test]
    fn an_address_that_is_not_verified_is_refused() {
        for verified in [
            json!(false),
            json!("false"),
            json!(1),
            json!(null),
            json!("TRUE"),
        ] {
            let claims = json!({"email": "ann@acme.example", "email_verified": verified});
            assert!(matches!(
                read(claims, "email"),
                Err(OidcRefusal::Unverified)
            ));
        }
        let claims = json!({"email": "ann@acme.example"});
        assert!(matches!(
            read(claims, "email"),
            Err(OidcRefusal::Unverified)
        ));
    }

    #[test]
    fn another_claim_needs_a_verification_of_its_own() {
        let chosen = json!({
            "email": "mallory@evil.example", "email_verified": true,
            "preferred_username": "ann@acme.example",
        });
        let read_name = read(chosen, "preferred_username");
        assert!(matches!(read_name, Err(OidcRefusal::Unverified)));
        let mapped = json!({"upn": "ann@acme.example", "upn_verified": true});
        assert_eq!(read(mapped, "upn").unwrap(), "ann@acme.example");
    }

    #[test]
    fn an_address_of_another_domain_is_refused() {
        for email in [
            "ann@evil.example",
            "ann@acme.example.evil.example",
            "ann@sub.acme.example",
            "ann@xacme.example",
        ] {
            let claims = json!({"email": email, "email_verified": true});
            assert!(
                matches!(read(claims, "email"), Err(OidcRefusal::ForeignDomain)),
                "{email}"
            );
        }
    }

    #[test]
    fn a_text_that_is_no_plain_address_is_refused() {
        for email in [
            "",
            "ann",
            "ann@",
            "a@b@acme.example",
            "Ann <ann@acme.example>",
        ] {
            let claims = json!({"email": email, "email_verified": true});
            assert!(
                matches!(read(claims, "email"), Err(OidcRefusal::Address(_))),
                "{email}"
            );
        }
        for claims in [
            json!({}),
            json!({"email": ["ann@acme.example"], "email_verified": true}),
        ] {
            assert!(matches!(read(claims, "email"), Err(OidcRefusal::NoAddress)));
        }
    }
}
