//! Tests of `store/s3/page.rs`.

use super::*;
use aws_sdk_s3::primitives;
use aws_sdk_s3::types::{EncodingType, Object};
use aws_smithy_runtime_api::http::StatusCode;
use proptest::prelude::*;

/// The same answer as the SDK reads it.
fn oracle(xml: &str) -> Option<ListObjectsV2Output> {
    let status = StatusCode::try_from(200).unwrap();
    let response = HttpResponse::new(status, xml.to_owned().into());
    let read = as_the_sdk_reads_it(&response, &ConfigBag::base()).ok()?;
    read.downcast().ok()
}

fn their_meta(object: &Object, is_encoded: bool) -> Result<ObjectMeta, String> {
    let modified = object
        .last_modified
        .as_ref()
        .map_or(0, primitives::DateTime::secs);
    Ok(ObjectMeta {
        key: listed_key(object.key.as_deref(), is_encoded)?,
        size_bytes: object
            .size
            .and_then(|size| size.try_into().ok())
            .unwrap_or(0),
        etag: plain_etag(object.e_tag.as_deref()),
        version: None,
        modified: Timestamp::from_second(modified).unwrap(),
        storage: storage(object.storage_class.as_ref().map(|class| class.as_str())),
        stored: None,
    })
}

fn agree(xml: &str) {
    let (ours, theirs) = match (read(xml.as_bytes()), oracle(xml)) {
        (Ok(ours), Some(theirs)) => (ours.unwrap(), theirs),
        (Err(_), None) => return,
        (ours, theirs) => panic!("{xml}: {ours:?}, and the SDK says {theirs:?}"),
    };
    let is_encoded = theirs.encoding_type == Some(EncodingType::Url);
    let objects: Result<Vec<_>, _> = theirs
        .contents()
        .iter()
        .map(|object| their_meta(object, is_encoded))
        .collect();
    let is_truncated = theirs.is_truncated == Some(true);
    if is_truncated
        && theirs
            .next_continuation_token
            .as_deref()
            .unwrap_or("")
            .is_empty()
    {
        assert_eq!(ours.unwrap_err(), MORE_NOWHERE, "{xml}");
        return;
    }
    match (ours, objects) {
        (Ok(page), Ok(objects)) => {
            assert_eq!(page.objects, objects);
            let token = theirs.next_continuation_token;
            let token = token.filter(|_| is_truncated);
            assert_eq!(page.continuation_token, token);
        }
        (ours, objects) => assert_eq!(ours.err(), objects.err()),
    }
}

fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

fn answer(key: &str, etag: &str, encoding: &str) -> String {
    let (key, etag) = (escaped(key), escaped(etag));
    format!(
        "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix/>\
         <IsTruncated>true</IsTruncated><NextContinuationToken>1/a&amp;b==</NextContinuationToken>\
         <Contents><Key>{key}</Key><LastModified>2026-11-23T05:12:09.123Z</LastModified><ETag>{etag}</ETag><Size>7</Size>\
         <Owner><ID>i</ID><DisplayName>Key</DisplayName></Owner><StorageClass>GLACIER</StorageClass>\
         <RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus></Contents>\
         <Contents><Key>z</Key><Size>0</Size></Contents>\
         <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>{encoding}</ListBucketResult>"
    )
}

const ENCODED: &str = "<EncodingType>url</EncodingType>";

proptest! {
    #[test]
    fn it_reads_what_the_sdk_reads(key in "\\PC{1,40}", etag in "\\PC{0,40}", encoded in any::<bool>()) {
        agree(&answer(&key, &etag, if encoded { ENCODED } else { "" }));
    }

    #[test]
    fn no_answer_makes_it_panic(xml in ".{0,200}") {
        drop(read(xml.as_bytes()));
        drop(read(answer("k", "e", &xml).as_bytes()));
    }
}

#[test]
fn odd_answers_are_read_as_the_sdk_reads_them() {
    for key in [
        "a+b%2B%F0%9F%8E%89.png",
        " a b ",
        "a&b<c>\"d'",
        "%0A%07",
        "//x",
        "",
    ] {
        for encoding in ["", ENCODED, "<EncodingType/>"] {
            agree(&answer(key, "\"d41d8\"", encoding));
        }
    }
    for contents in [
        "",
        "<Contents></Contents>",
        "<Contents><Key>a&#x26;&#38;b</Key></Contents>",
    ] {
        agree(&format!("<ListBucketResult>{contents}</ListBucketResult>"));
    }
}

#[test]
fn more_without_a_way_to_it_is_an_error_and_not_the_end() {
    for (end, is_page) in [
        ("", true),
        ("<IsTruncated>false</IsTruncated>", true),
        (
            "<IsTruncated>false</IsTruncated><NextContinuationToken/>",
            true,
        ),
        ("<IsTruncated>true</IsTruncated>", false),
        (
            "<IsTruncated>true</IsTruncated><NextContinuationToken/>",
            false,
        ),
        (
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            true,
        ),
    ] {
        let xml =
            format!("<ListBucketResult><Contents><Key>a</Key></Contents>{end}</ListBucketResult>");
        agree(&xml);
        let page = read(xml.as_bytes()).unwrap().unwrap();
        assert_eq!(page.is_ok(), is_page, "{xml}");
    }
}

#[test]
fn a_size_or_a_time_that_is_none_is_an_error() {
    for (field, is_read) in [
        ("<Size>12</Size>", true),
        ("<Size>12 KB</Size>", false),
        ("<Size/>", false),
        (
            "<LastModified>2026-11-23T05:12:09.123Z</LastModified>",
            true,
        ),
        ("<LastModified>2026-11-23T05:12:09Z</LastModified>", true),
        ("<LastModified>yesterday</LastModified>", false),
        ("<LastModified/>", false),
    ] {
        let xml = format!(
            "<ListBucketResult><Contents><Key>a</Key>{field}</Contents></ListBucketResult>"
        );
        agree(&xml);
        assert_eq!(read(xml.as_bytes()).is_ok(), is_read, "{xml}");
    }
    for odd in [
        "<IsTruncated>perhaps</IsTruncated>",
        "<Contents><Key>a</Key><Size>-1</Size></Contents>",
    ] {
        let xml = format!("<ListBucketResult>{odd}</ListBucketResult>");
        assert!(read(xml.as_bytes()).is_err(), "{xml}");
    }
}

#[test]
fn a_text_in_cdata_is_a_text_though_the_sdk_does_not_see_it() {
    let xml =
        "<ListBucketResult><Contents><Key><![CDATA[a<b]]></Key></Contents></ListBucketResult>";
    let page = read(xml.as_bytes()).unwrap().unwrap().unwrap();
    assert_eq!(page.objects[0].key.as_str(), "a<b");
}

#[test]
fn what_is_torn_or_something_else_is_no_page() {
    let whole = answer("k", "e", ENCODED);
    for end in (0..whole.len()).step_by(7) {
        assert!(read(&whole.as_bytes()[..end]).is_err(), "{end}");
    }
    let error = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>";
    assert!(read(error.as_bytes()).unwrap().is_none());
    assert!(read(b"<ListBucketResult>&x;</ListBucketResult>").is_err());
}
