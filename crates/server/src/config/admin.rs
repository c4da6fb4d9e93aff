//! Settings of the port of admin commands, which are asked for over HTTP.
//!
//! What always holds here: unless the configuration names another address, the port is for this machine alone.
//!
//! Counterpart in the original: `AdminServerFactory`, `JettyAdminServer`.

use std::time::Duration;

use super::error::ConfigError;
use super::exposure::is_reached_from_elsewhere;
use super::settings::Settings;
use super::tls::{ClientAuth, Side, Tls};

/// Where admin commands are asked for over HTTP, and by whom.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct AdminPort {
    /// None for all addresses of this machine.
    pub host: Option<String>,
    /// 0 takes any free one.
    pub port: u16,
    /// The path under which the commands are, without a slash at its end; empty where that is `/`.
    pub command_path: String,
    /// How long a connection may be silent; none for as long as a connection may last.
    pub silence_limit: Option<Duration>,
    /// None where nobody speaks TLS.
    pub tls: Option<AdminTls>,
    /// Whether the command `snapshot` is carried out.
    pub takes_snapshots: bool,
    /// Whether the command `restore` is carried out.
    pub restores: bool,
    /// Between two commands of those that are limited.
    pub rate_limit_ms: u64,
    /// Whether the address of one who asks is the first in the header `X-Forwarded-For`.
    pub trusts_forwarded_for: bool,
}

/// How TLS is spoken at the port.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct AdminTls {
    /// The stores are those of members.
    pub tls: Tls,
    /// Whether those who ask may do so without TLS (`admin.portUnification`).
    pub takes_plain: bool,
}

impl AdminPort {
    /// None where the configuration wants no such port.
    pub(super) fn read(settings: &Settings) -> Result<Option<AdminPort>, ConfigError> {
        if !settings.flag("admin.enableServer") {
            return Ok(None);
        }
        let host = settings.text("admin.serverAddress").map(|host| host.trim_matches(['[', ']']).to_owned());
        let path = settings.text("admin.commandURL").unwrap_or_default().trim_matches('/').to_owned();
        let silence_ms = settings.positive("admin.idleTimeout");
        Ok(Some(AdminPort {
            host: host.filter(|host| !matches!(host.as_str(), "" | "0.0.0.0" | "::")),
            port: u16::try_from(settings.whole("admin.serverPort")).unwrap_or(u16::MAX),
            command_path: if path.is_empty() { path } else { format!("/{path}") },
            silence_limit: silence_ms.map(|limit_ms| Duration::from_millis(u64::from(limit_ms))),
            tls: AdminTls::read(settings)?,
            takes_snapshots: settings.flag("admin.snapshot.enabled"),
            restores: settings.flag("admin.restore.enabled"),
            rate_limit_ms: settings.long("admin.rateLimiterIntervalInMS"),
            trusts_forwarded_for: settings.flag("IPAuthenticationProvider.usexforwardedfor"),
        }))
    }

    /// Whether others than this machine may reach the port.
    pub fn is_reached_from_elsewhere(&self) -> bool {
        is_reached_from_elsewhere(self.host.as_deref())
    }

    /// Whether all who ask have shown a certificate that is trusted.
    pub fn keeps_strangers_out(&self) -> bool {
        self.tls.as_ref().is_some_and(|admin| !admin.takes_plain && admin.tls.client_auth == ClientAuth::Need)
    }
}

impl AdminTls {
    fn read(settings: &Settings) -> Result<Option<AdminTls>, ConfigError> {
        let (forced, unified) = (settings.flag("admin.forceHttps"), settings.flag("admin.portUnification"));
        let client_auth = if settings.flag("admin.needClientAuth") { ClientAuth::Need } else { ClientAuth::None };
        let why = settings.setting("admin.forceHttps").filter(|_| forced);
        let why = why.or_else(|| settings.setting("admin.portUnification").filter(|_| unified));
        let Some(tls) = Tls::read(settings, Side::Quorum, why)? else { return Ok(None) };
        // Those who ask come from anywhere, and their certificates need not be for an address.
        let tls = Tls { client_auth, verifies_clients: false, ..tls };
        Ok(Some(AdminTls { tls, takes_plain: !forced }))
    }
}
