//! Compares the configuration in use with a newly read one, including the contents of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};
use toml::Value;

use crate::config::{Config, PortalConfig};
use crate::mounted;

/// Keys that are only read at start: changes to them take effect after a restart.
const OF_THE_START: [&str; 14] = [
    "state_dir",
    "secret_key_file",
    "queue",
    "ledger",
    "audit",
    "results",
    "http",
    "traces",
    "embedded",
    "intake",
    "feedback",
    "portal.listen",
    "portal.tls_cert_file",
    "portal.tls_key_file",
];

/// Lists of tables, which are reported as a whole.
const LISTS: [&str; 6] = [
    "allow",
    "on_event",
    "schedule",
    "list",
    "mail.dkim",
    "portal.oidc",
];

/// How many files are read at once.
const READ_AT_ONCE: usize = 8;

/// A configuration as read: each key with its value, and each file that a key names with the digest of its contents.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigReading {
    values: BTreeMap<String, String>,
    files: BTreeMap<String, Option<[u8; 32]>>,
}

impl ConfigReading {
    /// Reads the files of both configurations on a blocking thread: the worker receives messages meanwhile.
    pub(super) async fn of_both(new: &Config, mixed: &Config) -> (Self, Self) {
        let (new, mixed) = (new.clone(), mixed.clone());
        let reading = move || (Self::of(&new), Self::of(&mixed));
        let read = tokio::task::spawn_blocking(reading).await;
        read.expect("reading files does not panic")
    }

    /// Reads the files of a configuration on a blocking thread: signals are handled meanwhile.
    pub(super) async fn aside(config: &Config) -> Self {
        let config = config.clone();
        let read = tokio::task::spawn_blocking(move || Self::of(&config)).await;
        read.expect("reading files does not panic")
    }

    /// Reads the files that the configuration names. Their contents are not kept.
    pub(super) fn of(config: &Config) -> Self {
        let mut reading = Self::default();
        if let Ok(whole) = Value::try_from(config) {
            flatten(String::new(), &whole, &mut reading.values);
        }
        let named = reading.values.iter();
        let named = named.filter(|(key, _)| key.ends_with("_file") || *key == "templates.dir");
        let named: Vec<_> = named.collect();
        // Several at once: each file of a mount that does not respond takes the whole deadline.
        for some in named.chunks(READ_AT_ONCE) {
            let read: Vec<_> = std::thread::scope(|scope| {
                let reading = |(_, path): &(_, &String)| {
                    let path = Path::new(path.as_str()).to_owned();
                    scope.spawn(move || contents(&path))
                };
                let begun: Vec<_> = some.iter().map(reading).collect();
                begun
                    .into_iter()
                    .map(|read| read.join().expect("reading files does not panic"))
                    .collect()
            });
            let keys = some.iter().map(|(key, _)| (*key).clone());
            reading.files.extend(keys.zip(read));
        }
        reading
    }
}

/// Flattens a section to `mail.smtp.host` and its value, for each value.
fn flatten(name: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let below = match name.as_str() {
                    "" => key.clone(),
                    name => format!("{name}.{key}"),
                };
                flatten(below, value, into);
            }
        }
        Value::Array(values) if values.iter().all(Value::is_table) => {
            for (index, value) in values.iter().enumerate() {
                flatten(format!("{name}[{index}]"), value, into);
            }
        }
        Value::String(text) => drop(into.insert(name, text.clone())),
        other => drop(into.insert(name, other.to_string())),
    }
}

/// The digest of a file, or of all files below a directory with their names; `None` if they cannot be read, or not in time.
fn contents(path: &Path) -> Option<[u8; 32]> {
    if !mounted::is_dir(path).ok()? {
        return mounted::digest(path).ok();
    }
    let mut digest = Sha256::new();
    for file in mounted::files_below(path).ok()? {
        digest.update(file.as_os_str().as_encoded_bytes());
        digest.update(mounted::digest(&file).ok()?);
    }
    Some(digest.finalize().into())
}

/// The differences between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    keys: BTreeSet<String>,
    /// The changes that took effect, in words for the log.
    pub taken_over: Vec<String>,
    /// The changes that take effect after a restart.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// Compares the configuration in use with a new one.
    pub(super) fn between(old: &ConfigReading, new: &ConfigReading) -> Self {
        let mut words = BTreeMap::new();
        let mut keys = BTreeSet::new();
        for key in differing(&old.values, &new.values) {
            let list = LISTS.into_iter().find(|list| is_of(list, &key));
            let name = list.map_or_else(|| key.clone(), |list| format!("[[{list}]]"));
            let text = match list.map(|list| (count(old, list), count(new, list))) {
                Some((before, now)) if before != now => format!("{name} ({now}, were {before})"),
                Some(_) | None => name.clone(),
            };
            words.insert(name, (key.clone(), text));
            keys.insert(key);
        }
        let mut read_anew = Vec::new();
        for key in differing(&old.files, &new.files) {
            let text = format!("the contents of {key}");
            match words.contains_key(&key) {
                true => {}
                false if is_read_anew(&key) => read_anew.push(text),
                false => drop(words.insert(key.clone(), (key.clone(), text))),
            }
            keys.insert(key);
        }
        let (needs_restart, taken_over): (Vec<_>, Vec<_>) =
            words.into_values().partition(|(key, _)| needs_restart(key));
        let texts = |words: Vec<(String, String)>| words.into_iter().map(|(_, text)| text);
        Self {
            keys,
            taken_over: texts(taken_over).chain(read_anew).collect(),
            needs_restart: texts(needs_restart).collect(),
        }
    }

    /// Whether nothing of a section differs but this key of it.
    pub(super) fn touch_at_most(&self, section: &str, key: &str) -> bool {
        let but = format!("{section}.{key}");
        let mut keys = self.keys.iter();
        keys.all(|key| *key == but || !is_of(section, key))
    }

    /// Whether a section, or a key of that name, differs.
    pub(super) fn touch(&self, section: &str) -> bool {
        self.keys.iter().any(|key| is_of(section, key))
    }
}

