//! How this server is set up, and where it runs.
//!
//! What always holds here: no secret is told; the configuration is shown without them.

use std::sync::atomic::Ordering::Relaxed;

use super::commands::{Answer, Failed, Question, argument};
use super::json::Object;
use crate::observe::environment::Environment;

pub(super) fn configuration(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let config = &question.context.config;
    let directories = &config.directories;
    answer.scalar("client_port", question.context.client_port.load(Relaxed));
    answer.scalar("data_dir", directories.snapshot_dir().to_string_lossy().as_ref());
    answer.scalar("data_log_dir", directories.log_dir().to_string_lossy().as_ref());
    answer.scalar("tick_time", config.sessions.tick_time_ms);
    answer.scalar("max_client_cnxns", config.connections.max_per_address_as_written);
    answer.scalar("min_session_timeout", config.sessions.min_timeout_ms);
    answer.scalar("max_session_timeout", config.sessions.max_timeout_ms);
    answer.scalar("server_id", config.ensemble.as_ref().map_or(0, |ensemble| ensemble.settings.me.0));
    answer.scalar("client_port_listen_backlog", config.client.backlog_as_written);
    Ok(())
}

pub(super) fn initial_configuration(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    answer.scalar("initial_configuration", question.context.config.shown.file.as_deref());
    Ok(())
}

/// Where this server runs, as `envi` has it.
pub(super) fn environment(answer: &mut Object<'_>, _: &Question<'_>) -> Answer {
    for (name, value) in Environment::gather().by_name() {
        answer.scalar(name, value.as_str());
    }
    Ok(())
}

/// What the original keeps as properties of Java: the settings, and where the server runs.
pub(super) fn system_properties(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let environment = Environment::gather().by_name();
    let of_system = environment.into_iter().filter(|(name, _)| name.starts_with("os.") || name.starts_with("user."));
    for (name, value) in of_system.filter(|(name, _)| !name.starts_with("os.memory.")) {
        answer.scalar(name, value.as_str());
    }
    for (name, value) in &question.context.config.shown.properties {
        answer.scalar(name, value.as_str());
    }
    Ok(())
}

pub(super) fn get_trace_mask(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    answer.scalar("tracemask", question.context.trace_mask.load(Relaxed));
    Ok(())
}

pub(super) fn set_trace_mask(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let wanted = "setTraceMask requires long traceMask argument";
    let Some(given) = argument(question.query, "traceMask") else { return Err(Failed::Because(wanted.to_owned())) };
    let Ok(mask) = given.parse::<i64>() else {
        return Err(Failed::Because(format!("{wanted}, got {given}")));
    };
    question.context.trace_mask.store(mask, Relaxed);
    answer.scalar("tracemask", mask);
    Ok(())
}
