//! Collects what one mail can show of the links of an audience. Memory does not grow with the job.
//!
//! Every file is counted in its folder; some are kept as rows. Where the order of the job is meaningful (newest first), the first
//! files are kept. Where it is the order of names, the first files of each folder are kept, so that a mail about ten days shows
//! files of each day.

use std::collections::HashMap;

use presign::PresignedUrl;
use serde::Serialize;

use super::super::view::{self, Missed};
use super::view::brief;
use crate::audit::AuditedLinks;
use crate::job::Order;
use crate::links::Link;
use crate::plan::Plan;

/// The maximum number of rows that a digest keeps; more never fit into the budget.
pub const MAX_ROWS: usize = 200;

/// The maximum number of folders that are counted separately; files of other folders are counted together.
const MAX_FOLDERS: usize = MAX_ROWS;

/// The maximum number of files without a link that a mail names.
const MAX_MISSED: usize = 20;

/// A number of files and their total size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct FileCount {
    pub(super) count: u64,
    pub(super) size_bytes: u64,
}

impl FileCount {
    pub(super) const fn add(&mut self, size_bytes: u64) {
        self.add_all(Self {
            count: 1,
            size_bytes,
        });
    }

    pub(super) const fn add_all(&mut self, other: Self) {
        self.count += other.count;
        self.size_bytes = self.size_bytes.saturating_add(other.size_bytes);
    }

    /// The difference to `part`; `None` if it is empty.
    pub(super) fn without(self, part: Self) -> Option<Self> {
        let count = self.count.saturating_sub(part.count);
        let size_bytes = self.size_bytes.saturating_sub(part.size_bytes);
        (count > 0).then_some(Self { count, size_bytes })
    }

    /// The tally; `None` if it is empty.
    pub(super) fn some(self) -> Option<Self> {
        self.without(Self::default())
    }
}

/// The content of a mail about the links of one audience.
#[derive(Debug, Clone)]
pub struct Digest {
    /// The common prefix of all keys: [`view::base`].
    base: String,
    choice: Choice,
    pub(super) rows: Vec<KeptFiles>,
    /// The maximum number of rows of one folder; it decreases as folders are added.
    most_of_folder: u64,
    /// In the order of their first files.
    pub(super) folders: Vec<DigestFolder>,
    numbers: HashMap<String, usize>,
    /// The folder of the last link. Keys are sorted, so the next link is usually in the same folder.
    last: usize,
    /// Files in folders that are not counted separately.
    pub(super) elsewhere: FileCount,
    pub(super) total: FileCount,
    pub(super) missed: Vec<Missed>,
    pub(super) missed_count: u64,
}

/// Which files become rows when the number of rows is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    First,
    FirstOfEachFolder,
}

/// A file that can be shown.
#[derive(Debug, Clone)]
pub(super) struct KeptFiles {
    pub(super) link: Link,
    /// The index of its folder.
    pub(super) folder: usize,
    /// The number of files before it in its folder.
    nth: u64,
}

/// A folder and all its files, shown or not.
#[derive(Debug, Clone)]
pub(super) struct DigestFolder {
    /// Its path below the job's prefix; empty for the prefix itself.
    pub(super) path: String,
    pub(super) all: FileCount,
}

impl Digest {
    /// An empty digest.
    pub fn new(plan: &Plan) -> Self {
        Self {
            base: view::base(plan.prefix()).to_owned(),
            choice: match plan.order {
                Order::Newest | Order::Oldest | Order::Largest => Choice::First,
                Order::Key | Order::Name => Choice::FirstOfEachFolder,
            },
            rows: Vec::new(),
            most_of_folder: u64::MAX,
            folders: Vec::new(),
            numbers: HashMap::new(),
            last: 0,
            elsewhere: FileCount::default(),
            total: FileCount::default(),
            missed: Vec::new(),
            missed_count: 0,
        }
    }

    /// Adds a batch.
    pub fn push(&mut self, links: &AuditedLinks) {
        for link in links.links() {
            self.take(link);
        }
        for missed in links.unavailable() {
            self.missed_count += 1;
            if self.missed.len() < MAX_MISSED {
                self.missed.push(Missed {
                    name: brief(view::below(&missed.key, &self.base)),
                    reason: view::reason(missed.reason),
                });
            }
        }
    }

    /// The number of links.
    pub const fn count(&self) -> u64 {
        self.total.count
    }

    /// The link of a file that can be shown, if there is any.
    pub(crate) fn first_url(&self) -> Option<&PresignedUrl> {
        self.rows.first().map(|row| &row.link.url)
    }

