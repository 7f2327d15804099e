//! A mail about links: what it shows, within what a mail may weigh.
//!
//! A [`Digest`] gathers from the stream of links what one mail can show, in memory that does not grow with the
//! job. [`mail`] renders it for one person. When the HTML passes its budget, whole rows go until it fits, and
//! both parts say how many more there are and where: a mail is never cut, and never silent about it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::strings::Language;
use super::templates::Templates;
use super::view::{self, Missed, Moment, Tongue};
use super::{MailSettings, RenderError, RenderedMail};
use crate::audit::AuditedLinks;
use crate::job::recipient::is_bidi_control;
use crate::job::{Disposition, Locale, Recipient, Scope};
use crate::links::{Link, PresignedUrl};
use crate::plan::Plan;

/// The most rows that a digest keeps: more never fit into the budget.
const MAX_ROWS: usize = 200;

/// The most rows beside a link to a page that shows them all: a mail is a letter, not a listing.
const MAX_ROWS_BESIDE_GALLERY: usize = 25;

/// The most files without a link that a mail names.
const MAX_MISSED: usize = 20;

/// The longest subject, in characters; mail readers show some 60.
const MAX_SUBJECT_CHARS: usize = 200;

/// What goes into a mail of the links of one audience.
#[derive(Debug, Clone)]
pub struct Digest {
    prefix: String,
    rows: Vec<Link>,
    count: u64,
    size_bytes: u64,
    missed: Vec<Missed>,
    missed_count: u64,
    folders: Folders,
}

/// Whether all files are in one folder, and so need not say which.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Folders {
    None,
    One(String),
    Several,
}

impl Digest {
    /// A digest of nothing yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            prefix: plan.prefix().to_owned(),
            rows: Vec::new(),
            count: 0,
            size_bytes: 0,
            missed: Vec::new(),
            missed_count: 0,
            folders: Folders::None,
        }
    }

    /// Takes in a batch.
    pub fn push(&mut self, links: &AuditedLinks) {
        for link in links.links() {
            self.count += 1;
            self.size_bytes = self.size_bytes.saturating_add(link.object.size_bytes);
            self.note_folder(link);
            if self.rows.len() < MAX_ROWS {
                self.rows.push(link.clone());
            }
        }
        for missed in links.unavailable() {
            self.missed_count += 1;
            if self.missed.len() < MAX_MISSED {
                let name = view::shown(view::below(&missed.key, &self.prefix));
                self.missed.push(Missed {
                    name,
                    reason: view::reason(missed.reason),
                });
            }
        }
    }

    /// How many links there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    fn note_folder(&mut self, link: &Link) {
        let folder = self.folder(link);
        match &self.folders {
            Folders::None => self.folders = Folders::One(folder.to_owned()),
            Folders::One(known) if known != folder => self.folders = Folders::Several,
            Folders::One(_) | Folders::Several => {}
        }
    }

    fn folder<'l>(&self, link: &'l Link) -> &'l str {
        view::folder(view::below(link.key().as_str(), &self.prefix))
    }
}

/// One person's mail.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// What was done.
    pub plan: &'a Plan,
    /// What it made.
    pub digest: &'a Digest,
    /// Who gets the mail.
    pub recipient: &'a Recipient,
    /// The page of all links, if there is one.
    pub gallery_url: Option<&'a PresignedUrl>,
    /// The list of all links, if there is one.
    pub manifest_url: Option<&'a PresignedUrl>,
    /// How things are written.
    pub settings: &'a MailSettings,
}

/// Renders a person's mail.
pub fn mail(templates: &Templates, letter: &Letter<'_>) -> Result<RenderedMail, RenderError> {
    let files = TemplateFiles::of(letter.plan);
    let rows = letter.rows();
    let given = letter.subject()?;
    let language = templates.strings().for_locale(letter.locale());
    let mut view = View::new(letter, language, given.as_deref());
    view.show(&rows);
    view.subject = match &given {
        Some(given) => given.clone(),
        None => one_line(&templates.render(&files.subject, &view)?),
    };
    let html = fit(
        templates,
        &files,
        &mut view,
        &rows,
        letter.settings.html_budget_bytes,
    )?;
    let text = tidy(&templates.render(&files.text, &view)?);
    Ok(RenderedMail {
        subject: view.subject,
        text,
        html,
    })
}

