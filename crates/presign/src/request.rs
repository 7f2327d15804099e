//! The input of a presigned URL: the object, the overrides of the response, and the expiry.

use std::time::Duration;

use crate::percent::push_parameter;

/// A request for one presigned URL: the object's key, and overrides of the response.
///
/// The parameters are those of `GetObject`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_RequestSyntax>
#[derive(Debug, Clone, Copy, Default)]
pub struct PresignRequest<'a> {
    /// The object's key, any UTF-8, not encoded.
    pub key: &'a str,
    /// `response-content-disposition`, to override the response's `Content-Disposition`. S3 rejects values outside of ISO-8859-1;
    /// [`disposition`](crate::disposition) writes an ASCII value.
    pub content_disposition: Option<&'a str>,
    /// `response-content-encoding`, to override the object's own `Content-Encoding`: `identity` makes browsers save the bytes as
    /// they are stored.
    pub content_encoding: Option<&'a str>,
    /// `response-content-type`, to override the object's own `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `versionId`, to open one version of the object.
    pub version_id: Option<&'a str>,
    /// Parameters of the caller, and their values: sorted by name, and all of them before `x-amz-request-payer` or all after it.
    pub custom: &'a [(CustomParameter, &'a str)],
}

impl PresignRequest<'_> {
    /// An estimate of the encoded length, in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        let texts = [
            Some(self.key),
            self.content_disposition,
            self.content_encoding,
            self.content_type,
            self.version_id,
        ];
        let custom = self.custom.iter().map(|(_, value)| *value);
        texts
            .into_iter()
            .flatten()
            .chain(custom)
            .map(|text| text.len() + text.len() / 2 + 32)
            .sum()
    }

    /// The parameters of the operation, sorted as a canonical query requires.
    #[inline]
    pub(crate) fn push_parameters(&self, url: &mut String) {
        push_parameter(
            "response-content-disposition",
            self.content_disposition,
            url,
        );
        push_parameter("response-content-encoding", self.content_encoding, url);
        push_parameter("response-content-type", self.content_type, url);
        push_parameter("versionId", self.version_id, url);
    }

    /// The parameters of the caller, which are sorted after those of the operation.
    #[inline]
    pub(crate) fn push_custom(&self, url: &mut String) {
        debug_assert!(self.custom.is_sorted_by_key(|(name, _)| name.0));
        for (CustomParameter(name), value) in self.custom {
            push_parameter(name, Some(value), url);
        }
    }
}

/// The name of a caller's query parameter. It is signed and appears in the server's access log.
///
/// S3 ignores parameters that begin with `x-` and writes them to its server access log.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html#LogFormatCustom>
///
/// ```
/// use presign::{CustomParameter, PresignRequest};
///
/// const CAMPAIGN: CustomParameter = CustomParameter::new("x-campaign");
///
/// let request = PresignRequest {
///     key: "catalogue.pdf",
///     custom: &[(CAMPAIGN, "spring")],
///     ..PresignRequest::default()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomParameter(&'static str);

impl CustomParameter {
    /// A parameter name: `x-` and then lower-case letters, digits and hyphens.
    ///
    /// The name must sort before `x-id`, S3's own parameter, so that its place in the sorted query is fixed. It must not begin
    /// with `x-amz-`, which S3 interprets.
    ///
    /// # Panics
    /// The name has another form. In a `const`, this is a compile-time error.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(
            bytes.len() > 2 && bytes[0] == b'x' && bytes[1] == b'-',
            "a custom parameter begins with \"x-\""
        );
        let mut at = 2;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_lowercase() || bytes[at].is_ascii_digit() || bytes[at] == b'-',
                "a custom parameter has lower-case letters, digits and hyphens"
            );
            at += 1;
        }
        assert!(
            bytes[2] < b'i' || bytes[2] == b'i' && bytes.len() > 3 && bytes[3] < b'd',
            "a custom parameter sorts before \"x-id\""
        );
        assert!(
            bytes.len() < 6
                || bytes[2] != b'a'
                || bytes[3] != b'm'
                || bytes[4] != b'z'
                || bytes[5] != b'-',
            "parameters that begin with \"x-amz-\" are S3's"
        );
        Self(name)
    }

    /// The name, such as `x-campaign`.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// How long a presigned URL works: whole seconds, from one second to seven days.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>, `X-Amz-Expires`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpiresIn(u64);

/// A duration outside the range that Signature Version 4 allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a presigned URL cannot expire in {0:?}: S3 takes 1 second to 7 days")]
pub struct ExpiresInError(pub Duration);

impl ExpiresIn {
    /// One second.
    pub const MIN: Self = Self(1);
    /// Seven days.
    pub const MAX: Self = Self(7 * 24 * 60 * 60);

    /// The duration in whole seconds; a fraction is truncated.
    ///
    /// # Errors
    /// The duration is below [`ExpiresIn::MIN`] or above [`ExpiresIn::MAX`], which S3 rejects
    /// (`AuthorizationQueryParametersError`).
    pub const fn new(duration: Duration) -> Result<Self, ExpiresInError> {
        let seconds = duration.as_secs();
        if seconds < Self::MIN.0
            || seconds > Self::MAX.0
            || seconds == Self::MAX.0 && duration.subsec_nanos() > 0
        {
            return Err(ExpiresInError(duration));
        }
        Ok(Self(seconds))
    }

    /// The duration, limited to the range that S3 accepts.
    ///
    /// ```
    /// assert_eq!(presign::ExpiresIn::clamped(700_000), presign::ExpiresIn::MAX);
    /// ```
    #[must_use]
    pub const fn clamped(seconds: u64) -> Self {
        if seconds < Self::MIN.0 {
            Self::MIN
        } else if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// The duration in seconds.
    pub const fn as_secs(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_lives_for_a_second_to_seven_days() {
        let new = |millis| ExpiresIn::new(Duration::from_millis(millis));
        assert_eq!(new(1_500), Ok(ExpiresIn::MIN));
        assert_eq!(new(604_800_000), Ok(ExpiresIn::MAX));
        for millis in [0, 999, 604_800_001] {
            let refused = new(millis).unwrap_err();
            assert_eq!(refused, ExpiresInError(Duration::from_millis(millis)));
        }
        assert_eq!(ExpiresIn::clamped(0), ExpiresIn::MIN);
        assert_eq!(ExpiresIn::clamped(60).as_secs(), 60);
    }

    #[test]
    fn a_custom_parameter_is_one_that_s3_ignores_and_sorts_before_its_own() {
        for name in ["x-handout", "x-campaign", "x-1", "x-ia", "x-amazing"] {
            assert_eq!(CustomParameter::new(name).name(), name);
        }
        for name in [
            "",
            "x-",
            "y-a",
            "x-Campaign",
            "x-a b",
            "x-i",
            "x-id",
            "x-ie",
            "x-z",
            "x-amz-date",
        ] {
            let made = std::panic::catch_unwind(|| CustomParameter::new(name));
            assert!(made.is_err(), "{name}");
        }
    }
}
