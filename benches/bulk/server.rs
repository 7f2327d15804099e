//! The parts of S3 that a job needs: a bucket with a generated listing, and a sink for uploads.

use std::convert::Infallible;
use std::fmt::Write;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The objects of a page.
const PAGE: u64 = 1000;

/// The prefix of all objects.
pub(crate) const PREFIX: &str = "exports/2026/";

/// A bucket with a number of objects and a delay for each answer.
struct Bucket {
    objects: u64,
    delay: Duration,
}

/// Serves until standard input is closed; prints `ready <port>` when it listens.
pub(crate) fn serve(objects: u64, delay_ms: u64) {
    let bucket = Arc::new(Bucket {
        objects,
        delay: Duration::from_millis(delay_ms),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::spawn(move || runtime.block_on(accept(bucket)));
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

async fn accept(bucket: Arc<Bucket>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("ready {}", listener.local_addr().unwrap().port());
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let bucket = Arc::clone(&bucket);
        connections.spawn(async move {
            let answer = service_fn(|request| bucket.answer(request));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            drop(served.await);
        });
    }
}

impl Bucket {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_listing = request.method() == Method::GET;
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        if !is_listing {
            let answer = Response::builder().header("etag", "\"0\"");
            return Ok(answer.body(Full::default()).unwrap());
        }
        tokio::time::sleep(self.delay).await;
        Ok(Response::new(Full::new(self.page(&query).into())))
    }

    /// The listing page after the query's position.
    fn page(&self, query: &str) -> String {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
        let from = match (value("continuation-token="), value("start-after=")) {
            (Some(token), _) => token.parse().unwrap(),
            (None, Some(key)) => self.first_after(&decoded(key)),
            (None, None) => 0,
        };
        let to = (from + PAGE).min(self.objects);
        let mut xml = String::with_capacity(512 * usize::try_from(to - from).unwrap() + 512);
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>acme-reports</Name>");
        write!(xml, "<Prefix>{PREFIX}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{PAGE}</MaxKeys><EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>", to - from, to < self.objects).unwrap();
        if to < self.objects {
            write!(xml, "<NextContinuationToken>{to}</NextContinuationToken>").unwrap();
        }
        for number in from..to {
            write!(
                xml,
                "<Contents><Key>{}</Key><LastModified>2026-11-23T05:12:{:02}.000Z</LastModified><ETag>&quot;{:032x}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                key(number),
                number % 60,
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                number * 17 % 9_000_000,
            )
            .unwrap();
        }
        xml.push_str("</ListBucketResult>");
        xml
    }

    /// The number of the first object whose key sorts after a text.
    fn first_after(&self, text: &str) -> u64 {
        let (mut low, mut high) = (0, self.objects);
        while low < high {
            let middle = low.midpoint(high);
            match key(middle).as_str() <= text {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:08}.jpg")
}

/// Decodes an escaped query parameter.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).unwrap()
}
