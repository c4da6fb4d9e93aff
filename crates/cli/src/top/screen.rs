//! What is shown, made from the facts of all members: tables of text, without a terminal.
//!
//! What always holds here: two looks at an ensemble make rates; of one look alone only what it says is shown.

use std::collections::HashMap;

use super::facts::{Client, Member};

/// Lines of a table below the members.
const MAX_ROWS: usize = 20;

/// How urgent a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Alarm,
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
}

/// A table with a head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    pub title: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<Cell>>,
    /// Said where there are no rows.
    pub otherwise: &'static str,
}

/// What stands below the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Page {
    #[default]
    Clients,
    Paths,
    Stages,
    Slow,
}

/// All pages in their order.
pub const PAGES: [(Page, &str); 4] =
    [(Page::Clients, "clients"), (Page::Paths, "paths"), (Page::Stages, "stages"), (Page::Slow, "slow operations")];

/// A look at all members.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// When, in seconds of any clock that goes on.
    pub at_s: f64,
    /// By the addresses at which they were asked, in the order in which these were given.
    pub members: Vec<(String, Member)>,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        text.to_owned().into()
    }
}

/// One sentence on the ensemble, and whether it is well.
pub fn verdict(look: &Look) -> Cell {
    let members = || look.members.iter().map(|(_, member)| member);
    let silent = members().filter(|member| member.mode.is_none()).count();
    let modes = |wanted: &str| members().filter(|member| member.mode.as_deref() == Some(wanted)).count();
    let (leaders, alone) = (modes("leader"), modes("standalone"));
    let all = look.members.len();
    let (text, tone) = match (leaders, alone) {
        (0, 0) if silent == all => ("nobody serves".to_owned(), Tone::Alarm),
        (0, 0) if all == 1 => {
            ("one member of an ensemble; name the others too, to see who leads".to_owned(), Tone::Plain)
        }
        (0, 0) => ("nobody leads".to_owned(), Tone::Alarm),
        (2.., _) => (format!("{leaders} members say that they lead"), Tone::Alarm),
        _ if silent > 0 => (format!("{silent} of {all} members do not serve"), Tone::Alarm),
        _ => (format!("{all} of {all} members serve"), Tone::Good),
    };
    Cell { text, tone }
}

/// The members, one on each line.
pub fn members(look: &Look, before: Option<&Look>) -> Table {
    let head = vec![
        "member",
        "role",
        "zxid",
        "clients",
        "waiting",
        "requests/s",
        "avg ms",
        "max ms",
        "nodes",
        "watches",
        "learners behind ms",
        "disk",
    ];
    let rows = look.members.iter().map(|(address, member)| {
        let or_dash = |value: Option<String>| Cell::from(value.unwrap_or_else(|| "-".to_owned()));
        let Some(mode) = &member.mode else {
            let trouble = member.trouble.as_deref().unwrap_or("no answer");
            return vec![address.as_str().into(), Cell { text: trouble.to_owned(), tone: Tone::Alarm }];
        };
        let waiting = member.outstanding.unwrap_or(0);
        let lag = largest_lag(member);
        vec![
            address.as_str().into(),
            Cell { text: mode.clone(), tone: if mode == "leader" { Tone::Good } else { Tone::Plain } },
            member.zxid.as_str().into(),
            or_dash(member.connections.map(|count| count.to_string())),
            Cell { text: waiting.to_string(), tone: if waiting > 1000 { Tone::Alarm } else { Tone::Plain } },
            or_dash(rate(look, before, address).map(|rate| format!("{rate:.0}"))),
            or_dash(member.latency_ms.map(|(mean, _)| format!("{mean:.1}"))),
            or_dash(member.latency_ms.map(|(_, max)| format!("{max:.0}"))),
            or_dash(member.nodes.map(|count| count.to_string())),
            or_dash(member.metric("watch_count").map(|count| format!("{count:.0}"))),
            or_dash(lag.map(|ms| format!("{ms:.0}"))),
            disk(member),
        ]
    });
    Table { title: "members".to_owned(), head, rows: rows.collect(), otherwise: "" }
}

/// Of a leader's learners, which it names by their numbers, while members are known by addresses here.
fn largest_lag(member: &Member) -> Option<f64> {
    let lags = member.metrics.iter().filter(|(name, _)| name.starts_with("learner_behind_ms_"));
    lags.filter_map(|(_, value)| value.parse().ok()).reduce(f64::max)
}

fn disk(member: &Member) -> Cell {
    let Some(free) = member.metric("log_disk_free_bytes") else { return "-".into() };
    let days = member.metric("log_disk_days_left").filter(|days| *days < 3650.0);
    let text = match days {
        Some(days) => format!("{}, {days:.0} days", bytes(free)),
        None => bytes(free),
    };
    let is_short = free < 1e9 || days.is_some_and(|days| days < 7.0);
    Cell { text, tone: if is_short { Tone::Alarm } else { Tone::Plain } }
}

/// Requests in a second.
fn rate(look: &Look, before: Option<&Look>, address: &str) -> Option<f64> {
    let before = before?;
    let seconds = look.at_s - before.at_s;
    let received = |look: &Look| look.members.iter().find(|(at, _)| at == address)?.1.received;
    // The counts begin anew with a restart or `srst`.
    let more = received(look)?.checked_sub(received(before)?)?;
    (seconds > 0.0).then(|| more as f64 / seconds)
}

/// The tables of a page.
pub fn page(page: Page, look: &Look, before: Option<&Look>) -> Vec<Table> {
    match page {
        Page::Clients => vec![clients(look, before)],
        Page::Paths => paths(look),
        Page::Stages => vec![stages(look)],
        Page::Slow => vec![slow(look)],
    }
}

