//! `rookeeper snapshot compare`: where two snapshots differ in nodes and bytes, depth by depth.
//!
//! Counterpart in the original: `SnapshotComparer`. Like it, this compares sizes and not data.

use std::collections::HashMap;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use super::arguments::{Given, Known, parse};
use super::snapshot_tree::{SnapshotTree, Step};
use super::{FAILED, MISUSED};
use crate::{java, print};

const KNOWN: [Known; 6] = [
    Known { short: 'l', long: "left", has_value: true },
    Known { short: 'r', long: "right", has_value: true },
    Known { short: 'b', long: "bytes", has_value: true },
    Known { short: 'n', long: "nodes", has_value: true },
    Known { short: 'd', long: "debug", has_value: false },
    Known { short: 'i', long: "interactive", has_value: false },
];

const USAGE: &str = "usage: java -cp <classPath> org.apache.zookeeper.server.SnapshotComparer
 -b,--bytes <BYTETHRESHOLD>   (Required) The node data delta size threshold, in bytes, for printing the node.
 -d,--debug                   Use debug output.
 -i,--interactive             Enter interactive mode.
 -l,--left <LEFT>             (Required) The left snapshot file.
 -n,--nodes <NODETHRESHOLD>   (Required) The descendant node delta size threshold, in nodes, for printing the node.
 -r,--right <RIGHT>           (Required) The right snapshot file.";

/// Runs the tool. Exit code 0: compared; 1: a snapshot is damaged or missing; 2: a wrong invocation.
pub fn main(arguments: &[String]) -> u8 {
    let given = match checked(arguments) {
        Ok(given) => given,
        Err(mistake) => {
            print::complaint(&mistake);
            let _ = print::result(&USAGE);
            return MISUSED;
        }
    };
    match run(&given) {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            print::complaint(&error);
            FAILED
        }
    }
}

fn checked(arguments: &[String]) -> Result<Given, String> {
    let given = parse(&KNOWN, arguments)?;
    let missing: Vec<String> =
        ['l', 'r', 'b', 'n'].iter().filter(|short| !given.has(**short)).map(char::to_string).collect();
    match missing.len() {
        0 => Ok(given),
        1 => Err(format!("Missing required option: {}", missing[0])),
        _ => Err(format!("Missing required options: {}", missing.join(", "))),
    }
}

/// From which difference on a node is told, and how much is said of the others.
struct Choice {
    bytes: i64,
    nodes: i64,
    debug: bool,
    interactive: bool,
}

fn run(given: &Given) -> io::Result<()> {
    let number = |short| {
        let text = given.value(short).unwrap_or_default();
        text.parse::<i32>().map(i64::from).map_err(|_| io::Error::other(format!("For input string: \"{text}\"")))
    };
    let choice =
        Choice { bytes: number('b')?, nodes: number('n')?, debug: given.has('d'), interactive: given.has('i') };
    let mut output = BufWriter::new(io::stdout().lock());
    writeln!(output, "Successfully parsed options!")?;
    let left = Sizes::read(Path::new(given.value('l').unwrap_or_default()), &mut output)?;
    let right = Sizes::read(Path::new(given.value('r').unwrap_or_default()), &mut output)?;
    left.describe(&mut output)?;
    right.describe(&mut output)?;
    if choice.interactive {
        answer(&left, &right, &choice, &mut io::stdin().lock(), &mut output)?;
    } else {
        choice.describe(&mut output)?;
        for depth in 0..left.depths.len().max(right.depths.len()) {
            choice.compare_depth(&left, &right, depth, &mut output)?;
        }
    }
    writeln!(output, "All layers compared.")?;
    output.flush()
}

/// A node with what is below.
#[derive(Debug)]
struct Sized {
    /// The path; empty for the root.
    label: String,
    /// Of the data of the node and everything below, in bytes.
    size: i64,
    /// How many nodes are below.
    count: i64,
    children: Vec<usize>,
}

