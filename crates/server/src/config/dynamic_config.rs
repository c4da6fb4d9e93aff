//! The configuration files that the server itself writes where the membership changes at run time.
//!
//! What always holds: every file appears whole and durable or not at all, and whatever is there after a crash at any step is a
//! configuration that the server starts from. `zoo.cfg` keeps its comments and its order; only the lines that moved into the dynamic
//! file go.
//!
//! Counterpart in the original: `QuorumPeerConfig.writeDynamicConfig` and `editStaticConfig`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rookeeper_proto::{ServerId, Zxid};
use rookeeper_store::descriptors::{are_exhausted, patiently};
use rookeeper_store::{Disk as _, RealDisk, Rights, replace};
use rookeeper_zab::Membership;
use tracing::warn;

use crate::config::{properties, read_bounded};

/// A file could not be written. The server goes on, and after a restart it begins with the membership of its log.
#[derive(Debug, thiserror::Error)]
#[error(
    "the membership of version {version:x} is not in the files of the configuration: {what} {} failed: {source}; {}",
    .path.display(),
    remedy(.source)
)]
/// A file of the membership could not be written, or its predecessor not removed. The server goes on; its next start may begin with an older
/// membership.
pub struct NotStored {
    version: Zxid,
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    if are_exhausted(error) {
        return "raise the limit of file descriptors (ulimit -n, LimitNOFILE)";
    }
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "let the server's user write in the directory of its configuration, or set reconfigEnabled=false"
        }
        io::ErrorKind::ResourceBusy => {
            "mount the directory of the configuration into the container, not the file alone"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        io::ErrorKind::InvalidData => "correct the file",
        _ => "see to it that the server's user can write there",
    }
}

/// Keeps a membership that was proposed, in `<zoo.cfg>.dynamic.next`: a server that starts again counts with it.
pub fn store_proposed(config_file: &Path, membership: &Membership) -> Result<(), NotStored> {
    let path = with_ending(config_file, ".dynamic.next");
    let mut text = dynamic_lines(membership);
    text.push_str(&format!("\nversion={:x}", membership.version));
    replace(&path, text.as_bytes()).map_err(|source| not_stored(membership, "writing", &path, source))
}

/// Makes a membership the configured one: `<zoo.cfg>.dynamic.<version>`, and `zoo.cfg` names it. The server lines that `zoo.cfg`
/// had are kept in `zoo.cfg.bak`. `me` is this server: where its line says where clients connect, `zoo.cfg` no longer does.
pub fn store_active(config_file: &Path, me: ServerId, membership: &Membership) -> Result<(), NotStored> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| not_stored(membership, what, &path, source)
    };
    // A link to the file stays one.
    let target = fs::canonicalize(config_file).map_err(failed("reading", config_file))?;
    let old = patiently(&target, || read_bounded(&target)).map_err(failed("reading", config_file))?;
    let dynamic = with_ending(config_file, &format!(".dynamic.{:x}", membership.version));
    replace(&dynamic, dynamic_lines(membership).as_bytes()).map_err(failed("writing", &dynamic))?;

    let dynamic = fs::canonicalize(&dynamic).map_err(failed("reading", &dynamic))?;
    let client_by_line = membership.members.get(&me).is_some_and(|member| member.client.is_some());
    let (new, had_members) = edited(config_file, &old, &dynamic, client_by_line)
        .map_err(|text| failed("reading", config_file)(io::Error::new(io::ErrorKind::InvalidData, text)))?;
    if had_members {
        let backup = with_ending(config_file, ".bak");
        replace_like(&backup, &old, &target).map_err(failed("writing", &backup))?;
    }
    replace_like(&target, &new, &target).map_err(failed("replacing", config_file))?;

    // One that is newer was proposed after this one, and may come into force as well.
    let next = with_ending(config_file, ".dynamic.next");
    if version_within(&next).is_some_and(|version| version > membership.version) {
        return Ok(());
    }
    match fs::remove_file(&next) {
        Ok(()) => RealDisk.sync_dir(replace::directory_of(&next)).map_err(failed("removing", &next)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("removing", &next)(error)),
    }
}

/// Notes in the data directory that the files of the configuration are older than the log.
pub(crate) fn note_not_stored(mark: &Path, why: &NotStored) {
    let text = format!(
        "At its next start this server takes the members from its log, unless this file is removed before: {why}\n"
    );
    if let Err(error) = replace(mark, text.as_bytes()) {
        warn!(
            "{} can't be written: {error}; after a restart this server goes by the files of its configuration",
            mark.display()
        );
    }
}

/// They are as new as the log again.
pub(crate) fn forget_not_stored(mark: &Path) {
    match fs::remove_file(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!("{} can't be removed: {error}; remove it, for it has become untrue", mark.display());
        }
        _ => {}
    }
}

/// The version that [`store_proposed`] wrote.
fn version_within(next: &Path) -> Option<Zxid> {
    let bytes = patiently(next, || read_bounded(next)).ok()?;
    let properties = properties::parse(&next.display().to_string(), &bytes).ok()?;
    let version = properties.iter().rfind(|property| property.key == "version")?;
    i64::from_str_radix(&version.value, 16).ok().map(Zxid)
}

