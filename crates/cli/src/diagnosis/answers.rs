//! What members answer to `srvr` and `conf`, ours and the original's. It is only read here, not asked for.

use std::collections::BTreeMap;

/// What `srvr` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srvr {
    /// As far as the comma: `3.9.5-…`.
    pub version: String,
    /// `leader`, `follower`, `observer`, `standalone`.
    pub mode: String,
    /// Epoch and counter.
    pub zxid: (u32, u32),
}

impl Srvr {
    /// The error says what was answered instead.
    pub fn parse(text: &str) -> Result<Srvr, String> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(version), Some(mode), Some(zxid)) = (value("Zookeeper version:"), value("Mode:"), value("Zxid:"))
        else {
            return Err(first_line(text));
        };
        let zxid = u64::from_str_radix(zxid.trim_start_matches("0x"), 16).map_err(|_| first_line(text))?;
        Ok(Srvr {
            version: version.split(',').next().unwrap_or_default().to_owned(),
            mode: mode.to_owned(),
            zxid: ((zxid >> 32) as u32, zxid as u32),
        })
    }
}

/// What `conf` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conf {
    /// Lines before the membership.
    pub values: BTreeMap<String, String>,
    /// Ports and part of each `server.N`, without what stands behind the semicolon. None where no membership is told.
    pub servers: Option<BTreeMap<String, String>>,
}

impl Conf {
    /// The error says what was answered instead.
    pub fn parse(text: &str) -> Result<Conf, String> {
        let (values, membership) = match text.split_once("membership: \n") {
            Some((values, membership)) => (values, Some(membership)),
            None => (text, None),
        };
        let values = pairs(values);
        if !values.contains_key("tickTime") {
            return Err(first_line(text));
        }
        let servers = membership.map(|membership| {
            let mut servers = pairs(membership);
            servers.retain(|key, _| key.starts_with("server."));
            servers.values_mut().for_each(|line| line.truncate(line.find(';').unwrap_or(line.len())));
            servers
        });
        Ok(Conf { values, servers })
    }
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// Of what may be anything.
fn first_line(text: &str) -> String {
    const LONGEST: usize = 120;
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|char| !char.is_control()).collect();
    match line.char_indices().nth(LONGEST) {
        _ if line.is_empty() => "nothing".to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        let path = format!("{}/../../tests/fixtures/operations/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn answers_of_the_original_are_read() {
        let srvr = Srvr::parse(&recorded("leader/4lw-srvr.txt")).unwrap();
        assert_eq!(srvr.version, "3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee");
        assert_eq!((srvr.mode.as_str(), srvr.zxid), ("leader", (1, 0xa6)));
        let conf = Conf::parse(&recorded("leader/4lw-conf.txt")).unwrap();
        assert_eq!(conf.values["initLimit"], "10");
        let servers = conf.servers.unwrap();
        assert_eq!((servers.len(), servers["server.4"].as_str()), (4, "127.0.0.1:33024:33034:observer"));
    }

    #[test]
    fn other_answers_are_quoted() {
        let refused = "conf is not executed because it is not in the whitelist.\n";
        assert_eq!(Conf::parse(refused), Err(refused.trim().to_owned()));
        assert_eq!(Srvr::parse(""), Err("nothing".to_owned()));
        assert_eq!(Srvr::parse("HTTP/1.1 400\r\nx"), Err("HTTP/1.1 400".to_owned()));
        assert_eq!(Srvr::parse(&"ü".repeat(500)).unwrap_err().chars().count(), 121);
    }
}
