//! Reading one file of the transaction log, record by record, without trusting it.
//!
//! What always holds: memory stays within a window and the record limit, whatever the file says; a record is handed out only with the
//! right checksum and end mark; where reading stops, the reader says why. Whether a log may stop there is decided in `recovery`, with
//! what [`LogReader::tail`] finds behind that place.
//!
//! Counterpart in the original: `FileTxnLog.FileTxnIterator`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rookeeper_proto::jute;
use rookeeper_proto::snapshot::FileHeader;
use rookeeper_proto::{TxnRecord, Zxid};

use crate::disk::{Disk, DiskFile};
use crate::error::{Result, StoreError};
use crate::log_mark::{self, TAIL_MARK};
use crate::log_writer::{END_MARK, RECORD_HEAD, RECORD_OVERHEAD};

/// Session, cxid, zxid, time, type: no body is shorter.
pub(crate) const TXN_HEADER: usize = 32;
/// Session and cxid come before it.
const ZXID_OFFSET: usize = 12;

/// How much is read from the disk at once.
const WINDOW: usize = 256 << 10;
/// What the search for later records may spend on reading and checksums before it gives up.
const SEARCH_BUDGET: u64 = 1 << 30;
/// How many epochs ahead a found record may be to count as one of this log.
const PLAUSIBLE_EPOCHS: u32 = 1 << 20;

/// Why the bytes at some offset are not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFault {
    /// The file ends within the record.
    EndsEarly,
    /// Negative, above the limit, or too small for a transaction.
    Length(i32),
    /// Length zero although it isn't padding.
    NoLength,
    EndMark(u8),
    Checksum,
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordFault::EndsEarly => f.write_str("the file ends within a record"),
            RecordFault::Length(length) => write!(f, "unreasonable record length {length}"),
            RecordFault::NoLength => f.write_str("a record without length"),
            RecordFault::EndMark(byte) => write!(f, "a record ends with 0x{byte:02x} in place of its end mark"),
            RecordFault::Checksum => f.write_str("a record has the wrong checksum (CRC)"),
        }
    }
}

/// What stands at the reader's position.
#[derive(Debug)]
pub enum Next<'a> {
    Record {
        offset: u64,
        zxid: Zxid,
        body: &'a [u8],
    },
    /// Zeros, or the exact end of the file.
    End {
        offset: u64,
    },
    Bad {
        offset: u64,
        fault: RecordFault,
    },
}

/// What stands at the reader's position, for somebody who looks at damaged files: a record by its frame alone.
#[derive(Debug)]
pub enum Framed<'a> {
    Record {
        offset: u64,
        /// As it stands in the file.
        checksum: u64,
        /// Whether that is the one of the body.
        is_sound: bool,
        body: &'a [u8],
        /// `None` where the file ends before it.
        end_mark: Option<u8>,
    },
    /// Zeros, or the exact end of the file.
    End { offset: u64 },
    /// No frame can be made out.
    Bad { offset: u64, fault: RecordFault },
}

/// What lies behind the place where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The offset of the first valid record behind it.
    pub record_at: Option<u64>,
    /// Behind the last byte that is neither zero nor of the mark behind the records.
    pub data_end: u64,
    /// Everything before this offset was durable when the last batch was written; known of our own logs.
    pub durable: Option<u64>,
}

impl Tail {
    /// Whether what stands at `offset` may be what a power cut has left of the last batch.
    pub fn may_be_torn_at(&self, offset: u64) -> bool {
        self.durable.is_some_and(|durable| offset >= durable)
    }
}

/// An open log file.
#[derive(Debug)]
pub struct LogReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    length: u64,
    /// See [`log_mark::in_header`].
    durable: Option<u64>,
    header: Option<FileHeader>,
    position: u64,
    limit: usize,
    window: Vec<u8>,
    window_start: u64,
}

