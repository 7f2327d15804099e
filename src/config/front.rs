//! `[connections.NAME.cloudfront]`: from what is written to what signs.

use presign::cloudfront::{CloudFrontError, CloudFrontSigner, DistributionDomain, PrivateKey};

use super::{CloudFrontConfig, ConfigError, Environment, Secret};
use crate::job::place::NameError;
use crate::links::front::{Front, Overrides, Reach, Sharing};

/// What the links of a distribution can open; everything is looked at but the key.
pub(crate) fn reach(connection: &str, wanted: &CloudFrontConfig) -> Result<Reach, ConfigError> {
    let wrong = |field: &str, reason: String| {
        ConfigError::value(
            format!("connections.{connection}.cloudfront.{field}"),
            reason,
        )
    };
    DistributionDomain::new(&wanted.domain).map_err(|error| wrong("domain", said(&error)))?;
    CloudFrontSigner::check_key_pair_id(&wanted.key_pair_id)
        .map_err(|error| wrong("key_pair_id", said(&error)))?;
    let bucket = wanted.bucket.as_deref().map(str::parse).transpose();
    let bucket = bucket.map_err(|error: NameError| wrong("bucket", error.to_string()))?;
    let origin_path = match wanted.origin_path.as_deref().unwrap_or_default() {
        "" | "/" => String::new(),
        path => {
            let folder = path.strip_prefix('/').unwrap_or(path);
            let folder = folder.strip_suffix('/').unwrap_or(folder);
            let is_segment = |segment| !matches!(segment, "" | "." | "..");
            if !folder.split('/').all(is_segment) {
                let reason = format!(
                    "is {path:?}: write the folder as in the distribution, such as \"/site\""
                );
                return Err(wrong("origin_path", reason));
            }
            format!("{folder}/")
        }
    };
    Ok(Reach {
        bucket,
        origin_path,
        overrides: match wanted.response_overrides {
            true => Overrides::HandedOn,
            false => Overrides::LeftOut,
        },
    })
}

/// Reads the key, and gives what signs.
pub(crate) fn open(
    connection: &str,
    wanted: &CloudFrontConfig,
    environment: &Environment,
) -> Result<Front, ConfigError> {
    let reach = reach(connection, wanted)?;
    let field = format!("connections.{connection}.cloudfront.private_key_file");
    let pem = Secret::read(&field, &wanted.private_key_file, environment)?;
    let key = PrivateKey::from_pem(pem.expose()).map_err(|error| {
        let file = wanted.private_key_file.display();
        ConfigError::value(&field, format!("names {file}, which {error}"))
    })?;
    let wrong = |error: CloudFrontError| {
        ConfigError::value(format!("connections.{connection}.cloudfront"), said(&error))
    };
    Ok(Front {
        signer: CloudFrontSigner::new(&wanted.key_pair_id, key, wanted.hash).map_err(wrong)?,
        distribution: DistributionDomain::new(&wanted.domain).map_err(wrong)?,
        reach,
        sharing: match wanted.wildcard {
            true => Sharing::WholePrefix,
            false => Sharing::Never,
        },
    })
}

fn said(error: &CloudFrontError) -> String {
    format!("cannot be used: {error}")
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
            };
            let error = open("x", &wanted, &environment).unwrap_err().to_string();
            error.replace(&directory, "DIR")
        };
        insta::assert_snapshot!(refusal("missing"), @"the configuration's connections.x.cloudfront.private_key_file names DIR/missing, which cannot be read: No such file or directory (os error 2); a bare name is looked for in $CREDENTIALS_DIRECTORY, which is not set, and then beside the configuration file");
        insta::assert_snapshot!(refusal("public"), @r#"the configuration's connections.x.cloudfront.private_key_file names DIR/public, which has no private key in it: it must be PEM that begins with "-----BEGIN PRIVATE KEY-----", or the same with RSA or EC"#);
    }
}
