//! `rookeeper config check` and `rookeeper doctor`: what is wrong, and what to do, before it hurts.
//!
//! Reading order:
//! - here: the two commands, and what they look at
//! - [`finding`]: what they print
//! - [`machine`]: names, disks and epochs of this machine
//! - [`members`]: what the members answer, on [`answers`]; [`drift`]: in what their configurations differ
//!
//! What always holds: nothing is changed anywhere, but for a small file in the log directory that `doctor` removes again; every wait has a limit.

mod answers;
mod drift;
mod finding;
mod machine;
mod members;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rookeeper_server::config::{Config, Environment, Level, Notice, Outline, Source};
use rookeeper_server::{ExitCode, Rehearsal, rehearse};

use self::answers::Conf;
use self::finding::{Finding, Grade, has_problem, summary};
use crate::print;

/// A certificate with fewer days left is told.
const FEW_DAYS: i64 = 30;

/// What `rookeeper config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what a start would say of a configuration, and in what it differs from that of the other members
    Check(CheckOptions),
}

/// The configuration to check.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// The configuration
    #[arg(value_name = "ZOO_CFG")]
    config: PathBuf,

    /// Ask no other member
    #[arg(long)]
    alone: bool,
}

/// The configuration of the server to look after.
#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// The configuration of this machine's server [default: that of a server without arguments]
    #[arg(value_name = "ZOO_CFG")]
    config: Option<PathBuf>,
}

/// Exit code 0: a server would start by it and nothing differs; that of the start, where it would fail; 1: it differs from that of the others, or the answer
/// cannot be written.
pub fn config(command: &ConfigCommand) -> u8 {
    let ConfigCommand::Check(options) = command;
    let (outline, mut findings, code) = match look(Source::File(options.config.clone())) {
        Ok(looked) => looked,
        Err(refusal) => return refused(&refusal),
    };
    if !options.alone && !outline.members.is_empty() {
        findings.extend(drift_alone(&outline));
    }
    end(&findings, code)
}

/// Exit code 0: nothing is broken, though there may be warnings; that of the start, where it would fail; 1: something is broken, or the answer cannot
/// be written.
pub fn doctor(options: &DoctorOptions) -> u8 {
    let source = options.config.clone().map_or(Source::Defaults, Source::File);
    let (outline, mut findings, code) = match look(source) {
        Ok(looked) => looked,
        Err(refusal) => return refused(&refusal),
    };
    findings.extend(machine::disk(&outline));
    findings.extend(machine::epochs(&outline));
    findings.extend(machine::judge_names(&machine::resolve(&outline)));
    if !outline.members.is_empty() {
        findings.extend(members::judge(&members::ask(&outline), &own_conf(&outline)));
    }
    end(&findings, code)
}

/// Why no server starts by a configuration.
struct Refusal {
    message: String,
    exit_code: ExitCode,
}

fn refused(refusal: &Refusal) -> u8 {
    let finding = Finding::new(Grade::Problem, "configuration", refusal.message.clone());
    let _ = print::result(&finding);
    refusal.exit_code.number()
}

fn end(findings: &[Finding], code: Option<ExitCode>) -> u8 {
    let written = findings.iter().all(|finding| print::result(finding)) && print::result(&summary(findings));
    match code {
        Some(code) => code.number(),
        None if written && !has_problem(findings) => ExitCode::Finished.number(),
        None => ExitCode::Failed.number(),
    }
}

/// Reads a configuration, and does what a start does before it reads the database. The code is that of the start, where it would fail.
fn look(source: Source) -> Result<(Outline, Vec<Finding>, Option<ExitCode>), Refusal> {
    let loaded = Config::load(source, &Environment::of_process());
    let (config, notices) =
        loaded.map_err(|error| Refusal { exit_code: error.exit_code(), message: error.to_string() })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refusal {
        exit_code: ExitCode::Failed,
        message: format!("can't start the network worker: {error}"),
    })?;
    let rehearsal = runtime.block_on(rehearse(&config));
    let code = rehearsal.failures.first().map(|failure| failure.exit_code);
    let mut findings = said_at_start(&notices, &rehearsal);
    let exposure = rehearsal.exposure.iter();
    findings.extend(exposure.map(|line| Finding::new(Grade::Warning, "exposure", line.clone())));
    if findings.is_empty() {
        findings.push(Finding::new(Grade::Good, "configuration", "a server would start by it"));
    }
    Ok((config.outline(), findings, code))
}

fn said_at_start(notices: &[Notice], rehearsal: &Rehearsal) -> Vec<Finding> {
    let mut findings = Vec::new();
    for notice in notices {
        let grade = match notice.level {
            Level::Info => Grade::Note,
            Level::Warn => Grade::Warning,
        };
        findings.push(Finding::new(grade, "configuration", notice.text.clone()));
    }
    for failure in &rehearsal.failures {
        findings.push(Finding::new(Grade::Problem, "configuration", failure.message.clone()));
    }
    for taken in &rehearsal.taken {
        findings.push(
            Finding::new(Grade::Note, "ports", taken.clone())
                .remedy("Nothing, where the server that has it is the one of this configuration."),
        );
    }
    for (whose, days) in &rehearsal.certificates {
        findings.push(certificate(whose, *days));
    }
    findings
}

fn certificate(whose: &str, days: i64) -> Finding {
    let remedy = "Replace the file in the key store's place; a running server takes it up by itself.";
    if days < 0 {
        let seen = format!("the certificate that {whose} expired {} days ago", -days);
        return Finding::new(Grade::Problem, "certificates", seen).remedy(remedy);
    }
    let seen = format!("the certificate that {whose} is good for {days} more days");
    match days < FEW_DAYS {
        true => Finding::new(Grade::Warning, "certificates", seen).remedy(remedy),
        false => Finding::new(Grade::Good, "certificates", seen),
    }
}

/// What differs, and nothing else of the members' state.
fn drift_alone(outline: &Outline) -> Vec<Finding> {
    let found = members::judge(&members::ask(outline), &own_conf(outline));
    found.into_iter().filter(|finding| finding.subject == "drift" || finding.grade == Grade::Warning).collect()
}

fn own_conf(outline: &Outline) -> Conf {
    Conf::parse(&outline.conf).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_judged_by_the_days_that_are_left() {
        let grade = |days| certificate("clients see", days).grade;
        assert_eq!(
            [31, 30, 29, 0, -1].map(grade),
            [Grade::Good, Grade::Good, Grade::Warning, Grade::Warning, Grade::Problem]
        );
        assert_eq!(certificate("clients see", -3).seen, "the certificate that clients see expired 3 days ago");
    }
}
