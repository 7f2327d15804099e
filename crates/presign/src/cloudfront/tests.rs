//! Tests of CloudFront signed URLs: against OpenSSL, and against a model of the documentation.

use super::key::tests::{P256_SEC1, RSA_PKCS1};
use super::*;
use crate::policy::from_base64;
use crate::request::CustomParameter;
use base64ct::{Base64, Encoding};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use proptest::prelude::*;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePublicKey as _;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// The signatures of OpenSSL with the same key: see the README beside it.
const OPENSSL: &str = include_str!("../../tests/fixtures/openssl.txt");
const RSA_PUBLIC: &str = include_str!("../../tests/fixtures/rsa-public.pem");
const P256_PUBLIC: &str = include_str!("../../tests/fixtures/p256-public.pem");
const LINK_ID: CustomParameter = CustomParameter::new("x-handout");
const OBJECT: &str = "https://d111111abcdef8.cloudfront.net/image.jpg";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn end() -> UrlPolicy {
    UrlPolicy::until(at(1_767_290_400))
}

fn signer(pem: &str, hash: HashAlgorithm) -> CloudFrontSigner {
    CloudFrontSigner::new("K1TESTKEY", PrivateKey::from_pem(pem).unwrap(), hash).unwrap()
}

fn rsa() -> CloudFrontSigner {
    signer(RSA_PKCS1, HashAlgorithm::Sha1)
}

/// A model of CloudFront by its documentation: whether a URL opens at an instant for an address.
fn opens(url: &str, now: i64, from: Ipv4Addr) -> bool {
    let (place, query) = url.split_once('?').unwrap();
    let own = |name: &str| {
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then_some(value)
        })
    };
    let others: Vec<&str> = query
        .split('&')
        .filter(|pair| !OWN_PARAMETERS.contains(&pair.split('=').next().unwrap()))
        .collect();
    let asked = if others.is_empty() {
        place.to_owned()
    } else {
        format!("{place}?{}", others.join("&"))
    };
    let json = match (own("Expires"), own("Policy")) {
        (Some(expires), None) => Some(format!(
            r#"{{"Statement":[{{"Resource":"{asked}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
        )),
        (None, Some(policy)) => from_base64(policy).and_then(|json| String::from_utf8(json).ok()),
        _ => None,
    };
    let Some(json) = json else { return false };
    let is_sha256 = match own("Hash-Algorithm") {
        None => false,
        Some("SHA256") => true,
        Some(_) => return false,
    };
    let signature = own("Signature").and_then(from_base64);
    signature.is_some_and(|signature| is_signed(json.as_bytes(), is_sha256, &signature))
        && allows(&json, &asked, now, from)
}

fn is_signed(message: &[u8], is_sha256: bool, signature: &[u8]) -> bool {
    let rsa = rsa::PublicKey::from_public_key_pem(RSA_PUBLIC).unwrap();
    let p256 = p256::ecdsa::VerifyingKey::from_public_key_der(
        &Base64::decode_vec(&body_of(P256_PUBLIC)).unwrap(),
    )
    .unwrap();
    let (digest, padding) = if is_sha256 {
        (
            Sha256::digest(message).to_vec(),
            Pkcs1v15Sign::new::<Sha256>(),
        )
    } else {
        (Sha1::digest(message).to_vec(), Pkcs1v15Sign::new::<Sha1>())
    };
    rsa.verify(padding, &digest, signature).is_ok()
        || p256::ecdsa::Signature::from_der(signature)
            .is_ok_and(|signature| p256.verify_prehash(&digest, &signature).is_ok())
}

fn body_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

fn allows(json: &str, asked: &str, now: i64, from: Ipv4Addr) -> bool {
    let policy: Value = serde_json::from_str(json).unwrap();
    let statement = &policy["Statement"][0];
    let condition = &statement["Condition"];
    let second = |name: &str| condition[name]["AWS:EpochTime"].as_i64();
    let in_network = condition["IpAddress"]["AWS:SourceIp"]
        .as_str()
        .is_none_or(|network| {
            let (address, prefix) = network.split_once('/').unwrap();
            let address: Ipv4Addr = address.parse().unwrap();
            let below = u32::MAX.checked_shr(prefix.parse().unwrap()).unwrap_or(0);
            from.to_bits() & !below == address.to_bits()
        });
    matches(
        statement["Resource"].as_str().unwrap().as_bytes(),
        asked.as_bytes(),
    ) && now < second("DateLessThan").unwrap()
        && second("DateGreaterThan").is_none_or(|start| now > start)
        && in_network
}

