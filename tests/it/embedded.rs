//! The embedded endpoint, spoken to by the SDK of AWS and by hand.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test does"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, EncodingType};
use localstore::{Endpoint, EndpointError, Site, create_bucket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::log::Log;

mod below;
mod clients;
mod links;
mod slots;
mod tags;

const REGION: &str = "eu-west-1";
const BUCKET: &str = "reports";

/// An endpoint with one site and one bucket.
struct World {
    endpoint: Endpoint,
    client: Client,
    site: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        create_bucket(directory.path(), BUCKET).unwrap();
        let endpoint = start(vec![site("AKIDONE", directory.path())]).await;
        Self {
            client: client(endpoint.address(), "AKIDONE"),
            endpoint,
            site: directory,
        }
    }

    fn path(&self, place: &str) -> PathBuf {
        self.site.path().join(BUCKET).join(place)
    }

    fn drop_file(&self, place: &str, text: &str) {
        let path = self.path(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn put(&self, key: &str, text: &str) {
        let body = ByteStream::from(text.as_bytes().to_vec());
        self.client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
            .await
            .unwrap_or_else(|e| panic!("{key:?}: {e:?}"));
    }

    async fn get(&self, key: &str) -> Result<String, String> {
        match self
            .client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
        {
            Ok(output) => {
                Ok(String::from_utf8(output.body.collect().await.unwrap().to_vec()).unwrap())
            }
            Err(error) => Err(code(&error)),
        }
    }

    async fn list(&self) -> Vec<String> {
        let (keys, groups) = self.pages("", None, None, 1000).await;
        assert_eq!(groups, Vec::<String>::new());
        keys
    }

    /// Lists page by page, and checks what must be true of each.
    async fn pages(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        start_after: Option<&str>,
        size: i32,
    ) -> (Vec<String>, Vec<String>) {
        let (mut keys, mut groups, mut token) = (Vec::new(), Vec::new(), None);
        loop {
            let page = (self
                .client
                .list_objects_v2()
                .bucket(BUCKET)
                .prefix(prefix)
                .max_keys(size))
            .set_delimiter(delimiter.map(str::to_owned))
            .set_start_after(start_after.map(str::to_owned))
            .set_continuation_token(token)
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .unwrap();
            let count = page.contents().len() + page.common_prefixes().len();
            assert_eq!(page.key_count(), i32::try_from(count).ok());
            assert!(count <= usize::try_from(size).unwrap());
            keys.extend(
                page.contents()
                    .iter()
                    .map(|object| decoded(object.key().unwrap())),
            );
            groups.extend(
                page.common_prefixes()
                    .iter()
                    .map(|group| decoded(group.prefix().unwrap())),
            );
            assert_eq!(
                page.is_truncated(),
                Some(page.next_continuation_token().is_some())
            );
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return (keys, groups);
            }
            assert_eq!(
                count,
                usize::try_from(size).unwrap(),
                "only the last page may be short"
            );
        }
    }

    /// A presigned GET, as path and query.
    async fn link(&self, key: &str, expires_in: u64) -> String {
        let expires = PresigningConfig::expires_in(Duration::from_secs(expires_in)).unwrap();
        self.target(
            self.client
                .get_object()
                .bucket(BUCKET)
                .key(key)
                .presigned(expires)
                .await
                .unwrap()
                .uri(),
        )
    }

    fn target(&self, url: &str) -> String {
        url.strip_prefix(&format!("http://{}", self.endpoint.address()))
            .unwrap()
            .to_owned()
    }

    async fn fetch(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let host = format!("Host: {}", self.endpoint.address());
        self.exchange(method, target, &[&[host.as_str()], headers].concat())
            .await
    }

    async fn exchange(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(self.endpoint.address()).await.unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nConnection: close\r\n{}\r\n\r\n",
            headers.join("\r\n")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::parse(&bytes)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no response: {text:?}"));
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            status,
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Status and S3 error code.
    fn verdict(&self) -> (u16, &str) {
        let code = self
            .body
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"));
        (self.status, code.map_or("", |(code, _)| code))
    }
}

fn site(access_key_id: &str, directory: &Path) -> Site {
    Site {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: format!("secret of {access_key_id}"),
        region: REGION.to_owned(),
        directory: directory.to_owned(),
    }
}

async fn start(sites: Vec<Site>) -> Endpoint {
    Endpoint::start("127.0.0.1:0".parse().unwrap(), sites)
        .await
        .unwrap()
}

fn client(address: SocketAddr, access_key_id: &str) -> Client {
    client_of(
        address,
        access_key_id,
        &format!("secret of {access_key_id}"),
        REGION,
    )
}

fn client_of(
    address: SocketAddr,
    access_key_id: &str,
    secret: &str,
    region: &'static str,
) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(format!("http://{address}"))
        .force_path_style(true)
        .credentials_provider(Credentials::new(access_key_id, secret, None, None, "test"))
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled());
    Client::from_conf(config.build())
}

fn code<E: ProvideErrorMetadata, R: std::fmt::Debug>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(service) => service.err().code().unwrap_or("?").to_owned(),
        _ => "no answer".to_owned(),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

// ── Links ──

#[tokio::test]
async fn a_link_gives_the_bytes_that_an_operator_dropped() {
    let world = World::new().await;
    world.drop_file("2026/11/a b.pdf", "the report");
    let answer = world
        .fetch("GET", &world.link("2026/11/a b.pdf", 60).await, &[])
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "the report"));
    assert_eq!(answer.header("content-type"), "application/pdf");
    assert_eq!(answer.header("content-length"), "10");
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.header("last-modified").ends_with(" GMT"));
    assert!(answer.header("etag").starts_with('"'));
}

/// The only changes that pass are those that say the same in other words, such as `%2f` for `%2F`.
#[tokio::test]
async fn a_link_changed_in_any_character_is_refused() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    for link in [world.link("a.txt", 600).await, world.own_link("a.txt")] {
        world.tamper_with(&link).await;
    }
}

