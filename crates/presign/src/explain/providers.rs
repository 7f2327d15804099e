//! Hosts of services that speak S3, and what names the bucket in a URL on another server.

use std::net::IpAddr;

/// The hosts of services, without a bucket. `*` is one label: a region, an account or a number.
///
/// A longer pattern stands before a shorter one that ends alike. The sources are the services' lists of endpoints:
/// <https://docs.wasabi.com/docs/what-are-the-service-urls-for-wasabi-s-different-storage-regions>,
/// <https://www.backblaze.com/docs/cloud-storage-s3-compatible-api>, <https://developers.cloudflare.com/r2/api/s3/api/>,
/// <https://docs.digitalocean.com/products/spaces/reference/s3-compatibility/>, <https://www.scaleway.com/en/docs/object-storage/>,
/// <https://docs.hetzner.com/storage/object-storage/getting-started/using-s3-api-tools/>,
/// <https://techdocs.akamai.com/cloud-computing/docs/access-buckets-and-files-through-urls>,
/// <https://docs.cloud.google.com/storage/docs/request-endpoints>, <https://cloud.ibm.com/docs/cloud-object-storage>,
/// <https://docs.ovhcloud.com/en/guides/storage-and-backup/object-storage/s3-location>,
/// <https://docs.oracle.com/en-us/iaas/Content/Object/Tasks/s3compatibleapi.htm>.
const HOSTS: [&str; 39] = [
    "s3.*.wasabisys.com",
    "s3.wasabisys.com",
    "s3.*.backblazeb2.com",
    "*.eu.r2.cloudflarestorage.com",
    "*.fedramp.r2.cloudflarestorage.com",
    "*.r2.cloudflarestorage.com",
    "*.cdn.digitaloceanspaces.com",
    "*.digitaloceanspaces.com",
    "s3.*.scw.cloud",
    "*.your-objectstorage.com",
    "*.linodeobjects.com",
    "*.vultrobjects.com",
    "s3.*.io.cloud.ovh.net",
    "s3.*.perf.cloud.ovh.net",
    "s3.*.io.cloud.ovh.us",
    "s3.*.cloud.ovh.net",
    "s3.*.ionoscloud.com",
    "s3-*.ionoscloud.com",
    "s3.*.idrivee2.com",
    "s3.*.cloud-object-storage.appdomain.cloud",
    "s3.private.*.cloud-object-storage.appdomain.cloud",
    "s3.direct.*.cloud-object-storage.appdomain.cloud",
    "storage.googleapis.com",
    "commondatastorage.googleapis.com",
    "storage.yandexcloud.net",
    "gateway.storjshare.io",
    "gateway.*.storjshare.io",
    "fly.storage.tigris.dev",
    "t3.storage.dev",
    "cos.*.myqcloud.com",
    "sos-*.exo.io",
    "s3.*.aliyuncs.com",
    "*.aliyuncs.com",
    "objects-*.dream.io",
    "obs.*.myhuaweicloud.com",
    "*.contabostorage.com",
    "objects.*.cloudscale.ch",
    "s3.pub*.infomaniak.cloud",
    "*.compat.objectstorage.*.oraclecloud.com",
];

/// What names the bucket of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BucketIn {
    /// The host: this part of it.
    Host(String),
    /// The first part of the path.
    Path,
    /// It cannot be known: more likely this part of the host than the first part of the path.
    HostOrPath(String),
    /// It cannot be known: more likely the first part of the path than this part of the host.
    PathOrHost(String),
}

/// What names the bucket, by the host in lower case, without a port, and the path without its leading slash.
pub(super) fn bucket_in(host: &str, path: &str) -> BucketIn {
    if let Some(bucket) = HOSTS.iter().find_map(|known| before(host, known)) {
        return match bucket {
            "" => BucketIn::Path,
            bucket => BucketIn::Host(bucket.to_owned()),
        };
    }
    let Some((bucket, is_before_s3)) = possible_bucket(host) else {
        return BucketIn::Path;
    };
    let bucket = bucket.to_owned();
    match (may_name_bucket(path), is_before_s3) {
        (false, _) => BucketIn::Host(bucket),
        (true, true) => BucketIn::HostOrPath(bucket),
        (true, false) => BucketIn::PathOrHost(bucket),
    }
}

/// Whether a path can be a bucket and a key. Names of buckets had capital letters and underscores once.
fn may_name_bucket(path: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    path.split_once('/').is_some_and(|(bucket, key)| {
        !bucket.is_empty() && bucket.bytes().all(is_name) && !key.is_empty()
    })
}

/// The part of a host before a known one; empty for the known one itself.
fn before<'a>(host: &'a str, known: &str) -> Option<&'a str> {
    let mut rest = host;
    for (index, label) in known.rsplit('.').enumerate() {
        if index > 0 {
            rest = rest.strip_suffix('.')?;
        }
        let start = rest.rfind('.').map_or(0, |dot| dot + 1);
        let is_same = match label.split_once('*') {
            Some((prefix, _)) => {
                rest.len() > start + prefix.len() && rest[start..].starts_with(prefix)
            }
            None => &rest[start..] == label,
        };
        rest = is_same.then(|| &rest[..start])?;
    }
    match rest {
        "" => Some(rest),
        rest => rest.strip_suffix('.'),
    }
}

/// The part of an unknown host that can be a bucket: the labels before one that names S3, else the first label; and whether it
/// stands before one.
fn possible_bucket(host: &str) -> Option<(&str, bool)> {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    if address.parse::<IpAddr>().is_ok() {
        return None;
    }
    let label_after = |dot: usize| host[dot + 1..].split('.').next().unwrap_or_default();
    let service = host
        .match_indices('.')
        .find(|(dot, _)| names_s3(label_after(*dot)));
    let (bucket, is_before_s3) = match service {
        Some((dot, _)) => (&host[..dot], true),
        None => (host.split_once('.')?.0, false),
    };
    (is_bucket_name(bucket) && !names_s3(bucket)).then_some((bucket, is_before_s3))
}

fn names_s3(label: &str) -> bool {
    label == "s3" || label.starts_with("s3-")
}

/// Whether a text has the form of a bucket's name.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn is_bucket_name(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    (3..=63).contains(&text.len())
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
        })
}