/// The files of a mail's template.
struct TemplateFiles {
    subject: String,
    text: String,
    html: String,
}

impl TemplateFiles {
    fn of(plan: &Plan) -> Self {
        let name = plan
            .email()
            .map_or("report", |email| email.template.as_str());
        let file = |part| format!("email/{name}/{part}");
        Self {
            subject: file("subject.txt"),
            text: file("body.txt"),
            html: file("body.html"),
        }
    }
}

/// Renders the HTML with as many rows as the budget allows, and leaves the view showing those.
fn fit<'a>(
    templates: &Templates,
    files: &TemplateFiles,
    view: &mut View<'a>,
    rows: &'a [Row<'a>],
    budget: usize,
) -> Result<String, RenderError> {
    let mut attempt = |count: usize| -> Result<(usize, String), RenderError> {
        view.show(&rows[..count]);
        let html = templates.render(&files.html, view)?;
        Ok((encoded_len(&html), html))
    };
    let (bytes, html) = attempt(rows.len())?;
    if bytes <= budget {
        return Ok(html);
    }
    // Every row makes a mail longer, so halving finds the most that fit.
    let (mut fitting, mut too_many) = (0, rows.len());
    while fitting + 1 < too_many {
        let middle = usize::midpoint(fitting, too_many);
        match attempt(middle)?.0 <= budget {
            true => fitting = middle,
            false => too_many = middle,
        }
    }
    match attempt(fitting)? {
        (bytes, html) if bytes <= budget => Ok(html),
        (bytes, _) => Err(RenderError::TooLarge {
            file: format!("{}.hbs", files.html),
            bytes,
            budget,
        }),
    }
}

/// The length in quoted-printable, as a mail with long lines is sent: `=` and all that is not ASCII take three
/// bytes, a line break two, and a line ends after 75.
fn encoded_len(html: &str) -> usize {
    let byte_len = |byte| match byte {
        b'=' => 3,
        b' '..=b'~' => 1,
        b'\n' => 2,
        _ => 3,
    };
    let encoded: usize = html.bytes().map(byte_len).sum();
    encoded + encoded / 75 * 3
}

/// Puts a text on one line and takes out what a header must not carry.
fn one_line(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !is_bidi_control(*c)).collect();
    let words: Vec<&str> = visible
        .split(|c: char| c.is_whitespace() || c.is_control())
        .collect();
    let line = words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(MAX_SUBJECT_CHARS) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Ends every line of a text at its last letter and leaves one empty line between paragraphs.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut gap = false;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            gap = !tidied.is_empty();
            continue;
        }
        if std::mem::take(&mut gap) {
            tidied.push('\n');
        }
        tidied.push_str(line);
        tidied.push('\n');
    }
    tidied
}

/// What the templates of a mail see.
#[derive(Serialize)]
struct View<'a> {
    language: Tongue<'a>,
    subject: String,
    /// What it is about: its heading.
    topic: &'a str,
    recipient: Person<'a>,
    sender: &'a str,
    job: JobView<'a>,
    vars: Cow<'a, Map<String, Value>>,
    count: u64,
    size_bytes: u64,
    files: &'a [Row<'a>],
    more: Option<More>,
    missed: Option<MissedFiles<'a>>,
    gallery_url: Option<&'a str>,
    manifest_url: Option<&'a str>,
    expires_at: Moment,
    sooner: Option<&'static str>,
    /// Whether the links are this person's alone.
    personal: bool,
    /// Whether a link shows its file, rather than saving it.
    opens: bool,
}

/// The person who reads the mail.
#[derive(Serialize)]
struct Person<'a> {
    /// As the job calls them; nothing when it does not.
    name: Option<&'a str>,
    /// The name, or the address where there is none.
    called: &'a str,
    address: &'a str,
    vars: Cow<'a, Map<String, Value>>,
}

