//! Opening ports: which addresses a place has, how each is bound, and what an operator can do where that fails.
//!
//! What always holds here: a place without a host is all of this machine, IPv6 and IPv4 on one socket, or IPv4 alone where there is no IPv6.
//! Where somebody else has a part of that, it is not bound: IPv4 alone would be less than what is meant. A port that this server had a
//! moment ago can be bound at once, and two servers never listen on one.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rookeeper_zab::HostPort;
use tokio::net::TcpSocket;

/// The ports of a server, as messages name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Client,
    SecureClient,
    Quorum,
    /// Where a follower feeds observers.
    ObserverMaster,
    Election,
    Metrics,
    Admin,
    Registry,
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Port::Client => "client port",
            Port::SecureClient => "secure client port",
            Port::Quorum => "quorum port",
            Port::ObserverMaster => "port for observers",
            Port::Election => "election port",
            Port::Metrics => "metrics port",
            Port::Admin => "admin port",
            Port::Registry => "port of the service registry",
        })
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// A name or an address; none for all addresses of this machine.
    pub host: Option<String>,
    /// 0 takes any free one.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => HostPort { host: host.clone(), port: self.port }.fmt(formatter),
            None => write!(formatter, "*:{}", self.port),
        }
    }
}

impl Place {
    /// Where a server listens whose line has these addresses; with `everywhere` on all addresses of its machine, whatever the hosts are.
    pub fn of_server(addresses: &[HostPort], everywhere: bool) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for address in addresses {
            let host = (!everywhere).then(|| address.host.clone());
            let place = Place { host, port: address.port };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The addresses to bind. Of all addresses of this machine there is one, `[::]`, which stands for those of IPv4 too.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Some(host) => resolve(host, self.port).await,
            None => Ok(vec![(Ipv6Addr::UNSPECIFIED, self.port).into()]),
        }
    }

    /// Binds one of these addresses, without opening the port.
    pub fn bind(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        match self.host {
            Some(_) => bind(address),
            None => everywhere(address.port(), bind),
        }
    }

    /// Binds the first of these addresses that can be bound.
    pub fn bind_first(&self, addresses: &[SocketAddr]) -> io::Result<TcpSocket> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "there is no address");
        for address in addresses {
            match self.bind(*address) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// The addresses of a name, at least one.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Some(scoped) = scoped(host, port) {
        return Ok(vec![scoped?]);
    }
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} resolves to no address")));
    }
    Ok(addresses)
}

/// An IPv6 address with the network interface that it is meant for, by name or number: the system looks up names of interfaces for few
/// kinds of addresses only.
fn scoped(host: &str, port: u16) -> Option<io::Result<SocketAddr>> {
    let (address, interface) = host.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let index = interface.parse().map_or_else(|_| index_of(interface), Ok);
    Some(index.map(|index| SocketAddrV6::new(address, port, 0, index).into()))
}

fn index_of(interface: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(&socket, interface)
        .map_err(|error| io::Error::other(format!("there is no network interface {interface}: {error}")))
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server must not wait for old connections to time out. This does not let two servers listen on one port.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // A system may be set up to take IPv6 alone.
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

/// All addresses of this machine; those of IPv4 where `bind` finds no IPv6.
fn everywhere<S>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<S>) -> io::Result<S> {
    match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => bind((Ipv4Addr::UNSPECIFIED, port).into()),
        result => result,
    }
}

/// A port that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open {port} {place}: {error}; {}", remedy(*port, error))]
pub(crate) struct CannotBind {
    pub port: Port,
    /// As the operator wrote it, or near to it.
    pub place: String,
    pub error: io::Error,
}

