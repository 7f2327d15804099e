//! The configuration as it is in effect, with where each value is from.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::{Config, overrides};
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::mounted;

/// The column of the comments, where values are short enough.
const COMMENTS: usize = 48;

/// Where a value is from.
enum ValueOrigin<'a> {
    Default,
    File,
    Variable(&'a str),
}

/// The configuration as it is in effect. Written as text, it is TOML, of which each line has a comment that says where its value is
/// from.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ShownConfig {
    /// The file; none if variables alone configure.
    pub file: Option<PathBuf>,
    /// The keys with their values.
    pub values: Vec<ShownValue>,
}

/// A key of the configuration.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ShownValue {
    /// The key with its tables, such as `allow[0].bucket`.
    pub key: String,
    /// The value.
    #[schemars(with = "serde_json::Value")]
    pub value: Value,
    /// Where the value is from: `default`, `file` or the name of a variable.
    pub from: String,
    /// The header above the key, if it is the first of its table.
    #[serde(skip)]
    header: Option<String>,
    /// The key and its value in TOML.
    #[serde(skip)]
    line: String,
}

impl fmt::Display for ShownConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(path) => writeln!(f, "# The file is {}.", path.display())?,
            None => writeln!(f, "# There is no file.")?,
        }
        for value in &self.values {
            if let Some(header) = &value.header {
                write!(f, "\n{header}\n")?;
            }
            writeln!(f, "{:COMMENTS$} # {}", value.line, value.from)?;
        }
        Ok(())
    }
}

impl Config {
    /// The configuration with where each value is from. `changed` leaves out the defaults.
    ///
    /// Secrets are not part of a configuration, which names their files or variables. Parts of URLs that may be secret are masked.
    ///
    /// # Errors
    /// There is no configuration, or it cannot be used.
    pub fn shown(
        named: Option<&Path>,
        environment: &Environment,
        changed: bool,
    ) -> Result<ShownConfig, ConfigError> {
        let config = Self::load(named, environment)?;
        let path = Self::file(named);
        let text = path.as_deref().map_or(Ok(String::new()), |path| {
            mounted::read_text(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })
        })?;
        // The file was read before, and may have changed in between.
        let file: Table = toml::from_str(&text).unwrap_or_default();
        // A variable may set a list of tables, of which some keys have their defaults.
        let merged = overrides::lay_over(file.clone(), environment).unwrap_or_default();
        let variables = overrides::origins(environment);
        let origin = |path: &KeyPath| {
            let dotted = path.dotted();
            let is_set_by = |key: &str| {
                let rest = dotted.strip_prefix(key);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let variable = variables.iter().find(|(_, key)| is_set_by(key));
            match variable {
                Some((name, _)) if path.is_in(&merged) => ValueOrigin::Variable(name),
                None if path.is_in(&file) => ValueOrigin::File,
                Some(_) | None => ValueOrigin::Default,
            }
        };
        let table = toml::to_string(&config).expect("a configuration that was read can be written");
        Ok(ShownConfig {
            values: annotated(&table, origin, changed),
            file: path,
        })
    }
}

fn annotated<'a>(
    table: &str,
    origin: impl Fn(&KeyPath) -> ValueOrigin<'a>,
    changed: bool,
) -> Vec<ShownValue> {
    let (mut shown, mut section, mut header) = (Vec::new(), KeyPath::default(), None);
    for line in table.lines() {
        if let Some(names) = line
            .strip_prefix("[[")
            .and_then(|line| line.strip_suffix("]]"))
        {
            section = section.next_of(KeyPath::of(names));
            header = Some(line);
        } else if let Some(names) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = section.child(KeyPath::of(names));
            header = Some(line);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let path = section.with(key);
            let comment = match origin(&path) {
                ValueOrigin::Default if changed => continue,
                ValueOrigin::Default => "default",
                ValueOrigin::File => "file",
                ValueOrigin::Variable(name) => name,
            };
            let value = masked(&path.dotted(), value);
            let parsed: Option<Table> = toml::from_str(&format!("value = {value}")).ok();
            let parsed = parsed.and_then(|mut table| table.remove("value"));
            shown.push(ShownValue {
                key: path.spelled(),
                line: format!("{key} = {value}"),
                value: parsed.unwrap_or(Value::String(value)),
                from: comment.to_owned(),
                header: header.take().map(str::to_owned),
            });
        }
    }
    shown
}

/// A value without what may be secret: the path of the URL to which results are posted, as those of chat services are, and a
/// password in any URL.
fn masked(key: &str, value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let end = rest.find(['/', '?', '#', '"', '\'']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("****@{host}"),
        None => authority.to_owned(),
    };
    match key == "results.url" && path.len() > 1 {
        true => format!("{scheme}://{host}/****{}", &value[value.len() - 1..]),
        false => format!("{scheme}://{host}{path}"),
    }
}

/// The path of a key in tables and arrays of tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KeyPath(Vec<(String, Option<usize>)>);

