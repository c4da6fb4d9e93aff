//! The paths that one watcher waits for.
//!
//! What always holds: no path is in it twice; it can be emptied and looked through from its end in portions while paths come and go. Such a
//! look meets every path that is there all the time at least once: what is removed is replaced by the last path, which was met already.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::segmented_table::SegmentedTable;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WatchedPaths {
    paths: Vec<Arc<str>>,
    /// Length of all paths.
    path_bytes: usize,
    /// What the watcher's recursive watches take besides.
    recursive_bytes: usize,
    /// Positions in `paths`, by the hash of what stands there.
    positions: SegmentedTable<u32>,
    hasher: FixedState,
}

impl WatchedPaths {
    pub(crate) fn new(hasher: FixedState) -> WatchedPaths {
        WatchedPaths { paths: Vec::new(), path_bytes: 0, recursive_bytes: 0, positions: SegmentedTable::new(), hasher }
    }

    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Length of all paths.
    pub(crate) fn path_bytes(&self) -> usize {
        self.path_bytes
    }

    pub(crate) fn recursive_bytes(&self) -> usize {
        self.recursive_bytes
    }

    pub(crate) fn recursive_bytes_mut(&mut self) -> &mut usize {
        &mut self.recursive_bytes
    }

    pub(crate) fn insert(&mut self, path: Arc<str>) {
        let WatchedPaths { paths, path_bytes, positions, hasher, .. } = self;
        let is_it = |position: &u32| paths[*position as usize] == path;
        let (hash, next) = (hasher.hash_one(&*path), paths.len() as u32);
        if *positions.find_or_insert_with(hash, is_it, || next) == next {
            *path_bytes += path.len();
            paths.push(path);
        }
    }

    pub(crate) fn remove(&mut self, path: &str) {
        let WatchedPaths { paths, path_bytes, positions, hasher, .. } = self;
        let is_it = |position: &u32| &*paths[*position as usize] == path;
        let Some(position) = positions.remove(hasher.hash_one(path), is_it) else { return };
        *path_bytes -= path.len();
        let last = paths.len() as u32 - 1;
        if position != last {
            let of_last = positions.find_mut(hasher.hash_one(&*paths[last as usize]), |position| *position == last);
            *of_last.expect("every path has a position") = position;
        }
        paths.swap_remove(position as usize);
        if paths.capacity() > 64 && paths.len() < paths.capacity() / 4 {
            paths.shrink_to(paths.len() * 2);
        }
    }

    pub(crate) fn last(&self) -> Option<&Arc<str>> {
        self.paths.last()
    }

    /// At most `limit` of the first `end` paths, the last of them first.
    pub(crate) fn before(&self, end: usize, limit: usize) -> impl ExactSizeIterator<Item = &Arc<str>> {
        let end = end.min(self.paths.len());
        self.paths[end.saturating_sub(limit)..end].iter().rev()
    }
}
