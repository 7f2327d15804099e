//! A listing without a job: page after page, and none is kept.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::as_listed::AsListed;
use super::lister::{Lister, Under};
use super::listing::GatherError;
use crate::cancellation::Cancellation;
use crate::job::Bucket;
use crate::links::linkable::is_folder_marker;
use crate::store::{ObjectMeta, ObjectStore, Versions};

/// How many pages are listed ahead of the caller, besides those that are on their way.
const PAGES_AHEAD: usize = 2;

/// Walks through the objects under a prefix.
///
/// A task lists, and further pages arrive while the caller works on one. A request that only the caller polled could hold what
/// the caller waits for, such as the credentials. Dropping the walk ends the task.
#[derive(Debug)]
pub struct Walk {
    pages: mpsc::Receiver<Result<Vec<ObjectMeta>, GatherError>>,
    _task: JoinSet<()>,
}

impl Walk {
    /// Starts a walk under a prefix, which may be empty.
    pub fn start(bucket: Bucket, prefix: String, store: Arc<dyn ObjectStore>) -> Self {
        let (found, pages) = mpsc::channel(PAGES_AHEAD);
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = list(&bucket, &prefix, &*store, &found).await {
                // The caller has gone away.
                let _ = found.send(Err(error)).await;
            }
        });
        Self { pages, _task: task }
    }

    /// The next objects, each once and without folder markers; `None` after the last page. They are in the order of their keys,
    /// or in that of a store that lists in another.
    ///
    /// # Errors
    /// The store does not list, or changes its order after the first page, so that an object could be listed twice or missed.
    pub async fn page(&mut self) -> Result<Option<Vec<ObjectMeta>>, GatherError> {
        self.pages.recv().await.transpose()
    }
}

async fn list(
    bucket: &Bucket,
    prefix: &str,
    store: &dyn ObjectStore,
    found: &mpsc::Sender<Result<Vec<ObjectMeta>, GatherError>>,
) -> Result<(), GatherError> {
    let under = Under {
        bucket,
        prefix,
        versions: Versions::Floating,
        is_limited: false,
    };
    let stop = Cancellation::default();
    let send = async |mut objects: Vec<ObjectMeta>| {
        objects
            .retain(|object| object.key.as_str().starts_with(prefix) && !is_folder_marker(object));
        found.send(Ok(objects)).await
    };
    let mut lister = Lister::new(under, store, &stop).asking_for_order();
    let mut has_begun = false;
    loop {
        match lister.page().await {
            Ok(Some(objects)) => {
                has_begun = true;
                if lister.meanwhile(send(objects)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(GatherError::OutOfOrder { .. }) if !has_begun => break,
            Err(error) => return Err(error),
        }
    }
    let mut listed = AsListed::new(under, store, &stop);
    while let Some(objects) = listed.page().await? {
        if send(objects).await.is_err() {
            break;
        }
    }
    Ok(())
}
