//! The commands about nodes: ls, get, set, create, delete, deleteall, stat, sync and the counts.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, Stat};

use super::commands::JSON;
use super::event::Manner;
use super::failure::{Failure, keeper_message, refused};
use super::options::Arguments;
use super::watches::Kind;
use super::{Shell, access, format, path};

const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
const DELETE_BATCH: i32 = 1_000;
/// Keeps a batch of long paths well under the megabyte a server takes by default.
const DELETE_BATCH_BYTES_LIMIT: usize = 512 * 1024;
const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

/// Under a chroot `/` is a node like any other, that the client library only creates and deletes by its whole path.
pub(crate) fn whole_path(client: Client, path: &str) -> (Client, String) {
    let chroot = client.path().to_owned();
    if path != "/" || chroot == "/" {
        return (client, path.to_owned());
    }
    match client.chroot("/") {
        Ok(client) => (client, chroot),
        Err(client) => (client, path.to_owned()),
    }
}

impl Shell {
    fn print_stat(&self, stat: &Stat) -> Result<(), Failure> {
        Ok(self.output.line(&format::stat(stat, &self.zone))?)
    }

    /// `get path watch`, as it was written before there were options.
    fn accept_old_watch_word(&self, command: &str, usage: &str, arguments: &mut Arguments) -> Result<(), Failure> {
        if arguments.words.len() > 1 {
            self.output.complain(&format!(
                "'{command} path [watch]' has been deprecated. Please use '{command} {usage} path' instead."
            ))?;
            arguments.words.truncate(1);
            arguments.set_flag("w");
        }
        Ok(())
    }
}

pub(crate) async fn list(shell: &mut Shell, mut arguments: Arguments) -> Result<(), Failure> {
    shell.accept_old_watch_word("ls", "[-w]", &mut arguments)?;
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let watch = arguments.has("w");
    if arguments.has("R") {
        return list_recursively(shell, path, watch, arguments.has(JSON)).await;
    }
    let client = shell.client()?;
    let no = |error: Error| refused(&error, path);
    let (mut children, stat) = match (arguments.has("s") || arguments.has(JSON), watch) {
        (false, false) => (client.list_children(path).await.map_err(no)?, None),
        (true, false) => client.get_children(path).await.map(|(children, stat)| (children, Some(stat))).map_err(no)?,
        (false, true) => {
            let (children, watcher) = client.list_and_watch_children(path).await.map_err(no)?;
            shell.watches.add_once(Kind::Child, path, watcher);
            (children, None)
        }
        (true, true) => {
            let (children, stat, watcher) = client.get_and_watch_children(path).await.map_err(no)?;
            shell.watches.add_once(Kind::Child, path, watcher);
            (children, Some(stat))
        }
    };
    children.sort_unstable();
    if let Some(stat) = stat.as_ref().filter(|_| arguments.has(JSON)) {
        return Ok(shell.output.json(&json!({"path": path, "children": children, "stat": format::stat_json(stat)}))?);
    }
    shell.output.line(&format::list(&children))?;
    stat.map_or(Ok(()), |stat| shell.print_stat(&stat))
}

/// Prints every node of the subtree: the children of a node together, then those of each child.
async fn list_recursively(shell: &mut Shell, root: &str, watch: bool, as_json: bool) -> Result<(), Failure> {
    let client = shell.client()?;
    let print = |shell: &Shell, path: &str| match as_json {
        true => shell.output.json(&json!({"path": path})),
        false => shell.output.line(path),
    };
    let no = |error: Error| refused(&error, root);
    if watch {
        let (_, _, watcher) = client.get_and_watch_data(root).await.map_err(no)?;
        shell.watches.add_once(Kind::Data, root, watcher);
    } else {
        client.get_data(root).await.map_err(no)?;
    }
    print(shell, root)?;
    let mut waiting = vec![root.to_owned()];
    while let Some(parent) = waiting.pop() {
        let listed = if watch {
            client.list_and_watch_children(&parent).await.map(|(children, watcher)| {
                shell.watches.add_once(Kind::Child, &parent, watcher);
                children
            })
        } else {
            client.list_children(&parent).await
        };
        let mut children = match listed {
            Ok(children) => children,
            // The node was deleted after its parent was listed.
            Err(Error::NoNode) => continue,
            Err(error) => return Err(refused(&error, &parent)),
        };
        children.sort_unstable();
        for child in &children {
            print(shell, &path::join(&parent, child))?;
        }
        shell.output.ready().await;
        waiting.extend(children.iter().rev().map(|child| path::join(&parent, child)));
    }
    Ok(())
}

