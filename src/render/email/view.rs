//! The values for the templates of mails.

use std::borrow::Cow;

use presign::PresignedUrl;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::brand::BrandView;
use super::super::paragraphs::MessageView;
use super::super::strings::Language;
use super::super::view::{self, InstantView, LanguageView, Missed};
use super::super::zips::ZipsView;
use super::MailRequest;
use super::digest::{Digest, FileCount, KeptFiles};
use crate::job::ContentDisposition;

/// The maximum length of a name in a mail, in characters. A longer name loses its middle; the file is saved under the full name.
const MAX_NAME_CHARS: usize = 96;

/// The number of those characters that are kept at the end, with the extension.
const NAME_END_CHARS: usize = 24;

/// The maximum number of folders that are named without any of their files.
const MAX_NAMED_FOLDERS: usize = 20;

/// The number of files that an invitation names.
const GLIMPSE: usize = 3;

/// The values for the templates of mails.
#[derive(Serialize)]
pub(super) struct View<'a> {
    language: LanguageView<'a>,
    pub(super) subject: String,
    /// The topic, used as the heading: the job's subject or title, the folder that it hands out, or else the sender.
    topic: String,
    /// Whether the topic is another than the sender.
    titled: bool,
    /// The day that the job is about.
    dated: InstantView,
    recipient: Person<'a>,
    sender: &'a str,
    brand: BrandView<'a>,
    /// What the job says to the recipient.
    pub(super) message: Option<MessageView>,
    job: JobView<'a>,
    vars: Cow<'a, Map<String, Value>>,
    count: u64,
    size_bytes: u64,
    /// The files that are shown, in the job's order.
    files: Vec<&'a MailRow<'a>>,
    /// The same files, by folder.
    folders: Vec<RowGroup<'a>>,
    /// The files in folders that are not in that list.
    elsewhere: Option<FileCount>,
    /// Whether there are several folders.
    grouped: bool,
    pub(super) more: Option<More<'a>>,
    glimpse: PictureView<'a>,
    missed: Option<MailMissedFiles<'a>>,
    gallery_url: Option<&'a str>,
    manifest_url: Option<&'a str>,
    zip: Option<ZipsView>,
    /// Whether the page exists because the files do not fit into the mail, not because the job requests a gallery.
    overflows: bool,
    expires_at: InstantView,
    sooner: Option<&'static str>,
    /// Whether the links belong to this recipient alone.
    personal: bool,
    /// Whether a link displays its file instead of saving it.
    opens: bool,
}

/// The recipient of the mail.
#[derive(Serialize)]
struct Person<'a> {
    /// The recipient's name in the job, if it has one.
    name: Option<&'a str>,
    /// The name, or the address if there is no name.
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
pub(super) struct MailRow<'a> {
    name: String,
    /// `None` if all files are in one folder.
    folder: Option<&'a str>,
    size_bytes: u64,
    modified: InstantView,
    url: &'a str,
    #[serde(skip)]
    number: usize,
}

/// A folder and its files that are shown.
#[derive(Serialize)]
struct RowGroup<'a> {
    /// `None` for files outside of folders.
    name: Option<&'a str>,
    count: u64,
    size_bytes: u64,
    files: Vec<&'a MailRow<'a>>,
    /// The files that are not shown.
    more: Option<FileCount>,
}

/// The files that a mail does not show.
#[derive(Serialize)]
pub(super) struct More<'a> {
    pub(super) count: u64,
    size_bytes: u64,
    /// By folder; empty if there is only one.
    folders: Vec<MoreInFolder<'a>>,
    /// The files in folders that are not in that list.
    elsewhere: Option<FileCount>,
}

#[derive(Serialize)]
struct MoreInFolder<'a> {
    name: Option<&'a str>,
    count: u64,
    size_bytes: u64,
}

/// The first few files, for a mail that only summarizes.
#[derive(Default, Serialize)]
struct PictureView<'a> {
    files: Vec<&'a MailRow<'a>>,
    more: Option<u64>,
}

/// The files that have no link.
#[derive(Default, Serialize)]
struct MailMissedFiles<'a> {
    count: u64,
    files: Cow<'a, [Missed]>,
    /// The number of files that are not named.
    more: Option<u64>,
}

/// The rows and folders of a digest, formatted for one recipient.
pub(super) struct MailRows<'a> {
    rows: Vec<MailRow<'a>>,
    /// The indexes of the rows, sorted so that a shorter mail drops the last ones first.
    ranked: Vec<usize>,
    folders: &'a [NamedRow],
    total: FileCount,
    elsewhere: FileCount,
}

/// A folder with a displayable name.
pub(super) struct NamedRow {
    name: Option<String>,
    all: FileCount,
}

