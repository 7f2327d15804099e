//! What a portal link opens: from a token to a signed link, with every question between them answered in order.
//!
//! 1. Is the token ours? Without a look-up: forged tokens reach no ledger.
//! 2. Which job, recipient and object is it for?
//! 3. Has it ended? 4. Is it revoked? The check is at most `revocation_check` old.
//! 5. Is the visitor signed in as the job asks?
//! 6. Sign. 7. Make the audit line durable. Only then does the URL exist for the caller.
//!
//! The module knows no HTTP: the portal's server turns a [`Visit`] into a page, and a [`SignedOpen`] into a redirect.

mod cache;
mod index;
mod lifetime;
mod renditions;
mod revocations;
mod signing;
mod visit;
mod visitor;
mod zips;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use presign::disposition::passive_type;
use presign::hex::hex;
use tokio::time::timeout;

pub use index::{LinkFacts, LinkIndex, RecipientLinks};
pub use renditions::RenditionSize;
pub use revocations::{Revocations, RevokedLinks};
pub use visit::{
    AccessRefusal, ClosedBecause, ClosedEntry, LinkReader, LinkedObject, OpenEvidence, OpenKind,
    OpenMethod, ReaderSession, SignedEntry, SignedInBy, SignedOpen, SignedPage, SignedZip, Visit,
};

use self::lifetime::SignedLifetimes;
use self::visitor::VisitorRecorder;
use self::zips::linked_zip;
use crate::audit::portal::{LinkRefusedFields, SessionFields};
use crate::audit::record::{AuditRecord, Pseudonyms};
use crate::audit::{AuditLog, portal as lines};
use crate::config::{PortalConfig, PortalDelivery};
use crate::edge::ErrorKind;
use crate::job::phrase::PhraseError;
use crate::job::{Bucket, ContentDisposition, SignIn};
use crate::keyring::{Deriver, Keyring, Purpose};
use crate::ledger::portal::{PortalFileNames, PortalJob, PortalLedger, PortalPerson, PortalZip};
use crate::links::Unlinkable;
use crate::links::connection::{Connection, Connections};
use crate::links::listing::Entry;
use crate::links::portal::{PortalName, PortalPresentation};
use crate::portal_token::{EVERYBODY, JobRef, ObjectSlot, PortalToken, TokenText};
use crate::store::{ObjectMeta, Storage};

/// How long the answer to whether an object exists is remembered.
const PRESENCE_FOR: Duration = Duration::from_secs(60);

/// How long an answer is waited for. Without one, the store says to the reader whether the object is there.
const PRESENCE_WITHIN: Duration = Duration::from_secs(2);

/// How many such answers are remembered, and how many links with their last refusal.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// How often the refusals of a link have a line.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// What the portal opens links with.
#[derive(Debug)]
pub struct PortalAccess {
    index: LinkIndex,
    opens: Deriver,
    names: Pseudonyms,
    connections: Arc<Connections>,
    audit: AuditLog,
    revocations: Revocations,
    lifetimes: SignedLifetimes,
    delivery: PortalDelivery,
    least_sign_in: SignIn,
    visitors: VisitorRecorder,
    presence: Mutex<LruCache<(JobRef, u32), (ObjectPresence, Timestamp)>>,
    refusals: Mutex<LruCache<PortalToken, Timestamp>>,
}

/// The services that the portal opens links with.
#[derive(Debug)]
pub struct AccessServices<'a> {
    /// The configuration of the portal.
    pub config: &'a PortalConfig,
    /// The installation's secret.
    pub keyring: &'a Keyring,
    /// How recipients are named in the audit log.
    pub names: &'a Pseudonyms,
    /// The records of the portal.
    pub records: PortalLedger,
    /// The stores, and what signs for them.
    pub connections: Arc<Connections>,
    /// The audit log.
    pub audit: AuditLog,
}

/// Whether an object is in its bucket, and can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectPresence {
    There,
    Gone,
    Archived,
}

