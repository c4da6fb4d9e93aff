//! From a life that failed to the smallest one that still does: without the faults, the clients, the time it does not need.
//!
//! A life that goes another way after a change is another life; what counts is that it still fails in the same property.

use crate::faults::Plan;
use crate::world::live;

/// The property that failed: the words before the colon.
fn property(plan: &Plan) -> Option<String> {
    let violation = live(plan.clone(), false).violation?;
    let (_, problem) = violation.split_once(": ")?;
    Some(problem.split(':').next().unwrap_or(problem).to_owned())
}

/// Tries until nothing more can be left out, at most `tries` lives. The plan must fail.
pub fn shrink(plan: &Plan, mut tries: u32) -> Plan {
    let Some(wanted) = property(plan) else { return plan.clone() };
    let mut best = plan.clone();
    let fails = |candidate: &Plan, tries: &mut u32| {
        *tries = tries.saturating_sub(1);
        property(candidate).as_ref() == Some(&wanted)
    };
    loop {
        let mut smaller = None;
        for candidate in candidates(&best) {
            if tries == 0 {
                return best;
            }
            if fails(&candidate, &mut tries) {
                smaller = Some(candidate);
                break;
            }
        }
        match smaller {
            Some(plan) => best = plan,
            None => return best,
        }
    }
}

/// The next smaller plans, the boldest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        candidate
    };
    let half = plan.faults.len() / 2;
    if half > 0 {
        all.push(with(&|plan| plan.faults.truncate(half)));
        all.push(with(&|plan| drop(plan.faults.drain(..half))));
    }
    for index in 0..plan.faults.len() {
        all.push(with(&|plan| {
            plan.faults.remove(index);
        }));
    }
    for index in 0..plan.scenes.len() {
        all.push(with(&|plan| {
            plan.scenes.remove(index);
        }));
    }
    if plan.clients > 1 {
        all.push(with(&|plan| plan.clients -= 1));
    }
    if plan.observers > 0 {
        all.push(with(&|plan| plan.observers = 0));
    }
    let last_fault_us = plan.faults.last().map_or(0, |fault| fault.at_us);
    if plan.safety_us > last_fault_us + 1_000_000 {
        all.push(with(&|plan| plan.safety_us = (plan.safety_us + last_fault_us) / 2));
    }
    all
}
