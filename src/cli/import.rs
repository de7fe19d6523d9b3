//! `procura tuple import`: a file of tuples, however long, in batches.
//!
//! INVARIANT: every failure names the byte from which to go on. What stands before it is imported, and of what stands
//! from there on nothing is, unless the connection was lost, which is said.

use super::exit::{Exit, Failure};
use super::input::{Source, Wrong, is_item};
use super::output::Output;
use super::reach::{Beside, Server};
use super::tuple::counted;
use crate::api::client::{ClientError, ImportAck};
use crate::engine::ImportMode;
use crate::model::RelationTuple;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest line: two ids of 1 KiB and a context of 32 KiB fit well.
const LINE_BYTES_MAX: usize = 128 << 10;
/// Text in one batch: as a message it is well below the server's limit.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often progress is told where there is no terminal to draw on.
const TELL_EVERY: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  procura tuple import tuples.txt
  procura tuple import tuples.txt --offset 1048576     go on where it stopped
  zcat tuples.txt.gz | procura tuple import -

One tuple per line; blank lines and lines that start with // are skipped. Every
batch is written in one step, or not at all. When one is refused, the message
names the line, and the offset from which to go on: mend the line, run it again.";

/// Import any number of tuples from a file, in batches
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The file, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse tuples that exist already, instead of writing them again
    #[arg(long)]
    create: bool,
    /// Begin at this byte of the file, which an earlier import named
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// Tuples written in one step
    #[arg(long, value_name = "COUNT", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    server: Server,
}

impl Import {
    /// Imports to the end, or to the first batch that is refused.
    pub fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let metadata = self.beside.metadata()?;
        let mode = if self.create { ImportMode::Create } else { ImportMode::Touch };
        let (input, source, bytes) = open(&self.file)?;
        let mut lines = Lines { input, source, line: 0, offset: 0 };
        lines.skip_to(self.offset)?;
        let client = self.server.connect()?;
        let count_max = usize::try_from(self.batch).unwrap_or(usize::MAX);

        let sent: RefCell<VecDeque<Sent>> = RefCell::default();
        let mut stopped: Option<Stop> = None;
        let mut total = Total::default();
        let mut progress = Progress::new(bytes, output.is_json());
        let outcome = client.import_tuples(
            mode,
            &metadata,
            &mut || {
                if stopped.is_some() {
                    return None;
                }
                let batch;
                (batch, stopped) = lines.batch(count_max);
                let Batch { tuples, sent: place } = batch?;
                sent.borrow_mut().push_back(place);
                Some(tuples)
            },
            &mut |ack| {
                if let Some(batch) = sent.borrow_mut().pop_front() {
                    total.add(ack, batch.lines.len() as u64);
                    progress.tell(batch.end, &total);
                }
            },
        );
        progress.finish();
        let refused = sent.into_inner().into_iter().next();
        let source = lines.source.to_string();
        if let Err(error) = outcome {
            return Err(refusal(error, refused.as_ref(), &source, lines.offset, &total));
        }
        match stopped {
            None => said(output, &total, lines.offset, progress.started.elapsed())?,
            Some(Stop::Wrong(wrong, offset)) => {
                let message = format!("line {} is not a tuple; {} imported before it", wrong.line, were(total.tuples));
                return Err(going_on(Failure::usage(message).with_pointed(vec![wrong.rendered()]), offset));
            }
            Some(Stop::Unreadable(what, offset)) => {
                let message = format!("{what}; {} imported before it", were(total.tuples));
                return Err(going_on(Failure::usage(message), offset));
            }
        }
        Ok(Exit::Success)
    }
}

fn were(count: u64) -> String {
    if count == 1 { "1 tuple was".to_owned() } else { format!("{count} tuples were") }
}

