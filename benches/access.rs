//! Measures access reports on a generated truth: CPU and memory of reading and joining, and how often each verdict is right.
//!
//! `cargo bench --bench access [LINES [LINKS]]`, a million of both without numbers. Recipients with 50 links each get mails; scanners fetch
//! links within a minute, people open some later, whole, resumed, in ranges or in part, are refused for each reason that a log can have, and
//! the log loses and doubles lines. As S3 delivers them, a file has the requests of about an hour, in no order, and one line in a hundred comes
//! up to a day late. Python with the regular expression of Athena, and `goaccess` where it is installed, read the same files without a join. Timings vary on shared machines: compare the ratios. Verdicts are judged up to two million lines; the memory of ten
//! million lines is that of `cargo bench --bench access 10000000`, which takes 10 GB of the directory for temporary files.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use handout::access::book::AccessBook;
use handout::access::join::{ClientPrivacy, Joiner};
use handout::access::known::KnownLinks;
use handout::access::opens::{OpensQuestion, answer};
use handout::access::person::OpenedBy;
use handout::access::reading::{files_in, read_file};
use handout::access::verdict::{OpenVerdict, RefusedBecause};
use handout::audit::find::LinkQuery;
use handout::audit::source::LogSource;
use handout::config::AddressDetail;
use rustix::time::{ClockId, clock_gettime};

/// How many links a mail has.
const FILES: u64 = 50;

/// The most CPU that a line may take, in µs.
const MAX_LINE_MICROS: f64 = 1.5;

/// The most memory for ten million lines, in MiB.
const MAX_MEMORY_MIB: f64 = 128.0;

/// How many lines are judged at most: the answer holds all rows at once.
const MAX_JUDGED: u64 = 2_000_000;

/// 2026-11-23T10:00:00Z, when the mails were accepted.
const ACCEPTED: i64 = 1_795_428_000;

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

/// What became of a file, as it really was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    Whole,
    InPieces,
    Part,
    Begun,
    Looked,
    Refused(RefusedBecause),
}

/// What a log has of a refusal, and its reason.
const REFUSALS: [(&str, RefusedBecause); 5] = [
    ("403 AccessDenied", RefusedBecause::Late),
    ("400 ExpiredToken", RefusedBecause::CredentialsDied),
    ("403 SignatureDoesNotMatch", RefusedBecause::Mangled),
    ("403 AccessDenied", RefusedBecause::Denied),
    ("404 NoSuchKey", RefusedBecause::Gone),
];

/// The same numbers in every run: a splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn link_id(number: u64) -> String {
    let mut chance = Chance(number);
    format!("{:016x}{:016x}", chance.next(), chance.next())
}

fn size_of(number: u64) -> u64 {
    20_000 + Chance(number ^ 0x5eed).below(5_000_000)
}

/// Writes an audit log of `links` links, each with its mail.
fn write_audit(folder: &Path, links: u64) {
    let mut out = BufWriter::new(File::create(folder.join("s.0001.jsonl")).unwrap());
    let prev = "0".repeat(64);
    for number in 0..links {
        let rid = format!("{:032x}", number / FILES);
        let (id, size) = (link_id(number), size_of(number));
        writeln!(out, "{{\"v\":2,\"ev\":\"issue\",\"seq\":{number},\"ts\":\"2026-11-23T09:59:00.000Z\",\"stream\":\"s\",\"job\":\"acme-2026-11-23\",\"attempt\":1,\"rid\":\"{rid}\",\"connection\":\"reports\",\"bucket\":\"acme-reports\",\"key\":\"2026/11/23/customer {}/report {number}.pdf\",\"etag\":\"d41d8cd98f00b204e9800998ecf8427e\",\"size\":{size},\"link_id\":\"{id}\",\"link\":\"hmac:{prev}\",\"signed_at\":\"2026-11-23T09:59:00Z\",\"expires_at\":\"2026-11-30T09:59:00Z\",\"bound\":\"asked\",\"access_key_id\":\"AKIAIOSFODNN7EXAMPLE\",\"disposition\":\"attachment\",\"prev\":\"sha256:{prev}\"}}", number / FILES).unwrap();
        if number % FILES == FILES - 1 {
            writeln!(out, "{{\"v\":2,\"ev\":\"outcome\",\"seq\":0,\"ts\":\"2026-11-23T10:00:00.000Z\",\"stream\":\"s\",\"job\":\"acme-2026-11-23\",\"rid\":\"{rid}\",\"n\":0,\"outcome\":\"accepted\",\"message_id\":\"<m@acme.example>\",\"prev\":\"sha256:{prev}\"}}").unwrap();
        }
    }
    out.flush().unwrap();
}

