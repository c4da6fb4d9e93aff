//! Which members a server begins with, where its files of the configuration are older than its log.
//!
//! What always holds: files that an operator wrote by hand count, whatever a log says that came from elsewhere. Only where this server knows
//! that it failed to write its own, or where they are an older work of its own, the log corrects them; and then they are written again.

use std::path::{Path, PathBuf};

use rookeeper_proto::Zxid;
use rookeeper_replica::FoundMembership;
use tracing::warn;

use crate::config::dynamic_config;
use crate::config::{Config, Source};
use crate::failure::{ExitCode, Failure};

/// Says that a membership could not be written where it belongs.
pub(crate) fn mark(data_dir: &Path) -> PathBuf {
    data_dir.join(".rookeeper.membership")
}

/// Corrects the members of a configuration by what was found in the log.
pub(crate) fn correct(config: &mut Config, found: Option<FoundMembership>) -> Result<(), Failure> {
    let Source::File(config_file) = config.source.clone() else { return Ok(()) };
    let Some(ensemble) = config.ensemble.as_ref().filter(|_| config.reconfig_enabled) else { return Ok(()) };
    let (me, files) = (ensemble.settings.me, &ensemble.settings.memberships);
    let mark = mark(&config.directories.data_dir);
    if files.committed.version == Zxid::ZERO && !mark.exists() {
        return Ok(());
    }
    let Some(memberships) = found.and_then(|found| found.corrects(files)) else { return Ok(()) };
    let (committed, last_seen) = (&memberships.committed, &memberships.last_seen);
    let way_out = format!("to go by the files alone, set reconfigEnabled=false or remove {}", mark.display());
    let Some(member) = committed.members.get(&me) else {
        let message = format!(
            "My id {me} not in the peer list: membership {:x}, which is in this server's log and not in the files of its configuration, \
             has removed it; add it again with reconfig, and its line and those of the members to zoo.cfg; {way_out}",
            committed.version,
        );
        return Err(Failure::new(ExitCode::Failed, message));
    };
    warn!(
        "the files of the configuration have membership {:x}, and this server's log has {:x}{}: it begins with that and writes it again; \
         {way_out}",
        files.committed.version,
        last_seen.version,
        if last_seen.version > committed.version { ", which may not be in force yet" } else { "" },
    );
    let (role, settled) = (member.role, last_seen.version == committed.version);
    let mut written = Ok(());
    if committed.version > files.committed.version {
        written = dynamic_config::store_active(&config_file, me, committed);
    }
    if written.is_ok() && !settled {
        written = dynamic_config::store_proposed(&config_file, last_seen);
    }
    match written {
        Ok(()) if settled => dynamic_config::forget_not_stored(&mark),
        Ok(()) => {}
        Err(error) => warn!("{error}"),
    }
    if let Some(ensemble) = &mut config.ensemble {
        ensemble.role = role;
        ensemble.settings.memberships = memberships;
    }
    Ok(())
}
