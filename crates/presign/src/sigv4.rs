//! Presigned `GetObject` URLs with Signature Version 4 in the query. This is the hot path.
//!
//! The signing key is derived once for an access key, a date and a region; its HMAC state is copied for each URL. Everything that
//! the URLs of a batch share is written once. A URL equals, byte for byte, the one that the AWS SDK for Rust presigns for the
//! same instant. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::sync::Arc;

use jiff::Timestamp;

use crate::endpoint::BucketUrl;
use crate::hex::{hex_of, push_hex};
use crate::midstate::{MacMidstate, Midstate};
use crate::percent::{push_path, push_query};
use crate::request::{ExpiresIn, PresignRequest};
use crate::url::PresignedUrl;

/// The service in the scope of every signature.
const SERVICE: &str = "s3";

/// The parameters of every presigned URL, in the order in which S3 documents them.
pub const QUERY_PARAMETERS: [&str; 6] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
];

/// An access key, and the session token of a temporary one.
///
/// `Debug` shows only the id. <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html>
#[derive(Clone)]
pub struct AccessKey {
    /// The id, such as `AKIAIOSFODNN7EXAMPLE`. It is not secret and is part of every URL.
    pub access_key_id: Arc<str>,
    /// The secret that signs.
    pub secret_access_key: Arc<str>,
    /// The session token of temporary credentials (`ASIA…`). It is signed and is part of every URL.
    pub session_token: Option<Arc<str>>,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AccessKey")
            .field(&self.access_key_id)
            .field(&"****")
            .finish()
    }
}

/// Signs URLs of one bucket's objects, all for the same instant.
///
/// `Debug` shows only the bucket's URL.
#[derive(Clone)]
pub struct Presigner {
    /// The HMAC under the signing key after the common prefix of every string to sign: `AWS4-HMAC-SHA256\n<instant>\n<scope>\n`.
    begun: MacMidstate,
    /// `https://bucket.s3.eu-west-1.amazonaws.com/`: the part of a URL before the key.
    url_head: String,
    /// The length of the part of `url_head` that is not in the signed path.
    origin_length: usize,
    /// `&X-Amz-Algorithm=…&X-Amz-Signature=`: the part between the request's parameters and the signature.
    url_signature: String,
    /// `&X-Amz-Security-Token=…`; empty for keys without a token.
    security_token: String,
    /// The same parameters in canonical order: the part between the path and the request's parameters.
    canonical_middle: String,
    /// The end of the canonical request, after the caller's parameter: the operation, and what follows the query.
    canonical_tail: String,
    /// `&x-amz-request-payer=requester`; empty if the owner of the bucket pays.
    payer: &'static str,
    /// `&x-id=GetObject`; empty for a server that refuses parameters that it does not know. The caller's is then left out, too.
    operation: &'static str,
    /// The first line of the canonical request.
    method: &'static str,
}

/// Says that the requester pays. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html>
const PAYER: &str = "&x-amz-request-payer=requester";

/// The operation, as the AWS SDKs write it. S3 ignores it.
const OPERATION: &str = "&x-id=GetObject";

/// The same for URLs that ask for the headers of an object.
const HEAD_OPERATION: &str = "&x-id=HeadObject";

/// The other fields contain the session token or are as secret as a signature.
impl std::fmt::Debug for Presigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presigner")
            .field("url_head", &self.url_head)
            .finish_non_exhaustive()
    }
}

