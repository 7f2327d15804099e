//! Error responses with the words of S3: a code, a message, and the elements that S3 adds for some codes.
//!
//! s3s writes a code and, for some errors, a message. Clients show the message to their users, so each response has one.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use std::borrow::Cow;

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use s3s::{Body, S3Error, S3ErrorCode};

/// Why a request is rejected before s3s reads it.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) code: S3ErrorCode,
    pub(crate) message: Cow<'static, str>,
    /// Further elements of the response, such as `Region`.
    details: Vec<(&'static str, String)>,
}

impl Rejection {
    pub(crate) fn new(code: S3ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    pub(crate) fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(S3ErrorCode::AccessDenied, message)
    }

    /// An argument that S3 names together with its value.
    pub(crate) fn argument(message: &'static str, name: &str, value: &str) -> Self {
        Self::new(S3ErrorCode::InvalidArgument, message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    #[must_use]
    pub(crate) fn with(mut self, element: &'static str, text: impl Into<String>) -> Self {
        self.details.push((element, text.into()));
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let code = self.code.as_str();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message>",
            escaped(&self.message)
        );
        for (element, text) in &self.details {
            xml.push_str(&format!("<{element}>{}</{element}>", escaped(text)));
        }
        xml.push_str("</Error>");
        let mut response = Response::new(Body::from(xml));
        *response.status_mut() = self.code.status_code().unwrap_or(StatusCode::BAD_REQUEST);
        let kind = HeaderValue::from_static("application/xml");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

impl From<Rejection> for S3Error {
    fn from(rejection: Rejection) -> Self {
        Self::with_message(rejection.code, rejection.message)
    }
}

/// The code of an error response of s3s, whose body is in memory.
pub(crate) fn code_of(response: &Response<Body>) -> Option<String> {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let body = response.body().bytes().filter(|_| is_error)?;
    let (_, rest) = std::str::from_utf8(&body).ok()?.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

/// Adds S3's message to an error response of s3s that has none.
pub(crate) fn with_message(response: Response<Body>) -> Response<Body> {
    let Some(message) = code_of(&response).map(|code| message(&code)) else {
        return response;
    };
    let body = response.body().bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    if text.contains("<Message>") {
        return response;
    }
    let (before, after) = text.split_once("</Code>").unwrap_or((&text, ""));
    let text = format!("{before}</Code><Message>{message}</Message>{after}");
    let mut response = response.map(|_| Body::from(text));
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

pub(crate) const WRONG_SIGNATURE: &str = "The request signature we calculated does not match the signature you provided. Check your key and signing method.";

/// S3's message for an error to which s3s gives none.
fn message(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "IncompleteBody" => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header."
        }
        "InternalError" => "We encountered an internal error. Please try again.",
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long.",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema."
        }
        "MaxMessageLengthExceeded" => "Your request was too big.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "MissingRequestBodyError" => "Request Body is empty",
        "NotImplemented" => {
            "A header or parameter you provided implies functionality that is not implemented."
        }
        "SignatureDoesNotMatch" => WRONG_SIGNATURE,
        _ => "The request is not valid.",
    }
}

/// Text of an XML element. Control characters, which XML cannot represent, become a replacement character.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\t' | '\n' => escaped.push(c),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response<Body>) -> String {
        String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_value_of_the_client_ends_no_element() {
        let rejection = Rejection::argument("Unsupported", "Authorization", "</Code><a>&\u{1}");
        let response = rejection.into_response();
        assert_eq!(response.status(), 400);
        let escaped = "<ArgumentValue>&lt;/Code&gt;&lt;a&gt;&amp;\u{fffd}</ArgumentValue></Error>";
        assert!(text(&response).ends_with(escaped), "{}", text(&response));
    }

    #[test]
    fn each_error_has_a_message_and_keeps_the_one_it_has() {
        for (error, expected) in [
            (
                S3Error::new(S3ErrorCode::SignatureDoesNotMatch),
                WRONG_SIGNATURE,
            ),
            (
                S3Error::new(S3ErrorCode::KeyTooLongError),
                "Your key is too long.",
            ),
            (
                S3Error::with_message(S3ErrorCode::NoSuchKey, "Not here."),
                "Not here.",
            ),
            (
                S3Error::new(S3ErrorCode::InvalidTag),
                "The request is not valid.",
            ),
        ] {
            let response = with_message(error.to_http_response().unwrap());
            let message = format!("<Message>{expected}</Message></Error>");
            assert!(text(&response).contains(&message), "{}", text(&response));
        }
        let fine = with_message(Response::new(Body::from("<Code>x</Code>".to_owned())));
        assert_eq!(text(&fine), "<Code>x</Code>");
    }
}
