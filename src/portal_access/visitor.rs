//! What audit lines say of a visitor: evidence, within bounds, and a network address as far as the configuration lets it be kept.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use presign::hex::hex;
use presign::midstate::MacMidstate;

use super::{OpenEvidence, ReaderSession, SignedInBy};
use crate::access::client::network_of;
use crate::audit::portal::VisitorFields;
use crate::bounds::MAX_USER_AGENT_BYTES;
use crate::config::AddressDetail;
use crate::ledger::portal::PortalLedger;
use crate::repeated::RepeatedLine;
use crate::text::{chain, printable};

/// Says of visitors what may be kept.
#[derive(Debug)]
pub(super) struct VisitorRecorder {
    records: PortalLedger,
    detail: AddressDetail,
    /// How long the keys of days are kept.
    keep: SignedDuration,
    /// The key of the day.
    key: Mutex<Option<(Date, [u8; 32])>>,
    /// The day on which old records were forgotten last.
    forgot: Mutex<Option<Date>>,
    /// The log line about a missing key of the day, which each open would repeat.
    without_key: RepeatedLine,
}

impl VisitorRecorder {
    pub(super) fn new(records: PortalLedger, detail: AddressDetail, keep: SignedDuration) -> Self {
        Self {
            records,
            detail,
            keep,
            key: Mutex::new(None),
            forgot: Mutex::new(None),
            without_key: RepeatedLine::default(),
        }
    }

    /// Forgets old codes and keys, once a day.
    async fn forget(&self, now: Timestamp) {
        let day = TimeZone::UTC.to_datetime(now).date();
        let forgot = self.forgot.lock().map(|mut forgot| forgot.replace(day));
        if forgot.unwrap_or_else(|poisoned| poisoned.into_inner().replace(day)) == Some(day) {
            return;
        }
        let keys_before = now.saturating_sub(self.keep).unwrap_or(now);
        if let Err(error) = self.records.forget_old(now, keys_before).await {
            tracing::warn!(
                error = chain(&error),
                "could not forget old codes and keys of days; the next day tries again"
            );
        }
    }

    /// The fields about a visitor. `of` is the recipient of the link: the line names the reader if it is another, or if all
    /// recipients share the link.
    pub(super) async fn fields(
        &self,
        evidence: &OpenEvidence<'_>,
        session: Option<&ReaderSession>,
        of: Option<&str>,
        now: Timestamp,
    ) -> VisitorFields {
        self.forget(now).await;
        let bounded = |text: &str| printable(text, MAX_USER_AGENT_BYTES).into_owned();
        VisitorFields {
            signed_in: session.map(|session| match &session.how {
                SignedInBy::Code => "code".to_owned(),
                SignedInBy::Oidc(name) => format!("oidc:{name}"),
            }),
            sid: session.map(|session| hex(&session.sid)),
            reader: session
                .filter(|session| of != Some(&session.rid))
                .map(|session| session.rid.clone()),
            after_page_ms: evidence
                .after_page
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            sec_fetch: evidence.sec_fetch.map(bounded),
            purpose: evidence.purpose.map(bounded),
            range: evidence.has_range,
            net: match evidence.address {
                Some(address) => self.net(address.to_canonical(), now).await,
                None => None,
            },
            ua: evidence.user_agent.map(bounded),
        }
    }

    async fn net(&self, address: IpAddr, now: Timestamp) -> Option<String> {
        match self.detail {
            AddressDetail::None => None,
            AddressDetail::Network => Some(network_of(address)),
            AddressDetail::Full => Some(address.to_string()),
            AddressDetail::Keyed => {
                let day = TimeZone::UTC.to_datetime(now).date();
                let key = self.key_of(day).await?;
                let mut mac = MacMidstate::new(&key);
                match address {
                    IpAddr::V4(address) => mac.update(&address.octets()),
                    IpAddr::V6(address) => mac.update(&address.octets()),
                }
                Some(format!("keyed:{}", hex(&mac.finish()[..8])))
            }
        }
    }

    /// The key of a day. Without it, the line says nothing of the address.
    async fn key_of(&self, day: Date) -> Option<[u8; 32]> {
        let known = *self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = known
            && of == day
        {
            return Some(key);
        }
        match self.records.day_key(day).await {
            Ok(key) => {
                *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some((day, key));
                Some(key)
            }
            Err(error) => {
                if let Some(not_logged) = self.without_key.due() {
                    tracing::warn!(
                        error = chain(&error),
                        not_logged,
                        "no key of the day for network addresses; audit lines leave them out"
                    );
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;
    use crate::ledger::Ledger;
    use crate::ledger::memory::MemoryLedger;

    async fn net(recorder: &VisitorRecorder, address: &str, day: i64) -> Option<String> {
        let now = Timestamp::from_second(day * 86_400).unwrap();
        let evidence = OpenEvidence {
            address: Some(address.parse().unwrap()),
            ..OpenEvidence::default()
        };
        recorder.fields(&evidence, None, None, now).await.net
    }

    #[tokio::test]
    async fn an_address_is_kept_as_far_as_the_configuration_says() {
        let records = MemoryLedger::default().portal_records();
        let records = PortalLedger::new(records, &Keyring::new([7; 32]));
        let keep = SignedDuration::from_hours(24 * 180);
        let recorder = |detail| VisitorRecorder::new(records.clone(), detail, keep);
        let none = recorder(AddressDetail::None);
        assert_eq!(net(&none, "198.51.100.7", 1).await, None);
        let networks = recorder(AddressDetail::Network);
        for (address, expected) in [
            ("198.51.100.7", "198.51.100.0/24"),
            ("::ffff:198.51.100.7", "198.51.100.0/24"),
            ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ] {
            assert_eq!(net(&networks, address, 1).await.unwrap(), expected);
        }
        let full = recorder(AddressDetail::Full);
        assert_eq!(net(&full, "198.51.100.7", 1).await.unwrap(), "198.51.100.7");
        let (one, other) = (
            recorder(AddressDetail::Keyed),
            recorder(AddressDetail::Keyed),
        );
        let first = net(&one, "198.51.100.7", 1).await.unwrap();
        assert!(!first.contains("198.51"));
        assert_eq!(
            net(&other, "198.51.100.7", 1).await.unwrap(),
            first,
            "two portals"
        );
        assert_ne!(net(&one, "198.51.100.8", 1).await.unwrap(), first);
        assert_ne!(
            net(&one, "198.51.100.7", 2).await.unwrap(),
            first,
            "the next day"
        );
    }
}
