//! The side that is asked to let somebody in.

use std::sync::Arc;

use super::directives::Directives;
use super::{Exchange, MAX_TOKEN_BYTES, Refusal, Secret, Users};
use crate::auth::is_same_secret;

/// One exchange, from the first token of the client to the verdict. After a verdict, every further token is refused.
#[derive(Debug)]
pub struct Server {
    users: Arc<Users>,
    nonce: String,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Challenged,
    Over,
}

/// What is to be sent, and what has been found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The client is to answer this.
    Challenge(Vec<u8>),
    /// The client has proved to be this user; the token proves to it that the server knows the password too.
    Authenticated {
        /// The user.
        user: String,
        /// The identity that the client wishes to act as, where that is not left open.
        authorization_id: Option<String>,
        /// The last token.
        token: Vec<u8>,
    },
}

impl Server {
    /// `nonce` must be unpredictable and without quotes, and never be used again.
    pub fn new(users: Arc<Users>, nonce: String) -> Server {
        Server { users, nonce, step: Step::Begin }
    }

    /// Takes the next token of the client.
    pub fn handle(&mut self, token: &[u8]) -> Result<Progress, Refusal> {
        let step = std::mem::replace(&mut self.step, Step::Over);
        if step == Step::Over {
            return Err(Refusal::Over);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong(token.len()));
        }
        match step {
            // It should be empty, but Java does not look at it either.
            Step::Begin => {
                self.step = Step::Challenged;
                let (realm, nonce) = (self.users.service().realm, &self.nonce);
                let challenge = format!("realm=\"{realm}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                Ok(Progress::Challenge(challenge.into_bytes()))
            }
            Step::Challenged | Step::Over => self.judge(token),
        }
    }

    fn judge(&self, token: &[u8]) -> Result<Progress, Refusal> {
        let directives = Directives::parse(token)?;
        let service = self.users.service();
        let user = directives.text("username", "no username")?;
        if directives.get("realm", "no realm")? != service.realm.as_bytes() {
            return Err(Refusal::Unfitting("it is for another realm"));
        }
        if directives.get("nonce", "no nonce")? != self.nonce.as_bytes() {
            return Err(Refusal::Unfitting("it answers another challenge"));
        }
        let nonce_count = directives.get("nc", "no nc")?;
        if nonce_count != b"00000001" {
            return Err(Refusal::Unfitting("its nonce was used before"));
        }
        if directives.find("qop").is_some_and(|qop| qop != b"auth") {
            return Err(Refusal::Unfitting("another quality of protection than auth"));
        }
        let uri = directives.get("digest-uri", "no digest-uri")?;
        if !uri.eq_ignore_ascii_case(service.uri().as_bytes()) {
            return Err(Refusal::Unfitting("its digest-uri is for another service"));
        }
        let response = directives.get("response", "no response")?;
        let authorization_id = match directives.find("authzid") {
            Some(_) => Some(directives.text("authzid", "no authzid")?).filter(|id| !id.is_empty()),
            None => None,
        };
        let exchange = Exchange {
            nonce: self.nonce.as_bytes(),
            cnonce: directives.get("cnonce", "no cnonce")?,
            nonce_count,
            uri,
            authorization_id: directives.find("authzid"),
        };
        // Somebody without a secret is compared too, so that the time does not tell users from others.
        let nobody = [Secret([0; 16])];
        let secrets = self.users.secrets(&user);
        let candidates = if secrets.is_empty() { &nobody } else { secrets };
        let mut proved = None;
        for secret in candidates {
            if is_same_secret(response, &exchange.response(secret)) && !secrets.is_empty() {
                proved = Some(secret);
            }
        }
        let Some(secret) = proved else { return Err(Refusal::Wrong) };
        let mut token = b"rspauth=".to_vec();
        token.extend_from_slice(&exchange.response_auth(secret));
        Ok(Progress::Authenticated { user, authorization_id, token })
    }
}

#[cfg(test)]
mod tests {
    use super::super::CLIENT_PORT;
    use super::*;

    const NONCE: &str = "/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM";
    const CHALLENGE: &str = "realm=\"zk-sasl-md5\",nonce=\"/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM\",charset=utf-8,\
                             algorithm=md5-sess";
    /// What a client answered to it; it was recorded from the original, as the challenge was.
    const ANSWER: &str = "charset=utf-8,username=\"bob\",realm=\"zk-sasl-md5\",nonce=\"/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM\",\
                          nc=00000001,cnonce=\"Y25vbmNlLWZpeGVk\",digest-uri=\"zookeeper/zk-sasl-md5\",maxbuf=65536,\
                          response=524f38eed78807606605c7ff85219f87,qop=auth";
    const PROOF: &str = "rspauth=9ad321d47f4c6b76637cc81822a8712d";

    fn server() -> Server {
        let mut users = Users::of(CLIENT_PORT);
        users.set_password("bob", "bobsecret");
        users.set_password("zoë", "pässwörd");
        Server::new(Arc::new(users), NONCE.to_owned())
    }