/// How late a line comes at the most, in hours: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html#LogDeliveryBestEffort>
const MAX_LATE_HOURS: u64 = 24;

/// A log in the making, and the truth.
struct World {
    folder: PathBuf,
    hours: BTreeMap<i64, BufWriter<File>>,
    chance: Chance,
    lines: u64,
    lost: u64,
    doubled: u64,
    truth: HashMap<u64, (Arrival, bool)>,
}

impl World {
    fn request(
        &mut self,
        number: u64,
        at: i64,
        (how, status, sent): (&str, &str, u64),
        (address, agent): (&str, &str),
    ) {
        if self.chance.below(1_000) < 3 {
            self.lost += 1;
            return;
        }
        let second = at;
        let at = jiff::Timestamp::from_second(at)
            .unwrap()
            .strftime("%d/%b/%Y:%H:%M:%S +0000")
            .to_string();
        let (id, size, customer) = (link_id(number), size_of(number), number / FILES);
        let (one, two) = (self.chance.next(), self.chance.next());
        let line = format!(
            "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be acme-reports [{at}] {address} arn:aws:sts::123456789012:assumed-role/handout-signer/handout {one:016X} REST.{how}.OBJECT 2026/11/23/customer%2B{customer}/report%2B{number}.pdf \"{how} /2026/11/23/customer%20{customer}/report%20{number}.pdf?x-id=GetObject&response-content-disposition=attachment%3B%20filename%3D%22report%20{number}.pdf%22&x-handout={id}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261123%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20261123T095900Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature={one:016x}{two:016x}{one:016x}{two:016x} HTTP/1.1\" {status} {sent} {size} 27 11 \"-\" \"{agent}\" - {two:016x}rFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234= SigV4 TLS_AES_128_GCM_SHA256 QueryString acme-reports.s3.eu-west-1.amazonaws.com TLSv1.3 - - eu-west-1\n"
        );
        self.deliver(second, &line);
        if self.chance.below(1_000) < 5 {
            self.doubled += 1;
            self.deliver(second, &line);
        }
    }

    /// Writes a line into the file of its hour, or of a later one.
    fn deliver(&mut self, at: i64, line: &str) {
        let late = match self.chance.percent(1) {
            true => 1 + self.chance.below(MAX_LATE_HOURS),
            false => 0,
        };
        let hour = at.div_euclid(3600) + late.cast_signed();
        let folder = &self.folder;
        let out = self.hours.entry(hour).or_insert_with(|| {
            let begin = jiff::Timestamp::from_second(hour * 3600).unwrap();
            let name = begin.strftime("%Y-%m-%d-%H-00-00-79A59DF900B949E5");
            BufWriter::new(File::create(folder.join(name.to_string())).unwrap())
        });
        out.write_all(line.as_bytes()).unwrap();
        self.lines += 1;
    }

    fn is_true(&mut self, number: u64, arrival: Arrival, is_person: bool) {
        let known = self.truth.entry(number).or_insert((arrival, is_person));
        // A person counts before a machine, and the better before the worse.
        if (!is_person, arrival) < (!known.1, known.0) {
            *known = (arrival, is_person);
        }
    }

