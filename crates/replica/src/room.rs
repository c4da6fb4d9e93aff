//! Whether a server has room for what grows: on its disks above a floor, and in its memory within a budget.
//!
//! Somebody else measures and hands the figures in ([`crate::Input::Measured`]); here it is decided what follows. What always holds:
//! - where room is short, requests are refused that make the data grow; deletes, reads, heartbeats, the beginning, resumption and end of
//!   sessions, reconfigurations and what servers do by themselves go on;
//! - whoever gives zxids to transactions refuses, so all members of an ensemble have the same outcome; a server that follows only tells;
//! - a shortage ends by itself, and at another figure than the one at which it began, so that it does not come and go with each request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::core::Core;
use crate::reasons::Event;

/// From this part of the budget on, in percent, memory is short; below the second it is not; from the third on it is short whatever was freed.
const SHORT_PERCENT: u64 = 90;
const ROOM_PERCENT: u64 = 85;
const CRITICAL_PERCENT: u64 = 97;

/// A shortage of memory also ends where so much of the budget was freed, in percent, for the process may keep what is free.
const FREED_PERCENT: u64 = 5;

/// About what a node takes besides its path and data.
const NODE_BYTES: u64 = 200;

/// What must stay free. Zero sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomSettings {
    /// Bytes that must stay free on the disks of the log and of the snapshots.
    pub min_free_bytes: u64,
    /// Bytes that the process may use.
    pub memory_bytes: u64,
}

/// What was measured. None where there is no limit, or the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Bytes that are free on the disk with the least of them.
    pub free_bytes: Option<u64>,
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<u64>,
}

/// What there is not enough of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shortage {
    pub disk: bool,
    pub memory: bool,
}

impl Shortage {
    /// Whether a request is refused that makes the data so much longer. What only replaces data still makes the log longer, which is on the
    /// disk; what makes data shorter is let through, for there is an end to that.
    pub fn refuses(self, growth_bytes: i64) -> bool {
        (self.disk && growth_bytes >= 0) || (self.memory && growth_bytes > 0)
    }
}

/// The shortage as everybody can see it.
#[derive(Debug, Default)]
pub struct RoomBoard {
    disk: AtomicBool,
    memory: AtomicBool,
    resident_bytes: AtomicU64,
}

impl RoomBoard {
    /// What there is not enough of now.
    pub fn shortage(&self) -> Shortage {
        Shortage { disk: self.disk.load(Relaxed), memory: self.memory.load(Relaxed) }
    }

    /// Bytes of memory that were resident when that was measured; 0 where it was not.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Relaxed)
    }
}

/// The decision, from one measurement to the next.
#[derive(Debug)]
pub(crate) struct Room {
    settings: RoomSettings,
    shortage: Shortage,
    /// Bytes that were free on the disk, less what was logged since that was measured.
    left_bytes: Option<u64>,
    /// Bytes that were resident and in use, and what was logged since, for the data grows by about that.
    grown_bytes: Option<(u64, u64)>,
    /// Bytes in use when memory became short last, while the process is as large as then.
    mark_bytes: Option<u64>,
}

impl Room {
    pub fn new(settings: RoomSettings) -> Room {
        Room { settings, shortage: Shortage::default(), left_bytes: None, grown_bytes: None, mark_bytes: None }
    }

    /// Takes a measurement in; `used_bytes` is about what the data takes, of which the process may keep more than it needs.
    pub fn note(&mut self, measured: Measured, used_bytes: u64) -> Shortage {
        let RoomSettings { min_free_bytes, memory_bytes } = self.settings;
        if let Some(free_bytes) = measured.free_bytes.filter(|_| min_free_bytes > 0) {
            self.left_bytes = Some(free_bytes);
            self.shortage.disk = match self.shortage.disk {
                true => free_bytes < enough_bytes(min_free_bytes),
                false => free_bytes < min_free_bytes,
            };
        }
        if let Some(resident_bytes) = measured.resident_bytes.filter(|_| memory_bytes > 0) {
            self.grown_bytes = Some((resident_bytes, used_bytes));
            self.note_memory(resident_bytes, used_bytes);
        }
        self.shortage
    }

