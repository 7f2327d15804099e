//! Builds the DKIM signers from `[[mail.dkim]]`.

use crate::config::{Config, DkimConfig, Secret};
use crate::config_error::ConfigError;
use crate::deliver::message::dkim::DkimSigner;
use crate::environment::Environment;

impl Config {
    /// The DKIM signers, one for each key.
    pub fn dkim_signers(&self, environment: &Environment) -> Result<Vec<DkimSigner>, ConfigError> {
        let keys = self.mail.dkim.iter().enumerate();
        keys.map(|(index, dkim)| self.dkim_signer(index, dkim, environment))
            .collect()
    }

    fn dkim_signer(
        &self,
        index: usize,
        dkim: &DkimConfig,
        environment: &Environment,
    ) -> Result<DkimSigner, ConfigError> {
        let key = format!("mail.dkim[{index}].key_file");
        let pem = Secret::read(&key, &dkim.key_file, environment)?;
        let domain = self.dkim_domain(index, dkim)?;
        DkimSigner::new(&domain, &dkim.selector, pem.expose()).map_err(|error| {
            ConfigError::value(
                key,
                format!("names {}, which {error}", dkim.key_file.display()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_its_file_or_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::default();
        let mut config = Config::default();
        config.mail.from = "reports@sender.example".to_owned();
        config.mail.dkim = vec![DkimConfig {
            domain: None,
            selector: "s1".to_owned(),
            key_file: dir.path().join("dkim-key"),
        }];
        std::fs::write(dir.path().join("dkim-key"), "no key\n").unwrap();
        let error = config.dkim_signers(&environment).unwrap_err();
        let said = error
            .to_string()
            .replace(&*dir.path().to_string_lossy(), "DIR");
        insta::assert_snapshot!(said, @"the configuration's mail.dkim[0].key_file names DIR/dkim-key, which has no private key in it: it must be PEM, as `openssl genpkey -algorithm ed25519` and `openssl genpkey -algorithm rsa` write it");
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcX\n-----END PRIVATE KEY-----\n";
        std::fs::write(dir.path().join("dkim-key"), pem).unwrap();
        let signers = config.dkim_signers(&environment).unwrap();
        assert_eq!(signers[0].record_name(), "s1._domainkey.sender.example");
    }
}