/// Names the folders of a digest.
pub(super) fn named_folders(digest: &Digest) -> Vec<NamedRow> {
    let name = |path: &str| (!path.is_empty()).then(|| brief(path));
    let folders = digest.folders.iter();
    folders
        .map(|folder| NamedRow {
            name: name(&folder.path),
            all: folder.all,
        })
        .collect()
}

impl<'a> MailRows<'a> {
    /// The rows of a letter's digest, up to `most`.
    pub(super) fn new(letter: &MailRequest<'a>, folders: &'a [NamedRow], most: usize) -> Self {
        let digest = letter.digest;
        let zone = letter.time_zone();
        let mut ranked = digest.ranked();
        ranked.truncate(most);
        let row = |kept: &'a KeptFiles| MailRow {
            name: brief(&kept.link.name),
            folder: folders[kept.folder]
                .name
                .as_deref()
                .filter(|_| digest.is_grouped()),
            size_bytes: kept.link.object.size_bytes,
            modified: InstantView::new(kept.link.object.modified, zone),
            url: kept.link.url.expose(),
            number: kept.folder,
        };
        Self {
            rows: digest.rows.iter().map(row).collect(),
            ranked,
            folders,
            total: digest.total,
            elsewhere: digest.elsewhere,
        }
    }

    /// The number of rows that can be shown.
    pub(super) const fn most(&self) -> usize {
        self.ranked.len()
    }

    /// The first `count` of the rows, in the job's order.
    fn chosen(&'a self, count: usize) -> Vec<&'a MailRow<'a>> {
        let mut chosen = self.ranked[..count].to_vec();
        chosen.sort_unstable();
        chosen.into_iter().map(|row| &self.rows[row]).collect()
    }

    /// The shown rows by folder; then some folders without shown rows, and the sum of all others.
    fn grouped(&'a self, shown: &[&'a MailRow<'a>]) -> (Vec<RowGroup<'a>>, FileCount) {
        let mut rows: Vec<Vec<&MailRow<'_>>> = vec![Vec::new(); self.folders.len()];
        for &row in shown {
            rows[row.number].push(row);
        }
        let (mut groups, mut without_rows) = (Vec::new(), 0);
        let mut elsewhere = self.elsewhere;
        for (folder, files) in self.folders.iter().zip(rows) {
            if files.is_empty() {
                without_rows += 1;
                if without_rows > MAX_NAMED_FOLDERS {
                    elsewhere.add_all(folder.all);
                    continue;
                }
            }
            groups.push(RowGroup {
                name: folder.name.as_deref(),
                count: folder.all.count,
                size_bytes: folder.all.size_bytes,
                more: folder.all.without(weight(&files)),
                files,
            });
        }
        (groups, elsewhere)
    }
}

/// The files that are not shown, by folder as far as folders can be named.
fn more<'a>(groups: &[RowGroup<'a>], elsewhere: FileCount, hidden: FileCount) -> More<'a> {
    let mut left = elsewhere;
    let mut folders = Vec::new();
    for (name, more) in groups
        .iter()
        .filter_map(|group| Some((group.name, group.more?)))
    {
        if folders.len() == MAX_NAMED_FOLDERS {
            left.add_all(more);
            continue;
        }
        folders.push(MoreInFolder {
            name,
            count: more.count,
            size_bytes: more.size_bytes,
        });
    }
    More {
        count: hidden.count,
        size_bytes: hidden.size_bytes,
        folders,
        elsewhere: left.some(),
    }
}

