//! The ledger of several workers: small objects in a bucket, each written once, by S3's conditional writes.
//!
//! ```text
//! <prefix>ledger                          whose ledger this is: a fingerprint of the installation's secret
//! <prefix>jobs/<job>/plan                 and done, done.<n>, reopened.<n>, notified, notified.<n>, lease
//! <prefix>jobs/<job>/r/<rid>/i.<n>        and o.<n>, l.<n>, v.<n>
//! <prefix>objects/<job>/<listing>/<page>  the objects that the job hands out
//! <prefix>latest/<time>-<job>             the jobs, the latest first
//! <prefix>shelf/<bundle>                  what is known of pictures, some together
//! <prefix>schedule/<name>/…               the rules of schedules, and which occurrences were started
//! ```
//!
//! A record is created by a PUT with `If-None-Match: *`. Any response but success leaves open whether the PUT was
//! carried out. So the PUT is retried, and when the record exists, its nonce shows whose it is.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
//!
//! Objects are never deleted, and the ledger needs no right to delete: a lifecycle rule on the prefix expires old jobs.

mod conflicts;
mod names;
mod portal;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::SdkError;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use self::conflicts::Conflicts;
use self::names::{is_done_by_names, read_spelled, spell};
use super::lease::{CONTRADICTION, LeaseTag, LeaseTerms, Leases, SeenLease};
use super::picture_cache::{Bundle, PictureCache, bundles};
use super::portal::PortalRecords;
use super::{Created, Kind, LEDGER_VERSION, Ledger, LedgerError, Record};
pub use portal::{S3PortalRecords, prefix_beside};

use crate::clock::Clock;
use crate::edge::health::{Edge, EdgeKind, FailureKind};
use crate::edge::http::RequestTerms;
use crate::edge::{EdgeError, Egress, ErrorKind, http, random};
use crate::job::occurrence::Sequencer;
use crate::job::{Bucket, JobId};
use crate::store::ListingCourse;
use crate::store::s3::{Payload, Puts, ServerClock};

/// How often a request is made before the store counts as unreachable: if one in five fails, one in 400,000 gives up.
const ATTEMPTS: u32 = 8;

/// The pause before the second attempt, doubled before each further one, up to the longest.
const INITIAL_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How long attempts at a request continue; then its job gives its slot back.
const PATIENCE: Duration = Duration::from_secs(25);

/// After how long the first read at startup is followed by a second one.
const FOLLOWED_AFTER: Duration = Duration::from_secs(2);

/// How many records are read at once: ten thousand recipients take seconds.
const READS_AT_ONCE: usize = 64;

/// How many bundles of the cache are read or written at once; each has some hundred kilobytes.
const BUNDLES_AT_ONCE: usize = 8;

/// How many requests race for the first write of a new ledger; one may win.
const RACERS: usize = 8;

/// An entity tag that no object has.
const NO_TAG: &str = "\"00000000000000000000000000000000\"";

/// Records below a prefix of a bucket.
#[derive(Debug, Clone)]
pub struct S3Ledger {
    client: Client,
    bucket: Bucket,
    prefix: String,
    clock: Clock,
    edge: Edge,
    /// The client for PUTs, and their edge.
    writer: Client,
    write_edge: Edge,
    puts: Puts,
    conflicts: Conflicts,
    /// The identity of the installation, once [`probe`](Self::probe) has seen it in the bucket.
    identity: OnceLock<Vec<u8>>,
}

/// A record as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    v: u32,
    at: Timestamp,
    #[serde(flatten)]
    record: Record,
}

/// The condition of a PUT.
#[derive(Debug, Clone, Copy)]
enum WriteCondition<'a> {
    /// The object may exist and be the same.
    None,
    /// The object does not exist.
    Absent,
    /// The object has this entity tag.
    Unchanged(&'a str),
}

impl WriteCondition<'_> {
    const fn header(self) -> &'static str {
        match self {
            Self::None => "PUT",
            Self::Absent => "If-None-Match",
            Self::Unchanged(_) => "If-Match",
        }
    }
}

