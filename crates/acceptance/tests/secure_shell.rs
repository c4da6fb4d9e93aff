//! `rookeeper cli` over TLS and with a user of SASL: at our server and at the original, with flags and with what zkCli is told.
//!
//! A refusal must say which side refused, why, and what to do.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use rookeeper_acceptance::certificates::{Authority, House, Wish, java_store, shown};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Output, output};
use rookeeper_acceptance::script::Home;
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};

/// A house of certificates, and files that are written beside them.
struct Site {
    house: House,
}

impl Site {
    fn new() -> Site {
        Site { house: House::new().expect("openssl works") }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.house.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        shown(&path)
    }

    fn trust(&self) -> String {
        shown(&self.house.authority.trust())
    }

    fn server_jaas(&self) -> String {
        let text = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"bobsecret\"; };\n";
        self.write("server.jaas", text)
    }

    /// With TLS, a plain port, and users of SASL.
    fn setup(&self, client_auth: &str) -> Setup {
        self.house
            .setup()
            .config("ssl.clientAuth", client_auth)
            .property(&format!("-Djava.security.auth.login.config={}", self.server_jaas()))
            .property("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
    }

    fn start(&self, client_auth: &str) -> Server {
        self.setup(client_auth).start().expect("the server starts")
    }
}

fn secure(server: &Server) -> String {
    server.secure_address().expect("it says where").to_string()
}

/// The shell with these arguments behind `-server`, and with these options of Java.
fn cli(server: &str, java_options: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(rookeeper_binary().expect("a binary"));
    command.args(["cli", "-server", server, "-timeout", "10000"]).args(arguments);
    command.env_remove("JVMFLAGS").env("CLIENT_JVMFLAGS", java_options);
    output(command, "").expect("the shell ends")
}

#[track_caller]
fn done(output: &Output, prints: &str) {
    assert!(output.code == Some(0) && output.stdout.contains(prints), "{prints:?} in {output:?}");
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    assert_eq!(output.code, Some(1), "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "{part:?} in {output:?}");
    }
}

#[test]
fn flags_name_whom_to_trust_and_what_to_show() {
    let site = Site::new();
    let server = site.start("need");
    let (address, trust, key) = (secure(&server), site.trust(), shown(&site.house.client.pem));
    done(&cli(&address, "", &["--tls-ca", &trust, "--tls-cert", &key, "create", "/flags", "x"]), "");
    done(&cli(&address, "", &["--tls-ca", &trust, "--tls-cert", &key, "ls", "/"]), "flags");
    let who = cli(&address, "", &["--tls-ca", &trust, "--tls-cert", &key, "whoami"]);
    done(&who, "x509: CN=client,O=Example");

    // The key and the certificates in files of their own, whatever they are called.
    let pem = fs::read_to_string(&site.house.client.pem).expect("a file");
    let (keys, certificates) = pem.split_at(pem.find("-----BEGIN CERTIFICATE").expect("a certificate"));
    let (keys, certificates) = (site.write("me.key", keys), site.write("me.crt", certificates));
    done(
        &cli(&address, "", &["--tls-ca", &trust, "--tls-cert", &certificates, "--tls-key", &keys, "ls", "/"]),
        "flags",
    );

    let word = site.write("word", "changeit\n");
    for kind in ["pkcs12", "jks"] {
        let store = shown(&java_store(&site.house.client.pem, kind, "changeit").expect("keytool works"));
        let flags = ["--tls-ca", &trust, "--tls-cert", &store];
        done(&cli(&address, "", &[&flags[..], &["--tls-password-file", &word, "ls", "/"]].concat()), "flags");
        refused(&cli(&address, "", &[&flags[..], &["ls", "/"]].concat()), &[&store, "the password is wrong"]);
    }
}

#[test]
fn each_refusal_says_which_side_and_what_to_do() {
    let site = Site::new();
    let server = site.start("need");
    let (address, trust) = (secure(&server), site.trust());
    let stranger = Authority::new(site.house.folder.path(), "stranger").expect("openssl works");
    let other_trust = shown(&stranger.trust());
    refused(
        &cli(&address, "", &["--tls-ca", &other_trust, "ls", "/"]),
        &[
            "this client refused the certificate of the server (certificate of CN=server-1,O=Example",
            "no authority",
            "--tls-ca FILE",
        ],
    );
    refused(
        &cli(&address, "", &["--tls-ca", &trust, "ls", "/"]),
        &["the server refused this client", "--tls-cert FILE names it"],
    );
    let foreign = stranger.issue("client", &Wish::of("client")).expect("a certificate");
    refused(
        &cli(&address, "", &["--tls-ca", &trust, "--tls-cert", &shown(&foreign.pem), "ls", "/"]),
        &["the server refused this client", "authority of this client's certificate"],
    );
    refused(&cli(&address, "", &["--tls", "ls", "/"]), &["no server is trusted", "--tls-ca FILE"]);
    refused(&cli(&address, "", &["ls", "/"]), &["a port for TLS, which --tls speaks"]);
    refused(
        &cli(&server.address().to_string(), "", &["--tls-ca", &trust, "ls", "/"]),
        &["it may be a port without TLS"],
    );
    refused(&cli("zoo_%1:1", "", &["--tls-ca", &trust, "ls", "/"]), &["no certificate can be for this host"]);
}

#[test]
fn the_host_of_the_certificate_counts_unless_any_will_do() {
    let site = Site::new();
    let elsewhere =
        site.house.authority.issue("elsewhere", &Wish::of("elsewhere").hosts("DNS:zoo9.example.com")).expect("issued");
    let server = site.setup("none").config("ssl.keyStore.location", &shown(&elsewhere.pem)).start().expect("it starts");
    let (address, trust) = (secure(&server), site.trust());
    refused(&cli(&address, "", &["--tls-ca", &trust, "ls", "/"]), &["zoo9.example.com", "--tls-any-host"]);
    done(&cli(&address, "", &["--tls-ca", &trust, "--tls-any-host", "ls", "/"]), "zookeeper");
    let stranger = Authority::new(site.house.folder.path(), "stranger").expect("openssl works");
    let other_trust = shown(&stranger.trust());
    let any_host = cli(&address, "", &["--tls-ca", &other_trust, "--tls-any-host", "ls", "/"]);
    refused(&any_host, &["this client refused the certificate of the server", "no authority"]);
}

#[test]
fn a_user_comes_in_with_the_right_password_only() {
    let site = Site::new();
    let server = site.start("none");
    let plain = server.address().to_string();
    let (right, wrong) = (site.write("right", "bobsecret\n"), site.write("wrong", "bobsecre\n"));
    done(
        &cli(&plain, "", &["--user", "bob", "--password-file", &right, "create", "/of-bob", "his", "sasl:bob:cdrwa"]),
        "",
    );
    refused(&cli(&plain, "", &["get", "/of-bob"]), &["Insufficient permission : /of-bob"]);
    let over_tls = ["--tls-ca", &site.trust(), "--user", "bob", "--password-file", &right, "get", "/of-bob"];
    done(&cli(&secure(&server), "", &over_tls), "his");
    for (user, file) in [("bob", &wrong), ("nobody", &right)] {
        let output = cli(&plain, "", &["--user", user, "--password-file", file, "get", "/of-bob"]);
        refused(&output, &[&format!("the server refused the user {user}: the password is wrong"), "--password-file"]);
        assert!(!(output.stdout + &output.stderr).contains("bobsecre"));
    }
    let nowhere = cli(&plain, "", &["--user", "bob", "--password-file", "/nowhere", "ls", "/"]);
    refused(&nowhere, &["--password-file /nowhere cannot be read"]);
}

#[test]
fn a_server_that_asks_for_a_user_says_so() {
    let site = Site::new();
    let server = site.setup("none").config("sessionRequireClientSASLAuth", "true").start().expect("the server starts");
    let plain = server.address().to_string();
    refused(&cli(&plain, "", &["ls", "/"]), &["lets in only those who authenticate", "--user NAME"]);
    let right = site.write("right", "bobsecret\n");
    done(&cli(&plain, "", &["--user", "bob", "--password-file", &right, "ls", "/"]), "zookeeper");
}

/// The properties, options and JAAS files that zkCli is told.
fn as_zk_cli(site: &Site, address: &str) {
    let store = java_store(&site.house.client.pem, "jks", "changeit").expect("keytool works");
    let jaas = |name: &str, password: &str| {
        let text = format!(
            "Client {{\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n  username=\"bob\" password=\"{password}\";\n}};\n"
        );
        format!("-Djava.security.auth.login.config={}", site.write(name, &text))
    };
    let properties = site.write(
        "client.properties",
        &format!(
            "zookeeper.client.secure=true\nzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty\n\
             zookeeper.ssl.keyStore.location={}\nzookeeper.ssl.keyStore.password=changeit\nzookeeper.ssl.trustStore.location={}\n",
            store.display(),
            site.trust(),
        ),
    );
    let right = jaas("right.jaas", "bobsecret");
    let by_file = ["-client-configuration", properties.as_str()];
    done(&cli(address, &right, &[&by_file[..], &["create", "/of-bob", "his", "sasl:bob:cdrwa"]].concat()), "");
    done(&cli(address, &right, &[&by_file[..], &["get", "/of-bob"]].concat()), "his");
    let nobody = cli(address, "", &[&by_file[..], &["get", "/of-bob"]].concat());
    refused(&nobody, &["Insufficient permission : /of-bob"]);
    let wrong = cli(address, &jaas("wrong.jaas", "wrong"), &[&by_file[..], &["get", "/of-bob"]].concat());
    refused(&wrong, &["the server refused the user bob"]);
    let by_options = format!(
        "-Xmx256m -Dzookeeper.client.secure=true -Dzookeeper.ssl.keyStore.location={} -Dzookeeper.ssl.trustStore.location={} {right}",
        site.house.client.pem.display(),
        site.trust(),
    );
    done(&cli(address, &by_options, &["get", "/of-bob"]), "his");
    let without = cli(address, &format!("{by_options} -Dzookeeper.sasl.client=false"), &["get", "/of-bob"]);
    refused(&without, &["Insufficient permission : /of-bob"]);
    let stranger = Authority::new(site.house.folder.path(), "stranger").expect("openssl works");
    let other_trust = shown(&stranger.trust());
    let distrusting = cli(address, &by_options, &["--tls-ca", &other_trust, "get", "/of-bob"]);
    refused(&distrusting, &["this client refused the certificate of the server", "no authority"]);
}

#[test]
fn what_zk_cli_is_told_is_understood() {
    let site = Site::new();
    let server = site.start("need");
    as_zk_cli(&site, &secure(&server));
}

/// The original's script for the shell reads them too, and they need not export what they set.
#[test]
fn the_script_tells_the_shell_what_java_env_sets() {
    let site = Site::new();
    let server = site.start("none");
    let home = Home::new().expect("a home");
    let options = format!("-Dzookeeper.client.secure=true -Dzookeeper.ssl.trustStore.location={}", site.trust());
    fs::write(home.path().join("conf/java.env"), format!("CLIENT_JVMFLAGS=\"{options}\"\n")).expect("a file");
    let ran = home.run("zkCli.sh", &["-server", &secure(&server), "ls", "/"]).expect("the script runs");
    assert!(ran.code == 0 && ran.stdout.contains("zookeeper"), "{ran:?}");
}

#[test]
fn the_status_of_a_server_for_tls_alone_is_told() {
    let site = Site::new();
    let server = site.start("need");
    let config = format!("secureClientPort={}\nsecureClientPortAddress=localhost\n", server_port(&server));
    let config = site.write("zoo.cfg", &config);
    let status = |java_options: &str| {
        let mut command = Command::new(rookeeper_binary().expect("a binary"));
        command.args(["status", &config]).env_remove("JVMFLAGS").env("CLIENT_JVMFLAGS", java_options);
        output(command, "").expect("it ends")
    };
    let trust = format!("-Dzookeeper.ssl.trustStore.location={}", site.trust());
    let key = format!("-Dzookeeper.ssl.keyStore.location={}", shown(&site.house.client.pem));
    done(&status(&format!("{trust} {key}")), "Mode: standalone");
    refused(&status(&trust), &["CertificateRequired", "-Dzookeeper.ssl.keyStore.location=FILE"]);
    refused(&status(""), &["no server is trusted", "-Dzookeeper.ssl.trustStore.location=FILE"]);
}

fn server_port(server: &Server) -> u16 {
    server.secure_address().expect("it says where").port()
}

/// `rookeeper bench`, which has the same flags.
#[test]
fn a_load_is_put_on_over_tls() {
    let site = Site::new();
    let server = site.start("need");
    let (address, trust, key) = (secure(&server), site.trust(), shown(&site.house.client.pem));
    let bench = |flags: &[&str]| {
        let mut command = Command::new(rookeeper_binary().expect("a binary"));
        command.args(["bench", "--server", &address, "--connections", "3", "--pipeline", "5", "--keys", "100"]);
        command.args(["--warmup", "0", "--seconds", "0.2"]).args(flags).env_remove("JVMFLAGS");
        output(command, "").expect("it ends")
    };
    let measured = bench(&["--tls-ca", &trust, "--tls-cert", &key]);
    done(&measured, "over TLS");
    assert!(measured.stdout.contains("errors: none"), "{measured:?}");
    let stranger = Authority::new(site.house.folder.path(), "stranger").expect("openssl works");
    let other_trust = shown(&stranger.trust());
    refused(&bench(&["--tls-ca", &other_trust, "--tls-cert", &key]), &["cannot connect to", "no authority"]);
    refused(&bench(&["--tls"]), &["trustStore.location"]);
    refused(&bench(&[]), &["cannot connect to", "a port for TLS"]);
}

/// A terminal, made by Python, at which somebody types.
const TYPIST: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said = b""
typed = False
while True:
    try:
        bytes = os.read(terminal, 4096)
    except OSError:  # the other end is closed
        break
    if not bytes:
        break
    said += bytes
    if not typed and b"Password of bob: " in said:
        typed = True
        os.write(terminal, sys.argv[1].encode() + b"\n")
sys.stdout.write(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_password_is_asked_for_on_the_terminal_and_never_shown() {
    let site = Site::new();
    let server = site.start("none");
    let address = server.address().to_string();
    let binary = shown(&rookeeper_binary().expect("a binary"));
    let typed = |password: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", TYPIST, password, &binary, "cli", "-server", &address, "--user", "bob", "whoami"]);
        command.env_remove("JVMFLAGS").env_remove("CLIENT_JVMFLAGS");
        let output = output(command, "").expect("python3 runs");
        assert!(output.stdout.contains("Password of bob: "), "{output:?}");
        output
    };
    let welcome = typed("bobsecret");
    done(&welcome, "sasl: bob");
    assert!(!welcome.stdout.contains("bobsecret"), "{welcome:?}");
    let stranger = typed("a guess");
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.stdout.contains("the server refused the user bob"), "{stranger:?}");
    // An interruption, as a terminal sends it.
    let interrupted = typed("\u{3}");
    assert_eq!(interrupted.code, Some(1), "{interrupted:?}");
    assert!(interrupted.stdout.contains("Interrupted"), "{interrupted:?}");
}

/// 3.9.5, whose TLS and SASL are Java's.
#[test]
fn the_original_is_spoken_with() {
    let site = Site::new();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut apache = Plan::of(&[Product::Apache])
        .config("secureClientPort", &port.to_string())
        .config("serverCnxnFactory", "org.apache.zookeeper.server.NettyServerCnxnFactory")
        .config("ssl.keyStore.location", &shown(&site.house.server.pem))
        .config("ssl.trustStore.location", &site.trust())
        .property(&format!("-Djava.security.auth.login.config={}", site.server_jaas()))
        .property("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
        .property("-Dzookeeper.fips-mode=false")
        .prepare()
        .expect("a folder");
    apache.start(1).expect("it starts");
    apache.wait_for("it serves", |apache| Ok(apache.mode(1).is_some())).expect("it serves");
    let address = SocketAddr::from(([127, 0, 0, 1], port)).to_string();
    as_zk_cli(&site, &address);
    let without = cli(&address, "", &["--tls-ca", &site.trust(), "ls", "/"]);
    refused(&without, &["this client shows no certificate", "--tls-cert FILE names it"]);
}