#[tokio::test]
async fn a_link_of_our_own_is_for_its_host_alone() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let link = world.own_link("a.txt");
    let host = world.endpoint.address().to_string();
    for (index, old) in host.char_indices() {
        for new in ['0', '1', '7', 'a', '.', ':'] {
            let mut changed = host.clone();
            changed.replace_range(index..=index, &new.to_string());
            let host = format!("Host: {changed}");
            let status = world.exchange("GET", &link, &[&host]).await.status;
            match new == old {
                true => assert_eq!(status, 200),
                false => assert!(matches!(status, 400 | 403), "{status} for {changed}"),
            }
        }
    }
}

impl World {
    /// A link of our own signer with all that it can have, as path and query.
    fn own_link(&self, key: &str) -> String {
        use presign::{AccessKey, Addressing, BucketUrl, ExpiresIn, PresignRequest, Presigner};
        let endpoint = format!("http://{}", self.endpoint.address());
        let target = BucketUrl::new(&endpoint, BUCKET, Addressing::Path);
        let keys = AccessKey {
            access_key_id: "AKIDONE".into(),
            secret_access_key: "secret of AKIDONE".into(),
            session_token: None,
        };
        let now = handout::clock::system();
        let url = Presigner::new(target.unwrap(), &keys, REGION, now, ExpiresIn::clamped(600))
            .presign(&PresignRequest {
                key,
                content_disposition: Some("attachment; filename=\"a b.txt\""),
                content_encoding: Some("identity"),
                content_type: Some("text/plain; charset=utf-8"),
                version_id: Some("null"),
                custom: &[(handout::links::LINK_ID, "0123456789abcdef0123456789abcdef")],
            });
        self.target(url.expose())
    }

    /// Changes each character of a link, and opens what comes of it.
    async fn tamper_with(&self, link: &str) {
        let meaning = |link: &str| {
            let (path, query) = link.split_once('?').unwrap_or((link, ""));
            let pairs: BTreeSet<String> = query
                .split('&')
                .map(|pair| decoded_or_same(&pair.replace('+', "%20")))
                .collect();
            (decoded_or_same(path), pairs)
        };
        let mut tried = 0;
        for (index, old) in link.char_indices() {
            for new in ['0', 'a', 'A', 'f', '%', '&', '=', '+', '#', '/', '~'] {
                if new == old {
                    continue;
                }
                let mut changed = link.to_owned();
                changed.replace_range(index..=index, &new.to_string());
                if meaning(&changed) == meaning(link) {
                    continue;
                }
                let answer = self.fetch("GET", &changed, &[]).await;
                assert!(
                    matches!(answer.status, 400 | 403),
                    "{} for {changed}",
                    answer.status
                );
                tried += 1;
            }
        }
        assert!(tried > 2500, "{tried}");
        assert_eq!(self.fetch("GET", link, &[]).await.status, 200);
    }
}

fn decoded_or_same(text: &str) -> String {
    let bytes = text.as_bytes();
    let valid = bytes.iter().enumerate().all(|(i, byte)| {
        *byte != b'%'
            || bytes
                .get(i + 1..i + 3)
                .is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    });
    if valid && text.is_ascii() {
        String::from_utf8_lossy(&lenient(text)).into_owned()
    } else {
        text.to_owned()
    }
}

fn lenient(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        (rest, _) = match first {
            b'%' => {
                let pair = std::str::from_utf8(&after[..2]).unwrap();
                (
                    &after[2..],
                    bytes.push(u8::from_str_radix(pair, 16).unwrap()),
                )
            }
            byte => (after, bytes.push(*byte)),
        };
    }
    bytes
}

#[tokio::test]
async fn a_link_is_for_its_method_path_host_and_parameters() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    world.put("b.txt", "text").await;
    let link = world.link("a.txt", 60).await;
    for method in ["HEAD", "PUT", "DELETE", "POST"] {
        assert_eq!(
            world
                .fetch(method, &link, &["Content-Length: 0"])
                .await
                .status,
            403,
            "{method}"
        );
    }
    let other = link.replace("a.txt", "b.txt");
    assert_eq!(
        world.fetch("GET", &other, &[]).await.verdict(),
        (403, "SignatureDoesNotMatch")
    );
    let longer = format!("{link}&response-content-type=text/html");
    assert_eq!(
        world.fetch("GET", &longer, &[]).await.verdict(),
        (403, "SignatureDoesNotMatch")
    );
    let host = "Host: evil.example";
    assert_eq!(
        world.exchange("GET", &link, &[host]).await.verdict(),
        (403, "SignatureDoesNotMatch")
    );
    let header = "x-amz-meta-added: 1";
    assert_eq!(
        world.fetch("GET", &link, &[header]).await.verdict(),
        (403, "AccessDenied")
    );
    assert_eq!(
        world
            .fetch("GET", &link, &["Authorization: AWS4-HMAC-SHA256 x"])
            .await
            .verdict(),
        (400, "InvalidArgument")
    );
}

#[tokio::test]
async fn nobody_is_let_in_without_a_signature() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    for target in [
        "/",
        "/reports",
        "/reports/?list-type=2",
        "/reports/a.txt",
        "/reports/../reports/a.txt",
    ] {
        assert_eq!(
            world.fetch("GET", target, &[]).await.verdict(),
            (403, "AccessDenied"),
            "{target}"
        );
    }
    let form = [
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Length: 0",
    ];
    assert_eq!(
        world.fetch("POST", "/reports", &form).await.verdict(),
        (403, "AccessDenied")
    );
    let version_2 = "/reports/a.txt?AWSAccessKeyId=AKIDONE&Signature=x&Expires=9999999999";
    assert_eq!(
        world.fetch("GET", version_2, &[]).await.verdict(),
        (400, "InvalidRequest")
    );
    assert_eq!(
        world
            .fetch("GET", "/reports/a.txt", &["Authorization: AWS AKIDONE:x"])
            .await
            .verdict(),
        (400, "InvalidRequest")
    );
}