pub(crate) async fn get(shell: &mut Shell, mut arguments: Arguments) -> Result<(), Failure> {
    shell.accept_old_watch_word("get", "[-s] [-w]", &mut arguments)?;
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let client = shell.client()?;
    let (data, stat) = if arguments.has("w") {
        let (data, stat, watcher) = client.get_and_watch_data(path).await.map_err(|error| refused(&error, path))?;
        shell.watches.add_once(Kind::Data, path, watcher);
        (data, stat)
    } else {
        client.get_data(path).await.map_err(|error| refused(&error, path))?
    };
    if arguments.has(JSON) {
        return Ok(shell.output.json(&format::data_json(path, &data, &stat))?);
    }
    if arguments.has("x") || arguments.has("-hex") {
        shell.output.line(&format::hex_dump(&data))?;
    } else if arguments.has("-pretty") {
        match format::pretty(&data) {
            Ok(text) => shell.output.data(text.as_bytes())?,
            Err(reason) => {
                shell
                    .output
                    .complain(&format!("The data of {path} are no JSON ({reason}); here they are as they are."))?;
                shell.output.data(&data)?;
            }
        }
    } else if arguments.has("b") {
        shell.output.line(&BASE64.encode(&data))?;
    } else {
        shell.output.data(&data)?;
    }
    if arguments.has("s") { shell.print_stat(&stat) } else { Ok(()) }
}

pub(crate) async fn set(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let (path, text) = (arguments.words[0].as_str(), &arguments.words[1]);
    let data = if arguments.has("b") {
        BASE64.decode(text).map_err(|error| Failure::Refused(format!("data is not base64: {error}")))?
    } else {
        text.clone().into_bytes()
    };
    let version = arguments.version()?;
    shell.check_path(path)?;
    let stat = shell.client()?.set_data(path, &data, version).await.map_err(|error| refused(&error, path))?;
    if arguments.has(JSON) {
        return Ok(shell.output.json(&json!({"path": path, "stat": format::stat_json(&stat)}))?);
    }
    if arguments.has("s") { shell.print_stat(&stat) } else { Ok(()) }
}

pub(crate) async fn create(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    let sequential = arguments.has("s");
    let (mode, ttl) = create_mode(&arguments).map_err(Failure::Refused)?;
    let data = arguments.words.get(1).map_or(&[][..], |data| data.as_bytes());
    let acl = match arguments.words.get(2) {
        Some(text) => Some(access::parse_acl(text, &shell.output)?),
        None => None,
    };
    let acls = acl.as_deref().map_or(Acls::anyone_all(), Acls::new);
    let mut options: CreateOptions<'_> = mode.with_acls(acls);
    if let Some(ttl) = ttl {
        options = options.with_ttl(ttl);
    }
    if sequential { path::validate_sequential(path) } else { path::validate(path) }.map_err(Failure::Refused)?;
    let (client, whole) = whole_path(shell.client()?, path);
    if whole == "/" && !sequential {
        return Err(refused(&Error::NodeExists, path));
    }
    match client.create(&whole, data, &options).await {
        Ok((_, sequence)) => {
            let created = if sequential { format!("{path}{sequence}") } else { path.to_owned() };
            if arguments.has(JSON) {
                shell.output.json(&json!({"path": created}))?;
            } else if shell.output.manner() == Manner::Quiet && sequential {
                // The name that the server chose is a result.
                shell.output.line(&created)?;
            } else if shell.output.manner() != Manner::Quiet {
                shell.output.complain(&format!("Created {created}"))?;
            }
        }
        Err(error) => {
            match error {
                Error::InvalidAcl => shell.output.complain(&keeper_message(&error, path))?,
                Error::UnexpectedErrorCode(-120) => {
                    shell.output.complain("Unable to create ephemeral node on a local session")?;
                }
                _ => {}
            }
            return Err(refused(&error, path));
        }
    }
    Ok(())
}

