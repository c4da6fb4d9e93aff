//! The instances that are there, and the names under which they are found.
//!
//! What always holds here: each instance is found under its application, its id and each of its virtual host names, and under nothing else; `counts`
//! and `bytes` are those of the instances that are there; whatever readers of lists can see takes back what was told last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::size_of;
use std::ops::Bound;
use std::sync::Arc;

use crate::application::{Application, Applications, Counts, Record};
use crate::instance::{ActionType, Instance};
use crate::lease::Lease;
use crate::status::Status;

/// An application and an id.
pub(crate) type Key = (Arc<str>, Arc<str>);

/// Names under which instances are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vip {
    Plain,
    Secure,
}

#[derive(Debug, Default)]
pub(crate) struct Holdings {
    apps: BTreeMap<Arc<str>, App>,
    /// The applications that have an instance of this id.
    ids: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    vips: HashMap<Box<str>, BTreeSet<Key>>,
    secure_vips: HashMap<Box<str>, BTreeSet<Key>>,
    counts: Counts,
    bytes: usize,
    /// Everything, as last told.
    told: Option<Arc<Applications>>,
}

#[derive(Debug, Default)]
struct App {
    entries: BTreeMap<Arc<str>, Entry>,
    /// As last told.
    told: Option<Arc<Application>>,
}

/// An instance and what the registry knows of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub instance: Arc<Instance>,
    pub lease: Lease,
    /// What an operator set. The original keeps these by id alone, so that two applications with one id share them.
    pub set: Option<Status>,
    /// When an override was last set or taken away, by the wall clock of the server that was asked; 0 for never. Between servers of this kind the newest
    /// wins.
    pub set_at_ms: i64,
    pub updated_ms: i64,
    pub action: ActionType,
    /// The coordination tree says when the instance ends, not its lease.
    pub is_of_tree: bool,
}

impl Entry {
    pub fn record(&self) -> Record {
        Record {
            instance: self.instance.clone(),
            times: self.lease.times,
            updated_ms: self.updated_ms,
            action: self.action,
        }
    }

    pub fn key(&self) -> Key {
        (self.instance.app.clone(), self.instance.id.clone())
    }
}