    /// A scanner of a mail: from two networks, within a minute, under the name of a browser or its own.
    fn scan(&mut self, mail: u64) {
        let honest = self.chance.percent(30);
        let agent = if honest {
            "Barracuda Sentinel (EE)"
        } else {
            CHROME
        };
        let begin = ACCEPTED + 2 + self.chance.below(40).cast_signed();
        let count = 1 + self.chance.below(12);
        for index in 0..count {
            let number = mail * FILES + index;
            let net = format!("52.{}.{}.9", self.chance.below(4), self.chance.below(250));
            self.request(
                number,
                begin + (index / 6).cast_signed(),
                ("GET", "200 -", size_of(number)),
                (&net, agent),
            );
            self.is_true(number, Arrival::Whole, false);
        }
    }

    /// A person who reads a mail, and opens some of its files.
    fn read(&mut self, mail: u64) {
        let late = match self.chance.below(100) {
            0..=1 => 20 + self.chance.below(40),
            2..=11 => 60 + self.chance.below(540),
            _ => 600 + self.chance.below(86_400 * 3),
        };
        let mut at = ACCEPTED + late.cast_signed();
        let net = format!(
            "198.{}.{}.7",
            self.chance.below(250),
            self.chance.below(250)
        );
        let from = (net.as_str(), CHROME);
        for _ in 0..1 + self.chance.below(6) {
            let number = mail * FILES + self.chance.below(FILES);
            let size = size_of(number);
            at += 10 + self.chance.below(300).cast_signed();
            let arrival = match self.chance.below(100) {
                0..=64 => {
                    self.request(number, at, ("GET", "200 -", size), from);
                    Arrival::Whole
                }
                65..=79 => {
                    // A resumed download, now and then from another network.
                    let first = size / 3;
                    self.request(number, at, ("GET", "200 -", first), from);
                    self.request(number, at + 90, ("GET", "206 -", size - first), from);
                    Arrival::InPieces
                }
                80..=87 => {
                    let pieces = 2 + self.chance.below(6);
                    for piece in 0..pieces {
                        let sent = size / pieces + if piece == 0 { size % pieces } else { 0 };
                        self.request(
                            number,
                            at + piece.cast_signed(),
                            ("GET", "206 -", sent),
                            from,
                        );
                    }
                    Arrival::InPieces
                }
                88..=91 => {
                    self.request(number, at, ("GET", "206 -", size / 2), from);
                    Arrival::Part
                }
                92..=94 => {
                    self.request(number, at, ("GET", "200 -", size / 4), from);
                    Arrival::Begun
                }
                95..=96 => {
                    self.request(number, at, ("GET", "206 -", 512), from);
                    Arrival::Looked
                }
                _ => {
                    let (answer, why) = REFUSALS[self.chance.index(REFUSALS.len())];
                    // A link that has ended is told from one that is denied by the instant alone.
                    let is_late = why == RefusedBecause::Late;
                    let at = if is_late { ACCEPTED + 700_000 } else { at };
                    self.request(number, at, ("GET", answer, 388), from);
                    Arrival::Refused(why)
                }
            };
            self.is_true(number, arrival, true);
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// A field of `/proc/self/status`, in MiB.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let wanted = numbers.first().copied().unwrap_or(1_000_000);
    let links = numbers.get(1).copied().unwrap_or(1_000_000) / FILES * FILES;
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    fs::create_dir(&audit).unwrap();
    write_audit(&audit, links);
    let log = folder.path().join("log");
    fs::create_dir(&log).unwrap();
    let mut world = World {
        folder: log.clone(),
        hours: BTreeMap::new(),
        chance: Chance(7),
        lines: 0,
        lost: 0,
        doubled: 0,
        truth: HashMap::new(),
    };
    let mails = links / FILES;
    let mut mail = 0;
    while world.lines < wanted {
        if world.chance.percent(35) {
            world.scan(mail % mails);
        }
        if world.chance.percent(80) {
            world.read(mail % mails);
        }
        mail += 1;
    }
    let World {
        hours,
        lines,
        lost,
        doubled,
        truth,
        ..
    } = world;
    for mut hour in hours.into_values() {
        hour.flush().unwrap();
    }
    let files = files_in(&log).unwrap();
    let sizes = files.iter().map(|file| fs::metadata(file).unwrap().len());
    println!(
        "{lines} lines of {} bytes in {} files, {doubled} of them doubled, {lost} lost; {links} links",
        sizes.sum::<u64>() / lines,
        files.len()
    );

    let places = [LogSource::from(&audit)];
    let base = memory("VmRSS");
    drop(fs::write("/proc/self/clear_refs", "5"));
    let before = cpu();
    let known = KnownLinks::of_logs(&places).unwrap();
    let of_known = cpu() - before;
    let mut book = AccessBook::open(folder.path()).unwrap();
    let privacy = ClientPrivacy {
        detail: AddressDetail::Network,
        now: ACCEPTED,
        since: i64::MIN,
    };
    let before = cpu();
    let mut joiner = Joiner::new(&known, &[], privacy, &mut book);
    for file in &files {
        read_file(file, &mut joiner).unwrap();
    }
    joiner.write().unwrap();
    let counts = joiner.counts();
    let of_lines = cpu() - before;
    let each = |time: Duration, count: u64| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "  ids of the audit log   {:6.2} s of CPU, {:5.2} µs a link",
        of_known.as_secs_f64(),
        each(of_known, links)
    );
    println!(
        "  read, joined, written  {:6.2} s of CPU",
        of_lines.as_secs_f64()
    );
    let held = memory("VmHWM").saturating_sub(base);
    goals(&[
        (
            format!("CPU a line, joined with {links} links"),
            each(of_lines, lines),
            MAX_LINE_MICROS,
            "µs",
        ),
        (
            format!("memory above {base} MiB, {lines} lines"),
            held as f64,
            MAX_MEMORY_MIB,
            "MiB",
        ),
    ]);
    println!(
        "  access.sqlite          {:4} bytes a line",
        fs::metadata(folder.path().join("access.sqlite"))
            .unwrap()
            .len()
            / lines
    );
    assert_eq!(
        (counts.lines, counts.doubles, counts.malformed),
        (lines, doubled, 0)
    );
    drop(known);

    python(&files, lines);
    goaccess(&files, lines);
    if wanted <= MAX_JUDGED {
        judge(&places, &book, &truth);
    }
}

/// Prints what was measured beside its goal.
fn goals(rows: &[(String, f64, f64, &str)]) {
    println!("  {:46} {:>10}  {:>10}", "goal", "measured", "at the most");
    for (what, measured, most, unit) in rows {
        let verdict = if measured <= most { "ok" } else { "MISSED" };
        println!("  {what:46} {measured:10.2}  {most:10.2}  {unit:4} {verdict}");
    }
    println!(
        "  {:46} the bench `audit` tells it: at the most 110",
        "bytes of a compressed audit line"
    );
}

/// Whether verdicts and classes are right.
fn judge(places: &[LogSource], book: &AccessBook, truth: &HashMap<u64, (Arrival, bool)>) {
    let query = LinkQuery {
        job: Some("acme-2026-11-23".to_owned()),
        ..LinkQuery::default()
    };
    let before = cpu();
    let report = answer(
        places,
        book,
        &OpensQuestion {
            query,
            ..OpensQuestion::default()
        },
    )
    .unwrap();
    println!(
        "  the answer             {:6.2} s of CPU for {} rows",
        (cpu() - before).as_secs_f64(),
        report.rows.len()
    );
    let mut verdicts: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    let mut seen = 0;
    for row in &report.rows {
        let number: u64 = row
            .key
            .rsplit(' ')
            .next()
            .unwrap()
            .trim_end_matches(".pdf")
            .parse()
            .unwrap();
        let (arrival, is_person) = truth[&number];
        seen += 1;
        let expected = match arrival {
            Arrival::Whole => "complete",
            Arrival::InPieces => "probably complete",
            Arrival::Part => "partly",
            Arrival::Begun => "broken off",
            Arrival::Looked => "looked at",
            Arrival::Refused(_) => "refused",
        };
        count(&mut verdicts, expected, row.verdict.word());
        if let Arrival::Refused(why) = arrival
            && row.verdict == OpenVerdict::Refused
        {
            let said = row.refused.map_or("no reason", RefusedBecause::words);
            count(&mut verdicts, why.words(), said);
        }
        let said = row.by.map_or("no visitor", |by| match by {
            OpenedBy::Person | OpenedBy::LikelyPerson => "a person",
            OpenedBy::Unknown => "unknown",
            OpenedBy::LikelyMachine | OpenedBy::Machine => "a machine",
        });
        if row.verdict != OpenVerdict::Refused {
            count(
                &mut verdicts,
                if is_person { "a person" } else { "a machine" },
                said,
            );
        }
    }
    println!(
        "  {} of {} opened files are in the answer",
        seen,
        truth.len()
    );
    // The design wants them told, and sets no limit.
    println!("  {:46} {:>9}    {:>8}", "verdict", "precision", "recall");
    for (word, [right, said, real]) in verdicts {
        let percent = |of: u64| {
            if of == 0 {
                100.0
            } else {
                right as f64 * 100.0 / of as f64
            }
        };
        println!(
            "  {word:46} {:7.2} %  {:7.2} %  ({real} really)",
            percent(said),
            percent(real)
        );
    }
}

fn count(
    verdicts: &mut BTreeMap<&'static str, [u64; 3]>,
    expected: &'static str,
    said: &'static str,
) {
    verdicts.entry(expected).or_default()[2] += 1;
    let entry = verdicts.entry(said).or_default();
    entry[1] += 1;
    entry[0] += u64::from(expected == said);
}

const PYTHON: &str = r#"
import re, sys, time
pattern = re.compile(r'([^ ]*) ([^ ]*) \[(.*?)\] ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) (-|[0-9]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) ([^ ]*)(?: ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*))?.*$')
found = 0
for name in sys.argv[1:]:
    for line in open(name):
        found += pattern.match(line) is not None
print(time.process_time())
"#;

/// Python with Athena's regular expression, without a join.
fn python(log: &[PathBuf], lines: u64) {
    let ran = Command::new("python3")
        .args(["-c", PYTHON])
        .args(log)
        .output();
    let Some(seconds) = ran.ok().and_then(|ran| {
        String::from_utf8_lossy(&ran.stdout)
            .trim()
            .parse::<f64>()
            .ok()
    }) else {
        println!("  python3 is not installed");
        return;
    };
    println!(
        "  Python, a regex        {seconds:6.2} s of CPU, {:5.2} µs a line",
        seconds * 1e6 / lines as f64
    );
}

/// `GoAccess`, without a join.
fn goaccess(log: &[PathBuf], lines: u64) {
    let format = "%^ %v [%d:%t %^] %h %^\"%r\" %s %^ %b %^ %L %^ \"%R\" \"%u\" %^";
    let mut command = Command::new("bash");
    let script = "TIMEFORMAT='%U %S'; time goaccess \"${@:2}\" --no-global-config --log-format=\"$1\" --date-format=%d/%b/%Y --time-format=%T -o /dev/null --no-progress 2>/dev/null >&2";
    let ran = command
        .args(["-c", script, "bench", format])
        .args(log)
        .output();
    let text = ran
        .map(|ran| String::from_utf8_lossy(&ran.stderr).into_owned())
        .unwrap_or_default();
    let times: Vec<f64> = text
        .lines()
        .last()
        .unwrap_or_default()
        .split(' ')
        .filter_map(|time| time.parse().ok())
        .collect();
    match times[..] {
        [user, system] if user > 0.05 => {
            let seconds = user + system;
            println!(
                "  GoAccess               {seconds:6.2} s of CPU, {:5.2} µs a line",
                seconds * 1e6 / lines as f64
            );
        }
        _ => println!("  goaccess is not installed"),
    }
}