impl KeyPath {
    /// The path of a header, such as `connections."reports.eu".cloudfront`.
    fn of(names: &str) -> Self {
        // A header with a key below it is a table of its own, so that the parser of TOML spells the names.
        let table: Option<Table> = toml::from_str(&format!("[{names}]")).ok();
        let (mut parts, mut inner) = (Vec::new(), table.unwrap_or_default());
        while let Some((name, Value::Table(next))) = inner.into_iter().next() {
            parts.push((name, None));
            inner = next;
        }
        Self(parts)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The next table of an array, after `self`.
    fn next_of(&self, mut array: Self) -> Self {
        let is_same = self.names().eq(array.names());
        let index = self.0.last().and_then(|(_, index)| *index);
        if let Some((_, last)) = array.0.last_mut() {
            *last = Some(index.filter(|_| is_same).map_or(0, |index| index + 1));
        }
        array
    }

    /// A table, which may be below a table of an array.
    fn child(&self, mut table: Self) -> Self {
        for (mine, above) in table.0.iter_mut().zip(&self.0) {
            if mine.0 != above.0 {
                break;
            }
            mine.1 = above.1;
        }
        table
    }

    fn with(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.extend(Self::of(key).0);
        path
    }

    fn dotted(&self) -> String {
        self.names().collect::<Vec<_>>().join(".")
    }

    /// The path with the numbers of tables in arrays, such as `allow[0].bucket`.
    fn spelled(&self) -> String {
        let parts = self.0.iter().map(|(name, index)| {
            let number = index.map_or_else(String::new, |index| format!("[{index}]"));
            format!("{name}{number}")
        });
        parts.collect::<Vec<_>>().join(".")
    }

    /// Whether a file sets the key.
    fn is_in(&self, file: &Table) -> bool {
        let Some(((last, _), sections)) = self.0.split_last() else {
            return false;
        };
        let mut table = file;
        for (name, index) in sections {
            let value = match (table.get(name), index) {
                (Some(Value::Array(tables)), Some(index)) => tables.get(*index),
                (value, _) => value,
            };
            let Some(Value::Table(inner)) = value else {
                return false;
            };
            table = inner;
        }
        table.contains_key(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_origin_and_nothing_secret_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = r#"
            state_dir = "/srv/state"
            [connections.reports]
            region = "eu-west-1"
            [connections.archive-2]
            endpoint_url = "https://s3.example"
            [mail.smtp]
            host = "mx.example"
            username = "me"
            [results]
            url = "https://hooks.example/services/T0/B0/secret"
            [[allow]]
            connection = "reports"
            bucket = "a"
            [[allow]]
            connection = "archive-2"
            bucket = "b"
            prefix = "x/"
        "#;
        std::fs::write(&path, text).unwrap();
        let environment = Environment::of([
            ("HANDOUT_MAIL__SMTP__HOST", "relay.example"),
            ("HANDOUT_MAIL__SMTP__PASSWORD", "hunter2"),
            ("HANDOUT_QUEUE__MAX_IN_FLIGHT", "3"),
        ]);
        let shown = Config::shown(Some(&path), &environment, true).unwrap();
        let bucket = shown
            .values
            .iter()
            .find(|shown| shown.value.as_str() == Some("b"));
        let bucket = bucket.map(|shown| (shown.key.as_str(), shown.from.as_str()));
        assert_eq!(bucket, Some(("allow[1].bucket", "file")));
        let shown = shown.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        let lines: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let expected = [
            "[connections.archive-2]",
            "endpoint_url = \"https://s3.example\" # file",
            "[mail.smtp]",
            "host = \"relay.example\" # HANDOUT_MAIL__SMTP__HOST",
            "username = \"me\" # file",
            "password_file = \"env:HANDOUT_MAIL__SMTP__PASSWORD\" # HANDOUT_MAIL__SMTP__PASSWORD",
            "url = \"https://hooks.example/****\" # file",
            "max_in_flight = 3 # HANDOUT_QUEUE__MAX_IN_FLIGHT",
            "prefix = \"x/\" # file",
        ];
        for line in expected {
            assert!(lines.iter().any(|found| found == line), "{line}: {shown}");
        }
        let count = |line: &str| lines.iter().filter(|found| *found == line).count();
        assert_eq!(count("[[allow]]"), 2);
        let prefixes = lines.iter().filter(|line| line.starts_with("prefix "));
        assert_eq!(prefixes.count(), 1, "{shown}");
        let all = Config::shown(Some(&path), &environment, false)
            .unwrap()
            .to_string();
        let parsed = toml::from_str::<Table>(&all.replace("/****", "/")).unwrap();
        assert!(Value::Table(parsed).try_into::<Config>().is_ok(), "{all}");
        assert!(
            all.contains("# default") && all.lines().count() > 100,
            "{all}"
        );
    }

    #[test]
    fn secrets_of_urls_are_masked() {
        let table = [
            (
                "results.url",
                "\"https://h.example/a?b\"",
                "\"https://h.example/****\"",
            ),
            (
                "results.url",
                "\"https://h.example\"",
                "\"https://h.example\"",
            ),
            (
                "results.url",
                "\"https://h.example?token=x\"",
                "\"https://h.example/****\"",
            ),
            (
                "queue.url",
                "\"https://sqs.example/1/jobs\"",
                "\"https://sqs.example/1/jobs\"",
            ),
            (
                "x.endpoint_url",
                "\"http://me:pw@h.example/\"",
                "\"http://****@h.example/\"",
            ),
            ("mail.from", "\"a@b.example\"", "\"a@b.example\""),
        ];
        for (key, value, expected) in table {
            assert_eq!(masked(key, value), expected);
        }
    }
}
