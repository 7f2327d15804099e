//! The archive of a machine that is lost, verified alone; and removals and shipments that were interrupted between two runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use handout::assemble;
use handout::audit::AuditLog;
use handout::audit::retention::{Retention, RetentionCounts};
use handout::audit::verify::{VerifyReport, verify};
use handout::clock;
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::quantity::Span;
use jiff::{SignedDuration, Timestamp};

use super::retention::{
    archiving, asked, done, found, line, long_ago, named, objects, settings, stream, verified,
    words, world,
};
use super::{assert_whole, files};
use crate::conformance::s3_client;
use crate::support::servers::{Parts, Server};
use crate::support::world::World;

/// How many days ago the clock of a test is.
static DAYS_AGO: AtomicI64 = AtomicI64::new(0);

fn ago() -> Timestamp {
    let days = DAYS_AGO.load(Ordering::Relaxed);
    clock::system() - SignedDuration::from_hours(24 * days)
}

/// A kill in the second removal of a stream: the segments of the first are gone, and those of the second are proved from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_a_later_removal_of_a_stream_is_known_and_the_next_run_goes_on() {
    for failpoint in ["removal-recorded", "removal-begun"] {
        let mut world = World::new();
        fs::create_dir_all(&world.config.state_dir).unwrap();
        DAYS_AGO.store(100, Ordering::Relaxed);
        let (log, writer) = AuditLog::open(&settings(&world.config), "test", ago).unwrap();
        for (days, numbers) in [(100, 0..20), (50, 20..40), (0, 40..52)] {
            DAYS_AGO.store(days, Ordering::Relaxed);
            for number in numbers {
                let record = line(&world.config, "j", "ann@acme.example", number);
                log.append(vec![record]).await.unwrap();
            }
        }
        drop(log);
        writer.close();
        let all = verified(&world.config).lines;

        world.config.audit.keep = Some(Span::days(80));
        done(&world.written(), &["retain"]);
        let first = verified(&world.config);
        assert_whole(&first);
        assert!(first.removed_segments > 1);
        world.config.audit.keep = Some(Span::days(30));
        let config = world.written();
        let killed = asked(&config, &["retain"], Some(failpoint));
        assert_eq!(killed.status.code(), None, "{}", words(&killed));
        // Some are left, and they are of the second removal alone.
        let dir = world.config.audit_dir();
        let numbers = || -> Vec<u64> {
            let names = named(&files(&dir), ".zst").into_iter();
            let number = |name: String| name.split('.').nth(1).unwrap().parse().unwrap();
            names.map(number).collect()
        };
        assert_eq!(numbers()[0], first.removed_segments + 1, "{failpoint}");
        let said = done(&config, &["verify"]);
        assert!(said.contains("after an interrupted removal"), "{said}");
        let report = verified(&world.config);
        assert_whole(&report);
        assert!(report.removed_segments > first.removed_segments);
        assert_eq!(report.lines + report.removed_lines, all);

        // A change of what is left is damage: it stays, and so does all that follows it.
        let (name, bytes) = files(&dir)
            .into_iter()
            .find(|(name, _)| name.ends_with(".zst"))
            .unwrap();
        let other = named(&files(&dir), ".zst").pop().unwrap();
        fs::copy(dir.join(&other), dir.join(&name)).unwrap();
        assert!(!verified(&world.config).problems.is_empty(), "{failpoint}");
        let refused = asked(&config, &["retain"], None);
        assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
        assert!(dir.join(&name).exists());
        fs::write(dir.join(&name), bytes).unwrap();

        done(&config, &["retain"]);
        let report = verified(&world.config);
        assert_whole(&report);
        assert_eq!(report.lines + report.removed_lines, all, "{failpoint}");
        assert_eq!(numbers()[0], report.removed_segments + 1, "{failpoint}");
        assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
        let since = clock::system() - SignedDuration::from_hours(24 * 10);
        let since = since.strftime("%Y-%m-%d").to_string();
        assert_eq!(found(&config, &["--since", &since]).len(), 12);
    }
}

