//! What the audit log writes, and that nobody waits for it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::{Id, Permissions, SessionId};
use rookeeper_replica::{Audited, Fate, Operation};

use super::event::{Event, Result, SessionEvent};
use super::file::Destination;
use super::line::Lines;
use super::queue::{Batch, Queue};
use super::{Audit, AuditEnd};
use crate::config::{AuditFormat, AuditLog};
use crate::observe::figures::Figures;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn request(identities: &[Id], operation: Operation) -> Arc<Audited> {
    let session = SessionId(0x0100_002f_4bed_0000);
    Arc::new(Audited { session, client: CLIENT, identities: identities.into(), operation })
}

fn bob() -> Vec<Id> {
    vec![Id::new("ip", "127.0.0.1"), Id::new("digest", "bob:xQJmxLMiHGwaqBvst5y6rkB6HQs=")]
}

fn path(path: &str) -> Option<String> {
    Some(path.to_owned())
}

fn done(identities: &[Id], operation: Operation) -> Event {
    Event::Request { request: request(identities, operation), fate: Fate::Done { sequential: Vec::new() } }
}

fn failed(operation: Operation) -> Event {
    Event::Request { request: request(&bob(), operation), fate: Fate::Failed }
}

fn written(format: AuditFormat, event: &Event) -> String {
    let mut lines = Lines::in_zone(format, Some("zookeeper".to_owned()), TimeZone::UTC);
    let mut text = String::new();
    lines.append(Timestamp::from_millisecond(1_795_400_991_922).unwrap(), event, &mut text);
    assert_eq!(text.lines().count() as u64, event.lines(), "{text}");
    text
}

fn text(event: &Event) -> String {
    written(AuditFormat::Text, event)
}

/// A line of a client of the recorded session, without what is the same in all.
fn fields(event: &Event) -> String {
    let line = text(event);
    let fields = line.split_once("ip=127.0.0.1\t").map(|(_, fields)| fields.trim_end());
    fields.unwrap_or_else(|| panic!("no client in {line:?}")).replace('\t', " ")
}

#[test]
fn lines_are_those_of_the_original() {
    let start = Event::started(Result::Success);
    let head = "2026-11-23T02:29:51,922";
    assert_eq!(
        text(&start),
        format!("{head} INFO audit.Slf4jAuditLogger: user=zookeeper\toperation=serverStart\tresult=success\n")
    );
    let create = Operation::Create { path: path("/a"), flags: 0 };
    let client = "session=0x100002f4bed0000\tuser=bob,127.0.0.1\tip=127.0.0.1";
    let of_a = "operation=create\tznode=/a\tznode_type=persistent";
    assert_eq!(
        text(&done(&bob(), create.clone())),
        format!("{head} INFO audit.Slf4jAuditLogger: {client}\t{of_a}\tresult=success\n")
    );
    assert_eq!(
        text(&failed(create)),
        format!("{head} ERROR audit.Slf4jAuditLogger: {client}\t{of_a}\tresult=failure\n")
    );
    let gone = Event::Ephemerals { session: SessionId(0x0100_002f_4bed_0001), paths: vec!["/e1".into(), "/e2".into()] };
    let of_session =
        "session=0x100002f4bed0001\tuser=zookeeper\toperation=ephemeralZNodeDeletionOnSessionCloseOrExpire";
    assert_eq!(
        text(&gone),
        format!(
            "{head} INFO audit.Slf4jAuditLogger: {of_session}\tznode=/e1\tresult=success\n\
             {head} INFO audit.Slf4jAuditLogger: {of_session}\tznode=/e2\tresult=success\n"
        )
    );
}

#[test]
fn each_line_has_the_time_of_its_event() {
    let berlin = TimeZone::fixed(jiff::tz::offset(1));
    let mut lines = Lines::in_zone(AuditFormat::Text, None, berlin);
    let mut text = String::new();
    for millisecond in [1_795_400_991_922, 1_795_400_991_922, 1_795_400_991_923, 1_795_400_991_922] {
        lines.append(Timestamp::from_millisecond(millisecond).unwrap(), &Event::stopping(), &mut text);
    }
    let stamps: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let [one, next] = ["2026-11-23T03:29:51,922", "2026-11-23T03:29:51,923"];
    assert_eq!(stamps, [one, one, next, one]);
}

