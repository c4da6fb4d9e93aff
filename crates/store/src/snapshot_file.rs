//! The three forms of a snapshot file, as a stream of bytes to read or to write.
//!
//! What always holds: memory stays within a few blocks, whatever lengths a file claims.
//!
//! Counterpart in the original: `SnapStream`; for snappy the framing of `SnappyOutputStream`.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::disk::{Disk, DiskFile};
use crate::names::Compression;

const BLOCK: usize = 64 << 10;
/// What Java's writer puts into one snappy chunk.
const SNAPPY_BLOCK: usize = 32 << 10;
/// Java's writer can be told to use larger chunks; larger than this nobody needs.
const SNAPPY_LIMIT: usize = 4 << 20;
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The end of the last seal: the string `/`.
const PLAIN_END: [u8; 5] = [0, 0, 0, 1, b'/'];
/// A snapshot is synced in portions of this many bytes, so that the log's syncs never wait for all of it.
const SYNC_EVERY: u64 = 8 << 20;

/// Whether a file may be a whole snapshot, as far as that can be told without reading it.
pub(crate) fn looks_whole(disk: &dyn Disk, path: &Path, compression: Compression) -> io::Result<bool> {
    let file = disk.open_read(path)?;
    let length = file.length()?;
    let mut bytes = [0; 8];
    Ok(match compression {
        Compression::None => length >= 10 && file.read_at(&mut bytes[..5], length - 5)? == 5 && bytes[..5] == PLAIN_END,
        Compression::Gzip => file.read_at(&mut bytes[..2], 0)? == 2 && bytes[..2] == GZIP_MAGIC,
        Compression::Snappy => file.read_at(&mut bytes, 0)? == 8 && bytes == SNAPPY_HEADER[..8],
    })
}

/// The form of a file whose name does not tell it.
pub(crate) fn form(disk: &dyn Disk, path: &Path) -> io::Result<Compression> {
    let mut bytes = [0; 8];
    let count = disk.open_read(path)?.read_at(&mut bytes, 0)?;
    Ok(match &bytes[..count] {
        [first, second, ..] if [*first, *second] == GZIP_MAGIC => Compression::Gzip,
        bytes if bytes == &SNAPPY_HEADER[..8] => Compression::Snappy,
        _ => Compression::None,
    })
}

/// The uncompressed content of a snapshot.
pub(crate) fn reader(disk: &dyn Disk, path: &Path, compression: Compression) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(BLOCK, FileStream { file: disk.open_read(path)?, offset: 0 });
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(GzDecoder::new(file)),
        Compression::Snappy => {
            let mut header = [0; 16];
            file.read_exact(&mut header)?;
            if header[..8] != SNAPPY_HEADER[..8] {
                return Err(invalid("not a snappy stream"));
            }
            let (compressed, block) = (Vec::new(), Vec::new());
            Box::new(SnappyReader { file, decoder: snap::raw::Decoder::new(), compressed, block, position: 0 })
        }
    })
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

#[derive(Debug)]
struct FileStream {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Read for FileStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

struct SnappyReader {
    file: BufReader<FileStream>,
    decoder: snap::raw::Decoder,
    compressed: Vec<u8>,
    block: Vec<u8>,
    position: usize,
}

impl SnappyReader {
    /// False at the end of the file.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut length = [0; 4];
        match self.file.read(&mut length[..1])? {
            0 => return Ok(false),
            _ => self.file.read_exact(&mut length[1..])?,
        }
        let length = u64::from(u32::from_be_bytes(length));
        if length > SNAPPY_LIMIT as u64 {
            return Err(invalid(format!("snappy chunk of {length} bytes")));
        }
        self.compressed.clear();
        if (&mut self.file).take(length).read_to_end(&mut self.compressed)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let corrupt = |error: snap::Error| invalid(format!("snappy chunk: {error}"));
        let uncompressed = snap::raw::decompress_len(&self.compressed).map_err(corrupt)?;
        if uncompressed > SNAPPY_LIMIT {
            return Err(invalid(format!("snappy chunk of {uncompressed} bytes")));
        }
        self.block.resize(uncompressed, 0);
        self.decoder.decompress(&self.compressed, &mut self.block).map_err(corrupt)?;
        self.position = 0;
        Ok(true)
    }
}

impl Read for SnappyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.position);
        buffer[..count].copy_from_slice(&self.block[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

/// Compresses into a file.
#[derive(Debug)]
pub(crate) enum Writer {
    Plain(FileSink),
    Gzip(GzEncoder<FileSink>),
    Snappy(Box<SnappyWriter>),
}

impl Writer {
    /// Writes into the file from its beginning. Fails where the compression's head can't be written.
    pub fn new(file: Box<dyn DiskFile>, compression: Compression) -> io::Result<Writer> {
        let mut sink = FileSink { file, buffer: Vec::with_capacity(2 * BLOCK), offset: 0, synced: 0 };
        Ok(match compression {
            Compression::None => Writer::Plain(sink),
            // Snapshots compete with requests for the processor; the fast level still finds most of what is to be found.
            Compression::Gzip => Writer::Gzip(GzEncoder::new(sink, flate2::Compression::fast())),
            Compression::Snappy => {
                sink.write_all(&SNAPPY_HEADER)?;
                let compressed = vec![0; snap::raw::max_compress_len(SNAPPY_BLOCK)];
                let block = Vec::with_capacity(SNAPPY_BLOCK);
                let encoder = SnappyEncoder(snap::raw::Encoder::new());
                Writer::Snappy(Box::new(SnappyWriter { sink, encoder, block, compressed }))
            }
        })
    }

    /// Takes the next bytes of the content.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Writer::Plain(sink) => sink.write_all(bytes),
            Writer::Gzip(encoder) => encoder.write_all(bytes),
            Writer::Snappy(writer) => writer.write(bytes),
        }
    }

    /// Ends the file, durably. Returns its length.
    pub fn finish(self) -> io::Result<u64> {
        let mut sink = match self {
            Writer::Plain(sink) => sink,
            Writer::Gzip(encoder) => encoder.finish()?,
            Writer::Snappy(mut writer) => {
                writer.end_block()?;
                writer.sink
            }
        };
        sink.drain()?;
        sink.file.sync_data()?;
        Ok(sink.offset)
    }
}

/// Collects small writes.
#[derive(Debug)]
pub(crate) struct FileSink {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    offset: u64,
    synced: u64,
}

impl FileSink {
    fn drain(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.offset - self.synced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(())
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK);
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() >= BLOCK {
            self.drain()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct SnappyWriter {
    sink: FileSink,
    encoder: SnappyEncoder,
    block: Vec<u8>,
    compressed: Vec<u8>,
}

struct SnappyEncoder(snap::raw::Encoder);

impl std::fmt::Debug for SnappyEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnappyEncoder")
    }
}

impl SnappyWriter {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(SNAPPY_BLOCK - self.block.len());
            self.block.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.block.len() == SNAPPY_BLOCK {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length =
            self.encoder.0.compress(&self.block, &mut self.compressed).map_err(|error| invalid(error.to_string()))?;
        self.block.clear();
        self.sink.write_all(&(length as u32).to_be_bytes())?;
        self.sink.write_all(&self.compressed[..length])
    }
}
