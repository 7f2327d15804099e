//! Limits on codes and tries without a counter: a slot is a record, which one process creates. And the keys of days.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{PortalCreated, PortalLedger, is_plain, to_json};
use crate::failpoint::{self, Failpoint};
use crate::keyring::nonce;
use crate::ledger::LedgerError;

/// How many codes a recipient can get in a quarter of an hour.
pub const CODES_A_QUARTER: u32 = 3;

/// How many tries a challenge allows.
pub const TRIES_A_CHALLENGE: u32 = 5;

/// How many tries a recipient has in a day.
pub const TRIES_A_DAY: u32 = 30;

/// How long codes and tries are kept: the limits on them are of a day.
const LIMITS_KEPT_FOR: SignedDuration = SignedDuration::from_hours(48);

/// Whether a code may be mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeSlot {
    /// Yes: it is the `k`-th of its quarter of an hour, from 0.
    Taken(u32),
    /// No: the recipient has got as many as are allowed in this quarter of an hour.
    Full,
}

/// What a try at a code came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeTry {
    /// The code was wrong.
    Failed,
    /// The code was right, and is used up by this.
    Used,
}

/// Whether a try counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// It is recorded: a right code signs in, once.
    Recorded,
    /// The challenge was used before.
    UsedBefore,
    /// The challenge, or the recipient's day, has no try left.
    Full,
}

/// The body of a slot: its nonce tells our record from another's.
#[derive(Serialize, Deserialize)]
struct SlotBody {
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried: Option<CodeTry>,
}

impl PortalLedger {
    /// Records that a code is about to be mailed to a recipient. `quarter` is the number of the quarter of an hour since 1970.
    pub async fn record_code(&self, rid: &str, quarter: u64) -> Result<CodeSlot, LedgerError> {
        let name = |k| format!("code/{rid}/{quarter}/{k}");
        let slot = self.take_slot(name, CODES_A_QUARTER, None).await?;
        Ok(slot.map_or(CodeSlot::Full, CodeSlot::Taken))
    }

    /// Records a try at a challenge, by its id in lower-case letters and digits. A failed try counts against the recipient's
    /// `day` too. A right code signs in once, and only by [`TryOutcome::Recorded`].
    pub async fn record_try(
        &self,
        challenge: &str,
        rid: &str,
        day: Date,
        tried: CodeTry,
    ) -> Result<TryOutcome, LedgerError> {
        if !is_plain(challenge) || !is_plain(rid) {
            return Ok(TryOutcome::Full);
        }
        let of_day = format!("tried/{rid}/{day}/");
        let most = TRIES_A_DAY as usize;
        if self.records.names(&of_day, None, most).await?.len() >= most {
            return Ok(TryOutcome::Full);
        }
        let name = |k| format!("try/{challenge}/{k}");
        let slot = self.take_slot(name, TRIES_A_CHALLENGE, Some(tried)).await?;
        if slot.is_none() {
            return Ok(TryOutcome::Full);
        }
        failpoint::pass(Failpoint::TryTaken);
        match tried {
            CodeTry::Failed => {
                let name = |k| format!("{of_day}{k:02}");
                let slot = self.take_slot(name, TRIES_A_DAY, Some(tried)).await?;
                Ok(slot.map_or(TryOutcome::Full, |_| TryOutcome::Recorded))
            }
            CodeTry::Used => {
                let used = format!("used/{challenge}");
                let body = to_json(&SlotBody {
                    nonce: nonce(),
                    tried: Some(tried),
                });
                Ok(match self.records.create(&used, body).await? {
                    PortalCreated::Ours => {
                        failpoint::pass(Failpoint::CodeUsed);
                        TryOutcome::Recorded
                    }
                    PortalCreated::Theirs(_) => TryOutcome::UsedBefore,
                })
            }
        }
    }

    /// Takes the first free slot of `most`: a slot is a record, so that no counter is read and then written.
    async fn take_slot(
        &self,
        name: impl Fn(u32) -> String,
        most: u32,
        tried: Option<CodeTry>,
    ) -> Result<Option<u32>, LedgerError> {
        let body = to_json(&SlotBody {
            nonce: nonce(),
            tried,
        });
        for k in 0..most {
            if self.records.create(&name(k), body.clone()).await? == PortalCreated::Ours {
                return Ok(Some(k));
            }
        }
        Ok(None)
    }

    /// The key of a day for network addresses; the first caller of the day makes it.
    pub async fn day_key(&self, day: Date) -> Result<[u8; 32], LedgerError> {
        let name = format!("day/{day}");
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        match self.records.create(&name, key.to_vec()).await? {
            PortalCreated::Ours => Ok(key),
            PortalCreated::Theirs(body) => body
                .try_into()
                .map_err(|_| LedgerError::Unreadable { key: name }),
        }
    }

    /// Forgets codes and tries that limit nothing any more, and the keys of days before `keys_before`.
    pub async fn forget_old(
        &self,
        now: Timestamp,
        keys_before: Timestamp,
    ) -> Result<(), LedgerError> {
        let before = now.saturating_sub(LIMITS_KEPT_FOR).unwrap_or(now);
        for below in ["code/", "try/", "tried/", "used/"] {
            self.records.forget(below, before).await?;
        }
        self.records.forget("day/", keys_before).await
    }
}
