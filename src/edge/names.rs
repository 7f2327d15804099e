//! Looks names up, within bounds: one lookup for all that ask for a name, and a few threads.
//!
//! The resolver of the C library blocks its thread until its name servers answer or all tries are over: 20 s with two servers that are
//! silent, and several times that with a search list (`resolv.conf(5)`). A request gives up before. In the thread pool of the runtime,
//! each further attempt would take another thread, until none is left for other work.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a lookup is waited for: a connection has five seconds, with its handshake.
const PATIENCE: Duration = Duration::from_millis(4500);

/// After how long another lookup of a name begins beside one that has no answer. The older may have asked a server that was down then.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How many lookups of a name run at once, and of all names.
const MOST_OF_A_NAME: usize = 3;
const MOST: usize = 32;

/// What a lookup found; its error without the name.
type FoundAddresses = Result<Vec<IpAddr>, Arc<io::Error>>;

/// A lookup whose answer is not known yet.
#[derive(Debug, Clone)]
struct Lookup {
    began: Instant,
    answer: watch::Receiver<Option<FoundAddresses>>,
}

/// The lookups that run, by name.
static RUNNING: LazyLock<Mutex<HashMap<String, Vec<Lookup>>>> = LazyLock::new(Mutex::default);

fn running() -> MutexGuard<'static, HashMap<String, Vec<Lookup>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a name, in the order of the resolver (RFC 6724), each once.
///
/// # Errors
/// The resolver's error; or [`TimedOut`](io::ErrorKind::TimedOut) if it has no answer within 4.5 s.
pub(crate) async fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    addresses_by(name, system_lookup).await
}

fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for address in (name, 0).to_socket_addrs()? {
        if !found.contains(&address.ip()) {
            found.push(address.ip());
        }
    }
    Ok(found)
}

async fn addresses_by(
    name: &str,
    look_up: impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
) -> io::Result<Vec<IpAddr>> {
    let mut answer = joined(name, look_up)?;
    let answered = timeout(PATIENCE, answer.wait_for(Option::is_some)).await;
    let found = match answered {
        Ok(Ok(found)) => found.clone(),
        // The thread ended without an answer.
        Ok(Err(_)) => None,
        Err(_) => {
            let words = format!("the name servers have not answered for {name}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, words));
        }
    };
    match found {
        Some(Ok(found)) if found.is_empty() => Err(io::Error::other("the name has no address")),
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
        None => Err(io::Error::other("the lookup of the name failed")),
    }
}

/// The answer of a lookup that runs, or of a new one.
fn joined(
    name: &str,
    look_up: impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
) -> io::Result<watch::Receiver<Option<FoundAddresses>>> {
    let mut running = running();
    let count: usize = running.values().map(Vec::len).sum();
    let of_name = running.entry(name.to_owned()).or_default();
    if let Some(last) = of_name.last() {
        let is_new = last.began.elapsed() < AGAIN_AFTER;
        if is_new || of_name.len() >= MOST_OF_A_NAME || count >= MOST {
            return Ok(last.answer.clone());
        }
    }
    if count >= MOST {
        running.remove(name);
        return Err(io::Error::other(
            "too many names are being looked up, and the name servers do not answer",
        ));
    }
    let (told, answer) = watch::channel(None);
    let began = Instant::now();
    let lookup = Lookup {
        began,
        answer: answer.clone(),
    };
    let ending = EndingLookup {
        name: name.to_owned(),
        answer: answer.clone(),
    };
    let looking = move || {
        let found = look_up(&ending.name).map_err(Arc::new);
        drop(ending);
        told.send_replace(Some(found));
    };
    let thread = std::thread::Builder::new().name("name lookup".to_owned());
    of_name.push(lookup);
    drop(running);
    thread.spawn(looking)?;
    Ok(answer)
}

/// Forgets a lookup when it is dropped: it has ended in any way.
struct EndingLookup {
    name: String,
    answer: watch::Receiver<Option<FoundAddresses>>,
}

impl Drop for EndingLookup {
    fn drop(&mut self) {
        let mut running = running();
        if let Some(of_name) = running.get_mut(&self.name) {
            of_name.retain(|lookup| !lookup.answer.same_channel(&self.answer));
            if of_name.is_empty() {
                running.remove(&self.name);
            }
        }
    }
}

/// The resolver of an HTTP client. The addresses are rotated by `turn`: a client that has failed begins with another address.
/// Connections have one deadline for all addresses, and the first may be that of a server that is gone, or one that accepts and is silent.
#[derive(Debug, Clone)]
pub(super) struct TurningResolver {
    pub(super) turn: u64,
}

impl ResolveDns for TurningResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = addresses(name).await.map_err(ResolveDnsError::new)?;
            Ok(turned(found, self.turn))
        })
    }
}

