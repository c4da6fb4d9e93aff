//! The commands about who may do what: addauth, whoami, getAcl, setAcl.

use serde_json::json;
use zookeeper_client::{Acl, AuthId, AuthUser, Error, Permission};

use super::commands::JSON;
use super::failure::{Failure, keeper_message, refused};
use super::options::Arguments;
use super::output::Output;
use super::{Shell, format, path};

pub(crate) async fn add_auth(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let scheme = arguments.words[0].as_str();
    let auth = arguments.words.get(1).map_or(&[][..], |auth| auth.as_bytes());
    shell.client()?.auth(scheme, auth).await.map_err(|error| refused(&error, ""))
}

pub(crate) async fn who_am_i(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let users = shell.client()?.list_auth_users().await.map_err(|error| refused(&error, ""))?;
    if arguments.has(JSON) {
        let user = |user: &AuthUser| json!({"scheme": user.scheme(), "user": user.user()});
        return Ok(shell.output.json(&json!({"users": users.iter().map(user).collect::<Vec<_>>()}))?);
    }
    shell.output.line("Auth scheme: User")?;
    for user in users {
        shell.output.line(&format!("{}: {}", user.scheme(), user.user()))?;
    }
    Ok(())
}

pub(crate) async fn acl(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let (acl, stat) = shell.client()?.get_acl(path).await.map_err(|error| refused(&error, path))?;
    if arguments.has(JSON) {
        let entries: Vec<_> = acl.iter().map(format::acl_json).collect();
        return Ok(shell.output.json(&json!({"path": path, "acl": entries, "stat": format::stat_json(&stat)}))?);
    }
    for entry in &acl {
        shell.output.line(&format::acl(entry))?;
    }
    if arguments.has("s") {
        shell.output.line(&format::stat(&stat, &shell.zone))?;
    }
    Ok(())
}

pub(crate) async fn set_acl(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    let acl = parse_acl(&arguments.words[1], &shell.output)?;
    let version = arguments.version()?;
    shell.check_path(path)?;
    if arguments.has("R") {
        return set_acl_recursively(shell, path, &acl, version).await;
    }
    let stat = shell.client()?.set_acl(path, &acl, version).await.map_err(|error| refused(&error, path))?;
    if arguments.has("s") {
        shell.output.line(&format::stat(&stat, &shell.zone))?;
    }
    Ok(())
}

/// A node that refuses is named and the others go on; only the subtree's root must be readable.
async fn set_acl_recursively(shell: &mut Shell, root: &str, acl: &[Acl], version: Option<i32>) -> Result<(), Failure> {
    let client = shell.client()?;
    client.get_data(root).await.map_err(|error| refused(&error, root))?;
    let mut waiting = vec![root.to_owned()];
    while let Some(node) = waiting.pop() {
        if let Err(error) = client.set_acl(&node, acl, version).await {
            shell.output.line(&keeper_message(&error, &node))?;
        }
        match client.list_children(&node).await {
            Ok(children) => waiting.extend(children.iter().map(|child| path::join(&node, child))),
            Err(Error::NoNode) => {}
            Err(error) => return Err(refused(&error, &node)),
        }
    }
    Ok(())
}

/// `scheme:id:perms,…`. What cannot be read is named and left out, as the original does; the server refuses an empty list.
pub(crate) fn parse_acl(text: &str, output: &Output) -> Result<Vec<Acl>, Failure> {
    let mut acl = Vec::new();
    for entry in text.split(',') {
        // The id may hold colons itself: `digest:bob:hash=:r`.
        let parts = entry
            .split_once(':')
            .and_then(|(scheme, rest)| rest.rsplit_once(':').map(|(id, perms)| (scheme, id, perms)));
        let Some((scheme, id, letters)) = parts else {
            output.complain(&format!("{entry} does not have the form scheme:id:perm"))?;
            continue;
        };
        let mut permission = Permission::NONE;
        for letter in letters.chars() {
            match format::LETTERS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) => permission = permission | *bit,
                None => output.complain(&format!("Unknown perm type: {letter}"))?,
            }
        }
        acl.push(Acl::new(permission, AuthId::new(scheme, id)));
    }
    Ok(acl)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let output = Output::new(Box::new(io::sink()), Box::new(io::sink()));
        parse_acl(text, &output).unwrap().iter().map(format::acl).collect()
    }

    #[test]
    fn acl_lists() {
        assert_eq!(parsed("world:anyone:crdwa"), ["'world,'anyone\n: cdrwa"]);
        assert_eq!(parsed("auth::r,digest:bob:x+y=:cw"), ["'auth,'\n: r", "'digest,'bob:x+y=\n: cw"]);
        assert_eq!(parsed("ip:::1:r"), ["'ip,'::1\n: r"]);
    }

    #[test]
    fn unreadable_entries_are_left_out() {
        assert_eq!(parsed("world:anyone,world:anyone:rx"), ["'world,'anyone\n: r"]);
        assert!(parsed("").is_empty());
    }
}
