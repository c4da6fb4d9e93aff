//! The list of all configuration keys: name, range, default and what this server does with each. See `keys` for what the
//! columns mean. Keys of one topic stand together, because the documentation is made from this list.

use super::keys::Kind::{OnlyWith, Ratio, Secret, Switch, Text, UnlessWord};
use super::keys::Status::{Ensemble, NoEffect, Refused, Used};
use super::keys::{Key, Kind, Spelling, Status};

const JAVA: Status = NoEffect("it tunes the Java implementation");
const WATCHES: Status = NoEffect("there is one watch table, which cleans up after itself");
const KERBEROS_LOGINS: Status = NoEffect("tickets are asked for anew whenever they are needed and expire");
const OBSERVER_LOG: Status = NoEffect("an observer always keeps log and snapshots");
const ALL_ADDRESSES: Status = NoEffect("all addresses are tried, each a little after the one before it");
const HTTP_VERSION: Status = NoEffect("HTTP/1.1 is spoken, as by default in Apache ZooKeeper");
const METRICS: Status = NoEffect("metrics are counted as they happen, and told when they are asked for");
const PATH_SLOTS: Status = NoEffect("paths are counted in minutes, of which the last whole one is told");
const PATH_SAMPLES: Status =
    NoEffect("the fewer requests are looked at the more there are, and each stands for the others");
const CLIENT: Status = NoEffect("only clients read it");
const LOGGING: Status = NoEffect("the log goes to standard error; its level is set with ROOKEEPER_LOG");
const TEST: Status = NoEffect("it is a hook for tests");
const OBSOLETE: Status = NoEffect("nothing reads it");

/// Headings of the documentation, each with the first key under it.
pub(super) const TOPICS: &[(&str, &str)] = &[
    ("Client port and sessions", "clientPort"),
    ("Data directories, log and snapshots", "dataDir"),
    ("Limits", "maxClientCnxns"),
    ("Throttling", "request_throttle_max_requests"),
    ("Access", "DigestAuthenticationProvider.enabled"),
    ("Administration", "4lw.commands.whitelist"),
    ("Service registry (only here, not in Apache ZooKeeper)", "registry.port"),
    ("Ensemble", "server.*"),
    ("TLS and SASL", "secureClientPort"),
    ("Java implementation, clients, tests, obsolete", "nio.numSelectorThreads"),
];

/// Documented names that the original does not read, and the names it does.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("connectionMaxTokens", "connection_throttle_tokens"),
    ("connectionTokenFillTime", "connection_throttle_fill_time"),
    ("connectionTokenFillCount", "connection_throttle_fill_count"),
    ("connectionFreezeTime", "connection_throttle_freeze_time"),
    ("connectionDropIncrease", "connection_throttle_drop_increase"),
    ("connectionDropDecrease", "connection_throttle_drop_decrease"),
    ("connectionDecreaseRatio", "connection_throttle_decrease_ratio"),
    ("requestThrottleLimit", "request_throttle_max_requests"),
    ("requestThrottleStallTime", "request_throttle_stall_time"),
    ("requestThrottleDropStale", "request_throttle_drop_stale"),
    ("requestStaleLatencyCheck", "request_stale_latency_check"),
    ("requestStaleConnectionCheck", "request_stale_connection_check"),
    ("throttledOpWaitTime", "throttled_op_wait_time"),
    ("advancedFlowControlEnabled", "netty.advancedFlowControl.enabled"),
    ("outstandingHandshake.limit", "netty.server.outstandingHandshake.limit"),
    ("maxConcurrentSnapSyncs", "leader.maxConcurrentSnapSyncs"),
    ("maxConcurrentDiffSyncs", "leader.maxConcurrentDiffSyncs"),
    ("maxTimeToWaitForEpoch", "leader.maxTimeToWaitForEpoch"),
];

/// A whole number of 32 bits, as most are in the original.
const fn whole(min: i64, unit: &'static str) -> Kind {
    Kind::Number { min, max: i32::MAX as i64, unit }
}

const fn long(min: i64, unit: &'static str) -> Kind {
    Kind::Number { min, max: i64::MAX, unit }
}

