//! Fixtures for the tests of this module: a job, its links, its reader.

use std::sync::Arc;

use jiff::Timestamp;
use presign::PresignedUrl;
use serde_json::{Value, json};

use super::email::{Digest, MailRequest, build};
use super::{Brand, Gallery, MailSettings, PageLinks, RenderedMail, RenderedPage, Templates};
use crate::audit::AuditedLinks;
use crate::job::{ContentDisposition, Job, Recipient, Selection};
use crate::links::{Link, Links, Unavailable, Unlinkable};

use crate::media::{PageRenditions, Pictures};
use crate::plan::Audience;
use crate::plan::{Bound, GalleryPlan, Lifetime, Objects, OnUnlinkable, Plan, PublishTarget};
use crate::store::{ObjectMeta, Storage};
use crate::text::charset::TextCharset;

pub(super) const SIGNATURE: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn settings() -> MailSettings {
    MailSettings {
        locale: "en".parse().unwrap(),
        sender_name: "Harbour Reports".to_owned(),
        sender_address: "reports@harbour.example".to_owned(),
        html_budget_bytes: MailSettings::HTML_BUDGET_BYTES,
        brand: Brand::default(),
    }
}

/// The plan of a job with this `from.prefix`, merged with `over`.
pub(crate) fn plan(prefix: &str, over: &Value) -> Plan {
    let mut job = json!({
        "v": 1,
        "id": "acme-daily-2026-11-23",
        "from": { "connection": "reports", "bucket": "acme-reports", "prefix": prefix },
        "email": { "to": ["Ann Bell <ann@acme.example>"] },
        "vars": { "customer": "ACME" },
    });
    for (field, value) in over.as_object().unwrap() {
        job[field] = value.clone();
    }
    let job = Job::parse(&job.to_string()).unwrap();
    let Selection::Prefix(_, filter) = &job.from.selection else {
        panic!("a prefix was given")
    };
    let objects = Objects::Under(prefix.parse().unwrap(), filter.clone());
    let gallery = job.gallery.as_ref().map(|order| GalleryPlan {
        title: order.title.as_ref().map(ToString::to_string),
        template: order.template.clone(),
        place: PublishTarget::Dir {
            asked: "/srv/galleries".into(),
            allowed: "/srv/galleries".into(),
            url: Some("https://galleries.acme.example/".to_owned()),
        },
        page_size: 1000,
    });
    Plan {
        time_zone: crate::clock::time_zone("Europe/Berlin").unwrap(),
        connection: job.from.connection.clone(),
        bucket: job.from.bucket.clone(),
        objects,
        published_within: Vec::new(),
        order: job.from.order,
        limit: None,
        when_empty: job.from.when_empty,
        on_unlinkable: OnUnlinkable::Skip,
        expiry_guard: crate::plan::ExpiryGuard::Refuse,
        pin_version: false,
        preflight: false,
        lifetime: lifetime(),
        via: job.links.via,
        overrides: crate::plan::ResponseOverrides::Forwarded,
        disposition: ContentDisposition::Attachment,
        allowed: "".parse().expect("it is the whole bucket"),
        filename: None,
        text_charset: TextCharset::default(),
        per_recipient: true,
        on_doubt: crate::job::OnDoubt::Resend,
        relay: crate::job::RelayName::default(),
        max_links: 1000,
        gallery,
        manifest: None,
        zip: None,
        portal: None,
        job: Arc::new(job),
    }
}

pub(super) fn lifetime() -> Lifetime {
    Lifetime {
        signed_at: at("2026-11-23T17:39:00Z"),
        signed_for_secs: 604_800,
        expires_at: at("2026-11-30T17:40:00Z"),
        bound: Bound::Asked,
        fresh_until: at("2026-11-27T05:40:00Z"),
    }
}

/// A link to an object, with a URL of the usual form.
pub(crate) fn link(key: &str, size_bytes: u64) -> Link {
    let escaped: String = key
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let url = format!(
        "https://acme-reports.s3.eu-west-1.amazonaws.com/{escaped}?X-Amz-Expires=604800&X-Amz-Signature={SIGNATURE}"
    );
    link_to(key, size_bytes, url)
}

