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

/// How many codes a recipient can get in a day.
pub const CODES_A_DAY: u32 = 12;

/// How many quarters of an hour a day has.
const QUARTERS_A_DAY: u64 = 96;

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

/// What a code is asked for. Each has limits of its own, so that a stranger who knows an address and has no link cannot use up
/// those of the recipient's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeScope {
    /// A link that the visitor has.
    Link,
    /// The list of all files, without a link.
    Mine,
}

impl CodeScope {
    /// The word in cookies and in the names of records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Mine => "mine",
        }
    }

    /// The scope of a word.
    pub fn read(word: &str) -> Option<Self> {
        [Self::Link, Self::Mine]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }
}

/// Whether a try at a code may be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrySlot {
    /// Yes: it is counted.
    Taken,
    /// It is counted, and every code is wrong: no code was mailed, or the recipient's day has no try left. The answer is that
    /// to a wrong code, since another would tell whose the link is.
    Blind,
    /// The challenge has no try left.
    Full,
}

/// The body of a slot: its nonce tells our record from another's.
#[derive(Serialize, Deserialize)]
struct SlotBody {
    nonce: String,
}

impl PortalLedger {
    /// Records that the code of a challenge is about to be mailed to a recipient. `quarter` is the number of the quarter of an
    /// hour since 1970. No code is mailed on a day whose tries are used up.
    pub async fn record_code(
        &self,
        scope: CodeScope,
        rid: &str,
        quarter: u64,
        challenge: &str,
    ) -> Result<CodeSlot, LedgerError> {
        let (of, day) = (scope.as_str(), quarter / QUARTERS_A_DAY);
        let tried = self.tries_of_day(scope, rid, day).await?;
        if tried >= TRIES_A_DAY {
            return Ok(CodeSlot::Full);
        }
        let name = |k| format!("code/{rid}/{of}/{quarter}/{k}");
        let Some(slot) = self.take_slot(name, 0, CODES_A_QUARTER).await? else {
            return Ok(CodeSlot::Full);
        };
        let name = |k| format!("codes/{rid}/{of}/{day}/{k:02}");
        if self.take_slot(name, 0, CODES_A_DAY).await?.is_none() {
            return Ok(CodeSlot::Full);
        }
        self.records.create(&sent(challenge), Vec::new()).await?;
        Ok(CodeSlot::Taken(slot))
    }

    async fn tries_of_day(
        &self,
        scope: CodeScope,
        rid: &str,
        day: u64,
    ) -> Result<u32, LedgerError> {
        let below = format!("tried/{rid}/{}/{day}/", scope.as_str());
        let most = TRIES_A_DAY as usize;
        let names = self.records.names(&below, None, most).await?;
        Ok(u32::try_from(names.len()).unwrap_or(TRIES_A_DAY))
    }

    /// Takes the slots of a try at a challenge, by its id in lower-case letters and digits, before the code is judged: one of
    /// the challenge, and one of the recipient's day.
    pub async fn take_try(
        &self,
        scope: CodeScope,
        challenge: &str,
        rid: &str,
        quarter: u64,
    ) -> Result<TrySlot, LedgerError> {
        if !is_plain(challenge) || !is_plain(rid) {
            return Ok(TrySlot::Full);
        }
        let name = |k| format!("try/{challenge}/{k}");
        if self.take_slot(name, 0, TRIES_A_CHALLENGE).await?.is_none() {
            return Ok(TrySlot::Full);
        }
        failpoint::pass(Failpoint::TryTaken);
        let (of, day) = (scope.as_str(), quarter / QUARTERS_A_DAY);
        if self.records.read(&sent(challenge)).await?.is_none() {
            // A try at a code that no mail has must not use up the recipient's day.
            return Ok(TrySlot::Blind);
        }
        let tried = self.tries_of_day(scope, rid, day).await?;
        let name = |k| format!("tried/{rid}/{of}/{day}/{k:02}");
        let slot = self.take_slot(name, tried, TRIES_A_DAY).await?;
        Ok(slot.map_or(TrySlot::Blind, |_| TrySlot::Taken))
    }

    /// Uses up the code of a challenge: `true` for one caller, who may sign in.
    pub async fn use_code(&self, challenge: &str) -> Result<bool, LedgerError> {
        let body = to_json(&SlotBody { nonce: nonce() });
        let name = format!("used/{challenge}");
        let is_ours = self.records.create(&name, body).await? == PortalCreated::Ours;
        if is_ours {
            failpoint::pass(Failpoint::CodeUsed);
        }
        Ok(is_ours)
    }

    /// Takes the first free slot from `first` on, of `most`: a slot is a record, so that no counter is read and then written.
    async fn take_slot(
        &self,
        name: impl Fn(u32) -> String,
        first: u32,
        most: u32,
    ) -> Result<Option<u32>, LedgerError> {
        let body = to_json(&SlotBody { nonce: nonce() });
        for k in first..most {
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
        for below in ["code/", "codes/", "sent/", "try/", "tried/", "used/"] {
            self.records.forget(below, before).await?;
        }
        self.records.forget("day/", keys_before).await
    }
}

/// The name of the record that the code of a challenge was mailed.
fn sent(challenge: &str) -> String {
    format!("sent/{challenge}")
}