#[test]
fn each_operation_has_its_fields() {
    let entry = |id: &str, permissions| AclRequest {
        permissions: Permissions(permissions),
        scheme: Some("digest".into()),
        id: Some(id.to_owned().into()),
    };
    let acl = Some(vec![entry("bob:x", 31), entry("ann:y", 1)]);
    let set_acl = Operation::SetAcl { path: path("/a"), acl };
    for (event, expected) in [
        (done(&bob(), Operation::Delete { path: path("/t") }), "operation=delete znode=/t result=success"),
        (failed(Operation::SetData { path: path("/a") }), "operation=setData znode=/a result=failure"),
        (failed(Operation::Delete { path: None }), "operation=delete result=failure"),
        (done(&bob(), set_acl), "operation=setAcl znode=/a acl=digest:bob:x:cdrwadigest:ann:y:r result=success"),
        (failed(Operation::Multi(vec![Operation::Reconfig])), "operation=multiOperation result=failure"),
        (done(&bob(), Operation::Reconfig), "operation=reconfig znode=/zookeeper/config result=success"),
        (failed(Operation::Reconfig), "operation=reconfig result=failure"),
        (done(&bob(), Operation::CloseSession), "operation=sessionClose result=success"),
        (failed(Operation::ResumeSession), "operation=sessionResume result=failure"),
        (
            Event::Request { request: request(&bob(), Operation::Delete { path: path("/u") }), fate: Fate::Unknown },
            "operation=delete znode=/u result=invoked",
        ),
        (
            Event::NotAuthenticated { session: SessionId(5), client: CLIENT, identities: Some(bob().into()) },
            "operation=authentication result=failure",
        ),
        (
            Event::Session {
                event: SessionEvent::Opened,
                session: SessionId(5),
                client: CLIENT,
                identities: bob().into(),
            },
            "operation=sessionOpen result=success",
        ),
    ] {
        assert_eq!(fields(&event), expected);
    }
    let kinds = ["persistent", "ephemeral", "", "", "container", "persistent_with_ttl"];
    for (flags, kind) in kinds.iter().enumerate().filter(|(_, kind)| !kind.is_empty()) {
        let create = done(&bob(), Operation::Create { path: path("/a"), flags: flags as i32 });
        assert_eq!(fields(&create), format!("operation=create znode=/a znode_type={kind} result=success"));
    }
    let unknown = failed(Operation::Create { path: path("/a"), flags: 77 });
    assert_eq!(fields(&unknown), "operation=create znode=/a result=failure");
}

#[test]
fn a_multi_that_is_done_is_a_line_for_each_change_with_the_names_that_nodes_got() {
    let members = vec![
        Operation::Create { path: path("/m"), flags: 0 },
        Operation::Create { path: path("/m/s-"), flags: 3 },
        Operation::Delete { path: path("/x") },
        Operation::Create { path: path("/m/t-"), flags: 6 },
    ];
    let sequential = vec!["/m/s-0000000000".to_owned(), "/m/t-0000000001".to_owned()];
    let fate = Fate::Done { sequential };
    let all = text(&Event::Request { request: request(&bob(), Operation::Multi(members)), fate });
    let changes: Vec<&str> = all.lines().map(|line| line.split_once("operation=").unwrap().1).collect();
    assert_eq!(
        changes,
        [
            "create\tznode=/m\tznode_type=persistent\tresult=success",
            "create\tznode=/m/s-0000000000\tznode_type=ephemeral_sequential\tresult=success",
            "delete\tznode=/x\tresult=success",
            "create\tznode=/m/t-0000000001\tznode_type=persistent_sequential_with_ttl\tresult=success",
        ]
    );
}

