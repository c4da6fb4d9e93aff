//! Backups by the binary: of servers under load, of Apache ZooKeeper too, and what starts from what is restored.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rookeeper_acceptance::client::{Client, server_zxid};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::fixture::data_directories;
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};
use rookeeper_acceptance::tree::{self, Tree};
use rookeeper_acceptance::wire::Acl;

fn ran(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(rookeeper_binary().expect("the binary is built"));
    let output = command.args(arguments).output().expect("the command runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("no signal"), text)
}

fn done(arguments: &[&str]) -> String {
    let (code, text) = ran(arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Writes what a history has: nodes that come, change and go, also several at a time.
fn write_some(client: &mut Client, from: usize, count: usize) {
    for number in from..from + count {
        let path = format!("/n{number}");
        client.create(&path, format!("value {number}").as_bytes()).expect("a node");
        client.set_data(&path, &vec![b'x'; number % 300], -1).expect("a change");
        if number % 3 == 0 {
            client.delete(&path).expect("it goes");
        }
    }
}

fn tree_of(server: &Server) -> Tree {
    let mut client = Client::connect(server.address()).expect("a session");
    let tree = tree::fetch(&mut client).expect("the tree");
    client.close().expect("it ends");
    tree
}

#[test]
fn a_backup_under_load_goes_back_to_a_chosen_transaction_and_both_servers_start_from_it() {
    for product in [Product::Rookeeper, Product::Apache] {
        let home = tempfile::tempdir().expect("a directory");
        let server = Setup::of(product)
            .config("snapCount", "400")
            .config("autopurge.purgeInterval", "0")
            .property("-Dzookeeper.snapCount=400")
            .start()
            .expect("the server starts");
        let mut client = Client::connect(server.address()).expect("a session");
        write_some(&mut client, 0, 60);
        client.create_with("/mine", Some(b"while I live"), &Acl::open(), 1).expect("a node");
        let zxid = server_zxid(server.address()).expect("srvr");
        let expected = tree::fetch(&mut client).expect("the tree");
        let (backup, stop) = (home.path().join("backup"), AtomicBool::new(false));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut writer = Client::connect(server.address()).expect("a session");
                let mut from = 1000;
                while !stop.load(Ordering::Relaxed) {
                    write_some(&mut writer, from, 10);
                    from += 10;
                }
                from
            });
            // So many that several logs and snapshots were begun since.
            while server_zxid(server.address()).expect("srvr") < zxid + 1500 {
                thread::yield_now();
            }
            let taken = done(&["backup", "--history", "--data-dir", shown(&server.data_dir()), shown(&backup)]);
            stop.store(true, Ordering::Relaxed);
            assert!(writer.join().expect("it writes") > 1000);
            assert!(taken.contains("its digest is the one that the server recorded"), "{taken}");
        });
        let sound = done(&["verify", shown(&backup)]);
        assert!(sound.contains(": sound. Taken "), "{sound}");
        drop(server);

        for next in [Product::Rookeeper, Product::Apache] {
            let target = home.path().join(format!("{next:?}"));
            let told = done(&["restore", "--to-zxid", &format!("0x{zxid:x}"), shown(&backup), shown(&target)]);
            assert!(told.contains("as the server recorded it"), "{told}");
            let server = Setup::of(next).data_dir(&target).start().expect("a server starts from it");
            let found = tree_of(&server);
            assert_eq!(tree::differences(&expected, &found), Vec::<String>::new(), "{product:?}, {next:?}");
            // What comes now comes behind it.
            let mut client = Client::connect(server.address()).expect("a session");
            let stat_of = |path: &str, client: &mut Client| client.exists(path).expect("an answer").expect("a node");
            client.create("/later", b"").expect("it writes");
            assert!(stat_of("/later", &mut client).czxid > zxid);
        }
    }
}

