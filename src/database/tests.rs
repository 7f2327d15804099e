//! Tests of `database.rs`.

use super::*;
use crate::edge::health::EdgeKind;

/// The settings that keep an intent from being lost are read back from SQLite.
#[tokio::test]
async fn what_is_committed_is_on_the_disk_by_a_sqlite_that_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("handout.sqlite")).unwrap();
    let (journal, synchronous, version) = database
        .call(|connection| {
            let journal: String =
                connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let synchronous: i64 =
                connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            let version: String =
                connection.query_row("SELECT sqlite_version()", [], |row| row.get(0))?;
            Ok((journal, synchronous, version))
        })
        .await
        .unwrap();
    // 2 is FULL. <https://www.sqlite.org/pragma.html#pragma_synchronous>
    assert_eq!((journal.as_str(), synchronous), ("wal", 2));
    let parts: Vec<u32> = version
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(parts >= vec![3, 51, 3], "{version}");
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handout.sqlite");
    let version = || -> i64 {
        let connection = Connection::open(&path).unwrap();
        let read = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        read.unwrap()
    };
    // Made before there were versions.
    Connection::open(&path)
        .unwrap()
        .execute_batch(SCHEMA)
        .unwrap();
    assert_eq!(version(), 0);
    drop(Database::open(&path).unwrap());
    assert_eq!(version(), SCHEMA_VERSION);
    drop(Database::open(&path).unwrap());
    let later = "PRAGMA user_version = 2; DROP TABLE shelf";
    Connection::open(&path)
        .unwrap()
        .execute_batch(later)
        .unwrap();
    let error = Database::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("has the schema version 2, and this version of Handout knows 1: run the newer version again"),
        "{error}"
    );
    assert_eq!(version(), 2);
    let shelves = "SELECT count(*) FROM sqlite_schema WHERE name = 'shelf'";
    let connection = Connection::open(&path).unwrap();
    let count: i64 = connection.query_row(shelves, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0, "no table was made");
}

#[tokio::test]
async fn work_that_fails_takes_nothing_else_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("handout.sqlite")).unwrap();
    let insert = |job: &'static str, fail: bool| {
        let database = database.clone();
        async move {
            database
                .call(move |connection| {
                    connection.execute(
                        "INSERT INTO record VALUES (?1, '', 0, 'plan', '', '', 0)",
                        [job],
                    )?;
                    if fail {
                        Err(rusqlite::Error::InvalidQuery)
                    } else {
                        Ok(())
                    }
                })
                .await
        }
    };
    let (a, b, c) = tokio::join!(insert("a", false), insert("b", true), insert("c", false));
    assert!(a.is_ok() && b.is_err() && c.is_ok());
    let jobs = database
        .call(|connection| {
            let mut statement = connection.prepare("SELECT job FROM record ORDER BY job")?;
            statement
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        })
        .await
        .unwrap();
    assert_eq!(jobs, ["a", "c"]);
}

#[tokio::test]
async fn nothing_in_a_planted_schema_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.sqlite");
    let planted = Connection::open(&path).unwrap();
    let schema = "CREATE TABLE ran (n);
        CREATE TRIGGER planted AFTER INSERT ON shelf BEGIN INSERT INTO ran VALUES (1); END;
        CREATE VIEW seen AS SELECT * FROM ran;";
    planted.execute_batch(SCHEMA).unwrap();
    planted.execute_batch(schema).unwrap();
    drop(planted);
    let database = Database::open(&path).unwrap();
    let (ran, sees) = database
        .call(|connection| {
            connection.execute("INSERT INTO shelf VALUES ('a', 'b', 1)", [])?;
            let ran: i64 =
                connection.query_row("SELECT count(*) FROM ran", [], |row| row.get(0))?;
            Ok((ran, connection.prepare("SELECT * FROM seen").is_ok()))
        })
        .await
        .unwrap();
    assert_eq!((ran, sees), (0, false));
}

#[test]
fn root_opens_no_journal_in_a_directory_of_anothers() {
    if !rustix::process::geteuid().is_root() {
        return; // Who else may not write there.
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.sqlite");
    std::fs::write(folder.path().join("q.sqlite-journal"), "").unwrap();
    std::os::unix::fs::chown(folder.path(), Some(4001), None).unwrap();
    drop(Database::open(&path).unwrap());
    std::fs::write(folder.path().join("q.sqlite-journal"), "x").unwrap();
    let error = crate::text::chain(&Database::open(&path).unwrap_err());
    assert!(error.contains("journal of another program"), "{error}");
}

#[test]
fn planted_names_are_refused_and_the_files_are_their_owners_alone() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (target, dir) = (outside.path().join("target"), folder.path().join("state"));
    std::fs::create_dir(&dir).unwrap();
    for name in [
        "q.sqlite",
        "q.sqlite-wal",
        "q.sqlite-shm",
        "q.sqlite-journal",
    ] {
        symlink(&target, dir.join(name)).unwrap();
        let error = Database::open(&dir.join("q.sqlite")).unwrap_err();
        let sentence = crate::text::chain(&error);
        assert!(
            sentence.contains(name) && sentence.contains("symbolic link"),
            "{sentence}"
        );
        assert!(!target.exists());
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    // The operator's own path may contain a symbolic link.
    let (named, made) = (
        folder.path().join("named"),
        folder.path().join("made/state"),
    );
    symlink(&dir, &named).unwrap();
    for place in [&named, &made] {
        let database = Database::open(&place.join("q.sqlite")).unwrap();
        for written in std::fs::read_dir(place).unwrap() {
            let written = written.unwrap();
            assert_eq!(
                written.metadata().unwrap().mode() & 0o777,
                0o600,
                "{written:?}"
            );
        }
        drop(database);
    }
    assert_eq!(std::fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
}

/// A daemon that starts, and commands beside it.
#[test]
fn all_who_open_a_new_file_at_once_have_it() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handout.sqlite");
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let open = || {
                barrier.wait();
                Database::open(&path).map(drop)
            };
            let opened: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for thread in opened {
                thread.join().unwrap().unwrap();
            }
        });
    }
}

