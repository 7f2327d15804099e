//! The proxy of a request, read from the environment as curl does: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`,
//! in upper or lower case. Where both are set, the lower-case variable counts.
//!
//! Requests to this machine and to the metadata services of a cloud never use a proxy.
//! <https://docs.aws.amazon.com/cli/v1/userguide/cli-configure-proxy.html>

use std::fmt;
use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::config_error::ConfigError;
use crate::environment::Environment;

/// The proxies of an environment.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// The hosts without a proxy: on one port, or on every port.
    without: Vec<(Option<u16>, Hosts)>,
}

/// A proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    /// Its URL, perhaps with a password, and the same for the HTTP client.
    url: Uri,
    config: ProxyConfig,
    /// The variable that names it.
    variable: &'static str,
}

/// The proxy without its password, and the variable that names it.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host().unwrap_or_default();
        write!(f, "the proxy {host}")?;
        if let Some(port) = self.url.port_u16() {
            write!(f, ":{port}")?;
        }
        write!(f, " ({})", self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxy {
    /// The proxy for the HTTP client, perhaps with a password.
    pub(super) const fn config(&self) -> &ProxyConfig {
        &self.config
    }
}

/// Which proxy a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyRoute {
    /// None.
    Direct,
    /// The proxy for `http://` hosts.
    Http,
    /// The proxy for `https://` hosts.
    Https,
}

impl ProxyRoute {
    /// The number of routes.
    pub(super) const COUNT: usize = 3;
}

/// The variables for `https://` hosts, in order of precedence.
const HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

impl Proxies {
    /// Reads the proxies of an environment.
    ///
    /// # Errors
    /// A variable whose value is not a supported proxy.
    pub(super) fn of(environment: &Environment) -> Result<Self, ConfigError> {
        // A CGI program gets the header `Proxy` of a request as HTTP_PROXY: <https://httpoxy.org>.
        let is_cgi = environment.get("REQUEST_METHOD").is_some();
        let find = |names: [&'static str; 4]| {
            let names = names.into_iter();
            let mut named = names.filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
            let found = named.find_map(|name| Some((name, environment.get(name)?)));
            found.map(|(name, value)| proxy(name, value)).transpose()
        };
        let without = ["no_proxy", "NO_PROXY"];
        let without = without.into_iter().find_map(|name| environment.get(name));
        Ok(Self {
            http: find(HTTP)?,
            https: find(HTTPS)?,
            without: without.map(exceptions).unwrap_or_default(),
        })
    }

    /// Each proxy with what it is for.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, &Proxy)> {
        let https = self.https.iter().map(|proxy| ("https", proxy));
        https.chain(self.http.iter().map(|proxy| ("http", proxy)))
    }

    /// The proxy of a route.
    pub(super) const fn on(&self, way: ProxyRoute) -> Option<&Proxy> {
        match way {
            ProxyRoute::Direct => None,
            ProxyRoute::Http => self.http.as_ref(),
            ProxyRoute::Https => self.https.as_ref(),
        }
    }

    /// The route of a request.
    pub(super) fn way(&self, uri: &str) -> ProxyRoute {
        if self.http.is_none() && self.https.is_none() {
            return ProxyRoute::Direct;
        }
        let Ok(uri) = uri.parse::<Uri>() else {
            return ProxyRoute::Direct;
        };
        let is_https = uri.scheme_str() == Some("https");
        let way = match is_https {
            true => ProxyRoute::Https,
            false => ProxyRoute::Http,
        };
        let usual = if is_https { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let is_of =
            |(on, hosts): &(Option<u16>, Hosts)| on.is_none_or(|on| on == port) && hosts.has(&uri);
        let host = uri.host().unwrap_or_default();
        match is_near(host) || self.without.iter().any(is_of) || self.on(way).is_none() {
            true => ProxyRoute::Direct,
            false => way,
        }
    }
}

fn proxy(variable: &'static str, value: &str) -> Result<Proxy, ConfigError> {
    // Not the value: it may have a password.
    let refused = || ConfigError::Variables {
        reason: format!(
            "{variable} names no proxy that can be spoken to: write http:// or https://, a host and a port"
        ),
    };
    let value = value.trim();
    let url = match value.contains("://") {
        true => value.parse::<Uri>(),
        false => format!("http://{value}").parse(),
    };
    let url = url.map_err(|_| refused())?;
    let config = ProxyConfig::all(url.clone()).map_err(|_| refused())?;
    Ok(Proxy {
        url,
        config,
        variable,
    })
}

/// Whether a host is this machine itself, or a metadata service of its cloud, which no proxy reaches.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
fn is_near(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    let is_named = |name: &str| host.eq_ignore_ascii_case(name);
    let is_below = host
        .len()
        .checked_sub(".localhost".len())
        .and_then(|at| host.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(".localhost"));
    if is_named("localhost") || is_below {
        return true;
    }
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            address.is_loopback() || address.is_unspecified() || address.is_link_local()
        }
        Ok(IpAddr::V6(address)) => {
            let metadata = address.segments()[..2] == [0xfd00, 0x0ec2];
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || metadata
        }
        Err(_) => false,
    }
}

/// Hosts that need no proxy.
struct Hosts(Matcher);

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Hosts {
    fn of(entries: &[String]) -> Self {
        // The matcher decides which hosts use a proxy; the URL of the proxy does not matter.
        let all = Matcher::builder().all("http://proxy.invalid");
        Self(all.no(entries.join(",")).build())
    }

    fn has(&self, uri: &Uri) -> bool {
        self.0.intercept(uri).is_none()
    }
}

