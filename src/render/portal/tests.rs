//! Every page in every language, and what names in them cannot do.

use super::super::brand::Logo;
use super::super::samples::{settings, templates};
use super::*;
use crate::config::BrandConfig;
use crate::job::FilledMessage;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

const VIDEO: ShownPreview<'_> = ShownPreview {
    media: PortalMedia::Video,
    src: "https://b.s3.amazonaws.com/v.mp4?X-Amz-Signature=1",
    again: Some("/d/token?t=ticket"),
    renditions: None,
};

fn file(name: &str) -> ShownFile<'_> {
    ShownFile {
        name,
        path: name,
        size: 1_234_567,
        modified: NOW,
        href: "/d/token?t=ticket",
        preview: None,
    }
}

/// The only page of a job without files.
fn no_files() -> FilesPage<'static> {
    FilesPage {
        job: "daily",
        now: NOW,
        page_size: 1_000,
        title: "Reports",
        message: None,
        recipient: None,
        is_shared: false,
        files: Vec::new(),
        zips: Vec::new(),
        zip_missing: 0,
        missed: Vec::new(),
        total: 0,
        size_bytes: 0,
        page: 1,
        pages: 1,
        previous: None,
        next: None,
        opens: false,
        ends_at: NOW,
        signed_in: None,
    }
}

/// A page of two files, of which one is a video, in the middle of a job.
fn some_files() -> FilesPage<'static> {
    FilesPage {
        recipient: Some("Ann"),
        files: vec![
            ShownFile {
                preview: Some(VIDEO),
                ..file("v.mp4")
            },
            file("a.pdf"),
        ],
        missed: vec![
            ("old.pdf", Some(crate::links::Unlinkable::Archived)),
            ("no.pdf", None),
        ],
        total: 2_000,
        size_bytes: 5,
        page: 2,
        pages: 3,
        previous: Some("/j/token".to_owned()),
        next: Some("/j/token/3".to_owned()),
        signed_in: Some("token"),
        ..no_files()
    }
}

fn writer<'a>(
    templates: &'a Templates,
    settings: &'a MailSettings,
    languages: &str,
) -> PortalWriter<'a> {
    let reader = PortalReader {
        languages,
        ..PortalReader::default()
    };
    let sender = PageSender {
        name: None,
        contact: Some("desk@acme.example"),
    };
    PortalWriter::new(templates, settings, sender, reader)
}

/// Every page of one language.
fn pages(writer: &PortalWriter<'_>) -> Vec<PortalPage> {
    let troubles = [
        PortalTrouble::Unknown,
        PortalTrouble::Ended { at: Some(NOW) },
        PortalTrouble::Ended { at: None },
        PortalTrouble::Revoked,
        PortalTrouble::Gone,
        PortalTrouble::Archived,
        PortalTrouble::NotYet,
        PortalTrouble::TooMany,
        PortalTrouble::Unavailable,
        PortalTrouble::Refused,
    ];
    let issuers = [ShownIssuer {
        name: "staff".to_owned(),
    }];
    let sign_in = SignInPage {
        token: Some("token"),
        by_code: true,
        issuers: &issuers,
        notice: Some("portal_address_wrong"),
    };
    let code = CodePage {
        token: Some("token"),
        minutes: 10,
        is_wrong: true,
    };
    let one = FilePage {
        file: file("a.pdf"),
        ticket: "ticket",
        opens: true,
        title: Some("Reports"),
        ends_at: NOW,
        signed_in: true,
    };
    let many = some_files();
    let mine = MinePage {
        distributions: vec![ShownDistribution {
            title: "Reports".to_owned(),
            href: "/j/token".to_owned(),
            ends_at: NOW,
        }],
    };
    let mut pages: Vec<_> = troubles
        .into_iter()
        .map(|trouble| writer.trouble(trouble))
        .collect();
    pages.extend([
        writer.sign_in(&sign_in),
        writer.sign_in(&SignInPage {
            token: None,
            ..sign_in
        }),
        writer.sign_in(&SignInPage {
            by_code: false,
            ..sign_in
        }),
        writer.code(&code),
        writer.file(&one),
        writer.files(&many),
        writer.mine(&mine),
        writer.mine(&MinePage {
            distributions: Vec::new(),
        }),
        writer.other_person("token"),
        writer.signed_out(),
    ]);
    pages
}