#[test]
fn a_client_can_write_no_line_or_field_of_its_own() {
    let forger = vec![Id::new("digest", "eve\tresult=success\n2026 INFO x: user=root:hash"), Id::new("super", "")];
    let create = Operation::Create { path: path("/a\r\n\u{2028}b\u{85}\u{7f}\0"), flags: 0 };
    let line = text(&done(&forger, create.clone()));
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.contains("user=eve\\u0009result=success\\u000a2026 INFO x\tip="), "{line}");
    assert!(line.contains("znode=/a\\u000d\\u000a\\u2028b\\u0085\\u007f\\u0000\t"), "{line}");
    let json = written(AuditFormat::Json, &done(&forger, create));
    assert_eq!(json.matches('\n').count(), 1);
    assert!(json.contains("\"znode\":\"/a\\u000d\\u000a\\u2028b\\u0085\\u007f\\u0000\""), "{json}");
}

#[test]
fn json_has_the_same_fields() {
    let entry = |id: &str| AclRequest {
        permissions: Permissions::READ,
        scheme: Some("x509".into()),
        id: Some(id.to_owned().into()),
    };
    let acl = Some(vec![entry("CN=\"a\\b\""), entry("CN=c")]);
    let line = written(AuditFormat::Json, &done(&bob(), Operation::SetAcl { path: path("/ä"), acl }));
    assert_eq!(
        line,
        "{\"time\":\"2026-11-23T02:29:51.922Z\",\"level\":\"INFO\",\"session\":\"0x100002f4bed0000\",\"user\":\"bob,127.0.0.1\",\
         \"ip\":\"127.0.0.1\",\"operation\":\"setAcl\",\"znode\":\"/ä\",\"acl\":\"x509:CN=\\\"a\\\\b\\\":r,x509:CN=c:r\",\
         \"result\":\"success\"}\n"
    );
}

#[test]
fn very_many_identities_do_not_fill_the_log() {
    let many: Vec<Id> =
        (0..200).map(|index| Id::new("digest", format!("user{index:03}{}:x", "y".repeat(300)))).collect();
    let line = text(&done(&many, Operation::Delete { path: path("/a") }));
    assert!(line.len() < 1400 && line.contains("user=user000") && line.contains(",...\t"), "{line}");
}

fn queue(max_bytes: usize) -> (Queue, Arc<Figures>) {
    let figures = Arc::new(Figures::default());
    (Queue::new(max_bytes, figures.clone()), figures)
}

#[test]
fn what_finds_no_room_is_counted_line_by_line_until_the_batch_is_written() {
    let (queue, figures) = queue(1000);
    let two = || Event::Ephemerals { session: SessionId(1), paths: vec!["/a".into(), "/b".into()] };
    (0..5).for_each(|_| queue.push(two()));
    let mut batch = Batch::new();
    assert!(queue.take(&mut batch));
    assert_eq!((batch.len(), figures.audit_lines_dropped.load(Relaxed)), (3, 4));
    // What is being written still takes room.
    queue.push(two());
    assert_eq!(figures.audit_lines_dropped.load(Relaxed), 6);
    queue.done(&mut batch);
    queue.push(two());
    assert_eq!(figures.audit_lines_dropped.load(Relaxed), 6);
    assert!(queue.take(&mut batch));
    assert_eq!(batch.len(), 1);
    queue.close(Duration::ZERO);
    assert!(!queue.take(&mut Batch::new()));
    queue.push(two());
    assert_eq!(figures.audit_lines_dropped.load(Relaxed), 8, "nothing comes behind the end");
}

#[test]
fn an_event_that_is_larger_than_all_room_goes_alone() {
    let (queue, figures) = queue(1000);
    let large = || done(&bob(), Operation::Delete { path: path(&"x".repeat(5000)) });
    queue.push(large());
    queue.push(large());
    assert_eq!(figures.audit_lines_dropped.load(Relaxed), 1);
}

fn settings(file: &Path, limit: u64, retained: u32) -> AuditLog {
    AuditLog {
        file: Some(file.to_owned()),
        format: AuditFormat::Text,
        file_size_limit_bytes: limit,
        file_retain_count: retained,
    }
}

