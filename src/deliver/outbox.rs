//! A directory instead of a relay: every mail as an `.eml`, its page beside it, and a table of contents.
//!
//! The default without a relay, and what `handout demo` fills. A mail that is put twice is there once.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Letter;

/// How many mails the table of contents shows; the files stay all.
const SHOWN: usize = 500;

/// A directory of mails.
#[derive(Debug, Clone)]
pub struct Outbox {
    dir: PathBuf,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    file: String,
    to: String,
    subject: String,
}

impl Outbox {
    /// An outbox in a directory, which is made if need be.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts a mail there; what is said of it. Nothing was handed to anybody when it fails, so it was not sent, for certain.
    pub(super) async fn put(&self, letter: &Letter) -> io::Result<String> {
        let name = letter
            .message_id
            .trim_matches(['<', '>'])
            .split('@')
            .next()
            .unwrap_or("mail")
            .to_owned();
        let entry = Entry {
            file: name.clone(),
            to: letter.summary.to.to_string(),
            subject: letter.summary.subject.clone(),
        };
        let (dir, bytes, html) = (
            self.dir.clone(),
            letter.bytes.clone(),
            letter.summary.html.clone(),
        );
        let written = tokio::task::spawn_blocking(move || {
            write_whole(
                &dir.join(format!("{name}.html")),
                html.as_bytes(),
                Readers::Owner,
            )?;
            // The mail last: it is there when everything about it is.
            append_entry(&dir, &entry)?;
            write_whole(&dir.join(format!("{name}.eml")), &bytes, Readers::Owner)
        });
        written.await.map_err(io::Error::other)??;
        Ok(format!("in {}", self.dir.display()))
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner: it has links or addresses in it.
    Owner,
    /// Everybody on this machine, a web server among them: it was published.
    Everybody,
}

/// Writes a file so that it is whole or not there, and is still there after a power cut.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    persist(file, path, readers)
}

/// Gives a temporary file its name, durably.
pub(crate) fn persist(
    file: tempfile::NamedTempFile,
    path: &Path,
    readers: Readers,
) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    };
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn append_entry(dir: &Path, entry: &Entry) -> io::Result<()> {
    let contents = dir.join("index.jsonl");
    let lock = fs::File::create(dir.join(".lock"))?;
    lock.lock()?;
    let mut entries: Vec<Entry> = match fs::read_to_string(&contents) {
        Ok(text) => text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if entries.iter().any(|known| known == entry) {
        return Ok(());
    }
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&contents)?;
    writeln!(file, "{}", serde_json::to_string(entry)?)?;
    entries.push(Entry {
        file: entry.file.clone(),
        to: entry.to.clone(),
        subject: entry.subject.clone(),
    });
    write_whole(
        &dir.join("index.html"),
        page(&entries).as_bytes(),
        Readers::Owner,
    )
}

fn page(entries: &[Entry]) -> String {
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
    let count = entries.len();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Outbox</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse;width:100%}}td,th{{text-align:start;padding:.5rem .75rem;border-bottom:1px solid #8884}}</style>\
         <h1>Outbox</h1><p>{count} mails, the latest first. Nothing here was sent: set <code>transport = \"smtp\"</code> to send.</p>\
         <table><thead><tr><th>To</th><th>Subject</th><th></th></tr></thead><tbody>\n{rows}</tbody></table></html>\n"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Summary;
    use lettre::address::Envelope;

    fn letter(subject: &str) -> Letter {
        let to: lettre::Address = "ann@acme.example".parse().unwrap();
        Letter {
            envelope: Envelope::new(None, vec![to.clone()]).unwrap(),
            message_id: "<abc@sender.example>".to_owned(),
            bytes: b"Subject: x\r\n\r\nbody".to_vec(),
            summary: Summary {
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
            page.contains("1 mails") && page.contains("&lt;b&gt;Hi"),
            "{page}"
        );
        assert_eq!(
            fs::read(folder.path().join("abc.eml")).unwrap(),
            b"Subject: x\r\n\r\nbody"
        );
    }

    #[tokio::test]
    async fn a_mail_that_could_not_be_written_is_an_error_and_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&folder.path().join("gone")).unwrap();
        fs::remove_dir(folder.path().join("gone")).unwrap();
        let error = outbox.put(&letter("x")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::create_dir(outbox.dir()).unwrap();
        outbox.put(&letter("x")).await.unwrap();
    }
}
