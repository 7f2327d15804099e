//! The network of a client, which limits count.

use std::net::IpAddr;

/// The network of a client: 24 bits of an IPv4 address, 48 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientNetwork {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl ClientNetwork {
    /// The network of an address; an IPv4 address that is mapped into IPv6 is one.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}
