//! Measures the pages of a gallery: the cost of a card when the program writes it, and when the template engine renders it.
//!
//! `cargo bench --bench gallery`. Timings vary on shared machines: compare the ratio. The time is CPU time, and both ways write
//! the same bytes.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use handout::audit::note::SigningKey;
use handout::audit::record::{Context, LinkKind, Pseudonyms};
use handout::audit::{AuditLog, AuditSettings, AuditedLinks, record};
use handout::clock;
use handout::job::{ContentDisposition, Job, OnDoubt};
use handout::keyring::{Keyring, Purpose};
use handout::links::direct::{Identity, LinkOptions, sign};
use handout::links::{Links, UrlSigner};
use handout::media::{PageRenditions, Picture, PictureFormat, Pictures};
use handout::plan::Audience;
use handout::plan::ResponseOverrides;
use handout::plan::{
    Bound, ExpiryGuard, GalleryPlan, Lifetime, Objects, OnUnlinkable, Plan, PublishTarget,
};
use handout::render::{Brand, Gallery, MailSettings, PageLinks, Templates};
use handout::text::charset::TextCharset;
use presign::{AccessKey, Addressing, BucketUrl, ExpiresIn, Presigner};

/// The links of a batch, and the cards of a page.
const BATCH: usize = 1000;

/// The number of pages of a gallery, the same for both ways, since pages link to each other.
const PAGES: usize = 30;

fn main() {
    for (name, token) in [
        ("long-term key", None),
        ("1 KB session token", Some("A".repeat(1024))),
    ] {
        let (batch, pictures) = batch(token);
        let own = tempfile::tempdir().unwrap();
        let cards = "partials/cards.html.hbs";
        let source = fs::read_to_string(format!("templates/{cards}")).unwrap();
        fs::create_dir(own.path().join("partials")).unwrap();
        fs::write(own.path().join(cards), source + "{{! ours }}").unwrap();
        let (program, engine) = (
            Templates::load(None).unwrap(),
            Templates::load(Some(own.path())).unwrap(),
        );
        let (written, bytes) = measure(&program, &batch, &pictures);
        let (filled_in, same) = measure(&engine, &batch, &pictures);
        assert_eq!(bytes, same);
        println!("{name:20} {:>9}", "µs a card");
        println!("  by the program     {written:9.2}");
        println!(
            "  by the engine      {filled_in:9.2}   {:.0}×",
            filled_in / written
        );
        println!("  a card has {} bytes", bytes / BATCH);
    }
}

/// Microseconds of CPU for a card, and the size of a page in bytes.
fn measure(templates: &Templates, batch: &AuditedLinks, pictures: &Pictures) -> (f64, usize) {
    let (plan, settings) = (plan(), settings());
    let total = (PAGES * BATCH) as u64;
    let audience = Audience::Everyone;
    let mut bytes = 0;
    let took = cpu(|| {
        let begun = Gallery::begin(
            templates,
            &plan,
            &audience,
            total,
            PageLinks::Relative,
            &settings,
        );
        let mut gallery = begun.unwrap();
        for _ in 0..PAGES {
            for page in gallery
                .push(batch, pictures, &PageRenditions::default())
                .unwrap()
            {
                bytes = page.html.len();
            }
        }
        drop(gallery.finish().unwrap());
    });
    (took.as_secs_f64() * 1e6 / total as f64, bytes)
}

fn key(number: usize) -> String {
    format!("photos/Day {}/IMG_{number:04}.jpg", number / 250)
}

