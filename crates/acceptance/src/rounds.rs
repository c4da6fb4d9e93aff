//! What an operator does to an ensemble one member after the other, while clients write.

use anyhow::{Context, Result};

use crate::ensemble::Ensemble;
use crate::load::Load;
use crate::random::Random;
use crate::verdict::judge;

/// Each member is killed and comes back, the last one first; then nothing is lost and nothing contradicts. `name` is that of the test.
pub fn each_is_killed(ensemble: &mut Ensemble, name: &str) -> Result<()> {
    let mut random = Random::from_environment(name);
    let load = Load::start(&ensemble.addresses(), &mut random).context("clients are served")?;
    for id in ensemble.ids().into_iter().rev() {
        ensemble.kill(id)?;
        load.wait_progress().context("the others go on")?;
        ensemble.start(id)?;
        ensemble.wait_formed()?;
        load.wait_progress().context("all go on")?;
    }
    judge(ensemble, load)
}

/// Each member is killed, gets these lines into its configuration, and comes back.
pub fn each_is_configured(ensemble: &mut Ensemble, load: &Load, lines: &[(&str, &str)]) -> Result<()> {
    for id in ensemble.ids() {
        ensemble.kill(id)?;
        for (key, value) in lines {
            ensemble.set_config(id, key, value)?;
        }
        load.wait_progress().context("the others go on")?;
        ensemble.start(id)?;
        ensemble.wait_formed()?;
        load.wait_progress().context("all go on")?;
    }
    Ok(())
}
