//! Makes and stores the renditions of one job's pictures, once for all its recipients, and links them for each.
//!
//! Renditions are stored in one folder of the job beside its pages. Their names are made of the state of the picture, so that a job
//! that runs again finds them. Time, bytes, threads and failures are bounded, and a picture without renditions is shown itself: no
//! picture fails a job.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join;
use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use crate::audit::record::LinkKind;
use crate::bounds::MAX_PICTURE_BYTES;
use crate::deliver::DeliveryLedger;
use crate::deliver::publish::Publisher;
use crate::error::JobError;
use crate::job::{JobId, Key};
use crate::keyring::sha256_hex;
use crate::ledger::portal::PortalLedger;
use crate::links;
use crate::links::listing::Entry;
use crate::media::poster::{
    BOX_HEAD_BYTES, FileBox, MAX_FILE_BOXES, cover, file_box, may_have_poster,
};
use crate::media::rendition::{self, LARGE_SIDE, MadeRenditions, RenditionError, SMALL_SIDE};
use crate::media::{
    PageRenditions, PictureFormat, Pictures, RenditionPlace, RenditionSettings, Renditions,
    StoredRenditions, may_have_renditions,
};
use crate::plan::{Audience, Plan};
use crate::portal_token::JobRef;
use crate::run::{JobRun, Signing};
use crate::store::{ObjectMeta, ObjectStore};
use crate::text::chain;

/// The version of what is made; a change of sizes or encoding gives other names.
const VERSION: &str = "rendition/1";

/// The time limit of all renditions of a job; it is also limited to a quarter of the lifetime of the job's links. Pictures that are
/// left are shown themselves.
const MAX_MAKING: Duration = Duration::from_secs(900);

/// The timeout of fetching and decoding a picture, once there is room for it in memory.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the log says how far a page's renditions are.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// The number of failed requests after which no more pictures are fetched: if ten are denied, ten thousand would be.
const MAX_FAILURES: u32 = 10;

/// The renditions of a job.
#[derive(Debug)]
pub struct RenditionMaker<'a> {
    run: &'a JobRun,
    plan: &'a Plan,
    signing: &'a Signing,
    recording: &'a DeliveryLedger,
    settings: &'a RenditionSettings,
    store: &'a dyn ObjectStore,
    /// Where the renditions go; `None` if the job has no page or gets none.
    publisher: Option<Publisher>,
    /// Where the portal learns of them.
    keeper: Option<(PortalLedger, JobRef)>,
    failures: AtomicU32,
    /// Held while a page is worked on: other callers for it wait for its result.
    state: Mutex<MakerState>,
}

#[derive(Debug)]
struct MakerState {
    /// The renditions of the pages so far. Callers ask for them in order.
    pages: Vec<Arc<Renditions>>,
    /// The number of pictures that may still get renditions.
    left: u64,
    /// The number of pictures that should have got renditions and have none.
    without: u64,
    /// The deadline of all pages, set with the first.
    until: Option<Instant>,
    /// The place among the jobs that make renditions, from the first page with pictures until all pages are made.
    place: Option<RenditionPlace>,
}

/// Tells a decoder to end when the future that waits for it is dropped.
#[derive(Debug)]
struct EndsDecoding(Arc<AtomicBool>);

impl Drop for EndsDecoding {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How far the renditions of a page are.
#[derive(Debug)]
struct RenditionProgress {
    pictures: usize,
    /// How many pictures are through.
    done: usize,
    have: usize,
    told_at: Instant,
}

impl RenditionProgress {
    fn new(pictures: usize) -> Self {
        Self {
            pictures,
            done: 0,
            have: 0,
            told_at: Instant::now(),
        }
    }

    /// Counts a picture, and says once a minute how far the page is: hundreds of pictures take minutes in which nothing else happens.
    fn one_more(&mut self, has_renditions: bool, job: &JobId) {
        self.done += 1;
        self.have += usize::from(has_renditions);
        if self.told_at.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told_at = Instant::now();
        tracing::info!(
            job.id = %job,
            pictures = self.pictures,
            done = self.done,
            have_renditions = self.have,
            "renditions of a page are being made"
        );
    }
}

/// What decodes a picture, or a video's cover, and encodes its renditions.
type MakeFn = fn(&[u8], &(dyn Fn() -> bool + Sync)) -> Result<MadeRenditions, RenditionError>;

/// Why a picture got no renditions in this run.
#[derive(Debug, thiserror::Error)]
enum NotMade {
    #[error(transparent)]
    Picture(#[from] RenditionError),
    #[error("it could not be read or its renditions not be stored: {0}")]
    Edge(String),
    #[error("the video carries no cover")]
    NoCover,
    #[error("its bytes are not those that were listed")]
    Changed,
    #[error("the time for it is over")]
    Late,
    #[error("the decoder panicked")]
    Panicked,
    #[error("too many requests failed before")]
    GivenUp,
}

impl<'a> RenditionMaker<'a> {
    /// The renditions of a plan. Nothing is fetched before a page is requested, and never for a plan without a gallery.
    pub fn new(
        run: &'a JobRun,
        plan: &'a Plan,
        signing: &'a Signing,
        recording: &'a DeliveryLedger,
        settings: &'a RenditionSettings,
    ) -> Result<Self, JobError> {
        let store = &signing.connection(&plan.connection)?.store;
        let publisher = match settings.limit {
            0 => None,
            _ => publisher(plan, signing)?,
        };
        Ok(Self {
            run,
            plan,
            signing,
            recording,
            settings,
            store: &**store,
            publisher,
            keeper: None,
            failures: AtomicU32::new(0),
            state: Mutex::new(MakerState {
                pages: Vec::new(),
                left: settings.limit,
                without: 0,
                until: None,
                place: None,
            }),
        })
    }

