//! Resolves the paths of the configuration.
//!
//! A relative path is relative to the directory of the configuration file, regardless of the working directory and of whether the
//! file or a variable sets it. A secret's bare file name is first looked up among systemd's credentials, and `env:NAME` is the value
//! of the environment variable `NAME`.

use std::path::{Path, PathBuf};

use super::Config;
use super::overrides::SECRET_IN_VARIABLE;
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::mounted;

/// A path, its kind, and the key that names it.
type NamedPath<'a> = (String, PathKind, &'a mut PathBuf);

/// The kind of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathKind {
    /// A file with a secret, which may be one of systemd's credentials.
    Secret,
    /// Any other path: a directory, a program, a certificate, a job.
    Plain,
}

impl Config {
    /// Makes every path absolute. `base` is the directory of the configuration file.
    pub(super) fn resolve_paths(
        &mut self,
        base: &Path,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        for (key, kind, path) in self.paths() {
            if kind == PathKind::Secret && secret_in_variable(&key, path, environment)? {
                continue;
            }
            if path.as_os_str().is_empty() {
                let reason = "is empty: write a path, or leave the key out";
                return Err(ConfigError::value(key, reason));
            }
            if path.to_string_lossy().starts_with('~') {
                let reason = format!(
                    "is {}, which only a shell expands: write the path in full",
                    path.display()
                );
                return Err(ConfigError::value(key, reason));
            }
            let may_be_credential = kind == PathKind::Secret && path.components().count() == 1;
            let credential = may_be_credential.then(|| environment.credential(path));
            *path = credential.flatten().unwrap_or_else(|| base.join(&*path));
        }
        Ok(())
    }

    /// Each file with a secret, and the key that names it.
    pub fn secret_files(&self) -> Vec<(String, PathBuf)> {
        let mut config = self.clone();
        config.secret_key_file = Some(self.secret_key_file());
        let paths = config.paths().into_iter();
        let secrets = paths.filter(|(_, kind, _)| *kind == PathKind::Secret);
        secrets.map(|(key, _, path)| (key, path.clone())).collect()
    }

    /// Every configured path, and the key that names it.
    fn paths(&mut self) -> Vec<NamedPath<'_>> {
        let mut all = vec![secret("secret_key_file", &mut self.secret_key_file)];
        all.push(plain("state_dir", &mut self.state_dir));
        for (name, connection) in &mut self.connections {
            let key = |key: &str| format!("connections.{name}.{key}");
            let distribution = connection.cloudfront.as_mut();
            let distribution = distribution.map(|distribution| &mut distribution.private_key_file);
            all.extend([
                plain(key("directory"), &mut connection.directory),
                plain(key("ca_file"), &mut connection.ca_file),
                secret(
                    key("secret_access_key_file"),
                    &mut connection.secret_access_key_file,
                ),
                secret(
                    key("session_token_file"),
                    &mut connection.session_token_file,
                ),
                secret(key("cloudfront.private_key_file"), distribution),
            ]);
        }
        let relays = self.mail.relays.iter_mut();
        let relays = relays.map(|(name, relay)| (format!("mail.relays.{name}"), relay));
        for (section, relay) in relays.chain([("mail.smtp".to_owned(), &mut self.mail.smtp)]) {
            let key = |key: &str| format!("{section}.{key}");
            all.push(secret(key("password_file"), &mut relay.password_file));
            all.push(secret(key("token_file"), &mut relay.token_file));
            all.push(plain(key("token_cmd"), &mut relay.token_cmd));
            all.push(plain(key("ca_file"), &mut relay.ca_file));
        }
        for (index, dkim) in self.mail.dkim.iter_mut().enumerate() {
            let key = format!("mail.dkim[{index}].key_file");
            all.push(secret(key, &mut dkim.key_file));
        }
        for (index, issuer) in self.portal.oidc.iter_mut().enumerate() {
            let key = |key: &str| format!("portal.oidc[{index}].{key}");
            all.push(secret(
                key("client_secret_file"),
                &mut issuer.client_secret_file,
            ));
            all.push(plain(key("ca_file"), &mut issuer.ca_file));
        }
        for (index, rule) in self.on_event.iter_mut().enumerate() {
            let key = format!("on_event[{index}].job_file");
            all.push(plain(key, &mut rule.job_file));
        }
        for (index, schedule) in self.schedule.iter_mut().enumerate() {
            let key = format!("schedule[{index}].job_file");
            all.push(plain(key, &mut schedule.job_file));
        }
        for (index, list) in self.list.iter_mut().enumerate() {
            let source = list.source.as_mut();
            let file = source.filter(|source| !source.starts_with("s3:"));
            all.push(plain(format!("list[{index}].source"), file));
        }
        all.extend([
            plain("queue.ca_file", &mut self.queue.ca_file),
            plain("results.ca_file", &mut self.results.ca_file),
            plain("traces.ca_file", &mut self.traces.ca_file),
            plain("feedback.ca_file", &mut self.feedback.ca_file),
            plain("mail.outbox_dir", &mut self.mail.outbox_dir),
            plain("brand.logo_file", &mut self.brand.logo_file),
            plain("ledger.resolve_cmd", &mut self.ledger.resolve_cmd),
            plain("audit.dir", &mut self.audit.dir),
            plain("embedded.access_log", &mut self.embedded.access_log),
            secret(
                "audit.checkpoint_key_file",
                &mut self.audit.checkpoint_key_file,
            ),
            plain("results.file", &mut self.results.file),
            secret("results.secret_file", &mut self.results.secret_file),
            plain("templates.dir", &mut self.templates.dir),
            secret("intake.token_file", &mut self.intake.token_file),
            plain("intake.tls_cert_file", &mut self.intake.tls_cert_file),
            secret("intake.tls_key_file", &mut self.intake.tls_key_file),
            plain("portal.tls_cert_file", &mut self.portal.tls_cert_file),
            secret("portal.tls_key_file", &mut self.portal.tls_key_file),
        ]);
        all.into_iter().flatten().collect()
    }
}

