//! `handout presign`: prints presigned links for the named objects, one per line, or for all objects under a prefix.
//!
//! Keys and links are processed in batches, so a million need no more memory than a thousand. A batch is signed, its lines in the
//! audit log are made durable, and only then are its links printed.
//!
//! `arguments`: what the options mean; `connect`: who signs and what lists; `keys` and `found`: which objects; `desk`: from keys
//! to links; `books`: the audit log; `errors`: why not.

mod arguments;
mod batches;
mod connect;
mod errors;
mod found;
mod keys;
mod recording;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use handout::assemble::connection::OF_ENVIRONMENT;
use handout::environment::Environment;
use handout::job::{FileName, Recipient, Via};
use handout::plan::ExpiryGuard;
use handout::quantity::Span;
use jiff::Timestamp;
use presign::cloudfront::Ipv4Network;

use self::arguments::{ObjectPlace, expires_in, guard, link_id, media_type, server_url, via};
use self::batches::PresignDesk;
use self::connect::ListedStore;
pub(crate) use self::errors::PresignError;
use self::found::{FoundKeys, ListingProgress};
use self::keys::{Keys, RefusedKeys, Saving};
use self::recording::PresignBooks;
use super::arguments::{JsonLinesArgs, instant};
use super::{ConfigArgs, exit, terminal};

pub(super) const EXAMPLES: &str = "\
Examples:
  handout presign s3://acme-reports/q3.pdf --expires-in 24h
  handout presign --connection reports --recipient ann@acme.example s3://acme-reports/q3.pdf
  handout presign --connection site --via cloudfront s3://acme-site/q3.pdf
  handout presign --keys-from keys.txt s3://acme-reports > urls.txt
  handout presign --recursive --include '*.pdf' s3://acme-reports/2026/ > urls.txt

Credentials, region and endpoint come from the usual places of the AWS tools: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the profile's files. The [[allow]] rules apply to jobs and not to this command: a user of the credentials may link everything that the credentials open.

Each link is recorded in the audit log before it is printed. With a configuration, the log and its secret are those of the configuration (run this as the daemon's user); without one, they are in $XDG_STATE_HOME/handout, which defaults to ~/.local/state/handout. With --no-audit there is no line, and a link has no id unless --link-id gives it one. With --json, a row has the bucket, the key, the expiry and the link id, too.";

#[derive(Debug, Args)]
pub(crate) struct PresignArgs {
    /// The objects; keys are literal, without escapes. With --keys-from, the bucket alone; with --recursive, a prefix of keys.
    #[arg(value_name = "s3://BUCKET/KEY", required = true)]
    places: Vec<ObjectPlace>,
    /// Links every object whose key begins with the key that is named; folder markers are left out.
    #[arg(long)]
    recursive: bool,
    /// Links only objects that match the pattern; may be repeated. "*.pdf" is for names in every folder, "2026/*.pdf" and
    /// "/*.pdf" for a path below the prefix; ** matches across folders.
    #[arg(long, value_name = "PATTERN", requires = "recursive")]
    include: Vec<String>,
    /// Leaves out objects that match the pattern; may be repeated, and prevails over --include.
    #[arg(long, value_name = "PATTERN", requires = "recursive")]
    exclude: Vec<String>,
    /// Reads literal keys from a file or stdin, one per line; empty lines, and a CR before the end of a line, are ignored.
    #[arg(long, value_name = "FILE|-")]
    keys_from: Option<PathBuf>,
    /// The lifetime of the links: "90s", "15m", "24h", "7d".
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = expires_in)]
    expires_in: Span,
    /// What to do if the credentials expire before the links, or have no known expiry: refuse; clamp the links to a known
    /// expiry; or ignore it with a warning (the links then work until the session ends).
    #[arg(long, value_name = "refuse|clamp|ignore", default_value = "refuse", value_parser = guard())]
    expiry_guard: ExpiryGuard,
    /// The file name for downloads; may contain {{object.name}}, .stem, .extension, .folder and .key; "stored" leaves the stored
    /// Content-Disposition as it is.
    #[arg(long, value_name = "TEXT")]
    filename: Option<FileName>,
    /// Lets browsers show the file instead of saving it; types that can run scripts (HTML, SVG …) are saved anyway.
    #[arg(long)]
    inline: bool,
    /// The media type that the store sends, in place of the object's own.
    #[arg(long, value_name = "TYPE", value_parser = media_type)]
    content_type: Option<String>,
    /// The version of the object; the link keeps opening this version.
    #[arg(long, value_name = "ID")]
    version_id: Option<String>,
    /// The id that is signed as x-handout, in place of a generated id for each link.
    #[arg(long, value_name = "ID", value_parser = link_id)]
    link_id: Option<String>,
    /// The recipient of the links, for the audit log.
    #[arg(long, alias = "for", value_name = "ADDRESS", value_parser = Recipient::parse)]
    recipient: Option<Recipient>,
    /// Signs with this connection of the configuration.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["region", "endpoint_url", "public_endpoint_url", "path_style", "profile"])]
    connection: Option<String>,
    /// The server of the links: s3, or the CloudFront distribution of the --connection.
    #[arg(long, value_name = "s3|cloudfront", default_value = "s3", value_parser = via())]
    via: Via,
    /// The instant at which the links start to work, not in the past; --expires-in counts from it (CloudFront only).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_before: Option<Timestamp>,
    /// The IPv4 network from which the links work: "192.0.2.0/24" or "192.0.2.7" (CloudFront only).
    #[arg(long, value_name = "NETWORK")]
    from_network: Option<Ipv4Network>,
    /// The bucket's region.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Asks S3 for the region of the bucket, in place of the region of the environment, profile or connection.
    #[arg(long, conflicts_with_all = ["region", "endpoint_url"])]
    find_region: bool,
    /// The URL of an S3 server other than AWS.
    #[arg(long, value_name = "URL", value_parser = server_url)]
    endpoint_url: Option<String>,
    /// The server that the links name, if it is not the endpoint; the bucket is in the path.
    #[arg(long, value_name = "URL", value_parser = server_url)]
    public_endpoint_url: Option<String>,
    /// Puts the bucket into the path, not into the host; this is the default with --endpoint-url.
    #[arg(long)]
    path_style: bool,
    /// The profile in ~/.aws/config and ~/.aws/credentials.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Skips the audit log.
    #[arg(long)]
    no_audit: bool,
    #[command(flatten)]
    form: JsonLinesArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints the links.
