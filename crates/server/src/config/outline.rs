//! What a configuration comes to, for whoever looks at it from outside without starting a server by it.

use std::path::PathBuf;

use rookeeper_proto::ServerId;

use super::{ConfFacts, Config};

/// What a configuration comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The directory of `myid`, and of `version-2` with snapshots and epochs.
    pub data_dir: PathBuf,
    /// The directory of `version-2` with the log.
    pub data_log_dir: PathBuf,
    /// Host, none for all addresses, and port of clients without TLS.
    pub client: Option<(Option<String>, u16)>,
    /// The port of admin commands, and the path below which they are.
    pub admin: Option<(u16, String)>,
    /// This server's number; none for a standalone server.
    pub me: Option<ServerId>,
    /// The members in the order of their numbers; none of a standalone server.
    pub members: Vec<MemberOutline>,
    /// The answer of the word `conf`, without sizes of files.
    pub conf: String,
}

/// A member, as the server lines say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOutline {
    /// Its number.
    pub id: ServerId,
    /// Names or addresses between servers; at least one.
    pub hosts: Vec<String>,
    /// Host and port of its clients, where its line names them.
    pub client: Option<(String, u16)>,
}

impl Config {
    /// What it comes to.
    pub fn outline(&self) -> Outline {
        let membership = self.ensemble.as_ref().map(|ensemble| &ensemble.settings.memberships.committed);
        let members = membership.iter().flat_map(|membership| &membership.members);
        let conf = self.conf(ConfFacts {
            membership,
            client_port: self.client.port.unwrap_or(0),
            secure_client_port: self.client_tls.as_ref().and_then(|tls| tls.port),
            data_dir_size: 0,
            data_log_size: 0,
        });
        Outline {
            data_dir: self.directories.data_dir.clone(),
            data_log_dir: self.directories.data_log_dir.clone(),
            client: self.client.port.map(|port| (self.client.host.clone(), port)),
            admin: self.admin.as_ref().map(|admin| (admin.port, admin.command_path.clone())),
            me: self.ensemble.as_ref().map(|ensemble| ensemble.settings.me),
            members: members
                .map(|(id, member)| MemberOutline {
                    id: *id,
                    hosts: member.addresses.iter().map(|address| address.host.clone()).collect(),
                    client: member.client.as_ref().map(|client| (client.host.clone(), client.port)),
                })
                .collect(),
            conf,
        }
    }
}
