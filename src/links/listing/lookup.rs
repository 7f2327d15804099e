//! Looks objects up one by one: those that a job names, and those whose headers are asked for.

use std::collections::HashSet;

use futures_util::future::join_all;
use presign::disposition::is_active;

use super::gathering::{Gathering, Wants};
use super::{Entry, GatherError, HEADS_AT_ONCE, check_clock, forms_of, tell_form};
use crate::cancellation::Cancellation;
use crate::job::{Bucket, Key};
use crate::links::linkable::{self, Unlinkable};
use crate::plan::Plan;
use crate::plan::ResponseOverrides;
use crate::store::{ErrorKind, ObjectMeta, ObjectStore, StoreError};

/// Looks a few objects up at once.
async fn heads_of<'a>(
    bucket: &Bucket,
    keys: impl Iterator<Item = &'a Key>,
    store: &dyn ObjectStore,
) -> Result<Vec<Result<ObjectMeta, StoreError>>, GatherError> {
    let heads = join_all(keys.map(|key| store.head(bucket, key))).await;
    check_clock(store)?;
    Ok(heads)
}

/// Which of these objects are gone.
pub(in crate::links) async fn missing_of(
    bucket: &Bucket,
    objects: &[ObjectMeta],
    store: &dyn ObjectStore,
) -> Result<HashSet<Key>, GatherError> {
    let mut missing = HashSet::new();
    for some in objects.chunks(HEADS_AT_ONCE) {
        let keys = some.iter().map(|object| &object.key);
        for (key, head) in keys.clone().zip(heads_of(bucket, keys, store).await?) {
            match head.map_err(|error| (error.fact, error)) {
                Err((ErrorKind::NotFound, _)) => drop(missing.insert(key.clone())),
                // An object that may not be looked up is still linked: a bucket policy may allow the readers' network only.
                Err((ErrorKind::Denied | ErrorKind::Rejected, _)) | Ok(_) => {}
                Err((
                    ErrorKind::Throttled
                    | ErrorKind::Unreachable
                    | ErrorKind::Silent
                    | ErrorKind::Failed
                    | ErrorKind::Elsewhere,
                    error,
                )) => return Err(error.into()),
            }
        }
    }
    Ok(missing)
}

/// Finds for each object what a listing does not show: whether the signing credentials can read it, and whether it is in an
/// archive now.
pub(super) async fn look_at(
    objects: &[ObjectMeta],
    plan: &Plan,
    store: &dyn ObjectStore,
) -> Result<Vec<Entry>, GatherError> {
    let keys = objects.iter().map(|object| &object.key);
    let heads = heads_of(&plan.bucket, keys, store).await?;
    let looked = objects.iter().cloned().zip(heads);
    let looked = looked.map(|(object, head)| match head {
        Ok(head) => Ok(Entry::Linkable(ObjectMeta {
            storage: head.storage,
            stored: head.stored,
            ..object
        })),
        Err(error) => Ok(Entry::Unavailable(
            object.key.to_string(),
            obstacle_of(error)?,
        )),
    });
    looked.collect()
}

/// An object as it was found, or the reason why it cannot be linked.
pub(in crate::links) fn judged(object: ObjectMeta, plan: &Plan) -> Entry {
    let is_shown = plan.overrides == ResponseOverrides::Omitted;
    let active = (is_shown && is_active(object.key.file_name())).then_some(Unlinkable::Active);
    match linkable::obstacle(&object, plan.lifetime.signed_at, plan.lifetime.expires_at).or(active)
    {
        Some(reason) => Entry::Unavailable(object.key.to_string(), reason),
        None => Entry::Linkable(object),
    }
}

/// The obstacle that a refused HEAD shows; any other failure is an error of the job.
fn obstacle_of(error: StoreError) -> Result<Unlinkable, StoreError> {
    match error.fact {
        ErrorKind::NotFound => Ok(Unlinkable::Missing),
        ErrorKind::Denied => Ok(Unlinkable::Forbidden),
        ErrorKind::Rejected
        | ErrorKind::Throttled
        | ErrorKind::Unreachable
        | ErrorKind::Silent
        | ErrorKind::Failed
        | ErrorKind::Elsewhere => Err(error),
    }
}

pub(super) async fn gather_named(
    keys: &[Key],
    store: &dyn ObjectStore,
    stop: &Cancellation,
    gathering: &mut Gathering<'_>,
) -> Result<(), GatherError> {
    for some in keys.chunks(HEADS_AT_ONCE) {
        stop.check()?;
        let heads = heads_of(&gathering.plan.bucket, some.iter(), store).await?;
        for (key, head) in some.iter().zip(heads) {
            let head = match head {
                Err(error) if matches!(error.fact, ErrorKind::NotFound | ErrorKind::Denied) => {
                    let other = in_another_form(key, keys, gathering.plan, store).await?;
                    other.ok_or(error)
                }
                head => head,
            };
            match head {
                Ok(object) => {
                    if gathering.add(object)? == Wants::NoMore {
                        return Ok(());
                    }
                }
                Err(error) if error.fact == ErrorKind::Denied => return Err(error.into()),
                Err(error) => gathering.leave_out(key.to_string(), obstacle_of(error)?)?,
            }
        }
    }
    Ok(())
}

/// The object of a missing key in another Unicode form, unless the job names that too. A store may deny a key that is missing.
async fn in_another_form(
    key: &Key,
    keys: &[Key],
    plan: &Plan,
    store: &dyn ObjectStore,
) -> Result<Option<ObjectMeta>, GatherError> {
    for form in forms_of(key.as_str(), plan) {
        let Ok(form) = form.parse::<Key>() else {
            continue;
        };
        if keys.contains(&form) {
            continue;
        }
        for head in heads_of(&plan.bucket, [&form].into_iter(), store).await? {
            match head {
                Ok(object) => {
                    tell_form(plan, key.as_str(), form.as_str());
                    return Ok(Some(object));
                }
                Err(error) => drop(obstacle_of(error)?),
            }
        }
    }
    Ok(None)
}
