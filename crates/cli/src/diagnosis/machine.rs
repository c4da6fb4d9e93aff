//! This machine: names, disks, the epochs in the data directory.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rookeeper_server::config::Outline;
use rookeeper_store::RealDisk;
use rookeeper_store::epoch_files::{self, read_epoch};

use super::finding::{Finding, Grade};

/// Syncs that are timed. Each is what one lone write waits for.
const SYNCS: usize = 40;
/// Bytes that each of them has to bring to the disk.
const SYNC_BYTES: usize = 512;
/// A median above this makes every write slow.
const SLOW_SYNC: Duration = Duration::from_millis(10);
/// One that takes longer makes clients wait noticeably.
const LONG_SYNC: Duration = Duration::from_millis(200);
/// A name that takes longer to resolve delays elections.
const SLOW_NAME: Duration = Duration::from_secs(1);
/// Less than this part of a disk is little room.
const LITTLE_ROOM: f64 = 0.1;

/// What a name of a member resolves to, and how long that took.
#[derive(Debug)]
pub struct Resolved {
    id: String,
    host: String,
    addresses: io::Result<Vec<IpAddr>>,
    took: Duration,
}

/// Resolves the names of all members, one after the other.
pub fn resolve(outline: &Outline) -> Vec<Resolved> {
    let hosts = outline.members.iter().flat_map(|member| member.hosts.iter().map(move |host| (member.id, host)));
    hosts
        .map(|(id, host)| {
            let begin = Instant::now();
            let addresses =
                (host.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
            Resolved { id: id.to_string(), host: host.clone(), addresses, took: begin.elapsed() }
        })
        .collect()
}

/// What follows from that.
pub fn judge_names(names: &[Resolved]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_loopback = |name: &Resolved| {
        let addresses = name.addresses.as_ref().ok()?;
        Some(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback))
    };
    let somebody_is_elsewhere = names.iter().any(|name| is_loopback(name) == Some(false));
    for name in names {
        let Resolved { id, host, addresses, took } = name;
        if let Err(error) = addresses {
            let seen = format!("{host} of server {id} does not resolve: {error}");
            findings.push(Finding::new(Grade::Problem, "names", seen).remedy(
                "Correct the name, the resolver or /etc/hosts. A server starts all the same, and asks again until the name resolves.",
            ));
        } else if is_loopback(name) == Some(true) && somebody_is_elsewhere {
            let seen = format!("{host} of server {id} is an address of loopback, which no other machine reaches");
            findings.push(Finding::new(Grade::Problem, "names", seen).remedy(
                "Debian gives a machine's own name 127.0.1.1 in /etc/hosts: write its address on the network there.",
            ));
        } else if *took > SLOW_NAME {
            let seen = format!("{host} of server {id} took {} ms to resolve", took.as_millis());
            let remedy = "Look at the resolver, or write the members into /etc/hosts.";
            findings.push(Finding::new(Grade::Warning, "names", seen).remedy(remedy));
        }
    }
    if findings.is_empty() && !names.is_empty() {
        findings.push(Finding::new(Grade::Good, "names", format!("all {} resolve", names.len())));
    }
    findings
}

/// How long syncs take, in a file that is removed again, and how much room there is.
pub fn disk(outline: &Outline) -> Vec<Finding> {
    let mut findings = Vec::new();
    let log_dir = &outline.data_log_dir;
    match time_syncs(log_dir) {
        Ok(times) => findings.push(judge_syncs(log_dir, times)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seen = format!("{} is not there yet, so its disk was not tried", log_dir.display());
            findings.push(Finding::new(Grade::Note, "disk", seen));
        }
        Err(error) => {
            let seen = format!("{} cannot be written: {error}", log_dir.display());
            let remedy = "Give the directory to the user the server runs as, and run this as that user.";
            findings.push(Finding::new(Grade::Problem, "disk", seen).remedy(remedy));
        }
    }
    let mut directories = vec![log_dir];
    if outline.data_dir != *log_dir {
        directories.push(&outline.data_dir);
    }
    for directory in directories {
        if let Ok(room) = rustix::fs::statvfs(directory) {
            findings.push(judge_room(directory, room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize));
        }
    }
    findings
}

fn time_syncs(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".rookeeper-doctor-{}", std::process::id()));
    let file = Scratch { file: File::create_new(&path)?, path };
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        (&file.file).write_all(&[0x55; SYNC_BYTES])?;
        let begin = Instant::now();
        file.file.sync_data()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

