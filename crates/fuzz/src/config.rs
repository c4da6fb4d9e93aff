//! `zoo.cfg`, the dynamic file, `myid`, the variables with `-D` options, and the positional arguments.
//!
//! The input: these parts with zero bytes between them, in that order (`SERVER_JVMFLAGS`, then `JVMFLAGS`); an empty `zoo.cfg` means that there is
//! none, and the arguments count. What always holds: the same input gives the same configuration; what is accepted keeps the promises that
//! the rest of the server builds on; no message is empty or endless.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rookeeper_server::config::{ConfFacts, Config, ConfigError, Environment, Notice, Source};

const ZOO_CFG: &str = "/etc/zookeeper/zoo.cfg";

/// Messages name keys, values and places, each cut to a few hundred characters; a path may add itself.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

pub fn run(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (zoo_cfg, dynamic, my_id) = (part(), part(), part());
    let mut variables = BTreeMap::new();
    for name in ["SERVER_JVMFLAGS", "JVMFLAGS"] {
        variables.insert(name.to_owned(), String::from_utf8_lossy(part()).into_owned());
    }
    let environment = Environment { variables, home: Some("/home/zoe".into()), user_id: 1000, ..Default::default() };
    let source = if zoo_cfg.is_empty() {
        let arguments: Vec<String> = parts.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
        match Source::from_arguments(&arguments) {
            Ok(source) => source,
            Err(error) => return sensible(&error.to_string()),
        }
    } else {
        Source::File(PathBuf::from(ZOO_CFG))
    };
    let read_file = |path: &Path| -> io::Result<Vec<u8>> {
        if path == Path::new(ZOO_CFG) {
            return Ok(zoo_cfg.to_vec());
        }
        let content = if path.ends_with("myid") { my_id } else { dynamic };
        if content.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(content.to_vec()) }
    };
    let load = || Config::load_with(source.clone(), &environment, &read_file);
    let loaded = load();
    assert_eq!(describe(&loaded), describe(&load()), "the same files, read again");
    match loaded {
        Ok((config, notices)) => {
            notices.iter().for_each(|notice| sensible(&notice.text));
            keeps_its_promises(&config);
        }
        Err(error) => sensible(&error.to_string()),
    }
}

fn describe(loaded: &Result<(Config, Vec<Notice>), ConfigError>) -> String {
    format!("{loaded:?}")
}

fn sensible(message: &str) {
    assert!(!message.is_empty() && message.len() <= MAX_MESSAGE_BYTES, "a message of {} bytes", message.len());
}

fn keeps_its_promises(config: &Config) {
    let conf = config.conf(ConfFacts {
        client_port: 2181,
        secure_client_port: None,
        data_dir_size: 0,
        data_log_size: 0,
        membership: None,
    });
    assert!(conf.starts_with("clientPort=2181\n"));
}
