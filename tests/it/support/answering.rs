//! A server that answers with a given status, headers and body.

use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A bucket with one object.
pub(crate) const LISTING: &str = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a.pdf</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>";

/// An answer: its status line, further headers, its body.
pub(crate) type Answer = (&'static str, String, &'static str);

/// The requests that a server received, each with its head and its body.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// Answers every request as configured, and records the requests.
pub(crate) async fn answering(
    date: String,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (String, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let url = answering_raw(move |request| {
        let (status, headers, body) = answer(request);
        let length = body.len();
        seen.lock().unwrap().push(request.to_owned());
        Some(format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    })
    .await;
    (url, requests)
}

/// Answers every request with this text, and closes the connection; without a text, the request is never answered.
pub(crate) async fn answering_raw(
    answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    let serve = async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            connections.spawn(async move {
                match answer(&request(&mut stream).await) {
                    Some(text) => drop(stream.write_all(text.as_bytes()).await),
                    None => std::future::pending().await,
                }
            });
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(serve);
    url
}

/// Reads a request with its body.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").and_then(|length| length.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return text;
        }
    }
}

/// A header of a request.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim())
}

/// An instant in HTTP's format.
pub(crate) fn date(ahead: SignedDuration) -> String {
    let at = handout::clock::system().checked_add(ahead).unwrap();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
