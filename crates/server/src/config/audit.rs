//! Settings of the audit log.

use std::path::PathBuf;

use super::error::ConfigError;
use super::settings::Settings;

/// The classes of the original that write to its log, by their names in 3.8 and in 3.6.
const CLASSES: [&str; 2] =
    ["org.apache.zookeeper.audit.Slf4jAuditLogger", "org.apache.zookeeper.audit.Log4jAuditLogger"];

/// Where the audit log is written, and how.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct AuditLog {
    /// None for standard output.
    pub file: Option<PathBuf>,
    pub format: AuditFormat,
    /// A file that would be larger becomes an older one.
    pub file_size_limit_bytes: u64,
    /// Older files that are kept.
    pub file_retain_count: u32,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditFormat {
    /// As the original's logger writes it.
    Text,
    /// A JSON object on each line.
    Json,
}

impl AuditLog {
    /// None where there is no audit log. What is said of one is not looked at then, as in the original.
    pub(super) fn read(settings: &Settings) -> Result<Option<AuditLog>, ConfigError> {
        if !settings.flag("audit.enable") {
            return Ok(None);
        }
        if let Some(setting) = settings.setting("audit.impl.class")
            && !CLASSES.contains(&setting.value.as_str())
        {
            let remedy = format!(
                "Classes can't be loaded here. Allowed: {}, which writes where audit.file says.",
                CLASSES.join(" or ")
            );
            return Err(setting.fault("the class of the audit log was not found", remedy).into());
        }
        let format = match settings.setting("audit.format") {
            None => AuditFormat::Text,
            Some(setting) => match setting.value.to_ascii_lowercase().as_str() {
                "text" => AuditFormat::Text,
                "json" => AuditFormat::Json,
                _ => return Err(setting.fault("this is no format of the audit log", "Allowed: text or json.").into()),
            },
        };
        Ok(Some(AuditLog {
            file: settings.setting("audit.file").map(|setting| PathBuf::from(&setting.value)),
            format,
            file_size_limit_bytes: u64::from(settings.whole("audit.fileSizeLimitInKb")) << 10,
            file_retain_count: settings.whole("audit.fileRetainCount"),
        }))
    }
}
