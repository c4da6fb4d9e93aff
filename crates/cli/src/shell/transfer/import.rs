//! `rookeeper import`: makes the nodes of an export, or says what it would do.
//!
//! The whole text is read and judged before anything is written. Nodes that are there as they should be are left alone, so that an import which was
//! broken off is simply begun again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tokio::task::JoinHandle;
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error};

use super::line::{Entry, Lines, Node};
use super::progress::Progress;
use super::{Given, WINDOW, connect, given, run};
use crate::print;
use crate::shell::failure::{Failure, refused};
use crate::shell::nodes::whole_path;
use crate::shell::path;

const USAGE: &str = "\
Usage: rookeeper import [OPTIONS] FILE

Makes the nodes that rookeeper export has written, with their data and access control. Ephemeral nodes are left out, for their sessions are not here.
A node that is there with other data or access control stays as it is and makes the exit code 1.

Options:
  --dry-run          say what would be done, and do nothing
  --overwrite        give nodes that are there the data and access control of the export
  --auth-file FILE   on each line a scheme and credentials as addauth takes them: digest super:password
  and those of rookeeper cli: -server, -timeout, --tls, --tls-ca, --tls-cert, --user, --password-file, ...";

/// Nodes that are named of those that differ or fail; the others are counted.
const NAMED: u64 = 20;

/// Exit code 0: everything is there as exported; 1: something is not.
pub(crate) fn main(arguments: &[String]) -> u8 {
    match given(arguments, &["--dry-run", "--overwrite"], USAGE) {
        Ok(Some(given)) => run(import(given), "import"),
        Ok(None) => 0,
        Err(usage) => {
            print::complaint(&usage);
            1
        }
    }
}

/// What became of the nodes.
#[derive(Debug, Default)]
struct Done {
    created: u64,
    changed: u64,
    unchanged: u64,
    ephemeral: u64,
    differ: u64,
    failed: u64,
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Changed,
    Unchanged,
    Differs,
}

async fn import(given: Given) -> Result<bool, Failure> {
    let file = Path::new(&given.start.command[0]);
    let wrong = |problem: String| Failure::Refused(format!("{}: {problem}", file.display()));
    let total = judge(file).map_err(wrong)?;
    let (is_dry, overwrites) = (given.flags.contains(&"--dry-run"), given.flags.contains(&"--overwrite"));
    let session = connect(&given).await?;
    let (_, mut lines) = Lines::open(BufReader::new(File::open(file)?)).map_err(wrong)?;
    let (mut done, mut progress, mut seen) = (Done::default(), Progress::new(Some(total)), 0);
    let mut making = VecDeque::<(String, JoinHandle<Result<Outcome, Failure>>)>::new();
    loop {
        let next = if making.len() < WINDOW { lines.next_node().map_err(wrong)? } else { None };
        match next {
            Some(node) if node.is_ephemeral() => {
                done.ephemeral += 1;
                seen += 1;
            }
            Some(node) => {
                let client = session.client.clone();
                // Requests of one session are carried out in their order, so parents are there before their children.
                making.push_back((node.path.clone(), tokio::spawn(make(client, node, is_dry, overwrites))));
            }
            None => {
                let Some((path, made)) = making.pop_front() else { break };
                let outcome = made.await.map_err(|error| Failure::Refused(error.to_string()))?;
                done.note(&path, outcome);
                seen += 1;
            }
        }
        progress.tell(seen);
    }
    progress.end();
    session.close().await;
    let Done { created, changed, unchanged, ephemeral, differ, failed } = done;
    let would = if is_dry { "nothing was done; would be " } else { "" };
    print::complaint(&format_args!(
        "{would}created: {created}, changed: {changed}; left as they are: {unchanged}; ephemeral, left out: {ephemeral}; other than exported: \
         {differ}; failed: {failed}"
    ));
    Ok(differ + failed == 0)
}

/// Reads everything. Returns how many nodes there are.
fn judge(file: &Path) -> Result<u64, String> {
    let input = BufReader::new(File::open(file).map_err(|error| error.to_string())?);
    let (_, mut lines) = Lines::open(input)?;
    let mut nodes = 0;
    while let Some(node) = lines.next_node()? {
        path::validate(&node.path)?;
        node.data()?;
        node.acl()?;
        nodes += 1;
    }
    Ok(nodes)
}

impl Done {
    fn note(&mut self, path: &str, outcome: Result<Outcome, Failure>) {
        match outcome {
            Ok(Outcome::Created) => self.created += 1,
            Ok(Outcome::Changed) => self.changed += 1,
            Ok(Outcome::Unchanged) => self.unchanged += 1,
            Ok(Outcome::Differs) => {
                self.differ += 1;
                if self.differ <= NAMED {
                    print::complaint(&format_args!(
                        "{path} is there with other data or access control: --overwrite changes it"
                    ));
                }
            }
            Err(failure) => {
                self.failed += 1;
                if self.failed <= NAMED {
                    print::complaint(&failure);
                }
            }
        }
    }
}

async fn make(client: Client, node: Node, is_dry: bool, overwrites: bool) -> Result<Outcome, Failure> {
    let (data, acl) = (node.data().map_err(Failure::Refused)?, node.acl().map_err(Failure::Refused)?);
    let (client, whole) = whole_path(client, &node.path);
    if !is_dry && whole != "/" {
        let options = CreateMode::Persistent.with_acls(Acls::new(&acl));
        match client.create(&whole, &data, &options).await {
            Ok(_) => return Ok(Outcome::Created),
            Err(Error::NodeExists) => {}
            Err(Error::NoNode) => {
                let parent = whole.rsplit_once('/').map_or("/", |(parent, _)| parent);
                return Err(Failure::Refused(format!(
                    "{}: its parent {parent} is not there: create it first",
                    node.path
                )));
            }
            Err(error) => return Err(refused(&error, &node.path)),
        }
    }
    change(&client, &whole, &node, &data, &acl, is_dry, overwrites).await
}

/// What is to be done about a node that is there.
async fn change(
    client: &Client,
    whole: &str,
    node: &Node,
    data: &[u8],
    acl: &[Acl],
    is_dry: bool,
    overwrites: bool,
) -> Result<Outcome, Failure> {
    let no = |error: Error| refused(&error, &node.path);
    let (found, found_acl) = match tokio::try_join!(client.get_data(whole), client.get_acl(whole)) {
        Ok(((data, _), (acl, _))) => (data, acl),
        Err(Error::NoNode) if is_dry => return Ok(Outcome::Created),
        Err(error) => return Err(no(error)),
    };
    let has_acl = found_acl.iter().map(Entry::of).collect::<Vec<_>>() == node.acl;
    match (found == data && has_acl, overwrites) {
        (true, _) => return Ok(Outcome::Unchanged),
        (false, false) => return Ok(Outcome::Differs),
        (false, true) => {}
    }
    if !is_dry {
        if found != data {
            client.set_data(whole, data, None).await.map_err(no)?;
        }
        if !has_acl {
            client.set_acl(whole, acl, None).await.map_err(no)?;
        }
    }
    Ok(Outcome::Changed)
}