/// A snapshot for comparing.
#[derive(Debug)]
struct Sizes {
    nodes: Vec<Sized>,
    /// Of each depth, by the path.
    depths: Vec<Vec<usize>>,
    by_label: HashMap<String, usize>,
}

impl Sizes {
    fn read(path: &Path, output: &mut dyn Write) -> io::Result<Sizes> {
        let begun = Instant::now();
        let (tree, unsealed) = SnapshotTree::read(path).map_err(io::Error::other)?;
        if let Some(error) = unsealed {
            return Err(io::Error::other(error));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(output, "Deserialized snapshot in {name} in {:.6} seconds", begun.elapsed().as_secs_f64())?;
        let begun = Instant::now();
        let sizes = Sizes::of(&tree);
        writeln!(output, "Processed data tree in {:.6} seconds", begun.elapsed().as_secs_f64())?;
        Ok(sizes)
    }

    fn of(tree: &SnapshotTree) -> Sizes {
        let sized = |(node, children): (usize, &Vec<usize>)| Sized {
            label: tree.nodes[node].path.clone(),
            size: tree.data_length(node) as i64,
            count: children.len() as i64,
            children: children.clone(),
        };
        let mut nodes: Vec<Sized> = tree.children.iter().enumerate().map(sized).collect();
        let mut depths: Vec<Vec<usize>> = Vec::new();
        for step in tree.walk(0) {
            match step {
                Step::Enter { node, depth } => {
                    if depths.len() == depth {
                        depths.push(Vec::new());
                    }
                    depths[depth].push(node);
                }
                Step::Leave { node, .. } => {
                    let below = nodes[node].children.iter().map(|child| (nodes[*child].size, nodes[*child].count));
                    let (size, count) = below.fold((0, 0), |sum, child| (sum.0 + child.0, sum.1 + child.1));
                    nodes[node].size += size;
                    nodes[node].count += count;
                }
            }
        }
        for list in &mut depths {
            list.sort_by(|one, other| java::compare(&nodes[*one].label, &nodes[*other].label));
        }
        let by_label = nodes.iter().enumerate().map(|(place, node)| (node.label.clone(), place)).collect();
        Sizes { nodes, depths, by_label }
    }

    fn describe(&self, output: &mut dyn Write) -> io::Result<()> {
        writeln!(
            output,
            "Node count: {}\nTotal size: {}\nMax depth: {}",
            self.nodes.len(),
            self.nodes[0].size,
            self.depths.len()
        )?;
        for (depth, nodes) in self.depths.iter().enumerate() {
            writeln!(output, "Count of nodes at depth {depth}: {}", nodes.len())?;
        }
        writeln!(output)
    }

    fn at_depth(&self, depth: usize) -> &[usize] {
        self.depths.get(depth).map_or(&[], Vec::as_slice)
    }
}

impl Choice {
    fn describe(&self, output: &mut dyn Write) -> io::Result<()> {
        let Choice { bytes, nodes, .. } = self;
        writeln!(
            output,
            "Printing analysis for nodes difference larger than {bytes} bytes or node count difference larger than {nodes}."
        )
    }

    fn compare_depth(&self, left: &Sizes, right: &Sizes, depth: usize, output: &mut dyn Write) -> io::Result<()> {
        writeln!(output, "Analysis for depth {depth}")?;
        self.compare(left, left.at_depth(depth), right, right.at_depth(depth), output)
    }

    fn compare_below(&self, left: &Sizes, right: &Sizes, path: &str, output: &mut dyn Write) -> io::Result<()> {
        writeln!(output, "Analysis for node {path}")?;
        let below = |sizes: &Sizes| {
            let mut children = sizes.nodes[*sizes.by_label.get(path)?].children.clone();
            children.sort_by(|one, other| java::compare(&sizes.nodes[*one].label, &sizes.nodes[*other].label));
            Some(children)
        };
        match (below(left), below(right)) {
            (None, None) => writeln!(output, "Path {path} is neither found in left tree nor right tree."),
            (in_left, in_right) => {
                self.compare(left, &in_left.unwrap_or_default(), right, &in_right.unwrap_or_default(), output)
            }
        }
    }

