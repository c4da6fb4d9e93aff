//! Whole configurations, compared in full or by what they are refused for. Those whose outcome was recorded from the
//! original are in `recorded`.

mod kerberos;
mod recorded;
mod sasl;
mod tls;

use rookeeper_proto::{ServerId, TtlEncoding, Zxid};
use rookeeper_replica::Staleness;
use rookeeper_tree::DigestAlgorithm;
use rookeeper_zab::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use super::keys::Status;
use super::*;

/// Files of a test, by path; nothing else exists.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, String>);

impl Files {
    fn with(mut self, path: &str, text: &str) -> Files {
        self.0.insert(PathBuf::from(path), text.to_owned());
        self
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn load(&self) -> Result<(Config, Vec<Notice>), ConfigError> {
        self.load_in(&environment(&[]))
    }

    fn load_in(&self, environment: &Environment) -> Result<(Config, Vec<Notice>), ConfigError> {
        Config::load_with(Source::File(PathBuf::from("zoo.cfg")), environment, &|path| self.read(path))
    }

    /// Without the question whether this version can do it.
    fn read_only(&self) -> Result<(Config, Settings), ConfigError> {
        Config::read(Source::File(PathBuf::from("zoo.cfg")), &environment(&[]), &|path| self.read(path))
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        home: Some(PathBuf::from("/home/zoe")),
        user_id: 1000,
        system_data_dir_writable: false,
    }
}

fn zoo_cfg(text: &str) -> Files {
    Files::default().with("zoo.cfg", text)
}

/// A sound standalone configuration, and more lines behind it.
fn standalone(more: &str) -> Files {
    zoo_cfg(&format!("tickTime=2000\ndataDir=/data\nclientPort=33300\nclientPortAddress=127.0.0.1\n{more}"))
}

const THREE: &str = "server.1=127.0.0.1:33311:33321\nserver.2=127.0.0.1:33312:33322\nserver.3=127.0.0.1:33313:33323\n";

/// A sound configuration of the first of three members, and more lines behind it.
fn member(more: &str) -> Files {
    standalone(&format!("initLimit=10\nsyncLimit=5\n{THREE}{more}")).with("/data/myid", "1\n")
}

fn texts(notices: &[Notice]) -> Vec<&str> {
    notices.iter().map(|notice| notice.text.as_str()).collect()
}

#[test]
fn a_single_server_line_runs_standalone_and_says_so() {
    let (config, notices) = standalone("server.1=127.0.0.1:33311:33321").load().unwrap();
    assert_eq!(config.ensemble, None);
    assert!(texts(&notices).contains(&"only one server line is given; the server runs standalone"), "{notices:?}");
}

#[test]
fn an_error_names_the_place_the_setting_and_the_remedy() {
    assert_eq!(
        standalone("clientPort=x").load().unwrap_err().to_string(),
        "invalid configuration: zoo.cfg:5: clientPort=x: For input string: \"x\"\n  Allowed: a whole number from 0 to 65535."
    );
    assert_eq!(
        member("").with("/data/myid", "9").load().unwrap_err().to_string(),
        "invalid configuration: /data/myid: My id 9 not in the peer list\n  \
         The server lines name 1, 2, 3; write one of these into myid, or add a line."
    );
}

#[test]
fn without_any_configuration_a_server_can_start() {
    let (config, notices) =
        Config::load_with(Source::Defaults, &environment(&[]), &|_| Err(io::ErrorKind::NotFound.into())).unwrap();
    let expected = Config {
        source: Source::Defaults,
        client: ClientPort {
            host: None,
            port: Some(2181),
            backlog: None,
            backlog_as_written: -1,
            tcp_keep_alive: false,
            sessionless_connection_timeout_ms: 10_000,
        },
        client_tls: None,
        quorum_tls: None,
        sessions: Sessions { tick_time_ms: 3000, min_timeout_ms: 6000, max_timeout_ms: 60_000 },
        directories: DataDirectories {
            data_dir: PathBuf::from("/home/zoe/.local/share/rookeeper"),
            data_log_dir: PathBuf::from("/home/zoe/.local/share/rookeeper"),
            choice: DataDirectoryChoice::Home,
            create_directories: true,
            create_database: true,
        },
        log: TransactionLog {
            size_limit_kib: None,
            pre_alloc_size_kib: 65_536,
            force_sync: true,
            fsync_warning_threshold_ms: 1000,
            flush_delay_ms: 0,
            max_batch_size: Some(1000),
        },
        snapshots: Snapshots {
            snap_count: 100_000,
            snap_size_limit_kib: Some(4_194_304),
            compression: SnapshotCompression::Plain,
            trust_empty: false,
            trust_partial: true,
        },
        formats: Formats {
            digest_enabled: true,
            on_digest_mismatch: OnMismatch::Log,
            extended_types_enabled: false,
            ttl_encoding: TtlEncoding::Current,
        },
        purge: Purge { interval_hours: 1, snap_retain_count: 3, min_age_hours: 0 },
        connections: Connections {
            max_per_address: Some(60),
            max_per_address_as_written: 60,
            max_total: None,
            memory_limit_bytes: None,
            throttle: ConnectionThrottle {
                freeze_time_ms: None,
                drop_increase: 0.02,
                drop_decrease: 0.002,
                decrease_ratio: 0.0,
                tokens: None,
                fill_time_ms: 1,
                fill_count: 1,
                weight_enabled: false,
                global_session_weight: 3,
                renew_session_weight: 2,
                local_session_weight: 1,
            },
        },
        room: Room { min_free_bytes: None, memory_bytes: None },
        requests: Requests {
            jute_max_buffer: 1_048_575,
            extra_size: 1_048_575,
            global_outstanding_limit: 1000,
            large_threshold_bytes: None,
            large_max_bytes: 100 << 20,
            throttle: None,
            staleness: Staleness::default(),
            throttle_stop_timeout_ms: 10_000,
        },
        containers: Containers { check_interval_ms: 60_000, max_per_minute: 10_000, max_never_used_interval_ms: None },
        access: Access {
            digest_enabled: true,
            digest_algorithm: DigestAlgorithm::Sha1,
            super_digest: None,
            enforced_schemes: None,
            ensemble_names: None,
            x509_enabled: false,
            x509_super_user: None,
            skip_acl: false,
            enable_eager_acl_check: false,
            enforce_quota: false,
            sasl: Sasl::default(),
        },
        four_letter_words: FourLetterWords::Only(BTreeSet::from(["srvr".to_owned()])),
        metrics: None,
        slow_operations: SlowOperations { read_ms: Some(200), write_ms: Some(1000) },
        path_statistics: PathStatistics {
            is_counted: true,
            is_told: false,
            initial_delay: Duration::from_secs(300),
            delay: Duration::from_secs(300),
            paths: 20,
            prefix_depth: 6,
        },
        admin: Some(admin_port()),
        shown: Shown::default(),
        audit: None,
        reconfig_enabled: false,
        registry: None,
        ensemble: None,
    };
    assert_eq!(config, expected);
    assert_eq!(notices, []);
}

#[test]
fn settings_reach_the_fields_they_are_about() {
    let (config, notices) = standalone(
        "dataLogDir=/datalog\nmaxClientCnxns=0\nmaxCnxns=500\nminSessionTimeout=1000\nmaxSessionTimeout=90000\n\
         clientPortListenBacklog=128\nsnapCount=10\nsnapSizeLimitInKb=-1\ntxnLogSizeLimitInKb=2048\npreAllocSize=64\n\
         forceSync=no\nflushDelay=30\nmaxBatchSize=0\nsnapshot.compression.method=gz\nsnapshot.trust.empty=true\n\
         snapshot.trust.partial=false\ndigest.onMismatch=stop\n\
         autopurge.purgeInterval=24\nautopurge.snapRetainCount=5\nautopurge.minAgeHours=48\nskipACL=yes\n\
         enforceQuota=true\n4lw.commands.whitelist=stat, ruok ,mntr\nDigestAuthenticationProvider.digestAlg=sha3-256\n\
         snapRetainCount=9\n",
    )
    .load()
    .unwrap();
    assert_eq!(config.client.host.as_deref(), Some("127.0.0.1"));
    assert_eq!((config.client.port, config.client.backlog), (Some(33300), Some(128)));
    assert_eq!(config.sessions, Sessions { tick_time_ms: 2000, min_timeout_ms: 1000, max_timeout_ms: 90_000 });
    assert_eq!(config.directories.snapshot_dir(), Path::new("/data/version-2"));
    assert_eq!(config.directories.log_dir(), Path::new("/datalog/version-2"));
    assert_eq!((config.connections.max_per_address, config.connections.max_total), (None, Some(500)));
    let log = TransactionLog {
        size_limit_kib: Some(2048),
        pre_alloc_size_kib: 64,
        force_sync: false,
        fsync_warning_threshold_ms: 1000,
        flush_delay_ms: 30,
        max_batch_size: None,
    };
    assert_eq!(config.log, log);
    let snapshots = Snapshots {
        snap_count: 10,
        snap_size_limit_kib: None,
        compression: SnapshotCompression::Gzip,
        trust_empty: true,
        trust_partial: false,
    };
    assert_eq!(config.snapshots, snapshots);
    assert_eq!(config.formats.on_digest_mismatch, OnMismatch::Stop);
    assert_eq!(config.purge, Purge { interval_hours: 24, snap_retain_count: 5, min_age_hours: 48 });
    assert!(config.access.skip_acl && config.access.enforce_quota);
    assert_eq!(config.access.digest_algorithm, DigestAlgorithm::Sha3_256);
    let allowed: Vec<_> =
        FourLetterWords::KNOWN.into_iter().filter(|word| config.four_letter_words.allows(word)).collect();
    assert_eq!(allowed, ["mntr", "ruok", "srvr", "stat"]);
    assert_eq!(
        texts(&notices),
        ["zoo.cfg:29: unknown key snapRetainCount is ignored; did you mean autopurge.snapRetainCount?"]
    );
}

#[test]
fn purging_is_on_unless_switched_off() {
    let interval = |more: &str| standalone(more).load().unwrap().0.purge.interval_hours;
    assert_eq!(interval(""), 1);
    assert_eq!(interval("autopurge.purgeInterval=0"), 0);
    assert_eq!(interval("autopurge.purgeInterval=-1"), 0);
    let notices = standalone("").load().unwrap().1;
    assert_eq!(
        texts(&notices),
        [
            "old snapshots and logs are deleted every 1 h, the newest 3 snapshots are kept; autopurge.purgeInterval=0 keeps all"
        ]
    );
    let (config, notices) = standalone("autopurge.purgeInterval=1\nautopurge.snapRetainCount=1").load().unwrap();
    assert_eq!(config.purge.snap_retain_count, 3);
    assert_eq!(texts(&notices), ["Invalid autopurge.snapRetainCount: 1. Defaulting to 3"]);
}

#[test]
fn flags_add_to_the_file_and_yield_to_it() {
    let environment = environment(&[
        ("SERVER_JVMFLAGS", "-Xmx4g -Djute.maxbuffer=4194304 -Dzookeeper.snapCount=5"),
        ("JVMFLAGS", "-Dzookeeper.4lw.commands.whitelist='*' -Dreadonlymode.enabled=true"),
    ]);
    let (config, _) = member("snapCount=7").load_in(&environment).unwrap();
    assert_eq!(config.requests.jute_max_buffer, 4_194_304);
    assert_eq!(config.snapshots.snap_count, 7);
    assert_eq!(config.four_letter_words, FourLetterWords::All);
    assert!(config.ensemble.unwrap().settings.read_only_mode);
}

#[test]
fn a_request_must_fit_a_record_of_the_log() {
    let (config, _) = standalone("jute.maxbuffer=0x10000000").load().unwrap();
    assert_eq!(config.requests.jute_max_buffer, 256 << 20);
    let (config, notices) = standalone("jute.maxbuffer=0x10000001").load().unwrap();
    assert_eq!(config.requests.jute_max_buffer, 1_048_575);
    assert!(notices.iter().any(|notice| notice.level == Level::Warn && notice.text.contains("jute.maxbuffer")));
}

#[test]
fn too_few_transactions_per_snapshot_are_raised() {
    let (config, notices) = standalone("snapCount=-5\nautopurge.purgeInterval=0").load().unwrap();
    assert_eq!(config.snapshots.snap_count, 2);
    assert_eq!(texts(&notices), ["snapCount=-5 is raised to 2"]);
}

#[test]
fn read_only_mode_brings_its_word() {
    let (config, _) = standalone("readonlymode.enabled=true").load().unwrap();
    assert!(config.four_letter_words.allows("isro") && config.four_letter_words.allows("srvr"));
    assert!(!config.four_letter_words.allows("ruok"));
}

#[test]
fn the_positional_form() {
    let load = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let source = Source::from_arguments(&arguments)?;
        Config::load_with(source, &environment(&[]), &|_| Err(io::ErrorKind::NotFound.into()))
    };
    let config = load(&["0", "/data"]).unwrap().0;
    assert_eq!((config.client.port, config.client.host, config.connections.max_per_address), (Some(0), None, None));
    assert_eq!(config.directories.data_dir, Path::new("/data"));
    assert_eq!(config.directories.choice, DataDirectoryChoice::Configured);
    assert_eq!(config.sessions, Sessions { tick_time_ms: 3000, min_timeout_ms: 6000, max_timeout_ms: 60_000 });
    let config = load(&["2181", "/data", "500", "7"]).unwrap().0;
    assert_eq!((config.sessions.tick_time_ms, config.connections.max_per_address), (500, Some(7)));
    let error = load(&["port", "/data"]).unwrap_err();
    assert_eq!(error.to_string().lines().next(), {
        Some("invalid configuration: command line: clientPort=port: For input string: \"port\"")
    });
    assert_eq!(load(&["1", "2", "3", "4", "5"]).unwrap_err().exit_code().number(), 2);
}

