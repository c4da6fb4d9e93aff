//! A connection does not outlive its client. The server gives up in time a client that has hung up, is silent, or takes nothing of its waiting
//! answers, and a client whose session is over.
//!
//! A client's silence is excused while the server does not read it, but not while the client does not take its answers.
//!
//! One value per connection: since when each of these conditions holds. Nothing is held against a server that stands still, because it sees
//! nothing. A request on its way in the server may take as long as the ensemble takes, so a connection is looked at only without requests.

use super::Verdict;

/// The facts of a connection at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The timeout of its session, or of a client without a session.
    pub timeout_us: i64,
    /// Requests wait for their answers.
    pub is_answering: bool,
    pub has_hung_up: bool,
    pub has_unsent: bool,
    /// More waits to be sent than lets another request be looked at.
    pub is_clogged: bool,
    /// Silence counts for nothing, because the server says that it does not read the client.
    pub is_excused: bool,
    /// The server knows the session no more.
    pub is_over: bool,
    /// Whether silence ends the connection here. Where sessions expire, the session ends instead, which takes as long as a commit.
    pub counts_silence: bool,
    /// How long after its time a connection may be seen.
    pub grace_us: i64,
    /// How long after its time a silent connection may be seen.
    pub silence_grace_us: i64,
}

/// What the checker remembers of one connection: since when, in virtual microseconds, each condition holds that must not last.
#[derive(Debug, Default)]
pub struct Lingering {
    hung_up_us: Option<i64>,
    unsent_us: Option<i64>,
    over_us: Option<i64>,
    silent_us: Option<i64>,
    excused_us: Option<i64>,
}

impl Lingering {
    /// Bytes arrived.
    pub fn heard(&mut self) {
        self.silent_us = None;
    }

    /// The client took something of what waits for it.
    pub fn took(&mut self) {
        self.unsent_us = None;
    }

    /// The server stands still.
    pub fn stands_still(&mut self) {
        *self = Lingering::default();
    }

    /// Compares the facts of this moment with those before. An error names the condition that lasted too long.
    pub fn look(&mut self, now_us: i64, facts: Facts) -> Verdict {
        let since = |since_us: &mut Option<i64>, is_so: bool| {
            *since_us = since_us.or(Some(now_us)).filter(|_| is_so);
            since_us.map_or(0, |since_us| now_us - since_us)
        };
        let bound_us = facts.timeout_us + facts.grace_us;
        let waits = !facts.is_answering;
        let problem = [
            (since(&mut self.hung_up_us, facts.has_hung_up && waits), bound_us, "has hung up"),
            (since(&mut self.unsent_us, facts.has_unsent), bound_us, "takes nothing"),
            (since(&mut self.over_us, facts.is_over && waits), bound_us, "has no session any more"),
            // A look later the server has noticed.
            (since(&mut self.excused_us, facts.is_excused && facts.is_clogged), 0, "is excused and takes nothing"),
            (
                since(&mut self.silent_us, facts.counts_silence && waits),
                2 * facts.timeout_us + facts.silence_grace_us,
                "is silent",
            ),
        ];
        match problem.into_iter().find(|(so_long_us, bound_us, _)| so_long_us > bound_us) {
            Some((so_long_us, _, what)) => Err(format!(
                "connections: one stands whose client {what} for {} ms, with a timeout of {} ms",
                so_long_us / 1000,
                facts.timeout_us / 1000
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Facts = Facts {
        timeout_us: 1000,
        is_answering: false,
        has_hung_up: false,
        has_unsent: false,
        is_clogged: false,
        is_excused: false,
        is_over: false,
        counts_silence: true,
        grace_us: 100,
        silence_grace_us: 200,
    };

    #[test]
    fn who_is_there_may_stay() {
        let mut lingering = Lingering::default();
        for now_us in (0..20_000).step_by(500) {
            lingering.heard();
            lingering.took();
            let (has_unsent, is_excused) = (now_us % 1000 == 0, now_us % 3000 == 0);
            assert_eq!(
                lingering.look(now_us, Facts { has_unsent, is_excused, is_clogged: !is_excused, ..CALM }),
                Ok(())
            );
        }
    }

    #[test]
    fn who_is_not_is_seen_after_its_time_and_not_before() {
        for (facts, bound_us, what) in [
            (Facts { has_hung_up: true, ..CALM }, 1100, "has hung up"),
            (Facts { has_unsent: true, ..CALM }, 1100, "takes nothing"),
            (Facts { is_over: true, ..CALM }, 1100, "has no session"),
            (Facts { is_clogged: true, is_excused: true, ..CALM }, 0, "is excused and takes nothing"),
            (CALM, 2200, "is silent"),
        ] {
            let mut lingering = Lingering::default();
            assert_eq!(lingering.look(5, facts), Ok(()));
            assert_eq!(lingering.look(5 + bound_us, facts), Ok(()));
            assert!(lingering.look(6 + bound_us, facts).unwrap_err().contains(what));
            lingering.stands_still();
            assert_eq!(lingering.look(6 + bound_us, facts), Ok(()));
        }
    }

    #[test]
    fn who_waits_for_an_answer_is_waited_for() {
        let facts = Facts { has_hung_up: true, is_over: true, is_answering: true, ..CALM };
        let mut lingering = Lingering::default();
        assert_eq!(lingering.look(0, facts), Ok(()));
        assert_eq!(lingering.look(1_000_000, facts), Ok(()));
    }
}
