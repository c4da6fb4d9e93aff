//! No file descriptor is left while the log begins a new file and while an epoch is stored: both are done once there is one again, nothing
//! that was acknowledged before is lost, and where the want lasts nothing more is acknowledged. The limit is that of the whole process, so
//! this file has one test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rookeeper_proto::{Epoch, Zxid};
use rookeeper_store::epoch_files::{CURRENT, read_epoch, write_epoch};
use rookeeper_store::{Directories, Disk, LogWriter, RealDisk, RecoveryOptions, recover};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{History, log_options};
use tracing::span::{Attributes, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber};

/// Takes all descriptors that are left, and gives them back when it is dropped.
struct Exhausted {
    before: Rlimit,
    _taken: Vec<File>,
}

impl Exhausted {
    fn now() -> Exhausted {
        let before = getrlimit(Resource::Nofile);
        // Few enough to be taken one by one, and more than are open.
        setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: before.maximum }).unwrap();
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        Exhausted { before, _taken: taken }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.before).unwrap();
    }
}

/// Tells of every event, which here are warnings that something is tried again.
struct Told(Mutex<Sender<()>>);

impl Subscriber for Told {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &Event<'_>) {
        let _ = self.0.lock().unwrap().send(());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Runs `work`, which can't be done until there are descriptors again; they come once it has said that it waits for them.
fn while_exhausted<T: Send>(is_done: impl Fn() -> bool, work: impl FnOnce() -> T + Send) -> T {
    let exhausted = Exhausted::now();
    let (told, waits) = channel();
    thread::scope(|scope| {
        let worker = scope.spawn(move || with_default(Told(Mutex::new(told)), work));
        waits.recv().expect("it waits for a descriptor");
        assert!(!is_done(), "it was done without a descriptor");
        drop(exhausted);
        worker.join().unwrap()
    })
}

#[test]
fn want_of_descriptors_is_waited_out_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let directories = Directories::prepare(&*disk, home.path(), home.path(), true).unwrap();
    let dir = directories.log_dir.clone();
    let history = History::new(1, 3);
    let mut writer = LogWriter::new(disk.clone(), &dir, log_options(1), Zxid::ZERO);
    let append = |writer: &mut LogWriter, zxid: i64| {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).and_then(|()| writer.commit()).map(|_| ())
    };
    append(&mut writer, 1).unwrap();
    writer.roll().unwrap();
    while_exhausted(|| dir.join("log.2").exists(), || append(&mut writer, 2)).unwrap();

    write_epoch(&*disk, &dir, CURRENT, Epoch(8)).unwrap();
    let epoch = || std::fs::read_to_string(dir.join(CURRENT)).map_or(0, |text| text.trim().parse().unwrap_or(0));
    while_exhausted(|| epoch() == 9, || write_epoch(&*disk, &dir, CURRENT, Epoch(9))).unwrap();
    assert_eq!(read_epoch(&*disk, &dir, CURRENT).unwrap(), Some(Epoch(9)));

    let names = while_exhausted(|| false, || disk.list(&dir)).unwrap();
    assert!(names.contains(&CURRENT.to_owned()) && names.contains(&"log.2".to_owned()), "{names:?}");
    while_exhausted(|| false, || disk.sync_dir(&dir)).unwrap();
    while_exhausted(|| false, || disk.hold_dir(&dir)).unwrap();
    while_exhausted(|| false, || disk.open_read(&dir.join(CURRENT))).unwrap();
    while_exhausted(|| false, || disk.open_write(&dir.join(CURRENT))).unwrap();

    // The want lasts: the work is given up for a reason that is true.
    writer.roll().unwrap();
    let exhausted = Exhausted::now();
    let errors = thread::scope(|scope| {
        let storing = scope.spawn(|| write_epoch(&*disk, &dir, CURRENT, Epoch(10)).unwrap_err());
        [append(&mut writer, 3).unwrap_err(), storing.join().unwrap()]
    });
    drop(exhausted);
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("the disk is not to blame: raise the limit"), "{text}");
    }
    assert!(append(&mut writer, 3).is_err(), "nothing is taken after a failure");
    drop(writer);
    let recovery = RecoveryOptions { trust_empty_snapshot: true, ..RecoveryOptions::default() };
    assert_eq!(recover(&*disk, &directories, &recovery).unwrap().tree.last_zxid(), Zxid(2));
    assert_eq!(read_epoch(&*disk, Path::new(&dir), CURRENT).unwrap(), Some(Epoch(9)));
}
