//! The side that wants to be let in: a server that dials another one.
//!
//! What always holds: the other side is asked to prove itself too, and must have the key of the service that was dialled; tickets are asked
//! for anew before they expire, which the library does whenever a connection is made.
//!
//! Counterpart in Java: `GssKrb5Client`, with the thread of the original's `Login` that logs in again.

use std::sync::Arc;

use super::acceptor::{io_remedy, whose};
use super::gss::{Context, Library, Side, library};
use super::tokens::Tokens;
use super::{Desk, Keys, Login, Refusal, apart, layer};

/// In the name of the service, it stands for the host that is dialled.
const HOST: &str = "_HOST";

/// Who this server is where it dials, and whom it expects there.
#[derive(Debug)]
pub(crate) struct Initiator {
    library: &'static Library,
    login: Login,
    /// `service/host`, perhaps with `@REALM`.
    service: String,
    realm: Option<String>,
}

impl Initiator {
    /// Loads the library. Asks nobody for a ticket yet: the Kerberos server may come later. `realm` is the one of services that are
    /// written without. An error says what to do.
    pub fn open(login: Login, service: String, realm: Option<String>) -> Result<Initiator, String> {
        let library = library()?;
        let whose = whose(&login);
        match &login.keys {
            Keys::Keytab(path) | Keys::Cache(Some(path)) => {
                let opened = std::fs::File::open(path);
                // A cache may be filled later.
                if let (Err(error), Keys::Keytab(_)) = (opened, &login.keys) {
                    let (path, remedy) = (path.display(), io_remedy(&error));
                    return Err(format!("Kerberos: {whose}: {path} cannot be read: {error}; {remedy}"));
                }
            }
            Keys::Cache(None) => {}
        }
        // Tickets are asked for later; that the keytab has the key is seen without.
        if let (Keys::Keytab(path), Some(name)) = (&login.keys, &login.principal) {
            let failed = |error| format!("Kerberos: {}", Refusal::of(error, &whose));
            let name = library.principal(name).map_err(failed)?;
            let keytab = format!("FILE:{}", path.display());
            library.credential(Side::Acceptor, Some(&name), &[("keytab", &keytab)]).map_err(failed)?;
        }
        Ok(Initiator { library, login, service, realm })
    }

    /// The principal by which a host is dialled.
    fn target(&self, host: &str) -> String {
        target(&self.service, self.realm.as_deref().or_else(|| self.login_realm()), host)
    }

    /// Whether each host has a service of its own.
    pub fn asks_for_host(&self) -> bool {
        self.service.split_once('@').map_or(&*self.service, |(name, _)| name).ends_with(&format!("/{HOST}"))
    }

    fn login_realm(&self) -> Option<&str> {
        self.login.principal.as_deref()?.split_once('@').map(|(_, realm)| realm)
    }

    /// Tickets in memory, asked for by the key and asked for again before they expire; or those of a cache.
    fn credential(&self) -> Result<super::gss::Credential, Refusal> {
        let failed = |error| Refusal::of(error, &whose(&self.login));
        let name = self.login.principal.as_deref().map(|name| self.library.principal(name)).transpose();
        let name = name.map_err(failed)?;
        let places: Vec<(&str, String)> = match &self.login.keys {
            Keys::Keytab(path) => vec![
                ("client_keytab", format!("FILE:{}", path.display())),
                ("ccache", "MEMORY:rookeeper-to-servers".to_owned()),
            ],
            Keys::Cache(Some(path)) => vec![("ccache", format!("FILE:{}", path.display()))],
            Keys::Cache(None) => vec![],
        };
        let places: Vec<(&str, &str)> = places.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.library.credential(Side::Initiator, name.as_ref(), &places).map_err(failed)
    }

    /// An exchange with the server at a host.
    pub fn exchange(self: &Arc<Self>, host: &str) -> Exchange {
        let target = self.target(host);
        let context = self.library.context();
        Exchange { initiator: self.clone(), target, context, step: Step::Tickets, tokens: Tokens::default() }
    }
}

fn target(service: &str, realm: Option<&str>, host: &str) -> String {
    let (name, own_realm) = match service.split_once('@') {
        Some((name, realm)) => (name, Some(realm)),
        None => (service, None),
    };
    let name = match name.split_once('/') {
        Some((service, HOST)) => format!("{service}/{}", host.to_lowercase()),
        _ => name.to_owned(),
    };
    match own_realm.or(realm) {
        Some(realm) => format!("{name}@{realm}"),
        None => name,
    }
}

/// One exchange, from the first ticket to the other side's consent.
#[derive(Debug)]
pub(crate) struct Exchange {
    initiator: Arc<Initiator>,
    /// The principal that the other side must be.
    target: String,
    context: Context,
    step: Step,
    tokens: Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The library makes tokens.
    Tickets,
    /// The other side is to offer security layers.
    Established,
    Over,
}

/// An exchange that goes on, and the answer to a token.
pub(crate) type Outcome = Result<(Box<Exchange>, Vec<u8>), Refusal>;

/// Takes the next token of the other side, on a thread of its own; an empty one at first.
pub(crate) async fn answer(mut exchange: Box<Exchange>, token: Vec<u8>) -> Outcome {
    let asking = apart(Desk::Asking, move || {
        let answer = exchange.handle(&token);
        answer.map(|answer| (exchange, answer))
    });
    asking.await?
}

impl Exchange {
    /// Whether this side has said everything.
    pub fn is_complete(&self) -> bool {
        self.step == Step::Over
    }

    /// Takes the next token of the other side and returns the answer, which may be empty. Blocks while the library asks for tickets.
    fn handle(&mut self, token: &[u8]) -> Result<Vec<u8>, Refusal> {
        let token = self.tokens.count(token)?;
        match self.step {
            Step::Tickets => {
                let credential = self.initiator.credential()?;
                let name = self.initiator.library.principal(&self.target).map_err(|error| self.why(error))?;
                let stepped = self.context.initiate(&credential, &name, token).map_err(|error| self.why(error))?;
                if stepped.is_established {
                    self.step = Step::Established;
                } else if stepped.token.is_empty() {
                    return Err(Refusal::Malformed("the other side is to say more and is told nothing"));
                }
                Ok(stepped.token)
            }
            Step::Established => {
                let offer = self.context.unwrap(token).map_err(|error| self.why(error))?;
                let name = self.context.initiator().map_err(|error| self.why(error))?;
                let answer = layer::answer(&offer, &name)?;
                let answer = self.context.wrap(&answer).map_err(|error| self.why(error))?;
                self.step = Step::Over;
                Ok(answer)
            }
            Step::Over => Err(Refusal::Over),
        }
    }

    fn why(&self, error: super::gss::GssError) -> Refusal {
        let whose = format!("{}, and expects {} there", whose(&self.initiator.login), self.target);
        Refusal::of(error, &whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_the_one_of_the_host_that_is_dialled() {
        assert_eq!(target("zkquorum/localhost", Some("R"), "zoo1"), "zkquorum/localhost@R");
        assert_eq!(target("zkquorum/_HOST", Some("R"), "Zoo1.Example.COM"), "zkquorum/zoo1.example.com@R");
        assert_eq!(target("zkquorum/_HOST@Q", Some("R"), "zoo1"), "zkquorum/zoo1@Q");
        assert_eq!(target("zkquorum/_HOSTS", None, "zoo1"), "zkquorum/_HOSTS");
    }
}
