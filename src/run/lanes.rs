//! The lanes of a job: how many of its recipients are served at once, and in which order.
//!
//! A relay may ask the servers of a recipient's domain before it replies, and take minutes over each. Mails that wait for such replies give
//! their lanes to others. The other recipients of their domains come last, and few of them at once: each takes a connection to the relay
//! for some seconds, which other jobs need too.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::bounds::MAIL_HOLDS_CONNECTION;

/// From how long a mail that waits for the relay tells that its domain is slow. Relays that look into mails take seconds over each.
const IS_SLOW: Duration = Duration::from_secs(8);

/// How long a mail keeps its lane while the relay does not reply: as long as it counts towards the relay's connections. A lane that is given
/// back sooner would only add to the mails that wait for a connection, and other jobs would wait behind them.
const KEEPS_LANE: Duration = MAIL_HOLDS_CONNECTION;

/// For how long a domain counts as slow after its last slow mail: a relay that was slow for a moment is not slow for the whole of a long job.
const SLOW_FOR: Duration = Duration::from_secs(2 * 60);

/// How many mails of a job wait beside its lanes at most. Each has a connection to the relay, and its text in memory.
const MAX_BESIDE: usize = 64;

/// The lanes of a job.
#[derive(Debug)]
pub struct Lanes {
    /// How many recipients are served at once, apart from those that wait beside.
    at_once: usize,
    state: Mutex<LaneState>,
    /// The places of mails to slow domains.
    few: Semaphore,
    /// A lane was given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct LaneState {
    /// How many mails wait beside the lanes.
    beside: usize,
    /// The domains whose mails waited long, and when.
    slow: BTreeMap<String, Instant>,
    /// The domains whose rate lets no mail pass until then.
    paced: BTreeMap<String, Instant>,
}

impl LaneState {
    fn is_slow(&self, domain: &str) -> bool {
        let at = self.slow.get(domain);
        at.is_some_and(|at| at.elapsed() < SLOW_FOR)
    }

    /// How long the rate of a domain lets no mail pass.
    fn paced_for(&self, domain: &str) -> Option<Duration> {
        let until = self.paced.get(domain)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Items that are served together.
#[derive(Debug)]
pub struct LaneGroup<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether the items of slow and paced domains are set aside as soon as no other of the group is left, so that the next group begins.
    pub are_set_aside: bool,
}

/// The place of a mail beside the lanes.
struct PlaceBeside<'a>(&'a Lanes);

impl Drop for PlaceBeside<'_> {
    fn drop(&mut self) {
        self.0.state().beside -= 1;
    }
}

impl Lanes {
    /// So many lanes.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once: at_once.max(1),
            state: Mutex::default(),
            few: Semaphore::new((at_once / 2).max(1)),
            freed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that mails to a domain take long.
    pub fn counts_as_slow(&self, domain: &str) {
        let now = Instant::now();
        self.state().slow.insert(domain.to_owned(), now);
    }

    /// Records that the rate of a domain lets no mail pass for so long.
    pub fn counts_as_paced(&self, domain: &str, after: Duration) {
        let until = Instant::now() + after;
        self.state().paced.insert(domain.to_owned(), until);
    }

    /// How long the rate of a domain lets no mail pass, as far as that was seen.
    pub fn paced_for(&self, domain: &str) -> Option<Duration> {
        self.state().paced_for(domain)
    }

