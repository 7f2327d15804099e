//! `helo_name`: the name of the client in EHLO (RFC 5321, section 4.1.1.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::job::address::ascii_domain;

/// The configured name in the form for EHLO: a fully qualified domain name in ASCII, or an address literal. `None` if it is
/// neither.
pub(crate) fn helo_name(configured: &str) -> Option<String> {
    let literal = configured
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(literal) = literal {
        let is_address = match literal.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => literal.parse::<Ipv4Addr>().is_ok(),
        };
        return is_address.then(|| configured.to_owned());
    }
    let name = ascii_domain(configured.strip_suffix('.').unwrap_or(configured))?;
    name.contains('.').then(|| name.into_owned())
}
