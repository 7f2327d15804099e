//! Derives bucket and key from a host and a path.

use serde::Serialize;

use super::providers::{BucketIn, bucket_in};
use super::query::Parts;
use crate::endpoint::{Addressing, ServerUrl};
use crate::partition::{before_suffix, is_region};
use crate::percent::decode_lossy;

/// How the URL names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UrlStyle {
    /// `bucket.s3.region.amazonaws.com/key`.
    VirtualHost,
    /// `s3.region.amazonaws.com/bucket/key`.
    Path,
    /// `bucket.s3-website-region.amazonaws.com/key`: the website endpoint, which does not support signatures.
    Website,
    /// `name-account.s3-accesspoint.region.amazonaws.com/key`.
    AccessPoint,
    /// `alias.mrap.accesspoint.s3-global.amazonaws.com/key`.
    MultiRegionAccessPoint,
    /// `name-account.s3-object-lambda.region.amazonaws.com/key`.
    ObjectLambda,
    /// Not a host of AWS: the first path segment is read as the bucket.
    CustomEndpoint,
    /// Not a host of AWS: the host is read as naming the bucket.
    CustomVirtualHost,
    /// A server that is listed in [`KnownServer`]s.
    Configured,
    /// A distribution: its origin cannot be derived from the URL.
    CloudFront,
}

impl UrlStyle {
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::VirtualHost => "virtual-host style",
            Self::Path => "path style",
            Self::Website => "website endpoint",
            Self::AccessPoint => "access point",
            Self::MultiRegionAccessPoint => "multi-region access point",
            Self::ObjectLambda => "object lambda access point",
            Self::CustomEndpoint => "not a host of AWS, read as path style",
            Self::CustomVirtualHost => "not a host of AWS, read as virtual-host style",
            Self::Configured => "a server of the configuration",
            Self::CloudFront => "a distribution",
        }
    }
}

/// The location that a link opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UrlLocation {
    /// The host, with a port if there is one.
    pub host: String,
    /// How the URL names the bucket.
    pub style: UrlStyle,
    /// The bucket or the access point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key; for a distribution, the path without its leading slash.
    pub key: String,
    /// The region that the host names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The connection whose links use this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// What the URL opens if its server names buckets in the other way; only where the URL does not show which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<BucketAndKey>,
}

/// A bucket and a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketAndKey {
    /// The bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key.
    pub key: String,
}

/// A server that a connection's links name, with facts that a URL does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// The name of the connection.
    pub connection: String,
    /// The URL of the server.
    pub url: ServerUrl,
    /// How its URLs name buckets.
    pub addressing: Addressing,
}

impl KnownServer {
    /// The bucket and the encoded key of a URL on this server; `None` for a URL on another server.
    fn read<'a>(&self, host: &str, path: &'a str) -> Option<(Option<String>, &'a str)> {
        let below = path.strip_prefix(self.url.path())?.strip_prefix('/')?;
        if host == self.url.host() {
            return Some(in_path(below));
        }
        // A bucket whose name is not valid in a host name is always named in the path.
        let bucket = host.strip_suffix(self.url.host())?.strip_suffix('.')?;
        let is_in_host = self.addressing == Addressing::VirtualHost && !bucket.is_empty();
        is_in_host.then(|| (Some(bucket.to_owned()), below))
    }
}

/// The first path segment as the bucket, and the encoded key after it.
fn in_path(path: &str) -> (Option<String>, &str) {
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (Some(decode_lossy(bucket)).filter(|b| !b.is_empty()), key)
}

/// Reads the location of a link to a distribution.
pub(super) fn at_cloudfront(parts: &Parts<'_>) -> UrlLocation {
    UrlLocation {
        host: parts.authority.to_owned(),
        style: UrlStyle::CloudFront,
        bucket: None,
        key: decode_lossy(parts.path.strip_prefix('/').unwrap_or_default()),
        region: None,
        connection: None,
        otherwise: None,
    }
}

