//! The objects of S3's event notifications, by which `handout access read --follow` learns of new logs.

use serde_json::Value;

use crate::text::percent::decode_form;

/// The buckets and keys of the objects that a message is about: a notification of S3, the same by way of SNS, or an event of
/// `EventBridge`. Empty for S3's test message; `None` for any other text.
pub fn objects_in(message: &str) -> Option<Vec<(String, String)>> {
    let message: Value = serde_json::from_str(message).ok()?;
    if let Some(inner) = message["Message"].as_str() {
        return notified(&serde_json::from_str(inner).ok()?);
    }
    notified(&message)
}

fn notified(message: &Value) -> Option<Vec<(String, String)>> {
    if let Some(records) = message["Records"].as_array() {
        let object = |record: &Value| {
            let bucket = record["s3"]["bucket"]["name"].as_str()?;
            let key = record["s3"]["object"]["key"].as_str()?;
            Some((bucket.to_owned(), decode_form(key).into_owned()))
        };
        return Some(records.iter().filter_map(object).collect());
    }
    if message["Event"] == "s3:TestEvent" {
        return Some(Vec::new());
    }
    let detail = &message["detail"];
    let bucket = detail["bucket"]["name"].as_str()?;
    // EventBridge does not encode keys.
    Some(vec![(
        bucket.to_owned(),
        detail["object"]["key"].as_str()?.to_owned(),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_an_event_names_its_objects() {
        let record = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"acme-logs"},"object":{"key":"a+b%2B/2026-11-23-10-00-00-ABC"}}}]}"#;
        let expected = vec![(
            "acme-logs".to_owned(),
            "a b+/2026-11-23-10-00-00-ABC".to_owned(),
        )];
        assert_eq!(objects_in(record), Some(expected.clone()));
        let by_sns = serde_json::json!({ "Type": "Notification", "Message": record }).to_string();
        assert_eq!(objects_in(&by_sns), Some(expected));
        let bridge = r#"{"detail-type":"Object Created","detail":{"bucket":{"name":"b"},"object":{"key":"a+b%2B"}}}"#;
        assert_eq!(
            objects_in(bridge),
            Some(vec![("b".to_owned(), "a+b%2B".to_owned())])
        );
        assert_eq!(
            objects_in(r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#),
            Some(Vec::new())
        );
        for wrong in ["", "{}", "x", r#"{"Message":"x"}"#, r#"{"v":1,"id":"job"}"#] {
            assert_eq!(objects_in(wrong), None, "{wrong}");
        }
    }
}
