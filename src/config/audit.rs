//! Validation of `[audit]`.

use super::Config;
use crate::config_error::ConfigError;

/// The minimum segment size: smaller segments would produce too many files in a busy log.
const MIN_ROTATE_SIZE: u64 = 1_000_000;

impl Config {
    pub(super) fn check_audit(&self) -> Result<(), ConfigError> {
        match self.audit.rotate_size.as_bytes() {
            0..MIN_ROTATE_SIZE => Err(ConfigError::value(
                "audit.rotate_size",
                format!("is {}: it must be at least 1MB", self.audit.rotate_size),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_not_tiny() {
        let mut config = Config::default();
        config.audit.rotate_size = "10KB".parse().unwrap();
        let error = config.check_audit().unwrap_err().to_string();
        assert_eq!(
            error,
            "the configuration's audit.rotate_size is 10KB: it must be at least 1MB"
        );
    }
}
