//! The URL of a server, and the URL of a bucket on it.
//!
//! A signature covers the host and the path that a client sends. URLs that a browser would normalize to another spelling are
//! therefore rejected.

use crate::percent::{decode, push_path};

/// The URL of a bucket: origin and path, without a key.
///
/// ```
/// use presign::{Addressing, BucketUrl};
///
/// # fn main() -> Result<(), presign::ServerUrlError> {
/// let url = BucketUrl::new("https://minio.example:9000", "reports", Addressing::Path)?;
/// assert_eq!(url.origin(), "https://minio.example:9000");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// `https://bucket.s3.eu-west-1.amazonaws.com`, the beginning of the URL.
    pub(crate) origin: String,
    /// The `Host` header that a client will send, without a port that is the scheme's own.
    pub(crate) host: String,
    /// `/`, or `/bucket/` in path style; preceded by the server's base path, if it has one.
    pub(crate) path: String,
}

/// How a URL names the bucket.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHost,
}

/// Why a server or a bucket has no URL that can be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// The URL lacks a scheme or host, or has more than a path after them.
    #[error(
        "{0:?} is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it"
    )]
    Form(String),
    /// Clients would normalize the path before they send it.
    #[error(
        "{0:?} has a path that clients would change: between single slashes write letters, digits, \"-\", \".\", \"_\", \"~\" and %XX, and no folder \".\" or \"..\""
    )]
    Path(String),
    /// The bucket's name is not valid in a URL without encoding.
    #[error("{0:?} is not the name of a bucket: write letters, digits, \"-\", \".\" and \"_\"")]
    Bucket(String),
}

/// The URL of a server: its scheme, host and port, and the path under which it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    scheme: &'static str,
    /// In lower case, with a port if there is one.
    authority: String,
    /// Empty, or `/storage/v1/s3`: without a slash at its end.
    path: String,
}

impl ServerUrl {
    /// Parses a URL such as `https://files.example:8443/storage/v1/s3`.
    ///
    /// # Errors
    /// The text is not the URL of a server, or clients would normalize it to another URL.
    pub fn parse(url: &str) -> Result<Self, ServerUrlError> {
        let refuse = || ServerUrlError::Form(shown(url));
        let (scheme, rest) = url.split_once("://").ok_or_else(refuse)?;
        let scheme = *[HTTP, HTTPS]
            .iter()
            .find(|known| **known == scheme)
            .ok_or_else(refuse)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // A browser sends the host in lower case, so the signature must cover that spelling; the case of a path is kept.
        let authority = authority.to_ascii_lowercase();
        let path = path.trim_end_matches('/');
        if !is_authority(&authority) || path.contains(['?', '#']) {
            return Err(refuse());
        }
        let mut spelled = String::new();
        for segment in path.split('/').skip(1) {
            let segment = decoded_segment(segment);
            let segment = segment.ok_or_else(|| ServerUrlError::Path(shown(url)))?;
            spelled.push('/');
            push_path(&segment, &mut spelled);
        }
        Ok(Self {
            scheme,
            authority,
            path: spelled,
        })
    }

    /// Scheme, host and port: `https://files.example:8443`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The host, without a port that is the scheme's own: what clients send as `Host`.
    pub fn host(&self) -> &str {
        without_default_port(self.scheme, &self.authority)
    }

    /// The path, without a slash at its end; empty if there is none.
    pub fn path(&self) -> &str {
        &self.path
    }
}

const HTTP: &str = "http";
const HTTPS: &str = "https";

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme == HTTP { ":80" } else { ":443" };
    authority.strip_suffix(port).unwrap_or(authority)
}

/// A URL for error messages: without user, password and query parameters.
fn shown(url: &str) -> String {
    let (url, query) = url
        .split_once('?')
        .map_or((url, ""), |(url, _)| (url, "?****"));
    let (scheme, place) = url.find("://").map_or(("", url), |at| url.split_at(at + 3));
    match place.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}****@{place}{query}"),
        None => format!("{url}{query}"),
    }
}

