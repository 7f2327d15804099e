//! Tests of `render/email.rs`.

mod clients;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::samples::*;
use super::super::{Brand, Logo, ZipLink};
use super::*;
use crate::audit::AuditedLinks;
use crate::links::{Link, Unlinkable};

const LANGUAGES: [&str; 6] = ["en", "de", "fr", "es", "ja", "ar"];

fn daily() -> Plan {
    plan("reports/2026/11/23/", &json!({}))
}

/// The plan of a job that requests a template.
fn plan_for(template: &str, prefix: &str, more: &Value) -> Plan {
    let mut over =
        json!({ "email": { "to": ["Ann Bell <ann@acme.example>"], "template": template } });
    for (field, value) in more.as_object().unwrap() {
        over[field] = value.clone();
    }
    plan(prefix, &over)
}

fn page() -> PresignedUrl {
    PresignedUrl::new("https://acme-out.s3.amazonaws.com/page?x=1".to_owned())
}

/// Three days of a shoot and a file beside them.
fn shoot(of_each: u64) -> AuditedLinks {
    let photo = |day: &str, n: u64| link(&format!("shoot/{day}/{n}.jpg"), 4_000_000);
    let mut links = vec![link("shoot/Contract.pdf", 210_000)];
    for day in ["Day 1", "Day 2", "Tag 3 – Süd"] {
        links.extend((1..=of_each).map(|n| photo(day, n)));
    }
    audited(links, &[])
}

/// Subject and text part in every language, without links.
fn in_every_language(plan: &Plan, links: &AuditedLinks, page: Option<&PresignedUrl>) -> String {
    let told = LANGUAGES.map(|locale| {
        let mail = mail_in(locale, plan, links, page);
        // Invisible marks would appear here as escapes.
        let text = without_urls(&mail.text).replace(['\u{2068}', '\u{2069}'], "");
        let subject = mail.subject.replace(['\u{2068}', '\u{2069}'], "");
        format!("── {locale}: {subject}\n\n{text}")
    });
    told.join("\n\n")
}

/// A digest without the second and later files of a folder.
fn first_of_each_folder(text: &str) -> String {
    let mut lines = text.lines();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        let is_later = line.contains(".jpg") && !line.starts_with("1.jpg");
        match is_later {
            true => assert_eq!(lines.next(), Some("[URL]")),
            false => kept.push(line),
        }
    }
    kept.join("\n")
}

fn built(plan: &Plan, links: &AuditedLinks, page: Option<&PresignedUrl>) -> RenderedDigest {
    let mut digest = Digest::new(plan);
    digest.push(links);
    let recipient = Recipient::parse("Ann Bell <ann@acme.example>").unwrap();
    let settings = settings();
    let letter = MailRequest {
        plan,
        digest: &digest,
        recipient: &recipient,
        gallery_url: page,
        manifest_url: None,
        zips: None,
        settings: &settings,
    };
    build(installed(), &letter).unwrap()
}

fn branded(brand: &str, logo: Option<&[u8]>) -> MailSettings {
    let brand = crate::config::Config::parse(
        &format!("[brand]\n{brand}"),
        &crate::environment::Environment::default(),
    );
    let logo = logo.map(|bytes| Logo::read(bytes.to_vec()).unwrap());
    MailSettings {
        brand: Brand::new(&brand.unwrap().brand, logo),
        ..settings()
    }
}

/// The mail of a template with a gallery to link, by a sender with a brand.
fn branded_mail(template: &str, settings: &MailSettings) -> RenderedMail {
    let plan = plan_for(template, "shoot/", &json!({}));
    let mut digest = Digest::new(&plan);
    digest.push(&shoot(12));
    let recipient = Recipient::parse("Ann Bell <ann@acme.example>").unwrap();
    let zips = ZipLinks {
        zips: vec![ZipLink {
            url: page(),
            file_name: "shoot.zip".to_owned(),
            files: 12,
            size_bytes: 1 << 30,
        }],
        left_out: 1,
    };
    let letter = MailRequest {
        plan: &plan,
        digest: &digest,
        recipient: &recipient,
        gallery_url: Some(&page()),
        manifest_url: None,
        zips: Some(&zips),
        settings,
    };
    build(installed(), &letter).unwrap().mail
}

const PNG: &[u8] = include_bytes!("../../../tests/fixtures/pictures/plain.png");

const NORD: &str = "name = \"Studio Nord\"\naccent = \"#ffcc00\"\nbackground = \"#fdf6e3\"\nfooter = [\"Studio <Nord> & Co\", \"Hafenstraße 3\"]\npersonal_note = false\n";

