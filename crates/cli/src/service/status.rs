//! `rookeeper status`: finds the client port of a configuration, and asks the server there for its mode.
//!
//! Counterpart in the original: `zkServer.sh status`, which looks with grep and asks by `FourLetterWordMain`.

use std::path::Path;

use crate::config_file::ConfigFile;
use crate::{four_letter_word, print};

/// Where a server says that clients connect.
#[derive(Debug, PartialEq, Eq)]
struct ClientPort {
    port: String,
    address: String,
    speaks_tls: bool,
}

/// Exit code 0: it serves, as `Mode` says; 1: nobody answers, or the port can't be found.
pub fn main(config: &Path) -> u8 {
    let found = ConfigFile::read(config).map_err(|problem| print::complaint(&problem));
    let Ok(found) = found else { return 1 };
    let mut said = Vec::new();
    let port = find(&found, &|path| ConfigFile::read(path), &mut said);
    let is_told = said.iter().all(|line| print::result(line));
    let Some(ClientPort { port, address, speaks_tls }) = port else { return 1 };
    let found = format!("Client port found: {port}. Client address: {address}. Client SSL: {speaks_tls}.");
    if !print::result(&found) || !is_told {
        return 1;
    }
    let asked = match speaks_tls {
        true => ask_with_tls(&address, &port),
        false => port.parse().ok().and_then(|port| four_letter_word::ask(&address, port, "srvr").ok()),
    };
    // What a server answers that serves nobody has no such line.
    let mode = asked.and_then(|answer| answer.lines().find(|line| line.starts_with("Mode")).map(str::to_owned));
    let answer = mode.unwrap_or_else(|| "Error contacting service. It is probably not running.".to_owned());
    let serves = answer.starts_with("Mode");
    if print::result(&answer) && serves { 0 } else { 1 }
}

/// What the server of a configuration answers to `srvr` at its port without TLS; none where it does not.
pub(crate) fn srvr(config: &ConfigFile) -> Option<String> {
    let port = find(config, &|path| ConfigFile::read(path), &mut Vec::new()).filter(|port| !port.speaks_tls)?;
    four_letter_word::ask(&port.address, port.port.parse().ok()?, "srvr").ok()
}

/// The port, in the order in which the original looks for it, with what it says meanwhile.
fn find(
    config: &ConfigFile,
    read: &dyn Fn(&Path) -> Result<ConfigFile, String>,
    said: &mut Vec<&'static str>,
) -> Option<ClientPort> {
    let plain = |port: &str, address: &str| {
        Some(ClientPort { port: port.to_owned(), address: address.to_owned(), speaks_tls: false })
    };
    let address = config.value("clientPortAddress").unwrap_or("localhost");
    if let Some(port) = config.value("clientPort").filter(|port| is_number(port)) {
        return plain(port, address);
    }
    let my_id = config.data_dir().and_then(|dir| std::fs::read_to_string(dir.join("myid")).ok()).unwrap_or_default();
    let my_id = my_id.trim();
    if !is_number(my_id) {
        said.push("myid could not be determined, will not able to locate clientPort in the server configs.");
    } else {
        let mut of_line = config.client_address_of(my_id).map(str::to_owned);
        if of_line.is_none() {
            said.push("Client port not found in static config file. Looking in dynamic config file.");
            let dynamic = config.value("dynamicConfigFile").and_then(|path| read(Path::new(path)).ok());
            of_line = dynamic.and_then(|dynamic| dynamic.client_address_of(my_id).map(str::to_owned));
        }
        match of_line.as_deref() {
            None => said.push("Client port not found in the server configs"),
            Some(port) if is_number(port) => return plain(port, address),
            Some(both) => {
                if let Some((host, port)) = both.rsplit_once(':').filter(|(_, port)| is_number(port)) {
                    return plain(port, host.trim_start_matches('[').trim_end_matches(']'));
                }
            }
        }
    }
    said.push("Client port not found. Looking for secureClientPort in the static config.");
    let Some(port) = config.value("secureClientPort") else {
        said.push("Unable to find either secure or unsecure client port in any configs. Terminating.");
        return None;
    };
    let address = config.value("secureClientPortAddress").unwrap_or("localhost");
    Some(ClientPort { port: port.to_owned(), address: address.to_owned(), speaks_tls: true })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// The answer to `srvr`, asked for as the client library of the original is told to: by the `-D` options in `CLIENT_JVMFLAGS`. What hinders is told.
fn ask_with_tls(address: &str, port: &str) -> Option<String> {
    const OPTIONS: &str = "Options for status are those of zkCli.sh, in CLIENT_JVMFLAGS: -Dzookeeper.ssl.trustStore.location=FILE, and \
                           -Dzookeeper.ssl.keyStore.location=FILE where the server demands a certificate.";
    let asked = four_letter_word::ask_with_tls(address, port.parse().ok()?, "srvr");
    asked.map_err(|error| print::complaint(&format_args!("{address}:{port}: {error:#}\n{OPTIONS}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, dynamic: &str) -> (Option<(String, String, bool)>, Vec<&'static str>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("myid"), "3\n").unwrap();
        let path = dir.path().join("zoo.cfg");
        std::fs::write(&path, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        std::fs::write(dir.path().join("dynamic"), dynamic).unwrap();
        let mut said = Vec::new();
        let port = find(&ConfigFile::read(&path).unwrap(), &|path| ConfigFile::read(path), &mut said);
        (port.map(|port| (port.address, port.port, port.speaks_tls)), said)
    }

    #[test]
    fn ports_are_found_where_the_original_finds_them() {
        let at = |address: &str, port: &str, tls| Some((address.to_owned(), port.to_owned(), tls));
        assert_eq!(found("clientPort=1", ""), (at("localhost", "1", false), vec![]));
        assert_eq!(found("clientPort=1\nclientPortAddress=::1", ""), (at("::1", "1", false), vec![]));
        assert_eq!(found("dataDir=DIR\nserver.3=h:1:2;[::1]:2181", ""), (at("::1", "2181", false), vec![]));
        assert_eq!(found("dataDir=DIR\nserver.3=h:1:2;2181", ""), (at("localhost", "2181", false), vec![]));
        let looked = "Client port not found in static config file. Looking in dynamic config file.";
        let dynamic = "dataDir=DIR\ndynamicConfigFile=DIR/dynamic";
        assert_eq!(found(dynamic, "server.3=h:1:2;10.0.0.1:5"), (at("10.0.0.1", "5", false), vec![looked]));
        let (port, said) = found(&format!("{dynamic}\nsecureClientPort=7"), "");
        assert_eq!((port, said.len()), (at("localhost", "7", true), 3));
        let (port, said) = found("dataDir=/nowhere", "");
        assert!(
            port.is_none() && said[0].starts_with("myid could not be") && said[2].starts_with("Unable"),
            "{said:?}"
        );
    }
}
