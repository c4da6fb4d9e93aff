//! What servers prove to each other on the quorum port and the election port (`quorum.auth.*`): SASL in packets of its own.
//!
//! State machines without IO: bytes that arrived go in, what is to be done comes out. What always holds: no more is read than the exchange
//! needs, so that what follows it is left for those behind; a packet is no longer than a token may be, and an exchange has two of each side.
//!
//! Counterparts in the original: `SaslQuorumAuthServer`, `SaslQuorumAuthLearner`, `QuorumAuthPacket`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::digest_md5::{self, Client, Progress, Server, Users};
use super::kerberos::acceptor::{Acceptor as Service, Progress as TicketProgress};
use super::kerberos::initiator::Initiator;
use super::kerberos::names::Principal;
use super::kerberos::{self, Login as KerberosLogin};
use crate::net::canonical::CanonicalNames;

/// With these bytes a packet begins, and nothing else on either port does.
const MAGIC: [u8; 8] = 0x5f24_3501_3501_edcc_u64.to_be_bytes();

/// Magic, status, and the length of the token.
const HEAD_BYTES: usize = 16;

/// The length of a token that is not there.
const NULL: i32 = -1;

const IN_PROGRESS: i32 = 0;
const SUCCESS: i32 = 1;
const ERROR: i32 = -1;

/// How this server proves itself, and what it demands of others, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QuorumAuth {
    /// Who to be where this server dials; none to prove nothing.
    pub login: Option<Login>,
    /// Who others may be; none to demand nothing and understand no proof.
    pub users: Option<Others>,
    /// Whether others must prove themselves.
    pub is_required: bool,
    /// Whether members are what the resolver calls their machines, whatever the server lines call them.
    pub canonicalizes: bool,
}

/// Who this server is where it dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Password(digest_md5::Login),
    Ticket {
        login: KerberosLogin,
        /// Whom to expect at the other end: `service/host`, where `_HOST` is the host that is dialled.
        service: String,
        /// The realm of that, where the name has none.
        realm: Option<String>,
    },
}

/// Who others may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Others {
    Passwords(Arc<Users>),
    Tickets { login: KerberosLogin, members: Members },
}

/// The principals that are members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// Hosts of the server lines.
    pub hosts: BTreeSet<String>,
    /// The principal that this server has where it dials, which others may share.
    pub mine: Option<String>,
}

impl Members {
    /// Whether a principal may come in: one at the host of a member, as in the original; without a host, only the one of this server.
    fn admit(&self, principal: &str, default_realm: &str) -> bool {
        let mine = self.mine.as_ref().map(|mine| match mine.contains('@') {
            true => mine.clone(),
            false => format!("{mine}@{default_realm}"),
        });
        self.has_host_of(principal) || (Principal::parse(principal).is_some() && mine.as_deref() == Some(principal))
    }

    /// Whether a principal is one at the host of a member.
    pub fn has_host_of(&self, principal: &str) -> bool {
        match Principal::parse(principal) {
            Some(Principal { host: Some(host), realm: Some(_), .. }) => {
                self.hosts.iter().any(|member| member.eq_ignore_ascii_case(&host))
            }
            _ => false,
        }
    }
}

/// The same, with the keys and the library that it takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proofs {
    pub login: Option<Prover>,
    pub judge: Option<Judge>,
    pub is_required: bool,
    /// Where members are what the resolver calls their machines.
    pub names: Option<Arc<CanonicalNames>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Prover {
    Password(digest_md5::Login),
    Ticket(Arc<Initiator>),
}

#[derive(Debug, Clone)]
pub(crate) enum Judge {
    Passwords(Arc<Users>),
    Tickets(Arc<Service>, Arc<Members>),
}

