//! What a connection's requests have besides what the SDK writes.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// Changes each request before it is signed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demands {
    /// Says that we pay for the request: a Requester Pays bucket rejects others.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html>
    pub requester_pays: bool,
    /// Leaves out `x-id`, which repeats the name of the operation: some servers refuse a parameter that they do not know.
    pub no_operation: bool,
}

impl Intercept for Demands {
    fn name(&self) -> &'static str {
        "Demands"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if self.requester_pays {
            let headers = request.headers_mut();
            headers.insert("x-amz-request-payer", "requester");
        }
        if self.no_operation {
            let uri = without_operation(request.uri());
            request.set_uri(uri)?;
        }
        Ok(())
    }
}

/// A URI without the parameter `x-id`.
fn without_operation(uri: &str) -> String {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let parameters = query.split('&').filter(|it| !it.starts_with("x-id="));
    let query: Vec<&str> = parameters.collect();
    match query.join("&").as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_operation_alone_is_left_out() {
        for (uri, left) in [
            (
                "https://s3.example/b/k?x-id=PutObject",
                "https://s3.example/b/k",
            ),
            (
                "https://s3.example/b/k?x-id=UploadPart&partNumber=1&uploadId=x-id%3D",
                "https://s3.example/b/k?partNumber=1&uploadId=x-id%3D",
            ),
            (
                "https://s3.example/b?list-type=2&prefix=x-id%3D",
                "https://s3.example/b?list-type=2&prefix=x-id%3D",
            ),
            (
                "https://s3.example/b?versions",
                "https://s3.example/b?versions",
            ),
            ("https://s3.example/b", "https://s3.example/b"),
        ] {
            assert_eq!(without_operation(uri), left);
        }
    }
}
