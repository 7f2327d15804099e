//! Derives region and server of a queue from its URL.
//!
//! A request to SQS names its queue by URL, but that URL does not determine the endpoint. Handout calls the regional endpoint of
//! the URL's region, or, if its host is not a regional endpoint of AWS, the host itself.
//! <https://docs.aws.amazon.com/general/latest/gr/sqs-service.html>

use std::fmt;

use presign::ServerUrl;
use presign::partition::{EndpointVariant, before_suffix, is_region};

/// The region of `queue.amazonaws.com`, whose name contains none.
const LEGACY_REGION: &str = "us-east-1";

/// The suffixes of dual-stack hosts, by partition; other partitions use their common suffix.
const DUAL_STACK: [&str; 7] = [
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.cloud-aws.adc-e.uk",
    "api.aws.hci.ic.gov",
];

/// A text that is not the URL of a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not the URL of a queue: write it in full, as `aws sqs get-queue-url --queue-name NAME` prints it, such as https://sqs.eu-west-1.amazonaws.com/123456789012/NAME"
)]
pub struct QueueAddressError;

/// The URL of a queue, and its region and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueAddress {
    url: String,
    place: QueuePlace,
}

/// How a queue is reached. Queues with equal values share a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlace {
    /// The region in the host name.
    pub region: Option<String>,
    /// The server, if it is not a regional endpoint of AWS: scheme, host and port.
    pub origin: Option<String>,
    /// The variant of the region's endpoint.
    pub variant: EndpointVariant,
}

impl QueueAddress {
    /// Parses the URL of a queue; a trailing slash is not part of the queue's name.
    ///
    /// # Errors
    /// The text is not an `http` or `https` URL with a path.
    pub fn parse(url: &str) -> Result<Self, QueueAddressError> {
        let server = ServerUrl::parse(url).map_err(|_| QueueAddressError)?;
        if server.path().is_empty() {
            return Err(QueueAddressError);
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            place: QueuePlace::of(&server),
        })
    }

    /// The URL by which requests name the queue.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The queue's region and server.
    pub const fn place(&self) -> &QueuePlace {
        &self.place
    }
}

impl fmt::Display for QueueAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl QueuePlace {
    fn of(server: &ServerUrl) -> Self {
        let host = server.host();
        let itself = |region: Option<&str>| Self {
            region: region.map(ToOwned::to_owned),
            origin: Some(server.origin()),
            variant: EndpointVariant::default(),
        };
        let regional = |region: &str, fips, dual_stack| Self {
            region: Some(region.to_owned()),
            origin: None,
            variant: EndpointVariant { fips, dual_stack },
        };
        let dual_stack = DUAL_STACK
            .iter()
            .find_map(|suffix| host.strip_suffix(suffix)?.strip_suffix('.'));
        let (name, is_dual_stack) = match (dual_stack, before_suffix(host)) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => return itself(after_service(host)),
        };
        let labels: Vec<&str> = name.split('.').collect();
        match labels[..] {
            ["sqs", region] if is_region(region) => regional(region, false, is_dual_stack),
            ["sqs-fips", region] if is_region(region) => regional(region, true, is_dual_stack),
            // The form that AWS used before 2012 and some libraries still use.
            [region, "queue"] if is_region(region) => regional(region, false, false),
            ["queue"] => regional(LEGACY_REGION, false, false),
            // A VPC endpoint, which is called directly.
            // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-internetwork-traffic-privacy.html
            [.., "sqs" | "sqs-fips", region, "vpce"] if is_region(region) => itself(Some(region)),
            _ => itself(None),
        }
    }
}

