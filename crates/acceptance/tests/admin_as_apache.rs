//! The same requests to the admin port of the original and to ours, those that its own tests of the port make: methods, refusals, status codes, and
//! the fields of each answer with their types. What differs is listed here, and COMPAT.md says why.
//!
//! The original's `RestoreQuorumTest` looks into servers that run in the process of the test, so there is nothing to ask another server for; what comes of
//! `restore` at a member is in COMPAT.md. `CommandResponseTest` is about a Java class.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rookeeper_acceptance::certificates::{Authority, Wish};
use rookeeper_acceptance::client::{Client, DEADLINE};
use rookeeper_acceptance::foreign::{output, python};
use rookeeper_acceptance::server::Product::{self, Apache, Rookeeper};
use rookeeper_acceptance::server::{Server, Setup, unused_port};
use rookeeper_acceptance::wire::Acl;
use serde_json::Value;

const ALL: i32 = 31;
const READ: i32 = 1;

/// `root:root_passwd`, as a list of rights has it: the Base64 of the SHA-1.
const ROOT: &str = "root:caE840ic2wNgOPaqEOHwZYFR1xk=";

/// What proves to be the user of that list.
const PROOF: &str = "digest root:root_passwd";

/// A server and its admin port.
struct Asked {
    server: Server,
    port: SocketAddr,
}

/// An answer as far as it is to be the same.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn start(product: Product, more: &[(&str, &str)]) -> Asked {
        let number = unused_port(Ipv4Addr::LOCALHOST).expect("a port");
        let setup = Setup::of(product).newest().with_super_user();
        let setup = setup.config("admin.enableServer", "true").config("admin.serverPort", &number.to_string());
        let setup = setup.property("-Dzookeeper.admin.rateLimiterIntervalInMS=0").config("4lw.commands.whitelist", "*");
        let setup =
            more.iter().fold(setup, |setup, (key, value)| setup.property(&format!("-Dzookeeper.{key}={value}")));
        let server = setup.start().expect("the server starts");
        let told = if product == Apache { "command URL /commands" } else { "answers admin commands at " };
        server.wait_log(told).expect("the port is open");
        Asked { server, port: (Ipv4Addr::LOCALHOST, number).into() }
    }

    fn ask(&self, method: &str, path: &str, authorization: Option<&str>, body: Option<&[u8]>) -> Answer {
        let mut stream = TcpStream::connect(self.port).expect("the port is open");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if let Some(authorization) = authorization {
            let _ = write!(head, "Authorization: {authorization}\r\n");
        }
        if let Some(body) = body {
            let _ = write!(head, "Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", body.len());
        }
        // It may be refused before all is sent.
        let _ = stream
            .write_all(format!("{head}\r\n").as_bytes())
            .and_then(|()| stream.write_all(body.unwrap_or_default()));
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::parse(&bytes)
    }

    fn client(&self) -> Client {
        Client::connect(self.server.address()).expect("a session")
    }

    fn root_is_for(&self, acls: &[Acl]) {
        let mut client = self.client();
        client.authenticate("digest", "super:admin").expect("it is the super user");
        client.set_acl("/", acls).expect("the super user may");
        client.close().expect("an end");
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
        let is_chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
        let body = if is_chunked { unchunked(&bytes[end..]) } else { bytes[end..].to_vec() };
        Answer { status, headers, body }
    }

    /// The status, what headers the original's tests look at, and the fields with their types.
    fn shape(&self) -> String {
        let mut text = self.status.to_string();
        for name in ["last_zxid", "snapshot_size"] {
            if self.headers.contains_key(name) {
                let _ = write!(text, " {name}");
            }
        }
        let of = self.headers.get("content-type").map_or("", |value| value.split(';').next().unwrap_or_default());
        match serde_json::from_slice::<Value>(&self.body) {
            _ if self.status >= 400 => {}
            Ok(value) if of == "application/json" => text += &format!(" {}", shape(&value)),
            _ => text += &format!(" {of}"),
        }
        text
    }

    /// The text of a refusal.
    fn error(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["error"].as_str().unwrap_or_default().to_owned()
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).expect("a length");
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
    body
}

/// The type of a value, and of what is in it. Whole numbers of a thousand kinds of counters are one type.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => "real".to_owned(),
        Value::Number(_) => "whole".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(values) => format!("[{}]", values.first().map(shape).unwrap_or_default()),
        Value::Object(fields) => {
            let fields: BTreeMap<String, String> =
                fields.iter().map(|(name, value)| (name_of(name), shape(value))).collect();
            let fields: Vec<String> = fields.into_iter().map(|(name, kind)| format!("{name}:{kind}")).collect();
            format!("{{{}}}", fields.join(" "))
        }
    }
}

