//! `rookeeper export`: reads a subtree, a few nodes at a time, and writes it in the order of a walk: parents first, children by name.
//!
//! The tree may change meanwhile, and each node is as it was when it was read: a backup of a moment is what `rookeeper backup` is for. A node that goes
//! meanwhile is left out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use zookeeper_client::{Client, Error};

use super::line::{End, Head, Node};
use super::progress::Progress;
use super::{Given, connect, given, run};
use crate::print;
use crate::shell::failure::{Failure, refused};
use crate::shell::path;
use crate::shell::walk::{Step, Walk, Want};

const USAGE: &str = "\
Usage: rookeeper export [OPTIONS] PATH

Writes the node PATH and all below it as lines of JSON: data, access control, stat. Without /zookeeper, unless PATH is in it.

Options:
  --output FILE      a file, which gets its name when it is whole [default: standard output]
  --auth-file FILE   on each line a scheme and credentials as addauth takes them: digest super:password
  and those of rookeeper cli: -server, -timeout, -r, --tls, --tls-ca, --tls-cert, --user, --password-file, ...";

/// Exit code 0: everything is written; 1: it is not.
pub(crate) fn main(arguments: &[String]) -> u8 {
    match given(arguments, &["--output"], USAGE) {
        Ok(Some(given)) => run(export(given), "export"),
        Ok(None) => 0,
        Err(usage) => {
            print::complaint(&usage);
            1
        }
    }
}

async fn export(given: Given) -> Result<bool, Failure> {
    let root = given.start.command[0].clone();
    path::validate(&root).map_err(Failure::Refused)?;
    let session = connect(&given).await?;
    let nodes = match &given.output {
        None => walk(&session.client, &root, &mut BufWriter::new(io::stdout().lock())).await?,
        Some(file) => into_file(&session.client, &root, file).await?,
    };
    session.close().await;
    print::complaint(&format_args!("{nodes} nodes were exported"));
    Ok(true)
}

async fn into_file(client: &Client, root: &str, file: &Path) -> Result<u64, Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(".unfinished");
    let unfinished = Path::new(&name);
    let mut output = BufWriter::new(File::create(unfinished)?);
    let walked = walk(client, root, &mut output).await;
    let synced = output.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    let named = walked.and_then(|nodes| {
        synced?;
        std::fs::rename(unfinished, file)?;
        Ok(nodes)
    });
    if named.is_err() {
        let _ = std::fs::remove_file(unfinished);
    }
    named
}

async fn walk(client: &Client, root: &str, output: &mut dyn Write) -> Result<u64, Failure> {
    line(output, &Head::new(root))?;
    let mut progress = Progress::new(None);
    // What the server keeps for itself is its own, and no other has the same.
    let mut walk = Walk::new(client.clone(), root, Want::All).without_system();
    let mut nodes = 0;
    while let Some(step) = walk.next().await? {
        let Step::Enter(read) = step else { continue };
        if read.is_closed {
            return Err(refused(&Error::NoAuth, &read.path));
        }
        line(output, &Node::new(read.path, read.data, &read.acl, &read.stat))?;
        nodes += 1;
        progress.tell(nodes);
    }
    progress.end();
    line(output, &End { nodes })?;
    output.flush()?;
    Ok(nodes)
}

fn line(output: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *output, value).map_err(io::Error::from)?;
    Ok(output.write_all(b"\n")?)
}
