//! An access control list as the tree keeps it, with what makes a check cost the same however long the list is.
//!
//! What always holds: a list never changes once it is made; it grants what its entries grant one by one; a check looks at each identity
//! of the caller a fixed number of times, whatever the number of entries. Lists come from clients, so the index is seeded, see
//! [`crate::Tree::with_seed`].
//!
//! Counterpart in the original: `ZooKeeperServer.checkACL`, which compares every entry with every identity.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashTable};
use rookeeper_proto::{Acl, Id, Permissions};

use crate::access::{AccessConfig, Scheme};
use crate::ip::Networks;

const NOTHING: Permissions = Permissions(0);

/// Up to this many comparisons of an entry with an identity cost less than the index does.
const FEW_COMPARISONS: usize = 64;

/// See the module's documentation. Reads as a slice of its entries.
pub struct AccessList {
    entries: Box<[Acl]>,
    /// What it grants to whoever asks.
    everybody: Permissions,
    seed: u64,
    /// Made by the first check that needs it.
    index: OnceLock<Box<Index>>,
}

impl AccessList {
    /// A list of these entries, in their order; for the seed see [`Tree::with_seed`](crate::Tree::with_seed).
    pub fn new(entries: Vec<Acl>, seed: u64) -> AccessList {
        let for_everybody = |entry: &&Acl| entry.id.scheme == "world" && entry.id.id == "anyone";
        let everybody = union(entries.iter().filter(for_everybody).map(|entry| entry.permissions));
        AccessList { entries: entries.into(), everybody, seed, index: OnceLock::new() }
    }

    /// Whether a connection with these identities may do something. One of the wanted permissions in an entry that matches is enough.
    pub fn allows(&self, wanted: Permissions, identities: &[Id], config: &AccessConfig) -> bool {
        self.is_allowed_to_all(wanted, identities, config) || self.granted(identities, config).intersects(wanted)
    }

    /// Whether it can be told without a look at the entries that something is allowed.
    fn is_allowed_to_all(&self, wanted: Permissions, identities: &[Id], config: &AccessConfig) -> bool {
        config.skip_acl
            || self.everybody.intersects(wanted)
            || self.entries.is_empty()
            || identities.iter().any(|identity| identity.scheme == "super")
    }

    fn is_short_for(&self, identities: &[Id]) -> bool {
        self.entries.len() * identities.len() <= FEW_COMPARISONS
    }

    fn granted(&self, identities: &[Id], config: &AccessConfig) -> Permissions {
        if self.is_short_for(identities) {
            return self.compare_all(identities, config);
        }
        let index = self.index.get_or_init(|| Box::new(Index::new(&self.entries, self.seed)));
        identities.iter().fold(NOTHING, |granted, identity| {
            let Some(scheme) = Scheme::registered(&identity.scheme, config) else { return granted };
            granted.union(index.granted(&self.entries, scheme, identity, config))
        })
    }

    /// Without the index.
    fn compare_all(&self, identities: &[Id], config: &AccessConfig) -> Permissions {
        let granting = self.entries.iter().filter(|Acl { id, .. }| {
            Scheme::registered(&id.scheme, config).is_some_and(|scheme| {
                let mut of_scheme = identities.iter().filter(|identity| identity.scheme == id.scheme);
                of_scheme.any(|identity| scheme.matches(&identity.id, &id.id, config))
            })
        });
        union(granting.map(|entry| entry.permissions))
    }
}

fn union(permissions: impl Iterator<Item = Permissions>) -> Permissions {
    permissions.fold(NOTHING, Permissions::union)
}

impl Deref for AccessList {
    type Target = [Acl];

    fn deref(&self) -> &[Acl] {
        &self.entries
    }
}

impl PartialEq for AccessList {
    fn eq(&self, other: &AccessList) -> bool {
        self.entries == other.entries
    }
}

impl Eq for AccessList {}

impl Hash for AccessList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries.hash(state);
    }
}

impl std::fmt::Debug for AccessList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entries.fmt(f)
    }
}

/// The entries of a list that may not exist yet, to look for it.
#[derive(Hash)]
pub(crate) struct Entries<'a>(pub &'a [Acl]);

impl Equivalent<Arc<AccessList>> for Entries<'_> {
    fn equivalent(&self, list: &Arc<AccessList>) -> bool {
        *self.0 == *list.entries
    }
}

/// What each id of a long list is granted.
struct Index {
    hasher: FixedState,
    /// The first entry with an id, and what all entries with this id grant.
    by_id: HashTable<(u32, Permissions)>,
    networks: Networks,
    /// What all entries of the scheme grant together, for those who match each of them.
    any_sasl: Permissions,
    any_x509: Permissions,
}

