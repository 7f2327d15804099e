//! `[traces]`: where the spans of jobs are sent.

use presign::ServerUrl;

use super::TracesConfig;
use super::load::is_private;
use crate::config_error::ConfigError;
use crate::environment::Environment;

/// The key.
const KEY: &str = "traces.url";

/// The variables that name a receiver where the key does not: the URL of spans, and the URL to which `/v1/traces` is added.
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp>
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The variable that turns the export off, with the value `true`.
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// A receiver of spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceReceiver {
    /// The URL to which spans are posted.
    pub url: String,
    /// Whether what is posted cannot be read on its way: HTTPS, or a receiver on this machine.
    pub is_private: bool,
}

impl TracesConfig {
    /// The receiver that the configuration or the environment names.
    ///
    /// # Errors
    /// The URL is not one of a server, or this program cannot export spans and `traces.url` is set.
    pub fn receiver(
        &self,
        environment: &Environment,
    ) -> Result<Option<TraceReceiver>, ConfigError> {
        self.check()?;
        let is_disabled = environment
            .get(DISABLED)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        // An environment may be meant for all programs of a machine, also for those that cannot export.
        if is_disabled || cfg!(not(feature = "otlp")) {
            return Ok(None);
        }
        if let Some(url) = &self.url {
            return Ok(read(url));
        }
        let named = environment.get(TRACES_ENDPOINT).map(ToOwned::to_owned);
        let base = || {
            let base = environment.get(ENDPOINT)?;
            Some(format!("{}/v1/traces", base.trim_end_matches('/')))
        };
        let Some(url) = named.or_else(base) else {
            return Ok(None);
        };
        match read(&url) {
            None => Err(ConfigError::Variables {
                reason: format!(
                    "{TRACES_ENDPOINT} or {ENDPOINT} is no URL of a server: write one such as \"http://127.0.0.1:4318\""
                ),
            }),
            receiver => Ok(receiver),
        }
    }

    /// Checks the key.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Some(url) = &self.url else {
            return Ok(());
        };
        if cfg!(not(feature = "otlp")) {
            let reason = "needs a program that was built with `--features otlp`: remove the key, or build one";
            return Err(ConfigError::value(KEY, reason));
        }
        match read(url) {
            Some(_) => Ok(()),
            None => {
                let reason =
                    "is no URL of a server: write one such as \"http://127.0.0.1:4318/v1/traces\"";
                Err(ConfigError::value(KEY, reason))
            }
        }
    }
}

/// The receiver of a URL, which may be a path of its server.
fn read(url: &str) -> Option<TraceReceiver> {
    let is_plain = url
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let server = url.split_once('?').map_or(url, |(server, _)| server);
    let server = ServerUrl::parse(server).ok().filter(|_| is_plain)?;
    Some(TraceReceiver {
        url: url.to_owned(),
        is_private: is_private(&server),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(key: Option<&str>, environment: &Environment) -> Option<String> {
        let config = TracesConfig {
            url: key.map(ToOwned::to_owned),
            ca_file: None,
        };
        let receiver = config.receiver(environment).unwrap();
        receiver.map(|receiver| receiver.url)
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn the_key_stands_above_the_variables() {
        let both = Environment::of([
            (ENDPOINT, "http://a:4318/"),
            (TRACES_ENDPOINT, "http://b/x"),
        ]);
        assert_eq!(
            url(Some("http://c/y"), &both).as_deref(),
            Some("http://c/y")
        );
        assert_eq!(url(None, &both).as_deref(), Some("http://b/x"));
        let base = Environment::of([(ENDPOINT, "http://a:4318/")]);
        assert_eq!(url(None, &base).as_deref(), Some("http://a:4318/v1/traces"));
        let off = Environment::of([(ENDPOINT, "http://a:4318"), (DISABLED, "TRUE")]);
        assert_eq!(url(Some("http://c/y"), &off), None);
        assert_eq!(url(None, &Environment::default()), None);
        let wrong = Environment::of([(ENDPOINT, "a:4318")]);
        let refused = TracesConfig::default().receiver(&wrong).unwrap_err();
        assert!(refused.to_string().contains(ENDPOINT), "{refused}");
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn a_program_that_cannot_export_says_so_for_the_key_alone() {
        let environment = Environment::of([(ENDPOINT, "http://a:4318")]);
        assert_eq!(url(None, &environment), None);
        let config = TracesConfig {
            url: Some("http://a:4318/v1/traces".to_owned()),
            ca_file: None,
        };
        let refused = config.receiver(&environment).unwrap_err().to_string();
        assert!(
            refused.contains("traces.url") && refused.contains("--features otlp"),
            "{refused}"
        );
    }
}