impl Proofs {
    /// Reads keytabs, and asks nobody. An error says what to do.
    pub fn open(auth: QuorumAuth) -> Result<Proofs, String> {
        let login = match auth.login {
            Some(Login::Password(login)) => Some(Prover::Password(login)),
            Some(Login::Ticket { login, service, realm }) => {
                Some(Prover::Ticket(Arc::new(Initiator::open(login, service, realm)?)))
            }
            None => None,
        };
        let judge = match auth.users {
            Some(Others::Passwords(users)) => Some(Judge::Passwords(users)),
            Some(Others::Tickets { login, members }) => {
                Some(Judge::Tickets(Arc::new(Service::open(&login)?), Arc::new(members)))
            }
            None => None,
        };
        let names = auth.canonicalizes.then(Arc::default);
        Ok(Proofs { login, judge, is_required: auth.is_required, names })
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read up to so many bytes; no more may be.
    Read(usize),
    /// Send this, and go on.
    Send(Vec<u8>),
    /// Let Kerberos take this token, and hand over what comes of it.
    Ask(Vec<u8>),
    /// The exchange is over. The user is none where nothing was proved and nothing had to be.
    Done(Option<String>),
}

/// Why an exchange failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Said by the side that accepts.
    #[error(
        "does not authenticate by SASL, and quorum.auth.serverRequireSasl=true; set quorum.auth.learnerRequireSasl=true there"
    )]
    NotAuthenticating,
    /// Of either side.
    #[error("SASL: {0}")]
    Refused(#[from] digest_md5::Refusal),
    /// Of either side.
    #[error("SASL: Kerberos: {0}")]
    Ticket(#[from] kerberos::Refusal),
    /// The principal is sound, but no member.
    #[error(
        "SASL: {0} is authenticated by Kerberos, but the server lines name no such host; a member's principal is service/HOST@REALM, or the \
         same for all members"
    )]
    NoMember(String),
    /// The dialling side asks to act as somebody else.
    #[error("SASL: asks to act as another user")]
    OtherUser,
    /// It is no packet of SASL.
    #[error("SASL: what comes is no packet of it; set quorum.auth.enableSasl=true there")]
    NoPacket,
    /// Said by the side that dials.
    #[error("SASL: the user or password of this server's section for learners is refused there")]
    NotLetIn,
    /// The same, by Kerberos.
    #[error("SASL: the ticket of this server is refused there; the log of that server says why")]
    TicketNotLetIn,
}

/// What the accepting side sends before it closes a connection; nothing to somebody who speaks no SASL.
pub(crate) fn last_words(failure: &Failure) -> Option<Vec<u8>> {
    (*failure != Failure::NotAuthenticating).then(|| packet(ERROR, &[]))
}

fn packet(status: i32, token: &[u8]) -> Vec<u8> {
    let length = i32::try_from(token.len()).unwrap_or(i32::MAX);
    [&MAGIC[..], &status.to_be_bytes(), &length.to_be_bytes(), token].concat()
}

/// Takes the packet at the head of the buffer, its status and token; or how many bytes are missing yet.
fn take(buffer: &mut Vec<u8>, limit: usize) -> Result<Result<(i32, Vec<u8>), usize>, Failure> {
    let (Some(head), Some(status), Some(length)) = (buffer.get(..8), number(buffer, 8), number(buffer, 12)) else {
        return Ok(Err(HEAD_BYTES - buffer.len()));
    };
    if head != MAGIC {
        return Err(Failure::NoPacket);
    }
    // Java's server says so to the last token of Kerberos.
    let length = if length == NULL { 0 } else { usize::try_from(length).map_err(|_| Failure::NoPacket)? };
    if length > limit {
        return Err(digest_md5::Refusal::TooLong(length).into());
    }
    let end = HEAD_BYTES + length;
    if buffer.len() < end {
        return Ok(Err(end - buffer.len()));
    }
    let token = buffer[HEAD_BYTES..end].to_vec();
    buffer.drain(..end);
    Ok(Ok((status, token)))
}

