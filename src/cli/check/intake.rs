//! Checks the intake: its tokens, its certificate, and whether they cross a network in clear.

use std::io;

use handout::clock;
use handout::config::Config;
use handout::intake::TokenFile;
use handout::serving::TlsFiles;
use jiff::SignedDuration;

use super::report::CheckReport;

/// The rest of a certificate's life in which it should be replaced.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Checks what needs no other machine.
pub(super) fn local(config: &Config, report: &CheckReport) -> io::Result<()> {
    let intake = &config.intake;
    let Some(listen) = intake.listen else {
        return Ok(());
    };
    let tokens = TokenFile::of(intake).and_then(|file| file.check());
    let tokens = tokens.map(|count| match count {
        1 => "a token can be read".to_owned(),
        count => format!("{count} tokens can be read"),
    });
    report.tell("intake.token_file", tokens.map_err(Into::into))?;
    let files = TlsFiles::of(
        "intake",
        intake.tls_cert_file.as_ref(),
        intake.tls_key_file.as_ref(),
    );
    match files {
        Ok(None) if listen.ip().is_loopback() => Ok(()),
        Ok(None) => report.warn(
            "intake.tls_cert_file",
            format!(
                "is not set, and intake.listen is {listen}: tokens and jobs reach it in clear; let a proxy on this machine end TLS, or name a certificate"
            ),
        ),
        Ok(Some(files)) => certificate(&files, report),
        Err(error) => report.tell("intake.tls_cert_file", Err(error.into())),
    }
}

fn certificate(files: &TlsFiles, report: &CheckReport) -> io::Result<()> {
    let what = "intake.tls_cert_file";
    // Callers may reach it under any name.
    let ends = match files.check("localhost") {
        Ok(facts) => facts.ends,
        Err(error) => return report.tell(what, Err(error.into())),
    };
    let together = "the certificate and its key belong together";
    let Some(ends) = ends else {
        return report.tell(what, Ok(together.to_owned()));
    };
    let now = clock::system();
    if ends <= now {
        let ended = format!("ended at {ends}: callers refuse it; replace both files");
        return report.tell(what, Err(ended.into()));
    }
    if ends.duration_since(now) < ENDS_SOON {
        let words = format!("ends at {ends}: replace both files before, and the intake reads them");
        return report.warn(what, words);
    }
    report.tell(what, Ok(format!("{together}, until {ends}")))
}
