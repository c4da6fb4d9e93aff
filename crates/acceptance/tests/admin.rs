//! The admin port as scripts, probes and strangers meet it: commands in JSON, readiness, snapshots, TLS, and what is hostile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rookeeper_acceptance::certificates::{Authority, Wish};
use rookeeper_acceptance::client::{Client, DEADLINE};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::foreign::{output, python};
use rookeeper_acceptance::server::{Server, Setup};
use serde_json::Value;

const TELLS: &str = "answers admin commands at ";

fn setup() -> Setup {
    Setup::new().config("admin.enableServer", "true").config("admin.serverPort", "0").with_super_user()
}

/// Where the log says that the port is: `http://127.0.0.1:8080/commands`.
fn url_in(log: &str) -> String {
    log.rsplit(TELLS).next().expect("it was found").lines().next().expect("a line").trim().to_owned()
}

fn url(server: &Server) -> String {
    url_in(&server.wait_log(TELLS).expect("the port is told"))
}

fn address(url: &str) -> SocketAddr {
    url.split('/').nth(2).expect("a host").parse().expect("an address")
}

/// What Python's own library gets: the status and the rest.
fn asked(method: &str, url: &str, more: &[String]) -> (u16, String) {
    let mut program = python("admin.py").expect("Python is installed");
    program.args([method, url]).args(more);
    let output = output(program, "").expect("it runs").stdout;
    let (status, rest) = output.split_once('\n').unwrap_or((&output, ""));
    (status.parse().unwrap_or(0), if status.starts_with("no answer") { output.clone() } else { rest.to_owned() })
}

fn got(url: &str) -> (u16, Value) {
    let (status, rest) = asked("GET", url, &[]);
    let body = rest.split_once("\n\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {rest}")))
}

/// The whole answer to these bytes.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = open(address);
    // It may have been refused before all is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

const HEAD: &str = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn what_is_told_is_what_happened() {
    let mut server = setup().start().expect("the server starts");
    let url = url(&server);
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/app", b"").expect("a node");
    client.exists("/app").expect("an answer");
    let (status, connections) = got(&format!("{url}/cons"));
    assert_eq!((status, connections["connections"].as_array().map(Vec::len)), (200, Some(1)), "{connections}");
    assert_eq!(connections["connections"][0]["last_operation"], "EXIS");
    let (_, stats) = got(&format!("{url}/server_stats"));
    assert_eq!(stats["server_stats"]["server_state"], "standalone");
    assert_eq!(stats["server_stats"]["num_alive_client_connections"], 1);
    let (_, monitor) = got(&format!("{url}/monitor"));
    assert_eq!(monitor["znode_count"], stats["node_count"], "{monitor}");
    let (_, configuration) = got(&format!("{url}/configuration"));
    assert_eq!(configuration["client_port"], server.address().port());
    let (status, ready) = got(&url.replace("/commands", "/health/ready"));
    assert_eq!((status, &ready["ready"], &ready["behind_transactions"]), (200, &true.into(), &0.into()), "{ready}");
    let (status, live) = got(&url.replace("/commands", "/health/live"));
    assert_eq!((status, &live["live"]), (200, &true.into()));
    let (status, rest) =
        asked("POST", &format!("{url}/restore"), &["Authorization=digest super:admin".to_owned(), "body=9".to_owned()]);
    assert!(status == 500 && rest.contains("The snapshot can't be restored: "), "{rest}");
    // Nobody who is connected keeps the server from its end.
    let _silent = open(address(&url));
    assert!(server.terminate().expect("an end").success());
    server.wait_log("stopped in ").expect("an orderly end");
}

#[test]
fn a_snapshot_is_the_file_that_a_server_starts_from() {
    let server = setup().config("admin.rateLimiterIntervalInMS", "0").start().expect("the server starts");
    let url = url(&server);
    let mut client = Client::connect(server.address()).expect("a session");
    (0..2000).for_each(|number| drop(client.create(&format!("/n{number}"), &[7; 300]).expect("a node")));
    client.close().expect("an end");
    let (status, rest) = asked("GET", &format!("{url}/snapshot"), &[]);
    assert!(status == 401 && rest.contains("Auth info is missing"), "{rest}");
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("version-2");
    std::fs::create_dir(&directory).expect("a directory");
    let zxid = download(&url, &directory);
    assert!(zxid >= 2002, "{zxid}");
    let other = Setup::new().data_dir(folder.path()).start().expect("a server starts from the snapshot");
    let mut client = Client::connect(other.address()).expect("a session");
    assert_eq!(client.get_data("/n1999").expect("a node").0, Some(vec![7; 300]));
    // Without the file.
    let authorization = ["Authorization=digest super:admin".to_owned()];
    server.wait_log("is told to whoever asked").expect("it is told");
    let (status, rest) = asked("GET", &format!("{url}/snap?streaming=false"), &authorization);
    assert!(status == 200 && rest.contains("snapshot_size: ") && rest.contains("\"error\" : null"), "{rest}");
}

