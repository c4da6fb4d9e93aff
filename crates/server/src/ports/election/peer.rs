//! The task for one other server: the connection to it, attempts to make one, the newest notification for it.
//!
//! The task owns all of that; others only put things into its [`Mailbox`], which holds at most one of each kind. `ElectionLinkUp` is told
//! before anything is sent or received on a connection, `ElectionLinkDown` when there is none any more or an attempt failed, and
//! neither for servers outside of the ensemble: those ask and are answered.

use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookeeper_proto::ServerId;
use rookeeper_proto::election::{InitialMessage, Notification};
use rookeeper_replica::Input;
use rookeeper_zab::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::Shared;
use super::wire::{self, FrameReader, FrameWriter, Link, Received};
use crate::auth::between_servers::Proofs;
use crate::logging::limited;
use crate::net::stream::{self, KeepAlive, PeerStream};
use crate::net::tls::context::TlsContext;
use crate::net::tls::peers::PeerTls;
use crate::net::{dial, proof};
use crate::observe::absence::Contact;

/// After the first failed attempt; doubled with every other one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a server that we announced ourselves to may take to call back before we do it again.
const CALL_BACK: Duration = Duration::from_millis(500);

/// Attempts in a row after which what is to be sent is given up. The next notification begins anew.
pub(super) const ATTEMPTS: u32 = 8;

/// An announcement may cross a connection this young on its way; the server that announced itself has it by now.
const CROSSING: Duration = Duration::from_millis(250);

/// How long after the end of a connection another one from elsewhere is strange. A machine that got another address takes longer.
const TWINS: Duration = Duration::from_secs(10);

/// How long the end of an encrypted connection may take that is no longer wanted.
const FAREWELL: Duration = Duration::from_secs(2);

/// The messages of other tasks to a peer's task.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Mail {
    notification: Option<Notification>,
    accepted: Option<(Link, SocketAddr)>,
    /// From where.
    announced: Option<SocketAddr>,
    /// Where the server says it is, the last time it connected.
    hints: Option<Vec<HostPort>>,
    members_changed: bool,
}

impl Mailbox {
    /// Puts a vote in the place of the one before, which need not have been sent.
    pub fn send(&self, notification: Notification) {
        self.put(|mail| mail.notification = Some(notification));
    }

    /// A server with a higher id made this connection.
    pub fn accepted(&self, link: Link, address: SocketAddr, hints: Vec<HostPort>) {
        self.put(|mail| {
            mail.accepted = Some((link, address));
            mail.hints = Some(hints);
        });
    }

    /// A server with a lower id wants to be called back.
    pub fn announced(&self, address: SocketAddr, hints: Vec<HostPort>) {
        self.put(|mail| {
            mail.announced = Some(address);
            mail.hints = Some(hints);
        });
    }

    /// The addresses of the server may be other ones now.
    pub fn members_changed(&self) {
        self.put(|mail| mail.members_changed = true);
    }

    /// Whether nothing waits for the task of the link.
    pub fn is_empty(&self) -> bool {
        let mail = self.mail.lock();
        mail.notification.is_none() && mail.accepted.is_none() && mail.announced.is_none() && !mail.members_changed
    }

    fn put(&self, put: impl FnOnce(&mut Mail)) {
        put(&mut self.mail.lock());
        self.filled.notify_one();
    }

    fn take(&self) -> Mail {
        std::mem::take(&mut self.mail.lock())
    }
}

type Dialing = Pin<Box<dyn Future<Output = Result<Dialed, String>> + Send>>;

/// The outcome of an attempt to connect.
enum Dialed {
    Connected(Link, SocketAddr),
    /// The other end has the higher id and knows now that it should call back.
    Announced,
}

enum Event {
    Mail,
    Received(io::Result<Received>),
    Sent(io::Result<()>),
    Dialed(Result<Dialed, String>),
    PauseOver,
}

