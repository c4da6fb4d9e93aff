//! `rookeeper log`: prints a log, writes it anew with right checksums, or up to a transaction.
//!
//! What always holds: the log itself is never changed; a new file has its name only when everything that can be told from the log is in it,
//! so nothing is left out unseen; two files are never mixed.
//!
//! Counterpart in the original: `TxnLogToolkit`, `LogChopper`.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use rookeeper_proto::{TxnRecord, Zxid};
use rookeeper_store::log_copy::{self, LogCopy};
use rookeeper_store::log_reader::{Framed, LogReader, RecordFault};
use rookeeper_store::{MAX_RECORD_BYTES, RealDisk, StoreError};

use super::arguments::{Given, Known, parse};
use super::{FAILED, MISUSED, txn_text};
use crate::print;

const KNOWN: [Known; 8] = [
    Known { short: 'c', long: "chop", has_value: false },
    Known { short: 'd', long: "dump", has_value: false },
    Known { short: 'h', long: "help", has_value: false },
    Known { short: 'n', long: "dry-run", has_value: false },
    Known { short: 'r', long: "recover", has_value: false },
    Known { short: 'v', long: "verbose", has_value: false },
    Known { short: 'y', long: "yes", has_value: false },
    Known { short: 'z', long: "zxid", has_value: true },
];

const USAGE: &str = "usage: TxnLogToolkit [-dhrvc] <txn_log_file_name> (-z <zxid>)
 -c,--chop         Chop mode. Chop txn file to a zxid.
 -d,--dump         Dump mode. Dump all entries of the log file with printing the content of a nodepath (default)
 -h,--help         Print help message
 -n,--dry-run      Used with recover. Say what would be repaired, and write nothing.
 -r,--recover      Recovery mode. Re-calculate CRC for broken entries.
 -v,--verbose      Be verbose in recovery mode: print all entries, not just fixed ones.
 -y,--yes          Non-interactive mode: repair all CRC errors without asking
 -z,--zxid <arg>   Used with chop. Zxid to which to chop.";

/// Why the tool ends, with its exit code and what is said on standard error.
struct End {
    code: u8,
    message: String,
}

impl End {
    fn failed(message: impl fmt::Display) -> End {
        End { code: FAILED, message: message.to_string() }
    }
}

type Result<T> = std::result::Result<T, End>;

/// Runs the tool. Exit code 0: done, or the help that was asked for; 1: it failed, or the log is damaged in a way that matters; 2: no log.
pub fn main(arguments: &[String]) -> u8 {
    let given = match parse(&KNOWN, arguments) {
        Ok(given) => given,
        Err(mistake) => {
            print::complaint(&format_args!("{mistake}\n"));
            let _ = print::result(&USAGE);
            return FAILED;
        }
    };
    if given.has('h') || given.rest.is_empty() {
        let printed = print::result(&USAGE);
        return if given.has('h') && printed { 0 } else { FAILED };
    }
    match run(&given) {
        Ok(()) => 0,
        Err(End { code, message }) => {
            print::complaint(&message);
            code
        }
    }
}

fn run(given: &Given) -> Result<()> {
    let path = PathBuf::from(&given.rest[0]);
    let reader = open(&path)?;
    match given.value('z').filter(|_| given.has('c')) {
        Some(zxid) => chop(reader, &path, number(zxid)?),
        None => {
            let recovery = Recovery {
                asks: !given.has('y') && !given.has('n'),
                is_dry: given.has('n'),
                prints_all: given.has('v'),
            };
            dump(reader, &path, given.has('r').then_some(recovery))
        }
    }
}

fn open(path: &Path) -> Result<LogReader> {
    let missing = || End::failed(format_args!("File doesn't exist or not readable: {}", path.display()));
    if !path.exists() || std::fs::File::open(path).is_err() {
        return Err(missing());
    }
    LogReader::open(&RealDisk, path, MAX_RECORD_BYTES).map_err(|error| match error {
        StoreError::Damaged { .. } => no_log(path),
        error => End::failed(error),
    })
}

fn no_log(path: &Path) -> End {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    End { code: MISUSED, message: format!("Invalid magic number for {name}") }
}

/// A zxid in Java's forms: `0x1f`, `#1f`, `017`, `31`.
fn number(text: &str) -> Result<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = ["0x", "0X", "#"].iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (digits, base) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (digits, 10),
    };
    let value = Some(digits).filter(|digits| !digits.starts_with(['+', '-']));
    let value = value.and_then(|digits| i64::from_str_radix(digits, base).ok());
    value
        .map(|value| if negative { -value } else { value })
        .filter(|value| *value >= 0)
        .ok_or_else(|| End::failed(format_args!("{text} is no zxid: give one as 0x1f or 31")))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn say(text: &str) -> Result<()> {
    // The complaint is made already.
    if print::result(&text) { Ok(()) } else { Err(End { code: FAILED, message: String::new() }) }
}