fn not_stored(membership: &Membership, what: &'static str, path: &Path, source: io::Error) -> NotStored {
    NotStored { version: membership.version, what, path: path.to_owned(), source }
}

/// `zoo.cfg` with the dynamic file instead of members, and whether it had members.
fn edited(file: &Path, old: &[u8], dynamic: &Path, client_by_line: bool) -> Result<(Vec<u8>, bool), String> {
    let dynamic = dynamic.to_str().ok_or("the path of the dynamic file is not UTF-8")?;
    let is_member = |key: &str| ["server.", "group", "weight"].iter().any(|prefix| key.starts_with(prefix));
    let moves = |key: &str| {
        let key = key.strip_prefix("zookeeper.").unwrap_or(key);
        is_member(key)
            || matches!(key, "dynamicConfigFile" | "peerType")
            || (client_by_line && matches!(key, "clientPort" | "clientPortAddress"))
    };
    let name = file.display().to_string();
    let had_members = properties::parse(&name, old)
        .map_err(|fault| fault.to_string())?
        .iter()
        .any(|property| is_member(property.key.strip_prefix("zookeeper.").unwrap_or(&property.key)));
    let mut new = properties::without(&name, old, moves).map_err(|fault| fault.to_string())?;
    properties::append(&mut new, "dynamicConfigFile", dynamic);
    Ok((new, had_members))
}

/// The lines as the original sorts them, without the version.
fn dynamic_lines(membership: &Membership) -> String {
    let text = membership.to_string();
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with("version=")).map(properties::escape).collect();
    lines.sort();
    lines.join("\n")
}

/// `zoo.cfg` → `zoo.cfg.bak`.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, Rights::Umask)
}

/// The same with the permissions of `model`: `zoo.cfg` may hold secrets.
fn replace_like(path: &Path, bytes: &[u8], model: &Path) -> io::Result<()> {
    replace_with(path, bytes, Rights::Like(model))
}