#[test]
fn every_page_has_all_its_words_in_every_language() {
    let (templates, settings) = (templates(), settings());
    let english: Vec<String> = pages(&writer(&templates, &settings, "en"))
        .into_iter()
        .map(|page| page.html)
        .collect();
    for tag in ["ar", "de", "en", "es", "fr", "ja"] {
        for (number, page) in pages(&writer(&templates, &settings, tag))
            .into_iter()
            .enumerate()
        {
            let html = page.html.replace(STYLE, "").replace(SCRIPT, "");
            assert!(html.contains(&format!("<html lang=\"{tag}\"")), "{html}");
            for wrong in ["<h1></h1>", "<p></p>", "><button></button>", "{"] {
                assert!(!html.contains(wrong), "{tag} {number}: {html}");
            }
            assert!(
                tag == "en" || page.html != english[number],
                "{tag} {number}"
            );
            assert!(html.contains("mailto:desk@acme.example"), "{html}");
        }
    }
}

#[test]
fn names_and_titles_are_escaped_and_keep_to_their_place() {
    let (templates, settings) = (templates(), settings());
    let writer = writer(&templates, &settings, "en");
    let name = "<script>alert(1)</script>\u{202e}fdp.exe\"'";
    let page = writer.file(&FilePage {
        file: file(name),
        ticket: "\"><b>",
        opens: false,
        title: Some("</title><img>"),
        ends_at: NOW,
        signed_in: false,
    });
    for wrong in ["<script", "<img", "<b>", "\u{202e}"] {
        assert!(!page.html.contains(wrong), "{wrong}: {}", page.html);
    }
    assert!(page.html.contains("&lt;script&gt;"), "{}", page.html);
}

#[test]
fn only_a_page_with_sound_has_a_script_and_its_hash_is_that_of_the_text() {
    let (templates, settings) = (templates(), settings());
    let writer = writer(&templates, &settings, "en");
    let mut shown = FilePage {
        file: file("a.mp4"),
        ticket: "t",
        opens: true,
        title: None,
        ends_at: NOW,
        signed_in: false,
    };
    let plain = writer.file(&shown);
    assert!(plain.script.is_none() && !plain.html.contains("<script"));
    shown.file.preview = Some(VIDEO);
    let page = writer.file(&shown);
    let (_, script) = page.html.split_once("<script>").unwrap();
    let (script, _) = script.split_once("</script>").unwrap();
    assert_eq!(page.script.as_deref(), Some(source(script).as_str()));
    let (_, style) = page.html.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    assert_eq!(page.style, source(style));
}

/// Settings with a brand of every kind.
fn branded(logo: &str) -> MailSettings {
    let config = BrandConfig {
        name: Some("Studio <Nord>".to_owned()),
        accent: "#ffcc00".parse().ok(),
        background: "#fff7ed".parse().ok(),
        footer: vec!["Nord & Co".to_owned(), "Hafenstraße 3".to_owned()],
        personal_note: false,
        ..BrandConfig::default()
    };
    let logo = (!logo.is_empty()).then(|| Logo::read(logo.as_bytes().to_vec()).unwrap());
    MailSettings {
        sender_name: "Studio <Nord>".to_owned(),
        brand: Brand::new(&config, logo),
        ..settings()
    }
}

