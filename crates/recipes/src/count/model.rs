//! Many that change one number on a tree in memory, under everything that can happen to them. Checked: every change is made once.

use super::*;
use crate::model::Model;

struct One {
    session: i64,
    counting: Counting,
    amount: Option<i64>,
}

fn one(session: i64) -> One {
    One { session, counting: Counting::new("/a/n", &format!("c{session}"), CounterLayout::Int, 0), amount: None }
}

fn run(seed: u64) -> u64 {
    let mut model = Model::new(seed);
    let mut sessions = 3;
    let mut all: Vec<One> = (1..=3).map(one).collect();
    let (mut sum, mut in_doubt, mut last) = (0, Vec::new(), None);
    for step in 0..4_000 {
        if step == 3_000 {
            model.faults = 0;
        }
        let at = model.random.below(3) as usize;
        let faults = model.faults > 0;
        if faults && model.random.one_in(100) {
            sessions += 1;
            let old = std::mem::replace(&mut all[at], one(sessions));
            model.expire(old.session);
            in_doubt.extend(old.amount);
            continue;
        }
        if all[at].amount.is_none() || (faults && model.random.one_in(40)) {
            if step > 3_500 && all[at].amount.is_none() {
                continue;
            }
            let amount = model.random.below(9) as i64 - 2;
            in_doubt.extend(all[at].amount.replace(amount));
            all[at].counting.begin(Change::Add(amount));
        }
        let One { session, counting, amount } = &mut all[at];
        match counting.step(0) {
            Step::Ask(ask) => {
                let reply = model.ask(*session, &ask, &mut |_| {});
                counting.handle(reply);
            }
            Step::Done(Counted::Done(value)) => {
                sum += amount.take().unwrap();
                last = Some(value);
            }
            Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }
    assert!(all.iter().all(|one| one.amount.is_none()) && last.is_some());
    // What is in doubt was made, or was not.
    let mut counting = one(9_999).counting;
    counting.begin(Change::Add(0));
    let value = loop {
        match counting.step(0) {
            Step::Ask(ask) => {
                let reply = model.ask(9_999, &ask, &mut |_| {});
                counting.handle(reply);
            }
            Step::Done(Counted::Done(value)) => break value,
            Step::Done(outcome) => panic!("{outcome:?}"),
        }
    };
    let possible = in_doubt.iter().fold(vec![sum], |sums, amount| {
        let mut sums: Vec<i64> = sums.iter().flat_map(|sum| [*sum, sum + amount]).collect();
        sums.sort_unstable();
        sums.dedup();
        sums
    });
    assert!(possible.contains(&value), "{value} is not among {possible:?}");
    in_doubt.len() as u64
}

#[test]
fn every_change_is_made_once() {
    let in_doubt: u64 = (1..60).map(run).sum();
    assert!(in_doubt > 100, "{in_doubt}");
}

/// With nothing in doubt the sum is exact, whatever answers are lost.
#[test]
fn a_latch_opens_at_the_last_count_and_not_before() {
    for seed in 1..60 {
        let mut model = Model::new(seed);
        let mut all: Vec<Counting> =
            (1..=3).map(|id| Counting::new("/latch", &format!("c{id}"), CounterLayout::Long, 9)).collect();
        let mut made = 0;
        while made < 9 {
            for (at, counting) in all.iter_mut().enumerate() {
                counting.begin(Change::CountDown);
                let left = loop {
                    match counting.step(0) {
                        Step::Ask(ask) => {
                            let reply = model.ask(at as i64 + 1, &ask, &mut |_| {});
                            counting.handle(reply);
                        }
                        Step::Done(Counted::Done(left)) => break left,
                        Step::Done(outcome) => panic!("{outcome:?}"),
                    }
                };
                made += 1;
                assert_eq!(left, 9 - made);
                assert_eq!(model.paths().contains(&"/latch/open".to_owned()), made == 9);
            }
        }
    }
}
