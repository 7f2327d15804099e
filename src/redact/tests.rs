//! Tests of `redact.rs`.

use super::*;
use crate::job::Recipient;
use proptest::prelude::*;

fn of_job(recipient: &Recipient) -> Secrets {
    Secrets::of_recipient(&recipient.address, recipient.name.as_deref())
}

fn clean(words: &str) -> String {
    redacted(words, 300)
}

#[test]
fn what_an_operator_needs_is_kept() {
    for words in [
        "250 2.0.0 Ok: queued as 4VxYz11abcz2Bq",
        "250 Ok 0102018c9f8e7d6c-3f2b1a0e-1a2b-4c3d-9e8f-4a5b6c7d8e9f-000000",
        "450 4.2.0 Greylisted, see you in 300 seconds",
        "NoSuchBucket: The specified bucket does not exist",
        "connect to mx1.acme.example[192.0.2.1]:25: Connection refused",
        "Empfänger unbekannt",
        "250 OK id=1",
    ] {
        let kept = clean(words);
        assert!(kept == words || words.ends_with("=1"), "{kept}");
    }
}

#[test]
fn addresses_links_and_lines_are_hidden() {
    let table = [
        (
            "5.1.1 <bo@acme.example>: Recipient\r\naddress rejected",
            "5.1.1 (address) Recipient address rejected",
        ),
        (
            "554 bad link https://b.s3.amazonaws.com/a?X-Amz-Signature=00 in it",
            "554 bad link (link to b.s3.amazonaws.com) in it",
        ),
        ("see https://bo:pw@acme.example/x", "see (link)"),
        ("see www.acme.example now", "see (hidden) now"),
        ("no bo (at) acme dot example here", "no (hidden) here"),
        ("no bo %40 acme.example here", "no (hidden) here"),
    ];
    for (words, shown) in table {
        assert_eq!(clean(words), shown);
    }
    assert!(clean(&"x".repeat(1000)).len() < 30);
    assert!(clean(&"word ".repeat(1000)).len() <= 300);
}

#[test]
fn what_is_known_of_a_recipient_is_hidden_however_it_is_spelled() {
    let of = |recipient: &str| of_job(&Recipient::parse(recipient).unwrap());
    let secrets = of("Ann Marie Bellamy <annsecret@acme.example>");
    for words in [
        "550 5.1.1 No such user 'annsecret' here",
        "550 no such user annsecret",
        "550 annsecret: unknown",
        "550 annsecret acme.example",
        "550 (annsecret)(acme.example)",
        "550 annsecret;acme.example",
        "550 annsecret,acme.example",
        "550 annsecret_acme.example",
        "550 annsecret-acme.example",
        "550 annsecret...acme.example",
        "550 annsecret a-t acme.example",
        "550 annsecret ａｔ acme.example",
        "550 annsecret arroba acme.example",
        "550 ANNSECRET ａｎｎｓｅｃｒｅｔ ａｃｍｅ．ｅｘａｍｐｌｅ",
        "550 xannsecretx rejected by mx1.ACME.example[192.0.2.1]",
        "550 Bellamy is away, Marie, too",
        "550 see https://acme.example/annsecret",
    ] {
        let shown = redacted_of(words, &secrets, 300);
        let folded = folded(&shown);
        for secret in ["annsecret", "acme.example", "bellamy", "marie"] {
            assert!(!folded.contains(secret), "{words}: {shown}");
        }
        assert!(shown.starts_with("550 "), "{shown}");
    }
    let shown = |recipient: &str, words: &str| redacted_of(words, &of(recipient), 300);
    assert_eq!(
        shown("ann@acme.example", "550 ann-1 cannot get mail, Ann"),
        "550 (hidden) cannot get mail, (hidden)"
    );
    assert_eq!(
        shown(
            "a@bücher.example",
            "550 a has left Bücher.example, xn--bcher-kva.example"
        ),
        "550 a has left (hidden)"
    );
}