#[tokio::test]
async fn a_link_dies_at_its_hour() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let signed_at = |start: SystemTime| {
        PresigningConfig::builder()
            .start_time(start)
            .expires_in(Duration::from_secs(60))
            .build()
            .unwrap()
    };
    let now = fs::metadata(world.path("a.txt"))
        .unwrap()
        .modified()
        .unwrap();
    let get = || world.client.get_object().bucket(BUCKET).key("a.txt");
    for (start, expected) in [
        (now - Duration::from_secs(30), (200, "")),
        (now - Duration::from_secs(90), (403, "AccessDenied")),
        (now + Duration::from_secs(600), (200, "")),
        (
            now + Duration::from_secs(1000),
            (403, "RequestTimeTooSkewed"),
        ),
    ] {
        let link = get().presigned(signed_at(start)).await.unwrap();
        let answer = world.fetch("GET", &world.target(link.uri()), &[]).await;
        assert_eq!(answer.verdict(), expected);
        if expected.1 == "AccessDenied" {
            assert!(
                answer.body.contains("Request has expired"),
                "{}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn a_link_for_more_than_a_week_or_for_no_time_is_refused() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let longest = world.link("a.txt", 604_800).await;
    assert_eq!(world.fetch("GET", &longest, &[]).await.status, 200);
    for expires in ["604801", "0", "-1", "+60", "", "4294967297", "60.5"] {
        let link = longest.replace("X-Amz-Expires=604800", &format!("X-Amz-Expires={expires}"));
        assert_ne!(link, longest);
        let answer = world.fetch("GET", &link, &[]).await;
        assert_eq!(
            answer.verdict(),
            (400, "AuthorizationQueryParametersError"),
            "{expires}"
        );
    }
}

#[tokio::test]
async fn a_signature_for_another_region_or_secret_or_key_is_refused() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let address = world.endpoint.address();
    for (client, in_header, in_query) in [
        (
            client_of(address, "AKIDONE", "secret of AKIDONE", "us-east-1"),
            "AuthorizationHeaderMalformed",
            (400, "AuthorizationQueryParametersError"),
        ),
        (
            client_of(address, "AKIDONE", "guess", REGION),
            "SignatureDoesNotMatch",
            (403, "SignatureDoesNotMatch"),
        ),
        (
            client_of(address, "AKIDTWO", "secret of AKIDONE", REGION),
            "InvalidAccessKeyId",
            (403, "InvalidAccessKeyId"),
        ),
    ] {
        let get = client.get_object().bucket(BUCKET).key("a.txt");
        assert_eq!(code(&get.clone().send().await.unwrap_err()), in_header);
        let link = get
            .presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap())
            .await
            .unwrap();
        assert_eq!(
            world
                .fetch("GET", &world.target(link.uri()), &[])
                .await
                .verdict(),
            in_query
        );
    }
}

#[tokio::test]
async fn the_access_key_decides_which_site_is_seen() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_bucket(one.path(), BUCKET).unwrap();
    create_bucket(two.path(), "another").unwrap();
    fs::write(one.path().join("reports/a.txt"), "one").unwrap();
    let endpoint = start(vec![
        site("AKIDONE", one.path()),
        site("AKIDTWO", two.path()),
    ])
    .await;
    let buckets = async |key: &str| {
        let output = client(endpoint.address(), key)
            .list_buckets()
            .send()
            .await
            .unwrap();
        output
            .buckets()
            .iter()
            .map(|bucket| bucket.name().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(buckets("AKIDONE").await, ["reports"]);
    assert_eq!(buckets("AKIDTWO").await, ["another"]);
    let two = client(endpoint.address(), "AKIDTWO");
    let error = two
        .get_object()
        .bucket(BUCKET)
        .key("a.txt")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
    assert!(two.head_bucket().bucket("another").send().await.is_ok());
    assert!(two.head_bucket().bucket(BUCKET).send().await.is_err());
}

#[tokio::test]
async fn what_is_not_served_says_so_and_does_nothing() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let client = &world.client;
    let copy = client
        .copy_object()
        .bucket(BUCKET)
        .key("b.txt")
        .copy_source("reports/a.txt")
        .send()
        .await;
    assert_eq!(code(&copy.unwrap_err()), "NotImplemented");
    let delete = client
        .delete_object()
        .bucket(BUCKET)
        .key("a.txt")
        .send()
        .await;
    assert_eq!(code(&delete.unwrap_err()), "NotImplemented");
    let multipart = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("b.txt")
        .send()
        .await;
    assert_eq!(code(&multipart.unwrap_err()), "NotImplemented");
    assert_eq!(
        code(
            &client
                .create_bucket()
                .bucket("new")
                .send()
                .await
                .unwrap_err()
        ),
        "NotImplemented"
    );
    assert_eq!(
        code(
            &client
                .get_object_acl()
                .bucket(BUCKET)
                .key("a.txt")
                .send()
                .await
                .unwrap_err()
        ),
        "NotImplemented"
    );
    let tagged = client
        .put_object()
        .bucket(BUCKET)
        .key("b.txt")
        .tagging("a=b")
        .send()
        .await;
    assert_eq!(code(&tagged.unwrap_err()), "NotImplemented");
    assert_eq!(world.list().await, ["a.txt"]);
}

// ── Reading ──

