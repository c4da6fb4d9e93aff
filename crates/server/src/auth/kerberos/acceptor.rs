//! The side that is asked to let somebody in.
//!
//! What always holds: an exchange gives one verdict, and takes no token behind it; a principal is known only when the library has accepted
//! its ticket and the last message was signed with the key of that ticket.
//!
//! Counterpart in Java: `GssKrb5Server`.

use std::sync::Arc;

use super::gss::{Context, Credential, Library, Side, library};
use super::tokens::Tokens;
use super::{Desk, Keys, Login, Refusal, apart, layer};

/// A service with its keys.
#[derive(Debug)]
pub(crate) struct Acceptor {
    library: &'static Library,
    credential: Credential,
    /// The service and where its keys are, for the log.
    whose: String,
    default_realm: String,
}

impl Acceptor {
    /// Loads the library and finds the key. Reads files, and asks nobody. An error says what to do.
    pub fn open(login: &Login) -> Result<Acceptor, String> {
        let library = library()?;
        let whose = whose(login);
        let failed = |error| format!("Kerberos: {}", Refusal::of(error, &whose));
        let name = login.principal.as_deref().map(|name| library.principal(name)).transpose().map_err(failed)?;
        let keytab = match &login.keys {
            Keys::Keytab(path) => path.display().to_string(),
            Keys::Cache(_) => return Err(format!("Kerberos: {whose}: a server needs a keytab")),
        };
        // The library would say that the key is not there.
        std::fs::File::open(&keytab)
            .map_err(|error| format!("Kerberos: {whose}: {keytab} cannot be read: {error}; {}", io_remedy(&error)))?;
        let store = format!("FILE:{keytab}");
        let credential = library.credential(Side::Acceptor, name.as_ref(), &[("keytab", &store)]).map_err(failed)?;
        Ok(Acceptor { library, credential, whose, default_realm: default_realm(library) })
    }

    /// The realm of principals that are written without one; empty where there is none.
    pub fn default_realm(&self) -> &str {
        &self.default_realm
    }

    /// An exchange with somebody who has just come.
    pub fn exchange(self: &Arc<Self>) -> Exchange {
        let context = self.library.context();
        Exchange { acceptor: self.clone(), context, step: Step::Tickets, tokens: Tokens::default() }
    }
}

pub(super) fn io_remedy(error: &std::io::Error) -> &'static str {
    super::cause::remedy(error.raw_os_error().unwrap_or_default())
}

/// Who this server is, for the log.
pub(super) fn whose(login: &Login) -> String {
    let principal = login.principal.as_deref().unwrap_or("whoever has it");
    format!("this server is {principal} by {}", login.keys)
}

/// The library adds it to names without a realm; it is not asked for in another way, which would need a second library.
fn default_realm(library: &'static Library) -> String {
    let text = library.principal("x").and_then(|name| name.text());
    text.ok().and_then(|text| text.split_once('@').map(|(_, realm)| realm.to_owned())).unwrap_or_default()
}

/// One exchange, from the first token of the other side to the verdict.
#[derive(Debug)]
pub(crate) struct Exchange {
    acceptor: Arc<Acceptor>,
    context: Context,
    step: Step,
    tokens: Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The library takes tokens.
    Tickets,
    /// Its last token is sent, and the other side has nothing to say to it.
    Established,
    /// The other side is to choose a security layer.
    Offered,
    Over,
}

/// What is to be sent, and what has been found out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The other side is to answer this.
    Challenge(Vec<u8>),
    /// The other side has proved to be this principal; nothing is to be sent.
    Authenticated {
        principal: String,
        /// The name that it wishes to act as, where that is not left open.
        authorization_id: Option<String>,
    },
}

/// An exchange that goes on, if it does, and what came of a token.
pub(crate) type Outcome = (Option<Box<Exchange>>, Result<Progress, Refusal>);

/// Takes the next token, on a thread of its own.
pub(crate) async fn judge(mut exchange: Box<Exchange>, token: Vec<u8>) -> Outcome {
    let judging = apart(Desk::Judging, move || {
        let verdict = exchange.handle(&token);
        (exchange, verdict)
    });
    match judging.await {
        Ok((exchange, verdict)) => (Some(exchange), verdict),
        Err(refusal) => (None, Err(refusal)),
    }
}

impl Exchange {
    /// Takes the next token. Blocks while the library reads files.
    fn handle(&mut self, token: &[u8]) -> Result<Progress, Refusal> {
        let step = std::mem::replace(&mut self.step, Step::Over);
        if step == Step::Over {
            return Err(Refusal::Over);
        }
        let token = self.tokens.count(token)?;
        match step {
            Step::Tickets => {
                if token.bytes().is_empty() {
                    return Err(Refusal::Malformed("an empty token in place of a ticket"));
                }
                let stepped = self.context.accept(&self.acceptor.credential, token).map_err(|error| self.why(error))?;
                match (stepped.is_established, stepped.token.is_empty()) {
                    (true, true) => self.offer(),
                    (true, false) => self.challenge(Step::Established, stepped.token),
                    (false, false) => self.challenge(Step::Tickets, stepped.token),
                    (false, true) => Err(Refusal::Malformed("a ticket that needs more and gets nothing")),
                }
            }
            Step::Established if token.bytes().is_empty() => self.offer(),
            Step::Established => Err(Refusal::Malformed("a token where nothing was to be said")),
            Step::Offered | Step::Over => {
                let answer = self.context.unwrap(token).map_err(|error| self.why(error))?;
                let authorization_id = layer::judge(&answer)?;
                let principal = self.context.initiator().map_err(|error| self.why(error))?;
                Ok(Progress::Authenticated { principal, authorization_id })
            }
        }
    }

    fn challenge(&mut self, step: Step, token: Vec<u8>) -> Result<Progress, Refusal> {
        self.step = step;
        Ok(Progress::Challenge(token))
    }

    fn offer(&mut self) -> Result<Progress, Refusal> {
        let offer = self.context.wrap(&layer::OFFER).map_err(|error| self.why(error))?;
        self.challenge(Step::Offered, offer)
    }

    fn why(&self, error: super::gss::GssError) -> Refusal {
        Refusal::of(error, &self.acceptor.whose)
    }
}