/// Reads the location of a URL to S3 or to a compatible server. Of servers with the same host, the longest matching path wins.
pub(super) fn at_s3(parts: &Parts<'_>, servers: &[KnownServer]) -> UrlLocation {
    let host = parts.host();
    let sent = parts.sent_host();
    let known = servers
        .iter()
        .filter_map(|server| Some((server, server.read(&sent, parts.path)?)))
        .max_by_key(|(server, _)| server.url.path().len());
    if let Some((server, (bucket, key))) = known {
        return UrlLocation {
            host: parts.authority.to_owned(),
            style: UrlStyle::Configured,
            bucket,
            key: decode_lossy(key),
            region: None,
            connection: Some(server.connection.clone()),
            otherwise: None,
        };
    }
    let path = parts.path.strip_prefix('/').unwrap_or_default();
    let Some((style, named_bucket, region)) = before_suffix(&host).and_then(aws_host) else {
        return elsewhere(parts, &host, path);
    };
    let (bucket, key) = match named_bucket {
        Some(bucket) => (Some(bucket), path),
        None => in_path(path),
    };
    UrlLocation {
        host: parts.authority.to_owned(),
        style,
        bucket,
        key: decode_lossy(key),
        region,
        connection: None,
        otherwise: None,
    }
}

/// Reads the location of a URL to a server that is neither AWS's nor configured.
fn elsewhere(parts: &Parts<'_>, host: &str, path: &str) -> UrlLocation {
    let read = |(bucket, key): (Option<String>, &str)| BucketAndKey {
        bucket,
        key: decode_lossy(key),
    };
    let by_path = read(in_path(path));
    let by_host = |bucket| read((Some(bucket), path));
    let (style, location, otherwise) = match bucket_in(host, path) {
        BucketIn::Path => (UrlStyle::CustomEndpoint, by_path, None),
        BucketIn::Host(bucket) => (UrlStyle::CustomVirtualHost, by_host(bucket), None),
        BucketIn::PathOrHost(bucket) => (UrlStyle::CustomEndpoint, by_path, Some(by_host(bucket))),
        BucketIn::HostOrPath(bucket) => {
            (UrlStyle::CustomVirtualHost, by_host(bucket), Some(by_path))
        }
    };
    UrlLocation {
        host: parts.authority.to_owned(),
        style,
        bucket: location.bucket,
        key: location.key,
        region: None,
        connection: None,
        otherwise,
    }
}

