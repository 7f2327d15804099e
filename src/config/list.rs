//! `[[list]]`: recipients that jobs name by the name of a list.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, OnBadRow};
use crate::config_error::ConfigError;
use crate::job::ListName;
use crate::job::list::ListFormat;
use crate::plan::lists::{ListSource, RecipientList};

/// `[[list]]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientListConfig {
    /// The name that jobs use.
    pub name: String,
    /// The file, or the object as `s3://bucket/key`.
    pub source: Option<PathBuf>,
    /// The connection that reads the object; the only connection if absent.
    pub connection: Option<String>,
    /// The form; by the ending of the source if absent.
    pub format: Option<ListFormat>,
    /// What to do about a row that is no recipient.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// The recipients themselves, in place of a source.
    #[serde(default)]
    pub recipients: Vec<serde_json::Value>,
}

impl Config {
    /// The lists of recipients.
    pub(super) fn recipient_lists(&self) -> Result<Vec<RecipientList>, ConfigError> {
        let mut all: Vec<RecipientList> = Vec::new();
        for (index, wanted) in self.list.iter().enumerate() {
            let list = self.recipient_list(index, wanted)?;
            if all.iter().any(|other| other.name == list.name) {
                let reason = format!(
                    "is {:?}, as that of another list is: give each a name of its own",
                    list.name.as_str()
                );
                return Err(ConfigError::value(format!("list[{index}].name"), reason));
            }
            all.push(list);
        }
        Ok(all)
    }

    fn recipient_list(
        &self,
        index: usize,
        wanted: &RecipientListConfig,
    ) -> Result<RecipientList, ConfigError> {
        let key = |field: &str| format!("list[{index}].{field}");
        let name = wanted.name.parse::<ListName>();
        let name = name.map_err(|error| ConfigError::value(key("name"), error))?;
        let source = match (&wanted.source, wanted.recipients.is_empty()) {
            (Some(_), false) => {
                let reason = "stands beside `source`: a list has one of the two";
                return Err(ConfigError::value(key("recipients"), reason));
            }
            (None, true) => {
                let reason = "is missing: name a file or an object with the recipients, or write them into `recipients`";
                return Err(ConfigError::value(key("source"), reason));
            }
            (None, false) => ListSource::Entries(wanted.recipients.clone().into()),
            (Some(source), true) => match source.starts_with("s3:") {
                true => self.object(index, &source.to_string_lossy(), wanted)?,
                false => ListSource::File(source.clone()),
            },
        };
        let ending = wanted.source.as_deref().and_then(Path::extension);
        let ending = ending.map(|ending| ending.to_string_lossy().to_lowercase());
        let by_ending = match ending.as_deref() {
            Some("csv") => Some(ListFormat::Csv),
            Some("jsonl" | "ndjson") => Some(ListFormat::Jsonl),
            _ => wanted.source.is_none().then_some(ListFormat::Jsonl),
        };
        let format = wanted.format.or(by_ending).ok_or_else(|| {
            let reason = "is missing, and the source ends neither in .csv nor in .jsonl: write \"csv\" or \"jsonl\"";
            ConfigError::value(key("format"), reason)
        })?;
        Ok(RecipientList {
            name,
            source,
            format,
            on_bad_row: wanted.on_bad_row,
        })
    }

    /// The object of a list in a bucket.
    fn object(
        &self,
        index: usize,
        source: &str,
        wanted: &RecipientListConfig,
    ) -> Result<ListSource, ConfigError> {
        let key = |field: &str| format!("list[{index}].{field}");
        let place = source
            .strip_prefix("s3://")
            .and_then(|place| place.split_once('/'));
        let place = place.and_then(|(bucket, key)| Some((bucket.parse().ok()?, key.parse().ok()?)));
        let (bucket, object) = place.ok_or_else(|| {
            let reason = "is not an object of a bucket: write \"s3://bucket/lists/customers.csv\"";
            ConfigError::value(key("source"), reason)
        })?;
        let named = wanted.connection.as_deref();
        Ok(ListSource::Object {
            connection: self.connection_or_only(&key("connection"), named, "reads the list")?,
            bucket,
            key: object,
        })
    }

