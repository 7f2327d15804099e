//! Queries of an audit log, such as the line that issued a link, or the links of a recipient.
//!
//! Lines are matched without parsing: a field is searched in the writer's spelling. Those bytes cannot occur elsewhere in a
//! line, since a quotation mark within a text is escaped. The segments are read on all cores.

use std::io::{self, Read};
use std::sync::mpsc::{SyncSender, sync_channel};

use jiff::Timestamp;
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::chain::LineHead;
use super::directory::{LogDirectory, TOO_LONG};
use super::record::push_json;
use super::source::{LogSource, SegmentPlace};
use super::stream::spelled;
use crate::bounds::MAX_AUDIT_LINE_BYTES;
use crate::job::JobId;

/// How much of a segment is searched at once, in bytes.
const CHUNK: usize = 1 << 20;

/// How many chunks of matches may wait for the caller, for each segment that is read.
const AHEAD: usize = 4;

/// The conditions for a line; a field that is left out matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkQuery {
    /// The fingerprint of a link's signature.
    pub link: Option<String>,
    /// A link's id.
    pub link_id: Option<String>,
    /// A recipient's id: of the links' recipient, or of who opened a link that is another's or everybody's.
    pub rid: Option<String>,
    /// A job's id. The lines of its parts match too.
    pub job: Option<String>,
    /// A bucket and a key.
    pub object: Option<(String, String)>,
    /// The earliest instant, inclusive.
    pub since: Option<Timestamp>,
    /// The end of the time range, exclusive.
    pub until: Option<Timestamp>,
}

/// A query in bytes.
struct Search {
    /// The texts that a line must contain; the rarest first.
    needles: Vec<Finder<'static>>,
    /// The fields of which one has the recipient; empty if any recipient is meant.
    people: Vec<Finder<'static>>,
    /// The field of the job and the beginning of its value: the job itself, or one of its parts.
    job: Option<Finder<'static>>,
    since: Option<String>,
    until: Option<String>,
}

impl Search {
    fn new(question: &LinkQuery) -> Self {
        let object = question.object.as_ref();
        let fields = [
            ("link", question.link.as_ref()),
            ("link_id", question.link_id.as_ref()),
            ("key", object.map(|(_, key)| key)),
            ("bucket", object.map(|(bucket, _)| bucket)),
        ];
        let mut needles = Vec::new();
        for (name, wanted) in fields {
            if let Some(wanted) = wanted {
                let mut needle = format!("\"{name}\":");
                push_json(wanted, &mut needle);
                needles.push(Finder::new(&needle).into_owned());
            }
        }
        let job = question.job.as_ref().map(|job| {
            let mut needle = "\"job\":".to_owned();
            push_json(job, &mut needle);
            // Without the quotation mark at its end.
            let begin = &needle[..needle.len() - 1];
            Finder::new(begin).into_owned()
        });
        needles.extend(job.clone());
        let mut people = Vec::new();
        if let Some(rid) = &question.rid {
            let mut value = String::new();
            push_json(rid, &mut value);
            needles.push(Finder::new(&value).into_owned());
            // Other fields are the sender's to choose, such as a job's id.
            for name in ["rid", "reader"] {
                let needle = format!("\"{name}\":{value}");
                people.push(Finder::new(&needle).into_owned());
            }
        }
        Self {
            needles,
            people,
            job,
            since: question.since.map(spelled),
            until: question.until.map(spelled),
        }
    }

    /// Whether a line, with its newline, matches. The first needle is known to be in it.
    fn takes(&self, line: &[u8]) -> bool {
        let mut others = self.needles.iter().skip(1);
        let is_in = |needle: &Finder<'_>| needle.find(line).is_some();
        others.all(is_in)
            && (self.people.is_empty() || self.people.iter().any(is_in))
            && self.job.as_ref().is_none_or(|job| is_of_job(line, job))
            && self.is_in_time(line)
    }

