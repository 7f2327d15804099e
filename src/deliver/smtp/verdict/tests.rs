//! Replies of real relays, sorted by what they are about, and the page that shows the table.

use super::*;
use ReplyVerdict::{
    Closing, Insecure, Login, Never, NotNow, OutOfStep, QuotaSpent, Refuses, TooFast,
};

const GREY: ReplyVerdict = ReplyVerdict::Later(DeferralKind::Greylisted);
const LATER: ReplyVerdict = ReplyVerdict::Later(DeferralKind::Other);
const DOUBT: ReplyVerdict = ReplyVerdict::Later(DeferralKind::Doubtful);

/// A reply from its text: lines are separated by `\n`, and only the first has the code.
fn reply(text: &str) -> Reply {
    let (code, words) = text.split_once(' ').unwrap();
    Reply {
        code: code.parse().unwrap(),
        lines: words.split('\n').map(ToOwned::to_owned).collect(),
        ..Reply::default()
    }
}

fn check(step: DialogueStep, table: &[(&str, ReplyVerdict)]) {
    let seen = table
        .iter()
        .map(|(text, wanted)| (text, wanted, judge(step, &reply(text))));
    let wrong: Vec<String> = seen
        .filter(|(_, wanted, found)| *wanted != found)
        .map(|(text, wanted, found)| {
            format!("{step} {text}\n  wanted {wanted:?}\n  found  {found:?}")
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_a_recipients_host_said_to_our_relay_is_about_that_recipient() {
    let table = [
        (
            "451 Callout failed: remote host said: 452 daily sending quota exceeded",
            LATER,
        ),
        (
            "450 4.1.1 <r@r.example>: Recipient address rejected: unverified address: host mx.r.example[192.0.2.7] said: 421 4.7.0 too many connections (in reply to MAIL FROM command)",
            LATER,
        ),
        (
            "451 Callout verification failed:\n450 4.7.1 rate limit exceeded",
            LATER,
        ),
        (
            "550 Callout verification failed:\n550 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org",
            DOUBT,
        ),
        // The recipient's host uses the words for a verification of the sender.
        (
            "550 Callout verification failed:\n550 5.7.1 sender verify: daily limit exceeded",
            DOUBT,
        ),
        (
            "451 Callout failed: remote host said: 452 sender callout failed: 452 sending quota exceeded",
            LATER,
        ),
        (
            "450 <r@r.example>: Recipient address rejected: unverified address: host sender-verify.r.example[192.0.2.7] said: 450 daily limit exceeded",
            LATER,
        ),
        (
            "451 response to \"RCPT TO:<r@r.example>\" from sender-verify.r.example [192.0.2.7] was: 450 rate limit exceeded\n451 Could not complete recipient verify callout",
            LATER,
        ),
    ];
    check(DialogueStep::Rcpt, &table);
    check(DialogueStep::Dot, &table);
    check(
        DialogueStep::Rcpt,
        &[
            (
                "451 Sender callout failed: remote host said: 452 sending quota exceeded",
                QuotaSpent,
            ),
            (
                "450 <s@s.example>: Sender address rejected: unverified address: host mx.s.example said: 550 no such user",
                Refuses,
            ),
        ],
    );
    // The relay's own limits, and replies about the sender.
    let own = [("452 daily sending quota exceeded", QuotaSpent)];
    check(DialogueStep::Rcpt, &own);
    check(
        DialogueStep::Mail,
        &[(
            "451 Sender callout failed: remote host said: 452 sending quota exceeded",
            QuotaSpent,
        )],
    );
}

#[test]
fn before_a_mail_every_no_is_about_us() {
    check(
        DialogueStep::Greeting,
        &[
            ("554 go away", Refuses),
            ("421 4.3.2 closing", Closing),
            (
                "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
                Refuses,
            ),
            (
                "554 DED : You've reached your daily relay quota - 192.0.2.1",
                QuotaSpent,
            ),
            (
                "421 4.7.0 mx.example Error: too many connections from 192.0.2.1",
                TooFast,
            ),
            ("421 Rate limit reached. Please try again later", TooFast),
        ],
    );
    check(
        DialogueStep::Ehlo,
        &[
            ("502 what", Refuses),
            ("501 5.5.4 Invalid domain name", Refuses),
            (
                "421 4.7.0 Try again later, closing connection. (EHLO)",
                Closing,
            ),
            ("450 4.3.2 busy", NotNow),
        ],
    );
    check(
        DialogueStep::Starttls,
        &[
            ("502 5.5.1 no", Insecure),
            ("454 4.7.0 TLS not available", NotNow),
        ],
    );
    check(
        DialogueStep::Auth,
        &[
            ("535 5.7.8 wrong", Login),
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
                Login,
            ),
            ("535 5.7.0 Too many bad auth attempts", Login),
            ("550 5.7.1 blocked", Login),
            (
                "451 Authentication failed: Maximum credits exceeded",
                QuotaSpent,
            ),
            ("454 4.7.0 temporary failure", NotNow),
            // Postfix, whose SASL service does not answer.
            (
                "454 4.7.0 Temporary authentication failure: generic failure",
                NotNow,
            ),
            (
                "454 4.7.0 Too many login attempts, please try again later.",
                TooFast,
            ),
            ("432 4.7.12 later", NotNow),
            ("421 4.7.0 closing", Closing),
        ],
    );
    check(
        DialogueStep::Mail,
        &[
            ("550 5.7.60 sender not authorised", Refuses),
            ("550 5.1.1 what", Refuses),
            ("530 5.7.0 authentication required", Login),
            (
                "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM",
                Login,
            ),
            (
                "553 5.7.1 <r@s.example>: Sender address rejected: not owned by user u",
                Refuses,
            ),
            ("501 5.1.7 Bad sender address syntax", Refuses),
            ("451 4.7.1 later", NotNow),
            ("452 4.4.5 Messages per second limit exceeded", TooFast),
            ("452 4.5.3 Daily message limit exceeded", QuotaSpent),
            ("450 4.7.1 Error: too much mail from 192.0.2.1", TooFast),
            (
                "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
                TooFast,
            ),
        ],
    );
}

/// Replies to RCPT that are about us: the next recipient gets the same reply.
#[test]
fn a_reply_about_us_rejects_no_recipient() {
    let us = [
        // Postfix: smtpd_check.c.
        (
            "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname",
            Refuses,
        ),
        (
            "450 4.7.1 <vm>: Helo command rejected: Host not found",
            Refuses,
        ),
        (
            "501 5.5.2 <[127.0.0.1>: Helo command rejected: invalid ip address",
            Refuses,
        ),
        ("554 5.7.1 <bo@acme.example>: Relay access denied", Refuses),
        ("454 4.7.1 <bo@acme.example>: Relay access denied", Refuses),
        (
            "554 5.7.1 <bo@acme.example>: Recipient address rejected: Relay access denied",
            Refuses,
        ),
        (
            "553 5.7.1 <r@s.example>: Sender address rejected: not owned by user reports",
            Refuses,
        ),
        (
            "553 5.7.1 <r@s.example>: Sender address rejected: not logged in",
            Login,
        ),
        (
            "550 5.1.8 <r@s.example>: Sender address rejected: Domain not found",
            Refuses,
        ),
        (
            "450 4.1.8 <r@s.example>: Sender address rejected: Domain not found",
            Refuses,
        ),
        (
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1",
            Refuses,
        ),
        (
            "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
            Refuses,
        ),
        (
            "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]",
            Refuses,
        ),
        (
            "554 5.7.1 <vm[192.0.2.1]>: Client host rejected: Access denied",
            Refuses,
        ),
        (
            "550 5.7.23 <bo@acme.example>: Recipient address rejected: Message rejected due to: SPF fail - not authorized",
            Refuses,
        ),
        // Exchange.
        (
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            Refuses,
        ),
        (
            "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
            Refuses,
        ),
        ("550 5.7.1 Unable to relay", Refuses),
        ("550 5.7.64 TenantAttribution; Relay Access Denied", Refuses),
        ("550 5.4.1 Relay Access Denied", Refuses),
        ("530 5.7.1 Client was not authenticated", Login),
        ("550 5.1.8 Access denied, bad outbound sender", Refuses),
        ("550 5.7.501 Access denied, spam abuse detected", Refuses),
        ("550 5.7.506 Access Denied, Bad HELO", Refuses),
        (
            "550 5.7.606 Access denied, banned sending IP [192.0.2.1]",
            Refuses,
        ),
        (
            "550 5.7.705 Access denied, tenant has exceeded threshold",
            Refuses,
        ),
        (
            "550 5.7.708 Access denied, traffic not accepted from this IP",
            Refuses,
        ),
        (
            "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains",
            Refuses,
        ),
        (
            "550 5.2.252 Sender throttled due to continuous send as denied errors.",
            Refuses,
        ),
        (
            "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
            Refuses,
        ),
        (
            "550 5.7.25 Access denied, the sending IPv6 address [2001:db8::1] must have a reverse DNS record",
            Refuses,
        ),
        // Gmail.
        (
            "550 5.7.1 [192.0.2.1] The IP you're using to send mail is not authorized to send\n5.7.1 email directly to our servers.",
            Refuses,
        ),
        (
            "550 5.7.26 Unauthenticated email from s.example is not accepted due to\n5.7.26 domain's DMARC policy.",
            Refuses,
        ),
        (
            "550 5.7.0 Mail relay denied [192.0.2.1]. Invalid credentials for relay for one of the domains",
            Login,
        ),
        ("530 5.5.1 Authentication Required", Login),
        // Amazon SES.
        (
            "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: r@s.example",
            Refuses,
        ),
        (
            "554 Message rejected: Sending paused for this account.",
            Refuses,
        ),
        (
            "554 Access denied: User `arn:aws:iam::1:user/u' is not authorized to perform `ses:SendRawEmail' on resource `r'",
            Refuses,
        ),
        // SendGrid, Mailgun, Postmark, Zoho.
        (
            "550 The from address does not match a verified Sender Identity.",
            Refuses,
        ),
        (
            "403 You are not authorized to send from that email address",
            Refuses,
        ),
        (
            "550 5.7.1 Domain s.example is not allowed to send: Sandbox subdomains are for test purposes only.",
            Refuses,
        ),
        (
            "550 5.0.0 The 'From' address you supplied (r@s.example) is not a Sender Signature on your account.",
            Refuses,
        ),
        ("553 Relaying disallowed as r@s.example", Refuses),
        ("554 5.1.8 Email Outgoing Blocked.", Refuses),
        (
            "550 5.4.6 Unusual sending activity detected. Please try after sometime",
            Refuses,
        ),
        // IONOS and GMX.
        (
            "550 Requested action not taken: mailbox unavailable\nInvalid DNS PTR resource record",
            Refuses,
        ),
        (
            "550 Requested action not taken: mailbox unavailable\nSender address is not allowed.",
            Refuses,
        ),
        (
            "554 Transaction failed\nReject due to policy restrictions. IP address is blacklisted.",
            Refuses,
        ),
        // Others.
        ("550 5.7.1 Unconfigured Sending Domain <s.example>", Refuses),
        // Yahoo, Sendmail, Exim, qmail, OpenSMTPD, IronPort.
        (
            "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list",
            Refuses,
        ),
        (
            "550 5.7.1 <bo@acme.example>... Relaying denied. IP name lookup failed [192.0.2.1]",
            Refuses,
        ),
        (
            "553 5.1.8 <r@s.example>... Domain of sender address r@s.example does not exist",
            Refuses,
        ),
        ("550 relay not permitted", Refuses),
        ("550 Sender verify failed", Refuses),
        ("550 authentication required", Login),
        (
            "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
            Refuses,
        ),
        ("530 5.7.1 Must issue an AUTH command first", Login),
        (
            "550 #5.7.1 Your access to submit messages to this e-mail system has been rejected. reputation",
            Refuses,
        ),
        ("521 5.5.1 Protocol error", Refuses),
        ("503 5.5.1 Error: need MAIL command", Login),
    ];
    for step in [DialogueStep::Rcpt, DialogueStep::Data, DialogueStep::Dot] {
        check(
            step,
            &us.map(|(text, verdict)| match (step, text.starts_with("454")) {
                // Amazon SES uses this reply for the rate, after RCPT.
                (DialogueStep::Data | DialogueStep::Dot, true) => (text, TooFast),
                _ => (text, verdict),
            }),
        );
    }
}

#[test]
fn a_limit_of_ours_rests_the_relay_and_rejects_no_recipient() {
    for step in [DialogueStep::Rcpt, DialogueStep::Data, DialogueStep::Dot] {
        check(
            step,
            &[
                (
                    "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail\n5.4.5 sending limits go to https://support.google.com/a/answer/166852",
                    QuotaSpent,
                ),
                (
                    "550 5.4.5 Daily SMTP relay sending limit exceeded for this customer.",
                    QuotaSpent,
                ),
                (
                    "550 5.7.1 Daily SMTP relay limit exceeded for user.",
                    QuotaSpent,
                ),
                (
                    "452 4.5.3 Your message has too many recipients. For more information regarding Google's sending limits, visit",
                    QuotaSpent,
                ),
                (
                    "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
                    QuotaSpent,
                ),
                ("554 5.2.2 Submission quota exceeded", QuotaSpent),
                (
                    "554 5.2.0 The message can't be submitted because the sender's submission quota was exceeded",
                    QuotaSpent,
                ),
                (
                    "550 5.7.232 Your message can't be sent because your trial tenant has exceeded its daily limit",
                    QuotaSpent,
                ),
                ("550 5.7.233 exceeded", QuotaSpent),
                (
                    "454 Throttling failure: Daily message quota exceeded.",
                    QuotaSpent,
                ),
                (
                    "451 Authentication failed: Maximum credits exceeded",
                    QuotaSpent,
                ),
                (
                    "450 Requested mail action not taken: mailbox unavailable\nMail send limit exceeded.",
                    QuotaSpent,
                ),
                (
                    "554 Transaction failed\nMail send limit exceeded.",
                    QuotaSpent,
                ),
                (
                    "550 Domain s.example has exceeded the max emails per hour (500/500 (100%)) allowed. Message discarded.",
                    QuotaSpent,
                ),
                ("550 5.7.1 hourly quota reached", QuotaSpent),
                ("552 5.7.0 sending quota exceeded", QuotaSpent),
                ("554 5.7.1 Quota exceeded", QuotaSpent),
                ("554 quota exceeded", QuotaSpent),
                (
                    "552 5.3.0 monthly sending limit reached for your plan",
                    QuotaSpent,
                ),
                (
                    "452 Too many recipients received this hour (throttled)",
                    QuotaSpent,
                ),
                (
                    "550 5.7.508 Access denied, [2001:db8::] has exceeded permitted limits within /64 range",
                    TooFast,
                ),
                ("550 5.7.28 Mail flood detected", TooFast),
                ("554 5.7.0 Your message rate is too high", TooFast),
                ("552 5.7.1 rate limit exceeded", TooFast),
                ("550 sender rate overlimit", TooFast),
                (
                    "454 Throttling failure: Maximum sending rate exceeded.",
                    TooFast,
                ),
                ("454 4.7.0 Throttling failure", TooFast),
                ("454 over your rate", TooFast),
                ("450 Throttling", TooFast),
                ("550 MI:SFQ Exceeded limit, sending frequency", TooFast),
                (
                    "450 4.2.1 Peak SMTP relay limit exceeded for this customer. This is a temporary error.",
                    TooFast,
                ),
                (
                    "450 4.7.1 Error: too many recipients from 192.0.2.1",
                    TooFast,
                ),
                (
                    "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
                    TooFast,
                ),
                ("432 4.3.2 Concurrent connections limit exceeded", TooFast),
                (
                    "421 Max message per connection reached, closing transmission channel",
                    Closing,
                ),
                ("421 4.7.0 Too many messages in this session", Closing),
            ],
        );
    }
}

#[test]
fn a_reply_about_the_mailbox_or_the_message_is_an_end() {
    let them = [
        ("550 5.1.1 no such user", Never),
        (
            "550 5.1.1 <relay@helo.example>: Recipient address rejected: User unknown in relay recipient table",
            Never,
        ),
        (
            "550 5.1.1 The email account that you tried to reach does not exist. Please try\n5.1.1 double-checking the recipient's email address",
            Never,
        ),
        (
            "550 5.2.1 The email account that you tried to reach is disabled",
            Never,
        ),
        (
            "552 5.2.2 The email account that you tried to reach is over quota",
            Never,
        ),
        ("552 5.2.2 Mailbox size limit exceeded", Never),
        (
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            Never,
        ),
        (
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
            Never,
        ),
        (
            "550 5.4.1 [bo@acme.example]: Recipient address rejected: Access denied",
            Never,
        ),
        (
            "550 5.7.504 [bo@acme.example]: Recipient address rejected: Access denied",
            Never,
        ),
        (
            "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required",
            Never,
        ),
        ("550 5.7.124 Sender not in allowed-senders list", Never),
        (
            "550 5.5.0 Requested action not taken: mailbox unavailable",
            Never,
        ),
        ("550 Requested action not taken: mailbox unavailable", Never),
        ("550 Unknown User", Never),
        ("550 No Such User Here", Never),
        ("550 Unrouteable address", Never),
        (
            "550 5.7.1 <bo@acme.example>: Recipient address rejected: undeliverable address: host mx said: no",
            Never,
        ),
        ("550 Invalid recipient", Never),
        ("550 #5.1.0 Address rejected.", Never),
        (
            "550 5.1.2 <bo@nowhere.example>: Recipient address rejected: Domain not found",
            Never,
        ),
        ("556 5.1.10 Recipient address has null MX", Never),
        ("551 User not local; please try <bo@else.example>", Never),
        ("501 5.1.3 Bad recipient address syntax", Never),
        (
            "552 Requested mail action aborted: exceeded storage allocation",
            Never,
        ),
        (
            "554 delivery error: dd This user doesn't have a yahoo.com account (bo@yahoo.com)",
            Never,
        ),
        ("552 5.3.4 Message size exceeds fixed limit", Never),
        (
            "552 5.2.3 Your message exceeded Google's message size limits",
            Never,
        ),
        (
            "552 5.7.0 This message was blocked because its content presents a potential security issue",
            Never,
        ),
        ("554 5.7.1 looks like spam", Never),
        ("554 5.7.1 Blocked by SpamAssassin: this is spam", Never),
        ("550 5.7.1 message content rejected", Never),
        (
            "550 5.7.1 [192.0.2.1] Our system has detected that this message is likely unsolicited mail.",
            Never,
        ),
        (
            "552 5.7.1 virus Win.Test.EICAR_HDB-1 detected by Zoho Mail",
            Never,
        ),
        ("554 5.4.0 Error: too many hops", Never),
        ("550 5.6.0 Lone CR or LF in headers", Never),
        (
            "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant",
            Never,
        ),
    ];
    for step in [DialogueStep::Rcpt, DialogueStep::Data, DialogueStep::Dot] {
        check(step, &them);
    }
}

#[test]
fn a_reply_that_may_be_about_either_waits() {
    let doubtful = [
        ("550 no", DOUBT),
        ("554 Transaction failed", DOUBT),
        ("554 5.7.1 policy", DOUBT),
        (
            "554 Message not allowed - [PH01] Email not accepted for policy reasons",
            DOUBT,
        ),
        ("550 5.7.1 Delivery refused", DOUBT),
        (
            "554 5.7.1 <bo@acme.example>: Recipient address rejected: Access denied",
            DOUBT,
        ),
        ("550 Access denied", DOUBT),
        ("550 5.0.0 rejected", DOUBT),
        ("552 quota exceeded", DOUBT),
        ("550 Quota Exceeded", DOUBT),
        (
            "550 5.7.513 Service unavailable, Client host [192.0.2.1] blocked by acme.example using Customer Block list",
            DOUBT,
        ),
        ("550 4.2.1 a code of another class", DOUBT),
        ("535 Message rejected", DOUBT),
        ("599 what", DOUBT),
        // Temporary limits of a mailbox.
        (
            "550 5.2.121 Recipient's per hour message receive limit from specific sender exceeded",
            LATER,
        ),
        ("550 5.2.122 exceeded", LATER),
        (
            "550 5.2.1 The user you are trying to contact is receiving mail at a rate that\n5.2.1 prevents additional messages from being delivered.",
            LATER,
        ),
    ];
    for step in [DialogueStep::Rcpt, DialogueStep::Data, DialogueStep::Dot] {
        check(step, &doubtful);
    }
}

#[test]
fn what_is_said_for_a_while_is_asked_again() {
    let later = [
        ("451 4.7.1 try later", GREY),
        ("450 Greylisted, see you", GREY),
        (
            "450 4.2.0 <bo@acme.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/",
            GREY,
        ),
        (
            "451 4.7.1 Greylisting in action, please come back in 00:05:00",
            GREY,
        ),
        ("450 4.7.1 Client host rejected: Greylisted", GREY),
        ("452 4.2.2 mailbox full", LATER),
        (
            "452 4.2.2 The recipient's inbox is out of storage space",
            LATER,
        ),
        (
            "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
            LATER,
        ),
        (
            "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
            LATER,
        ),
        (
            "450 4.1.1 <bo@acme.example>: Recipient address rejected: unverified address",
            LATER,
        ),
        ("452 4.3.1 disk full", NotNow),
        ("452 4.3.1 Insufficient system storage", NotNow),
        (
            "451 4.3.0 <bo@acme.example>: Temporary lookup failure",
            NotNow,
        ),
        ("451 4.3.5 Server configuration error", NotNow),
        ("450 4.4.4 no route", NotNow),
        ("421 4.4.2 bye", Closing),
        ("421 4.4.5 Server busy, try again later.", Closing),
        ("421 Recipient not in route list", Closing),
    ];
    for step in [DialogueStep::Rcpt, DialogueStep::Data, DialogueStep::Dot] {
        check(step, &later);
    }
    check(DialogueStep::Rcpt, &[("454 4.7.1 access denied", LATER)]);
    check(
        DialogueStep::Dot,
        &[
            ("454 4.7.1 access denied", TooFast),
            ("354 what", OutOfStep),
        ],
    );
    check(
        DialogueStep::Data,
        &[("354 again", OutOfStep), ("250 ok", OutOfStep)],
    );
}

/// `docs/relays.md` has a row for each rule, in the same order.
#[test]
fn the_page_about_relays_has_the_table() {
    let rows: String = RULES.iter().map(row).collect();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/relays.md"));
    let page = page.unwrap();
    let (_, rest) = page.split_once("|---|---|---|---|\n").unwrap();
    let (shown, _) = rest.split_once("\n\n").unwrap();
    assert!(
        format!("{shown}\n") == rows,
        "docs/relays.md differs from the table in src/deliver/smtp/verdict/table.rs, which is:\n{rows}"
    );
}

fn row(rule: &Rule) -> String {
    let codes: Vec<String> = rule.codes.iter().map(|code| code.shown()).collect();
    let says: Vec<String> = rule
        .says
        .iter()
        .map(|phrase| format!("`{phrase}`"))
        .collect();
    let or_any = |listed: Vec<String>| match listed.is_empty() {
        true => "any".to_owned(),
        false => listed.join(", "),
    };
    let (codes, says) = (or_any(codes), or_any(says));
    format!(
        "| {codes} | {says} | {} | {} |\n",
        rule.meaning.shown(),
        rule.source
    )
}

impl Code {
    fn shown(self) -> String {
        match self {
            Self::X(subject, detail) => format!("X.{subject}.{detail}"),
            Self::Range(subject, 0, 999) => format!("X.{subject}.*"),
            Self::Range(subject, first, last) => format!("X.{subject}.{first} to {last}"),
            Self::Permanent(subject, detail) => format!("5.{subject}.{detail}"),
            Self::PermanentRange(subject, first, 999) => format!("5.{subject}.{first} and above"),
            Self::PermanentRange(subject, first, last) => format!("5.{subject}.{first} to {last}"),
            Self::Reply(code) => code.to_string(),
        }
    }
}

impl Meaning {
    const fn shown(self) -> &'static str {
        match self {
            Self::Connection => "the connection",
            Self::Greylisting => "greylisting",
            Self::MailboxNow => "the mailbox, for now",
            Self::Mailbox => "the mailbox",
            Self::Message => "the message",
            Self::Quota => "our quota",
            Self::Rate => "our rate",
            Self::Login => "our login",
            Self::Us => "us",
            Self::System => "the relay's system",
            Self::Unclear => "unclear",
        }
    }
}