/// Decodes a path segment if all clients and servers interpret it alike: RFC 3986's unreserved characters and escapes only. Some
/// servers sign the decoded and re-encoded path, so it is re-encoded here too. Some treat an escaped slash as a separator;
/// browsers resolve `.` and `..`, escaped or not; proxies merge empty segments.
/// <https://url.spec.whatwg.org/#double-dot-path-segment>
fn decoded_segment(segment: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    if !segment.bytes().all(is_plain) {
        return None;
    }
    let decoded = decode(segment)?;
    let is_said_alike = !matches!(decoded.as_str(), "" | "." | "..") && !decoded.contains('/');
    is_said_alike.then_some(decoded)
}

impl BucketUrl {
    /// The URL of a bucket at an endpoint such as `https://s3.eu-west-1.amazonaws.com`.
    ///
    /// Path style is used where virtual-host style cannot work: for a bucket with a dot or capitals, which no certificate or host
    /// name covers, and for an IP address.
    ///
    /// # Errors
    /// The endpoint is not the URL of a server, or the bucket's name is not valid in a URL without encoding.
    pub fn new(
        endpoint: &str,
        bucket: &str,
        addressing: Addressing,
    ) -> Result<Self, ServerUrlError> {
        let ServerUrl {
            scheme,
            authority,
            path,
        } = ServerUrl::parse(endpoint)?;
        if !is_bucket(bucket) {
            return Err(ServerUrlError::Bucket(bucket.to_owned()));
        }
        let (authority, path) = match addressing.fits(&authority, bucket) {
            Addressing::VirtualHost => (format!("{bucket}.{authority}"), format!("{path}/")),
            Addressing::Path => (authority, format!("{path}/{bucket}/")),
        };
        Ok(Self {
            origin: format!("{scheme}://{authority}"),
            host: without_default_port(scheme, &authority).to_owned(),
            path,
        })
    }

    /// The scheme, host and port, such as `https://acme-reports.s3.eu-west-1.amazonaws.com`.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// Whether a bucket's name needs no encoding. Old buckets in `us-east-1` may have capitals and underscores.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn is_bucket(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !matches!(name, "" | "." | "..") && name.bytes().all(is_plain)
}

/// Whether every client sends this host and port unchanged. A spelling that browsers normalize (`:0443`, `ü`, `127.1`) would
/// differ from what was signed.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let is_port = |port: &str| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        is_number && port.parse::<u16>().is_ok()
    };
    port.is_none_or(is_port) && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        let parsed = address.parse::<std::net::Ipv6Addr>();
        return parsed.is_ok_and(|parsed| parsed.to_string() == address);
    }
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(is_plain)
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    host.split('.').all(is_label) && (!is_number || host.parse::<std::net::Ipv4Addr>().is_ok())
}

impl Addressing {
    /// The addressing of a setting such as `path_style` (AWS SDKs: `force_path_style`).
    pub const fn of(path_style: bool) -> Self {
        match path_style {
            true => Self::Path,
            false => Self::VirtualHost,
        }
    }