pub(super) struct Peer {
    shared: Arc<Shared>,
    server: ServerId,
    mailbox: Arc<Mailbox>,
    /// As configured; none for a server outside of the ensemble.
    addresses: Option<Vec<HostPort>>,
    /// The addresses that the server itself named.
    hints: Vec<HostPort>,
    link: Option<Link>,
    established: Instant,
    /// The newest, not sent yet.
    pending: Option<Notification>,
    /// The server wants a connection, whatever stands.
    is_called: bool,
    dialing: Option<Dialing>,
    /// When the last attempt began.
    dialed: Option<Instant>,
    /// No attempt before.
    pause_end: Option<Instant>,
    /// Announced, and not called back yet.
    is_waiting_for_call: bool,
    /// In a row. A connection on which nothing was received is one of them.
    attempts: u32,
    /// From where the server last connected or announced itself.
    came_from: Option<IpAddr>,
    /// Said already, like the next one.
    is_unreachable: bool,
    has_told_unreadable: bool,
}

impl Peer {
    /// `addresses` is where the server's line says it is; none for a server that is in no membership.
    pub fn new(shared: Arc<Shared>, server: ServerId, mailbox: Arc<Mailbox>, addresses: Option<Vec<HostPort>>) -> Peer {
        Peer {
            shared,
            server,
            mailbox,
            addresses,
            hints: Vec::new(),
            link: None,
            established: Instant::now(),
            pending: None,
            is_called: false,
            dialing: None,
            dialed: None,
            pause_end: None,
            is_waiting_for_call: false,
            attempts: 0,
            came_from: None,
            is_unreachable: false,
            has_told_unreadable: false,
        }
    }