#[derive(Serialize)]
struct JobView<'a> {
    id: &'a str,
}

/// A file and its link.
#[derive(Clone, Default, Serialize)]
struct Row<'a> {
    name: String,
    /// Nothing when all files are in one.
    folder: Option<String>,
    size_bytes: u64,
    modified: Moment,
    url: &'a str,
}

/// The files that a mail does not show.
#[derive(Clone, Copy, Default, Serialize)]
struct More {
    count: u64,
    size_bytes: u64,
}

/// The files that have no link.
#[derive(Default, Serialize)]
struct MissedFiles<'a> {
    count: u64,
    files: Cow<'a, [Missed]>,
    /// Those that are not named.
    more: Option<u64>,
}

impl<'a> Letter<'a> {
    fn locale(&self) -> &'a Locale {
        self.recipient
            .locale
            .as_ref()
            .unwrap_or(&self.settings.locale)
    }

    /// The subject that the job gives, on one line.
    fn subject(&self) -> Result<Option<String>, RenderError> {
        let job = &self.plan.job;
        let scope = Scope {
            recipient: Some(self.recipient),
            ..job.scope()
        };
        let given = self.plan.email().and_then(|email| email.subject.as_ref());
        let filled = given.map(|subject| subject.fill(&scope)).transpose();
        let filled = filled.map_err(|source| RenderError::Subject { source })?;
        Ok(filled.as_deref().map(one_line))
    }

    fn rows(&self) -> Vec<Row<'a>> {
        let whole_list = self.gallery_url.is_some() || self.manifest_url.is_some();
        let most = if whole_list {
            MAX_ROWS_BESIDE_GALLERY
        } else {
            MAX_ROWS
        };
        let digest = self.digest;
        let with_folder = digest.folders == Folders::Several;
        let row = |link: &'a Link| Row {
            name: view::shown(&link.name),
            folder: Some(digest.folder(link))
                .filter(|folder| with_folder && !folder.is_empty())
                .map(view::shown),
            size_bytes: link.object.size_bytes,
            modified: Moment::new(link.object.modified, &self.settings.time_zone),
            url: link.url.expose(),
        };
        digest.rows.iter().take(most).map(row).collect()
    }

    /// What the mail is about when its subject does not say it: the gallery's title, or else the last folder of
    /// the prefix that is a word, or else the job.
    fn topic(&self) -> &'a str {
        let plan = self.plan;
        let titled = plan
            .job
            .gallery
            .as_ref()
            .is_some_and(|order| order.title.is_some());
        let title = plan
            .gallery
            .as_ref()
            .map(|gallery| gallery.title.as_str())
            .filter(|_| titled);
        let folder = plan
            .prefix()
            .rsplit('/')
            .find(|segment| segment.contains(char::is_alphabetic));
        title.or(folder).unwrap_or_else(|| plan.job.id.as_str())
    }
}

impl<'a> View<'a> {
    fn new(letter: &Letter<'a>, language: &'a Language, topic: Option<&'a str>) -> Self {
        let Letter {
            plan,
            digest,
            recipient,
            settings,
            ..
        } = *letter;
        Self {
            language: Tongue::of(language),
            subject: String::new(),
            topic: topic.unwrap_or_else(|| letter.topic()),
            recipient: Person {
                name: recipient.name.as_deref(),
                called: recipient
                    .name
                    .as_deref()
                    .unwrap_or(recipient.address.as_ref()),
                address: recipient.address.as_ref(),
                vars: Cow::Borrowed(&recipient.vars),
            },
            sender: &settings.sender_name,
            job: JobView {
                id: plan.job.id.as_str(),
            },
            vars: Cow::Borrowed(&plan.job.vars),
            count: digest.count,
            size_bytes: digest.size_bytes,
            files: &[],
            more: None,
            missed: (digest.missed_count > 0).then(|| MissedFiles {
                count: digest.missed_count,
                files: Cow::Borrowed(digest.missed.as_slice()),
                more: Some(digest.missed_count - digest.missed.len() as u64)
                    .filter(|more| *more > 0),
            }),
            gallery_url: letter.gallery_url.map(PresignedUrl::expose),
            manifest_url: letter.manifest_url.map(PresignedUrl::expose),
            expires_at: Moment::new(plan.lifetime.expires_at, &settings.time_zone),
            sooner: view::sooner(plan.lifetime.bound),
            personal: plan.per_recipient,
            opens: plan.disposition == Disposition::Inline,
        }
    }

