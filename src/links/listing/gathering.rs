//! Objects on their way into a listing: chosen, limited, sorted, and divided into pages.

use directory::Location;
use jiff::Timestamp;

use super::lookup::{judged, look_at};
use super::{Entry, GatherError, HEADS_AT_ONCE, Listing, Pages, aside};
use crate::bounds::{MAX_LEFT_OUT, MAX_LEFT_OUT_IN_ALL};
use crate::cancellation::{Cancellation, Stopped};
use crate::job::Order;
use crate::links::linkable::Unlinkable;
use crate::plan::policy::describe;
use crate::plan::{MAX_SORTED_OBJECTS, OnUnlinkable, Plan, Refusal};
use crate::store::{MAX_PAGE, ObjectMeta, ObjectStore};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    More,
    NoMore,
}

/// Objects on their way into a [`Listing`].
pub(super) struct Gathering<'a> {
    pub(super) plan: &'a Plan,
    sorting: Vec<ObjectMeta>,
    pub(super) pages: Pages,
    pub(super) page: Vec<Entry>,
    pub(super) linkable: u64,
    pub(super) unavailable: u64,
    pub(super) missing: u64,
    pub(super) ends_at: Option<Timestamp>,
    audiences: u64,
    pub(super) spool_dir: &'a Location,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(plan: &'a Plan, spool_dir: &'a Location) -> Self {
        Self {
            plan,
            sorting: Vec::new(),
            pages: Pages::default(),
            page: Vec::new(),
            linkable: 0,
            unavailable: 0,
            missing: 0,
            ends_at: None,
            audiences: plan.audiences().len() as u64,
            spool_dir,
        }
    }

    /// Adds objects. Where each is looked up first, a few are looked up at a time, and none beyond the limit.
    pub(super) async fn take(
        &mut self,
        objects: Vec<ObjectMeta>,
        store: &dyn ObjectStore,
        stop: &Cancellation,
    ) -> Result<Wants, GatherError> {
        if !self.plan.preflight {
            let wants = self.take_in(objects.into_iter().map(Entry::Linkable))?;
            self.bound_sorting(stop).await?;
            return Ok(wants);
        }
        for some in objects.chunks(HEADS_AT_ONCE) {
            stop.check()?;
            let looked = look_at(some, self.plan, store).await?;
            if self.take_in(looked)? == Wants::NoMore {
                return Ok(Wants::NoMore);
            }
            self.bound_sorting(stop).await?;
        }
        Ok(Wants::More)
    }

    fn take_in(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<Wants, GatherError> {
        for entry in entries {
            let wants = match entry {
                Entry::Linkable(object) => self.add(object)?,
                Entry::Unavailable(key, reason) => {
                    self.leave_out(key, reason)?;
                    Wants::More
                }
            };
            if wants == Wants::NoMore {
                return Ok(wants);
            }
        }
        Ok(Wants::More)
    }

    pub(super) fn add(&mut self, mut object: ObjectMeta) -> Result<Wants, GatherError> {
        object.version = object.version.filter(|_| self.plan.pin_version);
        let object = match judged(object, self.plan) {
            Entry::Linkable(object) => object,
            Entry::Unavailable(key, reason) => {
                self.leave_out(key, reason)?;
                return Ok(Wants::More);
            }
        };
        match self.plan.order {
            Order::Key => self.keep(object),
            Order::Newest | Order::Oldest | Order::Largest | Order::Name => {
                self.sorting.push(object);
                self.check_sorting()?;
                Ok(Wants::More)
            }
        }
    }

    pub(super) fn keep(&mut self, object: ObjectMeta) -> Result<Wants, GatherError> {
        // Each audience gets a separate link to the object.
        let links = (self.linkable + 1).saturating_mul(self.audiences);
        if links > self.plan.max_links {
            return Err(Refusal::TooManyLinks {
                limit: self.plan.max_links,
            }
            .into());
        }
        self.linkable += 1;
        let entry = Entry::Linkable(object);
        self.ends_at = entry.ends_at().into_iter().chain(self.ends_at).min();
        self.push(entry)?;
        let full = self.plan.limit.is_some_and(|limit| self.linkable >= limit);
        Ok(if full { Wants::NoMore } else { Wants::More })
    }

    pub(super) fn leave_out(&mut self, key: String, reason: Unlinkable) -> Result<(), GatherError> {
        if self.plan.on_unlinkable == OnUnlinkable::Refuse {
            let place = format!("s3://{}/{key}", self.plan.bucket);
            return Err(Refusal::Unlinkable {
                place,
                reason: reason.to_string(),
            }
            .into());
        }
        self.unavailable += 1;
        let limit = self.most_left_out();
        if self.unavailable > limit {
            let what = match limit {
                MAX_LEFT_OUT => "cannot be linked",
                _ => "cannot be linked, and so many recipients would each be told of them",
            };
            return Err(GatherError::TooMany { limit, what });
        }
        let entry = Entry::Unavailable(key, reason);
        self.missing += u64::from(entry.is_missing());
        self.push(entry)
    }

    /// How many objects may be left out: each audience gets the list of all of them.
    pub(super) fn most_left_out(&self) -> u64 {
        MAX_LEFT_OUT.min(MAX_LEFT_OUT_IN_ALL / self.audiences.max(1))
    }

    /// The limit of the sorted part, of which only the first objects are kept.
    fn sorted_limit(&self) -> Option<usize> {
        let limit = self.plan.limit?;
        let limit = usize::try_from(limit).ok()?;
        (limit <= MAX_SORTED_OBJECTS).then_some(limit)
    }

    /// Without a limit, too many objects to sort are an error.
    fn check_sorting(&self) -> Result<(), Refusal> {
        if self.sorted_limit().is_some() || self.sorting.len() <= MAX_SORTED_OBJECTS {
            return Ok(());
        }
        Err(Refusal::TooManyToSort {
            place: describe(&self.plan.bucket, &self.plan.objects),
            limit: MAX_SORTED_OBJECTS,
            order: format!("{:?}", self.plan.order).to_lowercase(),
        })
    }

    /// Keeps the sorted part bounded: with a limit, only the first objects in the order are kept.
    async fn bound_sorting(&mut self, stop: &Cancellation) -> Result<(), Stopped> {
        if let Some(limit) = self.sorted_limit()
            && self.sorting.len() >= limit.saturating_mul(2).max(MAX_PAGE)
        {
            self.sort(stop).await?;
            self.sorting.truncate(limit);
        }
        Ok(())
    }

    /// Sorts on a thread of its own, since many long names with the same beginning may take long.
    pub(super) async fn sort(&mut self, stop: &Cancellation) -> Result<(), Stopped> {
        let (mut sorting, order) = (std::mem::take(&mut self.sorting), self.plan.order);
        if !sorting.is_empty() {
            self.sorting = stop
                .or(aside(move || {
                    sort(&mut sorting, order);
                    sorting
                }))
                .await?;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<(), GatherError> {
        self.page.push(entry);
        if self.page.len() == MAX_PAGE {
            self.turn_page()?;
        }
        Ok(())
    }

    fn turn_page(&mut self) -> Result<(), GatherError> {
        let page = std::mem::replace(&mut self.page, Vec::with_capacity(MAX_PAGE));
        self.pages
            .push(page, self.spool_dir)
            .map_err(|source| GatherError::Spool {
                dir: self.spool_dir.display().to_string(),
                source,
            })
    }

    pub(super) fn finish(mut self) -> Result<Listing, GatherError> {
        let sorted = std::mem::take(&mut self.sorting);
        for object in sorted {
            if self.keep(object)? == Wants::NoMore {
                break;
            }
        }
        if !self.page.is_empty() {
            self.turn_page()?;
        }
        let dir = self.spool_dir.clone();
        Ok(Listing {
            linkable: self.linkable,
            unavailable: self.unavailable,
            missing: self.missing,
            ends_at: self.ends_at,
            pages: self.pages,
            dir,
        })
    }
}

pub(super) fn sort(objects: &mut [ObjectMeta], order: Order) {
    match order {
        Order::Key => {}
        Order::Newest => {
            objects.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.key.cmp(&b.key)));
        }
        Order::Oldest => {
            objects.sort_by(|a, b| a.modified.cmp(&b.modified).then_with(|| a.key.cmp(&b.key)));
        }
        Order::Largest => objects.sort_by(|a, b| {
            b.size_bytes
                .cmp(&a.size_bytes)
                .then_with(|| a.key.cmp(&b.key))
        }),
        Order::Name => objects.sort_by(|a, b| {
            natural(a.key.file_name(), b.key.file_name()).then_with(|| a.key.cmp(&b.key))
        }),
    }
}

/// Compares names in natural order: runs of digits by their value, letters without regard to case.
pub(super) fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let mut rest = (a, b);
    loop {
        let (Some(x), Some(y)) = (rest.0.chars().next(), rest.1.chars().next()) else {
            return rest.0.len().cmp(&rest.1.len());
        };
        let (step, ordering) = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (n, m) = (digits(rest.0), digits(rest.1));
            let (value_n, value_m) = (n.trim_start_matches('0'), m.trim_start_matches('0'));
            let by_value = value_n
                .len()
                .cmp(&value_m.len())
                .then_with(|| value_n.cmp(value_m));
            (
                (n.len(), m.len()),
                by_value.then_with(|| n.len().cmp(&m.len())),
            )
        } else {
            (
                (x.len_utf8(), y.len_utf8()),
                x.to_lowercase().cmp(y.to_lowercase()),
            )
        };
        if ordering.is_ne() {
            return ordering;
        }
        rest = (&rest.0[step.0..], &rest.1[step.1..]);
    }
}

fn digits(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    &text[..end]
}
