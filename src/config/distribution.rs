//! `[connections.NAME.cloudfront]`: which objects its links can open.

use super::CloudFrontConfig;
use crate::config_error::ConfigError;
use crate::job::place::NameError;
use crate::plan::{OriginScope, ResponseOverrides};
use presign::cloudfront::{CloudFrontError, CloudFrontSigner, DistributionDomain};

/// Which objects the links of a distribution can open. Validates everything except the key.
pub(crate) fn origin_scope(
    connection: &str,
    wanted: &CloudFrontConfig,
) -> Result<OriginScope, ConfigError> {
    let wrong = |field: &str, reason: String| {
        ConfigError::value(
            format!("connections.{connection}.cloudfront.{field}"),
            reason,
        )
    };
    DistributionDomain::new(&wanted.domain).map_err(|error| wrong("domain", said(&error)))?;
    CloudFrontSigner::check_key_pair_id(&wanted.key_pair_id)
        .map_err(|error| wrong("key_pair_id", said(&error)))?;
    let bucket = wanted.bucket.as_deref().map(str::parse).transpose();
    let bucket = bucket.map_err(|error: NameError| wrong("bucket", error.to_string()))?;
    let origin_path = match wanted.origin_path.as_deref().unwrap_or_default() {
        "" | "/" => String::new(),
        path => {
            let folder = path.strip_prefix('/').unwrap_or(path);
            let folder = folder.strip_suffix('/').unwrap_or(folder);
            let is_segment = |segment| !matches!(segment, "" | "." | "..");
            if !folder.split('/').all(is_segment) {
                let reason = format!(
                    "is {path:?}: write the folder as in the distribution, such as \"/site\""
                );
                return Err(wrong("origin_path", reason));
            }
            format!("{folder}/")
        }
    };
    Ok(OriginScope {
        bucket,
        origin_path,
        overrides: match wanted.response_overrides {
            true => ResponseOverrides::Forwarded,
            false => ResponseOverrides::Omitted,
        },
    })
}

pub(crate) fn said(error: &CloudFrontError) -> String {
    format!("cannot be used: {error}")
}
