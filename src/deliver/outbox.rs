//! A directory instead of a relay: every mail as an `.eml`, its page beside it, and a table of contents.
//!
//! The default without a relay, and the target of `handout demo`. A mail that is written twice is there once.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use directory::{Directory, Location, tighten};
use serde::{Deserialize, Serialize};

use super::Letter;
use crate::mounted;
use crate::text::counted;
use crate::text::html::escape;

/// How many mails the table of contents shows; all files stay.
const SHOWN: usize = 500;

/// How much of the table of contents is read, in bytes: more than it shows.
const READ: u64 = 1 << 20;

/// A directory of mails.
#[derive(Debug, Clone)]
pub struct Outbox {
    dir: Location,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OutboxEntry {
    file: String,
    to: String,
    subject: String,
}

impl Outbox {
    /// An outbox in a directory, which is created if it is missing.
    pub fn open(dir: impl Into<Location>) -> io::Result<Self> {
        let dir = dir.into();
        dir.make(0o700)?;
        Ok(Self { dir })
    }

    /// The directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Writes a mail; returns the words of its outcome.
    ///
    /// A mail whose write fails was certainly not sent, or is written later, where the directory did not respond in time: the
    /// next attempt gives it the same name, so that it is there once.
    pub(super) async fn put(&self, letter: &Letter) -> io::Result<String> {
        let name = letter
            .message_id
            .trim_matches(['<', '>'])
            .split('@')
            .next()
            .unwrap_or("mail")
            .to_owned();
        let entry = OutboxEntry {
            file: name.clone(),
            to: letter.summary.to.to_string(),
            subject: letter.summary.subject.clone(),
        };
        let (dir, bytes, html) = (
            self.dir.clone(),
            letter.bytes.clone(),
            letter.summary.html.clone(),
        );
        let written = mounted::work_in_time(&self.dir, move || {
            let directory = dir.open()?;
            directory.replace(&format!("{name}.html"), html.as_bytes(), PRIVATE)?;
            // The mail is written last: when it exists, everything about it does.
            append_entry(&directory, &entry)?;
            directory.replace(&format!("{name}.eml"), &bytes, PRIVATE)
        });
        written.await?;
        Ok(format!("in {}", self.dir.display()))
    }
}

/// Held while the table of contents is written.
const LOCK: &str = ".lock";

/// The files hold bodies, addresses and links: only their owner may read them.
const PRIVATE: u32 = 0o600;

fn append_entry(directory: &Directory, entry: &OutboxEntry) -> io::Result<()> {
    let lock = directory.lock_file(LOCK, PRIVATE)?;
    directory::lock(&lock, &directory.path().join(LOCK))?;
    let mut contents = directory.append("index.jsonl", PRIVATE)?;
    tighten(&contents, PRIVATE)?;
    let mut entries = last_entries(&mut contents)?;
    // A mail of the same job that is written again is among the last entries.
    if entries.iter().any(|known| known == entry) {
        return Ok(());
    }
    writeln!(contents, "{}", serde_json::to_string(entry)?)?;
    entries.push(entry.clone());
    directory.replace("index.html", page(&entries).as_bytes(), PRIVATE)
}

/// The entries at the end of a table of contents, in at most [`READ`] bytes of it.
fn last_entries(contents: &mut File) -> io::Result<Vec<OutboxEntry>> {
    let length = contents.metadata()?.len();
    contents.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
    let mut bytes = Vec::new();
    contents.take(READ).read_to_end(&mut bytes)?;
    // The first line may be cut, and is skipped then.
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

fn page(entries: &[OutboxEntry]) -> String {
    let mut rows = String::new();
    for entry in entries.iter().rev().take(SHOWN) {
        let (file, to, subject) = (
            escape(&entry.file),
            escape(&entry.to),
            escape(&entry.subject),
        );
        writeln!(rows, "<tr><td>{to}</td><td><a href=\"{file}.html\">{subject}</a></td><td><a href=\"{file}.eml\">.eml</a></td></tr>")
            .expect("writing to a string does not fail");
    }
    let mails = counted(entries.len().min(SHOWN) as u64, "mail");
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Outbox</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse;width:100%}}td,th{{text-align:start;padding:.5rem .75rem;border-bottom:1px solid #8884}}</style>\
         <h1>Outbox</h1><p>The last {mails}, the latest first. Nothing here was sent: set <code>mail.transport = \"smtp\"</code> to send.</p>\
         <table><thead><tr><th>To</th><th>Subject</th><th></th></tr></thead><tbody>\n{rows}</tbody></table></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::MailSummary;
    use lettre::address::Envelope;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn letter(subject: &str) -> Letter {
        let to: lettre::Address = "ann@acme.example".parse().unwrap();
        Letter {
            envelope: Envelope::new(None, vec![to.clone()]).unwrap(),
            secrets: crate::redact::Secrets::default(),
            message_id: "<abc@sender.example>".to_owned(),
            bytes: b"Subject: x\r\n\r\nbody".to_vec(),
            summary: MailSummary {
                to,
                subject: subject.to_owned(),
                html: "<p>body".to_owned(),
            },
        }
    }

    #[tokio::test]
    async fn a_mail_that_is_put_twice_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        for _ in 0..2 {
            let said = outbox.put(&letter("<b>Hi")).await.unwrap();
            assert_eq!(said, format!("in {}", folder.path().display()));
        }
        let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
        assert!(
            page.contains("The last 1 mail,") && page.contains("&lt;b&gt;Hi"),
            "{page}"
        );
        assert_eq!(
            fs::read(folder.path().join("abc.eml")).unwrap(),
            b"Subject: x\r\n\r\nbody"
        );
    }

    #[tokio::test]
    async fn a_table_of_contents_of_any_size_is_read_at_its_end_alone() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        outbox.put(&letter("Alpha")).await.unwrap();
        let contents = File::options()
            .append(true)
            .open(folder.path().join("index.jsonl"))
            .unwrap();
        contents.set_len(1 << 40).unwrap();
        (&contents).write_all(b"\n").unwrap();
        outbox.put(&letter("Omega")).await.unwrap();
        let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
        assert!(page.contains("Omega") && !page.contains("Alpha"), "{page}");
    }

