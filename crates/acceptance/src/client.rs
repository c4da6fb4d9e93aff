//! A bare client: it connects, sends what it is told and reads what comes, without a thread, a ping or an opinion.
//!
//! Every wait has a deadline: a server that does not answer fails the test instead of hanging it.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wire::{self, Acl, Body, Fields, Stat};

/// Generous, because the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: i64,
    pub password: Vec<u8>,
    pub timeout_ms: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub error: i32,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn ok(self) -> Result<Reply> {
        if self.error == 0 { Ok(self) } else { Err(Refused(self.error).into()) }
    }
}

/// The server answered with this error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub i32);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "refused with error {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// The error code with which a call was refused; `None` if it succeeded or broke.
pub fn refusal<T>(result: &Result<T>) -> Option<i32> {
    result.as_ref().err()?.downcast_ref::<Refused>().map(|refused| refused.0)
}

/// What a client says when it connects, and how long it waits for each answer.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub timeout_ms: i32,
    pub session: Option<&'a Session>,
    pub last_zxid_seen: i64,
    pub read_only: bool,
    pub deadline: Duration,
}

impl Default for Hello<'_> {
    fn default() -> Self {
        Hello { timeout_ms: 60_000, session: None, last_zxid_seen: 0, read_only: false, deadline: DEADLINE }
    }
}

