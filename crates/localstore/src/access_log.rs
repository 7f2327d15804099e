//! An access log in the format of S3, so that reports of downloads work on one machine, too.
//!
//! A thread writes the lines, so that no answer waits for the disk. Like S3's, the log is best effort: lines that the disk cannot keep up
//! with are dropped. A signature is a secret that opens a file, so each line has stars in its place; S3's own logs have it in clear.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html>

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use directory::Directory;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HOST, HeaderMap, REFERER, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use jiff::Timestamp;
use presign::percent::push_query;
use s3s::Body;
use tokio::time::Instant;

use crate::bounds::{MAX_LOG_FILE_BYTES, MAX_LOG_LINES_WAITING};
use crate::claim::{SIGNATURE, now};

/// A handle that lines are handed to.
#[derive(Clone)]
pub(crate) struct AccessLog {
    lines: SyncSender<String>,
}

/// The thread that writes. It ends when the last [`AccessLog`] is gone.
pub(crate) struct AccessLogWriter(JoinHandle<()>);

impl AccessLogWriter {
    /// Waits until all lines are written.
    pub(crate) fn finish(self) {
        drop(self.0.join());
    }
}

impl AccessLog {
    /// Opens the log in a directory, which it creates for its owner alone.
    pub(crate) fn open(directory: &Path) -> io::Result<(Self, AccessLogWriter)> {
        let folder = Directory::make(directory, 0o700)?;
        let (lines, waiting) = sync_channel(MAX_LOG_LINES_WAITING);
        let files = LogFiles {
            folder,
            path: directory.to_owned(),
            open: None,
            told: false,
        };
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || files.write_all(&waiting))?;
        Ok((Self { lines }, AccessLogWriter(thread)))
    }

    fn write(&self, line: String) {
        // S3's log is best effort, too: an answer does not wait for the disk.
        drop(self.lines.try_send(line));
    }
}

/// The file that is written, and its successors.
struct LogFiles {
    folder: Directory,
    path: PathBuf,
    /// The file, the hour of its first line, and its length.
    open: Option<(File, i64, usize)>,
    /// Whether the operator was told that the disk fails.
    told: bool,
}

impl LogFiles {
    fn write_all(mut self, waiting: &Receiver<String>) {
        while let Ok(line) = waiting.recv() {
            match self.write(&line) {
                Ok(()) => self.told = false,
                Err(error) => {
                    self.open = None;
                    if !std::mem::replace(&mut self.told, true) {
                        let directory = self.path.display();
                        tracing::warn!(target: crate::LOG_TARGET, %error, %directory, "could not write the access log; its lines are dropped until the disk works");
                    }
                }
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let at = now();
        let hour = at.as_second().div_euclid(3600);
        if self
            .open
            .as_ref()
            .is_none_or(|(_, of, length)| *of != hour || *length > MAX_LOG_FILE_BYTES)
        {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let name = format!(
                "{}-{:016X}",
                at.strftime("%Y-%m-%d-%H-%M-%S"),
                u64::from_be_bytes(random)
            );
            self.open = Some((self.folder.create_new(&name, 0o600)?, hour, 0));
        }
        if let Some((file, _, length)) = &mut self.open {
            file.write_all(line.as_bytes())?;
            *length += line.len();
        }
        Ok(())
    }
}

/// A request that is being answered. Its line is written when the answer ends, however it ends.
pub(crate) struct LoggedRequest {
    log: AccessLog,
    at: Timestamp,
    began: Instant,
    address: IpAddr,
    method: Method,
    target: String,
    host: String,
    referer: String,
    user_agent: String,
    signed: &'static str,
    answer: Option<LoggedAnswer>,
    sent: u64,
}

struct LoggedAnswer {
    status: StatusCode,
    code: Option<String>,
    size: Option<u64>,
    turn_around: u128,
}

impl LoggedRequest {
    /// A request from `peer`. A proxy on this machine may name the client.
    pub(crate) fn new(log: &AccessLog, head: &Parts, peer: SocketAddr) -> Self {
        let text = |name| header(&head.headers, name);
        let forwarded = head
            .headers
            .get("x-forwarded-for")
            .and_then(|value| value.to_str().ok());
        let forwarded = forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
        let target = head
            .uri
            .path_and_query()
            .map_or("-", |target| target.as_str());
        let is_link = target.contains(SIGNATURE);
        Self {
            log: log.clone(),
            at: now(),
            began: Instant::now(),
            address: match forwarded {
                Some(client) if peer.ip().to_canonical().is_loopback() => client,
                _ => peer.ip().to_canonical(),
            },
            method: head.method.clone(),
            target: without_signature(target),
            host: text(HOST.as_str()),
            referer: text(REFERER.as_str()),
            user_agent: text(USER_AGENT.as_str()),
            signed: match is_link {
                true => "QueryString",
                false if head.headers.contains_key("authorization") => "AuthHeader",
                false => "-",
            },
            answer: None,
            sent: 0,
        }
    }

    /// Notes what is answered.
    pub(crate) fn answers(&mut self, response: &Response<Body>, code: Option<String>) {
        let text = |name| header(response.headers(), name);
        let range = text(CONTENT_RANGE.as_str());
        let whole = match response.status() {
            StatusCode::OK => text(CONTENT_LENGTH.as_str()).parse().ok(),
            _ => range
                .rsplit_once('/')
                .and_then(|(_, size)| size.parse().ok()),
        };
        self.answer = Some(LoggedAnswer {
            status: response.status(),
            code,
            size: whole,
            turn_around: self.began.elapsed().as_millis(),
        });
    }

    /// Counts bytes that were handed to the connection.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    fn line(&self) -> String {
        let mut random = [0; 24];
        // A double of the line would be dropped, so ids are of use although nothing else knows them.
        let _fails = getrandom::fill(&mut random);
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect::<String>()
        };
        let path = self.target.split('?').next().unwrap_or_default();
        let (bucket, key) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or_default();
        let resource = if key.is_empty() { "BUCKET" } else { "OBJECT" };
        let (status, code, size, turn_around) = match &self.answer {
            Some(answer) => (
                answer.status.as_u16().to_string(),
                answer.code.clone(),
                answer.size,
                answer.turn_around.to_string(),
            ),
            None => ("-".to_owned(), None, None, "-".to_owned()),
        };
        let is_good = self
            .answer
            .as_ref()
            .is_some_and(|answer| !answer.status.is_client_error());
        let requester = if is_good && self.signed != "-" {
            "handout"
        } else {
            "-"
        };
        let unknown = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        let number = |number: Option<u64>| {
            number.map_or_else(|| "-".to_owned(), |number| number.to_string())
        };
        format!(
            "handout {} [{}] {} {requester} {} REST.{}.{resource} {} \"{} {} HTTP/1.1\" {status} {} {} {} {} {turn_around} \"{}\" \"{}\" - {} SigV4 - {} {} - - - -\n",
            unknown(bucket),
            self.at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            self.address,
            hex(&random[..8]),
            self.method,
            unknown(&encoded(key)),
            self.method,
            self.target,
            unknown(code.as_deref().unwrap_or_default()),
            number(Some(self.sent).filter(|sent| *sent > 0)),
            number(size),
            self.began.elapsed().as_millis(),
            unknown(&self.referer),
            unknown(&self.user_agent),
            hex(&random[8..]),
            self.signed,
            unknown(&self.host),
        )
    }
}

