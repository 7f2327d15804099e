//! Tests of `lib.rs`.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn every_opening(directory: &Directory) -> Vec<io::Result<File>> {
    vec![
        directory.read("x"),
        directory.append("x", 0o600),
        directory.lock_file("x", 0o600),
    ]
}

fn assert_refused(directory: &Directory, why: &str) {
    for opened in every_opening(directory) {
        let sentence = opened.unwrap_err().to_string();
        assert!(sentence.contains(why), "{sentence}");
    }
}

#[test]
fn planted_links_and_fifos_are_refused_and_their_targets_stay() {
    let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (target, planted) = (outside.path().join("target"), inside.path().join("x"));
    fs::write(&target, "root's").unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
    let directory = Directory::open(inside.path()).unwrap();

    symlink(&target, &planted).unwrap();
    assert_refused(&directory, "is a symbolic link");
    directory.replace("x", b"ours", 0o600).unwrap();
    assert!(fs::symlink_metadata(&planted).unwrap().is_file());

    fs::remove_file(&planted).unwrap();
    fs::hard_link(&target, &planted).unwrap();
    assert_refused(&directory, "a hard link");

    fs::remove_file(&planted).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(&planted).status();
    assert!(fifo.unwrap().success());
    assert_refused(&directory, "is not a regular file");

    assert_eq!(fs::read_to_string(&target).unwrap(), "root's");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_folder_below_is_never_entered_through_a_link_or_upwards() {
    let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = Directory::open(inside.path()).unwrap();
    directory.enter(Path::new("a/b"), 0o700).unwrap();
    symlink(outside.path(), inside.path().join("a/link")).unwrap();
    for below in ["a/link", "a/link/c", "../x", "/tmp"] {
        assert!(directory.enter(Path::new(below), 0o700).is_err(), "{below}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    for name in ["", ".", "..", "a/b", "/x", "x/"] {
        assert!(directory.append(name, 0o600).is_err(), "{name}");
    }
}

#[test]
fn what_root_makes_belongs_to_the_owner_and_what_strangers_made_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root may give files away.
    }
    let inside = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(inside.path(), Some(4001), Some(4002)).unwrap();
    let directory = Directory::open(inside.path()).unwrap();
    drop(directory.append("x", 0o600).unwrap());
    let made = fs::metadata(inside.path().join("x")).unwrap();
    assert_eq!(
        (made.uid(), made.gid(), made.mode() & 0o777),
        (4001, 4002, 0o600)
    );
    std::os::unix::fs::chown(inside.path().join("x"), Some(4003), None).unwrap();
    assert_refused(&directory, "belongs to another user");
}

/// Another user replaces a folder that was just created by one of a third user's, or of root's: it is not given away.
#[test]
fn what_was_not_made_here_is_not_given_away() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root may give folders away.
    }
    for owner in [4002, 0] {
        not_given_away(owner);
    }
}

fn not_given_away(owner: u32) {
    use rustix::fs::RenameFlags;
    let inside = tempfile::tempdir().unwrap();
    let owned = |path: &Path, user: u32| {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    };
    owned(inside.path(), 4001);
    let (made, victim) = (inside.path().join("made"), inside.path().join("victim"));
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "").unwrap();
    owned(&victim, owner);
    let directory = Directory::open(inside.path()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(CWD, &made, CWD, &victim, exchange);
            }
        });
        for _ in 0..3000 {
            drop(directory.enter(Path::new("made"), 0o700));
            // Whichever is empty; the other is then the victim.
            drop(fs::remove_dir(&made));
            drop(fs::remove_dir(&victim));
            drop(fs::rename(&made, &victim));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let there = if victim.exists() { victim } else { made };
    assert_eq!(fs::metadata(there).unwrap().uid(), owner);
}

