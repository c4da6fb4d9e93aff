//! Backups by the binary: of servers under load, of Apache ZooKeeper too, and what starts from what is restored.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rookeeper_acceptance::certificates::House;
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

/// Where a server takes admin commands.
fn admin_url(server: &Server) -> String {
    let log = server.wait_log("answers admin commands at ").expect("the port is told");
    let told = log.rsplit("answers admin commands at ").next().and_then(|rest| rest.lines().next());
    told.expect("a line").trim().to_owned()
}

/// Changes data as fast as it goes, in several sessions, until it is stopped.
fn write_constantly<'scope>(scope: &'scope thread::Scope<'scope, '_>, address: SocketAddr, stop: &'scope AtomicBool) {
    for writer in 0..4 {
        scope.spawn(move || {
            let mut client = Client::connect(address).expect("a session");
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                client
                    .set_data(&format!("/n{}", number % 900), format!("{writer} {number}").as_bytes(), -1)
                    .expect("a change");
            }
        });
    }
}

/// Stops writers also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Nodes for the writers, so many that they are written in several portions.
fn fill(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).expect("a session");
    for number in 0..900 {
        client.create(&format!("/n{number}"), &[b'x'; 1000]).expect("a node");
    }
    client
}

#[test]
fn every_backup_over_the_admin_port_of_a_server_under_constant_writes_is_sound() {
    let home = tempfile::tempdir().expect("a directory");
    let auth = home.path().join("auth");
    std::fs::write(&auth, "digest super:admin\n").expect("a file");
    let setup = || {
        let setup = Setup::of(Product::Rookeeper).with_super_user().config("snapCount", "400");
        setup.config("admin.enableServer", "true").config("admin.serverPort", "0")
    };
    let mut with_log = 0;
    for compression in ["", "gz", "snappy"] {
        let server = setup().config("snapshot.compression.method", compression).start().expect("the server starts");
        drop(fill(server.address()));
        let (url, stop) = (admin_url(&server), AtomicBool::new(false));
        thread::scope(|scope| {
            let _stop = Stop(&stop);
            write_constantly(scope, server.address(), &stop);
            for attempt in 0..4 {
                let backup = home.path().join(format!("backup-{compression}-{attempt}"));
                let before = server_zxid(server.address()).expect("srvr");
                let taken = done(&["backup", "--admin", &url, "--auth-file", shown(&auth), shown(&backup)]);
                assert!(taken.contains("its digest is the one that the server recorded"), "{taken}");
                done(&["verify", shown(&backup)]);
                let manifest = std::fs::read_to_string(backup.join("manifest.jsonl")).expect("a manifest");
                let head: serde_json::Value =
                    serde_json::from_str(manifest.lines().next().expect("a line")).expect("JSON");
                let last = head["last_zxid"].as_str().and_then(|zxid| i64::from_str_radix(&zxid[2..], 16).ok());
                assert!(last.expect("a zxid") >= before, "{manifest}");
                assert!(head["server"].as_str().is_some_and(|server| server.contains("-rookeeper-")), "{manifest}");
                with_log += usize::from(manifest.contains("\"file\":\"log."));
            }
        });
    }
    // The snapshots of these alone were of no one moment.
    assert!(with_log > 0);
}

#[test]
fn what_a_member_sends_under_constant_writes_is_a_data_directory() {
    let mut ensemble = Plan::of(&[Product::Rookeeper; 3])
        .with_super_user()
        .config("admin.enableServer", "true")
        .config("admin.serverPort", "0")
        .start()
        .expect("the ensemble forms");
    let leader = ensemble.leader().expect("a leader");
    drop(fill(ensemble.address(leader)));
    let home = tempfile::tempdir().expect("a directory");
    let stop = AtomicBool::new(false);
    for id in ensemble.ids() {
        ensemble.wait_log(id, 0, &["answers admin commands at "]).expect("the port is told");
        let log = ensemble.log(id);
        let url = log.rsplit("answers admin commands at ").next().and_then(|rest| rest.lines().next()).expect("a line");
        let folder = home.path().join(id.to_string());
        std::fs::create_dir(&folder).expect("a directory");
        thread::scope(|scope| {
            let _stop = Stop(&stop);
            write_constantly(scope, ensemble.address(leader), &stop);
            let command = format!("curl -sSf -H 'Authorization: digest super:admin' {}/backup | tar -x", url.trim());
            let status = Command::new("bash").args(["-o", "pipefail", "-c", &command]).current_dir(&folder).status();
            assert!(status.expect("bash").success());
        });
        stop.store(false, Ordering::Relaxed);
        let mut trees = [Product::Rookeeper, Product::Apache].map(|product| {
            let copy = home.path().join(format!("{id}-{product:?}"));
            done_copy(&folder.join("version-2"), &copy.join("version-2"));
            tree_of(&Setup::of(product).data_dir(&copy).start().expect("a server starts from it"))
        });
        let [ours, theirs] = &mut trees;
        assert_eq!(tree::differences(ours, theirs), Vec::<String>::new());
        assert!(ours.len() > 900);
    }
}

/// The original with its admin port, and where that is.
fn original_with_admin_port(setup: Setup, scheme: &str) -> (Server, String) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let server = setup
        .newest()
        .with_super_user()
        .config("admin.enableServer", "true")
        .property("-Dzookeeper.admin.serverAddress=127.0.0.1")
        .property(&format!("-Dzookeeper.admin.serverPort={port}"))
        .start()
        .expect("the server starts");
    (server, format!("{scheme}://127.0.0.1:{port}/commands"))
}