impl Presigner {
    /// Prepares URLs that are signed at `signed_at`, in whole seconds, and expire `expires_in` later.
    ///
    /// `region` must be the bucket's own: S3 redirects requests for another region, which invalidates the signature. S3 rejects a
    /// URL whose `signed_at` is more than 15 minutes ahead of its clock.
    pub fn new(
        target: BucketUrl,
        keys: &AccessKey,
        region: &str,
        signed_at: Timestamp,
        expires_in: ExpiresIn,
    ) -> Self {
        let instant = signed_at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &instant[..8];
        let scope = format!("{date}/{region}/{SERVICE}/aws4_request");
        let mut claims = String::from("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
        push_query(&keys.access_key_id, &mut claims);
        push_query(&format!("/{scope}"), &mut claims);
        claims.push_str(&format!(
            "&X-Amz-Date={instant}&X-Amz-Expires={}",
            expires_in.as_secs()
        ));
        let mut security_token = String::new();
        if let Some(token) = &keys.session_token {
            security_token.push_str("&X-Amz-Security-Token=");
            push_query(token, &mut security_token);
        }
        let mut begun = signing_key(&keys.secret_access_key, date, region);
        begun.update(format!("AWS4-HMAC-SHA256\n{instant}\n{scope}\n").as_bytes());
        let BucketUrl { origin, host, path } = target;
        Self {
            begun,
            origin_length: origin.len(),
            url_head: origin + &path,
            url_signature: format!("&{claims}&X-Amz-SignedHeaders=host&X-Amz-Signature="),
            // Sorted by byte, as the canonical query requires: capitals come first.
            canonical_middle: format!("\n{claims}{security_token}&X-Amz-SignedHeaders=host"),
            canonical_tail: format!("{OPERATION}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"),
            security_token,
            payer: "",
            operation: OPERATION,
            method: "GET\n",
        }
    }

    /// The same presigner, for URLs of `HeadObject`: a signature is valid for one method.
    #[must_use]
    pub fn for_head(mut self) -> Self {
        if !self.operation.is_empty() {
            let operation = ..self.operation.len();
            self.canonical_tail.replace_range(operation, HEAD_OPERATION);
            self.operation = HEAD_OPERATION;
        }
        self.method = "HEAD\n";
        self
    }

    /// The same presigner, for URLs that open objects of a Requester Pays bucket. The account of the access key pays for the
    /// downloads.
    #[must_use]
    pub const fn requester_pays(mut self) -> Self {
        self.payer = PAYER;
        self
    }

    /// The same presigner, for a server that refuses query parameters that it does not know: its URLs have neither `x-id` nor the
    /// caller's [`custom`](PresignRequest::custom) parameter.
    #[must_use]
    pub fn without_ignored(mut self) -> Self {
        self.canonical_tail.drain(..self.operation.len());
        self.operation = "";
        self
    }

    /// The scheme, host and port of the URLs, such as `https://acme-reports.s3.eu-west-1.amazonaws.com`.
    pub fn origin(&self) -> &str {
        &self.url_head[..self.origin_length]
    }

    /// Signs one URL. This cannot fail: any key can be encoded.
    pub fn presign(&self, request: &PresignRequest<'_>) -> PresignedUrl {
        let room = self.url_head.len() + self.url_signature.len() + self.security_token.len();
        let mut url = String::with_capacity(room + request.encoded_len() + 128);
        url.push_str(&self.url_head);
        push_path(request.key, &mut url);
        let path = self.origin_length..url.len();
        // The SDK's order: `x-id`, the operation's parameters, the caller's; then those of the signature.
        let query_from = url.len();
        url.push('?');
        url.push_str(self.operation.get(1..).unwrap_or_default());
        let request_from = url.len();
        request.push_parameters(&mut url);
        let custom_from = url.len();
        if !self.operation.is_empty() {
            request.push_custom(&mut url);
        }
        let signature = self.signature(
            &url[path],
            &url[request_from..custom_from],
            &url[custom_from..],
        );
        url.push_str(self.payer);
        url.push_str(&self.url_signature);
        if self.operation.is_empty() {
            // Each of the others has its `&` before it.
            url.remove(query_from + 1);
        }
        push_hex(&signature, &mut url);
        url.push_str(&self.security_token);
        PresignedUrl::new(url)
    }

    /// Signs a path, the request's parameters and the caller's, all encoded as in the URL.
    fn signature(&self, path: &str, parameters: &str, custom: &str) -> [u8; 32] {
        // Sorted by byte, as the canonical query requires.
        let (first, second) = if !self.payer.is_empty() && custom < self.payer {
            (custom, self.payer)
        } else {
            (self.payer, custom)
        };
        let mut canonical_request = Midstate::new();
        for part in [
            self.method,
            path,
            &self.canonical_middle,
            parameters,
            first,
            second,
            &self.canonical_tail,
        ] {
            canonical_request.update(part.as_bytes());
        }
        let mut string_to_sign = self.begun;
        string_to_sign.update(&hex_of(&canonical_request.finish()));
        string_to_sign.finish()
    }
}

/// The signing key of a day and a region for S3, as an HMAC that is ready for strings to sign.
///
/// `date` has the form `20261123`. Servers use it to verify signatures; a [`Presigner`] derives it for clients.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html#derive-signing-key>
pub fn signing_key(secret: &str, date: &str, region: &str) -> MacMidstate {
    let step = |key: &[u8], data: &str| {
        let mut mac = MacMidstate::new(key);
        mac.update(data.as_bytes());
        mac.finish()
    };
    let date_key = step(format!("AWS4{secret}").as_bytes(), date);
    let region_key = step(&date_key, region);
    let service_key = step(&region_key, SERVICE);
    MacMidstate::new(&step(&service_key, "aws4_request"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Addressing;
    use crate::request::CustomParameter;
    use crate::url::signature_in;

    /// A presigner for a bucket of `us-east-1`.
    fn presigner(
        endpoint: &str,
        bucket: &str,
        keys: (&str, &str, Option<&str>),
        at: &str,
        secs: u64,
    ) -> Presigner {
        let target = BucketUrl::new(endpoint, bucket, Addressing::VirtualHost);
        let (id, secret, token) = keys;
        let keys = AccessKey {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: token.map(Into::into),
        };
        let at = at.parse().unwrap();
        Presigner::new(
            target.unwrap(),
            &keys,
            "us-east-1",
            at,
            ExpiresIn::clamped(secs),
        )
    }

    #[test]
    fn aws_example() {
        // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
        let keys = (
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let (endpoint, at) = ("https://s3.amazonaws.com", "2013-05-24T00:00:00Z");
        let presigner = presigner(endpoint, "examplebucket", keys, at, 86_400);
        let url = presigner.without_ignored().presign(&PresignRequest {
            key: "test.txt",
            custom: &[(CustomParameter::new("x-campaign"), "1")],
            ..PresignRequest::default()
        });
        assert_eq!(
            url.expose(),
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    /// The canonical query is sorted by byte, wherever the caller's parameter belongs.
    #[test]
    fn the_payer_is_signed_in_its_place_among_the_parameters() {
        for (name, sorted) in [
            (
                "x-handout",
                "response-content-type=a%2Fb&x-amz-request-payer=requester&x-handout=1&x-id=GetObject",
            ),
            (
                "x-amazing",
                "response-content-type=a%2Fb&x-amazing=1&x-amz-request-payer=requester&x-id=GetObject",
            ),
        ] {
            let (endpoint, at) = ("https://s3.amazonaws.com", "2013-05-24T00:00:00Z");
            let presigner = presigner(endpoint, "bbb", ("AKIA", "secret", None), at, 60);
            let presigner = presigner.requester_pays();
            let url = presigner.presign(&PresignRequest {
                key: "k",
                content_type: Some("a/b"),
                custom: &[(CustomParameter::new(name), "1")],
                ..PresignRequest::default()
            });
            let canonical = format!(
                "GET\n/k\nX-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&{sorted}\nhost:bbb.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD"
            );
            let mut hash = Midstate::new();
            hash.update(canonical.as_bytes());
            let mut signature = presigner.begun;
            signature.update(&hex_of(&hash.finish()));
            let signature = crate::hex::hex(&signature.finish());
            assert_eq!(signature_in(url.expose()), Some(signature), "{name}");
            assert!(
                url.expose()
                    .contains("&x-amz-request-payer=requester&X-Amz-Algorithm=")
            );
        }
    }

    #[test]
    fn example_of_the_sdk_with_a_session_token() {
        // aws-sdk-s3, tests/presigning.rs
        let keys = (
            "ANOTREAL",
            "notrealrnrELgWzOk3IfjzDKtFBhDby",
            Some("notarealsessiontoken"),
        );
        let (endpoint, at) = ("https://s3.us-east-1.amazonaws.com", "2009-02-13T23:31:31Z");
        let url = presigner(endpoint, "test-bucket", keys, at, 30).presign(&PresignRequest {
            key: "test-key",
            ..PresignRequest::default()
        });
        assert_eq!(
            url.expose(),
            "https://test-bucket.s3.us-east-1.amazonaws.com/test-key?x-id=GetObject&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ANOTREAL%2F20090213%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20090213T233131Z&X-Amz-Expires=30&X-Amz-SignedHeaders=host&X-Amz-Signature=758353318739033a850182c7b3435076eebbbd095f8dcf311383a6a1e124c4cb&X-Amz-Security-Token=notarealsessiontoken"
        );
    }

    #[test]
    fn what_signs_prints_no_secret() {
        let keys = ("AKIA", "secret-of-keys", Some("token+of/session"));
        let (endpoint, at) = ("https://s3.amazonaws.com", "2013-05-24T00:00:00Z");
        let presigner = presigner(endpoint, "reports", keys, at, 60);
        let debug = format!("{presigner:?}");
        assert_eq!(
            debug,
            "Presigner { url_head: \"https://reports.s3.amazonaws.com/\", .. }"
        );
    }

    #[test]
    fn every_parameter_changes_the_signature() {
        let (endpoint, at) = ("https://s3.eu-west-1.amazonaws.com", "1970-01-01T00:00:00Z");
        let presigner = presigner(endpoint, "bbb", ("AKIA", "secret", None), at, 60);
        let plain = PresignRequest {
            key: "k",
            ..PresignRequest::default()
        };
        let requests = [
            plain,
            PresignRequest { key: "l", ..plain },
            PresignRequest {
                content_disposition: Some("inline"),
                ..plain
            },
            PresignRequest {
                content_encoding: Some("identity"),
                ..plain
            },
            PresignRequest {
                content_type: Some("image/png"),
                ..plain
            },
            PresignRequest {
                version_id: Some("1"),
                ..plain
            },
            PresignRequest {
                custom: &[(CustomParameter::new("x-campaign"), "1")],
                ..plain
            },
        ];
        let signatures: std::collections::HashSet<String> = requests
            .iter()
            .map(|request| signature_in(presigner.presign(request).expose()).unwrap())
            .collect();
        assert_eq!(signatures.len(), requests.len());
    }
}