#[tokio::test]
async fn a_range_is_a_part_with_its_place() {
    let world = World::new().await;
    world.put("a.txt", "0123456789").await;
    world.put("empty", "").await;
    let link = world.link("a.txt", 60).await;
    for (range, expected) in [
        ("bytes=0-0", (206, "0", "bytes 0-0/10")),
        ("bytes=3-5", (206, "345", "bytes 3-5/10")),
        ("bytes=7-", (206, "789", "bytes 7-9/10")),
        ("bytes=-2", (206, "89", "bytes 8-9/10")),
        ("bytes=5-99", (206, "56789", "bytes 5-9/10")),
        ("bytes=-99", (206, "0123456789", "bytes 0-9/10")),
    ] {
        let answer = world
            .fetch("GET", &link, &[&format!("Range: {range}")])
            .await;
        assert_eq!(
            (
                answer.status,
                answer.body.as_str(),
                answer.header("content-range")
            ),
            expected,
            "{range}"
        );
        assert_eq!(
            answer.header("content-length"),
            answer.body.len().to_string()
        );
    }
    let empty = world.link("empty", 60).await;
    // The last bytes of nothing are all that there is (RFC 9110, section 14.1.2), and S3 sends the object.
    let whole = world.fetch("GET", &empty, &["Range: bytes=-5"]).await;
    assert_eq!((whole.status, whole.body.as_str()), (200, ""));
    for (link, range) in [
        (&link, "bytes=10-"),
        (&link, "bytes=-0"),
        (&empty, "bytes=0-"),
        (&empty, "bytes=-0"),
    ] {
        let answer = world
            .fetch("GET", link, &[&format!("Range: {range}")])
            .await;
        assert_eq!(answer.verdict(), (416, "InvalidRange"), "{range}");
        assert!(answer.header("content-range").starts_with("bytes */"));
    }
}

#[tokio::test]
async fn a_range_of_another_version_becomes_the_whole() {
    let world = World::new().await;
    world.put("a.txt", "0123456789").await;
    let link = world.link("a.txt", 60).await;
    let etag = world
        .fetch("GET", &link, &[])
        .await
        .header("etag")
        .to_owned();
    let range = "Range: bytes=0-1";
    assert_eq!(
        world
            .fetch("GET", &link, &[range, &format!("If-Range: {etag}")])
            .await
            .body,
        "01"
    );
    world.put("a.txt", "abcdefghij").await;
    assert_eq!(
        world
            .fetch("GET", &link, &[range, &format!("If-Range: {etag}")])
            .await
            .body,
        "abcdefghij"
    );
}

#[tokio::test]
async fn a_condition_is_held_against_the_version() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let link = world.link("a.txt", 60).await;
    let first = world.fetch("GET", &link, &[]).await;
    let (etag, modified) = (first.header("etag"), first.header("last-modified"));
    for (condition, status) in [
        (format!("If-None-Match: {etag}"), 304),
        ("If-None-Match: \"other\"".to_owned(), 200),
        (format!("If-Match: {etag}"), 200),
        ("If-Match: \"other\"".to_owned(), 412),
        (format!("If-Modified-Since: {modified}"), 304),
        (
            "If-Modified-Since: Tue, 29 Apr 2014 18:30:38 GMT".to_owned(),
            200,
        ),
        (
            "If-Unmodified-Since: Tue, 29 Apr 2014 18:30:38 GMT".to_owned(),
            412,
        ),
    ] {
        assert_eq!(
            world.fetch("GET", &link, &[&condition]).await.status,
            status,
            "{condition}"
        );
    }
}

#[tokio::test]
async fn a_link_may_override_the_headers_of_whole_and_part() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let link = (world.client.get_object().bucket(BUCKET).key("a.txt"))
        .response_content_type("application/pdf")
        .response_content_language("de")
        .response_cache_control("no-store")
        .response_content_disposition(
            "attachment; filename=\"a b.pdf\"; filename*=UTF-8''%C3%A4.pdf",
        )
        .response_content_encoding("identity")
        .response_expires(aws_sdk_s3::primitives::DateTime::from_secs(1_790_000_000))
        .presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap())
        .await
        .unwrap();
    let target = world.target(link.uri());
    for (headers, status) in [(vec![], 200), (vec!["Range: bytes=0-1"], 206)] {
        let answer = world.fetch("GET", &target, &headers).await;
        assert_eq!(answer.status, status);
        for (name, value) in [
            ("content-type", "application/pdf"),
            ("content-language", "de"),
            ("cache-control", "no-store"),
            (
                "content-disposition",
                "attachment; filename=\"a b.pdf\"; filename*=UTF-8''%C3%A4.pdf",
            ),
            ("content-encoding", "identity"),
            ("expires", "Mon, 21 Sep 2026 14:13:20 GMT"),
        ] {
            assert_eq!(answer.header(name), value);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    world.drop_file("a/b", "text");
    for key in [
        "x", "a", "a/", "a/b/", "a/b/c", "a//b", "/a/b", "./a/b", "a/../a/b", "A/b",
    ] {
        assert_eq!(world.get(key).await, Err("NoSuchKey".to_owned()), "{key}");
    }
}

#[tokio::test]
async fn a_large_object_arrives_whole() {
    let world = World::new().await;
    let bytes: Vec<u8> = (0..5_000_001_u32)
        .map(|i| u8::try_from(i * 7 % 251).unwrap())
        .collect();
    world
        .client
        .put_object()
        .bucket(BUCKET)
        .key("large")
        .body(bytes.clone().into())
        .send()
        .await
        .unwrap();
    let output = world
        .client
        .get_object()
        .bucket(BUCKET)
        .key("large")
        .send()
        .await
        .unwrap();
    assert_eq!(output.content_length(), Some(5_000_001));
    assert!(output.body.collect().await.unwrap().to_vec() == bytes);
    let tail = world
        .client
        .get_object()
        .bucket(BUCKET)
        .key("large")
        .range("bytes=4999990-")
        .send()
        .await
        .unwrap();
    assert_eq!(
        tail.body.collect().await.unwrap().to_vec(),
        &bytes[4_999_990..]
    );
}

// ── Writing ──

#[tokio::test]
async fn an_object_keeps_its_headers() {
    let world = World::new().await;
    let expires = aws_sdk_s3::primitives::DateTime::from_secs(1_790_000_000);
    (world
        .client
        .put_object()
        .bucket(BUCKET)
        .key("a")
        .body(ByteStream::from_static(b"text")))
    .content_type("text/x-report")
    .content_encoding("gzip")
    .content_disposition("inline")
    .content_language("de")
    .cache_control("max-age=60")
    .expires(expires)
    .metadata("customer", "ACME")
    .send()
    .await
    .unwrap();
    let head = world
        .client
        .head_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_type(), Some("text/x-report"));
    assert_eq!(head.content_encoding(), Some("gzip"));
    assert_eq!(head.content_disposition(), Some("inline"));
    assert_eq!(head.content_language(), Some("de"));
    assert_eq!(head.cache_control(), Some("max-age=60"));
    assert_eq!(head.expires_string(), Some("Mon, 21 Sep 2026 14:13:20 GMT"));
    assert_eq!(head.metadata().unwrap()["customer"], "ACME");
    assert_eq!(head.content_length(), Some(4));

    // Another file under that name is another object: nothing is left of the first.
    world.put("a", "text").await;
    let head = world
        .client
        .head_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.content_language(), head.metadata().unwrap().len()),
        (None, 0)
    );
    world.drop_file("a", "by hand");
    let head = world
        .client
        .head_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_type(), Some("application/octet-stream"));
}

