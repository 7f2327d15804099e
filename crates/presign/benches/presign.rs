//! Compares signing with other Rust signers, in one run, on one core.
//!
//! `cargo bench -p presign`. Timings vary on shared machines: compare the ratios. Each row is the median of several rounds. The
//! rounds of the contenders alternate, so that a disturbance affects all of them. Before the measurement, the benchmark asserts
//! that all contenders produce the same signature.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use hyper::Request;
use jiff::Timestamp;
use presign::{
    AccessKey, Addressing, BucketUrl, ExpiresIn, PresignRequest, Presigner, signature_in,
};
use rusty_s3::{Bucket, S3Action, UrlStyle};
use tokio::time::Instant;

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const REGION: &str = "eu-west-1";
const BUCKET: &str = "acme-reports";
const INSTANT: &str = "2023-11-14T22:13:20Z";
const EXPIRES_IN: Duration = Duration::from_secs(86_400);
const DISPOSITION: &str = "attachment; filename=\"report 0000.pdf\"";

const ROUNDS: usize = 9;
const KEYS: usize = 20_000;

/// Signs a link to a key and passes its text to a callback.
type Sign<'a> = Box<dyn FnMut(&str, &mut dyn FnMut(&str)) + 'a>;

struct Contender<'a> {
    name: &'static str,
    /// The number of links in a round, chosen so that all contenders take about the same time.
    each: usize,
    sign: Sign<'a>,
    rounds: Vec<f64>,
}

fn main() {
    let keys: Vec<String> = (0..KEYS)
        .map(|number| format!("2026/11/23/report {number:06}.pdf"))
        .collect();
    for (name, token) in [
        ("long-term key", None),
        ("1 KB session token", Some("A".repeat(1024))),
    ] {
        let mut contenders = contenders(token.as_deref());
        agree(&mut contenders, &keys[7]);
        for _ in 0..ROUNDS {
            for contender in &mut contenders {
                contender.measure(&keys);
            }
        }
        println!("{name:20} {:>9} {:>9}", "µs a URL", "ratio");
        let ours = contenders[0].median();
        for contender in &mut contenders {
            let median = contender.median();
            println!(
                "  {:18} {median:9.2} {:>8.0}×",
                contender.name,
                median / ours
            );
        }
    }
}

fn contenders(token: Option<&str>) -> [Contender<'static>; 4] {
    let contender = |name, each, sign| Contender {
        name,
        each,
        sign,
        rounds: Vec::new(),
    };
    [
        contender("presign", KEYS, presign(token)),
        contender("rusty-s3", 2_000, rusty_s3(token)),
        contender("aws-sigv4", 1_000, aws_sigv4(token)),
        contender("aws-sdk-s3", 400, aws_sdk_s3(token)),
    ]
}

/// Asserts that all contenders sign the same request with the same signature.
fn agree(contenders: &mut [Contender<'_>], key: &str) {
    let mut signatures = Vec::new();
    for contender in contenders {
        (contender.sign)(key, &mut |url| {
            signatures.push(signature_in(url).unwrap());
        });
    }
    assert!(
        signatures
            .iter()
            .all(|signature| *signature == signatures[0]),
        "all sign alike: {signatures:?}"
    );
}

impl Contender<'_> {
    fn measure(&mut self, keys: &[String]) {
        let from = Instant::now();
        for key in &keys[..self.each] {
            (self.sign)(key, &mut |url| {
                black_box(url);
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let each = self.each as f64;
        self.rounds.push(from.elapsed().as_secs_f64() * 1e6 / each);
    }

    fn median(&mut self) -> f64 {
        self.rounds.sort_by(f64::total_cmp);
        self.rounds[self.rounds.len() / 2]
    }
}

fn endpoint() -> String {
    format!("https://s3.{REGION}.amazonaws.com")
}

fn instant() -> SystemTime {
    SystemTime::try_from(INSTANT.parse::<Timestamp>().unwrap()).unwrap()
}

fn presign(token: Option<&str>) -> Sign<'static> {
    let target = BucketUrl::new(&endpoint(), BUCKET, Addressing::VirtualHost).unwrap();
    let keys = AccessKey {
        access_key_id: ID.into(),
        secret_access_key: SECRET.into(),
        session_token: token.map(Into::into),
    };
    let at = INSTANT.parse().unwrap();
    let presigner = Presigner::new(
        target,
        &keys,
        REGION,
        at,
        ExpiresIn::new(EXPIRES_IN).unwrap(),
    );
    Box::new(move |key, seen| {
        let url = presigner.presign(&PresignRequest {
            key,
            content_disposition: Some(DISPOSITION),
            ..PresignRequest::default()
        });
        seen(url.expose());
    })
}

fn rusty_s3(token: Option<&str>) -> Sign<'static> {
    let url = endpoint().parse().unwrap();
    let bucket = Bucket::new(url, UrlStyle::VirtualHost, BUCKET, REGION).unwrap();
    let credentials = match token {
        Some(token) => rusty_s3::Credentials::new_with_token(ID, SECRET, token),
        None => rusty_s3::Credentials::new(ID, SECRET),
    };
    // aws-sdk-s3's own version of jiff parses the instant.
    let at = INSTANT.parse().unwrap();
    Box::new(move |key, seen| {
        let mut action = bucket.get_object(Some(&credentials), key);
        let query = action.query_mut();
        query.insert("response-content-disposition", DISPOSITION);
        query.insert("x-id", "GetObject");
        seen(action.sign_with_time(EXPIRES_IN, &at).as_str());
    })
}

/// The AWS SDK's signer by itself: the caller encodes the URL.
fn aws_sigv4(token: Option<&str>) -> Sign<'static> {
    let identity = Credentials::new(ID, SECRET, token.map(ToOwned::to_owned), None, "bench").into();
    let disposition = DISPOSITION.replace(' ', "%20").replace(';', "%3B");
    let disposition = disposition.replace('=', "%3D").replace('"', "%22");
    let at = instant();
    Box::new(move |key, seen| {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(EXPIRES_IN);
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("s3")
            .time(at)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!(
            "https://{BUCKET}.s3.{REGION}.amazonaws.com/{}?x-id=GetObject&response-content-disposition={disposition}",
            key.replace(' ', "%20"),
        );
        let headers = std::iter::empty();
        let request =
            SignableRequest::new("GET", url.as_str(), headers, SignableBody::UnsignedPayload);
        let (instructions, _) = sign(request.unwrap(), &parameters).unwrap().into_parts();
        let mut request = Request::get(url).body(()).unwrap();
        instructions.apply_to_request_http1x(&mut request);
        seen(&request.uri().to_string());
    })
}

fn aws_sdk_s3(token: Option<&str>) -> Sign<'static> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let credentials = Credentials::new(ID, SECRET, token.map(ToOwned::to_owned), None, "bench");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(credentials);
    let client = Client::from_conf(config.build());
    let at = instant();
    Box::new(move |key, seen| {
        let presigning = PresigningConfig::builder()
            .start_time(at)
            .expires_in(EXPIRES_IN)
            .build()
            .unwrap();
        let request = client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .response_content_disposition(DISPOSITION);
        let signed = runtime.block_on(request.presigned(presigning));
        seen(signed.unwrap().uri());
    })
}
