//! Tests of `scope.rs`.

use hyper::Request;

use presign::sigv4::QUERY_PARAMETERS;

use super::*;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const CREDENTIAL: &str = "AKIDONE/20261123/eu-west-1/s3/aws4_request";
const SIGNATURE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn sites() -> Sites {
    Sites::new(vec![Site {
        access_key_id: "AKIDONE".to_owned(),
        secret_access_key: "secret".to_owned(),
        region: "eu-west-1".to_owned(),
        directory: "/srv".into(),
    }])
    .unwrap()
}

/// Half a minute after the requests of these tests were signed.
fn now() -> Timestamp {
    "2026-11-23T12:00:30Z".parse().unwrap()
}

fn verdict(query: &str, headers: &[(&str, &str)]) -> String {
    let mut request = Request::get(format!("/bucket/key?{query}")).header("host", "127.0.0.1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match sites().admit(&request.body(()).unwrap().into_parts().0, now()) {
        Ok(()) => "admitted".to_owned(),
        Err(rejection) => rejection.code.as_str().to_owned(),
    }
}

fn presigned(changes: &[(&str, &str)]) -> String {
    let mut parameters = vec![
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", CREDENTIAL),
        ("X-Amz-Date", "20261123T120000Z"),
        ("X-Amz-Expires", "60"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Signature", SIGNATURE),
    ];
    parameters.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    parameters.extend(changes);
    parameters
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

#[test]
fn a_presigned_request_is_admitted_if_each_parameter_is_right() {
    assert_eq!(verdict(&presigned(&[]), &[]), "admitted");
    assert_eq!(
        verdict(&presigned(&[]).replace("Amz-Ex", "%41mz%2dEx"), &[]),
        "admitted"
    );
    let refused = "AuthorizationQueryParametersError";
    for (name, value, expected) in [
        ("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256", refused),
        ("X-Amz-Expires", "604800", "admitted"),
        ("X-Amz-Expires", "604801", refused),
        ("X-Amz-Expires", "0", refused),
        ("X-Amz-Expires", "29", "AccessDenied"),
        ("X-Amz-Expires", "30", "admitted"),
        ("X-Amz-Expires", "-3", refused),
        ("X-Amz-Expires", "%2B60", refused),
        ("X-Amz-Date", "20261123T12000:Z", refused),
        ("X-Amz-Date", "20261123", refused),
        ("X-Amz-Date", "20261341T120000Z", refused),
        ("X-Amz-Security-Token", "x", "InvalidToken"),
        ("X-Amz-Signature", "", refused),
        (
            "X-Amz-Credential",
            "AKIDONE/2026112x/eu-west-1/s3/aws4_request",
            refused,
        ),
        (
            "X-Amz-Credential",
            "AKIDONE/20261123/us-east-1/s3/aws4_request",
            refused,
        ),
        (
            "X-Amz-Credential",
            "AKIDONE/20261123/eu-west-1/sts/aws4_request",
            refused,
        ),
        (
            "X-Amz-Credential",
            "AKIDONE/20261123/eu-west-1/s3/aws4_request/",
            refused,
        ),
        (
            "X-Amz-Credential",
            "AKIDTWO/20261123/eu-west-1/s3/aws4_request",
            "InvalidAccessKeyId",
        ),
        ("X-Amz-SignedHeaders", "range", "AccessDenied"),
        ("X-Amz-SignedHeaders", "hosts;range", "AccessDenied"),
        ("Signature", "x", "InvalidRequest"),
        ("x", "%ff", "InvalidURI"),
    ] {
        assert_eq!(
            verdict(&presigned(&[(name, value)]), &[]),
            expected,
            "{name}={value}"
        );
    }
    let twice = presigned(&[("X-Amz-Expires", "60"), ("X-Amz-Expires", "604800")]);
    assert_eq!(verdict(&twice, &[]), refused);
}

#[test]
fn a_header_that_s3_acts_upon_must_be_signed() {
    let copy = ("x-amz-copy-source", "bucket/other");
    assert_eq!(verdict(&presigned(&[]), &[copy]), "AccessDenied");
    let signed = presigned(&[("X-Amz-SignedHeaders", "host%3Bx-amz-copy-source")]);
    assert_eq!(verdict(&signed, &[copy]), "admitted");
    assert_eq!(
        verdict(
            &presigned(&[]),
            &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]
        ),
        "admitted"
    );
}

#[test]
fn a_header_signed_request_is_admitted_if_each_field_is_right() {
    let date = ("x-amz-date", "20261123T120000Z");
    let refused = "AuthorizationHeaderMalformed";
    let right = format!(
        "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
    );
    for (authorization, expected) in [
        (right.clone(), "admitted"),
        (right.replace("eu-west-1", "us-east-1"), refused),
        (right.replace("SignedHeaders", "Signed"), refused),
        (
            right.replace(ALGORITHM, "AWS2-HMAC-SHA1"),
            "InvalidArgument",
        ),
        ("invalid".to_owned(), "InvalidArgument"),
        (right.replace(";x-amz-date", ""), "AccessDenied"),
        (right.replace("AKIDONE", "AKIDTWO"), "InvalidAccessKeyId"),
        ("AWS AKIDONE:signature".to_owned(), "InvalidRequest"),
        ("Basic QUtJRE9ORTpzZWNyZXQ=".to_owned(), "InvalidArgument"),
    ] {
        assert_eq!(
            verdict("", &[date, ("authorization", &authorization)]),
            expected,
            "{authorization}"
        );
    }
    for date in ["20261123T120030Z", "20261123T121530Z", "20261123T114530Z"] {
        let headers = [("x-amz-date", date), ("authorization", right.as_str())];
        assert_eq!(verdict("", &headers), "admitted", "{date}");
    }
    for date in ["20261123T121531Z", "20261123T114529Z"] {
        let headers = [("x-amz-date", date), ("authorization", right.as_str())];
        assert_eq!(verdict("", &headers), "RequestTimeTooSkewed", "{date}");
    }
    assert_eq!(verdict("", &[("authorization", &right)]), "AccessDenied");
    for (header, value, expected) in [
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD", "admitted"),
        ("x-amz-content-sha256", "invalid", "InvalidArgument"),
        ("x-amz-security-token", "x", "InvalidToken"),
    ] {
        let headers = [date, ("authorization", &right), (header, value)];
        assert_eq!(verdict("", &headers), expected, "{value}");
    }
    assert_eq!(
        verdict(
            "",
            &[date, ("authorization", &right), ("authorization", &right)]
        ),
        "InvalidRequest"
    );
    assert_eq!(
        verdict(&presigned(&[]), &[date, ("authorization", &right)]),
        "InvalidArgument"
    );
    assert_eq!(verdict("", &[]), "AccessDenied");
}

#[test]
fn an_authorization_header_has_one_form() {
    let date = ("x-amz-date", "20261123T120000Z");
    let right = format!(
        "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
    );
    let verdict_of = |text: &str| verdict("", &[date, ("authorization", text)]);
    assert_eq!(verdict_of(&right), "admitted");
    assert_eq!(
        verdict_of(&right.replace(", ", ",")),
        "admitted",
        "as in the documentation of S3"
    );
    let twice = |field: &str| right.replace(field, &format!("{field}{field}"));
    for odd in [
        right.replace(", ", ",  "),
        right.replace(", ", ",\t"),
        right.replace(", ", " ,"),
        right.replace(", ", ",,"),
        right.replace(", ", "; "),
        right.replace(ALGORITHM, "aws4-hmac-sha256"),
        right.replace(ALGORITHM, "AWS4-HMAC-SHA256-X"),
        right.replace("SHA256 ", "SHA256  "),
        right.replace("SHA256 ", "SHA256\t"),
        right.replace("SHA256 ", "SHA256,"),
        right.replace("Credential", "credential"),
        right.replace("SignedHeaders=", "signedheaders="),
        right.replace("Signature=", "signature="),
        right.replace("=AKID", "= AKID"),
        right.replace("=AKID", " =AKID"),
        right.replace("aws4_request", "aws4_request "),
        right.replace(CREDENTIAL, &CREDENTIAL.replace("20261123", "20261122")),
        format!("{right},"),
        format!("{right} "),
        format!("{right}, X=1"),
        format!("{right}, Signature={SIGNATURE}"),
        right.replace(SIGNATURE, ""),
        right.replace(SIGNATURE, &SIGNATURE.to_uppercase()),
        right.replace(SIGNATURE, &SIGNATURE[1..]),
        twice("SignedHeaders=host;x-amz-date, "),
        right.replace(
            "SignedHeaders=",
            "SignedHeaders=host;x-amz-date, SignedHeaders=",
        ),
        right.replace("Credential=", "SignedHeaders=host, Credential="),
        format!(
            "{ALGORITHM} SignedHeaders=host;x-amz-date, Credential={CREDENTIAL}, Signature={SIGNATURE}"
        ),
        format!("{ALGORITHM} Credential={CREDENTIAL}, Signature={SIGNATURE}"),
        right.replace("host;x-amz-date", ""),
        right.replace("host;x-amz-date", "x-amz-date;host"),
        right.replace("host;x-amz-date", "host;host;x-amz-date"),
        right.replace("host;x-amz-date", "host;x-amz-date;x-amz-date"),
        right.replace("host;x-amz-date", ";host;x-amz-date"),
        right.replace("host;x-amz-date", "host;;x-amz-date"),
        right.replace("host;x-amz-date", "host;x-amz-date;"),
        right.replace("host;x-amz-date", "Host;x-amz-date"),
        right.replace("host;x-amz-date", "host; x-amz-date"),
        right.replace("host;x-amz-date", "host,x-amz-date"),
        right.replace("host;x-amz-date", "host;x-absent;x-amz-date"),
    ] {
        assert_ne!(verdict_of(&odd), "admitted", "{odd}");
    }
}

#[test]
fn a_signature_is_in_one_place_and_each_header_is_there_once() {
    let date = ("x-amz-date", "20261123T120000Z");
    let right = format!(
        "{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
    );
    let authorization = ("authorization", right.as_str());
    for parameter in QUERY_PARAMETERS {
        for name in [parameter.to_owned(), parameter.to_lowercase()] {
            let query = format!("{name}=x");
            assert_eq!(
                verdict(&query, &[date, authorization]),
                "InvalidArgument",
                "{name}"
            );
            assert_ne!(
                verdict(&format!("{}&{query}", presigned(&[])), &[]),
                "admitted",
                "{name}"
            );
        }
    }
    for twice in [
        date,
        ("host", "other"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ] {
        assert_ne!(
            verdict("", &[date, authorization, twice, twice]),
            "admitted",
            "{}",
            twice.0
        );
    }
    for (name, value) in [
        ("X-Amz-Signature", "00"),
        ("X-Amz-SignedHeaders", "host;host"),
        ("X-Amz-SignedHeaders", "Host"),
        ("X-Amz-SignedHeaders", "host,range"),
        ("X-Amz-SignedHeaders", "host%20"),
        ("X-Amz-SignedHeaders", "range;host"),
        ("X-Amz-SignedHeaders", "host;range"),
        (
            "X-Amz-Credential",
            "AKIDONE/20261122/eu-west-1/s3/aws4_request",
        ),
    ] {
        assert_ne!(
            verdict(&presigned(&[(name, value)]), &[]),
            "admitted",
            "{name}={value}"
        );
    }
}

#[test]
fn a_form_is_not_read_for_another_signature() {
    for form in [
        "multipart/form-data; boundary=x",
        " Multipart/Form-Data;boundary=x",
    ] {
        let request = Request::post(format!("/bucket?{}", presigned(&[])))
            .header("host", "127.0.0.1")
            .header("content-type", form);
        let head = request.body(()).unwrap().into_parts().0;
        assert!(sites().admit(&head, now()).is_err(), "{form}");
    }
}