#[test]
fn an_ensemble_goes_on_from_a_backup_with_its_clients_numbers_behind_it() {
    for product in [Product::Rookeeper, Product::Apache] {
        let home = tempfile::tempdir().expect("a directory");
        let mut ensemble = Plan::of(&[product; 3]).start().expect("the ensemble forms");
        let leader = ensemble.leader().expect("a leader");
        let mut client = ensemble.connect(leader).expect("a session");
        write_some(&mut client, 0, 20);
        let zxid = ensemble.wait_same_zxid().expect("they agree");
        let expected = tree::fetch(&mut client).expect("the tree");
        client.create("/mistake", b"").expect("a node");
        ensemble.wait_same_zxid().expect("they agree");
        let backup = home.path().join("backup");
        done(&["backup", "--data-dir", shown(&ensemble.data_dir(leader)), shown(&backup)]);
        for id in ensemble.ids() {
            ensemble.kill(id).expect("it ends");
        }
        let restored = home.path().join("restored");
        let epoch = (zxid >> 32) + 1;
        done(&[
            "restore",
            "--to-zxid",
            &format!("{zxid:x}"),
            "--epoch",
            &epoch.to_string(),
            shown(&backup),
            shown(&restored),
        ]);
        // One member is forgotten: it must not bring back what was there before.
        let forgotten = leader;
        for id in ensemble.ids().into_iter().filter(|id| *id != forgotten) {
            let version_dir: PathBuf = ensemble.data_dir(id).join("version-2");
            std::fs::remove_dir_all(&version_dir).expect("it goes");
            done_copy(&restored.join("version-2"), &version_dir);
        }
        ensemble.start_all().expect("they start");
        ensemble.wait_same_zxid().expect("they agree");
        for id in ensemble.ids() {
            let mut client = ensemble.connect(id).expect("a session");
            client.sync().expect("it follows");
            let found = tree::fetch(&mut client).expect("the tree");
            assert!(!found.contains_key("/mistake"), "{product:?}, member {id}");
            let differences = tree::differences(&expected, &found);
            // The membership is written anew at each start.
            let differences: Vec<_> = differences.iter().filter(|line| !line.contains("/zookeeper/config")).collect();
            assert!(differences.is_empty(), "{product:?}, member {id}: {differences:?}");
        }
    }
}

fn done_copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

#[test]
fn a_backup_that_is_killed_has_no_name() {
    let server = Setup::new().start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    write_some(&mut client, 0, 2000);
    let home = tempfile::tempdir().expect("a directory");
    let backup = home.path().join("backup");
    let mut killed = 0;
    // At ever later moments, until one comes to its end.
    for delay_us in (0..).step_by(3000) {
        let mut command = Command::new(rookeeper_binary().expect("the binary is built"));
        command.args(["backup", "--data-dir", shown(&server.data_dir()), shown(&backup)]);
        let mut process = command.stdout(std::process::Stdio::null()).spawn().expect("it runs");
        thread::sleep(std::time::Duration::from_micros(delay_us));
        let _ = process.kill();
        if process.wait().expect("it ends").success() {
            break;
        }
        killed += 1;
        assert!(
            !backup.exists() || ran(&["verify", shown(&backup)]).0 == 0,
            "a part of a backup has the name of a whole one"
        );
        if backup.exists() {
            std::fs::remove_dir_all(&backup).expect("it goes");
        }
    }
    assert!(killed > 0);
    done(&["verify", shown(&backup)]);
}

#[test]
fn a_backup_comes_over_the_admin_port() {
    let home = tempfile::tempdir().expect("a directory");
    let auth = home.path().join("auth");
    // The original's port needs libraries that are not among those of the tests.
    let server = Setup::of(Product::Rookeeper)
        .with_super_user()
        .config("admin.enableServer", "true")
        .config("admin.serverPort", "0")
        .start()
        .expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    write_some(&mut client, 0, 50);
    client.set_acl("/", &[Acl::new(31, "digest", "bob:x"), Acl::new(1, "world", "anyone")]).expect("a change");
    let expected = tree::fetch(&mut client).expect("the tree");
    let log = server.wait_log("answers admin commands at ").expect("the port is told");
    let url =
        log.rsplit("answers admin commands at ").next().and_then(|rest| rest.lines().next()).expect("a line").trim();
    let backup = home.path().join("backup");
    let arguments = ["backup", "--admin", url, "--auth-file", shown(&auth), shown(&backup)];
    for (credentials, words) in [("digest bob:wrong", "Not authorized"), ("nothing", "Not authenticated")] {
        std::fs::write(&auth, credentials).expect("a file");
        let (code, text) = ran(&arguments);
        assert!(code == 1 && text.contains(words) && !backup.exists(), "{text}");
    }
    std::fs::write(&auth, "digest super:admin\n").expect("a file");
    done(&arguments);
    done(&["verify", shown(&backup)]);
    let target = home.path().join("restored");
    done(&["restore", shown(&backup), shown(&target)]);
    let server = Setup::of(Product::Rookeeper).data_dir(&target).start().expect("a server starts from it");
    assert_eq!(tree::differences(&expected, &tree_of(&server)), Vec::<String>::new());
}

