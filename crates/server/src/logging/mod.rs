//! The log of the server: lines on standard error, which never decide whether the service lives.
//!
//! Reading order: [`filter`], what is logged; [`buffer`], the way to standard error; [`limit`], how often a line is logged that somebody
//! outside can cause.
//!
//! What always holds here: nobody who logs waits for those who read the log; a log that can't be written costs lines and nothing else,
//! and how many is known; a fatal failure is written whatever is filtered, once; a panic is written before the process ends.

mod buffer;
mod filter;
mod limit;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::buffer::LogBuffer;
pub use self::filter::WrongFilter;
pub(crate) use self::limit::Cause;
use self::limit::LineLimit;

/// How long the end of the process waits for those who read the log.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A fatal failure has a target of its own, which no filter can silence.
const FATAL: &str = "fatal";

static BUFFER: LazyLock<LogBuffer> = LazyLock::new(LogBuffer::default);

static LIMIT: LazyLock<Mutex<LineLimit>> = LazyLock::new(Mutex::default);

/// Starts logging to standard error, filtered by the environment variable `ROOKEEPER_LOG`. To be called once in a process.
pub fn start() -> Result<(), WrongFilter> {
    let value = std::env::var_os(filter::VARIABLE).unwrap_or_default();
    let targets = filter::parse(&value.to_string_lossy())?.with_target(FATAL, LevelFilter::ERROR);
    // Without a thread there is no log, but the service may live.
    let _ = thread::Builder::new().name("log".into()).spawn(|| -> () { BUFFER.write_to(io::stderr(), stamp) });
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        // A line that can't be formatted is not worth a message on a stream that may be gone.
        .log_internal_errors(false)
        .with_writer(Lines);
    tracing_subscriber::registry().with(lines).with(targets).init();
    Ok(())
}

/// Logs why the process ends.
pub fn fatal(why: &dyn fmt::Display) {
    error!(target: FATAL, "{why}");
}

/// Lets what was logged reach those who read it, unless they take too long.
pub fn flush() {
    BUFFER.flush(LAST_WORDS);
}

/// Lines that nobody will read, because they came too fast or could not be written.
pub(crate) fn missing_lines() -> u64 {
    BUFFER.missing()
}

/// A panic in any thread ends the process: a server that still answers heartbeats while its worker is dead is the worst failure.
pub fn end_with_any_thread() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        // Not by way of `tracing`, where the panic may have been.
        BUFFER.push_in_panic(format!("{} ERROR {FATAL}: thread {name} {panic}{backtrace}\n", stamp()).as_bytes());
        flush();
        std::process::abort();
    }));
}

/// A line without the log, for those who are not there yet or have none: what can't be written is lost, and nothing else happens.
pub fn complain(text: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The time as `tracing-subscriber` writes it.
fn stamp() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Hands each line on as a whole.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BUFFER.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether to log another line of this cause, and what to put at its end. See [`limit`].
pub(crate) fn admit(cause: Cause, per_minute: u32) -> Option<Suppressed> {
    LIMIT.lock().admit(cause, per_minute, now_ms()).map(Suppressed)
}

/// Tells of lines that were not logged and that no other line has told of. To be called from time to time.
pub(crate) fn tell_suppressed() {
    let overdue = LIMIT.lock().overdue(now_ms());
    tell_of(overdue);
}

/// The same at the end, when no other line will.
pub(crate) fn tell_all_suppressed() {
    let untold = LIMIT.lock().untold();
    tell_of(untold);
}

fn tell_of(suppressed: Vec<(Cause, u64)>) {
    for (cause, count) in suppressed {
        match cause {
            Cause::Named(name) => tracing::warn!("{count} more lines about {name} were not logged"),
            Cause::Text(_) => tracing::warn!("{count} more lines like some above were not logged"),
        }
    }
}

fn now_ms() -> i64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as i64
}

/// How many lines of a cause were not logged before this one; nothing where there were none.
#[derive(Debug)]
pub(crate) struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(formatter, " ({count} more like this were not logged)"),
        }
    }
}

/// Lines per minute of a cause that somebody outside can bring about as often as he likes.
pub(crate) const PER_MINUTE: u32 = 5;

/// Logs at a level, by a cause that somebody outside can bring about: `limited!(warn, "strangers", "connection from {peer}")`.
macro_rules! limited {
    ($level:ident, $cause:literal, $($line:tt)+) => {
        limited!($level, $crate::logging::Cause::Named($cause), $crate::logging::PER_MINUTE; $($line)+)
    };
    ($level:ident, $cause:expr, $per_minute:expr; $($line:tt)+) => {
        if let Some(suppressed) = $crate::logging::admit($cause, $per_minute) {
            tracing::$level!("{}{suppressed}", format_args!($($line)+));
        }
    };
}
pub(crate) use limited;
