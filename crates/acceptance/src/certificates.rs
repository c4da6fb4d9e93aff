//! An authority that issues certificates, made with openssl for one test: good ones, and those that must be refused.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::server::Setup;

/// What a certificate is for, and when.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The subject, as openssl writes it: `/O=Example/CN=zoo1`.
    subject: String,
    /// Hosts, as openssl writes them: `DNS:localhost,IP:127.0.0.1`.
    hosts: String,
    from: String,
    until: String,
}

impl Wish {
    /// For everybody on this machine, for a long time.
    pub fn of(name: &str) -> Wish {
        Wish {
            subject: format!("/O=Example/CN={name}"),
            hosts: "DNS:localhost,IP:127.0.0.1".to_owned(),
            from: "20200101000000Z".to_owned(),
            until: "20990101000000Z".to_owned(),
        }
    }

    pub fn subject(mut self, subject: &str) -> Wish {
        self.subject = subject.to_owned();
        self
    }

    pub fn hosts(mut self, hosts: &str) -> Wish {
        self.hosts = hosts.to_owned();
        self
    }

    /// Of a time that is over.
    pub fn expired(mut self) -> Wish {
        self.until = "20210101000000Z".to_owned();
        self
    }

    /// Of a time that is to come.
    pub fn not_yet_valid(mut self) -> Wish {
        self.from = "20980101000000Z".to_owned();
        self
    }
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Key, certificate and that of the authority in one file.
    pub pem: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// An authority whose files are in `folder/name`.
    pub fn new(folder: &Path, name: &str) -> Result<Authority> {
        let folder = folder.join(name);
        fs::create_dir_all(folder.join("issued"))?;
        fs::write(folder.join("index"), "")?;
        fs::write(folder.join("serial"), "1000\n")?;
        fs::write(folder.join("crlnumber"), "1000\n")?;
        let config = "[ca]\ndefault_ca=one\n[one]\ndatabase=index\nserial=serial\ncrlnumber=crlnumber\nnew_certs_dir=issued\n\
                      certificate=authority.pem\nprivate_key=key.pem\ndefault_md=sha256\ndefault_days=3650\ndefault_crl_days=3650\n\
                      policy=any\nunique_subject=no\n[any]\ncommonName=optional\norganizationName=optional\ncountryName=optional\n";
        fs::write(folder.join("ca.cnf"), config)?;
        let authority = Authority { folder };
        let subject = format!("/O=Example/CN={name}");
        authority.with_new_key("key.pem", "authority.pem", &subject, &["-x509", "-days", "3650"])?;
        Ok(authority)
    }

    /// The certificate of the authority, a trust store of the type PEM.
    pub fn trust(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    pub fn issue(&self, name: &str, wish: &Wish) -> Result<Issued> {
        let [key, request, certificate, extensions] =
            ["key", "request", "certificate", "extensions"].map(|kind| format!("{name}-{kind}"));
        self.with_new_key(&key, &request, &wish.subject, &["-new"])?;
        fs::write(self.folder.join(&extensions), format!("subjectAltName={}\n", wish.hosts))?;
        self.openssl(&[
            "ca",
            "-batch",
            "-config",
            "ca.cnf",
            "-notext",
            "-in",
            &request,
            "-out",
            &certificate,
            "-extfile",
            &extensions,
            "-startdate",
            &wish.from,
            "-enddate",
            &wish.until,
            "-preserveDN",
        ])?;
        let pem = self.folder.join(format!("{name}.pem"));
        let parts = [&key, &certificate, "authority.pem"].map(|part| fs::read(self.folder.join(part)));
        fs::write(&pem, parts.into_iter().collect::<std::io::Result<Vec<_>>>()?.concat())?;
        Ok(Issued { pem, certificate: self.folder.join(certificate), key: self.folder.join(key) })
    }

    /// Writes a list with these certificates as revoked.
    pub fn revoke(&self, revoked: &[&Issued]) -> Result<PathBuf> {
        for one in revoked {
            self.openssl(&["ca", "-config", "ca.cnf", "-revoke", &one.certificate.display().to_string()])?;
        }
        self.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-out", "list.crl"])?;
        Ok(self.folder.join("list.crl"))
    }

    /// Makes a key, and what `openssl req` makes with it.
    fn with_new_key(&self, key: &str, output: &str, subject: &str, more: &[&str]) -> Result<()> {
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let names = ["-keyout", key, "-out", output, "-subj", subject];
        self.openssl(&[&["req"], &curve[..], &names, more].concat())
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("openssl").args(arguments).current_dir(&self.folder).output()?;
        ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// A store of Java's with what is in a PEM file, made with openssl and keytool. `kind` is `pkcs12` or `jks`.
pub fn java_store(pem: &Path, kind: &str, password: &str) -> Result<PathBuf> {
    let (p12, store) = (pem.with_extension("p12"), pem.with_extension(kind));
    run(Command::new("openssl")
        .args(["pkcs12", "-export", "-passout", &format!("pass:{password}"), "-in"])
        .arg(pem)
        .arg("-out")
        .arg(&p12))?;
    if kind == "jks" {
        let mut keytool = Command::new("keytool");
        keytool.args(["-importkeystore", "-noprompt", "-srcstorepass", password, "-deststorepass", password]);
        keytool.args(["-deststoretype", "jks", "-srckeystore"]).arg(&p12).arg("-destkeystore").arg(&store);
        run(&mut keytool)?;
        return Ok(store);
    }
    Ok(p12)
}

/// A trust store of Java's, of the type PKCS#12, with the certificate of an authority.
pub fn java_trust(authority: &Path, password: &str) -> Result<PathBuf> {
    let store = authority.with_extension("p12");
    let mut keytool = Command::new("keytool");
    keytool.args(["-importcert", "-noprompt", "-alias", "authority", "-storetype", "pkcs12", "-storepass", password]);
    run(keytool.arg("-file").arg(authority).arg("-keystore").arg(&store))?;
    Ok(store)
}

/// What openssl sees and says as a client that sends this text.
pub fn openssl_client(address: SocketAddr, text: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-ign_eof"]).args(arguments);
    let mut openssl =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("openssl");
    // It may have been refused before it reads.
    let _ = openssl.stdin.take().expect("an input").write_all(text.as_bytes());
    let output = openssl.wait_with_output().expect("openssl ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// An authority, and the certificates of a server and of a client.
#[derive(Debug)]
pub struct House {
    pub folder: TempDir,
    pub authority: Authority,
    pub server: Issued,
    pub client: Issued,
}

impl House {
    pub fn new() -> Result<House> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path(), "authority")?;
        let server = authority.issue("server", &Wish::of("server-1"))?;
        let client = authority.issue("client", &Wish::of("client"))?;
        Ok(House { folder, authority, server, client })
    }

    /// A server with a port for TLS, and a plain one.
    pub fn setup(&self) -> Setup {
        Setup::new()
            .config("4lw.commands.whitelist", "*")
            .config("secureClientPort", "0")
            .config("ssl.keyStore.location", &shown(&self.server.pem))
            .config("ssl.trustStore.location", &shown(&self.authority.trust()))
    }
}

/// A path as it stands in a configuration.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