impl LogReader {
    /// Opens a log whose records are at most `limit` bytes long. A header that is short or zero is no error, see
    /// [`LogReader::has_header`]; a wrong one is.
    pub fn open(disk: &dyn Disk, path: &Path, limit: usize) -> Result<LogReader> {
        let file = disk.open_read(path).map_err(|error| StoreError::disk("open", path, error))?;
        let length = file.length().map_err(|error| StoreError::disk("read", path, error))?;
        let mut reader = LogReader {
            file,
            path: path.to_owned(),
            length,
            durable: None,
            header: None,
            position: FileHeader::LENGTH as u64,
            limit,
            window: Vec::new(),
            window_start: 0,
        };
        let header = reader.bytes(0, FileHeader::LENGTH)?;
        if header.len() < FileHeader::LENGTH || header.iter().all(|byte| *byte == 0) {
            reader.position = 0;
            return Ok(reader);
        }
        let header: FileHeader = jute::from_slice(header).expect("sixteen bytes are a header");
        if header.magic != FileHeader::LOG.magic {
            let problem = "it doesn't begin with ZKLG, so it is not a transaction log (or its header is damaged)";
            return Err(StoreError::damaged(path, 0, problem));
        }
        if header.version > crate::FORMAT_VERSION {
            return Err(StoreError::Newer { path: path.to_owned(), version: header.version });
        }
        reader.header = Some(header);
        reader.durable = log_mark::in_header(&header);
        Ok(reader)
    }

    /// False for a file that was created and never got its first record.
    pub fn has_header(&self) -> bool {
        self.header.is_some()
    }

    /// As it stands in the file, with the mark of [`LogReader::durable`] in its database id.
    pub fn header(&self) -> Option<FileHeader> {
        self.header
    }

    /// What the header says of how far the file is durable; known of our own logs. [`Tail::durable`] may say more.
    pub fn durable(&self) -> Option<u64> {
        self.durable
    }

    /// Of the file when it was opened, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file alone.
    pub fn into_file(self) -> Box<dyn DiskFile> {
        self.file
    }

    /// Goes to a record that was found there before.
    pub fn go_to(&mut self, offset: u64) {
        if self.header.is_some() {
            self.position = offset;
        }
    }

