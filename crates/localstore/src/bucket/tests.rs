//! Tests of `bucket.rs`.

use std::fs;

use super::*;
use crate::create_bucket;

fn bucket() -> (tempfile::TempDir, Bucket) {
    let site = tempfile::tempdir().unwrap();
    create_bucket(site.path(), "bucket").unwrap();
    let bucket = Bucket::open(&site.path().canonicalize().unwrap(), "bucket")
        .unwrap()
        .unwrap();
    (site, bucket)
}

fn put(
    bucket: &Bucket,
    key: &str,
    text: &str,
    condition: &Condition,
) -> Result<Stat, PublishError> {
    let draft = bucket.draft().unwrap();
    io::Write::write_all(&mut &draft.file, text.as_bytes()).unwrap();
    let description = Description {
        content_type: Some(text.to_owned()),
        ..Description::default()
    };
    bucket.publish(key, draft, &description, condition, &Mutex::new(()))
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[test]
fn a_version_leaves_nothing_behind_when_it_is_replaced() {
    let (_site, bucket) = bucket();
    for text in ["one", "two", "three"] {
        put(&bucket, "a/b", text, &Condition::Anything).unwrap();
    }
    assert!(matches!(
        put(&bucket, "a/b", "four", &Condition::Absent),
        Err(PublishError::Condition)
    ));
    // The object, and its description.
    assert_eq!(files(bucket.root.path()), 2);
    let object = bucket.find("a/b").unwrap().unwrap();
    assert_eq!(object.description.content_type.as_deref(), Some("three"));
}

#[test]
fn a_file_that_makes_room_for_a_folder_keeps_its_version_and_description() {
    let (_site, bucket) = bucket();
    let before = put(&bucket, "a", "file", &Condition::Absent).unwrap();
    put(&bucket, "a/b/c", "below", &Condition::Absent).unwrap();
    let object = bucket.find("a").unwrap().unwrap();
    assert_eq!(object.stat, before);
    assert_eq!(object.description.content_type.as_deref(), Some("file"));
    let version = Condition::Version(before.etag);
    put(&bucket, "a", "again", &version).unwrap();
    assert!(matches!(
        put(&bucket, "a", "late", &version),
        Err(PublishError::Condition)
    ));
}

/// Another process shares only the directory, neither the lock nor the state of this one.
#[test]
fn two_processes_cannot_both_create() {
    for key in ["a", "a/b", "%~.."] {
        let (_site, bucket) = bucket();
        let winners = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..12)
                .map(|writer| {
                    let bucket = &bucket;
                    scope.spawn(move || {
                        put(bucket, key, &writer.to_string(), &Condition::Absent).is_ok()
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(winners, 1);
    }
}

#[test]
fn an_abandoned_draft_is_removed_and_a_fresh_one_is_not() {
    let (_site, bucket) = bucket();
    let fresh = bucket.draft().unwrap();
    let old = std::mem::ManuallyDrop::new(bucket.draft().unwrap());
    let long_ago = old.file.metadata().unwrap().modified().unwrap() - 2 * ABANDONED_AFTER;
    old.file.set_modified(long_ago).unwrap();
    let drafts = fresh.folder.path().to_owned();
    let foreign = drafts.join("not-ours");
    File::create(&foreign)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    bucket.remove_abandoned_drafts().unwrap();
    let is_there = |draft: &UploadDraft| drafts.join(draft.name.as_ref().unwrap()).exists();
    assert!(is_there(&fresh) && !is_there(&old) && foreign.exists());
}

/// A user with write access to a bucket's folders replaces one by a link, before or while the endpoint uses it.
#[test]
fn a_folder_that_became_a_link_leads_to_no_write_and_no_removal_elsewhere() {
    let (site, bucket) = bucket();
    let outside = tempfile::tempdir().unwrap();
    let (victim, drafts) = (
        outside.path().join("put-0"),
        bucket.root.path().join(names::RESERVED).join(DRAFTS),
    );
    let plant = || {
        let file = File::create(&victim).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    plant();
    fs::create_dir_all(drafts.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(outside.path(), &drafts).unwrap();
    bucket.remove_abandoned_drafts().unwrap();
    assert!(bucket.draft().is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    fs::remove_file(&drafts).unwrap();
    for place in [".handout/descriptions", "a"] {
        let link = bucket.root.path().join(place);
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        assert!(put(&bucket, "a/b", "text", &Condition::Anything).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{place}");
        fs::remove_file(&link).unwrap();
    }
    // The folder of the drafts alternates between a folder and a link.
    fs::create_dir_all(&drafts).unwrap();
    let link = site.path().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                rustix::fs::renameat_with(here, &drafts, here, &link, exchange).unwrap();
            }
        });
        for _ in 0..2000 {
            drop(bucket.remove_abandoned_drafts());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(victim.exists());
}

#[test]
fn a_file_of_the_year_10000_or_of_1969_has_a_time_that_can_be_told() {
    let here = Directory::open(Path::new(".")).unwrap();
    let mut stat = here.stat("Cargo.toml").unwrap().unwrap();
    for (second, told) in [
        (i64::MAX, jiff::Timestamp::MAX.as_second()),
        (253_402_300_800, jiff::Timestamp::MAX.as_second()),
        (1_700_000_000, 1_700_000_000),
        (i64::MIN, 0),
    ] {
        stat.st_mtime = second;
        let modified = Stat::new(&stat).modified;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), told.cast_unsigned(), "{second}");
        let mut text = Vec::new();
        let timestamp = s3s::dto::Timestamp::from(modified);
        let format = s3s::dto::TimestampFormat::HttpDate;
        timestamp.format(format, &mut text).unwrap();
    }
}

#[test]
fn a_fifo_in_the_place_of_an_object_is_none_and_is_not_waited_for() {
    let (_site, bucket) = bucket();
    let fifo = std::process::Command::new("mkfifo")
        .arg(bucket.root.path().join("a"))
        .status();
    assert!(fifo.unwrap().success());
    assert!(bucket.find("a").unwrap().is_none());
    assert!(open_file(&bucket.root, Path::new("a")).unwrap().is_none());
}