    /// Tells the portal of the renditions, in its records of the job.
    #[must_use]
    pub fn told_to(mut self, ledger: PortalLedger, reference: JobRef) -> Self {
        let is_portal = self.plan.portal.is_some() && self.publisher.is_some();
        self.keeper = is_portal.then_some((ledger, reference));
        self
    }

    /// The renditions of page `number` of the job's listing, made or found. Pages are requested in order; a repeated request does
    /// not make them again.
    ///
    /// # Errors
    /// Other jobs have all places of the jobs that make renditions; or the ledger does not answer, in a job whose page the portal shows.
    pub async fn page(
        &self,
        number: usize,
        (first, page): (u32, &[Entry]),
        pictures: &Pictures,
    ) -> Result<Arc<Renditions>, JobError> {
        let Some(publisher) = &self.publisher else {
            return Ok(Arc::default());
        };
        let mut state = self.state.lock().await;
        if let Some(made) = state.pages.get(number) {
            return Ok(Arc::clone(made));
        }
        let until = *state.until.get_or_insert_with(|| self.deadline());
        let wanted = state.take(page, pictures);
        if !wanted.is_empty() && state.place.is_none() {
            state.place = Some(self.take_place()?);
        }
        let (asked, wanted) = (wanted.len(), &wanted);
        let mut progress = RenditionProgress::new(asked);
        let renditions: Vec<Option<(Key, StoredRenditions)>> = stream::iter(0..asked)
            .map(|at| async move {
                let object = wanted[at];
                let stored = self.of_picture(publisher, object, pictures, until).await?;
                Some((object.key.clone(), stored))
            })
            .buffered(self.settings.at_once.max(1))
            .inspect(|made| progress.one_more(made.is_some(), &self.plan.job.id))
            .collect()
            .await;
        // A video without a cover is no picture.
        let is_without = |(object, made): &(&&ObjectMeta, &Option<_>)| {
            made.is_none() && may_have_renditions(object.key.as_str())
        };
        state.without += wanted.iter().zip(&renditions).filter(is_without).count() as u64;
        let of_pictures: Vec<_> = renditions.into_iter().flatten().collect();
        // A run that was stopped begins again, and says it then.
        if asked > 0 && self.run.stop.check().is_ok() {
            let (job, have) = (&self.plan.job.id, of_pictures.len());
            tracing::info!(job.id = %job, pictures = asked, have_renditions = have, "renditions of a page are stored");
        }
        let renditions = Arc::new(Renditions { of_pictures });
        if let Some((ledger, reference)) = &self.keeper {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let rows = serde_json::to_vec(&renditions.rows(first, page));
            let rows = rows.expect("renditions are plain data");
            ledger.keep_renditions(*reference, number, rows).await?;
        }
        state.pages.push(Arc::clone(&renditions));
        Ok(renditions)
    }

    /// Links a page's renditions for an audience; the links have their audit line when this returns.
    ///
    /// # Errors
    /// The credentials cannot sign, or the line cannot be written.
    pub async fn linked(
        &self,
        number: usize,
        renditions: &Renditions,
        audience: &Audience,
    ) -> Result<PageRenditions, JobError> {
        // The portal signs its links when its page is shown.
        let publisher = self.publisher.as_ref().filter(|_| self.keeper.is_none());
        let Some(publisher) = publisher else {
            return Ok(PageRenditions::default());
        };
        let objects = renditions
            .file_names()
            .map(|name| publisher.object(name))
            .collect::<Option<Vec<_>>>();
        let Some(objects) = objects else {
            let location = |name: &str| publisher.from_pages(name);
            return Ok(PageRenditions::beside(renditions, location));
        };
        let Some((bucket, _)) = objects.first().cloned() else {
            return Ok(PageRenditions::default());
        };
        let (plan, run) = (self.plan, self.run);
        let signer = self.signing.published_link_signer(plan, &bucket).await?;
        let keys = objects.into_iter().map(|(_, key)| key).collect();
        let links = links::sign_renditions(plan, &bucket, keys, number, audience, &signer)?;
        let role = self.signing.role(&run.job.from.connection);
        let recording = self.recording;
        let context = run.context(LinkKind::Renditions, role, &recording.names);
        // Lines that were written and not noted as issued would be written again by the next attempt.
        let _writing = run.stop.commit()?;
        let recorded = recording.issued.record(links, &context, &recording.audit);
        Ok(PageRenditions::linked(renditions, &recorded.await?))
    }