    /// Reads what stands next. After anything but a record it says the same again.
    pub fn next_record(&mut self) -> Result<Next<'_>> {
        let offset = self.position;
        if self.header.is_none() {
            return Ok(Next::End { offset });
        }
        match self.check(offset)? {
            Checked::End => Ok(Next::End { offset }),
            Checked::Bad(fault) => Ok(Next::Bad { offset, fault }),
            Checked::Record { length, zxid } => {
                self.position = offset + (length + RECORD_OVERHEAD) as u64;
                let body = &self.bytes(offset + RECORD_HEAD as u64, length)?[..length];
                Ok(Next::Record { offset, zxid, body })
            }
        }
    }

    /// Reads what stands next and goes on behind it, whatever its checksum and its end mark are. The body may be as long as the limit: only a
    /// length is believed that the file has room for. After anything but a record it says the same again.
    pub fn next_framed(&mut self) -> Result<Framed<'_>> {
        let offset = self.position;
        if self.header.is_none() {
            return Ok(Framed::End { offset });
        }
        let (checksum, length) = match self.frame(offset)? {
            Frame::End => return Ok(Framed::End { offset }),
            Frame::Bad(fault) => return Ok(Framed::Bad { offset, fault }),
            Frame::Record { checksum, length } => (checksum, length),
        };
        let body_start = offset + RECORD_HEAD as u64;
        let record = self.bytes(body_start, length + 1)?;
        if record.len() < length {
            return Ok(Framed::Bad { offset, fault: RecordFault::EndsEarly });
        }
        self.position = offset + (length + RECORD_OVERHEAD) as u64;
        // Borrowed again, because the position had to be moved in between; the bytes are held already.
        let record = self.bytes(body_start, length + 1)?;
        let (body, end_mark) = (&record[..length], record.get(length).copied());
        let is_sound = u64::from(simd_adler32::adler32(&body)) == checksum;
        Ok(Framed::Record { offset, checksum, is_sound, body, end_mark })
    }

    /// The body of a record once more that [`LogReader::next_record`] has just found at `offset`.
    pub(crate) fn body_at(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        self.bytes(offset + RECORD_HEAD as u64, length)
    }

    /// What the head of a record says, as far as the file has room for it; the end mark need not be there.
    fn frame(&mut self, offset: u64) -> Result<Frame> {
        let (left, limit) = (self.length.saturating_sub(offset), self.limit);
        let head = self.bytes(offset, RECORD_HEAD)?;
        if head.len() < RECORD_HEAD {
            let end = head.iter().all(|byte| *byte == 0);
            return Ok(if end { Frame::End } else { Frame::Bad(RecordFault::EndsEarly) });
        }
        let (checksum, length) = split_head(head);
        if length == 0 {
            return Ok(if checksum == 0 { Frame::End } else { Frame::Bad(RecordFault::NoLength) });
        }
        Ok(match usize::try_from(length) {
            Ok(length) if (TXN_HEADER..=limit).contains(&length) => {
                let has_room = left >= (RECORD_HEAD + length) as u64;
                if has_room { Frame::Record { checksum, length } } else { Frame::Bad(RecordFault::EndsEarly) }
            }
            _ => Frame::Bad(RecordFault::Length(length)),
        })
    }

    fn check(&mut self, offset: u64) -> Result<Checked> {
        let left = self.length.saturating_sub(offset);
        let (checksum, body_length) = match self.frame(offset)? {
            Frame::End => return Ok(Checked::End),
            Frame::Bad(fault) => return Ok(Checked::Bad(fault)),
            Frame::Record { checksum, length } => (checksum, length),
        };
        if left < (body_length + RECORD_OVERHEAD) as u64 {
            return Ok(Checked::Bad(RecordFault::EndsEarly));
        }
        // A length that lies must not make us read, let alone hold, what it promises: the end mark is looked at first, the checksum
        // taken piece by piece. Only a record that is right is held as a whole.
        let body_start = offset + RECORD_HEAD as u64;
        match self.bytes(body_start + body_length as u64, 1)?.first() {
            Some(end) if *end == END_MARK => {}
            Some(end) => return Ok(Checked::Bad(RecordFault::EndMark(*end))),
            // Somebody shortens the file while we read it.
            None => return Ok(Checked::Bad(RecordFault::EndsEarly)),
        }
        if body_length > WINDOW && !self.has_checksum(body_start, body_length, checksum)? {
            return Ok(Checked::Bad(RecordFault::Checksum));
        }
        let Some(body) = self.bytes(body_start, body_length)?.get(..body_length) else {
            return Ok(Checked::Bad(RecordFault::EndsEarly));
        };
        if u64::from(simd_adler32::adler32(&body)) != checksum {
            return Ok(Checked::Bad(RecordFault::Checksum));
        }
        Ok(Checked::Record { length: body_length, zxid: zxid_of(body) })
    }

    fn has_checksum(&mut self, start: u64, length: usize, checksum: u64) -> Result<bool> {
        let mut adler = simd_adler32::Adler32::new();
        let (mut position, end) = (start, start + length as u64);
        while position < end {
            let piece = self.bytes(position, WINDOW.min((end - position) as usize))?;
            if piece.is_empty() {
                return Ok(false);
            }
            adler.write(piece);
            position += piece.len() as u64;
        }
        Ok(u64::from(adler.finish()) == checksum)
    }

    /// Looks for a valid record from `from` on, at whatever offset, that is later than `after`.
    pub fn tail(&mut self, from: u64, after: Zxid) -> Result<Tail> {
        const STEP: usize = 4096;
        const SEEN: usize = RECORD_HEAD + ZXID_OFFSET + 8;
        let mut tail = Tail { record_at: None, data_end: from, durable: self.durable };
        let mut budget = SEARCH_BUDGET;
        let mut offset = from;
        let mut seen = Vec::with_capacity(STEP + SEEN);
        while offset < self.length {
            let next = self.file.next_data(offset).map_err(|error| StoreError::disk("read", &self.path, error))?;
            let Some(next) = next else { break };
            offset = offset.max(next);
            seen.clear();
            seen.extend_from_slice(self.bytes(offset, STEP + SEEN)?);
            if seen.is_empty() {
                break;
            }
            let step = seen.len().min(STEP);
            if let Some(last) = seen[..step].iter().rposition(|byte| *byte != 0) {
                tail.data_end = offset + last as u64 + 1;
            }
            for start in 0..step {
                let Some(candidate) = seen.get(start..start + SEEN) else { break };
                if tail.record_at.is_some() || !self.is_plausible(candidate, after) {
                    continue;
                }
                let at = offset + start as u64;
                let (_, length) = split_head(candidate);
                budget = budget.saturating_sub(WINDOW as u64 + length as u64);
                // Who makes the search this expensive doesn't get the benefit of the doubt.
                if budget == 0 || matches!(self.check(at)?, Checked::Record { .. }) {
                    tail.record_at = Some(at);
                }
            }
            offset += step as u64;
        }
        self.look_for_mark(from, &mut tail)?;
        Ok(tail)
    }

    /// The mark behind the records is where the data ends. Where the records end right before it, there is nothing else behind them.
    fn look_for_mark(&mut self, from: u64, tail: &mut Tail) -> Result<()> {
        let Some(start) = tail.data_end.checked_sub(TAIL_MARK as u64).filter(|start| *start >= from) else {
            return Ok(());
        };
        let Some(bytes) = self.bytes(start, TAIL_MARK)?.first_chunk() else { return Ok(()) };
        let Some(durable) = log_mark::behind(bytes, start).filter(|_| self.durable.is_some()) else { return Ok(()) };
        tail.durable = tail.durable.max(Some(durable));
        if start == from {
            tail.data_end = from;
        }
        Ok(())
    }

    fn is_plausible(&self, candidate: &[u8], after: Zxid) -> bool {
        let (checksum, length) = split_head(candidate);
        let zxid = zxid_of(&candidate[RECORD_HEAD..]);
        checksum != 0
            && checksum <= u64::from(u32::MAX)
            && usize::try_from(length).is_ok_and(|length| (TXN_HEADER..=self.limit).contains(&length))
            && zxid > after
            && zxid.epoch().0.wrapping_sub(after.epoch().0) < PLAUSIBLE_EPOCHS
    }

    /// The bytes from `offset` on, `count` of them or fewer where the file ends.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8]> {
        let available = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = count.min(available);
        let held = offset >= self.window_start && offset + count as u64 <= self.window_start + self.window.len() as u64;
        if !held {
            self.fill(offset, count.max(WINDOW).min(available))
                .map_err(|error| StoreError::disk("read", &self.path, error))?;
        }
        let start = (offset - self.window_start) as usize;
        let end = (start + count).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }

    fn fill(&mut self, offset: u64, count: usize) -> io::Result<()> {
        self.window.resize(count, 0);
        self.window.shrink_to(WINDOW);
        self.window_start = offset;
        let read = self.file.read_at(&mut self.window, offset)?;
        self.window.truncate(read);
        Ok(())
    }
}

/// Whether a record repeats the zxid of the one before it and may be skipped for that: only a failed request, which changes nothing.
/// Logs of the original may hold such records; they are never written here.
pub(crate) fn repeats(last: Zxid, zxid: Zxid, body: &[u8]) -> bool {
    zxid == last && TxnRecord::is_error(body)
}

enum Frame {
    Record { checksum: u64, length: usize },
    End,
    Bad(RecordFault),
}

enum Checked {
    Record { length: usize, zxid: Zxid },
    End,
    Bad(RecordFault),
}

/// Checksum and length from the first twelve bytes of a record.
fn split_head(head: &[u8]) -> (u64, i32) {
    let (checksum, rest) = head.split_first_chunk::<8>().expect("callers hand in a whole head");
    let (length, _) = rest.split_first_chunk::<4>().expect("callers hand in a whole head");
    (u64::from_be_bytes(*checksum), i32::from_be_bytes(*length))
}

fn zxid_of(body: &[u8]) -> Zxid {
    let bytes = body[ZXID_OFFSET..].first_chunk::<8>().expect("bodies are checked to be longer");
    Zxid(i64::from_be_bytes(*bytes))
}
