//! What to do about a failure of Kerberos, by its number.

/// The first number of the table of errors in `krb5.h`.
const BASE: i32 = -1_765_328_384;

/// A sentence for the operator. The library's own text says what failed.
pub(super) fn remedy(code: i32) -> &'static str {
    match code.wrapping_sub(BASE) {
        6 => {
            "no such principal is in the Kerberos database: add it (kadmin addprinc), or correct principal in the JAAS file"
        }
        7 => {
            "the service asked for is not in the Kerberos database: add it (kadmin addprinc -randkey), or correct the name by which this \
             server is asked for (quorum.auth.kerberos.servicePrincipal, the host of the server line, sasl.client.username of clients)"
        }
        23 | 32 => {
            "the ticket or its principal has expired: get a new ticket (kinit, or restart what holds the old one), and compare the clocks"
        }
        24 | 31 | 210 => {
            "the keys differ from those of the Kerberos server: write the keytab anew (kadmin ktadd), and get a new ticket (kinit)"
        }
        33 | 37 => "the clocks of the two sides and of the Kerberos server differ too much: synchronise them (NTP)",
        34 => "the same token came twice: somebody may have recorded and sent it again",
        35 | 44 | 45 | 144 | 181 | 230 => {
            "the ticket is for another principal or another version of its key than the keytab has: compare klist -kte KEYTAB with the \
             principal in the JAAS file, and write the keytab anew (kadmin ktadd) where the principal is right"
        }
        141 | 143 | 195 => "there is no ticket: run kinit as the user of this server, or use a keytab (useKeyTab=true)",
        154 | 156 | 220 | 217 | 224 => {
            "no Kerberos server can be reached for this realm: correct krb5.conf (default_realm, kdc), and look whether the server runs"
        }
        135 | 136 => "krb5.conf cannot be read: correct it, or make it readable for the user of this server",
        164..=172 => {
            "the replay cache cannot be written: give the user of this server the right to write into /var/tmp"
        }
        180 | 182..=184 | 193 | 194 | 196..=200 | 235 => {
            "the file cannot be used: the user of this server must be able to read it, and it must be a keytab or a ticket cache"
        }
        _ if code == 13 => {
            "the user of this server must be able to read the keytab: correct its owner or its mode (chown, chmod 600)"
        }
        _ if code == 2 => "the file does not exist: correct its path in the JAAS file",
        _ => "compare the principals in the JAAS files, the keytabs (klist -kte) and the clocks of both sides",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_failures_have_a_remedy_of_their_own() {
        for (code, remedied) in [
            (-1_765_328_352, "expired"),
            (-1_765_328_347, "clocks"),
            (-1_765_328_240, "another principal"),
            (-1_765_328_340, "another version of its key"),
            (-1_765_328_203, "another principal"),
            (-1_765_328_377, "service asked for"),
            (-1_765_328_228, "no Kerberos server can be reached"),
            (13, "able to read the keytab"),
            (2, "does not exist"),
            (0, "compare the principals"),
            (i32::MAX, "compare the principals"),
        ] {
            assert!(remedy(code).contains(remedied), "{code}: {}", remedy(code));
        }
    }
}