    /// Waits until a mail to this domain may ask for a connection: those to slow domains wait for each other.
    pub async fn place(&self, domain: &str) -> Option<SemaphorePermit<'_>> {
        let is_slow = self.state().is_slow(domain);
        match is_slow {
            true => self.few.acquire().await.ok(),
            false => None,
        }
    }

    /// Delivers a mail to a domain. If that takes long, the mail goes on beside the lanes, and the domain's other recipients come last.
    pub async fn deliver<T>(
        &self,
        domain: &str,
        place: Option<SemaphorePermit<'_>>,
        mail: impl Future<Output = T>,
    ) -> T {
        let mut mail = std::pin::pin!(mail);
        let began = Instant::now();
        tokio::select! {
            delivered = &mut mail => return delivered,
            () = tokio::time::sleep(IS_SLOW) => {}
        }
        self.counts_as_slow(domain);
        tokio::select! {
            delivered = &mut mail => return delivered,
            () = tokio::time::sleep_until(began + KEEPS_LANE) => {}
        }
        drop(place);
        let _beside = self.step_aside();
        mail.await
    }

    /// Gives the lane of a mail to another, unless too many wait already.
    fn step_aside(&self) -> Option<PlaceBeside<'_>> {
        let mut state = self.state();
        if state.beside >= MAX_BESIDE {
            return None;
        }
        state.beside += 1;
        drop(state);
        self.freed.notify_one();
        Some(PlaceBeside(self))
    }

    /// Whether another recipient may be served while so many are.
    fn have_room(&self, under_way: usize) -> bool {
        under_way < self.at_once + self.state().beside
    }

    /// The next one: the first whose domain is neither slow nor paced, or else the first; none, if those of such domains are set aside.
    fn next<T>(
        &self,
        waiting: &mut VecDeque<T>,
        domain: impl Fn(&T) -> Option<&str>,
        are_set_aside: bool,
    ) -> Option<T> {
        let state = self.state();
        let may_pass = |domain: &str| !state.is_slow(domain) && state.paced_for(domain).is_none();
        let is_quick = |item: &T| domain(item).is_none_or(&may_pass);
        let first = match state.slow.is_empty() && state.paced.is_empty() {
            true => Some(0),
            false => waiting.iter().position(is_quick),
        };
        match first {
            None if are_set_aside => None,
            first => waiting.remove(first.unwrap_or_default()),
        }
    }

    /// Does the work of each item, several at once, and hands on what comes of it. `domain` is where the mail of an item goes.
    pub fn run<T, F>(
        &self,
        items: impl IntoIterator<Item = T>,
        domain: impl Fn(&T) -> Option<&str>,
        work: impl Fn(T) -> F,
        end: impl FnMut(F::Output),
    ) -> impl Future<Output = ()>
    where
        F: Future,
    {
        let mut group = Some(LaneGroup {
            items: items.into_iter().collect(),
            are_set_aside: false,
        });
        let next = move || std::future::ready(group.take());
        let set_aside = |_: T| unreachable!("the only group is served to its end");
        self.run_groups(next, domain, set_aside, work, end)
    }

    /// Like [`run`](Self::run), for groups: the next begins as soon as no item of the last one can, and waits for none of its ends. What is set
    /// aside of a group is handed to `set_aside` before the next one is asked for, and may be a part of a later group.
    pub async fn run_groups<T, F, N>(
        &self,
        mut next_group: impl FnMut() -> N,
        domain: impl Fn(&T) -> Option<&str>,
        set_aside: impl Fn(T),
        work: impl Fn(T) -> F,
        mut end: impl FnMut(F::Output),
    ) where
        F: Future,
        N: Future<Output = Option<LaneGroup<T>>>,
    {
        let mut under_way = FuturesUnordered::new();
        let (mut waiting, mut are_set_aside, mut has_more) = (VecDeque::new(), false, true);
        loop {
            while self.have_room(under_way.len())
                && let Some(item) = self.next(&mut waiting, &domain, are_set_aside)
            {
                under_way.push(work(item));
            }
            if has_more && self.have_room(under_way.len()) {
                waiting.drain(..).for_each(&set_aside);
                let mut asked = pin!(next_group());
                let group = loop {
                    tokio::select! {
                        group = &mut asked => break group,
                        Some(done) = under_way.next(), if !under_way.is_empty() => end(done),
                    }
                };
                has_more = group.is_some();
                if let Some(group) = group {
                    waiting = group.items.into();
                    are_set_aside = group.are_set_aside;
                }
                continue;
            }
            tokio::select! {
                done = under_way.next() => match done {
                    Some(done) => end(done),
                    None => break,
                },
                () = self.freed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    fn domain<'a>(address: &'a &'static str) -> Option<&'a str> {
        address.split_once('@').map(|(_, domain)| domain)
    }

    /// When each recipient has their mail, in seconds; mails to slow.example take so long.
    async fn served(
        at_once: usize,
        recipients: &[&'static str],
        slow: u64,
    ) -> Vec<(&'static str, u64)> {
        let lanes = Lanes::new(at_once);
        let began = Instant::now();
        let ends = Mutex::new(Vec::new());
        let work = |address: &'static str| {
            let lanes = &lanes;
            async move {
                let domain = domain(&address).unwrap();
                let secs = if domain == "slow.example" { slow } else { 1 };
                let place = lanes.place(domain).await;
                let mail = sleep(Duration::from_secs(secs));
                lanes.deliver(domain, place, mail).await;
                (address, began.elapsed().as_secs())
            }
        };
        let run = lanes.run(recipients.iter().copied(), domain, work, |end| {
            ends.lock().unwrap().push(end);
        });
        run.await;
        assert_eq!(lanes.state().beside, 0);
        ends.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn recipients_of_a_slow_domain_hold_no_others() {
        let recipients = [
            "a@slow.example",
            "b@slow.example",
            "c@slow.example",
            "d@slow.example",
            "e@quick.example",
            "f@quick.example",
            "g@other.example",
        ];
        let ends = served(2, &recipients, 600).await;
        let quick: Vec<_> = ends.iter().filter(|(_, at)| *at < 20).collect();
        assert_eq!(
            quick,
            [
                &("e@quick.example", 11),
                &("f@quick.example", 11),
                &("g@other.example", 12)
            ]
        );
        assert_eq!(ends.len(), 7);
        // Those of the slow domain wait side by side, too.
        assert!(ends.iter().all(|(_, at)| *at < 630), "{ends:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn quick_recipients_are_served_in_their_order_and_no_more_at_once_than_there_are_lanes() {
        let recipients = [
            "a@x.example",
            "b@y.example",
            "c@x.example",
            "d@z.example",
            "e@x.example",
        ];
        let ends = served(2, &recipients, 1).await;
        let at: Vec<u64> = ends.iter().map(|(_, at)| *at).collect();
        assert_eq!(at, [1, 1, 2, 2, 3]);
        let order: Vec<&str> = ends.iter().map(|(address, _)| *address).collect();
        assert_eq!(order, recipients);
    }

    /// When each is served, in seconds, of groups that come one after the other; those of slow.example take so long.
    async fn served_in_groups(groups: &[&[&'static str]], slow: u64) -> Vec<(&'static str, u64)> {
        let lanes = Lanes::new(2);
        let began = Instant::now();
        let (ends, aside) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let mut groups = groups.iter();
        let mut is_last = false;
        let next = || {
            let group = groups.next().map(|items| LaneGroup {
                items: items.to_vec(),
                are_set_aside: true,
            });
            let group = group.or_else(|| {
                let items = std::mem::take(&mut *aside.lock().unwrap());
                (!std::mem::replace(&mut is_last, true)).then_some(LaneGroup {
                    items,
                    are_set_aside: false,
                })
            });
            async {
                sleep(Duration::from_millis(100)).await;
                group
            }
        };
        let work = |address: &'static str| {
            let lanes = &lanes;
            async move {
                let domain = domain(&address).unwrap();
                let secs = if domain == "slow.example" { slow } else { 1 };
                let place = lanes.place(domain).await;
                lanes
                    .deliver(domain, place, sleep(Duration::from_secs(secs)))
                    .await;
                (address, began.elapsed().as_secs())
            }
        };
        let set_aside = |address| aside.lock().unwrap().push(address);
        let end = |end| ends.lock().unwrap().push(end);
        lanes.run_groups(next, domain, set_aside, work, end).await;
        assert_eq!(lanes.state().beside, 0);
        ends.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_with_slow_recipients_holds_no_later_one_and_they_come_last() {
        let groups: [&[&str]; 3] = [
            &["a@slow.example", "b@slow.example", "c@slow.example"],
            &["d@slow.example", "e@quick.example"],
            &["f@quick.example", "g@slow.example", "h@other.example"],
        ];
        let ends = served_in_groups(&groups, 60).await;
        let order: String = ends.iter().map(|(address, _)| &address[..1]).collect();
        assert_eq!(order, "efhabcdg", "{ends:?}");
        let quick: Vec<u64> = ends.iter().take(3).map(|(_, at)| *at).collect();
        assert!(quick.iter().all(|at| *at <= 14), "{ends:?}");
        // The last begin when the quick ones are done, and not with the next slow group's end.
        assert!(ends.iter().all(|(_, at)| *at < 95), "{ends:?}");
        // Without slow ones, each is served in its order, beyond the ends of groups.
        let ends = served_in_groups(&groups, 1).await;
        let order: String = ends.iter().map(|(address, _)| &address[..1]).collect();
        assert_eq!(order, "abcdefgh", "{ends:?}");
        assert!(ends.iter().all(|(_, at)| *at <= 5), "{ends:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_is_slow_for_a_time_and_not_for_the_whole_job() {
        let lanes = Lanes::new(2);
        let slow = lanes.deliver("x.example", None, sleep(IS_SLOW * 2));
        slow.await;
        assert!(lanes.place("x.example").await.is_some());
        sleep(SLOW_FOR).await;
        assert!(lanes.place("x.example").await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_mails_wait_beside_the_lanes_than_may() {
        let recipients = vec!["x@slow.example"; 2 * MAX_BESIDE];
        let ends = served(4, &recipients, 6000).await;
        let first = ends.iter().filter(|(_, at)| *at <= 6500).count();
        assert_eq!(first, MAX_BESIDE + 4);
    }

    #[tokio::test(start_paused = true)]
    async fn few_mails_to_a_domain_that_is_known_as_slow_take_connections_at_once() {
        let mut recipients = vec!["a@quick.example"];
        recipients.extend(["x@slow.example"; 40]);
        let ends = served(4, &recipients, 600).await;
        let soon = ends.iter().filter(|(_, at)| *at < 610).count();
        assert_eq!(soon, 5, "{ends:?}");
        // Two in ten seconds.
        assert!(ends.iter().all(|(_, at)| *at < 820), "{ends:?}");
        assert!(ends.iter().any(|(_, at)| *at > 750), "{ends:?}");
    }
}
