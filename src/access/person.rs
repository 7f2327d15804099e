//! Whether a person opened a link: five classes, each with its evidence, and never a plain yes or no.
//!
//! Scanners of mails fetch links before and after the delivery, from several networks, under the names of browsers. No sign is sure by
//! itself, so a class is a judgement of the evidence, and the report shows both. A sign-in alone is proof.

use serde::Serialize;

/// Who opened a link, the surest person first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OpenedBy {
    /// The visitor signed in.
    Person,
    /// The behaviour of a person.
    LikelyPerson,
    /// The evidence says nothing.
    Unknown,
    /// The behaviour of a machine.
    LikelyMachine,
    /// It says so itself, or asked for headers alone.
    Machine,
}

impl OpenedBy {
    /// The words of a report.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::LikelyPerson => "likely person",
            Self::Unknown => "unknown",
            Self::LikelyMachine => "likely machine",
            Self::Machine => "machine",
        }
    }

    /// Whether a report leaves it out of the count of downloads.
    pub const fn is_machine(self) -> bool {
        matches!(self, Self::LikelyMachine | Self::Machine)
    }
}

/// What is known of a use of a link.
#[derive(Debug, Clone, Default)]
pub struct Signs<'a> {
    /// How the visitor signed in.
    pub signed_in: Option<&'a str>,
    /// How long after its page the button of the portal was pressed, in milliseconds.
    pub after_page_ms: Option<u64>,
    /// The `Sec-Fetch-*` headers, and whether the portal would have seen them.
    pub sec_fetch: Option<&'a str>,
    /// Whether the portal saw the request, so that missing headers are a sign.
    pub is_of_portal: bool,
    /// The `Sec-Purpose`.
    pub purpose: Option<&'a str>,
    /// What the client calls itself.
    pub user_agent: &'a str,
    /// Whether only headers were asked for.
    pub only_heads: bool,
    /// Seconds from the delivery of the mail to the first request; negative before it.
    pub after_mail: Option<i64>,
    /// How many links of the mail were opened within five seconds.
    pub links_at_once: usize,
    /// How many networks used the link within two seconds.
    pub networks_at_once: usize,
    /// How many networks are in this use of the link.
    pub networks: usize,
}

/// A machine is quicker than that after the delivery of a mail, in seconds.
const SOON_AFTER_MAIL: i64 = 60;

/// A person is rarely quicker than that; scanners come back for a few minutes. In seconds.
const LONG_AFTER_MAIL: i64 = 600;

/// A person does not press a button sooner than that after its page, in milliseconds.
const TIME_TO_READ_MS: u64 = 1_000;

/// The class, and the evidence for it.
pub fn judge(signs: &Signs<'_>) -> (OpenedBy, Vec<String>) {
    if signs
        .purpose
        .is_some_and(|purpose| purpose.contains("prefetch"))
    {
        return (
            OpenedBy::Machine,
            vec!["the browser fetched it in advance".to_owned()],
        );
    }
    if let Some(how) = signs.signed_in {
        return (OpenedBy::Person, vec![format!("signed in by {how}")]);
    }
    if let Some(word) = machine_word(signs.user_agent) {
        return (OpenedBy::Machine, vec![word]);
    }
    if signs.only_heads {
        return (
            OpenedBy::Machine,
            vec!["only headers were asked for".to_owned()],
        );
    }
    if let Some(after) = signs
        .after_page_ms
        .filter(|after| *after >= TIME_TO_READ_MS)
    {
        let seconds = after / 1_000;
        return (
            OpenedBy::LikelyPerson,
            vec![format!("the button was pressed {seconds} s after its page")],
        );
    }
    let against = against(signs);
    if !against.is_empty() {
        return (OpenedBy::LikelyMachine, against);
    }
    let Some(after) = signs.after_mail else {
        return (
            OpenedBy::Unknown,
            vec!["when the mail was accepted is not known".to_owned()],
        );
    };
    if let Some(tool) = tool(signs.user_agent) {
        return (
            OpenedBy::Unknown,
            vec![format!("{tool} is run by people and by programs")],
        );
    }
    if after <= LONG_AFTER_MAIL {
        return (OpenedBy::Unknown, vec![format!("{after} s after the mail")]);
    }
    if !is_browser(signs.user_agent) {
        return (
            OpenedBy::Unknown,
            vec!["the client does not call itself a browser".to_owned()],
        );
    }
    if signs.networks > 1 {
        return (
            OpenedBy::Unknown,
            vec![format!("{} networks in one download", signs.networks)],
        );
    }
    let evidence = format!(
        "{} min after the mail, by a browser, from one network",
        after / 60
    );
    (OpenedBy::LikelyPerson, vec![evidence])
}