fn said(output: &mut Output, total: &Total, offset: u64, took: Duration) -> Result<(), Failure> {
    let seconds = took.as_secs_f64();
    if output.is_json() {
        output.value(&json!({
            "imported": total.tuples,
            "created": total.created,
            "replaced": total.replaced,
            "offset": offset,
            "seconds": (seconds * 1_000.0).round() / 1_000.0,
            "token": total.token,
        }))?;
        return Ok(());
    }
    let rate = if seconds > 0.0 { total.tuples as f64 / seconds } else { 0.0 };
    output.line(format_args!(
        "imported {} ({} new, {} written again) in {seconds:.1} s, {rate:.0} a second",
        counted(total.tuples),
        total.created,
        total.replaced
    ))?;
    if let Some(token) = &total.token {
        output.line(format_args!("token   {token}"))?;
    }
    Ok(())
}

/// What the server, or the road to it, said about the first batch that is not acknowledged.
fn refusal(error: ClientError, refused: Option<&Sent>, source: &str, end: u64, total: &Total) -> Failure {
    // With a batch it is the server's own word on it; a broken road may lie between a commit and that word.
    let is_road = ["UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED", "DEADLINE_EXCEEDED"].contains(&error.code);
    let is_unknown = (is_road && error.fact("batch").is_none()) || error.reason == "OUTCOME_UNKNOWN";
    let index = error.fact("field").and_then(tuple_index);
    let line = refused.and_then(|batch| match index {
        Some(index) => batch.lines.get(index),
        None => batch.lines.first(),
    });
    let mut failure = Failure::from(error);
    let offset = refused.map_or(end, |batch| batch.offset);
    if let (Failure::Said(complaint), Some(line)) = (&mut failure, line) {
        let from = if index.is_some() { "" } else { "from " };
        complaint.message = format!("{from}{source}:{line}: {}", complaint.message);
        complaint.facts.push(("line".to_owned(), line.to_string()));
    }
    if let (Failure::Said(complaint), true, true) = (&mut failure, is_unknown, refused.is_some()) {
        complaint.message.push_str("; what stands from there on may be written in part: go on without --create");
    }
    going_on(failure.with_fact("imported", total.tuples.to_string()), offset)
}

fn going_on(failure: Failure, offset: u64) -> Failure {
    let failure = failure.with_fact("offset", offset.to_string());
    let go_on = format!("when that is mended, go on with --offset {offset}");
    let known = match &failure {
        Failure::Said(complaint) => complaint.hint.clone(),
        Failure::ReaderGone => None,
    };
    failure.with_hint(match known {
        Some(hint) => format!("{hint}; {go_on}"),
        None => go_on,
    })
}

/// The index in `tuples[INDEX]…`.
fn tuple_index(field: &str) -> Option<usize> {
    field.strip_prefix("tuples[")?.split(']').next()?.parse().ok()
}

type Input = Box<dyn BufRead>;

/// The file, and its length when it has one.
fn open(path: &Path) -> Result<(Input, Source, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(io::stdin())), Source::Stdin, None));
    }
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    let metadata = file.metadata().map_err(|error| Failure::file(path, &error))?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), Source::File(path.to_owned()), bytes))
}

/// A batch that is on its way: where it stands in the file.
struct Sent {
    /// Of its first tuple's line.
    offset: u64,
    /// Right after its last.
    end: u64,
    /// Of each tuple.
    lines: Vec<usize>,
}

struct Batch {
    tuples: Vec<RelationTuple>,
    sent: Sent,
}

/// Why nothing more is read; with the byte where the trouble begins.
enum Stop {
    Wrong(Wrong, u64),
    Unreadable(String, u64),
}

/// The lines of the input, with where they stand.
struct Lines {
    input: Input,
    source: Source,
    /// Read so far.
    line: usize,
    /// Of the next line.
    offset: u64,
}

