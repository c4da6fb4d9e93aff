//! Addresses and networks of the ACL scheme `ip`.
//!
//! The text forms are the original's, not those of the standard library: IPv4 takes leading zeros, IPv6 takes no embedded IPv4.

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rookeeper_proto::Permissions;

/// An address with a number of leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    address: Address,
    bits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    V4(u32),
    V6(u128),
}

impl Network {
    /// `address` or `address/bits`.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address = Address::parse(address)?;
        let length = match address {
            Address::V4(_) => 32,
            Address::V6(_) => 128,
        };
        let bits = bits.map_or(Some(length), |bits| bits.parse().ok())?;
        (bits <= length).then_some(Network { address, bits })
    }

    /// Whether the address of a connection is in it. Families never match each other.
    pub(crate) fn contains(self, address: &str) -> bool {
        Address::of_connection(address).is_some_and(|address| self.address.first(self.bits) == address.first(self.bits))
    }
}

/// What the networks of a long list grant. An address is looked up once per length of network there is, at most 162 times.
pub(crate) struct Networks {
    granted: HashMap<Network, Permissions, FixedState>,
    lengths: BTreeSet<u32>,
}

impl Networks {
    /// Text that is no network grants nothing.
    pub(crate) fn new<'a>(networks: impl Iterator<Item = (&'a str, Permissions)>, seed: u64) -> Networks {
        let mut granted: HashMap<Network, Permissions, FixedState> = HashMap::with_hasher(FixedState::with_seed(seed));
        let mut lengths = BTreeSet::new();
        for (text, permissions) in networks {
            let Some(Network { address, bits }) = Network::parse(text) else { continue };
            let network = Network { address: address.first(bits), bits };
            granted.entry(network).and_modify(|granted| *granted = granted.union(permissions)).or_insert(permissions);
            lengths.insert(bits);
        }
        Networks { granted, lengths }
    }

    pub(crate) fn granted(&self, address: &str) -> Permissions {
        let Some(address) = Address::of_connection(address) else { return Permissions(0) };
        let found = self.lengths.iter().filter_map(|bits| {
            let network = Network { address: address.first(*bits), bits: *bits };
            self.granted.get(&network)
        });
        found.fold(Permissions(0), |granted, permissions| granted.union(*permissions))
    }
}

impl Address {
    /// A link-local address comes with the interface it was seen on.
    fn of_connection(text: &str) -> Option<Address> {
        text.split('%').next().and_then(Address::parse)
    }

    /// With all but the first `bits` bits cleared.
    fn first(self, bits: u32) -> Address {
        match self {
            Address::V4(address) => Address::V4(address & !u32::MAX.checked_shr(bits).unwrap_or(0)),
            Address::V6(address) => Address::V6(address & !u128::MAX.checked_shr(bits).unwrap_or(0)),
        }
    }

    fn parse(text: &str) -> Option<Address> {
        if text.contains(':') { parse_v6(text).map(Address::V6) } else { parse_v4(text).map(Address::V4) }
    }
}

fn parse_v4(text: &str) -> Option<u32> {
    let mut parts = text.split('.');
    let mut address = 0;
    for _ in 0..4 {
        address = address << 8 | u32::from(parts.next()?.parse::<u8>().ok()?);
    }
    parts.next().is_none().then_some(address)
}

fn parse_v6(text: &str) -> Option<u128> {
    let segments = |text: &str| -> Option<Vec<u16>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let digits = |segment: &str| (1..=4).contains(&segment.len()) && segment.bytes().all(|b| b.is_ascii_hexdigit());
        let segments = text
            .split(':')
            .take(9)
            .map(|segment| digits(segment).then(|| u16::from_str_radix(segment, 16).ok()).flatten());
        segments.collect()
    };
    let (head, tail) = match text.split_once("::") {
        Some((head, tail)) => {
            let (head, tail) = (segments(head)?, segments(tail)?);
            (head.len() + tail.len() < 8).then_some((head, tail))?
        }
        None => {
            let head = segments(text)?;
            (head.len() == 8).then_some((head, Vec::new()))?
        }
    };
    let gap = std::iter::repeat_n(&0, 8 - head.len() - tail.len());
    Some(head.iter().chain(gap).chain(&tail).fold(0, |address, segment| address << 16 | u128::from(*segment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for text in
            ["1.2.3.4", "010.0.0.1", "1.2.3.4/0", "1.2.3.4/32", "::", "::1", "1::", "1:2:3:4:5:6:7:8", "::1/128"]
        {
            assert!(Network::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.x",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/",
            "1.2.3.4/a",
            ":",
            ":::",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1::2::3",
            "1:2:3:4:5:6:7::8",
            "12345::",
            "g::",
            "::1.2.3.4",
            "::1/129",
            "+1::",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn masks() {
        let contains = |network: &str, address: &str| Network::parse(network).unwrap().contains(address);
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1", "10.0.0.2"));
        assert!(contains("10.0.0.255/31", "10.0.0.254") && !contains("10.0.0.255/31", "10.0.0.253"));
        assert!(contains("10.0.0.1/0", "200.1.1.1") && !contains("10.0.0.1/0", "::1"));
        assert!(contains("::/0", "ff::1") && !contains("::/0", "1.2.3.4"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::1", "0:0:0:0:0:0:0:1%lo") && !contains("1.2.3.4", "nonsense"));
    }
}
