//! The room for bodies that are arriving.
//!
//! What always holds here: room is taken as bytes arrive, never for what is only announced; the first few kilobytes of a body, in which an ordinary
//! registration fits, need none, so no stranger can keep an instance from registering; where there is no room, the body that has been arriving for the
//! longest is given up, first among those of an address that has more than its part. So whoever sends slowly loses against whoever sends.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes of each body that need no room. The number of connections bounds them.
    pub free_bytes: usize,
    /// Bytes of all bodies beyond that.
    pub most_bytes: usize,
    /// The same of one address.
    pub most_of_address: usize,
}

/// A body that is arriving or being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(u64);

/// Bodies that are arriving or being worked on.
#[derive(Debug)]
pub struct Bodies {
    limits: BodyLimits,
    next: u64,
    /// Oldest first.
    held: BTreeMap<BodyId, Held>,
    of_address: HashMap<IpAddr, usize>,
    bytes: usize,
    given_up: u64,
}

#[derive(Debug)]
struct Held {
    address: IpAddr,
    /// That came so far.
    length: usize,
    /// For which there is room here.
    counted: usize,
    is_complete: bool,
}

impl Bodies {
    pub fn new(limits: BodyLimits) -> Bodies {
        let (held, of_address) = (BTreeMap::new(), HashMap::new());
        Bodies { limits, next: 0, held, of_address, bytes: 0, given_up: 0 }
    }

    /// A body begins. It is to be ended with [`Bodies::end`].
    pub fn begin(&mut self, address: IpAddr) -> BodyId {
        let id = BodyId(self.next);
        self.next += 1;
        self.held.insert(id, Held { address, length: 0, counted: 0, is_complete: false });
        id
    }

    /// Bytes of a body came. Returns the bodies that are given up for them, perhaps this one: they are ended already.
    pub fn grow(&mut self, id: BodyId, bytes: usize) -> Vec<BodyId> {
        let Some(held) = self.held.get_mut(&id) else { return vec![id] };
        held.length = held.length.saturating_add(bytes);
        let more = held.length.saturating_sub(self.limits.free_bytes) - held.counted;
        held.counted += more;
        let address = held.address;
        self.bytes += more;
        *self.of_address.entry(address).or_default() += more;
        let mut gone = Vec::new();
        while self.of_address.get(&address).is_some_and(|bytes| *bytes > self.limits.most_of_address) {
            if !self.give_up_oldest(Some(address), id, &mut gone) {
                break;
            }
        }
        while self.bytes > self.limits.most_bytes && self.give_up_oldest(None, id, &mut gone) {}
        gone
    }

    /// All of a body has come. It is worked on now, which is soon over, and is not given up any more.
    pub fn complete(&mut self, id: BodyId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.is_complete = true;
        }
    }

    /// The body is gone.
    pub fn end(&mut self, id: BodyId) {
        let Some(held) = self.held.remove(&id) else { return };
        self.bytes -= held.counted;
        if let Some(bytes) = self.of_address.get_mut(&held.address) {
            *bytes -= held.counted;
            if *bytes == 0 {
                self.of_address.remove(&held.address);
            }
        }
    }

    /// Bytes for which room is taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bodies that were given up for others since the start.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Gives up the body that has been arriving for the longest and takes room; where there is none, the one that wants more. False when that
    /// one is gone as well, so that nothing is left to give up.
    fn give_up_oldest(&mut self, of: Option<IpAddr>, newest: BodyId, gone: &mut Vec<BodyId>) -> bool {
        let fits = |held: &Held| held.counted > 0 && !held.is_complete && of.is_none_or(|of| of == held.address);
        let oldest = self.held.iter().find(|(_, held)| fits(held)).map(|(id, _)| *id);
        let Some(oldest) = oldest.or_else(|| self.held.contains_key(&newest).then_some(newest)) else { return false };
        self.end(oldest);
        self.given_up += 1;
        gone.push(oldest);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits { free_bytes: 4, most_bytes: 100, most_of_address: 60 };

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn small_bodies_need_no_room() {
        let mut bodies = Bodies::new(LIMITS);
        let large = bodies.begin(address(1));
        assert_eq!(bodies.grow(large, 64), []);
        for _ in 0..1000 {
            let small = bodies.begin(address(1));
            assert_eq!(bodies.grow(small, 4), []);
        }
        assert_eq!(bodies.bytes(), 60);
    }

    #[test]
    fn the_oldest_of_an_address_makes_room_for_its_newer_ones() {
        let mut bodies = Bodies::new(LIMITS);
        let [first, second, third] = [1, 1, 2].map(|number| bodies.begin(address(number)));
        assert_eq!(bodies.grow(third, 34), []);
        assert_eq!(bodies.grow(second, 34), []);
        assert_eq!(bodies.grow(first, 34), []);
        assert_eq!(bodies.grow(second, 1), [first]);
        assert_eq!((bodies.bytes(), bodies.given_up()), (61, 1));
    }

    #[test]
    fn slow_bodies_of_many_addresses_make_room_for_a_quick_one() {
        let mut bodies = Bodies::new(LIMITS);
        let slow: Vec<BodyId> = (1..=4).map(|number| bodies.begin(address(number))).collect();
        for id in &slow {
            assert_eq!(bodies.grow(*id, 29), []);
        }
        let quick = bodies.begin(address(9));
        assert_eq!(bodies.grow(quick, 54), slow[..2]);
        bodies.complete(quick);
        // What is worked on stays.
        let another = bodies.begin(address(8));
        assert_eq!(bodies.grow(another, 54), slow[2..]);
        let last = bodies.begin(address(7));
        assert_eq!(bodies.grow(last, 10), [another]);
        assert_eq!(bodies.grow(another, 1), [another], "who was given up is told so");
    }

    proptest! {
        /// Whatever happens in whatever order, the room is never exceeded by what arrives, and all of it is free in the end.
        #[test]
        fn the_room_is_never_exceeded(steps in prop::collection::vec((0u8..5, 0u8..3, 0usize..80), 1..200)) {
            let mut bodies = Bodies::new(LIMITS);
            let mut lives: Vec<BodyId> = Vec::new();
            for (step, number, bytes) in steps {
                let chosen = lives.get(bytes % lives.len().max(1)).copied();
                match (step, chosen) {
                    (1, Some(id)) | (2, Some(id)) => {
                        let gone = bodies.grow(id, bytes);
                        lives.retain(|id| !gone.contains(id));
                    }
                    (3, Some(id)) => {
                        bodies.end(id);
                        lives.retain(|other| *other != id);
                    }
                    (4, Some(id)) => bodies.complete(id),
                    _ => lives.push(bodies.begin(address(number))),
                }
                prop_assert!(bodies.bytes() <= LIMITS.most_bytes);
                prop_assert!(bodies.of_address.values().all(|bytes| *bytes <= LIMITS.most_of_address));
                prop_assert_eq!(bodies.bytes(), bodies.of_address.values().sum::<usize>());
            }
            lives.into_iter().for_each(|id| bodies.end(id));
            prop_assert_eq!((bodies.bytes(), bodies.of_address.len()), (0, 0));
        }
    }
}
