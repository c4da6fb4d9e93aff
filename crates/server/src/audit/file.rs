//! Where the audit log is written: standard output, or a file that another one takes the place of when it is full.
//!
//! What always holds here: a line is whole or was counted as lost, and a torn one stands alone on its line; the newest lines are in the file of the
//! configured name, older ones in those with `.1`, `.2`... behind it, as in the original's example. A file that somebody moved away is made anew.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::AuditLog;
use crate::logging::limited;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Destination {
    Standard(Open),
    File(Rotated),
}

/// A file, and those that it was before.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    /// The file is no longer written to when it would be larger.
    max_bytes: u64,
    /// Full files that are kept.
    retained: u32,
    open: Option<Open>,
}

#[derive(Debug)]
pub(super) struct Open {
    file: File,
    bytes: u64,
    /// The device and the number of a regular file. What is none is not rotated.
    identity: Option<(u64, u64)>,
    /// The last line is not whole.
    is_torn: bool,
}

impl Destination {
    /// A file is opened at once, for a start should fail where the log can't be written. What is no regular file, such as a pipe to another
    /// process, may have to be waited for, and is opened with the first line.
    pub fn open(settings: &AuditLog) -> io::Result<Destination> {
        let Some(path) = &settings.file else { return Ok(Destination::Standard(Open::standard()?)) };
        let mut file = Rotated {
            path: path.clone(),
            max_bytes: settings.file_size_limit_bytes,
            retained: settings.file_retain_count,
            open: None,
        };
        if fs::metadata(path).is_ok_and(|metadata| !is_special(&metadata)) || fs::metadata(path).is_err() {
            file.open().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(Destination::File(file))
    }

    /// Writes whole lines. Returns how many of their bytes were written.
    pub fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Destination::Standard(open) => open.write(lines),
            Destination::File(file) => file.write(lines),
        }
    }
}

impl Rotated {
    fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.was_moved() {
            self.open = None;
        }
        if let Err(error) = self.make_room(lines.len() as u64) {
            limited!(
                warn,
                "audit logs that can't be rotated",
                "the audit log {} can't be rotated: {error}; it grows beyond audit.fileSizeLimitInKb",
                self.path.display()
            );
        }
        if self.open.is_none()
            && let Err(error) = self.open()
        {
            return (0, Err(error));
        }
        let Some(open) = &mut self.open else { return (0, Ok(())) };
        open.write(lines)
    }

    /// Whether the file is not the one that is open.
    fn was_moved(&self) -> bool {
        let identity = self.open.as_ref().and_then(|open| open.identity);
        identity
            .is_some_and(|identity| fs::metadata(&self.path).map(|found| identity_of(&found)).ok() != Some(identity))
    }

    /// Begins another file where these bytes would make this one too large.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        if self.open.is_none() {
            // A file of before may be full.
            let _ = self.open();
        }
        let is_full = self.open.as_ref().is_some_and(|open| {
            open.identity.is_some() && open.bytes > 0 && open.bytes.saturating_add(bytes) > self.max_bytes
        });
        if !is_full {
            return Ok(());
        }
        for number in (1..self.retained).rev() {
            let older = self.numbered(number);
            if older.try_exists()? {
                fs::rename(&older, self.numbered(number + 1))?;
            }
        }
        match self.retained {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, self.numbered(1))?,
        }
        self.open = None;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn open(&mut self) -> io::Result<()> {
        self.open = Some(Open::at(&self.path)?);
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        // Others of the group may read who did what, nobody else.
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let metadata = file.metadata()?;
        let identity = metadata.is_file().then(|| identity_of(&metadata));
        Ok(Open { file, bytes: metadata.len(), identity, is_torn: false })
    }

    fn standard() -> io::Result<Open> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Open { file, bytes: 0, identity: None, is_torn: false })
    }

    fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.is_torn {
            match self.file.write(b"\n") {
                Ok(1..) => (self.is_torn, self.bytes) = (false, self.bytes + 1),
                Ok(0) => return (0, Err(io::ErrorKind::WriteZero.into())),
                Err(error) => return (0, Err(error)),
            }
        }
        let mut written = 0;
        let result = loop {
            match self.file.write(&lines[written..]) {
                _ if written == lines.len() => break Ok(()),
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.bytes += written as u64;
        self.is_torn = written > 0 && lines[written - 1] != b'\n';
        (written, result)
    }
}

fn identity_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn is_special(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}