impl PortalAccess {
    /// Opens links with these services.
    pub fn new(services: AccessServices<'_>) -> Self {
        let AccessServices {
            config,
            keyring,
            names,
            records,
            connections,
            audit,
        } = services;
        Self {
            index: LinkIndex::new(keyring, names, records.clone()),
            opens: keyring.deriver(Purpose::LinkId).after(&[b"portal-open"]),
            names: names.clone(),
            revocations: Revocations::new(
                records.clone(),
                config.revocation_check.as_duration(),
                config.stale_max.as_duration(),
            ),
            visitors: VisitorRecorder::new(
                records,
                config.addresses,
                SignedDuration::from_secs(
                    i64::try_from(config.keep_addresses.as_secs()).unwrap_or(i64::MAX),
                ),
            ),
            connections,
            audit,
            delivery: config.deliver,
            least_sign_in: config.sign_in,
            lifetimes: SignedLifetimes {
                signed_for: config.signed_for.as_duration(),
                slowest: config.slowest.as_bytes(),
                media_for: config.media_for.as_duration(),
            },
            presence: Mutex::new(LruCache::new(REMEMBERED)),
            refusals: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// What a text says, if it is a token of this installation. No look-up is made.
    pub fn read(&self, token: &str) -> Result<PortalToken, AccessRefusal> {
        self.index.read(token)
    }

    /// The records, for codes and sign-ins.
    pub const fn records(&self) -> &PortalLedger {
        self.index.cache.records()
    }

    /// The recipient's id of an address, in its canonical form.
    pub fn rid(&self, canonical_address: &str) -> String {
        self.names.recipient_id(canonical_address)
    }

    /// The recipient's own links of a job's page, or everybody's: for a list of all files.
    pub fn page_token(&self, job: JobRef, recipient: u32) -> TokenText {
        self.index.keys.seal(&PortalToken {
            job,
            recipient,
            object: ObjectSlot::PAGE,
        })
    }

    /// The letters of a token that was read, in the spelling of mails.
    pub fn spell(&self, token: &PortalToken) -> TokenText {
        self.index.keys.seal(token)
    }

    /// The link of a token: steps 1 to 4.
    pub async fn visit(&self, token: &str, now: Timestamp) -> Result<Visit, AccessRefusal> {
        self.visit_token(self.read(token)?, now).await
    }

    /// The link of a token that was read: steps 2 to 4. A visit is of one request: it does not notice later revocations.
    pub async fn visit_token(
        &self,
        token: PortalToken,
        now: Timestamp,
    ) -> Result<Visit, AccessRefusal> {
        let facts = match self.index.facts(token).await {
            Err(AccessRefusal::Forged) => return Err(self.forged_or_ended(token, now).await?),
            facts => facts?,
        };
        let (ends_at, revoked_at) = self.revocations.ask(|links| facts.state(links)).await?;
        let job = facts.job;
        if now >= ends_at {
            return Err(AccessRefusal::Ended { at: ends_at, job });
        }
        if let Some(at) = revoked_at {
            return Err(AccessRefusal::Revoked { at, job });
        }
        let person = facts.person;
        let object = match &facts.entry {
            None => None,
            Some(Entry::Unavailable(_, Unlinkable::Archived)) => {
                return Err(AccessRefusal::Archived);
            }
            Some(Entry::Unavailable(..)) => return Err(AccessRefusal::ObjectGone),
            Some(Entry::Linkable(meta)) => {
                let object = (&facts.bucket, meta);
                match self.presence(&token, &job, object, now).await {
                    ObjectPresence::There => {}
                    ObjectPresence::Gone => return Err(AccessRefusal::ObjectGone),
                    ObjectPresence::Archived => return Err(AccessRefusal::Archived),
                }
                let slot = token.object;
                Some(Arc::new(match job.zip_of(slot) {
                    Some(zip) => linked_zip(slot, &job, zip, facts.link_id),
                    None => {
                        let shown = presentation(&job, person.as_ref(), None);
                        linked(&job, slot.0, meta, facts.link_id, &shown)?
                    }
                }))
            }
        };
        Ok(Visit {
            token,
            sign_in: self.demand(&job),
            open: job.open,
            reader: person.map(|person| Arc::new(LinkReader::of(person))),
            object,
            ends_at,
            job,
        })
    }

    /// Why a token of ours is for nothing that the records have. `handout ledger prune` forgets what ended long ago, and leaves when.
    async fn forged_or_ended(
        &self,
        token: PortalToken,
        now: Timestamp,
    ) -> Result<AccessRefusal, AccessRefusal> {
        let job = self.index.cache.job(token.job).await?;
        let moved = self
            .revocations
            .ask(|links| links.end_of(&job.job, token.job))
            .await?;
        let at = moved.unwrap_or(job.ends_at);
        Ok(match now >= at {
            true => AccessRefusal::Ended { at, job },
            false => AccessRefusal::Forged,
        })
    }

    /// How visitors of a job's links sign in: as the record says, or as the configuration has asked since. A job without
    /// recipients has none who could.
    fn demand(&self, job: &PortalJob) -> SignIn {
        match job.people {
            0 => job.sign_in,
            _ => job.sign_in.max(self.least_sign_in),
        }
    }

    /// Whether an object is still in its bucket. A store that does not answer does not stop the link: the signed link will say it.
    async fn presence(
        &self,
        token: &PortalToken,
        job: &PortalJob,
        (bucket, object): (&Bucket, &ObjectMeta),
        now: Timestamp,
    ) -> ObjectPresence {
        // HEAD asks for the latest version; a pinned one may exist without it.
        let is_streamed = job.zip_of(token.object).is_some_and(PortalZip::is_streamed);
        if object.version.is_some() || is_streamed {
            return ObjectPresence::There;
        }
        let Some(connection) = self.connections.get(&job.connection) else {
            return ObjectPresence::There;
        };
        let key = (token.job, token.object.0);
        let lock = || self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&key).copied();
        let is_young = |at: Timestamp| now.duration_since(at).unsigned_abs() < PRESENCE_FOR;
        if let Some((presence, at)) = known
            && is_young(at)
        {
            return presence;
        }
        let asked = connection.store.head(bucket, &object.key);
        let Ok(asked) = timeout(PRESENCE_WITHIN, asked).await else {
            return ObjectPresence::There;
        };
        let presence = match asked {
            Ok(found) if found.storage == Storage::Archived => ObjectPresence::Archived,
            Ok(_) => ObjectPresence::There,
            Err(error) if error.fact == ErrorKind::NotFound => ObjectPresence::Gone,
            Err(_) => return ObjectPresence::There,
        };
        lock().put(key, (presence, now));
        presence
    }

    /// Whether a visitor is signed in as the link asks: step 5. The sessions that were revoked are not.
    pub async fn admit(
        &self,
        visit: &Visit,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let demand = visit.sign_in;
        if demand == SignIn::None {
            return Ok(());
        }
        let Some(session) = session.filter(|session| session.satisfies(demand)) else {
            return Err(AccessRefusal::SignIn { demand });
        };
        if !self.is_valid(session, now).await? {
            return Err(AccessRefusal::SignIn { demand });
        }
        let is_reader = match &visit.reader {
            Some(reader) => reader.rid == session.rid,
            None => {
                let (reference, job) = (visit.token.job, &visit.job);
                let place = self.index.cache.place_of(reference, job, &session.rid);
                place.await?.is_some()
            }
        };
        if !is_reader {
            return Err(AccessRefusal::OtherReader);
        }
        // The state of a link that all share says nothing of its readers one by one.
        let (job, rid, reference) = (&visit.job, &session.rid, visit.token.job);
        let revoked = self
            .revocations
            .ask(|links| links.recipient(&job.job, reference, rid));
        match revoked.await? {
            Some(at) => Err(AccessRefusal::Revoked {
                at,
                job: Arc::clone(job),
            }),
            None => Ok(()),
        }
    }

    /// Whether a session has not ended and was not revoked.
    pub async fn is_valid(
        &self,
        session: &ReaderSession,
        now: Timestamp,
    ) -> Result<bool, AccessRefusal> {
        if session.ends <= now {
            return Ok(false);
        }
        let rid = &session.rid;
        let known = session.known_changes;
        let ended = self
            .revocations
            .ask(|links| links.sessions_ended(rid, known));
        Ok(!ended.await?)
    }

    /// How many changes to links are known now: a session that begins now is not ended by them.
    pub async fn known_changes(&self) -> Result<u64, AccessRefusal> {
        Ok(self.revocations.ask(RevokedLinks::count).await?)
    }

    /// Whether a link that was visited before has been revoked since, or its reader's session.
    pub async fn is_still_open(
        &self,
        visit: &Visit,
        session: Option<&ReaderSession>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let facts = self.index.facts(visit.token).await?;
        let (_, revoked_at) = self.revocations.ask(|links| facts.state(links)).await?;
        if let Some(at) = revoked_at {
            let job = facts.job;
            return Err(AccessRefusal::Revoked { at, job });
        }
        self.admit(visit, session, now).await
    }

    fn connection(&self, job: &PortalJob) -> Result<&Connection, AccessRefusal> {
        let unknown = || AccessRefusal::unavailable(UnknownConnection(job.connection.to_string()));
        self.connections.get(&job.connection).ok_or_else(unknown)
    }

    /// Records that a recipient signed in.
    pub async fn signed_in(
        &self,
        session: &ReaderSession,
        evidence: &OpenEvidence<'_>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let fields = self.session_fields(&session.rid, Some(session), evidence, now);
        let line = lines::signed_in(&SessionFields {
            expires_at: Some(session.ends),
            ..fields.await
        });
        self.append(line).await
    }

    /// Records that a recipient signed out.
    pub async fn signed_out(
        &self,
        session: &ReaderSession,
        evidence: &OpenEvidence<'_>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let fields = self.session_fields(&session.rid, Some(session), evidence, now);
        let line = lines::signed_out(&fields.await);
        self.append(line).await
    }

    /// Records that a code is about to be mailed to a recipient.
    pub async fn code_sent(
        &self,
        rid: &str,
        evidence: &OpenEvidence<'_>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let line = lines::code(&self.session_fields(rid, None, evidence, now).await);
        self.append(line).await
    }

    async fn session_fields<'a>(
        &self,
        rid: &'a str,
        session: Option<&ReaderSession>,
        evidence: &OpenEvidence<'_>,
        now: Timestamp,
    ) -> SessionFields<'a> {
        SessionFields {
            rid,
            expires_at: None,
            visitor: self
                .visitors
                .fields(evidence, session, Some(rid), now)
                .await,
        }
    }

    /// Records that a link did not open, at most once a minute for each link. Forged tokens and outages have no line.
    pub async fn refused(
        &self,
        token: &PortalToken,
        refusal: &AccessRefusal,
        session: Option<&ReaderSession>,
        evidence: &OpenEvidence<'_>,
        now: Timestamp,
    ) -> Result<(), AccessRefusal> {
        let Some(reason) = refusal.word() else {
            return Ok(());
        };
        {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let last = refusals.get(token).copied();
            let is_recent = |at: Timestamp| now.duration_since(at).unsigned_abs() < REFUSED_EVERY;
            if last.is_some_and(is_recent) {
                return Ok(());
            }
            refusals.put(*token, now);
        }
        let job = self.index.cache.job(token.job).await?;
        let link = self.names.fingerprint(self.index.keys.seal(token).expose());
        let visitor = self.visitors.fields(evidence, session, None, now);
        let line = lines::refused(&LinkRefusedFields {
            reason,
            job: Some(job.job.as_str()),
            link: &link,
            visitor: visitor.await,
        });
        self.append(line).await
    }

    async fn append(&self, line: AuditRecord) -> Result<(), AccessRefusal> {
        Ok(self.audit.append(vec![line]).await?)
    }

    /// The jobs that a signed-in recipient has files of, the latest end first, at most `limit`: visits to their pages. Those
    /// that ended or were revoked are left out.
    pub async fn mine(
        &self,
        session: &ReaderSession,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Visit>, AccessRefusal> {
        let mut visits = Vec::new();
        for reference in self.records().mine(&session.rid, limit).await? {
            let job = match self.index.cache.job(reference).await {
                Err(AccessRefusal::NotYet) => continue,
                job => job?,
            };
            let place = match job.per_recipient {
                false => EVERYBODY,
                true => match self
                    .index
                    .cache
                    .place_of(reference, &job, &session.rid)
                    .await?
                {
                    Some(place) => place,
                    None => continue,
                },
            };
            let token = PortalToken {
                job: reference,
                recipient: place,
                object: ObjectSlot::PAGE,
            };
            let visit = match self.visit_token(token, now).await {
                Ok(visit) => match self.admit(&visit, Some(session), now).await {
                    // A job that asks for another way to sign in is listed: its page asks for it.
                    Ok(()) | Err(AccessRefusal::SignIn { .. }) => Ok(visit),
                    Err(refusal) => Err(refusal),
                },
                Err(refusal) => Err(refusal),
            };
            match visit {
                Ok(visit) => visits.push(visit),
                Err(error @ AccessRefusal::Unavailable { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(visits)
    }
}

/// The connection of a job is not configured any more.
#[derive(Debug, thiserror::Error)]
#[error("the connection {0} of a job's links is not configured: bring it back under this name")]
struct UnknownConnection(String);

/// How the files of a job are presented to a recipient; `disposition` replaces the job's.
fn presentation<'a>(
    job: &'a PortalJob,
    person: Option<&'a PortalPerson>,
    disposition: Option<ContentDisposition>,
) -> PortalPresentation<'a> {
    let of_recipient = person.and_then(|person| person.file_names.as_ref());
    PortalPresentation {
        disposition: disposition.unwrap_or(job.disposition),
        name: match (&job.file_names, of_recipient) {
            (PortalFileNames::Stored, _) => PortalName::Stored,
            (PortalFileNames::Pattern(pattern), _) => PortalName::Pattern(pattern),
            (PortalFileNames::OfRecipient, Some(pattern)) => PortalName::Pattern(pattern),
            (PortalFileNames::OfRecipient | PortalFileNames::Own, _) => PortalName::Own,
        },
        text_charset: job.text_charset,
    }
}

fn linked(
    job: &PortalJob,
    index: u32,
    object: &ObjectMeta,
    link_id: String,
    shown: &PortalPresentation<'_>,
) -> Result<LinkedObject, PhraseError> {
    let file = shown.file(object)?;
    let key = object.key.as_str();
    Ok(LinkedObject {
        index,
        path: key.strip_prefix(&job.prefix).unwrap_or(key).to_owned(),
        media_type: passive_type(&file.name),
        name: file.name,
        size_bytes: object.size_bytes,
        modified: object.modified,
        is_inline: file.disposition == ContentDisposition::Inline,
        link_id,
    })
}

/// The id of an open, from what tells it from others: 11 letters of base64url.
fn open_id(opens: &Deriver, parts: &[&[u8]]) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    Base64UrlUnpadded::encode_string(&opens.derive(parts)[..8])
}

/// The id of a session in the id of an open.
fn sid_of(session: Option<&ReaderSession>) -> String {
    session.map(|session| hex(&session.sid)).unwrap_or_default()
}