/// The signs of a machine.
fn against(signs: &Signs<'_>) -> Vec<String> {
    let mut against = Vec::new();
    if let Some(after) = signs.after_mail.filter(|after| *after < SOON_AFTER_MAIL) {
        against.push(match after < 0 {
            true => format!("{} s before the mail was accepted", -after),
            false => format!("{after} s after the mail was accepted"),
        });
    }
    if signs.links_at_once > 3 {
        against.push(format!(
            "{} links of the mail within 5 s",
            signs.links_at_once
        ));
    }
    if signs.networks_at_once > 1 {
        against.push(format!("{} networks within 2 s", signs.networks_at_once));
    }
    let claims_chrome = chrome_version(signs.user_agent).is_some_and(|version| version >= 80);
    if signs.is_of_portal && claims_chrome && signs.sec_fetch.is_none() {
        against.push("it calls itself Chrome and sends no Sec-Fetch headers".to_owned());
    }
    against
}

fn chrome_version(agent: &str) -> Option<u32> {
    let (_, rest) = agent.split_once("Chrome/")?;
    rest.split('.').next()?.parse().ok()
}

/// Whether a client calls itself a browser of people.
fn is_browser(agent: &str) -> bool {
    agent.starts_with("Mozilla/5.0 (")
        && ["Chrome/", "Firefox/", "Safari/"]
            .iter()
            .any(|name| agent.contains(name))
}

/// Programs with which a person downloads a file, and scripts too.
fn tool(agent: &str) -> Option<&'static str> {
    [
        ("curl/", "curl"),
        ("Wget/", "wget"),
        ("aria2/", "aria2"),
        ("Wget2/", "wget2"),
        ("HTTPie/", "HTTPie"),
        ("WindowsPowerShell/", "PowerShell"),
    ]
    .into_iter()
    .find_map(|(mark, name)| agent.contains(mark).then_some(name))
}

/// Words of clients that are no people: scanners of mails, previews of messengers, crawlers, libraries. In lower case.
const MACHINES: [&str; 47] = [
    "aiohttp",
    "apache-httpclient",
    "axios/",
    "barracuda",
    "bingpreview",
    "bitdiscovery",
    "censys",
    "checklink",
    "crawl",
    "embedly",
    "expanse",
    "facebookexternalhit",
    "feedfetcher",
    "fireeye",
    "forcepoint",
    "go-http-client",
    "googleimageproxy",
    "headlesschrome",
    "httpx/",
    "java/",
    "libwww",
    "linkcheck",
    "microsoft office existence discovery",
    "microsoft office protocol discovery",
    "mimecast",
    "mimeprobe",
    "nagios",
    "netcraft",
    "node-fetch",
    "okhttp",
    "palo alto",
    "phantomjs",
    "proofpoint",
    "python",
    "ruby",
    "scrapy",
    "skypeuripreview",
    "slack-imgproxy",
    "slurp",
    "spider",
    "symantec",
    "trendmicro",
    "urlscan",
    "validator",
    "virustotal",
    "whatsapp/",
    "yahoomailproxy",
];