/// What an operator can do.
pub(crate) fn remedy(port: Port, error: &io::Error) -> &'static str {
    match (error.kind(), port) {
        (io::ErrorKind::AddrInUse, Port::Client) => "another process has it: stop that one, or set another clientPort",
        (io::ErrorKind::AddrInUse, Port::SecureClient) => {
            "another process has it: stop that one, or set another secureClientPort"
        }
        (io::ErrorKind::AddrInUse, Port::Metrics) => {
            "another process has it: stop that one, or set another metricsProvider.httpPort"
        }
        (io::ErrorKind::AddrInUse, Port::Admin) => {
            "another process has it: stop that one, or set another admin.serverPort, or admin.enableServer=false"
        }
        (io::ErrorKind::AddrInUse, Port::Registry) => {
            "another process has it: stop that one, or set another registry.port"
        }
        (io::ErrorKind::AddrInUse, Port::ObserverMaster) => {
            "another process has it: stop that one, or set another observerMasterPort on all members"
        }
        (io::ErrorKind::AddrInUse, _) => {
            "another process has it: stop that one, or correct the ports of this server's line"
        }
        (io::ErrorKind::PermissionDenied, Port::Client) => "ports below 1024 need privileges: set another clientPort",
        (io::ErrorKind::PermissionDenied, Port::SecureClient) => {
            "ports below 1024 need privileges: set another secureClientPort"
        }
        (io::ErrorKind::PermissionDenied, Port::Metrics) => {
            "ports below 1024 need privileges: set another metricsProvider.httpPort"
        }
        (io::ErrorKind::PermissionDenied, Port::Admin) => {
            "ports below 1024 need privileges: set another admin.serverPort"
        }
        (io::ErrorKind::PermissionDenied, Port::Registry) => {
            "ports below 1024 need privileges: set another registry.port"
        }
        (io::ErrorKind::PermissionDenied, Port::ObserverMaster) => {
            "ports below 1024 need privileges: set another observerMasterPort on all members"
        }
        (io::ErrorKind::PermissionDenied, _) => {
            "ports below 1024 need privileges: choose another in this server's line"
        }
        (io::ErrorKind::AddrNotAvailable, Port::Client) => {
            "this machine has no such address: correct clientPortAddress"
        }
        (io::ErrorKind::AddrNotAvailable, Port::SecureClient) => {
            "this machine has no such address: correct secureClientPortAddress"
        }
        (io::ErrorKind::AddrNotAvailable, Port::Metrics) => {
            "this machine has no such address: correct metricsProvider.httpHost"
        }
        (io::ErrorKind::AddrNotAvailable, Port::Admin) => {
            "this machine has no such address: correct admin.serverAddress"
        }
        (io::ErrorKind::AddrNotAvailable, Port::Registry) => {
            "this machine has no such address: correct registry.server.address"
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "this machine has no such address: correct this server's line or the file myid, or set quorumListenOnAllIPs=true"
        }
        (_, Port::Client) => "check clientPort and clientPortAddress",
        (_, Port::SecureClient) => "check secureClientPort and secureClientPortAddress",
        (_, Port::Metrics) => "check metricsProvider.httpHost and metricsProvider.httpPort",
        (_, Port::Admin) => "check admin.serverAddress and admin.serverPort",
        (_, Port::Registry) => "check registry.port and registry.server.address",
        (_, _) => "check this server's line",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn place(host: &str) -> Place {
        Place { host: Some(host.to_owned()), port: 0 }
    }

    #[tokio::test]
    async fn an_address_may_name_its_network_interface() {
        let index = index_of("lo").unwrap();
        let expected = vec![SocketAddr::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, index))];
        assert_eq!(place("::1%lo").addresses().await.unwrap(), expected);
        assert_eq!(place(&format!("::1%{index}")).addresses().await.unwrap(), expected);
        // A machine may have no IPv6; where it has, the port opens with the interface named as without.
        let without = place("::1").addresses().await.unwrap();
        assert_eq!(place("::1").bind_first(&expected).is_ok(), place("::1").bind_first(&without).is_ok());
        let refused = place("::1%nosuch").addresses().await.unwrap_err().to_string();
        assert!(refused.contains("there is no network interface nosuch"), "{refused}");
    }

    #[test]
    fn a_machine_without_ipv6_listens_on_ipv4() {
        let tried = RefCell::new(Vec::new());
        let without_ipv6 = |address: SocketAddr| {
            tried.borrow_mut().push(address.to_string());
            match address.is_ipv6() {
                true => Err(io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error())),
                false => Ok(address),
            }
        };
        assert_eq!(everywhere(7, without_ipv6).unwrap().to_string(), "0.0.0.0:7");
        assert_eq!(tried.into_inner(), ["[::]:7", "0.0.0.0:7"]);
    }

    #[test]
    fn where_a_port_is_taken_ipv4_alone_is_not_enough() {
        let taken = |address: SocketAddr| match address.is_ipv6() {
            true => Err(io::Error::from(io::ErrorKind::AddrInUse)),
            false => Ok(address),
        };
        assert_eq!(everywhere(7, taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn all_addresses_of_the_machine_are_those_of_ipv4_too() {
        let all = Place { host: None, port: 0 };
        let socket = all.bind_first(&all.addresses().await.unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[test]
    fn the_first_address_that_this_machine_has_is_bound() {
        // The first one is an address of nobody, for examples.
        let addresses = ["192.0.2.1:0", "127.0.0.1:0"].map(|address| address.parse().unwrap());
        let socket = place("somewhere").bind_first(&addresses).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip(), addresses[1].ip());
        let error = place("somewhere").bind_first(&addresses[..1]).unwrap_err();
        let told = CannotBind { port: Port::Election, place: "somewhere:0".to_owned(), error }.to_string();
        assert!(told.starts_with("can't open election port somewhere:0: "), "{told}");
        assert!(told.ends_with("or set quorumListenOnAllIPs=true"), "{told}");
    }

    #[test]
    fn a_server_listens_once_where_its_line_names_a_place_twice() {
        let addresses = [("a", 1), ("b", 1), ("a", 1)].map(|(host, port)| HostPort { host: host.to_owned(), port });
        let shown =
            |everywhere| Place::of_server(&addresses, everywhere).iter().map(Place::to_string).collect::<Vec<_>>();
        assert_eq!(shown(false), ["a:1", "b:1"]);
        assert_eq!(shown(true), ["*:1"]);
    }
}