pub(super) fn link_to(key: &str, size_bytes: u64, url: String) -> Link {
    let key: crate::job::Key = key.parse().unwrap();
    Link {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        bucket: "acme-reports".parse().unwrap(),
        name: presign::disposition::clean_name(key.file_name()),
        object: ObjectMeta {
            key,
            size_bytes,
            etag: "etag".to_owned(),
            version: None,
            modified: at("2026-11-23T05:12:00Z"),
            storage: Storage::Ready,
            stored: None,
        },
        disposition: ContentDisposition::Attachment,
        url: PresignedUrl::new(url),
    }
}

pub(super) fn audited(links: Vec<Link>, unavailable: &[(&str, Unlinkable)]) -> AuditedLinks {
    let unavailable = unavailable
        .iter()
        .map(|(key, reason)| Unavailable {
            key: (*key).to_owned(),
            reason: *reason,
        })
        .collect();
    AuditedLinks::for_test(Links {
        links,
        unavailable,
        audience: Audience::Everyone,
        lifetime: lifetime(),
        access_key_id: Arc::from("AKIDEXAMPLE"),
    })
}

/// The reports of a day, in two folders, one of them in an archive.
pub(super) fn reports() -> AuditedLinks {
    let links = vec![
        link("reports/2026/11/23/Delivery report.pdf", 1_234_567),
        link("reports/2026/11/23/Umsatz Q3 – Süd.pdf", 48_200),
        link("reports/2026/11/23/raw/orders.csv", 812),
    ];
    audited(
        links,
        &[("reports/2026/11/23/archive/2019.pdf", Unlinkable::Archived)],
    )
}

/// A mail to Ann in a language.
pub(super) fn mail_in(
    locale: &str,
    plan: &Plan,
    links: &AuditedLinks,
    gallery_url: Option<&PresignedUrl>,
) -> RenderedMail {
    let mut ann = Recipient::parse("Ann Bell <ann@acme.example>").unwrap();
    ann.locale = Some(locale.parse().unwrap());
    let mut digest = Digest::new(plan);
    digest.push(links);
    let settings = settings();
    let letter = MailRequest {
        plan,
        digest: &digest,
        recipient: &ann,
        gallery_url,
        manifest_url: None,
        zips: None,
        settings: &settings,
    };
    build(installed(), &letter).unwrap().mail
}

/// All pages of a gallery whose links come in batches.
pub(super) fn pages(
    plan: &Plan,
    audience: &Audience,
    batches: &[&AuditedLinks],
) -> Vec<RenderedPage> {
    let (templates, settings) = (templates(), settings());
    let total = batches.iter().map(|batch| batch.links().len() as u64).sum();
    let mut gallery = Gallery::begin(
        &templates,
        plan,
        audience,
        total,
        PageLinks::Relative,
        &settings,
    )
    .unwrap();
    let mut pages: Vec<RenderedPage> = batches
        .iter()
        .flat_map(|batch| {
            gallery
                .push(batch, &Pictures::default(), &PageRenditions::default())
                .unwrap()
        })
        .collect();
    pages.extend(gallery.finish().unwrap());
    pages
}

/// The built-in templates, loaded once.
pub(super) fn installed() -> &'static Templates {
    static INSTALLED: std::sync::LazyLock<Templates> = std::sync::LazyLock::new(templates);
    &INSTALLED
}

pub(super) fn templates() -> Templates {
    Templates::load(None).unwrap_or_else(|error| panic!("{error}"))
}

/// Every URL that a page links to, unescaped, in the order of the page.
pub(super) fn hrefs(html: &str) -> Vec<String> {
    attribute(html, " href=\"")
}

/// The values of an attribute.
pub(super) fn attribute(html: &str, begin: &str) -> Vec<String> {
    let values = html
        .split(begin)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap());
    values
        .map(|value| {
            value
                .replace("&#39;", "'")
                .replace("&quot;", "\"")
                .replace("&amp;", "&")
        })
        .collect()
}

