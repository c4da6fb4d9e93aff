//! Figures of this process and of the machine, from the system. A figure that the system does not tell is absent.

use std::fs::File;
use std::io::Read as _;

use rustix::process::Resource;

/// No honest file read here is larger.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// File descriptors in use.
pub(crate) fn open_file_descriptors() -> Option<i64> {
    // One of the entries is the directory that is being read.
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    i64::try_from(entries).ok()
}

/// File descriptors that may be in use; `i64::MAX` where there is no limit.
pub(crate) fn max_file_descriptors() -> i64 {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX)
}

/// What this process took so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Processor time, in seconds.
    pub cpu_s: f64,
    /// Since 1970, in seconds.
    pub started_s: f64,
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
}

impl Usage {
    /// What the system says in `/proc`; none where it does not say it.
    pub fn of_this_process() -> Option<Usage> {
        let boot = read("/proc/stat")?.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())?;
        let (ticks, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size());
        Usage::parse(&read("/proc/self/stat")?, boot, ticks as f64, page as u64)
    }

    fn parse(stat: &str, boot_s: u64, ticks_per_s: f64, page_bytes: u64) -> Option<Usage> {
        // The name of the program stands in brackets, and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // The manual counts fields from 1, and the name is the second.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Usage {
            cpu_s: (field(14)? + field(15)?) as f64 / ticks_per_s,
            started_s: boot_s as f64 + field(22)? as f64 / ticks_per_s,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.checked_mul(page_bytes)?,
        })
    }
}

/// Memory of the machine in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes that can be had without pushing something else out.
    pub available: u64,
    pub total: u64,
}

impl Memory {
    /// What the system says in `/proc/meminfo`; none where it does not say it.
    pub fn of_machine() -> Option<Memory> {
        Memory::parse(&read("/proc/meminfo")?)
    }

    fn parse(text: &str) -> Option<Memory> {
        let bytes = |key: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Memory { available: bytes("MemAvailable")?, total: bytes("MemTotal")? })
    }
}

/// The name of the user this process runs as.
pub(crate) fn user_name() -> Option<String> {
    let user_id = rustix::process::geteuid().as_raw();
    read("/etc/passwd")
        .and_then(|passwd| name_in(&passwd, user_id).map(str::to_owned))
        .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
}

fn name_in(passwd: &str, user_id: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(user_id)).then_some(name)
    })
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        let text = "MemTotal:        2048 kB\nMemFree:          10 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { available: 1 << 20, total: 2 << 20 }));
        for damaged in ["", "MemTotal: 2048 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "MemTotal\nMemAvailable"] {
            assert_eq!(Memory::parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn the_usage_is_found_behind_a_name_that_may_hold_anything() {
        let fields: Vec<String> = (3..=52).map(|number: u32| (number * 100).to_string()).collect();
        let stat = format!("17 (a) b ( c) {}", fields.join(" "));
        let usage = Usage { cpu_s: 29.0, started_s: 29.0, virtual_bytes: 2300, resident_bytes: 2400 * 4096 };
        assert_eq!(Usage::parse(&stat, 7, 100.0, 4096), Some(usage));
        for damaged in ["", "17 (a", "17 (a) S 1", ") "] {
            assert_eq!(Usage::parse(damaged, 7, 100.0, 4096), None, "{damaged:?}");
        }
        assert!(Usage::of_this_process().is_some_and(|usage| usage.resident_bytes > 0));
    }

    #[test]
    fn users_are_found_by_their_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nzoe:x:1000:1000::/home/zoe:/bin/sh\n";
        assert_eq!((name_in(passwd, 1000), name_in(passwd, 0), name_in(passwd, 1)), (Some("zoe"), Some("root"), None));
    }

    #[test]
    fn an_open_file_counts() {
        let limit = max_file_descriptors();
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let open = open_file_descriptors().unwrap();
        assert!((100..=limit).contains(&open), "{open} of {limit} with {} files", files.len());
    }
}
