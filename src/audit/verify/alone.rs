//! Verifies the folder of a log in an archive, without the log's directory.
//!
//! The copy of the registry there says how many segments of each stream the archive was seen to have: none of them may be missing. It is
//! put after the segments, so that the archive may have more than it says, which are proved by the chain and its signed checkpoints. What was
//! not sealed, or not shipped yet, was on the machine alone.

use std::io;

use super::{LOST, SegmentCheck, VerifyReport};
use crate::audit::course::{Course, CourseVerdict};
use crate::audit::directory::segment_name;
use crate::audit::registry::{Registry, RegistryEntry, RemovedRecord};
use crate::text::{agreeing, counted};

impl<'a> SegmentCheck<'a> {
    /// Reads a stream in the folder of an archive.
    pub(super) fn read_archive(
        &mut self,
        registry: &'a Registry,
        report: &mut VerifyReport,
    ) -> io::Result<CourseVerdict> {
        let removed = registry.removed.get(self.stream);
        let shipped = registry.shipped.as_ref();
        let shipped = shipped.and_then(|shipped| shipped.get(self.stream).copied());
        // Without an archive at that time, the first segments are gone, and the registry alone proves where the stream goes on.
        let gone = match removed {
            Some(removed) if !removed.is_archived => {
                let Some(end) = &removed.end else {
                    return Ok(Ok(()));
                };
                let (key, log) = (self.see.key, Some(&*registry.log));
                let (directory, number) = (self.see.directory, removed.segments);
                let course = Course::resume(directory, key, log, number, end.clone());
                self.course = course.beside(self.archive.cloned());
                self.unread = removed.lines;
                removed.segments
            }
            Some(_) | None => 0,
        };
        let archived = removed.filter(|removed| removed.is_archived);
        if let Some(removed) = archived {
            let read = self.read_removed_here(registry, removed)?;
            if read.is_err() {
                return Ok(read);
            }
        }
        let until = archived.map_or(gone, |removed| removed.segments);
        let rest = self.here(|number| number > until);
        let read = self.read(&rest, false)?;
        if read.is_err() {
            return Ok(read);
        }
        let verdict = self.judge_present(shipped.unwrap_or(until));
        Ok(match verdict {
            Ok(()) => self.judge_last(registry, gone, report),
            missing => missing,
        })
    }

    /// Reads the segments that the archive was seen to have when they were removed from the log.
    fn read_removed_here(
        &mut self,
        registry: &Registry,
        removed: &RemovedRecord,
    ) -> io::Result<CourseVerdict> {
        let there = self.here(|number| number <= removed.segments);
        let read = self.read(&there, false)?;
        let read = read.and_then(|()| self.judge_present(removed.segments));
        Ok(read.and_then(|()| self.judge_removed(registry, removed)))
    }

    /// Checks that segments were read up to this number.
    fn judge_present(&mut self, until: u32) -> CourseVerdict {
        let last = self.course.number();
        if last >= until {
            return Ok(());
        }
        let missing = segment_name(self.stream, last + 1);
        let reason = format!(
            "the segment is missing: the archive had the segments of this stream up to {}, as the registry records",
            segment_name(self.stream, until)
        );
        self.at = (missing, 1);
        Err(reason)
    }

    /// Judges the end of what the archive has of the stream, whose first `gone` segments it never had.
    fn judge_last(
        &self,
        registry: &Registry,
        gone: u32,
        report: &mut VerifyReport,
    ) -> CourseVerdict {
        let (course, entry) = (&self.course, registry.streams.get(self.stream));
        let lines = course.head.len();
        let is_any = course.number() > gone;
        if is_any && !(course.over || course.has_rotated()) {
            return Err("the segment was cut: it does not end like a sealed one".to_owned());
        }
        let mut note = |text: &str| report.notes.push(format!("{}: {text}", self.stream));
        match entry {
            Some(RegistryEntry::Lost) => return Err(LOST.to_owned()),
            Some(RegistryEntry::Stopped { lines: most, .. }) if lines > *most => {
                return Err(format!(
                    "the stream was stopped after {} because of a change by another process, but {lines} are here",
                    counted(*most, "line")
                ));
            }
            Some(RegistryEntry::Closed { lines: all, root }) if course.over || lines >= *all => {
                if *all != lines || *root != course.head.root() || !course.over {
                    return Err(format!(
                        "the stream was closed with {}, but {lines} {} here",
                        counted(*all, "line"),
                        agreeing(lines, "is", "are")
                    ));
                }
            }
            Some(_) if !is_any => note("none of its segments was in the archive yet"),
            Some(RegistryEntry::Closed { lines: all, .. }) => note(&format!(
                "{lines} of its {all} lines were in the archive; the others were on the machine alone"
            )),
            Some(_) if !course.over => note(&format!(
                "it was being written; the lines after the first {lines} were on the machine alone"
            )),
            Some(_) => {}
            None => {
                note("it is newer than the copy of the registry, and its lines follow the chain");
            }
        }
        Ok(())
    }
}
