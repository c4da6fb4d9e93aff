//! A session with the ensemble whose tree has the consistent services: requests in order, their answers, and what is told between them; with TLS and a proof of who the
//! registry is, where that is configured.
//!
//! Requests, answers and frames are those of `rookeeper-proto`, so little stands here twice. The bare client of the acceptance tests shares nothing with that crate, on purpose: an
//! error of the encoding must not stand on both sides of a test.
//!
//! What always holds: answers come in the order of the requests, and what was told of changes before an answer is there when the answer is; a session
//! outlives its connection, for as long as the servers let it.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::event::{AddWatchMode, NOTIFICATION_XID, WatcherEvent};
use rookeeper_proto::frame::{self, PING_XID, ReplyHeader, RequestHeader};
use rookeeper_proto::jute::{self, Buffer, ByteBuf, Text};
use rookeeper_proto::multi::{FLAG_CONTAINER, MultiHeader};
use rookeeper_proto::request::{
    AuthRequest, CreateRequest, PathModeRequest, PathVersionRequest, PathWatchRequest, SetDataRequest,
};
use rookeeper_proto::response::GetDataResponse;
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Stat, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proof::{Openness, Proof};
use super::secure::Dialer;
use crate::auth::{digest_md5, nonce};
use crate::net::stream::PeerStream;

/// How long the servers are to keep the session of a registry that is away: its instances meanwhile turn to another one.
const SESSION_MS: i32 = 60_000;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How long the answer to a request may take. Without a quorum none comes.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The longest answer: the names of all instances of a service.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Requests that are under way at once.
const PIPELINE: usize = 200;

const EPHEMERAL: i32 = 1;

/// The number of a request that says who the client is.
const AUTH_XID: i32 = -4;

/// A session that can be gone on with.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    session: SessionId,
    password: Vec<u8>,
    zxid: Zxid,
}

#[derive(Debug)]
pub(super) struct Link {
    stream: PeerStream,
    received: Vec<u8>,
    next_xid: i32,
    ticket: Ticket,
    pub timeout: Duration,
    /// Paths of nodes of which something was told, each once however often that was.
    pub events: BTreeSet<String>,
}

/// A request, as its bytes without the number.
#[derive(Debug)]
pub(super) struct Ask {
    op: OpCode,
    body: Vec<u8>,
}

/// The body of an answer, or why there is none.
pub(super) type Reply = Result<Vec<u8>, i32>;

impl Ask {
    pub fn data(path: &str) -> Ask {
        let body = jute::to_vec(&PathWatchRequest { path: Some(Text::from(path)), watch: false });
        Ask { op: OpCode::GetData, body }
    }

    pub fn children(path: &str) -> Ask {
        let body = jute::to_vec(&PathWatchRequest { path: Some(Text::from(path)), watch: false });
        Ask { op: OpCode::GetChildren, body }
    }

    /// From then on every change below the path is told.
    pub fn watch(path: &str) -> Ask {
        let mode = AddWatchMode::PersistentRecursive as i32;
        Ask { op: OpCode::AddWatch, body: jute::to_vec(&PathModeRequest { path: Some(Text::from(path)), mode }) }
    }

    pub fn container(path: &str, openness: Openness) -> Ask {
        Ask { op: OpCode::CreateContainer, body: jute::to_vec(&create(path, Vec::new(), FLAG_CONTAINER, openness)) }
    }

    /// A transaction that changes nothing. Its answer proves a quorum, and whatever was committed before is told before it.
    pub fn proof() -> Ask {
        Multi::default().check("/").ask()
    }
}

/// A transaction of several operations.
#[derive(Debug, Default)]
pub(super) struct Multi {
    body: Vec<u8>,
    /// Of the nodes that are made.
    openness: Openness,
}

impl Multi {
    pub fn of(openness: Openness) -> Multi {
        Multi { body: Vec::new(), openness }
    }

    fn entry(mut self, op: OpCode, request: Vec<u8>) -> Multi {
        jute::append(&mut self.body, &MultiHeader { op: op.number(), done: false, err: -1 });
        self.body.extend(request);
        self
    }

    fn check(self, path: &str) -> Multi {
        self.entry(OpCode::Check, jute::to_vec(&PathVersionRequest { path: Some(path.to_owned()), version: -1 }))
    }

    pub fn container(self, path: &str) -> Multi {
        let request = create(path, Vec::new(), FLAG_CONTAINER, self.openness);
        self.entry(OpCode::CreateContainer, jute::to_vec(&request))
    }

    pub fn ephemeral(self, path: &str, data: Vec<u8>) -> Multi {
        let request = create(path, data, EPHEMERAL, self.openness);
        self.entry(OpCode::Create, jute::to_vec(&request))
    }

    pub fn set(self, path: &str, data: Vec<u8>, version: i32) -> Multi {
        let request = SetDataRequest { path: Some(path.to_owned()), data: Some(ByteBuf(data)), version };
        self.entry(OpCode::SetData, jute::to_vec(&request))
    }

