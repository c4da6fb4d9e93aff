//! cp and mv: a node, or a subtree, under another path.
//!
//! What always holds: nothing is overwritten; what fits one transaction is done whole or not at all, and what does not is said before it begins;
//! mv deletes nothing that is not at its new place as it was when it was deleted. A copy is made of new nodes: versions, times and zxids
//! begin anew, and so do the numbers of sequential children. No server tells which nodes are containers or have a time to live, so all are
//! persistent that are made.

use std::sync::Arc;

use serde_json::json;
use zookeeper_client::{Acl, Client, Error};

use super::Shell;
use super::batch::{Batch, Cost};
use super::commands::JSON;
use super::event::Manner;
use super::failure::{Failure, refused};
use super::options::Arguments;
use super::output::Output;
use super::walk::{Node, Step, Walk, Want, session_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Copy,
    Move,
}

/// What there is to do, found by looking at all of it first.
#[derive(Debug, Default)]
struct Plan {
    nodes: u64,
    bytes: u64,
    cost: Cost,
    /// Of sessions, so that no other session can have them.
    ephemeral: u64,
    first_ephemeral: Option<String>,
    /// Of the root, where it is copied alone.
    children_left: i32,
}

struct Job {
    act: Act,
    client: Client,
    output: Arc<Output>,
    from: String,
    to: String,
    with_children: bool,
}

pub(crate) async fn copy(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    run(shell, &arguments, Act::Copy).await
}

pub(crate) async fn rename(shell: &mut Shell, arguments: Arguments) -> Result<(), Failure> {
    run(shell, &arguments, Act::Move).await
}

async fn run(shell: &mut Shell, arguments: &Arguments, act: Act) -> Result<(), Failure> {
    let [from, to] = [&arguments.words[0], &arguments.words[1]];
    shell.check_path(from)?;
    shell.check_path(to)?;
    let job = Job {
        act,
        client: shell.client()?,
        output: Arc::clone(&shell.output),
        from: from.clone(),
        to: to.clone(),
        with_children: act == Act::Move || arguments.has("r"),
    };
    job.check_places().await?;
    let is_dry = arguments.has("-dry-run");
    let plan = job.plan(is_dry).await?;
    job.judge(&plan)?;
    let transactions = if is_dry {
        0
    } else if plan.cost.fits() {
        job.whole().await?;
        1
    } else {
        if !matches!(shell.output.manner(), Manner::Quiet | Manner::Json) {
            shell.output.remark(&job.warning(&plan));
        }
        job.in_parts(&plan).await?
    };
    job.report(&plan, transactions, arguments)
}

impl Job {
    async fn check_places(&self) -> Result<(), Failure> {
        let Job { from, to, .. } = self;
        let no = |text: String| Err(Failure::Refused(text));
        if self.act == Act::Move && (from == "/" || is_inside("/zookeeper", from) || is_inside(from, "/zookeeper")) {
            return no(format!("{from} cannot be moved: the server keeps its own nodes there"));
        }
        if self.with_children && is_inside(to, from) {
            return no(format!("{to} is inside of {from}"));
        }
        let there =
            |path: String| async move { self.client.check_stat(&path).await.map_err(|error| refused(&error, &path)) };
        if there(from.clone()).await?.is_none() {
            return Err(refused(&Error::NoNode, from));
        }
        if there(to.clone()).await?.is_some() {
            return Err(refused(&Error::NodeExists, to));
        }
        let parent = to.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
        match there(parent.to_owned()).await? {
            Some(_) => Ok(()),
            None => Err(refused(&Error::NoNode, parent)),
        }
    }

    fn walk(&self, want: Want) -> Walk {
        let walk = Walk::new(self.client.clone(), &self.from, want).without_system();
        if self.with_children { walk } else { walk.down_to(0) }
    }

    fn target(&self, path: &str) -> String {
        target(&self.from, &self.to, path)
    }

    /// Whether the node is copied; those that are not are counted in the plan.
    fn takes(&self, node: &Node) -> Result<bool, Failure> {
        if node.is_closed {
            return Err(Failure::Refused(format!("Insufficient permission : {}", node.path)));
        }
        // A server shows the hash of a password to nobody but those who may administrate the node. Without it the new node would be nobody's.
        let is_veiled = |entry: &Acl| entry.scheme() == "digest" && entry.id().ends_with(":x");
        if node.acl.iter().any(is_veiled) {
            return Err(Failure::Refused(format!(
                "The access control of {} is shown in part only to a session that may not administrate it",
                node.path
            )));
        }
        Ok(session_of(&node.stat).is_none())
    }

    /// What the changes of one node take.
    fn cost(&self, node: &Node, target: &str) -> Cost {
        // Beside the new node: a check of the old one, or its end.
        Cost::of_create(target, node).and(Cost::of_change(&node.path))
    }