    #[tokio::test]
    async fn a_mail_that_could_not_be_written_is_an_error_and_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path().join("gone")).unwrap();
        fs::remove_dir(folder.path().join("gone")).unwrap();
        let error = outbox.put(&letter("x")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::create_dir(outbox.dir()).unwrap();
        outbox.put(&letter("x")).await.unwrap();
    }

    #[tokio::test]
    async fn planted_names_are_refused_and_what_is_written_is_its_owners_alone() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (target, dir) = (
            outside.path().join("target"),
            folder.path().join("a/outbox"),
        );
        fs::write(&target, "root's").unwrap();
        let outbox = Outbox::open(&dir).unwrap();
        for name in [".lock", "index.jsonl"] {
            symlink(&target, dir.join(name)).unwrap();
            let sentence = outbox.put(&letter("x")).await.unwrap_err().to_string();
            assert!(
                sentence.contains(name) && sentence.contains("symbolic link"),
                "{sentence}"
            );
            fs::remove_file(dir.join(name)).unwrap();
        }
        fs::remove_file(dir.join("abc.html")).unwrap();
        for name in ["abc.eml", "abc.html", "index.html"] {
            symlink(&target, dir.join(name)).unwrap();
        }
        fs::write(dir.join("index.jsonl"), "").unwrap();
        outbox.put(&letter("x")).await.unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "root's");
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&dir) & 0o777, 0o700);
        for written in fs::read_dir(&dir).unwrap() {
            let path = written.unwrap().path();
            assert_eq!(mode(&path), 0o100_600, "{}", path.display());
        }
    }
}