/// Whether a variable has the secret itself; the file's readers find it then.
fn secret_in_variable(
    key: &str,
    path: &Path,
    environment: &Environment,
) -> Result<bool, ConfigError> {
    let name = path
        .to_str()
        .and_then(|path| path.strip_prefix(SECRET_IN_VARIABLE));
    let Some(name) = name else { return Ok(false) };
    let Some(secret) = environment.get(name) else {
        let reason = format!("names the environment variable {name}, which is not set");
        return Err(ConfigError::value(key, reason));
    };
    mounted::give(path, secret);
    Ok(true)
}

fn secret<'a>(
    key: impl Into<String>,
    path: impl Into<Option<&'a mut PathBuf>>,
) -> Option<NamedPath<'a>> {
    Some((key.into(), PathKind::Secret, path.into()?))
}

fn plain<'a>(
    key: impl Into<String>,
    path: impl Into<Option<&'a mut PathBuf>>,
) -> Option<NamedPath<'a>> {
    Some((key.into(), PathKind::Plain, path.into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration that sets every path, each to `marker-<number>/file`, and each secret to `marker-<number>`.
    const EVERY_PATH: &str = r#"
        state_dir = "marker-1/state"
        secret_key_file = "marker-2"
        [connections.local]
        directory = "./marker-3/buckets"
        [queue]
        ca_file = "marker-19/ca.pem"
        [connections.fixed]
        ca_file = "marker-20/ca.pem"
        access_key_id = "AKIA"
        secret_access_key_file = "marker-4"
        session_token_file = "marker-5"
        [connections.fixed.cloudfront]
        domain = "d111111abcdef8.cloudfront.net"
        key_pair_id = "K1"
        private_key_file = "marker-6"
        [mail]
        outbox_dir = "../marker-7/outbox"
        [mail.smtp]
        token_file = "marker-24"
        token_cmd = "marker-25/token"
        password_file = "marker-8"
        ca_file = "marker-9/ca.pem"
        [mail.relays.bulk]
        token_file = "marker-22"
        token_cmd = "marker-23/token"
        password_file = "marker-10"
        ca_file = "marker-11/ca.pem"
        [[mail.dkim]]
        selector = "s1"
        key_file = "marker-12"
        [ledger]
        resolve_cmd = "marker-13/resolve"
        [audit]
        dir = "marker-14/audit"
        checkpoint_key_file = "marker-15"
        [results]
        file = "marker-16/results.jsonl"
        secret_file = "marker-30"
        ca_file = "marker-21/ca.pem"
        [traces]
        ca_file = "marker-35/ca.pem"
        [brand]
        logo_file = "marker-30/logo.png"
        [embedded]
        access_log = "marker-31/access"
        [templates]
        dir = "marker-17/templates"
        [intake]
        token_file = "marker-32"
        tls_cert_file = "marker-33/intake.pem"
        tls_key_file = "marker-34"
        [portal]
        tls_cert_file = "marker-26/portal.pem"
        tls_key_file = "marker-27"
        [[portal.oidc]]
        name = "staff"
        issuer = "https://login.acme.example"
        client_id = "handout"
        client_secret_file = "marker-28"
        domains = ["acme.example"]
        ca_file = "marker-29/ca.pem"
        [[on_event]]
        bucket = "uploads"
        job = "marker-18/job.json"
    "#;

    fn resolved(text: &str, environment: &Environment) -> Result<Config, ConfigError> {
        let mut config = Config::parse(text, environment).unwrap();
        config.resolve_paths(Path::new("/etc/handout"), environment)?;
        Ok(config)
    }

    /// Each line of a configuration with a marker in it.
    fn marked(config: &Config) -> Vec<String> {
        let text = toml::to_string(config).unwrap();
        let lines = text.lines().filter(|line| line.contains("marker-"));
        lines.map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_relative_path_is_beside_the_configuration_file_whatever_key_it_has() {
        let config = resolved(EVERY_PATH, &Environment::default()).unwrap();
        let lines = marked(&config);
        assert_eq!(lines.len(), EVERY_PATH.matches("marker-").count());
        for line in lines {
            assert!(line.contains(r#" = "/etc/handout/"#), "{line}");
        }
        // Absolute paths are unchanged.
        let again = resolved(&toml::to_string(&config).unwrap(), &Environment::default());
        assert_eq!(again.unwrap(), config);
    }

    /// A new key that is missing in `paths` would be relative to the working directory.
    #[test]
    fn every_field_that_is_a_path_is_among_them() {
        let source = [
            include_str!("../config.rs"),
            include_str!("brand.rs"),
            include_str!("intake.rs"),
            include_str!("portal.rs"),
        ];
        let fields: Vec<&str> = source
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "))
            .filter(|(_, kind)| kind.contains("PathBuf") && kind.ends_with(','))
            .map(|(field, _)| field)
            .collect();
        let mut config = Config::parse(EVERY_PATH, &Environment::default()).unwrap();
        let paths = config.paths();
        let keys: Vec<&str> = paths
            .iter()
            .filter(|(key, ..)| !key.starts_with("mail.relays."))
            .filter_map(|(key, ..)| key.rsplit('.').next())
            .collect();
        let sorted = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(sorted(fields), sorted(keys));
    }

    #[test]
    fn a_secret_with_a_bare_name_is_taken_from_the_credentials_of_systemd_first() {
        let credentials = tempfile::tempdir().unwrap();
        let directory = credentials.path().to_string_lossy().into_owned();
        for number in 1..=34 {
            std::fs::write(credentials.path().join(format!("marker-{number}")), "x").unwrap();
        }
        let environment = Environment::of([("CREDENTIALS_DIRECTORY", &directory)]);
        let config = resolved(EVERY_PATH, &environment).unwrap();
        for line in marked(&config) {
            let is_secret = line.contains("key_file")
                || line.contains("client_secret_file")
                || line.contains("password_file")
                || line.starts_with("secret_file")
                || line.contains("token_file");
            assert_eq!(is_secret, line.contains(&directory), "{line}");
        }
        assert_eq!(config.secret_files().len(), 15);
        // If the credential does not exist, the file beside the configuration is used; a path with a folder is not a credential's
        // name.
        let text = "[mail.smtp]\npassword_file = \"other\"\n[audit]\ncheckpoint_key_file = \"./marker-1\"\n";
        let config = resolved(text, &environment).unwrap();
        let beside = config.mail.smtp.password_file.unwrap();
        assert_eq!(beside, Path::new("/etc/handout/other"));
        let in_folder = config.audit.checkpoint_key_file.unwrap();
        assert_eq!(in_folder, Path::new("/etc/handout/marker-1"));
    }

    #[test]
    fn a_path_that_is_none_is_refused_with_its_key() {
        let said = |text| {
            resolved(text, &Environment::default())
                .unwrap_err()
                .to_string()
        };
        let table = [
            said("[audit]\ndir = \"\""),
            said("[mail.smtp]\npassword_file = \"\""),
            said("state_dir = \"~/handout\""),
            said("[connections.x]\naccess_key_id = \"A\"\nsecret_access_key_file = \"~ann/key\""),
        ];
        insta::assert_snapshot!(table.join("\n"), @r#"
        the configuration's audit.dir is empty: write a path, or leave the key out
        the configuration's mail.smtp.password_file is empty: write a path, or leave the key out
        the configuration's state_dir is ~/handout, which only a shell expands: write the path in full
        the configuration's connections.x.secret_access_key_file is ~ann/key, which only a shell expands: write the path in full
        "#);
    }
}
