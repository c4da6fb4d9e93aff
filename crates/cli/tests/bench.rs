//! The load generator against a server in this process that speaks just enough of the protocol and checks what it is sent.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookeeper_cli::bench::{self, Operation, Options};
use rookeeper_cli::dialler::TlsFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

/// What the server has seen, shared with the test.
#[derive(Default)]
struct Seen {
    nodes: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Requests by opcode.
    requests: Mutex<HashMap<i32, u64>>,
    sessions_closed: Mutex<u64>,
}

/// How the server behaves besides answering.
#[derive(Clone, Copy)]
struct Manner {
    /// Answers to getData and exists are held back until so many requests wait.
    hold_until: usize,
    /// Every so many setData are refused.
    refuse_set_every: Option<u64>,
    /// The connection is dropped at this getData.
    drop_at_get: Option<u64>,
}

const PLAIN: Manner = Manner { hold_until: 1, refuse_set_every: None, drop_at_get: None };

async fn serve(manner: Manner) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, Arc::clone(&shared), manner));
        }
    });
    (address, seen)
}

async fn serve_connection(stream: TcpStream, seen: Arc<Seen>, manner: Manner) {
    let (mut reader, mut writer) = stream.into_split();
    let Some(connect) = read_frame(&mut reader).await else { return };
    assert_eq!(connect.len(), 45, "a connect request with the read-only byte");
    let mut answer = vec![0; 37];
    answer[4..8].copy_from_slice(&30_000_i32.to_be_bytes());
    answer[15] = 1;
    answer[19] = 16;
    write_frame(&mut writer, &answer).await;

    let mut held: VecDeque<Vec<u8>> = VecDeque::new();
    while let Some(request) = read_frame(&mut reader).await {
        let operation = i32::from_be_bytes(request[4..8].try_into().unwrap());
        let Some(reply) = answer_request(&request, operation, &seen, manner) else { return };
        held.push_back(reply);
        let full = if matches!(operation, 3 | 4) { manner.hold_until } else { 1 };
        if held.len() >= full {
            if full > 1 {
                let more = timeout(Duration::from_millis(1), reader.peek(&mut [0])).await;
                assert!(more.is_err(), "more than {full} requests outstanding");
            }
            // One answer for one request: the client must refill the pipeline each time.
            let kept = full - 1;
            while held.len() > kept {
                write_frame(&mut writer, &held.pop_front().unwrap()).await;
            }
        }
        // At the end of the load the client only waits: let go of what is held when nothing more comes.
        while !held.is_empty() && timeout(Duration::from_millis(200), reader.peek(&mut [0])).await.is_err() {
            write_frame(&mut writer, &held.pop_front().unwrap()).await;
        }
        if operation == -11 {
            *seen.sessions_closed.lock().unwrap() += 1;
            return;
        }
    }
}

fn answer_request(request: &[u8], operation: i32, seen: &Seen, manner: Manner) -> Option<Vec<u8>> {
    let count = {
        let mut requests = seen.requests.lock().unwrap();
        let count = requests.entry(operation).or_default();
        *count += 1;
        *count
    };
    let mut body = &request[8..];
    let mut nodes = seen.nodes.lock().unwrap();
    let answer: Result<Vec<u8>, i32> = match operation {
        1 => {
            let (mut path, data) = (take_string(&mut body), take(&mut body));
            if body.ends_with(&2_i32.to_be_bytes()) {
                path.push_str("0000000007");
            }
            let parent = path.rsplit_once('/').unwrap().0.to_owned();
            if nodes.contains_key(&path) {
                Err(NODE_EXISTS)
            } else if !parent.is_empty() && !nodes.contains_key(&parent) {
                Err(NO_NODE)
            } else {
                nodes.insert(path.clone(), data);
                Ok([&(path.len() as i32).to_be_bytes()[..], path.as_bytes()].concat())
            }
        }
        2 => {
            let path = take_string(&mut body);
            let below = format!("{path}/");
            let child = nodes.range(below.clone()..).next().filter(|(node, _)| node.starts_with(&below));
            assert_eq!(child, None, "{path} still has children");
            nodes.remove(&path).map(|_| Vec::new()).ok_or(NO_NODE)
        }
        3 => nodes.get(&take_string(&mut body)).map(|_| vec![0; 68]).ok_or(NO_NODE),
        4 if manner.drop_at_get == Some(count) => return None,
        4 => {
            let data = nodes.get(&take_string(&mut body)).ok_or(NO_NODE);
            data.map(|data| [&(data.len() as i32).to_be_bytes()[..], data, &[0; 68]].concat())
        }
        5 if manner.refuse_set_every.is_some_and(|every| count.is_multiple_of(every)) => Err(-125),
        5 => {
            let (path, data) = (take_string(&mut body), take(&mut body));
            nodes.get_mut(&path).map(|node| *node = data).map(|()| vec![0; 68]).ok_or(NO_NODE)
        }
        8 => {
            let below = format!("{}/", take_string(&mut body));
            let names: Vec<&str> = nodes.keys().filter_map(|path| path.strip_prefix(&below)).collect();
            let encoded =
                names.iter().flat_map(|name| [&(name.len() as i32).to_be_bytes()[..], name.as_bytes()].concat());
            Ok((names.len() as i32).to_be_bytes().into_iter().chain(encoded).collect())
        }
        14 => return None,
        11 | -11 => Ok(Vec::new()),
        other => panic!("operation {other}"),
    };
    let (error, body) = answer.map_or_else(|error| (error, Vec::new()), |body| (0, body));
    Some([&request[..4], &[0; 8], &error.to_be_bytes(), &body].concat())
}

