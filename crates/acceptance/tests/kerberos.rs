//! Kerberos on the client port, with a real Kerberos server and the Java client: who has a ticket comes in as its principal, and nobody else.
//!
//! With `ROOKEEPER_ACCEPTANCE_SERVER=apache` the tests of what the original does too say that it does.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::foreign::{self, output};
use rookeeper_acceptance::kerberos::Kdc;
use rookeeper_acceptance::server::{Product, Server, Setup};
use rookeeper_acceptance::wire::{self, Body};

const SASL: i32 = 102;
const AUTH_FAILED: i32 = -115;
const SESSION_CLOSED_REQUIRE_SASL_AUTH: i32 = -124;
const NULL_TOKEN: [u8; 4] = [0xff; 4];
const SERVICE: &str = "zookeeper/localhost@EXAMPLE.COM";

fn is_apache() -> bool {
    Product::under_test() == Product::Apache
}

/// A section of a JAAS file with a keytab.
fn section(name: &str, principal: &str, keytab: &Path) -> String {
    format!(
        "{name} {{\n  com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true useTicketCache=false\n  \
         keyTab=\"{}\" principal=\"{principal}\";\n}};\n",
        keytab.display()
    )
}

fn write(kdc: &Kdc, name: &str, text: &str) -> PathBuf {
    let path = kdc.path(name);
    fs::write(&path, text).expect("a file");
    path
}

/// A server that lets clients in by this section.
fn setup_with(kdc: &Kdc, section: &str) -> Setup {
    let jaas = write(kdc, "server.jaas", section);
    let conf = kdc.conf().display().to_string();
    Setup::new()
        .variable("KRB5_CONFIG", &conf)
        .property(&format!("-Djava.security.krb5.conf={conf}"))
        .property(&format!("-Djava.security.auth.login.config={}", jaas.display()))
        .property("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
        .config("4lw.commands.whitelist", "*")
}

fn setup(kdc: &Kdc) -> Setup {
    let keytab = kdc.keytab(&[SERVICE]).expect("a keytab");
    setup_with(kdc, &section("Server", SERVICE, &keytab))
}

/// A user with a keytab, and the shell of the original as that user, at this service.
struct User<'a> {
    kdc: &'a Kdc,
    jaas: PathBuf,
    service: String,
}

impl<'a> User<'a> {
    fn new(kdc: &'a Kdc, principal: &str) -> User<'a> {
        let keytab = kdc.keytab(&[principal]).expect("a keytab");
        let name = format!("{}.jaas", principal.replace(['/', '@'], "_"));
        let jaas = write(kdc, &name, &section("Client", principal, &keytab));
        User { kdc, jaas, service: SERVICE.to_owned() }
    }

    fn at(mut self, service: &str) -> User<'a> {
        self.service = service.to_owned();
        self
    }

    fn run(&self, server: &Server, command: &[&str]) -> foreign::Output {
        let mut shell = foreign::zk_cli().expect("the jars are installed");
        let options = format!(
            "-Djava.security.auth.login.config={} -Djava.security.krb5.conf={} -Dzookeeper.server.principal={}",
            self.jaas.display(),
            self.kdc.conf().display(),
            self.service
        );
        shell.env("JDK_JAVA_OPTIONS", options).args(["-server", &server.address().to_string()]).args(command);
        output(shell, "").expect("the shell ends")
    }

    fn expect(&self, server: &Server, command: &[&str], text: &str) {
        let output = self.run(server, command);
        let said = output.stdout.clone() + &output.stderr;
        assert!(output.code == Some(0) && said.contains(text), "{text:?}: {output:?}\n{}", server.log());
    }

    fn expect_refused(&self, server: &Server) {
        let output = self.run(server, &["get", "/secret"]);
        assert!(output.code != Some(0) && !output.stdout.contains("his"), "{output:?}");
    }
}

#[test]
fn a_principal_is_a_user() {
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc).property("-Dzookeeper.superUser=boss@EXAMPLE.COM").start().expect("the server starts");
    let bob = User::new(&kdc, "bob@EXAMPLE.COM");
    bob.expect(&server, &["create", "/secret", "his", "sasl:bob@EXAMPLE.COM:cdrwa"], "Created /secret");
    bob.expect(&server, &["get", "/secret"], "his");
    bob.expect(&server, &["whoami"], "sasl: bob@EXAMPLE.COM");
    User::new(&kdc, "ann@EXAMPLE.COM").expect_refused(&server);
    let boss = User::new(&kdc, "boss@EXAMPLE.COM");
    boss.expect(&server, &["get", "/secret"], "his");
    User::new(&kdc, "app/host.example.com@EXAMPLE.COM").expect(
        &server,
        &["whoami"],
        "sasl: app/host.example.com@EXAMPLE.COM",
    );
}

