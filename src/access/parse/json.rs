//! Logs with an object a line: CloudFront's version 2, and S3's by way of CloudWatch.

use std::borrow::Cow;

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use super::{AccessLine, LogRequest, RequestSigning, cloudfront, of_links, s3, time};

/// The request of a line.
pub(super) fn read<'a>(line: &'a str, mark: &Finder<'_>) -> AccessLine<'a> {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
        return AccessLine::Malformed;
    };
    // An event of CloudWatch that has the record as its text.
    for name in ["message", "@message"] {
        match fields.get(name) {
            Some(Value::String(text)) if text.starts_with('{') => {
                return match serde_json::from_str(text) {
                    Ok(Value::Object(inner)) => of_fields(&inner, mark),
                    _ => AccessLine::Malformed,
                };
            }
            Some(Value::Object(inner)) => return of_fields(inner, mark),
            Some(Value::String(text)) => {
                return match of_links(s3::request(text), mark) {
                    AccessLine::Request(request) => AccessLine::Request(request.into_owned()),
                    AccessLine::Other => AccessLine::Other,
                    AccessLine::Malformed => AccessLine::Malformed,
                };
            }
            _ => {}
        }
    }
    of_fields(&fields, mark)
}

fn of_fields(fields: &Map<String, Value>, mark: &Finder<'_>) -> AccessLine<'static> {
    if fields.contains_key("eventVersion") || fields.contains_key("Records") {
        // An event of CloudTrail is no line of an access log; whole files of them are read elsewhere.
        return AccessLine::Other;
    }
    let is_cloudfront =
        fields.contains_key("x-edge-request-id") || fields.contains_key("cs-method");
    let request = match is_cloudfront {
        true => cloudfront::of_fields(|name| text_of(fields, &[name]).map(Cow::Owned)),
        false => of_s3(fields),
    };
    of_links(request, mark)
}

/// A value as text, by the first of its names that is there.
fn text_of(fields: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let value = names.iter().find_map(|name| fields.get(*name))?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// S3's record. The names are those of CloudWatch, and those of the text's fields where collectors use them.
fn of_s3(fields: &Map<String, Value>) -> Option<LogRequest<'static>> {
    let text = |names: &[&str]| text_of(fields, names).filter(|text| s3::known(text).is_some());
    let number = |names: &[&str]| text(names).and_then(|text| text.parse::<u64>().ok());
    let at = text(&["request_time", "time", "timestamp", "requestdatetime"])?;
    let at = at.trim_matches(['[', ']']);
    let at = time::of_iso(at).or_else(|| time::of_s3(at))?;
    let uri = text(&["request_uri", "requesturi"])?;
    // Without an answer the status is unknown.
    let of_status = ["http_status", "httpstatus", "status"];
    let status = match text_of(fields, &of_status).as_deref() {
        Some("-") => 0,
        _ => number(&of_status)?,
    };
    let operation = text(&["operation"])?;
    let signed = match text(&["authentication_type", "auth_type", "authtype"]).as_deref() {
        Some("QueryString") => RequestSigning::Query,
        Some("AuthHeader") => RequestSigning::NoLink,
        _ if text(&["requester"]).is_none() && (200..300).contains(&status) => {
            RequestSigning::NoLink
        }
        _ => RequestSigning::Unknown,
    };
    let owned = |text: Option<String>| Cow::<'static, str>::Owned(text.unwrap_or_default());
    Some(LogRequest {
        at,
        ids: (
            owned(text(&["request_id", "requestid"])),
            owned(text(&["host_id", "hostid"])),
        ),
        address: owned(text(&["remote_ip", "remoteip"])),
        asked: s3::asked(&operation),
        bucket: text(&["bucket_name", "bucket"]).map(Cow::Owned),
        key: owned(text(&["object_key", "key"])),
        query: Cow::Owned(s3::query_of(uri.trim_matches('"')).to_owned()),
        status: u16::try_from(status).ok()?,
        error: owned(text(&["error_code", "errorcode"])),
        bytes: number(&["bytes_sent", "bytessent"]).unwrap_or_default(),
        size: number(&["object_size", "objectsize"]),
        range: None,
        broke_off: false,
        user_agent: owned(text(&["user_agent", "useragent"])),
        signed,
    })
}