/// The result of a PUT.
enum Put {
    /// It was carried out; the object's new tag.
    Done(String),
    /// Its condition was not met; perhaps because an earlier attempt of ours was carried out.
    Unmet,
}

/// An object that was read.
struct Found {
    bytes: Vec<u8>,
    tag: String,
    /// How long ago it was written, by the store's clock.
    age: Duration,
}

impl S3Ledger {
    /// A ledger below `prefix`, with a client for the bucket's region. Call [`probe`](Self::probe) before using it.
    pub fn new(client: &Client, bucket: Bucket, prefix: String, clock: Clock) -> Self {
        Self::through(&Egress::default(), client, bucket, prefix, clock)
    }

    /// As [`new`](Self::new), with requests through this egress.
    pub fn through(
        egress: &Egress,
        client: &Client,
        bucket: Bucket,
        prefix: String,
        clock: Clock,
    ) -> Self {
        let subject = format!("the ledger in s3://{bucket}/{prefix}");
        let edge = Edge::new(EdgeKind::Ledger, "ledger", subject);
        let write_edge = edge.part("writes");
        // Our own retries in place of the SDK's: those share a token bucket that a failing store exhausts.
        let client_at = |edge: &Edge| {
            let config = client
                .config()
                .to_builder()
                .http_client(http::client_of_ledger(edge.clone(), egress.clone()))
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .timeout_config(TimeoutConfig::disabled())
                .retry_config(RetryConfig::disabled());
            Client::from_conf(config.build())
        };
        Self {
            client: client_at(&edge),
            bucket,
            prefix,
            clock,
            edge,
            writer: client_at(&write_edge),
            write_edge,
            puts: Puts::default(),
            conflicts: Conflicts::default(),
            identity: OnceLock::new(),
        }
    }

    /// The same ledger, with these settings for its PUTs.
    #[must_use]
    pub fn with_puts(self, puts: Puts) -> Self {
        Self { puts, ..self }
    }

    /// The ledger's location, for messages.
    pub fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// Checks that the store keeps the guarantees that the ledger needs, and that the ledger belongs to the
    /// installation whose secret has this fingerprint.
    ///
    /// Several requests race to create one object, and only one may win. Then a conditional write that would change it
    /// must fail.
    pub async fn probe(&self, fingerprint: &str) -> Result<(), LedgerError> {
        let key = format!("{}ledger", self.prefix);
        let identity = json!({ "v": LEDGER_VERSION, "secret": fingerprint });
        let bytes = identity.to_string().into_bytes();
        if self.first_look(&key).await?.is_none() {
            let race =
                (0..RACERS).map(|_| self.try_put(&key, bytes.clone(), WriteCondition::Absent));
            let ends = futures_util::future::join_all(race).await;
            let winners = ends.iter().filter(|end| matches!(end, Ok(Put::Done(_))));
            if winners.count() > 1 {
                return Err(self.careless(WriteCondition::Absent));
            }
        }
        let found: Option<serde_json::Value> = match self.get(&key).await? {
            Some(found) => serde_json::from_slice(&found.bytes).ok(),
            // No request won the race: they failed. This one shows why.
            None => match self
                .put(&key, bytes.clone(), WriteCondition::Absent)
                .await?
            {
                Put::Done(_) => Some(identity.clone()),
                Put::Unmet => None,
            },
        };
        let version = found.as_ref().and_then(|found| found["v"].as_u64());
        if let Some(found) = version.filter(|version| *version > LEDGER_VERSION) {
            return Err(LedgerError::Newer {
                place: self.place(),
                found,
            });
        }
        if found.as_ref() != Some(&identity) {
            return Err(LedgerError::OtherSecret {
                place: self.place(),
            });
        }
        for condition in [WriteCondition::Absent, WriteCondition::Unchanged(NO_TAG)] {
            // The same bytes: a store that ignores the condition changes nothing by it.
            if let Put::Done(_) = self.put(&key, bytes.clone(), condition).await? {
                return Err(self.careless(condition));
            }
        }
        // Only the first call sets it; the bytes are always the same.
        let _ = self.identity.set(bytes);
        Ok(())
    }