#[test]
fn a_file_without_a_client_port_is_refused_unless_a_server_line_has_it() {
    let error = zoo_cfg("dataDir=/data").load().unwrap_err();
    assert_eq!((error.fault().problem.as_str(), error.exit_code().number()), ("clientPort is not set", 2));
    let by_line = zoo_cfg("dataDir=/data\nserver.7=127.0.0.1:1:2;2182").with("/data/myid", "7\n");
    let config = by_line.load().unwrap().0;
    assert_eq!((config.client.port, config.client.host), (Some(2182), None));
}

#[test]
fn a_standalone_server_too_refuses_a_wrong_myid() {
    let error = standalone("").with("/data/myid", "one").load().unwrap_err();
    assert_eq!(error.fault().problem, "serverid one is not a number");
    assert!(standalone("").with("/data/myid", " 3 \r\n").load().is_ok());
}

#[test]
fn what_is_off_or_can_be_done_is_not_refused() {
    // Off, or without the factory that reads it, there is nothing to refuse.
    for more in [
        "client.portUnification=true",
        "sessionRequireClientSASLAuth=false",
        "quorum.auth.enableSasl=true",
        "sslQuorum=true",
    ] {
        standalone(more).load().unwrap();
    }
    for more in ["sslQuorum=false", "quorum.auth.enableSasl=false"] {
        member(more).load().unwrap();
    }
}

