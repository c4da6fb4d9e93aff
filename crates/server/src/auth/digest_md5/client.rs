//! The side that wants to be let in: a server that dials another one.

use super::directives::{Directives, quoted};
use super::{Exchange, MAX_TOKEN_BYTES, Refusal, Secret, Service};
use crate::auth::is_same_secret;

/// Who to come in as, without the password itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    service: Service,
    user: String,
    secret: Secret,
}

impl Login {
    /// A user of the service with its password.
    pub fn new(service: Service, user: &str, password: &str) -> Login {
        Login { service, user: user.to_owned(), secret: Secret::of(user, service.realm, password) }
    }

    /// The name.
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// One exchange, from the server's challenge to its proof.
#[derive(Debug)]
pub struct Client {
    login: Login,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The nonce to answer with.
    Begin(String),
    /// The proof that is expected of the server.
    Answered([u8; 32]),
    Over,
}

impl Client {
    /// `cnonce` must be unpredictable and without quotes.
    pub fn new(login: Login, cnonce: String) -> Client {
        Client { login, step: Step::Begin(cnonce) }
    }

    /// Whether the server has proved to know the password.
    pub fn is_complete(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Takes the next token of the server and returns the answer; none to the last one.
    pub fn handle(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong(token.len()));
        }
        match &self.step {
            Step::Begin(cnonce) => {
                let (answer, proof) = self.answer(token, cnonce)?;
                self.step = Step::Answered(proof);
                Ok(Some(answer))
            }
            Step::Answered(proof) => {
                let directives = Directives::parse(token)?;
                if !is_same_secret(directives.get("rspauth", "no rspauth")?, proof) {
                    return Err(Refusal::Wrong);
                }
                self.step = Step::Over;
                Ok(None)
            }
            Step::Over => Err(Refusal::Over),
        }
    }

    /// The answer to a challenge, and the proof that must follow.
    fn answer(&self, challenge: &[u8], cnonce: &str) -> Result<(Vec<u8>, [u8; 32]), Refusal> {
        let Login { service, user, secret } = &self.login;
        let directives = Directives::parse(challenge)?;
        if directives.get("algorithm", "no algorithm")? != b"md5-sess" {
            return Err(Refusal::Malformed("another algorithm"));
        }
        if directives.find("realm").is_some_and(|realm| realm != service.realm.as_bytes()) {
            return Err(Refusal::Unfitting("it is of another realm"));
        }
        let (nonce, uri) = (directives.get("nonce", "no nonce")?, service.uri());
        let exchange = Exchange {
            nonce,
            cnonce: cnonce.as_bytes(),
            nonce_count: b"00000001",
            uri: uri.as_bytes(),
            // As Java's client, which asks to act as the one it is.
            authorization_id: Some(user.as_bytes()),
        };
        let mut answer = b"charset=utf-8,username=".to_vec();
        quoted(user.as_bytes(), &mut answer);
        answer.extend_from_slice(b",realm=");
        quoted(service.realm.as_bytes(), &mut answer);
        answer.extend_from_slice(b",nonce=");
        quoted(nonce, &mut answer);
        answer.extend_from_slice(b",nc=00000001,cnonce=");
        quoted(cnonce.as_bytes(), &mut answer);
        answer.extend_from_slice(b",digest-uri=");
        quoted(uri.as_bytes(), &mut answer);
        answer.extend_from_slice(b",maxbuf=65536,response=");
        answer.extend_from_slice(&exchange.response(secret));
        answer.extend_from_slice(b",qop=auth,authzid=");
        quoted(user.as_bytes(), &mut answer);
        Ok((answer, exchange.response_auth(secret)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Progress, QUORUM, Server, Users};
    use super::*;

    fn client(login: Login) -> Client {
        Client::new(login, "GvWar9eqLzchw3Xi6czJQ4OuPxPao7AqrLsPicI+".to_owned())
    }

    /// Between two servers of the original, on the election port.
    #[test]
    fn the_recorded_exchange() {
        let mut client = client(Login::new(QUORUM, "zkq", "quorumpw"));
        let challenge =
            b"realm=\"zk-quorum-sasl-md5\",nonce=\"BghkVP8R40zGvddSuviIptJKHODE9tgR77AWwm92\",charset=utf-8,\
                          algorithm=md5-sess";
        let answer = client.handle(challenge).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            "charset=utf-8,username=\"zkq\",realm=\"zk-quorum-sasl-md5\",nonce=\"BghkVP8R40zGvddSuviIptJKHODE9tgR77AWwm92\",\
             nc=00000001,cnonce=\"GvWar9eqLzchw3Xi6czJQ4OuPxPao7AqrLsPicI+\",digest-uri=\"zookeeper-quorum/zk-quorum-sasl-md5\",\
             maxbuf=65536,response=d1dfeb8a72479e643ecbceefb03d47ee,qop=auth,authzid=\"zkq\""
        );
        assert!(!client.is_complete());
        let proof = b"rspauth=214ad09264d8333a2818659912031c07";
        assert_eq!(client.handle(proof), Ok(None));
        assert!(client.is_complete());
        assert_eq!(client.handle(proof), Err(Refusal::Over));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_believed() {
        let mut client = client(Login::new(QUORUM, "a\"b", "secret"));
        client.handle(b"nonce=x,algorithm=md5-sess").unwrap().unwrap();
        assert_eq!(client.handle(b"rspauth=9ad321d47f4c6b76637cc81822a8712d"), Err(Refusal::Wrong));
        assert_eq!(client.handle(b""), Err(Refusal::Malformed("no rspauth")));
        assert!(!client.is_complete());
        let mut client = self::client(Login::new(QUORUM, "a", "secret"));
        assert_eq!(client.handle(b"nonce=x"), Err(Refusal::Malformed("no algorithm")));
        let other = b"realm=\"zk-sasl-md5\",nonce=x,algorithm=md5-sess";
        assert_eq!(client.handle(other), Err(Refusal::Unfitting("it is of another realm")));
        assert_eq!(client.handle(&[b'a'; 4097]), Err(Refusal::TooLong(4097)));
    }

    #[test]
    fn both_sides_understand_each_other() {
        for (user, password, is_right) in
            [("zkq", "secret", true), ("a \"b\\ö", "\u{20ac}", true), ("zkq", "wrong", false)]
        {
            let mut users = Users::of(QUORUM);
            users.set_password(user, if is_right { password } else { "secret" });
            let mut server = Server::new(Arc::new(users), "abc".to_owned());
            let mut client = client(Login::new(QUORUM, user, password));
            let Ok(Progress::Challenge(challenge)) = server.handle(b"") else { panic!("no challenge") };
            let answer = client.handle(&challenge).unwrap().unwrap();
            match server.handle(&answer) {
                Ok(Progress::Authenticated { user: who, token, .. }) => {
                    assert!(is_right && who == user);
                    assert_eq!(client.handle(&token), Ok(None));
                }
                Err(refusal) => assert!(!is_right && refusal == Refusal::Wrong, "{refusal}"),
                Ok(Progress::Challenge(_)) => panic!("a second challenge"),
            }
        }
    }
}
