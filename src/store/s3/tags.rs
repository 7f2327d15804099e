//! The tag by which all links to an object are revoked, where the bucket denies objects that have it.

use aws_sdk_s3::types::{Tag, Tagging};

use super::S3Store;
use crate::edge::{EdgeError, ErrorKind, http};
use crate::job::Bucket;
use crate::store::StoreError;

/// The name and the value of the tag.
pub const REVOKED_TAG: (&str, &str) = ("handout-revoked", "true");

/// How many tags an object can have. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>
const MAX_TAGS: usize = 10;

impl S3Store {
    /// Adds the tag to an object, or removes it; other tags stay. Returns whether the tags were changed. Between the two requests,
    /// a tag that another program adds is lost: S3 has no condition for tags.
    ///
    /// # Errors
    /// The store does not answer or refuses, or the object has as many tags as it can have.
    pub async fn mark_revoked(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        is_revoked: bool,
    ) -> Result<bool, StoreError> {
        let (name, value) = REVOKED_TAG;
        let action = || format!("tag s3://{bucket}/{key}");
        let client = self.client(bucket).await?;
        let tags = client
            .get_object_tagging()
            .bucket(bucket.as_str())
            .key(key)
            .set_version_id(version.map(ToOwned::to_owned))
            .customize()
            .interceptor(http::RequestTerms::naming_a_key())
            .send()
            .await
            .map_err(|error| EdgeError::from_sdk(action(), &error))?
            .tag_set;
        let has_it = tags
            .iter()
            .any(|tag| tag.key() == name && tag.value() == value);
        if has_it == is_revoked {
            return Ok(false);
        }
        let mut kept: Vec<Tag> = tags.into_iter().filter(|tag| tag.key() != name).collect();
        if is_revoked {
            if kept.len() >= MAX_TAGS {
                let reason = format!(
                    "it has {MAX_TAGS} tags, and S3 takes no more: remove a tag of the object"
                );
                return Err(EdgeError::new(action(), ErrorKind::Rejected, reason));
            }
            kept.push(tag(name, value, &action)?);
        }
        let tagging = Tagging::builder().set_tag_set(Some(kept)).build();
        let tagging = tagging
            .map_err(|error| EdgeError::new(action(), ErrorKind::Rejected, error.to_string()))?;
        client
            .put_object_tagging()
            .bucket(bucket.as_str())
            .key(key)
            .set_version_id(version.map(ToOwned::to_owned))
            .tagging(tagging)
            .customize()
            .interceptor(http::RequestTerms::naming_a_key())
            .send()
            .await
            .map_err(|error| EdgeError::from_sdk(action(), &error))?;
        Ok(true)
    }
}

fn tag(name: &str, value: &str, action: &dyn Fn() -> String) -> Result<Tag, StoreError> {
    let tag = Tag::builder().key(name).value(value).build();
    tag.map_err(|error| EdgeError::new(action(), ErrorKind::Rejected, error.to_string()))
}
