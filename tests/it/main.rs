//! The whole program on real parts. Each module is a chapter; `support::World` is the small world they play in.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test does"
)]

mod support;

mod access;
mod addresses;
mod album;
mod alive;
mod answers;
mod architecture;
mod archive;
mod audit;
mod bad_input;
mod bare;
mod brand;
mod bulk;
mod check;
mod cloudfront;
mod comes_back;
mod command_line;
mod conformance;
#[cfg(debug_assertions)]
mod crash;
mod credentials;
mod daemon;
mod dates;
mod embedded;
mod environment;
mod exit_codes;
mod false_answers;
mod feedback;
mod few_requests;
mod full_disk;
mod fuzz;
mod guides;
mod hangs;
mod hostile;
mod intake;
mod languages;
mod layers;
mod ledger;
mod letter;
mod lifecycle;
mod liveness;
mod mails;
mod maps;
mod missing;
mod names;
mod network;
mod oidc;
mod page_links;
mod pages;
mod parking;
mod parts;
mod payloads;
mod peers;
mod pictures;
#[cfg(debug_assertions)]
mod poison;
mod portal;
mod portal_abuse;
mod portal_access;
mod portal_oidc;
mod portal_process;
mod portal_renditions;
mod portal_zip;
mod presign;
mod privileged;
mod public_endpoints;
mod puts;
mod queue_addresses;
mod reachable;
mod recipients;
mod references;
mod rehearsal;
mod relay;
mod reload;
mod renditions;
#[cfg(debug_assertions)]
mod restart;
mod revocation;
mod s3_answers;
mod saved;
mod schedules;
mod schema;
mod signer;
mod store_demands;
mod story;
mod submit;
mod traces;
mod under_way;
mod unordered;
mod waits;
mod webhook;
mod whose;
mod worker;
mod worst;
