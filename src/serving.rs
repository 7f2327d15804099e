//! The HTTP servers that strangers reach: connections within bounds, TLS, and limits of what is not to be tried often.
//!
//! What is answered is not known here: the portal and the intake implement [`RequestAnswers`].

mod connections;
mod limits;
mod network;
mod room;
mod tls;

pub use self::connections::bind;
pub(crate) use self::connections::{
    AnswerFuture, Drain, RequestAnswers, ServedConnections, held_by, serve,
};
pub(crate) use self::limits::{KeyedLimit, TooMany};
pub(crate) use self::network::ClientNetwork;
pub(crate) use self::room::{ConnectionRoom, RoomPlace};
pub(crate) use self::tls::ServerTls;
pub use self::tls::{CertificateFacts, TlsFiles};
