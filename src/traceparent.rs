//! The trace that a message belongs to, as its sender wrote it: `traceparent` of W3C Trace Context.
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use std::fmt;

use serde::{Serialize, Serializer};

/// The name of the attribute of a message, as of the header of HTTP.
pub const TRACEPARENT: &str = "traceparent";

/// The length of version 00. A later version may be longer.
const LENGTH: usize = 55;

/// The bit that says that the sender records the trace.
const SAMPLED: u8 = 1;

/// A trace and the sender's step in it. Its [`Display`](fmt::Display) is the value of `traceparent`, in version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a value. `None` for one that is not valid, which the specification says to ignore.
    pub fn read(value: &str) -> Option<Self> {
        let bytes = value.as_bytes();
        let is_version_00 = bytes.get(..3)? == b"00-";
        // Fields that a later version adds come after a dash.
        let ends = match is_version_00 {
            true => bytes.len() == LENGTH,
            false => bytes.len() == LENGTH || bytes.get(LENGTH) == Some(&b'-'),
        };
        let field = |from: usize, to: usize| {
            let digits = value.get(from..to)?;
            let are_digits = digits
                .bytes()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            are_digits.then_some(digits)
        };
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let version = field(0, 2)?;
        if !ends || !dashes || version == "ff" {
            return None;
        }
        let read = Self {
            trace_id: u128::from_str_radix(field(3, 35)?, 16).ok()?,
            parent_id: u64::from_str_radix(field(36, 52)?, 16).ok()?,
            flags: u8::from_str_radix(field(53, LENGTH)?, 16).ok()? & SAMPLED,
        };
        (read.trace_id != 0 && read.parent_id != 0).then_some(read)
    }

    /// Reads the tracing header of AWS X-Ray, which EventBridge and SNS pass on to SQS as `AWSTraceHeader`. `None` for one without the id of a
    /// segment, and for one that is not valid.
    /// <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>
    pub fn read_x_ray(header: &str) -> Option<Self> {
        let field = |name: &str| {
            let fields = header.split(';').map(str::trim);
            let mut values = fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            values.next()
        };
        let (epoch, unique) = field("Root")?.strip_prefix("1-")?.split_once('-')?;
        let flags = match field("Sampled") {
            Some("1") => "01",
            Some(_) | None => "00",
        };
        // The dash of X-Ray stands between 8 and 24 digits.
        (epoch.len() == 8)
            .then(|| {
                format!(
                    "00-{epoch}{unique}-{}-{flags}",
                    field("Parent").unwrap_or_default()
                )
            })
            .and_then(|value| Self::read(&value))
    }

    /// The id of the trace, as a number.
    pub fn trace_number(&self) -> u128 {
        self.trace_id
    }

    /// The id of the sender's step, as a number.
    pub fn parent_number(&self) -> u64 {
        self.parent_id
    }

    /// Whether the sender records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The id of the trace, as logs and tools show it: 32 hexadecimal digits.
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.trace_id)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            parent_id,
            flags,
        } = self;
        write!(f, "00-{trace_id:032x}-{parent_id:016x}-{flags:02x}")
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The id of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_value_is_read_and_written() {
        let read = TraceParent::read(EXAMPLE).unwrap();
        assert_eq!(read.to_string(), EXAMPLE);
        let trace = read.trace_id().to_string();
        assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings",
        ] {
            assert_eq!(TraceParent::read(later).unwrap().to_string(), EXAMPLE);
        }
        // Bits that version 00 does not know are not passed on.
        let flags = EXAMPLE.replace("-01", "-ff");
        assert_eq!(TraceParent::read(&flags).unwrap().to_string(), EXAMPLE);
    }

    #[test]
    fn the_header_of_x_ray_is_the_same_trace() {
        let read = |header| TraceParent::read_x_ray(header).map(|trace| trace.to_string());
        let header = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
        assert_eq!(read(header).as_deref(), Some(EXAMPLE));
        let header = "Self=1-67891234-12456789abcdef012345678; Sampled=?; Parent=00f067aa0ba902b7; Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
        assert_eq!(read(header), Some(EXAMPLE.replace("-01", "-00")));
        for wrong in [
            "",
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=1",
            "Root=2-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7",
            "Root=1-4bf92f3577-b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7",
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e473;Parent=00f067aa0ba902b7",
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7-",
            "Root=1-00000000-000000000000000000000000;Parent=00f067aa0ba902b7",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_valid_is_ignored() {
        for wrong in [
            "",
            "00",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-001",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e4}-0f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::read(wrong), None, "{wrong}");
        }
    }
}
