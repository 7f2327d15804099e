//! A TCP proxy to a server that forwards bytes, falls silent like a firewall that has dropped its state, or rejects.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The mode of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bytes are forwarded.
    Open,
    /// Connections are accepted, but no byte is forwarded; earlier connections stay dead.
    Silent,
    /// Connections are closed at once.
    Refusing,
    /// Answers are forwarded at sixteen kilobytes a second: slow, but never silent.
    Slow,
    /// Requests are forwarded, but of an answer only its head.
    BodySilent,
    /// Each request gets this answer, like from a load balancer without a backend.
    Says(&'static str),
    /// Each PUT gets this answer, and all else is forwarded.
    RejectsPuts(&'static str),
    /// The second request of each connection gets a reset, as from a firewall that forgets connections at once.
    ResetsSecond,
}

/// A running proxy; it ends with the test.
pub(crate) struct Line {
    /// Its address on loopback.
    pub(crate) address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    _tasks: JoinSet<()>,
}

impl Line {
    /// A forwarding proxy to `upstream`.
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let shared = Arc::clone(&mode);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(carry(near, upstream, shared.subscribe()));
            }
        });
        Self {
            address,
            mode,
            _tasks: tasks,
        }
    }

    /// A server that accepts connections and never sends a byte.
    pub(crate) async fn silent() -> Self {
        let line = Self::start(([127, 0, 0, 1], 9).into()).await;
        line.becomes(Mode::Silent);
        line
    }

    pub(crate) fn becomes(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn carry(mut near: TcpStream, upstream: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let now = *mode.borrow_and_update();
    match now {
        Mode::Refusing => return,
        Mode::Silent => return hold(near).await,
        Mode::BodySilent => return pass_heads(near, upstream).await,
        Mode::Says(answer) => {
            let mut request = [0; 16 * 1024];
            if near.read(&mut request).await.is_ok_and(|read| read > 0) {
                drop(near.write_all(answer.as_bytes()).await);
                drop(near.shutdown().await);
                hold(near).await;
            }
            return;
        }
        Mode::ResetsSecond => return reset_at_second(near, upstream).await,
        Mode::Open | Mode::Slow | Mode::RejectsPuts(_) => {}
    }
    let Ok(far) = TcpStream::connect(upstream).await else {
        return;
    };
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
        (near.into_split(), far.into_split());
    let both = async {
        tokio::join!(
            async {
                if let Mode::RejectsPuts(_) = now {
                    pass_until_a_put(&mut near_in, &mut far_out).await;
                } else {
                    drop(tokio::io::copy(&mut near_in, &mut far_out).await);
                }
                drop(far_out.shutdown().await);
            },
            async {
                match now {
                    Mode::Slow => trickle(&mut far_in, &mut near_out).await,
                    _ => drop(tokio::io::copy(&mut far_in, &mut near_out).await),
                }
                if let Mode::RejectsPuts(answer) = now {
                    drop(near_out.write_all(answer.as_bytes()).await);
                }
                drop(near_out.shutdown().await);
            }
        );
    };
    let changed = async {
        // After a change of the mode, this connection is not used any more.
        drop(mode.changed().await);
        *mode.borrow()
    };
    let became = tokio::select! {
        () = both => return,
        became = changed => became,
    };
    if became == Mode::Silent {
        hold(near_in.reunite(near_out).expect("they are of one stream")).await;
    }
}

/// Forwards until a client that has had an answer sends more, and resets the connection then.
async fn reset_at_second(mut near: TcpStream, upstream: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(upstream).await else {
        return;
    };
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut had_an_answer = false;
    loop {
        let is_forwarded = tokio::select! {
            read = near.read(&mut asked) => match read {
                Ok(read @ 1..) if !had_an_answer => far.write_all(&asked[..read]).await,
                // Without lingering a socket is closed by a reset.
                Ok(_) | Err(_) => break drop(near.set_zero_linger()),
            },
            read = far.read(&mut answered) => match read {
                Ok(read @ 1..) => {
                    had_an_answer = true;
                    near.write_all(&answered[..read]).await
                }
                Ok(_) | Err(_) => break,
            },
        };
        if is_forwarded.is_err() {
            break;
        }
    }
}

/// Forwards requests until a PUT begins, of which nothing is forwarded.
async fn pass_until_a_put(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
    let mut some = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut some).await
        && !some.starts_with(b"PUT ")
        && to.write_all(&some[..read]).await.is_ok()
    {}
}

async fn trickle(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
    let mut some = [0; 1600];
    while let Ok(read @ 1..) = from.read(&mut some).await
        && to.write_all(&some[..read]).await.is_ok()
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Forwards a request and the head of its answer, and then nothing more.
async fn pass_heads(near: TcpStream, upstream: SocketAddr) {
    let Ok(far) = TcpStream::connect(upstream).await else {
        return;
    };
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
        (near.into_split(), far.into_split());
    let back = async {
        let mut answer = Vec::new();
        while far_in
            .read_buf(&mut answer)
            .await
            .is_ok_and(|read| read > 0)
        {
            if let Some(at) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
                drop(near_out.write_all(&answer[..at + 4]).await);
                break;
            }
        }
    };
    tokio::join!(back, async {
        drop(tokio::io::copy(&mut near_in, &mut far_out).await);
    });
}

/// Reads and discards, until the peer closes.
async fn hold(mut near: TcpStream) {
    let mut ignored = [0; 4096];
    while near.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}
