//! Builds the CloudFront signer from `[connections.NAME.cloudfront]`.

use crate::config::distribution::{origin_scope, said};
use crate::config::{CloudFrontConfig, Secret};
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::links::distribution::{Distribution, SignatureScope};
use presign::cloudfront::{CloudFrontError, CloudFrontSigner, DistributionDomain, PrivateKey};

/// Reads the key, and returns the distribution with its signer.
pub(crate) fn open(
    connection: &str,
    wanted: &CloudFrontConfig,
    environment: &Environment,
) -> Result<Distribution, ConfigError> {
    let origin_scope = origin_scope(connection, wanted)?;
    let field = format!("connections.{connection}.cloudfront.private_key_file");
    let pem = Secret::read(&field, &wanted.private_key_file, environment)?;
    let key = PrivateKey::from_pem(pem.expose()).map_err(|error| {
        let file = wanted.private_key_file.display();
        ConfigError::value(&field, format!("names {file}, which {error}"))
    })?;
    let wrong = |error: CloudFrontError| {
        ConfigError::value(format!("connections.{connection}.cloudfront"), said(&error))
    };
    Ok(Distribution {
        signer: CloudFrontSigner::new(&wanted.key_pair_id, key, wanted.hash).map_err(wrong)?,
        distribution: DistributionDomain::new(&wanted.domain).map_err(wrong)?,
        origin_scope,
        sharing: match wanted.wildcard {
            true => SignatureScope::WholePrefix,
            false => SignatureScope::Never,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("public"), "-----BEGIN PUBLIC KEY-----\n").unwrap();
        let directory = folder.path().to_string_lossy().into_owned();
        let environment = Environment::default();
        let refusal = |file: &str| {
            let wanted = CloudFrontConfig {
                domain: "d111111abcdef8.cloudfront.net".to_owned(),
                key_pair_id: "K1".to_owned(),
                private_key_file: folder.path().join(file),
                hash: presign::cloudfront::HashAlgorithm::Sha1,
                wildcard: false,
                response_overrides: true,
                bucket: None,
                origin_path: None,
                key_value_store: None,
            };
            let error = open("x", &wanted, &environment).unwrap_err().to_string();
            error.replace(&directory, "DIR")
        };
        insta::assert_snapshot!(refusal("missing"), @"the configuration's connections.x.cloudfront.private_key_file names DIR/missing, which cannot be read: No such file or directory (os error 2); a bare name is looked for in $CREDENTIALS_DIRECTORY, which is not set, and then beside the configuration file");
        insta::assert_snapshot!(refusal("public"), @r#"the configuration's connections.x.cloudfront.private_key_file names DIR/public, which has no private key in it: it must be PEM that begins with "-----BEGIN PRIVATE KEY-----", or the same with RSA or EC"#);
    }
}
