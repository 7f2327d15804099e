//! Requests that are under way at the same time, for the parts of one upload.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, StreamExt};

use super::ArchiveError;

/// Does work for each item, some at a time, in no order. After a failure nothing more is started, and what is under way ends first:
/// a part that arrives when its upload was just aborted would stay in the store. Cancelled work is left at once.
pub(super) async fn until_failure<T, R, F>(
    items: Vec<T>,
    at_once: usize,
    work: impl Fn(T) -> F,
) -> Result<Vec<R>, ArchiveError>
where
    F: Future<Output = Result<R, ArchiveError>>,
{
    let has_failed = AtomicBool::new(false);
    let wanted = items
        .into_iter()
        .take_while(|_| !has_failed.load(Ordering::Relaxed));
    let mut running = std::pin::pin!(stream::iter(wanted).map(work).buffer_unordered(at_once));
    let (mut done, mut failure) = (Vec::new(), None);
    while let Some(result) = running.next().await {
        match result {
            Ok(one) => done.push(one),
            Err(stopped @ ArchiveError::Stopped(_)) => return Err(stopped),
            Err(error) => {
                has_failed.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(done), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::ZipError;
    use super::*;
    use crate::cancellation::Stopped;

    #[tokio::test]
    async fn after_a_failure_what_is_under_way_ends_and_nothing_is_started() {
        let (started, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = async |item: usize| {
            started.fetch_add(1, Ordering::SeqCst);
            if item == 1 {
                return Err(ZipError::Contradiction.into());
            }
            for _ in 0..item + 2 {
                tokio::task::yield_now().await;
            }
            ended.fetch_add(1, Ordering::SeqCst);
            Ok(item)
        };
        let failed = until_failure((0..100).collect(), 4, &work).await;
        assert!(matches!(
            failed,
            Err(ArchiveError::Zip(ZipError::Contradiction))
        ));
        let (started, ended) = (started.into_inner(), ended.into_inner());
        assert!(started < 10, "{started}");
        assert_eq!(ended, started - 1);
    }

    #[tokio::test]
    async fn cancelled_work_is_left_at_once() {
        let work = async |item: usize| match item {
            0 => Err(ArchiveError::Stopped(Stopped)),
            _ => std::future::pending::<Result<(), _>>().await,
        };
        let left = until_failure(vec![1, 0, 2], 3, &work).await;
        assert!(matches!(left, Err(ArchiveError::Stopped(_))));
    }
}
