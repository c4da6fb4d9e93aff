//! Who may come in, by hashes of their passwords; and the file in which such hashes stand.

use std::collections::BTreeMap;
use std::fmt;

use super::{Secret, Service};

/// The users of one service.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    service: Service,
    /// Two where clients disagree on how the password is written in bytes.
    secrets: BTreeMap<String, Vec<Secret>>,
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.secrets.keys()).finish()
    }
}

/// Why a text is no file of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct MalformedUsers {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong. Shows nothing of the line.
    pub problem: &'static str,
}

impl Users {
    /// Nobody yet.
    pub fn of(service: Service) -> Users {
        Users { service, secrets: BTreeMap::new() }
    }

    /// Where they are users.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Whether nobody can come in.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Whether there is a user of this name.
    pub fn has(&self, user: &str) -> bool {
        self.secrets.contains_key(user)
    }

    /// Adds a user, or gives it another password.
    pub fn set_password(&mut self, user: &str, password: &str) {
        let realm = self.service.realm;
        let mut secrets = vec![Secret::of(user, realm, password), Secret::of_utf_8(user, realm, password)];
        secrets.dedup();
        self.secrets.insert(user.to_owned(), secrets);
    }

    /// Adds those of a file with a line `user:HASH` for each, where HASH is MD5 of `user:realm:password` in hexadecimal digits. Lines that
    /// begin with # and blank ones are left out.
    pub fn add_file(&mut self, bytes: &[u8]) -> Result<(), MalformedUsers> {
        let malformed = |line: usize, problem: &'static str| MalformedUsers { line, problem };
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let bytes = bytes.trim_ascii();
            if bytes.is_empty() || bytes[0] == b'#' {
                continue;
            }
            let text = std::str::from_utf8(bytes).map_err(|_| malformed(line, "there are bytes that are not UTF-8"))?;
            let Some((user, hash)) = text.rsplit_once(':') else { return Err(malformed(line, "there is no colon")) };
            if user.is_empty() {
                return Err(malformed(line, "there is no user before the colon"));
            }
            let secret = Secret::from_hex(hash.trim())
                .ok_or_else(|| malformed(line, "behind the colon stand no 32 hexadecimal digits"))?;
            if self.secrets.insert(user.to_owned(), vec![secret]).is_some() {
                return Err(malformed(line, "this user is already there"));
            }
        }
        Ok(())
    }

    /// The secrets that a user may prove to know; none for nobody's name.
    pub(super) fn secrets(&self, user: &str) -> &[Secret] {
        self.secrets.get(user).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::CLIENT_PORT;
    use super::*;

    #[test]
    fn a_file_of_users() {
        let mut users = Users::of(CLIENT_PORT);
        let file =
            b"# who may come in\n\nbob:fff08f480333e7694a6455b4a1d5b656\r\n a:b :00000000000000000000000000000000";
        users.add_file(file).unwrap();
        assert_eq!(format!("{users:?}"), "{\"a:b \", \"bob\"}");
        for (file, line, problem) in [
            ("bob", 1, "there is no colon"),
            ("\n:00000000000000000000000000000000", 2, "there is no user before the colon"),
            ("bob:secret", 1, "behind the colon stand no 32 hexadecimal digits"),
            (
                "joe:00000000000000000000000000000000\nbob:00000000000000000000000000000000",
                2,
                "this user is already there",
            ),
        ] {
            let mut users = users.clone();
            assert_eq!(users.add_file(file.as_bytes()), Err(MalformedUsers { line, problem }), "{file}");
        }
    }

    /// `printf %s bob:zk-sasl-md5:bobsecret | md5sum`
    #[test]
    fn a_line_is_made_with_md5sum() {
        let (mut by_file, mut by_password) = (Users::of(CLIENT_PORT), Users::of(CLIENT_PORT));
        by_file.add_file(b"bob:fff08f480333e7694a6455b4a1d5b656").unwrap();
        by_password.set_password("bob", "bobsecret");
        assert_eq!(by_file, by_password);
        assert!(by_file.has("bob") && !by_file.has("joe") && !by_file.is_empty());
    }
}