/// Whether a key is a section, or in it.
fn is_of(section: &str, key: &str) -> bool {
    let rest = key.strip_prefix(section);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn needs_restart(key: &str) -> bool {
    let is_directory = key.starts_with("connections.") && key.ends_with(".directory");
    is_directory || OF_THE_START.iter().any(|section| is_of(section, key))
}

/// Whether a file is read for each new connection, even by services that are only opened at start.
fn is_read_anew(key: &str) -> bool {
    key.ends_with(".ca_file") || key.starts_with("portal.tls_") || is_of_the_intake(key)
}

/// The intake reads its files again by itself.
fn is_of_the_intake(key: &str) -> bool {
    key.starts_with("intake.") && key.ends_with("_file")
}

fn differing<V: PartialEq>(
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
) -> BTreeSet<String> {
    let all = old.keys().chain(new.keys());
    let differing = all.filter(|key| old.get(*key) != new.get(*key));
    differing.cloned().collect()
}

/// How many tables a list has.
fn count(reading: &ConfigReading, list: &str) -> usize {
    let keys = reading.values.keys().filter(|key| is_of(list, key));
    let tables = keys.filter_map(|key| key[list.len()..].split(']').next());
    tables.collect::<BTreeSet<_>>().len()
}

/// A new configuration with the old values of all keys that are only read at start.
pub(super) fn with_what_stays(new: &Config, old: &Config) -> Config {
    let mut mixed = Config {
        state_dir: old.state_dir.clone(),
        secret_key_file: old.secret_key_file.clone(),
        queue: old.queue.clone(),
        ledger: old.ledger.clone(),
        audit: old.audit.clone(),
        results: old.results.clone(),
        http: old.http.clone(),
        embedded: old.embedded.clone(),
        intake: old.intake.clone(),
        feedback: old.feedback.clone(),
        portal: PortalConfig {
            listen: old.portal.listen,
            tls_cert_file: old.portal.tls_cert_file.clone(),
            tls_key_file: old.portal.tls_key_file.clone(),
            ..new.portal.clone()
        },
        ..new.clone()
    };
    let is_served = |config: &Config, name: &str| {
        let connection = config.connections.get(name);
        connection.is_some_and(|connection| connection.directory.is_some())
    };
    mixed
        .connections
        .retain(|name, _| !is_served(new, name) && !is_served(old, name));
    let served = old
        .connections
        .iter()
        .filter(|(name, _)| is_served(old, name));
    mixed
        .connections
        .extend(served.map(|(name, connection)| (name.clone(), connection.clone())));
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> ConfigReading {
        let environment = crate::environment::Environment::default();
        ConfigReading::of(&Config::parse(text, &environment).unwrap())
    }

    #[test]
    fn what_changed_is_named_by_its_key_and_what_needs_a_restart_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "one").unwrap();
        let relay = format!(
            "username = \"u\"\npassword_file = \"{}\"\n",
            secret.display()
        );
        let rule = "[[allow]]\nconnection = \"local\"\nbucket = \"reports\"\n";
        let old = reading(&format!("[mail.smtp]\n{relay}{rule}"));
        std::fs::write(&secret, "two").unwrap();
        let new = reading(&format!(
            "state_dir = \"/elsewhere\"\n[queue]\nmax_in_flight = 3\n[links]\nexpires_in = \"1h\"\n[connections.local]\ndirectory = \"/new\"\n[mail.smtp]\nport = 25\n{relay}{rule}{rule}"
        ));
        let changes = Changes::between(&old, &new);
        insta::assert_snapshot!(changes.taken_over.join(", "), @"[[allow]] (2, were 1), links.expires_in, the contents of mail.smtp.password_file, mail.smtp.port");
        insta::assert_snapshot!(changes.needs_restart.join(", "), @"connections.local.directory, queue.max_in_flight, state_dir");
        assert!(changes.touch("mail.smtp") && changes.touch("links.expires_in"));
        assert!(!changes.touch("mail.relays") && !changes.touch("links.expires"));
        assert!(
            changes.touch_at_most("links", "expires_in")
                && changes.touch_at_most("mail.relays", "rate")
        );
        assert!(
            !changes.touch_at_most("mail.smtp", "port") && !changes.touch_at_most("links", "rate")
        );
        assert_eq!(Changes::between(&new, &new), Changes::default());

        // Files that are read for each connection need no restart, unless the configuration names another file.
        let queue = |file: &str| reading(&format!("[queue]\nca_file = {file:?}\n"));
        let (one, other) = (&*secret.to_string_lossy(), "/other");
        let before = queue(one);
        std::fs::write(&secret, "three").unwrap();
        let told = |old: &ConfigReading, new: &ConfigReading| {
            let changes = Changes::between(old, new);
            (
                changes.taken_over.join(", "),
                changes.needs_restart.join(", "),
            )
        };
        let contents = "the contents of queue.ca_file".to_owned();
        assert_eq!(told(&before, &queue(one)), (contents, String::new()));
        let restart = "queue.ca_file".to_owned();
        assert_eq!(told(&before, &queue(other)), (String::new(), restart));
    }
}
