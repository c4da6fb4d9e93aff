//! A whole session of the shell, with the frames of a recorded one: what the shell sends and what it prints must both be the same.
//!
//! `golden/session.exchange.txt` was recorded with Apache ZooKeeper 3.8.0; the commands and the output are those of zkCli 3.9.3 but
//! for the places where its output depends on which of its threads is first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use rookeeper_cli::shell::{self, Input, Output, Start, transcript};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const COMMANDS: &str = include_str!("golden/session.commands.txt");
const EXCHANGE: &str = include_str!("golden/session.exchange.txt");
const STDOUT: &str = include_str!("golden/session.stdout.txt");
const STDERR: &str = include_str!("golden/session.stderr.txt");

/// One recorded connection: each frame of the client with the frames of the server that followed.
type Exchanges = VecDeque<(Vec<u8>, Vec<Vec<u8>>)>;

fn recorded(text: &str) -> Vec<Exchanges> {
    let mut connections: Vec<Exchanges> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_at(1) {
            ("=", _) => connections.push(Exchanges::new()),
            (">", hex) => connections.last_mut().unwrap().push_back((bytes(hex), Vec::new())),
            ("<", hex) => connections.last_mut().unwrap().back_mut().unwrap().1.push(bytes(hex)),
            other => panic!("{other:?}"),
        }
    }
    connections
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.trim().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Plays the server's part of each recorded connection in turn; returns the address and the first thing that went differently.
async fn replay(connections: Vec<Exchanges>) -> (String, Arc<Mutex<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fault = Arc::new(Mutex::new(None));
    let told = Arc::clone(&fault);
    tokio::spawn(async move {
        for exchanges in connections {
            let (stream, _) = listener.accept().await.unwrap();
            if let Err(text) = play(stream, exchanges).await {
                told.lock().unwrap().get_or_insert(text);
                return;
            }
        }
    });
    (address, fault)
}

async fn play(mut stream: TcpStream, mut exchanges: Exchanges) -> Result<(), String> {
    while let Some((expected, answers)) = exchanges.pop_front() {
        let mut request = read_frame(&mut stream).await.map_err(|error| format!("{expected:?} never came: {error}"))?;
        while request.starts_with(&(-2_i32).to_be_bytes()) {
            let pong = [&request[..4], &[0; 12]].concat();
            write_frame(&mut stream, &pong).await;
            request = read_frame(&mut stream).await.map_err(|error| format!("{expected:?} never came: {error}"))?;
        }
        if request != expected {
            return Err(format!("sent\n{request:?}\ninstead of\n{expected:?}"));
        }
        for answer in answers {
            write_frame(&mut stream, &answer).await;
        }
    }
    Ok(())
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; stream.read_i32().await? as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) {
    // A client that is gone shows in what it should have sent next.
    let _ = stream.write_all(&[&(frame.len() as i32).to_be_bytes()[..], frame].concat()).await;
}

/// A stream of the shell that the test can read.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs the shell and returns its exit code, standard output and standard error.
async fn run(server: &str, command: &[&str], lines: &str) -> (u8, String, String) {
    let (out, err) = (Captured::default(), Captured::default());
    let start = Start {
        server: server.to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..Start::default()
    };
    let output = Output::new(Box::new(out.clone()), Box::new(err.clone()));
    let input = Input::Lines(Box::new(Cursor::new(lines.to_owned())));
    let code = shell::run(start, output, input).await;
    (code, out.text(), err.text())
}

#[tokio::test]
async fn a_session_reads_as_the_originals() {
    let (server, fault) = replay(recorded(EXCHANGE)).await;
    let (code, out, err) = run(&server, &[], &COMMANDS.replace("<server>", &server)).await;
    assert_eq!(*fault.lock().unwrap(), None);
    assert_eq!(transcript::difference(STDOUT, &out, &server), None);
    assert_eq!(transcript::difference(STDERR, &err, &server), None);
    assert_eq!(code, 0);
}

/// Handshake, the exchanges in between, and the end of a session.
fn one_shot(between: &str) -> Vec<Exchanges> {
    let whole: Vec<&str> = EXCHANGE.lines().filter(|line| !line.starts_with('#')).collect();
    let close = if between.is_empty() { 1 } else { 2 };
    let script =
        format!("=\n{}\n{}\n{between}> {close:08x}fffffff5\n< {close:08x}000000000000000900000000", whole[1], whole[2]);
    recorded(&script)
}

