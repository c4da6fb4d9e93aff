//! A Kerberos server for one test: its own realm, database, port and files, and nothing of the machine's.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::client::DEADLINE;
use crate::random::Random;

pub const REALM: &str = "EXAMPLE.COM";
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often a start is tried again because somebody else took the port in between.
const PORT_ATTEMPTS: usize = 5;

/// A running Kerberos server. It ends with this.
#[derive(Debug)]
pub struct Kdc {
    home: TempDir,
    process: Option<Child>,
}

impl Kdc {
    /// A new realm without principals but Kerberos' own.
    pub fn start() -> Result<Kdc> {
        let home = tempfile::Builder::new().prefix("rookeeper-kerberos-").tempdir()?;
        let mut kdc = Kdc { home, process: None };
        for _ in 0..PORT_ATTEMPTS {
            let address = kdc.write_files()?;
            if !kdc.path("principal").exists() {
                kdc.run("/usr/sbin/kdb5_util", &["create", "-s", "-r", REALM, "-P", "of-the-tests"])?;
            }
            if kdc.spawn(address, None)? {
                return Ok(kdc);
            }
        }
        bail!("no free port after {PORT_ATTEMPTS} attempts")
    }

    /// Ends it, and starts it again on the same port with its clock moved, as faketime writes it: `-3h`.
    pub fn restart_at(&mut self, clock: Option<&str>) -> Result<()> {
        self.stop();
        let address = fs::read_to_string(self.path("address"))?.parse()?;
        ensure!(self.spawn(address, clock)?, "the port of the Kerberos server is taken");
        Ok(())
    }

    fn write_files(&self) -> Result<SocketAddr> {
        let mut random = Random::from_clock();
        let [second, third, fourth] = [0; 3].map(|_| 1 + random.below(253) as u8);
        let address = TcpListener::bind((Ipv4Addr::new(127, second, third, fourth), 0))?.local_addr()?;
        fs::write(self.path("address"), address.to_string())?;
        self.write_conf("krb5.conf", address, 300)?;
        // The Kerberos server and the programs that ask it for tickets do not mind what time it is.
        self.write_conf("patient.conf", address, 100_000_000)?;
        let home = self.home.path().display();
        fs::write(
            self.path("kdc.conf"),
            format!(
                "[kdcdefaults]\n  kdc_listen = {address}\n  kdc_tcp_listen = {address}\n[realms]\n  {REALM} = {{\n    \
                 database_name = {home}/principal\n    key_stash_file = {home}/stash\n    acl_file = {home}/acl\n    \
                 max_life = 10h\n    supported_enctypes = aes256-cts:normal aes128-cts:normal\n  }}\n[logging]\n  \
                 kdc = FILE:{home}/kdc.log\n"
            ),
        )?;
        Ok(address)
    }

    fn write_conf(&self, name: &str, address: SocketAddr, clock_skew: u32) -> Result<()> {
        let text = format!(
            "[libdefaults]\n  default_realm = {REALM}\n  dns_lookup_kdc = false\n  dns_lookup_realm = false\n  rdns = false\n  \
             dns_canonicalize_hostname = false\n  udp_preference_limit = 1\n  clockskew = {clock_skew}\n[realms]\n  {REALM} = {{\n    \
             kdc = {address}\n  }}\n"
        );
        Ok(fs::write(self.path(name), text)?)
    }

    /// Whether it answers; it does not where its port was taken.
    fn spawn(&mut self, address: SocketAddr, clock: Option<&str>) -> Result<bool> {
        let mut command = match clock {
            Some(clock) => faketime(clock, "/usr/sbin/krb5kdc"),
            None => Command::new("/usr/sbin/krb5kdc"),
        };
        command.args(["-n", "-r", REALM, "-P"]).arg(self.path("kdc.pid"));
        command.env("KRB5_CONFIG", self.path("patient.conf")).env("KRB5_KDC_PROFILE", self.path("kdc.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().context("krb5kdc cannot be started: run tests/provision")?;
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if process.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect(address).is_ok() {
                self.process = Some(process);
                return Ok(true);
            }
            thread::sleep(POLL_INTERVAL);
        }
        process.kill()?;
        bail!("krb5kdc does not answer after {DEADLINE:?}")
    }

    /// Nobody gets tickets any more.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Adds a principal with a random key, and returns a keytab that has it.
    pub fn keytab(&self, principals: &[&str]) -> Result<PathBuf> {
        let name = principals.join("-").replace(['/', '@'], "_");
        let path = self.path(&format!("{name}.keytab"));
        for principal in principals {
            let query = format!("get_principal {principal}");
            if self.run("/usr/sbin/kadmin.local", &["-r", REALM, "-q", &query])?.contains("Principal: ") {
                continue;
            }
            self.run("/usr/sbin/kadmin.local", &["-r", REALM, "-q", &format!("addprinc -randkey {principal}")])?;
        }
        for principal in principals {
            let query = format!("ktadd -norandkey -k {} {principal}", path.display());
            self.run("/usr/sbin/kadmin.local", &["-r", REALM, "-q", &query])?;
        }
        ensure!(path.exists(), "no keytab was written");
        Ok(path)
    }

    /// Gives a principal another key, which nobody's keytab has.
    pub fn change_key(&self, principal: &str) -> Result<()> {
        self.run("/usr/sbin/kadmin.local", &["-r", REALM, "-q", &format!("cpw -randkey {principal}")]).map(drop)
    }

    /// A file with tickets, asked for by a keytab for so many seconds, at a time as faketime writes it.
    pub fn tickets(&self, principal: &str, keytab: &Path, seconds: u32, clock: Option<&str>) -> Result<PathBuf> {
        let path = self.path("tickets");
        let mut command = match clock {
            Some(clock) => faketime(clock, "kinit"),
            None => Command::new("kinit"),
        };
        command.args(["-l", &format!("{seconds}s"), "-c"]).arg(&path).arg("-k").arg("-t").arg(keytab).arg(principal);
        self.finish(command)?;
        Ok(path)
    }

    /// The file that `KRB5_CONFIG` is to name.
    pub fn conf(&self) -> PathBuf {
        self.path("krb5.conf")
    }

    /// The same for whoever does not mind what time it is.
    pub fn patient_conf(&self) -> PathBuf {
        self.path("patient.conf")
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.finish(command)
    }

    fn finish(&self, mut command: Command) -> Result<String> {
        command.env("KRB5_CONFIG", self.path("patient.conf")).env("KRB5_KDC_PROFILE", self.path("kdc.conf"));
        let output = command.stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start {command:?}: run tests/provision"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {text}");
        Ok(text)
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program whose clock is moved. Without the program `faketime` around it, which would be ended in its place, and leave it running.
pub fn faketime(clock: &str, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1").env("FAKETIME", clock);
    command
}