/// The region in a host that is structured like AWS's: `sqs.eu-west-1.localhost.localstack.cloud:4566`.
fn after_service(host: &str) -> Option<&str> {
    let region = host.strip_prefix("sqs.")?.split('.').next()?;
    Some(region).filter(|region| is_region(region))
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
    use futures_util::FutureExt;

    use super::*;

    fn shown(url: &str) -> String {
        let QueuePlace {
            region,
            origin,
            variant,
        } = QueueAddress::parse(url).unwrap().place;
        let region = region.as_deref().unwrap_or("-");
        let origin = origin.as_deref().unwrap_or("AWS's endpoint");
        let fips = if variant.fips { ", FIPS" } else { "" };
        let stack = if variant.dual_stack {
            ", dual-stack"
        } else {
            ""
        };
        format!("{region} at {origin}{fips}{stack}")
    }

    #[test]
    fn a_queue_is_asked_where_its_url_says() {
        let table = [
            "https://sqs.eu-west-1.amazonaws.com/123456789012/report-jobs",
            "https://SQS.EU-West-1.amazonaws.com:443/123456789012/report-jobs.fifo/",
            "https://eu-west-1.queue.amazonaws.com/123456789012/report-jobs",
            "http://queue.amazonaws.com/123456789012/report-jobs",
            "https://sqs.us-gov-west-1.amazonaws.com/123456789012/jobs",
            "https://sqs-fips.us-east-2.amazonaws.com/123456789012/jobs",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs",
            "https://sqs.us-isob-east-1.sc2s.sgov.gov/123456789012/jobs",
            "https://sqs.eusc-de-east-1.amazonaws.eu/123456789012/jobs",
            "https://sqs.eu-west-1.api.aws/123456789012/jobs",
            "https://sqs-fips.us-east-1.api.aws/123456789012/jobs",
            "https://sqs.cn-north-1.api.amazonwebservices.com.cn/123456789012/jobs",
            "https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/123456789012/jobs",
            "https://vpce-0a1b-2c3d-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com/123456789012/jobs",
            "https://abc.execute-api.eu-west-1.amazonaws.com/123456789012/jobs",
            "https://sqs.eu-west-1.amazonaws.com.evil.example/123456789012/jobs",
            "http://127.0.0.1:9324/queue/jobs",
            "http://[::1]:9324/000000000000/jobs.fifo",
            "http://sqs.eu-west-1.localhost.localstack.cloud:4566/000000000000/jobs",
            "https://message-queue.api.cloud.yandex.net/b1g/dj6/jobs",
            "https://mq.example/sqs/123456789012/jobs",
        ]
        .map(shown);
        insta::assert_snapshot!(table.join("\n"), @r"
        eu-west-1 at AWS's endpoint
        eu-west-1 at AWS's endpoint
        eu-west-1 at AWS's endpoint
        us-east-1 at AWS's endpoint
        us-gov-west-1 at AWS's endpoint
        us-east-2 at AWS's endpoint, FIPS
        cn-north-1 at AWS's endpoint
        us-isob-east-1 at AWS's endpoint
        eusc-de-east-1 at AWS's endpoint
        eu-west-1 at AWS's endpoint, dual-stack
        us-east-1 at AWS's endpoint, FIPS, dual-stack
        cn-north-1 at AWS's endpoint, dual-stack
        eu-west-1 at https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com
        eu-west-1 at https://vpce-0a1b-2c3d-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com
        - at https://abc.execute-api.eu-west-1.amazonaws.com
        eu-west-1 at https://sqs.eu-west-1.amazonaws.com.evil.example
        - at http://127.0.0.1:9324
        - at http://[::1]:9324
        eu-west-1 at http://sqs.eu-west-1.localhost.localstack.cloud:4566
        - at https://message-queue.api.cloud.yandex.net
        - at https://mq.example
        ");
    }

    #[test]
    fn every_endpoint_of_the_sdk_is_read_as_the_region_that_it_is_for() {
        let regions = [
            "eu-west-1",
            "us-east-1",
            "ap-southeast-7",
            "us-gov-east-1",
            "cn-northwest-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eu-isoe-west-1",
            "us-isof-south-1",
            "eusc-de-east-1",
            "il-central-1",
            "mx-central-1",
        ];
        let variants = [(false, false), (true, false), (false, true), (true, true)];
        let mut compared = 0;
        for region in regions {
            for (fips, dual_stack) in variants {
                let params = Params::builder()
                    .region(region)
                    .use_fips(fips)
                    .use_dual_stack(dual_stack);
                let (params, resolver) = (params.build().unwrap(), DefaultResolver::new());
                let resolved = resolver.resolve_endpoint(&params).now_or_never().unwrap();
                // Some partitions lack some variants.
                let Ok(endpoint) = resolved else {
                    continue;
                };
                let address = QueueAddress::parse(&format!("{}/1/jobs", endpoint.url())).unwrap();
                let place = address.place();
                assert_eq!(place.region.as_deref(), Some(region), "{endpoint:?}");
                assert_eq!(place.origin, None, "{endpoint:?}");
                compared += 1;
            }
        }
        assert!(compared > 24, "{compared}");
    }

    #[test]
    fn what_names_no_queue_is_refused_with_a_url_to_write() {
        for text in [
            "",
            "report-jobs",
            "https://sqs.eu-west-1.amazonaws.com",
            "https://sqs.eu-west-1.amazonaws.com/",
            "sqs.eu-west-1.amazonaws.com/123456789012/jobs",
            "arn:aws:sqs:eu-west-1:123456789012:jobs",
            "https:///123456789012/jobs",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs?Action=SendMessage",
            "https://ann:secret@mq.example/queue/jobs",
            "https://mq.example/queue/../jobs",
            "sqs://mq.example/queue/jobs",
        ] {
            assert_eq!(QueueAddress::parse(text), Err(QueueAddressError), "{text}");
        }
    }
}