    /// Whether the files are in several folders, so that the mail groups them.
    pub(super) const fn is_grouped(&self) -> bool {
        self.folders.len() > 1
    }

    /// The indexes of the rows, sorted so that a shorter mail drops the last ones first.
    pub(super) fn ranked(&self) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..self.rows.len()).collect();
        if self.choice == Choice::FirstOfEachFolder {
            ranked.sort_by_key(|row| self.rows[*row].nth);
        }
        ranked
    }

    fn take(&mut self, link: &Link) {
        let size_bytes = link.object.size_bytes;
        self.total.add(size_bytes);
        let Some(number) = self.folder_of(link) else {
            self.elsewhere.add(size_bytes);
            return;
        };
        let folder = &mut self.folders[number];
        let nth = folder.all.count;
        folder.all.add(size_bytes);
        let is_wanted = match self.choice {
            Choice::First => self.rows.len() < MAX_ROWS,
            Choice::FirstOfEachFolder => nth < self.most_of_folder,
        };
        if is_wanted {
            self.rows.push(KeptFiles {
                link: link.clone(),
                folder: number,
                nth,
            });
            self.make_room();
        }
    }

    /// Removes the last row from each of the folders with the most rows.
    fn make_room(&mut self) {
        if self.rows.len() > MAX_ROWS {
            let most = self.rows.iter().map(|row| row.nth).max();
            self.most_of_folder = most.unwrap_or_default();
            self.rows.retain(|row| row.nth < self.most_of_folder);
        }
    }

    fn folder_of(&mut self, link: &Link) -> Option<usize> {
        let path = view::folder(view::below(link.key().as_str(), &self.base));
        if self
            .folders
            .get(self.last)
            .is_some_and(|last| last.path == path)
        {
            return Some(self.last);
        }
        if let Some(number) = self.numbers.get(path) {
            self.last = *number;
            return Some(*number);
        }
        let number = self.folders.len();
        (number < MAX_FOLDERS).then(|| {
            self.numbers.insert(path.to_owned(), number);
            self.folders.push(DigestFolder {
                path: path.to_owned(),
                all: FileCount::default(),
            });
            number
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::samples::{audited, link, plan};
    use super::*;

    fn digest(order: &str, keys: impl Iterator<Item = String>) -> Digest {
        let over = json!({ "from": {
            "connection": "reports", "bucket": "acme-reports", "prefix": "shoot/", "order": order,
        } });
        let mut digest = Digest::new(&plan("shoot/", &over));
        for key in keys {
            digest.push(&audited(vec![link(&key, 10)], &[]));
        }
        digest
    }

    fn days(days: usize, files: usize) -> impl Iterator<Item = String> {
        (0..days).flat_map(move |day| (0..files).map(move |n| format!("shoot/Day {day}/{n}.jpg")))
    }

    /// The number of rows of each folder.
    fn rows(digest: &Digest) -> Vec<usize> {
        (0..digest.folders.len())
            .map(|number| {
                let of_it = digest.rows.iter().filter(|row| row.folder == number);
                of_it.count()
            })
            .collect()
    }

    #[test]
    fn every_folder_shows_its_first_files_when_not_all_fit() {
        let digest = digest("key", days(3, 300));
        assert_eq!(rows(&digest), [66, 66, 66]);
        assert!(digest.folders.iter().all(|folder| folder.all.count == 300));
        let first: Vec<&str> = digest
            .ranked()
            .into_iter()
            .take(4)
            .map(|row| digest.rows[row].link.key().as_str())
            .collect();
        assert_eq!(
            first,
            [
                "shoot/Day 0/0.jpg",
                "shoot/Day 1/0.jpg",
                "shoot/Day 2/0.jpg",
                "shoot/Day 0/1.jpg"
            ]
        );
    }

    #[test]
    fn an_order_that_means_something_keeps_the_first() {
        let digest = digest("newest", days(3, 300));
        assert_eq!(rows(&digest), [200, 0, 0]);
        assert_eq!(digest.ranked()[..3], [0, 1, 2]);
    }

    #[test]
    fn a_job_of_many_folders_needs_no_more_memory_than_one_of_some() {
        let digest = digest("key", days(1000, 2));
        assert_eq!(
            (digest.rows.len(), digest.folders.len()),
            (MAX_ROWS, MAX_FOLDERS)
        );
        let mut counted = digest.elsewhere;
        for folder in &digest.folders {
            counted.add_all(folder.all);
        }
        assert_eq!(counted, digest.total);
        assert_eq!(digest.total.count, 2000);
    }
}