#[test]
fn a_recipient_is_hidden_in_any_encoding_and_cut_into_pieces() {
    let recipient = Recipient::parse("annsecret@acme.example").unwrap();
    let secrets = of_job(&recipient);
    let base64 = |text: &str| Base64Unpadded::encode_string(text.as_bytes());
    let words = [
        // Compatible characters (NFKC), and invisible ones.
        "𝐚𝐧𝐧𝐬𝐞𝐜𝐫𝐞𝐭 𝒶cme.example".to_owned(),
        "ⓐⓝⓝⓢⓔⓒⓡⓔⓣ".to_owned(),
        "ａｎｎｓｅｃｒｅｔ＠ａｃｍｅ．ｅｘａｍｐｌｅ".to_owned(),
        "ann\u{200b}sec\u{2060}ret ac\u{200d}me.example".to_owned(),
        "ann\u{3164}secret ann\u{ad}secret ann\u{115f}secret".to_owned(),
        // Pieces.
        "ann secret acme example".to_owned(),
        "a.n.n.s.e.c.r.e.t a n n s e c r e t".to_owned(),
        "ann-sec-ret, an'nsecret, [ann][secret]".to_owned(),
        "annsecret @ acme.example".to_owned(),
        "annsecret (at) acme (dot) example".to_owned(),
        "ANNSECRET@ACME.EXAMPLE annSecret@aCmE.eXaMpLe".to_owned(),
        "<@relay.example:annsecret@acme.example>".to_owned(),
        "<@relay.example,@mx.example : annsecret>".to_owned(),
        "rfc822;annsecret+40acme.example ann+73ecret+40acme.example".to_owned(),
        "annsecret=40acme.example =61nnsecret".to_owned(),
        "annsecret%40acme%2Eexample %61nnsecret".to_owned(),
        // Encoded, with and without the domain.
        base64("annsecret@acme.example"),
        base64("annsecret"),
        base64("ANNSECRET"),
        base64("<annsecret>"),
        "616e6e736563726574".to_owned(),
        "61 6e 6e 73 65 63 72 65 74".to_owned(),
        "61:6e:6e:73:65:63:72:65:74 61-6E-6E-73-65-63-72-65-74".to_owned(),
        "616e6e73 65637265 74 x616e6e736563726574x".to_owned(),
        "YW5u.c2Vj.cmV0 YW5 uc2V jcmV0".to_owned(),
        base64("x annsecret").replace('c', "c-"),
        base64("xy Annsecret@acme.example").replace('m', "m."),
    ];
    for words in words {
        let shown = redacted_of(&format!("550 no {words} here"), &secrets, 300);
        let told = squeezed(&shown);
        for secret in ["annsecret", "acmeexample", "616e6e", "nsecret", "secret"] {
            assert!(!told.contains(secret), "{words}: {shown}");
        }
        for word in words.split(' ').filter(|word| word.len() > 11) {
            assert!(!shown.contains(word), "{words}: {shown}");
        }
        assert!(
            shown.starts_with("550 no (") && shown.ends_with(" here"),
            "{shown}"
        );
    }
}

