//! Which authorities a relay's certificate must be signed by: the system's, and one more if the configuration names it.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;

use super::wire::Trust;
use crate::config::SmtpConfig;
use crate::config_error::ConfigError;

/// What a section of the configuration says about trust.
pub(super) fn trust(section: &str, config: &SmtpConfig) -> Result<Trust, ConfigError> {
    let name = ServerName::try_from(config.host.clone()).map_err(|_| {
        let reason = format!(
            "is {:?}, which is neither a host's name nor an address",
            config.host
        );
        ConfigError::value(format!("{section}.host"), reason)
    })?;
    let wrong = |error: rustls::Error| {
        ConfigError::value(
            format!("{section}.tls"),
            format!("cannot be set up: {error}"),
        )
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(roots(section, config)?, Arc::clone(&provider));
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .dangerous()
        // The system's own verifier. The method's name warns of other verifiers.
        .with_custom_certificate_verifier(Arc::new(verifier.map_err(wrong)?))
        .with_no_client_auth();
    Ok(Trust {
        config: Arc::new(client),
        name,
    })
}

fn roots(section: &str, config: &SmtpConfig) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(path) = &config.ca_file else {
        return Ok(Vec::new());
    };
    let pem = crate::pem::authorities(&format!("{section}.ca_file"), path)?;
    let roots = CertificateDer::pem_slice_iter(pem.as_bytes());
    // Each certificate was parsed a moment ago.
    Ok(roots.filter_map(Result::ok).collect())
}