    /// Compares two lists that are sorted by path.
    fn compare(
        &self,
        left: &Sizes,
        mut in_left: &[usize],
        right: &Sizes,
        mut in_right: &[usize],
        output: &mut dyn Write,
    ) -> io::Result<()> {
        loop {
            let (one, other) =
                (in_left.first().map(|place| &left.nodes[*place]), in_right.first().map(|place| &right.nodes[*place]));
            let order = match (one, other) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(one), Some(other)) => {
                    let order = java::compare(&one.label, &other.label);
                    if self.debug {
                        let said = ["left is less", "same", "right is less"][(order as i8 + 1) as usize];
                        writeln!(output, "Comparing {} to {}\n{said}", one.label, other.label)?;
                    }
                    order
                }
            };
            match (one.filter(|_| order.is_le()), other.filter(|_| order.is_ge())) {
                (Some(one), Some(other)) => self.both(one, other, output)?,
                (Some(one), None) => self.one_only(one, "left", output)?,
                (None, Some(other)) => self.one_only(other, "right", output)?,
                (None, None) => {}
            }
            in_left = &in_left[usize::from(order.is_le())..];
            in_right = &in_right[usize::from(order.is_ge())..];
        }
    }

    fn one_only(&self, node: &Sized, side: &str, output: &mut dyn Write) -> io::Result<()> {
        let Sized { label, size, count, .. } = node;
        if *size > self.bytes || *count > self.nodes {
            writeln!(
                output,
                "Node {label} found only in {side} tree. Descendant size: {size}. Descendant count: {count}"
            )
        } else if self.debug || self.interactive {
            writeln!(output, "Filtered {side} node {label} of size {size}")
        } else {
            Ok(())
        }
    }

    fn both(&self, left: &Sized, right: &Sized, output: &mut dyn Write) -> io::Result<()> {
        let (bytes, nodes) = (right.size - left.size, right.count - left.count);
        if bytes.abs() > self.bytes || nodes.abs() > self.nodes {
            writeln!(output, "Node {} found in both trees. Delta: {bytes} bytes, {nodes} descendants", left.label)
        } else if self.debug || self.interactive {
            writeln!(output, "Filtered node {} of left size {}, right size {}", left.label, left.size, right.size)
        } else {
            Ok(())
        }
    }
}

const MENU: &str = "- Press enter to move to print current depth layer;
- Type a number to jump to and print all nodes at a given depth;
- Enter an ABSOLUTE path to print the immediate subtree of a node. Path must start with '/'.";

/// Answers lines until every depth was shown.
fn answer(
    left: &Sizes,
    right: &Sizes,
    choice: &Choice,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> io::Result<()> {
    let end = left.depths.len().max(right.depths.len());
    let mut depth = 0;
    while depth < end {
        writeln!(output, "Current depth is {depth}\n{MENU}")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(io::Error::other("No line found"));
        }
        let line = line.trim_end_matches(['\n', '\r']);
        choice.describe(output)?;
        if line.is_empty() {
            choice.compare_depth(left, right, depth, output)?;
            depth += 1;
        } else if line.starts_with('/') {
            choice.compare_below(left, right, line, output)?;
        } else {
            let last = end - 1;
            match line.parse::<i32>().map(usize::try_from) {
                Ok(Ok(asked)) if asked < end => {
                    depth = asked;
                    choice.compare_depth(left, right, depth, output)?;
                }
                Ok(_) => {
                    writeln!(output, "Depth must be in range [0, {last}]")?;
                    continue;
                }
                Err(_) => writeln!(
                    output,
                    "Input {line} is not valid. Depth must be in range [0, {last}]. Path must be an absolute path which starts with '/'."
                )?,
            }
        }
        writeln!(output)?;
    }
    Ok(())
}