fn say_header(reader: &LogReader) -> Result<()> {
    let header = reader.header().ok_or_else(|| no_log(reader.path()))?;
    say(&format!("ZooKeeper Transactional Log File with dbid {} txnlog format version {}", header.dbid, header.version))
}

/// How checksums are repaired.
struct Recovery {
    asks: bool,
    is_dry: bool,
    prints_all: bool,
}

/// Prints every record; with a recovery, those with wrong checksums, and writes the log anew.
fn dump(mut reader: LogReader, path: &Path, recovery: Option<Recovery>) -> Result<()> {
    let fixed_path = beside(path, ".fixed");
    if recovery.is_some() && fixed_path.exists() {
        let shown = fixed_path.display();
        return Err(End::failed(format_args!("Recovery file {shown} already exists or not writable")));
    }
    let zone = TimeZone::system();
    say_header(&reader)?;
    let header = reader.header().ok_or_else(|| no_log(path))?;
    let mut copy = match &recovery {
        Some(Recovery { is_dry: false, .. }) => {
            Some(LogCopy::create(&RealDisk, &fixed_path, header).map_err(End::failed)?)
        }
        _ => None,
    };
    let (mut count, mut fixed, mut last, mut senseless) = (0_u64, 0_u64, Zxid::ZERO, false);
    let mut answers = io::stdin().lock();
    let (end, fault) = loop {
        let (offset, mut checksum, is_sound, body, end_mark) = match reader.next_framed().map_err(End::failed)? {
            Framed::End { offset } => break (offset, None),
            Framed::Bad { offset, fault: RecordFault::Length(length) } => {
                let message = format!("Unreasonable length = {length} at offset {offset} of {}", path.display());
                return Err(End::failed(message));
            }
            Framed::Bad { offset, fault } => break (offset, Some(fault)),
            Framed::Record { offset, checksum, is_sound, body, end_mark } => {
                (offset, checksum, is_sound, body, end_mark)
            }
        };
        let line = txn_text::line(body, &zone);
        if let (Err(problem), Some(_)) = (&line, &recovery) {
            let message =
                format!("{problem}, at offset {offset}; a right checksum would not make it one, nothing is written");
            return Err(End::failed(message));
        }
        senseless |= line.is_err();
        let line = line.unwrap_or_else(|problem| format!("{problem}, at offset {offset}"));
        match &recovery {
            None if !is_sound => say(&format!("CRC ERROR - {line}"))?,
            Some(recovery) if !is_sound => {
                let prefix = if recovery.asks || recovery.is_dry { "CRC ERROR" } else { "CRC FIXED" };
                say(&format!("{prefix} - {line}"))?;
                if !recovery.asks || asked(&mut answers)? {
                    checksum = log_copy::checksum(body);
                    fixed += 1;
                }
            }
            _ => {}
        }
        if recovery.as_ref().is_none_or(|recovery| recovery.prints_all) {
            say(&line)?;
        }
        if end_mark != Some(b'B') {
            let nothing = if recovery.is_some() { ": nothing is written, see rookeeper check --cut-log" } else { "" };
            return Err(End::failed(format_args!("Last transaction was partial.{nothing}")));
        }
        if let Ok(header) = TxnRecord::decode_header(body) {
            last = last.max(header.zxid);
        }
        if let Some(copy) = &mut copy {
            copy.append(checksum, body).map_err(End::failed)?;
        }
        count += 1;
    };
    say(&format!("EOF reached after {count} txns."))?;
    let tail = reader.tail(end, last).map_err(End::failed)?;
    if let Some(at) = tail.record_at {
        let nothing = if recovery.is_some() { ", so nothing is written" } else { "" };
        let message =
            format!("{}: a whole record stands at offset {at}, behind that end at {end}{nothing}", path.display());
        return Err(End::failed(message));
    }
    if let Some(fault) = fault {
        let left = reader.length() - end;
        print::complaint(&format_args!("{}: {fault} at offset {end}, {left} bytes are no record", path.display()));
    }
    if senseless {
        return Err(End::failed(format_args!("{}: not every record could be read", path.display())));
    }
    match (copy, recovery) {
        (Some(copy), _) => {
            copy.publish().map_err(End::failed)?;
            let shown = fixed_path.display();
            say(&format!("Recovery file {shown} has been written with {fixed} fixed CRC error(s)"))
        }
        (None, Some(_)) => {
            let shown = fixed_path.display();
            say(&format!("Recovery file {shown} would be written with {fixed} fixed CRC error(s)"))
        }
        (None, None) => Ok(()),
    }
}

