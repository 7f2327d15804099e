//! The scope of a distribution in front of a bucket: the objects that its links can open.

use crate::job::Bucket;
use presign::cloudfront::CloudFrontError;

/// What a distribution can open, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginScope {
    /// The bucket behind it; `None` for every bucket that the rules allow the connection.
    pub bucket: Option<Bucket>,
    /// The origin path that CloudFront puts before the path of a URL: empty, or `site/`. Keys without it cannot be opened.
    pub origin_path: String,
    /// Whether links ask for a name and a type.
    pub overrides: ResponseOverrides,
}

impl OriginScope {
    /// Whether it can open everything in `bucket` whose key begins with `start`.
    pub fn covers(&self, bucket: &Bucket, start: &str) -> bool {
        self.bucket.as_ref().is_none_or(|behind| behind == bucket)
            && start.starts_with(&self.origin_path)
    }

    /// The path of a URL for a key, without its first slash.
    pub(crate) fn path<'a>(&self, key: &'a str) -> Result<&'a str, CloudFrontError> {
        key.strip_prefix(&self.origin_path)
            .ok_or_else(|| CloudFrontError::Unreached {
                key: key.to_owned(),
                origin_path: self.origin_path.clone(),
            })
    }
}

/// Whether links ask for a name and a type of their own, which the distribution must forward to S3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseOverrides {
    /// They do.
    #[default]
    Forwarded,
    /// They do not: files have the name and type that S3 stores, and files that could run scripts are not linked.
    Omitted,
}
