//! Root's commands in directories that another user may write: what that user plants there is neither written, nor given
//! away, nor waited for.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::program;
use crate::support::servers::skipped_for;
use crate::support::world::{World, email_job};

/// The user whose daemon it is.
const SERVICE: u32 = 4711;

/// How long a command may take; a FIFO that is opened without care is waited for for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is put in the place of a file.
#[derive(Debug, Clone, Copy)]
enum Planted {
    Symlink,
    HardLink,
    Fifo,
    Directory,
}

impl Planted {
    const ALL: [Self; 4] = [Self::Symlink, Self::HardLink, Self::Fifo, Self::Directory];

    fn at(self, place: &Path, target: &Path) {
        match self {
            Self::Symlink => symlink(target, place).unwrap(),
            Self::HardLink => fs::hard_link(target, place).unwrap(),
            Self::Fifo => {
                let made = Command::new("mkfifo").arg(place).status();
                assert!(made.unwrap().success());
            }
            Self::Directory => fs::create_dir(place).unwrap(),
        }
    }
}

fn remove(place: &Path) {
    match fs::symlink_metadata(place) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(place).unwrap(),
        Ok(_) => fs::remove_file(place).unwrap(),
        Err(_) => {}
    }
}

/// Every file below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Makes all below `path` the service's. What is removed meanwhile is no error: SQLite's side files go when the last
/// connection of the job before is closed.
fn give(path: &Path) {
    match chown(path, Some(SERVICE), Some(SERVICE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        given => given.unwrap(),
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// The commands of root, each with its configuration.
fn commands(config: &str, job: &str) -> Vec<Vec<String>> {
    let presign = ["presign", "s3://reports/a.pdf", "--connection", "local"];
    let commands: [&[&str]; 8] = [
        &presign,
        &["job", "submit", job],
        &["job", "run", job],
        &["job", "parked"],
        &["check"],
        &["audit", "verify"],
        &["audit", "find", "--job", "planted"],
        &["ledger", "show"],
    ];
    let words = |command: &&[&str]| {
        let words = [command, &["--config", config][..]].concat();
        words.into_iter().map(ToOwned::to_owned).collect()
    };
    commands.iter().map(words).collect()
}

/// Runs a command to its end, which must come.
async fn ends(arguments: &[String], what: &str) -> Output {
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{what}: handout {} does not end", arguments.join(" "));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn what_another_user_planted_is_neither_written_nor_given_away_nor_waited_for() {
    if !rustix::process::geteuid().is_root() {
        skipped_for(
            "what_another_user_planted",
            "only root has something to give away",
        );
        return;
    }
    let mut world = World::new().object("a.pdf", "x").job(&email_job("first"));
    world.config.results.file = Some(world.config.state_dir.join("results.jsonl"));
    world.run().await;
    let config = world.written();
    let (config, job) = (config.to_string_lossy(), world.dir.path().join("job.json"));
    let outside = tempfile::tempdir_in(world.dir.path()).unwrap();
    let target = outside.path().join("shadow");
    fs::write(&target, "root's own\n").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    let state = world.config.state_dir.clone();
    give(&state);

    let mut places: Vec<PathBuf> = files_below(&state)
        .into_iter()
        // One mail stands for all.
        .filter(|path| {
            path.extension()
                .is_none_or(|end| end != "eml" && end != "html")
        })
        .collect();
    // Those that are made when something happens.
    places.extend(
        ["handout.sqlite-wal", "handout.sqlite-shm", "results.jsonl"].map(|name| state.join(name)),
    );
    places.sort();
    places.dedup();
    assert!(places.len() >= 8, "{places:?}");
    let mut number = 0;
    for place in &places {
        let kept = place.with_extension("kept-aside");
        if place.exists() {
            fs::rename(place, &kept).unwrap();
        }
        for planted in Planted::ALL {
            remove(place);
            planted.at(place, &target);
            number += 1;
            fs::write(&job, email_job(&format!("planted-{number}")).to_string()).unwrap();
            for command in commands(&config, &job.to_string_lossy()) {
                let what = format!("{planted:?} at {}", place.display());
                let output = ends(&command, &what).await;
                let said = String::from_utf8_lossy(&output.stderr).into_owned()
                    + &String::from_utf8_lossy(&output.stdout);
                assert!(!said.contains("root's own"), "{what}: {command:?}: {said}");
                assert!(!said.contains("panicked"), "{what}: {command:?}: {said}");
                let there = fs::metadata(&target).unwrap();
                assert_eq!(
                    (
                        there.uid(),
                        there.mode() & 0o7777,
                        fs::read_to_string(&target).unwrap()
                    ),
                    (0, 0o600, "root's own\n".to_owned()),
                    "{what}: {command:?}: {said}"
                );
            }
        }
        remove(place);
        if kept.exists() {
            fs::rename(&kept, place).unwrap();
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    // With nothing planted, root's commands work, and what they make is the service's.
    fs::write(&job, email_job("last").to_string()).unwrap();
    for command in commands(&config, &job.to_string_lossy()) {
        let output = ends(&command, "nothing planted").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{command:?}: {said}"
        );
    }
    for path in files_below(&state) {
        assert_eq!(
            fs::metadata(&path).unwrap().uid(),
            SERVICE,
            "{}",
            path.display()
        );
    }
}

/// Published files are for others to read, as far as the umask lets them; bodies, addresses, links and keys are for their
/// owner alone, whatever it is.
#[tokio::test]
async fn permissions_follow_one_rule_under_every_umask() {
    for (umask, folder, page) in [
        ("0077", 0o700, 0o600),
        ("0027", 0o750, 0o640),
        ("0000", 0o755, 0o644),
    ] {
        let mut world = World::new().object("a.pdf", "x");
        world.config.mail.outbox_dir = Some(world.dir.path().join("mails"));
        let config = world.written();
        let mut job = email_job("modes");
        let pages = world.dir.path().join("pages");
        job["gallery"] = json!({ "publish": { "dir": pages } });
        job["manifest"] = json!({ "format": "urls", "publish": { "dir": pages } });
        let file = world.dir.path().join("job.json");
        fs::write(&file, job.to_string()).unwrap();
        let preview = world.dir.path().join("preview");
        let run = |arguments: &[&Path]| {
            let words: Vec<String> = arguments
                .iter()
                .map(|word| format!("'{}'", word.display()))
                .collect();
            let line = format!(
                "umask {umask}; exec '{}' {} --config '{}'",
                program().display(),
                words.join(" "),
                config.display()
            );
            let output = Command::new("sh").args(["-c", &line]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{umask}: {line}: {said}");
        };
        // A submission before the first start makes the state directory.
        run(&["job".as_ref(), "submit".as_ref(), &file]);
        run(&["job".as_ref(), "run".as_ref(), &file]);
        run(&[
            "job".as_ref(),
            "preview".as_ref(),
            &file,
            "--out".as_ref(),
            &preview,
        ]);

        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let published = files_below(&pages);
        assert!(published.len() >= 2, "{published:?}");
        for path in published {
            assert_eq!(mode(&path), page, "{umask}: {}", path.display());
            assert_eq!(
                mode(path.parent().unwrap()),
                folder,
                "{umask}: {}",
                path.display()
            );
        }
        let state = &world.config.state_dir;
        for private in [state, &world.config.outbox_dir(), &preview] {
            assert_eq!(mode(private), 0o700, "{umask}: {}", private.display());
        }
        let audit = state.join("audit");
        let private = [state, &world.config.outbox_dir(), &preview];
        for path in private.into_iter().flat_map(|dir| files_below(dir)) {
            // The group of the log may read it: no link is in it.
            let most = if path.starts_with(&audit) {
                0o640
            } else {
                0o600
            };
            assert_eq!(
                mode(&path) & !most,
                0,
                "{umask}: {} is {:o}",
                path.display(),
                mode(&path)
            );
        }
    }
}

/// A link in the place of a directory that Handout derives from its state directory, or of the state directory itself.
#[tokio::test]
async fn no_command_of_root_follows_a_link_of_the_services_to_another_directory() {
    use std::os::unix::fs::lchown;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root has something to give away");
        return;
    }
    let mut world = World::new().object("a.pdf", "x").job(&email_job("first"));
    world.run().await;
    let config = world.written();
    let (config, job) = (config.to_string_lossy(), world.dir.path().join("job.json"));
    fs::write(&job, email_job("second").to_string()).unwrap();
    let outside = tempfile::tempdir_in(world.dir.path()).unwrap();
    let old = ["shadow", "0123456789abcdef0123456789abcdef"];
    for name in old {
        let file = fs::File::create(outside.path().join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    fs::set_permissions(outside.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let state = world.config.state_dir.clone();
    give(&state);
    let folders = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut places: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    for name in ["deliveries", "spool", "outbox", "audit"] {
        assert!(places.contains(&state.join(name)), "{name}: {places:?}");
    }
    assert!(
        places.len() >= 5,
        "and what is remembered of the log: {places:?}"
    );
    places.push(state.clone());
    for place in &places {
        let kept = state.with_file_name("kept");
        fs::rename(place, &kept).unwrap();
        symlink(outside.path(), place).unwrap();
        lchown(place, Some(SERVICE), Some(SERVICE)).unwrap();
        let what = place.display().to_string();
        let mut refused = 0;
        for command in commands(&config, &job.to_string_lossy()) {
            let output = ends(&command, &what).await;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("panicked"), "{what}: {command:?}: {said}");
            refused += usize::from(said.contains("symbolic link"));
            let there = fs::metadata(outside.path()).unwrap();
            assert_eq!(
                (there.uid(), there.mode() & 0o7777),
                (0, 0o755),
                "{what}: {command:?}"
            );
            let mut names: Vec<_> = fs::read_dir(outside.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            assert_eq!(names, [old[1], old[0]], "{what}: {command:?}: {said}");
        }
        assert!(refused > 0, "{what}: no command says so");
        fs::remove_file(place).unwrap();
        fs::rename(&kept, place).unwrap();
    }
    // A link of root's is the operator's.
    let elsewhere = state.with_file_name("elsewhere");
    fs::rename(&state, &elsewhere).unwrap();
    symlink(&elsewhere, &state).unwrap();
    let presign = &commands(&config, "")[0];
    let output = ends(presign, "a link of root's").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
async fn a_demo_in_a_directory_that_another_user_prepared_writes_through_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root has something to give away");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let demo = place.path().join("demo");
    let target = place.path().join("shadow");
    fs::write(&target, "root's own\n").unwrap();
    let words = ["demo", "--once", "--dir", &demo.to_string_lossy()].map(ToOwned::to_owned);
    let run = || ends(&words, "a demo");
    fs::create_dir(&demo).unwrap();
    give(&demo);
    let output = run().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{said}");
    assert!(said.contains("belongs to another user"), "{said}");
    assert_eq!(fs::read_dir(&demo).unwrap().count(), 0);
    // Of its own user, what another may have planted before is replaced.
    chown(&demo, Some(0), Some(0)).unwrap();
    fs::create_dir_all(demo.join("buckets/reports/2026/11/23")).unwrap();
    Planted::Fifo.at(&demo.join("config.toml"), &target);
    let seeded = run().await;
    let said = String::from_utf8_lossy(&seeded.stderr);
    assert!(seeded.status.success(), "{said}");
    let sample = files_below(&demo.join("buckets/reports")).remove(0);
    fs::remove_file(&sample).unwrap();
    Planted::Symlink.at(&sample, &target);
    let said = run().await;
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), "root's own\n");
    assert!(fs::symlink_metadata(&sample).unwrap().is_file());
}

/// A link of another user's leads no file of a command to where it points; one of root's own does.
#[tokio::test]
async fn files_that_are_written_where_the_user_says_follow_no_link_of_another_user() {
    use std::os::unix::fs::lchown;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root has something to give away");
        return;
    }
    let world = World::new().object("a.pdf", "x");
    let (config, job) = (world.written(), world.dir.path().join("job.json"));
    fs::write(&job, email_job("first").to_string()).unwrap();
    let outside = world.dir.path().join("outside");
    let link = world.dir.path().join("link");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, &link).unwrap();
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (config, job) = (config.to_str().unwrap(), job.to_str().unwrap());
    let link_name = link.to_str().unwrap();
    let preview = words(&[
        "job", "preview", job, "--config", config, "--out", link_name,
    ]);
    let demo = words(&["demo", "--once", "--dir", link_name]);
    lchown(&link, Some(SERVICE), Some(SERVICE)).unwrap();
    for command in [&preview, &demo] {
        let output = ends(command, "a link of another user's").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(73), "{command:?}: {said}");
        assert!(said.contains("symbolic link of another user"), "{said}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{command:?}");
    }
    lchown(&link, Some(0), Some(0)).unwrap();
    let output = ends(&preview, "a link of root's").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(fs::read_dir(&outside).unwrap().count() > 0);
}

/// A configuration names programs and directories: one that another user put where a command is run is not used.
#[tokio::test]
async fn a_configuration_that_another_user_put_in_the_working_directory_is_not_used() {
    use std::os::unix::fs::lchown;
    if !rustix::process::geteuid().is_root() {
        skipped_for(
            "a_configuration_of_another_user",
            "only root can make one of another user's",
        );
        return;
    }
    let (here, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (config, victim) = (here.path().join("config.toml"), outside.path());
    let away = outside.path().join("other.toml");
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let text = format!(
        "state_dir = \"{}\"\n[mail]\nfrom = \"reports@sender.example\"\n",
        victim.display()
    );
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.current_dir(here.path()).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let refused = |what: &str| {
        for arguments in [&["job", "parked"][..], &["check"], &["audit", "tail"]] {
            let (code, said) = run(arguments);
            assert_eq!(code, Some(78), "{what}: {arguments:?}: {said}");
            assert!(said.contains(what), "{what}: {said}");
            assert!(said.contains("--config"), "{said}");
        }
        let there = fs::metadata(victim).unwrap();
        assert_eq!(there.mode() & 0o777, 0o755, "{what}");
        assert!(!victim.join("handout.sqlite").exists(), "{what}");
    };
    mode(victim, 0o755);
    fs::write(&config, &text).unwrap();
    chown(&config, Some(SERVICE), None).unwrap();
    refused("it belongs to another user");
    chown(&config, Some(0), None).unwrap();
    chown(here.path(), Some(SERVICE), None).unwrap();
    refused("the directory belongs to another user");
    chown(here.path(), Some(0), None).unwrap();
    mode(here.path(), 0o777);
    refused("other users may write to the directory");
    mode(here.path(), 0o1777);
    mode(&config, 0o666);
    refused("other users may write it");
    fs::rename(&config, &away).unwrap();
    mode(&away, 0o644);
    symlink(&away, &config).unwrap();
    lchown(&config, Some(SERVICE), None).unwrap();
    refused("it belongs to another user");
    lchown(&config, Some(0), None).unwrap();
    chown(&away, Some(SERVICE), None).unwrap();
    refused("a link to a file of another user");
    // One that is named is the operator's word; so is one of root's, also in a directory such as `/tmp`.
    let (code, said) = run(&["job", "parked", "--config", "config.toml"]);
    assert_eq!(code, Some(0), "{said}");
    chown(&away, Some(0), None).unwrap();
    let (code, said) = run(&["job", "parked"]);
    assert_eq!(code, Some(0), "{said}");
}

/// Files of the configuration are regular and not endless: a command says so, and waits for none.
#[tokio::test]
async fn a_fifo_or_an_endless_file_that_the_configuration_names_ends_a_command_with_a_sentence() {
    let world = World::new().object("a.pdf", "x");
    let text = fs::read_to_string(world.written()).unwrap();
    let place = |name: &str| world.dir.path().join(name);
    Planted::Fifo.at(&place("fifo"), Path::new(""));
    fs::File::create(place("sparse"))
        .unwrap()
        .set_len(8 << 30)
        .unwrap();
    fs::create_dir(place("templates")).unwrap();
    for (what, why) in [
        ("fifo", "is not a regular file"),
        ("sparse", "has more than"),
    ] {
        let named = place(what);
        let run = async |arguments: &[&str]| {
            let words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let output = ends(&words, what).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(why), "{words:?}: {said}");
            output.status.code()
        };
        let named = named.to_str().unwrap();
        assert_eq!(run(&["check", "--config", named]).await, Some(78), "{what}");
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        let smtp = table["mail"].as_table_mut().unwrap();
        smtp.insert("transport".into(), "smtp".into());
        let smtp = smtp.entry("smtp").or_insert(toml::Table::new().into());
        let smtp = smtp.as_table_mut().unwrap();
        smtp.insert("host".into(), "127.0.0.1".into());
        smtp.insert("ca_file".into(), named.into());
        let with_ca = place("with-ca.toml");
        fs::write(&with_ca, toml::to_string(&table).unwrap()).unwrap();
        let with_ca = with_ca.to_str().unwrap();
        assert_eq!(run(&["run", "--config", with_ca]).await, Some(78), "{what}");
        let log = world.dir.path().to_str().unwrap();
        run(&["audit", "verify", "--public-key", named, log]).await;
    }
}