/// Puts the snapshot under its name into a directory. Returns its zxid.
fn download(url: &str, directory: &Path) -> i64 {
    let mut stream = open(address(url));
    let request =
        "GET /commands/snapshot HTTP/1.1\r\nHost: x\r\nAuthorization: digest super:admin\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name} is not in {head}")).to_owned()
    };
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("snapshot_size"), (bytes.len() - end).to_string());
    let zxid = header("last_zxid").strip_prefix("0x").expect("hexadecimal").to_owned();
    std::fs::write(directory.join(format!("snapshot.{zxid}")), &bytes[end..]).expect("a file");
    i64::from_str_radix(&zxid, 16).expect("a number")
}

#[test]
fn from_elsewhere_clients_are_told_of_to_those_who_prove_who_they_are() {
    let Some(elsewhere) = address_of_this_machine() else { return };
    let server = setup().config("admin.serverAddress", "0.0.0.0").start().expect("the server starts");
    server.wait_log("is open beyond this machine: whoever reaches it can read metrics").expect("a warning");
    let url = format!("http://{elsewhere}:{}/commands", address(&url(&server)).port());
    assert_eq!(got(&format!("{url}/ruok")).0, 200);
    for name in ["cons", "icfg", "srst"] {
        assert_eq!(got(&format!("{url}/{name}")).0, 401, "{name}");
        let with =
            |authorization: &str| asked("GET", &format!("{url}/{name}"), &[format!("Authorization={authorization}")]).0;
        assert_eq!((with("digest a:b"), with("ip"), with("digest super:admin")), (403, 403, 200), "{name}");
    }
}

/// An address that is not on loopback, where there is one.
fn address_of_this_machine() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[test]
fn a_port_that_somebody_has_is_told_of_and_the_server_serves() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("it is bound").port();
    let server = setup().config("admin.serverPort", &port.to_string()).start().expect("the server starts");
    let log = server.wait_log("this server goes on without admin commands over HTTP").expect("a warning");
    let line = log.lines().find(|line| line.contains("goes on without")).expect("it was found");
    assert!(line.contains(&format!("admin port 127.0.0.1:{port}")) && line.contains("admin.serverPort"), "{line}");
    assert!(!log.contains(TELLS));
    Client::connect(server.address()).expect("a session").create("/a", b"").expect("a node");
}

#[test]
fn strangers_cost_little_and_keep_nobody_out() {
    let server = setup().config("admin.idleTimeout", "2000").start().expect("the server starts");
    let address = address(&url(&server));
    assert!(answer(address, &format!("GET /commands/ruok {HEAD}")).starts_with("HTTP/1.1 200 "));
    assert!(answer(address, &format!("TRACE /commands/ruok {HEAD}")).starts_with("HTTP/1.1 403 "));
    assert!(answer(address, "\x16\x03\x01 is no HTTP\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let huge = format!("GET /commands/ruok HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let refusal = answer(address, &huge);
    assert!(refusal.is_empty() || refusal.starts_with("HTTP/1.1 431 "), "{refusal}");
    // A body is not read, however long it claims to be.
    let body = "POST /commands/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n";
    let mut stream = open(address);
    stream.write_all(body.as_bytes()).expect("it is sent");
    let mut begin = [0; 13];
    stream.read_exact(&mut begin).expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 401 ");
    // Half of a head keeps its place for the configured time.
    let began = Instant::now();
    let mut half = open(address);
    half.write_all(b"GET /commands/ruok HTTP/1.1\r\nX: ").expect("it is sent");
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    assert!((Duration::from_millis(1500)..DEADLINE).contains(&began.elapsed()), "{:?}", began.elapsed());
    // So does one that goes on with its head, a byte at a time.
    let mut drip = open(address);
    drip.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    drip.write_all(b"GET /commands/ruok HTTP/1.1\r\nX: ").expect("it is sent");
    let began = Instant::now();
    while drip.write_all(b"x").is_ok() && !matches!(drip.read(&mut [0; 512]), Ok(0)) {
        assert!(began.elapsed() < DEADLINE, "a head may take for ever");
    }
    // Many connections that say nothing: those beyond the limit are closed at once, and all are over after that time.
    let silent: Vec<TcpStream> = (0..60).map(|_| open(address)).collect();
    server.wait_log("there are too many").expect("those beyond the limit are told");
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let until = Instant::now() + DEADLINE;
    while !answer(address, &format!("GET /commands/ruok {HEAD}")).starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < until, "nobody is let in");
    }
    Client::connect(server.address()).expect("a session").create("/a", b"").expect("a node");
}

