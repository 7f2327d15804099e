//! Tests of the rules for ID tokens: each rule broken alone, and tokens whose algorithm is not that of the key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64ct::{Base64UrlUnpadded, Encoding};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_795_860_000, 0);
const ISSUER: &str = "https://login.acme.example";

fn expected() -> ExpectedClaims<'static> {
    ExpectedClaims {
        issuer: ISSUER,
        client_id: "handout",
        nonce: "n-1",
        begun: Timestamp::constant(1_795_859_940, 0),
        now: NOW,
    }
}

fn claims() -> Claims {
    let now = NOW.as_second();
    let claims = json!({
        "iss": ISSUER, "aud": "handout", "sub": "248289761001", "nonce": "n-1",
        "iat": now - 5, "nbf": now - 5, "exp": now + 300,
    });
    claims.as_object().unwrap().clone()
}

/// The judgement of good claims with one change; `null` takes the claim away.
fn with(name: &str, value: Value) -> Result<(), TokenFault> {
    let mut claims = claims();
    match value {
        Value::Null => claims.remove(name),
        value => claims.insert(name.to_owned(), value),
    };
    judge(&claims, expected())
}

#[test]
fn a_token_of_this_issuer_for_this_client_and_this_sign_in_is_accepted() {
    assert_eq!(judge(&claims(), expected()), Ok(()));
    assert_eq!(with("nbf", Value::Null), Ok(()));
    assert_eq!(with("aud", json!(["handout"])), Ok(()));
    assert_eq!(with("azp", json!("handout")), Ok(()));
    let mut several = claims();
    several.insert("aud".to_owned(), json!(["other", "handout"]));
    several.insert("azp".to_owned(), json!("handout"));
    assert_eq!(judge(&several, expected()), Ok(()));
}

#[test]
fn each_rule_is_broken_alone() {
    let now = NOW.as_second();
    for (name, value, fault) in [
        (
            "iss",
            json!("https://login.acme.example/"),
            TokenFault::Issuer,
        ),
        ("iss", json!([ISSUER]), TokenFault::Issuer),
        ("iss", Value::Null, TokenFault::Issuer),
        ("aud", json!("other"), TokenFault::Audience),
        ("aud", json!(["other"]), TokenFault::Audience),
        ("aud", json!([]), TokenFault::Audience),
        ("aud", json!("Handout"), TokenFault::Audience),
        ("aud", Value::Null, TokenFault::Audience),
        (
            "aud",
            json!(["handout", "other"]),
            TokenFault::AuthorizedParty,
        ),
        ("azp", json!("other"), TokenFault::AuthorizedParty),
        ("azp", json!(["handout"]), TokenFault::AuthorizedParty),
        ("exp", json!(now - 60), TokenFault::Expired),
        ("exp", json!("tomorrow"), TokenFault::Expired),
        ("exp", Value::Null, TokenFault::Expired),
        ("nbf", json!(now + 61), TokenFault::NotYetValid),
        ("nbf", json!("now"), TokenFault::NotYetValid),
        ("iat", json!(now + 61), TokenFault::IssuedAt),
        ("iat", json!(now - 121), TokenFault::IssuedAt),
        ("iat", Value::Null, TokenFault::IssuedAt),
        ("nonce", json!("n-2"), TokenFault::Nonce),
        ("nonce", json!(""), TokenFault::Nonce),
        ("nonce", Value::Null, TokenFault::Nonce),
        ("sub", json!(""), TokenFault::Subject),
        ("sub", json!(7), TokenFault::Subject),
        ("sub", json!("s".repeat(256)), TokenFault::Subject),
        ("sub", Value::Null, TokenFault::Subject),
    ] {
        let text = format!("{name}: {value}");
        assert_eq!(with(name, value), Err(fault), "{text}");
    }
}

#[test]
fn clocks_may_be_a_minute_apart_and_instants_may_have_fractions() {
    let now = NOW.as_second();
    for (name, value) in [
        ("exp", json!(now - 59)),
        ("nbf", json!(now + 60)),
        ("iat", json!(now + 60)),
        ("iat", json!(now - 120)),
        ("exp", json!(1_795_860_000.25)),
    ] {
        let text = format!("{name}: {value}");
        assert_eq!(with(name, value), Ok(()), "{text}");
    }
    for value in [json!(1e300), json!(-1e300), json!(i64::MIN)] {
        assert_eq!(with("exp", value), Err(TokenFault::Expired));
    }
    assert_eq!(with("exp", json!(i64::MAX)), Ok(()));
}

/// A key of each curve, with its public half as a JWK.
struct TestKey {
    signing: EncodingKey,
    jwk: Value,
    algorithm: Algorithm,
}

fn ed25519(id: &str) -> TestKey {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = Base64UrlUnpadded::encode_string(pair.public_key().as_ref());
    TestKey {
        signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig"}),
        algorithm: Algorithm::EdDSA,
    }
}

fn p256(id: &str) -> TestKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(Base64UrlUnpadded::encode_string);
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    TestKey {
        signing: EncodingKey::from_ec_der(pkcs8.as_ref()),
        jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "alg": "ES256"}),
        algorithm: Algorithm::ES256,
    }
}

