//! Kerberos between servers, Rookeeper and the original in one ensemble, with a real Kerberos server: who has the key of a member belongs to
//! it, and nobody else.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rookeeper_acceptance::disks::Disks;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::kerberos::{Kdc, REALM};
use rookeeper_acceptance::rounds::each_is_killed;
use rookeeper_acceptance::server::Product::{self, Apache};

const KEYS: [&str; 3] = ["quorum.auth.enableSasl", "quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl"];

fn ours() -> Product {
    Product::under_test()
}

fn keytab_section(name: &str, principal: &str, keytab: &Path) -> String {
    format!(
        "{name} {{\n  com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true useTicketCache=false\n  \
         keyTab=\"{}\" principal=\"{principal}\";\n}};\n",
        keytab.display()
    )
}

/// An ensemble whose server lines have addresses, and whose machines have names, for which their principals are.
fn on_named_machines(kdc: &Kdc, products: &[Product], canonicalizes: bool) -> Ensemble {
    let mut ensemble = prepared_as(kdc, products, canonicalizes, |_, id| format!("zkquorum/{}@{REALM}", machine(id)));
    ensemble.name_machines(machine).expect("it can be mounted");
    ensemble
}

fn machine(id: u64) -> String {
    format!("zoo{id}.machines.test")
}

fn principal(ensemble: &Ensemble, id: u64) -> String {
    format!("zkquorum/{}@{REALM}", ensemble.address(id).ip())
}

/// An ensemble that has not started. Each member has the principal of its host, by which it lets others in and logs in there.
fn prepared(kdc: &Kdc, products: &[Product]) -> Ensemble {
    prepared_as(kdc, products, false, principal)
}

fn prepared_as(
    kdc: &Kdc,
    products: &[Product],
    canonicalizes: bool,
    principal: impl Fn(&Ensemble, u64) -> String,
) -> Ensemble {
    let conf = kdc.conf().display().to_string();
    let jaas = kdc.path("quorum.jaas");
    let plan = Plan::of(products)
        .variable("KRB5_CONFIG", &conf)
        .property(&format!("-Djava.security.krb5.conf={conf}"))
        .property(&format!("-Djava.security.auth.login.config={}", jaas.display()))
        .config("quorum.auth.kerberos.servicePrincipal", "zkquorum/_HOST")
        .config("quorum.cnxn.threads.size", "20")
        .property(&format!("-Dzookeeper.kerberos.canonicalizeHostNames={canonicalizes}"));
    let plan = KEYS.iter().fold(plan, |plan, key| plan.config(key, "true"));
    let mut ensemble = plan.prepare().expect("directories and addresses");
    let mut text = String::new();
    for id in ensemble.ids() {
        let principal = principal(&ensemble, id);
        let keytab = kdc.keytab(&[&principal]).expect("a keytab");
        let _ = write!(text, "{}", keytab_section(&format!("Server{id}"), &principal, &keytab));
        let _ = write!(text, "{}", keytab_section(&format!("Learner{id}"), &principal, &keytab));
        ensemble
            .set_config(id, "quorum.auth.server.saslLoginContext", &format!("Server{id}"))
            .expect("its file can be written");
        ensemble
            .set_config(id, "quorum.auth.learner.saslLoginContext", &format!("Learner{id}"))
            .expect("its file can be written");
    }
    fs::write(&jaas, text).expect("a file");
    ensemble
}

fn append(kdc: &Kdc, text: &str) {
    let path = kdc.path("quorum.jaas");
    let jaas = fs::read_to_string(&path).expect("the file") + text;
    fs::write(path, jaas).expect("a file");
}

/// Each server is killed and comes back, the leader first, under load.
fn one_after_the_other(products: &[Product], name: &str) {
    let kdc = Kdc::start().expect("a Kerberos server");
    let mut ensemble = prepared(&kdc, products);
    ensemble.start_led_by_last().expect("an ensemble forms, and the last one leads");
    each_is_killed(&mut ensemble, name).expect("nothing is lost and nothing contradicts");
}

#[test]
fn among_ourselves() {
    one_after_the_other(&[ours(), ours(), ours()], "among_ourselves");
}

#[test]
fn apache_leads() {
    one_after_the_other(&[ours(), ours(), Apache], "apache_leads");
}

#[test]
fn apache_follows() {
    one_after_the_other(&[Apache, Apache, ours()], "apache_follows");
}

/// Server lines may have what is no name of the machine there. Members of both kinds look the names up, to ask for tickets and to let others in.
#[test]
fn members_go_by_the_names_of_their_machines() {
    if !Disks::are_available() {
        return;
    }
    let kdc = Kdc::start().expect("a Kerberos server");
    for products in [[ours(), ours(), Apache], [Apache, Apache, ours()], [ours(), ours(), ours()]] {
        let mut ensemble = on_named_machines(&kdc, &products, true);
        ensemble.start_led_by_last().expect("an ensemble forms, and the last one leads");
        each_is_up(&mut ensemble);
    }
    if ours() == Apache {
        return;
    }
    // Without that the tickets would be for what the server lines say, which nobody is.
    let mut ensemble = on_named_machines(&kdc, &[ours(), ours(), ours()], false);
    ensemble.start_all().expect("they run");
    ensemble.wait_log(1, 0, &["Kerberos"]).expect("it is said");
    assert!(!ensemble.log(1).contains("follows server") && !ensemble.log(1).contains("this server leads"));
}