fn create_mode(arguments: &Arguments) -> Result<(CreateMode, Option<Duration>), String> {
    let (ephemeral, sequential) = (arguments.has("e"), arguments.has("s"));
    let container = arguments.has("c");
    if container && (ephemeral || sequential) {
        let text = "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.";
        return Err(text.to_owned());
    }
    let ttl_ms = match arguments.value("t").map(str::parse::<i64>) {
        None => None,
        Some(Ok(milliseconds)) => Some(milliseconds),
        Some(Err(_)) => return Err("-t argument must be a long value".to_owned()),
    };
    if ttl_ms.is_some() && ephemeral {
        return Err("TTLs cannot be used with Ephemeral znodes".to_owned());
    }
    if ttl_ms.is_some() && container {
        return Err("TTLs cannot be used with Container znodes".to_owned());
    }
    if ttl_ms.is_some_and(|ttl| !(1..=TTL_MAX_MS).contains(&ttl)) {
        return Err(format!("ttl must be positive and cannot be larger than: {TTL_MAX_MS}"));
    }
    let mode = match (ephemeral, sequential, container) {
        (true, true, _) => CreateMode::EphemeralSequential,
        (true, false, _) => CreateMode::Ephemeral,
        (false, true, _) => CreateMode::PersistentSequential,
        (false, false, true) => CreateMode::Container,
        (false, false, false) => CreateMode::Persistent,
    };
    Ok((mode, ttl_ms.map(|ttl| Duration::from_millis(ttl.unsigned_abs()))))
}

pub(crate) async fn delete(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    if arguments.words.len() > 1 {
        shell
            .output
            .complain("'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.")?;
    }
    let path = arguments.words[0].as_str();
    let version = arguments.version()?;
    shell.check_path(path)?;
    let (client, whole) = whole_path(shell.client()?, path);
    client.delete(&whole, version).await.map_err(|error| refused(&error, path))
}

pub(crate) async fn delete_all(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let root = arguments.words[0].as_str();
    let batch = match arguments.value("b").map(str::parse::<i32>) {
        None => DELETE_BATCH,
        Some(Ok(batch)) => batch,
        Some(Err(_)) => return Err(Failure::Refused("-b argument must be an int value".to_owned())),
    };
    shell.check_path(root)?;
    let (client, root) = whole_path(shell.client()?, root);
    let tree = subtree(&client, &root).await?;
    if arguments.has("-dry-run") {
        for path in tree.iter().rev() {
            shell.output.line(path)?;
        }
        return Ok(shell.output.complain(&format!("Would delete {} nodes; nothing was done", tree.len()))?);
    }
    if batch <= 0 {
        // Leaves first, the root last.
        for path in tree.iter().rev() {
            client.delete(path, None).await.map_err(|error| refused(&error, path))?;
        }
        return Ok(());
    }
    if delete_in_batches(&client, &tree, batch.unsigned_abs() as usize).await.is_err() {
        shell.output.complain("Failed to delete some node(s) in the subtree!")?;
    }
    Ok(())
}

/// Every path of the subtree, parents before children.
async fn subtree(client: &Client, root: &str) -> Result<Vec<String>, Failure> {
    let mut tree = vec![root.to_owned()];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next].clone();
        let children = client.list_children(&parent).await.map_err(|error| refused(&error, &parent))?;
        tree.extend(children.iter().map(|child| path::join(&parent, child)));
        next += 1;
    }
    Ok(tree)
}

