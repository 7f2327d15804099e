//! Tests of `run/delivery.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn open(dir: &tempfile::TempDir) -> io::Result<Deliveries> {
    Deliveries::open(&Directory::open(dir.path())?)
}

#[test]
fn a_planted_link_leads_to_no_directory_of_anothers_and_only_own_files_are_removed() {
    let (state, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::set_permissions(outside.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (own, other) = ("0123456789abcdef".repeat(2), "shadow");
    let plant = |folder: &Path| {
        for name in [own.as_str(), other] {
            let file = fs::File::create(folder.join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    };
    plant(outside.path());
    let deliveries = state.path().join("deliveries");
    symlink(outside.path(), &deliveries).unwrap();
    let error = open(&state).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    let mode = fs::metadata(outside.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    fs::remove_file(&deliveries).unwrap();
    fs::create_dir(&deliveries).unwrap();
    plant(&deliveries);
    fs::hard_link(outside.path().join(other), deliveries.join("f".repeat(32))).unwrap();
    open(&state).unwrap();
    assert!(!deliveries.join(&own).exists());
    assert!(deliveries.join(other).exists() && deliveries.join("f".repeat(32)).exists());
}

/// The state that a process leaves that dies in the middle.
fn die(delivery: Delivery) {
    std::mem::forget(delivery);
}

#[tokio::test]
async fn deaths_are_counted_until_a_delivery_ends_or_gets_on() {
    let dir = tempfile::tempdir().unwrap();
    let deliveries = || open(&dir).unwrap();
    for deaths in 0..4 {
        let delivery = deliveries().begin("a").await.unwrap();
        assert_eq!(delivery.deaths(), deaths);
        die(delivery);
    }
    assert_eq!(
        deliveries().begin("b").await.unwrap().deaths(),
        0,
        "another message"
    );
    let delivery = deliveries().begin("a").await.unwrap();
    assert_eq!(delivery.deaths(), 4);
    delivery.got_on();
    assert_eq!(delivery.deaths(), 0);
    die(delivery);
    let delivery = deliveries().begin("a").await.unwrap();
    assert_eq!(delivery.deaths(), 1, "the death after it got on");
    drop(delivery);
    assert_eq!(
        deliveries().begin("a").await.unwrap().deaths(),
        0,
        "it ended"
    );
}

#[tokio::test]
async fn a_death_while_the_delivery_waits_for_an_edge_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let deliveries = || open(&dir).unwrap();
    let dies = async |waits: &[bool]| {
        let delivery = deliveries().begin("a").await.unwrap();
        let deaths = delivery.deaths();
        waits
            .iter()
            .for_each(|is_waiting| delivery.waits(*is_waiting));
        die(delivery);
        deaths
    };
    assert_eq!(dies(&[true]).await, 0);
    assert_eq!(dies(&[true, false]).await, 0);
    assert_eq!(dies(&[true, true]).await, 1);
    assert_eq!(dies(&[]).await, 1);
    assert_eq!(dies(&[false]).await, 2);
    assert_eq!(deliveries().begin("a").await.unwrap().deaths(), 3);
}

#[tokio::test]
async fn a_death_while_a_message_was_read_is_not_counted_against_those_that_were_worked() {
    let dir = tempfile::tempdir().unwrap();
    let state = Directory::open(dir.path()).unwrap();
    let deaths_of = async |id: &str| {
        let deliveries = Deliveries::open(&state).unwrap();
        deliveries.begin(id).await.unwrap().deaths()
    };
    for deaths in 1..4 {
        let deliveries = Deliveries::open(&state).unwrap();
        let worked = deliveries.begin("worked").await.unwrap();
        worked.was_read();
        // It runs beside a new message each time.
        die(deliveries.begin(&format!("kills-{deaths}")).await.unwrap());
        die(worked);
    }
    assert_eq!(deaths_of("worked").await, 0);
    assert_eq!(deaths_of("kills-1").await, 1);
    for deaths in 1..3 {
        let worked = Deliveries::open(&state)
            .unwrap()
            .begin("worked")
            .await
            .unwrap();
        worked.was_read();
        assert_eq!(worked.deaths(), deaths - 1);
        die(worked);
    }
    assert_eq!(deaths_of("worked").await, 2, "it was worked alone");
}

#[tokio::test]
async fn a_file_that_was_torn_is_a_death_and_old_ones_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let deliveries = open(&dir).unwrap();
    let delivery = deliveries.begin("a").await.unwrap();
    let (_, name) = delivery.inner.file.clone().unwrap();
    let file = dir.path().join("deliveries").join(name);
    die(delivery);
    fs::write(&file, "").unwrap();
    assert_eq!(deliveries.begin("a").await.unwrap().deaths(), 1);
    fs::write(&file, "2").unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(&file).unwrap().set_modified(old).unwrap();
    assert_eq!(open(&dir).unwrap().begin("a").await.unwrap().deaths(), 0);
}

#[tokio::test]
async fn of_those_that_were_under_way_at_a_death_one_is_worked_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(&dir).unwrap();
    for id in ["a", "b"] {
        die(before.begin(id).await.unwrap());
    }
    let deliveries = open(&dir).unwrap();
    let a = deliveries.begin("a").await.unwrap();
    assert!(deliveries.begin("b").await.is_none());
    assert_eq!(deliveries.begin("new").await.unwrap().deaths(), 0);
    drop(a);
    assert_eq!(
        deliveries.begin("b").await.unwrap().deaths(),
        1,
        "waiting is no death"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_would_be_parked_for_one_more_death_is_worked_alone() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let before = open(&dir).unwrap();
        die(before.begin("suspect").await.unwrap());
    }
    let deliveries = open(&dir).unwrap();
    let new = deliveries.begin("new").await.unwrap();
    assert!(
        deliveries.begin("suspect").await.is_none(),
        "it waits for the new one"
    );
    new.got_on();
    let suspect = deliveries.begin("suspect").await.unwrap();
    assert_eq!(suspect.deaths(), 2);
    assert!(deliveries.begin("newer").await.is_none(), "it is alone");
    tokio::time::sleep(ALONE).await;
    drop(deliveries.begin("newer").await.unwrap());
    suspect.got_on();
    drop((new, suspect));

    for _ in 0..2 {
        let before = open(&dir).unwrap();
        die(before.begin("suspect").await.unwrap());
    }
    let _always_busy = deliveries.begin("new").await.unwrap();
    assert!(deliveries.begin("suspect").await.is_none());
    tokio::time::sleep(WAIT_FOR_ALONE).await;
    assert!(
        deliveries.begin("suspect").await.is_some(),
        "it has waited for long"
    );
}

#[tokio::test]
async fn a_delivery_that_gets_on_keeps_no_other_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(&dir).unwrap();
    for id in ["a", "b", "c"] {
        die(before.begin(id).await.unwrap());
    }
    let deliveries = open(&dir).unwrap();
    let a = deliveries.begin("a").await.unwrap();
    a.got_on();
    let b = deliveries.begin("b").await.unwrap();
    assert!(
        deliveries.begin("c").await.is_none(),
        "b has not got on yet"
    );
    drop(a);
    assert!(
        deliveries.begin("c").await.is_none(),
        "what a gave back is b's"
    );
    drop(b);
    assert!(deliveries.begin("c").await.is_some());
}
