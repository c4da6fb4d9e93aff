//! Tells a service manager how far the server is, by systemd's protocol: a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! **Ready** means: the database is read and the ports are open. A member of an ensemble is ready then, although it may have to wait for a
//! quorum before it serves. If it were ready only when it serves, the first members of an ensemble that starts would never be, and a manager
//! that starts members one after the other, or gives up on a slow start, would keep the quorum from ever coming about. Who wants to know
//! whether a server serves asks `srvr`.
//!
//! What always holds: nobody listens, or the socket is full or gone: the server goes on all the same.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket: a path, or a name in the abstract space behind an `@`.
pub const SOCKET: &str = "NOTIFY_SOCKET";
/// What is told when the server is ready.
pub const READY: &str = "READY=1";
/// What is told when the server begins to stop.
pub const STOPPING: &str = "STOPPING=1";

/// Tells the manager, if there is one.
pub fn tell(state: &str) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("the service manager is not told {state}: {} can't be written to: {error}", socket.display());
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // A manager that doesn't read must not hold up the server.
    sender.set_nonblocking(true)?;
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    sender.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("rookeeper-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_socket = std::ffi::OsString::from(format!("@{name}"));
        for (listener, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str()),
            (UnixDatagram::bind_addr(&named).unwrap(), abstract_socket.as_os_str()),
        ] {
            send(socket, READY).unwrap();
            let mut bytes = [0; 64];
            let count = listener.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..count], b"READY=1");
        }
        send(OsStr::new("/nowhere/notify"), READY).unwrap_err();
    }
}
