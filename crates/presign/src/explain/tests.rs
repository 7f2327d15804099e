//! Tests of explanations, with real, damaged and invented URLs.

use super::*;
use crate::{AccessKey, Addressing, BucketUrl, ExpiresIn, PresignRequest, Presigner};
use base64ct::{Base64, Encoding};
use proptest::prelude::*;

const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A signature in a place where none belongs.
const PLANTED: &str = "f00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabef00dbabe";

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

const LINK_ID: CustomParameter = CustomParameter::new("x-handout");

fn known() -> Explainer<'static> {
    Explainer {
        servers: &[],
        custom: Some(LINK_ID),
    }
}

fn told(url: &str) -> String {
    let text = known().explain(url, noon()).in_words(noon()).to_string();
    assert!(!text.contains(SIGNATURE), "{text}");
    text
}

/// A URL of this crate, signed four hours before noon.
fn link(key_id: &str, token: Option<&str>, key: &str, seconds: u64) -> String {
    let target = BucketUrl::new(
        "https://s3.eu-west-1.amazonaws.com",
        "acme-reports",
        Addressing::VirtualHost,
    );
    let keys = AccessKey {
        access_key_id: key_id.into(),
        secret_access_key: "secret".into(),
        session_token: token.map(Into::into),
    };
    let signed_at = "2026-11-23T08:00:00Z".parse().unwrap();
    let presigner = Presigner::new(
        target.unwrap(),
        &keys,
        "eu-west-1",
        signed_at,
        ExpiresIn::clamped(seconds),
    );
    let url = presigner.presign(&PresignRequest {
        key,
        content_disposition: Some("attachment; filename=\"a b.pdf\""),
        content_encoding: None,
        content_type: None,
        version_id: Some("3HL4kqtJlcpXroDTDmJ"),
        custom: &[(LINK_ID, "0123456789abcdef0123456789abcdef")],
    });
    url.expose().to_owned()
}

/// The most severe findings, without the end of their sentences.
fn findings(url: &str) -> Vec<String> {
    let explanation = known().explain(url, noon());
    let findings = explanation.findings.into_iter();
    findings
        .filter(|finding| finding.severity != Severity::Note)
        .map(|finding| finding.text)
        .collect()
}

