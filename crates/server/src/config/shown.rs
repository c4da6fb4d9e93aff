//! The configuration as it is shown to those who ask a running server for it.
//!
//! What always holds here: no secret is in it, neither by the name of a key that is known nor by one that sounds like that of a secret.

use super::error::ConfigError;
use super::keys::{self, Kind};
use super::properties;
use super::settings::Settings;

/// What stands in the place of a secret.
const MASK: &str = "*****";

/// What was configured, without secrets.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Shown {
    /// The file as it was read; none where there was none.
    pub file: Option<String>,
    /// Every setting that was recognised, by the name of its `-D` option.
    pub properties: Vec<(String, String)>,
}

impl Shown {
    /// `file`: the name and the text of the configuration file.
    pub(super) fn read(settings: &Settings, file: Option<(&str, &[u8])>) -> Result<Shown, ConfigError> {
        let file = file.map(|(name, bytes)| masked(name, bytes)).transpose()?;
        let mut properties: Vec<(String, String)> = settings
            .all()
            .map(|setting| {
                let value = if is_secret(&setting.name) { MASK } else { &setting.value };
                (keys::flag_of(setting.key, &setting.name), value.to_owned())
            })
            .collect();
        properties.sort_unstable();
        Ok(Shown { file, properties })
    }
}

fn masked(name: &str, bytes: &[u8]) -> Result<String, ConfigError> {
    let mask = |key: &str| is_secret(key).then(|| format!("{}={MASK}\n", properties::escape(key)).into_bytes());
    Ok(String::from_utf8_lossy(&properties::edited(name, bytes, mask)?).into_owned())
}

/// Whether the value of a key must not be shown. Also of a key that is not known here: it may be a misspelt one.
fn is_secret(key: &str) -> bool {
    let known = keys::in_file(key).or_else(|| keys::in_flag(key));
    let is_known_secret = known.is_some_and(|known| matches!(known.key.kind, Kind::Secret(_)));
    let name = key.to_lowercase();
    let names_a_file = name.ends_with("passwordpath");
    let sounds_secret = ["password", "passwd", "secret", "digest"].iter().any(|word| name.contains(word));
    is_known_secret || (known.is_none() && sounds_secret && !names_a_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shown_as_it_is_without_its_secrets() {
        let text = "# a comment\ndataDir=/data\n\n  ssl.keyStore.password : se\\\n   cret\nDigestAuthenticationProvider.superDigest=super:x\n\
                    ssl.keyStore.passwordPath=/p\nssl.keystore.Password=secret\nzookeeper.ssl.trustStore.password=secret\nclientPort=1";
        let expected = "# a comment\ndataDir=/data\n\nssl.keyStore.password=*****\nDigestAuthenticationProvider.superDigest=*****\n\
                        ssl.keyStore.passwordPath=/p\nssl.keystore.Password=*****\nzookeeper.ssl.trustStore.password=*****\nclientPort=1";
        assert_eq!(masked("zoo.cfg", text.as_bytes()).unwrap(), expected);
    }
}