impl Hello<'_> {
    pub fn connect(&self, address: SocketAddr) -> Result<Client> {
        let mut stream = open_within(address, self.deadline)?;
        let (id, password) = self.session.map_or((0, &[0; 16][..]), |session| (session.id, &session.password));
        let request = Body::new().int(0).long(self.last_zxid_seen).int(self.timeout_ms).long(id);
        send_frame(&mut stream, &request.buffer(Some(password)).bool(self.read_only).0)?;
        let frame = receive_frame(&mut stream)?.context("the connection was cut instead of a ConnectResponse")?;
        let mut fields = Fields(&frame);
        fields.int()?;
        let timeout_ms = fields.int()?;
        let id = fields.long()?;
        let password = fields.buffer()?.unwrap_or_default().to_vec();
        let session = Session { id, password, timeout_ms };
        Ok(Client { stream, next_xid: 1, session, last_zxid_seen: self.last_zxid_seen, events: Vec::new() })
    }
}

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    next_xid: i32,
    pub session: Session,
    /// What a reconnect tells the next server: it must not be behind this.
    pub last_zxid_seen: i64,
    /// Bodies of the notifications that came while a reply was awaited.
    pub events: Vec<Reply>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Client> {
        Client::connect_with(address, 60_000, None, 0)
    }

    pub fn resume(address: SocketAddr, session: &Session) -> Result<Client> {
        Client::connect_with(address, session.timeout_ms, Some(session), 0)
    }

    /// A refused session comes back with id 0 and timeout 0, as the server sent it.
    pub fn connect_with(
        address: SocketAddr,
        timeout_ms: i32,
        session: Option<&Session>,
        last_zxid_seen: i64,
    ) -> Result<Client> {
        Hello { timeout_ms, session, last_zxid_seen, ..Hello::default() }.connect(address)
    }

    /// How long the next answers are awaited.
    pub fn set_deadline(&mut self, deadline: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(deadline))?)
    }

    /// A second handle on the connection, for a thread that only sends.
    pub fn stream(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    pub fn send(&mut self, opcode: i32, body: &Body) -> Result<i32> {
        let xid = match opcode {
            wire::AUTH => -4,
            wire::PING => -2,
            _ => {
                self.next_xid += 1;
                self.next_xid - 1
            }
        };
        send_frame(&mut self.stream, &Body::new().int(xid).int(opcode).append(body.clone()).0)?;
        Ok(xid)
    }

    /// Whatever frame comes next; `None` at the end of the stream.
    pub fn receive_any(&mut self) -> Result<Option<Reply>> {
        let Some(frame) = receive_frame(&mut self.stream)? else { return Ok(None) };
        let mut fields = Fields(&frame);
        let reply = Reply { xid: fields.int()?, zxid: fields.long()?, error: fields.int()?, body: fields.0.to_vec() };
        self.last_zxid_seen = self.last_zxid_seen.max(reply.zxid);
        Ok(Some(reply))
    }

    /// The next reply; notifications before it are kept in `events`.
    pub fn receive(&mut self) -> Result<Reply> {
        loop {
            match self.receive_any()?.context("the server closed the connection")? {
                event if event.xid == -1 => self.events.push(event),
                reply => return Ok(reply),
            }
        }
    }

    pub fn call(&mut self, opcode: i32, body: &Body) -> Result<Reply> {
        let xid = self.send(opcode, body)?;
        let reply = self.receive()?;
        ensure!(reply.xid == xid, "reply {} to request {xid}", reply.xid);
        Ok(reply)
    }

    /// True if the server ends the stream without sending anything more.
    pub fn at_end(&mut self) -> Result<bool> {
        Ok(self.receive_any()?.is_none())
    }

    pub fn authenticate(&mut self, scheme: &str, credentials: &str) -> Result<()> {
        self.call(wire::AUTH, &Body::new().int(0).string(scheme).string(credentials))?.ok().map(drop)
    }

    pub fn create(&mut self, path: &str, data: &[u8]) -> Result<String> {
        self.create_with(path, Some(data), &Acl::open(), 0)
    }

    pub fn create_with(&mut self, path: &str, data: Option<&[u8]>, acls: &[Acl], flags: i32) -> Result<String> {
        let opcode = if flags == 4 { wire::CREATE_CONTAINER } else { wire::CREATE };
        let reply = self.call(opcode, &create_body(path, data, acls, flags))?.ok()?;
        Fields(&reply.body).string()
    }

    pub fn create_ttl(&mut self, path: &str, data: &[u8], ttl_ms: i64) -> Result<()> {
        let body = create_body(path, Some(data), &Acl::open(), 5).long(ttl_ms);
        self.call(wire::CREATE_TTL, &body)?.ok().map(drop)
    }

    pub fn delete(&mut self, path: &str) -> Result<()> {
        self.call(wire::DELETE, &Body::new().string(path).int(-1))?.ok().map(drop)
    }

    pub fn set_data(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat> {
        let reply = self.call(wire::SET_DATA, &Body::new().string(path).buffer(Some(data)).int(version))?.ok()?;
        Fields(&reply.body).stat()
    }

    pub fn set_acl(&mut self, path: &str, acls: &[Acl]) -> Result<Stat> {
        let reply = self.call(wire::SET_ACL, &Body::new().string(path).acls(acls).int(-1))?.ok()?;
        Fields(&reply.body).stat()
    }

    pub fn get_data(&mut self, path: &str) -> Result<(Option<Vec<u8>>, Stat)> {
        let reply = self.call(wire::GET_DATA, &Body::new().string(path).bool(false))?.ok()?;
        let mut fields = Fields(&reply.body);
        Ok((fields.buffer()?.map(<[u8]>::to_vec), fields.stat()?))
    }

    pub fn exists(&mut self, path: &str) -> Result<Option<Stat>> {
        let reply = self.call(wire::EXISTS, &Body::new().string(path).bool(false))?;
        if reply.error == wire::NO_NODE {
            return Ok(None);
        }
        Fields(&reply.ok()?.body).stat().map(Some)
    }

    pub fn get_acl(&mut self, path: &str) -> Result<Vec<Acl>> {
        let reply = self.call(wire::GET_ACL, &Body::new().string(path))?.ok()?;
        Fields(&reply.body).acls()
    }

    /// Sorted, because the server gives them in any order.
    pub fn children(&mut self, path: &str) -> Result<Vec<String>> {
        let reply = self.call(wire::GET_CHILDREN, &Body::new().string(path).bool(false))?.ok()?;
        let mut children = Fields(&reply.body).strings()?;
        children.sort();
        Ok(children)
    }

    pub fn delete_tree(&mut self, path: &str) -> Result<()> {
        let children = self.children(path);
        if refusal(&children) == Some(wire::NO_NODE) {
            return Ok(());
        }
        for child in children? {
            self.delete_tree(&format!("{}/{child}", path.trim_end_matches('/')))?;
        }
        let deleted = self.delete(path);
        if refusal(&deleted) == Some(wire::NO_NODE) { Ok(()) } else { deleted }
    }

    /// Until this server has everything that was committed before.
    pub fn sync(&mut self) -> Result<()> {
        self.call(wire::SYNC, &Body::new().string("/"))?.ok().map(drop)
    }

    pub fn close(mut self) -> Result<()> {
        self.call(wire::CLOSE_SESSION, &Body::new())?.ok()?;
        ensure!(self.at_end()?, "the connection stays open after closeSession");
        Ok(())
    }
}

pub fn create_body(path: &str, data: Option<&[u8]>, acls: &[Acl], flags: i32) -> Body {
    Body::new().string(path).buffer(data).acls(acls).int(flags)
}

/// The answer to a four-letter word.
pub fn four_letter_word(address: SocketAddr, word: &str) -> Result<String> {
    four_letter_word_within(address, word, DEADLINE)
}

pub fn four_letter_word_within(address: SocketAddr, word: &str, deadline: Duration) -> Result<String> {
    let mut stream = open_within(address, deadline)?;
    stream.write_all(word.as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The last zxid the server has processed.
pub fn server_zxid(address: SocketAddr) -> Result<i64> {
    let text = four_letter_word(address, "srvr")?;
    let zxid = text.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
    i64::from_str_radix(zxid.with_context(|| format!("no zxid in {text:?}"))?, 16).context("the zxid is not hex")
}

pub fn open(address: SocketAddr) -> Result<TcpStream> {
    open_within(address, DEADLINE)
}

pub fn open_within(address: SocketAddr, deadline: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, deadline)?;
    // Where nobody listens on a port of the ephemeral range yet, a connection can meet itself.
    ensure!(stream.local_addr()? != stream.peer_addr()?, "nobody listens on {address}");
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    Ok(stream)
}

pub fn send_frame(stream: &mut TcpStream, payload: &[u8]) -> Result<()> {
    let mut frame = (payload.len() as i32).to_be_bytes().to_vec();
    frame.extend(payload);
    Ok(stream.write_all(&frame)?)
}

/// The payload of the next frame; `None` at the end of the stream, also when the peer resets it.
pub fn receive_frame(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if !read_or_end(stream, &mut length)? {
        return Ok(None);
    }
    let length = i32::from_be_bytes(length);
    if !(0..16 << 20).contains(&length) {
        bail!("the server sent a frame of length {length}");
    }
    let mut payload = vec![0; length as usize];
    Ok(read_or_end(stream, &mut payload)?.then_some(payload))
}

/// The server was silent for longer than any answer may take.
#[derive(Debug)]
pub struct NothingCame;

impl std::fmt::Display for NothingCame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing came in time")
    }
}

impl std::error::Error for NothingCame {}

fn read_or_end(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<bool> {
    match stream.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(false),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(NothingCame.into()),
            _ => Err(error.into()),
        },
    }
}