    /// The verdict on a second token.
    fn judged(token: &str) -> Result<Progress, Refusal> {
        let mut server = server();
        assert_eq!(server.handle(b""), Ok(Progress::Challenge(CHALLENGE.as_bytes().to_vec())));
        let verdict = server.handle(token.as_bytes());
        assert_eq!(server.handle(token.as_bytes()), Err(Refusal::Over), "one verdict for each exchange");
        verdict
    }

    #[test]
    fn the_recorded_exchange() {
        let bob = Progress::Authenticated {
            user: "bob".to_owned(),
            authorization_id: None,
            token: PROOF.as_bytes().to_vec(),
        };
        assert_eq!(judged(ANSWER), Ok(bob));
    }

    #[test]
    fn a_wrong_user_or_password_is_refused() {
        assert_eq!(judged(&ANSWER.replace("524f", "524e")), Err(Refusal::Wrong));
        assert_eq!(judged(&ANSWER.replace("\"bob\"", "\"joe\"")), Err(Refusal::Wrong));
        assert_eq!(judged(&ANSWER.replace("524f38eed78807606605c7ff85219f87", "")), Err(Refusal::Wrong));
        // What somebody without a secret would have to answer.
        let exchange = Exchange {
            nonce: NONCE.as_bytes(),
            cnonce: b"Y25vbmNlLWZpeGVk",
            nonce_count: b"00000001",
            uri: b"zookeeper/zk-sasl-md5",
            authorization_id: None,
        };
        let response = String::from_utf8(exchange.response(&Secret([0; 16])).to_vec()).unwrap();
        let answer = ANSWER.replace("\"bob\"", "\"joe\"").replace("524f38eed78807606605c7ff85219f87", &response);
        assert_eq!(judged(&answer), Err(Refusal::Wrong));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (from, to, refusal) in [
            ("realm=\"zk-sasl-md5\"", "realm=\"zk-quorum-sasl-md5\"", Refusal::Unfitting("it is for another realm")),
            ("realm=\"zk-sasl-md5\"", "a=b", Refusal::Malformed("no realm")),
            ("nonce=\"/h", "nonce=\"/H", Refusal::Unfitting("it answers another challenge")),
            ("nc=00000001", "nc=00000002", Refusal::Unfitting("its nonce was used before")),
            ("nc=00000001", "a=b", Refusal::Malformed("no nc")),
            ("qop=auth", "qop=auth-int", Refusal::Unfitting("another quality of protection than auth")),
            ("\"zookeeper/", "\"hdfs/", Refusal::Unfitting("its digest-uri is for another service")),
            ("username=", "user=", Refusal::Malformed("no username")),
            ("cnonce=\"Y", "c=\"Y", Refusal::Malformed("no cnonce")),
            ("charset=utf-8", "charset=latin", Refusal::Malformed("another charset")),
            ("qop=auth", "qop=auth,qop=auth", Refusal::Malformed("a directive that is there twice, or has no name")),
        ] {
            assert!(ANSWER.contains(from));
            assert_eq!(judged(&ANSWER.replacen(from, to, 1)), Err(refusal), "{to}");
        }
        assert_eq!(judged(""), Err(Refusal::Malformed("no username")));
        assert_eq!(judged(&"a".repeat(4097)), Err(Refusal::TooLong(4097)));
    }

    #[test]
    fn an_exchange_begins_with_any_token_of_some_length() {
        assert!(matches!(server().handle(ANSWER.as_bytes()), Ok(Progress::Challenge(_))));
        let mut server = self::server();
        assert_eq!(server.handle(&[0; 5000]), Err(Refusal::TooLong(5000)));
        assert_eq!(server.handle(b""), Err(Refusal::Over));
    }

    #[test]
    fn either_way_to_write_a_password_in_bytes_is_taken() {
        for bytes in [Secret::of("zoë", "zk-sasl-md5", "pässwörd"), Secret::of_utf_8("zoë", "zk-sasl-md5", "pässwörd")]
        {
            let exchange = Exchange {
                nonce: NONCE.as_bytes(),
                cnonce: b"Y25vbmNlLWZpeGVk",
                nonce_count: b"00000001",
                uri: b"zookeeper/zk-sasl-md5",
                authorization_id: Some("zoë".as_bytes()),
            };
            let response = String::from_utf8(exchange.response(&bytes).to_vec()).unwrap();
            let answer = ANSWER
                .replace("\"bob\"", "\"zoë\",authzid=\"zoë\"")
                .replace("524f38eed78807606605c7ff85219f87", &response);
            let Ok(Progress::Authenticated { user, authorization_id, token }) = judged(&answer) else {
                panic!("{answer}")
            };
            assert_eq!((user.as_str(), authorization_id.as_deref()), ("zoë", Some("zoë")));
            assert_eq!(&token[8..], exchange.response_auth(&bytes));
        }
    }
}
