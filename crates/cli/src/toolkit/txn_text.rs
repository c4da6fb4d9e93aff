//! A transaction of the log as one line of text, as the original's tool writes it.
//!
//! Counterpart in the original: `TxnLogToolkit.printTxn`, `Request.op2String`, and the text form of jute's records.

use jiff::tz::TimeZone;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, Txn, TxnRecord};

use crate::java;

/// The line, without a prefix and without its end. A body that makes no sense is told as such.
pub fn line(body: &[u8], zone: &TimeZone) -> Result<String, String> {
    let record = TxnRecord::decode(body).map_err(|error| match TxnRecord::decode_header(body) {
        Ok(header) => format!("the transaction with zxid 0x{:x} makes no sense: {error}", header.zxid.0),
        Err(_) => format!("a transaction makes no sense: {error}"),
    })?;
    let header = &record.header;
    let text = format!(
        "{} session 0x{:x} cxid 0x{:x} zxid 0x{:x} {} {}",
        java::short_date(header.time_ms, zone),
        header.session.0,
        header.cxid,
        header.zxid.0,
        kind(&record.txn),
        details(&record.txn)
    );
    Ok(text)
}

/// The name of its type.
fn kind(txn: &Txn) -> &'static str {
    match txn {
        Txn::Create(CreateTxn { kind: CreateKind::Node { with_stat: false, .. }, .. }) => "create",
        Txn::Create(CreateTxn { kind: CreateKind::Node { with_stat: true, .. }, .. }) => "create2",
        Txn::Create(CreateTxn { kind: CreateKind::Container, .. }) => "createContainer",
        Txn::Create(CreateTxn { kind: CreateKind::Ttl { .. }, .. }) => "createTTL",
        Txn::Delete { .. } => "delete",
        Txn::DeleteContainer { .. } => "deleteContainer",
        Txn::SetData { .. } => "setData",
        Txn::Reconfig { .. } => "reconfig",
        Txn::SetAcl { .. } => "setACL",
        Txn::CreateSession { .. } => "createSession",
        Txn::CloseSession { .. } => "closeSession",
        Txn::Error { .. } => "error",
        Txn::Multi(_) => "multi",
        Txn::Check { .. } => "check",
    }
}

fn details(txn: &Txn) -> String {
    match txn {
        Txn::Create(create) => {
            let CreateTxn { path, data, acl, kind, parent_cversion } = create;
            let start = format!("{path},{},{}", text(data.as_deref()), list(acl.as_deref()));
            match kind {
                CreateKind::Node { ephemeral, .. } => format!("{start},{ephemeral},{parent_cversion}"),
                CreateKind::Container => format!("{start},{parent_cversion}"),
                CreateKind::Ttl { ttl_ms } => format!("{start},{parent_cversion},{ttl_ms}"),
            }
        }
        // The original has no form of its own for the delete of a container or TTL node, and before it none for that of any node.
        Txn::Delete { path } | Txn::DeleteContainer { path } => format!("'{}", java::escaped(path)),
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            format!("{path},{},{version}", text(data.as_deref()))
        }
        Txn::SetAcl { path, acl, version } => {
            let entries: Vec<String> =
                acl.iter().flatten().map(|entry| format!("s{{{}}}", entry_text(entry))).collect();
            format!("'{},v{{{}}},{version}", java::escaped(path), entries.join(","))
        }
        Txn::CreateSession { timeout_ms } => timeout_ms.to_string(),
        Txn::CloseSession { paths: None } => String::new(),
        Txn::CloseSession { paths: Some(paths) } => {
            let paths: Vec<String> = paths.iter().map(|path| format!("'{}", java::escaped(path))).collect();
            format!("v{{{}}}", paths.join(","))
        }
        Txn::Error { code } => code.to_string(),
        Txn::Multi(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|member| {
                    // The original prints the bytes of the records as if they were text.
                    let mut bytes = Vec::new();
                    member.append(&mut bytes);
                    format!("{}:{}", kind(member), String::from_utf8_lossy(&bytes))
                })
                .collect();
            members.join(";")
        }
        Txn::Check { path, version } => format!("'{},{version}", java::escaped(path)),
    }
}

fn text(data: Option<&[u8]>) -> String {
    String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
}

/// Java's text of a list of records, each of which ends its line.
fn list(acl: Option<&[Acl]>) -> String {
    match acl {
        None => "null".to_owned(),
        Some(acl) => {
            let entries: Vec<String> = acl.iter().map(|entry| format!("{}\n", entry_text(entry))).collect();
            format!("[{}]", entries.join(", "))
        }
    }
}

fn entry_text(entry: &Acl) -> String {
    let Acl { permissions, id } = entry;
    format!("{},s{{'{},'{}}}", permissions.0, java::escaped(&id.scheme), java::escaped(&id.id))
}