    /// Returns when a server outside of the ensemble has no connection any more.
    pub async fn run(mut self) {
        loop {
            self.proceed();
            let is_idle = self.link.is_none() && self.dialing.is_none() && !self.wants_to_dial();
            if is_idle && self.addresses.is_none() && self.shared.leave(self.server, &self.mailbox) {
                return;
            }
            match self.next().await {
                Event::Mail => self.read_mail().await,
                Event::Received(Ok(received)) => self.received(received).await,
                Event::Received(Err(error)) | Event::Sent(Err(error)) => self.lost(&error.to_string()).await,
                Event::Sent(Ok(())) => {}
                Event::Dialed(result) => {
                    self.dialing = None;
                    self.dialed(result).await;
                }
                Event::PauseOver => {
                    self.pause_end = None;
                    if std::mem::take(&mut self.is_waiting_for_call) && self.link.is_none() {
                        debug!("server {} did not call back", self.server);
                        let mine = self.shared.own_addresses();
                        // With TLS 1.3 a refusal of names that had to be looked up comes too late to be told.
                        let why = match PeerTls::for_dialing(self.shared.tls.as_ref()) {
                            Some(_) => "; its own log says whether it refused the certificate of this server",
                            None => "",
                        };
                        self.seen(Contact::Failed(format!("was asked to call back at {mine}, and has not{why}")));
                        self.tell_down().await;
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> Event {
        let (reader, writer) = match &mut self.link {
            Some(Link { reader, writer }) => (Some(reader), Some(writer)),
            None => (None, None),
        };
        tokio::select! {
            () = self.mailbox.filled.notified() => Event::Mail,
            received = receive(reader) => Event::Received(received),
            sent = flush(writer) => Event::Sent(sent),
            dialed = attempt(&mut self.dialing) => Event::Dialed(dialed),
            () = until(self.pause_end) => Event::PauseOver,
        }
    }

    /// Begins what can begin now.
    fn proceed(&mut self) {
        if let Some(link) = &mut self.link
            && link.writer.is_idle()
            && let Some(notification) = self.pending.take()
        {
            link.writer.begin(&notification);
        }
        if self.wants_to_dial() && self.dialing.is_none() && self.pause_end.is_none() {
            self.dial();
        }
    }

    fn wants_to_dial(&self) -> bool {
        self.is_called || (self.link.is_none() && self.pending.is_some() && self.addresses.is_some())
    }

    fn dial(&mut self) {
        self.dialed = Some(Instant::now());
        self.attempts = self.attempts.saturating_add(1);
        let mut addresses = self.addresses.clone().unwrap_or_default();
        for hint in &self.hints {
            if !addresses.contains(hint) {
                addresses.push(hint.clone());
            }
        }
        let (introduction, limit) = (self.shared.introduction(), self.shared.connect_timeout);
        let keeps = self.shared.me > self.server;
        let (auth, tls) = (self.shared.auth.clone(), PeerTls::for_dialing(self.shared.tls.as_ref()));
        self.dialing = Some(Box::pin(connect(addresses, introduction, limit, keeps, (auth, tls))));
    }

    async fn read_mail(&mut self) {
        let Mail { notification, accepted, announced, hints, members_changed } = self.mailbox.take();
        if members_changed {
            self.move_to(self.shared.addresses_of(self.server)).await;
        }
        if let Some(hints) = hints {
            self.hints = hints;
        }
        if announced.is_some() && (self.link.is_none() || self.established.elapsed() >= CROSSING) {
            self.is_called = true;
            // A call shows that the other side is there again. Calls without end do not make attempts without end.
            if self.dialed.is_none_or(|dialed| dialed.elapsed() >= FIRST_PAUSE) {
                self.pause_end = None;
                self.attempts = 0;
            }
        }
        if let Some(notification) = notification {
            self.pending = Some(notification);
        }
        if let Some(address) = announced.or(accepted.as_ref().map(|(_, address)| *address)) {
            self.note_origin(address);
        }
        if let Some((link, address)) = accepted {
            self.adopt(link, &format!("made by {address}")).await;
        }
    }

    async fn move_to(&mut self, addresses: Option<Vec<HostPort>>) {
        let was_member = self.addresses.is_some();
        let has_moved = was_member && addresses.is_some() && self.addresses != addresses;
        let is_promoted = !was_member && addresses.is_some();
        self.addresses = addresses;
        if has_moved {
            self.hints.clear();
            self.dialing = None;
            self.pause_end = None;
            self.is_waiting_for_call = false;
            self.attempts = 0;
            if self.link.is_some() {
                self.lost("its address changes").await;
            }
        } else if is_promoted && self.link.is_some() {
            self.tell(Input::ElectionLinkUp { server: self.server }).await;
        } else if was_member && self.addresses.is_none() {
            // The server can come and ask, but hears nothing unasked.
            self.dialing = None;
            self.pending = None;
            self.is_called = false;
        }
    }

    /// Takes the place of the connection there was, if any.
    async fn adopt(&mut self, link: Link, how: &str) {
        let server = self.server;
        limited!(info, "election connections that stand", "election connection to server {server} stands, {how}");
        self.link = Some(link);
        self.seen(Contact::Linked);
        self.established = Instant::now();
        self.dialing = None;
        self.is_called = false;
        self.is_waiting_for_call = false;
        self.is_unreachable = false;
        self.has_told_unreadable = false;
        // Whatever was meant for another connection is outdated: the news of this one lets the replica say what holds now.
        self.pending = None;
        self.mailbox.mail.lock().notification = None;
        if self.addresses.is_some() {
            self.tell(Input::ElectionLinkUp { server: self.server }).await;
        }
    }

    async fn received(&mut self, received: Received) {
        self.attempts = 0;
        match received {
            Received::Notification(notification) => {
                self.tell(Input::Notified { from: self.server, notification }).await;
            }
            Received::Unreadable(why) if self.has_told_unreadable => {
                debug!("passes over a notification of server {}: {why}", self.server);
            }
            Received::Unreadable(why) => {
                self.has_told_unreadable = true;
                let server = self.server;
                limited!(
                    warn,
                    "notifications that can't be read",
                    "passes over a notification of server {server}: {why}"
                );
            }
        }
    }

    async fn lost(&mut self, why: &str) {
        let server = self.server;
        limited!(info, "election connections that are gone", "election connection to server {server} is gone: {why}");
        self.link = None;
        self.seen(Contact::Failed(format!("its connection is gone: {why}")));
        self.tell_down().await;
    }

    /// Notes how a member is seen from here.
    fn seen(&self, contact: Contact) {
        if self.addresses.is_some() {
            self.shared.contacts.lock().insert(self.server, contact);
        }
    }

    /// A server that comes from one address while its connection from another stands may be two servers.
    fn note_origin(&mut self, address: SocketAddr) {
        let before = self.came_from.replace(address.ip());
        let has_one_address = self.addresses.as_ref().is_some_and(|addresses| addresses.len() == 1);
        if let Some(before) = before.filter(|before| *before != address.ip())
            && has_one_address
            && (self.link.is_some() || self.established.elapsed() < TWINS)
        {
            let server = self.server;
            limited!(
                warn,
                "servers at two addresses",
                "server {server} connects for elections from {}, and from {before} until now: if these are two machines, two servers have \
                 the same myid; correct it on the one that is wrong",
                address.ip()
            );
        }
    }

    async fn dialed(&mut self, result: Result<Dialed, String>) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.attempts.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
        self.pause_end = Some(Instant::now() + pause);
        match result {
            Ok(Dialed::Connected(link, address)) => {
                return self.adopt(link, &format!("made to {address}")).await;
            }
            Ok(Dialed::Announced) => {
                self.is_waiting_for_call = true;
                let call_back = CALL_BACK + proof::time_to_begin(&self.shared.auth);
                self.pause_end = Some(Instant::now() + pause.max(call_back));
            }
            Err(why) => {
                if self.is_unreachable {
                    debug!("still can't reach server {} for elections: {why}", self.server);
                } else {
                    warn!("can't reach server {} for elections: {why}", self.server);
                }
                self.is_unreachable = true;
                if self.link.is_none() {
                    self.seen(Contact::Failed(why));
                    self.tell_down().await;
                }
                if self.link.is_some() || self.addresses.is_none() {
                    // The server calls again if it still wants a connection.
                    self.is_called = false;
                }
            }
        }
        if self.attempts >= ATTEMPTS {
            debug!("gives up what there was to tell server {}", self.server);
            self.attempts = 0;
            self.is_called = false;
            self.pending = None;
        }
    }

    async fn tell_down(&mut self) {
        if self.addresses.is_some() {
            self.tell(Input::ElectionLinkDown { server: self.server }).await;
        }
    }

    /// Waits while the replica has too much to do. When it has ended, this port is about to be closed too.
    async fn tell(&mut self, input: Input) {
        let _ = self.shared.events.send(input).await;
    }
}

async fn receive(reader: Option<&mut FrameReader>) -> io::Result<Received> {
    match reader {
        Some(reader) => reader.receive().await,
        None => pending().await,
    }
}

async fn flush(writer: Option<&mut FrameWriter>) -> io::Result<()> {
    match writer {
        Some(writer) if !writer.is_idle() => writer.flush().await,
        _ => pending().await,
    }
}

async fn attempt(dialing: &mut Option<Dialing>) -> Result<Dialed, String> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// Makes one attempt to connect. `keeps`: this server has the higher id.
async fn connect(
    addresses: Vec<HostPort>,
    introduction: InitialMessage,
    limit: Duration,
    keeps: bool,
    (auth, tls): (Proofs, Option<Arc<TlsContext>>),
) -> Result<Dialed, String> {
    let dial::Dialed { mut stream, host } = dial::connect(addresses, limit, tls.as_ref()).await?;
    let introduce = async {
        let address = stream.tcp().peer_addr()?;
        stream::configure(stream.tcp(), KeepAlive::Soon(limit))?;
        wire::introduce(&mut stream, &introduction).await?;
        Ok(address)
    };
    let address = match timeout(limit, introduce).await {
        Ok(result) => result.map_err(|error: io::Error| error.to_string())?,
        Err(_) => return Err(format!("takes no bytes within {} ms", limit.as_millis())),
    };
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    match timeout(limit, proof::give(&auth, (&host, address), &mut reader, &mut writer)).await {
        Ok(result) => result.map_err(|why| format!("{address}: {why}"))?,
        Err(_) => return Err(format!("{address}: SASL is not over within {} ms", limit.as_millis())),
    }
    if keeps {
        return Ok(Dialed::Connected(Link::new(stream), address));
    }
    if matches!(stream, PeerStream::Secure(_)) {
        heard_out(stream).await.map_err(|why| format!("{address}: {why}"))?;
    }
    Ok(Dialed::Announced)
}

/// Closes an encrypted connection that has said what was to be said. The other end looks at this server's certificate only now, and may refuse it;
/// and where a rest of the handshake is not read, the system takes back what was sent.
async fn heard_out(mut stream: PeerStream) -> Result<(), String> {
    let refusal = async {
        stream.shutdown().await?;
        let mut rest = [0; 512];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    match timeout(FAREWELL, refusal).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.to_string()),
        Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
    }
}