#[test]
fn an_oracle_is_asked_where_voices_are_equal() {
    let oracle = |more: &str| {
        let (config, notices) = member(more).load().unwrap();
        let ensemble = config.ensemble.unwrap();
        let warned = texts(&notices).iter().any(|text| text.contains("oraclePath"));
        assert_eq!(ensemble.settings.has_oracle, ensemble.oracle.is_some());
        (ensemble.oracle, warned)
    };
    assert_eq!(oracle(""), (None, false));
    assert_eq!(oracle("oraclePath="), (None, false));
    assert_eq!(oracle("oraclePath=/run/oracle"), (Some("/run/oracle".into()), false));
    assert_eq!(oracle("oraclePath=/run/oracle\ngroup.1=1:2:3"), (None, true));
}

#[test]
fn what_has_no_effect_is_mentioned_once_per_reason() {
    let notices = standalone(
        "autopurge.purgeInterval=1\nadmin.serverPort=8081\nadmin.httpVersion=20\nnio.numWorkerThreads=8\naudit.enable=false\n\
         metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n\
         metricsProvider.httpPort=7000\nmetricsProvider.maxQueueSize=1\n",
    )
    .load()
    .unwrap()
    .1;
    let expected = [
        Notice::info("nio.numWorkerThreads has no effect: it tunes the Java implementation"),
        Notice::info("admin.httpVersion has no effect: HTTP/1.1 is spoken, as by default in Apache ZooKeeper"),
        Notice::info(
            "metricsProvider.maxQueueSize has no effect: metrics are counted as they happen, and told when they are asked for",
        ),
    ];
    let sorted = |mut notices: Vec<Notice>| {
        notices.sort_by(|one, other| one.text.cmp(&other.text));
        notices
    };
    assert_eq!(sorted(notices), sorted(expected.to_vec()));
    let notices = standalone(
        "autopurge.purgeInterval=1\nadmin.enableServer=false\nadmin.serverPort=8081\nmetricsProvider.httpPort=7000\n\
         metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider\n",
    );
    assert_eq!(notices.load().unwrap().1, []);
}

