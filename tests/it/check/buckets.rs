//! What `check` says of the buckets from which files are handed out.

use super::{Checked, KEYS};
use crate::conformance::{create_bucket, s3_client};
use crate::support::faulty::{Faults, FaultyProxy};
use crate::support::servers::Parts;
use crate::support::world::World;

/// A world that hands out what lies in a bucket of moto, by way of a proxy that denies URLs with `part` in them.
async fn denying(
    part: &'static str,
    keys: &[&str],
) -> Option<(World, FaultyProxy, crate::support::servers::Server)> {
    let parts = Parts::or_skip("check::buckets")?;
    let moto = parts.start("moto.py", &[]);
    let client = s3_client(&moto.url());
    create_bucket(&client, "reports").await;
    for key in keys {
        let put = client.put_object().bucket("reports").key(*key);
        put.body(b"x".to_vec().into()).send().await.unwrap();
    }
    let faults = Faults {
        denied: Some(part),
        ..Faults::default()
    };
    let proxy = FaultyProxy::start(&moto.url(), faults).await;
    let world = World::new().configured(|config| {
        let elsewhere = format!("region = \"eu-west-1\"\nendpoint_url = \"{}\"\n", proxy.url);
        let elsewhere = toml::from_str(&elsewhere).unwrap();
        config.connections.insert("moto".to_owned(), elsewhere);
        config.allow[0].connection = "moto".to_owned();
        config.allow[0].publish = Vec::new();
        config.allow[0].prefix = "2026/".to_owned();
    });
    Some((world, proxy, moto))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_be_listed_and_not_read_are_a_failure_since_their_links_open_nothing() {
    let Some((world, _proxy, _moto)) = denying("/2026/", &["2025/a.pdf", "2026/a.pdf"]).await
    else {
        return;
    };
    let checked = Checked::of(&world, &KEYS);
    let failures = checked.failures();
    assert!(
        failures.len() == 1 && failures[0].starts_with("FAIL s3://reports/2026: can be listed by moto, and s3://reports/2026/a.pdf cannot be read, so links to it open nothing: ") && failures[0].contains("AccessDenied"),
        "{failures:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_lets_only_the_prefix_of_a_rule_be_listed_is_enough() {
    let Some((mut world, _proxy, _moto)) = denying("prefix=2025", &["2026/a.pdf"]).await else {
        return;
    };
    let checked = Checked::of(&world, &KEYS);
    assert_eq!(checked.failures(), [""; 0]);
    assert_eq!(
        checked.line("s3://reports/2026"),
        "ok s3://reports/2026: can be listed and read by moto"
    );
    // Each rule's place is one of its own.
    let mut other = world.config.allow[0].clone();
    other.prefix = "2025/".to_owned();
    world.config.allow.push(other);
    let checked = Checked::of(&world, &KEYS);
    let failures = checked.failures();
    assert!(
        failures.len() == 1
            && failures[0]
                .starts_with("FAIL s3://reports/2025: could not list s3://reports/2025/: "),
        "{failures:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_versions_need_the_right_to_list_versions() {
    let Some((mut world, _proxy, _moto)) = denying("?versions", &["2026/a.pdf"]).await else {
        return;
    };
    assert_eq!(Checked::of(&world, &KEYS).failures(), [""; 0]);
    world.config.links.pin_version = true;
    let checked = Checked::of(&world, &KEYS);
    let failures = checked.failures();
    assert!(
        failures.len() == 1
            && failures[0].contains("could not list the versions of s3://reports/2026/"),
        "{failures:#?}"
    );
}

#[test]
fn a_bucket_without_files_is_no_failure() {
    let checked = Checked::of(&World::new(), &[]);
    assert_eq!(checked.failures(), [""; 0]);
    assert_eq!(
        checked.line("s3://reports"),
        "ok s3://reports: can be listed by local; no object is there to try reading"
    );
}
