//! From a host and a path to a bucket and a key.

use serde::Serialize;

use super::query::{Parts, decoded};
use crate::links::partition::{before_suffix, is_region};

/// How the bucket stands in the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// `bucket.s3.region.amazonaws.com/key`.
    VirtualHost,
    /// `s3.region.amazonaws.com/bucket/key`.
    Path,
    /// `bucket.s3-website-region.amazonaws.com/key`: S3 as a web server, which knows no signatures.
    Website,
    /// `name-account.s3-accesspoint.region.amazonaws.com/key`.
    AccessPoint,
    /// `alias.mrap.accesspoint.s3-global.amazonaws.com/key`.
    MultiRegionAccessPoint,
    /// `name-account.s3-object-lambda.region.amazonaws.com/key`.
    ObjectLambda,
    /// Not a host of AWS, so the first folder is taken for the bucket.
    CustomEndpoint,
    /// A distribution: the origin behind it cannot be seen.
    CloudFront,
}

impl Style {
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::VirtualHost => "virtual-host style",
            Self::Path => "path style",
            Self::Website => "website endpoint",
            Self::AccessPoint => "access point",
            Self::MultiRegionAccessPoint => "multi-region access point",
            Self::ObjectLambda => "object lambda access point",
            Self::CustomEndpoint => "not a host of AWS, read as path style",
            Self::CloudFront => "a distribution",
        }
    }
}

/// What a link opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The host, with a port if there is one.
    pub host: String,
    /// How the bucket stands in it.
    pub style: Style,
    /// The bucket, or the access point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key; for a distribution the path without its slash.
    pub key: String,
    /// The region that the host names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Reads the place of a link to a distribution.
pub(super) fn at_cloudfront(parts: &Parts<'_>) -> Place {
    Place {
        host: parts.authority.to_owned(),
        style: Style::CloudFront,
        bucket: None,
        key: decoded(parts.path.strip_prefix('/').unwrap_or_default()),
        region: None,
    }
}

/// Reads the place of a link to S3 or to a server like it.
pub(super) fn at_s3(parts: &Parts<'_>) -> Place {
    let host = parts.host();
    let aws = before_suffix(&host).and_then(aws_host);
    let (style, named_bucket, region) = aws.unwrap_or((Style::CustomEndpoint, None, None));
    let path = parts.path.strip_prefix('/').unwrap_or_default();
    let (bucket, key) = match named_bucket {
        Some(bucket) => (Some(bucket), path),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (Some(decoded(bucket)).filter(|b| !b.is_empty()), key)
        }
    };
    Place {
        host: parts.authority.to_owned(),
        style,
        bucket,
        key: decoded(key),
        region,
    }
}

/// Style, bucket and region of what stands before the partition's suffix.
fn aws_host(host: &str) -> Option<(Style, Option<String>, Option<String>)> {
    let labels: Vec<&str> = host.split('.').collect();
    // The last one: a bucket may have "s3" among its own labels.
    let at = labels.iter().rposition(|label| {
        *label == "s3" || label.starts_with("s3-") || label.starts_with("s3e")
    })?;
    let service = labels[at];
    let name = Some(labels[..at].join(".")).filter(|name| !name.is_empty());
    let after = labels[at + 1..].last().copied();
    let dashed = service
        .rsplit_once("s3-website-")
        .map_or_else(|| service.strip_prefix("s3-"), |(_, region)| Some(region))
        .filter(|text| is_region(text));
    let region = after.or(dashed).filter(|text| is_region(text));
    let style = match service {
        _ if service.starts_with("s3-website") => Style::Website,
        _ if service.starts_with("s3-accesspoint") => Style::AccessPoint,
        _ if service.starts_with("s3-object-lambda") => Style::ObjectLambda,
        "s3-global" => Style::MultiRegionAccessPoint,
        _ if name.is_some() => Style::VirtualHost,
        _ => Style::Path,
    };
    let name = name.map(|name| match name.strip_suffix(".mrap.accesspoint") {
        Some(alias) if style == Style::MultiRegionAccessPoint => alias.to_owned(),
        _ => name,
    });
    Some((style, name, region.map(ToOwned::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_s3_are_read_as_s3_reads_them() {
        let place = |url: &str| {
            let place = at_s3(&Parts::of(url).unwrap());
            let none = || "-".to_owned();
            let (bucket, region) = (
                place.bucket.unwrap_or_else(none),
                place.region.unwrap_or_else(none),
            );
            format!("{bucket} | {} | {:?} | {region}", place.key, place.style)
        };
        let table = [
            "https://b.s3.eu-west-1.amazonaws.com/a/b%20c",
            "https://my.s3.bucket.s3.eu-west-1.amazonaws.com/k",
            "https://s3.eu-west-1.amazonaws.com/b/k/l",
            "https://s3-eu-west-1.amazonaws.com/b/k",
            "https://b.s3.dualstack.us-gov-west-1.amazonaws.com/k",
            "https://b.s3-fips.us-east-1.amazonaws.com/k",
            "https://b.s3-accelerate.amazonaws.com/k",
            "https://b.s3.amazonaws.com/k",
            "https://b.s3.cn-north-1.amazonaws.com.cn/k",
            "https://b.s3-fips.dualstack.eusc-de-east-1.amazonaws.eu/k",
            "https://b.s3.us-isob-east-1.sc2s.sgov.gov/k",
            "http://b.s3-website-us-east-1.amazonaws.com/k",
            "http://b.s3-website.eu-central-1.amazonaws.com/k",
            "https://p-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/k",
            "https://m.mrap.accesspoint.s3-global.amazonaws.com/k",
            "https://l-123456789012.s3-object-lambda.eu-west-1.amazonaws.com/k",
            "https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/k",
            "http://127.0.0.1:9470/b/k",
            "https://minio.example:9000/b//k",
            "https://ec2.amazonaws.com/b/k",
            "https://s3.eu-west-1.amazonaws.com",
        ]
        .map(place);
        insta::assert_snapshot!(table.join("\n"), @r"
        b | a/b c | VirtualHost | eu-west-1
        my.s3.bucket | k | VirtualHost | eu-west-1
        b | k/l | Path | eu-west-1
        b | k | Path | eu-west-1
        b | k | VirtualHost | us-gov-west-1
        b | k | VirtualHost | us-east-1
        b | k | VirtualHost | -
        b | k | VirtualHost | -
        b | k | VirtualHost | cn-north-1
        b | k | VirtualHost | eusc-de-east-1
        b | k | VirtualHost | us-isob-east-1
        b | k | Website | us-east-1
        b | k | Website | eu-central-1
        p-123456789012 | k | AccessPoint | eu-west-1
        m | k | MultiRegionAccessPoint | -
        l-123456789012 | k | ObjectLambda | eu-west-1
        b--use1-az4--x-s3 | k | VirtualHost | us-east-1
        b | k | CustomEndpoint | -
        b | /k | CustomEndpoint | -
        b | k | CustomEndpoint | -
        - |  | Path | eu-west-1
        ");
    }
}