#[test]
fn urls_are_those_that_openssl_signs() {
    let (start, network) = (at(1_767_200_000), "192.0.2.0/24".parse().unwrap());
    let request = PresignRequest {
        key: "q3/a b+ü.pdf",
        content_disposition: Some("attachment; filename=\"a b.pdf\""),
        custom: &[(LINK_ID, "0123456789abcdef0123456789abcdef")],
        ..PresignRequest::default()
    };
    let object = DistributionDomain::new("Files.Example.com")
        .unwrap()
        .url(&request);
    let mut ours = Vec::new();
    for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
        let signer = signer(RSA_PKCS1, hash);
        let sign =
            |url: &str, policy: UrlPolicy| signer.sign(url, &policy).unwrap().expose().to_owned();
        ours.extend([
            sign(OBJECT, end()),
            sign(&format!("{OBJECT}?size=large"), end()),
            sign(&object, end()),
            sign(OBJECT, end().starting(start)),
            sign(OBJECT, end().from_network(network)),
            sign(OBJECT, end().starting(start).from_network(network)),
            signer
                .wildcard("https://d111111abcdef8.cloudfront.net/im*", &end())
                .unwrap()
                .apply(&format!("{OBJECT}?x-handout=1"))
                .unwrap()
                .expose()
                .to_owned(),
        ]);
    }
    let openssl: Vec<&str> = OPENSSL.lines().collect();
    assert_eq!(ours, openssl);
}

#[test]
fn policies_are_written_to_the_byte() {
    let (start, network) = (at(1_767_200_000), "203.0.113.7".parse().unwrap());
    let table = [
        end().json(OBJECT),
        end().starting(start).json(OBJECT),
        end().from_network(network).json(OBJECT),
        end().starting(start).from_network(network).json(OBJECT),
    ];
    insta::assert_snapshot!(table.join("\n"), @r#"
    {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400}}}]}
    {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400},"DateGreaterThan":{"AWS:EpochTime":1767200000}}}]}
    {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400},"IpAddress":{"AWS:SourceIp":"203.0.113.7/32"}}}]}
    {"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/image.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1767290400},"DateGreaterThan":{"AWS:EpochTime":1767200000},"IpAddress":{"AWS:SourceIp":"203.0.113.7/32"}}}]}
    "#);
}