fn write(destination: &mut Destination, line: &str) {
    let (written, result) = destination.write(line.as_bytes());
    assert_eq!((written, result.map_err(|error| error.kind())), (line.len(), Ok(())));
}

#[test]
fn full_files_get_numbers_and_the_oldest_goes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    fs::write(&file, "before\n").unwrap();
    let mut destination = Destination::open(&settings(&file, 20, 2)).unwrap();
    for number in 1..=9 {
        write(&mut destination, &format!("line {number}\n"));
    }
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read("audit.log.2"), "line 4\nline 5\n");
    assert_eq!(read("audit.log.1"), "line 6\nline 7\n");
    assert_eq!(read("audit.log"), "line 8\nline 9\n");
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_and_none_needs_to_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (file, moved) = (directory.path().join("audit.log"), directory.path().join("moved"));
    let mut destination = Destination::open(&settings(&file, 14, 0)).unwrap();
    write(&mut destination, "line 1\n");
    fs::rename(&file, &moved).unwrap();
    write(&mut destination, "line 2\n");
    assert_eq!(fs::read_to_string(&moved).unwrap(), "line 1\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "line 2\n");
    write(&mut destination, "line 3\n");
    write(&mut destination, "line 4\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "line 4\n");
}

#[test]
fn a_file_that_can_not_be_opened_fails_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("missing/audit.log");
    let failure = Audit::start(&settings(&file, 1000, 1), Arc::default()).unwrap_err().to_string();
    assert!(failure.contains("can't open the audit log") && failure.contains("missing/audit.log"), "{failure}");
}

/// Waits for what another thread does.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_loses_lines_and_counts_them() {
    let figures = Arc::new(Figures::default());
    let audit = Audit::start(&settings(Path::new("/dev/full"), 1000, 1), figures.clone()).unwrap();
    for _ in 0..3 {
        audit.tell(Event::started(Result::Success));
    }
    eventually("the loss is counted", || figures.audit_lines_dropped.load(Relaxed) == 3);
    assert_eq!(figures.audit_lines_written.load(Relaxed), 0);
}

#[test]
fn nobody_waits_for_a_pipe_without_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let figures = Arc::new(Figures::default());
    let audit = Audit::start(&settings(&pipe, 1000, 1), figures.clone()).unwrap();
    let event = || done(&bob(), Operation::Delete { path: path(&"x".repeat(1 << 20)) });
    (0..100).for_each(|_| audit.tell(event()));
    let dropped = figures.audit_lines_dropped.load(Relaxed);
    assert!((80..100).contains(&dropped), "16 MiB wait, the rest does not: {dropped}");
    // A reader gets what waits, and the rest is gone.
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    eventually("the pipe is read", || figures.audit_lines_written.load(Relaxed) == 100 - dropped);
    drop(AuditEnd::new(audit));
    let lines = reader.join().unwrap();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count() as u64, 100 - dropped + 1);
    assert!(lines.ends_with(b"operation=serverStop\tresult=invoked\n"));
}

#[test]
fn the_end_is_told_once_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    for (how, expected) in [
        (None, vec!["serverStart\tresult=failure"]),
        (Some(false), vec!["serverStart\tresult=success", "serverStop\tresult=invoked"]),
        (Some(true), vec!["serverStart\tresult=success", "serverStop\tresult=invoked"]),
    ] {
        let _ = fs::remove_file(&file);
        let mut end = AuditEnd::new(Audit::start(&settings(&file, 1000, 1), Arc::default()).unwrap());
        match how {
            None => end.not_started(),
            Some(is_asked) => {
                end.started();
                if is_asked {
                    end.stopping();
                }
                drop(end);
            }
        }
        let text = fs::read_to_string(&file).unwrap();
        let operations: Vec<&str> = text.lines().map(|line| line.split_once("operation=").unwrap().1).collect();
        assert_eq!(operations, expected, "{how:?}");
    }
}
