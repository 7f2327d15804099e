//! The environment, read once. An empty variable counts as not set.
//!
//! Compose files, Helm charts and unit files write `AWS_ENDPOINT_URL=` for "not set". The rule holds for every variable,
//! including the SDK's: the SDK gets this environment in place of the process's.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_types::os_shim_internal::Env;

/// The state directory of a service, and of commands that root runs.
pub(crate) const SYSTEM_STATE: &str = "/var/lib/handout";

/// The environment, read once: every variable that has a value.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The names of variables whose values are not UTF-8.
    unreadable: Vec<String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// Reads the process's environment.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => environment.set(&name, &value),
                Err(_) => environment.unreadable.push(name),
            }
        }
        environment
    }

    /// A made-up environment.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            environment.set(name, value);
        }
        environment
    }

    fn set(&mut self, name: &str, value: &str) {
        if !value.trim().is_empty() {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// A variable's value, which is never empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Every variable that has a value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.variables.iter();
        variables.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names of the variables whose values cannot be read.
    pub(crate) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The same for the AWS SDK.
    pub(crate) fn for_sdk(&self) -> Env {
        let variables = self.variables.clone();
        Env::from(variables.into_iter().collect::<HashMap<_, _>>())
    }

    /// The state directory of a user's own programs: `~/.local/state/handout`.
    /// <https://specifications.freedesktop.org/basedir-spec/latest/>
    pub fn user_state_dir(&self) -> Option<PathBuf> {
        let absolute = |name| {
            let path = self.get(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let base =
            absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        Some(base?.join("handout"))
    }

    /// The default of `state_dir`.
    ///
    /// `/var/lib/handout` is used by root, by a service whose `StateDirectory` it is, and by the user that owns it: an existing
    /// installation keeps its place. Any other user gets a directory below the user's own state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        let user = rustix::process::geteuid();
        let owner = std::fs::metadata(SYSTEM_STATE).ok();
        let is_ours = owner.is_some_and(|owner| owner.uid() == user.as_raw());
        self.state_dir_of(user.is_root() || is_ours)
    }

    fn state_dir_of(&self, is_system: bool) -> PathBuf {
        // systemd names several directories with colons between them; the unit has one.
        // https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#RuntimeDirectory=
        let of_service = self.get("STATE_DIRECTORY");
        if let Some(first) = of_service.and_then(|all| all.split(':').next()) {
            return PathBuf::from(first);
        }
        let of_user = (!is_system).then(|| self.user_state_dir()).flatten();
        of_user.unwrap_or_else(|| PathBuf::from(SYSTEM_STATE))
    }

    /// The file with that name among systemd's credentials, if there is one.
    /// <https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#LoadCredential=ID:PATH>
    pub(crate) fn credential(&self, name: &Path) -> Option<PathBuf> {
        let directory = self.get("CREDENTIALS_DIRECTORY")?;
        Some(Path::new(directory).join(name)).filter(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_an_unset_one_for_the_sdk_too() {
        let environment = Environment::of([
            ("AWS_ENDPOINT_URL_SQS", ""),
            ("AWS_REGION", " "),
            ("HOME", "/home/ann"),
        ]);
        assert_eq!(environment.get("AWS_ENDPOINT_URL_SQS"), None);
        assert_eq!(environment.get("AWS_REGION"), None);
        let sdk = environment.for_sdk();
        assert!(sdk.get("AWS_ENDPOINT_URL_SQS").is_err() && sdk.get("AWS_REGION").is_err());
        assert_eq!(sdk.get("HOME").unwrap(), "/home/ann");
    }

    #[test]
    fn the_state_of_a_user_is_below_the_home_and_that_of_a_service_where_systemd_says() {
        let home = ("HOME", "/home/ann");
        let state = |environment: &Environment, is_system| {
            let dir = environment.state_dir_of(is_system);
            dir.to_string_lossy().into_owned()
        };
        let ann = Environment::of([home]);
        assert_eq!(state(&ann, false), "/home/ann/.local/state/handout");
        assert_eq!(state(&ann, true), "/var/lib/handout");
        let xdg = Environment::of([home, ("XDG_STATE_HOME", "/data/state")]);
        assert_eq!(state(&xdg, false), "/data/state/handout");
        let service = Environment::of([home, ("STATE_DIRECTORY", "/var/lib/reports:/var/lib/x")]);
        assert_eq!(state(&service, false), "/var/lib/reports");
        assert_eq!(state(&service, true), "/var/lib/reports");
        // Without a home directory, there is no other place.
        assert_eq!(state(&Environment::default(), false), "/var/lib/handout");
        assert_eq!(
            state(&Environment::of([("HOME", "relative")]), false),
            "/var/lib/handout"
        );
    }
}
