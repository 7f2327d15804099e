//! Interim responses: a server may send any number of them before the answer (1xx, RFC 9110 section 15.2).
//!
//! The HTTP library skips them. A broken or hostile server that sends them without end would take a thread until the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::error::ConnectorError;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use tokio::sync::Notify;

/// How many one request may get. S3 sends one (`100 Continue`); a server that works for long may send one every few seconds (`102`).
const MAX_INTERIM: u32 = 100;

/// A request got too many of them.
#[derive(Debug, thiserror::Error)]
#[error("it sent more than {MAX_INTERIM} interim responses (1xx), and no answer")]
pub(super) struct EndlessInterim;

/// Sends a request, and gives it up when it gets too many interim responses. Its connection is closed then.
pub(super) async fn answer(
    connector: &SharedHttpConnector,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let invalid = |error| ConnectorError::user(Box::new(error));
    let mut request = request.try_into_http1x().map_err(invalid)?;
    let (too_many, count) = (Arc::new(Notify::new()), AtomicU32::new(0));
    let told = Arc::clone(&too_many);
    hyper::ext::on_informational(&mut request, move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            told.notify_one();
        }
    });
    let request = HttpRequest::try_from(request).map_err(invalid)?;
    tokio::select! {
        answer = connector.call(request) => answer,
        () = too_many.notified() => {
            Err(ConnectorError::io(EndlessInterim.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_s3::primitives::SdkBody;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::tests::{client_of, edge};
    use super::*;

    /// The status of a request whose answer has `interim` responses before it, or the error in words; and whether all were sent.
    async fn asked(interim: u64) -> (Result<u16, String>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/reports/x", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            assert!(read > 0);
            for _ in 0..interim {
                let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
                if stream.write_all(hints).await.is_err() {
                    return false;
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            true
        });
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).unwrap();
        let answer = client_of(&edge()).attempt(request).await;
        let answer = answer.map(|answer| answer.status().as_u16());
        let answer = answer.map_err(|error| crate::text::chain(&error));
        let sent = tokio::time::timeout(Duration::from_secs(5), serving.join_next()).await;
        (
            answer,
            sent.expect("the connection is closed").unwrap().unwrap(),
        )
    }

    #[tokio::test]
    async fn a_server_that_sends_interim_responses_without_end_is_left() {
        assert_eq!(asked(0).await, (Ok(200), true));
        assert_eq!(asked(u64::from(MAX_INTERIM)).await, (Ok(200), true));
        let (answer, all) = asked(u64::MAX).await;
        let words = answer.unwrap_err();
        assert!(words.contains("interim responses"), "{words}");
        assert!(!all);
    }
}