#[test]
fn every_page_shows_the_brand_and_names_its_colours_in_the_policy() {
    let templates = templates();
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 480 60'/>";
    for (logo, header) in [
        (
            "",
            "<header><p class=\"brand\"><bdi>Studio &lt;Nord&gt;</bdi></p></header>".to_owned(),
        ),
        (
            svg,
            format!(
                "<header><img class=\"logo\" src=\"data:image/svg+xml;base64,{}\" width=\"240\" height=\"30\" alt=\"Studio &lt;Nord&gt;\"></header>",
                Base64::encode_string(svg.as_bytes())
            ),
        ),
    ] {
        let settings = branded(logo);
        for page in pages(&writer(&templates, &settings, "en")) {
            let html = &page.html;
            assert!(html.contains(&header), "{html}");
            assert!(
                html.contains(
                    "<p class=\"address\"><bdi>Nord &amp; Co</bdi><br><bdi>Hafenstraße 3</bdi></p></footer>"
                ),
                "{html}"
            );
            assert!(!html.contains("alone"), "{html}");
            let styles = html.split("<style>").skip(1);
            let sources = styles.map(|rest| source(rest.split("</style>").next().unwrap()));
            let sources: Vec<String> = sources.collect();
            assert_eq!(sources.len(), 2);
            assert_eq!(page.style, sources.join(" "));
        }
    }
}

#[test]
fn a_message_is_in_the_language_of_the_reader_and_never_markup() {
    let (templates, settings) = (templates(), settings());
    let message: FilledMessage = serde_json::from_str(
        r#"[["de", "Hallo\n<b>du</b>\n\nTschüs"], ["en", "Hello"], ["nl", "Hoi \u202e"]]"#,
    )
    .unwrap();
    let told = |locale: Option<&str>, languages: &str| {
        let locale: Option<Locale> = locale.map(|locale| locale.parse().unwrap());
        let reader = PortalReader {
            locale: locale.as_ref(),
            time_zone: None,
            languages,
        };
        let writer = PortalWriter::new(&templates, &settings, PageSender::default(), reader);
        let page = writer.files(&FilesPage {
            message: Some(&message),
            is_shared: true,
            ..no_files()
        });
        let (_, rest) = page.html.split_once("</h1>").unwrap();
        rest.split_once("</div>").unwrap().0.to_owned()
    };
    insta::assert_snapshot!(
        [
            told(None, "de-CH"),
            told(Some("nl-BE"), "de"),
            told(None, "fr"),
            told(Some("ja"), "de"),
        ]
        .join("\n"),
        @r#"
    <div class="message" lang="de"><p dir="auto">Hallo<br>&lt;b&gt;du&lt;/b&gt;</p><p dir="auto">Tschüs</p>
    <div class="message" lang="nl"><p dir="auto">Hoi</p>
    <div class="message" lang="en"><p dir="auto">Hello</p>
    <div class="message" lang="en"><p dir="auto">Hello</p>
    "#
    );
}

#[test]
fn the_mail_with_a_code_has_the_code_and_no_link() {
    let (templates, settings) = (templates(), settings());
    for tag in ["ar", "de", "en", "es", "fr", "ja"] {
        let (subject, text) = writer(&templates, &settings, tag).code_mail(&CodeMail {
            code: "1234 5678",
            site: "files.acme.example",
            asked_at: NOW,
            browser: Some("Firefox"),
            minutes: 10,
        });
        assert!(!subject.contains("1234"), "{subject}");
        assert!(
            text.contains("1234 5678") && text.contains("Firefox"),
            "{text}"
        );
        assert!(!text.contains("://") && !text.contains('{'), "{text}");
    }
    let settings = branded("");
    let (_, text) = writer(&templates, &settings, "en").code_mail(&CodeMail {
        code: "1234 5678",
        site: "files.acme.example",
        asked_at: NOW,
        browser: None,
        minutes: 10,
    });
    assert!(text.ends_with(".\n\nNord & Co\nHafenstraße 3\n"), "{text}");
}

/// A recipient whose name the job does not give is not told to pass links on that are theirs alone.
#[test]
fn only_a_page_that_recipients_share_may_be_passed_on() {
    let (templates, settings) = (templates(), settings());
    let writer = writer(&templates, &settings, "en");
    let mut page = FilesPage {
        recipient: Some("Ann"),
        files: vec![file("a.pdf")],
        total: 1,
        size_bytes: 5,
        ..no_files()
    };
    assert!(writer.files(&page).html.contains("made for Ann alone"));
    page.recipient = None;
    assert!(!writer.files(&page).html.contains("pass them on"));
    page.is_shared = true;
    assert!(writer.files(&page).html.contains("pass them on with care"));
}