impl Holdings {
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn applications_count(&self) -> usize {
        self.apps.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn entry(&self, app: &str, id: &str) -> Option<&Entry> {
        self.apps.get(app)?.entries.get(id)
    }

    /// In the order of applications and ids.
    pub fn entries_from(&self, from: Bound<&Key>) -> impl Iterator<Item = &Entry> {
        // The rest of the application in which the last one was, and the applications behind.
        let (rest, behind) = match from {
            Bound::Included((app, _)) | Bound::Excluded((app, _)) => (self.apps.get(app), Bound::Excluded(app.clone())),
            Bound::Unbounded => (None, Bound::Unbounded),
        };
        let ids = from.map(|(_, id)| id.clone());
        let rest = rest.into_iter().flat_map(move |app| app.entries.range((ids.clone(), Bound::Unbounded)));
        let behind = self.apps.range((behind, Bound::Unbounded)).flat_map(|(_, app)| app.entries.iter());
        rest.chain(behind).map(|(_, entry)| entry)
    }

    /// Renewals of a lease change nothing that lists show. Application, id and names of an instance are not to be changed this way.
    pub fn lease(&mut self, app: &str, id: &str) -> Option<&mut Entry> {
        self.apps.get_mut(app)?.entries.get_mut(id)
    }

    /// Changes an instance, but not its names, as readers will see it.
    pub fn change(&mut self, app: &str, id: &str, change: impl FnOnce(&mut Entry, &mut Instance)) {
        let Some(held) = self.apps.get_mut(app) else { return };
        let Some(entry) = held.entries.get_mut(id) else { return };
        self.counts.remove(entry.instance.status);
        let mut instance = Instance::clone(&entry.instance);
        self.bytes -= size(&instance);
        change(entry, &mut instance);
        self.bytes += size(&instance);
        entry.instance = Arc::new(instance);
        self.counts.add(entry.instance.status);
        held.told = None;
        self.told = None;
    }

    pub fn put(&mut self, entry: Entry) {
        let (app, id) = entry.key();
        self.take(&app, &id);
        self.counts.add(entry.instance.status);
        self.bytes += size(&entry.instance);
        self.ids.entry(id.clone()).or_default().insert(app.clone());
        let instance = &entry.instance;
        for (index, list) in
            [(&mut self.vips, &instance.vip_address), (&mut self.secure_vips, &instance.secure_vip_address)]
        {
            for name in names_in(list) {
                index.entry(name.into()).or_default().insert((app.clone(), id.clone()));
            }
        }
        let held = self.apps.entry(app).or_default();
        held.entries.insert(id, entry);
        held.told = None;
        self.told = None;
    }

    pub fn take(&mut self, app: &str, id: &str) -> Option<Entry> {
        let held = self.apps.get_mut(app)?;
        let entry = held.entries.remove(id)?;
        held.told = None;
        if held.entries.is_empty() {
            self.apps.remove(app);
        }
        self.told = None;
        self.counts.remove(entry.instance.status);
        self.bytes -= size(&entry.instance);
        let key = entry.key();
        if let Some(apps) = self.ids.get_mut(id) {
            apps.remove(app);
            if apps.is_empty() {
                self.ids.remove(id);
            }
        }
        let instance = &entry.instance;
        for (index, list) in
            [(&mut self.vips, &instance.vip_address), (&mut self.secure_vips, &instance.secure_vip_address)]
        {
            for name in names_in(list) {
                if let Some(keys) = index.get_mut(name) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        index.remove(name);
                    }
                }
            }
        }
        Some(entry)
    }

    /// The instance of this id in the application whose name comes first.
    pub fn by_id(&self, id: &str) -> Option<&Entry> {
        let app = self.ids.get(id)?.first()?;
        self.entry(app, id)
    }

    pub fn by_vip(&self, kind: Vip, name: &str) -> Applications {
        let names = match kind {
            Vip::Plain => &self.vips,
            Vip::Secure => &self.secure_vips,
        };
        let keys = names.get(name).into_iter().flatten();
        Applications::group(-1, None, keys.filter_map(|(app, id)| self.entry(app, id)).map(Entry::record))
    }

    pub fn has_application(&self, app: &str) -> bool {
        self.apps.contains_key(app)
    }

    pub fn application(&mut self, app: &str) -> Option<Arc<Application>> {
        let name = self.apps.get_key_value(app)?.0.clone();
        self.apps.get_mut(app).map(|app| app.tell(&name))
    }

    pub fn applications(&mut self) -> Arc<Applications> {
        let Holdings { apps, counts, told, .. } = self;
        let tell = || {
            let applications = apps.iter_mut().map(|(name, app)| app.tell(name)).collect();
            Arc::new(Applications::new(1, counts.hash(), applications))
        };
        told.get_or_insert_with(tell).clone()
    }
}

impl App {
    fn tell(&mut self, name: &Arc<str>) -> Arc<Application> {
        let entries = &self.entries;
        let tell = || Arc::new(Application::new(name.clone(), entries.values().map(Entry::record).collect()));
        self.told.get_or_insert_with(tell).clone()
    }
}

/// The names of an instance in a list with commas.
fn names_in(list: &Option<Box<str>>) -> impl Iterator<Item = &str> {
    list.iter().flat_map(|names| names.split(','))
}

/// About how many bytes an instance takes, with what leads to it.
pub(crate) fn size(instance: &Instance) -> usize {
    let texts = [
        &instance.sid,
        &instance.app_group,
        &instance.home_page_url,
        &instance.status_page_url,
        &instance.health_check_url,
        &instance.secure_health_check_url,
        &instance.vip_address,
        &instance.secure_vip_address,
        &instance.asg_name,
    ];
    let text: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    let amazon = instance.data_center.amazon.iter().flat_map(|amazon| &amazon.metadata);
    let pairs: usize = amazon.chain(&instance.metadata).map(|(key, value)| key.len() + value.len() + 48).sum();
    // The id is a key in three places, and each name is one more.
    let names = names_in(&instance.vip_address).chain(names_in(&instance.secure_vip_address)).count() * 96;
    size_of::<Instance>()
        + size_of::<Entry>()
        + 256
        + instance.id.len()
        + instance.app.len()
        + instance.host_name.len()
        + instance.ip_addr.len()
        + text
        + pairs
        + names
}