#[tokio::test]
async fn a_new_content_has_a_new_etag_and_every_answer_gives_the_same() {
    let world = World::new().await;
    let mut seen = BTreeSet::new();
    for text in ["one", "two", "six", "ten"].repeat(10) {
        let body = ByteStream::from_static(text.as_bytes());
        let put = world
            .client
            .put_object()
            .bucket(BUCKET)
            .key("a")
            .body(body)
            .send()
            .await
            .unwrap();
        let etag = put.e_tag().unwrap().to_owned();
        let head = world
            .client
            .head_object()
            .bucket(BUCKET)
            .key("a")
            .send()
            .await
            .unwrap();
        let list = world
            .client
            .list_objects_v2()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap();
        assert_eq!(head.e_tag(), Some(etag.as_str()));
        assert_eq!(list.contents()[0].e_tag(), Some(etag.as_str()));
        assert_eq!(list.contents()[0].size(), Some(3));
        assert_eq!(list.contents()[0].last_modified(), head.last_modified());
        assert!(seen.insert(etag), "an ETag came back");
    }
}

#[tokio::test]
async fn of_twelve_who_create_one_wins() {
    let world = World::new().await;
    for key in ["new", "folder/new", "%~..", "../new"] {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..12 {
            let client = world.client.clone();
            writers.spawn(async move {
                let text = format!("writer {writer}");
                let put = client
                    .put_object()
                    .bucket(BUCKET)
                    .key(key)
                    .body(text.clone().into_bytes().into());
                put.metadata("writer", text.clone())
                    .if_none_match("*")
                    .send()
                    .await
                    .map(|_| text)
                    .map_err(|e| code(&e))
            });
        }
        let outcomes = writers.join_all().await;
        let winners: Vec<&String> = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().ok())
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(
            outcomes
                .iter()
                .filter(|outcome| **outcome == Err("PreconditionFailed".to_owned()))
                .count(),
            11
        );
        let object = world
            .client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
        assert_eq!(&object.metadata().unwrap()["writer"], winners[0]);
        assert_eq!(
            object.body.collect().await.unwrap().to_vec(),
            winners[0].as_bytes()
        );
    }
    let rest = fs::read_dir(world.path(".handout/drafts")).unwrap().count();
    assert_eq!(rest, 0, "drafts of the losers are removed");
}

#[tokio::test]
async fn of_twelve_who_replace_a_version_one_wins() {
    let world = World::new().await;
    let put = || {
        world
            .client
            .put_object()
            .bucket(BUCKET)
            .key("a")
            .body(ByteStream::from_static(b"text"))
    };
    assert_eq!(
        code(&put().if_match("\"none\"").send().await.unwrap_err()),
        "NoSuchKey"
    );
    let etag = put().send().await.unwrap().e_tag().unwrap().to_owned();
    assert_eq!(
        code(&put().if_match("\"other\"").send().await.unwrap_err()),
        "PreconditionFailed"
    );
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..12 {
        writers.spawn(put().if_match(&etag).send());
    }
    let winners = writers
        .join_all()
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_is_refused() {
    let world = World::new().await;
    let put = || {
        world
            .client
            .put_object()
            .bucket(BUCKET)
            .key("a")
            .body(ByteStream::from_static(b"text"))
    };
    let wrong_md5 = "AAAAAAAAAAAAAAAAAAAAAA==";
    assert_eq!(
        code(&put().content_md5(wrong_md5).send().await.unwrap_err()),
        "BadDigest"
    );
    assert_eq!(
        code(&put().checksum_crc32("AAAAAA==").send().await.unwrap_err()),
        "BadDigest"
    );
    assert_eq!(
        code(&put().checksum_sha256("AAAA").send().await.unwrap_err()),
        "BadDigest"
    );
    assert_eq!(world.list().await, Vec::<String>::new());
    // The MD5 of "text".
    put()
        .content_md5("HLJHnXvyY0eInKdBJgQ5vQ==")
        .send()
        .await
        .unwrap_err();
    for algorithm in ChecksumAlgorithm::values() {
        if let Err(error) = put()
            .checksum_algorithm(ChecksumAlgorithm::from(*algorithm))
            .send()
            .await
        {
            // The SDK cannot compute the newest ones.
            assert_eq!(code(&error), "no answer", "{algorithm}");
        }
    }
    assert_eq!(world.get("a").await.as_deref(), Ok("text"));
}

#[tokio::test]
async fn a_streamed_body_is_unwrapped_and_verified() {
    let world = World::new().await;
    let source = world.site.path().join("source");
    fs::write(&source, "streamed ".repeat(50_000)).unwrap();
    let body = ByteStream::from_path(&source).await.unwrap();
    let put = world
        .client
        .put_object()
        .bucket(BUCKET)
        .key("a")
        .body(body)
        .checksum_algorithm(ChecksumAlgorithm::Crc32C);
    let output = put.send().await.unwrap();
    assert!(output.checksum_crc32_c().is_some());
    assert_eq!(world.get("a").await.unwrap(), "streamed ".repeat(50_000));
    let head = world
        .client
        .head_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.content_encoding(),
        None,
        "aws-chunked is how it travelled"
    );
}