impl Drop for LoggedRequest {
    fn drop(&mut self) {
        self.log.write(self.line());
    }
}

/// A header as a log has it: quotation marks stay, and what ends a line does not.
fn header(headers: &HeaderMap, name: &str) -> String {
    let value = headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value
        .unwrap_or_default()
        .replace(|c: char| c.is_control(), "?")
}

/// A key as S3 logs it, encoded once more than in its URL.
fn encoded(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for (index, part) in key.split('/').enumerate() {
        if index > 0 {
            text.push('/');
        }
        push_query(part, &mut text);
    }
    text
}

/// A target with stars in the place of its signature.
fn without_signature(target: &str) -> String {
    let mut text = String::with_capacity(target.len());
    let mut rest = target;
    while let Some(at) = rest.find(SIGNATURE) {
        let value = at + SIGNATURE.len();
        text.push_str(&rest[..value]);
        rest = &rest[value..];
        if let Some(after) = rest.strip_prefix('=') {
            let end = after.find('&').unwrap_or(after.len());
            text.push('=');
            text.extend(std::iter::repeat_n('*', after[..end].chars().count()));
            rest = &after[end..];
        }
    }
    text + rest
}

/// An access log that may be there, for each request.
pub(crate) type AccessLogSlot = Option<Arc<AccessLog>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_signature_and_is_one_line() {
        let target = "/b/k?X-Amz-Date=1&X-Amz-Signature=abcdef&x-handout=1";
        assert_eq!(
            without_signature(target),
            "/b/k?X-Amz-Date=1&X-Amz-Signature=******&x-handout=1"
        );
        assert_eq!(
            without_signature("/b/k?X-Amz-Signature=ab"),
            "/b/k?X-Amz-Signature=**"
        );
        assert_eq!(without_signature("/b/k"), "/b/k");
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let (log, writer) = AccessLog::open(&directory).unwrap();
        let (head, ()) = hyper::Request::get(target)
            .header("user-agent", "a \"b\" 200 -")
            .header("x-forwarded-for", "203.0.113.9, 198.51.100.7")
            .body(())
            .unwrap()
            .into_parts();
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut logged = LoggedRequest::new(&log, &head, peer);
        let response = Response::builder()
            .status(200)
            .header(CONTENT_LENGTH, 5)
            .body(Body::empty())
            .unwrap();
        logged.answers(&response, None);
        logged.sent(5);
        drop(logged);
        drop(log);
        writer.finish();
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        assert_eq!(files.len(), 1);
        let text = std::fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains("abcdef"), "{text}");
        for part in [
            " 198.51.100.7 handout ",
            " REST.GET.OBJECT k \"GET /b/k?",
            " HTTP/1.1\" 200 - 5 5 ",
            "\"a \"b\" 200 -\" - ",
            " SigV4 - QueryString - ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
