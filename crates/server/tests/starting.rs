//! A start that hangs says where, and a member without a leader that it looks for one. Time moves on by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookeeper_server::Server;
use rookeeper_server::config::{Config, Environment, Source};
use tracing_subscriber::fmt::MakeWriter;

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = Logged;

    fn make_writer(&'a self) -> Logged {
        self.clone()
    }
}

impl Logged {
    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text)
    }

    /// Moves time on until it was said.
    async fn says(&self, text: &str) {
        for _ in 0..300 {
            if self.has(text) {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("{text:?} is not said: {}", String::from_utf8_lossy(&self.0.lock().unwrap()));
    }
}

/// The first of three members, of which the others are not there.
fn config(home: &Path, election_port: u16) -> Config {
    std::fs::write(home.join("myid"), "1").unwrap();
    // Nobody listens at port 1, and nobody asks at the first of these ports: there is no leader.
    let text = format!(
        "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\ninitLimit=10\nsyncLimit=5\nelectionPortBindRetry=0\n\
         server.1=127.0.0.1:0:{election_port}\nserver.2=127.0.0.2:2:1\nserver.3=127.0.0.3:2:1\n",
        home.display()
    );
    let file = home.join("zoo.cfg");
    std::fs::write(&file, text).unwrap();
    let environment =
        Environment { variables: BTreeMap::new(), home: None, user_id: 0, system_data_dir_writable: false };
    Config::load(Source::File(file), &environment).unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_says_where_and_a_member_that_it_has_no_leader() {
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt().with_writer(logged.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Server::start(config(home.path(), taken.local_addr().unwrap().port()));
    tokio::pin!(start);
    tokio::select! {
        ended = &mut start => panic!("its election port is taken: {:?}", ended.map(|_| ())),
        () = logged.says("still starting after 10 s: opening the election port, for") => {}
    }
    drop(taken);
    let server = start.await.unwrap();
    assert!(!logged.has("looking for a leader"));
    logged.says(": looking for a leader, or catching up with one, for").await;
    drop(server);
}