pub(super) async fn presign(
    arguments: PresignArgs,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    arguments.check()?;
    let filter = arguments.filter()?;
    let config = arguments.config(environment)?;
    arguments.check_link_id(config.as_ref())?;
    let direct = arguments.direct(config.as_ref(), environment).await?;
    let progress = ListingProgress::new(arguments.recursive);
    let mut listed = None;
    let mut keys = match (&arguments.keys_from, arguments.recursive) {
        (_, true) => {
            let name = arguments.connection.as_deref().unwrap_or(OF_ENVIRONMENT);
            let opened = ListedStore::open(&direct, config.as_ref(), name).await?;
            let store = Arc::clone(&listed.insert(opened).store);
            Keys::found(FoundKeys::new(&arguments, filter, store, &progress))
        }
        (Some(path), false) => Keys::from_lines(arguments.places[0].bucket.clone(), path)?,
        (None, false) => Keys::named(arguments.named()),
    };
    if arguments.comes_as_kept(&direct) {
        arguments.check_as_kept()?;
        keys = keys.with_saving(Saving::Impossible);
    }
    let recording = match &config {
        Some(config) if !arguments.no_audit => Some(PresignBooks::open(
            config,
            arguments.connection.as_deref(),
            environment,
        )?),
        Some(_) | None => None,
    };
    let desk = PresignDesk {
        options: arguments.options(config.as_ref(), recording.as_ref()),
        direct,
        recording,
        arguments: &arguments,
        progress: progress.clone(),
        may_end_early: Cell::new(false),
    };
    let result = desk.hand_out(&mut keys).await;
    progress.end();
    if let Some(recording) = desk.recording {
        recording.close();
    }
    let refused = keys.into_refused();
    if let Some(listed) = listed {
        listed.close().await;
    }
    result?;
    if arguments.recursive && progress.is_nothing() {
        terminal::complain(
            "no object was found to link: look at the prefix, --include and --exclude",
        );
        return Ok(exit::FOUND.into());
    }
    report(&refused)
}

/// Reports on stderr the keys without a link.
fn report(refused: &RefusedKeys) -> anyhow::Result<ExitCode> {
    if refused.count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    for reason in &refused.first {
        terminal::complain(format_args!("not linked: {reason}"));
    }
    let (objects, more) = match refused.count {
        1 => ("object was", ""),
        count if count > refused.first.len() as u64 => ("objects were", "; the first are above"),
        _ => ("objects were", ""),
    };
    terminal::complain(format_args!("{} {objects} not linked{more}", refused.count));
    Ok(exit::FOUND.into())
}
