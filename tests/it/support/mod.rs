//! Common parts of the integration tests.

pub(crate) mod answering;
pub(crate) mod bad_relay;
pub(crate) mod docs;
pub(crate) mod faulty;
pub(crate) mod files;
pub(crate) mod hostile;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod portal;
pub(crate) mod servers;
pub(crate) mod world;
pub(crate) mod zips;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The timeout of a step in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test, as cargo built it.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_handout"))
}

/// Repeats `look` until it returns a value; panics after the timeout.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited too long for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The targets of all links and media of a page, unescaped.
pub(crate) fn hrefs(html: &str) -> Vec<String> {
    let values = ["href=\"", "src=\""]
        .into_iter()
        .flat_map(|attribute| html.split(attribute).skip(1));
    values
        .filter_map(|rest| rest.split('"').next())
        .filter(|value| value.starts_with("http"))
        .map(|value| {
            value
                .replace("&#x3D;", "=")
                .replace("&#x27;", "'")
                .replace("&amp;", "&")
        })
        .collect()
}

/// The id of a link, which its audit line has.
pub(crate) fn link_id(url: &str) -> &str {
    let (_, rest) = url.split_once("x-handout=").unwrap();
    rest.split('&').next().unwrap()
}

/// Fetches a URL over HTTP/1.1: status, headers and undecoded body.
pub(crate) async fn answer(url: &str) -> (u16, hyper::HeaderMap, Vec<u8>) {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::client::legacy::Client;
    let client =
        Client::builder(hyper_util::rt::TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let response = client.get(url.parse().unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    (head.status.as_u16(), head.headers, body)
}

/// Fetches a URL like a browser: status and decoded body.
pub(crate) async fn get(url: &str) -> (u16, Vec<u8>) {
    let (status, headers, body) = answer(url).await;
    let is_compressed = headers
        .get("content-encoding")
        .is_some_and(|it| it == "gzip");
    if !is_compressed {
        return (status, body);
    }
    (status, gunzipped(&body))
}

/// A text that was published to a bucket: pages are compressed there, manifests are not.
pub(crate) fn published_text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let text = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => gunzipped(&bytes),
        false => bytes,
    };
    String::from_utf8(text).unwrap()
}

fn gunzipped(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut whole)
        .unwrap();
    whole
}