    /// Path style where virtual-host style cannot work: no wildcard certificate covers a bucket with a dot, no host name has
    /// capitals, underscores or more than 63 characters in a label, and an IP address has no subdomains.
    fn fits(self, authority: &str, bucket: &str) -> Self {
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let name = bucket.as_bytes();
        let is_label = (3..=63).contains(&name.len())
            && name.iter().all(|byte| is_plain(byte) || *byte == b'-')
            && [name.first(), name.last()]
                .into_iter()
                .flatten()
                .all(is_plain);
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        let is_ip = authority.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
        match self {
            Self::VirtualHost if is_label && !is_ip => Self::VirtualHost,
            Self::VirtualHost | Self::Path => Self::Path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_virtual_host_style_where_that_can_work() {
        let target = |endpoint: &str, bucket: &str, addressing| {
            let target = BucketUrl::new(endpoint, bucket, addressing).unwrap();
            format!("{}{} host={}", target.origin, target.path, target.host)
        };
        let table = [
            target(
                "https://s3.eu-west-1.amazonaws.com",
                "reports",
                Addressing::VirtualHost,
            ),
            target(
                "https://s3.eu-west-1.amazonaws.com",
                "my.reports",
                Addressing::VirtualHost,
            ),
            target(
                "https://s3.eu-west-1.amazonaws.com",
                "Reports_1",
                Addressing::VirtualHost,
            ),
            target("https://minio.example:9000/", "reports", Addressing::Path),
            target("http://127.0.0.1:9470", "reports", Addressing::VirtualHost),
            target("https://files.example:443", "reports", Addressing::Path),
            target("http://[::1]:9470", "reports", Addressing::VirtualHost),
            target("https://minio_1.example", "reports", Addressing::Path),
        ];
        insta::assert_snapshot!(table.join("\n"), @r"
        https://reports.s3.eu-west-1.amazonaws.com/ host=reports.s3.eu-west-1.amazonaws.com
        https://s3.eu-west-1.amazonaws.com/my.reports/ host=s3.eu-west-1.amazonaws.com
        https://s3.eu-west-1.amazonaws.com/Reports_1/ host=s3.eu-west-1.amazonaws.com
        https://minio.example:9000/reports/ host=minio.example:9000
        http://127.0.0.1:9470/reports/ host=127.0.0.1:9470
        https://files.example:443/reports/ host=files.example
        http://[::1]:9470/reports/ host=[::1]:9470
        https://minio_1.example/reports/ host=minio_1.example
        ");
        for endpoint in [
            "",
            "s3.amazonaws.com",
            "ftp://x",
            "https://",
            "https://u@x",
            "https://x?y",
            "https://münchen.example:99999x",
            "https://münchen.example",
            "https://x:",
            "https://x:0443",
            "https://x:99999",
            "https://x:+80",
            "https://x..y",
            "https://.x",
            "https://127.1",
            "https://1.2.3.4.5",
            "https://[::0001]",
            "https://[::1",
            "https://::1",
            "https://%31",
        ] {
            assert!(
                BucketUrl::new(endpoint, "reports", Addressing::Path).is_err(),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn a_bucket_that_would_need_encoding_is_refused() {
        for bucket in ["", ".", "..", "a/b", "a b", "a?b", "a#b", "a%2Fb", "ü"] {
            let url = BucketUrl::new("https://x.example", bucket, Addressing::Path);
            assert_eq!(
                url,
                Err(ServerUrlError::Bucket(bucket.to_owned())),
                "{bucket}"
            );
        }
    }

    #[test]
    fn a_server_below_a_path_keeps_it_in_the_links_that_it_signs() {
        let target = |endpoint: &str, addressing| {
            let target = BucketUrl::new(endpoint, "reports", addressing).unwrap();
            format!("{}{} host={}", target.origin, target.path, target.host)
        };
        let table = [
            target("http://127.0.0.1:9701/storage/v1/s3", Addressing::Path),
            target("https://X.example:443/Storage/V1/", Addressing::Path),
            target("https://x.example/a%20b/~c", Addressing::Path),
            target("https://x.example/%c3%bc/%41", Addressing::Path),
            target("https://x.example/s3//", Addressing::VirtualHost),
            target("http://[::1]:9470/s3", Addressing::VirtualHost),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        http://127.0.0.1:9701/storage/v1/s3/reports/ host=127.0.0.1:9701
        https://x.example:443/Storage/V1/reports/ host=x.example
        https://x.example/a%20b/~c/reports/ host=x.example
        https://x.example/%C3%BC/A/reports/ host=x.example
        https://reports.x.example/s3/ host=reports.x.example
        http://[::1]:9470/s3/reports/ host=[::1]:9470
        "#);
    }

    #[test]
    fn a_path_that_clients_would_change_is_refused_and_no_password_is_shown() {
        let said = |url: &str| ServerUrl::parse(url).unwrap_err().to_string();
        for path in [
            "//s3",
            "/a//b",
            "/.",
            "/a/../b",
            "/a/%2E%2e/b",
            "/.%2e",
            "/a b",
            "/a%2",
            "/a%2Fb",
            "/a%2f",
            "/%ff",
            "/a%zz",
            "/ü",
            "/a;b",
            "/a\\b",
        ] {
            let url = format!("https://x.example{path}");
            assert!(
                said(&url).contains("has a path that clients would change"),
                "{url}"
            );
        }
        let table = [
            said("https://ann:secret@x.example/s3"),
            said("ann:secret@x.example"),
            said("https://x.example/s3?token=secret"),
            said("https://x.example/s3#a"),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        "https://****@x.example/s3" is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it
        "****@x.example" is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it
        "https://x.example/s3?****" is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it
        "https://x.example/s3#a" is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it
        "#);
    }
}
