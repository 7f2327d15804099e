//! Tests of `plan/expiry.rs`.

use super::*;

const HOUR: Span = Span::hours(1);
const WEEK: Span = Span::days(7);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-23T18:40:00.9Z")
}

#[test]
fn a_link_ends_when_it_was_asked_to_and_is_dated_back_a_minute() {
    let life = lifetime(
        HOUR,
        Issuer::S3(CredentialsEnd::Never),
        WEEK,
        ExpiryGuard::Refuse,
        now(),
    )
    .unwrap();
    assert_eq!(life.signed_at, at("2026-11-23T18:39:01Z"));
    assert_eq!(life.signed_for_secs, 3660);
    assert_eq!(life.expires_at, at("2026-11-23T19:40:01Z"));
    assert_eq!(life.bound, Bound::Asked);
}

#[test]
fn seven_days_are_dated_back_too_and_end_so_much_earlier() {
    let of = |asked| {
        let s3 = Issuer::S3(CredentialsEnd::Never);
        lifetime(asked, s3, WEEK, ExpiryGuard::Refuse, now()).unwrap()
    };
    let life = of(WEEK);
    assert_eq!(life.signed_for_secs, 604_800);
    assert_eq!(life.signed_at, at("2026-11-23T18:39:01Z"));
    assert_eq!(life.expires_at, at("2026-11-30T18:39:01Z"));
    let life = of(Span::seconds(604_770));
    assert_eq!(life.signed_for_secs, 604_800);
    assert_eq!(life.expires_at, at("2026-11-30T18:39:01Z"));
}

