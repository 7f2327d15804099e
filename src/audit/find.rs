//! Answers questions of an audit log: which line issued this link, what did this person get.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::log::segments;

/// What a line must say to be found; what is left out matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The fingerprint of a link's signature.
    pub link: Option<String>,
    /// A link's id.
    pub link_id: Option<String>,
    /// A recipient's id.
    pub rid: Option<String>,
    /// A job's id.
    pub job: Option<String>,
    /// A bucket and a key.
    pub object: Option<(String, String)>,
}

impl Question {
    fn matches(&self, line: &Value) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| line[field].as_str() == Some(wanted))
        };
        is("link", &self.link)
            && is("link_id", &self.link_id)
            && is("rid", &self.rid)
            && is("job", &self.job)
            && self.object.as_ref().is_none_or(|(bucket, key)| {
                line["bucket"].as_str() == Some(bucket) && line["key"].as_str() == Some(key)
            })
    }

    /// A text that each matching line must hold somewhere: spares parsing the others.
    fn needle(&self) -> Option<&str> {
        [&self.link, &self.link_id, &self.rid]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .next()
    }
}

/// Calls `found` with every line that answers the question, oldest stream first.
pub fn find(
    dir: &Path,
    question: &Question,
    mut found: impl FnMut(&str, &Value) -> io::Result<()>,
) -> io::Result<()> {
    for path in segments(dir)? {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path)?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            if question.needle().is_none_or(|needle| line.contains(needle))
                && let Ok(value) = serde_json::from_str::<Value>(&line)
                && question.matches(&value)
            {
                found(line.trim_end(), &value)?;
            }
            line.clear();
        }
    }
    Ok(())
}