#[test]
fn an_ensemble_is_read_completely() {
    let files = standalone(
        "initLimit=10\nsyncLimit=5\nreconfigEnabled=true\ndynamicConfigFile=/etc/zoo.cfg.dynamic.100000000\npeerType=observer\n\
         leader.maxConcurrentSnapSyncs=3\ncommitLogCount=7\n",
    )
    .with("/etc/zoo.cfg.dynamic.100000000", &format!("{THREE}server.4=127.0.0.1:33314:33324:observer\n"))
    .with("zoo.cfg.dynamic.next", &format!("{THREE}version=200000000\n"))
    .with("/data/myid", "1");
    let (config, notices) = files.load().unwrap();
    let Ensemble { settings: ensemble, role, .. } = config.ensemble.unwrap();
    assert_eq!((ensemble.me, role), (ServerId(1), Role::Participant));
    let committed = &ensemble.memberships.committed;
    assert_eq!(committed.version, Zxid::new(1, 0));
    assert_eq!(committed.members[&ServerId(4)].to_string(), "127.0.0.1:33314:33324:observer");
    assert_eq!(committed.members.len(), 4);
    assert_eq!(ensemble.memberships.last_seen.version, Zxid::new(2, 0));
    assert_eq!((ensemble.init_limit_ticks, ensemble.sync_limit_ticks), (10, 5));
    assert_eq!((ensemble.max_concurrent_snap_syncs, ensemble.commit_log_count), (3, 500));
    assert!(config.reconfig_enabled);
    assert!(texts(&notices).contains(&"zoo.cfg:9: peerType=observer is overridden by the server line: participant"));
}

#[test]
fn a_proposed_membership_counts_where_it_is_newer() {
    for (version, last_seen) in [("4", 5), ("5", 5), ("6", 6)] {
        let files = standalone(
            "initLimit=10\nsyncLimit=5\ndynamicConfigFile=/zoo.cfg.dynamic.5\nfastleader.minNotificationInterval=50\n\
             leader.maxTimeToWaitForEpoch=900\nreadonlymode.enabled=true\n",
        )
        .with("/zoo.cfg.dynamic.5", "server.2=a:1:2\nserver.3=b:1:2\n")
        .with("zoo.cfg.dynamic.next", &format!("server.2=a:1:2\nversion={version}\n"))
        .with("/data/myid", "2");
        let settings = files.load().unwrap().0.ensemble.unwrap().settings;
        assert_eq!(settings.memberships.committed.version, Zxid(5));
        assert_eq!(settings.memberships.last_seen.version, Zxid(last_seen));
        assert_eq!((settings.me, settings.notification_interval_ms), (ServerId(2), (50, 60_000)));
        assert_eq!((settings.max_time_to_wait_for_epoch_ms, settings.read_only_mode), (Some(900), true));
    }
}