/// Downloads the archive, and returns the folder of its only log.
async fn downloaded(server: &Server, into: &Path) -> PathBuf {
    let client = s3_client(&server.url());
    let mut folder = PathBuf::new();
    for key in objects(server).await {
        let object = client.get_object().bucket("acme-audit").key(&key);
        let bytes = object.send().await.unwrap().body.collect().await.unwrap();
        let path = into.join(&key);
        folder = path.parent().unwrap().to_owned();
        fs::create_dir_all(&folder).unwrap();
        fs::write(path, bytes.into_bytes()).unwrap();
    }
    folder
}

/// A verification of the archive alone, by the key of the log.
async fn alone(server: &Server, world: &World) -> (VerifyReport, tempfile::TempDir) {
    let copy = tempfile::tempdir().unwrap();
    let folder = downloaded(server, copy.path()).await;
    let key = settings(&world.config).key.public();
    (verify(folder, Some(&key)).unwrap(), copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_alone_is_whole_after_a_kill_and_tells_each_segment_that_it_lost() {
    let Some(parts) = Parts::or_skip("the_archive_alone") else {
        return;
    };
    let (server, world, config) = archiving(&parts, false).await;
    done(&config, &["retain"]);
    let (report, _copy) = alone(&server, &world).await;
    assert_whole(&report);
    // Killed after the last segment was put, and before the copy of the registry: the next run has nothing to ship but that.
    stream(&world.config, long_ago, "carol@acme.example", 20).await;
    let dir = world.config.audit_dir();
    let plain = named(&files(&dir), ".jsonl").len();
    let last = format!("segment-shipped:{plain}");
    let killed = asked(&config, &["retain"], Some(&last));
    assert_eq!(killed.status.code(), None, "{}", words(&killed));
    let (report, _copy) = alone(&server, &world).await;
    assert_whole(&report);
    assert!(
        report.notes.iter().any(|note| note.contains("newer than")),
        "{:?}",
        report.notes
    );
    let said = done(&config, &["retain"]);
    assert!(said.contains(" 0 archived"), "{said}");
    let (report, copy) = alone(&server, &world).await;
    assert_whole(&report);
    let is_newer = |note: &String| note.contains("newer than");
    assert!(!report.notes.iter().any(is_newer), "{:?}", report.notes);

    // The machine is lost while a stream is written: what was sealed of it is here.
    let (log, writer) = AuditLog::open(&settings(&world.config), "test", clock::system).unwrap();
    for number in 0..20 {
        let record = line(&world.config, "j", "ann@acme.example", number);
        log.append(vec![record]).await.unwrap();
    }
    done(&config, &["retain"]);
    drop(copy);
    let (report, copy) = alone(&server, &world).await;
    assert_whole(&report);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("it was being written")),
        "{:?}",
        report.notes
    );
    drop(log);
    writer.close();

    // Each segment that the archive lost is told, and so are all of them.
    let folder = fs::read_dir(copy.path().join("handout")).unwrap();
    let folder = folder.map(|entry| entry.unwrap().path()).next().unwrap();
    let key = settings(&world.config).key.public();
    let whole = files(&folder);
    let segments = named(&whole, ".jsonl.zst");
    assert!(segments.len() > 10, "{segments:?}");
    for name in &segments {
        fs::remove_file(folder.join(name)).unwrap();
        let report = verify(&folder, Some(&key)).unwrap();
        assert!(!report.problems.is_empty(), "{name}");
        fs::write(folder.join(name), &whole[name]).unwrap();
    }
    assert_whole(&verify(&folder, Some(&key)).unwrap());
    for name in &segments {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let folder_text = folder.display().to_string();
    let key_text = key.to_string();
    let verify_alone = ["verify", "--public-key", &key_text, &folder_text];
    let empty = asked(&config, &verify_alone, None);
    assert_eq!(empty.status.code(), Some(1), "{}", words(&empty));
    let said = words(&empty);
    assert!(said.contains("the segment is missing"), "{said}");

    // In the place of the log's own registry, the copy is damage: it would hide what was not shipped.
    fs::copy(folder.join("streams.note"), dir.join("streams.note")).unwrap();
    let replaced = words(&asked(&config, &["verify"], None));
    assert!(
        replaced.contains("is the copy that an archive has"),
        "{replaced}"
    );
    let refused = words(&asked(&config, &["retain"], None));
    assert!(
        refused.contains("streams.note") || refused.contains("registry"),
        "{refused}"
    );
}

/// Whether the clock of the test below has come to the day on which segments are old.
static IS_LATER: AtomicBool = AtomicBool::new(false);

fn later() -> Timestamp {
    let days = if IS_LATER.load(Ordering::Relaxed) {
        100
    } else {
        1
    };
    long_ago() + SignedDuration::from_hours(24 * days)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_the_archive_lost_is_reported_and_shipped_again() {
    let Some(parts) = Parts::or_skip("a_segment_that_the_archive_lost") else {
        return;
    };
    let (server, world, _config) = archiving(&parts, false).await;
    let environment = Environment::default();
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    // The embedded endpoint is not used.
    let nowhere = Some("127.0.0.1:1".parse().unwrap());
    let opening = assemble::connection::open(&world.config, &keyring, nowhere, &environment);
    let connections = Box::pin(opening).await.unwrap();
    let log = settings(&world.config);
    let retention = world.config.audit_retention(log, &connections, later);
    let retention = retention.unwrap().unwrap();
    let mut retention = Retention::new(retention, later, RetentionCounts::default());
    let first = Box::pin(retention.once(false)).await.unwrap();
    assert!(
        first.archived.len() > 4 && first.removed.is_empty(),
        "{first:?}"
    );
    let keys = objects(&server).await;
    let lost = keys.iter().find(|key| key.ends_with(".0001.jsonl.zst"));
    let client = s3_client(&server.url());
    let deleted = client.delete_object().bucket("acme-audit");
    deleted.key(lost.unwrap()).send().await.unwrap();

    IS_LATER.store(true, Ordering::Relaxed);
    fs::remove_file(world.config.audit_dir().join(".retention.clock")).unwrap();
    let second = Box::pin(retention.once(false)).await.unwrap();
    assert_eq!(second.problems.len(), 1, "{second:?}");
    let reason = &second.problems[0].reason;
    assert!(
        reason.contains("does not have s3://acme-audit/"),
        "{reason}"
    );
    assert!(!second.removed.is_empty(), "the other stream goes");
    let third = Box::pin(retention.once(false)).await.unwrap();
    assert!(third.problems.is_empty(), "{third:?}");
    assert_eq!(third.archived.len(), 1, "{third:?}");
    assert!(!third.removed.is_empty(), "{third:?}");
    assert_eq!(objects(&server).await, keys);
    assert_whole(&verified(&world.config));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_leap_of_the_clock_nothing_is_removed_for_a_day() {
    let (world, config) = world(|config| config.audit.keep = Some(Span::days(30))).await;
    done(&config, &["retain"]);
    let removed = verified(&world.config).removed_segments;
    stream(&world.config, long_ago, "carol@acme.example", 20).await;
    let clock = world.config.audit_dir().join(".retention.clock");
    let before = fs::read_to_string(&clock).unwrap();
    fs::write(&clock, "2025-01-05T10:00:00Z\n").unwrap();
    for _ in 0..2 {
        let held = asked(&config, &["retain"], None);
        let said = words(&held);
        assert_eq!(held.status.code(), Some(1), "{said}");
        assert!(
            said.contains("the clock is far ahead of the last run"),
            "{said}"
        );
        assert_eq!(verified(&world.config).removed_segments, removed);
    }
    // As if the clock had been set right meanwhile.
    fs::write(&clock, before).unwrap();
    done(&config, &["retain"]);
    let report = verified(&world.config);
    assert_whole(&report);
    assert!(report.removed_segments > removed);
}
