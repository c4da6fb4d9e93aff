//! What becomes of each request: the table of opcodes in COMPAT.md. The tables of keys, metrics and words are made where those stand.

use std::fmt::Write as _;

use rookeeper_proto::OpCode;

/// The section of COMPAT.md about requests, in Markdown: a line for each kind of answer.
pub fn requests_table() -> String {
    let mut lines: Vec<(Vec<OpCode>, &str)> = Vec::new();
    for op in OpCode::ALL {
        let Some(status) = status(*op) else { continue };
        match lines.iter_mut().find(|(_, other)| *other == status) {
            Some((ops, _)) => ops.push(*op),
            None => lines.push((vec![*op], status)),
        }
    }
    let mut text = String::from("| opcode | request | status |\n| --- | --- | --- |\n");
    for (ops, status) in lines {
        let numbers: Vec<String> = ops.iter().map(|op| op.number().to_string()).collect();
        let names: Vec<&str> = ops.iter().map(|op| name(*op)).collect();
        let _ = writeln!(text, "| {} | {} | {status} |", numbers.join(", "), names.join(", "));
    }
    text
}

const AS_THE_ORIGINAL: &str = "as the original";

/// None for what is no request.
fn status(op: OpCode) -> Option<&'static str> {
    Some(match op {
        OpCode::Create
        | OpCode::Create2
        | OpCode::CreateContainer
        | OpCode::Delete
        | OpCode::Exists
        | OpCode::GetData
        | OpCode::SetData
        | OpCode::GetAcl
        | OpCode::SetAcl
        | OpCode::GetChildren
        | OpCode::GetChildren2
        | OpCode::Ping
        | OpCode::Multi
        | OpCode::MultiRead
        | OpCode::CheckWatches
        | OpCode::RemoveWatches
        | OpCode::AddWatch
        | OpCode::GetEphemerals
        | OpCode::GetAllChildrenNumber
        | OpCode::WhoAmI
        | OpCode::CloseSession => AS_THE_ORIGINAL,
        OpCode::CreateTtl => "as the original; needs `extendedTypesEnabled=true`",
        OpCode::Sync => "as the original; in an ensemble stricter, see below",
        OpCode::Check => "inside a multi; elsewhere an unknown opcode, as in the original",
        OpCode::Reconfig => "as the original; a standalone server refuses it as a standalone original does",
        OpCode::DeleteContainer | OpCode::CreateSession => {
            "from a client an unknown opcode: stricter than the original"
        }
        OpCode::Auth => "schemes digest, ip, ensemble",
        OpCode::SetWatches | OpCode::SetWatches2 => "as the original; permissions: stricter than the original",
        OpCode::Sasl => "as the original, by DIGEST-MD5 and GSSAPI (Kerberos)",
        OpCode::Notification | OpCode::Error => return None,
    })
}

/// As the original's documents write it.
fn name(op: OpCode) -> &'static str {
    match op {
        OpCode::Notification => "notification",
        OpCode::Create => "create",
        OpCode::Delete => "delete",
        OpCode::Exists => "exists",
        OpCode::GetData => "getData",
        OpCode::SetData => "setData",
        OpCode::GetAcl => "getACL",
        OpCode::SetAcl => "setACL",
        OpCode::GetChildren => "getChildren",
        OpCode::Sync => "sync",
        OpCode::Ping => "ping",
        OpCode::GetChildren2 => "getChildren2",
        OpCode::Check => "check",
        OpCode::Multi => "multi",
        OpCode::Create2 => "create2",
        OpCode::Reconfig => "reconfig",
        OpCode::CheckWatches => "checkWatches",
        OpCode::RemoveWatches => "removeWatches",
        OpCode::CreateContainer => "createContainer",
        OpCode::DeleteContainer => "deleteContainer",
        OpCode::CreateTtl => "createTTL",
        OpCode::MultiRead => "multiRead",
        OpCode::Auth => "auth",
        OpCode::SetWatches => "setWatches",
        OpCode::Sasl => "sasl",
        OpCode::GetEphemerals => "getEphemerals",
        OpCode::GetAllChildrenNumber => "getAllChildrenNumber",
        OpCode::SetWatches2 => "setWatches2",
        OpCode::AddWatch => "addWatch",
        OpCode::WhoAmI => "whoAmI",
        OpCode::CreateSession => "createSession",
        OpCode::CloseSession => "closeSession",
        OpCode::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_unknown_is_what_clients_are_refused() {
        for op in OpCode::ALL {
            let is_refused = status(*op).is_none_or(|status| status.contains("unknown opcode"));
            assert_eq!(is_refused, !op.is_client_request(), "{op:?}");
        }
    }
}
