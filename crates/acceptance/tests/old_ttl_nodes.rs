//! TTL nodes as version 3.5.3 wrote them, in a directory that both servers start on: `emulate353TTLNodes`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};
use rookeeper_acceptance::wire::Body;

const SNAPSHOT_MAGIC: i32 = 0x5a4b_534e;
const OPEN_ACL: i64 = -1;
/// 100 ms, marked by the sign alone.
const SHORT: u64 = 0x8000_0000_0000_0064;
/// The longest that version 3.5.4 and later take from an owner, 40 bits of milliseconds.
const LONG: u64 = 0x8000_00ff_ffff_ffff;

fn adler32(bytes: &[u8]) -> i64 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b): (i64, i64), byte| {
        let a = (a + i64::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

/// A snapshot without sessions and digest, of nodes with these owners.
fn write_snapshot(data_dir: &Path, nodes: &[(&str, u64)]) -> Result<()> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let header = Body::new().int(SNAPSHOT_MAGIC).int(2).long(-1).int(0).int(0);
    let system = [("", 0), ("/zookeeper", 0), ("/zookeeper/config", 0), ("/zookeeper/quota", 0)];
    let body = system.iter().chain(nodes).fold(header, |body, (path, owner)| {
        let stat = |body: Body| {
            body.long(0).long(0).long(now_ms).long(now_ms).int(0).int(0).int(0).long(*owner as i64).long(0)
        };
        stat(body.string(path).buffer(Some(b"")).long(OPEN_ACL))
    });
    let mut bytes = body.string("/").0;
    let checksum = adler32(&bytes);
    bytes.extend(Body::new().long(checksum).string("/").0);
    let folder = data_dir.join("version-2");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join("snapshot.0"), bytes)?)
}

fn start(product: Product, properties: &[&str]) -> Result<(Server, tempfile::TempDir)> {
    let home = tempfile::tempdir()?;
    write_snapshot(home.path(), &[("/long", LONG), ("/short", SHORT)])?;
    let mut setup = Setup::of(product).property("-Dznode.container.checkIntervalMs=100").data_dir(home.path());
    for property in properties {
        setup = setup.property(property);
    }
    Ok((setup.start()?, home))
}

const ENABLED: &str = "-Dzookeeper.extendedTypesEnabled=true";
const EMULATED: &str = "-Dzookeeper.emulate353TTLNodes=true";

fn the_short_one_goes(product: Product) -> Result<()> {
    let (server, _home) = start(product, &[ENABLED, EMULATED])?;
    let mut client = Client::connect(server.address())?;
    let begin = Instant::now();
    while client.exists("/short")?.is_some() {
        ensure!(begin.elapsed() < Duration::from_secs(60), "/short is still there:\n{}", server.log());
        sleep(Duration::from_millis(20));
    }
    let stat = client.exists("/long")?;
    ensure!(
        stat.as_ref().is_some_and(|stat| stat.ephemeral_owner == 0),
        "/long has another owner, or is gone: {stat:?}"
    );
    client.close()
}

/// Both are ephemeral nodes of sessions that no server knows.
fn both_go_at_the_start(product: Product, properties: &[&str]) -> Result<()> {
    let (server, _home) = start(product, properties)?;
    let mut client = Client::connect(server.address())?;
    let found = client.children("/")?;
    ensure!(found == ["zookeeper"], "{found:?} are left");
    client.close()
}

#[test]
fn nodes_of_3_5_3_live_as_long_as_they_should_on_either_server() {
    for product in [Product::Apache, Product::Rookeeper] {
        the_short_one_goes(product).unwrap_or_else(|error| panic!("{product:?}: {error:#}"));
    }
}

#[test]
fn without_the_settings_they_are_ephemeral_nodes_of_nobody_on_either_server() {
    for product in [Product::Apache, Product::Rookeeper] {
        for properties in [&[][..], &[ENABLED], &[EMULATED]] {
            both_go_at_the_start(product, properties)
                .unwrap_or_else(|error| panic!("{product:?}, {properties:?}: {error:#}"));
        }
    }
}

/// Runs a command that must come to its end.
fn done(arguments: &[&Path], variables: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(rookeeper_binary()?);
    let output = command.args(arguments).envs(variables.iter().copied()).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_backup_knows_them_by_the_flag_the_configuration_or_the_variable_and_so_does_its_restore() {
    let home = tempfile::tempdir().expect("a directory");
    let data_dir = home.path().join("data");
    write_snapshot(&data_dir, &[("/long", LONG)]).expect("a snapshot");
    let config = home.path().join("zoo.cfg");
    let text = format!("dataDir={}\nextendedTypesEnabled=true\nemulate353TTLNodes=true\n", data_dir.display());
    fs::write(&config, text).expect("a file");
    let by_dir = ["--data-dir".as_ref(), data_dir.as_path()];
    let properties = format!("{ENABLED} {EMULATED}");
    for (name, source, variables, is_there) in [
        ("flag", vec![by_dir[0], by_dir[1], "--emulate353-ttl-nodes".as_ref()], &[][..], true),
        ("config", vec!["--config".as_ref(), config.as_path()], &[], true),
        ("variable", by_dir.to_vec(), &[("SERVER_JVMFLAGS", properties.as_str())], true),
        ("neither", by_dir.to_vec(), &[], false),
    ] {
        let [backup, restored] = ["backup", "restored"].map(|kind| home.path().join(format!("{name}-{kind}")));
        let arguments = [&["backup".as_ref()], &source[..], &[backup.as_path()]].concat();
        done(&arguments, variables).expect(name);
        done(&["verify".as_ref(), &backup], &[]).expect(name);
        done(&["restore".as_ref(), "--without-digest".as_ref(), &backup, &restored], &[]).expect(name);
        let setup = Setup::of(Product::Rookeeper).property(ENABLED).property(EMULATED).data_dir(&restored);
        let server = setup.start().expect("a server starts from it");
        let mut client = Client::connect(server.address()).expect("a session");
        assert_eq!(client.exists("/long").expect("an answer").is_some(), is_there, "{name}");
    }
}