/// Signed and recorded links to photos of known sizes.
fn batch(session_token: Option<String>) -> (AuditedLinks, Pictures) {
    let keyring = Keyring::new([7; 32]);
    let links = links(&keyring, session_token);
    let mut pictures = Pictures::default();
    for (number, link) in links.links.iter().enumerate() {
        let picture = Picture {
            width: if number.is_multiple_of(3) { 4000 } else { 6000 },
            height: if number.is_multiple_of(3) { 6000 } else { 4000 },
            format: PictureFormat::Displayed,
            thumbnail: None,
        };
        pictures.insert(link.key().clone(), Arc::new(picture));
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = AuditSettings::new(dir.path(), SigningKey::from_seed(&[7; 32]));
    let (log, writer) = AuditLog::open(&settings, "bench", clock::system).unwrap();
    let names = Pseudonyms::new(&keyring, false);
    let context = Context {
        job: "shoot",
        connection: "photos",
        role: None,
        message_id: None,
        attempt: 1,
        kind: LinkKind::Named,
        names: &names,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let audited = runtime.block_on(record(links, &context, &log)).unwrap();
    drop(log);
    writer.close();
    (audited, pictures)
}

fn links(keyring: &Keyring, session_token: Option<String>) -> Links {
    let bucket = "acme-photos".parse().unwrap();
    let lifetime = lifetime();
    let keys = AccessKey {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        session_token: session_token.map(Into::into),
    };
    let endpoint = "https://s3.eu-west-1.amazonaws.com";
    let target = BucketUrl::new(endpoint, "acme-photos", Addressing::VirtualHost).unwrap();
    let presigner = Presigner::new(
        target,
        &keys,
        "eu-west-1",
        lifetime.signed_at,
        ExpiresIn::MAX,
    );
    let wish = LinkOptions {
        filename: None,
        disposition: ContentDisposition::Inline,
        content_type: None,
        text_charset: TextCharset::default(),
        version_id: None,
        identity: Identity::Derived(keyring.deriver(Purpose::LinkId)),
        audience: Audience::Everyone,
    };
    let objects = (0..BATCH).map(|number| key(number).parse().unwrap());
    let url_signer = UrlSigner::S3(Box::new(presigner));
    sign(
        &wish,
        &bucket,
        objects.collect(),
        &url_signer,
        keys.access_key_id,
        lifetime,
    )
    .unwrap()
}

fn lifetime() -> Lifetime {
    Lifetime {
        signed_at: "2026-11-23T18:40:00Z".parse().unwrap(),
        signed_for_secs: 604_800,
        expires_at: "2026-11-30T18:40:00Z".parse().unwrap(),
        bound: Bound::Asked,
        fresh_until: "2026-11-27T06:40:00Z".parse().unwrap(),
    }
}

fn settings() -> MailSettings {
    MailSettings {
        locale: "en".parse().unwrap(),
        sender_name: "Reports".to_owned(),
        sender_address: "reports@sender.example".to_owned(),
        html_budget_bytes: MailSettings::HTML_BUDGET_BYTES,
        brand: Brand::default(),
    }
}

fn plan() -> Plan {
    let job = r#"{ "v": 1, "id": "shoot", "from": { "connection": "photos", "bucket": "acme-photos", "prefix": "photos/" },
        "gallery": { "publish": { "dir": "/srv/galleries" } } }"#;
    let job = Job::parse(job).unwrap();
    let order = job.gallery.as_ref().unwrap();
    let gallery = GalleryPlan {
        title: Some("A shoot".to_owned()),
        template: order.template.clone(),
        place: PublishTarget::Dir {
            asked: "/srv/galleries".into(),
            allowed: "/srv/galleries".into(),
            url: None,
        },
        page_size: BATCH,
    };
    Plan {
        time_zone: clock::time_zone("Europe/Berlin").unwrap(),
        connection: job.from.connection.clone(),
        bucket: job.from.bucket.clone(),
        objects: Objects::Named(Vec::new()),
        published_within: Vec::new(),
        allowed: "".parse().unwrap(),
        order: job.from.order,
        limit: None,
        when_empty: job.from.when_empty,
        on_unlinkable: OnUnlinkable::Skip,
        expiry_guard: ExpiryGuard::Refuse,
        pin_version: false,
        preflight: false,
        lifetime: lifetime(),
        via: job.links.via,
        overrides: ResponseOverrides::Forwarded,
        disposition: ContentDisposition::Inline,
        filename: None,
        text_charset: TextCharset::default(),
        per_recipient: false,
        on_doubt: OnDoubt::Resend,
        max_links: 1_000_000,
        relay: handout::job::RelayName::default(),
        gallery: Some(gallery),
        manifest: None,
        zip: None,
        portal: None,
        job: Arc::new(job),
    }
}

/// The CPU time of the process for a piece of work, in hundredths of a second: proc(5).
fn cpu(work: impl FnOnce()) -> Duration {
    let taken = || {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let (_, rest) = text.rsplit_once(')').unwrap();
        // The state, then ten numbers, then the user and the system time.
        let fields = rest.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    };
    let before = taken();
    work();
    taken().saturating_sub(before)
}
