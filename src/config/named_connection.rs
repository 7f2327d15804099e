//! The connection that a key of the configuration names.

use super::{Config, ConnectionConfig};
use crate::config_error::ConfigError;
use crate::job::ConnectionName;

impl Config {
    /// The connection of a name, as a command names it.
    ///
    /// # Errors
    /// The configuration has no connection of this name; the sentence has those that it has.
    pub fn connection(&self, name: &str) -> Result<&ConnectionConfig, ConfigError> {
        self.connections.get(name).ok_or_else(|| {
            let reason = format!(
                "have none named {name:?}; known: {}",
                self.connection_names()
            );
            ConfigError::value("connections", reason)
        })
    }

    /// The connection that the key `key` names, or the only one if it names none. `task` says what the connection does, for the error if
    /// there are several: "reads the list".
    pub(super) fn connection_or_only(
        &self,
        key: &str,
        named: Option<&str>,
        task: &str,
    ) -> Result<ConnectionName, ConfigError> {
        let mut names = self.connections.keys();
        match (named, names.next(), names.next()) {
            (Some(name), ..) => self.known_connection(key, name),
            (None, Some(only), None) => self.known_connection(key, only),
            (None, ..) => {
                let reason = format!(
                    "is missing: name the connection that {task}; configured: {}",
                    self.connection_names()
                );
                Err(ConfigError::value(key, reason))
            }
        }
    }

    /// The connection that the key `key` names.
    pub(super) fn known_connection(
        &self,
        key: &str,
        name: &str,
    ) -> Result<ConnectionName, ConfigError> {
        if !self.connections.contains_key(name) {
            let reason = format!(
                "is {name:?}, which is not a connection; configured: {}",
                self.connection_names()
            );
            return Err(ConfigError::value(key, reason));
        }
        name.parse().map_err(|error| ConfigError::value(key, error))
    }

    fn connection_names(&self) -> String {
        let names: Vec<&str> = self.connections.keys().map(String::as_str).collect();
        names.join(", ")
    }
}
