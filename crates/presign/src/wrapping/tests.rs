//! Signed URLs as mail systems, pages and people pass them on.

use base64ct::Base64;
use proptest::prelude::*;

use super::*;
use crate::{
    AccessKey, Addressing, BucketUrl, CustomParameter, ExpiresIn, PresignRequest, Presigner,
};

const LINK_ID: CustomParameter = CustomParameter::new("x-handout");

fn link(key: &str, token: Option<&str>) -> String {
    let endpoint = "https://s3.eu-west-1.amazonaws.com";
    let target = BucketUrl::new(endpoint, "acme-reports", Addressing::VirtualHost);
    let keys = AccessKey {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: "secret".into(),
        session_token: token.map(Into::into),
    };
    let now = "2026-11-23T08:00:00Z".parse().unwrap();
    let expires_in = ExpiresIn::clamped(86_400);
    let presigner = Presigner::new(target.unwrap(), &keys, "eu-west-1", now, expires_in);
    let url = presigner.presign(&PresignRequest {
        key,
        content_disposition: Some("attachment; filename=\"a b.pdf\"; filename*=UTF-8''%C3%BC.pdf"),
        content_type: None,
        version_id: None,
        content_encoding: None,
        custom: &[(LINK_ID, "0123456789abcdef0123456789abcdef")],
    });
    url.expose().to_owned()
}

/// The keys and tokens that spell a URL in different ways.
fn links() -> Vec<String> {
    let token = "FwoGZXIvYXdzE/+EXAMPLE==".repeat(9);
    vec![
        link("2026/q3.pdf", None),
        link("a b/ü_-*~(1)&amp=3D.pdf", None),
        link("q3.pdf", Some(&token)),
        "https://files.acme.example/q3.pdf?Expires=1795435200&Signature=vjby~PxybdZaNmGa-yT272YEAiv4_&Key-Pair-Id=K1TESTKEY"
            .to_owned(),
    ]
}

fn encoded(url: &str) -> String {
    let mut encoded = String::new();
    crate::percent::push_query(url, &mut encoded);
    encoded
}

fn safe_links(url: &str) -> String {
    let url = encoded(url);
    format!(
        "https://eur01.safelinks.protection.outlook.com/?url={url}&data=05%7C02%7Cann%40acme.example%7C0&sdata=Ab%3D&reserved=0"
    )
}

fn proofpoint_1(url: &str) -> String {
    let url = encoded(url);
    format!("https://urldefense.proofpoint.com/v1/url?u={url}&k=oIvR%3D&r=Sd&m=x&s=y")
}

fn proofpoint_2(url: &str) -> String {
    let escaped: String = url
        .bytes()
        .map(|byte| match byte {
            b'/' => "_".to_owned(),
            byte if byte.is_ascii_alphanumeric() || byte == b'.' => char::from(byte).to_string(),
            byte => format!("-{byte:02X}"),
        })
        .collect();
    format!("https://urldefense.proofpoint.com/v2/url?u={escaped}&d=DwMFAg&c=euGZ&e=")
}

/// Replaces what Proofpoint replaces, and runs of it by their lengths.
fn proofpoint_3(url: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#&=;".contains(c);
    let (mut text, mut replaced) = (String::new(), String::new());
    let mut rest = url;
    while let Some(first) = rest.chars().next() {
        let kept = rest.find(|c| !is_kept(c)).unwrap_or(rest.len());
        if kept > 0 {
            text.push_str(&rest[..kept]);
            rest = &rest[kept..];
            continue;
        }
        let run = rest.find(is_kept).unwrap_or(rest.len());
        match rest[..run].chars().count() {
            1 => text.push('*'),
            count => {
                text.push_str("**");
                text.push(char::from(RUNS[count - 2]));
            }
        }
        replaced.push_str(&rest[..run]);
        rest = &rest[run..];
        assert!(!is_kept(first));
    }
    let replaced = Base64UrlUnpadded::encode_string(replaced.as_bytes());
    format!("https://urldefense.com/v3/__{text}__;{replaced}!!KwNVnqRv!Gh_0$")
}

const RUNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn google(url: &str) -> String {
    let url = encoded(url);
    format!("https://www.google.com/url?hl=en&q={url}&source=gmail&ust=1795435200&usg=AOv")
}

fn barracuda(url: &str) -> String {
    let url = encoded(url);
    format!("https://linkprotect.cudasvc.com/url?a={url}&c=E,1,x-y,&typo=1")
}

fn mimecast(url: &str) -> String {
    let url = encoded(url);
    format!("https://protect-eu.mimecast.com/redirect/v1?domain=amazonaws.com&url={url}")
}

fn sophos(url: &str) -> String {
    let encoded = encoded(&Base64::encode_string(url.as_bytes()));
    format!("https://eu-west-1.protection.sophos.com?d=amazonaws.com&u={encoded}&i=Nj&t=x&h=y&s=z")
}

fn cisco(url: &str) -> String {
    format!("https://secure-web.cisco.com/1aB-c/{}", encoded(url))
}

fn check_point(url: &str) -> String {
    format!("https://protect.checkpoint.com/v2/___{url}___.YXAxZTp0ZXN0OmM6bzpl")
}

/// A self-hosted gateway, which no table names.
fn own_gateway(url: &str) -> String {
    format!(
        "https://links.acme.example/click?id=7&target={}",
        encoded(url)
    )
}