#[tokio::test]
async fn a_missing_bucket_is_not_made() {
    let world = World::new().await;
    let put = world
        .client
        .put_object()
        .bucket("missing")
        .key("a")
        .body(ByteStream::from_static(b"text"));
    assert_eq!(code(&put.send().await.unwrap_err()), "NoSuchBucket");
    assert!(!world.site.path().join("missing").exists());
    assert_eq!(
        code(
            &world
                .client
                .list_objects_v2()
                .bucket("missing")
                .send()
                .await
                .unwrap_err()
        ),
        "NoSuchBucket"
    );
}

// ── Keys ──

#[rustfmt::skip]
fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain", "a", "a/b", "a/", "a//", "a//b", "/", "//", "/a", "/a/", ".", "..", "./", "../",
        "../x", "../../../etc/passwd", "a/../b", "a/./b", "a/..", "a/b/c", "a-b", "a0", "%", "%2F",
        "a%2Fb", "a%252Fb", "%25", "%00", "%~", "%~..", "%~%25~..", "%=a", "%+", "+", "a+b", "a b",
        " leading", "trailing ", "&=?#;", "\\", "..\\x", "a\\b", "\u{1}", "line\nbreak", "tab\t",
        "\u{7f}", "nul\0", "\0", "\u{1F4C4}.pdf", "\u{e9}", "e\u{301}", ".handout",
        ".handout/drafts/x", "a/.handout", ".handout2", "<b>&amp;\"'", "-rf", "~", "con", "C:",
        "a:b", "*", "\u{feff}", "\u{202e}fdp.exe", "\u{ffff}", "\r\n.",
    ]
    .map(str::to_owned)
    .into();
    keys.extend([255, 256, 510, 1024].map(|length| "n".repeat(length)));
    keys.extend([
        "\u{1F4C4}".repeat(256),
        "/".repeat(1024),
        "%".repeat(1024),
        "../".repeat(341),
        "a/".repeat(512),
        "\u{1}".repeat(1024),
    ]);
    keys.push(format!("{}/under", "n".repeat(300)));
    keys.push("n".repeat(300));
    keys
}

#[tokio::test]
async fn every_legal_key_can_be_written_read_listed_and_linked() {
    let world = World::new().await;
    let before: BTreeSet<PathBuf> = outside(&world);
    let mut keys = hostile_keys();
    // Folders before files, and then the other way round, as far as the order of the list does not say.
    for round in ["first", "second"] {
        for key in &keys {
            world.put(key, &format!("{round} {key}")).await;
        }
        for key in &keys {
            assert_eq!(
                world.get(key).await,
                Ok(format!("{round} {key}")),
                "{key:?}"
            );
            let link = world.link(key, 60).await;
            assert_eq!(
                world.fetch("GET", &link, &[]).await.body,
                format!("{round} {key}"),
                "{key:?}"
            );
        }
        keys.reverse();
    }
    let sorted: BTreeSet<String> = keys.into_iter().collect();
    assert_eq!(world.list().await, sorted.into_iter().collect::<Vec<_>>());
    assert_eq!(
        outside(&world),
        before,
        "nothing was written outside of the bucket"
    );
}

/// What lies around the bucket, a few folders up.
fn outside(world: &World) -> BTreeSet<PathBuf> {
    fs::read_dir(world.site.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[tokio::test]
async fn a_key_too_long_is_refused() {
    let world = World::new().await;
    let put = world
        .client
        .put_object()
        .bucket(BUCKET)
        .key("n".repeat(1025))
        .body(ByteStream::from_static(b"text"));
    assert_eq!(code(&put.send().await.unwrap_err()), "KeyTooLongError");
}

#[tokio::test]
async fn a_key_and_a_key_below_it_live_together_in_either_order() {
    let world = World::new().await;
    world.drop_file("x", "file by hand");
    world.put("x/y", "below").await;
    world.put("z/y", "below").await;
    world.put("z", "file").await;
    world.put("z", "file again").await;
    assert_eq!(world.list().await, ["x", "x/y", "z", "z/y"]);
    assert_eq!(world.get("x").await.as_deref(), Ok("file by hand"));
    assert_eq!(world.get("z").await.as_deref(), Ok("file again"));
    assert_eq!(fs::read_to_string(world.path("x/y")).unwrap(), "below");
    let create = world
        .client
        .put_object()
        .bucket(BUCKET)
        .key("x")
        .if_none_match("*")
        .send()
        .await;
    assert_eq!(code(&create.unwrap_err()), "PreconditionFailed");
}

#[tokio::test]
async fn files_dropped_by_hand_have_the_key_that_one_reads() {
    let world = World::new().await;
    let names = [
        "100% done.pdf",
        "report%20x.pdf",
        "a%2Fb.pdf",
        "%~notes",
        "%25",
        "%",
        "a\\b",
        "line\nbreak",
        "sub/folder/e\u{301}.txt",
        ".hidden",
        "n\u{e9}",
        "%~%25",
        "%00x",
    ];
    for name in names {
        world.drop_file(name, name);
    }
    fs::create_dir_all(world.path("empty/folder")).unwrap();
    world.drop_file("sub/.handout/x", "not an object");
    assert_eq!(
        world.list().await,
        names
            .map(str::to_owned)
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    for name in names {
        assert_eq!(world.get(name).await.as_deref(), Ok(name));
    }
    assert_eq!(
        world.get("sub/.handout/x").await,
        Err("NoSuchKey".to_owned())
    );
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let world = World::new().await;
    let secret = world.site.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("file"), "elsewhere").unwrap();
    world.drop_file("inside", "inside");
    symlink(&secret, world.path("link")).unwrap();
    symlink(other.path(), world.path("folder")).unwrap();
    symlink(world.path("inside"), world.path("alias")).unwrap();
    symlink(".", world.path("loop")).unwrap();
    symlink(other.path(), world.site.path().join("linked-bucket")).unwrap();
    for key in ["link", "folder/file", "alias", "loop/inside", "folder"] {
        assert_eq!(world.get(key).await, Err("NoSuchKey".to_owned()), "{key}");
    }
    assert_eq!(world.list().await, ["inside"]);
    assert_eq!(
        world.pages("folder/", None, None, 1000).await,
        (vec![], vec![])
    );
    assert!(
        world
            .client
            .head_bucket()
            .bucket("linked-bucket")
            .send()
            .await
            .is_err()
    );
    for key in ["link", "folder/new", "folder"] {
        let put = world
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(ByteStream::from_static(b"text"));
        assert_eq!(
            code(&put.send().await.unwrap_err()),
            "AccessDenied",
            "{key}"
        );
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
}

/// An error of the server would stop the daemon's other jobs: it would be taken for an outage.
#[tokio::test]
async fn what_another_user_closed_in_a_bucket_is_denied_and_no_error_of_the_server() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        return; // Nothing is closed to root.
    }
    let world = World::new().await;
    world.drop_file("open/file", "open");
    world.drop_file("closed/file", "closed");
    world.drop_file("file", "closed");
    let close = |place: &str, mode| {
        fs::set_permissions(world.path(place), PermissionsExt::from_mode(mode)).unwrap();
    };
    close("closed", 0o000);
    close("file", 0o000);
    for key in ["closed/file", "file"] {
        assert_eq!(
            world.get(key).await,
            Err("AccessDenied".to_owned()),
            "{key}"
        );
    }
    let list = world.client.list_objects_v2().bucket(BUCKET);
    assert_eq!(code(&list.send().await.unwrap_err()), "AccessDenied");
    assert_eq!(world.get("open/file").await.unwrap(), "open");
    close("closed", 0o700);
}

// ── Listing ──

#[tokio::test]
async fn a_listing_is_in_the_order_of_the_whole_key() {
    let world = World::new().await;
    for key in [
        "a/b",
        "a0",
        "a-b",
        "a",
        "b/",
        "B",
        "\u{1F600}",
        "\u{ff5e}",
        "a/b/c",
        "a/b-c",
    ] {
        world.put(key, "").await;
    }
    assert_eq!(
        world.list().await,
        [
            "B",
            "a",
            "a-b",
            "a/b",
            "a/b-c",
            "a/b/c",
            "a0",
            "b/",
            "\u{ff5e}",
            "\u{1F600}"
        ]
    );
}

/// The listing of S3, in the simplest words.
fn model(
    keys: &BTreeSet<String>,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut groups) = (Vec::new(), Vec::new());
    for key in keys {
        let Some(rest) = key.strip_prefix(prefix) else {
            continue;
        };
        if after.is_some_and(|after| key.as_str() <= after) {
            continue;
        }
        match delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len())) {
            Some(end) => groups.push(key[..prefix.len() + end].to_owned()),
            None => objects.push(key.clone()),
        }
    }
    groups.dedup();
    (objects, groups)
}