/// Any whole number of 32 bits; negative ones usually switch something off.
const fn signed(unit: &'static str) -> Kind {
    Kind::Number { min: i32::MIN as i64, max: i32::MAX as i64, unit }
}

/// A larger request could become a transaction that is too large for a record of the log.
const REQUEST_BYTES: Kind = Kind::Number { min: 1, max: 256 << 20, unit: "bytes" };

const PORT: Kind = Kind::Number { min: 0, max: 65535, unit: "" };
const FRACTION: Kind = Ratio { min: 0.0, max: 1.0 };
const PATH: Kind = Text("a path");
const HOST: Kind = Text("a host name or address");
const CLASS: Kind = Text("a class name");
const STORE_TYPE: Kind = Text("JKS, PKCS12 or PEM");

const fn file(name: &'static str, kind: Kind, default: &'static str, status: Status) -> Key {
    Key { name, spelling: Spelling::File, kind, default, status }
}

const fn prop(name: &'static str, kind: Kind, default: &'static str, status: Status) -> Key {
    Key { name, spelling: Spelling::Property, kind, default, status }
}

const fn bare(name: &'static str, kind: Kind, default: &'static str, status: Status) -> Key {
    Key { name, spelling: Spelling::Bare, kind, default, status }
}

/// All keys.
pub(super) static KEYS: &[Key] = &[
    // Client port and sessions
    file("clientPort", PORT, "", Used),
    file("clientPortAddress", HOST, "all addresses", Used),
    file("clientPortListenBacklog", signed("connections, -1 for the system's default"), "-1", Used),
    file("tickTime", whole(1, "milliseconds"), "3000", Used),
    file("minSessionTimeout", whole(-1, "milliseconds"), "2 ticks", Used),
    file("maxSessionTimeout", whole(-1, "milliseconds"), "20 ticks", Used),
    prop("clientTcpKeepAlive", Switch, "false", Used),
    prop("nio.sessionlessCnxnTimeout", whole(1, "milliseconds"), "10000", Used),
    bare("readonlymode.enabled", Switch, "false", Used),
    prop("serverCnxnFactory", CLASS, "org.apache.zookeeper.server.NIOServerCnxnFactory", Used),
    // Data directories, log and snapshots
    file("dataDir", PATH, "", Used),
    file("dataLogDir", PATH, "dataDir", Used),
    prop("datadir.autocreate", Switch, "true", Used),
    prop("db.autocreate", Switch, "true", Used),
    prop("snapCount", signed("transactions, 2 or more"), "100000", Used),
    prop("snapSizeLimitInKb", long(i64::MIN, "KiB, 0 or less for no limit"), "4194304", Used),
    prop("txnLogSizeLimitInKb", long(i64::MIN, "KiB, 0 or less for no limit"), "-1", Used),
    prop("preAllocSize", long(i64::MIN, "KiB, 0 or less for none"), "65536", Used),
    prop("forceSync", UnlessWord("no"), "yes", Used),
    prop("fsync.warningthresholdms", long(0, "milliseconds"), "1000", Used),
    prop("flushDelay", long(0, "milliseconds"), "0", Used),
    prop(
        "maxWriteQueuePollTime",
        long(0, "milliseconds"),
        "a third of flushDelay",
        NoEffect("the queue is looked at as it fills; flushDelay alone says how long writes are gathered"),
    ),
    prop("maxBatchSize", signed("transactions, 0 or less for no limit"), "1000", Used),
    prop("snapshot.compression.method", Text("gz, snappy or nothing"), "", Used),
    prop("snapshot.trust.empty", Switch, "false", Used),
    prop("snapshot.trust.partial", Switch, "true", Used),
    prop("digest.enabled", Switch, "true", Used),
    prop("digest.onMismatch", Text("log or stop (only here, not in Apache ZooKeeper)"), "log", Used),
    prop(
        "serializeLastProcessedZxid.enabled",
        Switch,
        "true",
        NoEffect("digest.enabled decides on both trailers of a snapshot; the original reads either"),
    ),
    prop(
        "closeSessionTxn.enabled",
        Switch,
        "true",
        NoEffect("the list of paths is always written; every version reads it"),
    ),
    prop("extendedTypesEnabled", Switch, "false", Used),
    prop("emulate353TTLNodes", Switch, "false", Used),
    file("autopurge.snapRetainCount", signed("snapshots, 3 or more"), "3", Used),
    file("autopurge.purgeInterval", signed("hours, 0 or less for never (default in Apache ZooKeeper: 0)"), "1", Used),
    file("autopurge.minAgeHours", whole(0, "hours (only here, not in Apache ZooKeeper)"), "0", Used),
    // Limits
    file("maxClientCnxns", signed("connections, 0 or less for no limit"), "60", Used),
    prop("maxCnxns", signed("connections, 0 or less for no limit"), "0", Used),
    prop("globalOutstandingLimit", whole(0, "requests"), "1000", Used),
    bare("jute.maxbuffer", REQUEST_BYTES, "1048575", Used),
    prop("jute.maxbuffer.extrasize", whole(0, "bytes, 1024 or more"), "jute.maxbuffer", Used),
    prop("largeRequestThreshold", signed("bytes, 0 or less for off"), "-1", Used),
    prop("largeRequestMaxBytes", whole(1, "bytes"), "104857600", Used),
    prop(
        "clientMemoryLimitInKb",
        long(1024, "KiB (only here, not in Apache ZooKeeper)"),
        "a quarter of the memory",
        Used,
    ),
    prop(
        "disk.minFreeInMb",
        long(0, "MiB, 0 for no floor (only here, not in Apache ZooKeeper)"),
        "256, or a twentieth of a smaller disk",
        Used,
    ),
    prop(
        "memory.max",
        long(0, "bytes, 0 for no budget (only here, not in Apache ZooKeeper)"),
        "what the control group allows",
        Used,
    ),
    bare("znode.container.checkIntervalMs", whole(1, "milliseconds"), "60000", Used),
    bare("znode.container.maxPerMinute", whole(1, "deletions"), "10000", Used),
    bare("znode.container.maxNeverUsedIntervalMs", long(0, "milliseconds, 0 for never"), "0", Used),
    // Throttling
    prop("request_throttle_max_requests", signed("requests, 0 or less for off"), "0", Used),
    prop("request_throttle_stall_time", whole(1, "milliseconds"), "100", Used),
    prop("request_throttle_drop_stale", Switch, "true", Used),
    prop("request_stale_latency_check", Switch, "false", Used),
    prop("request_stale_connection_check", Switch, "true", Used),
    prop("request_throttler.shutdownTimeout", whole(0, "milliseconds"), "10000", Used),
    prop("throttled_op_wait_time", signed("milliseconds, 0 or less for off"), "0", Used),
    prop("connection_throttle_tokens", signed("tokens, 0 or less for off"), "0", Used),
    prop("connection_throttle_fill_time", whole(1, "milliseconds"), "1", Used),
    prop("connection_throttle_fill_count", whole(1, "tokens"), "1", Used),
    prop("connection_throttle_freeze_time", signed("milliseconds, less than 0 for off"), "-1", Used),
    prop("connection_throttle_drop_increase", FRACTION, "0.02", Used),
    prop("connection_throttle_drop_decrease", FRACTION, "0.002", Used),
    prop("connection_throttle_decrease_ratio", FRACTION, "0", Used),
    prop("connection_throttle_weight_enabled", Switch, "false", Used),
    prop("connection_throttle_global_session_weight", whole(1, "tokens"), "3", Used),
    prop("connection_throttle_renew_session_weight", whole(1, "tokens"), "2", Used),
    prop("connection_throttle_local_session_weight", whole(1, "tokens"), "1", Used),
    // Access
    prop("DigestAuthenticationProvider.enabled", Switch, "true", Used),
    prop("DigestAuthenticationProvider.superDigest", Secret("super:<base64 of the hash>"), "", Used),
    prop(
        "DigestAuthenticationProvider.digestAlg",
        Text("SHA1, SHA-256, SHA-512, SHA3-256 or another of SHA"),
        "SHA1",
        Used,
    ),
    prop("enforce.auth.enabled", Switch, "false", Used),
    prop("enforce.auth.schemes", Text("schemes, separated by commas"), "", Used),
    prop("ensembleAuthName", Text("names, separated by commas"), "", Used),
    prop("authProvider.*", CLASS, "", Used),
    prop("skipACL", OnlyWith("yes"), "no", Used),
    prop("enableEagerACLCheck", Switch, "false", Used),
    prop("enforceQuota", Switch, "false", Used),
    // Administration
    prop("4lw.commands.whitelist", Text("words, separated by commas, or *"), "srvr", Used),
    file("reconfigEnabled", Switch, "false", Used),
    prop("audit.enable", Switch, "false", Used),
    prop("audit.impl.class", CLASS, "org.apache.zookeeper.audit.Slf4jAuditLogger", Used),
    prop("audit.file", Text("a path (only here, not in Apache ZooKeeper)"), "standard output", Used),
    prop("audit.format", Text("text or json (only here, not in Apache ZooKeeper)"), "text", Used),
    prop("audit.fileSizeLimitInKb", whole(1, "KiB (only here, not in Apache ZooKeeper)"), "10240", Used),
    prop(
        "audit.fileRetainCount",
        Kind::Number { min: 0, max: 1000, unit: "files (only here, not in Apache ZooKeeper)" },
        "10",
        Used,
    ),
    file("metricsProvider.className", CLASS, "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider", Used),
    file("metricsProvider.httpHost", HOST, "0.0.0.0", Used),
    file("metricsProvider.httpPort", PORT, "7000", Used),
    file("metricsProvider.exportJvmInfo", Switch, "true", Used),
    file("metricsProvider.*", Text("depends on the provider"), "", METRICS),
    prop("admin.enableServer", UnlessWord("false"), "true", Used),
    prop("admin.serverAddress", HOST, "127.0.0.1", Used),
    prop("admin.serverPort", PORT, "8080", Used),
    prop("admin.commandURL", PATH, "/commands", Used),
    prop("admin.idleTimeout", whole(0, "milliseconds"), "30000", Used),
    prop("admin.httpVersion", signed(""), "11", HTTP_VERSION),
    prop("admin.portUnification", Switch, "false", Used),
    prop("admin.forceHttps", Switch, "false", Used),
    prop("admin.needClientAuth", Switch, "false", Used),
    prop("admin.rateLimiterIntervalInMS", long(0, "milliseconds"), "300000", Used),
    prop("admin.snapshot.enabled", Switch, "true", Used),
    prop("admin.restore.enabled", Switch, "true", Used),
    prop("IPAuthenticationProvider.usexforwardedfor", Switch, "false", Used),
    prop("pathStats.enabled", Switch, "false", Used),
    prop("pathStats.slotCapacity", signed("slots"), "60", PATH_SLOTS),
    prop("pathStats.slotDuration", signed("seconds"), "15", PATH_SLOTS),
    prop("pathStats.maxDepth", signed("parts of a path"), "6", Used),
    prop("pathStats.initialDelay", signed("minutes"), "5", Used),
    prop("pathStats.delay", signed("minutes"), "5", Used),
    prop("pathStats.topPathMax", signed("paths"), "20", Used),
    prop("pathStats.sampleRate", Ratio { min: f64::MIN, max: f64::MAX }, "0.1", PATH_SAMPLES),
    prop("top.enabled", Switch, "true", Used),
    prop("slowOperations.readMs", signed("milliseconds, 0 or less for none"), "200", Used),
    prop("slowOperations.writeMs", signed("milliseconds, 0 or less for none"), "1000", Used),
    // Service registry
    file("registry.port", PORT, "none, and no registry", Used),
    file("registry.config", Text("a path of a properties or YAML file of Spring's"), "", Used),
    file("registry.consistent", Text("names of services, separated by commas"), "none", Used),
    file("registry.base", Text("a path of the tree, such as /services"), "/services", Used),
    file("registry.connect", Text("host:port of servers, separated by commas"), "the client port of this server", Used),
    file("registry.snapshot", Text("a path of a directory"), "none, and nothing is kept", Used),
    // May hold names and passwords of other registries.
    file(
        "registry.peers-from-dns",
        Secret("addresses of registries, http://host:port/eureka/, separated by commas"),
        "",
        Used,
    ),
    file("registry.eureka.client.*", Secret("as the key without registry. in a file of Spring's"), "", Used),
    file("registry.server.ssl.*", Secret("as the key without registry. in a file of Spring's"), "", Used),
    file("registry.spring.*", Secret("as the key without registry. in a file of Spring's"), "", Used),
    file("registry.*", Secret("as the key without registry. in a file of Spring's"), "", Used),
    // Ensemble
    file("server.*", Text("host:port:port[:role][;[host:]port]"), "", Used),
    file("group*", Text("server ids, separated by colons"), "", Ensemble),
    file("weight*", whole(0, "votes"), "1", Ensemble),
    file("dynamicConfigFile", PATH, "", Used),
    file("standaloneEnabled", Switch, "true", Used),
    file("initLimit", signed("ticks, 1 or more in an ensemble"), "", Ensemble),
    file("syncLimit", signed("ticks, 1 or more in an ensemble"), "", Ensemble),
    file("connectToLearnerMasterLimit", signed("ticks, 0 or less for initLimit"), "0", Ensemble),
    file("electionAlg", signed(""), "3", Used),
    file("peerType", Text("participant or observer"), "participant", Used),
    file("quorumListenOnAllIPs", Switch, "false", Ensemble),
    prop("quorum.membersOnly", Switch, "false", Ensemble),
    file("observerMasterPort", Kind::Number { min: i32::MIN as i64, max: 65535, unit: "" }, "0", Ensemble),
    file("syncEnabled", Switch, "true", OBSERVER_LOG),
    prop("observer.syncEnabled", Switch, "syncEnabled", OBSERVER_LOG),
    file("oraclePath", PATH, "", Ensemble),
    file("multiAddress.enabled", Switch, "false", Used),
    file("multiAddress.reachabilityCheckEnabled", Switch, "true", ALL_ADDRESSES),
    file("multiAddress.reachabilityCheckTimeoutMs", whole(0, "milliseconds"), "1000", ALL_ADDRESSES),
    file("localSessionsEnabled", Switch, "false", Ensemble),
    file("localSessionsUpgradingEnabled", Switch, "false", Ensemble),
    prop("leaderServes", UnlessWord("no"), "yes", Ensemble),
    prop("commitLogCount", whole(0, "transactions, 500 or more"), "500", Ensemble),
    prop("snapshotSizeFactor", Ratio { min: f64::MIN, max: f64::MAX }, "0.33", Ensemble),
    prop("forceSnapshotSync", Switch, "false", Ensemble),
    prop("cnxTimeout", whole(1, "milliseconds"), "5000", Ensemble),
    prop("quorumCnxnTimeoutMs", signed("milliseconds, -1 for syncLimit, 5000 at most"), "-1", Ensemble),
    prop("electionPortBindRetry", whole(0, "retries, 0 for no end"), "3", Ensemble),
    prop("tcpKeepAlive", Switch, "false", NoEffect("it is always on between servers")),
    prop("fastleader.minNotificationInterval", whole(1, "milliseconds"), "200", Ensemble),
    prop("fastleader.maxNotificationInterval", whole(1, "milliseconds"), "60000", Ensemble),
    prop("leader.maxTimeToWaitForEpoch", signed("milliseconds, -1 for half of initLimit"), "-1", Ensemble),
    prop("leader.maxConcurrentSnapSyncs", whole(1, "learners"), "10", Ensemble),
    prop("leader.maxConcurrentDiffSyncs", whole(1, "learners"), "100", Ensemble),
    prop("leader.ackLoggingFrequency", whole(1, "acknowledgements"), "1000", JAVA),
    prop("leader.closeSocketAsync", Switch, "false", JAVA),
    prop("learner.closeSocketAsync", Switch, "false", JAVA),
    prop("learner.asyncSending", Switch, "false", JAVA),
    prop("leaderConnectDelayDuringRetryMs", whole(0, "milliseconds"), "100", Ensemble),
    bare("leader.nodelay", Switch, "true", NoEffect("TCP_NODELAY is always on")),
    bare("follower.nodelay", Switch, "true", NoEffect("TCP_NODELAY is always on")),
    prop("observer.reconnectDelayMs", long(0, "milliseconds"), "0", Ensemble),
    prop("observer.election.DelayMs", long(0, "milliseconds"), "200", Ensemble),
    prop("observerMaster.sizeLimit", whole(0, "bytes"), "33554432", Ensemble),
    prop("follower.skipLearnerRequestToNextProcessor", Switch, "false", JAVA),
    prop("forward_learner_requests_to_commit_processor_disabled", Switch, "false", JAVA),
    prop("messageTracker.Enabled", Switch, "false", Ensemble),
    prop("messageTracker.BufferSize", signed("packets, 1000 at most"), "10", Ensemble),
    // TLS and SASL
    file("secureClientPort", PORT, "", Used),
    file("secureClientPortAddress", HOST, "all addresses", Used),
    prop("client.portUnification", Switch, "false", Used),
    prop("client.certReload", Switch, "true", Used),
    prop("netty.server.outstandingHandshake.limit", signed("handshakes, 0 or less for 1024"), "-1", Used),
    prop("netty.server.earlyDropSecureConnectionHandshakes", Switch, "false", Used),
    prop("ssl.keyStore.location", PATH, "", Used),
    prop("ssl.keyStore.password", Secret("a password"), "", Used),
    prop("ssl.keyStore.passwordPath", PATH, "", Used),
    prop("ssl.keyStore.type", STORE_TYPE, "by the suffix of the file", Used),
    prop("ssl.trustStore.location", PATH, "", Used),
    prop("ssl.trustStore.password", Secret("a password"), "", Used),
    prop("ssl.trustStore.passwordPath", PATH, "", Used),
    prop("ssl.trustStore.type", STORE_TYPE, "by the suffix of the file", Used),
    prop("ssl.protocol", Text("TLSv1.2, TLSv1.3 or TLS"), "TLSv1.3 and TLSv1.2", Used),
    prop("ssl.enabledProtocols", Text("protocols, separated by commas"), "TLSv1.3 and TLSv1.2", Used),
    prop(
        "ssl.ciphersuites",
        Text("names of suites as Java has them, separated by commas"),
        "all that are supported",
        Used,
    ),
    prop("ssl.clientAuth", Text("none, want or need"), "need", Used),
    prop("ssl.hostnameVerification", Switch, "true", Used),
    prop("ssl.clientHostnameVerification", Switch, "false", Used),
    prop("ssl.allowReverseDnsLookup", Switch, "false", Used),
    prop("ssl.crl", Switch, "false", Used),
    prop(
        "ssl.crl.location",
        Text("a path of a file of lists of revoked certificates (only here, not in Apache ZooKeeper)"),
        "the trust store",
        Used,
    ),
    prop("ssl.ocsp", Switch, "false", Refused("only lists of revoked certificates are supported, see `ssl.crl`")),
    prop("ssl.context.supplier.class", CLASS, "", Refused("classes cannot be loaded")),
    prop("ssl.handshakeDetectionTimeoutMillis", whole(1, "milliseconds"), "5000", Used),
    prop("ssl.authProvider", Text("x509"), "x509", Used),
    prop(
        "ssl.sslProvider",
        Text("JDK, OPENSSL or OPENSSL_REFCNT"),
        "JDK",
        NoEffect("there is one implementation of TLS"),
    ),
    prop("fips-mode", Switch, "true", NoEffect("hosts are compared whether it is on or not, by the keys above")),
    prop("X509AuthenticationProvider.superUser", Text("a certificate subject"), "", Used),
    file("sslQuorum", Switch, "false", Ensemble),
    file("portUnification", Switch, "false", Ensemble),
    file("sslQuorumReloadCertFiles", Switch, "true", Ensemble),
    prop("ssl.quorum.keyStore.location", PATH, "", Ensemble),
    prop("ssl.quorum.keyStore.password", Secret("a password"), "", Ensemble),
    prop("ssl.quorum.keyStore.passwordPath", PATH, "", Ensemble),
    prop("ssl.quorum.keyStore.type", STORE_TYPE, "by the suffix of the file", Ensemble),
    prop("ssl.quorum.trustStore.location", PATH, "", Ensemble),
    prop("ssl.quorum.trustStore.password", Secret("a password"), "", Ensemble),
    prop("ssl.quorum.trustStore.passwordPath", PATH, "", Ensemble),
    prop("ssl.quorum.trustStore.type", STORE_TYPE, "by the suffix of the file", Ensemble),
    prop("ssl.quorum.protocol", Text("TLSv1.2, TLSv1.3 or TLS"), "TLSv1.3 and TLSv1.2", Ensemble),
    prop("ssl.quorum.enabledProtocols", Text("protocols, separated by commas"), "TLSv1.3 and TLSv1.2", Ensemble),
    prop(
        "ssl.quorum.ciphersuites",
        Text("names of suites as Java has them, separated by commas"),
        "all that are supported",
        Ensemble,
    ),
    prop("ssl.quorum.clientAuth", Text("none, want or need"), "need", Ensemble),
    prop("ssl.quorum.hostnameVerification", Switch, "true", Ensemble),
    prop("ssl.quorum.clientHostnameVerification", Switch, "true", Ensemble),
    prop("ssl.quorum.allowReverseDnsLookup", Switch, "true", Ensemble),
    prop("ssl.quorum.crl", Switch, "false", Ensemble),
    prop(
        "ssl.quorum.crl.location",
        Text("a path of a file of lists of revoked certificates (only here, not in Apache ZooKeeper)"),
        "the trust store",
        Ensemble,
    ),
    prop(
        "ssl.quorum.ocsp",
        Switch,
        "false",
        Refused("only lists of revoked certificates are supported, see `ssl.quorum.crl`"),
    ),
    prop("ssl.quorum.context.supplier.class", CLASS, "", Refused("classes cannot be loaded")),
    prop("ssl.quorum.handshakeDetectionTimeoutMillis", whole(1, "milliseconds"), "5000", Ensemble),
    bare("java.security.auth.login.config", PATH, "", Used),
    prop("sessionRequireClientSASLAuth", Switch, "false", Used),
    prop("allowSaslFailedClients", Switch, "false", Used),
    prop("superUser", Text("a SASL user"), "", Used),
    prop("superUser.*", Text("a SASL user"), "", Used),
    prop("SASLAuthenticationProvider.superPassword", Secret("a password"), "", Used),
    prop("letAnySaslUserDoX", Text("an ACL id"), "", Used),
    prop("sasl.users.file", Text("a path (only here, not in Apache ZooKeeper)"), "", Used),
    prop("sasl.serverconfig", Text("a section of the JAAS file"), "Server", Used),
    prop("kerberos.removeHostFromPrincipal", Switch, "false", Used),
    prop("kerberos.removeRealmFromPrincipal", Switch, "false", Used),
    prop("kerberos.canonicalizeHostNames", Switch, "false", Ensemble),
    prop("kerberos.minReLoginTimeMs", long(0, "milliseconds"), "60000", KERBEROS_LOGINS),
    prop("security.auth_to_local", Text("rules"), "DEFAULT", Used),
    bare("java.security.krb5.conf", PATH, "", Used),
    bare("java.security.krb5.realm", Text("a realm"), "", Used),
    bare("java.security.krb5.kdc", Text("a host"), "", Used),
    file("quorum.auth.enableSasl", Switch, "false", Ensemble),
    file("quorum.auth.learnerRequireSasl", Switch, "false", Ensemble),
    file("quorum.auth.serverRequireSasl", Switch, "false", Ensemble),
    file("quorum.auth.learner.saslLoginContext", Text("a section of the JAAS file"), "QuorumLearner", Ensemble),
    file("quorum.auth.server.saslLoginContext", Text("a section of the JAAS file"), "QuorumServer", Ensemble),
    file("quorum.auth.kerberos.servicePrincipal", Text("a principal"), "zkquorum/localhost", Ensemble),
    file("quorum.cnxn.threads.size", signed("threads"), "20", JAVA),
    // Java implementation, clients, tests, obsolete
    prop("nio.numSelectorThreads", signed("threads"), "", JAVA),
    prop("nio.numWorkerThreads", signed("threads"), "", JAVA),
    prop("nio.directBufferBytes", signed("bytes"), "65536", JAVA),
    prop("nio.shutdownTimeout", signed("milliseconds"), "5000", JAVA),
    prop("netty.advancedFlowControl.enabled", Switch, "false", NoEffect("back-pressure is always on")),
    prop("maxResponseCacheSize", signed("entries"), "400", NoEffect("replies are encoded without a cache")),
    prop("maxGetChildrenResponseCacheSize", signed("entries"), "400", NoEffect("replies are encoded without a cache")),
    prop("intBufferStartingSizeBytes", signed("bytes"), "1024", JAVA),
    prop("commitProcessor.numWorkerThreads", signed("threads"), "", JAVA),
    prop("commitProcessor.maxReadBatchSize", signed("requests"), "-1", JAVA),
    prop("commitProcessor.maxCommitBatchSize", signed("requests"), "1", JAVA),
    prop("commitProcessor.shutdownTimeout", signed("milliseconds"), "5000", JAVA),
    prop("watchManagerName", CLASS, "WatchManager", WATCHES),
    prop("watcherCleanThreadsNum", signed("threads"), "2", WATCHES),
    prop("watcherCleanThreshold", signed("watchers"), "1000", WATCHES),
    prop("watcherCleanIntervalInSeconds", signed("seconds"), "600", WATCHES),
    prop("maxInProcessingDeadWatchers", signed("watchers"), "-1", WATCHES),
    prop("bitHashCacheSize", signed("entries"), "10", WATCHES),
    file("jvm.pause.monitor", Switch, "false", NoEffect("there is no Java machine that pauses")),
    file(
        "jvm.pause.warn-threshold.ms",
        long(i64::MIN, "milliseconds"),
        "10000",
        NoEffect("there is no Java machine that pauses"),
    ),
    file(
        "jvm.pause.info-threshold.ms",
        long(i64::MIN, "milliseconds"),
        "1000",
        NoEffect("there is no Java machine that pauses"),
    ),
    file(
        "jvm.pause.sleep.time.ms",
        long(i64::MIN, "milliseconds"),
        "500",
        NoEffect("there is no Java machine that pauses"),
    ),
    prop("jmx.log4j.disable", Switch, "false", NoEffect("there is no JMX")),
    prop("jmx.log4j.mbean", Text("a name"), "", NoEffect("there is no JMX")),
    prop("root.logger", Text("a level and appenders"), "", LOGGING),
    prop("console.threshold", Text("a level"), "", LOGGING),
    prop("log.*", Text("depends on the key"), "", LOGGING),
    prop("tracelog.*", Text("depends on the key"), "", LOGGING),
    prop("auditlog.*", Text("depends on the key"), "", LOGGING),
    prop("client.secure", Switch, "false", CLIENT),
    prop("clientCnxnSocket", CLASS, "", CLIENT),
    prop("disableAutoWatchReset", Switch, "false", CLIENT),
    prop("request.timeout", signed("milliseconds"), "0", CLIENT),
    prop("sasl.client", Switch, "true", CLIENT),
    prop("sasl.client.username", Text("a name"), "zookeeper", CLIENT),
    prop("sasl.client.canonicalize.hostname", Switch, "true", CLIENT),
    prop("sasl.clientconfig", Text("a section of the JAAS file"), "Client", CLIENT),
    prop("server.principal", Text("a principal"), "", CLIENT),
    prop("server.realm", Text("a realm"), "", Ensemble),
    prop("requireKerberosConfig", Switch, "false", CLIENT),
    prop("kinit", PATH, "/usr/bin/kinit", CLIENT),
    prop("test.allowDiscontinuousProposals", Switch, "false", TEST),
    prop("testingonly.initialZxid", signed(""), "", TEST),
    prop("controllerPort", PORT, "", TEST),
    prop("requireClientAuthScheme", Text("a scheme"), "", OBSOLETE),
    prop("jaasLoginRenew", signed("milliseconds"), "", OBSOLETE),
    prop("maxResponseSize", signed("bytes"), "", OBSOLETE),
];
