//! Our signer against the AWS SDK's: byte for byte, for the same instant.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::presigning::PresigningConfig;
use handout::links::LINK_ID;
use jiff::Timestamp;
use presign::partition::{EndpointVariant, plain_region, regional_endpoint};
use presign::{AccessKey, Addressing, BucketUrl, ExpiresIn, PresignRequest, Presigner};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::hostile;

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A part of a host name has 63 characters at most.
const MAX_LABEL: &str = "a23456789-123456789-123456789-123456789-123456789-123456789-123";
const TOO_LONG_FOR_A_LABEL: &str =
    "a23456789-123456789-123456789-123456789-123456789-123456789-1234";

/// How many random links are compared. Clients are kept: making one takes longer than signing.
const CASES: u32 = 10_000;

/// One link, and everything that goes into it.
#[derive(Debug, Clone)]
struct Case {
    key: String,
    bucket: &'static str,
    endpoint: Option<&'static str>,
    path_style: bool,
    region: &'static str,
    variant: EndpointVariant,
    token: Option<String>,
    disposition: Option<String>,
    content_encoding: Option<String>,
    content_type: Option<String>,
    version: Option<String>,
    link_id: Option<String>,
    at: i64,
    expires: u64,
}

impl Case {
    fn plain(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            bucket: "reports",
            endpoint: None,
            path_style: false,
            region: "eu-west-1",
            variant: EndpointVariant::default(),
            token: None,
            disposition: Some(
                "attachment; filename=\"a b.pdf\"; filename*=UTF-8''a%20b.pdf".to_owned(),
            ),
            content_encoding: None,
            content_type: None,
            version: None,
            link_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            at: 1_700_000_000,
            expires: 86_400,
        }
    }

    fn ours(&self) -> String {
        let regional = regional_endpoint(self.region, self.variant);
        let addressing = if self.path_style {
            Addressing::Path
        } else {
            Addressing::VirtualHost
        };
        let endpoint = self.endpoint.unwrap_or(&regional);
        let target = BucketUrl::new(endpoint, self.bucket, addressing).unwrap();
        let keys = AccessKey {
            access_key_id: ID.into(),
            secret_access_key: SECRET.into(),
            session_token: self.token.as_deref().map(Into::into),
        };
        let at = Timestamp::from_second(self.at).unwrap();
        let presigner = Presigner::new(
            target,
            &keys,
            self.region,
            at,
            ExpiresIn::clamped(self.expires),
        );
        let custom = self.link_id.as_deref().map(|id| (LINK_ID, id));
        let ask = PresignRequest {
            key: &self.key,
            content_disposition: self.disposition.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            content_type: self.content_type.as_deref(),
            version_id: self.version.as_deref(),
            custom: custom.as_slice(),
        };
        // Twice, since the second reuses what the first left behind.
        let first = presigner.presign(&ask).expose().to_owned();
        assert_eq!(first, presigner.presign(&ask).expose());
        first
    }

    fn sdk_client(&self) -> Client {
        let credentials = Credentials::new(ID, SECRET, self.token.clone(), None, "test");
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region))
            .force_path_style(self.path_style)
            .use_fips(self.variant.fips)
            .use_dual_stack(self.variant.dual_stack)
            .credentials_provider(credentials);
        if let Some(endpoint) = self.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Client::from_conf(config.build())
    }

    async fn sdk(&self, client: &Client) -> String {
        let presigning = PresigningConfig::builder()
            .start_time(SystemTime::UNIX_EPOCH + Duration::from_secs(self.at.unsigned_abs()))
            .expires_in(Duration::from_secs(self.expires))
            .build()
            .unwrap();
        let link_id = self.link_id.clone();
        client
            .get_object()
            .bucket(self.bucket)
            .key(&self.key)
            .set_response_content_disposition(self.disposition.clone())
            .set_response_content_encoding(self.content_encoding.clone())
            .set_response_content_type(self.content_type.clone())
            .set_version_id(self.version.clone())
            .customize()
            .mutate_request(move |request| {
                if let Some(id) = &link_id {
                    let uri = format!("{}&x-handout={id}", request.uri());
                    request.set_uri(uri).expect("the URI is one");
                }
            })
            .presigned(presigning)
            .await
            .unwrap()
            .uri()
            .to_owned()
    }
}

async fn same(case: &Case) {
    assert_eq!(case.ours(), case.sdk(&case.sdk_client()).await, "{case:?}");
}

#[tokio::test]
async fn every_hostile_key_is_signed_as_the_sdk_signs_it() {
    let every_character = (0..=0x17F)
        .filter_map(char::from_u32)
        .map(|c| format!("x{c}y"));
    let keys = hostile::keys()
        .into_iter()
        .chain(hostile::UNLINKABLE.map(ToOwned::to_owned))
        .chain(every_character);
    for key in keys {
        same(&Case::plain(&key)).await;
    }
}