/// The program would remove the content of such a folder.
#[test]
fn a_folder_of_another_user_is_not_taken_for_one_that_was_made_here() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root may make one.
    }
    let inside = tempfile::tempdir().unwrap();
    let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
    give(inside.path(), 4001);
    let directory = Directory::open(inside.path()).unwrap();
    let folder = inside.path().join("spool");
    for made in 0..2 {
        directory.private_below("spool").unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().uid(), 4001, "{made}");
    }
    for other in [0, 4002] {
        give(&folder, other);
        let refused = directory.private_below("spool").unwrap_err().to_string();
        assert!(refused.contains("belongs to another user"), "{refused}");
    }
}

#[test]
fn a_draft_has_no_name_before_it_is_whole_and_then_takes_the_place_of_another() {
    let inside = tempfile::tempdir().unwrap();
    let directory = Directory::open(inside.path()).unwrap();
    let names = || {
        let entries = fs::read_dir(inside.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    for text in ["first", "second"] {
        let mut draft = directory.draft(0o640).unwrap();
        draft.write_all(text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(draft.path()).unwrap(), text);
        assert!(
            names().iter().all(|name| name == "x"),
            "a kill leaves nothing"
        );
        draft.keep("x").unwrap();
        assert_eq!(names(), ["x"]);
        assert_eq!(fs::read_to_string(inside.path().join("x")).unwrap(), text);
    }
    let mut draft = directory.draft(0o640).unwrap();
    draft.write_all(b"third").unwrap();
    let refused = draft.keep_new("x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(names(), ["x"]);
    assert_eq!(directory.read_bounded("x", 99).unwrap(), b"second");
}

#[test]
fn drafts_of_killed_processes_are_swept_and_no_other_files() {
    let inside = tempfile::tempdir().unwrap();
    let directory = Directory::open(inside.path()).unwrap();
    let aged = |name: &str, hours: u64| {
        let file = File::create(inside.path().join(name)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let modified = modified - Duration::from_secs(hours * 3600);
        file.set_modified(modified).unwrap();
        file
    };
    let has = |name: &str| inside.path().join(name).symlink_metadata().is_ok();
    let (held, name) = directory.named(0o600).unwrap();
    assert!(name.ends_with(HELD));
    // A draft of a dead process, and a draft of an earlier version.
    drop(aged(".00000000000000aa.held.draft", 0));
    drop(aged(".00000000000000bb.draft", 25));
    let others = [
        "index.html",
        ".draft",
        ".aa.draft",
        ".00000000000000AA.draft",
        ".00000000000000cc.draft.txt",
    ];
    for other in others {
        drop(aged(other, 48));
    }
    drop(aged(".00000000000000dd.draft", 23));
    fs::create_dir(inside.path().join(".00000000000000ee.draft")).unwrap();
    symlink("index.html", inside.path().join(".00000000000000ff.draft")).unwrap();
    assert_eq!(directory.sweep_drafts().unwrap(), 2);
    let kept = [
        &name,
        ".00000000000000dd.draft",
        ".00000000000000ee.draft",
        ".00000000000000ff.draft",
    ];
    for kept in kept.iter().chain(&others) {
        assert!(has(kept), "{kept}");
    }
    // Its process has ended.
    drop(held);
    assert_eq!(directory.sweep_drafts().unwrap(), 1);
    assert!(!has(&name));
}

#[test]
fn a_file_is_read_up_to_its_bound() {
    let inside = tempfile::tempdir().unwrap();
    let directory = Directory::open(inside.path()).unwrap();
    directory.replace("x", b"12345", 0o600).unwrap();
    assert_eq!(directory.read_bounded("x", 5).unwrap(), b"12345");
    assert!(directory.read_bounded("x", 4).is_err());
    assert_eq!(fs::read_dir(inside.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_was_removed_is_told_from_one_that_is_there() {
    let state = tempfile::tempdir().unwrap();
    let below = Directory::open(state.path())
        .unwrap()
        .private_below("notes")
        .unwrap();
    assert!(!below.is_removed().unwrap());
    fs::remove_dir(state.path().join("notes")).unwrap();
    assert!(below.is_removed().unwrap());
}
