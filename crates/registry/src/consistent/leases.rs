//! The leases of instances that a registry keeps in the tree, in the order in which they end.
//!
//! What always holds here: each lease stands once in both, under its key and under its end.

use std::collections::{BTreeSet, HashMap};

use crate::Now;
use crate::instance::Instance;
use crate::lease::DEFAULT_DURATION_S;

/// An application and an id.
type Key = (String, String);

/// Leases by when they end. Times are steady, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Leases {
    ends: HashMap<Key, u64>,
    order: BTreeSet<(u64, Key)>,
}

impl Leases {
    /// A lease begins, or begins anew.
    pub fn begin(&mut self, key: Key, instance: &Instance, now: Now) {
        let seconds = if instance.duration_s > 0 { instance.duration_s } else { DEFAULT_DURATION_S };
        let ends_ms = now.steady_ms.saturating_add(u64::from(seconds.unsigned_abs()) * 1000);
        self.remove(&key);
        self.order.insert((ends_ms, key.clone()));
        self.ends.insert(key, ends_ms);
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some((key, ends_ms)) = self.ends.remove_entry(key) {
            self.order.remove(&(ends_ms, key));
        }
    }

    pub fn clear(&mut self) {
        *self = Leases::default();
    }

    pub fn is_over(&self, key: &Key, now: Now) -> bool {
        self.ends.get(key).is_some_and(|ends_ms| *ends_ms < now.steady_ms)
    }

    /// Leases that are over, the first that ended first.
    pub fn over(&self, now: Now) -> impl Iterator<Item = &Key> {
        self.order.iter().take_while(move |(ends_ms, _)| *ends_ms < now.steady_ms).map(|(_, key)| key)
    }

    /// When the first lease ends.
    pub fn next_ms(&self) -> Option<u64> {
        self.order.first().map(|(ends_ms, _)| *ends_ms)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::{Format, read_instance};

    fn at(seconds: u64) -> Now {
        Now { wall_ms: 0, steady_ms: seconds * 1000 }
    }

    #[test]
    fn leases_end_in_order_and_a_renewed_one_later() {
        let text = r#"{"instance":{"instanceId":"i","hostName":"h","app":"A","ipAddr":"1.2.3.4",
            "dataCenterInfo":{"@class":"com.netflix.appinfo.MyDataCenterInfo","name":"MyOwn"}}}"#;
        let instance = read_instance(Format::Json, text.as_bytes(), "A", at(0)).unwrap();
        let [first, second] = ["first", "second"].map(|id| ("A".to_owned(), id.to_owned()));
        let mut leases = Leases::default();
        leases.begin(second.clone(), &instance, at(2));
        leases.begin(first.clone(), &instance, at(1));
        assert_eq!(leases.next_ms(), Some(91_000));
        assert_eq!(leases.over(at(91)).count(), 0);
        assert_eq!(leases.over(at(93)).collect::<Vec<_>>(), [&first, &second]);
        leases.begin(first.clone(), &instance, at(50));
        assert_eq!((leases.over(at(93)).collect::<Vec<_>>(), leases.next_ms()), (vec![&second], Some(92_000)));
        assert!(leases.is_over(&second, at(93)) && !leases.is_over(&first, at(93)));
        leases.remove(&second);
        assert_eq!((leases.over(at(93)).count(), leases.next_ms()), (0, Some(140_000)));
    }
}