fn number(buffer: &[u8], start: usize) -> Option<i32> {
    buffer.get(start..)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// The side that accepted the connection.
#[derive(Debug)]
pub(crate) struct Acceptor {
    mechanism: AcceptBy,
    is_required: bool,
    /// Whether the other side has begun as somebody who authenticates.
    has_begun: bool,
    /// What is said once the last packet is sent.
    done: Option<String>,
}

#[derive(Debug)]
enum AcceptBy {
    Password(Box<Server>),
    Ticket,
}

impl Acceptor {
    /// `nonce` must be unpredictable and never be used again.
    pub fn by_password(users: Arc<Users>, is_required: bool, nonce: String) -> Acceptor {
        Acceptor::by(AcceptBy::Password(Box::new(Server::new(users, nonce))), is_required)
    }

    pub fn by_ticket(is_required: bool) -> Acceptor {
        Acceptor::by(AcceptBy::Ticket, is_required)
    }

    fn by(mechanism: AcceptBy, is_required: bool) -> Acceptor {
        Acceptor { mechanism, is_required, has_begun: false, done: None }
    }

    /// Whether somebody who says nothing more may come in.
    pub fn lets_silence_in(&self) -> bool {
        !self.is_required && !self.has_begun
    }

    /// Call again after what it asks for is done; `buffer` has what arrived and was not taken.
    pub fn step(&mut self, buffer: &mut Vec<u8>) -> Result<Step, Failure> {
        if self.done.is_some() {
            return Ok(Step::Done(self.done.take()));
        }
        if !self.has_begun {
            let length = buffer.len().min(MAGIC.len());
            if buffer[..length] != MAGIC[..length] {
                return if self.is_required { Err(Failure::NotAuthenticating) } else { Ok(Step::Done(None)) };
            }
            if length < MAGIC.len() {
                return Ok(Step::Read(MAGIC.len() - length));
            }
            self.has_begun = true;
        }
        let limit = match self.mechanism {
            AcceptBy::Password(_) => digest_md5::MAX_TOKEN_BYTES,
            AcceptBy::Ticket => kerberos::MAX_TOKEN_BYTES,
        };
        let token = match take(buffer, limit)? {
            Err(missing) => return Ok(Step::Read(missing)),
            Ok((_, token)) => token,
        };
        let AcceptBy::Password(server) = &mut self.mechanism else { return Ok(Step::Ask(token)) };
        match server.handle(&token)? {
            Progress::Challenge(token) => Ok(Step::Send(packet(IN_PROGRESS, &token))),
            Progress::Authenticated { user, authorization_id, token } => {
                if authorization_id.is_some_and(|id| id != user) {
                    return Err(Failure::OtherUser);
                }
                self.done = Some(user);
                Ok(Step::Send(packet(SUCCESS, &token)))
            }
        }
    }

    /// Takes what Kerberos made of a token.
    pub fn judged(
        &mut self,
        progress: TicketProgress,
        members: &Members,
        default_realm: &str,
    ) -> Result<Step, Failure> {
        match progress {
            TicketProgress::Challenge(token) => Ok(Step::Send(packet(IN_PROGRESS, &token))),
            TicketProgress::Authenticated { principal, authorization_id } => {
                if authorization_id.is_some_and(|id| id != principal) {
                    return Err(Failure::OtherUser);
                }
                if !members.admit(&principal, default_realm) {
                    return Err(Failure::NoMember(principal));
                }
                self.done = Some(principal);
                Ok(Step::Send(packet(SUCCESS, &[])))
            }
        }
    }
}

/// The side that made the connection.
#[derive(Debug)]
pub(crate) struct Dialer {
    mechanism: DialBy,
    has_begun: bool,
}

#[derive(Debug)]
enum DialBy {
    Password(Client),
    /// Whether this side has said everything.
    Ticket {
        is_complete: bool,
    },
}

impl Dialer {
    /// `cnonce` must be unpredictable.
    pub fn by_password(login: digest_md5::Login, cnonce: String) -> Dialer {
        Dialer { mechanism: DialBy::Password(Client::new(login, cnonce)), has_begun: false }
    }

    pub fn by_ticket() -> Dialer {
        Dialer { mechanism: DialBy::Ticket { is_complete: false }, has_begun: false }
    }

    /// Call again after what it asks for is done; `buffer` has what arrived and was not taken.
    pub fn step(&mut self, buffer: &mut Vec<u8>) -> Result<Step, Failure> {
        if !self.has_begun {
            self.has_begun = true;
            return Ok(match self.mechanism {
                DialBy::Password(_) => Step::Send(packet(IN_PROGRESS, &[])),
                DialBy::Ticket { .. } => Step::Ask(Vec::new()),
            });
        }
        let limit = match self.mechanism {
            DialBy::Password(_) => digest_md5::MAX_TOKEN_BYTES,
            DialBy::Ticket { .. } => kerberos::MAX_TOKEN_BYTES,
        };
        let (status, token) = match take(buffer, limit)? {
            Err(missing) => return Ok(Step::Read(missing)),
            Ok(packet) => packet,
        };
        match &mut self.mechanism {
            DialBy::Password(_) if status == ERROR => Err(Failure::NotLetIn),
            DialBy::Password(client) => match (client.handle(&token)?, status) {
                (Some(answer), IN_PROGRESS) => Ok(Step::Send(packet(IN_PROGRESS, &answer))),
                (None, SUCCESS) => Ok(Step::Done(None)),
                _ => Err(Failure::NoPacket),
            },
            DialBy::Ticket { is_complete } => match (*is_complete, status) {
                (_, ERROR) => Err(Failure::TicketNotLetIn),
                (false, IN_PROGRESS) => Ok(Step::Ask(token)),
                (true, SUCCESS) => Ok(Step::Done(None)),
                _ => Err(Failure::NoPacket),
            },
        }
    }

    /// Takes what Kerberos answers to a token, and whether that is everything.
    pub fn answered(&mut self, answer: &[u8], is_everything: bool) -> Step {
        if let DialBy::Ticket { is_complete } = &mut self.mechanism {
            *is_complete = is_everything;
        }
        Step::Send(packet(IN_PROGRESS, answer))
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::super::digest_md5::{Login, MAX_TOKEN_BYTES, QUORUM, Refusal};
    use super::*;

    const NONCE: &str = "BghkVP8R40zGvddSuviIptJKHODE9tgR77AWwm92";
    const CNONCE: &str = "GvWar9eqLzchw3Xi6czJQ4OuPxPao7AqrLsPicI+";

    /// What server 3 and server 2 of the original said on the election port, from first to last.
    fn recorded() -> [Vec<u8>; 4] {
        let token = [
            String::new(),
            format!("realm=\"zk-quorum-sasl-md5\",nonce=\"{NONCE}\",charset=utf-8,algorithm=md5-sess"),
            format!(
                "charset=utf-8,username=\"zkq\",realm=\"zk-quorum-sasl-md5\",nonce=\"{NONCE}\",nc=00000001,cnonce=\"{CNONCE}\",\
                 digest-uri=\"zookeeper-quorum/zk-quorum-sasl-md5\",maxbuf=65536,response=d1dfeb8a72479e643ecbceefb03d47ee,qop=auth,\
                 authzid=\"zkq\""
            ),
            "rspauth=214ad09264d8333a2818659912031c07".to_owned(),
        ];
        let packet = |number: usize, status| {
            let mut bytes = vec![0x5f, 0x24, 0x35, 1, 0x35, 1, 0xed, 0xcc, 0, 0, 0, status];
            bytes.extend((token[number].len() as u32).to_be_bytes());
            bytes.extend(token[number].as_bytes());
            bytes
        };
        [packet(0, 0), packet(1, 0), packet(2, 0), packet(3, 1)]
    }

    fn acceptor(is_required: bool) -> Acceptor {
        let mut users = Users::of(QUORUM);
        users.set_password("zkq", "quorumpw");
        Acceptor::by_password(Arc::new(users), is_required, NONCE.to_owned())
    }

    fn dialer(password: &str) -> Dialer {
        Dialer::by_password(Login::new(QUORUM, "zkq", password), CNONCE.to_owned())
    }

    #[test]
    fn the_recorded_exchange_byte_by_byte() {
        let [first, challenge, answer, last] = recorded();
        assert_eq!(first, [0x5f, 0x24, 0x35, 1, 0x35, 1, 0xed, 0xcc, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut acceptor = acceptor(true);
        let mut dialer = dialer("quorumpw");
        let feed = |step: &mut dyn FnMut(&mut Vec<u8>) -> Result<Step, Failure>, bytes: &[u8]| {
            let mut buffer = Vec::new();
            for byte in bytes {
                assert!(matches!(step(&mut buffer), Ok(Step::Read(missing)) if missing > 0));
                buffer.push(*byte);
            }
            let next = step(&mut buffer);
            assert_eq!(buffer, [0; 0], "all of the packet is taken");
            next
        };
        assert_eq!(dialer.step(&mut Vec::new()), Ok(Step::Send(first.clone())));
        assert_eq!(feed(&mut |buffer| acceptor.step(buffer), &first), Ok(Step::Send(challenge.clone())));
        assert_eq!(feed(&mut |buffer| dialer.step(buffer), &challenge), Ok(Step::Send(answer.clone())));
        assert_eq!(feed(&mut |buffer| acceptor.step(buffer), &answer), Ok(Step::Send(last.clone())));
        assert_eq!(feed(&mut |buffer| dialer.step(buffer), &last), Ok(Step::Done(None)));
        // What follows stays for those behind.
        let mut behind = b"more".to_vec();
        assert_eq!(acceptor.step(&mut behind), Ok(Step::Done(Some("zkq".to_owned()))));
        assert_eq!(behind, b"more");
    }

    #[test]
    fn whoever_does_not_authenticate_comes_in_only_where_that_is_allowed() {
        for bytes in [&b"\0\0\0\x28\0\0\0\0"[..], b"\x5f\x24\x36", b"x"] {
            let mut buffer = bytes.to_vec();
            assert_eq!(acceptor(false).step(&mut buffer), Ok(Step::Done(None)));
            assert_eq!(buffer, bytes, "all is left for those behind");
            assert_eq!(acceptor(true).step(&mut buffer), Err(Failure::NotAuthenticating));
        }
        assert!(acceptor(false).lets_silence_in() && !acceptor(true).lets_silence_in());
        let mut begun = acceptor(false);
        begun.step(&mut recorded()[0].clone()).unwrap();
        assert!(!begun.lets_silence_in());
    }

    #[test]
    fn whoever_fails_is_refused_also_where_authentication_is_not_required() {
        let [first, challenge, answer, last] = recorded();
        for is_required in [false, true] {
            let verdict = |second: Vec<u8>| {
                let mut acceptor = acceptor(is_required);
                acceptor.step(&mut first.clone()).unwrap();
                acceptor.step(&mut { second }).unwrap_err()
            };
            let text = String::from_utf8_lossy(&answer[16..]).into_owned();
            let with = |token: &str| packet(IN_PROGRESS, token.as_bytes());
            assert_eq!(verdict(with(&text.replace("=d1d", "=d1e"))), Refusal::Wrong.into());
            assert_eq!(verdict(with(&text.replace(",authzid=\"zkq\"", ",authzid=\"other\""))), Refusal::Wrong.into());
            assert_eq!(verdict(first.clone()), Refusal::Malformed("no username").into());
            assert_eq!(verdict(last.clone()), Refusal::Malformed("no username").into());
            assert_eq!(verdict(challenge.clone()), Refusal::Malformed("no username").into());
            assert_eq!(verdict(b"\0\0\0\x04abcd\0\0\0\0\0\0\0\0".to_vec()), Failure::NoPacket);
            let mut long = packet(IN_PROGRESS, &[]);
            long[12..].copy_from_slice(&0x7fff_ffff_i32.to_be_bytes());
            assert_eq!(verdict(long.clone()), Refusal::TooLong(0x7fff_ffff).into());
            long[12..].copy_from_slice(&(-2_i32).to_be_bytes());
            assert_eq!(verdict(long), Failure::NoPacket);
        }
    }

    /// The mechanism itself lets a user ask for that: the name is a part of the proof.
    #[test]
    fn nobody_acts_as_another_user() {
        use md5::{Digest as _, Md5};
        let hash = |parts: &[&[u8]]| Md5::digest(parts.concat());
        let hex = |parts: &[&[u8]]| hash(parts).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let session = hex(&[&hash(&[b"zkq:zk-quorum-sasl-md5:quorumpw"]), b":", NONCE.as_bytes(), b":c:boss"]);
        let request = hex(&[b"AUTHENTICATE:zookeeper-quorum/zk-quorum-sasl-md5"]);
        let response = hex(&[format!("{session}:{NONCE}:00000001:c:auth:{request}").as_bytes()]);
        let token = format!(
            "username=\"zkq\",realm=\"zk-quorum-sasl-md5\",nonce=\"{NONCE}\",nc=00000001,cnonce=\"c\",\
             digest-uri=\"zookeeper-quorum/zk-quorum-sasl-md5\",response={response},authzid=\"boss\""
        );
        let mut acceptor = acceptor(true);
        acceptor.step(&mut recorded()[0].clone()).unwrap();
        assert_eq!(acceptor.step(&mut packet(IN_PROGRESS, token.as_bytes())), Err(Failure::OtherUser));
    }

    #[test]
    fn a_dialer_is_not_taken_in() {
        let [_, challenge, _, last] = recorded();
        let verdict = |password: &str, packets: &[Vec<u8>]| {
            let mut dialer = dialer(password);
            dialer.step(&mut Vec::new()).unwrap();
            packets.iter().map(|packet| dialer.step(&mut packet.clone())).last().unwrap().unwrap_err()
        };
        assert_eq!(verdict("quorumpw", &[packet(ERROR, &[])]), Failure::NotLetIn);
        assert_eq!(verdict("quorumpw", &[challenge.clone(), packet(ERROR, &[])]), Failure::NotLetIn);
        assert_eq!(verdict("other", &[challenge.clone(), last.clone()]), Refusal::Wrong.into());
        assert_eq!(verdict("quorumpw", &[packet(SUCCESS, &challenge[16..])]), Failure::NoPacket);
        assert_eq!(verdict("quorumpw", &[challenge, packet(IN_PROGRESS, &last[16..])]), Failure::NoPacket);
        assert_eq!(verdict("quorumpw", &[b"\0\0\0\x28\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()]), Failure::NoPacket);
    }

    #[test]
    fn the_last_words_are_for_those_who_understand_them() {
        assert_eq!(last_words(&Failure::NotAuthenticating), None);
        let error = [&MAGIC[..], &[0xff; 4], &[0; 4]].concat();
        assert_eq!(last_words(&Refusal::Wrong.into()), Some(error));
    }

    /// Drives one side with these bytes, as many at a time as it asks for, to the end. Returns whether it was satisfied, and what it left.
    fn fed(mut step: impl FnMut(&mut Vec<u8>) -> Result<Step, Failure>, bytes: &[u8]) -> (bool, Vec<u8>) {
        let (mut buffer, mut rest) = (Vec::new(), bytes);
        loop {
            match step(&mut buffer) {
                Ok(Step::Read(count)) => {
                    assert!(count > 0 && buffer.len() + count <= HEAD_BYTES + MAX_TOKEN_BYTES, "{count} more bytes");
                    let (taken, behind) = rest.split_at(count.min(rest.len()));
                    if taken.is_empty() {
                        return (false, buffer);
                    }
                    buffer.extend_from_slice(taken);
                    rest = behind;
                }
                Ok(Step::Send(bytes)) => assert!(bytes.len() <= HEAD_BYTES + MAX_TOKEN_BYTES),
                Ok(Step::Done(user)) => return (user.is_none(), [&buffer, rest].concat()),
                Ok(Step::Ask(token)) => panic!("passwords ask nobody: {token:?}"),
                Err(_) => return (false, buffer),
            }
        }
    }

    proptest::proptest! {
        /// Whoever lacks the password is never believed, and bytes of no exchange are all left where none is required.
        #[test]
        fn any_bytes_are_refused_or_left(
            parts in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
                    (0..4_usize).prop_map(|number| recorded()[number].clone()),
                    (-2..3_i32, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40))
                        .prop_map(|(status, token)| packet(status, &token)),
                ],
                0..6,
            ),
        ) {
            let bytes = parts.concat();
            let users = || { let mut users = Users::of(QUORUM); users.set_password("zkq", "another"); Arc::new(users) };
            for is_required in [false, true] {
                let mut acceptor = Acceptor::by_password(users(), is_required, NONCE.to_owned());
                let (comes_in, left) = fed(|buffer| acceptor.step(buffer), &bytes);
                let speaks_sasl = bytes.len() >= MAGIC.len() && bytes.starts_with(&MAGIC);
                proptest::prop_assert!(!comes_in || (!is_required && !speaks_sasl && left == bytes));
            }
            let mut dialer = dialer("another");
            proptest::prop_assert!(!fed(|buffer| dialer.step(buffer), &bytes).0);
        }
    }

    fn members() -> Members {
        Members { hosts: BTreeSet::from(["zoo1".to_owned(), "Zoo2".to_owned()]), mine: Some("zkquorum@R".to_owned()) }
    }

    #[test]
    fn a_principal_is_a_member_by_its_host_or_by_being_the_same_as_this_server() {
        for (principal, is_member) in [
            ("zkquorum/zoo1@R", true),
            ("zkquorum/zoo2@R", true),
            ("zkquorum/zoo3@R", false),
            ("zkquorum@R", true),
            ("bob@R", false),
            ("zkquorum@S", false),
            ("a/b/zoo1@R", false),
            ("x\\/zoo1@R", false),
            ("x/zoo1", false),
        ] {
            assert_eq!(members().admit(principal, "R"), is_member, "{principal}");
        }
        let short = Members { mine: Some("zkquorum".to_owned()), ..Members::default() };
        assert!(short.admit("zkquorum@R", "R") && !short.admit("zkquorum@S", "R"));
        assert!(!Members::default().admit("zkquorum@R", "R"));
    }

    #[test]
    fn tickets_are_asked_of_others_and_packed_here() {
        let (mut dialer, mut acceptor) = (Dialer::by_ticket(), Acceptor::by_ticket(true));
        assert_eq!(dialer.step(&mut Vec::new()), Ok(Step::Ask(vec![])));
        let Step::Send(mut first) = dialer.answered(b"ticket", false) else { panic!() };
        assert_eq!(acceptor.step(&mut first), Ok(Step::Ask(b"ticket".to_vec())));
        let challenge = TicketProgress::Challenge(b"offer".to_vec());
        let Ok(Step::Send(mut offer)) = acceptor.judged(challenge, &members(), "R") else { panic!() };
        assert_eq!(dialer.step(&mut offer), Ok(Step::Ask(b"offer".to_vec())));
        assert_eq!(dialer.step(&mut packet(SUCCESS, &[])), Err(Failure::NoPacket), "not before the last token");
        let Step::Send(mut last) = dialer.answered(b"none", true) else { panic!() };
        assert_eq!(acceptor.step(&mut last), Ok(Step::Ask(b"none".to_vec())));
        let done = |principal: &str, id: Option<&str>| TicketProgress::Authenticated {
            principal: principal.to_owned(),
            authorization_id: id.map(str::to_owned),
        };
        let other = acceptor.judged(done("zkquorum/zoo1@R", Some("zkquorum/zoo2@R")), &members(), "R");
        assert_eq!(other, Err(Failure::OtherUser));
        let stranger = acceptor.judged(done("bob@R", Some("bob@R")), &members(), "R");
        assert_eq!(stranger, Err(Failure::NoMember("bob@R".to_owned())));
        let verdict = acceptor.judged(done("zkquorum/zoo1@R", Some("zkquorum/zoo1@R")), &members(), "R");
        assert_eq!(verdict, Ok(Step::Send(packet(SUCCESS, &[]))));
        assert_eq!(acceptor.step(&mut Vec::new()), Ok(Step::Done(Some("zkquorum/zoo1@R".to_owned()))));
        // Java's server ends with a token that is null.
        let mut null = packet(SUCCESS, &[]);
        null[12..].copy_from_slice(&NULL.to_be_bytes());
        assert_eq!(dialer.step(&mut null), Ok(Step::Done(None)));
        assert_eq!(dialer.step(&mut packet(ERROR, &[])), Err(Failure::TicketNotLetIn));
    }

    #[test]
    fn tickets_may_be_long_but_not_endless() {
        let mut long = packet(IN_PROGRESS, &[0; kerberos::MAX_TOKEN_BYTES]);
        assert!(matches!(Acceptor::by_ticket(true).step(&mut long.clone()), Ok(Step::Ask(_))));
        long[12..16].copy_from_slice(&65_537_i32.to_be_bytes());
        assert_eq!(Acceptor::by_ticket(true).step(&mut long), Err(Refusal::TooLong(65_537).into()));
    }
}