#[test]
fn a_link_of_a_long_term_key() {
    let url = link("AKIAIOSFODNN7EXAMPLE", None, "2026/11/23/a b.pdf", 86_400);
    insta::assert_snapshot!(told(&url), @r#"
    a link to S3, signature version 4
      opens        s3://acme-reports/2026/11/23/a b.pdf
      at           acme-reports.s3.eu-west-1.amazonaws.com (virtual-host style, region eu-west-1)
      signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
      for region   eu-west-1
      from         2026-11-23T08:00:00Z, 4 hours ago
      until        2026-11-24T08:00:00Z, in 20 hours
      really ends  then, unless the key is disabled or loses its permission before
      disposition  attachment; filename="a b.pdf"
      version      3HL4kqtJlcpXroDTDmJ
      link id      0123456789abcdef0123456789abcdef
      length       496 bytes
    note:  the method is signed: HEAD gets 403, so check it with GET and "Range: bytes=0-0"
    "#);
}

#[test]
fn a_link_of_a_session() {
    let token = "FwoGZXIvYXdzEXAMPLE/".repeat(40);
    let url = link("ASIAIOSFODNN7EXAMPLE", Some(&token), "a.pdf", 604_800);
    let text = told(&url);
    assert!(!text.contains("FwoGZXIv"), "{text}");
    insta::assert_snapshot!(text, @r#"
    a link to S3, signature version 4
      opens        s3://acme-reports/a.pdf
      at           acme-reports.s3.eu-west-1.amazonaws.com (virtual-host style, region eu-west-1)
      signed by    ASIAIOSFODNN7EXAMPLE, a temporary key
      for region   eu-west-1
      from         2026-11-23T08:00:00Z, 4 hours ago
      until        2026-11-30T08:00:00Z, in 6 days
      really ends  with the session of its key, whose end is not in the URL, at the latest 2026-11-24T20:00:00Z
      disposition  attachment; filename="a b.pdf"
      version      3HL4kqtJlcpXroDTDmJ
      link id      0123456789abcdef0123456789abcdef
      length       1384 bytes, 880 of them a session token
    risk:  it promises more than 36 hours, and no session lasts so long
    risk:  temporary credentials signed it, and it dies with their session
    note:  the method is signed: HEAD gets 403, so check it with GET and "Range: bytes=0-0"
    note:  it has 1384 bytes: a mail's line takes 998, so the mail must be encoded
    "#);
}

#[test]
fn a_link_that_is_over_damaged_and_elsewhere() {
    let url = link("AKIAIOSFODNN7EXAMPLE", None, "a/../b.pdf", 3_600)
        .replace("s3.eu-west-1", "s3.us-east-1")
        .replace('&', "&amp;")
        + "&utm_source=mail";
    insta::assert_snapshot!(told(&url), @r#"
    a link to S3, signature version 4
      opens        s3://acme-reports/a/../b.pdf
      at           acme-reports.s3.us-east-1.amazonaws.com (virtual-host style, region us-east-1)
      signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
      for region   eu-west-1
      from         2026-11-23T08:00:00Z, 4 hours ago
      until        2026-11-23T09:00:00Z, 3 hours ago
      disposition  attachment; filename="a b.pdf"
      version      3HL4kqtJlcpXroDTDmJ
      link id      0123456789abcdef0123456789abcdef
      length       501 bytes
    wrong: it has "&amp;" where "&" belongs: it was copied out of a page's source
    wrong: it is signed for eu-west-1, but its host is in us-east-1
    wrong: utm_source follows the signature: it was appended after signing, and the link gets 403
    wrong: it is over: it ended 2026-11-23T09:00:00Z, 3 hours ago
    risk:  its key has "." or ".." as a folder: browsers take that out and ask for another object
    "#);
}

#[test]
fn a_link_of_signature_version_2() {
    insta::assert_snapshot!(told("https://acme.s3.eu-central-1.amazonaws.com/a.pdf?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1795435200&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D&x-handout=1"), @r"
    a link to S3, signature version 2
      opens        s3://acme/a.pdf
      at           acme.s3.eu-central-1.amazonaws.com (virtual-host style, region eu-central-1)
      signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
      until        2026-11-23T12:00:00Z, 0 seconds ago
      link id      1
      length       158 bytes
    wrong: eu-central-1 does not take signature version 2: sign it with version 4
    wrong: it is over: it ended 2026-11-23T12:00:00Z, 0 seconds ago
    risk:  x-handout is not signed by version 2, so it can be changed
    ");
}

#[test]
fn a_link_to_cloudfront_with_a_canned_policy() {
    let urls = include_str!("../../tests/fixtures/openssl.txt");
    let url = urls.lines().nth(2).unwrap();
    insta::assert_snapshot!(told(url), @r#"
    a link to CloudFront, canned policy
      opens        /q3/a b+ü.pdf
      at           files.example.com (a distribution)
      signed by    K1TESTKEY, a CloudFront key
      until        2026-01-01T18:00:00Z, 325 days ago
      disposition  attachment; filename="a b.pdf"
      link id      0123456789abcdef0123456789abcdef
      length       558 bytes
    wrong: it is over: it ended 2026-01-01T18:00:00Z, 325 days ago
    note:  its response-content-disposition works only if the distribution forwards it to S3
    "#);
}

#[test]
fn a_link_to_cloudfront_with_a_custom_policy() {
    let urls = include_str!("../../tests/fixtures/openssl.txt");
    let moved = urls
        .lines()
        .nth(12)
        .unwrap()
        .replace("/image.jpg", "/secret.jpg");
    insta::assert_snapshot!(told(&moved), @r"
    a link to CloudFront, custom policy
      opens        /secret.jpg
      at           d111111abcdef8.cloudfront.net (a distribution)
      signed by    K1TESTKEY, a CloudFront key
      from         2025-12-31T16:53:20Z, 326 days ago
      until        2026-01-01T18:00:00Z, 325 days ago
      network      192.0.2.0/24
      policy for   https://d111111abcdef8.cloudfront.net/image.jpg
      length       759 bytes
    wrong: its policy is for another URL
    wrong: it is over: it ended 2026-01-01T18:00:00Z, 325 days ago
    ");
    let wildcard = urls.lines().nth(13).unwrap();
    let then: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    insta::assert_snapshot!(known().explain(wildcard, then).in_words(then), @r"
    a link to CloudFront, custom policy
      opens        /image.jpg
      at           d111111abcdef8.cloudfront.net (a distribution)
      signed by    K1TESTKEY, a CloudFront key
      until        2026-01-01T18:00:00Z, in 18 hours
      really ends  then, unless the key leaves its key group before
      policy for   https://d111111abcdef8.cloudfront.net/im*
      link id      1
      length       642 bytes
    risk:  its policy is for a pattern: its signature opens every URL that matches, with any parameters
    ");
}

#[test]
fn what_is_wrong_is_found() {
    let good = link("AKIAIOSFODNN7EXAMPLE", None, "a.pdf", 86_400);
    assert_eq!(findings(&good), [""; 0]);
    let signature = good.split("X-Amz-Signature=").nth(1).unwrap();
    let change = |from: &str, to: &str| findings(&good.replace(from, to)).join("; ");
    let table = [
        change("https://", "http://"),
        change("https://", ""),
        change(signature, &signature[..40]),
        change("&X-Amz-SignedHeaders=host", ""),
        change("SignedHeaders=host", "SignedHeaders=host%3Bx-amz-meta"),
        change("SignedHeaders=host", "SignedHeaders=range"),
        change("Expires=86400", "Expires=0"),
        change("Expires=86400", "Expires=700000"),
        change("Expires=86400", "Expires=a+day"),
        change("20261123", "20261124"),
        change("Date=20261123", "Date=20261124"),
        change("T080000Z", "T0800Z"),
        change("%2Feu-west-1%2F", "%2Feu-west-2%2F"),
        change(".s3.eu-west-1.", ".s3."),
        change(".s3.eu-west-1.", ".s3-website.eu-west-1."),
        change("acme-reports.s3", "acme.reports.s3"),
        change("AKIA", "ASIA"),
        change("%2Fs3%2F", "%2Fsqs%2F"),
        change("%2Faws4_request", ""),
        change("a.pdf?", "a+b.pdf?"),
        change("a%20b", "a b"),
        change("a%20b", "%E2%80%93"),
        change("x-id=GetObject", "x-id=GetObject&x-id=GetObject"),
        findings("https://example.com/a.pdf").join("; "),
        findings("").join("; "),
        findings("https://storage.googleapis.com/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=0a")
            .join("; "),
        findings(&format!(
            "{}&X-Amz-S3session-Token=t",
            link("AKIAIOSFODNN7EXAMPLE", None, "k", 86_400)
        ))
        .join("; "),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    it is http: a listener on the network path can open it too
    this is not a URL: it must begin with https:// or http:// and a host
    its signature is not of 64 hexadecimal digits: the link was cut or changed
    X-Amz-SignedHeaders is missing: the link was cut or changed
    it works only with the header x-amz-meta, which no browser sends by itself
    its X-Amz-SignedHeaders lacks host, which S3 requires; it works only with the header range, which no browser sends by itself
    its X-Amz-Expires is 0: it never worked; it is over: it ended 2026-11-23T08:00:00Z, 4 hours ago
    its X-Amz-Expires is 700000: S3 refuses more than 604800, which is 7 days
    its X-Amz-Expires is not a number of seconds; a bare + is in its query, which some servers take for a space: write %2B or %20
    it begins in the future, 2026-11-24T08:00:00Z, in 20 hours
    the days in X-Amz-Credential and X-Amz-Date differ; it begins in the future, 2026-11-24T08:00:00Z, in 20 hours
    its X-Amz-Date is not an instant such as 20261123T080000Z
    it is signed for eu-west-2, but its host is in eu-west-1
    its host names no region: S3 may redirect it, and a redirected signature fails
    its host is a website endpoint, which does not check signatures
    its bucket has a dot: no certificate of S3 is valid for that host, so use path style
    a temporary key signed it, but its session token is missing
    it is signed for the service sqs, not for s3
    its X-Amz-Credential is not <key>/<date>/<region>/s3/aws4_request
    a bare + is in its path, which some servers take for a space: write %2B or %20
    it has characters that must be percent-encoded; clients disagree about what to send
    its response-content-disposition is not ISO-8859-1: S3 refuses it, use filename*=UTF-8''…
    the parameter x-id is there twice: servers differ in which they take
    it has no known signature: no X-Amz-Signature, no AWSAccessKeyId, no Key-Pair-Id
    this is not a URL: it must begin with https:// or http:// and a host
    it is signed for Google Cloud Storage, in its own way, which S3 and this program do not read
    a session of a directory bucket signed it, which ends after five minutes
    ");
}

#[test]
fn a_link_that_a_mail_system_has_replaced_is_explained_as_it_was() {
    let good = link("AKIAIOSFODNN7EXAMPLE", None, "2026/q3.pdf", 86_400);
    let mut encoded = String::new();
    crate::percent::push_query(&good, &mut encoded);
    let safe_link = format!(
        "<https://eur01.safelinks.protection.outlook.com/?url={encoded}&amp;data=05%7C02&amp;reserved=0>"
    );
    insta::assert_snapshot!(told(&safe_link), @r#"
    a link to S3, signature version 4
      opens        s3://acme-reports/2026/q3.pdf
      at           acme-reports.s3.eu-west-1.amazonaws.com (virtual-host style, region eu-west-1)
      signed by    AKIAIOSFODNN7EXAMPLE, a long-term key
      for region   eu-west-1
      from         2026-11-23T08:00:00Z, 4 hours ago
      until        2026-11-24T08:00:00Z, in 20 hours
      really ends  then, unless the key is disabled or loses its permission before
      disposition  attachment; filename="a b.pdf"
      version      3HL4kqtJlcpXroDTDmJ
      link id      0123456789abcdef0123456789abcdef
      length       487 bytes
    note:  the text around it was left out
    note:  Safe Links has replaced it by a link of its own; this is about the original
    note:  the method is signed: HEAD gets 403, so check it with GET and "Range: bytes=0-0"
    "#);
    let in_a_sentence = told(&format!("Ann, look at {good}.\nRegards"));
    assert!(
        in_a_sentence.contains("s3://acme-reports/2026/q3.pdf\n"),
        "{in_a_sentence}"
    );
    let kept = "https://protect-eu.mimecast.com/s/AbCdEf?domain=acme-reports.s3.amazonaws.com";
    assert_eq!(
        findings(kept),
        [
            "Mimecast has replaced the link and does not show the original: open it, and explain the address to which it leads"
        ]
    );
}

#[test]
fn a_signature_in_the_wrong_place_is_not_shown_either() {
    let good = link("ASIAIOSFODNN7EXAMPLE", Some("FwoTOKEN"), "k", 86_400);
    let damaged = [
        good.replace('?', "%3F"),
        good.replace('?', "%253F"),
        good.replace('?', "&"),
        good.replace('?', "%3F")
            .replace('&', "%26")
            .replace('=', "%3D"),
        good.replace("x-handout=", "x-handout=1%26X-Amz-Signature%3D")
            .replace("X-Amz-Signature=", ""),
        good.replace("filename%3D", &format!("X-Amz-Signature%3D{PLANTED}")),
        good.replace(
            "versionId=",
            &format!("versionId=1%26x-amz-signature%3D{PLANTED}&"),
        ),
        good.replace(
            "X-Amz-Credential=",
            &format!("X-Amz-Credential=Signature%3D{PLANTED}%2F"),
        ),
        good.replace("x-id=GetObject", &format!("x-id=Signature%3D{PLANTED}")),
        good.replace("/k", &format!("/Signature={PLANTED}")),
    ];
    let signature = crate::url::signature_in(&good).unwrap();
    let mut words = String::new();
    for url in &damaged {
        let explanation = known().explain(url, noon());
        let text = explanation.in_words(noon()).to_string();
        let json = serde_json::to_string(&explanation).unwrap();
        for secret in [signature.as_str(), PLANTED, "FwoTOKEN"].map(|secret| &secret[..8]) {
            assert!(
                !text.contains(secret) && !json.contains(secret),
                "{url}:\n{text}"
            );
        }
        words.push_str(text.lines().nth(1).unwrap());
        words.push('\n');
        let damage = text.lines().filter(|line| line.contains("are in its path"));
        words.extend(damage.map(|line| format!("{line}\n")));
    }
    insta::assert_snapshot!(words, @r#"
      opens        s3://acme-reports/k?x-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
    wrong: its parameters are in its path: the ? before them was escaped or lost on the way
      opens        s3://acme-reports/k%3Fx-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
    wrong: its parameters are in its path: the ? before them was escaped or lost on the way
      opens        s3://acme-reports/k&x-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
    wrong: its parameters are in its path: the ? before them was escaped or lost on the way
      opens        s3://acme-reports/k?x-id=GetObject&response-content-disposition=attachment; filename="a b.pdf"&versionId=3HL4kqtJlcpXroDTDmJ&x-handout=0123456789abcdef0123456789abcdef&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE/20261123/eu-west-1/s3/aws4_request&X-Amz-Date=20261123T080000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=****
    wrong: its parameters are in its path: the ? before them was escaped or lost on the way
      opens        s3://acme-reports/k
      opens        s3://acme-reports/k
      opens        s3://acme-reports/k
      opens        s3://acme-reports/k
      opens        s3://acme-reports/k
      opens        s3://acme-reports/Signature=****
    "#);
}

#[test]
fn what_was_appended_to_a_link_is_found() {
    let good = link("AKIAIOSFODNN7EXAMPLE", None, "a.pdf", 86_400);
    // The format of the SDK for JavaScript: all parameters sorted, those of the signature included.
    let (head, query) = good.split_once('?').unwrap();
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    let sorted = format!("{head}?{}", pairs.join("&"));
    // The format of boto3: the signature last, and no x-id.
    let last = good.replace("x-id=GetObject&", "");
    let table = [
        format!("{good}&response-content-type=text/html"),
        format!("{good}&versionId=1"),
        format!("{good}&x-amz-checksum-mode=ENABLED"),
        format!("{last}&response-content-type=text/html"),
        format!("{last}&utm_source=mail"),
        sorted.clone(),
        format!("{sorted}&fbclid=1"),
    ]
    .map(|url| {
        let behind = known().explain(&url, noon()).findings.into_iter();
        let behind = behind.filter(|f| f.text.contains("follows the signature"));
        let words: Vec<_> = behind
            .map(|f| format!("{:?}: {}", f.severity, f.text))
            .collect();
        words.join("; ")
    });
    insta::assert_snapshot!(table.join("\n"), @r"
    Wrong: response-content-type follows the signature: it was appended after signing, and the link gets 403
    Wrong: versionId follows the signature: it was appended after signing, and the link gets 403
    Wrong: x-amz-checksum-mode follows the signature: it was appended after signing, and the link gets 403
    Risk: response-content-type follows the signature: if it was appended after signing, the link gets 403
    Risk: utm_source follows the signature: if it was appended after signing, the link gets 403

    Risk: fbclid follows the signature: if it was appended after signing, the link gets 403
    ");
    let token = link("ASIAIOSFODNN7EXAMPLE", Some("FwoTOKEN"), "a.pdf", 86_400);
    assert!(!told(&token).contains("follows the signature"));
}

#[test]
fn a_long_link_says_what_it_is_too_long_for() {
    let length = |bytes: usize| {
        let url = link("AKIAIOSFODNN7EXAMPLE", None, &"k".repeat(bytes), 86_400);
        let all = known().explain(&url, noon()).findings;
        all.iter()
            .find(|f| f.text.starts_with("it has "))
            .map(|f| f.severity)
    };
    let expected = [
        None,
        Some(Severity::Note),
        Some(Severity::Risk),
        Some(Severity::Risk),
    ];
    assert_eq!([10, 800, 2_000, 9_000].map(length), expected);
}

/// Texts of 64 KB and more that were read in minutes.
#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "time is measured, and this crate has no other clock"
)]
fn a_hostile_text_is_read_soon() {
    let start = "https://b.s3.amazonaws.com/k?";
    let policy = |resource: &str| {
        let policy = format!(r#"{{"Statement":[{{"Resource":"{resource}"}}]}}"#);
        Base64::encode_string(policy.as_bytes())
    };
    let a = "a".repeat(60_000);
    let texts = [
        format!("{start}{}", "a=\n".repeat(60_000)),
        format!("{start}{}", "=3D\n".repeat(50_000)),
        format!("{start}{}", "a%\n".repeat(60_000)),
        format!("{start}{}", "&amp;amp;amp;\n".repeat(15_000)),
        format!("{start}{}", "0123456789abcdef01234567\n".repeat(9_000)),
        format!("{start}{}", "a0\n".repeat(60_000)),
        format!("{start}X-Amz-Expires=1&versionId=%{}", "25".repeat(100_000)),
        format!("{start}X-Amz-Signature=&a={}", "signature".repeat(20_000)),
        format!("{start}X-Amz-Signature=&{}", "a&".repeat(100_000)),
        format!(
            "https://x.example/{a}c?Key-Pair-Id=K&Signature=a&Policy={}",
            policy(&format!("*{a}b"))
        ),
        format!(
            "https://x.example/?{}",
            "a=https://y.example/&".repeat(3_000)
        ),
        format!(
            "https://x.example/?a=https://y.example/{}",
            "https://z.example/___".repeat(3_000)
        ),
    ];
    for text in texts {
        let began = std::time::Instant::now();
        let explanation = known().explain(&text, noon());
        let (kind, took) = (&text[..80], began.elapsed());
        assert!(took < std::time::Duration::from_secs(8), "{kind}: {took:?}");
        let lines = explanation.in_words(noon()).to_string().lines().count();
        assert!(lines < 80, "{kind}: {lines} lines");
    }
}

#[test]
fn nothing_in_a_url_writes_to_the_terminal_what_it_likes() {
    let url = "https://b.s3.amazonaws.com/%1B%5B2J%0Aok%E2%80%AE?X-Amz-Credential=%1B%5B31m%2F1%2F2%2F%1B%2Faws4_request&%1B=1&%1B=1&response-content-type=%07";
    let text = told(url);
    let is_plain = |c: char| c == '\n' || (!c.is_control() && c != '\u{202E}');
    assert!(text.chars().all(is_plain), "{text:?}");
    assert!(!text.contains("\nok"), "{text}");
}

proptest! {
    #[test]
    fn nothing_panics(url in "\\PC{0,200}", now in any::<i32>()) {
        let now = Timestamp::from_second(now.into()).unwrap();
        let _ = known().explain(&url, now).in_words(now).to_string();
    }

    #[test]
    fn no_value_of_a_known_parameter_panics(
        host in "[a-z0-9.:@%-]{0,30}(\\.amazonaws\\.com)?",
        path in "[a-z/.%?#+ ]{0,20}",
        pairs in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                    "X-Amz-SignedHeaders", "X-Amz-Security-Token", "X-Amz-Region-Set",
                    "AWSAccessKeyId", "Expires", "Policy", "Key-Pair-Id", "Hash-Algorithm",
                    "response-content-disposition", "x-handout",
                ]),
                prop_oneof![
                    "\\PC{0,30}", "[0-9]{0,20}", "-?[0-9]{16,20}", "[A-Za-z0-9_~-]{0,60}", "[A-Z0-9/]{0,20}",
                    Just("20261123T080000Z".to_owned()), Just("99991231T235959Z".to_owned()),
                    Just("eyJTdGF0ZW1lbnQiOlt7fV19".to_owned()),
                    Just(format!("k%26X-Amz-Signature%3D{SIGNATURE}")),
                ],
            ),
            0..8,
        ),
        signature in "(X-Amz-)?Signature",
    ) {
        let mut url = format!("https://{host}/{path}?");
        for (name, value) in pairs {
            url.push_str(&format!("{name}={value}&"));
        }
        url.push_str(&format!("{signature}={SIGNATURE}"));
        let explanation = known().explain(&url, noon());
        let text = explanation.in_words(noon()).to_string();
        let json = serde_json::to_string(&explanation).unwrap();
        prop_assert!(!text.contains(SIGNATURE) && !json.contains(SIGNATURE), "{}", text);
    }
}