/// Fields that are named by what they are for: a session, a time, a path.
fn name_of(name: &str) -> String {
    let is_number = name.trim_start_matches("0x").chars().all(|digit| digit.is_ascii_hexdigit()) && name.len() > 3;
    if is_number || name.starts_with('/') { "*".to_owned() } else { name.to_owned() }
}

/// Commands with what the tests of the original ask them for.
const COMMANDS: [&str; 60] = [
    "configuration",
    "conf",
    "config",
    "connections",
    "cons",
    "connection_stat_reset",
    "crst",
    "dump",
    "environment",
    "env",
    "envi",
    "get_trace_mask",
    "gtmk",
    "initial_configuration",
    "icfg",
    "is_read_only",
    "isro",
    "last_snapshot",
    "lsnp",
    "leader",
    "lead",
    "monitor",
    "mntr",
    "observer_connection_stat_reset",
    "orst",
    "observers",
    "obsr",
    "ruok",
    "server_stats",
    "srvr",
    "set_trace_mask",
    "set_trace_mask?traceMask=1",
    "set_trace_mask?traceMask=x",
    "stmk?traceMask=1",
    "stat_reset",
    "srst",
    "stats",
    "stat",
    "system_properties",
    "sysp",
    "voting_view",
    "watch_summary",
    "wchs",
    "watches",
    "wchc",
    "watches_by_path",
    "wchp",
    "zabstate",
    "dirs",
    "hash",
    "snapshot",
    "snap",
    "snapshot?streaming=true",
    "snapshot?streaming=false",
    "snapshot?streaming=no",
    "restore",
    "rest",
    "nothing",
    "RUOK",
    "",
];

/// Both answers to everything that is asked; the lines that differ.
fn differences(transcripts: [Vec<(String, String)>; 2]) -> BTreeMap<String, [String; 2]> {
    let [theirs, ours] = transcripts;
    assert_eq!(theirs.len(), ours.len());
    let both = theirs.into_iter().zip(ours);
    both.filter(|((_, theirs), (_, ours))| theirs != ours)
        .map(|((asked, theirs), (_, ours))| (asked, [theirs, ours]))
        .collect()
}

fn both(more: &[(&str, &str)], ask: impl Fn(&Asked) -> Vec<(String, String)>) -> BTreeMap<String, [String; 2]> {
    differences([Apache, Rookeeper].map(|product| ask(&Asked::start(product, more))))
}

/// What a status is compared by where a command is asked for by the other one's method: here it is 405.
const OTHER_METHOD: &str = "the other method";

#[test]
fn every_command_is_answered_with_the_same_fields() {
    let found = both(&[], |asked| {
        let mut client = asked.client();
        client.create_with("/ephemeral", Some(b""), &[Acl::new(ALL, "world", "anyone")], 1).expect("a node");
        client.exists("/watched").expect("an answer");
        let mut told = Vec::new();
        for command in COMMANDS {
            for method in ["GET", "POST", "HEAD", "PUT", "DELETE", "TRACE", "OPTIONS"] {
                for proof in [None, Some("digest super:admin")] {
                    let answer = asked.ask(method, &format!("/commands/{command}"), proof, None);
                    let is_restore = ["restore", "rest"].contains(&command);
                    let is_known = !["nothing", "RUOK", ""].contains(&command);
                    let is_other = match method {
                        "GET" | "HEAD" => is_restore,
                        "POST" => is_known && !is_restore,
                        _ => false,
                    };
                    let shape = if is_other && answer.status >= 400 { OTHER_METHOD.to_owned() } else { answer.shape() };
                    told.push((format!("{method} /{command}, {}", proof.unwrap_or("no proof")), shape));
                }
            }
        }
        told
    });
    let left: Vec<String> = found
        .iter()
        .filter(|(asked, [theirs, ours])| !is_known_difference(asked, theirs, ours))
        .map(|(asked, [theirs, ours])| format!("{asked}\n  theirs: {theirs}\n  ours:   {ours}\n"))
        .collect();
    assert!(left.is_empty(), "{}", left.concat());
}