fn html(url: &str) -> String {
    format!("<a href=\"{}\">q3</a>", url.replace('&', "&amp;"))
}

fn html_twice(url: &str) -> String {
    url.replace('&', "&amp;amp;")
}

/// Quoted-printable in lines of 76 characters, as in a mail's source.
fn quoted_printable(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for byte in text.bytes() {
        let quoted = match byte {
            b'=' | 0x80.. => format!("={byte:02X}"),
            byte => char::from(byte).to_string(),
        };
        if length + quoted.len() > 75 {
            lines.push_str("=\r\n");
            length = 0;
        }
        length += quoted.len();
        lines.push_str(&quoted);
    }
    lines
}

fn in_brackets(url: &str) -> String {
    format!("See <{url}>.")
}

fn in_a_sentence(url: &str) -> String {
    format!("Ann, the files are at {url}. Please tell me\nwhen you have them (and {url}).")
}

/// A text in which only line breaks separate.
fn above_a_name(url: &str) -> String {
    format!("{url}\nRegards,\nBob")
}

fn markdown(url: &str) -> String {
    format!("see [https://files.acme.example]({url})")
}

/// As a mail program breaks a line, with the marks of a reply.
fn broken(url: &str) -> String {
    let lines: Vec<&str> = url
        .as_bytes()
        .chunks(72)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!("> {}\r\n\r\nRegards\r\n", lines.join("\r\n> "))
}

fn found_in(text: &str) -> Option<String> {
    Some(signed_url(text)?.0)
}

type Wrapping = fn(&str) -> String;

const SERVICES_IN_CLEAR: [Wrapping; 11] = [
    safe_links,
    proofpoint_1,
    proofpoint_2,
    proofpoint_3,
    google,
    barracuda,
    mimecast,
    sophos,
    cisco,
    check_point,
    own_gateway,
];

const COPIES: [Wrapping; 8] = [
    above_a_name,
    markdown,
    html,
    html_twice,
    quoted_printable,
    in_brackets,
    in_a_sentence,
    broken,
];

#[test]
fn a_link_is_found_whatever_a_mail_system_made_of_it() {
    for link in links() {
        let same: Wrapping = ToOwned::to_owned;
        for service in SERVICES_IN_CLEAR.into_iter().chain([same]) {
            let wrapped = service(&link);
            for copy in COPIES.into_iter().chain([same]) {
                let text = copy(&wrapped);
                let found = found_in(&text);
                assert_eq!(found.as_ref(), Some(&link), "{text}");
            }
        }
        for first in SERVICES_IN_CLEAR {
            for second in SERVICES_IN_CLEAR {
                let text = quoted_printable(&html(&second(&first(&link))));
                let found = found_in(&text);
                assert_eq!(found.as_ref(), Some(&link), "{text}");
            }
        }
    }
}

#[test]
fn what_was_done_is_said() {
    let link = link("q3.pdf", None);
    let steps = |text: &str| unwrap(text).unwrap().steps;
    assert_eq!(steps(&link), []);
    let service = |name: &str| Unwrapping::Service(name.to_owned());
    assert_eq!(
        steps(&proofpoint_3(&safe_links(&link))),
        [service("Proofpoint"), service("Safe Links")]
    );
    assert_eq!(steps(&own_gateway(&link)), [service("links.acme.example")]);
    assert_eq!(
        steps(&quoted_printable(&html(&link))),
        [
            Unwrapping::Around,
            Unwrapping::QuotedPrintable,
            Unwrapping::Html
        ]
    );
    assert_eq!(steps(&format!("{link},")), [Unwrapping::Around]);
    assert_eq!(steps(&broken(&link))[1..], [Unwrapping::LineBreak]);
}

#[test]
fn a_signed_link_is_itself_whatever_its_key_holds() {
    let link = link(
        "archive/https://x.example/?url=https%3A%2F%2Fy.example%2F",
        None,
    );
    assert_eq!(found_in(&link), Some(link));
    let sorted = "https://b.s3.amazonaws.com/a.pdf?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0a&response-content-disposition=3D-model";
    assert_eq!(found_in(sorted).as_deref(), Some(sorted));
}

#[test]
fn a_link_that_its_service_keeps_to_itself_is_not_invented() {
    let kept = "https://protect-eu.mimecast.com/s/AbCdEf?domain=acme-reports.s3.amazonaws.com";
    assert_eq!(
        (unwrap(kept).is_none(), service_of(kept)),
        (true, Some("Mimecast"))
    );
    let other = "https://acme.example/a.pdf";
    assert_eq!((unwrap(other).is_none(), service_of(other)), (true, None));
    assert!(unwrap("no link at all").is_none());
}

#[test]
fn a_text_of_many_urls_within_urls_ends_soon() {
    let many = "https://x.example/?a=https://y.example/&".repeat(5_000);
    assert!(unwrap(&many).is_none());
    let nested = (0..40).fold("https://x.example/".to_owned(), |url, _| {
        format!("https://x.example/?a={url}&b={url}")
            .chars()
            .take(60_000)
            .collect()
    });
    assert!(unwrap(&nested).is_none());
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,200}") {
        unwrap(&text);
        unwrap(&format!("https://urldefense.com/v3/__{text}"));
        unwrap(&format!("https://urldefense.proofpoint.com/v2/url?u={text}"));
        unwrap(&format!("http://x?u={text}=\r\n&url=aHR0c{text}"));
    }
}