impl Lines {
    /// Reads on to the offset, which must be a line's start, and counts the lines.
    fn skip_to(&mut self, offset: u64) -> Result<(), Failure> {
        let mut last = b'\n';
        while self.offset < offset {
            let failed = |error: io::Error| Failure::usage(format!("`{}`: {error}", self.source));
            let bytes = self.input.fill_buf().map_err(failed)?;
            let here = usize::try_from(offset - self.offset).unwrap_or(usize::MAX).min(bytes.len());
            let skipped = bytes.get(..here).unwrap_or_default();
            let Some(end) = skipped.last() else {
                return Err(Failure::usage(format!("`{}` has only {} bytes", self.source, self.offset))
                    .with_hint("give the --offset that the earlier import of this file named"));
            };
            last = *end;
            self.line += skipped.iter().filter(|byte| **byte == b'\n').count();
            self.offset += here as u64;
            self.input.consume(here);
        }
        if last != b'\n' {
            let message = format!("byte {offset} of `{}` is inside line {}", self.source, self.line + 1);
            return Err(
                Failure::usage(message).with_hint("give the --offset that the earlier import of this file named")
            );
        }
        Ok(())
    }

    /// The next tuples, as many as fit a batch; and why there are no more, if there should be.
    fn batch(&mut self, count_max: usize) -> (Option<Batch>, Option<Stop>) {
        let (mut tuples, mut lines, mut from, mut bytes) = (Vec::new(), Vec::new(), self.offset, 0);
        let mut stop = None;
        while tuples.len() < count_max && bytes < BATCH_BYTES_MAX {
            match self.next() {
                Ok(None) => break,
                Ok(Some((tuple, length))) => {
                    if tuples.is_empty() {
                        // Where its line starts, past the comments before it.
                        from = self.offset - length as u64;
                    }
                    tuples.push(tuple);
                    lines.push(self.line);
                    bytes += length;
                }
                Err(why) => {
                    stop = Some(why);
                    break;
                }
            }
        }
        let end = match &stop {
            Some(Stop::Wrong(_, offset) | Stop::Unreadable(_, offset)) => *offset,
            None => self.offset,
        };
        let batch = (!tuples.is_empty()).then_some(Batch { tuples, sent: Sent { offset: from, end, lines } });
        (batch, stop)
    }

    /// The next tuple and the length of its line.
    fn next(&mut self) -> Result<Option<(RelationTuple, usize)>, Stop> {
        let mut bytes = Vec::new();
        // Bounded by the input.
        loop {
            let start = self.offset;
            let failed = |why: String| Stop::Unreadable(why, start);
            bytes.clear();
            let mut limited = self.input.by_ref().take(LINE_BYTES_MAX as u64 + 1);
            let read = limited.read_until(b'\n', &mut bytes);
            let length = read.map_err(|error| failed(format!("`{}`: {error}", self.source)))?;
            if length == 0 {
                return Ok(None);
            }
            if length > LINE_BYTES_MAX {
                let why = format!("line {} of `{}` is longer than {LINE_BYTES_MAX} bytes", self.line + 1, self.source);
                return Err(failed(why));
            }
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| failed(format!("line {} of `{}` is not UTF-8", self.line + 1, self.source)))?;
            let text = if start == 0 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
            self.line += 1;
            self.offset += length as u64;
            if !is_item(text) {
                continue;
            }
            let indent = text.len() - text.trim_start().len();
            return match text.trim().parse::<RelationTuple>() {
                Ok(tuple) => Ok(Some((tuple, length))),
                Err(error) => {
                    let wrong = Wrong {
                        source: self.source.to_string(),
                        line: self.line,
                        text: text.trim_end().to_owned(),
                        at: (indent + error.at).min(text.trim_end().len()),
                        message: error.message,
                        hint: Some(error.hint.to_owned()),
                    };
                    Err(Stop::Wrong(wrong, start))
                }
            };
        }
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Total {
    tuples: u64,
    created: u64,
    replaced: u64,
    token: Option<String>,
}

impl Total {
    fn add(&mut self, ImportAck { batch: _, token, created, replaced }: ImportAck, tuples: u64) {
        self.tuples += tuples;
        self.created += created;
        self.replaced += replaced;
        self.token = Some(token);
    }
}

/// How far it is: a bar on a terminal, a line now and then elsewhere, nothing for machines.
struct Progress {
    bar: Option<ProgressBar>,
    bytes: Option<u64>,
    is_silent: bool,
    started: Instant,
    told: Instant,
}

impl Progress {
    fn new(bytes: Option<u64>, is_silent: bool) -> Progress {
        let is_drawn = !is_silent && io::stderr().is_terminal();
        let bar = is_drawn.then(|| match bytes {
            Some(bytes) => styled(ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}  {eta} left"),
            None => styled(ProgressBar::new_spinner(), "{spinner} {msg}"),
        });
        Progress { bar, bytes, is_silent, started: Instant::now(), told: Instant::now() }
    }