    /// Looks at all of it, and lists it where nothing is to be done.
    async fn plan(&self, is_listed: bool) -> Result<Plan, Failure> {
        let (mut plan, mut walk) = (Plan::default(), self.walk(Want::All));
        let as_json = self.output.manner() == Manner::Json;
        while let Some(step) = walk.next().await? {
            let Step::Enter(node) = step else { continue };
            if !self.takes(&node)? {
                plan.ephemeral += 1;
                plan.first_ephemeral.get_or_insert(node.path);
                continue;
            }
            if !self.with_children {
                plan.children_left = node.stat.num_children;
            }
            let target = self.target(&node.path);
            plan.nodes += 1;
            plan.bytes += node.data.len() as u64;
            plan.cost = plan.cost.and(self.cost(&node, &target));
            if is_listed && !as_json {
                self.output.line(&format!("{} -> {target}", node.path))?;
                self.output.ready().await;
            }
        }
        Ok(plan)
    }

    fn judge(&self, plan: &Plan) -> Result<(), Failure> {
        let Some(first) = &plan.first_ephemeral else { return Ok(()) };
        if plan.nodes == 0 || self.act == Act::Move {
            return Err(Failure::Refused(format!(
                "{first} is ephemeral: it belongs to a session, and no other can have it at another place ({} such nodes; nothing was done)",
                plan.ephemeral
            )));
        }
        Ok(())
    }

    fn warning(&self, plan: &Plan) -> String {
        let Plan { nodes, bytes, .. } = plan;
        let what = match self.act {
            Act::Copy => "if it is broken off, a part of the copy is there",
            Act::Move => "all is copied first, then deleted where it was; meanwhile it is seen at both places",
        };
        format!("{nodes} nodes with {bytes} bytes are more than one transaction: {what}")
    }

    /// All in one transaction: the copy is of nodes that are so when it is made.
    async fn whole(&self) -> Result<(), Failure> {
        let mut batch = Batch::new(&self.client);
        let (mut walk, mut ended) = (self.walk(Want::All), Vec::new());
        let mut cost = Cost::default();
        while let Some(step) = walk.next().await? {
            match step {
                Step::Enter(node) if self.takes(&node)? => {
                    let target = self.target(&node.path);
                    cost = cost.and(self.cost(&node, &target));
                    if !cost.fits() {
                        return Err(Failure::Refused(format!(
                            "{} grew meanwhile: nothing was done, try again",
                            self.from
                        )));
                    }
                    if self.act == Act::Copy {
                        batch.check(&node.path, node.stat.version)?;
                    }
                    batch.create(&target, &node)?;
                }
                Step::Enter(node) if self.act == Act::Move => {
                    return Err(Failure::Refused(format!("{} came meanwhile: nothing was done", node.path)));
                }
                Step::Enter(_) => {}
                Step::Leave { path, stat, .. } => ended.push((path, stat)),
            }
        }
        if self.act == Act::Move {
            // Children come before their parents, and a child that came meanwhile makes the server refuse all of it.
            for (path, stat) in ended {
                batch.delete(&path, stat.version)?;
            }
        }
        batch.commit().await.map_err(|failure| match failure {
            Failure::Refused(text) => Failure::Refused(format!("{text}: nothing was done")),
            other => other,
        })
    }

    /// Returns how many transactions it took.
    async fn in_parts(&self, plan: &Plan) -> Result<u64, Failure> {
        let mut unfinished = Unfinished { job: self, total: plan.nodes, copied: 0, deleted: 0, is_over: false };
        let mut batch = Batch::new(&self.client);
        let (mut walk, mut in_batch) = (self.walk(Want::All), 0);
        while let Some(step) = walk.next().await? {
            let Step::Enter(node) = step else { continue };
            if !self.takes(&node)? {
                continue;
            }
            let target = self.target(&node.path);
            if !batch.has_room(self.cost(&node, &target)) {
                batch.commit().await?;
                unfinished.copied += std::mem::take(&mut in_batch);
            }
            // What was changed since it was read is not copied as it was.
            batch.check(&node.path, node.stat.version)?;
            batch.create(&target, &node)?;
            in_batch += 1;
        }
        batch.commit().await?;
        unfinished.copied += in_batch;
        if self.act == Act::Move {
            self.delete(&mut batch, &mut unfinished).await?;
        }
        unfinished.is_over = true;
        Ok(batch.committed)
    }

