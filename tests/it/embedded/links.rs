//! What a user finds out who may write in a bucket's folder, and puts links in the place of folders.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// A folder elsewhere that Handout may read, with names that are keys in a folder and at the end of a long name.
fn elsewhere() -> tempfile::TempDir {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("below")).unwrap();
    for name in ["outside", "%~outside", "%=outside", "below/outside"] {
        fs::write(elsewhere.path().join(name), "text").unwrap();
    }
    elsewhere
}

/// Exchanges each place for a link to `elsewhere` and back, as fast as it can, until it is told to stop.
fn exchange(
    places: Vec<PathBuf>,
    elsewhere: &Path,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    let links = tempfile::tempdir_in(places[0].parent().unwrap().parent().unwrap()).unwrap();
    let (elsewhere, stop) = (elsewhere.to_owned(), Arc::clone(stop));
    std::thread::spawn(move || {
        let pairs: Vec<(PathBuf, PathBuf)> = (places.into_iter().enumerate())
            .map(|(number, place)| (place, links.path().join(number.to_string())))
            .collect();
        for (_, link) in &pairs {
            symlink(&elsewhere, link).unwrap();
        }
        while !stop.load(Ordering::Relaxed) {
            for (place, link) in &pairs {
                renameat_with(CWD, place, CWD, link, RenameFlags::EXCHANGE).unwrap();
            }
        }
    })
}

#[tokio::test]
async fn a_folder_exchanged_for_a_link_while_it_is_listed_names_nothing_from_elsewhere() {
    let (world, elsewhere) = (World::new().await, elsewhere());
    let long = "p".repeat(300);
    for key in [
        "folder/inside",
        "folder/below/inside",
        "deep/er/inside",
        &long,
    ] {
        world.put(key, "text").await;
    }
    let part = fs::read_dir(world.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let part = part.filter(|path| path.to_str().unwrap().contains("%+"));
    let mut places: Vec<PathBuf> = part.collect();
    assert_eq!(places.len(), 1);
    places.extend([world.path("folder"), world.path("deep")]);
    let stop = Arc::default();
    let exchanges = exchange(places, elsewhere.path(), &stop);
    let mut met = BTreeSet::new();
    for prefix in ["", "folder/", "folder/below/", "deep/er/", "p"].repeat(300) {
        met.extend(world.pages(prefix, None, None, 1000).await.0);
        let groups = world.pages(prefix, Some("/"), None, 1000).await;
        met.extend(groups.0.into_iter().chain(groups.1));
    }
    stop.store(true, Ordering::Relaxed);
    exchanges.join().unwrap();
    let outside: Vec<&String> = met.iter().filter(|key| key.contains("outside")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    assert!(
        met.contains("folder/inside") && met.contains(&long),
        "{met:?}"
    );
}

#[tokio::test]
async fn whether_a_file_is_behind_a_link_is_not_told_by_any_request() {
    let (world, elsewhere) = (World::new().await, elsewhere());
    symlink(elsewhere.path(), world.path("folder")).unwrap();
    for name in ["outside", "absent", "below/outside", "below/absent"] {
        let key = format!("folder/{name}");
        assert_eq!(world.get(&key).await, Err("NoSuchKey".to_owned()), "{key}");
        let head = world.client.head_object().bucket(BUCKET).key(&key);
        assert_eq!(code(&head.send().await.unwrap_err()), "NotFound", "{key}");
        let put = || {
            let body = ByteStream::from_static(b"text");
            world
                .client
                .put_object()
                .bucket(BUCKET)
                .key(&key)
                .body(body)
        };
        for put in [put(), put().if_none_match("*")] {
            assert_eq!(
                code(&put.send().await.unwrap_err()),
                "AccessDenied",
                "{key}"
            );
        }
        let put = put().if_match("\"etag\"");
        assert_eq!(code(&put.send().await.unwrap_err()), "NoSuchKey", "{key}");
    }
}

#[tokio::test]
async fn keys_with_more_folders_than_a_process_has_descriptors_are_listed() {
    let world = World::new().await;
    let deep = format!("{}x", "a/".repeat(500));
    let keys = [
        deep.clone(),
        format!("{}b", "a/".repeat(9)),
        format!("{}b", "a/".repeat(400)),
    ];
    let mut sorted = keys.to_vec();
    sorted.sort();
    for key in &keys {
        world.put(key, "text").await;
    }
    assert_eq!(world.list().await, sorted);
}