    /// Shows these rows, and says how many more there are.
    fn show(&mut self, rows: &'a [Row<'a>]) {
        let shown_bytes: u64 = rows.iter().map(|row| row.size_bytes).sum();
        let count = self.count.saturating_sub(rows.len() as u64);
        let size_bytes = self.size_bytes.saturating_sub(shown_bytes);
        self.files = rows;
        self.more = (count > 0).then_some(More { count, size_bytes });
    }
}

/// What mail templates are checked against: a view in which everything is there.
pub(super) fn sample() -> Value {
    let row = [Row {
        folder: Some(String::new()),
        ..Row::default()
    }];
    let view = View {
        language: Tongue::default(),
        subject: String::new(),
        topic: "",
        recipient: Person {
            name: Some(""),
            called: "",
            address: "",
            vars: Cow::default(),
        },
        sender: "",
        job: JobView { id: "" },
        vars: Cow::default(),
        count: 1,
        size_bytes: 0,
        files: &row,
        more: Some(More::default()),
        missed: Some(MissedFiles {
            count: 1,
            files: Cow::Owned(vec![Missed::default()]),
            more: Some(0),
        }),
        gallery_url: Some(""),
        manifest_url: Some(""),
        expires_at: Moment::default(),
        sooner: Some("sooner_policy"),
        personal: true,
        opens: true,
    };
    serde_json::to_value(view).expect("a view has text keys only")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::*;
    use super::*;
    use crate::links::Unlinkable;

    fn daily() -> Plan {
        plan("reports/2026/11/23/", &json!({}))
    }

    #[test]
    fn the_text_part_reads_as_a_letter() {
        let mail = mail_in("en", &daily(), &reports(), None);
        insta::assert_snapshot!(mail.subject, @"reports: 3 files");
        insta::assert_snapshot!(without_urls(&mail.text), @"
        Hello Ann Bell,

        3 files are ready for you, 1.3 MB in all.
        The links work until Monday 30 November 2026, 18:40 (Europe/Berlin).

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
        ");
    }

    #[test]
    fn and_so_it_does_in_german() {
        let page = PresignedUrl::new("https://acme-out.s3.amazonaws.com/page".to_owned());
        let mail = mail_in("de-AT", &daily(), &reports(), Some(&page));
        insta::assert_snapshot!(mail.subject, @"reports: 3 Dateien");
        insta::assert_snapshot!(without_urls(&mail.text), @"
        Guten Tag Ann Bell,

        für Sie stehen 3 Dateien bereit, zusammen 1,3 MB.
        Die Links funktionieren bis Montag, 30. November 2026, 18:40 Uhr (Europe/Berlin).

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

        Galerie öffnen:
        [URL]

        1 Datei hat keinen Link

        archive/2019.pdf
        Die Datei liegt in einem Archiv und muss erst wiederhergestellt werden.

        Diese Links wurden nur für Ann Bell erstellt. Bitte geben Sie sie nicht weiter.
        Gesendet von Harbour Reports.
        ");
    }

    #[test]
    fn an_empty_job_says_so() {
        let mail = mail_in("en", &daily(), &audited(Vec::new(), &[]), None);
        insta::assert_snapshot!(mail.subject, @"reports: nothing this time");
        insta::assert_snapshot!(mail.text, @"
        Hello Ann Bell,

        Nothing to hand out this time.
        There were no new files. You do not need to do anything.

        Sent by Harbour Reports.
        ");
    }

    #[test]
    fn the_jobs_own_subject_is_filled_in_and_is_the_heading() {
        let email = json!({ "to": ["ann@acme.example"], "subject": "Daily report for {{customer}}\u{2067}" });
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
    fn what_has_no_value_in_the_job_is_told_with_its_line() {
        let email = json!({ "to": ["ann@acme.example"], "subject": "For {{costumer}}" });
        let plan = plan("", &json!({ "email": email }));
        let (templates, settings) = (templates(), settings());
        let recipient = Recipient::parse("ann@acme.example").unwrap();
        let digest = Digest::new(&plan);
        let letter = Letter {
            plan: &plan,
            digest: &digest,
            recipient: &recipient,
            gallery_url: None,
            manifest_url: None,
            settings: &settings,
        };
        insta::assert_snapshot!(mail(&templates, &letter).unwrap_err(), @"the job's field email.subject uses {{costumer}}, which has no value here; known are: customer, recipient.name, recipient.address, recipient.locale, job.id");
    }

    #[test]
    fn every_language_fills_in_every_place() {
        let many = audited(
            (0..60)
                .map(|n| link(&format!("reports/2026/11/23/{n}.pdf"), n))
                .collect(),
            &[("a", Unlinkable::Missing)],
        );
        for locale in ["en", "de", "fr", "es", "ja", "ar"] {
            for links in [&many, &reports(), &audited(Vec::new(), &[])] {
                let mail = mail_in(locale, &daily(), links, None);
                assert!(mail.html.contains(&format!(
                    "<html lang=\"{locale}\" dir=\"{}\"",
                    if locale == "ar" { "rtl" } else { "ltr" }
                )));
                assert!(
                    !mail.text.contains('{') && !mail.subject.contains('{'),
                    "{locale}: {}",
                    mail.text
                );
            }
        }
    }

    #[test]
    fn a_url_stands_alone_on_its_line_and_whole() {
        let url = format!(
            "https://b.s3.amazonaws.com/k?{}&X-Amz-Signature={SIGNATURE}",
            "a'b=%20".repeat(300)
        );
        let mail = mail_in(
            "en",
            &daily(),
            &audited(vec![link_to("k", 1, url.clone())], &[]),
            None,
        );
        assert!(mail.text.lines().any(|line| line == url));
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
        let long = "x".repeat(1000);
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
        assert!(
            !mail.text.contains(['\u{202E}', '\r']) && mail.text.contains("two\u{FFFD}lines.pdf")
        );
    }

    #[test]
    fn every_link_of_the_mail_is_one_that_was_given() {
        let links = reports();
        let mail = mail_in("en", &daily(), &links, None);
        let given: Vec<&str> = links.links().iter().map(|link| link.url.expose()).collect();
        assert_eq!(hrefs(&mail.html), given);
    }

    #[test]
    fn what_does_not_fit_is_counted_in_both_parts() {
        let filler = "t".repeat(2000);
        let url = |n: u64| format!("https://b.s3.amazonaws.com/{n}?X-Amz-Security-Token={filler}");
        let links = (0..500)
            .map(|n| link_to(&format!("{n}.pdf"), 1_000_000, url(n)))
            .collect();
        let mail = mail_in("en", &daily(), &audited(links, &[]), None);
        assert!(mail.html.len() <= MailSettings::HTML_BUDGET_BYTES);
        assert!(
            mail.html.len() > MailSettings::HTML_BUDGET_BYTES * 8 / 10,
            "{} bytes",
            mail.html.len()
        );
        let shown = hrefs(&mail.html).len();
        let told = format!("and {} more files ({} MB)", 500 - shown, 500 - shown);
        assert!(
            mail.html.contains(&told) && mail.text.contains(&told),
            "{shown} shown"
        );
        assert_eq!(mail.text.matches("https://").count(), shown);
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
        let letter = Letter {
            plan: &plan,
            digest: &digest,
            recipient: &recipient,
            gallery_url: None,
            manifest_url: None,
            settings: &settings,
        };
        let error = mail(&templates, &letter).unwrap_err();
        assert!(
            matches!(error, RenderError::TooLarge { budget: 2000, .. }),
            "{error}"
        );
    }
}
