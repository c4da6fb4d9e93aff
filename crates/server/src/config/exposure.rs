//! What strangers can do who reach this server, by its configuration alone.
//!
//! What always holds: a server that listens on this machine alone, or lets in only those who show who they are, is said nothing of.

use std::net::IpAddr;

use super::{ClientAuth, Config, QuorumTls};

impl Config {
    /// Lines for the log of a start: which port is open to whom, what that means, and what to do.
    pub(crate) fn exposure(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(port) = self.client.port
            && is_reached_from_elsewhere(self.client.host.as_deref())
            && !self.access.requires_authentication()
        {
            lines.push(format!(
                "clients need not show who they are, and the client port {port} is open beyond this machine: whoever reaches it can read and \
                 change every node without an access control list; let a firewall admit your clients alone, or require passwords (SECURITY.md)"
            ));
        }
        if let Some(secure) = &self.client_tls
            && let Some(port) = secure.port
            && is_reached_from_elsewhere(secure.host.as_deref())
            && secure.tls.client_auth != ClientAuth::Need
            && !self.access.requires_authentication()
        {
            lines.push(format!(
                "clients need not show who they are, and the client port {port} for TLS is open beyond this machine: TLS hides what is sent, but \
                 whoever reaches the port can read and change every node without an access control list; set ssl.clientAuth=need, let a firewall \
                 admit your clients alone, or require passwords (SECURITY.md)"
            ));
        }
        if let Some(metrics) = &self.metrics
            && is_reached_from_elsewhere(metrics.host.as_deref())
        {
            lines.push(format!(
                "those who ask for metrics need not show who they are, and the metrics port {} is open beyond this machine: whoever reaches it can \
                 read the figures of this server and the first components of paths; set metricsProvider.httpHost=127.0.0.1, or let a firewall admit your Prometheus alone (SECURITY.md)",
                metrics.port
            ));
        }
        if let Some(admin) = &self.admin
            && admin.is_reached_from_elsewhere()
            && !admin.keeps_strangers_out()
        {
            lines.push(format!(
                "the admin port {} is open beyond this machine: whoever reaches it can read metrics, roles and addresses of members, and where no TLS is \
                 spoken whoever listens can read the passwords of those who ask for more; let a firewall admit your monitoring alone, or set \
                 admin.forceHttps=true and admin.needClientAuth=true (SECURITY.md)",
                admin.port
            ));
        }
        if let Some(registry) = &self.registry
            && is_reached_from_elsewhere(registry.host.as_deref())
            && !registry.asks_for_credentials()
        {
            lines.push(format!(
                "clients of the service registry need not show who they are, and its port {} is open beyond this machine: whoever reaches it can \
                 register, cancel and overrule instances; set registry.spring.security.user.name and .password, or let a firewall admit your services \
                 alone (SECURITY.md)",
                registry.port
            ));
        }
        let Some(ensemble) = &self.ensemble else { return lines };
        let members = &ensemble.settings.memberships.committed.members;
        let mine = members.get(&ensemble.settings.me);
        let addresses = mine.map(|member| member.addresses.as_slice()).unwrap_or_default();
        let is_reached = |host: &str| ensemble.quorum_listen_on_all_ips || is_reached_from_elsewhere(Some(host));
        if let Some(address) = addresses.iter().find(|address| is_reached(&address.host))
            && !ensemble.auth.is_required
            && !self.quorum_tls.as_ref().is_some_and(QuorumTls::keeps_strangers_out)
        {
            let (quorum, election) = (address.quorum_port, address.election_port);
            let ports = match ensemble.settings.observer_master_port {
                Some(port) => format!("{quorum}, {election} and {port} (observerMasterPort)"),
                None => format!("{quorum} and {election}"),
            };
            lines.push(format!(
                "servers need not show who they are, and the ports {ports} are open beyond this machine: whoever reaches them can be a server, \
                 and read and write everything; let a firewall admit the members alone, or set sslQuorum=true or quorum.auth.serverRequireSasl=true (SECURITY.md)"
            ));
        }
        lines
    }
}

/// A name may be that of any address, unless it is the one of this machine.
pub(super) fn is_reached_from_elsewhere(host: Option<&str>) -> bool {
    let Some(host) = host.filter(|host| !host.is_empty()) else { return true };
    match host.parse::<IpAddr>() {
        Ok(address) => !address.to_canonical().is_loopback(),
        Err(_) => !host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_reaches_a_loopback_address() {
        for host in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST"] {
            assert!(!is_reached_from_elsewhere(Some(host)), "{host}");
        }
        for host in ["0.0.0.0", "::", "10.0.0.1", "zoo1", ""] {
            assert!(is_reached_from_elsewhere(Some(host)), "{host}");
        }
        assert!(is_reached_from_elsewhere(None));
    }
}
