//! What one other server is still to hear, in batches.
//!
//! An instance has one entry with what happened to it, in order and shortened to what still matters. So quick changes arrive as what they came to, a
//! server that is away for long costs no more than the instances that changed meanwhile, and nothing overtakes anything: there is one batch at a time.
//! The original keeps a task for each kind of change, of which a newer one takes the place of an older one: register, cancel, register arrives as
//! register, cancel.
//!
//! What always holds here: a batch is sent when its oldest change has waited a moment, never sooner than a second after a failure, and less often
//! the longer the failures last; a change is dropped only when it means nothing any more.

use std::collections::{BTreeMap, HashMap};

use crate::Now;
use crate::application::Record;
use crate::encoding::{PeerAnswer, write_item};
use crate::holdings::{Key, size};
use crate::instance::Instance;
use crate::registry::{Override, Registry};
use crate::rest::{Change, Kind};
use crate::status::Status;

/// How long a change waits for others. The original waits half a second.
const LINGER_MS: u64 = 10;

/// The same for a heartbeat, which nobody sees.
const HEARTBEAT_LINGER_MS: u64 = 500;

/// Changes in a batch, and about how many bytes.
const MAX_CHANGES: usize = 250;
const MAX_BYTES: usize = 4 << 20;

/// Instances that are looked at for a batch while the registry is held: there may be many whose changes mean nothing any more.
const MAX_LOOKED_AT: usize = 5000;

/// After the first failure, and at most.
const FIRST_PAUSE_MS: u64 = 1000;
const LONGEST_PAUSE_MS: u64 = 16_000;

/// Instances whose changes wait. More push the oldest out; heartbeats repair what is lost.
const MAX_ENTRIES: usize = 1_000_000;

/// Changes that are to be sent to one server.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: HashMap<Key, Entry>,
    /// The entries by the moment at which each is to be sent.
    due: BTreeMap<(u64, u64), Key>,
    next: u64,
    sending: Option<Vec<(Key, Pending)>>,
    /// Nothing is sent before this.
    pause_until_ms: u64,
    failures: u32,
    dropped: u64,
    /// The server is of this kind: it is told more than the protocol knows, so that both sides find what differs.
    is_our_kind: bool,
}

#[derive(Debug)]
struct Entry {
    due: (u64, u64),
    pending: Vec<Pending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    kind: Kind,
    /// The change means nothing any more after this.
    expires_ms: u64,
}

/// What is sent at once, to be written when the registry is held no more.
#[derive(Debug)]
pub struct Batch(Vec<Item>);

#[derive(Debug)]
struct Item {
    key: Key,
    kind: Kind,
    /// The instance as it stood; none where it was cancelled.
    record: Option<Record>,
    overridden: Option<Status>,
    set: Option<Override>,
}

impl Batch {
    /// The body of the request.
    pub fn write(&self) -> Vec<u8> {
        let mut body = b"{\"replicationList\":[".to_vec();
        for (place, Item { key, kind, record, overridden, set }) in self.0.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            write_item(&mut body, key, *kind, record.as_ref(), *overridden, *set);
        }
        body.extend_from_slice(b"]}");
        body
    }
}

/// Why a batch was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server is away, slow, or asks for patience: the batch is sent again.
    Away,
    /// The server does not take the batch as it is. Sending it again would not help.
    Refused,
}

impl Outbox {
    /// Notes what a client changed.
    pub fn note(&mut self, change: &Change, registry: &Registry, now: Now) {
        let record = registry.record(&change.app, &change.id);
        let lease_ms = |seconds: i32| u64::from(seconds.unsigned_abs()) * 1000;
        let lasts_ms = match (change.kind, &record) {
            (Kind::Heartbeat, Some(record)) => lease_ms(record.instance.renewal_interval_s),
            (Kind::Cancel, _) => 2 * lease_ms(crate::DEFAULT_DURATION_S),
            // While the instance is there, which is looked at when the batch is made.
            _ => u64::MAX / 2,
        };
        let pending = Pending { kind: change.kind, expires_ms: now.steady_ms.saturating_add(lasts_ms) };
        self.add((change.app.clone(), change.id.clone()), pending, now.steady_ms);
    }