fn replace_with(path: &Path, bytes: &[u8], rights: Rights<'_>) -> io::Result<()> {
    // It came here by a rename, so it is durable.
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    replace::replace(&RealDisk, path, bytes, rights)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rookeeper_zab::Memberships;

    use super::*;
    use crate::config::{Config, Environment, Source};

    /// A directory with a `zoo.cfg` of the second of three members.
    struct Member {
        directory: tempfile::TempDir,
        file: PathBuf,
    }

    const ZOO_CFG: &str = "# The timing\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n\
                           # Clients\nclientPort=2182\nclientPortListenBacklog=7\n\n\
                           # Members\npeerType=participant\nserver.1=127.0.0.1:11:12\nserver.2=127.0.0.1:21:22\n\
                           server.3=127.0.0.1:\\\n    31:32\nreconfigEnabled=true";

    impl Member {
        fn new() -> Member {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("zoo.cfg");
            let data = directory.path().join("data");
            fs::create_dir(&data).unwrap();
            fs::write(data.join("myid"), "2").unwrap();
            fs::write(&file, format!("dataDir={}\n{ZOO_CFG}", data.display())).unwrap();
            Member { directory, file }
        }

        fn load(&self) -> Config {
            let environment = Environment {
                variables: Default::default(),
                home: None,
                user_id: 1000,
                system_data_dir_writable: false,
            };
            Config::load(Source::File(self.file.clone()), &environment).unwrap().0
        }

        fn memberships(&self) -> Memberships {
            self.load().ensemble.unwrap().settings.memberships
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.directory.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.directory.path().join(name)).unwrap()
        }
    }

    fn membership(text: &str) -> Membership {
        Membership::parse_text(text, false).unwrap()
    }

    const ME: ServerId = ServerId(2);

    #[test]
    fn the_first_activation_moves_the_members_and_keeps_comments_and_order() {
        let member = Member::new();
        let before = member.read("zoo.cfg");
        let mut active = member.memberships().committed;
        active.version = Zxid::new(1, 0);
        store_active(&member.file, ME, &active).unwrap();
        let dynamic = fs::canonicalize(member.directory.path().join("zoo.cfg.dynamic.100000000")).unwrap();
        let data = member.directory.path().join("data");
        assert_eq!(
            member.read("zoo.cfg"),
            format!(
                "dataDir={}\n# The timing\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n# Clients\nclientPort=2182\n\
                 clientPortListenBacklog=7\n\n# Members\nreconfigEnabled=true\ndynamicConfigFile={}\n",
                data.display(),
                dynamic.display()
            )
        );
        assert_eq!(
            member.read("zoo.cfg.dynamic.100000000"),
            "server.1=127.0.0.1:11:12:participant\nserver.2=127.0.0.1:21:22:participant\n\
             server.3=127.0.0.1:31:32:participant"
        );
        assert_eq!(member.read("zoo.cfg.bak"), before);
        assert_eq!(member.names(), ["data", "zoo.cfg", "zoo.cfg.bak", "zoo.cfg.dynamic.100000000"]);
        assert_eq!(member.memberships().committed, active);
    }

    #[test]
    fn a_reconfiguration_is_proposed_then_active() {
        let member = Member::new();
        let mut first = member.memberships().committed;
        first.version = Zxid(5);
        store_active(&member.file, ME, &first).unwrap();
        let second = membership(
            "server.2=127.0.0.1:21:22;2182\nserver.10=127.0.0.1:41:42:observer\nserver.3=127.0.0.1:31:32\n\
             group.1=2:3\nweight.3=0\nversion=a00000001",
        );
        store_proposed(&member.file, &second).unwrap();
        assert_eq!(member.memberships(), Memberships::new(first, second.clone()));

        store_active(&member.file, ME, &second).unwrap();
        let config = member.load();
        assert_eq!(config.client.port, Some(2182));
        assert_eq!(config.ensemble.unwrap().settings.memberships, Memberships::settled(second.clone()));
        let edited = member.read("zoo.cfg");
        assert!(!edited.contains("clientPort=") && edited.contains("clientPortListenBacklog=7"), "{edited}");
        // The server lines of the beginning are still there for whoever needs them.
        assert!(member.read("zoo.cfg.bak").contains("server.1="));

        store_active(&member.file, ME, &second).unwrap();
        assert_eq!(member.read("zoo.cfg"), edited);
    }

    #[test]
    fn a_newer_proposal_outlives_the_activation_of_an_older_membership() {
        let member = Member::new();
        let version = |version| Membership { version, ..member.memberships().committed };
        let (older, newer) = (version(Zxid(0xa)), version(Zxid(0xb)));
        store_proposed(&member.file, &newer).unwrap();
        store_active(&member.file, ME, &older).unwrap();
        assert_eq!(member.memberships(), Memberships::new(older, newer));
    }

    #[test]
    fn whatever_step_is_the_last_one_the_server_starts_again() {
        let member = Member::new();
        let mut active = member.memberships().committed;
        active.version = Zxid(9);
        store_proposed(&member.file, &active).unwrap();
        let (old, next) = (member.read("zoo.cfg"), member.read("zoo.cfg.dynamic.next"));
        // After the first step, and in the middle of writing.
        store_active(&member.file, ME, &active).unwrap();
        fs::write(&member.file, old).unwrap();
        fs::write(with_ending(&member.file, ".tmp"), "half of a li").unwrap();
        assert_eq!(member.memberships().committed.version, Zxid::ZERO);
        // After all but the last step.
        store_active(&member.file, ME, &active).unwrap();
        fs::write(with_ending(&member.file, ".dynamic.next"), next).unwrap();
        assert_eq!(member.memberships(), Memberships::settled(active));
    }

    #[test]
    fn a_link_and_the_permissions_of_the_file_stay() {
        let member = Member::new();
        let real = member.directory.path().join("real.cfg");
        fs::rename(&member.file, &real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.cfg", &member.file).unwrap();
        let mut active = member.memberships().committed;
        active.version = Zxid(9);
        store_active(&member.file, ME, &active).unwrap();
        assert!(fs::symlink_metadata(&member.file).unwrap().is_symlink());
        for name in ["real.cfg", "zoo.cfg.bak"] {
            let mode = fs::metadata(member.directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
        }
        assert_eq!(member.memberships().committed, active);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_a_remedy_and_changes_nothing() {
        let member = Member::new();
        let active = membership("server.2=127.0.0.1:21:22\nversion=7");
        let before = member.read("zoo.cfg");
        // A directory in the way works for every user, root included.
        let blocked = with_ending(&member.file, ".dynamic.7");
        fs::create_dir(&blocked).unwrap();
        let error = store_active(&member.file, ME, &active).unwrap_err().to_string();
        let begin = format!(
            "the membership of version 7 is not in the files of the configuration: writing {} failed: ",
            blocked.display()
        );
        assert!(
            error.starts_with(&begin) && error.ends_with("; see to it that the server's user can write there"),
            "{error}"
        );
        assert_eq!(member.read("zoo.cfg"), before);
        assert_eq!(member.names(), ["data", "zoo.cfg", "zoo.cfg.dynamic.7"]);

        let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        assert!(remedy(&read_only).contains("reconfigEnabled=false"));
        let missing = store_active(Path::new("/nowhere/zoo.cfg"), ME, &active).unwrap_err();
        assert!(missing.to_string().contains("reading /nowhere/zoo.cfg failed"), "{missing}");
    }

    #[test]
    fn want_of_descriptors_is_not_blamed_on_rights() {
        let want = io::Error::from(rustix::io::Errno::MFILE);
        let text = not_stored(&Membership::default(), "writing", Path::new("zoo.cfg"), want).to_string();
        assert!(text.ends_with("; raise the limit of file descriptors (ulimit -n, LimitNOFILE)"), "{text}");
    }
}
