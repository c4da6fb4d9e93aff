//! `rookeeper snapshot summary`: how many nodes and bytes are below each node of a snapshot.
//!
//! Counterpart in the original: `SnapshotRecursiveSummary`.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::snapshot::with_tree;
use super::snapshot_tree::{SnapshotTree, Step};
use super::{FAILED, MISUSED};
use crate::print;

const USAGE: &str = "USAGE:


SnapshotRecursiveSummary  <snapshot_file>  <starting_node>  <max_depth>


snapshot_file:    path to the zookeeper snapshot
starting_node:    the path in the zookeeper tree where the traversal should begin
max_depth:        defines the depth where the tool still writes to the output. 0 means there is no depth limit, every non-leaf node's \
stats will be displayed, 1 means it will only contain the starting node's and it's children's stats, 2 ads another level and so on. This \
ONLY affects the level of details displayed, NOT the calculation.";

/// Runs the tool. Exit code 0: printed; 1: damaged, or no such node; 2: a wrong invocation.
pub fn main(arguments: &[String]) -> u8 {
    let [file, start, max_depth] = arguments else {
        print::complaint(&USAGE);
        return MISUSED;
    };
    let Ok(max_depth) = max_depth.parse::<i32>() else {
        print::complaint(&USAGE);
        return MISUSED;
    };
    let mut is_missing = false;
    let code = with_tree(Path::new(file), |tree| match tree.find(start) {
        Some(node) => summarize(&tree, node, start, max_depth),
        None => {
            is_missing = true;
            print::complaint(&format_args!("there is no node {start} in {file}"));
            Ok(())
        }
    });
    if is_missing { FAILED } else { code }
}

fn summarize(tree: &SnapshotTree, start: usize, name: &str, max_depth: i32) -> io::Result<()> {
    // Of each node with everything below: how many they are, and the bytes of their data.
    let mut sums = vec![(0_u64, 0_u64); tree.nodes.len()];
    for step in tree.walk(start) {
        let Step::Leave { node, .. } = step else { continue };
        let mut sum = (1, tree.data_length(node) as u64);
        for child in &tree.children[node] {
            sum = (sum.0 + sums[*child].0, sum.1 + sums[*child].1);
        }
        sums[node] = sum;
    }
    let mut output = BufWriter::new(io::stdout().lock());
    for step in tree.walk(start) {
        let Step::Enter { node, depth } = step else { continue };
        let is_shown = max_depth == 0 || i32::try_from(depth).is_ok_and(|depth| depth <= max_depth);
        if tree.children[node].is_empty() || !is_shown {
            continue;
        }
        let (tab, path) = ("--".repeat(depth), if depth == 0 { name } else { &tree.nodes[node].path });
        writeln!(output, "{tab} {path}\n{tab}   children: {}\n{tab}   data: {}", sums[node].0 - 1, sums[node].1)?;
    }
    writeln!(output)?;
    output.flush()
}