fn set(keys: &[&Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

impl TestKey {
    fn sign(&self, id: Option<&str>) -> String {
        let header = Header {
            kid: id.map(ToOwned::to_owned),
            ..Header::new(self.algorithm)
        };
        encode(&header, &claims(), &self.signing).unwrap()
    }
}

#[test]
fn a_signature_is_verified_with_the_key_that_the_token_names() {
    let (ed, ec, other) = (ed25519("a"), p256("b"), ed25519("c"));
    let keys = set(&[&ed.jwk, &ec.jwk]);
    for key in [(&ed, "a"), (&ec, "b")] {
        let (key, id) = key;
        assert_eq!(verified(&key.sign(Some(id)), &keys), Ok(claims()));
        // The kind of the key leaves no choice.
        assert_eq!(verified(&key.sign(None), &keys), Ok(claims()));
    }
    let unknown = verified(&other.sign(Some("c")), &keys);
    assert_eq!(unknown, Err(TokenFault::UnknownKey));
    let of_another = verified(&other.sign(Some("a")), &keys);
    assert_eq!(of_another, Err(TokenFault::Signature));
    let with_other_kind = verified(&ed.sign(Some("b")), &keys);
    assert_eq!(with_other_kind, Err(TokenFault::Algorithm));
    let two = set(&[&ed.jwk, &other.jwk]);
    let ambiguous = verified(&ed.sign(None), &two);
    assert_eq!(ambiguous, Err(TokenFault::UnknownKey));
}

/// A token with this header and a signature made elsewhere.
fn forged(header: &Value, signature: &[u8]) -> String {
    let payload = Value::Object(claims());
    let [header, payload] = [header, &payload].map(|part| {
        let text = part.to_string();
        Base64UrlUnpadded::encode_string(text.as_bytes())
    });
    let signature = Base64UrlUnpadded::encode_string(signature);
    format!("{header}.{payload}.{signature}")
}

#[test]
fn the_algorithm_is_never_taken_from_the_token_alone() {
    let key = ed25519("a");
    let keys = set(&[&key.jwk]);
    for alg in [
        "none", "None", "NONE", "HS256", "HS512", "RS384", "ES384", "", "x",
    ] {
        for signature in [&b""[..], &[7; 32], &[7; 64]] {
            let token = forged(&json!({"alg": alg, "kid": "a"}), signature);
            assert_eq!(verified(&token, &keys), Err(TokenFault::Algorithm), "{alg}");
        }
    }
    let x = key.jwk["x"].as_str().unwrap();
    let public = Base64UrlUnpadded::decode_vec(x).unwrap();
    for secret in [public.as_slice(), x.as_bytes()] {
        let secret = EncodingKey::from_secret(secret).unwrap();
        let header = Header {
            kid: Some("a".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        let token = encode(&header, &claims(), &secret).unwrap();
        assert_eq!(verified(&token, &keys), Err(TokenFault::Algorithm));
    }
    // The key of another algorithm is named.
    for alg in ["RS256", "PS256", "ES256"] {
        let token = forged(&json!({"alg": alg, "kid": "a"}), &[7; 64]);
        assert_eq!(verified(&token, &keys), Err(TokenFault::Algorithm), "{alg}");
    }
    // A key in the header of the token is no key of the provider.
    let own = ed25519("evil");
    let header = json!({"alg": "EdDSA", "kid": "evil", "jwk": own.jwk});
    let token = forged(&header, &[7; 64]);
    assert_eq!(verified(&token, &keys), Err(TokenFault::UnknownKey));
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let key = ed25519("a");
    let keys = set(&[&key.jwk]);
    let token = key.sign(Some("a"));
    let mut parts = token.split('.');
    let (header, _, signature) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let mut admin = claims();
    admin.insert("email".to_owned(), json!("ann@acme.example"));
    let payload = Base64UrlUnpadded::encode_string(Value::Object(admin).to_string().as_bytes());
    let changed = format!("{header}.{payload}.{signature}");
    assert_eq!(verified(&changed, &keys), Err(TokenFault::Signature));
    for text in ["", ".", "..", "a.b", "a.b.c.d", &"a".repeat(200_000)] {
        assert!(verified(text, &keys).is_err());
    }
    let crit = forged(
        &json!({"alg": "EdDSA", "kid": "a", "crit": ["x"], "x": 1}),
        &[7; 64],
    );
    assert!(verified(&crit, &keys).is_err());
}

#[test]
fn keys_for_something_else_are_left_out() {
    let key = ed25519("a").jwk;
    let with = |name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes())
    };
    assert!(with("use", json!("sig")).is_ok());
    assert!(with("use", json!("enc")).is_err());
    assert!(with("key_ops", json!(["verify"])).is_ok());
    assert!(with("key_ops", json!(["sign"])).is_err());
    assert!(with("alg", json!("HS256")).is_err());
    assert!(with("alg", json!("RS256")).is_err());
    assert!(with("crv", json!("Ed448")).is_err());
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"}]});
    assert!(KeySet::parse(secret.to_string().as_bytes()).is_err());
    let mixed = json!({"keys": [{"kty": "new"}, 7, {"kty": "RSA"}, key]});
    assert!(KeySet::parse(mixed.to_string().as_bytes()).is_ok());
    for text in ["", "{}", "[]", r#"{"keys": {}}"#, r#"{"keys": []}"#] {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
    }
}