fn asked(answers: &mut dyn BufRead) -> Result<bool> {
    loop {
        let mut output = io::stdout().lock();
        let _ = output.write_all(b"Would you like to fix it (Yes/No/Abort) ? ").and_then(|()| output.flush());
        let mut answer = String::new();
        let read = answers.read_line(&mut answer).map_err(End::failed)?;
        match answer.trim_start().chars().next().map(|letter| letter.to_ascii_uppercase()) {
            Some('Y') => return Ok(true),
            Some('N') => return Ok(false),
            Some('A') => return Err(End { code: 0, message: "Recovery aborted.".to_owned() }),
            _ if read == 0 => {
                return Err(End::failed("There is nobody to answer: nothing is written (-y repairs without asking)"));
            }
            _ => {}
        }
    }
}

/// Writes the log anew up to a transaction.
fn chop(mut reader: LogReader, path: &Path, zxid: i64) -> Result<()> {
    let target = beside(path, &format!(".chopped{zxid}"));
    match chopped(&mut reader, path, &target, zxid) {
        Ok(true) => Ok(()),
        // The original ends with 0 and leaves a part of the log under the name of the whole.
        Ok(false) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            say(&format!("Got exception: Failed to chop {name}"))?;
            Err(End { code: MISUSED, message: format!("{} is not written", target.display()) })
        }
        Err(End { code, message }) => {
            say(&format!("Got exception: {message}"))?;
            Err(End { code, message: format!("{} is not written", target.display()) })
        }
    }
}

/// Whether the log has the transaction and one behind it, and is chopped.
fn chopped(reader: &mut LogReader, path: &Path, target: &Path, zxid: i64) -> Result<bool> {
    say_header(reader)?;
    let header = reader.header().ok_or_else(|| no_log(path))?;
    let mut copy = LogCopy::create(&RealDisk, target, header).map_err(End::failed)?;
    let (mut count, mut has_zxid, mut previous) = (0_u64, false, None);
    loop {
        let (checksum, body) = match reader.next_framed().map_err(End::failed)? {
            Framed::Bad { fault: RecordFault::Length(length), .. } => {
                return Err(End::failed(format_args!("Unreasonable length = {length}")));
            }
            Framed::End { .. } | Framed::Bad { .. } => {
                say(&format!("EOF reached after {count} txns."))?;
                return Ok(false);
            }
            Framed::Record { is_sound: false, checksum, body, .. } => {
                let right = log_copy::checksum(body);
                return Err(End::failed(format_args!("CRC doesn't match {checksum} vs {right}")));
            }
            Framed::Record { end_mark, .. } if end_mark != Some(b'B') => {
                say("Last transaction was partial.")?;
                return Err(End::failed("Last transaction was partial."));
            }
            Framed::Record { checksum, body, .. } => (checksum, body),
        };
        let found = TxnRecord::decode_header(body).map_err(End::failed)?.zxid;
        has_zxid |= found.0 == zxid;
        if let Some(gap) = previous.and_then(|previous| gap(previous, found)) {
            say(&gap)?;
        }
        previous = Some(found);
        if found.0 > zxid {
            if count == 0 || !has_zxid {
                say(&format!("This log does not contain zxid {zxid:x}"))?;
                return Ok(false);
            }
            say(&format!("Chopping at {zxid:x} new log has {count} records"))?;
            copy.publish().map_err(End::failed)?;
            return Ok(true);
        }
        copy.append(checksum, body).map_err(End::failed)?;
        count += 1;
    }
}

/// What is said where a transaction does not follow the one before it.
fn gap(previous: Zxid, found: Zxid) -> Option<String> {
    let between = format!("gap between {:x} and {:x}", previous.0, found.0);
    if found.0 == previous.0 + 1 {
        None
    } else if found.epoch() == previous.epoch() {
        Some(format!("There is intra-epoch {between}"))
    } else {
        (found.0 as u32 != 1).then(|| format!("There is inter-epoch {between}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxids_in_all_forms() {
        for (text, expected) in
            [("0x1f", Some(31)), ("#1f", Some(31)), ("037", Some(31)), ("31", Some(31)), ("0", Some(0))]
        {
            assert_eq!(number(text).ok(), expected, "{text}");
        }
        for text in ["", "x", "0x", "-1", "09", "0x-1"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn gaps_within_and_between_epochs() {
        assert_eq!(gap(Zxid::new(1, 4), Zxid::new(1, 5)), None);
        assert_eq!(gap(Zxid::new(1, 4), Zxid::new(2, 1)), None);
        let within = "There is intra-epoch gap between 100000004 and 100000006";
        assert_eq!(gap(Zxid::new(1, 4), Zxid::new(1, 6)).as_deref(), Some(within));
        let between = "There is inter-epoch gap between 100000004 and 200000002";
        assert_eq!(gap(Zxid::new(1, 4), Zxid::new(2, 2)).as_deref(), Some(between));
    }
}