async fn delete_in_batches(client: &Client, tree: &[String], batch: usize) -> Result<(), Error> {
    let mut writer = client.new_multi_writer();
    let (mut operations, mut bytes) = (0, 0);
    for path in tree.iter().rev() {
        if operations == batch || bytes + path.len() > DELETE_BATCH_BYTES_LIMIT {
            writer.commit().await?;
            (operations, bytes) = (0, 0);
        }
        writer.add_delete(path, None)?;
        operations += 1;
        bytes += path.len() + 16;
    }
    writer.commit().await?;
    Ok(())
}

pub(crate) async fn stat(shell: &mut Shell, mut arguments: Arguments) -> Result<(), Failure> {
    shell.accept_old_watch_word("stat", "[-w]", &mut arguments)?;
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let client = shell.client()?;
    let stat = if arguments.has("w") {
        let (stat, watcher) = client.check_and_watch_stat(path).await.map_err(|error| refused(&error, path))?;
        shell.watches.add_once(Kind::Data, path, watcher);
        stat
    } else {
        client.check_stat(path).await.map_err(|error| refused(&error, path))?
    };
    match stat {
        Some(stat) if arguments.has(JSON) => {
            Ok(shell.output.json(&json!({"path": path, "stat": format::stat_json(&stat)}))?)
        }
        Some(stat) => shell.print_stat(&stat),
        None => Err(refused(&Error::NoNode, path)),
    }
}

pub(crate) async fn sync(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    match tokio::time::timeout(SYNC_TIMEOUT, shell.client()?.sync(path)).await {
        Ok(Ok(())) if arguments.has(JSON) => Ok(shell.output.json(&json!({"path": path, "synced": true}))?),
        Ok(Ok(())) => Ok(shell.output.line("Sync is OK")?),
        Ok(Err(error)) => Err(Failure::Refused(format!("Sync has failed. {}", keeper_message(&error, path)))),
        Err(_) => Err(Failure::Refused(format!("Sync has failed: no answer within {} s", SYNC_TIMEOUT.as_secs()))),
    }
}

pub(crate) async fn count_descendants(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words[0].as_str();
    shell.check_path(path)?;
    let count = shell.client()?.count_descendants_number(path).await.map_err(|error| refused(&error, path))?;
    if arguments.has(JSON) {
        return Ok(shell.output.json(&json!({"path": path, "descendants": count}))?);
    }
    Ok(shell.output.line(&count.to_string())?)
}

pub(crate) async fn ephemerals(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.words.first().map_or("/", String::as_str);
    shell.check_path(path)?;
    let paths = shell.client()?.list_ephemerals(path).await.map_err(|error| refused(&error, path))?;
    if arguments.has(JSON) {
        return Ok(shell.output.json(&json!({"ephemerals": paths}))?);
    }
    Ok(shell.output.line(&format::list(&paths))?)
}

#[cfg(test)]
mod tests {
    use super::super::options::{self, Choice, flag, value};
    use super::*;

    fn mode(line: &str) -> Result<(CreateMode, Option<Duration>), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        create_mode(&options::parse(&words, &[flag("s"), flag("e"), flag("c"), value("t")], Choice::Any).unwrap())
    }

    #[test]
    fn create_modes() {
        assert_eq!(mode(""), Ok((CreateMode::Persistent, None)));
        assert_eq!(mode("-e -s"), Ok((CreateMode::EphemeralSequential, None)));
        assert_eq!(mode("-c"), Ok((CreateMode::Container, None)));
        assert_eq!(mode("-s -t 5"), Ok((CreateMode::PersistentSequential, Some(Duration::from_millis(5)))));
    }

    #[test]
    fn impossible_modes_are_explained() {
        for (line, part) in [
            ("-c -s", "-c cannot be combined"),
            ("-t x", "-t argument must be a long"),
            ("-t 5 -e", "Ephemeral znodes"),
            ("-t 5 -c", "Container znodes"),
            ("-t 0", "ttl must be positive"),
            ("-t 1099511627776", "larger than: 1099511627775"),
        ] {
            let refusal = mode(line).expect_err(line);
            assert!(refusal.contains(part), "{line}: {refusal}");
        }
    }
}
