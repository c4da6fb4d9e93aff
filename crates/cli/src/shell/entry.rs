//! How the shell comes in: TLS and a user of SASL, as its user says and as the client library takes it.
//!
//! What always holds: a password comes from a file, from a terminal that does not show it, or from a JAAS file, never from the arguments, which
//! everybody on the machine can read; neither it nor a key is ever printed.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::Duration;

use rookeeper_server::config::{ClientSide, Environment, Level};
use rookeeper_server::dial::{self, Dial};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::net::TcpStream;
use zookeeper_client::{Client, Connector, Error, SaslOptions, TlsOptions};

use super::arguments::Start;
use super::failure::Failure;
use super::output::Output;

/// Behind a refusal of TLS: its words are those of the properties.
const TLS_FLAGS: &str = "Flags: --tls-ca FILE is zookeeper.ssl.trustStore.location, --tls-cert FILE is zookeeper.ssl.keyStore.location, \
                         --tls-any-host is zookeeper.ssl.hostnameVerification=false.";

/// How a session is begun.
#[derive(Default)]
pub(crate) struct Entry {
    tls: Option<Dial>,
    /// User and password.
    login: Option<(String, String)>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        formatter.debug_struct("Entry").field("tls", &self.tls).field("user", &user).finish()
    }
}

impl Entry {
    /// Reads all that the user says, and asks for the password of `--user` where no file has it. It blocks.
    pub(crate) fn open(start: &Start, output: &Output) -> Result<Entry, Failure> {
        let environment = Environment::of_process();
        let (side, notices) = ClientSide::load(&start.client, start.user.is_some(), &environment)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        for notice in notices.iter().filter(|notice| notice.level == Level::Warn) {
            output.complain(&notice.text)?;
        }
        let tls = side.tls.as_ref().map(Dial::open).transpose();
        let tls = tls.map_err(|error| Failure::Refused(format!("{error}\n  {TLS_FLAGS}")))?;
        let login = match (&start.user, &start.password_file) {
            (Some(user), Some(file)) => Some((user.clone(), password_in(file)?)),
            (Some(user), None) => Some((user.clone(), ask_for_password(user)?)),
            (None, _) => side.login,
        };
        Ok(Entry { tls, login })
    }

    /// Begins a session with one of the servers of a connect string.
    pub(crate) async fn connect(&self, mut connector: Connector, server: &str) -> Result<Client, Error> {
        if let Some((user, password)) = &self.login {
            connector = connector.with_sasl(SaslOptions::digest_md5(user.clone(), password.clone()));
        }
        match &self.tls {
            None => connector.connect(server).await,
            Some(dial) => connector.with_tls(tls_options(dial)?).secure_connect(server).await,
        }
    }

    /// Whether the host of an address cannot be dialled at all.
    pub(crate) fn refuses_host(&self, host: &str) -> bool {
        self.tls.is_some() && !dial::is_host(host)
    }

    /// Why a server at which a connection ends gives no session, as far as that can be found out.
    pub(crate) async fn probe(&self, stream: TcpStream, host: &str, limit: Duration) -> String {
        const NOT_IT: &str = "something listens there but gives no session: a server without a quorum, one with too many connections, or not the client \
                              port";
        let Some(dial) = &self.tls else { return format!("{NOT_IT}, or a port for TLS, which --tls speaks") };
        let Err(unwelcome) = dial.probe(stream, host, limit).await else { return NOT_IT.to_owned() };
        let mut text = unwelcome.why;
        if unwelcome.may_lack_certificate {
            text.push_str(
                "; this client shows no certificate, and the server may ask for one: --tls-cert FILE names it",
            );
        }
        if unwelcome.may_be_plain {
            text.push_str("; it may be a port without TLS");
        }
        format!("{text}\n  {TLS_FLAGS}")
    }

    /// Why a server that answers has refused the session.
    pub(crate) fn unauthenticated(&self) -> String {
        match &self.login {
            Some((user, _)) => format!(
                "the server refused the user {user}: the password is wrong, or it knows no such user. Check the name and the password of --user and \
                 --password-file, or of the JAAS file; users of DIGEST-MD5 count, those of Kerberos do not."
            ),
            None => "the server lets in only those who authenticate: name a user with --user NAME and --password-file FILE, or with a JAAS file in \
                     -Djava.security.auth.login.config of CLIENT_JVMFLAGS."
                .to_owned(),
        }
    }
}

#[allow(unsafe_code)]
fn tls_options(dial: &Dial) -> Result<TlsOptions, Error> {
    let mut options = TlsOptions::new().with_pem_ca(dial.trusted())?;
    if let Some((certificates, key)) = dial.identity() {
        options = options.with_pem_identity(certificates, key)?;
    }
    if !dial.verifies_host() {
        // SAFETY: no memory is touched. The library marks it so because somebody in between may pass for the server, which is what the user asked for.
        options = unsafe { options.with_no_hostname_verification() };
    }
    Ok(options)
}

fn password_in(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::Refused(format!(
            "--password-file {} cannot be read: {error}. It must hold the password on its first line.",
            file.display()
        ))
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// On the terminal, whatever standard input is.
fn ask_for_password(user: &str) -> Result<String, Failure> {
    let no_terminal = |_| {
        Failure::Refused(format!(
            "There is no terminal to ask for the password of {user}: name a file with it, --password-file FILE."
        ))
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    let as_it_was = tcgetattr(&terminal).map_err(|error| no_terminal(error.into()))?;
    let mut silent = as_it_was.clone();
    // Without signals an interruption is a character, and the terminal shows again what is typed.
    silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| no_terminal(error.into()))?;
    let mut line = String::new();
    let read = write!(&terminal, "Password of {user}: ").and_then(|()| BufReader::new(&terminal).read_line(&mut line));
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &as_it_was);
    let _ = writeln!(&terminal);
    read?;
    restored.map_err(std::io::Error::from)?;
    if line.contains('\u{3}') {
        return Err(Failure::Refused("Interrupted".to_owned()));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