    /// The lists that a rule permits, which must exist.
    pub(super) fn lists_of_rule(
        &self,
        key: &str,
        names: &[String],
    ) -> Result<Vec<ListName>, ConfigError> {
        let names = names.iter().enumerate().map(|(at, name)| {
            let is_known = self.list.iter().any(|list| list.name == *name);
            let known: Vec<&str> = self.list.iter().map(|list| list.name.as_str()).collect();
            let name = name.parse().ok().filter(|_| is_known);
            name.ok_or_else(|| {
                let reason = format!("is no [[list]]; configured: {}", known.join(", "));
                ConfigError::value(format!("{key}[{at}]"), reason)
            })
        });
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn lists(text: &str) -> Result<Vec<RecipientList>, String> {
        let text = format!(
            "[mail]\nfrom = \"a@x.example\"\n[connections.a]\ndirectory = \"/srv/a\"\n[connections.b]\ndirectory = \"/srv/b\"\n{text}"
        );
        let config = Config::parse(&text, &Environment::default());
        let config = config?;
        config.check().map_err(|error| error.to_string())?;
        config.recipient_lists().map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_a_file_an_object_or_its_entries() {
        let read = lists(
            "[[list]]\nname = \"file\"\nsource = \"/srv/lists/a.CSV\"\non_bad_row = \"skip\"\n\
             [[list]]\nname = \"object\"\nsource = \"s3://lists/a/b.jsonl\"\nconnection = \"b\"\n\
             [[list]]\nname = \"inline\"\nrecipients = [\"a@x.example\", { address = \"b@x.example\", vars = { n = 1 } }]\n",
        );
        let read = read.unwrap();
        assert!(matches!(&read[0].source, ListSource::File(path) if path.ends_with("a.CSV")));
        assert_eq!(
            (read[0].format, read[0].on_bad_row),
            (ListFormat::Csv, OnBadRow::Skip)
        );
        let ListSource::Object { bucket, key, .. } = &read[1].source else {
            panic!("{:?}", read[1]);
        };
        assert_eq!((bucket.as_str(), key.as_str()), ("lists", "a/b.jsonl"));
        assert!(matches!(&read[2].source, ListSource::Entries(entries) if entries.len() == 2));
    }

    #[test]
    fn what_is_no_list_says_what_to_write() {
        for (text, wanted) in [
            (
                "[[list]]\nname = \"a b\"\nsource = \"/a.csv\"",
                "list[0].name holds the character",
            ),
            ("[[list]]\nname = \"a\"", "list[0].source is missing"),
            (
                "[[list]]\nname = \"a\"\nsource = \"/a.csv\"\nrecipients = [\"a@x.example\"]",
                "list[0].recipients stands beside `source`",
            ),
            (
                "[[list]]\nname = \"a\"\nsource = \"/a.xlsx\"",
                "list[0].format is missing",
            ),
            (
                "[[list]]\nname = \"a\"\nsource = \"s3://lists\"",
                "list[0].source is not an object",
            ),
            (
                "[[list]]\nname = \"a\"\nsource = \"s3://lists/a.csv\"",
                "list[0].connection is missing: name the connection that reads the list; configured: a, b",
            ),
            (
                "[[list]]\nname = \"a\"\nsource = \"/a.csv\"\n[[list]]\nname = \"a\"\nsource = \"/b.csv\"",
                "list[1].name is \"a\", as that of another list is",
            ),
            (
                "[[allow]]\nconnection = \"a\"\nbucket = \"reports\"\nlists = [\"b\"]\n[[list]]\nname = \"a\"\nsource = \"/a.csv\"",
                "allow[0].lists[0] is no [[list]]; configured: a",
            ),
        ] {
            let error = lists(text).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
