//! `rookeeper top` at servers that run: over TLS, where clients must come as users of SASL, and at an ensemble of the original.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use rookeeper_acceptance::certificates::{Authority, House, shown};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::foreign::{Output, output};
use rookeeper_acceptance::server::{Product, rookeeper_binary};

/// Where no admin port answers.
const UNTOLD: &str = "not told: Rookeeper's admin command top does";

/// All of it as text, after two looks a second apart.
fn top(servers: &[SocketAddr], flags: &[&str]) -> Output {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let mut command = Command::new(rookeeper_binary().expect("a binary"));
    command.args(["top", "--once", "--interval", "1", "--server", &servers.join(",")]).args(flags);
    command.env_remove("JVMFLAGS").env_remove("CLIENT_JVMFLAGS");
    output(command, "").expect("it ends")
}

/// The line of the table of members that begins with this address, by its cells.
#[track_caller]
fn member(output: &Output, address: SocketAddr) -> Vec<String> {
    let line = output.stdout.lines().find(|line| line.trim_start().starts_with(&address.to_string()));
    let line = line.unwrap_or_else(|| panic!("{address} is not in {output:?}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn shows(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for part in parts {
        assert!(output.stdout.contains(part), "{part:?} in\n{}{}", output.stdout, output.stderr);
    }
}

#[test]
fn a_server_that_speaks_tls_alone_and_wants_users_of_sasl_is_shown() {
    let house = House::new().expect("openssl works");
    let (trust, key) = (shown(&house.authority.trust()), shown(&house.client.pem));
    let jaas = house.folder.path().join("server.jaas");
    let users = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"bobsecret\"; };\n";
    fs::write(&jaas, users).expect("a file");
    let server = house
        .setup()
        .config("ssl.clientAuth", "need")
        .config("sessionRequireClientSASLAuth", "true")
        .property("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
        .property(&format!("-Djava.security.auth.login.config={}", shown(&jaas)))
        .config("admin.enableServer", "true")
        .config("admin.serverPort", "0")
        .config("admin.forceHttps", "true")
        .config("ssl.quorum.keyStore.location", &shown(&house.server.pem))
        .config("ssl.quorum.trustStore.location", &trust)
        .config("slowOperations.readMs", "1")
        .start()
        .expect("the server starts");
    let address = server.secure_address().expect("it says where");
    let log = server.wait_log("admin commands at https://").expect("the port is told");
    let behind = log.split("admin commands at https://").nth(1).expect("it was found");
    let admin: SocketAddr = behind.split('/').next().expect("there is a path").parse().expect("an address");
    let admin_port = admin.port().to_string();
    let trusting = ["--tls-ca", &trust, "--tls-cert", &key];

    let seen = top(&[address], &[&trusting[..], &["--admin-port", &admin_port, "--admin-tls"]].concat());
    assert!(!seen.stdout.contains(UNTOLD), "{seen:?}");
    assert_eq!(member(&seen, address)[1], "standalone", "{seen:?}");
    let plain = top(&[address], &[&trusting[..], &["--admin-port", &admin_port]].concat());
    shows(&plain, 0, &["standalone", UNTOLD]);

    // The reason stands in the line of the member.
    shows(
        &top(&[address], &["--admin-port", "0", "--tls-ca", &trust]),
        1,
        &["CertificateRequired; show a certificate: --tls-cert FILE"],
    );
    let stranger = Authority::new(house.folder.path(), "stranger").expect("openssl works");
    let distrusting = ["--admin-port", "0", "--tls-ca", &shown(&stranger.trust()), "--tls-cert", &key];
    shows(&top(&[address], &distrusting), 1, &["no authority"]);
    shows(&top(&[address], &["--admin-port", "0"]), 1, &["this is a port for TLS: --tls-ca FILE"]);
    let untold = top(&[server.address()], &["--admin-tls"]);
    assert!(untold.code == Some(1) && untold.stderr.contains("--tls-ca FILE"), "{untold:?}");
    // A port without TLS, asked with it.
    shows(
        &top(&[server.address()], &["--admin-port", "0", "--tls-ca", &trust]),
        1,
        &["ended the connection during the handshake"],
    );
}

fn of_the_original(count: usize) -> Plan {
    Plan::of(&vec![Product::Apache; count])
}

#[test]
fn an_ensemble_of_the_original_is_shown_also_without_one_of_its_members() {
    let mut ensemble: Ensemble = of_the_original(3).start().expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let follower = ensemble.followers().expect("followers")[0];
    let mut client = ensemble.connect(follower).expect("a session");
    client.create("/a", b"").expect("a node");
    let zxid = format!("0x{:x}", ensemble.wait_same_zxid().expect("all have it"));
    let seen = top(&ensemble.addresses(), &["--admin-port", "0"]);
    shows(&seen, 0, &[&format!("0x{:x}", client.session.id)]);
    for id in ensemble.ids() {
        let cells = member(&seen, ensemble.address(id));
        let mode = if id == leader { "leader" } else { "follower" };
        assert_eq!((cells[1].as_str(), &cells[2]), (mode, &zxid), "{seen:?}");
    }
    ensemble.kill(follower).expect("it ends");
    ensemble.wait_formed().expect("the others go on");
    let seen = top(&ensemble.addresses(), &["--admin-port", "0"]);
    shows(&seen, 0, &["1 of 3 members do", "refused"]);
    assert_eq!(member(&seen, ensemble.address(leader))[1], "leader", "{seen:?}");
    for id in ensemble.running() {
        ensemble.kill(id).expect("it ends");
    }
    shows(&top(&ensemble.addresses(), &["--admin-port", "0"]), 1, &["nobody serves"]);
}

#[test]
fn a_server_of_the_original_is_shown_over_tls() {
    let house = House::new().expect("openssl works");
    let (trust, key) = (shown(&house.authority.trust()), shown(&house.client.pem));
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let ensemble = of_the_original(1)
        .property("-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory")
        .config("secureClientPort", &address.port().to_string())
        .config("secureClientPortAddress", "127.0.0.1")
        .config("ssl.keyStore.location", &shown(&house.server.pem))
        .config("ssl.trustStore.location", &trust)
        .config("ssl.clientAuth", "need")
        .prepare();
    let mut ensemble = ensemble.expect("an ensemble");
    ensemble.start_all().expect("it starts");
    let mode = |ensemble: &mut Ensemble| Ok(ensemble.mode(1).as_deref() == Some("standalone"));
    ensemble.wait_for("it serves", mode).expect("it serves");
    let seen = top(&[address], &["--admin-port", "0", "--tls-ca", &trust, "--tls-cert", &key]);
    shows(&seen, 0, &[]);
    assert_eq!(member(&seen, address)[1], "standalone", "{seen:?}");
    shows(&top(&[address], &["--admin-port", "0", "--tls-ca", &trust]), 1, &[]);
}