/// Differences that COMPAT.md tells of.
fn is_known_difference(asked: &str, theirs: &str, ours: &str) -> bool {
    let command = asked.split(['/', ',', '?']).nth(1).unwrap_or_default();
    let without = |text: &str, gone: fn(&str) -> bool| -> Vec<String> {
        text.split([' ', '{', '}']).filter(|field| !gone(field)).map(str::to_owned).collect()
    };
    match command {
        // A page for people has a type here.
        "" => ours.starts_with(theirs.trim_end()) && ours.ends_with("text/html"),
        "environment" | "env" | "envi" => {
            let java = |field: &str| field.starts_with("java.");
            without(theirs, java) == without(ours, java)
        }
        "system_properties" | "sysp" => {
            theirs.starts_with("200 {command:text error:null ") && ours.starts_with("200 {command:text error:null ")
        }
        // Each name is accounted for by the tests of metrics; here it is of the same type.
        "monitor" | "mntr" => {
            let fields = |text: &str| -> BTreeMap<String, String> {
                let fields = text.split([' ', '{', '}']).filter_map(|field| field.split_once(':'));
                fields.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
            };
            let (theirs, ours) = (fields(theirs), fields(ours));
            let mut both = ours.iter().filter_map(|(name, kind)| Some((name, kind, theirs.get(name)?))).peekable();
            both.peek().is_some()
                && both.all(|(name, ours, theirs)| ours == theirs || (ours == "null" && name.starts_with("non_mtls")))
        }
        "server_stats" | "srvr" | "stats" | "stat" => {
            let unseen = |field: &str| field.starts_with("non_mtls");
            without(theirs, unseen) == without(ours, unseen)
        }
        _ => false,
    }
}

#[test]
fn whoever_has_all_rights_at_the_root_may_take_a_snapshot_and_nobody_else() {
    let everybody = || vec![Acl::new(ALL, "world", "anyone")];
    let lists = [
        ("everybody", everybody()),
        ("root", vec![Acl::new(ALL, "digest", ROOT)]),
        ("root and readers", vec![Acl::new(ALL, "digest", ROOT), Acl::new(READ, "world", "anyone")]),
        ("this machine", vec![Acl::new(ALL, "ip", "127.0.0.1")]),
        ("another machine", vec![Acl::new(ALL, "ip", "192.0.2.1")]),
    ];
    let proofs = [
        None,
        Some(PROOF),
        Some("digest root:wrong"),
        Some("digest super:admin"),
        Some("ip 127.0.0.1"),
        Some("ip"),
        Some("x509 CN=localhost"),
        Some("digestroot:root_passwd"),
        Some("digest:root:root_passwd"),
        Some("InvalidAuthSchema root:root_passwd"),
        Some("sasl root:root_passwd"),
        Some("digest"),
        Some("digest  root:root_passwd"),
        Some(" "),
    ];
    let found = both(&[], |asked| {
        let mut told = Vec::new();
        for (whose, acls) in &lists {
            asked.root_is_for(acls);
            for proof in proofs {
                for (method, command) in [
                    ("GET", "snapshot?streaming=false"),
                    ("GET", "snap?streaming=true"),
                    ("POST", "restore"),
                    ("GET", "ruok"),
                ] {
                    let answer = asked.ask(method, &format!("/commands/{command}"), proof, None);
                    // A failure has a text here.
                    let error = if answer.status == 500 { String::new() } else { answer.error() };
                    told.push((
                        format!("{method} {command}, the root is for {whose}, {proof:?}"),
                        format!("{} {error}", answer.shape()),
                    ));
                }
            }
        }
        told
    });
    assert!(found.is_empty(), "{found:#?}");
}

