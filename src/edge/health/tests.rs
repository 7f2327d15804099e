//! Tests of outages, pauses, and the shares of slots.

use super::jobs::LONG_OUTAGE;
use super::kinds::INITIAL_PAUSE;
use super::*;

const GET: Step = Step::only("GET");

fn edge() -> Edge {
    Edge::new(
        EdgeKind::Relay,
        "default",
        "the relay smtp.sender.example:25 (mail.smtp)",
    )
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_asks_for_time_is_down_at_once_and_left_alone_for_ten_seconds_at_most() {
    let edge = edge();
    edge.failed_for(FailureKind::Throttled, "503", Duration::from_secs(2));
    assert_eq!(edge.outage(), None, "a moment is no outage");
    edge.failed_for(FailureKind::Throttled, "503", Duration::from_secs(40));
    // Another answer of the same time does not shorten it.
    edge.failed(FailureKind::ServerError, "500");
    // It is asked again before, since such an answer may come from a proxy alone.
    after(9_000).await;
    assert!(edge.may_be_tried("a").is_err());
    after(1_000).await;
    assert!(edge.may_be_tried("a").is_ok());
    edge.answered();
    assert_eq!(edge.outage(), None);
}

async fn after(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_no_outage_and_the_second_in_a_row_is() {
    let edge = edge();
    edge.failed(FailureKind::Timeout, "no answer");
    edge.answered();
    edge.failed(FailureKind::Timeout, "no answer");
    assert_eq!((edge.outage(), edge.may_be_tried("a")), (None, Ok(())));
    edge.failed(FailureKind::Timeout, "no answer");
    let outage = edge.may_be_tried("a").unwrap_err();
    assert!(outage.left <= INITIAL_PAUSE && !outage.left.is_zero());
    let said = outage.to_string();
    assert!(
        said.starts_with("the relay smtp.sender.example:25 (mail.smtp) has not answered since 20"),
        "{said}"
    );
    assert_eq!(edge.count(FailureKind::Timeout), 3);
    edge.answered();
    assert_eq!((edge.outage(), edge.may_be_tried("a")), (None, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_some_requests_is_up() {
    let edge = edge();
    for kind in [FailureKind::ServerError, FailureKind::Throttled] {
        for _ in 0..5 {
            edge.failed(kind, "503");
            after(40).await;
        }
        assert_eq!(edge.outage(), None, "{kind:?}");
        edge.answered();
    }
    for _ in 0..12 {
        edge.failed(FailureKind::ServerError, "503");
        after(1000).await;
    }
    assert_eq!(edge.outage().unwrap().kind, FailureKind::ServerError);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_down_one_request_at_a_time_tries_it_and_the_pause_is_bounded() {
    let edge = edge();
    for _ in 0..20 {
        edge.failed(FailureKind::Timeout, "");
    }
    let left = edge.may_be_tried("a").unwrap_err().left;
    assert!(left <= MAX_PAUSE && left >= MAX_PAUSE / 2, "{left:?}");
    tokio::time::sleep(left).await;
    assert_eq!(edge.may_be_tried("a"), Ok(()), "its pause is over");
    assert!(edge.may_be_tried("b").is_err(), "another tries it");
    assert_eq!(edge.may_be_tried("a"), Ok(()), "it goes on");
    tokio::time::sleep(TRIAL).await;
    assert_eq!(
        edge.may_be_tried("b"),
        Ok(()),
        "the one before was given up"
    );
    edge.failed(FailureKind::Timeout, "");
    assert!(edge.may_be_tried("b").is_err(), "its trial has failed");
    edge.answered();
    assert_eq!(
        (edge.may_be_tried("a"), edge.may_be_tried("b")),
        (Ok(()), Ok(()))
    );
}

/// A relay that is silent about one domain, and thirty jobs for it before the first of another.
#[tokio::test(start_paused = true)]
async fn a_silent_edge_is_tried_by_a_job_that_asks_about_another_name_than_those_that_wait() {
    let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
    edge.limit_hanging(2);
    let enter = |by: &str, name| edge.enter_about(&[name], by, 4);
    let waiting: Vec<JobAtEdge> = (0..4).map(|n| enter(&n.to_string(), 1).unwrap()).collect();
    let requests: Vec<Request> = (0..4).map(|_| edge.asked_about(1, GET)).collect();
    after(3600).await;
    let away = waiting.iter().filter(|job| job.gives_way(4).is_some());
    assert_eq!(away.count(), 2, "the share is that of what may hang");
    let scout = enter("of the same", 1).unwrap();
    assert!(enter("one more", 1).is_err());
    assert!(edge.enter("without a name", 4).is_err());
    let other = enter("of another", 2).unwrap();
    assert!(other.gives_way(4).is_none());
    assert!(enter("of a third", 3).is_err(), "one at a time");
    let request = edge.asked_about(2, GET);
    after(3600).await;
    assert!(other.gives_way(4).is_some(), "no answer either");
    drop((other, request));
    let next = enter("the next of the same", 1).unwrap();
    assert!(enter("of another again", 2).is_err(), "in vain");
    let third = edge.enter_about(&[1, 3], "of a third again", 4).unwrap();
    edge.replied(GET);
    drop((third, scout, next));
    after(3600).await;
    let _scout = enter("of the same again", 1).unwrap();
    drop(enter("of another once more", 2).unwrap());
    // What the silence left behind may have a dead connection; where that happens again, the name is the cause.
    let is_first = |request: &Request| edge.is_first_left_behind(request.number());
    assert!(requests.iter().all(is_first));
    let last = edge.asked_about(1, GET);
    assert!(!is_first(&last), "it began after the silence");
    after(3600).await;
    edge.replied(GET);
    assert!(!is_first(&last));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_wait_for_a_silent_edge_keep_to_their_share_and_those_of_a_busy_one_do_not() {
    let edge = edge();
    let jobs: Vec<JobAtEdge> = (0..4)
        .map(|n| edge.enter(&n.to_string(), 2).unwrap())
        .collect();
    let request = edge.asked(GET);
    let giving_way = || jobs.iter().filter(|job| job.gives_way(2).is_some()).count();
    for _ in 0..10 {
        after(3000).await;
        edge.replied(GET);
        assert_eq!(giving_way(), 0, "bytes move");
    }
    after(3600).await;
    assert_eq!(giving_way(), 2, "the two youngest");
    assert!(jobs[0].gives_way(2).is_none());
    let scout = edge.enter("scout", 2).unwrap();
    assert!(edge.enter("new", 2).is_err(), "one finds out for all");
    assert!(scout.gives_way(2).is_none());
    after(10_000).await;
    assert!(scout.gives_way(2).is_some(), "it found out");
    drop(scout);
    drop(edge.enter("another", 2).unwrap());
    drop(request);
    assert_eq!(giving_way(), 0, "nothing is waited for");
    drop(jobs);
    for _ in 0..2 {
        edge.failed(FailureKind::Timeout, "");
    }
    tokio::time::sleep(edge.outage().unwrap().left).await;
    let trial = edge.enter("new", 2).unwrap();
    assert!(trial.gives_way(2).is_none());
    tokio::time::sleep(LONG_OUTAGE).await;
    assert!(trial.gives_way(2).is_some(), "it has been down for long");
}

#[tokio::test(start_paused = true)]
async fn jobs_that_take_long_at_an_edge_that_answers_keep_to_their_share_if_there_is_another() {
    let edge = Edge::new(EdgeKind::Store, "reports", "S3 (connections.reports)");
    let mut jobs: Vec<JobAtEdge> = (0..4)
        .map(|n| edge.enter(&n.to_string(), 2).unwrap())
        .collect();
    after(4000).await;
    let giving_way =
        |jobs: &[JobAtEdge]| jobs.iter().filter(|job| job.gives_way(2).is_some()).count();
    assert_eq!(giving_way(&jobs), 0, "it is the only one of its kind");
    edge.limit_long_jobs(Some(2));
    assert_eq!(giving_way(&jobs), 2);
    assert!(jobs[1].gives_way(2).is_none(), "the oldest go on");
    jobs.truncate(2);
    assert_eq!((edge.admits(), edge.trouble()), (Admission::One, None));
    let short = edge.enter("short", 2).unwrap();
    let occupied = edge.enter("new", 2).unwrap_err();
    assert_eq!(occupied.kind, FailureKind::Occupied);
    assert_eq!(edge.admits(), Admission::Nothing);
    after(3900).await;
    assert!(short.gives_way(2).is_none(), "it may be short");
    after(100).await;
    assert!(short.gives_way(2).is_some(), "it is not");
    drop(short);
    drop(jobs.remove(0));
    assert_eq!(edge.admits(), Admission::All);
    let young = edge.enter("new", 2).unwrap();
    assert!(young.gives_way(2).is_none());
    after(4000).await;
    assert!(young.gives_way(2).is_none(), "it is the second");
}

#[tokio::test(start_paused = true)]
async fn time_at_a_slow_store_is_not_the_relays_nor_time_at_a_slow_relay_the_stores() {
    let store = Edge::new(EdgeKind::Store, "reports", "S3 (connections.reports)");
    let relay = edge();
    for edge in [&store, &relay] {
        edge.limit_long_jobs(Some(1));
    }
    let at = |job: &str| [&store, &relay].map(|edge| edge.enter(job, 2).unwrap());
    let (first, second) = (at("first"), at("second"));
    let gives_way = |at: &[JobAtEdge; 2]| [&at[0], &at[1]].map(|at| at.gives_way(2).is_some());
    after(4000).await;
    assert_eq!(gives_way(&second), [true, false], "both list");
    assert_eq!(relay.admits(), Admission::All);
    let (mailing, mailing_too) = (Mailing::begin(&first), Mailing::begin(&first));
    assert_eq!(gives_way(&second), [false, false], "the first mails");
    after(4000).await;
    drop(mailing_too);
    let second_mails = Mailing::begin(&second);
    after(3900).await;
    assert_eq!(
        gives_way(&second),
        [false, false],
        "it has not mailed for long"
    );
    after(100).await;
    assert_eq!(gives_way(&second), [false, true]);
    drop(mailing);
    assert_eq!(gives_way(&second), [false, false], "the first publishes");
    drop(second_mails);
    assert_eq!(gives_way(&second), [true, false]);
    assert_eq!(gives_way(&first), [false, false], "it is the oldest");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_hangs_as_long_as_the_others_keeps_no_other_from_finding_out() {
    let edge = edge();
    let mut jobs: Vec<JobAtEdge> = (0..2)
        .map(|n| edge.enter(&n.to_string(), 2).unwrap())
        .collect();
    let _request = edge.asked(GET);
    after(4000).await;
    let scout = edge.enter("scout", 2).unwrap();
    // An older job ends, so that the scout is within the share and stays.
    drop(jobs.pop());
    after(10_000).await;
    assert!(scout.gives_way(2).is_none());
    let next = edge.enter("next", 2);
    assert!(
        next.is_ok(),
        "its connection may have died while the edge is well"
    );
    assert!(edge.enter("new", 2).is_err(), "one at a time");
    drop(scout);
    assert!(edge.enter("new", 2).is_err(), "the scout is another by now");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_came_to_nothing_is_free_for_another_and_one_that_lasts_is_not_cut() {
    let edge = edge();
    for _ in 0..2 {
        edge.failed(FailureKind::Timeout, "");
    }
    after(30_000).await;
    let job = edge.enter("job", 2).unwrap();
    assert!(
        job.gives_way(2).is_none(),
        "it has 15 s, however long the outage"
    );
    assert_eq!(edge.admits(), Admission::Nothing);
    assert!(edge.enter("other", 2).is_err());
    assert!(job.gives_way(2).is_none(), "the other took nothing from it");
    // It ends before it asks, for example because the job was done before.
    drop(job);
    assert_eq!(edge.admits(), Admission::One);
    let other = edge.enter("other", 2).unwrap();
    after(15_000).await;
    assert!(other.gives_way(2).is_some());
    edge.answered();
    assert_eq!(edge.admits(), Admission::All);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_began_before_the_last_answer_says_nothing_about_now() {
    let edge = edge();
    let began = Instant::now();
    after(1000).await;
    edge.answered();
    for _ in 0..3 {
        edge.failed_of(began, FailureKind::Timeout, "");
    }
    assert_eq!((edge.outage(), edge.count(FailureKind::Timeout)), (None, 3));
    for _ in 0..2 {
        edge.failed_of(Instant::now(), FailureKind::Timeout, "");
    }
    assert!(edge.outage().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_is_waited_for_in_vain_is_said_to_be_silent_before_a_request_fails() {
    let edge = edge();
    assert!(edge.is_quiet_for(Duration::from_secs(10)), "never used");
    let request = edge.asked(GET);
    assert!(!edge.is_quiet_for(Duration::ZERO), "a request is under way");
    after(17_000).await;
    assert_eq!(edge.trouble(), None);
    after(1_000).await;
    let said = edge.trouble().unwrap().to_string();
    assert!(said.contains("has not answered since 20"), "{said}");
    assert!(said.ends_with(": waiting at GET"), "{said}");
    assert_eq!(edge.may_be_tried("a"), Ok(()), "silence is no outage yet");
    edge.replied(GET);
    assert_eq!(edge.trouble(), None);
    drop(request);
    edge.answered();
    assert!(!edge.is_quiet_for(Duration::from_secs(10)));
    after(10_000).await;
    assert!(edge.is_quiet_for(Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn replies_to_others_break_a_silence_at_their_step_and_at_earlier_ones_only() {
    let edge = edge();
    let step = |rank, name| Step { rank, name };
    let (greeting, rcpt, data) = (step(1, "greeting"), step(7, "RCPT"), step(8, "DATA"));
    let request = edge.asked(greeting);
    edge.waits_at(request.number(), rcpt);
    for _ in 0..10 {
        after(3000).await;
        edge.replied(greeting);
    }
    let silence = edge.trouble().unwrap().to_string();
    assert!(silence.ends_with(": waiting at RCPT"), "{silence}");
    assert_eq!(edge.silent_at(Duration::from_secs(30)), Some(rcpt));
    edge.replied(data);
    assert_eq!(edge.trouble(), None, "others get on");
    drop(request);
    edge.waits_at(RequestNumber(0), rcpt);
    assert_eq!(edge.silent_at(Duration::ZERO), None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_denies_all_is_said_to_and_one_that_denies_some_is_not() {
    let edge = edge();
    for _ in 0..5 {
        edge.denied(true, "AccessDenied");
        after(3000).await;
    }
    assert_eq!(edge.trouble(), None, "a look that was never allowed");
    edge.probe_answered();
    for _ in 0..5 {
        edge.denied(false, "AccessDenied");
        after(3000).await;
        edge.answered();
    }
    assert_eq!(edge.trouble(), None, "others are allowed");
    edge.denied(true, "AccessDenied");
    after(5000).await;
    assert_eq!(edge.trouble(), None, "once");
    edge.denied(true, "AccessDenied");
    let said = edge.trouble().unwrap().to_string();
    assert!(said.contains("cannot be used since 20"), "{said}");
    assert!(said.ends_with(": AccessDenied"), "{said}");
    assert_eq!(edge.may_be_tried("a"), Ok(()), "jobs go on to ask");
    edge.answered();
    assert_eq!(edge.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_denial_of_requests_that_came_at_once_has_an_end_too() {
    let edge = edge();
    for _ in 0..5 {
        edge.denied(false, "AccessDenied");
    }
    let denied_at = Instant::now();
    after(30_000).await;
    assert!(edge.trouble().is_some());
    assert!(!edge.allows_since(denied_at));
    edge.answered();
    assert!(
        edge.allows_since(denied_at),
        "what was denied may be asked again"
    );
    assert!(!edge.allows_since(Instant::now()));
}

#[test]
fn an_answer_that_denies_ends_an_outage() {
    for is_probe in [true, false] {
        let edge = edge();
        for _ in 0..2 {
            edge.failed(FailureKind::Timeout, "");
        }
        edge.denied(is_probe, "AccessDenied");
        assert_eq!((edge.trouble(), edge.may_be_tried("a")), (None, Ok(())));
    }
}

#[tokio::test(start_paused = true)]
async fn edges_are_looked_at_for_a_minute_after_their_health_was_asked_for() {
    let edges = Edges::from_iter([edge()]);
    assert!(!edges.are_looked_at());
    edges.look();
    after(60_000).await;
    assert!(edges.are_looked_at());
    after(1).await;
    assert!(!edges.are_looked_at());
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_no_message_waits_for_is_not_told_for_ever() {
    for (kind, is_told) in [
        (EdgeKind::Results, false),
        (EdgeKind::Parked, false),
        (EdgeKind::Store, true),
    ] {
        let edge = Edge::new(kind, "queue", "the queue");
        edge.failed(FailureKind::Denied, "no");
        tokio::time::sleep(edge.outage().unwrap().left).await;
        after(119_000).await;
        assert!(
            edge.trouble().is_some(),
            "it may be tried since two minutes"
        );
        after(1_000).await;
        assert_eq!(edge.trouble().is_some(), is_told, "{kind:?}");
        edge.failed(FailureKind::Denied, "no");
        assert!(edge.trouble().is_some(), "{kind:?}: a message wants it");
    }
}

#[tokio::test(start_paused = true)]
async fn no_job_waits_for_an_edge_that_was_replaced_and_those_that_get_on_go_on() {
    let (kept, replaced) = (edge(), edge());
    let edges = Edges::from_iter([kept.clone(), replaced.clone()]);
    let jobs = [&kept, &replaced].map(|edge| edge.enter("job", 2).unwrap());
    let _requests = [&kept, &replaced].map(|edge| edge.asked(GET));
    let giving_way = || [&jobs[0], &jobs[1]].map(|job| job.gives_way(2).is_some());
    edges.exchange(Arc::from([kept.clone(), edge()]));
    after(3_000).await;
    assert_eq!(giving_way(), [false, false]);
    replaced.replied(GET);
    after(3_000).await;
    assert_eq!(giving_way(), [false, false], "it answers");
    after(1_000).await;
    assert_eq!(giving_way(), [false, true]);
}

#[test]
fn the_registry_tells_of_those_that_are_down() {
    let store = Edge::new(EdgeKind::Store, "reports", "S3");
    let relay = Edge::new(EdgeKind::Relay, "default", "the relay");
    let edges = Edges::from_iter([store.clone(), relay.clone()]);
    store.failed(FailureKind::Timeout, "");
    store.failed(FailureKind::Timeout, "\u{1b}[2J");
    relay.failed(FailureKind::Timeout, "");
    let outages = edges.troubles();
    assert_eq!(outages.len(), 1);
    assert!(
        outages[0].to_string().ends_with(r": \u{1b}[2J"),
        "{}",
        outages[0]
    );
    assert_eq!(edges.iter().count(), 2);
}

#[test]
fn the_outage_of_a_whole_dependency_is_reported_once() {
    let whole = Edge::new(EdgeKind::Ledger, "ledger", "the ledger in s3://books/");
    let writes = whole.part("writes");
    let edges = Edges::from_iter([whole.clone(), writes.clone()]);
    let troubles = || {
        let troubles = edges.troubles().into_iter();
        troubles.map(|outage| outage.edge).collect::<Vec<_>>()
    };
    writes.failed(FailureKind::Refused, "status 403");
    assert_eq!(troubles(), ["ledger:writes"]);
    assert!(
        edges.troubles()[0]
            .to_string()
            .starts_with("the ledger in s3://books/ (writes) refuses requests since")
    );
    for _ in 0..2 {
        whole.failed(FailureKind::Unreachable, "");
    }
    assert_eq!(troubles(), ["ledger:ledger"]);
    assert!(writes.outage().is_some(), "jobs wait for it all the same");
    whole.answered();
    assert_eq!(troubles(), ["ledger:writes"]);
    writes.answered();
    assert_eq!(troubles(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_large_requests_ends_with_one_and_not_with_small_ones() {
    let edge = edge();
    for _ in 0..2 {
        let began = Instant::now();
        after(5_000).await;
        edge.answered();
        after(5_000).await;
        edge.failed_large_of(began, "no answer within 10 s");
    }
    assert_eq!(edge.outage(), None, "a small answer came between");
    edge.failed_large_of(Instant::now(), "no answer within 10 s");
    assert!(edge.outage().is_some() && edge.needs_large());
    let began = Instant::now();
    after(1_000).await;
    edge.answered_large();
    assert_eq!((edge.outage(), edge.needs_large()), (None, false));
    // These waited for the same packets.
    for _ in 0..2 {
        edge.failed_large_of(began, "no answer within 10 s");
    }
    assert_eq!((edge.outage(), edge.needs_large()), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_no_job_waits_for_is_an_outage_at_once_and_lasts() {
    let edge = edge();
    edge.failed_and_rests(FailureKind::Throttled, "454", Duration::from_secs(4));
    assert_eq!(edge.outage(), None, "mails wait for it");
    edge.failed_and_rests(FailureKind::Throttled, "454", Duration::from_secs(60));
    after(59_000).await;
    assert!(edge.may_be_tried("a").is_err());
    after(1_000).await;
    assert_eq!(edge.may_be_tried("a"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_waits_since_a_silence_is_left_behind_when_the_edge_replies_to_others() {
    const MAIL: Step = Step::only("MAIL");
    let edge = edge();
    let waits = edge.asked(MAIL);
    after(2_000).await;
    edge.replied(MAIL);
    after(2_000).await;
    assert_eq!(edge.left_behind_for(waits.number()), None, "no silence");
    after(2_000).await;
    let later = edge.asked(MAIL);
    edge.replied(MAIL);
    after(1_000).await;
    let behind = |request: &Request| edge.left_behind_for(request.number());
    assert_eq!(behind(&waits), Some(Duration::from_secs(1)));
    let newer = edge.asked(MAIL);
    assert_eq!(behind(&newer), None, "it began after the silence");
    drop(later);
}

/// RCPT, in a dialogue with other steps.
const LATER: Step = Step {
    rank: 11,
    name: "RCPT",
};

#[tokio::test(start_paused = true)]
async fn the_parts_of_a_job_hold_one_share_of_the_slots_and_try_an_edge_as_one() {
    let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
    let parts: Vec<JobAtEdge> = (0..4).map(|_| edge.enter("whole", 2).unwrap()).collect();
    let request = edge.asked(LATER);
    after(3600).await;
    assert!(parts.iter().all(|part| part.gives_way(2).is_none()));
    let more = edge.enter("whole", 2).unwrap();
    let other = edge.enter("other", 2).unwrap();
    let [_scout, third] = ["third", "fourth"].map(|job| edge.enter(job, 2));
    assert!(third.is_err(), "two jobs wait, and a scout tries");
    drop((other, request));
    for _ in 0..2 {
        edge.failed(FailureKind::Timeout, "");
    }
    tokio::time::sleep(edge.outage().unwrap().left).await;
    let trying = edge.enter("whole", 2).unwrap();
    drop(more);
    assert!(edge.enter("other", 2).is_err(), "the job tries it still");
    drop((parts, trying));
    edge.enter("other", 2).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_takes_long_over_each_reply_is_not_silent_for_as_long() {
    let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
    edge.answered_after(Duration::from_secs(4));
    let _request = edge.asked(LATER);
    after(3600).await;
    assert!(!edge.is_silent());
    after(2500).await;
    assert!(edge.is_silent());
    edge.answered_after(Duration::from_secs(60));
    assert!(!edge.is_silent());
    after(9000).await;
    assert!(edge.is_silent(), "there is a limit");
    let store = Edge::new(EdgeKind::Store, "reports", "the store");
    store.answered_after(Duration::from_secs(4));
    let _request = store.asked(GET);
    after(3600).await;
    assert!(store.is_silent());
}

/// A relay hangs at one mail for minutes, and is well.
#[tokio::test(start_paused = true)]
async fn a_request_that_hung_while_others_were_answered_makes_no_edge_silent() {
    let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
    let _hung = edge.asked(LATER);
    after(30_000).await;
    assert!(edge.trouble().is_some());
    edge.replied(LATER);
    after(30_000).await;
    assert_eq!(edge.trouble(), None);
    let _other = edge.asked(LATER);
    after(3600).await;
    assert!(edge.is_silent());
    // The pieces of its own text are no replies to others.
    let text = Step {
        rank: 13,
        name: "the mail's text",
    };
    let sending = edge.asked(text);
    for _ in 0..10 {
        after(3000).await;
        edge.sent(sending.number(), text);
    }
    after(30_000).await;
    assert!(edge.trouble().is_some());
}

/// A mail that waits at its end, which came first, does not hide that others waited at RCPT in vain.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_silence_is_that_of_the_requests_at_the_step_or_before() {
    let edge = Edge::new(EdgeKind::Relay, "default", "the relay");
    let _at_its_end = edge.asked(Step {
        rank: 14,
        name: "after the mail's text",
    });
    after(1000).await;
    let waiting = edge.asked(LATER);
    after(5000).await;
    edge.replied(LATER);
    after(1000).await;
    let behind = edge.left_behind_for(waiting.number());
    assert_eq!(behind, Some(Duration::from_secs(1)));
}
