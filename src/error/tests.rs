//! Tests of `error.rs`.

use super::*;
use crate::database::DatabaseError;
use crate::edge::ServiceAnswer;
use crate::edge::health::{Edge, EdgeKind, FailureKind};
use crate::text::chain;
use proptest::prelude::*;
use rustix::io::Errno;

/// The disposition if no component says how long to wait.
fn disposition(class: FailureClass, count: u32, limits: &RetryLimits, jitter: f64) -> Disposition {
    super::disposition(class, count, limits, Duration::ZERO, jitter)
}

#[test]
fn a_job_that_waits_for_a_relay_comes_back_when_it_may_and_is_not_given_up() {
    let limits = RetryLimits::default();
    let after = |class, count, at_least| {
        let at_least = Duration::from_secs(at_least);
        match super::disposition(class, count, &limits, at_least, 1.0) {
            Disposition::Retry { after } => after.as_secs(),
            Disposition::Delete | Disposition::Park => 0,
        }
    };
    assert_eq!(after(FailureClass::Deferred, 1, 300), 330);
    assert_eq!(after(FailureClass::Deferred, 99, 300), 330);
    assert_eq!(after(FailureClass::Deferred, 1, 0), 10);
    assert_eq!(after(FailureClass::Deferred, 99, 0), 900);
}

/// If the disk is full, the log says so and the job waits, whichever file is affected.
/// A directory of the operator does not respond, or its server is gone: the job waits as long as such a failure lasts, and no longer.
#[test]
fn a_job_comes_back_in_the_same_time_while_a_file_system_is_away() {
    let away = [
        io::Error::from(Errno::NOTCONN),
        io::Error::from(Errno::STALE),
        io::Error::from(Errno::HOSTDOWN),
        io::Error::from(Errno::IO),
        io::Error::new(io::ErrorKind::TimedOut, "/mnt did not respond within 10 s"),
    ];
    for source in away {
        let copy = || match source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        let (path, place) = (std::path::PathBuf::from("/x"), || "/x".to_owned());
        let outbox = || DeliverError::File {
            path: path.clone(),
            source: copy(),
        };
        let errors = [
            JobError::from(outbox()),
            JobError::deferred(vec![outbox().into()]).unwrap(),
            JobError::from(GatherError::Spool {
                dir: place(),
                source: copy(),
            }),
        ];
        for error in errors {
            let limits = RetryLimits::default();
            for tries in [1, 20, 1000] {
                let after =
                    super::disposition(error.class(), tries, &limits, error.at_least(), 0.5);
                let Disposition::Retry { after } = after else {
                    panic!("{error}: {after:?}");
                };
                assert!(after <= DISK_AT_LEAST.mul_f64(1.1), "{error}: {after:?}");
            }
            let hangs = source.kind() == io::ErrorKind::TimedOut;
            assert_eq!(error.is_of_a_hanging_place(), hangs, "{error}");
        }
    }
    let other = JobError::from(DeliverError::File {
        path: "/x".into(),
        source: io::Error::from(Errno::ACCESS),
    });
    assert_eq!(other.class(), FailureClass::Transient);
}