fn each_is_up(ensemble: &mut Ensemble) {
    for id in ensemble.ids() {
        let mut client = ensemble.connect(id).expect("a session");
        client.sync().expect("a quorum answers");
    }
}

/// Expects it behind the first `start` bytes of the log.
fn expect_log(ensemble: &mut Ensemble, id: u64, start: usize, text: &str) {
    ensemble.wait_log(id, start, &[text]).expect("it is said");
}

/// Lets a member start as somebody else, and expects what is said there and at another one, while the others go on.
fn expect_outside(kdc: &Kdc, ensemble: &mut Ensemble, section: &str, said_outside: &str, said_inside: Option<&str>) {
    append(kdc, section);
    let name = section.split_once(' ').expect("a name").0;
    ensemble.kill(1).expect("it runs");
    // What was set last was for the last member.
    ensemble.set_config(1, "quorum.auth.server.saslLoginContext", "Server1").expect("its file can be written");
    ensemble.set_config(1, "quorum.auth.learner.saslLoginContext", name).expect("its file can be written");
    let [outside, inside] = [1, 3].map(|id| ensemble.log(id).len());
    ensemble.start(1).expect("it starts");
    expect_log(ensemble, 1, outside, said_outside);
    if let Some(text) = said_inside {
        expect_log(ensemble, 3, inside, text);
    }
    let mut client = ensemble.connect(3).expect("a session");
    client.sync().expect("two of three go on");
}

#[test]
fn whoever_is_no_member_stays_outside_and_both_sides_say_why() {
    if ours() == Apache {
        return;
    }
    let mut kdc = Kdc::start().expect("a Kerberos server");
    let mut ensemble = prepared(&kdc, &[ours(), ours(), ours()]);
    ensemble.start_led_by_last().expect("an ensemble forms, and the last one leads");

    // A user of the realm, and a service at a host that is no member: both are known to Kerberos, and neither is a server.
    for (name, principal) in [("User", "bob@EXAMPLE.COM"), ("Elsewhere", "zkquorum/elsewhere@EXAMPLE.COM")] {
        let keytab = kdc.keytab(&[principal]).expect("a keytab");
        let section = keytab_section(name, principal, &keytab);
        let inside = format!("{principal} is authenticated by Kerberos, but the server lines name no such host");
        // Of lines that somebody outside can cause, only the first few are written at once.
        let said_inside = (name == "User").then_some(inside.as_str());
        expect_outside(&kdc, &mut ensemble, &section, "the ticket of this server is refused there", said_inside);
    }

    // A key that was changed at the Kerberos server.
    let keytab = kdc.keytab(&["zkquorum/old@EXAMPLE.COM"]).expect("a keytab");
    kdc.change_key("zkquorum/old@EXAMPLE.COM").expect("a new key");
    let section = keytab_section("Old", "zkquorum/old@EXAMPLE.COM", &keytab);
    expect_outside(&kdc, &mut ensemble, &section, "the keys differ from those of the Kerberos server", None);

    // A ticket cache whose tickets have expired.
    let member = principal(&ensemble, 1);
    let keytab = kdc.keytab(&[&member]).expect("a keytab");
    kdc.restart_at(Some("-3h")).expect("the Kerberos server starts in the past");
    let tickets = kdc.tickets(&member, &keytab, 3600, Some("-3h")).expect("tickets");
    kdc.restart_at(None).expect("the Kerberos server starts");
    let section = format!(
        "Expired {{\n  com.sun.security.auth.module.Krb5LoginModule required useTicketCache=true ticketCache=\"{}\";\n}};\n",
        tickets.display()
    );
    expect_outside(&kdc, &mut ensemble, &section, "get a new ticket (kinit", None);

    // Somebody fills it anew, and the member comes in without a restart.
    let again = kdc.tickets(&member, &keytab, 3600, None).expect("tickets");
    assert_eq!(again, tickets);
    ensemble.wait_formed().expect("the member comes in");
}

/// A Kerberos server that is away ends no connection and prevents no start; tickets are asked for when it is back.
#[test]
fn the_kerberos_server_may_be_away() {
    if ours() == Apache {
        return;
    }
    let mut kdc = Kdc::start().expect("a Kerberos server");
    let mut ensemble = prepared(&kdc, &[ours(), ours(), ours()]);
    ensemble.start_led_by_last().expect("an ensemble forms, and the last one leads");
    kdc.stop();
    let mut client = ensemble.connect(3).expect("a session");
    client.create("/goes-on", b"").expect("connections that are made stay");
    ensemble.kill(1).expect("it runs");
    ensemble.start(1).expect("it starts without a Kerberos server");
    expect_log(&mut ensemble, 1, 0, "no Kerberos server can be reached for this realm");
    kdc.restart_at(None).expect("the Kerberos server is back");
    ensemble.wait_formed().expect("so is the member");
}