/// Its tickets come from Kerberos' own library.
#[test]
fn kazoo() {
    let kdc = Kdc::start().expect("a Kerberos server");
    let mut server = setup(&kdc).start().expect("the server starts");
    let mut command = foreign::python("kerberos_tickets.py").expect("kazoo is installed");
    for (variable, principal) in [("BOB", "bob@EXAMPLE.COM"), ("ANN", "ann@EXAMPLE.COM")] {
        let keytab = kdc.keytab(&[principal]).expect("a keytab");
        let tickets = kdc.tickets(principal, &keytab, 3600, None).expect("tickets");
        let own = kdc.path(variable);
        fs::rename(tickets, &own).expect("a file");
        command.env(variable, own);
    }
    command.env("KRB5_CONFIG", kdc.conf());
    foreign::run(command, &mut server).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn users_are_named_by_rules() {
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc)
        .property("-Dzookeeper.kerberos.removeHostFromPrincipal=true")
        .property("-Dzookeeper.kerberos.removeRealmFromPrincipal=true")
        .property(
            "-Dzookeeper.security.auth_to_local=RULE:[2:$1](app)s/^app$/application/RULE:[1:$1](ann)s/n/m/gDEFAULT",
        )
        .start()
        .expect("the server starts");
    for (principal, user) in [
        ("bob@EXAMPLE.COM", "sasl: bob\n"),
        ("ann@EXAMPLE.COM", "sasl: amm\n"),
        ("app/host@EXAMPLE.COM", "sasl: application\n"),
    ] {
        User::new(&kdc, principal).expect(&server, &["whoami"], user);
    }
}

#[test]
fn where_sasl_is_required_a_ticket_is_enough() {
    let kdc = Kdc::start().expect("a Kerberos server");
    let server =
        setup(&kdc).property("-Dzookeeper.sessionRequireClientSASLAuth=true").start().expect("the server starts");
    let mut stranger = Client::connect(server.address()).expect("a session");
    let refused = stranger.call(wire::EXISTS, &Body::new().string("/").bool(false)).expect("an answer");
    assert_eq!((refused.zxid, refused.error), (0, SESSION_CLOSED_REQUIRE_SASL_AUTH));
    User::new(&kdc, "bob@EXAMPLE.COM").expect(&server, &["create", "/b", "x"], "Created /b");
}

fn token(bytes: &[u8]) -> Body {
    Body::new().buffer(Some(bytes))
}

/// Each is answered with AuthFailed and a null token, then the connection ends; the others are served.
#[test]
fn whoever_has_no_ticket_is_refused_and_disturbs_nobody() {
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc).start().expect("the server starts");
    let mut bystander = Client::connect(server.address()).expect("a session");
    bystander.create("/there", b"").expect("a node");
    // The head of a token of Kerberos, and an AP-REQ without an end.
    let mechanism = b"\x60\x82\xff\xff\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00";
    let whole = b"\x60\x0d\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00";
    let negotiating = b"\x60\x0c\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x02\x30\x00";
    let mut guesses: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        b"username=\"bob\"".to_vec(),
        mechanism.to_vec(),
        whole.to_vec(),
        negotiating.to_vec(),
        [&mechanism[..], &[0x6e; 4000]].concat(),
        vec![0x60; 65_536],
        vec![0x60; 65_537],
        vec![0xff; 900_000],
    ];
    if is_apache() {
        guesses.truncate(7);
    }
    for guess in guesses {
        let mut client = Client::connect(server.address()).expect("a session");
        let reply = client.call(SASL, &token(&guess)).expect("an answer");
        let short = &guess[..guess.len().min(20)];
        assert_eq!((reply.zxid, reply.error, reply.body.as_slice()), (0, AUTH_FAILED, &NULL_TOKEN[..]), "{short:x?}");
        assert!(client.at_end().expect("the end"), "{short:x?}");
    }
    bystander.set_data("/there", b"x", -1).expect("others are served");
}

/// A ticket that somebody recorded is of no use to somebody else, and neither are endless steps.
#[test]
fn where_failing_is_allowed_the_steps_have_no_end_but_no_effect() {
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc).property("-Dzookeeper.allowSaslFailedClients=true").start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    for _ in 0..500 {
        let reply = client.call(SASL, &token(b"no ticket")).expect("an answer").ok().expect("no refusal");
        assert_eq!(reply.body, NULL_TOKEN);
    }
    client.create("/open", b"").expect("it goes on without an identity");
    User::new(&kdc, "bob@EXAMPLE.COM").expect(&server, &["whoami"], "sasl: bob@EXAMPLE.COM");
}

#[test]
fn passwords_and_tickets_side_by_side() {
    if is_apache() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    // printf %s bob:zk-sasl-md5:bobsecret | md5sum
    let users = write(&kdc, "users", "bob:fff08f480333e7694a6455b4a1d5b656\n");
    let server =
        setup(&kdc).config("sasl.users.file", &users.display().to_string()).start().expect("the server starts");
    let jaas = write(
        &kdc,
        "password.jaas",
        "Client {\n  org.apache.zookeeper.server.auth.DigestLoginModule required username=\"bob\" password=\"bobsecret\";\n};\n",
    );
    let by_password = User { kdc: &kdc, jaas, service: SERVICE.to_owned() };
    by_password.expect(&server, &["whoami"], "sasl: bob\n");
    User::new(&kdc, "ann@EXAMPLE.COM").expect(&server, &["whoami"], "sasl: ann@EXAMPLE.COM");
}

