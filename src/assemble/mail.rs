//! How mails are rendered and sent.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Fixed, HTML_BUDGET_BYTES, OpenError};
use crate::config::{Config, Transport};
use crate::config_error::ConfigError;
use crate::deliver::{Mailer, Outbox, Relay, Relays, Sender};
use crate::environment::Environment;
use crate::job::{Locale, RelayName};
use crate::media;
use crate::mounted;
use crate::plan::{self, Installed};
use crate::render::{Brand, Logo, MailSettings, Templates};

pub(super) fn mailer(
    config: &Config,
    environment: &Environment,
    fixed: &Fixed<'_>,
    kept: &dyn Fn(&str, &RelayName) -> Option<Relay>,
    former: Option<&Mailer>,
) -> Result<Mailer, OpenError> {
    Ok(match config.mail.transport {
        Transport::Outbox => {
            let dir = config.outbox_place();
            let outbox = Outbox::open(&dir).map_err(|source| OpenError::Directory {
                path: dir.to_path_buf(),
                source,
            })?;
            Mailer::Outbox(outbox)
        }
        Transport::Smtp => {
            let (progress, clock) = (fixed.progress, fixed.clock);
            let former = match former {
                Some(Mailer::Smtp(relays)) => Some(relays),
                Some(Mailer::Outbox(_)) | None => None,
            };
            let relays = Relays::opened(&config.mail, environment, progress, clock, kept, former)?;
            Mailer::Smtp(relays)
        }
    })
}

/// By how much the threads that decode pictures give way to all others: a thread of the runtime gets nine times their share.
const DECODING_NICENESS: i32 = 10;

/// Which pictures of galleries are inspected.
pub(super) fn pictures(config: &Config) -> media::PictureSettings {
    let gallery = &config.gallery;
    media::PictureSettings {
        limit: if gallery.picture_sizes {
            gallery.picture_limit
        } else {
            0
        },
        at_once: gallery.pictures_at_once,
    }
}

/// Which pictures of galleries get renditions. The permits are for all jobs.
pub(super) fn renditions(config: &Config) -> media::RenditionSettings {
    let gallery = &config.gallery;
    media::RenditionSettings {
        limit: if gallery.renditions {
            gallery.rendition_limit
        } else {
            0
        },
        threads: Arc::new(Semaphore::new(gallery.rendition_threads)),
        in_memory: Arc::new(Semaphore::new(gallery.rendition_threads + 1)),
        places: media::RenditionPlaces::new(super::share_of_slots(config)),
        at_once: gallery.rendition_threads + 1,
        niceness: DECODING_NICENESS,
    }
}

/// The rendering settings of mails and pages.
pub fn mail_settings(
    config: &Config,
    sender: &Sender,
    templates: &Templates,
) -> Result<MailSettings, ConfigError> {
    let name = config.brand.name.as_deref();
    Ok(MailSettings {
        locale: locale(config, templates)?,
        sender_name: name.unwrap_or_else(|| sender.display_name()).to_owned(),
        sender_address: sender.address().to_owned(),
        html_budget_bytes: HTML_BUDGET_BYTES,
        brand: brand(config)?,
    })
}

/// What mails and pages show of the sender; the logo's file is read.
pub fn brand(config: &Config) -> Result<Brand, ConfigError> {
    const KEY: &str = "brand.logo_file";
    let logo = config.brand.logo_file.as_deref().map(|path| {
        let unreadable =
            |error: &io::Error| format!("names {}, which cannot be read: {error}", path.display());
        let bytes = mounted::read_bytes(path);
        let bytes = bytes.map_err(|error| ConfigError::unread(KEY, error, unreadable))?;
        let wrong =
            |error| ConfigError::value(KEY, format!("names {}, which {error}", path.display()));
        Logo::read(bytes).map_err(wrong)
    });
    Ok(Brand::new(&config.brand, logo.transpose()?))
}

/// The language of mails for recipients without a locale: one for which the templates have strings.
pub fn locale(config: &Config, templates: &Templates) -> Result<Locale, ConfigError> {
    let wrong = |reason: String| ConfigError::value("mail.locale", reason);
    let locale = config.mail.locale.parse::<Locale>();
    let locale = locale.map_err(|error| wrong(error.to_string()))?;
    let languages = templates.languages();
    if plan::speaks(&languages, &locale) {
        return Ok(locale);
    }
    Err(wrong(format!(
        "is {:?}, which is not an installed language; installed: {}; add a language in [templates] dir",
        locale.as_str(),
        languages.join(", ")
    )))
}
