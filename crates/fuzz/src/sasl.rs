//! JAAS files, files of users, and the tokens of SASL on either side.
//!
//! The input: the first byte says which of the four, the rest is the text; tokens are separated by line feeds. What always holds: the same
//! text is read in the same way; a refusal names a line of the text; nobody comes in who has no password, and no exchange goes on for ever.

use std::sync::Arc;

use rookeeper_server::auth::digest_md5::{CLIENT_PORT, Client, Login, Progress, Server, Users};
use rookeeper_server::auth::jaas;

pub fn run(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => jaas_file(text),
        1 => users_file(text),
        2 => server(text),
        _ => client(text),
    }
}

fn is_line_of(line: usize, text: &[u8]) -> bool {
    (1..=1 + text.iter().filter(|byte| **byte == b'\n').count()).contains(&line)
}

fn jaas_file(text: &[u8]) {
    let property = |name: &str| (name == "user.home").then(|| "/home/zoe".to_owned());
    let read = jaas::parse(text, &property);
    assert_eq!(read, jaas::parse(text, &property), "the same file, read again");
    match read {
        Ok(sections) => {
            for section in &sections {
                assert!(is_line_of(section.line, text), "{section:?}");
                for module in &section.modules {
                    assert!(module.line >= section.line, "{section:?}");
                    module
                        .options
                        .iter()
                        .for_each(|(name, value)| assert_eq!(module.option(name), Some(value.as_str())));
                }
            }
        }
        Err(malformed) => assert!(is_line_of(malformed.line, text) && malformed.problem.len() < 500, "{malformed}"),
    }
}

fn users_file(text: &[u8]) {
    let mut users = Users::of(CLIENT_PORT);
    if let Err(malformed) = users.add_file(text) {
        assert!(is_line_of(malformed.line, text), "{malformed}");
    }
}

fn server(text: &[u8]) {
    let mut users = Users::of(CLIENT_PORT);
    users.set_password("bob", "a password that is in no input");
    let mut server = Server::new(Arc::new(users), "a nonce that was never used".to_owned());
    let mut challenges = 0;
    for token in text.split(|byte| *byte == b'\n') {
        match server.handle(token) {
            Ok(Progress::Challenge(_)) => challenges += 1,
            Ok(Progress::Authenticated { user, .. }) => panic!("{user} came in without the password"),
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    }
    assert!(challenges <= 1, "{challenges} challenges in one exchange");
}

fn client(text: &[u8]) {
    let mut client = Client::new(Login::new(CLIENT_PORT, "bob", "a password that is in no input"), "abc".to_owned());
    let mut answers = 0;
    for token in text.split(|byte| *byte == b'\n') {
        if let Ok(Some(answer)) = client.handle(token) {
            answers += 1;
            assert!(answer.len() <= 3 * token.len() + 1000);
        }
    }
    assert!(answers <= 1 && !client.is_complete(), "a server that does not know the password was believed");
}