    pub fn delete(self, path: &str, version: i32) -> Multi {
        self.entry(OpCode::Delete, jute::to_vec(&PathVersionRequest { path: Some(path.to_owned()), version }))
    }

    pub fn ask(mut self) -> Ask {
        jute::append(&mut self.body, &MultiHeader::END);
        Ask { op: OpCode::Multi, body: self.body }
    }
}

fn create(path: &str, data: Vec<u8>, flags: i32, openness: Openness) -> CreateRequest {
    CreateRequest { path: Some(path.to_owned()), data: Some(ByteBuf(data)), acl: Some(openness.acl()), flags }
}

/// Whether a transaction was carried out.
pub(super) fn is_committed(reply: &Reply) -> bool {
    let header = reply.as_ref().ok().and_then(|body| jute::from_slice::<MultiHeader>(body).ok());
    header.is_some_and(|header| header.op != OpCode::Error.number() && header.err == 0)
}

/// Whether a transaction was refused because the registry may not change a node of it.
pub(super) fn is_forbidden(reply: &Reply) -> bool {
    let no_auth = ErrorCode::NoAuth.number();
    let mut rest = match reply {
        Ok(body) => body.as_slice(),
        Err(code) => return *code == no_auth,
    };
    // Each operation has its error; that of an operation that was not tried is another one.
    while let Ok((header, (code, behind))) = jute::from_slice_with_rest::<MultiHeader>(rest)
        .and_then(|(header, rest)| Ok((header, jute::from_slice_with_rest::<i32>(rest)?)))
    {
        if header.done || header.op != OpCode::Error.number() {
            return false;
        }
        if code == no_auth {
            return true;
        }
        rest = behind;
    }
    false
}

/// Content, owner and version of a node; none where there is no node.
pub(super) fn node(reply: Reply) -> io::Result<Option<(Vec<u8>, Stat)>> {
    match reply {
        Ok(body) => {
            let response: GetDataResponse<'_> = jute::from_slice(&body).map_err(nonsense)?;
            Ok(Some((response.data.map(|data| data.0.to_vec()).unwrap_or_default(), response.stat)))
        }
        Err(code) if code == ErrorCode::NoNode.number() => Ok(None),
        Err(code) => Err(refused(code)),
    }
}

/// The names of children; none where there is no node.
pub(super) fn names(reply: Reply) -> io::Result<Vec<String>> {
    match reply {
        Ok(body) => jute::from_slice(&body).map_err(nonsense),
        Err(code) if code == ErrorCode::NoNode.number() => Ok(Vec::new()),
        Err(code) => Err(refused(code)),
    }
}

pub(super) fn refused(code: i32) -> io::Error {
    let remedy = if code == ErrorCode::SessionClosedRequireSaslAuth.number() {
        "it demands a proof: set registry.consistent.sasl.user and .password"
    } else {
        "the registry needs to read and write below its base path: compare registry.consistent.digest, .sasl.user and the access control lists there"
    };
    io::Error::other(format!("the ensemble refuses with error {code}; {remedy}"))
}

fn nonsense(error: jute::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the ensemble answered with nonsense: {error}"))
}