#[test]
fn the_originals_admin_port_gives_a_backup_while_nobody_writes_and_it_is_said_why_not_otherwise() {
    let home = tempfile::tempdir().expect("a directory");
    let auth = home.path().join("auth");
    std::fs::write(&auth, "digest super:admin\n").expect("a file");
    let (server, url) = original_with_admin_port(Setup::of(Product::Apache), "http");
    let mut client = fill(server.address());
    let expected = tree::fetch(&mut client).expect("the tree");
    let [backup, target, none] = ["backup", "restored", "none"].map(|name| home.path().join(name));
    done(&["backup", "--admin", &url, "--auth-file", shown(&auth), shown(&backup)]);
    let sound = done(&["verify", shown(&backup)]);
    assert!(sound.contains("/commands (3.9.5-"), "{sound}");
    let (code, text) = ran(&["backup", "--admin", &url, shown(&none)]);
    assert!(code == 1 && text.contains("status 401: Auth info is missing for the command"), "{text}");
    done(&["restore", shown(&backup), shown(&target)]);
    let restored = Setup::of(Product::Rookeeper).data_dir(&target).start().expect("a server starts from it");
    assert_eq!(tree::differences(&expected, &tree_of(&restored)), Vec::<String>::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        write_constantly(scope, server.address(), &stop);
        let (code, text) = ran(&["backup", "--admin", &url, "--auth-file", shown(&auth), shown(&none)]);
        // A moment in which nobody has written is possible, and then it is right.
        assert!(code == 0 || text.contains("this server sends no log with its snapshots, as Rookeeper does"), "{text}");
        assert_eq!(code == 0, none.exists());
    });
}

#[test]
fn a_backup_comes_over_the_admin_port_with_tls_of_both_servers() {
    let house = House::new().expect("openssl");
    let home = tempfile::tempdir().expect("a directory");
    let auth = home.path().join("auth");
    std::fs::write(&auth, "digest super:admin\n").expect("a file");
    let stores = |setup: Setup| {
        let key = [("forceHttps", "true"), ("needClientAuth", "true")];
        let setup =
            key.iter().fold(setup, |setup, (key, value)| setup.property(&format!("-Dzookeeper.admin.{key}={value}")));
        setup
            .property(&format!("-Dzookeeper.ssl.quorum.keyStore.location={}", shown(&house.server.pem)))
            .property(&format!("-Dzookeeper.ssl.quorum.trustStore.location={}", shown(&house.authority.trust())))
    };
    let ours = stores(Setup::of(Product::Rookeeper))
        .with_super_user()
        .config("admin.enableServer", "true")
        .config("admin.serverPort", "0")
        .start()
        .expect("the server starts");
    let url = admin_url(&ours);
    assert!(url.starts_with("https://"), "{url}");
    let theirs = original_with_admin_port(stores(Setup::of(Product::Apache)), "https");
    for (name, server, url) in [("ours", &ours, url), ("theirs", &theirs.0, theirs.1.clone())] {
        drop(fill(server.address()));
        let backup = home.path().join(name);
        let trust = house.authority.trust();
        let with = |more: &[&str]| {
            let arguments = ["backup", "--admin", &url, "--auth-file", shown(&auth)];
            ran(&[&arguments[..], more, &[shown(&backup)]].concat())
        };
        let (code, text) = with(&[]);
        assert!(code == 1 && !backup.exists(), "without an authority: {text}");
        let (code, text) = with(&["--tls-ca", shown(&trust)]);
        assert!(code == 1 && !backup.exists(), "without a certificate: {text}");
        let (code, text) = with(&["--tls-ca", shown(&trust), "--tls-cert", shown(&house.client.pem)]);
        assert_eq!(code, 0, "{name}: {text}");
        done(&["verify", shown(&backup)]);
    }
    // Whoever takes the port for one without TLS is told.
    let plain = theirs.1.replace("https", "http");
    let (code, text) =
        ran(&["backup", "--admin", &plain, "--auth-file", shown(&auth), shown(&home.path().join("plain"))]);
    assert!(code == 1, "{text}");
}

#[test]
fn a_backup_comes_over_the_admin_port() {
    let home = tempfile::tempdir().expect("a directory");
    let auth = home.path().join("auth");
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
    let url = admin_url(&server);
    let backup = home.path().join("backup");
    let arguments = ["backup", "--admin", &url, "--auth-file", shown(&auth), shown(&backup)];
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
        for at in 0..12 {
            let (mut stream, _) = listener.accept().expect("it asks");
            let mut request = [0; 1024];
            let count = stream.read(&mut request).expect("a request");
            let command = ["server_stats", "backup"].get(at).unwrap_or(&"snapshot?streaming=true");
            assert!(request[..count].starts_with(format!("GET /commands/{command} HTTP/1.0\r\n").as_bytes()));
            // As the original answers.
            let answer = match at {
                0 => "HTTP/1.1 200 OK\r\n\r\n{\"version\" : \"3.9.5\"}".to_owned(),
                1 => "HTTP/1.1 200 OK\r\n\r\n{\"command\": \"backup\", \"error\": \"Unknown command: backup\"}"
                    .to_owned(),
                2 => "HTTP/1.1 429 Too Many Requests\r\n\r\n".to_owned(),
                _ => format!("HTTP/1.1 200 OK\r\nlast_zxid: 0x{zxid}\r\nsnapshot_size: {}\r\n\r\n", bytes.len()),
            };
            stream.write_all(answer.as_bytes()).expect("a head");
            stream.write_all(if at < 3 { b"" } else { &bytes }).expect("a body");
        }
    });
    let backup = home.path().join("backup");
    let (code, text) = ran(&["backup", "--admin", &url, shown(&backup)]);
    assert!(code == 1 && text.contains("none is of one moment (the data changed from 0x"), "{text}");
    assert!(!backup.exists() && !home.path().join(".backup.unfinished").exists());
    answers.join().expect("twelve times");
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
