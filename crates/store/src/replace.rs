//! Replacing a file as a whole.
//!
//! What always holds: whenever the power goes, there is the file from before or the new one, never a part of one; a file that was replaced
//! without an error stays so. A failed attempt leaves nothing behind, unless the power went: then the next attempt takes its place.
//!
//! Counterpart in the original: `AtomicFileWritingIdiom`, which does not sync the directory.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Rights};

/// Writes the file under a temporary name beside its own, and then gives it its name.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8], rights: Rights<'_>) -> io::Result<()> {
    let temporary = temporary(path);
    let written = disk.create_with(&temporary, rights).and_then(|mut file| {
        file.write_at(bytes, 0)?;
        file.sync_data()
    });
    match written {
        Ok(()) => publish(disk, &temporary, path),
        Err(error) => {
            let _ = disk.remove(&temporary);
            Err(error)
        }
    }
}

/// Gives a file that is whole and durable its name, durably.
pub fn publish(disk: &dyn Disk, temporary: &Path, path: &Path) -> io::Result<()> {
    let named = disk.rename(temporary, path);
    if named.is_err() {
        // What can't be removed is in nobody's way.
        let _ = disk.remove(temporary);
    }
    named.and_then(|()| disk.sync_dir(directory_of(path)))
}

/// `currentEpoch` → `currentEpoch.tmp`.
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    PathBuf::from(name)
}

/// The directory that a file's name stands in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sim_disk::{Fault, SimDisk};

    #[test]
    fn there_is_the_old_or_the_new_file_whenever_the_power_goes() {
        let path = Path::new("/d/file");
        let (old, new) = (vec![b'o'; 3000], vec![b'n'; 5000]);
        let mut seen = BTreeSet::new();
        for seed in 0..40 {
            for at in 1..=6 {
                let disk = SimDisk::new(seed);
                disk.put(path, &old);
                disk.inject(Fault::Crash { at });
                let written = replace(&disk, path, &new, Rights::Owner);
                assert_eq!(written.is_ok(), at == 6, "{at}");
                let disk = disk.restart(seed);
                let found = disk.content(path).unwrap();
                assert!(
                    found == new || (found == old && written.is_err()),
                    "{} bytes after a crash at {at}",
                    found.len()
                );
                seen.insert((at, found == new));
                // What is left of the attempt is not in the way of the next one.
                replace(&disk, path, &old, Rights::Owner).unwrap();
                let disk = disk.restart(seed);
                assert_eq!((disk.content(path), disk.exists(&temporary(path))), (Some(old.clone()), false));
            }
        }
        // The name may be there before it is synced, and never before the file is.
        assert!(seen.contains(&(4, true)) && seen.contains(&(5, true)) && !seen.contains(&(3, true)), "{seen:?}");
    }

    #[test]
    fn a_failed_attempt_leaves_the_file_from_before_and_nothing_beside_it() {
        let path = Path::new("/d/file");
        for at in 1..=4 {
            let disk = SimDisk::new(1);
            disk.put(path, b"old");
            disk.inject(Fault::Broken { at });
            replace(&disk, path, b"new", Rights::Owner).unwrap_err();
            assert_eq!((disk.content(path).unwrap(), disk.exists(&temporary(path))), (b"old".to_vec(), false), "{at}");
        }
    }

    #[test]
    fn a_file_without_a_directory_in_its_path_is_in_the_current_one() {
        assert_eq!(directory_of(Path::new("zoo.cfg")), Path::new("."));
        assert_eq!(directory_of(Path::new("/conf/zoo.cfg")), Path::new("/conf"));
    }
}
