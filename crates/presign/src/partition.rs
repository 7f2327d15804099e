//! AWS's partitions: the regions of each, and the suffixes of their hosts.
//!
//! <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>; the names are those of the
//! SDK's own table, and the tests compare every host with it.

/// The host suffix of regions that no other partition claims, `us-gov-*` included.
const COMMON: &str = "amazonaws.com";

/// The prefix of each partition's region names, and the suffix of its hosts.
const OTHERS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
];

/// The SDK's name of S3's global endpoint, and its region. Its host redirects requests for all other regions.
const GLOBAL: (&str, &str) = ("aws-global", "us-east-1");

/// The variant of a region's endpoint. <https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointVariant {
    /// The endpoint with validated cryptography (FIPS 140).
    pub fips: bool,
    /// The endpoint that also answers over IPv6.
    pub dual_stack: bool,
}

/// The endpoint of S3 in a region. The global endpoint redirects requests for new buckets, which invalidates their signatures.
pub fn regional_endpoint(region: &str, variant: EndpointVariant) -> String {
    let region = plain_region(region);
    let service = if variant.fips { "s3-fips" } else { "s3" };
    let stack = if variant.dual_stack { ".dualstack" } else { "" };
    format!("https://{service}{stack}.{region}.{}", suffix(region))
}

/// The region that a signature is made for.
pub fn plain_region(region: &str) -> &str {
    match region == GLOBAL.0 {
        true => GLOBAL.1,
        false => region,
    }
}

/// The part of an AWS host before the partition's suffix; `None` for other hosts.
pub fn before_suffix(host: &str) -> Option<&str> {
    let suffixes = OTHERS.iter().map(|(_, suffix)| *suffix).chain([COMMON]);
    suffixes
        .into_iter()
        .find_map(|suffix| host.strip_suffix(suffix)?.strip_suffix('.'))
}

/// The name of a region's partition in ARNs, such as `aws` or `aws-cn`.
pub fn arn_partition(region: &str) -> &'static str {
    let starts = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("eusc-", "aws-eusc"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
    ];
    let found = starts.iter().find(|(start, _)| region.starts_with(start));
    found.map_or("aws", |(_, name)| name)
}

fn suffix(region: &str) -> &'static str {
    let other = OTHERS.iter().find(|(start, _)| region.starts_with(start));
    other.map_or(COMMON, |(_, suffix)| suffix)
}

/// Whether a text has the form of a region such as `eu-west-1` or `us-gov-east-1`: words and a number.
pub fn is_region(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    words.len() >= 3
        && words.last().is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
        && words[..words.len() - 1]
            .iter()
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}