#[test]
fn a_snapshot_that_is_of_no_one_moment_is_no_backup() {
    let home = tempfile::tempdir().expect("a directory");
    let mut all = data_directories().expect("the recordings are readable").into_iter();
    let recorded = all.find(|directory| directory.name == "fuzzy-snapshot").expect("the directory is recorded");
    let version_dir = recorded.unpack(home.path()).expect("it unpacks").join("version-2");
    let names = std::fs::read_dir(&version_dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let name = names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("snapshot.")).max();
    let name = name.expect("a snapshot");
    let bytes = std::fs::read(version_dir.join(&name)).expect("the snapshot");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/commands", listener.local_addr().expect("an address"));
    let zxid = name.trim_start_matches("snapshot.").to_owned();
    let answers = thread::spawn(move || {
        for at in 0..10 {
            let (mut stream, _) = listener.accept().expect("it asks");
            let mut request = [0; 1024];
            let count = stream.read(&mut request).expect("a request");
            assert!(request[..count].starts_with(b"GET /commands/snapshot?streaming=true HTTP/1.0\r\n"));
            let answer = match at {
                0 => "HTTP/1.1 429 Too Many Requests\r\n\r\n".to_owned(),
                _ => format!("HTTP/1.1 200 OK\r\nlast_zxid: 0x{zxid}\r\nsnapshot_size: {}\r\n\r\n", bytes.len()),
            };
            stream.write_all(answer.as_bytes()).expect("a head");
            stream.write_all(if at == 0 { b"" } else { &bytes }).expect("a body");
        }
    });
    let backup = home.path().join("backup");
    let (code, text) = ran(&["backup", "--admin", &url, shown(&backup)]);
    assert!(code == 1 && text.contains("none is of one moment (the data changed from 0x"), "{text}");
    assert!(!backup.exists() && !home.path().join(".backup.unfinished").exists());
    answers.join().expect("ten times");
}

#[test]
fn an_archive_that_is_killed_again_and_again_misses_nothing() {
    for product in [Product::Rookeeper, Product::Apache] {
        let server = Setup::of(product)
            .config("snapCount", "300")
            .property("-Dzookeeper.snapCount=300")
            .start()
            .expect("the server starts");
        let home = tempfile::tempdir().expect("a directory");
        let (archive, data_dir) = (home.path().join("archive"), server.data_dir());
        let arguments =
            ["--data-dir", shown(&data_dir), "--interval-ms", "1", "--snapshot-minutes", "0", shown(&archive)];
        let mut client = Client::connect(server.address()).expect("a session");
        let mut moments = Vec::new();
        for round in 0..12 {
            let mut command = Command::new(rookeeper_binary().expect("the binary is built"));
            let mut process = command.arg("archive").args(arguments).spawn().expect("it runs");
            write_some(&mut client, 100 * round, 20);
            let zxid = server_zxid(server.address()).expect("srvr");
            moments.push((zxid, client.children("/").expect("names").len()));
            thread::sleep(std::time::Duration::from_millis(7 * round as u64));
            process.kill().expect("it runs still");
            process.wait().expect("it ends");
        }
        let once = done(&[&["archive", "--once"], &arguments[..]].concat());
        assert!(once.contains(&format!("to 0x{:x}", moments[11].0)), "{once}");
        let sound = done(&["verify", shown(&archive)]);
        assert!(sound.contains(": sound. Taken ") && !sound.contains("gaps"), "{sound}");
        for (zxid, children) in [moments[0], moments[5], moments[11]] {
            let target = home.path().join(format!("{zxid}"));
            done(&["restore", "--to-zxid", &format!("0x{zxid:x}"), shown(&archive), shown(&target)]);
            let server = Setup::of(Product::Rookeeper).data_dir(&target).start().expect("it starts");
            let mut client = Client::connect(server.address()).expect("a session");
            assert_eq!(client.children("/").expect("names").len(), children, "{product:?}, 0x{zxid:x}");
        }
    }
}