    /// So many bytes are to be logged: a disk that fills up between two measurements is short at once. What is logged may fit into space that
    /// was reserved before, so this errs on the side of the disk, until the next measurement; the same goes for memory. Says what became short.
    pub fn note_logged(&mut self, bytes: usize) -> Shortage {
        let mut became = Shortage::default();
        if let Some(left_bytes) = &mut self.left_bytes {
            *left_bytes = left_bytes.saturating_sub(bytes as u64);
            became.disk = !self.shortage.disk && *left_bytes < self.settings.min_free_bytes;
        }
        if let Some((resident_bytes, used_bytes)) = &mut self.grown_bytes {
            *resident_bytes = resident_bytes.saturating_add(bytes as u64);
            *used_bytes = used_bytes.saturating_add(bytes as u64);
            let is_large = match self.mark_bytes {
                None => *resident_bytes >= self.settings.memory_bytes / 100 * SHORT_PERCENT,
                Some(mark_bytes) => *used_bytes >= mark_bytes,
            };
            became.memory = !self.shortage.memory && is_large;
            if became.memory {
                self.mark_bytes = Some(*used_bytes);
            }
        }
        self.shortage.disk |= became.disk;
        self.shortage.memory |= became.memory;
        became
    }

    fn note_memory(&mut self, resident_bytes: u64, used_bytes: u64) {
        let percent = |percent| self.settings.memory_bytes / 100 * percent;
        let is_short = self.shortage.memory;
        self.shortage.memory = match self.mark_bytes {
            _ if resident_bytes < percent(ROOM_PERCENT) => {
                self.mark_bytes = None;
                false
            }
            Some(mark_bytes) if is_short => used_bytes.saturating_add(percent(FREED_PERCENT)) > mark_bytes,
            // What was freed may be used again.
            Some(mark_bytes) if resident_bytes < percent(CRITICAL_PERCENT) => used_bytes >= mark_bytes,
            _ => resident_bytes >= percent(SHORT_PERCENT),
        };
        if self.shortage.memory && !is_short {
            self.mark_bytes = Some(used_bytes);
        }
    }
}

/// A shortage of disk that began below the floor ends here.
fn enough_bytes(min_free_bytes: u64) -> u64 {
    min_free_bytes.saturating_add(min_free_bytes / 4)
}

impl Core {
    /// What was measured, and what follows from it.
    pub(crate) fn note_room(&mut self, mut measured: Measured) {
        // What is on its way to the disk has no place there yet.
        let unwritten: usize = self.history.after(self.history.durable()).map(|record| record.body().len()).sum();
        measured.free_bytes = measured.free_bytes.map(|bytes| bytes.saturating_sub(unwritten as u64));
        let used_bytes = {
            let tree = self.shared.tree();
            tree.approximate_data_size() as u64 + tree.node_count() as u64 * NODE_BYTES
        } + self.shared.budget.held_bytes() as u64;
        let before = self.room.shortage;
        let shortage = self.room.note(measured, used_bytes);
        let settings = self.room.settings;
        let board = &self.shared.room;
        board.disk.store(shortage.disk, Relaxed);
        board.memory.store(shortage.memory, Relaxed);
        board.resident_bytes.store(measured.resident_bytes.unwrap_or(0), Relaxed);
        let (free_bytes, resident_bytes) = (measured.free_bytes.unwrap_or(0), measured.resident_bytes.unwrap_or(0));
        let (floor_bytes, limit_bytes) = (settings.min_free_bytes, settings.memory_bytes);
        match (before.disk, shortage.disk) {
            (false, true) => self.log(Event::DiskShort { free_bytes, floor_bytes }),
            (true, false) => self.log(Event::DiskHasRoom { free_bytes }),
            _ => {}
        }
        match (before.memory, shortage.memory) {
            (false, true) => self.log(Event::MemoryShort { resident_bytes, limit_bytes }),
            (true, false) => self.log(Event::MemoryHasRoom { resident_bytes }),
            _ => {}
        }
    }
}