#[test]
fn a_full_disk_is_said_and_is_no_failure_of_the_job() {
    let full = || io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
    let shared = || std::sync::Arc::new(full());
    let (path, place) = (std::path::PathBuf::from("/x"), || "/x".to_owned());
    let outbox = || DeliverError::File {
        path: path.clone(),
        source: full(),
    };
    let sqlite = rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
        Some(full().to_string()),
    );
    let errors = [
        JobError::from(outbox()),
        JobError::deferred(vec![outbox().into()]).unwrap(),
        JobError::from(GatherError::Spool {
            dir: place(),
            source: full(),
        }),
        JobError::from(RecordError::Write {
            path: place(),
            source: shared(),
        }),
        JobError::from(RecordError::Open {
            path: place(),
            source: shared(),
        }),
        JobError::from(ResultsError::File {
            path: path.clone(),
            source: full(),
        }),
        JobError::from(LedgerError::Database {
            action: "write to",
            source: DatabaseError::Statement(sqlite),
        }),
        JobError::from(LedgerError::Database {
            action: "write to",
            source: DatabaseError::File {
                path: path.clone(),
                source: full(),
            },
        }),
    ];
    let waits = |error: JobError| {
        let said = chain(&error);
        let limits = RetryLimits::default();
        let disposition = disposition(error.class(), 1000, &limits, 0.5);
        assert!(
            matches!(disposition, Disposition::Retry { .. }),
            "{said}: {disposition:?}"
        );
        said
    };
    for error in errors {
        let said = waits(error);
        assert!(said.contains("No space left on device"), "{said}");
    }
    // Failures to open a file or to get memory are not failures of the disk.
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::DQUOT] {
        let source = || std::sync::Arc::new(io::Error::from(errno));
        for error in [
            RecordError::Write {
                path: place(),
                source: source(),
            },
            RecordError::Open {
                path: place(),
                source: source(),
            },
        ] {
            assert_eq!(
                JobError::from(error.clone()).class(),
                FailureClass::Edge,
                "{error:?}"
            );
            waits(error.into());
        }
    }
}