/// The clients that send the most: since the last look, or since they connected.
fn clients(look: &Look, before: Option<&Look>) -> Table {
    let earlier: HashMap<(&str, &str), u64> = before
        .into_iter()
        .flat_map(|look| &look.members)
        .flat_map(|(address, member)| member.clients.iter().map(move |client| (address.as_str(), client)))
        .map(|(address, client)| ((address, client.address.as_str()), client.received))
        .collect();
    let mut all: Vec<(&str, &Client, u64)> = look
        .members
        .iter()
        .flat_map(|(address, member)| member.clients.iter().map(move |client| (address.as_str(), client)))
        .map(|(address, client)| {
            let earlier = earlier.get(&(address, client.address.as_str())).copied().unwrap_or(0);
            (address, client, client.received.checked_sub(earlier).unwrap_or(client.received))
        })
        .collect();
    all.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.1.address.cmp(&b.1.address)));
    let rows = all.into_iter().take(MAX_ROWS).map(|(address, client, requests)| {
        vec![
            client.address.as_str().into(),
            address.into(),
            client.session.as_str().into(),
            requests.to_string().into(),
            client.queued.to_string().into(),
            client.mean_latency_ms.to_string().into(),
            client.max_latency_ms.to_string().into(),
        ]
    });
    Table {
        title: if before.is_some() { "clients, by requests since the last look" } else { "clients, by requests" }
            .to_owned(),
        head: vec!["client", "member", "session", "requests", "waiting", "avg ms", "max ms"],
        rows: rows.collect(),
        otherwise: "no client is told: 4lw.commands.whitelist has to name cons",
    }
}

/// Who asked for the most in the last minute, of all members together.
fn paths(look: &Look) -> Vec<Table> {
    const SHOWN: [(&str, &str, &str); 6] = [
        ("prefixes", "requests", "prefixes by requests"),
        ("paths", "requests", "paths by requests"),
        ("paths", "bytes", "paths by bytes"),
        ("paths", "watches", "paths by watches"),
        ("clients", "time_us", "clients by the time of their requests, in us"),
        ("identities", "requests", "identities by requests"),
    ];
    let is_told = look.members.iter().any(|(_, member)| !member.top.is_empty());
    let otherwise = if is_told { "none" } else { "not told: Rookeeper's admin command top does, at its admin port" };
    let table = |(about, measure, title): (&str, &str, &str)| {
        let mut sums: HashMap<&str, u64> = HashMap::new();
        let tables = look.members.iter().flat_map(|(_, member)| &member.top);
        for (name, count) in
            tables.filter(|names| names.about == about && names.measure == measure).flat_map(|names| &names.largest)
        {
            *sums.entry(name.as_str()).or_default() += count;
        }
        let mut rows: Vec<(&str, u64)> = sums.into_iter().collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let rows = rows.into_iter().take(5).map(|(name, count)| vec![count.to_string().into(), name.into()]);
        Table { title: title.to_owned(), head: vec!["count", "name"], rows: rows.collect(), otherwise }
    };
    SHOWN.into_iter().map(table).collect()
}

/// Where requests spend their time.
fn stages(look: &Look) -> Table {
    const STAGES: [&str; 10] = [
        "write_queue",
        "write_prepare",
        "write_log_write",
        "write_sync",
        "write_quorum",
        "write_apply",
        "write_reply",
        "read_queue",
        "read_answer",
        "read_reply",
    ];
    let rows = look.members.iter().flat_map(|(address, member)| {
        STAGES.iter().filter_map(move |stage| {
            let figure = |name: String| member.metric(&name);
            let count = figure(format!("cnt_{stage}")).filter(|count| *count > 0.0)?;
            let us = |quantile: &str| {
                figure(format!("{quantile}_{stage}_us")).map_or("-".to_owned(), |us| format!("{us:.0}"))
            };
            let stage = stage.replacen('_', " ", 1).replace('_', " ");
            Some(vec![
                address.as_str().into(),
                stage.into(),
                format!("{count:.0}").into(),
                us("p50").into(),
                us("p99").into(),
                us("p999").into(),
            ])
        })
    });
    Table {
        title: "stages of requests since the start, in us".to_owned(),
        head: vec!["member", "stage", "count", "p50", "p99", "p999"],
        rows: rows.collect(),
        otherwise: "not told: Rookeeper's mntr does, where 4lw.commands.whitelist names it",
    }
}

fn slow(look: &Look) -> Table {
    let mut all: Vec<(&str, &super::facts::Slow)> = look
        .members
        .iter()
        .flat_map(|(address, member)| member.slow.iter().map(move |slow| (address.as_str(), slow)))
        .collect();
    all.sort_by(|a, b| b.1.time.cmp(&a.1.time));
    let rows = all.into_iter().take(MAX_ROWS).map(|(address, slow)| {
        let stages: Vec<String> = slow.stages.iter().map(|(stage, ms)| format!("{stage} {ms:.1}")).collect();
        vec![
            slow.time.as_str().into(),
            address.into(),
            slow.operation.as_str().into(),
            slow.path.as_str().into(),
            slow.client.as_str().into(),
            format!("{:.0}", slow.total_ms).into(),
            stages.join(", ").into(),
        ]
    });
    Table {
        title: "operations that took long".to_owned(),
        head: vec!["time", "member", "operation", "path", "client", "ms", "stages, in ms"],
        rows: rows.collect(),
        otherwise: "none is told: Rookeeper's admin command slow_operations does, at its admin port",
    }
}

/// A size that is easy to read.
fn bytes(count: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