    /// When [`Outbox::batch`] has something to send, in steady time; none while a batch is under way or nothing is to be told.
    pub fn due_ms(&self) -> Option<u64> {
        if self.sending.is_some() {
            return None;
        }
        self.due.first_key_value().map(|((due_ms, _), _)| (*due_ms).max(self.pause_until_ms))
    }

    /// Instances whose changes wait, and changes that were dropped for want of room.
    pub fn waiting(&self) -> (usize, u64) {
        (self.entries.len(), self.dropped)
    }

    /// Whether the server is of this kind, as its answers say.
    pub fn is_our_kind(&mut self, is: bool) {
        self.is_our_kind = is;
    }

    /// Whether a batch is under way.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Whether the last attempt failed.
    pub fn fails(&self) -> bool {
        self.failures > 0
    }

    /// The next batch, if it is time. Each batch is to be followed by [`Outbox::answered`] or [`Outbox::failed`].
    pub fn batch(&mut self, registry: &Registry, now: Now) -> Option<Batch> {
        if self.due_ms()? > now.steady_ms {
            return None;
        }
        let (mut items, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        let mut sending = Vec::new();
        // Once something is sent at all, whatever else waits goes with it.
        while sending.len() < MAX_CHANGES && bytes < MAX_BYTES && looked_at < MAX_LOOKED_AT {
            let Some((_, key)) = self.due.pop_first() else { break };
            looked_at += 1;
            let Some(entry) = self.entries.remove(&key) else { continue };
            for pending in entry.pending {
                let record = registry.record(&key.0, &key.1);
                let matters = pending.expires_ms > now.steady_ms && (pending.kind == Kind::Cancel || record.is_some());
                if matters {
                    let (app, id) = (&key.0, &key.1);
                    let set = self.is_our_kind.then(|| registry.override_since(app, id));
                    let overridden = registry.override_of(app, id);
                    // Only a registration carries the instance.
                    let carries = record.as_ref().filter(|_| pending.kind == Kind::Register);
                    bytes += 256 + carries.map_or(0, |record| size(&record.instance));
                    items.push(Item { key: key.clone(), kind: pending.kind, record, overridden, set });
                    sending.push((key.clone(), pending));
                }
            }
        }
        if sending.is_empty() {
            return None;
        }
        self.sending = Some(sending);
        Some(Batch(items))
    }

    /// The answers to the last batch, by position. A number of answers that is not that of the changes says nothing.
    pub fn answered(&mut self, answers: Vec<PeerAnswer>, registry: &mut Registry, now: Now) {
        let sent = self.sending.take().unwrap_or_default();
        self.failures = 0;
        if answers.len() != sent.len() {
            return;
        }
        for ((key, pending), answer) in sent.into_iter().zip(answers) {
            match (answer.status, pending.kind, answer.instance) {
                (404, Kind::Heartbeat, _) => {
                    let (app, id) = key;
                    self.note(&Change { app, id, kind: Kind::Register }, registry, now);
                }
                (409, _, Some(instance)) if is(&key, &instance) => {
                    registry.adopt(*instance, answer.set, now);
                }
                _ => {}
            }
        }
    }

    /// The last batch was not answered.
    pub fn failed(&mut self, failure: Failure, now: Now) {
        let sent = self.sending.take().unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        let pause_ms = FIRST_PAUSE_MS << (self.failures - 1).min(8);
        self.pause_until_ms = now.steady_ms + pause_ms.min(LONGEST_PAUSE_MS);
        if failure == Failure::Refused {
            return;
        }
        // What was under way comes before what was noted meanwhile.
        let mut before: Vec<(Key, Vec<Pending>)> = Vec::new();
        for (key, pending) in sent {
            match before.last_mut() {
                Some((last, kinds)) if *last == key => kinds.push(pending),
                _ => before.push((key, vec![pending])),
            }
        }
        for (key, mut pending) in before {
            pending.extend(self.entries.get(&key).into_iter().flat_map(|entry| entry.pending.clone()));
            self.remove(&key);
            for pending in pending {
                self.add(key.clone(), pending, now.steady_ms);
            }
        }
    }

    fn add(&mut self, key: Key, pending: Pending, now_ms: u64) {
        let linger_ms = if pending.kind == Kind::Heartbeat { HEARTBEAT_LINGER_MS } else { LINGER_MS };
        let due = (now_ms + linger_ms, self.next);
        self.next += 1;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| {
            self.due.insert(due, key.clone());
            Entry { due, pending: Vec::new() }
        });
        if due.0 < entry.due.0 {
            self.due.remove(&entry.due);
            self.due.insert(due, key);
            entry.due = due;
        }
        shorten(&mut entry.pending, pending);
        if self.entries.len() > MAX_ENTRIES
            && let Some((_, oldest)) = self.due.pop_first()
        {
            self.entries.remove(&oldest);
            self.dropped += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.due.remove(&entry.due);
        }
    }
}

