//! Instants as logs spell them, in UTC and whole seconds.

/// Seconds since 1970 of a civil time in UTC; `None` where a part is out of range.
fn seconds(year: i64, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<i64> {
    let is_in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !is_in_range {
        return None;
    }
    // Days since 1970-01-01 of the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = match month > 2 {
        true => (year, i64::from(month) - 3),
        false => (year - 1, i64::from(month) + 9),
    };
    let era = year / 400;
    let of_era = year - era * 400;
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + i64::from(hour * 3600 + minute * 60 + second))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}

/// `06/Feb/2019:00:00:38 +0000`, as S3 writes it.
pub(super) fn of_s3(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 26 || &bytes[20..] != b" +0000" || bytes[2] != b'/' || bytes[6] != b'/' {
        return None;
    }
    let month = match &bytes[3..6] {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    };
    let at = |range: std::ops::Range<usize>| number(&bytes[range]);
    seconds(
        at(7..11)?.into(),
        month,
        at(0..2)?,
        at(12..14)?,
        at(15..17)?,
        at(18..20)?,
    )
}

/// `2026-11-23` and `10:00:00`, as CloudFront writes them.
pub(super) fn of_date_and_time(date: &str, time: &str) -> Option<i64> {
    let (date, time) = (date.as_bytes(), time.as_bytes());
    if date.len() != 10 || time.len() < 8 {
        return None;
    }
    seconds(
        number(&date[..4])?.into(),
        number(&date[5..7])?,
        number(&date[8..])?,
        number(&time[..2])?,
        number(&time[3..5])?,
        number(&time[6..8])?,
    )
}

/// `2026-11-23T10:00:00.000Z`.
pub(in crate::access) fn of_iso(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    time.ends_with('Z')
        .then(|| of_date_and_time(date, time))
        .flatten()
}

/// `20261123T100000Z`, as a signature has it.
pub(in crate::access) fn of_signature(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let at = |range: std::ops::Range<usize>| number(&bytes[range]);
    seconds(
        at(0..4)?.into(),
        at(4..6)?,
        at(6..8)?,
        at(9..11)?,
        at(11..13)?,
        at(13..15)?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_those_of_the_calendar() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2026-11-23T10:00:07Z",
            "2100-03-01T00:00:00Z",
        ] {
            let expected: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(of_iso(text), Some(expected.as_second()), "{text}");
        }
        assert_eq!(
            of_s3("06/Feb/2019:00:00:38 +0000"),
            of_iso("2019-02-06T00:00:38Z")
        );
        assert_eq!(
            of_signature("20190206T000038Z"),
            of_iso("2019-02-06T00:00:38Z")
        );
        for wrong in [
            "06/Xxx/2019:00:00:38 +0000",
            "06/Feb/2019:00:00:38 +0100",
            "66/Feb/2019:00:00:38 +0000",
            "",
            "06/Feb/2019",
        ] {
            assert_eq!(of_s3(wrong), None, "{wrong}");
        }
    }
}
