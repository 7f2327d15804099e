//! The format of log lines: the fields of an event, and those of the steps around it.
//!
//! A line of JSON has every field at its top: `timestamp`, `level`, `message`, the fields of the event, then those of its spans from the
//! innermost to the outermost. A name that is there already is not repeated.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes one event as a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogLineFormat {
    /// JSON, for programs. Fields of spans are formatted as JSON, too.
    Json,
    /// Text, for people at a terminal: without the fields of spans, which lines name where people need them.
    Text,
}

impl<S, N> FormatEvent<S, N> for LogLineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut now = String::new();
        SystemTime.format_time(&mut Writer::new(&mut now))?;
        match self {
            Self::Json => writeln!(writer, "{}", json(&now, context, event)?),
            Self::Text => {
                let level = *event.metadata().level();
                if writer.has_ansi_escapes() {
                    write!(
                        writer,
                        "\u{1b}[2m{now}\u{1b}[0m \u{1b}[{}m{level:>5}\u{1b}[0m ",
                        colour(level)
                    )?;
                } else {
                    write!(writer, "{now} {level:>5} ")?;
                }
                context.format_fields(writer.by_ref(), event)?;
                writeln!(writer)
            }
        }
    }
}

/// The colour of a level on a terminal.
const fn colour(level: Level) -> u8 {
    match level {
        Level::TRACE => 35,
        Level::DEBUG => 34,
        Level::INFO => 32,
        Level::WARN => 33,
        Level::ERROR => 31,
    }
}

/// An event as an object of JSON.
fn json<S, N>(
    now: &str,
    context: &FmtContext<'_, S, N>,
    event: &Event<'_>,
) -> Result<String, fmt::Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let mut map = serializer.serialize_map(None).map_err(|_| fmt::Error)?;
    let level = event.metadata().level().as_str();
    let mut fields = JsonFieldsOnce {
        entries: Vec::new(),
    };
    fields.add("timestamp", now.into());
    fields.add("level", level.into());
    event.record(&mut fields);
    for span in context.event_scope().into_iter().flatten() {
        let extensions = span.extensions();
        let Some(of_span) = extensions.get::<FormattedFields<N>>() else {
            continue;
        };
        let of_span: Map<String, Value> = serde_json::from_str(of_span).unwrap_or_default();
        for (name, value) in of_span {
            fields.add(&name, value);
        }
    }
    for (name, value) in &fields.entries {
        map.serialize_entry(name, value).map_err(|_| fmt::Error)?;
    }
    map.end().map_err(|_| fmt::Error)?;
    String::from_utf8(bytes).map_err(|_| fmt::Error)
}

/// Fields in their order, each name once.
struct JsonFieldsOnce {
    entries: Vec<(String, Value)>,
}

impl JsonFieldsOnce {
    fn add(&mut self, name: &str, value: Value) {
        if !self.entries.iter().any(|(known, _)| known == name) {
            self.entries.push((name.to_owned(), value));
        }
    }
}

impl Visit for JsonFieldsOnce {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct KeptLines(Arc<Mutex<Vec<u8>>>);

    impl Write for KeptLines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line_of(log: impl FnOnce()) -> String {
        let kept = KeptLines::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(LogLineFormat::Json)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(lines.finish(), log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_the_fields_of_all_steps_around_it_and_its_own_come_first() {
        let line = line_of(|| {
            let message = tracing::info_span!(
                "message",
                message.id = "m-1",
                trace_id = tracing::field::Empty
            );
            message.record("trace_id", "4bf9");
            let job = message.in_scope(|| tracing::info_span!("job", job.id = "outer", n = 1));
            let part = job.in_scope(|| tracing::info_span!("part", job.id = "inner"));
            part.in_scope(|| tracing::warn!(n = 7, ok = true, error = %"no", "it failed"));
        });
        let after = line.split_once("\"level\"").unwrap().1;
        assert_eq!(
            after,
            ":\"WARN\",\"message\":\"it failed\",\"n\":7,\"ok\":true,\"error\":\"no\",\"job.id\":\"inner\",\"message.id\":\"m-1\",\"trace_id\":\"4bf9\"}\n"
        );
    }

    #[test]
    fn a_line_without_steps_has_its_fields_alone() {
        let line = line_of(|| tracing::info!(links = 3_u64, rate = 0.5, "handed out"));
        assert!(
            line.ends_with(
                "\"level\":\"INFO\",\"message\":\"handed out\",\"links\":3,\"rate\":0.5}\n"
            ),
            "{line}"
        );
        assert!(line.starts_with("{\"timestamp\":\"2"), "{line}");
    }
}