    fn is_in_time(&self, line: &[u8]) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        // All instants have the same format, so that they sort as texts.
        LineHead::parse(line).is_some_and(|head| {
            self.since.as_deref().is_none_or(|since| head.ts >= since)
                && self.until.as_deref().is_none_or(|until| head.ts < until)
        })
    }

    /// Appends the matches among whole lines.
    fn sift(&self, lines: &[u8], answers: &mut Vec<u8>) {
        let mut add = |line: &[u8]| {
            if self.takes(line) {
                answers.extend_from_slice(line);
            }
        };
        let Some(rarest) = self.needles.first() else {
            lines_in(lines).for_each(add);
            return;
        };
        let mut from = 0;
        while let Some(at) = rarest.find(&lines[from..]) {
            let at = from + at;
            let start = memrchr(b'\n', &lines[..at]).map_or(0, |newline| newline + 1);
            let end = memchr(b'\n', &lines[at..]).map_or(lines.len(), |newline| at + newline + 1);
            add(&lines[start..end]);
            from = end;
        }
    }
}

/// Lines with their ends; the last one may have none.
fn lines_in(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

/// Whether a line is of a job or of one of its parts.
fn is_of_job(line: &[u8], job: &Finder<'_>) -> bool {
    let mut found = job.find_iter(line);
    found.any(|at| {
        let rest = &line[at + job.needle().len()..];
        if rest.first() == Some(&b'"') {
            return true;
        }
        let value = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
        // The id of a part has no characters that JSON escapes behind that of its job.
        let part = str::from_utf8(value).ok().map(|end| format!("x{end}"));
        let part = part.and_then(|part| part.parse::<JobId>().ok());
        part.and_then(|part| part.whole())
            .is_some_and(|whole| whole.as_str() == "x")
    })
}

/// Calls `found` with every line that matches the query, oldest stream first, and returns how many segments the log has. An
/// incomplete line, which is still being written, is skipped.
pub fn find(
    source: impl Into<LogSource>,
    question: &LinkQuery,
    found: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<usize> {
    search_in(&source.into(), &Search::new(question), found)
}

/// Calls `found` with every line that has a text in the writer's spelling, as [`find`] does it.
pub(crate) fn find_text(
    source: impl Into<LogSource>,
    text: &str,
    found: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<usize> {
    let mut search = Search::new(&LinkQuery::default());
    search.needles.push(Finder::new(text).into_owned());
    search_in(&source.into(), &search, found)
}

fn search_in(
    source: &LogSource,
    search: &Search,
    mut found: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<usize> {
    let directory = &LogDirectory::open(&source.place)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let segments = SegmentPlace::all(directory, source)?;
    for together in segments.chunks(cores) {
        std::thread::scope(|scope| {
            let mut results = Vec::new();
            for segment in together {
                let (sender, receiver) = sync_channel(AHEAD);
                let reader = scope.spawn(move || read(directory, segment, search, &sender));
                results.push((reader, receiver));
            }
            for (reader, answers) in results {
                for chunk in answers {
                    for line in lines_in(&chunk) {
                        let line = line.strip_suffix(b"\n").unwrap_or(line);
                        match str::from_utf8(line) {
                            Ok(line) => found(line)?,
                            Err(_) => found(&String::from_utf8_lossy(line))?,
                        }
                    }
                }
                reader
                    .join()
                    .map_err(|_| io::Error::other("a reader panicked"))??;
            }
            Ok::<_, io::Error>(())
        })?;
    }
    Ok(segments.len())
}

/// Reads a segment and sends the matches, until the receiver is dropped.
fn read(
    directory: &LogDirectory,
    segment: &SegmentPlace,
    search: &Search,
    answers: &SyncSender<Vec<u8>>,
) -> io::Result<()> {
    let mut file = match (segment, segment.open(directory)) {
        // It was removed since the directory was read.
        (SegmentPlace::Here(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        (_, opened) => match opened? {
            Some(file) => file,
            None => return Ok(()),
        },
    };
    let mut buffer = vec![0; CHUNK];
    let mut held = 0;
    loop {
        if held > MAX_AUDIT_LINE_BYTES {
            let sentence = format!(
                "{}: {TOO_LONG}; `handout audit verify` says where",
                directory.path_of(segment.name()).display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        let read = file.read(&mut buffer[held..])?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        let Some(newline) = memrchr(b'\n', &buffer[held - read..held]) else {
            continue;
        };
        let whole = held - read + newline + 1;
        let mut found = Vec::new();
        search.sift(&buffer[..whole], &mut found);
        if !found.is_empty() && answers.send(found).is_err() {
            return Ok(());
        }
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u32, ts: &str, fields: &str) -> String {
        format!(
            "{{\"v\":2,\"ev\":\"issue\",\"seq\":{seq},\"ts\":\"{ts}\",\"stream\":\"s\",{fields},\"prev\":\"sha256:{}\"}}\n",
            "0".repeat(64)
        )
    }

    fn found(question: &LinkQuery) -> Vec<u32> {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            line(
                0,
                "2026-11-23T10:00:00.000Z",
                r#""job":"a","bucket":"b","key":"x \"job\":\"z\"""#,
            ),
            line(
                1,
                "2026-11-23T11:00:00.000Z",
                r#""job":"a","bucket":"b","key":"y""#,
            ),
            line(
                2,
                "2026-11-23T12:00:00.000Z",
                r#""job":"z","bucket":"c","key":"y""#,
            ),
        ];
        std::fs::write(
            dir.path().join("s.0001.jsonl"),
            lines.concat() + "{\"job\":\"a\"",
        )
        .unwrap();
        let mut seen = Vec::new();
        find(dir.path(), question, |line| {
            let line: serde_json::Value = serde_json::from_str(line)?;
            seen.push(u32::try_from(line["seq"].as_u64().unwrap()).unwrap());
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn a_line_is_found_by_its_fields_and_by_nothing_in_a_text() {
        let job = |job: &str| LinkQuery {
            job: Some(job.to_owned()),
            ..LinkQuery::default()
        };
        let object = |bucket: &str, key: &str| LinkQuery {
            object: Some((bucket.to_owned(), key.to_owned())),
            ..LinkQuery::default()
        };
        assert_eq!(found(&LinkQuery::default()), [0, 1, 2]);
        assert_eq!(found(&job("a")), [0, 1]);
        assert_eq!(found(&job("z")), [2]);
        assert_eq!(found(&object("b", "y")), [1]);
        assert_eq!(found(&object("b", "x \"job\":\"z\"")), [0]);
        assert_eq!(found(&object("b", "x")), [0; 0]);
        let since = LinkQuery {
            since: Some("2026-11-23T11:00:00Z".parse().unwrap()),
            until: Some("2026-11-23T12:00:00Z".parse().unwrap()),
            ..job("a")
        };
        assert_eq!(found(&since), [1]);
    }

    #[test]
    fn the_longest_lines_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let long = line(
            7,
            "2026-11-23T10:00:00.000Z",
            &format!("\"key\":\"{}\"", "x".repeat(MAX_AUDIT_LINE_BYTES - 300)),
        );
        let short = line(8, "2026-11-23T10:00:00.000Z", "\"key\":\"y\"");
        std::fs::write(dir.path().join("s.0001.jsonl"), long + &short).unwrap();
        let mut lengths = Vec::new();
        find(dir.path(), &LinkQuery::default(), |line| {
            lengths.push(line.len());
            Ok(())
        })
        .unwrap();
        assert_eq!(lengths.len(), 2);
        assert!(
            lengths[0] > MAX_AUDIT_LINE_BYTES - 300 && lengths[1] < 300,
            "{lengths:?}"
        );
    }
}
