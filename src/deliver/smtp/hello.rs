//! The name that we send in EHLO. RFC 5321, section 4.1.1.1, requires a fully qualified domain name, or an address
//! literal of a machine without a name.
//!
//! Relays check it: Postfix with `reject_non_fqdn_helo_hostname`, and smtp-relay.gmail.com, which replies 421 to `vm`,
//! `localhost` and `[127.0.0.1]`.
//! <https://support.google.com/a/answer/2956491>

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use crate::bounds::MAX_OPERATOR_FILE_BYTES;
use crate::config::helo_name;

/// The file with a machine's own names, the full one first.
const HOSTS: &str = "/etc/hosts";

/// The name that we send in EHLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// A domain name, or the configured name.
    Name(String),
    /// The address literal of our end of the connection: this machine has no name, and the sender no domain.
    Address,
}

impl Hello {
    /// The configured name; else this machine's full name; else the domain of `mail.from`; else its address.
    pub(super) fn new(configured: Option<&str>, from_domain: &str) -> Self {
        if let Some(configured) = configured.and_then(helo_name) {
            return Self::Name(configured);
        }
        let uname = rustix::system::uname();
        let name = full_name(&uname.nodename().to_string_lossy(), hosts);
        match name.or_else(|| qualified(from_domain)) {
            Some(name) => Self::Name(name),
            None => Self::Address,
        }
    }

    /// The name that is sent on a connection with this local address.
    pub(super) fn said_from(&self, own: Option<SocketAddr>) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Address => {
                let ip = own.map_or(IpAddr::from([127, 0, 0, 1]), |own| own.ip().to_canonical());
                match ip {
                    IpAddr::V4(ip) => format!("[{ip}]"),
                    IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
                }
            }
        }
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address => f.write_str("the connection's own address"),
        }
    }
}

/// A domain name that other machines may know, unlike the default name of an unnamed machine.
fn qualified(name: &str) -> Option<String> {
    let name = helo_name(name).filter(|name| !name.starts_with('['))?;
    let last = name
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_unusable = matches!(
        last.as_str(),
        "localdomain" | "localhost" | "local" | "invalid"
    );
    (!is_unusable).then_some(name)
}

/// The full name of the machine with this name: the name itself, or the one before it in a line of `/etc/hosts`, where
/// `hostname --fqdn` finds it.
fn full_name(nodename: &str, hosts: impl FnOnce() -> String) -> Option<String> {
    if nodename.contains('.') {
        return qualified(nodename);
    }
    let hosts = hosts();
    hosts.lines().find_map(|line| {
        let names = line.split('#').next()?.split_whitespace().skip(1);
        let names: Vec<&str> = names.collect();
        let is_ours = |name: &&str| name.eq_ignore_ascii_case(nodename);
        let is_of_ours = |name: &&&str| {
            name.to_ascii_lowercase()
                .starts_with(&format!("{}.", nodename.to_ascii_lowercase()))
        };
        names.iter().find(|name| is_ours(name))?;
        names
            .iter()
            .find(is_of_ours)
            .and_then(|name| qualified(name))
    })
}

fn hosts() -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(HOSTS);
    // Without the file, or with an unreadable one, the short name is all there is.
    let read = file.and_then(|file| file.take(MAX_OPERATOR_FILE_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_called_by_its_full_name_wherever_that_stands() {
        let hosts = "\
# this machine
127.0.0.1 localhost.localdomain localhost
127.0.1.1 vm.acme.example vm # the full name first
10.1.2.3  handout-0.handout.jobs.svc.cluster.local handout-0
10.1.2.4  vm2 other.acme.example
";
        for (nodename, wanted) in [
            ("mx1.acme.example", Some("mx1.acme.example")),
            ("MX1.Acme.Example.", Some("MX1.Acme.Example")),
            ("vm", Some("vm.acme.example")),
            ("VM", Some("vm.acme.example")),
            ("vm2", None),
            ("handout-0", None),
            ("localhost", None),
            ("localhost.localdomain", None),
            ("3f2a9c1b7d2e", None),
            ("my_host.acme.example", None),
            ("macbook.local", None),
            ("127.0.0.1", None),
            ("", None),
            ("(none)", None),
        ] {
            let found = full_name(nodename, || hosts.to_owned());
            assert_eq!(found.as_deref(), wanted, "{nodename}");
        }
    }

    #[test]
    fn a_configured_name_is_a_full_one_or_an_address() {
        for (written, said) in [
            ("mail.acme.example", Some("mail.acme.example")),
            ("mail.acme.example.", Some("mail.acme.example")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("[192.0.2.1]", Some("[192.0.2.1]")),
            ("[IPv6:2001:db8::1]", Some("[IPv6:2001:db8::1]")),
            ("vm", None),
            ("", None),
            (".", None),
            ("192.0.2.1", None),
            ("[mail.acme.example]", None),
            ("[2001:db8::1]", None),
            ("a b.example", None),
            ("a.example\r\nMAIL FROM:<x@y>", None),
        ] {
            assert_eq!(helo_name(written).as_deref(), said, "{written}");
        }
    }

    #[test]
    fn without_a_name_the_senders_domain_or_the_address_is_said() {
        assert_eq!(qualified("acme.example").as_deref(), Some("acme.example"));
        assert_eq!(qualified("localhost.localdomain"), None);
        for (own, said) in [
            ("192.0.2.7:4711", "[192.0.2.7]"),
            ("[::ffff:192.0.2.7]:4711", "[192.0.2.7]"),
            ("[2001:db8::7]:4711", "[IPv6:2001:db8::7]"),
        ] {
            assert_eq!(Hello::Address.said_from(Some(own.parse().unwrap())), said);
        }
    }
}