#[test]
fn a_brand_is_in_every_mail_and_no_other_colour_is() {
    let settings = branded(NORD, Some(PNG));
    for template in ["report", "digest", "gallery-invite"] {
        let mail = branded_mail(template, &settings);
        let logo = mail.logo.as_deref().expect("the HTML refers to it");
        let reference = format!("src=\"cid:{}\"", logo.content_id());
        assert_eq!(mail.html.matches(&reference).count(), 1, "{template}");
        assert!(mail.page().contains("src=\"data:image/png;base64,"));
        assert!(!mail.page().contains("cid:"));
        assert!(mail.html.contains("bgcolor=\"#ffcc00\""), "{template}");
        for colour in ["#1f5f5b", "#8fcfc6", "#f3f1ec", "#e9f1ef", "#29393a"] {
            assert!(!mail.html.contains(colour), "{template} {colour}");
        }
        let footer = "Studio &lt;Nord&gt; &amp; Co<br>Hafenstraße 3";
        assert!(mail.html.contains(footer), "{}", mail.html);
        assert!(
            mail.text
                .ends_with("\n\nStudio <Nord> & Co\nHafenstraße 3\n"),
            "{}",
            mail.text
        );
        for part in [&mail.html, &mail.text] {
            assert!(!part.contains("alone"), "the note is switched off");
        }
    }
}

