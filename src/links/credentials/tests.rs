//! Tests of `links/credentials.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;

/// Never answers, and counts how often it was asked.
#[derive(Debug, Clone, Default)]
struct Hung(Arc<AtomicUsize>);

impl ProvideCredentials for Hung {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.fetch_add(1, Ordering::Relaxed);
        future::ProvideCredentials::new(std::future::pending())
    }
}

fn source(provider: impl ProvideCredentials + 'static) -> CredentialSource {
    let provider = SharedCredentialsProvider::new(provider);
    let section = "connections.reports".to_owned();
    CredentialSource::new("reports", section, Arc::new(provider), None)
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_asked_once_for_all_that_wait_and_is_down_after_one_deadline() {
    let hung = Hung::default();
    let source = source(hung.clone());
    let began = Instant::now();
    let asked = join_all((0..12).map(|_| source.get(Need::Now))).await;
    assert!(asked.iter().all(Result::is_err));
    assert_eq!(began.elapsed(), CREDENTIALS_TIMEOUT);
    assert_eq!(hung.0.load(Ordering::Relaxed), 1);
    let outage = source.edge().outage().unwrap();
    assert_eq!(outage.kind, FailureKind::Timeout);
    assert!(source.get(Need::Now).await.is_err());
    assert_eq!(hung.0.load(Ordering::Relaxed), 1, "it has its pause");
    sleep(outage.left).await;
    assert!(source.get(Need::Now).await.is_err());
    // At the deadline itself, it may or may not be asked once more.
    let asked = hung.0.load(Ordering::Relaxed);
    assert!(
        (6..=7).contains(&asked),
        "{asked}: it is tried again and again"
    );
}

/// Answers the third request; the first two hang.
#[derive(Debug, Clone, Default)]
struct Revived(Arc<AtomicUsize>);

impl ProvideCredentials for Revived {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        future::ProvideCredentials::new(async move {
            if before < 2 {
                std::future::pending::<()>().await;
            }
            Ok(Credentials::for_tests())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_back_is_noticed_while_an_earlier_request_hangs() {
    let source = source(Revived::default());
    assert!(source.get(Need::Now).await.is_err());
    sleep(source.edge().outage().unwrap().left).await;
    let began = Instant::now();
    assert!(source.get(Need::Now).await.is_ok());
    assert_eq!(began.elapsed(), ASKED_AGAIN);
    assert_eq!(source.edge().outage(), None);
}

/// Credentials that end a number of seconds from now.
fn ending(seconds: i64) -> Credentials {
    let end = crate::clock::system() + SignedDuration::from_secs(seconds);
    Credentials::new("a", "b", Some("c".to_owned()), end.try_into().ok(), "test")
}

#[tokio::test]
async fn a_source_whose_credentials_have_ended_has_failed() {
    let hour = crate::clock::system() + SignedDuration::from_hours(1);
    let over = source(ending(-30));
    assert!(over.lasting(hour).await.unwrap().end != CredentialsEnd::Never);
    let outage = over.edge().outage().unwrap();
    assert_eq!(outage.kind, FailureKind::Denied);
    assert!(outage.words.contains("ended at"), "{outage}");
    // Keys of the environment, whose end is in AWS_CREDENTIAL_EXPIRATION.
    let session = SessionEnd {
        session_token: "c".to_owned(),
        at: Timestamp::UNIX_EPOCH,
    };
    let keys = Credentials::new("a", "b", Some("c".to_owned()), None, "test");
    let provider = Arc::new(SharedCredentialsProvider::new(keys));
    let fixed = CredentialSource::new("reports", String::new(), provider, Some(session));
    drop(fixed.lasting(hour).await);
    assert_eq!(fixed.edge().outage().unwrap().kind, FailureKind::Denied);
    let lives = source(ending(60));
    drop(lives.lasting(hour).await);
    assert_eq!(lives.edge().outage(), None);
}

#[tokio::test]
async fn whether_credentials_have_ended_is_told_by_the_clock_of_their_store() {
    let hour = crate::clock::system() + SignedDuration::from_hours(1);
    let ahead = SignedDuration::from_secs(600);
    for (ends, skew, has_ended) in [(-30, -ahead, false), (300, ahead, true)] {
        for need in [Need::Now, Need::Until(hour)] {
            let source = source(ending(ends));
            source.clock().set(skew);
            drop(source.get(need).await);
            assert_eq!(
                source.edge().outage().is_some(),
                has_ended,
                "{ends} {need:?}"
            );
        }
    }
    // The first answer sets the clock.
    let source = source(ending(-30));
    source.get(Need::Now).await.unwrap();
    assert_eq!(source.edge().outage(), None);
    // What may have ended does not show that a source that failed gives good ones again.
    drop(source.get(Need::Until(hour)).await);
    let outage = source.edge().outage().unwrap();
    source.get(Need::Now).await.ok();
    assert_eq!(source.edge().outage().unwrap().since, outage.since);
}

/// A process may repeat an answer that it has cached: the earlier credentials are better.
#[tokio::test(start_paused = true)]
async fn credentials_that_live_are_not_given_up_for_such_as_have_ended() {
    #[derive(Debug)]
    struct Repeats(AtomicUsize);

    impl ProvideCredentials for Repeats {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let lasts = match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => 1800,
                _ => -30,
            };
            future::ProvideCredentials::ready(Ok(ending(lasts)))
        }
    }
    let source = source(Repeats(AtomicUsize::default()));
    let now = crate::clock::system();
    source.clock().set(SignedDuration::ZERO);
    let soon = now + SignedDuration::from_mins(5);
    let first = source.lasting(soon).await.unwrap().end;
    let later = source.lasting(now + SignedDuration::from_hours(1)).await;
    assert_ne!(later.unwrap().end, first);
    assert_eq!(source.edge().outage().unwrap().kind, FailureKind::Denied);
    assert_eq!(source.lasting(soon).await.unwrap().end, first);
}

/// Credentials that are made of a file.
#[derive(Debug)]
struct OfFile;

#[async_trait]
impl Origin for OfFile {
    fn files(&self) -> Vec<PathBuf> {
        vec!["/nonexistent/secret".into()]
    }

    async fn provider(&self) -> Result<SharedCredentialsProvider, CredentialsError> {
        Ok(SharedCredentialsProvider::new(Credentials::for_tests()))
    }
}

#[tokio::test]
async fn files_that_hang_have_one_thread_and_hold_good_credentials_up_for_a_moment() {
    let section = "connections.reports".to_owned();
    let source = CredentialSource::new("reports", section, Arc::new(OfFile), None);
    source.get(Need::Now).await.unwrap();
    let (_hangs, waits) = std::sync::mpsc::channel::<()>();
    let hanging = tokio::task::spawn_blocking(move || {
        let _closed = waits.recv();
        Stamps::default()
    });
    let id = hanging.id();
    source.inner.state.lock().await.looking = Some(hanging);
    let began = Instant::now();
    for _ in 0..2 {
        let mut state = source.inner.state.lock().await;
        (state.left_alone, state.looked_at) = (None, None);
        drop(state);
        source.get(Need::Now).await.unwrap();
    }
    assert!(began.elapsed() < CREDENTIALS_TIMEOUT, "{began:?}");
    let state = source.inner.state.lock().await;
    assert_eq!(state.looking.as_ref().map(JoinHandle::id), Some(id));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_source_is_seen_by_its_edge() {
    let source = source(Hung::default());
    let jobs: Vec<_> = (0..3)
        .map(|n| source.edge().enter(&n.to_string(), 1).unwrap())
        .collect();
    let waits = async {
        sleep(Duration::from_secs(4)).await;
        jobs.iter().filter(|job| job.gives_way(1).is_some()).count()
    };
    tokio::select! {
        _ = source.get(Need::Now) => unreachable!("it hangs"),
        giving_way = waits => assert_eq!(giving_way, 2),
    }
}
