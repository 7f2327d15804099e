//! A job with many objects, as a whole and stage by stage, with real services.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use handout::assemble;
use handout::assemble::{Opened, Serving};
use handout::audit;
use handout::audit::record::{Context, LinkKind};
use handout::cancellation::Cancellation;
use handout::clock;
use handout::config::{AllowConfig, Config, ConnectionConfig};
use handout::deliver::publish::Publisher;
use handout::distribute::distribute;
use handout::environment::Environment;
use handout::job::Job;
use handout::links;
use handout::links::listing::{self, Listing};
use handout::links::saved;
use handout::media::{PageRenditions, Pictures};
use handout::plan::Audience;
use handout::plan::{self, CredentialsEnd, Plan, SignerFacts};
use handout::quantity::Rate;
use handout::render::{Gallery, Manifest, PageLinks};
use handout::run::JobRun;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::measure;
use crate::server::PREFIX;

/// A rate that never limits.
const NO_LIMIT: Rate = Rate::per_second(1_000_000_000);

/// A job and its services.
struct Bench {
    runtime: Runtime,
    opened: Opened,
    run: JobRun,
    plan: Plan,
    _dir: TempDir,
}

impl Bench {
    fn new(endpoint: &str, from: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = config(dir.path(), endpoint);
        let environment = Environment::default();
        let opened = assemble::open(&config, &environment, clock::system, Serving::Itself);
        let opened = runtime.block_on(opened).unwrap();
        let run = JobRun {
            job: Arc::new(Job::parse(&job_text(from)).unwrap()),
            message_id: None,
            attempt: 1,
            now: clock::system(),
            stop: Cancellation::default(),
            trace: None,
            delivery: handout::run::delivery::Delivery::unnoted(),
            lanes: None,
        };
        let facts = SignerFacts {
            credentials_end: CredentialsEnd::Never,
            ..SignerFacts::default()
        };
        let (policy, templates) = (
            &opened.services.signing.policy,
            &*opened.services.presenting.templates,
        );
        let plan = plan::build(&run.job, policy, templates, &facts, run.now).unwrap();
        Self {
            runtime,
            opened,
            run,
            plan,
            _dir: dir,
        }
    }

    async fn list(&self) -> Listing {
        let services = &self.opened.services;
        let store = &*services
            .signing
            .connection(&self.plan.connection)
            .unwrap()
            .store;
        listing::list(
            &self.plan,
            store,
            &services.presenting.spool_dir,
            &self.run.stop,
            &services.progress,
        )
        .await
        .unwrap()
    }
}

fn config(dir: &Path, endpoint: &str) -> Config {
    let secret = dir.join("secret");
    std::fs::write(&secret, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY").unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(endpoint.to_owned()),
        region: Some("eu-west-1".to_owned()),
        access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_access_key_file: Some(secret),
        ..ConnectionConfig::default()
    };
    let mut config = Config {
        state_dir: dir.join("state"),
        allow: vec![AllowConfig {
            connection: "reports".to_owned(),
            bucket: "acme-reports".to_owned(),
            prefix: String::new(),
            recipients: Vec::new(),
            lists: Vec::new(),
            reply_to: Vec::new(),
            relays: Vec::new(),
            publish: vec!["s3://published/".to_owned()],
            via: AllowConfig::default_via(),
            sign_in: handout::job::SignIn::None,
            max_expires_in: "7d".parse().unwrap(),
            max_links: u64::MAX,
        }],
        ..Config::default()
    };
    config.connections.insert("reports".to_owned(), connection);
    config.links.rate = NO_LIMIT;
    config.links.requests = NO_LIMIT;
    // One GET for each picture would measure the store, and is made only for the first few thousand.
    config.gallery.picture_sizes = false;
    config
}

/// A job that publishes pages and a manifest of all objects.
fn job_text(from: &Value) -> String {
    let mut from = from.clone();
    from["connection"] = json!("reports");
    from["bucket"] = json!("acme-reports");
    from["prefix"] = json!(PREFIX);
    let publish = json!({ "bucket": "published", "prefix": "" });
    json!({
        "v": 1,
        "id": "acme-archive-2026",
        "from": from,
        "gallery": { "title": "The archive of 2026", "publish": publish },
        "manifest": { "format": "csv", "publish": publish },
    })
    .to_string()
}

/// A whole job, as `handout job run` runs it.
pub(crate) fn job(endpoint: &str, objects: u64) {
    let Bench {
        runtime,
        opened,
        run,
        plan: _,
        _dir,
    } = Bench::new(endpoint, &json!({}));
    let (before, began) = (measure::cpu(), Instant::now());
    // On a thread of the runtime, like in a worker.
    let job = async move { distribute(&run, &opened.services).await };
    let delivered = runtime.block_on(runtime.spawn(job)).unwrap().unwrap();
    assert_eq!(delivered.links, objects);
    println!(
        "{}",
        json!({
            "cpu": micros(measure::cpu() - before, objects),
            "seconds": began.elapsed().as_secs_f64(),
            "peak_mib": measure::peak_mib(),
        })
    );
}