#[tokio::test]
async fn pages_of_any_size_are_the_listing_of_the_model() {
    let world = World::new().await;
    let mut keys: BTreeSet<String> = hostile_keys()
        .into_iter()
        .filter(|key| key.len() < 600)
        .collect();
    for first in ["a", "b", "a-", "a0", ""] {
        for second in ["a", "-", "0", "", "%"] {
            keys.extend([
                format!("{first}/{second}"),
                format!("{first}/{second}/x"),
                format!("m{first}-{second}"),
            ]);
        }
    }
    for key in &keys {
        world.put(key, "").await;
    }
    for prefix in ["", "a/", "..", &"n".repeat(300)] {
        for delimiter in [None, Some("/")] {
            for (after, size) in [(None, 7), (None, 1000), (Some("a/a"), 3), (Some("zzz"), 1)] {
                let expected = model(&keys, prefix, delimiter, after);
                let found = world.pages(prefix, delimiter, after, size).await;
                assert_eq!(found, expected, "{prefix:?} {delimiter:?} {after:?} {size}");
            }
        }
    }
}

#[tokio::test]
async fn a_folder_with_more_names_than_a_page_is_listed_in_order() {
    let world = World::new().await;
    let keys: BTreeSet<String> = (0..2500)
        .map(|i| format!("flat/{:04x}", i * 7919 % 65536))
        .collect();
    for key in &keys {
        world.drop_file(key, "");
    }
    for folder in 0..1500 {
        fs::create_dir_all(world.path(&format!("empty/{folder}"))).unwrap();
    }
    assert_eq!(world.list().await, keys.into_iter().collect::<Vec<_>>());
    assert_eq!(
        world.pages("", Some("/"), None, 1).await,
        (vec![], vec!["flat/".to_owned()])
    );
}

#[tokio::test]
async fn a_listing_without_url_encoding_is_plain() {
    let world = World::new().await;
    for key in ["a b+c%20", "\u{e9}<&>\"'"] {
        world.put(key, "").await;
    }
    let page = world
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let keys: Vec<&str> = page
        .contents()
        .iter()
        .filter_map(|object| object.key())
        .collect();
    assert_eq!(keys, ["a b+c%20", "\u{e9}<&>\"'"]);
    let error = world
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .continuation_token("forged")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidArgument");
    let none = world
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .max_keys(0)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (none.contents().len(), none.is_truncated()),
        (0, Some(false))
    );
}

// ── The endpoint ──

#[tokio::test]
async fn an_endpoint_that_cannot_start_says_what_to_do() {
    let world = World::new().await;
    let address = world.endpoint.address();
    let error = Endpoint::start(address, vec![]).await.unwrap_err();
    assert!(matches!(error, EndpointError::AddressInUse { .. }));
    assert!(
        error
            .to_string()
            .starts_with(&format!("{address} is in use by another program"))
    );
    let any = "127.0.0.1:0".parse().unwrap();
    let missing = Endpoint::start(any, vec![site("AKIDONE", Path::new("/nowhere"))])
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("\"/nowhere\""));
    let twice = vec![
        site("AKIDONE", world.site.path()),
        site("AKIDONE", world.site.path()),
    ];
    assert!(matches!(
        Endpoint::start(any, twice).await,
        Err(EndpointError::SharedAccessKey { .. })
    ));
}