/// A text with every URL of a link replaced by a name.
pub(super) fn without_urls(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.starts_with("https://") {
            "[URL]"
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes mails and pages to `target/look/`, with links to a server of sample files on this machine.
#[test]
#[ignore = "writes samples to look at"]
fn looks() {
    const HOST: &str = "http://127.0.0.1:9470";
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/look");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let on_host = |key: &str, size_bytes| {
        let path = link(key, 0)
            .url
            .expose()
            .split_once(".com")
            .unwrap()
            .1
            .to_owned();
        link_to(key, size_bytes, format!("{HOST}{path}"))
    };

    let daily = plan("reports/2026/11/23/", &json!({}));
    for locale in ["en", "de", "fr", "es", "ja", "ar"] {
        let mail = mail_in(locale, &daily, &reports(), None);
        write(&format!("mail-{locale}.html"), &mail.html);
        write(
            &format!("mail-{locale}.txt"),
            &format!("{}\n\n{}", mail.subject, mail.text),
        );
    }
    let photos = json!({
        "gallery": { "title": "Three days in the mountains", "publish": { "dir": "/srv/galleries" } },
    });
    let photos = plan("gallery/", &photos);
    let many: Vec<Link> = (1..=60)
        .map(|n| {
            link(
                &format!("gallery/Day 1/IMG_{n:04}.jpg"),
                4_000_000 + n * 12_345,
            )
        })
        .collect();
    let page = PresignedUrl::new(format!("{HOST}/gallery.html"));
    write(
        "mail-many.html",
        &mail_in("en", &photos, &audited(many, &[]), Some(&page)).html,
    );
    write(
        "mail-none.html",
        &mail_in("en", &daily, &audited(Vec::new(), &[]), None).html,
    );

    let mut links = Vec::new();
    let names = [
        "Day 1/Sunrise over the lake.jpg",
        "Day 1/Nebel über den Hügeln.jpg",
        "Day 1/Ann's night sky ✨.jpg",
        "Day 2/Ballons über Südtirol 🎈.jpg",
        "Day 2/Dunes + long shadows.jpg",
        "Day 2/Panorama – Alpenglühen.jpg",
    ];
    links.extend(
        ["C++ & Rust costs +12%.pdf", "orders 2026-11-23.csv"]
            .map(|name| on_host(&format!("gallery/{name}"), 812_345)),
    );
    for (index, name) in names.iter().cycle().take(21).enumerate() {
        links.push(on_host(
            &format!("gallery/{name}"),
            3_000_000 + index as u64 * 123_456,
        ));
    }
    links.push(on_host("gallery/Day 1/Music box 🎵.mp3", 48_000));
    links.push(on_host(
        "gallery/Day 2/Zeitraffer – dawn in 3 s.mp4",
        1_400_000,
    ));
    for name in [
        "Programme.pdf",
        "costs.xlsx",
        "notes.html",
        "A very long name that somebody thought would explain all that there is in this file, and more.docx",
    ] {
        links.push(on_host(&format!("gallery/Papers/{name}"), 250_000));
    }
    let links = audited(links, &[("gallery/Papers/2019.zip", Unlinkable::Archived)]);
    for locale in ["en", "ar"] {
        let mut ann = Recipient::parse("Ann Bell <ann@acme.example>").unwrap();
        ann.locale = Some(locale.parse().unwrap());
        let pages = pages(&photos, &Audience::Recipient(Arc::new(ann)), &[&links]);
        write(&format!("gallery-{locale}.html"), &pages[0].html);
    }
    let mut paged = photos.clone();
    paged.gallery.as_mut().unwrap().page_size = 10;
    for page in pages(&paged, &Audience::Everyone, &[&links]) {
        write(
            &format!("paged/{}", page.file_name).replace('/', "-"),
            &page.html,
        );
    }
    write(
        "gallery-none.html",
        &pages(&photos, &Audience::Everyone, &[])[0].html,
    );
}