#[test]
fn a_job_that_is_done_is_never_parked_for_its_result() {
    let facts = [
        ErrorKind::NotFound,
        ErrorKind::Denied,
        ErrorKind::Throttled,
        ErrorKind::Unreachable,
        ErrorKind::Silent,
        ErrorKind::Failed,
        ErrorKind::Elsewhere,
        ErrorKind::Rejected,
    ];
    let queue = |fact| ResultsError::Queue(EdgeError::new("submit", fact, "no"));
    let file = ResultsError::File {
        path: "results.jsonl".into(),
        source: io::Error::other("no room"),
    };
    for error in facts.map(queue).into_iter().chain([file]) {
        let error = JobError::from(error);
        let limits = RetryLimits::default();
        let disposition = disposition(error.class(), 1000, &limits, 0.5);
        assert!(
            matches!(disposition, Disposition::Retry { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_denial_is_that_of_the_edge_whose_connection_asked() {
    let answer = |section: Option<&str>| ServiceAnswer {
        status: 403,
        code: Some("AccessDenied".to_owned()),
        place: None,
        retry_after: None,
        section: section.map(Into::into),
    };
    let denied = |section| EdgeError {
        answer: Some(Box::new(answer(section))),
        ..EdgeError::new("list", ErrorKind::Denied, "no")
    };
    let edge = |kind, name: &str| Edge::new(kind, name, "the service");
    let (reports, photos) = (
        edge(EdgeKind::Store, "reports"),
        edge(EdgeKind::Store, "photos"),
    );
    let credentials = edge(EdgeKind::Credentials, "reports");
    let ledger = edge(EdgeKind::Ledger, "ledger");
    let queue = edge(EdgeKind::Queue, "deletions");
    let of_reports = JobError::Gather(GatherError::Store(denied(Some("connections.reports"))));
    let of_ledger = JobError::Ledger(LedgerError::Store(denied(Some("connections.reports"))));
    let of_source = JobError::Gather(GatherError::Store(denied(None)));
    for (error, expected) in [
        (&of_reports, [true, false, true, false, false]),
        (&of_ledger, [false, false, false, true, false]),
        (&of_source, [true, true, true, false, false]),
    ] {
        let edges = [&reports, &photos, &credentials, &ledger, &queue];
        let denying = edges.map(|edge| error.is_denial_by(edge));
        assert_eq!(denying, expected, "{error:?}");
    }
    let other = EdgeError::new("list", ErrorKind::Failed, "no");
    assert!(!JobError::Gather(GatherError::Store(other)).is_denial_by(&reports));
}

#[test]
fn a_done_job_comes_back_with_the_pause_of_its_results_queue_however_often_it_came() {
    let edge = Edge::new(EdgeKind::Results, "queue", "the results queue");
    edge.failed(FailureKind::Denied, "no");
    let outage = edge.outage().unwrap();
    let left = outage.left;
    let error = JobError::from(ResultsError::from(outage));
    assert!(error.outage().is_some());
    let limits = RetryLimits::default();
    let Disposition::Retry { after } =
        super::disposition(error.class(), 1000, &limits, error.at_least(), 1.0)
    else {
        panic!("it waits");
    };
    assert!(
        left > Duration::from_secs(5) && after < left.mul_f64(1.2),
        "{after:?}"
    );
}

#[test]
fn recipients_whose_time_is_nearly_up_do_not_bring_the_job_back_at_once() {
    let later = |seconds| {
        JobError::from(DeliverError::Later {
            masked: String::new(),
            after: Duration::from_secs(seconds),
            words: String::new(),
        })
    };
    let deferred = |each: &[u64]| {
        let failed = each.iter().map(|seconds| later(*seconds)).collect();
        JobError::deferred(failed).unwrap().at_least().as_secs()
    };
    assert_eq!(deferred(&[300, 1, 200]), 30);
    assert_eq!(deferred(&[300, 200]), 200);
}

#[test]
fn a_permanent_error_is_parked_and_a_transient_one_comes_back_later_and_later() {
    let limits = RetryLimits::default();
    assert_eq!(
        disposition(FailureClass::Permanent, 1, &limits, 0.5),
        Disposition::Park
    );
    assert_eq!(
        disposition(FailureClass::Policy, 1, &limits, 0.5),
        Disposition::Park
    );
    let wait = |count| match disposition(FailureClass::Transient, count, &limits, 1.0) {
        Disposition::Retry { after } => after.as_secs(),
        Disposition::Delete | Disposition::Park => 0,
    };
    assert_eq!([1, 2, 3, 10, 19].map(wait), [10, 20, 40, 900, 900]);
    assert_eq!(
        disposition(FailureClass::Transient, 20, &limits, 1.0),
        Disposition::Park
    );
    // Nor is a job given up because another worker has it.
    assert!(matches!(
        disposition(FailureClass::Busy, 99, &limits, 0.0),
        Disposition::Retry { .. }
    ));
    // The disk is ours, not the job's: it never causes the job to be given up.
    assert!(matches!(
        disposition(FailureClass::Disk, 99, &limits, 0.0),
        Disposition::Retry { .. }
    ));
}

proptest! {
    #[test]
    fn nothing_that_failed_is_ever_deleted_or_hot(count in 0u32..100, jitter in -1.0f64..2.0) {
        for class in [FailureClass::Permanent, FailureClass::Transient, FailureClass::Deferred, FailureClass::Edge, FailureClass::Policy, FailureClass::Busy, FailureClass::Disk] {
            match disposition(class, count, &RetryLimits::default(), jitter) {
                Disposition::Delete => prop_assert!(false, "deleted a job that failed"),
                Disposition::Retry { after } => prop_assert!(after >= Duration::from_secs(5)),
                Disposition::Park => {}
            }
        }
    }
}

#[test]
fn a_job_that_waits_for_a_place_to_make_renditions_comes_back_soon_however_often() {
    let busy = || JobError::RenditionsBusy { places: 4 };
    let of_two = JobError::deferred(vec![busy(), busy()]).unwrap();
    for error in [busy(), of_two] {
        assert!(error.is_of_renditions() && !error.needs_a_person());
        for receipts in [1, 20, 1000] {
            let limits = RetryLimits::default();
            let after = super::disposition(error.class(), receipts, &limits, error.at_least(), 0.5);
            let Disposition::Retry { after } = after else {
                panic!("{after:?}");
            };
            let soon = Duration::from_secs(5)..Duration::from_secs(6);
            assert!(soon.contains(&after), "{after:?}");
        }
    }
}