/// The `zoo.cfg` lines of an authority's store.
fn stores(authority: &Authority) -> [(&'static str, String); 2] {
    let issued = authority.issue("server", &Wish::of("server")).expect("a certificate");
    [
        ("ssl.quorum.keyStore.location", issued.pem.display().to_string()),
        ("ssl.quorum.trustStore.location", authority.trust().display().to_string()),
    ]
}

#[test]
fn tls_is_spoken_with_the_stores_of_members_alone_or_beside_plain_http() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority").expect("openssl works");
    let cafile = format!("cafile={}", authority.trust().display());
    let cert = format!("cert={}", authority.issue("client", &Wish::of("client")).expect("a certificate").pem.display());
    let stranger = Authority::new(folder.path(), "stranger").expect("openssl works");
    let wrong = format!("cert={}", stranger.issue("client", &Wish::of("client")).expect("a certificate").pem.display());
    let stores = stores(&authority);
    let with = |key: &str| {
        let stores = stores.iter();
        stores.fold(setup().config(key, "true"), |setup, (key, value)| setup.config(key, value))
    };

    let server = with("admin.portUnification").start().expect("the server starts");
    let plain = url(&server);
    assert!(plain.starts_with("http://127.0.0.1:"), "{plain}");
    assert_eq!(asked("GET", &format!("{plain}/ruok"), &[]).0, 200);
    assert_eq!(asked("GET", &format!("{}/ruok", plain.replace("http", "https")), std::slice::from_ref(&cafile)).0, 200);
    let (_, monitor) = got(&format!("{plain}/monitor"));
    assert_eq!(monitor["insecure_admin_count"], 2);

    let server = with("admin.forceHttps").start().expect("the server starts");
    let secure = url(&server);
    assert!(secure.starts_with("https://"), "{secure}");
    assert_eq!(asked("GET", &format!("{secure}/ruok"), std::slice::from_ref(&cafile)).0, 200);
    let (status, told) = asked("GET", &format!("{}/ruok", secure.replace("https", "http")), &[]);
    assert!(status == 0 && told.starts_with("no answer"), "{told}");

    let server = with("admin.forceHttps").config("admin.needClientAuth", "true").start().expect("the server starts");
    let secure = format!("{}/ruok", url(&server));
    assert_eq!(asked("GET", &secure, &[cafile.clone(), cert]).0, 200);
    let without = [cafile.clone()];
    assert_eq!(asked("GET", &secure, &without).0, 0);
    server.wait_log("admin.needClientAuth=true asks for one").expect("the key is told");
    for certificate in [vec![cafile.clone()], vec![cafile, wrong]] {
        let (status, told) = asked("GET", &secure, &certificate);
        assert!(status == 0 && told.starts_with("no answer"), "{told}");
    }
}

fn url_of(ensemble: &Ensemble, id: u64) -> String {
    let until = Instant::now() + DEADLINE;
    while !ensemble.log(id).contains(TELLS) {
        assert!(Instant::now() < until, "the port is not told");
        std::thread::sleep(Duration::from_millis(20));
    }
    url_in(&ensemble.log(id))
}

#[test]
fn members_tell_their_parts_and_one_without_a_leader_answers_that_it_does_not_serve() {
    let plan = Plan::under_test(4).observer(1).config("admin.enableServer", "true").config("admin.serverPort", "0");
    let mut ensemble = plan.start_led_by_last().expect("an ensemble");
    ensemble.connect(1).expect("a session").create("/a", b"").expect("a node");
    for id in 1..=4 {
        let url = url_of(&ensemble, id);
        let (_, leader) = got(&format!("{url}/leader"));
        assert_eq!((&leader["is_leader"], &leader["leader_id"]), (&(id == 4).into(), &4.into()), "{leader}");
        let (_, state) = got(&format!("{url}/zabstate"));
        assert_eq!(
            (&state["zabstate"], &state["voting"], &state["myid"]),
            (&"broadcast".into(), &(id != 1).into(), &id.into())
        );
        let (_, view) = got(&format!("{url}/voting_view"));
        assert_eq!(view["current_config"].as_object().map(serde_json::Map::len), Some(3), "{view}");
        let (status, ready) = got(&url.replace("/commands", "/health/ready"));
        assert_eq!((status, &ready["leader_id"]), (200, &4.into()), "{ready}");
    }
    let until = Instant::now() + DEADLINE;
    let observers = loop {
        // A leader looks at its learners twice in a tick.
        let (_, observers) = got(&format!("{}/observers", url_of(&ensemble, 4)));
        if observers["observers"].as_array().is_some_and(|listed| !listed.is_empty()) || Instant::now() > until {
            break observers;
        }
    };
    let observer = &observers["observers"][0];
    assert_eq!((&observers["synced_observers"], &observer["sid"]), (&1.into(), &1.into()), "{observers}");
    assert!(observer["remote_socket_address"].as_str().is_some_and(|peer| peer.starts_with("/127.")), "{observers}");
    (2..=4).for_each(|id| ensemble.kill(id).expect("it ends"));
    let url = url_of(&ensemble, 1);
    let until = Instant::now() + DEADLINE;
    while got(&url.replace("/commands", "/health/ready")).0 != 503 {
        assert!(Instant::now() < until, "it stays ready");
    }
    let (status, ruok) = got(&format!("{url}/ruok"));
    assert_eq!((status, &ruok["error"]), (200, &"This ZooKeeper instance is not currently serving requests".into()));
    assert_eq!(got(&format!("{url}/zabstate")).1["voting"], false);
    assert_eq!(got(&format!("{url}/environment")).0, 200);
    assert_eq!(got(&url.replace("/commands", "/health/live")).0, 200);
}