#[test]
fn a_member_may_have_no_client_port_but_none_that_is_another_of_its_ports() {
    let members = format!("dataDir=/data\ninitLimit=10\nsyncLimit=5\n{THREE}");
    let files = |more: &str| zoo_cfg(&format!("{members}{more}")).with("/data/myid", "1");
    let (config, notices) = files("").load().unwrap();
    assert_eq!((config.client.port, config.client.host), (None, None));
    let warned = texts(&notices).iter().any(|text| text.contains("clients cannot connect to this member"));
    assert!(warned, "{notices:?}");
    for (more, port) in [
        ("clientPort=33311", Some("quorum")),
        ("clientPort=33321", Some("election")),
        ("clientPort=33311\nclientPortAddress=127.0.0.1", Some("quorum")),
        ("clientPort=33311\nclientPortAddress=127.0.0.2", None),
        ("clientPort=33311\nclientPortAddress=127.0.0.2\nquorumListenOnAllIPs=true", Some("quorum")),
        // Of another member, which may be another machine.
        ("clientPort=33312", None),
        ("clientPort=0", None),
    ] {
        let problem = files(more).load().err().map(|error| (error.exit_code().number(), error.to_string()));
        match port {
            None => assert_eq!(problem, None, "{more}"),
            Some(port) => {
                let (code, problem) = problem.unwrap_or_else(|| panic!("{more} is taken"));
                assert_eq!(code, 2);
                assert!(problem.contains(&format!("is the {port} port of server.1 as well")), "{problem}");
            }
        }
    }
}

#[test]
fn limits_of_an_ensemble_may_be_negative_where_there_is_none() {
    let negative = "initLimit=-1\nsyncLimit=-1\nconnectToLearnerMasterLimit=-1";
    let (config, _) = standalone(negative).load().unwrap();
    assert_eq!(config.ensemble, None);
    for key in ["initLimit", "syncLimit"] {
        let error = member(&format!("{key}=-1")).load().unwrap_err();
        assert_eq!(error.exit_code().number(), 2);
        assert!(error.to_string().contains(&format!("{key}=-1: out of range")), "{error}");
    }
    let (config, _) = member("connectToLearnerMasterLimit=-1").load().unwrap();
    assert_eq!(config.ensemble.unwrap().settings.connect_limit_ticks, None);
}

#[test]
fn an_empty_directory_of_the_log_is_refused() {
    let error = standalone("dataLogDir=").load().unwrap_err();
    assert_eq!(error.exit_code().number(), 2);
    assert!(error.to_string().contains("zoo.cfg:5: dataLogDir=: dataLogDir is empty"), "{error}");
}

#[test]
fn conf_shows_limits_as_they_are_written() {
    let (config, _) = standalone("maxClientCnxns=-1\nclientPortListenBacklog=-5").load().unwrap();
    assert_eq!((config.connections.max_per_address, config.client.backlog), (None, None));
    let facts = ConfFacts {
        membership: None,
        client_port: 33300,
        secure_client_port: None,
        data_dir_size: 0,
        data_log_size: 0,
    };
    let conf = config.conf(facts);
    assert!(conf.contains("\nmaxClientCnxns=-1\n") && conf.contains("\nclientPortListenBacklog=-5\n"), "{conf}");
}

#[test]
fn an_ensemble_needs_voters() {
    let problem = |files: Files| files.load().unwrap_err().to_string();
    let weightless = problem(member("group.1=1:2:3\nweight.1=0\nweight.2=0\nweight.3=0"));
    assert!(weightless.contains("none of the servers has a vote"), "{weightless}");
    let next = standalone("initLimit=10\nsyncLimit=5\ndynamicConfigFile=/etc/zoo.cfg.dynamic\n")
        .with("/etc/zoo.cfg.dynamic", THREE)
        .with("zoo.cfg.dynamic.next", "version=200000000\n")
        .with("/data/myid", "1");
    let next = problem(next);
    assert!(next.contains("zoo.cfg.dynamic.next: none of the servers has a vote"), "{next}");
}

#[test]
fn a_port_for_observers_is_one_that_can_be_opened_or_none() {
    for (line, port) in [("observerMasterPort=2191", Some(2191)), ("observerMasterPort=0", None), ("", None)] {
        let (config, notices) = member(line).load().unwrap();
        let settings = config.ensemble.unwrap().settings;
        assert_eq!((settings.observer_master_port, settings.observer_master_size_limit_bytes), (port, 32 << 20));
        assert!(!texts(&notices).iter().any(|text| text.contains("observerMaster")), "{notices:?}");
    }
    let lines = "observerMasterPort=-1\nobserverMaster.sizeLimit=1000\nobserver.reconnectDelayMs=700\nobserver.election.DelayMs=800";
    let (config, notices) = member(lines).load().unwrap();
    assert!(!texts(&notices).iter().any(|text| text.contains("observer.")), "{notices:?}");
    let settings = config.ensemble.unwrap().settings;
    assert_eq!((settings.observer_reconnect_delay_ms, settings.observer_election_delay_ms), (700, 800));
    assert_eq!((settings.observer_master_port, settings.observer_master_size_limit_bytes), (None, 1000));
}

