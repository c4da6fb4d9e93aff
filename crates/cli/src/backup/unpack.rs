//! The copy that the admin command `backup` of a Rookeeper sends, a file of `tar`, unpacked while it comes.
//!
//! What always holds: a file gets a name that snapshots or logs have, in one directory, and is written once; what does not begin as it should ends the copy; its end is told
//! from a connection that broke.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rookeeper_store::Disk;
use rookeeper_store::names::{self, FileName};
use tar::{EntryType, Header};

use super::VERSION_DIR;
use super::http::Answer;

const BLOCK: usize = 512;

/// Writes the files of a copy into a directory, durably, and returns their names in the order in which they came.
pub async fn unpack(answer: &mut Answer, disk: &dyn Disk, to: &Path) -> Result<Vec<FileName>> {
    let mut names = Vec::new();
    loop {
        let mut header = Header::new_old();
        answer.read_exact(header.as_mut_bytes()).await?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            answer.read_exact(header.as_mut_bytes()).await?;
            ensure!(header.as_bytes().iter().all(|byte| *byte == 0), "the copy has no end");
            return Ok(names);
        }
        let (name, size) = entry(&header)?;
        let file = match name {
            FileName::Snapshot(zxid, compression) => names::snapshot(zxid, compression),
            FileName::Log(zxid) => names::log(zxid),
            _ => bail!("the copy holds neither a snapshot nor a log"),
        };
        answer.receive(disk, size, &to.join(&file)).await.with_context(|| file)?;
        let mut padding = [0; BLOCK];
        let length = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        answer.read_exact(&mut padding[..length as usize]).await?;
        names.push(name);
    }
}

/// The name and the size in bytes of the file behind a header.
fn entry(header: &Header) -> Result<(FileName, u64)> {
    let mut sound = header.clone();
    sound.set_cksum();
    ensure!(header.cksum()? == sound.cksum()?, "the copy does not go on with a file");
    let path = header.path()?.to_string_lossy().into_owned();
    let name = path.strip_prefix(VERSION_DIR).and_then(|rest| rest.strip_prefix('/')).and_then(FileName::parse);
    match name {
        Some(name @ (FileName::Snapshot(..) | FileName::Log(_))) if header.entry_type() == EntryType::Regular => {
            Ok((name, header.entry_size()?))
        }
        _ => bail!("the copy holds {path:?}, which is neither a snapshot nor a log"),
    }
}
