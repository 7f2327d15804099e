//! The tags of objects: `GetObjectTagging`, `PutObjectTagging` and `DeleteObjectTagging`.
//!
//! Tags are kept in the description of a version, so that a new upload has none. The tag `handout-revoked=true` has a meaning: the
//! endpoint answers 403 to each GET and HEAD of the object, see [`Description::is_revoked`](crate::description::Description).

use std::collections::BTreeMap;

use hyper::StatusCode;
use s3s::dto::Tag;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// The limits of S3: tags of an object, and characters of a name and of a value.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>
const MAX_TAGS: usize = 10;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 256;

pub(crate) fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

/// Rejects versions: the only one is "null".
pub(crate) fn only_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(
            NoSuchVersion,
            "The specified version does not exist."
        )),
    }
}

/// The tags of a request.
pub(crate) fn of_set(set: &[Tag]) -> S3Result<BTreeMap<String, String>> {
    if set.len() > MAX_TAGS {
        let code = S3ErrorCode::Custom("BadRequest".into());
        let mut error = S3Error::with_message(code, "Object tags cannot be greater than 10");
        error.set_status_code(StatusCode::BAD_REQUEST);
        return Err(error);
    }
    let mut tags = BTreeMap::new();
    for tag in set {
        let name = tag.key.clone().unwrap_or_default();
        let value = tag.value.clone().unwrap_or_default();
        if !(1..=MAX_NAME).contains(&name.chars().count()) {
            return Err(s3_error!(
                InvalidTag,
                "The TagKey you have provided is invalid"
            ));
        }
        if value.chars().count() > MAX_VALUE {
            return Err(s3_error!(
                InvalidTag,
                "The TagValue you have provided is invalid"
            ));
        }
        if tags.insert(name, value).is_some() {
            return Err(s3_error!(
                InvalidTag,
                "Cannot provide multiple Tags with the same key"
            ));
        }
    }
    Ok(tags)
}

/// The tags of an answer, in the order of their names.
pub(crate) fn to_set(tags: BTreeMap<String, String>) -> Vec<Tag> {
    let tag = |(key, value)| Tag {
        key: Some(key),
        value: Some(value),
    };
    tags.into_iter().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        }
    }

    #[test]
    fn tags_come_back_sorted_and_those_that_s3_refuses_are_refused() {
        let tags = of_set(&[tag("b", ""), tag("a", "1")]).unwrap();
        assert_eq!(to_set(tags), [tag("a", "1"), tag("b", "")]);
        let many: Vec<Tag> = (0..11).map(|n| tag(&n.to_string(), "")).collect();
        let long = "x".repeat(257);
        for refused in [
            &many[..],
            &[tag("", "x")],
            &[tag("a", &long)],
            &[tag("a", "1"), tag("a", "2")],
        ] {
            assert!(of_set(refused).is_err(), "{refused:?}");
        }
        assert!(only_version(Some("null")).is_ok() && only_version(Some("1")).is_err());
    }
}
