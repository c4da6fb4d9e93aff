//! Seats for connections: some in all, some for one address.
//!
//! What always holds here: no more seats are taken than there are; one address can't take all of them; a seat is free again as soon as the
//! connection that had it is gone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    most: usize,
    most_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    per_address: HashMap<IpAddr, usize>,
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    address: IpAddr,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All seats are taken.
    InAll,
    /// All those that one address may have.
    OfAddress,
}

impl Seats {
    pub fn new(most: usize, most_per_address: usize) -> Seats {
        Seats(Arc::new(Counted { most, most_per_address, taken: Mutex::default() }))
    }

    pub fn take(&self, address: IpAddr) -> Result<Seat, Full> {
        let mut taken = self.0.taken.lock();
        if taken.all >= self.0.most {
            return Err(Full::InAll);
        }
        let of_this = taken.per_address.get(&address).copied().unwrap_or(0);
        if of_this >= self.0.most_per_address {
            return Err(Full::OfAddress);
        }
        taken.per_address.insert(address, of_this + 1);
        taken.all += 1;
        Ok(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.per_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn one_address_does_not_take_all_seats() {
        let seats = Seats::new(128, 16);
        let of_one: Vec<Seat> = std::iter::from_fn(|| seats.take(address(1)).ok()).collect();
        assert_eq!(of_one.len(), 16);
        assert_eq!(seats.take(address(1)).unwrap_err(), Full::OfAddress);
        let others: Vec<Seat> = (2..=255).filter_map(|last| seats.take(address(last)).ok()).collect();
        assert_eq!(of_one.len() + others.len(), 128);
        assert_eq!(seats.take(address(255)).unwrap_err(), Full::InAll);
        drop(of_one);
        assert!(seats.take(address(1)).is_ok());
        drop(others);
        let taken = seats.0.taken.lock();
        assert!(taken.all == 0 && taken.per_address.is_empty(), "{taken:?}");
    }
}
