//! Whether a portal answers at a URL, as a reader would find out.

use super::routes::ROBOTS;
use crate::edge::http::WebClient;
use crate::edge::{EdgeError, Egress, ErrorKind};
use crate::environment::Environment;
use crate::text::chain;

/// The longest answer that is read, in bytes.
const MAX_BYTES: usize = 4 * 1024;

/// Asks `public_url` for `/robots.txt`, by the proxies and the certificate authorities of the environment. `false` if something
/// else than a portal answers.
///
/// # Errors
/// Nothing answers.
pub async fn is_portal_at(public_url: &str, environment: &Environment) -> Result<bool, EdgeError> {
    let action = "reach the portal";
    let egress = Egress::of_environment(environment)
        .map_err(|error| EdgeError::new(action, ErrorKind::Failed, chain(&error)))?;
    let url = format!("{}/robots.txt", public_url.trim_end_matches('/'));
    let answer = WebClient::new(egress)
        .get(action, &url, None, MAX_BYTES)
        .await?;
    let is_portal = answer.body.trim_ascii() == ROBOTS.as_bytes();
    Ok(answer.status == 200 && is_portal)
}