const PICTURE: ShownPreview<'_> = ShownPreview {
    media: PortalMedia::Picture,
    src: "https://b.s3.amazonaws.com/p.jpg?X-Amz-Signature=1&x=2",
    again: None,
    renditions: None,
};

fn gallery_files() -> FilesPage<'static> {
    let mut page = some_files();
    for path in ["days/1/p.jpg", "days/2/<b>.jpg", "days/2/later.jpg"] {
        page.files.push(ShownFile {
            path,
            preview: Some(PICTURE),
            ..file(path.rsplit('/').next().unwrap())
        });
    }
    page
}

#[test]
fn a_gallery_shows_pictures_by_signed_links_and_opens_files_through_the_portal() {
    let (program, engine) = (templates(), Templates::filled_in_by_the_engine());
    for settings in [settings(), branded("")] {
        for tag in ["ar", "de", "en", "es", "fr", "ja"] {
            let page = gallery_files();
            let written = writer(&program, &settings, tag).gallery("gallery", &page);
            let filled_in = writer(&engine, &settings, tag).gallery("gallery", &page);
            let (written, filled_in) = (written.unwrap(), filled_in.unwrap());
            let mut both = written.html.lines().zip(filled_in.html.lines());
            assert_eq!(both.find(|(ours, theirs)| ours != theirs), None, "{tag}");
            let html = written.html;
            assert!(html.contains(&format!("<html lang=\"{tag}\"")), "{html}");
            for right in [
                "<img class=\"view whole\" src=\"https://b.s3.amazonaws.com/p.jpg?X-Amz-Signature=1&amp;x=2\"",
                "<video controls preload=\"none\" src=\"/d/token?t=ticket\"",
                "<th scope=\"row\"><a href=\"/d/token?t=ticket\"",
                "<input type=\"hidden\" name=\"token\" value=\"token\">",
                "href=\"/j/token\"",
                "href=\"/j/token/3\"",
                "id=\"i1005\"",
                "mailto:desk@acme.example",
                "content=\"same-origin\"",
                "&lt;b&gt;.jpg",
            ] {
                assert!(html.contains(right), "{tag} {right}: {html}");
            }
            assert_eq!(html.matches("X-Amz-Signature").count(), 3, "{html}");
            let sources = |begin: &str, end: &str| {
                let texts = html.split(begin).skip(1);
                let texts = texts.map(|rest| source(rest.split(end).next().unwrap()));
                texts.collect::<Vec<_>>().join(" ")
            };
            assert_eq!(written.style, sources("<style>", "</style>"));
            let script = sources("<script>", "</script>");
            assert_eq!(written.script.as_deref(), Some(script.as_str()));
            let (_, policy) = html.split_once("Policy\" content=\"").unwrap();
            let policy = policy.split('"').next().unwrap().replace("&#39;", "'");
            for right in [
                "img-src 'self' https://b.s3.amazonaws.com data:; ",
                "media-src 'self' https://b.s3.amazonaws.com; ",
                "form-action 'self'",
            ] {
                assert!(policy.contains(right), "{policy}");
            }
        }
    }
}

#[test]
fn a_gallery_leads_nowhere_but_to_the_portal_and_its_stores() {
    let (templates, settings) = (templates(), settings());
    let writer = writer(&templates, &settings, "en");
    for wrong in [
        "javascript:alert(1)",
        "/d/a?t=b&c",
        "//evil.example",
        "/d/",
        "/sign-out",
    ] {
        let page = FilesPage {
            files: vec![ShownFile {
                href: wrong,
                ..file("a.pdf")
            }],
            ..gallery_files()
        };
        assert!(writer.gallery("gallery", &page).is_err(), "{wrong}");
    }
    // A portal whose operator has removed the template has the built-in one.
    let page = writer.gallery("gone", &gallery_files()).unwrap();
    assert!(page.html.contains("a.pdf"));
}