#[test]
fn a_port_for_observers_that_anybody_reaches_is_told_with_those_for_servers() {
    let told = |line: &str| {
        let (config, _) =
            member(&format!("server.1=0.0.0.0:2888:3888\nserver.2=zoo2:2888:3888\nserver.3=zoo3:2888:3888\n{line}"))
                .load()
                .unwrap();
        config.exposure().into_iter().find(|line| line.starts_with("servers need not show who they are")).unwrap()
    };
    assert!(told("").contains("the ports 2888 and 3888 are open"));
    assert!(told("observerMasterPort=2191").contains("the ports 2888, 3888 and 2191 (observerMasterPort) are open"));
}

#[test]
fn every_key_marked_as_used_is_used_and_no_other() {
    let more = "enforce.auth.enabled=true\nenforce.auth.schemes=ip\naudit.enable=true\n\
                authProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider\n\
                java.security.auth.login.config=/etc/jaas.conf\nquorum.auth.enableSasl=true\nsslQuorum=true\nmessageTracker.Enabled=true";
    let files = member(&format!("{more}\n{PROMETHEUS}{}{}", tls::TLS, tls::QUORUM_TLS))
        .with("/etc/jaas.conf", &kerberos::jaas());
    let (_, settings) = files.read_only().unwrap();
    let asked = settings.asked();
    for key in table::KEYS {
        let used = matches!(key.status, Status::Used | Status::Ensemble | Status::Refused(_));
        assert_eq!(asked.contains(key.name), used, "{}", key.name);
    }
}

const PROMETHEUS: &str =
    "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n";

#[test]
fn metrics_have_a_port_where_the_provider_is_that_for_prometheus() {
    let metrics = |text: &str| standalone(text).load().unwrap().0.metrics;
    assert_eq!(metrics("metricsProvider.httpPort=7001"), None);
    assert_eq!(metrics(PROMETHEUS), Some(MetricsPort { host: None, port: 7000, tells_process: true }));
    let more = "metricsProvider.httpHost=localhost\nmetricsProvider.httpPort=0\nmetricsProvider.exportJvmInfo=false\n";
    let host = Some("localhost".to_owned());
    assert_eq!(metrics(&format!("{PROMETHEUS}{more}")), Some(MetricsPort { host, port: 0, tells_process: false }));
}

/// Without a word in the configuration.
fn admin_port() -> AdminPort {
    AdminPort {
        host: Some("127.0.0.1".to_owned()),
        port: 8080,
        command_path: "/commands".to_owned(),
        silence_limit: Some(Duration::from_secs(30)),
        tls: None,
        takes_snapshots: true,
        restores: true,
        rate_limit_ms: 300_000,
        trusts_forwarded_for: false,
    }
}

#[test]
fn admin_commands_have_a_port_on_this_machine_unless_the_configuration_says_otherwise() {
    let admin = |text: &str| standalone(text).load().unwrap().0.admin;
    let default = admin_port();
    assert_eq!(admin(""), Some(default.clone()));
    assert!(!default.is_reached_from_elsewhere());
    assert_eq!(admin("admin.enableServer=false"), None);
    let told = |text: &str| {
        let lines = standalone(text).load().unwrap().0.exposure();
        lines.iter().any(|line| line.starts_with("the admin port 8080 is open beyond this machine"))
    };
    assert!(
        told("admin.serverAddress=0.0.0.0")
            && !told("")
            && !told("admin.serverAddress=0.0.0.0\nadmin.enableServer=false")
    );
    for (everywhere, host) in [("0.0.0.0", None), ("[::]", None), ("", None), ("zoo1", Some("zoo1".to_owned()))] {
        let found = admin(&format!("admin.serverAddress={everywhere}\n")).unwrap();
        assert!(found.host == host && found.is_reached_from_elsewhere(), "{everywhere}: {found:?}");
    }
    let more = "admin.serverPort=0\nadmin.commandURL=/\nadmin.idleTimeout=0\nadmin.snapshot.enabled=false\n\
                admin.restore.enabled=false\n                admin.rateLimiterIntervalInMS=5\nIPAuthenticationProvider.usexforwardedfor=true\n";
    let expected = AdminPort {
        port: 0,
        command_path: String::new(),
        silence_limit: None,
        takes_snapshots: false,
        restores: false,
        rate_limit_ms: 5,
        trusts_forwarded_for: true,
        ..default
    };
    assert_eq!(admin(more), Some(expected));
}

