//! How often strangers may ask: forged tokens, codes and sign-ins by network, opens by link.
//!
//! A token whose tag is right is never limited by the address of its reader: a whole office can be behind one address.

use crate::bounds::{
    MAX_CODE_REQUESTS_PER_MINUTE, MAX_FORGED_PER_MINUTE, MAX_OPENS_PER_MINUTE,
    MAX_SIGN_INS_PER_MINUTE,
};
use crate::serving::{ClientNetwork, KeyedLimit, TooMany};

/// The limits of one portal.
#[derive(Debug)]
pub(super) struct PortalLimits {
    forged: KeyedLimit<ClientNetwork>,
    codes: KeyedLimit<ClientNetwork>,
    sign_ins: KeyedLimit<ClientNetwork>,
    opens: KeyedLimit<String>,
}

impl PortalLimits {
    pub(super) fn new() -> Self {
        Self {
            forged: KeyedLimit::per_minute(MAX_FORGED_PER_MINUTE),
            codes: KeyedLimit::per_minute(MAX_CODE_REQUESTS_PER_MINUTE),
            sign_ins: KeyedLimit::per_minute(MAX_SIGN_INS_PER_MINUTE),
            opens: KeyedLimit::per_minute(MAX_OPENS_PER_MINUTE),
        }
    }

    /// Counts a token that was not made here.
    pub(super) fn forged(&self, network: ClientNetwork) -> Result<(), TooMany> {
        self.forged.pass(&network)
    }

    /// Counts a request for a code.
    pub(super) fn code(&self, network: ClientNetwork) -> Result<(), TooMany> {
        self.codes.pass(&network)
    }

    /// Counts the beginning of a sign-in at an issuer, or its end.
    pub(super) fn sign_in(&self, network: ClientNetwork) -> Result<(), TooMany> {
        self.sign_ins.pass(&network)
    }

    /// Counts an open of a link, which `link` identifies.
    pub(super) fn open(&self, link: &str) -> Result<(), TooMany> {
        self.opens.pass(&link.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> ClientNetwork {
        let [a, b, c, _] = (number << 8).to_be_bytes();
        ClientNetwork::of([a, b, c, 1].into())
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_forged_tokens_a_minute_pass_and_the_next_is_told_when() {
        let limits = PortalLimits::new();
        for _ in 0..MAX_FORGED_PER_MINUTE.get() {
            assert_eq!(limits.forged(network(1)), Ok(()));
        }
        let late = limits.forged(network(1)).unwrap_err();
        assert_eq!(late.retry_after.as_secs(), 3);
        assert_eq!(limits.forged(network(2)), Ok(()), "another network");
        tokio::time::sleep(late.retry_after).await;
        assert_eq!(limits.forged(network(1)), Ok(()));
        assert!(limits.forged(network(1)).is_err());
    }
}
