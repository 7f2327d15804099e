//! The bytes between us and a relay: a socket, optionally with TLS, and the replies read from it.
//!
//! A mail depends on two facts that lettre's connection does not report: whether the relay sent something before a
//! command, and which bytes had left when the connection broke. `TCP_NODELAY` is set: without it each text waits for
//! the relay's delayed acknowledgement, 40 ms (`cargo bench --bench mail`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reply::{MAX_BYTES, MAX_LINE, Reply, ReplyLine};
use crate::redact::Secrets;

/// Why sending or reading failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The relay closed the connection.
    #[error("the relay closed the connection")]
    Closed,
    /// The network failed.
    #[error("{0}")]
    Network(#[from] io::Error),
    /// The bytes are not a reply.
    #[error("the relay sent an invalid reply: {0}")]
    Garbage(&'static str),
}

/// How a relay's certificate is verified.
#[derive(Clone)]
pub(super) struct Trust {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// A connection.
pub(super) struct Wire {
    stream: RelayStream,
    unread: Vec<u8>,
    /// What logged replies must not repeat: the recipient of the mail in progress.
    pub(super) secrets: Secrets,
}

enum RelayStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl RelayStream {
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }
}

impl Wire {
    /// The address of our end.
    pub(super) fn own_address(&self) -> Option<SocketAddr> {
        let socket = match &self.stream {
            RelayStream::Plain(socket) => socket,
            RelayStream::Tls(stream) => stream.get_ref().0,
        };
        socket.local_addr().ok()
    }

    /// A connection over a socket.
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            stream: RelayStream::Plain(socket),
            unread: Vec::with_capacity(512),
            secrets: Secrets::default(),
        })
    }

    /// Puts TLS over the connection.
    pub(super) async fn secure(self, trust: &Trust) -> Result<Self, WireError> {
        // Bytes received before the handshake are not authenticated (CVE-2011-0411).
        if !self.unread.is_empty() {
            return Err(WireError::Garbage("data between STARTTLS and TLS"));
        }
        let RelayStream::Plain(socket) = self.stream else {
            return Ok(self);
        };
        let connector = TlsConnector::from(Arc::clone(&trust.config));
        let stream = connector.connect(trust.name.clone(), socket).await?;
        Ok(Self {
            stream: RelayStream::Tls(Box::new(stream)),
            unread: self.unread,
            secrets: self.secrets,
        })
    }

    /// Sends all of the bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.stream.write(bytes).await?)
    }

    /// Whether no unread bytes of the relay are waiting. A relay that sends before a command is out of step.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.unread.is_empty() && self.stream.read(&mut self.unread).now_or_never().is_none()
    }

    /// Reads a reply.
    pub(super) async fn reply(&mut self) -> Result<Reply, WireError> {
        let mut reply: Option<Reply> = None;
        let mut bytes = 0;
        loop {
            let line = self.line().await?;
            bytes += line.len();
            if bytes > MAX_BYTES {
                return Err(WireError::Garbage("an unterminated reply"));
            }
            let line = ReplyLine::parse(&line).ok_or(WireError::Garbage("no code"))?;
            let reply = reply.get_or_insert_with(|| Reply {
                code: line.code,
                secrets: self.secrets.clone(),
                ..Reply::default()
            });
            if reply.code != line.code {
                return Err(WireError::Garbage("a reply with two codes"));
            }
            reply.lines.push(line.words);
            if line.is_last {
                return Ok(reply.clone());
            }
        }
    }

    /// Reads a line, without its end.
    async fn line(&mut self) -> Result<Vec<u8>, WireError> {
        let mut looked_at = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.unread[looked_at..]) {
                let rest = self.unread.split_off(looked_at + at + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            looked_at = self.unread.len();
            if looked_at > MAX_LINE {
                return Err(WireError::Garbage("an unterminated line"));
            }
            if self.stream.read(&mut self.unread).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }
}
