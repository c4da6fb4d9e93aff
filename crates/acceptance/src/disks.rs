//! A small disk for each member of an ensemble, which can be filled up and emptied while the member runs.
//!
//! Needs root and Linux: each disk is in memory, and all are mounted where only the members see them. A process that waits for its input
//! keeps the mounts; it ends with the test, whatever happens to that, and the disks with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

#[derive(Debug)]
pub struct Disks {
    keeper: Child,
}

impl Disks {
    /// False where the machine or the user may not mount any: then there is nothing to test.
    pub fn are_available() -> bool {
        let mount = ["--mount", "bash", "-c", "mount -t tmpfs -o size=64k none /mnt"];
        let mounted = Command::new("unshare").args(mount).output();
        let can = mounted.is_ok_and(|output| output.status.success());
        if !can {
            println!("skipped: this user can't mount a disk of its own (unshare --mount, mount -t tmpfs)");
        }
        can
    }

    /// A disk of so many bytes for each of these directories, with what is in there.
    pub(crate) fn new(directories: &[PathBuf], bytes: u64) -> Result<Disks> {
        let mount = "size=$1; shift; for data; do mkdir \"$data.disk\" && mount -t tmpfs -o size=$size none \"$data.disk\" && \
                     cp -a \"$data/.\" \"$data.disk\" && mount --move \"$data.disk\" \"$data\" || exit; done; echo ready; exec cat";
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", mount, "bash", &bytes.to_string()]).args(directories);
        Disks::keep(command)
    }

    /// Starts what mounts, says so, and waits.
    fn keep(mut command: Command) -> Result<Disks> {
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("unshare")?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no output")?).read_line(&mut line)?;
        let disks = Disks { keeper };
        ensure!(line == "ready\n", "it can't be mounted");
        Ok(disks)
    }

    /// The process whose mounts the members share.
    pub(crate) fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    /// Where the test finds a file of a member.
    pub(crate) fn path(&self, inside: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.keeper.id())).join(inside.strip_prefix("/").unwrap_or(inside))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Names of machines that only the members know: another file of hosts, mounted where they alone see it. Needs [`Disks::are_available`].
#[derive(Debug)]
pub(crate) struct Hosts(Disks);

impl Hosts {
    pub(crate) fn new(file: &Path) -> Result<Hosts> {
        let mut command = Command::new("unshare");
        let mount = "mount --bind \"$1\" /etc/hosts && echo ready && exec cat";
        command.args(["--mount", "bash", "-c", mount, "bash"]).arg(file);
        Ok(Hosts(Disks::keep(command)?))
    }

    /// The process whose mounts the members share.
    pub(crate) fn keeper(&self) -> u32 {
        self.0.keeper()
    }
}

/// Writes a file until no more than so many bytes are free.
pub(crate) fn fill(file: &Path, left_bytes: u64) -> Result<()> {
    let mut ballast = File::options().create(true).append(true).open(file)?;
    let block = [0; 4096];
    loop {
        let disk = rustix::fs::statvfs(file)?;
        let free_bytes = disk.f_bavail * disk.f_frsize;
        if free_bytes < left_bytes + block.len() as u64 || ballast.write_all(&block).is_err() {
            return Ok(());
        }
    }
}

/// Gives the room back that [`fill`] took.
pub(crate) fn empty(file: &Path) -> Result<()> {
    Ok(fs::remove_file(file)?)
}