/// A listing alone; a limit keeps it sequential.
pub(crate) fn list(endpoint: &str, split: bool) {
    let from = match split {
        true => json!({}),
        false => json!({ "limit": u32::MAX }),
    };
    let bench = Bench::new(endpoint, &from);
    let began = Instant::now();
    let listing = bench.runtime.block_on(bench.list());
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "seconds": seconds, "objects": listing.linkable })
    );
}

/// The cost of each stage, in the order in which an object passes them.
#[derive(Default)]
struct Costs(Vec<(&'static str, Duration)>);

impl Costs {
    /// Adds the cost of a piece of work to a stage.
    async fn of<T>(&mut self, stage: &'static str, work: impl Future<Output = T>) -> T {
        let before = measure::cpu();
        let result = work.await;
        let cost = measure::cpu() - before;
        match self.0.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, sum)) => *sum += cost,
            None => self.0.push((stage, cost)),
        }
        result
    }

    fn tell(&self, objects: u64) {
        let each = self.0.iter().map(|(stage, cost)| {
            let cost = micros(*cost, objects);
            ((*stage).to_owned(), json!(cost))
        });
        let all: Duration = self.0.iter().map(|(_, cost)| *cost).sum();
        let stages: Vec<(String, Value)> = each.collect();
        println!(
            "{}",
            json!({ "stages": stages, "all": micros(all, objects) })
        );
    }
}

fn micros(cost: Duration, objects: u64) -> f64 {
    cost.as_secs_f64() * 1e6 / objects as f64
}

/// The cost and the saving of compressing a page, by level; printed to standard error, beside the result.
fn levels(html: &str) {
    for level in [1, 2, 3, 4, 6, 9] {
        let before = measure::cpu();
        let mut size = 0;
        for _ in 0..20 {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(html.as_bytes()).unwrap();
            size = encoder.finish().unwrap().len();
        }
        let cost = (measure::cpu() - before).as_secs_f64() * 1e3 / 20.0;
        eprintln!(
            "  gzip level {level}: {} bytes to {size}, {cost:.2} ms",
            html.len()
        );
    }
}

/// Every stage separately: the next starts after the previous one.
pub(crate) fn stages(endpoint: &str, objects: u64) {
    let bench = Bench::new(endpoint, &json!({}));
    bench.runtime.block_on(staged(&bench, objects));
}

async fn staged(bench: &Bench, objects: u64) {
    let Bench {
        opened, run, plan, ..
    } = bench;
    let services = &opened.services;
    let mut costs = Costs::default();
    let listing = costs.of("list", bench.list()).await;
    assert_eq!(listing.linkable, objects);
    let (job, ledger) = (&run.job.id, &*services.recording.ledger);
    let keeping = saved::save(&listing, plan, ledger, &run.stop);
    costs.of("keep for another attempt", keeping).await.unwrap();

    let audience = Audience::Everyone;
    let signing = services.signing.link_signer(plan).await.unwrap();
    let context = Context {
        job: job.as_str(),
        connection: "reports",
        role: None,
        message_id: None,
        attempt: 1,
        kind: LinkKind::Object,
        names: &services.recording.names,
    };
    let wanted = plan.gallery.as_ref().unwrap();
    let mut gallery = Gallery::begin(
        &services.presenting.templates,
        plan,
        &audience,
        objects,
        PageLinks::Relative,
        &services.presenting.mail,
    )
    .unwrap();
    let format = plan.manifest.as_ref().unwrap().format;
    let (mut manifest, _) = Manifest::begin(format, plan);
    let store = Arc::clone(&services.signing.connection(&plan.connection).unwrap().store);
    let place = wanted.place.clone();
    let publisher = Publisher::new(
        store,
        place,
        &services.signing.keyring,
        job,
        &audience,
        "bench",
    );
    let mut draft = publisher
        .begin("manifest.csv", &services.presenting.spool_dir)
        .await
        .unwrap();

    for number in 0.. {
        let page = costs.of("read back", async { listing.page(number) }).await;
        let Some(page) = page.unwrap() else { break };
        let links = async { links::sign(plan, page, 0, &audience, &signing) };
        let links = costs.of("sign", links).await.unwrap();
        let recording = audit::record(links, &context, &services.recording.audit);
        let batch = costs.of("record, durably", recording).await.unwrap();
        let rendering =
            async { gallery.push(&batch, &Pictures::default(), &PageRenditions::default()) };
        let pages = costs.of("render pages", rendering).await.unwrap();
        let listed = draft.append(manifest.push(&batch).to_vec());
        costs.of("write the list", listed).await.unwrap();
        for page in pages {
            if number == 1 {
                levels(&page.html);
            }
            let put = publisher.put_page(&page.file_name, page.html, "text/html");
            costs.of("publish pages", put).await.unwrap();
        }
    }
    let published = draft.finish("text/csv");
    costs.of("publish the list", published).await.unwrap();
    costs.tell(objects);
}
