//! Credentials that end: what links then promise, and when credentials are renewed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use handout::assemble::connection::{EMBEDDED_REGION, EmbeddedSite, embedded_sites};
use handout::cancellation::Cancellation;
use handout::clock;
use handout::distribute::distribute;
use handout::job::Job;
use handout::keyring::Keyring;
use handout::links::signer::{LinkParameters, Server, Signer, SigningEndpoint};
use handout::plan::ExpiryGuard;
use handout::report::JobReport;
use handout::run::JobRun;
use jiff::Timestamp;
use presign::Addressing;
use serde_json::{Value, json};

use crate::support::hrefs;
use crate::support::world::{World, email_job};

/// Credentials of the embedded endpoint that are renewed each time they are asked for, and then last so long.
#[derive(Debug)]
struct Renewed {
    site: EmbeddedSite,
    /// In minutes; the last one is that of all that come later.
    lasts: Vec<u64>,
    asked: AtomicUsize,
}

impl Renewed {
    fn minutes(world: &World, lasts: &[u64]) -> Arc<Self> {
        let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
        Arc::new(Self {
            site: embedded_sites(&world.config, &keyring).remove(0),
            lasts: lasts.to_vec(),
            asked: AtomicUsize::default(),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let minutes = self.lasts[asked.min(self.lasts.len() - 1)];
        let now = SystemTime::try_from(clock::system()).unwrap();
        let end = now + Duration::from_secs(60 * minutes);
        let (id, secret) = (&self.site.access_key_id, &self.site.secret_access_key);
        let keys = Credentials::new(id, secret, None, Some(end), "test");
        future::ProvideCredentials::ready(Ok(keys))
    }
}

/// Works jobs with these credentials, one after the other, and says what became of each.
async fn with_credentials(
    world: &World,
    credentials: &Arc<Renewed>,
    jobs: &[Value],
) -> Vec<Result<JobReport, String>> {
    let mut opened = world.open().await;
    let connections = Arc::make_mut(&mut opened.services.signing.connections);
    let connection = connections.get_mut(&"local".parse().unwrap()).unwrap();
    let endpoint = SigningEndpoint {
        region: EMBEDDED_REGION.to_owned(),
        server: Server::Other(world.config.embedded.public_url.clone()),
        addressing: Addressing::Path,
        parameters: LinkParameters::default(),
    };
    let provider = Arc::clone(credentials) as Arc<dyn ProvideCredentials>;
    let provider = SharedCredentialsProvider::new(provider);
    connection.signer = Signer::new("local".to_owned(), endpoint, provider, None);
    let mut ends = Vec::new();
    for job in jobs {
        let run = JobRun {
            job: Arc::new(Job::parse(&job.to_string()).unwrap()),
            message_id: None,
            attempt: 1,
            now: clock::system(),
            stop: Cancellation::default(),
            trace: None,
            delivery: handout::run::delivery::Delivery::unnoted(),
            lanes: None,
        };
        let end = distribute(&run, &opened.services).await;
        ends.push(end.map_err(|error| error.to_string()));
    }
    opened.close().await;
    ends
}

#[tokio::test]
async fn links_that_end_with_their_credentials_say_so_everywhere() {
    let world = World::new()
        .configured(|config| config.links.expiry_guard = ExpiryGuard::Clamp)
        .object("a.pdf", "x");
    let credentials = Renewed::minutes(&world, &[30]);
    let mut job = email_job("clamped");
    job["links"] = json!({ "expires_in": "12h" });
    let pages = world.dir.path().join("pages");
    fs::create_dir(&pages).unwrap();
    job["gallery"] = json!({ "publish": { "dir": pages } });
    let ends = with_credentials(&world, &credentials, &[job]).await;
    let end = ends[0].as_ref().unwrap().expires_at.unwrap();
    let left = end.duration_since(clock::system()).as_secs();
    assert!((29 * 60..=30 * 60).contains(&left), "{left}");

    let line = world.audit_of("issue").remove(0);
    assert_eq!(line["expires_at"], end.to_string());
    let signed_at: Timestamp = line["signed_at"].as_str().unwrap().parse().unwrap();
    let mail = world.mails().remove(0);
    let folder = fs::read_dir(&pages).unwrap().next().unwrap().unwrap();
    let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
    for text in [&mail.html, &page] {
        assert!(text.contains("the key that signs them ends then"), "{text}");
        assert!(text.contains(&end.strftime("%H:%M").to_string()), "{text}");
    }
    assert!(page.contains(&format!("datetime=\"{end}\"")), "{page}");
    let expires = hrefs(&page).into_iter().find_map(|href| {
        href.split("X-Amz-Expires=")
            .nth(1)?
            .split('&')
            .next()?
            .parse()
            .ok()
    });
    let signed_for: i64 = expires.unwrap();
    assert_eq!(
        end.duration_since(signed_at).as_secs(),
        signed_for,
        "nor do they work longer"
    );
}

#[tokio::test]
async fn credentials_that_end_too_early_are_renewed_once_before_a_job_is_refused() {
    let jobs = ["5m", "1h", "90m", "12h"].map(|expires_in| {
        let mut job = email_job(expires_in);
        job["links"] = json!({ "expires_in": expires_in });
        job
    });
    let world = World::new().object("a.pdf", "x");
    let credentials = Renewed::minutes(&world, &[10, 120]);
    let ends = with_credentials(&world, &credentials, &jobs).await;
    let accepted =
        |end: &Result<JobReport, String>| end.as_ref().map_or(0, |delivered| delivered.accepted);
    assert_eq!(ends.iter().map(accepted).collect::<Vec<_>>(), [1, 1, 1, 0]);
    let refused = ends[3].as_ref().unwrap_err();
    assert!(
        refused.contains("12h, but the signing credentials end at"),
        "{refused}"
    );
    assert_eq!(
        credentials.asked(),
        3,
        "by the first, by the second, and once for the last"
    );
}