    fn tell(&mut self, offset: u64, total: &Total) {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let said = format!("{}, {:.0} a second", counted(total.tuples), total.tuples as f64 / seconds);
        if let Some(bar) = &self.bar {
            bar.set_position(offset);
            bar.set_message(said);
        } else if !self.is_silent && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let of = self.bytes.map(|bytes| format!(" of {bytes}")).unwrap_or_default();
            anstream::eprintln!("imported {said}; byte {offset}{of}");
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines {
        Lines { input: Box::new(io::Cursor::new(text.to_owned())), source: Source::Stdin, line: 0, offset: 0 }
    }

    #[test]
    fn batches_know_where_they_stand() {
        let text =
            "\u{feff}// people\n\n  doc:1#viewer@user:rita\r\ndoc:2#viewer@user:dana\n// end\ndoc:3#viewer@user:tom";
        let mut read = lines(text);
        let (batch, stop) = read.batch(2);
        let Batch { tuples, sent } = batch.unwrap();
        assert!(stop.is_none());
        assert_eq!((tuples.len(), sent.lines), (2, vec![3, 4]));
        assert!(text[sent.offset as usize..].starts_with("  doc:1#"));
        assert!(text[sent.end as usize..].starts_with("// end"));
        // From any of these places the rest is the same, and so are its lines.
        let mut resumed = lines(text);
        resumed.skip_to(sent.end).unwrap();
        for rest in [&mut read, &mut resumed] {
            let (batch, stop) = rest.batch(9);
            let Batch { tuples, sent } = batch.unwrap();
            assert!(stop.is_none());
            assert_eq!((tuples.len(), sent.lines, sent.end), (1, vec![6], text.len() as u64));
            assert!(rest.batch(9).0.is_none());
        }
    }

    #[test]
    fn a_wrong_line_stops_before_itself() {
        let text = "doc:1#viewer@user:rita\ndoc:1#Viewer@user:rita\ndoc:2#viewer@user:rita\n";
        let (batch, stop) = lines(text).batch(9);
        assert_eq!(batch.unwrap().sent.end, 23);
        let Some(Stop::Wrong(wrong, offset)) = stop else { panic!("it went on") };
        assert_eq!((wrong.line, wrong.column(), offset), (2, 7, 23));
        let (batch, stop) = lines(&"x".repeat(LINE_BYTES_MAX + 1)).batch(9);
        assert!(batch.is_none() && matches!(stop, Some(Stop::Unreadable(_, 0))));
    }

    #[test]
    fn an_offset_is_a_lines_start_within_the_file() {
        let text = "doc:1#viewer@user:rita\ndoc:2#viewer@user:rita\n";
        for (offset, is_right) in [(0, true), (23, true), (46, true), (1, false), (22, false), (47, false)] {
            assert_eq!(lines(text).skip_to(offset).is_ok(), is_right, "{offset}");
        }
        assert_eq!(tuple_index("tuples[17].subject.object.id"), Some(17));
        assert_eq!(tuple_index("start"), None);
    }
}