/// What the log must say of a refused client.
fn expect_log(server: &Server, texts: &[&str]) {
    let mut log = String::new();
    for text in texts {
        log = server.wait_log(text).unwrap_or_else(|error| panic!("{error:#}"));
    }
    let line = log.lines().find(|line| line.contains(texts[0])).unwrap_or_default();
    assert!(texts.iter().all(|text| line.contains(text)), "{texts:?} are not in one line: {line}");
}

#[test]
fn a_key_that_was_changed_is_told_with_the_remedy() {
    if is_apache() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc).start().expect("the server starts");
    let bob = User::new(&kdc, "bob@EXAMPLE.COM");
    bob.expect(&server, &["create", "/secret", "his", "sasl:bob@EXAMPLE.COM:cdrwa"], "Created");
    kdc.change_key(SERVICE).expect("a new key");
    bob.expect_refused(&server);
    expect_log(&server, &["failed for Kerberos: ", SERVICE, ".keytab", "write the keytab anew (kadmin ktadd)"]);
    // The keytab is read again for every client, so nothing has to be started anew.
    kdc.keytab(&[SERVICE]).expect("the keytab has the new key too");
    bob.expect(&server, &["get", "/secret"], "his");
}

#[test]
fn another_principal_is_told_with_the_remedy() {
    if is_apache() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc).start().expect("the server starts");
    kdc.keytab(&["zookeeper/other@EXAMPLE.COM"]).expect("a principal");
    User::new(&kdc, "bob@EXAMPLE.COM").at("zookeeper/other@EXAMPLE.COM").expect_refused(&server);
    expect_log(&server, &["failed for Kerberos: ", "zookeeper/other", SERVICE, "is for another principal"]);
}

#[test]
fn a_clock_that_is_wrong_is_told_with_the_remedy() {
    if is_apache() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    let server = setup(&kdc).script("exec faketime -f +20m \"$@\"").start().expect("the server starts in the future");
    User::new(&kdc, "bob@EXAMPLE.COM").expect_refused(&server);
    expect_log(&server, &["failed for Kerberos: ", "Clock skew too great", SERVICE, "synchronise them (NTP)"]);
}

/// Why a server with this section does not start.
fn refusal(kdc: &Kdc, section: &str, more: impl FnOnce(Setup) -> Setup) -> String {
    let failure = more(setup_with(kdc, section)).start_and_fail().expect("it refuses to start");
    assert_eq!(failure.code, Some(2), "{}", failure.log);
    failure.log
}

#[test]
fn what_cannot_work_is_refused_at_start_with_its_remedy() {
    if is_apache() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    let keytab = kdc.keytab(&["bob@EXAMPLE.COM"]).expect("a keytab");
    let log = refusal(&kdc, &section("Server", SERVICE, &keytab), |setup| setup);
    assert!(log.contains(SERVICE) && log.contains("bob_EXAMPLE.COM.keytab"), "{log}");
    assert!(log.contains("klist -kte"), "{log}");

    let log = refusal(&kdc, &section("Server", SERVICE, &kdc.path("none.keytab")), |setup| setup);
    assert!(log.contains("none.keytab cannot be read: No such file") && log.contains("correct its path"), "{log}");

    let garbage = write(&kdc, "garbage.keytab", "this is no keytab");
    let log = refusal(&kdc, &section("Server", SERVICE, &garbage), |setup| setup);
    assert!(log.contains(SERVICE) && log.contains("garbage.keytab"), "{log}");

    // A library that is not what its name says stands for none.
    write(&kdc, "libgssapi_krb5.so.2", "this is no library");
    let directory = kdc.path("").display().to_string();
    let right = kdc.keytab(&[SERVICE]).expect("a keytab");
    let log = refusal(&kdc, &section("Server", SERVICE, &right), |setup| setup.variable("LD_LIBRARY_PATH", &directory));
    assert!(log.contains("libgssapi_krb5.so.2") && log.contains("libgssapi-krb5-2 on Debian"), "{log}");

    let mut unreadable = String::new();
    let _ = write!(unreadable, "{}", section("Server", SERVICE, &right));
    let log = refusal(&kdc, &unreadable.replace("keyTab=", "useTicketCache2=true keyTab="), |setup| setup);
    assert!(log.contains("there is no option useTicketCache2"), "{log}");
}

/// The library is not looked for where nobody asks for Kerberos.
#[test]
fn without_kerberos_the_library_need_not_be_there() {
    if is_apache() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    write(&kdc, "libgssapi_krb5.so.2", "this is no library");
    let directory = kdc.path("").display().to_string();
    let server = Setup::new().variable("LD_LIBRARY_PATH", &directory).start().expect("the server starts");
    Client::connect(server.address()).expect("a session");
}
