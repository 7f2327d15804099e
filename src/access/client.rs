//! What is kept of a client: its network as far as the configuration says, and what it calls itself.

use std::net::IpAddr;

use presign::hex::hex;
use presign::midstate::MacMidstate;

use super::identity::mix;
use crate::config::AddressDetail;

/// The network of an address: its first 24 bits, or 48 of IPv6.
pub fn network_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

/// What is kept of an address that a log names; `None` if nothing is, or if the log has no address.
///
/// `key` is the key of the day, for [`AddressDetail::Keyed`] alone: the hash is of the network, so that a report still tells two networks
/// apart.
pub fn kept_address(logged: &str, detail: AddressDetail, key: &[u8; 32]) -> Option<String> {
    let address = logged.parse::<IpAddr>().ok()?.to_canonical();
    match detail {
        AddressDetail::None => None,
        AddressDetail::Network => Some(network_of(address)),
        AddressDetail::Full => Some(address.to_string()),
        AddressDetail::Keyed => {
            let mut mac = MacMidstate::new(key);
            mac.update(network_of(address).as_bytes());
            Some(format!("keyed:{}", hex(&mac.finish()[..8])))
        }
    }
}

/// A number for a client, which is the same wherever its network and its name are.
pub fn client_id(net: Option<&str>, agent: &str) -> u64 {
    mix(mix(1, net.unwrap_or_default().as_bytes()), agent.as_bytes())
}

/// The network of what was kept, for comparison with another.
pub fn network_kept(kept: &str) -> String {
    kept.parse::<IpAddr>()
        .map_or_else(|_| kept.to_owned(), network_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_far_as_the_configuration_says() {
        let kept = |detail, address: &str, key| kept_address(address, detail, &[key; 32]);
        assert_eq!(kept(AddressDetail::None, "198.51.100.7", 1), None);
        for (address, expected) in [
            ("198.51.100.7", "198.51.100.0/24"),
            ("::ffff:198.51.100.7", "198.51.100.0/24"),
            ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ] {
            assert_eq!(kept(AddressDetail::Network, address, 1).unwrap(), expected);
        }
        assert_eq!(
            kept(AddressDetail::Full, "198.51.100.7", 1).unwrap(),
            "198.51.100.7"
        );
        let one = kept(AddressDetail::Keyed, "198.51.100.7", 1);
        assert!(!one.as_ref().unwrap().contains("198"));
        assert_eq!(
            kept(AddressDetail::Keyed, "198.51.100.9", 1),
            one,
            "one network"
        );
        assert_ne!(kept(AddressDetail::Keyed, "198.51.101.7", 1), one);
        assert_ne!(
            kept(AddressDetail::Keyed, "198.51.100.7", 2),
            one,
            "another day"
        );
        assert_eq!(kept(AddressDetail::Full, "amazonaws.com", 1), None);
    }
}