/// Style, bucket and region from the part of the host before the partition's suffix.
fn aws_host(host: &str) -> Option<(UrlStyle, Option<String>, Option<String>)> {
    let labels: Vec<&str> = host.split('.').collect();
    // The last match: labels of the bucket may contain "s3".
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
        _ if service.starts_with("s3-website") => UrlStyle::Website,
        _ if service.starts_with("s3-accesspoint") => UrlStyle::AccessPoint,
        _ if service.starts_with("s3-object-lambda") => UrlStyle::ObjectLambda,
        "s3-global" => UrlStyle::MultiRegionAccessPoint,
        _ if name.is_some() => UrlStyle::VirtualHost,
        _ => UrlStyle::Path,
    };
    let name = name.map(|name| match name.strip_suffix(".mrap.accesspoint") {
        Some(alias) if style == UrlStyle::MultiRegionAccessPoint => alias.to_owned(),
        _ => name,
    });
    Some((style, name, region.map(ToOwned::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_s3_are_read_as_s3_reads_them() {
        let location = |url: &str| {
            let location = at_s3(&Parts::of(url).unwrap(), &[]);
            let none = || "-".to_owned();
            let (bucket, region) = (
                location.bucket.unwrap_or_else(none),
                location.region.unwrap_or_else(none),
            );
            format!(
                "{bucket} | {} | {:?} | {region}",
                location.key, location.style
            )
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
        .map(location);
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

    #[test]
    fn a_bucket_is_found_on_servers_of_others_and_both_readings_are_named_where_it_is_unknown() {
        let table = [
            // Services, by their lists of endpoints.
            "https://acme-reports.s3.eu-central-1.wasabisys.com/2026/q3.pdf",
            "https://s3.eu-central-1.wasabisys.com/acme-reports/2026/q3.pdf",
            "https://s3.wasabisys.com/acme-reports/2026/q3.pdf",
            "https://my.bucket.s3.eu-central-003.backblazeb2.com/2026/q3.pdf",
            "https://acme-reports.0123456789abcdef.r2.cloudflarestorage.com/2026/q3.pdf",
            "https://acme-reports.0123456789abcdef.eu.r2.cloudflarestorage.com/2026/q3.pdf",
            "https://0123456789abcdef.eu.r2.cloudflarestorage.com/acme-reports/2026/q3.pdf",
            "https://acme-reports.fra1.digitaloceanspaces.com/2026/q3.pdf",
            "https://acme-reports.fra1.cdn.digitaloceanspaces.com/2026/q3.pdf",
            "https://fra1.digitaloceanspaces.com/acme-reports/2026/q3.pdf",
            "https://acme-reports.s3.fr-par.scw.cloud/2026/q3.pdf",
            "https://acme-reports.fsn1.your-objectstorage.com/2026/q3.pdf",
            "https://acme-reports.s3.gra.io.cloud.ovh.net/2026/q3.pdf",
            "https://acme-reports.storage.googleapis.com/2026/q3.pdf",
            "https://storage.googleapis.com/acme-reports/2026/q3.pdf",
            "https://acme-reports.s3.eu-de.cloud-object-storage.appdomain.cloud/2026/q3.pdf",
            "https://acme-reports.s3.oss-eu-central-1.aliyuncs.com/2026/q3.pdf",
            "https://ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com/acme-reports/2026/q3.pdf",
            // Self-hosted servers.
            "https://acme-reports.s3.acme.example:9000/2026/q3.pdf",
            "https://files.acme.example/acme-reports/2026/q3.pdf",
            "https://acme-reports.minio.acme.example/q3.pdf",
            "https://acme-reports.minio.acme.example/q%203/a.pdf",
            "https://s3.acme.example/acme-reports/2026/q3.pdf",
            "http://minio:9000/acme-reports/2026/q3.pdf",
            "http://192.0.2.1:9000/acme-reports/2026/q3.pdf",
            "http://[2001:db8::1]:9000/acme-reports/2026/q3.pdf",
        ]
        .map(|url| {
            let location = at_s3(&Parts::of(url).unwrap(), &[]);
            let (style, words) = (location.style, location.in_words());
            format!("{words} | {style:?}")
        });
        insta::assert_snapshot!(table.join("\n"), @r"
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://my.bucket/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf, or s3://2026/q3.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf, or s3://files/acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/q3.pdf | CustomVirtualHost
        s3://acme-reports/q 3/a.pdf | CustomVirtualHost
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        s3://acme-reports/2026/q3.pdf | CustomEndpoint
        ");
    }

    #[test]
    fn a_link_to_a_server_of_the_configuration_is_read_as_it_is_configured() {
        let server = |connection: &str, url: &str, path_style| KnownServer {
            connection: connection.to_owned(),
            url: ServerUrl::parse(url).unwrap(),
            addressing: Addressing::of(path_style),
        };
        let servers = [
            server("minio", "https://files.acme.example", true),
            server("supabase", "https://files.acme.example/storage/v1/s3", true),
            server("hosts", "https://s3.acme.example:443", false),
            server("inside", "http://minio:9000/s3", true),
        ];
        let location = |url: &str| {
            let location = at_s3(&Parts::of(url).unwrap(), &servers);
            let none = || "-".to_owned();
            let (bucket, connection) = (
                location.bucket.unwrap_or_else(none),
                location.connection.unwrap_or_else(none),
            );
            format!("{bucket} | {} | {connection}", location.key)
        };
        let table = [
            "https://Files.acme.example/reports/a%20b.pdf",
            "https://files.acme.example/storage/v1/s3/reports/2026/q3.pdf",
            "https://files.acme.example/storage/v2/q3.pdf",
            "https://reports.s3.acme.example/2026/q3.pdf",
            "https://s3.acme.example/my.reports/q3.pdf",
            "http://minio:9000/s3/reports/q3.pdf",
            "http://minio:9000/reports/q3.pdf",
            "https://other.example/reports/q3.pdf",
        ]
        .map(location);
        insta::assert_snapshot!(table.join("\n"), @r"
        reports | a b.pdf | minio
        reports | 2026/q3.pdf | supabase
        storage | v2/q3.pdf | minio
        reports | 2026/q3.pdf | hosts
        my.reports | q3.pdf | hosts
        reports | q3.pdf | inside
        reports | q3.pdf | -
        reports | q3.pdf | -
        ");
    }
}