fn take(body: &mut &[u8]) -> Vec<u8> {
    let length = i32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
    let taken = body[4..4 + length].to_vec();
    *body = &body[4 + length..];
    taken
}

fn take_string(body: &mut &[u8]) -> String {
    String::from_utf8(take(body)).unwrap()
}

async fn read_frame(reader: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = reader.read_i32().await.ok()?;
    let mut frame = vec![0; length as usize];
    reader.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write_frame(writer: &mut OwnedWriteHalf, frame: &[u8]) {
    let bytes = [&(frame.len() as i32).to_be_bytes()[..], frame].concat();
    // The client may be gone, which its side of the test will show.
    let _ = writer.write_all(&bytes).await;
}

fn options(server: &str, operation: Operation) -> Options {
    Options {
        server: vec![server.to_owned()],
        limit: None,
        connections: 3,
        pipeline: 4,
        rate: None,
        operation,
        read_ratio: 0.5,
        value_size: 10,
        keys: 250,
        warmup: 0.05,
        seconds: 0.3,
        threads: Some(1),
        json: false,
        seed: 1,
        tls: TlsFlags::default(),
    }
}

#[tokio::test]
async fn every_operation_is_measured_and_leaves_nothing_behind() {
    for (operation, code) in [
        (Operation::Get, 4),
        (Operation::Set, 5),
        (Operation::Exists, 3),
        (Operation::Create, 1),
        (Operation::Children, 8),
    ] {
        let (server, seen) = serve(PLAIN).await;
        let report = bench::run(&options(&server, operation)).await.unwrap();
        assert!(report.is_clean(), "{report}");
        assert!(report.all.operations > 0, "{report}");
        // The warm-up is sent and not counted.
        assert!(seen.requests.lock().unwrap()[&code] > report.all.operations, "{report}");
        let rate = report.all.operations as f64 / 0.3;
        assert!((report.all.throughput_ops_per_second - rate).abs() < 1.0, "{report}");
        let latency = &report.all;
        assert!(latency.latency_p50_us > 0.0, "{report}");
        assert!(latency.latency_p50_us <= latency.latency_p99_us, "{report}");
        assert!(latency.latency_p99_us <= latency.latency_p999_us, "{report}");
        assert!(latency.latency_p999_us <= latency.latency_max_us * 1.001, "{report}");
        assert!(seen.nodes.lock().unwrap().is_empty(), "{operation:?} left nodes");
        assert_eq!(*seen.sessions_closed.lock().unwrap(), 3);
    }
}

#[tokio::test]
async fn sessions_are_opened_and_closed_one_after_the_other() {
    let (server, seen) = serve(PLAIN).await;
    let report = bench::run(&options(&server, Operation::Session)).await.unwrap();
    assert!(report.is_clean() && report.all.operations > 0 && report.keys.is_none(), "{report}");
    // Those of the three connections that wait besides, and those of the warm-up.
    assert!(*seen.sessions_closed.lock().unwrap() > report.all.operations + 3, "{report}");
    assert!(seen.nodes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_run_ends_where_nobody_changes_what_is_watched() {
    // This server takes a multi for nonsense and hangs up.
    let (server, _) = serve(PLAIN).await;
    let report = bench::run(&Options { keys: 7, ..options(&server, Operation::Watch) }).await.unwrap();
    assert!(report.connections_lost.len() == 1 && report.all.operations == 0, "{report}");
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_counts_the_time_that_requests_had_to_wait() {
    let (server, _) = serve(PLAIN).await;
    let report = bench::run(&Options { rate: Some(600), ..options(&server, Operation::Get) }).await.unwrap();
    assert!(report.is_clean() && report.load == "open loop", "{report}");
    // No more than are due in the time measured, however fast the server is.
    assert!((1..=600 * 3 / 10 + 3).contains(&report.all.operations), "{report}");
    // This server answers only when four wait, or after 200 ms, and one is outstanding. What is due meanwhile is sent late, and says so: the last
    // that is sent in 1.5 s was due in the first tenth of a second.
    let (server, _) = serve(Manner { hold_until: 4, ..PLAIN }).await;
    let slow = Options {
        connections: 1,
        pipeline: 1,
        keys: 5,
        seconds: 1.5,
        rate: Some(100),
        ..options(&server, Operation::Get)
    };
    let report = bench::run(&slow).await.unwrap();
    assert!(report.is_clean() && report.all.latency_max_us >= 1_000_000.0, "{report}");
}

#[tokio::test]
async fn a_mix_has_both_kinds_in_its_proportion() {
    let (server, _) = serve(PLAIN).await;
    let report = bench::run(&options(&server, Operation::Mixed)).await.unwrap();
    let (reads, writes) = (report.reads.unwrap().operations, report.writes.unwrap().operations);
    assert_eq!(reads + writes, report.all.operations);
    let share = reads as f64 / report.all.operations as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
}

#[tokio::test]
async fn the_pipeline_is_filled_to_its_depth_and_no_further() {
    // The server answers only when four requests wait; with fewer outstanding nothing would ever be answered in time, with more
    // it panics and the connection is lost.
    let (server, _) = serve(Manner { hold_until: 4, ..PLAIN }).await;
    let report = bench::run(&Options { connections: 1, ..options(&server, Operation::Get) }).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.all.operations >= 20, "{report}");
    assert!(report.all.latency_p50_us < 100_000.0, "the pipeline was not full: {report}");
}

#[tokio::test]
async fn refusals_are_counted_by_code_and_not_as_throughput() {
    let (server, seen) = serve(Manner { refuse_set_every: Some(10), ..PLAIN }).await;
    let report = bench::run(&options(&server, Operation::Set)).await.unwrap();
    let sent = seen.requests.lock().unwrap()[&5];
    assert_eq!(report.errors.iter().collect::<Vec<_>>(), [(&"QuotaExceeded(-125)".to_owned(), &(sent / 10))]);
    assert!(report.all.operations <= sent - sent / 10);
    assert!(!report.is_clean());
}

#[tokio::test]
async fn a_lost_connection_is_told_and_its_nodes_are_deleted_by_the_others() {
    let (server, seen) = serve(Manner { drop_at_get: Some(50), ..PLAIN }).await;
    let report = bench::run(&options(&server, Operation::Get)).await.unwrap();
    assert_eq!(report.connections_lost.len(), 1, "{report}");
    assert!((1..=4).contains(&report.unanswered), "{report}");
    assert_eq!(report.cleanup_error, None);
    assert!(report.all.operations > 50, "the others went on: {report}");
    assert!(seen.nodes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_limit_of_the_machine_is_measured_like_a_server() {
    let directory = tempfile::tempdir().unwrap();
    for operation in [Operation::Get, Operation::Set, Operation::Create, Operation::Exists, Operation::Mixed] {
        let limit = Some(directory.path().to_owned());
        let report = bench::run(&Options { limit, ..options("nobody:1", operation) }).await.unwrap();
        assert!(report.is_clean() && report.all.operations > 0, "{report}");
        assert!(report.to_string().contains("the limit of this machine"), "{report}");
        // Nothing is left behind, and nothing but the file was needed.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    let limit = Some(directory.path().join("missing"));
    let refused = bench::run(&Options { limit, ..options("nobody:1", Operation::Set) }).await.unwrap_err();
    assert!(format!("{refused:#}").contains("missing"), "{refused:#}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = bench::run(&options(&server, Operation::Get)).await.expect_err("nobody listens");
    assert!(error.to_string().contains(&format!("cannot connect to {server}")), "{error:#}");
}

#[tokio::test]
async fn something_else_than_a_zookeeper_server_is_recognized() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = bench::run(&options(&server, Operation::Get)).await.expect_err("not a ZooKeeper server");
    assert!(format!("{error:#}").contains("not a ZooKeeper server"), "{error:#}");
}
