//! The portal: links that sign on click.

pub mod oidc;