impl Index {
    fn new(entries: &[Acl], seed: u64) -> Index {
        let hasher = FixedState::with_seed(seed);
        let mut by_id: HashTable<(u32, Permissions)> = HashTable::with_capacity(entries.len());
        for (position, entry) in entries.iter().enumerate() {
            let same = |(other, _): &(u32, Permissions)| entries[*other as usize].id == entry.id;
            let rehash = |(other, _): &(u32, Permissions)| hasher.hash_one(&entries[*other as usize].id);
            by_id
                .entry(hasher.hash_one(&entry.id), same, rehash)
                .and_modify(|(_, granted)| *granted = granted.union(entry.permissions))
                .or_insert((position as u32, entry.permissions));
        }
        let of_scheme = |name: &'static str| {
            entries.iter().filter(move |entry| entry.id.scheme == name).map(|entry| entry.permissions)
        };
        let networks = entries.iter().filter(|entry| entry.id.scheme == "ip");
        Index {
            networks: Networks::new(networks.map(|entry| (&*entry.id.id, entry.permissions)), seed),
            any_sasl: union(of_scheme("sasl")),
            any_x509: union(of_scheme("x509")),
            hasher,
            by_id,
        }
    }

    /// What [`Scheme::matches`] says of all entries at once.
    fn granted(&self, entries: &[Acl], scheme: Scheme, identity: &Id, config: &AccessConfig) -> Permissions {
        match scheme {
            Scheme::Digest => self.named(entries, identity),
            Scheme::Ip => self.networks.granted(&identity.id),
            Scheme::Sasl if identity.id == "super" => self.any_sasl,
            Scheme::Sasl => {
                let everybodys = config.any_sasl_user.as_ref().map(|user| Id::new("sasl", user.clone()));
                let granted = everybodys.map_or(NOTHING, |id| self.named(entries, &id));
                granted.union(self.named(entries, identity))
            }
            Scheme::X509 if config.x509_super_user.as_deref() == Some(&identity.id) => self.any_x509,
            Scheme::X509 => self.named(entries, identity),
        }
    }

    fn named(&self, entries: &[Acl], identity: &Id) -> Permissions {
        let found =
            self.by_id.find(self.hasher.hash_one(identity), |(other, _)| entries[*other as usize].id == *identity);
        found.map_or(NOTHING, |(_, granted)| *granted)
    }
}

/// How many lists are remembered.
const REMEMBERED: usize = 16;

/// What long lists grant to one set of identities, remembered while one batch of requests is looked at. It holds the lists, so one list
/// is never taken for another.
#[derive(Debug, Default)]
pub struct Verdicts {
    lists: Option<Box<[Option<Verdict>; REMEMBERED]>>,
}

/// A list, and what it grants.
type Verdict = (Arc<AccessList>, Permissions);

impl Verdicts {
    /// As [`AccessList::allows`]. Every call must come with the same identities.
    pub fn allow(
        &mut self,
        list: &Arc<AccessList>,
        wanted: Permissions,
        identities: &[Id],
        config: &AccessConfig,
    ) -> bool {
        if list.is_short_for(identities) || list.is_allowed_to_all(wanted, identities, config) {
            return list.allows(wanted, identities, config);
        }
        let lists = self.lists.get_or_insert_default();
        let slot = &mut lists[(Arc::as_ptr(list).addr() >> 6) % REMEMBERED];
        let granted = match slot {
            Some((known, granted)) if Arc::ptr_eq(known, list) => *granted,
            _ => {
                let granted = list.granted(identities, config);
                *slot = Some((list.clone(), granted));
                granted
            }
        };
        granted.intersects(wanted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn configs() -> impl Strategy<Value = AccessConfig> {
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(digest, others, crowd, root)| {
            AccessConfig {
                digest_enabled: digest,
                sasl_enabled: others,
                x509_enabled: others,
                any_sasl_user: crowd.then(|| "a".to_owned()),
                x509_super_user: root.then(|| "b".to_owned()),
                ..AccessConfig::default()
            }
        })
    }

    fn ids(schemes: &'static [&'static str]) -> impl Strategy<Value = Id> {
        let names =
            vec!["a", "b", "super", "anyone", "10.0.0.1", "10.0.0.0/8", "10.0.0.1/31", "0.0.0.0/0", "::1", "::/64"];
        (prop::sample::select(schemes), prop::sample::select(names)).prop_map(|(scheme, name)| Id::new(scheme, name))
    }

    fn lists() -> impl Strategy<Value = Vec<Acl>> {
        let entry = (0_i32..32, ids(&["digest", "ip", "sasl", "x509", "world", "none"]));
        prop::collection::vec(entry.prop_map(|(permissions, id)| Acl::new(Permissions(permissions), id)), 0..40)
    }

    proptest! {
        /// The index says what the comparison of each entry with each identity says, remembered or not.
        #[test]
        fn a_long_list_grants_what_its_entries_grant(
            entries in prop::collection::vec(lists(), 1..4),
            identities in prop::collection::vec(ids(&["digest", "ip", "sasl", "x509", "super"]), 0..12),
            wanted in prop::collection::vec((0_usize..4, 0_i32..32), 1..8),
            config in configs(),
        ) {
            let lists: Vec<_> = entries.into_iter().map(|list| Arc::new(AccessList::new(list, 7))).collect();
            let mut verdicts = Verdicts::default();
            for (list, wanted) in wanted {
                let (list, wanted) = (&lists[list % lists.len()], Permissions(wanted));
                let expected = list.is_allowed_to_all(wanted, &identities, &config)
                    || list.compare_all(&identities, &config).intersects(wanted);
                prop_assert_eq!(list.allows(wanted, &identities, &config), expected);
                prop_assert_eq!(verdicts.allow(list, wanted, &identities, &config), expected);
            }
        }
    }

    /// Compares what a check looks at, not how long it takes: 16,000 entries against 200 identities are 3.2 million comparisons.
    #[test]
    fn a_check_of_a_huge_list_looks_up_each_identity_once() {
        let id = |number: usize| Id::new("digest", format!("user{number}:hash"));
        let entries = (0..16_000).map(|number| Acl::new(Permissions::READ, id(number))).collect();
        let list = AccessList::new(entries, 3);
        let identities: Vec<_> = (15_900..16_100).map(id).collect();
        let config = AccessConfig::default();
        // Without the index this loop takes minutes.
        for _ in 0..1000 {
            assert!(list.allows(Permissions::READ, &identities, &config));
            assert!(!list.allows(Permissions::READ, &identities[100..], &config));
        }
        assert_eq!(list.index.get().map(|index| index.by_id.len()), Some(16_000));
    }
}
