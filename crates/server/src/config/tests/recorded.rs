//! The faulty and odd configurations whose outcome was recorded from Apache ZooKeeper 3.9.3: exit code and message.

use super::*;

/// What the original did with a configuration: exit code and words of its message, or it ran.
enum Outcome {
    Exit(u8, &'static str),
    Running,
}
use Outcome::{Exit, Running};

const FORM: &str = " does not have the form server_config or server_config;client_config where server_config is the pipe \
                    separated list of host:port:port or host:port:port:type and client_config is port or host:port";

fn first_member(server_1: &str) -> Files {
    let two = "server.2=127.0.0.1:33312:33322\n";
    standalone(&format!("initLimit=10\nsyncLimit=5\n{two}{server_1}\n")).with("/data/myid", "1")
}

/// The recorded cases. Missing among them is only the busy port, which is not a matter of configuration.
fn recorded() -> Vec<(&'static str, Files, Outcome)> {
    let dynamic = |text: &str| {
        standalone("initLimit=10\nsyncLimit=5\ndynamicConfigFile=/etc/zoo.cfg.dynamic\n")
            .with("/data/myid", "1")
            .with("/etc/zoo.cfg.dynamic", text)
    };
    vec![
        ("missing file", Files::default(), Exit(2, "zoo.cfg file is missing")),
        ("no dataDir", zoo_cfg("clientPort=2181\n"), Exit(2, "dataDir is not set")),
        ("bad int", standalone("tickTime=abc"), Exit(2, "For input string: \"abc\"")),
        ("tickTime=0", standalone("tickTime=0"), Exit(2, "tickTime is not set")),
        (
            "bad boolean",
            standalone("reconfigEnabled=yes"),
            Exit(2, "Invalid option yes for reconfigEnabled. Choose 'true' or 'false.'"),
        ),
        ("electionAlg=1", standalone("electionAlg=1"), Exit(2, "Invalid electionAlg value. Only 3 is supported.")),
        ("bad peerType", standalone("peerType=learner"), Exit(2, "Unrecognised peertype: learner")),
        (
            "min>max session timeout",
            standalone("minSessionTimeout=50000\nmaxSessionTimeout=40000"),
            Exit(2, "minSessionTimeout must not be larger than maxSessionTimeout"),
        ),
        (
            "clientPortAddress without clientPort",
            zoo_cfg("dataDir=/data\nclientPortAddress=127.0.0.1"),
            Exit(2, "clientPortAddress is set but clientPort is not set"),
        ),
        (
            "secureClientPortAddress alone",
            standalone("secureClientPortAddress=127.0.0.1"),
            Exit(2, "secureClientPortAddress is set but secureClientPort is not set"),
        ),
        (
            "unknown metrics provider",
            standalone("metricsProvider.className=no.such.Provider"),
            Exit(2, "metrics provider class was not found"),
        ),
        (
            "initLimit missing",
            standalone(&format!("syncLimit=5\n{THREE}")).with("/data/myid", "1"),
            Exit(2, "initLimit is not set"),
        ),
        (
            "syncLimit missing",
            standalone(&format!("initLimit=5\n{THREE}")).with("/data/myid", "1"),
            Exit(2, "syncLimit is not set"),
        ),
        ("server.N one port", first_member("server.1=127.0.0.1:33311"), Exit(2, FORM)),
        (
            "server.N port not a number",
            first_member("server.1=127.0.0.1:abc:33321"),
            Exit(2, "Address unresolved: 127.0.0.1:abc"),
        ),
        (
            "server.N equal ports",
            first_member("server.1=127.0.0.1:33311:33311"),
            Exit(2, "Client and election port must be different! Please update the configuration file on server.1"),
        ),
        (
            "server.N bad role",
            first_member("server.1=127.0.0.1:33311:33321:leader"),
            Exit(2, "Unrecognised peertype: leader"),
        ),
        (
            "server.N not a number id",
            first_member("server.x=127.0.0.1:33311:33321"),
            Exit(2, "For input string: \"x\""),
        ),
        (
            "server.N two addresses, feature off",
            first_member("server.1=127.0.0.1:33311:33321|127.0.0.2:33311:33321"),
            Exit(2, "Multiple address feature is disabled, but multiple addresses were specified for sid 1"),
        ),
        ("server.N bad client part", first_member("server.1=127.0.0.1:33311:33321;a:b:c"), Exit(2, FORM)),
        (
            "server.N unclosed bracket",
            first_member("server.1=[::1:33311:33321"),
            Exit(2, "[::1:33311:33321 starts with '[' but has no matching ']:'"),
        ),
        (
            "client port differs from server.N",
            first_member("server.1=127.0.0.1:33311:33321;33399"),
            Exit(
                2,
                "client address for this server (id = 1) in static config file is /127.0.0.1:33300 is different from \
                 client address found in dynamic file: /0.0.0.0:33399",
            ),
        ),
        (
            "observers only",
            standalone("server.1=127.0.0.1:33311:33321:observer"),
            Exit(2, "Observers w/o participants is an invalid configuration"),
        ),
        (
            "one participant one observer",
            standalone("server.1=127.0.0.1:33311:33321\nserver.2=127.0.0.1:33312:33322:observer"),
            Exit(2, "Observers w/o quorum is an invalid configuration"),
        ),
        ("one participant (standalone)", standalone("server.1=127.0.0.1:33311:33321"), Running),
        (
            "standaloneEnabled=false without servers",
            standalone("standaloneEnabled=false"),
            Exit(2, "standaloneEnabled = false then number of participants should be >0"),
        ),
        ("group without server", member("group.1=1:2"), Exit(2, "Server 3is not in a group")),
        ("server in two groups", member("group.1=1:2\ngroup.2=2:3"), Exit(2, "Server 2is in multiple groups")),
        (
            "server lines and dynamicConfigFile",
            standalone("server.2=127.0.0.1:33312:33322\ndynamicConfigFile=/etc/zoo.cfg.dynamic"),
            Exit(2, "parameter: server.2 must be in a separate dynamic config file"),
        ),
        (
            "dynamicConfigFile missing",
            standalone("dynamicConfigFile=/etc/zookeeper/nodyn"),
            Exit(2, "/etc/zookeeper/nodyn (No such file or directory)"),
        ),
        (
            "unknown key in dynamic file",
            dynamic(&format!("{THREE}initLimit=10")),
            Exit(2, "Unrecognised parameter: initLimit"),
        ),
        (
            "version in dynamic file",
            dynamic(&format!("{THREE}version=100000000")),
            Exit(2, "dynamic file shouldn't have version inside"),
        ),
        (
            "serverRequireSasl without enableSasl",
            standalone("quorum.auth.serverRequireSasl=true"),
            Exit(2, "quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.serverRequireSasl"),
        ),
        (
            "serverRequireSasl without learnerRequireSasl",
            standalone("quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true"),
            Exit(2, "quorum.auth.learnerRequireSasl is disabled, so cannot enable quorum.auth.serverRequireSasl"),
        ),
        ("unknown key", standalone("frobnicate=1"), Running),
        ("snapRetainCount=1", standalone("autopurge.snapRetainCount=1"), Running),
        ("myid not a number", member("").with("/data/myid", "one"), Exit(2, "serverid one is not a number")),
        ("myid missing", standalone(&format!("initLimit=10\nsyncLimit=5\n{THREE}")), Exit(2, "myid file is missing")),
        ("myid not among servers", member("").with("/data/myid", "9"), Exit(1, "My id 9 not in the peer list")),
        (
            "enforce.auth without schemes",
            standalone("enforce.auth.enabled=true"),
            Exit(2, "zookeeper.enforce.auth.enabled is true zookeeper.enforce.auth.schemes must be  configured."),
        ),
        (
            "enforce.auth unknown scheme",
            standalone("enforce.auth.enabled=true\nenforce.auth.schemes=digest,foo"),
            Exit(2, "Authentication scheme foo is not available."),
        ),
    ]
}

#[test]
fn every_recorded_configuration_ends_as_in_the_original() {
    let cases = recorded();
    assert_eq!(cases.len(), 41);
    for (name, files, outcome) in cases {
        match (files.load(), outcome) {
            (Ok(_), Running) => {}
            (Err(error), Exit(code, words)) => {
                assert_eq!(error.exit_code().number(), code, "{name}: {error}");
                assert!(error.fault().problem.contains(words), "{name}: {error}");
                assert!(!error.fault().remedy.is_empty(), "{name}: {error}");
                assert!(!matches!(error, ConfigError::Unsupported(_)), "{name}: {error}");
            }
            (Ok((config, _)), Exit(..)) => panic!("{name}: accepted as {config:?}"),
            (Err(error), Running) => panic!("{name}: {error}"),
        }
    }
}
