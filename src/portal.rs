//! The portal's HTTP side.

mod answer;
mod client;
mod code;
mod cookies;
mod limits;
mod room;
mod server;
mod ticket;
mod tls;