#[test]
fn the_admin_port_speaks_tls_with_the_stores_of_members_where_that_is_asked_for() {
    let with_stores = |text: &str| standalone(&format!("{}{text}", tls::QUORUM_TLS)).load().unwrap().0.admin.unwrap();
    assert!(with_stores("admin.needClientAuth=true").tls.is_none());
    for (text, takes_plain, needs) in [
        ("admin.forceHttps=true", false, false),
        ("admin.portUnification=true", true, false),
        ("admin.forceHttps=true\nadmin.portUnification=true\nadmin.needClientAuth=true", false, true),
    ] {
        let admin = with_stores(text);
        let found = admin.tls.clone().unwrap();
        assert_eq!((found.takes_plain, found.tls.client_auth == ClientAuth::Need), (takes_plain, needs), "{text}");
        assert!(!found.tls.verifies_clients, "{text}");
        assert_eq!(admin.keeps_strangers_out(), needs, "{text}");
    }
    let refused = standalone("admin.forceHttps=true\n").load().unwrap_err().to_string();
    assert!(refused.contains("admin.forceHttps=true") && refused.contains("ssl.quorum.keyStore.location"), "{refused}");
}

#[test]
fn the_audit_log_is_as_it_is_asked_for_and_nothing_is_asked_of_one_that_is_off() {
    let audit = |text: &str| standalone(text).load().map(|(config, _)| config.audit);
    let default =
        AuditLog { file: None, format: AuditFormat::Text, file_size_limit_bytes: 10 << 20, file_retain_count: 10 };
    assert_eq!(audit("audit.enable=false\naudit.impl.class=com.example.Mine\naudit.format=xml").unwrap(), None);
    assert_eq!(audit("audit.enable=true").unwrap(), Some(default.clone()));
    for class in ["Slf4jAuditLogger", "Log4jAuditLogger"] {
        let class = format!("audit.enable=true\naudit.impl.class=org.apache.zookeeper.audit.{class}");
        assert_eq!(audit(&class).unwrap(), Some(default.clone()));
    }
    let all = "audit.enable=true\naudit.file=/var/log/audit\naudit.format=JSON\naudit.fileSizeLimitInKb=5\naudit.fileRetainCount=0";
    let expected = AuditLog {
        file: Some("/var/log/audit".into()),
        format: AuditFormat::Json,
        file_size_limit_bytes: 5 << 10,
        file_retain_count: 0,
    };
    assert_eq!(audit(all).unwrap(), Some(expected));
    for (line, part) in [
        ("audit.impl.class=com.example.Mine", "audit.impl.class=com.example.Mine"),
        ("audit.format=xml", "text or json"),
    ] {
        let error = audit(&format!("audit.enable=true\n{line}")).unwrap_err();
        assert_eq!(error.exit_code().number(), 2);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn conf_is_written_as_recorded() {
    let files = zoo_cfg("tickTime=2000\ndataDir=/var/lib/zookeeper\nclientPort=33000\n");
    let config = files.load().unwrap().0;
    let facts = ConfFacts {
        membership: None,
        client_port: 33000,
        secure_client_port: None,
        data_dir_size: 67_109_358,
        data_log_size: 67_109_358,
    };
    assert_eq!(
        config.conf(facts),
        "clientPort=33000\nsecureClientPort=-1\ndataDir=/var/lib/zookeeper/version-2\ndataDirSize=67109358\n\
         dataLogDir=/var/lib/zookeeper/version-2\ndataLogSize=67109358\ntickTime=2000\nmaxClientCnxns=60\n\
         minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=0\n"
    );
}

#[test]
fn real_files_are_read_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zoo.cfg");
    std::fs::write(&path, format!("dataDir={}\nclientPort=0\n", directory.path().display())).unwrap();
    let (config, _) = Config::load(Source::File(path.clone()), &environment(&[])).unwrap();
    assert_eq!(config.directories.data_dir, directory.path());
    std::fs::write(&path, vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
    let error = Config::load(Source::File(path), &environment(&[])).unwrap_err();
    assert!(error.fault().problem.contains("larger than 1048576 bytes"), "{error}");
    let error = Config::load(Source::File(directory.path().to_owned()), &environment(&[])).unwrap_err();
    assert!(error.fault().problem.contains("cannot be read"), "{error}");
}

#[test]
fn a_file_full_of_nonsense_does_not_fill_the_log() {
    let nonsense: String = (0..5000).map(|number| format!("\u{7}key{number}=1\n")).collect();
    let notices = standalone(&nonsense).load().unwrap().1;
    assert_eq!(notices.len(), 501);
    assert!(notices.iter().all(|notice| !notice.text.contains('\u{7}') && notice.text.len() < 300));
}

/// A number that is allowed must be one that a server can live with; 0 panicked once where it was.
#[test]
fn each_key_takes_or_refuses_the_numbers_at_its_ends() {
    for key in table::KEYS {
        for number in ["0", "1", "-1", "2147483647", "-2147483648", "2147483648", "9223372036854775807"] {
            // It must return; what it says of each number is for the tests of the key.
            let _ = standalone(&format!("{}={number}\n", key.name)).load();
            let _ = member(&format!("{}={number}\n", key.name)).load();
        }
    }
    assert_eq!(standalone("globalOutstandingLimit=0\n").load().unwrap().0.requests.global_outstanding_limit, 0);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_configuration_or_refused(bytes: Vec<u8>) {
        let read = |_: &Path| Ok(bytes.clone());
        let _ = Config::load_with(Source::File(PathBuf::from("zoo.cfg")), &environment(&[]), &read);
    }

    #[test]
    fn any_values_of_known_keys_are_accepted_or_refused(
        lines in proptest::collection::vec((0..table::KEYS.len(), "-?[0-9]{0,19}|true|[ -~]{0,20}", "[0-9]{0,3}"), 0..30),
        flags in "\\PC{0,100}",
    ) {
        let lines = lines.into_iter().map(|(index, value, ending)| {
            format!("{}={value}\n", table::KEYS[index].name.replace('*', &ending))
        });
        let text: String = std::iter::once("dataDir=/data\nclientPort=1\n".to_owned()).chain(lines).collect();
        let files = zoo_cfg(&text);
        if let Ok((config, _)) = files.load_in(&environment(&[("JVMFLAGS", &flags)])) {
            proptest::prop_assert!(config.sessions.min_timeout_ms <= config.sessions.max_timeout_ms);
            proptest::prop_assert!(config.purge.snap_retain_count >= 3 && config.snapshots.snap_count >= 2);
        }
    }
}

#[test]
fn what_would_begin_an_empty_database_is_refused_with_what_is_meant() {
    for (line, meant) in [
        (
            "dataDir=\"/srv/zk\"",
            "zoo.cfg:1: dataDir=\"/srv/zk\": the quotes are a part of the name\n  Write /srv/zk without",
        ),
        ("dataDir='/srv/zk'", "Write /srv/zk without"),
        ("dataDir=~/zk", "zoo.cfg:1: dataDir=~/zk: ~ means nothing in this file"),
        ("dataDir=/srv/zk/version-2", "Write /srv/zk/, or /srv/zk/version-2/. if one below the other"),
        ("dataDir=/srv/zk\ndataLogDir=/log/version-2/", "zoo.cfg:2: dataLogDir=/log/version-2/: version-2 is what"),
        (
            "datadir=/srv/zk",
            "zoo.cfg:1: datadir=/srv/zk: dataDir is not set\n  Keys are case-sensitive: write dataDir=.",
        ),
        ("\u{feff}dataDir=/srv/zk", "zoo.cfg:1: the file begins with a byte order mark"),
    ] {
        let text = format!("{line}\nclientPort=2181\n");
        let read = |path: &std::path::Path| match path == std::path::Path::new("zoo.cfg") {
            true => Ok(text.clone().into_bytes()),
            false => Err(std::io::ErrorKind::NotFound.into()),
        };
        let source = Source::File("zoo.cfg".into());
        let refusal = Config::load_with(source, &Environment::default(), &read).unwrap_err().to_string();
        assert!(refusal.contains(meant), "{line}: {refusal}");
    }
    for line in ["dataDir=/srv/zk\r", "dataDir=./~/zk", "dataDir=/srv/my-version-2"] {
        let text = format!("{line}\nclientPort=2181\n");
        let read = |path: &std::path::Path| match path == std::path::Path::new("zoo.cfg") {
            true => Ok(text.clone().into_bytes()),
            false => Err(std::io::ErrorKind::NotFound.into()),
        };
        Config::load_with(Source::File("zoo.cfg".into()), &Environment::default(), &read).expect(line);
    }
}

#[test]
fn members_that_share_an_address_are_refused_or_warned_of() {
    let shared = |third: &str| {
        let more =
            format!("initLimit=10\nsyncLimit=5\nserver.1=zoo:2888:3888\nserver.2=zoo:2888:3888\nserver.3={third}");
        standalone(&more).with("/data/myid", "1\n").load()
    };
    let refused = shared("zoo:2888:3888").unwrap_err();
    assert_eq!(refused.exit_code().number(), 2);
    assert!(refused.to_string().contains("server.1, server.2, server.3 have the same address, zoo:2888"), "{refused}");
    let (_, notices) = shared("other:2888:3888").unwrap();
    assert!(
        texts(&notices).iter().any(|text| text.contains("server.1, server.2 have the same address")),
        "{notices:?}"
    );
}

#[test]
fn a_registry_has_the_keys_of_its_command_behind_a_prefix() {
    let of = |more: &str| standalone(more).load();
    let registry = |more: &str| of(more).unwrap().0.registry;
    assert_eq!(registry(""), None);
    assert_eq!(registry("registry.eureka.server.disable-delta=true\n"), None, "without a port there is no registry");
    let lines = "registry.port=8762\nregistry.server.address=127.0.0.1\nregistry.spring.security.user.name=me\n\
                 registry.spring.security.user.password=secret\n";
    let given = registry(lines).unwrap();
    assert_eq!((given.port, given.host.as_deref(), given.asks_for_credentials()), (8762, Some("127.0.0.1"), true));
    assert!(!format!("{:?}", of(lines).unwrap().0.shown).contains("secret"));
    let wrong =
        of("registry.port=8762\nregistry.eureka.server.renewal-percent-threshold=85\n").unwrap_err().to_string();
    assert!(wrong.contains("renewal-percent-threshold"), "{wrong}");
    let (_, notices) = of("registry.port=8762\nregistry.eureka.server.nonsense=1\n").unwrap();
    assert!(notices.iter().any(|notice| notice.text.contains("eureka.server.nonsense is not known")), "{notices:?}");
}
