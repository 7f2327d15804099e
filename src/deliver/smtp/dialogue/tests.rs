//! Tests of `deliver/smtp/dialogue.rs`.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::super::login::Proof;
use super::*;
use crate::config::Secret;

#[test]
fn what_is_said_about_a_login_is_not_repeated() {
    let words = |step, text: &str| {
        let reply = Reply {
            code: 535,
            lines: vec![text.to_owned()],
            ..Reply::default()
        };
        let cause = Cause::Said(reply);
        Failure::now(step, cause).words()
    };
    let text = "5.7.8 no user handout with correct-horse";
    assert_eq!(words(DialogueStep::Auth, text), "535 5.7.8");
    assert_eq!(words(DialogueStep::Auth, "correct-horse is wrong"), "535");
    assert_eq!(words(DialogueStep::Mail, text), format!("535 {text}"));
}

/// A connection to a relay that sends these replies, each after a command except the first, and then nothing.
async fn silent_after(listener: &TcpListener, words: &[&str]) {
    let (socket, _) = listener.accept().await.unwrap();
    let mut socket = BufReader::new(socket);
    for (number, words) in words.iter().enumerate() {
        if number > 0 {
            socket.read_line(&mut String::new()).await.unwrap();
        }
        let words = format!("{words}\r\n");
        socket.write_all(words.as_bytes()).await.unwrap();
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn replies_before_the_step_at_which_a_relay_is_silent_are_no_sign_that_it_gets_further() {
    const SOON: Duration = Duration::from_millis(300);
    let hello = Hello::new(Some("[127.0.0.1]"), "");
    let login = Login {
        username: "handout".to_owned(),
        proof: Proof::Password(Secret::new("secret".to_owned())),
    };
    for (tls, words, silent_at) in [
        (
            "starttls",
            &["220 hi", "250-hi\r\n250 STARTTLS", "220 go"][..],
            HANDSHAKE,
        ),
        (
            "none",
            &["220 hi", "250-hi\r\n250 AUTH LOGIN", "334 ", "334 "],
            DialogueStep::Auth.at_edge().after(2),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = format!("host = \"127.0.0.1\"\nport = {port}\ntls = \"{tls}\"");
        let config: SmtpConfig = toml::from_str(&config).unwrap();
        let trust = super::super::tls::trust("mail.smtp", &config).unwrap();
        let edge = Edge::new(health::EdgeKind::Relay, "default", "the relay");
        let begin = async || {
            let request = edge.asked(DialogueStep::Connect.at_edge());
            let at = (&edge, request.number());
            drop(
                Dialogue::begin(
                    (&config, &AddressTurn::default()),
                    &trust,
                    Some(&login),
                    &hello,
                    at,
                )
                .await,
            );
        };
        let second = async {
            tokio::time::sleep(2 * SOON).await;
            begin().await;
        };
        let look = async {
            tokio::time::sleep(2 * SOON + SOON / 2).await;
            edge.silent_at(SOON)
        };
        tokio::select! {
            silent = look => assert_eq!(silent, Some(silent_at), "{words:?}"),
            _ = async { tokio::join!(begin(), second) } => panic!("it is silent"),
            _ = async {
                tokio::join!(silent_after(&listener, words), silent_after(&listener, words))
            } => panic!("its connections stay"),
        }
    }
}

#[test]
fn a_line_that_begins_with_a_dot_does_not_end_the_mail() {
    let dotted = |text: &str| String::from_utf8(dotted(text.as_bytes())).unwrap();
    assert_eq!(dotted("a\r\n.\r\n..b\r\n"), "a\r\n..\r\n...b\r\n");
    assert_eq!(dotted(".a"), "..a\r\n");
    assert_eq!(dotted("a.b\n.c\r\n"), "a.b\n.c\r\n");
    assert_eq!(dotted(""), "");
}
