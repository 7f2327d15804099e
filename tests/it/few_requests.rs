//! What a small job costs: requests to a ledger in S3, counted between a real daemon and its store.

use std::path::Path;

use handout::assemble::connection::embedded_sites;
use handout::keyring::Keyring;
use serde_json::{Value, json};

use crate::daemon::{Daemon, submit};
use crate::liveness::{add_connection, far_job, mailed, with_ledger_at_far};
use crate::support::faulty::{Answered, Faults, FaultyProxy};
use crate::support::until;
use crate::support::world::World;

/// How many objects a small job has.
const OBJECTS: usize = 10;

/// How many requests to the ledger a job with one recipient may make.
const MOST: usize = 6;

/// How many more for each further recipient.
const MOST_EACH: usize = 2;

/// How many round trips to stores may follow one another before the first mail.
const MOST_BEFORE_MAIL: usize = 6;

/// A world whose connection `far` goes through a counting proxy, and the ledger with it.
async fn counted(faults: Faults) -> (World, FaultyProxy) {
    let mut world = World::new();
    for number in 0..OBJECTS {
        world = world.object(&format!("2026/11/report-{number:02}.pdf"), "x");
    }
    let endpoint = format!("http://{}", world.config.embedded.listen);
    let proxy = FaultyProxy::start(&endpoint, faults).await;
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    let (id, secret) = (&site.access_key_id, &site.secret_access_key);
    add_connection(&mut world, "far", &proxy.url, id, secret);
    with_ledger_at_far(&mut world);
    (world, proxy)
}

fn small_job(id: &str, recipients: usize) -> Value {
    let mut job = far_job(id);
    let to: Vec<String> = (0..recipients)
        .map(|number| format!("p{number}@acme.example"))
        .collect();
    job["email"]["to"] = json!(to);
    job
}

/// Runs a job to the deletion of its message, and returns the requests that it made at the stores.
async fn requests_of(
    job: &Value,
    world: &World,
    config: &Path,
    proxy: &FaultyProxy,
) -> Vec<Answered> {
    proxy.take_answered();
    submit(config, job);
    mailed(world, job["id"].as_str().unwrap()).await;
    until("the end of the job", async || {
        (world.waiting().await == 0).then_some(())
    })
    .await;
    proxy.take_answered()
}

fn of_ledger(requests: &[Answered]) -> Vec<&str> {
    let requests = requests.iter().map(|request| request.what.as_str());
    requests.filter(|what| what.contains(" /ledger")).collect()
}

/// How many of the requests had to follow one another until the intent of the first mail was durable.
fn round_trips_to_first_mail(requests: &[Answered]) -> usize {
    let intent = requests
        .iter()
        .find(|request| request.what.contains("/i.0"));
    let last = intent.expect("a mail has an intent").ended;
    let mut before: Vec<&Answered> = requests
        .iter()
        .filter(|request| request.ended <= last)
        .collect();
    before.sort_by_key(|request| request.ended);
    let mut free_from = None;
    let mut trips = 0;
    for request in before {
        if free_from.is_none_or(|free_from| request.began >= free_from) {
            free_from = Some(request.ended);
            trips += 1;
        }
    }
    trips
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_job_makes_six_requests_to_a_ledger_in_s3_and_two_for_each_further_recipient() {
    let (world, proxy) = counted(Faults::default()).await;
    let config = world.written();
    let _daemon = Daemon::start(&config, &[]).await;
    // The first job of a process learns what the store demands.
    requests_of(&small_job("first", 1), &world, &config, &proxy).await;
    for recipients in [1, 2, 5] {
        let job = small_job(&format!("small-{recipients}"), recipients);
        let requests = requests_of(&job, &world, &config, &proxy).await;
        let made = of_ledger(&requests);
        println!("{recipients} recipients: {} requests {made:#?}", made.len());
        let most = MOST + MOST_EACH * (recipients - 1);
        assert!(made.len() <= most, "{recipients} recipients: {made:#?}");
    }
    assert_eq!(world.mails().len(), 1 + 1 + 2 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_round_trips_lead_to_the_first_mail_of_a_job() {
    let faults = Faults {
        steady_ms: 30,
        ..Faults::default()
    };
    let (world, proxy) = counted(faults).await;
    let config = world.written();
    let _daemon = Daemon::start(&config, &[]).await;
    requests_of(&small_job("first", 1), &world, &config, &proxy).await;
    let requests = requests_of(&small_job("small", 1), &world, &config, &proxy).await;
    let trips = round_trips_to_first_mail(&requests);
    let intent = requests
        .iter()
        .find(|request| request.what.contains("/i.0"));
    let first = requests.iter().map(|request| request.began).min().unwrap();
    let took = intent.unwrap().ended - first;
    println!(
        "{trips} round trips, {} ms to the first mail",
        took.as_millis()
    );
    assert!(trips <= MOST_BEFORE_MAIL, "{trips}: {requests:#?}");
}