    fn careless(&self, condition: WriteCondition<'_>) -> LedgerError {
        LedgerError::ConditionalWritesUnsupported {
            place: self.place(),
            header: condition.header(),
        }
    }

    fn below_job(&self, job: &JobId) -> String {
        format!("{}jobs/{}/", self.prefix, spell(job.as_str()))
    }

    fn key(&self, record: &Record) -> String {
        let (job, word) = (self.below_job(&record.job), record.kind.as_str());
        match (record.rid.as_str(), record.n) {
            ("", 0) => format!("{job}{word}"),
            ("", n) => format!("{job}{word}.{n}"),
            (rid, n) => format!("{job}r/{}/{word}.{n}", spell(rid)),
        }
    }

    fn page_key(&self, job: &JobId, listing: &str, number: u32) -> String {
        let job = spell(job.as_str());
        format!(
            "{}objects/{job}/{}/{number:06}",
            self.prefix,
            spell(listing)
        )
    }

    fn shelf_key(&self, bundle: &str) -> String {
        format!("{}shelf/{bundle}", self.prefix)
    }

    /// The key of a job in the list of the latest jobs: later instants sort first in S3's order.
    fn latest_key(&self, job: &JobId, at: Timestamp) -> String {
        const LAST_SECOND: i64 = 9_999_999_999;
        let left = LAST_SECOND - at.as_second().clamp(0, LAST_SECOND);
        format!("{}latest/{left:010}-{}", self.prefix, spell(job.as_str()))
    }

    fn stored(&self, record: &Record) -> StoredRecord {
        StoredRecord {
            v: 1,
            at: (self.clock)(),
            record: record.clone(),
        }
    }

    /// Adds a job to the list of the latest. Every delivery repeats it, since the first one may have died before.
    async fn note(&self, stored: &StoredRecord) -> Result<(), LedgerError> {
        let key = self.latest_key(&stored.record.job, stored.at);
        self.put(&key, Vec::new(), WriteCondition::Absent).await?;
        Ok(())
    }