#[test]
fn links_are_handed_out_while_half_of_their_time_is_left_however_short_it_is() {
    let fresh = |asked: Span| {
        let s3 = Issuer::S3(CredentialsEnd::Never);
        let life = lifetime(asked, s3, WEEK, ExpiryGuard::Refuse, now()).unwrap();
        assert!(life.is_fresh(now()) && life.is_fresh(life.fresh_until));
        assert!(!life.is_fresh(life.fresh_until + SignedDuration::from_nanos(1)));
        format!("{asked}: {:#}", life.fresh_until.duration_since(now()))
    };
    let table = [1, 10, 15, 60, 3600].map(|secs| fresh(Span::seconds(secs)));
    insta::assert_snapshot!(table.join("\n"), @r"
            1s: 1s 100ms
            10s: 10s
            15s: 10s
            1m: 30s 50ms
            1h: 30m 50ms
            ");
}

#[test]
fn freshness_is_told_by_our_own_clock_and_small_differences_are_none() {
    let ahead = SignedDuration::from_secs(200);
    let s3 = Issuer::S3(CredentialsEnd::Never);
    let life = lifetime(HOUR, s3, WEEK, ExpiryGuard::Refuse, now() + ahead).unwrap();
    let same = lifetime(HOUR, s3, WEEK, ExpiryGuard::Refuse, now()).unwrap();
    assert_eq!(life.here(ahead).fresh_until, same.fresh_until);
    let of = |secs| noticed(Some(SignedDuration::from_secs(secs))).as_secs();
    assert_eq!([-300, -6, -5, 0, 5, 6].map(of), [-300, -6, 0, 0, 0, 6]);
    assert_eq!(noticed(None), SignedDuration::ZERO);
}

#[test]
fn credentials_that_end_early_refuse_or_clamp() {
    let end = at("2026-11-23T19:00:00Z");
    let refused = lifetime(
        HOUR,
        Issuer::S3(CredentialsEnd::At(end)),
        WEEK,
        ExpiryGuard::Refuse,
        now(),
    )
    .unwrap_err();
    insta::assert_snapshot!(refused, @r#"links.expires_in asks for 1h, but the signing credentials end at 2026-11-23T19:00:00Z; ask for less, set expiry_guard = "clamp" to print the real end, or sign with credentials that last longer, such as an IAM user's key"#);
    let clamped = lifetime(
        HOUR,
        Issuer::S3(CredentialsEnd::At(end)),
        WEEK,
        ExpiryGuard::Clamp,
        now(),
    )
    .unwrap();
    assert_eq!(
        (clamped.expires_at, clamped.bound),
        (end, Bound::Credentials)
    );
    let signed_until = clamped.signed_at + seconds(clamped.signed_for_secs);
    assert_eq!(
        signed_until, end,
        "the signature does not outlive the promise"
    );
    let ignored = lifetime(
        HOUR,
        Issuer::S3(CredentialsEnd::At(end)),
        WEEK,
        ExpiryGuard::Ignore,
        now(),
    )
    .unwrap();
    assert_eq!(ignored.expires_at, at("2026-11-23T19:40:01Z"));
}

#[test]
fn a_rule_caps_what_may_be_asked() {
    assert!(
        lifetime(
            WEEK,
            Issuer::S3(CredentialsEnd::Never),
            HOUR,
            ExpiryGuard::Refuse,
            now()
        )
        .is_err()
    );
    let clamped = lifetime(
        WEEK,
        Issuer::S3(CredentialsEnd::Never),
        HOUR,
        ExpiryGuard::Clamp,
        now(),
    )
    .unwrap();
    assert_eq!(
        (clamped.expires_at, clamped.bound),
        (at("2026-11-23T19:40:01Z"), Bound::Policy)
    );
}

#[test]
fn a_session_that_does_not_say_when_it_ends_promises_nothing() {
    for guard in [ExpiryGuard::Refuse, ExpiryGuard::Clamp] {
        assert!(
            lifetime(
                HOUR,
                Issuer::S3(CredentialsEnd::Unknown),
                WEEK,
                guard,
                now()
            )
            .is_err()
        );
    }
    assert!(
        lifetime(
            HOUR,
            Issuer::S3(CredentialsEnd::Unknown),
            WEEK,
            ExpiryGuard::Ignore,
            now()
        )
        .is_ok()
    );
}

#[test]
fn credentials_that_end_soon_say_nothing_about_the_job_and_a_whole_session_does() {
    let limit = |secs: i64| {
        let end = now() + SignedDuration::from_secs(secs);
        let end = Issuer::S3(CredentialsEnd::At(end));
        let refused = lifetime(HOUR, end, WEEK, ExpiryGuard::Refuse, now());
        refused.unwrap_err().limit.may_be_renewed()
    };
    assert_eq!([-3600, 5, 890].map(limit), [true; 3]);
    assert_eq!([901, 1800, 3500].map(limit), [false; 3]);
}

#[test]
fn dead_credentials_sign_nothing() {
    let end = Issuer::S3(CredentialsEnd::At(at("2026-11-23T18:00:00Z")));
    assert!(lifetime(HOUR, end, WEEK, ExpiryGuard::Clamp, now()).is_err());
}

#[test]
fn cloudfront_links_know_no_seven_days_but_the_rule_and_the_year_2038() {
    let of = |asked, cap, guard| lifetime(asked, Issuer::CloudFront, cap, guard, now());
    let (month, ever) = (Span::days(30), Span::days(36_500));
    let life = of(month, ever, ExpiryGuard::Refuse).unwrap();
    assert_eq!(life.expires_at, at("2026-12-23T18:40:01Z"));
    assert_eq!(
        (life.signed_at, life.bound),
        (at("2026-11-23T18:40:01Z"), Bound::Asked)
    );
    let clamped = of(month, WEEK, ExpiryGuard::Clamp).unwrap();
    assert_eq!(
        (clamped.expires_at, clamped.bound),
        (at("2026-11-30T18:40:01Z"), Bound::Policy)
    );
    let refused = of(ever, ever, ExpiryGuard::Refuse).unwrap_err();
    insta::assert_snapshot!(refused, @r#"links.expires_in asks for 36500d, but CloudFront counts to 2038-01-19T03:14:07Z and no further; ask for less, or set expiry_guard = "clamp" to print the real end"#);
    let clamped = of(ever, ever, ExpiryGuard::Clamp).unwrap();
    assert_eq!(
        (clamped.expires_at, clamped.bound),
        (at("2038-01-19T03:14:07Z"), Bound::Cloudfront)
    );
}

#[test]
fn links_end_when_the_first_file_is_deleted_and_no_later_than_before() {
    let long_term = Issuer::S3(CredentialsEnd::Never);
    let life = lifetime(WEEK, long_term, WEEK, ExpiryGuard::Refuse, now()).unwrap();
    let deleted = at("2026-11-25T00:00:00Z");
    let bounded = life.bounded_by(Some(deleted), now(), None);
    assert_eq!(
        (bounded.expires_at, bounded.bound),
        (deleted, Bound::Lifecycle)
    );
    let signed_for = seconds(bounded.signed_for_secs);
    assert_eq!(bounded.signed_at + signed_for, deleted);
    assert!(bounded.fresh_until < deleted && !bounded.is_fresh(deleted));
    for later in [
        None,
        Some(life.expires_at),
        Some(at("2027-01-01T00:00:00Z")),
    ] {
        assert_eq!(life.bounded_by(later, now(), None), life);
    }
}
