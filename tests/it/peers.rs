//! The suites of the edges against servers that people run: `make peers` starts them and names them here, `make test` does not.

use std::sync::Arc;

use aws_sdk_s3::config::RequestChecksumCalculation;
use handout::queue::sqs::SqsQueue;
use handout::store::s3::S3Store;

use crate::conformance::{
    LongFile, a_fifo_queue_says_which_group_a_message_is_of, a_queue_is_a_queue,
    a_store_is_a_store, an_old_receipt_is_void, create_bucket, make_queue, s3_client_with,
    sqs_client_at,
};
use crate::support::hostile;
use crate::support::servers::skipped_for;

/// What `make peers` says of a server, in words; nothing, with a note, where it says nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "how make peers tells the suite which server it started"
)]
fn peer_or_skip<const N: usize>(test: &str, name: &str) -> Option<[String; N]> {
    let Ok(said) = std::env::var(name) else {
        skipped_for(test, "run make peers");
        return None;
    };
    let words: Vec<String> = said.split(' ').map(ToOwned::to_owned).collect();
    Some(words.try_into().unwrap())
}

/// Keys that a store which keeps objects as files takes as well: names of 255 bytes at most between the slashes, none of them empty.
fn is_a_path(key: &str) -> bool {
    let is_a_name =
        |name: &str| !name.is_empty() && name.len() <= 255 && name != ".." && name != ".";
    key != "a" && !key.contains(char::is_control) && key.split('/').all(is_a_name)
}

#[tokio::test]
async fn a_store_that_people_run_is_a_store() {
    let Some([url, region, id, secret]) = peer_or_skip("a_store_that_people_run", "PEER_S3") else {
        return;
    };
    let client = s3_client_with(&url, &region, &id, &secret);
    // As the program asks servers that are not AWS's.
    let config = client.config().to_builder();
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    create_bucket(&client, "reports").await;
    let keys = hostile::keys().into_iter().filter(|key| is_a_path(key));
    a_store_is_a_store(&S3Store::new(client.clone()), keys.collect()).await;
    LongFile::new(&client).await.is_put_in_parts().await;
}

#[tokio::test]
async fn a_queue_that_people_run_is_a_queue() {
    let Some([url]) = peer_or_skip("a_queue_that_people_run", "PEER_SQS") else {
        return;
    };
    let client = sqs_client_at(&url);
    let queue = async |name| {
        let url = make_queue(&client, name).await;
        Arc::new(SqsQueue::new(client.clone(), url))
    };
    a_queue_is_a_queue(queue("suite").await).await;
    an_old_receipt_is_void(queue("receipts").await).await;
    a_fifo_queue_says_which_group_a_message_is_of(&client).await;
}