#[tokio::test]
async fn a_secret_is_not_printed() {
    let text = format!("{:?}", site("AKIDONE", Path::new("/srv")));
    assert!(text.contains("AKIDONE") && !text.contains("secret of"));
}

/// s3s logs whole requests, so what runs inside of it must not reach the log; what we have to say must.
#[tokio::test]
async fn a_link_is_in_no_log_and_a_failure_is() {
    let (log, _guard) = Log::of_thread(tracing::Level::TRACE);
    let world = World::new().await;
    world.drop_file("a", "text");
    let link = world.link("a", 60).await;
    fs::write(world.path(".handout"), "in the way").unwrap();
    let put = world.client.put_object().bucket(BUCKET).key("b");
    let put = put.presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap());
    let put = world.target(put.await.unwrap().uri());
    log.clear();

    assert_eq!(world.fetch("GET", &link, &[]).await.status, 200);
    assert_eq!(
        world
            .fetch("GET", &link.replace("=60", "=61"), &[])
            .await
            .status,
        403
    );
    assert_eq!(
        world
            .fetch("PUT", &put, &["Content-Length: 0"])
            .await
            .status,
        403
    );
    let text = log.text();
    assert!(
        text.contains("the embedded endpoint could not begin an object"),
        "{text}"
    );
    assert!(!text.contains("Amz") && !text.contains("AKID"), "{text}");
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let world = World::new().await;
    world.put("a", "text").await;
    let link = world.link("a", 60).await;
    let mut stream = TcpStream::connect(world.endpoint.address()).await.unwrap();
    let request = format!(
        "GET {link} HTTP/1.1\r\nHost: {}\r\n\r\n",
        world.endpoint.address()
    );
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        while !bytes[..length].ends_with(b"text") {
            length += stream.read(&mut bytes[length..]).await.unwrap();
        }
        assert_eq!(Answer::parse(&bytes[..length]).status, 200);
    }
}

/// Opens connections, writes to each, and holds them open.
async fn held(address: SocketAddr, count: usize, text: &str) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // What was closed for others may refuse it.
        let _written = stream.write_all(text.as_bytes()).await;
        held.push(stream);
    }
    held
}

/// Whether the daemon's own requests and a new link are answered in five seconds.
async fn assert_answers(world: &World, link: &str, held: &str) {
    let answers = async {
        world.put("own.txt", "own").await;
        assert!(world.list().await.contains(&"own.txt".to_owned()));
        assert_eq!(world.fetch("GET", link, &[]).await.status, 200, "{held}");
    };
    let answered = tokio::time::timeout(Duration::from_secs(5), answers).await;
    assert!(answered.is_ok(), "nothing is answered beside {held}");
}

#[tokio::test]
async fn connections_that_are_held_open_keep_nobody_out() {
    let world = World::new().await;
    let address = world.endpoint.address();
    world.put("a.txt", "text").await;
    let link = world.link("a.txt", 600).await;
    let refused = format!("GET /reports/a.txt HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let served = format!("GET {link} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    for (what, text) in [
        ("silent ones", ""),
        ("half a line", "GET /rep"),
        ("half a head", "GET / HTTP/1.1\r\nHost: x\r\nX-A: "),
        ("refused requests", refused.as_str()),
        ("links that were served", served.as_str()),
    ] {
        let held = held(address, 300, text).await;
        assert_answers(&world, &link, what).await;
        drop(held);
    }
}

#[tokio::test]
async fn a_refused_request_ends_its_connection() {
    let world = World::new().await;
    let address = world.endpoint.address();
    world.put("a.txt", "text").await;
    let link = world.link("a.txt", 600).await;
    let forged = link.replace("a.txt", "b.txt");
    for target in [
        "/reports/a.txt",
        "/",
        forged.as_str(),
        "/?X-Amz-Signature=x",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let mut stream = held(address, 1, &request).await.remove(0);
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
        ended.await.expect("the connection ends").unwrap();
        assert_eq!(
            Answer::parse(&answer).header("connection"),
            "close",
            "{target}"
        );
    }
}

#[tokio::test]
async fn downloads_that_stall_leave_room_for_the_daemon() {
    let world = World::new().await;
    let address = world.endpoint.address();
    world.put("large", &"x".repeat(20_000_000)).await;
    let link = world.link("large", 600).await;
    let request = format!("GET {link} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut stalled = held(address, 300, &request).await;
    for stream in &mut stalled {
        stream.readable().await.unwrap();
    }
    let own = async {
        world.put("own.txt", "own").await;
        assert_eq!(world.get("own.txt").await.unwrap(), "own");
    };
    let answered = tokio::time::timeout(Duration::from_secs(5), own).await;
    answered.expect("the daemon's requests have slots of their own");
    let refused = world.fetch("GET", &link, &[]).await;
    assert_eq!(refused.verdict(), (503, "SlowDown"));
    let small = world.link("own.txt", 600).await;
    let other = world.fetch("GET", &small, &[]).await;
    assert_eq!(other.status, 200, "one link keeps no other out");
    drop(stalled);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while world.fetch("GET", &link, &[]).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "slots come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_progress_and_takes_nothing_new() {
    let world = World::new().await;
    let address = world.endpoint.address();
    world.put("large", &"x".repeat(20_000_000)).await;
    let link = world.link("large", 60).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {link} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(world.endpoint.shutdown(Duration::from_secs(30)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(address).await.is_err());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > 19_999_000);
    tasks.join_all().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_longer_than_its_grace() {
    let world = World::new().await;
    let address = world.endpoint.address();
    world.put("large", &"x".repeat(20_000_000)).await;
    let link = world.link("large", 60).await;
    let mut stalled = TcpStream::connect(address).await.unwrap();
    stalled
        .write_all(format!("GET {link} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stalled.read_exact(&mut [0; 1000]).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    tokio::time::timeout(
        Duration::from_secs(5),
        world.endpoint.shutdown(Duration::from_millis(200)),
    )
    .await
    .unwrap();
    assert_eq!(idle.read(&mut [0; 10]).await.unwrap_or(0), 0);
}
