//! `[results]`: where the results of jobs are posted.

use presign::ServerUrl;

use super::ResultsConfig;
use super::load::is_private;
use crate::config_error::ConfigError;

impl ResultsConfig {
    /// The host of `results.url`, which logs may name: paths and queries of such URLs are often secrets.
    ///
    /// # Errors
    /// The URL is not one of a server, or it would send results in the clear.
    pub fn receiver(&self) -> Result<Option<String>, ConfigError> {
        const KEY: &str = "results.url";
        let Some(url) = &self.url else {
            return Ok(None);
        };
        // The parts after the host are the receiver's own.
        let server = url
            .split_once('?')
            .map_or(url.as_str(), |(server, _)| server);
        let is_plain = url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let server = ServerUrl::parse(server).ok().filter(|_| is_plain);
        let Some(server) = server else {
            let reason =
                "is no URL of a server: write one such as \"https://hooks.acme.example/handout\"";
            return Err(ConfigError::value(KEY, reason));
        };
        if !is_private(&server) {
            let reason = "would send results in the clear: use https, or http on this machine";
            return Err(ConfigError::value(KEY, reason));
        }
        Ok(Some(server.host().to_owned()))
    }
}
