//! The login of a dialogue (RFC 4954): by a password with PLAIN or LOGIN, by a token with XOAUTH2 or OAUTHBEARER.

use base64ct::{Base64, Encoding};

use super::super::login::{Login, Proof};
use super::{Cause, Dialogue, DialogueStep, Failure, RelayReply};

/// The longest command with its end, in bytes (RFC 5321, section 4.5.3.1.4).
const MAX_COMMAND: usize = 512;

/// How many ways to log in that a relay offers are told, and how long their names may be (RFC 4422, section 3.1).
const MAX_TOLD: usize = 10;
const MAX_MECHANISM: usize = 20;

/// The mechanisms for a password, and for a token.
const TAKES_PASSWORD: [&str; 2] = ["PLAIN", "LOGIN"];
const TAKES_TOKEN: [&str; 2] = ["XOAUTH2", "OAUTHBEARER"];

impl Dialogue {
    /// Logs in by the first way that the relay offers for the proof.
    pub(super) async fn log_in(&mut self, login: &Login) -> RelayReply<()> {
        let offers = |mechanism| self.offered("AUTH").flatten().any(|it| it == mechanism);
        let username = &login.username;
        match &login.proof {
            Proof::Password(password) if offers("PLAIN") => {
                let response = format!("\0{username}\0{}", password.expose());
                self.respond("PLAIN", &response, None).await
            }
            Proof::Password(password) if offers("LOGIN") => {
                self.log_in_in_two(username, password.expose()).await
            }
            Proof::Token(token) if offers("XOAUTH2") => {
                let token = token.expose();
                let response = format!("user={username}\x01auth=Bearer {token}\x01\x01");
                self.respond("XOAUTH2", &response, Some("")).await
            }
            Proof::Token(token) if offers("OAUTHBEARER") => {
                let (name, token) = (saslname(username), token.expose());
                let response = format!("n,a={name},\x01auth=Bearer {token}\x01\x01");
                self.respond("OAUTHBEARER", &response, Some("AQ==")).await
            }
            proof => {
                let cause = Cause::Lacks(self.lacking(proof).into());
                Err(Failure::now(DialogueStep::Auth, cause))
            }
        }
    }

    /// Logs in with one response, in the line of the command where it fits, else after a 334 (RFC 4954, section 4).
    ///
    /// A relay may say in a challenge why it rejects a token; `acknowledgement` is the response to it, in Base64, before the
    /// relay's reply (RFC 7628, section 3.2.3; <https://developers.google.com/workspace/gmail/imap/xoauth2-protocol>).
    async fn respond(
        &mut self,
        mechanism: &str,
        response: &str,
        acknowledgement: Option<&str>,
    ) -> RelayReply<()> {
        let (step, deadline) = (DialogueStep::Auth, self.deadlines.auth.as_duration());
        let at = |replies| (step, step.at_edge().after(replies));
        let wanted: &[u16] = match acknowledgement {
            Some(_) => &[235, 334],
            None => &[235],
        };
        let response = Base64::encode_string(response.as_bytes());
        let whole = format!("AUTH {mechanism} {response}");
        let reply = if whole.len() + "\r\n".len() <= MAX_COMMAND {
            self.ask_at(at(0), deadline, &whole, wanted).await?
        } else {
            let command = format!("AUTH {mechanism}");
            self.ask_at(at(0), deadline, &command, &[334]).await?;
            self.ask_at(at(1), deadline, &response, wanted).await?
        };
        match acknowledgement {
            // No reply is wanted: after a challenge, each is a rejection.
            Some(line) if reply.code == 334 => {
                let rejection = self.ask_at(at(2), deadline, line, &[]);
                rejection.await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Logs in with `AUTH LOGIN`, which asks for the name and the password apart.
    async fn log_in_in_two(&mut self, username: &str, password: &str) -> RelayReply<()> {
        let (step, deadline) = (DialogueStep::Auth, self.deadlines.auth.as_duration());
        let base64 = |text: &str| Base64::encode_string(text.as_bytes());
        let lines = ["AUTH LOGIN".to_owned(), base64(username), base64(password)];
        for (replies, (line, wanted)) in lines.iter().zip([334, 334, 235]).enumerate() {
            let at = step.at_edge().after(replies);
            self.ask_at((step, at), deadline, line, &[wanted]).await?;
        }
        Ok(())
    }

    /// What the relay lacks for a login, beside what it offers. CRAM-MD5 is not among the ways to log in: the relay would have
    /// to keep the password readable, and over TLS it protects nothing more.
    fn lacking(&self, proof: &Proof) -> String {
        let wanted = match proof {
            Proof::Password(_) => "AUTH PLAIN or LOGIN, which a password needs",
            Proof::Token(_) => "AUTH XOAUTH2 or OAUTHBEARER, which a token needs",
        };
        let is_name = |word: &&str| {
            let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            word.len() <= MAX_MECHANISM && word.bytes().all(is_of_a_name)
        };
        let offered: Vec<&str> = self.offered("AUTH").flatten().filter(is_name).collect();
        let advice = match proof {
            _ if offered.is_empty() => return format!("{wanted}, nor any other AUTH"),
            Proof::Password(_) if offered.iter().any(|it| TAKES_TOKEN.contains(it)) => {
                "; for a token, give token_file or token_cmd in place of password_file"
            }
            Proof::Token(_) if offered.iter().any(|it| TAKES_PASSWORD.contains(it)) => {
                "; for a password, give password_file"
            }
            Proof::Password(_) | Proof::Token(_) => "",
        };
        let told = offered[..offered.len().min(MAX_TOLD)].join(", ");
        format!("{wanted}, but {told}{advice}")
    }
}

/// A user name in the header of an OAUTHBEARER response (RFC 5801, section 4).
fn saslname(username: &str) -> String {
    username.replace('=', "=3D").replace(',', "=2C")
}