#[test]
fn a_quote_brings_in_no_other_resource() {
    let resource = r#"https://example.com/file\","Resource":"*","x":""#;
    let json: Value = serde_json::from_str(&end().json(resource)).unwrap();
    assert_eq!(
        json,
        json!({"Statement": [{
            "Resource": resource,
            "Condition": {"DateLessThan": {"AWS:EpochTime": 1_767_290_400}},
        }]})
    );
    assert!(rsa().sign(resource, &end()).is_err());
    assert!(r#"192.0.2.0/24","x":""#.parse::<Ipv4Network>().is_err());
}

#[test]
fn what_cannot_be_signed_says_why() {
    let sign = |url: &str| rsa().sign(url, &end()).unwrap_err().to_string();
    let wildcard = |text: &str| rsa().wildcard(text, &end()).unwrap_err().to_string();
    let policy = |policy: UrlPolicy| rsa().sign(OBJECT, &policy).unwrap_err().to_string();
    let network = |text: &str| text.parse::<Ipv4Network>().unwrap_err().to_string();
    let key = PrivateKey::from_pem(RSA_PKCS1).unwrap();
    let table = [
        sign("rtmp://d.example/x"),
        sign("https://d.example"),
        sign("https:///x"),
        sign("https://u@d.example/x"),
        sign("https://d.example/x#y"),
        sign("https://d.example/*"),
        sign("https://d.example/a b"),
        sign("https://d.example/ü"),
        sign("https://d.example/x?"),
        sign("https://d.example/x?a=1&Expires=5"),
        wildcard("https://*/x"),
        wildcard("https://d.example/\"*"),
        policy(end().starting(at(1_767_290_400))),
        policy(UrlPolicy::until(at(0))),
        policy(UrlPolicy::until(at(LAST_SECOND + 1))),
        network("192.0.2.7/24"),
        network("2001:db8::/32"),
        network("192.0.2.0/+24"),
        network("192.0.2.0/33"),
        CloudFrontSigner::new("K&x=1", key, HashAlgorithm::Sha1)
            .unwrap_err()
            .to_string(),
        DistributionDomain::new("https://d.example")
            .unwrap_err()
            .to_string(),
    ];
    insta::assert_snapshot!(table.join("\n"), @r#"
    a link to rtmp://d.example/x cannot be signed for CloudFront: it must begin with https:// or http://
    a link to https://d.example cannot be signed for CloudFront: it has no path: end the host with a slash
    a link to https:///x cannot be signed for CloudFront: it must name a host, and nothing else, before its path
    a link to https://u@d.example/x cannot be signed for CloudFront: it must name a host, and nothing else, before its path
    a link to https://d.example/x#y cannot be signed for CloudFront: a fragment never reaches CloudFront
    a link to https://d.example/* cannot be signed for CloudFront: a star would be a wildcard: write %2A
    a link to https://d.example/a b cannot be signed for CloudFront: it has characters that must be percent-encoded
    a link to https://d.example/ü cannot be signed for CloudFront: it has characters that must be percent-encoded
    a link to https://d.example/x? cannot be signed for CloudFront: CloudFront leaves out a question mark with nothing behind it
    a link to https://d.example/x?a=1&Expires=5 cannot be signed for CloudFront: it has a parameter of the signature already
    a link to https://*/x cannot be signed for CloudFront: its host must not be a pattern
    a link to https://d.example/"* cannot be signed for CloudFront: it has characters that must be percent-encoded
    a CloudFront link that begins at 2026-01-01T18:00:00Z must end later, not at 2026-01-01T18:00:00Z
    a CloudFront link cannot end at 1970-01-01T00:00:00Z: CloudFront counts from 1970 to 2038-01-19T03:14:07Z
    a CloudFront link cannot end at 2038-01-19T03:14:08Z: CloudFront counts from 1970 to 2038-01-19T03:14:07Z
    "192.0.2.7/24" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
    "2001:db8::/32" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
    "192.0.2.0/+24" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
    "192.0.2.0/33" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6
    "K&x=1" is not the id of a CloudFront public key: it looks like K2JCJMDEHXQW5F
    "https://d.example" is not the domain of a distribution: write the name alone, such as d111111abcdef8.cloudfront.net
    "#);
}

#[test]
fn one_signature_serves_a_whole_prefix_and_nothing_else() {
    let distribution = DistributionDomain::new("d111111abcdef8.cloudfront.net").unwrap();
    let resource = distribution.everything_below("photos of *?/");
    let wildcard = rsa().wildcard(&resource, &end()).unwrap();
    let request = |key| PresignRequest {
        key,
        custom: &[(LINK_ID, "1")],
        ..PresignRequest::default()
    };
    let query = |key| {
        let url = distribution.url(&request(key));
        let signed = wildcard.apply(&url).unwrap().expose().to_owned();
        assert!(opens(&signed, 1_767_290_399, Ipv4Addr::LOCALHOST), "{key}");
        signed.strip_prefix(&url).unwrap().to_owned()
    };
    assert_eq!(query("photos of *?/a.jpg"), query("photos of *?/b/ü.jpg"));
    let elsewhere = distribution.url(&request("photos of me/a.jpg"));
    insta::assert_snapshot!(wildcard.apply(&elsewhere).unwrap_err(), @"https://d111111abcdef8.cloudfront.net/photos%20of%20me/a.jpg?x-handout=1 is outside of https://d111111abcdef8.cloudfront.net/photos%20of%20%2A%3F/*, for which the CloudFront links were signed");
    insta::assert_snapshot!(format!("{wildcard:?}"), @r#"WildcardSignature("https://d111111abcdef8.cloudfront.net/photos%20of%20%2A%3F/*", "****")"#);
}

#[test]
fn a_link_opens_when_its_policy_says() {
    let network = "192.0.2.0/24".parse().unwrap();
    let policy = end().starting(at(1_767_200_000)).from_network(network);
    let inside = Ipv4Addr::new(192, 0, 2, 255);
    for pem in [RSA_PKCS1, P256_SEC1] {
        for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
            let url = signer(pem, hash).sign(OBJECT, &policy).unwrap();
            assert!(opens(url.expose(), 1_767_250_000, inside));
            assert!(!opens(url.expose(), 1_767_200_000, inside));
            assert!(!opens(url.expose(), 1_767_290_400, inside));
            assert!(!opens(url.expose(), 1_767_250_000, Ipv4Addr::LOCALHOST));
        }
    }
}

#[test]
fn stars_and_question_marks_stand_for_what_they_should() {
    let table = [
        ("https://d/*", "https://d/", true),
        ("https://d/*", "https://e/", false),
        ("https://d/a?c", "https://d/abc", true),
        ("https://d/a?c", "https://d/ac", false),
        ("https://d/*.jpg*", "https://d/x/y.jpg?z=1", true),
        ("https://d/*.jpg", "https://d/x.jpg.exe", false),
        ("*a*a*a*b", "aaaaaaaaaaaaaaaa", false),
        ("", "", true),
    ];
    for (resource, url, is_match) in table {
        assert_eq!(
            matches(resource.as_bytes(), url.as_bytes()),
            is_match,
            "{resource} {url}"
        );
    }
}

fn any_policy() -> impl Strategy<Value = UrlPolicy> {
    let network = (any::<u32>(), 0u8..=32).prop_map(|(address, prefix)| {
        let below = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let address = Ipv4Addr::from_bits(address & !below);
        format!("{address}/{prefix}")
            .parse::<Ipv4Network>()
            .unwrap()
    });
    (
        1_000i64..=LAST_SECOND,
        proptest::option::of(0i64..1_000),
        proptest::option::of(network),
    )
        .prop_map(|(end, start, network)| UrlPolicy {
            end: at(end),
            start: start.map(at),
            network,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_link_opens_and_none_that_was_changed(
        key in "[^\\p{C}]{1,30}",
        id in proptest::option::of("[0-9a-f]{32}"),
        policy in any_policy(),
        pem in prop_oneof![Just(RSA_PKCS1), Just(P256_SEC1)],
        hash in prop_oneof![Just(HashAlgorithm::Sha1), Just(HashAlgorithm::Sha256)],
        place in any::<prop::sample::Index>(),
        other in "[a-zA-Z0-9~_-]",
    ) {
        let custom = id.as_deref().map(|id| (LINK_ID, id));
        let request = PresignRequest { key: &key, custom: custom.as_slice(), ..PresignRequest::default() };
        let url = DistributionDomain::new("d111111abcdef8.cloudfront.net").unwrap().url(&request);
        let signed = signer(pem, hash).sign(&url, &policy).unwrap().expose().to_owned();
        let (now, from) = (
            policy.end.as_second() - 1,
            policy.network.map_or(Ipv4Addr::LOCALHOST, |network| network.address),
        );
        prop_assert!(opens(&signed, now, from), "{}", signed);
        // The key's id is not signed: it only selects the key that verifies.
        let end = signed.find("&Key-Pair-Id=").unwrap();
        let place = place.index(end);
        let mut changed = signed.clone();
        changed.replace_range(place..=place, &other);
        if changed != signed && changed.contains('?') {
            prop_assert!(!opens(&changed, now, from), "{}", changed);
        }
    }

    #[test]
    fn no_url_panics(url in "\\PC{0,40}|https://[a-z?#&=*%]{0,20}/[a-zA-Z?#&=*%.]{0,20}") {
        let _ = check_url(&url);
        let _ = matches(url.as_bytes(), OBJECT.as_bytes());
    }
}