#[tokio::test]
async fn every_endpoint_and_addressing_is_signed_as_the_sdk_signs_it() {
    let endpoints = [
        None,
        Some("http://127.0.0.1:9000"),
        Some("https://minio.example:9000"),
        Some("https://files.example:443"),
        Some("http://files.example:80"),
        Some("https://files.example"),
        // The SDK wants the slash at the end, and runs path and bucket together without it.
        Some("http://127.0.0.1:9701/storage/v1/s3/"),
        Some("https://files.example:8443/Storage/%C3%BC~b/"),
    ];
    for endpoint in endpoints {
        for path_style in [true, false] {
            for bucket in [
                "reports",
                "my.reports",
                "b-1",
                "Re_ports",
                MAX_LABEL,
                TOO_LONG_FOR_A_LABEL,
            ] {
                same(&Case {
                    endpoint,
                    path_style,
                    bucket,
                    ..Case::plain("a b/ü+.pdf")
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn every_region_of_every_partition_has_the_host_that_the_sdk_gives_it() {
    let regions = [
        "us-east-1",
        "eu-central-2",
        "mx-central-1",
        "us-gov-west-1",
        "cn-northwest-1",
        "eusc-de-east-1",
        "us-iso-east-1",
        "us-isob-east-1",
        "eu-isoe-west-1",
        "us-isof-south-1",
    ];
    for region in regions {
        for (fips, dual_stack) in [(false, false), (true, false), (false, true), (true, true)] {
            // The SDK knows no such endpoints in China, and makes no link.
            if fips && region.starts_with("cn-") {
                continue;
            }
            for bucket in ["reports", "my.reports"] {
                same(&Case {
                    region,
                    bucket,
                    variant: EndpointVariant { fips, dual_stack },
                    ..Case::plain("a.pdf")
                })
                .await;
            }
        }
    }
    // The SDK's one region that is none, and whose host redirects.
    let global = regional_endpoint("aws-global", EndpointVariant::default());
    assert_eq!(
        global,
        regional_endpoint("us-east-1", EndpointVariant::default())
    );
    assert_eq!(plain_region("aws-global"), "us-east-1");
}

#[tokio::test]
async fn the_longest_key_is_signed_as_the_sdk_signs_it() {
    for key in [
        "k".repeat(1024),
        "ü".repeat(512),
        "/".repeat(1024),
        "%".repeat(1024),
    ] {
        assert_eq!(key.len(), handout::job::place::MAX_KEY_BYTES);
        same(&Case::plain(&key)).await;
    }
}

/// A client sends the host in lower case, whatever somebody typed; the SDK signs it as it was typed, and its link fails.
#[tokio::test]
async fn an_endpoint_in_capitals_is_signed_as_clients_will_send_it() {
    let typed = Case {
        endpoint: Some("https://MinIO.Example:9000"),
        ..Case::plain("A.pdf")
    };
    let sent = Case {
        endpoint: Some("https://minio.example:9000"),
        ..Case::plain("A.pdf")
    };
    assert_eq!(typed.ours(), sent.sdk(&sent.sdk_client()).await);
    assert_ne!(typed.ours(), typed.sdk(&typed.sdk_client()).await);
}

fn short_token() -> String {
    "IQoJb3JpZ2luX2VjE+/=".to_owned()
}

fn long_token() -> String {
    short_token().repeat(50)
}

fn any_case() -> impl Strategy<Value = Case> {
    let text = || proptest::option::of("\\PC{1,40}");
    let key = prop_oneof!["\\PC{1,60}", "[a-z0-9/ +%~.]{1,80}"];
    let place = (
        prop_oneof![Just("reports"), Just("my.reports"), Just("b-1")],
        prop_oneof![
            Just(None),
            Just(Some("http://127.0.0.1:9000")),
            Just(Some("https://minio.example:9000"))
        ],
        any::<bool>(),
        prop_oneof![
            Just("eu-west-1"),
            Just("us-east-1"),
            Just("cn-north-1"),
            Just("eusc-de-east-1")
        ],
    );
    let rest = (
        prop_oneof![
            Just(None),
            Just(Some(short_token())),
            Just(Some(long_token()))
        ],
        text(),
        (proptest::option::of(Just("identity".to_owned())), text()),
        proptest::option::of("[A-Za-z0-9._]{1,32}"),
        proptest::option::of("[0-9a-f]{32}"),
        1_000_000_000i64..4_000_000_000,
        1u64..=604_800,
    );
    (key, place, rest)
        // The SDK takes a key of white space alone for a missing one.
        .prop_filter("the SDK refuses blank keys", |(key, ..)| {
            !key.trim().is_empty()
        })
        .prop_map(|(key, place, rest)| {
            let (bucket, endpoint, path_style, region) = place;
            let (
                token,
                disposition,
                (content_encoding, content_type),
                version,
                link_id,
                at,
                expires,
            ) = rest;
            Case {
                key,
                bucket,
                endpoint,
                path_style,
                region,
                variant: EndpointVariant::default(),
                token,
                disposition,
                content_encoding,
                content_type,
                version,
                link_id,
                at,
                expires,
            }
        })
}

#[test]
fn random_links_are_signed_as_the_sdk_signs_them() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let clients: RefCell<HashMap<String, Client>> = RefCell::default();
    let result = runner.run(&any_case(), |case| {
        let kind = format!(
            "{:?}",
            (case.endpoint, case.path_style, case.region, &case.token)
        );
        let client = clients
            .borrow_mut()
            .entry(kind)
            .or_insert_with(|| case.sdk_client())
            .clone();
        let (ours, sdk) = (case.ours(), runtime.block_on(case.sdk(&client)));
        prop_assert_eq!(ours, sdk);
        Ok(())
    });
    result.unwrap();
}