/// Rotates the addresses, of which those of both families alternate. At turn 0 the order in each family is that of the system; at others it is
/// fixed, since name servers rotate the addresses, too, and both turns together could lead to the same address each time.
pub(crate) fn turned(found: Vec<IpAddr>, turn: u64) -> Vec<IpAddr> {
    let is_of_six = found.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == is_of_six);
    if turn > 0 {
        first.sort_unstable();
        second.sort_unstable();
    }
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turned = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        turned.extend(pair.into_iter().flatten());
    }
    if let Some(by) = turn.checked_rem(turned.len() as u64) {
        turned.rotate_left(usize::try_from(by).unwrap_or_default());
    }
    turned
}

/// The address of a name with which the next connection begins. A server that accepts connections and is silent, or closes them, is
/// passed over by the next one.
#[derive(Debug, Default)]
pub(crate) struct AddressTurn(AtomicU64);

impl AddressTurn {
    /// The turn of a connection that begins now.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A connection that began at a turn passes over so many addresses. Of several that fail at the same address, the first counts.
    pub(crate) fn pass_over(&self, turn: u64, addresses: u64) {
        let next = turn.wrapping_add(addresses);
        let (Ok(_) | Err(_)) =
            self.0
                .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::channel;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Lets threads that were just begun come to their work.
    async fn until(holds: impl Fn() -> bool) {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn all_that_ask_for_a_name_share_one_lookup() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let (go_on, wait) = channel::<()>();
        let counted = Arc::clone(&lookups);
        let first = addresses_by("shared.example", move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            wait.recv().ok();
            Ok(vec![address(1)])
        });
        let others = (0..20).map(|_| {
            let counted = Arc::clone(&lookups);
            addresses_by("shared.example", move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(vec![address(2)])
            })
        });
        let answer = async {
            until(|| lookups.load(Ordering::SeqCst) > 0).await;
            go_on.send(()).unwrap();
        };
        let others = futures_util::future::join_all(others);
        let (first, others, ()) = tokio::join!(first, others, answer);
        assert_eq!(first.unwrap(), [address(1)]);
        assert!(
            others
                .into_iter()
                .all(|found| found.unwrap() == [address(1)])
        );
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
        assert!(!running().contains_key("shared.example"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_answered_takes_a_few_threads_however_long_it_is_asked_for() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let (go_on, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for _ in 0..100 {
            let (counted, wait) = (Arc::clone(&lookups), Arc::clone(&wait));
            let error = addresses_by("silent.example", move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                wait.lock().unwrap().recv().ok();
                Ok(vec![address(3)])
            });
            let error = error.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().ends_with("for silent.example"), "{error}");
            // The clock of the test does not wait for threads.
            until(|| lookups.load(Ordering::SeqCst) == running()["silent.example"].len()).await;
        }
        assert_eq!(lookups.load(Ordering::SeqCst), MOST_OF_A_NAME);
        drop(go_on);
        until(|| !running().contains_key("silent.example")).await;
        tokio::time::resume();
        let found = addresses_by("silent.example", |_| Ok(vec![address(4)]));
        assert_eq!(found.await.unwrap(), [address(4)]);
    }

    #[tokio::test]
    async fn what_a_lookup_says_is_passed_on() {
        let error = addresses_by("none.example", |_| Ok(Vec::new()));
        let error = error.await.unwrap_err().to_string();
        assert_eq!(error, "the name has no address");
        let error = addresses_by("broken.example", |_| Err(io::Error::other("no server")));
        assert_eq!(error.await.unwrap_err().to_string(), "no server");
        let panics = addresses_by("panics.example", |_| panic!("a bug"));
        assert!(panics.await.is_err());
        assert_eq!(addresses("192.0.2.7").await.unwrap(), [address(7)]);
        let local = addresses("localhost").await.unwrap();
        assert!(local.iter().all(IpAddr::is_loopback), "{local:?}");
    }

    #[test]
    fn a_client_that_failed_begins_with_another_address_and_soon_with_one_of_the_other_family() {
        let six = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let found = vec![six(1), six(2), address(1), address(2), address(3)];
        let first = |turn| turned(found.clone(), turn)[0];
        let firsts: Vec<IpAddr> = (0..6).map(first).collect();
        let all = [six(1), address(1), six(2), address(2), address(3)];
        assert_eq!(firsts[..5], all);
        assert_eq!(firsts[5], six(1));
        assert_eq!(turned(found, 1), [all[1], all[2], all[3], all[4], all[0]]);
        assert_eq!(turned(vec![address(1)], 7), [address(1)]);
        assert_eq!(turned(Vec::new(), 7), Vec::<IpAddr>::new());
    }

    #[test]
    fn of_several_connections_that_fail_at_one_address_the_first_passes_it_over() {
        let turn = AddressTurn::default();
        let begun = turn.now();
        for _ in 0..4 {
            turn.pass_over(begun, 1);
        }
        assert_eq!(turn.now(), 1);
        turn.pass_over(1, 2);
        assert_eq!(turn.now(), 3);
    }
}