/// A file that goes with this value.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is named after this program, and empty but for a few bytes.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn judge_syncs(directory: &Path, mut times: Vec<Duration>) -> Finding {
    times.sort_unstable();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let seen = format!(
        "{} syncs in {} took {:.2} ms in the median, {:.1} ms at most",
        times.len(),
        directory.display(),
        ms(median),
        ms(slowest)
    );
    let remedy =
        "Every write waits for a sync: give dataLogDir a device of its own that is fast and has power-loss protection.";
    match median > SLOW_SYNC || slowest > LONG_SYNC {
        true => Finding::new(Grade::Warning, "disk", seen).remedy(remedy),
        false => Finding::new(Grade::Good, "disk", seen),
    }
}

fn judge_room(directory: &Path, free: u64, whole: u64) -> Finding {
    let part = if whole == 0 { 1.0 } else { free as f64 / whole as f64 };
    let seen = format!("{} MiB of {} MiB are free in {}", free >> 20, whole >> 20, directory.display());
    match part < LITTLE_ROOM {
        true => Finding::new(Grade::Warning, "disk", seen).remedy(
            "Make room: without it writes are refused. autopurge.snapRetainCount says how many snapshots stay.",
        ),
        false => Finding::new(Grade::Good, "disk", seen),
    }
}

/// The epochs that this member has promised and lived through, where it has been one.
pub fn epochs(outline: &Outline) -> Option<Finding> {
    let directory = outline.data_dir.join("version-2");
    let read = |name| read_epoch(&RealDisk, &directory, name).map_err(|error| error.to_string());
    let (accepted, current) = match (read(epoch_files::ACCEPTED), read(epoch_files::CURRENT)) {
        (Ok(accepted), Ok(current)) => (accepted?, current?),
        (Err(why), _) | (_, Err(why)) => {
            let remedy =
                "Restore the directory from a backup, or empty it and let the server fetch everything from the others.";
            return Some(Finding::new(Grade::Problem, "epochs", why).remedy(remedy));
        }
    };
    if current > accepted {
        let seen = format!("currentEpoch {current} is beyond acceptedEpoch {accepted}");
        let remedy =
            format!("The files do not belong together. `rookeeper epochs {}` tells more.", outline.data_dir.display());
        return Some(Finding::new(Grade::Problem, "epochs", seen).remedy(remedy));
    }
    Some(Finding::new(Grade::Good, "epochs", format!("currentEpoch {current}, acceptedEpoch {accepted} on this disk")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str, addresses: &[&str], took_ms: u64) -> Resolved {
        Resolved {
            id: id.to_owned(),
            host: format!("zoo{id}"),
            addresses: Ok(addresses.iter().map(|address| address.parse().unwrap()).collect()),
            took: Duration::from_millis(took_ms),
        }
    }

    fn seen(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|finding| format!("{}: {}", finding.grade, finding.seen)).collect()
    }

    #[test]
    fn names() {
        let here = || name("1", &["127.0.1.1"], 0);
        assert_eq!(seen(&judge_names(&[here(), name("2", &["127.0.0.1"], 0)])), ["ok: all 2 resolve"]);
        assert_eq!(
            seen(&judge_names(&[here(), name("2", &["10.0.0.2"], 1500)])),
            [
                "problem: zoo1 of server 1 is an address of loopback, which no other machine reaches",
                "warning: zoo2 of server 2 took 1500 ms to resolve"
            ]
        );
        let unknown = Resolved { addresses: Err(io::Error::other("unknown")), ..here() };
        assert_eq!(seen(&judge_names(&[unknown])), ["problem: zoo1 of server 1 does not resolve: unknown"]);
    }

    #[test]
    fn disks() {
        let ms = Duration::from_millis;
        let path = Path::new("/d");
        assert_eq!(judge_syncs(path, vec![ms(1), ms(200), ms(2)]).grade, Grade::Good);
        assert_eq!(judge_syncs(path, vec![ms(1), ms(201), ms(2)]).grade, Grade::Warning);
        let slow = judge_syncs(path, vec![ms(11), ms(12), ms(2)]);
        assert_eq!(slow.seen, "3 syncs in /d took 11.00 ms in the median, 12.0 ms at most");
        assert_eq!(slow.grade, Grade::Warning);
        assert_eq!(judge_room(path, 10 << 20, 100 << 20).grade, Grade::Good);
        assert_eq!(judge_room(path, 9 << 20, 100 << 20).grade, Grade::Warning);
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(time_syncs(directory.path()).unwrap().len(), SYNCS);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(time_syncs(&directory.path().join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