/// Adds a change to those that wait, and takes out what it makes meaningless.
fn shorten(pending: &mut Vec<Pending>, newest: Pending) {
    match newest.kind {
        Kind::Cancel => pending.clear(),
        Kind::Register => pending.retain(|older| !matches!(older.kind, Kind::Register | Kind::Heartbeat)),
        // A registration is sent as the instance then stands, and makes a new lease.
        Kind::Heartbeat => {
            if pending.iter().any(|older| older.kind == Kind::Register) {
                return;
            }
            pending.retain(|older| older.kind != Kind::Heartbeat);
        }
        Kind::StatusUpdate(_) => {
            pending.retain(|older| !matches!(older.kind, Kind::StatusUpdate(_) | Kind::DeleteStatusOverride(_)));
        }
        // An override that the other server has not heard of is set there first: without one, there is nothing to be taken away.
        Kind::DeleteStatusOverride(_) => {
            pending.retain(|older| !matches!(older.kind, Kind::DeleteStatusOverride(_)));
        }
    }
    pending.push(newest);
}

/// Whether an answer speaks of the instance that it answers for.
fn is(key: &Key, instance: &Instance) -> bool {
    key.0 == instance.app && key.1 == instance.id
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::{Action, Format, read_batch, read_instance};
    use crate::registry::{Caller, Override};
    use crate::{Settings, Status};

    fn at(ms: u64) -> Now {
        Now { wall_ms: ms as i64, steady_ms: ms }
    }

    /// Of a batch with one item: what is to be done, the status, and the override.
    fn told(outbox: &mut Outbox, registry: &Registry, now: Now) -> (Action, Option<String>, Option<Override>) {
        let batch = outbox.batch(registry, now).unwrap();
        let [item] = <[_; 1]>::try_from(read_batch(&batch.write(), now).unwrap()).unwrap();
        (item.action, item.status.map(String::from), item.set)
    }

    #[test]
    fn an_override_that_was_replaced_meanwhile_is_told_as_it_stands() {
        let mut registry = Registry::new(Settings::default(), at(0));
        let text = r#"{"instance":{"instanceId":"i","hostName":"h","app":"A","ipAddr":"1.2.3.4",
            "dataCenterInfo":{"@class":"com.netflix.appinfo.MyDataCenterInfo","name":"MyOwn"}}}"#;
        registry.register(read_instance(Format::Json, text.as_bytes(), "A", at(0)).unwrap(), Caller::Client, at(0));
        let mut ours = Outbox::default();
        ours.is_our_kind(true);
        let mut original = Outbox::default();
        registry.set_override("A", "i", Status::OutOfService, None, at(10));
        let change = Change { app: "A".into(), id: "i".into(), kind: Kind::StatusUpdate(Status::OutOfService) };
        for outbox in [&mut ours, &mut original] {
            outbox.note(&change, &registry, at(10));
        }
        // Another server was told to take it away.
        registry.override_from(("A", "i"), None, Status::Up, None, 20, at(20)).unwrap();
        let set = Some(Override { to: None, at_ms: 20 });
        let up = Some("UP".to_owned());
        assert_eq!(told(&mut ours, &registry, at(1000)), (Action::DeleteStatusOverride, up, set));
        // The original knows no times: it hears all in its order.
        let out = Some("OUT_OF_SERVICE".to_owned());
        assert_eq!(told(&mut original, &registry, at(1000)), (Action::StatusUpdate, out, None));
    }
}