    /// Deletes what was copied. A node that was changed since the copy began may be copied as it was before, so it stays.
    async fn delete(&self, batch: &mut Batch<'_>, unfinished: &mut Unfinished<'_>) -> Result<(), Failure> {
        let begin = self.client.check_stat(&self.to).await.map_err(|error| refused(&error, &self.to))?;
        let begin = begin.ok_or_else(|| refused(&Error::NoNode, &self.to))?.czxid;
        let mut walk = self.walk(Want::Stat);
        // Of each node that is open, whether it stays.
        let (mut stay, mut stays, mut in_batch) = (Vec::<bool>::new(), 0_u64, 0);
        while let Some(step) = walk.next().await? {
            match step {
                Step::Enter(node) => {
                    let is_changed = node.stat.czxid > begin || node.stat.mzxid > begin || !self.takes(&node)?;
                    if is_changed {
                        stays += 1;
                        self.output.complain(&format!("{} was changed while it was copied, and stays", node.path))?;
                    }
                    stay.push(is_changed);
                }
                Step::Leave { path, stat, .. } => {
                    if stay.pop() == Some(true) {
                        if let Some(parent) = stay.last_mut() {
                            *parent = true;
                        }
                        continue;
                    }
                    if !batch.has_room(Cost::of_change(&path)) {
                        batch.commit().await?;
                        unfinished.deleted += std::mem::take(&mut in_batch);
                    }
                    batch.delete(&path, stat.version)?;
                    in_batch += 1;
                }
            }
        }
        batch.commit().await?;
        unfinished.deleted += in_batch;
        if stays == 0 { Ok(()) } else { Err(Failure::Refused(format!("{stays} nodes were changed meanwhile"))) }
    }

    fn report(&self, plan: &Plan, transactions: u64, arguments: &Arguments) -> Result<(), Failure> {
        let Plan { nodes, bytes, ephemeral, .. } = plan;
        let is_dry = arguments.has("-dry-run");
        if arguments.has(JSON) {
            let report = json!({
                "from": self.from, "to": self.to, "nodes": nodes, "bytes": bytes, "left_out": ephemeral,
                "atomic": plan.cost.fits(), "transactions": transactions,
            });
            return Ok(self.output.json(&report)?);
        }
        if self.output.manner() == Manner::Quiet && !is_dry {
            return Ok(());
        }
        let mut left_out = if *ephemeral == 0 { String::new() } else { format!("; ephemeral, left out: {ephemeral}") };
        if plan.children_left > 0 {
            left_out.push_str(&format!("; without its {} children, which -r copies too", plan.children_left));
        }
        let how = match (is_dry, plan.cost.fits()) {
            (true, true) => "in one transaction, all or nothing; nothing was done".to_owned(),
            (true, false) => "in several transactions, each of them all or nothing; nothing was done".to_owned(),
            (false, true) => "in one transaction".to_owned(),
            (false, false) => format!("in {transactions} transactions"),
        };
        let done = match (is_dry, self.act) {
            (true, Act::Copy) => "Would copy",
            (true, Act::Move) => "Would move",
            (false, Act::Copy) => "Copied",
            (false, Act::Move) => "Moved",
        };
        Ok(self.output.complain(&format!("{done} {nodes} nodes with {bytes} bytes, {how}{left_out}"))?)
    }
}

/// Says how far it came where it is broken off, also by Ctrl-C.
struct Unfinished<'job> {
    job: &'job Job,
    total: u64,
    copied: u64,
    deleted: u64,
    is_over: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let (Unfinished { total, copied, deleted, .. }, Job { from, to, .. }) = (&*self, self.job);
        if self.is_over || *copied == 0 {
            return;
        }
        let deleted =
            if self.job.act == Act::Move { format!(", {deleted} are deleted at {from}") } else { String::new() };
        // A batch that was on its way may be done as well.
        let told = format!(
            "Broken off: {copied} of {total} nodes are at {to}{deleted}, and perhaps a transaction that was on its way"
        );
        let _ = self.job.output.complain(&told);
    }
}

/// Whether a path is another one, or below it.
fn is_inside(inner: &str, outer: &str) -> bool {
    outer == "/" || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// Where a node of the subtree `from` is in the subtree `to`.
fn target(from: &str, to: &str, path: &str) -> String {
    let below = if from == "/" { path } else { &path[from.len()..] };
    if below == "/" { to.to_owned() } else { format!("{to}{below}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_inside_by_its_whole_names() {
        for (inner, outer) in [("/a/b", "/a"), ("/a", "/a"), ("/a", "/"), ("/", "/")] {
            assert!(is_inside(inner, outer), "{inner} {outer}");
        }
        for (inner, outer) in [("/ab", "/a"), ("/a", "/a/b"), ("/b", "/a")] {
            assert!(!is_inside(inner, outer), "{inner} {outer}");
        }
    }

    #[test]
    fn nodes_keep_their_place_below_the_new_root() {
        assert_eq!(target("/a", "/x/y", "/a"), "/x/y");
        assert_eq!(target("/a", "/x/y", "/a/b/c"), "/x/y/b/c");
        assert_eq!(target("/", "/x", "/"), "/x");
        assert_eq!(target("/", "/x", "/b"), "/x/b");
    }
}
