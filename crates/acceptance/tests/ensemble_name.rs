//! A client says which ensemble it means. A server of another one cuts it without an answer: AuthFailed would end its session for good,
//! and the next address of its list may be right.

use rookeeper_acceptance::client::{Client, four_letter_word, refusal};
use rookeeper_acceptance::server::Setup;

#[test]
fn a_client_that_means_another_ensemble_is_sent_on() {
    let provider = "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider";
    let server = Setup::new()
        .property(&format!("-Dzookeeper.authProvider.1={provider}"))
        .property("-Dzookeeper.ensembleAuthName=mine,alias")
        .config("4lw.commands.whitelist", "*")
        .start()
        .expect("the server starts");
    for name in ["mine", "alias", ""] {
        let mut client = Client::connect(server.address()).expect("a session");
        client.authenticate("ensemble", name).expect("it is the right one");
        client.create(&format!("/by-{name}"), b"").expect("it is served");
    }
    let mntr = |name: &str| {
        let answer = four_letter_word(server.address(), "mntr").expect("it answers");
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')).map(str::to_owned)
    };
    assert_eq!(mntr("zk_ensemble_auth_success").as_deref(), Some("2"));
    assert_eq!(mntr("zk_ensemble_auth_skip").as_deref(), Some("1"));
    assert_eq!(mntr("zk_ensemble_auth_fail").as_deref(), Some("0"));
    let mut client = Client::connect(server.address()).expect("a session");
    let refused = client.authenticate("ensemble", "theirs");
    assert!(refused.is_err() && refusal(&refused).is_none(), "an answer, not an end: {refused:?}");
    let resumed = Client::resume(server.address(), &client.session).expect("an answer");
    assert_eq!(resumed.session.id, client.session.id, "its session lives");
    assert_eq!(mntr("zk_ensemble_auth_fail").as_deref(), Some("1"));
}