/// A port that speaks TLS alone, and knows its callers by their certificates.
#[test]
fn whoever_has_the_certificate_of_the_root_may_take_a_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority").expect("openssl works");
    let cafile = format!("cafile={}", authority.trust().display());
    let certificate = authority.issue("client", &Wish::of("client")).expect("a certificate").pem.display().to_string();
    let keys = authority.issue("server", &Wish::of("server")).expect("a certificate").pem.display().to_string();
    let trust = authority.trust().display().to_string();
    let settings = [
        ("admin.forceHttps", "true"),
        ("admin.needClientAuth", "true"),
        ("authProvider.x509", "org.apache.zookeeper.server.auth.X509AuthenticationProvider"),
        ("ssl.keyStore.location", &keys),
        ("ssl.trustStore.location", &trust),
        ("ssl.quorum.keyStore.location", &keys),
        ("ssl.quorum.trustStore.location", &trust),
    ];
    let found = both(&settings, |asked| {
        let url = format!("https://localhost:{}/commands", asked.port.port());
        let mut told = Vec::new();
        for id in ["CN=client", "CN=somebody"] {
            asked.root_is_for(&[Acl::new(ALL, "x509", id)]);
            for proof in ["x509", "x509 CN=somebody", "ip", "digest super:admin"] {
                for url in
                    [format!("{url}/snapshot?streaming=false"), format!("{url}/snapshot").replace("https", "http")]
                {
                    let mut program = python("admin.py").expect("Python is installed");
                    program.args([
                        "GET",
                        &url,
                        &format!("Authorization={proof}"),
                        &cafile,
                        &format!("cert={certificate}"),
                    ]);
                    let answer = output(program, "").expect("it runs").stdout;
                    let status = answer.lines().next().unwrap_or_default();
                    let status = if status.starts_with("no answer") { "no answer" } else { status };
                    told.push((
                        format!("{proof} where the root is for {id}, {url}")
                            .replace(&asked.port.port().to_string(), "PORT"),
                        status.to_owned(),
                    ));
                }
            }
        }
        assert!(told.iter().any(|(_, status)| status == "200"), "{told:#?}");
        told
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn snapshots_are_taken_and_restored_with_the_same_answers() {
    let found = both(&[("serializeLastProcessedZxid.enabled", "true")], |asked| {
        asked.root_is_for(&[Acl::new(ALL, "digest", ROOT)]);
        let create = |number: usize| {
            let mut client = asked.client();
            client.authenticate("digest", "root:root_passwd").expect("it is root");
            for node in 0..number {
                let _ = client.create(&format!("/n{node}"), b"data");
            }
            client.close().expect("an end");
        };
        create(10);
        let mut told = Vec::new();
        let mut tell = |what: &str, answer: &Answer| told.push((what.to_owned(), answer.shape()));
        let snapshot = asked.ask("GET", "/commands/snapshot?streaming=true", Some(PROOF), None);
        tell("streaming", &snapshot);
        assert_eq!(snapshot.headers["snapshot_size"], snapshot.body.len().to_string());
        tell("not streaming", &asked.ask("GET", "/commands/snapshot?streaming=false", Some(PROOF), None));
        for round in 0..3 {
            create(12 + round);
            tell("restored", &asked.ask("POST", "/commands/restore", Some(PROOF), Some(&snapshot.body)));
            let mut client = asked.client();
            client.authenticate("digest", "root:root_passwd").expect("it is root");
            assert!(
                client.exists("/n9").expect("an answer").is_some()
                    && client.exists("/n11").expect("an answer").is_none()
            );
        }
        create(14);
        tell("nonsense", &asked.ask("POST", "/commands/restore", Some(PROOF), Some(b"Invalid snapshot data")));
        tell("nothing", &asked.ask("POST", "/commands/restore", Some(PROOF), Some(b"")));
        let monitor: Value =
            serde_json::from_slice(&asked.ask("GET", "/commands/monitor", None, None).body).expect("JSON");
        for name in [
            "snapshot_error_count",
            "snapshot_rate_limited_count",
            "restore_error_count",
            "restore_rate_limited_count",
            "cnt_restore_time",
        ] {
            told.push((name.to_owned(), monitor[name].to_string()));
        }
        told
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_switched_off_or_comes_too_often_is_refused_alike() {
    for setting in [
        ("admin.snapshot.enabled", "false"),
        ("admin.restore.enabled", "false"),
        ("serializeLastProcessedZxid.enabled", "false"),
        ("admin.rateLimiterIntervalInMS", "3600000"),
    ] {
        let found = both(&[setting], |asked| {
            let mut told = Vec::new();
            for (method, command) in
                [("GET", "snapshot?streaming=false"), ("GET", "snapshot"), ("POST", "restore"), ("POST", "restore")]
            {
                let body = (method == "POST").then_some(&b"Invalid snapshot data"[..]);
                let answer = asked.ask(method, &format!("/commands/{command}"), Some("digest super:admin"), body);
                told.push((format!("{method} {command} {setting:?} {}", told.len()), answer.shape()));
            }
            told
        });
        // A snapshot here always says of which transaction it is.
        let is_known = |asked: &str, theirs: &str| {
            setting.0.starts_with("serializeLast") && asked.starts_with("GET snapshot") && theirs == "500"
        };
        let left: Vec<_> = found.iter().filter(|(asked, [theirs, _])| !is_known(asked, theirs)).collect();
        assert!(left.is_empty(), "{left:#?}");
    }
}
