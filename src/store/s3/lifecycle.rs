//! The deletions by a bucket's lifecycle, as far as its configuration may be read.

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, LifecycleRuleFilter};
use jiff::Timestamp;

use super::S3Store;
use crate::edge::EdgeError;
use crate::job::Bucket;
use crate::store::StoreError;

/// A rule by which objects are deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The rule's id; empty when it has none.
    pub rule: String,
    /// The prefix of its objects' keys.
    pub prefix: String,
    /// When they are deleted.
    pub when: Deleted,
    /// Whether only some of them are deleted: those of a size, or with a tag.
    pub is_partial: bool,
}

/// When a lifecycle rule deletes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// A number of days after it was created.
    AfterDays(u32),
    /// From an instant on.
    From(Timestamp),
}

impl S3Store {
    /// The rules by which a bucket deletes the current versions of its objects.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLifecycleConfiguration.html>
    ///
    /// # Errors
    /// The store's error, also if there are no rules, or if they may not be read.
    pub async fn deletions(&self, bucket: &Bucket) -> Result<Vec<Deletion>, StoreError> {
        let request = self.client(bucket).await?;
        let request = request.get_bucket_lifecycle_configuration();
        let answer = request.bucket(bucket.as_str()).send().await;
        let answer = answer.map_err(|error| {
            EdgeError::from_sdk(format!("read the lifecycle of s3://{bucket}"), &error)
        })?;
        Ok(answer.rules().iter().filter_map(deletion).collect())
    }
}

fn deletion(rule: &LifecycleRule) -> Option<Deletion> {
    if *rule.status() != ExpirationStatus::Enabled {
        return None;
    }
    let expiration = rule.expiration()?;
    let days = expiration.days().and_then(|days| u32::try_from(days).ok());
    let date = expiration.date();
    let date = date.and_then(|date| Timestamp::from_second(date.secs()).ok());
    let when = days.map(Deleted::AfterDays).or(date.map(Deleted::From))?;
    let (prefix, is_partial) = match rule.filter() {
        Some(filter) => extent(filter),
        None => (plain_prefix(rule), false),
    };
    Some(Deletion {
        rule: rule.id().unwrap_or_default().to_owned(),
        prefix: prefix.unwrap_or_default().to_owned(),
        when,
        is_partial,
    })
}

/// The prefix outside the filter, as in rules from before filters existed.
#[expect(deprecated, reason = "buckets of that time have such rules")]
fn plain_prefix(rule: &LifecycleRule) -> Option<&str> {
    rule.prefix()
}

/// The prefix of a filter, and whether it has further conditions.
fn extent(filter: &LifecycleRuleFilter) -> (Option<&str>, bool) {
    let (prefix, tag, sizes) = match filter.and() {
        Some(and) => (
            and.prefix(),
            !and.tags().is_empty(),
            [and.object_size_greater_than(), and.object_size_less_than()],
        ),
        None => (
            filter.prefix(),
            filter.tag().is_some(),
            [
                filter.object_size_greater_than(),
                filter.object_size_less_than(),
            ],
        ),
    };
    (prefix, tag || sizes.iter().any(Option::is_some))
}