/// The hosts of `NO_PROXY`: names with their subdomains, addresses and networks, each with an optional port; `*` is all.
fn exceptions(value: &str) -> Vec<(Option<u16>, Hosts)> {
    let entries = value.split([',', ' ', '\t']).map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    let (mut anywhere, mut on_ports) = (Vec::new(), Vec::new());
    for entry in entries {
        let (host, port) = match entry.rsplit_once(':') {
            // A colon in an IPv6 address without brackets does not begin a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok())
            }
            _ => (entry, None),
        };
        let host = host.trim_matches(['[', ']']);
        let host = host
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(host);
        match port {
            None => anywhere.push(host.to_owned()),
            Some(port) => on_ports.push((Some(port), Hosts::of(&[host.to_owned()]))),
        }
    }
    on_ports.push((None, Hosts::of(&anywhere)));
    on_ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies<const N: usize>(variables: [(&str, &str); N]) -> Proxies {
        Proxies::of(&Environment::of(variables)).unwrap()
    }

    #[test]
    fn this_machine_and_the_metadata_services_are_never_behind_a_proxy() {
        let proxies = proxies([("ALL_PROXY", "http://proxy.example:3128")]);
        for uri in [
            "http://127.0.0.1:9470/reports?list-type=2",
            "http://127.8.8.8/",
            "http://localhost:9000/",
            "http://reports.LOCALHOST:9000/",
            "https://[::1]:9000/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0:9000/",
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.170.2/v2/credentials",
            "http://[fd00:ec2::254]/latest/",
            "http://[fe80::1]/",
        ] {
            assert_eq!(proxies.way(uri), ProxyRoute::Direct, "{uri}");
        }
        for (uri, way) in [
            ("http://minio.internal:9000/", ProxyRoute::Http),
            ("https://s3.eu-west-1.amazonaws.com/", ProxyRoute::Https),
            ("https://notlocalhost/", ProxyRoute::Https),
            ("http://10.0.0.1:9000/", ProxyRoute::Http),
        ] {
            assert_eq!(proxies.way(uri), way, "{uri}");
        }
    }

    #[test]
    fn each_kind_of_host_has_its_proxy_and_small_letters_come_first() {
        let one = proxies([("HTTPS_PROXY", "proxy.example:3128"), ("https_proxy", "")]);
        assert_eq!(one.way("https://s3.example/"), ProxyRoute::Https);
        assert_eq!(one.way("http://s3.example/"), ProxyRoute::Direct);
        let named = |proxies: &Proxies, way| proxies.on(way).unwrap().to_string();
        assert_eq!(
            named(&one, ProxyRoute::Https),
            "the proxy proxy.example:3128 (HTTPS_PROXY)"
        );
        let both = proxies([
            ("https_proxy", "http://user:secret@small.example"),
            ("HTTPS_PROXY", "http://large.example"),
            ("all_proxy", "https://all.example:8443"),
        ]);
        assert_eq!(
            named(&both, ProxyRoute::Https),
            "the proxy small.example (https_proxy)"
        );
        assert_eq!(
            named(&both, ProxyRoute::Http),
            "the proxy all.example:8443 (all_proxy)"
        );
        assert!(!format!("{both:?}").contains("secret"));
        let cgi = proxies([
            ("HTTP_PROXY", "http://evil.example"),
            ("REQUEST_METHOD", "GET"),
        ]);
        assert_eq!(cgi.way("http://s3.example/"), ProxyRoute::Direct);
    }

    #[test]
    fn what_needs_no_proxy_is_named_as_for_curl_with_ports_besides() {
        let way = |without: &str, uri: &str| {
            proxies([("all_proxy", "http://proxy.example"), ("no_proxy", without)]).way(uri)
        };
        for (without, uri) in [
            ("*", "https://s3.example/"),
            ("example", "https://s3.example/"),
            (".example", "https://s3.example/"),
            ("*.example", "https://a.s3.example/"),
            ("S3.Example", "https://s3.example/"),
            ("other.example, s3.example", "https://s3.EXAMPLE/"),
            ("other.example s3.example", "https://s3.example/"),
            ("10.0.0.0/8", "http://10.1.2.3:9000/"),
            ("10.1.2.3", "http://10.1.2.3:9000/"),
            ("s3.example:9000", "http://s3.example:9000/"),
            ("s3.example:443", "https://s3.example/"),
            ("[fd00::1]:9000", "http://[fd00::1]:9000/"),
            ("fd00::1", "http://[fd00::1]:9000/"),
        ] {
            assert_eq!(way(without, uri), ProxyRoute::Direct, "{without} {uri}");
        }
        for (without, uri) in [
            ("s3.example", "http://nots3.example/"),
            ("s3.example:9000", "http://s3.example:9001/"),
            ("10.0.0.0/8", "http://11.1.2.3/"),
            ("", "http://s3.example/"),
            (",,", "http://s3.example/"),
        ] {
            assert_eq!(way(without, uri), ProxyRoute::Http, "{without} {uri}");
        }
    }

    #[test]
    fn a_proxy_that_is_none_is_refused_without_its_password() {
        let refused = |value: &str| {
            let error = Proxies::of(&Environment::of([("HTTPS_PROXY", value)])).unwrap_err();
            error.to_string()
        };
        for value in [
            "socks5://user:secret@proxy.example:1080",
            "http://",
            "user:secret@ proxy",
            "http:///x",
        ] {
            let said = refused(value);
            assert!(
                said.contains("HTTPS_PROXY") && !said.contains("secret"),
                "{said}"
            );
        }
    }
}