    /// Says that the last page was made: another job may make its renditions while this one mails.
    pub async fn has_all_pages(&self) {
        self.state.lock().await.place = None;
    }

    /// How many pictures of the pages so far should have got renditions and have none: their pages show the pictures themselves.
    pub async fn pictures_without(&self) -> u64 {
        self.state.lock().await.without
    }

    fn take_place(&self) -> Result<RenditionPlace, JobError> {
        let places = &self.settings.places;
        let message = self.run.message_id.as_deref();
        let place = places.take(message.unwrap_or_else(|| self.plan.job.id.as_str()));
        place.ok_or(JobError::RenditionsBusy {
            places: places.most(),
        })
    }

    fn deadline(&self) -> Instant {
        let life = Duration::from_secs(self.plan.lifetime.signed_for_secs);
        Instant::now() + MAX_MAKING.min(life / 4)
    }

    /// The renditions of a picture, if it can have them.
    async fn of_picture(
        &self,
        publisher: &Publisher,
        object: &ObjectMeta,
        pictures: &Pictures,
        until: Instant,
    ) -> Option<StoredRenditions> {
        let work = timeout_at(until, self.found_or_made(publisher, object));
        let stored = self.run.stop.or(work).await.ok()?;
        match stored.unwrap_or(Err(NotMade::Late)) {
            Ok((small, large)) => {
                let picture = pictures.of(&object.key);
                Some(StoredRenditions::new(small, large, picture))
            }
            Err(reason) => {
                self.log(object, &reason);
                None
            }
        }
    }

    /// Logs why a picture has no renditions: the first failure of a request for the operator, and the rest for debugging.
    fn log(&self, object: &ObjectMeta, reason: &NotMade) {
        let (job, key, error) = (&self.plan.job.id, object.key.as_str(), chain(reason));
        let is_first = matches!(reason, NotMade::Edge(_))
            && self.failures.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first {
            tracing::warn!(job.id = %job, object.key = key, error, "could not make a rendition; the page shows the picture itself");
        } else {
            tracing::debug!(job.id = %job, object.key = key, error, "a picture has no renditions");
        }
    }

    /// The names of the small rendition and of the large one, if there is one, once they are stored.
    async fn found_or_made(
        &self,
        publisher: &Publisher,
        object: &ObjectMeta,
    ) -> Result<(String, Option<String>), NotMade> {
        let [small, large] = self.names(object);
        let until = self.plan.lifetime.expires_at;
        // The small one is stored last: where it is, the large one is too, or there is none.
        let found = join(publisher.has(&small, until), publisher.has(&large, until)).await;
        if let (true, has_large) = found {
            return Ok((small, has_large.then_some(large)));
        }
        if self.failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return Err(NotMade::GivenUp);
        }
        let in_memory = self.settings.in_memory.acquire().await;
        let _in_memory = in_memory.map_err(|_| NotMade::Late)?;
        let made = timeout(PICTURE_TIMEOUT, self.make(object)).await;
        let made = made.map_err(|_| NotMade::Late)??;
        let has_large = made.large.is_some();
        if let Some(image) = made.large {
            put(publisher, &large, image.jpeg).await?;
        }
        put(publisher, &small, made.small.jpeg).await?;
        Ok((small, has_large.then_some(large)))
    }

    /// The cover that a video carries, from the few parts of it that tell where it is.
    async fn cover(&self, object: &ObjectMeta) -> Result<Vec<u8>, NotMade> {
        let size = object.size_bytes;
        let read = async |range: Range<u64>| {
            let read = self.store.range(&self.plan.bucket, object, range).await;
            read.map_err(|error| NotMade::Edge(chain(&error)))
        };
        let mut at = 0;
        for _ in 0..MAX_FILE_BOXES {
            let head = read(at..size.min(at + BOX_HEAD_BYTES)).await?;
            match file_box(&head, at, size) {
                Some(FileBox::Other(next)) => at = next,
                Some(FileBox::Movie(range)) => {
                    let movie = read(range).await?;
                    let cover = cover(&movie).ok_or(NotMade::NoCover)?;
                    return Ok(cover.to_vec());
                }
                None => break,
            }
        }
        Err(NotMade::NoCover)
    }