    async fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        condition: WriteCondition<'_>,
    ) -> Result<Put, LedgerError> {
        let put = patiently(|| self.try_put(key, bytes.clone(), condition)).await;
        self.note_conflict(key, &put);
        Ok(put?)
    }

    fn note_conflict(&self, key: &str, put: &Result<Put, EdgeError>) {
        if let Some(conflict) = self.conflicts.note(key, put) {
            self.write_edge.failed(FailureKind::Refused, &conflict);
        }
    }

    /// One attempt at a PUT; two if the bucket requires a checksum first.
    async fn try_put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        condition: WriteCondition<'_>,
    ) -> Result<Put, EdgeError> {
        self.try_put_as(None, key, bytes, condition).await
    }

    async fn try_put_as(
        &self,
        terms: Option<RequestTerms>,
        key: &str,
        bytes: Vec<u8>,
        condition: WriteCondition<'_>,
    ) -> Result<Put, EdgeError> {
        let payload = Payload::Bytes(bytes.into());
        let unreadable = |error: std::io::Error| {
            EdgeError::new(self.action("write", key), ErrorKind::Rejected, error)
        };
        loop {
            let sums = self.puts.sums(&self.client, &self.bucket, &payload).await;
            let sums = sums.map_err(unreadable)?;
            let request = self.writer.put_object().bucket(self.bucket.as_str());
            let request = request
                .key(key)
                .content_type("application/json")
                .body(payload.body().await.map_err(unreadable)?);
            let request = match condition {
                WriteCondition::None => request,
                WriteCondition::Absent => request.if_none_match("*"),
                WriteCondition::Unchanged(tag) => request.if_match(tag),
            };
            let request = self.puts.of_object(request, &sums);
            let put = match terms {
                Some(terms) => request.customize().interceptor(terms).send().await,
                None => request.send().await,
            };
            let error = match put {
                Ok(answer) => return Ok(Put::Done(answer.e_tag.unwrap_or_default())),
                Err(SdkError::ServiceError(answer)) if answer.raw().status().as_u16() == 412 => {
                    return Ok(Put::Unmet);
                }
                Err(error) => EdgeError::from_sdk(self.action("write", key), &error),
            };
            if !self.puts.learns(&self.bucket, &sums, &error) {
                return Err(self.puts.explained(error));
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Found>, LedgerError> {
        Ok(patiently(|| self.try_get(key)).await?)
    }

    async fn try_get(&self, key: &str) -> Result<Option<Found>, EdgeError> {
        let server = ServerClock::default();
        let request = self.client.get_object().bucket(self.bucket.as_str());
        let answer = request
            .key(key)
            .customize()
            .interceptor(server.clone())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(SdkError::ServiceError(answer)) if answer.err().is_no_such_key() => {
                return Ok(None);
            }
            Err(error) => return Err(EdgeError::from_sdk(self.action("read", key), &error)),
        };
        let written = answer.last_modified.map_or(0, |at| at.secs());
        let now = (self.clock)() + server.skew().unwrap_or_default();
        let age = now.as_second().saturating_sub(written);
        let tag = answer.e_tag.unwrap_or_default();
        let bytes = answer.body.collect().await.map(|body| body.into_bytes());
        let bytes = bytes.map_err(|error| {
            EdgeError::new(self.action("read", key), ErrorKind::Unreachable, error)
        })?;
        let bytes = bytes.to_vec();
        Ok(Some(Found {
            bytes,
            tag,
            age: Duration::from_secs(u64::try_from(age).unwrap_or_default()),
        }))
    }

    /// A read at startup. A silent store is waited for no longer than one deadline, so that the start can report it. A
    /// read that is not answered soon is followed by a second one, since its connection may be dead while the store is
    /// up.
    async fn first_look(&self, key: &str) -> Result<Option<Found>, LedgerError> {
        let mut asked = FuturesUnordered::from_iter([self.try_get(key)]);
        loop {
            tokio::select! {
                Some(answer) = asked.next() => return match answer {
                    Err(error) if error.fact.may_pass() && error.fact != ErrorKind::Silent => self.get(key).await,
                    answer => Ok(answer?),
                },
                () = tokio::time::sleep(FOLLOWED_AFTER) => asked.push(self.try_get(key)),
            }
        }
    }

    /// The keys below a prefix, at most `limit`, those after the key `after`; not those in a folder below it if `flat`.
    async fn list(
        &self,
        prefix: &str,
        flat: bool,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, LedgerError> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        let mut course = ListingCourse::default();
        loop {
            let page = patiently(|| async {
                let request = self.client.list_objects_v2().bucket(self.bucket.as_str());
                let answer = request
                    .prefix(prefix)
                    .set_delimiter(flat.then(|| "/".to_owned()))
                    .set_max_keys(i32::try_from(limit).ok().filter(|limit| *limit < 1000))
                    .set_start_after(after.filter(|_| token.is_none()).map(ToOwned::to_owned))
                    .set_continuation_token(token.clone())
                    .send()
                    .await;
                answer.map_err(|error| EdgeError::from_sdk(self.action("list", prefix), &error))
            })
            .await?;
            let some = page.contents.unwrap_or_default().into_iter();
            let before = keys.len();
            keys.extend(some.filter_map(|object| object.key));
            token = page
                .next_continuation_token
                .filter(|_| page.is_truncated == Some(true));
            let Some(next) = token.as_deref().filter(|_| keys.len() < limit) else {
                keys.truncate(limit);
                return Ok(keys);
            };
            let endless =
                |error| EdgeError::new(self.action("list", prefix), ErrorKind::Rejected, error);
            course.go_on(next, keys.len() > before).map_err(endless)?;
        }
    }

    /// Reads the records of some keys, several at once.
    async fn read(&self, keys: Vec<String>) -> Result<Vec<Record>, LedgerError> {
        stream::iter(keys.into_iter().filter(|key| !key.ends_with("/lease")))
            .map(async |key| {
                match self.get(&key).await? {
                    Some(found) => Ok(Some(read_json::<StoredRecord>(&key, &found)?.record)),
                    // Expired since it was listed.
                    None => Ok(None),
                }
            })
            .buffer_unordered(READS_AT_ONCE)
            .try_filter_map(|record| std::future::ready(Ok(record)))
            .try_collect()
            .await
    }

    /// Reports that the store rejected a write because the object exists, and has no such object: it would reject the next write
    /// in the same way.
    fn contradicts_itself(&self, key: &str) -> LedgerError {
        self.write_edge.failed(FailureKind::Refused, CONTRADICTION);
        EdgeError::new(self.action("write", key), ErrorKind::Failed, CONTRADICTION).into()
    }

    fn action(&self, verb: &str, key: &str) -> String {
        format!("{verb} the ledger's s3://{}/{key}", self.bucket)
    }
}

/// Retries a request for a while, until the store gives a definite answer. It respects the delay that the store asks
/// for, and stops if that is longer than the job may wait.
async fn patiently<T, F>(mut request: impl FnMut() -> F) -> Result<T, EdgeError>
where
    F: Future<Output = Result<T, EdgeError>>,
{
    let (mut pause, began) = (INITIAL_PAUSE, Instant::now());
    for _ in 1..ATTEMPTS {
        let error = match request().await {
            Err(error) if error.fact.may_pass() => error,
            answer => return answer,
        };
        let spread = pause.mul_f64(0.5 + 0.5 * random());
        let wait = spread.max(error.retry_after().unwrap_or_default());
        if began.elapsed() + wait >= PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
    request().await
}

#[async_trait]
impl Ledger for S3Ledger {
    fn edge(&self) -> Option<&Edge> {
        Some(&self.edge)
    }

    fn write_edge(&self) -> Option<&Edge> {
        Some(&self.write_edge)
    }

    /// A write whose condition fails is the cheapest: it leaves no version in a bucket with versioning. A store with a full disk may
    /// look at the condition first, so that only a write without one shows that the disk has room again. It repeats the bytes of the
    /// ledger's identity.
    async fn try_a_write(&self) {
        let Some(identity) = self.identity.get() else {
            return;
        };
        let condition = match self.write_edge.is_failing() {
            true => WriteCondition::None,
            false => WriteCondition::Absent,
        };
        let key = format!("{}ledger", self.prefix);
        // The client reports other answers to the edge.
        let padded = RequestTerms::padded();
        let terms = self.write_edge.needs_large().then_some(padded);
        let put = self.try_put_as(terms, &key, identity.clone(), condition);
        let put = put.await;
        self.note_conflict(&key, &put);
    }

    async fn create(&self, record: Record) -> Result<Created, LedgerError> {
        let key = self.key(&record);
        let stored = self.stored(&record);
        let bytes = serde_json::to_vec(&stored).expect("a record is plain data");
        // The parts of a job are found by the job: ten thousand of them would hide the other jobs.
        let is_noted = record.kind == Kind::Plan && record.job.whole().is_none();
        let put = self.put(&key, bytes, WriteCondition::Absent);
        let (put, noted) = match is_noted {
            // At once, since the job waits for both.
            true => Box::pin(join(put, self.note(&stored))).await,
            false => (put.await, Ok(())),
        };
        if let Ok(Put::Done(_)) = put {
            return noted.map(|()| Created::Ours);
        }
        // A response may have been lost, so the existing record may be ours; its nonce shows whose it is.
        let Some(found) = self.get(&key).await? else {
            put?;
            return Err(self.contradicts_itself(&key));
        };
        let existing: StoredRecord = read_json(&key, &found)?;
        if is_noted {
            self.note(&existing).await?;
        }
        if existing.record.nonce == record.nonce {
            return Ok(Created::Ours);
        }
        Ok(Created::Theirs(existing.record))
    }

    async fn records(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        let keys = self
            .list(&self.below_job(job), false, None, usize::MAX)
            .await?;
        self.read(keys).await
    }

    async fn records_of(&self, job: &JobId, rid: &str) -> Result<Vec<Record>, LedgerError> {
        let below = match rid {
            "" => self.below_job(job),
            rid => format!("{}r/{}/", self.below_job(job), spell(rid)),
        };
        let keys = self.list(&below, true, None, usize::MAX).await?;
        self.read(keys).await
    }

    /// Which recipients have a report is known by the names of records: of the others, none is read.
    async fn reports_of_parts(&self, job: &JobId) -> Result<Vec<Record>, LedgerError> {
        let parts = format!("{}jobs/{}.part.", self.prefix, spell(job.as_str()));
        let mut keys = self.list(&parts, false, None, usize::MAX).await?;
        let folder = |key: &str| key.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let is_report = |key: &&String| {
            let name = key.rsplit('/').next().unwrap_or_default();
            let word = name.split('.').next().unwrap_or_default();
            matches!(Kind::from_word(word), Some(Kind::Delivered | Kind::Bounced))
        };
        let reported = keys.iter().filter(is_report);
        let reported: HashSet<String> = reported.filter_map(|key| folder(key)).collect();
        keys.retain(|key| folder(key).is_some_and(|folder| reported.contains(&folder)));
        let mut records = self.read(keys).await?;
        records.retain(|record| record.job.whole().as_ref() == Some(job));
        Ok(records)
    }

    /// Sequencers have one length and one alphabet, so their keys sort as they do.
    async fn served_after(
        &self,
        series: &JobId,
        sequencer: &Sequencer,
    ) -> Result<Vec<Record>, LedgerError> {
        let below = format!("{}r/", self.below_job(series));
        // Behind the records of this sequencer: `0` is the character after `/`.
        let after = format!("{below}{}0", sequencer.as_str());
        let mut keys = self.list(&below, false, Some(&after), usize::MAX).await?;
        // A server may ignore start-after.
        keys.retain(|key| *key > after);
        let mut records = self.read(keys).await?;
        records.retain(|record| record.kind == Kind::Served);
        Ok(records)
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        let latest = format!("{}latest/", self.prefix);
        // A job may be noted twice, see below.
        let most = limit.saturating_mul(2);
        let keys = self.list(&latest, false, None, most).await?;
        let job = |key: &String| -> Option<JobId> {
            let (_, job) = key.strip_prefix(&latest)?.split_once('-')?;
            read_spelled(job)?.parse().ok()
        };
        // Two workers that began a job at the same time have noted it twice.
        let mut seen = HashSet::new();
        let jobs = keys.iter().filter_map(job);
        let once = jobs.filter(|job| seen.insert(job.clone()));
        Ok(once.take(limit).collect())
    }

    /// From the names of the records, so that none of them is read.
    async fn is_done(&self, job: &JobId) -> Result<bool, LedgerError> {
        let below = self.below_job(job);
        let keys = self.list(&below, true, None, usize::MAX).await?;
        let names = keys.iter().filter_map(|key| key.strip_prefix(&below));
        Ok(is_done_by_names(names))
    }

    async fn keep_page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
        page: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let key = self.page_key(job, listing, number);
        // Unmet means an earlier attempt of ours: no other process has the listing's name.
        self.put(&key, page, WriteCondition::Absent).await.map(drop)
    }

    async fn page(
        &self,
        job: &JobId,
        listing: &str,
        number: u32,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let found = self.get(&self.page_key(job, listing, number)).await?;
        Ok(found.map(|found| found.bytes))
    }

    async fn forget_pages(&self, _: &JobId) -> Result<(), LedgerError> {
        Ok(())
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn picture_cache(&self) -> Option<&dyn PictureCache> {
        Some(self)
    }

    fn portal_records(&self) -> Arc<dyn PortalRecords> {
        Arc::new(S3PortalRecords::beside(self))
    }

    fn expiring_records(&self) -> Arc<dyn PortalRecords> {
        Arc::new(S3PortalRecords::within(self))
    }
}

/// Each bundle is an object, written once: a request for each entry would cost as much as computing it again.
#[async_trait]
impl PictureCache for S3Ledger {
    async fn recall(&self, names: &[String]) -> Result<Vec<Option<String>>, LedgerError> {
        let mut kept = vec![None; names.len()];
        let mut read = stream::iter(bundles(names.iter().map(String::as_str)))
            .map(async |Bundle { name, members }| {
                let found = self.get(&self.shelf_key(&name)).await?;
                // An unreadable bundle counts as a missing one.
                let things = found.and_then(|found| serde_json::from_slice(&found.bytes).ok());
                let things: BTreeMap<String, String> = things.unwrap_or_default();
                Ok::<_, LedgerError>((members, things))
            })
            .buffer_unordered(BUNDLES_AT_ONCE);
        while let Some((members, mut things)) = read.try_next().await? {
            for at in members {
                kept[at] = things.remove(&names[at]);
            }
        }
        Ok(kept)
    }

    async fn keep(&self, things: &[(String, String)]) -> Result<(), LedgerError> {
        stream::iter(
            bundles(things.iter().map(|(name, _)| name.as_str()))
                .into_iter()
                .map(Ok),
        )
        .try_for_each_concurrent(BUNDLES_AT_ONCE, async |Bundle { name, members }| {
            let members = members.into_iter().map(|at| (&things[at].0, &things[at].1));
            let members: BTreeMap<&String, &String> = members.collect();
            let bytes = serde_json::to_vec(&members).expect("texts are plain data");
            let put = self
                .put(&self.shelf_key(&name), bytes, WriteCondition::Absent)
                .await;
            put.map(drop)
        })
        .await
    }
}

#[async_trait]
impl Leases for S3Ledger {
    async fn lease(&self, job: &JobId) -> Result<Option<SeenLease>, LedgerError> {
        let key = format!("{}lease", self.below_job(job));
        let Some(found) = self.get(&key).await? else {
            return Ok(None);
        };
        Ok(Some(SeenLease {
            terms: read_json(&key, &found)?,
            age: found.age,
            tag: LeaseTag(found.tag),
        }))
    }

    async fn put_lease(
        &self,
        job: &JobId,
        over: Option<&LeaseTag>,
        terms: &LeaseTerms,
    ) -> Result<Option<LeaseTag>, LedgerError> {
        let key = format!("{}lease", self.below_job(job));
        let condition = over.map_or(WriteCondition::Absent, |tag| {
            WriteCondition::Unchanged(&tag.0)
        });
        let bytes = serde_json::to_vec(terms).expect("terms are plain data");
        if let Put::Done(tag) = self.put(&key, bytes, condition).await? {
            return Ok(Some(LeaseTag(tag)));
        }
        let seen = self.lease(job).await?;
        Ok(seen
            .filter(|seen| seen.terms.nonce == terms.nonce)
            .map(|seen| seen.tag))
    }

    fn contradicted(&self, job: &JobId) -> LedgerError {
        self.contradicts_itself(&format!("{}lease", self.below_job(job)))
    }
}

fn read_json<T: DeserializeOwned>(key: &str, found: &Found) -> Result<T, LedgerError> {
    // No record is empty, so the store has lost its bytes on the way; the job can be done when it gives them.
    if found.bytes.is_empty() {
        let action = format!("read the ledger's {key}");
        let reason = "the answer has no bytes, and no record is empty";
        return Err(EdgeError::new(action, ErrorKind::Failed, reason).into());
    }
    serde_json::from_slice(&found.bytes).map_err(|_| LedgerError::Unreadable {
        key: key.to_owned(),
    })
}

#[cfg(test)]
mod tests;