#[test]
fn what_a_store_repeats_of_a_signature_is_hidden() {
    let hash = "5f0c8a9e1b7d4c3296fe08ab17c45d3e9b20f1a86c7d5e4f3a2b1c0d9e8f7a6b";
    let secrets = [
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAQWERTYUIOPASDFGH",
        "Q3AM3UQ867SPQQA43P2F",
        "vjbyPxybdZaNmGaByTttHYEAivx",
        hash,
    ];
    let [key, temporary, minio, version_2, hash] = secrets;
    for words in [
        format!("InvalidAccessKeyId: The key {key} does not exist"),
        format!("InvalidAccessKeyId: {temporary}, {minio}"),
        format!("SignatureDoesNotMatch: AWSAccessKeyId: {key} Signature: {version_2}"),
        format!("X-Amz-Signature={hash} X-Amz-Signature: {hash}"),
        format!("X-Amz-Credential={key}/20261128/eu-west-1/s3/aws4_request"),
        format!("Credential= {minio} SignatureProvided: {version_2}"),
        format!(
            "<AWSAccessKeyId>{key}</AWSAccessKeyId><SignatureProvided>{version_2}</SignatureProvided>"
        ),
        format!(
            "StringToSign: AWS4-HMAC-SHA256 20261128T080000Z 20261128/eu-west-1/s3/aws4_request {hash}"
        ),
        format!(
            "CanonicalRequest: GET /b/k X-Amz-Credential={key}%2F20261128&X-Amz-Date=1 host:b host {hash}"
        ),
        format!(
            "StringToSignBytes: {}",
            hash.as_bytes()
                .chunks(2)
                .map(|pair| String::from_utf8_lossy(pair))
                .collect::<Vec<_>>()
                .join(" ")
        ),
    ] {
        let shown = clean(&words);
        for secret in secrets {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(
            !shown.contains("5f 0c") && !shown.contains("7a 6b"),
            "{shown}"
        );
    }
    for kept in [
        "SignatureDoesNotMatch: The request signature we calculated does not match",
        "InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our records.",
        "SlowDown: request 4442587FB7D0A2F9",
    ] {
        assert_eq!(clean(kept), kept);
    }
}

#[test]
fn a_secret_that_is_cut_into_pieces_is_hidden() {
    let signature = "5f0c8a9e1b7d4c3296fe08ab17c45d3e9b20f1a86c7d5e4f3a2b1c0d9e8f7a6b";
    for length in [8, 16, 20] {
        let pieces: Vec<&str> = (0..signature.len())
            .step_by(length)
            .map(|at| &signature[at..signature.len().min(at + length)])
            .collect();
        for separator in [" ", ".", ": "] {
            let shown = clean(&format!("554 spam {}", pieces.join(separator)));
            let kept = pieces
                .iter()
                .filter(|piece| is_mixed(piece) && shown.contains(**piece));
            assert_eq!(kept.count(), 0, "{shown}");
        }
    }
}

/// Spellings of an address in which a relay may repeat it.
fn spellings() -> Vec<String> {
    let (local, domain) = ("secretann", "secretacme.example");
    let plain = format!("{local}@{domain}");
    let mut all: Vec<String> = [
        "@",
        "%40",
        "%2540",
        "&#64;",
        "&#x40;",
        "&commat;",
        "＠",
        "﹫",
        "=40",
        "\\u0040",
        "(at)",
        "[At]",
        "-at-",
        "_at_",
        "<at>",
        "+AEA-",
        " at ",
        " (at) ",
        " [AT] ",
        " @ ",
        "@ ",
        " @",
        " %40 ",
        " ＠ ",
        "\u{200b}@",
        "?",
        "/",
        "!",
        "#",
        "=",
    ]
    .iter()
    .map(|at| format!("{local}{at}{domain}"))
    .collect();
    all.push(format!("{local} at secretacme dot example"));
    all.push(format!("mailto:{local}%40{domain}"));
    all.push(format!("<{plain}>"));
    all.push(format!("=?utf-8?Q?{local}=40{domain}?="));
    all.push(format!("//{domain}/{local}?X-Amz-Signature=0"));
    all.push(format!("https://x.example/{local}"));
    all.push(format!("https://{local}:pw@{domain}/"));
    all.push(format!("https://{local}%40{domain}/"));
    all.push(format!("{domain}/{local}?X-Amz-Signature=0"));
    all.push(format!("{local}@bücher.example"));
    all
}

proptest! {
    #[test]
    fn a_secret_never_survives(
        before in "[a-z <>:;,.0-9]{0,20}",
        which in proptest::sample::select(spellings()),
        after in "[a-z <>:;,.0-9]{0,20}",
    ) {
        let shown = clean(&format!("{before} {which} {after}"));
        prop_assert!(!shown.contains("secretann"), "{which}: {shown}");
    }

    #[test]
    fn nor_does_one_that_is_encoded(local in "[a-z]{3,12}", before in "[a-z ]{0,20}") {
        let plain = format!("{local}@acme.example");
        let encoded = [
            Base64Unpadded::encode_string(plain.as_bytes()),
            Base64UrlUnpadded::encode_string(plain.as_bytes()),
            plain.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ];
        for encoded in encoded {
            let shown = clean(&format!("{before} {encoded} is none"));
            prop_assert!(!shown.contains(&encoded), "{shown}");
        }
    }

    #[test]
    fn words_are_bounded_and_printable(words in any::<String>(), long in "[a-z@./ ]{0,600}") {
        for words in [words, long] {
            let shown = clean(&words);
            prop_assert!(shown.len() <= 300);
            prop_assert!(shown.chars().all(crate::text::is_printable));
        }
    }

    #[test]
    fn a_token_never_survives(token in "[A-Za-z0-9+/=]{40,80}") {
        prop_assume!(token.contains(|c: char| !c.is_ascii_alphabetic()));
        let shown = clean(&format!("the token {token} ended"));
        prop_assert!(!shown.contains(&token), "{shown}");
    }
}