    /// Fetches a picture, and decodes it on a thread once one is free.
    async fn make(&self, object: &ObjectMeta) -> Result<MadeRenditions, NotMade> {
        if may_have_poster(object.key.as_str()) {
            let cover = self.cover(object).await?;
            return self.decoded(cover, rendition::make_poster).await;
        }
        let size = usize::try_from(object.size_bytes).unwrap_or(usize::MAX);
        let bytes = self.store.beginning(&self.plan.bucket, object, size);
        let bytes = bytes.await.map_err(|error| NotMade::Edge(chain(&error)))?;
        if bytes.len() != size {
            return Err(NotMade::Changed);
        }
        self.decoded(bytes, rendition::make).await
    }

    async fn decoded(&self, bytes: Vec<u8>, make: MakeFn) -> Result<MadeRenditions, NotMade> {
        let niceness = self.settings.niceness;
        let threads = Arc::clone(&self.settings.threads);
        let permit = threads.acquire_owned().await.map_err(|_| NotMade::Late)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let _ends = EndsDecoding(Arc::clone(&is_over));
        let made = tokio::task::spawn_blocking(move || {
            // The permit is held as long as the thread works, also if the result is no longer awaited.
            let _permit = permit;
            decode(&bytes, make, niceness, &is_over)
        });
        made.await.map_err(|_| NotMade::Panicked)?
    }

    /// The names of a picture's renditions. They differ for each state of the object.
    fn names(&self, object: &ObjectMeta) -> [String; 2] {
        let (bucket, key) = (self.plan.bucket.as_str(), object.key.as_str());
        let parts = (VERSION, bucket, key, &object.etag);
        let parts = serde_json::to_vec(&parts).expect("texts are plain data");
        let stem = &sha256_hex(&parts)[..32];
        [SMALL_SIDE, LARGE_SIDE].map(|side| format!("{stem}-{side}.jpg"))
    }
}

/// Where the renditions of a plan's pictures go; `None` if it has no page, or none with renditions.
pub fn publisher(plan: &Plan, signing: &Signing) -> Result<Option<Publisher>, JobError> {
    let store = &signing.connection(&plan.connection)?.store;
    let gallery = plan.gallery.as_ref().map(|gallery| &gallery.place);
    let portal = plan.portal.as_ref();
    let portal = portal.and_then(|portal| portal.renditions.as_ref());
    let place = gallery.or(portal).cloned();
    Ok(place.map(|place| {
        let (keyring, job) = (&signing.keyring, &plan.job.id);
        // Of all audiences: a picture is the same for each.
        let (store, everyone) = (Arc::clone(store), Audience::Everyone);
        Publisher::new(store, place, keyring, job, &everyone, "renditions")
    }))
}

/// Decodes a picture on a thread of its own, whose priority is low: mails of other jobs go first. The priority of a thread of the
/// runtime could not be raised again.
fn decode(
    bytes: &[u8],
    make: MakeFn,
    niceness: i32,
    is_over: &AtomicBool,
) -> Result<MadeRenditions, NotMade> {
    let made = std::thread::scope(|scope| {
        let decoder = scope.spawn(|| {
            // Where it is not permitted, the priority stays as it is.
            rustix::process::nice(niceness).ok();
            make(bytes, &|| is_over.load(Ordering::Relaxed))
        });
        decoder.join()
    });
    Ok(made.map_err(|_| NotMade::Panicked)??)
}

async fn put(publisher: &Publisher, name: &str, jpeg: Vec<u8>) -> Result<(), NotMade> {
    let put = publisher.put_picture(name, jpeg).await;
    put.map_err(|error| NotMade::Edge(chain(&error)))
}

impl MakerState {
    /// The pictures of a page that may get renditions.
    fn take<'p>(&mut self, page: &'p [Entry], pictures: &Pictures) -> Vec<&'p ObjectMeta> {
        let objects = page.iter().filter_map(|entry| match entry {
            Entry::Linkable(object) => Some(object),
            Entry::Unavailable(..) => None,
        });
        let may_have = |object: &&ObjectMeta| {
            let is_shown = pictures
                .of(&object.key)
                .is_none_or(|picture| picture.format == PictureFormat::Displayed);
            let name = object.key.as_str();
            // Of a video, only the parts around its cover are read.
            let is_bounded = (1..=MAX_PICTURE_BYTES).contains(&object.size_bytes);
            let is_made = is_bounded && may_have_renditions(name) || may_have_poster(name);
            // Without an ETag, a changed object could not be told from this one.
            is_shown && is_made && !object.etag.is_empty()
        };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let taken: Vec<&ObjectMeta> = objects.filter(may_have).take(most).collect();
        self.left -= taken.len() as u64;
        taken
    }
}
