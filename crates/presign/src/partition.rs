//! AWS's partitions: which regions belong to which, and how the hosts of each end.
//!
//! <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>; the names are those of
//! the SDK's own table, with which the tests compare every host.

/// How hosts of AWS end where no other partition claims the region; `us-gov-*` is among them.
const COMMON: &str = "amazonaws.com";

/// How the names of a partition's regions begin, and how its hosts end.
const OTHERS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
];

/// What the SDK calls S3's global endpoint. Its signatures are for this region, and its host redirects all others.
const GLOBAL: (&str, &str) = ("aws-global", "us-east-1");

/// Which of a region's endpoints is meant.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointVariant {
    /// The one whose cryptography is validated (FIPS 140).
    pub fips: bool,
    /// The one that answers over IPv6 too.
    pub dual_stack: bool,
}

/// S3's endpoint of a region: the global one redirects new buckets, and no signature survives that.
pub fn regional_endpoint(region: &str, variant: EndpointVariant) -> String {
    let region = plain_region(region);
    let service = if variant.fips { "s3-fips" } else { "s3" };
    let stack = if variant.dual_stack { ".dualstack" } else { "" };
    format!("https://{service}{stack}.{region}.{}", suffix(region))
}

/// The region for which a signature is made.
pub fn plain_region(region: &str) -> &str {
    match region == GLOBAL.0 {
        true => GLOBAL.1,
        false => region,
    }
}

/// What stands before the end of a host of AWS; nothing for hosts of others.
pub fn before_suffix(host: &str) -> Option<&str> {
    let suffixes = OTHERS.iter().map(|(_, suffix)| *suffix).chain([COMMON]);
    suffixes
        .into_iter()
        .find_map(|suffix| host.strip_suffix(suffix)?.strip_suffix('.'))
}

fn suffix(region: &str) -> &'static str {
    let other = OTHERS.iter().find(|(start, _)| region.starts_with(start));
    other.map_or(COMMON, |(_, suffix)| suffix)
}

/// `eu-west-1`, `us-gov-east-1`: words and a number.
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