impl Core {
    /// A record is about to be logged.
    pub(crate) fn note_logged(&mut self, bytes: usize) {
        let became = self.room.note_logged(bytes);
        let settings = self.room.settings;
        if became.disk {
            self.shared.room.disk.store(true, Relaxed);
            let free_bytes = self.room.left_bytes.unwrap_or(0);
            self.log(Event::DiskShort { free_bytes, floor_bytes: settings.min_free_bytes });
        }
        if became.memory {
            self.shared.room.memory.store(true, Relaxed);
            let resident_bytes = self.room.grown_bytes.map_or(0, |(resident_bytes, _)| resident_bytes);
            self.log(Event::MemoryShort { resident_bytes, limit_bytes: settings.memory_bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: RoomSettings = RoomSettings { min_free_bytes: 1000, memory_bytes: 10_000 };

    fn disk(room: &mut Room, free_bytes: u64) -> bool {
        room.note(Measured { free_bytes: Some(free_bytes), resident_bytes: None }, 0).disk
    }

    fn memory(room: &mut Room, resident_bytes: u64, used_bytes: u64) -> bool {
        room.note(Measured { free_bytes: None, resident_bytes: Some(resident_bytes) }, used_bytes).memory
    }

    #[test]
    fn a_disk_is_short_below_the_floor_until_a_quarter_more_is_free() {
        let mut room = Room::new(SETTINGS);
        let free = [5000, 1000, 999, 1000, 1249, 1250, 1000, 999];
        assert_eq!(free.map(|free| disk(&mut room, free)), [false, false, true, true, true, false, false, true]);
        room.note(Measured::default(), 0);
        assert!(room.shortage.disk, "nothing was measured, so nothing is known to have changed");
    }

    #[test]
    fn a_disk_that_fills_up_between_two_measurements_is_short_at_once() {
        let mut room = Room::new(SETTINGS);
        assert!(!room.note_logged(usize::MAX).disk, "nothing was measured");
        assert!(!disk(&mut room, 1500));
        assert!(!room.note_logged(500).disk && room.note_logged(1).disk && !room.note_logged(1).disk);
        assert!(room.shortage.disk);
        assert!(disk(&mut room, 1249) && !disk(&mut room, 1250), "what is measured decides when it ends");
        assert_eq!(Room::new(RoomSettings::default()).note_logged(1), Shortage::default());
    }

    #[test]
    fn memory_that_is_used_up_between_two_measurements_is_short_at_once() {
        let mut room = Room::new(SETTINGS);
        assert!(!memory(&mut room, 8000, 5000));
        assert!(!room.note_logged(999).memory && room.note_logged(1).memory && !room.note_logged(1).memory);
        // A twentieth of the budget has to be freed, or the process to become smaller.
        assert!(memory(&mut room, 8999, 5501) && !memory(&mut room, 8999, 5500));
        assert!(!room.note_logged(499).memory && room.note_logged(1).memory);
        assert!(!memory(&mut room, 8499, 6000));
    }

    #[test]
    fn memory_is_short_from_nine_tenths_on_until_the_process_is_smaller() {
        let mut room = Room::new(SETTINGS);
        let resident = [8999, 9000, 8999, 8500, 8499, 8999, 9000];
        let short = resident.map(|resident| memory(&mut room, resident, 5000));
        assert_eq!(short, [false, true, true, true, false, false, true]);
    }

    #[test]
    fn memory_that_was_freed_and_that_the_process_keeps_is_used_again() {
        let mut room = Room::new(SETTINGS);
        assert!(memory(&mut room, 9200, 6000));
        assert!(memory(&mut room, 9200, 5501), "that little is not worth it");
        assert!(!memory(&mut room, 9200, 5500));
        assert!(!memory(&mut room, 9200, 5999));
        assert!(memory(&mut room, 9200, 6000), "as much as before");
        // Then it grows although nothing more is used.
        assert!(!memory(&mut room, 9200, 5500));
        assert!(memory(&mut room, 9700, 5600));
        assert!(memory(&mut room, 9700, 5101));
        assert!(!memory(&mut room, 9600, 5100));
    }

    #[test]
    fn without_limits_nothing_is_ever_short() {
        let mut room = Room::new(RoomSettings::default());
        assert!(!disk(&mut room, 0) && !memory(&mut room, u64::MAX, u64::MAX));
    }

    #[test]
    fn what_makes_data_shorter_is_never_refused() {
        let (none, disk) = (Shortage::default(), Shortage { disk: true, memory: false });
        let memory = Shortage { disk: false, memory: true };
        let refused = |shortage: Shortage| [1, 0, -1].map(|growth| shortage.refuses(growth));
        assert_eq!(refused(none), [false; 3]);
        assert_eq!(refused(disk), [true, true, false]);
        assert_eq!(refused(memory), [true, false, false]);
    }
}