/// Why a client is a machine by its own word; `None` if it does not say so.
fn machine_word(agent: &str) -> Option<String> {
    let agent = agent.trim();
    if agent.len() < 2 {
        return Some("the client does not say what it is".to_owned());
    }
    let lower = agent.to_ascii_lowercase();
    if let Some(word) = MACHINES.iter().find(|word| lower.contains(**word)) {
        return Some(format!(
            "the client calls itself {:?}",
            word.trim_end_matches('/')
        ));
    }
    is_bot(&lower).then(|| "the client calls itself a bot".to_owned())
}

/// Whether a word ends in `bot`, other than the name of a phone.
fn is_bot(lower: &str) -> bool {
    lower.match_indices("bot").any(|(at, _)| {
        let before = &lower[..at];
        let after = lower[at + 3..].chars().next();
        !before.ends_with("cu") && after.is_none_or(|next| !next.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

    fn class(signs: &Signs<'_>) -> OpenedBy {
        let (class, evidence) = judge(signs);
        assert!(!evidence.is_empty() && evidence.iter().all(|line| !line.is_empty()));
        class
    }

    #[test]
    fn each_class_has_its_evidence() {
        let base = Signs {
            user_agent: CHROME,
            after_mail: Some(3_600),
            networks: 1,
            ..Signs::default()
        };
        let with = |change: &dyn Fn(&mut Signs<'static>)| {
            let mut signs = base.clone();
            change(&mut signs);
            class(&signs)
        };
        assert_eq!(with(&|_| {}), OpenedBy::LikelyPerson);
        assert_eq!(with(&|s| s.signed_in = Some("code")), OpenedBy::Person);
        assert_eq!(
            with(&|s| (s.signed_in, s.purpose) = (Some("code"), Some("prefetch"))),
            OpenedBy::Machine
        );
        assert_eq!(
            with(&|s| (s.after_page_ms, s.after_mail) = (Some(1_500), Some(5))),
            OpenedBy::LikelyPerson
        );
        assert_eq!(
            with(&|s| (s.after_page_ms, s.after_mail) = (Some(134), Some(22))),
            OpenedBy::LikelyMachine
        );
        assert_eq!(with(&|s| s.after_mail = Some(22)), OpenedBy::LikelyMachine);
        assert_eq!(with(&|s| s.after_mail = Some(-3)), OpenedBy::LikelyMachine);
        assert_eq!(with(&|s| s.after_mail = Some(300)), OpenedBy::Unknown);
        assert_eq!(with(&|s| s.after_mail = None), OpenedBy::Unknown);
        assert_eq!(with(&|s| s.links_at_once = 4), OpenedBy::LikelyMachine);
        assert_eq!(with(&|s| s.networks_at_once = 2), OpenedBy::LikelyMachine);
        assert_eq!(with(&|s| s.networks = 2), OpenedBy::Unknown);
        assert_eq!(with(&|s| s.is_of_portal = true), OpenedBy::LikelyMachine);
        assert_eq!(with(&|s| s.user_agent = "curl/8.5.0"), OpenedBy::Unknown);
        assert_eq!(
            with(&|s| (s.user_agent, s.after_mail) = ("curl/8.5.0", Some(3))),
            OpenedBy::LikelyMachine
        );
        assert_eq!(with(&|s| s.only_heads = true), OpenedBy::Machine);
        for machine in [
            "",
            "-",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "Twitterbot/1.0",
            "python-requests/2.32",
            "Barracuda Sentinel (EE)",
            "Mozilla/5.0 (compatible; Googlebot/2.1)",
        ] {
            assert_eq!(
                with(&|s| s.user_agent = machine),
                OpenedBy::Machine,
                "{machine}"
            );
        }
        let phone = "Mozilla/5.0 (Linux; Android 13; CUBOT X70) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36";
        assert_eq!(with(&|s| s.user_agent = phone), OpenedBy::LikelyPerson);
    }
}
