//! A disk and a memory that fill up while clients write: what grows is refused before the server ends, nothing that was acknowledged is lost,
//! deletes and sessions go on, and everything is taken again once there is room.
//!
//! The disk is a small one in memory, mounted where only the server sees it; the memory is that of a control group of its own. Takes root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rookeeper_acceptance::client::{Client, DEADLINE, four_letter_word, refusal};
use rookeeper_acceptance::server::{Server, Setup};

const QUOTA_EXCEEDED: i32 = -125;

/// No node is larger.
const NODE_BYTES: usize = 200_000;

/// Writes nodes until one is refused; the names of those that were acknowledged.
fn fill(client: &mut Client) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0..20_000 {
        let name = format!("n{number:05}");
        let created = client.create(&format!("/{name}"), &vec![b'x'; NODE_BYTES]);
        match refusal(&created) {
            Some(code) => {
                assert_eq!(code, QUOTA_EXCEEDED, "{created:?}");
                return acknowledged;
            }
            None => assert!(created.is_ok(), "{created:?}, after {number} nodes"),
        }
        acknowledged.insert(name);
    }
    panic!("nothing was ever refused");
}

/// What goes on while nothing that grows is taken.
fn assert_goes_on(server: &Server, client: &mut Client, acknowledged: &mut BTreeSet<String>) {
    for _ in 0..3 {
        let name = acknowledged.pop_first().expect("there are more");
        client.delete(&format!("/{name}")).expect("a delete");
    }
    let first = format!("/{}", acknowledged.first().expect("there are more"));
    assert_eq!(client.get_data(&first).expect("a read").0.map(|data| data.len()), Some(NODE_BYTES));
    client.set_data(&first, b"short", -1).expect("it gets shorter");
    let longer = client.set_data(&first, b"longer than that", -1);
    assert_eq!(refusal(&longer), Some(QUOTA_EXCEEDED), "{longer:?}");
    let other = Client::connect(server.address()).expect("a session begins");
    other.close().expect("and ends");
}

/// Creates a node as soon as that is taken again.
fn assert_is_taken_again(client: &mut Client, path: &str) {
    let begin = Instant::now();
    loop {
        let created = client.create(path, b"");
        match refusal(&created) {
            Some(QUOTA_EXCEEDED) => assert!(begin.elapsed() < DEADLINE, "still refused after {DEADLINE:?}"),
            _ => return assert!(created.is_ok(), "{created:?}"),
        }
    }
}

fn figure(server: &Server, name: &str) -> i64 {
    let text = four_letter_word(server.address(), "mntr").expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("zk_{name}\t"))).expect("the figure is there");
    line.trim().parse().expect("a number")
}

fn runs_as_root(arguments: &[&str]) -> bool {
    Command::new(arguments[0]).args(&arguments[1..]).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_disk_that_fills_up_refuses_what_grows_until_there_is_room() {
    if !runs_as_root(&["unshare", "--mount", "bash", "-c", "mount -t tmpfs -o size=64k none /mnt"]) {
        println!("skipped: this user can't mount a disk of its own (unshare --mount, mount -t tmpfs)");
        return;
    }
    let inside = "mkdir -p data && mount -t tmpfs -o size=40m none data && \
                  head -c 10000000 /dev/zero >data/ballast && exec \"$@\"";
    let server = Setup::new()
        .script(&format!("exec unshare --mount bash -c '{inside}' bash \"$@\""))
        .config("preAllocSize", "1024")
        .config("4lw.commands.whitelist", "*")
        .config("disk.minFreeInMb", "8")
        .start()
        .expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    assert_eq!(figure(&server, "short_of_disk"), 0);
    let mut acknowledged = fill(&mut client);
    assert!(acknowledged.len() > 20, "{} nodes", acknowledged.len());
    server.wait_log("must stay free (disk.minFreeInMb)").expect("the log says so");
    assert_goes_on(&server, &mut client, &mut acknowledged);
    let first = format!("/{}", acknowledged.first().expect("there are more"));
    let as_long = client.set_data(&first, b"SHORT", -1);
    assert_eq!(refusal(&as_long), Some(QUOTA_EXCEEDED), "the log would grow: {as_long:?}");
    assert_eq!((figure(&server, "short_of_disk"), figure(&server, "short_of_memory")), (1, 0));
    assert!(figure(&server, "growing_writes_refused") >= 3);

    // Another process makes room.
    let root = PathBuf::from(format!("/proc/{}/root", server.process_id().expect("it runs")));
    let data = root.join(server.data_dir().strip_prefix("/").expect("an absolute path"));
    fs::remove_file(data.join("ballast")).expect("the ballast is there");
    assert_is_taken_again(&mut client, "/again");
    server.wait_log("writes that grow are taken again").expect("the log says so");
    assert_eq!(figure(&server, "short_of_disk"), 0);

    // What the disk has is what was acknowledged.
    let copy = tempfile::tempdir().expect("a directory");
    copy_tree(&data, copy.path());
    drop((client, server));
    let again = Setup::new().data_dir(copy.path()).start().expect("the copy starts");
    let mut client = Client::connect(again.address()).expect("a session");
    let mut found: BTreeSet<String> = client.children("/").expect("a list").into_iter().collect();
    assert!(found.remove("again") && found.remove("zookeeper"));
    assert_eq!(found, acknowledged);
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            fs::create_dir(&target).expect("a new directory");
            copy_tree(&entry.path(), &target);
        } else if entry.file_name() != ".rookeeper.lock" {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

/// A control group with this limit, removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(limit_bytes: u64) -> Option<Group> {
        let first = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = match first.is_dir() {
            true => (first, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let path = root.join(format!("rookeeper-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Group(path);
        fs::write(group.0.join(limit), limit_bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begin = Instant::now();
        // The kernel lets go of a process a little after its end.
        while fs::remove_dir(&self.0).is_err() && begin.elapsed() < DEADLINE {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_memory_that_fills_up_refuses_what_grows_until_there_is_room() {
    const LIMIT_BYTES: u64 = 160 << 20;
    let Some(group) = Group::new(LIMIT_BYTES) else {
        println!("skipped: this user can't make a control group with a limit on memory");
        return;
    };
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.0.display());
    let server = Setup::new().script(&enter).config("4lw.commands.whitelist", "*").start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    assert_eq!(figure(&server, "memory_limit_bytes"), LIMIT_BYTES as i64);
    let mut acknowledged = fill(&mut client);
    server.wait_log("are its budget (memory.max)").expect("the log says so");
    assert_goes_on(&server, &mut client, &mut acknowledged);
    let found: BTreeSet<String> = client.children("/").expect("a list").into_iter().collect();
    assert!(acknowledged.iter().all(|name| found.contains(name)));
    assert_eq!((figure(&server, "short_of_memory"), figure(&server, "short_of_disk")), (1, 0));
    let used = acknowledged.len() * NODE_BYTES;
    assert!(used as u64 > LIMIT_BYTES / 2, "{used} bytes of data were taken");
    for name in acknowledged.iter().skip(acknowledged.len() / 2) {
        client.delete(&format!("/{name}")).expect("a delete");
    }
    assert_is_taken_again(&mut client, "/again");
    server.wait_log("writes that grow are taken again").expect("the log says so");
    drop((client, server));
    drop(group);
}