/// What an operator, or a tool, does to the files below `state` while a program has the database open.
type Tamper = fn(&Path);

#[tokio::test]
async fn a_database_that_was_removed_or_replaced_takes_nothing_more() {
    use std::fs;
    use std::os::unix::fs::symlink;
    let removed: Tamper = |state| fs::remove_file(state.join("state/q.sqlite")).unwrap();
    let replaced: Tamper = |state| {
        let backup = state.join("state/backup");
        drop(Connection::open(&backup).and_then(|backup| backup.execute_batch(SCHEMA)));
        fs::rename(backup, state.join("state/q.sqlite")).unwrap();
    };
    let moved_away: Tamper = |state| fs::rename(state.join("state"), state.join("old")).unwrap();
    let directory_is_a_file: Tamper = |state| {
        fs::rename(state.join("state"), state.join("old")).unwrap();
        fs::write(state.join("state"), "").unwrap();
    };
    let link_elsewhere: Tamper = |state| {
        fs::create_dir(state.join("other")).unwrap();
        fs::rename(state.join("state"), state.join("old")).unwrap();
        symlink(state.join("other"), state.join("state")).unwrap();
    };
    let without_log: Tamper = |state| fs::remove_file(state.join("state/q.sqlite-wal")).unwrap();
    let without_index: Tamper = |state| fs::remove_file(state.join("state/q.sqlite-shm")).unwrap();
    for (what, tamper) in [
        ("removed", removed),
        ("replaced", replaced),
        ("moved away", moved_away),
        ("a file instead of the directory", directory_is_a_file),
        ("a link to elsewhere", link_elsewhere),
        ("without -wal", without_log),
        ("without -shm", without_index),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/q.sqlite");
        let database = Database::open(&path).unwrap();
        let submit = || {
            let insert = "INSERT INTO message (body, visible_at, enqueued_at) VALUES ('', 0, 0)";
            database.call(move |connection| connection.execute(insert, []))
        };
        submit().await.unwrap();
        assert!(database.watch().failure().is_none(), "{what}");
        tamper(folder.path());
        let error = submit().await.unwrap_err();
        let sentence = crate::text::chain(&error);
        assert!(
            matches!(error, DatabaseError::Replaced { .. }) && error.is_disk(),
            "{what}: {sentence}"
        );
        let path = path.display();
        let begins = format!("the database {path} was removed or replaced while the program used");
        assert!(sentence.starts_with(&begins), "{what}: {sentence}");
        // Brought back, it lacks what other commands put elsewhere meanwhile: a start decides.
        let failure = database.watch().failure();
        assert!(failure.is_some(), "{what}");
    }
}

/// The caller of a request that is under way when the file goes is told of no success.
#[tokio::test]
async fn a_file_that_goes_during_a_request_fails_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.sqlite");
    let database = Database::open(&path).unwrap();
    let during = database.call(move |connection| {
        connection.execute("INSERT INTO shelf VALUES ('a', 'b', 1)", [])?;
        std::fs::remove_file(&path).unwrap();
        Ok(())
    });
    let error = during.await.unwrap_err();
    assert!(matches!(error, DatabaseError::Replaced { .. }), "{error}");
}

#[tokio::test]
async fn an_idle_database_notices_that_it_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.sqlite");
    let database = Database::open(&path).unwrap();
    let remove = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::fs::remove_file(&path).unwrap();
        std::future::pending::<()>().await;
    };
    let noticed = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            error = database.replaced() => error.to_string(),
            () = remove => unreachable!("it does not end"),
        }
    });
    let error = noticed.await.unwrap();
    assert!(error.contains("was removed or replaced"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_said_by_the_edge() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("handout.sqlite")).unwrap();
    let edge = Edge::new(EdgeKind::Queue, "queue", "the queue in /q.sqlite");
    database.report_to(edge.clone());
    let (returns, hangs) = std::sync::mpsc::channel::<()>();
    let write = database.call(move |_| {
        assert!(hangs.recv().is_err(), "the disk returns");
        Ok(())
    });
    let says = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let said = edge.trouble().map(|trouble| trouble.to_string());
        drop(returns);
        said.unwrap()
    };
    let (written, said) = tokio::join!(write, says);
    written.unwrap();
    assert!(said.ends_with("waiting at a transaction"), "{said}");
    assert_eq!(edge.trouble(), None);
}

/// As after SIGSTOP of the daemon in a transaction.
#[test]
fn a_lock_that_another_process_keeps_is_said_and_not_taken_for_a_fault_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handout.sqlite");
    drop(Database::open(&path).unwrap());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = Database::open(&path).unwrap_err();
    assert!(matches!(error, DatabaseError::Locked { .. }), "{error:?}");
    assert!(error.is_busy() && !error.is_disk() && !error.is_full());
    assert!(error.to_string().contains("another process"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    Database::open(&path).unwrap();
}