impl Link {
    /// Begins a session, or goes on with the one of the ticket where it is not over.
    pub async fn open(
        address: (&str, u16),
        dialer: Option<&Dialer>,
        proof: &Proof,
        ticket: Option<&Ticket>,
    ) -> io::Result<Link> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await.map_err(late)??;
        stream.set_nodelay(true)?;
        let stream = match dialer {
            None => PeerStream::Plain(stream),
            Some(dialer) => {
                let secure = dialer.secure(stream, address.0).await.map_err(io::Error::other)?;
                PeerStream::Secure(Box::new(secure.into()))
            }
        };
        let old = ticket.cloned();
        let known = old.unwrap_or(Ticket { session: SessionId::NONE, password: vec![0; 16], zxid: Zxid(0) });
        let mut link = Link {
            stream,
            received: Vec::new(),
            next_xid: 1,
            ticket: known.clone(),
            timeout: Duration::ZERO,
            events: BTreeSet::new(),
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: known.zxid,
            timeout_ms: SESSION_MS,
            session: known.session,
            password: known.password,
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        frame::append(&mut bytes, |payload| payload.extend(request.encode()));
        let answered = async {
            link.stream.write_all(&bytes).await?;
            link.stream.flush().await?;
            link.frame().await
        };
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the greeting; is there a quorum?");
        let frame = tokio::time::timeout(ANSWER_LIMIT, answered).await.map_err(silent)??;
        let response = ConnectResponse::decode(&frame).map_err(nonsense)?;
        if response.timeout_ms <= 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the session is over"));
        }
        link.timeout = Duration::from_millis(u64::from(response.timeout_ms.unsigned_abs()));
        link.ticket.session = response.session;
        link.ticket.password = response.password.to_vec();
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the registry's proof was not answered in time");
        tokio::time::timeout(ANSWER_LIMIT, link.prove(proof)).await.map_err(late)??;
        Ok(link)
    }

    /// Says who the registry is, and hears whether that is believed.
    async fn prove(&mut self, proof: &Proof) -> io::Result<()> {
        let refused =
            |what: &str| io::Error::new(io::ErrorKind::PermissionDenied, format!("the ensemble refuses {what}"));
        match proof {
            Proof::None => Ok(()),
            Proof::Digest(user_and_password) => {
                let request = AuthRequest {
                    auth_type: 0,
                    scheme: Some(Text::from("digest")),
                    auth: Some(Buffer(user_and_password.as_bytes())),
                };
                self.send(&[(AUTH_XID, OpCode::Auth, &jute::to_vec(&request))]).await?;
                match self.reply().await? {
                    Ok(_) => Ok(()),
                    Err(_) => Err(refused("registry.consistent.digest: does it know the scheme digest?")),
                }
            }
            Proof::Sasl(login) => {
                const WRONG: &str = "registry.consistent.sasl.user or its password";
                let mut client = digest_md5::Client::new(login.clone(), nonce());
                // The server speaks first.
                let mut token = Some(Vec::new());
                while let Some(said) = token {
                    let ask = Ask { op: OpCode::Sasl, body: jute::to_vec(&ByteBuf(said)) };
                    let answered = self.exchange(&[ask]).await;
                    let reply = answered.map_err(|error| match error.kind() {
                        io::ErrorKind::UnexpectedEof => refused(WRONG),
                        _ => error,
                    })?;
                    let Some(Ok(body)) = reply.into_iter().next() else { return Err(refused(WRONG)) };
                    let Some(ByteBuf(challenge)) = jute::from_slice::<Option<ByteBuf>>(&body).map_err(nonsense)? else {
                        return Err(io::Error::new(
                            io::ErrorKind::PermissionDenied,
                            "the server does not authenticate by SASL: configure users there, or take registry.consistent.sasl.* away",
                        ));
                    };
                    let unproved = |why| io::Error::other(format!("SASL with the ensemble: {why}"));
                    token = client.handle(&challenge).map_err(unproved)?;
                }
                Ok(())
            }
        }
    }

    pub fn session(&self) -> i64 {
        self.ticket.session.0
    }

    /// What to go on with.
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    pub async fn ask(&mut self, ask: Ask) -> io::Result<Reply> {
        let mut replies = self.ask_all(vec![ask]).await?;
        replies.pop().ok_or_else(|| io::Error::other("no answer"))
    }

    /// Several requests on their way at once; the answers in their order.
    pub async fn ask_all(&mut self, asks: Vec<Ask>) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(asks.len());
        for asks in asks.chunks(PIPELINE) {
            let silent =
                |_| io::Error::new(io::ErrorKind::TimedOut, "a request was not answered in time; is there a quorum?");
            let exchanged = tokio::time::timeout(ANSWER_LIMIT, self.exchange(asks)).await.map_err(silent)?;
            replies.extend(exchanged?);
        }
        Ok(replies)
    }

    async fn exchange(&mut self, asks: &[Ask]) -> io::Result<Vec<Reply>> {
        let mut requests = Vec::new();
        for ask in asks {
            requests.push((self.next_xid, ask.op, ask.body.as_slice()));
            self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        }
        self.send(&requests).await?;
        let mut replies = Vec::new();
        while replies.len() < asks.len() {
            replies.push(self.reply().await?);
        }
        Ok(replies)
    }

    async fn send(&mut self, requests: &[(i32, OpCode, &[u8])]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (xid, op, body) in requests {
            frame::append(&mut bytes, |payload| {
                jute::append(payload, &RequestHeader { xid: *xid, op: op.number() });
                payload.extend_from_slice(body);
            });
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// The next answer to a request.
    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.receive().await? {
                return Ok(reply);
            }
        }
    }

    /// The next answer to a request; none for whatever else comes, of which events are kept. May be dropped at any time.
    pub async fn receive(&mut self) -> io::Result<Option<Reply>> {
        let frame = self.frame().await?;
        let (header, body): (ReplyHeader, &[u8]) = jute::from_slice_with_rest(&frame).map_err(nonsense)?;
        self.ticket.zxid = self.ticket.zxid.max(header.zxid);
        match header.xid {
            NOTIFICATION_XID => {
                let event: WatcherEvent<'_> = jute::from_slice(body).map_err(nonsense)?;
                self.events.insert(event.path.to_string());
                Ok(None)
            }
            PING_XID => Ok(None),
            _ if header.err != 0 => Ok(Some(Err(header.err))),
            _ => Ok(Some(Ok(body.to_vec()))),
        }
    }

    async fn frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let too_long = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let found = frame::split(&self.received, MAX_FRAME_BYTES).map_err(too_long)?;
            if let Some((payload, taken)) = found.map(|(payload, taken)| (payload.to_vec(), taken)) {
                self.received.drain(..taken);
                return Ok(payload);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection; is there a quorum?",
                ));
            }
        }
    }
}