#[tokio::test]
async fn single_commands_end_with_the_originals_exit_codes() {
    // exists /a, answered NoNode: the operation's number is 3.
    let exists = "> 0000000100000003000000022f6100\n< 000000010000000000000009ffffff9b\n";
    let cases: [(&[&str], &str, u8, &str); 4] = [
        (&["stat", "/a"], exists, 1, "Node does not exist: /a\n"),
        (&["stat", "a"], "", 1, "Path must start with / character\n"),
        (&["create"], "", 1, "create [-s] [-e] [-c] [-t ttl] path [data] [acl]\n"),
        (&["printwatches", "off"], "", 0, ""),
    ];
    for (command, between, expected, complaint) in cases {
        let (server, fault) = replay(one_shot(between)).await;
        let (code, out, err) = run(&server, command, "").await;
        assert_eq!(*fault.lock().unwrap(), None);
        let event = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n";
        assert_eq!((code, out, err.as_str()), (expected, format!("Connecting to {server}\n{event}"), complaint));
    }

    let (server, _) = replay(one_shot("")).await;
    let (code, _, err) = run(&server, &["bogus"], "").await;
    assert_eq!(code, 127);
    assert!(err.starts_with("ZooKeeper -server host:port -client-configuration properties-file cmd args\n\taddWatch"));
    assert!(err.ends_with("\n\twhoami \nCommand not found: Command not found bogus\n"), "{err}");
}

#[tokio::test]
async fn the_exit_code_of_a_session_is_that_of_its_last_command() {
    for (lines, expected) in [("bogus\n", 127), ("bogus\nprintwatches\nquit\n", 0), ("ls nope\n\n", 1), ("", 0)] {
        let (server, _) = replay(one_shot("")).await;
        let (code, _, _) = run(&server, &[], lines).await;
        assert_eq!(code, expected, "{lines:?}");
    }
}

/// A server on which `/app` has a child `a` with a child `x`; while the second list of `/app` is asked for, the event of a watch comes first.
async fn with_an_event_in_between(mut stream: TcpStream) -> io::Result<()> {
    let handshake: Vec<&str> = EXCHANGE.lines().filter(|line| line.starts_with('<')).collect();
    read_frame(&mut stream).await?;
    write_frame(&mut stream, &bytes(&handshake[0][1..])).await;
    let text = |text: &str| [&(text.len() as i32).to_be_bytes()[..], text.as_bytes()].concat();
    let mut lists_of_app = 0;
    loop {
        let request = read_frame(&mut stream).await?;
        let (xid, code) = (&request[..4], i32::from_be_bytes(request[4..8].try_into().unwrap()));
        let asks_for = |path: &str| request[8..].starts_with(&text(path));
        let list = |names: &[&str]| {
            let names: Vec<Vec<u8>> = names.iter().map(|name| text(name)).collect();
            [&(names.len() as i32).to_be_bytes()[..], &names.concat()].concat()
        };
        let answer = match code {
            4 => [&text("data")[..], &[0; 68]].concat(),
            8 if asks_for("/app") => {
                lists_of_app += 1;
                if lists_of_app == 2 {
                    // The node's children changed, seen while connected.
                    let event =
                        [&(-1_i32).to_be_bytes()[..], &[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0], &[0, 0, 0, 4, 0, 0, 0, 3]];
                    write_frame(&mut stream, &[&event.concat()[..], &text("/app")].concat()).await;
                }
                list(&["a"])
            }
            8 if asks_for("/app/a") => list(&["x"]),
            8 => list(&[]),
            _ => Vec::new(),
        };
        write_frame(&mut stream, &[xid, &9_i64.to_be_bytes(), &[0; 4], &answer].concat()).await;
    }
}

#[tokio::test]
async fn an_event_does_not_tear_a_result() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { with_an_event_in_between(listener.accept().await.unwrap().0).await });
    let (code, out, err) = run(&server, &[], "ls -w /app\nls -R /app\n").await;
    let event = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeChildrenChanged path:/app zxid: 9\n";
    let prompt = |number: u32| format!("[zk: {server}(CONNECTED) {number}] ");
    let expected =
        format!("{}ls -w /app\n[a]\n{}ls -R /app\n/app\n/app/a\n/app/a/x\n{event}{}", prompt(0), prompt(1), prompt(2));
    assert!(out.contains(&expected), "{out}");
    assert_eq!((code, err.as_str()), (0, ""));
}