fn weight(rows: &[&MailRow<'_>]) -> FileCount {
    let mut weight = FileCount::default();
    for row in rows {
        weight.add(row.size_bytes);
    }
    weight
}

/// Prepares a name for a mail: invisible characters become visible, and the middle of a very long name is left out.
pub(super) fn brief(name: &str) -> String {
    let shown = view::shown(name);
    let count = shown.chars().count();
    if count <= MAX_NAME_CHARS {
        return shown.into_owned();
    }
    let begin = shown.chars().take(MAX_NAME_CHARS - NAME_END_CHARS - 1);
    let end = shown.chars().skip(count - NAME_END_CHARS);
    begin.chain(['…']).chain(end).collect()
}

impl<'a> View<'a> {
    pub(super) fn new(
        letter: &MailRequest<'a>,
        language: &'a Language,
        topic: Option<&str>,
        mail_rows: &'a MailRows<'a>,
    ) -> Self {
        let MailRequest {
            plan,
            digest,
            recipient,
            settings,
            ..
        } = *letter;
        let files: Vec<&MailRow<'_>> = mail_rows.rows.iter().take(GLIMPSE).collect();
        let glimpsed = files.len() as u64;
        // The job's id is for operators: it says nothing to a reader.
        let (named, sender) = (plan.title(), settings.sender_name.as_str());
        Self {
            language: LanguageView::of(language),
            subject: String::new(),
            topic: topic.map_or_else(|| brief(named.unwrap_or(sender)), ToOwned::to_owned),
            titled: named.is_some(),
            dated: InstantView::new(plan.dated(), &plan.time_zone),
            recipient: Person {
                name: recipient.name.as_deref(),
                called: recipient
                    .name
                    .as_deref()
                    .unwrap_or(recipient.address.as_ref()),
                address: recipient.address.as_ref(),
                vars: Cow::Borrowed(&recipient.vars),
            },
            sender,
            brand: settings.brand.mail_view(sender),
            message: None,
            job: JobView {
                id: plan.job.id.as_str(),
            },
            vars: Cow::Borrowed(&plan.job.vars),
            count: digest.total.count,
            size_bytes: digest.total.size_bytes,
            files: Vec::new(),
            folders: Vec::new(),
            elsewhere: None,
            grouped: digest.is_grouped(),
            more: None,
            glimpse: PictureView {
                files,
                more: Some(digest.total.count - glimpsed).filter(|more| *more > 0),
            },
            missed: (digest.missed_count > 0).then(|| MailMissedFiles {
                count: digest.missed_count,
                files: Cow::Borrowed(digest.missed.as_slice()),
                more: Some(digest.missed_count - digest.missed.len() as u64)
                    .filter(|more| *more > 0),
            }),
            gallery_url: letter.gallery_url.map(PresignedUrl::expose),
            manifest_url: letter.manifest_url.map(PresignedUrl::expose),
            zip: letter.zips.and_then(ZipsView::of),
            overflows: plan.supplement().is_some(),
            expires_at: InstantView::new(plan.lifetime.expires_at, letter.time_zone()),
            sooner: view::sooner(plan.lifetime.bound),
            personal: plan.per_recipient,
            opens: plan.disposition == ContentDisposition::Inline,
        }
    }

    /// The links of the files that are shown.
    pub(super) fn urls(&self) -> impl Iterator<Item = &'a str> {
        self.files.iter().map(|row| row.url)
    }

    /// Shows the first `count` rows of `sheet`, and counts the rest.
    pub(super) fn show(&mut self, mail_rows: &'a MailRows<'a>, count: usize) {
        self.files = mail_rows.chosen(count);
        let hidden = mail_rows.total.without(weight(&self.files));
        let (groups, elsewhere) = mail_rows.grouped(&self.files);
        self.more = hidden.map(|hidden| match self.grouped {
            true => more(&groups, elsewhere, hidden),
            false => more(&[], FileCount::default(), hidden),
        });
        self.folders = groups;
        self.elsewhere = elsewhere.some();
    }
}

/// The sample against which mail templates are checked: a view in which every value is present.
pub(in super::super) fn sample() -> Value {
    let row = MailRow {
        folder: Some(""),
        ..MailRow::default()
    };
    let view = View {
        language: LanguageView::default(),
        subject: String::new(),
        topic: String::new(),
        titled: true,
        dated: InstantView::default(),
        recipient: Person {
            name: Some(""),
            called: "",
            address: "",
            vars: Cow::default(),
        },
        sender: "",
        brand: BrandView::sample(),
        message: Some(MessageView::sample()),
        job: JobView { id: "" },
        vars: Cow::default(),
        count: 1,
        size_bytes: 0,
        files: vec![&row],
        folders: vec![RowGroup {
            name: Some(""),
            count: 1,
            size_bytes: 0,
            files: vec![&row],
            more: Some(FileCount::default()),
        }],
        elsewhere: Some(FileCount::default()),
        grouped: true,
        more: Some(More {
            count: 1,
            size_bytes: 0,
            folders: vec![MoreInFolder {
                name: Some(""),
                count: 1,
                size_bytes: 0,
            }],
            elsewhere: Some(FileCount::default()),
        }),
        glimpse: PictureView {
            files: vec![&row],
            more: Some(1),
        },
        missed: Some(MailMissedFiles {
            count: 1,
            files: Cow::Owned(vec![Missed::default()]),
            more: Some(0),
        }),
        gallery_url: Some(""),
        manifest_url: Some(""),
        zip: Some(ZipsView::sample()),
        overflows: true,
        expires_at: InstantView::default(),
        sooner: Some("sooner_policy"),
        personal: true,
        opens: true,
    };
    serde_json::to_value(view).expect("a view has text keys only")
}

#[cfg(test)]
mod tests;