#[test]
fn a_message_is_text_in_the_language_of_its_reader() {
    let message = json!({
        "en": "Dear {{recipient.name}},\n\nhere is <b>all</b> of {{customer}}.\n{{x}}\n\n\u{202e}Yours",
        "ar": "مرحبا",
    });
    let more = json!({ "vars": { "customer": "A & B", "x": "two\n\n<script>alert(1)</script>" } });
    for template in ["report", "digest", "gallery-invite"] {
        let mut more = more.clone();
        more["email"] = json!({ "to": ["Ann Bell <ann@acme.example>"], "template": template, "message": message });
        let plan = plan("shoot/", &more);
        let mail = |locale: &str| mail_in(locale, &plan, &shoot(3), Some(&page()));
        let (english, german) = (mail("en"), mail("de"));
        let lines: Vec<&str> = english
            .html
            .lines()
            .filter(|line| line.starts_with("<p dir"))
            .collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!(lines.join("\n"), @r#"
            <p dir="auto" lang="en" style="margin:0 0 16px">Dear Ann Bell,</p>
            <p dir="auto" lang="en" style="margin:0 0 16px">here is &lt;b&gt;all&lt;/b&gt; of A &amp; B.<br>two</p>
            <p dir="auto" lang="en" style="margin:0 0 16px">&lt;script&gt;alert(1)&lt;/script&gt;</p>
            <p dir="auto" lang="en" style="margin:0 0 16px">Yours</p>
            "#);
            let until = english.text.find("are ready").or(english.text.find("has put")).unwrap();
            insta::assert_snapshot!(english.text[..until].rsplit_once('\n').unwrap().0, @r"
            Hello Ann Bell,

            Dear Ann Bell,

            here is <b>all</b> of A & B.
            two

            <script>alert(1)</script>

            Yours
            ");
        }
        assert!(german.html.contains("lang=\"en\"") && german.text.contains("Dear Ann Bell,"));
        let arabic = mail("ar");
        assert!(
            arabic.html.contains("<p dir=\"auto\" lang=\"ar\"") && !arabic.text.contains("Dear")
        );
        assert!(!english.html.contains("<script") && !english.html.contains('\u{202e}'));
    }
}

#[test]
fn the_longest_message_leaves_room_for_the_rest_of_a_mail() {
    use crate::bounds::{MAX_MESSAGE_BYTES, MAX_MESSAGE_LINES};
    let each = MAX_MESSAGE_BYTES / MAX_MESSAGE_LINES * 2 - 2;
    for character in ["\"", "é", "🎈"] {
        let line = character.repeat(each / character.len());
        let text = vec![line; MAX_MESSAGE_LINES / 2].join("\n\n");
        assert!(text.len() <= MAX_MESSAGE_BYTES);
        let email = json!({ "to": ["Ann <ann@acme.example>"], "message": text });
        let plan = plan("shoot/", &json!({ "email": email }));
        let mail = built(&plan, &shoot(60), None);
        assert!(mail.shown > 40, "{character}: {}", mail.shown);
        assert!(mail.html_bytes <= MailSettings::HTML_BUDGET_BYTES);
    }
}

#[test]
fn without_a_brand_a_mail_looks_as_before() {
    for template in ["report", "digest", "gallery-invite"] {
        let mail = branded_mail(template, &settings());
        assert_eq!(mail.logo, None);
        assert!(!mail.html.contains("<img") && !mail.html.contains("class=\"brand\""));
        assert!(mail.html.contains("#1f5f5b") && mail.html.contains("alone"));
        assert!(
            mail.text
                .ends_with("alone. Please do not pass them on.\nSent by Harbour Reports.\n")
        );
    }
}

#[test]
fn where_no_logo_can_be_shown_the_name_stands() {
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 480 60'/>".as_slice();
    for logo in [None, Some(svg)] {
        let mut settings = branded("name = \"Studio <b>Nord</b>\"", logo);
        settings.sender_name = "Studio <b>Nord</b>".to_owned();
        let mail = branded_mail("report", &settings);
        assert_eq!(mail.logo, None);
        assert!(
            mail.html
                .contains("<bdi>Studio &lt;b&gt;Nord&lt;/b&gt;</bdi></td>")
        );
    }
}

#[test]
fn the_report_in_every_language() {
    insta::assert_snapshot!(in_every_language(&daily(), &reports(), None), @r"
        ── en: reports: 3 files – Harbour Reports, 23 Nov 2026

        Hello Ann Bell,

        3 files are ready for you, 1.3 MB in all.
        The links work until Monday 30 November 2026, 18:40 CET.

        Delivery report.pdf
        1.2 MB · 23 Nov 2026
        [URL]

        Umsatz Q3 – Süd.pdf
        48 KB · 23 Nov 2026
        [URL]

        orders.csv
        raw/
        812 B · 23 Nov 2026
        [URL]

        1 file has no link

        archive/2019.pdf
        It is in an archive and has to be restored first.

        These links were made for Ann Bell alone. Please do not pass them on.
        Sent by Harbour Reports.

        ── de: reports: 3 Dateien – Harbour Reports, 23. Nov. 2026

        Guten Tag Ann Bell,

        für Sie stehen 3 Dateien bereit, zusammen 1,3 MB.
        Die Links funktionieren bis Montag, 30. November 2026, 18:40 Uhr CET.

        Delivery report.pdf
        1,2 MB · 23. Nov. 2026
        [URL]

        Umsatz Q3 – Süd.pdf
        48 KB · 23. Nov. 2026
        [URL]

        orders.csv
        raw/
        812 B · 23. Nov. 2026
        [URL]

        1 Datei hat keinen Link

        archive/2019.pdf
        Die Datei liegt in einem Archiv und muss erst wiederhergestellt werden.

        Diese Links wurden nur für Ann Bell erstellt. Bitte geben Sie sie nicht weiter.
        Gesendet von Harbour Reports.

        ── fr: reports : 3 fichiers – Harbour Reports, 23 nov. 2026

        Bonjour Ann Bell,

        3 fichiers sont à votre disposition, 1,3 Mo au total.
        Les liens fonctionnent jusqu’au lundi 30 novembre 2026 à 18:40 CET.

        Delivery report.pdf
        1,2 Mo · 23 nov. 2026
        [URL]

        Umsatz Q3 – Süd.pdf
        48 Ko · 23 nov. 2026
        [URL]

        orders.csv
        raw/
        812 o · 23 nov. 2026
        [URL]

        1 fichier n’a pas de lien

        archive/2019.pdf
        Il se trouve dans une archive et doit d’abord être restauré.

        Ces liens ont été créés pour Ann Bell uniquement. Merci de ne pas les transmettre.
        Envoyé par Harbour Reports.

        ── es: reports: 3 archivos – Harbour Reports, 23 nov 2026

        Hola, Ann Bell:

        Tiene 3 archivos a su disposición, 1,3 MB en total.
        Los enlaces funcionan hasta el lunes 30 de noviembre de 2026 a las 18:40 CET.

        Delivery report.pdf
        1,2 MB · 23 nov 2026
        [URL]

        Umsatz Q3 – Süd.pdf
        48 KB · 23 nov 2026
        [URL]

        orders.csv
        raw/
        812 B · 23 nov 2026
        [URL]

        1 archivo no tiene enlace

        archive/2019.pdf
        Está en un archivo histórico y antes hay que restaurarlo.

        Estos enlaces se crearon solo para Ann Bell. Por favor, no los comparta.
        Enviado por Harbour Reports.

        ── ja: reports：3 個のファイル – Harbour Reports（2026/11/23）

        Ann Bell 様

        3 個のファイル（合計 1.3 MB）をご用意しました。
        リンクの有効期限：2026年11月30日（月）18:40 CET

        Delivery report.pdf
        1.2 MB · 2026/11/23
        [URL]

        Umsatz Q3 – Süd.pdf
        48 KB · 2026/11/23
        [URL]

        orders.csv
        raw/
        812 B · 2026/11/23
        [URL]

        リンクを作成できないファイル：1 個

        archive/2019.pdf
        アーカイブに保管されているため、先に復元が必要です。

        これらのリンクは Ann Bell 様専用です。他の方への転送はお控えください。
        送信者：Harbour Reports

        ── ar: reports: 3 ملفات – Harbour Reports، 23 نوفمبر 2026

        مرحبًا Ann Bell،

        هناك 3 ملفات جاهزة لك، بحجم إجمالي 1.3 م.ب.
        تعمل الروابط حتى الاثنين 30 نوفمبر 2026، 18:40 CET.

        Delivery report.pdf
        1.2 م.ب · 23 نوفمبر 2026
        [URL]

        Umsatz Q3 – Süd.pdf
        48 ك.ب · 23 نوفمبر 2026
        [URL]

        orders.csv
        raw/
        812 بايت · 23 نوفمبر 2026
        [URL]

        ملف واحد ليس له رابط

        archive/2019.pdf
        الملف محفوظ في الأرشيف ويجب استرجاعه أولًا.

        أُنشئت هذه الروابط من أجل Ann Bell فقط. يُرجى عدم مشاركتها.
        المرسل: Harbour Reports
        ");
}

#[test]
fn the_digest_in_every_language() {
    let plan = plan_for("digest", "shoot/", &json!({}));
    let told = in_every_language(&plan, &shoot(12), Some(&page()));
    insta::assert_snapshot!(first_of_each_folder(&told), @r"
        ── en: shoot: 37 files – Harbour Reports, 23 Nov 2026

        Hello Ann Bell,

        37 files are ready for you, 144 MB in all.
        The links work until Monday 30 November 2026, 18:40 CET.

        Open the gallery:
        [URL]

        Top level · 1 file · 210 KB
        ----------------------------------------

        Contract.pdf · 210 KB
        [URL]

        Day 1/ · 12 files · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        and 4 more files (16 MB)

        Day 2/ · 12 files · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        and 4 more files (16 MB)

        Tag 3 – Süd/ · 12 files · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        and 4 more files (16 MB)

        and 12 more files (48 MB)
        You will find all of them in the gallery.

        These links were made for Ann Bell alone. Please do not pass them on.
        Sent by Harbour Reports.

        ── de: shoot: 37 Dateien – Harbour Reports, 23. Nov. 2026

        Guten Tag Ann Bell,

        für Sie stehen 37 Dateien bereit, zusammen 144 MB.
        Die Links funktionieren bis Montag, 30. November 2026, 18:40 Uhr CET.

        Galerie öffnen:
        [URL]

        Oberste Ebene · 1 Datei · 210 KB
        ----------------------------------------

        Contract.pdf · 210 KB
        [URL]

        Day 1/ · 12 Dateien · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        und 4 weitere Dateien (16 MB)

        Day 2/ · 12 Dateien · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        und 4 weitere Dateien (16 MB)

        Tag 3 – Süd/ · 12 Dateien · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        und 4 weitere Dateien (16 MB)

        und 12 weitere Dateien (48 MB)
        Alle Dateien finden Sie in der Galerie.

        Diese Links wurden nur für Ann Bell erstellt. Bitte geben Sie sie nicht weiter.
        Gesendet von Harbour Reports.

        ── fr: shoot : 37 fichiers – Harbour Reports, 23 nov. 2026

        Bonjour Ann Bell,

        37 fichiers sont à votre disposition, 144 Mo au total.
        Les liens fonctionnent jusqu’au lundi 30 novembre 2026 à 18:40 CET.

        Ouvrir la galerie :
        [URL]

        Premier niveau · 1 fichier · 210 Ko
        ----------------------------------------

        Contract.pdf · 210 Ko
        [URL]

        Day 1/ · 12 fichiers · 48 Mo
        ----------------------------------------

        1.jpg · 4 Mo
        [URL]

        et 4 autres fichiers (16 Mo)

        Day 2/ · 12 fichiers · 48 Mo
        ----------------------------------------

        1.jpg · 4 Mo
        [URL]

        et 4 autres fichiers (16 Mo)

        Tag 3 – Süd/ · 12 fichiers · 48 Mo
        ----------------------------------------

        1.jpg · 4 Mo
        [URL]

        et 4 autres fichiers (16 Mo)

        et 12 autres fichiers (48 Mo)
        Vous les trouverez tous dans la galerie.

        Ces liens ont été créés pour Ann Bell uniquement. Merci de ne pas les transmettre.
        Envoyé par Harbour Reports.

        ── es: shoot: 37 archivos – Harbour Reports, 23 nov 2026

        Hola, Ann Bell:

        Tiene 37 archivos a su disposición, 144 MB en total.
        Los enlaces funcionan hasta el lunes 30 de noviembre de 2026 a las 18:40 CET.

        Abrir la galería:
        [URL]

        Nivel superior · 1 archivo · 210 KB
        ----------------------------------------

        Contract.pdf · 210 KB
        [URL]

        Day 1/ · 12 archivos · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        y 4 archivos más (16 MB)

        Day 2/ · 12 archivos · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        y 4 archivos más (16 MB)

        Tag 3 – Süd/ · 12 archivos · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        y 4 archivos más (16 MB)

        y 12 archivos más (48 MB)
        Los encontrará todos en la galería.

        Estos enlaces se crearon solo para Ann Bell. Por favor, no los comparta.
        Enviado por Harbour Reports.

        ── ja: shoot：37 個のファイル – Harbour Reports（2026/11/23）

        Ann Bell 様

        37 個のファイル（合計 144 MB）をご用意しました。
        リンクの有効期限：2026年11月30日（月）18:40 CET

        ギャラリーを開く：
        [URL]

        最上位 · 1 個のファイル · 210 KB
        ----------------------------------------

        Contract.pdf · 210 KB
        [URL]

        Day 1/ · 12 個のファイル · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        ほか 4 個のファイル（16 MB）

        Day 2/ · 12 個のファイル · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        ほか 4 個のファイル（16 MB）

        Tag 3 – Süd/ · 12 個のファイル · 48 MB
        ----------------------------------------

        1.jpg · 4 MB
        [URL]

        ほか 4 個のファイル（16 MB）

        ほか 12 個のファイル（48 MB）
        すべてのファイルはギャラリーでご覧いただけます。

        これらのリンクは Ann Bell 様専用です。他の方への転送はお控えください。
        送信者：Harbour Reports

        ── ar: shoot: 37 ملفًا – Harbour Reports، 23 نوفمبر 2026

        مرحبًا Ann Bell،

        هناك 37 ملفًا جاهزًا لك، بحجم إجمالي 144 م.ب.
        تعمل الروابط حتى الاثنين 30 نوفمبر 2026، 18:40 CET.

        فتح المعرض:
        [URL]

        المستوى الأعلى · ملف واحد · 210 ك.ب
        ----------------------------------------

        Contract.pdf · 210 ك.ب
        [URL]

        Day 1/ · 12 ملفًا · 48 م.ب
        ----------------------------------------

        1.jpg · 4 م.ب
        [URL]

        و4 ملفات أخرى (16 م.ب)

        Day 2/ · 12 ملفًا · 48 م.ب
        ----------------------------------------

        1.jpg · 4 م.ب
        [URL]

        و4 ملفات أخرى (16 م.ب)

        Tag 3 – Süd/ · 12 ملفًا · 48 م.ب
        ----------------------------------------

        1.jpg · 4 م.ب
        [URL]

        و4 ملفات أخرى (16 م.ب)

        و12 ملفًا آخر (48 م.ب)
        ستجدها كلها في المعرض.

        أُنشئت هذه الروابط من أجل Ann Bell فقط. يُرجى عدم مشاركتها.
        المرسل: Harbour Reports
        ");
}

#[test]
fn the_invitation_in_every_language() {
    let gallery = json!({ "gallery": {
        "title": "Three days in the mountains", "publish": { "bucket": "acme-out", "prefix": "g/" },
    } });
    let plan = plan("shoot/", &gallery);
    assert_eq!(plan.mail_template(), "gallery-invite");
    insta::assert_snapshot!(in_every_language(&plan, &shoot(12), Some(&page())), @r"
        ── en: Three days in the mountains: a gallery with 37 files – Harbour Reports, 23 Nov 2026

        Hello Ann Bell,

        Harbour Reports has put 37 files into a gallery for you, 144 MB in all.
        The gallery stays open until Monday 30 November 2026, 18:40 CET.

        Open the gallery:
        [URL]

        Contract.pdf
        1.jpg
        2.jpg
        and 34 more

        These links were made for Ann Bell alone. Please do not pass them on.
        Sent by Harbour Reports.

        ── de: Three days in the mountains: Galerie mit 37 Dateien – Harbour Reports, 23. Nov. 2026

        Guten Tag Ann Bell,

        Harbour Reports hat 37 Dateien für Sie in eine Galerie gestellt, zusammen 144 MB.
        Die Galerie ist bis Montag, 30. November 2026, 18:40 Uhr CET zugänglich.

        Galerie öffnen:
        [URL]

        Contract.pdf
        1.jpg
        2.jpg
        und 34 weitere

        Diese Links wurden nur für Ann Bell erstellt. Bitte geben Sie sie nicht weiter.
        Gesendet von Harbour Reports.

        ── fr: Three days in the mountains : une galerie de 37 fichiers – Harbour Reports, 23 nov. 2026

        Bonjour Ann Bell,

        Harbour Reports a mis 37 fichiers à votre disposition dans une galerie, 144 Mo au total.
        La galerie reste accessible jusqu’au lundi 30 novembre 2026 à 18:40 CET.

        Ouvrir la galerie :
        [URL]

        Contract.pdf
        1.jpg
        2.jpg
        et 34 autres

        Ces liens ont été créés pour Ann Bell uniquement. Merci de ne pas les transmettre.
        Envoyé par Harbour Reports.

        ── es: Three days in the mountains: galería con 37 archivos – Harbour Reports, 23 nov 2026

        Hola, Ann Bell:

        Harbour Reports ha preparado para usted una galería con 37 archivos, 144 MB en total.
        La galería estará disponible hasta el lunes 30 de noviembre de 2026 a las 18:40 CET.

        Abrir la galería:
        [URL]

        Contract.pdf
        1.jpg
        2.jpg
        y 34 más

        Estos enlaces se crearon solo para Ann Bell. Por favor, no los comparta.
        Enviado por Harbour Reports.

        ── ja: Three days in the mountains：37 個のファイルのギャラリー – Harbour Reports（2026/11/23）

        Ann Bell 様

        Harbour Reports より、37 個のファイル（合計 144 MB）のギャラリーをお届けします。
        ギャラリーの公開期限：2026年11月30日（月）18:40 CET

        ギャラリーを開く：
        [URL]

        Contract.pdf
        1.jpg
        2.jpg
        ほか 34 個

        これらのリンクは Ann Bell 様専用です。他の方への転送はお控えください。
        送信者：Harbour Reports

        ── ar: Three days in the mountains: معرض فيه 37 ملفًا – Harbour Reports، 23 نوفمبر 2026

        مرحبًا Ann Bell،

        أعدّ Harbour Reports معرضًا لك فيه 37 ملفًا، بحجم إجمالي 144 م.ب.
        يبقى المعرض متاحًا حتى الاثنين 30 نوفمبر 2026، 18:40 CET.

        فتح المعرض:
        [URL]

        Contract.pdf
        1.jpg
        2.jpg
        و34 ملفًا آخر

        أُنشئت هذه الروابط من أجل Ann Bell فقط. يُرجى عدم مشاركتها.
        المرسل: Harbour Reports
        ");
}

#[test]
fn an_invitation_without_a_gallery_is_a_report() {
    let invitation = plan_for("gallery-invite", "reports/2026/11/23/", &json!({}));
    let (invited, told) = (
        mail_in("en", &invitation, &reports(), None),
        mail_in("en", &daily(), &reports(), None),
    );
    assert_eq!(invited, told);
}

#[test]
fn everybody_is_told_the_time_by_their_own_clock() {
    let over = json!({ "email": { "to": [
        { "address": "ann@acme.example" },
        { "address": "yuki@acme.example", "locale": "ja", "time_zone": "Asia/Tokyo" },
    ] } });
    let plan = plan("", &over);
    let mut digest = Digest::new(&plan);
    digest.push(&reports());
    let settings = settings();
    let until = plan.email().unwrap().to.iter().map(|recipient| {
        let letter = MailRequest {
            plan: &plan,
            digest: &digest,
            recipient,
            gallery_url: None,
            manifest_url: None,
            zips: None,
            settings: &settings,
        };
        let text = build(installed(), &letter).unwrap().mail.text;
        text.lines()
            .find(|line| line.contains("2026"))
            .unwrap()
            .to_owned()
    });
    insta::assert_snapshot!(until.collect::<Vec<_>>().join("\n"), @"
    The links work until Monday 30 November 2026, 18:40 CET.
    リンクの有効期限：2026年12月1日（火）02:40 JST
    ");
}

#[test]
fn an_empty_job_says_so() {
    for template in ["report", "digest", "gallery-invite"] {
        let plan = plan_for(template, "reports/2026/11/23/", &json!({}));
        let mail = mail_in("en", &plan, &audited(Vec::new(), &[]), None);
        assert_eq!(
            mail.subject,
            "reports: nothing this time – Harbour Reports, 23 Nov 2026"
        );
        insta::allow_duplicates! {
            insta::assert_snapshot!(mail.text, @"
            Hello Ann Bell,

            Nothing to hand out this time
            There were no new files. You do not need to do anything.

            Sent by Harbour Reports.
            ");
        }
    }
}

#[test]
fn what_is_not_shown_is_counted_by_folder_in_both_parts() {
    let plan = plan_for("report", "shoot/", &json!({}));
    let built = built(&plan, &shoot(40), Some(&page()));
    assert_eq!((built.shown, built.more), (25, 96));
    insta::assert_snapshot!(built.mail.text.split("and 96").nth(1).unwrap(), @r"
         more files (384 MB)
          Day 1/ · 32 more, 128 MB
          Day 2/ · 32 more, 128 MB
          Tag 3 – Süd/ · 32 more, 128 MB
        You will find all of them in the gallery.

        These links were made for Ann Bell alone. Please do not pass them on.
        Sent by Harbour Reports.
        ");
    for told in [
        "32 more, 128 MB",
        "Tag 3 – Süd",
        "and 96 more files (384 MB)",
    ] {
        assert!(built.mail.html.contains(told), "{told}");
    }
}

#[test]
fn the_jobs_own_subject_is_filled_in_and_is_the_heading() {
    let email =
        json!({ "to": ["ann@acme.example"], "subject": "Daily report for {{customer}}\u{2067}" });
    let mail = mail_in(
        "en",
        &plan("", &json!({ "email": email })),
        &reports(),
        None,
    );
    assert_eq!(mail.subject, "Daily report for ACME");
    assert!(mail.html.contains("<bdi>Daily report for ACME</bdi>"));
}

#[test]
fn what_a_job_brings_along_is_shown_and_never_read_as_a_template() {
    let hostile = "{{#each files}}{{> partials/mail.html}}{{{vars}}} {when} {{recipient.address}}";
    let over = json!({
        "email": { "to": ["ann@acme.example"], "subject": "{{customer}}" },
        "vars": { "customer": hostile },
        "gallery": { "title": "{{customer}}", "publish": { "dir": "/srv/galleries" } },
    });
    let plan = plan("", &over);
    let mut ann = Recipient::from_parts("ann@acme.example", Some(hostile)).unwrap();
    ann.locale = Some("de".parse().unwrap());
    let mut digest = Digest::new(&plan);
    digest.push(&audited(
        vec![link(&format!("{hostile}/{hostile}.pdf"), 1)],
        &[],
    ));
    let settings = MailSettings {
        sender_name: hostile.to_owned(),
        ..settings()
    };
    let letter = MailRequest {
        plan: &plan,
        digest: &digest,
        recipient: &ann,
        gallery_url: None,
        manifest_url: None,
        zips: None,
        settings: &settings,
    };
    let mail = build(installed(), &letter).unwrap().mail;
    assert_eq!(mail.subject, hostile);
    assert!(
        mail.text.starts_with(&format!("Guten Tag {hostile},")),
        "{}",
        mail.text
    );
    assert!(
        mail.text.contains(&format!("Gesendet von {hostile}.")),
        "{}",
        mail.text
    );
    let escaped = hostile.replace('>', "&gt;");
    assert!(
        mail.html.contains(&format!("<bdi>{escaped}</bdi></h1>")),
        "{}",
        mail.html
    );
}

#[test]
fn what_has_no_value_in_the_job_is_told_with_its_line() {
    let email = json!({ "to": ["ann@acme.example"], "subject": "For {{costumer}}" });
    let plan = plan("", &json!({ "email": email }));
    let (templates, settings) = (templates(), settings());
    let recipient = Recipient::parse("ann@acme.example").unwrap();
    let digest = Digest::new(&plan);
    let letter = MailRequest {
        plan: &plan,
        digest: &digest,
        recipient: &recipient,
        gallery_url: None,
        manifest_url: None,
        zips: None,
        settings: &settings,
    };
    insta::assert_snapshot!(build(&templates, &letter).unwrap_err(), @"the job's field email.subject uses {{costumer}}, which has no value here; known are: customer, recipient.name, recipient.address, recipient.locale, job.id");
}

#[test]
fn every_language_fills_in_every_place() {
    let many = audited(
        (0..60)
            .map(|n| link(&format!("reports/2026/11/23/{}/{n}.pdf", n % 7), n))
            .collect(),
        &[("a", Unlinkable::Missing)],
    );
    for template in ["report", "digest", "gallery-invite"] {
        let plan = plan_for(template, "reports/2026/11/23/", &json!({}));
        for locale in LANGUAGES {
            for links in [&many, &reports(), &audited(Vec::new(), &[])] {
                for page in [None, Some(&page())] {
                    let mail = mail_in(locale, &plan, links, page);
                    let direction = if locale == "ar" { "rtl" } else { "ltr" };
                    assert!(
                        mail.html
                            .contains(&format!("<html lang=\"{locale}\" dir=\"{direction}\""))
                    );
                    assert!(
                        !mail.text.contains('{') && !mail.subject.contains('{'),
                        "{locale}: {}",
                        mail.text
                    );
                }
            }
        }
    }
}

#[test]
fn a_url_stands_alone_on_its_line_and_whole() {
    let url = format!(
        "https://b.s3.amazonaws.com/k?{}&X-Amz-Signature={SIGNATURE}",
        "a'b=%20".repeat(300)
    );
    for template in ["report", "digest", "gallery-invite"] {
        let mail = mail_in(
            "en",
            &plan_for(template, "", &json!({})),
            &audited(vec![link_to("k", 1, url.clone())], &[]),
            None,
        );
        assert!(mail.text.lines().any(|line| line == url), "{template}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let names = [
        "\"><script>alert(1)</script>.pdf",
        "it's \"quoted\" & <b>.pdf",
        "two\nlines.pdf",
        "{{vars.customer}}.pdf",
        "invoice\u{202E}fdp.exe",
        "party 🎉.pdf",
    ];
    let long = format!("{}.pdf", "x".repeat(1000));
    let keys = names.iter().copied().chain([long.as_str()]);
    let mut links: Vec<Link> = keys.map(|key| link(key, 1)).collect();
    for link in &mut links {
        link.name = link.key().as_str().to_owned();
    }
    let mail = mail_in(
        "en",
        &daily(),
        &audited(links, &[("<i>\r\nBcc: x", Unlinkable::ControlCharacters)]),
        None,
    );
    assert!(!mail.html.contains("<script") && !mail.html.contains("<i>"));
    assert!(
        mail.html
            .contains("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;.pdf")
    );
    assert!(mail.html.contains("{{vars.customer}}.pdf"));
    assert!(!mail.text.contains(['\u{202E}', '\r']) && mail.text.contains("two\u{FFFD}lines.pdf"));
    let shortened = format!("{}…{}.pdf", "x".repeat(71), "x".repeat(20));
    assert!(
        mail.text.lines().any(|line| line == shortened),
        "{}",
        mail.text
    );
}

#[test]
fn every_link_of_the_mail_is_one_that_was_given() {
    let links = reports();
    let given: Vec<&str> = links.links().iter().map(|link| link.url.expose()).collect();
    for template in ["report", "digest", "gallery-invite"] {
        let plan = plan_for(template, "reports/2026/11/23/", &json!({}));
        assert_eq!(
            hrefs(&mail_in("en", &plan, &links, None).html),
            given,
            "{template}"
        );
    }
}

#[test]
fn what_does_not_fit_is_counted_in_both_parts() {
    let filler = "t".repeat(2000);
    let url = |n: u64| format!("https://b.s3.amazonaws.com/{n}?X-Amz-Security-Token={filler}");
    let links: Vec<Link> = (0..500)
        .map(|n| link_to(&format!("{n}.pdf"), 1_000_000, url(n)))
        .collect();
    let built = built(&daily(), &audited(links, &[]), None);
    let (html, text) = (&built.mail.html, &built.mail.text);
    let budget = MailSettings::HTML_BUDGET_BYTES;
    assert!(built.html_bytes <= budget && built.html_bytes > budget * 9 / 10);
    let shown = hrefs(html).len();
    assert_eq!(built.shown, shown as u64);
    let told = format!("and {} more files ({} MB)", 500 - shown, 500 - shown);
    assert!(
        html.contains(&told) && text.contains(&told),
        "{shown} shown"
    );
    assert_eq!(text.matches("https://").count(), shown);
}

/// Long names that grow further when escaped and encoded.
fn names() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "x", "\"", "<", "&", "=", "é", "字", "🎈", "\u{202E}", "\u{7}", " ", "{{x}}", ".pdf",
    ]);
    prop::collection::vec(piece, 1..150).prop_map(|pieces| pieces.concat())
}

/// The links of a job: their number, folders and names.
fn many(count: usize, folders: usize, url_bytes: usize, name: &str) -> Vec<Link> {
    let name: String = name.chars().take(150).collect();
    let url = format!("https://b.example/{}", "&=".repeat(url_bytes / 2));
    let link = |n: usize| {
        let mut link = link_to(&format!("shoot/k{}/{n}", n % folders), 7, url.clone());
        let key = format!("shoot/{}{name}/{n}{name}", n % folders);
        if let Ok(key) = key.parse() {
            link.object.key = key;
        }
        link.name = format!("{n}{name}");
        link
    };
    (0..count).map(link).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_mail_is_too_long_and_every_file_is_shown_or_counted(
        count in prop_oneof![0..40_usize, 150..10_000_usize],
        folders in prop_oneof![1..4_usize, 15..400_usize],
        url_bytes in prop_oneof![100..600_usize, Just(4000)],
        name in names(),
        missed in 0..50_usize,
        template in prop::sample::select(vec!["report", "digest", "gallery-invite"]),
        order in prop::sample::select(vec!["key", "newest"]),
        with_page in any::<bool>(),
    ) {
        let over = json!({ "from": {
            "connection": "reports", "bucket": "acme-reports", "prefix": "shoot/", "order": order,
        } });
        let plan = plan_for(template, "shoot/", &over);
        let missed: Vec<(&str, Unlinkable)> =
            (0..missed).map(|_| (name.as_str(), Unlinkable::DotSegments)).collect();
        let links = audited(many(count, folders, url_bytes, &name), &missed);
        let page = PresignedUrl::new(format!("https://p.example/{}", "&=".repeat(url_bytes / 2)));
        let built = built(&plan, &links, Some(&page).filter(|_| with_page));
        let html = &built.mail.html;
        prop_assert!(built.html_bytes <= MailSettings::HTML_BUDGET_BYTES);
        prop_assert_eq!(built.html_bytes, fit::encoded_len(html));
        prop_assert_eq!(built.shown + built.more, count as u64);
        if template != "gallery-invite" || !with_page {
            let of_files = |found: &String| found.starts_with("https://b.example/");
            let shown = hrefs(html).iter().filter(|href| of_files(href)).count();
            prop_assert_eq!(shown as u64, built.shown);
            prop_assert_eq!(built.mail.text.matches("\nhttps://b.example/").count(), shown);
            let told = format!("and {} more file", settings_number(built.more));
            prop_assert_eq!(html.contains(&told), built.more > 0);
            prop_assert_eq!(built.mail.text.contains(&told), built.more > 0);
        }
    }
}

fn settings_number(number: u64) -> String {
    installed().strings().language("en").number(number)
}

#[test]
fn a_template_that_is_too_long_by_itself_is_an_error() {
    let (plan, templates) = (daily(), templates());
    let settings = MailSettings {
        html_budget_bytes: 2000,
        ..settings()
    };
    let (recipient, mut digest) = (
        Recipient::parse("ann@acme.example").unwrap(),
        Digest::new(&plan),
    );
    digest.push(&reports());
    let letter = MailRequest {
        plan: &plan,
        digest: &digest,
        recipient: &recipient,
        gallery_url: None,
        manifest_url: None,
        zips: None,
        settings: &settings,
    };
    let error = build(&templates, &letter).unwrap_err();
    assert!(
        matches!(error, RenderError::TooLarge { budget: 2000, .. }),
        "{error}"
    );
}
